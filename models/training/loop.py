"""Epochs of training: steps, early stopping, checkpoints, and going on after being killed.

State goes in and comes out; only `train` touches the disk. A checkpoint is an .npz of plain arrays, written after every
epoch: weights, the best weights so far, the optimizer, and the history. Random numbers start anew from the seed and the
number of the epoch, so a training that was interrupted ends as if it had not been.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from models.training.checkpoint import FILE as CHECKPOINT
from models.training.checkpoint import Checkpoint
from models.training.errors import RefusedError
from models.training.losses import constraint_of_sums, loss_terms
from models.training.network import Scales, make_network
from models.training.preprocessing import LIMIT
from models.training.samples import (
    TRAINING,
    VALIDATION,
    Prior,
    batch_of,
    batches,
    folds,
    network_features,
    sample_of,
    standardisation,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from models.event_table import EventTable
    from models.training.network import CalibrationNetwork
    from models.training.samples import Batch, Sample
    from models.training.settings import TrainingSettings

Float64Array = np.ndarray[Any, np.dtype[np.float64]]
Report = Mapping[str, float]

DRAWS = 4
_GRADIENT_NORM = 2.0
# What of the sums of the constraint is left after each step: a longer memory makes the mean pT swing, a shorter one is
# noisy.
_MEMORY = 0.8
_PREDICTED_EVENTS = 4096
_TERMS = ("likelihood", "asymmetry", "constraint", "total")


@dataclass(frozen=True, slots=True)
class Prepared:
    """Samples for training and validation, and what the network is standardised with."""

    training: Sample
    validation: Sample
    scales: Scales
    prior: Prior | None


@dataclass(slots=True)
class State:
    """Where a training is.

    Network and optimizer as they are, the best weights and their loss, a row of the history per epoch, and the running
    sums of the constraint.
    """

    network: CalibrationNetwork
    optimizer: Any
    best: list[Any] = field(default_factory=list)
    best_loss: float = math.inf
    history: list[dict[str, float]] = field(default_factory=list)
    running: Any = None

    @property
    def epochs_since_best(self) -> int:
        """Epochs without a better validation loss."""
        losses = [row["validation_total"] for row in self.history]
        return len(losses) - 1 - int(np.argmin(losses)) if losses else 0


def prepare(table: EventTable, settings: TrainingSettings) -> Prepared:
    """Samples of a table.

    Raises
    ------
    RefusedError
        Where there is nothing to learn from: no truth for the likelihood, or no dijets for the asymmetry.
    """
    names = network_features(settings.network, table.features)
    if settings.network.kind == "deepsets" and table.constituents is None:
        raise RefusedError("the training table has no constituents; choose network.kind=per_eta")
    fold = folds(table.event["identity"], settings.fit)
    chosen = [_limited(table, np.flatnonzero(fold == each), settings) for each in (TRAINING, VALIDATION)]
    training, validation = (sample_of(table.take(each), names, settings.fit, settings.loss) for each in chosen)
    if not (validation.truth_weight > 0).any() and not (validation.pair_weight > 0).any():
        raise RefusedError("no events are left for validation; raise fit.validation or give a larger table")
    has_truth, has_pairs = (training.truth_weight > 0).sum() > 1, (training.pair_weight > 0).any()
    if not has_truth:
        raise RefusedError("the training table has no jets that can be compared with truth")
    if not has_pairs and (settings.loss.f2 > 0 or settings.loss.f3 > 0):
        raise RefusedError("the training table has no dijet events for the asymmetry; set loss.f2=0 loss.f3=0")
    prior = Prior.of(training) if settings.network.head == "ansatz" else None
    return Prepared(training, validation, _scales(training), prior)


def train(
    prepared: Prepared,
    settings: TrainingSettings,
    folder: Path,
    *,
    resume: bool = False,
    report: Callable[[Report], None] | None = None,
) -> State:
    """The network with the best validation loss, after early stopping or the last epoch.

    `report` is called with every row of the history. With `resume` it goes on from the checkpoint in `folder`, if
    there is one.
    """
    state = start(prepared, settings)
    if resume and (folder / CHECKPOINT).is_file():
        load_checkpoint(state, folder / CHECKPOINT)
    step, measure = _functions(state, prepared, settings)
    while len(state.history) < settings.fit.epochs and state.epochs_since_best < settings.fit.patience:
        row = run_epoch(state, prepared, settings, step, measure)
        if not math.isfinite(row["validation_total"]):
            raise RefusedError(f"the loss of epoch {row['epoch']:.0f} is not finite; lower fit.learning_rate")
        if row["validation_total"] < state.best_loss:
            state.best_loss, state.best = row["validation_total"], state.network.get_weights()
        state.history.append(row)
        save_checkpoint(state, folder / CHECKPOINT)
        if report is not None:
            report(row)
    state.network.set_weights(state.best)
    return state


def start(prepared: Prepared, settings: TrainingSettings) -> State:
    """A network that was not trained yet, its columns standardised with the training sample."""
    training = prepared.training
    network = make_network(settings.network, training.names, prepared.scales, settings.fit.seed)
    scaled = np.asarray(network.columns.scaled(training.features))
    network.columns.adapt(*standardisation(training, np.clip(scaled, -1e4, 1e4)))
    optimizer = keras.optimizers.Adam(settings.fit.learning_rate, global_clipnorm=_GRADIENT_NORM)
    optimizer.build(network.trainable_variables)
    running = tf.Variable(tf.zeros((prepared.training.n_shift_cells, 6)), trainable=False)
    return State(network, optimizer, running=running)


def run_epoch(
    state: State, prepared: Prepared, settings: TrainingSettings, step: Callable[..., Any], measure: Callable[..., Any]
) -> dict[str, float]:
    """One pass over the training sample and one over the validation sample; the row of the history."""
    fit, epoch = settings.fit, len(state.history)
    rng = np.random.default_rng((fit.seed, epoch))
    state.optimizer.learning_rate.assign(learning_rate(fit.learning_rate, epoch, fit.epochs))
    is_warming_up = settings.loss.f1 > 0 and epoch < round(fit.warm_up * fit.epochs)
    pairs = tf.constant(0.0 if is_warming_up else 1.0)
    began, n_jets = time.monotonic(), 0
    sums = dict.fromkeys(_TERMS, 0.0)
    n_steps = 0
    for batch in _ahead(batches(prepared.training, fit.batch_events, rng, draws=DRAWS, prior=prepared.prior)):
        terms = step(batch, pairs)
        n_jets += len(batch["jets"])
        n_steps += 1
        for name in _TERMS:
            sums[name] += float(terms[name])
    seconds = time.monotonic() - began
    row = {"epoch": epoch + 1.0, **{name: value / n_steps for name, value in sums.items()}}
    row |= {f"validation_{name}": value for name, value in validate(prepared, settings, measure).items()}
    return {**row, "seconds": seconds, "jets_per_second": n_jets / seconds}


def validate(prepared: Prepared, settings: TrainingSettings, measure: Callable[..., Any]) -> dict[str, float]:
    """Terms of the loss of the validation sample: mean over batches, the constraint from the sums of all of them."""
    rng = np.random.default_rng(settings.fit.seed)
    items = batches(prepared.validation, 2 * settings.fit.batch_events, rng, draws=DRAWS, prior=prepared.prior)
    measured = [measure(batch) for batch in items]
    found = {name: float(np.mean([terms[name] for terms, _ in measured])) for name in _TERMS[:2]}
    found["constraint"] = float(constraint_of_sums(np.sum([np.asarray(sums) for _, sums in measured], axis=0)))
    factors = (settings.loss.f1, settings.loss.f2, settings.loss.f3)
    found["total"] = sum(f * found[name] for f, name in zip(factors, _TERMS[:3], strict=True))
    return found


def learning_rate(first: float, epoch: int, epochs: int) -> float:
    """Half a cosine from `first` to a hundredth of it."""
    return first * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * epoch / epochs)))


def predict(network: CalibrationNetwork, sample: Sample) -> tuple[Float64Array, Float64Array]:
    """Logarithm of the factor and relative width of each jet of a sample, (n,), in the order of the sample."""
    signature = [
        tf.TensorSpec((None, len(network.names)), tf.float32),
        tf.TensorSpec((None, 4), tf.float32),
        tf.TensorSpec((None,), tf.int32),
    ]

    @tf.function(input_signature=signature)
    def estimate(jets: Any, momenta: Any, segments: Any) -> Any:
        return network(jets, momenta, segments if network.uses_constituents else None)

    parts = []
    for begin in range(0, sample.n_events, _PREDICTED_EVENTS):
        batch = batch_of(sample, np.arange(begin, min(begin + _PREDICTED_EVENTS, sample.n_events)))
        parts.append(np.asarray(estimate(*(tf.constant(batch[name]) for name in ("jets", "momenta", "segments")))))
    result = np.concatenate(parts).astype(np.float64) if parts else np.zeros((0, 2))
    return result[:, 0], result[:, 1]


def save_checkpoint(state: State, path: Path) -> None:
    """Write a checkpoint; it takes the place of the last one when it is whole."""
    told = {"best_loss": state.best_loss, "history": state.history}
    Checkpoint({**_variables(state), "best": state.best}, told).save(path)


def load_checkpoint(state: State, path: Path) -> None:
    """Go back to where a checkpoint was written.

    Raises
    ------
    RefusedError
        Where it belongs to another network, or is damaged.
    """
    found = Checkpoint.load(path)
    found.restore(_variables(state), path)
    state.best = list(found.groups.get("best", ()))
    state.best_loss, state.history = found.told["best_loss"], found.told["history"]


def _variables(state: State) -> dict[str, list[Any]]:
    return {
        "weight": list(state.network.weights),
        "running": [state.running],
        "optimizer": list(state.optimizer.variables),
    }


def _functions(
    state: State, prepared: Prepared, settings: TrainingSettings
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """One step of the optimizer, and the terms of the loss without one, both compiled."""
    network, optimizer, running = state.network, state.optimizer, state.running
    n_cells = prepared.training.n_cells
    example = next(batches(prepared.training, settings.fit.batch_events, None, draws=DRAWS, prior=prepared.prior))
    signature = [{name: tf.TensorSpec((None, *values.shape[1:]), values.dtype) for name, values in example.items()}]

    @tf.function(input_signature=[*signature, tf.TensorSpec((), tf.float32)])
    def step(batch: Batch, pairs: Any) -> dict[str, Any]:
        with tf.GradientTape() as tape:
            terms, sums = loss_terms(network, batch, settings.loss, n_cells, running, pairs)
        running.assign(_MEMORY * running + tf.stop_gradient(sums))
        variables = network.trainable_variables
        gradients = tape.gradient(terms["total"], variables)
        known = [(g, v) for g, v in zip(gradients, variables, strict=True) if g is not None]
        zeros = [(tf.zeros_like(v), v) for g, v in zip(gradients, variables, strict=True) if g is None]
        optimizer.apply_gradients([*known, *zeros])
        return terms

    @tf.function(input_signature=signature)
    def measure(batch: Batch) -> tuple[dict[str, Any], Any]:
        return loss_terms(network, batch, settings.loss, n_cells, running)

    return step, measure


def _ahead(items: Iterator[Batch]) -> Iterator[Batch]:
    """The same, each made while the one before it is used."""
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(next, items, None)
        while (item := pending.result()) is not None:
            pending = pool.submit(next, items, None)
            yield item


def _limited(table: EventTable, events: Any, settings: TrainingSettings) -> Any:
    """At most `fit.max_events` of simulation and of data."""
    most = settings.fit.max_events
    if most is None:
        return events
    is_mc = table.event["is_mc"][events]
    return np.sort(np.concatenate([_evenly(events[kind], most) for kind in (is_mc, ~is_mc)]))


def _evenly(events: Any, most: int) -> Any:
    """At most so many, from the first to the last."""
    return events if len(events) <= most else events[np.linspace(0, len(events) - 1, most).astype(np.int64)]


def _scales(sample: Sample) -> Scales:
    """Typical width of the log response, and mean and spread of log true pT."""
    used = sample.truth_weight > 0
    log_truth = np.log(sample.truth_pt[used])
    response = np.log(sample.pt[used]) - log_truth
    low, high = np.percentile(response, [16, 84])
    return Scales(
        float(max(0.5 * (high - low), 0.01)), float(log_truth.mean()), float(max(log_truth.std(), LIMIT / 50))
    )
