"""Asymmetry distributions with their fits: one page per |eta| bin and region, one panel per pT bin."""

# ruff: noqa: RUF001 - Greek letters and signs are what is meant

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from corrections.results import DATA, SIMULATION, AsymmetryFit, Interval
from report.closure import main_points
from report.figures import Drawing, file_name
from report.sheet import Area, Grid, Key, Line, Marker, Scale
from report.style import BLACK, BLUE, DARK_BLUE, ORANGE, RED, eta_text, pt_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from matplotlib.figure import Figure

    from corrections.results import FloatArray, Measurement
    from report.settings import ReportSettings
    from report.sheet import Panel, Sheet

SECTION = "Asymmetry"
GRID = Grid(columns=4, height=2.15)
DATA_POINTS, DATA_FIT = Marker(BLACK, "o", 2.6), Line(RED)
SIMULATION_AREA, SIMULATION_FIT = Area(BLUE), Line(DARK_BLUE, 1.2, (5, 1))
TEMPLATE = Line(ORANGE, 1.3, (3, 1.5))
CAPTION = (
    "Asymmetry A = (pT of the probe − pT of the reference) / pT average of {algo} jets, normalised to unit area. "
    "Points are data, the filled area is simulation, lines are the fits: the truth asymmetry (dashed) convolved with a "
    "Gaussian. Only the range that is not shaded is fitted. σ is the width of that Gaussian."
)
HEADROOM = 0.73
MERGES = (1, 2, 4, 5, 8, 10)


class Bin(NamedTuple):
    """Fits of one pT bin by dataset; what is missing was not looked at."""

    pt: Interval
    simulation: AsymmetryFit | None
    data: AsymmetryFit | None


def drawings(measurement: Measurement) -> list[Drawing]:
    """One page for each |eta| bin and region with at least one event, in order of |eta|."""
    keys = sorted({(fit.eta.low, fit.eta.high, fit.region) for fit in measurement.fits})
    found = []
    for low, high, region in keys:
        eta = Interval(low, high)
        bins = bins_of(fit for fit in measurement.fits if fit.eta == eta and fit.region == region)
        shown = tuple(each for each in bins if has_events(each))
        if shown:
            drawing = _drawing(measurement.algo, eta, region, shown, len(bins) - len(shown))
            is_main = region == main_region(measurement, eta)
            found.append(replace(drawing, need="default" if is_main else "all"))
    return found


def main_region(measurement: Measurement, eta: Interval) -> str:
    """Region of an |eta| bin with the most to say: the most precise resolution, else the most fits."""
    weights: dict[str, float] = {fit.region: 0.0 for fit in measurement.fits if fit.eta == eta}
    for fit in (fit for fit in measurement.fits if fit.eta == eta and fit.status == "ok"):
        weights[fit.region] += 1e-6
    for point in main_points(measurement, "jer"):
        if point.eta == eta and point.region in weights and point.is_measured and point.stat > 0:
            weights[point.region] += (point.value / point.stat) ** 2
    return max(weights, key=lambda region: weights[region], default="")


def bins_of(fits: Iterable[AsymmetryFit]) -> list[Bin]:
    """Fits of one |eta| bin and region by pT bin, simulation and data beside each other."""
    by_pt: dict[tuple[float, float], dict[str, AsymmetryFit]] = {}
    for fit in fits:
        by_pt.setdefault((fit.pt.low, fit.pt.high), {})[fit.dataset] = fit
    return [Bin(Interval(*pt), found.get(SIMULATION), found.get(DATA)) for pt, found in sorted(by_pt.items())]


def has_events(each: Bin) -> bool:
    """Whether there is anything to draw."""
    return any(fit is not None and bool(np.any(fit.counts)) for fit in (each.simulation, each.data))


