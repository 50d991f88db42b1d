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


_SCALES = ("linear", "log", "log1p", "absolute", "mass")


def _scale_of(name: str) -> str:
    return "mass" if name == "mass" else FEATURES[name].scale


class JetColumns(keras.layers.Layer):
    """Columns of jets (n, n_features) -> standardised columns (n, n_scaled).

    Azimuth is left out, as nothing depends on it; the mass is taken relative to pT. With `sees_pt` false pT is left out
    as well: a response at a given true pT must not know the reconstructed one.
    """

    def __init__(self, names: Sequence[str], *, sees_pt: bool, **options: Any) -> None:
        super().__init__(trainable=False, **options)
        self.names = tuple(names)
        used = [name for name in names if name != "phi" and (sees_pt or name not in {"pt", "log_pt"})]
        self.groups = {scale: [name for name in used if _scale_of(name) == scale] for scale in _SCALES}
        self.used = tuple(name for group in self.groups.values() for name in group)
        self.mean = self.add_weight(shape=(len(self.used),), initializer="zeros", name="mean")
        self.deviation = self.add_weight(shape=(len(self.used),), initializer="ones", name="deviation")

    def adapt(self, mean: NDArray[np.float32], deviation: NDArray[np.float32]) -> None:
        """Set what is subtracted and divided by, (n_scaled,)."""
        self.mean.assign(mean)
        self.deviation.assign(deviation)

    def scaled(self, jets: Any) -> Any:
        """Columns on their scales, not yet standardised, (n, n_scaled)."""
        parts = [
            self._on_scale(ops.take(jets, [self.names.index(name) for name in group], axis=1), scale, jets)
            for scale, group in self.groups.items()
            if group
        ]
        return ops.concatenate(parts, axis=-1)

    def call(self, jets: Any) -> Any:
        """Standardised columns, within `LIMIT`."""
        return ops.clip((self.scaled(jets) - self.mean) / self.deviation, -LIMIT, LIMIT)

    def _on_scale(self, values: Any, scale: str, jets: Any) -> Any:
        """Columns (n, k) of one scale."""
        if scale == "mass":
            pt = self.names.index("pt")
            return ops.log(ops.maximum(values / ops.maximum(jets[:, pt : pt + 1], TINY), 0.01))
        if scale == "log":
            return ops.log(ops.maximum(values, TINY))
        if scale == "log1p":
            return ops.log(1.0 + ops.maximum(values, 0.0))
        return ops.abs(values) if scale == "absolute" else values


class ConstituentColumns(keras.layers.Layer):
    """Momenta (4, ...) and what belongs to their jets -> columns of constituents (4 or 5, ...), components first.

    Logarithm of the share of the jet's pT, distance to the axis in pseudorapidity, away from the centre of the
    detector, and in azimuth, both in units of `radius`, logarithm of the squared distance, and with `sees_pt` that of
    pT. Distances are sinh and sine of themselves, which are the same where it matters and need no inverse function.

    Components come first because arithmetic on long rows is several times as fast.
    """

    def __init__(self, radius: float, *, sees_pt: bool, **options: Any) -> None:
        super().__init__(trainable=False, **options)
        self.sees_pt = sees_pt
        self.factor = [0.5, 1 / radius, 1 / radius, 0.5, 0.67][: 4 + sees_pt]
        self.offset = [2.0, 0.0, 0.0, 1.0 - float(np.log(radius)), -0.67][: 4 + sees_pt]

    def call(self, momenta: Any, eta: Any, phi: Any, total: Any) -> Any:
        """`eta` and `phi` of the jet's axis and the `total` pT of its constituents, for each constituent."""
        px, py, pz, pt = ops.unstack(momenta, 4, axis=0)
        pt = ops.maximum(pt, TINY)
        inverse = 1.0 / pt
        slope = pz * inverse
        delta_phi = (py * ops.cos(phi) - px * ops.sin(phi)) * inverse
        away = ops.sign(eta)
        delta_eta = slope * (ops.cosh(eta) * away) - ops.sqrt(1.0 + slope * slope) * (ops.sinh(eta) * away)
        log_pt = ops.log(pt)
        log_distance = ops.log(delta_eta * delta_eta + delta_phi * delta_phi + 1e-5)
        columns = [log_pt - ops.log(ops.maximum(total, TINY)), delta_eta, delta_phi, log_distance]
        if self.sees_pt:
            columns.append(log_pt)
        shape = (-1, *(1 for _ in momenta.shape[1:]))
        factor, offset = (np.array(each, np.float32).reshape(shape) for each in (self.factor, self.offset))
        return ops.clip(ops.stack(columns, axis=0) * factor + offset, -LIMIT, LIMIT)
