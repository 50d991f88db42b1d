"""Settings from a YAML file and from the command line onto frozen dataclasses.

A key is the name of a field, a section one that holds a dataclass, to any depth. What is not known is refused with the
nearest name; what has the wrong type or value is refused with its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from models.shipped import shipped_path
from processors.errors import InputError, raise_if_any, suggestion
from processors.fileset import read_document

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Settings = TypeVar("Settings")
Values = dict[str, Any]
# Fields that name a file of the user; in a file they count from where that file lies.
NETWORK_FIELD = "onnx"  # or the name of a network that ships
PATH_FIELDS = ("file", "smear_file", NETWORK_FIELD, "preprocess", "lumi_mask")
# What pydantic says in words of Python, in those of a configuration file.
WORDS = {
    "dataclass_type": "expected a section with keys of its own",
    "tuple_type": "expected a list",
    "bool_parsing": "expected true or false",
}


def merged_values(path: Path | None, overrides: Iterable[str], options: Mapping[str, Any] | None = None) -> Values:
    """What the YAML file says, changed by `a.b=c` overrides, then by `options` by dotted name where not None."""
    values = {} if path is None else with_absolute_paths(read_document(path), path.resolve().parent)
    for text in overrides:
        set_value(values, *parse_override(text))
    for key, value in (options or {}).items():
        if value is not None:
            set_value(values, key, value)
    return with_absolute_paths(values, Path.cwd())


def settings_from(kind: type[Settings], values: Mapping[str, Any], where: str) -> Settings:
    """`kind` made of `values`, its defaults where they say nothing; `where` tells what they were read from.

    Raises
    ------
    InputError
        One line per fault: unknown keys with the nearest known one, values of a wrong type, values a section refuses.
    """
    raise_if_any([f"{fault} (in {where})" for fault in unknown_keys(kind, values)])
    return build(kind, values, where)


def own_sections(values: Mapping[str, Any], kind: type, other: type) -> Values:
    """Values without the top-level keys that are of `other` and not of `kind`, so that both may share a file."""
    own, others = get_type_hints(kind), get_type_hints(other)
    return {key: value for key, value in values.items() if key in own or key not in others}


def parse_override(text: str) -> tuple[str, Any]:
    """Dotted key and value of `a.b=c`; the value is YAML, so that 0.3, [1, 2], true and null mean what they say."""
    key, equals, value = text.partition("=")
    if not equals or not key or any(not part for part in key.split(".")):
        raise InputError(f"{text!r} is not of the form section.key=value")
    try:
        return key, yaml.safe_load(value) if value else None
    except yaml.YAMLError:
        return key, value


def set_value(values: Values, key: str, value: Any) -> None:
    """Put a value at a dotted key, making sections on the way."""
    *sections, last = key.split(".")
    place = values
    for section in sections:
        inner = place.get(section)
        if not isinstance(inner, dict):
            inner = place[section] = {}
        place = inner
    place[last] = value


def unknown_keys(kind: type, values: Mapping[Any, Any], above: str = "") -> Iterator[str]:
    """A line for each key that is no field of `kind` or of what is inside it."""
    hints = get_type_hints(kind)
    for key, value in values.items():
        if key not in hints:
            others = suggestion(f"{above}{key}", all_keys(kind, above)) or f"; known are {', '.join(hints)}"
            yield f"unknown key '{above}{key}'{others}"
        elif isinstance(value, Mapping) and (inner := _dataclass_in(hints[key])) is not None:
            yield from unknown_keys(inner, value, f"{above}{key}.")
        elif isinstance(value, Mapping) and (inner := _dataclass_by_name(hints[key])) is not None:
            for name, each in value.items():
                if isinstance(each, Mapping):
                    yield from unknown_keys(inner, each, f"{above}{key}.{name}.")


def all_keys(kind: type, above: str = "") -> list[str]:
    """Dotted names of all fields, sections included."""
    keys = []
    for name, hint in get_type_hints(kind).items():
        keys.append(above + name)
        inner = _dataclass_in(hint)
        if inner is not None:
            keys += all_keys(inner, f"{above}{name}.")
    return keys


def build(kind: type[Settings], values: Mapping[str, Any], where: str) -> Settings:
    """`kind` made of `values`, every type checked; numbers may be given as text."""
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        raise InputError(*(_fault(each, where) for each in error.errors())) from None


def as_plain(settings: Any) -> Any:
    """Settings as mappings, lists and plain values, in the order of the fields."""
    if is_dataclass(settings):
        return {field.name: as_plain(getattr(settings, field.name)) for field in fields(settings)}
    if isinstance(settings, Mapping):
        return {str(key): as_plain(value) for key, value in settings.items()}
    return [as_plain(value) for value in settings] if isinstance(settings, tuple | list) else settings


def with_absolute_paths(values: Mapping[str, Any], folder: Path) -> Values:
    """`values` with relative paths of files counted from `folder`."""
    return {key: _absolute(key, value, folder) for key, value in values.items()}


def _absolute(key: str, value: Any, folder: Path) -> Any:
    if isinstance(value, Mapping):
        return with_absolute_paths(value, folder)
    if key in PATH_FIELDS and isinstance(value, str) and "://" not in value:
        return str((shipped_path(value) if key == NETWORK_FIELD else None) or folder / value)
    return value


def _fault(error: Mapping[str, Any], where: str) -> str:
    """One line for what pydantic found."""
    place = ".".join(str(part) for part in error["loc"] if not _is_branch(part))
    reason = WORDS.get(error["type"], str(error["msg"]).removeprefix("Value error, "))
    if error["type"] == "value_error":
        return f"{reason} (in {where})"
    return f"{place}: {reason[0].lower()}{reason[1:]}, got {error['input']!r} (in {where})"


def _is_branch(part: object) -> bool:
    """Whether pydantic names the alternative of a union it tried, not a key."""
    return isinstance(part, str) and ("[" in part or part[:1].isupper())


def _dataclass_in(hint: Any) -> type | None:
    """The dataclass that a field holds, also if it may be None."""
    candidates: Sequence[Any] = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return next((each for each in candidates if isinstance(each, type) and is_dataclass(each)), None)


def _dataclass_by_name(hint: Any) -> type | None:
    """The dataclass of which a field holds any number by name."""
    arguments = get_args(hint)
    return _dataclass_in(arguments[1]) if get_origin(hint) is Mapping and len(arguments) == 2 else None
