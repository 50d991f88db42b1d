"""Networks that sum over constituents: deep sets, also called particle flow, and energy flow.

Komiske, Metodiev and Thaler, arXiv:1810.05165.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from models.training.tagging.constituents import cloud_of
from models.training.tagging.networks import CONSTITUENTS, TaggerNetwork

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from models.training.tagging.settings import NetworkSettings

# The order of the number of constituents, which keeps sums over them of the order of one.
POOL_SCALE = 16.0


class OfEach(keras.layers.Layer):
    """Dense layers for each constituent, (n, length, k) -> (n, length, units)."""

    def __init__(self, units: Sequence[int], **options: Any) -> None:
        super().__init__(**options)
        self.each = [keras.layers.Dense(n, activation="relu", name=f"constituent_{i}") for i, n in enumerate(units)]

    def call(self, values: Any) -> Any:
        """One layer after the other."""
        for layer in self.each:
            values = on_rows(layer, values)
        return values


def on_rows(layer: Any, values: Any) -> Any:
    """A dense layer on the last dimension, as one product of matrices whose bias and activation are fused."""
    rows = layer(ops.reshape(values, (-1, values.shape[-1])))
    return ops.reshape(rows, (*ops.shape(values)[:-1], layer.units))


class _SumTagger(TaggerNetwork):
    """Layers for each of the hardest constituents, and dense layers for a sum over them."""

    takes = (CONSTITUENTS,)

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__(settings.sizes.units)
        self.length = settings.sizes.length
        self.each = OfEach(settings.sizes.constituent_units, name="each")


class DeepSetsTagger(_SumTagger):
    """What layers make of each constituent, summed, is what dense layers see."""

    def jet_columns(self, inputs: Mapping[str, Any]) -> Any:
        """Sum over constituents, (n, units)."""
        cloud = cloud_of(inputs[CONSTITUENTS], self.length)
        return _weighted(self.each(cloud.columns), cloud.is_there / POOL_SCALE)


class EnergyFlowTagger(_SumTagger):
    """The same with layers that see the direction alone, weighted with the share of pT.

    Safe to soft and collinear constituents among those that are seen.
    """

    def jet_columns(self, inputs: Mapping[str, Any]) -> Any:
        """Sum over constituents with their shares of pT, (n, units)."""
        cloud = cloud_of(inputs[CONSTITUENTS], self.length)
        places = ops.stack([cloud.eta, cloud.phi], axis=-1)
        return _weighted(self.each(places), cloud.share)


def _weighted(values: Any, weight: Any) -> Any:
    """Sum over constituents of (n, length, k) with weights (n, length), (n, k)."""
    return ops.matmul(ops.expand_dims(weight, 1), values)[:, 0]
