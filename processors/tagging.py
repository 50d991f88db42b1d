"""The tagging run: a chunk of events in, sums of large-R jets by truth, score and working point out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from coffea.processor import ProcessorABC

from models.card import card_path, read_card
from models.tagging.columns import COLUMNS, NO_CATEGORY
from models.tagging.jet_definition import JETS, differences, jets_of
from models.tagging.tagger import NOT_FINITE_SCORE, ForeignTagger, Tagger, load_tagger
from processors import event_filter, large_jets
from processors.errors import InputError, raise_if_any
from processors.event_filter import EventFilter, lumi_mask, mask_of, pileup_weight, trigger_decision
from processors.execution import Execution
from processors.filling import fill_with, ingredients_of
from processors.histogram_files import digest, write_histograms
from processors.histograms import Filled, NamedSums, OrderedSum
from processors.large_jets import OUTSIDE_PT, LargeJets, choose_jets, identities, read_request
from processors.output_folder import remove_chunks
from processors.reading import read_events
from processors.settings_file import as_plain
from processors.table_parts import lost_lines
from processors.tagging_histograms import (
    CATEGORY_AXIS,
    OUTSIDE_BINNING,
    STEPS,
    UNLABELLED,
    TaggingBinning,
    flat_index,
    in_bins,
    jet_values,
    passing_axes,
    score_axes,
    scores_in_bins,
    step_axes,
    sums_of,
    to_hist,
)
from processors.tagging_variations import (
    NOMINAL,
    Shift,
    TaggingSystematics,
    factors_of,
    radiation_weight,
    reach,
    shifts_of,
    varied_columns,
    varied_constituents,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from processors.execution import Outcome
    from processors.fileset import Dataset
    from processors.filling import Job
    from processors.record import AnyArray, BoolArray, EventRecord, Float64Array, Int64Array, Jets

    Filling = tuple[Int64Array, Float64Array]

Probe = Literal["all", "leading", "dijet", "muon"]
FACTS_FILE = "tagging.json"
NO_RADIATION = "variations isr and fsr of events without four parton-shower weights"
_PARTON_SHOWER = "parton_shower"
_EVENT_COLUMNS = ("met_pt", "met_phi", _PARTON_SHOWER)


@dataclass(frozen=True, slots=True)
class TaggerChoice:
    """A tagger to apply: its network, for one without a card of ours how to use it, and its working points.

    `working_points` are by name the score from which on a jet passes; empty for those of the card. With `any_jets` it
    is applied to jets of another radius or grooming than its card says it was trained on.
    """

    onnx: str
    foreign: ForeignTagger | None = None
    working_points: Mapping[str, float] = field(default_factory=dict)
    any_jets: bool = False


@dataclass(frozen=True, slots=True)
class ProbeSelection:
    """Which jets of an event are looked at (YAML section `selection`), energies in GeV.

    Attributes
    ----------
    probe
        "all" jets; the "leading" one; of a "dijet" the two leading ones, back to back; behind a "muon" the leading one
        of those that are away from the leading muon, as in semileptonic top pairs.
    min_delta_phi
        Between the two jets, or between muon and jet.
    max_alpha
        Of a dijet the largest pt of the third large-R jet over the mean of the two leading ones; None for any. Jets
        that the file leaves out, usually soft ones, do not count.
    muon_min_pt, muon_max_abs_eta, min_met
        Of the muon, and of the missing momentum; files without are refused unless `min_met` is 0.
    """

    probe: Probe = "all"
    min_delta_phi: float = 2.0
    max_alpha: float | None = None
    muon_min_pt: float = 55.0
    muon_max_abs_eta: float = 2.4
    min_met: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a limit that no pair passes, or that is not of a pair."""
        if self.max_alpha is None:
            return
        if self.probe != "dijet" or not self.max_alpha > 0:
            raise InputError(
                f"selection.max_alpha is above 0 and of selection.probe=dijet, got {self.max_alpha:g} with {self.probe}"
            )


