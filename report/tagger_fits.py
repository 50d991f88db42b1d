"""Figures of the fits of taggers: soft-drop mass between working points, before and after the fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from report.figures import file_name
from report.sheet import Area, Grid, Hatch, Key, Marker, Scale
from report.style import BLACK, BLUE, GREY, ORANGE, PURPLE, RED, VIOLET, experiment_style
from report.tagger_factors import write_figure

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from corrections.tagging.counts import FloatArray
    from corrections.tagging.fit import BinFit
    from corrections.tagging.templates import Region
    from report.settings import ReportSettings
    from report.sheet import Panel, Sheet

COLOURS = (BLUE, ORANGE, PURPLE, GREY, RED, VIOLET)
MASS = "soft-drop mass [GeV]"
DATA, OUTSIDE = Marker(BLACK, "o", 3.5), Marker(BLACK, "^", 5.0)
UNCERTAINTY = Hatch("#555555")
PANEL_WIDTH = 4.4
HEADROOM = 1.2
# Of a ratio from 1, at least and at most.
REACH = (0.25, 2.0)
# Of its error bars, which may be longer than what else is there to see.
REACH_OF_BARS = 1.0


def write_fit(fitted: BinFit, folder: Path, settings: ReportSettings) -> list[Path]:
    """Paths of the figure of one fit in all formats; none where there was no fit."""
    if not fitted.is_drawable:
        return []
    with experiment_style(settings):
        return write_figure(draw_fit(fitted, settings), folder / file_name("fit", fitted.templates.name), settings)


def draw_fit(fitted: BinFit, settings: ReportSettings) -> Any:
    """Regions (columns), before and after the fit (rows), each with data over expectation below."""
    templates, n = fitted.templates, len(fitted.templates.regions)
    grid = Grid(columns=n, rows=2, height=4.1, lower=0.27, gap_x=0.65, gap_y=0.6, width=0.7 + PANEL_WIDTH * n)
    title = f"{templates.tagger}, {templates.pt.low:g} to {templates.pt.high:g} GeV"
    sheet = grid.sheet(2 * n, settings, title)
    order = np.argsort(
        [sum(own[place].sum() for own in fitted.after) for place in range(len(templates.groups))]
    ).tolist()
    rows = (("before", fitted.before, fitted.error_before), ("after", fitted.after, fitted.error_after))
    for row, (when, expected, errors) in enumerate(rows):
        for column, region in enumerate(templates.regions):
            mass = Scale(float(region.edges[0]), float(region.edges[-1]))
            own, total = expected[column], expected[column].sum(axis=0)
            main = grid.panel(sheet, row * n + column, mass, _scale_of_jets(region, total, errors[column]))
            ratio = grid.lower_panel(sheet, row * n + column, mass, scale_of_ratio(region, total))
            sheet.frame(main, y_label="" if column else "jets / GeV", joined="below")
            sheet.frame(ratio, MASS, "" if column else "data / exp.", joined="above")
            sheet.words(main, 0, f"{_told(fitted, column)}, {when} the fit", bold=True)
            _stack(sheet, main, region, own[order], [COLOURS[place % len(COLOURS)] for place in order])
            _compare(sheet, main, region, (total, errors[column]), np.diff(region.edges))
            _compare(sheet, ratio, region, (total, errors[column]), total)
            sheet.level(ratio, 1.0)
    sheet.legend(_keys(templates.groups, order))
    return sheet.figure()


def _told(fitted: BinFit, place: int) -> str:
    """A region in words."""
    names = fitted.templates.working_points
    passed = [f"pass {names[place - 1]}"] if place else []
    failed = [f"fail {names[place]}"] if place < len(names) else []
    return ", ".join([*passed, *failed])


def _keys(groups: Sequence[str], order: Sequence[int]) -> list[Key]:
    """Groups as they lie on each other, uppermost first."""
    found = [Key((Area(COLOURS[place % len(COLOURS)], 1.0),), groups[place]) for place in reversed(order)]
    return [*found, Key((UNCERTAINTY,), "uncertainty"), Key((DATA,), "data")]


def _scale_of_jets(region: Region, total: FloatArray, errors: FloatArray) -> Scale:
    """With all error bars, and room for words above; an uncertainty counts as no more than the expectation."""
    highest = np.maximum(region.data + np.sqrt(region.data), total + np.minimum(errors, total))
    return Scale(0.0, HEADROOM * float((highest / np.diff(region.edges)).max()))


def scale_of_ratio(region: Region, total: FloatArray) -> Scale:
    """As long as the points of data over expectation need, from 0 to 3 at most, with error bars as far as 0 and 2."""
    distance = np.abs(region.data / total - 1)
    bars = 1.05 * float((distance + np.sqrt(region.data) / total).max())
    reach = float(np.clip(max(1.15 * float(distance.max()), min(bars, REACH_OF_BARS)), *REACH))
    return Scale(max(1 - reach, 0.0), 1 + reach, n_ticks=4)


def _stack(sheet: Sheet, panel: Panel, region: Region, expected: FloatArray, colours: Sequence[str]) -> None:
    """Groups on top of each other, (n_groups, n), lowest first, per GeV."""
    heights = expected.cumsum(axis=0) / np.diff(region.edges)
    for place, (height, colour) in enumerate(zip(heights, colours, strict=True)):
        # what is higher is drawn first, so that the lower ones cover it
        sheet.steps(panel, region.edges, height, Area(colour, 1.0, order=1 - 0.01 * place))


def _compare(
    sheet: Sheet, panel: Panel, region: Region, expected: tuple[FloatArray, FloatArray], unit: FloatArray
) -> None:
    """Data, and expectation with its uncertainty, in a unit; arrows for data above the panel."""
    total, errors = expected
    sheet.hatched(panel, region.edges, (total - errors) / unit, (total + errors) / unit, UNCERTAINTY)
    middle, values = 0.5 * (region.edges[1:] + region.edges[:-1]), region.data / unit
    ends = (region.edges[:-1], region.edges[1:])
    sheet.points(panel, middle, values, np.sqrt(region.data) / unit, DATA, ends=ends)
    above = values > panel.y.high
    sheet.points(panel, middle[above], np.full(above.sum(), panel.y.high), np.zeros(above.sum()), OUTSIDE)
