"""Steps of training, the strength of the penalty, checkpoints, and the end of a training that has collapsed.

Steps are made in rounds. After each one the tagger with averaged weights is judged on training and validation jets,
and where a target is asked for the strength is moved: its logarithm rises by the divergence in units of the target less
one, as a Lagrange multiplier that settles where the target is just reached. Without penalty a training ends early when
the validation loss stays where it is. The order of jets depends on the seed and the number of the pass alone, and all
decisions on the history, so a training that was interrupted ends as if it had not been.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from models.flat_weights import effective_entries
from models.tagging.metrics import Spectrum, roc
from models.training.checkpoint import FILE as CHECKPOINT
from models.training.checkpoint import Checkpoint
from models.training.errors import RefusedError
from models.training.tagging.networks import CONSTITUENTS, FEATURES, make_network
from models.training.tagging.penalties import make_penalty
from models.training.tagging.samples import (
    MIN_JETS,
    TRAINING,
    UNLABELLED,
    VALIDATION,
    classification_weights,
    domains,
    penalty_weights,
    ranks,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from models.training.tagging.networks import TaggerNetwork
    from models.training.tagging.penalties import Penalty
    from models.training.tagging.samples import TaggerSample
    from models.training.tagging.settings import TaggerSettings

    Float64Array = NDArray[np.float64]
    Report = Mapping[str, float]

COLLAPSED_REJECTION = 2.2
COLLAPSED_SPREAD = 1e-4
_PATIENCE = 5
# Jets, and constituents, that are given to the network at once for a prediction.
_PREDICTED, _CONSTITUENTS_AT_ONCE = 65_536, 262_144
# The divergence is followed in few bins of equal population, where its noise is small.
_COARSE_BINS = 25
_GAIN = 0.25
_STEPS = (-1.0, 1.5)
# How far below the first strength a search may go.
_RANGE = 1e4
# The strength stays where it is in the last rounds, of which one is kept.
_SETTLED = 0.15
_SMOOTHED = 3
# By which share a validation loss falls that is better.
_BETTER = 1e-4
# What the network learns of the fluctuation of its jets makes their divergence less, and that of others more.
_LEARNT = 5.0
# Of the divergence: how many standard deviations it may be off.
_CAUTION = 1.0
# Of the spread of a divergence: what is not told from none.
_UNSEEN = 0.5
# How fast the strength falls with the rejection below the least one, as for an excess.
_ROOM = 5.0
_NEAR_LEAST = 0.9
# How far the strength may rise above the one at which the divergence was as good as least, and what counts as that.
_BEYOND, _AS_GOOD = 2.0, 1.2
# The strength does not rise while the divergence falls by so much from one round to the next.
_FALLING = 0.9
# A gradient counts as at most so many times the mean of those before, which forgets with each step.
_LARGEST_GRADIENT, _REMEMBERED = 3.0, 0.98
# By how much an earlier round is to be closer to the target than a late one, in units of the target.
_EARLY = 0.5


class CollapsedError(RuntimeError):
    """A tagger that does not separate any more."""


@dataclass(slots=True)
class State:
    """Where a training is.

    Attributes
    ----------
    network, penalty
        As they are.
    averaged
        Averaged weights of the network, as variables.
    optimizers
        Of the network, and of an adversary.
    norm
        Of gradients of the network, a running mean as a variable; 0 before the first step.
    strength
        Of the penalty.
    best, best_rank
        Weights that are kept, and how good they are; the larger the better.
    history
        A row per round.
    """

    network: TaggerNetwork
    penalty: Penalty
    averaged: list[Any]
    optimizers: list[Any]
    norm: Any
    strength: float
    best: list[Any] = field(default_factory=list)
    best_rank: list[float] = field(default_factory=list)
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Reference:
    """The sample on which a target is to be seen: effective background jets, and bins."""

    jets: float
    n_bins: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """Jets to train on as tensors by name, and jets to judge with: background alone has `spectrum`."""

    tensors: Mapping[str, Any]
    n_jets: int
    monitored: TaggerSample
    spectrum: Spectrum
    reference: Reference


def prepare(sample: TaggerSample, settings: TaggerSettings) -> Prepared:
    """Tensors of the training fold, and jets of both folds to judge with.

    Raises
    ------
    RefusedError
        Where a batch has fewer background jets than the method needs, or what it needs is not there.
    """
    training = sample.of_fold(TRAINING)
    both = sample.of_fold(TRAINING, VALIDATION)
    monitored = both.take(both.label != UNLABELLED)
    n_monitored = settings.network.sizes.monitored
    if len(monitored) > n_monitored:
        monitored = monitored.take(np.random.default_rng(1).permutation(len(monitored))[:n_monitored])
    background = ~monitored.is_signal
    within = monitored.is_within
    if settings.decorrelation.protects and np.ptp(monitored.protected[within]) == 0:
        raise RefusedError(
            f"all background has one value of {settings.columns.protect}, of which no score can be kept free"
        )
    edges = _coarse_edges(monitored.protected[within])
    spectrum = Spectrum.of(monitored.protected[background], monitored.weight[background], edges)
    reference = Reference(settings.decorrelation.reference_jets, settings.evaluation.bins)
    prepared = Prepared(_tensors(training, settings), len(training), monitored, spectrum, reference)
    _check_batch(training, prepared, settings)
    return prepared


def _coarse_edges(values: Float64Array) -> Float64Array:
    """Edges of bins of equal population, or of one bin for each value where there are few."""
    unique = np.unique(values)
    if len(unique) > _COARSE_BINS:
        unique = np.unique(np.quantile(values, np.linspace(0, 1, _COARSE_BINS + 1)))
        return np.append(unique[:-1], np.nextafter(unique[-1], np.inf))
    return np.concatenate([unique[:1], 0.5 * (unique[1:] + unique[:-1]), [np.nextafter(unique[-1], np.inf)]])


def start(sample: TaggerSample, settings: TaggerSettings) -> State:
    """A network that was not trained yet, with its scales and its penalty."""
    fit = settings.fit
    blur = settings.decorrelation.blur if settings.decorrelation.protects else 0.0
    network = make_network(settings.network, sample.features.shape[1], fit.seed, blur)
    network.adapt(sample.of_fold(TRAINING))
    penalty = make_penalty(settings.decorrelation)
    optimizers = [keras.optimizers.Adam(fit.learning_rate)]
    optimizers[0].build(network.trainable_variables)
    if penalty.variables:
        optimizers.append(keras.optimizers.Adam(fit.learning_rate))
        optimizers[1].build(penalty.variables)
    averaged = [tf.Variable(each, trainable=False) for each in network.trainable_variables]
    given = settings.decorrelation.strength
    norm = tf.Variable(0.0, trainable=False)
    return State(network, penalty, averaged, optimizers, norm, penalty.first_strength if given is None else given)


def train(
    sample: TaggerSample,
    settings: TaggerSettings,
    folder: Path,
    *,
    resume: bool = False,
    report: Callable[[Report], None] | None = None,
) -> State:
    """The tagger that is kept; `report` is called with every row of the history.

    Raises
    ------
    CollapsedError
        Where the score of several rounds after the warm-up does not separate any more.
    """
    prepared = prepare(sample, settings)
    state = start(sample, settings)
    if resume and (folder / CHECKPOINT).is_file():
        load_checkpoint(state, folder / CHECKPOINT)
    step = compiled_steps(state, prepared, settings)
    predict = compiled_logits(state.network)
    while len(state.history) < settings.fit.rounds and not _has_stalled(state.history, settings):
        row = run_round(state, prepared, settings, step, predict)
        state.history.append(row)
        _keep_best(state, row, settings)
        _adjust(state, row, settings)
        save_checkpoint(state, folder / CHECKPOINT)
        if report is not None:
            report(row)
        _check_collapse(state, settings)
    _assign(state.network, state.best)
    return state


def run_round(
    state: State, prepared: Prepared, settings: TaggerSettings, step: Callable[..., Any], predict: Callable[..., Any]
) -> dict[str, float]:
    """Steps of one round, then the judgement of the averaged weights; the row of the history."""
    fit, number = settings.fit, len(state.history)
    begin, end = (round(fit.steps * each / fit.rounds) for each in (number, number + 1))
    largest = fit.learning_rate * (state.penalty.rate if number >= _warm_rounds(settings) else 1.0)
    rate = largest * (0.001 + 0.999 * 0.5 * (1 + math.cos(math.pi * begin / fit.steps)))
    strength = state.strength * _ramp(number, settings)
    if len(state.optimizers) > 1:
        # The more an adversary counts, the slower goes what it has to follow (as in ATL-PHYS-PUB-2018-014).
        rate /= math.sqrt(1.0 + strength / state.penalty.first_strength)
    state.optimizers[0].learning_rate.assign(rate)
    if len(state.optimizers) > 1:
        # That of the adversary does not fall: it is to follow wherever the tagger goes.
        state.optimizers[1].learning_rate.assign(
            settings.decorrelation.adversary_rate * state.penalty.rate * fit.learning_rate
        )
    began = time.monotonic()
    order = shuffled(prepared.n_jets, batch_size(prepared.n_jets, settings), begin, end, fit.seed)
    loss, value = (float(each) / (end - begin) for each in step(order, tf.constant(strength, tf.float32)))
    seconds = time.monotonic() - began
    row = {"round": number + 1.0, "steps": float(end), "loss": loss, "penalty": value, "strength": strength}
    current = [np.asarray(each) for each in state.network.trainable_variables]
    _assign(state.network, [each.numpy() for each in state.averaged])
    row |= judge(prepared, predict)
    _assign(state.network, current)
    return {**row, "seconds": seconds}


def judge(prepared: Prepared, predict: Callable[..., Any]) -> dict[str, float]:
    """Validation loss and rejection, spread of the score, and divergence of training and validation jets together."""
    sample = prepared.monitored
    logit = predict(sample)
    if not np.isfinite(logit).all():
        lost = ("validation_loss", "rejection", "auc", "jsd", "jsd_bound", "jsd_floor")
        return {**dict.fromkeys(lost, math.nan), "spread": 0.0}
    chosen = sample.fold == VALIDATION
    curve = roc(logit[chosen], sample.is_signal[chosen], sample.weight[chosen])
    weight = classification_weights(sample.take(chosen), 0.0)
    sign = np.where(sample.is_signal[chosen], -1.0, 1.0)
    loss = float(np.average(np.logaddexp(0.0, sign * logit[chosen]), weights=weight))
    jsd, bound, floor = _coarse_divergence(logit, prepared)
    return {
        "validation_loss": loss,
        "rejection": curve.rejection(),
        "auc": curve.auc,
        "spread": float(np.std(1.0 / (1.0 + np.exp(-logit)))),
        "jsd": jsd,
        "jsd_bound": bound,
        "jsd_floor": floor,
    }


def compiled_steps(state: State, prepared: Prepared, settings: TaggerSettings) -> Callable[..., Any]:
    """Steps of the optimizers for batches given by index (steps, batch); sums of the loss and of the penalty."""
    network, penalty, tensors = state.network, state.penalty, prepared.tensors
    extra = settings.decorrelation.adversary_steps - 1 if penalty.variables else 0
    done = state.history[-1]["steps"] if state.history else 0.0
    keep = tf.Variable(min(done, float(settings.fit.average)), trainable=False)

    def step(batch: Mapping[str, Any], strength: Any) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            logit = network({name: batch[name] for name in network.takes}, training=True)
            with tape.stop_recording():
                for i in range(extra):
                    _train_adversary(state, *_half(tf.stop_gradient(logit), batch, second=i % 2 == 0))
            seen = _half(logit, batch, second=False) if penalty.variables else (logit, batch)
            term, value = penalty.term(*seen, strength)
            loss = _cross_entropy(logit, batch) + term
        variables = network.trainable_variables
        gradients = tape.gradient(loss, [*variables, *penalty.variables])
        state.optimizers[0].apply(_limited(gradients[: len(variables)], state.norm), variables)
        if penalty.variables:
            state.optimizers[1].apply(gradients[len(variables) :], penalty.variables)
        keep.assign(tf.minimum(keep + 1.0, float(settings.fit.average)))
        for mean, variable in zip(state.averaged, variables, strict=True):
            mean.assign_add((variable - mean) / keep)
        return loss - term, value

    @tf.function(input_signature=[tf.TensorSpec((None, None), tf.int32), tf.TensorSpec((), tf.float32)])
    def steps(order: Any, strength: Any) -> tuple[Any, Any]:
        losses, values = tf.constant(0.0), tf.constant(0.0)
        for i in tf.range(tf.shape(order)[0]):
            batch = {name: tf.gather(tensor, order[i]) for name, tensor in tensors.items()}
            loss, value = step(batch, strength)
            losses, values = losses + loss, values + value
        return losses, values

    return steps  # type: ignore[no-any-return]


def _limited(gradients: Sequence[Any], mean: Any) -> list[Any]:
    """Gradients whose norm is at most a few times the running mean of norms, which is updated.

    A batch in which few jets pass can have a huge one, after which an optimizer with momentum would leave for good.
    """
    norm = tf.linalg.global_norm(gradients)
    limit = tf.where(mean > 0, _LARGEST_GRADIENT * mean, norm)
    factor = tf.minimum(limit / tf.maximum(norm, 1e-20), 1.0)
    mean.assign(tf.where(mean > 0, _REMEMBERED * mean + (1.0 - _REMEMBERED) * factor * norm, norm))
    return [factor * each for each in gradients]


def shuffled(n_jets: int, size: int, begin: int, end: int, seed: int) -> Any:
    """Indices of the jets of steps `begin` to `end`, (steps, batch) int32; what is left of a pass is dropped."""
    per_pass = n_jets // size
    rows, made = [], -1
    permutation = np.zeros(0, np.int64)
    for i in range(begin, end):
        number, place = divmod(i, per_pass)
        if number != made:
            permutation, made = np.random.default_rng((seed, number)).permutation(n_jets), number
        rows.append(permutation[place * size : (place + 1) * size])
    return tf.constant(np.stack(rows).astype(np.int32))


def batch_size(n_jets: int, settings: TaggerSettings) -> int:
    """Jets in a step: what was asked for, or all there are."""
    return min(settings.fit.batch or settings.network.sizes.batch, n_jets)


def predict_logits(network: TaggerNetwork, sample: TaggerSample) -> Float64Array:
    """Logits of jets, (n,)."""
    return compiled_logits(network)(sample)


def compiled_logits(network: TaggerNetwork) -> Callable[[TaggerSample], Float64Array]:
    """The network as a function of jets; logits (n,)."""
    compute = tf.function(network.__call__, reduce_retracing=True)

    def predict(sample: TaggerSample) -> Float64Array:
        at_once = _PREDICTED
        if CONSTITUENTS in network.takes:
            at_once = max(_CONSTITUENTS_AT_ONCE // longest(sample), 1)
        parts = [
            np.asarray(compute(inputs_of(network, sample, slice(begin, begin + at_once))))
            for begin in range(0, len(sample), at_once)
        ]
        return np.concatenate(parts).astype(np.float64) if parts else np.zeros(0)

    return predict


def inputs_of(network: TaggerNetwork, sample: TaggerSample, jets: slice) -> dict[str, Any]:
    """What a network sees of some jets, as tensors by name."""
    inputs: dict[str, Any] = {}
    if FEATURES in network.takes:
        inputs[FEATURES] = tf.constant(sample.features[jets])
    if CONSTITUENTS in network.takes and sample.constituents is not None:
        chosen = sample.constituents.take(np.arange(len(sample))[jets])
        inputs[CONSTITUENTS] = tf.constant(chosen.padded(longest(sample)))
    return inputs


def longest(sample: TaggerSample) -> int:
    """Constituents of the jet that has most, at least 1."""
    return 1 if sample.constituents is None else int(max(sample.constituents.counts.max(initial=1), 1))


def save_checkpoint(state: State, path: Path) -> None:
    """Write a checkpoint; it takes the place of the last one when it is whole."""
    told = {"strength": state.strength, "history": state.history, "best_rank": state.best_rank}
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
    state.strength, state.history, state.best_rank = (found.told[key] for key in ("strength", "history", "best_rank"))


def _tensors(training: TaggerSample, settings: TaggerSettings) -> dict[str, Any]:
    planed = settings.decorrelation.planed if settings.decorrelation.protects else 0.0
    planed = 1.0 if settings.decorrelation.method == "planing" else planed
    log_condition = np.log(training.condition)
    chosen = training.is_within
    protected = np.clip(training.protected, training.low, training.high)
    columns = {
        "label": training.is_signal,
        "classification": classification_weights(training, planed),
        "background": penalty_weights(training),
        "signal": np.where(training.is_signal, training.positive_weight, 0.0),
        "protected": (protected - training.low) / (training.high - training.low),
        "rank": ranks(training),
        "condition": (log_condition - log_condition[chosen].mean()) / max(log_condition[chosen].std(), 1e-6),
        "simulation": training.is_simulation,
        "domain": _domain_weights(training, settings.decorrelation.compared),
    }
    tensors = {name: tf.constant(values.astype(np.float32)) for name, values in columns.items()}
    tensors[FEATURES] = tf.constant(training.features)
    if training.constituents is not None:
        tensors[CONSTITUENTS] = tf.constant(training.constituents.padded(longest(training)))
    return tensors


def _domain_weights(sample: TaggerSample, compared: str) -> Float64Array:
    """Weights (n,) with the same sum for data and simulation, whole or background alone; 0 without one of the two."""
    weight = np.zeros(len(sample))
    for chosen in domains(sample, compared):
        total = sample.positive_weight[chosen].sum()
        if total <= 0:
            return np.zeros(len(sample))
        weight[chosen] = sample.positive_weight[chosen] * (0.5 * len(sample) / total)
    return weight


def _check_batch(training: TaggerSample, prepared: Prepared, settings: TaggerSettings) -> None:
    method = settings.decorrelation.method
    if method == "domain" and not _domain_weights(training, settings.decorrelation.compared).any():
        raise RefusedError(
            "domain adaptation needs jets of data and of simulation with weights above 0; data have 0 in the column "
            f"{settings.columns.simulation}"
        )
    size = batch_size(prepared.n_jets, settings)
    needed = make_penalty(settings.decorrelation).minimum
    there = size * float(np.mean(training.is_within & (training.weight > 0)))
    if there < needed:
        raise RefusedError(
            f"{method} needs at least {needed} background jets in a batch, {size} jets have {there:.0f}; "
            f"raise fit.batch or give more jets"
        )
    if size < MIN_JETS:
        raise RefusedError(f"a batch has at least {MIN_JETS} jets, got fit.batch={size}")


def _half(logit: Any, batch: Mapping[str, Any], *, second: bool) -> tuple[Any, dict[str, Any]]:
    """Logits and what is known of one half of a batch: an adversary takes turns with them."""
    middle = tf.shape(logit)[0] // 2
    part = slice(middle, None) if second else slice(None, middle)
    known = {name: values[part] for name, values in batch.items() if name not in {FEATURES, CONSTITUENTS}}
    return logit[part], known


def _train_adversary(state: State, logit: Any, batch: Mapping[str, Any]) -> None:
    """One step of the adversary alone."""
    with tf.GradientTape() as tape:
        loss = -state.penalty.value(logit, batch)
    state.optimizers[1].apply(tape.gradient(loss, state.penalty.variables), state.penalty.variables)


def _cross_entropy(logit: Any, batch: Mapping[str, Any]) -> Any:
    entropy = tf.nn.sigmoid_cross_entropy_with_logits(batch["label"], logit)
    return tf.reduce_mean(batch["classification"] * entropy)


def _warm_rounds(settings: TaggerSettings) -> int:
    return round(settings.decorrelation.warm_up * settings.fit.rounds)


def _ramp(number: int, settings: TaggerSettings) -> float:
    """0 while warming up, then rising to 1 over as many rounds again."""
    warm = _warm_rounds(settings)
    return 1.0 if warm == 0 else min(max((number + 1 - warm) / warm, 0.0), 1.0)


def _is_warm(number: int, settings: TaggerSettings) -> bool:
    """Whether a penalty, if there is one, had its full strength in a round."""
    return number >= 2 * _warm_rounds(settings) or not settings.decorrelation.has_penalty


def _is_late(number: int, settings: TaggerSettings) -> bool:
    """Whether a round is one of the last, in which the strength stays."""
    return number > (1 - _SETTLED) * settings.fit.rounds


def _coarse_divergence(logit: Float64Array, prepared: Prepared) -> tuple[float, float, float]:
    """Divergence at half the signal in few bins less that of a random selection, and what a new sample would quote.

    The latter is told for the divergence that was found and for one that the jets can hardly tell from none.

    The unit is the divergence of a random selection for each degree of freedom, which falls with the number of jets.
    In units, twice the divergence is distributed as chi square. The bound counts the spread of the divergence here and
    in a reference sample, what was learnt of the jets at hand, and the error from a bootstrap there. The jets at hand
    are the same in every round and so is their fluctuation: a strength that follows it would end above the target.
    """
    sample, spectrum, reference = prepared.monitored, prepared.spectrum, prepared.reference
    background = ~sample.is_signal
    threshold = roc(logit, sample.is_signal, sample.weight).threshold()
    passing = logit[background][spectrum.within] >= threshold
    parts = [spectrum.weight * each for each in (passing, ~passing)]
    if any(part.sum() <= 0 for part in parts):
        return 1.0, 1.0, 0.0
    unit = sum(float(np.sum(part**2)) / float(part.sum()) ** 2 for part in parts) / (8 * math.log(2))
    degrees = spectrum.n_bins - 1
    jsd = spectrum.divergence(passing) - degrees * unit
    there, of_reference = unit * effective_entries(spectrum.weight) / reference.jets, reference.n_bins - 1

    def bound(found: float) -> float:
        truth = max(found, 0.0) + _LEARNT * unit
        spread = math.hypot(unit * math.sqrt(2 * degrees), math.sqrt(2 * of_reference * there**2 + 4 * truth * there))
        bootstrap = math.sqrt(6 * of_reference * there**2 + 4 * truth * there)
        return found + _LEARNT * unit + bootstrap + _CAUTION * spread

    return jsd, bound(jsd), bound(_UNSEEN * unit * math.sqrt(2 * degrees))


def _excess(rows: Sequence[Report], target: float) -> float:
    """Mean bound on the divergence in some rounds in units of the one asked for, less one.

    Where jets are too few to see that one, it is in units of the least bound that they can give.
    """
    return float(np.mean([row["jsd_bound"] / max(1.0 / target, row["jsd_floor"]) for row in rows])) - 1.0


def _least_rejection(history: Sequence[Report], settings: TaggerSettings) -> float:
    """Below which no target is followed: a share of what was reached without penalty, 0 without such rounds."""
    free = history[: _warm_rounds(settings)]
    return settings.decorrelation.least_share * max((row["rejection"] for row in free), default=0.0)


def _adjust(state: State, row: Report, settings: TaggerSettings) -> None:
    """Move the strength towards where the divergence is the one asked for, or the rejection the least."""
    decorrelation, number = settings.decorrelation, len(state.history)
    is_ready = decorrelation.is_constrained and _is_warm(number, settings) and not _is_late(number, settings)
    if not is_ready or not math.isfinite(row["jsd_bound"]):
        return
    excess = _excess([row], decorrelation.target_inverse_jsd)
    if len(state.history) > 1 and row["jsd_bound"] < _FALLING * state.history[-2]["jsd_bound"]:
        excess = min(excess, 0.0)
    least = _least_rejection(state.history, settings)
    if 0 < least < math.inf and row["rejection"] > 0:
        excess = min(excess, _ROOM * math.log(row["rejection"] / least))
    first = state.penalty.first_strength
    risen = state.strength * math.exp(_GAIN * float(np.clip(excess, *_STEPS)))
    largest = min(first * state.penalty.largest, _BEYOND * _best_strength(state.history, settings))
    state.strength = float(np.clip(risen, first / _RANGE, largest))


def _best_strength(history: Sequence[Report], settings: TaggerSettings) -> float:
    """The strength at which the divergence was first as good as least, infinite before there are some rounds.

    It is that in the mean of a few rounds. Far beyond it more strength takes rejection without a gain, and an adversary
    loses the tagger out of sight.
    """
    warm = 2 * _warm_rounds(settings)
    ends = range(warm + _SMOOTHED, len(history) + 1)
    means = np.array([np.mean([row["jsd_bound"] for row in history[end - _SMOOTHED : end]]) for end in ends])
    if not np.isfinite(means).any():
        return math.inf
    first = int(np.argmax(means <= _AS_GOOD * np.nanmin(means)))
    return history[ends[first] - 1]["strength"]


def _keep_best(state: State, row: Report, settings: TaggerSettings) -> None:
    """Keep the averaged weights of this round if they are at least as good as those before.

    Without penalty the validation loss decides. With a given strength the last weights are kept. With a target it is
    the last of the late rounds that reach it in the mean of a few rounds without losing too much rejection, and where
    none does the one that is closest; an earlier one where the late ones are much further off, as those of an
    adversary may be.
    """
    decorrelation, number = settings.decorrelation, len(state.history)
    excess = _excess(state.history[-_SMOOTHED:], decorrelation.target_inverse_jsd)
    if not decorrelation.has_penalty:
        rank = [-row["validation_loss"]]
    elif not decorrelation.is_constrained:
        rank = [float(number)]
    else:
        is_useful = row["rejection"] >= _NEAR_LEAST * _least_rejection(state.history, settings)
        rank = [float(is_useful), -max(excess, 0.0) - (0.0 if _is_late(number, settings) else _EARLY)]
    if not state.best_rank or rank >= state.best_rank:
        state.best_rank, state.best = rank, [each.numpy() for each in state.averaged]


def _has_stalled(history: Sequence[Report], settings: TaggerSettings) -> bool:
    """Whether a training without penalty has not become better for as many rounds as its patience allows."""
    patience = settings.fit.patience
    if settings.decorrelation.has_penalty or patience == 0 or len(history) <= patience:
        return False
    losses = [row["validation_loss"] for row in history]
    return not min(losses[-patience:]) < (1 - _BETTER) * min(losses[:-patience])


def _check_collapse(state: State, settings: TaggerSettings) -> None:
    rows = state.history[-_PATIENCE:]
    is_ready = len(rows) == _PATIENCE and _is_warm(len(state.history) - _PATIENCE, settings)
    if not is_ready or not all(has_collapsed(row) for row in rows):
        return
    row, advice = rows[-1], against_collapse(settings, "check the features")
    raise CollapsedError(
        f"the tagger has collapsed after {row['steps']:.0f} steps: rejection {row['rejection']:.2f} at half the "
        f"signal, spread of the score {row['spread']:.1e}, strength {row['strength']:.3g}; {advice}"
    )


def against_collapse(settings: TaggerSettings, otherwise: str) -> str:
    """What may help a tagger that does not separate: less penalty, and `otherwise` without one."""
    if not settings.decorrelation.has_penalty:
        return otherwise
    return "lower --target-inverse-jsd" if settings.decorrelation.is_constrained else "lower --strength"


def has_collapsed(row: Report) -> bool:
    """Whether rejection and spread of the score, which may be nan, are those of a tagger that does not separate."""
    return not row["rejection"] >= COLLAPSED_REJECTION or not row["spread"] > COLLAPSED_SPREAD


def _variables(state: State) -> dict[str, list[Any]]:
    found = {
        "weight": list(state.network.variables),
        "penalty": list(state.penalty.variables),
        "averaged": state.averaged,
        "norm": [state.norm],
    }
    return found | {f"optimizer{i}": list(each.variables) for i, each in enumerate(state.optimizers)}


def _assign(network: TaggerNetwork, values: list[Any]) -> None:
    for variable, value in zip(network.trainable_variables, values, strict=True):
        variable.assign(value)
