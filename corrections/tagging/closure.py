"""Closing the loop: simulation with the weights of what was measured, measured again, has scale factors of 1."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite
from typing import TYPE_CHECKING

import numpy as np

from corrections.tagging import cross_check
from corrections.tagging.samples import factor_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from corrections.tagging.counts import FloatArray
    from corrections.tagging.fit import BinFit
    from corrections.tagging.settings import FitSettings
    from corrections.tagging.templates import Region, Templates


@dataclass(frozen=True, slots=True)
class Again:
    """A scale factor measured again after weights were applied; nan where the second fit fails."""

    name: str
    working_point: str
    group: str
    value: float
    error: float

    @property
    def is_measured(self) -> bool:
        """Whether it has a value and an uncertainty."""
        return isfinite(self.value) and isfinite(self.error) and self.error > 0

    @property
    def distance(self) -> float:
        """From 1 in units of the uncertainty."""
        return (self.value - 1) / self.error


def weighted(templates: Templates, factors: Mapping[tuple[str, str], float]) -> Templates:
    """Templates after jets were weighted with scale factors, by group and working point.

    Jets between two working points weigh (SF_k e_k - SF_{k+1} e_{k+1}) / (e_k - e_{k+1}), as in an analysis, with the
    efficiencies of nominal simulation for variations too, and at least 0. A group without a factor at a working point
    has that of the next looser one, 1 for the loosest.
    """
    weights = np.ones((len(templates.regions), len(templates.groups)))
    for place, group in enumerate(templates.groups):
        known = [1.0]
        for name in templates.working_points:
            known.append(factors.get((group, name), known[-1]))
        totals = np.array([region.totals[place] for region in templates.regions])
        passing = np.append(np.array(known) * totals[::-1].cumsum()[::-1], 0.0)
        wanted = np.maximum(passing[:-1] - passing[1:], 0.0)
        weights[:, place] = np.divide(wanted, totals, out=np.ones_like(totals), where=totals > 0)
    regions = [_scaled(region, own) for region, own in zip(templates.regions, weights, strict=True)]
    by_cell = weights[templates.region_of]
    return replace(
        templates,
        regions=tuple(regions),
        totals=templates.totals * by_cell,
        variances=templates.variances * by_cell**2,
    )


def measured_again(fitted: BinFit, settings: FitSettings) -> list[Again]:
    """Scale factors of a fit after those that it found were applied, by the likelihood without pyhf."""
    factors = {(each.group, each.working_point): each.value for each in fitted.points if each.status == "ok"}
    if not factors:
        return []
    templates = weighted(fitted.templates, factors)
    found = cross_check.minimum(cross_check.likelihood(templates, settings))
    again = []
    for group, working_point in factors:
        name = factor_of(templates, settings, group, working_point)
        is_there = found.is_valid and name in found.names
        value, error = found.value(str(name)) if is_there else (float("nan"), float("nan"))
        again.append(Again(templates.name, working_point, group, value, error))
    return again


def _scaled(region: Region, factors: FloatArray) -> Region:
    by_group = factors[:, np.newaxis]
    return replace(
        region,
        yields=region.yields * by_group,
        errors=region.errors * by_group,
        varied={source: each * by_group for source, each in region.varied.items()},
        totals=region.totals * factors,
        totals_varied={source: each * factors for source, each in region.totals_varied.items()},
    )
