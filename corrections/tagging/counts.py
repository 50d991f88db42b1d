"""The histogram of a tagging run as arrays: data, and simulation by process, normalised to the luminosity of data."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from processors.errors import InputError
from processors.histogram_files import read_histograms
from processors.tagging import FACTS_FILE
from processors.tagging_histograms import RESULTS, UNLABELLED
from processors.tagging_variations import NOMINAL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import hist

FloatArray = NDArray[np.float64]
PB_PER_FB = 1000.0
# The source of uncertainty that alternative simulation tells of.
GENERATOR = "generator"
ROUNDING = 1e-10
# Of luminosities that should be the same.
LUMI_TOLERANCE = 0.02
# What a tagging run tells of itself.
_FACTS = {"taggers": dict, "datasets": list, "settings": dict, "complete": bool}
# The probe of runs in which mistags are measured.
DIJET = "dijet"
FAIL, PASS = RESULTS.index("fail"), RESULTS.index("pass")


@dataclass(frozen=True, slots=True)
class Counts:
    """Jets of a tagging run; arrays end with (result, category, pt, eta, mass), those of data without the category.

    Attributes
    ----------
    working_points
        By tagger, the cuts of its working points by name, loosest first.
    sources
        Systematic variations, those that have both sides.
    processes, categories
        Names along the axes of simulation.
    pt, eta, mass
        Edges, GeV; the last bin of mass is the overflow, so that there is one bin more than these say.
    data, data_variance
        (tagger, working point, result, pt, eta, mass).
    nominal, variance
        (process, tagger, working point, result, category, pt, eta, mass).
    varied
        By source, (2, process, tagger, ...) for up and down.
    is_absolute
        Whether simulation is normalised by cross sections and luminosity. If not, all of it is scaled to the number of
        jets in data.
    empty
        Names of the datasets without jets.
    notes
        What else was left out, in words.
    """

    working_points: Mapping[str, Mapping[str, float]]
    names: Sequence[str]
    sources: tuple[str, ...]
    processes: tuple[str, ...]
    categories: tuple[str, ...]
    pt: FloatArray
    eta: FloatArray
    mass: FloatArray
    data: FloatArray
    data_variance: FloatArray
    nominal: FloatArray
    variance: FloatArray
    varied: Mapping[str, FloatArray]
    is_absolute: bool
    empty: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def place(self, tagger: str, working_point: str) -> tuple[int, int]:
        """Places of a tagger and of one of its working points on their axes."""
        return list(self.working_points).index(tagger), list(self.names).index(working_point)

    def cells(self, tagger: str, values: FloatArray, *, simulated: bool) -> FloatArray:
        """Jets between neighbouring working points of a tagger: those that fail all of them first, tightest last.

        `values` are an array of this record, `simulated` for one with categories; the cells (1 + n_points) replace
        its axes of tagger, working point and result.
        """
        axis = values.ndim - (7 if simulated else 6)
        places = [self.place(tagger, name) for name in self.working_points[tagger]]
        of_tagger = np.asarray(values.take(places[0][0], axis=axis))
        own = np.moveaxis(of_tagger, (axis, axis + 1), (0, 1))
        passing = [own[number, PASS] for _, number in places]
        between = [_less(loose, tight) for loose, tight in pairwise(passing)]
        return np.moveaxis(np.stack([own[places[0][1], FAIL], *between, passing[-1]]), 0, axis)

    def put(self, tagger: str, values: FloatArray, cells: FloatArray, *, simulated: bool) -> None:
        """Replace the jets of a tagger in an array like those of this record; `cells` as the method of that name."""
        axis = values.ndim - (7 if simulated else 6)
        target, given = np.moveaxis(values, (axis, axis + 1, axis + 2), (0, 1, 2)), np.moveaxis(cells, axis, 0)
        for number, name in enumerate(self.working_points[tagger], start=1):
            target[(*self.place(tagger, name), PASS)] = given[number:].sum(axis=0)
            target[(*self.place(tagger, name), FAIL)] = given[:number].sum(axis=0)

    def within_eta(self, first: int, last: int) -> Counts:
        """The same in the bins [first, last) of |eta| alone."""

        def inside(values: FloatArray) -> FloatArray:
            return values[..., first:last, :]

        return replace(
            self,
            eta=self.eta[first : last + 1],
            data=inside(self.data),
            data_variance=inside(self.data_variance),
            nominal=inside(self.nominal),
            variance=inside(self.variance),
            varied={source: inside(values) for source, values in self.varied.items()},
        )


def read_counts(
    folder: Path, lumi: float | None = None, lumi_of_dijets: float | None = None
) -> tuple[Counts, dict[str, Any]]:
    """Counts of the folder of a tagging run, and what its tagging.json says.

    `lumi` in 1/fb replaces that of its data, `lumi_of_dijets` where these are dijets.

    Raises
    ------
    InputError
        Where the folder has no tagging run, or one without data or simulation, or its tagging.json is damaged.
    """
    path = folder / FACTS_FILE
    if not path.is_file():
        raise InputError(f"expected {path}, which `analysis.py tag` writes; name the output folder of such a run")
    facts = _facts(path)
    try:
        own = lumi_of_dijets if facts["settings"]["selection"]["probe"] == DIJET else lumi
        return counts_of(read_histograms(folder)["passing"], facts, own), facts
    except InputError as error:
        raise InputError(f"{folder}: {error}") from None


def _facts(path: Path) -> dict[str, Any]:
    """What tagging.json says; anything that such a run does not write is refused."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        complete = all(isinstance(facts[name], kind) for name, kind in _FACTS.items())
        probe = complete and facts["settings"]["selection"]["probe"]
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(f"{path} is not what `analysis.py tag` writes ({error!r}); run it again") from None
    if not isinstance(probe, str):
        raise InputError(f"{path} is not what `analysis.py tag` writes; run it again")
    return dict(facts)


