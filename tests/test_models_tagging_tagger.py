"""Networks applied to large-R jets: ours by their card, others by configuration."""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models import session
from models.card import ModelCard, write_card
from models.features import RaggedConstituents, offsets_of
from models.tagging import tagger as module
from models.tagging.tagger import ForeignTagger, NetworkInput, Scaling, Tagger, load_tagger, read_preprocess

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def save(
    path: Path,
    inputs: dict[str, Sequence[int | str]],
    nodes: list[Any],
    output: tuple[str, Sequence[int | str]],
    constants: dict[str, np.ndarray] | None = None,
    kind: int = TensorProto.FLOAT,
) -> str:
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(output[0], kind, output[1])],
        [numpy_helper.from_array(values, name) for name, values in (constants or {}).items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), str(path))
    return str(path)


def save_sum(path: Path, shape: Sequence[int | str], name: str = "features") -> str:
    """The sum over everything a jet gives, (n, 1)."""
    axes = {"axes": np.arange(1, len(shape), dtype=np.int64), "last": np.array([1], np.int64)}
    nodes = [
        helper.make_node("ReduceSum", [name, "axes"], ["sum"], keepdims=0),
        helper.make_node("Unsqueeze", ["sum", "last"], ["score"]),
    ]
    return save(path, {name: shape}, nodes, ("score", [shape[0], 1]), axes)


def jets(n: int, seed: int = 1) -> tuple[dict[str, np.ndarray], RaggedConstituents]:
    rng = np.random.default_rng(seed)
    columns = {"pt": rng.uniform(200, 800, n), "eta": rng.uniform(-2, 2, n), "phi": rng.uniform(-3, 3, n)}
    columns |= {"mass": rng.uniform(10, 200, n), "mass_plain": rng.uniform(10, 200, n), "tau21": rng.random(n)}
    counts = rng.integers(1, 12, n)
    values = rng.normal(0, 10, (counts.sum(), 4))
    values[:, 3] = np.linalg.norm(values[:, :3], axis=1)
    return {name: each.astype(np.float32) for name, each in columns.items()}, RaggedConstituents(
        offsets_of(counts), values.astype(np.float32)
    )


def per_jet(constituents: RaggedConstituents, values: np.ndarray) -> np.ndarray:
    return np.array([part.sum() for part in np.split(values, constituents.offsets[1:-1])])


def foreign(name: str, given: NetworkInput, **more: Any) -> ForeignTagger:
    return ForeignTagger(inputs={name: given}, **more)


@pytest.mark.parametrize("n", [0, 1, 3000])
def test_a_network_of_ours_is_applied_by_its_card(tmp_path: Path, n: int) -> None:
    path = save_sum(tmp_path / "w.onnx", ["n", 2])
    write_card(ModelCard("tagger", ("tau21", "mass"), ("score",), working_points={"tight": 100}), tmp_path / "w.json")
    columns, _ = jets(n)

    tagger = load_tagger(path)
    scores, n_bad = tagger.scores(columns)

    np.testing.assert_allclose(scores, columns["tau21"] + columns["mass"], rtol=1e-6)
    assert (scores.shape, n_bad) == ((n,), 0)
    assert tagger.passing(scores)["tight"].tolist() == (scores >= 100).tolist()


def test_constituents_are_given_in_batches_of_like_size_and_come_back_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_sum(tmp_path / "t.onnx", ["n", "length", 2], "constituents")
    write_card(
        ModelCard("tagger", ("pt",), ("score",), constituent_input="constituents", constituent_columns=("px", "e")),
        tmp_path / "t.json",
    )
    columns, constituents = jets(200)
    monkeypatch.setattr(session, "BATCH_CONSTITUENTS", 40)
    monkeypatch.setattr(module, "BLOCK_JETS", 70)

    scores, _ = load_tagger(path).scores(columns, constituents)

    expected = per_jet(constituents, constituents.values[:, 0] + constituents.values[:, 3])
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-4)


