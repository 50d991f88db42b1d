"""Relative response in |eta| from all pairs of jets (the matrix method of eta intercalibration, ATLAS at 7 TeV).

A pair with jets in the |eta| bins i and j has the mean asymmetry <A> and measures the ratio of their responses,
log r_i - log r_j = log[(2 + <A>)/(2 - <A>)]. All pairs of one bin of pt_avg together, by weighted least squares, give
log r of every |eta| bin, with the mean over the reference bins put to zero. Against the central-reference method it
uses the pairs in which neither jet is central, and joins bins that no pair joins directly.

With bins of alpha, r and its change with alpha are solved for together, log r_i + s_i alpha: the response at alpha = 0.
The bins of alpha are exclusive, hence independent.

The residual is the response in simulation over that in data, smoothed in pT.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from corrections.sample import effective_count

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
StatusArray = NDArray[np.str_]

# The spread of A of a pair of bins is a mean of its own and of what its two bins have elsewhere, which counts as much
# as this number of events: a spread from ten events would make the weights, and then the errors, wrong.
PRIOR_EVENTS = 30.0
# A slope in log pT is kept where it lowers chi2 by at least this much: two standard deviations.
IMPROVEMENT = 4.0


@dataclass(frozen=True, slots=True)
class Pairs:
    """Sums over pairs with the probe in |eta| bin i and the other jet in j <= i.

    Each is (n_eta, n_eta, n_pt) or, with exclusive bins of alpha, (n_eta, n_eta, n_pt, n_alpha): sums of w, w^2, w A
    and w A^2 with A = (probe - other)/pt_avg. Where i = j they only tell how wide A is.
    """

    weight: FloatArray
    weight_squared: FloatArray
    asymmetry: FloatArray
    asymmetry_squared: FloatArray


@dataclass(frozen=True, slots=True)
class RelativeResponse:
    """log of the response relative to the reference bins.

    Attributes
    ----------
    log_response
        (n_eta, n_pt); nan unless the status is "ok".
    covariance
        Between |eta| bins, (n_pt, n_eta, n_eta); nan as `log_response`.
    chi2, ndf
        Per bin of pt_avg, (n_pt,); nan and 0 where nothing was solved.
    status
        (n_eta, n_pt): "ok", "empty" (no pairs), "few_events" (none with enough), "no_reference" (no chain of pairs
        leads to the reference bins) or "not_converged" (alpha cannot be extrapolated).
    """

    log_response: FloatArray
    covariance: FloatArray
    chi2: FloatArray
    ndf: NDArray[np.int64]
    status: StatusArray


@dataclass(frozen=True, slots=True)
class SmoothResidual:
    """log(residual) = a + b log(pT/pivot) per |eta| bin.

    Attributes
    ----------
    parameters, covariance
        (n_eta, 2) and (n_eta, 2, n_eta, 2), between |eta| bins as well; b and its covariance are 0 where the residual
        is constant.
    pivot
        (n_eta,), GeV.
    chi2, ndf
        (n_eta,).
    is_constant
        Which residuals have no slope, (n_eta,).
    used
        Which bins of pT took part, (n_eta, n_pt).
    status
        (n_eta,): "ok", or why the residual of the bin is nan.
    """

    parameters: FloatArray
    covariance: FloatArray
    pivot: FloatArray
    chi2: FloatArray
    ndf: NDArray[np.int64]
    is_constant: BoolArray
    used: BoolArray
    status: StatusArray

    def __call__(self, pt: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Correction factor for data and its error at `pt` (n,) in GeV, (n_eta, n) each."""
        basis = np.stack([np.ones((len(self.pivot), len(pt))), np.log(pt / self.pivot[:, None])], axis=-1)
        own = np.einsum("eaeb->eab", self.covariance)
        value = np.exp(np.einsum("epa,ea->ep", basis, self.parameters))
        return value, value * np.sqrt(np.einsum("epa,eab,epb->ep", basis, own, basis))

    def copies(self, pt: FloatArray, n: int, name: str) -> FloatArray:
        """The factor at `pt` (n_pt,) in GeV in `n` copies drawn from the covariance, (n, n_eta, n_pt).

        The same `name` always gives the same copies.
        """
        size = self.parameters.size
        spread, axes = np.linalg.eigh(np.nan_to_num(self.covariance.reshape(size, size)))
        normal = np.random.default_rng(zlib.crc32(name.encode())).normal(size=(n, size))
        drawn = normal * np.sqrt(np.maximum(spread, 0.0)) @ axes.T
        parameters = self.parameters + drawn.reshape(n, *self.parameters.shape)
        basis = np.stack([np.ones((len(self.pivot), len(pt))), np.log(pt / self.pivot[:, None])], axis=-1)
        return np.asarray(np.exp(np.einsum("epa,nea->nep", basis, parameters)))


