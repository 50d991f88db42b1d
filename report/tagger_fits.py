"""Figures of the measurement of taggers: pass and fail before and after the fit, scale factors against pT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mplhep
import numpy as np

from report.figures import file_name
from report.style import BLUE, GREY, ORANGE, PURPLE, RED, VIOLET, experiment_style, header, new_figure, save

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from corrections.tagging.fit import BinFit
    from corrections.tagging.results import TaggerPoint
    from corrections.tagging.templates import Region
    from report.settings import ReportSettings

COLOURS = (BLUE, ORANGE, PURPLE, GREY, RED, VIOLET)
MARKERS = ("o", "s", "^", "v", "D")
MASS = "soft-drop mass [GeV]"


def write_fit(fitted: BinFit, folder: Path, settings: ReportSettings) -> list[Path]:
    """Paths of the figure of one fit in all formats; none where there was no fit."""
    if fitted.status != "ok":
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
    """Pass and fail (columns), before and after the fit (rows), each with data over expectation below."""
    figure = new_figure(10.5, 10.0)
    grid = figure.add_gridspec(4, 2, height_ratios=(3, 1, 3, 1), hspace=0.32, wspace=0.24, top=0.92, bottom=0.07)
    regions = (("pass", fitted.templates.passing), ("fail", fitted.templates.failing))
    for column, (name, region) in enumerate(regions):
        for row, (when, expected) in enumerate((("before", fitted.before), ("after", fitted.after))):
            main = figure.add_subplot(grid[2 * row, column])
            ratio = figure.add_subplot(grid[2 * row + 1, column], sharex=main)
            _stack(main, region, expected[column], fitted.templates.groups)
            main.set_title(f"{name}, {when} the fit", loc="left")
            _ratio(ratio, region, expected[column].sum(axis=0))
            main.tick_params(labelbottom=False)
    figure.axes[0].legend(ncols=2, frameon=False)
    of = fitted.templates
    header(figure, settings, f"{of.tagger} {of.working_point}, {of.pt.low:g} to {of.pt.high:g} GeV")
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


def _stack(axes: Any, region: Region, expected: np.ndarray[Any, Any], groups: Sequence[str]) -> None:
    """Groups on top of each other and data, per GeV, the smallest group at the bottom."""
    width = np.diff(region.edges)
    order = np.argsort(expected.sum(axis=1))
    mplhep.histplot(
        [expected[place] / width for place in order],
        region.edges,
        ax=axes,
        stack=True,
        histtype="fill",
        label=[groups[place] for place in order],
        color=[COLOURS[place % len(COLOURS)] for place in order],
    )
    middle = 0.5 * (region.edges[1:] + region.edges[:-1])
    error = np.sqrt(region.data) / width
    axes.errorbar(middle, region.data / width, error, 0.5 * width, fmt="o", color="black", label="data")
    axes.set_ylabel("jets / GeV")
    axes.set_xlim(region.edges[0], region.edges[-1])
    axes.set_ylim(0, 1.35 * max(float((region.data / width).max()), float((expected.sum(axis=0) / width).max())))


def _ratio(axes: Any, region: Region, expected: np.ndarray[Any, Any]) -> None:
    width, middle = np.diff(region.edges), 0.5 * (region.edges[1:] + region.edges[:-1])
    axes.errorbar(middle, region.data / expected, np.sqrt(region.data) / expected, 0.5 * width, fmt="o", color="black")
    axes.axhline(1, color=GREY, linewidth=0.8)
    axes.set_ylim(0.5, 1.5)
    axes.set_ylabel("ratio")
    axes.set_xlabel(MASS)


def _saved(figure: Any, stem: Path, settings: ReportSettings) -> list[Path]:
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in settings.formats]
    for path in paths:
        save(figure, path, settings.dpi)
    return paths
