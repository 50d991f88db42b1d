"""Stable particles of generated events as flat arrays, and pile-up from a pool of minimum-bias events.

A crossing gets a Poisson number of pool events, each turned by a random angle, mirrored or not, and moved along the
beam. The pool is used many times over: of n events a crossing of 30 repeats a given pair once in n^2 / 900 crossings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from samples.compiled import compiled
from samples.reconstruction import Particles
from samples.showers import BARYON, ELECTRON, MESON, MUON, PHOTON
from samples.truth import offsets_from_counts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from samples.truth import FloatArray, IntArray

NEUTRINOS = (12, 14, 16)
MAX_ABS_ETA = 6.0
_NEUTRON_MASS = 0.9396
_DETECTED_ETA = 5.0


@dataclass(frozen=True, slots=True)
class GeneratedParticles:
    """Stable particles of n events without neutrinos, flat; particles of event i are offsets[i]:offsets[i + 1]."""

    offsets: IntArray
    px: FloatArray
    py: FloatArray
    pz: FloatArray
    energy: FloatArray
    """GeV."""
    identity: NDArray[np.int32]
    """PDG code."""

    def __len__(self) -> int:
        """Return the number of events."""
        return len(self.offsets) - 1


def stable_particles(batch: Any) -> GeneratedParticles:
    """Stable visible particles (muons too) within |eta| < 6 of a batch from `Pythia.nextBatch`."""
    import awkward as ak

    particles = batch.prt
    counts = ak.to_numpy(ak.num(particles, axis=1))
    flat = ak.flatten(particles, axis=1)
    identity, status = ak.to_numpy(flat.id), ak.to_numpy(flat.status)
    px, py, pz, energy = (ak.to_numpy(flat.p[name]) for name in ("px", "py", "pz", "e"))
    kept = (status > 0) & ~np.isin(np.abs(identity), NEUTRINOS)
    kept &= np.abs(pz) < np.sinh(MAX_ABS_ETA) * np.hypot(px, py)
    event = np.repeat(np.arange(len(counts)), counts)[kept]
    offsets = offsets_from_counts(np.bincount(event, minlength=len(counts)))
    return GeneratedParticles(offsets, px[kept], py[kept], pz[kept], energy[kept], identity[kept])


def kind_of(identity: NDArray[np.int32]) -> NDArray[np.int64]:
    """Kind of each particle for the calorimeter, see `samples.showers`."""
    absolute = np.abs(identity)
    kind = np.full(len(identity), MESON, dtype=np.int64)
    kind[(absolute > 1000) & (absolute < 10000)] = BARYON
    kind[absolute == 22] = PHOTON
    kind[absolute == 11] = ELECTRON
    kind[absolute == 13] = MUON
    return kind


def charge_of(identity: NDArray[np.int32]) -> FloatArray:
    """Charge of stable particles, (n,)."""
    charged = {11: -1.0, 13: -1.0, 211: 1.0, 321: 1.0, 2212: 1.0, 3112: -1.0, 3222: 1.0, 3312: -1.0, 3334: -1.0}
    absolute = np.abs(identity)
    charge = np.zeros(len(identity))
    for code, value in charged.items():
        charge[absolute == code] = value
    return charge * np.sign(identity)


def as_particles(generated: GeneratedParticles) -> Particles:
    """All particles, flat, as the detector takes them."""
    pt = np.hypot(generated.px, generated.py)
    kind = kind_of(generated.identity)
    # baryons stay, antibaryons take one of the detector's along
    visible = generated.energy - np.where(kind == BARYON, _NEUTRON_MASS * np.sign(generated.identity), 0.0)
    return Particles(
        pt,
        np.arcsinh(generated.pz / pt),
        np.arctan2(generated.py, generated.px),
        np.maximum(visible, 1e-3),
        charge_of(generated.identity),
        kind,
        np.zeros(len(pt)),
    )


def select_particles(particles: Particles, selected: NDArray[np.bool_] | slice) -> Particles:
    """Return some of the particles."""
    return Particles(
        particles.pt[selected],
        particles.eta[selected],
        particles.phi[selected],
        particles.energy[selected],
        particles.charge[selected],
        particles.kind[selected],
        particles.offset[selected],
    )


class PileupPool(NamedTuple):
    """Minimum-bias events; `particles` are flat, those of event i at offsets[i]:offsets[i + 1]."""

    offsets: IntArray
    particles: Particles


def pileup_pool(generated: GeneratedParticles) -> PileupPool:
    """Return the pool made of these events, with what the detector covers (|eta| < 5)."""
    particles = as_particles(generated)
    seen = np.abs(particles.eta) < _DETECTED_ETA
    event = np.repeat(np.arange(len(generated)), np.diff(generated.offsets))[seen]
    offsets = offsets_from_counts(np.bincount(event, minlength=len(generated)))
    return PileupPool(offsets, select_particles(particles, seen))


@dataclass(frozen=True, slots=True)
class Crossing:
    """One event with its pile-up."""

    particles: Particles
    n_vertices: int
    """Reconstructed ones: with at least two tracks, and not within 1 mm of another."""


def overlay(
    hard: Particles, pool: PileupPool, n_pileup: int, rng: np.random.Generator, beam_spot: float, track_pt: float
) -> Crossing:
    """Return the particles of a hard event and of `n_pileup` pool events; the hard vertex is at offset 0."""
    n_pool = len(pool.offsets) - 1
    chosen = rng.integers(0, max(n_pool, 1), n_pileup) if n_pool else np.zeros(0, dtype=np.int64)
    turn = rng.uniform(-np.pi, np.pi, len(chosen))
    mirror = rng.choice(np.array([-1.0, 1.0]), len(chosen))
    vertex = rng.normal(0.0, beam_spot, len(chosen)) - rng.normal(0.0, beam_spot)
    particles, n_tracks = _overlay(hard, pool.offsets, pool.particles, chosen, turn, mirror, vertex, track_pt)
    seen = np.sort(np.concatenate(([0.0], vertex[n_tracks >= 2])))
    return Crossing(particles, 1 + int(np.count_nonzero(np.diff(seen) > 1.0)))


@compiled
def _overlay(
    hard: Particles,
    offsets: IntArray,
    pool: Particles,
    chosen: IntArray,
    turn: FloatArray,
    mirror: FloatArray,
    vertex: FloatArray,
    track_pt: float,
) -> tuple[Particles, IntArray]:
    n_hard = len(hard.pt)
    total = n_hard
    for event in chosen:
        total += offsets[event + 1] - offsets[event]
    pt, eta, phi, energy = np.empty(total), np.empty(total), np.empty(total), np.empty(total)
    charge, kind, offset = np.empty(total), np.empty(total, dtype=np.int64), np.zeros(total)
    pt[:n_hard], eta[:n_hard], phi[:n_hard], energy[:n_hard] = hard.pt, hard.eta, hard.phi, hard.energy
    charge[:n_hard], kind[:n_hard] = hard.charge, hard.kind
    n_tracks = np.zeros(len(chosen), dtype=np.int64)
    to = n_hard
    for number, event in enumerate(chosen):
        for index in range(offsets[event], offsets[event + 1]):
            pt[to], eta[to], energy[to] = pool.pt[index], mirror[number] * pool.eta[index], pool.energy[index]
            phi[to] = (pool.phi[index] + turn[number] + np.pi) % (2.0 * np.pi) - np.pi
            charge[to], kind[to], offset[to] = pool.charge[index], pool.kind[index], vertex[number]
            if charge[to] != 0.0 and pt[to] > track_pt and abs(eta[to]) < 2.5:
                n_tracks[number] += 1
            to += 1
    return Particles(pt, eta, phi, energy, charge, kind, offset), n_tracks
