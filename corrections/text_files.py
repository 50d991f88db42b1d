"""Text twins of resolution and scale factor for tools that do not read JSON (format of the CMS JRDatabase).

Rows are in signed eta. The columns of a scale factor are nominal, down, up in this order.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from corrections.correction_set import Tags, covered_curves
from corrections.coverage import covered_points, pt_edges

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from corrections.coverage import Covered, Points
    from corrections.results import Measurement, ResolutionCurve

RESOLUTION_HEADER = "{2 JetEta Rho 1 JetPt sqrt([0]/(x*x)+[1]*pow(x,[3])+[2]) Resolution}"
FACTOR_HEADER = "{1 JetEta 0 None ScaleFactor}"
FACTOR_PT_HEADER = "{2 JetEta JetPt 0 None ScaleFactor}"
MAX_RHO = 1000.0
RHO_STEPS = 20


def write_text_files(measurement: Measurement, tags: Tags, folder: Path) -> tuple[Path, ...]:
    """Write `{tag}_MC_PtResolution_{algo}.jr.txt` and `{tag}_MC_SF_{algo}.jersf.txt`, those that can be written."""
    written = []
    curves = covered_curves(measurement)
    if curves is not None:
        rows = [_resolution_rows(curve) for curve in curves.values]
        path = folder / f"{tags.jer}_MC_PtResolution_{measurement.algo}.jr.txt"
        written.append(_write(path, RESOLUTION_HEADER, _signed(curves, rows)))
    factors = covered_points(measurement, "scale_factor")
    if factors is not None:
        path = folder / f"{tags.jer}_MC_SF_{measurement.algo}.jersf.txt"
        is_constant = all(len(points) == 1 for points in factors.values)
        rows = [_factor_rows(points, is_constant=is_constant) for points in factors.values]
        written.append(_write(path, FACTOR_HEADER if is_constant else FACTOR_PT_HEADER, _signed(factors, rows)))
    return tuple(written)


def _resolution_rows(curve: ResolutionCurve) -> list[str]:
    """The curve of one |eta| bin, for all rho or in steps of it where it moves with rho."""
    if curve.rho is None:
        return [_resolution_row(curve, 0.0, MAX_RHO, 0.0)]
    reach = curve.rho.reach
    edges = [0.0, *(float(edge) for edge in np.linspace(reach.low, reach.high, RHO_STEPS + 1)), MAX_RHO]
    centres = [reach.low, *(0.5 * (low + high) for low, high in pairwise(edges[1:-1])), reach.high]
    return [
        _resolution_row(curve, low, high, curve.rho.value * (centre - curve.rho.mean))
        for (low, high), centre in zip(pairwise(edges), centres, strict=True)
    ]


def _resolution_row(curve: ResolutionCurve, low: float, high: float, shift: float) -> str:
    noise, stochastic, constant = curve.squares
    numbers = (curve.pt_range.low, curve.pt_range.high, noise + shift, stochastic, constant, curve.power)
    return f"{low!r} {high!r} {len(numbers)} " + " ".join(map(repr, numbers))


def _factor_rows(points: Points, *, is_constant: bool) -> list[str]:
    """Nominal, down and up of one |eta| bin, with the bin of pT before them where the factor depends on pT."""
    values = [f"3 {p.value!r} {p.value - p.total!r} {p.value + p.total!r}" for p in points]
    if is_constant:
        return values
    return [f"{low!r} {high!r} {value}" for (low, high), value in zip(pairwise(pt_edges(points)), values, strict=True)]


def _signed(covered: Covered[Any], rows: list[list[str]]) -> Iterable[str]:
    """Rows for negative eta, mirrored, then those for positive eta."""
    pairs = list(zip(covered.bins, rows, strict=True))
    yield from (f"{-eta.high:g} {-eta.low:g} {row}" for eta, own in reversed(pairs) for row in own)
    yield from (f"{eta.low:g} {eta.high:g} {row}" for eta, own in pairs for row in own)


def _write(path: Path, header: str, rows: Iterable[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows]) + "\n")
    return path
