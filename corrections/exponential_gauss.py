"""The truth asymmetry as a smooth curve: a double-sided exponential convolved with a Gaussian.

The parametric choice for the particle-level imbalance: radiation makes the exponential, hadronisation and particles
outside the jets the Gaussian. It replaces the histogram as a template where few events would make it ragged.
"""

from __future__ import annotations

import numpy as np
from iminuit import Minuit
from numpy.typing import NDArray
from scipy.special import erfc, erfcx, ndtr

from corrections.sample import effective_count
from corrections.widths import WidthStatus, second_moment

FloatArray = NDArray[np.float64]

# Effective events for which three parameters can be fitted.
FEWEST = 20.0
# Neither width is resolved below this fraction of a bin.
NARROWEST = 0.05


def density(x: FloatArray, mean: float, sigma: float, tau: float) -> FloatArray:
    """exp(-|t|/tau)/(2 tau) convolved with a Gaussian of width `sigma`, at `x`, displaced by `mean`."""
    z = np.asarray(x, dtype=np.float64) - mean
    return (_side(z, sigma, tau) + _side(-z, sigma, tau)) / (4 * tau)


def cumulative(x: FloatArray, mean: float, sigma: float, tau: float) -> FloatArray:
    """Integral of `density` up to `x`."""
    z = np.asarray(x, dtype=np.float64) - mean
    return np.asarray(ndtr(z / sigma) - (_side(z, sigma, tau) - _side(-z, sigma, tau)) / 4)


def smooth_template(counts: FloatArray, variances: FloatArray, edges: FloatArray) -> tuple[FloatArray, WidthStatus]:
    """The curve fitted to a truth asymmetry, integrated over the same uniform bins and of the same sum, (n,).

    A binned likelihood with effective counts. Zeros unless the status is "ok".
    """
    nothing = np.zeros_like(counts)
    if not counts.any():
        return nothing, "empty"
    total, squared = float(counts.sum()), float(variances.sum())
    if effective_count(np.asarray(total), np.asarray(squared)) < FEWEST:
        return nothing, "few_events"
    mean, spread, _ = second_moment(counts, variances, edges)
    width = float(edges[1] - edges[0])
    narrow, wide = NARROWEST * width, float(edges[-1] - edges[0])

    def loss(mean: float, log_sigma: float, log_tau: float) -> float:
        probability = _probabilities(edges, mean, log_sigma, log_tau)
        return float(-(counts @ np.log(np.maximum(probability, 1e-300))) * total / squared)

    # half of the variance from either part to begin with
    scale = 0.5 * np.log(max(float(spread), width**2) / 2)
    minuit = Minuit(loss, mean=float(mean), log_sigma=scale, log_tau=scale - 0.5 * np.log(2))
    minuit.errordef = Minuit.LIKELIHOOD
    minuit.errors = (0.1 * np.exp(scale), 0.1, 0.1)
    minuit.limits["mean"] = (edges[0], edges[-1])
    minuit.limits["log_sigma"] = minuit.limits["log_tau"] = (np.log(narrow), np.log(wide))
    minuit.migrad()
    if minuit.fmin is None or not np.isfinite(minuit.fval or np.nan) or minuit.fmin.has_reached_call_limit:
        return nothing, "not_converged"
    return total * _probabilities(edges, *minuit.values), "ok"


def _probabilities(edges: FloatArray, mean: float, log_sigma: float, log_tau: float) -> FloatArray:
    """Share of each bin, normalised inside the histogram, (n,)."""
    share = np.diff(cumulative(edges, mean, float(np.exp(log_sigma)), float(np.exp(log_tau))))
    return np.asarray(share / share.sum())


def _side(z: FloatArray, sigma: float, tau: float) -> FloatArray:
    """exp(sigma^2/(2 tau^2) - z/tau) erfc((sigma/tau - z/sigma)/sqrt 2) without overflow."""
    argument = (sigma / tau - z / sigma) / np.sqrt(2)
    near = np.exp(-0.5 * (z / sigma) ** 2) * erfcx(np.maximum(argument, 0.0))
    # where the argument is negative the exponent is below -(sigma/tau)^2/2
    exponent = np.minimum(0.5 * (sigma / tau) ** 2 - z / tau, 0.0)
    return np.asarray(np.where(argument > 0, near, np.exp(exponent) * erfc(np.minimum(argument, 0.0))))
