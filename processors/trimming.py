"""Trimmed constituents of large-R jets (Krohn, Thaler, Wang, arXiv:0912.1342).

The constituents are clustered again by the inclusive kt algorithm with a small radius, and those of subjets with less
than a fraction of the pT of the jet go: what pile-up and underlying event spread over the jet. ATLAS trims with 0.2 and
0.05 before it computes substructure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.features import RaggedConstituents, offsets_of
from processors.clustering import directions_of, find_nearest, forget, merge, moving, take_last, update_nearest
from processors.compiled import compiled

if TYPE_CHECKING:
    from processors.clustering import Float32Array, FloatArray, IntArray
    from processors.record import BoolArray


def trimmed(constituents: RaggedConstituents, radius: float = 0.2, fraction: float = 0.05) -> RaggedConstituents:
    """Constituents (px, py, pz, E) of the subjets with at least `fraction` of the pT of their jet, in their order.

    Those without a transverse momentum go. The pT of the jet is that of the sum of its constituents; for a fraction
    above 1 nothing is left.
    """
    if not radius > 0 or not fraction >= 0:
        raise ValueError(f"trimming needs a radius above 0 and a fraction of 0 or more, got {radius} and {fraction}")
    kept = np.zeros(len(constituents.values), np.bool_)
    if len(kept):
        _trim(constituents.offsets, constituents.values, radius, fraction, kept)
    counts = np.diff(np.concatenate([[0], np.cumsum(kept)])[constituents.offsets])
    return RaggedConstituents(offsets_of(counts), constituents.values[kept])


@compiled
def _trim(offsets: IntArray, momenta: Float32Array, radius: float, fraction: float, kept: BoolArray) -> None:
    """Set `kept` for each constituent."""
    for i in range(len(offsets) - 1):
        given = momenta[offsets[i] : offsets[i + 1]]
        rows = moving(given)
        of_moving = _kept_of_jet(rows, radius, fraction)
        n = 0
        for j in range(len(given)):
            if (given[j, 0] != 0) | (given[j, 1] != 0):
                kept[offsets[i] + j] = of_moving[n]
                n += 1


@compiled
def _kept_of_jet(rows: FloatArray, radius: float, fraction: float) -> BoolArray:
    """Which constituents are in subjets that stay, (n,)."""
    n = len(rows)
    momenta, places = rows.copy(), directions_of(rows)
    least = fraction * np.hypot(rows[:, 0].sum(), rows[:, 1].sum())
    nearest, gap = np.zeros(n, np.int64), np.empty(n)
    for i in range(n):
        find_nearest(i, n, places, nearest, gap)
    subjet = np.arange(n)
    kept = np.zeros(n, np.bool_)
    for left in range(n, 0, -1):
        first = _next(places, gap, radius * radius, left)
        last = left - 1
        if gap[first] < radius * radius:
            into, gone = min(first, nearest[first]), max(first, nearest[first])
            merge(momenta, places, into, gone, False)  # noqa: FBT003  numba takes no keywords here
            _rename(subjet, gone, into)
            take_last(gone, last, momenta, places, nearest, gap)
            update_nearest(into, gone, last, places, nearest, gap)
        else:
            gone = first
            if places[gone, 0] >= least:
                kept |= subjet == gone
            _rename(subjet, gone, -1)
            take_last(gone, last, momenta, places, nearest, gap)
            forget(gone, last, places, nearest, gap)
        _rename(subjet, last, gone)
    return kept


@compiled
def _next(places: FloatArray, gap: FloatArray, limit: float, count: int) -> int:
    """The subjet with the smallest distance to its neighbour or to the beam."""
    found, least = 0, np.inf
    for i in range(count):
        step = places[i, 0] * places[i, 0] * min(gap[i], limit)
        if step < least:
            found, least = i, step
    return found


@compiled
def _rename(subjet: IntArray, old: int, new: int) -> None:
    for i in range(len(subjet)):
        if subjet[i] == old:
            subjet[i] = new
