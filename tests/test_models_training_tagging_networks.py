"""Networks on constituents and trees: what must not matter to them, and what ONNX makes of them."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
pytest.importorskip("tensorflow", reason="needs the extra `train`", exc_type=ImportError)
pytest.importorskip("sklearn", reason="needs the extra `train`")

import tensorflow as tf
from scipy.spatial import cKDTree
from tagger_toys import NAMES, columns, lists, momenta, write

from models.features import RaggedConstituents
from models.session import OnnxModel
from models.tagging.tagger import load_tagger
from models.training.errors import RefusedError
from models.training.tagging import command
from models.training.tagging.constituents import cloud_of
from models.training.tagging.export import to_onnx, with_map
from models.training.tagging.graphs import EdgeConvolution
from models.training.tagging.images import image_of
from models.training.tagging.loop import predict_logits, train
from models.training.tagging.networks import TaggerNetwork, make_network
from models.training.tagging.pipeline import of_jets
from models.training.tagging.samples import TEST, read_sample
from models.training.tagging.settings import (
    ColumnSettings,
    DecorrelationSettings,
    EvaluationSettings,
    FitSettings,
    Kind,
    NetworkSettings,
    TaggerSettings,
)
from processors.jet_images import jet_images

if TYPE_CHECKING:
    from pathlib import Path

    from models.training.tagging.settings import Map, Method

ON_CONSTITUENTS: tuple[Kind, ...] = tuple(kind for kind in get_args(Kind) if kind not in {"dense", "bdt"})
N = 6000
ANEW = {"scan": False, "resume": False, "overwrite": False}


def network(kind: Kind, length: int = 20) -> TaggerNetwork:
    return make_network(NetworkSettings(kind=kind, length=length), 0, 1)


def logits(made: TaggerNetwork, padded: np.ndarray) -> np.ndarray:
    return np.asarray(made({"constituents": tf.constant(padded.astype(np.float32))}), np.float64)


def settings_of(kind: Kind, method: Method = "none", **changed: Any) -> TaggerSettings:
    return TaggerSettings(
        columns=ColumnSettings(features=NAMES),
        network=NetworkSettings(kind=kind, length=20),
        decorrelation=DecorrelationSettings(method=method, bins=8, adversary_units=(8,), components=4, **changed),
        fit=FitSettings(steps=40, rounds=5, batch=1500, average=8),
        evaluation=EvaluationSettings(replicas=2),
    )


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    values = columns(N)
    values |= lists(momenta(N, two_prongs=values["label"] == 1))
    return write(tmp_path_factory.mktemp("tables") / "table.parquet", values)


@pytest.mark.parametrize("kind", ON_CONSTITUENTS)
def test_the_exported_network_gives_the_scores_of_keras_for_any_length(kind: Kind) -> None:
    import onnxruntime

    made = network(kind)
    model = to_onnx(with_map(made, NAMES, None, "mass", "pt"))
    session = onnxruntime.InferenceSession(model.SerializeToString())

    for length in (1, 5, 20, 40):
        padded = momenta(50, seed=length, longest=length).padded(length)
        (found,) = session.run(["score"], {"constituents": padded})
        np.testing.assert_allclose(found[:, 0], 1 / (1 + np.exp(-logits(made, padded))), atol=1e-5)
    if kind != "particlenet":  # onnxruntime does not multiply matrices of no jets; the tagger does not ask it to
        assert session.run(["score"], {"constituents": np.zeros((0, 20, 4), np.float32)})[0].shape == (0, 1)


@pytest.mark.parametrize("kind", ON_CONSTITUENTS)
def test_zeros_behind_the_constituents_do_not_matter(kind: Kind) -> None:
    made, given = network(kind, 40), momenta(60, longest=12)

    np.testing.assert_allclose(logits(made, given.padded(12)), logits(made, given.padded(33)), atol=2e-5)


@pytest.mark.parametrize("kind", ON_CONSTITUENTS)
def test_a_turn_about_the_beam_does_not_matter(kind: Kind) -> None:
    made, padded = network(kind), momenta(60).padded(20)
    cosine, sine = np.cos(0.25 * np.pi), np.sin(0.25 * np.pi)
    turned = padded.copy()
    turned[..., 0] = cosine * padded[..., 0] - sine * padded[..., 1]
    turned[..., 1] = sine * padded[..., 0] + cosine * padded[..., 1]

    differences = np.abs(logits(made, turned) - logits(made, padded))

    # single jets have a constituent at the edge of a pixel
    assert np.quantile(differences, 0.8 if kind == "image" else 1.0) < 1e-3


def test_what_is_known_of_constituents_is_what_their_momenta_say() -> None:
    given = momenta(1, longest=8)
    pt = np.hypot(*given.values[:, :2].T.astype(np.float64))
    total = given.values.astype(np.float64).sum(axis=0)
    eta = np.arcsinh(given.values[:, 2] / pt) - np.arcsinh(total[2] / np.hypot(*total[:2]))
    phi = np.arctan2(given.values[:, 1], given.values[:, 0]) - np.arctan2(total[1], total[0])

    cloud = cloud_of(tf.constant(given.padded(8)), 8)

    there = slice(len(pt))
    np.testing.assert_allclose(cloud.pt[0, there], pt, rtol=1e-5)
    np.testing.assert_allclose(cloud.share[0, there], pt / pt.sum(), rtol=1e-5)
    np.testing.assert_allclose(np.arcsinh(cloud.eta[0, there]), eta, atol=1e-5)
    np.testing.assert_allclose(np.arcsin(cloud.phi[0, there]), (phi + np.pi) % (2 * np.pi) - np.pi, atol=1e-5)
    np.testing.assert_allclose(cloud.columns[0, there, 4], 0.7 * (np.log(pt / pt.sum()) + 4.7), atol=1e-4)


def test_energy_flow_does_not_see_a_collinear_splitting_or_a_soft_particle() -> None:
    made, given = network("energyflow", 40), momenta(60, longest=20).padded(40)
    split = np.concatenate([given[:, :20], given[:, :1] * 0.3], axis=1)
    split[:, 0] *= 0.7
    split = np.concatenate([split, 1e-6 * np.flip(given[:, 1:2], axis=0)], axis=1)

    np.testing.assert_allclose(logits(made, split), logits(made, given), atol=1e-4)


def test_products_do_not_change_with_a_boost() -> None:
    made, given = network("lorentz"), momenta(60).padded(20).astype(np.float64)
    gamma, direction = 1.2, np.array([0.6, 0.0, 0.8])
    beta = np.sqrt(1 - 1 / gamma**2) * direction
    along = given[..., :3] @ beta
    boosted = given.copy()
    boosted[..., 3] = gamma * (given[..., 3] + along)
    boosted[..., :3] += ((gamma - 1) * along / (beta @ beta) + gamma * given[..., 3])[..., None] * beta

    np.testing.assert_allclose(logits(made, boosted), logits(made, given), atol=2e-3)


def test_nearest_neighbours_are_those_of_a_tree() -> None:
    given = momenta(1, seed=4, longest=40).padded(40)
    while np.count_nonzero(given[0, :, 3]) < 12:
        given = np.concatenate([given[:, 1:], given[:, :1] * 0 + momenta(1, seed=5, longest=40).padded(1)], axis=1)
    cloud = cloud_of(tf.constant(given), 40)
    points = np.stack([cloud.eta, cloud.phi], axis=-1)
    there = np.flatnonzero(np.asarray(cloud.is_there)[0])

    found = np.asarray(EdgeConvolution(4, 5).nearest(tf.constant(points), cloud.is_there))[0, there]

    expected = there[cKDTree(points[0, there]).query(points[0, there], 6)[1][:, 1:]]
    np.testing.assert_array_equal(np.sort(found), np.sort(expected))


def image_by_hand(jet: np.ndarray, half_width: float) -> np.ndarray:
    """Steps of an image with the eigenvectors of the covariance and numpy's histogram, in coordinates of the graph."""
    px, py, pz, _ = jet.T.astype(np.float64)
    total, pt = jet.sum(axis=0, dtype=np.float64), np.hypot(px, py)
    eta = np.arcsinh(pz / pt) - np.arcsinh(total[2] / np.hypot(*total[:2]))
    phi = np.arctan2(py, px) - np.arctan2(total[1], total[0])
    points = np.column_stack([np.sinh(eta), np.sin(phi)])
    points -= np.average(points, axis=0, weights=pt)
    points = points @ np.linalg.eigh((points * pt[:, None]).T @ points)[1]
    signs = [(i, j) for i in (1, -1) for j in (1, -1)]
    points = points * max(signs, key=lambda sign: pt[(points * sign > 0).all(axis=1)].sum())
    edges = np.linspace(-half_width, half_width, 34)
    image = np.histogram2d(points[:, 1], points[:, 0], bins=[edges, edges], weights=pt)[0]
    return np.asarray(image / image.sum())


