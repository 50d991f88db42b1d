"""Standardised columns of jets and of their constituents, as layers: they become part of the exported graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from models.features import FEATURES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

LIMIT = 5.0
"""Columns are cut at so many standard deviations: nothing beyond was trained on."""
TINY = 1e-6


class JetColumns(keras.layers.Layer):
    """Columns of jets (n, n_features) -> standardised columns (n, n_scaled).

    Azimuth is left out, as nothing depends on it; the mass is taken relative to pT. With `sees_pt` false pT is left out
    as well: a response at a given true pT must not know the reconstructed one.
    """

    def __init__(self, names: Sequence[str], *, sees_pt: bool, **options: Any) -> None:
        super().__init__(trainable=False, **options)
        self.names = tuple(names)
        self.used = tuple(name for name in names if name != "phi" and (sees_pt or name not in {"pt", "log_pt"}))
        self.mean = self.add_weight(shape=(len(self.used),), initializer="zeros", name="mean")
        self.deviation = self.add_weight(shape=(len(self.used),), initializer="ones", name="deviation")

    def adapt(self, mean: NDArray[np.float32], deviation: NDArray[np.float32]) -> None:
        """Set what is subtracted and divided by, (n_scaled,)."""
        self.mean.assign(mean)
        self.deviation.assign(deviation)

    def scaled(self, jets: Any) -> Any:
        """Columns on their scales, not yet standardised, (n, n_scaled)."""
        return ops.stack([self._on_scale(jets, name) for name in self.used], axis=-1)

    def call(self, jets: Any) -> Any:
        """Standardised columns, within `LIMIT`."""
        return ops.clip((self.scaled(jets) - self.mean) / self.deviation, -LIMIT, LIMIT)

    def _on_scale(self, jets: Any, name: str) -> Any:
        values = jets[:, self.names.index(name)]
        if name == "mass" and "pt" in self.names:
            pt = ops.maximum(jets[:, self.names.index("pt")], TINY)
            return ops.log(ops.maximum(values / pt, 0.01))
        scale = FEATURES[name].scale
        if scale == "log":
            return ops.log(ops.maximum(values, TINY))
        if scale == "log1p":
            return ops.log(1.0 + ops.maximum(values, 0.0))
        return ops.abs(values) if scale == "absolute" else values


class ConstituentColumns(keras.layers.Layer):
    """Momenta (..., 4) and what belongs to their jets -> columns of constituents (..., 4 or 5).

    Logarithm of the share of the jet's pT, distance to the axis in pseudorapidity, away from the centre of the
    detector, and in azimuth, both in units of `radius`, logarithm of the distance, and with `sees_pt` that of pT.
    """

    def __init__(self, radius: float, *, sees_pt: bool, **options: Any) -> None:
        super().__init__(trainable=False, **options)
        self.radius = radius
        self.sees_pt = sees_pt

    def call(self, momenta: Any, eta: Any, phi: Any, total: Any) -> Any:
        """`eta` and `phi` of the jet's axis and the `total` pT of its constituents, (...,), for each constituent."""
        px, py, pz, pt = (momenta[..., i] for i in range(4))
        pt = ops.maximum(pt, TINY)
        share = pt / ops.maximum(total, TINY)
        along = ops.maximum(px * ops.cos(phi) + py * ops.sin(phi), TINY)
        delta_phi = ops.arctan((py * ops.cos(phi) - px * ops.sin(phi)) / along) / self.radius
        slope = pz / pt
        pseudorapidity = ops.sign(slope) * ops.log(ops.abs(slope) + ops.sqrt(slope * slope + 1.0))
        delta_eta = (pseudorapidity - eta) * ops.sign(eta) / self.radius
        distance = ops.sqrt(delta_eta * delta_eta + delta_phi * delta_phi + 1e-4)
        columns = [ops.log(share + 1e-5) / 2.0 + 2.0, delta_eta, delta_phi, ops.log(distance) + 1.0]
        if self.sees_pt:
            columns.append((ops.log(pt) - 1.0) / 1.5)
        return ops.clip(ops.stack(columns, axis=-1), -LIMIT, LIMIT)
