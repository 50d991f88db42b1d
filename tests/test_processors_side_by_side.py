"""Jets with a network beside those without: the same events, names of their own, corrections of their own."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from dijet_toys import toy_record
from onnx import TensorProto, helper, numpy_helper

from models.card import ModelCard, card_path, write_card
from processors.dijet import DijetSettings, fill_record
from processors.fileset import Dataset
from processors.jet_calibration import JetCalibration
from processors.side_by_side import calibrations, for_measured, measured_datasets, only_kinds, read_for

if TYPE_CHECKING:
    from pathlib import Path

    from processors.record import EventRecord

N = 2000
DATASETS = (Dataset("simulation", (), is_mc=True), Dataset("data", (), is_mc=False, jet_algo="AK4PFPuppi"))


def constant(path: Path, factor: float) -> str:
    """A network that gives the same factor for every jet."""
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["jets", "weights"], ["product"]),
            helper.make_node("Add", ["product", "offset"], ["factor"]),
        ],
        "constant",
        [helper.make_tensor_value_info("jets", TensorProto.FLOAT, ["n", 1])],
        [helper.make_tensor_value_info("factor", TensorProto.FLOAT, ["n", 1])],
        [
            numpy_helper.from_array(np.zeros((1, 1), np.float32), "weights"),
            numpy_helper.from_array(np.array([factor], np.float32), "offset"),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), str(path))
    write_card(ModelCard("calibration", ("pt",)), card_path(path))
    return str(path)


@pytest.fixture(scope="module")
def record() -> EventRecord:
    return toy_record(N, 5)


def test_a_network_that_does_nothing_gives_the_same_histograms_under_its_own_name(
    record: EventRecord, tmp_path: Path
) -> None:
    settings = DijetSettings(replicas=3, calibration=JetCalibration(onnx=constant(tmp_path / "one.onnx", 1.0)))
    found = fill_record(record, DATASETS[0], settings)
    assert list(found.datasets) == ["simulation", "simulation_DeepSets"]
    plain, network = found.datasets.values()
    for name in ("asymmetry", "truth_asymmetry", "response"):
        first, second = getattr(plain, name), getattr(network, name)
        np.testing.assert_array_equal(first.bins, second.bins)
        np.testing.assert_array_equal(first.sums, second.sums)
        np.testing.assert_array_equal(first.replicas, second.replicas)
    assert all(set(by_name) == set(found.datasets) for by_name in found.varied.values())


def test_a_network_scales_its_own_jets_alone(record: EventRecord, tmp_path: Path) -> None:
    without = fill_record(record, DATASETS[0], DijetSettings(replicas=0)).datasets["simulation"]
    settings = DijetSettings(replicas=0, calibration=JetCalibration(onnx=constant(tmp_path / "up.onnx", 1.25)))
    found = fill_record(record, DATASETS[0], settings).datasets
    np.testing.assert_array_equal(found["simulation"].response.sums, without.response.sums)
    shape = settings.binning.response_shape
    centres = np.linspace(0, 2.5, 251)[1:] - 0.005

    def mean(name: str) -> float:
        counts = found[name].response.dense(shape)[..., 0].sum(axis=(0, 1, 2))
        return float(counts @ centres / counts.sum())

    # the third-jet cut takes slightly other events
    assert mean("simulation_DeepSets") / mean("simulation") == pytest.approx(1.25, rel=0.02)


def test_every_kind_of_jet_has_datasets_and_an_algorithm_of_its_own() -> None:
    measured = measured_datasets(DATASETS, JetCalibration(onnx="network.onnx"))
    assert [(d.name, d.jet_algo) for d in measured] == [
        ("simulation", "AK4PF"),
        ("data", "AK4PFPuppi"),
        ("simulation_DeepSets", "AK4PFDeepSets"),
        ("data_DeepSets", "AK4PFPuppiDeepSets"),
    ]
    alone = measured_datasets(DATASETS, JetCalibration(onnx="network.onnx", beside=False))
    assert [d.name for d in alone] == ["simulation_DeepSets", "data_DeepSets"]
    assert [d.name for d in measured_datasets(DATASETS, JetCalibration())] == ["simulation", "data"]


def test_what_is_read_for_a_measured_dataset_is_the_dataset_it_comes_from() -> None:
    settings = JetCalibration(onnx="network.onnx")
    assert read_for({"data_DeepSets"}, DATASETS, settings) == {"data"}
    assert read_for({"simulation", "data_DeepSets"}, DATASETS, settings) == {"simulation", "data"}
    assert read_for(set(), DATASETS, settings) == set()


def test_what_is_known_of_a_dataset_is_known_of_all_kinds() -> None:
    known = for_measured({"simulation": 2.0}, DATASETS, JetCalibration(onnx="network.onnx"))
    assert known == {"simulation": 2.0, "simulation_DeepSets": 2.0}


def test_kinds_that_were_not_measured_are_left_out() -> None:
    both = JetCalibration(onnx="network.onnx")
    assert only_kinds({"AK4PF", "AK4PFDeepSets"}, both) == both
    assert calibrations(DATASETS[0], only_kinds({"AK4PF"}, both)) == (replace(both, onnx=None),)
    assert calibrations(DATASETS[0], only_kinds({"AK4PFDeepSets"}, both)) == (replace(both, beside=False),)
    assert only_kinds(set(), both) == both


def test_a_dataset_whose_files_lack_an_input_is_measured_without_the_network() -> None:
    settings = JetCalibration(onnx="network.onnx")
    poor = replace(DATASETS[1], has_network=False)
    assert [d.name for d in measured_datasets((DATASETS[0], poor), settings)] == [
        "simulation",
        "data",
        "simulation_DeepSets",
    ]
