"""The CMS way to the resolution: widths of A against the cut on alpha, extrapolated to no third jet.

The samples alpha < alpha_max are nested, so their widths are correlated. The covariance is the sum over the events of
what one does to either width, by the estimator's influence functions. For equal weights and an RMS that amounts to
cov(V_i, V_j) = var(V_i) N_i/N_j of the squared widths, i inside j, because V_j is a mean of which V_i is the part
N_i/N_j; where weights go with alpha no such formula holds.

What is left at alpha = 0 is the detector's and, in quadrature, the particle-level imbalance (hadronisation, particles
outside the jets), which is the width of the truth asymmetry extrapolated in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from corrections.sample import effective_count
from corrections.widths import FEWEST_IN_CORE, DetectorVariance

if TYPE_CHECKING:
    from corrections.settings import AlphaShape
    from corrections.widths import Estimator

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

# Of its variance, the most that a reconstructed squared width may share with that of the truth asymmetry.
MOST_SHARED = 0.9
# Copies from which a spread is taken.
FEWEST_COPIES = 10


@dataclass(frozen=True, slots=True)
class NestedWidths:
    """Squared widths of A for events below each cut on alpha.

    Attributes
    ----------
    squares, covariance
        (n_alpha,) and (n_alpha, n_alpha); nan where a sample has no width.
    effective
        Effective number of events in each sample, (n_alpha,).
    replicas
        Squared widths of bootstrap copies, (n_replicas, n_alpha).
    """

    squares: FloatArray
    covariance: FloatArray
    effective: FloatArray
    replicas: FloatArray


@dataclass(frozen=True, slots=True)
class Line:
    """A straight line a + b x fitted with a full covariance: (a, b), their covariance, chi2, and the fit as a matrix.

    `solution` (2, n) times the ordinates gives the parameters.
    """

    parameters: FloatArray
    covariance: FloatArray
    chi2: float
    solution: FloatArray


def nested_widths(
    counts: FloatArray,
    variances: FloatArray,
    edges: FloatArray,
    estimator: Estimator,
    replicas: FloatArray | None = None,
) -> NestedWidths:
    """Widths of nested samples from exclusive bins of alpha.

    `counts` and `variances` (n_alpha, n_A), lowest alpha first, on uniform `edges` of A; `replicas` (n_replicas,
    n_alpha, n_A) are bootstrap copies of `counts`. A sample that adds no event to the one before has no width.
    """
    inside, squared = np.cumsum(counts, axis=0), np.cumsum(variances, axis=0)
    effective = np.asarray(effective_count(inside.sum(axis=1), squared.sum(axis=1)))
    has_width = np.any(counts != 0, axis=1) & (effective >= estimator.fewest)
    value = np.where(has_width, estimator.copies(inside, edges), np.nan)
    copies = np.zeros((0, len(counts)))
    if replicas is not None and len(replicas):
        copies = estimator.copies(_accumulated(replicas), edges) ** 2
    return NestedWidths(
        value**2,
        _nested_covariance(value, inside, squared, edges, estimator),
        effective,
        copies,
    )


def _accumulated(copies: FloatArray) -> FloatArray:
    """Sums over the bins of alpha up to each, (n_replicas, n_alpha, n_A); ten times faster than `numpy.cumsum`."""
    result = np.array(copies, dtype=np.float64)
    for alpha in range(1, copies.shape[1]):
        result[:, alpha] += result[:, alpha - 1]
    return result


def _nested_covariance(
    value: FloatArray, inside: FloatArray, squared: FloatArray, edges: FloatArray, estimator: Estimator
) -> FloatArray:
    """Covariance of the squares of `value`, (n_alpha, n_alpha); events of two samples are those of the smaller."""
    influence = np.full_like(inside, np.nan)
    for i in np.flatnonzero(np.isfinite(value)):
        influence[i] = 2 * value[i] * estimator.influence(inside[i], squared[i], edges)
    index = np.arange(len(value))
    common = squared[np.minimum(index[:, None], index)]
    return np.asarray(np.einsum("ib,jb,ijb->ij", influence, influence, common))


def fit_line(x: FloatArray, y: FloatArray, covariance: FloatArray) -> Line:
    """Least squares of y = a + b x with a full covariance of y; two points or more."""
    inverse = np.linalg.inv(covariance)
    design = np.stack([np.ones_like(x), x], axis=1)
    parameter_covariance = np.linalg.inv(design.T @ inverse @ design)
    solution = parameter_covariance @ design.T @ inverse
    parameters = solution @ y
    rest = y - design @ parameters
    return Line(parameters, parameter_covariance, float(rest @ inverse @ rest), solution)


def detector_variance(
    reco: NestedWidths,
    truth: NestedWidths | None,
    alpha_max: FloatArray,
    first_alpha: float,
    *,
    same_events: bool,
    imbalance_shift: float = 0.0,
    shape: AlphaShape = "quadrature",
) -> DetectorVariance:
    """Variance of A that the detector alone makes, extrapolated to alpha = 0.

    Parameters
    ----------
    truth
        Widths of the truth asymmetry in the same bins of alpha, always of simulation.
    alpha_max
        Upper edges of the bins of alpha, (n_alpha,); infinite ones take no part.
    first_alpha
        Only samples with alpha_max at or above it are used: the threshold of the third jet over pt_avg. Below, the cut
        on alpha asks for jets that are not there.
    same_events
        Whether `reco` and `truth` are the same events (simulation) or not (data).
    imbalance_shift
        The relative change s of the squared imbalance at alpha = 0, (1 + s), for its systematic uncertainty.
    shape
        "linear": either width is a straight line in alpha (CMS). A reconstructed width is the root of a constant and a
        rising part in quadrature, so this ends too low. "quadrature": the reconstructed squared width is its value at
        alpha = 0 plus a free factor times the rise of the truth asymmetry's squared width, which itself begins where a
        straight line through its widths does.
    """
    if truth is None or not np.any(truth.effective > 0):
        return _nothing("no_truth" if np.any(reco.effective > 0) else "empty", reco)
    used = _usable(reco, truth, alpha_max, first_alpha)
    if used.sum() < 2:
        return _nothing("empty" if not np.any(reco.effective > 0) else "few_events", reco)
    try:
        return _extrapolate(reco, truth, alpha_max, used, same_events, imbalance_shift, shape)
    except np.linalg.LinAlgError:
        return _nothing("not_converged", reco)


def _extrapolate(
    reco: NestedWidths,
    truth: NestedWidths,
    alpha_max: FloatArray,
    used: BoolArray,
    same_events: bool,  # noqa: FBT001
    shift: float,
    shape: AlphaShape,
) -> DetectorVariance:
    select = np.ix_(used, used)
    x = alpha_max[used]
    r, t = reco.squares[used], truth.squares[used]
    r_cov, t_cov = reco.covariance[select], truth.covariance[select]
    # of the same events, the square of truth + smearing varies with the square of truth as the latter does itself
    cross = _shared(r_cov, t_cov) if same_events else np.zeros_like(t_cov)
    truth_line = _width_line(x, t, t_cov)
    n = min(len(reco.replicas), len(truth.replicas)) if same_events else max(len(reco.replicas), len(truth.replicas))
    copies = (_copies(reco, used, n), _copies(truth, used, n))
    if shape == "linear":
        return _subtract_lines((x, r, t), (r_cov, t_cov, cross), truth_line, copies, shift)
    return _scale_truth((r, t), (r_cov, t_cov, cross), truth_line, copies, shift)


def _usable(reco: NestedWidths, truth: NestedWidths, alpha_max: FloatArray, first_alpha: float) -> BoolArray:
    enough = (reco.effective >= FEWEST_IN_CORE) & (truth.effective >= FEWEST_IN_CORE)
    finite = np.isfinite(reco.squares) & np.isfinite(truth.squares) & np.isfinite(alpha_max)
    return np.asarray(enough & finite & (alpha_max >= first_alpha * (1 - 1e-9)))


def _shared(r_cov: FloatArray, t_cov: FloatArray) -> FloatArray:
    """Part of the covariance `r_cov` that comes from truth: `t_cov`, cut where it would exceed `MOST_SHARED` of it."""
    root = np.linalg.cholesky(r_cov)
    inverse = np.linalg.inv(root)
    share, axes = np.linalg.eigh(inverse @ t_cov @ inverse.T)
    side = root @ axes
    return np.asarray((side * np.minimum(share, MOST_SHARED)) @ side.T)


def _copies(nested: NestedWidths, used: BoolArray, n: int) -> FloatArray:
    """`n` bootstrap copies of the squares, the nominal ones where there are none."""
    if len(nested.replicas) >= n:
        return nested.replicas[:n, used]
    return np.broadcast_to(nested.squares[used], (n, int(used.sum())))


def _width_line(x: FloatArray, squares: FloatArray, covariance: FloatArray) -> Line:
    """Straight line of the widths whose squares and their covariance are given."""
    width = np.sqrt(squares)
    return fit_line(x, width, covariance / (4 * width[:, None] * width))


def _signed_square(x: FloatArray) -> FloatArray:
    return x * np.abs(x)


def _subtract_lines(
    points: tuple[FloatArray, FloatArray, FloatArray],
    covariances: tuple[FloatArray, FloatArray, FloatArray],
    truth_line: Line,
    copies: tuple[FloatArray, FloatArray],
    shift: float,
) -> DetectorVariance:
    x, r, t = points
    r_cov, _, cross = covariances
    line = _width_line(x, r, r_cov)
    a, c = line.parameters[0], truth_line.parameters[0]
    value = _signed_square(a) - (1 + shift) * _signed_square(c)
    together = cross / (4 * np.sqrt(r)[:, None] * np.sqrt(t))
    a_c = line.solution[0] @ together @ truth_line.solution[0]
    slopes = np.array([2 * abs(a), -2 * (1 + shift) * abs(c)])
    joint = np.array([[line.covariance[0, 0], a_c], [a_c, truth_line.covariance[0, 0]]])
    a_copies = np.sqrt(copies[0]) @ line.solution[0]
    c_copies = np.sqrt(copies[1]) @ truth_line.solution[0]
    replicas = _signed_square(a_copies) - (1 + shift) * _signed_square(c_copies)
    return _result(float(value), float(slopes @ joint @ slopes), replicas, line.chi2, len(x) - 2)


def _scale_truth(
    points: tuple[FloatArray, FloatArray],
    covariances: tuple[FloatArray, FloatArray, FloatArray],
    truth_line: Line,
    copies: tuple[FloatArray, FloatArray],
    shift: float,
) -> DetectorVariance:
    r, t = points
    r_cov, t_cov, cross = covariances
    start = float(_signed_square(truth_line.parameters[0]))
    start_variance = 4 * abs(start) * truth_line.covariance[0, 0]
    # of reco - truth, the factor being near 1
    covariance = r_cov - cross if np.any(cross) else r_cov + t_cov
    inverse = np.linalg.inv(covariance)
    values, chi2, fit_covariance = _fit_scaled(r[None], t[None], np.array([start]), inverse)
    value, factor = values[0]
    variance = fit_covariance[0, 0] + (factor - 1) ** 2 * start_variance
    starts = _signed_square(np.sqrt(copies[1]) @ truth_line.solution[0])
    replicas = np.zeros(0)
    if len(starts):
        scaled, _, _ = _fit_scaled(copies[0], copies[1], starts, inverse)
        replicas = scaled[:, 0] - shift * starts
    return _result(float(value - shift * start), float(variance), replicas, float(chi2[0]), len(r) - 2)


def _fit_scaled(
    r: FloatArray, t: FloatArray, start: FloatArray, inverse: NDArray[np.floating[Any]]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(detector variance, factor) of r - start = detector + factor (t - start) for many copies at once.

    `r`, `t` (n_copies, n), `start` (n_copies,). Gives the parameters (n_copies, 2), chi2 (n_copies,) and the covariance
    of the first copy's parameters.
    """
    design = np.stack([np.ones_like(t), t - start[:, None]], axis=-1)
    y = r - start[:, None]
    normal = np.einsum("cni,nm,cmj->cij", design, inverse, design, optimize=True)
    score = np.einsum("cni,nm,cm->ci", design, inverse, y, optimize=True)
    # a copy without a width is nan; numpy solves it to nan
    parameters = np.linalg.solve(normal, score[..., None])[..., 0]
    rest = y - np.einsum("cni,ci->cn", design, parameters)
    chi2 = np.einsum("cn,nm,cm->c", rest, inverse, rest, optimize=True)
    return parameters, chi2, np.linalg.inv(normal[0])


def _result(value: float, variance: float, replicas: FloatArray, chi2: float, ndf: int) -> DetectorVariance:
    finite = replicas[np.isfinite(replicas)]
    if len(finite) >= FEWEST_COPIES:
        variance = float(np.var(finite, ddof=1))
    good = np.isfinite(value) and np.isfinite(variance)
    status = "negative_square" if value <= 0 else "ok"
    return DetectorVariance(
        np.array(value),
        np.array(variance),
        np.array(status if good else "not_converged"),
        replicas,
        np.array(chi2),
        np.array(ndf),
    )


def _nothing(status: str, reco: NestedWidths) -> DetectorVariance:
    return DetectorVariance(np.array(np.nan), np.array(np.nan), np.array(status), np.full(len(reco.replicas), np.nan))
