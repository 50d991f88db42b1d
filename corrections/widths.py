"""Widths of a distribution on uniform bins, by several estimators with one signature, and the window of its core.

Every one of `ESTIMATORS` takes `(counts, variances, edges)`, sums of weights and of squared weights, (n,) each, and
gives a `Width`, the standard deviation of a Gaussian with that quantile range, RMS or core. Errors propagate the
`variances` of the bins by the derivatives of the width in their contents (influence functions), so that weights of any
size and sign count as they are, and overlapping samples know their covariance. The widening by the bins is taken out.

Negative contents keep their sign in sums. Where an ordered cumulative distribution is needed, it is the mean of the
running maximum from the left and of the running minimum from the right: setting negative contents to zero instead would
leave the positive half of their fluctuations and widen the distribution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from corrections.sample import effective_count
from processors.compiled import compiled

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FloatArray = NDArray[np.float64]
WidthStatus = Literal["ok", "empty", "few_events", "not_converged"]

# Effective events below which a moment or a quantile range, and a fit of two parameters, mean nothing.
FEWEST = 3.0
FEWEST_IN_CORE = 20.0
# Relative errors below this are what rounding leaves of zero.
ROUNDING = 1e-9
# The quantiles of -1 and +1 standard deviation of a Gaussian.
ONE_SIGMA = np.array([ndtr(-1.0), ndtr(1.0)])
# Hall-Sheather bandwidth times n^(1/3) there: 1.96^(2/3) (1.5 phi(1)^2/3)^(1/3).
BANDWIDTH = 0.483
# Rounds of the Gaussian core: the window follows what the round before found.
CORE_ROUNDS = 3
CORE_STEPS = 50
# Gain of log L per event below which a climb has arrived.
CORE_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Width:
    """A width (standard deviation) with its error; nan unless the status is "ok"."""

    value: float
    error: float
    status: WidthStatus = "ok"


@dataclass(frozen=True, slots=True)
class Core:
    """Gaussian core of a distribution: mean and width with errors."""

    mean: Width
    width: Width


@dataclass(frozen=True, slots=True)
class DetectorVariance:
    """Variance of A = (probe - reference)/pt_avg due to the detector, the physics imbalance removed.

    It is the sum of the squared resolutions of the two jets: twice the squared resolution where both lie in one |eta|
    bin. All but `replicas` have the shape of the bins that were measured together, () for one.

    Attributes
    ----------
    value
        May be negative: then the status is "negative_square" and the value is kept, so that means stay unbiased.
    variance
        Squared error of `value`.
    chi2, ndf
        Of the fit behind it; nan and 0 where nothing was fitted.
    status
        "ok", "empty", "few_events", "not_converged", "no_truth" or "negative_square".
    replicas
        `value` of bootstrap copies, (n_replicas, ...); nan where a copy could not be measured.
    """

    value: FloatArray
    variance: FloatArray
    status: NDArray[np.str_]
    replicas: FloatArray
    chi2: FloatArray = field(default_factory=lambda: np.array(np.nan))
    ndf: NDArray[np.int64] = field(default_factory=lambda: np.array(0))


@dataclass(frozen=True, slots=True)
class Estimator:
    """One way to a width; called with a histogram it gives the width with its error.

    Attributes
    ----------
    copies
        Widths alone of contents (..., n) on uniform edges, (...); nan where there is none.
    influence
        Derivative of the width in the content of each bin, (n,), from the arguments of a call that gives a width.
    fewest
        Effective events below which there is no width.
    """

    copies: Callable[[FloatArray, FloatArray], FloatArray]
    influence: Callable[[FloatArray, FloatArray, FloatArray], FloatArray]
    fewest: float = FEWEST

    def __call__(self, counts: FloatArray, variances: FloatArray, edges: FloatArray) -> Width:
        """Width of one histogram: contents and their variances (n,) on uniform `edges` (n + 1,)."""
        value = float(self.copies(counts, edges))
        status = _status(counts, variances, value, self.fewest)
        if status != "ok":
            return Width(np.nan, np.nan, status)
        error = float(np.sqrt(variances @ self.influence(counts, variances, edges) ** 2))
        # all contents in one or two bins: the width is that of the bins, and no event moves it
        if not error > ROUNDING * value:
            return Width(np.nan, np.nan, "not_converged")
        return Width(value, error)


def quantile(counts: FloatArray, edges: FloatArray, fractions: FloatArray) -> FloatArray:
    """Positions where the cumulative distribution reaches `fractions`, (..., n_fractions) for contents (..., n).

    Inside a bin the position is interpolated in the normal quantile of the cumulative distribution, which is exact for
    a Gaussian however wide the bins, and linearly beside an empty tail. nan if the contents have no positive sum.
    """
    bins, position = _crossing(_ordered_cumulative(counts), fractions, straight=False)
    return np.asarray(edges[0] + (edges[1] - edges[0]) * (bins + position))


def core_window(counts: FloatArray, edges: FloatArray, half_widths: float, *, symmetric: bool) -> tuple[int, int]:
    """Range of bins within `half_widths` times the 68.3 % half-width around the median; (0, 0) if empty.

    With `symmetric` the window is centred at zero, where the distribution is known to be symmetric by construction.
    """
    low, median, high = quantile(counts, edges, ndtr([-1.0, 0.0, 1.0]))
    if not np.isfinite(median):
        return 0, 0
    centre, reach = (0.0 if symmetric else median), half_widths * 0.5 * (high - low)
    return _window(centre, reach, edges[0], edges[1] - edges[0], len(edges) - 1)


def second_moment(
    counts: FloatArray, variances: FloatArray, edges: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mean, second central moment less w^2/12 of the bins (Sheppard), and the latter's error; (...) for (..., n).

    The error is that of the fourth moment. nan where the contents have no positive sum.
    """
    centres, width = _centres(edges)
    total = counts.sum(axis=-1)
    total = np.where(total > 0, total, np.nan)
    mean = (counts @ centres) / total
    spread = (counts @ centres**2) / total - mean**2
    pulled = (centres - mean[..., None]) ** 2 - spread[..., None]
    error = np.sqrt(np.sum(variances * pulled**2, axis=-1)) / total
    return np.asarray(mean), np.asarray(spread - width**2 / 12), np.asarray(error)


