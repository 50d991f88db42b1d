"""Maps that take the protected variable out of a score after training: fitted on background, applied to any jet.

All of them work on logits, so that what comes out is a logit again, and depend on the mass and pT of the jet:

ddt         a line in rho' = log(m^2 / (pT 1 GeV)) is taken off (DDT, arXiv:1603.00027)
percentile  the cut with one background efficiency in cells of rho = log(m^2 / pT^2) and pT is taken off, so that 0 is
            that cut everywhere (as D2 at fixed efficiency in ATL-PHYS-PUB-2018-014, and the DDT maps of CMS)
quantile    the distribution function of background at the mass and pT of the jet: flat at every cut, and monotone at
            fixed mass and pT, so that no separation is lost there (conditional transport to a uniform variable); of the
            last permille an exponential tail, so that it goes on rising where there is hardly any background

The last two first take off a trend, polynomials of log mass and log pT for mean and width, and then use tables of two
variables with linear interpolation between nodes. A node is measured with the weights of that interpolation, from
background around it; how many nodes there are follows from how much background there is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.flat_weights import effective_entries

Float64Array = NDArray[np.float64]
Kind = Literal["ddt", "percentile", "quantile"]

KINDS: tuple[Kind, ...] = ("ddt", "percentile", "quantile")
MIN_JETS = 1000
"""Effective background jets that a map needs."""
_JETS_PER_NODE = 4000.0
_MAX_NODES = (24, 4)
POWERS = tuple((i, j) for i in range(5) for j in range(4) if i + j <= 4)
"""Of scaled log mass and log pT in a trend."""
_RIDGE = 1e-6
PIVOT = 1.5
"""Of rho' in `ddt`, where the line takes nothing off."""
EFFICIENCY = 0.1
RHO_RANGE = (1.5, 4.0)
_DDT_BINS = 28
_LEVELS = np.concatenate([np.linspace(0.0, 0.9, 19), 1.0 - np.geomspace(0.08, 0.001, 12)])
TAIL_KNOT = -7
"""Of `quantile`: the tail falls as background does from this knot, near the last percent, to the last one."""
LEAST_WIDTH = 0.05
"""Of the tail, in widths of the trend; scores with equal values have none."""
_TINY = 1e-9


@dataclass(frozen=True, slots=True)
class Table:
    """Numbers at nodes of two variables, linear in between, constant beyond the ends.

    Attributes
    ----------
    first, second
        (n_first,) and (n_second,), rising.
    values
        (n_first, n_second, k).
    """

    first: Float64Array
    second: Float64Array
    values: Float64Array

    def at(self, first: Float64Array, second: Float64Array) -> Float64Array:
        """Values at points (n,), (n, k)."""
        weights = self.weights(first, second)
        return np.asarray(weights @ self.values.reshape(weights.shape[1], -1))

    def weights(self, first: Float64Array, second: Float64Array) -> Float64Array:
        """Weights of all nodes at points (n,), (n, n_first * n_second), the second variable running fastest."""
        return _products(hats(first, self.first), hats(second, self.second))


@dataclass(frozen=True, slots=True)
class Trend:
    """Mean and width of the logit of background as polynomials of log mass and log pT.

    Attributes
    ----------
    low, high
        (2,): range of the two, which is scaled to -1 and 1; constant beyond.
    mean, log_width
        Coefficients of the products of powers in `POWERS`.
    """

    low: Float64Array
    high: Float64Array
    mean: Float64Array
    log_width: Float64Array

    def residual(self, logit: Float64Array, log_mass: Float64Array, log_pt: Float64Array) -> Float64Array:
        """Distance from the mean in widths, (n,)."""
        basis = _basis(log_mass, log_pt, self.low, self.high)
        return np.asarray((logit - basis @ self.mean) * np.exp(-basis @ self.log_width))


