r"""Weighted distance correlation of two variables and its gradient, in O(N log N) time and O(N) memory.

With shares p_i = w_i / sum(w), a_i = sum_j p_j |x_i - x_j| and a = sum_i p_i a_i (b_i, b for y), the centred distances
are A_ij = |x_i - x_j| - a_i - a_j + a, and the squared distance covariance is sum_ij p_i p_j A_ij B_ij (Szekely, Rizzo
and Bakirov, arXiv:0803.4101, here with weights). Since A may be replaced by |x_i - x_j| in the sum,

    d dCov^2 / d x_k = 2 p_k sum_j p_j sgn(x_k - x_j) B_kj,

and as dCov^2 is homogeneous of degree one in x its value is the product of x and this gradient. The only sum over pairs
that does not factorise is sum_j p_j |y_k - y_j| sgn(x_k - x_j): in the order of x it is a sum over predecessors with
smaller y, which a Fenwick tree gives in O(log N) (as Huo and Szekely, arXiv:1410.1503, do for the value). Equal values
have distance 0 and sign 0, so ties are exact and the gradient there is a subgradient.

Independent variables have a positive dCov^2 in a finite sample. It equals sum_ij p_i p_j A_ij |y_i - y_j|, where A does
not know y and all pairs i != j have one mean distance d of y, so that it is on average -d sum_i p_i^2 A_ii
= d sum_i p_i^2 (2 a_i - a), for weights that go with x too; for weights that go with y it is near. With
b / (1 - sum_i p_i^2) for d it can be taken off ("chance" below); for equal weights the U-centred form of Szekely and
Rizzo (arXiv:1310.2926) does the same but for terms of higher order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.compiled import compiled

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Float64Array = NDArray[np.float64]

# Spreads below this share of the largest value are rounding: such a variable is constant.
_CONSTANT = 1e-12
# Below, one less the sum of squared shares is rounding: one entry has all of the weight.
_ALONE = 1e-12
_MIN_ENTRIES = 2


class Correlation(NamedTuple):
    """Squared distance correlation, and its derivative by each entry of the first variable, (n,)."""

    value: float
    gradient: Float64Array


def distance_correlation(x: ArrayLike, y: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Squared distance correlation of two variables, dCov^2 / sqrt(dVar_x^2 dVar_y^2).

    Parameters
    ----------
    x, y
        (n,), finite, in any unit.
    weights
        (n,), finite and not negative; all equal if None. Only their ratios count.

    Returns
    -------
    In [0, 1]; 0 where a variable is constant, or fewer than two entries have a weight.

    Raises
    ------
    ValueError
        For arrays of different length, values that are not finite and negative weights.
    """
    return correlation_gradient(x, y, weights).value


def correlation_gradient(x: ArrayLike, y: ArrayLike, weights: ArrayLike | None = None) -> Correlation:
    """Squared distance correlation and its gradient by `x`; arguments as for `distance_correlation`.

    The gradient is 0 for entries without weight, and everywhere where the value is 0 by definition.
    """
    return _of_weighted(*_checked(x, y, weights), None)


def correlation_above_chance(x: ArrayLike, y: ArrayLike, weights: ArrayLike, of_spread: ArrayLike) -> Correlation:
    """Squared distance correlation without what independent variables have, and its gradient by `x`.

    Parameters
    ----------
    x, y, weights
        As for `distance_correlation`.
    of_spread
        (n,): the weights for dVar_y^2, which should not go with x. With few entries that have most of `weights` it is
        small by chance where the covariance is low, and the mean over samples would be negative.

    Returns
    -------
    The mean over samples of independent variables is 0 unless `weights` go with y. The value may be slightly negative,
    and above 1 where entries of large weight spread more than all.

    Raises
    ------
    ValueError
        As `distance_correlation`, for both weights, and where no entry has both.
    """
    x, y, weights = _checked(x, y, weights)
    return _of_weighted(x, y, weights, _checked(x, y, of_spread)[2])


