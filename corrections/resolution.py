"""Resolution of the simulation: one width per bin, and the N, S, C curve fitted to all bins of an |eta| range."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import ndtr

from corrections.results import POWERS, PT_SCALE
from corrections.sample import effective_count
from corrections.template_fit import (
    NO_PRIOR,
    Distributions,
    JointFit,
    VarianceModel,
    expectation,
    fit_jointly,
    joint_information,
    refit,
    row_scores,
    step_copies,
)

if TYPE_CHECKING:
    from corrections.settings import CurveForm
    from corrections.stacks import Stack

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

Fitter = Callable[[Distributions, VarianceModel, FloatArray], JointFit]


class Known(NamedTuple):
    """What is known of a squared quantity (GeV^2) from elsewhere."""

    value: float
    error: float

    def scaled(self, unit: float) -> tuple[float, float]:
        """Value and 1/error^2 in units of `unit`."""
        return self.value / unit, (unit / self.error) ** 2


@dataclass(frozen=True, slots=True)
class RowWidth:
    """Detector variance of A in one bin, fitted alone, with the displacement; nan and a reason where it failed."""

    variance: float
    variance_error: float
    shift: float
    shift_error: float
    chi2: float
    ndf: int
    status: str


@dataclass(frozen=True, slots=True)
class CurveFit:
    """Squared resolution N|N|/pT^2 + S^2 pT^P + C^2 of one |eta| bin and the displacement of its forward rows.

    `squares` are (N|N|, S^2, C^2) with `power` P = -1, or these and a small change of P where that was fitted;
    `covariance` (n, n) from the information, `replicas` (n_replicas, n), `shift` (2,) the terms of a + b (100 GeV)/pT
    and their bootstrap copies `shift_replicas` (n_replicas, 2).
    """

    squares: FloatArray
    covariance: FloatArray
    replicas: FloatArray
    shift: FloatArray
    shift_replicas: FloatArray
    converged: bool
    power: float = -1.0

    def basis(self, pt: FloatArray) -> FloatArray:
        """What multiplies the squares at `pt` (GeV), (len(pt), n)."""
        plain = curve_basis(pt, self.power)
        if len(self.squares) == 3:
            return plain
        return np.concatenate([plain, (self.squares[1] * np.log(pt / PT_SCALE) * plain[:, 1])[:, None]], axis=1)

    def squared(self, pt: FloatArray) -> FloatArray:
        """(sigma/pT)^2 at `pt` (GeV), (n,)."""
        return self.basis(pt) @ self.squares

    def squared_copies(self, pt: FloatArray) -> FloatArray:
        """(sigma/pT)^2 of the bootstrap copies at `pt` (GeV), (n_replicas, n)."""
        return np.asarray(self.replicas @ self.basis(pt).T)

    def displacement(self, pt: FloatArray) -> FloatArray:
        """Displacement of A in forward rows at `pt` (GeV), (n,)."""
        return shift_basis(pt) @ self.shift

    def displacement_copies(self, pt: FloatArray) -> FloatArray:
        """Displacement of the bootstrap copies at `pt` (GeV), (n_replicas, n)."""
        return np.asarray(self.shift_replicas @ shift_basis(pt).T)


def curve_basis(pt: FloatArray, power: float = -1.0) -> FloatArray:
    """1/pT^2, pT^power and 1 at `pt` (GeV), (n, 3)."""
    return np.stack([1 / pt**2, pt**power, np.ones_like(pt)], axis=-1)


def shift_basis(pt: FloatArray) -> FloatArray:
    """1 and 100 GeV/pT, (n, 2)."""
    return np.stack([np.ones_like(pt), PT_SCALE / pt], axis=-1)


def usable_rows(stack: Stack, min_effective: float, min_row: float, min_template: float) -> BoolArray:
    """Rows that may be fitted, (n_rows,).

    A row needs `min_row` effective events, `min_template` in its template and a window; its region and bin of pt_avg
    needs `min_effective` over all groups of alpha.
    """
    d = stack.distributions
    effective = effective_count(d.counts.sum(axis=1), stack.variances.sum(axis=1))
    wide = d.last - d.first > 3
    alone: BoolArray = (effective >= min_row) & (stack.template_effective >= min_template) & wide
    together = np.zeros(len(alone), np.bool_)
    for region, pt_bin in stack.bins():
        rows = stack.is_of(region, pt_bin)
        total = float(effective_count(d.counts[rows].sum(), stack.variances[rows].sum()))
        together |= rows & (total >= min_effective)
    usable: BoolArray = alone & together & np.isfinite(stack.pt)
    return usable


def fit_width(one: Stack) -> RowWidth:
    """Detector variance common to the rows of one region and bin of pt_avg.

    The displacement floats where the region is forward; standard ones are symmetric.
    """
    model = width_model(one)
    start = float(np.mean(start_variance(one.distributions)))
    fit = fit_jointly(one.distributions, model, np.array([start, *np.zeros(model.shift_design.shape[1])]))
    if not fit.converged:
        return RowWidth(np.nan, np.nan, np.nan, np.nan, np.nan, 0, "not_converged")
    chi2, ndf = goodness(one, model, fit.parameters)
    has_shift = len(fit.parameters) > 1
    return RowWidth(
        float(fit.parameters[0]),
        float(np.sqrt(fit.covariance[0, 0])),
        float(fit.parameters[1]) if has_shift else 0.0,
        float(np.sqrt(fit.covariance[1, 1])) if has_shift else 0.0,
        chi2,
        ndf,
        "ok" if fit.parameters[0] > 0 else "at_limit",
    )


def median_unbiased(one: Stack, width: RowWidth) -> RowWidth:
    """`width` so that it is as often too large as too small.

    The variance s^2 of n events around a known mean is distributed as chi^2_n, whose median is n - 2/3; around a fitted
    mean it is n - 5/3. What is fitted is s^2 less the imbalance, hence low by s^2 (2/3 or 5/3)/n, with 2 s^4/n the
    squared error.
    """
    if width.status != "ok":
        return width
    d = one.distributions
    weights = d.counts.sum(axis=1)
    imbalance = [_variance(d.templates[b, d.first[b] : d.last[b]], d.bin_width) for b in range(len(weights))]
    total = width.variance + float(np.average(imbalance, weights=weights))
    lacking = (5 / 3 if one.is_forward[0] else 2 / 3) * width.variance_error**2 / (2 * total)
    return replace(width, variance=width.variance + lacking)


def width_model(one: Stack) -> VarianceModel:
    """One free variance for all rows, and one free displacement if they are forward ones."""
    n = len(one.rows)
    shift = np.ones((n, 1)) if one.is_forward[0] else np.zeros((n, 0))
    return VarianceModel(np.zeros(n), np.ones((n, 1)), np.zeros(n), shift)


def replica_variances(one: Stack, width: RowWidth) -> FloatArray:
    """The variance of `fit_width` in every bootstrap copy, (n_replicas,)."""
    model = width_model(one)
    parameters = np.array([width.variance, width.shift])[: 1 + model.shift_design.shape[1]]
    return fitted_copies(one, model, parameters)[:, 0]


def fitted_copies(
    stack: Stack,
    model: VarianceModel,
    parameters: FloatArray,
    offsets: FloatArray | None = None,
    designs: FloatArray | None = None,
    shift_offsets: FloatArray | None = None,
) -> FloatArray:
    """Parameters of every bootstrap copy of `stack`, (n_replicas, n_parameters); see `template_fit.step_copies`.

    What is None is in every copy what it is in `model`. What is known beforehand fluctuates by its own uncertainty.
    """
    n = model.design.shape[1]
    scores = row_scores(
        stack.distributions,
        stack.replicas,
        stack.template_replicas,
        model.offset + model.design @ parameters[:n],
        model.shift_offset + model.shift_design @ parameters[n:],
    )
    return step_copies(
        scores,
        model,
        parameters,
        _for_each_copy(stack, model.offset) if offsets is None else offsets,
        _for_each_copy(stack, model.design) if designs is None else designs,
        _for_each_copy(stack, model.shift_offset) if shift_offsets is None else shift_offsets,
        _prior_copies(model.prior, stack.n_replicas),
    )


def _prior_copies(prior: FloatArray, n: int) -> FloatArray | None:
    """What is known beforehand in `n` copies, (n, n_parameters): the same copies for the same knowledge."""
    if len(prior) == 0:
        return None
    known = prior[:, 1] > 0
    error = np.where(known, 1 / np.sqrt(np.where(known, prior[:, 1], 1.0)), 0.0)
    rng = np.random.default_rng(np.frombuffer(np.ascontiguousarray(prior).tobytes(), np.uint32))
    return np.asarray(prior[:, 0] + error * rng.normal(size=(n, len(prior))))


def fitted_covariance(stack: Stack, model: VarianceModel, parameters: FloatArray) -> FloatArray:
    """Covariance of the parameters from the expected information; nan where that cannot be inverted."""
    n = model.design.shape[1]
    scores = row_scores(
        stack.distributions,
        stack.replicas[:0],
        stack.template_replicas[:0],
        model.offset + model.design @ parameters[:n],
        model.shift_offset + model.shift_design @ parameters[n:],
    )
    try:
        return np.asarray(np.linalg.inv(joint_information(scores, model)))
    except np.linalg.LinAlgError:
        return np.full((len(parameters), len(parameters)), np.nan)


def _for_each_copy(stack: Stack, values: FloatArray) -> FloatArray:
    return np.broadcast_to(values, (stack.n_replicas, *values.shape))


def start_variance(data: Distributions) -> FloatArray:
    """Rough detector variances: those of the counts less those of the templates inside the windows, kept positive."""
    start = np.empty(len(data.scale))
    for b in range(len(start)):
        inside = slice(data.first[b], data.last[b])
        reco = _variance(data.counts[b, inside], data.bin_width)
        start[b] = max(reco - _variance(data.templates[b, inside], data.bin_width), 0.3 * reco, 1e-6)
    return start


def _variance(counts: FloatArray, width: float) -> float:
    total = counts.sum()
    if total <= 0:
        return 0.0
    position = width * np.arange(len(counts))
    mean = np.sum(counts * position) / total
    return float(max(np.sum(counts * (position - mean) ** 2) / total, 0.0))


def goodness(one: Stack, model: VarianceModel, parameters: FloatArray) -> tuple[float, int]:
    """chi^2 with its degrees of freedom, over bins of the windows that expect at least 5 effective events."""
    d = one.distributions
    expected = expectation(d, model, parameters)
    chi2, n_used = 0.0, 0
    for row in range(len(one.rows)):
        inside = slice(d.first[row], d.last[row])
        used = expected[row, inside] / d.scale[row] >= 5
        difference = (d.counts[row, inside] - expected[row, inside])[used]
        chi2 += float(np.sum(difference**2 / (expected[row, inside][used] * d.scale[row])))
        n_used += max(int(used.sum()) - 1, 0)
    return chi2, max(n_used - len(parameters), 0)


def fit_curve(
    stack: Stack,
    reference: CurveFit | None,
    form: CurveForm = "nsc",
    fitter: Fitter = fit_jointly,
    noise: Known | None = None,
) -> CurveFit:
    """Resolution curve of one |eta| bin from all rows of `stack`; `reference` is needed where there are forward rows.

    S^2 and C^2 are kept at or above zero: a term that wants to be negative is left out; its uncertainty, and what it
    adds to that of the others, is quoted all the same. N|N| has either sign. With two bins N, with one bin N and S,
    cannot be told apart from the rest and are zero. With the form "nspc" the power of pT beside S^2 is fitted too,
    within `POWERS`, where there are five bins or more and S^2 is not left out. `noise` is what is known of N|N| (GeV^2)
    beforehand; it enters the likelihood, and N is then told apart in any number of bins.
    """
    terms, fit = _fit_terms(stack, reference, _Terms(_columns(stack, noise), noise=noise), fitter)
    if form == "nspc" and fit.converged and len(_bins(stack)) >= 5 and 1 in terms.columns:
        terms, fit = _fit_power(stack, reference, terms, fitter)
    squares, shift = terms.unpack(fit.parameters[None])
    if not fit.converged:
        covariance = terms.unpack_covariance(fit.covariance)
        return CurveFit(squares[0], covariance, squares[:0], shift[0], shift[:0], converged=False, power=terms.power)
    free, parameters = terms.with_all(_columns(stack, noise), fit.parameters)
    model = _curve_model(stack, reference, free)
    offsets = None
    if reference is not None and stack.n_replicas:
        offsets = np.where(stack.is_forward, reference.squared_copies(stack.pt) * stack.inflation**-2, 0.0)
    copies, shift_copies = free.unpack(fitted_copies(stack, model, parameters, offsets))
    covariance = free.unpack_covariance(fitted_covariance(stack, model, parameters))
    return CurveFit(squares[0], covariance, copies, shift[0], shift_copies, converged=True, power=terms.power)


@dataclass(frozen=True, slots=True)
class _Terms:
    """Which of (N|N|, S^2, C^2) are fitted, with pT in units of `PT_SCALE`, and whether the power moves with S^2.

    `stochastic` is the fitted S^2 in those units around which the power is varied; 0 where it is not. `noise` is what
    is known of N|N| beforehand, GeV^2.
    """

    columns: tuple[int, ...]
    power: float = -1.0
    stochastic: float = 0.0
    noise: Known | None = None

    @property
    def n(self) -> int:
        """Number of parameters."""
        return len(self.columns) + (self.stochastic != 0)

    def design(self, pt: FloatArray) -> FloatArray:
        """What multiplies the parameters, (n_rows, n)."""
        scaled = pt / PT_SCALE
        basis = curve_basis(scaled, self.power)
        chosen = basis[:, list(self.columns)]
        if not self.stochastic:
            return chosen
        return np.concatenate([chosen, (self.stochastic * np.log(scaled) * basis[:, 1])[:, None]], axis=1)

    def prior(self) -> FloatArray:
        """What is known of the parameters beforehand, see `VarianceModel.prior`."""
        if self.noise is None or 0 not in self.columns:
            return NO_PRIOR
        prior = np.zeros((self.n, 2))
        prior[self.columns.index(0)] = self.noise.scaled(PT_SCALE**2)
        return prior

    def unpack(self, parameters: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Squares in GeV (with the change of power last) and terms of the displacement, of parameters (n, ...)."""
        squares, shift = np.zeros((len(parameters), 3)), np.zeros((len(parameters), 2))
        squares[:, list(self.columns)] = parameters[:, : len(self.columns)]
        if self.stochastic:
            squares = np.concatenate([squares, parameters[:, len(self.columns) : self.n]], axis=1)
        shift[:, : parameters.shape[1] - self.n] = parameters[:, self.n :]
        return squares * self._units(), shift

    def with_all(self, columns: tuple[int, ...], parameters: FloatArray) -> tuple[_Terms, FloatArray]:
        """The same with all of `columns`, and the parameters with 0 for those that were left out."""
        squares = dict(zip(self.columns, parameters, strict=False))
        rest = parameters[len(self.columns) :]
        return replace(self, columns=columns), np.array([*(squares.get(c, 0.0) for c in columns), *rest])

    def unpack_covariance(self, fitted: FloatArray) -> FloatArray:
        """Covariance of the squares from that of the parameters."""
        places = [*self.columns, 3][: self.n]
        units = self._units()
        covariance = np.zeros((len(units), len(units)))
        covariance[np.ix_(places, places)] = fitted[: self.n, : self.n]
        return covariance * np.outer(units, units)

    def _units(self) -> FloatArray:
        units = [PT_SCALE**2, PT_SCALE**-self.power, 1.0]
        return np.array([*units, 1.0] if self.stochastic else units)


