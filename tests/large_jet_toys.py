"""Constituents of toy jets, and files with large-R jets whose truth is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import awkward as ak
import numpy as np
import uproot

from models.features import RaggedConstituents, offsets_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


def momenta(pt: np.ndarray, eta: np.ndarray, phi: np.ndarray, mass: np.ndarray | float = 0.0) -> np.ndarray:
    """px, py, pz and E, (n, 4)."""
    px, py, pz = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)
    return np.column_stack([px, py, pz, np.sqrt(px**2 + py**2 + pz**2 + mass**2)])


def random_jet(rng: np.random.Generator, n: int, eta: float = 0.4, phi: float = 3.0) -> np.ndarray:
    """Four-momenta of n constituents around a direction near the end of the range of azimuth, hardest first."""
    pt = np.sort(rng.exponential(20, n) + 0.5)[::-1]
    return momenta(pt, eta + rng.normal(0, 0.3, n), phi + rng.normal(0, 0.3, n), 0.14)


def ragged(*jets: np.ndarray) -> RaggedConstituents:
    """Jets one after another."""
    values = np.concatenate([np.zeros((0, 4)), *jets]).astype(np.float32)
    return RaggedConstituents(offsets_of(np.array([len(jet) for jet in jets], np.int64)), values)


# Generated particles of an event with a hadronic W at (eta, phi) = (0, 0), and of one with a hadronic top there: code,
# mother, eta, phi. Copies and incoming partons are there as in files.
Particle = tuple[int, int, float, float]
W_EVENT: list[Particle] = [
    (21, -1, 5, 0),
    (24, 0, 0, 0),
    (24, 1, 0, 0),
    (2, 2, 0.2, 0.1),
    (-1, 2, -0.2, -0.1),
    (1, 0, 0, 3.0),
]
TOP_EVENT: list[Particle] = [
    (21, -1, 5, 0),
    (6, 0, 0, 0),
    (6, 1, 0, 0),
    (24, 2, 0.1, 0.1),
    (5, 2, -0.3, -0.2),
    (24, 3, 0.1, 0.1),
    (2, 5, 0.3, 0.1),
    (-1, 5, -0.1, 0.2),
    (-6, 0, 0, 3.0),
    (-24, 8, 0, 3.1),
    (-5, 8, 0.3, 2.8),
    (13, 9, 0.2, 3.1),
    (-14, 9, 0.1, 3.0),
]
QCD_EVENT: list[Particle] = [(21, -1, 5, 0), (21, 0, 0, 0), (2, 0, 0, 3.0)]


def write_large_jets(
    path: Path,
    particles: Sequence[Sequence[Particle]],
    *,
    is_mc: bool = True,
    seed: int = 1,
    without: tuple[str, ...] = (),
    third_pt: float | None = None,
    parton_shower: Sequence[float] | None = None,
    single: bool = False,
    constituents: tuple[int, int] = (5, 3),
    triggers: Mapping[str, Sequence[bool]] | None = None,
    met: Sequence[float] | None = None,
) -> Path:
    """PFNano events, each with these generated particles and two jets, of 500 GeV at azimuth 0 and 450 GeV at 3.

    A muon of 60 GeV is at azimuth 0.3.

    The first jet stands second in the file and has 5 `constituents`, the other one 3. Soft-drop masses are 80 and 10
    GeV, those of truth jets 40 and 20 GeV. A third jet, if asked for, has no constituents. All events of simulation
    have the same parton-shower weights, none if not asked for. With `single` the jet of 500 GeV is left out, with its
    constituents. `triggers` are the decisions of each event by the path, `met` is its missing momentum in GeV.
    """
    rng = np.random.default_rng(seed)
    n = len(particles)
    counts = [0 if single else constituents[0], constituents[1]]
    n_parts = sum(counts)
    link = np.tile(np.repeat([1, 0], counts), (n, 1))
    pt = np.tile([450.0, 500.0], (n, 1))
    axis = np.tile([3.0, 0.0], (n, 1))
    jets = {
        "pt": pt,
        "eta": np.zeros((n, 2)),
        "phi": axis,
        "mass": np.tile([20.0, 100.0], (n, 1)),
        "msoftdrop": np.tile([10.0, 80.0], (n, 1)),
        "area": np.full((n, 2), np.pi * 0.64),
    }
    truth = {
        **{name: jets[name] for name in ("eta", "phi", "mass")},
        "pt": pt / 0.9,
        "msoftdrop": np.tile([20.0, 40.0], (n, 1)),
    }
    if single:
        jets, truth = ({name: values[:, :1] for name, values in each.items()} for each in (jets, truth))
    if third_pt is not None:
        third = {"pt": third_pt, "eta": 1.0, "phi": 1.5, "mass": 5.0, "msoftdrop": 1.0, "area": 2.0}
        jets = {name: np.column_stack([values, np.full(n, third[name])]) for name, values in jets.items()}
    parts = {
        "pt": np.take_along_axis(pt, link, 1) * rng.dirichlet(np.ones(n_parts), n),
        "eta": 0.3 * rng.normal(size=(n, n_parts)),
        "phi": np.take_along_axis(axis, link, 1) + 0.3 * rng.normal(size=(n, n_parts)),
        "mass": np.full((n, n_parts), 0.14),
    }
    branches: dict[str, Any] = {
        "run": np.ones(n, np.int32),
        "luminosityBlock": np.ones(n, np.int32),
        "event": np.arange(n, dtype=np.int64),
        "Rho_fixedGridRhoFastjetAll": rng.uniform(10, 20, n).astype(np.float32),
        "PV_npvs": np.full(n, 20, np.int32),
        "FatJet": _lists(jets),
        "Muon": _lists({"pt": np.full((n, 1), 60.0), "eta": np.full((n, 1), 0.1), "phi": np.full((n, 1), 0.3)}),
        "PFCands": _lists(parts),
        "FatJetPFCands": _lists({"jetIdx": link, "pFCandsIdx": np.tile(np.arange(n_parts), (n, 1))}),
    }
    branches |= {path: np.array(fired, np.bool_) for path, fired in (triggers or {}).items()}
    if met is not None:
        branches |= {"MET_pt": np.array(met, np.float32), "MET_phi": np.zeros(n, np.float32)}
    if is_mc:
        branches["genWeight"] = rng.uniform(0.5, 2, n)
        branches["GenJetAK8"] = _lists(truth)
        if parton_shower is not None:
            branches["PSWeight"] = ak.from_regular(np.tile(np.array(parton_shower, np.float32), (n, 1)))
        branches["GenPart"] = _particles(particles)
    with uproot.recreate(path) as file:
        file.mktree("Events", {name: values for name, values in branches.items() if name not in without})
    return path


def _lists(columns: dict[str, np.ndarray]) -> ak.Array:
    kinds = {name: np.int32 if values.dtype.kind == "i" else np.float32 for name, values in columns.items()}
    return ak.zip({name: ak.from_regular(values.astype(kinds[name])) for name, values in columns.items()})


def _particles(particles: Sequence[Sequence[Particle]]) -> ak.Array:
    counts = [len(event) for event in particles]
    flat = np.array([particle for event in particles for particle in event], np.float64).reshape(-1, 4)
    names = {"pdgId": np.int32, "genPartIdxMother": np.int16, "eta": np.float32, "phi": np.float32}
    columns = {name: flat[:, place].astype(kind) for place, (name, kind) in enumerate(names.items())}
    columns["pt"] = np.full(len(flat), 200, np.float32)
    return ak.unflatten(ak.zip(columns), counts)
