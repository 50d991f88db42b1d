"""What run.json and the console tell of a run."""

from __future__ import annotations

from processors.jet_quality import REASONS
from report.run_record import bad_values


def test_values_that_make_no_sense_are_told_and_what_a_selection_leaves_out_is_not() -> None:
    excluded = {"data": {"jets with non-finite pt": 1500, REASONS[0]: 7}, "mc": {"truth jets with pt <= 0": 2}}

    assert bad_values(excluded) == [
        "data: left out 1,500 jets with non-finite pt",
        "mc: left out 2 truth jets with pt <= 0",
    ]
