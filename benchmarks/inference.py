"""Jets per second of a calibration network on one core, and its parity with Keras.

`python benchmarks/inference.py [--model FILE.onnx] [--jets N]` compares, three times in turn and each at its best:

one call        a single session.run on the padded chunk, (n, 80, 4)
ours            the same network through CalibrationModel: jets of like size together, batches that stay in the cache

Jets have 35 constituents of at most 80 on average. Without --model a network of the default shape is made with random
weights, which needs the extra `train`, and its outputs are compared with those of Keras.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models.calibration import CalibrationModel, load_calibration
from models.features import RaggedConstituents, offsets_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROUNDS = 3
MEAN, MOST = 35, 80


def main() -> None:
    """Print the table."""
    os.environ["JETBALANCE_THREADS"] = "1"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--jets", type=int, default=100_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.model or random_network(Path(folder))
        model = load_calibration(str(path))
        matrix, constituents = jets(arguments.jets, model.card.features)
        compare(model, matrix, constituents)


def jets(n: int, names: Sequence[str], seed: int = 1) -> tuple[np.ndarray, RaggedConstituents]:
    """Columns (n, n_features) and constituents of random jets."""
    rng = np.random.default_rng(seed)
    counts = np.clip(rng.negative_binomial(6, 6 / (6 + MEAN), n), 0, MOST)
    offsets = offsets_of(counts)
    columns = {name: rng.random(n) for name in names}
    columns |= {"pt": np.exp(rng.uniform(3, 7, n)), "eta": rng.uniform(-3, 3, n), "phi": rng.uniform(-3, 3, n)}
    columns["mass"] = 0.1 * columns["pt"]
    share = rng.exponential(size=offsets[-1])
    share /= np.repeat(np.add.reduceat(np.append(share, 0.0), offsets[:-1]) * (counts > 0) + (counts == 0), counts)
    pt = share * np.repeat(columns["pt"], counts)
    eta, phi = (np.repeat(columns[name], counts) + 0.1 * rng.normal(size=len(pt)) for name in ("eta", "phi"))
    values = np.column_stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt]).astype(np.float32)
    return np.column_stack([columns[name] for name in names]).astype(np.float32), RaggedConstituents(offsets, values)


def compare(model: CalibrationModel, matrix: np.ndarray, constituents: RaggedConstituents) -> None:
    """Best times of both ways, and the largest difference of their outputs."""
    padded = constituents.padded(MOST)
    names = (model.card.jet_input or "", model.card.constituent_input or "")
    columns = {name: (lambda i=i: matrix[:, i]) for i, name in enumerate(model.card.features)}
    session = model.model._session()  # noqa: SLF001  the plain way to use it

    def one_call() -> np.ndarray:
        return session.run(None, {names[0]: matrix, names[1]: padded})[0]

    def ours() -> np.ndarray:
        return model.outputs(columns, constituents)

    best = {"one call": np.inf, "ours": np.inf}
    outputs = {}
    for _ in range(ROUNDS):
        for word, way in (("one call", one_call), ("ours", ours)):
            seconds, outputs[word] = timed(way)
            best[word] = min(best[word], seconds)
    print(f"{len(matrix):,} jets, {constituents.counts.mean():.1f} constituents on average, one core, processor time")
    for word, seconds in best.items():
        print(f"{word:10} {len(matrix) / seconds:10,.0f} jets/s   {best['one call'] / seconds:5.2f}")
    difference = np.max(np.abs(outputs["ours"] / outputs["one call"] - 1))
    print(f"largest relative difference of the two: {difference:.1e}")


def timed(way: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    """Processor seconds of a call, which other programs on the machine disturb less, and what it gave."""
    began = time.process_time()
    result = way()
    return time.process_time() - began, result


def random_network(folder: Path) -> Path:
    """A network of the default shape with random weights as ONNX; its parity with Keras is printed."""
    from models.features import GSC_FEATURES, MOMENTUM_FEATURES
    from models.training.quiet import silenced

    with silenced():
        from models.training.closure import no_closure
        from models.training.export import Calibration, export
        from models.training.network import Scales, count_parameters, make_network
        from models.training.settings import NetworkSettings

        names = (*MOMENTUM_FEATURES, *GSC_FEATURES)
        network = make_network(NetworkSettings(), names, Scales(), 1)
        rng = np.random.default_rng(1)
        for weight in network.trainable_weights:
            weight.assign(weight + 0.05 * rng.normal(size=weight.shape))
        calibration = Calibration(network, no_closure())
        path = folder / "random.onnx"
        export(calibration, path, training={}, metrics={}, trained_on="nothing")
    matrix, constituents = jets(2000, names, seed=2)
    columns = {name: (lambda i=i: matrix[:, i]) for i, name in enumerate(names)}
    found = load_calibration(str(path)).outputs(columns, constituents)
    expected = np.asarray(calibration(matrix, constituents.padded(MOST)))
    print(f"{count_parameters(network):,} parameters; ONNX and Keras differ by {np.abs(found - expected).max():.1e}")
    return path


if __name__ == "__main__":
    main()
