"""From fits to points: single widths and resolutions of every bin, curves, scale factors and what is drawn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from corrections.resolution import (
    RowWidth,
    fit_width,
    median_unbiased,
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
    Check,
    Interval,
    Point,
    Quantity,
    ResolutionCurve,
    Status,
)
from corrections.template_fit import expectation
from corrections.widths import truncated_rms

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from corrections.bin_fits import BinFit
    from corrections.resolution import CurveFit
    from corrections.sample import Sample
    from corrections.settings import MeasurementSettings
    from corrections.stacks import Stack

FloatArray = NDArray[np.float64]
METHOD = "template"
# Relative uncertainty beyond which a scale factor says less than that of the neighbouring bin.
MOST_UNCERTAIN = 0.5


@dataclass(frozen=True, slots=True)
class Others:
    """Squared resolution of the jet in the reference region as functions of pT: (n,) and (n_replicas, n)."""

    squared: Callable[[FloatArray], FloatArray]
    copies: Callable[[FloatArray], FloatArray]


def describe(
    fit: BinFit, reference: BinFit, simulation: Sample, algo: str, settings: MeasurementSettings
) -> tuple[list[Point], list[AsymmetryFit], list[Check]]:
    """Single widths and distributions of one |eta| bin, simulation first."""
    others = None
    if reference.curve is not None:
        others = Others(reference.curve.squared, reference.curve.squared_copies)
    points, fits, checks = _Describer(algo, SIMULATION, fit.eta, simulation, settings, others)(fit.simulated)
    if fit.data is not None:
        factor = reference.scale_factor
        others = Others(factor.data_squared, factor.data_squared_copies) if factor is not None else None
        more = _Describer(algo, DATA, fit.eta, simulation, settings, others)(fit.data)
        points, fits, checks = points + more[0], fits + more[1], checks + more[2]
    return points, fits, checks


@dataclass(frozen=True, slots=True)
class _Describer:
    """Turns the bins of a stack into points and fitted distributions, one width at a time.

    `others` is the resolution of the reference region, None where it is not known.
    """

    algo: str
    dataset: str
    eta: Interval
    simulation: Sample
    settings: MeasurementSettings
    others: Others | None

    def __call__(self, stack: Stack) -> tuple[list[Point], list[AsymmetryFit], list[Check]]:
        points: list[Point] = []
        fits: list[AsymmetryFit] = []
        settings = self.settings
        usable = usable_rows(stack, settings.min_effective, settings.min_data, settings.min_row)
        for region, pt_bin in stack.bins():
            rows = stack.is_of(region, pt_bin)
            whole, fitted = stack.only(rows), stack.only(rows & usable)
            width = fit_width(fitted) if fitted.rows else self._unmeasured(whole)
            copies = replica_variances(fitted, width) if width.status == "ok" else np.zeros(0)
            points.extend(self._points(whole, median_unbiased(fitted, width), copies))
            if whole.distributions.counts.any():
                fits.append(self._fit(whole, fitted, width))
        combined, checks = combine(points, self.dataset)
        return points + combined, fits, checks

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

    def _points(self, whole: Stack, width: RowWidth, copies: FloatArray) -> list[Point]:
        make = self._maker(whole)
        sigma = np.sqrt(width.variance) if width.variance > 0 else np.nan
        error = _error(width.variance_error, copies)
        rms = self._truncated(whole) if width.status == "ok" else (np.nan, np.nan)
        rms_status = width.status if np.isfinite(rms[0]) else _failed(width.status)
        return [
            make("width", METHOD, float(sigma), float(error / (2 * sigma)), width.status),
            make("width", "truncated_rms", *rms, rms_status),
            self._resolution(make, whole, width, copies),
        ]

    def _resolution(self, make: Callable[..., Point], whole: Stack, width: RowWidth, copies: FloatArray) -> Point:
        """sigma(pT)/pT of the jets of this |eta| bin: the variance of A less that of the reference jet, per jet."""
        row, probes = whole.rows[0], float(whole.probes[0])
        others, others_copies, others_error = 0.0, np.zeros(1), 0.0
        if row.region == "forward":
            others, others_copies, others_error = self._others(whole.pt[:1])
        squared = (width.variance * row.inflation**2 - others) / probes
        squared_copies = (copies * row.inflation**2 - others_copies[: len(copies) or 1]) / probes
        analytic = float(np.hypot(width.variance_error * row.inflation**2, others_error)) / probes
        error = _error(analytic, squared_copies if len(copies) else copies)
        status = width.status
        if status == "ok" and not squared > 0:
            status = "negative_square" if np.isfinite(others) else "no_reference"
        jer = float(np.sqrt(squared)) if squared > 0 else float("nan")
        point = make("jer", METHOD, jer, float(error / (2 * jer)), status)
        # linear in the square, so that a copy below zero is no nan
        shifts = (squared_copies - squared) / (2 * jer) if len(copies) else copies
        return replace(point, copies=jer + shifts) if point.is_measured else point

    def _others(self, pt: FloatArray) -> tuple[float, FloatArray, float]:
        if self.others is None:
            return float("nan"), np.full(1, np.nan), float("nan")
        copies = self.others.copies(pt)[:, 0]
        spread = float(replica_spread(copies))
        return float(self.others.squared(pt)[0]), copies, spread if np.isfinite(spread) else 0.0

    def _maker(self, whole: Stack) -> Callable[..., Point]:
        row, pt = whole.rows[0], self._pt(whole)

        def make(quantity: Quantity, method: str, value: float, stat: float, status: Status) -> Point:
            return Point(
                quantity, self.dataset, self.algo, method, row.region, self.eta, pt, row.pt_mean, value, stat, status
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

    def _fit(self, whole: Stack, fitted: Stack, width: RowWidth) -> AsymmetryFit:
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
            dataset=self.dataset,
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


def combine(points: Sequence[Point], dataset: str) -> tuple[list[Point], list[Check]]:
    """Standard and forward resolutions of one |eta| bin combined in every bin of pt_avg, and how they agree.

    The mean weighs with the covariance of the bootstrap copies (of the uncertainties alone where there are none); the
    chi^2 is that of the differences, bins taken as independent. Bins with one of both only are not combined.
    """
    forward = {p.pt: p for p in points if p.quantity == "jer" and p.region == "forward" and p.is_measured}
    pairs = [
        (p, forward[p.pt])
        for p in points
        if p.quantity == "jer" and p.region == "standard" and p.is_measured and p.pt in forward
    ]
    if not pairs:
        return [], []
    covariances = [_covariance(*pair) for pair in pairs]
    combined = [_mean(*pair, covariance) for pair, covariance in zip(pairs, covariances, strict=True)]
    chi2 = sum(
        (a.value - b.value) ** 2 / max(c[0, 0] + c[1, 1] - 2 * c[0, 1], 1e-12)
        for (a, b), c in zip(pairs, covariances, strict=True)
    )
    return combined, [Check(f"standard and forward resolution, {dataset}", pairs[0][0].eta, float(chi2), len(pairs))]


def _covariance(first: Point, second: Point) -> FloatArray:
    """Covariance (2, 2) with the correlation of the copies and the quoted uncertainties, both for one common value.

    A value that came out low has a small uncertainty; weighed with it the mean would be low.
    """
    correlation = 0.0
    if len(first.copies) == len(second.copies):
        both = np.isfinite(first.copies) & np.isfinite(second.copies)
        if np.count_nonzero(both) >= 10:
            correlation = float(np.clip(np.corrcoef(first.copies[both], second.copies[both])[0, 1], -0.9, 0.9))
    relative = np.array([first.stat / first.value, second.stat / second.value])
    common = float(np.average([first.value, second.value], weights=relative**-2))
    errors = relative * common
    return np.asarray(np.outer(errors, errors) * np.array([[1.0, correlation], [correlation, 1.0]]))


def _mean(first: Point, second: Point, covariance: FloatArray) -> Point:
    weights = np.linalg.solve(covariance, np.ones(2))
    weights /= weights.sum()
    value = weights @ np.array([first.value, second.value])
    copies = weights[0] * first.copies + weights[1] * second.copies if len(first.copies) == len(second.copies) else []
    pt_mean = float(weights @ np.array([first.pt_mean, second.pt_mean]))
    error = float(np.sqrt(weights @ covariance @ weights))
    return replace(first, region="combined", value=float(value), stat=error, pt_mean=pt_mean, copies=np.asarray(copies))


def _failed(status: str) -> str:
    return "not_converged" if status == "ok" else status


def _error(analytic: float, copies: FloatArray) -> float:
    spread = float(replica_spread(copies)) if len(copies) else float("nan")
    return spread if np.isfinite(spread) else analytic


def resolution_curve(fit: BinFit, points: Sequence[Point], algo: str) -> ResolutionCurve:
    """The curve with its chi^2 against the single widths and, if there are any, the covariance of the replicas."""
    if fit.curve is None:
        nothing = Interval(float("nan"), float("nan"))
        values = (float("nan"),) * 3
        return ResolutionCurve(
            SIMULATION, algo, fit.eta, values, np.full((3, 3), np.nan), nothing, np.nan, 0, _bin_status(points)
        )
    pt = fit.fitted_pt
    n, s, c = map(float, fit.curve.squares[:3])
    power = fit.curve.power + float(fit.curve.squares[3:].sum())
    singles = [p for p in points if p.quantity == "jer" and p.dataset == SIMULATION and p.is_measured]
    used = [p for p in singles if p.region != "combined"]
    measured = np.array([[p.pt_mean, p.value, p.stat] for p in used]).reshape(-1, 3)
    expected = np.sqrt(np.maximum(fit.curve.squared(measured[:, 0]), 0.0))
    chi2 = float(np.sum(((measured[:, 1] - expected) / measured[:, 2]) ** 2))
    n_parameters = int(np.count_nonzero(fit.curve.squares))
    return ResolutionCurve(
        SIMULATION,
        algo,
        fit.eta,
        (n, s, c),
        _curve_covariance(fit.curve),
        Interval(float(pt.min()), float(pt.max())),
        chi2,
        max(len(used) - n_parameters, 0),
        "ok",
        power,
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


def parameter_points(curve: ResolutionCurve) -> tuple[Point, ...]:
    """N, S and C, and the power of pT beside S^2 where it was fitted."""
    values = {"N": curve.noise, "S": curve.stochastic, "C": curve.constant, "P": curve.power}
    centre = float(np.sqrt(curve.pt_range.low * curve.pt_range.high))

    def make(name: Quantity, value: float, error: float) -> Point:
        status = curve.status if value or curve.status != "ok" else "at_limit"
        return Point(
            name, curve.dataset, curve.algo, METHOD, "", curve.eta, curve.pt_range, centre, value, error, status
        )

    return tuple(make(name, values[name], error) for name, error in curve.errors.items())


def scale_factor_points(fit: BinFit, points: Sequence[Point], algo: str, edges: FloatArray) -> list[Point]:
    """The scale factor of one |eta| bin: one point for all pT, or one for each bin of pt_avg if it depends on pT.

    `edges` are those of pt_avg, GeV.
    """
    factor = fit.scale_factor
    if factor is None:
        nothing = Interval(float("nan"), float("nan"))
        status = "few_events" if fit.curve is not None else _bin_status(points)
        return [Point("scale_factor", RATIO, algo, METHOD, "", fit.eta, nothing, np.nan, np.nan, np.nan, status)]
    if factor.form == "constant":
        pt = Interval(float(fit.compared_pt.min()), float(fit.compared_pt.max()))
        centre = float(np.sqrt(pt.low * pt.high))
        return [_factor_point(fit, algo, pt, centre, factor.parameters[:1], factor.copies[:, :1], factor.error)]
    bins = sorted({row.pt_bin for row, used in zip(fit.simulated.rows, fit.compared, strict=True) if used})
    means = np.array([_pt_mean(fit, b) for b in bins])
    squared, copies, errors = factor.squared(means), factor.squared_copies(means), factor.squared_error(means)
    return [
        _factor_point(
            fit,
            algo,
            Interval(float(edges[b]), float(edges[b + 1])),
            float(means[i]),
            squared[i : i + 1],
            copies[:, i : i + 1],
            float(errors[i] / (2 * np.sqrt(squared[i]))) if squared[i] > 0 else float("nan"),
        )
        for i, b in enumerate(bins)
    ]


def _pt_mean(fit: BinFit, pt_bin: int) -> float:
    rows = zip(fit.simulated.rows, fit.compared, strict=True)
    return float(np.mean([row.pt_mean for row, used in rows if used and row.pt_bin == pt_bin]))


def _factor_point(
    fit: BinFit, algo: str, pt: Interval, pt_mean: float, squared: FloatArray, copies: FloatArray, error: float
) -> Point:
    value = float(np.sqrt(squared[0])) if squared[0] >= 0 else float("nan")
    shifted = value + (copies[:, 0] - squared[0]) / (2 * value)
    status = factor_status(value, error)
    return Point("scale_factor", RATIO, algo, METHOD, "", fit.eta, pt, pt_mean, value, error, status, copies=shifted)


def factor_status(value: float, error: float) -> Status:
    """Whether a scale factor is worth publishing: a number with an uncertainty below `MOST_UNCERTAIN` of it."""
    if not np.isfinite(value):
        return "negative_square"
    if not np.isfinite(error):
        return "not_converged"
    return "ok" if error <= MOST_UNCERTAIN * value else "imprecise"
