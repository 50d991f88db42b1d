"""Closing the loop: scale factor and residual measured once more, after the corrections were applied."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from corrections.results import AGAIN
from report.closure import ROUNDING, best_known, in_bin, main_points
from report.figures import Drawing, file_name
from report.scale_factor import eta_scale, mark_missing
from report.sheet import Area, Grid, Key, Marker, Scale
from report.style import BLACK, BLUE, GREY, span

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from corrections.results import Check, Measurement, Point, Quantity
    from report.settings import ReportSettings

SECTION = "Closing the loop"
GRID = Grid(columns=1, height=5.2, rows=1, width=9.5, left=0.95, right=0.2, bottom=0.7, text_scale=1.15, lower=0.5)
SECOND, FIRST = Marker(BLACK, "o", 5.5, order=5), Marker(GREY, "s", 4.5, is_open=True)
EXPECTED = Area(BLUE, 0.4)
LABELS: dict[Quantity, tuple[Quantity, str]] = {
    "scale_factor_again": ("scale_factor", "scale factor"),
    "residual_again": ("residual", "residual"),
}
CAPTION = (
    "The corrections applied to their own sample, {algo} jets: simulation smeared by the scale factor, data corrected "
    "by the residual, and both measured again (full markers), which must give 1. The band is the statistical "
    "uncertainty of the values that were applied (open markers). The events are the same both times, and what was left "
    "at first was put in, so that less than the band is left."
)


def drawings(measurement: Measurement) -> list[Drawing]:
    """One figure; none where the loop was not closed."""
    rows = tuple(_row(measurement, quantity) for quantity in LABELS if main_points(measurement, quantity))
    if not rows:
        return []
    return [
        Drawing(
            name=file_name("loop", measurement.algo),
            section=SECTION,
            title=f"{SECTION}, {measurement.algo}",
            caption=CAPTION.format(algo=measurement.algo),
            draw=draw,
            arguments=(f"{measurement.algo}, measured again after correction", rows),
        )
    ]


Row = tuple[str, str, tuple["Point", ...], tuple["Point", ...]]


def _row(measurement: Measurement, quantity: Quantity) -> Row:
    """Label, chi2 in words, second and first values."""
    first, label = LABELS[quantity]
    check = next((check for check in measurement.checks if check.name == AGAIN[quantity]), None)
    # What is 1 by construction was not measured and says nothing.
    again = tuple(point for point in main_points(measurement, quantity) if not point.stat < ROUNDING)
    before = (best_known(in_bin(main_points(measurement, first), point.eta)) for point in again)
    return label, chi2_words(check), again, tuple(point for point in before if point is not None)


def chi2_words(check: Check | None) -> str:
    """Chi2 and its probability; nothing without degrees of freedom."""
    if check is None or check.ndf == 0:
        return ""
    return f"χ²/n = {check.chi2:.1f}/{check.ndf} from 1, probability {check.p_value:.2g}"


def draw(title: str, rows: tuple[Row, ...], settings: ReportSettings) -> Figure:
    """Scale factor above, residual below."""
    grid = GRID if len(rows) > 1 else replace(GRID, lower=0.0)
    sheet = grid.sheet(1, settings, title)
    x = eta_scale([point for _, _, again, _ in rows for point in again])
    for i, (label, words, again, first) in enumerate(rows):
        place = grid.panel if i == 0 else grid.lower_panel
        panel = place(sheet, 0, x, _scale(again, first))
        is_last = i == len(rows) - 1
        joined = None if len(rows) == 1 else "above" if is_last else "below"
        sheet.frame(panel, "|η|" if is_last else "", label, joined=joined)  # type: ignore[arg-type]
        sheet.level(panel, 1.0)
        sheet.words(panel, 0, words)
        mark_missing(sheet, panel, again)
        for point in again:
            if point.is_measured:
                sheet.bar(panel, (point.eta.low, point.eta.high), 1 - point.stat, 1 + point.stat, EXPECTED)
        for points, look in ((first, FIRST), (again, SECOND)):
            shown = [point for point in points if point.is_measured]
            zeros = [0.0] * len(shown)
            if shown:
                sheet.points(panel, [p.eta.centre for p in shown], [p.value for p in shown], zeros, look)
    sheet.legend([Key((SECOND,), "measured again"), Key((EXPECTED,), "uncertainty"), Key((FIRST,), "applied")])
    return sheet.figure()


def _scale(again: tuple[Point, ...], first: tuple[Point, ...]) -> Scale:
    values = [(1.0, point.stat) for point in again] + [(p.value, 0.0) for p in (*again, *first) if p.is_measured]
    low, high = span([value for value, _ in values], [error for _, error in values]) or (0.9, 1.1)
    # Room above for the words.
    size = max(high - low, 0.01)
    return Scale(max(low - 0.1 * size, 0.0), high + 0.25 * size)
