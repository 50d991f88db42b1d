"""Existing corrections and smearing, applied to jets."""

from __future__ import annotations

import pickle
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import correctionlib
import correctionlib.schemav2 as cs
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from models.card import ModelCard, card_path, write_card
from processors import jet_calibration
from processors.errors import InputError
from processors.jet_calibration import (
    JetCalibration,
    Smearing,
    calibrate,
    calibrated_algo,
    check,
    cone_radius,
    event_ids,
    scale_jets,
    scale_uncertainty,
    smear,
    smear_jets,
)
from processors.record import EventRecord, Jets, event_identity

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

INTEGERS = {"EventID"}
STRINGS = {"systematic"}
RESOLUTION, SCALE_FACTOR = "Dijet2026_JRV1_MC_PtResolution_{algo}", "Dijet2026_JRV1_MC_ScaleFactor_{algo}"


def correction(name: str, inputs: Sequence[str], data: Any) -> cs.Correction:
    kinds = {**dict.fromkeys(inputs, "real"), **dict.fromkeys(INTEGERS, "int"), **dict.fromkeys(STRINGS, "string")}
    variables = [cs.Variable.model_validate({"name": key, "type": kinds[key]}) for key in inputs]
    output = cs.Variable(name="correction", type="real")
    return cs.Correction(name=name, version=1, inputs=variables, output=output, data=data)


def formula(expression: str, *variables: str) -> cs.Formula:
    return cs.Formula(nodetype="formula", expression=expression, parser="TFormula", variables=list(variables))


def smearing_recipe(scale_factor: str = "JERSF", *, horn: bool = True) -> cs.Correction:
    """The recipe of CMS: a Gaussian by hash of (JetPt, JetEta, Rho, EventID) for unmatched jets, else scaled."""
    noise = cs.HashPRNG(nodetype="hashprng", inputs=["JetPt", "JetEta", "Rho", "EventID"], distribution="normal")
    stochastic = cs.Transform(
        nodetype="transform",
        input="JetPt",
        rule=noise,
        content=formula("1+sqrt(max(x*x-1,0))*y*z", scale_factor, "JER", "JetPt"),
    )
    unmatched = cs.Binning(
        nodetype="binning",
        input="JetEta",
        edges=[-99.9, -3.0, -2.5, 2.5, 3.0, 99.9],
        content=[stochastic, 1.0, stochastic, 1.0, stochastic],
        flow="error",
    )
    data = cs.Binning(
        nodetype="binning",
        input="GenPt",
        edges=[-1.0, 0.0, 1.0],
        content=[unmatched if horn else stochastic, formula("1+(x-1)*(y-z)/y", scale_factor, "JetPt", "GenPt")],
        flow="clamp",
    )
    return correction("JERSmear", ["JetPt", "JetEta", "GenPt", "Rho", "EventID", "JER", scale_factor], data)


def categories(values: dict[str, float]) -> cs.Category:
    items = [cs.CategoryItem(key=key, value=value) for key, value in values.items()]
    return cs.Category(nodetype="category", input="systematic", content=items)


def write(path: Path, *corrections: cs.Correction, compound: list[cs.CompoundCorrection] | None = None) -> str:
    content = cs.CorrectionSet(schema_version=2, corrections=list(corrections), compound_corrections=compound)
    path.write_text(content.model_dump_json(exclude_unset=True))
    return str(path)