def counts_of(passing: hist.Hist[Any], facts: Mapping[str, Any], lumi: float | None = None) -> Counts:
    """Counts of the histogram `passing`; `facts` is the content of tagging.json, `lumi` in 1/fb replaces its own.

    Simulation with the role "alternative" is a variation, `generator`, of the processes that it is of; the other side
    is its mirror image. Taggers without working points, and simulated jets whose truth is not known, are left out and
    noted.

    Raises
    ------
    InputError
        Where data, simulation or working points are missing, cross sections or luminosities do not go together, no jet
        of a simulated dataset has a truth, or alternative simulation is of a process that there is not.
    """
    datasets = {str(each["name"]): each for each in facts["datasets"]}
    simulated, others, measured = _by_role(datasets)
    cuts = _cuts(facts)
    view: Any = passing.view(flow=True)[:, :, [place for place, own in enumerate(cuts.values()) if own]]
    places, variations = list(passing.axes["dataset"]), list(passing.axes["variation"])
    nominal = variations.index(NOMINAL)
    data, data_variance = (
        np.sum([view[places.index(name), nominal][kind].sum(axis=3) for name in measured], axis=0)
        for kind in ("value", "variance")
    )
    categories = [name for name in passing.axes["category"] if name != UNLABELLED]
    kept = [list(passing.axes["category"]).index(name) for name in categories]
    unlabelled = list(passing.axes["category"]).index(UNLABELLED)
    nominal_jets = {name: view[places.index(name), nominal]["value"] for name in (*simulated, *others)}
    lost = [note for name, jets in nominal_jets.items() for note in _without_truth(name, jets, unlabelled)]
    processes = tuple(dict.fromkeys(_process(datasets[name]) for name in simulated))
    factors, is_absolute = _factors(datasets, simulated, measured, lumi)

    def by_process(names: Sequence[str], kind: str) -> FloatArray:
        rows = [(places.index(name), processes.index(_process(datasets[name])), factors[name]) for name in names]
        return _by_process(view[kind][..., kept, :, :, :], rows, len(processes), 1 + (kind == "variance"))

    values, variances = by_process(simulated, "value"), by_process(simulated, "variance")
    if not is_absolute:
        scale = _scale_to(data, values[:, nominal].sum(axis=(0, 4)))
        values, variances = scale * values, scale**2 * variances
    varied = {
        source: np.stack([values[:, variations.index(f"{source}_{side}")] for side in ("up", "down")])
        for source in _sources(variations)
    }
    if others:
        _check_processes(datasets, others, processes)
        factors |= _other_factors(datasets, others, factors, is_absolute=is_absolute)
        other = by_process(others, "value")[:, nominal]
        varied[GENERATOR] = _mirrored(values[:, nominal], other, is_absolute=is_absolute)
    return Counts(
        working_points={name: dict(sorted(own.items(), key=lambda item: item[1])) for name, own in cuts.items() if own},
        names=tuple(passing.axes["working_point"]),
        sources=tuple(varied),
        processes=processes,
        categories=tuple(categories),
        pt=np.asarray(passing.axes["pt"].edges),
        eta=np.asarray(passing.axes["eta"].edges),
        mass=np.asarray(passing.axes["mass"].edges),
        data=data,
        data_variance=data_variance,
        nominal=values[:, nominal],
        variance=variances[:, nominal],
        varied=varied,
        is_absolute=is_absolute,
        empty=tuple(name for name in datasets if not view[places.index(name), nominal]["value"].any()),
        notes=(*_without_cuts(cuts), *lost),
    )


