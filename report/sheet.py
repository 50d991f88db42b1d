"""A page of many small panels, drawn with a handful of artists.

A matplotlib `Axes` with its ticks costs 50 to 100 ms, a page of 15 of them over a second per format. Here all panels
of a page share their artists: one for every kind of line, point or area, with coordinates in inches of the page. Panels
know linear and logarithmic scales, ticks and labels, which is all these pages need.
"""

# ruff: noqa: RUF001 - Greek letters and signs are what is meant

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

import numpy as np
from matplotlib.collections import PolyCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from report.style import HEADER_HEIGHT, PAGE_WIDTH, PT_TICKS, header, new_figure, text_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

    from report.settings import ReportSettings

FloatArray = NDArray[np.float64]
Item = TypeVar("Item")
Joined = Literal["above", "below"] | None

TICK, MINOR_TICK, ROOM = 0.06, 0.035, 0.09
SMALL, NORMAL = 9.0, 11.0
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class Line(NamedTuple):
    """Look of lines; `dashes` in points on and off, () for a full line."""

    colour: str
    width: float = 1.4
    dashes: tuple[float, ...] = ()
    order: float = 3


class Marker(NamedTuple):
    """Look of points with error bars; open ones are white inside."""

    colour: str
    shape: str = "o"
    size: float = 4.0
    is_open: bool = False
    order: float = 4


class Area(NamedTuple):
    """Look of filled areas."""

    colour: str
    opacity: float = 0.35
    order: float = 1


class Hatch(NamedTuple):
    """Look of areas that let what is below them through: slanted lines, `gap` inches apart."""

    colour: str
    width: float = 0.7
    gap: float = 0.06
    order: float = 2


FRAME = Line("#000000", 0.9, order=6)
GUIDE = Line("#808080", 0.8, (2, 2), order=0.5)
SHADE = Area("#000000", 0.06, order=0)

Look = Line | Marker | Area | Hatch


