"""Formats told by their branches, and the branches a job needs found by name."""

from __future__ import annotations

from typing import Any

import pytest

from processors.errors import InputError
from processors.formats import FORMATS, ReadRequest, default_jet_algo, dimensions, find_columns, recognise

NANOAOD = frozenset(
    {"run", "luminosityBlock", "event", "genWeight", "fixedGridRhoFastjetAll", "PV_npvs", "HLT_PFJet40", "nJet"}
    | {f"Jet_{name}" for name in ("pt", "eta", "phi", "mass", "jetId", "puId", "genJetIdx")}
    | {f"GenJet_{name}" for name in ("pt", "eta", "phi", "mass")}
)
ATHENA = ("EventInfoAuxDyn.runNumber", "EventInfoAuxDyn.mcEventWeights", "PrimaryVerticesAuxDyn.vertexType")
PHYSLITE = frozenset({*ATHENA, *(f"AnalysisJetsAuxDyn.{name}" for name in ("pt", "eta", "phi", "m", "NNJvtPass"))})
DELPHES = frozenset({"Jet", "Jet_size", "Event/Event.Weight", *(f"Jet/Jet.{name}" for name in ("PT", "Eta", "Phi"))})
FLAT = frozenset({"jets_pt", "jets_eta", "jets_phi", "w", "HLT_A"})
FLAT_MAP = {"jet_pt": "jets_pt", "jet_eta": "jets_eta", "jet_phi": "jets_phi", "weight": "w", "energy_unit": "MeV"}


def faults_of(names: frozenset[str], **request: Any) -> str:
    with pytest.raises(InputError) as caught:
        find_columns(names, ReadRequest(**{"is_mc": True, **request}))
    return str(caught.value)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (NANOAOD, "nanoaod"),
        (NANOAOD | {"JetPFCands_pFCandsIdx"}, "pfnano"),
        (PHYSLITE, "physlite"),
        ({name.replace(".", ":") for name in PHYSLITE}, "physlite"),
        (DELPHES, "delphes"),
        (FLAT, None),
    ],
    ids=["nanoaod", "pfnano", "physlite", "physlite as RNTuple", "delphes", "unknown"],
)
def test_a_format_is_told_by_its_branches(names: frozenset[str], expected: str | None) -> None:
    assert recognise(names) == expected


def test_jets_truth_and_event_columns_of_nanoaod_are_found() -> None:
    got = find_columns(NANOAOD, ReadRequest(is_mc=True, triggers=("HLT_PFJet40", "PFJet40", "HLT_PFJet50")))

    assert got.jets.columns["pt"] == ("Jet_pt",)
    assert got.jets.columns["truth_index"] == ("Jet_genJetIdx",)
    assert got.truth is not None
    assert got.truth.columns["phi"] == ("GenJet_phi",)
    assert got.event["rho"] == "fixedGridRhoFastjetAll"
    assert got.triggers == {"HLT_PFJet40": "HLT_PFJet40", "PFJet40": "HLT_PFJet40"}


def test_rho_is_found_under_its_newer_name() -> None:
    names = NANOAOD - {"fixedGridRhoFastjetAll"} | {"Rho_fixedGridRhoFastjetAll"}

    assert find_columns(names, ReadRequest(is_mc=True)).event["rho"] == "Rho_fixedGridRhoFastjetAll"


def test_data_have_no_truth_and_no_weight_even_if_the_file_does() -> None:
    got = find_columns(NANOAOD, ReadRequest(is_mc=False))

    assert got.truth is None
    assert "weight" not in got.event


def test_data_may_have_a_weight_that_is_named() -> None:
    assert find_columns(NANOAOD, ReadRequest(is_mc=False, weight="genWeight")).event["weight"] == "genWeight"


def test_simulation_without_truth_jets_is_no_fault() -> None:
    names = frozenset(name for name in NANOAOD if not name.startswith("GenJet"))

    assert find_columns(names, ReadRequest(is_mc=True)).truth is None


def test_only_the_columns_asked_for_are_read() -> None:
    request = ReadRequest(is_mc=True, truth=False, jet_columns=("jet_id",), event_columns=())

    got = find_columns(NANOAOD, request)

    momentum = {"Jet_pt", "Jet_eta", "Jet_phi", "Jet_mass"}
    assert set(got.branches()) == momentum | {"Jet_jetId", "run", "luminosityBlock", "event", "genWeight"}