@dataclass(frozen=True, slots=True)
class TaggingSettings:
    """All settings of the tagging run; sections that other runs have too mean the same."""

    taggers: Mapping[str, TaggerChoice] = field(default_factory=dict)
    large_jets: LargeJets = field(default_factory=LargeJets)
    selection: ProbeSelection = field(default_factory=ProbeSelection)
    events: EventFilter = field(default_factory=EventFilter)
    systematics: TaggingSystematics = field(default_factory=TaggingSystematics)
    binning: TaggingBinning = field(default_factory=TaggingBinning)
    execution: Execution = field(default_factory=Execution)


class TaggingProcessor(ProcessorABC):
    """Fills the histograms of one chunk; a chunk names its dataset in `events.metadata`."""

    def __init__(self, datasets: Mapping[str, Dataset], settings: TaggingSettings) -> None:
        self.datasets = dict(datasets)
        self.settings = settings
        self.taggers = load_taggers(settings)

    def process(self, events: Any) -> OrderedSum:
        """Sums of one chunk under its index `events.metadata["chunk"]`."""
        dataset = self.datasets[events.metadata["dataset"]]
        leptons = self.settings.selection.probe == "muon"
        request = read_request(dataset, self.settings.large_jets, leptons=leptons, event_columns=_EVENT_COLUMNS)
        record = read_events(events, request)
        sums = fill_record(record, dataset, self.settings, self.taggers)
        return OrderedSum.single(int(events.metadata["chunk"]), Filled({}, named={dataset.name: sums}))

    def postprocess(self, accumulator: OrderedSum) -> OrderedSum:
        """Nothing is left to do after the sum."""
        return accumulator


def load_taggers(settings: TaggingSettings) -> dict[str, Tagger]:
    """All taggers by name; what is wrong with any of them is refused, all at once."""
    found, faults = {}, []
    for name, choice in settings.taggers.items():
        try:
            found[name] = load_tagger(choice.onnx, choice.foreign, choice.working_points)
        except (ValueError, FileNotFoundError) as error:
            faults.append(f"taggers.{name}: {error}")
    for name, tagger in found.items():
        if lacking := tagger.lacking(COLUMNS, has_constituents=True):
            faults.append(f"taggers.{name}: no column {', '.join(lacking)} of jets; there are {', '.join(COLUMNS)}")
    raise_if_any(faults)
    return found


def of_other_jets(settings: TaggingSettings) -> dict[str, str]:
    """By name of the tagger how the jets it was trained on differ from those of the run, where its card says so."""
    found = {}
    for name, choice in settings.taggers.items():
        if choice.foreign is None:
            jets = read_card(card_path(choice.onnx)).training.get(JETS)
            expected = jets if isinstance(jets, Mapping) else {}
            if told := differences(expected, jets_of(as_plain(settings.large_jets))):
                found[name] = f"taggers.{name} was trained on other jets: {', '.join(told)}"
    return found


def look(datasets: Sequence[Dataset], settings: TaggingSettings) -> tuple[Job, list[str]]:
    """The job, after a look at every file and network, and what a user should know; what is wrong is refused here."""
    if not settings.taggers:
        raise InputError("no taggers to apply; name at least one, as taggers.NAME.onnx=FILE.onnx")
    taggers = load_taggers(settings)
    other = of_other_jets(settings)
    refused = [name for name in other if not settings.taggers[name].any_jets]
    raise_if_any(
        [
            f"{other[name]}; set large_jets alike, or taggers.{name}.any_jets=true to go on all the same"
            for name in refused
        ]
    )
    leptons = settings.selection.probe == "muon"
    job = large_jets.look(datasets, settings.large_jets, settings.events, leptons=leptons, event_columns=_EVENT_COLUMNS)
    faults = large_jets.without_constituents(job.facts, settings.large_jets.collection)
    raise_if_any([*faults, *_without_probe(job, settings.selection)])
    notes = [*other.values(), *(note for tagger in taggers.values() for note in tagger.notes())]
    return job, [*notes, *_lacking(job, settings)]


def _lacking(job: Job, settings: TaggingSettings) -> list[str]:
    """A line for each file of simulation on what cannot be done with it."""
    smeared = "jer_up and jmr_up smear its jets by chance, jer_down and jmr_down leave them as they are"
    return [
        *large_jets.without_particles(job.facts, job.datasets),
        *large_jets.without_truth_jets(job.facts, job.datasets, settings.large_jets, smeared),
        *_without_radiation(job, settings),
    ]


