"""From folders of tagging runs to scale factors: which folder is for what, and all fits."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from corrections.results import Interval
from corrections.tagging.closure import Closure, closure_of_fits, closure_of_mistags
from corrections.tagging.counts import DIJET, merged_edges, read_counts
from corrections.tagging.covariance import covariance
from corrections.tagging.efficiency import efficiency_maps
from corrections.tagging.fit import fit
from corrections.tagging.known_answer import FILE as ANSWER_FILE
from corrections.tagging.known_answer import by_pt, chi2, members_of, pulls, read_answer, with_known_answer
from corrections.tagging.mistag import CATEGORY as MISTAG
from corrections.tagging.mistag import mistag_rates
from corrections.tagging.points import estimates_of
from corrections.tagging.templates import all_templates, mass_range
from corrections.tagging.windows import in_windows
from processors.errors import InputError, raise_if_any

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from corrections.tagging.closure import Again, Spectrum
    from corrections.tagging.counts import Counts
    from corrections.tagging.efficiency import EfficiencyMap
    from corrections.tagging.fit import BinFit
    from corrections.tagging.known_answer import Answer, KnownPull
    from corrections.tagging.results import Estimate, TaggerPoint
    from corrections.tagging.settings import TaggerMeasurementSettings
    from corrections.tagging.windows import InWindow

    ParallelMap = Callable[..., Iterable[Any]]

# The category whose number mistags have.
QCD = "qcd"
NOTED_P_VALUE = 1e-2


@dataclass(frozen=True, slots=True)
class TaggingInput:
    """The counts of one tagging run; `answer` is what was injected into its data, empty where that is not known."""

    folder: Path
    counts: Counts
    probe: str
    is_complete: bool
    answer: Answer
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Agreement:
    """Points of a tagger with what was injected: their number, chi2 and its probability, and the largest pull."""

    n_points: int
    chi2: float
    p_value: float
    largest: float


@dataclass(frozen=True, slots=True)
class TaggerMeasurement:
    """All estimates with the fits they come from; `pulls`, and `agreement` by tagger, where the answer is known.

    `windows` are scale factors in other ranges of mass.
    """

    estimates: tuple[Estimate, ...]
    fits: tuple[BinFit, ...]
    efficiencies: tuple[EfficiencyMap, ...]
    cuts: Mapping[str, Mapping[str, float]]
    pulls: tuple[KnownPull, ...] = ()
    agreement: Mapping[str, Agreement] = field(default_factory=dict)
    windows: tuple[InWindow, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def p_value(self) -> float:
        """Probability of the worst agreement of any tagger, however they are correlated; 1 without a known answer."""
        worst = min((each.p_value for each in self.agreement.values()), default=1.0)
        return min(1.0, len(self.agreement) * worst) if self.agreement else 1.0

    @property
    def n_measured(self) -> int:
        """Scale factors that have a value."""
        return sum(each.point.is_measured for each in self.estimates)


def read_inputs(folders: Sequence[Path], lumi: float | None, lumi_of_dijets: float | None = None) -> list[TaggingInput]:
    """The runs in these folders; the same tagger must have the same cuts in all of them.

    `lumi` in 1/fb replaces that of their data, `lumi_of_dijets` that of dijets.
    """
    inputs = []
    cuts: dict[str, Mapping[str, float]] = {}
    for folder in folders:
        counts, facts = read_counts(folder, lumi, lumi_of_dijets)
        probe = str(facts["settings"]["selection"]["probe"])
        notes = [*facts.get("notes", ()), *counts.notes]
        notes += _replaced(facts, *(("mistag", lumi_of_dijets) if probe == DIJET else ("templates", lumi)))
        for tagger, own in counts.working_points.items():
            if dict(cuts.setdefault(tagger, own)) != dict(own):
                raise InputError(
                    f"{folder}: {tagger} has the working points {dict(own)}, elsewhere {dict(cuts[tagger])}"
                )
        answer = read_answer(folder)
        try:
            _check_answer(answer, counts)
        except InputError as error:
            raise InputError(f"{folder / ANSWER_FILE}: {error}") from None
        inputs.append(TaggingInput(folder, counts, probe, bool(facts["complete"]), answer, tuple(notes)))
    return inputs


def check(inputs: Sequence[TaggingInput], settings: TaggerMeasurementSettings) -> None:
    """Refuse bins and ranges of mass that the histograms do not have, and what is measured twice, all at once."""
    faults = [*_twice(inputs), *_beside_mistags(inputs, settings)]
    for each in inputs:
        try:
            if each.probe == DIJET:
                merged_edges(each.counts.eta, settings.mistag.eta, "mistag.eta")
                merged_edges(each.counts.pt, settings.mistag.pt, "mistag.pt")
            else:
                merged_edges(each.counts.pt, settings.templates.pt, "templates.pt")
                mass_range(each.counts.mass, settings.templates.mass, "templates.mass")
                _ungrouped(each.counts, settings)
                for window in settings.windows:
                    mass_range(each.counts.mass, window, "windows")
        except InputError as error:
            faults.append(f"{each.folder}: {error}")
    raise_if_any(faults)


def with_injected(inputs: Sequence[TaggingInput], answer: Answer, seed: int) -> list[TaggingInput]:
    """The same with data drawn from simulation, its efficiencies changed as `answer` says."""
    from dataclasses import replace

    found = []
    for place, each in enumerate(inputs):
        _check_answer(answer, each.counts)
        rng = np.random.default_rng([seed, place])
        try:
            counts = with_known_answer(each.counts, answer, rng, by_eta=each.probe == DIJET)
        except ValueError as error:
            raise InputError(str(error)) from None
        found.append(replace(each, counts=counts, answer=answer))
    return found


def measure(
    inputs: Sequence[TaggingInput], settings: TaggerMeasurementSettings, parallel_map: ParallelMap = map
) -> TaggerMeasurement:
    """Scale factors of all inputs: mistags of dijets, fits of pass and fail of the others.

    `parallel_map` applies the fit to all templates, in their order.
    """
    estimates: list[Estimate] = []
    fits: list[BinFit] = []
    efficiencies: list[EfficiencyMap] = []
    found: list[KnownPull] = []
    windows: list[InWindow] = []
    cuts: dict[str, Mapping[str, float]] = {}
    compared: set[tuple[str, str, str]] = set()
    for each in inputs:
        counts = each.counts
        cuts |= counts.working_points
        if each.probe == DIJET:
            own = mistag_rates(counts, settings.mistag)
            groups: Mapping[str, Sequence[str]] = {MISTAG: settings.mistag.multijet}
        else:
            fitted = list(parallel_map(partial(fit, settings=settings.fit), templates_of(each, settings)))
            fits += fitted
            eta = Interval(float(counts.eta[0]), float(counts.eta[-1]))
            own = [estimate for one in fitted for estimate in estimates_of(one, eta)]
            groups = {name: members for name, members in settings.templates.groups.items() if name in settings.fit.free}
            windows += in_windows(counts, settings, [estimate.point for estimate in own], parallel_map)
        estimates += own
        efficiencies += efficiency_maps(counts, groups)
        of_input = pulls([estimate.point for estimate in own], each.answer, counts, groups)
        compared |= {place for pull in of_input for place in _places(pull.point, groups)}
        found += of_input
    notes = [*_notes(inputs, settings), *_fit_notes(fits), *_answer_notes(inputs, compared)]
    return TaggerMeasurement(
        estimates=tuple(estimates),
        fits=tuple(fits),
        efficiencies=tuple(efficiencies),
        cuts=cuts,
        pulls=tuple(found),
        agreement=_agreement(found, estimates),
        windows=tuple(windows),
        notes=tuple(notes),
    )


def close_loop(
    inputs: Sequence[TaggingInput],
    measurement: TaggerMeasurement,
    settings: TaggerMeasurementSettings,
    file: Path,
    parallel_map: ParallelMap = map,
) -> Closure:
    """What is left in each input with the scale factors that were measured in it applied, as `file` has them."""
    points = [each.point for each in measurement.estimates]
    again: list[Again] = []
    spectra: list[Spectrum] = []
    for each in inputs:
        if each.probe == DIJET:
            found = closure_of_mistags(each.counts, points, settings, file)
        else:
            own = [one for one in measurement.fits if one.templates.tagger in each.counts.working_points]
            found = closure_of_fits(each.counts, own, points, settings, file, parallel_map)
        again += found.again
        spectra += found.spectra
    return Closure(tuple(again), tuple(spectra))


def templates_of(each: TaggingInput, settings: TaggerMeasurementSettings) -> list[Any]:
    """What is fitted of an input."""
    return all_templates(each.counts, settings.templates, settings.fit)


def _replaced(facts: Mapping[str, Any], section: str, lumi: float | None) -> list[str]:
    """Tell where a luminosity of the settings replaces another one."""
    known = {each["lumi"] for each in facts["datasets"] if not each["is_mc"] and each["lumi"] is not None}
    other = [f"{value:g}" for value in sorted(known) if lumi is not None and value != lumi]
    return [f"{section}.lumi={lumi:g} replaces the luminosity of data, {' and '.join(other)}/fb"] if other else []


def _twice(inputs: Sequence[TaggingInput]) -> list[str]:
    """Taggers that several inputs would measure on jets of one kind: a file has room for one of each point."""
    faults = []
    first: dict[tuple[str, bool], Path] = {}
    for each in inputs:
        is_dijet = each.probe == DIJET
        for tagger in each.counts.working_points:
            if (tagger, is_dijet) in first:
                kind = "dijets" if is_dijet else "tops and W"
                faults.append(
                    f"{each.folder}: {tagger} already has {kind} from {first[tagger, is_dijet]}; give one --input of "
                    "each kind, made by one tagging run of all files"
                )
            first.setdefault((tagger, is_dijet), each.folder)
    return faults


def _beside_mistags(inputs: Sequence[TaggingInput], settings: TaggerMeasurementSettings) -> list[str]:
    """Groups whose scale factors would have the place of mistags in the file, where both are measured."""
    if len({each.probe == DIJET for each in inputs}) < 2:
        return []
    order = settings.json.order
    taken = [MISTAG] if order == "jme" else [MISTAG, QCD]
    same = [name for name in settings.fit.free if name in taken]
    told = f"fit.free has {', '.join(same)}, which json.order={order} cannot tell from the mistags of dijets"
    return [f"{told}; give that group another name, or leave it out"] if same else []


def _check_answer(answer: Answer, counts: Counts) -> None:
    """Refuse names that this run does not have, and lists that are not one for each of its bins of pT."""
    for tagger, by_cut in answer.items():
        for name, by_category in by_cut.items():
            unknown = set(by_category) - set(counts.categories)
            if unknown:
                raise InputError(f"no category {', '.join(sorted(unknown))}; there are {', '.join(counts.categories)}")
            if name not in counts.working_points.get(tagger, {}):
                known = {key: list(value) for key, value in counts.working_points.items()}
                raise InputError(f"no working point {name} of {tagger}; there are {known}")
            for values in by_category.values():
                by_pt(values, len(counts.pt) - 1)


def _agreement(found: Sequence[KnownPull], estimates: Sequence[Estimate]) -> dict[str, Agreement]:
    """By tagger, as different taggers look at the same jets in ways that are not known."""
    by_point = {id(each.point): each for each in estimates}
    agreements = {}
    for tagger in dict.fromkeys(each.point.tagger for each in found):
        own = [each for each in found if each.point.tagger == tagger]
        total, p_value = chi2(own, covariance([by_point[id(each.point)] for each in own]))
        agreements[tagger] = Agreement(len(own), total, p_value, max(abs(each.value) for each in own))
    return agreements


def _ungrouped(counts: Counts, settings: TaggerMeasurementSettings) -> list[str]:
    """Tell which share of the simulated jets of each process is of no group; refuse one of which nothing is left."""
    members = {name for names in settings.templates.groups.values() for name in names}
    is_lost = np.array([name not in members for name in counts.categories])
    notes = []
    for process, jets in zip(counts.processes, counts.nominal.sum(axis=(1, 2, 3, 5, 6, 7)), strict=True):
        lost = [name for name, number in zip(counts.categories, jets, strict=True) if number and name not in members]
        if lost and not jets[~is_lost].any():
            raise InputError(
                f"templates.groups leave nothing of the simulation {process}, whose jets are {', '.join(lost)}; "
                "add these to a group, or leave it out of the run"
            )
        if lost:
            told = f"of the simulated jets of {process}, {' and '.join(lost)}, are in no group of templates.groups"
            notes.append(f"{jets[is_lost].sum() / jets.sum():.2g} {told} and are left out")
    return notes


def _notes(inputs: Sequence[TaggingInput], settings: TaggerMeasurementSettings) -> list[str]:
    notes = []
    for each in inputs:
        own = [] if each.probe == DIJET else _ungrouped(each.counts, settings)
        notes += [f"{each.folder}: {note}" for note in (*each.notes, *own)]
        if not each.counts.is_absolute:
            notes.append(f"{each.folder}: without cross sections and luminosity simulation is scaled to data")
        if each.counts.empty:
            notes.append(f"{each.folder}: no jets in {', '.join(each.counts.empty)}")
        if not each.is_complete:
            notes.append(f"{each.folder}: the tagging run lost input")
    return notes


def _places(point: TaggerPoint, groups: Mapping[str, Sequence[str]]) -> set[tuple[str, str, str]]:
    """Where an answer has what a point is compared with: tagger, working point, category of truth."""
    return {(point.tagger, point.working_point, name) for name in members_of(point, groups)}


def _answer_notes(inputs: Sequence[TaggingInput], compared: Collection[tuple[str, str, str]]) -> list[str]:
    """Known answers that no scale factor was compared with."""
    known = {
        (tagger, name, category): None
        for each in inputs
        for tagger, cuts in each.answer.items()
        for name, by_category in cuts.items()
        for category in by_category
    }
    lost = [" ".join(place) for place in known if place not in compared]
    return [f"known answers that no measured scale factor is compared with: {', '.join(lost)}"] if lost else []


def _fit_notes(fits: Sequence[BinFit]) -> list[str]:
    notes = []
    for each in fits:
        if each.templates.negative_bins:
            notes.append(
                f"{each.templates.name}: {each.templates.negative_bins} negative bins of simulation set to zero"
            )
        if each.p_value < NOTED_P_VALUE or each.status == "bad_fit":
            notes.append(f"{each.templates.name}: the fit describes data badly, p = {each.p_value:.1e}")
    return notes
