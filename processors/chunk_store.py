"""Finished chunks on disk, so that a run can go on after a crash with exactly what it would have had.

A chunk is an .npz file under a name made of everything its content depends on: the fingerprint of code, settings and
corrections, the identity of the file, and the range of entries. It appears under that name only when it is complete.
Beside the chunks lies a mark for each one that some worker has begun, which tells whom a killed worker was working for.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from processors.histograms import Filled

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet
    from pathlib import Path

# Chunks are not worth a full disk: below this they are no longer kept.
RESERVED_BYTES = 1 << 30
FINISHED, UNFINISHED, BEGUN, LOST = ".npz", ".part", ".begun", ".lost"


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """What tells that a file is still the same one; size and time are zero for a remote file."""

    path: str
    uuid: str
    size: int = 0
    modified_ns: int = 0


@dataclass(frozen=True, slots=True)
class ChunkStore:
    """A folder of finished chunks made under one `fingerprint`; small, and the same in every process."""

    folder: Path
    fingerprint: str

    def key(self, dataset: str, file: FileIdentity, tree: str, entries: tuple[int, int]) -> str:
        """Name of a chunk, 32 hexadecimal digits."""
        parts = (self.fingerprint, dataset, file.path, file.uuid, file.size, file.modified_ns, tree, *entries)
        return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()

    def begin(self, key: str) -> None:
        """Mark a chunk as being worked on."""
        self._touch(key, BEGUN)

    def lose(self, key: str) -> None:
        """Mark a chunk as given up."""
        self._touch(key, LOST)
        (self.folder / f"{key}{BEGUN}").unlink(missing_ok=True)

    def save(self, key: str, filled: Filled) -> bool:
        """Keep a finished chunk; False where the folder cannot be written or the disk is nearly full.

        A run does not depend on it, so nothing is raised.
        """
        unfinished = self.folder / f"{key}-{os.getpid()}{UNFINISHED}"
        try:
            arrays = filled.to_arrays()
            needed = sum(array.nbytes for array in arrays.values())
            if shutil.disk_usage(self.folder).free < needed + RESERVED_BYTES:
                return False
            with unfinished.open("wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]  # keys are not options
            unfinished.replace(self.folder / f"{key}{FINISHED}")
            (self.folder / f"{key}{BEGUN}").unlink(missing_ok=True)
        except OSError:
            return False
        return True

    def load(self, key: str) -> Filled | None:
        """A kept chunk, or None if it is not there or was damaged; a checksum over every array is compared."""
        try:
            with np.load(self.folder / f"{key}{FINISHED}", allow_pickle=False) as arrays:
                return Filled.from_arrays({name: arrays[name] for name in arrays.files})
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def finished(self) -> AbstractSet[str]:
        """Keys of all kept chunks, of other fingerprints too."""
        return self._keys(FINISHED)

    def begun(self) -> AbstractSet[str]:
        """Keys that some worker is working on, or was when it was killed."""
        return self._keys(BEGUN)

    def ended(self) -> AbstractSet[str]:
        """Keys of all chunks that need no more work: kept or given up."""
        return self._keys(FINISHED) | self._keys(LOST)

    def forget_marks(self) -> None:
        """Remove what a killed run left unfinished."""
        for path in self.folder.iterdir():
            if path.suffix in {UNFINISHED, BEGUN, LOST}:
                path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the folder with everything in it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _touch(self, key: str, ending: str) -> None:
        try:
            (self.folder / f"{key}{ending}").touch()
        except OSError:  # a remote worker may not share the disk
            return

    def _keys(self, ending: str) -> AbstractSet[str]:
        try:
            return {path.stem for path in self.folder.iterdir() if path.suffix == ending}
        except OSError:
            return frozenset()
