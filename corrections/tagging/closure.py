"""Closing the loop: simulation with the weights that the written file gives, beside data, and measured again.

What an analysis would read and apply is what is tested: each bin of simulation takes the weights of
`processors.tagger_weights` for a jet there, from scale factors and efficiencies in the file. Scale factors measured
again must be 1. They are measured with the same jets and data, so that no statistical fluctuation comes between.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from math import inf, isfinite, nan
from typing import TYPE_CHECKING, Any

import numpy as np

from corrections.tagging import cross_check
from corrections.tagging.counts import merged_edges
from corrections.tagging.fit import without_groups
from corrections.tagging.known_answer import within
from corrections.tagging.mistag import CATEGORY as MISTAG
from corrections.tagging.mistag import ratio_of
from corrections.tagging.samples import NORM, factor_of, states_of
from corrections.tagging.tagger_json import places_in
from corrections.tagging.templates import all_templates, refilled
from processors.tagger_weights import TaggedJets, TaggerWeights

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from corrections.tagging.counts import Counts, FloatArray
    from corrections.tagging.fit import BinFit
    from corrections.tagging.results import TaggerPoint
    from corrections.tagging.settings import FitSettings, Order, TaggerMeasurementSettings
    from corrections.tagging.templates import IntArray, Templates
    from processors.tagger_weights import FromFile

# Of a yield that nothing is known of, relative.
UNKNOWN = 100.0
# Number of the only category of jets.
ANY = 0


@dataclass(frozen=True, slots=True)
class Again:
    """A point measured again after weights were applied; nan where that fails."""

    point: TaggerPoint
    value: float = nan
    error: float = nan

    @property
    def is_measured(self) -> bool:
        """Whether it has a value and an uncertainty."""
        return isfinite(self.value) and isfinite(self.error) and self.error > 0

    @property
    def distance(self) -> float:
        """From 1 in units of the uncertainty."""
        return (self.value - 1) / self.error


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Mass of jets between all working points in one bin: chi2 of data and simulation without weights and with them."""

    name: str
    bins: int
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Closure:
    """What is left when scale factors were applied as they were written."""

    again: tuple[Again, ...] = ()
    spectra: tuple[Spectrum, ...] = ()

    @property
    def largest_left(self) -> float:
        """Largest distance from 1, in uncertainties, of what is measured again; 0 without any."""
        return max((abs(each.distance) for each in self.again if each.is_measured), default=0.0)

    def left_beyond(self, largest: float) -> tuple[Again, ...]:
        """What is further from 1 than so many uncertainties."""
        return tuple(each for each in self.again if each.is_measured and not abs(each.distance) < largest)

    @property
    def lost(self) -> tuple[Again, ...]:
        """What was measured once, and not again with weights applied."""
        return tuple(each for each in self.again if not each.is_measured)


def closure_of_fits(
    counts: Counts,
    fits: Sequence[BinFit],
    points: Sequence[TaggerPoint],
    settings: TaggerMeasurementSettings,
    file: Path,
    parallel_map: Callable[..., Iterable[Any]] = map,
) -> Closure:
    """Fits of pass and fail once more, in the same bins, by the likelihood without pyhf; `points` are of the file."""
    after = weighted(counts, points, settings.templates.groups, file, settings.json.order)
    pairs = [
        (each.templates, _without_absent(refilled(each.templates, after, settings.templates, settings.fit), each))
        for each in fits
        if each.is_drawable
    ]
    again = parallel_map(partial(_values, settings=settings.fit), [templates for _, templates in pairs])
    found = {
        (templates.tagger, templates.pt, *key): value
        for (templates, _), values in zip(pairs, again, strict=True)
        for key, value in values.items()
    }
    own = [p for p in points if p.quantity == "scale_factor" and p.is_measured and p.tagger in counts.working_points]
    return Closure(
        again=tuple(Again(p, *found.get((p.tagger, p.pt, p.category, p.working_point), (nan, nan))) for p in own),
        spectra=tuple(_spectrum(before.name, before, now, settings.fit) for before, now in pairs),
    )


def closure_of_mistags(
    counts: Counts, points: Sequence[TaggerPoint], settings: TaggerMeasurementSettings, file: Path
) -> Closure:
    """Rates of mistags once more; `points` are of the file."""
    own = [p for p in points if p.quantity == "mistag" and p.is_measured and p.tagger in counts.working_points]
    after = weighted(counts, points, {MISTAG: settings.mistag.multijet}, file, settings.json.order)
    return Closure(
        again=tuple(Again(p, ratio_of(after, p, settings.mistag), p.total / p.value) for p in own),
        spectra=tuple(_spectra_of_dijets(counts, after, settings)),
    )


def _spectra_of_dijets(before: Counts, after: Counts, settings: TaggerMeasurementSettings) -> Iterator[Spectrum]:
    """Those of each bin of |eta| and pT, multijets beside all others; the yield of simulation is free."""
    multijet = settings.mistag.multijet
    groups = {MISTAG: multijet, "others": tuple(name for name in before.categories if name not in multijet)}
    fit = replace(settings.fit, free=(MISTAG,))
    wanted = replace(
        settings.templates,
        mass=(float(before.mass[0]), float(before.mass[-1])),
        pt=settings.mistag.pt,
        groups=groups,
    )
    for first, last in merged_edges(before.eta, settings.mistag.eta, "mistag.eta"):
        low, high = before.eta[first], before.eta[last]
        own, now = (replace(each.within_eta(first, last), is_absolute=False) for each in (before, after))
        for templates in all_templates(own, wanted, fit):
            if templates.working_points:
                name = f"{templates.name}_eta{low:g}to{high:g}"
                yield _spectrum(name, templates, refilled(templates, now, wanted, fit), fit)


