"""The cuts that make a dijet event."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DijetSelection:
    """Dijet cuts (YAML section `selection`), energies in GeV.

    An event is used when the two leading jets are apart by more than `min_delta_phi` in azimuth. The third jet is soft
    enough when pT3 < max(`third_jet_min_pt`, `third_jet_max_fraction` pt_avg); histograms are filled on both sides of
    that cut for alpha below the last alpha edge of the binning. `truth_max_dr` matches a jet to its truth jet.
    """

    min_delta_phi: float = 2.7
    third_jet_min_pt: float = 25.0
    third_jet_max_fraction: float = 0.25
    truth_max_dr: float = 0.2

    def __post_init__(self) -> None:
        """Refuse values no event, or every event, would pass by mistake."""
        if not 0 <= self.min_delta_phi < 3.141592653589793:
            message = f"selection.min_delta_phi is an angle in [0, pi), got {self.min_delta_phi}"
            raise ValueError(message)
        for name in ("third_jet_min_pt", "third_jet_max_fraction", "truth_max_dr"):
            if not getattr(self, name) >= 0:
                message = f"selection.{name} must not be negative, got {getattr(self, name)}"
                raise ValueError(message)


CUTFLOW_AS_READ = ("all", "two_jets", "delta_phi", "third_jet")
CUTFLOW_USED = (
    "lumi_mask",
    "two_good_jets",
    "good_delta_phi",
    "trigger",
    "pt_avg_range",
    "eta_region",
    "alpha_range",
    "good_third_jet",
)
CUTFLOW_STEPS = CUTFLOW_AS_READ + CUTFLOW_USED
