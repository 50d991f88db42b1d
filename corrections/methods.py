"""Resolution and scale factor by other ways of removing the physics imbalance, from the same events.

Each method gives the detector's variance of A in every bin; from there on all of them are treated alike: per jet in
standard pairs, less the reference jet's in forward pairs, a curve through the squares by weighted least squares, and a
scale factor whose square multiplies that curve.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from corrections.alpha_extrapolation import detector_variance, nested_widths
from corrections.bin_fits import interval_of
from corrections.bisector import Components, bisector, mpfx
from corrections.points import factor_status
from corrections.resolution import CurveFit, curve_basis, replica_spread
from corrections.results import DATA, RATIO, SIMULATION, Interval, Point, ResolutionCurve
from corrections.stacks import FORWARD, STANDARD, inflation, mean_pt, reference_inflation, reference_mean_pt
from corrections.widths import ESTIMATORS, DetectorVariance, truncated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corrections.results import Measurement, Status
    from corrections.sample import Sample
    from corrections.settings import MeasurementSettings

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

EXTRAPOLATION, BISECTOR, MPFX = "extrapolation", "bisector", "mpfx"
# Beyond this cut on alpha the width is no simple function of alpha.
LAST_ALPHA = 0.3
REGION_NAMES = ("standard", "forward")


@dataclass(frozen=True, slots=True)
class Table:
    """Detector variances of A of one sample in one |eta| bin (or the reference region), arrays (n_region, n_pt).

    `value` and `variance` are in units of A at the mean truth pT `pt` (GeV), that is, times the square of the inflation
    of pt_avg; `copies` (n_replicas, n_region, n_pt), `status` words, `effective` numbers of events.
    """

    value: FloatArray
    variance: FloatArray
    copies: FloatArray
    pt: FloatArray
    status: NDArray[np.str_]
    effective: FloatArray

    @property
    def usable(self) -> BoolArray:
        """Bins with a number, negative squares too."""
        return np.isfinite(self.value) & (self.variance > 0) & np.isfinite(self.pt)


@dataclass(frozen=True, slots=True)
class _Factor:
    """Squared scale factor with its squared error and copies; nan where there is none."""

    squared: float
    variance: float
    copies: FloatArray


_UNITY = _Factor(1.0, 0.0, np.zeros(0))


def methods_of(simulation: Sample, data: Sample | None) -> tuple[str, ...]:
    """The methods that the histograms allow beside the template one."""
    has_met = any(
        sample is not None and any(sample.balance("mpf", "reco", eta, 0).counts.any() for eta in range(_n_eta(sample)))
        for sample in (simulation, data)
    )
    if not simulation.has_truth:
        return (MPFX,) if has_met else ()
    return (EXTRAPOLATION, BISECTOR, *((MPFX,) if has_met else ()))


def with_methods(
    measurement: Measurement, simulation: Sample, data: Sample | None, settings: MeasurementSettings
) -> Measurement:
    """`measurement` with resolutions and scale factors by every other method, and the one that is asked for published.

    Where the method asked for cannot be had, the template one stays and a note says so.
    """
    points: list[Point] = []
    curves: dict[str, tuple[ResolutionCurve, ...]] = {}
    found = methods_of(simulation, data)
    for name in found:
        own, curves[name] = _measure(name, simulation, data, measurement.algo, settings)
        points += own
    whole = replace(measurement, points=(*measurement.points, *points))
    if settings.method == measurement.method:
        return whole
    if settings.method not in found:
        note = f"measurement.method {settings.method} cannot be had from these histograms; {whole.method} is published"
        return replace(whole, notes=(*whole.notes, note))
    notes = whole.notes
    if settings.scale_factor != "constant":
        told = f"measurement.scale_factor {settings.scale_factor} is for the template method"
        notes = (*notes, f"{told}; {settings.method} has one scale factor for all pT")
    return replace(whole, method=settings.method, curves=curves[settings.method], notes=notes)


def factors_by(
    name: str, simulation: Sample, data: Sample, settings: MeasurementSettings, imbalance: float = 0.0
) -> dict[Interval, float]:
    """Scale factor of `data` by one of the methods per |eta| bin, absent where there is none; for comparisons.

    `imbalance` is a relative change of the square of the physics imbalance on both sides.
    """
    tables = _Tables(name, simulation.without_replicas(), data.without_replicas(), settings, imbalance)
    reference = _fit_curve(tables.simulated(None), None)
    reference_factor = _fit_factor(tables.pair(None), reference, None, None)
    found = {}
    for eta in range(_n_eta(simulation)):
        curve = _fit_curve(tables.simulated(eta), reference)
        factor = _fit_factor(tables.pair(eta), curve, reference, reference_factor)
        if factor is not None and factor.squared > 0:
            found[interval_of(simulation, eta)] = float(np.sqrt(factor.squared))
    return found


def _measure(
    name: str, simulation: Sample, data: Sample | None, algo: str, settings: MeasurementSettings
) -> tuple[list[Point], tuple[ResolutionCurve, ...]]:
    tables = _Tables(name, simulation, data, settings, algo=algo)
    reference = _fit_curve(tables.simulated(None), None)
    reference_factor = _fit_factor(tables.pair(None), reference, None, None) if data is not None else None
    points, curves = [], []
    for eta in range(_n_eta(simulation)):
        interval, simulated = interval_of(simulation, eta), tables.simulated(eta)
        curve = _fit_curve(simulated, reference)
        maker = _Points(name, algo, interval, simulation.binning.pt_avg_edges)
        points += maker.resolutions(SIMULATION, simulated, reference, _UNITY)
        curves.append(maker.curve(simulated, curve, reference))
        if data is not None:
            measured = tables.measured(eta)
            points += maker.resolutions(DATA, measured, reference, reference_factor)
            factor = _fit_factor((measured, simulated), curve, reference, reference_factor)
            points.append(maker.factor(measured, factor))
    return points, tuple(curves)


@dataclass(frozen=True, slots=True)
class _Tables:
    """Variances of one method from the samples; data are corrected with the truth of the simulation."""

    name: str
    simulation: Sample
    data: Sample | None
    settings: MeasurementSettings
    imbalance: float = 0.0
    algo: str = ""

    def simulated(self, eta: int | None) -> Table:
        return self._table(self.simulation, eta, same_events=True)

    def measured(self, eta: int | None) -> Table:
        assert self.data is not None  # noqa: S101  asked for with data only
        return self._table(self.data, eta, same_events=False)

    def pair(self, eta: int | None) -> tuple[Table, Table]:
        return self.measured(eta), self.simulated(eta)

    def _table(self, sample: Sample, eta: int | None, *, same_events: bool) -> Table:
        find = {EXTRAPOLATION: self._extrapolated, BISECTOR: self._balanced, MPFX: self._balanced}[self.name]
        regions = (STANDARD,) if eta is None or eta in sample.binning.reference_bins else (STANDARD, FORWARD)
        found = [find(sample, eta, region, same_events) for region in regions]
        pt, ratio = _mean_pt(self.simulation, sample, eta), _inflation(self.simulation, eta)
        kept = slice(len(regions))
        scale = ratio[kept] ** 2
        value = np.array([each.value for each in found]) * scale
        n = min(len(each.replicas) for each in found)
        copies = np.stack([each.replicas[:n] for each in found], axis=1) * scale
        variance = np.array([each.variance for each in found]) * scale**2
        effective = np.array([self._effective(sample, eta, region) for region in regions])
        enough = effective >= self.settings.min_effective
        status = np.where(enough, np.array([each.status for each in found]), "few_events")
        value, variance = np.where(enough, value, np.nan), np.where(enough, variance, np.nan)
        if self.name != EXTRAPOLATION:
            copies = value + np.sqrt(variance) * self._normal(sample, eta, value.shape)
        return Table(value, variance, copies, pt[kept], status, effective)

    def _normal(self, sample: Sample, eta: int | None, shape: tuple[int, ...]) -> FloatArray:
        """Fluctuations of copies of which none were filled, (n_replicas, *shape), of unit width, always the same.

        Every event is in one bin only, so the bins are independent; the reference region fluctuates with its bins.
        """
        if eta is not None:
            name = f"{self.algo} {self.name} {sample.name} {eta}"
            return np.random.default_rng(zlib.crc32(name.encode())).normal(size=(sample.n_replicas, *shape))
        bins = sample.binning.reference_bins
        counts = np.array([self._effective(sample, each, STANDARD) for each in bins])
        total = counts.sum(axis=0)
        share = np.divide(counts, total, out=np.full(counts.shape, 1 / len(bins)), where=total > 0)
        parts = [np.sqrt(part) * self._normal(sample, each, shape) for part, each in zip(share, bins, strict=True)]
        return np.asarray(np.sum(parts, axis=0))

    def _effective(self, sample: Sample, eta: int | None, region: int) -> FloatArray:
        spectra = sample.reference_spectra()[0] if eta is None else sample.spectra(eta, region)
        return spectra.effective

    def _extrapolated(self, sample: Sample, eta: int | None, region: int, same_events: bool) -> DetectorVariance:  # noqa: FBT001
        binning = sample.binning
        edges, alpha_max = binning.asymmetry_edges, binning.alpha_edges[1:]
        n_alpha = int(np.count_nonzero(alpha_max <= LAST_ALPHA + 1e-9))
        reco = sample.alpha_spectra(eta, region, n_alpha)
        truth = self.simulation.alpha_spectra(eta, region, n_alpha, truth=True)
        name, fraction = self.settings.width, self.settings.truncation
        estimator = truncated(fraction) if name == "truncated_rms" else ESTIMATORS[name]
        found = []
        for pt_bin, low in enumerate(binning.pt_avg_edges[:-1]):
            measured, imbalance = (
                nested_widths(s.counts[pt_bin], s.variances[pt_bin], edges, estimator, s.replicas[:, pt_bin])
                for s in (reco, truth)
            )
            first = self.settings.jet_threshold / float(low)
            cuts = alpha_max[:n_alpha]
            found.append(
                detector_variance(
                    measured,
                    imbalance,
                    cuts,
                    first,
                    same_events=same_events,
                    imbalance_shift=self.imbalance,
                    shape=self.settings.alpha_shape,
                )
            )
        return _stacked(found)

    def _balanced(self, sample: Sample, eta: int | None, region: int, same_events: bool) -> DetectorVariance:  # noqa: FBT001
        edges = sample.binning.asymmetry_edges
        if self.name == MPFX:
            return mpfx(_components(sample, ("mpf", "mpfx"), "reco", eta, region), edges)
        reco = _components(sample, ("psi", "eta"), "reco", eta, region)
        truth = _components(self.simulation, ("psi", "eta"), "truth", eta, region)
        cosine = _cosine(sample, eta, region)
        return bisector(reco, truth, edges, cosine, same_events=same_events, imbalance_shift=self.imbalance)


def _n_eta(sample: Sample) -> int:
    return sample.binning.shape[0]


def _pairs(sample: Sample, eta: int | None, region: int) -> list[tuple[int, int]]:
    """|eta| bins and regions that a bin stands for; the reference region (None) is the union of its bins."""
    if eta is not None:
        return [(eta, region)]
    return [(i, r) for i in sample.binning.reference_bins for r in (STANDARD, FORWARD)]


def _components(sample: Sample, names: tuple[str, str], level: str, eta: int | None, region: int) -> Components:
    sums = []
    for name in names:
        parts = [sample.balance(name, level, *pair) for pair in _pairs(sample, eta, region)]
        sums += [np.sum([p.counts for p in parts], axis=0), np.sum([p.variances for p in parts], axis=0)]
    return Components(*sums)


def _cosine(sample: Sample, eta: int | None, region: int) -> FloatArray:
    """Mean |cos dphi|, (n_pt,); 1 where there are no events."""
    moments = sample.moments()
    pairs = _pairs(sample, eta, region)
    total = np.sum([moments["weight"][pair] for pair in pairs], axis=0)
    weighted = np.sum([moments["cos_delta_phi"][pair] for pair in pairs], axis=0)
    cosine: FloatArray = np.divide(weighted, total, out=np.ones_like(total), where=total > 0)
    return cosine


def _mean_pt(simulation: Sample, sample: Sample, eta: int | None) -> FloatArray:
    if eta is None:
        return reference_mean_pt(simulation, sample)[None]
    return np.asarray(mean_pt(simulation, sample)[eta])


def _inflation(simulation: Sample, eta: int | None) -> FloatArray:
    return np.asarray(reference_inflation(simulation)[None] if eta is None else inflation(simulation)[eta])


def _stacked(found: Sequence[DetectorVariance]) -> DetectorVariance:
    n = min(len(each.replicas) for each in found)
    return DetectorVariance(
        np.array([float(each.value) for each in found]),
        np.array([float(each.variance) for each in found]),
        np.array([str(each.status) for each in found]),
        np.stack([each.replicas[:n] for each in found], axis=1),
    )


def _probes(n_region: int) -> FloatArray:
    return np.array([[2.0], [1.0]])[:n_region]


def _others(table: Table, reference: CurveFit | None, factor: float) -> FloatArray:
    """Squared resolution of the reference jet, (n_region, n_pt); 0 in standard pairs, nan where it is not known."""
    others = np.zeros_like(table.value)
    if len(others) > 1:
        others[FORWARD] = factor * reference.squared(table.pt[FORWARD]) if reference is not None else np.nan
    return others


def _others_variance(table: Table, reference: CurveFit | None, factor: _Factor | None) -> FloatArray:
    """Variance of `_others`, (n_region, n_pt), analytic."""
    variance = np.zeros_like(table.value)
    if len(variance) > 1 and reference is not None and factor is not None:
        basis = reference.basis(table.pt[FORWARD])
        curve = np.einsum("ni,ij,nj->n", basis, reference.covariance, basis)
        variance[FORWARD] = factor.squared**2 * curve + reference.squared(table.pt[FORWARD]) ** 2 * factor.variance
    return variance


def _others_copies(table: Table, reference: CurveFit | None, factors: FloatArray | None) -> FloatArray:
    others = np.zeros_like(table.copies)
    if table.copies.shape[1] > 1 and reference is not None and len(reference.replicas):
        own = reference.squared_copies(table.pt[FORWARD])[: len(others)]
        scales = np.ones(len(own)) if factors is None else factors[: len(own)]
        others[: len(own), FORWARD] = scales[:, None] * own
    return others


def _fit_curve(table: Table, reference: CurveFit | None) -> CurveFit | None:
    """N|N|, S^2, C^2 through the squares; S^2 and C^2 that want to be negative are left out one by one."""
    target = (table.value - _others(table, reference, 1.0)) / _probes(len(table.value))
    error = np.sqrt(table.variance) / _probes(len(table.value))
    used = table.usable & np.isfinite(target)
    n_pt = len({int(i) for i in np.nonzero(used)[1]})
    columns = list((0, 1, 2)[max(3 - n_pt, 0) :]) if n_pt else []
    while columns:
        design = curve_basis(table.pt[used])[:, columns] / error[used][:, None]
        scale = np.linalg.norm(design, axis=0)
        solution = np.linalg.pinv(design / scale) / scale[:, None]
        squares = solution @ (target[used] / error[used])
        covariance = solution @ solution.T
        negative = [
            (squares[i] / np.sqrt(covariance[i, i]), c) for i, c in enumerate(columns) if c > 0 and squares[i] < 0
        ]
        if not negative or len(columns) == 1:
            return _curve_of(table, reference, columns, squares, covariance, solution / error[used])
        columns.remove(min(negative)[1])
    return None


def _curve_of(
    table: Table,
    reference: CurveFit | None,
    columns: list[int],
    squares: FloatArray,
    covariance: FloatArray,
    solution: FloatArray,
) -> CurveFit:
    used = table.usable & np.isfinite(_others(table, reference, 1.0))
    if reference is not None and used.shape[0] > 1:
        basis = np.where(used[FORWARD][:, None], reference.basis(np.where(used[FORWARD], table.pt[FORWARD], 1.0)), 0.0)
        moved = np.zeros((*used.shape, basis.shape[1]))
        moved[FORWARD] = basis
        shift = solution @ moved[used]
        covariance = covariance + shift @ reference.covariance @ shift.T
    whole, matrix = np.zeros(3), np.zeros((3, 3))
    whole[columns], matrix[np.ix_(columns, columns)] = squares, covariance
    targets = (table.copies - _others_copies(table, reference, None)) / _probes(len(table.value))
    copies = np.zeros((len(targets), 3))
    copies[:, columns] = targets[:, used] @ solution.T
    shift = np.zeros(2)
    return CurveFit(whole, matrix, copies, shift, np.zeros((len(copies), 2)), converged=True)


def _fit_factor(
    pair: tuple[Table, Table], curve: CurveFit | None, reference: CurveFit | None, reference_factor: _Factor | None
) -> _Factor | None:
    """The number that multiplies the curve, over all bins of the first table (data) together.

    The bins weigh with what an event tells in the second one (simulation): own uncertainties go with own fluctuations.
    """
    table, simulated = pair
    if curve is None:
        return None
    factor = reference_factor.squared if reference_factor is not None else np.nan
    expected = _probes(len(table.value)) * np.array([curve.squared(pt) for pt in table.pt])
    target = table.value - _others(table, reference, factor)
    used = table.usable & simulated.usable & np.isfinite(target) & (expected > 0)
    if not used.any():
        return None
    weight = table.effective[used] / (simulated.effective[used] * simulated.variance[used])
    information = float(np.sum(weight * expected[used] ** 2))
    squared = float(np.sum(weight * expected[used] * target[used])) / information
    share = np.zeros_like(table.value)
    share[used] = weight * expected[used] / information
    own = float(np.sum(share[used] ** 2 * table.variance[used]))
    variance = own + _propagated(table, share, squared, curve, reference, reference_factor)
    factors = reference_factor.copies if reference_factor is not None else None
    n = min(len(table.copies), len(curve.replicas), *([len(factors)] if factors is not None else []))
    shapes = np.stack([curve.squared_copies(pt)[:n] for pt in table.pt], axis=1) * _probes(len(table.value))
    rest = (table.copies - _others_copies(table, reference, factors))[:n]
    # to first order in the fluctuations
    moved = (rest[:, used] - squared * shapes[:, used]) - (target[used] - squared * expected[used])
    copies = squared + moved @ (weight * expected[used]) / information
    return _Factor(squared, variance, copies)


def _propagated(
    table: Table,
    share: FloatArray,
    squared: float,
    curve: CurveFit,
    reference: CurveFit | None,
    reference_factor: _Factor | None,
) -> float:
    """What curve, reference curve and reference factor add to the variance of a squared scale factor.

    `share` (n_region, n_pt) is what a change of each bin's variance of A does to it.
    """
    pt = np.where(share > 0, table.pt, 1.0)
    own = squared * np.einsum("rn,rnk->k", share * _probes(len(share)), np.array([curve.basis(each) for each in pt]))
    variance = float(own @ curve.covariance @ own)
    if len(share) > 1 and reference is not None and reference_factor is not None:
        other = reference_factor.squared * share[FORWARD] @ reference.basis(pt[FORWARD])
        scale = float(share[FORWARD] @ reference.squared(pt[FORWARD]))
        variance += float(other @ reference.covariance @ other) + scale**2 * reference_factor.variance
    return variance


@dataclass(frozen=True, slots=True)
class _Points:
    """Makes the points of one method in one |eta| bin."""

    method: str
    algo: str
    eta: Interval
    pt_edges: FloatArray

    def resolutions(
        self, dataset: str, table: Table, reference: CurveFit | None, factor: _Factor | None
    ) -> list[Point]:
        probes = _probes(len(table.value))
        squared = (table.value - _others(table, reference, factor.squared if factor is not None else np.nan)) / probes
        factors = factor.copies if factor is not None and len(factor.copies) else None
        copies = (table.copies - _others_copies(table, reference, factors)) / probes
        error = np.sqrt(table.variance + _others_variance(table, reference, factor)) / probes
        return [
            self._resolution(dataset, table, (region, b), float(squared[region, b]), copies[:, region, b], error)
            for region in range(len(squared))
            for b in range(squared.shape[1])
        ]

    def _resolution(
        self,
        dataset: str,
        table: Table,
        place: tuple[int, int],
        squared: float,
        copies: FloatArray,
        errors: FloatArray,
    ) -> Point:
        region, b = place
        status: Status = str(table.status[place])  # type: ignore[assignment]
        if status in ("ok", "negative_square"):
            status = "ok" if squared > 0 else "no_reference" if np.isnan(squared) else "negative_square"
        value = float(np.sqrt(squared)) if squared > 0 else float("nan")
        spread = float(replica_spread(copies)) if len(copies) else float("nan")
        error = spread if np.isfinite(spread) else float(errors[place])
        pt = Interval(float(self.pt_edges[b]), float(self.pt_edges[b + 1]))
        shifted = value + (copies - squared) / (2 * value)
        return Point(
            "jer",
            dataset,
            self.algo,
            self.method,
            REGION_NAMES[region],
            self.eta,
            pt,
            float(table.pt[place]),
            value,
            error / (2 * value),
            status,
            copies=shifted if status == "ok" else np.zeros(0),
        )

    def curve(self, table: Table, fit: CurveFit | None, reference: CurveFit | None) -> ResolutionCurve:
        used = table.usable
        if fit is None:
            nothing = Interval(float("nan"), float("nan"))
            none = np.full((3, 3), np.nan)
            return ResolutionCurve(
                SIMULATION, self.algo, self.eta, (np.nan, np.nan, np.nan), none, nothing, np.nan, 0, "few_events"
            )
        n, s, c = map(float, fit.squares)
        finite = fit.replicas[np.isfinite(fit.replicas).all(axis=1)]
        covariance = np.cov(finite.T) if len(finite) >= 10 else fit.covariance
        pt = Interval(float(table.pt[used].min()), float(table.pt[used].max()))
        ndf = max(int(used.sum()) - int(np.count_nonzero(fit.squares)), 0)
        return ResolutionCurve(
            SIMULATION, self.algo, self.eta, (n, s, c), covariance, pt, self._chi2(table, fit, reference), ndf, "ok"
        )

    def _chi2(self, table: Table, fit: CurveFit, reference: CurveFit | None) -> float:
        expected = _probes(len(table.value)) * np.array([fit.squared(pt) for pt in table.pt])
        pull = table.value - _others(table, reference, 1.0) - expected
        used = table.usable & np.isfinite(pull)
        return float(np.sum(pull[used] ** 2 / table.variance[used]))

    def factor(self, table: Table, fit: _Factor | None) -> Point:
        used = table.pt[table.usable]
        pt = Interval(float(used.min()), float(used.max())) if len(used) else Interval(float("nan"), float("nan"))
        centre = float(np.sqrt(pt.low * pt.high))
        common = ("scale_factor", RATIO, self.algo, self.method, "", self.eta, pt, centre)
        if fit is None:
            return Point(*common, float("nan"), float("nan"), "few_events")  # type: ignore[arg-type]
        value = float(np.sqrt(fit.squared)) if fit.squared > 0 else float("nan")
        spread = float(replica_spread(fit.copies)) if len(fit.copies) else float("nan")
        error = (spread if np.isfinite(spread) else float(np.sqrt(fit.variance))) / (2 * value)
        status = factor_status(value, error)
        shifted = value + (fit.copies - fit.squared) / (2 * value)
        return Point(*common, value, error, status, copies=shifted)  # type: ignore[arg-type]
