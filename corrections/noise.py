"""The noise term and how it grows with pile-up: what of sigma^2 falls with 1/pT^2 and rises with rho.

The slope: sigma^2(pT, rho) = sigma^2(pT, mean rho) + k (rho - mean rho)/pT^2. The first term is a free number per bin
of pT, so that no shape of the resolution is assumed. The signed square of the noise term at another rho is N|N| + k
(rho - mean rho).

The whole term: sigma^2(pT, rho) = (n + k rho)/pT^2 + S^2 pT^P + C^2, n what is left without pile-up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from corrections.results import POWERS

if TYPE_CHECKING:
    from corrections.settings import CurveForm

FloatArray = NDArray[np.float64]
NoiseStatus = Literal["ok", "empty", "few_events"]

# Weights follow the fitted widths, not the measured ones, which would favour downward fluctuations.
ROUNDS = 3
ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class NoiseSlope:
    """k in GeV^2 per GeV of rho with its error; nan unless the status is "ok".

    `mean_rho` (GeV) is where the resolution is left as it is.
    """

    value: float
    error: float
    mean_rho: float
    chi2: float
    ndf: int
    status: NoiseStatus


def fit_noise_slope(
    widths: FloatArray, errors: FloatArray, pt: FloatArray, rho: FloatArray, mean_rho: float
) -> NoiseSlope:
    """Slope of the squared relative widths of reco/truth in rho.

    Parameters
    ----------
    widths, errors
        sigma(pT)/pT and its error in bins of pT and rho, (n_pt, n_rho); nan where not measured.
    pt
        Mean pT in GeV, (n_pt,) or (n_pt, n_rho).
    rho
        Mean rho of each bin in GeV, (n_rho,) or (n_pt, n_rho).

    Notes
    -----
    Bins of pT with fewer than two measured bins of rho say nothing and take no part.
    """
    pt_grid = np.broadcast_to(pt if pt.ndim == 2 else pt[:, None], widths.shape)
    pt_grid = np.where(pt_grid > 0, pt_grid, np.nan)
    x = (np.broadcast_to(rho, widths.shape) - mean_rho) / pt_grid**2
    y = widths**2
    used = np.isfinite(y) & np.isfinite(errors) & (errors > 0) & (widths > 0) & np.isfinite(x)
    used &= used.sum(axis=1, keepdims=True) >= 2
    if not used.any():
        status: NoiseStatus = "few_events" if np.isfinite(widths).any() else "empty"
        return NoiseSlope(np.nan, np.nan, mean_rho, np.nan, 0, status)
    x, y = np.where(used, x, 0.0), np.where(used, y, 0.0)
    relative = np.where(used, 2 * errors / np.where(used, widths, 1.0), 1.0)
    model = np.broadcast_to(np.sum(y, axis=1, keepdims=True) / np.maximum(used.sum(axis=1, keepdims=True), 1), y.shape)
    for _ in range(ROUNDS):
        weight = np.where(used, 1 / (relative * np.where(used, model, 1.0)) ** 2, 0.0)
        slope, information, offsets = _slope(x, y, weight)
        fitted = offsets[:, None] + slope * x
        model = np.where(fitted > 0, fitted, model)
    chi2 = float(np.sum(weight * (y - fitted) ** 2))
    rows = used.any(axis=1)
    if not information > 0:
        return NoiseSlope(np.nan, np.nan, mean_rho, np.nan, 0, "few_events")
    return NoiseSlope(
        slope,
        float(information**-0.5),
        mean_rho,
        chi2,
        int(used.sum() - rows.sum() - 1),
        "ok",
    )


@dataclass(frozen=True, slots=True)
class NoiseTerm:
    """N|N| = n + k rho in GeV^2: `parameters` (n, k) with their `covariance` (2, 2); nan unless the status is "ok"."""

    parameters: FloatArray
    covariance: FloatArray
    chi2: float
    ndf: int
    status: NoiseStatus

    def at(self, rho: float) -> tuple[float, float]:
        """N|N| at `rho` in GeV, and its error, GeV^2."""
        gradient = np.array([1.0, rho])
        return float(gradient @ self.parameters), float(np.sqrt(gradient @ self.covariance @ gradient))


def fit_noise_term(
    widths: FloatArray, errors: FloatArray, pt: FloatArray, rho: FloatArray, form: CurveForm = "nsc"
) -> NoiseTerm:
    """Noise without and with pile-up from relative widths of reco/truth, arguments as of `fit_noise_slope`.

    Weighted least squares in the squares. S^2 and C^2 are not bounded, since that would bias N|N|. With the `form`
    "nspc" the power of pT beside S^2 is the best one within `POWERS`. The covariance grows with chi^2/ndf where that is
    above 1, and holds how far N|N| moves between the power -1 and the best one: what is not of this shape makes noise
    otherwise. At least five bins of pT and two of rho.
    """
    pt_grid = np.broadcast_to(pt if pt.ndim == 2 else pt[:, None], widths.shape)
    rho_grid = np.broadcast_to(rho, widths.shape)
    used = np.isfinite(widths) & np.isfinite(errors) & (errors > 0) & (widths > 0) & np.isfinite(rho_grid)
    used &= np.isfinite(pt_grid) & (pt_grid > 0)
    if np.count_nonzero(used.any(axis=1)) < 5 or np.count_nonzero(used.any(axis=0)) < 2:
        status: NoiseStatus = "few_events" if np.isfinite(widths).any() else "empty"
        return NoiseTerm(np.full(2, np.nan), np.full((2, 2), np.nan), np.nan, 0, status)
    cells = _Cells(pt_grid[used], rho_grid[used], widths[used] ** 2, 2 * errors[used] / widths[used])
    best = float(minimize_scalar(lambda power: cells.fit(power)[2], bounds=POWERS, method="bounded").x)
    usual, other = cells.fit(-1.0), cells.fit(best)
    parameters, covariance, chi2 = usual if form == "nsc" else other
    ndf = len(cells.y) - (4 if form == "nsc" else 5)
    apart = usual[0] - other[0]
    whole = covariance * max(1.0, chi2 / max(ndf, 1)) + np.outer(apart, apart)
    return NoiseTerm(parameters, whole, chi2, ndf, "ok")


@dataclass(frozen=True, slots=True)
class _Cells:
    """Squared widths `y` with their `relative` errors at `pt` and `rho`, (n,) each."""

    pt: FloatArray
    rho: FloatArray
    y: FloatArray
    relative: FloatArray

    def fit(self, power: float) -> tuple[FloatArray, FloatArray, float]:
        """Noise and its growth (2,), their covariance (2, 2) and chi^2 for a power of pT beside S^2."""
        basis = np.stack([self.pt**-2, self.rho / self.pt**2, self.pt**power, np.ones_like(self.pt)], axis=1)
        model = self.y
        for _ in range(ROUNDS):
            solution, covariance = _least_squares(basis, self.y, self.relative * model)
            fitted = basis @ solution
            model = np.where(fitted > 0, fitted, model)
        chi2 = float(np.sum(((self.y - fitted) / (self.relative * model)) ** 2))
        return solution[:2], covariance[:2, :2], chi2


def _least_squares(basis: FloatArray, y: FloatArray, errors: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Parameters and their covariance; columns are scaled, since 1/pT^2 and 1 lie far apart."""
    design = basis / errors[:, None]
    scale = np.linalg.norm(design, axis=0)
    inverse = np.linalg.pinv(design / scale) / scale[:, None]
    return inverse @ (y / errors), inverse @ inverse.T


def _slope(x: FloatArray, y: FloatArray, weight: FloatArray) -> tuple[float, float, FloatArray]:
    """Common slope of all rows, its information, and each row's ordinate at x = 0."""
    total = weight.sum(axis=1)
    total = np.where(total > 0, total, 1.0)
    x_mean, y_mean = (weight * x).sum(axis=1) / total, (weight * y).sum(axis=1) / total
    apart = x - x_mean[:, None]
    information = float(np.sum(weight * apart**2))
    # what rounding leaves where every rho is the same
    information = information if information > ROUNDING * float(np.sum(weight * x**2)) else 0.0
    slope = float(np.sum(weight * apart * (y - y_mean[:, None]))) / information if information > 0 else 0.0
    return slope, information, y_mean - slope * x_mean
