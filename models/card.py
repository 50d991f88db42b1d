"""What a network takes and gives, as JSON beside its .onnx file."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from models.features import check_features

Task = Literal["calibration"]
VERSION = 1


@dataclass(frozen=True, slots=True)
class ModelCard:
    """The contract between a network and the jets it is applied to.

    Attributes
    ----------
    task
        "calibration": the first output is the factor that a jet's pt and mass are multiplied with.
    features
        Names of the input columns in order, see `models.features`; normalisation is part of the network.
    outputs
        Names of the output columns in order.
    lowest, highest
        Outputs beyond are set to these (counted); a calibration factor outside is no calibration.
    trained_on
        Free text: sample and its digest.
    version
        Version of this form.
    """

    task: Task
    features: tuple[str, ...]
    outputs: tuple[str, ...] = ("factor",)
    lowest: float = 0.2
    highest: float = 5.0
    trained_on: str = ""
    version: int = VERSION

    def __post_init__(self) -> None:
        """Refuse a card no program could follow."""
        if self.task not in get_args(Task) or self.version != VERSION:
            raise ValueError(
                f"a card of task {self.task!r} and version {self.version} is not known; this is version {VERSION}"
            )
        if not self.features or not self.outputs:
            raise ValueError("a card needs at least one feature and one output")
        if not 0 < self.lowest < self.highest < math.inf:
            raise ValueError(f"a card needs 0 < lowest < highest, got {self.lowest} and {self.highest}")
        check_features(self.features)


def card_path(onnx_path: str | Path) -> Path:
    """Where the card of a network lies: the same name, ending in .json."""
    return Path(onnx_path).with_suffix(".json")


def write_card(card: ModelCard, path: str | Path) -> None:
    """Write a card as JSON."""
    Path(path).write_text(json.dumps(asdict(card), indent=2) + "\n", encoding="utf-8")


def read_card(path: str | Path) -> ModelCard:
    """Card in a JSON file; refuses what is not a card, naming the file."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"the model card {path} does not exist; it belongs beside the .onnx file")
    try:
        return _card(json.loads(Path(path).read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is not a model card: {error}") from error


def _card(values: Any) -> ModelCard:
    if not isinstance(values, dict):
        raise TypeError("not a JSON object")
    unknown = values.keys() - {field.name for field in fields(ModelCard)}
    missing = {"task", "features"} - values.keys()
    if unknown or missing:
        raise ValueError(f"unknown keys {sorted(unknown)}, missing keys {sorted(missing)}")
    lists = {key: _names(key, values[key]) for key in ("features", "outputs") if key in values}
    return ModelCard(**{**values, **lists})


def _names(key: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise TypeError(f"{key} is a list of names, got {value!r}")
    return tuple(value)
