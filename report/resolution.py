"""Figures against pT, one panel per |eta| bin: resolution with its curves, closure against truth, response."""

# ruff: noqa: RUF001 - Greek letters and signs are what is meant

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from corrections.results import DATA, SIMULATION, Interval
from report.closure import closure, columns, data_over_simulation, eta_bins, in_bin, main_points, one_per_bin
from report.figures import Drawing, file_name
from report.sheet import Area, Grid, Key, Line, Marker, Scale, pages
from report.style import BLACK, BLUE, DARK_BLUE, GREY, PURPLE, RED, eta_text, span

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from matplotlib.figure import Figure

    from corrections.results import Measurement, Point, Quantity, ResolutionCurve
    from report.closure import Ratio
    from report.settings import ReportSettings
    from report.sheet import Panel, Sheet

SECTION = "Resolution"
WITH_RATIO = Grid(columns=3, height=3.1, rows=2, lower=0.3, gap_y=0.35)
SINGLE = Grid(columns=4, height=1.9, rows=4)

DATA_POINTS, DATA_CURVE, DATA_BAND = Marker(BLACK, "o"), Line(RED), Area(RED, 0.2)
SIMULATION_POINTS, SIMULATION_CURVE = Marker(BLUE, "s"), Line(DARK_BLUE, 1.4, (5, 1))
SIMULATION_BAND = Area(BLUE, 0.25)
# Small and on top: where the method closes they lie on the points of simulation.
TRUTH_POINTS = Marker(PURPLE, "D", 2.8, order=5)
FORWARD = "forward"
FACTOR, FACTOR_BAND, FACTOR_TOTAL = Line(RED, 1.2), Area(RED, 0.3), Area(GREY, 0.3, order=0.8)
LOOKS = {DATA: (DATA_POINTS, DATA_CURVE, DATA_BAND), SIMULATION: (SIMULATION_POINTS, SIMULATION_CURVE, SIMULATION_BAND)}

RESOLUTION_CAPTION = (
    "Jet energy resolution σ(pT)/pT of {algo} jets from dijets in data and simulation with fits of N, S and C (lines, "
    "bands of one standard deviation), and from matched truth jets in simulation (diamonds). Full markers: both jets "
    "in the same region, combined with pairs of which one is in the reference region where both were measured; open "
    "ones: only the latter. The curve of data is that of simulation times the scale factor. Below: ratio of data to "
    "simulation, and the scale factor fitted to all pT bins together with its statistical (red) and total "
    "uncertainty (grey)."
)
CLOSURE_CAPTION = (
    "Closure of the method in simulation, {algo} jets: resolution from the asymmetry over that from reco/truth of "
    "matched jets at the same pT. Full and open markers as above; errors are statistical."
)
RESPONSE_CAPTION = (
    "Response relative to the reference region from the mean asymmetry, {algo} jets. Below: simulation over data bin "
    "by bin, and the residual fitted to all pT bins together with its statistical (red) and total uncertainty (grey)."
)


def drawings(measurement: Measurement) -> list[Drawing]:
    """Resolution pages of one jet algorithm."""
    figure = Drawing("resolution", SECTION, "Resolution", RESOLUTION_CAPTION, draw, ())
    return _paged(measurement, figure, WITH_RATIO.size, "jer", "jer_truth")


def closure_drawings(measurement: Measurement) -> list[Drawing]:
    """Closure pages; none without truth."""
    if not any(point.is_measured for point in measurement.select("jer_truth")):
        return []
    figure = Drawing("closure", SECTION, "Closure against truth", CLOSURE_CAPTION, draw_closure, ())
    return _paged(measurement, figure, SINGLE.size, "jer_truth")


def response_drawings(measurement: Measurement) -> list[Drawing]:
    """Response pages, beyond the default set; none where no response was measured."""
    if not any(point.is_measured for point in measurement.select("response")):
        return []
    figure = Drawing("response", "Response", "Response", RESPONSE_CAPTION, draw_response, (), need="all")
    return _paged(measurement, figure, WITH_RATIO.size, "response")


