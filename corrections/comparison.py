"""Which datasets are compared with which: per jet algorithm, data with the nominal simulation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from corrections.results import DATA, SIMULATION
from corrections.sample import Sample, join, normalisation
from processors.selection import CUTFLOW_STEPS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from processors.binning import Binning
    from processors.fileset import Dataset
    from processors.histograms import DatasetSums, Filled


@dataclass(frozen=True, slots=True)
class Comparison:
    """The samples of one jet algorithm; None where there is no such dataset."""

    algo: str
    simulation: Sample | None
    data: Sample | None


def comparisons(
    filled: Filled,
    datasets: Sequence[Dataset],
    algo_of: Callable[[Dataset], str],
    binning: Binning,
    sums_of_weights: Mapping[str, float] | None = None,
) -> tuple[Comparison, ...]:
    """One comparison per jet algorithm, in the order in which the fileset names them.

    Slices of simulation with a cross section are added with xsec / sum of weights, where the sum is that of
    `sums_of_weights` (before any skim) or else of the events read.
    """
    algos = list(dict.fromkeys(algo_of(dataset) for dataset in datasets))
    return tuple(
        _compare(algo, filled, [d for d in datasets if algo_of(d) == algo], binning, sums_of_weights or {})
        for algo in algos
    )


def _compare(
    algo: str, filled: Filled, datasets: Sequence[Dataset], binning: Binning, sums_of_weights: Mapping[str, float]
) -> Comparison:
    data = [d for d in datasets if not d.is_mc]
    nominal = [d for d in datasets if d.is_mc and d.role == "nominal"]
    return Comparison(
        algo,
        _sample(SIMULATION, nominal, filled, binning, sums_of_weights),
        _sample(DATA, data, filled, binning, {}),
    )


def _sample(
    name: str, datasets: Sequence[Dataset], filled: Filled, binning: Binning, sums_of_weights: Mapping[str, float]
) -> Sample | None:
    present = {d.name: (d, filled.datasets[d.name]) for d in datasets if d.name in filled.datasets}
    if not present:
        return None
    simulated = {key: d.xsec for key, (d, _) in present.items() if d.is_mc}
    weights = {key: sums_of_weights.get(key) or _events_read(sums) for key, (_, sums) in present.items()}
    factors = normalisation(simulated, weights)
    return join(name, [(sums, factors.get(key, 1.0)) for key, (_, sums) in present.items()], binning)


def _events_read(sums: DatasetSums) -> float:
    """Sum of generator weights of all events read."""
    return float(sums.cutflow[CUTFLOW_STEPS.index("all"), 1])
