"""From the particles of one crossing to particle-flow candidates, clusters, tracks and muon segments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from samples.cells import (
    EM_BINS,
    HADRONIC_BINS,
    REFERENCE_PILEUP,
    TILE_END_BIN,
    CellNoise,
    Cells,
    add_noise,
    add_spots,
    add_square,
    cell_noise,
    central_eta,
    forward_eta,
    new_cells,
)
from samples.clusters import find_clusters, sum_clusters
from samples.compiled import compiled, inlined
from samples.flow import Clustered, flow_numbers, subtract_track
from samples.showers import ELECTRON, MUON, ShowerModel, measure, shower, shower_model
from samples.slabs import DEAD, ETA_STEP, FCAL0, MAX_SLABS, N_ETA, N_LAYERS
from samples.tracks import calorimeter_phi, find_tracks, reaches_calorimeter, tracking_numbers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from samples.layered_settings import LayeredDetector
    from samples.truth import FloatArray

MIN_CANDIDATE_PT = 0.1
"""GeV; softer candidates are dropped."""
SEGMENT_PT, SEGMENT_ETA = 3.0, 2.7
"""A muon makes a segment from this pT (GeV) up to this |eta|."""
_PION_MASS = 0.13957
_FORWARD_WALL = 9


class Particles(NamedTuple):
    """Particles of one crossing, each (n,)."""

    pt: FloatArray
    eta: FloatArray
    phi: FloatArray
    energy: FloatArray
    """GeV that the calorimeter can see: without the mass of a baryon, with twice that of an antibaryon."""
    charge: FloatArray
    kind: NDArray[np.int64]
    """See `samples.showers`."""
    offset: FloatArray
    """mm along the beam from the hard interaction."""


class Objects(NamedTuple):
    """What is seen of one crossing."""

    candidates: FloatArray
    """(n, 6): pt, eta, phi, mass, charge, pdgId; momenta in GeV at the electromagnetic scale."""
    clusters: FloatArray
    """(n, 2 + 14): eta, phi and energy of the layers before tracks are taken off."""
    tracks: FloatArray
    """(n, 3): pt, eta, phi of tracks from the hard interaction."""
    segments: FloatArray
    """(n, 2): eta, phi of muon segments."""


class _Model(NamedTuple):
    """Everything about the detector that the kernels read."""

    showers: ShowerModel
    size: FloatArray
    tracking: FloatArray
    flow: FloatArray
    thresholds: FloatArray
    em_eta: FloatArray
    hadronic_eta: FloatArray
    forward_eta: FloatArray


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """A detector ready to see events."""

    model: _Model
    noise: CellNoise
    cells: Cells
    """Scratch space, so not for two threads at a time."""


def reconstruction(detector: LayeredDetector, pileup: float = REFERENCE_PILEUP) -> Reconstruction:
    """Return the detector with thresholds for a mean number of interactions per crossing."""
    numbers = detector.showers
    model = _Model(
        shower_model(detector),
        np.array([numbers.em_radius, numbers.hadron_radius, numbers.fcal_radius, numbers.segments_per_gev]),
        tracking_numbers(detector.tracking),
        flow_numbers(detector.flow),
        np.array([detector.noise.seed, detector.noise.grow]),
        central_eta(EM_BINS),
        central_eta(HADRONIC_BINS),
        forward_eta(),
    )
    return Reconstruction(model, cell_noise(detector, pileup), new_cells())


def see(particles: Particles, rng: np.random.Generator, detector: Reconstruction) -> Objects:
    """Return what the detector sees of one crossing."""
    candidates, clusters, tracks, segments = _see(rng, particles, detector.model, detector.noise, detector.cells)
    return Objects(candidates, clusters, tracks, segments)


@inlined
def _deposit(
    rng: np.random.Generator,
    particles: Particles,
    index: int,
    model: _Model,
    cells: Cells,
    em: FloatArray,
    had: FloatArray,
) -> float:
    """Put one particle into the cells; returns the energy (GeV) that leaves the calorimeter."""
    eta, kind = particles.eta[index], particles.kind[index]
    eta_bin = int(abs(eta) / ETA_STEP)
    showers = model.showers
    leak = shower(rng, kind, particles.energy[index], eta_bin, showers, em, had)
    measure(rng, kind, eta_bin, showers, em, had)
    phi = calorimeter_phi(particles.pt[index], eta, particles.phi[index], particles.charge[index], model.tracking)
    near, far = showers.slabs.radius[eta_bin]
    forward = showers.slabs.layer[eta_bin, 0] == FCAL0
    for slab in range(MAX_SLABS):
        layer = showers.slabs.layer[eta_bin, slab]
        if layer == DEAD:
            continue
        distance = near if layer < 4 or forward else far
        if em[slab] > 0.0:
            add_square(cells, layer, eta, phi, model.size[0] / distance, em[slab])
        if had[slab] > 0.0:
            size = model.size[2] if forward else model.size[1]
            add_spots(rng, cells, layer, eta, phi, size / distance, had[slab])
    return float(leak)


@compiled
def _fill(rng: np.random.Generator, particles: Particles, model: _Model, cells: Cells) -> FloatArray:
    """Put all particles into the cells; returns muon segments (n, 2)."""
    em, had = np.zeros(MAX_SLABS), np.zeros(MAX_SLABS)
    segments = np.empty((256, 2))
    n_segments = 0
    for index in range(len(particles.pt)):
        eta, pt, charge = particles.eta[index], particles.pt[index], particles.charge[index]
        if abs(eta) >= N_ETA * ETA_STEP or not reaches_calorimeter(pt, eta, charge, model.tracking):
            continue
        leak = _deposit(rng, particles, index, model, cells, em, had)
        if particles.kind[index] == MUON:
            made = 1 if pt > SEGMENT_PT and abs(eta) < SEGMENT_ETA else 0
        elif leak > 1.0 and abs(eta) < SEGMENT_ETA:
            made = rng.poisson(model.size[3] * leak)
        else:
            made = 0
        for _ in range(min(made, 256 - n_segments)):
            segments[n_segments, 0] = eta + 0.05 * rng.standard_normal()
            segments[n_segments, 1] = particles.phi[index] + 0.05 * rng.standard_normal()
            n_segments += 1
    return segments[:n_segments].copy()


@compiled
def _collect_clusters(
    energy: FloatArray, where: FloatArray, first_layer: int, depth: int, out: FloatArray, start: int
) -> int:
    """Append clusters of one grid to `out`, layers from number `first_layer`; returns where the next ones go."""
    for index in range(len(energy)):
        if energy[index].sum() <= 0.0:
            continue
        out[start, 0], out[start, 1] = where[index, 0], where[index, 1]
        is_end_cap = depth == 4 and first_layer == 4 and abs(where[index, 0]) >= TILE_END_BIN * 0.1
        for layer in range(depth):
            number = first_layer + layer + (3 if is_end_cap else 0)
            # tiles have three layers: what spills over from the end-cap goes to the last
            number = 6 if first_layer == 4 and not is_end_cap and layer == 3 else number
            out[start, 2 + number] += energy[index, layer]
        start += 1
    return start


@compiled
def _collect_neutrals(
    energy: FloatArray, where: FloatArray, identity: int, other: int, out: FloatArray, start: int
) -> int:
    """Append massless candidates; `other` where the first layer has less than half of the energy."""
    for index in range(len(energy)):
        total = energy[index].sum()
        pt = total / np.cosh(where[index, 0])
        if pt < MIN_CANDIDATE_PT:
            continue
        out[start, 0], out[start, 1], out[start, 2] = pt, where[index, 0], where[index, 1]
        out[start, 3], out[start, 4] = 0.0, 0.0
        out[start, 5] = identity if energy[index, 0] > 0.5 * total else other
        start += 1
    return start


@compiled
def _see(
    rng: np.random.Generator, particles: Particles, model: _Model, noise: CellNoise, cells: Cells
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    cells.em[:] = 0.0
    cells.hadronic[:] = 0.0
    cells.forward[:] = 0.0
    segments = _fill(rng, particles, model, cells)
    add_noise(rng, cells.em, noise.em_drawn)
    add_noise(rng, cells.hadronic, noise.hadronic_drawn)
    add_noise(rng, cells.forward, noise.forward_drawn)
    seed, grow = model.thresholds
    em_label = np.empty(cells.em.shape[:2], dtype=np.int64)
    hadronic_label = np.empty(cells.hadronic.shape[:2], dtype=np.int64)
    forward_label = np.empty(cells.forward.shape[:2], dtype=np.int64)
    n_em = find_clusters(cells.em, noise.em_expected, seed, grow, 0, em_label)
    n_had = find_clusters(cells.hadronic, noise.hadronic_expected, seed, grow, 0, hadronic_label)
    n_far = find_clusters(cells.forward, noise.forward_expected, seed, grow, _FORWARD_WALL, forward_label)
    clusters = np.zeros((n_em + n_had + n_far, 2 + N_LAYERS))
    energy, where = sum_clusters(cells.em, em_label, n_em, model.em_eta)
    n_clusters = _collect_clusters(energy, where, 0, 4, clusters, 0)
    energy, where = sum_clusters(cells.hadronic, hadronic_label, n_had, model.hadronic_eta)
    n_clusters = _collect_clusters(energy, where, 4, 4, clusters, n_clusters)
    far, far_where = sum_clusters(cells.forward, forward_label, n_far, model.forward_eta)
    n_clusters = _collect_clusters(far, far_where, 11, 3, clusters, n_clusters)
    is_muon = particles.kind == MUON
    found, pt = find_tracks(
        rng,
        particles.pt,
        particles.eta,
        particles.phi,
        particles.charge,
        particles.offset,
        is_muon,
        model.tracking,
    )
    clustered = Clustered(cells.em, cells.hadronic, em_label, hadronic_label)
    tracks = np.empty((len(found), 3))
    candidates = np.empty((len(found) + n_em + n_had + n_far, 6))
    n_candidates = 0
    for order, index in enumerate(found):
        eta, phi, charge = particles.eta[index], particles.phi[index], particles.charge[index]
        tracks[order, 0], tracks[order, 1], tracks[order, 2] = pt[order], eta, phi
        is_electron = particles.kind[index] == ELECTRON
        entry = calorimeter_phi(pt[order], eta, phi, charge, model.tracking)
        weight = subtract_track(clustered, eta, entry, pt[order], is_electron, model.flow)
        if weight * pt[order] > MIN_CANDIDATE_PT:
            row = candidates[n_candidates]
            row[0], row[1], row[2] = weight * pt[order], eta, phi
            row[3], row[4] = weight * _PION_MASS, charge
            # particle code of the positive lepton is negative
            row[5] = -11.0 * charge if is_electron else 211.0 * charge
            n_candidates += 1
    energy, where = sum_clusters(cells.em, em_label, n_em, model.em_eta)
    n_candidates = _collect_neutrals(energy, where, 22, 22, candidates, n_candidates)
    energy, where = sum_clusters(cells.hadronic, hadronic_label, n_had, model.hadronic_eta)
    n_candidates = _collect_neutrals(energy, where, 130, 130, candidates, n_candidates)
    n_candidates = _collect_neutrals(far, far_where, 2, 1, candidates, n_candidates)
    return candidates[:n_candidates].copy(), clusters[:n_clusters].copy(), tracks, segments