@pytest.fixture
def jerc_file(tmp_path: Path) -> str:
    """Resolution 1 / sqrt(pt), scale factor 1.2 (1.3, 1.1), levels 2 - pt/100 and 1.1, uncertainty 0.1 |eta|."""
    stack = cs.CompoundCorrection(
        name="Dijet2026_V1_MC_L1L2L3Res_AK4PF",
        inputs=[cs.Variable(name=name, type="real") for name in ("JetA", "JetEta", "JetPt", "Rho")],
        output=cs.Variable(name="correction", type="real"),
        inputs_update=["JetPt"],
        input_op="*",
        output_op="*",
        stack=["Dijet2026_V1_MC_L1FastJet_AK4PF", "Dijet2026_V1_MC_L2Relative_AK4PF"],
    )
    return write(
        tmp_path / "jet_jerc.json",
        correction("Dijet2026_JRV1_MC_PtResolution_AK4PF", ["JetEta", "JetPt", "Rho"], formula("1/sqrt(x)", "JetPt")),
        correction(
            "Dijet2026_JRV1_MC_ScaleFactor_AK4PF",
            ["JetEta", "JetPt", "systematic"],
            categories({"nom": 1.2, "up": 1.3, "down": 1.1, "stat_up": 1.25}),
        ),
        correction(
            "Dijet2026_V1_MC_L1FastJet_AK4PF", ["JetA", "JetPt", "Rho"], formula("1-x*y/z", "JetA", "Rho", "JetPt")
        ),
        correction("Dijet2026_V1_MC_L2Relative_AK4PF", ["JetEta", "JetPt"], formula("2-x/100", "JetPt")),
        correction("Dijet2026_V1_DATA_L2L3Residual_AK4PF", ["JetEta", "JetPt"], 1.1),
        correction("Dijet2026_V1_MC_Total_AK4PF", ["JetEta", "JetPt"], formula("0.1*abs(x)", "JetEta")),
        correction("Dijet2026_V1_MC_Runs_AK4PF", ["run", "JetPhi"], formula("x+y", "run", "JetPhi")),
        correction("Dijet2026_V1_MC_Odd_AK4PF", ["JetColour"], formula("x", "JetColour")),
        smearing_recipe(),
        compound=[stack],
    )


def make_jets(events: list[list[tuple[float, float, float]]], **extra: list[Any]) -> Jets:
    """Jets from (pt, eta, phi) of each event; the mass is a tenth of pt."""
    flat = np.array([jet for event in events for jet in event], np.float32).reshape(-1, 3)
    offsets = np.cumsum([0, *(len(event) for event in events)]).astype(np.int64)
    columns = {name: np.array(values) for name, values in extra.items()}
    pt, eta, phi = (np.ascontiguousarray(flat[:, k]) for k in range(3))
    return Jets(offsets, pt, eta, phi, pt / np.float32(10), columns)


def make_record(jets: Jets, **columns: Any) -> EventRecord:
    n = jets.n_events
    numbers = np.arange(1, n + 1)
    values: dict[str, Any] = {
        "dataset": "toy",
        "is_mc": True,
        "file": "toy.root",
        "entry_start": 0,
        "run": numbers,
        "luminosity_block": numbers,
        "event": numbers.astype(np.uint64),
        "has_event_id": True,
        "identity": event_identity("toy", numbers, numbers, numbers.astype(np.uint64)),
        "weight": np.ones(n),
        "rho": np.full(n, 20, np.float32),
        "npv": None,
        "true_interactions": None,
        "jets": jets,
    }
    return EventRecord(**{**values, **columns})


# Corrections of jets


def test_without_corrections_the_record_itself_comes_back(jerc_file: str) -> None:
    record = make_record(make_jets([[(50, 0, 0)]]))

    assert calibrate(record, JetCalibration(), "AK4PF") == (record, {})
    assert calibrate(record, JetCalibration(jerc_file, data="x"), "AK4PF")[0] is record


def test_a_level_multiplies_pt_and_mass_and_jets_are_put_in_order_again(jerc_file: str) -> None:
    # 2 - pt/100 makes 120 -> 96, 110 -> 99 and 50 -> 75
    record = make_record(make_jets([[(120, 0, 0), (110, 1, 0)], [(50, 2, 0)]], n_constituents=[7, 8, 9]))
    settings = JetCalibration(jerc_file, simulation="Dijet2026_V1_MC_L2Relative_{algo}")

    corrected, counts = calibrate(record, settings, "AK4PF")

    np.testing.assert_allclose(corrected.jets.pt, [99, 96, 75], rtol=1e-6)
    np.testing.assert_allclose(corrected.jets.mass, [9.9, 9.6, 7.5], rtol=1e-6)
    assert corrected.jets.eta.tolist() == [1, 0, 2]
    assert corrected.jets.extra["n_constituents"].tolist() == [8, 7, 9]
    assert counts == {}


