"""Datasets and settings -> the table that a tagger is trained on, one row per large-R jet.

Jets of simulation count as signal or background by their truth category, others are left out and counted. Jets of data
take part without a label.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from coffea.processor import ProcessorABC

from models.tagging.columns import CATEGORIES, CONSTITUENT_COLUMNS
from models.tagging.tagger_table import SCALARS, JetTable, read_table
from models.tagging.tagger_table import write_table as write_jets
from processors import large_jets
from processors.errors import InputError, raise_if_any
from processors.event_filter import EventFilter, files, lumi_mask, mask_of, pileup_weight
from processors.execution import Execution
from processors.filling import ingredients_of
from processors.histograms import Filled, OrderedSum
from processors.large_jets import LargeJets, choose_jets, identities, read_request
from processors.reading import read_events
from processors.settings_file import as_plain
from processors.table_parts import lost_lines, part_path, part_store, write_parts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from processors.execution import Outcome
    from processors.fileset import Dataset
    from processors.filling import Job
    from processors.large_jets import ChosenJets
    from processors.record import AnyArray, EventRecord

SIGNAL, BACKGROUND, UNLABELLED = 1, 0, -1
NO_LABEL = "jets that are {}, which is neither signal nor background"


@dataclass(frozen=True, slots=True)
class TaggerTableOptions:
    """What is signal and what background (YAML section `table`), by names of truth categories."""

    signal: tuple[str, ...] = ("top",)
    background: tuple[str, ...] = ("qcd",)

    def __post_init__(self) -> None:
        """Refuse categories that are not known, or that are both."""
        for name in (*self.signal, *self.background):
            if name not in CATEGORIES:
                raise InputError(f"no truth category {name!r}; there are {', '.join(CATEGORIES)}")
        if not self.signal or not self.background or set(self.signal) & set(self.background):
            raise InputError("table.signal and table.background need at least one category each, and none in common")


@dataclass(frozen=True, slots=True)
class TaggerTableSettings:
    """All settings of the table of a tagger; sections that a run has too mean the same."""

    large_jets: LargeJets = field(default_factory=LargeJets)
    events: EventFilter = field(default_factory=EventFilter)
    execution: Execution = field(default_factory=Execution)
    table: TaggerTableOptions = field(default_factory=TaggerTableOptions)


class TaggerTableProcessor(ProcessorABC):
    """Writes the part of one chunk into `folder`; a chunk names its dataset in `events.metadata`."""

    def __init__(self, datasets: Mapping[str, Dataset], settings: TaggerTableSettings, folder: Path) -> None:
        self.datasets = dict(datasets)
        self.settings = settings
        self.folder = folder

    def process(self, events: Any) -> OrderedSum:
        """An empty sum once the part is on disk."""
        dataset = self.datasets[events.metadata["dataset"]]
        record = read_events(events, read_request(dataset, self.settings.large_jets))
        table = jets_of(record, dataset, self.settings)
        write_jets([table], part_path(self.folder, events.metadata["chunk_key"]), table.facts)
        return OrderedSum.single(int(events.metadata["chunk"]), Filled({}))

    def postprocess(self, accumulator: OrderedSum) -> OrderedSum:
        """Nothing is left to do after the sum."""
        return accumulator


def look(datasets: Sequence[Dataset], settings: TaggerTableSettings) -> Job:
    """The job, after a look at every file; all that is wrong is refused here."""
    job = large_jets.look(datasets, settings.large_jets, settings.events)
    faults = large_jets.without_constituents(job.facts, settings.large_jets.collection)
    raise_if_any([*faults, *large_jets.without_particles(job.facts, job.datasets)])
    return job


def jets_of(record: EventRecord, dataset: Dataset, settings: TaggerTableSettings) -> JetTable:
    """The labelled jets of a chunk; the facts have what was left out, and the sum of weights of all events."""
    certified = lumi_mask(record, mask_of(dataset, settings.events))
    chosen = choose_jets(record, settings.large_jets, certified)
    weight = record.weight * pileup_weight(record, settings.events, "nominal")
    label = labels_of(chosen.category, settings.table) if record.is_mc else np.full(len(chosen), UNLABELLED)
    columns: dict[str, AnyArray] = {
        **chosen.columns,
        "label": label,
        "category": chosen.category,
        "is_mc": np.full(len(chosen), record.is_mc),
        "weight": weight[chosen.event],
        "identity": identities(record, chosen),
        "truth_pt": chosen.truth_pt,
        "dataset": np.zeros(len(chosen)),
    }
    table = JetTable({name: columns[name].astype(kind) for name, kind in SCALARS.items()}, chosen.constituents)
    facts = {
        "dataset": dataset.name,
        "events": len(record),
        "sum_of_weights": float(record.weight.sum()),
        "excluded": {**record.excluded, **chosen.excluded, **_unlabelled(chosen, label, is_mc=record.is_mc)},
    }
    return replace(table.take(label != UNLABELLED) if record.is_mc else table, facts=facts)


def labels_of(category: AnyArray, options: TaggerTableOptions) -> AnyArray:
    """1 for signal, 0 for background, -1 for neither, (n,)."""
    label = np.full(len(category), UNLABELLED)
    label[np.isin(category, [CATEGORIES.index(name) for name in options.signal])] = SIGNAL
    label[np.isin(category, [CATEGORIES.index(name) for name in options.background])] = BACKGROUND
    return label


def _unlabelled(chosen: ChosenJets, label: AnyArray, *, is_mc: bool) -> dict[str, int]:
    """How many jets of simulation are neither, by category."""
    if not is_mc:
        return {}
    counts = np.bincount(chosen.category[label == UNLABELLED], minlength=len(CATEGORIES))
    return {NO_LABEL.format(name): int(n) for name, n in zip(CATEGORIES, counts, strict=True) if n}


def write_table(job: Job, settings: TaggerTableSettings, path: Path) -> tuple[dict[str, Any], Outcome]:
    """Write the table of a job to `path`; returns what is to be known about it, and the outcome of the run.

    Parts stay beside it in `<name>.parts` until it is whole.
    """
    content = ingredients_of(job.datasets, replace(settings, execution=Execution()), files(settings.events))
    store = part_store(path, content)
    processor = TaggerTableProcessor({dataset.name: dataset for dataset in job.datasets}, settings, store.folder)
    parts, outcome = write_parts(job, processor, settings.execution, store)
    facts = _assemble(parts, job, outcome, settings, path)
    store.remove()
    return facts, outcome


def _assemble(
    parts: Sequence[Path], job: Job, outcome: Outcome, settings: TaggerTableSettings, path: Path
) -> dict[str, Any]:
    """Put the parts together, and say what came of it."""
    told = [_Part.of(part) for part in parts]
    if not any(part.jets for part in told):
        raise InputError(
            "no jet is left for the table; it takes jets of signal and background within large_jets.min_pt, max_pt and "
            f"max_abs_eta ({settings.large_jets.min_pt:g} to {settings.large_jets.max_pt:g} GeV, "
            f"{settings.large_jets.max_abs_eta:g})"
        )
    names = [dataset.name for dataset in job.datasets]
    kept = {name: sum(part.sum_of_weights for part in told if part.dataset == name) for name in names}
    facts = {
        "datasets": names,
        "categories": list(CATEGORIES),
        "constituents": list(CONSTITUENT_COLUMNS),
        "events": {name: sum(part.events for part in told if part.dataset == name) for name in names},
        "jets": {name: _added(part.jets for part in told if part.dataset == name) for name in names},
        "excluded": {name: _added(part.excluded for part in told if part.dataset == name) for name in names},
        "lost": lost_lines(outcome),
        "notes": large_jets.without_truth_jets(job.facts, job.datasets, settings.large_jets, "its truth_pt is nan"),
        "settings": {key: value for key, value in as_plain(settings).items() if key != "execution"},
    }
    factors = job.normalisations(outcome, kept)
    finished = (_finished(part, place, names, factors) for place, part in zip(parts, told, strict=True))
    write_jets(finished, path, facts)
    return facts


@dataclass(frozen=True, slots=True)
class _Part:
    """What is to be known of a part; `jets` counts by category, `data` for those without."""

    dataset: str
    events: int
    sum_of_weights: float
    jets: Mapping[str, int]
    excluded: Mapping[str, int]

    @classmethod
    def of(cls, path: Path) -> _Part:
        table = read_table(path, constituents=False)
        names = [*CATEGORIES, "data"]
        counts = np.bincount(np.where(table.columns["is_mc"], table.columns["category"], len(CATEGORIES)))
        jets = {name: int(n) for name, n in zip(names, counts, strict=False) if n}
        facts = table.facts
        return cls(facts["dataset"], facts["events"], facts["sum_of_weights"], jets, facts["excluded"])


def _finished(part: _Part, path: Path, names: Sequence[str], factors: Mapping[str, float]) -> JetTable:
    """The jets of a part with cross section and number of their dataset."""
    table = read_table(path)
    weight = table.columns["weight"] * factors[part.dataset]
    number = np.full(len(table), names.index(part.dataset), np.int16)
    return replace(table, columns={**table.columns, "weight": weight, "dataset": number})


def _added(counts: Iterator[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for each in counts:
        for reason, count in each.items():
            total[reason] = total.get(reason, 0) + count
    return total


def summary_lines(facts: Mapping[str, Any]) -> list[str]:
    """What the console tells of a table."""
    lines = [f"note: {note}" for note in facts["notes"]]
    for name, events in facts["events"].items():
        jets = ", ".join(f"{count:,} {category}" for category, count in facts["jets"][name].items())
        lines.append(f"{name}: {events:,} events, jets: {jets or 'none'}")
        lines += [f"{name}: left out {count:,} {reason}" for reason, count in facts["excluded"][name].items()]
    if not has_both(facts):
        lines.append("no jets of signal, or none of background: nothing can be trained on this table alone")
    return [*lines, *(f"lost: {line}" for line in facts["lost"])]


def has_both(facts: Mapping[str, Any]) -> bool:
    """Whether there are jets of signal and of background."""
    found = {name for jets in facts["jets"].values() for name in jets}
    options = facts["settings"]["table"]
    return not found.isdisjoint(options["signal"]) and not found.isdisjoint(options["background"])
