"""Tables and verdict say what was measured, what was not, and what a reader must know."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from corrections.results import (
    AGAIN,
    AsymmetryFit,
    Check,
    Interval,
    Measurement,
    Point,
    Quantity,
    ResolutionCurve,
    RhoSlope,
    Shift,
    Status,
)
from report.tables import (
    consistency_table,
    cutflow_table,
    known_answer_table,
    loop_table,
    methods_table,
    number_words,
    point_words,
    records_table,
    resolution_methods_table,
    resolution_table,
    scale_factor_table,
    sources_table,
)
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


# Of (N|N|, S^2, C^2): errors 0.1, 0.05 and 0.01 of N = 3, S = 0.8, C = 0.05.
COVARIANCE = np.diag([0.36, 0.0064, 1e-6])
MEASUREMENT = Measurement(
    "AK4PF",
    (point("scale_factor", 1.0834, 0.0123), point("residual", 1.0, 0.0)),
    (ResolutionCurve("simulation", "AK4PF", ETA, (9.0, 0.64, 0.0025), COVARIANCE, PT, 7.5, 8, "ok"),),
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
        (1.0, 1e-11, "1"),
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


def by(method: str, value: float, stat: float, *, pt: Interval = PT, pt_mean: float = 100.0) -> Point:
    """A scale factor by some method."""
    return replace(point("scale_factor", value, stat), method=method, pt=pt, pt_mean=pt_mean)


def test_only_the_published_method_stands_in_the_first_table() -> None:
    points = (by("bisector", 1.3, 0.1), by("template", 1.1, 0.01))

    table = scale_factor_table(replace(MEASUREMENT, points=points, method="bisector"))

    assert table is not None
    assert table.columns == ("|η|", "scale factor (bisector)")
    assert table.rows == (("0.2 to 0.7", "1.30 ± 0.10"),)


def test_systematic_sources_are_added_in_quadrature_beside_the_statistical_error() -> None:
    # larger shifts 0.03 and 0.04: 0.05
    shifted = replace(by("template", 1.1, 0.02), shifts=(Shift("jes", 0.03, -0.01), Shift("pt3", 0.01, -0.04)))

    assert point_words(shifted) == "1.100 ± 0.020 ± 0.050"
    assert point_words(shifted, with_systematic=False) == "1.100 ± 0.020"


def test_a_value_that_depends_on_pt_is_told_where_it_is_known_best() -> None:
    low, high = Interval(40.0, 100.0), Interval(100.0, 2500.0)
    points = (by("template", 1.2, 0.1, pt=low, pt_mean=63.2), by("template", 1.1, 0.05, pt=high, pt_mean=170.4))

    table = scale_factor_table(replace(MEASUREMENT, points=points))

    assert table is not None
    assert table.rows == (("0.2 to 0.7", "1.100 ± 0.050 at 170"),)


def test_shifts_are_listed_in_per_cent_with_their_signs() -> None:
    shifted = replace(by("template", 1.25, 0.025), shifts=(Shift("jes", 0.025, 0.0125), Shift("width", -0.0375, 0.01)))

    table = sources_table(replace(MEASUREMENT, points=(shifted,)), "scale_factor")

    assert table is not None
    assert table.columns == ("|η|", "statistics", "jet energy scale", "width estimator", "total")
    # sqrt(2^2 + 2^2 + 3^2) = 4.12 per cent
    assert table.rows == (("0.2 to 0.7", "2.0", "+2.0 +1.0", "−3.0 +0.8", "4.1"),)  # noqa: RUF001


def test_without_sources_there_is_no_table_of_them() -> None:
    assert sources_table(MEASUREMENT, "scale_factor") is None


def test_methods_stand_side_by_side_with_their_rms() -> None:
    points = (by("bisector", 1.2, 0.1), by("template", 1.0, 0.1), by("mpfx", math.nan, math.nan))
    failed = replace(points[2], status="few_events")

    table = methods_table(replace(MEASUREMENT, points=(*points[:2], failed)), "scale_factor")

    assert table is not None
    assert table.columns == ("|η|", "template", "bisector", "mpfx", "RMS", "total of template")
    # 1.0 and 1.2 are 0.1 from their mean
    assert table.rows == (("0.2 to 0.7", "1.00 ± 0.10", "1.20 ± 0.10", "(few events)", "10 %", "–"),)  # noqa: RUF001


def test_resolutions_of_methods_are_compared_in_the_bins_that_both_measured() -> None:
    low, high = Interval(40.0, 100.0), Interval(100.0, 2500.0)
    template = replace(point("jer", 0.2, 0.002), dataset="simulation", pt=low)
    other = replace(template, method="bisector", value=0.22, stat=0.0022)

    table = resolution_methods_table(replace(MEASUREMENT, points=(template, other, replace(other, pt=high))))

    assert table is not None
    # both known to 1 per cent: 1.1 * 1.41 per cent
    assert table.rows == (("0.2 to 0.7", "1.100 ± 0.016"),)


def test_what_is_left_after_the_corrections_is_listed() -> None:
    again = (point("scale_factor_again", 1.004, 0.02), point("residual_again", 0.9996, 0.003))

    table = loop_table(replace(MEASUREMENT, points=(*MEASUREMENT.points, *again)))

    assert table is not None
    assert table.rows == (("0.2 to 0.7", "1.004 ± 0.020", "0.9996 ± 0.0030"),)
    assert loop_table(MEASUREMENT) is None


def test_what_is_one_by_construction_is_not_called_unmeasured() -> None:
    again = replace(point("residual_again", math.nan, 1e-11), status="not_converged")

    table = loop_table(replace(MEASUREMENT, points=(point("scale_factor_again", 1.0, 0.02), again)))

    assert table is not None
    assert table.rows == (("0.2 to 0.7", "1.000 ± 0.020", "–"),)  # noqa: RUF001


def test_regions_that_were_compared_are_listed_and_the_loop_is_not() -> None:
    found = (Check("standard and forward resolution, data", ETA, 4.0, 4), Check(AGAIN["residual_again"], ETA, 1.0, 1))

    table = consistency_table(replace(MEASUREMENT, checks=found))

    assert table is not None
    # P(chi2 > 4 | 4) = 3 exp(-2)
    assert table.rows == (("standard and forward resolution, data", "0.2 to 0.7", "4.0/4", "0.41"),)


def test_the_known_answer_stands_beside_what_was_measured() -> None:
    pull = {"algo": "AK4PF", "quantity": "scale_factor", "eta": [0.2, 0.7], "measured": 1.12, "known": 1.1}

    table = known_answer_table([{**pull, "error": 0.02, "pull": 1.0}])

    assert table is not None
    assert table.rows == (("AK4PF", "scale factor", "0.2 to 0.7", "1.120 ± 0.020", "1.1", "+1.0"),)


def test_a_power_that_was_fitted_has_a_column() -> None:
    curve = replace(MEASUREMENT.curves[0], power=-0.9, covariance=np.diag([0.36, 0.0064, 1e-6, 0.01]))

    table = resolution_table(replace(MEASUREMENT, curves=(curve,)))

    assert table is not None
    assert table.columns[4:6] == ("C", "P")
    assert table.rows[0][2:6] == ("3.00 ± 0.10", "0.800 ± 0.050", "0.050 ± 0.010", "−0.90 ± 0.10")  # noqa: RUF001


def test_what_the_noise_gains_with_pile_up_has_a_column() -> None:
    curve = replace(MEASUREMENT.curves[0], rho=RhoSlope(0.5, 0.1, 20.0, Interval(5.0, 35.0)))

    table = resolution_table(replace(MEASUREMENT, curves=(curve,)))

    assert table is not None
    assert table.columns[5] == "N|N| per ρ [GeV]"  # noqa: RUF001
    assert table.rows[0][5] == "0.50 ± 0.10"


def test_a_bin_that_was_not_measured_says_why() -> None:
    failed = replace(MEASUREMENT, points=(point("scale_factor", math.nan, math.nan, "negative_square"),))

    table = scale_factor_table(failed)

    assert table is not None
    assert table.rows == (("0.2 to 0.7", "(negative square)"),)


def test_curve_parameters_are_listed_by_their_physical_names() -> None:
    table = resolution_table(MEASUREMENT)

    assert table is not None
    parameters = ("3.00 ± 0.10", "0.800 ± 0.050", "0.050 ± 0.010")
    assert table.rows == (("0.2 to 0.7", "simulation", *parameters, "7.5/8", "40 to 2500", "ok"),)


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
        "Uncertainties, AK4PF": "note",
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


def test_sources_that_were_not_evaluated_are_named() -> None:
    shifted = replace(by("template", 1.1, 0.022), shifts=(Shift("jes", 0.0, 0.0),))

    found = {check.name: check for check in checks(RUN, [replace(MEASUREMENT, points=(shifted,))])}

    assert found["Uncertainties, AK4PF"].grade == "note"
    assert "known to 2.0 % to 2.0 %" in found["Uncertainties, AK4PF"].words
    assert "Not evaluated: pile-up weights" in found["Uncertainties, AK4PF"].words


# 0.2 apart, uncertainty of both 0.1 sqrt(2); and 0.4 apart
@pytest.mark.parametrize(("other", "grade"), [(1.2, "good"), (1.4, "note")])
def test_methods_far_apart_are_noted(other: float, grade: str) -> None:
    points = (by("template", 1.0, 0.1), by("bisector", other, 0.1))

    assert grades(RUN, replace(MEASUREMENT, points=points))["Scale factor by method, AK4PF"] == grade


@pytest.mark.parametrize(("chi2", "grade"), [(4.0, "good"), (40.0, "note")])
def test_regions_that_do_not_agree_are_noted(chi2: float, grade: str) -> None:
    found = (Check("standard and forward resolution, data", ETA, chi2, 4),)

    assert grades(RUN, replace(MEASUREMENT, checks=found))["Regions, AK4PF"] == grade


@pytest.mark.parametrize(("chi2", "grade"), [(4.0, "good"), (40.0, "bad")])
def test_a_loop_that_does_not_close_is_bad(chi2: float, grade: str) -> None:
    found = (Check(AGAIN["scale_factor_again"], ETA, chi2, 4),)

    assert grades(RUN, replace(MEASUREMENT, checks=found))["Closing the loop"] == grade


def resolutions(*values: float, stat: float = 0.0001) -> Measurement:
    """Resolution of simulation from dijets, relative to that from truth jets, in |eta| bins of width 1."""
    points: list[Point] = []
    for i, value in enumerate(values):
        for pt in (Interval(40.0, 65.0), Interval(65.0, 110.0)):
            common = ("AK4PF", "template", "standard", Interval(i, i + 1.0), pt, math.sqrt(pt.low * pt.high))
            points += [
                Point("jer", "simulation", *common, 0.2 * value, 0.2 * stat, "ok"),
                Point("jer_truth", "simulation", *common, 0.2, 0.00001, "ok"),
            ]
    return replace(MEASUREMENT, points=tuple(points))


@pytest.mark.parametrize(
    ("values", "stat", "grade"),
    [
        ((1.02, 1.02), 0.001, "good"),
        ((1.04, 1.04), 0.001, "note"),
        ((1.12, 0.90), 0.002, "note"),  # the mean is 1.01
        ((1.12, 0.93), 0.15, "good"),  # the first bin is off by 0.12 / (0.15 / sqrt(2)) = 1.1 errors
    ],
)
def test_closure_is_noted_by_its_mean_and_by_its_worst_bin(values: tuple[float, ...], stat: float, grade: str) -> None:
    (found,) = (check for check in checks(RUN, [resolutions(*values, stat=stat)]) if check.name == "Closure")

    assert found.grade == grade
    assert "worst bin |η| 0 to 1" in found.words


def test_why_closure_was_not_tested_is_told() -> None:
    few = tuple(replace(p, status="few_events") for p in resolutions(1.0).points)
    told = {
        "there is no simulation": [],
        "which the simulation does not have": [MEASUREMENT],
        "too few events": [replace(MEASUREMENT, points=few)],
    }

    for words, measurements in told.items():
        (found,) = (check for check in checks(RUN, measurements) if check.name == "Closure")
        assert (found.grade, words in found.words) == ("note", True)


def test_one_is_not_told_in_the_plural() -> None:
    run = {**RUN, "lost": [{}], "excluded": {"data": {"jets with pt <= 0": 3}}}
    points = (by("template", 1.0, 0.1), by("bisector", 1.4, 0.1))

    told = " ".join(check.words for check in checks(run, [replace(MEASUREMENT, points=points)]))

    for words in ("1 chunk of input was lost", "for 1 reason;", "; 1 value is further"):
        assert words in told


def test_exclusions_and_missing_corrections_are_noted() -> None:
    run = {**RUN, "excluded": {"data": {"jets with non-finite pt": 3}}, "not_written": {"Total": "no truth"}}

    found = grades(run, MEASUREMENT)

    assert found["Exclusions"] == "note"
    assert found["Corrections"] == "note"
