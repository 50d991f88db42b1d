"""Figures of the fits of taggers: soft-drop mass between working points, before and after the fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mplhep
import numpy as np

from report.figures import file_name
from report.style import (
    BLUE,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    VIOLET,
    experiment_style,
    header,
    new_figure,
    text_options,
)
from report.tagger_factors import write_figure

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from corrections.tagging.counts import FloatArray
    from corrections.tagging.fit import BinFit
    from corrections.tagging.templates import Region
    from report.settings import ReportSettings

COLOURS = (BLUE, ORANGE, PURPLE, GREY, RED, VIOLET)
MASS = "soft-drop mass [GeV]"
DATA: dict[str, Any] = {"fmt": "o", "color": "black", "elinewidth": 1, "markersize": 3.5}


def write_fit(fitted: BinFit, folder: Path, settings: ReportSettings) -> list[Path]:
    """Paths of the figure of one fit in all formats; none where there was no fit."""
    if not fitted.is_drawable:
        return []
    with experiment_style(settings):
        return write_figure(draw_fit(fitted, settings), folder / file_name("fit", fitted.templates.name), settings)


def draw_fit(fitted: BinFit, settings: ReportSettings) -> Any:
    """Regions (columns), before and after the fit (rows), each with data over expectation below."""
    regions = fitted.templates.regions
    figure = new_figure(0.7 + 4.4 * len(regions), 10.5)
    edges = {"left": 0.75 / figure.get_figwidth(), "right": 1 - 0.15 / figure.get_figwidth()}
    grid = figure.add_gridspec(
        5, len(regions), height_ratios=(3, 1, 0.75, 3, 1), hspace=0.06, wspace=0.24, top=0.91, bottom=0.06, **edges
    )
    order = np.argsort([sum(own[place].sum() for own in fitted.after) for place in range(len(fitted.templates.groups))])
    rows = ((0, "before", fitted.before, fitted.error_before), (3, "after", fitted.after, fitted.error_after))
    for column, region in enumerate(regions):
        for row, when, expected, errors in rows:
            main = figure.add_subplot(grid[row, column])
            ratio = figure.add_subplot(grid[row + 1, column], sharex=main)
            _stack(main, region, expected[column], errors[column], (fitted.templates.groups, order))
            title = f"{_told(fitted, column)}, {when} the fit"
            main.set_title(title, loc="left", **text_options(title))
            _ratio(ratio, region, expected[column].sum(axis=0), errors[column])
            main.tick_params(labelbottom=False)
            if column == 0:
                main.set_ylabel("jets / GeV")
                ratio.set_ylabel("data / exp.")
    figure.axes[0].legend(ncols=2, frameon=False)
    header(
        figure, settings, f"{fitted.templates.tagger}, {fitted.templates.pt.low:g} to {fitted.templates.pt.high:g} GeV"
    )
    return figure


def _told(fitted: BinFit, place: int) -> str:
    """A region in words."""
    names = fitted.templates.working_points
    passed = [f"pass {names[place - 1]}"] if place else []
    failed = [f"fail {names[place]}"] if place < len(names) else []
    return ", ".join([*passed, *failed])


def _stack(
    axes: Any, region: Region, expected: FloatArray, errors: FloatArray, groups: tuple[Sequence[str], Any]
) -> None:
    """Groups on top of each other with their uncertainty, and data, per GeV."""
    names, order = groups
    width = np.diff(region.edges)
    mplhep.histplot(
        [expected[place] / width for place in order],
        region.edges,
        ax=axes,
        stack=True,
        histtype="fill",
        label=[names[place] for place in order],
        color=[COLOURS[place % len(COLOURS)] for place in order],
    )
    total = expected.sum(axis=0)
    _band(axes, region, (total - errors) / width, (total + errors) / width)
    middle = 0.5 * (region.edges[1:] + region.edges[:-1])
    error = np.sqrt(region.data) / width
    axes.errorbar(middle, region.data / width, error, 0.5 * width, **DATA, label="data")
    axes.set_xlim(region.edges[0], region.edges[-1])
    axes.set_ylim(0, 1.45 * max(float((region.data / width).max()), float((total / width).max())))


def _band(axes: Any, region: Region, low: FloatArray, high: FloatArray) -> None:
    label = "uncertainty"
    axes.stairs(
        high,
        region.edges,
        baseline=low,
        fill=True,
        facecolor="none",
        edgecolor="#555555",
        hatch="////",
        linewidth=0,
        label=label,
    )


def _ratio(axes: Any, region: Region, expected: FloatArray, errors: FloatArray) -> None:
    """Data over expectation; the axis is as long as the points need, from 0 to 3 at most, arrows tell of the others."""
    width, middle = np.diff(region.edges), 0.5 * (region.edges[1:] + region.edges[:-1])
    values, error = region.data / expected, np.sqrt(region.data) / expected
    _band(axes, region, 1 - errors / expected, 1 + errors / expected)
    axes.errorbar(middle, values, error, 0.5 * width, **DATA)
    axes.axhline(1, color=GREY, linewidth=0.8)
    reach = float(np.clip(1.15 * np.abs(values - 1).max(), 0.25, 2.0))
    low, high = max(1 - reach, 0.0), 1 + reach
    axes.set_ylim(low, high)
    is_above = values > high
    axes.plot(middle[is_above], np.full(is_above.sum(), high), "^", color="black", clip_on=False, markersize=5)
    axes.set_xlabel(MASS)