def _fit_terms(stack: Stack, reference: CurveFit | None, terms: _Terms, fitter: Fitter) -> tuple[_Terms, JointFit]:
    """Fit at a given power; S^2 and C^2 that want to be negative are dropped one by one."""
    model = _curve_model(stack, reference, terms)
    fit = fitter(stack.distributions, model, _curve_start(stack, model))
    while fit.converged and (dropped := _negative_column(terms.columns, fit)) is not None:
        terms = replace(terms, columns=tuple(c for c in terms.columns if c != dropped))
        model = _curve_model(stack, reference, terms)
        fit = fitter(stack.distributions, model, _curve_start(stack, model))
    return terms, fit


def _fit_power(stack: Stack, reference: CurveFit | None, terms: _Terms, fitter: Fitter) -> tuple[_Terms, JointFit]:
    """The best power, then all terms together with a change of the power around it; as it was where that fails."""
    plain = _fit_terms(stack, reference, terms, fitter)

    def likelihood(power: float) -> float:
        model = _curve_model(stack, reference, replace(terms, power=power))
        fit = refit(stack.distributions, model, _curve_start(stack, model))
        return fit.nll if fit.converged else np.inf

    power = float(minimize_scalar(likelihood, bounds=POWERS, method="bounded", options={"xatol": 0.01}).x)
    best, fit = _fit_terms(stack, reference, replace(terms, power=power), fitter)
    if not fit.converged or best.columns != terms.columns or not POWERS[0] + 0.02 < power < POWERS[1] - 0.02:
        return plain
    around = replace(best, stochastic=float(fit.parameters[best.columns.index(1)]))
    model = _curve_model(stack, reference, around)
    n = len(best.columns)
    start = np.concatenate([fit.parameters[:n], [0.0], fit.parameters[n:]])
    whole = fitter(stack.distributions, model, start)
    return (around, whole) if whole.converged else plain


