"""Time of a training step of a tagger with each penalty over that of a step without, in one run.

`python benchmarks/tagger_training.py [--jets N]` trains the dense network on random jets. The first round of each,
which compiles, does not count; processor time is told beside wall time.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from models.training.quiet import silenced

with silenced():
    from models.training.tagging.loop import train

from models.training.tagging.samples import TaggerSample
from models.training.tagging.settings import FitSettings, TaggerSettings

METHODS = ("none", "disco", "mode", "soft-jsd", "adversarial", "adversarial-binned")
ROUNDS, STEPS = 4, 15


def main() -> None:
    """Print seconds per step, and ratios to the plain one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jets", type=int, default=100_000)
    sample = jets(parser.parse_args().jets)
    plain: tuple[float, float] | None = None
    for method in METHODS:
        wall, cpu = seconds_per_step(sample, method)
        plain = plain or (wall, cpu)
        print(
            f"{method:20s} {1e3 * wall:8.1f} ms {wall / plain[0]:6.2f}   cpu {1e3 * cpu:8.1f} ms {cpu / plain[1]:6.2f}"
        )


def seconds_per_step(sample: TaggerSample, method: str) -> tuple[float, float]:
    """Best wall and processor time of a step in the rounds after the first."""
    base = TaggerSettings(fit=FitSettings(steps=ROUNDS * STEPS, rounds=ROUNDS))
    settings = replace(base, decorrelation=replace(base.decorrelation, method=method, strength=1.0, warm_up=0.0))
    marks = [time.process_time()]
    with tempfile.TemporaryDirectory() as folder:
        state = train(sample, settings, Path(folder), report=lambda _: marks.append(time.process_time()))
    wall = min(row["seconds"] for row in state.history[1:])
    return wall / STEPS, float(np.diff(marks)[1:].min()) / STEPS


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
