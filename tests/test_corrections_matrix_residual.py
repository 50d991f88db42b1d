"""The matrix method on toys of known responses."""

from __future__ import annotations

import time

import numpy as np
import pytest

from corrections.matrix_residual import Pairs, relative_response, smooth_residual

N_ETA, REFERENCE = 8, (1, 2)
PT = np.array([50.0, 80, 120, 200, 350])
WIDTHS = np.array([0.10, 0.10, 0.11, 0.12, 0.13, 0.18, 0.22, 0.15])
RESPONSE = np.array([1.0, 1.01, 0.99, 0.98, 1.02, 0.93, 1.06, 1.10])


def toy(
    rng: np.random.Generator,
    response: np.ndarray,
    events: float = 400.0,
    alpha: np.ndarray | None = None,
    slope: float = 0.0,
) -> Pairs:
    """Sums of Poisson many pairs per entry; `response` (n_eta, n_pt); with `alpha` forward jets lose `slope` alpha."""
    positions = np.zeros(1) if alpha is None else alpha
    tilt = 1 - slope * positions * np.linspace(0, 1, N_ETA)[:, None, None]
    r = response[:, :, None] * tilt
    mean = 2 * (r[:, None] - r[None]) / (r[:, None] + r[None])
    spread = (WIDTHS[:, None] ** 2 + WIDTHS[None] ** 2)[:, :, None, None] * np.ones_like(mean)
    lower = np.tri(N_ETA, dtype=bool)[:, :, None, None]
    n = np.where(lower, rng.poisson(events, mean.shape), 0).astype(float)
    got = mean + rng.normal(0, 1, mean.shape) * np.sqrt(spread / np.maximum(n, 1))
    scatter = spread * rng.chisquare(np.maximum(n - 1, 1e-9)) / np.maximum(n, 1)
    fields = (n, n.copy(), n * got, n * (scatter + got**2))
    return Pairs(*(f[..., 0] if alpha is None else f for f in fields))


def without(pairs: Pairs, i: int, j: int) -> Pairs:
    """The pairs of |eta| bins i > j taken out."""
    fields = [f.copy() for f in (pairs.weight, pairs.weight_squared, pairs.asymmetry, pairs.asymmetry_squared)]
    for field in fields:
        field[i, j] = 0.0
    return Pairs(*fields)


def expected(response: np.ndarray) -> np.ndarray:
    logs = np.log(response)
    return np.asarray(logs - logs[list(REFERENCE)].mean(axis=0))


CONSTANT = np.repeat(RESPONSE[:, None], len(PT), axis=1)


def test_known_responses_come_back() -> None:
    result = relative_response(toy(np.random.default_rng(1), CONSTANT, 1e6), REFERENCE)
    assert np.all(result.status == "ok")
    np.testing.assert_allclose(result.log_response, expected(CONSTANT), atol=5e-4)
    np.testing.assert_allclose(result.log_response[list(REFERENCE)].mean(axis=0), 0, atol=1e-12)


@pytest.mark.parametrize("events", [15.0, 400.0])
def test_the_quoted_covariance_is_the_spread_of_toys(events: float) -> None:
    """5 bins of pT and 300 toys give 1500 vectors: a pull's width is known to 2 %."""
    rng = np.random.default_rng(2)
    pulls, chi2, ndf = [], 0.0, 0
    for _ in range(300):
        result = relative_response(toy(rng, CONSTANT, events), REFERENCE)
        error = np.sqrt(np.einsum("pee->ep", result.covariance))
        pulls.append((result.log_response - expected(CONSTANT)) / error)
        chi2, ndf = chi2 + result.chi2.sum(), ndf + result.ndf.sum()
    outside = [e for e in range(N_ETA) if e not in REFERENCE]
    found = np.array(pulls)[:, outside]
    assert abs(found.mean()) < 0.05
    assert found.std() == pytest.approx(1, abs=0.05)
    assert chi2 / ndf == pytest.approx(1, abs=0.1)


def test_weights_of_the_reference_move_all_by_the_same() -> None:
    pairs = toy(np.random.default_rng(3), CONSTANT)
    equal = relative_response(pairs, REFERENCE)
    first = relative_response(pairs, REFERENCE, np.array([1.0, 0.0]))
    np.testing.assert_allclose(first.log_response[1], 0, atol=1e-12)
    np.testing.assert_allclose(np.ptp(first.log_response - equal.log_response, axis=0), 0, atol=1e-12)


def test_a_bin_without_central_partners_is_reached_through_others() -> None:
    pairs = toy(np.random.default_rng(4), CONSTANT, 1e6)
    for j in range(6):
        pairs = without(pairs, 7, j)
    result = relative_response(pairs, REFERENCE)
    np.testing.assert_allclose(result.log_response[7], expected(CONSTANT)[7], atol=1e-3)


def test_what_no_chain_joins_to_the_reference_is_nan_with_a_status() -> None:
    pairs = toy(np.random.default_rng(5), CONSTANT)
    for i in (5, 6, 7):
        for j in range(5):
            pairs = without(pairs, i, j)
    result = relative_response(pairs, REFERENCE)
    assert set(result.status[5:].ravel()) == {"no_reference"}
    assert np.isnan(result.log_response[5:]).all()
    np.testing.assert_allclose(result.log_response[:5], expected(CONSTANT)[:5], atol=0.05)


