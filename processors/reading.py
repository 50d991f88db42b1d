"""A chunk of coffea's Runner -> one EventRecord.

Two ways lead there. Where the Runner was given `NoColumns` as schema, the branches are read by entry range from the
file that the Runner holds open, for every format alike. This is the default: it costs a quarter less than the way
through a schema and does not depend on what a schema can digest. Where the Runner was given the schema coffea has for
the format (`coffea_schema`), the columns are taken from its events, and what they lack from the file.

`runner_options` lets coffea read the description of a file of some thousand branches once per process and not once
per chunk.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import awkward as ak
import numpy as np
from coffea.nanoevents import BaseSchema, DelphesSchema, NanoAODSchema, PFNanoAODSchema, PHYSLITESchema

from processors.errors import UnreadableEventsError
from processors.formats import (
    EVENT_ID,
    JET_COLUMNS,
    CollectionBranches,
    FileColumns,
    FormatName,
    ReadRequest,
    branch_names,
    find_columns,
)
from processors.kept_files import uproot_options
from processors.record import (
    BAD_CONSTITUENT,
    CONSTITUENT_ROW,
    AnyArray,
    BoolArray,
    Columns,
    Constituents,
    EventRecord,
    Float32Array,
    Float64Array,
    Int32Array,
    Int64Array,
    Jets,
    Particles,
    entry_identity,
    event_identity,
    group_constituents,
    order_jets,
    relink,
    usable_weights,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

__all__ = ["JET_COLUMNS", "NoColumns", "ReadRequest", "coffea_schema", "read_events", "runner_options"]

_PARTON_SHOWER_WEIGHTS = 4
PRIMARY_VERTEX, PILE_UP_VERTEX = 1, 3
"""xAOD::VxType of vertices that count."""


def read_events(events: Any, request: ReadRequest) -> EventRecord:
    """The record of a chunk.

    `events` is what coffea's Runner hands to `process`, whole. Only the columns asked for are read.

    Raises
    ------
    UnreadableEventsError
        Where the file changed since it was looked at, or cannot be read within the chunk.
    InputError
        Where the file lacks a branch, which a look at it beforehand (`processors.preflight`) tells earlier.
    """
    chunk = _Chunk.of(events)
    found = find_columns(branch_names(chunk.tree), request)
    source: _Source = _SchemaSource(events, found.format, chunk) if events.fields else chunk
    event = {column: source.column(branch) for column, branch in found.event.items()}
    jets, truth, excluded = _jets_and_truth(source, found)
    constituents, not_constituents = _constituents(source, found, len(chunk))
    electrons, not_electrons = _leptons(source, found, found.electrons, "electrons")
    muons, not_muons = _leptons(source, found, found.muons, "muons")
    rho, interactions = _first(event, "rho"), _first(event, "true_interactions")
    average = _first(event, "average_interactions")
    weight, without_weight = usable_weights(_weight(event, len(chunk)))
    return EventRecord(
        dataset=chunk.dataset,
        is_mc=request.is_mc,
        file=chunk.file,
        entry_start=chunk.start,
        **_identification(event, chunk),
        weight=weight,
        rho=None if rho is None else _energy(rho, found.energy_unit),
        npv=_npv(event),
        true_interactions=None if interactions is None else _float32(interactions),
        average_interactions=None if average is None else _float32(average),
        parton_shower=_parton_shower(event),
        jets=jets,
        truth=truth,
        constituents=constituents,
        particles=_particles(source, found),
        electrons=electrons,
        muons=muons,
        met=_missing_momentum(event, found.energy_unit),
        triggers=_triggers(request.triggers, found, source, len(chunk)),
        excluded={**excluded, **not_constituents, **not_electrons, **not_muons, **without_weight},
    )


def _parton_shower(event: Mapping[str, _Values]) -> Float32Array | None:
    """Four weights of each event, (n_events, 4), 1 where one is not finite; None unless each event has four."""
    found = event.get("parton_shower")
    if found is None or found.offsets is None or not (np.diff(found.offsets) == _PARTON_SHOWER_WEIGHTS).all():
        return None
    weights = _float32(found.values).reshape(-1, _PARTON_SHOWER_WEIGHTS)
    return np.where(np.isfinite(weights), weights, np.float32(1))


def _triggers(paths: Iterable[str], found: FileColumns, source: _Source, n_events: int) -> dict[str, BoolArray]:
    """Decision of every path asked for; one that this file lacks, as menus change, did not fire."""
    return {
        path: source.column(found.triggers[path]).values.astype(np.bool_)
        if path in found.triggers
        else np.zeros(n_events, np.bool_)
        for path in paths
    }


def coffea_schema(file_format: FormatName) -> type[BaseSchema]:
    """The schema coffea has for a format, silent about what the file lacks; `NoColumns` for a flat ntuple."""
    return _COFFEA_SCHEMAS.get(file_format, NoColumns)


def runner_options(columns: Iterable[FileColumns] = ()) -> dict[str, Any]:
    """Keyword arguments for `Runner.run`; they can be pickled.

    Descriptions of trees are kept between the chunks of a file, arrays are not. A schema is offered the branches of
    `columns` alone, with the lengths of collections: none for `NoColumns`, those of all files for coffea's schemas.
    """
    branches = {name for found in columns for branch in found.branches() for name in (branch, *_lengths(branch))}
    return {
        "uproot_options": uproot_options(),
        "iteritems_options": {"filter_name": sorted(branches)},
    }


def _lengths(branch: str) -> tuple[str, str]:
    """Branches that may hold the number of objects in the collection of `branch`, in NanoAOD and Delphes."""
    return f"n{branch.partition('_')[0]}", f"{branch.partition('/')[0]}_size"


class NoColumns(BaseSchema):
    """Events without columns: `read_events` reads the branches itself."""

    def __init__(self, base_form: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        super().__init__({**base_form, "fields": [], "contents": []}, *args, **kwargs)


class _QuietNanoAOD(NanoAODSchema):
    """Says nothing of absent cross-references, and leaves absent event numbers to us."""

    warn_missing_crossrefs = False
    event_ids: tuple[str, ...] = ()


class _QuietPFNano(PFNanoAODSchema):
    """The same with constituents."""

    warn_missing_crossrefs = False
    event_ids: tuple[str, ...] = ()


_COFFEA_SCHEMAS: Mapping[str, type[BaseSchema]] = {
    "nanoaod": _QuietNanoAOD,
    "pfnano": _QuietPFNano,
    "physlite": PHYSLITESchema,
    "delphes": DelphesSchema,
}


@dataclass(frozen=True, slots=True)
class _Values:
    """A column as read: `offsets` (n_events + 1,) if an event has any number of values, None if it has one each."""

    values: AnyArray
    offsets: Int64Array | None = None


class _Source(Protocol):
    """Where the columns of a chunk come from."""

    def column(self, branch: str) -> _Values:
        """The values of a branch in this chunk."""


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Entries [start, stop) of a tree in the open file, read branch by branch."""

    tree: Any
    dataset: str
    file: str
    start: int
    stop: int

    @classmethod
    def of(cls, events: Any) -> _Chunk:
        """The chunk that the Runner made `events` of, still the same file."""
        told = events.metadata
        file = events.attrs["@events_factory"].file_handle
        chunk = cls(file[told["treename"]], told["dataset"], told["filename"], told["entrystart"], told["entrystop"])
        if len(events) != len(chunk) or told["fileuuid"] not in ("", str(chunk.tree.file.uuid)):
            raise UnreadableEventsError(f"{chunk}: the file changed since it was looked at")
        return chunk

    def __len__(self) -> int:
        return self.stop - self.start

    def __str__(self) -> str:
        return f"{self.file}, entries {self.start} to {self.stop}"

    def column(self, branch: str) -> _Values:
        """The values of a branch in this chunk."""
        with self.reading(branch):
            return _values(self.tree[branch].array(entry_start=self.start, entry_stop=self.stop).layout)

    @contextlib.contextmanager
    def reading(self, branch: str) -> Iterator[None]:
        """Tell damage to the file from other errors: whatever fails while a branch is read, is the file's."""
        try:
            yield
        except MemoryError:
            raise
        except Exception as error:
            reason = (str(error).strip().splitlines() or [""])[0]
            raise UnreadableEventsError(
                f"{self}: cannot read branch {branch!r} ({type(error).__name__}: {reason})"
            ) from error


