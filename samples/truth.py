"""Events before the detector: particle-level jets with a weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

MIN_TRUTH_PT = 8.0
"""GeV; softer particle-level jets are not kept."""


@dataclass(frozen=True, slots=True)
class TruthEvents:
    """Truth jets of n events, flat, ordered by falling pT within an event.

    `offsets` is (n + 1,): the jets of event i are offsets[i]:offsets[i + 1]. Momenta and masses in GeV.
    `weight` (n,) restores the physical spectrum; `pt_hat` (n,) is the scale of the hard scattering in GeV.
    """

    offsets: IntArray
    pt: FloatArray
    eta: FloatArray
    phi: FloatArray
    mass: FloatArray
    weight: FloatArray
    pt_hat: FloatArray

    def __len__(self) -> int:
        """Return the number of events."""
        return len(self.weight)


def event_of_jet(offsets: IntArray) -> IntArray:
    """Event index of every jet, (n_jets,)."""
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def offsets_from_counts(counts: IntArray) -> IntArray:
    """Offsets (n + 1,) of events with these numbers of jets."""
    return np.concatenate(([0], np.cumsum(counts, dtype=np.int64)))


def order_by_pt(event: IntArray, pt: FloatArray) -> IntArray:
    """Permutation that brings jets into event order and, within an event, into falling pT."""
    if len(pt) == 0:
        return np.zeros(0, dtype=np.int64)
    # one floating-point key sorts several times faster than lexsort
    return np.argsort(event - pt / (2.0 * pt.max()), kind="stable")


def first_events(events: TruthEvents, n_events: int) -> TruthEvents:
    """Return the first `n_events` events."""
    n_jets = events.offsets[n_events]
    return TruthEvents(
        offsets=events.offsets[: n_events + 1],
        pt=events.pt[:n_jets],
        eta=events.eta[:n_jets],
        phi=events.phi[:n_jets],
        mass=events.mass[:n_jets],
        weight=events.weight[:n_events],
        pt_hat=events.pt_hat[:n_events],
    )


def selected_offsets(offsets: IntArray, kept: NDArray[np.bool_], selected: NDArray[np.bool_]) -> IntArray:
    """Offsets of the selected events (n,) when of their jets only the kept ones (n_jets,) stay."""
    running = np.concatenate(([0], np.cumsum(kept)))
    counts = running[offsets[1:]] - running[offsets[:-1]]
    return offsets_from_counts(counts[selected])


def select_truth(
    events: TruthEvents, selected: NDArray[np.bool_], kept: NDArray[np.bool_] | None = None
) -> TruthEvents:
    """Selected events (n,), with all of their jets or those kept (n_jets,; False outside the selected events)."""
    kept = selected[event_of_jet(events.offsets)] if kept is None else kept
    return TruthEvents(
        offsets=selected_offsets(events.offsets, kept, selected),
        pt=events.pt[kept],
        eta=events.eta[kept],
        phi=events.phi[kept],
        mass=events.mass[kept],
        weight=events.weight[selected],
        pt_hat=events.pt_hat[selected],
    )


def truth_pt_avg(events: TruthEvents) -> FloatArray:
    """Mean pT (GeV) of the two leading truth jets, (n,); 0 with fewer than two."""
    has_two = np.diff(events.offsets) >= 2
    first = events.offsets[:-1][has_two]
    pt_avg = np.zeros(len(events))
    pt_avg[has_two] = 0.5 * (events.pt[first] + events.pt[first + 1])
    return pt_avg


def join_events(parts: Sequence[TruthEvents]) -> TruthEvents:
    """Return the events of all parts, one after the other."""
    return TruthEvents(
        offsets=offsets_from_counts(np.concatenate([np.diff(part.offsets) for part in parts])),
        pt=np.concatenate([part.pt for part in parts]),
        eta=np.concatenate([part.eta for part in parts]),
        phi=np.concatenate([part.phi for part in parts]),
        mass=np.concatenate([part.mass for part in parts]),
        weight=np.concatenate([part.weight for part in parts]),
        pt_hat=np.concatenate([part.pt_hat for part in parts]),
    )