def relative_response(
    pairs: Pairs,
    reference: tuple[int, ...],
    reference_weights: FloatArray | None = None,
    alpha: FloatArray | None = None,
    min_effective: float = 10.0,
) -> RelativeResponse:
    """Responses of all |eta| bins relative to the weighted mean (of the logarithm) over the bins `reference`.

    `reference_weights` (len(reference),) default to equal ones; give data and simulation the same. `alpha` (n_alpha,)
    are the mean values of alpha of the bins of the last axis; without it that axis must not be there. Entries with
    fewer than `min_effective` effective events are left out.
    """
    grid = pairs if alpha is not None else Pairs(*(field[..., None] for field in _fields(pairs)))
    positions = np.zeros(1) if alpha is None else alpha
    ordinate, weight = _log_ratios(grid, min_effective)
    joined = _joined(np.any(weight > 0, axis=3), reference)
    share = np.zeros((joined.shape[1], len(joined)))
    equal = np.ones(len(reference)) if reference_weights is None else reference_weights
    share[:, list(reference)] = equal * joined[list(reference)].T
    total = share.sum(axis=1, keepdims=True)
    share = share / np.where(total > 0, total, 1.0)
    inside = joined[:, None, :, None] & joined[None, :, :, None]
    solved = _solve(np.where(inside, weight, 0.0), ordinate, positions, share, joined)
    log_response, covariance, chi2, ndf, good = solved
    status = np.select(
        [~_in_pairs(grid.weight != 0), ~_in_pairs(weight > 0), ~joined, ~good[None, :]],
        ["empty", "few_events", "no_reference", "not_converged"],
        "ok",
    )
    usable = status == "ok"
    both = usable.T[:, :, None] & usable.T[:, None, :]
    return RelativeResponse(
        np.where(usable, log_response.T, np.nan),
        np.where(both, covariance, np.nan),
        np.where(usable.any(axis=0), chi2, np.nan),
        np.where(usable.any(axis=0), ndf, 0),
        status,
    )


def smooth_residual(
    data: RelativeResponse, simulation: RelativeResponse, pt: FloatArray, improvement: float = IMPROVEMENT
) -> SmoothResidual:
    """Response in simulation over response in data per |eta| bin, constant or a power of pT.

    `pt` (n_pt,) are the mean pT of the bins in GeV. The slope is kept where it lowers chi2, in units of what is left
    per degree of freedom if that is above 1, by at least `improvement` (an F test).
    """
    log_ratio = simulation.log_response - data.log_response
    covariance = simulation.covariance + data.covariance
    n_eta = len(log_ratio)
    solution = np.zeros((n_eta, 2, len(pt)))
    pivot, chi2 = np.full(n_eta, np.nan), np.full(n_eta, np.nan)
    ndf, constant = np.zeros(n_eta, dtype=np.int64), np.ones(n_eta, dtype=np.bool_)
    status = np.full(n_eta, "ok", dtype="<U13")
    taken = np.zeros(log_ratio.shape, dtype=np.bool_)
    for eta in range(n_eta):
        variance = covariance[:, eta, eta]
        used = np.isfinite(log_ratio[eta]) & (variance > 0) & np.isfinite(pt)
        taken[eta] = used
        if not used.any():
            status[eta] = _worst(data.status[eta], simulation.status[eta])
            continue
        weight = np.where(used, 1 / np.where(used, variance, 1.0), 0.0)
        logs = np.log(np.where(used, pt, 1.0))
        middle = float(weight @ logs / weight.sum())
        pivot[eta] = np.exp(middle)
        solution[eta], chi2[eta], ndf[eta], constant[eta] = _smooth(
            np.where(used, log_ratio[eta], 0.0), weight, np.where(used, logs - middle, 0.0), improvement
        )
    parameters = np.einsum("eap,ep->ea", solution, np.nan_to_num(log_ratio))
    joint = np.einsum("eap,pef,fbp->eafb", solution, np.nan_to_num(covariance), solution, optimize=True)
    parameters[status != "ok"] = np.nan
    joint[status != "ok"] = np.nan
    joint[:, :, status != "ok"] = np.nan
    return SmoothResidual(parameters, joint, pivot, chi2, ndf, constant, taken, status)


