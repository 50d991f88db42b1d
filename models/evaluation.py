"""How good calibrated jets are: response and resolution against truth, and what dijets see of it.

Pure functions of arrays; all momenta in GeV. Jets are to be chosen by truth, not by what was reconstructed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Float64Array = NDArray[np.float64]
Int64Array = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

CORE = 1.5
"""The core of a response is what lies within so many of its own widths."""
_ROUNDS = 60
MIN_ENTRIES = 30
_DENSITY = math.exp(-0.5 * CORE**2) / math.sqrt(2 * math.pi)
_INSIDE = math.erf(CORE / math.sqrt(2))
# Variance of a unit normal within +-CORE, and what the self-consistent mean and width of a core cost in statistics.
_VARIANCE = 1 - 2 * CORE * _DENSITY / _INSIDE
_MEAN_COST = 1 / math.sqrt(_INSIDE * _VARIANCE)
_FOURTH = 3 * _INSIDE - 2 * _DENSITY * (CORE**3 + 3 * CORE)
_WIDTH_COST = 1 / math.sqrt(_FOURTH - 2 * _VARIANCE * _INSIDE * _VARIANCE + _VARIANCE**2 * _INSIDE)


class Core(NamedTuple):
    """Gaussian core of a distribution with statistical errors; nan where it could not be found.

    `entries` is the effective number (sum w)^2 / sum w^2.
    """

    mean: float
    width: float
    mean_error: float
    width_error: float
    entries: float


NO_CORE = Core(math.nan, math.nan, math.nan, math.nan, 0.0)


def gaussian_core(values: Float64Array, weights: Float64Array | None = None) -> Core:
    """Mean and width of the normal distribution that fits `values` (n,) within +-1.5 of its own widths.

    Found by iteration of the truncated moments, without bins, which for a normal distribution gives its mean and width.
    The errors are those of this estimator for a normal distribution.
    """
    weights = np.ones(len(values)) if weights is None else weights
    used = np.isfinite(values) & (weights > 0)
    values, weights = values[used], weights[used]
    if len(values) < 2:
        return NO_CORE
    entries = float(weights.sum() ** 2 / np.square(weights).sum())
    if entries < MIN_ENTRIES:
        return NO_CORE
    order = np.argsort(values)
    values, weights = values[order], weights[order]
    sums = np.concatenate([[np.zeros(3)], np.cumsum(weights[:, None] * values[:, None] ** np.arange(3), axis=0)])
    low, middle, high = np.interp([0.16, 0.5, 0.84], sums[1:, 0] / sums[-1, 0], values)
    mean, width = float(middle), 0.5 * float(high - low)
    for _ in range(_ROUNDS):
        first, last = np.searchsorted(values, (mean - CORE * width, mean + CORE * width))
        total, linear, square = sums[last] - sums[first]
        if last - first < 2 or total <= 0:
            return NO_CORE
        new_mean = linear / total
        new_width = math.sqrt(max(square / total - new_mean**2, 0.0) / _VARIANCE)
        change = abs(new_mean - mean) + abs(new_width - width)
        mean, width = float(new_mean), new_width
        if change < 1e-6 * width:
            break
    root = math.sqrt(entries)
    return Core(mean, width, _MEAN_COST * width / root, _WIDTH_COST * width / root, entries)


@dataclass(frozen=True, slots=True)
class ResponseMap:
    """Response pt_calibrated/pt_true in bins of truth, (n_eta, n_pt) each; nan where a bin has too little.

    Attributes
    ----------
    mean, mean_error
        Gaussian core.
    average, average_error
        Plain mean, tails included.
    width, width_error
        Width of the core.
    slope, slope_error
        d<pt_calibrated>/d pt_true from bin to bin; below 1 it fakes a narrow response.
    entries
        Effective number of jets.
    """

    mean: Float64Array
    mean_error: Float64Array
    average: Float64Array
    average_error: Float64Array
    width: Float64Array
    width_error: Float64Array
    slope: Float64Array
    slope_error: Float64Array
    entries: Float64Array

    @property
    def resolution(self) -> Float64Array:
        """Width over slope: the resolution of the true pT that jets of one response would have."""
        return self.width / self.slope

    @property
    def resolution_error(self) -> Float64Array:
        """Statistical error of `resolution`, from the width and the slope."""
        return np.abs(self.resolution) * np.hypot(self.width_error / self.width, self.slope_error / self.slope)

    def as_lists(self) -> dict[str, list[list[float | None]]]:
        """Plain numbers for JSON, None for nan."""
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        columns |= {"resolution": self.resolution, "resolution_error": self.resolution_error}
        return {name: [[_or_none(v) for v in row] for row in values] for name, values in columns.items()}


def response_map(
    calibrated: Float64Array,
    truth: Float64Array,
    abs_eta: Float64Array,
    edges: tuple[Sequence[float], Sequence[float]],
    weights: Float64Array | None = None,
) -> ResponseMap:
    """Response of jets (n,) in bins of |eta| and pT of truth, `edges` in this order."""
    weights = np.ones(len(truth)) if weights is None else weights
    shape = (len(edges[0]) - 1, len(edges[1]) - 1)
    columns = {field.name: np.full(shape, np.nan) for field in fields(ResponseMap)}
    middle = np.full(shape, np.nan)
    place = _cell(abs_eta, truth, edges)
    order = np.argsort(place, kind="stable")
    bounds = np.searchsorted(place[order], np.arange(shape[0] * shape[1] + 1))
    for cell in range(shape[0] * shape[1]):
        chosen = order[bounds[cell] : bounds[cell + 1]]
        at = np.unravel_index(cell, shape)
        _fill(columns, at, calibrated[chosen] / truth[chosen], weights[chosen])
        if len(chosen) and weights[chosen].sum() > 0:
            middle[at] = np.average(truth[chosen], weights=weights[chosen])
    for i, at_pt in enumerate(middle):
        columns["slope"][i], columns["slope_error"][i] = _slope(at_pt, columns["mean"][i], columns["mean_error"][i])
    return ResponseMap(**columns)


def reweighted(truth: Float64Array, weights: Float64Array, power: float, reference: float = 100.0) -> Float64Array:
    """Weights of another spectrum, times (pt_true/reference)^power."""
    return weights * (truth / reference) ** power


@dataclass(frozen=True, slots=True)
class InSituGain:
    """What a calibration does to the asymmetry of dijets.

    Attributes
    ----------
    before, after, truth
        Widths of the asymmetry of uncalibrated, calibrated and truth jets of the same events; truth is nan for data.
    ratio, ratio_error
        After over before, and its bootstrap error.
    share, share_error
        (before^2 - after^2)/(before^2 - truth^2): of what the detector adds, the part that is removed.
    events
        Pairs.
    """

    before: float
    after: float
    truth: float
    ratio: float
    ratio_error: float
    share: float
    share_error: float
    events: int


def in_situ_gain(
    before: Float64Array,
    after: Float64Array,
    truth: Float64Array | None,
    weights: Float64Array,
    replicas: int = 100,
    seed: int = 1,
) -> InSituGain:
    """Gain from asymmetries (n,) of the same pairs.

    Widths are standard deviations within three widths of the uncalibrated asymmetry, the same window for all, since
    only variances may be subtracted. Calibrated asymmetries are to have the same mean response.
    """
    core = _sigma68(before, weights)
    inside = np.abs(before) < 3 * core
    columns = [before, after] if truth is None else [before, after, truth]
    inside &= np.all([np.isfinite(each) & (np.abs(each) < 4 * core) for each in columns], axis=0)
    n = int(np.count_nonzero(inside))
    if n < MIN_ENTRIES:
        return InSituGain(math.nan, math.nan, math.nan, math.nan, math.nan, math.nan, math.nan, n)
    rows, weights = np.column_stack(columns)[inside], weights[inside]
    central = _variances(rows, weights)
    rng = np.random.default_rng(seed)
    drawn = np.array([_variances(rows, weights * rng.poisson(1.0, n)) for _ in range(replicas)])
    ratio, share = _ratio_and_share(central[None, :])
    ratios, shares = _ratio_and_share(drawn)
    widths = [float(width) for width in np.sqrt(central)] + [math.nan]
    return InSituGain(
        before=widths[0],
        after=widths[1],
        truth=widths[2],
        ratio=float(ratio[0]),
        ratio_error=float(np.std(ratios)),
        share=float(share[0]),
        share_error=float(np.std(shares)),
        events=n,
    )


def pull_core(calibrated: Float64Array, truth: Float64Array, width: Float64Array, weights: Float64Array | None) -> Core:
    """Core of (pt_calibrated - pt_true) / (width pt_true); `width` (n,) is the predicted relative one."""
    return gaussian_core((calibrated / truth - 1.0) / width, weights)


def asymmetries(first: Float64Array, second: Float64Array) -> Float64Array:
    """2 (a - b)/(a + b) of pairs (n,)."""
    return np.asarray(2 * (first - second) / (first + second))


def summary(
    maps: Mapping[str, ResponseMap], pt_edges: Sequence[float], eta_edges: Sequence[float]
) -> dict[str, dict[str, float]]:
    """Per calibration: worst closure and mean gain in resolution over "none" in the regions that count."""
    return {name: _told(each, maps["none"], pt_edges, eta_edges) for name, each in maps.items()}


def gain(better: ResponseMap, worse: ResponseMap, chosen: BoolArray) -> tuple[float, float]:
    """Mean relative gain in resolution over chosen bins, and its error as if both were independent.

    It is the logarithm of the ratio that is averaged: errors of ratios grow with them, which would favour low ones.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        log_ratio = np.log(better.resolution / worse.resolution)
        error = np.hypot(*(np.abs(each.resolution_error / each.resolution) for each in (better, worse)))
    used = chosen & np.isfinite(log_ratio) & np.isfinite(error) & (error > 0)
    if not used.any():
        return math.nan, math.nan
    weight = 1 / error[used] ** 2
    ratio = math.exp(float(np.average(log_ratio[used], weights=weight)))
    return 1 - ratio, ratio / math.sqrt(float(weight.sum()))


