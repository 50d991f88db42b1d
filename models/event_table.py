"""The training table: whole events with their leading jets, as arrays and as a parquet file.

A row of the file is an event. Columns of jets are lists of `LEADING_JETS` values, nan where the event has no such jet;
constituents are one list per event, those of the first jet first. `write_rows` and `read_table` are the only places
that know this.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.features import CONSTITUENT_COLUMNS, FEATURES, LEADING_JETS, RaggedConstituents, offsets_of
from models.parquet import read_rows, write_parts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

AnyArray = NDArray[Any]
BoolArray = NDArray[np.bool_]
Float64Array = NDArray[np.float64]
Int64Array = NDArray[np.int64]

TRUTH_COLUMNS = ("truth_pt", "truth_eta", "truth_rank", "truth_isolation")
EVENT_COLUMNS: Mapping[str, type[np.generic]] = {
    "dataset": np.int16,
    "is_mc": np.bool_,
    "identity": np.uint64,
    "weight": np.float64,
    "is_dijet": np.bool_,
    "pt_avg": np.float32,
    "truth_pt_avg": np.float32,
    "weight_flat": np.float32,
    "weight_truth": np.float32,
}
"""Columns of an event, see `EventTable`."""
_COMPONENTS = CONSTITUENT_COLUMNS[:3]
_ORIGIN = "`analysis.py table calibration`"


@dataclass(frozen=True, slots=True)
class EventTable:
    """n events with m = `LEADING_JETS` jets each.

    Attributes
    ----------
    datasets
        Names that the column `dataset` counts.
    event
        Columns (n,), see `EVENT_COLUMNS`: number of the dataset; simulation; base hash of the event; weight, with cross
        section and prescale; whether it is a dijet event; mean pT of the two leading jets and of the two leading truth
        jets, GeV, nan without two; and the weights of `models.flat_weights` for terms that pair jets (0 for what is no
        dijet event), and for terms that compare with truth (0 in data).
    jets
        Columns (n, m) float32 by name out of `models.features`, in GeV; nan where there is no jet. `truth_pt` and
        `truth_eta` belong to the matched truth jet and are nan without one, `truth_rank` is its place among the truth
        jets of the event, -1 for none, `truth_isolation` its distance in dR to the next one.
    constituents
        Of all n m jets, event by event; None for files without.
    facts
        What is to be known about the table: files, settings, what was left out.
    """

    datasets: tuple[str, ...]
    event: Mapping[str, AnyArray]
    jets: Mapping[str, NDArray[np.float32]]
    constituents: RaggedConstituents | None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        """Events."""
        return len(self.event["identity"])

    @property
    def features(self) -> tuple[str, ...]:
        """Columns of jets that a network may take."""
        return tuple(name for name in self.jets if name in FEATURES)

    def with_columns(self, jets: Iterable[str], *, constituents: bool) -> EventTable:
        """Only these columns of jets, and constituents or none."""
        columns = {name: self.jets[name] for name in jets}
        return replace(self, jets=columns, constituents=self.constituents if constituents else None)

    def take(self, events: AnyArray) -> EventTable:
        """Some events, as indices or as a mask."""
        chosen = np.flatnonzero(events) if events.dtype == np.bool_ else events
        constituents = self.constituents
        if constituents is not None:
            rows = (chosen[:, np.newaxis] * LEADING_JETS + np.arange(LEADING_JETS)).ravel()
            constituents = constituents.take(rows)
        return EventTable(
            self.datasets,
            {name: values[chosen] for name, values in self.event.items()},
            {name: values[chosen] for name, values in self.jets.items()},
            constituents,
            self.facts,
        )


def joined(tables: Sequence[EventTable]) -> EventTable:
    """Events of several tables one after another; columns that one of them lacks are left out.

    Weights are those of each table, of mean 1 in each: a spectrum that is flat in all of them together, and cross
    sections between them, come from one table of all datasets.
    """
    if len(tables) == 1:
        return tables[0]
    names = tuple(dict.fromkeys(name for table in tables for name in table.datasets))
    event = {name: np.concatenate([table.event[name] for table in tables]) for name in EVENT_COLUMNS}
    numbers = [np.array([names.index(name) for name in table.datasets], np.int16) for table in tables]
    event["dataset"] = np.concatenate([n[table.event["dataset"]] for n, table in zip(numbers, tables, strict=True)])
    shared = [name for name in tables[0].jets if all(name in table.jets for table in tables)]
    jets = {name: np.concatenate([table.jets[name] for table in tables]) for name in shared}
    ragged = [table.constituents for table in tables]
    constituents = None
    if all(each is not None for each in ragged):
        parts = [each for each in ragged if each is not None]
        counts = np.concatenate([each.counts for each in parts])
        constituents = RaggedConstituents(offsets_of(counts), np.concatenate([each.values for each in parts]))
    return EventTable(names, event, jets, constituents, {"tables": [dict(table.facts) for table in tables]})


def write_rows(tables: Iterable[EventTable], path: Path, facts: Mapping[str, Any]) -> int:
    """Write tables with the same columns into one parquet file, and return the events; it appears when it is whole."""
    remaining = iter(tables)
    first = next(remaining, None)
    if first is None:
        raise ValueError("no events to write")
    return write_parts(map(_to_arrow, chain([first], remaining)), path, {"datasets": first.datasets, **facts})


def read_table(path: str | Path, *, constituents: bool = True) -> EventTable:
    """The table of a parquet file, if wanted without its constituents.

    Raises
    ------
    ValueError
        Where the file is no training table.
    """
    rows, facts = read_rows(
        path, lambda name: constituents or not name.startswith(("constituents_", "n_stored")), _ORIGIN
    )
    if facts is None or "datasets" not in facts:
        raise ValueError(f"{path} is not a training table; make one with {_ORIGIN}")
    return _from_arrow(rows, tuple(facts.pop("datasets")), facts)


def _to_arrow(table: EventTable) -> Any:
    import pyarrow as pa

    columns = {name: pa.array(table.event[name]) for name in EVENT_COLUMNS}
    for name, values in table.jets.items():
        columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(values).ravel()), LEADING_JETS)
    if table.constituents is not None:
        counts = table.constituents.counts.astype(np.int16)
        columns["n_stored"] = pa.FixedSizeListArray.from_arrays(pa.array(counts), LEADING_JETS)
        offsets = pa.array(table.constituents.offsets[::LEADING_JETS])
        for place, name in enumerate(_COMPONENTS):
            values = np.ascontiguousarray(table.constituents.values[:, place])
            columns[f"constituents_{name}"] = pa.LargeListArray.from_arrays(offsets, pa.array(values))
    return pa.table(columns)


def _from_arrow(rows: Any, datasets: tuple[str, ...], facts: Mapping[str, Any]) -> EventTable:
    names = rows.schema.names
    event = {name: rows[name].to_numpy().astype(kind, copy=False) for name, kind in EVENT_COLUMNS.items()}
    inner = [name for name in names if name in FEATURES or name in TRUTH_COLUMNS]
    jets = {name: _flat(rows[name]).reshape(-1, LEADING_JETS) for name in inner}
    constituents = None
    if "n_stored" in names:
        offsets = offsets_of(_flat(rows["n_stored"]))
        values = np.empty((offsets[-1], len(CONSTITUENT_COLUMNS)), np.float32)
        for place, name in enumerate(_COMPONENTS):
            values[:, place] = _flat(rows[f"constituents_{name}"])
        np.hypot(values[:, 0], values[:, 1], out=values[:, 3])
        constituents = RaggedConstituents(offsets, values)
    return EventTable(datasets, event, jets, constituents, facts)


def _flat(column: Any) -> AnyArray:
    """Inner values of a column of lists, one after another."""
    values: AnyArray = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return values
