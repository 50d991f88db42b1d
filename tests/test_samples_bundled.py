from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

import samples
from processors.fileset import load_fileset
from samples.layered_settings import LayeredDetector, data_detector
from samples.response import DetectorSettings, relative_resolution

BUNDLED = Path(samples.__file__).parent / "bundled"


@pytest.fixture(name="injected", scope="module")
def _injected() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((BUNDLED / "injected.json").read_text())
    return content


@pytest.fixture(name="simulation", scope="module")
def _simulation() -> ak.Array:
    return uproot.open(BUNDLED / "simulation.root")["Events"].arrays(filter_name=["*Jet*", "Rho*", "genWeight"])


def test_the_bundled_sample_is_small() -> None:
    assert sum(path.stat().st_size for path in BUNDLED.iterdir()) < 20e6


def test_the_bundled_fileset_names_its_two_files() -> None:
    datasets = load_fileset(BUNDLED / "fileset.json")

    assert [dataset.name for dataset in datasets] == ["simulation", "data"]
    assert all(Path(dataset.files[0].path).exists() for dataset in datasets)


def test_the_bundled_files_hold_the_events_that_were_counted(injected: dict[str, Any]) -> None:
    for name in ("simulation", "data"):
        tree = uproot.open(BUNDLED / f"{name}.root")["Events"]
        assert tree.num_entries == injected["counts"][name]["written"]


def test_the_share_of_data_events_that_could_not_be_recorded_is_negligible(injected: dict[str, Any]) -> None:
    assert injected["share_above_one"] < 1e-3


def test_the_bundled_sample_was_made_with_the_detector_of_today(injected: dict[str, Any]) -> None:
    settings = DetectorSettings()

    assert injected["scale_factor"] == list(settings.scale_factor)
    assert injected["response"] == list(settings.response)
    assert injected["constant"] == list(settings.constant)


def test_simulated_jets_have_the_injected_resolution(simulation: ak.Array) -> None:
    matched = simulation.Jet_genJetIdx >= 0
    truth_pt = simulation.GenJet_pt[simulation.Jet_genJetIdx[matched]]
    truth_eta = simulation.GenJet_eta[simulation.Jet_genJetIdx[matched]]
    rho = ak.broadcast_arrays(simulation.Rho_fixedGridRhoFastjetAll, truth_pt)[0]
    # above 100 GeV no jet threshold cuts into the response
    chosen = (truth_pt > 100.0) & (ak.local_index(truth_pt) < 2)
    ratio, pt, eta, rho = (
        ak.to_numpy(ak.flatten(column[chosen])).astype(np.float64)
        for column in (simulation.Jet_pt[matched] / truth_pt, truth_pt, truth_eta, rho)
    )

    pulls = (ratio - 1.0) / relative_resolution(pt, eta, rho, DetectorSettings())

    # the central 68 % of a Gaussian with 2 % of tails 2.2 times wider is 1.2 % wider than the core
    low, high = np.quantile(pulls, [0.1587, 0.8413])
    assert (high - low) / 2.0 == pytest.approx(1.012, abs=0.02)
    # being among the two leading ones prefers jets measured too high, by a few per cent of their resolution
    assert np.median(pulls) == pytest.approx(0.0, abs=0.08)


CONSTITUENTS = BUNDLED / "constituents"


def test_the_constituent_sample_is_small_and_complete() -> None:
    names = {path.name for path in CONSTITUENTS.iterdir()}

    assert names == {"simulation.root", "data.root", "data_truth.root", "fileset.json", "injected.json"}
    assert sum(path.stat().st_size for path in CONSTITUENTS.iterdir()) < 8e6


def test_the_constituent_fileset_names_files_without_the_truth_of_data() -> None:
    datasets = load_fileset(CONSTITUENTS / "fileset.json")

    assert [dataset.name for dataset in datasets] == ["simulation", "data"]
    assert [len(dataset.files) for dataset in datasets] == [1, 1]


def test_the_constituent_sample_was_made_with_the_detectors_of_today() -> None:
    content = json.loads((CONSTITUENTS / "injected.json").read_text())

    assert content["simulation_detector"]["detector"] == json.loads(json.dumps(asdict(LayeredDetector())))
    assert content["data_detector"]["detector"] == json.loads(json.dumps(asdict(data_detector())))


def test_bundled_candidates_add_up_to_their_jets() -> None:
    events = uproot.open(CONSTITUENTS / "data.root")["Events"].arrays()
    size = ak.to_numpy(ak.flatten(events.Jet_nConstituents))
    pt, phi = (ak.flatten(events[f"PFCands_{name}"][events.JetPFCands_pFCandsIdx]) for name in ("pt", "phi"))

    first = np.concatenate(([0], np.cumsum(size)))[:-1]
    px, py = (np.add.reduceat(ak.to_numpy(pt * angle(phi)), first) for angle in (np.cos, np.sin))

    expected = ak.to_numpy(ak.flatten(events.Jet_pt * (1.0 - events.Jet_rawFactor)))
    # momenta have 10, the raw factor 6 bits
    assert np.median(np.abs(np.hypot(px, py) / expected - 1.0)) < 2e-3
    assert np.allclose(np.hypot(px, py), expected, rtol=0.05)


def test_bundled_jets_point_to_truth_jets_near_them() -> None:
    events = uproot.open(CONSTITUENTS / "simulation.root")["Events"].arrays(filter_name=["Jet_*", "GenJet_*"])
    matched = events.Jet_genJetIdx >= 0
    index = events.Jet_genJetIdx[matched]

    assert ak.all(index < ak.num(events.GenJet_pt))
    d_eta = events.Jet_eta[matched] - events.GenJet_eta[index]
    d_phi = (events.Jet_phi[matched] - events.GenJet_phi[index] + np.pi) % (2 * np.pi) - np.pi
    # 0.3, and what 10 bits leave of an angle
    assert ak.max(np.hypot(d_eta, d_phi)) < 0.31
