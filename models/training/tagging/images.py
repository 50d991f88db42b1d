"""A convolutional network on images that are drawn in the graph.

They are prepared as those of `processors.jet_images`, which is their reference, but in the coordinates of
`models.training.tagging.constituents` in place of rapidity and azimuth: few constituents change their pixel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from models.training.preprocessing import TINY
from models.training.tagging.constituents import cloud_of
from models.training.tagging.networks import CONSTITUENTS, TaggerNetwork

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.training.tagging.settings import NetworkSettings

PIXELS = 33
HALF_WIDTH = 0.8
"""Where neither settings nor tables tell one."""
# A pixel of a jet with as many constituents of like pT as there are usually.
_BRIGHTNESS = 20.0


class ImageTagger(TaggerNetwork):
    """Convolutions, each followed by the largest of four pixels, then dense layers."""

    takes = (CONSTITUENTS,)

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__(settings.sizes.units)
        self.length = settings.sizes.length
        self.half_width = HALF_WIDTH if settings.half_width is None else settings.half_width
        self.filters = [
            keras.layers.Conv2D(n, 3, padding="same", activation="relu", name=f"filter_{i}")
            for i, n in enumerate(settings.sizes.constituent_units)
        ]
        self.pool = keras.layers.MaxPooling2D(2, padding="same", name="pool")
        self.flatten = keras.layers.Flatten(name="flatten")

    def jet_columns(self, inputs: Mapping[str, Any]) -> Any:
        """Pixels of the last convolution, (n, any)."""
        values = ops.expand_dims(_BRIGHTNESS * image_of(inputs[CONSTITUENTS], self.length, self.half_width), -1)
        for layer in self.filters:
            values = self.pool(layer(values))
        return self.flatten(values)


def image_of(momenta: Any, length: int, half_width: float) -> Any:
    """Images (n, 33, 33) of constituents (n, any, 4): centred, rotated, flipped, drawn and normalised, rows upwards."""
    cloud = cloud_of(momenta, length)
    eta, phi = (_centred(each, cloud.share) for each in (cloud.eta, cloud.phi))
    across, along = _rotated(eta, phi, cloud.share)
    across, along = _flipped(across, along, cloud.share)
    columns, rows = (_pixels(each, half_width) for each in (across, along))
    image = ops.matmul(ops.transpose(rows * ops.expand_dims(cloud.share, -1), (0, 2, 1)), columns)
    return image / ops.maximum(ops.sum(image, axis=(1, 2), keepdims=True), TINY)


def _centred(places: Any, share: Any) -> Any:
    return places - ops.sum(share * places, axis=1, keepdims=True)


def _rotated(first: Any, second: Any, share: Any) -> tuple[Any, Any]:
    """Places whose axis of largest scatter is the second one; half angles need no inverse function."""
    xx, yy, xy = (ops.sum(share * each, axis=1, keepdims=True) for each in (first**2, second**2, first * second))
    difference = xx - yy
    length = ops.sqrt(difference * difference + 4.0 * xy * xy)
    double = ops.where(length > 0, difference / ops.maximum(length, 1e-30), -1.0)
    # cosine and sine of the angle between the axis and the first direction
    cosine = ops.sqrt(ops.maximum(0.5 * (1.0 + double), 0.0))
    sine = ops.where(xy < 0, -1.0, 1.0) * ops.sqrt(ops.maximum(0.5 * (1.0 - double), 0.0))
    return sine * first - cosine * second, cosine * first + sine * second


def _flipped(across: Any, along: Any, share: Any) -> tuple[Any, Any]:
    """Places mirrored so that the quadrant of positive ones has the largest pT."""
    right, up = (ops.cast(each > 0, "float32") for each in (across, along))
    low, lifted, lower_right, upper_right = (
        ops.sum(share * first * second, axis=1) for first in (1.0 - right, right) for second in (1.0 - up, up)
    )
    is_right = ops.maximum(lower_right, upper_right) > ops.maximum(low, lifted)
    is_up = ops.where(is_right, upper_right > lower_right, lifted > low)
    turn_across, turn_along = (ops.expand_dims(2.0 * ops.cast(each, "float32") - 1.0, 1) for each in (is_right, is_up))
    return turn_across * across, turn_along * along


def _pixels(places: Any, half_width: float) -> Any:
    """Which pixel each place is in, (n, length, 33) of 1 and 0; 0 everywhere outside."""
    pixel = ops.floor((places + half_width) * (PIXELS / (2.0 * half_width)))
    return ops.cast(ops.expand_dims(pixel, -1) == np.arange(PIXELS, dtype=np.float32), "float32")
