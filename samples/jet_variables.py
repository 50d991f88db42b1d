"""Variables of jets beyond momentum: layer fractions, clusters, tracks, muon segments, composition, identification.

Layer fractions and the number of clusters are those of the calorimeter before tracks are taken off (ATLAS global
sequential calibration, arXiv:1703.09665, section 4): f_charged and w_track from tracks of the hard interaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from samples.compiled import compiled
from samples.jets import owners_of
from samples.slabs import LAYERS, N_LAYERS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from samples.jets import Jets
    from samples.reconstruction import Objects
    from samples.truth import FloatArray, IntArray

TRACK_PT = 1.0
"""GeV; from here tracks count for the width and the number."""
N90_FRACTION = 0.9
TIGHT_ID, ALL_PU_ID = 6, 7
PU_ID_MAX_PT, PU_ID_MAX_ETA, PU_ID_MIN_TRACKS = 50.0, 2.4, 0.1
"""Below this pT (GeV) and |eta| a jet needs this part of its pT in tracks of the hard interaction."""
_CHARGED, _NEUTRAL, _CHARGED_EM, _NEUTRAL_EM = range(4)


def jet_variables(
    jets: Jets, candidates: FloatArray, offsets: IntArray, objects: list[Objects], pt: FloatArray, radius: float
) -> dict[str, NDArray[Any]]:
    """Columns of all jets; `pt` is the calibrated one (GeV), `candidates` are flat with `offsets` per event."""
    parts = [_of_event(jets, event, found, pt, radius) for event, found in enumerate(objects)]
    columns: dict[str, NDArray[Any]] = {
        name: np.concatenate([part[name] for part in parts]) for name in (parts[0] if parts else {})
    }
    shares = _composition(jets, candidates, offsets)
    for index, name in enumerate(("chHEF", "neHEF", "chEmEF", "neEmEF")):
        columns[name] = shares[:, index]
    columns["muEF"] = np.zeros(len(pt))
    columns["nConstituents"] = np.diff(jets.constituent_offsets)
    columns["jetId"] = np.where(columns["nConstituents"] > 1, TIGHT_ID, 0)
    is_tested = (pt < PU_ID_MAX_PT) & (np.abs(jets.eta) < PU_ID_MAX_ETA)
    passes = ~is_tested | (columns["chargedFraction"] > PU_ID_MIN_TRACKS)
    columns["puId"] = np.where(passes, ALL_PU_ID, 0)
    return columns


def _of_event(jets: Jets, event: int, found: Objects, pt: FloatArray, radius: float) -> dict[str, NDArray[Any]]:
    mine = slice(*jets.offsets[event : event + 2])
    clustered, rapidity, phi = jets.pt[mine], jets.rapidity[mine], jets.phi[mine]
    owners = [
        owners_of(np.ascontiguousarray(eta), np.ascontiguousarray(angle), clustered, rapidity, phi, radius)
        for eta, angle in (
            (found.clusters[:, 0], found.clusters[:, 1]),
            (found.tracks[:, 1], found.tracks[:, 2]),
            (found.segments[:, 0], found.segments[:, 1]),
        )
    ]
    n_jets = len(clustered)
    layers, n90 = _calorimeter(found.clusters, owners[0], n_jets)
    width, n_tracks, track_pt = _tracks(found.tracks, owners[1], rapidity, phi)
    return {
        **{name: layers[:, index] for index, name in enumerate(LAYERS)},
        "n90": n90,
        "trackWidth": width,
        "nTracks": n_tracks,
        "chargedFraction": track_pt / np.maximum(pt[mine], 1e-3),
        "nMuonSegments": np.bincount(owners[2][owners[2] >= 0], minlength=n_jets),
    }


@compiled
def _calorimeter(clusters: FloatArray, owners: NDArray[np.int64], n_jets: int) -> tuple[FloatArray, NDArray[np.int64]]:
    """Fractions of the layers (n, 14) and number of the hardest clusters with 90 % of the energy (n,)."""
    layers, n90 = np.zeros((n_jets, N_LAYERS)), np.zeros(n_jets, dtype=np.int64)
    energy = np.empty(len(clusters))
    for index in range(len(clusters)):
        energy[index] = clusters[index, 2:].sum()
        if owners[index] >= 0:
            layers[owners[index]] += clusters[index, 2:]
    reached = np.zeros(n_jets)
    total = np.empty(n_jets)
    for jet in range(n_jets):
        total[jet] = layers[jet].sum()
        if total[jet] > 0.0:
            layers[jet] /= total[jet]
    for index in np.argsort(-energy):
        jet = owners[index]
        if jet >= 0 and reached[jet] < N90_FRACTION * total[jet]:
            reached[jet] += energy[index]
            n90[jet] += 1
    return layers, n90


@compiled
def _tracks(
    tracks: FloatArray, owners: NDArray[np.int64], eta: FloatArray, phi: FloatArray
) -> tuple[FloatArray, NDArray[np.int64], FloatArray]:
    """pT-weighted mean distance to the axis and number of tracks above 1 GeV, and the sum of pT of all tracks."""
    n_jets = len(eta)
    width, hard = np.zeros(n_jets), np.zeros(n_jets)
    number, total = np.zeros(n_jets, dtype=np.int64), np.zeros(n_jets)
    for index in range(len(tracks)):
        jet = owners[index]
        if jet < 0:
            continue
        pt = tracks[index, 0]
        total[jet] += pt
        if pt > TRACK_PT:
            d_phi = abs(tracks[index, 2] - phi[jet])
            d_phi = min(d_phi, 2.0 * np.pi - d_phi)
            width[jet] += pt * np.hypot(tracks[index, 1] - eta[jet], d_phi)
            hard[jet] += pt
            number[jet] += 1
    for jet in range(n_jets):
        width[jet] = width[jet] / hard[jet] if hard[jet] > 0.0 else 0.0
    return width, number, total


def _composition(jets: Jets, candidates: FloatArray, offsets: IntArray) -> FloatArray:
    """Parts of a jet's energy (n, 4) in charged hadrons, neutral hadrons, electrons and photons."""
    sizes = np.diff(jets.constituent_offsets)
    jet = np.repeat(np.arange(len(sizes)), sizes)
    rows = candidates[offsets[:-1][jets.event[jet]] + jets.constituents]
    energy = rows[:, 0] * np.cosh(rows[:, 1])
    identity = np.abs(rows[:, 5]).astype(np.int64)
    group = np.select(
        [identity == 211, identity == 11, np.isin(identity, (22, 2))], [_CHARGED, _CHARGED_EM, _NEUTRAL_EM], _NEUTRAL
    )
    shares = np.bincount(4 * jet + group, energy, 4 * len(sizes)).reshape(-1, 4)
    return np.asarray(shares / np.maximum(shares.sum(axis=1, keepdims=True), 1e-9))
