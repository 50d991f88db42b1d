"""Fewer events and jets per file: only what can become a dijet, with what was left out counted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from samples.truth import event_of_jet, select_truth, selected_offsets

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from samples.response import RecoEvents
    from samples.truth import FloatArray, IntArray, TruthEvents


@dataclass(frozen=True, slots=True)
class SkimSettings:
    """Looser than the dijet selection, on the pT-ordered jets as stored."""

    min_delta_phi: float = 2.5
    third_jet_pt: float = 25.0
    """GeV; the third jet must be softer than this ..."""
    third_jet_fraction: float = 0.4
    """... or than this fraction of pt_avg."""
    leading_jets: int = 4
    thinning: float = 2.0
    """Simulation: events are kept with this probability times weight x (pt_avg / 100 GeV)^4.5, at most 1."""

    @property
    def delta_phi_cut(self) -> str:
        """The cut on azimuth in words."""
        return f"|dphi(1,2)| > {self.min_delta_phi:g}"

    @property
    def third_jet_cut(self) -> str:
        """The cut on the third jet in words."""
        return f"pT3 < max({self.third_jet_pt:g} GeV, {self.third_jet_fraction:g} pT_avg)"

    def describe(self) -> str:
        """Return the cuts in one line."""
        return (
            f">= 2 jets, {self.delta_phi_cut}, {self.third_jet_cut}, the {self.leading_jets} leading jets; "
            f"simulation kept with probability min(1, {self.thinning:g} w (pt_avg / 100 GeV)^4.5), weighted accordingly"
        )


@dataclass(frozen=True, slots=True)
class SkimDecision:
    """Cumulative decisions (n,) of each step, in order."""

    two_jets: NDArray[np.bool_]
    delta_phi: NDArray[np.bool_]
    third_jet: NDArray[np.bool_]


def decide(reco: RecoEvents, settings: SkimSettings) -> SkimDecision:
    """Which events become part of the skim."""
    counts, start = np.diff(reco.offsets), reco.offsets[:-1]
    two_jets = counts >= 2
    has_third = counts >= 3
    delta_phi, third_pt, pt_avg = np.zeros(len(reco)), np.zeros(len(reco)), np.ones(len(reco))
    first = start[two_jets]
    difference = np.abs(reco.phi[first] - reco.phi[first + 1])
    delta_phi[two_jets] = np.minimum(difference, 2.0 * np.pi - difference)
    pt_avg[two_jets] = 0.5 * (reco.pt[first] + reco.pt[first + 1])
    third_pt[has_third] = reco.pt[start[has_third] + 2]
    back_to_back = two_jets & (delta_phi > settings.min_delta_phi)
    limit = np.maximum(settings.third_jet_pt, settings.third_jet_fraction * pt_avg)
    return SkimDecision(two_jets, back_to_back, back_to_back & (third_pt < limit))


def keep_probability(weight: FloatArray, pt_avg: FloatArray, settings: SkimSettings) -> FloatArray:
    """Probability to keep a simulated event, (n,), positive; its weight is to be divided by it.

    At a given pt_avg (GeV) weights differ by an order of magnitude; the light events say little and fill the file.
    """
    physical = weight * (np.maximum(pt_avg, 10.0) / 100.0) ** 4.5
    return np.minimum(1.0, settings.thinning * physical)


def select_events(
    reco: RecoEvents, truth: TruthEvents, selected: NDArray[np.bool_], leading_jets: int | None = None
) -> tuple[RecoEvents, TruthEvents]:
    """Selected events; with `leading_jets` only so many jets of each.

    Of the truth jets then as many leading ones stay, and those that a kept jet points to; `truth_index` follows.
    """
    kept_reco = _jets_of(reco.offsets, selected, leading_jets)
    kept_truth = _jets_of(truth.offsets, selected, leading_jets)
    matched = kept_reco & (reco.truth_index >= 0)
    truth_of_reco = truth.offsets[event_of_jet(reco.offsets)] + reco.truth_index
    kept_truth[truth_of_reco[matched]] = True
    kept_before = np.concatenate(([0], np.cumsum(kept_truth)))
    event = event_of_jet(reco.offsets)
    moved = np.where(reco.truth_index >= 0, kept_before[truth_of_reco] - kept_before[truth.offsets[event]], -1)
    new_reco = replace(
        reco,
        offsets=selected_offsets(reco.offsets, kept_reco, selected),
        truth_index=moved[kept_reco],
        rho=reco.rho[selected],
        npv=reco.npv[selected],
        interactions=reco.interactions[selected],
        pt=reco.pt[kept_reco],
        eta=reco.eta[kept_reco],
        phi=reco.phi[kept_reco],
        mass=reco.mass[kept_reco],
        area=reco.area[kept_reco],
        raw_factor=reco.raw_factor[kept_reco],
        jet_id=reco.jet_id[kept_reco],
        pu_id=reco.pu_id[kept_reco],
    )
    return new_reco, select_truth(truth, selected, kept_truth)


def _jets_of(offsets: IntArray, selected: NDArray[np.bool_], leading: int | None) -> NDArray[np.bool_]:
    event = event_of_jet(offsets)
    kept = selected[event]
    if leading is not None:
        kept &= np.arange(len(event)) - offsets[event] < leading
    return kept
