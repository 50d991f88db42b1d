"""Tables as PFNano files: `Jet`, `PFCands` and the links between them, as coffea's PFNanoAODSchema reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import awkward as ak
import numpy as np

from samples.nanoaod import jagged, reduce_columns

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from samples.nanoaod import EventNumbers
    from samples.tables import Collection, EventTable

TRUTH_COLLECTIONS = ("GenJet", "GenPart", "GenJetAK8")
TRUTH_COLUMNS = ("genJetIdx", "genJetAK8Idx", "partonFlavour")
WEIGHT = "genWeight"
TRUTH_VALUES = (WEIGHT, "Generator_binvar")
_NAMES_OF_JETS = ("pt", "eta", "phi", "mass", *TRUTH_COLUMNS)


def event_branches(
    table: EventTable,
    numbers: EventNumbers,
    triggers: Mapping[str, NDArray[np.bool_]],
    *,
    with_truth: bool,
    with_weight: bool,
    reduced_precision: bool,
) -> dict[str, ak.Array]:
    """Columns of the tree `Events`; without truth (data) none that knows the generator, but perhaps for its weight."""
    hidden_values = () if with_truth else TRUTH_VALUES
    values = {
        name: column
        for name, column in table.values.items()
        if name not in hidden_values or (with_weight and name == WEIGHT)
    }
    if with_truth:
        values["Pileup_nTrueInt"] = table.values["averageInteractions"]
    columns = _values({**_numbers(numbers), **values, **triggers}, reduced_precision=reduced_precision)
    for name, collection in table.collections.items():
        if not with_truth and name in TRUTH_COLLECTIONS:
            continue
        hidden = () if with_truth else TRUTH_COLUMNS
        columns[name] = _collection(collection, hidden, reduced_precision=reduced_precision)
    return columns


def truth_branches(table: EventTable, numbers: EventNumbers) -> dict[str, ak.Array]:
    """Columns of the side file of data: the truth of each recorded event, with the jets that point to it."""
    columns = _values({**_numbers(numbers), **{name: table.values[name] for name in TRUTH_VALUES}})
    for name, collection in table.collections.items():
        if name in TRUTH_COLLECTIONS:
            columns[name] = _collection(collection)
        elif name in ("Jet", "FatJet"):
            columns[name] = _collection(collection, tuple(set(collection.columns) - set(_NAMES_OF_JETS)))
    return columns


def _numbers(numbers: EventNumbers) -> dict[str, NDArray[Any]]:
    return {
        "run": numbers.run.astype(np.uint32),
        "luminosityBlock": numbers.luminosity_block.astype(np.uint32),
        "event": numbers.event.astype(np.uint64),
    }


def _values(columns: dict[str, NDArray[Any]], *, reduced_precision: bool = False) -> dict[str, ak.Array]:
    stored = {
        name: column.astype(np.float32) if column.dtype == np.float64 else column for name, column in columns.items()
    }
    return {name: ak.Array(column) for name, column in _rounded(stored, reduced_precision=reduced_precision).items()}


def _collection(collection: Collection, hidden: tuple[str, ...] = (), *, reduced_precision: bool = False) -> ak.Array:
    columns = {name: column for name, column in collection.columns.items() if name not in hidden}
    return jagged(collection.offsets, _rounded(columns, reduced_precision=reduced_precision))


def _rounded(columns: dict[str, NDArray[Any]], *, reduced_precision: bool) -> dict[str, NDArray[Any]]:
    return reduce_columns(columns) if reduced_precision else columns
