"""Detector width of an asymmetry distribution: the truth asymmetry convolved with a Gaussian (ATLAS, arXiv:2007.02645).

Several distributions, one per pT bin, are fitted together. In bin b the Gaussian has the variance
v_b = offset_b + sum_k design_bk theta_k and the displacement u_b = shift_offset_b + sum_j shift_design_bj delta_j, so
the same likelihood serves a single width (design 1), a resolution curve (design 1/pT^2, 1/pT, 1) and a scale factor
(design: variance of the simulation). Only bins of A inside a window count, the expectation is normalised there, and the
number of events is conditioned upon; far tails therefore do not pull.

Weighted counts enter as effective ones: the log-likelihood of bin b is divided by (sum w^2)/(sum w).

The template is a sum of points at the centres of the bins of A. That widens it by w^2/12 (Sheppard's correction, w the
bin width), which the Gaussian makes up for: `v_b` is the variance without that defect.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from iminuit import Minuit
from numpy.typing import NDArray

from processors.compiled import compiled

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# The Gaussian is resolved down to this fraction of a bin width; narrower ones look alike.
NARROWEST = 0.2
# Beyond this many standard deviations the Gaussian is taken as zero (1e-15 of it lies there).
REACH = 8.0
TOLERANCE = 1e-3
MAX_STEPS = 60
REFIT_STEPS = 12
NO_PRIOR = np.zeros((0, 2))


class Distributions(NamedTuple):
    """Asymmetry distributions to be fitted together.

    `counts` and `templates` (n_bins, n_A) are sums of weights of the measured and of the truth asymmetry; `first`,
    `last` (n_bins,) the fitted range of A bins, `last` excluded; `scale` (n_bins,) the mean weight (sum w^2)/(sum w);
    `bin_width` of A.
    """

    counts: FloatArray
    templates: FloatArray
    first: IntArray
    last: IntArray
    scale: FloatArray
    bin_width: float


class VarianceModel(NamedTuple):
    """Linear models of the Gaussian's variance and displacement: offsets (n_bins,), designs (n_bins, n_parameters)."""

    offset: FloatArray
    design: FloatArray
    shift_offset: FloatArray
    shift_design: FloatArray
    prior: FloatArray = NO_PRIOR
    """What is known of each variance parameter beforehand: value and 1/error^2, (n_parameters, 2), or nothing."""


@dataclass(frozen=True, slots=True)
class JointFit:
    """Fitted parameters (variance ones first), their covariance, -log L and status."""

    parameters: FloatArray
    covariance: FloatArray
    nll: float
    converged: bool


@compiled
def _cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2.0))


@compiled
def _density(x: float) -> float:
    return math.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)


@compiled
def _smearing_kernel(variance: float, shift: float, width: float, n_side: int) -> tuple[FloatArray, int]:
    """Content of the bin d widths away and its derivatives in variance and shift, (3, n), and the first d.

    Bins further than `REACH` standard deviations are left out.
    """
    sigma = math.sqrt(variance)
    low = max(math.floor((shift - REACH * sigma) / width), -n_side)
    high = min(math.ceil((shift + REACH * sigma) / width), n_side)
    kernel = np.zeros((3, max(high - low + 1, 0)))
    previous = ((low - 0.5) * width - shift) / sigma
    cdf, density = _cdf(previous), _density(previous)
    for i in range(kernel.shape[1]):
        edge = ((low + i + 0.5) * width - shift) / sigma
        next_cdf, next_density = _cdf(edge), _density(edge)
        kernel[0, i] = next_cdf - cdf
        kernel[1, i] = -(edge * next_density - previous * density) / (2.0 * variance)
        kernel[2, i] = -(next_density - density) / sigma
        previous, cdf, density = edge, next_cdf, next_density
    return kernel, low


@compiled
def convolve(template: FloatArray, variance: float, shift: float, width: float, first: int, last: int) -> FloatArray:
    """Expected content of bins `first` to `last` and its derivatives in variance and shift, (3, last - first).

    `template` (n_A,) need not be normalised; `variance` is that of the Gaussian that is added to the truth asymmetry.
    """
    smallest = (NARROWEST * width) ** 2
    effective = max(variance - width * width / 12.0, smallest)
    kernel, low = _smearing_kernel(effective, shift, width, len(template))
    result = np.zeros((3, last - first))
    for source in range(len(template)):
        content = template[source]
        if content == 0.0:
            continue
        start = max(source + low, first)
        stop = min(source + low + kernel.shape[1], last)
        for row in range(3):
            for target in range(start, stop):
                result[row, target - first] += content * kernel[row, target - source - low]
    return result


