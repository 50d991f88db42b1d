"""What decorrelation with default settings keeps of a tagger, on tables that are made up anew for each seed.

`python benchmarks/tagger_decorrelation.py [--seed N] [--jets N] [--methods none,disco,adversarial,mode]` makes a table
of jets with features that know the class, the mass and the pT in ways that the seed decides, trains a tagger with each
method, and judges it on other jets of the same kind: 200 000 effective ones of background. For each method it prints
R50 and the share of the first one's, 1/JSD at half the signal above that of random selections, what of it is certain
(the error of a bootstrap added to the divergence), the strength that was found, and seconds of a core. It needs the
extra `train`.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from models.flat_weights import effective_entries
from models.tagging.metrics import rejection_with_error, sculpting
from models.training.tagging.loop import CollapsedError, predict_logits, train
from models.training.tagging.samples import read_sample
from models.training.tagging.settings import METHODS, ColumnSettings, DecorrelationSettings, FitSettings, TaggerSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.training.tagging.samples import TaggerSample

    FloatArray = NDArray[np.float64]

EFFECTIVE = 200_000
N_FEATURES = (5, 11)
PEAK, REFERENCE_PT = 82.0, 500.0


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jets", type=int, default=300_000)
    parser.add_argument("--methods", default="none,disco,adversarial,mode")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        columns = made_up(asked.jets + 8 * EFFECTIVE, asked.seed)
        features = tuple(each for each in columns if each.startswith("x"))
        known = {each: values[: asked.jets] for each, values in columns.items()}
        new = {each: values[asked.jets :] for each, values in columns.items()}
        paths = [write(folder / f"{word}.parquet", values) for word, values in (("known", known), ("new", new))]
        settings = TaggerSettings(columns=ColumnSettings(features=features), fit=FitSettings(seed=asked.seed))
        judged = _enough(read_sample(paths[1:], settings, is_for_training=False))
        print(f"seed {asked.seed}: {asked.jets:,} jets with {len(features)} features, {len(judged):,} to judge with")
        first = None
        for method in (each for each in METHODS if each in asked.methods.split(",")):
            changed = replace(settings, decorrelation=DecorrelationSettings(method=method))
            told, rejection = one(paths[0], changed, judged, folder)
            first = rejection if first is None else first
            print(f"{method:20} {told} {rejection / first:6.0%} kept", flush=True)


def one(path: Path, settings: TaggerSettings, judged: TaggerSample, folder: Path) -> tuple[str, float]:
    """Train and judge; the line, and R50."""
    sample = read_sample([path], settings)
    began = time.process_time()
    try:
        state = train(sample, settings, folder)
    except CollapsedError as collapsed:
        return str(collapsed), float("nan")
    seconds = time.process_time() - began
    logit = predict_logits(state.network, judged)
    found = sculpting(logit, judged.is_signal, judged.protected, judged.weight)
    rejection, error = rejection_with_error(logit, judged.is_signal, judged.weight, replicas=5)
    above = 1 / found.jsd_sub if found.jsd_sub > 0 else float("inf")
    told = (
        f"R50 {rejection:6.1f} +- {error:4.1f}  1/JSD {above:7.0f}  certain {found.guaranteed:6.0f}  "
        f"strength {state.strength:7.3g}  {seconds:4.0f} s"
    )
    return told, rejection


def made_up(n: int, seed: int) -> dict[str, NDArray[np.generic]]:
    """Columns of n jets, half of them signal with a peak; the seed decides how features know mass, pT and class."""
    rng = np.random.default_rng(seed)
    is_signal = rng.random(n) < 0.5
    pt = 200 * (1 - rng.random(n) * 0.999) ** (-1 / 3)
    background = 40 + rng.gamma(rng.uniform(1.2, 3.0), rng.uniform(25, 45), n) * (pt / REFERENCE_PT) ** 0.4
    signal = PEAK + rng.normal(0, 8, n) * (1 + 0.3 * rng.exponential(size=n)) - 3 * rng.exponential(size=n)
    mass = np.where(is_signal, np.maximum(signal, 5.0), background)
    columns = {"mass": mass, "pt": pt, "label": is_signal.astype(np.int8), "weight": _weights(rng, pt)}
    log_mass = np.log(mass / PEAK)
    for i in range(int(rng.integers(*N_FEATURES))):
        columns[f"x{i}"] = _feature(rng, is_signal, log_mass, np.log(pt / REFERENCE_PT), i)
    return columns


def _weights(rng: np.random.Generator, pt: FloatArray) -> FloatArray:
    kind = rng.integers(3)
    if kind == 0:
        return np.ones(len(pt))
    return rng.exponential(size=len(pt)) if kind == 1 else (pt / 200) ** -1.5


def _feature(
    rng: np.random.Generator, is_signal: NDArray[np.bool_], log_mass: FloatArray, log_pt: FloatArray, i: int
) -> FloatArray:
    slope, bend = rng.uniform(-1, 1), rng.uniform(-0.3, 0.3)
    apart, of_pt = rng.uniform(0.3, 0.8), rng.uniform(-0.3, 0.3)
    width = (1 + 0.2 * np.abs(log_mass)) * rng.uniform(0.75, 1.0)
    noise = rng.normal(size=len(log_mass)) * width
    value = slope * log_mass + bend * log_mass**2 + apart * is_signal * (1 + 0.3 * log_mass) + of_pt * log_pt + noise
    # one with a tail, one between 0 and 1, one that is a bad measurement of the mass
    if i == 2:
        return np.exp(0.5 * value)
    if i == 3:
        return 1 / (1 + np.exp(-value))
    return np.exp(log_mass + 0.25 * noise) if i == 4 else value


def _enough(sample: TaggerSample) -> TaggerSample:
    """The first jets that hold as many effective ones of background within the range as are wanted."""
    inside = np.where(sample.is_within, sample.weight, 0.0)
    needed = int(len(sample) * min(1.0, EFFECTIVE / effective_entries(inside[inside > 0])))
    return sample.take(slice(needed))


def write(path: Path, columns: dict[str, NDArray[np.generic]]) -> Path:
    """A parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns), path)
    return path


if __name__ == "__main__":
    main()
