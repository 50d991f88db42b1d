"""Covariance of scale factors: shared jets at nested working points, shared sources everywhere.

Jets between neighbouring working points fluctuate independently. With the derivatives a and b of two scale factors by
their numbers n, in bins m of mass,

    cov = sum_m n_m a_m b_m

is the part of the number of data, and the same holds for the numbers of simulated jets. Sources are the same in all
bins: their shifts multiply. How scores of different taggers go together is not in the histograms: their jets count as
independent, which they are not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from corrections.tagging.results import Estimate, FloatArray


def covariance(estimates: Sequence[Estimate]) -> FloatArray:
    """Covariance (n, n) of what was measured, all uncertainties included."""
    of_data, of_template = statistical(estimates)
    return of_data + of_template + systematic(estimates)


def systematic(estimates: Sequence[Estimate]) -> FloatArray:
    """The part of the sources, (n, n)."""
    names = sorted({name for each in estimates for name in each.by_parameter})
    shifts = np.array([[each.by_parameter.get(name, 0.0) for name in names] for each in estimates])
    shifts = shifts.reshape(len(estimates), len(names))
    return np.asarray(shifts @ shifts.T)


def statistical(estimates: Sequence[Estimate]) -> tuple[FloatArray, FloatArray]:
    """The parts of the numbers of data and of simulated jets, (n, n) each."""
    n = len(estimates)
    of_data, of_template = np.zeros((n, n)), np.zeros((n, n))
    for i, first in enumerate(estimates):
        for j, second in enumerate(estimates[: i + 1]):
            if first.shares_jets(second):
                of_data[i, j] = of_data[j, i] = np.sum(first.jets * first.slopes * second.slopes)
                shared = [shift * second.template.get(name, 0.0) for name, shift in first.template.items()]
                of_template[i, j] = of_template[j, i] = sum(shared)
    return of_data, of_template


def write_covariance(estimates: Sequence[Estimate], path: Path) -> int:
    """Write the covariance of the points that were measured; returns how many these are.

    The file is numpy's .npz without pickled content: `row` (n,) are the numbers of the points among the lines of
    tagger_sf.csv, counted from 0 below its header; `covariance`, `data`, `template` and `systematic` (n, n) the whole
    and its parts.
    """
    rows = [i for i, each in enumerate(estimates) if each.point.is_measured]
    chosen = [estimates[i] for i in rows]
    of_data, of_template = statistical(chosen)
    of_sources = systematic(chosen)
    np.savez_compressed(
        path,
        row=np.array(rows, np.int64),
        covariance=of_data + of_template + of_sources,
        data=of_data,
        template=of_template,
        systematic=of_sources,
    )
    return len(rows)
