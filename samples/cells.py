"""Calorimeter cells of one event: three grids, what particles leave in them, noise.

Towers are 0.025 x 0.025 in the electromagnetic calorimeter (4 layers), 0.1 x 0.1 in the hadronic one (4 layers: Tile0-2
or HEC0-3, by |eta|), both up to |eta| = 3.2, and 0.2 x 0.2 in the forward calorimeter (3 layers).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from samples.compiled import compiled, inlined

if TYPE_CHECKING:
    from samples.layered_settings import LayeredDetector
    from samples.truth import FloatArray

CENTRAL_END, FORWARD_END = 3.2, 5.0
EM_BINS, HADRONIC_BINS, FORWARD_ETA_BINS, FORWARD_PHI_BINS = 256, 64, 18, 32
TILE_END_BIN = 16
"""Hadronic towers with this or a larger distance (in towers) from eta = 0 are read by the end-cap."""
REFERENCE_PILEUP = 30.0
SOFT = 0.02
"""GeV; deposits below, far under the noise, go to one cell."""
LAST_CENTRAL = 10
"""Number of the last layer that is not forward."""


class Cells(NamedTuple):
    """Energies (eta, phi, layer) in GeV."""

    em: FloatArray
    hadronic: FloatArray
    forward: FloatArray


class CellNoise(NamedTuple):
    """Widths (eta, layer) in GeV: `*_drawn` of the noise, `*_expected` of noise and pile-up, for the thresholds."""

    em_drawn: FloatArray
    hadronic_drawn: FloatArray
    forward_drawn: FloatArray
    em_expected: FloatArray
    hadronic_expected: FloatArray
    forward_expected: FloatArray


def new_cells() -> Cells:
    """Return empty cells."""
    return Cells(
        np.zeros((EM_BINS, EM_BINS, 4)),
        np.zeros((HADRONIC_BINS, HADRONIC_BINS, 4)),
        np.zeros((FORWARD_ETA_BINS, FORWARD_PHI_BINS, 3)),
    )


def central_eta(n_bins: int) -> FloatArray:
    """Centres of the towers of a central grid."""
    return (np.arange(n_bins) + 0.5) * 2.0 * CENTRAL_END / n_bins - CENTRAL_END


def forward_eta() -> FloatArray:
    """Centres of the forward towers: nine of negative eta from -3.3 outward, then nine of positive eta."""
    side = CENTRAL_END + 0.2 * (np.arange(FORWARD_ETA_BINS // 2) + 0.5)
    return np.concatenate([-side, side])


def cell_noise(detector: LayeredDetector, pileup: float) -> CellNoise:
    """Noise of a detector; `pileup` is the mean number of interactions that the thresholds are set for."""
    noise = detector.noise
    em_eta, hadronic_eta, far_eta = central_eta(EM_BINS), central_eta(HADRONIC_BINS), forward_eta()
    em = np.tile(np.array(noise.em), (EM_BINS, 1))
    em[np.abs(em_eta) > detector.material.presampler_end, 0] = 0.0
    is_tile = (np.abs(hadronic_eta) < detector.material.tile_end)[:, np.newaxis]
    hadronic = np.where(is_tile, np.array([*noise.tile, 0.0]), np.array(noise.hec))
    forward = np.tile(np.array(noise.fcal), (FORWARD_ETA_BINS, 1))
    scale = np.sqrt(pileup / REFERENCE_PILEUP)

    def expected(drawn: FloatArray, transverse: tuple[float, ...], eta: FloatArray) -> FloatArray:
        return np.asarray(np.hypot(drawn, scale * np.array(transverse) * np.cosh(eta)[:, np.newaxis]))

    return CellNoise(
        noise.scale * em,
        noise.scale * hadronic,
        noise.scale * forward,
        expected(em, noise.pileup_em, em_eta),
        expected(hadronic, noise.pileup_hadronic, hadronic_eta),
        expected(forward, noise.pileup_fcal, far_eta),
    )


@compiled
def add_noise(rng: np.random.Generator, cells: FloatArray, drawn: FloatArray) -> None:
    """Add noise of the given widths (eta, layer) to cells (eta, phi, layer)."""
    for i in range(cells.shape[0]):
        for j in range(cells.shape[1]):
            for layer in range(cells.shape[2]):
                if drawn[i, layer] > 0.0:
                    cells[i, j, layer] += drawn[i, layer] * rng.standard_normal()


@inlined
def forward_bin(eta: float) -> int:
    """Row of the forward grid; what lies before or beyond it goes to its edge."""
    row = min(max(int((abs(eta) - 3.2) / 0.2), 0), 8)
    return row + 9 if eta > 0.0 else row


@inlined
def add_central(cells: FloatArray, layer: int, eta: float, phi: float, half_width: float, energy: float) -> None:
    """Add energy that is spread evenly over a square of this half width, to at most 3 x 3 towers of a central grid."""
    n_bins = cells.shape[0]
    eta_step, phi_step = 6.4 / n_bins, 2.0 * np.pi / n_bins
    x, y = (eta + 3.2) / eta_step, (phi + np.pi) / phi_step
    dx, dy = min(half_width / eta_step, 1.0), min(half_width / phi_step, 1.0)
    for i in range(int(np.floor(x - dx)), int(np.floor(x + dx)) + 1):
        share_x = (min(x + dx, i + 1.0) - max(x - dx, float(i))) / (2.0 * dx)
        row = min(max(i, 0), n_bins - 1)
        for j in range(int(np.floor(y - dy)), int(np.floor(y + dy)) + 1):
            share_y = (min(y + dy, j + 1.0) - max(y - dy, float(j))) / (2.0 * dy)
            cells[row, j % n_bins, layer] += energy * share_x * share_y


@inlined
def add_square(cells: Cells, layer: int, eta: float, phi: float, half_width: float, energy: float) -> None:
    """Add energy to layer number `layer` (see `samples.slabs.LAYERS`), spread over a square around (eta, phi)."""
    if energy < SOFT or layer > LAST_CENTRAL:
        add_point(cells, layer, eta, phi, energy)
    elif layer < 4:
        add_central(cells.em, layer, eta, phi, half_width, energy)
    else:
        add_central(cells.hadronic, layer - 4 if layer < 7 else layer - 7, eta, phi, half_width, energy)


@inlined
def add_point(cells: Cells, layer: int, eta: float, phi: float, energy: float) -> None:
    """Add energy to the one cell of layer number `layer` at (eta, phi)."""
    turn = (phi + np.pi) / (2.0 * np.pi)
    if layer < 4:
        row = min(max(int((eta + 3.2) * (EM_BINS / 6.4)), 0), EM_BINS - 1)
        cells.em[row, int(turn * EM_BINS) % EM_BINS, layer] += energy
    elif layer <= LAST_CENTRAL:
        row = min(max(int((eta + 3.2) * (HADRONIC_BINS / 6.4)), 0), HADRONIC_BINS - 1)
        depth = layer - 4 if layer < 7 else layer - 7
        cells.hadronic[row, int(turn * HADRONIC_BINS) % HADRONIC_BINS, depth] += energy
    else:
        cells.forward[forward_bin(eta), int(turn * FORWARD_PHI_BINS) % FORWARD_PHI_BINS, layer - 11] += energy


@inlined
def add_spots(
    rng: np.random.Generator,
    cells: Cells,
    layer: int,
    eta: float,
    phi: float,
    radius: float,
    energy: float,
) -> None:
    """Add hadronic energy in 1 to 6 spots around (eta, phi), half of them within `radius` (in eta and phi).

    The radial profile 2 r R^2 / (r^2 + R^2)^2 is that of GFLASH, cut at 5 R.
    """
    if energy < SOFT:
        add_point(cells, layer, eta, phi, energy)
        return
    n_spots = 1 if energy < 1.0 else (3 if energy < 10.0 else 6)
    for _ in range(n_spots):
        drawn = rng.random()
        distance = radius * min(np.sqrt(drawn / (1.0 - drawn)), 5.0)
        angle = 2.0 * np.pi * rng.random()
        spot_eta, spot_phi = eta + distance * np.cos(angle), phi + distance * np.sin(angle)
        add_point(cells, layer, spot_eta, spot_phi, energy / n_spots)
