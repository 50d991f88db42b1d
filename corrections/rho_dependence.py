"""How the noise term of the simulated resolution moves with rho, from reco/truth in bins of rho."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from corrections.bin_fits import interval_of
from corrections.noise import NoiseSlope, fit_noise_slope
from corrections.results import SIMULATION, Interval, Point, RhoSlope
from corrections.sample import effective_count
from corrections.truth_response import mean_truth_pt
from corrections.widths import fit_core
from processors.binning import RESPONSE_BINS, RESPONSE_RANGE

if TYPE_CHECKING:
    from corrections.results import Measurement, Status
    from corrections.sample import Sample
    from corrections.settings import MeasurementSettings

FloatArray = NDArray[np.float64]

# A slope below this many of its errors is taken as none.
SIGNIFICANT = 2.0


def with_rho(measurement: Measurement, simulation: Sample, settings: MeasurementSettings) -> Measurement:
    """`measurement` with the slope of N|N| in rho of every curve; nothing is added where the files have no rho."""
    rho = simulation.mean_rho()
    if not simulation.has_truth or np.count_nonzero(rho > 0) < 2:
        return measurement
    counts, variances = simulation.responses_by_rho()
    mean = _overall_mean(simulation)
    fits = {
        interval_of(simulation, eta): _fit(counts[eta], variances[eta], rho, mean, simulation, settings)
        for eta in range(len(counts))
    }
    known = rho[np.isfinite(rho)]
    reach = Interval(float(known.min()), float(known.max()))
    curves = tuple(
        replace(curve, rho=_slope(fits[curve.eta], reach)) if curve.status == "ok" else curve
        for curve in measurement.curves
    )
    edges = simulation.binning.pt_avg_edges
    points = [_point(eta, fit, measurement.algo, edges) for eta, fit in fits.items()]
    return replace(measurement, curves=curves, points=(*measurement.points, *points))


def _overall_mean(simulation: Sample) -> float:
    moments = simulation.moments()
    return float(moments["rho"].sum() / moments["weight"].sum())


def _fit(
    counts: FloatArray,
    variances: FloatArray,
    rho: FloatArray,
    mean_rho: float,
    simulation: Sample,
    settings: MeasurementSettings,
) -> NoiseSlope:
    """Slope of one |eta| bin from the cores of reco/truth, `counts` and `variances` (n_pt, n_rho, n_response)."""
    response_edges = np.linspace(*RESPONSE_RANGE, RESPONSE_BINS + 1)
    widths, errors = np.full(counts.shape[:2], np.nan), np.full(counts.shape[:2], np.nan)
    enough = effective_count(counts.sum(axis=-1), variances.sum(axis=-1)) >= settings.min_effective
    for place in zip(*np.nonzero(enough), strict=True):
        core = fit_core(counts[place], variances[place], response_edges, settings.core_window)
        if core.width.status == "ok":
            widths[place] = core.width.value / core.mean.value
            errors[place] = core.width.error / core.mean.value
    pt = mean_truth_pt(counts.sum(axis=(-2, -1)), simulation.binning.pt_avg_edges)
    return fit_noise_slope(widths, errors, pt, rho, mean_rho)


def _slope(fit: NoiseSlope, reach: Interval) -> RhoSlope | None:
    if fit.status != "ok" or abs(fit.value) < SIGNIFICANT * fit.error:
        return None
    return RhoSlope(fit.value, fit.error, fit.mean_rho, reach)


def _point(eta: Interval, fit: NoiseSlope, algo: str, edges: FloatArray) -> Point:
    pt = Interval(float(edges[0]), float(edges[-1]))
    centre = float(np.sqrt(pt.low * pt.high))
    status: Status = fit.status
    return Point("rho_slope", SIMULATION, algo, "truth_response", "", eta, pt, centre, fit.value, fit.error, status)
