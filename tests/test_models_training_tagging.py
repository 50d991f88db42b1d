"""Penalties, networks and the training loop of taggers, on toys whose best answer is known."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import norm

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
pytest.importorskip("tensorflow", reason="needs the extra `train`", exc_type=ImportError)

import keras
import tensorflow as tf
from tagger_toys import NAMES, columns, write

from models.card import read_card
from models.session import OnnxModel
from models.tagging.comparison import read_candidates
from models.tagging.distance_correlation import correlation_above_chance, distance_correlation
from models.tagging.maps import KINDS, fit_map
from models.tagging.tagger import ForeignTagger, load_tagger
from models.training.checkpoint import FILE as CHECKPOINT
from models.training.checkpoint import Checkpoint
from models.training.errors import RefusedError
from models.training.tagging import command, loop, penalties, pipeline, trees
from models.training.tagging.compare import _knowing
from models.training.tagging.export import Tagger, export, to_onnx, with_map
from models.training.tagging.loop import CollapsedError, predict_logits, prepare, train
from models.training.tagging.networks import Columns, DenseTagger, make_network
from models.training.tagging.penalties import make_penalty, reversed_gradient, with_passing
from models.training.tagging.samples import TRAINING, UNLABELLED, TaggerSample, read_sample
from models.training.tagging.settings import (
    ColumnSettings,
    DecorrelationSettings,
    EvaluationSettings,
    FitSettings,
    NetworkSettings,
    TaggerSettings,
)
from models.training.tagging.trees import train_trees

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from models.tagging.maps import Kind, ScoreMap
    from models.training.tagging.networks import TaggerNetwork
    from models.training.tagging.settings import Method

N = 6000
PENALTIES: tuple[Method, ...] = ("disco", "mode", "soft-jsd", "adversarial", "adversarial-binned")
SETTINGS = TaggerSettings(
    columns=ColumnSettings(features=NAMES),
    network=NetworkSettings(units=(16,)),
    decorrelation=DecorrelationSettings(bins=8, adversary_units=(8,), components=4),
    fit=FitSettings(steps=24, rounds=6, batch=3000, average=8),
    evaluation=EvaluationSettings(replicas=2),
)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write(tmp_path / "table.parquet", columns(N))


def with_method(method: Method, **changed: Any) -> TaggerSettings:
    return replace(SETTINGS, decorrelation=replace(SETTINGS.decorrelation, method=method, **changed))


def batch(n: int, seed: int = 1) -> tuple[Any, dict[str, Any]]:
    """Logits without any dependence on the rank, and what a penalty is told of the jets."""
    rng = np.random.default_rng(seed)
    rank = rng.random(n)
    told = {
        "rank": rank,
        "protected": rank**2,
        "condition": rng.normal(size=n),
        "background": rng.exponential(size=n) * (rng.random(n) < 0.8),
        "signal": rng.exponential(size=n),
        "simulation": (rng.random(n) < 0.5),
        "domain": np.ones(n),
    }
    return tf.constant(rng.normal(size=n).astype(np.float32)), {
        k: tf.constant(v.astype(np.float32)) for k, v in told.items()
    }


def value_and_slope(method: Method, logit: Any, told: dict[str, Any], **changed: Any) -> tuple[float, np.ndarray]:
    keras.utils.set_random_seed(1)
    penalty = make_penalty(replace(SETTINGS.decorrelation, method=method, **changed))
    with tf.GradientTape() as tape:
        tape.watch(logit)
        value = penalty.value(logit, told)
    return float(value), tf.convert_to_tensor(tape.gradient(value, logit)).numpy()


@pytest.mark.parametrize("method", ["disco", "mode", "soft-jsd"])
def test_a_penalty_is_small_without_dependence_and_large_with(method: Method) -> None:
    logit, told = batch(8000)

    without, _ = value_and_slope(method, logit, told)
    dependent, _ = value_and_slope(method, logit + 2.0 * (told["rank"] - 0.5), told)

    assert abs(without) < 0.05 * dependent


@pytest.mark.parametrize("method", ["disco", "mode"])
def test_a_penalty_has_no_mean_without_dependence(method: Method) -> None:
    found = [value_and_slope(method, *batch(1200, seed))[0] for seed in range(60)]

    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(len(found))


def test_half_of_the_weight_is_that_of_jets_that_pass() -> None:
    score, weight = tf.constant([0.0, 0.0, 0.0, 1.0]), tf.constant([2.0, 1.0, 0.0, 1.0])

    np.testing.assert_allclose(with_passing(score, weight), [0.25, 0.125, 0.0, 0.625])


@pytest.mark.parametrize("method", ["mode", "soft-jsd"])
def test_the_gradient_of_a_penalty_is_its_slope(method: Method) -> None:
    logit, told = batch(1500)
    logit = logit + 1.5 * told["rank"]
    is_free = (np.arange(1500) >= 400).astype(float)  # cuts are constants of the gradient: signal stays
    told = {**told, "signal": tf.constant(1 - is_free, tf.float32)}
    slopes = value_and_slope(method, logit, told)[1] * is_free
    centred = (logit.numpy() - logit.numpy().mean()) * is_free  # and so do mean and spread
    slopes = slopes - is_free * slopes.sum() / is_free.sum()
    slopes = slopes - centred * (slopes @ centred) / (centred @ centred)
    direction = slopes / np.abs(slopes).max()

    slope = float(value_and_slope(method, logit, told)[1] @ direction)

    step = tf.constant(0.02 * direction, tf.float32)
    up, down = (value_and_slope(method, logit + sign * step, told)[0] for sign in (1, -1))
    assert slope == pytest.approx((up - down) / 0.04, rel=0.1 if method == "soft-jsd" else 0.03)


@pytest.mark.parametrize("method", PENALTIES)
def test_only_the_ratios_of_weights_matter_and_signal_has_none(method: Method) -> None:
    logit, told = batch(3000)
    logit = logit + told["rank"]
    heavy = {**told, "background": 7 * told["background"]}
    is_background = (told["background"] > 0).numpy()

    (value, slope), (again, _) = (value_and_slope(method, logit, each) for each in (told, told))
    scaled, _ = value_and_slope(method, logit, heavy)

    assert scaled == pytest.approx(value, rel=1e-4)
    assert again == value
    assert np.all(slope[~is_background] == 0)


@pytest.mark.parametrize("method", PENALTIES)
def test_a_constant_score_gives_no_nan(method: Method) -> None:
    _, told = batch(2000)

    value, slope = value_and_slope(method, tf.zeros(2000), told)

    assert np.isfinite(value)
    assert np.isfinite(slope).all()


def test_disco_in_the_graph_is_the_fast_correlation() -> None:
    logit, told = batch(2000)

    value, slope = value_and_slope("disco", logit, told)

    values = logit.numpy().astype(np.float64)
    order = np.argsort(-values)
    passed = np.cumsum(told["signal"].numpy()[order])
    width = penalties._SOFTNESS * values.std() + 1e-3
    score = 1 / (1 + np.exp((values[order][np.searchsorted(passed, 0.5 * passed[-1])] - values) / width))
    weight = told["background"].numpy()
    halves = weight / weight.sum() + weight * score / (weight * score).sum()
    known = correlation_above_chance(score, told["protected"], halves, weight)
    assert value == pytest.approx(known.value, rel=1e-4)
    np.testing.assert_allclose(slope, known.gradient * score * (1 - score) / width, atol=1e-7)


def test_moments_allow_what_the_order_allows() -> None:
    logit, told = batch(20_000)
    score = 0.5 + 0.4 * (told["rank"] - 0.5) + 0.02 * tf.math.tanh(logit)
    sloped = tf.math.log(score / (1 - score))

    flat, _ = value_and_slope("mode", sloped, told, order=0)
    quadratic, _ = value_and_slope("mode", sloped, told, order=2)

    assert quadratic < 0.25 * flat


@pytest.mark.parametrize("method", ["adversarial", "adversarial-binned"])
def test_densities_of_an_adversary_have_the_integral_one(method: Method) -> None:
    penalty: Any = make_penalty(replace(SETTINGS.decorrelation, method=method))
    score = np.linspace(-4.2, 4.2, 2001)
    outputs = np.repeat(np.random.default_rng(1).normal(scale=0.3, size=(1, penalty.n_outputs)), len(score), axis=0)
    outputs[:, -(penalty.n_outputs // 3) :] -= 1.0  # components so narrow that none is wider than the range

    density = np.exp(penalty.log_density(tf.constant(outputs, tf.float32), tf.constant(norm.cdf(score), tf.float32)))

    assert np.trapezoid(density * norm.pdf(score), score) == pytest.approx(1.0, abs=1e-3)


def test_the_mixture_of_an_adversary_is_the_one_of_scipy_and_has_its_slope() -> None:
    penalty: Any = make_penalty(replace(SETTINGS.decorrelation, method="adversarial", components=3))
    outputs = np.array([[0.3, -0.2, 0.0, 0.1, 0.5, -0.4, -0.5, 0.2, 0.6], [1, -2, 0, 3, 0, -1, 0.4, -1.5, 0]])
    rank = np.array([0.3, 0.9])

    def log_density(values: NDArray[np.float64]) -> NDArray[np.float64]:
        shares, shifts, widths = np.split(values, 3, axis=-1)
        parts = norm.pdf(norm.ppf(rank)[:, None], np.linspace(-2, 2, 3) + shifts, np.exp(widths))
        found: NDArray[np.float64] = np.sum(softmax(shares, axis=-1) * parts, axis=-1) / norm.pdf(norm.ppf(rank))
        return np.log(found)

    given = tf.constant(outputs, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(given)
        found = penalty.log_density(given, tf.constant(rank, tf.float32))

    np.testing.assert_allclose(found, log_density(outputs), atol=1e-4)
    steps = np.eye(9)[:, None, :] * 1e-5
    slopes = np.array([(log_density(outputs + step) - log_density(outputs - step)) / 2e-5 for step in steps]).T
    np.testing.assert_allclose(tape.gradient(found, given), slopes, atol=1e-4)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 1.0])
def test_an_adversary_knows_the_condition_of_a_share_of_jets(share: float) -> None:
    keras.utils.set_random_seed(1)
    penalty = make_penalty(replace(SETTINGS.decorrelation, method="adversarial", conditional=share))
    assert isinstance(penalty, penalties.Adversary)
    logit, told = batch(5000)

    found = [penalty.outputs(logit, tf.sigmoid(logit), told["condition"] + shift).numpy() for shift in (0.0, 1.0)]

    assert np.mean(np.any(found[0] != found[1], axis=1)) == pytest.approx(share, abs=0.01)


def adversary(method: Method, logit: Any, told: dict[str, Any], **changed: Any) -> Any:
    """An adversary whose own variables had a hundred steps on fixed logits."""
    keras.utils.set_random_seed(1)
    penalty: Any = make_penalty(replace(SETTINGS.decorrelation, method=method, adversary_units=(16,), **changed))
    optimizer = keras.optimizers.Adam(0.03)

    def step() -> None:
        with tf.GradientTape() as tape:
            loss, _ = penalty.term(logit, told, tf.constant(1.0))
        optimizer.apply(tape.gradient(loss, penalty.variables), penalty.variables)

    optimizer.build(penalty.variables)
    compiled = tf.function(step)
    for _ in range(100):
        compiled()
    return penalty


def dependent(told: dict[str, Any], logit: Any) -> Any:
    """Logits whose correlation with the normal score of the rank is 0.8."""
    return 0.8 * tf.math.ndtri(told["rank"]) + 0.6 * logit


@pytest.mark.parametrize("method", ["adversarial", "adversarial-binned"])
def test_an_adversary_finds_the_information_that_the_score_has(method: Method) -> None:
    independent, told = batch(6000)
    logit = dependent(told, independent)

    found = float(adversary(method, logit, told, conditional=0.0).value(logit, told))
    nothing = float(adversary(method, independent, told, conditional=0.0).value(independent, told))

    # at a logit x the normal score is normal with mean 0.8 x and variance 0.36
    of_jets = 0.5 * (0.64 * logit.numpy() ** 2 + 0.36 - 1 - np.log(0.36))
    weight = with_passing(penalties.centred_score(logit, told), told["background"]).numpy()
    known = float(weight @ of_jets)
    assert known > 0.4
    assert 0.8 * known < found < 1.05 * known  # bins and few components see less of it
    assert abs(nothing) < 0.05 * known


@pytest.mark.parametrize("method", ["adversarial", "adversarial-binned"])
def test_a_score_that_goes_against_an_adversary_depends_less(method: Method) -> None:
    independent, told = batch(6000)
    logit = dependent(told, independent)
    penalty = adversary(method, logit, told)

    with tf.GradientTape() as tape:
        tape.watch(logit)
        loss, _ = penalty.term(logit, told, tf.constant(1.0))
    slope = tf.convert_to_tensor(tape.gradient(loss, logit))
    after = logit - 0.2 * slope / tf.math.reduce_std(slope)

    weight = told["background"].numpy()
    before, then = (distance_correlation(each.numpy(), told["rank"].numpy(), weight) for each in (logit, after))
    assert then < 0.8 * before


@pytest.mark.parametrize("method", ["adversarial", "adversarial-binned"])
def test_an_adversary_finds_a_dependence_that_only_the_condition_shows(method: Method) -> None:
    logit, told = batch(6000)
    told["condition"] = 3.0 * (told["rank"] - 0.5)

    found = [float(adversary(method, logit, told, conditional=each).value(logit, told)) for each in (0.0, 0.5, 1.0)]

    assert abs(found[0]) < 0.03
    assert found[1] > 0.3
    assert found[2] > 1.5 * found[1]


def test_a_reversed_gradient_has_the_other_sign_times_the_strength() -> None:
    values = tf.constant([1.0, 2.0])
    with tf.GradientTape() as tape:
        tape.watch(values)
        squares = tf.reduce_sum(reversed_gradient(values, tf.constant(3.0)) ** 2)

    np.testing.assert_allclose(tape.gradient(squares, values), [-6.0, -12.0])


def test_columns_are_standardised_whatever_they_hold() -> None:
    rng = np.random.default_rng(1)
    given = np.column_stack([rng.normal(5, 2, N), np.exp(rng.normal(3, 1, N)), np.full(N, 7.0), np.full(N, np.nan)])
    given[::10, 0] = np.nan
    layer = Columns(4)
    layer.adapt(given.astype(np.float32), np.ones(N))

    found = np.asarray(layer(given.astype(np.float32)))

    np.testing.assert_allclose(found[:, :2].std(axis=0), 1.0, atol=0.1)
    assert abs(np.mean((found[:, 1] - found[:, 1].mean()) ** 3)) < 0.2  # a long tail is gone
    assert np.all(found[:, 2:] == 0)
    assert np.abs(found[::10, 0]).max() < 0.1  # the median
    assert np.isfinite(np.asarray(layer(np.array([[np.inf, -1.0, 1e30, -np.inf]], np.float32)))).all()


@pytest.mark.parametrize("label", [0, 1, UNLABELLED])
def test_a_cross_section_does_not_move_the_scales_of_columns(table: Path, label: int) -> None:
    sample = read_sample([table], SETTINGS)
    is_data = np.arange(len(sample)) % 3 == 0
    sample = replace(
        sample,
        features=sample.features + 2 * is_data[:, np.newaxis],
        label=np.where(is_data, UNLABELLED, sample.label).astype(np.int8),
    )
    heavy = replace(sample, weight=np.where(sample.label == label, 1000 * sample.weight, sample.weight))
    networks = [make_network(SETTINGS.network, len(NAMES), 1) for _ in range(2)]

    for network, given in zip(networks, (sample, heavy), strict=True):
        network.adapt(given)

    found, expected = (np.asarray(each.columns(tf.constant(sample.features))) for each in networks)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    for chosen in (sample.is_signal, sample.is_background, is_data):
        assert np.mean(np.abs(found[chosen]) > 3) < 0.03


def test_a_cross_section_does_not_move_the_scales_of_trees(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "TREES", 2)
    sample = read_sample([table], SETTINGS)
    heavy = replace(sample, weight=np.where(sample.is_background, 1000 * sample.weight, sample.weight))
    settings = replace(with_method("none"), network=NetworkSettings(kind="bdt"))

    found, expected = (train_trees(each, settings).standardised(sample.features) for each in (heavy, sample))

    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("method", ["none", "planing", *PENALTIES])
def test_every_method_trains_and_separates(table: Path, tmp_path: Path, method: Method) -> None:
    settings = with_method(method)
    settings = replace(settings, fit=replace(settings.fit, learning_rate=2e-2))
    sample = read_sample([table], settings)

    state = train(sample, settings, tmp_path)

    assert state.history[-1]["auc"] > 0.75
    assert state.history[-1]["validation_loss"] < np.log(2)
    assert Checkpoint.load(tmp_path / CHECKPOINT).groups["norm"][0] == float(state.norm) > 0
    assert np.isfinite([row["penalty"] for row in state.history]).all()


def test_the_seed_decides_and_a_killed_training_goes_on(table: Path, tmp_path: Path) -> None:
    settings = with_method("adversarial")
    sample = read_sample([table], settings)
    whole = train(sample, settings, tmp_path)
    folder = tmp_path / "killed"
    folder.mkdir()

    def killed(row: Any) -> None:
        if row["round"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(sample, settings, folder, report=killed)
    resumed = train(sample, settings, folder, resume=True)

    assert len(resumed.history) == len(whole.history)
    np.testing.assert_array_equal(predict_logits(whole.network, sample), predict_logits(resumed.network, sample))


def test_a_checkpoint_of_another_network_is_refused(table: Path, tmp_path: Path) -> None:
    sample = read_sample([table], SETTINGS)
    Checkpoint({"weight": [np.zeros(3)]}).save(tmp_path / CHECKPOINT)

    with pytest.raises(RefusedError, match="no checkpoint of this training"):
        train(sample, SETTINGS, tmp_path, resume=True)


def test_a_checkpoint_that_is_cut_off_is_refused(table: Path, tmp_path: Path) -> None:
    sample = read_sample([table], SETTINGS)
    Checkpoint({"weight": [np.zeros(300)]}).save(tmp_path / CHECKPOINT)
    whole = (tmp_path / CHECKPOINT).read_bytes()
    (tmp_path / CHECKPOINT).write_bytes(whole[: len(whole) // 2])

    with pytest.raises(RefusedError, match="cut off"):
        train(sample, SETTINGS, tmp_path, resume=True)


def test_a_tagger_that_does_not_separate_stops(tmp_path: Path) -> None:
    values = columns(N)
    values["x2"][:] = 1.0
    table = write(tmp_path / "table.parquet", values)
    settings = replace(with_method("none"), columns=replace(SETTINGS.columns, features=("x2",)))

    with pytest.raises(CollapsedError, match=r"collapsed after .* steps: .*; check the features"):
        train(read_sample([table], settings), settings, tmp_path)


def test_a_short_training_that_does_not_separate_is_a_collapse_too(tmp_path: Path) -> None:
    values = columns(N)
    values["x2"][:] = 1.0
    table = write(tmp_path / "table.parquet", values)
    settings = replace(with_method("none"), columns=replace(SETTINGS.columns, features=("x2",)))
    settings = replace(settings, fit=replace(settings.fit, rounds=3))

    with pytest.raises(CollapsedError, match=r"does not separate: rejection .*; check the features"):
        command.run([table], settings, tmp_path / "out", scan=False, resume=False, overwrite=False)
    assert (tmp_path / "out" / "history.csv").is_file()
    assert not (tmp_path / "out" / "tagger.onnx").exists()


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (FitSettings, {"average": 0}, "fit.average is at least 1"),
        (DecorrelationSettings, {"adversary_rate": 0.0}, "adversary_rate is above 0"),
        (DecorrelationSettings, {"conditional": 1.5}, "conditional is a share"),
        (NetworkSettings, {"kind": "bdt", "units": (1,)}, "leaves of a tree, at least 2"),
    ],
)
def test_settings_that_cannot_train_are_refused(kind: Any, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**values)


def test_a_constant_score_is_a_collapse_whose_cure_is_told() -> None:
    settings = with_method("disco", strength=1e5, warm_up=0.0)
    state = _state(1e5)
    state.history = [{"rejection": 30.0, "spread": 1e-6, "steps": 10.0, "strength": 1e5}] * 5

    with pytest.raises(CollapsedError, match="lower --strength"):
        loop._check_collapse(state, settings)


def test_the_strength_rises_while_the_target_is_missed_and_falls_when_it_is_met() -> None:
    settings = with_method("disco", target_inverse_jsd=1000.0, warm_up=0.0)
    state = _state(20.0)

    loop._adjust(state, {"jsd_bound": 5e-3, "jsd_floor": 0.0, "rejection": 20.0}, settings)
    risen = state.strength
    loop._adjust(state, {"jsd_bound": 1e-5, "jsd_floor": 0.0, "rejection": 20.0}, settings)

    assert risen > 20.0
    assert state.strength < risen


@pytest.mark.parametrize(("last", "risen"), [(0.02, False), (0.012, True)])
def test_the_strength_waits_while_the_divergence_falls(last: float, *, risen: bool) -> None:
    settings = with_method("disco", target_inverse_jsd=1000.0, warm_up=0.0)
    settings = replace(settings, fit=replace(settings.fit, steps=100, rounds=100))
    state = _state(20.0)
    state.history = [
        {"jsd_bound": each, "jsd_floor": 0.0, "rejection": 20.0, "strength": 20.0} for each in (last, 0.012)
    ]

    loop._adjust(state, state.history[-1], settings)

    assert (state.strength > 20.0) == risen


def test_one_huge_gradient_counts_as_a_few_usual_ones_and_hardly_changes_what_is_usual() -> None:
    mean, usual = tf.Variable(0.0), [tf.constant([3.0, 0.0]), tf.constant([[4.0]])]

    first = loop._limited(usual, mean)
    huge = loop._limited([1000.0 * each for each in usual], mean)

    np.testing.assert_allclose(np.asarray(first[0]), [3.0, 0.0])
    assert float(tf.linalg.global_norm(huge)) == pytest.approx(15.0)
    assert float(mean) == pytest.approx(5.0, rel=0.05)
    np.testing.assert_allclose(np.asarray(loop._limited(usual, mean)[1]), [[4.0]])


@pytest.mark.parametrize("last", [2e-2, 2.6e-3])
def test_the_strength_does_not_run_away_from_where_the_divergence_was_first_as_good_as_least(last: float) -> None:
    settings = with_method("adversarial", target_inverse_jsd=1000.0, warm_up=0.0)
    settings = replace(settings, fit=replace(settings.fit, steps=100, rounds=100))
    state = _state(20.0)
    bounds = [1e-2, 5e-3, 3e-3, 3e-3, 3e-3, *np.linspace(3e-3, last, 15)]
    for bound in bounds:
        state.history.append({"jsd_bound": bound, "jsd_floor": 0.0, "rejection": 20.0, "strength": state.strength})
        loop._adjust(state, state.history[-1], settings)

    assert state.strength == pytest.approx(2 * state.history[4]["strength"])


@pytest.mark.parametrize(("bound", "sign"), [(6e-3, 1), (2.5e-3, -1)])
def test_the_strength_stays_where_no_more_dependence_can_be_seen(bound: float, sign: int) -> None:
    settings = with_method("disco", target_inverse_jsd=1000.0, warm_up=0.0)
    state = _state(20.0)

    loop._adjust(state, {"jsd_bound": bound, "jsd_floor": 3e-3, "rejection": 20.0}, settings)

    assert np.sign(state.strength - 20.0) == sign


@pytest.mark.parametrize(("rejection", "sign"), [(40.0, 1), (20.0, -1)])
def test_a_target_that_costs_too_much_rejection_is_not_followed(rejection: float, sign: int) -> None:
    settings = with_method("disco", target_inverse_jsd=1000.0, warm_up=0.2, least_share=0.3)
    settings = replace(settings, fit=replace(settings.fit, steps=100, rounds=10))
    state = _state(20.0)
    row = {"jsd_bound": 5e-3, "jsd_floor": 0.0, "rejection": rejection}
    state.history = [{"jsd_bound": 0.1, "jsd_floor": 0.0, "rejection": 100.0}, *[row] * 4]

    loop._adjust(state, row, settings)

    assert np.sign(state.strength - 20.0) == sign


def test_the_kept_round_is_the_last_of_the_late_ones_that_reach_the_target() -> None:
    settings = with_method("disco", target_inverse_jsd=1000.0, warm_up=0.0)
    settings = replace(settings, fit=replace(settings.fit, steps=100, rounds=100))
    state = _state(20.0)
    kept = []
    bounds = [1e-4] * 90 + [5e-4] * 6 + [2e-3] * 4
    for i, bound in enumerate(bounds):
        state.averaged = [tf.Variable(float(i))]
        state.history.append({"jsd_bound": bound, "jsd_floor": 0.0, "rejection": 20.0})
        loop._keep_best(state, state.history[-1], settings)
        kept.append(float(state.best[0]))

    assert kept[89] == 89
    assert kept[-1] == 96  # the mean of three rounds is still below the target


def test_an_earlier_round_is_kept_where_the_late_ones_are_far_from_the_target() -> None:
    settings = with_method("adversarial", target_inverse_jsd=1000.0, warm_up=0.1)
    settings = replace(settings, fit=replace(settings.fit, steps=100, rounds=100))
    state = _state(20.0)
    for i, bound in enumerate([0.1] * 40 + [1.5e-3] * 5 + [1e-2] * 55):
        state.averaged = [tf.Variable(float(i))]
        state.history.append({"jsd_bound": bound, "jsd_floor": 0.0, "rejection": 20.0})
        loop._keep_best(state, state.history[-1], settings)

    assert float(state.best[0]) == 44


def test_what_is_not_known_of_the_divergence_falls_with_the_jets_here_and_there(table: Path) -> None:
    settings = with_method("disco")
    sample = read_sample([table], settings)
    score = np.random.default_rng(1).normal(size=len(sample)) + sample.is_signal

    def margin(used: TaggerSample, jets: float) -> float:
        changed = replace(settings, decorrelation=replace(settings.decorrelation, reference_jets=jets))
        prepared = prepare(used, changed)
        jsd, bound, _ = loop._coarse_divergence(score[: len(prepared.monitored)], prepared)
        return bound - max(jsd, 0.0)

    assert margin(sample, 1e6) < margin(sample, 1e5) < margin(sample, 1e4)
    assert margin(sample, 1e6) < margin(sample.take(slice(N // 2)), 1e6)


def test_a_plain_training_ends_when_its_validation_loss_stays_where_it_is(table: Path, tmp_path: Path) -> None:
    settings = with_method("none")
    settings = replace(settings, fit=replace(settings.fit, steps=400, rounds=100, learning_rate=5e-2, patience=5))
    sample = read_sample([table], settings)

    state = train(sample, settings, tmp_path)
    whole = train(sample, replace(settings, fit=replace(settings.fit, patience=0)), tmp_path)

    assert len(state.history) < len(whole.history) == 100
    losses = [row["validation_loss"] for row in state.history]
    assert int(np.argmin(losses)) >= len(losses) - 6 or min(losses[-5:]) > 0.999 * min(losses)
    assert state.history == [
        {**row, "seconds": mine["seconds"]} for row, mine in zip(whole.history, state.history, strict=False)
    ]


def test_a_training_with_a_target_goes_on_where_it_was_killed(table: Path, tmp_path: Path) -> None:
    settings = with_method("disco", warm_up=0.1, target_inverse_jsd=30.0)
    settings = replace(settings, fit=replace(settings.fit, rounds=12, learning_rate=1e-2))
    sample = read_sample([table], settings)
    folders = [tmp_path / name for name in ("whole", "killed")]
    for folder in folders:
        folder.mkdir()
    whole = train(sample, settings, folders[0])

    def killed(row: Any) -> None:
        if row["round"] == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(sample, settings, folders[1], report=killed)
    resumed = train(sample, settings, folders[1], resume=True)

    strengths = {row["strength"] for row in whole.history}
    assert len(strengths) > 3  # the multiplier moves
    assert [row["strength"] for row in resumed.history] == [row["strength"] for row in whole.history]
    np.testing.assert_array_equal(predict_logits(whole.network, sample), predict_logits(resumed.network, sample))


def _state(strength: float) -> Any:
    penalty = make_penalty(SETTINGS.decorrelation)
    network: Any = None
    return loop.State(network, penalty, [], [], tf.Variable(0.0), strength)


def test_a_batch_without_enough_background_is_refused(table: Path) -> None:
    settings = replace(with_method("soft-jsd"), fit=replace(SETTINGS.fit, batch=500))

    with pytest.raises(RefusedError, match=r"soft-jsd needs at least 1024 background jets in a batch, 500 jets have"):
        prepare(read_sample([table], settings), settings)


def trained(seed: int = 1) -> DenseTagger:
    made = make_network(NetworkSettings(units=(8, 8)), len(NAMES), seed)
    sample = columns(N)
    made.columns.adapt(np.column_stack([sample[name] for name in NAMES]).astype(np.float32), np.ones(N))
    assert isinstance(made, DenseTagger)
    return made


def test_the_exported_network_gives_the_scores_of_keras(tmp_path: Path) -> None:
    import onnx

    network = trained()
    path = tmp_path / "tagger.onnx"
    onnx.save(to_onnx(Tagger(network, NAMES, 3), (0.2, 0.5)), str(path))
    rng = np.random.default_rng(1)
    features = rng.normal(size=(500, 3)).astype(np.float32) * 10
    features[0], features[1] = np.nan, np.inf
    session = OnnxModel(str(path))

    expected = 1 / (1 + np.exp(-np.asarray(network({"features": features}))))
    np.testing.assert_allclose(session(features)[:, 0], expected, atol=1e-5)
    assert session(np.zeros((0, 3), np.float32)).shape == (0, 1)
    assert [each[0] for each in session.signature.outputs] == ["score", "passing"]


def exported(folder: Path, model: TaggerNetwork, score_map: ScoreMap | None = None, protected: str = "mass") -> Path:
    path = folder / "tagger.onnx"
    tagger = with_map(model, NAMES, score_map, protected, "pt")
    export(tagger, path, working_points={"half": 0.5}, training={}, metrics={}, trained_on="toys")
    return path


def test_the_side_car_gives_the_scores_of_the_card(tmp_path: Path) -> None:
    path = exported(tmp_path, trained())
    given = {name: columns(200)[name].astype(np.float32) for name in NAMES}
    given["x0"][:50], given["x1"][50:100] = np.nan, np.inf
    every = np.column_stack([given[name] for name in NAMES])

    scores, lost = load_tagger(str(path), ForeignTagger(preprocess=str(tmp_path / "preprocess.json"))).scores(given)

    assert lost == 0
    np.testing.assert_allclose(scores, OnnxModel(str(path))(every)[:, 0], atol=1e-6)


@pytest.mark.parametrize(("kind", "protected"), [("ddt", "mass"), ("percentile", "x1"), ("quantile", "mass")])
def test_the_side_car_has_what_a_map_takes_for_a_mass_that_is_not_finite(
    tmp_path: Path, kind: Kind, protected: str
) -> None:
    network, given = trained(), columns(N)
    logit = np.asarray(network({"features": np.column_stack([given[name] for name in NAMES]).astype(np.float32)}))
    given["x1"] = 40 * given["x1"]
    score_map = fit_map(kind, logit.astype(float), given[protected], given["pt"], np.ones(N), rho_range=(-20.0, 20.0))
    path = exported(tmp_path, network, score_map, protected)
    jets = {name: given[name][:200].astype(np.float32) for name in (*NAMES, "mass", "pt")}
    jets[protected][:50], jets["pt"][25:75], jets["x0"][60:90] = np.nan, np.inf, np.nan

    of_card, lost = load_tagger(str(path)).scores(jets)
    of_side_car, _ = load_tagger(str(path), ForeignTagger(preprocess=str(tmp_path / "preprocess.json"))).scores(jets)

    assert lost == 0
    np.testing.assert_allclose(of_side_car, of_card, atol=1e-6)
    if protected == "mass":
        usual = np.median(given["mass"]), np.median(given["pt"])
        np.testing.assert_allclose(score_map.medians, usual, rtol=1e-3)


def test_a_network_on_constituents_has_no_side_car(tmp_path: Path) -> None:
    exported(tmp_path, make_network(NetworkSettings(kind="deepsets"), 0, 1))

    assert {each.name for each in tmp_path.iterdir()} == {"tagger.onnx", "tagger.json"}


def test_columns_are_blurred_in_training_alone() -> None:
    made = make_network(NetworkSettings(units=(8,)), 3, 1, blur=0.1)
    made.head.kernel.assign(tf.ones_like(made.head.kernel))
    inputs = {"features": tf.constant(np.random.default_rng(1).normal(size=(50, 3)).astype(np.float32))}
    made.columns.adapt(inputs["features"].numpy(), np.ones(50))

    np.testing.assert_array_equal(made(inputs), made(inputs))
    assert np.abs(made(inputs, training=True) - made(inputs)).max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_a_map_is_part_of_the_exported_graph(tmp_path: Path, kind: Kind) -> None:
    import onnx

    network, given = trained(), columns(N)
    features = np.column_stack([given[name] for name in NAMES]).astype(np.float32)
    logit = np.asarray(network({"features": features})).astype(np.float64)
    chosen = given["label"] == 0
    narrow = 0.5 * (logit - logit.mean()) + logit.mean()  # such that jets are far beyond those of the map, too
    score_map = fit_map(kind, *(each[chosen] for each in (narrow, given["mass"], given["pt"], given["weight"])))
    tagger = with_map(network, NAMES, score_map, "mass", "pt")
    path = tmp_path / "tagger.onnx"
    onnx.save(to_onnx(tagger), str(path))
    session = OnnxModel(str(path))

    assert tagger.names == (*NAMES, "mass", "pt")
    every = np.column_stack([features, given["mass"], given["pt"]]).astype(np.float32)
    found = session(every)[:, 0]
    in_keras = tagger.score(tagger.logit({"features": tf.constant(every)}), tf.constant(every))
    np.testing.assert_allclose(found, np.asarray(in_keras, np.float64), atol=1e-5)
    expected = score_map.apply(logit, given["mass"], given["pt"])
    np.testing.assert_allclose(found, expected, atol=2e-4)
    tail = expected > 0.999
    np.testing.assert_allclose(found[tail], expected[tail], atol=2e-6)
    assert kind != "quantile" or len(np.unique(found[tail])) > 20
    assert session(np.zeros((0, 5), np.float32)).shape == (0, 1)


def test_the_command_writes_network_card_side_car_metrics_and_plots(table: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"

    lines = command.run([table], SETTINGS, output, scan=False, resume=False, overwrite=False)

    card = read_card(output / "tagger.json")
    assert (card.task, card.features, card.gives) == ("tagger", NAMES, "score")
    assert set(card.working_points) == {"eff30", "eff50", "eff70"}
    told = json.loads((output / "metrics.json").read_text())["numbers"]
    assert {"rejection_0.5", "inverse_jsd", "ceiling", "auc", "jsd_sub"} <= told.keys()
    assert json.loads((output / "preprocess.json").read_text())["features"]["var_names"] == list(NAMES)
    assert {path.name for path in output.iterdir()} >= {"learning.png", "tagger.pdf", "history.csv"}
    assert "Written" in lines[-1]
    assert "features" in OnnxModel(str(output / "tagger.onnx")).metadata
    with pytest.raises(RefusedError, match="--overwrite"):
        command.run([table], SETTINGS, output, scan=False, resume=False, overwrite=False)


def test_an_output_folder_below_a_file_is_refused_before_the_table_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(RefusedError, match=r"file/a/b cannot be made, .*file is a file; name another folder"):
        command.run([tmp_path / "none"], SETTINGS, tmp_path / "file/a/b", scan=False, resume=False, overwrite=False)


@pytest.mark.parametrize(("method", "is_told"), [("none", False), ("planing", False), ("disco", True)])
def test_a_strength_is_told_of_methods_that_have_one(method: Method, *, is_told: bool) -> None:
    row = dict.fromkeys(("steps", "loss", "validation_loss", "rejection", "jsd", "strength"), 1.0)
    names = ("rejection_0.5", "rejection_0.5_error", "auc", "inverse_jsd", "inverse_jsd_error", "ceiling", "strength")
    numbers = dict.fromkeys((*names, "jsd_sub", "jsd_error"), 0.0)

    told = (pipeline._line(row, with_method(method)), command._summary(method, numbers, with_method(method))[0])

    assert ["strength" in line for line in told] == [is_told, is_told]


def test_seconds_of_earlier_sessions_count() -> None:
    rows = [{"seconds": 2.0}, {"seconds": 3.0}, {"seconds": 7.0}]

    assert [pipeline._seconds_before(rows, new) for new in (3, 1, 0)] == [0.0, 5.0, 12.0]


def test_tables_of_one_file_name_are_all_remembered(tmp_path: Path) -> None:
    first, second, third = (tmp_path / name / "table.parquet" for name in ("a", "b", "c"))
    for seed, path in enumerate((first, second, third), 1):
        path.parent.mkdir()
        write(path, columns(N, seed))
    read = pipeline.read_table([first, second], SETTINGS)
    pipeline._remember(read, SETTINGS, tmp_path, resume=False)
    tagger = with_map(trained(), NAMES, None, "mass", "pt")
    pipeline._export(tagger, read, SETTINGS, {}, {"eff50": 0.5}, tmp_path)

    candidates = read_candidates([tmp_path])

    assert list(candidates[0].card.training["tables"]) == [str(first), str(second)]
    assert [len(_knowing([path], candidates)) for path in (first, second, third)] == [1, 1, 0]
    with pytest.raises(RefusedError, match="other settings or tables"):
        pipeline._remember(pipeline.read_table([third, second], SETTINGS), SETTINGS, tmp_path, resume=True)


def test_a_table_is_not_given_twice(table: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.parquet"
    copy.write_bytes(table.read_bytes())

    assert list(pipeline.read_table([table], SETTINGS).digests) == ["table.parquet"]
    for path in (table, copy):
        with pytest.raises(RefusedError, match=rf"{path.name} is the same table as .*; give each table once"):
            pipeline.read_table([table, path], SETTINGS)


def test_a_folder_with_something_else_is_refused(table: Path, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="name another folder"):
        command.run([table], SETTINGS, tmp_path, scan=False, resume=False, overwrite=True)
    assert table.is_file()


def test_a_map_that_cannot_be_fitted_is_refused_before_an_earlier_training_goes(table: Path, tmp_path: Path) -> None:
    earlier = tmp_path / "out" / "settings.json"
    earlier.parent.mkdir()
    earlier.write_text("{}")

    with pytest.raises(RefusedError, match=r"ddt fits a line .* from 8 to 9"):
        command.run(
            [table],
            with_method("none", map="ddt", map_rho=(8.0, 9.0)),
            tmp_path / "out",
            scan=False,
            resume=False,
            overwrite=True,
        )
    assert earlier.is_file()


def test_a_scan_needs_a_strength(table: Path, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="none has none"):
        command.run([table], with_method("none"), tmp_path / "scan", scan=True, resume=False, overwrite=False)


def test_the_dependence_on_a_variable_of_two_values_is_seen(table: Path) -> None:
    sample = read_sample([table], SETTINGS)
    values = np.quantile(sample.protected[sample.is_within], [0.3, 0.6])
    two = np.random.default_rng(1).choice(values, len(sample))
    prepared = prepare(replace(sample, protected=two), with_method("disco"))
    monitored = prepared.monitored
    score = np.where(monitored.is_signal, two.mean(), monitored.protected)
    score = score + 1e-3 * np.random.default_rng(2).normal(size=len(score))

    jsd, _, _ = loop._coarse_divergence(score, prepared)

    assert prepared.spectrum.n_bins == 2
    assert jsd > 0.1
    with pytest.raises(RefusedError, match="one value of mass"):
        prepare(replace(sample, protected=np.full(len(sample), two[0])), with_method("disco"))


def test_domain_adaptation_without_data_that_count_is_refused(table: Path) -> None:
    sample = read_sample([table], SETTINGS)
    is_simulation = np.arange(len(sample)) % 2 == 0
    sample = replace(sample, is_simulation=is_simulation, weight=np.where(is_simulation, sample.weight, 0.0))

    with pytest.raises(RefusedError, match="data and of simulation"):
        prepare(sample, with_method("domain"))


def test_no_weight_of_a_training_is_negative(table: Path) -> None:
    sample = read_sample([table], SETTINGS)
    given = replace(sample, weight=np.where(np.arange(len(sample)) % 5, sample.weight, -sample.weight))
    given = replace(given, is_simulation=np.arange(len(sample)) % 2 == 0)

    tensors = prepare(given, with_method("domain")).tensors

    for name in ("classification", "background", "signal", "domain"):
        weight = np.asarray(tensors[name])
        assert weight.sum() > 0
        assert weight.min() == 0


def test_signal_is_not_compared_with_data_that_are_multijets(table: Path) -> None:
    sample = read_sample([table], SETTINGS)
    sample = replace(sample, is_simulation=np.arange(len(sample)) % 2 == 0)
    settings = with_method("domain", compared="background")

    weight = np.asarray(prepare(sample, settings).tensors["domain"])

    training = sample.of_fold(TRAINING)
    is_compared = training.is_simulation & ~training.is_signal
    assert np.all(weight[training.is_simulation & training.is_signal] == 0)
    assert weight[is_compared].sum() == pytest.approx(weight[~training.is_simulation].sum(), rel=1e-4)


@pytest.mark.slow
def test_a_scan_has_a_row_and_a_tagger_for_each_strength(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "STRENGTHS", (0.5, 2.0))
    settings = with_method("mode")
    settings = replace(settings, fit=replace(settings.fit, steps=40, rounds=4))

    command.run([table], settings, tmp_path / "scan", scan=True, resume=False, overwrite=False)

    with (tmp_path / "scan" / "scan.csv").open(newline="") as file:
        rows = {row["tagger"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["strength_25", "strength_100"]
    assert any(row["on_front"] == "1" for row in rows.values())
    assert all((tmp_path / "scan" / name / "tagger.onnx").is_file() for name in rows)
    assert (tmp_path / "scan" / "scan.png").is_file()


def test_jets_of_data_come_closer_to_simulation(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    values: dict[str, Any] = columns(N)
    is_mc = rng.random(N) < 0.5
    values["x2"] = values["x2"] + 1.5 * ~is_mc
    values["is_mc"] = is_mc
    table = write(tmp_path / "table.parquet", values)
    distances = []
    for strength in (0.0, 3.0):
        settings = with_method("domain", strength=strength, warm_up=0.1)
        settings = replace(settings, fit=replace(settings.fit, steps=150, rounds=10, learning_rate=1e-2))
        sample: TaggerSample = read_sample([table], settings)
        score = predict_logits(train(sample, settings, tmp_path).network, sample)
        distances.append(abs(score[sample.is_simulation].mean() - score[~sample.is_simulation].mean()))
    assert distances[1] < 0.6 * distances[0]