def test_a_compound_correction_starts_from_the_raw_momentum(jerc_file: str) -> None:
    # raw 100 (1 - 0.2) = 80; area 0.5, rho 20: 1 - 10/80 = 0.875, pt 70; 2 - 0.7 = 1.3, pt 91
    record = make_record(make_jets([[(100, 0, 0)]], raw_factor=[0.2], area=[0.5]))
    settings = JetCalibration(jerc_file, simulation="Dijet2026_V1_MC_L1L2L3Res_{algo}", undo_raw_factor=True)

    corrected, _ = calibrate(record, settings, "AK4PF")

    np.testing.assert_allclose(corrected.jets.pt, [91], rtol=1e-6)
    assert jet_calibration.needed_columns(settings, "AK4PF", is_mc=True) == ("area", "raw_factor")


def test_the_residual_is_applied_to_data_only(jerc_file: str) -> None:
    settings = JetCalibration(jerc_file, data="Dijet2026_V1_DATA_L2L3Residual_{algo}")
    jets = make_jets([[(100, 0, 0)]])

    np.testing.assert_allclose(calibrate(make_record(jets, is_mc=False), settings, "AK4PF")[0].jets.pt, [110], 1e-6)
    assert calibrate(make_record(jets), settings, "AK4PF")[0].jets.pt.tolist() == [100]


def test_inputs_of_events_reach_each_of_their_jets(jerc_file: str) -> None:
    # run + phi: events 1 and 2 of runs 1 and 2
    record = make_record(make_jets([[(50, 0, 1), (40, 0, 0.5)], [(30, 0, 0)]]))
    settings = JetCalibration(jerc_file, simulation="Dijet2026_V1_MC_Runs_{algo}")

    corrected, _ = calibrate(record, settings, "AK4PF")

    np.testing.assert_allclose(corrected.jets.pt, [100, 60, 60], rtol=1e-6)


def test_jets_a_correction_turns_over_are_left_out_and_counted(jerc_file: str) -> None:
    record = make_record(make_jets([[(250, 0, 0), (100, 0, 0)]]))
    settings = JetCalibration(jerc_file, simulation="Dijet2026_V1_MC_L2Relative_{algo}")

    corrected, counts = calibrate(record, settings, "AK4PF")

    np.testing.assert_allclose(corrected.jets.pt, [100], rtol=1e-6)
    assert corrected.jets.offsets.tolist() == [0, 1]
    assert counts == {"calibrated jets with pt <= 0": 1}


def test_columns_and_rho_the_file_lacks_are_named(jerc_file: str) -> None:
    settings = JetCalibration(jerc_file, simulation="Dijet2026_V1_MC_L1FastJet_{algo}")
    jets = make_jets([[(100, 0, 0)]])
    with pytest.raises(InputError, match=r"toy\.root has no jet column 'area'"):
        calibrate(make_record(jets), settings, "AK4PF")

    with_area = make_record(replace(jets, extra={"area": np.array([0.5])}), rho=None)
    with pytest.raises(InputError, match=r"toy\.root has no rho.*set calibration\.rho"):
        calibrate(with_area, settings, "AK4PF")

    corrected, _ = calibrate(with_area, replace(settings, rho=20.0), "AK4PF")
    np.testing.assert_allclose(corrected.jets.pt, [90], rtol=1e-6)  # 100 - 0.5 20


def test_the_uncertainty_of_the_scale_is_relative(jerc_file: str) -> None:
    record = make_record(make_jets([[(50, -2, 0), (40, 1, 0)]]))
    settings = JetCalibration(jerc_file, uncertainty="Dijet2026_V1_MC_Total_{algo}")

    np.testing.assert_allclose(scale_uncertainty(record, settings, "AK4PF"), [0.2, 0.1])
    assert scale_uncertainty(record, JetCalibration(), "AK4PF").tolist() == [0, 0]
    assert scale_uncertainty(replace(record, is_mc=False), settings, "AK4PF").tolist() == [0, 0]


def test_jets_without_an_uncertainty_in_the_file_are_not_shifted(tmp_path: Path) -> None:
    # as in Summer22_22Sep2023_V3_MC_Total_AK4PFPuppi, which has -999 beyond |eta| 5.4
    total = cs.Binning(nodetype="binning", input="JetEta", edges=[-5.4, 5.4], content=[0.03], flow=-999.0)
    path = write(tmp_path / "jerc.json", correction("V3_MC_Total_AK4PF", ["JetEta", "JetPt"], total))
    record = make_record(make_jets([[(50, -2, 0), (40, 5.5, 0)]]))

    got = scale_uncertainty(record, JetCalibration(path, uncertainty="V3_MC_Total_{algo}"), "AK4PF")

    assert got.tolist() == [0.03, 0]