def _by_role(datasets: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[str], list[str]]:
    """Names of nominal simulation, of alternative simulation and of data."""
    simulated = [name for name, each in datasets.items() if each["is_mc"] and each.get("role") != "alternative"]
    others = [name for name, each in datasets.items() if each["is_mc"] and name not in simulated]
    measured = [name for name, each in datasets.items() if not each["is_mc"]]
    if not simulated or not measured:
        raise InputError(f"expected data and simulation, got the datasets {', '.join(datasets) or 'none'}")
    return simulated, others, measured


def _by_process(jets: FloatArray, rows: Sequence[tuple[int, int, float]], n_processes: int, power: int) -> FloatArray:
    """Sum over datasets, (process, variation, ...), of jets (dataset, variation, ...).

    `rows` are the places of a dataset and of its process, and the factor whose `power` scales it.
    """
    found = np.zeros((n_processes, *jets.shape[1:]))
    for row, process, factor in rows:
        found[process] += factor**power * jets[row]
    return found


def _process(dataset: Mapping[str, Any]) -> str:
    return str(dataset["process"] or dataset["name"])


def _sources(variations: Sequence[str]) -> list[str]:
    names = [each.removesuffix("_up") for each in variations if each.endswith("_up")]
    return [name for name in names if f"{name}_down" in variations]


def _other_factors(
    datasets: Mapping[str, Mapping[str, Any]], others: Sequence[str], factors: Mapping[str, float], *, is_absolute: bool
) -> dict[str, float]:
    """Factors on the weights of alternative simulation, whose luminosity is that of the nominal one."""
    lacking = [name for name in others if is_absolute and datasets[name]["xsec"] is None]
    if lacking:
        raise InputError(f"no cross section (metadata xsec) for {', '.join(lacking)}, which other simulation has")
    name, factor = next(iter(factors.items()))
    common = factor / float(datasets[name]["normalisation"]) if is_absolute else 1.0
    return {other: common * float(datasets[other]["normalisation"]) for other in others}


def _mirrored(nominal: FloatArray, other: FloatArray, *, is_absolute: bool) -> FloatArray:
    """Processes of another simulation in place of the nominal ones, and their mirror images, (2, process, ...).

    Without cross sections a process keeps its yield.
    """
    up = nominal.copy()
    for place, (of_nominal, of_other) in enumerate(zip(nominal, other, strict=True)):
        if of_other.any():
            scale = 1.0 if is_absolute else float(of_nominal.sum() / of_other.sum())
            up[place] = scale * of_other
    return np.stack([up, 2 * nominal - up])


def merged_edges(own: FloatArray, wanted: Sequence[float], name: str) -> list[tuple[int, int]]:
    """First and last bin (excluded) of each wanted bin; without a wish every bin of the histogram for itself."""
    edges = [float(edge) for edge in (wanted or own)]
    strange = [edge for edge in edges if not np.isclose(own, edge).any()]
    if strange or len(edges) < 2 or sorted(edges) != edges:
        told = ", ".join(f"{edge:g}" for edge in own)
        raise InputError(f"{name} must rise and use edges of the histogram ({told}), got {edges}")
    places = [int(np.argmin(np.abs(own - edge))) for edge in edges]
    return list(pairwise(places))


