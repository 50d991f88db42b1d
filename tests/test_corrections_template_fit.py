"""The likelihood against scipy, iminuit and numbers that were put in."""

from __future__ import annotations

import numpy as np
import pytest
from iminuit import Minuit
from scipy.integrate import quad
from scipy.optimize import approx_fprime
from scipy.stats import laplace, norm

from corrections.template_fit import (
    Distributions,
    VarianceModel,
    _evaluate,
    convolve,
    expectation,
    fit_jointly,
    refit,
)

EDGES = np.linspace(-2, 2, 201)
CENTRES = 0.5 * (EDGES[1:] + EDGES[:-1])
WIDTH = 0.02


def histogram(values: np.ndarray) -> np.ndarray:
    return np.histogram(values, EDGES)[0].astype(np.float64)


def one_bin(counts: np.ndarray, template: np.ndarray, reach: float, scale: float = 1.0) -> Distributions:
    first, last = np.searchsorted(CENTRES, [-reach, reach])
    return Distributions(counts[None], template[None], np.array([first]), np.array([last]), np.array([scale]), WIDTH)


FREE = VarianceModel(np.zeros(1), np.ones((1, 1)), np.zeros(1), np.ones((1, 1)))
CENTRED = VarianceModel(np.zeros(1), np.ones((1, 1)), np.zeros(1), np.zeros((1, 0)))


def test_convolution_of_a_single_point_is_the_gaussian_integral() -> None:
    template = np.zeros(200)
    template[120] = 3.0
    sigma, shift = 0.07, 0.013

    got = convolve(template, sigma**2 + WIDTH**2 / 12, shift, WIDTH, 0, 200)[0]

    expected = 3.0 * np.diff(norm.cdf(EDGES, CENTRES[120] + shift, sigma))
    np.testing.assert_allclose(got, expected, atol=1e-12)


def test_convolution_of_a_smooth_truth_agrees_with_numerical_integration() -> None:
    """A Laplace truth binned exactly; the binned template costs less than 1 % at the peak."""
    truth, sigma = laplace(0, 0.08), 0.06
    template = np.diff(truth.cdf(EDGES))

    got = convolve(template, sigma**2, 0.0, WIDTH, 0, 200)[0]

    for b in (100, 105, 112, 125):
        middle = CENTRES[b]
        smeared = quad(
            lambda t, x=middle: truth.pdf(t) * np.diff(norm.cdf([x - WIDTH / 2 - t, x + WIDTH / 2 - t], 0, sigma))[0],
            -2,
            2,
            points=[0.0],
            limit=200,
        )[0]
        assert got[b] == pytest.approx(smeared, rel=0.01)


