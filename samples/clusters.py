"""Topological clusters: cells above 4 sigma, neighbours above 2 sigma, their neighbours, split at local maxima.

After ATLAS, arXiv:1603.02934, in each of the three grids apart. Cells are neighbours in their layer, where their
towers touch, and in depth, in one tower. Splitting follows the steepest ascent of tower energies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from samples.compiled import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from samples.truth import FloatArray

NOTHING = -1


@compiled
def _hot(cells: FloatArray, expected: FloatArray, threshold: float, hot: NDArray[np.bool_]) -> None:
    for i in range(cells.shape[0]):
        for j in range(cells.shape[1]):
            for layer in range(cells.shape[2]):
                limit = threshold * expected[i, layer]
                hot[i, j, layer] = limit > 0.0 and cells[i, j, layer] > limit


@compiled
def _touches(hot: NDArray[np.bool_], layer: int, i: int, j: int, wall: int) -> bool:
    """Whether a cell is hot or one of the six beside it; no neighbours across row `wall`."""
    n_eta, n_phi, n_layers = hot.shape
    if hot[i, j, layer] or hot[i, (j + 1) % n_phi, layer] or hot[i, (j - 1) % n_phi, layer]:
        return True
    if (layer > 0 and hot[i, j, layer - 1]) or (layer + 1 < n_layers and hot[i, j, layer + 1]):
        return True
    if i > 0 and i != wall and hot[i - 1, j, layer]:
        return True
    return bool(i + 1 < n_eta and i + 1 != wall and hot[i + 1, j, layer])


@compiled
def _any_layer(flags: NDArray[np.bool_], i: int, j: int) -> bool:
    found = False
    for layer in range(flags.shape[2]):
        found |= flags[i, j, layer]
    return found


@compiled
def _rows_beside(i: int, n_eta: int, wall: int) -> tuple[int, int]:
    """First and last row next to row i; nothing is next to it across the wall."""
    first = i if i in (0, wall) else i - 1
    last = i if i + 1 in (n_eta, wall) else i + 1
    return first, last


@compiled
def _grow(
    seeds: NDArray[np.bool_], hot: NDArray[np.bool_], wall: int, joined: NDArray[np.bool_], stack: NDArray[np.int64]
) -> None:
    """Mark towers (eta, phi) that belong to clusters."""
    n_eta, n_phi, _ = hot.shape
    size = 0
    for i in range(n_eta):
        for j in range(n_phi):
            joined[i, j] = _any_layer(seeds, i, j)
            if joined[i, j]:
                stack[size] = i * n_phi + j
                size += 1
    while size > 0:
        size -= 1
        i, j = divmod(stack[size], n_phi)
        first, last = _rows_beside(i, n_eta, wall)
        for row in range(first, last + 1):
            for step in range(-1, 2):
                column = (j + step) % n_phi
                if not joined[row, column]:
                    joined[row, column] = True
                    if _any_layer(hot, row, column):
                        stack[size] = row * n_phi + column
                        size += 1


@compiled
def _keep_cells(
    cells: FloatArray, hot: NDArray[np.bool_], joined: NDArray[np.bool_], wall: int, tower: FloatArray
) -> None:
    """Set cells to 0 that are in no cluster, and sum those of a tower."""
    for i in range(cells.shape[0]):
        for j in range(cells.shape[1]):
            total = 0.0
            for layer in range(cells.shape[2]):
                if cells[i, j, layer] != 0.0:
                    if joined[i, j] and _touches(hot, layer, i, j, wall):
                        total += cells[i, j, layer]
                    else:
                        cells[i, j, layer] = 0.0
            tower[i, j] = total


@compiled
def _uphill(tower: FloatArray, i: int, j: int, wall: int) -> int:
    """Index of the highest of a tower and its eight neighbours."""
    n_eta, n_phi = tower.shape
    best, energy = i * n_phi + j, tower[i, j]
    first, last = _rows_beside(i, n_eta, wall)
    for row in range(first, last + 1):
        for step in range(-1, 2):
            column = (j + step) % n_phi
            if tower[row, column] > energy:
                best, energy = row * n_phi + column, tower[row, column]
    return int(best)


@compiled
def _split(tower: FloatArray, joined: NDArray[np.bool_], wall: int, label: NDArray[np.int64]) -> int:
    """Number towers by the local maximum that they lead up to; returns the number of clusters."""
    n_eta, n_phi = tower.shape
    n_clusters = 0
    label[:] = NOTHING
    for i in range(n_eta):
        for j in range(n_phi):
            if joined[i, j] and tower[i, j] > 0.0 and _uphill(tower, i, j, wall) == i * n_phi + j:
                label[i, j] = n_clusters
                n_clusters += 1
    for i in range(n_eta):
        for j in range(n_phi):
            if not joined[i, j] or tower[i, j] == 0.0 or label[i, j] != NOTHING:
                continue
            here = i * n_phi + j
            above = _uphill(tower, i, j, wall)
            while above != here and label[above // n_phi, above % n_phi] == NOTHING:
                here = above
                above = _uphill(tower, here // n_phi, here % n_phi, wall)
            label[i, j] = label[above // n_phi, above % n_phi]
    return n_clusters


@compiled
def find_clusters(
    cells: FloatArray, expected: FloatArray, seed: float, grow: float, wall: int, label: NDArray[np.int64]
) -> int:
    """Number the towers (eta, phi) by cluster, -1 outside, and clear the cells of none; returns how many there are.

    `wall` is a row with nothing between it and the row before (0 for none).
    """
    shape = (cells.shape[0], cells.shape[1])
    hot, seeds = np.empty(cells.shape, dtype=np.bool_), np.empty(cells.shape, dtype=np.bool_)
    joined, tower = np.empty(shape, dtype=np.bool_), np.empty(shape)
    _hot(cells, expected, seed, seeds)
    _hot(cells, expected, grow, hot)
    _grow(seeds, hot, wall, joined, np.empty(shape[0] * shape[1] + 1, dtype=np.int64))
    _keep_cells(cells, hot, joined, wall, tower)
    return int(_split(tower, joined, wall, label))


@compiled
def sum_clusters(
    cells: FloatArray, label: NDArray[np.int64], n_clusters: int, eta: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Energies (n, layers) and positions (n, 2) in eta and phi, the energy-weighted mean of positive towers."""
    n_eta, n_phi, n_layers = cells.shape
    energy, position, weight = np.zeros((n_clusters, n_layers)), np.zeros((n_clusters, 3)), np.zeros(n_clusters)
    for i in range(n_eta):
        for j in range(n_phi):
            index = label[i, j]
            if index < 0:
                continue
            total = 0.0
            for layer in range(n_layers):
                energy[index, layer] += cells[i, j, layer]
                total += cells[i, j, layer]
            if total > 0.0:
                phi = (j + 0.5) * 2.0 * np.pi / n_phi - np.pi
                position[index, 0] += total * eta[i]
                position[index, 1] += total * np.cos(phi)
                position[index, 2] += total * np.sin(phi)
                weight[index] += total
    where = np.zeros((n_clusters, 2))
    for index in range(n_clusters):
        if weight[index] > 0.0:
            where[index, 0] = position[index, 0] / weight[index]
            where[index, 1] = np.arctan2(position[index, 2], position[index, 1])
    return energy, where