def test_a_jet_with_an_input_that_is_not_finite_has_no_score_and_passes_nothing(tmp_path: Path) -> None:
    path = save_sum(tmp_path / "w.onnx", ["n", 1])
    write_card(ModelCard("tagger", ("tau21",), ("score",), working_points={"loose": 0.0}), tmp_path / "w.json")
    columns, _ = jets(4)
    columns["tau21"][2] = np.nan

    tagger = load_tagger(path)
    scores, n_bad = tagger.scores(columns)

    assert np.isnan(scores).tolist() == [False, False, True, False]
    assert n_bad == 1
    assert tagger.passing(scores)["loose"].tolist() == [True, True, False, True]


def test_columns_that_are_not_finite_are_given_to_a_network_whose_card_says_that_it_imputes(tmp_path: Path) -> None:
    choose = [
        helper.make_node("IsNaN", ["features"], ["is_nan"]),
        helper.make_node("Where", ["is_nan", "median", "features"], ["score"]),
    ]
    constants = {"median": np.array([0.5], np.float32)}
    path = save(tmp_path / "w.onnx", {"features": ["n", 1]}, choose, ("score", ["n", 1]), constants)
    columns, _ = jets(4)
    columns["tau21"][2] = np.nan
    found = []
    for imputes in (False, True):
        write_card(ModelCard("tagger", ("tau21",), ("score",), imputes=imputes), tmp_path / "w.json")
        found.append(load_tagger(path).scores(columns)[0][2])

    np.testing.assert_array_equal(found, [np.nan, 0.5])


def test_a_tagger_can_be_sent_to_a_worker(tmp_path: Path) -> None:
    path = save_sum(tmp_path / "w.onnx", ["n", 1])
    tagger = load_tagger(path, foreign("features", NetworkInput(("mass",), scaling={"mass": Scaling(median=1)})))
    columns, _ = jets(5)

    copy: Tagger = pickle.loads(pickle.dumps(tagger))

    np.testing.assert_array_equal(copy.scores(columns)[0], tagger.scores(columns)[0])


def preprocess_of(path: Path, group: str = "pf_features") -> dict[str, Any]:
    """In the form that weaver exports: 4 constituents, channels first."""
    info = {"median": 1.0, "norm_factor": 0.5, "replace_inf_value": 0, "lower_bound": -5, "upper_bound": 5, "pad": 0}
    content = {
        "output_names": ["label_Top", "label_W", "label_QCD"],
        "input_names": [group, "pf_mask"],
        group: {
            "var_names": ["pfcand_pt_log", "pfcand_deta"],
            "var_length": 4,
            "var_infos": {"pfcand_pt_log": info, "pfcand_deta": {**info, "median": 0, "pad": -7.0}},
        },
        "pf_mask": {
            "var_names": ["pfcand_mask"],
            "var_length": 4,
            "var_infos": {"pfcand_mask": {**info, "median": 0, "norm_factor": 1}},
        },
    }
    path.write_text(json.dumps(content))
    return content


VARIABLES = {"pfcand_pt_log": "log_pt", "pfcand_deta": "deta", "pfcand_mask": "mask"}


def save_weaver(path: Path, batch: int | str = "N", group: str = "pf_features") -> str:
    """Per channel the sum over constituents, and the number of constituents: (n, 3) for three classes."""
    constants = {"last": np.array([2], np.int64)}
    nodes = [
        helper.make_node("ReduceSum", [group, "last"], ["features_sum"], keepdims=0),
        helper.make_node("ReduceSum", ["pf_mask", "last"], ["n_there"], keepdims=0),
        helper.make_node("Concat", ["features_sum", "n_there"], ["softmax"], axis=1),
    ]
    inputs: dict[str, Sequence[int | str]] = {group: [batch, 2, 4], "pf_mask": [batch, 1, 4]}
    return save(path, inputs, nodes, ("softmax", [batch, 3]), constants)


