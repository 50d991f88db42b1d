"""What is told of a trained tagger."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="needs the extra `train`")

from tagger_toys import NAMES, columns, write

from models.training.tagging.assessment import assess, draw_tagger, write_metrics
from models.training.tagging.samples import read_sample
from models.training.tagging.settings import ColumnSettings, EvaluationSettings, TaggerSettings

if TYPE_CHECKING:
    from pathlib import Path

N = 4000
SETTINGS = TaggerSettings(columns=ColumnSettings(features=NAMES), evaluation=EvaluationSettings(replicas=2))


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
