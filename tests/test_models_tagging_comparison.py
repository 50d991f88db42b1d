"""Taggers side by side: names, numbers, the front, and the command."""

from __future__ import annotations

import csv
import hashlib
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="needs the extra `train`")

import onnx
import pyarrow.parquet as pq
from click.testing import CliRunner
from tagger_toys import columns, write

import analysis
from models.card import ModelCard, card_path, write_card
from models.features import RaggedConstituents, offsets_of
from models.tagging.comparison import Jets, compare, read_candidates
from models.tagging.tagger_table import JetTable, write_table
from models.training.tagging.samples import TEST, read_sample
from models.training.tagging.settings import ColumnSettings, FitSettings, TaggerSettings

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


def test_a_single_training_is_called_like_its_folder(table: Path, tmp_path: Path) -> None:
    tagger(tmp_path / "free" / "tagger.onnx", {"x2": 1.0})

    code, text = run("--table", table, "-o", tmp_path / "out", tmp_path / "free")

    assert code == 0, text
    assert list(json.loads((tmp_path / "out" / "comparison.json").read_text())["taggers"]) == ["free"]


def test_of_a_table_that_was_trained_on_only_the_test_fold_counts(table: Path, tmp_path: Path) -> None:
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

    with pytest.raises(ValueError, match="is a calibration by its card, not a tagger"):
        read_candidates([path])


def test_a_tagger_that_is_given_twice_is_refused(table: Path, tmp_path: Path) -> None:
    path = tagger(tmp_path / "one" / "tagger.onnx", {"x2": 1.0})

    code, text = run("--table", table, "-o", tmp_path / "out", path, tmp_path / "one")

    assert code == 2
    assert f"the same tagger is given more than once: {path}, {tmp_path / 'one'}" in text


def test_a_comparison_has_no_kind_of_network(table: Path, tmp_path: Path) -> None:
    code, text = run("--table", table, "-o", tmp_path / "out", "--network", "deepsets", "tagger.onnx")

    assert code == 2
    assert "No such option" in text


def with_constituents(path: Path, n: int = N) -> Path:
    """A table whose jets have one to five constituents, their energies summing up to x2 + 10."""
    values = columns(n)
    counts = np.random.default_rng(3).integers(1, 6, n)
    offsets = offsets_of(counts)
    energy = np.repeat((values["x2"] + 10) / counts, counts)
    lists = {name: np.split(energy.astype(np.float32), offsets[1:-1]) for name in ("px", "py", "pz", "e")}
    return write(path, {**values, **{f"constituents_{name}": each for name, each in lists.items()}})


def of_constituents(path: Path, *, with_features: bool) -> Path:
    """A network that adds the energies of constituents less 10 GeV, and its feature if it has one."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("MatMul", ["constituents", "energy"], ["each"]),
        helper.make_node("ReduceSum", ["each", "axes"], ["total"], keepdims=0),
        helper.make_node("Sub", ["total", "ten"], ["sum"]),
        helper.make_node("Add", ["sum", "features"] if with_features else ["sum", "nothing"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["score"]),
    ]
    inputs = [helper.make_tensor_value_info("constituents", kind, ["n", "m", 4])]
    if with_features:
        inputs.append(helper.make_tensor_value_info("features", kind, ["n", 1]))
    constants = [
        helper.make_tensor("energy", kind, [4, 1], [0.0, 0.0, 0.0, 1.0]),
        helper.make_tensor("axes", onnx.TensorProto.INT64, [1], [1]),
        helper.make_tensor("ten", kind, [1], [10.0]),
        helper.make_tensor("nothing", kind, [1], [0.0]),
    ]
    graph = helper.make_graph(
        nodes, "parts", inputs, [helper.make_tensor_value_info("score", kind, ["n", 1])], constants
    )
    card = ModelCard(
        "tagger",
        ("x0",),
        ("score",),
        gives="score",
        constituent_input="constituents",
        constituent_columns=("px", "py", "pz", "e"),
        jet_input="features" if with_features else None,
    )
    return saved(graph, card, path)


def of_the_first_constituent(path: Path) -> Path:
    """A network whose logit is the energy of the first constituent less 10 GeV."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("Gather", ["constituents", "zero"], ["parts"], axis=1),
        helper.make_node("MatMul", ["parts", "energy"], ["sum"]),
        helper.make_node("Sub", ["sum", "ten"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["score"]),
    ]
    constants = [
        helper.make_tensor("zero", onnx.TensorProto.INT64, [], [0]),
        helper.make_tensor("energy", kind, [4, 1], [0.0, 0.0, 0.0, 1.0]),
        helper.make_tensor("ten", kind, [1], [10.0]),
    ]
    inputs = [helper.make_tensor_value_info("constituents", kind, ["n", "m", 4])]
    outputs = [helper.make_tensor_value_info("score", kind, ["n", 1])]
    card = ModelCard(
        "tagger",
        (),
        ("score",),
        gives="score",
        constituent_input="constituents",
        constituent_columns=("px", "py", "pz", "e"),
        jet_input=None,
    )
    return saved(helper.make_graph(nodes, "first", inputs, outputs, constants), card, path)


