"""Figures of scale factors of taggers, all taggers side by side: against pT, and in other ranges of mass."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D

from report.figures import file_name
from report.style import (
    BLUE,
    DARK_BLUE,
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
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from corrections.results import Interval
    from corrections.tagging.results import TaggerPoint
    from corrections.tagging.windows import InWindow
    from report.settings import ReportSettings

COLOURS = (BLUE, RED, PURPLE, ORANGE, GREY, VIOLET, DARK_BLUE)
MARKERS = ("o", "s", "^", "v", "D", "P", "X")
PANEL_WIDTH, PANEL_HEIGHT = 3.9, 3.1
RATIO = "data / simulation"
# Of an uncertainty: a source that is less does nothing.
SMALL = 1e-3


def write_factors(points: Sequence[TaggerPoint], folder: Path, settings: ReportSettings) -> list[Path]:
    """Paths of a figure for each category with all taggers side by side."""
    return _write(_measured(points), "scale_factors", draw_factors, folder, settings)


def write_windows(windows: Sequence[InWindow], folder: Path, settings: ReportSettings) -> list[Path]:
    """Paths of a figure for each category that was measured in several ranges of mass."""
    known = [each for each in windows if np.isfinite(each.value / each.published)]
    return _write(known, "mass_windows", draw_windows, folder, settings)


def write_uncertainties(points: Sequence[TaggerPoint], folder: Path, settings: ReportSettings) -> list[Path]:
    """Paths of a figure for each category with what its uncertainties are made of."""
    return _write(_measured(points), "uncertainties", draw_uncertainties, folder, settings)


def _measured(points: Sequence[TaggerPoint]) -> list[TaggerPoint]:
    return [each for each in points if each.is_measured]


def _write(
    found: Sequence[Any], name: str, draw: Callable[..., Any], folder: Path, settings: ReportSettings
) -> list[Path]:
    """Paths of what `draw` makes of each category that there is."""
    paths = []
    with experiment_style(settings):
        for category in dict.fromkeys(each.category for each in found):
            figure = draw(category, [each for each in found if each.category == category], settings)
            paths += write_figure(figure, folder / file_name(name, category), settings)
    return paths


def draw_factors(category: str, points: Sequence[TaggerPoint], settings: ReportSettings) -> Any:
    """Scale factors of one category against pT; a column for each working point, a row for each range of |eta|.

    Inner error bars are statistical.
    """
    names = list(dict.fromkeys(each.working_point for each in points))
    etas = sorted({each.eta for each in points}, key=lambda eta: eta.low)
    taggers = list(dict.fromkeys(each.tagger for each in points))
    figure, panels = _panels(len(etas), len(names))
    edges = sorted({edge for each in points for edge in (each.pt.low, each.pt.high)})
    limits = _limits([(each.value, each.total) for each in points])
    for (row, column), axes in np.ndenumerate(panels):
        for place, tagger in enumerate(taggers):
            which = (tagger, names[column], etas[row])
            own = [each for each in points if (each.tagger, each.working_point, each.eta) == which]
            _draw_points(axes, own, (place, len(taggers)))
        _pt_axis(axes, edges)
        axes.set_ylim(*limits)
        _title(axes, names[column] + _told(etas[row], etas))
        if row + 1 == len(etas):
            axes.set_xlabel("jet pT [GeV]")
        if column == 0:
            axes.set_ylabel(RATIO)
    panels[0, 0].legend(frameon=False, loc="upper left", ncols=2)
    header(figure, settings, f"scale factor of {category}")
    return figure


def draw_uncertainties(category: str, points: Sequence[TaggerPoint], settings: ReportSettings) -> Any:
    """Largest uncertainties by source relative to the scale factor, against pT.

    Rows are taggers, each in all ranges of |eta|, columns working points.
    """
    names = list(dict.fromkeys(each.working_point for each in points))
    etas = sorted({each.eta for each in points}, key=lambda eta: eta.low)
    rows = list(product(dict.fromkeys(each.tagger for each in points), etas))
    sources = _largest_sources(points)
    figure, panels = _panels(len(rows), len(names))
    edges = sorted({edge for each in points for edge in (each.pt.low, each.pt.high)})
    for (row, column), axes in np.ndenumerate(panels):
        tagger, eta = rows[row]
        which = (tagger, names[column], eta)
        _draw_levels(axes, [each for each in points if (each.tagger, each.working_point, each.eta) == which], sources)
        _pt_axis(axes, edges)
        _title(axes, f"{tagger} {names[column]}{_told(eta, etas)}")
        if row + 1 == len(rows):
            axes.set_xlabel("jet pT [GeV]")
        if column == 0:
            axes.set_ylabel("relative uncertainty")
    axes = panels[0, 0]
    axes.set_ylim(0, 1.5 * max(each.total / each.value for each in points))
    handles = [Line2D([], [], **_line(place), label=name) for place, name in enumerate(("total", "data", *sources))]
    axes.legend(handles=handles, frameon=False, loc="upper left", ncols=2, fontsize=9)
    header(figure, settings, f"scale factor of {category}: uncertainties")
    return figure


def _told(eta: Interval, etas: Sequence[Interval]) -> str:
    """A range of |eta| for the title of a panel, where there are several."""
    return f", |η| {eta.low:g} to {eta.high:g}" if len(etas) > 1 else ""


def _largest_sources(points: Sequence[TaggerPoint]) -> list[str]:
    """The sources that matter most on average, at most as many as can be told apart, and none that does nothing."""
    names = dict.fromkeys(shift.source for each in points for shift in each.shifts if shift.size > SMALL * each.total)
    sizes = {name: sum(_size(each, name) / each.value for each in points) for name in names}
    return sorted(sizes, key=lambda name: -sizes[name])[: len(COLOURS) - 1]


def _size(point: TaggerPoint, source: str) -> float:
    shift = point.shift(source)
    return shift.size if shift else 0.0


def _draw_levels(axes: Any, points: Sequence[TaggerPoint], sources: Sequence[str]) -> None:
    """Relative uncertainties as levels in the bins of points: the whole, that of data and each source, a line each."""
    edges = [edge for each in points for edge in (each.pt.low, each.pt.high, np.nan)]
    sizes = [[each.total, each.stat, *(_size(each, source) for source in sources)] for each in points]
    for place in range(2 + len(sources)):
        heights = [own[place] / each.value for each, own in zip(points, sizes, strict=True)]
        axes.plot(edges, np.repeat(heights, 3), **_line(place))


def _line(place: int) -> dict[str, Any]:
    if place == 0:
        return {"color": "black", "linewidth": 2.2}
    return {"color": COLOURS[place - 1], "linestyle": ("-", "--", ":", "-.")[(place - 1) % 4]}


def draw_windows(category: str, windows: Sequence[InWindow], settings: ReportSettings) -> Any:
    """Scale factors of one category in ranges of mass over the published one, by bin of pT and working point.

    Error bars are whole uncertainties, most of which both share; a line at 1 is the published scale factor.
    """
    names = list(dict.fromkeys(each.working_point for each in windows))
    pts = sorted({each.pt for each in windows}, key=lambda pt: pt.low)
    taggers = list(dict.fromkeys(each.tagger for each in windows))
    ranges = sorted({each.window for each in windows}, key=lambda window: (window[1] - window[0], window))
    figure, panels = _panels(len(pts), len(names))
    limits = _limits([(each.value / each.published, each.error / each.published) for each in windows])
    for (row, column), axes in np.ndenumerate(panels):
        for place, tagger in enumerate(taggers):
            which = (tagger, names[column], pts[row])
            own = [each for each in windows if (each.tagger, each.working_point, each.pt) == which]
            x = [ranges.index(each.window) + _shift(place, len(taggers)) for each in own]
            y, error = [each.value / each.published for each in own], [each.error / each.published for each in own]
            axes.errorbar(x, y, error, **_look(place), label=tagger, elinewidth=1.2)
        axes.axhline(1, color=GREY, linewidth=0.8, linestyle="--")
        axes.set_xlim(-0.5, len(ranges) - 0.5)
        axes.set_xticks(range(len(ranges)), [f"{low:g}-{high:g}" for low, high in ranges])
        axes.set_ylim(*limits)
        _title(axes, f"{names[column]}, {pts[row].low:g} to {pts[row].high:g} GeV")
        if row + 1 == len(pts):
            axes.set_xlabel("range of mass [GeV]")
        if column == 0:
            axes.set_ylabel("over published")
    panels[0, 0].legend(frameon=False, loc="upper left", ncols=2)
    header(figure, settings, f"scale factor of {category} by range of mass")
    return figure


def write_figure(figure: Any, stem: Path, settings: ReportSettings) -> list[Path]:
    """Paths of a figure in all formats."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in settings.formats]
    for path in paths:
        save(figure, path, settings.dpi)
    return paths


