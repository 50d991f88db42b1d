"""Tables and verdict say what was measured, what was not, and what a reader must know."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from corrections.results import AsymmetryFit, Interval, Measurement, Point, Quantity, ResolutionCurve, Status
from report.tables import cutflow_table, number_words, records_table, resolution_table, scale_factor_table
from report.verdict import checks, worst

ETA, PT = Interval(0.2, 0.7), Interval(40.0, 2500.0)


def point(quantity: Quantity, value: float, stat: float, status: Status = "ok", eta: Interval = ETA) -> Point:
    return Point(quantity, "data/simulation", "AK4PF", "template", "", eta, PT, 100.0, value, stat, status)


def fit(status: Status) -> AsymmetryFit:
    edges, zeros = np.linspace(-2, 2, 5), np.zeros(4)
    window = Interval(-1.0, 1.0)
    return AsymmetryFit(
        "data", "standard", ETA, PT, edges, np.ones(4), np.ones(4), zeros, zeros, window, 0.1, 0.01, 0.0, 1.0, 2, status
    )


MEASUREMENT = Measurement(
    "AK4PF",
    (point("scale_factor", 1.0834, 0.0123), point("residual", 1.0, 0.0)),
    (ResolutionCurve("simulation", "AK4PF", ETA, (9.0, 0.64, 0.0025), np.eye(3), PT, 7.5, 8, "ok"),),
    (fit("ok"), fit("ok"), fit("few_events")),
    100,
)
RUN: dict[str, Any] = {"complete": True, "events": 1_000_000}


def grades(run: dict[str, Any], *measurements: Measurement) -> dict[str, str]:
    return {check.name: check.grade for check in checks(run, measurements)}


@pytest.mark.parametrize(
    ("value", "error", "expected"),
    [
        (1.0834, 0.0123, "1.083 ± 0.012"),
        (1.0834, 0.00123, "1.0834 ± 0.0012"),
        (-3.14, 12.3, "−3 ± 12"),  # noqa: RUF001
        (1.0, 0.0, "1"),
        (0.5, math.nan, "0.5"),
        (math.nan, 0.1, "–"),  # noqa: RUF001
    ],
)
def test_a_number_is_as_long_as_its_error_allows(value: float, error: float, expected: str) -> None:
    assert number_words(value, error) == expected


def test_scale_factor_and_residual_stand_in_one_row_per_eta_bin() -> None:
    table = scale_factor_table(MEASUREMENT)

    assert table is not None
    assert table.rows == (("0.2 to 0.7", "1.083 ± 0.012", "1"),)


def test_a_bin_that_was_not_measured_says_why() -> None:
    failed = replace(MEASUREMENT, points=(point("scale_factor", math.nan, math.nan, "negative_square"),))

    table = scale_factor_table(failed)

    assert table is not None
    assert table.rows == (("0.2 to 0.7", "(negative square)"),)


def test_curve_parameters_are_listed_by_their_physical_names() -> None:
    table = resolution_table(MEASUREMENT)

    assert table is not None
    assert table.rows == (("0.2 to 0.7", "simulation", "3", "0.8", "0.05", "7.5/8", "40 to 2500", "ok"),)


def test_the_cutflow_gives_shares_of_the_first_step_and_sums_of_weights() -> None:
    table = cutflow_table([("data", "all", 2000, 1000.0), ("data", "two_jets", 500, 100.5), ("empty", "all", 0, 0.0)])

    assert table is not None
    assert table.rows == (
        ("data", "all", "2,000", "100 %", "1000"),
        ("data", "two jets", "500", "25 %", "100.5"),
        ("empty", "all", "0", "–", "0"),  # noqa: RUF001
    )


def test_records_keep_plain_values_only() -> None:
    records: list[dict[str, Any]] = [
        {"name": "a", "events": 1000, "is_mc": True, "files": ["x"], "eta": [0.2, 0.7]},
        {"name": "b"},
    ]

    table = records_table("Input", records)

    assert table is not None
    assert table.columns == ("name", "events", "is mc", "eta")
    assert table.rows == (("a", "1,000", "yes", "0.2 to 0.7"), ("b", "–", "–", "–"))  # noqa: RUF001


def test_nothing_measured_gives_no_tables() -> None:
    nothing = Measurement("AK4PF", (), (), (), 0)

    assert (scale_factor_table(nothing), resolution_table(nothing), cutflow_table([])) == (None, None, None)


def test_a_complete_run_with_working_fits_is_good() -> None:
    assert grades(RUN, MEASUREMENT) == {
        "Input": "good",
        "Fits, AK4PF": "good",
        "Scale factors, AK4PF": "good",
        "Closure": "note",
    }


def test_lost_input_outweighs_everything_else() -> None:
    run = {**RUN, "complete": False, "lost": [{"file": "x.root"}]}

    assert grades(run, MEASUREMENT)["Input"] == "bad"
    assert worst(checks(run, [MEASUREMENT])) == "bad"


def test_a_run_that_does_not_say_whether_it_is_complete_is_not_called_so() -> None:
    assert grades({}, MEASUREMENT)["Input"] == "note"


@pytest.mark.parametrize(("p_value", "grade"), [(0.3, "good"), (5e-4, "bad")])
def test_a_known_answer_beyond_chance_is_bad(p_value: float, grade: str) -> None:
    assert grades({**RUN, "closure": {"p_value": p_value}}, MEASUREMENT)["Known answer"] == grade


def test_fits_that_failed_are_counted() -> None:
    failed = replace(MEASUREMENT, fits=(fit("ok"), fit("not_converged")))

    found = {check.name: check for check in checks(RUN, [failed])}

    assert found["Fits, AK4PF"].grade == "note"
    assert "1 of 2" in found["Fits, AK4PF"].words
    assert "1 not converged" in found["Fits, AK4PF"].words


def test_no_fit_at_all_is_bad() -> None:
    assert grades(RUN, replace(MEASUREMENT, fits=(fit("few_events"),)))["Fits, AK4PF"] == "bad"


def test_exclusions_and_missing_corrections_are_noted() -> None:
    run = {**RUN, "excluded": {"data": {"jets with non-finite pt": 3}}, "not_written": {"Total": "no truth"}}

    found = grades(run, MEASUREMENT)

    assert found["Exclusions"] == "note"
    assert found["Corrections"] == "note"