def test_images_of_the_graph_are_those_of_numpy_in_its_coordinates() -> None:
    given = momenta(200, seed=3)
    given = given.take(np.flatnonzero(given.counts >= 4))

    found = np.asarray(image_of(tf.constant(given.padded(20)), 20, 0.8))

    expected = np.stack([image_by_hand(jet, 0.8) for jet in _of_jets(given)])
    # single precision moves a constituent at the edge of a pixel
    assert np.mean(np.abs(found - expected).max(axis=(1, 2)) < 1e-4) > 0.98


def test_images_of_the_graph_are_close_to_those_of_the_kernels() -> None:
    given = momenta(200, seed=3)

    found = np.asarray(image_of(tf.constant(given.padded(20)), 20, 0.8))

    np.testing.assert_allclose(found.sum(axis=(1, 2)), 1.0, rtol=1e-5)
    assert np.abs(found - jet_images(given, 0.8)).sum(axis=(1, 2)).mean() < 0.1


@pytest.mark.parametrize(
    ("jets", "asked", "expected"), [({"radius": 1.0}, None, 1.0), ({"radius": 1.0}, 0.6, 0.6), ({}, None, 0.8)]
)
def test_an_image_reaches_as_far_as_the_jets_of_the_table(
    jets: dict[str, float], asked: float | None, expected: float
) -> None:
    settings = settings_of("image")
    settings = replace(settings, network=replace(settings.network, half_width=asked))

    made: Any = make_network(of_jets(settings, jets).network, 0, 1)

    assert made.half_width == expected
    with_another = make_network(replace(settings.network, half_width=expected + 0.5), 0, 1)
    given = momenta(50).padded(20)
    assert np.abs(logits(made, given) - logits(with_another, given)).max() > 1e-4


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=pytest.mark.slow) for kind in ON_CONSTITUENTS[1:]])
def test_two_prongs_are_told_from_one(kind: Kind, table: Path, tmp_path: Path) -> None:
    settings = settings_of(kind)
    if kind in {"particlenet", "lorentz", "image"}:
        settings = replace(settings, fit=replace(settings.fit, steps=30, batch=500))
    sample = read_sample([table], settings)

    state = train(sample, settings, tmp_path)

    assert state.history[-1]["auc"] > 0.68