@dataclass(frozen=True, slots=True)
class ScoreMap:
    """A fitted map.

    Attributes
    ----------
    kind
        See the module.
    medians
        Mass and pT in the middle of the background it was fitted on, for whoever has no value.
    slope
        Of `ddt`, per unit of rho'.
    trend
        Of `percentile` and `quantile`.
    table
        Of the residuals: of `percentile` in rho and log pT, k = 1; of `quantile` in log mass and log pT, one value for
        each level.
    levels
        (k,), from 0 on, of `quantile`; the tail begins at the last one.
    """

    kind: Kind
    medians: tuple[float, float]
    slope: float = 0.0
    trend: Trend | None = None
    table: Table | None = None
    levels: Float64Array | None = None

    def apply(self, logit: Float64Array, mass: Float64Array, pt: Float64Array) -> Float64Array:
        """Mapped scores in [0, 1] of jets (n,)."""
        if self.kind == "ddt":
            return _logistic(logit - self.slope * (rho_ddt(mass, pt) - PIVOT))
        if self.trend is None or self.table is None or (self.kind == "quantile" and self.levels is None):
            raise ValueError(f"a map of kind {self.kind} has a trend, a table and levels")
        log_mass, log_pt = _log_mass(mass), np.log(pt)
        residual = self.trend.residual(logit, log_mass, log_pt)
        if self.levels is None:
            return _logistic(residual - self.table.at(2.0 * (log_mass - log_pt), log_pt)[:, 0])
        knots = self.table.at(log_mass, log_pt)
        passed = np.clip((residual[:, np.newaxis] - knots[:, :-1]) / _widths(knots), 0.0, 1.0)
        width = np.maximum((knots[:, -1] - knots[:, TAIL_KNOT]) / fall_of_tail(self.levels), LEAST_WIDTH)
        tail = np.exp(-np.maximum(residual - knots[:, -1], 0.0) / width)
        # What is left, not what has passed: next to 1 it is exact in single precision, too.
        left = (1.0 - passed) @ np.diff(self.levels) + (1.0 - self.levels[-1]) * tail
        return np.asarray(np.maximum(1.0 - left, 0.0))


def fall_of_tail(levels: Float64Array) -> float:
    """By how many powers of e background falls from the knot `TAIL_KNOT` to the last one."""
    return float(np.log((1.0 - levels[TAIL_KNOT]) / (1.0 - levels[-1])))


def rho(mass: Float64Array, pt: Float64Array) -> Float64Array:
    """log(m^2 / pT^2); masses below 1 GeV count as 1 GeV."""
    return np.asarray(2.0 * (_log_mass(mass) - np.log(pt)))


def rho_ddt(mass: Float64Array, pt: Float64Array) -> Float64Array:
    """log(m^2 / (pT 1 GeV)); masses below 1 GeV count as 1 GeV."""
    return np.asarray(2.0 * _log_mass(mass) - np.log(pt))


def fit_map(
    kind: Kind,
    logit: Float64Array,
    mass: Float64Array,
    pt: Float64Array,
    weight: Float64Array,
    *,
    efficiency: float = EFFICIENCY,
    rho_range: tuple[float, float] = RHO_RANGE,
) -> ScoreMap:
    """A map fitted on background jets (n,), all finite, with pT above 0.

    `efficiency` of background is that of `percentile`; `rho_range` is where `ddt` fits its line to the mean.

    Raises
    ------
    ValueError
        Where `check_map` refuses.
    """
    check_map(kind, mass, pt, weight, rho_range=rho_range)
    middle = np.array([0.5])
    medians = float(weighted_quantiles(mass, weight, middle)[0]), float(weighted_quantiles(pt, weight, middle)[0])
    if kind == "ddt":
        return ScoreMap(kind, medians, _slope(logit, rho_ddt(mass, pt), weight, rho_range))
    trend = _trend(logit, _log_mass(mass), np.log(pt), weight)
    residual = trend.residual(logit, _log_mass(mass), np.log(pt))
    first = rho(mass, pt) if kind == "percentile" else _log_mass(mass)
    levels = np.array([1.0 - efficiency]) if kind == "percentile" else _LEVELS
    table = _fitted(first, np.log(pt), residual, weight, levels)
    return ScoreMap(kind, medians, trend=trend, table=table, levels=None if kind == "percentile" else levels)


