"""Extrapolation to no third jet: nested covariances and toys of known resolution whose imbalance grows with alpha."""

from __future__ import annotations

import time

import numpy as np
import pytest

from corrections.alpha_extrapolation import NestedWidths, detector_variance, nested_widths
from corrections.widths import ESTIMATORS

EDGES = np.linspace(-2, 2, 201)
ALPHA_MAX = np.array([0.05, 0.1, 0.15, 0.2, 0.25, 0.3])
DETECTOR, AT_ZERO, SLOPE = 0.08, 0.02, 0.3


def histograms(values: np.ndarray, alpha: np.ndarray, weights: np.ndarray) -> np.ndarray:
    grid = np.histogram2d(alpha, values, bins=(np.concatenate([[0.0], ALPHA_MAX]), EDGES), weights=weights)[0]
    return np.asarray(grid)


def nested(values: np.ndarray, alpha: np.ndarray, weights: np.ndarray | None = None, name: str = "rms") -> NestedWidths:
    w = np.ones(len(values)) if weights is None else weights
    return nested_widths(histograms(values, alpha, w), histograms(values, alpha, w**2), EDGES, ESTIMATORS[name])


def events(
    rng: np.random.Generator, n: int, detector: float = DETECTOR, slope: float = SLOPE
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """alpha, truth asymmetry and reconstructed asymmetry."""
    alpha = rng.exponential(0.12, rng.poisson(n))
    truth = rng.normal(0, 1, len(alpha)) * (AT_ZERO + slope * alpha)
    return alpha, truth, truth + rng.normal(0, detector, len(alpha))


def test_nested_samples_covary_with_the_first_power_of_their_sizes() -> None:
    """Equal weights: cov(V_i, V_j) = var(V_i) N_i/N_j. The second power, as in public code, is half of that here."""
    rng = np.random.default_rng(1)
    squares, covariances = [], []
    for _ in range(2000):
        alpha = rng.uniform(0, 0.3, 2000)
        result = nested(rng.normal(0, 1, 2000) * (0.06 + 0.3 * alpha), alpha)
        squares.append(result.squares)
        covariances.append(result.covariance)
    true, quoted = np.cov(np.array(squares).T), np.mean(covariances, axis=0)
    # 2000 toys know a covariance of correlation 0.6 to 4 %
    assert true[1, 3] == pytest.approx(true[1, 1] * 2 / 4, rel=0.15)
    assert true[1, 3] != pytest.approx(true[1, 1] * (2 / 4) ** 2, rel=0.5)
    np.testing.assert_allclose(quoted[1:, 1:], true[1:, 1:], rtol=0.15)


def test_weights_that_go_with_alpha_are_followed() -> None:
    rng = np.random.default_rng(2)
    squares, covariances = [], []
    for _ in range(2000):
        alpha = rng.uniform(0, 0.3, 2000)
        weights = rng.exponential(1 + 10 * alpha)
        result = nested(rng.normal(0, 1, 2000) * (0.06 + 0.3 * alpha), alpha, weights)
        squares.append(result.squares)
        covariances.append(result.covariance)
    true, quoted = np.cov(np.array(squares).T), np.mean(covariances, axis=0)
    np.testing.assert_allclose(np.diag(quoted), np.diag(true), rtol=0.12)
    assert quoted[2, 5] == pytest.approx(true[2, 5], rel=0.25)


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_the_covariance_is_symmetric_and_positive(name: str) -> None:
    rng = np.random.default_rng(3)
    alpha, _, reco = events(rng, 5000)
    weights = np.where(rng.random(len(alpha)) < 0.1, -1.0, 1.0)
    covariance = nested(reco, alpha, weights, name).covariance
    np.testing.assert_allclose(covariance, covariance.T)
    assert np.all(np.linalg.eigvalsh(covariance) > 0)


@pytest.mark.parametrize("same_events", [True, False])
def test_the_known_resolution_comes_back_with_the_spread_that_is_quoted(*, same_events: bool) -> None:
    """Data resolve 10 % worse and radiate 15 % more than the simulation whose truth is subtracted."""
    rng = np.random.default_rng(4)
    injected = DETECTOR if same_events else 1.1 * DETECTOR
    pulls, values = [], []
    for _ in range(250):
        alpha, truth, reco = events(rng, 10_000)
        truth_widths = nested(truth, alpha)
        if not same_events:
            alpha, _, reco = events(rng, 10_000, injected, 1.15 * SLOPE)
        result = detector_variance(nested(reco, alpha), truth_widths, ALPHA_MAX, 0.1, same_events=same_events)
        values.append(float(result.value))
        pulls.append((float(result.value) - injected**2) / np.sqrt(float(result.variance)))
    # the mean of 250 toys is known to 0.15 % of the variance, 0.06 of a pull
    assert np.mean(values) == pytest.approx(injected**2, rel=0.01)
    assert abs(np.mean(pulls)) < 0.35
    assert 0.88 < np.std(pulls) < 1.12


def test_straight_lines_in_alpha_end_too_low() -> None:
    """A constant and a rising part in quadrature are convex: 2-3 % of the variance here, and a bad chi2."""
    rng = np.random.default_rng(5)
    alpha, truth, reco = events(rng, 2_000_000)
    widths = nested(reco, alpha), nested(truth, alpha)
    straight = detector_variance(*widths, ALPHA_MAX, 0.1, same_events=True, shape="linear")
    curved = detector_variance(*widths, ALPHA_MAX, 0.1, same_events=True)
    assert float(straight.value) == pytest.approx(0.975 * DETECTOR**2, rel=0.01)
    assert float(curved.value) == pytest.approx(DETECTOR**2, rel=0.01)


@pytest.mark.parametrize("shape", ["linear", "quadrature"])
def test_more_imbalance_leaves_less_to_the_detector(shape: str) -> None:
    """By a quarter of the truth's square at alpha = 0, which the line through nested widths puts at 0.025^2 here."""
    rng = np.random.default_rng(6)
    alpha, truth, reco = events(rng, 500_000)
    nominal, shifted = (
        detector_variance(
            nested(reco, alpha),
            nested(truth, alpha),
            ALPHA_MAX,
            0.1,
            same_events=True,
            imbalance_shift=s,
            shape="linear" if shape == "linear" else "quadrature",
        )
        for s in (0.0, 0.25)
    )
    assert float(nominal.value - shifted.value) == pytest.approx(0.25 * 0.025**2, rel=0.1)


def test_replicas_give_the_error_where_there_are_any() -> None:
    rng = np.random.default_rng(7)
    alpha, truth, reco = events(rng, 10_000)
    weights = rng.poisson(1, (200, len(alpha)))
    found = []
    for values in (reco, truth):
        copies = np.stack([histograms(values, alpha, w) for w in weights])
        counts = histograms(values, alpha, np.ones(len(alpha)))
        found.append((nested_widths(counts, counts, EDGES, ESTIMATORS["rms"], copies), nested(values, alpha)))
    with_copies = detector_variance(found[0][0], found[1][0], ALPHA_MAX, 0.1, same_events=True)
    without = detector_variance(found[0][1], found[1][1], ALPHA_MAX, 0.1, same_events=True)
    assert with_copies.replicas.shape == (200,)
    assert float(with_copies.value) == float(without.value)
    assert float(with_copies.variance) == pytest.approx(float(without.variance), rel=0.3)


def test_cuts_below_the_threshold_of_the_third_jet_take_no_part() -> None:
    rng = np.random.default_rng(8)
    alpha, truth, reco = events(rng, 20_000)
    result = detector_variance(nested(reco, alpha), nested(truth, alpha), ALPHA_MAX, 0.15, same_events=True)
    assert int(result.ndf) == 4 - 2


def test_a_negative_square_keeps_its_value() -> None:
    rng = np.random.default_rng(9)
    alpha, truth, _ = events(rng, 20_000)
    result = detector_variance(nested(0.8 * truth, alpha), nested(truth, alpha), ALPHA_MAX, 0.1, same_events=False)
    assert str(result.status) == "negative_square"
    assert float(result.value) < 0


def test_what_cannot_be_extrapolated_says_why() -> None:
    rng = np.random.default_rng(10)
    alpha, truth, reco = events(rng, 20_000)
    full, none = nested(truth, alpha), nested(truth[:0], alpha[:0])
    few = nested(reco[:15], alpha[:15])

    def status(reco_widths: NestedWidths, truth_widths: NestedWidths | None, first: float = 0.1) -> str:
        return str(detector_variance(reco_widths, truth_widths, ALPHA_MAX, first, same_events=False).status)

    assert status(nested(reco, alpha), None) == "no_truth"
    assert status(none, full) == "empty"
    assert status(few, full) == "few_events"
    assert status(nested(reco, alpha), full, first=0.3) == "few_events"


def test_a_hundred_replicas_of_a_bin_take_milliseconds() -> None:
    rng = np.random.default_rng(11)
    counts = rng.poisson(500 * np.exp(-0.5 * (EDGES[:-1] / 0.1) ** 2), (6, 200)).astype(float)
    copies = rng.poisson(counts, (100, 6, 200)).astype(float)
    nested_widths(counts, counts, EDGES, ESTIMATORS["truncated_rms"], copies)
    start = time.perf_counter()
    for _ in range(10):
        nested_widths(counts, counts, EDGES, ESTIMATORS["truncated_rms"], copies)
    # about 3 ms on an idle core
    assert (time.perf_counter() - start) / 10 < 0.05
