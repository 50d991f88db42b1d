"""Bins of pT and of pile-up in which the one cut of a tagger is judged, as plain values and as a picture."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.tagging.metrics import MASS_EDGES, NPV_EDGES, PT_EDGES, inverse, robustness

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from models.tagging.metrics import BinOfVariable

Float64Array = NDArray[np.float64]

CONDITION, PILEUP = "condition", "pileup"
LABELS = {CONDITION: "condition (pT)", PILEUP: "pile-up (vertices or interactions)"}
"""Of the axes."""
_LEAST_SHARE, _LEAST_BINS = 0.02, 3
_MANY_DECADES = 100.0


@dataclass(frozen=True, slots=True)
class Binned:
    """A variable of jets (n,), nan where it is not known, and the edges of its bins."""

    values: Float64Array
    edges: tuple[float, ...]


def binned_variables(condition: Float64Array, pileup: Float64Array | None) -> dict[str, Binned]:
    """What robustness is told against; without pile-up the condition alone."""
    found = {CONDITION: Binned(condition, variable_edges(condition, PT_EDGES))}
    return found if pileup is None else {**found, PILEUP: Binned(pileup, variable_edges(pileup, NPV_EDGES))}


def variable_edges(values: Float64Array, usual: tuple[float, ...]) -> tuple[float, ...]:
    """The usual bins where most jets are in them and in several of them, else five bins of equal population.

    Values (n,) that are not known are nan and do not count.
    """
    known = values[np.isfinite(values)]
    shares = np.histogram(known, usual)[0] / max(len(known), 1)
    if len(known) == 0 or (shares.sum() > 0.5 and np.sum(shares > _LEAST_SHARE) >= _LEAST_BINS):
        return usual
    return tuple(float(each) for each in np.unique(np.quantile(known, np.linspace(0, 1, 6))))


def in_bins(
    score: Float64Array,
    is_signal: NDArray[np.bool_],
    protected: Float64Array,
    weight: Float64Array,
    variables: Mapping[str, Binned],
    edges: Float64Array = MASS_EDGES,
) -> dict[str, list[BinOfVariable]]:
    """Bins by name of the variable; all arrays (n,), see `models.tagging.metrics.robustness`."""
    return {
        name: robustness(score, is_signal, protected, weight, each.values, each.edges, edges=edges)
        for name, each in variables.items()
    }


def as_plain(bins: Sequence[BinOfVariable]) -> list[dict[str, float | None]]:
    """The same for JSON; what is not finite is null."""
    return [plain(asdict(each)) for each in bins]


def plain(values: Mapping[str, float]) -> dict[str, float | None]:
    """Numbers for JSON; what is not finite is null."""
    return {name: float(value) if math.isfinite(value) else None for name, value in values.items()}


def n_judged(bins: Sequence[BinOfVariable]) -> int:
    """How many bins have jets that pass and jets that fail."""
    return sum(math.isfinite(each.jsd) for each in bins)


def draw_bins(axes: Sequence[Any], taggers: Mapping[str, Sequence[BinOfVariable]], label: str) -> None:
    """R50 and 1/JSD of each tagger, dashed what random selections have, on two axes against one variable."""
    for name, bins in taggers.items():
        told = [each for each in bins if math.isfinite(each.jsd)]
        middle = [0.5 * (each.low + each.high) for each in told]
        half = [0.5 * (each.high - each.low) for each in told]
        axes[0].errorbar(middle, [each.rejection for each in told], xerr=half, fmt="o-", ms=3, label=name)
        drawn = axes[1].errorbar(middle, [inverse(each.jsd) for each in told], xerr=half, fmt="o-", ms=3, label=name)
        colour = drawn.lines[0].get_color()
        axes[1].plot(middle, [inverse(each.random) for each in told], "--", lw=1, color=colour)
    for axis, word in zip(axes, ("1 / background efficiency", "1/JSD, dashed: random selections"), strict=True):
        axis.set(xlabel=label, ylabel=word)
        if any(line.get_ydata().size for line in axis.lines):
            axis.set_yscale("log")
            write_ticks(axis.yaxis)


def write_ticks(axis: Any) -> None:
    """Plain numbers at the ticks of a logarithmic axis, between the powers of ten too where it spans few of them."""
    from matplotlib.ticker import FuncFormatter, LogFormatter, NullFormatter

    low, high = axis.get_view_interval()
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    is_long = high > _MANY_DECADES * low
    axis.set_minor_formatter(NullFormatter() if is_long else LogFormatter(minor_thresholds=(2.0, 1.0)))
