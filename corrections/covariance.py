"""Statistical covariance of all measured points, from their bootstrap copies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from corrections.results import Point

FEWEST_COPIES = 10


def write_covariance(points: Sequence[Point], path: Path) -> int:
    """Write the covariance of the points that have bootstrap copies; returns how many these are.

    The file is numpy's .npz without pickled content: `row` (n,) are the numbers of the points among the lines of
    resolution.csv, counted from 0 below its header, `covariance` (n, n) their statistical covariance, `copies`
    (n, n_replicas) that go with it: around the value, as wide as the quoted uncertainty, whose square stands on the
    diagonal. Nothing is written where no point has copies.
    """
    rows = [i for i, p in enumerate(points) if p.is_measured and len(p.copies) >= FEWEST_COPIES]
    if not rows:
        return 0
    n = min(len(points[i].copies) for i in rows)
    copies = np.array([points[i].copies[:n] for i in rows])
    usable = np.isfinite(copies).sum(axis=1) >= FEWEST_COPIES
    rows, copies = [row for row, good in zip(rows, usable, strict=True) if good], copies[usable]
    values, errors = np.array([(points[i].value, points[i].stat) for i in rows]).T
    covariance = correlation(copies) * np.outer(errors, errors)
    centred = copies - np.nanmean(copies, axis=1, keepdims=True)
    spread = np.nanstd(copies, axis=1, ddof=1)
    scale = np.divide(errors, spread, out=np.zeros_like(errors), where=spread > 0)
    copies = values[:, None] + scale[:, None] * centred
    np.savez_compressed(
        path, row=np.array(rows), covariance=covariance.astype(np.float32), copies=copies.astype(np.float32)
    )
    return len(rows)


def correlation(copies: NDArray[np.float64]) -> NDArray[np.float64]:
    """Correlation (n, n) of the rows of `copies` (n, n_replicas); a copy that is not finite counts as the mean."""
    centred = copies - np.nanmean(copies, axis=1, keepdims=True)
    centred = np.where(np.isfinite(centred), centred, 0.0)
    size = np.sqrt(np.sum(centred**2, axis=1))
    normalised = centred / np.where(size > 0, size, 1.0)[:, None]
    matrix = normalised @ normalised.T
    np.fill_diagonal(matrix, 1.0)
    return np.asarray(matrix)
