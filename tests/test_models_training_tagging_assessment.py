"""What is told of a trained tagger."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="needs the extra `train`")

from tagger_toys import NAMES, columns, write

from models.tagging.distance_correlation import distance_correlation
from models.tagging.metrics import roc
from models.training.tagging.assessment import assess, domain_numbers, draw_tagger, write_metrics
from models.training.tagging.samples import TaggerSample, read_sample
from models.training.tagging.settings import ColumnSettings, EvaluationSettings, TaggerSettings

if TYPE_CHECKING:
    from pathlib import Path

N = 4000
SETTINGS = TaggerSettings(columns=ColumnSettings(features=NAMES), evaluation=EvaluationSettings(replicas=2))


def sample_of(is_simulation: list[bool], label: list[int]) -> TaggerSample:
    ones, zeros = np.ones(len(label)), np.zeros(len(label), np.int8)
    labels, nothing = np.array(label, np.int8), np.zeros((len(label), 0), np.float32)
    return TaggerSample((), nothing, labels, ones, ones, ones, np.array(is_simulation), zeros, 0.0, 2.0)


def test_scores_of_data_and_simulation_are_compared_at_cuts_and_as_a_whole() -> None:
    score = np.array([0.1, 0.3, 0.6, 0.9, 0.2, 0.4, 0.7, 0.8])
    sample = sample_of([True] * 4 + [False] * 4, [0, 0, 0, 1, -1, -1, -1, -1])

    told = domain_numbers(sample, score, {"half": 0.5}, "background")

    # background of 0.1, 0.3 and 0.6: of 12 pairs data have the larger score in 9; a half of them passes, a third there
    assert told == pytest.approx({"domain_auc": 0.75, "data_over_simulation_half": 1.5})
    assert domain_numbers(sample.take(slice(4)), score[:4], {"half": 0.5}, "all") == {}


def test_negative_weights_count_with_their_sign(tmp_path: Path) -> None:
    given = columns(N)
    given["weight"][(given["x2"] > 1) & (np.arange(N) % 3 == 0) & (given["label"] == 0)] *= -1
    sample = read_sample([write(tmp_path / "table.parquet", given)], SETTINGS)

    found = assess(sample, given["x2"], SETTINGS.evaluation)

    known = roc(given["x2"], given["label"] == 1, given["weight"])
    assert found.numbers["rejection_0.5"] == pytest.approx(known.rejection())
    assert found.numbers["auc"] == pytest.approx(known.auc)


def test_the_distance_correlation_is_that_of_all_background_in_the_range_whatever_its_order() -> None:
    n, rng = 240_000, np.random.default_rng(3)
    mass, label = rng.uniform(0, 2, n), (np.arange(n) % 2).astype(np.int8)
    score = np.where(np.arange(n) > 220_000, mass, rng.uniform(0, 2, n))
    ones, nothing = np.ones(n), np.zeros((n, 0), np.float32)
    sample = TaggerSample((), nothing, label, mass, ones, ones, ones > 0, label, 0.0, 2.0)

    found = assess(sample, score, EvaluationSettings(low=0, high=2, bins=2, replicas=2))

    chosen = label == 0
    assert found.numbers["distance_correlation"] == distance_correlation(score[chosen], mass[chosen])


@pytest.mark.parametrize("has_pileup", [False, True])
def test_bins_of_pile_up_are_told_where_the_table_has_it(tmp_path: Path, *, has_pileup: bool) -> None:
    given = columns(N)
    more = {"mu": np.random.default_rng(2).uniform(0, 31, N)} if has_pileup else {}
    sample = read_sample([write(tmp_path / "table.parquet", {**given, **more})], SETTINGS)

    found = assess(sample, given["x2"], SETTINGS.evaluation)
    write_metrics(found, tmp_path / "metrics.json")
    draw_tagger(sample, given["x2"], found, "mass", tmp_path / "tagger")

    told = json.loads((tmp_path / "metrics.json").read_text())
    assert len(told["bins"]) == 9
    assert [each["high"] for each in told["pileup"]] == ([5.5, 10.5, 15.5, 20.5, 25.5, 30.5] if has_pileup else [])
    assert all(1 < each["rejection"] < 20 and each["random"] > 0 for each in told["pileup"])
    assert (tmp_path / "tagger.png").is_file()
