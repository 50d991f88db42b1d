"""Single widths: core windows, truncated RMS with its bias removed, and the core of a response distribution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, truncnorm

from corrections.sample import effective_count
from corrections.template_fit import Distributions, VarianceModel, fit_jointly

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Width:
    """A width (standard deviation) with its error; nan where it cannot be had."""

    value: float
    error: float


def quantile(counts: FloatArray, edges: FloatArray, fractions: FloatArray) -> FloatArray:
    """Positions where the cumulative distribution reaches `fractions`, linear inside a bin, nan if nothing is there.

    Negative contents (negative weights) count as zero.
    """
    cumulative = np.concatenate([[0.0], np.cumsum(np.maximum(counts, 0.0))])
    if cumulative[-1] <= 0:
        return np.full(np.shape(fractions), np.nan)
    rising = np.concatenate([[True], np.diff(cumulative) > 0])
    # keep the lower edge of each run of empty bins, so that the inverse is defined
    return np.asarray(np.interp(fractions, cumulative[rising] / cumulative[-1], edges[rising]))


def core_window(counts: FloatArray, edges: FloatArray, half_widths: float, *, symmetric: bool) -> tuple[int, int]:
    """Range of bins within `half_widths` times the 68.3 % half-width around the median; (0, 0) if empty.

    With `symmetric` the window is centred at zero, where the distribution is known to be symmetric by construction.
    """
    low, median, high = quantile(counts, edges, norm.cdf([-1.0, 0.0, 1.0]))
    if not np.isfinite(median):
        return 0, 0
    centre, reach = (0.0 if symmetric else median), half_widths * 0.5 * (high - low)
    width = edges[1] - edges[0]
    first = int(np.floor((centre - reach - edges[0]) / width + 0.5))
    last = int(np.ceil((centre + reach - edges[0]) / width - 0.5))
    n_bins = len(edges) - 1
    first, last = max(min(first, n_bins - 1), 0), min(max(last, first + 1), n_bins)
    return first, last


def truncated_rms(counts: FloatArray, variances: FloatArray, edges: FloatArray, fraction: float = 0.985) -> Width:
    """RMS between the quantiles 1 - `fraction` and `fraction`, divided by what truncation leaves of a Gaussian.

    The quantiles cut inside bins (contents taken as uniform there). For 0.985 the Gaussian keeps 0.9112 of its width.
    The error is that of a Gaussian of the effective number of events.
    """
    low, high = quantile(counts, edges, np.array([1 - fraction, fraction]))
    effective = float(effective_count(counts.sum(), variances.sum()))
    if not high > low or effective <= 2:
        return Width(np.nan, np.nan)
    lower, upper = np.clip(edges[:-1], low, high), np.clip(edges[1:], low, high)
    share = np.maximum(counts, 0.0) * (upper - lower) / np.diff(edges)
    middle = 0.5 * (lower + upper)
    mean = np.sum(share * middle) / share.sum()
    spread = np.sum(share * ((middle - mean) ** 2 + (upper - lower) ** 2 / 12)) / share.sum()
    cut = norm.ppf(fraction)
    value = float(np.sqrt(spread) / truncnorm.std(-cut, cut))
    return Width(value, value / np.sqrt(2 * effective))


@dataclass(frozen=True, slots=True)
class Core:
    """Gaussian core of a distribution: mean and width with errors; nan if it did not converge."""

    mean: Width
    width: Width


def gaussian_core(
    counts: FloatArray, variances: FloatArray, edges: FloatArray, half_widths: float, rounds: int = 3
) -> Core:
    """Mean and width of the Gaussian core by a likelihood fit inside the window, iterated around what was found.

    Uniform bins only. The window is `half_widths` wide on either side; the truncation is part of the likelihood.
    """
    nothing = Core(Width(np.nan, np.nan), Width(np.nan, np.nan))
    first, last = core_window(counts, edges, half_widths, symmetric=False)
    width, n_bins = edges[1] - edges[0], len(edges) - 1
    total, variance = counts.sum(), variances.sum()
    if last - first < 4 or effective_count(total, variance) < 20:
        return nothing
    origin = n_bins // 2
    spike = np.zeros((1, n_bins))
    spike[0, origin] = 1.0
    anchor = edges[origin] + width / 2
    model = VarianceModel(np.zeros(1), np.ones((1, 1)), np.zeros(1), np.ones((1, 1)))
    low, median, high = quantile(counts, edges, norm.cdf([-1.0, 0.0, 1.0]))
    parameters = np.array([((high - low) / 2) ** 2, median - anchor])
    for _ in range(rounds):
        window = Distributions(
            np.maximum(counts, 0.0)[None],
            spike,
            np.array([first]),
            np.array([last]),
            np.array([variance / total]),
            width,
        )
        fit = fit_jointly(window, model, parameters)
        # the spike is a point: the correction for a binned template does not apply
        sigma2 = fit.parameters[0] - width**2 / 12
        if not fit.converged or not sigma2 > 0:
            return nothing
        parameters = fit.parameters
        sigma, mean = float(np.sqrt(sigma2)), float(anchor + fit.parameters[1])
        first = max(int(np.floor((mean - half_widths * sigma - edges[0]) / width + 0.5)), 0)
        last = min(int(np.ceil((mean + half_widths * sigma - edges[0]) / width - 0.5)), n_bins)
    sigma_error = float(np.sqrt(fit.covariance[0, 0]) / (2 * sigma))
    return Core(Width(mean, float(np.sqrt(fit.covariance[1, 1]))), Width(sigma, sigma_error))
