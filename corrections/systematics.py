"""What each source of uncertainty does to the scale factors and to the residual response.

Every source is varied alone, and what is measured again is compared with the nominal value measured in the same quick
way, so that only the relative shift counts. Shifts are per |eta| bin; a source that cannot be evaluated is left out and
said in a note.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, get_args

import numpy as np
from numpy.typing import NDArray

from corrections.bin_fits import Fitting, fit_bins, interval_of
from corrections.methods import EXTRAPOLATION, MPFX, factors_by
from corrections.points import METHOD
from corrections.residual import residual_of
from corrections.results import SIMULATION, SOURCES, Interval, Shift
from corrections.rho_dependence import noise_knowledge
from corrections.settings import MeasurementSettings, WidthEstimator
from corrections.smearing_uncertainty import with_smearing_uncertainty
from corrections.stacks import stretched, with_templates_of
from corrections.template_fit import quick_fit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from corrections.bin_fits import BinFit
    from corrections.comparison import Comparison
    from corrections.results import Measurement, Point, ResolutionCurve
    from corrections.sample import Sample
    from corrections.stacks import Stack

FloatArray = NDArray[np.float64]
ByEta = dict[Interval, float]

# The fitted range of A is changed by this many half-widths for the uncertainty of the width estimator.
WINDOW_CHANGE = 0.5
# Share of the distributions of an |eta| bin that must get a template of the alternative simulation.
MOST_ROWS = 0.5
MISSING = {
    "jes": "no histograms with a varied energy scale",
    "pu": "no pile-up weights are configured",
    "dphi": "no histograms with a varied azimuth cut",
    "pt3": "no histograms with a varied third-jet cut",
    "template": "no simulation has the role alternative",
    "ptdep": "the scale factor depends on pT already, or has too few bins of pT",
    "nonclosure": "no response of simulated jets to truth was measured",
}


OTHER_METHODS = dict.fromkeys(("template", "imbalance", "width", "ptdep"), "it is known for the template method only")


@dataclass(frozen=True, slots=True)
class Variations:
    """What is compared: the nominal samples, and those with one thing varied, by names such as jes_up.

    `is_smeared` tells whether residuals come from simulation that was smeared by the measured scale factor.
    """

    nominal: Comparison
    varied: Mapping[str, Comparison]
    settings: MeasurementSettings
    threads: int = 1
    is_smeared: bool = True


def with_systematics(measurement: Measurement, variations: Variations) -> Measurement:
    """`measurement` with the shifts of its published scale factors and residuals, and notes on what is lacking.

    Those of the residuals are of the mean asymmetry, which the matrix method averages in another way.
    """
    is_template = measurement.method == METHOD
    factors = (factor_shifts if is_template else other_factor_shifts)(measurement, variations)
    residuals = residual_shifts(variations)
    found = {shift.source for shifts in factors.values() for shift in shifts}
    points = tuple(
        _shifted(point, factors, residuals) if measurement.publishes(point) else point for point in measurement.points
    )
    lacking = [source for source in SOURCES if source not in found]
    missing = MISSING if is_template else MISSING | OTHER_METHODS
    notes = [f"systematic {source} was not evaluated: {missing.get(source, 'no fit')}" for source in lacking]
    notes += _bins_without(found, factors)
    told = replace(measurement, points=points, notes=(*measurement.notes, *(notes if factors else ())))
    nominal = variations.nominal
    if nominal.simulation is None or nominal.data is None or not variations.is_smeared:
        return told
    return with_smearing_uncertainty(told, nominal.simulation, nominal.data)


def _bins_without(found: Iterable[str], factors: Mapping[Interval, list[Shift]]) -> list[str]:
    """One note for each source that was evaluated in some |eta| bins only."""
    notes = []
    for source in (each for each in SOURCES if each in found):
        etas = [eta for eta, shifts in factors.items() if source not in {shift.source for shift in shifts}]
        names = ", ".join(f"{eta.low:g}-{eta.high:g}" for eta in sorted(etas, key=lambda eta: eta.low))
        if names:
            notes.append(f"systematic {source} was not evaluated in |eta| {names}")
    return notes


def _shifted(point: Point, factors: Mapping[Interval, list[Shift]], residuals: Mapping[Interval, list[Shift]]) -> Point:
    relative = {"scale_factor": factors, "residual": residuals}.get(point.quantity, {}).get(point.eta, [])
    if not point.is_measured or point.region == "reference":
        return point
    shifts = (Shift(s.source, s.up * point.value, s.down * point.value) for s in relative)
    shifted = replace(point, shifts=tuple(shifts))
    # a factor whose lower edge is below zero cannot be applied
    return replace(shifted, status="imprecise") if shifted.total >= shifted.value else shifted


def factor_shifts(measurement: Measurement, variations: Variations) -> dict[Interval, list[Shift]]:
    """Relative shifts of the scale factor per |eta| bin, in the order of `results.SOURCES`."""
    nominal, settings = variations.nominal, variations.settings
    if nominal.simulation is None or nominal.data is None:
        return {}
    data, simulation = nominal.data.without_replicas(), nominal.simulation.without_replicas()
    # only ratios count, for which the plain template does
    simple = replace(settings, scale_factor="constant", template="histogram")
    noise = {} if settings.noise == "free" else noise_knowledge(simulation, None, settings).simulation
    plain = Fitting(simple, variations.threads, quick_fit, has_errors=False, noise=noise)
    _, constant = fit_bins(simulation, data, plain)
    base = _values_of(constant)

    def ratios(one: Fitting, of: tuple[Sample, Sample] = (simulation, data)) -> ByEta:
        return _relative(_values(*of, one), base)

    found: dict[str, tuple[ByEta, ByEta]] = {}
    for source in ("jes", "pu", "dphi", "pt3"):
        pair = [_samples(variations.varied.get(f"{source}_{side}")) for side in ("up", "down")]
        if pair[0] is not None and pair[1] is not None:
            found[source] = ratios(plain, pair[0]), ratios(plain, pair[1])
    if nominal.alternatives:
        shifts = [
            _template_shifts(plain, other, samples=(simulation, data), base=base) for other in nominal.alternatives
        ]
        found["template"] = _both_ways(_largest(shifts))
    change = settings.imbalance
    found["imbalance"] = ratios(_stretched(plain, change)), ratios(_stretched(plain, -change))
    found["width"] = ratios(_windowed(plain, WINDOW_CHANGE)), ratios(_windowed(plain, -WINDOW_CHANGE))
    if settings.scale_factor == "constant":
        found["ptdep"] = _both_ways(_pt_dependence(simulation, data, plain, constant))
    found["nonclosure"] = _both_ways(non_closure(measurement))
    return _by_eta(found)


def other_factor_shifts(measurement: Measurement, variations: Variations) -> dict[Interval, list[Shift]]:
    """The same for a published method other than the template one, by that method."""
    nominal, settings, method = variations.nominal, variations.settings, measurement.method
    if nominal.simulation is None or nominal.data is None:
        return {}
    samples = nominal.simulation, nominal.data
    base = factors_by(method, *samples, settings)
    found: dict[str, tuple[ByEta, ByEta]] = {}
    for source in ("jes", "pu", "dphi", "pt3"):
        pair = [_samples(variations.varied.get(f"{source}_{side}")) for side in ("up", "down")]
        if pair[0] is not None and pair[1] is not None:
            up, down = (factors_by(method, *each, settings) for each in pair if each is not None)
            found[source] = _relative(up, base), _relative(down, base)
    change = settings.imbalance
    if method != MPFX:
        up, down = (factors_by(method, *samples, settings, sign * change) for sign in (1, -1))
        found["imbalance"] = _relative(up, base), _relative(down, base)
    if method == EXTRAPOLATION:
        others = [replace(settings, width=each) for each in get_args(WidthEstimator) if each != settings.width]
        found["width"] = _both_ways(_largest([_relative(factors_by(method, *samples, how), base) for how in others]))
    found["nonclosure"] = _both_ways(non_closure(measurement))
    return _by_eta(found)


def _values(simulation: Sample, data: Sample, fitting: Fitting) -> ByEta:
    _, bins = fit_bins(simulation, data, fitting)
    return _values_of(bins)


def _values_of(bins: Iterable[BinFit]) -> ByEta:
    return {fit.eta: fit.scale_factor.value for fit in bins if fit.scale_factor is not None}


def _relative(values: ByEta, base: ByEta) -> ByEta:
    return {eta: values[eta] / base[eta] - 1 for eta in base if eta in values and np.isfinite(values[eta] / base[eta])}


def _samples(comparison: Comparison | None) -> tuple[Sample, Sample] | None:
    if comparison is None or comparison.simulation is None or comparison.data is None:
        return None
    return comparison.simulation.without_replicas(), comparison.data.without_replicas()


def _template_shifts(fitting: Fitting, other: Sample, samples: tuple[Sample, Sample], base: ByEta) -> ByEta:
    """Relative change with the truth asymmetries of another simulation, where it has enough of them."""
    shares: dict[int | None, float] = {}

    def reshape(stack: Stack, eta: int | None) -> Stack:
        moved, shares[eta] = with_templates_of(stack, other, eta, fitting.settings.min_row)
        return moved

    values = _relative(_values(*samples, replace(fitting, reshape_data=reshape)), base)
    enough = {interval_of(samples[0], eta) for eta, share in shares.items() if eta is not None and share >= MOST_ROWS}
    return {eta: value for eta, value in values.items() if eta in enough}


def _stretched(fitting: Fitting, change: float) -> Fitting:
    return replace(fitting, reshape=lambda stack: stretched(stack, change))


def _windowed(fitting: Fitting, change: float) -> Fitting:
    window = max(fitting.settings.core_window + change, 1.0)
    return replace(fitting, settings=replace(fitting.settings, core_window=window))


def _pt_dependence(simulation: Sample, data: Sample, fitting: Fitting, constant: Iterable[BinFit]) -> ByEta:
    """Mean distance of a scale factor with a free number for each part of the curve from the `constant` ones."""
    flexible = replace(fitting, settings=replace(fitting.settings, scale_factor="k_factors"))
    _, free = fit_bins(simulation, data, flexible)
    return {
        one.eta: distance
        for one, other in zip(constant, free, strict=True)
        if (distance := _mean_distance(one, other)) is not None
    }


def _mean_distance(constant: BinFit, free: BinFit) -> float | None:
    if constant.scale_factor is None or free.scale_factor is None or len(free.scale_factor.parameters) == 1:
        return None
    assert free.data is not None  # noqa: S101  there is no scale factor without data
    rows = free.data.only(free.compared)
    ratio = np.sqrt(np.maximum(free.scale_factor.squared(rows.pt), 0.0)) / constant.scale_factor.value
    weight = rows.distributions.counts.sum(axis=1) / rows.distributions.scale
    distance = float(np.average(np.abs(ratio - 1), weights=weight))
    # what the freedom of the parts makes of chance: the variance of the ratio beyond that of the constant
    own = free.scale_factor.squared_variance(rows.pt) / free.scale_factor.squared(rows.pt) ** 2
    common = constant.scale_factor.squared_variance(rows.pt) / constant.scale_factor.squared(rows.pt) ** 2
    noise = float(np.average(np.maximum(own - common, 0.0), weights=weight)) / 4
    return float(np.sqrt(max(distance**2 - noise, 0.0)))


def non_closure(measurement: Measurement) -> ByEta:
    """Mean relative distance of the truth-response width from the dijet resolution of simulation per |eta| bin."""
    truth: dict[Interval, list[Point]] = {}
    for point in measurement.select("jer_truth", SIMULATION):
        if point.is_measured and point.stat > 0:
            truth.setdefault(point.eta, []).append(point)
    curves = {curve.eta: curve for curve in measurement.curves if curve.status == "ok"}
    pairs = {eta: _mean_distance_from_truth(curves[eta], points) for eta, points in truth.items() if eta in curves}
    return {eta: distance for eta, distance in pairs.items() if distance is not None}


def _mean_distance_from_truth(curve: ResolutionCurve, points: Iterable[Point]) -> float | None:
    """Distance from 1 of the mean of curve over truth-response width, in the range of pT of the curve, less chance."""
    inside = [p for p in points if curve.pt_range.low <= p.pt_mean <= curve.pt_range.high]
    if not inside:
        return None
    expected = curve(np.array([p.pt_mean for p in inside]))
    ratio = expected / np.array([p.value for p in inside])
    weight = np.array([(p.value / p.stat) ** 2 for p in inside])
    usable = np.isfinite(ratio)
    if not usable.any():
        return None
    mean = float(np.average(ratio[usable], weights=weight[usable]))
    pt = np.array([p.pt_mean for p in inside])[usable]
    band = float(np.average((curve.band(pt) / expected[usable]) ** 2, weights=weight[usable]))
    return float(np.sqrt(max((mean - 1) ** 2 - band - 1 / weight[usable].sum(), 0.0)))


def residual_shifts(variations: Variations) -> dict[Interval, list[Shift]]:
    """Relative shifts of the residual response per |eta| bin, from simulation that is not smeared on either side."""
    base = _residuals(variations.nominal, variations.settings)
    found: dict[str, tuple[ByEta, ByEta]] = {}
    for source in ("jes", "pu", "dphi", "pt3"):
        pair = [variations.varied.get(f"{source}_{side}") for side in ("up", "down")]
        if pair[0] is not None and pair[1] is not None:
            up, down = (_residuals(each, variations.settings) for each in pair if each is not None)
            found[source] = _relative(up, base), _relative(down, base)
    return _by_eta(found)


def _residuals(comparison: Comparison, settings: MeasurementSettings) -> ByEta:
    samples = _samples(comparison)
    if samples is None:
        return {}
    simulation, data = samples
    return {
        interval_of(simulation, eta): residual_of(data, simulation, eta, settings)
        for eta in range(simulation.binning.shape[0])
    }


def _both_ways(sizes: ByEta) -> tuple[ByEta, ByEta]:
    return sizes, {eta: -size for eta, size in sizes.items()}


def _largest(many: list[ByEta]) -> ByEta:
    etas = {eta for each in many for eta in each}
    return {eta: max((each[eta] for each in many if eta in each), key=abs) for eta in etas}


def _by_eta(found: Mapping[str, tuple[ByEta, ByEta]]) -> dict[Interval, list[Shift]]:
    shifts: dict[Interval, list[Shift]] = {}
    for source in SOURCES:
        up, down = found.get(source, ({}, {}))
        for eta in up.keys() & down.keys():
            shifts.setdefault(eta, []).append(Shift(source, up[eta], down[eta]))
    return shifts
