"""From a fileset file to datasets.

A fileset is coffea's own JSON (or the same in YAML), `{dataset: {"files": {path: tree}, "metadata": {...}}}`.
Everything wrong with it is reported at once, one line per fault.
"""

from __future__ import annotations

import glob
import json
import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from processors.errors import InputError, raise_if_any, suggestion
from processors.formats import FORMATS

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

Role = Literal["nominal", "alternative"]
ROLES: tuple[Role, ...] = ("nominal", "alternative")
METADATA_KEYS = (
    "is_mc",
    "schema",
    "weight",
    "xsec",
    "lumi",
    "lumi_mask",
    "triggers",
    "jet_collection",
    "truth_jet_collection",
    "jet_algo",
    "label",
    "role",
    "process",
    "skim",
)
DATASET_KEYS = ("files", "metadata", "treename", "format", "preload")
TRIGGER_KEYS = ("path", "pt_avg_min", "threshold", "pt_avg", "prescale")


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a dataset: an absolute path or URL, and the tree in it; None means to be found out."""

    path: str
    tree: str | None


@dataclass(frozen=True, slots=True)
class Trigger:
    """A trigger path that owns events from `pt_avg_min` GeV of pt_avg on; its events count `prescale` times.

    Triggers with one `pt_avg_min` share their events; see `processors.event_filter.trigger_decision`.
    """

    path: str
    pt_avg_min: float = 0.0
    prescale: float = 1.0


@dataclass(frozen=True, slots=True)
class Dataset:
    """One entry of a fileset.

    Attributes
    ----------
    name, files, is_mc
        The key in the fileset, its files in the order given (those of a pattern sorted), and whether it is simulation.
    schema
        One of `processors.formats.FORMATS`; None to find it out from each file.
    weight
        Branch of the generator weight; None for the usual one of the format.
    xsec, lumi
        Cross section in pb; luminosity in 1/fb.
    lumi_mask
        Path of the JSON with certified luminosity blocks.
    triggers
        In the order given.
    jet_collection, truth_jet_collection, jet_algo
        Names in the file and in the corrections; None for the usual ones of the format.
    label, role, process
        What plots show; nominal or alternative simulation; which samples belong together.
    skim
        In words, what was left out of the files before they came here; the cutflow tells it.
    has_network
        Whether its jets can be given to the calibration network; not in the file, found by a look at the datasets.
    """

    name: str
    files: tuple[FileEntry, ...]
    is_mc: bool
    schema: str | None = None
    weight: str | None = None
    xsec: float | None = None
    lumi: float | None = None
    lumi_mask: str | None = None
    triggers: tuple[Trigger, ...] = ()
    jet_collection: str | None = None
    truth_jet_collection: str | None = None
    jet_algo: str | None = None
    label: str | None = None
    role: Role = "nominal"
    process: str | None = None
    skim: str | None = None
    has_network: bool = True


def load_fileset(path: str | Path) -> tuple[Dataset, ...]:
    """Datasets of a fileset file (JSON or YAML) in its order.

    Relative paths count from the folder of the file, `*`, `?` and `[...]` are expanded, URLs pass through unchanged.

    Raises
    ------
    InputError
        With every fault of form in one line each. Whether the files exist is for `processors.preflight` to see.
    """
    source = Path(path)
    document = read_document(source)
    if not document:
        raise InputError(f"{source}: the fileset names no dataset; expected {{dataset: {{files: ..., metadata: ...}}}}")
    return datasets_from(document, source.resolve().parent, where=str(source))


def datasets_from(document: Mapping[str, Any], folder: Path, where: str = "fileset") -> tuple[Dataset, ...]:
    """Datasets of a fileset that is already in memory; `folder` is where relative paths start, `where` names it."""
    faults: list[str] = []
    found = (_dataset(name, entry, folder, _Report(f"{where}: {name}", faults)) for name, entry in document.items())
    complete = tuple(dataset for dataset in found if dataset is not None)
    faults.extend(f"{where}: {fault}" for fault in _cross_section_faults(complete))
    raise_if_any(faults)
    return complete


def read_document(path: str | Path) -> dict[str, Any]:
    """A JSON or YAML mapping from a file, with string keys; a key given twice is refused.

    JSON is told by the ending `.json`; everything else is read as YAML, of which JSON is a part.
    """
    source = Path(path)
    try:
        text = source.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{source}: no such file{_neighbours(source)}") from None
    except (OSError, UnicodeDecodeError) as error:
        if source.suffix == ".root":
            raise InputError(
                f"{source}: expected text that names ROOT files, in JSON or YAML, got one of them"
            ) from None
        raise InputError(f"{source}: cannot be read as UTF-8 text ({error})") from None
    document = _from_json(text, source) if source.suffix == ".json" else _from_yaml(text, source)
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise InputError(f"{source}: expected a mapping at the top, got a {type(document).__name__}")
    return {str(key): value for key, value in document.items()}


def is_remote(path: str) -> bool:
    """Whether `path` is a URL (root://, https://, ...) rather than a file of this machine."""
    return "://" in path


@dataclass(frozen=True, slots=True)
class _Report:
    """Collects faults; each is told with the place it was found in."""

    place: str
    faults: list[str] = field(default_factory=list)

    def add(self, fault: str) -> None:
        self.faults.append(f"{self.place}: {fault}")


def _neighbours(source: Path) -> str:
    folder = source.parent
    return suggestion(source.name, (item.name for item in folder.iterdir())) if folder.is_dir() else ""


def _from_json(text: str, source: Path) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise InputError(f"{source}: the key {twice[0]!r} is given twice in one mapping; keep one of the two")
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise InputError(f"{source}, line {error.lineno}: not valid JSON: {error.msg}") from None


class _UniqueKeyLoader(yaml.SafeLoader):
    """Safe YAML in which a key may be given once only and 1e3 is a number, as in JSON."""


def _unique_mapping(loader: _UniqueKeyLoader, node: yaml.MappingNode) -> dict[Hashable, Any]:
    seen: set[Hashable] = set()
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            message = f"the key {key!r} is given twice in one mapping; keep one of the two"
            raise yaml.constructor.ConstructorError(None, None, message, key_node.start_mark)
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_UniqueKeyLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)
_UniqueKeyLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _from_yaml(text: str, source: Path) -> Any:
    try:
        return yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506  it is a safe loader
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        problem = str(error.problem)
        reason = problem if "given twice" in problem else f"not valid YAML: {problem}"
        raise InputError(f"{source}{line}: {reason}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{source}: not valid YAML: {' '.join(str(error).split())}") from None


