"""Muons of the spectrometer, and missing transverse momentum."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from samples.jets import owners_of
from samples.tables import Collection
from samples.truth import event_of_jet, offsets_from_counts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from samples.particles import GeneratedParticles
    from samples.truth import FloatArray, IntArray

MUON_PT, MUON_ETA = 5.0, 2.5
MUON_EFFICIENCY = 0.95
MUON_CONSTANT, MUON_CURVATURE = 0.017, 1e-4
"""sigma(pT)/pT = 1.7 % and 10 % at 1 TeV in quadrature: ATLAS, EPJC 81 (2021) 578 and JINST 3 (2008) S08003."""
ISOLATION_RADIUS = 0.4
MET_JET_PT = 20.0
_MUON_MASS = 0.10566


def muons(
    generated: GeneratedParticles, offsets: IntArray, candidates: FloatArray, rng: np.random.Generator
) -> Collection:
    """Columns of `Muon`, of falling pT: muons above 5 GeV in |eta| < 2.5, their isolation relative to their pT.

    `candidates` (n, 6) with `offsets` per event; muons are no candidates.
    """
    is_muon = np.abs(generated.identity) == 13
    pt = np.hypot(generated.px, generated.py)[is_muon]
    eta = np.arcsinh(generated.pz[is_muon] / pt)
    event = event_of_jet(generated.offsets)[is_muon]
    kept = (pt > MUON_PT) & (np.abs(eta) < MUON_ETA) & (rng.uniform(size=len(pt)) < MUON_EFFICIENCY)
    phi = np.arctan2(generated.py, generated.px)[is_muon]
    charge = -np.sign(generated.identity[is_muon])
    width = np.hypot(MUON_CONSTANT, MUON_CURVATURE * pt)
    pt = pt / np.maximum(1.0 + width * rng.normal(size=len(pt)), 0.2)
    order = np.flatnonzero(kept)[np.lexsort((-pt[kept], event[kept]))]
    columns: dict[str, NDArray[Any]] = {"pt": pt, "eta": eta, "phi": phi, "charge": charge}
    columns = {name: column[order] for name, column in columns.items()}
    columns["mass"] = np.full(len(order), _MUON_MASS)
    columns["pdgId"] = -13 * columns["charge"]
    columns["pfRelIso04_all"] = _isolation(columns, event[order], offsets, candidates)
    columns["tightId"] = np.ones(len(order), dtype=bool)
    return Collection(np.bincount(event[order], minlength=len(generated)), columns)


def _isolation(
    columns: dict[str, NDArray[Any]], event: IntArray, offsets: IntArray, candidates: FloatArray
) -> FloatArray:
    isolation = np.zeros(len(event))
    for index, place in enumerate(event):
        near = candidates[offsets[place] : offsets[place + 1]]
        d_phi = np.abs(near[:, 2] - columns["phi"][index])
        distance = np.hypot(near[:, 1] - columns["eta"][index], np.minimum(d_phi, 2.0 * np.pi - d_phi))
        isolation[index] = near[distance < ISOLATION_RADIUS, 0].sum() / columns["pt"][index]
    return isolation


def missing_momentum(jets: Collection, muon: Collection, tracks: list[FloatArray]) -> dict[str, NDArray[Any]]:
    """`MET_pt` and `MET_phi`: minus calibrated jets above 20 GeV, muons, and tracks outside such jets (`soft term`)."""
    hard = jets.columns["pt"] > MET_JET_PT
    x, y = np.zeros(len(tracks)), np.zeros(len(tracks))
    for collection, kept in ((jets, hard), (muon, np.ones(len(muon.columns["pt"]), dtype=bool))):
        pt, phi = collection.columns["pt"][kept], collection.columns["phi"][kept]
        x -= np.bincount(collection.event[kept], pt * np.cos(phi), len(tracks))
        y -= np.bincount(collection.event[kept], pt * np.sin(phi), len(tracks))
    counts = np.bincount(jets.event[hard], minlength=len(tracks))
    offsets = offsets_from_counts(counts)
    pt, eta, phi = (np.ascontiguousarray(jets.columns[name][hard]) for name in ("pt", "eta", "phi"))
    for event, found in enumerate(tracks):
        mine = slice(*offsets[event : event + 2])
        track = [np.ascontiguousarray(column) for column in found.T]
        outside = owners_of(track[1], track[2], pt[mine], eta[mine], phi[mine], 0.4) < 0
        x[event] -= (track[0] * np.cos(track[2]))[outside].sum()
        y[event] -= (track[0] * np.sin(track[2]))[outside].sum()
    return {"MET_pt": np.hypot(x, y), "MET_phi": np.arctan2(y, x)}