def _less(loose: FloatArray, tight: FloatArray) -> FloatArray:
    """The difference, zero where it is rounding."""
    between = loose - tight
    return np.where(np.abs(between) < ROUNDING * np.abs(loose), 0.0, between)


def _cuts(facts: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Working points of each tagger, in the order of the histogram."""
    found = {name: {k: float(v) for k, v in cuts.items()} for name, cuts in facts["taggers"].items()}
    if not any(found.values()):
        raise InputError(
            f"expected working points, but {', '.join(found) or 'no tagger'} has none; give "
            "taggers.NAME.working_points and tag again"
        )
    return found


def _without_cuts(cuts: Mapping[str, Mapping[str, float]]) -> list[str]:
    bare = [name for name, own in cuts.items() if not own]
    return [f"no working points of {', '.join(bare)}, which is left out"] if bare else []


def _without_truth(name: str, jets: FloatArray, unlabelled: int) -> list[str]:
    """Tell which share of a simulated dataset is unlabelled, of (tagger, working point, result, category, ...)."""
    by_category = jets.sum(axis=(0, 1, 2, 4, 5, 6))
    lost = float(by_category[unlabelled])
    if not lost:
        return []
    if not np.delete(by_category, unlabelled).any():
        raise InputError(
            f"no jet of the simulation {name} has a truth, which tells its category; leave it out of the run"
        )
    return [f"{lost / by_category.sum():.2g} of the simulated jets of {name} have no truth and are left out"]


def _check_processes(
    datasets: Mapping[str, Mapping[str, Any]], others: Sequence[str], processes: Sequence[str]
) -> None:
    """Refuse alternative simulation that would replace nothing."""
    for name in others:
        process = _process(datasets[name])
        if process not in processes:
            raise InputError(
                f"the alternative simulation {name} is of the process {process}, nominal simulation is of "
                f"{', '.join(processes)}; give it the metadata process of one of these"
            )


def _factors(
    datasets: Mapping[str, Mapping[str, Any]], simulated: Sequence[str], measured: Sequence[str], lumi: float | None
) -> tuple[dict[str, float], bool]:
    """Factor on the weights of each simulated dataset, and whether that makes expectations of it."""
    normalisations = {name: float(datasets[name]["normalisation"]) for name in simulated}
    lacking = [name for name in simulated if datasets[name]["xsec"] is None]
    if lacking and len(lacking) < len(simulated):
        raise InputError(f"no cross section (metadata xsec) for {', '.join(lacking)}, which other simulation has")
    known = lumi or _luminosity([datasets[name] for name in measured])
    if known is None or lacking:
        return normalisations, False
    return {name: factor * known * PB_PER_FB for name, factor in normalisations.items()}, True


def _luminosity(measured: Sequence[Mapping[str, Any]]) -> float | None:
    """That of all data, in 1/fb; None where some have none.

    Data of one process add up. Data of several processes, as generators make them, are parts of the same events.
    """
    by_process: dict[str | None, float] = {}
    for each in measured:
        if each["lumi"] is None:
            return None
        by_process[each["process"]] = by_process.get(each["process"], 0.0) + float(each["lumi"])
    found = list(by_process.values())
    if max(found) > (1 + LUMI_TOLERANCE) * min(found):
        told = ", ".join(f"{value:g}/fb of {process}" for process, value in by_process.items())
        raise InputError(
            f"data of several processes must be of one luminosity, got {told}; give data that add up the same process "
            "(or none), or say templates.lumi=VALUE, mistag.lumi=VALUE for dijets"
        )
    return found[0]


def _scale_to(data: FloatArray, simulation: FloatArray) -> float:
    """All jets of data over those of simulation; pass and fail hold the same jets for each tagger and working point.

    Without either it is 1.
    """
    measured, total = float(data.sum()), float(simulation.sum())
    return measured / total if measured > 0 and total > 0 else 1.0
