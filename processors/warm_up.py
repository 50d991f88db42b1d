"""Imported by the fork server: everything a chunk needs is loaded once and inherited by every worker.

Compiled kernels come from the cache on disk, or are compiled here, in one process, while the main one still imports. A
failure is no reason not to start: the first chunk then meets it where it can be told.
"""

from __future__ import annotations

import contextlib

import numpy as np

from processors import execution
from processors.dijet import DijetSettings, fill_record
from processors.fileset import Dataset, Trigger
from processors.record import Columns, EventRecord, event_identity, order_jets

__all__ = ["execution", "warm_up"]


def warm_up() -> None:
    """Fill and add histograms of two events of simulation and of data, with and without replicas."""
    for is_mc in (True, False):
        dataset = Dataset("warm", (), is_mc=is_mc, triggers=() if is_mc else (Trigger("HLT", 0.0, 1.0),))
        for replicas in (0, 2):
            filled = fill_record(_record(is_mc=is_mc), dataset, DijetSettings(replicas=replicas))
            _ = filled + filled


def _record(*, is_mc: bool) -> EventRecord:
    """Two dijet events whose jets are not in order."""
    numbers = np.arange(2, dtype=np.int64)
    jets = order_jets(_columns({"jet_id": np.full(6, 6, np.int32)})).jets
    return EventRecord(
        dataset="warm",
        is_mc=is_mc,
        file="",
        entry_start=0,
        run=numbers,
        luminosity_block=numbers,
        event=numbers.astype(np.uint64),
        has_event_id=True,
        identity=event_identity("warm", numbers, numbers, numbers.astype(np.uint64)),
        weight=np.ones(2),
        rho=np.ones(2, np.float32),
        npv=None,
        true_interactions=None,
        jets=jets,
        truth=order_jets(_columns({})).jets if is_mc else None,
        met=(np.ones(2), np.ones(2)),
        triggers={"HLT": np.ones(2, np.bool_)},
    )


def _columns(extra: dict[str, np.ndarray]) -> Columns:
    direction = np.array([0.1, 0.2, 0.3] * 2, np.float32)
    return Columns(
        offsets=np.array([0, 3, 6], np.int64),
        pt=np.array([10, 100, 95, 12, 110, 100], np.float32),
        eta=direction,
        phi=np.array([1.0, 0.0, 3.1] * 2, np.float32),
        mass=direction,
        extra=extra,
    )


with contextlib.suppress(Exception):
    warm_up()
