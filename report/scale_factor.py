"""Scale factor and residual response against |eta|, methods side by side, with the truth where it was injected."""

# ruff: noqa: RUF001 - Greek letters and signs are what is meant

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from report.closure import eta_bins, main_method
from report.figures import Drawing, file_name
from report.sheet import Area, Grid, Key, Line, Marker, Scale
from report.style import BLACK, BLUE, GREY, ORANGE, PURPLE, RED, VIOLET, span

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

    from corrections.results import Interval, Measurement, Point, Quantity
    from report.settings import ReportSettings
    from report.sheet import Panel, Sheet

Truth = tuple[float, float, float]

GRID = Grid(columns=1, height=4.0, rows=1, width=9.5, left=0.95, right=0.2, bottom=0.7, text_scale=1.15)
WITH_PULLS = Grid(
    columns=1, height=5.0, rows=1, width=9.5, left=0.95, right=0.2, bottom=0.7, text_scale=1.15, lower=0.25
)
SERIES = (
    Marker(BLACK, "o", 5),
    Marker(BLUE, "s", 5),
    Marker(ORANGE, "^", 5.5),
    Marker(PURPLE, "D", 4.5),
    Marker(RED, "v", 5.5),
    Marker(VIOLET, "P", 5.5),
)
INJECTED = Line(BLACK, 1.2, (4, 2), order=2)
NOT_MEASURED = Area(GREY, 0.25, order=0)
NAMES: dict[Quantity, tuple[str, str]] = {
    "scale_factor": ("Scale factor", "JER scale factor, data / simulation"),
    "residual": ("Residual response", "residual, response of simulation / data"),
}
CAPTIONS: dict[Quantity, str] = {
    "scale_factor": "Data/simulation scale factor of the jet energy resolution against |η|, {algo} jets. {rest}",
    "residual": (
        "Residual response, simulation over data, relative to the reference region against |η|, {algo} jets. {rest}"
    ),
}
ERRORS = "Error bars are statistical. Grey bins were not measured."
WITH_TRUTH = " Dashed: the truth that was put in; below: (measured − truth)/error."


def drawings(measurement: Measurement, injected: Mapping[str, Sequence[Truth]] | None = None) -> list[Drawing]:
    """Scale factor, then residual; `injected` has (|eta| low, high, value) by quantity."""
    quantities: tuple[Quantity, ...] = ("scale_factor", "residual")
    return [
        _drawing(measurement, quantity, tuple((injected or {}).get(quantity, ())))
        for quantity in quantities
        if measurement.select(quantity)
    ]


def _drawing(measurement: Measurement, quantity: Quantity, truth: tuple[Truth, ...]) -> Drawing:
    title, label = NAMES[quantity]
    return Drawing(
        name=file_name(quantity, measurement.algo),
        section=title,
        title=f"{title}, {measurement.algo}",
        caption=CAPTIONS[quantity].format(algo=measurement.algo, rest=ERRORS + (WITH_TRUTH if truth else "")),
        draw=draw,
        arguments=(f"{measurement.algo}, {title.lower()}", label, series(measurement, quantity), truth),
    )


def series(measurement: Measurement, quantity: Quantity) -> tuple[tuple[str, tuple[Point, ...]], ...]:
    """Points of each method in |eta| order, the main method first; only those over the widest range of pT."""
    points = measurement.select(quantity)
    first = main_method(measurement, quantity)
    methods = sorted({point.method for point in points}, key=lambda method: (method != first, method))
    found = []
    for method in methods:
        by_eta: dict[Interval, Point] = {}
        for point in points:
            known = by_eta.get(point.eta)
            if point.method == method and (known is None or _pt_width(point) > _pt_width(known)):
                by_eta[point.eta] = point
        found.append((method, tuple(by_eta[eta] for eta in eta_bins(measurement, quantity) if eta in by_eta)))
    return tuple(found)


def _pt_width(point: Point) -> float:
    return point.pt.high - point.pt.low


