"""Jet columns -> calibration factor, by a network and its card."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.card import ModelCard, card_path, read_card
from models.features import feature_matrix
from models.session import OnnxModel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Float64Array = NDArray[np.float64]

NOT_FINITE = "jets with a non-finite calibration factor"
CLIPPED = "jets with a clipped calibration factor"


@dataclass(frozen=True, slots=True)
class CalibrationModel:
    """A calibration network: `model` beside its `card`; picklable."""

    model: OnnxModel
    card: ModelCard

    def factor(self, columns: Mapping[str, Callable[[], NDArray[Any]]]) -> tuple[Float64Array, dict[str, int]]:
        """Factors to multiply pt and mass with, (n,), and how many factors were not finite or clipped, without zeros.

        `columns` has a function for every column of the jets (see `models.features`), arrays (n,). A factor that is not
        finite becomes 1, one beyond the limits of the card becomes the limit.
        """
        raw = self.model(feature_matrix(columns, self.card.features))[:, 0].astype(np.float64)
        finite = np.isfinite(raw)
        factor = np.clip(np.where(finite, raw, 1.0), self.card.lowest, self.card.highest)
        counts = {NOT_FINITE: len(raw) - np.count_nonzero(finite), CLIPPED: np.count_nonzero(finite & (factor != raw))}
        return factor, {reason: int(n) for reason, n in counts.items() if n}


def load_calibration(onnx_path: str) -> CalibrationModel:
    """Network at `onnx_path` with the card beside it; refuses a card that does not fit the network.

    Files are read once per process, and again when they change.
    """
    card = card_path(onnx_path)
    modified = tuple(path.stat().st_mtime_ns if path.is_file() else 0 for path in (Path(onnx_path), card))
    return _loaded(onnx_path, modified)


@cache
def _loaded(onnx_path: str, modified: tuple[int, ...]) -> CalibrationModel:  # noqa: ARG001  a changed file is read again
    model, card = OnnxModel(onnx_path), read_card(card_path(onnx_path))
    width = model.n_features
    if width is not None and width != len(card.features):
        raise ValueError(
            f"{onnx_path} takes {width} columns, but its card lists {len(card.features)}: {', '.join(card.features)}"
        )
    return CalibrationModel(model, card)
