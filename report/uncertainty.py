"""What the uncertainty of scale factors and residuals is made of, source by source against |eta|."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from corrections.results import ALL_SOURCES, sources_of
from report.closure import best_known, eta_bins, in_bin, main_points
from report.figures import Drawing, file_name
from report.scale_factor import NAMES, QUANTITIES, eta_scale
from report.sheet import Area, Grid, Key, Line, Marker, Scale
from report.style import BLACK, BLUE, DARK_BLUE, GREY, ORANGE, PURPLE, RED, VIOLET

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from corrections.results import FloatArray, Measurement, Point, Quantity
    from report.settings import ReportSettings

SECTION = "Uncertainties"
RIGHT = 2.1
GRID = Grid(columns=1, height=4.4, rows=1, width=9.5, left=0.95, right=RIGHT, bottom=0.7, text_scale=1.15)
TOTAL, STAT = Area(GREY, 0.35, order=0), Line(BLACK, 2.0, order=4)
DOTTED, DASHED = (1, 1.5), (5, 2)
LOOKS: dict[str, tuple[Line, Marker]] = {
    "jes": (Line(BLUE), Marker(BLUE, "o", 4.5)),
    "pu": (Line(VIOLET), Marker(VIOLET, "s", 4.5)),
    "dphi": (Line(ORANGE), Marker(ORANGE, "^", 5)),
    "pt3": (Line(PURPLE), Marker(PURPLE, "D", 4)),
    "template": (Line(GREY, dashes=DASHED), Marker(GREY, "o", 4.5, is_open=True)),
    "imbalance": (Line(RED), Marker(RED, "v", 5)),
    "width": (Line(DARK_BLUE, dashes=DASHED), Marker(DARK_BLUE, "s", 4.5, is_open=True)),
    "ptdep": (Line(ORANGE, dashes=DOTTED), Marker(ORANGE, "^", 5, is_open=True)),
    "nonclosure": (Line(RED, dashes=DASHED), Marker(RED, "D", 4, is_open=True)),
    "jer": (Line(DARK_BLUE, dashes=DOTTED), Marker(DARK_BLUE, "v", 5, is_open=True)),
}
# What the short names of results.ALL_SOURCES mean.
WORDS = {
    "stat": "statistics",
    "jes": "jet energy scale",
    "pu": "pile-up weights",
    "dphi": "Δφ cut",
    "pt3": "third-jet cut",
    "template": "truth template",
    "imbalance": "truth imbalance",
    "width": "width estimator",
    "ptdep": "pT dependence",
    "nonclosure": "non-closure",
    "jer": "smearing",
}
TICKS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
CAPTION = (
    "Relative uncertainty of the {title} of {algo} jets by source against |η|; of each source the larger of its shifts "
    "up and down. Grey: total, statistics and sources in quadrature.{lacking}"
)


def evaluated(points: Sequence[Point]) -> list[str]:
    """Sources that at least one of the points has a shift of, in their usual order."""
    return [source for source in ALL_SOURCES if any(point.shift(source) is not None for point in points)]


def shown_points(measurement: Measurement, quantity: Quantity) -> list[Point]:
    """The measured published values, one per |eta| bin."""
    points = main_points(measurement, quantity)
    best = (best_known(in_bin(points, eta)) for eta in eta_bins(measurement, quantity))
    return [point for point in best if point is not None and point.is_measured]


def words_of(source: str) -> str:
    """Source in words."""
    return WORDS.get(source, source)


def drawings(measurement: Measurement) -> list[Drawing]:
    """One figure for scale factors and one for residuals, where a source was evaluated."""
    return [
        _drawing(measurement, quantity, tuple(points))
        for quantity in QUANTITIES
        if evaluated(points := shown_points(measurement, quantity))
    ]


def _drawing(measurement: Measurement, quantity: Quantity, points: tuple[Point, ...]) -> Drawing:
    title = NAMES[quantity][0].lower()
    missing = [words_of(source) for source in sources_of(quantity) if source not in evaluated(points)]
    lacking = f" Not evaluated: {', '.join(missing)}." if missing else ""
    return Drawing(
        name=file_name("uncertainty", quantity, measurement.algo),
        section=SECTION,
        title=f"Uncertainty of the {title}, {measurement.algo}",
        caption=CAPTION.format(title=title, algo=measurement.algo, lacking=lacking),
        draw=draw,
        arguments=(f"{measurement.algo}, uncertainty of the {title}", points),
    )


def draw(title: str, points: tuple[Point, ...], settings: ReportSettings) -> Figure:
    """Figure of one quantity."""
    sheet = GRID.sheet(1, settings, title)
    total = np.array([100 * point.total / abs(point.value) for point in points])
    panel = GRID.panel(sheet, 0, eta_scale(points), _scale(total))
    sheet.frame(panel, "|η|", "relative uncertainty [%]")
    for point, height in zip(points, total, strict=True):
        sheet.steps(panel, np.array([point.eta.low, point.eta.high]), np.array([height]), TOTAL)
    sources = evaluated(points)
    for source in sources:
        line, marker = LOOKS[source]
        sizes = np.array([100 * shift.size / abs(p.value) if (shift := p.shift(source)) else np.nan for p in points])
        sheet.line(panel, *_steps(points, sizes), line)
        sheet.points(panel, [p.eta.centre for p in points], sizes, np.zeros(len(points)), marker)
    sheet.line(panel, *_steps(points, np.array([100 * p.stat / abs(p.value) for p in points])), STAT)
    keys = [Key((TOTAL,), "total"), Key((STAT,), words_of("stat"))]
    sheet.legend([*keys, *(Key(LOOKS[source], words_of(source)) for source in sources)], left=GRID.width - RIGHT + 0.1)
    return sheet.figure()


def _steps(points: Sequence[Point], sizes: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Corners of a line that is level in each bin and broken where a bin is missing; points are in |eta| order."""
    corners: list[tuple[float, float]] = []
    for point, size in zip(points, sizes, strict=True):
        if corners and corners[-1][0] != point.eta.low:
            corners.append((np.nan, np.nan))
        corners += [(point.eta.low, float(size)), (point.eta.high, float(size))]
    x, y = np.array(corners).T
    return x, y


def _scale(total: FloatArray) -> Scale:
    """Logarithmic axis of two decades at most 500 times below the largest total."""
    known = total[total > 0]
    high, least = (float(known.max()), float(known.min())) if len(known) else (1.0, 1.0)
    low = max(least / 30, high / 500)
    return Scale(low, 2 * high, log=True, ticks=tuple(tick for tick in TICKS if low <= tick <= 2 * high))
