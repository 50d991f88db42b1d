"""Closing the loop: simulation with the weights of what was measured, measured again, has scale factors of 1."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from corrections.tagging import cross_check

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
    group: str
    value: float
    error: float

    @property
    def distance(self) -> float:
        """From 1 in units of the uncertainty."""
        return (self.value - 1) / self.error


def weighted(templates: Templates, factors: Mapping[str, float]) -> Templates:
    """Templates after jets that pass were weighted with SF and those that fail with (1 - SF eff) / (1 - eff).

    The efficiency is that of the nominal simulation, for variations too, as in an analysis; groups without a factor
    keep their weight.
    """
    passing, failing = np.ones(len(templates.groups)), np.ones(len(templates.groups))
    for group, factor in factors.items():
        place = templates.groups.index(group)
        efficiency = templates.efficiency[place]
        passing[place], failing[place] = factor, (1 - factor * efficiency) / (1 - efficiency)
    return replace(
        templates,
        passing=_scaled(templates.passing, passing),
        failing=_scaled(templates.failing, failing),
        passed=templates.passed * passing,
        failed=templates.failed * failing,
        passed_varied={source: each * passing for source, each in templates.passed_varied.items()},
        failed_varied={source: each * failing for source, each in templates.failed_varied.items()},
        variance_passed=templates.variance_passed * passing**2,
        variance_failed=templates.variance_failed * failing**2,
    )


def measured_again(fitted: BinFit, settings: FitSettings) -> list[Again]:
    """Scale factors of a fit after those that it found were applied, by the likelihood without pyhf."""
    factors = {each.group: each.value for each in fitted.groups if each.status == "ok"}
    if not factors:
        return []
    templates = weighted(fitted.templates, factors)
    minuit = cross_check.minimise(cross_check.likelihood(templates, settings))
    found = cross_check.factors_of(minuit, list(factors))
    nothing = (float("nan"), float("nan"))
    return [
        Again(templates.name, group, *(found.get(group, nothing) if minuit.valid else nothing)) for group in factors
    ]


def _scaled(region: Region, factors: FloatArray) -> Region:
    by_group = factors[:, np.newaxis]
    varied = {source: each * by_group for source, each in region.varied.items()}
    return replace(region, yields=region.yields * by_group, errors=region.errors * by_group, varied=varied)