def test_bins_without_pairs_and_with_too_few_say_so() -> None:
    pairs = toy(np.random.default_rng(6), CONSTANT)
    fields = [f.copy() for f in (pairs.weight, pairs.weight_squared, pairs.asymmetry, pairs.asymmetry_squared)]
    for field in fields:
        field[7] = 0.0
        field[6, :6] /= 200
    result = relative_response(Pairs(*fields), REFERENCE)
    assert set(result.status[7]) == {"empty"}
    assert set(result.status[6]) == {"few_events"}
    assert set(result.status[:6].ravel()) == {"ok"}


def test_nothing_at_all_is_empty() -> None:
    none = np.zeros((N_ETA, N_ETA, len(PT)))
    result = relative_response(Pairs(none, none, none, none), REFERENCE)
    assert np.all(result.status == "empty")
    smooth = smooth_residual(result, result, PT)
    assert np.all(smooth.status == "empty")
    assert np.isnan(smooth(np.array([100.0]))[0]).all()


def test_a_response_that_falls_with_alpha_is_extrapolated() -> None:
    alpha = np.array([0.03, 0.08, 0.13, 0.18, 0.25])
    pairs = toy(np.random.default_rng(7), CONSTANT, 1e5, alpha, slope=0.2)
    result = relative_response(pairs, REFERENCE, alpha=alpha)
    error = np.sqrt(np.einsum("pee->ep", result.covariance))
    assert np.all(np.abs(result.log_response - expected(CONSTANT)) < 4 * error + 1e-12)
    assert np.abs(result.log_response - expected(CONSTANT)).max() < 6e-3
    assert np.mean(result.chi2 / result.ndf) == pytest.approx(1, abs=0.3)
    summed = Pairs(
        *(f.sum(axis=-1) for f in (pairs.weight, pairs.weight_squared, pairs.asymmetry, pairs.asymmetry_squared))
    )
    assert np.abs(relative_response(summed, REFERENCE).log_response - expected(CONSTANT)).max() > 0.015


def test_one_bin_of_alpha_cannot_be_extrapolated() -> None:
    alpha = np.array([0.05, 0.15])
    pairs = toy(np.random.default_rng(8), CONSTANT, 400, alpha)
    fields = [f.copy() for f in (pairs.weight, pairs.weight_squared, pairs.asymmetry, pairs.asymmetry_squared)]
    for field in fields:
        field[..., 1] = 0.0
    result = relative_response(Pairs(*fields), REFERENCE, alpha=alpha)
    assert np.all(result.status == "not_converged")


def test_the_residual_is_simulation_over_data_and_covers() -> None:
    rng = np.random.default_rng(9)
    data = CONSTANT * (1 + 0.02 * np.linspace(-1, 1, N_ETA)[:, None])
    truth = np.exp(expected(CONSTANT)[:, 0] - expected(data)[:, 0])
    pulls, constant = [], []
    for _ in range(300):
        sides = [relative_response(toy(rng, response, 200), REFERENCE) for response in (data, CONSTANT)]
        smooth = smooth_residual(sides[0], sides[1], PT)
        value, error = smooth(np.exp([np.log(PT).mean()]))
        pulls.append((value[:, 0] - truth) / error[:, 0])
        constant.append(smooth.is_constant)
    found = np.array(pulls)[:, [0, 3, 4, 5, 6, 7]]
    # 5 % of straight lines are told from constants by chance
    assert 0.88 < np.mean(constant) < 0.98
    # 300 toys whose bins share the reference know the mean of the pulls to 0.05
    assert abs(found.mean()) < 0.15
    assert found.std() == pytest.approx(1, abs=0.06)


def test_a_slope_in_pt_is_found_where_it_is_significant() -> None:
    rng = np.random.default_rng(10)
    data = CONSTANT * (1 + 0.03 * np.log(PT / 120) * (np.arange(N_ETA) == 7)[:, None])
    sides = [relative_response(toy(rng, response, 20_000), REFERENCE) for response in (data, CONSTANT)]
    smooth = smooth_residual(sides[0], sides[1], PT)
    assert not smooth.is_constant[7]
    value, error = smooth(PT)
    assert np.all(np.abs(value[7] - CONSTANT[7] / data[7]) < 4 * error[7])


def test_forward_bins_share_the_fluctuations_of_the_reference() -> None:
    """The covariance between |eta| bins: that of their sum is the spread of the sum."""
    rng = np.random.default_rng(11)
    sums, quoted = [], []
    for _ in range(300):
        sides = [relative_response(toy(rng, CONSTANT, 200), REFERENCE) for _ in range(2)]
        smooth = smooth_residual(sides[0], sides[1], PT, improvement=np.inf)
        sums.append(smooth.parameters[3:, 0].sum())
        quoted.append(smooth.covariance[3:, 0, 3:, 0].sum())
    assert np.var(sums) == pytest.approx(np.mean(quoted), rel=0.25)


def test_a_fine_binning_takes_a_fraction_of_a_second() -> None:
    rng = np.random.default_rng(12)
    n = rng.poisson(50, (26, 26, 20, 6)).astype(float)
    a = rng.normal(0, 0.01, n.shape)
    pairs = Pairs(n, n, n * a, n * 0.02)
    relative_response(pairs, (0, 1), alpha=np.linspace(0.02, 0.3, 6))
    start = time.perf_counter()
    relative_response(pairs, (0, 1), alpha=np.linspace(0.02, 0.3, 6))
    assert time.perf_counter() - start < 1.0