def _dataset(name: str, entry: Any, folder: Path, report: _Report) -> Dataset | None:
    """One dataset, or None if a fault leaves it without files or `is_mc`."""
    if isinstance(entry, str | list):
        entry = {"files": entry}
    if not isinstance(entry, dict):
        report.add(f"expected a mapping with 'files' and 'metadata', got {entry!r}")
        return None
    _refuse_unknown(entry, DATASET_KEYS, "key", report)
    files = _files(entry.get("files"), entry.get("treename"), folder, report)
    metadata = entry.get("metadata") or {}
    if not isinstance(metadata, dict):
        report.add(f"expected a mapping as metadata, got {metadata!r}")
        return None
    if "is_mc" not in metadata:
        hint = suggestion("is_mc", (str(key) for key in metadata), label="is it")
        report.add(f"metadata lacks 'is_mc'; say true for simulation, false for collision data{hint}")
    values = _metadata(metadata, folder, report)
    if not files or values.get("is_mc") is None:
        return None
    return Dataset(name=name, files=files, **values)


def _refuse_unknown(given: Mapping[Any, Any], known: Sequence[str], word: str, report: _Report) -> None:
    for key in given:
        if key not in known:
            hint = suggestion(str(key), known) or f"; known are {', '.join(known)}"
            report.add(f"unknown {word} {key!r}{hint}")


def _files(given: Any, treename: Any, folder: Path, report: _Report) -> tuple[FileEntry, ...]:
    if isinstance(given, str):
        given = [given]
    if isinstance(given, list):
        given_pairs = [(path, treename) for path in given]
    elif isinstance(given, dict):
        given_pairs = [(path, treename if tree is None else tree) for path, tree in given.items()]
    else:
        report.add(f"expected 'files' as a mapping of path to tree or a list of paths, got {given!r}")
        return ()
    if not given_pairs:
        report.add("a dataset without files; remove it or name its files")
    return tuple(entry for path, tree in given_pairs for entry in _file_entries(path, tree, folder, report))


def _file_entries(path: Any, tree: Any, folder: Path, report: _Report) -> Iterable[FileEntry]:
    if isinstance(tree, dict):
        tree = _tree_of_specification(path, tree, report)
    if not isinstance(path, str) or not path or not (tree is None or isinstance(tree, str)):
        report.add(f"expected a path and the name of its tree, got {path!r}: {tree!r}")
        return
    for found in _expand(path, folder, report):
        yield FileEntry(found, tree or None)


def _tree_of_specification(path: Any, specification: Mapping[str, Any], report: _Report) -> Any:
    """Tree of coffea's long form of a file, which must not leave out entries."""
    steps, entries = specification.get("steps"), specification.get("num_entries")
    if steps is not None:
        edges = [edge for step in steps for edge in step]
        is_whole = bool(edges) and edges[0] == 0 and edges[1:-1:2] == edges[2::2] and edges[-1] == entries
        if not is_whole:
            report.add(f"{path}: 'steps' selects a part of the file, which is not supported; remove 'steps'")
    return specification.get("object_path")


