"""Tracks of charged particles: which are found, how well, and where they enter the calorimeter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from samples.compiled import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from samples.layered_settings import Tracking
    from samples.truth import FloatArray


def tracking_numbers(tracking: Tracking) -> FloatArray:
    """Return the parameters as the array that the kernels read."""
    return np.array(
        [
            tracking.max_abs_eta,
            tracking.min_pt,
            tracking.efficiency,
            tracking.efficiency_loss,
            tracking.core_loss,
            tracking.constant,
            tracking.curvature,
            tracking.z_window,
            tracking.loop_pt,
            tracking.bending,
        ]
    )


@compiled
def calorimeter_phi(pt: float, eta: float, phi: float, charge: float, numbers: FloatArray) -> float:
    """Azimuth where a particle enters the calorimeter, in [-pi, pi); beyond |eta| of the barrel it turns less."""
    if charge == 0.0:
        return phi
    reach = min(1.0, 2.8 / np.sinh(max(abs(eta), 0.1)) / 1.2)
    turned = phi - charge * np.arcsin(min(numbers[9] * reach / pt, 1.0))
    return float((turned + np.pi) % (2.0 * np.pi) - np.pi)


@compiled
def reaches_calorimeter(pt: float, eta: float, charge: float, numbers: FloatArray) -> bool:
    """Whether a particle does not curl up in the field of the barrel before."""
    reach = min(1.0, 2.8 / np.sinh(max(abs(eta), 0.1)) / 1.2)
    return bool(charge == 0.0 or pt > numbers[8] * reach)


@compiled
def find_tracks(
    rng: np.random.Generator,
    pt: FloatArray,
    eta: FloatArray,
    phi: FloatArray,
    charge: FloatArray,
    offset: FloatArray,
    is_muon: NDArray[np.bool_],
    numbers: FloatArray,
) -> tuple[NDArray[np.int64], FloatArray]:
    """Indices of particles with a track that is taken as one of the hard interaction, hardest first, and its pT (GeV).

    `offset` (n,) is the distance along the beam (mm) from the hard interaction. Muons are left to the spectrometer.
    """
    candidates = np.empty(len(pt), dtype=np.int64)
    n_candidates = 0
    for index in range(len(pt)):
        if charge[index] == 0.0 or is_muon[index] or pt[index] < numbers[1] or abs(eta[index]) > numbers[0]:
            continue
        if abs(offset[index]) / np.cosh(eta[index]) > numbers[7]:
            continue
        candidates[n_candidates] = index
        n_candidates += 1
    found, measured = np.empty(n_candidates, dtype=np.int64), np.empty(n_candidates)
    n_found = 0
    for index in candidates[:n_candidates]:
        crowd = 0
        for other in candidates[:n_candidates]:
            if abs(eta[other] - eta[index]) < 0.03:
                distance = abs(phi[other] - phi[index])
                if min(distance, 2.0 * np.pi - distance) < 0.03:
                    crowd += 1
        efficiency = numbers[2] - numbers[3] * (eta[index] / 2.5) ** 2
        efficiency -= numbers[4] * max(np.log(crowd / 3.0), 0.0)
        if rng.random() > efficiency:
            continue
        width = np.hypot(
            numbers[5] * (1.0 + 0.15 * eta[index] ** 2), numbers[6] * pt[index] * (1.0 + 0.3 * eta[index] ** 2)
        )
        # curvature is what is measured
        curvature = max(1.0 + width * rng.standard_normal(), 0.2)
        found[n_found] = index
        measured[n_found] = pt[index] / curvature
        n_found += 1
    order = np.argsort(-measured[:n_found], kind="mergesort")
    return found[:n_found][order], measured[:n_found][order]
