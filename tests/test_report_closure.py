"""Ratios that figures and tables show: which points they take, and their errors."""

from __future__ import annotations

import math

import numpy as np
import pytest

from corrections.results import Interval, Measurement, Point
from report.closure import Ratio, closure, data_over_simulation, main_method, mean, one_per_bin

ETA = Interval(0.2, 0.7)
PT = (Interval(40.0, 65.0), Interval(65.0, 110.0), Interval(110.0, 190.0))


def point(quantity: str, dataset: str, pt: Interval, value: float, stat: float, **changes: object) -> Point:
    """A point whose mean pT is the geometric middle of its bin."""
    entries: dict[str, object] = {
        "quantity": quantity, "dataset": dataset, "algo": "AK4PF", "method": "template", "region": "standard",
        "eta": ETA, "pt": pt, "pt_mean": math.sqrt(pt.low * pt.high), "value": value, "stat": stat, "status": "ok",
    }  # fmt: skip
    return Point(**{**entries, **changes})  # type: ignore[arg-type]


def of(*points: Point) -> Measurement:
    return Measurement("AK4PF", points, (), (), 0)


def test_a_ratio_has_the_relative_errors_in_quadrature() -> None:
    measurement = of(point("jer", "simulation", PT[0], 0.2, 0.006), point("jer", "data", PT[0], 0.22, 0.0088))

    (got,) = data_over_simulation(measurement, "jer", ETA)

    # 3 % and 4 % make 5 % of 1.1
    assert got.value == pytest.approx(1.1)
    assert got.stat == pytest.approx(0.055)


def test_only_bins_measured_in_both_and_in_the_same_region_have_a_ratio() -> None:
    measurement = of(
        point("jer", "simulation", PT[0], 0.2, 0.01),
        point("jer", "data", PT[0], 0.2, 0.01, region="forward"),
        point("jer", "simulation", PT[1], 0.2, 0.01),
        point("jer", "data", PT[1], math.nan, math.nan, status="few_events"),
        point("jer", "simulation", PT[2], 0.2, 0.01),
        point("jer", "data", PT[2], 0.2, 0.01),
    )

    assert [ratio.pt for ratio in data_over_simulation(measurement, "jer", ETA)] == [PT[2]]


def test_regions_that_were_combined_count_once() -> None:
    both = [
        point("jer", dataset, PT[0], value, stat, region=region)
        for dataset in ("simulation", "data")
        for region, value, stat in (("standard", 0.20, 0.02), ("forward", 0.21, 0.01), ("combined", 0.208, 0.009))
    ]
    truth = [point("jer_truth", "simulation", pt, 0.2, 0.001) for pt in PT]

    assert [ratio.region for ratio in data_over_simulation(of(*both), "jer", ETA)] == ["combined"]
    assert [ratio.region for ratio in closure(of(*both, *truth), ETA)] == ["combined"]


def test_of_regions_that_were_not_combined_the_better_known_counts() -> None:
    standard, forward = (point("jer", "data", PT[0], 0.2, stat, region=r) for stat, r in ((0.02, "s"), (0.01, "f")))
    failed = point("jer", "data", PT[1], math.nan, math.nan, status="few_events")

    assert one_per_bin([standard, forward, failed]) == [forward, failed]


def test_the_main_method_is_the_template_fit_even_if_another_comes_first() -> None:
    measurement = of(
        point("jer", "data", PT[0], 0.3, 0.01, method="truncated_rms"), point("jer", "data", PT[0], 0.2, 0.01)
    )

    assert main_method(measurement, "jer") == "template"
    assert main_method(measurement, "residual") is None


def test_closure_of_a_power_law_is_one_at_any_mean_pt() -> None:
    # sigma/pT = 1/sqrt(pT) is linear in the logarithms, so the interpolation is exact.
    truth = [point("jer_truth", "simulation", pt, (pt.low * pt.high) ** -0.25, 0.001) for pt in PT]
    measured = [point("jer", "simulation", pt, (1.1 * pt.low) ** -0.5, 0.001, pt_mean=1.1 * pt.low) for pt in PT]

    got = [ratio.value for ratio in closure(of(*truth, *measured), ETA)]

    np.testing.assert_allclose(got, 1, rtol=1e-12)


def test_closure_does_not_reach_beyond_the_truth() -> None:
    truth = [point("jer_truth", "simulation", pt, 0.2, 0.001) for pt in PT[1:]]
    measured = [point("jer", "simulation", pt, 0.2, 0.001) for pt in PT]

    assert [ratio.pt for ratio in closure(of(*truth, *measured), ETA)] == [*PT[1:]]


def test_without_truth_there_is_no_closure() -> None:
    assert closure(of(point("jer", "simulation", PT[0], 0.2, 0.01)), ETA) == []


def test_the_mean_of_ratios_is_weighted() -> None:
    ratios = [Ratio("", ETA, PT[0], 50.0, 1.0, 0.1), Ratio("", ETA, PT[1], 80.0, 1.6, 0.2)]

    value, error, chi2 = mean(ratios)

    # weights 100 and 25: (100 * 1.0 + 25 * 1.6) / 125, 1/sqrt(125), (0.12/0.1)^2 + (0.48/0.2)^2
    assert value == pytest.approx(1.12)
    assert error == pytest.approx(125**-0.5)
    assert chi2 == pytest.approx(1.44 + 5.76)


def test_the_mean_of_nothing_is_nan() -> None:
    assert all(math.isnan(number) for number in mean([Ratio("", ETA, PT[0], 50.0, math.nan, math.nan)]))
