"""Figures of the measurement of taggers: pass and fail before and after the fit, scale factors against pT."""

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
    save,
    text_options,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from corrections.tagging.counts import FloatArray
    from corrections.tagging.fit import BinFit
    from corrections.tagging.results import TaggerPoint
    from corrections.tagging.templates import Region
    from report.settings import ReportSettings

COLOURS = (BLUE, ORANGE, PURPLE, GREY, RED, VIOLET)
MARKERS = ("o", "s", "^", "v", "D")
MASS = "soft-drop mass [GeV]"
DATA: dict[str, Any] = {"fmt": "o", "color": "black", "elinewidth": 1, "markersize": 3.5}


def write_fit(fitted: BinFit, folder: Path, settings: ReportSettings) -> list[Path]:
    """Paths of the figure of one fit in all formats; none where there was no fit."""
    if not fitted.is_drawable:
        return []
    with experiment_style(settings):
        return _saved(draw_fit(fitted, settings), folder / file_name("fit", fitted.templates.name), settings)


def write_factors(points: Sequence[TaggerPoint], folder: Path, settings: ReportSettings) -> list[Path]:
    """A figure for each category with all taggers side by side, those that know the mass and those that do not."""
    paths = []
    with experiment_style(settings):
        for category in dict.fromkeys(each.category for each in points):
            own = [each for each in points if each.category == category and each.is_measured]
            if own:
                figure = draw_factors(category, own, settings)
                paths += _saved(figure, folder / file_name("scale_factors", category), settings)
    return paths


def draw_fit(fitted: BinFit, settings: ReportSettings) -> Any:
    """Regions (columns), before and after the fit (rows), each with data over expectation below."""
    regions = fitted.templates.regions
    figure = new_figure(0.7 + 4.4 * len(regions), 10.5)
    edges = {"left": 0.75 / figure.get_figwidth(), "right": 1 - 0.15 / figure.get_figwidth()}
    grid = figure.add_gridspec(
        5, len(regions), height_ratios=(3, 1, 0.45, 3, 1), hspace=0.06, wspace=0.24, top=0.91, bottom=0.06, **edges
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


def draw_factors(category: str, points: Sequence[TaggerPoint], settings: ReportSettings) -> Any:
    """Scale factors of one category against pT by tagger and working point; inner error bars are statistical."""
    figure = new_figure(8.0, 5.5)
    axes = figure.add_axes((0.1, 0.12, 0.86, 0.74))
    kinds = list(dict.fromkeys((each.tagger, each.working_point, each.eta) for each in points))
    for place, kind in enumerate(kinds):
        own = [each for each in points if (each.tagger, each.working_point, each.eta) == kind]
        shift = (place + 1) / (len(kinds) + 1)
        x = [each.pt.low ** (1 - shift) * each.pt.high**shift for each in own]
        look: dict[str, Any] = {"color": COLOURS[place % len(COLOURS)], "fmt": MARKERS[place % len(MARKERS)]}
        label = f"{kind[0]} {kind[1]}" + (f", |η| {kind[2].low:g}-{kind[2].high:g}" if _has_etas(points) else "")
        values = [each.value for each in own]
        axes.errorbar(x, values, [each.total for each in own], **look, label=label, elinewidth=1)
        axes.errorbar(x, values, [each.stat for each in own], **look, elinewidth=2.5)
    axes.set_xscale("log")
    edges = sorted({edge for each in points for edge in (each.pt.low, each.pt.high)})
    axes.set_xticks(edges, [f"{edge:g}" for edge in edges])
    axes.minorticks_off()
    axes.axhline(1, color=GREY, linewidth=0.8, linestyle="--")
    axes.set_xlabel("jet pT [GeV]")
    axes.set_ylabel("scale factor data/simulation")
    axes.legend(ncols=2, frameon=False)
    header(figure, settings, category)
    return figure


def _has_etas(points: Sequence[TaggerPoint]) -> bool:
    return len({each.eta for each in points}) > 1


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


def _saved(figure: Any, stem: Path, settings: ReportSettings) -> list[Path]:
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in settings.formats]
    for path in paths:
        save(figure, path, settings.dpi)
    return paths