def _paged(measurement: Measurement, figure: Drawing, size: int, *quantities: Quantity) -> list[Drawing]:
    """One drawing per page of |eta| bins, with the numbers of those bins only."""
    found = []
    for bins in pages(eta_bins(measurement, *quantities), size):
        part = replace(
            measurement,
            points=tuple(point for point in measurement.points if point.eta in bins),
            curves=tuple(curve for curve in measurement.curves if curve.eta in bins),
            fits=(),
        )
        where = f"{bins[0].low:g} ≤ |η| < {bins[-1].high:g}"
        found.append(
            replace(
                figure,
                name=file_name(figure.name, measurement.algo, f"eta_{bins[0].low:g}_{bins[-1].high:g}"),
                title=f"{figure.title}, {where}",
                caption=figure.caption.format(algo=measurement.algo),
                arguments=(part, tuple(bins)),
            )
        )
    return found


class Place(NamedTuple):
    """Place of an |eta| bin on a page of `n`, with the pT axis that all share."""

    sheet: Sheet
    eta: Interval
    i: int
    n: int
    x: Scale

    def upper(self, y: Scale, label: str) -> Panel:
        """Framed upper panel with the range of |eta|."""
        panel = WITH_RATIO.panel(self.sheet, self.i, self.x, y)
        self.sheet.frame(panel, y_label=label if WITH_RATIO.is_first_of_row(self.i) else "", joined="below")
        self.sheet.words(panel, 0, eta_text(self.eta), bold=True)
        return panel

    def lower(self, y: Scale, label: str) -> Panel:
        """Framed panel below it, with a line at 1."""
        panel = WITH_RATIO.lower_panel(self.sheet, self.i, self.x, y)
        x_label = "pT [GeV]" if WITH_RATIO.is_last_of_column(self.i, self.n) else ""
        self.sheet.frame(panel, x_label, label if WITH_RATIO.is_first_of_row(self.i) else "", joined="above")
        self.sheet.level(panel, 1.0)
        return panel


def draw(measurement: Measurement, bins: Sequence[Interval], settings: ReportSettings) -> Figure:
    """Page of resolutions."""
    sheet = WITH_RATIO.sheet(len(bins), settings, f"{measurement.algo}, jet energy resolution")
    x = pt_scale(measurement.points)
    for i, eta in enumerate(bins):
        _draw_resolution(measurement, Place(sheet, eta, i, len(bins), x))
    keys = [Key(LOOKS[name][:2], name) for name in (DATA, SIMULATION) if _has(measurement, "jer", name)]
    if _has(measurement, "jer_truth"):
        keys.append(Key((TRUTH_POINTS,), "truth, in simulation"))
    if any(point.region == FORWARD for eta in bins for name in LOOKS for point in resolutions(measurement, name, eta)):
        keys.append(Key((DATA_POINTS._replace(is_open=True),), "forward only"))
    if _has(measurement, "scale_factor"):
        keys.append(Key((FACTOR_BAND, FACTOR), "scale factor"))
    sheet.legend(keys)
    return sheet.figure()


