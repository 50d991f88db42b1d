"""What a particle meets on its way out, per |eta|: slabs of material, each with the layer that reads it out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from samples.layered_settings import LayeredDetector, Material, Showers
    from samples.truth import FloatArray

LAYERS = (
    *(f"fEM{index}" for index in range(4)),
    *(f"fTile{index}" for index in range(3)),
    *(f"fHEC{index}" for index in range(4)),
    *(f"fFCAL{index}" for index in range(3)),
)
"""Names of the layers, in the order of their numbers."""
EM0, TILE0, HEC0, FCAL0 = 0, 4, 7, 11
N_LAYERS = len(LAYERS)
DEAD = -1
ETA_STEP = 0.1
N_ETA = 50
MAX_SLABS = 10


class Slabs(NamedTuple):
    """Slabs of the |eta| bins of width `ETA_STEP` up to 5, (50, ...)."""

    x0: FloatArray
    """(50, 11): radiation lengths from the vertex to the border of each slab."""
    interaction: FloatArray
    """(50, 11): the same in interaction lengths."""
    layer: NDArray[np.int64]
    """(50, 10): number of the layer that reads a slab, -1 for none."""
    sampled: FloatArray
    """(50, 10): part of a slab's energy that is read."""
    hadronic: FloatArray
    """(50, 10): h/e."""
    radius: FloatArray
    """(50, 2): distance from the beam of the electromagnetic and the hadronic part in m."""


def build_slabs(detector: LayeredDetector) -> Slabs:
    """Return the slabs of a detector."""
    x0, interaction = np.zeros((N_ETA, MAX_SLABS + 1)), np.zeros((N_ETA, MAX_SLABS + 1))
    layer = np.full((N_ETA, MAX_SLABS), DEAD, dtype=np.int64)
    sampled, hadronic = np.ones((N_ETA, MAX_SLABS)), np.ones((N_ETA, MAX_SLABS))
    radius = np.zeros((N_ETA, 2))
    for index in range(N_ETA):
        abs_eta = (index + 0.5) * ETA_STEP
        rows = _slabs_at(abs_eta, detector)
        for slab in range(MAX_SLABS):
            row = rows[slab] if slab < len(rows) else _Slab(0.0, 0.0, DEAD, 1.0, 1.0)
            x0[index, slab + 1] = x0[index, slab] + row.x0
            interaction[index, slab + 1] = interaction[index, slab] + row.interaction
            layer[index, slab], sampled[index, slab], hadronic[index, slab] = row.layer, row.sampled, row.hadronic
        radius[index] = _radius(abs_eta, detector.material)
    return Slabs(x0, interaction, layer, sampled, hadronic, radius)


@dataclass(frozen=True, slots=True)
class _Slab:
    x0: float
    interaction: float
    layer: int
    sampled: float
    hadronic: float


def _slabs_at(abs_eta: float, detector: LayeredDetector) -> list[_Slab]:
    material, showers = detector.material, detector.showers
    if abs_eta > material.fcal_start:
        return _forward(material, showers)
    return [*_electromagnetic(abs_eta, material, showers), *_hadronic(abs_eta, material, showers)]


def _forward(material: Material, showers: Showers) -> list[_Slab]:
    upstream, extra = material.fcal_upstream_x0, material.extra_upstream_x0
    depth = upstream + extra
    slabs = [_Slab(depth, depth * material.lambda_per_x0_upstream, FCAL0, upstream / depth, 1.0 / showers.eh_fcal)]
    return slabs + [
        _Slab(x0, interaction, FCAL0 + index, 1.0, 1.0 / showers.eh_fcal)
        for index, (x0, interaction) in enumerate(zip(material.fcal_x0, material.fcal_lambda, strict=True))
    ]


def _electromagnetic(abs_eta: float, material: Material, showers: Showers) -> list[_Slab]:
    def at(values: tuple[float, ...]) -> float:
        return float(np.interp(abs_eta, material.abs_eta, values))

    upstream = at(material.upstream_x0)
    depth = upstream + material.extra_upstream_x0 * min(np.cosh(abs_eta), 2.0)
    first = EM0 if abs_eta < material.presampler_end else EM0 + 1
    ratio = 1.0 / showers.eh_em
    slabs = [_Slab(depth, depth * material.lambda_per_x0_upstream, first, upstream / depth, ratio)]
    for index, values in enumerate(material.em_x0):
        x0 = at(values)
        slabs.append(_Slab(x0, x0 * material.lambda_per_x0_em, EM0 + 1 + index, 1.0, ratio))
    between = at(material.between_lambda)
    return [*slabs, _Slab(between / material.lambda_per_x0_between, between, DEAD, 0.0, 1.0)]


def _hadronic(abs_eta: float, material: Material, showers: Showers) -> list[_Slab]:
    if abs_eta > material.tile_end:
        density, ratio = material.lambda_per_x0_copper, 1.0 / showers.eh_hec
        return [_Slab(x / density, x, HEC0 + index, 1.0, ratio) for index, x in enumerate(material.hec_lambda)]
    is_barrel = abs_eta < material.tile_barrel_end
    lengths = material.tile_barrel_lambda if is_barrel else material.tile_extended_lambda
    density, ratio, slope = material.lambda_per_x0_iron, 1.0 / showers.eh_tile, min(float(np.cosh(abs_eta)), 1.8)
    return [_Slab(slope * x / density, slope * x, TILE0 + index, 1.0, ratio) for index, x in enumerate(lengths)]


def _radius(abs_eta: float, material: Material) -> tuple[float, float]:
    """Where showers are: barrel radii 1.5 and 2.6 m, end-caps 3.8 and 4.5 m, forward 4.9 m from the interaction."""
    tangent = float(np.sinh(abs_eta))
    if abs_eta > material.fcal_start:
        return 4.9 / tangent, 4.9 / tangent
    return min(1.5, 3.8 / tangent), min(2.6, 4.5 / tangent)
