"""Covariance of scale factors: shared jets at nested working points, shared sources everywhere.

A jet that passes a tight cut passes the loose one too, so that jets of one bin of pT fall into three kinds, tight,
loose but not tight, and failing both, which fluctuate independently. With the derivatives of both scale factors by
their own counts,

    cov = sum_m [ n_t a_t a_l + (n_l - n_t) b_t a_l + (N - n_l) b_t b_l ],

n_t and n_l the jets of a bin of mass that pass, a the derivatives by what passes and b by what fails. Sources are the
same in all bins: their shifts multiply. The numbers of simulated jets at nested working points are taken to be
correlated as those of data are. How scores of different taggers go together is not in the histograms: their jets count
as independent, which they are not.
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
    matrix = shifts @ shifts.T
    # shifts of either side may differ: what is quoted is on the diagonal
    quoted = np.array([_quoted(each) for each in estimates])
    own = np.diagonal(matrix)
    scale = np.sqrt(np.divide(quoted, own, out=np.ones_like(quoted), where=own > 0))
    return np.asarray(scale[:, None] * matrix * scale)


def statistical(estimates: Sequence[Estimate]) -> tuple[FloatArray, FloatArray]:
    """The parts of the numbers of data and of simulated jets, (n, n) each."""
    n = len(estimates)
    of_data, of_template = np.zeros((n, n)), np.zeros((n, n))
    for i, first in enumerate(estimates):
        for j, second in enumerate(estimates[: i + 1]):
            if _share_jets(first, second):
                of_data[i, j] = of_data[j, i] = _shared(first, second)
    sizes = np.sqrt(np.diagonal(of_data))
    for i, first in enumerate(estimates):
        for j, second in enumerate(estimates[: i + 1]):
            if of_data[i, j]:
                correlation = of_data[i, j] / (sizes[i] * sizes[j])
                of_template[i, j] = of_template[j, i] = _shared_template(first, second, correlation)
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


def _quoted(estimate: Estimate) -> float:
    return sum(shift.size**2 for shift in estimate.point.shifts if shift.source != "template")


def _share_jets(first: Estimate, second: Estimate) -> bool:
    a, b = first.point, second.point
    same = (a.quantity, a.tagger, a.pt, a.eta) == (b.quantity, b.tagger, b.pt, b.eta)
    return same and len(first.passing) == len(second.passing)


def _shared(first: Estimate, second: Estimate) -> float:
    loose, tight = sorted((first, second), key=lambda each: each.cut)
    both = tight.passing if loose.cut != tight.cut else loose.passing
    between = np.maximum(loose.passing - both, 0.0)
    parts = (
        both @ (tight.of_pass * loose.of_pass),
        between @ (tight.of_fail * loose.of_pass),
        loose.failing @ (tight.of_fail * loose.of_fail),
    )
    return float(sum(parts))


def _shared_template(first: Estimate, second: Estimate, correlation: float) -> float:
    is_same_fit = first.cut == second.cut and len(first.template) == len(second.template)
    if is_same_fit:
        return float(first.template @ second.template)
    return float(correlation * np.linalg.norm(first.template) * np.linalg.norm(second.template))
