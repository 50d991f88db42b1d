"""Time of a training step of a tagger with each penalty over that of a step without, in one run.

`python benchmarks/tagger_training.py [--jets N]` trains the dense network on random jets. Methods take turns, since
what else a machine does changes; processor time is told beside wall time.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from models.training.quiet import silenced

with silenced():
    import tensorflow as tf

    from models.training.tagging.loop import batch_size, compiled_steps, prepare, shuffled, start

from models.training.tagging.samples import TaggerSample
from models.training.tagging.settings import FitSettings, TaggerSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.training.tagging.settings import Method

METHODS = ("none", "disco", "mode", "soft-jsd", "adversarial", "adversarial-binned")
CYCLES, STEPS = 10, 10


def main() -> None:
    """Print the ratio of each method to plain steps of the same cycle: median, and the range of half of the cycles."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jets", type=int, default=100_000)
    sample = jets(parser.parse_args().jets)
    steps = {method: steps_of(sample, method) for method in METHODS}
    seconds = np.array([[seconds_of(steps[method]) for method in METHODS] for _ in range(CYCLES)])
    ratios = seconds / seconds[:, :1]
    for i, method in enumerate(METHODS):
        (low, wall, high), cpu = np.percentile(ratios[:, i, 0], [25, 50, 75]), np.median(ratios[:, i, 1])
        step = 1e3 * seconds[:, i, 0].min() / STEPS
        print(f"{method:20s} {step:8.1f} ms   {wall:6.2f} ({low:.2f} to {high:.2f})   processor {cpu:6.2f}")


def steps_of(sample: TaggerSample, method: Method) -> Callable[[], Any]:
    """Some steps of a training with a method, compiled."""
    base = TaggerSettings(fit=FitSettings(steps=STEPS, rounds=1))
    settings = replace(base, decorrelation=replace(base.decorrelation, method=method))
    prepared = prepare(sample, settings)
    compiled = compiled_steps(start(sample, settings), prepared, settings)
    order = shuffled(prepared.n_jets, batch_size(prepared.n_jets, settings), 0, STEPS, settings.fit.seed)
    compiled(order, tf.constant(1.0))
    return lambda: compiled(order, tf.constant(1.0))


def seconds_of(steps: Callable[[], Any]) -> tuple[float, float]:
    """Wall and processor time."""
    began, used = time.perf_counter(), time.process_time()
    float(steps()[0])
    return time.perf_counter() - began, time.process_time() - used


def jets(n: int) -> TaggerSample:
    """Random jets of both classes with ten features."""
    rng = np.random.default_rng(1)
    label = (rng.random(n) < 0.5).astype(np.int8)
    features = (rng.normal(size=(n, 10)) + label[:, None]).astype(np.float32)
    return TaggerSample(
        tuple(f"x{i}" for i in range(10)),
        features,
        label,
        50 + rng.gamma(2.0, 35.0, n),
        np.full(n, 500.0) * rng.uniform(1, 2, n),
        rng.exponential(size=n),
        np.ones(n, np.bool_),
        rng.choice(3, n, p=(0.7, 0.15, 0.15)).astype(np.int8),
        50.0,
        300.0,
    )


if __name__ == "__main__":
    main()
