"""The table that a tagger is trained on: one row per large-R jet, as arrays and as a parquet file.

Ours has the columns of `SCALARS` and lists of constituents. Any flat parquet file with one row per jet can be read as
well: of it, every column of numbers is taken as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.features import RaggedConstituents, offsets_of
from models.parquet import read_rows, write_parts
from models.tagging.columns import COLUMNS, CONSTITUENT_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

AnyArray = NDArray[Any]

KIND = "tagger"
ORIGIN = "`analysis.py table tagger`"
SCALARS: Mapping[str, type[np.generic]] = MappingProxyType(
    {
        **dict.fromkeys(COLUMNS, np.float32),
        "label": np.int8,
        "category": np.int8,
        "is_mc": np.bool_,
        "weight": np.float64,
        "identity": np.uint64,
        "truth_pt": np.float32,
        "dataset": np.int16,
    }
)
"""Columns with one value per jet: those of `models.tagging.columns`; label 1 for signal, 0 for background, -1 in data;
number of the category, -1 in data; simulation; weight with cross section; hash of event and jet, for the fold; truth
pt in GeV, nan without a truth jet; number of the dataset in the facts."""
CONSTITUENT_LISTS = tuple(f"constituents_{name}" for name in CONSTITUENT_COLUMNS)
"""Columns with a list for each jet: momenta of its constituents, GeV."""
_STORED = "n_stored"


@dataclass(frozen=True, slots=True)
class JetTable:
    """n jets.

    Attributes
    ----------
    columns
        Arrays (n,) by name.
    constituents
        px, py, pz and E in GeV, hardest first; None for a table without.
    facts
        What is to be known about the table: datasets, categories, settings, what was left out. Empty for a table that
        somebody else wrote.
    """

    columns: Mapping[str, AnyArray]
    constituents: RaggedConstituents | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        """Jets."""
        return len(next(iter(self.columns.values())))

    def take(self, jets: AnyArray) -> JetTable:
        """Some jets, as indices or as a mask."""
        chosen = np.flatnonzero(jets) if jets.dtype == np.bool_ else jets
        constituents = None if self.constituents is None else self.constituents.take(chosen)
        return JetTable({name: values[chosen] for name, values in self.columns.items()}, constituents, self.facts)


def joined(tables: Sequence[JetTable]) -> JetTable:
    """Jets of several tables one after another; columns that one of them lacks are left out."""
    if len(tables) == 1:
        return tables[0]
    shared = [name for name in tables[0].columns if all(name in table.columns for table in tables)]
    columns = {name: np.concatenate([table.columns[name] for table in tables]) for name in shared}
    parts = [table.constituents for table in tables if table.constituents is not None]
    constituents = None
    if len(parts) == len(tables):
        counts = np.concatenate([part.counts for part in parts])
        constituents = RaggedConstituents(offsets_of(counts), np.concatenate([part.values for part in parts]))
    return JetTable(columns, constituents, {"tables": [dict(table.facts) for table in tables]})


def write_table(tables: Iterable[JetTable], path: Path, facts: Mapping[str, Any]) -> int:
    """Write tables with the same columns into one parquet file, and return the jets; it appears when it is whole."""
    return write_parts(map(_to_arrow, tables), path, {"kind": KIND, **facts})


def read_table(path: str | Path, *, constituents: bool = True) -> JetTable:
    """The table of a parquet file, if wanted without its constituents.

    Columns that hold no numbers are left out. A table of something else of ours is refused.
    """
    rows, facts = read_rows(path, lambda name: constituents or name not in (*CONSTITUENT_LISTS, _STORED), ORIGIN)
    if facts is not None and facts.get("kind") != KIND:
        raise ValueError(f"{path} is no table of jets for a tagger; make one with {ORIGIN}")
    columns = {name: values for name in rows.schema.names if (values := _numbers(rows, name)) is not None}
    columns.pop(_STORED, None)
    if not columns:
        raise ValueError(f"{path} has no column with one number per jet; make a table with {ORIGIN}")
    return JetTable(columns, _constituents(rows), facts or {})


def read_facts(path: str | Path) -> dict[str, Any]:
    """The facts of a table alone, empty for one that somebody else wrote."""
    return read_rows(path, lambda _: False, ORIGIN)[1] or {}


def read_constituents(path: str | Path) -> RaggedConstituents | None:
    """Constituents of each jet of a parquet file; None where it does not have the columns `CONSTITUENT_LISTS`."""
    rows, _ = read_rows(path, lambda name: name in CONSTITUENT_LISTS, ORIGIN)
    return _constituents(rows)


def _numbers(rows: Any, name: str) -> AnyArray | None:
    """A column of numbers, nan where floating-point numbers are missing; None for any other column."""
    import pyarrow.types as kinds

    kind = rows.schema.field(name).type
    if not (kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_boolean(kind)):
        return None
    values: AnyArray = rows[name].to_numpy()
    return values


def _to_arrow(table: JetTable) -> Any:
    import pyarrow as pa

    columns = {name: pa.array(values) for name, values in table.columns.items()}
    if table.constituents is not None:
        columns[_STORED] = pa.array(table.constituents.counts.astype(np.int16))
        offsets = pa.array(table.constituents.offsets)
        for place, name in enumerate(CONSTITUENT_LISTS):
            values = np.ascontiguousarray(table.constituents.values[:, place])
            columns[name] = pa.LargeListArray.from_arrays(offsets, pa.array(values))
    return pa.table(columns)


def _constituents(rows: Any) -> RaggedConstituents | None:
    if not set(CONSTITUENT_LISTS) <= set(rows.schema.names):
        return None
    lists = [rows[name].combine_chunks() for name in CONSTITUENT_LISTS]
    counts = [each.value_lengths().fill_null(0).to_numpy(zero_copy_only=False) for each in lists]
    if any(not np.array_equal(each, counts[0]) for each in counts[1:]):
        raise ValueError(f"the lists {', '.join(CONSTITUENT_LISTS)} of a jet differ in length")
    offsets = offsets_of(counts[0])
    values = np.column_stack([each.flatten().to_numpy(zero_copy_only=False) for each in lists])
    return RaggedConstituents(offsets, values.astype(np.float32, copy=False))
