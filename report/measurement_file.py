"""The measurement as compressed JSON: points, curves and fitted distributions, so that figures can be drawn again.

The form follows the records of `corrections.results` field by field, whatever fields they have: a record is an object,
an array a list; fields that do not take part in comparisons are left out. JSON knows no nan and no infinity; they are
null and "inf" or "-inf". Numbers keep every bit.
"""

from __future__ import annotations

import gzip
import json
import math
import types
from collections.abc import Mapping as AbstractMapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from corrections.results import Measurement
from processors.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MEASUREMENT_FILE = "measurement.json.gz"
FORMAT_VERSION = 1

Record = TypeVar("Record")
_hints: Any = cache(get_type_hints)


def write_measurements(measurements: Sequence[Measurement], folder: Path) -> Path:
    """Path of the file written into `folder`; the same measurement gives the same bytes."""
    path = folder / MEASUREMENT_FILE
    document = {"format": FORMAT_VERSION, "measurements": [to_plain(each) for each in measurements]}
    text = json.dumps(document, allow_nan=False, separators=(",", ":"))
    path.write_bytes(gzip.compress(text.encode(), compresslevel=3, mtime=0))
    return path


def read_measurements(folder: Path) -> tuple[Measurement, ...]:
    """Measurements of an output folder, equal to those that were written."""
    path = folder / MEASUREMENT_FILE
    if not path.is_file():
        raise InputError(f"expected {path} with the measurement of a run; name the output folder of a complete run")
    try:
        document = json.loads(gzip.decompress(path.read_bytes()))
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"{path} cannot be read as compressed JSON ({error}); run the analysis again") from error
    if document.get("format") != FORMAT_VERSION:
        raise InputError(f"{path} has format {document.get('format')}, this version reads {FORMAT_VERSION}")
    return tuple(from_plain(Measurement, each) for each in document["measurements"])


def to_plain(value: Any) -> Any:
    """Value made of what JSON knows."""
    if is_dataclass(value):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value) if field.compare}
    if isinstance(value, AbstractMapping):
        return {str(key): to_plain(each) for key, each in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        plain = value.tolist()
        return plain if np.isfinite(value).all() else to_plain(plain)
    if isinstance(value, list | tuple):
        return [to_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def from_plain(kind: type[Record], plain: AbstractMapping[str, Any]) -> Record:
    """Record of the given class; a field that is missing takes its default, one that is unknown is passed over."""
    hints = _hints(kind)
    return kind(**{name: _restore(hints[name], each) for name, each in plain.items() if name in hints})


def _restore(kind: Any, plain: Any) -> Any:
    """Value of the type that a field declares."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return None if plain is None else _restore(next(each for each in inner if each is not types.NoneType), plain)
    if kind is float:
        return math.nan if plain is None else float(plain)
    if origin in _RESTORE:
        return _RESTORE[origin](inner, plain)
    return from_plain(kind, plain) if isinstance(kind, type) and is_dataclass(kind) else plain


def _restore_tuple(inner: tuple[Any, ...], plain: Any) -> Any:
    kinds = inner[:1] * len(plain) if Ellipsis in inner else inner
    return tuple(_restore(kind, each) for kind, each in zip(kinds, plain, strict=True))


def _restore_mapping(inner: tuple[Any, ...], plain: Any) -> Any:
    return {key: _restore(inner[1], each) for key, each in plain.items()}


_RESTORE: dict[Any, Any] = {
    np.ndarray: lambda _, plain: np.array(plain, dtype=np.float64),
    tuple: _restore_tuple,
    dict: _restore_mapping,
    AbstractMapping: _restore_mapping,
}
