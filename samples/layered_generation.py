"""`analysis.py generate --detector layered`: a sample in chunks that survive a killed job."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from samples.cross_section import cross_section
from samples.durable import ChunkFolder, ChunkTask
from samples.errors import SampleError
from samples.layered import LayeredSettings
from samples.layered_chunks import CHUNK_EVENTS, LayeredJob, PoolJob, StoredTables, pool_tasks
from samples.layered_sample import layered_options, write_layered_sample
from samples.layered_settings import LayeredDetector, data_detector
from samples.processes import ProcessSettings, settings_of
from samples.streams import Stream
from samples.workers import run_jobs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from samples.writing import GeneratedSample, SampleOptions

POOL_EVENTS = 4000
"""Minimum-bias events per stream."""
DEFAULT_PILEUP = 30.0
LARGE_RADII = (0.8, 1.0)


@dataclass(frozen=True, slots=True)
class LayeredRequest:
    """What is asked for."""

    process: str
    events: int
    data_events: int
    seed: int
    pt_range: tuple[float, float] | None = None
    pileup: float | None = None
    large_r: float | None = None
    tune: int | None = None
    """Tune of the data and of an alternative simulation."""
    underlying_event: bool = True

    def sizes(self) -> dict[Stream, int]:
        """Events of each stream."""
        sizes = {Stream.SIMULATION: self.events, Stream.DATA: self.data_events}
        return sizes if self.tune is None else {**sizes, Stream.ALTERNATIVE: self.events}

    def generators(self, nominal_tune: int) -> dict[Stream, ProcessSettings]:
        """Pythia of each stream."""
        nominal = settings_of(self.process, self.pt_range, nominal_tune, underlying_event=self.underlying_event)
        other = replace(nominal, tune=nominal_tune if self.tune is None else self.tune)
        return {stream: nominal if stream is Stream.SIMULATION else other for stream in self.sizes()}

    def detectors(self) -> dict[Stream, LayeredSettings]:
        """Detector of each stream."""
        pileup = DEFAULT_PILEUP if self.pileup is None else self.pileup
        nominal = LayeredSettings(LayeredDetector(), pileup, self.large_r)
        other = replace(nominal, detector=data_detector())
        return {stream: other if stream is Stream.DATA else nominal for stream in self.sizes()}


def check_request(request: LayeredRequest) -> None:
    """Raise a one-line `SampleError` for what cannot be generated."""
    if request.large_r is not None and request.large_r not in LARGE_RADII:
        message = f"--large-r is {' or '.join(map(str, LARGE_RADII))}, not {request.large_r:g}"
        raise SampleError(message)
    if request.pileup is not None and not 0.0 <= request.pileup <= 200.0:
        message = f"--pileup wants a mean number of interactions from 0 to 200, not {request.pileup:g}"
        raise SampleError(message)
    settings_of(request.process, request.pt_range, 14, underlying_event=True)


def generate_layered(
    output: Path, request: LayeredRequest, nominal_tune: int, files: SampleOptions, *, workers: int, quiet: bool
) -> GeneratedSample:
    """Generate, or go on with, a sample in `output`."""
    folder = ChunkFolder(output / ".chunks")
    generators, detectors = request.generators(nominal_tune), request.detectors()
    facts = _facts(generators, detectors)
    folder.open({"seed": request.seed, **facts})
    sizes = request.sizes()
    pools = {stream: pool_tasks(stream, POOL_EVENTS if detectors[stream].pileup > 0.0 else 0) for stream in sizes}
    run_jobs(
        [PoolJob(folder, generators[stream], request.seed, task) for stream in sizes for task in pools[stream]],
        workers,
        quiet=quiet,
    )
    jobs = [
        LayeredJob(folder, generators[task.stream], detectors[task.stream], request.seed, task, pools[task.stream])
        for task in _in_proportion(sizes)
    ]
    run_jobs(jobs, workers, quiet=quiet)
    tables = {stream: StoredTables(folder, _tasks(stream, size), generators[stream]) for stream, size in sizes.items()}
    options = layered_options(request.process, files)
    sections = _sections(tables, generators)
    sample = write_layered_sample(
        output, seed=request.seed, streams=tables, options=options, facts=facts, sections=sections
    )
    shutil.rmtree(folder.path)
    return sample


def _sections(
    tables: Mapping[Stream, StoredTables], generators: Mapping[Stream, ProcessSettings]
) -> dict[Stream, float]:
    """Cross section of what is not left out, in pb; streams of one generator have the same."""
    found: dict[Stream, float] = {}
    for settings in dict.fromkeys(generators.values()):
        own = [stream for stream, each in generators.items() if each == settings]
        kept, whole = np.sum([tables[stream].weights() for stream in own], axis=0)
        found |= dict.fromkeys(own, float(cross_section(settings) * kept / whole))
    return found


def _facts(generators: Mapping[Stream, ProcessSettings], detectors: Mapping[Stream, LayeredSettings]) -> dict[str, Any]:
    from importlib.metadata import version

    nominal = generators[Stream.SIMULATION]
    return {
        "generator": f"pythia8mc {version('pythia8mc')}, fastjet {version('fastjet')}",
        "detector": "layered",
        "simulation_settings": asdict(nominal),
        "data_settings": asdict(generators[Stream.DATA]),
        "simulation_detector": asdict(detectors[Stream.SIMULATION]),
        "data_detector": asdict(detectors[Stream.DATA]),
        "left_out": f"dijets with truth pt_avg above {nominal.max_pt_over_pt_hat:g} pT-hat, in all samples",
        "pool_events": POOL_EVENTS,
        "chunk_events": CHUNK_EVENTS,
    }


def _tasks(stream: Stream, n_events: int) -> list[ChunkTask]:
    starts = range(0, n_events, CHUNK_EVENTS)
    return [ChunkTask(stream, chunk, min(CHUNK_EVENTS, n_events - start)) for chunk, start in enumerate(starts)]


def _in_proportion(sizes: Mapping[Stream, int]) -> list[ChunkTask]:
    """Chunks of all streams, in an order in which the streams grow in proportion."""
    tasks = [(task, len(tasks)) for tasks in (_tasks(stream, size) for stream, size in sizes.items()) for task in tasks]
    return [task for task, _ in sorted(tasks, key=lambda item: ((item[0].chunk + 0.5) / item[1], item[0].stream))]
