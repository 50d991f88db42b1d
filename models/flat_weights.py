"""Weights that make a falling spectrum flat, none of them far above the others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64Array = NDArray[np.float64]

_ROUNDS = 20


@dataclass(frozen=True, slots=True)
class FlatWeights:
    """Weights (n,) of mean 1 over those that are not 0, and what they cost.

    Attributes
    ----------
    weights
        (n,).
    effective, effective_unbounded
        Effective number of entries (sum w)^2 / sum w^2 (Kish), with and without the bound.
    limited
        Share of the entries at the bound.
    """

    weights: Float64Array
    effective: float
    effective_unbounded: float
    limited: float


def flat_weights(pt: Float64Array, weight: Float64Array, bound: float = 5.0, bins_per_e: float = 8.0) -> FlatWeights:
    """Weights that spread `pt` (n,), GeV, evenly in log pT where there is anything.

    Every bin of log pT gets the same sum, shared in proportion to `weight` (n,). No entry gets more than `bound` times
    the mean weight: sparse bins, and rare entries with a huge weight, then count less than a flat spectrum asks for.
    Entries with a pt that is nan or not positive, or a weight that is not positive, get 0.

    For a comparison with truth `pt` has to be a truth pT: weights that fall with the reconstructed one favour jets
    that fluctuated down.
    """
    is_used = (pt > 0) & np.isfinite(pt) & (weight > 0) & np.isfinite(weight)
    weights = np.zeros(len(pt))
    if not is_used.any():
        return FlatWeights(weights, 0.0, 0.0, 0.0)
    place = np.floor(np.log(pt[is_used]) * bins_per_e).astype(np.int64)
    place -= place.min()
    ideal = weight[is_used] / np.bincount(place, weight[is_used])[place]
    bounded = _bounded(ideal, bound)
    weights[is_used] = bounded
    at_bound = bounded >= bound * (1 - 1e-9)
    return FlatWeights(weights, effective_entries(bounded), effective_entries(ideal), float(np.mean(at_bound)))


def effective_entries(weights: Float64Array) -> float:
    """Effective number of entries, (sum w)^2 / sum w^2; 0 for none."""
    squares = float(np.sum(np.square(weights)))
    return float(np.sum(weights)) ** 2 / squares if squares > 0 else 0.0


def _bounded(weights: Float64Array, bound: float) -> Float64Array:
    """Weights of mean 1, at most `bound`; cutting lowers the mean, so it is done until both hold."""
    bounded = weights / weights.mean()
    for _ in range(_ROUNDS):
        bounded = np.minimum(bounded, bound)
        bounded /= bounded.mean()
        if bounded.max() <= bound * (1 + 1e-12):
            break
    return np.asarray(np.minimum(bounded, bound))
