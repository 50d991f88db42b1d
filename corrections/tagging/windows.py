"""Scale factors in other ranges of mass than the one that is published.

A tagger that knows the mass passes other jets in one range than in another, and its scale factor need not be the same;
that of a tagger without such knowledge should.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import nan
from typing import TYPE_CHECKING

from corrections.tagging import cross_check
from corrections.tagging.fit import status_before
from corrections.tagging.samples import FACTOR, free_groups
from corrections.tagging.templates import all_templates

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from corrections.results import Interval
    from corrections.tagging.counts import Counts
    from corrections.tagging.results import TaggerPoint
    from corrections.tagging.settings import TaggerMeasurementSettings
    from corrections.tagging.templates import Templates


@dataclass(frozen=True, slots=True)
class InWindow:
    """A scale factor in a range of mass, GeV, and the `published` one; nan where there is none."""

    window: tuple[float, float]
    tagger: str
    working_point: str
    category: str
    pt: Interval
    value: float
    error: float
    published: float


def in_windows(counts: Counts, settings: TaggerMeasurementSettings, points: Sequence[TaggerPoint]) -> list[InWindow]:
    """Scale factors in each of `settings.windows`, by the likelihood without pyhf."""
    published = {(p.tagger, p.working_point, p.category, p.pt): p.value for p in points}
    found = []
    for window in settings.windows:
        chosen = replace(settings.templates, mass=window)
        for templates in all_templates(counts, chosen, settings.fit):
            values = _fitted(templates, settings)
            for group in (name for name in templates.groups if name in settings.fit.free):
                place = (templates.tagger, templates.working_point, group, templates.pt)
                value, error = values.get(group, (nan, nan))
                found.append(InWindow(window, *place, value, error, published.get(place, nan)))
    return found


def _fitted(templates: Templates, settings: TaggerMeasurementSettings) -> Mapping[str, tuple[float, float]]:
    """What can be told of in this range; a group that hardly is in it has an uncertainty that is too large."""
    states = free_groups(templates, settings.fit)
    if status_before(templates, states) != "ok":
        return {}
    minuit = cross_check.minimise(cross_check.likelihood(templates, settings.fit))
    if not minuit.valid:
        return {}
    found = cross_check.factors_of(minuit, [group for group, state in states.items() if state == "ok"])
    ends = {group: minuit.limits[FACTOR.format(group)] for group in found}
    return {
        group: (value, error)
        for group, (value, error) in found.items()
        if error <= settings.fit.largest_error and ends[group][0] + 1e-3 < value < ends[group][1] - 1e-3
    }
