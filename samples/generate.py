"""`analysis.py generate`: one call from a number of events to a sample with its fileset."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from samples.durable import ChunkFolder, ChunkTask
from samples.errors import SampleError
from samples.streams import Stream
from samples.workers import ChunkJob, run_jobs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from samples.pythia import PythiaSettings
    from samples.truth import TruthEvents
    from samples.writing import GeneratedSample, SampleOptions

PROCESSES = ("dijet", "toy", "w", "top", "ttbar_mu", "wjets")
DETECTORS = ("parametric", "layered")
_PARAMETRIC_PROCESSES = ("dijet", "toy")
CHUNK_EVENTS = 2000
CHUNK_FOLDER = ".chunks"
_RESULTS = (
    "fileset.json",
    "injected.json",
    "simulation.root",
    "data.root",
    "data_truth.root",
    "simulation_alternative.root",
)


def generate(
    process: str,
    events: int,
    seed: int,
    output: Path,
    data_tune: str | None = None,
    workers: int | None = None,
    *,
    skim: bool = False,
    reduced_precision: bool = False,
    rntuple: bool = False,
    data_events: int | None = None,
    overwrite: bool = False,
    underlying_event: bool = True,
    quiet: bool = False,
    detector: str | None = None,
    large_r: float | None = None,
    pt_range: tuple[float, float] | None = None,
    pileup: float | None = None,
    weighted_data: bool = False,
) -> GeneratedSample:
    """Write simulation and data of `events` generated events each into `output`.

    Parameters
    ----------
    process : "dijet" (Pythia 8) or "toy" (closed form, seconds); with the layered detector also hadronic "w" and "top",
        "ttbar_mu" and "wjets".
    events : generated events of the simulation, and of the data (`data_events` if given) before the triggers.
    seed : the same seed gives the same content, for any number of workers and after a resumed job.
    output : new or empty folder, or one with an unfinished job of the same arguments, which is resumed.
    data_tune : tune of the data and of an alternative simulation that is then written as well.
    workers : processes; all cores if not given.
    underlying_event : with multiparton interactions; without them Pythia is five times faster.
    skim, reduced_precision, rntuple : see `samples.writing.SampleOptions`.
    detector : "parametric" (smeared jets, for dijet and toy the default) or "layered" (particles, constituents).
    large_r, pt_range, pileup : of the layered detector: radius of large jets, range of pT-hat (GeV, 0 for no end),
        mean number of interactions per crossing.
    weighted_data : of the layered detector: data keep every event with its generator weight, so that a training has
        many times more of them than prescaled triggers record.

    Raises `samples.errors.SampleError`, with a message of one line, before any work is done.
    """
    _check(process, events, data_events, seed, workers, data_tune, underlying_event=underlying_event)
    detector = detector or ("parametric" if process in _PARAMETRIC_PROCESSES else "layered")
    of_layered = {"--large-r": large_r, "--pt-range": pt_range, "--pileup": pileup}
    _check_detector(process, detector, {**of_layered, "--weighted-data": weighted_data or None})
    from samples.pythia import PythiaSettings, tune_number
    from samples.toy import write_toy
    from samples.writing import SampleOptions

    options = SampleOptions(
        skim=skim, reduced_precision=reduced_precision, rntuple=rntuple, weighted_data=weighted_data
    )
    if detector == "layered":
        from samples.layered_generation import LayeredRequest, check_request, generate_layered

        other_tune = None if data_tune is None else tune_number(data_tune)
        n_data = events if data_events is None else data_events
        request = LayeredRequest(
            process, events, n_data, seed, pt_range, pileup, large_r, other_tune, underlying_event=underlying_event
        )
        check_request(request)
        _prepare(output, overwrite=overwrite)
        n_workers = workers or os.cpu_count() or 1
        return generate_layered(output, request, tune_number("monash"), options, workers=n_workers, quiet=quiet)
    _prepare(output, overwrite=overwrite)
    if process == "toy":
        return write_toy(output, events, seed, n_data=data_events, options=options)
    n_data = events if data_events is None else data_events
    sizes = {Stream.SIMULATION: events, Stream.DATA: n_data}
    n_workers = workers or os.cpu_count() or 1
    tune = tune_number(data_tune or "monash")
    nominal = PythiaSettings(underlying_event=underlying_event)
    settings = {Stream.SIMULATION: nominal, Stream.DATA: replace(nominal, tune=tune)}
    if data_tune is not None:
        settings[Stream.ALTERNATIVE] = settings[Stream.DATA]
        sizes[Stream.ALTERNATIVE] = events
    return _generate_dijets(output, sizes, settings, seed, options, workers=n_workers, quiet=quiet)


def _check(
    process: str,
    events: int,
    data_events: int | None,
    seed: int,
    workers: int | None,
    data_tune: str | None,
    *,
    underlying_event: bool,
) -> None:
    from samples.pythia import require_generator, tune_number

    if process not in PROCESSES:
        message = f"unknown process {process!r}; known are {', '.join(PROCESSES)}"
        raise SampleError(message)
    for name, value, least in (("events", events, 1), ("data events", data_events, 1), ("workers", workers, 1)):
        if value is not None and value < least:
            message = f"the number of {name} must be at least {least}, not {value}"
            raise SampleError(message)
    if seed < 0:
        message = f"the seed must be 0 or larger, not {seed}"
        raise SampleError(message)
    for option, is_given in (("--data-tune", data_tune is not None), ("--no-underlying-event", not underlying_event)):
        if process == "toy" and is_given:
            message = f"{option} is for the process dijet; the toy comes from no generator"
            raise SampleError(message)
    if data_tune is not None:
        tune_number(data_tune)
    if process != "toy":
        require_generator()


def _check_detector(process: str, detector: str, options: Mapping[str, object]) -> None:
    if detector not in DETECTORS:
        message = f"unknown detector {detector!r}; known are {', '.join(DETECTORS)}"
        raise SampleError(message)
    if detector == "layered" and process == "toy":
        message = "the layered detector needs particles and the toy has none; use --process dijet"
        raise SampleError(message)
    if detector == "parametric" and process not in _PARAMETRIC_PROCESSES:
        message = (
            f"the parametric detector is for {' and '.join(_PARAMETRIC_PROCESSES)}; {process} needs --detector layered"
        )
        raise SampleError(message)
    given = [name for name, value in options.items() if value is not None]
    if detector == "parametric" and given:
        message = f"{given[0]} is for the layered detector; add --detector layered"
        raise SampleError(message)


def _prepare(output: Path, *, overwrite: bool) -> None:
    if output.exists() and not output.is_dir():
        message = f"the output {output} is a file; give a folder"
        raise SampleError(message)
    if not output.exists():
        return
    strangers = [entry.name for entry in output.iterdir() if entry.name != CHUNK_FOLDER]
    unfinished = (output / CHUNK_FOLDER).exists()
    if strangers and not unfinished and not overwrite:
        message = f"the output folder {output} is not empty (it has {min(strangers)}); give another or --overwrite"
        raise SampleError(message)
    if overwrite:
        for name in _RESULTS:
            (output / name).unlink(missing_ok=True)


def _generate_dijets(
    output: Path,
    sizes: Mapping[Stream, int],
    settings: Mapping[Stream, PythiaSettings],
    seed: int,
    options: SampleOptions,
    *,
    workers: int,
    quiet: bool,
) -> GeneratedSample:
    from samples.writing import write_sample

    folder = ChunkFolder(output / CHUNK_FOLDER)
    facts = _facts(settings[Stream.SIMULATION], settings[Stream.DATA])
    folder.open({"seed": seed, **facts})
    jobs = [ChunkJob(folder, settings[task.stream], seed, task) for task in plan_chunks(sizes)]
    run_jobs(jobs, workers, quiet=quiet)
    stored = {stream: _StoredChunks(folder, _tasks(stream, size), settings[stream]) for stream, size in sizes.items()}
    sample = write_sample(
        output,
        seed=seed,
        process="dijet",
        simulation=stored[Stream.SIMULATION],
        data=stored[Stream.DATA],
        # the detector is drawn anew for the pilot; with the same tune the simulation has what the data have
        pilot=stored.get(Stream.ALTERNATIVE, stored[Stream.SIMULATION]),
        alternative=stored.get(Stream.ALTERNATIVE),
        options=options,
        facts=facts,
    )
    shutil.rmtree(folder.path)
    return sample


def _facts(nominal: PythiaSettings, other: PythiaSettings) -> dict[str, Any]:
    from importlib.metadata import version

    return {
        "generator": f"pythia8mc {version('pythia8mc')}, fastjet {version('fastjet')}",
        "simulation_settings": asdict(nominal),
        "data_settings": asdict(other),
        "left_out": f"events with truth pt_avg above {nominal.max_pt_over_pt_hat:g} pT-hat, in all samples",
        "chunk_events": CHUNK_EVENTS,
    }


def plan_chunks(sizes: Mapping[Stream, int]) -> list[ChunkTask]:
    """Chunks of all streams, in an order in which the streams grow in proportion: one can stop anywhere."""
    tasks = [(task, len(tasks)) for tasks in (_tasks(stream, size) for stream, size in sizes.items()) for task in tasks]
    return [task for task, _ in sorted(tasks, key=lambda item: ((item[0].chunk + 0.5) / item[1], item[0].stream))]


def _tasks(stream: Stream, n_events: int) -> list[ChunkTask]:
    starts = range(0, n_events, CHUNK_EVENTS)
    return [ChunkTask(stream, chunk, min(CHUNK_EVENTS, n_events - start)) for chunk, start in enumerate(starts)]


@dataclass(frozen=True, slots=True)
class _StoredChunks:
    """Chunks of one stream; every pass over them reads them again, one at a time."""

    folder: ChunkFolder
    tasks: Sequence[ChunkTask]
    settings: PythiaSettings

    def __iter__(self) -> Iterator[TruthEvents]:
        from samples.pythia import without_outliers

        return (without_outliers(self.folder.load(task), self.settings) for task in self.tasks)
