"""From samples to numbers: resolutions, scale factors and residual response of one jet algorithm."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from corrections.residual import Responses, fit_residual, relative_responses
from corrections.resolution import (
    CurveFit,
    RowWidth,
    fit_curve,
    fit_width,
    replica_spread,
    replica_variances,
    usable_rows,
    width_model,
)
from corrections.results import (
    DATA,
    RATIO,
    SIMULATION,
    AsymmetryFit,
    Interval,
    Measurement,
    Point,
    Quantity,
    ResolutionCurve,
    Status,
)
from corrections.scale_factors import ScaleFactorFit, fit_scale_factor
from corrections.stacks import FORWARD, Stack, data_stack, mean_pt, simulation_stack
from corrections.template_fit import expectation
from corrections.truth_response import truth_points
from corrections.widths import truncated_rms

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from corrections.sample import Sample

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class MeasurementSettings:
    """How widths become resolutions (YAML section `measurement`).

    `core_window` is half the fitted range of A (and of reco/truth) in units of the distribution's half-width;
    `min_effective` effective events are asked of a simulated distribution and of any single width that is quoted,
    `min_row` of a part of it in alpha and of its template, `min_data` of a distribution of data that takes part in a
    joint fit; `truncation` is the upper quantile of the truncated RMS.
    """

    core_window: float = 2.5
    min_effective: float = 40.0
    min_row: float = 20.0
    min_data: float = 8.0
    truncation: float = 0.985

    def __post_init__(self) -> None:
        """Refuse windows and limits that cannot work."""
        if not self.core_window >= 1:
            message = f"measurement.core_window is in half-widths and at least 1, got {self.core_window}"
            raise ValueError(message)
        if not 0.7 <= self.truncation < 1:
            message = f"measurement.truncation is a quantile in [0.7, 1), got {self.truncation}"
            raise ValueError(message)
        if self.min_effective < 5 or self.min_row < 5 or self.min_data < 2:
            message = "measurement.min_effective and min_row must be at least 5 and measurement.min_data at least 2"
            raise ValueError(message)


@dataclass(frozen=True, slots=True)
class _Bin:
    """All that is fitted in one |eta| bin: rows of simulation and data, and which of them took part."""

    eta: Interval
    simulated: Stack
    usable: BoolArray
    data: Stack | None
    curve: CurveFit | None
    scale_factor: ScaleFactorFit | None
    compared: BoolArray

    @property
    def compared_pt(self) -> FloatArray:
        """Mean pT of the rows behind the scale factor, GeV."""
        return self.simulated.pt[self.compared]

    @property
    def fitted_pt(self) -> FloatArray:
        """Mean pT of the rows behind the curve, GeV."""
        return self.simulated.pt[self.usable]


def measure(
    simulation: Sample, data: Sample | None, algo: str, settings: MeasurementSettings, threads: int = 1
) -> Measurement:
    """Resolution of `simulation`, and scale factors if there is `data`; the residual is added by `with_residual`.

    Needs truth jets in the simulation: without them every width has the status "no_truth".
    """
    truth = truth_points(simulation, algo, settings.core_window, settings.min_effective)
    reference, bins = _fit_bins(simulation, data, settings, threads)

    def describe(b: _Bin) -> tuple[list[Point], list[AsymmetryFit]]:
        return _describe(b, reference, simulation, algo, settings)

    with ThreadPoolExecutor(max(threads, 1)) as pool:
        described = list(pool.map(describe, bins))
    curves = tuple(_resolution_curve(b, points, algo) for b, (points, _) in zip(bins, described, strict=True))
    factors: tuple[Point, ...] = ()
    if data is not None:
        factors = tuple(_scale_factor_point(b, points, algo) for b, (points, _) in zip(bins, described, strict=True))
    parameters = tuple(p for curve in curves for p in _parameter_points(curve))
    return Measurement(
        algo=algo,
        points=(*(p for points, _ in described for p in points), *truth, *parameters, *factors),
        curves=curves,
        fits=tuple(fit for _, fits in described for fit in fits),
        replicas=simulation.n_replicas,
    )


def refined(
    measurement: Measurement, data: Sample, smeared: Sample, settings: MeasurementSettings, threads: int = 1
) -> Measurement:
    """`measurement` with every scale factor times that of `data` over `smeared`, the simulation smeared by it.

    Smeared simulation is as wide as data, so that what the width does to the method is the same on both sides and the
    second factor is free of it. Its distance from 1 is what the first one lacked; the relative error is kept.
    """
    _, bins = _fit_bins(smeared, data, settings, threads)
    second = {b.eta: b.scale_factor.value for b in bins if b.scale_factor is not None}
    points = tuple(
        replace(p, value=p.value * second[p.eta], stat=p.stat * second[p.eta])
        if p.quantity == "scale_factor" and p.is_measured and np.isfinite(second.get(p.eta, np.nan))
        else p
        for p in measurement.points
    )
    notes = tuple(
        f"|eta| {p.eta.low:g}-{p.eta.high:g}: the scale factor could not be refined with smeared simulation"
        for p in measurement.points
        if p.quantity == "scale_factor" and p.is_measured and not np.isfinite(second.get(p.eta, np.nan))
    )
    return replace(measurement, points=points, notes=(*measurement.notes, *notes))


def with_residual(
    measurement: Measurement, data: Sample, simulation: Sample, smeared: Sample, settings: MeasurementSettings
) -> Measurement:
    """`measurement` with the residual response per |eta| bin; `smeared` is `simulation` smeared by the scale factor."""
    points = []
    for eta in range(simulation.binning.shape[0]):
        responses = [relative_responses(sample, eta) for sample in (data, smeared, simulation)]
        enough = (data.spectra(eta, FORWARD).effective >= settings.min_data) & (
            simulation.spectra(eta, FORWARD).effective >= settings.min_effective
        )
        points.append(_residual_point(measurement.algo, simulation, eta, responses, enough))
        points.extend(_response_points(measurement.algo, simulation, data, eta, responses))
    return replace(measurement, points=(*measurement.points, *points))


def _fit_bins(
    simulation: Sample, data: Sample | None, settings: MeasurementSettings, threads: int
) -> tuple[_Bin, list[_Bin]]:
    """The reference region, then every |eta| bin."""
    reference = _fit_bin(simulation, data, settings, None, None)

    def one(eta: int) -> _Bin:
        return _fit_bin(simulation, data, settings, eta, reference)

    with ThreadPoolExecutor(max(threads, 1)) as pool:
        return reference, list(pool.map(one, range(simulation.binning.shape[0])))


def _fit_bin(
    simulation: Sample, data: Sample | None, settings: MeasurementSettings, eta: int | None, reference: _Bin | None
) -> _Bin:
    stack = simulation_stack(simulation, eta, settings.core_window)
    usable = usable_rows(stack, settings.min_effective, settings.min_row, settings.min_row)
    reference_curve = reference.curve if reference else None
    if reference_curve is None:
        usable &= ~stack.is_forward
    curve = fit_curve(stack.only(usable), reference_curve) if usable.any() else None
    curve = curve if curve is not None and curve.converged else None
    measured = data_stack(data, simulation, stack, eta) if data is not None else None
    factor, enough = None, np.zeros_like(usable)
    if measured is not None and curve is not None:
        enough = usable & usable_rows(measured, settings.min_data, 1.0, 0.0)
        if reference is not None and reference.scale_factor is None:
            enough &= ~stack.is_forward
        if enough.any():
            reference_factor = reference.scale_factor if reference else None
            factor = fit_scale_factor(
                measured.only(enough), stack.only(enough), curve, reference_curve, reference_factor
            )
    return _Bin(
        _interval(simulation, eta),
        stack,
        usable,
        measured,
        curve,
        factor if factor is not None and factor.converged else None,
        enough,
    )


def _describe(
    b: _Bin, reference: _Bin, simulation: Sample, algo: str, settings: MeasurementSettings
) -> tuple[list[Point], list[AsymmetryFit]]:
    """Single widths and distributions of one |eta| bin, simulation first."""
    describe = _Describer(algo, b.eta, simulation, settings, reference.curve)
    points, fits = describe(SIMULATION, b.simulated, 1.0)
    if b.data is not None:
        factor = reference.scale_factor
        more_points, more_fits = describe(DATA, b.data, factor.squared if factor is not None else None)
        points, fits = points + more_points, fits + more_fits
    return points, fits


@dataclass(frozen=True, slots=True)
class _Describer:
    """Turns the bins of a stack into points and fitted distributions, one width at a time.

    It is called with the squared scale factor of the reference region, 1 for simulation and None where it is not known.
    """

    algo: str
    eta: Interval
    simulation: Sample
    settings: MeasurementSettings
    reference: CurveFit | None

    def __call__(self, dataset: str, stack: Stack, factor: float | None) -> tuple[list[Point], list[AsymmetryFit]]:
        points: list[Point] = []
        fits: list[AsymmetryFit] = []
        settings = self.settings
        usable = usable_rows(stack, settings.min_effective, settings.min_data, settings.min_row)
        for region, pt_bin in stack.bins():
            rows = stack.is_of(region, pt_bin)
            whole, fitted = stack.only(rows), stack.only(rows & usable)
            width = fit_width(fitted) if fitted.rows else self._unmeasured(whole)
            copies = replica_variances(fitted, width) if width.status == "ok" else np.zeros(0)
            points.extend(self._points(dataset, whole, width, copies, factor))
            if whole.distributions.counts.any():
                fits.append(self._fit(dataset, whole, fitted, width))
        return points, fits

    def _unmeasured(self, whole: Stack) -> RowWidth:
        status = "few_events"
        if not whole.distributions.counts.any():
            status = "empty"
        elif not self.simulation.has_truth:
            status = "no_truth"
        return RowWidth(np.nan, np.nan, np.nan, np.nan, np.nan, 0, status)

    def _pt(self, whole: Stack) -> Interval:
        edges = self.simulation.binning.pt_avg_edges
        index = whole.rows[0].pt_bin
        return Interval(float(edges[index]), float(edges[index + 1]))

    def _points(
        self, dataset: str, whole: Stack, width: RowWidth, copies: FloatArray, factor: float | None
    ) -> list[Point]:
        row, probes = whole.rows[0], float(whole.probes[0])
        others, has_reference = 0.0, True
        if row.region == "forward":
            has_reference = self.reference is not None and factor is not None
            others = float(self.reference.squared(whole.pt[:1])[0]) * factor if self.reference and factor else np.nan
        squared = (width.variance * row.inflation**2 - others) / probes
        variance_error = _error(width.variance_error, copies)
        jer = np.sqrt(squared) if squared > 0 else np.nan
        status = width.status if squared > 0 or width.status != "ok" else "negative_square"
        if status == "negative_square" and not has_reference:
            status = "no_reference"
        sigma = np.sqrt(width.variance) if width.variance > 0 else np.nan
        make = self._maker(dataset, whole)
        rms = self._truncated(whole) if width.status == "ok" else (np.nan, np.nan)
        return [
            make("width", "template", float(sigma), float(variance_error / (2 * sigma)), width.status),
            make("width", "truncated_rms", *rms, width.status if np.isfinite(rms[0]) else _failed(width.status)),
            make("jer", "template", float(jer), float(variance_error * row.inflation**2 / probes / (2 * jer)), status),
        ]

    def _maker(self, dataset: str, whole: Stack) -> Callable[..., Point]:
        row, pt = whole.rows[0], self._pt(whole)

        def make(quantity: Quantity, method: str, value: float, stat: float, status: Status) -> Point:
            return Point(
                quantity, dataset, self.algo, method, row.region, self.eta, pt, row.pt_mean, value, stat, status
            )

        return make

    def _truncated(self, whole: Stack) -> tuple[float, float]:
        """Truncated RMS of A less that of the truth asymmetry in quadrature."""
        d, edges = whole.distributions, self.simulation.binning.asymmetry_edges
        fraction = self.settings.truncation
        reco = truncated_rms(d.counts.sum(axis=0), whole.variances.sum(axis=0), edges, fraction)
        templates = d.templates.sum(axis=0)
        truth_scale = templates.sum() / max(whole.template_effective.sum(), 1.0)
        truth = truncated_rms(templates, templates * truth_scale, edges, fraction)
        squared = reco.value**2 - truth.value**2
        if not squared > 0:
            return float("nan"), float("nan")
        value = float(np.sqrt(squared))
        return value, reco.value * reco.error / value

    def _fit(self, dataset: str, whole: Stack, fitted: Stack, width: RowWidth) -> AsymmetryFit:
        d, edges = whole.distributions, self.simulation.binning.asymmetry_edges
        counts, templates = d.counts.sum(axis=0), d.templates.sum(axis=0)
        model = np.zeros_like(counts)
        if np.isfinite(width.variance):
            shape = width_model(fitted)
            parameters = np.array([width.variance, width.shift])[: 1 + shape.shift_design.shape[1]]
            model = expectation(fitted.distributions, shape, parameters).sum(axis=0)
        total = templates.sum()
        sigma = float(np.sqrt(width.variance)) if width.variance > 0 else float("nan")
        return AsymmetryFit(
            dataset=dataset,
            region=whole.rows[0].region,
            eta=self.eta,
            pt=self._pt(whole),
            edges=edges,
            counts=counts,
            variances=whole.variances.sum(axis=0),
            template=templates * (counts.sum() / total if total > 0 else 0.0),
            model=model,
            window=Interval(float(edges[d.first[0]]), float(edges[d.last[0]])),
            sigma=sigma,
            sigma_error=width.variance_error / (2 * sigma),
            shift=width.shift,
            chi2=width.chi2,
            ndf=width.ndf,
            status=width.status,  # type: ignore[arg-type]
        )


def _failed(status: str) -> str:
    return "not_converged" if status == "ok" else status


def _error(analytic: float, copies: FloatArray) -> float:
    spread = float(replica_spread(copies)) if len(copies) else float("nan")
    return spread if np.isfinite(spread) else analytic


def _interval(sample: Sample, eta: int | None) -> Interval:
    if eta is None:
        return Interval(*sample.binning.reference_range)
    edges = sample.binning.eta_edges
    return Interval(float(edges[eta]), float(edges[eta + 1]))


def _resolution_curve(b: _Bin, points: Sequence[Point], algo: str) -> ResolutionCurve:
    """The curve with its chi^2 against the single widths and, if there are any, the covariance of the replicas."""
    if b.curve is None:
        nothing = Interval(float("nan"), float("nan"))
        values = (float("nan"),) * 3
        return ResolutionCurve(
            SIMULATION, algo, b.eta, values, np.full((3, 3), np.nan), nothing, np.nan, 0, _bin_status(points)
        )
    pt = b.fitted_pt
    n, s, c = map(float, b.curve.squares)
    used = [p for p in points if p.quantity == "jer" and p.dataset == SIMULATION and p.is_measured]
    measured = np.array([[p.pt_mean, p.value, p.stat] for p in used]).reshape(-1, 3)
    expected = np.sqrt(np.maximum(b.curve.squared(measured[:, 0]), 0.0))
    chi2 = float(np.sum(((measured[:, 1] - expected) / measured[:, 2]) ** 2))
    n_parameters = int(np.count_nonzero(b.curve.squares))
    return ResolutionCurve(
        SIMULATION,
        algo,
        b.eta,
        (n, s, c),
        _curve_covariance(b.curve),
        Interval(float(pt.min()), float(pt.max())),
        chi2,
        max(len(used) - n_parameters, 0),
        "ok",
    )


def _curve_covariance(curve: CurveFit) -> FloatArray:
    finite = curve.replicas[np.isfinite(curve.replicas).all(axis=1)]
    return np.cov(finite.T) if len(finite) >= 10 else curve.covariance


def _bin_status(points: Sequence[Point]) -> Status:
    statuses = {p.status for p in points if p.quantity == "width"}
    for status in ("no_truth", "few_events", "empty"):
        if status in statuses:
            return status
    return "not_converged"


def _parameter_points(curve: ResolutionCurve) -> tuple[Point, ...]:
    errors = np.sqrt(np.maximum(np.diag(curve.covariance), 0.0))
    values = (curve.noise, curve.stochastic, curve.constant)
    centre = float(np.sqrt(curve.pt_range.low * curve.pt_range.high))
    names: tuple[Quantity, ...] = ("N", "S", "C")
    return tuple(
        Point(
            name,
            curve.dataset,
            curve.algo,
            "template",
            "",
            curve.eta,
            curve.pt_range,
            centre,
            value,
            float(error / (2 * abs(value))) if value else float("nan"),
            curve.status if value or curve.status != "ok" else "at_limit",
        )
        for name, value, error in zip(names, values, errors, strict=True)
    )


def _scale_factor_point(b: _Bin, points: Sequence[Point], algo: str) -> Point:
    edges = Interval(float("nan"), float("nan"))
    mean, value, error = float("nan"), float("nan"), float("nan")
    status: Status = "few_events" if b.curve is not None else _bin_status(points)
    if b.scale_factor is not None and b.data is not None:
        value, error = b.scale_factor.value, b.scale_factor.error
        edges = Interval(float(b.compared_pt.min()), float(b.compared_pt.max()))
        mean = float(np.sqrt(edges.low * edges.high))
        status = "ok" if np.isfinite(value) and np.isfinite(error) else "negative_square"
    return Point("scale_factor", RATIO, algo, "template", "", b.eta, edges, mean, value, error, status)


def _residual_point(
    algo: str, simulation: Sample, eta: int, responses: Sequence[Responses], enough: NDArray[np.bool_]
) -> Point:
    interval = _interval(simulation, eta)
    edges = simulation.binning.pt_avg_edges
    everything = Interval(float(edges[0]), float(edges[-1]))
    centre = float(np.sqrt(everything.low * everything.high))
    common: tuple[Quantity, str, str, str] = ("residual", RATIO, algo, "mean_asymmetry")
    if eta in simulation.binning.reference_bins:
        return Point(*common, "reference", interval, everything, centre, 1.0, 0.0, "ok")
    data, smeared, unsmeared = responses
    fit = fit_residual(data, smeared, unsmeared, enough)
    status: Status = "ok" if np.isfinite(fit.value) else "few_events"
    return Point(*common, "forward", interval, everything, centre, fit.value, fit.error, status)


def _response_points(
    algo: str, simulation: Sample, data: Sample, eta: int, responses: Sequence[Responses]
) -> list[Point]:
    edges = simulation.binning.pt_avg_edges
    interval = _interval(simulation, eta)
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
