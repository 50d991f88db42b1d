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

# Branches whose sum before a skim is what NanoAOD keeps in its tree of runs.
GENERATOR_WEIGHTS = (None, "genWeight")


@dataclass(frozen=True, slots=True)
class Comparison:
    """The samples of one jet algorithm; None where there is no such dataset, alternative simulations by name."""

    algo: str
    simulation: Sample | None
    data: Sample | None
    alternatives: tuple[Sample, ...] = ()


def comparisons(
    filled: Filled,
    datasets: Sequence[Dataset],
    algo_of: Callable[[Dataset], str],
    binning: Binning,
    factors: Mapping[str, float],
) -> tuple[Comparison, ...]:
    """One comparison per jet algorithm, in the order in which the fileset names them.

    `factors` are the `normalisations`; a dataset that is not among them counts as it is.
    """

    def sample(name: str, members: Sequence[Dataset]) -> Sample | None:
        present = [d.name for d in members if d.name in filled.datasets]
        if not present:
            return None
        return join(name, [(filled.datasets[key], factors.get(key, 1.0)) for key in present], binning)

    def compare(algo: str) -> Comparison:
        own = [d for d in datasets if algo_of(d) == algo]
        nominal = [d for d in own if d.is_mc and d.role == "nominal"]
        others: dict[str, list[Dataset]] = {}
        for d in own:
            if d.is_mc and d.role != "nominal":
                others.setdefault(group_name(d), []).append(d)
        alternatives = [sample(name, members) for name, members in others.items()]
        return Comparison(
            algo,
            sample(SIMULATION, nominal),
            sample(DATA, [d for d in own if not d.is_mc]),
            tuple(each for each in alternatives if each is not None),
        )

    return tuple(compare(algo) for algo in dict.fromkeys(algo_of(d) for d in datasets))


def group_name(dataset: Dataset) -> str:
    """Name of the simulation whose slice a dataset is: one for all nominal ones, else its process or own name."""
    return SIMULATION if dataset.role == "nominal" else dataset.process or dataset.name


def normalisations(
    filled: Filled,
    datasets: Sequence[Dataset],
    algo_of: Callable[[Dataset], str],
    generated: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Factor of each simulated dataset in the sum of its slices, xsec / sum of weights.

    The sum is that of `generated` (generator weights before any skim, by dataset) if every slice that has a cross
    section is there and weighs its events by them, and otherwise that of the events read: a sum must not mix the two.
    """
    groups: dict[tuple[str, str], list[Dataset]] = {}
    for d in datasets:
        if d.is_mc and d.name in filled.datasets:
            groups.setdefault((algo_of(d), group_name(d)), []).append(d)
    factors: dict[str, float] = {}
    for group in groups.values():
        whole = generated if generated is not None and _are_before_skim(group, generated) else {}
        weights = {d.name: whole[d.name] if whole else events_read(filled.datasets[d.name]) for d in group}
        factors |= normalisation({d.name: d.xsec for d in group}, weights)
    return factors


def _are_before_skim(group: Sequence[Dataset], generated: Mapping[str, float]) -> bool:
    return all(d.weight in GENERATOR_WEIGHTS and d.name in generated for d in group)


def events_read(sums: DatasetSums) -> float:
    """Sum of generator weights of all events read."""
    return float(sums.cutflow[CUTFLOW_STEPS.index("all"), 1])
