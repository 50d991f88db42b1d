"""ROOT files in NanoAOD layout: branches `Jet_*`, `GenJet_*`, event quantities, triggers; TTree or RNTuple.

uproot writes a dictionary that is assigned to a file as RNTuple, therefore `mktree` is called by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import awkward as ak
import numpy as np
import uproot

from samples.precision import round_mantissa

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

    from samples.response import RecoEvents
    from samples.truth import IntArray, TruthEvents

    Columns = Mapping[str, ak.Array]

_MANTISSA_BITS = {"area": 6, "rawFactor": 6}
"""What no measurement looks at closely; everything else gets 10 bits."""
BASKET_EVENTS = 100_000
"""Events per basket; larger ones compress better and need more memory to read."""


@dataclass(frozen=True, slots=True)
class EventNumbers:
    """What names an event, each (n,); never repeated within a sample."""

    run: IntArray
    luminosity_block: IntArray
    event: IntArray


@dataclass(frozen=True, slots=True)
class GeneratorSums:
    """Number of events and sums of weights before any selection."""

    count: int = 0
    weight: float = 0.0
    weight_squared: float = 0.0

    def add(self, weight: NDArray[np.float64]) -> GeneratorSums:
        """Return the sums with these events added."""
        return GeneratorSums(
            self.count + len(weight), self.weight + float(weight.sum()), self.weight_squared + float((weight**2).sum())
        )


def event_columns(
    reco: RecoEvents,
    numbers: EventNumbers,
    triggers: Mapping[str, NDArray[np.bool_]],
    truth: TruthEvents | None,
    *,
    reduced_precision: bool,
) -> dict[str, ak.Array]:
    """Columns of the tree `Events`; without `truth` (data) none that knows the generator."""
    jets: dict[str, NDArray[Any]] = {
        "pt": reco.pt.astype(np.float32),
        "eta": reco.eta.astype(np.float32),
        "phi": reco.phi.astype(np.float32),
        "mass": reco.mass.astype(np.float32),
        "area": reco.area.astype(np.float32),
        "rawFactor": reco.raw_factor.astype(np.float32),
        "jetId": reco.jet_id.astype(np.int32),
        "puId": reco.pu_id.astype(np.int32),
    }
    events: dict[str, NDArray[Any]] = {
        "run": numbers.run.astype(np.uint32),
        "luminosityBlock": numbers.luminosity_block.astype(np.uint32),
        "event": numbers.event.astype(np.uint64),
        "Rho_fixedGridRhoFastjetAll": reco.rho.astype(np.float32),
        "PV_npvs": reco.npv.astype(np.int32),
        **triggers,
    }
    truth_jets: dict[str, NDArray[Any]] = {}
    if truth is not None:
        jets["genJetIdx"] = reco.truth_index.astype(np.int32)
        truth_jets = {name: getattr(truth, name).astype(np.float32) for name in ("pt", "eta", "phi", "mass")}
        events["Pileup_nTrueInt"] = reco.interactions.astype(np.float32)
        events["genWeight"] = truth.weight.astype(np.float32)
        events["Generator_binvar"] = truth.pt_hat.astype(np.float32)
    if reduced_precision:
        jets, events, truth_jets = (reduce_columns(group) for group in (jets, events, truth_jets))
    columns = {name: ak.Array(column) for name, column in events.items()}
    columns["Jet"] = jagged(reco.offsets, jets)
    if truth is not None:
        columns["GenJet"] = jagged(truth.offsets, truth_jets)
        columns["GenPart"] = _no_particles(len(truth))
    return columns


class NanoFile:
    """A file that grows: `extend` with columns, then leave the `with` block; it gets its name only when complete."""

    def __init__(
        self,
        path: Path,
        *,
        rntuple: bool = False,
        sums: GeneratorSums | None = None,
        basket_events: int = BASKET_EVENTS,
    ) -> None:
        """Open `path` for writing; `sums` may also be set before the end of the `with` block."""
        self.path = path
        self.sums = sums
        self._rntuple = rntuple
        self._basket_events = basket_events
        self._partial = path.with_name(f".{path.name}.part")
        self._pending: list[Columns] = []
        self._tree: Any = None

    def __enter__(self) -> Self:
        """Start the file under a temporary name."""
        self._file = uproot.recreate(self._partial, compression=uproot.ZSTD(9))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Complete the file, or remove it if something failed."""
        if kind is not None:
            self._file.close()
            self._partial.unlink(missing_ok=True)
            return
        self._flush()
        if self.sums is not None:
            self._write_sums(self.sums)
        self._file.close()
        self._partial.replace(self.path)

    def extend(self, columns: Columns) -> None:
        """Append events; every call needs the same columns."""
        self._pending.append(columns)
        if sum(len(part["event"]) for part in self._pending) >= self._basket_events:
            self._flush()

    def _flush(self) -> None:
        if not self._pending:
            return
        columns = {name: ak.concatenate([part[name] for part in self._pending]) for name in self._pending[0]}
        self._pending = []
        if self._rntuple:
            columns = _as_fields(columns)
        if self._tree is None:
            self._tree = self._make("Events", columns)
        if len(columns["event"]) > 0:
            self._tree.extend(columns)

    def _make(self, name: str, columns: Columns) -> Any:
        types = {key: ak.type(column).content for key, column in columns.items()}
        return self._file.mkrntuple(name, types) if self._rntuple else self._file.mktree(name, types)

    def _write_sums(self, sums: GeneratorSums) -> None:
        columns = {
            "run": np.array([1], dtype=np.uint32),
            "genEventCount": np.array([sums.count], dtype=np.int64),
            "genEventSumw": np.array([sums.weight]),
            "genEventSumw2": np.array([sums.weight_squared]),
        }
        self._make("Runs", {name: ak.Array(column) for name, column in columns.items()}).extend(columns)


def jagged(offsets: IntArray, columns: Mapping[str, NDArray[Any]]) -> ak.Array:
    """Collection of records; those of event i are offsets[i]:offsets[i + 1] of the flat columns."""
    record = ak.contents.RecordArray([ak.contents.NumpyArray(column) for column in columns.values()], list(columns))
    return ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(offsets), record))


def _no_particles(n_events: int) -> ak.Array:
    """Collection without entries: coffea takes a file for simulation, and links jets to truth jets, by its name."""
    columns = {name: np.zeros(0, dtype=np.float32) for name in ("pt", "eta", "phi", "mass")}
    return jagged(np.zeros(n_events + 1, dtype=np.int64), {**columns, "pdgId": np.zeros(0, dtype=np.int32)})


def _as_fields(columns: Columns) -> dict[str, ak.Array]:
    """Columns of an RNTuple: `nJet` and one vector `Jet_*` per quantity, as NanoAOD's readers expect."""
    fields: dict[str, ak.Array] = {}
    for name, column in columns.items():
        if not column.fields:
            fields[name] = column
            continue
        fields[f"n{name}"] = ak.values_astype(ak.num(column, axis=1), np.int32)
        fields.update({f"{name}_{quantity}": column[quantity] for quantity in column.fields})
    return fields


def reduce_columns(columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Columns with float32 rounded to 10-bit mantissas, 6 bits for areas and raw factors."""
    return {
        name: round_mantissa(column, _MANTISSA_BITS.get(name, 10)) if column.dtype == np.float32 else column
        for name, column in columns.items()
    }
