"""Particle flow: calorimeter energy that tracks explain is taken off, the rest makes neutral candidates.

After ATLAS, arXiv:1703.10485: a track from the hard interaction takes its expected energy off the cells around the
place where it enters the calorimeter, nearest first, the electromagnetic ones before the hadronic ones. What is then
left within 1.5 sigma of the expectation is taken off as well. Where far more energy lies there than the track can have
left (arXiv:2007.02645, section 4) nothing is taken off: the calorimeter stands, and of the track counts what the
calorimeter is not expected to see of it. Hard tracks are turned off smoothly (`track_weight`). Nothing is taken off for
pile-up tracks: the area offset does that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from samples.compiled import compiled
from samples.showers import mean_em_fraction

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from samples.layered_settings import Flow
    from samples.truth import FloatArray


def flow_numbers(flow: Flow) -> FloatArray:
    """Return the parameters as the array that the kernels read."""
    return np.array(
        [
            flow.max_pt,
            flow.density_slope,
            flow.density_pt,
            flow.em_cone,
            flow.hadronic_cone,
            flow.remainder,
            flow.expected_low,
            flow.spread_stochastic,
            flow.spread_constant,
            flow.threshold_pt,
            flow.fade_start,
            flow.fade_end,
        ]
    )


@compiled
def expected_deposit(
    pt: float,
    eta: float,
    is_electron: bool,  # noqa: FBT001
    numbers: FloatArray,
) -> tuple[float, float]:
    """Mean and spread (GeV) of what a charged particle leaves in clusters."""
    energy = pt * np.cosh(eta)
    if is_electron:
        return energy, 0.1 * np.sqrt(energy) + 0.02 * energy
    fraction = mean_em_fraction(energy, 1.0, 0.82)
    mean = energy * (fraction + (1.0 - fraction) * numbers[6]) / (1.0 + (numbers[9] / pt) ** 3)
    return mean, energy * np.hypot(numbers[7] / np.sqrt(energy), numbers[8])


@compiled
def track_weight(pt: float, visible: float, is_subtracted: bool, numbers: FloatArray) -> float:  # noqa: FBT001
    """Part of a track's momentum that counts; `visible` is the part of its energy that the calorimeter is to see.

    Where that was taken off the cells, all of the track counts, and elsewhere what the calorimeter does not see. From
    `fade_start` to `fade_end` the latter fades, so that harder tracks leave everything to the calorimeter.
    """
    fade = min(max((pt - numbers[10]) / (numbers[11] - numbers[10]), 0.0), 1.0)
    unseen = max(1.0 - visible, 0.0) * (1.0 - fade)
    return float(min(visible, 1.0) + unseen if is_subtracted else unseen)


@compiled
def ring_energy(
    cells: FloatArray, label: NDArray[np.int64], eta: float, phi: float, inner: float, outer: float, factor: float
) -> float:
    """Clustered energy of towers at a distance in [inner, outer); then the cells are multiplied by `factor`."""
    n_eta, n_phi, n_layers = cells.shape
    eta_step, phi_step = 6.4 / n_eta, 2.0 * np.pi / n_phi
    x, y = (eta + 3.2) / eta_step, (phi + np.pi) / phi_step
    reach_x, reach_y = int(outer / eta_step) + 1, int(outer / phi_step) + 1
    total = 0.0
    for i in range(max(int(x) - reach_x, 0), min(int(x) + reach_x + 1, n_eta)):
        for step in range(int(y) - reach_y, int(y) + reach_y + 1):
            j = step % n_phi
            if label[i, j] < 0:
                continue
            distance = np.hypot((i + 0.5 - x) * eta_step, (step + 0.5 - y) * phi_step)
            if distance < inner or distance >= outer:
                continue
            for layer in range(n_layers):
                if cells[i, j, layer] > 0.0:
                    total += cells[i, j, layer]
                    cells[i, j, layer] *= factor
    return float(total)


class Clustered(NamedTuple):
    """Cells (eta, phi, layer) and cluster numbers (eta, phi) of the two central grids."""

    em: FloatArray
    hadronic: FloatArray
    em_label: NDArray[np.int64]
    hadronic_label: NDArray[np.int64]


@compiled
def subtract_track(
    clustered: Clustered,
    eta: float,
    phi: float,
    pt: float,
    is_electron: bool,  # noqa: FBT001
    numbers: FloatArray,
) -> float:
    """Take off what a track explains and return how much of it counts, see `track_weight`."""
    mean, spread = expected_deposit(pt, eta, is_electron, numbers)
    is_subtracted = _subtract(clustered, eta, phi, pt, mean, spread, numbers)
    return track_weight(pt, mean / (pt * np.cosh(eta)), is_subtracted, numbers)


@compiled
def _subtract(
    clustered: Clustered, eta: float, phi: float, pt: float, mean: float, spread: float, numbers: FloatArray
) -> bool:
    """Take off what a track explains; False where the place is crowded or the track too hard."""
    if pt > numbers[0]:
        return False
    em_cone, hadronic_cone = numbers[3], numbers[4]
    em, hadronic, em_label, hadronic_label = clustered
    around = ring_energy(em, em_label, eta, phi, 0.0, em_cone, 1.0)
    around += ring_energy(hadronic, hadronic_label, eta, phi, 0.0, em_cone, 1.0)
    if (around - mean) / spread > numbers[1] * np.log10(numbers[2] / pt):
        return False
    outside = ring_energy(hadronic, hadronic_label, eta, phi, em_cone, hadronic_cone, 1.0)
    if around + outside < mean + numbers[5] * spread:
        ring_energy(em, em_label, eta, phi, 0.0, em_cone, 0.0)
        ring_energy(hadronic, hadronic_label, eta, phi, 0.0, hadronic_cone, 0.0)
        return True
    left = mean
    for step in range(5):
        inner, outer = step * 0.05, (step + 1) * 0.05
        if outer < em_cone + 0.001:
            left = _take(em, em_label, eta, phi, inner, outer, left)
        left = _take(hadronic, hadronic_label, eta, phi, inner, outer, left)
        if left <= 0.0:
            break
    return True


@compiled
def _take(
    cells: FloatArray, label: NDArray[np.int64], eta: float, phi: float, inner: float, outer: float, energy: float
) -> float:
    """Take up to `energy` off a ring; returns what is still to be taken."""
    if energy <= 0.0:
        return 0.0
    available = ring_energy(cells, label, eta, phi, inner, outer, 1.0)
    if available <= 0.0:
        return energy
    ring_energy(cells, label, eta, phi, inner, outer, max(1.0 - energy / available, 0.0))
    return float(max(energy - available, 0.0))