@pytest.mark.parametrize("name", ["AnalysisJets", "Jets"])
def test_the_collections_of_physlite_may_be_named_with_and_without_prefix(name: str) -> None:
    got = find_columns(PHYSLITE, ReadRequest(is_mc=True, jet_collection=name))

    assert got.jets.columns["mass"] == ("AnalysisJetsAuxDyn.m",)
    assert got.energy_unit == 1e-3


def test_a_delphes_file_without_mass_and_run_is_read_without() -> None:
    got = find_columns(DELPHES, ReadRequest(is_mc=True))

    assert set(got.jets.columns) == {"pt", "eta", "phi"}
    assert set(got.event) == {"weight"}


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        ({"jet_collection": "Jets"}, "no branch 'Jets_pt'; nearest: 'Jet_pt'"),
        ({"truth_jet_collection": "GenJets"}, "no branch 'GenJets_pt'; nearest: 'GenJet_pt'"),
        ({"truth_jet_collection": "GenJets"}, "leave out truth_jet_collection 'GenJets' to run without truth jets"),
        ({"weight": "genWieght"}, "no branch 'genWieght'; nearest: 'genWeight'"),
        ({"needed": ("area",)}, "no column 'area', which the settings need"),
        ({"schema": "flat"}, "a flat ntuple needs a branch map"),
        ({"schema": "delphes"}, "no branch 'Jet/Jet.PT'"),
    ],
    ids=["jets", "truth", "without truth", "weight", "needed", "flat", "wrong format"],
)
def test_what_is_missing_is_named_with_what_is_near(request_: dict[str, Any], told: str) -> None:
    assert told in faults_of(NANOAOD, **request_)


def test_all_missing_branches_are_told_at_once() -> None:
    assert len(faults_of(NANOAOD, jet_collection="X", weight="y").splitlines()) == 4


def test_an_unknown_format_is_told_what_to_do() -> None:
    assert "say 'schema', or give a branch map" in faults_of(FLAT)


def test_a_branch_map_makes_any_ntuple_readable() -> None:
    got = find_columns(FLAT, ReadRequest(is_mc=True, branch_map=FLAT_MAP, triggers=("HLT_A",)))

    assert got.format == "flat"
    assert got.energy_unit == 1e-3
    assert got.jets.columns == {"pt": ("jets_pt",), "eta": ("jets_eta",), "phi": ("jets_phi",)}
    assert got.event == {"weight": "w"}
    assert got.triggers == {"HLT_A": "HLT_A"}


def test_a_branch_map_asks_truth_jets_and_weight_of_simulation_only() -> None:
    of_simulation = {**FLAT_MAP, "weight": "absent", "truth_pt": "absent"}
    got = find_columns(FLAT, ReadRequest(is_mc=False, branch_map=of_simulation))
    assert (got.truth, got.event) == (None, {})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"jet_ptt": "jets_pt"}, "unknown column 'jet_ptt'; did you mean 'jet_pt'"),
        ({"jet_eta": "jet_eta"}, "no branch 'jet_eta'; nearest: 'jets_eta'"),
        ({"energy_unit": "TeV"}, "energy_unit is GeV or MeV, got 'TeV'"),
    ],
)
def test_a_mistake_in_a_branch_map_is_named(change: dict[str, str], told: str) -> None:
    assert told in faults_of(FLAT, branch_map={**FLAT_MAP, **change})


def test_a_branch_map_without_momentum_is_refused() -> None:
    assert (
        faults_of(FLAT, branch_map={"jet_pt": "jets_pt", "jet_eta": "jets_eta"}) == "branch map: 'jet_phi' is missing"
    )


@pytest.mark.parametrize(
    ("typename", "expected"),
    [
        ("float", 0),
        ("uint64_t", 0),
        ("std::uint32_t", 0),
        ("ROOT::RNTupleCardinality<std::uint32_t>", 0),
        ("float[]", 1),
        ("std::vector<float>", 1),
        ("ROOT::VecOps::RVec<std::int32_t>", 1),
        ("std::vector<std::vector<int32_t>>", 2),
        ("float[][5]", 2),
        ("TLorentzVector[]", None),
        ("std::string", None),
        ("std::vector<ElementLink<DataVector<xAOD::Jet_v1>>>", None),
    ],
)
def test_the_dimensions_of_a_branch_are_told_by_its_type(typename: str, expected: int | None) -> None:
    assert dimensions(typename) == expected


@pytest.mark.parametrize("file_format", FORMATS)
def test_every_format_has_a_usual_jet_algorithm(file_format: str) -> None:
    assert default_jet_algo(file_format) == ("AntiKt4" if file_format == "physlite" else "AK4PF")
