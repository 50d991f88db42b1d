"""The layered detector on batches of generated events: particles in, tables of jets and their constituents out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from samples.absolute_calibration import (
    NO_OFFSET,
    UNCALIBRATED,
    AbsoluteCalibration,
    OffsetShape,
    calibration_of,
    offset_shape,
)
from samples.hard_process import hard_particles, parton_flavour
from samples.jet_variables import jet_variables
from samples.jets import Jets, Momenta, find_jets, ghost_areas, momenta_of, owners_of, soft_drop_mass
from samples.leptons import missing_momentum, muons
from samples.particles import PileupPool, as_particles, overlay, select_particles, stable_particles
from samples.reconstruction import Objects, Particles, Reconstruction, reconstruction, see
from samples.tables import Collection, EventTable
from samples.truth import event_of_jet, offsets_from_counts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from samples.layered_settings import LayeredDetector
    from samples.particles import GeneratedParticles
    from samples.truth import FloatArray, IntArray

JET_RADIUS = 0.4
MIN_JET_PT = 15.0
"""GeV, calibrated; softer jets are not stored."""
MIN_UNCALIBRATED_PT = 5.0
MIN_CLUSTERED_PT = 4.0
"""GeV; softer jets are not looked at at all."""
MIN_TRUTH_PT = 8.0
MIN_LARGE_PT, MIN_LARGE_TRUTH_PT = 150.0, 100.0
MAX_ABS_ETA = 4.9
MATCHING_DISTANCE = 0.75
"""A jet belongs to the nearest truth jet within this part of the radius."""
PILEUP_SPREAD = 0.26
"""Spread of the mean number of interactions over that number: that of 35 +- 9."""
RHO_ABS_ETA = 2.0
_RHO_CELLS = (8, 12)


@dataclass(frozen=True, slots=True)
class LayeredSettings:
    """How events are seen."""

    detector: LayeredDetector
    pileup: float = 30.0
    """Mean number of interactions per crossing."""
    large_radius: float | None = None
    """Radius of large jets, if they are wanted."""
    is_calibrated: bool = True
    """Without it jets keep their clustered pT and soft ones are stored too: what constants are derived from."""


@dataclass(frozen=True, slots=True)
class LayeredChain:
    """A detector with its pile-up and calibration, ready for batches of events."""

    settings: LayeredSettings
    detector: Reconstruction
    pool: PileupPool
    offset: OffsetShape
    calibration: AbsoluteCalibration
    large_calibration: AbsoluteCalibration | None


def layered_chain(settings: LayeredSettings, pool: PileupPool) -> LayeredChain:
    """Return the chain for these settings."""
    radius = settings.large_radius
    return LayeredChain(
        settings,
        reconstruction(settings.detector, settings.pileup),
        pool,
        offset_shape() if settings.is_calibrated else NO_OFFSET,
        calibration_of(JET_RADIUS) if settings.is_calibrated else UNCALIBRATED,
        None if radius is None else (calibration_of(radius) if settings.is_calibrated else UNCALIBRATED),
    )


def process_batch(batch: Any, chain: LayeredChain, rng: np.random.Generator) -> EventTable:
    """Tables of a batch from `Pythia.nextBatch`: truth (`GenJet`, `GenPart`) and what the detector shows of it."""
    generated = stable_particles(batch)
    objects, crossings = _see_events(generated, chain, rng)
    candidates = _Candidates.of(objects)
    rho = candidates.density()
    values = {**_generator_values(batch), **crossings, "Rho_fixedGridRhoFastjetAll": rho}
    truth = find_jets(_truth_momenta(generated), JET_RADIUS, MIN_TRUTH_PT)
    jets, collections = _small_jets(objects, candidates, truth, rho, chain)
    collections["GenJet"] = _truth_collection(truth)
    collections["GenPart"] = hard_particles(batch)
    flavour = parton_flavour(collections["Jet"], collections["GenPart"], JET_RADIUS)
    collections["Jet"] = collections["Jet"].with_columns(partonFlavour=flavour)
    collections["Muon"] = muons(generated, candidates.offsets, candidates.columns, rng)
    if chain.large_calibration is not None:
        collections.update(_large_jets(generated, candidates, rho, chain))
    values.update(missing_momentum(jets, collections["Muon"], [found.tracks for found in objects]))
    stored = _stored_candidates(candidates, collections)
    return EventTable(_compact(values), {name: _compact_collection(item) for name, item in stored.items()})


def _see_events(
    generated: GeneratedParticles, chain: LayeredChain, rng: np.random.Generator
) -> tuple[list[Objects], dict[str, NDArray[Any]]]:
    particles = as_particles(generated)
    tracking = chain.settings.detector.tracking
    mean = chain.settings.pileup
    interactions = np.clip(rng.normal(mean, PILEUP_SPREAD * mean, len(generated)), 0.2 * mean, 2.0 * mean)
    objects, vertices = [], np.empty(len(generated), dtype=np.int32)
    for index in range(len(generated)):
        start, stop = generated.offsets[index], generated.offsets[index + 1]
        hard = select_particles(particles, slice(start, stop))
        n_pileup = int(rng.poisson(interactions[index]))
        crossing = overlay(hard, chain.pool, n_pileup, rng, tracking.beam_spot, tracking.min_pt)
        vertices[index] = crossing.n_vertices
        objects.append(see(crossing.particles, rng, chain.detector))
    return objects, {"averageInteractions": interactions, "PV_npvs": vertices}


def pileup_density(
    chain: LayeredChain, n_crossings: int, abs_eta_edges: FloatArray, rng: np.random.Generator
) -> FloatArray:
    """Mean density of candidates over mean rho in bins of |eta|, in crossings without a hard process."""
    nothing = np.zeros(0)
    hard = Particles(nothing, nothing, nothing, nothing, nothing, np.zeros(0, dtype=np.int64), nothing)
    mean, tracking = chain.settings.pileup, chain.settings.detector.tracking
    objects = []
    for n_pileup in rng.poisson(np.clip(rng.normal(mean, PILEUP_SPREAD * mean, n_crossings), 0.2 * mean, 2.0 * mean)):
        crossing = overlay(hard, chain.pool, int(n_pileup), rng, tracking.beam_spot, tracking.min_pt)
        objects.append(see(crossing.particles, rng, chain.detector))
    candidates = _Candidates.of(objects)
    pt, eta = candidates.columns[:, 0], candidates.columns[:, 1]
    total, _ = np.histogram(np.abs(eta), abs_eta_edges, weights=pt)
    area = 4.0 * np.pi * np.diff(abs_eta_edges) * n_crossings
    return np.asarray(total / area / candidates.density().mean())


@dataclass(frozen=True, slots=True)
class _Candidates:
    """Particle-flow candidates of n events, flat."""

    offsets: IntArray
    columns: FloatArray
    """(n_candidates, 6), see `samples.reconstruction.Objects`."""

    @classmethod
    def of(cls, objects: list[Objects]) -> _Candidates:
        counts = np.array([len(found.candidates) for found in objects])
        return cls(offsets_from_counts(counts), np.concatenate([found.candidates for found in objects]))

    def momenta(self) -> Momenta:
        return momenta_of(self.offsets, *self.columns[:, :4].T)

    def density(self) -> FloatArray:
        """rho, GeV per unit area: the median over 96 cells in |eta| < 2 of their pT over their area."""
        n_events, (n_eta, n_phi) = len(self.offsets) - 1, _RHO_CELLS
        pt, eta, phi = self.columns[:, :3].T
        central = np.abs(eta) < RHO_ABS_ETA
        row = ((eta[central] + RHO_ABS_ETA) / (2.0 * RHO_ABS_ETA) * n_eta).astype(np.int64)
        column = ((phi[central] + np.pi) / (2.0 * np.pi) * n_phi).astype(np.int64) % n_phi
        cell = (event_of_jet(self.offsets)[central] * n_eta + row) * n_phi + column
        total = np.bincount(cell, pt[central], n_events * n_eta * n_phi).reshape(n_events, -1)
        area = 2.0 * RHO_ABS_ETA / n_eta * 2.0 * np.pi / n_phi
        return np.asarray(np.median(total, axis=1) / area)


def _generator_values(batch: Any) -> dict[str, NDArray[Any]]:
    import awkward as ak

    weight = ak.to_numpy(ak.firsts(batch.info.weights)).astype(np.float64)
    return {"genWeight": weight, "Generator_binvar": np.sqrt(ak.to_numpy(batch.info.pT2Hat))}


def _truth_momenta(generated: GeneratedParticles) -> Momenta:
    kept = np.abs(generated.identity) != 13
    event = event_of_jet(generated.offsets)[kept]
    offsets = offsets_from_counts(np.bincount(event, minlength=len(generated)))
    columns = (generated.px, generated.py, generated.pz, generated.energy)
    return Momenta(offsets, *(column[kept] for column in columns))


def _is_stored(truth: Jets) -> NDArray[np.bool_]:
    return np.abs(truth.eta) < MAX_ABS_ETA + 0.1


def stored_index(index: IntArray, event: IntArray, offsets: IntArray, kept: NDArray[np.bool_]) -> IntArray:
    """Index among the truth jets of an event that are `kept`, of an index among all of them; -1 for one that is not.

    `index` and `event` are those of reconstructed jets, (n,); `offsets` and `kept` of all truth jets.
    """
    before = np.concatenate(([0], np.cumsum(kept)))
    found = np.flatnonzero(index >= 0)
    target = offsets[event[found]] + index[found]
    result = np.full(len(index), -1, dtype=np.int64)
    result[found] = np.where(kept[target], before[target] - before[offsets[event[found]]], -1)
    return result


def _truth_collection(truth: Jets) -> Collection:
    kept = _is_stored(truth)
    counts = np.bincount(truth.event[kept], minlength=len(truth.offsets) - 1)
    columns = {"pt": truth.pt, "eta": truth.eta, "phi": truth.phi, "mass": truth.mass}
    return Collection(counts, {name: column[kept] for name, column in columns.items()})


def _small_jets(
    objects: list[Objects], candidates: _Candidates, truth: Jets, rho: FloatArray, chain: LayeredChain
) -> tuple[Collection, dict[str, Collection]]:
    found = find_jets(candidates.momenta(), JET_RADIUS, MIN_CLUSTERED_PT)
    area = _areas(found, JET_RADIUS)
    scale = _scale(found, area, rho, chain.offset, chain.calibration)
    matched = _matched(found, truth, MATCHING_DISTANCE * JET_RADIUS)
    columns = {
        **_momentum_columns(found, scale),
        "area": area,
        "rawFactor": 1.0 - 1.0 / np.maximum(scale, 1e-3),
        "genJetIdx": stored_index(matched, found.event, truth.offsets, _is_stored(truth)),
    }
    columns.update(jet_variables(found, candidates.columns, candidates.offsets, objects, columns["pt"], JET_RADIUS))
    return _store(found, columns, MIN_JET_PT if chain.settings.is_calibrated else MIN_UNCALIBRATED_PT, "Jet")


def _large_jets(
    generated: GeneratedParticles, candidates: _Candidates, rho: FloatArray, chain: LayeredChain
) -> dict[str, Collection]:
    radius, calibration = chain.settings.large_radius, chain.large_calibration
    if radius is None or calibration is None:
        return {}
    particles = _truth_momenta(generated)
    truth = find_jets(particles, radius, MIN_LARGE_TRUTH_PT)
    groomed = soft_drop_mass(particles, truth, radius)
    momenta = candidates.momenta()
    found = find_jets(momenta, radius, 0.5 * MIN_LARGE_PT)
    area = _areas(found, radius)
    scale = _scale(found, area, rho, chain.offset, calibration)
    columns = {
        **_momentum_columns(found, scale),
        "msoftdrop": scale * soft_drop_mass(momenta, found, radius),
        "area": area,
        "rawFactor": 1.0 - 1.0 / np.maximum(scale, 1e-3),
        "genJetAK8Idx": _matched(found, truth, MATCHING_DISTANCE * radius),
        "nConstituents": np.diff(found.constituent_offsets),
    }
    _, collections = _store(found, columns, MIN_LARGE_PT, "FatJet")
    columns = {"pt": truth.pt, "eta": truth.eta, "phi": truth.phi, "mass": truth.mass, "msoftdrop": groomed}
    collections["GenJetAK8"] = Collection(np.diff(truth.offsets), columns)
    return collections


def _areas(found: Jets, radius: float) -> FloatArray:
    pt, eta, phi = found.pt, found.rapidity, found.phi
    parts = [
        ghost_areas(pt[start:stop], eta[start:stop], phi[start:stop], radius)
        for start, stop in zip(found.offsets[:-1], found.offsets[1:], strict=True)
    ]
    return np.concatenate(parts) if parts else np.zeros(0)


def _scale(
    found: Jets, area: FloatArray, rho: FloatArray, offset: OffsetShape, calibration: AbsoluteCalibration
) -> FloatArray:
    """Calibrated over clustered pT; 0 where the offset takes all."""
    pt, eta = found.pt, found.eta
    left = np.maximum(pt - offset.offset(rho[found.event], area, eta), 0.0)
    return np.asarray(left / pt * calibration.correction(left, eta))


def _momentum_columns(found: Jets, scale: FloatArray) -> dict[str, NDArray[Any]]:
    return {"pt": scale * found.pt, "eta": found.eta, "phi": found.phi, "mass": scale * found.mass}


def _matched(found: Jets, truth: Jets, distance: float) -> IntArray:
    """Index within the event of the nearest truth jet within `distance`; -1 for none."""
    pt, eta, phi = np.ones(len(truth.px)), truth.eta, truth.phi
    parts = []
    for event in range(len(found.offsets) - 1):
        jets, truths = slice(*found.offsets[event : event + 2]), slice(*truth.offsets[event : event + 2])
        parts.append(owners_of(found.eta[jets], found.phi[jets], pt[truths], eta[truths], phi[truths], distance))
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def _store(
    found: Jets, columns: dict[str, NDArray[Any]], min_pt: float, name: str
) -> tuple[Collection, dict[str, Collection]]:
    """Jets worth storing, of falling calibrated pT, with the table that leads to their candidates.

    Returns all jets as well, in the order of `found`.
    """
    n_events = len(found.offsets) - 1
    everything = Collection(np.diff(found.offsets), columns)
    kept = np.flatnonzero((columns["pt"] > min_pt) & (np.abs(columns["eta"]) < MAX_ABS_ETA))
    order = kept[np.lexsort((-columns["pt"][kept], found.event[kept]))]
    counts = np.bincount(found.event[order], minlength=n_events)
    jets = Collection(counts, {key: column[order] for key, column in columns.items()})
    sizes = np.diff(found.constituent_offsets)[order]
    starts = np.repeat(found.constituent_offsets[:-1][order], sizes)
    steps = np.arange(sizes.sum()) - np.repeat(offsets_from_counts(sizes)[:-1], sizes)
    event = np.repeat(found.event[order], sizes)
    within = np.arange(len(order)) - np.repeat(jets.offsets[:-1], counts)
    links = {"jetIdx": np.repeat(within, sizes), "pFCandsIdx": found.constituents[starts + steps]}
    return everything, {name: jets, f"{name}PFCands": Collection(np.bincount(event, minlength=n_events), links)}


def _stored_candidates(candidates: _Candidates, collections: dict[str, Collection]) -> dict[str, Collection]:
    """Add the candidates of stored jets, in their old order, and let the links point to them."""
    n_all = len(candidates.columns)
    linked = {name: item for name, item in collections.items() if name.endswith("PFCands")}
    positions = {
        name: candidates.offsets[:-1][item.event] + item.columns["pFCandsIdx"] for name, item in linked.items()
    }
    used = np.zeros(n_all, dtype=bool)
    for position in positions.values():
        used[position] = True
    event = event_of_jet(candidates.offsets)
    counts = np.bincount(event[used], minlength=len(candidates.offsets) - 1)
    number = np.cumsum(used) - 1
    first = offsets_from_counts(counts)[:-1]
    stored = dict(collections)
    for name, item in linked.items():
        index = number[positions[name]] - first[item.event]
        stored[name] = Collection(item.counts, {**item.columns, "pFCandsIdx": index})
    pt, eta, phi, mass, charge, identity = candidates.columns[used].T
    stored["PFCands"] = Collection(
        counts,
        {
            "pt": pt,
            "eta": eta,
            "phi": phi,
            "mass": mass,
            "charge": charge.astype(np.int32),
            "pdgId": identity.astype(np.int32),
        },
    )
    return stored


def _compact(columns: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    exact = ("genWeight", "Generator_binvar")
    stored = {"i": np.int32, "f": np.float32, "b": np.bool_}
    return {
        name: column if name in exact else column.astype(stored[column.dtype.kind]) for name, column in columns.items()
    }


def _compact_collection(collection: Collection) -> Collection:
    return Collection(collection.counts, _compact(dict(collection.columns)))