def _expand(path: str, folder: Path, report: _Report) -> list[str]:
    if is_remote(path):
        return [path]
    absolute = str(folder / Path(path).expanduser())
    if Path(absolute).exists() or not glob.has_magic(path):
        return [os.path.normpath(absolute)]
    matches = glob.glob(absolute, recursive=True)  # noqa: PTH207  a Path takes no absolute pattern
    found = sorted(os.path.normpath(match) for match in matches)
    if not found:
        report.add(f"no file matches {absolute}")
    return found


def _metadata(given: Mapping[str, Any], folder: Path, report: _Report) -> dict[str, Any]:
    """Values of the known keys that are well formed; the others are reported."""
    _refuse_unknown(given, METADATA_KEYS, "metadata key", report)
    values: dict[str, Any] = {}
    for key in METADATA_KEYS:
        if given.get(key) is None:
            if key in given and key == "is_mc":
                report.add("metadata 'is_mc' is empty; say true for simulation, false for collision data")
            continue
        fault = _metadata_fault(key, given[key])
        if fault:
            report.add(f"metadata {key!r}: {fault}")
        elif key == "triggers":
            values[key] = _triggers(given[key], report)
        elif key == "lumi_mask":
            values[key] = given[key] if is_remote(given[key]) else str(folder / Path(given[key]).expanduser())
        else:
            values[key] = float(given[key]) if key in ("xsec", "lumi") else given[key]
    if values.get("is_mc") is False and "xsec" in values:
        report.add("metadata 'xsec' belongs to simulation, but is_mc is false; remove one of the two")
    return values


def _metadata_fault(key: str, value: Any) -> str | None:
    """What is wrong with a metadata value, if anything."""
    if key == "is_mc":
        return None if isinstance(value, bool) else f"expected true or false, got {value!r}"
    if key in ("xsec", "lumi"):
        return None if _is_positive(value) else f"expected a positive number, got {value!r}"
    if key == "triggers":
        return None if isinstance(value, list | dict) else f"expected a list or a mapping, got {value!r}"
    if not isinstance(value, str) or not value:
        return f"expected text, got {value!r}"
    choices = {"schema": FORMATS, "role": ROLES}.get(key)
    if choices is not None and value not in choices:
        return f"expected one of {', '.join(choices)}, got {value!r}{suggestion(value, choices)}"
    return None


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0


def _triggers(given: list[Any] | dict[Any, Any], report: _Report) -> tuple[Trigger, ...]:
    """Triggers of any of the accepted forms; see `Dataset`."""
    pairs = list(given.items()) if isinstance(given, dict) else [(None, item) for item in given]
    triggers = tuple(trigger for path, value in pairs if (trigger := _trigger(path, value, report)) is not None)
    paths = [trigger.path for trigger in triggers]
    for path in sorted({path for path in paths if paths.count(path) > 1}):
        report.add(f"metadata 'triggers': {path!r} is given twice; keep one of the two")
    return triggers


def _trigger(path: Any, value: Any, report: _Report) -> Trigger | None:
    if path is None and isinstance(value, str):
        return Trigger(value)
    if path is not None and (value is None or not isinstance(value, dict)):
        value = {"pt_avg_min": 0 if value is None else value}
    if not isinstance(value, dict):
        report.add(f"metadata 'triggers': expected a path, or path, pt_avg_min and prescale, got {value!r}")
        return None
    place = _Report(f"{report.place}: metadata 'triggers'", report.faults)
    _refuse_unknown(value, TRIGGER_KEYS, "key", place)
    path = value.get("path", path)
    thresholds = [value[key] for key in ("pt_avg_min", "threshold", "pt_avg") if key in value] or [0]
    prescale = value.get("prescale", 1)
    if not isinstance(path, str) or not path:
        place.add(f"expected the name of a path, got {path!r}")
    elif len(thresholds) > 1:
        place.add(f"{path}: give the threshold once, as 'pt_avg_min'")
    elif not (_is_positive(thresholds[0]) or (thresholds[0] == 0 and thresholds[0] is not False)):
        place.add(f"{path}: expected a threshold in GeV, 0 or above, got {thresholds[0]!r}")
    elif not _is_positive(prescale) or prescale < 1:
        place.add(f"{path}: expected a prescale of 1 or above, got {prescale!r}")
    else:
        return Trigger(path, float(thresholds[0]), float(prescale))
    return None


def _cross_section_faults(datasets: Sequence[Dataset]) -> Iterable[str]:
    """Simulation slices of one role are normalised all by cross section, or none."""
    for role in ROLES:
        slices = [dataset for dataset in datasets if dataset.is_mc and dataset.role == role]
        lacking = [dataset.name for dataset in slices if dataset.xsec is None]
        if lacking and len(lacking) < len(slices):
            yield f"metadata 'xsec' is given for other {role} simulation but not for {', '.join(lacking)}; all or none"
