"""Where a training is, as a file: an .npz of plain arrays in groups, and what else is to be known as JSON."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from models.training.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

FILE = "checkpoint.npz"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Arrays by group, and numbers and lists that JSON can hold."""

    groups: Mapping[str, Sequence[Any]]
    told: Mapping[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write it; it takes the place of the last one when it is whole."""
        arrays: dict[str, Any] = {
            f"{name}/{i}": np.asarray(value) for name, each in self.groups.items() for i, value in enumerate(each)
        }
        unfinished = path.with_name(f"{path.name}.part")
        with unfinished.open("wb") as file:
            np.savez(file, told=np.array(json.dumps(self.told)), **arrays)
        unfinished.replace(path)

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Read one.

        Raises
        ------
        RefusedError
            Where it is cut off or no checkpoint.
        """
        if not zipfile.is_zipfile(path):
            raise _refused(path, "it is cut off")
        try:
            with np.load(path, allow_pickle=False) as arrays:
                told = json.loads(str(arrays["told"]))
                groups: dict[str, list[Any]] = {}
                for key in sorted((each for each in arrays.files if "/" in each), key=_place):
                    groups.setdefault(key.rsplit("/", 1)[0], []).append(arrays[key])
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise _refused(path, error) from error
        return cls(groups, told)

    def restore(self, variables: Mapping[str, Sequence[Any]], path: Path) -> None:
        """Give variables the values of the groups of their names; `path` is named in errors.

        Raises
        ------
        RefusedError
            Where there are fewer, or others, than variables.
        """
        for name, targets in variables.items():
            values = self.groups.get(name, ())
            if [tuple(each.shape) for each in values] != [tuple(each.shape) for each in targets]:
                raise _refused(path, f"{name} has other shapes")
            for target, value in zip(targets, values, strict=True):
                target.assign(value)


def _place(key: str) -> tuple[str, int]:
    name, number = key.rsplit("/", 1)
    return name, int(number)


def _refused(path: Path, reason: object) -> RefusedError:
    return RefusedError(f"{path} is no checkpoint of this training ({reason}); start anew with --overwrite")