@compiled
def _bin_likelihood(
    counts: FloatArray, template: FloatArray, variance: float, shift: float, width: float, first: int, last: int
) -> tuple[float, FloatArray, FloatArray]:
    """-log L, score (2,) and expected information (2, 2) of one distribution in (variance, shift)."""
    expected = convolve(template, variance, shift, width, first, last)
    norm = np.zeros(3)
    for row in range(3):
        for b in range(last - first):
            norm[row] += expected[row, b]
    nll, total = 0.0, 0.0
    score, information = np.zeros(2), np.zeros((2, 2))
    if not norm[0] > 0.0:
        return np.inf, score, information
    for b in range(last - first):
        content = counts[first + b]
        probability = max(expected[0, b] / norm[0], 1e-12)
        d_variance = expected[1, b] / norm[0] - probability * norm[1] / norm[0]
        d_shift = expected[2, b] / norm[0] - probability * norm[2] / norm[0]
        nll -= content * math.log(probability)
        score[0] += content * d_variance / probability
        score[1] += content * d_shift / probability
        information[0, 0] += d_variance * d_variance / probability
        information[0, 1] += d_variance * d_shift / probability
        information[1, 1] += d_shift * d_shift / probability
        total += content
    information[1, 0] = information[0, 1]
    return nll, score, information * max(total, 0.0)


@compiled
def _evaluate(
    data: Distributions, model: VarianceModel, parameters: FloatArray
) -> tuple[float, FloatArray, FloatArray]:
    """-log L with its score and expected information in the parameters."""
    n_variance, n_shift = model.design.shape[1], model.shift_design.shape[1]
    n = n_variance + n_shift
    nll, score, information = 0.0, np.zeros(n), np.zeros((n, n))
    jacobian = np.zeros((2, n))
    for b in range(len(data.scale)):
        variance, shift = model.offset[b], model.shift_offset[b]
        for k in range(n_variance):
            variance += model.design[b, k] * parameters[k]
            jacobian[0, k] = model.design[b, k]
        for j in range(n_shift):
            shift += model.shift_design[b, j] * parameters[n_variance + j]
            jacobian[1, n_variance + j] = model.shift_design[b, j]
        part, part_score, part_information = _bin_likelihood(
            data.counts[b], data.templates[b], variance, shift, data.bin_width, data.first[b], data.last[b]
        )
        nll += part / data.scale[b]
        for i in range(n):
            for a in range(2):
                score[i] += jacobian[a, i] * part_score[a] / data.scale[b]
                for j in range(n):
                    for c in range(2):
                        information[i, j] += jacobian[a, i] * part_information[a, c] * jacobian[c, j] / data.scale[b]
    for k in range(len(model.prior)):
        distance = parameters[k] - model.prior[k, 0]
        nll += 0.5 * model.prior[k, 1] * distance * distance
        score[k] -= model.prior[k, 1] * distance
        information[k, k] += model.prior[k, 1]
    return nll, score, information


@compiled
def _maximise(
    data: Distributions, model: VarianceModel, start: FloatArray, max_steps: int
) -> tuple[FloatArray, FloatArray, float, bool]:
    """Fisher scoring with step halving: (parameters, information, -log L, converged)."""
    parameters = start.copy()
    nll, score, information = _evaluate(data, model, parameters)
    n = len(parameters)
    for _ in range(max_steps):
        scaled = information.copy()
        for i in range(n):
            scaled[i, i] *= 1.0 + 1e-9
            if not scaled[i, i] > 0.0:
                return parameters, information, nll, False
        step = np.linalg.solve(scaled, score)
        distance = 0.0
        for i in range(n):
            distance += step[i] * score[i]
        fraction = 1.0
        accepted = False
        for _halving in range(12):
            trial = parameters + fraction * step
            trial_nll, trial_score, trial_information = _evaluate(data, model, trial)
            if trial_nll <= nll + 1e-9 * abs(nll):
                accepted = True
                break
            fraction *= 0.5
        if not accepted:
            return parameters, information, nll, distance < TOLERANCE
        parameters, nll, score, information = trial, trial_nll, trial_score, trial_information
        if distance < TOLERANCE and fraction == 1.0:
            return parameters, information, nll, True
    return parameters, information, nll, False


