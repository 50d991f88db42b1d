"""What `analysis.py train calibration` calls: checks before work begins, progress, and the words at the end."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

from models.training.quiet import silenced

with silenced():
    import keras
    import tensorflow as tf

from models.training import pipeline
from models.training.assessment import eta_rows, table_rows
from models.training.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from models.training.assessment import Assessment
    from models.training.settings import TrainingSettings

__all__ = ["RefusedError", "run"]


def run(
    tables: Sequence[Path],
    test: Sequence[Path],
    settings: TrainingSettings,
    output: Path,
    *,
    only: Sequence[str] | None,
    resume: bool,
    overwrite: bool,
) -> list[str]:
    """Train, or make the study if `only` is not None; returns what the console tells at the end."""
    _check(settings, output, only, resume=resume, overwrite=overwrite)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.get_logger().setLevel("ERROR")
    try:
        given = pipeline.read_tables(tables, test)
    except (ValueError, FileNotFoundError) as error:
        raise RefusedError(str(error)) from error
    for line in _described(given):
        _tell(line)
    if given.test is not None:
        settings = replace(settings, fit=replace(settings.fit, test=0.0))
    if only is not None:
        found = pipeline.study(given, settings, output, only=only, resume=resume, tell=_tell)
    else:
        found = pipeline.train_calibration(given, settings, output, resume=resume, tell=_tell)
    _show(found, settings)
    what = output / "study.md" if only is not None else output / pipeline.ONNX
    return [f"Written: {what}, with metrics and plots beside it"]


def _check(
    settings: TrainingSettings, output: Path, only: Sequence[str] | None, *, resume: bool, overwrite: bool
) -> None:
    if keras.backend.backend() != "tensorflow":
        raise RefusedError(f"training needs the TensorFlow backend of Keras, got {keras.backend.backend()}")
    known = [variant.name for variant in pipeline.variants(settings)]
    unknown = [name for name in only or () if name not in known]
    if unknown:
        raise RefusedError(f"no variant {unknown[0]!r}; there are {', '.join(known)}")
    if resume and overwrite:
        raise RefusedError("--overwrite starts anew and --resume goes on; give one of the two")
    if not output.is_dir() or not any(output.iterdir()):
        return
    is_ours = any((output / name).exists() for name in (pipeline.SETTINGS, "study.json", "checkpoint.npz")) or any(
        (inner / pipeline.SETTINGS).is_file() for inner in output.iterdir()
    )
    if not (resume or overwrite) or not is_ours:
        hint = "say --overwrite, --resume, or name another folder" if is_ours else "name another folder"
        raise RefusedError(f"--output {output} is not empty; {hint}")
    if overwrite:
        for folder in (output, *(inner for inner in output.iterdir() if inner.is_dir())):
            for name in pipeline.OWN:
                (folder / name).unlink(missing_ok=True)


def _described(given: pipeline.Tables) -> list[str]:
    table = given.training
    count = int(table.event["is_mc"].sum())
    lines = [f"training table: {count:,} events of simulation, {len(table) - count:,} of data"]
    if given.test is not None:
        lines.append(f"test table: {len(given.test):,} events")
    return lines


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _show(found: Assessment, settings: TrainingSettings) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=220 if not sys.stdout.isatty() else None)
    titles = ("Events not trained on", "Gain in resolution by |eta| of the truth jet")
    tables = (table_rows(found), eta_rows(found, settings.evaluation))
    for title, (header, rows) in zip(titles, tables, strict=True):
        table = Table(*header, title=title)
        for row in rows:
            table.add_row(*row)
        console.print(table)
