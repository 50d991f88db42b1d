"""What a large-R jet is in truth: contained W or top, a part of one, nothing of the kind, or a jet of a multijet event.

Generated particles tell it, with the mother of each. A W, Z or H decays where two quarks are its daughters; a top is
the mother of such a W, or of copies of it, and has another quark as daughter. A W or a top is contained in a jet if it
and all of its quarks are within a distance of the axis.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.tagging.columns import CATEGORIES
from processors.compiled import compiled

if TYPE_CHECKING:
    from processors.record import BoolArray, Float32Array, Int32Array, Int64Array, Jets, Particles

    Directions = tuple[Float32Array, Float32Array]
    Int8Array = np.ndarray[tuple[int], np.dtype[np.int8]]

QCD, W, TOP, OTHER, UNMATCHED = range(len(CATEGORIES))
_TOP, _W, _HEAVIEST_QUARK = 6, 24, 5
_LOWEST_BOSON, _HIGHEST_BOSON = 23, 25  # Z, W, H


def truth_categories(jets: Jets, particles: Particles, distance: float) -> Int8Array:
    """Number of the category (`models.tagging.columns.CATEGORIES`) of each jet, (n_jets,).

    Quarks count within `distance` dR of the axis of the jet.
    """
    categories = np.empty(len(jets), np.int8)
    of_jets = (jets.eta, jets.phi)
    of_particles = (particles.eta, particles.phi)
    heritage = (np.abs(particles.pdg_id), particles.mother)
    _categorise(jets.offsets, of_jets, particles.offsets, of_particles, heritage, distance, categories)
    return categories


@compiled
def _categorise(
    jet_offsets: Int64Array,
    of_jets: Directions,
    offsets: Int64Array,
    of_particles: Directions,
    heritage: tuple[Int32Array, Int32Array],
    distance: float,
    categories: Int8Array,
) -> None:
    for i in range(len(jet_offsets) - 1):
        first, last = offsets[i], offsets[i + 1]
        code, above = heritage[0][first:last], heritage[1][first:last]
        eta, phi = of_particles[0][first:last], of_particles[1][first:last]
        decays = _decays(code, above)
        is_heavy = False
        for p in range(len(code)):
            is_heavy |= _is_boson1(code[p]) | (code[p] == _TOP)
        for j in range(jet_offsets[i], jet_offsets[i + 1]):
            near = _are_near(of_jets[0][j], of_jets[1][j], eta, phi, distance)
            found = _contained(code, decays, near)
            if found == QCD and is_heavy:
                found = OTHER if _holds_part(code, above, near) else UNMATCHED
            categories[j] = found


@compiled
def _is_boson1(code: int) -> bool:
    return _LOWEST_BOSON <= code <= _HIGHEST_BOSON


@compiled
def _is_quark1(code: int) -> bool:
    return 1 <= code <= _HEAVIEST_QUARK


@compiled
def _decays(code: Int32Array, above: Int32Array) -> Int32Array:
    """Hadronic decays, (n, 5): boson, its two quarks, the top that it comes from and the quark beside it, else -1."""
    decays = np.full((len(code), 5), -1, np.int32)
    n = 0
    for p in range(len(code)):
        if not _is_boson1(code[p]):
            continue
        found = 0
        for q in range(len(code)):
            if above[q] == p and _is_quark1(code[q]) and found < 2:
                decays[n, 1 + found] = q
                found += 1
        if found < 2:
            continue
        decays[n, 0] = p
        _add_top(decays[n], code, above)
        n += 1
    return decays[:n]


@compiled
def _add_top(decay: Int32Array, code: Int32Array, above: Int32Array) -> None:
    """Climb from the boson over its copies to a top, and look for the quark beside it."""
    boson = decay[0]
    p = above[boson]
    while p >= 0 and code[p] == code[boson]:
        p = above[p]
    if p < 0 or code[p] != _TOP or code[boson] != _W:
        return
    for q in range(len(code)):
        if above[q] == p and _is_quark1(code[q]):
            decay[3], decay[4] = p, q
            return


@compiled
def _are_near(
    jet_eta: np.float32, jet_phi: np.float32, eta: Float32Array, phi: Float32Array, distance: float
) -> BoolArray:
    near = np.empty(len(eta), np.bool_)
    for p in range(len(eta)):
        delta_phi = abs(np.float64(jet_phi) - phi[p])
        delta_phi = min(delta_phi, 2 * np.pi - delta_phi)
        near[p] = (np.float64(jet_eta) - eta[p]) ** 2 + delta_phi * delta_phi < distance * distance
    return near


@compiled
def _contained(code: Int32Array, decays: Int32Array, near: BoolArray) -> int:
    """TOP or W if one is contained, else QCD."""
    found = QCD
    for d in range(len(decays)):
        boson, first, second, top, beside = decays[d]
        has_quarks = near[first] and near[second]
        if top >= 0 and has_quarks and near[top] and near[beside]:
            return TOP
        if code[boson] == _W and has_quarks and near[boson]:
            found = W
    return found


@compiled
def _holds_part(code: Int32Array, above: Int32Array, near: BoolArray) -> bool:
    """Whether a quark from the decay of a boson or of a top is near."""
    for q in range(len(code)):
        if near[q] and _is_quark1(code[q]) and above[q] >= 0:
            source = code[above[q]]
            if _is_boson1(source) or source == _TOP:
                return True
    return False
