"""Spectrum of pt_avg in data and simulation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from corrections.results import DATA, SIMULATION
from report.figures import Drawing
from report.sheet import Area, Grid, Key, Marker, Scale
from report.style import BLACK, BLUE

if TYPE_CHECKING:
    from collections.abc import Mapping

    import hist
    from matplotlib.figure import Figure

    from corrections.results import FloatArray
    from report.settings import ReportSettings
    from report.sheet import Panel, Sheet

CAPTION = (
    "Spectrum of the mean transverse momentum of the two leading jets after the default selection, per GeV. Data are "
    "weighted by the prescales of their triggers; simulation is normalised to the area of data. Below: data over "
    "simulation."
)
GRID = Grid(columns=1, height=5.2, rows=1, width=9.5, left=1.05, right=0.2, bottom=0.7, text_scale=1.15, lower=0.28)
DATA_POINTS, SIMULATION_AREA = Marker(BLACK, "o", 3.5), Area(BLUE, 0.4)


class Role(NamedTuple):
    """What a dataset is, "data", "simulation" or the name of an alternative, and the factor that normalises it.

    `skim` tells what was left out of its files before they were read, in words.
    """

    kind: str
    scale: float = 1.0
    skim: str = ""


class Spectrum(NamedTuple):
    """Events per GeV with errors in bins of pt_avg; (n,) for n + 1 edges in GeV."""

    values: FloatArray
    errors: FloatArray


def drawings(histograms: Mapping[str, hist.Hist[Any]], roles: Mapping[str, Role]) -> list[Drawing]:
    """The figure, unless no spectrum was filled."""
    if "spectrum" not in histograms:
        return []
    histogram = histograms["spectrum"]
    edges = np.asarray(histogram.axes["pt_avg"].edges, dtype=np.float64)
    data, simulation = (total(histogram, roles, kind) for kind in (DATA, SIMULATION))
    if data is None and simulation is None:
        return []
    return [Drawing("spectrum", "Spectrum", "Spectrum of pT average", CAPTION, draw, (edges, data, simulation))]


def total(histogram: hist.Hist[Any], roles: Mapping[str, Role], kind: str) -> Spectrum | None:
    """Sum of the datasets of a kind, normalised; None without any entry."""
    names = list(histogram.axes["dataset"])
    chosen = [(i, roles[name].scale) for i, name in enumerate(names) if name in roles and roles[name].kind == kind]
    if not chosen:
        return None
    table = histogram.project("dataset", "pt_avg")
    values, variances = np.asarray(table.values()), table.variances()
    variances = values if variances is None else np.asarray(variances)
    content = np.sum([scale * values[i] for i, scale in chosen], axis=0)
    squared = np.sum([scale**2 * variances[i] for i, scale in chosen], axis=0)
    width = np.diff(np.asarray(table.axes["pt_avg"].edges))
    return Spectrum(content / width, np.sqrt(squared) / width) if np.any(content) else None


def normalised(simulation: Spectrum, data: Spectrum | None, edges: FloatArray) -> Spectrum:
    """Simulation scaled to the area of data where data has events; as it is without data."""
    if data is None:
        return simulation
    width, both = np.diff(edges), data.values > 0
    area = float((simulation.values * width)[both].sum())
    factor = float((data.values * width)[both].sum()) / area if area > 0 else 1.0
    return Spectrum(simulation.values * factor, simulation.errors * factor)


def draw(edges: FloatArray, data: Spectrum | None, simulation: Spectrum | None, settings: ReportSettings) -> Figure:
    """Spectra above, their ratio below."""
    scaled = None if simulation is None else normalised(simulation, data, edges)
    shown = [spectrum for spectrum in (data, scaled) if spectrum is not None]
    x, y = _scales(edges, shown)
    sheet = GRID.sheet(1, settings, "pT average of the two leading jets")
    panel = GRID.panel(sheet, 0, x, y)
    sheet.frame(panel, y_label="events per GeV", joined="below")
    centres = np.sqrt(edges[1:] * edges[:-1])
    if scaled is not None:
        sheet.steps(panel, edges, scaled.values, SIMULATION_AREA)
    if data is not None:
        sheet.points(panel, centres, data.values, data.errors, DATA_POINTS)
    below = GRID.lower_panel(sheet, 0, x, Scale(0.4, 1.6))
    sheet.frame(below, "pT average [GeV]", "data / sim.", joined="above")
    _draw_ratio(sheet, below, centres, data, scaled)
    found = ((data, Key((DATA_POINTS,), "data")), (scaled, Key((SIMULATION_AREA,), "simulation")))
    sheet.legend([key for spectrum, key in found if spectrum is not None])
    return sheet.figure()


def _scales(edges: FloatArray, shown: list[Spectrum]) -> tuple[Scale, Scale]:
    filled = np.flatnonzero(np.any([spectrum.values > 0 for spectrum in shown], axis=0))
    positive = np.concatenate([spectrum.values[spectrum.values > 0] for spectrum in shown])
    low, high = (float(positive.min()), float(positive.max())) if len(positive) else (0.1, 1.0)
    first, last = (filled[0], filled[-1]) if len(filled) else (0, len(edges) - 2)
    x = Scale.of_pt(max(float(edges[first]), 1.0), float(edges[last + 1]))
    return x, Scale(max(low / 2, high * 1e-10), high * 5, log=True)


def _draw_ratio(
    sheet: Sheet, panel: Panel, centres: FloatArray, data: Spectrum | None, simulation: Spectrum | None
) -> None:
    if data is None or simulation is None:
        sheet.say(panel, "no data" if data is None else "no simulation")
        return
    both = (simulation.values > 0) & (data.values > 0)
    ratio = data.values[both] / simulation.values[both]
    error = ratio * np.hypot(data.errors[both] / data.values[both], simulation.errors[both] / simulation.values[both])
    sheet.level(panel, 1.0)
    sheet.points(panel, centres[both], ratio, error, DATA_POINTS)
