"""The last step of a calibration: a smooth correction that makes the mean response 1 and the predicted width right.

The Gaussian core of the response of calibrated jets is measured in bins of |eta| and true pT, smoothed in log pT, and
inverted numerically: what is corrected is a function of the calibrated pT alone, so no spectrum enters
(arXiv:1609.05195).
It is stored on a grid of calibrated pT and |eta| between whose nodes it is linear, in the exported graph as here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.evaluation import gaussian_core

if TYPE_CHECKING:
    from models.training.settings import ClosureSettings

Float64Array = NDArray[np.float64]

_ROUNDS = 3
_NODES_PER_BIN = 2
# Strength of the smoothing: how many neighbouring bins act together where statistics are poor.
_STIFFNESS = 0.5


@dataclass(frozen=True, slots=True)
class Closure:
    """Correction of log pT and of the width on a grid.

    Attributes
    ----------
    log_pt, abs_eta
        Nodes, (n_pt,) and (n_eta,), rising. Beyond the first and the last they hold.
    shift, width
        (n_pt, n_eta): what is added to the logarithm of the calibrated pT, and what the width is multiplied with.
    """

    log_pt: Float64Array
    abs_eta: Float64Array
    shift: Float64Array
    width: Float64Array

    def apply(self, log_pt: Float64Array, abs_eta: Float64Array) -> tuple[Float64Array, Float64Array]:
        """Shift and factor of the width for jets (n,) with their calibrated log pT."""
        pt, eta = hats(log_pt, self.log_pt), hats(abs_eta, self.abs_eta)
        return np.sum((pt @ self.shift) * eta, axis=1), np.sum((pt @ self.width) * eta, axis=1)


def no_closure() -> Closure:
    """One that changes nothing."""
    zero, one = np.zeros((2, 2)), np.ones((2, 2))
    return Closure(np.array([2.0, 9.0]), np.array([0.0, 5.0]), zero, one)


def hats(values: Float64Array, nodes: Float64Array) -> Float64Array:
    """Weights of linear interpolation between nodes, (n, n_nodes)."""
    values = np.clip(values, nodes[0], nodes[-1])[:, np.newaxis]
    steps = np.diff(nodes)
    rising = np.clip((values - nodes[:-1]) / steps, 0.0, 1.0)
    ones = np.ones_like(values)
    weights: Float64Array = np.concatenate([ones, rising], axis=1) - np.concatenate([rising, 0 * ones], axis=1)
    return weights


def fit_closure(
    log_pt: Float64Array,
    truth: Float64Array,
    abs_eta: Float64Array,
    width: Float64Array,
    settings: ClosureSettings,
    weights: Float64Array | None = None,
) -> Closure:
    """Closure of jets (n,) with calibrated log pT, true pT in GeV, reconstructed |eta| and predicted relative width."""
    weights = np.ones(len(truth)) if weights is None else weights
    log_truth = np.log(truth)
    grid = _Grid.of(log_truth, abs_eta, settings)
    response = np.zeros((len(grid.log_pt), grid.n_eta))
    closure = grid.inverted(response)
    for _ in range(_ROUNDS):
        shift, _ = closure.apply(log_pt, abs_eta)
        residual = grid.measured(np.exp(log_pt + shift) / truth, log_truth, weights, relative=True)
        response += residual
        closure = grid.inverted(response)
    shift, _ = closure.apply(log_pt, abs_eta)
    pulls = (np.exp(log_pt + shift) / truth - 1.0) / width
    scale = grid.measured(pulls, log_truth, weights, relative=False)
    return grid.inverted(response, np.exp(scale))


@dataclass(frozen=True, slots=True)
class _Grid:
    """Bins of the measurement, bin of each jet, and the nodes between which the result is linear."""

    log_pt: Float64Array
    abs_eta: Float64Array
    pt_edges: Float64Array
    eta_place: NDArray[np.int64]
    n_eta: int
    min_jets: int

    @classmethod
    def of(cls, log_truth: Float64Array, abs_eta: Float64Array, settings: ClosureSettings) -> _Grid:
        """Bins that cover the jets."""
        low, high = np.percentile(log_truth, [0.05, 99.95])
        n = max(int(np.ceil((high - low) * settings.bins_per_e)), 2)
        edges = np.linspace(low, high, n + 1)
        eta_edges = np.array(settings.abs_eta_edges)
        nodes = np.linspace(low, high, _NODES_PER_BIN * n + 1)
        place = np.clip(np.searchsorted(eta_edges, abs_eta, side="right") - 1, 0, len(eta_edges) - 2)
        middles = 0.5 * (eta_edges[1:] + eta_edges[:-1])
        return cls(nodes, middles, edges, place.astype(np.int64), len(middles), settings.min_jets)

    def measured(
        self, values: Float64Array, log_truth: Float64Array, weights: Float64Array, *, relative: bool
    ) -> Float64Array:
        """Smooth logarithm of the core mean (or of the core width) at the nodes, (n_nodes, n_eta)."""
        bins = np.digitize(log_truth, self.pt_edges) - 1
        n_pt = len(self.pt_edges) - 1
        found = np.zeros((n_pt, self.n_eta))
        precision = np.zeros((n_pt, self.n_eta))
        centre = np.tile(0.5 * (self.pt_edges[1:] + self.pt_edges[:-1])[:, np.newaxis], (1, self.n_eta))
        for eta in range(self.n_eta):
            for pt in range(n_pt):
                chosen = (bins == pt) & (self.eta_place == eta)
                if np.count_nonzero(chosen) < self.min_jets:
                    continue
                core = gaussian_core(values[chosen], weights[chosen])
                value, error = (core.mean, core.mean_error) if relative else (core.width, core.width_error)
                if value > 0 and error > 0:
                    found[pt, eta], precision[pt, eta] = np.log(value), (value / error) ** 2
                    centre[pt, eta] = np.average(log_truth[chosen], weights=weights[chosen])
        smooth = _smoothed(found, precision)
        return np.column_stack([np.interp(self.log_pt, centre[:, i], smooth[:, i]) for i in range(self.n_eta)])

    def inverted(self, response: Float64Array, width: Float64Array | None = None) -> Closure:
        """Corrections at calibrated pT from log responses at true pT, both at the nodes."""
        shift = np.empty_like(response)
        for i in range(self.n_eta):
            calibrated = np.maximum.accumulate(self.log_pt + response[:, i] + 1e-9 * np.arange(len(self.log_pt)))
            truth = np.interp(self.log_pt, calibrated, self.log_pt)
            below, above = self.log_pt < calibrated[0], self.log_pt > calibrated[-1]
            truth[below], truth[above] = (self.log_pt - response[0, i])[below], (self.log_pt - response[-1, i])[above]
            shift[:, i] = truth - self.log_pt
        return Closure(self.log_pt, self.abs_eta, shift, np.ones_like(shift) if width is None else width)


def _smoothed(values: Float64Array, precision: Float64Array) -> Float64Array:
    """Values that minimise chi2 plus squared second differences down a column; empty bins follow their neighbours.

    The penalty is measured in the scatter that the errors allow, so that points with small errors are followed.
    """
    n = len(values)
    if n < 3:
        return values
    bend = np.diff(np.eye(n), 2, axis=0)
    result = np.zeros_like(values)
    for i in range(values.shape[1]):
        known = precision[:, i] > 0
        if not known.any():
            continue
        strength = _STIFFNESS * float(np.median(precision[known, i]))
        tie = 1e-6 * strength
        matrix = np.diag(precision[:, i] + tie) + strength * bend.T @ bend
        mean = float(np.average(values[known, i], weights=precision[known, i]))
        result[:, i] = np.linalg.solve(matrix, precision[:, i] * values[:, i] + tie * mean)
    return result
