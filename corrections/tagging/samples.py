"""The model of a fit of all working points: samples whose yields scale with parameters.

With e_k the simulated share of a group that passes the working point k and SF_k its scale factor, the jets N between
the working points k and k + 1 become

    N (SF_k e_k - SF_{k+1} e_{k+1}) / (e_k - e_{k+1}),

where what fails all of them has SF_0 = e_0 = 1 and behind the tightest one nothing is left; the number of jets stays.
HistFactory takes this as two samples of one shape, N a times SF_k and -N b times SF_{k+1}, with a - b = 1. Efficiencies
are those of jets of any mass, as they are in event weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from corrections.tagging.counts import FloatArray
    from corrections.tagging.results import FitStatus
    from corrections.tagging.settings import FitSettings
    from corrections.tagging.templates import Templates

NORM = "norm"
LUMI = "lumi"
FACTOR = "sf_{}"
FRACTION = "fraction_{}"
BACKGROUND = "background_{}"
# Of the sample that tighter working points take from a region.
TIGHTER = "_tighter"
# A scale of mass or its resolution need not be the same for jets of another kind.
BY_GROUP = ("jms", "jmr")
# What moves yields and shapes less than this, relative, is left out.
NEGLIGIBLE = 1e-5
LARGEST_FACTOR = 10.0
# Factors of the yield, one side or the other, stay within this and its inverse.
LARGEST_CHANGE = 10.0


@dataclass(frozen=True, slots=True)
class Variation:
    """A source at plus and minus one: (2, n) yields of the nominal sum, and (2,) factors on that sum."""

    shape: FloatArray
    rate: FloatArray

    def is_negligible(self, nominal: FloatArray) -> bool:
        """Whether it changes nothing worth a parameter."""
        size = max(float(np.abs(nominal).sum()), 1e-30)
        moved = float(np.abs(self.shape - nominal).sum(axis=1).max()) / size
        return moved < NEGLIGIBLE and float(np.abs(self.rate - 1).max()) < NEGLIGIBLE


@dataclass(frozen=True, slots=True)
class Sample:
    """A template in a channel, its statistical errors, and the free factors and sources that scale it."""

    name: str
    channel: str
    nominal: FloatArray
    errors: FloatArray
    factors: tuple[str, ...]
    sources: Mapping[str, Variation]


def states_of(templates: Templates, settings: FitSettings) -> dict[tuple[str, str], FitStatus]:
    """For each group to be measured and each working point "ok", or why not.

    The group may be "absent" from what passes, or it "always_passes"; working points that were left out have the
    status that the templates say.
    """
    states: dict[tuple[str, str], FitStatus] = {}
    for place, group in enumerate(templates.groups):
        if group in settings.free:
            for name in templates.cuts:
                states[group, name] = templates.left_out.get(name) or _state(templates, place, name)
    return states


def samples_of(templates: Templates, settings: FitSettings) -> list[Sample]:
    """All samples of all channels; groups without any yield in a channel are left out."""
    states = states_of(templates, settings)
    found = []
    for number, region in enumerate(templates.regions):
        for place, group in enumerate(templates.groups):
            if region.yields[place].sum() > 0:
                is_free = any(states.get((group, name)) == "ok" for name in templates.working_points)
                maker = _free if is_free else _fixed
                found += maker(templates, settings, number, place)
    return found


def factor_of(templates: Templates, settings: FitSettings, group: str, working_point: str) -> str | None:
    """Name of the scale factor of a group at a working point of the fit, None where that is not measured.

    Where no simulated jet lies between a working point and the next one, both have the same.
    """
    states, place = states_of(templates, settings), templates.groups.index(group)
    names = templates.working_points
    number = names.index(working_point)
    while number + 1 < len(names) and not templates.regions[number + 1].totals[place] > 0:
        number += 1
    if states.get((group, names[number])) != "ok":
        return None
    return FACTOR.format(group) if len(names) == 1 else f"{FACTOR.format(group)}_{names[number]}"


def factor_limits(templates: Templates, settings: FitSettings) -> dict[str, float]:
    """For each scale factor the value at which all jets of the group would pass, or 10 if that is less."""
    found = {}
    for place, group in enumerate(templates.groups):
        for number, name in enumerate(templates.working_points, start=1):
            factor = factor_of(templates, settings, group, name)
            if factor is not None:
                totals = np.array([region.totals[place] for region in templates.regions])
                found[factor] = min(LARGEST_FACTOR, float(totals.sum() / totals[number:].sum()))
    return found


def _state(templates: Templates, place: int, working_point: str) -> FitStatus:
    first = 1 + templates.working_points.index(working_point)
    seen = [float(region.yields[place].sum()) for region in templates.regions]
    totals = [float(region.totals[place]) for region in templates.regions]
    if not (sum(seen[first:]) > 0 and sum(totals[first:]) > 0):
        return "absent"
    return "ok" if sum(seen[:first]) > 0 and sum(totals[:first]) > 0 else "always_passes"


def _free(templates: Templates, settings: FitSettings, number: int, place: int) -> list[Sample]:
    """A group whose scale factors are measured, in the region `number`."""
    region, group, common = templates.regions[number], templates.groups[place], _common(templates)
    names = templates.working_points
    own = factor_of(templates, settings, group, names[number - 1]) if number else None
    next_one = factor_of(templates, settings, group, names[number]) if number < len(names) else None
    nominal, errors = region.yields[place], region.errors[place]
    plain = {source: each[:, place] for source, each in region.varied.items()}
    above = templates.regions[number + 1 :]
    ratio = _ratio(sum(float(each.totals[place]) for each in above), float(region.totals[place]), 0.0)
    factors = (() if own is None else (own,)) + common
    if own == next_one or ratio == 0:
        sources = _sources(templates, settings, place, nominal, plain)
        return [Sample(group, region.name, nominal, errors, factors, sources)]
    ratios = {
        source: np.array(
            [
                _ratio(sum(float(each.totals_varied[source][side, place]) for each in above), float(jets), ratio)
                for side, jets in enumerate(region.totals_varied[source][:, place])
            ]
        )[:, np.newaxis]
        for source in plain
    }
    kept = {source: each * (1 + ratios[source]) for source, each in plain.items()}
    taken = {source: -each * ratios[source] for source, each in plain.items()}
    all_jets, passing = nominal * (1 + ratio), -nominal * ratio
    # the sum of both has the uncertainty of the region; their common template counts once
    return [
        Sample(group, region.name, all_jets, errors, factors, _sources(templates, settings, place, all_jets, kept)),
        Sample(
            f"{group}{TIGHTER}",
            region.name,
            passing,
            np.zeros_like(errors),
            (() if next_one is None else (next_one,)) + common,
            _sources(templates, settings, place, passing, taken),
        ),
    ]


def _fixed(templates: Templates, settings: FitSettings, number: int, place: int) -> list[Sample]:
    """A group whose rates of passing are those of simulation within an uncertainty; what passes more fails less.

    Of jets that pass one working point the share that passes the next one is uncertain for itself.
    """
    region, group = templates.regions[number], templates.groups[place]
    nominal, errors = region.yields[place], region.errors[place]
    plain = {source: each[:, place] for source, each in region.varied.items()}
    sources = dict(_sources(templates, settings, place, nominal, plain))
    totals = [float(each.totals[place]) for each in templates.regions]
    names = templates.working_points
    for first, name in enumerate(names, start=1):
        passed, failed = sum(totals[first:]), totals[first - 1]
        if settings.background and number >= first - 1 and passed > 0 and failed > 0:
            change = settings.background if number >= first else -settings.background * passed / failed
            change = float(np.clip(change, -0.9, 0.9))
            parameter = BACKGROUND.format(group if len(names) == 1 else f"{group}_{name}")
            sources[parameter] = _rate(nominal, 1 + change, 1 - change)
    return [Sample(group, region.name, nominal, errors, _common(templates), sources)]


def _common(templates: Templates) -> tuple[str, ...]:
    return () if templates.is_absolute else (NORM,)


def _sources(
    templates: Templates, settings: FitSettings, place: int, nominal: FloatArray, varied: Mapping[str, FloatArray]
) -> dict[str, Variation]:
    group = templates.groups[place]
    found = {}
    for source, each in varied.items():
        name = f"{source}_{group}" if source in BY_GROUP else source
        variation = _split(nominal, each)
        if not variation.is_negligible(nominal):
            found[name] = variation
    if settings.fraction:
        found[FRACTION.format(group)] = _rate(nominal, 1 + settings.fraction, 1 - settings.fraction)
    if templates.is_absolute and settings.lumi:
        found[LUMI] = _rate(nominal, 1 + settings.lumi, 1 - settings.lumi)
    return found


def _split(nominal: FloatArray, varied: FloatArray) -> Variation:
    """A variation (2, n) as a shape with the nominal sum and a factor on that; one that leaves nothing does nothing."""
    total = float(nominal.sum())
    shape, rate = np.tile(nominal, (2, 1)), np.ones(2)
    for side, each in enumerate(varied):
        change = float(each.sum()) / total
        if change > 0:
            shape[side] = each / change
            rate[side] = np.clip(change, 1 / LARGEST_CHANGE, LARGEST_CHANGE)
    return Variation(shape, rate)


def _rate(nominal: FloatArray, up: float, down: float) -> Variation:
    return Variation(np.tile(nominal, (2, 1)), np.array([up, down]))


def _ratio(above: float, own: float, otherwise: float) -> float:
    return above / own if own > 0 else otherwise