def saved(graph: onnx.GraphProto, card: ModelCard, path: Path) -> Path:
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("ai.onnx.ml", 3)]
    path.parent.mkdir(exist_ok=True)
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8), str(path))
    write_card(card, card_path(path))
    return path


def numbers(folder: Path) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = json.loads((folder / "comparison.json").read_text())["taggers"]
    return found


@pytest.mark.parametrize("with_features", [False, True])
def test_a_network_of_constituents_sees_those_of_the_same_jets(tmp_path: Path, *, with_features: bool) -> None:
    table = with_constituents(tmp_path / "table.parquet")
    parts = of_constituents(tmp_path / "parts" / "tagger.onnx", with_features=with_features)
    weights = {"x2": 1.0, "x0": 1.0} if with_features else {"x2": 1.0}
    same = tagger(tmp_path / "columns" / "tagger.onnx", weights)

    code, text = run("--table", table, "-o", tmp_path / "out", parts, same)

    assert code == 0, text
    found = numbers(tmp_path / "out")
    for name in ("auc", "accuracy", "rejection_0.3", "inverse_jsd"):
        assert found["parts"][name] == pytest.approx(found["columns"][name], rel=1e-3)


def test_a_network_sees_constituents_hardest_first_however_the_table_orders_them(tmp_path: Path) -> None:
    values = columns(N)
    energy = np.stack([np.ones(N), values["x2"] + 10], axis=1).astype(np.float32)
    given = {f"constituents_{name}": list(energy) for name in ("px", "py", "pz", "e")}
    table = write(tmp_path / "table.parquet", {**values, **given})
    first = of_the_first_constituent(tmp_path / "first" / "tagger.onnx")
    same = tagger(tmp_path / "columns" / "tagger.onnx", {"x2": 1.0})

    code, text = run("--table", table, "-o", tmp_path / "out", first, same)

    assert code == 0, text
    found = numbers(tmp_path / "out")
    assert found["first"]["auc"] == pytest.approx(found["columns"]["auc"], rel=1e-4)


def test_constituents_follow_jets_that_are_left_out(tmp_path: Path) -> None:
    table = with_constituents(tmp_path / "table.parquet")
    parts = of_constituents(tmp_path / "parts" / "tagger.onnx", with_features=False)
    values = pq.read_table(table)
    mass = values["mass"].to_numpy().copy()
    mass[::3] = np.nan
    pq.write_table(values.set_column(values.schema.names.index("mass"), "mass", [mass]), table)
    same = tagger(tmp_path / "columns" / "tagger.onnx", {"x2": 1.0})

    code, text = run("--table", table, "--table", table, "-o", tmp_path / "out", parts, same)

    assert code == 0, text
    found = numbers(tmp_path / "out")
    assert found["parts"]["jets"] == 2 * (N - len(mass[::3]))
    assert found["parts"]["auc"] == pytest.approx(found["columns"]["auc"], rel=1e-4)


def test_a_table_without_constituents_is_refused_for_a_network_of_them(table: Path, tmp_path: Path) -> None:
    parts = of_constituents(tmp_path / "parts" / "tagger.onnx", with_features=True)

    code, text = run("--table", table, "-o", tmp_path / "out", parts)

    assert code == 2
    assert "table.parquet has no constituents, which parts takes" in text


def test_of_trees_the_output_that_the_card_names_counts(table: Path, tmp_path: Path) -> None:
    """A tree as scikit-learn gives it to ONNX: the class comes first, then a number for each class."""
    helper, kinds = onnx.helper, onnx.TensorProto
    tree = helper.make_node(
        "TreeEnsembleClassifier",
        ["features"],
        ["label", "probabilities"],
        domain="ai.onnx.ml",
        nodes_treeids=[0] * 3,
        nodes_nodeids=[0, 1, 2],
        nodes_featureids=[0] * 3,
        nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"],
        nodes_values=[0.5, 0.0, 0.0],
        nodes_truenodeids=[1, 0, 0],
        nodes_falsenodeids=[2, 0, 0],
        class_treeids=[0] * 4,
        class_nodeids=[1, 1, 2, 2],
        class_ids=[0, 1, 0, 1],
        class_weights=[0.7, 0.3, 0.2, 0.8],
        classlabels_int64s=[0, 1],
    )
    signal = helper.make_node("Gather", ["probabilities", "second"], ["score"], axis=1)
    graph = helper.make_graph(
        [tree, signal],
        "trees",
        [helper.make_tensor_value_info("features", kinds.FLOAT, ["n", 1])],
        [
            helper.make_tensor_value_info("label", kinds.INT64, ["n"]),
            helper.make_tensor_value_info("score", kinds.FLOAT, ["n", 1]),
        ],
        [helper.make_tensor("second", kinds.INT64, [1], [1])],
    )
    path = saved(
        graph, ModelCard("tagger", ("x2",), ("score",), gives="score", output="score"), tmp_path / "bdt" / "tagger.onnx"
    )

    (candidate,) = read_candidates([path])
    scores, _ = candidate.tagger.scores({"x2": np.array([0.0, 1.0])})

    np.testing.assert_allclose(scores, [0.3, 0.8], rtol=1e-6)
    code, text = run("--table", table, "-o", tmp_path / "out", path)
    assert code == 0, text


