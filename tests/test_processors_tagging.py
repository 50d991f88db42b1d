"""The tagging run: from files with large-R jets to histograms of pass and fail."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from large_jet_toys import QCD_EVENT, TOP_EVENT, W_EVENT, write_large_jets
from onnx import TensorProto, helper, numpy_helper

from models.card import ModelCard, write_card
from models.tagging.tagger import NOT_FINITE_SCORE, ForeignTagger, NetworkInput, Scaling
from processors.errors import InputError
from processors.execution import Execution
from processors.fileset import datasets_from
from processors.histogram_files import digest, read_histograms
from processors.histograms import Filled, NamedSums, SparseSums
from processors.large_jets import OUTSIDE_PT, LargeJets
from processors.record import Jets
from processors.settings_file import settings_from
from processors.tagging import (
    NO_RADIATION,
    ProbeSelection,
    TaggerChoice,
    TaggingSettings,
    look,
    run,
    summary_lines,
    trigger_pt,
)
from processors.tagging_histograms import OUTSIDE_BINNING, TaggingBinning, score_axes, scores_in_bins
from processors.tagging_variations import TaggingSystematics

if TYPE_CHECKING:
    from pathlib import Path

EVENTS = [TOP_EVENT, W_EVENT, QCD_EVENT, W_EVENT, QCD_EVENT, TOP_EVENT]
UNVARIED = TaggingSystematics(jes=0, jms=0, jer=0, jmr=0, parton_shower=False)


def save_tagger(folder: Path, columns: tuple[str, ...] = ("mass",), cut: float = 50.0) -> str:
    """A network whose score is its first column; our card with one working point lies beside it."""
    path = folder / "toy.onnx"
    graph = helper.make_graph(
        [helper.make_node("Identity", ["features"], ["score"])],
        "toy",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", len(columns)])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n", len(columns)])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), str(path))
    write_card(ModelCard("tagger", columns, ("score",), working_points={"half": cut}), path.with_suffix(".json"))
    return str(path)


def tagged(
    folder: Path, files: dict[str, tuple[Path, dict[str, Any]]], **settings: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    document = {name: {"files": [str(path)], "metadata": told} for name, (path, told) in files.items()}
    given = {"execution": Execution(executor="iterative"), "systematics": UNVARIED, **settings}
    if "taggers" not in given:
        given["taggers"] = {"toy": TaggerChoice(save_tagger(folder))}
    chosen = TaggingSettings(**given)
    job, notes = look(datasets_from(document, folder), chosen)
    output = folder / "out"
    (output / ".chunks").mkdir(parents=True)
    facts = run(job, chosen, output, notes, output / ".chunks")
    return read_histograms(output), facts


def test_jets_are_counted_by_truth_pass_and_fail_pt_and_mass(tmp_path: Path) -> None:
    path = write_large_jets(tmp_path / "mc.root", EVENTS)

    histograms, facts = tagged(tmp_path, {"mc": (path, {"is_mc": True})})

    passing = histograms["passing"][{"dataset": "mc", "variation": "nominal", "tagger": "toy", "working_point": "half"}]
    weights = uproot_weights(path)
    # jets at azimuth 0 have a mass of 80 GeV and pass, the others have 10 GeV
    expected = {
        ("top", "pass"): weights[[0, 5]],
        ("other", "fail"): weights[[0, 5]],
        ("w", "pass"): weights[[1, 3]],
        ("unmatched", "fail"): weights[[1, 3]],
        ("qcd", "pass"): weights[[2, 4]],
        ("qcd", "fail"): weights[[2, 4]],
    }
    for category in passing.axes["category"]:
        for result in ("pass", "fail"):
            got = passing[{"category": category, "result": result}]
            values = expected.get((category, result), np.zeros(0))
            assert got.sum(flow=True).value == pytest.approx(values.sum())
            assert got.sum(flow=True).variance == pytest.approx((values**2).sum())
    of_w = passing[{"category": "w", "result": "pass"}]
    assert of_w[{"pt": 500j, "eta": 0, "mass": 80j}].value == pytest.approx(weights[[1, 3]].sum())
    assert facts["taggers"] == {"toy": {"half": 50.0}}
    assert facts["histograms_digest"] == digest(histograms)


def uproot_weights(path: Path) -> np.ndarray:
    import uproot

    with uproot.open(path) as file:
        weights: np.ndarray = file["Events/genWeight"].array(library="np")
    return weights


def test_the_result_does_not_depend_on_the_executor(tmp_path: Path) -> None:
    path = write_large_jets(tmp_path / "mc.root", 10 * EVENTS)
    taggers = {"toy": TaggerChoice(save_tagger(tmp_path))}
    digests = []

    for executor in ("iterative", "futures"):
        (tmp_path / executor).mkdir()
        execution = Execution(executor=executor, workers=1, chunksize=13)
        given = {"taggers": taggers, "execution": execution, "systematics": TaggingSystematics()}
        _, facts = tagged(tmp_path / executor, {"mc": (path, {"is_mc": True})}, **given)
        digests.append(facts["histograms_digest"])

    assert digests[0] == digests[1]


def test_scales_move_jets_between_bins(tmp_path: Path) -> None:
    path = write_large_jets(tmp_path / "mc.root", [QCD_EVENT])
    systematics = replace(UNVARIED, jes=0.2, jms=0.1)

    histograms, _ = tagged(
        tmp_path,
        {"mc": (path, {"is_mc": True})},
        systematics=systematics,
        taggers={"toy": TaggerChoice(save_tagger(tmp_path, cut=85))},
    )

    passing = histograms["passing"][{"dataset": "mc", "tagger": "toy", "working_point": "half", "category": "qcd"}]
    edges = {way: edges_of(passing, way) for way in passing.axes["variation"]}
    # 450 GeV with a mass of 10 GeV, 500 GeV with one of 80 GeV
    assert edges == {
        "nominal": [(400, 10), (500, 80)],
        "jes_up": [(500, 10), (600, 95)],
        "jms_up": [(400, 10), (500, 85)],
        "jes_down": [(350, 5), (400, 60)],
        "jms_down": [(400, 5), (500, 70)],
    }
    passed = [way for way in edges if passing[{"variation": way, "result": "pass"}].sum(flow=True).value > 0]
    assert passed == ["jes_up", "jms_up"]


def edges_of(passing: Any, way: str) -> list[tuple[float, float]]:
    """Lower edges of the bins of pt and mass that have a jet."""
    values = passing[{"variation": way}].values().sum(axis=(0, 2))  # over result and eta
    pt, mass = passing.axes["pt"].edges, passing.axes["mass"].edges
    return [(float(pt[i]), float(mass[j])) for i, j in np.argwhere(values > 0)]


def test_a_worse_resolution_moves_jets_away_from_their_truth_jets(tmp_path: Path) -> None:
    path = write_large_jets(tmp_path / "mc.root", [QCD_EVENT])
    systematics = replace(UNVARIED, jer=0.9, jmr=0.5)

    histograms, _ = tagged(tmp_path, {"mc": (path, {"is_mc": True})}, systematics=systematics)

    passing = histograms["passing"][{"dataset": "mc", "tagger": "toy", "working_point": "half", "category": "qcd"}]
    # the truth jets have 500 and 555.6 GeV, a ninth more than the jets, and soft-drop masses of 20 and 40 GeV
    assert {way: edges_of(passing, way) for way in passing.axes["variation"]} == {
        "nominal": [(400, 10), (500, 80)],
        "jer_up": [(400, 5), (400, 70)],
        "jer_down": [(400, 10), (500, 85)],
        "jmr_up": [(400, 5), (500, 100)],
        "jmr_down": [(400, 15), (500, 60)],
    }


def test_jets_that_are_left_out_are_counted_as_they_are_whatever_is_varied(tmp_path: Path) -> None:
    path = write_large_jets(tmp_path / "mc.root", EVENTS)
    found = []
    for size in (0.0, 0.2):
        folder = tmp_path / str(size)
        folder.mkdir()
        # jets of 500 GeV have a score that is nan, those of 450 GeV are outside
        graph = helper.make_graph(
            [helper.make_node("Log", ["features"], ["score"])],
            "toy",
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 1])],
            [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n", 1])],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
        onnx.save(model, str(folder / "log.onnx"))
        scaling = {"mass": Scaling(median=1000.0)}
        given = ForeignTagger(inputs={"features": NetworkInput(("mass",), scaling=scaling)})
        taggers = {"log": TaggerChoice(str(folder / "log.onnx"), given, {"some": 0.0})}
        _, facts = tagged(
            folder,
            {"mc": (path, {"is_mc": True})},
            taggers=taggers,
            systematics=replace(UNVARIED, jes=size),
            large_jets=LargeJets(min_pt=460),
        )
        found.append(facts["excluded"]["mc"])

    assert found[0] == {OUTSIDE_PT: 6, NOT_FINITE_SCORE: 6}
    assert found[1] == found[0]


def test_without_truth_jets_a_worse_resolution_smears_by_chance_and_a_note_tells(tmp_path: Path) -> None:
    path = write_large_jets(tmp_path / "mc.root", 50 * EVENTS, without=("GenJetAK8",))
    systematics = replace(UNVARIED, jer=0.9, jmr=0.5)

    histograms, facts = tagged(tmp_path, {"mc": (path, {"is_mc": True})}, systematics=systematics)

    passing = histograms["passing"][{"dataset": "mc", "tagger": "toy", "working_point": "half", "category": "qcd"}]
    edges = {way: edges_of(passing, way) for way in passing.axes["variation"]}
    assert edges["nominal"] == edges["jer_down"] == edges["jmr_down"] == [(400, 10), (500, 80)]
    # widths of 8 % in pt and of 11 % in mass: 500 GeV and 80 GeV go to both sides
    assert {400.0, 500.0} <= {pt for pt, mass in edges["jer_up"] if mass > 50}
    masses = [mass for _, mass in edges["jmr_up"] if mass > 50]
    assert min(masses) < 75
    assert max(masses) > 80
    (note,) = facts["notes"]
    assert note.startswith(f"mc: {path} has no truth jets GenJetAK8; jer_up and jmr_up smear its jets by chance")


def test_truth_jets_that_are_left_out_by_setting_are_not_missed(tmp_path: Path) -> None:
    path = write_large_jets(tmp_path / "mc.root", EVENTS, without=("GenJetAK8",))

    _, facts = tagged(tmp_path, {"mc": (path, {"is_mc": True})}, large_jets=LargeJets(truth_collection=None))

    assert facts["notes"] == []


@pytest.mark.parametrize(
    ("binning", "outside"),
    [
        (TaggingBinning(), 0),
        (TaggingBinning(pt=(460, 600)), 6),
        (TaggingBinning(pt=(200, 460)), 6),
        (TaggingBinning(eta=(0.5, 2.0)), 12),
        (TaggingBinning(mass=(50, 60)), 6),
    ],
)
def test_jets_outside_of_the_bins_are_counted_as_they_are_whatever_is_varied(
    tmp_path: Path, binning: TaggingBinning, outside: int
) -> None:
    # six jets of 450 GeV with a mass of 10 GeV and six of 500 GeV with one of 80 GeV, all at an eta of 0
    path = write_large_jets(tmp_path / "mc.root", EVENTS)
    systematics = replace(UNVARIED, jes=0.2)

    histograms, facts = tagged(tmp_path, {"mc": (path, {"is_mc": True})}, binning=binning, systematics=systematics)

    assert facts["excluded"]["mc"] == ({OUTSIDE_BINNING: outside} if outside else {})
    nominal = histograms["passing"][{"variation": "nominal"}].sum(flow=True)
    assert histograms["score"].sum(flow=True).value == pytest.approx(nominal.value)
    if outside:
        assert f"mc: left out {outside} {OUTSIDE_BINNING}" in summary_lines(facts)


def test_a_jet_that_does_not_count_is_told_once(tmp_path: Path) -> None:
    path = write_large_jets(tmp_path / "mc.root", EVENTS)
    given: dict[str, Any] = {"large_jets": LargeJets(min_pt=460), "binning": TaggingBinning(pt=(480, 490))}

    _, facts = tagged(tmp_path, {"mc": (path, {"is_mc": True})}, **given)

    assert facts["excluded"]["mc"] == {OUTSIDE_PT: 6, OUTSIDE_BINNING: 6}


def of_variations(histograms: dict[str, Any], dataset: str) -> dict[str, float]:
    """Sum of the jets of a dataset in each variation, over that of the nominal one."""
    passing = histograms["passing"][{"dataset": dataset, "tagger": "toy", "working_point": "half"}]
    sums = {way: passing[{"variation": way}].sum(flow=True).value for way in passing.axes["variation"]}
    return {way: round(value / sums["nominal"], 6) for way, value in sums.items()}


def test_radiation_is_varied_by_the_weights_of_the_file_in_the_order_of_nanoaod(tmp_path: Path) -> None:
    path = write_large_jets(tmp_path / "mc.root", EVENTS, parton_shower=[1.1, 1.2, 0.9, 0.7])

    histograms, facts = tagged(
        tmp_path, {"mc": (path, {"is_mc": True})}, systematics=replace(UNVARIED, parton_shower=True)
    )

    assert of_variations(histograms, "mc") == {
        "nominal": 1.0, "isr_up": 1.1, "fsr_up": 1.2, "isr_down": 0.9, "fsr_down": 0.7,
    }  # fmt: skip
    assert facts["excluded"]["mc"] == {}


def test_radiation_of_a_sample_without_weights_stays_and_is_told_beside_one_with(tmp_path: Path) -> None:
    weighted = write_large_jets(tmp_path / "a.root", EVENTS, parton_shower=[1.1, 1.2, 0.9, 0.7])
    plain = write_large_jets(tmp_path / "b.root", EVENTS)
    single = write_large_jets(tmp_path / "c.root", EVENTS, parton_shower=[1.3])
    files = {name: (path, {"is_mc": True}) for name, path in (("a", weighted), ("b", plain), ("c", single))}

    histograms, facts = tagged(tmp_path, files, systematics=replace(UNVARIED, parton_shower=True))

    for name in ("b", "c"):
        assert set(of_variations(histograms, name).values()) == {1.0}
        assert facts["excluded"][name] == {NO_RADIATION: len(EVENTS)}
    assert [note.partition(" has ")[2] for note in facts["notes"]] == [
        "no parton-shower weights; isr and fsr leave its jets as they are"
    ]


def test_without_parton_shower_weights_there_are_no_variations_of_radiation(tmp_path: Path) -> None:
    path = write_large_jets(tmp_path / "mc.root", EVENTS)

    histograms, facts = tagged(
        tmp_path, {"mc": (path, {"is_mc": True})}, systematics=replace(UNVARIED, parton_shower=True)
    )

    assert list(histograms["passing"].axes["variation"]) == ["nominal"]
    assert facts["notes"] == []


def test_the_third_jet_of_a_pair_is_limited(tmp_path: Path) -> None:
    # pt 500, 450 and 100 GeV: alpha is 0.21
    path = write_large_jets(tmp_path / "d.root", [QCD_EVENT] * 3, is_mc=False, third_pt=100.0)

    for max_alpha, expected in ((None, 6), (0.22, 6), (0.2, 0)):
        folder = tmp_path / str(max_alpha)
        folder.mkdir()
        selection = ProbeSelection(probe="dijet", max_alpha=max_alpha)
        histograms, _ = tagged(folder, {"data": (path, {"is_mc": False})}, selection=selection)
        assert histograms["passing"].sum(flow=True).value == expected


@pytest.mark.parametrize(("probe", "max_alpha"), [("dijet", 0.0), ("all", 0.3)])
def test_a_limit_on_further_jets_is_above_zero_and_of_pairs(probe: Any, max_alpha: float) -> None:
    with pytest.raises(InputError, match=r"selection\.max_alpha is above 0 and of selection\.probe=dijet"):
        ProbeSelection(probe=probe, max_alpha=max_alpha)


def test_data_are_unlabelled_and_not_varied(tmp_path: Path) -> None:
    path = write_large_jets(tmp_path / "d.root", [QCD_EVENT] * 3, is_mc=False)

    histograms, _ = tagged(tmp_path, {"data": (path, {"is_mc": False})}, systematics=TaggingSystematics())

    passing = histograms["passing"][{"dataset": "data", "tagger": "toy", "working_point": "half"}]
    assert passing[{"category": "unlabelled", "variation": "nominal"}].sum(flow=True).value == 6
    assert passing.sum(flow=True).value == 6


def test_the_leading_jet_or_a_pair_can_be_asked_for(tmp_path: Path) -> None:
    path = write_large_jets(tmp_path / "d.root", [QCD_EVENT] * 3, is_mc=False)

    for probe, delta_phi, expected in (("leading", 2.0, 3), ("dijet", 2.9, 6), ("dijet", 3.1, 0)):
        folder = tmp_path / f"{probe}{expected}"
        folder.mkdir()
        selection = ProbeSelection(probe=probe, min_delta_phi=delta_phi)  # type: ignore[arg-type]
        histograms, _ = tagged(folder, {"data": (path, {"is_mc": False})}, selection=selection)
        assert histograms["passing"].sum(flow=True).value == expected
        assert histograms["cutflow"][{"dataset": "data", "step": "selected"}].value == (3 if expected else 0)


@pytest.mark.parametrize(("min_pt", "expected"), [(55.0, 3), (65.0, 0)])
def test_behind_a_muon_the_leading_jet_away_from_it_is_looked_at(tmp_path: Path, min_pt: float, expected: int) -> None:
    path = write_large_jets(tmp_path / "d.root", [QCD_EVENT] * 3, is_mc=False)
    selection = ProbeSelection(probe="muon", muon_min_pt=min_pt)

    histograms, _ = tagged(tmp_path, {"data": (path, {"is_mc": False})}, selection=selection)

    # the jet of 500 GeV is near the muon, that of 450 GeV is not
    by_pt = histograms["passing"].project("pt")
    assert by_pt[{"pt": 449j}].value == expected
    assert by_pt.sum(flow=True).value == expected


@pytest.mark.parametrize("probe", ["muon", "leading", "all"])
@pytest.mark.parametrize(("threshold", "expected"), [(0.0, 2), (440.0, 2), (460.0, 0)])
def test_a_trigger_owns_an_event_by_its_leading_jet_also_if_that_is_the_only_one(
    tmp_path: Path, probe: Any, threshold: float, expected: int
) -> None:
    # one jet of 450 GeV, and the trigger fired in two of three events
    fired = {"HLT_some": [True, False, True]}
    path = write_large_jets(tmp_path / "d.root", [QCD_EVENT] * 3, is_mc=False, single=True, triggers=fired)
    told = {"is_mc": False, "triggers": [{"path": "HLT_some", "pt_avg_min": threshold, "prescale": 5}]}

    histograms, _ = tagged(tmp_path, {"data": (path, told)}, selection=ProbeSelection(probe=probe))

    assert histograms["passing"].sum(flow=True).value == 5 * expected
    assert histograms["cutflow"][{"dataset": "data", "step": "trigger"}].value == 5 * expected


@pytest.mark.parametrize(("threshold", "expected"), [(470.0, 4), (480.0, 0)])
def test_a_trigger_owns_a_dijet_by_the_mean_pt_of_the_pair(tmp_path: Path, threshold: float, expected: int) -> None:
    # 500 and 450 GeV
    fired = {"HLT_some": [True, False, True]}
    told = {"is_mc": False, "triggers": [{"path": "HLT_some", "pt_avg_min": threshold, "prescale": 1}]}
    pair = write_large_jets(tmp_path / "d.root", [QCD_EVENT] * 3, is_mc=False, triggers=fired)

    histograms, _ = tagged(tmp_path, {"data": (pair, told)}, selection=ProbeSelection(probe="dijet"))

    assert histograms["passing"].sum(flow=True).value == expected


def test_no_trigger_owns_a_dijet_that_lacks_a_jet(tmp_path: Path) -> None:
    fired = {"HLT_some": [True] * 3}
    path = write_large_jets(tmp_path / "d.root", [QCD_EVENT] * 3, is_mc=False, single=True, triggers=fired)
    told = {"is_mc": False, "triggers": [{"path": "HLT_some", "pt_avg_min": 0, "prescale": 1}]}

    histograms, _ = tagged(tmp_path, {"data": (path, told)}, selection=ProbeSelection(probe="dijet"))

    assert histograms["cutflow"][{"dataset": "data"}].values().tolist() == [3, 3, 0, 0]


def test_a_trigger_without_threshold_owns_events_without_jets() -> None:
    nothing = np.zeros(0, np.float32)
    jets = Jets(np.zeros(3, np.int64), nothing, nothing, nothing, nothing)

    assert trigger_pt(jets, "muon").tolist() == [0, 0]
    assert np.isnan(trigger_pt(jets, "dijet")).all()


@pytest.mark.parametrize(("maxchunks", "lumi"), [(None, 2.5), (1, None)])
def test_of_a_part_of_the_files_no_luminosity_is_known(
    tmp_path: Path, maxchunks: int | None, lumi: float | None
) -> None:
    path = write_large_jets(tmp_path / "d.root", [QCD_EVENT] * 3, is_mc=False)
    execution = Execution(executor="iterative", maxchunks=maxchunks)

    _, facts = tagged(tmp_path, {"data": (path, {"is_mc": False, "lumi": 2.5})}, execution=execution)

    assert facts["datasets"][0]["lumi"] == lumi
    assert any("--maxchunks" in note for note in facts["notes"]) == (maxchunks is not None)


@pytest.mark.parametrize("cut", [np.nan, np.inf])
def test_a_working_point_that_is_no_number_is_refused(tmp_path: Path, cut: float) -> None:
    path = write_large_jets(tmp_path / "d.root", [QCD_EVENT], is_mc=False)
    taggers = {"toy": TaggerChoice(save_tagger(tmp_path), working_points={"tight": cut})}

    with pytest.raises(
        InputError, match=f"taggers.toy: working points are numbers that a score can reach, got tight={cut}"
    ):
        tagged(tmp_path, {"data": (path, {"is_mc": False})}, taggers=taggers)


def test_files_without_muons_are_refused_where_a_muon_is_asked_for(tmp_path: Path) -> None:
    path = write_large_jets(tmp_path / "d.root", [QCD_EVENT], is_mc=False, without=("Muon",))

    with pytest.raises(InputError, match="has no muons, which the probe needs"):
        tagged(tmp_path, {"data": (path, {"is_mc": False})}, selection=ProbeSelection(probe="muon"))


def test_a_tagger_of_somebody_else_is_applied_by_configuration_alone(tmp_path: Path) -> None:
    path = write_large_jets(tmp_path / "mc.root", EVENTS)
    onnx_path = save_tagger(tmp_path)
    values = {
        "taggers": {
            "other": {
                "onnx": onnx_path,
                "working_points": {"tight": 1.5},
                "foreign": {
                    "inputs": {"features": {"columns": ["mass"], "scaling": {"mass": {"norm_factor": 0.025}}}},
                },
            }
        }
    }
    settings = settings_from(TaggingSettings, values, "toy")

    histograms, facts = tagged(tmp_path, {"mc": (path, {"is_mc": True})}, taggers=settings.taggers)

    # 80 GeV becomes 2, 10 GeV becomes 0.25
    passing = histograms["passing"][{"tagger": "other", "result": "pass", "working_point": "tight"}]
    assert passing.sum(flow=True).value == pytest.approx(uproot_weights(path).sum())
    assert facts["taggers"] == {"other": {"tight": 1.5}}
    told = json.loads((tmp_path / "out" / "tagging.json").read_text(), parse_constant=pytest.fail)
    scaling = told["settings"]["taggers"]["other"]["foreign"]["inputs"]["features"]["scaling"]["mass"]
    assert (scaling["norm_factor"], scaling["upper_bound"]) == (0.025, None)


@pytest.mark.parametrize(("min_met", "expected"), [(0.0, 3), (30.0, 2), (200.0, 0)])
def test_behind_a_muon_missing_momentum_can_be_asked_for(tmp_path: Path, min_met: float, expected: int) -> None:
    path = write_large_jets(tmp_path / "d.root", [QCD_EVENT] * 3, is_mc=False, met=[20.0, 40.0, 100.0])
    selection = ProbeSelection(probe="muon", min_met=min_met)

    histograms, _ = tagged(tmp_path, {"data": (path, {"is_mc": False})}, selection=selection)

    assert histograms["passing"].sum(flow=True).value == expected


def test_files_without_missing_momentum_are_refused_where_it_is_limited(tmp_path: Path) -> None:
    files: dict[str, tuple[Path, dict[str, Any]]] = {
        "with": (write_large_jets(tmp_path / "a.root", [QCD_EVENT], is_mc=False, met=[50.0]), {"is_mc": False}),
        "without": (write_large_jets(tmp_path / "b.root", [QCD_EVENT], is_mc=False), {"is_mc": False}),
    }

    with pytest.raises(InputError) as caught:
        tagged(tmp_path, files, selection=ProbeSelection(probe="muon", min_met=30.0))

    (fault,) = caught.value.faults
    assert fault.startswith("without: ")
    assert fault.endswith("b.root has no missing momentum, which selection.min_met=30 needs; set it to 0 to go without")


def count_of_constituents(folder: Path, cut: float, **given: Any) -> TaggerChoice:
    """A network of somebody else whose score is the number of constituents that it sees."""
    graph = helper.make_graph(
        [helper.make_node("ReduceSum", ["parts", "axes"], ["score"], keepdims=0)],
        "count",
        [helper.make_tensor_value_info("parts", TensorProto.FLOAT, ["n", "m", 1])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n", 1])],
        [numpy_helper.from_array(np.array([1], np.int64), "axes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(model, str(folder / "count.onnx"))
    groomed = given.pop("groomed", False)
    parts = NetworkInput(("mask",), constituents=True, **given)
    foreign = ForeignTagger(inputs={"parts": parts}, groomed=groomed)
    return TaggerChoice(str(folder / "count.onnx"), foreign, {"cut": cut})


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        (Scaling(norm_factor=0.0125), [0, 2, 0, 0, 2, 0]),
        (Scaling(norm_factor=0.013), [0, 2, 0, 0, 0, 2]),
        (Scaling(median=10, norm_factor=1), [0, 2, 0, 0, 0, 2]),
        (Scaling(median=11, norm_factor=0.01), [2, 0, 0, 2, 0, 0]),
    ],
)
def test_a_score_of_one_is_in_the_last_bin_and_others_beyond_are_in_the_flow_bins(
    tmp_path: Path, scaling: Scaling, expected: list[int]
) -> None:
    path = write_large_jets(tmp_path / "d.root", [QCD_EVENT] * 2, is_mc=False)
    foreign = ForeignTagger(inputs={"features": NetworkInput(("mass",), scaling={"mass": scaling})})
    taggers = {"scaled": TaggerChoice(save_tagger(tmp_path), foreign, {"some": 0.5})}

    histograms, _ = tagged(
        tmp_path, {"data": (path, {"is_mc": False})}, taggers=taggers, binning=TaggingBinning(score_bins=4)
    )

    # soft-drop masses of 10 and 80 GeV; a factor of 0.0125 makes 0.125 and exactly 1 of them
    assert histograms["score"].project("score").values(flow=True).tolist() == expected


@pytest.mark.parametrize("bins", [1, 3, 7, 100, 128, 1000003])
def test_a_score_of_one_is_in_the_last_of_any_number_of_bins(bins: int) -> None:
    (*_, axis) = score_axes(TaggingBinning(score_bins=bins), ["toy"])
    scores = scores_in_bins(np.array([1.0, 0.0, 1.5, np.nan], np.float32))

    assert axis.index(scores).tolist() == [bins - 1, 0, bins, bins]


@pytest.mark.parametrize("groomed", [True, False])
def test_a_tagger_takes_constituents_before_or_after_grooming(tmp_path: Path, groomed: bool) -> None:  # noqa: FBT001
    path = write_large_jets(tmp_path / "d.root", [QCD_EVENT], is_mc=False)
    taggers = {"count": count_of_constituents(tmp_path, 5.0, groomed=groomed)}
    nothing_soft = LargeJets(subjet_radius=0.01, subjet_fraction=0.6)

    histograms, _ = tagged(tmp_path, {"data": (path, {"is_mc": False})}, taggers=taggers, large_jets=nothing_soft)

    # the leading jet has five constituents, at most one of which has 60 % of its pt
    passed = histograms["passing"][{"result": "pass"}].sum(flow=True).value
    assert passed == (0 if groomed else 1)


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([{"max_length": 150}], [150]),
        ([{}], [160]),
        ([{"max_length": 40}, {"min_length": 200, "max_length": 200}], [40, 160]),
        ([{"max_length": 150}, {"groomed": True}], [150, 100]),
    ],
)
def test_networks_of_others_see_as_many_constituents_as_they_take(
    tmp_path: Path, lengths: list[dict[str, Any]], expected: list[int]
) -> None:
    path = write_large_jets(tmp_path / "d.root", [QCD_EVENT], is_mc=False, single=True, constituents=(0, 160))
    taggers = {}
    for number, (given, seen) in enumerate(zip(lengths, expected, strict=True)):
        choice = count_of_constituents(tmp_path, seen, **given)
        taggers[str(number)] = replace(choice, working_points={"as_many": seen, "more": seen + 1.0})

    histograms, _ = tagged(
        tmp_path, {"data": (path, {"is_mc": False})}, taggers=taggers, large_jets=LargeJets(grooming="none")
    )

    passed = histograms["passing"][{"result": "pass"}].project("tagger", "working_point")
    assert passed.values().tolist() == [[1, 0]] * len(expected)


def test_what_is_wrong_with_taggers_is_told_at_once(tmp_path: Path) -> None:
    path = write_large_jets(tmp_path / "mc.root", [QCD_EVENT])
    unknown = ForeignTagger(inputs={"features": NetworkInput(("btag",))})
    taggers = {"a": TaggerChoice(str(tmp_path / "none.onnx")), "b": TaggerChoice(save_tagger(tmp_path), unknown)}

    with pytest.raises(InputError) as caught:
        tagged(tmp_path, {"mc": (path, {"is_mc": True})}, taggers=taggers)

    assert "taggers.a: " in caught.value.faults[0]
    assert caught.value.faults[1].startswith("taggers.b: no column btag of jets; there are pt, eta")
    with pytest.raises(InputError, match="no taggers to apply"):
        tagged(tmp_path, {"mc": (path, {"is_mc": True})}, taggers={})


def of_jets(folder: Path, **jets: Any) -> str:
    """The toy tagger, trained on these jets by its card."""
    path = save_tagger(folder)
    card = ModelCard("tagger", ("mass",), ("score",), working_points={"half": 50.0}, training={"jets": jets})
    write_card(card, folder / "toy.json")
    return path


def test_a_tagger_of_other_jets_is_refused_in_one_line(tmp_path: Path) -> None:
    path = write_large_jets(tmp_path / "mc.root", [QCD_EVENT])
    taggers = {"toy": TaggerChoice(of_jets(tmp_path, radius=1.0, grooming="none", collection="LargeJet"))}

    with pytest.raises(InputError) as caught:
        tagged(tmp_path, {"mc": (path, {"is_mc": True})}, taggers=taggers)

    (fault,) = caught.value.faults
    assert fault == (
        "taggers.toy was trained on other jets: radius 1 is expected, 0.8 came, grooming none is expected, trimming "
        "came; set large_jets alike, or taggers.toy.any_jets=true to go on all the same"
    )


def test_a_tagger_of_other_jets_is_applied_with_a_note_if_asked_for(tmp_path: Path) -> None:
    path = write_large_jets(tmp_path / "mc.root", [QCD_EVENT])
    taggers = {"toy": TaggerChoice(of_jets(tmp_path, radius=1.0), any_jets=True)}

    histograms, facts = tagged(tmp_path, {"mc": (path, {"is_mc": True})}, taggers=taggers)

    assert histograms["passing"].sum(flow=True).value > 0
    assert facts["notes"][0].startswith("taggers.toy was trained on other jets: radius 1 is expected, 0.8 came")


def test_a_tagger_of_these_jets_is_applied_without_a_word(tmp_path: Path) -> None:
    path = write_large_jets(tmp_path / "mc.root", [QCD_EVENT])
    own = {"radius": 0.8, "grooming": "trimming", "subjet_radius": 0.2, "subjet_fraction": 0.05}

    _, facts = tagged(
        tmp_path, {"mc": (path, {"is_mc": True})}, taggers={"toy": TaggerChoice(of_jets(tmp_path, **own))}
    )

    assert facts["notes"] == []


def test_a_key_of_a_tagger_that_is_not_known_is_refused() -> None:
    with pytest.raises(InputError, match=r"unknown key 'taggers.x.onxx'"):
        settings_from(TaggingSettings, {"taggers": {"x": {"onxx": "a"}}}, "toy")


def test_edges_that_do_not_rise_are_refused() -> None:
    with pytest.raises(InputError, match=r"binning\.pt needs two edges or more that rise"):
        TaggingBinning(pt=(300, 200))


def test_named_sums_add_and_come_back_from_arrays() -> None:
    bins = SparseSums(np.array([1, 4]), np.array([[1.0, 1.0], [2.0, 4.0]]), np.zeros((2, 0), np.float32))
    one = Filled({}, named={"mc": NamedSums({"score": bins}, {"lost": 2})})

    total = one + Filled({}, named={"mc": NamedSums({"score": bins}), "data": NamedSums({})})
    back = Filled.from_arrays(total.to_arrays())

    assert list(back.named) == ["mc", "data"]
    assert back.named["mc"].excluded == {"lost": 2}
    np.testing.assert_array_equal(back.named["mc"].sums["score"].bins, [1, 4])
    np.testing.assert_array_equal(back.named["mc"].sums["score"].sums, 2 * bins.sums)
