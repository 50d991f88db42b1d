"""Fits to scale factors with their uncertainty by source."""

from __future__ import annotations

from math import hypot, sqrt
from typing import TYPE_CHECKING

import numpy as np

from corrections.results import Shift
from corrections.tagging.results import TEMPLATE, Estimate, TaggerPoint, source_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from corrections.results import Interval
    from corrections.tagging.fit import BinFit, GroupFit
    from corrections.tagging.templates import Templates


def estimates_of(fitted: BinFit, eta: Interval) -> list[Estimate]:
    """The scale factor of each group that was to be measured; `eta` is the range of all jets."""
    return [_estimate(fitted.templates, group, eta) for group in fitted.groups]


def shifts_by_source(by_parameter: Mapping[str, float]) -> tuple[Shift, ...]:
    """Shifts of the sources that parameters belong to.

    Several parameters of one source are independent and add in quadrature; the sign is that of the largest.
    """
    found: dict[str, list[float]] = {}
    for parameter, shift in by_parameter.items():
        found.setdefault(source_of(parameter), []).append(shift)
    shifts = {source: float(np.copysign(hypot(*each), max(each, key=abs))) for source, each in found.items()}
    return tuple(Shift(source, up, -up) for source, up in shifts.items())


def _estimate(templates: Templates, group: GroupFit, eta: Interval) -> Estimate:
    place = templates.groups.index(group.group)
    passed, failed = float(templates.passed[place]), float(templates.failed[place])
    variances = float(templates.variance_passed[place]), float(templates.variance_failed[place])
    passing, failing = templates.passing, templates.failing
    stat = sqrt(float(passing.data @ group.of_pass**2 + failing.data @ group.of_fail**2))
    point = TaggerPoint(
        quantity="scale_factor",
        tagger=templates.tagger,
        working_point=templates.working_point,
        category=group.group,
        pt=templates.pt,
        eta=eta,
        value=group.value,
        stat=stat if group.status == "ok" else np.nan,
        shifts=shifts_by_source(group.shifts),
        efficiency=float(templates.efficiency[place]),
        efficiency_error=efficiency_error(passed, failed, *variances),
        status=group.status,
    )
    return Estimate(
        point=point,
        cut=templates.cut,
        by_parameter=_without_templates(group.shifts.items()),
        template=np.array([shift for name, shift in group.shifts.items() if source_of(name) == TEMPLATE]),
        of_pass=group.of_pass[passing.index],
        of_fail=group.of_fail[failing.index],
        passing=passing.fine_data,
        failing=failing.fine_data,
    )


def efficiency_error(passed: float, failed: float, variance_passed: float, variance_failed: float) -> float:
    """Uncertainty of passed / (passed + failed) from sums of squared weights, which fluctuate independently."""
    total = passed + failed
    return sqrt(failed**2 * variance_passed + passed**2 * variance_failed) / total**2 if total > 0 else np.nan


def _without_templates(shifts: Iterable[tuple[str, float]]) -> dict[str, float]:
    return {name: shift for name, shift in shifts if source_of(name) != TEMPLATE}