def test_jets_without_a_finite_score_are_left_out_and_told(tmp_path: Path) -> None:
    values = columns(N)
    values["x2"] = np.where(np.arange(N) % 10 == 0, np.nan, values["x2"])
    table = write(tmp_path / "table.parquet", values)
    one = tagger(tmp_path / "one" / "tagger.onnx", {"x2": 1.0})
    two = tagger(tmp_path / "two" / "tagger.onnx", {"x0": 1.0})

    code, text = run("--table", table, "-o", tmp_path / "out", one, two)

    assert code == 0, text
    found = numbers(tmp_path / "out")
    assert {name: (each["jets"], each["without_score"]) for name, each in found.items()} == {
        "one": (N - N // 10, N // 10),
        "two": (N, 0),
    }
    assert f"{N // 10:,} jets without a finite score left out" in text


def test_what_was_left_out_of_the_jets_is_told(tmp_path: Path) -> None:
    values = columns(N)
    values["mass"][:300], values["weight"][300:700], values["x2"][700:705] = np.nan, -values["weight"][300:700], np.nan
    table = write(tmp_path / "table.parquet", values)

    code, text = run("--table", table, "-o", tmp_path / "out", tagger(tmp_path / "one" / "tagger.onnx", {"x2": 1.0}))

    assert code == 0, text
    notes = json.loads((tmp_path / "out" / "comparison.json").read_text())["notes"]
    assert notes == [
        "300 jets left out: mass not finite",
        "400 jets with negative weights, which count as 0 in a training",
        "5 jets with x2 not finite, for which networks of ours take a median",
    ]
    assert all(f"note: {note}\n" in text for note in notes)


def test_a_tagger_of_other_jets_than_those_of_a_table_is_told(table: Path, tmp_path: Path) -> None:
    small, large = tmp_path / "small.parquet", tmp_path / "large.parquet"
    for seed, (path, radius) in enumerate(((small, 0.8), (large, 1.0)), 2):
        jets = JetTable(columns(N, seed), RaggedConstituents(np.zeros(N + 1, np.int64), np.zeros((0, 4), np.float32)))
        write_table([jets], path, {"settings": {"large_jets": {"radius": radius, "grooming": "none"}}})
    taggers = [tagger(tmp_path / name / "tagger.onnx", {"x2": 1.0}) for name in ("trimmed", "same", "silent")]
    of_cards = ({"radius": 1.0, "grooming": "trimming"}, {"radius": 1.0, "grooming": "none"})
    for path, of_card in zip(taggers, of_cards, strict=False):
        card = ModelCard("tagger", ("x2",), gives="score", lowest=0, highest=1, training={"jets": of_card})
        write_card(card, card_path(path))
    tables = [word for path in (table, small, large) for word in ("--table", path)]

    code, text = run(*tables, "-o", tmp_path / "out", *taggers)

    assert code == 0, text
    grooming = "grooming trimming is expected, none came"
    notes = json.loads((tmp_path / "out" / "comparison.json").read_text())["notes"]
    assert notes == [
        f"trimmed was made for other jets than those of {small}: radius 1 is expected, 0.8 came; {grooming}",
        f"trimmed was made for other jets than those of {large}: {grooming}",
        f"same was made for other jets than those of {small}: radius 1 is expected, 0.8 came",
    ]
    assert all(f"note: {note}\n" in text for note in notes)


def test_bins_without_background_are_refused(table: Path, tmp_path: Path) -> None:
    one = tagger(tmp_path / "one" / "tagger.onnx", {"x2": 1.0})
    given = ("--set", "evaluation.low=5000", "--set", "evaluation.high=6000")

    code, text = run("--table", table, "-o", tmp_path / "out", one, *given)

    assert code == 2
    assert "no background has mass in 5000 to 6000 (98 % is in " in text
    assert not (tmp_path / "out").exists()


def test_a_tagger_that_gives_no_background_a_score_is_refused(tmp_path: Path) -> None:
    one = tagger(tmp_path / "one" / "tagger.onnx", {"x2": 1.0})
    signal = np.arange(8) % 2 == 1
    jets = Jets(signal, np.full(8, 90.0), np.ones(8), {"x2": np.where(signal, 1.0, np.nan)})

    with pytest.raises(ValueError, match=r"one gives no background a finite score; .* x2"):
        compare(read_candidates([one]), jets, np.linspace(50, 300, 51))


def test_what_a_card_tells_of_the_training_is_in_the_table(table: Path, tmp_path: Path) -> None:
    told = tagger(tmp_path / "told" / "tagger.onnx", {"x2": 1.0})
    silent = tagger(tmp_path / "silent" / "tagger.onnx", {"x2": 1.0})
    card = ModelCard("tagger", ("x2",), gives="score", metrics={"parameters": 1234.0, "seconds": 56.0})
    write_card(card, card_path(told))

    code, text = run("--table", table, "-o", tmp_path / "out", told, silent)

    assert code == 0, text
    lines = (tmp_path / "out" / "comparison.csv").read_text().splitlines()
    rows = {row["tagger"]: row for row in csv.DictReader(lines)}
    assert (rows["told"]["parameters"], rows["told"]["seconds"]) == ("1234", "56")
    assert (rows["silent"]["parameters"], rows["silent"]["seconds"]) == ("", "")
    share = float(rows["told"]["inverse_jsd"]) / float(rows["told"]["ceiling"])
    assert float(rows["told"]["share_of_ceiling"]) == pytest.approx(share, rel=1e-4)


def test_the_test_fold_is_no_larger_than_that_of_the_training(table: Path, tmp_path: Path) -> None:
    path = tagger(tmp_path / "one" / "tagger.onnx", {"x2": 1.0})
    digest = hashlib.sha256(table.read_bytes()).hexdigest()
    training = {"tables": {"t": digest}, "settings": {"fit": {"test": 0.08}}}
    write_card(ModelCard("tagger", ("x2",), gives="score", training=training), card_path(path))

    code, text = run("--table", table, "-o", tmp_path / "out", path)

    assert code == 0, text
    assert int(text.split(" ")[0].replace(",", "")) == pytest.approx(0.08 * N, rel=0.2)


def test_the_test_fold_is_that_of_the_settings_on_the_card(tmp_path: Path) -> None:
    values = columns(N)
    values["jet"] = np.random.default_rng(8).permutation(N)
    named = ColumnSettings(features=("x0",), identity="jet")
    fit = FitSettings(test=0.3)
    fold = read_sample([write(tmp_path / "table.parquet", values)], TaggerSettings(columns=named, fit=fit)).fold
    values["x2"] = np.where(fold == TEST, values["x2"], np.nan)
    table = write(tmp_path / "table.parquet", values)
    path = tagger(tmp_path / "one" / "tagger.onnx", {"x2": 1.0})
    digest = hashlib.sha256(table.read_bytes()).hexdigest()
    training = {"tables": {"t": digest}, "settings": {"columns": {"identity": "jet"}, "fit": {"test": 0.3}}}
    write_card(ModelCard("tagger", ("x2",), gives="score", training=training), card_path(path))

    code, text = run("--table", table, "-o", tmp_path / "out", path)

    assert code == 0, text
    found = numbers(tmp_path / "out")["one"]
    assert (found["jets"], found["without_score"]) == (float(np.sum(fold == TEST)), 0.0)


def test_robustness_is_told_for_each_tagger_in_pt_and_pile_up(tmp_path: Path) -> None:
    values = columns(N)
    values["npv"] = np.random.default_rng(4).integers(0, 30, N)
    values["x1"] = values["x2"] + 2 * (values["npv"] >= 15)
    table = write(tmp_path / "table.parquet", values)
    steady = tagger(tmp_path / "steady" / "tagger.onnx", {"x2": 1.0})
    fragile = tagger(tmp_path / "fragile" / "tagger.onnx", {"x1": 1.0})

    code, text = run("--table", table, "-o", tmp_path / "out", steady, fragile)

    assert code == 0, text
    told = json.loads((tmp_path / "out" / "robustness.json").read_text())
    assert [(each["low"], each["high"]) for each in told["steady"]["pileup"]][:2] == [(0.0, 5.5), (5.5, 10.5)]
    assert len(told["steady"]["condition"]) == 9
    few, many = (np.array([told[name]["pileup"][i]["rejection"] for name in ("steady", "fragile")]) for i in (1, 4))
    assert many[0] > 0.7 * few[0]
    assert many[1] < 0.7 * few[1]
    assert (tmp_path / "out" / "robustness.png").is_file()
