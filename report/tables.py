"""The numbers of the page in rows of words."""

# ruff: noqa: RUF001 - Greek letters and signs are what is meant

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from corrections.results import RATIO, SIMULATION
from report.closure import closure, eta_bins, in_bin, main_method, mean
from report.cutflow import percent, steps_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from corrections.results import Interval, Measurement, Point, Quantity, ResolutionCurve

NOTHING = "–"
PARAMETERS: tuple[Quantity, ...] = ("N", "S", "C")


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of words under column names; columns in `words` are read as text, all others as numbers."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: tuple[int, ...] = (0,)


def scale_factor_table(measurement: Measurement) -> Table | None:
    """Scale factors by method and residual response per |eta| bin; None if neither was looked at."""
    quantities: tuple[Quantity, ...] = ("scale_factor", "residual")
    series = [(q, m) for q in quantities for m in _methods(measurement, q)]
    if not series:
        return None
    rows = []
    for eta in eta_bins(measurement, "scale_factor", "residual"):
        points = [_widest(in_bin(measurement.select(q, method=m), eta)) for q, m in series]
        rows.append((eta_words(eta), *(point_words(point) for point in points)))
    names = {"scale_factor": "scale factor", "residual": "residual"}
    columns = tuple(f"{names[q]}, {m.replace('_', ' ')}" for q, m in series)
    return Table(f"Scale factors and residual response, {measurement.algo}", ("|η|", *columns), tuple(rows))


def resolution_table(measurement: Measurement) -> Table | None:
    """Parameters of the resolution curves with their errors; None without curves."""
    rows = tuple(_curve_row(measurement, curve) for curve in measurement.curves)
    columns = ("|η|", "dataset", "N [GeV]", "S [√GeV]", "C", "χ²/n", "pT range [GeV]", "status")
    return Table(f"Resolution curves, {measurement.algo}", columns, rows, (0, 1, 6, 7)) if rows else None


def closure_table(measurement: Measurement) -> Table | None:
    """Mean ratio of the measured resolution of simulation to truth per |eta| bin; None without truth."""
    rows = []
    for eta in eta_bins(measurement, "jer_truth"):
        ratios = closure(measurement, eta)
        value, error, chi2 = mean(ratios)
        chi2_words = f"{chi2:.1f}/{len(ratios) - 1}" if len(ratios) > 1 else NOTHING
        rows.append((eta_words(eta), number_words(value, error), chi2_words, str(len(ratios))))
    columns = ("|η|", "measured / truth", "χ²/n of a constant", "pT bins")
    return Table(f"Closure in simulation, {measurement.algo}", columns, tuple(rows)) if rows else None


def cutflow_table(rows: Iterable[tuple[str, str, float, float]]) -> Table | None:
    """Events, their share and their sum of weights, datasets below each other; None without rows."""
    table = tuple(
        (dataset, step.name.replace("_", " "), f"{step.events:,.0f}", percent(step.share), f"{step.weighted:.6g}")
        for dataset, steps in steps_of(rows).items()
        for step in steps
    )
    return Table("Cutflow", ("dataset", "step", "events", "share", "sum of weights"), table, (0, 1)) if table else None


def records_table(title: str, records: Sequence[Mapping[str, Any]]) -> Table | None:
    """Any list of records with plain values, a column for each key that one of them has; None without records."""
    keys = list(dict.fromkeys(key for record in records for key, value in record.items() if _is_plain(value)))
    rows = tuple(tuple(plain_words(record.get(key)) for key in keys) for record in records)
    numeric = {key for key in keys if all(_is_number(record.get(key)) for record in records)}
    words = tuple(i for i, key in enumerate(keys) if key not in numeric)
    return Table(title, tuple(key.replace("_", " ") for key in keys), rows, words) if rows and keys else None


def eta_words(eta: Interval) -> str:
    """Range of |eta|."""
    return f"{eta.low:g} to {eta.high:g}"


def point_words(point: Point | None) -> str:
    """Value with its error, or why there is none."""
    if point is None:
        return NOTHING
    if not point.is_measured:
        return f"({point.status.replace('_', ' ')})"
    return number_words(point.value, point.stat)


def number_words(value: float, error: float) -> str:
    """Value ± error with two digits of the error."""
    if not math.isfinite(value):
        return NOTHING
    if not (math.isfinite(error) and error > 0):
        return f"{value:.4g}"
    digits = max(1 - math.floor(math.log10(error)), 0)
    return f"{value:.{digits}f} ± {error:.{digits}f}".replace("-", "−")


def plain_words(value: Any) -> str:
    """Value of a record."""
    if value is None or not _is_plain(value):
        return NOTHING
    if isinstance(value, list | tuple):
        return f"{value[0]:g} to {value[1]:g}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _is_plain(value: Any) -> bool:
    """Whether a value fits into a cell: text, a number, or the two ends of a range."""
    is_range = isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_number, value))
    return value is None or isinstance(value, str | int | float) or is_range


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _methods(measurement: Measurement, quantity: Quantity) -> list[str]:
    first = main_method(measurement, quantity)
    found = {point.method for point in measurement.select(quantity, RATIO)}
    return sorted(found, key=lambda method: (method != first, method))


def _widest(points: Sequence[Point]) -> Point | None:
    return max(points, key=lambda point: _width(point.pt), default=None)


def _width(pt: Interval) -> float:
    return pt.high - pt.low if math.isfinite(pt.high - pt.low) else 0.0


def _curve_row(measurement: Measurement, curve: ResolutionCurve) -> tuple[str, ...]:
    name = "simulation" if curve.dataset == SIMULATION else curve.dataset
    if curve.status != "ok":
        return (eta_words(curve.eta), name, *[NOTHING] * 5, curve.status.replace("_", " "))
    parameters = [
        next((p for p in measurement.select(q, curve.dataset) if p.eta == curve.eta), None) for q in PARAMETERS
    ]
    values = (curve.noise, curve.stochastic, curve.constant)
    return (
        eta_words(curve.eta),
        name,
        *(f"{v:.4g}" if p is None else number_words(v, p.stat) for v, p in zip(values, parameters, strict=True)),
        f"{curve.chi2:.1f}/{curve.ndf}",
        f"{curve.pt_range.low:.0f} to {curve.pt_range.high:.0f}",
        "ok",
    )
