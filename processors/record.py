"""The one internal form of events and jets: flat arrays with offsets, GeV, jets ordered in falling pT.

What reads files builds these records and what selects events relies on them. The order in which a file stores its jets
is never trusted; jets without a usable momentum are left out and counted, events always keep their place.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from processors.compiled import compiled

if TYPE_CHECKING:
    from collections.abc import Mapping

AnyArray = NDArray[Any]
BoolArray = NDArray[np.bool_]
Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]
Int32Array = NDArray[np.int32]
Int64Array = NDArray[np.int64]
UInt64Array = NDArray[np.uint64]

NOT_FINITE_PT = "{} with non-finite pt"
NOT_POSITIVE_PT = "{} with pt <= 0"
NOT_FINITE_DIRECTION = "{} with non-finite eta or phi"
NOT_FINITE_WEIGHT = "events with a non-finite weight"
BAD_CONSTITUENT = "constituents without a usable momentum or a jet"

CONSTITUENT_ROW = "constituent_row"

_EMPTY: Mapping[str, Any] = MappingProxyType({})
_UNMOVED = np.empty(0, np.int32)


@dataclass(frozen=True, slots=True)
class Jets:
    """One collection of objects in a chunk of events: jets, truth jets, electrons or muons.

    Flat arrays of length n; those of event i are at `offsets[i]:offsets[i + 1]`, in falling pT.

    Attributes
    ----------
    offsets
        (n_events + 1,), starts at 0.
    pt, eta, phi, mass
        (n,), GeV and radians, finite, pt > 0. The mass is zero where the file has none and is taken as it comes.
    extra
        Optional columns (n,) by internal name, see `processors.formats.JET_COLUMNS`; only what was asked for and the
        file has. `truth_index` is int32: the place among the truth jets of the same event, -1 for none.
    """

    offsets: Int64Array
    pt: Float32Array
    eta: Float32Array
    phi: Float32Array
    mass: Float32Array
    extra: Mapping[str, AnyArray] = field(default_factory=lambda: _EMPTY)

    def __len__(self) -> int:
        """Objects in all events together."""
        return len(self.pt)

    @property
    def n_events(self) -> int:
        """Events in the chunk."""
        return len(self.offsets) - 1

    @property
    def counts(self) -> Int64Array:
        """Objects in each event, (n_events,)."""
        return np.diff(self.offsets)


@dataclass(frozen=True, slots=True)
class Constituents:
    """Constituents of the jets of a chunk; those in row r are at `offsets[r]:offsets[r + 1]`, in falling pT.

    Rows do not move when jets do: the row of a jet is in its column `CONSTITUENT_ROW`.

    Attributes
    ----------
    offsets
        (n_rows + 1,), starts at 0.
    pt, eta, phi
        (n,), GeV and radians, finite, pt > 0.
    mass
        (n,), GeV, taken as it comes; None where the file has none.
    """

    offsets: Int64Array
    pt: Float32Array
    eta: Float32Array
    phi: Float32Array
    mass: Float32Array | None = None


@dataclass(frozen=True, slots=True)
class Particles:
    """Generated particles of a chunk in the order of the file; those of event i are at `offsets[i]:offsets[i + 1]`.

    Attributes
    ----------
    offsets
        (n_events + 1,), starts at 0.
    pt, eta, phi
        (n,), GeV and radians, taken as they come.
    pdg_id
        (n,) codes of the Particle Data Group.
    mother
        (n,) places within the event, -1 for none.
    """

    offsets: Int64Array
    pt: Float32Array
    eta: Float32Array
    phi: Float32Array
    pdg_id: Int32Array
    mother: Int32Array


@dataclass(frozen=True, slots=True)
class EventRecord:
    """A chunk of events; every array has one value per event, (n,), in the order of the file.

    Attributes
    ----------
    dataset, is_mc
        Name of the dataset, and whether it is simulation.
    file, entry_start
        Where the events are: path, and entry of the first one.
    run, luminosity_block, event
        Zero where the file lacks the part; `has_event_id` is then False.
    identity
        Base hash of an event, from which every random choice starts: (dataset, run, luminosity block, event), or
        (dataset, file identity, entry) where a part is missing. Whoever uses it mixes in a purpose.
    weight
        Generator weight; 1 in data or where the file has none, 0 where it is not finite (counted in `excluded`).
    rho, npv, true_interactions
        GeV per unit area; reconstructed vertices; true or average interactions per crossing. None if not in the file.
    average_interactions
        Interactions per crossing averaged over a luminosity block, which data have too. None if not in the file.
    parton_shower
        (n, 4) weights relative to the nominal one for other radiation from the initial and the final state, in the
        order of NanoAOD: ISR up, FSR up, ISR down, FSR down. None if not asked for, not in the file, or not four.
    constituents, particles
        Constituents of the jets, generated particles of simulation; None if not asked for or not in the file.
    jets, truth, electrons, muons
        Truth jets in simulation only; leptons only if asked for. None where not in the file.
    met
        Missing transverse momentum along x and y, GeV, nan where it is not finite. None if not in the file.
    triggers
        Decision by path, for the paths asked for that the file has.
    excluded
        How many objects or events were left out, by reason; reasons without a case are absent.
    """

    dataset: str
    is_mc: bool
    file: str
    entry_start: int
    run: Int64Array
    luminosity_block: Int64Array
    event: UInt64Array
    has_event_id: bool
    identity: UInt64Array
    weight: Float64Array
    rho: Float32Array | None
    npv: Int32Array | None
    true_interactions: Float32Array | None
    jets: Jets
    truth: Jets | None = None
    electrons: Jets | None = None
    muons: Jets | None = None
    met: tuple[Float64Array, Float64Array] | None = None
    average_interactions: Float32Array | None = None
    parton_shower: Float32Array | None = None
    constituents: Constituents | None = None
    particles: Particles | None = None
    triggers: Mapping[str, BoolArray] = field(default_factory=lambda: _EMPTY)
    excluded: Mapping[str, int] = field(default_factory=lambda: _EMPTY)

    def __len__(self) -> int:
        """Events in the chunk."""
        return len(self.identity)


@dataclass(frozen=True, slots=True)
class Columns:
    """One collection as it lies in the file, any order and any values; lengths as in `Jets`."""

    offsets: Int64Array
    pt: Float32Array
    eta: Float32Array
    phi: Float32Array
    mass: Float32Array | None = None
    extra: Mapping[str, AnyArray] = field(default_factory=lambda: _EMPTY)


@dataclass(frozen=True, slots=True)
class Ordered:
    """What `order_jets` gives.

    Attributes
    ----------
    jets
        Ordered, unusable ones left out.
    places
        (n_input,) int32: where an object of the input is within its event now, -1 if left out; None if nothing moved.
    excluded
        Objects left out by reason, without zeros.
    """

    jets: Jets
    places: Int32Array | None
    excluded: Mapping[str, int]


def order_jets(columns: Columns, name: str = "jets") -> Ordered:
    """Objects of each event in falling pT, without those of unusable momentum; `name` is the word in the counts.

    pT that is nan, infinite or not positive and directions that are not finite make an object unusable. Equal pT keeps
    the order of the file. Arrays that are already in order are not copied.
    """
    mass = np.zeros_like(columns.pt) if columns.mass is None else columns.mass
    are_usable = _are_usable(columns.pt, columns.eta, columns.phi)
    if are_usable and _are_ordered(columns.offsets, columns.pt):
        return Ordered(Jets(columns.offsets, columns.pt, columns.eta, columns.phi, mass, columns.extra), None, {})
    offsets, order, places = _order(columns.offsets, columns.pt, columns.eta, columns.phi)
    jets = Jets(
        offsets=offsets,
        pt=columns.pt[order],
        eta=columns.eta[order],
        phi=columns.phi[order],
        mass=mass[order],
        extra={key: values[order] for key, values in columns.extra.items()},
    )
    return Ordered(jets, places, {} if are_usable else _excluded(columns, name))


def scale(values: Float32Array, factor: Float64Array) -> Float32Array:
    """Values (n,) times `factor`, (n,) or a single one, in double precision before it is rounded."""
    return _scale(values, np.broadcast_to(factor, values.shape))


def relink(index: Int32Array, offsets: Int64Array, truth_offsets: Int64Array, places: Int32Array | None) -> Int32Array:
    """`truth_index` after the truth jets were put in order, (n,); -1 for links to nothing or to a jet left out.

    `index` (n,) counts within the event as the file has it, with the `offsets` of the linking objects and the
    `truth_offsets` of the file; `places` comes from `order_jets` of the truth jets.
    """
    return _relink(index, offsets, truth_offsets, _UNMOVED if places is None else places)


def group_constituents(
    jet_offsets: Int64Array, candidates: Columns, link_offsets: Int64Array, jet: Int32Array, candidate: Int32Array
) -> tuple[Constituents, int]:
    """Constituents by jet, and how many links were left out.

    Rows are the jets in the order of the file, whose events begin at `jet_offsets`. Each link, (n_links,) with the
    `link_offsets` of events, has the place of a `jet` and of a `candidate` within the event. A link to nothing or to a
    candidate without a usable momentum is left out.
    """
    offsets, order, n_bad = _group(
        jet_offsets, candidates.offsets, link_offsets, jet, candidate, candidates.pt, candidates.eta, candidates.phi
    )
    mass = None if candidates.mass is None else candidates.mass[order]
    return Constituents(offsets, candidates.pt[order], candidates.eta[order], candidates.phi[order], mass), n_bad


def _excluded(columns: Columns, name: str) -> dict[str, int]:
    counts = _count_faults(columns.pt, columns.eta, columns.phi)
    reasons = (NOT_FINITE_PT, NOT_POSITIVE_PT, NOT_FINITE_DIRECTION)
    return {reason.format(name): int(n) for reason, n in zip(reasons, counts, strict=True) if n}


def usable_weights(weight: Float64Array) -> tuple[Float64Array, dict[str, int]]:
    """Weights with zero for nan and infinity, (n,), and how many those were."""
    finite = np.isfinite(weight)
    if finite.all():
        return weight, {}
    return np.where(finite, weight, 0.0), {NOT_FINITE_WEIGHT: int(np.count_nonzero(~finite))}


def text_key(text: str) -> np.uint64:
    """A 64-bit number that stands for `text` on every machine (BLAKE2b)."""
    return np.uint64(int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little"))


def event_identity(dataset: str, run: Int64Array, luminosity_block: Int64Array, event: UInt64Array) -> UInt64Array:
    """Base hash of events by their numbers, (n,)."""
    return _chain(text_key(dataset), run.astype(np.uint64), luminosity_block.astype(np.uint64), event)


def entry_identity(dataset: str, file_identity: str, entry_start: int, entry_stop: int) -> UInt64Array:
    """Base hash of events by their place in a file, (entry_stop - entry_start,), where the file lacks event numbers."""
    entry = np.arange(entry_start, entry_stop, dtype=np.uint64)
    file_key = np.full(len(entry), text_key(file_identity), np.uint64)
    return _chain(text_key(dataset), file_key, np.zeros_like(entry), entry)


@compiled
def splitmix64(value: np.uint64) -> np.uint64:
    """One step of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): every input bit reaches every output bit."""
    value += np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@compiled
def _chain(key: np.uint64, first: UInt64Array, second: UInt64Array, third: UInt64Array) -> UInt64Array:
    hashes = np.empty(len(third), np.uint64)
    for i in range(len(third)):
        hashes[i] = splitmix64(splitmix64(splitmix64(key ^ first[i]) ^ second[i]) ^ third[i])
    return hashes


@compiled
def _fault1(pt: np.float32, eta: np.float32, phi: np.float32) -> int:
    """0, 1, 2 for pT not finite, pT not positive, direction not finite; -1 for a usable momentum."""
    if not np.isfinite(pt):
        return 0
    if pt <= 0:
        return 1
    if not (np.isfinite(eta) and np.isfinite(phi)):
        return 2
    return -1


@compiled
def _scale(values: Float32Array, factor: Float64Array) -> Float32Array:
    scaled = np.empty(len(values), np.float32)
    for i in range(len(values)):
        scaled[i] = np.float64(values[i]) * factor[i]
    return scaled


@compiled
def _are_usable(pt: Float32Array, eta: Float32Array, phi: Float32Array) -> bool:
    """Whether no object has a fault; written without branches, which is four times as fast as `_count_faults`."""
    infinity = np.float32(np.inf)
    n = 0
    for j in range(len(pt)):
        n += (pt[j] > 0) & (pt[j] < infinity) & (abs(eta[j]) < infinity) & (abs(phi[j]) < infinity)
    return n == len(pt)


@compiled
def _are_ordered(offsets: Int64Array, pt: Float32Array) -> bool:
    """Whether pT rises nowhere but from one event to the next."""
    rises = 0
    for j in range(1, len(pt)):
        rises += pt[j] > pt[j - 1]
    for i in range(1, len(offsets) - 1):
        first = offsets[i]
        if offsets[i - 1] < first < len(pt):
            rises -= pt[first] > pt[first - 1]
    return rises == 0


@compiled
def _count_faults(pt: Float32Array, eta: Float32Array, phi: Float32Array) -> Int64Array:
    counts = np.zeros(3, np.int64)
    for j in range(len(pt)):
        fault = _fault1(pt[j], eta[j], phi[j])
        if fault >= 0:
            counts[fault] += 1
    return counts


@compiled
def _order(
    offsets: Int64Array, pt: Float32Array, eta: Float32Array, phi: Float32Array
) -> tuple[Int64Array, Int64Array, Int32Array]:
    """New offsets, input index of each object kept, and place of each input object within its event (-1 left out)."""
    new_offsets = np.zeros(len(offsets), np.int64)
    order = np.empty(len(pt), np.int64)
    places = np.full(len(pt), -1, np.int32)
    n = 0
    for i in range(len(offsets) - 1):
        first = n
        for j in range(offsets[i], offsets[i + 1]):
            if _fault1(pt[j], eta[j], phi[j]) >= 0:
                continue
            k = n
            while k > first and pt[order[k - 1]] < pt[j]:
                order[k] = order[k - 1]
                k -= 1
            order[k] = j
            n += 1
        for k in range(first, n):
            places[order[k]] = k - first
        new_offsets[i + 1] = n
    return new_offsets, order[:n].copy(), places


@compiled
def _relink(index: Int32Array, offsets: Int64Array, truth_offsets: Int64Array, places: Int32Array) -> Int32Array:
    """See `relink`; no places at all mean that nothing moved."""
    links = np.full(len(index), -1, np.int32)
    for i in range(len(offsets) - 1):
        n_truth = truth_offsets[i + 1] - truth_offsets[i]
        for j in range(offsets[i], offsets[i + 1]):
            if 0 <= index[j] < n_truth:
                links[j] = places[truth_offsets[i] + index[j]] if len(places) else index[j]
    return links


@compiled
def _group(
    jet_offsets: Int64Array,
    candidate_offsets: Int64Array,
    link_offsets: Int64Array,
    jet: Int32Array,
    candidate: Int32Array,
    pt: Float32Array,
    eta: Float32Array,
    phi: Float32Array,
) -> tuple[Int64Array, Int64Array, int]:
    """Offsets of the rows, flat index of the candidate in each place of them, and the number of links left out."""
    n_rows = jet_offsets[-1]
    row_of = np.full(len(jet), -1, np.int64)
    chosen = np.zeros(len(jet), np.int64)
    offsets = np.zeros(n_rows + 1, np.int64)
    for i in range(len(jet_offsets) - 1):
        n_jets, n_candidates = jet_offsets[i + 1] - jet_offsets[i], candidate_offsets[i + 1] - candidate_offsets[i]
        for k in range(link_offsets[i], link_offsets[i + 1]):
            if not (0 <= jet[k] < n_jets and 0 <= candidate[k] < n_candidates):
                continue
            j = candidate_offsets[i] + candidate[k]
            if _fault1(pt[j], eta[j], phi[j]) < 0:
                row_of[k], chosen[k] = jet_offsets[i] + jet[k], j
                offsets[row_of[k] + 1] += 1
    offsets = np.cumsum(offsets)
    order = np.empty(offsets[-1], np.int64)
    filled = np.zeros(n_rows, np.int64)
    for k in range(len(jet)):
        row = row_of[k]
        if row < 0:
            continue
        place = offsets[row] + filled[row]
        while place > offsets[row] and pt[order[place - 1]] < pt[chosen[k]]:
            order[place] = order[place - 1]
            place -= 1
        order[place] = chosen[k]
        filled[row] += 1
    return offsets, order, len(jet) - offsets[-1]
