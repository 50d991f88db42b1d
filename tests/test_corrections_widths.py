"""Single widths against numpy, the Gaussian and toys with weights of either sign."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import norm, truncnorm

from corrections.widths import ESTIMATORS, Width, core_window, fit_core, quantile, second_moment, truncated_rms

EDGES = np.linspace(-2, 2, 401)
COARSE = np.linspace(-2, 2, 201)
NAMES = sorted(ESTIMATORS)


def gaussian(sigma: float, mean: float = 0.0, edges: np.ndarray = EDGES) -> np.ndarray:
    return np.asarray(1e6 * np.diff(norm.cdf(edges, mean, sigma)))


def toys(name: str, n_events: int, sigma: float, negative: float, n_toys: int = 250) -> list[Width]:
    """Widths of Poisson samples of a Gaussian, weights 0.5 and 1.5, a share `negative` of them with the other sign."""
    rng = np.random.default_rng(11)
    widths = []
    for _ in range(n_toys):
        values = rng.normal(0.013, sigma, rng.poisson(n_events))
        weights = rng.choice([0.5, 1.5], len(values)) * np.where(rng.random(len(values)) < negative, -1, 1)
        counts, variances = (np.histogram(values, COARSE, weights=w)[0] for w in (weights, weights**2))
        widths.append(ESTIMATORS[name](counts, variances, COARSE))
    return widths


def test_quantiles_agree_with_those_of_the_events() -> None:
    values = np.random.default_rng(1).normal(0.1, 0.3, 200_000)
    got = quantile(np.histogram(values, EDGES)[0].astype(float), EDGES, np.array([0.1, 0.5, 0.9]))
    np.testing.assert_allclose(got, np.quantile(values, [0.1, 0.5, 0.9]), atol=2e-3)


def test_quantiles_of_nothing_are_nan() -> None:
    assert np.isnan(quantile(np.zeros(400), EDGES, np.array([0.5]))).all()


def test_quantiles_beside_an_empty_tail_divide_the_bin_evenly() -> None:
    counts = np.zeros(400)
    counts[200] = 5.0
    np.testing.assert_allclose(quantile(counts, EDGES, np.array([0.25, 0.75])), [0.0025, 0.0075])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sigma", [0.03, 0.05, 0.15, 0.4])
@pytest.mark.parametrize("mean", [0.0, 0.004, 0.01])
def test_every_estimator_gives_the_sigma_of_a_gaussian(name: str, sigma: float, mean: float) -> None:
    """Down to 1.5 bin widths, wherever the bins fall: the widening by the bins is taken out."""
    counts = gaussian(sigma, mean, COARSE)
    assert ESTIMATORS[name](counts, counts, COARSE).value == pytest.approx(sigma, rel=2e-3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("negative", [0.0, 0.2])
def test_toys_come_back_unbiased_with_the_spread_that_is_quoted(name: str, negative: float) -> None:
    """250 toys of 5000 events: the mean is known to 0.1-0.2 % of sigma, the pull's mean to 0.06, its width to 0.045."""
    widths = toys(name, 5000, 0.1, negative)
    values, errors = np.array([w.value for w in widths]), np.array([w.error for w in widths])
    pulls = (values - 0.1) / errors
    assert {w.status for w in widths} == {"ok"}
    assert values.mean() == pytest.approx(0.1, rel=5e-3)
    assert abs(pulls.mean()) < 0.2
    assert 0.88 < pulls.std() < 1.12


def test_dropping_negative_contents_would_widen_the_distribution() -> None:
    """What the signed treatment avoids: clipped, the RMS is more than 50 % too large here."""
    rng = np.random.default_rng(3)
    weights = np.where(rng.random(20_000) < 0.33, -1.0, 1.0)
    values = np.where(rng.random(20_000) < 0.9, rng.normal(0, 0.1, 20_000), rng.uniform(-2, 2, 20_000))
    # the flat part cancels between the signs
    weights = np.where(np.abs(values) > 0.5, rng.choice([-1.0, 1.0], 20_000), weights)
    counts, variances = (np.histogram(values, COARSE, weights=w)[0] for w in (weights, weights**2))
    clipped = ESTIMATORS["rms"].copies(np.maximum(counts, 0.0), COARSE)
    signed = ESTIMATORS["truncated_rms"](counts, variances, COARSE)
    assert float(clipped) > 0.15
    assert signed.value == pytest.approx(0.1, abs=3 * signed.error)