def second_moments(counts: FloatArray, edges: FloatArray) -> FloatArray:
    """Second central moments as in `second_moment`, without errors, (...) for contents (..., n)."""
    centres, width = _centres(edges)
    sums = counts @ np.stack([np.ones_like(centres), centres, centres**2], axis=1)
    total = np.where(sums[..., 0] > 0, sums[..., 0], np.nan)
    return np.asarray(sums[..., 2] / total - (sums[..., 1] / total) ** 2 - width**2 / 12)


def truncated_rms(counts: FloatArray, variances: FloatArray, edges: FloatArray, fraction: float = 0.985) -> Width:
    """RMS between the quantiles 1 - `fraction` and `fraction`, divided by what truncation leaves of a Gaussian.

    For 0.985 a Gaussian keeps 0.9112 of its width. The cuts go through bins, whose contents count as uniform.
    """
    return truncated(fraction)(counts, variances, edges)


def truncated(fraction: float) -> Estimator:
    """The estimator `truncated_rms` with its fraction fixed."""
    return Estimator(partial(_truncated, fraction=fraction), partial(_truncated_influence, fraction=fraction))


def fit_core(counts: FloatArray, variances: FloatArray, edges: FloatArray, half_widths: float = 2.5) -> Core:
    """Mean and width of the Gaussian core by a binned likelihood inside a window that follows the fit.

    The window reaches `half_widths` standard deviations to either side; truncation and bins are part of the likelihood.
    """
    mean, sigma, first, last = _fit_cores(counts[None], edges, half_widths)[0]
    status = _status(counts, variances, float(sigma), FEWEST_IN_CORE)
    if status != "ok":
        nothing = Width(np.nan, np.nan, status)
        return Core(nothing, nothing)
    influence = _core_influences(counts, edges, mean, sigma, slice(int(first), int(last)))
    errors = np.sqrt(influence**2 @ variances)
    return Core(Width(float(mean), float(errors[0])), Width(float(sigma), float(errors[1])))


