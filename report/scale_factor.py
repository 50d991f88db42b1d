"""Scale factor and residual response against |eta|, methods side by side, with the truth where it was injected."""

# ruff: noqa: RUF001 - Greek letters and signs are what is meant

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from corrections.known_answer import known_in
from report.closure import best_known, eta_bins, in_bin, is_exact, methods_of
from report.figures import Drawing, file_name
from report.sheet import Area, Grid, Key, Line, Marker, Scale
from report.style import BLACK, BLUE, GREY, ORANGE, PURPLE, RED, VIOLET, span

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

    from corrections.results import Measurement, Point, Quantity
    from report.settings import ReportSettings
    from report.sheet import Panel, Sheet

Truth = tuple[float, float, float]
Series = tuple[tuple[str, tuple["Point", ...]], ...]

GRID = Grid(columns=1, height=4.0, rows=1, width=9.5, left=0.95, right=0.2, bottom=0.7, text_scale=1.15)
WITH_PULLS = Grid(
    columns=1, height=5.0, rows=1, width=9.5, left=0.95, right=0.2, bottom=0.7, text_scale=1.15, lower=0.25
)
PUBLISHED = Marker(BLACK, "o", 5.5, order=5)
OTHERS = (
    Marker(ORANGE, "^", 5, is_open=True),
    Marker(PURPLE, "D", 4, is_open=True),
    Marker(RED, "v", 5, is_open=True),
    Marker(VIOLET, "s", 4, is_open=True),
)
VALUE, STAT, TOTAL = Line(BLACK, 1.2), Area(BLUE, 0.45), Area(GREY, 0.35, order=0.8)
INJECTED = Line(BLACK, 1.2, (4, 2), order=3.5)
NOT_MEASURED = Area(GREY, 0.25, order=0)
QUANTITIES: tuple[Quantity, ...] = ("scale_factor", "residual")
NAMES: dict[Quantity, tuple[str, str]] = {
    "scale_factor": ("Scale factor", "JER scale factor, data / simulation"),
    "residual": ("Residual response", "residual, response of simulation / data"),
}
CAPTIONS: dict[Quantity, str] = {
    "scale_factor": "Data/simulation scale factor of the jet energy resolution against |η|, {algo} jets.",
    "residual": "Residual response, simulation over data, relative to the reference region against |η|, {algo} jets.",
}
ERRORS = "Full markers and bands: the published method ({method}) with statistical{total} uncertainty."
OPEN = "Open markers: other methods on the same events, with statistical errors."
DEPENDENT = "Values that depend on pT are shown in the bin of pT in which they are known best."
WITH_TRUTH = (
    "Dashed: the truth that was put in; below: (measured − truth)/error. The error is the statistical one; where "
    "several values were put into one bin, the doubt about their mean is added in quadrature."
)
MISSING = "Grey bins were not measured."


def drawings(measurement: Measurement, injected: Mapping[str, Sequence[Truth]] | None = None) -> list[Drawing]:
    """Scale factor, then residual; `injected` has (|eta| low, high, value) by quantity."""
    return [
        _drawing(measurement, quantity, tuple((injected or {}).get(quantity, ())))
        for quantity in QUANTITIES
        if measurement.select(quantity)
    ]


def _drawing(measurement: Measurement, quantity: Quantity, truth: tuple[Truth, ...]) -> Drawing:
    title, label = NAMES[quantity]
    found = series(measurement, quantity)
    return Drawing(
        name=file_name(quantity, measurement.algo),
        section=title,
        title=f"{title}, {measurement.algo}",
        caption=_caption(measurement, quantity, found, truth),
        draw=draw,
        arguments=(f"{measurement.algo}, {title.lower()}", label, found, truth),
    )


