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

from models.shipped import shipped_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from models.features import FloatArray, RaggedConstituents

THREADS = "JETBALANCE_THREADS"

# Rows at a time: the activations of a small network stay in a second-level cache.
BATCH_ROWS = 1024
# Constituents at a time, zeros included: the activations of 64 units are two megabytes, and what each step of a network
# costs by itself is shared by more jets.
BATCH_CONSTITUENTS = 8192


@dataclass(frozen=True, slots=True)
class Signature:
    """Inputs and outputs of a network: names, shapes (None for an open length) and types, in order."""

    inputs: tuple[tuple[str, tuple[int | None, ...], str], ...]
    outputs: tuple[tuple[str, tuple[int | None, ...], str], ...]

    def __str__(self) -> str:
        """Both in words."""
        return f"{_words(self.inputs)} -> {_words(self.outputs)}"


@dataclass(frozen=True, slots=True)
class OnnxModel:
    """A network with an input (n, n_features) float32; calls give its first output.

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

    def with_constituents(
        self,
        matrix: FloatArray,
        constituents: RaggedConstituents,
        names: tuple[str, str, str | None],
        length: int | None = None,
    ) -> FloatArray:
        """Output for each jet, (n, n_outputs) float32, from columns (n, n_features) and constituents of n jets.

        `names` are those of the jet input, the constituent input and the output (None for the first). Jets with about
        as many constituents are given together, so that few zeros are computed, in batches whose activations fit a
        second-level cache. With a `length` each jet is filled up to it.
        """
        session = self._session()
        jets, parts, output = names
        wanted = output or session.get_outputs()[0].name
        result = np.empty((len(matrix), self.n_outputs_of(output)), np.float32)
        for chosen, padded in _padded(constituents, length):
            feed = {jets: np.ascontiguousarray(matrix[chosen], np.float32), parts: padded}
            result[chosen] = session.run([wanted], feed)[0].reshape(len(chosen), -1)
        return result

    def output_of(self, feeds: Mapping[str, NDArray[Any]], output: str | None = None) -> FloatArray:
        """One output, None for the first, for n >= 1 rows of all inputs given together, (n, n_outputs) float32."""
        session = self._session()
        wanted = output or session.get_outputs()[0].name
        rows = session.run([wanted], dict(feeds))[0]
        result: FloatArray = np.asarray(rows, np.float32).reshape(len(next(iter(feeds.values()))), -1)
        return result

    @property
    def signature(self) -> Signature:
        """Inputs and outputs."""
        session = self._session()
        return Signature(_described(session.get_inputs()), _described(session.get_outputs()))

    @property
    def metadata(self) -> dict[str, str]:
        """What the file says of itself."""
        return dict(self._session().get_modelmeta().custom_metadata_map)

    @property
    def n_features(self) -> int | None:
        """Columns of the input; None where the network leaves it open."""
        return _columns(self._session().get_inputs()[0].shape)

    @property
    def n_outputs(self) -> int:
        """Columns of the output; 1 for an output of shape (n,) or an open one."""
        return self.n_outputs_of(None)

    def n_outputs_of(self, name: str | None) -> int:
        """Columns of an output, None for the first; 1 for one of shape (n,) or an open one."""
        outputs = self._session().get_outputs()
        chosen = next((each for each in outputs if each.name == name), outputs[0])
        return _columns(chosen.shape) or 1

    def check_exists(self) -> None:
        """Raise a `FileNotFoundError` that names the networks that ship where there is no such file."""
        if not Path(self.path).is_file():
            names = ", ".join(shipped_names())
            raise FileNotFoundError(
                f"the model {self.path} does not exist; give the path of an .onnx file or the name of one that ships: "
                f"{names}"
            )

    def _session(self) -> Any:
        self.check_exists()
        return _opened(self.path, Path(self.path).stat().st_mtime_ns, int(os.environ.get(THREADS) or 1), os.getpid())


def batches(
    order: NDArray[np.intp], length_of: Callable[[int], int], most: int = BATCH_CONSTITUENTS
) -> Iterator[NDArray[np.intp]]:
    """Indices of jets that are given together, in an order in which their lengths do not fall.

    A batch, filled up to its longest jet, has at most `BATCH_CONSTITUENTS` and `most` jets, or is one jet alone.
    """
    start = 0
    while start < len(order):
        shortest = max(length_of(order[start]), 1)
        stop = min(start + max(min(BATCH_CONSTITUENTS // shortest, most), 1), len(order))
        while stop - start > 1 and (stop - start) * length_of(order[stop - 1]) > BATCH_CONSTITUENTS:
            stop = start + max((stop - start) * 7 // 8, 1)
        yield order[start:stop]
        start = stop


def filled_up(
    constituents: RaggedConstituents, rows: NDArray[Any], chosen: NDArray[np.intp], length: int
) -> NDArray[Any]:
    """Rows of the constituents of some jets, (n, length, n_columns), as many as they have; the last row fills up."""
    places = constituents.offsets[chosen, np.newaxis] + np.arange(length)
    places[places >= constituents.offsets[chosen + 1, np.newaxis]] = len(rows) - 1
    return np.take(rows, places, axis=0)


def _padded(
    constituents: RaggedConstituents, length: int | None
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
    """Indices of jets and their constituents with zeros, from the jets with fewest constituents on."""
    counts, values = constituents.counts, constituents.values
    order = np.argsort(counts, kind="stable") if length is None else np.arange(len(counts))
    rows = np.concatenate([values, np.zeros_like(values, shape=(1, values.shape[1]))])

    def length_of(jet: int) -> int:
        return max(int(counts[jet]), 1) if length is None else length

    for chosen in batches(order, length_of):
        yield chosen, filled_up(constituents, rows, chosen, length_of(chosen[-1]))


@cache
def _opened(path: str, modified: int, threads: int, process: int) -> Any:  # noqa: ARG001  threads die in a fork
    import onnxruntime  # takes most of a second

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_mem_pattern = False  # the shapes of batches differ
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the exceptions of onnxruntime share no base class
        reason = (str(error).splitlines() or [""])[0]
        raise ValueError(
            f"{path} is not an ONNX network for onnxruntime {onnxruntime.__version__}: {reason}"
        ) from error


def _check_width(path: str, session: Any, rows: FloatArray) -> None:
    width = _columns(session.get_inputs()[0].shape)
    if rows.ndim != 2 or (width is not None and rows.shape[1] != width):
        raise ValueError(f"{path} takes (n, {width or 'any'}), got an array of shape {rows.shape}")


def _columns(shape: list[Any]) -> int | None:
    return shape[1] if len(shape) > 1 and isinstance(shape[1], int) else None


def _described(nodes: list[Any]) -> tuple[tuple[str, tuple[int | None, ...], str], ...]:
    return tuple(
        (node.name, tuple(length if isinstance(length, int) else None for length in node.shape), node.type)
        for node in nodes
    )


def _words(nodes: tuple[tuple[str, tuple[int | None, ...], str], ...]) -> str:
    shapes = [(name, ", ".join("any" if n is None else str(n) for n in shape)) for name, shape, _ in nodes]
    return " and ".join(f"{name} ({shape})" for name, shape in shapes)
