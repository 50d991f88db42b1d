"""What a calibration network gains: resolution of its jets over that of the same jets without it, per |eta| bin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corrections.results import DATA, SIMULATION
from processors.jet_calibration import NETWORK_SUFFIX
from report.closure import Ratio, columns, eta_bins, in_bin, main_points
from report.figures import Drawing, file_name
from report.resolution import LOOKS, SINGLE, TRUTH_POINTS, pt_scale, ratio_scale, resolutions
from report.sheet import Key, pages
from report.style import eta_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from matplotlib.figure import Figure

    from corrections.results import Interval, Measurement, Point
    from report.settings import ReportSettings

SECTION = "With and without the network"
CAPTION = (
    "Jet energy resolution of {after} jets over that of {before} jets in the same events: from matched truth jets in "
    "simulation (diamonds), and from dijets in simulation and data. Below 1 the network gains. Error bars: statistical "
    "error of {after} alone, since both are measured on the same events."
)
Ratios = dict[str, list[Ratio]]
TRUTH = "truth, in simulation"


def pairs(measurements: Sequence[Measurement]) -> list[tuple[Measurement, Measurement]]:
    """Measurements of jets without and with a network on top of them."""
    by_algo = {measurement.algo: measurement for measurement in measurements}
    return [(m, by_algo[m.algo + NETWORK_SUFFIX]) for m in measurements if m.algo + NETWORK_SUFFIX in by_algo]


def drawings(measurements: Sequence[Measurement]) -> list[Drawing]:
    """Pages for every pair; none without a network."""
    return [drawing for pair in pairs(measurements) for drawing in _drawings(*pair)]


def _drawings(before: Measurement, after: Measurement) -> list[Drawing]:
    found = []
    for bins in pages(eta_bins(after, "jer", "jer_truth"), SINGLE.size):
        rows = tuple((eta, ratios(before, after, eta)) for eta in bins)
        where = f"{bins[0].low:g} ≤ |η| < {bins[-1].high:g}"
        found.append(
            Drawing(
                name=file_name("network", after.algo, f"eta_{bins[0].low:g}_{bins[-1].high:g}"),
                section=SECTION,
                title=f"{after.algo} over {before.algo}, {where}",
                caption=CAPTION.format(before=before.algo, after=after.algo),
                draw=draw,
                arguments=(f"resolution, {after.algo} / {before.algo}", rows, tuple(after.points)),
            )
        )
    return found


def ratios(before: Measurement, after: Measurement, eta: Interval) -> Ratios:
    """Resolution with the network over that without by what it comes from, in bins of pT that both have."""
    found = {TRUTH: _over(*(in_bin(main_points(m, "jer_truth"), eta) for m in (after, before)))}
    for name in (SIMULATION, DATA):
        found[name] = _over(*(resolutions(m, name, eta) for m in (after, before)))
    return found


def _over(after: Iterable[Point], before: Iterable[Point]) -> list[Ratio]:
    known = {p.pt: p for p in before if p.is_measured}
    return [
        Ratio(p.region, p.eta, p.pt, p.pt_mean, p.value / known[p.pt].value, p.stat / known[p.pt].value)
        for p in after
        if p.is_measured and p.pt in known
    ]


def draw(
    title: str, rows: Sequence[tuple[Interval, Ratios]], points: Sequence[Point], settings: ReportSettings
) -> Figure:
    """Page of ratios."""
    sheet, x = SINGLE.sheet(len(rows), settings, title), pt_scale(points)
    looks = {SIMULATION: LOOKS[SIMULATION][0], DATA: LOOKS[DATA][0], TRUTH: TRUTH_POINTS}
    y = ratio_scale([ratio for _, found in rows for each in found.values() for ratio in each], around=0.1)
    for i, (eta, found) in enumerate(rows):
        panel = SINGLE.panel(sheet, i, x, y)
        is_last = SINGLE.is_last_of_column(i, len(rows))
        sheet.frame(panel, "pT [GeV]" if is_last else "", "with / without" if SINGLE.is_first_of_row(i) else "")
        sheet.words(panel, 0, eta_text(eta), bold=True)
        sheet.level(panel, 1.0)
        if not any(found.values()):
            sheet.say(panel, "no common points")
        for name, look in looks.items():
            sheet.points(panel, *columns(found[name]), look)
    sheet.legend([Key((look,), name) for name, look in looks.items() if any(found[name] for _, found in rows)])
    return sheet.figure()
