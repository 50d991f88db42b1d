"""The asymmetry distributions of one |eta| bin that are fitted together, and bootstrap copies of them.

Where both jets lie in the same |eta| bin (standard) the detector variance of A is twice the squared resolution; where
one lies in the reference region (forward) it is the sum of both jets' squared resolutions. Both kinds stand as rows in
one stack, so that a resolution curve or a scale factor of the bin is fitted to all of them at once. The truth asymmetry
widens with alpha, the resolution does not: each group of alpha is a row with a template of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from corrections.exponential_gauss import smooth_template
from corrections.template_fit import Distributions
from corrections.widths import core_window

if TYPE_CHECKING:
    from collections.abc import Callable

    from corrections.sample import Sample, Spectra

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Region = Literal["standard", "forward"]

STANDARD, FORWARD = 0, 1


class Row(NamedTuple):
    """What one row of a stack is: its region, group of alpha, bin of pt_avg and the mean truth pt_avg there, GeV.

    `inflation` is the mean reconstructed over the mean truth pt_avg. On a falling spectrum a bin of reconstructed
    pt_avg is filled by events that fluctuated upwards, on average by (spectrum power - 1)/4 times the sum of squared
    resolutions; A, divided by the reconstructed pt_avg, is narrower by that factor.
    """

    region: Region
    alpha: int
    pt_bin: int
    pt_mean: float
    inflation: float


@dataclass(frozen=True, slots=True)
class Stack:
    """Distributions of one |eta| bin, one row per region, group of alpha and bin of pt_avg.

    Attributes
    ----------
    rows
        What each row is.
    distributions
        Counts, templates and windows, (n_rows, n_A).
    variances
        Sums of squared weights behind the counts, (n_rows, n_A).
    template_effective
        Effective number of events in each template, (n_rows,).
    replicas, template_replicas
        Bootstrap copies of counts and templates, (n_replicas, n_rows, n_A).
    """

    rows: tuple[Row, ...]
    distributions: Distributions
    variances: FloatArray
    template_effective: FloatArray
    replicas: FloatArray
    template_replicas: FloatArray

    @property
    def pt(self) -> FloatArray:
        """Mean truth pt_avg of each row, (n_rows,), GeV."""
        return np.array([row.pt_mean for row in self.rows])

    @property
    def inflation(self) -> FloatArray:
        """Mean reconstructed over mean truth pt_avg of each row in simulation, (n_rows,)."""
        return np.array([row.inflation for row in self.rows])

    @property
    def is_forward(self) -> BoolArray:
        """Which rows have the other jet in the reference region, (n_rows,)."""
        return np.array([row.region == "forward" for row in self.rows], dtype=np.bool_)

    @property
    def probes(self) -> FloatArray:
        """How many jets of this |eta| bin a row has: 2 standard, 1 forward, (n_rows,)."""
        return np.where(self.is_forward, 1.0, 2.0)

    @property
    def n_replicas(self) -> int:
        """Bootstrap copies."""
        return len(self.replicas)

    def replica(self, r: int) -> Distributions:
        """The distributions of bootstrap copy `r`; windows and weight scale are those of the original."""
        return self.distributions._replace(counts=self.replicas[r], templates=self.template_replicas[r])

    def only(self, keep: BoolArray) -> Stack:
        """The rows marked in `keep`."""
        d = self.distributions
        return Stack(
            tuple(row for row, kept in zip(self.rows, keep, strict=True) if kept),
            Distributions(d.counts[keep], d.templates[keep], d.first[keep], d.last[keep], d.scale[keep], d.bin_width),
            self.variances[keep],
            self.template_effective[keep],
            self.replicas[:, keep],
            self.template_replicas[:, keep],
        )

    def bins(self) -> tuple[tuple[Region, int], ...]:
        """The regions and bins of pt_avg there are, each once, in the order of the rows."""
        return tuple(dict.fromkeys((row.region, row.pt_bin) for row in self.rows))

    def is_of(self, region: Region, pt_bin: int) -> BoolArray:
        """Which rows belong to one region and bin of pt_avg, (n_rows,)."""
        return np.array([(row.region, row.pt_bin) == (region, pt_bin) for row in self.rows], dtype=np.bool_)


def mean_pt(simulation: Sample, sample: Sample) -> FloatArray:
    """Mean truth pt_avg of the events of `sample` by (eta, region, pt_avg), GeV; nan where empty.

    For data the reconstructed mean is corrected by the ratio truth/reconstructed of the simulation. Without truth jets
    it is the reconstructed mean.
    """
    moments, simulated = sample.moments(), simulation.moments()
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = moments["pt_avg"] / moments["weight"]
        ratio = (simulated["truth_pt_avg"] / simulated["matched"]) / (simulated["pt_avg"] / simulated["weight"])
    return np.where(np.isfinite(ratio), mean * ratio, mean)


def inflation(simulation: Sample) -> FloatArray:
    """Mean reconstructed over mean truth pt_avg by (eta, region, pt_avg); 1 where it is not known."""
    simulated = simulation.moments()
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = (simulated["pt_avg"] / simulated["weight"]) / (simulated["truth_pt_avg"] / simulated["matched"])
    return np.where(np.isfinite(ratio), ratio, 1.0)


def reference_mean_pt(simulation: Sample, sample: Sample) -> FloatArray:
    """`mean_pt` of the events with both jets in the reference region, (n_pt,)."""
    weight = sample.moments()["weight"]
    bins = list(simulation.binning.reference_bins)
    mean = np.nan_to_num(mean_pt(simulation, sample)[bins])
    total = weight[bins].sum(axis=(0, 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((mean * weight[bins]).sum(axis=(0, 1)) / total)


def reference_inflation(simulation: Sample) -> FloatArray:
    """`inflation` of the events with both jets in the reference region, (n_pt,)."""
    bins = list(simulation.binning.reference_bins)
    weight = simulation.moments()["weight"][bins]
    total = weight.sum(axis=(0, 1))
    mean = (inflation(simulation)[bins] * weight).sum(axis=(0, 1)) / np.where(total > 0, total, 1.0)
    return np.where(total > 0, mean, 1.0)


def simulation_stack(simulation: Sample, eta: int | None, half_widths: float) -> Stack:
    """All rows of one |eta| bin of simulation, or of the reference region (None), empty bins included."""
    if eta is None:
        pt, ratio = reference_mean_pt(simulation, simulation), reference_inflation(simulation)
        return _stack("standard", simulation.reference_spectra, pt, ratio, simulation, half_widths)
    parts = []
    for region in _regions(simulation, eta):
        index = FORWARD if region == "forward" else STANDARD

        def spectra(alphas: tuple[int, int] | None = None, index: int = index) -> tuple[Spectra, Spectra]:
            return simulation.spectra(eta, index, alphas), simulation.truth_spectra(eta, index, alphas)

        pt, ratio = mean_pt(simulation, simulation)[eta, index], inflation(simulation)[eta, index]
        parts.append(_stack(region, spectra, pt, ratio, simulation, half_widths))
    return _concatenate(parts)


def data_stack(data: Sample, simulation: Sample, simulated: Stack, eta: int | None) -> Stack:
    """Rows of data that belong to the rows `simulated`: same bins, windows and templates, counts of data."""
    groups = data.binning.alpha_groups
    if eta is None:
        spectra = {("standard", g): data.reference_spectra(alphas)[0] for g, alphas in enumerate(groups)}
        pt = {"standard": reference_mean_pt(simulation, data)}
    else:
        regions = {"standard": STANDARD, "forward": FORWARD}
        spectra = {
            (name, g): data.spectra(eta, i, alphas) for name, i in regions.items() for g, alphas in enumerate(groups)
        }
        pt = {name: mean_pt(simulation, data)[eta, i] for name, i in regions.items()}
    picked = [(spectra[row.region, row.alpha], row) for row in simulated.rows]
    counts = np.array([s.counts[row.pt_bin] for s, row in picked])
    variances = np.array([s.variances[row.pt_bin] for s, row in picked])
    replicas = np.stack([s.replicas[:, row.pt_bin] for s, row in picked], axis=1)
    rows = tuple(row._replace(pt_mean=float(pt[row.region][row.pt_bin])) for row in simulated.rows)
    n = min(len(replicas), len(simulated.template_replicas))
    distributions = simulated.distributions._replace(counts=counts, scale=_scale(counts, variances))
    return replace(
        simulated,
        rows=rows,
        distributions=distributions,
        variances=variances,
        replicas=replicas[:n],
        template_replicas=simulated.template_replicas[:n],
    )


def smoothed(stack: Stack) -> Stack:
    """`stack` with smooth curves for templates (`exponential_gauss`); the copies keep their fluctuations.

    A template to which the curve cannot be fitted stays what it is.
    """
    d = stack.distributions
    n_a = d.templates.shape[1]
    edges = d.bin_width * (np.arange(n_a + 1) - n_a / 2)
    templates = d.templates.copy()
    for row, (template, effective) in enumerate(zip(d.templates, stack.template_effective, strict=True)):
        variances = template * (template.sum() / effective if effective > 0 else 0.0)
        curve, status = smooth_template(template, variances, edges)
        if status == "ok":
            templates[row] = curve
    return replace(stack, distributions=d._replace(templates=templates))


def stretched(stack: Stack, change: float) -> Stack:
    """`stack` with templates whose variance is 1 + `change` times as large; bootstrap copies are left out."""
    d = stack.distributions
    n_a = d.templates.shape[1]
    edges = d.bin_width * (np.arange(n_a + 1) - n_a / 2)
    sources = edges / np.sqrt(1 + change)
    cumulative = np.concatenate([np.zeros((len(d.templates), 1)), np.cumsum(d.templates, axis=1)], axis=1)
    moved = np.array([np.diff(np.interp(sources, edges, row)) for row in cumulative]).reshape(d.templates.shape)
    return replace(stack, distributions=d._replace(templates=moved), replicas=stack.replicas[:0])


def with_templates_of(stack: Stack, other: Sample, eta: int | None, min_effective: float) -> tuple[Stack, float]:
    """`stack` with the truth asymmetries of another simulation, and the share of its rows that got one.

    A row for which the other one has fewer than `min_effective` effective events keeps its template; bootstrap copies
    are left out.
    """
    regions: dict[Region, int] = {"standard": STANDARD, "forward": FORWARD}

    def template(row: Row) -> tuple[FloatArray, float]:
        alphas = other.binning.alpha_groups[row.alpha]
        found = (
            other.reference_spectra(alphas)[1] if eta is None else other.truth_spectra(eta, regions[row.region], alphas)
        )
        return found.counts[row.pt_bin], float(found.effective[row.pt_bin])

    pairs = [template(row) for row in stack.rows]
    templates = np.array([counts for counts, _ in pairs]).reshape(stack.distributions.templates.shape)
    usable = np.array([effective >= min_effective for _, effective in pairs], dtype=np.bool_)
    chosen = np.where(usable[:, None], templates, stack.distributions.templates)
    moved = replace(stack, distributions=stack.distributions._replace(templates=chosen), replicas=stack.replicas[:0])
    filled = usable | (stack.distributions.counts.sum(axis=1) == 0)
    return moved, float(np.mean(filled)) if usable.any() else 0.0


def _regions(sample: Sample, eta: int) -> tuple[Region, ...]:
    return ("standard",) if eta in sample.binning.reference_bins else ("standard", "forward")


def _stack(
    region: Region,
    spectra: Callable[..., tuple[Spectra, Spectra]],
    pt: FloatArray,
    ratio: FloatArray,
    sample: Sample,
    half_widths: float,
) -> Stack:
    """Rows of one region, group of alpha by group; windows are those of all alpha together."""
    edges = sample.binning.asymmetry_edges
    windows = [core_window(c, edges, half_widths, symmetric=region == "standard") for c in spectra()[0].counts]
    first, last = (np.array(side, dtype=np.int64) for side in zip(*windows, strict=True))
    parts = []
    for group, alphas in enumerate(sample.binning.alpha_groups):
        reco, truth = spectra(alphas)
        rows = tuple(Row(region, group, b, float(pt[b]), float(ratio[b])) for b in range(len(pt)))
        scale = _scale(reco.counts, reco.variances)
        distributions = Distributions(reco.counts, truth.counts, first, last, scale, float(edges[1] - edges[0]))
        n = min(len(reco.replicas), len(truth.replicas))
        parts.append(Stack(rows, distributions, reco.variances, truth.effective, reco.replicas[:n], truth.replicas[:n]))
    return _concatenate(parts)


def _scale(counts: FloatArray, variances: FloatArray) -> FloatArray:
    """Mean weight (sum w^2)/(sum w) of each row, 1 where empty."""
    total, squared = counts.sum(axis=1), variances.sum(axis=1)
    return np.where(total > 0, squared / np.where(total > 0, total, 1.0), 1.0)


def _concatenate(parts: list[Stack]) -> Stack:
    if len(parts) == 1:
        return parts[0]
    d = [part.distributions for part in parts]
    joined = Distributions(
        np.concatenate([x.counts for x in d]),
        np.concatenate([x.templates for x in d]),
        np.concatenate([x.first for x in d]),
        np.concatenate([x.last for x in d]),
        np.concatenate([x.scale for x in d]),
        d[0].bin_width,
    )
    return Stack(
        tuple(row for part in parts for row in part.rows),
        joined,
        np.concatenate([part.variances for part in parts]),
        np.concatenate([part.template_effective for part in parts]),
        np.concatenate([part.replicas for part in parts], axis=1),
        np.concatenate([part.template_replicas for part in parts], axis=1),
    )
