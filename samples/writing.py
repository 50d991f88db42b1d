"""From truth events to files: detector, triggers, skim and NanoAOD layout, one chunk at a time."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from samples.counts import SampleCounts, count_events, count_steps
from samples.description import describe_detector, describe_fileset, describe_skim, describe_triggers
from samples.nanoaod import EventNumbers, GeneratorSums, NanoFile, event_columns
from samples.precision import round_mantissa
from samples.response import DetectorSettings, reconstruct
from samples.skim import SkimSettings, decide, keep_probability, select_events
from samples.streams import Purpose, Stream, chunk_generator
from samples.triggers import (
    TriggerMenu,
    largest_k,
    owner,
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
    from samples.skim import SkimDecision
    from samples.truth import FloatArray, TruthEvents

PILOT_PASSES = 4
"""Times that the detector is drawn for each pilot event: its fluctuations make the largest w / p."""
_SIMULATION_RUN = 1
_FIRST_DATA_RUN = 380_001
_CHUNKS_PER_RUN = 20


@dataclass(frozen=True, slots=True)
class SampleOptions:
    """How a sample is made from truth events."""

    skim: bool = False
    """Write only what can become a dijet, its leading jets, and of the simulation no swarm of light events."""
    reduced_precision: bool = False
    """Round floating-point columns to 10-bit mantissas."""
    rntuple: bool = False
    weighted_data: bool = False
    """Data keep all events with their generator weights, instead of those that prescaled triggers record."""
    detector: DetectorSettings = field(default_factory=DetectorSettings)
    triggers: TriggerMenu = field(default_factory=TriggerMenu)
    skim_settings: SkimSettings = field(default_factory=SkimSettings)


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

    def summary(self) -> tuple[str, ...]:
        """Return one line per dataset for the user: what was generated, recorded and written."""
        lines = []
        has_triggers = self.counts["data"].expected > 0
        for name, count in self.counts.items():
            recorded = f"{count.steps.events} recorded by the triggers, " if name == "data" and has_triggers else ""
            lines.append(f"{name}: {count.generated} events generated, {recorded}{count.written} written")
        share = self.counts["data"].share_above_one
        if not has_triggers:
            return (*lines, "data: all events with their generator weights")
        lines.append(f"data: k = {self.k:.4g}, share of events with k w / p above 1: {share:.2e}")
        return tuple(lines)


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
    """Write simulation.root, data.root (simulation_alternative.root), injected.json and fileset.json into `folder`.

    The truth events come in chunks; chunk i of a stream always sees the same random numbers. `facts` (generator, tune)
    go into injected.json. fileset.json is written last: a folder that has one is complete.
    """
    folder.mkdir(parents=True, exist_ok=True)
    k = find_k(pilot, seed, options)
    counts = {
        "simulation": _write_simulation(folder / "simulation.root", Stream.SIMULATION, simulation, seed, options),
        "data": _write_data(folder / "data.root", data, k, seed, options),
    }
    if alternative is not None:
        path = folder / "simulation_alternative.root"
        counts["simulation_alternative"] = _write_simulation(path, Stream.ALTERNATIVE, alternative, seed, options)
    content = {"process": process, "seed": seed, **(facts or {}), **_describe_sample(counts, k, options)}
    injected = write_json(folder / "injected.json", content)
    skims = {name: describe_skim(count, options.skim_settings) for name, count in counts.items() if options.skim}
    fileset = write_json(folder / "fileset.json", describe_fileset(counts, process, options.triggers, skims))
    return GeneratedSample(folder, fileset, injected, counts, k)


def find_k(pilot: Iterable[TruthEvents], seed: int, options: SampleOptions) -> float:
    """Largest k for which the share of events with k w / p above 1 stays within its limit, from pilot events.

    With a skim only events that pass it matter.
    """
    ratios = []
    for chunk, truth in enumerate(pilot):
        rng = chunk_generator(seed, Stream.PILOT, chunk, Purpose.DETECTOR)
        for _ in range(PILOT_PASSES):
            reco = reconstruct(truth, options.detector, rng, is_data=True)
            ratio = weight_over_prescale(truth.weight, trigger_pt_avg(reco), options.triggers)
            ratios.append(ratio[_is_wanted(decide(reco, options.skim_settings), options)])
    return largest_k(np.concatenate(ratios))


def _write_simulation(
    path: Path, stream: Stream, chunks: Iterable[TruthEvents], seed: int, options: SampleOptions
) -> SampleCounts:
    counts, sums = SampleCounts(), GeneratorSums()
    with NanoFile(path, rntuple=options.rntuple) as file:
        for chunk, truth in enumerate(chunks):
            reco = _reconstruct(truth, stream, chunk, seed, options)
            skim = decide(reco, options.skim_settings)
            pt_avg = trigger_pt_avg(reco)
            bits = unprescaled_bits(pt_avg, options.triggers)
            block = _Block(_SIMULATION_RUN, chunk + 1, counts.generated + 1)
            written, weight = _is_wanted(skim, options), truth.weight
            if options.skim:
                probability = keep_probability(weight, pt_avg, options.skim_settings)
                rng = chunk_generator(seed, stream, chunk, Purpose.TRIGGER)
                written = written & (rng.uniform(size=len(truth)) < probability)
                weight = weight / probability
            _write_events(file, reco, replace(truth, weight=weight), block, bits, written, options, with_truth=True)
            sums = sums.add(truth.weight)
            counts += SampleCounts(
                generated=len(truth),
                steps=count_events(np.ones(len(truth)), skim),
                weighted=count_steps(truth.weight, skim),
                written=int(written.sum()),
                sum_of_weights=float(truth.weight.sum()),
            )
        file.sums = sums
    return counts


def _write_data(path: Path, chunks: Iterable[TruthEvents], k: float, seed: int, options: SampleOptions) -> SampleCounts:
    counts = SampleCounts()
    with NanoFile(path, rntuple=options.rntuple) as file:
        for chunk, truth in enumerate(chunks):
            reco = _reconstruct(truth, Stream.DATA, chunk, seed, options)
            skim = decide(reco, options.skim_settings)
            rng = chunk_generator(seed, Stream.DATA, chunk, Purpose.TRIGGER)
            pt_avg = trigger_pt_avg(reco)
            decision = record(truth.weight, pt_avg, k, options.triggers, rng)
            wanted = _is_wanted(skim, options)
            written = decision.recorded & wanted
            run, luminosity_block = divmod(chunk, _CHUNKS_PER_RUN)
            block = _Block(_FIRST_DATA_RUN + run, luminosity_block + 1, counts.generated + 1)
            _write_events(file, reco, truth, block, decision.bits, written, options, with_truth=False)
            expected = decision.expected[wanted]
            counts += SampleCounts(
                generated=len(truth),
                steps=count_events(decision.recorded.astype(np.float64), skim),
                weighted=count_steps(_prescale_weight(decision.owned, pt_avg, options.triggers), skim),
                owned=int(decision.owned.sum()),
                written=int(written.sum()),
                sum_of_weights=float(truth.weight.sum()),
                expected=float(expected.sum()),
                expected_above_one=float(np.clip(expected - 1.0, 0.0, None).sum()),
            )
    return counts


@dataclass(frozen=True, slots=True)
class _Block:
    """Where the events of a chunk are numbered."""

    run: int
    luminosity_block: int
    first_event: int

    def numbers(self, written: NDArray[np.bool_]) -> EventNumbers:
        """Numbers of the written events; those that were left out leave gaps."""
        event = self.first_event + np.flatnonzero(written)
        return EventNumbers(np.full(len(event), self.run), np.full(len(event), self.luminosity_block), event)


def _write_events(
    file: NanoFile,
    reco: RecoEvents,
    truth: TruthEvents,
    block: _Block,
    bits: NDArray[np.bool_],
    written: NDArray[np.bool_],
    options: SampleOptions,
    *,
    with_truth: bool,
) -> None:
    leading = options.skim_settings.leading_jets if options.skim else None
    kept_reco, kept_truth = select_events(reco, truth, written, leading)
    triggers = {path: bits[written, index] for index, path in enumerate(options.triggers.paths)}
    columns = event_columns(
        kept_reco,
        block.numbers(written),
        triggers,
        kept_truth if with_truth else None,
        reduced_precision=options.reduced_precision,
    )
    file.extend(columns)


def _reconstruct(truth: TruthEvents, stream: Stream, chunk: int, seed: int, options: SampleOptions) -> RecoEvents:
    rng = chunk_generator(seed, stream, chunk, Purpose.DETECTOR)
    reco = reconstruct(truth, options.detector, rng, is_data=stream is Stream.DATA)

    def stored(values: FloatArray) -> FloatArray:
        return (round_mantissa(values) if options.reduced_precision else values.astype(np.float32)).astype(np.float64)

    # triggers and skim must see what a reader of the file sees
    return replace(reco, pt=stored(reco.pt), eta=stored(reco.eta), phi=stored(reco.phi))


def _is_wanted(skim: SkimDecision, options: SampleOptions) -> NDArray[np.bool_]:
    return skim.third_jet if options.skim else np.ones(len(skim.third_jet), dtype=bool)


def _prescale_weight(owned: NDArray[np.bool_], pt_avg: FloatArray, menu: TriggerMenu) -> FloatArray:
    return np.where(owned, menu.prescales[np.maximum(owner(pt_avg, menu), 0)], 0.0)


def _describe_sample(counts: Mapping[str, SampleCounts], k: float, options: SampleOptions) -> dict[str, Any]:
    return {
        **describe_detector(options.detector),
        "triggers": describe_triggers(options.triggers),
        "acceptance": "data events are recorded with probability k w / p: generator weight w, prescale p of the "
        "trigger that owns the reconstructed pt_avg",
        "k": k,
        "share_above_one": counts["data"].share_above_one,
        "skim": options.skim_settings.describe() if options.skim else None,
        "mantissa_bits": 10 if options.reduced_precision else 23,
        "counts": {name: asdict(value) for name, value in counts.items()},
    }


def write_json(path: Path, content: Mapping[str, Any]) -> Path:
    """Write a file that is there as a whole or not at all; returns its path."""
    partial = path.with_name(f".{path.name}.part")
    partial.write_text(json.dumps(content, indent=2) + "\n")
    partial.replace(path)
    return path