def test_derivatives_agree_with_finite_differences() -> None:
    template = np.diff(laplace(0, 0.05).cdf(EDGES))
    got = convolve(template, 0.01, 0.02, WIDTH, 90, 130)
    for b in (0, 10, 25):
        slopes = approx_fprime(
            np.array([0.01, 0.02]), lambda p, b=b: convolve(template, p[0], p[1], WIDTH, 90, 130)[0][b], 1e-7
        )
        np.testing.assert_allclose(got[1:, b], slopes, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("sigma", [0.03, 0.08, 0.2])
def test_the_width_put_in_comes_back(sigma: float) -> None:
    """Two million events: the error is about 0.1 %, the pull must be small and the bias below 0.5 %."""
    rng = np.random.default_rng(11)
    truth = rng.laplace(0, 0.06, 2_000_000)
    data = one_bin(
        histogram(truth + rng.normal(0.03, sigma, truth.size)), histogram(truth), 2.5 * np.hypot(sigma, 0.085)
    )

    fit = fit_jointly(data, FREE, np.array([sigma**2 * 1.5, 0.0]))

    assert fit.converged
    got, error = np.sqrt(fit.parameters[0]), np.sqrt(fit.covariance[0, 0]) / (2 * sigma)
    assert got == pytest.approx(sigma, abs=4 * error + 0.002 * sigma)
    assert fit.parameters[1] == pytest.approx(0.03, abs=5e-4)


def test_pulls_of_the_width_have_mean_zero_and_width_one() -> None:
    """400 pseudo-experiments of 3000 events with an exact template: standard errors 0.05 and 0.035."""
    rng = np.random.default_rng(21)
    sigma, n = 0.08, 3000
    template = np.diff(laplace(0, 0.06).cdf(EDGES))
    pulls = []
    for _ in range(400):
        sample = rng.laplace(0, 0.06, n) + rng.normal(0, sigma, n)
        fit = fit_jointly(one_bin(histogram(sample), template, 0.3), CENTRED, np.array([0.01]))
        pulls.append((fit.parameters[0] - sigma**2) / np.sqrt(fit.covariance[0, 0]))
    assert abs(np.mean(pulls)) < 0.2
    assert 0.88 < np.std(pulls) < 1.12


def test_weighted_counts_give_the_same_width_and_an_error_of_the_effective_number() -> None:
    rng = np.random.default_rng(5)
    template = np.diff(laplace(0, 0.06).cdf(EDGES))
    counts = histogram(rng.laplace(0, 0.06, 5000) + rng.normal(0, 0.1, 5000))
    plain = fit_jointly(one_bin(counts, template, 0.4), CENTRED, np.array([0.01]))
    # all weights 7: sum w^2 / sum w = 7
    weighted = fit_jointly(one_bin(7 * counts, template, 0.4, scale=7.0), CENTRED, np.array([0.01]))
    assert weighted.parameters[0] == pytest.approx(plain.parameters[0], rel=1e-4)
    assert weighted.covariance[0, 0] == pytest.approx(plain.covariance[0, 0], rel=1e-3)


def test_scoring_and_minuit_agree_on_the_minimum() -> None:
    """`refit` is Fisher scoring; Minuit without our gradient must find the same point."""
    rng = np.random.default_rng(6)
    truth = rng.laplace(0, 0.06, 20_000)
    data = one_bin(histogram(truth + rng.normal(0.01, 0.09, truth.size)), histogram(truth), 0.35)

    quick = refit(data, FREE, np.array([0.02, 0.0]), 60)
    minuit = Minuit(lambda p: _evaluate(data, FREE, p)[0], np.array([0.02, 0.0]))
    minuit.errordef = Minuit.LIKELIHOOD
    minuit.tol = 1e-4
    minuit.migrad()
    careful = fit_jointly(data, FREE, np.array([0.02, 0.0]))

    errors = np.sqrt(np.diag(quick.covariance))
    assert np.all(np.abs(quick.parameters - np.array(minuit.values)) < 0.05 * errors)
    assert np.all(np.abs(careful.parameters - np.array(minuit.values)) < 0.05 * errors)
    np.testing.assert_allclose(np.sqrt(np.diag(careful.covariance)), errors, rtol=0.05)


def test_one_parameter_serves_many_bins() -> None:
    """Eight bins with variances 1.44 x a known curve: the common factor comes back as 1.44."""
    rng = np.random.default_rng(9)
    variances = np.linspace(0.02, 0.004, 8)
    template = np.diff(laplace(0, 0.04).cdf(EDGES))
    counts = np.array(
        [histogram(rng.laplace(0, 0.04, 4000) + rng.normal(0, np.sqrt(1.44 * v), 4000)) for v in variances]
    )
    data = Distributions(counts, np.tile(template, (8, 1)), np.full(8, 75), np.full(8, 125), np.ones(8), WIDTH)
    model = VarianceModel(np.zeros(8), variances[:, None], np.zeros(8), np.zeros((8, 0)))

    fit = fit_jointly(data, model, np.array([1.0]))

    assert fit.parameters[0] == pytest.approx(1.44, abs=3.5 * np.sqrt(fit.covariance[0, 0]))
    # 32000 events: 2/sqrt(2 x 32000) = 0.8 % on the variance, more for the truth's share
    assert np.sqrt(fit.covariance[0, 0]) < 0.03


def test_the_expectation_is_normalised_to_the_counts_inside_the_window() -> None:
    counts = np.full(200, 5.0)
    data = one_bin(counts, np.diff(laplace(0, 0.04).cdf(EDGES)), 0.3)
    got = expectation(data, CENTRED, np.array([0.01]))[0]
    inside = slice(data.first[0], data.last[0])
    assert got[inside].sum() == pytest.approx(counts[inside].sum())


def test_an_empty_template_gives_nan_and_no_convergence() -> None:
    fit = fit_jointly(one_bin(np.ones(200), np.zeros(200), 0.3), CENTRED, np.array([0.01]))
    assert not fit.converged
    assert np.isnan(fit.parameters).all()