def _without_probe(job: Job, selection: ProbeSelection) -> list[str]:
    """A line for each file that lacks what the selection of jets behind a muon looks at."""
    if selection.probe != "muon":
        return []
    faults = [f"{f.dataset}: {f.path} has no muons, which the probe needs" for f in job.facts if not f.columns.muons]
    if selection.min_met > 0:
        faults += [
            f"{f.dataset}: {f.path} has no missing momentum, which selection.min_met={selection.min_met:g} needs; "
            "set it to 0 to go without"
            for f in job.facts
            if not {"met_pt", "met_phi"} <= f.columns.event.keys()
        ]
    return faults


def for_files(job: Job, settings: TaggingSettings) -> TaggingSettings:
    """The same without variations of radiation where no file has weights for them."""
    if any(_PARTON_SHOWER in fact.columns.event for fact in job.facts):
        return settings
    return replace(settings, systematics=replace(settings.systematics, parton_shower=False))


def _without_radiation(job: Job, settings: TaggingSettings) -> list[str]:
    """A line for each file of simulation that has no parton-shower weights while others have."""
    if not for_files(job, settings).systematics.parton_shower:
        return []
    simulated = {dataset.name for dataset in job.datasets if dataset.is_mc}
    return [
        f"{fact.dataset}: {fact.path} has no parton-shower weights; isr and fsr leave its jets as they are"
        for fact in job.facts
        if fact.dataset in simulated and _PARTON_SHOWER not in fact.columns.event
    ]


def fill(job: Job, settings: TaggingSettings, chunks: Path) -> Outcome:
    """Histograms of all datasets of a job; finished chunks are kept in the folder `chunks`."""
    settings = for_files(job, settings)
    content = ingredients_of(job.datasets, replace(settings, execution=Execution()), _files(settings))
    processor = TaggingProcessor({dataset.name: dataset for dataset in job.datasets}, settings)
    return fill_with(processor, job, content, settings.execution, chunks, title="tagging")


def run(job: Job, settings: TaggingSettings, folder: Path, notes: Sequence[str], chunks: Path) -> dict[str, Any]:
    """Fill and write the histograms of a job, and tagging.json beside them; returns what that says."""
    settings = for_files(job, settings)
    outcome = fill(job, settings, chunks)
    if outcome.lost and not outcome.events:
        raise InputError(f"no input could be read: {outcome.lost[0].reason}")
    histograms = to_hist(outcome.output.named, histogram_axes(settings))
    write_histograms(histograms, folder)
    facts = {**facts_of(job, outcome, settings, notes), "histograms_digest": digest(histograms)}
    unfinished = folder / f".{FACTS_FILE}.part"
    text = json.dumps(_without_infinities(facts), indent=2, ensure_ascii=False)
    unfinished.write_text(f"{text}\n", encoding="utf-8")
    unfinished.replace(folder / FACTS_FILE)
    remove_chunks(folder)
    return facts