@pytest.mark.slow
@pytest.mark.parametrize("method", ["planing", "disco", "adversarial", "adversarial-binned", "mode", "soft-jsd"])
def test_every_penalty_works_with_a_network_on_constituents(method: Method, table: Path, tmp_path: Path) -> None:
    settings = settings_of("deepsets", method, strength=None if method == "planing" else 0.1)
    settings = replace(settings, fit=replace(settings.fit, batch=2400, steps=36, rounds=3))

    state = train(read_sample([table], settings), settings, tmp_path)

    assert np.isfinite(state.history[-1]["loss"])
    assert state.history[-1]["rejection"] > 2.2


@pytest.mark.parametrize("mapped", ["none", "quantile"])
def test_a_trained_network_on_constituents_is_applied_by_its_card(mapped: Map, table: Path, tmp_path: Path) -> None:
    settings = settings_of("deepsets", "none", map=mapped)
    command.run([table], settings, tmp_path / "out", scan=False, resume=False, overwrite=False)
    sample = read_sample([table], settings).of_fold(TEST)

    tagger = load_tagger(str(tmp_path / "out" / "tagger.onnx"))
    scores, lost = tagger.scores({"mass": sample.protected, "pt": sample.condition}, sample.constituents)

    assert lost == 0
    assert (
        ("mass" in tagger.inputs["features"].columns)
        if mapped == "quantile"
        else set(tagger.inputs) == {"constituents"}
    )
    rank = np.argsort(np.argsort(scores))
    assert rank[sample.is_signal].mean() > 1.3 * rank[sample.is_background].mean()


