"""A look at every file before work begins: what is in it, and everything that is wrong with it at once.

Nothing of the events is read but the description of the tree, and the generator's sums where NanoAOD keeps them.
"""

from __future__ import annotations

import struct
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

import numpy as np
import uproot

from processors.errors import InputError, nearest, raise_if_any, suggestion
from processors.event_filter import sharing_threshold
from processors.fileset import is_remote
from processors.formats import EVENT_ID, LAYOUTS, branch_names, dimensions, find_columns, stores_triggers

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from processors.fileset import Dataset
    from processors.formats import FileColumns, FormatName, ReadRequest

TREE_CLASSES: Mapping[str, Literal["TTree", "RNTuple"]] = {
    "TTree": "TTree",
    "TNtuple": "TTree",
    "TNtupleD": "TTree",
    "ROOT::RNTuple": "RNTuple",
    "ROOT::Experimental::RNTuple": "RNTuple",
}
USUAL_TREES = {tree for layout in LAYOUTS.values() for tree in layout.trees}
BOOKKEEPING = ("Runs", "LuminosityBlocks", "MetaData", "ParameterSets", "POOLCollectionTree", "MetaDataHdr")
"""Trees that never hold events."""
NO_UUID = str(UUID(int=0))
THREADS = 8


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What a file holds.

    Attributes
    ----------
    dataset, path, tree
        Where it belongs, where it is, and the tree of events in it.
    format, kind
        Format, and how it is stored.
    entries
        Events; zero is fine.
    uuid, size, modified_ns
        What tells that it is still the same file; size and time are zero for a remote one.
    columns
        The branches that will be read.
    missing_triggers
        Trigger paths asked for that the file lacks, with the branches of the nearest names.
    generated_events, sum_of_weights
        Before any selection, from NanoAOD's tree `Runs`; None where there is none, and in data.
    """

    dataset: str
    path: str
    tree: str
    format: FormatName
    kind: Literal["TTree", "RNTuple"]
    entries: int
    uuid: str
    size: int
    modified_ns: int
    columns: FileColumns
    missing_triggers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    generated_events: int | None = None
    sum_of_weights: float | None = None


def preflight(
    datasets: Sequence[Dataset], request: Callable[[Dataset], ReadRequest], timeout: float = 60.0
) -> tuple[FileFacts, ...]:
    """Facts of every file, in the order of the datasets; `request` tells what will be read of a dataset.

    Raises
    ------
    InputError
        With every fault in one line: files that are missing, empty, damaged, not ROOT, or there twice; trees and
        branches that are missing or of the wrong type.
    """
    jobs = [(dataset, entry.path, entry.tree) for dataset in datasets for entry in dataset.files]

    def look(job: tuple[Dataset, str, str | None]) -> FileFacts | list[str]:
        dataset, path, tree = job
        try:
            return look_at(dataset, path, tree, request(dataset), timeout)
        except InputError as error:
            return [f"{dataset.name}: {path}: {fault}" for fault in error.faults]

    with ThreadPoolExecutor(max_workers=min(THREADS, max(1, len(jobs)))) as pool:
        seen = list(pool.map(look, jobs))
    facts = tuple(found for found in seen if isinstance(found, FileFacts))
    faults = [fault for found in seen if isinstance(found, list) for fault in found]
    raise_if_any([*faults, *_listed_twice(datasets), *_copies(datasets, facts), *_absent_triggers(datasets, facts)])
    return facts


def look_at(dataset: Dataset, path: str, tree: str | None, request: ReadRequest, timeout: float = 60.0) -> FileFacts:
    """Facts of one file; an `InputError` without its name if there is something wrong with it."""
    size, modified = (0, 0) if is_remote(path) else _size_and_time(Path(path))
    with _opened(path, timeout) as file:
        trees = {name: TREE_CLASSES[kind] for name, kind in _classes(file).items() if kind in TREE_CLASSES}
        name = choose_tree(trees, tree, _classes(file))
        events = _described(file, name)
        names = branch_names(events)
        columns = find_columns(names, request)
        raise_if_any([*_wrong_types(events, columns), *_needs(dataset, columns)])
        count, weight = _generator_sums(file, trees) if dataset.is_mc else (None, None)
        missing = [trigger for trigger in request.triggers if trigger not in columns.triggers]
        return FileFacts(
            dataset=dataset.name,
            path=path,
            tree=name,
            format=columns.format,
            kind=trees[name],
            entries=int(events.num_entries),
            uuid=str(file.file.uuid),
            size=size,
            modified_ns=modified,
            columns=columns,
            missing_triggers={trigger: tuple(nearest(trigger, names)) for trigger in missing},
            generated_events=count,
            sum_of_weights=weight,
        )


def choose_tree(trees: Collection[str], wanted: str | None, names: Iterable[str] = ()) -> str:
    """The tree of events among `trees`, folders included: the one `wanted`, else the usual one, else the only one.

    `names` are all things in the file; they tell what it has in place of a tree.
    """
    if not trees:
        held = ", ".join(list(names)[:3])
        raise InputError(f"holds no tree{f', only {held}' if held else ' and nothing else'}")
    if wanted is not None:
        plain = wanted.strip("/").partition(";")[0]
        if plain in trees:
            return plain
        raise InputError(f"no tree {wanted!r}{suggestion(wanted, trees)}" + _choice(trees, nearest(wanted, trees)))
    usual = [name for name in trees if name.rpartition("/")[2] in USUAL_TREES]
    candidates = usual or [name for name in trees if name.rpartition("/")[2] not in BOOKKEEPING]
    if len(candidates) != 1:
        raise InputError(f"which tree? Name it in the fileset: {', '.join(candidates or trees)}")
    return candidates[0]


def _choice(trees: Collection[str], told: Sequence[str]) -> str:
    return "" if told else f"; it has {', '.join(list(trees)[:5])}"


def _size_and_time(path: Path) -> tuple[int, int]:
    """Size in bytes and time in ns of a local file that is whole, as far as its first bytes tell."""
    try:
        status = path.stat()
        if path.is_dir():
            raise InputError("is a folder; name the files in it, or give a pattern such as folder/*.root")
        with path.open("rb") as file:
            head = file.read(20)
    except FileNotFoundError:
        folder = path.parent
        others = [item.name for item in folder.iterdir() if item.suffix == path.suffix] if folder.is_dir() else []
        raise InputError(f"no such file{suggestion(path.name, others)}") from None
    except PermissionError:
        raise InputError("no permission to read it") from None
    except OSError as error:
        raise InputError(f"cannot be read ({_line(error)})") from None
    _check_head(head, status.st_size)
    return status.st_size, status.st_mtime_ns


def _check_head(head: bytes, size: int) -> None:
    """Refuse what is no ROOT file, or ends before the end its header tells."""
    if size == 0:
        raise InputError("is empty (0 bytes)")
    if len(head) < 20 or head[:4] != b"root":
        raise InputError(f"is not a ROOT file (it starts with {head[:4]!r}, not b'root')")
    (version,) = struct.unpack(">i", head[4:8])
    (end,) = struct.unpack(">q", head[12:20]) if version >= 1_000_000 else struct.unpack(">i", head[12:16])
    if size < end:
        raise InputError(f"is truncated: {size} of {end} bytes are there; copy it again")


def _opened(path: str, timeout: float) -> Any:
    try:
        return uproot.open({path: None}, object_cache=None, array_cache=None, timeout=timeout)
    except FileNotFoundError:
        raise InputError("no such file") from None
    except PermissionError:
        raise InputError("no permission to read it") from None
    except Exception as error:  # noqa: BLE001  whatever a damaged file provokes
        raise InputError(f"cannot be opened ({_line(error)})") from None


def _classes(file: Any) -> dict[str, str]:
    try:
        return dict(file.classnames(cycle=False))
    except Exception as error:  # noqa: BLE001
        raise InputError(f"its list of contents cannot be read ({_line(error)})") from None


def _described(file: Any, tree: str) -> Any:
    try:
        return file[tree]
    except Exception as error:  # noqa: BLE001
        raise InputError(f"the tree {tree!r} cannot be read ({_line(error)})") from None


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _wrong_types(events: Any, columns: FileColumns) -> Iterator[str]:
    """Branches that do not hold numbers, or not as many per event as they should."""
    words = {0: "one number per event", 1: "a list of numbers per event", -1: "one or several numbers per event"}
    for branch, expected in columns.branches().items():
        typename = events[branch].typename
        found = dimensions(typename)
        if found is None or (found != expected and not (expected == -1 and found in (0, 1))):
            yield f"branch {branch!r} is of type {typename}, expected {words[expected]}"


def _needs(dataset: Dataset, columns: FileColumns) -> Iterator[str]:
    lacking = [column.replace("_", " ") for column in EVENT_ID if column not in columns.event]
    if dataset.lumi_mask is not None and not dataset.is_mc and lacking:
        yield (
            f"the luminosity mask {dataset.lumi_mask} needs run, luminosity block and event, but the file lacks "
            f"{' and '.join(lacking)}; remove 'lumi_mask'"
        )


def _generator_sums(file: Any, trees: Collection[str]) -> tuple[int | None, float | None]:
    """Number and sum of weights of generated events; older NanoAOD writes the names with an underscore at the end."""
    if "Runs" not in trees:
        return None, None
    runs = _described(file, "Runs")
    names = branch_names(runs)

    def total(name: str) -> Any:
        branch = next((given for given in (name, f"{name}_") if given in names), None)
        return None if branch is None else np.sum(runs[branch].array(library="np"))

    count, weight = total("genEventCount"), total("genEventSumw")
    return None if count is None else int(count), None if weight is None else float(weight)


def _real(path: str) -> str:
    return path if is_remote(path) else str(Path(path).resolve())


def _kind_of(dataset: Dataset) -> tuple[bool, str]:
    """Datasets between which a file may not be shared; data made of simulation may share files with it."""
    return dataset.is_mc, dataset.role


def _listed_twice(datasets: Sequence[Dataset]) -> Iterator[str]:
    """Paths that lead to one file."""
    seen: dict[tuple[object, str], str] = {}
    for dataset in datasets:
        for entry in dataset.files:
            real = _real(entry.path)
            place = f"{dataset.name}: {entry.path}"
            if (_kind_of(dataset), real) in seen:
                yield f"{place}: is listed already as {seen[_kind_of(dataset), real]}; keep one of the two"
            seen.setdefault((_kind_of(dataset), real), place)


def _copies(datasets: Sequence[Dataset], facts: Sequence[FileFacts]) -> Iterator[str]:
    """Files that are copies of another one, by the identity ROOT gives a file when it is made."""
    kinds = {dataset.name: _kind_of(dataset) for dataset in datasets}
    seen: dict[tuple[object, str], FileFacts] = {}
    for fact in facts:
        other = seen.setdefault((kinds[fact.dataset], fact.uuid), fact)
        if fact.uuid != NO_UUID and _real(fact.path) != _real(other.path):
            place = f"{other.dataset}: {other.path}"
            yield f"{fact.dataset}: {fact.path}: is a copy of {place} (same UUID); keep one of the two"


def _absent_triggers(datasets: Sequence[Dataset], facts: Sequence[FileFacts]) -> Iterator[str]:
    """Trigger paths that no file of their dataset has; menus change, so one file may lack what others have."""
    for dataset in datasets:
        found = [fact for fact in facts if fact.dataset == dataset.name]
        without = sorted({fact.format for fact in found if not stores_triggers(fact.format)})
        if dataset.triggers and without:
            yield f"{dataset.name}: trigger decisions of {' and '.join(without)} are not read; remove 'triggers'"
            continue
        for trigger in dataset.triggers:
            lacking = [fact for fact in found if trigger.path in fact.missing_triggers]
            if lacking and len(lacking) == len(found):
                near = lacking[0].missing_triggers[trigger.path]
                hint = f"; nearest: {', '.join(near)}" if near else ""
                yield f"{dataset.name}: no file has a branch for the trigger {trigger.path!r}{hint}"
            elif lacking and len(sharing_threshold(trigger, dataset.triggers)) > 1:
                yield (
                    f"{dataset.name}: {lacking[0].path}: no branch for the trigger {trigger.path!r}, whose prescale "
                    "counts together with that of another one; give files with this menu a dataset of their own"
                )
