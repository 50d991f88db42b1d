"""What variations of simulation do to large-R jets: scales and resolutions of energy and mass, and weights.

A scale moves all jets by the same factor. A resolution is varied by scaling the distance of a jet to its truth jet, so
that a relative change c turns a width sigma into (1 + c) sigma. A jet without a truth jet is smeared by chance with the
width sqrt((1 + c)^2 - 1) sigma that a worse resolution adds in quadrature, and left alone where the resolution gets
better; its sigma is that of the settings. The random number belongs to the jet: it is the same for any chunking, and of
the same jet in all runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from models.features import RaggedConstituents
from processors.compiled import compiled
from processors.errors import InputError
from processors.record import splitmix64, text_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from processors.event_filter import PileupSystematic
    from processors.large_jets import ChosenJets
    from processors.record import AnyArray, EventRecord, Float64Array, UInt64Array

NOMINAL = "nominal"
RADIATION = ("isr_up", "fsr_up", "isr_down", "fsr_down")
"""Variations of radiation in the order of their weights, see `EventRecord.parton_shower`."""
# Columns that the energy scale of a jet moves, and those that its mass scale moves.
_WITH_ENERGY = ("pt", "mass", "mass_plain", "split12")
_WITH_MASS = ("mass", "mass_plain")
# Random numbers stop here, in units of their width, and factors there.
_LARGEST_NORMAL = 4.0
_SMALLEST_FACTOR = 0.1


@dataclass(frozen=True, slots=True)
class TaggingSystematics:
    """By how much simulation is varied (YAML section `systematics`); 0 for no variation.

    Attributes
    ----------
    jes, jms
        Relative shifts of the scales of energy and of mass.
    jer, jmr
        Relative changes of the resolutions of pt and of mass.
    pt_resolution, mass_resolution
        Relative widths of pt and of soft-drop mass for jets without a truth jet; files without a soft-drop mass of
        truth jets have only such masses.

    parton_shower
        Whether radiation is varied by the weights of files that have them (`PSWeight`).

    Pile-up is varied where there are `events.pileup_weights`.
    """

    jes: float = 0.01
    jms: float = 0.01
    jer: float = 0.1
    jmr: float = 0.1
    pt_resolution: float = 0.05
    mass_resolution: float = 0.1
    parton_shower: bool = True

    def __post_init__(self) -> None:
        """Refuse shifts that turn a scale around, and widths that are none."""
        names = ("jes", "jms", "jer", "jmr")
        if not all(0 <= getattr(self, name) < 1 for name in names):
            told = ", ".join(f"{name} {getattr(self, name):g}" for name in names)
            raise InputError(f"systematics.jes, jms, jer and jmr are 0 or more and below 1, got {told}")
        if not (0 < self.pt_resolution < 1 and 0 < self.mass_resolution < 1):
            raise InputError(
                "systematics.pt_resolution and mass_resolution are above 0 and below 1, got "
                f"{self.pt_resolution:g} and {self.mass_resolution:g}"
            )


class Shift(NamedTuple):
    """What a variation does: factors on scales, relative changes of resolutions, and weights.

    `parton_shower` is the place among the weights of the event, see `EventRecord`; None for none.
    """

    energy: float = 1.0
    mass: float = 1.0
    energy_resolution: float = 0.0
    mass_resolution: float = 0.0
    pile_up: PileupSystematic = "nominal"
    parton_shower: int | None = None


class Factors(NamedTuple):
    """Of each jet, (n,), on what its energy moves and on what its mass moves besides; None for 1."""

    energy: Float64Array | None = None
    mass: Float64Array | None = None


def shifts_of(systematics: TaggingSystematics, *, is_mc: bool, has_pileup_weights: bool) -> dict[str, Shift]:
    """The variations of a dataset by name, the nominal one first."""
    shifts = {NOMINAL: Shift()}
    if not is_mc:
        return shifts
    for word, sign in (("up", 1), ("down", -1)):
        of_word = {
            "jes": Shift(energy=1 + sign * systematics.jes),
            "jms": Shift(mass=1 + sign * systematics.jms),
            "jer": Shift(energy_resolution=sign * systematics.jer),
            "jmr": Shift(mass_resolution=sign * systematics.jmr),
        }
        shifts |= {f"{name}_{word}": shift for name, shift in of_word.items() if getattr(systematics, name)}
    if has_pileup_weights:
        shifts |= {"pu_up": Shift(pile_up="up"), "pu_down": Shift(pile_up="down")}
    if systematics.parton_shower:
        shifts |= {name: Shift(parton_shower=place) for place, name in enumerate(RADIATION)}
    return shifts


def factors_of(jets: ChosenJets, identity: UInt64Array, shift: Shift, systematics: TaggingSystematics) -> Factors:
    """What a variation multiplies n jets with; `identity` (n,) is their hash."""
    energy = mass = None
    if shift.energy != 1:
        energy = np.full(len(jets), shift.energy)
    if shift.mass != 1:
        mass = np.full(len(jets), shift.mass)
    if shift.energy_resolution:
        random = normals(identity, "jer") * systematics.pt_resolution
        energy = resolution_factors(jets.columns["pt"], jets.truth_pt, shift.energy_resolution, random)
    if shift.mass_resolution:
        random = normals(identity, "jmr") * systematics.mass_resolution
        mass = resolution_factors(jets.columns["mass"], jets.truth_mass, shift.mass_resolution, random)
    return Factors(energy, mass)


def resolution_factors(values: AnyArray, truth: AnyArray, change: float, random: Float64Array) -> Float64Array:
    """Factors (n,) on values that change their resolution by (1 + change).

    `truth` is nan for jets without; `random` (n,) has the width of the relative resolution. A distance to the truth
    above the value itself counts as that, and a value of 0 stays.
    """
    values, truth = np.asarray(values, np.float64), np.asarray(truth, np.float64)
    is_there = values > 0
    distance = np.clip(1 - np.divide(truth, values, out=np.ones(len(values)), where=is_there), -1, 1)
    smeared = 1 + _added_width(change) * random
    factors = np.where(np.isfinite(distance), 1 + change * distance, np.maximum(smeared, _SMALLEST_FACTOR))
    return np.where(is_there, factors, 1.0)


def reach(shifts: Iterable[Shift], systematics: TaggingSystematics) -> tuple[float, float]:
    """The smallest and the largest factor by which any variation may move an energy."""
    lowest = highest = 1.0
    for shift in shifts:
        by_chance = _LARGEST_NORMAL * systematics.pt_resolution * _added_width(shift.energy_resolution)
        width = max(abs(shift.energy_resolution), by_chance)
        lowest = min(lowest, shift.energy, max(1 - width, _SMALLEST_FACTOR))
        highest = max(highest, shift.energy, 1 + width)
    return lowest, highest


def varied_columns(columns: Mapping[str, AnyArray], factors: Factors) -> dict[str, AnyArray]:
    """Columns of the jets in a variation."""
    found = dict(columns)
    for names, factor in ((_WITH_ENERGY, factors.energy), (_WITH_MASS, factors.mass)):
        if factor is not None:
            found |= {name: found[name] * factor.astype(np.float32) for name in names if name in found}
    return found


def varied_constituents(constituents: RaggedConstituents, factors: Factors) -> RaggedConstituents:
    """Constituents of the jets in a variation: they move with the energy of their jet."""
    if factors.energy is None:
        return constituents
    each = np.repeat(factors.energy.astype(np.float32), constituents.counts)
    return RaggedConstituents(constituents.offsets, constituents.values * each[:, np.newaxis])


def normals(identity: UInt64Array, purpose: str) -> Float64Array:
    """A number of the normal distribution for each jet, (n,), cut at four widths, from its hash and a purpose."""
    return np.clip(_normals(identity, text_key(purpose)), -_LARGEST_NORMAL, _LARGEST_NORMAL)


def radiation_weight(record: EventRecord, shift: Shift) -> Float64Array:
    """What a variation of radiation multiplies the weight of each event with, (n_events,); 1 without such weights."""
    if shift.parton_shower is None or record.parton_shower is None:
        return np.ones(len(record))
    return record.parton_shower[:, shift.parton_shower].astype(np.float64)


def _added_width(change: float) -> float:
    """In units of the resolution what is added to it in quadrature; 0 where it gets better."""
    return sqrt(max((1 + change) ** 2 - 1, 0.0))


@compiled
def _normals(identity: UInt64Array, key: np.uint64) -> Float64Array:
    """Box and Muller (Ann. Math. Statist. 29, 610) of two hashes."""
    found = np.empty(len(identity), np.float64)
    scale = 1.0 / 9007199254740992.0  # 2^53
    for i in range(len(identity)):
        first = splitmix64(identity[i] ^ key)
        second = splitmix64(first)
        radius = (np.float64(first >> np.uint64(11)) + 0.5) * scale
        angle = (np.float64(second >> np.uint64(11)) + 0.5) * scale
        found[i] = np.sqrt(-2.0 * np.log(radius)) * np.cos(2.0 * np.pi * angle)
    return found
