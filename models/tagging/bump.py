"""The bump that a selection makes in a smooth spectrum: a search for signal where there is none.

A smooth background and a resonance of free yield are fitted to the mass spectrum of background that passes a cut. What
the fit finds is spurious signal; a search cannot tell it from a real one (as the ATLAS test of the same name).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.tagging.metrics import MASS_EDGES

if TYPE_CHECKING:
    from collections.abc import Sequence

Float64Array = NDArray[np.float64]

ORDERS = tuple(range(2, 9))
_ROUNDS = 60
_GAIN = 2.0


@dataclass(frozen=True, slots=True)
class Bump:
    """Spurious signal at one mass.

    Attributes
    ----------
    mass, width
        Of the resonance, GeV.
    signal, error
        Its yield in weights, may be negative, and the uncertainty.
    background
        Weight below it, within two widths.
    order
        Of the polynomial in log mass whose exponential is the background.
    chi2, degrees
        Of the fit.
    """

    mass: float
    width: float
    signal: float
    error: float
    background: float
    order: int
    chi2: float
    degrees: int

    @property
    def significance(self) -> float:
        """Yield in units of its uncertainty."""
        return self.signal / self.error if self.error > 0 else math.nan

    @property
    def share(self) -> float:
        """Yield over the background below it."""
        return self.signal / self.background if self.background > 0 else math.nan


def spurious_bump(
    mass: Float64Array,
    weight: Float64Array | None = None,
    *,
    at: float = 80.4,
    width: float = 8.0,
    edges: Float64Array = MASS_EDGES,
    orders: Sequence[int] = ORDERS,
) -> Bump:
    """Fit masses (n,) of passing background with exp(polynomial in log mass) plus a Gaussian at `at`.

    The order is the lowest one that no higher one improves in terms of Akaike's criterion. The likelihood of a bin
    is Poisson in effective entries, so that weights scale its errors.

    Raises
    ------
    ValueError
        Where fewer bins than parameters have entries.
    """
    sums, squares = _histograms(mass, weight, edges)
    if np.count_nonzero(sums > 0) <= min(orders) + 2:
        raise ValueError(f"only {np.count_nonzero(sums > 0)} bins have entries, too few to fit a smooth spectrum")
    shape = _gaussian(edges, at, width)
    fits = []
    for order in orders:
        if np.count_nonzero(sums > 0) > order + 2:
            fits.append((order, *_fit(sums, squares, _polynomials(edges, order), shape)))
    best = min(fits, key=lambda each: each[3] + _GAIN * each[0])
    order, parameters, covariance, deviance, expected = best
    near = np.abs(0.5 * (edges[1:] + edges[:-1]) - at) < 2 * width
    signal = float(parameters[-1])
    below = float(np.sum((expected - signal * shape)[near]))
    error = float(np.sqrt(covariance[-1, -1]))
    return Bump(at, width, signal, error, below, order, deviance, int(len(sums) - order - 2))


def _histograms(
    mass: Float64Array, weight: Float64Array | None, edges: Float64Array
) -> tuple[Float64Array, Float64Array]:
    weight = np.ones(len(mass)) if weight is None else weight
    sums = np.histogram(mass, edges, weights=weight)[0]
    return np.maximum(sums, 0.0), np.histogram(mass, edges, weights=weight**2)[0]


def _gaussian(edges: Float64Array, at: float, width: float) -> Float64Array:
    """Share of a Gaussian in each bin, (bins,)."""
    from scipy.stats import norm

    return np.asarray(np.diff(norm.cdf(edges, at, width)))


def _polynomials(edges: Float64Array, order: int) -> Float64Array:
    """Chebyshev polynomials in log mass at the middles of bins, (bins, order + 1)."""
    middle = np.log(0.5 * (edges[1:] + edges[:-1]))
    return np.polynomial.chebyshev.chebvander(2 * (middle - middle[0]) / (middle[-1] - middle[0]) - 1, order)


def _fit(
    sums: Float64Array, squares: Float64Array, basis: Float64Array, shape: Float64Array
) -> tuple[Any, Any, float, Any]:
    """Parameters (order + 2,), covariance, deviance and expected sums (bins,), by Fisher scoring."""
    scale = float(squares.sum() / sums.sum())  # weight of an effective entry
    of_bin = np.where(sums > 0, squares / np.where(sums > 0, sums, 1.0), scale)
    counts = sums / of_bin
    parameters = np.append(np.linalg.lstsq(basis, np.log(np.maximum(sums, 0.5 * scale)), rcond=None)[0], 0.0)
    deviance, expected = _deviance(parameters, counts, of_bin, basis, shape)
    covariance = np.eye(len(parameters))
    for _ in range(_ROUNDS):
        smooth = np.exp(basis @ parameters[:-1])
        design = np.column_stack([basis * smooth[:, np.newaxis], shape])
        variance = np.maximum(expected, 1e-9) * of_bin
        covariance = np.linalg.pinv(design.T @ (design / variance[:, np.newaxis]))
        step = covariance @ (design.T @ ((sums - expected) / variance))
        factor = 1.0
        while factor > 1e-4:
            trial, trial_expected = _deviance(parameters + factor * step, counts, of_bin, basis, shape)
            if trial <= deviance + 1e-9:
                break
            factor *= 0.5
        else:
            break
        parameters, expected = parameters + factor * step, trial_expected
        gain, deviance = deviance - trial, trial
        if gain < 1e-7:
            break
    return parameters, covariance, deviance, expected


def _deviance(
    parameters: Float64Array, counts: Float64Array, of_bin: Float64Array, basis: Float64Array, shape: Float64Array
) -> tuple[float, Float64Array]:
    """Twice the log likelihood ratio to the saturated model, inf where the expectation is not positive."""
    expected = np.exp(np.clip(basis @ parameters[:-1], -600.0, 600.0)) + parameters[-1] * shape
    if (expected <= 0).any() or not np.isfinite(expected).all():
        return math.inf, expected
    of_entries = expected / of_bin
    logs = counts * np.log(np.where(counts > 0, counts / of_entries, 1.0))
    return float(2.0 * np.sum(of_entries - counts + logs)), expected
