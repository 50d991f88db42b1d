"""A map of `models.tagging.maps` as part of the graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from keras import ops

from models.tagging.maps import LEAST_WIDTH, PIVOT, POWERS, TAIL_KNOT, fall_of_tail

if TYPE_CHECKING:
    from models.tagging.maps import ScoreMap, Table, Trend


def mapped(score_map: ScoreMap, logit: Any, mass: Any, pt: Any) -> Any:
    """Score in [0, 1] of jets, (n,); the same as `ScoreMap.apply` in single precision."""
    log_mass, log_pt = ops.log(ops.maximum(mass, 1.0)), ops.log(ops.maximum(pt, 1e-3))
    if score_map.kind == "ddt":
        return ops.sigmoid(logit - score_map.slope * (2.0 * log_mass - log_pt - PIVOT))
    if score_map.trend is None or score_map.table is None:
        raise ValueError(f"a map of kind {score_map.kind} has a trend and a table")
    residual = _residual(score_map.trend, logit, log_mass, log_pt)
    if score_map.levels is None:
        return ops.sigmoid(residual - _at(score_map.table, 2.0 * (log_mass - log_pt), log_pt)[:, 0])
    knots = _at(score_map.table, log_mass, log_pt)
    widths = ops.maximum(knots[:, 1:] - knots[:, :-1], 1e-9)
    passed = ops.clip((ops.expand_dims(residual, -1) - knots[:, :-1]) / widths, 0.0, 1.0)
    left = ops.sum((1.0 - passed) * np.diff(score_map.levels).astype(np.float32), axis=-1)
    width = ops.maximum((knots[:, -1] - knots[:, TAIL_KNOT]) / fall_of_tail(score_map.levels), LEAST_WIDTH)
    tail = ops.exp(-ops.maximum(residual - knots[:, -1], 0.0) / width)
    return ops.maximum(1.0 - (left + float(1.0 - score_map.levels[-1]) * tail), 0.0)


def _residual(trend: Trend, logit: Any, log_mass: Any, log_pt: Any) -> Any:
    """Distance from the mean in widths, (n,)."""
    low, span = trend.low.astype(np.float32), (trend.high - trend.low).astype(np.float32)
    first, second = (
        ops.clip(2.0 * (each - low[i]) / span[i] - 1.0, -1.0, 1.0) for i, each in enumerate((log_mass, log_pt))
    )
    basis = ops.stack([_power(first, i) * _power(second, j) for i, j in POWERS], axis=-1)
    mean, log_width = (
        ops.matmul(basis, each.astype(np.float32)[:, np.newaxis])[:, 0] for each in (trend.mean, trend.log_width)
    )
    return (logit - mean) * ops.exp(-log_width)


def _power(values: Any, exponent: int) -> Any:
    result = ops.ones_like(values)
    for _ in range(exponent):
        result = result * values
    return result


def _at(table: Table, first: Any, second: Any) -> Any:
    """Values of a table at points (n,), (n, k)."""
    along, across = _hats(first, table.first), _hats(second, table.second)
    count = len(table.first) * len(table.second)
    weights = ops.reshape(ops.expand_dims(along, 2) * ops.expand_dims(across, 1), (-1, count))
    return ops.matmul(weights, table.values.reshape(count, -1).astype(np.float32))


def _hats(values: Any, nodes: np.ndarray[Any, np.dtype[np.float64]]) -> Any:
    nodes = nodes.astype(np.float32)
    values = ops.expand_dims(values, -1)
    ones = ops.ones_like(values)
    if len(nodes) == 1:
        return ones
    rising = ops.clip((ops.clip(values, nodes[0], nodes[-1]) - nodes[:-1]) / np.diff(nodes), 0.0, 1.0)
    return ops.concatenate([ones, rising], axis=-1) - ops.concatenate([rising, 0.0 * ones], axis=-1)