def check_map(
    kind: Kind,
    mass: Float64Array,
    pt: Float64Array,
    weight: Float64Array,
    *,
    rho_range: tuple[float, float] = RHO_RANGE,
) -> None:
    """Refuse background jets (n,) that no map can be fitted on, whatever their logits.

    Raises
    ------
    ValueError
        For fewer than `MIN_JETS` effective jets, of `ddt` within `rho_range` and in two bins of it; an unknown kind.
    """
    if kind not in KINDS:
        raise ValueError(f"a map is one of {', '.join(KINDS)}, got {kind!r}")
    there = effective_entries(weight)
    if there < MIN_JETS:
        raise ValueError(f"a map needs at least {MIN_JETS} effective background jets, got {there:.0f}")
    if kind != "ddt":
        return
    along = rho_ddt(mass, pt)
    place = _ddt_bins(along, rho_range)
    there = effective_entries(weight[place >= 0])
    if there < MIN_JETS or len(np.unique(place[(place >= 0) & (weight > 0)])) < 2:
        low, high = np.percentile(along, [1, 99])
        raise ValueError(
            f"ddt fits a line in rho' = log(m^2 / (pT 1 GeV)) from {rho_range[0]:g} to {rho_range[1]:g} and needs "
            f"{MIN_JETS} effective background jets in two bins there, got {there:.0f}; 98 % are in {low:.3g} to "
            f"{high:.3g}, see decorrelation.map_rho"
        )


def hats(values: Float64Array, nodes: Float64Array) -> Float64Array:
    """Weights of linear interpolation between nodes (m,), constant beyond them, (n, m)."""
    if len(nodes) == 1:
        return np.ones((len(values), 1))
    clipped = np.clip(values, nodes[0], nodes[-1])[:, np.newaxis]
    rising = np.clip((clipped - nodes[:-1]) / np.diff(nodes), 0.0, 1.0)
    ones, zeros = np.ones((len(values), 1)), np.zeros((len(values), 1))
    return np.asarray(np.concatenate([ones, rising], axis=1) - np.concatenate([rising, zeros], axis=1))


def weighted_quantiles(values: Float64Array, weight: Float64Array, levels: Float64Array) -> Float64Array:
    """Quantiles of values (n,) with weights that are not negative, (k,), linear between entries."""
    order = np.argsort(values)
    values, weight = values[order], weight[order]
    share = np.cumsum(weight) - 0.5 * weight
    return np.asarray(np.interp(levels * weight.sum(), share, values))


def _trend(logit: Float64Array, log_mass: Float64Array, log_pt: Float64Array, weight: Float64Array) -> Trend:
    """Mean by least squares, then the width by least squares of the logarithm of distances from it."""
    ends = np.array([weighted_quantiles(each, weight, np.array([0.005, 0.995])) for each in (log_mass, log_pt)])
    low, high = ends[:, 0], np.maximum(ends[:, 1], ends[:, 0] + _TINY)
    basis = _basis(log_mass, log_pt, low, high)
    normal = basis.T @ (basis * weight[:, np.newaxis]) / weight.sum() + _RIDGE * np.eye(len(POWERS))
    mean = np.linalg.solve(normal, basis.T @ (weight * logit) / weight.sum())
    distance = np.abs(logit - basis @ mean)
    logs = np.log(distance + 1e-3 * np.average(distance, weights=weight) + _TINY)
    return Trend(low, high, mean, np.linalg.solve(normal, basis.T @ (weight * logs) / weight.sum()))


def _basis(log_mass: Float64Array, log_pt: Float64Array, low: Float64Array, high: Float64Array) -> Float64Array:
    first, second = (
        np.clip(2 * (each - low[i]) / (high[i] - low[i]) - 1, -1.0, 1.0) for i, each in enumerate((log_mass, log_pt))
    )
    return np.asarray(np.stack([first**i * second**j for i, j in POWERS], axis=1))