def test_a_table_without_constituents_is_refused(tmp_path: Path) -> None:
    bare = write(tmp_path / "bare.parquet", columns(N))

    with pytest.raises(RefusedError, match="no constituents, which the network deepsets sees"):
        read_sample([bare], settings_of("deepsets"))


def test_jets_without_finite_constituents_are_left_out_and_counted(tmp_path: Path) -> None:
    given = momenta(N)
    given.values[given.offsets[5], 1] = np.nan
    path = write(tmp_path / "table.parquet", columns(N) | lists(given))

    sample = read_sample([path], settings_of("deepsets"))

    assert len(sample) == N - 1
    assert sample.notes == ("1 jets left out: no constituents, or some that are not finite",)


def test_constituents_are_taken_in_the_order_of_their_pt(tmp_path: Path) -> None:
    given = momenta(N)
    turned = RaggedConstituents(given.offsets, np.concatenate([each[::-1] for each in _of_jets(given)]))
    samples = [
        read_sample([write(tmp_path / f"{i}.parquet", columns(N) | lists(each))], settings_of("deepsets"))
        for i, each in enumerate((given, turned))
    ]

    first, second = (sample.constituents for sample in samples)

    assert first is not None
    assert second is not None
    np.testing.assert_array_equal(first.values, second.values)


def _of_jets(given: RaggedConstituents) -> list[np.ndarray]:
    return [given.values[start:stop] for start, stop in zip(given.offsets[:-1], given.offsets[1:], strict=True)]


@pytest.mark.parametrize("mapped", ["none", "quantile"])
def test_trees_are_exported_with_their_columns_and_the_map(mapped: Map, table: Path, tmp_path: Path) -> None:
    settings = settings_of("bdt", "planing", map=mapped)
    command.run([table], settings, tmp_path / "out", scan=False, resume=False, overwrite=False)
    tagger = load_tagger(str(tmp_path / "out" / "tagger.onnx"))
    sample = read_sample([table], settings).of_fold(TEST)
    sample.features[0, 0] = np.nan
    given = {name: sample.features[:, i] for i, name in enumerate(NAMES)}
    given = {**given, "mass": sample.protected.astype(np.float32), "pt": sample.condition.astype(np.float32)}

    session = OnnxModel(str(tmp_path / "out" / "tagger.onnx"))
    every = np.column_stack([given[name] for name in tagger.inputs["features"].columns]).astype(np.float32)
    scores = session(every)[:, 0]

    np.testing.assert_allclose(tagger.scores(given)[0], scores, atol=1e-6)  # the median stands for what is not finite
    assert np.isfinite(scores).all()
    rank = np.argsort(np.argsort(scores))
    assert rank[sample.is_signal].mean() > 1.2 * rank[sample.is_background].mean()
    assert session(every[:0]).shape == (0, 1)


def test_exported_trees_give_the_scores_of_scikit_learn(table: Path) -> None:
    import onnxruntime

    from models.training.tagging.trees import train_trees

    settings = settings_of("bdt")
    sample = read_sample([table], settings)
    trees = train_trees(sample, settings)

    model = to_onnx(with_map(trees, NAMES, None, "mass", "pt"), (0.5,))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    score, passing = session.run(["score", "passing"], {"features": sample.features})

    expected = 1 / (1 + np.exp(-trees.logits(sample)))
    np.testing.assert_allclose(score[:, 0], expected, atol=1e-5)
    np.testing.assert_array_equal(passing[:, 0] == 1, score[:, 0] >= 0.5)


def test_trees_that_do_not_separate_are_a_collapse(tmp_path: Path) -> None:
    values = columns(N)
    values["x2"][:] = 1.0
    settings = replace(settings_of("bdt"), columns=ColumnSettings(features=("x2",)))

    with pytest.raises(command.CollapsedError, match=r"does not separate: .*; check the features"):
        command.run([write(tmp_path / "t.parquet", values)], settings, tmp_path / "out", **ANEW)


def test_trees_take_no_penalty() -> None:
    with pytest.raises(ValueError, match="bdt has no gradient that disco could use"):
        settings_of("bdt", "disco")


def test_predictions_do_not_depend_on_the_jets_beside(table: Path) -> None:
    settings = settings_of("deepsets")
    sample = read_sample([table], settings)
    made = network("deepsets")

    every = predict_logits(made, sample)

    np.testing.assert_allclose(predict_logits(made, sample.take(slice(7, 9))), every[7:9], atol=1e-5)
