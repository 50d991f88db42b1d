"""What `analysis.py train tagger` calls: checks before work begins, progress, and the words at the end."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

from models.training.quiet import silenced

with silenced():
    import keras
    import tensorflow as tf

from models.training.errors import RefusedError
from models.training.tagging import pipeline
from models.training.tagging.loop import CollapsedError
from models.training.tagging.samples import described

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from models.training.tagging.settings import TaggerSettings

__all__ = ["CollapsedError", "RefusedError", "run"]


def run(
    tables: Sequence[Path], settings: TaggerSettings, output: Path, *, scan: bool, resume: bool, overwrite: bool
) -> list[str]:
    """Train a tagger, or one for each strength of a scan; returns what the console tells at the end."""
    _check(settings, output, scan=scan, resume=resume, overwrite=overwrite)
    with contextlib.suppress(RuntimeError):  # TensorFlow has begun already
        tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.get_logger().setLevel("ERROR")
    table = pipeline.read_table(tables, settings)
    for line in described(table.sample):
        _tell(line)
    if overwrite:
        _remove(output)
    if scan:
        found = pipeline.scan(table, settings, output, resume=resume, tell=_tell)
        told = [line for name, numbers in found.items() for line in _summary(name, numbers, settings)]
        return [*told, f"Written: {output / pipeline.SCAN}.csv, with a plot and a folder for each strength beside it"]
    numbers = pipeline.train_tagger(table, settings, output, resume=resume, tell=_tell).numbers
    name = settings.decorrelation.method
    return [*_summary(name, numbers, settings), f"Written: {output / pipeline.ONNX}, with metrics and plots beside it"]


def _check(settings: TaggerSettings, output: Path, *, scan: bool, resume: bool, overwrite: bool) -> None:
    if keras.backend.backend() != "tensorflow":
        raise RefusedError(f"training needs the TensorFlow backend of Keras, got {keras.backend.backend()}")
    if scan and not settings.decorrelation.has_penalty:
        raise RefusedError(f"--scan needs a method with a strength, {settings.decorrelation.method} has none")
    if resume and overwrite:
        raise RefusedError("--overwrite starts anew and --resume goes on; give one of the two")
    above = next(folder for folder in (output, *output.absolute().parents) if folder.exists())
    if not above.is_dir():
        raise RefusedError(f"--output {output} cannot be made, {above} is a file; name another folder")
    if not output.is_dir() or not any(output.iterdir()):
        return
    is_ours = any(_is_training(folder) for folder in (output, *output.iterdir()))
    if not (resume or overwrite) or not is_ours:
        hint = "say --overwrite, --resume, or name another folder" if is_ours else "name another folder"
        raise RefusedError(f"--output {output} is not empty; {hint}")


def _is_training(folder: Path) -> bool:
    return folder.is_dir() and (folder / pipeline.SETTINGS).is_file()


def _remove(output: Path) -> None:
    """Remove what an earlier training has left, and nothing else."""
    if not output.is_dir():
        return
    for folder in (output, *(inner for inner in output.iterdir() if _is_training(inner))):
        for name in pipeline.OWN:
            (folder / name).unlink(missing_ok=True)


def _summary(name: str, numbers: Mapping[str, float], settings: TaggerSettings) -> list[str]:
    """What came out for test jets, and whether the target was reached."""
    strength = f", strength {numbers['strength']:.3g}" if settings.decorrelation.has_penalty else ""
    lines = [
        (
            f"{name}: R50 {numbers['rejection_0.5']:.2f} ± {numbers['rejection_0.5_error']:.2f}, "
            f"AUC {numbers['auc']:.4f}, 1/JSD50 {numbers['inverse_jsd']:.0f} ± {numbers['inverse_jsd_error']:.0f} "
            f"(random selections {numbers['ceiling']:.0f}){strength}"
        )
    ]
    target = settings.decorrelation.target_inverse_jsd
    if settings.decorrelation.is_constrained and numbers["jsd_sub"] - 2 * numbers["jsd_error"] > 1 / target:
        lines.append(
            f"{name}: the target was not reached: JSD {numbers['jsd_sub']:.2e} above random selections, asked for "
            f"{1 / target:.2e}; more steps (fit.steps) may help"
        )
    return lines


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
