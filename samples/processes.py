"""What Pythia generates for the layered detector: processes, the range of pT-hat, minimum bias."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from samples.errors import SampleError
from samples.pythia import TUNES

if TYPE_CHECKING:
    from collections.abc import Mapping

_HADRONIC_W = ("24:onMode = off", "24:onIfAny = 1 2 3 4 5")
_MUON_W = ("24:onMode = off", "24:onIfAny = 13")
_TOP = ("Top:gg2ttbar = on", "Top:qqbar2ttbar = on")
_W_JET = ("WeakBosonAndParton:qqbar2Wg = on", "WeakBosonAndParton:qg2Wq = on")
HARD_PROCESSES: Mapping[str, tuple[str, ...]] = {
    "dijet": ("HardQCD:all = on",),
    "w": (*_W_JET, *_HADRONIC_W),
    "top": (*_TOP, *_HADRONIC_W),
    "ttbar_mu": (*_TOP, "24:onMode = off"),
    "wjets": (*_W_JET, *_MUON_W),
}
"""Pythia's settings by process: dijets, hadronic W with a jet, hadronic top pairs, top pairs with a muon, W to muon."""
_ONE_MUON = (
    ("24:onPosIfAny = 1 2 3 4 5", "24:onNegIfAny = 13"),
    ("24:onPosIfAny = 13", "24:onNegIfAny = 1 2 3 4 5"),
)
"""One W of a pair makes a muon; which of the two goes by the seed, so that chunks of both kinds alternate."""
MUON_PROCESSES = ("ttbar_mu", "wjets")
BIASED = {"dijet": 4.5, "w": 4.5, "top": 4.5}
"""Power of pT-hat by which the spectrum is flattened; the processes for measurements with muons keep theirs."""
FULL_RANGE = {
    "dijet": (20.0, 0.0),
    "w": (150.0, 0.0),
    "top": (150.0, 0.0),
    "ttbar_mu": (0.0, 0.0),
    "wjets": (20.0, 0.0),
}
"""Default range of pT-hat in GeV; 0 for no upper end."""


@dataclass(frozen=True, slots=True)
class ProcessSettings:
    """Pythia for one sample; dijets as in `samples.pythia.PythiaSettings`, flatter in log pT-hat."""

    process: str = "dijet"
    pt_range: tuple[float, float] = (20.0, 0.0)
    """Range of pT-hat in GeV; 0 for no upper end."""
    tune: int = TUNES["monash"]
    collision_energy: float = 13_000.0
    """GeV."""
    bias_power: float = 4.5
    """0 for events of weight 1."""
    bias_reference: float = 100.0
    """GeV; events with this pT-hat have weight 1."""
    shower_cutoff: float = 1.0
    """GeV; `TimeShower:pTmin`."""
    underlying_event: bool = True
    max_pt_over_pt_hat: float = 1.3
    """Limit on truth pt_avg / pT-hat of dijets, see `samples.pythia.without_outliers`."""

    def lines(self, seed: int) -> tuple[str, ...]:
        """Return the settings in Pythia's own words."""
        low, high = self.pt_range
        bias = (
            "PhaseSpace:bias2Selection = on",
            f"PhaseSpace:bias2SelectionPow = {self.bias_power}",
            f"PhaseSpace:bias2SelectionRef = {self.bias_reference}",
        )
        return (
            *_common_lines(self.tune, self.collision_energy, seed),
            *HARD_PROCESSES[self.process],
            *(_ONE_MUON[seed % 2] if self.process == "ttbar_mu" else ()),
            f"PhaseSpace:pTHatMin = {low}",
            *((f"PhaseSpace:pTHatMax = {high}",) if high > 0.0 else ()),
            *(bias if self.bias_power > 0.0 else ()),
            f"TimeShower:pTmin = {self.shower_cutoff}",
            "TimeShower:interleave = off",
            f"PartonLevel:MPI = {'on' if self.underlying_event else 'off'}",
        )


def settings_of(
    process: str, pt_range: tuple[float, float] | None, tune: int, *, underlying_event: bool
) -> ProcessSettings:
    """Return the settings of a process, with its default range of pT-hat if none is given."""
    if process not in HARD_PROCESSES:
        message = f"unknown process {process!r} for the layered detector; known are {', '.join(HARD_PROCESSES)}"
        raise SampleError(message)
    low, high = pt_range or FULL_RANGE[process]
    if not (0.0 <= low < math.inf and (high == 0.0 or low < high < math.inf)):
        message = f"--pt-range wants 0 <= LO < HI in GeV, not {low:g} {high:g}"
        raise SampleError(message)
    if low >= ProcessSettings().collision_energy / 2.0:
        message = f"--pt-range begins at {low:g} GeV, and no pT-hat is above half of the collision energy"
        raise SampleError(message)
    bias = BIASED.get(process, 0.0)
    return ProcessSettings(process, (low, high), tune, bias_power=bias, underlying_event=underlying_event)


def minimum_bias_lines(tune: int, collision_energy: float, seed: int) -> tuple[str, ...]:
    """Inelastic collisions for pile-up, in Pythia's own words."""
    return (*_common_lines(tune, collision_energy, seed), "SoftQCD:inelastic = on")


def start_pythia(lines: tuple[str, ...]) -> Any:
    """Pythia with these settings, ready to generate."""
    import pythia8mc

    pythia = pythia8mc.Pythia("", printBanner=False)
    for line in lines:
        if not pythia.readString(line):
            message = f"Pythia does not know the setting {line!r}"
            raise RuntimeError(message)
    if not pythia.init():
        message = f"Pythia could not be initialised with {', '.join(lines)}"
        raise RuntimeError(message)
    return pythia


def _common_lines(tune: int, collision_energy: float, seed: int) -> tuple[str, ...]:
    return (
        "Print:quiet = on",
        f"Tune:pp = {tune}",
        f"Beams:eCM = {collision_energy}",
        "ParticleDecays:limitTau0 = on",
        "ParticleDecays:tau0Max = 10.0",
        "Random:setSeed = on",
        f"Random:seed = {seed}",
    )
