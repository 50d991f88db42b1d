"""From truth events to files: detector, triggers, skim and NanoAOD layout, one chunk at a time."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from samples.injected import describe_detector, describe_triggers
from samples.nanoaod import EventNumbers, GeneratorSums, NanoFile, event_columns
from samples.precision import round_mantissa
from samples.response import DetectorSettings, reconstruct
from samples.skim import SkimSettings, decide, select_events
from samples.streams import Purpose, Stream, chunk_generator
from samples.triggers import (
    TriggerMenu,
    largest_k,
    record,
    trigger_pt_avg,
    unprescaled_bits,
    weight_over_prescale,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from samples.response import RecoEvents
    from samples.truth import TruthEvents

PILOT_PASSES = 4
"""Times that the detector is drawn for each pilot event: its fluctuations decide which events have the largest w / p."""
_FIRST_DATA_RUN = 380_001
_CHUNKS_PER_RUN = 20


@dataclass(frozen=True, slots=True)
class SampleOptions:
    """How a sample is made from truth events."""

    skim: bool = False
    reduced_precision: bool = False
    """10-bit mantissas for all floating-point columns."""
    rntuple: bool = False
    detector: DetectorSettings = field(default_factory=DetectorSettings)
    triggers: TriggerMenu = field(default_factory=TriggerMenu)
    skim_settings: SkimSettings = field(default_factory=SkimSettings)


@dataclass(frozen=True, slots=True)
class SampleCounts:
    """Events on their way into one file.

    `recorded` is what the triggers let through (all of them in simulation), `owned` those recorded by the trigger that
    owns them; the steps of the skim follow, cumulative, also where no skim was asked for; `written` is what the file has.
    """

    generated: int = 0
    recorded: int = 0
    owned: int = 0
    two_jets: int = 0
    delta_phi: int = 0
    third_jet: int = 0
    written: int = 0
    sum_of_weights: float = 0.0
    written_sum_of_weights: float = 0.0
    expected: float = 0.0
    """Sum of k w / p over the events, 0 in simulation."""
    expected_above_one: float = 0.0
    """Part of `expected` that was lost because an event can be recorded only once."""

    def __add__(self, other: SampleCounts) -> SampleCounts:
        """Return the counts of both."""
        mine, theirs = asdict(self), asdict(other)
        return SampleCounts(**{name: mine[name] + theirs[name] for name in mine})

    @property
    def share_above_one(self) -> float:
        """Share of the expectation that could not be recorded."""
        return self.expected_above_one / self.expected if self.expected > 0 else 0.0


@dataclass(frozen=True, slots=True)
class GeneratedSample:
    """A finished sample: where it is and what is in it."""

    folder: Path
    fileset: Path
    injected: Path
    counts: Mapping[str, SampleCounts]
    """Per dataset: simulation, data and perhaps simulation_alternative."""
    k: float
    """Data events are recorded with probability k w / p."""


def write_sample(
    folder: Path,
    *,
    seed: int,
    process: str,
    simulation: Iterable[TruthEvents],
    data: Iterable[TruthEvents],
    pilot: Iterable[TruthEvents],
    options: SampleOptions,
    alternative: Iterable[TruthEvents] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> GeneratedSample:
    """Write simulation.root, data.root (simulation_alternative.root), fileset.json and injected.json into `folder`.

    The truth events come in chunks; chunk i of a stream always sees the same random numbers. `facts` (generator, tune)
    go into injected.json. fileset.json is written last: a folder that has one is complete.
    """
    folder.mkdir(parents=True, exist_ok=True)
    k = find_k(pilot, seed, options)
    counts = {"simulation": _write_simulation(folder, Stream.SIMULATION, simulation, seed, options)}
    counts["data"] = _write_data(folder, data, k, seed, options)
    if alternative is not None:
        counts["simulation_alternative"] = _write_simulation(folder, Stream.ALTERNATIVE, alternative, seed, options)
    description = {
        "process": process,
        "seed": seed,
        **(facts or {}),
        **describe_detector(options.detector),
        "triggers": describe_triggers(options.triggers),
        "k": k,
        "share_above_one": counts["data"].share_above_one,
        "skim": options.skim_settings.describe() if options.skim else None,
        "mantissa_bits": 10 if options.reduced_precision else 23,
        "counts": {name: asdict(value) for name, value in counts.items()},
    }
    injected = _write_json(folder / "injected.json", description)
    fileset = _write_json(folder / "fileset.json", _fileset(counts, process, options))
    return GeneratedSample(folder, fileset, injected, counts, k)


def find_k(pilot: Iterable[TruthEvents], seed: int, options: SampleOptions) -> float:
    """Largest k for which the share of events with k w / p above 1 stays within its limit, from pilot events."""
    ratios = []
    for chunk, truth in enumerate(pilot):
        rng = chunk_generator(seed, Stream.PILOT, chunk, Purpose.DETECTOR)
        for _ in range(PILOT_PASSES):
            reco = reconstruct(truth, options.detector, rng, is_data=True)
            ratios.append(weight_over_prescale(truth.weight, trigger_pt_avg(reco), options.triggers))
    return largest_k(np.concatenate(ratios))


def _write_simulation(
    folder: Path, stream: Stream, chunks: Iterable[TruthEvents], seed: int, options: SampleOptions
) -> SampleCounts:
    path = folder / f"{_DATASETS[stream]}.root"
    counts, sums = SampleCounts(), GeneratorSums()
    with NanoFile(path, rntuple=options.rntuple) as file:
        for chunk, truth in enumerate(chunks):
            reco = _reconstruct(truth, stream, chunk, seed, options)
            bits = unprescaled_bits(trigger_pt_avg(reco), options.triggers)
            numbers = EventNumbers(
                np.full(len(truth), 1), np.full(len(truth), chunk + 1), 1 + sums.count + np.arange(len(truth))
            )
            everything = np.ones(len(truth), dtype=bool)
            counts += _write_chunk(file, reco, truth, numbers, bits, everything, options, is_data=False)
            sums = sums.add(truth.weight)
        file.sums = sums
    return counts + SampleCounts(owned=counts.recorded)


def _write_data(
    folder: Path, chunks: Iterable[TruthEvents], k: float, seed: int, options: SampleOptions
) -> SampleCounts:
    counts = SampleCounts()
    with NanoFile(folder / "data.root", rntuple=options.rntuple) as file:
        for chunk, truth in enumerate(chunks):
            reco = _reconstruct(truth, Stream.DATA, chunk, seed, options)
            rng = chunk_generator(seed, Stream.DATA, chunk, Purpose.TRIGGER)
            decision = record(truth.weight, trigger_pt_avg(reco), k, options.triggers, rng)
            numbers = EventNumbers(
                np.full(len(truth), _FIRST_DATA_RUN + chunk // _CHUNKS_PER_RUN),
                np.full(len(truth), 1 + chunk % _CHUNKS_PER_RUN),
                1 + counts.generated + np.arange(len(truth)),
            )
            counts += _write_chunk(
                file, reco, truth, numbers, decision.bits, decision.recorded, options, is_data=True
            )
            counts += SampleCounts(
                owned=int(decision.owned.sum()),
                expected=float(decision.expected.sum()),
                expected_above_one=float(np.clip(decision.expected - 1.0, 0.0, None).sum()),
            )
    return counts


def _reconstruct(truth: TruthEvents, stream: Stream, chunk: int, seed: int, options: SampleOptions) -> RecoEvents:
    rng = chunk_generator(seed, stream, chunk, Purpose.DETECTOR)
    reco = reconstruct(truth, options.detector, rng, is_data=stream is Stream.DATA)
    return _as_stored(reco, reduced_precision=options.reduced_precision)


def _as_stored(reco: RecoEvents, *, reduced_precision: bool) -> RecoEvents:
    """Jets with the numbers that the file will have: triggers and skim must see what a reader of the file sees."""
    def stored(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return (round_mantissa(values) if reduced_precision else values.astype(np.float32)).astype(np.float64)

    return replace(reco, pt=stored(reco.pt), eta=stored(reco.eta), phi=stored(reco.phi))


def _write_chunk(
    file: NanoFile,
    reco: RecoEvents,
    truth: TruthEvents,
    numbers: EventNumbers,
    bits: NDArray[np.bool_],
    recorded: NDArray[np.bool_],
    options: SampleOptions,
    *,
    is_data: bool,
) -> SampleCounts:
    skim = decide(reco, options.skim_settings)
    written = recorded & skim.third_jet if options.skim else recorded
    leading = options.skim_settings.leading_jets if options.skim else None
    kept_reco, kept_truth = select_events(reco, truth, written, leading)
    columns = event_columns(
        kept_reco,
        EventNumbers(numbers.run[written], numbers.luminosity_block[written], numbers.event[written]),
        {path: bits[written, index] for index, path in enumerate(options.triggers.paths)},
        None if is_data else kept_truth,
        reduced_precision=options.reduced_precision,
    )
    file.extend(columns)
    return SampleCounts(
        generated=len(truth),
        recorded=int(recorded.sum()),
        two_jets=int((recorded & skim.two_jets).sum()),
        delta_phi=int((recorded & skim.delta_phi).sum()),
        third_jet=int((recorded & skim.third_jet).sum()),
        written=int(written.sum()),
        sum_of_weights=float(truth.weight.sum()),
        written_sum_of_weights=float(truth.weight[written].sum()),
    )


_DATASETS = {
    Stream.SIMULATION: "simulation",
    Stream.DATA: "data",
    Stream.ALTERNATIVE: "simulation_alternative",
}


def _fileset(counts: Mapping[str, SampleCounts], process: str, options: SampleOptions) -> dict[str, Any]:
    """Fileset in coffea's form, paths relative to it."""
    return {
        name: {
            "files": {f"{name}.root": "Events"},
            "metadata": {
                "is_mc": name != "data",
                "schema": "nanoaod",
                "jet_collection": "Jet",
                "jet_algo": "AK4PF",
                "process": process,
                **_metadata_of_kind(name, options),
                **_skim_metadata(value, options),
            },
        }
        for name, value in counts.items()
    }


def _metadata_of_kind(name: str, options: SampleOptions) -> dict[str, Any]:
    if name == "data":
        return {"label": "Data", "triggers": describe_triggers(options.triggers)}
    return {
        "label": "Simulation" if name == "simulation" else "Alternative simulation",
        "role": "nominal" if name == "simulation" else "alternative",
        "weight": "genWeight",
        "truth_jet_collection": "GenJet",
    }


def _skim_metadata(counts: SampleCounts, options: SampleOptions) -> dict[str, Any]:
    if not options.skim:
        return {}
    steps = {
        "recorded": counts.recorded,
        "two_jets": counts.two_jets,
        "delta_phi": counts.delta_phi,
        "third_jet": counts.third_jet,
    }
    return {"skim": {"cuts": options.skim_settings.describe(), "generated": counts.generated, **steps}}


def _write_json(path: Path, content: Mapping[str, Any]) -> Path:
    partial = path.with_name(f".{path.name}.part")
    partial.write_text(json.dumps(content, indent=2) + "\n")
    partial.replace(path)
    return path
