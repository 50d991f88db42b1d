"""Networks, losses and the training loop, on toys whose best calibration is known."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
pytest.importorskip("tensorflow", reason="needs the extra `train`", exc_type=ImportError)

from calibration_toys import ToyJets

from models.calibration import load_calibration
from models.evaluation import gaussian_core, pull_core
from models.event_table import joined
from models.features import GSC_FEATURES, MOMENTUM_FEATURES, RaggedConstituents, offsets_of
from models.training.checkpoint import FILE as CHECKPOINT
from models.training.closure import Closure, fit_closure
from models.training.errors import RefusedError
from models.training.export import Calibration, export
from models.training.loop import (
    Prepared,
    _evenly,
    load_checkpoint,
    predict,
    prepare,
    save_checkpoint,
    start,
    train,
)
from models.training.losses import asymmetry_term, constraint_of_sums, constraint_term
from models.training.network import CalibrationNetwork, Scales, count_parameters, make_network
from models.training.settings import FitSettings, LossSettings, NetworkSettings, TrainingSettings

if TYPE_CHECKING:
    from pathlib import Path

    from models.training.settings import Head

NAMES = (*MOMENTUM_FEATURES, *GSC_FEATURES)
HEADS: tuple[Head, ...] = ("inversion", "regression", "mixture", "ansatz")
SMALL = NetworkSettings(constituent_units=(16, 16), jet_units=(24, 16), head_units=(8,))


def network(head: Head = "inversion", **changes: Any) -> CalibrationNetwork:
    """A network whose weights are not those that it starts with."""
    made = make_network(replace(SMALL, head=head, **changes), NAMES, Scales(), 1)
    rng = np.random.default_rng(1)
    for weight in made.trainable_weights:
        weight.assign(weight + 0.1 * rng.normal(size=weight.shape))
    return made


def jets(counts: list[int], seed: int = 1) -> tuple[np.ndarray, RaggedConstituents]:
    rng = np.random.default_rng(seed)
    offsets = offsets_of(np.array(counts))
    matrix = rng.random((len(counts), len(NAMES))).astype(np.float32)
    matrix[:, :4] = np.column_stack(
        [rng.uniform(30, 900, len(counts)), *rng.normal(0, 1, (2, len(counts))), matrix[:, 3]]
    )
    axis = [np.repeat(matrix[:, i], counts) + 0.1 * rng.normal(size=offsets[-1]) for i in (1, 2)]
    pt = np.sort(rng.exponential(5, offsets[-1]))[::-1]
    values = np.column_stack([pt * np.cos(axis[1]), pt * np.sin(axis[1]), pt * np.sinh(axis[0]), pt])
    return matrix, RaggedConstituents(offsets, values.astype(np.float32))


def segments(parts: RaggedConstituents) -> np.ndarray:
    return np.repeat(np.arange(len(parts), dtype=np.int32), parts.counts)


COUNTS = [3, 0, 12, 1, 80, 40]


@pytest.mark.parametrize("head", HEADS)
def test_padded_and_flat_constituents_give_the_same_calibration(head: Head) -> None:
    made, (matrix, parts) = network(head), jets(COUNTS)

    padded, flat = made(matrix, parts.padded(80)), made(matrix, parts.values, segments(parts))

    np.testing.assert_allclose(np.asarray(padded), np.asarray(flat), atol=2e-6)
    assert np.all(np.asarray(padded)[:, 1] > 0)


def test_the_order_of_constituents_does_not_matter() -> None:
    made, (matrix, parts) = network(), jets([20])

    got = made(matrix, parts.values[::-1][None])

    np.testing.assert_allclose(np.asarray(got), np.asarray(made(matrix, parts.padded(20))), atol=2e-6)


def test_a_jet_that_is_rotated_or_mirrored_keeps_its_calibration() -> None:
    made, (matrix, parts) = network(), jets([20])
    turned, mirrored = matrix.copy(), matrix.copy()
    turned[:, 2] += 0.7
    mirrored[:, 1] *= -1
    px, py, pz, pt = parts.values.T
    rotated = np.column_stack([px * np.cos(0.7) - py * np.sin(0.7), px * np.sin(0.7) + py * np.cos(0.7), pz, pt])

    expected = np.asarray(made(matrix, parts.values[None]))

    np.testing.assert_allclose(np.asarray(made(turned, rotated.astype(np.float32)[None])), expected, atol=2e-5)
    flipped = np.column_stack([px, py, -pz, pt])
    np.testing.assert_allclose(np.asarray(made(mirrored, flipped[None])), expected, atol=2e-5)


def test_the_inverted_head_does_not_see_the_reconstructed_momentum() -> None:
    made, (matrix, parts) = network(), jets([20])
    harder = matrix.copy()
    harder[:, 0] *= 1.3
    harder[:, 3] *= 1.3  # the mass scales along

    responses = [
        made.response(made.latent(each, 1.0 * parts.padded(20)), np.array([5.0], np.float32))[0]
        for each in (matrix, harder)
    ]

    np.testing.assert_allclose(np.asarray(responses[0]), np.asarray(responses[1]), atol=1e-6)


def test_the_inversion_solves_for_the_true_momentum() -> None:
    made, (matrix, parts) = network(iterations=12), jets(COUNTS)
    latent = made.latent(matrix, parts.padded(80))

    log_factor, _ = made.calibrated(latent, matrix)
    log_truth = np.log(matrix[:, 0]) + np.asarray(log_factor)

    response = np.asarray(made.response(latent, log_truth)[0])
    np.testing.assert_allclose(log_truth + response, np.log(matrix[:, 0]), atol=1e-5)


def test_the_core_of_a_mixture_is_its_largest_and_narrowest_component() -> None:
    made, (matrix, parts) = network("mixture"), jets(COUNTS)

    shares, _, widths = (np.asarray(each) for each in made.components(made.latent(matrix, parts.padded(80))))

    np.testing.assert_allclose(shares.sum(axis=1), 1.0, rtol=1e-5)
    assert np.all(shares[:, :1] > shares[:, 1:])
    assert np.all(widths[:, :1] < widths[:, 1:])


def test_default_networks_are_small() -> None:
    for head in HEADS:
        assert count_parameters(make_network(NetworkSettings(head=head), NAMES, Scales(), 1)) <= 37_000


def pair_batch(n: int, spread: float, seed: int = 1) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Pairs of jets whose log pT differ by a normal number, and these log pT, all of one cell."""
    rng = np.random.default_rng(seed)
    log_pt = (5.0 + spread / np.sqrt(2) * rng.normal(size=2 * n)).astype(np.float32)
    first = np.arange(0, 2 * n, 2, dtype=np.int32)
    batch = {"first": first, "second": first + 1, "cell": np.zeros(n, np.int32), "pair_weight": np.ones(n, np.float32)}
    return batch | {"pair_is_mc": np.ones(n, np.float32), "pair_width": np.full(n, spread, np.float32)}, log_pt


