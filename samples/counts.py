"""How many events a sample had on its way into a file."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    from samples.skim import SkimDecision
    from samples.truth import FloatArray


@dataclass(frozen=True, slots=True)
class Steps:
    """Events, or sums of their weights, after each step, cumulative; `events` are the recorded ones."""

    events: float = 0
    two_jets: float = 0
    delta_phi: float = 0
    third_jet: float = 0

    def __add__(self, other: Self) -> Self:
        """Return the steps of both."""
        return type(self)(*(getattr(self, item.name) + getattr(other, item.name) for item in fields(self)))


@dataclass(frozen=True, slots=True)
class SampleCounts:
    """Events on their way into one file; the steps are counted also where no skim was asked for."""

    generated: int = 0
    steps: Steps = field(default_factory=Steps)
    """Of the recorded events (all of them in simulation)."""
    weighted: Steps = field(default_factory=Steps)
    """The same with generator weights (simulation), or with the prescale of the trigger that owns an event (data)."""
    owned: int = 0
    """Events that were recorded by the trigger that owns them; simulation has none."""
    written: int = 0
    sum_of_weights: float = 0.0
    """Of all generated events."""
    expected: float = 0.0
    """Data: sum of k w / p of the events that would be written, 0 in simulation."""
    expected_above_one: float = 0.0
    """Part of `expected` that was lost because an event can be recorded only once."""

    def __add__(self, other: Self) -> Self:
        """Return the counts of both."""
        return type(self)(*(getattr(self, item.name) + getattr(other, item.name) for item in fields(self)))

    @property
    def share_above_one(self) -> float:
        """Share of the expectation that could not be recorded."""
        return self.expected_above_one / self.expected if self.expected > 0 else 0.0


def count_steps(weight: FloatArray, decision: SkimDecision) -> Steps:
    """Sum of `weight` after each step of a skim; with weights 0 and 1 the number of events."""
    masks = (np.ones(len(weight), dtype=bool), decision.two_jets, decision.delta_phi, decision.third_jet)
    return Steps(*(float(weight[mask].sum()) for mask in masks))


def count_events(recorded: FloatArray, decision: SkimDecision) -> Steps:
    """Return the number of recorded events after each step of a skim, as integers."""
    steps = count_steps(recorded, decision)
    return Steps(*(int(getattr(steps, item.name)) for item in fields(steps)))
