"""Tables made chunk by chunk: each chunk writes a part, and the parts are put together at the end.

Parts lie in the folder of finished chunks beside the table, so that a table that was interrupted goes on from there.
Workers on other machines have to share the disk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from processors.chunk_store import ChunkStore
from processors.errors import InputError
from processors.execution import execute
from processors.filling import fingerprint

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from coffea.processor import ProcessorABC

    from processors.execution import Execution, Outcome
    from processors.filling import Job


def part_store(path: Path, content: Mapping[str, Any]) -> ChunkStore:
    """Where the parts of the table at `path` lie, in `<name>.parts`; `content` is all that they depend on."""
    folder = path.with_name(f"{path.name}.parts")
    folder.mkdir(parents=True, exist_ok=True)
    return ChunkStore(folder, fingerprint(content))


def part_path(folder: Path, key: str) -> Path:
    """Where the part of a chunk lies."""
    return folder / f"{key}.parquet"


def write_parts(
    job: Job, processor: ProcessorABC, execution: Execution, store: ChunkStore
) -> tuple[list[Path], Outcome]:
    """Paths of all parts in the order of datasets, files and entries, and the outcome of the run.

    `processor` writes the part of a chunk to `part_path(store.folder, events.metadata["chunk_key"])`.
    """
    outcome = execute(job.files, processor, execution, store, title="table")
    lost = {(chunk.file, chunk.start) for chunk in outcome.lost}
    kept = [item for item in outcome.planned if (item.filename, item.entrystart) not in lost]
    if not kept:
        raise InputError(f"no input could be read: {outcome.lost[0].reason if outcome.lost else 'there is none'}")
    return [part_path(store.folder, str(item.usermeta["chunk_key"])) for item in kept], outcome


def lost_lines(outcome: Outcome) -> list[str]:
    """A line for each chunk that could not be read."""
    return [f"{chunk.file}, entries {chunk.start} to {chunk.stop}: {chunk.reason}" for chunk in outcome.lost]
