"""What stands in for an |eta| bin that could not be measured, and what is said about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from corrections.results import Interval, Measurement, Point, Quantity

Value = TypeVar("Value")
Points = tuple["Point", ...]


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
            f"|eta| {a.low:g}-{a.high:g} was not measured well enough and takes the value of {b.low:g}-{b.high:g}"
            for a, b in self.neighbours
        ]
        return "; ".join(parts) + "." if parts else ""


def cover(
    bins: Sequence[Interval], values: Sequence[Value | None], lends: Callable[[Value], bool] = lambda _: True
) -> Covered[Value] | None:
    """Fill the unmeasured bins (None) from the nearest measured one inward, or outward where there is none inward.

    A bin lends its value if `lends` says so. None if a bin was not measured and there is none to lend to it, and if no
    bin was measured.
    """
    lenders = [i for i, value in enumerate(values) if value is not None and lends(value)]
    if not lenders and (not values or any(value is None for value in values)):
        return None
    sources = [
        i if value is not None else max([m for m in lenders if m <= i], default=lenders[0])
        for i, value in enumerate(values)
    ]
    filled = tuple(value for i in sources if (value := values[i]) is not None)
    borrowed = tuple((bins[i], bins[source]) for i, source in enumerate(sources) if i != source)
    return Covered(tuple(bins), filled, borrowed)


def covered_points(measurement: Measurement, quantity: Quantity) -> Covered[Points] | None:
    """Published points of a quantity in all |eta| bins, one or one for each bin of pT; None if none was measured."""
    by_eta: dict[Interval, list[Point]] = {}
    for point in measurement.published(quantity):
        by_eta.setdefault(point.eta, []).append(point)
    measured = [tuple(p for p in points if p.is_measured) or None for points in by_eta.values()]
    # what is 1 by definition says nothing of a neighbour
    return cover(list(by_eta), measured, lambda points: any(point.stat > 0 for point in points))


def best_known(points: Iterable[Point]) -> dict[Interval, Point]:
    """Of each |eta| bin the measured point with the smallest relative uncertainty; none where that is 0.

    Points of one |eta| bin in bins of pT come from one fit and are not independent.
    """
    best: dict[Interval, Point] = {}
    for point in points:
        known = best.get(point.eta)
        if point.is_measured and point.stat > 0 and (known is None or _relative(point) < _relative(known)):
            best[point.eta] = point
    return best


def smearing_factors(measurement: Measurement) -> dict[Interval, Point]:
    """The scale factor by which each |eta| bin is smeared, borrowed ones too; of several in pT the best known one."""
    covered = covered_points(measurement, "scale_factor")
    if covered is None:
        return {}
    best = [min(points, key=_relative) for points in covered.values]
    return dict(zip(covered.bins, best, strict=True))


def _relative(point: Point) -> float:
    return point.stat / abs(point.value)


def pt_edges(points: Points) -> list[float]:
    """Edges in pT, GeV, of the bins of `points`; a gap belongs to the bin before."""
    return [*(p.pt.low for p in points), points[-1].pt.high]


def form_in_pt(covered: Covered[Points]) -> str:
    """How the points depend on pT, in words."""
    return "constant in JetPt" if all(len(points) == 1 for points in covered.values) else "in bins of JetPt"
