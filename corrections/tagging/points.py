"""Fits to scale factors with their uncertainty by source."""

from __future__ import annotations

from math import hypot, sqrt
from typing import TYPE_CHECKING

import numpy as np

from corrections.results import Shift
from corrections.tagging.results import TEMPLATE, Estimate, TaggerPoint, source_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from corrections.results import Interval
    from corrections.tagging.counts import FloatArray
    from corrections.tagging.fit import BinFit, PointFit
    from corrections.tagging.templates import Templates


def estimates_of(fitted: BinFit, eta: Interval) -> list[Estimate]:
    """The scale factors of each group that was to be measured; `eta` is the range of all jets."""
    return [_estimate(fitted.templates, each, eta) for each in fitted.points]


def shifts_by_source(by_parameter: Mapping[str, float]) -> tuple[Shift, ...]:
    """Shifts of the sources that parameters belong to.

    Several parameters of one source are independent and add in quadrature; the sign is that of the largest.
    """
    found: dict[str, list[float]] = {}
    for parameter, shift in by_parameter.items():
        found.setdefault(source_of(parameter), []).append(shift)
    shifts = {source: float(np.copysign(hypot(*each), max(each, key=abs))) for source, each in found.items()}
    return tuple(Shift(source, up, -up) for source, up in shifts.items())


def _estimate(templates: Templates, fitted: PointFit, eta: Interval) -> Estimate:
    place, name = templates.groups.index(fitted.group), fitted.working_point
    passed, failed = (float(each[place]) for each in templates.passed(name))
    variances = [float(each[place]) for each in templates.variance(name)]
    slopes = _by_cell(templates, fitted.slopes)
    stat = sqrt(float(np.sum(templates.jets * slopes**2)))
    point = TaggerPoint(
        quantity="scale_factor",
        tagger=templates.tagger,
        working_point=name,
        category=fitted.group,
        pt=templates.pt,
        eta=eta,
        value=fitted.value,
        stat=stat if fitted.status == "ok" else np.nan,
        shifts=shifts_by_source(fitted.shifts),
        efficiency=float(templates.efficiency(name)[place]),
        efficiency_error=efficiency_error(passed, failed, *variances),
        status=fitted.status,
    )
    of_template = {name: shift for name, shift in fitted.shifts.items() if source_of(name) == TEMPLATE}
    others = {name: shift for name, shift in fitted.shifts.items() if name not in of_template}
    return Estimate(point, others, of_template, slopes, templates.jets)


def _by_cell(templates: Templates, slopes: FloatArray) -> FloatArray:
    """Derivatives by joined bins of regions as those by the jets of cells in fine bins, (n_cells, n_fine)."""
    ends = np.cumsum([len(region.data) for region in templates.regions])
    by_region = np.split(slopes, ends[:-1])
    fine = [own[region.index] for own, region in zip(by_region, templates.regions, strict=True)]
    return np.stack([fine[place] for place in templates.region_of])


def efficiency_error(passed: float, failed: float, variance_passed: float, variance_failed: float) -> float:
    """Uncertainty of passed / (passed + failed) from sums of squared weights, which fluctuate independently."""
    total = passed + failed
    return sqrt(failed**2 * variance_passed + passed**2 * variance_failed) / total**2 if total > 0 else np.nan
