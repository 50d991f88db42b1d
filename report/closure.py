"""Numbers that figures and tables share: which method counts, ratios of data to simulation and of dijets to truth."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from corrections.results import DATA, SIMULATION, Interval, Point

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from corrections.results import FloatArray, Measurement, Quantity

PREFERRED_METHODS = ("template",)


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
    published = [measurement.residual_method if quantity == "residual" else measurement.method, *PREFERRED_METHODS]
    return next((method for method in published if method in methods), methods[0] if methods else None)


def main_points(measurement: Measurement, quantity: Quantity, dataset: str | None = None) -> tuple[Point, ...]:
    """Points of a quantity from its main method."""
    return measurement.select(quantity, dataset, main_method(measurement, quantity))


def eta_bins(measurement: Measurement, *quantities: Quantity) -> list[Interval]:
    """Bins of |eta| in which one of the quantities was looked at, measured or not."""
    found = {(point.eta.low, point.eta.high) for point in measurement.points if point.quantity in quantities}
    return [Interval(*edges) for edges in sorted(found)]


def in_bin(points: Iterable[Point], eta: Interval) -> list[Point]:
    """Points of one |eta| bin by rising pT."""
    return sorted((point for point in points if point.eta == eta), key=lambda point: (point.pt.low, point.pt.high))


def data_over_simulation(measurement: Measurement, quantity: Quantity, eta: Interval) -> list[Ratio]:
    """Ratio bin by bin where both are measured; the errors are independent."""
    simulation = {
        (point.pt, point.region): point
        for point in in_bin(main_points(measurement, quantity, SIMULATION), eta)
        if point.is_measured
    }
    ratios = []
    for point in in_bin(main_points(measurement, quantity, DATA), eta):
        other = simulation.get((point.pt, point.region))
        if other is not None and point.is_measured and other.value != 0 and point.value != 0:
            value = point.value / other.value
            stat = abs(value) * np.hypot(point.stat / point.value, other.stat / other.value)
            ratios.append(Ratio(point.region, eta, point.pt, point.pt_mean, value, float(stat)))
    return ratios


def closure(measurement: Measurement, eta: Interval) -> list[Ratio]:
    """Resolution of simulation from dijets over that from truth, at the mean pT of the dijets.

    The truth points are interpolated linearly in log(pT) and log(resolution) within their bins; beyond them there is no
    ratio.
    """
    truth = [point for point in in_bin(main_points(measurement, "jer_truth"), eta) if _is_positive(point)]
    ratios = []
    for point in in_bin(main_points(measurement, "jer", SIMULATION), eta):
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