def test_the_asymmetry_term_is_the_ratio_of_widths() -> None:
    batch, log_pt = pair_batch(4000, 0.1)

    same = asymmetry_term(log_pt, 0 * log_pt, batch, 1.5, 1)
    narrower = asymmetry_term(log_pt, -0.3 * (log_pt - 5.0), batch, 20.0, 1)  # squares, up to far tails

    assert float(same) == pytest.approx(1.0)
    assert float(narrower) == pytest.approx(0.7, rel=5e-3)


def test_the_asymmetry_term_counts_data_as_much_as_simulation_whatever_their_weights() -> None:
    batch, log_pt = pair_batch(4000, 0.1)
    is_mc = np.arange(4000) < 3000
    batch |= {"pair_is_mc": is_mc.astype(np.float32), "cell": np.where(is_mc, 0, 1).astype(np.int32)}
    batch["pair_weight"] = np.where(is_mc, 1.0, 500.0).astype(np.float32)
    shrunk = np.repeat(np.where(is_mc, 0.0, -0.5), 2).astype(np.float32) * (log_pt - 5.0)

    assert float(asymmetry_term(log_pt, shrunk, batch, 20.0, 2)) == pytest.approx((1.0 + 0.5) / 2, rel=5e-3)


def shift_batch(n: int) -> dict[str, np.ndarray]:
    place = np.random.default_rng(2).uniform(-1.732, 1.732, n).astype(np.float32)
    counted = {"shift_jet": np.arange(n, dtype=np.int32), "shift_cell": np.zeros(n, np.int32), "shift_place": place}
    return counted | {"shift_weight": np.ones(n, np.float32)}


