"""The folder a run writes into: a new one each time, or one that the user names."""

from __future__ import annotations

import contextlib
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

from processors.errors import InputError

LATEST = "latest"
CHUNKS = ".chunks"
# What a run writes, and what --overwrite may therefore remove.
OWN = (
    "histograms.root",
    "histograms.zip",
    "measurement.json.gz",
    "corrections",
    "resolution.csv",
    "cutflow.csv",
    "run.json",
    "tagging.json",
    "plots",
    "report.html",
    "failed.json",
    "run.log",
    CHUNKS,
)
# One of these tells that a folder is the output of a run.
MARKS = (CHUNKS, "run.log", "run.json", "tagging.json")


def open_output(
    wanted: Path | None, *, overwrite: bool = False, resume: bool = False, base: Path = Path("output")
) -> Path:
    """The folder to write into, absolute; it exists, can be written, and holds nothing of an earlier run.

    Without a wish it is `base`/<UTC time>, or the latest one to `resume`. With `resume` finished chunks stay.

    Raises
    ------
    InputError
        Where a folder that was named has something in it and neither `overwrite` nor `resume` was said.
    """
    if overwrite and resume:
        raise InputError("--overwrite starts anew and --resume goes on; give one of the two")
    folder = (_new(base, resume=resume) if wanted is None else wanted).absolute()
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output {folder} is a file; name a folder")
    is_used = folder.is_dir() and any(folder.iterdir())
    if is_used and not (overwrite or resume):
        raise InputError(f"--output {folder} is not empty; say --overwrite, --resume, or name another folder")
    if is_used and not any((folder / mark).exists() for mark in MARKS):
        raise InputError(f"--output {folder} has something else in it than a run; name another folder")
    _make(folder)
    _clear(folder, keep_chunks=resume)
    _make(folder / CHUNKS)
    if wanted is None:
        _link(base / LATEST, folder)
    return folder


def _new(base: Path, *, resume: bool) -> Path:
    if resume:
        if not (base / LATEST).is_dir():
            raise InputError(f"--resume found no {base / LATEST}; name the folder of the unfinished run with --output")
        return (base / LATEST).resolve()
    stem = datetime.now(UTC).strftime("%Y-%m-%dT%H%M%SZ")
    names = (stem, *(f"{stem}-{i}" for i in range(2, 100)))
    return next(base / name for name in names if not (base / name).exists())


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the output folder {folder}: {error.strerror}") from None
    if not os.access(folder, os.W_OK):
        raise InputError(f"cannot write into the output folder {folder}; name another one with --output")


def _clear(folder: Path, *, keep_chunks: bool) -> None:
    for name in OWN:
        path = folder / name
        if name == CHUNKS and keep_chunks:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _link(link: Path, folder: Path) -> None:
    """Point `link` at `folder`, in one step; file systems without links go without."""
    unfinished = link.with_name(f".{LATEST}-{os.getpid()}")
    with contextlib.suppress(OSError):
        unfinished.unlink(missing_ok=True)
        unfinished.symlink_to(folder.name, target_is_directory=True)
        unfinished.replace(link)


def remove_chunks(folder: Path) -> None:
    """Remove the finished chunks of a run that needs them no more."""
    shutil.rmtree(folder / CHUNKS, ignore_errors=True)