def _panels(rows: int, columns: int) -> tuple[Any, Any]:
    """A figure with a grid of axes that share theirs."""
    width, height = 0.9 + PANEL_WIDTH * columns, 1.3 + PANEL_HEIGHT * rows
    figure = new_figure(max(width, 6.5), height)
    panels = figure.subplots(
        rows,
        columns,
        squeeze=False,
        sharex=True,
        sharey=True,
        gridspec_kw={
            "left": 0.8 / max(width, 6.5),
            "right": 1 - 0.15 / max(width, 6.5),
            "bottom": 0.7 / height,
            "top": 1 - 0.75 / height,
            "wspace": 0.06,
            "hspace": 0.16,
        },
    )
    return figure, panels


def _pt_axis(axes: Any, edges: Sequence[float]) -> None:
    """Edges of bins as ticks; the outer ones are written inside, beside those of the next panel."""
    axes.set_xscale("log")
    axes.set_xlim(edges[0], edges[-1])
    axes.set_xticks(edges, [f"{edge:g}" for edge in edges], rotation=90 if len(edges) > 6 else 0)
    axes.minorticks_off()
    labels = axes.get_xticklabels()
    # of a column only the last panel has labels
    for place, side in ((0, "left"), (-1, "right")) if labels else ():
        labels[place].set_ha(side)


