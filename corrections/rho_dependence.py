"""The noise term and pile-up: from reco/truth of simulation in bins of rho, and from the asymmetry of both sides."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from corrections.bin_fits import interval_of
from corrections.noise import NoiseSlope, fit_noise_slope, fit_noise_term
from corrections.resolution import Known
from corrections.results import DATA, SIMULATION, Interval, Point, RhoSlope
from corrections.sample import effective_count
from corrections.stacks import FORWARD, STANDARD, inflation, mean_pt
from corrections.truth_response import mean_truth_pt
from corrections.widths import fit_core, truncated_rms
from processors.binning import RESPONSE_BINS, RESPONSE_RANGE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corrections.noise import NoiseTerm
    from corrections.results import Measurement, Status
    from corrections.sample import Sample
    from corrections.settings import MeasurementSettings

FloatArray = NDArray[np.float64]

# A slope below this many of its errors is taken as none.
SIGNIFICANT = 2.0
TRUTH, ASYMMETRY = "truth_response", "asymmetry"


@dataclass(frozen=True, slots=True)
class NoiseKnowledge:
    """N|N| of simulation and of data (GeV^2) by |eta| bin, None for the reference region; absent where not known."""

    simulation: dict[int | None, Known]
    data: dict[int | None, Known]


def with_rho(
    measurement: Measurement, simulation: Sample, data: Sample | None, settings: MeasurementSettings
) -> Measurement:
    """`measurement` with the slope of N|N| in rho of every curve; nothing is added where the files have no rho.

    The curves take the slope of reco/truth. That of the asymmetry, which data have too, stands beside it.
    """
    rho = simulation.mean_rho()
    if not simulation.has_truth or np.count_nonzero(rho > 0) < 2:
        return measurement
    mean = overall_rho(simulation)
    fits = {
        interval_of(simulation, eta): fit_noise_slope(*_cores(simulation, (eta,), settings), rho, mean)
        for eta in range(simulation.binning.shape[0])
    }
    known = rho[np.isfinite(rho)]
    reach = Interval(float(known.min()), float(known.max()))
    curves = tuple(
        replace(curve, rho=_slope(fits[curve.eta], reach)) if curve.status == "ok" else curve
        for curve in measurement.curves
    )
    edges, algo = simulation.binning.pt_avg_edges, measurement.algo
    points = [_point(eta, fit, SIMULATION, algo, TRUTH, edges) for eta, fit in fits.items()]
    for name, sample in ((SIMULATION, simulation), (DATA, data)):
        if sample is not None:
            slopes = _asymmetry_slopes(simulation, sample, settings)
            points += [_point(eta, fit, name, algo, ASYMMETRY, edges) for eta, fit in slopes.items()]
    return replace(measurement, curves=curves, points=(*measurement.points, *points))


def noise_knowledge(simulation: Sample, data: Sample | None, settings: MeasurementSettings) -> NoiseKnowledge:
    """N|N| at the mean rho of each side from reco/truth of simulation in bins of rho.

    Data take that of simulation at their own rho; either part is known to `settings.noise_uncertainty` of its size. The
    knowledge of simulation comes from the events that are fitted with it: the quoted uncertainty of N is some 15 % too
    small, that of the curve is not.
    """
    rho = simulation.mean_rho()
    if not simulation.has_truth or np.count_nonzero(rho > 0) < 2:
        return NoiseKnowledge({}, {})
    places: list[int | None] = [None, *range(simulation.binning.shape[0])]
    bins = {eta: simulation.binning.reference_bins if eta is None else (eta,) for eta in places}
    terms = {eta: fit_noise_term(*_cores(simulation, bins[eta], settings), rho, settings.curve) for eta in places}
    found = {eta: term for eta, term in terms.items() if term.status == "ok"}
    simulated = {eta: Known(*term.at(overall_rho(simulation))) for eta, term in found.items()}
    if data is None or not overall_rho(data) > 0:
        return NoiseKnowledge(simulated, {})
    transferred = {eta: _transferred(term, overall_rho(data), settings) for eta, term in found.items()}
    return NoiseKnowledge(simulated, transferred)


def _transferred(term: NoiseTerm, rho: float, settings: MeasurementSettings) -> Known:
    value, error = term.at(rho)
    own = settings.noise_uncertainty * term.parameters * np.array([1.0, rho])
    return Known(value, float(np.sqrt(error**2 + np.sum(own**2))))


def overall_rho(sample: Sample) -> float:
    """Mean rho of the events with the third-jet cut, GeV per unit area; 0 where there is none."""
    weight, weighted = sample.sums.rho.sum(axis=0) if len(sample.sums.rho) else (0.0, 0.0)
    return float(weighted / weight) if weight > 0 else 0.0


def _cores(
    simulation: Sample, etas: Sequence[int], settings: MeasurementSettings
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Widths over means of the cores of reco/truth with their errors, (n_pt, n_rho), and the mean truth pT, (n_pt,)."""
    counts, variances = (grid[list(etas)].sum(axis=0) for grid in simulation.responses_by_rho())
    edges = np.linspace(*RESPONSE_RANGE, RESPONSE_BINS + 1)
    widths, errors = np.full(counts.shape[:2], np.nan), np.full(counts.shape[:2], np.nan)
    enough = effective_count(counts.sum(axis=-1), variances.sum(axis=-1)) >= settings.min_effective
    for place in zip(*np.nonzero(enough), strict=True):
        core = fit_core(counts[place], variances[place], edges, settings.core_window)
        if core.width.status == "ok":
            widths[place] = core.width.value / core.mean.value
            errors[place] = core.width.error / core.mean.value
    pt = mean_truth_pt(counts.sum(axis=(-2, -1)), simulation.binning.pt_avg_edges)
    return widths, errors, pt