def _rms(counts: FloatArray, edges: FloatArray) -> FloatArray:
    return _root(second_moments(counts, edges))


def _rms_influence(counts: FloatArray, _variances: FloatArray, edges: FloatArray) -> FloatArray:
    centres, _ = _centres(edges)
    total = counts.sum()
    squares = (centres - (counts @ centres) / total) ** 2
    return np.asarray((squares - (counts @ squares) / total) / (2 * _rms(counts, edges) * total))


def _truncated(counts: FloatArray, edges: FloatArray, fraction: float) -> FloatArray:
    bins, position = _crossing(_ordered_cumulative(counts), np.array([1 - fraction, fraction]), straight=True)
    _, spread = _moments_between(counts, edges, bins, position)
    # contents that are uniform inside their bins are wider by w^2/12 twice: by the binning and by the uniformity
    return _root(spread / _truncated_variance(fraction) - (edges[1] - edges[0]) ** 2 / 6)


def _truncated_influence(counts: FloatArray, _variances: FloatArray, edges: FloatArray, fraction: float) -> FloatArray:
    """What lies beyond the cuts counts in a moment between quantiles as if it stood there."""
    centres, width = _centres(edges)
    bins, position = _crossing(_ordered_cumulative(counts), np.array([1 - fraction, fraction]), straight=True)
    low, high = edges[0] + width * (bins + position)
    mean, _ = _moments_between(counts, edges, bins, position)
    squares = (np.clip(centres, low, high) - mean) ** 2
    squares -= (counts @ squares) / counts.sum()
    per_event = squares / ((2 * fraction - 1) * _truncated_variance(fraction))
    return np.asarray(per_event / (2 * _truncated(counts, edges, fraction) * counts.sum()))


def _interval(counts: FloatArray, edges: FloatArray) -> FloatArray:
    """Half the central 68.27 % interval."""
    ends = quantile(counts, edges, ONE_SIGMA)
    half = 0.5 * (ends[..., 1] - ends[..., 0])
    return np.where(half > 0, half, np.nan)


def _interval_influence(counts: FloatArray, variances: FloatArray, edges: FloatArray) -> FloatArray:
    """By the density at both ends of the interval: that between two quantiles, as far apart as suits the events.

    The bandwidth is that of Hall and Sheather, J. R. Stat. Soc. B 50 (1988) 381.
    """
    effective = float(effective_count(counts.sum(), variances.sum()))
    step = min(BANDWIDTH * effective ** (-1 / 3), 0.9 * float(ONE_SIGMA[0]))
    reach = quantile(counts, edges, ONE_SIGMA + step) - quantile(counts, edges, ONE_SIGMA - step)
    ends = quantile(counts, edges, ONE_SIGMA)
    below = np.clip((ends[:, None] - edges[:-1]) / (edges[1] - edges[0]), 0.0, 1.0)
    pulled = 0.5 * np.array([-1.0, 1.0]) @ (reach[:, None] / (2 * step) * (ONE_SIGMA[:, None] - below))
    return np.asarray(pulled / counts.sum())


def _core(counts: FloatArray, edges: FloatArray, half_widths: float = 2.5) -> FloatArray:
    rows = _fit_cores(counts.reshape(-1, counts.shape[-1]), edges, half_widths)
    return rows[:, 1].reshape(counts.shape[:-1])


def _core_influence(
    counts: FloatArray, _variances: FloatArray, edges: FloatArray, half_widths: float = 2.5
) -> FloatArray:
    mean, sigma, first, last = _fit_cores(counts[None], edges, half_widths)[0]
    return np.asarray(_core_influences(counts, edges, mean, sigma, slice(int(first), int(last)))[1])