def draw(
    title: str,
    label: str,
    methods: tuple[tuple[str, tuple[Point, ...]], ...],
    truth: tuple[Truth, ...],
    settings: ReportSettings,
) -> Figure:
    """Figure of one quantity against |eta|."""
    grid = WITH_PULLS if truth else GRID
    sheet = grid.sheet(1, settings, title)
    bins = [point.eta for _, points in methods for point in points]
    x = Scale(0.0, max((eta.high for eta in bins), default=5.0), n_ticks=10)
    panel = grid.panel(sheet, 0, x, _scale(methods, truth))
    sheet.frame(panel, "" if truth else "|η|", label, joined="below" if truth else None)
    sheet.level(panel, 1.0)
    _mark_missing(sheet, panel, methods[0][1])
    for low, high, value in truth:
        sheet.line(panel, [low, min(high, x.high)], [value, value], INJECTED)
    _draw_methods(sheet, panel, methods, ())
    if truth:
        below = grid.lower_panel(sheet, 0, x, Scale(-4, 4, ticks=(-3, 0, 3)))
        sheet.frame(below, "|η|", "pull", joined="above")
        for value in (-1.0, 0.0, 1.0):
            sheet.level(below, value)
        _draw_methods(sheet, below, methods, truth)
    sheet.legend(_keys(methods, truth))
    return sheet.figure()


def _draw_methods(
    sheet: Sheet, panel: Panel, methods: tuple[tuple[str, tuple[Point, ...]], ...], truth: tuple[Truth, ...]
) -> None:
    """Points with errors, or their pulls where there is truth."""
    for i, (_, points) in enumerate(methods):
        shown = [point for point in points if point.is_measured]
        if not shown:
            continue
        value, error = np.array([point.value for point in shown]), np.array([point.stat for point in shown])
        if truth:
            expected = np.array([true_value(point.eta, truth) for point in shown])
            value = np.divide(value - expected, error, out=np.full_like(error, np.nan), where=error > 0)
            error = np.zeros_like(error)
        low, high = np.array([(point.eta.low, point.eta.high) for point in shown]).T
        centre = low + (high - low) * (i + 0.5) / len(methods)
        half = 0.5 * (high - low) / len(methods)
        look = SERIES[i % len(SERIES)]
        sheet.points(panel, centre, value, error, look, ends=None if truth else (centre - half, centre + half))


def true_value(eta: Interval, truth: Sequence[Truth]) -> float:
    """Value that was put in all over a bin of |eta|; nan if there are several or none."""
    values = {value for low, high, value in truth if low < eta.high and eta.low < high}
    return values.pop() if len(values) == 1 else float("nan")


def _mark_missing(sheet: Sheet, panel: Panel, points: tuple[Point, ...]) -> None:
    for point in points:
        if not point.is_measured:
            sheet.shade(panel, point.eta.low, point.eta.high, NOT_MEASURED)
            why = "not measured" if point.status == "ok" else point.status.replace("_", " ")
            y = panel.y.low + 0.05 * (panel.y.high - panel.y.low)
            sheet.note(panel, point.eta.centre, y, why, rotation=90, ha="center", va="bottom", color="#505050")


def _scale(methods: tuple[tuple[str, tuple[Point, ...]], ...], truth: tuple[Truth, ...]) -> Scale:
    points = [point for _, found in methods for point in found if point.is_measured]
    known = [value for _, _, value in truth if np.isfinite(value)]
    values, errors = [*(p.value for p in points), *known, 1.0], [*(p.stat for p in points), *(0.0 for _ in known), 0.0]
    low, high = (span(values, errors) if points or known else None) or (0.9, 1.1)
    margin = max(0.1 * (high - low), 0.01)
    return Scale(max(low - margin, 0.0), min(high + margin, 3.0))


def _keys(methods: tuple[tuple[str, tuple[Point, ...]], ...], truth: tuple[Truth, ...]) -> list[Key]:
    keys = [Key((SERIES[i % len(SERIES)],), name.replace("_", " ")) for i, (name, _) in enumerate(methods)]
    return [*keys, Key((INJECTED,), "injected")] if truth else keys
