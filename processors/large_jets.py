"""Large-R jets of a chunk: which of them count, and the columns, constituents and truth that taggers need.

Both the table of a tagger and its application read jets here, so that training and use see the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np

from models.features import RaggedConstituents
from models.tagging.columns import COLUMNS, EVENT, MAX_CONSTITUENTS, NO_CATEGORY
from processors import event_filter
from processors.compiled import compiled
from processors.errors import InputError
from processors.event_filter import EventFilter, mask_of
from processors.filling import Job, with_format
from processors.formats import ReadRequest
from processors.jet_quality import match_truth
from processors.preflight import preflight
from processors.record import CONSTITUENT_ROW, splitmix64
from processors.substructure import substructure
from processors.trimming import trimmed
from processors.truth_category import truth_categories

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from processors.fileset import Dataset
    from processors.preflight import FileFacts
    from processors.record import (
        AnyArray,
        BoolArray,
        EventRecord,
        Float32Array,
        Int32Array,
        Int64Array,
        UInt64Array,
    )

OUTSIDE_PT = "jets outside the range of pt"
OUTSIDE_ETA = "jets outside the range of |eta|"
WITHOUT_CONSTITUENTS = "jets without constituents"
NOT_FINITE_MASS = "jets with a mass that is not finite"
TRUTH_DISTANCE = 0.75
"""A jet belongs to the nearest truth jet within this part of its radius."""
AUTO = "auto"
USUAL_TRUTH_JETS = "GenJetAK8"
_EVENT_COLUMNS = ("rho", "npv", "average_interactions", "true_interactions")


@dataclass(frozen=True, slots=True)
class LargeJets:
    """Which large-R jets count, and what they are (YAML section `large_jets`), energies in GeV.

    Attributes
    ----------
    collection, truth_collection
        Names in the file, of jets and of truth jets: "auto" for `USUAL_TRUTH_JETS` where files have them, None for no
        truth jets.
    radius
        Of the jet algorithm.
    min_pt, max_pt, max_abs_eta
        Jets beyond do not count.
    matching_distance
        A W or top is contained if all of its quarks are within this distance of the axis; None for the radius.
    grooming
        "trimming" leaves constituents out of which substructure is made, see `processors.trimming`; "none" does not.
    subjet_radius, subjet_fraction
        Of the trimming.
    """

    collection: str = "FatJet"
    truth_collection: str | None = AUTO
    radius: float = 0.8
    min_pt: float = 200.0
    max_pt: float = 2000.0
    max_abs_eta: float = 2.0
    matching_distance: float | None = None
    grooming: Literal["trimming", "none"] = "trimming"
    subjet_radius: float = 0.2
    subjet_fraction: float = 0.05

    def __post_init__(self) -> None:
        """Refuse ranges in which there is nothing."""
        if not self.radius > 0 or not 0 <= self.min_pt < self.max_pt or not self.max_abs_eta > 0:
            raise InputError(
                "large_jets needs radius and max_abs_eta above 0 and 0 <= min_pt < max_pt, got "
                f"{self.radius}, {self.max_abs_eta}, {self.min_pt} and {self.max_pt}"
            )
        if self.matching_distance is not None and not self.matching_distance > 0:
            raise InputError(f"large_jets.matching_distance must be above 0, got {self.matching_distance}")
        if not self.subjet_radius > 0 or not 0 <= self.subjet_fraction < 1:
            raise InputError(
                "large_jets needs subjet_radius above 0 and 0 <= subjet_fraction < 1, got "
                f"{self.subjet_radius} and {self.subjet_fraction}"
            )

    @property
    def distance(self) -> float:
        """Within this of the axis a quark belongs to a jet."""
        return self.radius if self.matching_distance is None else self.matching_distance


@dataclass(frozen=True, slots=True)
class ChosenJets:
    """The jets of a chunk that count, n of them.

    Attributes
    ----------
    places
        (n,) among all jets of the record.
    event
        (n,) place of the event in the record.
    columns
        Arrays (n,) float32 by the names of `models.tagging.columns`; nan where the file has no such column.
    constituents, ungroomed
        px, py, pz and E, hardest first: at most `MAX_CONSTITUENTS` of each jet of those that grooming left, and of all
        as many as were asked for.
    category
        (n,) number of the truth category, -1 in data and where files have no generated particles.
    truth_pt, truth_mass
        (n,) GeV, nan without a truth jet, the soft-drop mass also where the file has none of truth jets.
    excluded
        How many jets do not count, by reason.
    """

    places: Int64Array
    event: Int64Array
    columns: Mapping[str, Float32Array]
    constituents: RaggedConstituents
    ungroomed: RaggedConstituents
    category: AnyArray
    truth_pt: Float32Array
    truth_mass: Float32Array
    excluded: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        """Jets."""
        return len(self.places)


def read_request(
    dataset: Dataset, settings: LargeJets, *, leptons: bool = False, event_columns: tuple[str, ...] = ()
) -> ReadRequest:
    """What is read of a dataset, with further `event_columns` where files have them."""
    return ReadRequest(
        is_mc=dataset.is_mc,
        schema=dataset.schema,
        jet_collection=settings.collection,
        truth_jet_collection=None if settings.truth_collection == AUTO else settings.truth_collection,
        usual_truth_jets=USUAL_TRUTH_JETS,
        without_truth="set large_jets.truth_collection=null",
        weight=dataset.weight,
        triggers=tuple(trigger.path for trigger in dataset.triggers),
        jet_columns=("area",),
        event_columns=(*_EVENT_COLUMNS, *event_columns),
        truth_columns=("soft_drop_mass",),
        needed=("soft_drop_mass",),
        truth=settings.truth_collection is not None,
        leptons=leptons,
        constituents=True,
        particles=True,
    )


def look(
    datasets: Sequence[Dataset],
    settings: LargeJets,
    events: EventFilter,
    *,
    leptons: bool = False,
    event_columns: tuple[str, ...] = (),
) -> Job:
    """The job, after a look at every file and mask; all that is wrong is refused here."""
    event_filter.check(events)
    masked = [replace(dataset, lumi_mask=mask_of(dataset, events)) for dataset in datasets]
    for path in sorted({dataset.lumi_mask for dataset in masked if dataset.lumi_mask is not None}):
        event_filter.check_lumi_mask(path)
    request = partial(read_request, settings=settings, leptons=leptons, event_columns=event_columns)
    facts = preflight(masked, request)
    return Job(tuple(with_format(dataset, facts) for dataset in datasets), facts)


def without_constituents(facts: Iterable[FileFacts], collection: str) -> list[str]:
    """A line for each file that has no constituents of the jets."""
    return [
        f"{fact.dataset}: {fact.path} has no constituents of {collection}, of which substructure is made"
        for fact in facts
        if fact.columns.constituents is None
    ]


def without_particles(facts: Iterable[FileFacts], datasets: Iterable[Dataset]) -> list[str]:
    """A line for each file of simulation that has no generated particles."""
    simulated = {dataset.name for dataset in datasets if dataset.is_mc}
    return [
        f"{fact.dataset}: {fact.path} has no generated particles, which tell what a jet is in truth"
        for fact in facts
        if fact.dataset in simulated and fact.columns.particles is None
    ]


def without_truth_jets(
    facts: Iterable[FileFacts], datasets: Iterable[Dataset], settings: LargeJets, effect: str
) -> list[str]:
    """A line with its `effect` for each file of simulation that has none of the usual truth jets, where they count."""
    if settings.truth_collection != AUTO:
        return []
    simulated = {dataset.name for dataset in datasets if dataset.is_mc}
    return [
        f"{fact.dataset}: {fact.path} has no truth jets {USUAL_TRUTH_JETS}; {effect}; if there are others, name them "
        "by large_jets.truth_collection"
        for fact in facts
        if fact.dataset in simulated and fact.columns.truth is None
    ]


def choose_jets(
    record: EventRecord,
    settings: LargeJets,
    events: BoolArray,
    of_jets: BoolArray | None = None,
    *,
    max_ungroomed: int | None = 0,
) -> ChosenJets:
    """The jets that count, with everything a tagger may take.

    Looked at are the jets of `events` (n_events,), and of those the ones `of_jets` (n_jets,), None for all. Each has at
    most `max_ungroomed` of its constituents before grooming, None for all.
    """
    jets = record.jets
    event = np.repeat(np.arange(len(record)), jets.counts)
    wanted = events[event] if of_jets is None else events[event] & of_jets
    chosen, excluded = _counting(record, settings, wanted)
    places = np.flatnonzero(chosen)
    everything = four_momenta(record, places)
    constituents = _groomed(everything, settings).limited(MAX_CONSTITUENTS)
    categories = np.full(len(jets), NO_CATEGORY, np.int8)
    if record.particles is not None:
        categories = truth_categories(jets, record.particles, settings.distance)
    truth_pt, truth_mass = _of_truth(record, settings)
    return ChosenJets(
        places,
        event[places],
        _columns(record, places, event[places], substructure(constituents, settings.radius)),
        constituents,
        everything if max_ungroomed is None else everything.limited(max_ungroomed),
        categories[places],
        truth_pt[places],
        truth_mass[places],
        excluded,
    )


def identities(record: EventRecord, chosen: ChosenJets) -> UInt64Array:
    """A hash of event and place of each jet in it, (n,), the same for any chunking."""
    within = chosen.places - record.jets.offsets[chosen.event]
    return _hash_jets(record.identity[chosen.event], within)


def four_momenta(record: EventRecord, places: Int64Array) -> RaggedConstituents:
    """px, py, pz and E of all constituents of some jets, hardest first."""
    parts = record.constituents
    if parts is None:
        raise InputError(f"{record.file} has no constituents of its jets")
    mass = np.zeros_like(parts.pt) if parts.mass is None else parts.mass
    rows = record.jets.extra[CONSTITUENT_ROW][places]
    offsets, values = _four_momenta(rows, parts.offsets, (parts.pt, parts.eta, parts.phi, mass))
    return RaggedConstituents(offsets, values)


def _columns(
    record: EventRecord, places: Int64Array, event: Int64Array, variables: Mapping[str, AnyArray]
) -> dict[str, Float32Array]:
    """Columns (n,) of the jets at `places` of the record, in the events `event`, with variables of substructure."""
    jets = record.jets
    columns = {
        "pt": jets.pt[places],
        "eta": jets.eta[places],
        "phi": jets.phi[places],
        "mass": np.maximum(jets.extra["soft_drop_mass"][places], np.float32(0)),
        "mass_plain": jets.mass[places],
        **variables,
        **{name: values[event] for name, values in _event_values(record).items()},
    }
    return {name: columns[name].astype(np.float32, copy=False) for name in COLUMNS}


def _groomed(constituents: RaggedConstituents, settings: LargeJets) -> RaggedConstituents:
    if settings.grooming == "none":
        return constituents
    return trimmed(constituents, settings.subjet_radius, settings.subjet_fraction)


def _counting(record: EventRecord, settings: LargeJets, wanted: BoolArray) -> tuple[BoolArray, dict[str, int]]:
    """Whether each jet counts, (n_jets,), and how many do not by the first reason."""
    jets = record.jets
    faults = {
        OUTSIDE_PT: (jets.pt < settings.min_pt) | (jets.pt >= settings.max_pt),
        OUTSIDE_ETA: np.abs(jets.eta) >= settings.max_abs_eta,
        NOT_FINITE_MASS: ~(np.isfinite(jets.mass) & np.isfinite(jets.extra["soft_drop_mass"])),
        WITHOUT_CONSTITUENTS: _have_none(record),
    }
    counts = wanted.copy()
    excluded = {}
    for reason, fault in faults.items():
        if n := int(np.count_nonzero(counts & fault)):
            excluded[reason] = n
        counts &= ~fault
    return counts, excluded


def _have_none(record: EventRecord) -> BoolArray:
    if record.constituents is None:
        return np.ones(len(record.jets), np.bool_)
    return np.asarray(np.diff(record.constituents.offsets)[record.jets.extra[CONSTITUENT_ROW]] == 0)


def _event_values(record: EventRecord) -> dict[str, AnyArray]:
    interactions = record.true_interactions if record.average_interactions is None else record.average_interactions
    found: dict[str, AnyArray | None] = {"npv": record.npv, "rho": record.rho, "mu": interactions}
    nothing = np.full(len(record), np.nan)
    return {name: nothing if (values := found[name]) is None else values for name in EVENT}


def _of_truth(record: EventRecord, settings: LargeJets) -> tuple[Float32Array, Float32Array]:
    """Transverse momentum and soft-drop mass of the truth jet of every jet, (n_jets,), nan where there is none."""
    nothing = np.full(len(record.jets), np.nan, np.float32)
    if record.truth is None:
        return nothing, nothing
    matched = match_truth(record.jets, record.truth, TRUTH_DISTANCE * settings.radius)
    pt, mass = record.truth.pt, record.truth.extra.get("soft_drop_mass")
    found = [
        nothing if values is None else np.append(values, np.float32(np.nan))[matched].astype(np.float32)
        for values in (pt, mass)
    ]
    return found[0], found[1]


@compiled
def _hash_jets(identity: UInt64Array, place: Int64Array) -> UInt64Array:
    hashes = np.empty(len(identity), np.uint64)
    for i in range(len(identity)):
        hashes[i] = splitmix64(identity[i] ^ splitmix64(np.uint64(place[i] + 1)))
    return hashes


@compiled
def _four_momenta(
    rows: Int32Array, offsets: Int64Array, columns: tuple[Float32Array, ...]
) -> tuple[Int64Array, Float32Array]:
    """Offsets (n_jets + 1,) and px, py, pz, E of the constituents of each row asked for."""
    pt, eta, phi, mass = columns
    starts = np.zeros(len(rows) + 1, np.int64)
    for i in range(len(rows)):
        starts[i + 1] = starts[i] + offsets[rows[i] + 1] - offsets[rows[i]]
    values = np.empty((starts[-1], 4), np.float32)
    for i in range(len(rows)):
        for k in range(starts[i + 1] - starts[i]):
            j, place = offsets[rows[i]] + k, starts[i] + k
            transverse, along = np.float64(pt[j]), np.float64(pt[j]) * np.sinh(np.float64(eta[j]))
            heavy = max(np.float64(mass[j]), 0.0)
            values[place, 0] = transverse * np.cos(np.float64(phi[j]))
            values[place, 1] = transverse * np.sin(np.float64(phi[j]))
            values[place, 2] = along
            values[place, 3] = np.sqrt(transverse**2 + along**2 + heavy**2)
    return starts, values
