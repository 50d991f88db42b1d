"""What the uncertainty of the scale factor does to residuals, which come from simulation smeared by it.

On a spectrum that falls with the power n of pt_avg, pairs of equal jets whose relative resolutions are s_e (probe) and
s_r (reference) have a mean asymmetry of (n - 2)/2 (s_e^2 - s_r^2) to first order: in a bin of the measured pt_avg the
wider jet has more often fluctuated upwards. Smearing makes s into SF s, so a change of the scale factors moves the
logarithm of the residual by (n - 2)/2 (2 SF_e s_e^2 dSF_e - 2 SF_r s_r^2 dSF_r).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from corrections.coverage import smearing_factors
from corrections.results import SOURCES, Shift
from corrections.stacks import FORWARD

if TYPE_CHECKING:
    from corrections.results import Measurement, Point, ResolutionCurve
    from corrections.sample import Sample

FloatArray = NDArray[np.float64]

# Of pt_avg, where the simulation is too small to tell.
USUAL_POWER = 5.0


@dataclass(frozen=True, slots=True)
class _Side:
    """Scale factor of one of the jets, its relative statistical uncertainty and shifts, and (sigma/pT)^2, (n_pt,)."""

    factor: float
    stat: float
    shifts: FloatArray
    squared: FloatArray


def with_smearing_uncertainty(measurement: Measurement, simulation: Sample, data: Sample) -> Measurement:
    """`measurement` whose residuals hold what the scale factor is uncertain by.

    The statistical part goes into their statistical uncertainty, probe and reference apart; the systematic one is the
    source "jer", of which each source of the scale factor moves both jets together.
    """
    factors = smearing_factors(measurement)
    curves = {curve.eta: curve for curve in measurement.curves if curve.status == "ok"}
    etas = list(factors)
    reference = [etas[i] for i in simulation.binning.reference_bins if i < len(etas)]
    if not reference or any(eta not in curves for eta in reference):
        return measurement
    pt = _mean_pt(simulation)
    jets = simulation.jets_by_eta()[list(simulation.binning.reference_bins)]
    central = _average([_side(factors[eta], curves[eta], pt) for eta in reference], jets)
    strength = 0.5 * (spectrum_power(simulation) - 2)
    effective = {eta: data.spectra(i, FORWARD).effective for i, eta in enumerate(etas)}

    def widened(point: Point) -> Point:
        if point.quantity != "residual" or not (point.is_measured and point.stat > 0) or point.eta not in curves:
            return point
        inside = (pt >= point.pt.low) & (pt < point.pt.high) & np.isfinite(pt)
        weight = np.where(inside, effective[point.eta] * strength, 0.0) / max(effective[point.eta][inside].sum(), 1.0)
        return _widened(point, _side(factors[point.eta], curves[point.eta], pt), central, weight)

    return replace(measurement, points=tuple(widened(point) for point in measurement.points))


def _widened(point: Point, probe: _Side, central: _Side, weight: FloatArray) -> Point:
    """A residual with the uncertainties of both scale factors; `weight` (n_pt,) of a change of the squared width."""
    own, other = (2 * side.factor**2 * float(np.nan_to_num(side.squared) @ weight) for side in (probe, central))
    stat = point.value * np.hypot(own * probe.stat, other * central.stat)
    size = point.value * float(np.linalg.norm(own * probe.shifts - other * central.shifts))
    shifts = (*point.shifts, Shift("jer", size, -size)) if size > 0 else point.shifts
    return replace(point, stat=float(np.hypot(point.stat, stat)), shifts=shifts)


def spectrum_power(simulation: Sample) -> FloatArray:
    """Power n with which dN/dpt_avg falls in each bin of pt_avg, (n_pt,); `USUAL_POWER` where it is not known."""
    edges = simulation.binning.pt_avg_edges
    counts = simulation.moments()["weight"].sum(axis=(0, 1))
    if len(counts) < 2:
        return np.full(len(counts), USUAL_POWER)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.gradient(np.log(counts / np.diff(edges)), np.log(np.sqrt(edges[1:] * edges[:-1])))
    return np.where(np.isfinite(slope), -slope, USUAL_POWER)


def _mean_pt(simulation: Sample) -> FloatArray:
    moments = simulation.moments()
    weight, weighted = moments["weight"].sum(axis=(0, 1)), moments["pt_avg"].sum(axis=(0, 1))
    mean: FloatArray = np.divide(weighted, weight, out=np.full(len(weight), np.nan), where=weight > 0)
    return mean


def _side(factor: Point, curve: ResolutionCurve, pt: FloatArray) -> _Side:
    shifts = [factor.shift(source) for source in SOURCES]
    relative = np.array([0.0 if shift is None else shift.up / factor.value for shift in shifts])
    return _Side(factor.value, factor.stat / factor.value, relative, np.maximum(curve.squared(pt), 0.0))


def _average(sides: list[_Side], jets: FloatArray) -> _Side:
    share = jets / jets.sum() if jets.sum() > 0 else np.full(len(sides), 1 / len(sides))
    return _Side(
        float(share @ np.array([side.factor for side in sides])),
        float(np.linalg.norm(share * np.array([side.stat for side in sides]))),
        share @ np.array([side.shifts for side in sides]),
        share @ np.array([side.squared for side in sides]),
    )