def _of_weighted(
    x: Float64Array, y: Float64Array, weights: Float64Array, of_spread: Float64Array | None
) -> Correlation:
    """Of entries with a weight, above chance with weights for the spread of y."""
    gradient = np.zeros(len(x))
    used = weights > 0
    if np.count_nonzero(used) < _MIN_ENTRIES:
        return Correlation(0.0, gradient)
    shares = weights[used] / weights[used].sum()
    first, scale = _standardised(x[used], shares)
    second, other = _standardised(y[used], shares)
    if scale <= 0 or other <= 0:
        return Correlation(0.0, gradient)
    value, slope = _correlation(first, second, shares, None if of_spread is None else _shares(of_spread[used]))
    gradient[used] = slope / scale
    return Correlation(value, gradient)


def _shares(weights: Float64Array) -> Float64Array:
    if not (total := weights.sum()) > 0:
        raise ValueError("weights of the spread add up to 0 for entries that have a weight")
    return np.asarray(weights / total)


def _checked(x: ArrayLike, y: ArrayLike, weights: ArrayLike | None) -> tuple[Float64Array, Float64Array, Float64Array]:
    first, second = (np.asarray(each, np.float64) for each in (x, y))
    given = np.ones(first.shape) if weights is None else np.asarray(weights, np.float64)
    if first.ndim != 1 or not first.shape == second.shape == given.shape:
        raise ValueError(f"expected three arrays (n,), got shapes {first.shape}, {second.shape} and {given.shape}")
    if not all(np.isfinite(each).all() for each in (first, second, given)):
        raise ValueError("distance correlation needs finite values and weights")
    if (given < 0).any():
        raise ValueError("distance correlation needs weights that are not negative")
    return first, second, given


def _standardised(values: Float64Array, shares: Float64Array) -> tuple[Float64Array, float]:
    """Values with mean 0 and spread 1, and the spread; 0 for constant ones."""
    largest = np.abs(values).max()
    centred = values - shares @ values
    spread = float(np.sqrt(shares @ centred**2))
    if spread <= _CONSTANT * largest or values.min() == values.max():
        return centred, 0.0
    return centred / spread, spread


def _correlation(
    x: Float64Array, y: Float64Array, shares: Float64Array, of_spread: Float64Array | None
) -> tuple[float, Float64Array]:
    """Value and gradient by x of standardised variables, above chance with shares for the spread of y."""
    of_both = _covariance_gradient(x, y, shares, above_chance=of_spread is not None)
    of_first = _variance_gradient(x, shares)
    covariance, first = float(x @ of_both), 0.5 * float(x @ of_first)
    second = 0.5 * float(y @ _variance_gradient(y, shares if of_spread is None else of_spread))
    if first <= 0 or second <= 0:
        return 0.0, np.zeros(len(x))
    root = np.sqrt(first * second)
    gradient = of_both / root - 0.5 * covariance / (root * first) * of_first
    value = covariance / root
    return (min(max(value, 0.0), 1.0) if of_spread is None else value), gradient


def _covariance_gradient(
    x: Float64Array, y: Float64Array, shares: Float64Array, *, above_chance: bool = False
) -> Float64Array:
    """Derivative of dCov^2 by each x, (n,)."""
    order = np.argsort(x)
    ranks = np.empty(len(y), np.int64)
    by_y = np.argsort(y)
    ranks[by_y] = np.arange(len(y))
    to_y = np.empty(len(y))
    to_y[by_y] = _mean_distances(y[by_y], shares[by_y])
    mean = float(shares @ to_y)
    sums = _pair_sums(x[order], y[order], shares[order], ranks[order], to_y[order], mean)
    if above_chance:
        sums -= mean * _chance_sums(x[order], shares[order])
    result = np.empty(len(x))
    result[order] = sums
    return result


def _chance_sums(x: Float64Array, shares: Float64Array) -> Float64Array:
    """Derivative of sum_i p_i^2 (2 a_i - a) / (1 - sum_i p_i^2) by each of the sorted x, (n,)."""
    squares = float(shares @ shares)
    signs, of_shares = _sign_sums(x, shares, np.ones(len(x))), _sign_sums(x, shares, shares)
    return 2.0 * shares * ((shares - squares) * signs + of_shares) / max(1.0 - squares, _ALONE)