def closure_failures(found: ResponseMap, tolerance: Float64Array) -> BoolArray:
    """Bins whose core mean is off by more than `tolerance` and by more than two standard errors."""
    off = np.abs(found.mean - 1)
    with np.errstate(invalid="ignore"):
        return np.asarray((off > tolerance) & (off > 2 * found.mean_error))


def tolerances(pt_edges: Sequence[float], eta_edges: Sequence[float]) -> Float64Array:
    """0.5 % above 60 GeV below |eta| 2.5, else 1 %, (n_eta, n_pt)."""
    strict = (np.array(eta_edges[1:])[:, None] <= 2.5) & (np.array(pt_edges[:-1]) >= 60)
    return np.where(strict, 0.005, 0.01)


def _told(
    found: ResponseMap, plain: ResponseMap, pt_edges: Sequence[float], eta_edges: Sequence[float]
) -> dict[str, float]:
    low_pt, high_eta = np.array(pt_edges[:-1]), np.array(eta_edges[1:])[:, None]
    central, hard = high_eta <= 0.8, low_pt >= 100
    gains = {
        "central": central & hard,
        "tracker": (high_eta <= 2.5) & (low_pt >= 60),
        "forward": (high_eta > 2.5) & (low_pt >= 30),
    }
    told = {}
    for word, chosen in gains.items():
        told[f"gain_{word}"], told[f"gain_{word}_error"] = gain(found, plain, np.broadcast_to(chosen, found.mean.shape))
    limit = tolerances(pt_edges, eta_edges)
    strict = np.isfinite(found.mean) & (limit < 0.01)
    told["worst_closure"] = float(np.max(np.abs(found.mean - 1)[strict])) if strict.any() else math.nan
    told["bins_off"] = float(np.count_nonzero(closure_failures(found, limit)))
    told["bins"] = float(np.count_nonzero(np.isfinite(found.mean)))
    return told