def _fields(pairs: Pairs) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    return pairs.weight, pairs.weight_squared, pairs.asymmetry, pairs.asymmetry_squared


def _log_ratios(pairs: Pairs, min_effective: float) -> tuple[FloatArray, FloatArray]:
    """Log of the response of i over that of j and its inverse squared error, (n_eta, n_eta, n_pt, n_alpha) each.

    Zeros unless i > j and there are enough events.
    """
    effective = effective_count(pairs.weight, pairs.weight_squared)
    total = np.where(effective > 0, pairs.weight, 1.0)
    mean = np.where(effective > 0, pairs.asymmetry / total, 0.0)
    spread = _pooled(np.where(effective > 1, pairs.asymmetry_squared / total - mean**2, 0.0), effective)
    lower = np.tri(len(mean), k=-1, dtype=np.bool_)[:, :, None, None]
    used = lower & (effective >= min_effective) & (spread > 0) & (np.abs(mean) < 2)
    mean = np.where(used, mean, 0.0)
    # d log R / d<A> = 4/(4 - <A>^2)
    error = 4 / (4 - mean**2) * np.sqrt(np.where(used, spread, 1.0) / np.where(used, effective, 1.0))
    return np.log((2 + mean) / (2 - mean)), np.where(used, 1 / error**2, 0.0)


def _pooled(spread: FloatArray, effective: FloatArray) -> FloatArray:
    """Variances of A, each drawn to the sum u_i + u_j of its two bins by as much as `PRIOR_EVENTS` weigh.

    The parts u are fitted to all pairs of one bin of pt_avg and alpha together; a pair with i = j has 2 u_i.
    """
    n_eta = len(spread)
    known = np.where(effective > 1, effective, 0.0)
    unbiased = spread * np.where(known > 0, known / np.where(known > 0, known - 1, 1.0), 0.0)
    matrix = np.moveaxis(known, (0, 1), (2, 3))
    matrix = matrix + np.swapaxes(matrix, 2, 3)
    values = np.moveaxis(known * unbiased, (0, 1), (2, 3))
    values = values + np.swapaxes(values, 2, 3)
    index = np.arange(n_eta)
    normal = matrix.copy()
    normal[..., index, index] += matrix.sum(axis=-1)
    # bins without pairs get a part of nought; two bins that only pair with each other share theirs evenly
    size = np.maximum(normal[..., index, index], 1.0)
    normal[..., index, index] += 1e-6 * size
    parts = np.linalg.solve(normal, values.sum(axis=-1)[..., None])[..., 0]
    model = np.moveaxis(parts[..., :, None] + parts[..., None, :], (2, 3), (0, 1))
    prior = np.where(model > 0, PRIOR_EVENTS, 0.0)
    weight = known + prior
    return np.where(weight > 0, (known * unbiased + prior * model) / np.where(weight > 0, weight, 1.0), 0.0)


def _in_pairs(present: BoolArray) -> BoolArray:
    """Which |eta| bins have a pair with another one, (n_eta, n_pt), of pairs (n_eta, n_eta, n_pt, n_alpha)."""
    others = present & ~np.eye(len(present), dtype=np.bool_)[:, :, None, None]
    return np.asarray(np.any(others, axis=(1, 3)) | np.any(others, axis=(0, 3)))


def _joined(linked: BoolArray, reference: tuple[int, ...]) -> BoolArray:
    """Which |eta| bins a chain of pairs joins to the reference, (n_eta, n_pt); `linked` (n_eta, n_eta, n_pt).

    Where the reference bins are not joined to one another, the reference is the group with most of them.
    """
    n_eta = len(linked)
    reach = np.moveaxis(linked | np.swapaxes(linked, 0, 1), 2, 0) | np.eye(n_eta, dtype=np.bool_)
    for _ in range(int(np.ceil(np.log2(max(n_eta, 2))))):
        reach = (reach.astype(np.float64) @ reach.astype(np.float64)) > 0
    of_reference = reach[:, list(reference)]
    best = np.argmax(of_reference[:, :, list(reference)].sum(axis=2), axis=1)
    joined = np.take_along_axis(of_reference, best[:, None, None], axis=1)[:, 0]
    # a bin that is joined to itself alone has measured nothing
    return np.asarray((joined & (joined.sum(axis=1, keepdims=True) > 1)).T)


