"""Networks of constituents: ragged input, other people's conventions, and files that do not fit their card."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models import session
from models.calibration import NOT_FINITE_INPUT, load_calibration
from models.card import ModelCard, card_path, write_card
from models.features import RaggedConstituents, offsets_of

if TYPE_CHECKING:
    from pathlib import Path

CARD = ModelCard(
    "calibration", ("pt", "eta"), highest=100.0, jet_input="jets", constituent_input="parts", output="factor"
)


@pytest.fixture
def network(tmp_path: Path) -> str:
    """The factor 1 + sum of the pt of constituents / pt of the jet."""
    return save(tmp_path / "sum.onnx")


def save(path: Path, length: int | str = "m", card: ModelCard = CARD) -> str:
    """Constituents have a fixed `length`, or any if it is a name."""
    nodes = [
        helper.make_node("Gather", ["parts", "three"], ["each"], axis=2),
        helper.make_node("ReduceSum", ["each", "one"], ["sums"], keepdims=0),
        helper.make_node("Gather", ["jets", "zero"], ["pt"], axis=1),
        helper.make_node("Reshape", ["pt", "column"], ["divisor"]),
        helper.make_node("Div", ["sums", "divisor"], ["share"]),
        helper.make_node("Add", ["share", "unit"], ["flat"]),
        helper.make_node("Reshape", ["flat", "column"], ["factor"]),
    ]
    constants: dict[str, Any] = {"three": np.int64(3), "zero": np.int64(0), "one": [1], "unit": np.float32(1)}
    constants["column"] = np.array([-1, 1])
    nodes[1] = helper.make_node("ReduceSum", ["each", "one"], ["sum"], keepdims=0)
    nodes.insert(2, helper.make_node("Reshape", ["sum", "column"], ["sums"]))
    graph = helper.make_graph(
        nodes,
        "sum",
        [
            helper.make_tensor_value_info("jets", TensorProto.FLOAT, ["n", 2]),
            helper.make_tensor_value_info("parts", TensorProto.FLOAT, ["n", length, 4]),
        ],
        [helper.make_tensor_value_info("factor", TensorProto.FLOAT, ["n", 1])],
        [numpy_helper.from_array(np.array(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(model, str(path))
    write_card(card, card_path(path))
    return str(path)


def constituents(counts: list[int], seed: int = 1) -> RaggedConstituents:
    rng = np.random.default_rng(seed)
    offsets = offsets_of(np.array(counts))
    return RaggedConstituents(offsets, rng.random((offsets[-1], 4)).astype(np.float32))


def columns(pt: np.ndarray) -> dict[str, Any]:
    return {"pt": lambda: pt, "eta": lambda: np.zeros(len(pt))}


def expected(pt: np.ndarray, parts: RaggedConstituents, length: int = 80) -> np.ndarray:
    return np.asarray(1 + parts.padded(length)[:, :, 3].sum(axis=1) / pt)


@pytest.mark.parametrize("counts", [[], [0], [3, 0, 1, 80, 5], [200, 2], [0, 0]])
def test_factors_are_those_of_the_padded_formula(network: str, counts: list[int]) -> None:
    parts, pt = constituents(counts), np.full(len(counts), 10.0)

    factor, told = load_calibration(network).factor(columns(pt), parts)

    np.testing.assert_allclose(factor, expected(pt, parts), rtol=1e-5)
    assert told == {}


def test_many_jets_keep_their_order_whatever_their_batch(network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    parts, pt = constituents(rng.integers(0, 90, 500).tolist()), rng.uniform(20, 500, 500)
    monkeypatch.setattr(session, "BATCH_CONSTITUENTS", 100)

    factor, _ = load_calibration(network).factor(columns(pt), parts)

    np.testing.assert_allclose(factor, expected(pt, parts), rtol=1e-5)


def test_jets_with_inputs_that_are_not_finite_keep_their_momentum_and_are_counted(network: str) -> None:
    parts, pt = constituents([2, 3, 4]), np.array([10.0, np.nan, 10.0])
    parts.values[6] = np.inf

    factor, told = load_calibration(network).factor(columns(pt), parts)

    assert factor[1:].tolist() == [1.0, 1.0]
    assert factor[0] == pytest.approx(expected(np.full(3, 10.0), parts)[0], rel=1e-5)
    assert told == {NOT_FINITE_INPUT: 2}


def test_a_network_with_a_fixed_length_is_filled_up_to_it(tmp_path: Path) -> None:
    card = replace(CARD, pads_all=True, max_constituents=7)
    path = save(tmp_path / "fixed.onnx", 7, card)
    parts, pt = constituents([3, 0, 9]), np.full(3, 10.0)

    factor, _ = load_calibration(path).factor(columns(pt), parts)

    np.testing.assert_allclose(factor, expected(pt, parts, 7), rtol=1e-5)


@pytest.mark.parametrize(
    ("gives", "from_output"),
    [("log_factor", np.exp), ("response", lambda x: 1 / x), ("pt", lambda x: x / 10.0)],
)
def test_outputs_of_other_conventions_become_factors(tmp_path: Path, gives: Any, from_output: Any) -> None:
    path = save(tmp_path / "other.onnx", card=replace(CARD, gives=gives, lowest=1e-3))
    parts, pt = constituents([3, 1]), np.full(2, 10.0)

    factor, _ = load_calibration(path).factor(columns(pt), parts)

    np.testing.assert_allclose(factor, from_output(expected(pt, parts)), rtol=1e-5)


def test_a_network_in_mev_gets_mev(tmp_path: Path) -> None:
    # sum of pt over pt has no unit; were only one of them in MeV the factor would be off by a thousand
    path = save(tmp_path / "mev.onnx", card=replace(CARD, energy_unit=1e-3))
    parts, pt = constituents([3, 1]), np.full(2, 10.0)

    factor, _ = load_calibration(path).factor(columns(pt), parts)

    np.testing.assert_allclose(factor, expected(pt, parts), rtol=1e-5)


def test_a_card_can_be_given_in_place_of_the_one_beside_the_network(network: str) -> None:
    card_path(network).unlink()

    factor, _ = load_calibration(network, CARD).factor(columns(np.array([10.0])), constituents([0]))

    assert factor.tolist() == [1.0]


@pytest.mark.parametrize(
    ("card", "fault"),
    [
        (replace(CARD, constituent_input="clusters"), "no input 'clusters'"),
        (replace(CARD, output="pt"), "no output 'pt'"),
        (replace(CARD, features=("pt", "eta", "phi")), "jets has another shape"),
        (replace(CARD, constituent_columns=("px", "py")), "parts has another shape"),
        (replace(CARD, outputs=("factor", "resolution")), "factor has 1 columns"),
        (ModelCard("calibration", ("pt", "eta"), jet_input="jets"), "2 inputs, not 1"),
    ],
)
def test_a_card_that_does_not_fit_is_refused_with_both_signatures(network: str, card: ModelCard, fault: str) -> None:
    with pytest.raises(ValueError, match=rf"{fault}.*expected .*found jets \(any, 2\) and parts \(any, any, 4\)"):
        load_calibration(network, card)


def test_a_fixed_length_without_filling_up_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "fixed.onnx", 7)

    with pytest.raises(ValueError, match="fixed length, which needs pads_all"):
        load_calibration(path)


def test_operators_that_are_too_new_are_refused_with_the_version(network: str) -> None:
    model = onnx.load(network)
    model.opset_import[0].version = 99
    onnx.save(model, network)

    with pytest.raises(ValueError, match=r"not an ONNX network for onnxruntime .*opset"):
        load_calibration(network)


def test_constituents_of_other_jets_are_refused(network: str) -> None:
    with pytest.raises(ValueError, match="needs constituents of 1 jets, got 2"):
        load_calibration(network).factor(columns(np.array([10.0])), constituents([1, 1]))
