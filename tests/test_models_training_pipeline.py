"""What surrounds a training: candidates on the same jets, and what is told of them."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from calibration_toys import ToyJets

from models.event_table import joined, write_rows
from models.features import SEQUENTIAL_FEATURES
from models.training.assessment import PLAIN, Candidate, assess, markdown
from models.training.errors import RefusedError
from models.training.pipeline import Tables, _remember, _sequential, _test_sample, read_tables, variants
from models.training.settings import ClosureSettings, EvaluationSettings, LossSettings, TrainingSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SETTINGS = TrainingSettings(evaluation=EvaluationSettings(replicas=10))


@functools.cache
def tables() -> Tables:
    return Tables(joined([ToyJets().table(12_000, 1), ToyJets().table(4000, 2, is_mc=False)]), None, ())


@pytest.mark.parametrize("data", [True, False])
def test_the_sequential_baseline_has_the_jets_of_the_test_sample(*, data: bool) -> None:
    settings = replace(SETTINGS, loss=LossSettings(data=data))
    test = _test_sample(tables(), settings)

    (got,) = _sequential(tables(), settings, test)

    assert set(SEQUENTIAL_FEATURES) <= set(tables().training.jets)
    assert len(got.log_factor) == len(test)


def test_the_share_of_the_perfect_calibration_is_one_whatever_the_isolation_of_its_jets() -> None:
    table = tables().training
    crowded = table.jets["truth_isolation"].copy()
    crowded[::2] = 0.5
    given = replace(tables(), training=replace(table, jets={**table.jets, "truth_isolation": crowded}))
    test = _test_sample(given, SETTINGS)
    factor = np.log(np.where(np.isfinite(test.matched_pt), test.matched_pt, test.pt) / test.pt)

    found = assess(test, [Candidate(PLAIN, 0 * factor), Candidate("perfect", factor)], SETTINGS.evaluation)

    gain = found.in_situ["perfect"]["simulation_tracker"]
    hard = (test.pt[test.pairs(is_mc=True)] + test.pt[test.pairs(is_mc=True) + 1]) > 200
    assert gain.share == pytest.approx(1.0)
    assert gain.events > 0.9 * hard.sum()


def test_pushing_all_jets_together_has_no_share_in_situ() -> None:
    test = _test_sample(tables(), SETTINGS)
    squeeze = -0.1 * np.log(test.pt / 300.0)

    found = assess(test, [Candidate(PLAIN, 0 * squeeze), Candidate("squeeze", squeeze)], SETTINGS.evaluation)

    gain = found.in_situ["squeeze"]["simulation_tracker"]
    # without the slope it would be near 0.2
    assert gain.share == pytest.approx(0.0, abs=0.02)
    assert found.in_situ["squeeze"]["data_tracker"].ratio == pytest.approx(1.0, abs=0.01)


def test_the_shift_of_the_mean_is_that_which_was_put_in() -> None:
    test = _test_sample(tables(), SETTINGS)
    shift = np.full(len(test), np.log(1.02))

    found = assess(test, [Candidate(PLAIN, 0 * shift), Candidate("shifted", shift)], SETTINGS.evaluation)

    assert found.numbers["shifted"]["mean_shift_data"] == pytest.approx(0.02)
    assert found.numbers["shifted"]["mean_shift_simulation"] == pytest.approx(0.02)


def test_a_resumed_training_wants_the_same_tables_in_the_same_roles(tmp_path: Path) -> None:
    given = Tables(tables().training, tables().training, ("a.parquet 1",), ("b.parquet 2",))
    _remember(given, SETTINGS, tmp_path, resume=False)
    _remember(given, SETTINGS, tmp_path, resume=True)

    with pytest.raises(RefusedError, match="other settings or tables"):
        _remember(
            replace(given, digests=given.test_digests, test_digests=given.digests), SETTINGS, tmp_path, resume=True
        )


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda: EvaluationSettings(pt_edges=(30.0, 20.0)), "evaluation.pt_edges"),
        (lambda: ClosureSettings(abs_eta_edges=(0.0,)), "closure.abs_eta_edges"),
        (lambda: LossSettings(pt_bins=0), "loss.pt_bins"),
        (lambda: LossSettings(core=0.0), "loss.core"),
    ],
)
def test_bins_that_are_none_are_refused(make: Callable[[], object], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        make()


def test_the_sequential_baseline_takes_off_what_its_columns_tell() -> None:
    given = Tables(ToyJets().table(60_000, 1), None, ())
    test = _test_sample(given, SETTINGS)

    (got,) = _sequential(given, SETTINGS, test)

    used = (test.truth_weight > 0) & (test.truth_pt > 60)
    left = np.log(test.pt / test.truth_pt)[used] + got.log_factor[used]
    # of 0.3^2/12 twice and 0.06^2 one column of the toy leaves 0.3^2/12 + 0.06^2
    assert np.std(left) == pytest.approx(np.sqrt(0.3**2 / 12 + 0.06**2), rel=0.08)
    assert ToyJets().plain_width > 0.13


def test_a_table_is_not_given_twice_nor_to_train_and_to_judge_with(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    first, copy = tmp_path / "first.parquet", tmp_path / "copy.parquet"
    write_rows([ToyJets().table(10, 1)], first, {})
    copy.write_bytes(first.read_bytes())

    with pytest.raises(RefusedError, match=r"copy\.parquet is the same table as .*first\.parquet"):
        read_tables([first], [copy])
    with pytest.raises(RefusedError, match=r"first\.parquet is the same table"):
        read_tables([first, first], [])


def test_variants_of_the_study_have_names_of_their_own() -> None:
    names = [variant.name for variant in variants(SETTINGS)]

    assert len(set(names)) == len(names)


def test_the_study_table_has_as_many_cells_in_every_line() -> None:
    test = _test_sample(tables(), SETTINGS)
    found = assess(test, [Candidate(PLAIN, np.zeros(len(test)))], SETTINGS.evaluation)

    first, second = (
        [line.replace("\\|", "").count("|") for line in part.splitlines()]
        for part in markdown(found, SETTINGS.evaluation).split("\n\n")
    )
    assert len(set(first)) == len(set(second)) == 1
