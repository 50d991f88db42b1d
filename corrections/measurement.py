"""From samples to numbers: resolutions, scale factors and residual response of one jet algorithm."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from corrections.bin_fits import BinFit, Fitting, fit_bins, interval_of
from corrections.coverage import best_known
from corrections.methods import factors_by
from corrections.pair_points import residuals_by
from corrections.points import METHOD, describe, parameter_points, resolution_curve, scale_factor_points
from corrections.residual import (
    Responses,
    comparable,
    fit_residual,
    relative_responses,
)
from corrections.results import (
    AGAIN,
    DATA,
    LOOP_CHECKS,
    MOVED,
    RATIO,
    SIMULATION,
    AsymmetryFit,
    Check,
    Interval,
    Measurement,
    Point,
    Shift,
)
from corrections.rho_dependence import noise_knowledge
from corrections.stacks import FORWARD, mean_pt
from corrections.template_fit import quick_fit
from corrections.truth_response import truth_points

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corrections.results import Quantity, Status
    from corrections.sample import Sample
    from corrections.settings import MeasurementSettings

FloatArray = NDArray[np.float64]

# Corrections that move by less than this part of their statistical uncertainty need not be applied again.
STABLE = 0.2
NO_NOISE = "measurement.noise rho needs truth jets and events in two bins of rho; the noise term is fitted freely"
# The part of what is left that is put in: events that move between bins make it respond by up to twice the change.
STEP = 0.6


def measure(
    simulation: Sample, data: Sample | None, algo: str, settings: MeasurementSettings, threads: int = 1
) -> Measurement:
    """Resolution of `simulation`, and scale factors if there is `data`; the residual is added by `with_residual`.

    Needs truth jets in the simulation: without them every width has the status "no_truth".
    """
    truth = truth_points(simulation, algo, settings.core_window, settings.min_effective)
    fitting = _fitting(simulation, data, settings, threads)
    reference, bins = fit_bins(simulation, data, fitting)

    def tell(fit: BinFit) -> tuple[list[Point], list[AsymmetryFit], list[Check]]:
        return describe(fit, reference, simulation, algo, settings)

    with ThreadPoolExecutor(max(threads, 1)) as pool:
        told = list(pool.map(tell, bins))
    curves = tuple(resolution_curve(fit, points, algo) for fit, (points, _, _) in zip(bins, told, strict=True))
    factors: list[Point] = []
    if data is not None:
        edges = simulation.binning.pt_avg_edges
        for fit, (points, _, _) in zip(bins, told, strict=True):
            factors += scale_factor_points(fit, points, algo, edges)
    parameters = tuple(p for curve in curves for p in parameter_points(curve))
    lacks_noise = settings.noise == "rho" and not fitting.noise
    return Measurement(
        algo=algo,
        points=(*(p for points, _, _ in told for p in points), *truth, *parameters, *factors),
        curves=curves,
        fits=tuple(fit for _, fits, _ in told for fit in fits),
        replicas=simulation.n_replicas,
        method=METHOD,
        checks=tuple(check for _, _, checks in told for check in checks),
        notes=(NO_NOISE,) if lacks_noise else (),
    )


def _fitting(simulation: Sample, data: Sample | None, settings: MeasurementSettings, threads: int) -> Fitting:
    plain = Fitting(settings, threads)
    if settings.noise == "free":
        return plain
    known = noise_knowledge(simulation, data, settings)
    return replace(plain, noise=known.simulation, data_noise=known.data)


def refined(
    measurement: Measurement, data: Sample, smeared: Sample, settings: MeasurementSettings, threads: int = 1
) -> Measurement:
    """`measurement` with every published scale factor times that of `data` over `smeared`, simulation smeared by it.

    Smeared simulation is as wide as data, so that what the width does to the method is the same on both sides and the
    second factor is free of it. Its distance from 1 is what the first one lacked; the relative error is kept. Factors
    by other methods, by which nothing was smeared, stay what they are.
    """
    second = _finite(second_factors(measurement.method, data, smeared, settings, threads))
    lacking = {p.eta for p in measurement.published("scale_factor") if p.is_measured and p.eta not in second}
    notes = tuple(
        f"|eta| {eta.low:g}-{eta.high:g}: the scale factor could not be refined with smeared simulation"
        for eta in sorted(lacking, key=lambda eta: eta.low)
    )
    return replace(_times(measurement, second, {}), notes=(*measurement.notes, *notes))


def second_factors(
    method: str, data: Sample, smeared: Sample, settings: MeasurementSettings, threads: int = 1
) -> dict[Interval, float]:
    """Scale factor, constant in pT, of `data` over `smeared` by a method per |eta| bin; absent where there is none."""
    if method != METHOD:
        return factors_by(method, smeared, data, settings)
    simple = replace(settings, scale_factor="constant")
    constant = replace(_fitting(smeared, data, simple, threads), fitter=quick_fit, has_errors=False)
    _, bins = fit_bins(smeared.without_replicas(), data.without_replicas(), constant)
    return {fit.eta: fit.scale_factor.value for fit in bins if fit.scale_factor is not None}


def measured_again(
    measurement: Measurement, data: Sample, simulation: Sample, settings: MeasurementSettings, threads: int = 1
) -> Measurement:
    """`measurement` with what is left of its scale factors and residuals in samples to which they were applied.

    Both must be 1. The events are the same, so that chance moves them by less than the uncertainties of what was
    applied, which are what they are compared with.
    """
    factors = second_factors(measurement.method, data, simulation, settings, threads)
    residuals = residuals_by(measurement.residual_method, data, simulation, settings)
    again = [
        *_again(measurement, "scale_factor", "scale_factor_again", factors),
        *_again(measurement, "residual", "residual_again", residuals),
    ]
    checks = [_unity(again, name) for name in ("scale_factor_again", "residual_again")]
    return replace(
        measurement,
        points=(*measurement.points, *again),
        checks=(*measurement.checks, *(check for check in checks if check is not None)),
    )


def is_stable(measurement: Measurement) -> bool:
    """Whether what was left after the corrections is within `STABLE` of its uncertainty from 1 everywhere."""
    return largest_left(measurement) <= STABLE


def largest_left(measurement: Measurement) -> float:
    """Largest distance from 1 of what is left after the corrections, in units of its uncertainty; 0 without any."""
    left = [p for name in AGAIN for p in measurement.select(name) if p.is_measured]
    return max((abs(p.value - 1) / p.stat for p in left), default=0.0)


def moved(before: Measurement, after: Measurement, n_repeated: int) -> Measurement:
    """`after` with how far repetition took its corrections from those of `before`, in units of their uncertainties.

    What was applied right at first need not move beyond chance; the events are the same. A note tells what is left.
    """
    checks = []
    for quantity, name in MOVED.items():
        first = best_known(before.published(quantity))
        last = {eta: p for eta, p in best_known(after.published(quantity)).items() if eta in first}
        pulls = [(p.value / first[eta].value - 1) * first[eta].value / first[eta].stat for eta, p in last.items()]
        if pulls:
            eta = Interval(min(each.low for each in last), max(each.high for each in last))
            checks.append(Check(name, eta, float(np.sum(np.square(pulls))), len(pulls)))
    left = largest_left(after)
    notes = after.notes
    if left > STABLE:
        told = f"after {n_repeated} repetitions the corrections still ask for up to {left:.2g} of their uncertainty"
        notes = (*notes, told)
    return replace(after, checks=(*after.checks, *checks), notes=notes)


def readjusted(measurement: Measurement) -> Measurement:
    """`measurement` with what was left put into its published corrections, and not yet measured again."""
    left = {name: {p.eta: p.value for p in measurement.select(name) if p.is_measured} for name in AGAIN}
    before = replace(
        measurement,
        points=tuple(p for p in measurement.points if p.quantity not in AGAIN),
        checks=tuple(c for c in measurement.checks if c.name not in LOOP_CHECKS),
    )
    return _times(before, *({eta: value**STEP for eta, value in left[name].items()} for name in AGAIN))


def _again(measurement: Measurement, quantity: Quantity, name: Quantity, values: dict[Interval, float]) -> list[Point]:
    """One point for each |eta| bin that was measured at first; of several in pT the best known one stands for it."""
    first = best_known(measurement.published(quantity))
    return [
        replace(
            point,
            quantity=name,
            value=values.get(eta, float("nan")),
            stat=point.stat / point.value,
            status="ok" if np.isfinite(values.get(eta, float("nan"))) else "not_converged",
            shifts=(),
            copies=np.zeros(0),
        )
        for eta, point in sorted(first.items(), key=lambda item: item[0].low)
    ]


def _unity(points: Sequence[Point], quantity: Quantity) -> Check | None:
    pulls = [(p.value - 1) / p.stat for p in points if p.quantity == quantity and p.is_measured]
    everywhere = [p.eta for p in points if p.quantity == quantity]
    if not pulls:
        return None
    eta = Interval(min(each.low for each in everywhere), max(each.high for each in everywhere))
    return Check(AGAIN[quantity], eta, float(np.sum(np.square(pulls))), len(pulls))


def _finite(values: dict[Interval, float]) -> dict[Interval, float]:
    return {eta: value for eta, value in values.items() if np.isfinite(value)}


def _times(measurement: Measurement, factors: dict[Interval, float], residuals: dict[Interval, float]) -> Measurement:
    """Published scale factors, and resolutions of data with them, and residuals times numbers by |eta|."""

    def factor(p: Point) -> float:
        if not p.is_measured or not measurement.publishes(p):
            return 1.0
        if p.quantity == "residual":
            return residuals.get(p.eta, 1.0) if p.stat > 0 else 1.0
        is_of_data = p.quantity == "scale_factor" or (p.quantity == "jer" and p.dataset == DATA)
        return factors.get(p.eta, 1.0) if is_of_data else 1.0

    return replace(measurement, points=tuple(_scaled(p, factor(p)) for p in measurement.points))


def _scaled(point: Point, factor: float) -> Point:
    if factor == 1.0:
        return point
    shifts = tuple(Shift(s.source, s.up * factor, s.down * factor) for s in point.shifts)
    return replace(
        point, value=point.value * factor, stat=point.stat * factor, copies=point.copies * factor, shifts=shifts
    )


def with_residual(
    measurement: Measurement, data: Sample, simulation: Sample, smeared: Sample, settings: MeasurementSettings
) -> Measurement:
    """`measurement` with the residual response per |eta| bin; `smeared` is `simulation` smeared by the scale factor."""
    points = []
    for eta in range(simulation.binning.shape[0]):
        responses = [relative_responses(sample, eta) for sample in (data, smeared, simulation)]
        enough = comparable(data, simulation, eta, settings)
        points.append(_residual_point(measurement.algo, simulation, eta, responses, enough))
        points.extend(_response_points(measurement.algo, simulation, data, eta, responses))
    return replace(measurement, points=(*measurement.points, *points))


def _residual_point(
    algo: str, simulation: Sample, eta: int, responses: Sequence[Responses], enough: NDArray[np.bool_]
) -> Point:
    interval = interval_of(simulation, eta)
    edges = simulation.binning.pt_avg_edges
    everything = Interval(float(edges[0]), float(edges[-1]))
    centre = float(np.sqrt(everything.low * everything.high))
    common: tuple[Quantity, str, str, str] = ("residual", RATIO, algo, "mean_asymmetry")
    if eta in simulation.binning.reference_bins:
        return Point(*common, "reference", interval, everything, centre, 1.0, 0.0, "ok")
    data, smeared, unsmeared = responses
    fit = fit_residual(data, smeared, unsmeared, enough)
    status: Status = "ok" if np.isfinite(fit.value) else "few_events"
    return Point(*common, "forward", interval, everything, centre, fit.value, fit.error, status, copies=fit.copies)


def _response_points(
    algo: str, simulation: Sample, data: Sample, eta: int, responses: Sequence[Responses]
) -> list[Point]:
    edges = simulation.binning.pt_avg_edges
    interval = interval_of(simulation, eta)
    points = []
    for name, sample, response in ((DATA, data, responses[0]), (SIMULATION, simulation, responses[1])):
        pt = mean_pt(simulation, sample)[eta, FORWARD]
        for b in range(len(edges) - 1):
            value, error = float(response.value[b]), float(response.error[b])
            status: Status = "ok" if np.isfinite(value) else "empty"
            bounds = Interval(float(edges[b]), float(edges[b + 1]))
            points.append(
                Point(
                    "response",
                    name,
                    algo,
                    "mean_asymmetry",
                    "forward",
                    interval,
                    bounds,
                    float(pt[b]),
                    value,
                    error,
                    status,
                )
            )
    return points
