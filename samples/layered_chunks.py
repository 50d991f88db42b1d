"""Chunks of the layered detector: what a worker does, and how the chunks are read again.

A chunk is generated and seen in whole batches from random numbers of its own, so that it has the same content for any
number of workers and after a resumed job. The minimum-bias pools come first, one per stream, as chunks too.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from samples.durable import ChunkTask
from samples.layered import LayeredSettings, layered_chain, process_batch
from samples.particles import GeneratedParticles, PileupPool, pileup_pool, stable_particles
from samples.processes import minimum_bias_lines, start_pythia
from samples.streams import Purpose, Stream, chunk_generator, pythia_seed
from samples.tables import EventTable, join_tables, table_from_arrays
from samples.truth import TruthEvents, offsets_from_counts, truth_pt_avg

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from samples.durable import ChunkFolder
    from samples.processes import ProcessSettings

CHUNK_EVENTS = 1000
BATCH_EVENTS = 50
POOL_CHUNK_EVENTS = 4000
_POOL_CHUNKS_PER_STREAM = 1000
_POOL_COLUMNS = ("px", "py", "pz", "energy")


@dataclass(frozen=True, slots=True)
class PoolJob:
    """Make minimum-bias events for the pool of one stream."""

    folder: ChunkFolder
    settings: ProcessSettings
    seed: int
    task: ChunkTask

    def is_done(self) -> bool:
        """Whether they are there."""
        return self.folder.has(self.task, "counts")

    def run(self) -> None:
        """Generate and store them."""
        settings, task = self.settings, self.task
        seed = pythia_seed(self.seed, Stream.PILEUP, task.chunk)
        pythia = start_pythia(minimum_bias_lines(settings.tune, settings.collision_energy, seed))
        parts: list[GeneratedParticles] = []
        while sum(len(part) for part in parts) < task.n_events:
            parts.append(stable_particles(pythia.nextBatch(min(100, task.n_events))))
        self.folder.save_arrays(task, _pool_arrays(parts, task.n_events))


@dataclass(frozen=True, slots=True)
class LayeredJob:
    """Generate the events of one chunk and see them."""

    folder: ChunkFolder
    settings: ProcessSettings
    layered: LayeredSettings
    seed: int
    task: ChunkTask
    pool: tuple[ChunkTask, ...]

    def is_done(self) -> bool:
        """Whether the chunk is there."""
        return self.folder.has(self.task, "genWeight")

    def run(self) -> None:
        """Make and store the chunk."""
        chain = layered_chain(self.layered, load_pool(self.folder, self.pool))
        pythia = start_pythia(self.settings.lines(pythia_seed(self.seed, self.task.stream, self.task.chunk)))
        rng = chunk_generator(self.seed, self.task.stream, self.task.chunk, Purpose.DETECTOR)
        parts: list[EventTable] = []
        for _ in range(2 * self.task.n_events // BATCH_EVENTS + 2):
            batch = pythia.nextBatch(BATCH_EVENTS)
            if len(batch):
                parts.append(process_batch(batch, chain, rng))
            if sum(len(part) for part in parts) >= self.task.n_events:
                self.folder.save_arrays(self.task, join_tables(parts).first(self.task.n_events).arrays())
                return
        message = f"Pythia fails in more than half of the events of chunk {self.task.chunk} of seed {self.seed}"
        raise RuntimeError(message)


def pool_tasks(stream: Stream, n_events: int) -> tuple[ChunkTask, ...]:
    """Tasks that make the pool of a stream."""
    first = int(stream) * _POOL_CHUNKS_PER_STREAM
    sizes = [min(POOL_CHUNK_EVENTS, n_events - start) for start in range(0, n_events, POOL_CHUNK_EVENTS)]
    return tuple(ChunkTask(Stream.PILEUP, first + index, size) for index, size in enumerate(sizes))


@dataclass(frozen=True, slots=True)
class StoredTables:
    """Chunks of one stream; every pass over them reads them again, one at a time."""

    folder: ChunkFolder
    tasks: Sequence[ChunkTask]
    settings: ProcessSettings

    def __iter__(self) -> Iterator[EventTable]:
        """Yield the chunks; of dijets without those where a shower outdoes the hard scattering."""
        for task in self.tasks:
            table = table_from_arrays(self.folder.load_arrays(task)).first(task.n_events)
            yield table.select(_is_ordinary(table, self.settings)) if self._leaves_out else table

    @property
    def _leaves_out(self) -> bool:
        return self.settings.process == "dijet"

    def weights(self) -> tuple[float, float]:
        """Sum of the weights that are not left out, and of all."""
        kept = whole = 0.0
        for task in self.tasks:
            table = table_from_arrays(self.folder.load_arrays(task)).first(task.n_events)
            weight = table.values["genWeight"]
            whole += float(weight.sum())
            kept += float(weight[_is_ordinary(table, self.settings)].sum()) if self._leaves_out else float(weight.sum())
        return kept, whole


def truth_of(table: EventTable) -> TruthEvents:
    """Truth jets of a table, as the rest of the package takes them."""
    jets = table.collections["GenJet"]
    pt, eta, phi, mass = (jets.columns[name].astype(np.float64) for name in ("pt", "eta", "phi", "mass"))
    weight, pt_hat = table.values["genWeight"], table.values["Generator_binvar"]
    return TruthEvents(jets.offsets, pt, eta, phi, mass, weight, pt_hat)


def _is_ordinary(table: EventTable, settings: ProcessSettings) -> NDArray[np.bool_]:
    truth = truth_of(table)
    return np.asarray(truth_pt_avg(truth) < settings.max_pt_over_pt_hat * truth.pt_hat)


def _pool_arrays(parts: Sequence[GeneratedParticles], n_events: int) -> dict[str, NDArray[Any]]:
    counts = np.concatenate([np.diff(part.offsets) for part in parts])[:n_events]
    kept = slice(0, int(counts.sum()))
    arrays = {
        name: np.concatenate([getattr(part, name) for part in parts])[kept].astype(np.float32) for name in _POOL_COLUMNS
    }
    return {**arrays, "identity": np.concatenate([part.identity for part in parts])[kept], "counts": counts}


@lru_cache(maxsize=2)
def load_pool(folder: ChunkFolder, tasks: tuple[ChunkTask, ...]) -> PileupPool:
    """Pool of stored minimum-bias events."""
    parts = [folder.load_arrays(task) for task in tasks]
    if not parts:
        empty = np.zeros(0)
        return pileup_pool(GeneratedParticles(np.zeros(1, dtype=np.int64), empty, empty, empty, empty, _NO_CODES))
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    px, py, pz, energy = (joined[name].astype(np.float64) for name in _POOL_COLUMNS)
    offsets = offsets_from_counts(joined["counts"])
    return pileup_pool(GeneratedParticles(offsets, px, py, pz, energy, joined["identity"]))


_NO_CODES = np.zeros(0, dtype=np.int32)