def test_an_uncertainty_that_depends_on_the_area_asks_for_it_in_simulation(jerc_file: str) -> None:
    settings = JetCalibration(jerc_file, uncertainty="Dijet2026_V1_MC_L1FastJet_{algo}")

    assert jet_calibration.needed_columns(settings, "AK4PF", is_mc=True) == ("area",)
    assert jet_calibration.needed_columns(settings, "AK4PF", is_mc=False) == ()


def test_truth_jets_follow_their_jets_into_the_new_order() -> None:
    jets = make_jets([[(50, 0, 0), (40, 1, 0)], [(30, 2, 0)]])

    scaled, matched, lost = scale_jets(jets, np.array([0.5, 2, 1]), np.array([7, -1, 9], np.int32))

    assert scaled.pt.tolist() == [80, 25, 30]
    assert matched is not None
    assert matched.tolist() == [-1, 7, 9]
    assert dict(scaled.extra) == {}
    assert lost == {}


# Smearing


@pytest.fixture
def smearing(jerc_file: str) -> Smearing:
    return Smearing(jerc_file, RESOLUTION, SCALE_FACTOR)


def evaluate_recipe(recipe: cs.Correction, *values: float) -> float:
    names = [variable.name for variable in recipe.inputs]
    return float(
        recipe.to_evaluator().evaluate(
            *(int(x) if k in INTEGERS else float(x) for k, x in zip(names, values, strict=True))
        )
    )


@pytest.mark.parametrize("name", ["JERSF", "JERsf"])
def test_the_recipe_of_these_tests_is_the_official_one(name: str) -> None:
    recipe = smearing_recipe(name)

    # values of the jer_smear.json.gz that CMS publishes
    assert evaluate_recipe(recipe, 50, 0.5, -1, 20, 12345, 0.15, 1.1) == pytest.approx(0.9819008790493454, rel=1e-12)
    assert evaluate_recipe(recipe, 50, 0.5, -1, 20, 12346, 0.15, 1.1) == pytest.approx(1.025868977542906, rel=1e-12)
    assert evaluate_recipe(recipe, 50, 0.5, 45, 20, 12345, 0.15, 1.1) == pytest.approx(1.01)


def jet_arrays(**changes: Any) -> dict[str, Any]:
    """A jet of 100 GeV (resolution 0.1) without truth partner."""
    values = {"pt": 100.0, "eta": 0.5, "truth_pt": -1.0, "rho": 20.0, "event_id": 12345}
    return {key: np.atleast_1d(changes.get(key, value)) for key, value in values.items()}


@pytest.mark.parametrize(("systematic", "scale"), [("nom", 1.2), ("up", 1.3), ("down", 1.1), ("stat_up", 1.25)])
def test_an_unmatched_jet_is_smeared_at_random_by_its_systematic(
    smearing: Smearing, systematic: str, scale: float
) -> None:
    got = smear_jets(**jet_arrays(), smearing=smearing, systematic=systematic)

    expected = evaluate_recipe(smearing_recipe(), 100, 0.5, -1, 20, 12345, 0.1, scale)
    assert got == pytest.approx([expected], rel=1e-12)
    assert smear_jets(**jet_arrays(), smearing=replace(smearing, systematic=systematic)) == pytest.approx(got)


@pytest.mark.parametrize("truth_pt", [71.0, 95.0, 129.0])
def test_a_matched_jet_moves_away_from_its_truth_jet(smearing: Smearing, truth_pt: float) -> None:
    got = smear_jets(**jet_arrays(truth_pt=truth_pt), smearing=smearing)

    assert got == pytest.approx([1 + 0.2 * (100 - truth_pt) / 100])