def _draw_points(axes: Any, points: Sequence[TaggerPoint], place: tuple[int, int]) -> None:
    """Points of one tagger in its share of each bin."""
    axes.axhline(1, color=GREY, linewidth=0.8, linestyle="--")
    if not points:
        return
    share = 0.5 + _shift(*place)
    x = np.array([each.pt.low ** (1 - share) * each.pt.high**share for each in points])
    wide = np.array([(at - each.pt.low, each.pt.high - at) for at, each in zip(x, points, strict=True)]).T
    y, look = [each.value for each in points], _look(place[0])
    axes.errorbar(x, y, [each.total for each in points], wide, **look, label=points[0].tagger, elinewidth=1)
    axes.errorbar(x, y, [each.stat for each in points], **look, elinewidth=2.8)


def _look(place: int) -> dict[str, Any]:
    return {"color": COLOURS[place % len(COLOURS)], "fmt": MARKERS[place % len(MARKERS)]}


def _shift(place: int, n: int) -> float:
    """Place of one of n within a bin of width 1, from its middle."""
    return (place + 1) / (n + 1) - 0.5


def _limits(found: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Of an axis that holds 1 and all error bars of reasonable length, with room for a legend."""
    known = [(value, error) for value, error in found if np.isfinite(value) and np.isfinite(error)]
    values = np.array([value for value, _ in known] or [1.0])
    errors = np.array([error for _, error in known] or [0.1])
    reach = errors[errors <= 3 * np.median(errors)].max()
    low, high = min(values.min() - reach, 0.9), max(values.max() + reach, 1.1)
    low, high = max(low, 0.0), min(high, 3.0)
    return low - 0.03 * (high - low), high + 0.22 * (high - low)


def _title(axes: Any, text: str) -> None:
    axes.set_title(text, loc="right", fontsize=11, pad=4, **text_options(text))