@dataclass(frozen=True, slots=True)
class Scale:
    """Range of an axis; `ticks` replaces the automatic ones."""

    low: float
    high: float
    log: bool = False
    ticks: tuple[float, ...] | None = None
    n_ticks: int = 5

    @classmethod
    def of_pt(cls, low: float, high: float) -> Scale:
        """Logarithmic axis of pT in GeV with ticks that can be read."""
        inside = tuple(float(tick) for tick in PT_TICKS if low <= tick <= high)
        return cls(low, high, log=True, ticks=inside[1::2] if len(inside) > 6 else inside)

    def fraction(self, values: ArrayLike) -> FloatArray:
        """Place of the values along the axis, 0 at its low and 1 at its high end; nan beyond a logarithm."""
        array = np.asarray(values, dtype=np.float64)
        if not self.log:
            return (array - self.low) / (self.high - self.low)
        positive = np.where(array > 0, array, np.nan)
        return np.asarray(np.log(positive / self.low) / math.log(self.high / self.low))

    @property
    def labelled(self) -> list[float]:
        """Values with a long tick and a number."""
        if self.ticks is not None:
            return list(self.ticks)
        if not self.log:
            values = MaxNLocator(self.n_ticks, steps=[1, 2, 2.5, 5, 10]).tick_values(self.low, self.high)
            margin = 1e-6 * (self.high - self.low)
            return [float(v) for v in values if self.low - margin <= v <= self.high + margin]
        inside = [i for i in self._decades if self.low <= 10.0**i <= self.high]
        return [10.0**i for i in inside[:: 1 + (len(inside) - 1) // self.n_ticks]]

    @property
    def unlabelled(self) -> list[float]:
        """Values with a short tick: the digits between powers of ten."""
        if not self.log:
            return []
        return [v for i in self._decades for d in range(2, 10) if self.low <= (v := d * 10.0**i) <= self.high]

    def number(self, value: float) -> str:
        """Number on a tick; powers of ten where the axis spans many."""
        is_power = self.log and self.high > 1e5 * self.low and value not in (1, 10)
        return power_of_ten(value) if is_power else number(value)

    @property
    def _decades(self) -> range:
        return range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)


@dataclass(frozen=True, slots=True)
class Panel:
    """A rectangle in inches from the lower left corner of the page, with the scales of its axes."""

    left: float
    bottom: float
    width: float
    height: float
    x: Scale
    y: Scale

    def place(self, x: ArrayLike, y: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Positions on the page in inches; nan stays nan."""
        return self.left + self.width * self.x.fraction(x), self.bottom + self.height * self.y.fraction(y)

    def clip(self, x: ArrayLike, y: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Positions on the page, those beyond the frame moved onto it."""
        across, up = np.clip(self.x.fraction(x), 0, 1), np.clip(self.y.fraction(y), 0, 1)
        return self.left + self.width * across, self.bottom + self.height * up

    def holds(self, x: ArrayLike, y: ArrayLike) -> NDArray[np.bool_]:
        """Which points lie inside the frame."""
        across, up = self.x.fraction(x), self.y.fraction(y)
        return np.asarray((across >= 0) & (across <= 1) & (up >= 0) & (up <= 1))


class Key(NamedTuple):
    """An entry of the legend: what it looks like and what it is."""

    look: tuple[Look, ...]
    words: str


class Sheet:
    """Collects what is drawn in the panels of a page and makes the figure at the end."""

    def __init__(
        self, width: float, height: float, settings: ReportSettings, title: str, *, text_scale: float = 1.0
    ) -> None:
        self.width, self.height, self._text_scale = width, height, text_scale
        self._figure = new_figure(width, height)
        self._lines: dict[Line, list[FloatArray]] = defaultdict(list)
        self._points: dict[Marker, list[FloatArray]] = defaultdict(list)
        self._areas: dict[Area, list[FloatArray]] = defaultdict(list)
        header(self._figure, settings, title)

    def frame(self, panel: Panel, x_label: str = "", y_label: str = "", *, joined: Joined = None) -> None:
        """Border, ticks, numbers and the names of the axes; `joined` says where another panel touches this one."""
        left, bottom, right, top = panel.left, panel.bottom, panel.left + panel.width, panel.bottom + panel.height
        corners = [(left, bottom), (right, bottom), (right, top), (left, top), (left, bottom)]
        strokes = [corners]
        for values, length in ((panel.x.labelled, TICK), (panel.x.unlabelled, MINOR_TICK)):
            for x in left + panel.width * panel.x.fraction(values):
                strokes += [[(x, bottom), (x, bottom + length)], [(x, top), (x, top - length)]]
        for values, length in ((panel.y.labelled, TICK), (panel.y.unlabelled, MINOR_TICK)):
            for y in bottom + panel.height * panel.y.fraction(values):
                strokes += [[(left, y), (left + length, y)], [(right, y), (right - length, y)]]
        for stroke in strokes:
            self._stroke(FRAME, np.array(stroke))
        self._numbers(panel, joined)
        if x_label:
            down = self._text_scale * (0.26 if panel.x.labelled else 0.1)
            self._write(right, bottom - down, x_label, size=NORMAL + 1, ha="right", va="top")
        if y_label:
            self._write(
                left - 0.48 * self._text_scale, top, y_label, size=NORMAL + 1, ha="right", va="top", rotation=90
            )

    def _numbers(self, panel: Panel, joined: Joined) -> None:
        x_values, y_values = np.array(panel.x.labelled), np.array(panel.y.labelled)
        if joined != "below":
            for value, x in zip(x_values, panel.left + panel.width * panel.x.fraction(x_values), strict=True):
                self._write(x, panel.bottom - 0.06, panel.x.number(value), ha="center", va="top")
        for value, up in zip(y_values, panel.height * panel.y.fraction(y_values), strict=True):
            # The numbers of two panels that touch must not.
            if (joined == "below" and up < ROOM) or (joined == "above" and panel.height - up < ROOM):
                continue
            self._write(panel.left - 0.06, panel.bottom + up, panel.y.number(value), ha="right", va="center_baseline")

    def line(self, panel: Panel, x: ArrayLike, y: ArrayLike, look: Line) -> None:
        """Line through the points, broken where it leaves the frame or is nan."""
        inside = panel.holds(x, y)
        across, up = panel.place(x, y)
        points = np.stack([np.where(inside, across, np.nan), np.where(inside, up, np.nan)], axis=-1)
        self._stroke(look, points)

    def level(self, panel: Panel, value: float, look: Line = GUIDE) -> None:
        """Horizontal line across a panel."""
        self.line(panel, [panel.x.low, panel.x.high], [value, value], look)

    def points(
        self,
        panel: Panel,
        x: ArrayLike,
        y: ArrayLike,
        error: ArrayLike,
        look: Marker,
        *,
        ends: tuple[FloatArray, FloatArray] | None = None,
    ) -> None:
        """Points with vertical error bars, and horizontal bars from and to `ends`.

        Points outside the frame are left out, bars end at the frame.
        """
        value, error = np.asarray(y, dtype=np.float64), np.asarray(error, dtype=np.float64)
        inside = panel.holds(x, value)
        across, up = panel.place(x, value)
        self._points[look].append(np.stack([across[inside], up[inside]], axis=-1))
        low_end = np.where(error > 0, value - error, value)
        _, low = panel.clip(x, np.where(low_end > 0, low_end, panel.y.low) if panel.y.log else low_end)
        _, high = panel.clip(x, np.where(error > 0, value + error, value))
        gap = np.full_like(across, np.nan)
        bars = np.stack([np.stack([across, low], -1), np.stack([across, high], -1), np.stack([gap, gap], -1)], axis=1)
        bar = Line(look.colour, 1.0, order=look.order - 0.1)
        self._stroke(bar, bars[inside & (error > 0)].reshape(-1, 2))
        for start, end, level in zip(*ends, value, strict=True) if ends else ():
            self.line(panel, [start, end], [level, level], bar)

    def steps(self, panel: Panel, edges: FloatArray, heights: FloatArray, look: Area) -> None:
        """Filled histogram that stands on the lower end of the panel."""
        x = np.repeat(edges, 2)
        y = np.concatenate([[panel.y.low], np.repeat(heights, 2), [panel.y.low]])
        self._areas[look].append(np.stack(panel.clip(x, np.where(y > panel.y.low, y, panel.y.low)), axis=-1))

    def band(self, panel: Panel, x: FloatArray, low: FloatArray, high: FloatArray, look: Area) -> None:
        """Area between two curves, where both are finite."""
        known = np.isfinite(low) & np.isfinite(high)
        if known.any():
            outline = np.concatenate([x[known], x[known][::-1]]), np.concatenate([low[known], high[known][::-1]])
            self._areas[look].append(np.stack(panel.clip(*outline), axis=-1))

    def shade(self, panel: Panel, start: float, end: float, look: Area = SHADE) -> None:
        """Full height of a panel between two values of x."""
        if start < end:
            y = [panel.y.low, panel.y.high, panel.y.high, panel.y.low]
            self._areas[look].append(np.stack(panel.clip([start, start, end, end], y), axis=-1))

    def bar(self, panel: Panel, ends: tuple[float, float], low: float, high: float, look: Area) -> None:
        """Rectangle between two values of x and two of y."""
        x = [ends[0], ends[1], ends[1], ends[0]]
        self._areas[look].append(np.stack(panel.clip(x, [low, low, high, high]), axis=-1))

    def hatched(self, panel: Panel, edges: FloatArray, low: FloatArray, high: FloatArray, look: Hatch) -> None:
        """Lines between two histograms, the same ones across all bins."""
        left, bottom = panel.clip(edges[:-1], low)
        right, top = panel.clip(edges[1:], high)
        line = Line(look.colour, look.width, order=look.order)
        for x0, x1, y0, y1 in zip(left, right, bottom, top, strict=True):
            if not y1 > y0:  # nan too
                continue
            # a line is x - y = offset
            offsets = look.gap * np.arange(math.ceil((x0 - y1) / look.gap), math.floor((x1 - y0) / look.gap) + 1)
            start, end = np.maximum(x0, y0 + offsets), np.minimum(x1, y1 + offsets)
            for offset, ends in zip(offsets, np.stack([start, end], axis=-1), strict=True):
                self._stroke(line, np.stack([ends, ends - offset], axis=-1))

    def words(self, panel: Panel, row: int, text: str, *, colour: str = "#000000", bold: bool = False) -> None:
        """Text in the upper left corner of a panel, rows counted from the top."""
        size = NORMAL if bold else SMALL
        down = 0.1 + self._text_scale * (0.2 + 0.16 * (row - 1) if row else 0)
        y = panel.bottom + panel.height - down
        self._write(panel.left + 0.1, y, text, size=size, va="top", color=colour, weight="bold" if bold else "normal")

    def note(self, panel: Panel, x: float, y: float, text: str, **look: Any) -> None:
        """Text at a place given by the scales of a panel."""
        across, up = panel.clip(x, y)
        self._write(float(across), float(up), text, **look)

    def say(self, panel: Panel, text: str) -> None:
        """Text in the middle of a panel that has nothing else to show."""
        x, y = panel.left + panel.width / 2, panel.bottom + panel.height / 2
        self._write(x, y, text, size=NORMAL, ha="center", va="center", color="#606060")

    def legend(self, keys: Sequence[Key], *, left: float | None = None) -> None:
        """One row of keys under the header, common to all panels; with `left` a column that begins there, in inches."""
        samples: Any = [tuple(_sample(look) for look in key.look) for key in keys]
        row: dict[str, Any] = {
            "loc": "center",
            "bbox_to_anchor": (0.5, 1 - (HEADER_HEIGHT - 0.2) / self.height),
            "ncols": max(len(keys), 1),
        }
        if left is not None:
            row = {"loc": "upper left", "bbox_to_anchor": (left / self.width, 1 - HEADER_HEIGHT / self.height)}
        self._figure.legend(
            samples,
            [key.words for key in keys],
            **row,
            columnspacing=1.5,
            handletextpad=0.5,
            borderaxespad=0,
            fontsize=NORMAL,
        )

    def figure(self) -> Figure:
        """Figure with everything that was collected."""
        inches: dict[str, Any] = {"transform": self._figure.dpi_scale_trans}
        artists: list[Artist] = []
        for area, outlines in self._areas.items():
            look: dict[str, Any] = {"facecolor": area.colour, "alpha": area.opacity, "zorder": area.order}
            artists.append(PolyCollection(outlines, linewidth=0, **look, **inches))
        for line, parts in self._lines.items():
            x, y = np.concatenate(parts).T
            artists.append(_line(line, x, y, snap=line == FRAME, **inches))
        for marker, clouds in self._points.items():
            x, y = np.concatenate(clouds).T
            artists.append(_marker(marker, x, y, **inches))
        for artist in artists:
            self._figure.add_artist(artist)
        return self._figure

    def _stroke(self, look: Line, points: FloatArray) -> None:
        """Keep a line apart from the next one by a gap: one path is drawn many times faster than many."""
        self._lines[look] += [points, np.full((1, 2), np.nan)]

    def _write(self, x: float, y: float, text: str, *, size: float = SMALL + 0.5, **look: Any) -> None:
        options = {"size": size * self._text_scale, **text_options(text), **look}
        self._figure.text(x, y, text, transform=self._figure.dpi_scale_trans, **options)


def number(value: float) -> str:
    """Number in a figure, without an exponent where that is short."""
    if value != 0 and not 1e-3 <= abs(value) < 1e6:
        return power_of_ten(value)
    return f"{value:.6g}".replace("-", "\N{MINUS SIGN}")


def power_of_ten(value: float) -> str:
    """Number as a multiple of a power of ten."""
    mantissa, exponent = f"{value:.3e}".split("e")
    digits = mantissa.rstrip("0").rstrip(".").replace("-", "\N{MINUS SIGN}")
    return f"{'' if digits == '1' else digits + '×'}10{str(int(exponent)).translate(SUPERSCRIPTS)}"


def _line(look: Line, x: ArrayLike, y: ArrayLike, **options: Any) -> Line2D:
    options |= {"linestyle": (0, look.dashes)} if look.dashes else {}
    return Line2D(x, y, color=look.colour, linewidth=look.width, zorder=look.order, **options)


def _marker(look: Marker, x: ArrayLike, y: ArrayLike, **options: Any) -> Line2D:
    return Line2D(
        x,
        y,
        linestyle="none",
        marker=look.shape,
        markersize=look.size,
        color=look.colour,
        markerfacecolor="white" if look.is_open else look.colour,
        zorder=look.order,
        **options,
    )


def _sample(look: Look) -> Artist:
    if isinstance(look, Line):
        return _line(look, [], [])
    if isinstance(look, Marker):
        return _marker(look._replace(size=max(look.size, 5)), [], [])
    if isinstance(look, Hatch):
        return Patch(facecolor="none", edgecolor=look.colour, hatch="/////", linewidth=0)
    return Patch(color=look.colour, alpha=look.opacity, linewidth=0)


@dataclass(frozen=True, slots=True)
class Grid:
    """Panels of a page in inches: `columns` side by side, each `height` high, with room for ticks between them.

    With `lower` each panel has a second one below it that takes this part of the height.
    """

    columns: int
    height: float
    rows: int = 4
    lower: float = 0.0
    left: float = 0.75
    right: float = 0.15
    bottom: float = 0.6
    gap_x: float = 0.5
    gap_y: float = 0.4
    width: float = PAGE_WIDTH
    text_scale: float = 1.0

    @property
    def size(self) -> int:
        """Number of panels of a full page."""
        return self.columns * self.rows

    def sheet(self, n_panels: int, settings: ReportSettings, title: str) -> Sheet:
        """Empty page as high as so many panels need."""
        rows = max(1, math.ceil(n_panels / self.columns))
        height = HEADER_HEIGHT + rows * self.height + (rows - 1) * self.gap_y + self.bottom
        return Sheet(self.width, height, settings, title, text_scale=self.text_scale)

    def box(self, sheet: Sheet, i: int) -> tuple[float, float, float, float]:
        """Left, bottom, width and height of the i-th panel, row by row from the top."""
        row, column = divmod(i, self.columns)
        width = (sheet.width - self.left - self.right - (self.columns - 1) * self.gap_x) / self.columns
        bottom = sheet.height - HEADER_HEIGHT - (row + 1) * self.height - row * self.gap_y
        return self.left + column * (width + self.gap_x), bottom, width, self.height

    def panel(self, sheet: Sheet, i: int, x: Scale, y: Scale) -> Panel:
        """Place i, whole or above its second panel."""
        left, bottom, width, height = self.box(sheet, i)
        return Panel(left, bottom + self.lower * height, width, height * (1 - self.lower), x, y)

    def lower_panel(self, sheet: Sheet, i: int, x: Scale, y: Scale) -> Panel:
        """Second panel of place i."""
        left, bottom, width, height = self.box(sheet, i)
        return Panel(left, bottom, width, height * self.lower, x, y)

    def is_last_of_column(self, i: int, n_panels: int) -> bool:
        """Whether nothing stands below the i-th panel."""
        return i + self.columns >= n_panels

    def is_first_of_row(self, i: int) -> bool:
        """Whether nothing stands left of the i-th panel."""
        return i % self.columns == 0


def pages(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    """Items in pages of nearly equal length, none longer than `size`."""
    count = math.ceil(len(items) / size)
    return [items[len(items) * i // count : len(items) * (i + 1) // count] for i in range(count)]