@pytest.mark.parametrize("truth_pt", [69.9, 130.1, 0.0])  # three resolutions are 30 GeV
def test_a_truth_jet_beyond_three_resolutions_is_no_partner(smearing: Smearing, truth_pt: float) -> None:
    got = smear_jets(**jet_arrays(truth_pt=truth_pt), smearing=smearing)

    assert got == pytest.approx(smear_jets(**jet_arrays(), smearing=smearing))


def test_no_jets_have_no_smearing(smearing: Smearing) -> None:
    none: dict[str, Any] = {key: values[:0] for key, values in jet_arrays().items()}

    assert smear_jets(**none, smearing=smearing).shape == (0,)


def test_the_width_added_is_the_difference_in_quadrature(smearing: Smearing) -> None:
    n = 20000
    arrays: dict[str, Any] = {key: np.repeat(values, n) for key, values in jet_arrays().items()}

    factor = smear_jets(**{**arrays, "event_id": np.arange(1, n + 1)}, smearing=smearing)

    width = 0.1 * np.sqrt(1.2**2 - 1)
    assert np.mean(factor) == pytest.approx(1, abs=5 * width / np.sqrt(n))
    assert np.std(factor) == pytest.approx(width, rel=5 / np.sqrt(2 * n))


def test_the_smeared_jet_keeps_ten_mega_electronvolt(tmp_path: Path) -> None:
    path = write(
        tmp_path / "wide.json",
        correction("JER_AK4PF", ["JetPt"], 10.0),
        correction("SF_AK4PF", ["JetEta"], 5.0),
        smearing_recipe(),
    )
    arrays: dict[str, Any] = {key: np.repeat(values, 50) for key, values in jet_arrays(pt=0.02).items()}

    factor = smear_jets(**{**arrays, "event_id": np.arange(1, 51)}, smearing=Smearing(path, "JER_{algo}", "SF_{algo}"))

    assert np.min(factor) * 0.02 == pytest.approx(0.01)


def test_the_recipe_may_lie_in_a_file_of_its_own_with_the_older_spelling(jerc_file: str, tmp_path: Path) -> None:
    path = write(tmp_path / "jer_smear.json", smearing_recipe("JERsf", horn=False))
    smearing = Smearing(jerc_file, RESOLUTION, SCALE_FACTOR, smear_file=path)

    got = smear_jets(**jet_arrays(eta=2.7), smearing=smearing)

    expected = evaluate_recipe(smearing_recipe(horn=False), 100, 2.7, -1, 20, 12345, 0.1, 1.2)
    assert got == pytest.approx([expected], rel=1e-12)
    assert jet_calibration.files(JetCalibration(smearing=smearing)) == (jerc_file, path)


def test_a_separate_uncertainty_of_the_scale_factor_is_relative(tmp_path: Path) -> None:
    path = write(
        tmp_path / "split.json",
        correction("J_MC_PtResolution_AK4PF", ["JetEta", "JetPt", "Rho"], 0.1),
        correction("J_MC_ScaleFactor_AK4PF", ["JetEta", "JetPt"], 1.2),
        correction("J_MC_SFUncertainty_AK4PF", ["JetEta", "JetPt"], 0.05),
        smearing_recipe(),
    )
    smearing = Smearing(path, "J_MC_PtResolution_{algo}", "J_MC_ScaleFactor_{algo}")

    for systematic, scale in (("nom", 1.2), ("up", 1.2 * 1.05), ("down", 1.2 * 0.95)):
        got = smear_jets(**jet_arrays(truth_pt=90), smearing=smearing, systematic=systematic)
        assert got == pytest.approx([1 + (scale - 1) * 0.1])
    with pytest.raises(InputError, match="knows no systematic 'stat_up'"):
        smear_jets(**jet_arrays(), smearing=smearing, systematic="stat_up")


def test_only_a_truth_jet_in_half_the_cone_is_a_partner(smearing: Smearing) -> None:
    # dR of 0.19 and 0.21 at pi, half the cone is 0.2; the third jet has no truth jet
    jets = make_jets([[(100, 0, 3.1), (100, 0, -1)], [(100, 1, 0)]])
    truth = make_jets([[(90, 0, 3.1 + 0.19 - 2 * np.pi), (90, 0, -0.79)], []])
    settings = JetCalibration(smearing=smearing)

    factor = smear(make_record(jets, truth=truth), np.array([0, 1, -1], np.int32), settings, "AK4PF")

    # 1 + 0.2 (100 - 90)/100; the second would have the same if matched
    assert factor[0] == pytest.approx(1.02)
    assert factor[1] != pytest.approx(1.02)