def _core_influences(counts: FloatArray, edges: FloatArray, mean: float, sigma: float, window: slice) -> FloatArray:
    """Derivatives of mean and sigma in the contents, (2, n): the scores times the inverse of the information."""
    width = edges[1] - edges[0]
    probability, slopes = _core_model(mean, np.log(sigma), edges[0], width, window.start, window.stop)
    scores = slopes / probability
    information = counts[window].sum() * (scores @ slopes.T)
    result = np.zeros((2, len(counts)))
    result[:, window] = np.diag([1.0, sigma]) @ np.linalg.inv(information) @ scores
    return result


ESTIMATORS: Mapping[str, Estimator] = {
    "truncated_rms": truncated(0.985),
    "gaussian_core": Estimator(_core, _core_influence, FEWEST_IN_CORE),
    "interval_68": Estimator(_interval, _interval_influence),
    "rms": Estimator(_rms, _rms_influence),
}


def _status(counts: FloatArray, variances: FloatArray, value: float, fewest: float) -> WidthStatus:
    if not counts.any():
        return "empty"
    if effective_count(counts.sum(), variances.sum()) < fewest:
        return "few_events"
    return "ok" if np.isfinite(value) else "not_converged"


def _root(square: FloatArray) -> FloatArray:
    return np.sqrt(np.where(square > 0, square, np.nan))


def _centres(edges: FloatArray) -> tuple[FloatArray, float]:
    return 0.5 * (edges[1:] + edges[:-1]), float(edges[1] - edges[0])


def _truncated_variance(fraction: float) -> float:
    """Variance of a unit Gaussian between its quantiles 1 - `fraction` and `fraction`: 1 - 2 z phi(z)/(2 f - 1)."""
    cut = float(ndtri(fraction))
    return 1 - 2 * cut * math.exp(-0.5 * cut**2) / math.sqrt(2 * math.pi) / (2 * fraction - 1)


def _ordered_cumulative(counts: FloatArray) -> FloatArray:
    """Cumulative distribution at the edges, (..., n + 1), never falling; nan if the sum is not positive."""
    flat = np.ascontiguousarray(counts, dtype=np.float64).reshape(-1, counts.shape[-1])
    return _cumulate(flat).reshape(*counts.shape[:-1], counts.shape[-1] + 1)


def _crossing(cumulative: FloatArray, fractions: FloatArray, *, straight: bool) -> tuple[NDArray[np.int64], FloatArray]:
    """Bin in which `cumulative` (..., n + 1) reaches each fraction and how far inside, (..., n_fractions) each.

    Inside the bin it rises along a `straight` line or along a Gaussian's cumulative distribution.
    """
    upper = _first_above(cumulative.reshape(-1, cumulative.shape[-1]), fractions)
    upper = upper.reshape(*cumulative.shape[:-1], len(fractions))
    below = np.take_along_axis(cumulative, upper - 1, axis=-1)
    above = np.take_along_axis(cumulative, upper, axis=-1)
    goal = np.broadcast_to(fractions, below.shape)
    if not straight:
        curved = (below > 0) & (above < 1)
        below, above, goal = (np.where(curved, ndtri(np.where(curved, x, 0.5)), x) for x in (below, above, goal))
    rise = np.where(above > below, above - below, 1.0)
    return upper - 1, np.clip((goal - below) / rise, 0.0, 1.0)


