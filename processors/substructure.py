r"""Substructure of large-R jets from their constituents.

Constituents i of a jet have four-momenta p_i = (E_i, \vec p_i), transverse momenta pT_i, rapidities y_i and azimuths;
R_ij^2 = (y_i - y_j)^2 + (phi_i - phi_j)^2. The jet is their sum, with energy E, momentum \vec P and mass M; R is the
radius it was found with. A number that has no meaning, since the jet has too few constituents, no extent or no mass, is
0; none is ever nan.

tau21, tau32
    tau_2/tau_1 and tau_3/tau_2 of the N-subjettiness tau_N = sum_i pT_i min_k R_ik / (R sum_i pT_i), where k runs over
    N axes (Thaler, Van Tilburg, arXiv:1011.2268). The axes are those of the exclusive kt algorithm with the
    winner-take-all recombination (Larkoski, Neill, Thaler, arXiv:1401.2158), not minimised, as in ATLAS.
c2, d2
    C2 = e3/e2^2 (Larkoski, Salam, Thaler, arXiv:1305.0007) and D2 = e3/e2^3 (Larkoski, Moult, Neill, arXiv:1409.6298)
    with e2 = sum_{i<j} z_i z_j R_ij, e3 = sum_{i<j<k} z_i z_j z_k R_ij R_jk R_ki and z_i = pT_i / sum pT.
n2
    2e3/e2^2, where 2e3 has the product of the two smallest of R_ij, R_jk, R_ki (Moult, Necib, Thaler,
    arXiv:1609.07483).
angularity
    1/M sum_i E_i sin^a x_i (1 - cos x_i)^(1 - a) with a = -2 and x_i = pi theta_i / (2 R), theta_i being the angle to
    \vec P, at most R (Almeida et al., arXiv:0807.0234).
aplanarity
    3/2 of the smallest eigenvalue of sum_i p_i^a p_i^b / sum_i |\vec p_i|^2 in the rest frame of the jet.
fox_wolfram
    H2/H0 in that frame, H_l = sum_ij |\vec p_i| |\vec p_j| P_l(cos theta_ij) (Fox, Wolfram, Phys. Rev. Lett. 41 (1978)
    1581; in jets ATLAS, arXiv:1510.05821).
ktdr, split12
    R_12, and sqrt(d12) = min(pT_1, pT_2) R_12 in GeV, of the last two subjets that the kt algorithm merges, summing
    four-momenta (Catani et al., Nucl. Phys. B 406 (1993) 187; Butterworth, Cox, Forshaw, hep-ph/0201098).
zcut
    d12/(d12 + M^2) (Thaler, Wang, arXiv:0806.0023).
planar_flow
    4 det I/(tr I)^2 with I^kl = sum_i p_i^k p_i^l / E_i of the components orthogonal to \vec P (arXiv:0807.0234).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.tagging.columns import MAX_CONSTITUENTS, SUBSTRUCTURE
from processors.clustering import MOST_AXES, directions_of, distance_squared1, kt_distance1, last_subjets, moving
from processors.compiled import compiled

if TYPE_CHECKING:
    from models.features import RaggedConstituents

Float32Array = NDArray[np.float32]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# Below this part of the squared energy a squared mass is rounding of momenta in single precision.
MASSLESS = 1e-7


def substructure(
    constituents: RaggedConstituents, radius: float, length: int = MAX_CONSTITUENTS
) -> dict[str, Float32Array]:
    """The variables of each jet, arrays (n,) by the names of `models.tagging.columns.SUBSTRUCTURE`.

    `constituents` have px, py, pz and E, all finite, GeV; the first `length` of each jet, which should be its hardest,
    count. `radius` is that of the jet algorithm.
    """
    if not radius > 0:
        raise ValueError(f"the radius of a jet is a number above 0, got {radius}")
    chosen = constituents.limited(length)
    result = np.zeros((len(chosen), len(SUBSTRUCTURE)))
    if len(chosen):
        _measure(chosen.offsets, chosen.values, radius, result)
    return {name: result[:, place].astype(np.float32) for place, name in enumerate(SUBSTRUCTURE)}


@compiled
def _measure(offsets: IntArray, momenta: Float32Array, radius: float, result: FloatArray) -> None:
    """Fill one row of `result` (n, n_variables) for each jet, in the order of `SUBSTRUCTURE`."""
    longest = 1
    for i in range(len(result)):
        longest = max(longest, offsets[i + 1] - offsets[i])
    buffer = np.empty(longest * longest)
    for i in range(len(result)):
        given = momenta[offsets[i] : offsets[i + 1]]
        rows = moving(given)
        n = len(rows)
        if n >= 2:
            distances = buffer[: n * n].reshape(n, n)
            _measure1(rows, directions_of(rows), distances, radius, result[i])


@compiled
def _measure1(rows: FloatArray, directions: FloatArray, distances: FloatArray, radius: float, row: FloatArray) -> None:
    """All variables of one jet with at least two constituents."""
    jet = _sum(rows)
    mass = np.sqrt(_mass_squared1(jet))
    _fill_distances(directions, distances)
    tau1, tau2, tau3 = _subjettiness(rows, directions)
    row[0], row[1] = _ratio1(tau2, tau1), _ratio1(tau3, tau2)
    row[2], row[3], row[4] = _correlations(directions, distances)
    row[8], split = _last_splitting(rows, directions)
    row[10] = np.sqrt(split)
    if split > 0:
        row[11] = split / (split + mass * mass)
    if mass > 0:
        row[5] = _angularity(rows, jet, mass, radius)
        row[6], row[7] = _event_shapes(rows, jet, mass)
        row[9] = _planar_flow(rows, jet)


@compiled
def _sum(rows: FloatArray) -> FloatArray:
    total = np.zeros(4)
    for i in range(len(rows)):
        for k in range(4):
            total[k] += rows[i, k]
    return total


@compiled
def _mass_squared1(momentum: FloatArray) -> float:
    """Squared mass, 0 where it is no more than rounding."""
    energy = momentum[3] ** 2
    square = energy - momentum[0] ** 2 - momentum[1] ** 2 - momentum[2] ** 2
    return square if square > MASSLESS * energy else 0.0


@compiled
def _ratio1(above: float, below: float) -> float:
    return above / below if below > 0 else 0.0


@compiled
def _fill_distances(directions: FloatArray, distances: FloatArray) -> None:
    for i in range(len(directions)):
        distances[i, i] = 0.0
        for j in range(i + 1, len(directions)):
            distances[i, j] = distances[j, i] = np.sqrt(distance_squared1(directions[i], directions[j]))


@compiled
def _correlations(directions: FloatArray, distances: FloatArray) -> tuple[float, float, float]:
    """C2, D2 and N2."""
    n = len(directions)
    z = np.empty(n)
    for i in range(n):
        z[i] = directions[i, 0]
    z /= z.sum()
    # one sum for each third constituent, over slices that begin at 0: only so does the compiler vectorise
    cubic, smallest = np.zeros(n), np.zeros(n)
    e2 = 0.0
    for i in range(n):
        for j in range(i + 1, n):
            weight, between = z[i] * z[j], distances[i, j]
            e2 += weight * between
            of_i, of_j = distances[i, j + 1 :], distances[j, j + 1 :]
            own_cubic, own_smallest = cubic[j + 1 :], smallest[j + 1 :]
            for k in range(n - j - 1):
                a, b, c = between * of_i[k], between * of_j[k], of_i[k] * of_j[k]
                own_cubic[k] += weight * between * c
                least = a if a < b else b  # noqa: FURB136  min() of numba looks for nan
                own_smallest[k] += weight * (least if least < c else c)  # noqa: FURB136
    e3, e3_smallest = (cubic * z).sum(), (smallest * z).sum()
    return _ratio1(e3, e2**2), _ratio1(e3, e2**3), _ratio1(e3_smallest, e2**2)


@compiled
def _subjettiness(rows: FloatArray, directions: FloatArray) -> tuple[float, float, float]:
    """tau_1, tau_2 and tau_3 up to the common factor 1 / (R sum pT)."""
    n = len(directions)
    axes = last_subjets(rows, directions, True)  # noqa: FBT003  numba takes no keywords here
    tau = np.zeros(MOST_AXES)
    for n_axes in range(1, min(MOST_AXES, n) + 1):
        for i in range(n):
            nearest = np.inf
            for k in range(n_axes):
                nearest = min(nearest, distance_squared1(directions[i], axes[n_axes - 1, k]))
            tau[n_axes - 1] += directions[i, 0] * np.sqrt(nearest)
    return tau[0], tau[1], tau[2]


@compiled
def _last_splitting(rows: FloatArray, directions: FloatArray) -> tuple[float, float]:
    """R_12 and d12 of the last step of the kt algorithm with summed four-momenta."""
    first, second = last_subjets(rows, directions, False)[1, :2]  # noqa: FBT003
    return np.sqrt(distance_squared1(first, second)), kt_distance1(first, second)


@compiled
def _angularity(rows: FloatArray, jet: FloatArray, mass: float, radius: float) -> float:
    total = 0.0
    size = np.sqrt(jet[0] ** 2 + jet[1] ** 2 + jet[2] ** 2)
    for i in range(len(rows)):
        along = rows[i, 0] * jet[0] + rows[i, 1] * jet[1] + rows[i, 2] * jet[2]
        x = rows[i, 1] * jet[2] - rows[i, 2] * jet[1]
        y = rows[i, 2] * jet[0] - rows[i, 0] * jet[2]
        z = rows[i, 0] * jet[1] - rows[i, 1] * jet[0]
        angle = np.arctan2(np.sqrt(x * x + y * y + z * z), along) if size > 0 else 0.0
        half = np.pi / 4 * min(angle / radius, 1.0)
        # sin^-2 x (1 - cos x)^3 in half angles, which is exact for small ones
        total += rows[i, 3] * 2 * np.sin(half) ** 4 / np.cos(half) ** 2
    return total / mass


@compiled
def _event_shapes(rows: FloatArray, jet: FloatArray, mass: float) -> tuple[float, float]:
    """Aplanarity and Fox-Wolfram ratio in the rest frame of the jet."""
    sphericity, directed = np.zeros((3, 3)), np.zeros((3, 3))
    squares = sizes = 0.0
    p = np.empty(3)
    for i in range(len(rows)):
        dot = rows[i, 0] * jet[0] + rows[i, 1] * jet[1] + rows[i, 2] * jet[2]
        energy = (jet[3] * rows[i, 3] - dot) / mass
        for a in range(3):
            p[a] = rows[i, a] - jet[a] * (rows[i, 3] + energy) / (jet[3] + mass)
        size = np.sqrt(p[0] ** 2 + p[1] ** 2 + p[2] ** 2)
        if size == 0:
            continue
        squares, sizes = squares + size * size, sizes + size
        for a in range(3):
            for b in range(3):
                sphericity[a, b] += p[a] * p[b]
                directed[a, b] += p[a] * p[b] / size
    if squares == 0:
        return 0.0, 0.0
    smallest = np.linalg.eigvalsh(sphericity / squares)[0]
    # with T = sum of p p / |p|, the double sum over cos^2 is the trace of T^2
    second = 1.5 * (directed * directed).sum() / sizes**2 - 0.5
    return max(1.5 * smallest, 0.0), second


@compiled
def _planar_flow(rows: FloatArray, jet: FloatArray) -> float:
    transverse = np.hypot(jet[0], jet[1])
    size = np.hypot(transverse, jet[2])
    if transverse == 0:
        return 0.0
    xx = yy = xy = 0.0
    for i in range(len(rows)):
        along = (rows[i, 0] * jet[0] + rows[i, 1] * jet[1]) / transverse
        x = (rows[i, 1] * jet[0] - rows[i, 0] * jet[1]) / transverse
        y = (rows[i, 2] * transverse - along * jet[2]) / size
        xx, yy, xy = xx + x * x / rows[i, 3], yy + y * y / rows[i, 3], xy + x * y / rows[i, 3]
    trace = xx + yy
    return min(max(4 * (xx * yy - xy * xy) / (trace * trace), 0.0), 1.0) if trace > 0 else 0.0
