"""Methods side by side: the ratio of each to the published one against |eta|, and how far they are spread."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from report.closure import by_method, eta_bins, methods_of, spread
from report.figures import Drawing, file_name
from report.scale_factor import GRID, NAMES, QUANTITIES, STAT, TOTAL, look_of, method_keys, places
from report.sheet import Key, Line, Scale
from report.style import DARK_BLUE, span

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from corrections.results import Interval, Measurement, Point, Quantity
    from report.settings import ReportSettings

SECTION = "Methods side by side"
SPREAD = Line(DARK_BLUE, 1.2, (3, 2), order=3.5)
CAPTION = (
    "{title} of {algo} jets by every other method over that by the published one ({method}), on the same events. Error "
    "bars: statistical error of the other method alone. Bands: statistical (blue) and total (grey) uncertainty of the "
    "published one. Dashed: RMS of all methods about their mean."
)

Row = tuple["Interval", dict[str, "Point"]]


def drawings(measurement: Measurement) -> list[Drawing]:
    """One figure for scale factors and one for residuals, where more than one method gave some."""
    return [
        _drawing(measurement, quantity, names)
        for quantity in QUANTITIES
        if len(names := methods_of(measurement, quantity)) > 1
    ]


def _drawing(measurement: Measurement, quantity: Quantity, names: list[str]) -> Drawing:
    title = NAMES[quantity][0]
    rows = tuple((eta, by_method(measurement, quantity, eta)) for eta in eta_bins(measurement, quantity))
    return Drawing(
        name=file_name("methods", quantity, measurement.algo),
        section=SECTION,
        title=f"{title} by method, {measurement.algo}",
        caption=CAPTION.format(title=title, algo=measurement.algo, method=names[0].replace("_", " ")),
        draw=draw,
        arguments=(f"{measurement.algo}, {title.lower()} by method", tuple(names), rows),
    )


def draw(title: str, names: tuple[str, ...], rows: tuple[Row, ...], settings: ReportSettings) -> Figure:
    """Figure of one quantity."""
    sheet = GRID.sheet(1, settings, title)
    known = [(eta, found) for eta, found in rows if names[0] in found]
    panel = GRID.panel(sheet, 0, Scale(0.0, rows[-1][0].high, n_ticks=10), _scale(known, names[0]))
    sheet.frame(panel, "|η|", f"ratio to {names[0].replace('_', ' ')}")
    sheet.level(panel, 1.0)
    for eta, found in known:
        main, ends = found[names[0]], (eta.low, eta.high)
        for size, area in ((main.total, TOTAL), (main.stat, STAT)):
            if size > 0:
                sheet.bar(panel, ends, 1 - size / main.value, 1 + size / main.value, area)
        for side in (-1, 1):
            level = 1 + side * spread(found.values())
            sheet.line(panel, ends, [level, level], SPREAD)
    for i, (name, place) in enumerate(zip(names, places(len(names)), strict=True)):
        both = [(found[name], found[names[0]]) for _, found in known if i > 0 and name in found]
        if both:
            x = [one.eta.low + place * (one.eta.high - one.eta.low) for one, _ in both]
            y = [one.value / main.value for one, main in both]
            sheet.points(panel, x, y, [one.stat / main.value for one, main in both], look_of(i))
    if not known:
        sheet.say(panel, "not measured")
    keys = method_keys(names)
    keys += [Key((TOTAL,), "total uncertainty")] if any(found[names[0]].shifts for _, found in known) else []
    sheet.legend([*keys, Key((SPREAD,), "RMS over methods")])
    return sheet.figure()


def _scale(known: list[Row], main: str) -> Scale:
    ratios = [(p.value / found[main].value, p.stat / found[main].value) for _, found in known for p in found.values()]
    low, high = span([value for value, _ in ratios], [error for _, error in ratios]) or (0.9, 1.1)
    size = np.clip(1.1 * max(high - 1, 1 - low), 0.01, 1.0)
    return Scale(1 - float(size), 1 + float(size))
