"""Jets per second of a tagger on one core.

`python benchmarks/tagger_inference.py [--jets N] [--tagger FILE_OR_FOLDER --table FILE]` compares, three times in turn
and each at its best:

one call        a single session.run on all jets, for a network on constituents padded to the longest of them
ours            the same network through `models.tagging.tagger`: batches that stay in the cache, jets with like numbers
                of constituents together, and a look for what is not finite

Without `--tagger` the network is 10-64-64-64-1 with random weights and jets are random numbers.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from inference import timed  # the one beside this script

from models.card import ModelCard, write_card
from models.tagging.columns import W_FEATURES
from models.tagging.tagger import load_tagger
from models.tagging.tagger_table import JetTable, read_table

if TYPE_CHECKING:
    from models.tagging.tagger import Tagger

ROUNDS = 3
WIDTHS = (len(W_FEATURES), 64, 64, 64, 1)


def main() -> None:
    """Print the table."""
    os.environ["JETBALANCE_THREADS"] = "1"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jets", type=int, default=300_000)
    parser.add_argument("--tagger", type=Path)
    parser.add_argument("--table", type=Path)
    asked = parser.parse_args()
    if (asked.tagger is None) != (asked.table is None):
        parser.error("give --tagger and --table, or none of both")
    with tempfile.TemporaryDirectory() as folder:
        if asked.tagger is None:
            compare(load_tagger(random_network(Path(folder))), random_jets(asked.jets))
            return
        path = asked.tagger / "tagger.onnx" if asked.tagger.is_dir() else asked.tagger
        table = read_table(asked.table)
        compare(load_tagger(str(path)), table.take(np.arange(min(asked.jets, len(table)))))


def random_jets(n: int) -> JetTable:
    """Jets whose columns are random numbers."""
    matrix = np.random.default_rng(1).random((n, len(W_FEATURES)), np.float32)
    return JetTable({name: np.ascontiguousarray(matrix[:, place]) for place, name in enumerate(W_FEATURES)})


def compare(tagger: Tagger, jets: JetTable) -> None:
    """Time both ways."""
    session = tagger.model._session()  # noqa: SLF001  the plain way to use it
    feeds = {}
    for name, given in tagger.inputs.items():
        if not given.constituents:
            feeds[name] = np.column_stack([jets.columns[column] for column in given.columns]).astype(np.float32)
        elif jets.constituents is not None:
            limited = jets.constituents.limited(given.max_length or 100)
            feeds[name] = limited.padded(int(limited.counts.max()))
    ways = {
        "one call": lambda: session.run(["score"], feeds)[0][:, 0],
        "ours": lambda: tagger.scores(jets.columns, jets.constituents)[0],
    }
    best = {word: min(timed(way)[0] for _ in range(ROUNDS)) for word, way in ways.items()}
    difference = np.abs(ways["one call"]() - ways["ours"]()).max()
    print(f"{len(jets):,} jets, one core, processor time")
    for word, seconds in best.items():
        print(f"{word:10} {len(jets) / seconds:12,.0f} jets/s   {best['one call'] / seconds:5.2f}")
    print(f"largest difference of the two: {difference:.1e}")


def random_network(folder: Path) -> str:
    """Path of a dense network with its card."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(2)
    nodes, weights, name = [], [], "features"
    for layer, (n_in, n_out) in enumerate(pairwise(WIDTHS)):
        values = rng.normal(size=(n_in, n_out)) / np.sqrt(n_in)
        weights.append(numpy_helper.from_array(values.astype(np.float32), f"weights{layer}"))
        is_last = layer == len(WIDTHS) - 2
        output = "score" if is_last else f"layer{layer}"
        nodes.append(helper.make_node("MatMul", [name, f"weights{layer}"], [f"sum{layer}"]))
        nodes.append(helper.make_node("Sigmoid" if is_last else "Relu", [f"sum{layer}"], [output]))
        name = output
    graph = helper.make_graph(
        nodes,
        "dense",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", WIDTHS[0]])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n", 1])],
        weights,
    )
    path = folder / "dense.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), str(path))
    write_card(ModelCard("tagger", W_FEATURES, ("score",)), path.with_suffix(".json"))
    return str(path)


if __name__ == "__main__":
    main()
