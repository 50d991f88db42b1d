"""The model of a pass/fail fit: samples whose yields scale with parameters.

A group passes with the yield SF p and fails with f + p - SF p, p and f its simulated yields, so that the number of its
jets stays. What fails is written as two samples that are linear in the scale factor: f (1 + p/f), and -f (p/f) times
SF, with the shape of what fails. The ratio p/f is that of jets of any mass, as it is in event weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from corrections.tagging.templates import stacked

if TYPE_CHECKING:
    from collections.abc import Mapping

    from corrections.tagging.counts import FloatArray
    from corrections.tagging.results import FitStatus
    from corrections.tagging.settings import FitSettings
    from corrections.tagging.templates import Region, Templates

NORM = "norm"
LUMI = "lumi"
FACTOR = "sf_{}"
FRACTION = "fraction_{}"
BACKGROUND = "background_{}"
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


def free_groups(templates: Templates, settings: FitSettings) -> dict[str, FitStatus]:
    """For each group to be measured "ok", or why it cannot be: "absent" from what passes, or it "always_passes"."""
    states: dict[str, FitStatus] = {}
    for place, group in enumerate(templates.groups):
        if group in settings.free:
            is_there = templates.passing.yields[place].sum() > 0 and templates.passed[place] > 0
            can_fail = templates.failing.yields[place].sum() > 0 and templates.failed[place] > 0
            states[group] = "ok" if is_there and can_fail else "always_passes" if is_there else "absent"
    return states


def samples_of(templates: Templates, settings: FitSettings) -> list[Sample]:
    """All samples of both channels; groups without any yield in a channel are left out."""
    free = [group for group, state in free_groups(templates, settings).items() if state == "ok"]
    found = []
    for channel, region in stacked(templates):
        for place, group in enumerate(templates.groups):
            if region.yields[place].sum() > 0:
                maker = _free if group in free else _fixed
                found += maker(templates, settings, channel, region, place)
    return found


def parameter_limit(templates: Templates, group: str) -> float:
    """The scale factor at which all jets of a group would pass, or 10 if that is less."""
    place = templates.groups.index(group)
    return min(LARGEST_FACTOR, 1 + float(templates.failed[place] / templates.passed[place]))


def _free(templates: Templates, settings: FitSettings, channel: str, region: Region, place: int) -> list[Sample]:
    group = templates.groups[place]
    factor, common = FACTOR.format(group), _common(templates)
    nominal, errors = region.yields[place], region.errors[place]
    plain = {source: each[:, place] for source, each in region.varied.items()}
    if channel == "pass":
        sources = _sources(templates, settings, place, nominal, plain)
        return [Sample(group, channel, nominal, errors, (factor, *common), sources)]
    ratio = templates.passed[place] / templates.failed[place]
    ratios = {
        source: _ratio(templates.passed_varied[source][:, place], templates.failed_varied[source][:, place], ratio)
        for source in plain
    }
    kept = {source: each * (1 + ratios[source][:, np.newaxis]) for source, each in plain.items()}
    taken = {source: -each * ratios[source][:, np.newaxis] for source, each in plain.items()}
    all_jets, passing = nominal * (1 + ratio), -nominal * ratio
    # the sum of both has the uncertainty of what fails; their common template counts once
    return [
        Sample(group, channel, all_jets, errors, common, _sources(templates, settings, place, all_jets, kept)),
        Sample(
            f"{group}_passing",
            channel,
            passing,
            np.zeros_like(errors),
            (factor, *common),
            _sources(templates, settings, place, passing, taken),
        ),
    ]


def _fixed(templates: Templates, settings: FitSettings, channel: str, region: Region, place: int) -> list[Sample]:
    """A group whose rate of passing is that of simulation within an uncertainty; what passes more fails less."""
    nominal, errors = region.yields[place], region.errors[place]
    plain = {source: each[:, place] for source, each in region.varied.items()}
    sources = dict(_sources(templates, settings, place, nominal, plain))
    passed, failed = templates.passed[place], templates.failed[place]
    if settings.background and passed > 0 and failed > 0:
        change = settings.background if channel == "pass" else -settings.background * passed / failed
        change = float(np.clip(change, -0.9, 0.9))
        sources[BACKGROUND.format(templates.groups[place])] = _rate(nominal, 1 + change, 1 - change)
    return [Sample(templates.groups[place], channel, nominal, errors, _common(templates), sources)]


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


def _ratio(passed: FloatArray, failed: FloatArray, nominal: float) -> FloatArray:
    return np.asarray(np.divide(passed, failed, out=np.full(2, nominal), where=failed > 0))
