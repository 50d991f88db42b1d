"""Energy that one particle leaves in the layers of the calorimeter.

Photons and electrons follow the gamma profile of Longo and Sestili with the fluctuations of GFLASH. A hadron loses
energy by ionisation until it interacts; there a part f_em of it turns into an electromagnetic shower, the rest into a
hadronic one that is longer (Bock) and is seen with h/e of whatever it crosses. f_em = 1 - (E/E0)^(k - 1) on average
(Groom, Wigmans) with event-by-event fluctuations. So depth, layer fractions and response belong together.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from samples.compiled import compiled
from samples.slabs import DEAD, MAX_SLABS, Slabs, build_slabs

if TYPE_CHECKING:
    from samples.layered_settings import LayeredDetector, Showers
    from samples.truth import FloatArray

PHOTON, ELECTRON, MUON, MESON, BARYON = range(5)
"""Kinds of particles that the calorimeter tells apart."""
_SHAPE_START, _SHAPE_STEP, _SHAPE_BINS = 0.5, 0.1, 160
_DEPTH_STEP, _DEPTH_BINS = 0.02, 400
_EM3_SLAB = 3


@cache
def gamma_table() -> FloatArray:
    """Regularised incomplete gamma function P(a, u a), (160, 401), for a from 0.5 in steps of 0.1, u up to 8."""
    from scipy.special import gammainc

    shape = _SHAPE_START + _SHAPE_STEP * np.arange(_SHAPE_BINS)[:, np.newaxis]
    return np.ascontiguousarray(gammainc(shape, shape * _DEPTH_STEP * np.arange(_DEPTH_BINS + 1)))


@compiled
def profile(table: FloatArray, shape: float, depth: float) -> float:
    """Part of a gamma profile with this shape parameter before `depth` (in units of its decay length)."""
    if depth <= 0.0:
        return 0.0
    row = (min(max(shape, 0.5), 16.2) - 0.5) / 0.1
    column = depth / shape / 0.02
    if column >= 400.0:
        return 1.0
    i, j = int(row), int(column)
    x, y = row - i, column - j
    low = (1.0 - y) * table[i, j] + y * table[i, j + 1]
    high = (1.0 - y) * table[i + 1, j] + y * table[i + 1, j + 1]
    return float((1.0 - x) * low + x * high)


@dataclass(frozen=True, slots=True)
class ShowerModel:
    """Everything the kernels need: slabs, the table of profiles and the numbers of `Showers` as an array."""

    slabs: Slabs
    table: FloatArray
    numbers: FloatArray


def shower_model(detector: LayeredDetector) -> ShowerModel:
    """Return the model of a detector."""
    return ShowerModel(build_slabs(detector), gamma_table(), _numbers(detector.showers))


def _numbers(showers: Showers) -> FloatArray:
    return np.array(
        [
            showers.power,
            showers.pion_scale,
            showers.baryon_scale,
            showers.em_fraction_spread,
            showers.em_fraction_spread_power,
            showers.pion_interaction,
            showers.hadron_slope,
            showers.em_depth,
            showers.mip_per_lambda,
            showers.critical_energy,
            showers.effective_z,
            showers.em_stochastic,
            showers.em_constant,
            showers.hadron_stochastic,
            showers.hadron_constant,
            showers.fcal_em_stochastic,
            showers.fcal_em_constant,
            showers.fcal_stochastic,
            showers.fcal_constant,
        ]
    )


@compiled
def mean_em_fraction(energy: float, scale: float, power: float) -> float:
    """Mean f_em of a hadron of this energy (GeV); 0 below its scale."""
    return 0.0 if energy <= scale else 1.0 - (energy / scale) ** (power - 1.0)


@compiled
def draw_em_fraction(rng: np.random.Generator, energy: float, scale: float, numbers: FloatArray) -> float:
    """f_em of one hadron: a beta distribution with the mean of the power law and the rms of `Showers`."""
    mean = mean_em_fraction(energy, scale, numbers[0])
    if mean < 0.02:
        return mean
    rms = mean * numbers[3] * (energy / 10.0) ** numbers[4]
    spread = min(rms * rms, 0.8 * mean * (1.0 - mean))
    strength = mean * (1.0 - mean) / spread - 1.0
    first, second = rng.standard_gamma(mean * strength), rng.standard_gamma((1.0 - mean) * strength)
    return float(first / (first + second)) if first + second > 0.0 else mean


@compiled
def draw_em_profile(rng: np.random.Generator, energy: float, numbers: FloatArray) -> tuple[float, float]:
    """Shape and decay constant (1/X0) of an electromagnetic shower. GFLASH, hep-ex/0001020, homogeneous media."""
    y = max(np.log(max(energy, 1e-6) / numbers[9]), 2.0)
    first = rng.standard_normal()
    correlation = 0.705 - 0.023 * y
    second = correlation * first + np.sqrt(1.0 - correlation * correlation) * rng.standard_normal()
    depth = np.exp(np.log(y - 0.812) + first / (1.26 * y - 1.4)) * numbers[7]
    shape = np.exp(np.log(0.81 + (0.458 + 2.26 / numbers[10]) * y) + second / (0.86 * y - 0.58))
    shape = max(shape, 1.1)
    return shape, (shape - 1.0) / max(depth, 0.1)


@compiled
def _add_em(
    shares: FloatArray, energy: float, start: float, shape: float, slope: float, x0: FloatArray, table: FloatArray
) -> None:
    before = 0.0
    for slab in range(MAX_SLABS):
        after = profile(table, shape, slope * (x0[slab + 1] - start))
        shares[slab] += energy * (after - before)
        before = after


@compiled
def shower(
    rng: np.random.Generator,
    kind: int,
    energy: float,
    eta_bin: int,
    x0: FloatArray,
    interaction: FloatArray,
    table: FloatArray,
    numbers: FloatArray,
    em: FloatArray,
    hadronic: FloatArray,
) -> float:
    """Fill what a particle leaves in the slabs: `em` (10,) electromagnetic, `hadronic` (10,); returns what leaks out.

    Energies are true ones in GeV; nothing is lost: they add up to `energy`, with what leaks.
    """
    em[:] = 0.0
    hadronic[:] = 0.0
    depth_x0, depth = x0[eta_bin], interaction[eta_bin]
    if kind == PHOTON or kind == ELECTRON:  # noqa: PLR1714  numba knows no sets of globals
        shape, slope = draw_em_profile(rng, energy, numbers)
        start = rng.exponential(9.0 / 7.0) if kind == PHOTON else 0.0
        _add_em(em, energy, start, shape, slope, depth_x0, table)
        return energy - em.sum()
    end = depth[MAX_SLABS] + 1.0
    if kind != MUON:
        end = rng.exponential(numbers[5] if kind == MESON else 1.0)
    left = energy
    slab = 0
    for index in range(MAX_SLABS):
        slab = index
        path = min(end, depth[index + 1]) - depth[index]
        lost = min(left, numbers[8] * path)
        em[index] += lost
        left -= lost
        if end <= depth[index + 1]:
            break
    if kind == MUON or end >= depth[MAX_SLABS] or left <= 0.0:
        return left
    scale = numbers[1] if kind == MESON else numbers[2]
    fraction = draw_em_fraction(rng, left, scale, numbers)
    if fraction > 0.0:
        width = depth[slab + 1] - depth[slab]
        inside = (end - depth[slab]) / width if width > 0.0 else 0.0
        start = depth_x0[slab] + inside * (depth_x0[slab + 1] - depth_x0[slab])
        shape, slope = draw_em_profile(rng, fraction * left, numbers)
        _add_em(em, fraction * left, start, shape, slope, depth_x0, table)
    logarithm = max(np.log(left), -1.0)
    shape = 0.6165 + 0.3183 * logarithm if logarithm > 0.0 else 0.6165
    slope = (0.9099 - 0.0237 * logarithm) * numbers[6]
    before = 0.0
    for index in range(slab, MAX_SLABS):
        after = profile(table, shape, slope * (depth[index + 1] - end))
        hadronic[index] += (1.0 - fraction) * left * (after - before)
        before = after
    return energy - em.sum() - hadronic.sum()


@compiled
def measure(
    rng: np.random.Generator,
    kind: int,
    eta_bin: int,
    layer: FloatArray,
    sampled: FloatArray,
    ratio: FloatArray,
    numbers: FloatArray,
    em: FloatArray,
    hadronic: FloatArray,
) -> None:
    """Turn true energies of the slabs into seen ones, in place: h/e, unread material, sampling fluctuations.

    Stochastic terms are drawn per slab with its own energy, which adds up to that of the whole; constant terms are
    common to the particle. Gamma distributions keep soft particles above zero.
    """
    is_forward = layer[eta_bin, 0] == 11
    is_em = kind == PHOTON or kind == ELECTRON  # noqa: PLR1714
    if is_em:
        stochastic, constant = (numbers[15], numbers[16]) if is_forward else (numbers[11], numbers[12])
    else:
        stochastic, constant = (numbers[17], numbers[18]) if is_forward else (numbers[13], numbers[14])
    common = max(1.0 + constant * rng.standard_normal(), 0.0)
    if is_em and not is_forward:
        # electromagnetic clusters are corrected for what leaks behind the calorimeter
        em[_EM3_SLAB] += em[_EM3_SLAB + 1]
    for slab in range(MAX_SLABS):
        true = em[slab] + hadronic[slab]
        if true < 2e-3 or layer[eta_bin, slab] == DEAD:
            em[slab] = 0.0
            hadronic[slab] = 0.0
            continue
        strength = true / (stochastic * stochastic)
        factor = common * sampled[eta_bin, slab]
        if strength > 100.0:
            factor *= 1.0 + rng.standard_normal() / np.sqrt(strength)
        else:
            factor *= rng.standard_gamma(strength) / strength
        em[slab] *= factor
        hadronic[slab] *= factor * ratio[eta_bin, slab]
