"""Networks on pairs of constituents: edge convolutions with nearest neighbours, and products of momenta."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from models.training.tagging.constituents import cloud_of
from models.training.tagging.networks import CONSTITUENTS, TaggerNetwork
from models.training.tagging.sets import POOL_SCALE, on_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.training.tagging.constituents import Cloud
    from models.training.tagging.settings import NetworkSettings

_FAR = 1e6
_DEPTH = 3


class EdgeConvolution(keras.layers.Layer):
    """Messages from the nearest neighbours of each constituent, their mean added to what it was.

    The first layer on a pair (x_i, x_j - x_i) is a sum over its two constituents, computed once for each of them.
    """

    def __init__(self, units: int, neighbours: int, **options: Any) -> None:
        super().__init__(**options)
        self.units, self.neighbours = units, neighbours
        self.own = keras.layers.Dense(units, name="own")
        self.other = keras.layers.Dense(units, use_bias=False, name="other")
        self.edges = [keras.layers.Dense(units, activation="relu", name=f"edge_{i}") for i in range(_DEPTH - 1)]
        self.shortcut = keras.layers.Dense(units, name="shortcut")

    def call(self, values: Any, points: Any, is_there: Any) -> Any:
        """(n, length, units) from values (n, length, k) and places (n, length, d); `is_there` is (n, length)."""
        places = self.nearest(points, is_there)
        own, other = on_rows(self.own, values), on_rows(self.other, values)
        edges = ops.relu(ops.expand_dims(own - other, 2) + _gathered(other, places))
        for layer in self.edges:
            edges = on_rows(layer, edges)
        weight = _gathered(ops.expand_dims(is_there, -1), places)
        mean = ops.sum(edges * weight, axis=2) / ops.maximum(ops.sum(weight, axis=2), 1.0)
        return ops.relu(on_rows(self.shortcut, values) + mean) * ops.expand_dims(is_there, -1)

    def nearest(self, points: Any, is_there: Any) -> Any:
        """Places of the nearest other constituents, (n, length, neighbours); those that are not there come last."""
        square = ops.sum(points * points, axis=-1)
        product = ops.matmul(points, ops.transpose(points, (0, 2, 1)))
        distance = ops.expand_dims(square, 2) + ops.expand_dims(square, 1) - 2.0 * product
        index = ops.arange(ops.shape(points)[1])
        is_self = ops.expand_dims(ops.expand_dims(index, 1) == ops.expand_dims(index, 0), 0)
        distance = distance + _FAR * (1.0 - ops.expand_dims(is_there, 1)) + 2.0 * _FAR * ops.cast(is_self, "float32")
        return ops.top_k(-distance, self.neighbours)[1]


def _gathered(values: Any, places: Any) -> Any:
    """Values (n, length, k) at places (n, length, neighbours), (n, length, neighbours, k)."""
    n, length, width = ops.shape(values)[0], ops.shape(values)[1], values.shape[-1]
    first = length * ops.cast(ops.arange(n), "int32")
    rows = ops.reshape(ops.cast(places, "int32") + ops.reshape(first, (-1, 1, 1)), (-1,))
    found = ops.take(ops.reshape(values, (-1, width)), rows, axis=0)
    return ops.reshape(found, (n, length, places.shape[-1], width))


class ParticleNetTagger(TaggerNetwork):
    """Edge convolutions, the first with neighbours in eta and phi, the others with those in the values before.

    ParticleNet-Lite of Qu and Gouskos, arXiv:1902.08570, without batch normalisation, and with neighbours that are
    there alone.
    """

    takes = (CONSTITUENTS,)

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__(settings.sizes.units)
        self.length, self.neighbours = settings.sizes.length, settings.neighbours
        self.rounds = [
            EdgeConvolution(n, settings.neighbours, name=f"round_{i}")
            for i, n in enumerate(settings.sizes.constituent_units)
        ]

    def jet_columns(self, inputs: Mapping[str, Any]) -> Any:
        """Mean over constituents, (n, units)."""
        least = self.neighbours + 1
        cloud = cloud_of(_at_least(inputs[CONSTITUENTS], least), max(self.length, least))
        values, points = cloud.columns, ops.stack([cloud.eta, cloud.phi], axis=-1)
        for layer in self.rounds:
            values = points = layer(values, points, cloud.is_there)
        count = ops.maximum(ops.sum(cloud.is_there, axis=1, keepdims=True), 1.0)
        return ops.sum(values, axis=1) / count


def _at_least(momenta: Any, length: int) -> Any:
    """Momenta (n, any, 4) with so many constituents at least, zeros where there are fewer."""
    shape = ops.shape(momenta)
    lacking = ops.maximum(length - shape[1], 0)
    return ops.concatenate([momenta, ops.zeros((shape[0], lacking, 4))], axis=1)


class LorentzTagger(TaggerNetwork):
    """Messages between all pairs that know the product of their momenta, which no boost and no rotation changes.

    After LorentzNet (Gong et al., arXiv:2201.08187), scalars alone. Constituents are taken for massless. What is not
    invariant is which of them are the hardest, and which there are at all.
    """

    takes = (CONSTITUENTS,)

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__(settings.sizes.units)
        self.length = settings.sizes.length
        channels = settings.sizes.constituent_units
        self.first = keras.layers.Dense(channels[0], activation="relu", name="first")
        self.rounds = [PairMessages(n, name=f"round_{i}") for i, n in enumerate(channels)]

    def jet_columns(self, inputs: Mapping[str, Any]) -> Any:
        """Sum over constituents and the mass of the jet, (n, channels + 1)."""
        cloud = cloud_of(inputs[CONSTITUENTS], self.length)
        products = _products(cloud)
        with_jet = ops.sum(products, axis=2, keepdims=True)
        mass = _compressed(ops.sum(with_jet, axis=1))
        products, with_jet, is_there = _compressed(products), _compressed(with_jet), cloud.is_there
        values = on_rows(self.first, with_jet)
        for layer in self.rounds:
            values = layer(values, products, is_there)
        pooled = ops.matmul(ops.expand_dims(is_there / POOL_SCALE, 1), values)[:, 0]
        return ops.concatenate([pooled, mass], axis=-1)


class PairMessages(keras.layers.Layer):
    """Sum of what each other constituent says, (n, length, k) -> (n, length, units)."""

    def __init__(self, units: int, **options: Any) -> None:
        super().__init__(**options)
        self.units = units
        self.own = keras.layers.Dense(units, name="own")
        self.other = keras.layers.Dense(units, use_bias=False, name="other")
        self.message = keras.layers.Dense(units, activation="relu", name="message")
        self.update = keras.layers.Dense(units, activation="relu", name="update")

    def build(self, *_: Any) -> None:
        """The weight of the product in the first layer."""
        self.of_product = self.add_weight(shape=(self.units,), initializer="random_normal", name="of_product")

    def call(self, values: Any, products: Any, is_there: Any) -> Any:
        """`products` are (n, length, length), `is_there` is (n, length)."""
        pairs = ops.expand_dims(on_rows(self.own, values), 2) + ops.expand_dims(on_rows(self.other, values), 1)
        pairs = ops.relu(pairs + ops.expand_dims(products, -1) * self.of_product)
        pairs = on_rows(self.message, pairs)
        weight = ops.expand_dims(is_there / POOL_SCALE, 1)
        heard = ops.matmul(ops.expand_dims(weight, 1), pairs)[:, :, 0]
        return on_rows(self.update, ops.concatenate([values, heard], axis=-1))


def _products(cloud: Cloud) -> Any:
    """Products of massless momenta in GeV^2, (n, length, length).

    They are the product of both pT and half the squared distance of hyperbolic and circular coordinates, which keeps
    its precision where energy times energy minus momentum times momentum has none.
    """
    sinh, sine = cloud.eta, cloud.phi
    cosh, cosine = ops.sqrt(1.0 + sinh * sinh), ops.sqrt(ops.maximum(1.0 - sine * sine, 0.0))
    square = _squares(sinh) - _squares(cosh) + _squares(sine) + _squares(cosine)
    return 0.5 * ops.expand_dims(cloud.pt, 2) * ops.expand_dims(cloud.pt, 1) * square


def _squares(values: Any) -> Any:
    difference = ops.expand_dims(values, 2) - ops.expand_dims(values, 1)
    return difference * difference


def _compressed(values: Any) -> Any:
    """Logarithm of products in GeV^2, of the order of one."""
    return 0.3 * ops.log(1.0 + ops.maximum(values, 0.0))
