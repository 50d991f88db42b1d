"""A trained network and its closure -> ONNX, and the card beside it.

Everything is part of the graph: angles, scales, standardisation, masking, the solution for the true pT, the closure.
Inputs are columns of jets (n, n_features) and constituents (n, any, 4); the output (n, 2) is factor and resolution.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from keras import ops

from models.card import ModelCard, card_path, units_of, write_card
from models.features import CONSTITUENT_COLUMNS, MAX_CONSTITUENTS
from models.training.graph import OPSET, add_metadata, converted

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from models.training.closure import Closure
    from models.training.network import CalibrationNetwork

JETS, CONSTITUENTS, OUTPUT = "jets", "constituents", "calibration"
OUTPUTS = ("factor", "resolution")
LOWEST, HIGHEST = 0.2, 5.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """A network with its closure."""

    network: CalibrationNetwork
    closure: Closure

    def __call__(self, jets: Any, momenta: Any = None, segments: Any = None) -> Any:
        """Factor and resolution, (n, 2), from the same inputs as the network."""
        log_factor, width = self.network.estimate(jets, momenta, segments)
        names = self.network.names
        log_pt = ops.log(ops.maximum(jets[:, names.index("pt")], 1e-3)) + log_factor
        pt = _hats(log_pt, self.closure.log_pt)
        eta = _hats(ops.abs(jets[:, names.index("eta")]), self.closure.abs_eta)
        shift, scale = (
            ops.sum(ops.matmul(pt, np.asarray(grid, np.float32)) * eta, axis=-1)
            for grid in (self.closure.shift, self.closure.width)
        )
        return ops.stack([ops.exp(log_factor + shift), width * scale], axis=-1)


def export(
    calibration: Calibration, path: Path, *, training: Mapping[str, Any], metrics: Mapping[str, Any], trained_on: str
) -> ModelCard:
    """Write the network to `path` and its card beside it."""
    import onnx

    network = calibration.network
    model = to_onnx(calibration)
    card = ModelCard(
        task="calibration",
        features=network.names,
        outputs=OUTPUTS,
        lowest=LOWEST,
        highest=HIGHEST,
        trained_on=trained_on,
        jet_input=JETS,
        constituent_input=CONSTITUENTS if network.uses_constituents else None,
        output=OUTPUT,
        opset=OPSET,
        units=units_of(network.names),
        training=training,
        metrics=metrics,
    )
    told = {
        "features": ", ".join(card.features),
        "constituents": f"{', '.join(CONSTITUENT_COLUMNS)} in GeV, at most {MAX_CONSTITUENTS}, hardest first",
        "outputs": ", ".join(card.outputs),
        "units": ", ".join(f"{name}: {unit}" for name, unit in card.units.items()),
        "trained_on": trained_on,
        **{f"training.{name}": str(value) for name, value in training.items()},
        **{f"metrics.{name}": str(value) for name, value in metrics.items()},
    }
    add_metadata(model, told)
    onnx.save(model, str(path))
    write_card(card, card_path(path))
    return card


def to_onnx(calibration: Calibration) -> Any:
    """The ONNX model of a calibration."""
    network = calibration.network
    inputs: dict[str, tuple[int | None, ...]] = {JETS: (None, len(network.names))}
    if network.uses_constituents:
        inputs[CONSTITUENTS] = (None, None, len(CONSTITUENT_COLUMNS))
    return converted(calibration, inputs, (OUTPUT,))


def _hats(values: Any, nodes: np.ndarray[Any, np.dtype[np.float64]]) -> Any:
    """Weights of linear interpolation between nodes, (n, n_nodes); `models.training.closure.hats` in the graph."""
    nodes = nodes.astype(np.float32)
    values = ops.expand_dims(ops.clip(values, nodes[0], nodes[-1]), -1)
    rising = ops.clip((values - nodes[:-1]) / np.diff(nodes), 0.0, 1.0)
    ones = ops.ones_like(values)
    return ops.concatenate([ones, rising], axis=-1) - ops.concatenate([rising, 0.0 * ones], axis=-1)