def _variance_gradient(x: Float64Array, shares: Float64Array) -> Float64Array:
    """Derivative of dVar^2 by each x, (n,); dVar^2 is homogeneous of degree two."""
    order = np.argsort(x)
    x, shares = x[order], shares[order]
    mean_distance = _mean_distances(x, shares)
    mean = float(shares @ mean_distance)
    signs = _sign_sums(x, shares, np.ones(len(x)))
    of_distances = _sign_sums(x, shares, mean_distance)
    result = np.empty(len(x))
    centred = x - shares @ x
    result[order] = 4.0 * shares * (centred - (mean_distance - mean) * signs - of_distances)
    return result


@compiled
def _mean_distances(values: Float64Array, shares: Float64Array) -> Float64Array:
    """sum_j p_j |y_i - y_j| of sorted values, (n,)."""
    n = len(values)
    total, moment = 0.0, 0.0
    for i in range(n):
        total += shares[i]
        moment += shares[i] * values[i]
    result = np.empty(n)
    below, below_moment = 0.0, 0.0
    for i in range(n):
        result[i] = values[i] * (2.0 * below - total) + moment - 2.0 * below_moment
        below += shares[i]
        below_moment += shares[i] * values[i]
    return result


@compiled
def _sign_sums(values: Float64Array, shares: Float64Array, factors: Float64Array) -> Float64Array:
    """sum_j p_j f_j sgn(x_k - x_j) of sorted values, (n,)."""
    n = len(values)
    total = 0.0
    for i in range(n):
        total += shares[i] * factors[i]
    result = np.empty(n)
    below = 0.0
    start = 0
    while start < n:
        stop, own = start, 0.0
        while stop < n and values[stop] == values[start]:
            own += shares[stop] * factors[stop]
            stop += 1
        for i in range(start, stop):
            result[i] = 2.0 * below + own - total
        below += own
        start = stop
    return result


@compiled
def _add(tree: Any, place: int, share: float, value: float) -> None:
    """Add an entry to a Fenwick tree (n + 1, 2) of shares and of shares times values."""
    i = place + 1
    while i < len(tree):
        tree[i, 0] += share
        tree[i, 1] += share * value
        i += i & -i


@compiled
def _distance_below(tree: Any, place: int, value: float, total: float, moment: float) -> float:
    """sum_j p_j |y - y_j| over the entries of a tree; `total` and `moment` are the sums over all of them."""
    share, sums = 0.0, 0.0
    i = place + 1
    while i > 0:
        share += tree[i, 0]
        sums += tree[i, 1]
        i -= i & -i
    return 2.0 * (value * share - sums) - value * total + moment


@compiled
def _pair_sums(
    x: Float64Array, y: Float64Array, shares: Float64Array, ranks: Any, to_y: Float64Array, mean: float
) -> Float64Array:
    """2 p_k sum_j p_j sgn(x_k - x_j) B_kj in the order of x, (n,); `to_y` are the b_k and `mean` is b."""
    n = len(x)
    signs = _sign_sums(x, shares, np.ones(n))
    of_distances = _sign_sums(x, shares, to_y)
    tree = np.zeros((n + 1, 2))
    total, moment = 0.0, 0.0
    result = np.empty(n)
    start = 0
    while start < n:
        stop = start
        while stop < n and x[stop] == x[start]:
            result[stop] = _distance_below(tree, ranks[stop], y[stop], total, moment)
            stop += 1
        for i in range(start, stop):
            _add(tree, ranks[i], shares[i], y[i])
            total += shares[i]
            moment += shares[i] * y[i]
        for i in range(start, stop):
            below = result[i]
            up_to = below if stop == start + 1 else _distance_below(tree, ranks[i], y[i], total, moment)
            signed = below + up_to - to_y[i]
            result[i] = 2.0 * shares[i] * (signed - (to_y[i] - mean) * signs[i] - of_distances[i])
        start = stop
    return result
