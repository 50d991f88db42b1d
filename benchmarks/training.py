"""Jets per second of training against a plain Keras `fit` of the same network, in one run.

`python benchmarks/training.py [--events N]` trains on random jets with 35 of at most 80 constituents on average:

fit     keras.Model.fit on padded constituents (n, 80, 4) with a squared error, nothing else
ours    the loop of models.training.loop: likelihood, asymmetry and constraint on whole events of simulation and data

Both have the same network, optimizer and jets in a step. The first epoch of each, which compiles, does not count.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from models.training.quiet import silenced

with silenced():
    import keras

    from models.training.loop import prepare, train
    from models.training.network import CalibrationNetwork, make_network
    from models.training.settings import FitSettings, TrainingSettings

from models.event_table import EventTable
from models.features import GSC_FEATURES, LEADING_JETS, RaggedConstituents, offsets_of

EPOCHS = 4
MEAN, MOST = 35, 80


class Padded(keras.Model):
    """The network on padded constituents, as one would first write it."""

    def __init__(self, network: CalibrationNetwork) -> None:
        super().__init__()
        self.network = network

    def call(self, inputs: tuple[object, object]) -> object:
        """Logarithm of the factor."""
        return self.network.estimate(*inputs)[0]


def main() -> None:
    """Print both rates and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=12_000)
    arguments = parser.parse_args()
    settings = TrainingSettings(fit=FitSettings(epochs=EPOCHS, patience=EPOCHS, validation=0.05, test=0.0))
    prepared = prepare(events(arguments.events), settings)
    with tempfile.TemporaryDirectory() as folder:
        state = train(prepared, settings, Path(folder))
    ours = float(np.max([row["jets_per_second"] for row in state.history[1:]]))
    sample = prepared.training
    jets_per_step = len(sample) / sample.n_events * 2 * settings.fit.batch_events
    network = make_network(settings.network, sample.names, prepared.scales, 1)
    plain = keras_rate(network, sample.features, sample.constituents.padded(MOST), round(jets_per_step))
    print(f"{len(sample):,} jets, {round(jets_per_step):,} in a step")
    print(f"fit   {plain:10,.0f} jets/s")
    print(f"ours  {ours:10,.0f} jets/s   {ours / plain:5.2f}")


def keras_rate(network: CalibrationNetwork, jets: np.ndarray, padded: np.ndarray, batch: int) -> float:
    """Best jets per second of the epochs after the first."""
    model = Padded(network)
    model.compile(keras.optimizers.Adam(1e-3), "mse")
    target = np.zeros(len(jets), np.float32)
    best = 0.0
    for epoch in range(EPOCHS):
        began = time.perf_counter()
        model.fit((jets, padded), target, batch_size=batch, epochs=1, verbose=0)
        rate = len(jets) / (time.perf_counter() - began)
        best = max(best, rate if epoch else 0.0)
    return best


def events(n: int) -> EventTable:
    """Dijets of simulation and as many of data with random columns and constituents."""
    rng = np.random.default_rng(1)
    total = 2 * n
    truth = np.exp(rng.uniform(4, 6, total))[:, None] * np.exp(rng.normal(0, 0.03, (total, LEADING_JETS)))
    truth[:, 2] = 12.0
    pt = truth * np.exp(rng.normal(0, 0.1, truth.shape))
    eta, phi = rng.uniform(-2.4, 2.4, truth.shape), rng.uniform(-3, 3, truth.shape)
    is_mc = np.arange(total) < n
    of_truth = np.where(is_mc[:, None], truth, np.nan)
    jets = {"pt": pt, "eta": eta, "phi": phi, "mass": 0.1 * pt, **{name: rng.random(pt.shape) for name in GSC_FEATURES}}
    jets |= {"truth_pt": of_truth, "truth_eta": np.where(is_mc[:, None], eta, np.nan), "truth_isolation": 0 * pt + 3}
    jets["truth_rank"] = np.where(is_mc[:, None], np.arange(3.0), -1)
    event = {
        "dataset": np.where(is_mc, 0, 1).astype(np.int16),
        "is_mc": is_mc,
        "identity": rng.integers(0, 2**63, total).astype(np.uint64),
        "weight": np.ones(total),
        "is_dijet": np.ones(total, np.bool_),
        "pt_avg": pt[:, :2].mean(axis=1).astype(np.float32),
        "truth_pt_avg": of_truth[:, :2].mean(axis=1).astype(np.float32),
        "weight_flat": np.ones(total, np.float32),
        "weight_truth": is_mc.astype(np.float32),
    }
    return EventTable(
        ("simulation", "data"),
        event,
        {k: v.astype(np.float32) for k, v in jets.items()},
        constituents(pt, eta, phi, rng),
    )


def constituents(pt: np.ndarray, eta: np.ndarray, phi: np.ndarray, rng: np.random.Generator) -> RaggedConstituents:
    """Random ones near the axis of each jet."""
    counts = np.clip(rng.negative_binomial(6, 6 / (6 + MEAN), pt.size), 1, MOST)
    axis = [np.repeat(each.ravel(), counts) + 0.1 * rng.normal(size=counts.sum()) for each in (eta, phi)]
    each = np.repeat(pt.ravel() / counts, counts) * rng.exponential(size=counts.sum())
    columns = [each * np.cos(axis[1]), each * np.sin(axis[1]), each * np.sinh(axis[0]), each]
    return RaggedConstituents(offsets_of(counts), np.column_stack(columns).astype(np.float32))


if __name__ == "__main__":
    main()
