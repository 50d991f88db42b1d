"""Taggers side by side: names, numbers, the front, and the command."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="needs the extra `train`")

import onnx
from click.testing import CliRunner
from tagger_toys import columns, write

import analysis
from models.card import ModelCard, card_path, write_card
from models.tagging.comparison import read_candidates

if TYPE_CHECKING:
    from pathlib import Path

N = 4000


def tagger(path: Path, weights: dict[str, float]) -> Path:
    """An ONNX network that adds features with weights."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    values = np.array(list(weights.values()), np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["features", "weights"], ["sum"]), helper.make_node("Sigmoid", ["sum"], ["score"])],
        "tagger",
        [helper.make_tensor_value_info("features", kind, ["n", len(values)])],
        [helper.make_tensor_value_info("score", kind, ["n", 1])],
        [helper.make_tensor("weights", kind, [len(values), 1], values)],
    )
    path.parent.mkdir(exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    write_card(ModelCard("tagger", tuple(weights), gives="score", lowest=0, highest=1), card_path(path))
    return path


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write(tmp_path / "table.parquet", columns(N))


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(analysis.cli, ["compare", "taggers", *map(str, words)], standalone_mode=False)
    return (result.return_value or 0, result.output) if result.exception is None else (2, str(result.exception))


def test_each_tagger_gets_its_own_features_and_a_line(table: Path, tmp_path: Path) -> None:
    free = tagger(tmp_path / "free" / "tagger.onnx", {"x2": 1.0})
    tagger(tmp_path / "bound" / "tagger.onnx", {"x0": 1.0, "x2": 1.0})

    code, text = run("--table", table, "-o", tmp_path / "out", free, tmp_path / "bound")

    assert code == 0, text
    rows = {
        row["tagger"]: row for row in csv.DictReader((tmp_path / "out" / "comparison.csv").read_text().splitlines())
    }
    assert float(rows["bound"]["rejection_0.5"]) > float(rows["free"]["rejection_0.5"])
    assert float(rows["bound"]["inverse_jsd"]) < float(rows["free"]["inverse_jsd"])
    assert [rows[name]["on_front"] for name in ("free", "bound")] == ["1", "1"]
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"pareto.png", "pareto.pdf", "comparison.md"}
    assert f"{N:,} jets" in text


def test_of_a_table_that_was_trained_on_only_the_test_fold_counts(table: Path, tmp_path: Path) -> None:
    import hashlib

    path = tagger(tmp_path / "one" / "tagger.onnx", {"x2": 1.0})
    digest = hashlib.sha256(table.read_bytes()).hexdigest()
    known = ModelCard("tagger", ("x2",), gives="score", lowest=0, highest=1, training={"tables": {"t": digest}})
    write_card(known, card_path(path))

    code, text = run("--table", table, "-o", tmp_path / "out", path)

    assert code == 0, text
    assert "jets of the test fold" in text
    assert int(text.split(" ")[0].replace(",", "")) == pytest.approx(0.15 * N, rel=0.15)


def test_a_column_that_the_table_lacks_is_told(table: Path, tmp_path: Path) -> None:
    path = tagger(tmp_path / "one" / "tagger.onnx", {"x9": 1.0})

    code, text = run("--table", table, "-o", tmp_path / "out", path)

    assert code == 2
    assert "no column 'x9'" in text


def test_a_calibration_is_no_tagger(tmp_path: Path) -> None:
    path = tagger(tmp_path / "one" / "tagger.onnx", {"x2": 1.0})
    write_card(ModelCard("calibration", ("pt",)), card_path(path))

    with pytest.raises(ValueError, match="is no tagger that takes columns of jets alone: calibration"):
        read_candidates([path])
