"""The networks: deep sets or small networks per |eta|, and the heads that make a calibration of them.

A head gives the logarithm of the factor on pT, and the relative width of the true pT. They differ in what they learn:

inversion    log of the response pt/true pt at a given true pT; the true pT is where that leads to the measured pT
regression   log of true pt/pt
mixture      the same as a narrow core and two tails; the core is the calibration
ansatz       T = A + (y - B) D + (y - B)^2 C / 2 in y = log true pT, with C < 0; B is the estimate and -1/C its variance

All four are differentiable, so that the asymmetry of calibrated jets can be part of the loss.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from models.training.preprocessing import ConstituentColumns, JetColumns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.training.settings import NetworkSettings

MIN_WIDTH = 0.005
# softplus(UNIT) = 1: a head that gives 0 leaves jets alone.
UNIT = math.log(math.e - 1.0)
_TAILS = 2
_CORE_SHARE = 0.6
_POOL_SCALE = 16.0


@dataclass(frozen=True, slots=True)
class Scales:
    """What the targets are standardised with: typical width of log response, and mean and spread of log true pT."""

    width: float = 0.1
    log_pt: float = 5.0
    spread: float = 1.0


class EtaBins(keras.layers.Layer):
    """One dense layer for each bin of |eta|, (n, k) -> (n, units); which bin is chosen by `share` (n, n_bins)."""

    def __init__(self, units: int, n_bins: int, **options: Any) -> None:
        super().__init__(**options)
        self.units, self.n_bins = units, n_bins

    def build(self, shape: Any, *_: Any) -> None:
        """Weights of every bin."""
        columns = shape[-1]
        start = keras.initializers.VarianceScaling(2.0 * self.n_bins)  # of all bins only one counts
        self.kernel = self.add_weight(shape=(columns, self.n_bins * self.units), initializer=start, name="kernel")
        self.bias = self.add_weight(shape=(self.n_bins * self.units,), initializer="zeros", name="bias")

    def call(self, values: Any, share: Any) -> Any:
        """The output of the bin of each jet."""
        every = ops.matmul(values, self.kernel) + self.bias
        every = ops.reshape(every, (-1, self.n_bins, self.units))
        return ops.silu(ops.sum(every * ops.expand_dims(share, -1), axis=1))


class CalibrationNetwork(keras.Model):
    """A network with its head; jets are (n, n_features), constituents (n, n_parts, 4) or flat with `segments`."""

    def __init__(self, settings: NetworkSettings, names: Sequence[str], scales: Scales, **options: Any) -> None:
        super().__init__(**options)
        self.settings, self.names, self.scales = settings, tuple(names), scales
        self.sees_pt = settings.head != "inversion"
        self.needs_truth = settings.head in {"inversion", "ansatz"}
        self.columns = JetColumns(names, sees_pt=self.sees_pt, name="jet_columns")
        self.places = ConstituentColumns(settings.radius, sees_pt=self.sees_pt, name="constituent_columns")
        self.each = [
            keras.layers.Dense(n, activation="relu", name=f"constituent_{i}")
            for i, n in enumerate(settings.constituent_units)
        ]
        if settings.kind == "per_eta":
            n_bins = len(settings.eta_edges) - 1
            self.whole = [EtaBins(n, n_bins, name=f"jet_{i}") for i, n in enumerate(settings.jet_units)]
        else:
            self.whole = [
                keras.layers.Dense(n, activation="silu", name=f"jet_{i}") for i, n in enumerate(settings.jet_units)
            ]
        # the first layer of a head is a sum over what is known of the jet, computed once, and over the true pT
        first, *more = settings.head_units
        self.known = keras.layers.Dense(first, name="head_known")
        self.truth = keras.layers.Dense(first, use_bias=False, name="head_truth")
        self.behind = [keras.layers.Dense(n, activation="silu", name=f"head_{i}") for i, n in enumerate(more)]
        self.centre, self.spread, self.tails, self.direct = (
            keras.layers.Dense(n, kernel_initializer="zeros", name=name)
            for n, name in ((1, "centre"), (1, "spread"), (3 * _TAILS, "tails"), (3, "direct"))
        )

    def build(self, *_: Any) -> None:
        """Give every layer its weights, by two jets."""
        jets = ops.zeros((2, len(self.names))) + 1.0
        momenta, segments = ops.ones((3, 4)), ops.convert_to_tensor(np.array([0, 0, 1], np.int32))
        latent = self.latent(jets, momenta, segments if self.uses_constituents else None)
        self.calibrated(latent, jets)
        if self.settings.head == "ansatz":
            self.log_ratio(latent, ops.zeros((2,)), ops.zeros((2,)))
        if self.settings.head == "mixture":
            self.components(latent)
        self.built = True

    @property
    def uses_constituents(self) -> bool:
        """Whether constituents are an input."""
        return self.settings.kind == "deepsets"

    def call(self, jets: Any, momenta: Any, segments: Any = None) -> Any:
        """`estimate` as one array (n, 2)."""
        return ops.stack(self.estimate(jets, momenta, segments), axis=-1)

    def latent(self, jets: Any, momenta: Any, segments: Any = None) -> Any:
        """What is known of each jet, (n, k); no constituents are as good as zeros."""
        columns = self.columns(jets)
        if self.settings.kind == "per_eta":
            share = self._eta_shares(jets)
            for layer in self.whole:
                columns = layer(columns, share)
            return columns
        pooled = self._pooled_flat(jets, momenta, segments) if segments is not None else self._pooled(jets, momenta)
        values = ops.concatenate([columns, pooled], axis=-1)
        for layer in self.whole:
            values = layer(values)
        return values

    def estimate(self, jets: Any, momenta: Any, segments: Any = None) -> tuple[Any, Any]:
        """Logarithm of the factor on pT and relative width, (n,) each."""
        return self.calibrated(self.latent(jets, momenta, segments), jets)

    def calibrated(self, latent: Any, jets: Any) -> tuple[Any, Any]:
        """The same from what `latent` gave."""
        log_pt = ops.log(ops.maximum(jets[:, self.names.index("pt")], 1e-3))
        if self.settings.head == "inversion":
            return self._inverted(latent, log_pt)
        if self.settings.head == "ansatz":
            shift, _, _ = self._direct(latent)
            return shift, ops.sqrt(-1.0 / self._curvature(latent, log_pt + shift))
        hidden = self._hidden(self.known(latent))
        return self._centre(hidden)[:, 0], self._width(hidden)[:, 0]

    def response(self, latent: Any, log_truth: Any) -> tuple[Any, Any]:
        """Log response at a true pT and its width, (n,) each, of the head "inversion"."""
        hidden = self._hidden(self.known(latent), ops.expand_dims(log_truth, -1))
        return self._centre(hidden)[:, 0], self._width(hidden)[:, 0]

    def components(self, latent: Any) -> tuple[Any, Any, Any]:
        """Shares, centres and widths (n, 3) of the head "mixture", the core first; in log true pt/pt."""
        hidden = self._hidden(self.known(latent))
        centre, width, raw = self._centre(hidden), self._width(hidden), self.tails(hidden)
        share, offset, wider = (raw[:, i * _TAILS : (i + 1) * _TAILS] for i in range(3))
        # the core is the largest and the narrowest component
        tail = (1.0 - _CORE_SHARE) * ops.softmax(ops.concatenate([ops.ones_like(centre), share], axis=-1), axis=-1)
        shares = ops.concatenate([_CORE_SHARE + tail[:, :1], tail[:, 1:]], axis=-1)
        direction = np.array([[-1.0, 1.0]], np.float32)
        centres = ops.concatenate([centre, centre + width * (direction + offset)], axis=-1)
        widths = ops.concatenate([width, width * (1.2 + ops.softplus(wider))], axis=-1)
        return shares, centres, widths

    def log_ratio(self, latent: Any, log_pt: Any, log_truth: Any) -> tuple[Any, Any]:
        """T(jet, true pT), (n,), and D (n,), of the head "ansatz"; `log_truth` is (n,)."""
        shift, level, slope = self._direct(latent)
        distance = log_truth - (log_pt + shift)
        curvature = self._curvature(latent, log_truth)
        return level + distance * slope + 0.5 * distance * distance * curvature, slope

    def _inverted(self, latent: Any, log_pt: Any) -> tuple[Any, Any]:
        """Fixed-point solution of log true pt + log response(true pt) = log pt."""
        known, log_pt = self.known(latent), ops.expand_dims(log_pt, -1)
        hidden = self._hidden(known, log_pt)
        for _ in range(self.settings.iterations):
            hidden = self._hidden(known, log_pt - self._centre(hidden))
        return -self._centre(hidden)[:, 0], self._width(hidden)[:, 0]

    def _direct(self, latent: Any) -> tuple[Any, Any, Any]:
        """B - log pt, A and D of the Gaussian Ansatz."""
        raw = self.direct(latent)
        return self._positive(raw[:, 0]), raw[:, 1], raw[:, 2] / self.scales.width

    def _curvature(self, latent: Any, log_truth: Any) -> Any:
        """C < 0 of the Gaussian Ansatz, -1/width^2."""
        width = self._width(self._hidden(self.known(latent), ops.expand_dims(log_truth, -1)))[:, 0]
        return -1.0 / (width * width)

    def _hidden(self, known: Any, log_truth: Any = None) -> Any:
        """Last hidden layer, from what `self.known` gave and a log true pT (n, 1)."""
        values = known
        if log_truth is not None:
            scaled = (log_truth - self.scales.log_pt) / self.scales.spread
            values = known + self.truth(ops.clip(scaled, -3.0, 3.0))
        values = ops.silu(values)
        for layer in self.behind:
            values = layer(values)
        return values

    def _centre(self, hidden: Any) -> Any:
        """Centre of the target, (n, 1)."""
        return self._positive(self.centre(hidden))

    def _positive(self, raw: Any) -> Any:
        """Logarithm of a positive factor: 0 gives 0, and steps are those of the standardised target."""
        return ops.log(ops.softplus(UNIT + self.scales.width / (1.0 - math.exp(-1.0)) * raw) + 1e-6)

    def _width(self, hidden: Any) -> Any:
        """A positive width, (n, 1); 0 gives the typical one."""
        return self.scales.width * ops.softplus(UNIT + self.spread(hidden)) + MIN_WIDTH

    def _eta_shares(self, jets: Any) -> Any:
        """1 for the bin of |eta| and 0 for the others, (n, n_bins)."""
        abs_eta = ops.abs(jets[:, self.names.index("eta")])
        inner = np.array(self.settings.eta_edges[1:-1], np.float32)
        above = ops.cast(ops.expand_dims(abs_eta, -1) >= inner, "float32")
        ones = ops.ones_like(ops.expand_dims(abs_eta, -1))
        return ops.concatenate([ones, above], axis=-1) - ops.concatenate([above, 0.0 * ones], axis=-1)

    def _pooled(self, jets: Any, momenta: Any) -> Any:
        """Sums over constituents (n, n_constituents, 4), those with pt = 0 masked."""
        pt = momenta[..., 3]
        total = ops.sum(pt, axis=1, keepdims=True)
        eta, phi = (ops.expand_dims(jets[:, self.names.index(name)], -1) for name in ("eta", "phi"))
        columns = self.places(ops.transpose(momenta, (2, 0, 1)), eta, phi, total)
        # layers on rows of a matrix have their bias and activation fused, and a sum with weights is a product
        values = self._of_each(ops.transpose(ops.reshape(columns, (columns.shape[0], -1))))
        values = ops.reshape(values, (-1, ops.shape(momenta)[1], self.settings.constituent_units[-1]))
        weights = [pt / ops.maximum(total, 1e-6)]
        if self.sees_pt:
            weights.append(ops.cast(pt > 0.0, "float32") / _POOL_SCALE)
        sums = ops.matmul(ops.stack(weights, axis=1), values)
        return ops.reshape(sums, (-1, len(weights) * self.settings.constituent_units[-1]))

    def _pooled_flat(self, jets: Any, momenta: Any, segments: Any) -> Any:
        """The same for constituents (n_constituents, 4) with the jet of each in `segments`."""
        n = ops.shape(jets)[0]
        pt = momenta[:, 3]
        total = ops.segment_sum(pt, segments, num_segments=n)
        of_jet = ops.stack([jets[:, self.names.index("eta")], jets[:, self.names.index("phi")], total], axis=-1)
        of_each = ops.take(of_jet, segments, axis=0)
        columns = self.places(ops.transpose(momenta), of_each[:, 0], of_each[:, 1], of_each[:, 2])
        values = self._of_each(ops.transpose(columns))
        share = ops.expand_dims(pt / ops.maximum(of_each[:, 2], 1e-6), -1)
        weighted = [values * share, *([values / _POOL_SCALE] if self.sees_pt else [])]
        return ops.concatenate([ops.segment_sum(each, segments, num_segments=n) for each in weighted], axis=-1)

    def _of_each(self, values: Any) -> Any:
        for layer in self.each:
            values = layer(values)
        return values


def make_network(settings: NetworkSettings, names: Sequence[str], scales: Scales, seed: int) -> CalibrationNetwork:
    """A network with its weights in place; the same seed gives the same ones."""
    keras.utils.set_random_seed(seed)
    network = CalibrationNetwork(settings, names, scales)
    network.build()
    return network


def count_parameters(network: CalibrationNetwork) -> int:
    """Trainable numbers."""
    return sum(int(np.prod(weight.shape)) for weight in network.trainable_weights)