def make_events(n: int) -> tuple[EventRecord, NDArray[np.int32]]:
    rng = np.random.default_rng(5)
    events = [[(float(rng.uniform(50, 100)), float(rng.uniform(-2, 2)), 0.0)] * 2 for _ in range(n)]
    return make_record(make_jets(events)), np.full(2 * n, -1, np.int32)


def take(record: EventRecord, first: int, last: int) -> EventRecord:
    """Events of a record of two jets each, as another chunk would hold them."""
    jets, part = record.jets, slice(2 * first, 2 * last)
    some = Jets(jets.offsets[: last - first + 1], jets.pt[part], jets.eta[part], jets.phi[part], jets.mass[part])
    rho = None if record.rho is None else record.rho[first:last]
    return replace(record, jets=some, identity=record.identity[first:last], rho=rho)


@hypothesis_settings(deadline=None, max_examples=10)
@given(cuts=st.lists(st.integers(0, 8), max_size=3))
def test_smearing_does_not_depend_on_chunks(cuts: list[int], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = write(
        tmp_path_factory.mktemp("jer") / "jet_jerc.json",
        correction("JER", ["JetPt"], 0.1),
        correction("SF", ["JetEta"], 1.2),
        smearing_recipe(),
    )
    settings = JetCalibration(smearing=Smearing(path, "JER", "SF"))
    record, matched = make_events(8)
    whole = smear(record, matched, settings, "AK4PF")

    edges = sorted({0, *cuts, 8})
    chunks = [take(record, first, last) for first, last in pairwise(edges)]
    parts = [smear(chunk, np.full(len(chunk.jets), -1, np.int32), settings, "AK4PF") for chunk in chunks]

    assert np.concatenate(parts).tolist() == whole.tolist()
    assert len(set(whole[::2].tolist())) == 8


def test_event_numbers_are_positive_and_fit_into_31_bits() -> None:
    identity = np.random.default_rng(2).integers(0, 2**64, 10000, dtype=np.uint64)

    ids = event_ids(identity)

    assert ids.min() > 0
    assert ids.max() < 2**31
    assert ids.max() > 2**30
    assert len(np.unique(ids)) > 9990  # birthday: 10000^2 / 2^32 = 0.02 pairs expected


def test_data_and_runs_without_smearing_stay_as_they_are(smearing: Smearing) -> None:
    record, matched = make_events(2)

    assert smear(record, matched, JetCalibration(), "AK4PF").tolist() == [1] * 4
    data = replace(record, is_mc=False)
    assert smear(data, matched, JetCalibration(smearing=smearing), "AK4PF").tolist() == [1] * 4


@pytest.mark.parametrize(("algo", "radius"), [("AK4PF", 0.4), ("AK8PFPuppi", 0.8), ("AntiKt4", 0.4), ("AntiKt10", 1.0)])
def test_the_cone_is_in_the_name_of_the_algorithm(algo: str, radius: float) -> None:
    assert cone_radius(algo) == radius


def test_an_algorithm_without_a_cone_in_its_name_has_the_usual_one() -> None:
    assert cone_radius("Jets") == 0.4


# Networks


@pytest.fixture
def network(tmp_path: Path) -> str:
    """The factor 1 + 0.01 npv - 0.1 |eta|."""
    weights = numpy_helper.from_array(np.array([[0.01], [-0.1]], np.float32), "weights")
    offset = numpy_helper.from_array(np.array([1.0], np.float32), "offset")
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["jets", "weights"], ["product"]),
            helper.make_node("Add", ["product", "offset"], ["factor"]),
        ],
        "line",
        [helper.make_tensor_value_info("jets", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("factor", TensorProto.FLOAT, ["n", 1])],
        [weights, offset],
    )
    path = tmp_path / "line.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), str(path))
    write_card(ModelCard("calibration", ("npv", "abs_eta"), lowest=0.75, highest=2.0), card_path(path))
    return str(path)


