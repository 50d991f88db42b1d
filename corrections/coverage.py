"""What stands in for an |eta| bin that could not be measured, and what is said about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corrections.results import Interval

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Covered(Generic[Value]):
    """Values for all |eta| bins in order, and which bins are borrowed from which neighbour."""

    bins: tuple[Interval, ...]
    values: tuple[Value, ...]
    neighbours: tuple[tuple[Interval, Interval], ...]

    @property
    def edges(self) -> tuple[float, ...]:
        """Edges in |eta|."""
        return (self.bins[0].low, *(b.high for b in self.bins))

    def note(self) -> str:
        """One sentence that names the borrowed bins, empty if there are none."""
        parts = [
            f"|eta| {a.low:g}-{a.high:g} was not measured and takes the value of {b.low:g}-{b.high:g}"
            for a, b in self.neighbours
        ]
        return "; ".join(parts) + "." if parts else ""


def cover(bins: Sequence[Interval], values: Sequence[Value | None]) -> Covered[Value] | None:
    """Fill the unmeasured bins (None) from the nearest measured one inward, or outward where there is none inward.

    None if no bin was measured.
    """
    measured = [i for i, value in enumerate(values) if value is not None]
    if not measured:
        return None
    sources = [max([m for m in measured if m <= i], default=measured[0]) for i in range(len(bins))]
    filled = tuple(value for i in sources if (value := values[i]) is not None)
    borrowed = tuple((bins[i], bins[source]) for i, source in enumerate(sources) if i != source)
    return Covered(tuple(bins), filled, borrowed)