def _cell(abs_eta: Float64Array, truth: Float64Array, edges: tuple[Sequence[float], Sequence[float]]) -> Int64Array:
    """Flat bin of each jet, beyond the last for one outside."""
    shape = (len(edges[0]) - 1, len(edges[1]) - 1)
    eta, pt = (np.searchsorted(e, v, side="right") - 1 for e, v in zip(edges, (abs_eta, truth), strict=True))
    inside = (eta >= 0) & (eta < shape[0]) & (pt >= 0) & (pt < shape[1])
    return np.where(inside, eta * shape[1] + pt, shape[0] * shape[1]).astype(np.int64)


def _fill(
    columns: Mapping[str, Float64Array], at: tuple[np.intp, ...], response: Float64Array, weights: Float64Array
) -> None:
    core = gaussian_core(response, weights)
    columns["entries"][at] = core.entries
    if not math.isfinite(core.mean):
        return
    average = np.average(response, weights=weights)
    spread = math.sqrt(np.average((response - average) ** 2, weights=weights))
    values = (core.mean, core.width, core.mean_error, core.width_error, average, spread / math.sqrt(core.entries))
    names = ("mean", "width", "mean_error", "width_error", "average", "average_error")
    for name, value in zip(names, values, strict=True):
        columns[name][at] = value


def _slope(pt: Float64Array, response: Float64Array, error: Float64Array) -> tuple[Float64Array, Float64Array]:
    """d(pt R)/d pt = R + dR/d log pt and its error, the latter smoothed over neighbours, as it is a small number."""
    slope, slope_error = response.copy(), error.copy()
    good = np.isfinite(pt) & np.isfinite(response)
    n_good = int(np.count_nonzero(good))
    if n_good >= 3:
        effect = np.eye(n_good) + _smoothed_gradient(np.log(pt[good]))
        slope[good], slope_error[good] = effect @ response[good], np.sqrt(effect**2 @ error[good] ** 2)
    return slope, slope_error


def _smoothed_gradient(at: Float64Array) -> Float64Array:
    """Matrix (n, n) from values to slopes of straight lines through each point and two neighbours on either side."""
    matrix = np.zeros((len(at), len(at)))
    for i in range(len(at)):
        near = slice(max(i - 2, 0), i + 3)
        x = at[near] - at[near].mean()
        matrix[i, near] = x / np.sum(x * x)
    return matrix


def _sigma68(values: Float64Array, weights: Float64Array) -> float:
    order = np.argsort(values)
    share = np.cumsum(weights[order]) / weights.sum()
    low, high = np.interp([0.16, 0.84], share, values[order])
    return 0.5 * float(high - low)


def _variances(rows: Float64Array, weights: Float64Array) -> Float64Array:
    mean = weights @ rows / weights.sum()
    return np.asarray(weights @ (rows - mean) ** 2 / weights.sum())


def _ratio_and_share(variances: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Of rows of variances before, after and, if there is any, of truth."""
    before, after = variances[:, 0], variances[:, 1]
    share = np.full(len(variances), np.nan)
    if variances.shape[1] > 2:
        share = (before - after) / (before - variances[:, 2])
    return np.sqrt(after / before), share


def _or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