def by_hand(columns: dict[str, np.ndarray], constituents: RaggedConstituents) -> np.ndarray:
    """Standardised, limited, filled up, as CMSSW does: out = clip((x - median) norm_factor), then pad."""
    result = np.zeros((len(constituents), 3))
    for i in range(len(constituents)):
        px, py, pz, _ = constituents.values[constituents.offsets[i] : constituents.offsets[i + 1]][:4].T
        pt = np.hypot(px, py)
        n = len(pt)
        result[i, 0] = np.clip((np.log(pt) - 1) * 0.5, -5, 5).sum()
        result[i, 1] = np.clip((np.arcsinh(pz / pt) - columns["eta"][i]) * 0.5, -5, 5).sum() - 7.0 * (4 - n)
        result[i, 2] = n
    return result


@pytest.mark.parametrize(("group", "batch"), [("pf_features", "N"), ("0", "N"), ("a/b:0", "N"), ("pf_features", 1)])
def test_a_network_of_cms_is_applied_by_its_side_car(tmp_path: Path, group: str, batch: int | str) -> None:
    preprocess_of(tmp_path / "preprocess.json", group)
    path = save_weaver(tmp_path / "pnet.onnx", batch, group)
    columns, constituents = jets(30)
    said = ForeignTagger(
        str(tmp_path / "preprocess.json"), variables=VARIABLES, output="softmax", signal=("label_QCD",)
    )

    tagger = load_tagger(path, said)
    scores, _ = tagger.scores(columns, constituents)

    np.testing.assert_allclose(scores, by_hand(columns, constituents)[:, 2], rtol=1e-5)
    for place, name in enumerate(("label_Top", "label_W")):
        other = ForeignTagger(str(tmp_path / "preprocess.json"), variables=VARIABLES, signal=(name,))
        expected = by_hand(columns, constituents)[:, place]
        np.testing.assert_allclose(
            load_tagger(path, other).scores(columns, constituents)[0], expected, rtol=1e-4, atol=1e-4
        )
    assert bool(tagger.notes()) == (batch == 1)


def test_classes_make_a_discriminant(tmp_path: Path) -> None:
    preprocess_of(tmp_path / "preprocess.json")
    path = save_weaver(tmp_path / "pnet.onnx")
    columns, constituents = jets(30)
    said = ForeignTagger(
        str(tmp_path / "preprocess.json"),
        variables=VARIABLES,
        signal=("label_Top",),
        background=("label_QCD",),
        activation="softmax",
    )

    scores, _ = load_tagger(path, said).scores(columns, constituents)

    weight = np.exp(by_hand(columns, constituents))
    np.testing.assert_allclose(scores, weight[:, 0] / (weight[:, 0] + weight[:, 2]), rtol=1e-4)


def test_values_that_are_not_finite_are_replaced_where_the_side_car_says_so(tmp_path: Path) -> None:
    path = save_sum(tmp_path / "x.onnx", ["n", 1])
    columns, _ = jets(2)
    columns["tau21"][0] = np.inf
    given = NetworkInput(("tau21",), scaling={"tau21": Scaling(median=1, norm_factor=2, replace_inf_value=3)})

    scores, n_bad = load_tagger(path, foreign("features", given)).scores(columns)

    assert scores[0] == pytest.approx((3 - 1) * 2)
    assert n_bad == 0


def test_jet_inputs_of_rank_two_and_networks_in_double_precision_work(tmp_path: Path) -> None:
    nodes = [helper.make_node("ReduceSum", ["in", "axes"], ["score"], keepdims=1)]
    constants = {"axes": np.array([1], np.int64)}
    path = save(tmp_path / "d.onnx", {"in": ["n", 2]}, nodes, ("score", ["n", 1]), constants, TensorProto.DOUBLE)
    columns, _ = jets(5)

    scores, _ = load_tagger(path, foreign("in", NetworkInput(("pt", "mass")))).scores(columns)

    np.testing.assert_allclose(scores, columns["pt"] + columns["mass"], rtol=1e-6)