def fit_jointly(data: Distributions, model: VarianceModel, start: FloatArray) -> JointFit:
    """Maximum-likelihood parameters by MIGRAD with errors by HESSE (iminuit), begun where Fisher scoring ends.

    Converged is what iminuit calls a valid minimum with an accurate covariance. Where nothing can be fitted the
    parameters are nan.
    """
    rough = refit(data, model, start, MAX_STEPS)
    if not np.all(np.isfinite(rough.parameters)):
        return rough
    minuit = Minuit(
        lambda parameters: _evaluate(data, model, np.asarray(parameters))[0],
        rough.parameters,
        grad=lambda parameters: -_evaluate(data, model, np.asarray(parameters))[1],
    )
    minuit.errordef = Minuit.LIKELIHOOD
    minuit.errors = np.sqrt(np.maximum(np.diag(rough.covariance), 1e-30))
    minuit.migrad()
    minuit.hesse()
    if minuit.covariance is None or not minuit.accurate:
        return JointFit(rough.parameters, rough.covariance, rough.nll, converged=False)
    covariance = np.asarray(minuit.covariance, dtype=np.float64)
    return JointFit(np.array(minuit.values), covariance, float(minuit.fval or 0.0), converged=bool(minuit.valid))


def refit(data: Distributions, model: VarianceModel, start: FloatArray, max_steps: int = REFIT_STEPS) -> JointFit:
    """Maximum-likelihood parameters by Fisher scoring from `start`; for fits whose start is near, ten times faster.

    Converged means that the expected gain of -log L is below half of `TOLERANCE`; the covariance is the inverse of the
    expected information. Where that cannot be inverted the parameters are nan and `converged` is False.
    """
    try:
        parameters, information, nll, converged = _maximise(data, model, start, max_steps)
        covariance = np.asarray(np.linalg.inv(information), dtype=np.float64)
    except np.linalg.LinAlgError:
        empty = np.full(len(start), np.nan)
        return JointFit(empty, np.full((len(start), len(start)), np.nan), np.nan, converged=False)
    return JointFit(parameters, covariance, float(nll), bool(converged))


def quick_fit(data: Distributions, model: VarianceModel, start: FloatArray) -> JointFit:
    """`fit_jointly` without MINUIT: the same maximum by Fisher scoring, errors from the expected information."""
    return refit(data, model, start, MAX_STEPS)


@dataclass(frozen=True, slots=True)
class RowScores:
    """Derivatives of log L of each distribution in its own variance and displacement, at given values of these.

    Attributes
    ----------
    variance, shift
        Where they were taken, (n_rows,).
    information
        Expected information, (n_rows, 2, 2).
    score
        First derivatives, (n_rows, 2).
    copies
        First derivatives with the counts and templates of each bootstrap copy, (n_replicas, n_rows, 2).
    """

    variance: FloatArray
    shift: FloatArray
    information: FloatArray
    score: FloatArray
    copies: FloatArray


def row_scores(
    data: Distributions, replicas: FloatArray, template_replicas: FloatArray, variance: FloatArray, shift: FloatArray
) -> RowScores:
    """Scores of all distributions at `variance` and `shift` (n_rows,); replicas are (n_replicas, n_rows, n_A)."""
    n_rows = len(data.scale)
    information, score = np.zeros((n_rows, 2, 2)), np.zeros((n_rows, 2))
    copies = np.zeros((len(replicas), n_rows, 2))
    for b in range(n_rows):
        inside = slice(data.first[b], data.last[b])
        _, own, expected = _bin_likelihood(
            data.counts[b], data.templates[b], variance[b], shift[b], data.bin_width, data.first[b], data.last[b]
        )
        score[b], information[b] = own / data.scale[b], expected / data.scale[b]
        if len(replicas) == 0:
            continue
        sources = np.flatnonzero(data.templates[b])
        kernel = _kernel_matrix(
            sources, variance[b], shift[b], data.bin_width, data.first[b], data.last[b], len(data.templates[b])
        )
        shapes = np.tensordot(template_replicas[:, b, sources], kernel, axes=1)
        copies[:, b] = _copied_scores(replicas[:, b, inside], shapes) / data.scale[b]
    return RowScores(variance, shift, information, score, copies)


