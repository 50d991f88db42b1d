"""The toy of Learning to Pivot (Louppe, Kagan and Cranmer, arXiv:1611.01046, section 5.1).

One class is shifted by a nuisance Z. The score of a tagger that was trained against an adversary has the same
distribution at Z = -1, 0 and 1.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.stats import ks_2samp

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
pytest.importorskip("tensorflow", reason="needs the extra `train`", exc_type=ImportError)

from tagger_toys import write

from models.training.tagging.loop import compiled_logits, train
from models.training.tagging.samples import read_sample
from models.training.tagging.settings import (
    ColumnSettings,
    DecorrelationSettings,
    EvaluationSettings,
    FitSettings,
    NetworkSettings,
    TaggerSettings,
)

if TYPE_CHECKING:
    from pathlib import Path

    from models.training.tagging.settings import Method

N = 60_000


def shifted(z: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Of the class that knows the nuisance; it takes the place of background, which the penalty looks at."""
    return np.asarray(rng.normal(size=(len(z), 2)) + np.stack([np.ones(len(z)), 1 + z], axis=1))


def distances(method: Method, strength: float | None, table: Path, folder: Path) -> tuple[float, float]:
    """Largest distance of the distributions at Z = -1 and 1 from that at 0, and the area under the ROC curve."""
    settings = TaggerSettings(
        columns=ColumnSettings(features=("x", "y"), protect="z", weight="", condition="one"),
        network=NetworkSettings(units=(32, 32)),
        decorrelation=DecorrelationSettings(method=method, strength=strength, planed=0.0),
        fit=FitSettings(steps=1200, rounds=40, batch=8192),
        evaluation=EvaluationSettings(low=-3, high=3),
    )
    state = train(read_sample([table], settings), settings, folder)
    predict, rng = compiled_logits(state.network), np.random.default_rng(7)
    sample = read_sample([table], settings).take(slice(20_000))
    at = [predict(replace(sample, features=_features(z, rng))) for z in (-1.0, 0.0, 1.0)]
    return max(ks_2samp(at[1], at[i]).statistic for i in (0, 2)), state.history[-1]["auc"]


def _features(z: float, rng: np.random.Generator) -> np.ndarray:
    return shifted(np.full(20_000, z), rng).astype(np.float32)


@pytest.mark.slow
def test_scores_at_three_values_of_the_nuisance_coincide(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    z, label = rng.normal(size=N), rng.integers(0, 2, N)
    other = rng.multivariate_normal([0, 0], [[1, -0.5], [-0.5, 1]], N)
    x = np.where(label[:, None] == 1, other, shifted(z, rng))
    table = write(tmp_path / "table.parquet", {"x": x[:, 0], "y": x[:, 1], "z": z, "label": label, "one": np.ones(N)})

    plain, _ = distances("none", None, table, tmp_path)
    pivotal, auc = distances("adversarial", 50.0, table, tmp_path)

    assert plain > 0.2
    assert pivotal < 0.04
    assert auc > 0.7