def _asymmetry_slopes(simulation: Sample, sample: Sample, settings: MeasurementSettings) -> dict[Interval, NoiseSlope]:
    """Slopes from the widths of A, which hold the imbalance too; that it does not move with rho is an approximation.

    Standard pairs have the noise of two jets of the bin, forward ones that of one and of a jet in the reference region.
    """
    binning, rho, mean = sample.binning, sample.mean_rho(), overall_rho(sample)
    pt, ratio = mean_pt(simulation, sample), inflation(simulation)

    def fit(eta: int, region: int) -> NoiseSlope:
        widths, errors = _asymmetry_widths(sample, eta, region, settings)
        scale = ratio[eta, region][:, None]
        return fit_noise_slope(widths * scale, errors * scale, pt[eta, region], rho, mean)

    standard = {eta: _scaled(fit(eta, STANDARD), 0.5) for eta in range(binning.shape[0])}
    reference = [standard[eta] for eta in binning.reference_bins]
    forward = {eta: fit(eta, FORWARD) for eta in standard if eta not in binning.reference_bins}
    return {
        interval_of(simulation, eta): _joined(own, forward[eta], reference) if eta in forward else own
        for eta, own in standard.items()
    }


def _asymmetry_widths(
    sample: Sample, eta: int, region: int, settings: MeasurementSettings
) -> tuple[FloatArray, FloatArray]:
    """Truncated RMS of A and its error, (n_pt, n_rho)."""
    spectra, edges = sample.spectra_by_rho(eta, region), sample.binning.asymmetry_edges
    effective = effective_count(spectra.counts.sum(axis=-1), spectra.variances.sum(axis=-1))
    widths, errors = np.full(effective.shape, np.nan), np.full(effective.shape, np.nan)
    for place in zip(*np.nonzero(effective >= settings.min_effective), strict=True):
        width = truncated_rms(spectra.counts[place], spectra.variances[place], edges, settings.truncation)
        widths[place], errors[place] = width.value, width.error
    return widths, errors


def _scaled(fit: NoiseSlope, factor: float) -> NoiseSlope:
    return replace(fit, value=fit.value * factor, error=fit.error * factor)


def _joined(standard: NoiseSlope, forward: NoiseSlope, reference: Sequence[NoiseSlope]) -> NoiseSlope:
    """Mean of the slopes of both regions; that of the reference jet is taken off the forward one."""
    value, error = _mean(reference)
    apart = replace(forward, value=forward.value - value, error=float(np.hypot(forward.error, error)))
    mean, mean_error = _mean((standard, apart))
    best = standard if standard.status == "ok" or not np.isfinite(mean) else apart
    return replace(best, value=mean, error=mean_error)


def _mean(slopes: Sequence[NoiseSlope]) -> tuple[float, float]:
    known = [s for s in slopes if s.status == "ok" and np.isfinite(s.value) and s.error > 0]
    if not known:
        return float("nan"), float("nan")
    weights = np.array([s.error**-2 for s in known])
    return float(np.average([s.value for s in known], weights=weights)), float(weights.sum() ** -0.5)


def _slope(fit: NoiseSlope, reach: Interval) -> RhoSlope | None:
    if fit.status != "ok" or abs(fit.value) < SIGNIFICANT * fit.error:
        return None
    return RhoSlope(fit.value, fit.error, fit.mean_rho, reach)


def _point(eta: Interval, fit: NoiseSlope, dataset: str, algo: str, method: str, edges: FloatArray) -> Point:
    pt = Interval(float(edges[0]), float(edges[-1]))
    centre = float(np.sqrt(pt.low * pt.high))
    status: Status = fit.status if np.isfinite(fit.value) or fit.status != "ok" else "no_reference"
    return Point("rho_slope", dataset, algo, method, "", eta, pt, centre, fit.value, fit.error, status)
