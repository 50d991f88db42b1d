"""Particle-level dijets in closed form: no generator, millions of events in seconds.

A falling spectrum, two jets that recoil against up to two softer emissions (so that the truth asymmetry is broad and
not Gaussian, and belongs to the third jet one sees) and rapidities out to 5. For tests, benchmarks and a first look;
numbers that shall mean something come from Pythia.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from samples.streams import Purpose, Stream, chunk_generator
from samples.truth import MIN_TRUTH_PT, TruthEvents, offsets_from_counts
from samples.writing import SampleOptions, write_sample

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from samples.truth import FloatArray
    from samples.writing import GeneratedSample

CHUNK_EVENTS = 50_000
PILOT_EVENTS = 50_000


@dataclass(frozen=True, slots=True)
class ToySettings:
    """Shape of the toy; the defaults resemble 13 TeV dijets."""

    collision_energy: float = 13_000.0
    """GeV."""
    pt_range: tuple[float, float] = (20.0, 3000.0)
    """GeV; pT of the balanced pair, drawn flat in its logarithm."""
    spectrum_power: float = 5.0
    """dN/dpT falls with this power."""
    emission_fraction: float = 0.09
    """Mean kT of the first emission in units of the jets' pT ..."""
    emission_offset: float = 2.0
    """... plus this many GeV."""
    soft_activity: float = 1.5
    """GeV; Gaussian width per component of what falls out of each of the two jets."""
    max_abs_eta: float = 5.0


def toy_events(n_events: int, rng: np.random.Generator, settings: ToySettings | None = None) -> TruthEvents:
    """Toy events with weights that restore the falling spectrum (1 on average at 100 GeV)."""
    settings = settings or ToySettings()
    pt_hat = _draw_pt(n_events, rng, settings)
    weight = (pt_hat / 100.0) ** (1.0 - settings.spectrum_power)
    weight *= (1.0 - 2.0 * pt_hat / settings.collision_energy) ** 10
    px, py = _momenta(pt_hat, rng, settings)
    eta = _rapidities(pt_hat, rng, settings)
    mass_over_pt = rng.lognormal(np.log(0.12), 0.35, eta.shape)
    phi_axis = rng.uniform(-np.pi, np.pi, (n_events, 1))
    pt, phi = np.hypot(px, py), np.arctan2(py, px) + phi_axis
    phi = (phi + np.pi) % (2.0 * np.pi) - np.pi
    return _flatten(pt, eta, phi, mass_over_pt * pt, weight, pt_hat, settings.max_abs_eta)


def toy_chunks(n_events: int, seed: int, stream: Stream, settings: ToySettings | None = None) -> Iterator[TruthEvents]:
    """Yield the events of one stream in chunks of `CHUNK_EVENTS`."""
    for chunk, start in enumerate(range(0, n_events, CHUNK_EVENTS)):
        rng = chunk_generator(seed, stream, chunk, Purpose.TRUTH)
        yield toy_events(min(CHUNK_EVENTS, n_events - start), rng, settings)


def write_toy(
    folder: Path,
    n_events: int,
    seed: int = 1,
    *,
    n_data: int | None = None,
    settings: ToySettings | None = None,
    options: SampleOptions | None = None,
) -> GeneratedSample:
    """Write simulation and data of `n_events` toy events each (data: `n_data`, before acceptance) into `folder`."""
    n_data = n_events if n_data is None else n_data
    return write_sample(
        folder,
        seed=seed,
        process="toy",
        simulation=toy_chunks(n_events, seed, Stream.SIMULATION, settings),
        data=toy_chunks(n_data, seed, Stream.DATA, settings),
        pilot=toy_chunks(PILOT_EVENTS, seed, Stream.PILOT, settings),
        options=options or SampleOptions(),
    )


def _draw_pt(n_events: int, rng: np.random.Generator, settings: ToySettings) -> FloatArray:
    low, high = np.log(settings.pt_range)
    return np.exp(rng.uniform(low, high, n_events))


def _momenta(pt_hat: FloatArray, rng: np.random.Generator, settings: ToySettings) -> tuple[FloatArray, FloatArray]:
    """Transverse momenta (n, 4) of jet, jet, first and second emission; their sum is zero up to soft activity."""
    n_events = len(pt_hat)
    scale = settings.emission_fraction * pt_hat + settings.emission_offset
    first_kt = np.minimum(rng.exponential(scale), 0.9 * pt_hat)
    second_kt = first_kt * rng.beta(1.0, 2.0, n_events)
    emissions = np.stack([first_kt, second_kt], axis=1)
    angle = rng.uniform(-np.pi, np.pi, (n_events, 2))
    kx, ky = emissions * np.cos(angle), emissions * np.sin(angle)
    shared = rng.uniform(0.0, 1.0, (n_events, 1))
    share = np.concatenate([shared, 1.0 - shared], axis=1)
    soft = rng.normal(0.0, settings.soft_activity, (2, n_events, 2))
    axis = np.stack([pt_hat, -pt_hat], axis=1)
    px = axis - share * kx.sum(axis=1, keepdims=True) + soft[0]
    py = -share * ky.sum(axis=1, keepdims=True) + soft[1]
    return np.concatenate([px, kx], axis=1), np.concatenate([py, ky], axis=1)


def _rapidities(pt_hat: FloatArray, rng: np.random.Generator, settings: ToySettings) -> FloatArray:
    """Rapidities (n, 4); the pair has a common boost, emissions follow one of the jets."""
    n_events = len(pt_hat)
    reach = np.log(settings.collision_energy / pt_hat)
    boost = 0.25 * reach * rng.normal(size=n_events)
    opening = 0.20 * reach * rng.normal(size=n_events)
    pair = np.stack([boost + opening, boost - opening], axis=1)
    parent = np.take_along_axis(pair, rng.integers(0, 2, (n_events, 2)), axis=1)
    # emissions within R = 0.4 of a jet would have been part of it
    step = np.sign(rng.uniform(-1.0, 1.0, (n_events, 2))) * (0.6 + rng.exponential(0.9, (n_events, 2)))
    return np.concatenate([pair, parent + step], axis=1)


def _flatten(
    pt: FloatArray,
    eta: FloatArray,
    phi: FloatArray,
    mass: FloatArray,
    weight: FloatArray,
    pt_hat: FloatArray,
    max_abs_eta: float,
) -> TruthEvents:
    order = np.argsort(-pt, axis=1)
    pt, eta, phi, mass = (np.take_along_axis(column, order, axis=1) for column in (pt, eta, phi, mass))
    kept: NDArray[np.bool_] = (pt > MIN_TRUTH_PT) & (np.abs(eta) < max_abs_eta)
    offsets = offsets_from_counts(kept.sum(axis=1))
    return TruthEvents(offsets, pt[kept], eta[kept], phi[kept], mass[kept], weight, pt_hat)
