"""Mass templates of the jets between neighbouring working points: what one fit of scale factors takes.

Jets of one bin of pT fall into cells, those that fail all working points, those that pass the loosest and not the next,
and so on to those that pass the tightest. A cell that cannot be fitted by itself joins its neighbour, and the working
point between both is left out. A template that is negative in a bin, as weights of either sign allow, counts as zero
there and keeps its sum; how many bins that were is told.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from corrections.results import Interval
from corrections.tagging.counts import merged_edges
from processors.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from corrections.tagging.counts import Counts, FloatArray
    from corrections.tagging.results import FitStatus
    from corrections.tagging.settings import FitSettings, TemplateSettings

    IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Region:
    """Jets of one cell, or of several that were joined, in bins of mass.

    Attributes
    ----------
    name
        That of its channel in workspaces.
    edges
        (n + 1,) GeV.
    index
        For each bin of the histogram in the range its bin here, (n_fine,).
    data
        (n,).
    yields, errors
        Simulation of each group and its statistical uncertainty, (n_groups, n).
    varied
        Simulation by source of uncertainty, (2, n_groups, n) for up and down.
    totals, totals_varied
        Simulation of any mass in each group, (n_groups,), and by source (2, n_groups).
    """

    name: str
    edges: FloatArray
    index: IntArray
    data: FloatArray
    yields: FloatArray
    errors: FloatArray
    varied: Mapping[str, FloatArray]
    totals: FloatArray
    totals_varied: Mapping[str, FloatArray]


@dataclass(frozen=True, slots=True)
class Templates:
    """All that one fit takes.

    Attributes
    ----------
    cuts
        Of all working points by name, loosest first.
    left_out
        Working points that the fit cannot tell from their neighbours, and why.
    groups
        Names of the categories of the fit.
    regions
        What fails all working points of the fit first, what passes the tightest last.
    region_of
        For each cell between working points its place in `regions`, (n_cells,).
    jets
        Data in cells and bins of the histogram in the range of mass, (n_cells, n_fine).
    totals, variances
        Simulation of any mass, and its sum of squared weights, in cells, (n_cells, n_groups).
    weight
        Mean weight of data. Everything is divided by it, so that data fluctuate as counts do; 1 for unweighted data.
    negative_bins
        Bins of templates whose simulation was negative.
    is_absolute
        Whether yields are expectations; their common scale is unknown otherwise.
    """

    tagger: str
    cuts: Mapping[str, float]
    left_out: Mapping[str, FitStatus]
    pt: Interval
    groups: tuple[str, ...]
    regions: tuple[Region, ...]
    region_of: IntArray
    jets: FloatArray
    totals: FloatArray
    variances: FloatArray
    weight: float = 1.0
    negative_bins: int = 0
    is_absolute: bool = True

    @property
    def name(self) -> str:
        """What messages and files call it."""
        return f"{self.tagger}_pt{self.pt.low:g}to{self.pt.high:g}"

    @property
    def working_points(self) -> tuple[str, ...]:
        """Those of the fit, loosest first; what passes them begins with the regions 1, 2, ..."""
        return tuple(name for name in self.cuts if name not in self.left_out)

    @property
    def sources(self) -> tuple[str, ...]:
        """Sources of uncertainty that vary the templates."""
        return tuple(self.regions[0].varied)

    def passed(self, working_point: str) -> tuple[FloatArray, FloatArray]:
        """Simulated jets of any mass that pass and that fail, (n_groups,) each."""
        return _split(self.totals, self.cuts, working_point)

    def variance(self, working_point: str) -> tuple[FloatArray, FloatArray]:
        """Sums of squared weights of these."""
        return _split(self.variances, self.cuts, working_point)

    def efficiency(self, working_point: str) -> FloatArray:
        """Simulated share of jets that pass in each group, (n_groups,); nan for a group without jets."""
        passed, failed = self.passed(working_point)
        total = passed + failed
        return np.asarray(np.divide(passed, total, out=np.full(len(total), np.nan), where=total > 0))


@dataclass(frozen=True, slots=True)
class _Cells:
    """Jets of one bin of pT in cells: (n_cells, mass) in data, (n_cells, group, mass) in simulation."""

    data: FloatArray
    data_variance: FloatArray
    nominal: FloatArray
    variance: FloatArray
    varied: Mapping[str, FloatArray]

    @property
    def totals(self) -> FloatArray:
        """Simulated jets of any mass, none below 0, (n_cells, group)."""
        return np.asarray(np.maximum(self.nominal.sum(axis=-1), 0.0))


def all_templates(counts: Counts, settings: TemplateSettings, fit: FitSettings) -> list[Templates]:
    """Templates of every tagger and bin of pT."""
    return [
        _templates(counts, tagger, pt, settings, fit)
        for tagger, cuts in counts.working_points.items()
        for pt in merged_edges(counts.pt, settings.pt, "templates.pt")
    ]


def region_names(working_points: Sequence[str]) -> tuple[str, ...]:
    """Channels of a fit: fail and pass, or the working point that is the tightest one passed."""
    return ("fail", "pass") if len(working_points) == 1 else ("fail", *(f"pass_{name}" for name in working_points))


def _templates(
    counts: Counts, tagger: str, pt: tuple[int, int], settings: TemplateSettings, fit: FitSettings
) -> Templates:
    cells = _cells(counts, tagger, pt, settings, fit)
    inside, edges = _fitted_range(counts, settings)
    weight = _mean_weight(cells)
    cuts = counts.working_points[tagger]
    left_out: dict[str, FitStatus] = {}
    while True:
        kept = [name for name in cuts if name not in left_out]
        region_of = _region_of(cuts, kept)
        made = []
        for place, name in enumerate(region_names(kept) if kept else ("fail",)):
            own = _joined_cells(cells, region_of == place)
            made.append(_region(own, name, inside, edges, weight, _starts(own, inside, weight, settings)))
        regions = tuple(region for region, _ in made)
        hopeless = _hopeless(regions, kept, len(fit.free))
        if hopeless is None:
            break
        left_out[hopeless[0]] = hopeless[1]
    return Templates(
        tagger=tagger,
        cuts=cuts,
        left_out=left_out,
        pt=Interval(float(counts.pt[pt[0]]), float(counts.pt[pt[1]])),
        groups=tuple(settings.groups),
        regions=regions,
        region_of=region_of,
        jets=cells.data[:, inside] / weight,
        totals=cells.totals / weight,
        variances=cells.variance.sum(axis=-1) / weight**2,
        weight=weight,
        negative_bins=sum(n for _, n in made),
        is_absolute=counts.is_absolute,
    )


def refilled(templates: Templates, counts: Counts, settings: TemplateSettings, fit: FitSettings) -> Templates:
    """Templates with the simulation of other counts of the same jets, in the same bins and working points."""
    (pt,) = merged_edges(counts.pt, (templates.pt.low, templates.pt.high), "pt")
    cells = _cells(counts, templates.tagger, pt, settings, fit)
    inside, edges = _fitted_range(counts, settings)
    made = []
    for place, region in enumerate(templates.regions):
        own, starts = _joined_cells(cells, templates.region_of == place), np.unique(region.index, return_index=True)[1]
        made.append(_region(own, region.name, inside, edges, templates.weight, starts))
    return replace(
        templates,
        regions=tuple(region for region, _ in made),
        totals=cells.totals / templates.weight,
        variances=cells.variance.sum(axis=-1) / templates.weight**2,
        negative_bins=sum(n for _, n in made),
    )


def _hopeless(regions: Sequence[Region], kept: Sequence[str], n_free: int) -> tuple[str, FitStatus] | None:
    """A working point that cannot stay, and why; None where all can. A region that is left joins the one below it."""
    if not kept:
        return None
    if regions[-1].data.sum() <= 0:
        return kept[-1], "empty_pass"
    if regions[0].data.sum() <= 0:
        return kept[0], "empty_fail"
    for place in range(len(kept), -1, -1):
        name = kept[max(place, 1) - 1]
        if not regions[place].yields.sum(axis=0).min() > 0:
            return name, "no_simulation"
        n_there = int(np.count_nonzero(regions[place].yields.sum(axis=1) > 0))
        if place and len(regions[place].data) < min(n_free, n_there):
            return name, "too_few_bins"
    return None


def _region_of(cuts: Mapping[str, float], kept: Sequence[str]) -> IntArray:
    is_first = [name in kept for name in cuts]
    return np.concatenate([[0], np.cumsum(is_first)]).astype(np.int64)


def _cells(counts: Counts, tagger: str, pt: tuple[int, int], settings: TemplateSettings, fit: FitSettings) -> _Cells:
    """Sums over |eta|, bins of pT that are joined, processes, and categories of a group; sources of the processes."""
    pts = slice(*pt)
    members = [[counts.categories.index(name) for name in names] for names in settings.groups.values()]

    def of_data(values: FloatArray) -> FloatArray:
        return np.asarray(counts.cells(tagger, values, simulated=False)[:, pts].sum(axis=(1, 2)))

    def grouped(values: FloatArray) -> FloatArray:
        """Sum over |eta| and pT, and from categories to groups, (..., n_cells, n_groups, mass)."""
        summed = counts.cells(tagger, values, simulated=True)[..., pts, :, :].sum(axis=(-3, -2))
        return np.stack([summed[..., each, :].sum(axis=-2) for each in members], axis=-2)

    by_process = grouped(counts.nominal)
    nominal = by_process.sum(axis=0)
    varied = {source: grouped(values).sum(axis=1) for source, values in counts.varied.items()}
    if counts.is_absolute and fit.cross_section and len(counts.processes) > 1:
        for process, own in zip(counts.processes, by_process, strict=True):
            if own.any():
                shift = fit.cross_section * own
                varied[f"xsec_{process}"] = np.stack([nominal + shift, nominal - shift])
    variance = grouped(counts.variance).sum(axis=0)
    data, data_variance = np.maximum(of_data(counts.data), 0.0), of_data(counts.data_variance)
    return _Cells(data, data_variance, nominal, variance, varied)


def _joined_cells(cells: _Cells, chosen: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> _Cells:
    """The sum of some cells, without their axis."""
    return _Cells(
        data=cells.data[chosen].sum(axis=0),
        data_variance=cells.data_variance[chosen].sum(axis=0),
        nominal=cells.nominal[chosen].sum(axis=0),
        variance=cells.variance[chosen].sum(axis=0),
        varied={source: each[:, chosen].sum(axis=1) for source, each in cells.varied.items()},
    )


def _mean_weight(cells: _Cells) -> float:
    total, squares = float(cells.data.sum()), float(cells.data_variance.sum())
    return squares / total if total > 0 and squares > 0 else 1.0


def _fitted_range(counts: Counts, settings: TemplateSettings) -> tuple[slice, FloatArray]:
    """Bins of mass that are fitted, and their edges."""
    inside = slice(*mass_range(counts.mass, settings.mass, "templates.mass"))
    return inside, counts.mass[inside.start : inside.stop + 1]


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


def _starts(cells: _Cells, inside: slice, weight: float, settings: TemplateSettings) -> IntArray:
    """First bins of the histogram, in a range of mass, of the joined ones."""
    nominal, variance = cells.nominal[:, inside].sum(axis=0), cells.variance[:, inside].sum(axis=0)
    return joined(nominal / weight, variance / weight**2, settings.min_effective, settings.min_expected)


def _region(
    cells: _Cells, name: str, inside: slice, edges: FloatArray, weight: float, starts: IntArray
) -> tuple[Region, int]:
    """Joined bins of one region, and in how many of them simulation was negative."""
    nominal = cells.nominal[:, inside] / weight
    variance = cells.variance[:, inside] / weight**2
    index = np.searchsorted(starts, np.arange(nominal.shape[-1]), side="right") - 1

    def join(values: FloatArray) -> FloatArray:
        return np.add.reduceat(values, starts, axis=-1)

    factors = without_negative(join(nominal))

    def positive(values: FloatArray) -> FloatArray:
        """What varies nothing must stay the nominal template, so that both lose the same bins."""
        return np.asarray(factors * np.maximum(join(values), 0.0))

    region = Region(
        name=name,
        edges=np.append(edges[:-1][starts], edges[-1]),
        index=index,
        data=join(cells.data[inside] / weight),
        yields=positive(nominal),
        errors=np.sqrt(join(variance)),
        varied={source: positive(each[..., inside] / weight) for source, each in cells.varied.items()},
        totals=cells.totals / weight,
        totals_varied={source: np.maximum(each.sum(axis=-1), 0.0) / weight for source, each in cells.varied.items()},
    )
    return region, int(np.count_nonzero(join(nominal) < 0))


def joined(values: FloatArray, variances: FloatArray, min_effective: float, min_expected: float) -> IntArray:
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


def without_negative(yields: FloatArray) -> FloatArray:
    """Factors (n_groups, n) on yields, 0 for negative bins; the others keep the sum, which is 0 for a negative one."""
    kept = np.maximum(yields, 0.0)
    before, after = np.maximum(yields.sum(axis=1), 0.0), kept.sum(axis=1)
    # where nothing is left a variation may have something
    scale = np.divide(before, after, out=np.ones_like(before), where=after > 0)
    return np.asarray(np.where(yields < 0, 0.0, scale[:, np.newaxis]))


def _split(by_cell: FloatArray, cuts: Mapping[str, float], working_point: str) -> tuple[FloatArray, FloatArray]:
    first = 1 + list(cuts).index(working_point)
    return by_cell[first:].sum(axis=0), by_cell[:first].sum(axis=0)
