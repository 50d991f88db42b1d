"""Standard and forward resolutions become one with the weights of their covariance."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2

from corrections.points import combine
from corrections.results import Check, Interval, Point

ETA = Interval(1.3, 2.5)


def jer(region: str, value: float, stat: float, pt: float = 50.0, copies: np.ndarray | None = None) -> Point:
    bin_of_pt = Interval(pt, 1.3 * pt)
    own = np.zeros(0) if copies is None else copies
    return Point("jer", "data", "AK4PF", "template", region, ETA, bin_of_pt, 1.1 * pt, value, stat, "ok", copies=own)


def only(points: list[Point], checks: list[Check]) -> tuple[Point, Check]:
    assert len(points) == len(checks) == 1
    return points[0], checks[0]


def test_without_copies_the_mean_weighs_with_the_inverse_squares_of_the_errors() -> None:
    # relative errors of 3 and 4 %, both for the mean value
    point, check = only(*combine([jer("standard", 0.10, 0.003), jer("forward", 0.11, 0.0044)], "data"))
    mean = (0.10 / 9 + 0.11 / 16) / (1 / 9 + 1 / 16)
    assert point.value == pytest.approx(mean)
    assert point.stat == pytest.approx(0.024 * mean)
    assert check.chi2 == pytest.approx((0.01 / (0.05 * mean)) ** 2)
    assert check.ndf == 1
    assert check.p_value == pytest.approx(chi2.sf(check.chi2, 1))


def test_a_value_that_came_out_low_with_a_small_error_does_not_weigh_more() -> None:
    point, _ = only(*combine([jer("standard", 0.08, 0.008), jer("forward", 0.12, 0.012)], "data"))
    assert point.value == pytest.approx(0.10)


def test_with_copies_their_covariance_enters_mean_error_and_chi2() -> None:
    rng = np.random.default_rng(1)
    common, first, second = rng.normal(size=(3, 100_000))
    errors = 0.0030, 0.0033
    copies = 0.10 + errors[0] * (0.8 * common + 0.6 * first), 0.11 + errors[1] * (0.8 * common + 0.6 * second)
    pair = [jer("standard", 0.10, errors[0], copies=copies[0]), jer("forward", 0.11, errors[1], copies=copies[1])]
    point, check = only(*combine(pair, "data"))
    # correlation 0.64
    assert point.value == pytest.approx(0.105)
    assert point.stat == pytest.approx(0.00315 * np.sqrt(0.82), rel=0.01)
    assert check.chi2 == pytest.approx(0.01**2 / (2 * 0.00315**2 * 0.36), rel=0.02)
    assert np.std(point.copies) == pytest.approx(point.stat, rel=0.01)


def test_a_bin_with_one_region_only_is_left_as_it_is() -> None:
    failed = Point("jer", "data", "AK4PF", "template", "forward", ETA, Interval(50, 65), 55, np.nan, np.nan, "empty")
    assert combine([jer("standard", 0.1, 0.003), failed], "data") == ([], [])


def test_bins_add_to_one_chi2() -> None:
    points = [jer(r, v, 0.003, pt) for pt in (50.0, 100.0, 200.0) for r, v in (("standard", 0.1), ("forward", 0.106))]
    combined, checks = combine(points, "data")
    assert [p.region for p in combined] == ["combined"] * 3
    # errors of 3 % and 2.83 %, for a common value close to 0.103
    assert checks[0].chi2 == pytest.approx(6.0, rel=0.01)
    assert checks[0].ndf == 3