def _without_infinities(value: Any) -> Any:
    """The same with null for what JSON has no number for, such as a limit that is none."""
    if isinstance(value, Mapping):
        return {key: _without_infinities(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_infinities(inner) for inner in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def summary_lines(facts: Mapping[str, Any]) -> list[str]:
    """What the console tells of a run."""
    lines = [f"note: {note}" for note in facts["notes"]]
    for name, excluded in facts["excluded"].items():
        lines += [f"{name}: left out {count:,} {reason}" for reason, count in excluded.items()]
    return [*lines, *(f"lost: {line}" for line in facts["lost"]), f"{facts['events']:,} events"]


def histogram_axes(settings: TaggingSettings) -> dict[str, Any]:
    """Axes of every histogram after `dataset`, by its name."""
    working_points = {name: list(tagger.working_points) for name, tagger in load_taggers(settings).items()}
    return _axes(settings, working_points)


def facts_of(job: Job, outcome: Outcome, settings: TaggingSettings, notes: Sequence[str]) -> dict[str, Any]:
    """What is to be known beside the histograms: taggers with cuts, datasets with normalisation, what was left out."""
    cutflow = step_axes()
    kept = {}
    for name, named in outcome.output.named.items():
        all_events = named.sums["cutflow"].dense(tuple(axis.extent for axis in cutflow))[STEPS.index("all"), 0]
        kept[name] = float(all_events)
    factors = job.normalisations(outcome, kept)
    return {
        "settings": as_plain(settings),
        "taggers": {name: dict(tagger.working_points) for name, tagger in load_taggers(settings).items()},
        "datasets": [
            {
                "name": d.name,
                "is_mc": d.is_mc,
                "process": d.process,
                "role": d.role,
                "xsec": d.xsec,
                "lumi": None if settings.execution.maxchunks else d.lumi,
                "normalisation": factors[d.name],
            }
            for d in job.datasets
        ],
        "events": outcome.events,
        "complete": not outcome.lost,
        "lost": lost_lines(outcome),
        "excluded": {name: dict(named.excluded) for name, named in outcome.output.named.items()},
        "warnings": list(outcome.warnings),
        "notes": [*notes, *_of_part(settings)],
    }


def _of_part(settings: TaggingSettings) -> list[str]:
    n = settings.execution.maxchunks
    return [f"at most {n} chunks of each dataset were read (--maxchunks): the luminosity is not known"] if n else []


def fill_record(
    record: EventRecord, dataset: Dataset, settings: TaggingSettings, taggers: Mapping[str, Tagger]
) -> NamedSums:
    """All sums of one record of events, nominal and varied."""
    shifts = variations_of(settings, is_mc=record.is_mc)
    is_selected, of_jets, steps, prescale = _select(record, dataset, settings)
    window = _widened(settings, shifts)
    chosen = choose_jets(record, window, is_selected, of_jets, max_ungroomed=_most_ungroomed(taggers.values()))
    identity = identities(record, chosen)
    axes = _axes(settings, {name: list(tagger.working_points) for name, tagger in taggers.items()})
    parts: dict[str, list[Filling]] = {"passing": [], "score": []}
    excluded = {**record.excluded, **chosen.excluded, **_unvaried(record, shifts)}
    for place, (way, shift) in enumerate(shifts.items()):
        weight = record.weight * pileup_weight(record, settings.events, shift.pile_up) * prescale
        weight = weight * radiation_weight(record, shift)
        factors = factors_of(chosen, identity, shift, settings.systematics)
        columns = varied_columns(chosen.columns, factors)
        constituents = {
            True: varied_constituents(chosen.constituents, factors),
            False: varied_constituents(chosen.ungroomed, factors),
        }
        in_window, inside = _inside(columns, settings)
        used = np.where(inside, weight[chosen.event], 0.0)
        if way == NOMINAL:
            _count(excluded, OUTSIDE_PT, ~in_window)
            _count(excluded, OUTSIDE_BINNING, in_window & ~inside)
        for number, tagger in enumerate(taggers.values()):
            scores, _ = tagger.scores(columns, constituents[tagger.groomed])
            found = _Scored(columns, chosen.category, scores, inside, used)
            parts["passing"] += _passing(found, tagger, axes["passing"], (place, number))
            if way == NOMINAL:
                parts["score"].append(_scored(found, axes["score"], number))
                _count(excluded, NOT_FINITE_SCORE, inside & ~np.isfinite(scores))
    base = record.weight * pileup_weight(record, settings.events, "nominal")
    parts["cutflow"] = _cutflow(steps, base, prescale)
    return NamedSums({name: _added(each) for name, each in parts.items()}, excluded)


def _inside(columns: Mapping[str, AnyArray], settings: TaggingSettings) -> tuple[BoolArray, BoolArray]:
    """Which jets have a pt that counts, and which of these the histograms have bins for, (n,) each."""
    window = settings.large_jets
    in_window = (columns["pt"] >= window.min_pt) & (columns["pt"] < window.max_pt)
    return in_window, in_window & in_bins(settings.binning, columns)


def _most_ungroomed(taggers: Iterable[Tagger]) -> int | None:
    """How many constituents before grooming any network takes of a jet at most; None for all of them."""
    inputs = [given for tagger in taggers if not tagger.groomed for given in tagger.inputs.values()]
    lengths = [given.max_length for given in inputs if given.constituents]
    limits = [length for length in lengths if length is not None]
    return max(limits, default=0) if len(limits) == len(lengths) else None


def _count(excluded: dict[str, int], reason: str, jets: BoolArray) -> None:
    """Add the jets that are left out for a reason."""
    if n := int(np.count_nonzero(jets)):
        excluded[reason] = excluded.get(reason, 0) + n


def variations_of(settings: TaggingSettings, *, is_mc: bool) -> dict[str, Shift]:
    """The variations of a dataset by name, the nominal one first."""
    has_weights = settings.events.pileup_weights is not None
    return shifts_of(settings.systematics, is_mc=is_mc, has_pileup_weights=has_weights)


def _unvaried(record: EventRecord, shifts: Mapping[str, Shift]) -> dict[str, int]:
    """How many events of simulation isr and fsr leave as they are, as they have no weights for it."""
    is_asked = any(shift.parton_shower is not None for shift in shifts.values())
    return {NO_RADIATION: len(record)} if is_asked and record.parton_shower is None and len(record) else {}


class _Scored(NamedTuple):
    """Jets with the score of one tagger in one variation; arrays (n,)."""

    columns: Mapping[str, AnyArray]
    category: AnyArray
    scores: AnyArray
    inside: BoolArray
    weight: Float64Array


def _axes(settings: TaggingSettings, working_points: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    return {
        "passing": passing_axes(settings.binning, list(variations_of(settings, is_mc=True)), working_points),
        "score": score_axes(settings.binning, list(working_points)),
        "cutflow": step_axes(),
    }


def _passing(found: _Scored, tagger: Tagger, axes: Any, place: tuple[int, int]) -> list[Filling]:
    """Bins and weights of the jets at each working point; `place` are those of variation and tagger on their axes."""
    names = list(axes[2])
    filled = []
    for name, passes in tagger.passing(found.scores).items():
        values = (
            *place,
            names.index(name),
            passes.astype(np.int64),
            _category_place(found.category),
            *jet_values(found.columns),
        )
        filled.append((flat_index(axes, values)[found.inside], found.weight[found.inside]))
    return filled


def _scored(found: _Scored, axes: Any, number: int) -> Filling:
    values = (number, _category_place(found.category), found.columns["pt"], scores_in_bins(found.scores))
    use = found.inside & np.isfinite(found.scores)
    return flat_index(axes, values)[use], found.weight[use]


def _category_place(category: AnyArray) -> AnyArray:
    return np.where(category == NO_CATEGORY, CATEGORY_AXIS.index(UNLABELLED), category)


def _cutflow(steps: Sequence[BoolArray], base: Float64Array, prescale: Float64Array) -> list[Filling]:
    """Bins and weights of the events after each step; prescales count once triggers are asked."""
    axes = step_axes()
    filled = []
    for number, passed in enumerate(steps):
        weight = base * prescale if number >= STEPS.index("trigger") else base
        filled.append((flat_index(axes, (np.full(np.count_nonzero(passed), number),)), weight[passed]))
    return filled


def _added(parts: Sequence[Filling]) -> Any:
    if not parts:
        return sums_of(np.zeros(0, np.int64), np.zeros(0))
    return sums_of(np.concatenate([index for index, _ in parts]), np.concatenate([weight for _, weight in parts]))


def _widened(settings: TaggingSettings, shifts: Mapping[str, Shift]) -> LargeJets:
    """A window of pt that holds all jets which any variation brings into the wanted one."""
    lowest, highest = reach(shifts.values(), settings.systematics)
    window = settings.large_jets
    return replace(window, min_pt=window.min_pt / highest, max_pt=window.max_pt / lowest)


def _select(
    record: EventRecord, dataset: Dataset, settings: TaggingSettings
) -> tuple[BoolArray, BoolArray, tuple[BoolArray, ...], Float64Array]:
    """Events that count, jets that are looked at, events after each step, and prescales."""
    certified = lumi_mask(record, mask_of(dataset, settings.events))
    owning_pt = trigger_pt(record.jets, settings.selection.probe)
    fired, prescale = trigger_decision(record.triggers, dataset.triggers, owning_pt)
    of_jets = _probes(record, settings.selection)
    has_probe = np.add.reduceat(np.append(of_jets, 0), record.jets.offsets[:-1]) * (record.jets.counts > 0) > 0
    triggered = certified & fired
    selected = triggered & has_probe
    return selected, of_jets, (np.ones(len(record), np.bool_), certified, triggered, selected), prescale


def trigger_pt(jets: Jets, probe: Probe) -> Float64Array:
    """What decides which trigger owns an event, (n_events,) GeV.

    For dijets the mean pt of the two leading jets, nan for fewer, which no trigger owns. Else the pt of the leading
    jet, 0 without jets, so that a threshold of 0, as of triggers on leptons, always applies.
    """
    pt = np.append(jets.pt.astype(np.float64), [0.0, 0.0])
    first = jets.offsets[:-1]
    if probe == "dijet":
        return np.where(jets.counts >= 2, 0.5 * (pt[first] + pt[first + 1]), np.nan)
    return np.where(jets.counts >= 1, pt[first], 0.0)


def _probes(record: EventRecord, selection: ProbeSelection) -> BoolArray:
    """Jets that are looked at, (n_jets,)."""
    jets = record.jets
    event = np.repeat(np.arange(len(record)), jets.counts)
    rank = np.arange(len(jets)) - jets.offsets[event]
    if selection.probe == "all":
        return np.ones(len(jets), np.bool_)
    if selection.probe == "leading":
        return np.asarray(rank == 0)
    if selection.probe == "dijet":
        return np.asarray((rank < 2) & _is_dijet(jets, selection)[event])
    return _behind_muon(record, selection, event)


def _is_dijet(jets: Jets, selection: ProbeSelection) -> BoolArray:
    """Whether the two leading jets are back to back, and the third one soft, (n_events,)."""
    first = jets.offsets[:-1]
    phi, pt = (np.append(values.astype(np.float64), [0.0, 0.0, 0.0]) for values in (jets.phi, jets.pt))
    found = (jets.counts >= 2) & (_delta_phi(phi[first], phi[first + 1]) > selection.min_delta_phi)
    if selection.max_alpha is not None:
        third = np.where(jets.counts >= 3, pt[first + 2], 0.0)
        found &= third <= selection.max_alpha * 0.5 * (pt[first] + pt[first + 1])
    return np.asarray(found)


def _behind_muon(record: EventRecord, selection: ProbeSelection, event: AnyArray) -> BoolArray:
    """The leading jet of those away from the leading muon, if that is hard and central, (n_jets,)."""
    jets, muons = record.jets, record.muons
    if muons is None:
        return np.zeros(len(jets), np.bool_)
    first = muons.offsets[:-1]
    pt, eta, phi = (np.append(values.astype(np.float64), 0.0)[first] for values in (muons.pt, muons.eta, muons.phi))
    is_tagged = (muons.counts > 0) & (pt > selection.muon_min_pt) & (np.abs(eta) < selection.muon_max_abs_eta)
    if record.met is not None and selection.min_met > 0:
        is_tagged &= np.hypot(*record.met) > selection.min_met
    is_away = is_tagged[event] & (_delta_phi(jets.phi.astype(np.float64), phi[event]) > selection.min_delta_phi)
    before = np.concatenate([[0], np.cumsum(is_away)])
    return np.asarray(is_away & (before[:-1] == before[jets.offsets[event]]))


def _delta_phi(first: Float64Array, second: Float64Array) -> Float64Array:
    return np.abs((first - second + np.pi) % (2 * np.pi) - np.pi)


def _files(settings: TaggingSettings) -> list[str]:
    """Paths of all corrections and models."""
    found = list(event_filter.files(settings.events))
    for choice in settings.taggers.values():
        found.append(choice.onnx)
        if choice.foreign is None:
            found.append(str(card_path(choice.onnx)))
        elif choice.foreign.preprocess is not None:
            found.append(choice.foreign.preprocess)
    return sorted(set(found))
