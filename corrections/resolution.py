"""Resolution of the simulation: one width per bin, and the N, S, C curve fitted to all bins of an |eta| range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from corrections.sample import effective_count
from corrections.template_fit import (
    Distributions,
    JointFit,
    VarianceModel,
    expectation,
    fit_jointly,
    row_scores,
    step_copies,
)

if TYPE_CHECKING:
    from corrections.stacks import Stack

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

PT_SCALE = 100.0


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
    """(N|N|, S^2, C^2) of one |eta| bin and the displacement of its forward rows.

    `squares` (3,), `covariance` (3, 3) from the information, `replicas` (n_replicas, 3), `shift` (2,) the terms of
    a + b (100 GeV)/pT and their bootstrap copies `shift_replicas` (n_replicas, 2).
    """

    squares: FloatArray
    covariance: FloatArray
    replicas: FloatArray
    shift: FloatArray
    shift_replicas: FloatArray
    converged: bool

    def squared(self, pt: FloatArray) -> FloatArray:
        """(sigma/pT)^2 at `pt` (GeV), (n,)."""
        return curve_basis(pt) @ self.squares

    def squared_copies(self, pt: FloatArray) -> FloatArray:
        """(sigma/pT)^2 of the bootstrap copies at `pt` (GeV), (n_replicas, n)."""
        return np.asarray(self.replicas @ curve_basis(pt).T)

    def displacement(self, pt: FloatArray) -> FloatArray:
        """Displacement of A in forward rows at `pt` (GeV), (n,)."""
        return shift_basis(pt) @ self.shift

    def displacement_copies(self, pt: FloatArray) -> FloatArray:
        """Displacement of the bootstrap copies at `pt` (GeV), (n_replicas, n)."""
        return np.asarray(self.shift_replicas @ shift_basis(pt).T)


def curve_basis(pt: FloatArray) -> FloatArray:
    """1/pT^2, 1/pT and 1 at `pt` (GeV), (n, 3)."""
    return np.stack([1 / pt**2, 1 / pt, np.ones_like(pt)], axis=-1)


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

    What is None is in every copy what it is in `model`.
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
    )


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


def fit_curve(stack: Stack, reference: CurveFit | None) -> CurveFit:
    """Resolution curve of one |eta| bin from all rows of `stack`; `reference` is needed where there are forward rows.

    S^2 and C^2 are kept at or above zero: a term that wants to be negative is left out. N|N| has either sign. With two
    bins N, with one bin N and S, cannot be told apart from the rest and are zero.
    """
    columns = _columns(stack)
    model = _curve_model(stack, reference, columns)
    fit = fit_jointly(stack.distributions, model, _curve_start(stack, model))
    while fit.converged and (dropped := _negative_column(columns, fit)) is not None:
        columns = tuple(c for c in columns if c != dropped)
        model = _curve_model(stack, reference, columns)
        fit = fit_jointly(stack.distributions, model, _curve_start(stack, model))
    squares, shift = _unpack(fit.parameters[None], columns)
    copies, shift_copies = np.zeros((0, 3)), np.zeros((0, 2))
    if fit.converged and stack.n_replicas:
        offsets = None
        if reference is not None:
            offsets = np.where(stack.is_forward, reference.squared_copies(stack.pt) * stack.inflation**-2, 0.0)
        copies, shift_copies = _unpack(fitted_copies(stack, model, fit.parameters, offsets), columns)
    return CurveFit(squares[0], _covariance(fit, columns), copies, shift[0], shift_copies, fit.converged)


def _columns(stack: Stack) -> tuple[int, ...]:
    n_pt = len({row.pt_bin for row in stack.rows})
    return (0, 1, 2)[max(3 - n_pt, 0) :]


def _basis(pt: FloatArray, columns: tuple[int, ...]) -> FloatArray:
    return curve_basis(pt / PT_SCALE)[:, list(columns)]


def _curve_model(stack: Stack, reference: CurveFit | None, columns: tuple[int, ...]) -> VarianceModel:
    forward = stack.is_forward
    narrowing = stack.inflation**-2
    design = (stack.probes * narrowing)[:, None] * _basis(stack.pt, columns)
    offset = np.zeros(len(forward))
    if reference is not None:
        offset = np.where(forward, reference.squared(stack.pt) * narrowing, 0.0)
    n_forward = len({row.pt_bin for row in stack.rows if row.region == "forward"})
    shift = (shift_basis(stack.pt) * forward[:, None])[:, : min(n_forward, 2)]
    return VarianceModel(offset, design, np.zeros(len(forward)), np.ascontiguousarray(shift))


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


def _unpack(parameters: FloatArray, columns: tuple[int, ...]) -> tuple[FloatArray, FloatArray]:
    """(N|N|, S^2, C^2) in GeV, (n, 3), and the two terms of the displacement, (n, 2), of fitted parameters (n, ...)."""
    squares, shift = np.zeros((len(parameters), 3)), np.zeros((len(parameters), 2))
    n = len(columns)
    squares[:, list(columns)] = parameters[:, :n] * _units(columns)
    shift[:, : parameters.shape[1] - n] = parameters[:, n:]
    return squares, shift


def _covariance(fit: JointFit, columns: tuple[int, ...]) -> FloatArray:
    """Covariance of (N|N|, S^2, C^2), (3, 3)."""
    covariance = np.zeros((3, 3))
    n = len(columns)
    covariance[np.ix_(columns, columns)] = fit.covariance[:n, :n] * np.outer(_units(columns), _units(columns))
    return covariance


def _units(columns: tuple[int, ...]) -> FloatArray:
    return np.array([PT_SCALE**2, PT_SCALE, 1.0])[list(columns)]


def replica_spread(values: FloatArray) -> FloatArray:
    """Standard deviation over bootstrap copies (first axis), from the central 68.3 % so that a stray copy cannot rule.

    nan where fewer than 10 copies are finite.
    """
    finite = np.isfinite(values).sum(axis=0)
    if len(values) == 0:
        return np.full(values.shape[1:], np.nan)
    with np.errstate(invalid="ignore"):
        low, high = np.nanquantile(np.where(np.isfinite(values), values, np.nan), ndtr([-1, 1]), axis=0)
    return np.asarray(np.where(finite >= 10, 0.5 * (high - low), np.nan))
