"""Scale factors in other ranges of mass than the one that is published.

A tagger that knows the mass passes other jets in one range than in another, and its scale factor need not be the same;
that of a tagger without such knowledge should.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from math import nan
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import chdtrc, xlogy

from corrections.tagging import cross_check
from corrections.tagging.fit import quality, status_before, uncertainty, without_groups
from corrections.tagging.samples import factor_of, states_of
from corrections.tagging.templates import all_templates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from corrections.results import Interval
    from corrections.tagging.counts import Counts
    from corrections.tagging.cross_check import Likelihood, Minimum
    from corrections.tagging.results import TaggerPoint
    from corrections.tagging.settings import FitSettings, TaggerMeasurementSettings
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


def in_windows(
    counts: Counts,
    settings: TaggerMeasurementSettings,
    points: Sequence[TaggerPoint],
    parallel_map: Callable[..., Iterable[Any]] = map,
) -> list[InWindow]:
    """Scale factors in each of `settings.windows`, by the likelihood without pyhf.

    `parallel_map` applies the fit to all templates, in their order.
    """
    published = {(p.tagger, p.working_point, p.category, p.pt): p.value for p in points}
    tasks = [
        (window, templates)
        for window in settings.windows
        for templates in all_templates(counts, replace(settings.templates, mass=window), settings.fit)
    ]
    fits = parallel_map(partial(_fitted, settings=settings.fit), [templates for _, templates in tasks])
    found = []
    for (window, templates), values in zip(tasks, fits, strict=True):
        for group, working_point in product(settings.fit.free, templates.cuts):
            place = (templates.tagger, working_point, group, templates.pt)
            value, error = values.get((group, working_point), (nan, nan))
            found.append(InWindow(window, *place, value, error, published.get(place, nan)))
    return found


def _fitted(templates: Templates, settings: FitSettings) -> Mapping[tuple[str, str], tuple[float, float]]:
    """What can be told of in this range, by the rules of the published fit."""
    if status_before(templates, settings) != "ok":
        return {}
    model = cross_check.likelihood(templates, settings)
    minimum = cross_check.minimum(model)
    if not minimum.is_valid:
        return {}
    found, absent = {}, set()
    for (group, working_point), state in states_of(templates, settings).items():
        name = factor_of(templates, settings, group, working_point) if state == "ok" else None
        if name is None or name not in minimum.names:
            continue
        status = quality(group, name, templates, settings, model, minimum)
        if status == "ok":
            found[group, working_point] = minimum.value(name)[0], uncertainty(name, model, minimum)
        elif status == "absent":
            absent.add(group)
    if not p_value(model, minimum) < settings.min_p_value:
        return found
    return _fitted(without_groups(templates, absent), settings) if absent else {}


def p_value(model: Likelihood, minimum: Minimum) -> float:
    """Probability of data that are described worse, as that of `BinFit`; nan without degrees of freedom."""
    data, degrees = model.data, len(model.data) - len(model.factors)
    known = (np.ones(len(data)), np.zeros(len(model.sources)))
    of_minimum = model.statistic(minimum.values[: len(model.names)], data, *known)
    distance = max(of_minimum - 2 * float(np.sum(data - xlogy(data, data))), 0.0)
    return float(chdtrc(degrees, distance)) if degrees > 0 else nan
