"""The bisector method (UA2; ATLAS at 7 TeV, arXiv:1210.6210), and MPFX, which subtracts in the same way.

psi = (pT1 - pT2) sin(dphi/2) is the pair's transverse momentum across the bisector of its angle, eta = (pT1 + pT2)
cos(dphi/2) that along it, both over pt_avg. Soft radiation at random angles gives either the same variance; the
resolutions of the jets enter psi with sin^2 and eta with cos^2 of half the angle. Hence

    s1^2 + s2^2 = [(Var psi - Var eta) reconstructed - (Var psi - Var eta) truth] / <|cos dphi|>,

s the resolutions of the two jets: the variance of A due to the detector. The truth term takes out radiation that is not
isotropic. MPFX has the components of the missing momentum along and across the dijet axis instead of psi and eta, no
truth level and no angle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from corrections.sample import effective_count
from corrections.widths import DetectorVariance, second_moment, second_moments

FloatArray = NDArray[np.float64]

# Effective events below which a second moment and its error are not used.
FEWEST = 20.0
# Copies from which a spread is taken.
FEWEST_COPIES = 10
# Of its variance, the most that the reconstructed difference may share with that of truth.
MOST_SHARED = 0.9


@dataclass(frozen=True, slots=True)
class Components:
    """Distributions of the two components of one sample, on uniform bins, over any bins of pt_avg.

    `psi`, `eta` (..., n) are sums of weights, the variances sums of squared weights; the replicas (n_replicas, ..., n)
    are bootstrap copies of the sums, if there are any.
    """

    psi: FloatArray
    psi_variances: FloatArray
    eta: FloatArray
    eta_variances: FloatArray
    psi_replicas: FloatArray | None = None
    eta_replicas: FloatArray | None = None


@dataclass(frozen=True, slots=True)
class _Difference:
    """Var(psi) - Var(eta), its squared error, the effective events and bootstrap copies of it."""

    value: FloatArray
    variance: FloatArray
    effective: FloatArray
    replicas: FloatArray


def bisector(
    reco: Components,
    truth: Components | None,
    edges: FloatArray,
    cos_delta_phi: FloatArray,
    *,
    same_events: bool,
    imbalance_shift: float = 0.0,
) -> DetectorVariance:
    """Variance of A due to the detector, (...) as the components; twice the squared resolution for standard pairs.

    Parameters
    ----------
    truth
        The components of the matched truth jets, always of simulation.
    cos_delta_phi
        Mean |cos dphi| of the reconstructed pairs, (...).
    same_events
        Whether `reco` and `truth` are the same events (simulation) or not (data). Of the same ones the truth's
        fluctuations are part of the reconstructed ones and cancel.
    imbalance_shift
        Relative change of the truth term, for its systematic uncertainty.

    Notes
    -----
    Errors come from the fourth moments, or from the replicas where there are any; psi^2 and eta^2 of one event count as
    uncorrelated in the former.
    """
    measured = _difference(reco, edges)
    if truth is None:
        nothing = np.full(measured.value.shape, np.nan)
        status = np.where(measured.effective > 0, "no_truth", "empty")
        return DetectorVariance(nothing, nothing, status, np.full(measured.replicas.shape, np.nan))
    subtracted = _difference(truth, edges)
    scale = 1 + imbalance_shift
    value = measured.value - scale * subtracted.value
    if same_events:
        # a squared truth moment covaries with the reconstructed one as much as it varies itself
        shared = (2 * scale - scale**2) * subtracted.variance
        variance = np.maximum(measured.variance - shared, (1 - MOST_SHARED) * measured.variance)
    else:
        variance = measured.variance + scale**2 * subtracted.variance
    copies = _copies(measured, subtracted, scale)
    divisor = 0.5 * (1 + cos_delta_phi)
    return _result(
        value / divisor,
        variance / divisor**2,
        np.minimum(measured.effective, subtracted.effective),
        copies / divisor,
    )


def mpfx(components: Components, edges: FloatArray) -> DetectorVariance:
    """Variance of A due to the detector from the missing momentum along the dijet axis (`psi`) and across it (`eta`).

    What is not the response of the two jets (radiation, pile-up, soft particles) is taken to be the same in both.
    """
    measured = _difference(components, edges)
    return _result(measured.value, measured.variance, measured.effective, measured.replicas)


def _difference(components: Components, edges: FloatArray) -> _Difference:
    _, psi, psi_error = second_moment(components.psi, components.psi_variances, edges)
    _, eta, eta_error = second_moment(components.eta, components.eta_variances, edges)
    counts = effective_count(components.psi.sum(axis=-1), components.psi_variances.sum(axis=-1))
    copies = np.zeros((0, *counts.shape))
    if components.psi_replicas is not None and components.eta_replicas is not None:
        copies = second_moments(components.psi_replicas, edges) - second_moments(components.eta_replicas, edges)
    return _Difference(psi - eta, psi_error**2 + eta_error**2, np.asarray(counts), copies)


def _copies(reco: _Difference, truth: _Difference, scale: float) -> FloatArray:
    """Copies of reco - scale truth, pair by pair; none unless both have some."""
    n = min(len(reco.replicas), len(truth.replicas))
    return np.asarray(reco.replicas[:n] - scale * truth.replicas[:n])


def _result(value: FloatArray, variance: FloatArray, effective: FloatArray, copies: FloatArray) -> DetectorVariance:
    if len(copies) >= FEWEST_COPIES:
        variance = np.var(copies, axis=0, ddof=1)
    good = np.isfinite(value) & np.isfinite(variance)
    enough = effective >= FEWEST
    status = np.select(
        [effective <= 0, ~enough, ~good, value <= 0], ["empty", "few_events", "not_converged", "negative_square"], "ok"
    )
    usable = enough & good
    return DetectorVariance(np.where(usable, value, np.nan), np.where(usable, variance, np.nan), status, copies)