def _solve(
    weight: FloatArray, ordinate: FloatArray, alpha: FloatArray, share: FloatArray, joined: BoolArray
) -> tuple[FloatArray, FloatArray, FloatArray, NDArray[np.int64], BoolArray]:
    """Least squares per bin of pt_avg.

    `weight`, `ordinate` (n_eta, n_eta, n_pt, n_alpha), `share` (n_pt, n_eta) of each bin in the reference, `joined`
    (n_eta, n_pt). Gives log responses (n_pt, n_eta), covariances (n_pt, n_eta, n_eta), chi2, degrees of freedom, and
    whether it could be solved.
    """
    n_eta, _, n_pt, n_alpha = weight.shape
    orders = 2 if n_alpha > 1 else 1
    normal = np.zeros((n_pt, orders, n_eta, orders, n_eta))
    score = np.zeros((n_pt, orders, n_eta))
    free = np.zeros((n_pt, n_eta, n_eta))
    free[:, np.arange(n_eta), np.arange(n_eta)] = ~joined.T
    for a in range(orders):
        score[:, a] = _divergence(np.moveaxis((weight * ordinate) @ alpha**a, 2, 0))
        for b in range(orders):
            normal[:, a, :, b] = _laplacian(np.moveaxis(weight @ alpha ** (a + b), 2, 0))
    bare = normal.reshape(n_pt, orders * n_eta, orders * n_eta).copy()
    scale = np.einsum("pii->p", bare) / (orders * n_eta)
    for a in range(orders):
        # the scores sum to zero, so this makes the mean over the reference vanish without changing anything else
        normal[:, a, :, a] += (share[:, :, None] * share[:, None, :] + free) * np.where(scale > 0, scale, 1.0)[
            :, None, None
        ]
    full = normal.reshape(bare.shape)
    good = np.linalg.cond(full) < 1e10
    full = np.where(good[:, None, None], full, np.eye(orders * n_eta))
    inverse = np.linalg.inv(full)
    solution = np.einsum("pij,pj->pi", inverse, score.reshape(n_pt, -1))
    covariance = inverse @ bare @ inverse
    parameters = solution.reshape(n_pt, orders, n_eta)
    values = np.tensordot(np.moveaxis(parameters, 1, 2), np.stack([alpha**a for a in range(orders)]), axes=1)
    expected = np.moveaxis(values[:, :, None, :] - values[:, None, :, :], 0, 2)
    chi2 = np.sum(weight * (ordinate - expected) ** 2, axis=(0, 1, 3))
    ndf = np.sum(weight > 0, axis=(0, 1, 3)) - orders * np.maximum(joined.sum(axis=0) - 1, 0)
    return parameters[:, 0], covariance[:, :n_eta, :n_eta], chi2, ndf, good & (ndf >= 0)


def _laplacian(weight: FloatArray) -> FloatArray:
    """Normal matrix of differences, (n_pt, n_eta, n_eta), from weights of the pairs."""
    both = weight + np.swapaxes(weight, 1, 2)
    index = np.arange(both.shape[1])
    result = -both
    result[:, index, index] += both.sum(axis=2)
    return result


def _divergence(flow: FloatArray) -> FloatArray:
    """Sum of what leaves each bin for others less what comes, (n_pt, n_eta)."""
    return np.asarray(flow.sum(axis=2) - flow.sum(axis=1))


def _smooth(
    y: FloatArray, weight: FloatArray, distance: FloatArray, improvement: float
) -> tuple[FloatArray, float, int, bool]:
    """Fit as a matrix (2, n_pt), chi2, degrees of freedom, whether constant; `distance` has the weighted mean 0."""
    flat = np.stack([weight / weight.sum(), np.zeros_like(weight)])
    n_used = int(np.sum(weight > 0))
    chi2 = float(np.sum(weight * (y - flat[0] @ y) ** 2))
    lever = float(weight @ distance**2)
    if n_used < 3 or not lever > 0:
        return flat, chi2, n_used - 1, True
    tilted = np.stack([flat[0], weight * distance / lever])
    tilted_chi2 = float(np.sum(weight * (y - tilted[0] @ y - (tilted[1] @ y) * distance) ** 2))
    if chi2 - tilted_chi2 < improvement * max(1.0, tilted_chi2 / (n_used - 2)):
        return flat, chi2, n_used - 1, True
    return tilted, tilted_chi2, n_used - 2, False


def _worst(data: StatusArray, simulation: StatusArray) -> str:
    """Why no bin of pT could be compared: what most of those of the worse side say."""
    side = data if np.sum(data == "ok") <= np.sum(simulation == "ok") else simulation
    reasons, counts = np.unique(side[side != "ok"], return_counts=True)
    return str(reasons[np.argmax(counts)]) if len(reasons) else "no_reference"