def _fitted(
    first: Float64Array, second: Float64Array, logit: Float64Array, weight: Float64Array, levels: Float64Array
) -> Table:
    """Quantiles of the logit at nodes of both variables."""
    n_first, n_second = _counts(effective_entries(weight))
    table = Table(_nodes(first, weight, n_first), _nodes(second, weight, n_second), np.zeros((0, 0, 0)))
    values = np.full((len(table.first), len(table.second), len(levels)), np.nan)
    along, across = hats(first, table.first), hats(second, table.second)
    for i in range(len(table.first)):
        for j in range(len(table.second)):
            local = weight * along[:, i] * across[:, j]
            used = local > 0
            if used.any():
                values[i, j] = weighted_quantiles(logit[used], local[used], levels)
    return Table(table.first, table.second, _filled(values))


def _filled(values: Float64Array) -> Float64Array:
    """Values (n_first, n_second, k), those of nodes without jets (nan) as at the nearest node that has some."""
    known = np.argwhere(np.isfinite(values[..., 0]))
    filled = values.copy()
    for i, j in np.argwhere(np.isnan(values[..., 0])):
        nearest = known[np.argmin(np.sum((known - (i, j)) ** 2, axis=1))]
        filled[i, j] = values[tuple(nearest)]
    return filled


def _counts(effective: float) -> tuple[int, int]:
    """Nodes of both variables, several times as many of the first."""
    nodes = max(effective / _JETS_PER_NODE, 1.0)
    n_second = int(np.clip(round((nodes / 6.0) ** 0.5), 1, _MAX_NODES[1]))
    return int(np.clip(nodes / n_second, 3, _MAX_NODES[0])), n_second


def _nodes(values: Float64Array, weight: Float64Array, count: int) -> Float64Array:
    """Nodes between which there is as much background each."""
    if count == 1:
        return np.array([np.average(values, weights=weight)], np.float64)
    return np.unique(weighted_quantiles(values, weight, np.linspace(0.01, 0.99, count)))


def _slope(logit: Float64Array, along: Float64Array, weight: Float64Array, rho_range: tuple[float, float]) -> float:
    """Slope of the mean of the logit in bins of rho', of which at least two are filled."""
    edges = np.linspace(*rho_range, _DDT_BINS + 1)
    place = _ddt_bins(along, rho_range)
    chosen = place >= 0
    place = place[chosen]
    sums = np.bincount(place, weight[chosen], _DDT_BINS)
    filled = sums > 0
    means = np.bincount(place, weight[chosen] * logit[chosen], _DDT_BINS)[filled] / sums[filled]
    middle = (0.5 * (edges[1:] + edges[:-1]))[filled]
    return float(np.polyfit(middle, means, 1, w=np.sqrt(sums[filled]))[0])


def _ddt_bins(along: Float64Array, rho_range: tuple[float, float]) -> NDArray[np.int64]:
    """Bin of each jet, (n,), -1 outside."""
    edges = np.linspace(*rho_range, _DDT_BINS + 1)
    place = np.searchsorted(edges, along, side="right") - 1
    return np.asarray(np.where(place < _DDT_BINS, place, -1), np.int64)


def _products(first: Float64Array, second: Float64Array) -> Float64Array:
    return np.asarray((first[:, :, np.newaxis] * second[:, np.newaxis, :]).reshape(len(first), -1))


def _widths(knots: Float64Array) -> Float64Array:
    return np.asarray(np.maximum(np.diff(knots, axis=1), _TINY))


def _log_mass(mass: Float64Array) -> Float64Array:
    return np.asarray(np.log(np.maximum(mass, 1.0)))


def _logistic(logit: Float64Array) -> Float64Array:
    return np.asarray(1.0 / (1.0 + np.exp(-logit)))
