"""Mass templates of pass and fail: what one fit of scale factors takes.

A template that is negative in a bin, as weights of either sign allow, counts as zero there and keeps its sum; how many
bins that were is told.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from corrections.results import Interval
from corrections.tagging.counts import FAIL, PASS, merged_edges
from processors.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from corrections.tagging.counts import Counts, FloatArray
    from corrections.tagging.settings import FitSettings, TemplateSettings


@dataclass(frozen=True, slots=True)
class Region:
    """Jets that pass, or that fail, in bins of mass.

    Attributes
    ----------
    edges
        (n + 1,) GeV.
    index
        For each bin of the histogram in the range its bin here, (n_fine,).
    fine_data
        Data in those, (n_fine,).
    data
        (n,).
    yields, errors
        Simulation of each group and its statistical uncertainty, (n_groups, n).
    varied
        Simulation by source of uncertainty, (2, n_groups, n) for up and down.
    """

    edges: FloatArray
    index: np.ndarray[tuple[int], np.dtype[np.int64]]
    fine_data: FloatArray
    data: FloatArray
    yields: FloatArray
    errors: FloatArray
    varied: Mapping[str, FloatArray]


@dataclass(frozen=True, slots=True)
class Templates:
    """All that one fit takes.

    Attributes
    ----------
    groups
        Names of the categories of the fit.
    passed, failed
        Simulation of any mass in each group, (n_groups,), which make its efficiency.
    passed_varied, failed_varied
        The same by source, (2, n_groups).
    variance_passed, variance_failed
        Sums of squared weights of `passed` and `failed`.
    weight
        Mean weight of data. Everything is divided by it, so that data fluctuate as counts do; 1 for unweighted data.
    negative_bins
        Bins of templates whose simulation was negative.
    is_absolute
        Whether yields are expectations; their common scale is unknown otherwise.
    """

    tagger: str
    working_point: str
    cut: float
    pt: Interval
    groups: tuple[str, ...]
    passing: Region
    failing: Region
    passed: FloatArray
    failed: FloatArray
    passed_varied: Mapping[str, FloatArray]
    failed_varied: Mapping[str, FloatArray]
    variance_passed: FloatArray
    variance_failed: FloatArray
    weight: float = 1.0
    negative_bins: int = 0
    is_absolute: bool = True

    @property
    def name(self) -> str:
        """What messages and files call it."""
        return f"{self.tagger}_{self.working_point}_pt{self.pt.low:g}to{self.pt.high:g}"

    @property
    def sources(self) -> tuple[str, ...]:
        """Sources of uncertainty that vary the templates."""
        return tuple(self.passing.varied)

    @property
    def efficiency(self) -> FloatArray:
        """Simulated share of jets that pass in each group, (n_groups,); nan for a group without jets."""
        total = self.passed + self.failed
        return np.asarray(np.divide(self.passed, total, out=np.full(len(total), np.nan), where=total > 0))


@dataclass(frozen=True, slots=True)
class _Cells:
    """Jets of one bin of pT at one working point, (..., result, group, mass) in simulation, (result, mass) in data."""

    data: FloatArray
    data_variance: FloatArray
    nominal: FloatArray
    variance: FloatArray
    varied: Mapping[str, FloatArray]


def all_templates(counts: Counts, settings: TemplateSettings, fit: FitSettings) -> list[Templates]:
    """Templates of every tagger, working point and bin of pT."""
    found = []
    for tagger, cuts in counts.working_points.items():
        for working_point in cuts:
            for low, high in merged_edges(counts.pt, settings.pt, "templates.pt"):
                found.append(_templates(counts, (tagger, working_point), (low, high), settings, fit))
    return found


def _templates(
    counts: Counts, which: tuple[str, str], pt: tuple[int, int], settings: TemplateSettings, fit: FitSettings
) -> Templates:
    cells = _cells(counts, which, pt, settings, fit)
    first, last = mass_range(counts.mass, settings.mass, "templates.mass")
    weight = _mean_weight(cells)
    regions, n_negative = [], 0
    for result in (PASS, FAIL):
        region, n = _region(cells, result, (first, last), counts.mass, weight, settings)
        regions.append(region)
        n_negative += n
    totals = np.maximum(cells.nominal.sum(axis=-1), 0.0)
    varied = {source: np.maximum(each.sum(axis=-1), 0.0) for source, each in cells.varied.items()}
    variances = cells.variance.sum(axis=-1)
    tagger, working_point = which
    return Templates(
        tagger=tagger,
        working_point=working_point,
        cut=counts.working_points[tagger][working_point],
        pt=Interval(float(counts.pt[pt[0]]), float(counts.pt[pt[1]])),
        groups=tuple(settings.groups),
        passing=regions[0],
        failing=regions[1],
        passed=totals[PASS],
        failed=totals[FAIL],
        passed_varied={source: each[:, PASS] for source, each in varied.items()},
        failed_varied={source: each[:, FAIL] for source, each in varied.items()},
        variance_passed=variances[PASS],
        variance_failed=variances[FAIL],
        weight=weight,
        negative_bins=n_negative,
        is_absolute=counts.is_absolute,
    )


def _cells(
    counts: Counts, which: tuple[str, str], pt: tuple[int, int], settings: TemplateSettings, fit: FitSettings
) -> _Cells:
    """Sums over |eta|, bins of pT that are joined, processes, and categories of a group; sources of the processes."""
    place, pts = counts.place(*which), slice(*pt)
    data, data_variance = (
        each[(*place, slice(None), pts)].sum(axis=(1, 2)) for each in (counts.data, counts.data_variance)
    )

    def grouped(values: FloatArray, axis: int) -> FloatArray:
        """Sum over |eta| and pT, and from categories (along `axis`) to groups."""
        summed = values.sum(axis=(-3, -2))
        names = [[counts.categories.index(name) for name in members] for members in settings.groups.values()]
        return np.stack([summed.take(members, axis=axis).sum(axis=axis) for members in names], axis=axis)

    by_process = grouped(counts.nominal[(slice(None), *place)][..., pts, :, :], 2)
    nominal = by_process.sum(axis=0)
    varied = {
        source: grouped(values[(slice(None), slice(None), *place)][..., pts, :, :], 3).sum(axis=1)
        for source, values in counts.varied.items()
    }
    if counts.is_absolute and fit.cross_section and len(counts.processes) > 1:
        for process, own in zip(counts.processes, by_process, strict=True):
            if own.any():
                shift = fit.cross_section * own
                varied[f"xsec_{process}"] = np.stack([nominal + shift, nominal - shift])
    variance = grouped(counts.variance[(slice(None), *place)][..., pts, :, :], 2).sum(axis=0)
    return _Cells(data, data_variance, nominal, variance, varied)


def _mean_weight(cells: _Cells) -> float:
    total, squares = float(cells.data.sum()), float(cells.data_variance.sum())
    return squares / total if total > 0 and squares > 0 else 1.0


def mass_range(edges: FloatArray, wanted: tuple[float, float], name: str) -> tuple[int, int]:
    """First and last bin (excluded) between the edges next to the wanted ones.

    Raises
    ------
    InputError
        Where no bin is in that range.
    """
    first, last = (int(np.argmin(np.abs(edges - edge))) for edge in wanted)
    if first >= last:
        told = f"bins of mass go from {edges[0]:g} to {edges[-1]:g} GeV, the first one to {edges[1]:g} GeV"
        raise InputError(f"{name}: no bin of the histogram in {list(wanted)}; its {told}")
    return first, last


def _region(
    cells: _Cells,
    result: int,
    mass: tuple[int, int],
    edges: FloatArray,
    weight: float,
    settings: TemplateSettings,
) -> tuple[Region, int]:
    """Joined bins of one result, and in how many of them simulation was negative."""
    inside = slice(*mass)
    nominal = cells.nominal[result, :, inside] / weight
    variance = cells.variance[result, :, inside] / weight**2
    starts = joined(nominal.sum(axis=0), variance.sum(axis=0), settings.min_effective, settings.min_expected)
    index = np.searchsorted(starts, np.arange(nominal.shape[-1]), side="right") - 1

    def join(values: FloatArray) -> FloatArray:
        return np.add.reduceat(values, starts, axis=-1)

    yields, n_negative = without_negative(join(nominal))
    varied = {
        source: np.maximum(join(each[:, result, :, inside] / weight), 0.0) for source, each in cells.varied.items()
    }
    fine = cells.data[result, inside] / weight
    region = Region(
        edges=np.append(edges[mass[0] : mass[1]][starts], edges[mass[1]]),
        index=index,
        fine_data=fine,
        data=join(fine),
        yields=yields,
        errors=np.sqrt(join(variance)),
        varied=varied,
    )
    return region, n_negative


def joined(
    values: FloatArray, variances: FloatArray, min_effective: float, min_expected: float
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """First bins of groups of neighbours, each with enough events; what is left at the end joins the last group.

    `values` and `variances` (n,) are sums of weights and of squared weights.
    """
    starts, total, square = [0], 0.0, 0.0
    for place, (value, variance) in enumerate(zip(values, variances, strict=True)):
        total, square = total + float(value), square + float(variance)
        is_enough = total > 0 and total**2 >= min_effective * square and total >= min_expected
        if is_enough and place + 1 < len(values):
            starts.append(place + 1)
            total, square = 0.0, 0.0
    is_enough = total > 0 and total**2 >= min_effective * square and total >= min_expected
    if not is_enough and len(starts) > 1:
        starts.pop()
    return np.array(starts, np.int64)


def without_negative(yields: FloatArray) -> tuple[FloatArray, int]:
    """Yields (n_groups, n) with zero for negative bins and the sums kept, zero for a negative one; and their number."""
    is_negative = yields < 0
    kept = np.maximum(yields, 0.0)
    before, after = np.maximum(yields.sum(axis=1), 0.0), kept.sum(axis=1)
    scale = np.divide(before, after, out=np.zeros_like(before), where=after > 0)
    return kept * scale[:, np.newaxis], int(is_negative.sum())


def stacked(templates: Templates) -> Iterator[tuple[str, Region]]:
    """Both regions with the names that workspaces have for them."""
    yield "pass", templates.passing
    yield "fail", templates.failing
