"""Files of the layered detector: simulation, data with triggers, the data's truth apart, fileset and known answer."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from samples.counts import SampleCounts, count_events, count_steps
from samples.description import REFERENCE_REGION, describe_fileset, describe_skim, describe_triggers
from samples.known_response import ResponseCounts, known_answer
from samples.nanoaod import EventNumbers, GeneratorSums, NanoFile
from samples.pfnano import WEIGHT, event_branches, truth_branches
from samples.processes import MUON_PROCESSES
from samples.response import DetectorSettings, RecoEvents
from samples.skim import decide
from samples.streams import Purpose, Stream, chunk_generator
from samples.triggers import (
    TriggerDecision,
    TriggerMenu,
    largest_k,
    owner,
    record,
    trigger_pt_avg,
    unprescaled_bits,
    weight_over_prescale,
    with_fitting_prescales,
)
from samples.writing import GeneratedSample, SampleOptions, write_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from samples.skim import SkimDecision
    from samples.tables import EventTable
    from samples.truth import FloatArray

MUON_MENU = TriggerMenu(thresholds=(25.0,), stem="HLT_Mu")
BASKET_EVENTS = 10_000
_PB_PER_FB = 1000.0
_DATASETS = {Stream.SIMULATION: "simulation", Stream.DATA: "data", Stream.ALTERNATIVE: "simulation_alternative"}
_SIMULATION_RUN, _ALTERNATIVE_RUN, _FIRST_DATA_RUN, _CHUNKS_PER_RUN = 1, 1, 380_001, 20


@dataclass(frozen=True, slots=True)
class LayeredOptions:
    """How the files are written."""

    process: str
    files: SampleOptions
    menu: TriggerMenu
    algo_large: str | None = None

    @property
    def by_muon(self) -> bool:
        """Whether muons fire the trigger."""
        return self.process in MUON_PROCESSES


def layered_options(process: str, files: SampleOptions) -> LayeredOptions:
    """Return the options of a process with its trigger menu."""
    return LayeredOptions(process, files, MUON_MENU if process in MUON_PROCESSES else files.triggers)


def write_layered_sample(
    folder: Path,
    *,
    seed: int,
    streams: Mapping[Stream, Iterable[EventTable]],
    options: LayeredOptions,
    facts: Mapping[str, Any],
    sections: Mapping[Stream, float] | None = None,
) -> GeneratedSample:
    """Write the ROOT files, data_truth.root, injected.json and, last, fileset.json into `folder`.

    `streams` are read twice, a chunk at a time. `sections` are their cross sections in pb, where these are known.
    """
    folder.mkdir(parents=True, exist_ok=True)
    options, k = _with_triggers(chain(streams[Stream.SIMULATION], streams[Stream.DATA]), options)
    edges = DetectorSettings().eta_edges
    known = {stream: ResponseCounts.empty(edges) for stream in streams}
    counts = {
        "simulation": _write_simulation(folder, Stream.SIMULATION, streams, options, known),
        "data": _write_data(folder, streams[Stream.DATA], k, seed, options, known[Stream.DATA]),
    }
    if Stream.ALTERNATIVE in streams:
        counts["simulation_alternative"] = _write_simulation(folder, Stream.ALTERNATIVE, streams, options, known)
    of_datasets = {_DATASETS[stream]: value for stream, value in (sections or {}).items()}
    content = {
        "process": options.process,
        "seed": seed,
        **facts,
        **known_answer(known[Stream.SIMULATION], known[Stream.DATA], REFERENCE_REGION),
        "triggers": _describe_menu(options),
        "k": k,
        "share_above_one": counts["data"].share_above_one,
        "counts": {name: asdict(value) for name, value in counts.items()},
        "xsec": {name: value for name, value in of_datasets.items() if name != "data"},
    }
    injected = write_json(folder / "injected.json", content)
    fileset = write_json(folder / "fileset.json", _fileset(counts, options, of_datasets, k))
    return GeneratedSample(folder, fileset, injected, counts, k)


def luminosity(counts: SampleCounts, section: float, k: float, *, weighted: bool) -> float:
    """Luminosity of data in 1/fb; `section` in pb.

    The weights of what was generated stand for the cross section, and triggers record the share `k` of them.
    """
    return (1.0 if weighted else k) * counts.sum_of_weights / section / _PB_PER_FB


def _fileset(
    counts: Mapping[str, SampleCounts], options: LayeredOptions, sections: Mapping[str, float], k: float
) -> dict[str, Any]:
    settings = options.files.skim_settings
    skims = {name: describe_skim(count, settings) for name, count in counts.items()} if options.files.skim else None
    fileset = describe_fileset(counts, options.process, options.menu, skims)
    for name, dataset in fileset.items():
        metadata = dataset["metadata"]
        metadata["schema"] = "pfnano"
        if name in sections and name != "data":
            metadata["xsec"] = sections[name]
        elif name in sections:
            weighted = options.files.weighted_data
            metadata["lumi"] = luminosity(counts[name], sections[name], k, weighted=weighted)
        if name == "data" and options.files.weighted_data:
            del metadata["triggers"]
            metadata["weight"] = WEIGHT
        elif name == "data":
            metadata["triggers"] = _describe_menu(options)
    return fileset


def _describe_menu(options: LayeredOptions) -> list[dict[str, Any]]:
    described = describe_triggers(options.menu)
    return [{**trigger, "pt_avg_min": 0.0} for trigger in described] if options.by_muon else described


def trigger_quantity(table: EventTable, options: LayeredOptions) -> FloatArray:
    """What the triggers see (GeV), (n,): the mean of the leading jets, or the leading muon."""
    if not options.by_muon:
        return trigger_pt_avg(as_reco_events(table))
    muon = table.collections["Muon"]
    leading, has = np.zeros(len(table)), muon.counts > 0
    leading[has] = muon.columns["pt"][muon.offsets[:-1][has]]
    return leading


def as_reco_events(table: EventTable) -> RecoEvents:
    """Jets of a table in the form that triggers and skim take."""
    jets, n_jets = table.collections["Jet"], len(table.collections["Jet"].columns["pt"])
    names = ("pt", "eta", "phi", "mass", "area", "rawFactor")
    pt, eta, phi, mass, area, raw_factor = (jets.columns[name].astype(np.float64) for name in names)
    return RecoEvents(
        jets.offsets,
        pt,
        eta,
        phi,
        mass,
        area,
        raw_factor,
        jet_id=jets.columns["jetId"].astype(np.int64),
        pu_id=jets.columns["puId"].astype(np.int64),
        truth_index=jets.columns.get("genJetIdx", np.full(n_jets, -1)).astype(np.int64),
        rho=table.values["Rho_fixedGridRhoFastjetAll"].astype(np.float64),
        npv=table.values["PV_npvs"].astype(np.int64),
        interactions=table.values["averageInteractions"].astype(np.float64),
    )


def _with_triggers(tables: Iterable[EventTable], options: LayeredOptions) -> tuple[LayeredOptions, float]:
    """Prescales that fit the sample, and the largest k for which few events have k w / p above 1.

    Both come from simulation and data before the dice are cast: no event of either weighs more than they allow for.
    """
    weights, quantities = [], []
    for table in tables:
        wanted = _is_wanted(decide(as_reco_events(table), options.files.skim_settings), options)
        weights.append(table.values["genWeight"][wanted])
        quantities.append(trigger_quantity(table, options)[wanted])
    weight, quantity = np.concatenate(weights), np.concatenate(quantities)
    menu = with_fitting_prescales(options.menu, weight, quantity)
    return replace(options, menu=menu), largest_k(weight_over_prescale(weight, quantity, menu))


def _write_simulation(
    folder: Path,
    stream: Stream,
    streams: Mapping[Stream, Iterable[EventTable]],
    options: LayeredOptions,
    known: Mapping[Stream, ResponseCounts],
) -> SampleCounts:
    name = _DATASETS[stream]
    counts, sums = SampleCounts(), GeneratorSums()
    with _file(folder / f"{name}.root", options) as file:
        for chunk, table in enumerate(streams[stream]):
            known[stream].fill(table)
            skim = decide(as_reco_events(table), options.files.skim_settings)
            written, weight = _is_wanted(skim, options), table.values["genWeight"]
            numbers = _numbers(_SIMULATION_RUN, chunk + 1, counts.generated, written)
            bits = unprescaled_bits(trigger_quantity(table, options), options.menu)
            _extend(file, table.select(written), numbers, bits[written], options, with_truth=True)
            sums = sums.add(weight)
            counts += SampleCounts(
                generated=len(table),
                steps=count_events(np.ones(len(table)), skim),
                weighted=count_steps(weight, skim),
                written=int(written.sum()),
                sum_of_weights=float(weight.sum()),
            )
        file.sums = sums
    return counts


def _write_data(
    folder: Path, tables: Iterable[EventTable], k: float, seed: int, options: LayeredOptions, known: ResponseCounts
) -> SampleCounts:
    counts = SampleCounts()
    with _file(folder / "data.root", options) as file, _file(folder / "data_truth.root", options) as side:
        for chunk, table in enumerate(tables):
            known.fill(table)
            skim = decide(as_reco_events(table), options.files.skim_settings)
            rng = chunk_generator(seed, Stream.DATA, chunk, Purpose.TRIGGER)
            weight, quantity = table.values["genWeight"], trigger_quantity(table, options)
            decision = _decide(weight, quantity, k, options, rng)
            wanted = _is_wanted(skim, options)
            written = decision.recorded & wanted
            run, block = divmod(chunk, _CHUNKS_PER_RUN)
            numbers = _numbers(_FIRST_DATA_RUN + run, block + 1, counts.generated, written)
            events = table.select(written)
            _extend(file, events, numbers, decision.bits[written], options, with_truth=False)
            side.extend(truth_branches(events, numbers))
            prescale = options.menu.prescales[np.maximum(owner(quantity, options.menu), 0)]
            weighing = weight if options.files.weighted_data else np.where(decision.owned, prescale, 0.0)
            counts += SampleCounts(
                generated=len(table),
                steps=count_events(decision.recorded.astype(np.float64), skim),
                weighted=count_steps(weighing, skim),
                owned=int(decision.owned.sum()),
                written=int(written.sum()),
                sum_of_weights=float(weight.sum()),
                expected=float(decision.expected[wanted].sum()),
                expected_above_one=float(np.clip(decision.expected[wanted] - 1.0, 0.0, None).sum()),
            )
    return counts


def _decide(
    weight: FloatArray, quantity: FloatArray, k: float, options: LayeredOptions, rng: np.random.Generator
) -> TriggerDecision:
    if not options.files.weighted_data:
        return record(weight, quantity, k, options.menu, rng)
    everything = np.ones(len(weight), dtype=bool)
    return TriggerDecision(everything, everything, unprescaled_bits(quantity, options.menu), np.zeros(len(weight)))


def _file(path: Path, options: LayeredOptions) -> NanoFile:
    return NanoFile(path, rntuple=options.files.rntuple, basket_events=BASKET_EVENTS)


def _extend(
    file: NanoFile,
    table: EventTable,
    numbers: EventNumbers,
    bits: NDArray[np.bool_],
    options: LayeredOptions,
    *,
    with_truth: bool,
) -> None:
    triggers = {path: bits[:, index] for index, path in enumerate(options.menu.paths)}
    reduced = options.files.reduced_precision
    with_weight = with_truth or options.files.weighted_data
    file.extend(
        event_branches(
            table, numbers, triggers, with_truth=with_truth, with_weight=with_weight, reduced_precision=reduced
        )
    )


def _numbers(run: int, block: int, before: int, written: NDArray[np.bool_]) -> EventNumbers:
    event = before + 1 + np.flatnonzero(written)
    return EventNumbers(np.full(len(event), run), np.full(len(event), block), event)


def _is_wanted(skim: SkimDecision, options: LayeredOptions) -> NDArray[np.bool_]:
    return skim.third_jet if options.files.skim else np.ones(len(skim.third_jet), dtype=bool)