def _without_absent(templates: Templates, fitted: BinFit) -> Templates:
    """Without the groups that a fit was done without."""
    yields = sum(region.yields.sum(axis=1) for region in fitted.templates.regions)
    return without_groups(templates, {name for name, jets in zip(templates.groups, yields, strict=True) if not jets})


def _values(templates: Templates, settings: FitSettings) -> Mapping[tuple[str, str], tuple[float, float]]:
    """Scale factors and their uncertainties by group and working point; none where the fit fails."""
    minimum = cross_check.minimum(cross_check.likelihood(templates, settings))
    found = {}
    for (group, working_point), state in states_of(templates, settings).items():
        name = factor_of(templates, settings, group, working_point) if state == "ok" else None
        if minimum.is_valid and name in minimum.names:
            found[group, working_point] = minimum.value(str(name))
    return found


def _spectrum(name: str, before: Templates, after: Templates, settings: FitSettings) -> Spectrum:
    models = [cross_check.likelihood(each, settings) for each in (before, after)]
    return Spectrum(name, len(models[0].data), *(chi2(each) for each in models))


def chi2(model: cross_check.Likelihood) -> float:
    """Of data and expectation, with numbers of data and simulated jets and all sources with their correlations.

    A yield that is free is that of data. Infinite where there are data without any expectation.
    """
    is_free = NORM in model.factors
    expected = model.expected(model.start)
    inside = expected > 0
    if np.any(model.data[~inside] > 0):
        return inf
    scale = model.data.sum() / expected.sum() if is_free else 1.0
    expected, data = scale * expected[inside], model.data[inside]
    slopes = scale * model.derivatives(model.start)[len(model.factors) :, inside]
    matrix = np.diag(expected + (model.errors[inside] * expected) ** 2) + slopes.T @ slopes
    if is_free:
        matrix += UNKNOWN**2 * np.outer(expected, expected)
    differences = data - expected
    return float(differences @ np.linalg.solve(matrix, differences))


def weighted(
    counts: Counts, points: Sequence[TaggerPoint], groups: Mapping[str, Sequence[str]], file: Path, order: Order
) -> Counts:
    """Counts whose simulation has the weights of jets that pass and that fail, as a file gives them.

    `groups` are the categories of truth by the category of points; those without a point that was measured keep their
    weight. Weights are those of jets in the middle of each bin of |eta| and pT, by the working points that were
    measured there: what neighbours lend to others need not be nested with them. Where none was, neighbours lend all.
    """
    arrays = {"nominal": counts.nominal.copy(), "variance": counts.variance.copy()}
    arrays |= {source: values.copy() for source, values in counts.varied.items()}
    for tagger, cuts in counts.working_points.items():
        weights = np.ones((1 + len(cuts), len(counts.categories), len(counts.pt) - 1, len(counts.eta) - 1))
        for group, members in groups.items():
            own = [p for p in points if p.is_measured and (p.tagger, p.category) == (tagger, group)]
            if own:
                places = places_in(file, tagger, group, order, [each.category for each in points])
                of_group = _of_bins(own, list(cuts), counts, places)
                weights[:, [counts.categories.index(name) for name in members]] = of_group[:, np.newaxis]
        for name, values in arrays.items():
            power = 2 if name == "variance" else 1
            cells = counts.cells(tagger, values, simulated=True) * (weights**power)[..., np.newaxis]
            counts.put(tagger, values, cells, simulated=True)
    nominal, variance = arrays.pop("nominal"), arrays.pop("variance")
    return replace(counts, nominal=nominal, variance=variance, varied=arrays)


def _of_bins(
    points: Sequence[TaggerPoint], cuts: Sequence[str], counts: Counts, places: tuple[FromFile, FromFile]
) -> FloatArray:
    """Weights of jets between working points in the middle of each bin, (1 + n_points, pt, eta).

    `points` are those of one category that were measured, `places` where a file has its factors and efficiencies.
    """
    is_known = np.zeros((len(cuts), len(counts.pt) - 1, len(counts.eta) - 1), np.bool_)
    for each in points:
        inside = np.ix_(within(counts.pt, each.pt), within(counts.eta, each.eta))
        is_known[cuts.index(each.working_point)][inside] = True
    lent = ~is_known.any(axis=0) & is_known.any(axis=(1, 2), keepdims=True)
    is_used = is_known | lent
    weights = np.ones((1 + len(cuts), *is_used.shape[1:]))
    for pattern in np.unique(is_used.reshape(len(cuts), -1), axis=1).T:
        chosen = (is_used == pattern[:, np.newaxis, np.newaxis]).all(axis=0)
        usable = tuple(name for name, used in zip(cuts, pattern, strict=True) if used)
        weights[:, chosen] = _of_jets(usable, np.cumsum([0, *pattern]), counts, places)[:, chosen]
    return weights


def _of_jets(
    working_points: tuple[str, ...], levels: IntArray, counts: Counts, places: tuple[FromFile, FromFile]
) -> FloatArray:
    """Weights of jets that pass so many of the working points, (n_levels, pt, eta)."""
    pt, eta = (0.5 * (edges[1:] + edges[:-1]) for edges in (counts.pt, counts.eta))
    of_level, of_pt, of_eta = np.indices((len(levels), len(pt), len(eta))).reshape(3, -1)
    factors, efficiencies = ({ANY: place} for place in places)
    one = np.ones(len(of_pt), np.int64)
    jets = TaggedJets(one, eta[of_eta], pt[of_pt], levels[of_level], ANY * one)
    return TaggerWeights(working_points, factors, efficiencies).events(jets).reshape(-1, len(pt), len(eta))