def _bins(stack: Stack) -> set[int]:
    return {row.pt_bin for row in stack.rows}


def _columns(stack: Stack, noise: Known | None) -> tuple[int, ...]:
    if noise is None:
        return (0, 1, 2)[max(3 - len(_bins(stack)), 0) :]
    return (0, *(1, 2)[max(2 - len(_bins(stack)), 0) :])


def _curve_model(stack: Stack, reference: CurveFit | None, terms: _Terms) -> VarianceModel:
    forward = stack.is_forward
    narrowing = stack.inflation**-2
    design = (stack.probes * narrowing)[:, None] * terms.design(stack.pt)
    offset = np.zeros(len(forward))
    if reference is not None:
        offset = np.where(forward, reference.squared(stack.pt) * narrowing, 0.0)
    n_forward = len({row.pt_bin for row in stack.rows if row.region == "forward"})
    shift = (shift_basis(stack.pt) * forward[:, None])[:, : min(n_forward, 2)]
    return VarianceModel(offset, design, np.zeros(len(forward)), np.ascontiguousarray(shift), terms.prior())


def _curve_start(stack: Stack, model: VarianceModel) -> FloatArray:
    """Weighted least squares on the rough variances, positive by taking only a constant if need be."""
    target = start_variance(stack.distributions) - model.offset
    design = model.design / np.maximum(np.abs(target), 1e-4)[:, None]
    parameters = np.linalg.lstsq(design, target / np.maximum(np.abs(target), 1e-4), rcond=None)[0]
    if np.any(model.offset + model.design @ parameters <= 0):
        floor = np.maximum(target, 1e-4)
        parameters = np.linalg.lstsq(model.design / floor[:, None], np.ones_like(floor), rcond=None)[0]
    return np.concatenate([parameters, np.zeros(model.shift_design.shape[1])])


def _negative_column(columns: tuple[int, ...], fit: JointFit) -> int | None:
    """The S^2 or C^2 column that came out most negative in units of its error, if any."""
    errors = np.sqrt(np.diag(fit.covariance))
    candidates = [(fit.parameters[i] / errors[i], c) for i, c in enumerate(columns) if c > 0 and fit.parameters[i] < 0]
    return min(candidates)[1] if candidates and len(columns) > 1 else None


def replica_spread(values: FloatArray) -> FloatArray:
    """Standard deviation over bootstrap copies (first axis), from the central 68.3 % so that a stray copy cannot rule.

    nan where fewer than 10 copies are finite.
    """
    finite = np.isfinite(values).sum(axis=0)
    if len(values) == 0:
        return np.full(values.shape[1:], np.nan)
    enough = finite >= 10
    known = np.where(np.isfinite(values), values, np.nan)
    low, high = np.nanquantile(np.where(enough, known, 0.0), ndtr([-1, 1]), axis=0)
    return np.asarray(np.where(enough, 0.5 * (high - low), np.nan))