def test_a_fixed_length_is_filled_up_and_cut(tmp_path: Path) -> None:
    path = save_sum(tmp_path / "x.onnx", ["n", 4, 1], "parts")
    columns, constituents = jets(20)
    given = NetworkInput(("mask",), constituents=True, scaling={"mask": Scaling(pad=0.5)}, min_length=4, max_length=4)

    scores, _ = load_tagger(path, foreign("parts", given)).scores(columns, constituents)

    n = np.minimum(constituents.counts, 4)
    np.testing.assert_allclose(scores, n + 0.5 * (4 - n))


CONSTITUENTS = NetworkInput(("px",), constituents=True)


@pytest.mark.parametrize(
    ("shape", "said", "message"),
    [
        ([64, 1], foreign("features", NetworkInput(("pt",))), "takes 64 jets at a time, no more and no fewer"),
        (["n", 2], foreign("features", NetworkInput(("pt",))), r"would be given as \(any, 1\)"),
        (["n", 2, 2], foreign("features", NetworkInput(("pt",))), r"would be given as \(any, 1\)"),
        (["n", 7, 1], foreign("features", CONSTITUENTS), "set min_length and max_length to 7"),
        (
            ["n", 1],
            foreign("other", NetworkInput(("pt",))),
            "no input 'other'; nothing is said of the input 'features'",
        ),
        (["n", 1], foreign("features", NetworkInput(("pt",)), output="z"), "no output 'z'"),
        (["n", "m", 1], foreign("features", NetworkInput(("d0",), constituents=True)), "no column d0 of constituents"),
        (["n", 1], ForeignTagger(), "say by preprocess or inputs what its inputs hold"),
        (["n", 1], foreign("features", NetworkInput(("pt",)), signal=("top",)), "no class top; its classes are none"),
    ],
)
def test_what_does_not_fit_the_network_is_refused(
    tmp_path: Path, shape: Sequence[int | str], said: ForeignTagger, message: str
) -> None:
    path = save_sum(tmp_path / "x.onnx", shape)

    with pytest.raises(ValueError, match=message):
        load_tagger(path, said)


def test_classes_have_to_be_chosen(tmp_path: Path) -> None:
    preprocess_of(tmp_path / "preprocess.json")
    path = save_weaver(tmp_path / "pnet.onnx")

    with pytest.raises(ValueError, match="which classes make the score: label_Top, label_W, label_QCD"):
        load_tagger(path, ForeignTagger(str(tmp_path / "preprocess.json"), variables=VARIABLES))


def test_a_network_that_onnxruntime_cannot_load_is_refused_with_its_reason(tmp_path: Path) -> None:
    node = helper.make_node("NoSuchOperator", ["x"], ["y"])
    path = save(tmp_path / "x.onnx", {"x": ["n", 1]}, [node], ("y", ["n", 1]))

    with pytest.raises(ValueError, match="NoSuchOperator"):
        load_tagger(path, foreign("x", NetworkInput(("pt",))))


def test_a_side_car_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"input_names": ["x"]}')
    (tmp_path / "b.json").write_text("no")

    for name in ("a.json", "b.json"):
        with pytest.raises(ValueError, match=r"is not a preprocess\.json, which has input_names"):
            read_preprocess(str(tmp_path / name))
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_preprocess(str(tmp_path / "c.json"))


def test_a_tagger_that_does_not_exist_is_answered_with_those_that_ship() -> None:
    with pytest.raises(FileNotFoundError, match=r"w_dense_disc does not exist.*w_dense_disco"):
        load_tagger("w_dense_disc")


def test_columns_that_jets_lack_are_named(tmp_path: Path) -> None:
    path = save_sum(tmp_path / "x.onnx", ["n", 2])
    tagger = load_tagger(path, foreign("features", NetworkInput(("pt", "btag"))))

    with pytest.raises(ValueError, match="takes btag, which the jets do not have"):
        tagger.scores(jets(3)[0])


def test_the_card_of_a_calibration_is_refused(tmp_path: Path) -> None:
    path = save_sum(tmp_path / "c.onnx", ["n", 1])
    write_card(ModelCard("calibration", ("pt",)), tmp_path / "c.json")

    with pytest.raises(ValueError, match="is a calibration by its card"):
        load_tagger(path)
