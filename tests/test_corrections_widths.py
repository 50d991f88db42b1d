"""Single widths against numpy and the Gaussian."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from corrections.widths import core_window, gaussian_core, quantile, truncated_rms

EDGES = np.linspace(-2, 2, 401)


def gaussian(sigma: float, mean: float = 0.0) -> np.ndarray:
    return np.asarray(1e6 * np.diff(norm.cdf(EDGES, mean, sigma)))


def test_quantiles_agree_with_those_of_the_events() -> None:
    values = np.random.default_rng(1).normal(0.1, 0.3, 200_000)
    got = quantile(np.histogram(values, EDGES)[0].astype(float), EDGES, np.array([0.1, 0.5, 0.9]))
    np.testing.assert_allclose(got, np.quantile(values, [0.1, 0.5, 0.9]), atol=2e-3)


def test_quantiles_of_nothing_are_nan() -> None:
    assert np.isnan(quantile(np.zeros(400), EDGES, np.array([0.5]))).all()


@pytest.mark.parametrize("sigma", [0.05, 0.15, 0.3])
@pytest.mark.parametrize("fraction", [0.985, 0.95])
def test_truncated_rms_of_a_gaussian_is_its_sigma(sigma: float, fraction: float) -> None:
    counts = gaussian(sigma)
    # bins of 0.01 widen the narrowest Gaussian by 0.17 %
    assert truncated_rms(counts, counts, EDGES, fraction).value == pytest.approx(sigma, rel=5e-3)


def test_the_truncated_gaussian_keeps_the_published_fraction_of_its_width() -> None:
    """0.9112 for 1.5 % cut on each side: the bias of an uncorrected truncated RMS."""
    values = np.random.default_rng(2).normal(0, 1, 4_000_000)
    low, high = np.quantile(values, [0.015, 0.985])
    raw = values[(values > low) & (values < high)].std()
    counts = np.histogram(0.2 * values, EDGES)[0].astype(float)
    assert raw == pytest.approx(0.9112, abs=1e-3)
    assert truncated_rms(counts, counts, EDGES).value == pytest.approx(0.2, rel=3e-3)


def test_the_error_follows_the_effective_number_of_events() -> None:
    counts = gaussian(0.2)
    width = truncated_rms(counts, 4 * counts, EDGES)
    # 1e6 events of weight 4 would have variances 4 x counts: 250000 effective ones
    assert width.error / width.value == pytest.approx(1 / np.sqrt(2 * 250_000), rel=0.01)


def test_two_events_have_no_width() -> None:
    counts = np.zeros(400)
    counts[[190, 210]] = 1
    assert np.isnan(truncated_rms(counts, counts, EDGES).value)


def test_a_symmetric_window_is_centred_at_zero() -> None:
    first, last = core_window(gaussian(0.1, 0.03), EDGES, 2.5, symmetric=True)
    assert EDGES[first] == pytest.approx(-EDGES[last])
    assert EDGES[last] == pytest.approx(0.25, abs=0.02)


def test_an_empty_distribution_has_an_empty_window() -> None:
    assert core_window(np.zeros(400), EDGES, 2.5, symmetric=False) == (0, 0)


@pytest.mark.parametrize(("mean", "sigma"), [(0.0, 0.05), (0.21, 0.1), (-0.4, 0.2)])
def test_gaussian_core_gives_mean_and_width(mean: float, sigma: float) -> None:
    counts = gaussian(sigma, mean)
    core = gaussian_core(counts, counts, EDGES, 2.0)
    assert core.mean.value == pytest.approx(mean, abs=1e-4)
    assert core.width.value == pytest.approx(sigma, rel=1e-3)


def test_far_tails_do_not_pull_the_core() -> None:
    """3 % of events 8 sigma away change an RMS by a factor 1.7 and the core by less than 3 %."""
    counts = 0.97 * gaussian(0.05) + 0.03 * gaussian(0.05, 0.4)
    assert gaussian_core(counts, counts, EDGES, 2.0).width.value == pytest.approx(0.05, rel=0.03)


def test_a_handful_of_events_gives_nan() -> None:
    counts = gaussian(0.1) / 1e6 * 15
    assert np.isnan(gaussian_core(counts, counts, EDGES, 2.0).width.value)