def _drawing(algo: str, eta: Interval, region: str, bins: tuple[Bin, ...], empty: int) -> Drawing:
    parts = [f"Asymmetry, {eta_text(eta)}", region, f"{empty} pT bins without events not shown" if empty else ""]
    return Drawing(
        name=file_name("asymmetry", algo, f"eta_{eta.low:g}_{eta.high:g}", region),
        section=SECTION,
        title=", ".join(part for part in parts if part),
        caption=CAPTION.format(algo=algo),
        draw=draw,
        arguments=(algo, eta, region, bins),
    )


def draw(algo: str, eta: Interval, region: str, bins: tuple[Bin, ...], settings: ReportSettings) -> Figure:
    """Page of one |eta| bin."""
    title = ", ".join(part for part in (f"{algo}, {eta_text(eta)}", region) if part)
    sheet = GRID.sheet(len(bins), settings, title)
    for i, each in enumerate(bins):
        x, y = scales(each, settings.asymmetry_scale)
        panel = GRID.panel(sheet, i, x, y)
        sheet.frame(
            panel,
            "asymmetry A" if GRID.is_last_of_column(i, len(bins)) else "",
            "1/N dN/dA" if GRID.is_first_of_row(i) else "",
        )
        draw_bin(sheet, panel, each)
    sheet.legend(_keys(bins))
    return sheet.figure()


def draw_bin(sheet: Sheet, panel: Panel, each: Bin) -> None:
    """One panel: both datasets with fits and template."""
    sheet.words(panel, 0, pt_text(each.pt), bold=True)
    fits = with_events(each)
    merge = rebinning(fits)
    for row, fit in enumerate(fits):
        density, is_data = Density.of(fit, merge), fit.dataset == DATA
        if is_data:
            sheet.points(panel, density.centres, density.counts, density.errors, DATA_POINTS)
        else:
            sheet.steps(panel, density.edges, density.counts, SIMULATION_AREA)
        sheet.line(panel, density.centres, density.model, DATA_FIT if is_data else SIMULATION_FIT)
        sheet.words(panel, row + 1, fit_words(fit), colour=(DATA_FIT if is_data else SIMULATION_FIT).colour)
    _draw_template(sheet, panel, fits, merge)
    _shade_outside(sheet, panel, fits)


def with_events(each: Bin) -> list[AsymmetryFit]:
    """Data and simulation of a bin, without what is empty."""
    return [fit for fit in (each.data, each.simulation) if fit is not None and np.any(fit.counts)]


def _draw_template(sheet: Sheet, panel: Panel, fits: list[AsymmetryFit], merge: int) -> None:
    for fit in reversed(fits):
        if np.any(fit.template):
            density = Density.of(fit, merge)
            # It may be many times higher than the rest: it ends where the words begin.
            seen = np.where(panel.y.fraction(density.template) < HEADROOM, density.template, np.nan)
            sheet.line(panel, density.centres, seen, TEMPLATE)
            return


def _shade_outside(sheet: Sheet, panel: Panel, fits: list[AsymmetryFit]) -> None:
    windows = [
        fit.window for fit in fits if fit.status == "ok" and np.isfinite([fit.window.low, fit.window.high]).all()
    ]
    if windows:
        sheet.shade(panel, panel.x.low, min(window.low for window in windows))
        sheet.shade(panel, max(window.high for window in windows), panel.x.high)


class Density(NamedTuple):
    """A distribution of unit area: (n,) bins of A; points without entries and their errors are nan."""

    edges: FloatArray
    counts: FloatArray
    errors: FloatArray
    model: FloatArray
    template: FloatArray

    @property
    def centres(self) -> FloatArray:
        """Middle of each bin."""
        return np.asarray(0.5 * (self.edges[1:] + self.edges[:-1]))

    @classmethod
    def of(cls, fit: AsymmetryFit, merge: int) -> Density:
        """Distribution of a fit with `merge` bins added into one."""
        edges = fit.edges[::merge]
        scale = 1 / (fit.counts.sum() * np.diff(edges)) if fit.counts.sum() else np.zeros(len(edges) - 1)
        counts, variances, model, template = (
            values.reshape(-1, merge).sum(axis=1) for values in (fit.counts, fit.variances, fit.model, fit.template)
        )
        errors = np.where(variances > 0, np.sqrt(np.abs(variances)) * scale, np.nan)
        return cls(edges, counts * scale, errors, _or_nan(model) * scale, _or_nan(template) * scale)


