"""ROOT files that stay readable from chunk to chunk, and the descriptions of their trees, kept once per process.

Reading the description of a file of some thousand branches takes a second, which coffea would do for every chunk.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from pathlib import Path
from queue import Queue
from typing import Any, Self

import numpy as np
import uproot
from uproot.source.chunk import Chunk, Source
from uproot.source.fsspec import FSSpecSource
from uproot.source.futures import TrivialFuture

from processors.fileset import is_remote

TREES_KEPT = 2
"""Descriptions of trees a process holds; chunks come in the order of files, and one may take 100 MB."""


def uproot_options() -> dict[str, Any]:
    """Keyword arguments of `uproot.open` for files that are read in chunks; they can be pickled."""
    return {"handler": KeptFile, "object_cache": kept_trees(), "array_cache": None}


class KeptFile(Source):
    """A file that can be read after the context it was opened in ended; for uproot's option `handler`.

    coffea opens and closes a file for each chunk, which would make a kept description of its tree useless. No file
    handle stays open between reads.
    """

    def __new__(cls, file_path: str, **options: Any) -> Any:
        """Pick the class for a path or URL."""
        return _RemoteFile(file_path, **options) if is_remote(file_path) else _LocalFile(file_path)


class _RemoteFile(FSSpecSource):
    """What uproot reads URLs with."""

    def __exit__(self, *exception: object) -> None:
        """Keep on; what may be held is let go with the object."""


class _LocalFile(Source):
    """A file of this machine, read in this thread.

    uproot asks another thread for each basket, also where there is nothing to wait for, which costs a tenth of all
    reading in chunks of 100 000 events.
    """

    def __init__(self, file_path: str) -> None:
        super().__init__()
        self._file_path = file_path
        self._num_bytes = Path(file_path).stat().st_size

    def chunk(self, start: int, stop: int) -> Chunk:
        """Bytes [start, stop)."""
        (chunk,) = self.chunks([(start, stop)], Queue())
        return chunk

    def chunks(self, ranges: list[tuple[int, int]], notifications: Queue[Chunk]) -> list[Chunk]:
        """Several ranges of bytes, which are there when this returns."""
        chunks = []
        with Path(self._file_path).open("rb", buffering=0) as file:
            for start, stop in ranges:
                file.seek(start)
                data = np.frombuffer(file.read(stop - start), np.uint8)
                chunks.append(Chunk(self, start, stop, TrivialFuture(data)))
                notifications.put(chunks[-1])
        self._num_requests += 1
        self._num_requested_chunks += len(ranges)
        self._num_requested_bytes += sum(stop - start for start, stop in ranges)
        return chunks

    @property
    def closed(self) -> bool:
        """Never: nothing is open."""
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """Nothing is open."""


class KeptTrees(uproot.cache.LRUCache):
    """Trees that were read; a copy sent to another process stands for the trees of that one."""

    def __setitem__(self, key: str, tree: Any) -> None:
        """Keep a tree; the fields of an RNTuple are told their children first."""
        if isinstance(tree, uproot.behaviors.RNTuple.RNTuple):
            _tell_children(tree)
        super().__setitem__(key, tree)

    def __reduce__(self) -> tuple[Any, ...]:
        """Nothing but the way to them travels."""
        return kept_trees, ()


@functools.cache
def kept_trees() -> KeptTrees:
    """The trees that this process keeps."""
    return KeptTrees(TREES_KEPT)


def _tell_children(ntuple: Any) -> None:
    """Give every field its children, as uproot does on demand.

    uproot 5.7 looks through all fields to find the children of one, and coffea asks for those of each: 10 s for the
    1900 fields of a NanoAOD file, against 0.2 s for all of them in one go.
    """
    fields, children = ntuple.all_fields, defaultdict(list)
    for i, record in enumerate(ntuple.field_records):
        if record.parent_field_id != i:
            children[record.parent_field_id].append(fields[i])
    for i in reversed(range(len(fields))):  # a field comes after its parent
        own = [[child] if not child.is_anonymous else child._fields for child in children[i]]
        fields[i]._fields = [child for group in own for child in group]