def test_the_constraint_is_blind_to_factors_that_keep_the_mean() -> None:
    # a plain square of the mean would be 0.1^2/25 / 0.02^2 = 1 on average
    found = []
    for seed in range(200):
        factor = np.random.default_rng(seed).normal(0, 0.1, 50).astype(np.float32)
        _, before = constraint_term(factor[:25], shift_batch(25), 0.02, np.zeros((1, 6), np.float32))
        found.append(float(constraint_term(factor[25:], shift_batch(25), 0.02, np.asarray(before))[0]))
        found[-1] += float(np.sum(np.asarray(before)[:, 1:3] ** 2) / 25**2)  # the square of `before` has no gradient

    assert np.mean(found) == pytest.approx(0.0, abs=4 * np.std(found) / np.sqrt(200))


@pytest.mark.parametrize(("constant", "slope"), [(0.03, 0.0), (0.0, 0.03)])
def test_the_constraint_is_the_square_of_a_shift_and_of_a_slope(constant: float, slope: float) -> None:
    batch = shift_batch(20_000)
    factor = (constant + slope * batch["shift_place"]).astype(np.float32)

    _, sums = constraint_term(factor, batch, 0.02, np.zeros((1, 6), np.float32))
    value, _ = constraint_term(factor, batch, 0.02, np.asarray(sums))

    assert float(value) == pytest.approx(1.5**2, rel=0.05)
    assert constraint_of_sums(np.asarray(sums, np.float64)) == pytest.approx(1.5**2, rel=0.05)


def settings(head: Head = "inversion", epochs: int = 2, f2: float = 0.0, **fit: Any) -> TrainingSettings:
    chosen: dict[str, Any] = {"epochs": epochs, "batch_events": 256, "learning_rate": 5e-3, "patience": 99, **fit}
    return TrainingSettings(replace(SMALL, head=head), LossSettings(f2=f2, f3=f2), FitSettings(**chosen))


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    table = joined([ToyJets().table(1500, 1), ToyJets().table(500, 2, is_mc=False)])
    return prepare(table, settings())


def test_training_changes_the_weights_and_keeps_the_best(prepared: Prepared, tmp_path: Path) -> None:
    before = start(prepared, settings()).network.get_weights()

    state = train(prepared, settings(f2=1.0), tmp_path)

    losses = [row["validation_total"] for row in state.history]
    assert any(not np.array_equal(a, b) for a, b in zip(before, state.network.get_weights(), strict=True))
    assert len(losses) == 2
    assert state.best_loss == min(losses)
    assert np.isfinite([list(row.values()) for row in state.history]).all()