@dataclass(frozen=True, slots=True)
class _SchemaSource:
    """Columns of events that coffea's schema of the format made; what it left out comes from the chunk."""

    events: Any
    format: FormatName
    chunk: _Chunk

    def column(self, branch: str) -> _Values:
        """The values of a branch in this chunk."""
        layout = self.events.layout
        for name in _schema_path(self.format, branch):
            if name not in layout.fields:
                return self.chunk.column(branch)
            layout = layout[name]
        with self.chunk.reading(branch):
            return _values(ak.materialize(layout, highlevel=False))


def _schema_path(file_format: FormatName, branch: str) -> tuple[str, ...]:
    """Where coffea's schema puts a branch: collection and field, or a name of its own."""
    if file_format == "physlite":
        container, _, name = branch.rpartition("/")[2].replace(":", ".").partition(".")
        return container.replace("Analysis", "").replace("AuxDyn", "").replace("Aux", ""), name
    if file_format == "delphes":
        return tuple(branch.partition("/")[2].split("."))
    return tuple(branch.split("_", 1))


def _values(layout: Any) -> _Values:
    """Numbers and offsets of an awkward layout of one or two dimensions."""
    if isinstance(layout, ak.contents.NumpyArray) and layout.data.ndim == 1:
        return _Values(np.asarray(layout.data))
    if not isinstance(layout, ak.contents.ListOffsetArray):
        layout = ak.to_packed(ak.drop_none(ak.from_regular(layout), axis=-1), highlevel=False)
    offsets = np.asarray(layout.offsets.data, np.int64)
    content = ak.to_numpy(layout.content, allow_missing=False)
    return _Values(content[offsets[0] : offsets[-1]], offsets - offsets[0] if offsets[0] else offsets)


