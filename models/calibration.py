"""Jet columns and constituents -> calibration factor, by a network and its card."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.card import ModelCard, card_path, read_card
from models.features import CONSTITUENT_COLUMNS, FEATURES, RaggedConstituents, feature_matrix
from models.session import OnnxModel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from models.features import FloatArray

    Columns = Mapping[str, Callable[[], NDArray[Any]]]

Float64Array = NDArray[np.float64]

NOT_FINITE_INPUT = "jets with an input of the network that is not finite"
NOT_FINITE = "jets with a non-finite calibration factor"
CLIPPED = "jets with a clipped calibration factor"


@dataclass(frozen=True, slots=True)
class CalibrationModel:
    """A calibration network: `model` beside its `card`; picklable."""

    model: OnnxModel
    card: ModelCard

    def factor(
        self, columns: Columns, constituents: RaggedConstituents | None = None
    ) -> tuple[Float64Array, dict[str, int]]:
        """Factors to multiply pt and mass with, (n,), and counts of jets without a proper one by reason, without zeros.

        `columns` has a function for every column of the jets (see `models.features`), arrays (n,); `constituents` are
        those of the same jets, hardest first. A jet with an input that is not finite, and a factor that is not finite,
        get 1; a factor beyond the limits of the card becomes the limit.
        """
        matrix = feature_matrix(columns, self.card.features)
        usable = _finite_rows(matrix)
        raw = self._outputs(matrix, constituents, usable)[:, 0].astype(np.float64)
        raw = self._as_factor(raw, columns)
        finite = np.isfinite(raw) & usable
        factor = np.clip(np.where(finite, raw, 1.0), self.card.lowest, self.card.highest)
        counts = {
            NOT_FINITE_INPUT: np.count_nonzero(~usable),
            NOT_FINITE: np.count_nonzero(usable & ~finite),
            CLIPPED: np.count_nonzero(finite & (factor != raw)),
        }
        return factor, {reason: int(n) for reason, n in counts.items() if n}

    def outputs(self, columns: Columns, constituents: RaggedConstituents | None = None) -> FloatArray:
        """All output columns as the network gives them, (n, n_outputs); nan for a jet with an input that is not."""
        matrix = feature_matrix(columns, self.card.features)
        return self._outputs(matrix, constituents, _finite_rows(matrix))

    def _outputs(
        self, matrix: FloatArray, constituents: RaggedConstituents | None, usable: NDArray[np.bool_]
    ) -> FloatArray:
        """Rows that are not `usable` are not given to the network and are nan; `usable` is changed by constituents."""
        card = self.card
        given = matrix if card.energy_unit == 1 else _in_unit(matrix, card)
        if card.constituent_input is None:
            rows = self.model(given[usable])
        else:
            if constituents is None or len(constituents) != len(matrix):
                n = None if constituents is None else len(constituents)
                raise ValueError(f"{self.model.path} needs constituents of {len(matrix)} jets, got {n}")
            usable &= _are_finite(constituents)
            chosen = constituents.limited(card.max_constituents)
            if not usable.all():
                chosen = chosen.take(np.flatnonzero(usable))
            names = (self._jet_input, card.constituent_input, card.output)
            length = card.max_constituents if card.pads_all else None
            rows = self.model.with_constituents(given[usable], _columns_of(chosen, card), names, length)
        result = np.full((len(matrix), rows.shape[1]), np.nan, np.float32)
        result[usable] = rows
        return result

    @property
    def _jet_input(self) -> str:
        names = [name for name, _, _ in self.model.signature.inputs if name != self.card.constituent_input]
        return self.card.jet_input or names[0]

    def _as_factor(self, raw: Float64Array, columns: Columns) -> Float64Array:
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            if self.card.gives == "log_factor":
                return np.exp(raw)
            if self.card.gives == "response":
                return 1.0 / raw
            if self.card.gives == "pt":
                return raw * self.card.energy_unit / np.asarray(columns["pt"](), np.float64)
        return raw


def load_calibration(onnx_path: str, card: ModelCard | None = None) -> CalibrationModel:
    """Network at `onnx_path` with its card, the one beside it if none is given; refuses a card that does not fit.

    Files are read once per process, and again when they change.
    """
    if card is not None:
        return _checked(CalibrationModel(OnnxModel(onnx_path), card))
    path = card_path(onnx_path)
    modified = tuple(each.stat().st_mtime_ns if each.is_file() else 0 for each in (Path(onnx_path), path))
    return _loaded(onnx_path, modified)


@cache
def _loaded(onnx_path: str, modified: tuple[int, ...]) -> CalibrationModel:  # noqa: ARG001  a changed file is read again
    model = OnnxModel(onnx_path)
    model.check_exists()
    card = read_card(card_path(onnx_path))
    return _checked(CalibrationModel(model, card))


def _checked(calibration: CalibrationModel) -> CalibrationModel:
    """The same, if the network has the inputs and outputs of the card; both are named where it has not."""
    model, card = calibration.model, calibration.card
    width = model.n_features
    is_plain = card.constituent_input is None and len(model.signature.inputs) == 1
    if is_plain and width is not None and width != len(card.features):
        names = ", ".join(card.features)
        raise ValueError(f"{model.path} takes {width} columns, but its card lists {len(card.features)}: {names}")
    faults = list(_faults(calibration))
    if faults:
        expected = f"expected {card.signature}{f' (opset {card.opset})' if card.opset else ''}"
        raise ValueError(f"{model.path}: {'; '.join(faults)}; {expected}, found {model.signature}")
    return calibration


def _faults(calibration: CalibrationModel) -> list[str]:
    """What of the card the network does not have."""
    card, signature = calibration.card, calibration.model.signature
    inputs = {name: shape for name, shape, _ in signature.inputs}
    outputs = {name: shape for name, shape, _ in signature.outputs}
    faults = [f"{name} is {kind}, not float" for name, _, kind in signature.inputs if kind != "tensor(float)"]
    wanted = [name for name in (card.jet_input, card.constituent_input) if name is not None]
    faults += [f"no input {name!r}" for name in wanted if name not in inputs]
    n_expected = 1 if card.constituent_input is None else 2
    if len(inputs) != n_expected:
        faults.append(f"{len(inputs)} inputs, not {n_expected}")
    if card.output is not None and card.output not in outputs:
        faults.append(f"no output {card.output!r}")
    if faults:
        return faults
    jet_input = next(name for name in inputs if name != card.constituent_input)
    faults += _wrong_shape(jet_input, inputs[jet_input], (None, len(card.features)))
    if card.constituent_input is not None:
        length = card.max_constituents if card.pads_all else None
        shape = (None, length, len(card.constituent_columns))
        faults += _wrong_shape(card.constituent_input, inputs[card.constituent_input], shape)
        if not card.pads_all and inputs[card.constituent_input][1] not in (None, 1):
            faults.append(f"{card.constituent_input} has a fixed length, which needs pads_all")
    output = card.output or signature.outputs[0][0]
    columns = outputs[output][1] if len(outputs[output]) > 1 else 1
    if columns not in (None, len(card.outputs)):
        faults.append(f"{output} has {columns} columns")
    return faults


def _wrong_shape(name: str, found: tuple[int | None, ...], expected: tuple[int | None, ...]) -> list[str]:
    fits = len(found) == len(expected) and all(
        a is None or b is None or a == b for a, b in zip(found[1:], expected[1:], strict=True)
    )
    return [] if fits else [f"{name} has another shape"]


def _finite_rows(matrix: FloatArray) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(matrix).all(axis=1))


def _are_finite(constituents: RaggedConstituents) -> NDArray[np.bool_]:
    """Whether all constituents of a jet are finite, (n,)."""
    # one pass that nearly always suffices: whatever is not finite spoils the sum
    with np.errstate(invalid="ignore"):
        if np.isfinite(constituents.values.sum(dtype=np.float64)):
            return np.ones(len(constituents), np.bool_)
    finite = np.isfinite(constituents.values).all(axis=1)
    bad = np.concatenate([[0], np.cumsum(~finite)])
    return np.asarray(bad[constituents.offsets[1:]] == bad[constituents.offsets[:-1]])


def _in_unit(matrix: FloatArray, card: ModelCard) -> FloatArray:
    """Columns with the energies in the unit of the network."""
    scale = [1 / card.energy_unit if FEATURES[name].unit == "GeV" else 1.0 for name in card.features]
    return np.asarray(matrix * np.array(scale), np.float32)


def _columns_of(constituents: RaggedConstituents, card: ModelCard) -> RaggedConstituents:
    """The columns of the card in its unit."""
    if card.constituent_columns == CONSTITUENT_COLUMNS and card.energy_unit == 1:
        return constituents
    places = [CONSTITUENT_COLUMNS.index(name) for name in card.constituent_columns]
    return RaggedConstituents(
        constituents.offsets, (constituents.values[:, places] / card.energy_unit).astype(np.float32)
    )