def _draw_resolution(measurement: Measurement, place: Place) -> None:
    sheet, eta = place.sheet, place.eta
    points = {name: resolutions(measurement, name, eta) for name in LOOKS}
    truth = in_bin(main_points(measurement, "jer_truth"), eta)
    everything = [*points[SIMULATION], *points[DATA], *truth]
    panel = place.upper(_upper_scale(everything), "σ(pT) / pT")
    factors = [p for p in in_bin(main_points(measurement, "scale_factor"), eta) if p.is_measured]
    curves = {curve.dataset: curve for curve in measurement.curves if curve.eta == eta}
    if SIMULATION in curves:
        _draw_curve(sheet, panel, curves[SIMULATION], LOOKS[SIMULATION])
    if DATA in curves:
        _draw_curve(sheet, panel, curves[DATA], LOOKS[DATA])
    elif SIMULATION in curves and factors:
        _draw_curve(sheet, panel, curves[SIMULATION], LOOKS[DATA], factors)
    for name, (marker, _, _) in LOOKS.items():
        _draw_points(sheet, panel, points[name], marker)
    sheet.points(panel, *columns([point for point in truth if point.is_measured]), TRUTH_POINTS)
    if not any(point.is_measured for point in everything):
        sheet.say(panel, _why_nothing(everything))
    ratios = data_over_simulation(measurement, "jer", eta)
    lower = place.lower(ratio_scale([*ratios, *factors], around=0.1), "data / sim.")
    _draw_ratio(sheet, lower, ratios, factors)


def resolutions(measurement: Measurement, dataset: str, eta: Interval) -> list[Point]:
    """Resolutions as they are shown, one for each bin of pT."""
    return one_per_bin(in_bin(main_points(measurement, "jer", dataset), eta))


def draw_closure(measurement: Measurement, bins: Sequence[Interval], settings: ReportSettings) -> Figure:
    """Page of closures."""
    sheet = SINGLE.sheet(len(bins), settings, f"{measurement.algo}, resolution from asymmetry / from truth")
    x = pt_scale(measurement.points)
    ratios = {eta: closure(measurement, eta) for eta in bins}
    y = ratio_scale([ratio for found in ratios.values() for ratio in found], around=0.1)
    for i, eta in enumerate(bins):
        panel = SINGLE.panel(sheet, i, x, y)
        is_last = SINGLE.is_last_of_column(i, len(bins))
        sheet.frame(panel, "pT [GeV]" if is_last else "", "measured / truth" if SINGLE.is_first_of_row(i) else "")
        sheet.words(panel, 0, eta_text(eta), bold=True)
        if ratios[eta]:
            sheet.level(panel, 1.0)
            _draw_points(sheet, panel, ratios[eta], SIMULATION_POINTS)
        else:
            sheet.say(panel, "no common points")
    sheet.legend([Key((SIMULATION_POINTS,), "simulation")])
    return sheet.figure()


def draw_response(measurement: Measurement, bins: Sequence[Interval], settings: ReportSettings) -> Figure:
    """Page of responses."""
    sheet = WITH_RATIO.sheet(len(bins), settings, f"{measurement.algo}, relative response")
    x = pt_scale(measurement.points)
    for i, eta in enumerate(bins):
        _draw_response(measurement, Place(sheet, eta, i, len(bins), x))
    keys = [Key((LOOKS[name][0],), name) for name in (DATA, SIMULATION) if _has(measurement, "response", name)]
    if _has(measurement, "residual"):
        keys.append(Key((FACTOR_BAND, FACTOR), "residual"))
    sheet.legend(keys)
    return sheet.figure()


def _draw_response(measurement: Measurement, place: Place) -> None:
    sheet, eta = place.sheet, place.eta
    points = {name: in_bin(main_points(measurement, "response", name), eta) for name in LOOKS}
    everything = [*points[SIMULATION], *points[DATA]]
    panel = place.upper(ratio_scale(everything, around=0.05), "response")
    if any(point.is_measured for point in everything):
        sheet.level(panel, 1.0)
    else:
        sheet.say(panel, _why_nothing(everything))
    for name in (SIMULATION, DATA):
        _draw_points(sheet, panel, points[name], LOOKS[name][0])
    inverse = [
        ratio._replace(value=1 / ratio.value, stat=ratio.stat / ratio.value**2)
        for ratio in data_over_simulation(measurement, "response", eta)
    ]
    residuals = [p for p in in_bin(main_points(measurement, "residual"), eta) if p.is_measured]
    lower = place.lower(ratio_scale([*inverse, *residuals], around=0.02), "sim. / data")
    _draw_ratio(sheet, lower, inverse, residuals)


