"""The slope of the noise in rho from toys of known pile-up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from corrections.noise import NoiseSlope, fit_noise_slope, fit_noise_term

if TYPE_CHECKING:
    from corrections.settings import CurveForm

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


def noise_widths(n: float, k: float, s2: float, c2: float) -> np.ndarray:
    return np.asarray(np.sqrt((n + k * RHO) / PT[:, None] ** 2 + s2 / PT[:, None] + c2))


def test_the_noise_without_pile_up_and_its_growth_come_back_exactly() -> None:
    widths = noise_widths(7.0, 0.4, 0.6, 0.003)
    fit = fit_noise_term(widths, 0.01 * widths, PT, RHO)
    assert fit.status == "ok"
    np.testing.assert_allclose(fit.parameters, [7.0, 0.4], rtol=1e-6)
    assert fit.at(20.0)[0] == pytest.approx(15.0)
    assert fit.ndf == 35 - 4


@pytest.mark.parametrize(("s2", "c2"), [(0.6, 0.003), (0.0, 0.01), (0.9, 0.0)])
def test_the_noise_of_toys_has_the_error_that_is_quoted(s2: float, c2: float) -> None:
    """S^2 or C^2 of 0 scatter below it; a bound there would move N|N|. That the shape may be off adds to the error."""
    rng, exact, pulls = np.random.default_rng(4), noise_widths(7.0, 0.4, s2, c2), []
    for _ in range(300):
        widths = exact * (1 + 0.02 * rng.normal(size=exact.shape))
        value, error = fit_noise_term(widths, 0.02 * widths, PT, RHO).at(20.0)
        pulls.append((value - 15.0) / error)
    assert abs(np.mean(pulls)) < 0.25
    assert 0.5 < np.std(pulls) < 1.1


@pytest.mark.parametrize("form", ["nsc", "nspc"])
@pytest.mark.parametrize("power", [-1.0, -0.75, -1.4])
def test_another_power_of_pt_is_covered_by_the_uncertainty(form: CurveForm, power: float) -> None:
    widths = np.sqrt((7.0 + 0.4 * RHO) / PT[:, None] ** 2 + 0.6 * 100 ** (-1 - power) * PT[:, None] ** power + 0.003)
    value, error = fit_noise_term(widths, 0.005 * widths, PT, RHO, form).at(20.0)
    assert abs(value - 15.0) < 1.2 * error
    if form == "nspc" or power == -1.0:
        assert value == pytest.approx(15.0, abs=0.1)


@pytest.mark.parametrize(("rows", "columns"), [(4, 5), (7, 1)])
def test_too_few_bins_give_no_noise(rows: int, columns: int) -> None:
    widths = np.full((7, 5), np.nan)
    widths[:rows, :columns] = noise_widths(7.0, 0.4, 0.6, 0.003)[:rows, :columns]
    assert fit_noise_term(widths, 0.01 * widths, PT, RHO).status == "few_events"
    assert fit_noise_term(np.full((7, 5), np.nan), widths, PT, RHO).status == "empty"
