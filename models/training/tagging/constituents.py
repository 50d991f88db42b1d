"""Momenta of constituents -> what networks on constituents see, as part of the graph.

The jet's axis is the sum of its constituents. Places are relative to it: eta times the cosh and sinh of the axis, and
the sine of the difference in azimuth, which are the differences themselves near the axis and need no inverse function.
Nothing depends on the azimuth of the jet, and a constituent without pT does not count.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from keras import ops

from models.training.preprocessing import LIMIT, TINY

N_COLUMNS = 7
# Offset and factor of each column, those that Weaver publishes for the top-tagging landscape; distances are left alone.
_OFFSETS = np.array([0.0, 0.0, 1.7, 2.0, -4.7, -4.7, 0.2], np.float32)
_FACTORS = np.array([1.0, 1.0, 0.7, 0.7, 0.7, 0.7, 4.0], np.float32)


class Cloud(NamedTuple):
    """Constituents of a batch of jets; of one without pT everything is zero.

    Attributes
    ----------
    is_there
        (n, length), 1 or 0.
    pt
        (n, length), GeV.
    share
        Of the sum of pT, (n, length).
    eta, phi
        Relative to the axis, (n, length).
    columns
        (n, length, `N_COLUMNS`): both places, log pT, log E, log pT and log E relative to the jet, and the distance to
        the axis; of the order of one.
    """

    is_there: Any
    pt: Any
    share: Any
    eta: Any
    phi: Any
    columns: Any


def cloud_of(momenta: Any, length: int) -> Cloud:
    """What is known of the first `length` constituents, from px, py, pz and E (n, any, 4) in GeV, hardest first."""
    px, py, pz, energy = ops.unstack(ops.transpose(momenta[:, :length], (2, 0, 1)), 4, axis=0)
    pt = ops.sqrt(px * px + py * py)
    is_there = ops.cast(pt > TINY, "float32")
    total = [ops.sum(each * is_there, axis=1, keepdims=True) for each in (px, py, pz, energy)]
    jet_pt = ops.maximum(ops.sqrt(total[0] * total[0] + total[1] * total[1]), TINY)
    inverse = is_there / ops.maximum(pt, TINY)
    slope, axis = pz * inverse, total[2] / jet_pt
    eta = slope * ops.sqrt(1.0 + axis * axis) - ops.sqrt(1.0 + slope * slope) * axis
    phi = (py * total[0] - px * total[1]) * inverse / jet_pt
    eta = eta * is_there
    sum_pt = ops.maximum(ops.sum(pt * is_there, axis=1, keepdims=True), TINY)
    log_pt, log_energy = ops.log(ops.maximum(pt, TINY)), ops.log(ops.maximum(energy, TINY))
    columns = ops.stack(
        [
            eta,
            phi,
            log_pt,
            log_energy,
            log_pt - ops.log(sum_pt),
            log_energy - ops.log(ops.maximum(total[3], TINY)),
            ops.sqrt(eta * eta + phi * phi + TINY * TINY),
        ],
        axis=-1,
    )
    scaled = ops.clip((columns - _OFFSETS) * _FACTORS, -LIMIT, LIMIT) * ops.expand_dims(is_there, -1)
    return Cloud(is_there, pt * is_there, pt * is_there / sum_pt, eta, phi, scaled)