def _jets_and_truth(source: _Source, found: FileColumns) -> tuple[Jets, Jets | None, dict[str, int]]:
    """Jets and truth jets in order, the links from one to the other kept, and what was left out."""
    columns = _columns(source, found.jets, found.energy_unit)
    extra = dict(columns.extra)
    links = extra.pop("truth_index", None)
    if found.constituents is not None:
        extra[CONSTITUENT_ROW] = np.arange(len(columns.pt), dtype=np.int32)
    if found.truth is None:
        jets = order_jets(replace(columns, extra=extra))
        return jets.jets, None, dict(jets.excluded)
    truth_columns = _columns(source, found.truth, found.energy_unit)
    truth = order_jets(truth_columns, "truth jets")
    if links is not None:
        links = links.astype(np.int32, copy=False)
        extra["truth_index"] = relink(links, columns.offsets, truth_columns.offsets, truth.places)
    jets = order_jets(replace(columns, extra=extra))
    return jets.jets, truth.jets, {**jets.excluded, **truth.excluded}


def _constituents(source: _Source, found: FileColumns, n_events: int) -> tuple[Constituents | None, dict[str, int]]:
    """Constituents by jet in the order of the file, and what was left out."""
    if found.constituents is None:
        return None, {}
    read = {name: source.column(branch) for name, branch in found.constituents.items()}
    links, candidates = read["jet_index"], read["pt"]
    jet_offsets = source.column(found.jets.columns["pt"][0]).offsets
    if jet_offsets is None or links.offsets is None or candidates.offsets is None:
        raise UnreadableEventsError(f"{source}: the constituents of {n_events} events are no lists")
    lengths = {name: len(read[name].values) for name in ("jet_index", "candidate_index")}
    if len(set(lengths.values())) > 1:
        raise UnreadableEventsError(f"{source}: the columns of constituents have different lengths, {lengths}")
    momenta = _candidates(source, found, read)
    jet, candidate = (read[name].values.astype(np.int32, copy=False) for name in ("jet_index", "candidate_index"))
    offsets = links.offsets
    if "puppi_weight" in read:
        used = _have_weight(read["puppi_weight"].values, candidates.offsets, offsets, candidate)
        offsets, jet, candidate = np.append(0, np.cumsum(used))[offsets], jet[used], candidate[used]
    constituents, n_bad = group_constituents(jet_offsets, momenta, offsets, jet, candidate)
    return constituents, {BAD_CONSTITUENT: n_bad} if n_bad else {}


