"""A recurrent network on constituents in the order of their pT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from models.training.tagging.constituents import cloud_of
from models.training.tagging.networks import CONSTITUENTS, TaggerNetwork
from models.training.tagging.sets import OfEach

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.training.tagging.settings import NetworkSettings


class RecurrentTagger(TaggerNetwork):
    """A gated recurrent unit that sees the softest constituent first and the hardest last.

    It has no bias: from the constituents that are not there, zeros that come before all others, it learns nothing, so
    that no mask is needed.
    """

    takes = (CONSTITUENTS,)

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__(settings.sizes.units)
        self.length = settings.sizes.length
        *each, units = settings.sizes.constituent_units
        self.each = OfEach(each, name="each") if each else None
        self.cell = keras.layers.GRU(units, use_bias=False, reset_after=True, name="cell")

    def jet_columns(self, inputs: Mapping[str, Any]) -> Any:
        """State after the hardest constituent, (n, units)."""
        cloud = cloud_of(inputs[CONSTITUENTS], self.length)
        values = cloud.columns
        if self.each is not None:
            values = self.each(values) * ops.expand_dims(cloud.is_there, -1)
        return self.cell(ops.flip(values, axis=1))
