"""The kt algorithm on the constituents of one jet, in numba kernels that others are built of.

A subjet is a row of momenta (px, py, pz, E) and one of places (pT, rapidity, azimuth). Subjets lie in the first places
of arrays; one that goes leaves its place to the last. Of the pair with the smallest kt distance the harder one is the
nearest neighbour of the softer one, so that only neighbours need be known (Cacciari, Salam, hep-ph/0512210).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from processors.compiled import compiled

Float32Array = NDArray[np.float32]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

MOST_AXES = 3


@compiled
def moving(momenta: Float32Array) -> FloatArray:
    """Four-momenta (n, 4) that have a transverse momentum, in double precision, no energy below the momentum."""
    rows = np.empty((len(momenta), 4))
    n = 0
    for i in range(len(momenta)):
        if (momenta[i, 0] == 0) & (momenta[i, 1] == 0):
            continue
        for k in range(4):
            rows[n, k] = momenta[i, k]
        momentum = np.sqrt(rows[n, 0] ** 2 + rows[n, 1] ** 2 + rows[n, 2] ** 2)
        rows[n, 3] = max(rows[n, 3], momentum)
        n += 1
    return rows[:n]


@compiled
def directions_of(rows: FloatArray) -> FloatArray:
    """Transverse momentum, rapidity and azimuth, (n, 3)."""
    directions = np.empty((len(rows), 3))
    for i in range(len(rows)):
        _set_direction1(rows[i], directions[i])
    return directions


@compiled
def _set_direction1(momentum: FloatArray, direction: FloatArray) -> None:
    """Rapidity is asinh(pz/mT), which keeps its precision for massless particles."""
    direction[0] = np.hypot(momentum[0], momentum[1])
    square = max(momentum[3] ** 2 - momentum[2] ** 2, direction[0] ** 2)
    direction[1] = np.arcsinh(momentum[2] / np.sqrt(square)) if square > 0 else 0.0
    direction[2] = np.arctan2(momentum[1], momentum[0])


@compiled
def distance_squared1(first: FloatArray, second: FloatArray) -> float:
    """R_ij^2 of two directions."""
    delta_phi = abs(first[2] - second[2])
    delta_phi = min(delta_phi, 2 * np.pi - delta_phi)
    delta_y = first[1] - second[1]
    return float(delta_y * delta_y + delta_phi * delta_phi)


@compiled
def last_subjets(rows: FloatArray, directions: FloatArray, winner_takes_all: bool) -> FloatArray:  # noqa: FBT001
    """Directions of the last subjets of the exclusive kt algorithm: [N - 1, k] is the k-th of N, (3, 3, 3).

    Four-momenta are summed; or pT is, and the harder of two gives the direction. Zero where N is above their number.
    """
    momenta, places = rows.copy(), directions.copy()
    n = len(places)
    nearest, gap = np.zeros(n, np.int64), np.empty(n)
    for i in range(n):
        find_nearest(i, n, places, nearest, gap)
    subjets = np.zeros((MOST_AXES, MOST_AXES, 3))
    for left in range(n, 0, -1):
        for k in range(left if left <= MOST_AXES else 0):
            copy1(places[k], subjets[left - 1, k])
        if left > 1:
            first = _smallest(places, gap, left)
            kept, gone = min(first, nearest[first]), max(first, nearest[first])
            merge(momenta, places, kept, gone, winner_takes_all)
            last = left - 1
            take_last(gone, last, momenta, places, nearest, gap)
            update_nearest(kept, gone, last, places, nearest, gap)
    return subjets


@compiled
def merge(momenta: FloatArray, places: FloatArray, kept: int, gone: int, winner_takes_all: bool) -> None:  # noqa: FBT001
    """Put subjet `gone` into `kept`."""
    if winner_takes_all:
        hardness = places[kept, 0] + places[gone, 0]
        if places[gone, 0] > places[kept, 0]:
            copy1(places[gone], places[kept])
        places[kept, 0] = hardness
    else:
        for k in range(4):
            momenta[kept, k] += momenta[gone, k]
        _set_direction1(momenta[kept], places[kept])


@compiled
def update_nearest(kept: int, gone: int, count: int, places: FloatArray, nearest: IntArray, gap: FloatArray) -> None:
    """Neighbours of all subjets after one changed, one went, and the last took the place of the latter."""
    for i in range(count):
        if i == kept or nearest[i] == kept or nearest[i] == gone:
            find_nearest(i, count, places, nearest, gap)
            continue
        if nearest[i] == count:
            nearest[i] = gone
        distance = distance_squared1(places[i], places[kept])
        if distance < gap[i]:
            nearest[i], gap[i] = kept, distance


@compiled
def take_last(
    gone: int, last: int, momenta: FloatArray, places: FloatArray, nearest: IntArray, gap: FloatArray
) -> None:
    """Put the last subjet into the place of one that went."""
    copy1(momenta[last], momenta[gone])
    copy1(places[last], places[gone])
    nearest[gone], gap[gone] = nearest[last], gap[last]


@compiled
def forget(gone: int, count: int, places: FloatArray, nearest: IntArray, gap: FloatArray) -> None:
    """Neighbours of all subjets after one went and the last took its place."""
    for i in range(count):
        if nearest[i] == gone:
            find_nearest(i, count, places, nearest, gap)
        elif nearest[i] == count:
            nearest[i] = gone


@compiled
def find_nearest(i: int, count: int, places: FloatArray, nearest: IntArray, gap: FloatArray) -> None:
    """Nearest neighbour of subjet i, and the squared distance to it."""
    gap[i] = np.inf
    for j in range(count):
        if j == i:
            continue
        distance = distance_squared1(places[i], places[j])
        if distance < gap[i]:
            nearest[i], gap[i] = j, distance


@compiled
def _smallest(places: FloatArray, gap: FloatArray, count: int) -> int:
    """The subjet with the smallest pT^2 R^2 to its nearest neighbour, among the first `count`."""
    found, least = 0, np.inf
    for i in range(count):
        step = places[i, 0] * places[i, 0] * gap[i]
        if step < least:
            found, least = i, step
    return found


@compiled
def copy1(source: FloatArray, target: FloatArray) -> None:
    """Put one row into another."""
    for k in range(len(source)):
        target[k] = source[k]


@compiled
def kt_distance1(first: FloatArray, second: FloatArray) -> float:
    """d_ij = min(pT_i, pT_j)^2 R_ij^2."""
    return float(min(first[0], second[0]) ** 2 * distance_squared1(first, second))