def _candidates(source: _Source, found: FileColumns, read: Mapping[str, _Values]) -> Columns:
    """Momenta of all candidates, times their weight where it counts."""
    lengths = {name: len(read[name].values) for name in ("pt", "eta", "phi", "mass", "puppi_weight") if name in read}
    if len(set(lengths.values())) > 1:
        raise UnreadableEventsError(f"{source}: the columns of constituents have different lengths, {lengths}")
    weight = read["puppi_weight"].values if "puppi_weight" in read else np.float32(1)
    offsets = read["pt"].offsets
    assert offsets is not None  # noqa: S101  refused before
    return Columns(
        offsets,
        _energy(read["pt"].values * weight, found.energy_unit),
        _float32(read["eta"].values),
        _float32(read["phi"].values),
        _energy(read["mass"].values * weight, found.energy_unit) if "mass" in read else None,
    )


def _have_weight(
    weight: AnyArray, candidate_offsets: Int64Array, link_offsets: Int64Array, candidate: Int32Array
) -> BoolArray:
    """Links (n_links,) to anything but a candidate of weight 0, which is part of no jet."""
    event = np.repeat(np.arange(len(link_offsets) - 1), np.diff(link_offsets))
    is_there = (candidate >= 0) & (candidate < np.diff(candidate_offsets)[event])
    place = np.where(is_there, candidate_offsets[event] + candidate, len(weight))
    return np.append(weight != 0, True)[place]


def _particles(source: _Source, found: FileColumns) -> Particles | None:
    if found.particles is None:
        return None
    read = {name: source.column(branch) for name, branch in found.particles.items()}
    lengths = {name: len(values.values) for name, values in read.items()}
    offsets = read["pt"].offsets
    if offsets is None or len(set(lengths.values())) > 1:
        raise UnreadableEventsError(f"{source}: the columns of particles have different lengths, {lengths}")
    mother = read["mother"].values.astype(np.int32)
    is_there = (mother >= 0) & (mother < np.repeat(np.diff(offsets), np.diff(offsets)))
    return Particles(
        offsets,
        _energy(read["pt"].values, found.energy_unit),
        _float32(read["eta"].values),
        _float32(read["phi"].values),
        read["pdg_id"].values.astype(np.int32),
        np.where(is_there, mother, np.int32(-1)),
    )


def _leptons(
    source: _Source, found: FileColumns, branches: CollectionBranches | None, name: str
) -> tuple[Jets | None, Mapping[str, int]]:
    if branches is None:
        return None, {}
    leptons = order_jets(_columns(source, branches, found.energy_unit), name)
    return leptons.jets, leptons.excluded


