"""The global-sequential calibration, a baseline without a network.

One variable after another, jets are corrected by the response as a function of it, relative to the mean response, so
that the scale stays and the width shrinks (ATLAS arXiv:2007.02645, section 5.3). The response is measured at a true pT
and made a function of the reconstructed one by numerical inversion.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.evaluation import gaussian_core
from models.features import SEQUENTIAL_FEATURES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Float64Array = NDArray[np.float64]

ETA_EDGES = (0.0, 0.4, 0.8, 1.05, 1.3, 1.6, 2.0, 2.5, 3.2, 5.2)
_BINS = 8
_PT_BINS_PER_E = 2.5
_MIN_JETS = 40
_ROUNDS = 4


@dataclass(frozen=True, slots=True)
class Step:
    """Response of one variable in one bin of |eta|, relative to the mean of that true pT.

    Attributes
    ----------
    nodes
        Values of the variable, (n,), rising.
    log_pt
        Of true jets, (m,), rising.
    log_response
        (n, m), linear between nodes.
    """

    nodes: Float64Array
    log_pt: Float64Array
    log_response: Float64Array

    def correction(self, log_pt: Float64Array, values: Float64Array) -> Float64Array:
        """What is added to log pT (n,) of jets with these values: the solution for the true pT, found by iteration."""
        result = np.zeros(len(log_pt))
        for _ in range(_ROUNDS):
            result = -self._at(log_pt + result, values)
        return result

    def _at(self, log_pt: Float64Array, values: Float64Array) -> Float64Array:
        i, x = _place(values, self.nodes)
        j, y = _place(log_pt, self.log_pt)
        grid = self.log_response
        low = grid[i, j] * (1 - y) + grid[i, j + 1] * y
        high = grid[i + 1, j] * (1 - y) + grid[i + 1, j + 1] * y
        return np.asarray(low * (1 - x) + high * x)


@dataclass(frozen=True, slots=True)
class Sequential:
    """The steps by variable and bin of |eta|; a step that could not be measured is None."""

    names: tuple[str, ...]
    steps: Mapping[str, Sequence[Step | None]]

    def log_factor(
        self, log_pt: Float64Array, abs_eta: Float64Array, columns: Mapping[str, Float64Array]
    ) -> Float64Array:
        """Logarithm of the factor on pT of jets (n,)."""
        place = _eta_place(abs_eta)
        corrected = log_pt.copy()
        for name in self.names:
            for i, step in enumerate(self.steps[name]):
                chosen = place == i
                if step is not None and chosen.any():
                    corrected[chosen] += step.correction(corrected[chosen], columns[name][chosen])
        return corrected - log_pt


def fit_sequential(
    log_pt: Float64Array,
    truth: Float64Array,
    abs_eta: Float64Array,
    columns: Mapping[str, Float64Array],
    weights: Float64Array,
) -> Sequential:
    """Steps measured one after another with jets (n,) that the steps before have corrected."""
    names = tuple(name for name in SEQUENTIAL_FEATURES if name in columns)
    place, log_truth = _eta_place(abs_eta), np.log(truth)
    corrected = log_pt.copy()
    steps: dict[str, list[Step | None]] = {}
    for name in names:
        steps[name] = []
        for i in range(len(ETA_EDGES) - 1):
            chosen = np.flatnonzero(place == i)
            values = columns[name][chosen]
            step = _measured(corrected[chosen] - log_truth[chosen], log_truth[chosen], values, weights[chosen])
            if step is not None:
                corrected[chosen] += step.correction(corrected[chosen], values)
            steps[name].append(step)
    return Sequential(names, steps)


def _measured(
    log_response: Float64Array, log_truth: Float64Array, values: Float64Array, weights: Float64Array
) -> Step | None:
    """Core of the response in bins of true pT and of the variable, over that of all jets of this pT."""
    if len(values) < _MIN_JETS * _BINS:
        return None
    edges = _edges(values)
    if len(edges) < 3:
        return None
    low, high = np.percentile(log_truth, [0.5, 99.5])
    n_pt = max(int((high - low) * _PT_BINS_PER_E), 2)
    pt_edges = np.linspace(low, high, n_pt + 1)
    bins = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    pt_bins = np.clip(np.searchsorted(pt_edges, log_truth, side="right") - 1, 0, n_pt - 1)
    grid = np.full((len(edges) - 1, n_pt), np.nan)
    for j in range(n_pt):
        in_pt = pt_bins == j
        if np.count_nonzero(in_pt) < _MIN_JETS:
            continue
        mean = gaussian_core(log_response[in_pt], weights[in_pt]).mean
        for i in range(len(edges) - 1):
            chosen = in_pt & (bins == i)
            core = gaussian_core(log_response[chosen], weights[chosen])
            if np.count_nonzero(chosen) >= _MIN_JETS and np.isfinite(core.mean) and np.isfinite(mean):
                grid[i, j] = core.mean - mean
    nodes = np.array([np.median(values[bins == i]) if (bins == i).any() else edges[i] for i in range(len(edges) - 1)])
    nodes = np.maximum.accumulate(nodes + 1e-9 * np.arange(len(nodes)))
    return Step(nodes, 0.5 * (pt_edges[1:] + pt_edges[:-1]), _filled(grid)) if len(nodes) > 1 else None


def _filled(grid: Float64Array) -> Float64Array:
    """The same with bins of too few jets interpolated in pT, and constant beyond the last measured ones; 0 for none."""
    filled = np.zeros_like(grid)
    places = np.arange(grid.shape[1])
    for row, values in zip(filled, grid, strict=True):
        known = np.isfinite(values)
        if known.any():
            row[:] = np.interp(places, places[known], values[known])
    return filled


def _edges(values: Float64Array) -> Float64Array:
    """Quantiles as edges of bins, rising; a value that most jets share has a bin of its own, the others share the rest.

    Most jets have no muon segment, and the few with some are what that step is about.
    """
    edges = np.unique(np.quantile(values, np.linspace(0, 1, _BINS + 1)))
    if len(edges) > 2:
        return edges
    others = values[values > edges[0]]
    if not len(others):
        return edges
    n_bins = max(min(_BINS - 1, len(others) // _MIN_JETS), 1)
    inner = np.quantile(others, np.linspace(0, 1, n_bins + 1)[:-1])
    return np.unique([edges[0], *inner, np.nextafter(others.max(), np.inf)])


def _eta_place(abs_eta: Float64Array) -> NDArray[np.int64]:
    return np.clip(np.searchsorted(ETA_EDGES, abs_eta, side="right") - 1, 0, len(ETA_EDGES) - 2).astype(np.int64)


def _place(values: Float64Array, nodes: Float64Array) -> tuple[NDArray[np.intp], Float64Array]:
    """Interval of each value and the share of the way through it, which beyond the ends stays there."""
    i = np.clip(np.searchsorted(nodes, values, side="right") - 1, 0, len(nodes) - 2)
    return i, np.clip((values - nodes[i]) / (nodes[i + 1] - nodes[i]), 0.0, 1.0)
