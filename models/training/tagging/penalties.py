"""What keeps a score free of a protected variable, behind one interface.

A penalty sees the logits of a batch and what is known of its jets (`Batch`), and adds a term to the loss. Weights count
everywhere; only background within the range of the protected variable has one, `background`. Scores are logistic
functions of logits, of some penalties with one half where half of the signal passes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from models.tagging.distance_correlation import correlation_above_chance

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from models.training.tagging.settings import DecorrelationSettings

    Batch = Mapping[str, Any]

# Bits in a nat.
_BITS = 1.0 / math.log(2.0)
_TINY = 1e-9
# Normal scores are those of ranks that are not nearer to 0 and 1, and no component is narrower or wider, in logarithms.
_LEAST_RANK = 1e-5
_LOG_WIDTHS = (-3.0, 2.0)
# Multiples of it modulo 1 are spread evenly.
_GOLDEN = 0.6180340
# What an adversary sees of a jet, see `Adversary.outputs`.
_SEEN = 5
# Width of the step of a score at its cut in units of the spread of the logits.
_SOFTNESS = 0.2


class Penalty:
    """A term of the loss.

    Attributes
    ----------
    first_strength
        Where a search for the strength starts.
    largest
        Where it ends, in units of the first strength.
    rate
        Of learning of the tagger, in units of what is set.
    minimum
        Background jets that a batch needs at least.
    variables
        What is trained besides the network: the weights of an adversary.
    """

    first_strength = 1.0
    largest = 1e3
    rate = 1.0
    minimum = 1

    def __init__(self, settings: DecorrelationSettings) -> None:
        self.settings = settings
        self.variables: list[Any] = []

    def value(self, logit: Any, batch: Batch) -> Any:
        """How far the score depends on the protected variable, a scalar."""
        raise NotImplementedError

    def term(self, logit: Any, batch: Batch, strength: Any) -> tuple[Any, Any]:
        """What is added to the loss, and `value`."""
        value = self.value(logit, batch)
        return strength * value, value


class Nothing(Penalty):
    """No penalty."""

    def value(self, logit: Any, batch: Batch) -> Any:
        """0."""
        del batch
        return ops.sum(logit[:0])


class DistanceCorrelation(Penalty):
    """DisCo (Kasieczka and Shih, arXiv:2001.05310): squared distance correlation of score and protected variable."""

    first_strength = 20.0
    minimum = 256

    def value(self, logit: Any, batch: Batch) -> Any:
        """Of background; what independent variables have is taken off, else it would drive the score.

        It may be slightly negative, and above 1 where the spread of those that pass is larger than that of all.
        """
        score = centred_score(logit, batch)
        weight = with_passing(score, batch["background"])
        return distance_correlation(score, batch["protected"], weight, batch["background"])


def centred_score(logit: Any, batch: Batch) -> Any:
    """Scores in [0, 1] that are one half at the cut with half of the signal, where an analysis would select.

    There they resolve best: a logistic function of the logit itself is all but 1 at the cut of a good tagger. Their
    scale is that of the logits, so that the network gains nothing from larger ones. Cut and scale are constants of the
    gradient.
    """
    fixed = ops.stop_gradient(logit)
    return ops.sigmoid((logit - _quantiles(fixed, batch["signal"], (0.5,))) / _width(fixed, _SOFTNESS))


def with_passing(score: Any, weight: Any) -> Any:
    """Weights (n,) with the sum 1, half of which is that of jets that pass a soft cut, the `centred_score`.

    Few as these jets are, it is their spectrum that is looked at. A weight that is a function of the score alone leaves
    a protected variable that does not depend on the score as it is, and one that does depends on it still.
    """
    return 0.5 * (_share(weight) + _share(weight * ops.stop_gradient(score)))


def _of_background(batch: Batch, *columns: Any) -> list[Any]:
    """Columns (n,) of the jets with a background weight alone."""
    chosen = tf.where(batch["background"] > 0)[:, 0]
    return [tf.gather(column, chosen) for column in columns]


def _share(weight: Any) -> Any:
    return weight / ops.maximum(ops.sum(weight), _TINY)


def _width(logit: Any, softness: float) -> Any:
    return softness * ops.std(logit) + 1e-3


@tf.custom_gradient
def distance_correlation(score: Any, protected: Any, weight: Any, background: Any) -> tuple[Any, Callable[..., Any]]:
    """Squared distance correlation above chance of tensors (n,) with weights (n,), a scalar float32.

    It is differentiable by the score. `background` are weights that do not know it, for the spread of `protected`.
    """
    value, slope = tf.numpy_function(_correlation, [score, protected, weight, background], (tf.float32, tf.float32))
    value, slope = tf.ensure_shape(value, ()), tf.ensure_shape(slope, score.shape)

    def gradient(upstream: Any) -> tuple[Any, None, None, None]:
        return upstream * slope, None, None, None

    return value, gradient


def _correlation(score: Any, protected: Any, weight: Any, background: Any) -> tuple[Any, Any]:
    found = correlation_above_chance(score, protected, weight, background)
    return np.float32(found.value), found.gradient.astype(np.float32)


class MomentDecomposition(Penalty):
    """MoDe (Kitouni, Nachman, Weisser and Williams, arXiv:2010.09745).

    The distribution function of the score in bins of the protected variable of equal population, minus its
    projection on Legendre polynomials up to an order, squared and integrated over the score. The two factors of the
    square are those of two halves of the jets, whose fluctuations are independent: the mean without dependence is 0.
    The derivative by a score is minus its weight times the residual of the other half there.
    """

    first_strength = 50.0
    minimum = 512

    def value(self, logit: Any, batch: Batch) -> Any:
        """Mean over bins of the integral over the score in [0, 1]; may be slightly negative."""
        n_bins = self.settings.bins
        score, weight, rank = _of_background(batch, centred_score(logit, batch), batch["background"], batch["rank"])
        place = ops.cast(ops.clip(ops.floor(rank * n_bins), 0, n_bins - 1), "int32")
        return _moments(score, ops.one_hot(place, n_bins), weight, _residual_matrix(n_bins, self.settings.order))


def _residual_matrix(n_bins: int, order: int) -> Any:
    """Matrix (bins, bins) that takes the projection on Legendre polynomials off a function of the bin."""
    middle = (2 * np.arange(n_bins) + 1) / n_bins - 1
    basis, _ = np.linalg.qr(np.polynomial.legendre.legvander(middle, order))
    return (np.eye(n_bins) - basis @ basis.T).astype(np.float32)


@tf.custom_gradient
def _moments(score: Any, of_bin: Any, weight: Any, residuals: Any) -> tuple[Any, Callable[..., Any]]:
    order = _rising_order(score)
    sorted_score = tf.gather(score, order)
    is_odd = tf.cast(tf.range(tf.shape(score)[0]) % 2, tf.float32)
    steps, found = [], []
    for half in (is_odd, 1.0 - is_odd):
        shares = of_bin * (weight * half)[:, tf.newaxis]
        steps.append(tf.gather(shares / tf.maximum(tf.reduce_sum(shares, axis=0), _TINY), order))
        found.append(tf.matmul(tf.cumsum(steps[-1], axis=0), residuals))
    width = tf.concat([sorted_score[1:] - sorted_score[:-1], tf.zeros((1,))], axis=0)
    n_bins = tf.cast(tf.shape(of_bin)[1], tf.float32)
    value = tf.reduce_sum(width[:, tf.newaxis] * found[0] * found[1]) / n_bins

    def gradient(upstream: Any) -> tuple[Any, None, None, None]:
        slope = -tf.reduce_sum(steps[0] * found[1] + steps[1] * found[0], axis=1) / n_bins
        back = tf.scatter_nd(order[:, tf.newaxis], slope, tf.shape(score))
        return upstream * back, None, None, None

    return value, gradient


class SoftDivergence(Penalty):
    """Divergence of the protected variable of what passes from what fails, with soft cuts, in bits.

    Cuts are those of several signal efficiencies in the batch. The divergence of random selections of the size is taken
    off, since it would ask for more background to pass.
    """

    first_strength = 20.0
    minimum = 1024
    efficiencies = (0.3, 0.5, 0.7)
    softness = 0.15
    """Width of a soft cut in units of the spread of the logits."""

    def value(self, logit: Any, batch: Batch) -> Any:
        """Mean over cuts; may be slightly negative."""
        n_bins, weight = self.settings.bins, batch["background"]
        place = ops.cast(ops.clip(ops.floor(batch["rank"] * n_bins), 0, n_bins - 1), "int32")
        cuts = ops.stop_gradient(_quantiles(logit, batch["signal"], self.efficiencies))
        width = _width(ops.stop_gradient(logit), self.softness)
        found = 0.0
        for i in range(len(self.efficiencies)):
            passing = ops.sigmoid((logit - cuts[i]) / width)
            found = found + _divergence(passing, weight, place, n_bins)
        return found / len(self.efficiencies)


def _quantiles(logit: Any, weight: Any, efficiencies: tuple[float, ...]) -> Any:
    """Cuts with given efficiencies for jets with weights."""
    order = _rising_order(-logit)
    share = tf.cumsum(tf.gather(weight, order))
    places = tf.searchsorted(share, share[-1] * tf.constant(efficiencies, tf.float32))
    return tf.gather(tf.gather(logit, order), tf.minimum(places, tf.shape(order)[0] - 1))


def _rising_order(values: Any) -> Any:
    """Indices that sort values (n,); numpy takes a fifth of the time of TensorFlow."""
    order = tf.cast(tf.numpy_function(np.argsort, [tf.stop_gradient(values)], tf.int64), tf.int32)
    return tf.ensure_shape(order, values.shape)


def _divergence(passing: Any, weight: Any, place: Any, n_bins: int) -> Any:
    """Jensen-Shannon divergence in bits without that of a random selection."""
    parts = []
    bias = 0.0
    for share in (passing, 1.0 - passing):
        entries = weight * share
        histogram = tf.math.unsorted_segment_sum(entries, place, n_bins)
        total = ops.maximum(ops.sum(histogram), _TINY)
        parts.append(histogram / total)
        bias = bias + ops.sum(ops.square(entries)) / ops.square(total)
    mean = 0.5 * (parts[0] + parts[1])
    found = sum(0.5 * ops.sum(part * ops.log((part + _TINY) / (mean + _TINY))) for part in parts)
    return _BITS * (found - ops.stop_gradient((n_bins - 1) / 8.0 * bias))


@tf.custom_gradient
def reversed_gradient(values: Any, strength: Any) -> tuple[Any, Callable[..., Any]]:
    """The same values, with a gradient of the other sign times `strength` (Ganin and Lempitsky, arXiv:1409.7495)."""

    def gradient(upstream: Any) -> tuple[Any, None]:
        return -strength * upstream, None

    return tf.identity(values), gradient


class Adversary(Penalty):
    """A network that predicts the rank of the protected variable from score and condition, through reversed gradients.

    Ranks are those of background, so that a prediction from nothing has the density 1 everywhere. Of a share of jets
    alone it knows the condition: where the protected variable goes with the condition, a score that is free of it at
    each condition and depends on the condition is not free of it as a whole.
    """

    first_strength = 2.0
    # Faster, the tagger runs away from an adversary that does not follow.
    rate = 1.0 / 3.0
    # It sees one half of a batch at a time.
    minimum = 512

    def __init__(self, settings: DecorrelationSettings) -> None:
        super().__init__(settings)
        self.layers = [keras.layers.Dense(units, activation="leaky_relu") for units in settings.adversary_units]
        self.layers.append(keras.layers.Dense(self.n_outputs))
        width = _SEEN
        for layer in self.layers:
            layer.build((None, width))
            width = layer.units
        self.variables = [variable for layer in self.layers for variable in layer.trainable_variables]

    @property
    def n_outputs(self) -> int:
        """Of the network."""
        raise NotImplementedError

    def log_density(self, outputs: Any, rank: Any) -> Any:
        """Logarithm of the predicted density of ranks (n,) from outputs (n, n_outputs)."""
        raise NotImplementedError

    def value(self, logit: Any, batch: Batch) -> Any:
        """Mean log density in nats: the information on the protected variable that was found."""
        known = (batch[name] for name in ("background", "rank", "condition"))
        logit, centred, weight, rank, condition = _of_background(batch, logit, centred_score(logit, batch), *known)
        log_density = self.log_density(self.outputs(logit, centred, condition), rank)
        return ops.sum(with_passing(centred, weight) * log_density)

    def outputs(self, logit: Any, centred: Any, condition: Any) -> Any:
        """Of the network, (n, n_outputs), which sees the score in several scales, and the condition of some jets."""
        place = ops.cast(ops.arange(ops.shape(logit)[0]), "float32")
        is_seen = ops.cast((_GOLDEN * place) % 1.0 < self.settings.conditional, "float32")
        values = ops.stack([ops.sigmoid(logit), centred, 0.3 * logit, is_seen * condition, is_seen], axis=-1)
        for layer in self.layers:
            values = layer(values)
        return values

    def term(self, logit: Any, batch: Batch, strength: Any) -> tuple[Any, Any]:
        """Loss of the adversary, whose gradient is turned round before it reaches the network; and `value`."""
        value = self.value(reversed_gradient(logit, strength), batch)
        return -value, value


class MixtureAdversary(Adversary):
    """A mixture of Gaussians (as ATL-PHYS-PUB-2018-014, after Louppe et al., arXiv:1611.01046).

    It is one of the normal score of the protected variable, whose background is a standard normal distribution: what
    does not depend on the score is one component, and no component is cut at an end.
    """

    @property
    def n_outputs(self) -> int:
        """Share, mean and width of each component."""
        return 3 * self.settings.components

    def log_density(self, outputs: Any, rank: Any) -> Any:
        """Of ranks (n,)."""
        score = tf.math.ndtri(ops.clip(rank, _LEAST_RANK, 1.0 - _LEAST_RANK))
        means = np.linspace(-2.0, 2.0, self.settings.components, dtype=np.float32)
        return _log_mixture(outputs, score, means) + 0.5 * ops.square(score)


@tf.custom_gradient
def _log_mixture(outputs: Any, values: Any, means: Any) -> tuple[Any, Callable[..., Any]]:
    """Logarithm of the density of values (n,), but for a constant, from logarithms of shares and widths and shifts.

    With the derivative written out it takes four fifths of the time. A width beyond its limits has the slope at the
    limit where that leads back.
    """
    shares, shifts, widths = tf.split(outputs, 3, axis=-1)
    shares = tf.exp(shares - tf.reduce_max(shares, axis=-1, keepdims=True))
    inverse = tf.exp(-tf.clip_by_value(widths, *_LOG_WIDTHS))
    distance = (values[:, tf.newaxis] - means - shifts) * inverse
    density = shares * inverse * tf.exp(-0.5 * tf.square(distance))
    total, norm = (tf.reduce_sum(each, axis=-1, keepdims=True) for each in (density, shares))
    total = total + _TINY

    def gradient(upstream: Any) -> tuple[Any, None, None]:
        part = density * (upstream[:, tf.newaxis] / total)
        of_shares = part - shares * (upstream[:, tf.newaxis] / norm)
        of_widths = part * (tf.square(distance) - 1.0)
        goes_on = ((widths < _LOG_WIDTHS[0]) & (of_widths > 0)) | ((widths > _LOG_WIDTHS[1]) & (of_widths < 0))
        of_widths = tf.where(goes_on, 0.0, of_widths)
        return tf.concat([of_shares, part * distance * inverse, of_widths], axis=-1), None, None

    return tf.math.log(total[:, 0] / norm[:, 0]), gradient


class BinnedAdversary(Adversary):
    """Bins of equal population (Shimmin et al., arXiv:1703.03507)."""

    @property
    def n_outputs(self) -> int:
        """One for each bin."""
        return self.settings.bins

    def log_density(self, outputs: Any, rank: Any) -> Any:
        """Of ranks (n,)."""
        n_bins = self.settings.bins
        place = ops.cast(ops.clip(ops.floor(rank * n_bins), 0, n_bins - 1), "int32")
        logs = ops.log_softmax(outputs)
        return ops.sum(ops.one_hot(place, n_bins) * logs, axis=-1) + math.log(n_bins)


class Domain(Adversary):
    """Data or simulation, predicted from score and condition of jets that need no label, through reversed gradients.

    What the score knows of the domain is what an analysis would see, so the head looks at the score alone (after Ganin
    and Lempitsky, arXiv:1409.7495, whose head looks at the features).
    """

    first_strength = 3.0
    minimum = 1

    @property
    def n_outputs(self) -> int:
        """The logit of simulation."""
        return 1

    def value(self, logit: Any, batch: Batch) -> Any:
        """Information on the domain in nats; both have the same sum of weights."""
        centred = centred_score(logit, batch)
        outputs = self.outputs(logit, centred, batch["condition"])[:, 0]
        sign = 2.0 * batch["simulation"] - 1.0
        found = ops.sum(with_passing(centred, batch["domain"]) * -ops.softplus(-sign * outputs))
        return math.log(2.0) + found


def make_penalty(settings: DecorrelationSettings) -> Penalty:
    """The penalty of a method."""
    kinds: dict[str, type[Penalty]] = {
        "none": Nothing,
        "planing": Nothing,
        "disco": DistanceCorrelation,
        "mode": MomentDecomposition,
        "soft-jsd": SoftDivergence,
        "adversarial": MixtureAdversary,
        "adversarial-binned": BinnedAdversary,
        "domain": Domain,
    }
    return kinds[settings.method](settings)
