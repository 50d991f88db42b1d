"""Truth events in chunks on disk: a chunk that is there is complete, so a killed job goes on where it stopped."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from samples.errors import SampleError
from samples.truth import TruthEvents, first_events

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from samples.streams import Stream


@dataclass(frozen=True, slots=True)
class ChunkTask:
    """The first `n_events` events of one chunk of a stream."""

    stream: Stream
    chunk: int
    n_events: int


@dataclass(frozen=True, slots=True)
class ChunkFolder:
    """A folder of chunks that belong to one job."""

    path: Path

    def open(self, job: Mapping[str, object]) -> None:
        """Create the folder, or check that what is in it belongs to the same job."""
        self.path.mkdir(parents=True, exist_ok=True)
        card = self.path / "job.json"
        wanted = json.loads(json.dumps(job))
        if card.exists():
            found = json.loads(card.read_text())
            different = sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key))
            if different:
                key = different[0]
                message = (
                    f"{self.path} holds an unfinished job with {key} = {found.get(key)!r} instead of "
                    f"{wanted.get(key)!r}; use its arguments to resume it, or another output folder"
                )
                raise SampleError(message)
        else:
            _write_atomically(card, json.dumps(wanted).encode())

    def has(self, task: ChunkTask, length_of: str = "weight") -> bool:
        """Whether the chunk is there with at least the events asked for; `length_of` names a column of events."""
        path = self.file(task)
        if not path.exists():
            return False
        with np.load(path) as content:
            return len(content[length_of]) >= task.n_events

    def save(self, task: ChunkTask, events: TruthEvents) -> None:
        """Write a chunk; readers see all of it or nothing."""
        self.save_arrays(task, {name: _compact(column) for name, column in asdict(events).items()})

    def save_arrays(self, task: ChunkTask, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write a chunk of arrays as they are; readers see all of it or nothing."""
        path = self.file(task)
        partial = path.with_name(f".{path.name}.{os.getpid()}.part")
        with partial.open("wb") as stream:
            columns: dict[str, Any] = dict(arrays)
            np.savez_compressed(stream, **columns)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)

    def load_arrays(self, task: ChunkTask) -> dict[str, NDArray[Any]]:
        """Read the arrays of a chunk."""
        with np.load(self.file(task)) as content:
            return {name: content[name] for name in content.files}

    def load(self, task: ChunkTask) -> TruthEvents:
        """Read the events of a chunk."""
        with np.load(self.file(task)) as content:
            columns = {
                field.name: content[field.name].astype(np.int64 if field.name == "offsets" else np.float64)
                for field in fields(TruthEvents)
            }
        return first_events(TruthEvents(**columns), task.n_events)

    def file(self, task: ChunkTask) -> Path:
        """Return where a chunk is stored."""
        return self.path / f"{task.stream.name.lower()}-{task.chunk:06d}.npz"


def _compact(column: NDArray[Any]) -> NDArray[Any]:
    return column.astype(np.int32 if column.dtype.kind == "i" else np.float32)


def _write_atomically(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.part")
    partial.write_bytes(content)
    partial.replace(path)
