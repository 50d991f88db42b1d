"""Training tables with a response that is known exactly, so that the best possible calibration is known too."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.event_table import EventTable
from models.features import GSC_FEATURES, LEADING_JETS, RaggedConstituents, offsets_of
from models.flat_weights import flat_weights


@dataclass(frozen=True)
class ToyJets:
    """Dijets whose response depends on one column and on the hardest constituent.

    log response = `column` (u - 1/2) + `constituent` (z - 1/2) + `scale` log(pT/100) + normal(`width`), with u and the
    share z of the hardest of two constituents uniform in 0 to 1. Without a network the width is that of the sum.
    """

    column: float = 0.3
    constituent: float = 0.3
    width: float = 0.06
    scale: float = 0.0
    imbalance: float = 0.03

    @property
    def plain_width(self) -> float:
        """Width of the log response of uncalibrated jets: variances add, 1/12 for a uniform number."""
        return float(np.sqrt(self.width**2 + (self.column**2 + self.constituent**2) / 12))

    def table(self, n: int, seed: int, *, is_mc: bool = True) -> EventTable:
        """`n` dijet events with true pT from 30 to 1000 GeV on a spectrum pT^-3."""
        rng = np.random.default_rng(seed)
        mean = (30.0**-2 - rng.random(n) * (30.0**-2 - 1000.0**-2)) ** -0.5
        truth = mean[:, None] * np.exp(rng.normal(0, self.imbalance, (n, LEADING_JETS)))
        truth[:, 2] = 12.0
        u, z = rng.random(truth.shape), rng.random(truth.shape)
        log_response = self.column * (u - 0.5) + self.constituent * (z - 0.5) + self.width * rng.normal(size=u.shape)
        pt = truth * np.exp(log_response + self.scale * np.log(truth / 100))
        eta, phi = rng.uniform(-2.4, 2.4, u.shape), rng.uniform(-np.pi, np.pi, u.shape)
        jets = {"pt": pt, "eta": eta, "phi": phi, "mass": 0.1 * pt, "fraction_em3": u}
        jets |= {name: rng.random(u.shape) for name in GSC_FEATURES if name not in jets}
        if is_mc:
            jets |= {"truth_pt": truth, "truth_eta": eta, "truth_rank": np.tile([0.0, 1.0, 2.0], (n, 1))}
        else:
            jets |= {"truth_pt": np.full(u.shape, np.nan), "truth_eta": np.full(u.shape, np.nan)}
            jets["truth_rank"] = np.full(u.shape, -1.0)
        jets["truth_isolation"] = np.full(u.shape, 3.0)
        return EventTable(
            ("simulation" if is_mc else "data",),
            _event(pt, truth, rng, is_mc=is_mc),
            {name: values.astype(np.float32) for name, values in jets.items()},
            _constituents(pt, eta, phi, z),
        )


def _event(pt: np.ndarray, truth: np.ndarray, rng: np.random.Generator, *, is_mc: bool) -> dict[str, np.ndarray]:
    n = len(pt)
    average, truth_average = pt[:, :2].mean(axis=1), truth[:, :2].mean(axis=1)
    return {
        "dataset": np.zeros(n, np.int16),
        "is_mc": np.full(n, is_mc),
        "identity": rng.integers(0, 2**63, n).astype(np.uint64),
        "weight": np.ones(n),
        "is_dijet": np.ones(n, np.bool_),
        "pt_avg": average.astype(np.float32),
        "truth_pt_avg": (truth_average if is_mc else np.full(n, np.nan)).astype(np.float32),
        "weight_flat": flat_weights(average, np.ones(n)).weights.astype(np.float32),
        "weight_truth": flat_weights(truth_average, np.full(n, float(is_mc))).weights.astype(np.float32),
    }


def _constituents(pt: np.ndarray, eta: np.ndarray, phi: np.ndarray, z: np.ndarray) -> RaggedConstituents:
    """The hardest with the share max(z, 1 - z) on one side of the axis for z > 1/2, on the other one below."""
    shares = np.stack([np.maximum(z, 1 - z), np.minimum(z, 1 - z)], axis=-1).reshape(-1, 2)
    side = np.where(z.ravel() > 0.5, 0.1, -0.1)
    each = shares * pt.reshape(-1, 1)
    angle = phi.reshape(-1, 1) + np.zeros((1, 2))
    pseudorapidity = eta.reshape(-1, 1) + np.stack([side, -side], axis=1) * np.sign(eta.reshape(-1, 1))
    columns = [each * np.cos(angle), each * np.sin(angle), each * np.sinh(pseudorapidity), each]
    values = np.stack(columns, axis=-1).reshape(-1, 4).astype(np.float32)
    return RaggedConstituents(offsets_of(np.full(len(shares), 2)), values)
