"""Whether a correction file keeps what its form promises: schema, names, inputs, finite values, clamped edges."""

from __future__ import annotations

import gzip
import json
import math
from typing import TYPE_CHECKING, Any

import correctionlib
import correctionlib.schemav2 as cs

from processors.errors import InputError, raise_if_any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

# A typical jet, and places on both sides of every edge of what was measured.
TYPICAL: Mapping[str, Any] = {"JetEta": 0.5, "JetPt": 150.0, "Rho": 20.0, "systematic": "nom"}
ETAS = (0.0, 0.5, -0.5, 1.5, 2.9, -4.0, 5.19, 9.0, -9.0)
PTS = (1.0, 15.0, 50.0, 150.0, 1000.0, 1e5, 1e6)
PROMISED = {
    "_SFUncertainty_": ("JetEta", "JetPt"),
    "_PtResolution_": ("JetEta", "JetPt", "Rho"),
    "_ScaleFactor_": ("JetEta", "JetPt", "systematic"),
    "_L2L3Residual_": ("JetEta", "JetPt"),
    "_Total_": ("JetEta", "JetPt"),
}


def read_corrections_json(path: Path) -> Any:
    """The document in a .json or .json.gz file; None if it is no JSON."""
    try:
        raw = path.read_bytes()
        return json.loads(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)
    except (OSError, ValueError, EOFError):
        return None


def is_correction_set(path: Path) -> bool:
    """Whether a file looks like corrections (and not like a fileset)."""
    document = read_corrections_json(path)
    return isinstance(document, dict) and ("schema_version" in document or "corrections" in document)


def check_corrections(path: Path) -> list[str]:
    """One line for each correction that is as promised; everything that is not is refused at once."""
    document = read_corrections_json(path)
    try:
        model = cs.CorrectionSet.model_validate(document)
        found = correctionlib.CorrectionSet.from_file(str(path))
    except Exception as error:  # noqa: BLE001  schema and evaluator have errors of their own
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(f"{path} is not a correction set of schema version 2: {lines[0]}") from None
    is_split = any("_SFUncertainty_" in name for name in found)
    raise_if_any([f"{path}: {fault}" for name in found for fault in _faults(name, found[name], is_split=is_split)])
    lines = [f"{c.name}({', '.join(v.name for v in c.inputs)}) -> {c.output.name}" for c in model.corrections]
    return [*lines, *(f"{c.name} (compound)" for c in model.compound_corrections or ())]


def _faults(name: str, correction: Any, *, is_split: bool) -> Iterator[str]:
    """What is not as promised; with `is_split` the scale factor has its uncertainty in a correction beside it."""
    inputs = tuple(variable.name for variable in correction.inputs)
    forms = {**PROMISED, "_ScaleFactor_": ("JetEta", "JetPt")} if is_split else PROMISED
    promised = next((names for part, names in forms.items() if part in name), None)
    if promised is None:
        return
    if inputs != promised:
        yield f"{name} has the inputs {', '.join(inputs)}, promised are {', '.join(promised)}"
        return
    values = {(eta, pt): _evaluate(correction, inputs, eta, pt) for eta in ETAS for pt in PTS}
    for (eta, pt), value in values.items():
        if not math.isfinite(value):
            yield f"{name} is {value} at JetEta {eta}, JetPt {pt} GeV"
    if any(values[9.0, pt] != values[5.19, pt] or values[-9.0, pt] != values[9.0, pt] for pt in PTS):
        yield f"{name} does not stay what it is beyond the last |eta| bin"
    if any(values[eta, 1e6] != values[eta, 1e5] for eta in ETAS):
        yield f"{name} does not stay what it is beyond the last pT"


def _evaluate(correction: Any, inputs: tuple[str, ...], eta: float, pt: float) -> float:
    place = {**TYPICAL, "JetEta": eta, "JetPt": pt}
    try:
        return float(correction.evaluate(*(place[name] for name in inputs)))
    except (RuntimeError, IndexError, ValueError):
        return math.nan
