"""Columns and constituents of jets as networks take them, and the factor that a calibration network gives.

What a network needs is told by its card; `lacking` says beforehand what a file does not have of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.features import FEATURES, MAX_CONSTITUENTS, RaggedConstituents
from processors.compiled import compiled
from processors.record import CONSTITUENT_ROW

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.calibration import CalibrationModel
    from models.card import ModelCard
    from processors.formats import FileColumns
    from processors.record import AnyArray, EventRecord, Float32Array, Float64Array, Int32Array, Int64Array

_OF_MOMENTUM = ("pt", "eta", "phi", "mass", "log_pt", "abs_eta")
# Features of the event by the columns that they are made from, the first there is counts.
_OF_EVENT = {"rho": ("rho",), "npv": ("npv",), "mu": ("average_interactions", "true_interactions")}


@dataclass(frozen=True, slots=True)
class NetworkInputs:
    """What has to be read for a network: columns of jets and events, and whether constituents."""

    jets: tuple[str, ...]
    event: tuple[str, ...]
    constituents: bool


def network_inputs(card: ModelCard) -> NetworkInputs:
    """What a network needs of a file, by the names of `processors.formats`."""
    jets = tuple(name for name in card.features if name not in _OF_MOMENTUM and name not in _OF_EVENT)
    event = tuple(column for name in card.features for column in _OF_EVENT.get(name, ()))
    return NetworkInputs(jets, event, card.constituent_input is not None)


def lacking(columns: FileColumns, card: ModelCard, rho: float | None = None) -> tuple[str, ...]:
    """Inputs of a network that a file does not have; with a number for `rho` that one is not missed."""
    event = {*columns.event, *(("npv",) if "vertex_type" in columns.event else ()), *(() if rho is None else ("rho",))}
    there = {*_OF_MOMENTUM, *columns.jets.columns}
    there |= {name for name, given in _OF_EVENT.items() if not event.isdisjoint(given)}
    missing = [name for name in card.features if name not in there]
    if card.constituent_input is not None and columns.constituents is None:
        missing.append("constituents")
    return tuple(missing)


def jet_columns(record: EventRecord, rho: float | None = None) -> dict[str, Callable[[], AnyArray]]:
    """A function for each column that the jets of a chunk have, by the names of `models.features`, arrays (n_jets,).

    `rho`, GeV per unit area, is used where the file has none.
    """
    jets = record.jets
    columns: dict[str, Callable[[], AnyArray]] = {
        "pt": lambda: jets.pt,
        "eta": lambda: jets.eta,
        "phi": lambda: jets.phi,
        "mass": lambda: jets.mass,
        "log_pt": lambda: np.log(jets.pt),
        "abs_eta": lambda: np.abs(jets.eta),
    }
    density = np.full(len(record), rho, np.float32) if record.rho is None and rho is not None else record.rho
    interactions = record.true_interactions if record.average_interactions is None else record.average_interactions
    for name, values in (("rho", density), ("npv", record.npv), ("mu", interactions)):
        if values is not None:
            columns[name] = _repeating(values, jets.counts)
    stored = {name: _returning(jets.extra[name]) for name in FEATURES if name in jets.extra}
    return {**stored, **columns}


def jet_constituents(record: EventRecord, length: int = MAX_CONSTITUENTS) -> RaggedConstituents | None:
    """The hardest constituents of each jet, at most `length`, in the order of the jets; None where there are none."""
    if record.constituents is None or CONSTITUENT_ROW not in record.jets.extra:
        return None
    parts = record.constituents
    offsets, values = _momenta(
        record.jets.extra[CONSTITUENT_ROW], parts.offsets, parts.pt, parts.eta, parts.phi, length
    )
    return RaggedConstituents(offsets, values)


def network_factor(
    record: EventRecord, model: CalibrationModel, rho: float | None = None
) -> tuple[Float64Array, dict[str, int]]:
    """Factor for pt and mass of each jet, (n_jets,), and counts of jets it could not be given to, by reason.

    The record has to have what `lacking` asks for. A jet whose inputs are not finite keeps the factor 1.
    """
    constituents = jet_constituents(record, model.card.max_constituents) if model.card.constituent_input else None
    return model.factor(jet_columns(record, rho), constituents)


def _returning(values: AnyArray) -> Callable[[], AnyArray]:
    return lambda: values


def _repeating(values: AnyArray, counts: Int64Array) -> Callable[[], AnyArray]:
    return lambda: np.repeat(values, counts)


@compiled
def _momenta(
    rows: Int32Array, offsets: Int64Array, pt: Float32Array, eta: Float32Array, phi: Float32Array, length: int
) -> tuple[Int64Array, Float32Array]:
    """Offsets (n_jets + 1,) and px, py, pz, pt of the first constituents of each row asked for."""
    starts = np.zeros(len(rows) + 1, np.int64)
    for i in range(len(rows)):
        count = offsets[rows[i] + 1] - offsets[rows[i]]
        starts[i + 1] = starts[i] + min(count, length)
    values = np.empty((starts[-1], 4), np.float32)
    for i in range(len(rows)):
        first = offsets[rows[i]]
        for k in range(starts[i + 1] - starts[i]):
            j, place = first + k, starts[i] + k
            transverse = np.float64(pt[j])
            values[place, 0] = transverse * np.cos(phi[j])
            values[place, 1] = transverse * np.sin(phi[j])
            values[place, 2] = transverse * np.sinh(np.float64(eta[j]))
            values[place, 3] = transverse
    return starts, values
