"""Calibration factors by a network and its card."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.calibration import CLIPPED, NOT_FINITE_INPUT, load_calibration
from models.card import ModelCard, card_path, write_card

if TYPE_CHECKING:
    from pathlib import Path

CARD = ModelCard("calibration", ("pt", "eta"), lowest=0.5, highest=2.0)


@pytest.fixture
def network(tmp_path: Path) -> str:
    """The factor 1 + 0.01 pt + 0.1 eta with a card."""
    constants = {"weights": [[0.01], [0.1]], "offset": [1.0]}
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["jets", "weights"], ["product"]),
            helper.make_node("Add", ["product", "offset"], ["factor"]),
        ],
        "line",
        [helper.make_tensor_value_info("jets", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("factor", TensorProto.FLOAT, ["n", 1])],
        [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    path = tmp_path / "line.onnx"
    onnx.save(model, str(path))
    write_card(CARD, card_path(path))
    return str(path)


def test_the_factor_is_that_of_the_network(network: str) -> None:
    pt, eta = np.array([10.0, 50.0]), np.array([1.0, -2.0])

    factor, counts = load_calibration(network).factor({"eta": lambda: eta, "pt": lambda: pt})

    np.testing.assert_allclose(factor, [1.2, 1.3], rtol=1e-6)  # 1 + 0.1 + 0.1 and 1 + 0.5 - 0.2
    assert counts == {}


def test_factors_that_are_no_calibration_are_mended_and_counted(network: str) -> None:
    pt, eta = np.array([10.0, 500.0, np.nan, 10.0]), np.array([1.0, 0.0, 0.0, -9.0])

    factor, counts = load_calibration(network).factor({"eta": lambda: eta, "pt": lambda: pt})

    np.testing.assert_allclose(factor, [1.2, 2.0, 1.0, 0.5], rtol=1e-6)
    assert counts == {NOT_FINITE_INPUT: 1, CLIPPED: 2}


def test_no_jets_have_no_factors(network: str) -> None:
    none = np.zeros(0)

    factor, counts = load_calibration(network).factor({"eta": lambda: none, "pt": lambda: none})

    assert factor.shape == (0,)
    assert counts == {}


def test_a_calibration_survives_pickling(network: str) -> None:
    model = load_calibration(network)

    assert pickle.loads(pickle.dumps(model)) == model


def test_a_card_that_does_not_fit_the_network_is_refused(network: str) -> None:
    write_card(replace(CARD, features=("pt", "eta", "mass")), card_path(network))

    with pytest.raises(ValueError, match="takes 2 columns, but its card lists 3: pt, eta, mass"):
        load_calibration(network)


def test_a_network_without_a_card_is_refused(network: str) -> None:
    card_path(network).unlink()

    with pytest.raises(FileNotFoundError, match="belongs beside the"):
        load_calibration(network)
