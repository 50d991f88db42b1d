"""Cross sections of generated processes, from Pythia without showers and hadrons, which takes seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from samples.processes import start_pythia

if TYPE_CHECKING:
    from samples.processes import ProcessSettings

TRIALS = 20_000
"""Events; the cross section is known to better than 1 %."""
PB_PER_MB = 1e9
_NO_SHOWERS = "PartonLevel:all = off"


def cross_section(settings: ProcessSettings, trials: int = TRIALS) -> float:
    """Cross section of a process in its range of pT-hat with its decays, in pb.

    A spectrum that is flattened has the same: its weights undo that. Of top pairs with a muon both charges are summed,
    which are generated in turns. The same settings give the same number.
    """
    seeds = (1, 2) if settings.process == "ttbar_mu" else (1,)
    return sum(_of_seed(settings, seed, trials) for seed in seeds)


def _of_seed(settings: ProcessSettings, seed: int, trials: int) -> float:
    pythia = start_pythia((*settings.lines(seed), _NO_SHOWERS))
    for _ in range(trials):
        pythia.next()
    return float(pythia.infoPython().sigmaGen()) * PB_PER_MB
