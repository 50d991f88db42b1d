"""Systematic variations of the histograms: which there are of a dataset, and what each changes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf, nextafter, pi
from typing import TYPE_CHECKING

import numpy as np

from processors.jet_calibration import scale_uncertainty
from processors.record import Columns, order_jets, scale

if TYPE_CHECKING:
    from processors.event_filter import PileupSystematic
    from processors.jet_calibration import JetCalibration
    from processors.record import EventRecord
    from processors.selection import DijetSelection

NOMINAL = "nominal"


@dataclass(frozen=True, slots=True)
class Systematics:
    """By how much the histograms are varied (YAML section `systematics`); energies in GeV.

    Attributes
    ----------
    enabled
        Whether there are any variations.
    jes
        Relative uncertainty of the energy scale of simulated jets where `calibration.uncertainty` names none.
    delta_phi
        Change of `selection.min_delta_phi`; up is looser.
    third_jet_fraction, third_jet_pt
        Change of `selection.third_jet_max_fraction` and `third_jet_min_pt`, both at once; up is looser.
    """

    enabled: bool = True
    jes: float = 0.01
    delta_phi: float = 0.1
    third_jet_fraction: float = 0.05
    third_jet_pt: float = 5.0

    def __post_init__(self) -> None:
        """Refuse shifts that turn up into down, and a scale that leaves no jet."""
        for name in ("jes", "delta_phi", "third_jet_fraction", "third_jet_pt"):
            if not 0 <= getattr(self, name) < inf:
                message = f"systematics.{name} must be a finite number, 0 or above, got {getattr(self, name)}"
                raise ValueError(message)
        if self.jes >= 1:
            message = f"systematics.jes is a relative uncertainty below 1, got {self.jes}"
            raise ValueError(message)


@dataclass(frozen=True, slots=True)
class Variation:
    """One way to fill the histograms; the choice of the probe is the same in all.

    `jes` is the number of uncertainties, with sign, by which pT and mass of all jets are shifted.
    """

    name: str
    selection: DijetSelection
    jes: int = 0
    pile_up: PileupSystematic = "nominal"


def variations(
    systematics: Systematics, selection: DijetSelection, *, is_mc: bool, has_pileup_weights: bool
) -> tuple[Variation, ...]:
    """The nominal way to fill and all others of a dataset, nominal first."""
    nominal = Variation(NOMINAL, selection)
    if not systematics.enabled:
        return (nominal,)
    varied = [
        Variation("dphi_up", _with_delta_phi(selection, -systematics.delta_phi)),
        Variation("dphi_down", _with_delta_phi(selection, systematics.delta_phi)),
        Variation("pt3_up", _with_third_jet(selection, systematics, 1)),
        Variation("pt3_down", _with_third_jet(selection, systematics, -1)),
    ]
    if is_mc and has_pileup_weights:
        varied += [Variation("pu_up", selection, pile_up="up"), Variation("pu_down", selection, pile_up="down")]
    if is_mc:
        varied += [Variation("jes_up", selection, jes=1), Variation("jes_down", selection, jes=-1)]
    return (nominal, *varied)


def shift_scale(
    record: EventRecord, systematics: Systematics, calibration: JetCalibration, algo: str, jes: int
) -> EventRecord:
    """Calibrated jets shifted by `jes` uncertainties of their scale, in falling pT; not yet smeared."""
    if jes == 0:
        return record
    uncertainty = (
        np.asarray(systematics.jes) if calibration.uncertainty is None else scale_uncertainty(record, calibration, algo)
    )
    jets, factor = record.jets, np.asarray(1.0 + jes * uncertainty)
    pt, mass = scale(jets.pt, factor), scale(jets.mass, factor)
    return replace(record, jets=order_jets(Columns(jets.offsets, pt, jets.eta, jets.phi, mass, jets.extra)).jets)


def _with_delta_phi(selection: DijetSelection, shift: float) -> DijetSelection:
    """Another azimuth cut, within [0, pi)."""
    return replace(selection, min_delta_phi=min(max(selection.min_delta_phi + shift, 0.0), nextafter(pi, 0.0)))


def _with_third_jet(selection: DijetSelection, systematics: Systematics, sign: int) -> DijetSelection:
    """Another third-jet cut, not below zero."""
    return replace(
        selection,
        third_jet_min_pt=max(selection.third_jet_min_pt + sign * systematics.third_jet_pt, 0.0),
        third_jet_max_fraction=max(selection.third_jet_max_fraction + sign * systematics.third_jet_fraction, 0.0),
    )
