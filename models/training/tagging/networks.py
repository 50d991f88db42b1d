"""What every network of a tagger offers, and which one settings ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from models.tagging.columns import CONSTITUENT_COLUMNS
from models.training.tagging.samples import scale_weights

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from models.training.tagging.samples import TaggerSample
    from models.training.tagging.settings import NetworkSettings

    Float32Array = NDArray[np.float32]

FEATURES, CONSTITUENTS = "features", "constituents"
"""Names of inputs."""
LIMIT = 5.0
"""Columns are cut at so many standard deviations: nothing beyond was trained on."""
_TAILS = (0.1, 99.9)
_SKEWED = 1.0


class Columns(keras.layers.Layer):
    """Raw columns (n, n_features) -> standardised columns (n, n_features).

    What is not finite becomes the median; tails beyond the last permille are cut; positive columns with a long tail
    are taken on a logarithmic scale.
    """

    def __init__(self, n_features: int, **options: Any) -> None:
        super().__init__(trainable=False, **options)
        names = ("low", "high", "median", "is_log", "mean", "scale")
        of_one = {"high", "scale"}
        for name in names:
            start = "ones" if name in of_one else "zeros"
            setattr(self, name, self.add_weight(shape=(n_features,), initializer=start, name=name, trainable=False))

    def adapt(self, features: Float32Array, weight: NDArray[np.float64]) -> None:
        """Learn the scales of columns (n, n_features) of jets with weights (n,)."""
        told = [_described(column.astype(np.float64), weight) for column in features.T]
        for name in ("low", "high", "median", "is_log", "mean", "scale"):
            getattr(self, name).assign(np.array([each[name] for each in told], np.float32))

    def call(self, features: Any) -> Any:
        """Standardised columns, within `LIMIT`."""
        values = ops.clip(finite_or(self.median, features), self.low, self.high)
        scaled = ops.where(self.is_log > 0.5, ops.log(ops.maximum(values, 1e-30)), values)
        return ops.clip((scaled - self.mean) * self.scale, -LIMIT, LIMIT)


def finite_or(replacement: Any, values: Any) -> Any:
    """Values of any shape, a replacement for what is not finite."""
    # The conversion to ONNX makes products of other conditions, in which nan survives.
    values = ops.where(ops.isnan(values), replacement, values)
    return ops.where(ops.isinf(values), replacement, values)


def _described(values: NDArray[np.float64], weight: NDArray[np.float64]) -> dict[str, float]:
    """Cuts, median and scale of a column; a column that is constant or never finite becomes 0."""
    used = np.isfinite(values) & (weight > 0)
    if not used.any():
        return {"low": 0.0, "high": 0.0, "median": 0.0, "is_log": 0.0, "mean": 0.0, "scale": 0.0}
    values, weight = values[used], weight[used]
    low, high = np.percentile(values, _TAILS)
    median = float(np.median(values))
    values = np.clip(values, low, high)
    is_log = bool(low > 0 and _skewness(values) > _SKEWED and abs(_skewness(np.log(values))) < _skewness(values))
    scaled = np.log(values) if is_log else values
    mean = float(np.average(scaled, weights=weight))
    spread = float(np.sqrt(np.average((scaled - mean) ** 2, weights=weight)))
    scale = 1.0 / spread if spread > 1e-6 * max(abs(mean), 1e-30) else 0.0
    return {"low": low, "high": high, "median": median, "is_log": float(is_log), "mean": mean, "scale": scale}


def _skewness(values: NDArray[np.float64]) -> float:
    spread = values.std()
    return float(np.mean(((values - values.mean()) / spread) ** 3)) if spread > 0 else 0.0


class TaggerNetwork(keras.Model):
    """A network that gives every jet a logit; a subclass says what it makes of the jet's inputs.

    Inputs are those of `takes` by name: `features`, raw columns (n, n_features), and `constituents`, their momenta
    px, py, pz and E (n, any length, 4) in GeV, hardest first and zero where a jet has no more.

    Attributes
    ----------
    takes
        Names of the inputs.
    """

    takes: tuple[str, ...] = (FEATURES,)

    def __init__(self, units: Sequence[int], **options: Any) -> None:
        super().__init__(**options)
        self.layers_of_jet = [keras.layers.Dense(n, activation="swish", name=f"jet_{i}") for i, n in enumerate(units)]
        self.head = keras.layers.Dense(1, name="head")

    def call(self, inputs: Mapping[str, Any], training: bool = False) -> Any:  # noqa: ARG002, FBT001, FBT002  Keras wants it
        """Logit of each jet, (n,); layers that do something else in training are told so by Keras."""
        return self.head(self.hidden(inputs))[:, 0]

    def hidden(self, inputs: Mapping[str, Any]) -> Any:
        """Units of the last layer before the logit, (n, n_units)."""
        values = self.jet_columns(inputs)
        for layer in self.layers_of_jet:
            values = layer(values)
        return values

    def jet_columns(self, inputs: Mapping[str, Any]) -> Any:
        """What the dense layers of the jet see, (n, any)."""
        raise NotImplementedError

    def adapt(self, sample: TaggerSample) -> None:
        """Learn scales from a training sample, where there are any."""


class Blur(keras.layers.Layer):
    """Adds noise of a standard deviation in training; it is uniform, as normal numbers take three times as long."""

    def __init__(self, deviation: float, **options: Any) -> None:
        super().__init__(**options)
        self.half_width = 3.0**0.5 * deviation
        self.seed = keras.random.SeedGenerator()

    def call(self, values: Any, *, training: bool = False) -> Any:
        """Of the shape of the values."""
        if not training or self.half_width == 0:
            return values
        return values + keras.random.uniform(ops.shape(values), -self.half_width, self.half_width, seed=self.seed)


class DenseTagger(TaggerNetwork):
    """Dense layers on standardised columns, which are blurred in training by a part of their width."""

    def __init__(self, settings: NetworkSettings, n_features: int, blur: float = 0.0) -> None:
        super().__init__(settings.sizes.units)
        self.columns = Columns(n_features, name="columns")
        self.blur = Blur(blur, name="blur")

    def jet_columns(self, inputs: Mapping[str, Any]) -> Any:
        """Standardised columns, (n, n_features)."""
        return self.blur(self.columns(inputs[FEATURES]))

    def adapt(self, sample: TaggerSample) -> None:
        """Learn the scales of the columns."""
        self.columns.adapt(sample.features, scale_weights(sample))


def make_network(settings: NetworkSettings, n_features: int, seed: int, blur: float = 0.0) -> TaggerNetwork:
    """A network with initial weights from a seed; columns of jets are blurred in training by `blur` of their width."""
    keras.utils.set_random_seed(seed)
    network = _network_of(settings, n_features, blur)
    shapes = {FEATURES: (2, n_features), CONSTITUENTS: (2, settings.sizes.length, len(CONSTITUENT_COLUMNS))}
    network({name: np.ones(shapes[name], np.float32) for name in network.takes})
    return network


def _network_of(settings: NetworkSettings, n_features: int, blur: float) -> TaggerNetwork:
    if settings.kind == "dense":
        return DenseTagger(settings, n_features, blur)
    # these modules build on this one
    from models.training.tagging.graphs import LorentzTagger, ParticleNetTagger
    from models.training.tagging.images import ImageTagger
    from models.training.tagging.sequences import RecurrentTagger
    from models.training.tagging.sets import DeepSetsTagger, EnergyFlowTagger

    kinds: dict[str, type[Any]] = {
        "deepsets": DeepSetsTagger,
        "energyflow": EnergyFlowTagger,
        "particlenet": ParticleNetTagger,
        "lorentz": LorentzTagger,
        "image": ImageTagger,
        "recurrent": RecurrentTagger,
    }
    return kinds[settings.kind](settings)  # type: ignore[no-any-return]
