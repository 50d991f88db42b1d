"""Which figures make the default set, and how they are drawn: one after the other, or by the processes of a pool."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from report import asymmetry, before_after, cutflow, loop, resolution, scale_factor, side_by_side, spectrum, uncertainty
from report.figures import Drawing, Figure
from report.style import experiment_style, save

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import hist

    from corrections.results import Measurement
    from report.scale_factor import Truth
    from report.settings import ReportSettings
    from report.spectrum import Role

PLOTS_FOLDER = "plots"
DEFAULT_FIGURES = 30

CutflowRow = tuple[str, str, float, float]
Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]


def draw_all(
    measurements: Sequence[Measurement],
    histograms: Mapping[str, hist.Hist[Any]],
    cutflow_rows: Iterable[CutflowRow],
    settings: ReportSettings,
    folder: Path,
    *,
    roles: Mapping[str, Role] | None = None,
    injected: Mapping[str, Sequence[Truth]] | None = None,
    parallel_map: Map = map,
) -> tuple[Figure, ...]:
    """Figures written into `folder`/plots, in the order of the page.

    Parameters
    ----------
    cutflow_rows
        (dataset, step, events, weighted events).
    roles
        What each dataset of the histograms is and its normalisation; without it there is no spectrum.
    injected
        Known truth as (|eta| low, |eta| high, value) under "scale_factor" and "residual".
    parallel_map
        `map` of a process pool; drawings and figures can be pickled.
    """
    drawings = plan(measurements, histograms, cutflow_rows, settings, roles=roles or {}, injected=injected)
    (folder / PLOTS_FOLDER).mkdir(parents=True, exist_ok=True)
    return tuple(parallel_map(partial(write_figure, settings=settings, folder=folder), drawings))


def plan(
    measurements: Sequence[Measurement],
    histograms: Mapping[str, hist.Hist[Any]],
    cutflow_rows: Iterable[CutflowRow],
    settings: ReportSettings,
    *,
    roles: Mapping[str, Role],
    injected: Mapping[str, Sequence[Truth]] | None = None,
) -> list[Drawing]:
    """Drawings of the set that the settings ask for."""
    drawings: list[Drawing] = before_after.drawings(measurements)
    for measurement in measurements:
        drawings += scale_factor.drawings(measurement, injected)
        drawings += uncertainty.drawings(measurement)
        drawings += side_by_side.drawings(measurement)
        drawings += loop.drawings(measurement)
        drawings += resolution.drawings(measurement)
        drawings += resolution.closure_drawings(measurement)
        drawings += resolution.response_drawings(measurement)
    drawings += cutflow.drawings(cutflow_rows, {name: role.skim for name, role in roles.items()})
    drawings += spectrum.drawings(histograms, roles)
    for measurement in measurements:
        drawings += asymmetry.drawings(measurement)
    return drawings if settings.plots == "all" else default_set(drawings)


def default_set(drawings: Sequence[Drawing], limit: int = DEFAULT_FIGURES) -> list[Drawing]:
    """Drawings that are always wanted, and of the others as many as fit, spread evenly over what there is."""
    always = [drawing.name for drawing in drawings if drawing.need == "always"][:limit]
    others = [drawing.name for drawing in drawings if drawing.need == "default"]
    room = min(limit - len(always), len(others))
    chosen = {*always, *(others[(2 * i + 1) * len(others) // (2 * room)] for i in range(room))}
    return [drawing for drawing in drawings if drawing.name in chosen]


def write_figure(drawing: Drawing, settings: ReportSettings, folder: Path) -> Figure:
    """Record of one figure after it was drawn and written in every format."""
    paths = tuple(f"{PLOTS_FOLDER}/{drawing.name}.{kind}" for kind in settings.formats)
    with experiment_style(settings):
        canvas = drawing.canvas(settings)
        for path in paths:
            save(canvas, folder / path, settings.dpi)
    return Figure(drawing.name, drawing.section, drawing.title, drawing.caption, paths)
