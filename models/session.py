"""An ONNX file as a function of arrays.

An `OnnxModel` is only a path, so it can be pickled and sent to workers; the session behind it is opened once per
process.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.features import FloatArray

THREADS = "JETBALANCE_THREADS"

# Rows at a time: the activations of a small network stay in a second-level cache.
BATCH_ROWS = 1024


@dataclass(frozen=True, slots=True)
class OnnxModel:
    """A network with one input (n, n_features) float32; calls give its first output.

    The environment variable JETBALANCE_THREADS sets the threads of a session, 1 if unset.
    """

    path: str

    def __call__(self, matrix: NDArray[Any]) -> FloatArray:
        """First output for each row, (n, n_outputs) float32, for any n including 0."""
        session = self._session()
        rows = np.ascontiguousarray(matrix, np.float32)
        _check_width(self.path, session, rows)
        feed, output = session.get_inputs()[0].name, session.get_outputs()[0].name
        parts = [
            session.run([output], {feed: rows[start : start + BATCH_ROWS]})[0]
            for start in range(0, len(rows), BATCH_ROWS)
        ]
        if not parts:
            return np.empty((0, self.n_outputs), np.float32)
        outputs = np.concatenate([part.reshape(len(part), -1) for part in parts])
        return outputs.astype(np.float32, copy=False)

    @property
    def n_features(self) -> int | None:
        """Columns of the input; None where the network leaves it open."""
        return _columns(self._session().get_inputs()[0].shape)

    @property
    def n_outputs(self) -> int:
        """Columns of the output; 1 for an output of shape (n,) or an open one."""
        return _columns(self._session().get_outputs()[0].shape) or 1

    def _session(self) -> Any:
        if not Path(self.path).is_file():
            raise FileNotFoundError(f"the model {self.path} does not exist; give the path of an .onnx file")
        return _opened(self.path, Path(self.path).stat().st_mtime_ns, int(os.environ.get(THREADS) or 1), os.getpid())


@cache
def _opened(path: str, modified: int, threads: int, process: int) -> Any:  # noqa: ARG001  threads die in a fork
    import onnxruntime  # takes most of a second

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the exceptions of onnxruntime share no base class
        raise ValueError(f"{path} is not an ONNX network: {(str(error).splitlines() or [''])[0]}") from error


def _check_width(path: str, session: Any, rows: FloatArray) -> None:
    width = _columns(session.get_inputs()[0].shape)
    if rows.ndim != 2 or (width is not None and rows.shape[1] != width):
        raise ValueError(f"{path} takes (n, {width or 'any'}), got an array of shape {rows.shape}")


def _columns(shape: list[Any]) -> int | None:
    return shape[1] if len(shape) > 1 and isinstance(shape[1], int) else None