def _caption(measurement: Measurement, quantity: Quantity, found: Series, truth: tuple[Truth, ...]) -> str:
    main = found[0][1]
    total = " (blue) and total (grey)" if any(point.shifts for point in main) else ""
    sentences = [
        CAPTIONS[quantity].format(algo=measurement.algo),
        ERRORS.format(method=found[0][0].replace("_", " "), total=total),
        OPEN if len(found) > 1 else "",
        DEPENDENT if len(measurement.select(quantity)) > sum(len(points) for _, points in found) else "",
        WITH_TRUTH if truth else "",
        MISSING if not all(point.is_measured for point in main) else "",
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def series(measurement: Measurement, quantity: Quantity) -> Series:
    """Points of each method in |eta| order, the main method first; of several in pT the one that is known best."""
    bins = eta_bins(measurement, quantity)
    found = []
    for method in methods_of(measurement, quantity):
        points = measurement.select(quantity, method=method)
        best = (best_known(in_bin(points, eta)) for eta in bins)
        found.append((method, tuple(point for point in best if point is not None)))
    return tuple(found)


def draw(title: str, label: str, methods: Series, truth: tuple[Truth, ...], settings: ReportSettings) -> Figure:
    """Figure of one quantity against |eta|."""
    grid = WITH_PULLS if truth else GRID
    sheet = grid.sheet(1, settings, title)
    x = eta_scale([point for _, points in methods for point in points])
    panel = grid.panel(sheet, 0, x, _scale(methods, truth))
    sheet.frame(panel, "" if truth else "|η|", label, joined="below" if truth else None)
    sheet.level(panel, 1.0)
    mark_missing(sheet, panel, methods[0][1])
    draw_published(sheet, panel, methods[0][1])
    for low, high, value in truth:
        sheet.line(panel, [low, min(high, x.high)], [value, value], INJECTED)
    _draw_methods(sheet, panel, methods, ())
    if truth:
        below = grid.lower_panel(sheet, 0, x, Scale(-4, 4, ticks=(-3, 0, 3)))
        sheet.frame(below, "|η|", "pull", joined="above")
        for value in (-1.0, 0.0, 1.0):
            sheet.level(below, value)
        _draw_methods(sheet, below, methods, truth)
    keys = method_keys([name for name, _ in methods])
    keys += [Key((TOTAL,), "total uncertainty")] if any(point.shifts for point in methods[0][1]) else []
    sheet.legend([*keys, Key((INJECTED,), "injected")] if truth else keys)
    return sheet.figure()


def eta_scale(points: Sequence[Point]) -> Scale:
    """Axis of |eta| from 0 to the end of the last bin."""
    return Scale(0.0, max((point.eta.high for point in points), default=5.0), n_ticks=10)


def draw_published(sheet: Sheet, panel: Panel, points: Sequence[Point]) -> None:
    """Bands of the statistical and the total uncertainty, and a line at the value."""
    for point in points:
        if point.is_measured:
            ends = (point.eta.low, point.eta.high)
            if point.shifts:
                sheet.bar(panel, ends, point.value - point.total, point.value + point.total, TOTAL)
            sheet.bar(panel, ends, point.value - point.stat, point.value + point.stat, STAT)
            sheet.line(panel, ends, [point.value, point.value], VALUE)


def places(n_methods: int) -> list[float]:
    """Where in an |eta| bin the points of each method stand: the first in the middle, the others beside it."""
    beside = n_methods - 1 + (n_methods - 1) % 2
    return [0.5, *((i + 1) / (beside + 1) for i in range(n_methods - 1))]


def look_of(i: int) -> Marker:
    """Marker of the i-th method."""
    return PUBLISHED if i == 0 else OTHERS[(i - 1) % len(OTHERS)]


def method_keys(names: Sequence[str]) -> list[Key]:
    """Entries of the legend, the published method first."""
    looks = [(STAT, PUBLISHED), *((look_of(i),) for i in range(1, len(names)))]
    return [Key(look, name.replace("_", " ")) for look, name in zip(looks, names, strict=False)]


def _draw_methods(sheet: Sheet, panel: Panel, methods: Series, truth: tuple[Truth, ...]) -> None:
    """Points, those of the other methods with errors, or the pulls of all of them where there is truth."""
    for i, ((_, points), place) in enumerate(zip(methods, places(len(methods)), strict=True)):
        shown = [point for point in points if point.is_measured]
        if not shown:
            continue
        value, error = np.array([point.value for point in shown]), np.array([point.stat for point in shown])
        if truth:
            value = np.array([pull(point, truth) for point in shown])
        if truth or i == 0:
            error = np.zeros_like(error)
        low, high = np.array([(point.eta.low, point.eta.high) for point in shown]).T
        sheet.points(panel, low + (high - low) * place, value, error, look_of(i))


def pull(point: Point, truth: Sequence[Truth]) -> float:
    """(measured - truth)/error, the error with the doubt about the truth where it varies inside the bin.

    nan where nothing was put in, and where the value has no error.
    """
    if is_exact(point) or not any(low < point.eta.high and point.eta.low < high for low, high, _ in truth):
        return float("nan")
    known, doubt = known_in(point.eta.low, point.eta.high, truth)
    return float((point.value - known) / np.hypot(point.stat, doubt))


def mark_missing(sheet: Sheet, panel: Panel, points: Sequence[Point]) -> None:
    """Grey where there is no value, with the reason."""
    for point in points:
        if not point.is_measured:
            sheet.shade(panel, point.eta.low, point.eta.high, NOT_MEASURED)
            why = "not measured" if point.status == "ok" else point.status.replace("_", " ")
            y = panel.y.low + 0.05 * (panel.y.high - panel.y.low)
            sheet.note(panel, point.eta.centre, y, why, rotation=90, ha="center", va="bottom", color="#505050")


def _scale(methods: Series, truth: tuple[Truth, ...]) -> Scale:
    main, others = methods[0][1], [point for _, points in methods[1:] for point in points if point.is_measured]
    known = [value for _, _, value in truth if np.isfinite(value)]
    points = [(p.value, p.total) for p in main if p.is_measured] + [(p.value, p.stat) for p in others]
    points += [(value, 0.0) for value in known]
    limits = span([value for value, _ in points] + [1.0], [error for _, error in points] + [0.0]) if points else None
    low, high = limits or (0.9, 1.1)
    margin = max(0.1 * (high - low), 0.01)
    return Scale(max(low - margin, 0.0), min(high + margin, 3.0))
