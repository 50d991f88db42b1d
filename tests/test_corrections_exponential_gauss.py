"""The smooth truth asymmetry against a numerical convolution and toys."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad

from corrections.exponential_gauss import cumulative, density, smooth_template

EDGES = np.linspace(-2, 2, 201)


def events(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.asarray(rng.laplace(0, 0.04, n) + rng.normal(0.01, 0.03, n))


def expected(n: float) -> np.ndarray:
    return np.asarray(n * np.diff(cumulative(EDGES, 0.01, 0.03, 0.04)))


@pytest.mark.parametrize(("sigma", "tau"), [(0.02, 0.05), (0.05, 0.02), (0.1, 0.001), (0.001, 0.1), (0.03, 0.03)])
@pytest.mark.parametrize("x", [0.0, 0.03, -0.1, 0.4])
def test_the_density_is_the_convolution(sigma: float, tau: float, x: float) -> None:
    def integrand(t: float) -> float:
        z = (x - 0.01 - t) / sigma
        return float(np.exp(-abs(t) / tau - 0.5 * z * z) / (2 * tau * sigma * np.sqrt(2 * np.pi)))

    cuts = np.unique([-2, -10 * tau, 0, 10 * tau, 2, x - 0.01, x - 0.01 - 6 * sigma, x - 0.01 + 6 * sigma])
    total = sum(quad(integrand, a, b, epsabs=1e-14, limit=200)[0] for a, b in pairwise(cuts))
    assert float(density(np.array(x), 0.01, sigma, tau)) == pytest.approx(total, rel=1e-8)


def test_the_cumulative_is_the_integral_of_the_density() -> None:
    total = quad(lambda x: float(density(np.array(x), 0.01, 0.03, 0.05)), -2, 0.1, points=[0.0], limit=200)[0]
    assert float(cumulative(np.array(0.1), 0.01, 0.03, 0.05)) == pytest.approx(total, rel=1e-9)


def test_extreme_widths_overflow_nowhere() -> None:
    x = np.array([-2.0, 0.0, 2.0])
    for sigma, tau in ((1e-4, 2.0), (2.0, 1e-4), (1e-4, 1e-4)):
        assert np.all(np.isfinite(density(x, 0.0, sigma, tau)))


def test_the_template_of_few_events_is_nearer_the_truth_than_their_histogram() -> None:
    counts = np.histogram(events(300, 1), EDGES)[0].astype(float)
    template, status = smooth_template(counts, counts, EDGES)
    assert status == "ok"
    assert template.sum() == pytest.approx(300)
    assert np.abs(template - expected(300)).sum() < 0.5 * np.abs(counts - expected(300)).sum()


def test_many_events_give_the_curve_they_came_from() -> None:
    counts = np.histogram(events(300_000, 2), EDGES)[0].astype(float)
    template, _ = smooth_template(counts, counts, EDGES)
    chi2 = np.sum((template - expected(counts.sum())) ** 2 / np.maximum(expected(counts.sum()), 1))
    # three parameters were fitted
    assert chi2 < 16


def test_negative_weights_are_followed() -> None:
    values = events(40_000, 3)
    weights = np.where(np.random.default_rng(4).random(len(values)) < 0.2, -1.0, 1.0)
    counts = np.histogram(values, EDGES, weights=weights)[0]
    template, status = smooth_template(counts, np.histogram(values, EDGES)[0].astype(float), EDGES)
    assert status == "ok"
    assert np.abs(template - expected(counts.sum())).sum() < 0.03 * counts.sum()


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_pure_gaussians_and_spikes_are_limits_not_failures(scale: float) -> None:
    counts = np.histogram(np.random.default_rng(5).normal(0.005, 0.03 * min(scale, 1), 2000), EDGES)[0].astype(float)
    template, status = smooth_template(counts, counts, EDGES)
    assert status == "ok"
    assert np.abs(template - counts).sum() < 0.2 * counts.sum()


@pytest.mark.parametrize(
    ("counts", "status"), [(np.zeros(200), "empty"), (np.eye(200)[100], "few_events"), (-np.ones(200), "few_events")]
)
def test_nothing_to_fit_says_so(counts: np.ndarray, status: str) -> None:
    template, found = smooth_template(counts, np.abs(counts), EDGES)
    assert found == status
    assert not template.any()
