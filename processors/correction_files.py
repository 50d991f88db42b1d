"""correctionlib files: opened once per process, evaluated by the names of their inputs.

Settings hold paths only; what a path stands for is opened on first use in each process, and again when the file
changes.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np

from processors.errors import InputError, suggestion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from correctionlib import CorrectionSet
    from correctionlib.highlevel import CompoundCorrection, Correction

    from processors.record import AnyArray, Float64Array

Value: TypeAlias = Union["AnyArray", float, int, str]
AnyCorrection: TypeAlias = Union["Correction", "CompoundCorrection"]


def existing_file(path: str, what: str) -> Path:
    """`path` as a Path, or an `InputError` that names `what` it should be."""
    file = Path(path)
    if not file.is_file():
        raise InputError(f"{what} {path!r} does not exist; give the path of a file")
    return file


def open_corrections(path: str) -> CorrectionSet:
    """Correction set in a .json or .json.gz file; refuses a missing or invalid file."""
    file = existing_file(path, "correction file")
    return _opened(path, file.stat().st_mtime_ns)


@cache
def _opened(path: str, modified: int) -> CorrectionSet:  # noqa: ARG001  a changed file is another entry of the cache
    from correctionlib import CorrectionSet  # only where a correction is configured

    try:
        return CorrectionSet.from_file(path)
    except (RuntimeError, ValueError, OSError, EOFError) as error:
        raise InputError(
            f"{path} is not a correctionlib JSON file (.json or .json.gz): {_first_line(error)}"
        ) from error


def find_correction(path: str, name: str) -> AnyCorrection:
    """Correction or compound correction `name` of a file."""
    corrections = open_corrections(path)
    simple, compound = list(corrections), list(corrections.compound)  # `in` of a CorrectionSet raises for unknown names
    if name in simple:
        return corrections[name]
    if name in compound:
        return corrections.compound[name]
    known = simple + compound
    raise InputError(f"{path} has no correction {name!r}" + (suggestion(name, known) or f"; it has {_listed(known)}"))


def has_correction(path: str, name: str) -> bool:
    """Whether a file has a correction or compound correction of this name."""
    corrections = open_corrections(path)
    return name in [*corrections, *corrections.compound]


def input_names(path: str, name: str) -> tuple[str, ...]:
    """Names of the inputs of a correction, in order."""
    return tuple(variable.name for variable in find_correction(path, name).inputs)


def evaluate(path: str, name: str, inputs: Mapping[str, Callable[[], Value]]) -> Float64Array:
    """Values of a correction, (n,) float64.

    `inputs` has a function for every input that can be filled, by the name it has in the file; only those the
    correction asks for are called. Arrays are (n,), strings and numbers hold for all of them. An input that is not
    there is an `InputError` that names it, and so is a value the file refuses.
    """
    correction = find_correction(path, name)
    _check_inputs(path, name, (variable.name for variable in correction.inputs), inputs)
    values = [_as_type(inputs[variable.name](), variable.type) for variable in correction.inputs]
    n = next((len(value) for value in values if isinstance(value, np.ndarray)), 1)
    if n == 0:
        return np.empty(0)
    try:
        return np.atleast_1d(np.asarray(correction.evaluate(*values), np.float64))
    except (RuntimeError, IndexError, ValueError) as error:
        raise InputError(f"{path}: {name} refuses an input: {_first_line(error)}") from error


def check_inputs(path: str, name: str, known: Iterable[str]) -> None:
    """Refuse a correction that asks for an input whose name is not among the `known`."""
    _check_inputs(path, name, input_names(path, name), known)


def _check_inputs(path: str, name: str, wanted: Iterable[str], known: Iterable[str]) -> None:
    known = list(known)
    unknown = [variable for variable in wanted if variable not in known]
    if unknown:
        raise InputError(f"{path}: {name} needs the input {_listed(unknown)}, not one of {_listed(known)}")


def _as_type(value: Value, type_name: str) -> Any:  # what correctionlib takes
    """`value` in the type of an input ("real", "int", "string"); arrays keep their shape."""
    if isinstance(value, np.ndarray):
        return value.astype(np.float64 if type_name == "real" else np.int64, copy=False)
    return value if isinstance(value, str) else float(value) if type_name == "real" else int(value)


def _listed(names: Iterable[str], most: int = 6) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
