"""ONNX files as functions of arrays."""

from __future__ import annotations

import os
import pickle
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models import session
from models.session import OnnxModel

if TYPE_CHECKING:
    from pathlib import Path

WEIGHTS = np.array([[1.0, 0.5], [2.0, -1.0], [0.0, 3.0]], np.float32)


@pytest.fixture
def network(tmp_path: Path) -> str:
    """The product with `WEIGHTS`, (n, 3) -> (n, 2)."""
    return save(tmp_path / "network.onnx", WEIGHTS)


def save(path: Path, weights: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> str:
    n_in, n_out = weights.shape
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["jets", "weights"], ["product"])],
        "product",
        [helper.make_tensor_value_info("jets", TensorProto.FLOAT, ["n", n_in])],
        [helper.make_tensor_value_info("product", TensorProto.FLOAT, ["n", n_out])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(model, str(path))
    return str(path)


@pytest.mark.parametrize("n", [0, 1, session.BATCH_ROWS, 2 * session.BATCH_ROWS + 3])
def test_outputs_are_those_of_the_formula_for_any_number_of_rows(network: str, n: int) -> None:
    rows = np.random.default_rng(n).normal(size=(n, 3))

    got = OnnxModel(network)(rows)

    assert got.shape == (n, 2)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, rows.astype(np.float32) @ WEIGHTS, rtol=1e-5, atol=1e-5)


def test_a_row_does_not_depend_on_its_batch(network: str) -> None:
    rows = np.random.default_rng(0).normal(size=(session.BATCH_ROWS + 10, 3)).astype(np.float32)
    model = OnnxModel(network)

    assert np.array_equal(model(rows)[-10:], model(rows[-10:]))


def test_a_model_is_pickled_as_its_path(network: str) -> None:
    model = OnnxModel(network)
    model(np.zeros((1, 3)))

    copy = pickle.loads(pickle.dumps(model))

    assert copy == model
    assert len(pickle.dumps(model)) < 200 + len(network)
    assert copy(np.ones((1, 3))).tolist() == [[3.0, 2.5]]


def test_a_file_is_opened_once_and_again_when_it_changes(network: str, tmp_path: Path) -> None:
    model = OnnxModel(network)
    assert model._session() is model._session()

    save(tmp_path / "network.onnx", 2 * WEIGHTS)
    os.utime(network, ns=(1, 1))

    assert model(np.ones((1, 3))).tolist() == [[6.0, 5.0]]


def test_threads_follow_the_environment(network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert OnnxModel(network)._session().get_session_options().intra_op_num_threads == 1

    monkeypatch.setenv("JETBALANCE_THREADS", "2")

    assert OnnxModel(network)._session().get_session_options().intra_op_num_threads == 2


def test_the_shape_of_a_network_is_known(network: str) -> None:
    assert OnnxModel(network).n_features == 3
    assert OnnxModel(network).n_outputs == 2


def test_rows_of_another_width_are_refused(network: str) -> None:
    with pytest.raises(ValueError, match=r"takes \(n, 3\), got an array of shape \(2, 4\)"):
        OnnxModel(network)(np.zeros((2, 4)))


def test_missing_and_broken_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    with pytest.raises(FileNotFoundError, match=r"broken\.onnx does not exist"):
        OnnxModel(str(path))(np.zeros((1, 3)))
    path.write_text("not a network")

    with pytest.raises(ValueError, match=r"broken\.onnx is not an ONNX network"):
        OnnxModel(str(path))(np.zeros((1, 3)))


@pytest.mark.parametrize("most", [1, 50, 10_000])
def test_a_batch_is_as_large_as_its_longest_jet_allows(most: int) -> None:
    counts = np.sort(np.random.default_rng(1).integers(0, 400, 3000))

    found = list(session.batches(np.arange(len(counts)), lambda jet: int(counts[jet]), most))

    np.testing.assert_array_equal(np.concatenate(found), np.arange(len(counts)))
    sizes = np.array([len(each) for each in found])
    filled = np.array([len(each) * counts[each[-1]] for each in found])
    assert sizes.max() <= most
    assert filled.max() <= session.BATCH_CONSTITUENTS
    assert np.all((filled > 0.7 * session.BATCH_CONSTITUENTS)[:-1] | (sizes == most)[:-1])