def _moments_between(
    counts: FloatArray, edges: FloatArray, bins: NDArray[np.int64], position: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Mean and second central moment between two cuts, (...), contents (..., n) taken as uniform inside bins.

    The cuts lie in `bins` (..., 2), the fraction `position` of a bin above its lower edge.
    """
    flat = np.ascontiguousarray(counts, dtype=np.float64).reshape(-1, counts.shape[-1])
    moments = _sums_between(flat, edges, bins.reshape(-1, 2), position.reshape(-1, 2))
    moments = moments.reshape(*counts.shape[:-1], 3)
    total = np.where(moments[..., 0] > 0, moments[..., 0], np.nan)
    mean = moments[..., 1] / total
    return mean, moments[..., 2] / total - mean**2


def _fit_cores(counts: FloatArray, edges: FloatArray, half_widths: float) -> FloatArray:
    """Mean, width and window (first, last) of the cores of many histograms, (n_rows, 4); nan where it failed."""
    low, median, high = quantile(counts, edges, ndtr(np.array([-1.0, 0.0, 1.0]))).T
    start = np.stack([median, 0.5 * (high - low)], axis=1)
    result = np.full((len(counts), 4), np.nan)
    usable = np.flatnonzero(np.all(np.isfinite(start), axis=1) & (start[:, 1] > 0))
    for row in usable:
        result[row] = _fit_core(
            np.ascontiguousarray(counts[row], dtype=np.float64), start[row], edges[0], edges[1] - edges[0], half_widths
        )
    return result


@compiled
def _cumulate(counts: FloatArray) -> FloatArray:
    """See `_ordered_cumulative`, (n_rows, n + 1)."""
    n = counts.shape[1]
    result = np.zeros((len(counts), n + 1))
    for row in range(len(counts)):
        total = 0.0
        falls = False
        for b in range(n):
            total += counts[row, b]
            falls = falls or counts[row, b] < 0.0
            result[row, b + 1] = total
        if not total > 0.0:
            result[row] = np.nan
            continue
        if falls:
            _order(result[row])
        result[row] /= total
    return result


@compiled
def _order(values: FloatArray) -> None:
    """Replace `values` by the mean of their running maximum from the left and running minimum from the right."""
    maximum = np.empty(len(values))
    highest = values[0]
    for i in range(len(values)):
        highest = max(highest, values[i])
        maximum[i] = highest
    lowest = values[-1]
    for i in range(len(values) - 1, -1, -1):
        lowest = min(lowest, values[i])
        values[i] = 0.5 * (lowest + maximum[i])


@compiled
def _first_above(cumulative: FloatArray, fractions: FloatArray) -> NDArray[np.int64]:
    """Index of the first edge, not the lowest, where each row reaches each fraction, (n_rows, n_fractions)."""
    result = np.empty((len(cumulative), len(fractions)), dtype=np.int64)
    for row in range(len(cumulative)):
        for k in range(len(fractions)):
            edge = 1
            while edge < cumulative.shape[1] - 1 and cumulative[row, edge] < fractions[k]:
                edge += 1
            result[row, k] = edge
    return result


@compiled
def _sums_between(counts: FloatArray, edges: FloatArray, bins: NDArray[np.int64], position: FloatArray) -> FloatArray:
    """Integrals of 1, x and x^2 between the two cuts of each row, (n_rows, 3)."""
    width = edges[1] - edges[0]
    result = np.zeros((len(counts), 3))
    for row in range(len(counts)):
        for b in range(bins[row, 0], bins[row, 1] + 1):
            start = position[row, 0] if b == bins[row, 0] else 0.0
            stop = position[row, 1] if b == bins[row, 1] else 1.0
            share = counts[row, b] * (stop - start)
            middle = edges[b] + 0.5 * (start + stop) * width
            result[row, 0] += share
            result[row, 1] += share * middle
            result[row, 2] += share * (middle**2 + ((stop - start) * width) ** 2 / 12)
    return result


@compiled
def _window(centre: float, reach: float, origin: float, width: float, n_bins: int) -> tuple[int, int]:
    """Bins [first, last) within `reach` of `centre`, cut to the histogram, at least one."""
    first = math.floor((centre - reach - origin) / width + 0.5)
    last = math.ceil((centre + reach - origin) / width - 0.5)
    first = max(min(first, n_bins - 1), 0)
    return first, min(max(last, first + 1), n_bins)


@compiled
def _core_model(
    mean: float, log_sigma: float, origin: float, width: float, first: int, last: int
) -> tuple[FloatArray, FloatArray]:
    """Probability of each bin of the window, (n,), and its derivatives in mean and log(sigma), (2, n)."""
    sigma = math.exp(log_sigma)
    n = last - first
    probability, slopes = np.zeros(n), np.zeros((2, n))
    z = (origin + first * width - mean) / sigma
    cdf, density = 0.5 * math.erfc(-z / math.sqrt(2.0)), math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    for b in range(n):
        z_next = (origin + (first + b + 1) * width - mean) / sigma
        cdf_next = 0.5 * math.erfc(-z_next / math.sqrt(2.0))
        density_next = math.exp(-0.5 * z_next * z_next) / math.sqrt(2.0 * math.pi)
        probability[b] = max(cdf_next - cdf, 1e-300)
        slopes[0, b] = -(density_next - density) / sigma
        slopes[1, b] = -(z_next * density_next - z * density)
        z, cdf, density = z_next, cdf_next, density_next
    total, drift = probability.sum(), slopes.sum(axis=1)
    for b in range(n):
        probability[b] /= total
        for k in range(2):
            slopes[k, b] = slopes[k, b] / total - probability[b] * drift[k] / total
    return probability, slopes


@compiled
def _core_likelihood(counts: FloatArray, probability: FloatArray) -> float:
    nll = 0.0
    for b in range(len(probability)):
        nll -= counts[b] * math.log(probability[b])
    return nll


@compiled
def _climb(
    counts: FloatArray, start: FloatArray, origin: float, width: float, first: int, last: int
) -> tuple[FloatArray, bool]:
    """Mean and log(sigma) of the highest likelihood inside the window by Fisher scoring, and whether it was found."""
    inside = counts[first:last]
    total = inside.sum()
    parameters = start.copy()
    probability, slopes = _core_model(parameters[0], parameters[1], origin, width, first, last)
    nll = _core_likelihood(inside, probability)
    for _ in range(CORE_STEPS):
        score, information = np.zeros(2), np.zeros((2, 2))
        for b in range(last - first):
            for k in range(2):
                score[k] += inside[b] * slopes[k, b] / probability[b]
                for m in range(2):
                    information[k, m] += total * slopes[k, b] * slopes[m, b] / probability[b]
        determinant = information[0, 0] * information[1, 1] - information[0, 1] ** 2
        if not (total > 0.0 and determinant > 1e-12 * information[0, 0] * information[1, 1]):
            return parameters, False
        step = np.array(
            [
                (information[1, 1] * score[0] - information[0, 1] * score[1]) / determinant,
                (information[0, 0] * score[1] - information[1, 0] * score[0]) / determinant,
            ]
        )
        gain = step[0] * score[0] + step[1] * score[1]
        fraction = min(1.0, 0.5 / max(abs(step[1]), 1e-300))
        for _halving in range(12):
            trial = parameters + fraction * step
            probability, slopes = _core_model(trial[0], trial[1], origin, width, first, last)
            trial_nll = _core_likelihood(inside, probability)
            if trial_nll <= nll + 1e-12 * abs(nll):
                break
            fraction *= 0.5
        parameters, nll = trial, trial_nll
        if gain < CORE_TOLERANCE * total:
            return parameters, True
    return parameters, False


@compiled
def _fit_core(
    counts: FloatArray, start: FloatArray, origin: float, width: float, half_widths: float
) -> tuple[float, float, int, int]:
    """Mean, sigma and window of one core; nan where it did not converge or grew beyond the histogram."""
    n_bins = len(counts)
    parameters = np.array([start[0], math.log(start[1])])
    first, last = 0, 0
    for _ in range(CORE_ROUNDS):
        first, last = _window(parameters[0], half_widths * math.exp(parameters[1]), origin, width, n_bins)
        if last - first < 4:
            return np.nan, np.nan, first, last
        parameters, converged = _climb(counts, parameters, origin, width, first, last)
        inside = origin < parameters[0] < origin + n_bins * width
        if not (converged and inside and math.exp(parameters[1]) < n_bins * width):
            return np.nan, np.nan, first, last
    return parameters[0], math.exp(parameters[1]), first, last
