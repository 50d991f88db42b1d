"""Datasets and settings -> the table that a jet calibration is trained on.

A chunk becomes a part, see `processors.table_parts`. At the end the parts are put one after another, with weights that
need the whole spectrum.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from coffea.processor import ProcessorABC

from models.event_table import EVENT_COLUMNS, TRUTH_COLUMNS, EventTable, read_table, write_rows
from models.features import LEADING_JETS, TABLE_FEATURES, RaggedConstituents
from models.flat_weights import flat_weights
from processors import filling, kernels
from processors.compiled import compiled
from processors.dijet import DijetSettings, leading, read_request
from processors.errors import InputError
from processors.event_filter import EventFilter, lumi_mask, mask_of, pileup_weight, trigger_decision
from processors.execution import Execution
from processors.formats import BranchMap, ReadRequest  # noqa: TC001  read when settings are made
from processors.histograms import Filled, OrderedSum
from processors.jet_calibration import JetCalibration, calibrate
from processors.jet_features import jet_columns, jet_constituents
from processors.jet_quality import JetQuality, good_jets, match_truth
from processors.preflight import preflight
from processors.reading import read_events
from processors.selection import DijetSelection
from processors.side_by_side import jet_algo
from processors.table_parts import lost_lines, part_path, part_store, write_parts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from processors.execution import Outcome
    from processors.fileset import Dataset
    from processors.filling import Job
    from processors.record import AnyArray, BoolArray, EventRecord, Float32Array, Float64Array, Int64Array

# What an input of a network is made of, besides columns of its own name.
_EVENT_COLUMNS = ("rho", "npv", "average_interactions", "true_interactions")


@dataclass(frozen=True, slots=True)
class TableOptions:
    """What is written of an event (YAML section `table`), energies in GeV.

    Attributes
    ----------
    min_pt_avg
        Events below are left out; simulation by its truth jets where it has them, so that no fluctuation decides.
    truth_max_dr
        Matches a jet to its truth jet.
    isolation_min_pt
        A truth jet above this spoils the isolation of those near it.
    weight_bound
        No weight of the flat spectrum is more than this many times the mean.
    """

    min_pt_avg: float = 20.0
    truth_max_dr: float = 0.3
    isolation_min_pt: float = 7.0
    weight_bound: float = 5.0

    def __post_init__(self) -> None:
        """Refuse values that would leave nothing, or bound nothing."""
        if not self.truth_max_dr > 0 or not self.weight_bound > 1:
            raise InputError(
                f"table.truth_max_dr must be above 0 and table.weight_bound above 1, got {self.truth_max_dr} and "
                f"{self.weight_bound}"
            )


@dataclass(frozen=True, slots=True)
class TableSettings:
    """All settings of a training table; sections that a run has too mean the same."""

    selection: DijetSelection = field(default_factory=DijetSelection)
    events: EventFilter = field(default_factory=EventFilter)
    jets: JetQuality = field(default_factory=JetQuality)
    calibration: JetCalibration = field(default_factory=JetCalibration)
    branches: BranchMap | None = None
    execution: Execution = field(default_factory=Execution)
    table: TableOptions = field(default_factory=TableOptions)

    @property
    def filling(self) -> DijetSettings:
        """The part that a run has too."""
        return DijetSettings(
            selection=self.selection,
            events=self.events,
            jets=self.jets,
            calibration=self.calibration,
            branches=self.branches,
            replicas=0,
        )


class TableProcessor(ProcessorABC):
    """Writes the part of one chunk into `folder`; datasets and settings as for `DijetProcessor`."""

    def __init__(self, datasets: Mapping[str, Dataset], settings: TableSettings, folder: Path) -> None:
        self.datasets = dict(datasets)
        self.settings = settings
        self.folder = folder

    def process(self, events: Any) -> OrderedSum:
        """An empty sum once the part is on disk."""
        dataset = self.datasets[events.metadata["dataset"]]
        record = read_events(events, table_request(dataset, self.settings))
        table = events_of(record, dataset, self.settings)
        write_rows([table], part_path(self.folder, events.metadata["chunk_key"]), table.facts)
        return OrderedSum.single(int(events.metadata["chunk"]), Filled({}))

    def postprocess(self, accumulator: OrderedSum) -> OrderedSum:
        """Nothing is left to do after the sum."""
        return accumulator


def table_request(dataset: Dataset, settings: TableSettings) -> ReadRequest:
    """What is read of a dataset: what a run reads, and every input of networks that the file has."""
    request = read_request(dataset, settings.filling)
    return replace(
        request,
        jet_columns=tuple(dict.fromkeys((*request.jet_columns, *TABLE_FEATURES))),
        event_columns=tuple(dict.fromkeys((*request.event_columns, *_EVENT_COLUMNS))),
        constituents=True,
    )


def look(datasets: Sequence[Dataset], settings: TableSettings) -> Job:
    """The job, after a look at every file; all that is wrong is refused here."""
    if settings.calibration.onnx is not None:
        raise InputError("calibration.onnx is what a table is made to train; leave it out")
    known = filling.look(datasets, settings.filling).datasets
    return filling.Job(known, tuple(preflight(known, partial(table_request, settings=settings))))


def write_table(job: Job, settings: TableSettings, path: Path) -> tuple[dict[str, Any], Outcome]:
    """Write the table of a job to `path`; returns what is to be known about it, and the outcome of the run.

    Parts stay beside it in `<name>.parts` until it is whole.
    """
    content = {**filling.ingredients(job.datasets, settings.filling), "table": repr(settings.table)}
    datasets = {dataset.name: dataset for dataset in job.datasets}
    store = part_store(path, content)
    processor = TableProcessor(datasets, settings, store.folder)
    parts, outcome = write_parts(job, processor, settings.execution, store)
    facts = _assemble(parts, job, outcome, settings, path)
    store.remove()
    return facts, outcome


def events_of(record: EventRecord, dataset: Dataset, settings: TableSettings) -> EventTable:
    """The events of a chunk that a calibration can learn from: two jets, of data only dijet events.

    The weights that need the whole spectrum are nan.
    """
    calibrated, recalibrated = calibrate(record, settings.calibration, jet_algo(dataset))
    good, not_good = good_jets(calibrated, settings.jets)
    pairs = kernels.find_pairs(leading(calibrated.jets), good)
    fired, prescale = trigger_decision(calibrated.triggers, dataset.triggers, pairs.pt_avg)
    certified = lumi_mask(calibrated, mask_of(dataset, settings.events))
    is_dijet = certified & fired & _balances(calibrated, pairs, settings.selection)
    truth = _truth_columns(calibrated, pairs, settings.table)
    scale = np.where(truth.pt_avg > 0, truth.pt_avg, pairs.pt_avg)
    is_kept = (pairs.second >= 0) & (scale >= settings.table.min_pt_avg) & (is_dijet | record.is_mc)
    weight = record.weight * pileup_weight(record, settings.events, "nominal") * np.where(is_dijet, prescale, 1.0)
    n = len(record)
    event = {
        "dataset": np.zeros(n),
        "is_mc": np.full(n, record.is_mc),
        "identity": record.identity,
        "weight": weight,
        "is_dijet": is_dijet,
        "pt_avg": pairs.pt_avg,
        "truth_pt_avg": truth.pt_avg,
        "weight_flat": np.full(n, np.nan),
        "weight_truth": np.full(n, np.nan),
    }
    places = np.column_stack([pairs.first, pairs.second, pairs.third])
    columns = {name: values() for name, values in jet_columns(calibrated, settings.calibration.rho).items()}
    jets = {name: _by_event(columns[name], places) for name in TABLE_FEATURES if name in columns} | truth.columns
    excluded = {**record.excluded, **recalibrated, **not_good}
    table = EventTable(
        (dataset.name,),
        {name: event[name].astype(kind) for name, kind in EVENT_COLUMNS.items()},
        jets,
        _constituents(calibrated, places),
        {"excluded": excluded, "constituents": record.constituents is not None},
    )
    return table.take(is_kept)


@dataclass(frozen=True, slots=True)
class _Truth:
    """Mean pT of the leading truth jets, (n_events,), and the truth columns of the leading jets, (n_events, m)."""

    pt_avg: Float64Array
    columns: dict[str, Float32Array]


def _truth_columns(record: EventRecord, pairs: kernels.Pairs, options: TableOptions) -> _Truth:
    n = len(record)
    if record.truth is None:
        nothing = {name: np.full((n, LEADING_JETS), np.nan, np.float32) for name in TRUTH_COLUMNS}
        return _Truth(np.full(n, np.nan), {**nothing, "truth_rank": np.full((n, LEADING_JETS), -1, np.float32)})
    truth = record.truth
    matched = match_truth(record.jets, truth, options.truth_max_dr)
    isolation = _distance_to_next(truth.offsets, truth.pt, truth.eta, truth.phi, options.isolation_min_pt)
    rank = (np.arange(len(truth)) - np.repeat(truth.offsets[:-1], truth.counts)).astype(np.float32)
    places = np.column_stack([pairs.first, pairs.second, pairs.third])
    partner = np.where(places >= 0, np.append(matched, -1)[places], -1)
    columns = {
        "truth_pt": _by_event(truth.pt, partner),
        "truth_eta": _by_event(truth.eta, partner),
        "truth_rank": np.nan_to_num(_by_event(rank, partner), nan=-1),
        "truth_isolation": _by_event(isolation, partner),
    }
    first = truth.offsets[:-1]
    has_two = truth.counts >= 2
    mean = np.full(n, np.nan)
    mean[has_two] = 0.5 * (truth.pt[first[has_two]].astype(np.float64) + truth.pt[first[has_two] + 1])
    return _Truth(mean, columns)


def _balances(record: EventRecord, pairs: kernels.Pairs, selection: DijetSelection) -> BoolArray:
    """Whether the two leading jets are back to back and the third is soft, (n_events,)."""
    third = np.append(record.jets.pt, 0.0)[pairs.third]
    limit = np.maximum(selection.third_jet_min_pt, selection.third_jet_max_fraction * pairs.pt_avg)
    with np.errstate(invalid="ignore"):
        return (pairs.delta_phi > selection.min_delta_phi) & (third < limit)


def _by_event(values: AnyArray, places: NDArray[np.int32]) -> Float32Array:
    """Values at flat places (n_events, m), nan where a place is -1."""
    return np.where(places >= 0, np.append(values.astype(np.float32), np.float32(np.nan))[places], np.float32(np.nan))


def _constituents(record: EventRecord, places: NDArray[np.int32]) -> RaggedConstituents | None:
    """Those of the leading jets, none for a jet that is not there."""
    constituents = jet_constituents(record)
    if constituents is None:
        return None
    extended = RaggedConstituents(np.append(constituents.offsets, constituents.offsets[-1]), constituents.values)
    return extended.take(np.where(places >= 0, places, len(record.jets)).ravel())


def _assemble(parts: Sequence[Path], job: Job, outcome: Outcome, settings: TableSettings, path: Path) -> dict[str, Any]:
    """Put the parts together, and say what came of it."""
    events = [read_table(part, constituents=False) for part in parts]
    if not any(len(table) for table in events):
        raise InputError(
            "no event is left for the table; it takes events with two jets and a mean pT above table.min_pt_avg "
            f"({settings.table.min_pt_avg:g} GeV), of data only dijet events that pass their triggers"
        )
    names = tuple(dataset.name for dataset in job.datasets)
    kept = {name: sum(float(t.event["weight"].sum()) for t in events if t.datasets == (name,)) for name in names}
    factors = job.normalisations(outcome, kept)
    weights, summary = _weights(events, factors, settings.table.weight_bound)
    shared = [name for name in (*TABLE_FEATURES, *TRUTH_COLUMNS) if all(name in table.jets for table in events)]
    has_constituents = all(table.facts["constituents"] for table in events)
    missing = {
        name: [c for c in TABLE_FEATURES if any(c not in t.jets for t in events if t.datasets == (name,))]
        for name in names
    }
    excluded: dict[str, dict[str, int]] = {name: {} for name in names}
    for table in events:
        told = excluded[table.datasets[0]]
        for reason, count in table.facts["excluded"].items():
            told[reason] = told.get(reason, 0) + count
    facts = {
        "events": {name: sum(len(table) for table in events if table.datasets == (name,)) for name in names},
        "missing": {name: columns for name, columns in missing.items() if columns},
        "constituents": has_constituents,
        "weights": summary,
        "excluded": excluded,
        "lost": lost_lines(outcome),
        "ingredients": filling.ingredients(job.datasets, settings.filling),
        "table": {name: getattr(settings.table, name) for name in TableOptions.__slots__},
    }
    write_rows(_finished(parts, weights, names, shared, has_constituents=has_constituents), path, facts)
    return facts


def _finished(
    parts: Sequence[Path],
    weights: Sequence[Mapping[str, AnyArray]],
    names: tuple[str, ...],
    columns: Sequence[str],
    *,
    has_constituents: bool,
) -> Iterator[EventTable]:
    """Every part with its weights, its dataset numbered among all and the columns that all have."""
    for part, given in zip(parts, weights, strict=True):
        table = read_table(part)
        number = np.full(len(table), names.index(table.datasets[0]), np.int16)
        event = {name: given.get(name, table.event[name]) for name in EVENT_COLUMNS} | {"dataset": number}
        whole = replace(table, datasets=names, event=event)
        yield whole.with_columns(columns, constituents=has_constituents)


def _weights(
    tables: Sequence[EventTable], factors: Mapping[str, float], bound: float
) -> tuple[list[dict[str, AnyArray]], dict[str, Any]]:
    """The columns weight, weight_flat and weight_truth of each table, and what the bound on them costs."""
    column = {name: np.concatenate([table.event[name] for table in tables]) for name in EVENT_COLUMNS}
    weight = np.concatenate([table.event["weight"] * factors[table.datasets[0]] for table in tables])
    flat, of_truth = np.zeros(len(weight)), np.zeros(len(weight))
    summary = {}
    for word, is_mc in (("simulation", True), ("data", False)):
        chosen = column["is_mc"] == is_mc
        if not chosen.any():
            continue
        pairs = flat_weights(column["pt_avg"][chosen], weight[chosen] * column["is_dijet"][chosen], bound)
        flat[chosen] = pairs.weights
        summary[f"{word}, pairs"] = _told(pairs, int(np.count_nonzero(column["is_dijet"][chosen])))
        if is_mc:
            truth = flat_weights(column["truth_pt_avg"][chosen], weight[chosen], bound)
            of_truth[chosen] = truth.weights
            summary[f"{word}, truth"] = _told(truth, int(np.count_nonzero(chosen)))
    ends = np.cumsum([len(table) for table in tables])[:-1]
    parts = [np.split(values, ends) for values in (weight, flat, of_truth)]
    names = ("weight", "weight_flat", "weight_truth")
    return [
        {name: values.astype(EVENT_COLUMNS[name]) for name, values in zip(names, part, strict=True)}
        for part in zip(*parts, strict=True)
    ], summary


def _told(weights: Any, n_events: int) -> dict[str, float]:
    return {
        "events": n_events,
        "effective": round(weights.effective, 1),
        "effective_unbounded": round(weights.effective_unbounded, 1),
        "limited": weights.limited,
    }


def summary_lines(facts: Mapping[str, Any]) -> list[str]:
    """What the console tells of a table."""
    lines = [f"{name}: {count:,} events" for name, count in facts["events"].items()]
    lines += [f"{name}: the files have no {', '.join(columns)}" for name, columns in facts["missing"].items()]
    if not facts["constituents"]:
        lines.append("no constituents, so only networks without them can be trained")
    for word, told in facts["weights"].items():
        lines.append(
            f"weights of {word}: {told['effective']:,.0f} effective of {told['events']:,} events "
            f"({told['effective_unbounded']:,.0f} without the bound, {told['limited']:.2%} at it)"
        )
    lines += [f"lost: {line}" for line in facts["lost"]]
    return lines


@compiled
def _distance_to_next(
    offsets: Int64Array, pt: Float32Array, eta: Float32Array, phi: Float32Array, min_pt: float
) -> Float32Array:
    """Distance dR of each object to the nearest other one of its event above `min_pt`; infinite for none."""
    nearest = np.full(len(pt), np.inf, np.float32)
    for i in range(len(offsets) - 1):
        for j in range(offsets[i], offsets[i + 1]):
            for k in range(offsets[i], offsets[i + 1]):
                if j == k or pt[k] < min_pt:
                    continue
                delta_phi = abs(np.float64(phi[j]) - phi[k])
                delta_phi = min(delta_phi, 2 * np.pi - delta_phi)
                distance = np.hypot(np.float64(eta[j]) - eta[k], delta_phi)
                nearest[j] = min(nearest[j], np.float32(distance))
    return nearest