@compiled
def _kernel_matrix(
    sources: IntArray, variance: float, shift: float, width: float, first: int, last: int, n_side: int
) -> FloatArray:
    """What one event in bin `sources[i]` adds to bins `first` to `last` and its derivatives, (n_sources, 3, n)."""
    kernel, low = _smearing_kernel(max(variance - width * width / 12.0, (NARROWEST * width) ** 2), shift, width, n_side)
    result = np.zeros((len(sources), 3, last - first))
    for i in range(len(sources)):
        start = max(sources[i] + low, first)
        stop = min(sources[i] + low + kernel.shape[1], last)
        for row in range(3):
            for target in range(start, stop):
                result[i, row, target - first] = kernel[row, target - sources[i] - low]
    return result


def _copied_scores(counts: FloatArray, shapes: FloatArray) -> FloatArray:
    """Scores in (variance, shift), (n_replicas, 2), of counts (n_replicas, n) for shapes (n_replicas, 3, n)."""
    norm = shapes.sum(axis=2)
    usable = norm[:, :1] > 0
    content = np.maximum(shapes[:, 0], 1e-12 * np.where(usable, norm[:, :1], 1.0))
    relative = shapes[:, 1:] / np.where(content > 0, content, 1.0)[:, None]
    mean = norm[:, 1:] / np.where(usable, norm[:, :1], 1.0)
    scores = np.einsum("rn,rkn->rk", counts, relative) - counts.sum(axis=1)[:, None] * mean
    return np.where(usable, scores, np.nan)


def joint_information(scores: RowScores, model: VarianceModel) -> FloatArray:
    """Expected information of all rows in the parameters of `model`, (n_parameters, n_parameters)."""
    n = model.design.shape[1]
    jacobian = np.zeros((len(scores.score), 2, n + model.shift_design.shape[1]))
    jacobian[:, 0, :n], jacobian[:, 1, n:] = model.design, model.shift_design
    information = np.einsum("bik,bij,bjl->kl", jacobian, scores.information, jacobian)
    known = np.arange(len(model.prior))
    information[known, known] += model.prior[:, 1]
    return np.asarray(information)


def step_copies(
    scores: RowScores,
    model: VarianceModel,
    parameters: FloatArray,
    offsets: FloatArray,
    designs: FloatArray,
    shift_offsets: FloatArray,
    prior_values: FloatArray | None = None,
) -> FloatArray:
    """Parameters of every bootstrap copy by one Fisher step from the fit, (n_replicas, n_parameters).

    `model` and `parameters` are those of the fit, at whose variances and displacements `scores` were taken; `offsets`
    and `shift_offsets` (n_replicas, n_rows), `designs` (n_replicas, n_rows, n) and `prior_values` (n_replicas,
    n_parameters of the prior) are what each copy has in their place. To first order in the fluctuations this is what
    refitting every copy gives. nan where the information cannot be inverted.
    """
    n = model.design.shape[1]
    moved_variance = offsets + designs @ parameters[:n] - scores.variance
    moved_shift = shift_offsets + model.shift_design @ parameters[n:] - scores.shift
    moved = np.stack([moved_variance, moved_shift], axis=-1)
    change = scores.copies - scores.score - np.einsum("bij,rbj->rbi", scores.information, moved)
    gradient = np.concatenate(
        [np.einsum("rbk,rb->rk", designs, change[..., 0]), change[..., 1] @ model.shift_design], axis=1
    )
    if prior_values is not None:
        gradient[:, : len(model.prior)] += model.prior[:, 1] * (prior_values - model.prior[:, 0])
    try:
        return np.asarray(parameters + np.linalg.solve(joint_information(scores, model), gradient.T).T)
    except np.linalg.LinAlgError:
        return np.full((len(scores.copies), len(parameters)), np.nan)


def expectation(data: Distributions, model: VarianceModel, parameters: FloatArray) -> FloatArray:
    """Fitted content of every bin of A, (n_bins, n_A), normalised to the counts inside the window."""
    n_variance = model.design.shape[1]
    variance = model.offset + model.design @ parameters[:n_variance]
    shift = model.shift_offset + model.shift_design @ parameters[n_variance:]
    n_a = data.counts.shape[1]
    result = np.zeros_like(data.counts)
    for b in range(len(variance)):
        shape = convolve(data.templates[b], variance[b], shift[b], data.bin_width, 0, n_a)[0]
        inside = slice(data.first[b], data.last[b])
        norm = shape[inside].sum()
        result[b] = shape * (data.counts[b, inside].sum() / norm) if norm > 0 else 0.0
    return result