def _columns(source: _Source, branches: CollectionBranches, unit: float) -> Columns:
    """A collection as it lies in the file, in GeV."""
    read = {name: _object_values(source, given) for name, given in branches.columns.items()}
    lengths = {name: len(values.values) for name, values in read.items()}
    if len(set(lengths.values())) > 1:
        raise UnreadableEventsError(f"{source}: the columns of {branches.name} have different lengths, {lengths}")
    pt = read.pop("pt")
    offsets = np.arange(len(pt.values) + 1) if pt.offsets is None else pt.offsets
    mass = read.pop("mass", None)
    return Columns(
        offsets=offsets,
        pt=_energy(pt.values, unit),
        eta=_float32(read.pop("eta").values),
        phi=_float32(read.pop("phi").values),
        mass=None if mass is None else _energy(mass.values, unit),
        extra={name: _yes_or_no(values.values) for name, values in read.items()},
    )


def _object_values(source: _Source, branches: Sequence[str]) -> _Values:
    """One value per object, from a branch of many per event or from several branches of one per event."""
    if len(branches) == 1:
        return source.column(branches[0])
    values = np.column_stack([source.column(branch).values for branch in branches])
    return _Values(values.ravel(), np.arange(0, values.size + 1, values.shape[1]))


def _yes_or_no(values: AnyArray) -> AnyArray:
    """PHYSLITE keeps its decisions as signed bytes, which nothing else is kept as."""
    return values != 0 if values.dtype == np.int8 else values


def _energy(values: AnyArray, unit: float) -> Float32Array:
    return _float32(values) if unit == 1 else _float32(values * np.float64(unit))


def _float32(values: AnyArray) -> Float32Array:
    return np.ascontiguousarray(values, np.float32)


def _first(event: Mapping[str, _Values], name: str) -> AnyArray | None:
    """The column of the event, (n,); the first of several values, nan (0 for integers) where there is none."""
    if name not in event:
        return None
    values, offsets = event[name].values, event[name].offsets
    if offsets is None:
        return values
    is_there = np.diff(offsets) > 0
    first = np.full(len(is_there), np.nan if values.dtype.kind == "f" else 0, values.dtype)
    first[is_there] = values[offsets[:-1][is_there]]
    return first


def _weight(event: Mapping[str, _Values], n: int) -> Float64Array:
    weight = _first(event, "weight")
    return np.ones(n) if weight is None else weight.astype(np.float64)


def _missing_momentum(event: Mapping[str, _Values], unit: float) -> tuple[Float64Array, Float64Array] | None:
    """Components along x and y, nan where the file has no finite momentum."""
    pt, phi = _first(event, "met_pt"), _first(event, "met_phi")
    if pt is None or phi is None:
        return None
    finite = np.isfinite(pt) & np.isfinite(phi)
    pt, phi = np.where(finite, pt * np.float64(unit), np.nan), np.where(finite, phi, 0.0)
    return pt * np.cos(phi), pt * np.sin(phi)


def _npv(event: Mapping[str, _Values]) -> Int32Array | None:
    """Reconstructed vertices, as the file counts them or by their type."""
    count = _first(event, "npv")
    if count is not None:
        return count.astype(np.int32)
    if "vertex_type" not in event:
        return None
    vertices = event["vertex_type"]
    counts = np.concatenate([[0], np.cumsum(np.isin(vertices.values, (PRIMARY_VERTEX, PILE_UP_VERTEX)))])
    return np.diff(counts[vertices.offsets]).astype(np.int32)


def _identification(event: Mapping[str, _Values], chunk: _Chunk) -> dict[str, Any]:
    """Run, luminosity block and event number, and the hash that names each event."""
    given = tuple(_first(event, name) for name in EVENT_ID)
    parts = [np.zeros(len(chunk), np.int64) if part is None else part for part in given]
    run, block, number = parts[0].astype(np.int64), parts[1].astype(np.int64), parts[2].astype(np.uint64)
    is_complete = all(part is not None for part in given)
    if is_complete:
        identity = event_identity(chunk.dataset, run, block, number)
    else:
        identity = entry_identity(chunk.dataset, str(chunk.tree.file.uuid), chunk.start, chunk.stop)
    return {
        "run": run,
        "luminosity_block": block,
        "event": number,
        "has_event_id": is_complete,
        "identity": identity,
    }