def _or_nan(values: FloatArray) -> FloatArray:
    """Curve with nothing where it has nothing, so that logarithmic axes do not draw it."""
    return np.where(values > 0, values, np.nan)


def rebinning(fits: Iterable[AsymmetryFit]) -> int:
    """Number of bins to add into one: as coarse as still leaves five across two widths; for eyes only."""
    possible = []
    for fit in fits:
        width = fit.edges[1] - fit.edges[0]
        sigma = fit.sigma if np.isfinite(fit.sigma) and fit.sigma > 0 else _spread(fit)
        n_bins = len(fit.counts)
        possible.append(max(m for m in MERGES if m == 1 or (n_bins % m == 0 and m * width <= 0.4 * sigma)))
    return min(possible, default=1)


def _spread(fit: AsymmetryFit) -> float:
    """Standard deviation of the distribution, 0 without events or with weights that cancel."""
    centres, total = 0.5 * (fit.edges[1:] + fit.edges[:-1]), fit.counts.sum()
    if total <= 0:
        return 0.0
    mean = (fit.counts @ centres) / total
    return float(np.sqrt(max(fit.counts @ (centres - mean) ** 2 / total, 0.0)))


def scales(each: Bin, kind: str) -> tuple[Scale, Scale]:
    """Axes that show four widths or the fitted range, whichever is more, and leave room for words on top."""
    fits = with_events(each)
    widths = [fit.sigma if np.isfinite(fit.sigma) and fit.sigma > 0 else _spread(fit) for fit in fits]
    windows = [max(abs(fit.window.low), abs(fit.window.high)) for fit in fits if fit.status == "ok"]
    limit = min(max(4.5 * max(widths), 1.25 * max((w for w in windows if np.isfinite(w)), default=0.0), 0.2), 2.0)
    shown = np.concatenate([_inside(Density.of(fit, rebinning(fits)), limit) for fit in fits])
    peak = float(shown.max(initial=0.0)) or 1.0
    if kind == "linear":
        return Scale(-limit, limit, n_ticks=4), Scale(0, 1.6 * peak)
    low = max(float(shown[shown > 0].min(initial=peak / 10)) / 2, peak / 3e4)
    return Scale(-limit, limit, n_ticks=4), Scale(low, peak * (peak / low) ** 0.75, log=True, n_ticks=3)


def _inside(density: Density, limit: float) -> FloatArray:
    return density.counts[np.abs(density.centres) < limit]


def fit_words(fit: AsymmetryFit) -> str:
    """Result of a fit in a line, or why there is none."""
    name = "sim." if fit.dataset == SIMULATION else fit.dataset
    if fit.status != "ok":
        return f"{name}: {fit.status.replace('_', ' ')}"
    goodness = f", χ²/n = {fit.chi2:.0f}/{fit.ndf}" if fit.ndf > 0 else ""
    return f"{name}: σ = {fit.sigma:.4f} ± {fit.sigma_error:.4f}{goodness}"


def _keys(bins: tuple[Bin, ...]) -> list[Key]:
    keys = []
    if any(each.data is not None for each in bins):
        keys += [Key((DATA_POINTS,), "data"), Key((DATA_FIT,), "fit to data")]
    if any(each.simulation is not None for each in bins):
        keys += [Key((SIMULATION_AREA,), "simulation"), Key((SIMULATION_FIT,), "fit to simulation")]
    return [*keys, Key((TEMPLATE,), "truth asymmetry")]
