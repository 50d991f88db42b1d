"""What a network takes and gives, as JSON beside its .onnx file.

A network of somebody else is plugged in by a card that says which of its inputs holds what and how its output becomes
a factor; nothing about the network itself has to change.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from models.features import CONSTITUENT_COLUMNS, FEATURES, MAX_CONSTITUENTS, check_features
from models.tagging import columns as tagging

Task = Literal["calibration", "tagger"]
Gives = Literal["factor", "log_factor", "response", "pt", "score"]
VERSION = 3
READABLE = (1, 2, 3)
_IMPUTES_SINCE = 3


@dataclass(frozen=True, slots=True)
class ModelCard:
    """The contract between a network and the jets it is applied to.

    Attributes
    ----------
    task
        "calibration": the output tells the factor that a jet's pt and mass are multiplied with. "tagger": it is a
        score, high for signal.
    features
        Names of the columns of the jet input in order, see `models.features`; of a tagger `models.tagging.columns`, and
        any other column of the table it was trained on. Normalisation is part of the network.
    outputs
        Names of the output columns in order; the first is the calibration, `resolution` a relative width of pt; or the
        score.
    lowest, highest
        Factors beyond are set to these (counted); a calibration factor outside is no calibration. No matter for scores.
    trained_on
        Free text: sample and its digest.
    version
        Version of this form.
    jet_input, constituent_input, output
        Names in the network: input (n, n_features), input (n, n_constituents, n_columns) and output (n,) or (n, n_out).
        None for the only or first one, and for a network without constituents.
    constituent_columns
        Columns of a constituent in order, out of px, py, pz and pt, of a tagger out of px, py, pz and e.
    max_constituents
        The hardest of a jet that are given.
    pads_all
        Whether `max_constituents` are always given, with zeros where a jet has fewer, as networks with a fixed shape
        want it. Otherwise jets of like size are given together, which needs a network that masks zeros.
    gives
        What the first output column is: the factor, its logarithm, the response pt/true pt, the true pt, or a score.
    energy_unit
        GeV of one unit of energy inside the network, for columns and output: 0.001 for a network in MeV.
    opset
        Version of the ONNX operators it was written with, for messages.
    units
        Unit by feature, as it was trained.
    training
        Digest of the training table, settings, seeds, versions.
    metrics
        How good it was on events it was not trained on.
    working_points
        Of a tagger: by name the score from which on a jet passes.
    imputes
        Of a tagger: whether the network itself has a value for columns of the jet that are not finite.
    """

    task: Task
    features: tuple[str, ...]
    outputs: tuple[str, ...] = ("factor",)
    lowest: float = 0.2
    highest: float = 5.0
    trained_on: str = ""
    version: int = VERSION
    jet_input: str | None = None
    constituent_input: str | None = None
    output: str | None = None
    constituent_columns: tuple[str, ...] = CONSTITUENT_COLUMNS
    max_constituents: int = MAX_CONSTITUENTS
    pads_all: bool = False
    gives: Gives = "factor"
    energy_unit: float = 1.0
    opset: int | None = None
    units: Mapping[str, str] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    working_points: Mapping[str, float] = field(default_factory=dict)
    imputes: bool = False

    def __post_init__(self) -> None:
        """Refuse a card no program could follow."""
        if self.task not in get_args(Task) or self.version not in READABLE:
            raise ValueError(
                f"a card of task {self.task!r} and version {self.version} is not known; this is version {VERSION}"
            )
        is_tagger = self.task == "tagger"
        if not (self.features or (is_tagger and self.constituent_input)) or not self.outputs:
            raise ValueError("a card needs at least one feature and one output")
        if not (is_tagger or self.lowest > 0) or not self.lowest < self.highest < math.inf:
            raise ValueError(f"a card needs 0 < lowest < highest, got {self.lowest} and {self.highest}")
        if self.gives not in get_args(Gives) or (self.gives == "score" and not is_tagger):
            raise ValueError(f"gives is one of {', '.join(get_args(Gives))}, the last of a tagger, got {self.gives!r}")
        if wrong := [name for name, cut in self.working_points.items() if not math.isfinite(cut)]:
            raise ValueError(f"a working point is a finite score, not so {', '.join(wrong)}")
        if not 0 < self.energy_unit < math.inf:
            raise ValueError(f"energy_unit is a number of GeV above 0, got {self.energy_unit}")
        known = tagging.CONSTITUENT_COLUMNS if is_tagger else CONSTITUENT_COLUMNS
        is_asked = self.constituent_input is not None
        if self.max_constituents < 1 or (is_asked and not set(self.constituent_columns) <= set(known)):
            raise ValueError(
                f"a card takes at least one constituent with columns out of {', '.join(known)}, "
                f"got {self.max_constituents} with {', '.join(self.constituent_columns)}"
            )
        if not is_tagger:
            check_features(self.features)

    @property
    def signature(self) -> str:
        """Inputs and output in words."""
        inputs = [f"{self.jet_input or 'jets'} (n, {len(self.features)})"] if self.features else []
        if self.constituent_input is not None:
            length = self.max_constituents if self.pads_all else "any"
            inputs.append(f"{self.constituent_input} (n, {length}, {len(self.constituent_columns)})")
        return f"{' and '.join(inputs)} -> {self.output or 'first output'} (n, {len(self.outputs)})"


def units_of(features: tuple[str, ...]) -> dict[str, str]:
    """Unit of each feature, those without one left out."""
    return {name: FEATURES[name].unit for name in features if FEATURES[name].unit}


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
        return card_from(json.loads(Path(path).read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is not a model card: {error}") from error


def card_from(values: Any) -> ModelCard:
    """Card of a JSON object, or of the same in a configuration."""
    if not isinstance(values, Mapping):
        raise TypeError("not a JSON object")
    unknown = values.keys() - {field.name for field in fields(ModelCard)}
    missing = {"task", "features"} - values.keys()
    if unknown or missing:
        raise ValueError(f"unknown keys {sorted(unknown)}, missing keys {sorted(missing)}")
    if values.get("version", VERSION) < _IMPUTES_SINCE:
        # Those that were trained here did, and kept the settings of their training.
        values = {**values, "imputes": values["task"] == "tagger" and "settings" in (values.get("training") or {})}
    lists = {key: _names(key, values[key]) for key in ("features", "outputs", "constituent_columns") if key in values}
    return ModelCard(**{**values, **lists})


def _names(key: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise TypeError(f"{key} is a list of names, got {value!r}")
    return tuple(value)
