"""The terms of the loss for one batch: likelihood against truth, asymmetry of dijets, and the constraint on the scale.

    loss = f1 loss_G + f2 sigma_A + f3 C

The last two need no truth. A smaller asymmetry alone is reached by pushing every jet to one pT, or jets of a cell to
the same; the constraint keeps the mean log pT of each cell of uncalibrated pt_avg and |eta| where it was.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from keras import ops

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from models.training.network import CalibrationNetwork
    from models.training.settings import LossSettings

_LOG_ROOT = 0.5 * math.log(2 * math.pi)
# Of the Gaussian Ansatz: how far T may rise in one draw, and how hard D is driven to 0.
_CEILING = 12.0
_SLOPE_COST = 1e-3


def loss_terms(
    network: CalibrationNetwork,
    batch: Mapping[str, Any],
    settings: LossSettings,
    n_cells: int,
    running: Any,
    pairs: Any = 1.0,
) -> tuple[dict[str, Any], Any]:
    """Scalars "likelihood", "asymmetry", "constraint" and "total", and the sums of the constraint of this batch.

    A term whose factor is 0 is computed all the same. `n_cells` is the number of cells of the asymmetry, `running` has
    the sums of the constraint of batches before, (n_shift_cells, 6). The terms that pair jets count `pairs` times.
    """
    segments = batch["segments"] if network.uses_constituents else None
    latent = network.latent(batch["jets"], batch["momenta"], segments)
    log_factor, _ = network.calibrated(latent, batch["jets"])
    log_pt = ops.log(batch["jets"][:, network.names.index("pt")])
    constraint, sums = constraint_term(log_factor, batch, settings.shift_tolerance, running)
    terms = {
        "likelihood": likelihood(network, latent, log_pt, batch),
        "asymmetry": asymmetry_term(log_pt, log_factor, batch, settings.core, n_cells),
        "constraint": constraint,
    }
    factors = {"likelihood": settings.f1, "asymmetry": settings.f2 * pairs, "constraint": settings.f3 * pairs}
    used = [name for name, f in zip(factors, (settings.f1, settings.f2, settings.f3), strict=True) if f > 0]
    total = sum(factors[name] * terms[name] for name in used)
    return {**terms, "total": total}, sums


def likelihood(network: CalibrationNetwork, latent: Any, log_pt: Any, batch: Mapping[str, Any]) -> Any:
    """Weighted mean of minus the log likelihood of jets with truth, in units of the typical width."""
    weight, log_truth = batch["truth_weight"], batch["log_truth"]
    head, scale = network.settings.head, math.log(network.scales.width)
    if head == "ansatz":
        return _divergence(network, latent, log_pt, batch)
    if head == "inversion":
        centre, width = network.response(latent, log_truth)
        value = _gaussian(log_pt - log_truth - centre, width)
    elif head == "mixture":
        shares, centres, widths = network.components(latent)
        target = ops.expand_dims(log_truth - log_pt, -1)
        logs = ops.log(shares) - _gaussian(target - centres, widths) - _LOG_ROOT
        value = -ops.logsumexp(logs, axis=-1) - _LOG_ROOT
    else:
        centre, width = network.calibrated(latent, batch["jets"])
        value = _gaussian(log_truth - log_pt - centre, width)
    return ops.sum(weight * (value - scale)) / ops.maximum(ops.sum(weight), 1e-6)


def asymmetry_term(log_pt: Any, log_factor: Any, batch: Mapping[str, Any], core: float, n_cells: int) -> Any:
    """Width of the asymmetry of calibrated pairs over that of uncalibrated ones, mean over cells and kinds of data.

    The width of a cell is that about its mean, with tails beyond `core` reference widths counted linearly. Weights of
    simulation and of data are normalised separately, since only data have prescales.
    """
    weight = _by_kind(batch["pair_weight"], batch["pair_is_mc"])
    calibrated = _spread(log_pt + log_factor, batch, weight, core, n_cells)
    before = ops.stop_gradient(_spread(log_pt, batch, weight, core, n_cells))
    of_cell = ops.segment_sum(weight, batch["cell"], num_segments=n_cells)
    ratio = ops.sqrt((calibrated + 1e-6) / (before + 1e-6))
    return ops.sum(of_cell * ratio) / ops.maximum(ops.sum(of_cell), 1e-6)


def constraint_term(log_factor: Any, batch: Mapping[str, Any], tolerance: float, running: Any) -> tuple[Any, Any]:
    """Squared shift of the mean log pT of a cell in units of `tolerance`, mean over cells, and the sums of this batch.

    The square of a mean over the few jets of a batch has the variance of their factors in it, which would punish any
    calibration that is not the same for all jets. So the shift of this batch is multiplied with that of those before,
    `running` (n_cells, 6), whose gradient is that of the square and whose noise is small. The slope within a cell
    counts as well: pushing jets to the middle of their cell leaves its mean where it was.

    The columns of both sums are weight, weight times log factor, the same times the place within the cell, and the
    squares of all three.
    """
    weight, cell = batch["shift_weight"], batch["shift_cell"]
    shift = weight * ops.take(log_factor, batch["shift_jet"], axis=0) / tolerance
    inner = shift * batch["shift_place"]
    columns = ops.stack([weight, shift, inner, weight * weight, shift * shift, inner * inner], axis=-1)
    sums = ops.segment_sum(columns, cell, num_segments=running.shape[0])
    now = sums[:, 1:3] / ops.maximum(sums[:, :1], 1e-6)
    before = running[:, 1:3] / ops.maximum(running[:, :1], 1e-6)
    square = ops.sum(before * (2.0 * now - before), axis=-1)
    return ops.sum(sums[:, 0] * square) / ops.maximum(ops.sum(sums[:, 0]), 1e-6), sums


def constraint_of_sums(sums: NDArray[np.float64]) -> float:
    """The constraint of a whole sample from its sums (n_cells, 6), see `constraint_term`.

    Squared means are estimated without bias, from products of different jets; the result may be slightly negative.
    """
    pairs = sums[:, :1] ** 2 - sums[:, 3:4]
    square = np.sum((sums[:, 1:3] ** 2 - sums[:, 4:]) / np.maximum(pairs, 1e-6), axis=1)
    weight = np.where(pairs[:, 0] > 0.1 * sums[:, 0] ** 2, sums[:, 0], 0.0)
    return float(np.sum(weight * square) / max(weight.sum(), 1e-6))


def _gaussian(distance: Any, width: Any) -> Any:
    """Minus the log of a normal density, without its constant."""
    return 0.5 * ops.square(distance / width) + ops.log(width)


def _by_kind(weight: Any, is_mc: Any) -> Any:
    """Weights whose sum is 1 for simulation and 1 for data, each if there is any."""
    simulated = weight * is_mc
    measured = weight * (1.0 - is_mc)
    return simulated / ops.maximum(ops.sum(simulated), 1e-6) + measured / ops.maximum(ops.sum(measured), 1e-6)


def _spread(log_pt: Any, batch: Mapping[str, Any], weight: Any, core: float, n_cells: int) -> Any:
    """Robust variance of the asymmetry of each cell in units of the reference width, (n_cells,)."""
    first, second = (ops.take(log_pt, batch[name], axis=0) for name in ("first", "second"))
    asymmetry = 2.0 * ops.tanh(0.5 * (first - second)) / batch["pair_width"]
    cell = batch["cell"]
    of_cell = ops.maximum(ops.segment_sum(weight, cell, num_segments=n_cells), 1e-12)
    mean = ops.segment_sum(weight * ops.clip(asymmetry, -3.0, 3.0), cell, num_segments=n_cells) / of_cell
    distance = (asymmetry - ops.take(mean, cell, axis=0)) / core
    robust = 2.0 * core * core * (ops.sqrt(1.0 + ops.square(distance)) - 1.0)
    return ops.segment_sum(weight * robust, cell, num_segments=n_cells) / of_cell


def _divergence(network: CalibrationNetwork, latent: Any, log_pt: Any, batch: Mapping[str, Any]) -> Any:
    """Minus the Donsker-Varadhan bound on the mutual information of jet and true pT (arXiv:2205.03413, eq. 6)."""
    weight = batch["truth_weight"] / ops.maximum(ops.sum(batch["truth_weight"]), 1e-6)
    true, slope = network.log_ratio(latent, log_pt, batch["log_truth"])
    drawn, drawn_weight = batch["drawn"], batch["drawn_weight"]
    draws = drawn.shape[1]
    values = [network.log_ratio(latent, log_pt, drawn[:, i])[0] for i in range(draws)]
    exponential = ops.exp(ops.minimum(ops.stack(values, axis=-1), _CEILING)) * drawn_weight
    mean = ops.sum(ops.expand_dims(weight, -1) * exponential) / draws
    cost = _SLOPE_COST * ops.sum(weight * ops.abs(slope))
    return ops.log(mean + 1e-9) - ops.sum(weight * true) + cost
