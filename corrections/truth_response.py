"""Resolution and response straight from reco/truth of the simulation: what the dijet method is compared with."""

from __future__ import annotations

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
    edges = np.linspace(*RESPONSE_RANGE, RESPONSE_BINS + 1)
    return tuple(
        point
        for eta in range(counts.shape[0])
        for pt in range(counts.shape[1])
        for point in _bin_points(
            sample, algo, (eta, pt), counts[eta, pt], variances[eta, pt], edges, half_widths, min_effective
        )
    )


def _bin_points(
    sample: Sample,
    algo: str,
    place: tuple[int, int],
    counts: FloatArray,
    variances: FloatArray,
    edges: FloatArray,
    half_widths: float,
    min_effective: float,
) -> tuple[Point, Point]:
    eta_edges, pt_edges = sample.binning.eta_edges, sample.binning.pt_avg_edges
    eta = Interval(*map(float, eta_edges[place[0] : place[0] + 2]))
    pt = Interval(*map(float, pt_edges[place[1] : place[1] + 2]))
    effective = float(effective_count(counts.sum(), variances.sum()))
    jer = jer_error = mean = mean_error = np.nan
    status: Status = "empty" if effective == 0 else "few_events"
    if effective >= min_effective:
        core = fit_core(counts, variances, edges, half_widths)
        status = "ok" if np.isfinite(core.width.value) else "not_converged"
        mean, mean_error = core.mean.value, core.mean.error
        jer, jer_error = core.width.value / mean, core.width.error / mean
    common = (sample.name, algo, "truth_response", "", eta, pt, float(np.sqrt(pt.low * pt.high)))
    return (
        Point("jer_truth", *common, float(jer), float(jer_error), status),
        Point("response", *common, float(mean), float(mean_error), status),
    )
