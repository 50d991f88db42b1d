"""Absolute jet calibration: pile-up offset by area, then response 1 against true pT and |eta| by numerical inversion.

The mean response R of matched, isolated jets is measured in bins of the truth pT, where it does not depend on the
spectrum; the jet with the pT p = R(t) t is then corrected by t / p (ATLAS MCJES, arXiv:1703.09665, section 4). The
constants are frozen in `absolute_calibration.json`; `samples.derive_calibration` made them, from a seed of its own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from samples.truth import FloatArray

CONSTANTS = Path(__file__).with_name("absolute_calibration.json")


@dataclass(frozen=True, slots=True)
class AbsoluteCalibration:
    """Constants of one kind of jets."""

    abs_eta: FloatArray
    """(n,) centres of the |eta| bins; corrections are interpolated between them."""
    log_pt: FloatArray
    """(m,) natural logarithm of the pT (GeV) after the offset."""
    factor: FloatArray
    """(n, m)"""

    def correction(self, pt: FloatArray, eta: FloatArray) -> FloatArray:
        """Factor for jets with this pT (GeV) after the offset; the first and last values hold beyond the edges."""
        x = _position(np.abs(eta), self.abs_eta)
        y = _position(np.log(np.clip(pt, 1e-3, None)), self.log_pt)
        i, j = x.astype(np.int64), y.astype(np.int64)
        u, v = x - i, y - j
        low = (1.0 - v) * self.factor[i, j] + v * self.factor[i, j + 1]
        high = (1.0 - v) * self.factor[i + 1, j] + v * self.factor[i + 1, j + 1]
        return np.asarray((1.0 - u) * low + u * high)


UNCALIBRATED = AbsoluteCalibration(np.array([0.0, 5.0]), np.array([0.0, 9.0]), np.ones((2, 2)))
"""Leaves every jet as it is."""


@dataclass(frozen=True, slots=True)
class OffsetShape:
    """Pile-up density in units of rho against |eta|."""

    abs_eta: FloatArray
    density: FloatArray

    def offset(self, rho: FloatArray, area: FloatArray, eta: FloatArray) -> FloatArray:
        """GeV of pile-up in jets of this area."""
        return np.asarray(rho * area * np.interp(np.abs(eta), self.abs_eta, self.density))


NO_OFFSET = OffsetShape(np.array([0.0, 5.0]), np.zeros(2))
"""Takes nothing off."""


def _position(values: FloatArray, knots: FloatArray) -> FloatArray:
    position = np.interp(values, knots, np.arange(len(knots), dtype=np.float64))
    return np.minimum(position, len(knots) - 1 - 1e-9)


@cache
def constants() -> Mapping[str, Any]:
    """Return what is in `absolute_calibration.json`."""
    content: dict[str, Any] = json.loads(CONSTANTS.read_text(encoding="utf-8"))
    return content


def calibration_of(radius: float) -> AbsoluteCalibration:
    """Return the constants of jets with this radius parameter."""
    stored = constants()["jets"][f"{radius:g}"]
    return AbsoluteCalibration(*(np.array(stored[name]) for name in ("abs_eta", "log_pt", "factor")))


def offset_shape() -> OffsetShape:
    """Return the shape of the offset."""
    stored = constants()["offset"]
    return OffsetShape(np.array(stored["abs_eta"]), np.array(stored["density"]))