@pytest.mark.slow
def test_a_training_that_was_interrupted_ends_as_if_it_had_not_been(prepared: Prepared, tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    whole = train(prepared, settings(epochs=3, f2=1.0), tmp_path / "whole")

    def interrupt(row: Any) -> None:
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(prepared, settings(epochs=3, f2=1.0), tmp_path / "parts", report=interrupt)
    got = train(prepared, settings(epochs=3, f2=1.0), tmp_path / "parts", resume=True)

    assert [row["epoch"] for row in got.history] == [1, 2, 3]
    for a, b in zip(got.network.get_weights(), whole.network.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("is_cut", [True, False])
def test_a_damaged_checkpoint_is_refused(prepared: Prepared, tmp_path: Path, *, is_cut: bool) -> None:
    state = start(prepared, settings())
    state.best = state.network.get_weights()
    save_checkpoint(state, tmp_path / CHECKPOINT)
    whole = (tmp_path / CHECKPOINT).read_bytes()
    (tmp_path / CHECKPOINT).write_bytes(whole[: len(whole) // 2] if is_cut else b"not a checkpoint")

    with pytest.raises(ValueError, match=r"checkpoint\.npz is no checkpoint of this training"):
        load_checkpoint(start(prepared, settings()), tmp_path / CHECKPOINT)


def test_a_training_that_diverges_is_ended_in_words(prepared: Prepared, tmp_path: Path) -> None:
    table = replace(prepared.training, features=np.full_like(prepared.training.features, np.nan))

    with pytest.raises(RefusedError, match="epoch 1 is not finite"):
        train(replace(prepared, validation=table), settings(), tmp_path)


def test_fewer_events_are_taken_evenly_from_all() -> None:
    events = np.arange(1000)

    assert _evenly(events, 5).tolist() == [0, 249, 499, 749, 999]
    assert np.array_equal(_evenly(events, 2000), events)


def test_a_table_too_small_to_validate_with_is_refused() -> None:
    with pytest.raises(RefusedError, match="no events are left for validation"):
        prepare(ToyJets().table(3, 1), settings())


def test_a_table_without_truth_is_refused() -> None:
    with pytest.raises(ValueError, match="no jets that can be compared with truth"):
        prepare(ToyJets().table(300, 1, is_mc=False), settings())


CLOSURE = Closure(
    np.linspace(3, 7, 9),
    np.array([0.2, 1.0, 2.5]),
    0.05 * np.random.default_rng(3).normal(size=(9, 3)),
    np.full((9, 3), 1.3),
)


@pytest.mark.parametrize("head", ["inversion", "regression"])
def test_onnx_gives_what_keras_gives(head: Head, tmp_path: Path) -> None:
    calibration = Calibration(network(head), CLOSURE)
    card = export(calibration, tmp_path / "c.onnx", training={"seed": 1}, metrics={"gain": 0.2}, trained_on="a toy")
    model = load_calibration(str(tmp_path / "c.onnx"))

    for counts in ([], [0], [0, 0, 5], [*COUNTS, 200, 81], list(range(60))):
        matrix, parts = jets(counts)
        columns = {name: (lambda i=i, m=matrix: m[:, i]) for i, name in enumerate(NAMES)}
        got = model.outputs(columns, parts)
        expected = np.asarray(calibration(matrix, parts.limited(80).padded(80))).reshape(-1, 2)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)

    assert model.card == card
    assert model.model.metadata["features"] == ", ".join(NAMES)
    assert model.model.metadata["metrics.gain"] == "0.2"


def test_the_exported_closure_is_that_of_numpy() -> None:
    made, (matrix, parts) = network(), jets(COUNTS)
    log_factor, width = (np.asarray(each) for each in made.estimate(matrix, parts.padded(80)))

    got = np.asarray(Calibration(made, CLOSURE)(matrix, parts.padded(80)))

    shift, scale = CLOSURE.apply(np.log(matrix[:, 0]) + log_factor, np.abs(matrix[:, 1]))
    np.testing.assert_allclose(got, np.column_stack([np.exp(log_factor + shift), width * scale]), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("head", "f2"), [("inversion", 0.0), ("regression", 0.0), ("ansatz", 0.0), ("mixture", 0.0), ("inversion", 1.0)]
)
def test_training_finds_the_best_calibration_there_is(head: Head, f2: float, tmp_path: Path) -> None:
    toy = ToyJets(scale=0.05 if f2 == 0 else 0.0)  # the asymmetry needs jets whose mean scale is right already
    table = joined([toy.table(30_000, 1), toy.table(10_000, 2, is_mc=False)])
    chosen = settings(head, epochs=12, f2=f2)
    ready = prepare(table, chosen)

    state = train(ready, chosen, tmp_path)
    fitted = []
    for sample in (ready.training, ready.validation):
        log_factor, width = predict(state.network, sample)
        used = sample.truth_weight > 0
        log_pt = np.log(sample.pt[used]) + log_factor[used]
        fitted.append((log_pt, sample.truth_pt[used], sample.abs_eta[used], width[used]))
    closure = fit_closure(*fitted[0], chosen.closure)
    log_pt, truth, abs_eta, width = fitted[1]
    shift, scale = closure.apply(log_pt, abs_eta)
    core = gaussian_core(np.exp(log_pt + shift) / truth)

    # the rest is noise of `toy.width`, divided by the slope of log pT that the response has
    best = toy.width / (1 + toy.scale)
    assert core.mean == pytest.approx(1.0, abs=0.006)
    assert core.width < (1.08 if f2 == 0 else 1.2) * best
    assert core.width < 0.55 * toy.plain_width
    assert pull_core(np.exp(log_pt + shift), truth, width * scale, None).width == pytest.approx(1.0, abs=0.08)
