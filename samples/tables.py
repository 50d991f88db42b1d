"""Events as tables: values per event, and collections of any number of objects per event."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from samples.truth import offsets_from_counts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from samples.truth import IntArray

    Columns = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Collection:
    """Objects of n events, flat: `counts` (n,) and columns of the length of their sum."""

    counts: IntArray
    columns: Columns

    @property
    def offsets(self) -> IntArray:
        """(n + 1,): the objects of event i are offsets[i]:offsets[i + 1]."""
        return offsets_from_counts(self.counts)

    @property
    def event(self) -> IntArray:
        """Event of each object."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    def with_columns(self, **columns: NDArray[Any]) -> Collection:
        """Return the same objects with more columns."""
        return Collection(self.counts, {**self.columns, **columns})

    def of_events(self, selected: NDArray[np.bool_]) -> Collection:
        """Return the objects of the selected events."""
        kept = np.repeat(selected, self.counts)
        return Collection(self.counts[selected], {name: column[kept] for name, column in self.columns.items()})


@dataclass(frozen=True, slots=True)
class EventTable:
    """n events: columns (n,) of values and collections by name."""

    values: Columns
    collections: Mapping[str, Collection] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of events."""
        return len(next(iter(self.values.values())))

    def select(self, selected: NDArray[np.bool_]) -> EventTable:
        """Return the selected events."""
        return EventTable(
            {name: column[selected] for name, column in self.values.items()},
            {name: collection.of_events(selected) for name, collection in self.collections.items()},
        )

    def first(self, n_events: int) -> EventTable:
        """Return the first `n_events` events."""
        return self.select(np.arange(len(self)) < n_events)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Flat arrays with names like `pt_hat` and `Jet/pt`, `Jet/#` for counts."""
        arrays = dict(self.values)
        for name, collection in self.collections.items():
            arrays[f"{name}/#"] = collection.counts
            arrays.update({f"{name}/{key}": column for key, column in collection.columns.items()})
        return arrays


def table_from_arrays(arrays: Mapping[str, NDArray[Any]]) -> EventTable:
    """Return the table that `EventTable.arrays` took apart."""
    names = sorted({name.split("/")[0] for name in arrays if "/" in name})
    collections = {
        name: Collection(
            arrays[f"{name}/#"],
            {key.split("/")[1]: arrays[key] for key in arrays if key.startswith(f"{name}/") and not key.endswith("#")},
        )
        for name in names
    }
    return EventTable({key: arrays[key] for key in arrays if "/" not in key}, collections)


def join_tables(parts: Sequence[EventTable]) -> EventTable:
    """Return the events of all parts, one after the other; all have the same columns."""
    arrays = [part.arrays() for part in parts]
    return table_from_arrays({name: np.concatenate([part[name] for part in arrays]) for name in arrays[0]})
