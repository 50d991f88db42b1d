"""The hard process of generated events: partons, W bosons, top quarks and what they decay to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from samples.compiled import compiled
from samples.jets import owners_of
from samples.tables import Collection

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from samples.truth import IntArray


_FIRST_HARD, _LAST_HARD, _OUTGOING = 21, 29, 23
_BOTTOM, _GLUON = 5, 21


def hard_particles(batch: Any) -> Collection:
    """Columns of `GenPart`: what has the status 21 to 29 in Pythia, with the index of the mother among them, else -1.

    The status is Pythia's own: 21 incoming, 22 intermediate (W, top), 23 outgoing, also products of W and top.
    """
    import awkward as ak

    particles = batch.prt
    counts = ak.to_numpy(ak.num(particles, axis=1)).astype(np.int64)
    flat = ak.flatten(particles, axis=1)
    # muons and neutrinos that do not radiate are final, with a positive status
    status, mother = np.abs(ak.to_numpy(flat.status)), ak.to_numpy(flat.mother1).astype(np.int64)
    kept = (status >= _FIRST_HARD) & (status <= _LAST_HARD)
    event = np.repeat(np.arange(len(counts)), counts)
    starts = np.concatenate(([0], np.cumsum(counts)))[:-1]
    mothers = _mothers(starts[event], mother, kept)
    px, py, pz = (ak.to_numpy(flat.p[name])[kept] for name in ("px", "py", "pz"))
    pt = np.hypot(px, py)
    columns = {
        "pt": pt,
        "eta": np.arcsinh(np.clip(pz / np.maximum(pt, 1e-9), -1e4, 1e4)),
        "phi": np.arctan2(py, px),
        "mass": ak.to_numpy(flat.m)[kept],
        "pdgId": ak.to_numpy(flat.id)[kept],
        "status": status[kept],
        "genPartIdxMother": mothers,
    }
    return Collection(np.bincount(event[kept], minlength=len(counts)), columns)


@compiled
def _mothers(start: IntArray, mother: IntArray, kept: NDArray[np.bool_]) -> IntArray:
    """Position within the event's kept particles of the nearest kept ancestor of each kept particle; -1 for none."""
    number = np.empty(len(kept), dtype=np.int64)
    found = np.empty(int(kept.sum()), dtype=np.int64)
    count, here, total = 0, -1, 0
    for index in range(len(kept)):
        if start[index] != here:
            here, count = start[index], 0
        number[index] = count
        if not kept[index]:
            continue
        count += 1
        above = mother[index]
        while above > 0 and not kept[here + above]:
            above = mother[here + above]
        found[total] = number[here + above] if above > 0 else -1
        total += 1
    return found


def parton_flavour(jets: Collection, partons: Collection, radius: float) -> IntArray:
    """PDG code of the nearest outgoing quark or gluon within `radius` of each jet; 0 for none."""
    code, status = partons.columns["pdgId"], partons.columns["status"]
    kept = (status == _OUTGOING) & ((np.abs(code) <= _BOTTOM) | (code == _GLUON))
    code, event = code[kept], partons.event[kept]
    eta, phi = (partons.columns[name][kept].astype(np.float64) for name in ("eta", "phi"))
    starts = np.searchsorted(event, np.arange(len(jets.counts) + 1))
    flavour = np.zeros(len(jets.columns["pt"]), dtype=np.int64)
    for index, start in enumerate(starts[:-1]):
        mine, near = slice(start, starts[index + 1]), slice(*jets.offsets[index : index + 2])
        jet_eta = np.ascontiguousarray(jets.columns["eta"][near], dtype=np.float64)
        jet_phi = np.ascontiguousarray(jets.columns["phi"][near], dtype=np.float64)
        owners = owners_of(jet_eta, jet_phi, np.ones(mine.stop - mine.start), eta[mine], phi[mine], radius)
        flavour[near] = np.where(owners >= 0, np.append(code[mine], 0)[owners], 0)
    return flavour
