"""Numbers that figures and tables share: which method and region count, ratios, and how far methods are apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from corrections.results import DATA, SIMULATION, Interval, Point

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from corrections.results import FloatArray, Measurement, Quantity

PREFERRED_METHODS = ("template",)
COMBINED = "combined"
# A relative error below this is rounding: the value is 1 by construction.
ROUNDING = 1e-7


class Ratio(NamedTuple):
    """Ratio in one bin with its statistical error."""

    region: str
    eta: Interval
    pt: Interval
    pt_mean: float
    value: float
    stat: float


def main_method(measurement: Measurement, quantity: Quantity) -> str | None:
    """Method whose numbers are shown and used: the published one, else the first; None where nothing was measured."""
    methods = [point.method for point in measurement.points if point.quantity == quantity]
    is_residual = quantity in ("residual", "residual_again")
    published = [measurement.residual_method if is_residual else measurement.method, *PREFERRED_METHODS]
    return next((method for method in published if method in methods), methods[0] if methods else None)


def main_points(measurement: Measurement, quantity: Quantity, dataset: str | None = None) -> tuple[Point, ...]:
    """Points of a quantity from its main method."""
    return measurement.select(quantity, dataset, main_method(measurement, quantity))


def methods_of(measurement: Measurement, quantity: Quantity) -> list[str]:
    """Methods of a quantity, the main one first."""
    first = main_method(measurement, quantity)
    found = {point.method for point in measurement.select(quantity)}
    return sorted(found, key=lambda method: (method != first, method))


def one_per_bin(points: Iterable[Point]) -> list[Point]:
    """One point for each bin of pT: both regions combined where they were, else the one with the smaller error.

    Where no region was measured, the first of them stays and says why.
    """
    by_pt: dict[Interval, list[Point]] = {}
    for point in points:
        by_pt.setdefault(point.pt, []).append(point)
    return [min(found, key=_preference) for found in by_pt.values()]


def _preference(point: Point) -> tuple[bool, bool, float]:
    return not point.is_measured, point.region != COMBINED, point.stat if point.is_measured else 0.0


def best_known(points: Iterable[Point]) -> Point | None:
    """The point that stands for a value that depends on pT: the one with the smallest error, else the first."""
    return min(points, key=lambda point: (not point.is_measured, point.total if point.is_measured else 0), default=None)


def is_exact(point: Point) -> bool:
    """Whether a value has no error, as the residual of the reference region, which is 1 by construction."""
    return not point.stat > ROUNDING * abs(point.value)


def by_method(measurement: Measurement, quantity: Quantity, eta: Interval) -> dict[str, Point]:
    """The value of every method that has one in an |eta| bin, the main method first.

    Where the main one depends on pT, all are taken at the pT at which it is known best, else each at its own best.
    """
    measured = {
        method: [p for p in measurement.select(quantity, method=method) if p.eta == eta and p.is_measured]
        for method in methods_of(measurement, quantity)
    }
    main = next(iter(measured.values()), [])
    best = best_known(main)
    found: dict[str, Point] = {}
    for method, points in measured.items():
        chosen = _nearest(points, best) if best is not None and len(main) > 1 else best_known(points)
        found |= {method: chosen} if chosen is not None else {}
    return found


def _nearest(points: Sequence[Point], to: Point) -> Point | None:
    return min(points, key=lambda point: abs(np.log(point.pt_mean / to.pt_mean)), default=None)


def spread(points: Iterable[Point]) -> float:
    """RMS of the values about their mean, relative to the first; nan for fewer than two."""
    values = np.array([point.value for point in points])
    return float(np.std(values) / abs(values[0])) if len(values) > 1 and values[0] != 0 else np.nan


def is_apart(point: Point, main: Point) -> bool:
    """Whether a value is further from the published one than twice the uncertainty of both."""
    return bool(abs(point.value - main.value) > 2 * np.hypot(main.total, point.stat))


def eta_bins(measurement: Measurement, *quantities: Quantity) -> list[Interval]:
    """Bins of |eta| in which one of the quantities was looked at, measured or not."""
    found = {(point.eta.low, point.eta.high) for point in measurement.points if point.quantity in quantities}
    return [Interval(*edges) for edges in sorted(found)]


def in_bin(points: Iterable[Point], eta: Interval) -> list[Point]:
    """Points of one |eta| bin by rising pT."""
    return sorted((point for point in points if point.eta == eta), key=lambda point: (point.pt.low, point.pt.high))


def data_over_simulation(measurement: Measurement, quantity: Quantity, eta: Interval) -> list[Ratio]:
    """Ratio bin by bin where both are measured in one region, errors taken as independent; one for each bin of pT."""
    simulation = {
        (point.pt, point.region): point
        for point in in_bin(main_points(measurement, quantity, SIMULATION), eta)
        if point.is_measured and point.value != 0
    }
    ratios: dict[Interval, Ratio] = {}
    for point in in_bin(main_points(measurement, quantity, DATA), eta):
        other = simulation.get((point.pt, point.region))
        if other is not None and point.is_measured and point.value != 0:
            value = point.value / other.value
            stat = abs(value) * np.hypot(point.stat / point.value, other.stat / other.value)
            ratio = Ratio(point.region, eta, point.pt, point.pt_mean, value, float(stat))
            known = ratios.setdefault(point.pt, ratio)
            ratios[point.pt] = min(known, ratio, key=lambda each: (each.region != COMBINED, each.stat))
    return list(ratios.values())


def closure(measurement: Measurement, eta: Interval) -> list[Ratio]:
    """Resolution of simulation from dijets over that from truth, at the mean pT of the dijets.

    The truth points are interpolated linearly in log(pT) and log(resolution) within their bins; beyond them there is no
    ratio.
    """
    truth = [point for point in in_bin(main_points(measurement, "jer_truth"), eta) if _is_positive(point)]
    ratios = []
    for point in one_per_bin(in_bin(main_points(measurement, "jer", SIMULATION), eta)):
        if len(truth) < 2 or not _is_positive(point) or not truth[0].pt.low <= point.pt_mean <= truth[-1].pt.high:
            continue
        expected, relative = _interpolate(truth, point.pt_mean)
        value = point.value / expected
        stat = value * np.hypot(point.stat / point.value, relative)
        ratios.append(Ratio(point.region, eta, point.pt, point.pt_mean, value, float(stat)))
    return ratios


def mean(ratios: Sequence[Ratio]) -> tuple[float, float, float]:
    """Mean weighted by 1/stat^2, its error and chi2 of its constancy; nan without ratios that have an error."""
    known = [ratio for ratio in ratios if np.isfinite(ratio.value) and ratio.stat > 0]
    if not known:
        return np.nan, np.nan, np.nan
    values, weights = np.array([r.value for r in known]), np.array([r.stat for r in known]) ** -2.0
    average = float((values * weights).sum() / weights.sum())
    return average, float(weights.sum() ** -0.5), float((weights * (values - average) ** 2).sum())


def columns(points: Sequence[Point | Ratio]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mean pT, value and error as arrays, (n,) each."""
    table = np.array([(point.pt_mean, point.value, point.stat) for point in points], dtype=np.float64).reshape(-1, 3)
    return table[:, 0], table[:, 1], table[:, 2]


def _is_positive(point: Point) -> bool:
    return point.is_measured and point.value > 0 and point.pt_mean > 0


def _interpolate(truth: Sequence[Point], pt: float) -> tuple[float, float]:
    """Truth resolution at `pt`, also a little beyond the first or last mean, and its relative error."""
    x, value, stat = columns(truth)
    i = int(np.clip(np.searchsorted(x, pt) - 1, 0, len(x) - 2))
    slope = np.log(value[i + 1] / value[i]) / np.log(x[i + 1] / x[i]) if x[i + 1] != x[i] else 0.0
    nearest = i if abs(np.log(pt / x[i])) < abs(np.log(pt / x[i + 1])) else i + 1
    return float(value[i] * (pt / x[i]) ** slope), float(stat[nearest] / value[nearest])