@pytest.mark.parametrize("name", NAMES)
def test_copies_are_measured_like_the_original(name: str) -> None:
    rng = np.random.default_rng(4)
    copies = rng.poisson(gaussian(0.08, 0.1, COARSE) / 500, (3, 5, 200)).astype(float)
    one_by_one = [[ESTIMATORS[name](c, c, COARSE).value for c in row] for row in copies]
    np.testing.assert_allclose(ESTIMATORS[name].copies(copies, COARSE), one_by_one, rtol=1e-9)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("counts", "status"),
    [
        (np.zeros(200), "empty"),
        (np.eye(200)[90], "few_events"),
        (-gaussian(0.1, edges=COARSE), "few_events"),
        (1000 * np.eye(200)[90], "not_converged"),
    ],
)
def test_what_has_no_width_says_why(name: str, counts: np.ndarray, status: str) -> None:
    width = ESTIMATORS[name](counts, np.abs(counts), COARSE)
    assert width.status == status
    assert np.isnan(width.value)


@pytest.mark.parametrize("fraction", [0.985, 0.95])
def test_truncation_keeps_the_share_that_scipy_gives(fraction: float) -> None:
    cut = norm.ppf(fraction)
    values = np.random.default_rng(2).normal(0, 0.2, 1_000_000)
    low, high = np.quantile(values, [1 - fraction, fraction])
    raw = values[(values > low) & (values < high)].std()
    counts = np.histogram(values, EDGES)[0].astype(float)
    assert raw / truncated_rms(counts, counts, EDGES, fraction).value == pytest.approx(
        truncnorm.std(-cut, cut), rel=1e-3
    )


def test_the_truncated_gaussian_keeps_the_published_fraction_of_its_width() -> None:
    """0.9112 for 1.5 % cut on each side: the bias of an uncorrected truncated RMS."""
    values = np.random.default_rng(2).normal(0, 1, 4_000_000)
    low, high = np.quantile(values, [0.015, 0.985])
    assert values[(values > low) & (values < high)].std() == pytest.approx(0.9112, abs=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_the_error_follows_the_effective_number_of_events(name: str) -> None:
    counts = gaussian(0.2)
    once, fourfold = (ESTIMATORS[name](counts, k * counts, EDGES).error for k in (1, 4))
    assert fourfold / once == pytest.approx(2.0, rel=0.05)


def test_the_error_of_an_rms_is_that_of_a_gaussian_sample() -> None:
    counts = gaussian(0.2)
    width = ESTIMATORS["rms"](counts, counts, EDGES)
    assert width.error / width.value == pytest.approx(1 / np.sqrt(2e6), rel=0.01)


def test_second_moments_know_their_error_from_the_fourth() -> None:
    """A uniform distribution on [-a, a]: variance a^2/3, fourth moment a^4/5."""
    counts = np.where(np.abs(EDGES[:-1] + 0.005) < 1, 1e4, 0.0)
    _, spread, error = second_moment(counts, counts, EDGES)
    assert float(spread) == pytest.approx(1 / 3, rel=1e-3)
    assert float(error) == pytest.approx(np.sqrt((1 / 5 - 1 / 9) / 2e6), rel=1e-2)


def test_a_symmetric_window_is_centred_at_zero() -> None:
    first, last = core_window(gaussian(0.1, 0.03), EDGES, 2.5, symmetric=True)
    assert EDGES[first] == pytest.approx(-EDGES[last])
    assert EDGES[last] == pytest.approx(0.25, abs=0.02)


def test_an_empty_distribution_has_an_empty_window() -> None:
    assert core_window(np.zeros(400), EDGES, 2.5, symmetric=False) == (0, 0)


@pytest.mark.parametrize(("mean", "sigma"), [(0.0, 0.05), (0.21, 0.1), (-0.4, 0.2)])
def test_the_core_has_mean_and_width(mean: float, sigma: float) -> None:
    counts = gaussian(sigma, mean)
    core = fit_core(counts, counts, EDGES, 2.0)
    assert core.mean.value == pytest.approx(mean, abs=1e-4)
    assert core.width.value == pytest.approx(sigma, rel=1e-3)


def test_the_mean_of_the_core_has_the_spread_that_is_quoted() -> None:
    rng = np.random.default_rng(8)
    pulls = []
    for _ in range(300):
        counts = np.histogram(rng.normal(0.05, 0.1, 2000), COARSE)[0].astype(float)
        mean = fit_core(counts, counts, COARSE, 2.0).mean
        pulls.append((mean.value - 0.05) / mean.error)
    assert 0.9 < np.std(pulls) < 1.1


def test_far_tails_do_not_pull_the_core() -> None:
    """3 % of events 8 sigma away change an RMS by a factor 1.7 and the core by less than 3 %."""
    counts = 0.97 * gaussian(0.05) + 0.03 * gaussian(0.05, 0.4)
    assert fit_core(counts, counts, EDGES, 2.0).width.value == pytest.approx(0.05, rel=0.03)


def test_a_handful_of_events_has_no_core() -> None:
    counts = gaussian(0.1) / 1e6 * 15
    assert fit_core(counts, counts, EDGES, 2.0).width.status == "few_events"


def test_the_module_does_without_scipy_stats() -> None:
    """It costs more than a second at start-up."""
    code = "import sys, corrections.widths; sys.exit('scipy.stats' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
