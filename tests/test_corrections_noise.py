"""The slope of the noise in rho from toys of known pile-up."""

from __future__ import annotations

import numpy as np
import pytest

from corrections.noise import NoiseSlope, fit_noise_slope

PT = np.array([30.0, 45, 70, 110, 180, 300, 600])
RHO = np.array([6.0, 15, 24, 34, 46])
SLOPE, MEAN_RHO = 0.9, 22.0


def squares() -> np.ndarray:
    """No N, S, C shape: the fit must not need one."""
    curve = 0.03 + 0.09 * np.exp(-PT / 80) + 0.01 * np.cos(PT / 50)
    return np.asarray(curve[:, None] ** 2 + 0.01 + SLOPE * (RHO - MEAN_RHO) / PT[:, None] ** 2)


def toy(rng: np.random.Generator, events: float = 4000) -> NoiseSlope:
    sigma = np.sqrt(squares())
    n = events * np.array([0.3, 1, 1, 0.5, 0.1])
    widths = sigma * (1 + rng.normal(0, 1, sigma.shape) / np.sqrt(2 * n))
    return fit_noise_slope(widths, widths / np.sqrt(2 * n), PT, RHO, MEAN_RHO)


def test_exact_widths_give_the_exact_slope() -> None:
    sigma = np.sqrt(squares())
    fit = fit_noise_slope(sigma, 0.01 * sigma, PT, RHO, MEAN_RHO)
    assert fit.value == pytest.approx(SLOPE)
    assert fit.chi2 == pytest.approx(0, abs=1e-9)
    assert fit.ndf == 35 - 7 - 1
    np.testing.assert_allclose(fit.offsets, squares()[:, 2] - SLOPE * 2 / PT**2)


@pytest.mark.parametrize("events", [60, 4000])
def test_toys_are_unbiased_with_the_spread_and_chi2_that_are_quoted(events: float) -> None:
    rng = np.random.default_rng(1)
    fits = [toy(rng, events) for _ in range(1000)]
    pulls = np.array([(f.value - SLOPE) / f.error for f in fits])
    assert abs(pulls.mean()) < 0.15
    assert 0.9 < pulls.std() < 1.1
    assert np.mean([f.chi2 / f.ndf for f in fits]) == pytest.approx(1, abs=0.08)


def test_unmeasured_bins_take_no_part() -> None:
    sigma = np.sqrt(squares())
    sigma[0] = np.nan
    sigma[1, 1:] = np.nan
    sigma[2, 0] = np.nan
    fit = fit_noise_slope(sigma, 0.01 * sigma, PT, RHO, MEAN_RHO)
    assert fit.value == pytest.approx(SLOPE)
    assert fit.ndf == 24 - 5 - 1
    assert np.isnan(fit.offsets[:2]).all()


def test_the_shift_is_that_of_the_squared_noise_term() -> None:
    fit = toy(np.random.default_rng(2))
    value, error = fit.shift(32.0)
    assert value == pytest.approx(10 * fit.value)
    assert error == pytest.approx(10 * fit.error)
    assert fit.shift(12.0)[1] > 0


@pytest.mark.parametrize(("columns", "status"), [(0, "empty"), (1, "few_events")])
def test_a_slope_needs_two_bins_of_rho(columns: int, status: str) -> None:
    sigma = np.sqrt(squares())
    sigma[:, columns:] = np.nan
    fit = fit_noise_slope(sigma, 0.01 * sigma, PT, RHO, MEAN_RHO)
    assert fit.status == status
    assert np.isnan(fit.value)


def test_one_value_of_rho_throughout_has_no_slope() -> None:
    sigma = np.sqrt(squares())
    assert fit_noise_slope(sigma, 0.01 * sigma, PT, np.full(5, 20.0), MEAN_RHO).status == "few_events"
