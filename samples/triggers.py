"""Prescaled single-jet triggers: which recorded events data have, and how often each kind was thrown away.

The trigger with the highest threshold below an event's reconstructed pt_avg owns it. With the generator weight w and
the owner's prescale p an event is recorded with probability k w / p, so that data, weighted by p, follow the physical
spectrum with no generator weight. Where k w / p exceeds 1 the event can only be recorded once: the lost share bounds k.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from samples.response import RecoEvents
    from samples.truth import FloatArray

MAX_SHARE_ABOVE_ONE = 1e-3
"""Largest share of the expectation that may be lost in a sample ..."""
PILOT_SHARE_ABOVE_ONE = 7e-4
"""... and in the pilot sample that k is found on, for the two differ by chance."""
MIN_PILOT_EVENTS = 30
"""Fewer events of a pilot sample do not tell the prescale of a trigger."""


@dataclass(frozen=True, slots=True)
class TriggerMenu:
    """Thresholds on pt_avg in GeV; the topmost trigger is not prescaled."""

    thresholds: tuple[float, ...] = (40.0, 52.0, 68.0, 88.0, 115.0, 150.0, 195.0, 250.0, 325.0, 425.0, 550.0, 715.0)
    prescale_power: float = 4.5
    turn_on: float = 0.95
    """A trigger fires from this fraction of its threshold, so that small shifts of the jets lose nothing."""
    stem: str = "HLT_PFJet"
    own_prescales: tuple[float, ...] | None = None
    """Used in place of the power law."""

    @property
    def prescales(self) -> FloatArray:
        """(top threshold / threshold) to the power of `prescale_power`, unless the menu has its own."""
        if self.own_prescales is not None:
            return np.asarray(self.own_prescales)
        thresholds = np.asarray(self.thresholds)
        return np.asarray((thresholds[-1] / thresholds) ** self.prescale_power)

    @property
    def paths(self) -> tuple[str, ...]:
        """Branch names."""
        return tuple(f"{self.stem}{threshold:.0f}" for threshold in self.thresholds)


@dataclass(frozen=True, slots=True)
class TriggerDecision:
    """What the triggers did with n events; `recorded` by any of them, `owned`: the owner of the event fired."""

    recorded: NDArray[np.bool_]
    owned: NDArray[np.bool_]
    bits: NDArray[np.bool_]
    """(n, triggers)"""
    expected: FloatArray
    """k w / p of the owner, 0 for events without one."""


def trigger_pt_avg(events: RecoEvents) -> FloatArray:
    """Mean pT (GeV) of the two leading jets that pass identification, (n,); 0 with fewer than two."""
    identified = events.jet_id > 0
    running = np.concatenate(([0], np.cumsum(identified)))
    first_kept, last_kept = running[events.offsets[:-1]], running[events.offsets[1:]]
    has_two = last_kept - first_kept >= 2
    position = np.flatnonzero(identified)
    pt_avg = np.zeros(len(events))
    first = first_kept[has_two]
    pt_avg[has_two] = 0.5 * (events.pt[position[first]] + events.pt[position[first + 1]])
    return pt_avg


def owner(pt_avg: FloatArray, menu: TriggerMenu) -> NDArray[np.intp]:
    """Index of the owning trigger, (n,); -1 below the lowest threshold."""
    return np.searchsorted(np.asarray(menu.thresholds), pt_avg, side="right") - 1


def weight_over_prescale(weight: FloatArray, pt_avg: FloatArray, menu: TriggerMenu) -> FloatArray:
    """Weight over prescale of the owning trigger, (n,); 0 for events without one."""
    index = owner(pt_avg, menu)
    return np.where(index >= 0, weight / menu.prescales[index], 0.0)


def share_above_one(expected: FloatArray) -> float:
    """Part of the prescale-free expectation that cannot be recorded: sum of (k w / p - 1) above 0 over the sum."""
    total = expected.sum()
    return float(np.clip(expected - 1.0, 0.0, None).sum() / total) if total > 0 else 0.0


def largest_k(ratio: FloatArray, max_share: float = PILOT_SHARE_ABOVE_ONE) -> float:
    """Return the largest k with a share above 1 of at most `max_share`, for w / p of a pilot sample.

    The share grows with k without a jump: bisection in log k.
    """
    ratio = ratio[ratio > 0]
    if len(ratio) == 0:
        message = "no event of the pilot sample reaches the lowest trigger threshold; generate more events"
        raise ValueError(message)
    low, high = -np.log(ratio.max()), -np.log(ratio.min()) + 20.0
    for _ in range(100):
        middle = 0.5 * (low + high)
        below = share_above_one(np.exp(middle) * ratio) < max_share
        low, high = (middle, high) if below else (low, middle)
    return float(np.exp(low))


def with_fitting_prescales(menu: TriggerMenu, weight: FloatArray, pt_avg: FloatArray) -> TriggerMenu:
    """Return the menu with prescales that record of each trigger's events as many as their weights allow.

    `weight` and `pt_avg` (n,) are those of a pilot sample. Thresholds that fewer than `MIN_PILOT_EVENTS` of its events
    reach follow the power law from the next one on; prescales fall with the threshold and end at 1.
    """
    index, law = owner(pt_avg, menu), menu.prescales
    largest = np.full(len(law), np.nan)
    for trigger in range(len(law)):
        owned = weight[index == trigger]
        if len(owned) >= MIN_PILOT_EVENTS:
            largest[trigger] = largest_k(owned)
    known = np.flatnonzero(np.isfinite(largest))
    if len(known) == 0:
        return menu
    top = known[-1]
    prescales = law / law[top]
    for trigger in range(top - 1, -1, -1):
        wanted = largest[top] / largest[trigger]
        following = prescales[trigger + 1]
        prescales[trigger] = max(
            wanted if np.isfinite(wanted) else following * law[trigger] / law[trigger + 1], following
        )
    prescales[top:] = prescales[top]
    return replace(menu, own_prescales=tuple(float(value) for value in prescales))


def record(
    weight: FloatArray, pt_avg: FloatArray, k: float, menu: TriggerMenu, rng: np.random.Generator
) -> TriggerDecision:
    """Decide what the triggers record.

    All triggers of an event see the same random number u: one fires where u < k w / p and pt_avg is above its turn-on.
    So each is prescaled by its own p, whichever trigger an analysis takes as the owner of the event.
    """
    drawn = rng.uniform(size=len(weight))
    probability = k * weight[:, np.newaxis] / menu.prescales
    reached = pt_avg[:, np.newaxis] >= menu.turn_on * np.asarray(menu.thresholds)
    owned_by = owner(pt_avg, menu)
    bits: NDArray[np.bool_] = reached & (drawn[:, np.newaxis] < probability) & (owned_by >= 0)[:, np.newaxis]
    owned = np.take_along_axis(bits, np.maximum(owned_by, 0)[:, np.newaxis], axis=1)[:, 0]
    recorded: NDArray[np.bool_] = np.any(bits, axis=1)
    return TriggerDecision(recorded, owned, bits, k * weight_over_prescale(weight, pt_avg, menu))


def unprescaled_bits(pt_avg: FloatArray, menu: TriggerMenu) -> NDArray[np.bool_]:
    """Trigger bits of simulation, (n, triggers): every trigger whose turn-on is reached."""
    return np.asarray(pt_avg[:, np.newaxis] >= menu.turn_on * np.asarray(menu.thresholds))