def _draw_ratio(sheet: Sheet, panel: Panel, ratios: list[Ratio], fitted: list[Point]) -> None:
    """Bin by bin, and the number fitted to all bins."""
    for point in fitted:
        ends = max(point.pt.low, panel.x.low), min(point.pt.high, panel.x.high)
        if ends[0] >= ends[1]:
            continue
        if point.shifts:
            sheet.bar(panel, ends, point.value - point.total, point.value + point.total, FACTOR_TOTAL)
        sheet.bar(panel, ends, point.value - point.stat, point.value + point.stat, FACTOR_BAND)
        sheet.line(panel, ends, [point.value, point.value], FACTOR)
    _draw_points(sheet, panel, ratios, DATA_POINTS)


def pt_scale(points: Iterable[Point]) -> Scale:
    """Axis of pT that holds every measured bin of the quantities against pT."""
    shown = [p for p in points if p.is_measured and p.quantity in ("jer", "jer_truth", "response") and p.pt.low > 0]
    low = min((point.pt.low for point in shown), default=30.0)
    high = max((point.pt.high for point in shown if np.isfinite(point.pt.high)), default=2000.0)
    return Scale.of_pt(0.9 * low, 1.1 * max(high, 2 * low))


def _has(measurement: Measurement, quantity: Quantity, dataset: str | None = None) -> bool:
    return any(point.is_measured for point in measurement.select(quantity, dataset))


def _why_nothing(points: Sequence[Point]) -> str:
    reasons = sorted({point.status.replace("_", " ") for point in points if point.status != "ok"})
    return "not measured" + (f":\n{', '.join(reasons)}" if reasons else "")


def _draw_points(sheet: Sheet, panel: Panel, points: Sequence[Point | Ratio], look: Marker) -> None:
    """Points of the forward region open, all others full."""
    for is_forward in (False, True):
        shown = [point for point in points if (point.region == FORWARD) == is_forward]
        if shown:
            x, y, error = columns(shown)
            low, high = np.array([(point.pt.low, point.pt.high) for point in shown]).T
            sheet.points(panel, x, y, error, look._replace(is_open=is_forward), ends=(low, high))


def _draw_curve(
    sheet: Sheet,
    panel: Panel,
    curve: ResolutionCurve,
    looks: tuple[Marker, Line, Area],
    factors: Sequence[Point] = (),
) -> None:
    """Curve times a factor with its statistical error, interpolated in log(pT) where it depends on pT."""
    if curve.status != "ok" or not 0 < curve.pt_range.low < curve.pt_range.high < np.inf:
        return
    pt = np.geomspace(curve.pt_range.low, curve.pt_range.high, 60)
    x, factor, error = columns(factors) if factors else (np.ones(1), np.ones(1), np.zeros(1))
    factor, error = (np.interp(np.log(pt), np.log(x), each) for each in (factor, error))
    with np.errstate(invalid="ignore", divide="ignore"):
        value, width = curve(pt) * factor, np.hypot(curve.band(pt) * factor, curve(pt) * error)
    sheet.line(panel, pt, value, looks[1])
    sheet.band(panel, pt, value - width, value + width, looks[2])


def _upper_scale(points: Sequence[Point]) -> Scale:
    _, value, error = columns([point for point in points if point.is_measured])
    limits = span(value, error) or (0.0, 0.3)
    return Scale(0, 1.3 * max(limits[1], 0.02))


def ratio_scale(points: Sequence[Point | Ratio], *, around: float) -> Scale:
    """Range with 1 in it, at least `around` on both sides, and at most a factor of 2.5."""
    _, value, error = columns([point for point in points if np.isfinite(point.value)])
    low, high = span(value, error) or (1.0, 1.0)
    margin = 0.08 * (max(high, 1.0) - min(low, 1.0))
    return Scale(max(min(low - margin, 1 - around), 0.4), min(max(high + margin, 1 + around), 2.5), n_ticks=4)