def test_a_network_is_applied_after_the_correction(jerc_file: str, network: str) -> None:
    # residual 1.1; factors 1 + 0.1 - 0.2 = 0.9, 1 + 0.1 and 1 + 0.2 - 0.5 = 0.7, which becomes 0.75
    jets = make_jets([[(100, -2, 0), (90, 0, 0)], [(40, 5, 0)]])
    record = make_record(jets, is_mc=False, npv=np.array([10, 20], np.int32))
    settings = JetCalibration(jerc_file, data="Dijet2026_V1_DATA_L2L3Residual_{algo}", onnx=network)

    corrected, counts = calibrate(record, settings, "AK4PF")

    np.testing.assert_allclose(corrected.jets.pt, [108.9, 99, 33], rtol=1e-5)
    assert corrected.jets.eta.tolist() == [0, -2, 5]
    assert counts == {"jets with a clipped calibration factor": 1}
    assert calibrated_algo(settings, "AK4PF") == "AK4PFDeepSets"
    assert jet_calibration.files(settings) == (jerc_file, network, str(card_path(network)))


def test_a_feature_the_jets_lack_is_named(network: str) -> None:
    card = ModelCard("calibration", ("npv", "muon_fraction"))
    write_card(card, card_path(network))
    settings = JetCalibration(onnx=network)

    with pytest.raises(InputError, match=r"toy\.root has no jet column muon_fraction"):
        calibrate(make_record(make_jets([[(100, 0, 0)]]), npv=np.array([3], np.int32)), settings, "AK4PF")
    assert jet_calibration.network_needs(settings).jets == ("muon_fraction",)
    assert jet_calibration.network_needs(settings).event == ("npv",)


def test_without_a_network_the_algorithm_keeps_its_name() -> None:
    assert calibrated_algo(JetCalibration(), "AK4PF") == "AK4PF"


# Before work begins


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"simulation": "Dijet2026_V1_MC_L2Relativ_{algo}"}, "did you mean 'Dijet2026_V1_MC_L2Relative_AK4PF'"),
        ({"simulation": "Dijet2026_V1_MC_Odd_{algo}"}, "needs the input JetColour"),
        ({"data": "Dijet2026_V1_MC_Odd_{algo}"}, "needs the input JetColour"),
        ({"file": "nowhere.json"}, r"'nowhere\.json' does not exist"),
        ({"onnx": "nowhere.onnx"}, r"calibration\.onnx: .* does not exist"),
        ({"smearing": {"scale_factor": "SF"}}, "has no correction 'SF'"),
        ({"smearing": {"systematic": "left"}}, "refuses an input"),
        ({"smearing": {"smear_file": "nowhere.json"}}, "does not exist"),
    ],
)
def test_faults_of_the_settings_are_found_at_the_start(
    jerc_file: str, smearing: Smearing, changes: dict[str, Any], message: str
) -> None:
    settings = JetCalibration(jerc_file, simulation="Dijet2026_V1_MC_L1L2L3Res_{algo}", smearing=smearing)
    check(settings, [("AK4PF", True), ("AK4PF", False)])

    if "smearing" in changes:
        changes = {"smearing": replace(smearing, **changes["smearing"])}

    with pytest.raises(InputError, match=message):
        check(replace(settings, **changes), [("AK4PF", True), ("AK4PF", False)])


@pytest.mark.parametrize("arguments", [{"file": "a.json"}, {"simulation": "L2"}, {"data": "L2"}])
def test_a_file_and_names_in_it_belong_together(arguments: dict[str, str]) -> None:
    with pytest.raises(InputError, match=r"calibration\.file"):
        JetCalibration(**arguments)  # type: ignore[arg-type]  # text in every case


def test_settings_are_small_and_survive_pickling(smearing: Smearing) -> None:
    settings = JetCalibration(smearing=smearing)
    record, matched = make_events(2)
    smear(record, matched, settings, "AK4PF")

    assert pickle.loads(pickle.dumps(settings)) == settings
    assert len(pickle.dumps(settings)) < 1000


def test_the_file_of_these_tests_is_valid(jerc_file: str) -> None:
    assert "Dijet2026_V1_MC_L1L2L3Res_AK4PF" in list(correctionlib.CorrectionSet.from_file(jerc_file).compound)
