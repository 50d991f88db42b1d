"""Resolution and response straight from reco/truth of the simulation: what the dijet method is compared with."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from corrections.results import Interval, Point, Status
from corrections.sample import Sample, effective_count
from corrections.widths import fit_core
from processors.binning import RESPONSE_BINS, RESPONSE_RANGE

FloatArray = NDArray[np.float64]


def truth_points(sample: Sample, algo: str, half_widths: float, min_effective: float) -> tuple[Point, ...]:
    """`jer_truth` (width over mean of the core) and `response` (mean of the core) in bins of |eta| and truth pT."""
    if not sample.has_truth:
        return ()
    counts, variances = sample.responses()
    pt = [mean_truth_pt(each.sum(axis=-1), sample.binning.pt_avg_edges) for each in counts]
    edges = np.linspace(*RESPONSE_RANGE, RESPONSE_BINS + 1)
    return tuple(
        point
        for eta in range(counts.shape[0])
        for b in range(counts.shape[1])
        for point in _bin_points(
            _Place(sample, algo, eta, b, float(pt[eta][b])),
            counts[eta, b],
            variances[eta, b],
            edges,
            half_widths,
            min_effective,
        )
    )


class _Place(NamedTuple):
    """A bin of |eta| and of truth pT, and the mean truth pT in it, GeV."""

    sample: Sample
    algo: str
    eta: int
    pt_bin: int
    pt_mean: float

    def common(self) -> tuple[str, str, str, str, Interval, Interval, float]:
        """What its points have in common."""
        binning = self.sample.binning
        eta = Interval(*map(float, binning.eta_edges[self.eta : self.eta + 2]))
        pt = Interval(*map(float, binning.pt_avg_edges[self.pt_bin : self.pt_bin + 2]))
        return self.sample.name, self.algo, "truth_response", "", eta, pt, self.pt_mean


def mean_truth_pt(counts: FloatArray, edges: FloatArray) -> FloatArray:
    """Mean pT of truth jets in each bin, (n_pt,), GeV, from their number in it and in its neighbours.

    Within a bin the spectrum is taken as the power of pT that leads from the bin before to the bin after; where they
    are empty it is the middle in the logarithm.
    """
    low, high = edges[:-1], edges[1:]
    centres = np.sqrt(low * high)
    with np.errstate(divide="ignore", invalid="ignore"):
        density = np.log(counts / (high - low))
        slope = np.gradient(density, np.log(centres)) if len(counts) > 1 else np.zeros(1)
    power = np.where(np.isfinite(slope), slope, -1.5)
    fine = low[:, None] * (high / low)[:, None] ** np.linspace(0, 1, 201)
    weight = fine ** (power[:, None] + 1)  # per unit of log(pT)
    return np.asarray(np.trapezoid(weight * fine, axis=1) / np.trapezoid(weight, axis=1))


def _bin_points(
    place: _Place,
    counts: FloatArray,
    variances: FloatArray,
    edges: FloatArray,
    half_widths: float,
    min_effective: float,
) -> tuple[Point, Point]:
    effective = float(effective_count(counts.sum(), variances.sum()))
    jer = jer_error = mean = mean_error = np.nan
    status: Status = "empty" if effective == 0 else "few_events"
    if effective >= min_effective:
        core = fit_core(counts, variances, edges, half_widths)
        status = "ok" if np.isfinite(core.width.value) else "not_converged"
        mean, mean_error = core.mean.value, core.mean.error
        jer, jer_error = core.width.value / mean, core.width.error / mean
    return (
        Point("jer_truth", *place.common(), float(jer), float(jer_error), status),
        Point("response", *place.common(), float(mean), float(mean_error), status),
    )
