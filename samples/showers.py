"""Energy that one particle leaves in the layers of the calorimeter.

Photons and electrons follow the gamma profile of Longo and Sestili with the fluctuations of GFLASH. A hadron loses
energy by ionisation until it interacts; there a part f_em of it turns into an electromagnetic shower, the rest into a
hadronic one that is longer (Bock) and is seen with h/e of whatever it crosses. f_em = 1 - (E/E0)^(k - 1) on average
(Groom, Wigmans) with event-by-event fluctuations. So depth, layer fractions and response belong together.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from samples.compiled import compiled, inlined
from samples.slabs import DEAD, FCAL0, MAX_SLABS, Slabs, build_slabs

if TYPE_CHECKING:
    from samples.layered_settings import LayeredDetector, Showers
    from samples.truth import FloatArray

PHOTON, ELECTRON, MUON, MESON, BARYON = range(5)
"""Kinds of particles that the calorimeter tells apart; what comes before the muon showers electromagnetically."""
_SHAPE_START, _SHAPE_STEP, _SHAPE_BINS = 0.5, 0.1, 160
_DEPTH_STEP, _DEPTH_BINS = 0.02, 400
_EM3_SLAB = 3
_NEGLIGIBLE, _TINY = 0.002, 0.01
"""GeV; below the first a deposit is dropped, below the second it does not fluctuate: noise is larger."""


@cache
def gamma_table() -> FloatArray:
    """Regularised incomplete gamma function P(a, u a), (160, 401), for a from 0.5 in steps of 0.1, u up to 8."""
    from scipy.special import gammainc

    shape = _SHAPE_START + _SHAPE_STEP * np.arange(_SHAPE_BINS)[:, np.newaxis]
    return np.ascontiguousarray(gammainc(shape, shape * _DEPTH_STEP * np.arange(_DEPTH_BINS + 1)))


@inlined
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


class ShowerModel(NamedTuple):
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


@inlined
def _add_em(
    rng: np.random.Generator, energy: float, start: float, depth: FloatArray, model: ShowerModel, shares: FloatArray
) -> None:
    """Add an electromagnetic shower of `energy` that starts at `start` to the slabs (borders `depth` in X0)."""
    shape, slope = draw_em_profile(rng, energy, model.numbers)
    before = 0.0
    for slab in range(MAX_SLABS):
        after = profile(model.table, shape, slope * (depth[slab + 1] - start))
        shares[slab] += energy * (after - before)
        before = after
        if after > 0.9999:
            break


@inlined
def _add_hadronic(
    energy: float, whole: float, start: float, depth: FloatArray, model: ShowerModel, shares: FloatArray
) -> None:
    """Add the hadronic part of a shower of energy `whole` (GeV) that starts at `start` interaction lengths. Bock."""
    logarithm = np.log(whole)
    shape = 0.6165 + 0.3183 * max(logarithm, 0.0)
    slope = (0.9099 - 0.0237 * max(logarithm, -1.0)) * model.numbers[6]
    before = 0.0
    for slab in range(MAX_SLABS):
        after = profile(model.table, shape, slope * (depth[slab + 1] - start))
        shares[slab] += energy * (after - before)
        before = after


@inlined
def _ionise(energy: float, end: float, depth: FloatArray, loss: float, shares: FloatArray) -> tuple[float, int]:
    """Share what is lost without a shower up to the depth `end`; returns the energy left and the slab of the end."""
    left = energy
    for slab in range(MAX_SLABS):
        lost = min(left, loss * (min(end, depth[slab + 1]) - depth[slab]))
        shares[slab] += lost
        left -= lost
        if end <= depth[slab + 1]:
            return left, slab
    return left, MAX_SLABS


@inlined
def shower(
    rng: np.random.Generator,
    kind: int,
    energy: float,
    eta_bin: int,
    model: ShowerModel,
    em: FloatArray,
    hadronic: FloatArray,
) -> float:
    """Fill what a particle leaves in the slabs: `em` (10,) electromagnetic, `hadronic` (10,); returns what leaks out.

    Energies are true ones in GeV; nothing is lost: they add up to `energy`, with what leaks.
    """
    em[:] = 0.0
    hadronic[:] = 0.0
    numbers, x0, depth = model.numbers, model.slabs.x0[eta_bin], model.slabs.interaction[eta_bin]
    if kind < MUON:
        start = rng.exponential(9.0 / 7.0) if kind == PHOTON else 0.0
        _add_em(rng, energy, start, x0, model, em)
        return float(energy - em.sum())
    end = depth[MAX_SLABS] + 1.0
    if kind != MUON:
        end = rng.exponential(numbers[5] if kind == MESON else 1.0)
    left, slab = _ionise(energy, end, depth, numbers[8], em)
    if slab == MAX_SLABS or left <= 0.0:
        return float(left)
    fraction = draw_em_fraction(rng, left, numbers[1] if kind == MESON else numbers[2], numbers)
    if fraction > 0.0:
        inside = (end - depth[slab]) / (depth[slab + 1] - depth[slab])
        _add_em(rng, fraction * left, x0[slab] + inside * (x0[slab + 1] - x0[slab]), x0, model, em)
    _add_hadronic((1.0 - fraction) * left, left, end, depth, model, hadronic)
    return float(energy - em.sum() - hadronic.sum())


@inlined
def measure(
    rng: np.random.Generator, kind: int, eta_bin: int, model: ShowerModel, em: FloatArray, hadronic: FloatArray
) -> None:
    """Turn true energies of the slabs into seen ones, in place: h/e, unread material, sampling fluctuations.

    Stochastic terms are drawn per slab with its own energy, which adds up to that of the whole; constant terms are
    common to the particle. Gamma distributions keep soft particles above zero.
    """
    slabs, numbers = model.slabs, model.numbers
    is_forward = slabs.layer[eta_bin, 0] == FCAL0
    is_em = kind < MUON
    place = (15 if is_forward else 11) if is_em else (17 if is_forward else 13)
    stochastic, constant = numbers[place], numbers[place + 1]
    common = max(1.0 + constant * rng.standard_normal(), 0.0)
    if is_em and not is_forward:
        # electromagnetic clusters are corrected for what leaks behind the calorimeter
        em[_EM3_SLAB] += em[_EM3_SLAB + 1]
    for slab in range(MAX_SLABS):
        true = em[slab] + hadronic[slab]
        if true < _NEGLIGIBLE or slabs.layer[eta_bin, slab] == DEAD:
            em[slab] = 0.0
            hadronic[slab] = 0.0
            continue
        factor = common * slabs.sampled[eta_bin, slab]
        strength = true / (stochastic * stochastic)
        if strength > 100.0:
            factor *= 1.0 + rng.standard_normal() / np.sqrt(strength)
        elif true > _TINY:
            factor *= rng.standard_gamma(strength) / strength
        em[slab] *= factor
        hadronic[slab] *= factor * slabs.hadronic[eta_bin, slab]
