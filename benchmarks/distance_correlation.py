"""Distance correlation and its gradient in O(N log N) against the usual O(N^2) form in TensorFlow, in one run.

`python benchmarks/distance_correlation.py [--largest N]` prints milliseconds of processor and of wall time, the ratio
of the latter, and how far both agree. The O(N^2) form is made only up to 8,192 entries, for its memory.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import TYPE_CHECKING, Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from models.training.quiet import silenced

with silenced():
    import tensorflow as tf

    from models.training.tagging.penalties import distance_correlation

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES = (1024, 2048, 4096, 8192, 16_384, 65_536, 262_144)
LARGEST_OF_PAIRS = 8192
ROUNDS = 3


@tf.function
def of_pairs(score: Any, mass: Any, weight: Any) -> Any:
    """Squared distance correlation from all pairs, less what independent variables have."""
    share = weight / tf.reduce_sum(weight)

    def centred(distance: Any) -> Any:
        rows = tf.linalg.matvec(distance, share)
        return distance - rows[:, None] - rows[None, :] + tf.tensordot(share, rows, 1)

    def mean(product: Any) -> Any:
        return tf.tensordot(share, tf.linalg.matvec(product, share), 1)

    of_score, of_mass = (tf.abs(values[:, None] - values[None, :]) for values in (score, mass))
    first, second = centred(of_score), centred(of_mass)
    of_one = tf.reduce_sum(share**2)
    chance = -mean(of_mass) / (1.0 - of_one) * tf.tensordot(share**2, tf.linalg.diag_part(first), 1)
    return (mean(first * second) - chance) / tf.sqrt(mean(first * first) * mean(second * second))


@tf.function
def sorted_once(score: Any, mass: Any, weight: Any) -> Any:
    """The same from sorted values, as a training has it."""
    return distance_correlation(score, mass, weight, weight)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--largest", type=int, default=SIZES[-1])
    largest = parser.parse_args().largest
    print(
        f"{'N':>8} {'ours [ms]':>10} {'cpu':>8} {'pairs [ms]':>11} {'cpu':>8} {'ratio':>7} {'value':>9} {'gradient':>9}"
    )
    for size in (each for each in SIZES if each <= largest):
        arrays = entries(size)
        wall, cpu, (value, slope) = timed(sorted_once, arrays)
        line = f"{size:8d} {1e3 * wall:10.2f} {1e3 * cpu:8.2f}"
        if size <= LARGEST_OF_PAIRS:
            pair_wall, pair_cpu, (known, known_slope) = timed(of_pairs, arrays)
            off = np.abs(slope - known_slope).max() / np.abs(known_slope).max()
            line += f" {1e3 * pair_wall:11.1f} {1e3 * pair_cpu:8.1f} {pair_wall / wall:7.0f}"
            line += f" {abs(value - known):9.1e} {off:9.1e}"
        print(line, flush=True)


def entries(size: int) -> list[Any]:
    """Scores, masses and weights that depend on each other."""
    rng = np.random.default_rng(1)
    mass = rng.gamma(2.0, 1.0, size)
    score = 1 / (1 + np.exp(-rng.normal(size=size) - 0.3 * mass))
    return [tf.constant(each.astype(np.float32)) for each in (score, mass, rng.exponential(size=size))]


def timed(function: Callable[..., Any], arrays: list[Any]) -> tuple[float, float, tuple[float, np.ndarray]]:
    """Best wall and processor time of value and gradient, seconds, and both."""
    wall = cpu = np.inf
    for _ in range(ROUNDS + 1):  # the first one compiles
        began, began_cpu = time.perf_counter(), time.process_time()
        with tf.GradientTape() as tape:
            tape.watch(arrays[0])
            value = function(*arrays)
        slope = tape.gradient(value, arrays[0]).numpy()
        wall, cpu = min(wall, time.perf_counter() - began), min(cpu, time.process_time() - began_cpu)
    return wall, cpu, (float(value), slope)


if __name__ == "__main__":
    main()
