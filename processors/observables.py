"""The formulas of the dijet balance; they take numbers or numpy arrays, and the compiled kernels call the same ones."""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
from numba.extending import register_jitable
from numpy.typing import NDArray

Real = TypeVar("Real", float, NDArray[np.float64])


@register_jitable(inline="always")
def pt_avg(pt_probe: Real, pt_reference: Real) -> Real:
    """Mean transverse momentum of the two leading jets, in the unit given."""
    return 0.5 * (pt_probe + pt_reference)


@register_jitable(inline="always")
def asymmetry(pt_probe: Real, pt_reference: Real) -> Real:
    """Momentum imbalance of the two leading jets, in [-2, 2].

    ATLAS convention (arXiv:2007.02645), twice the CMS one; the sign is probe minus reference.
    """
    return 2.0 * (pt_probe - pt_reference) / (pt_probe + pt_reference)


@register_jitable(inline="always")
def delta_phi(phi_a: float, phi_b: float) -> float:
    """Azimuthal distance in [0, pi] of two angles that each lie within one turn of the other."""
    distance = abs(phi_a - phi_b)
    return min(distance, 2.0 * math.pi - distance)


@register_jitable(inline="always")
def third_jet_limit(mean_pt: float, min_pt: float, max_fraction: float) -> float:
    """Largest allowed pT of the third jet, max(min_pt, max_fraction pt_avg), GeV."""
    return max(min_pt, max_fraction * mean_pt)


def response_from_asymmetry(mean_asymmetry: Real) -> Real:
    """Response of the probe relative to the reference, (2 + <A>)/(2 - <A>)."""
    return (2.0 + mean_asymmetry) / (2.0 - mean_asymmetry)
