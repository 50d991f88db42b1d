from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from corrections.covariance import write_covariance
from corrections.results import Interval, Point

if TYPE_CHECKING:
    from pathlib import Path

BIN = Interval(0.0, 1.0)
POINT = Point("jer", "data", "AK4PF", "template", "standard", BIN, BIN, 0.5, 0.1, 0.02, "ok")


def test_correlated_points_come_with_their_covariance_and_their_lines(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    common, own = rng.normal(size=(2, 4000))
    points = [
        replace(POINT, copies=0.1 + 0.02 * common),
        POINT,
        replace(POINT, stat=0.03, copies=0.1 + 0.03 * (0.6 * common + 0.8 * own)),
    ]
    assert write_covariance(points, tmp_path / "covariance.npz") == 2
    with np.load(tmp_path / "covariance.npz", allow_pickle=False) as stored:
        assert stored["row"].tolist() == [0, 2]
        # the correlation of 0.6 has an error of (1 - 0.36) / sqrt(4000) = 0.01
        expected = [[4e-4, 0.6 * 6e-4], [0.6 * 6e-4, 9e-4]]
        assert stored["covariance"] == pytest.approx(np.array(expected), abs=0.04 * 6e-4)


def test_without_copies_there_is_no_file(tmp_path: Path) -> None:
    assert write_covariance([POINT], tmp_path / "covariance.npz") == 0
    assert not (tmp_path / "covariance.npz").exists()


def test_copies_lie_around_the_value_and_spread_by_its_uncertainty(tmp_path: Path) -> None:
    """Those of a value that was refined later do not know of it."""
    stale = replace(POINT, value=0.13, stat=0.03, copies=0.1 + 0.02 * np.random.default_rng(4).normal(size=500))
    write_covariance([stale], tmp_path / "covariance.npz")
    with np.load(tmp_path / "covariance.npz", allow_pickle=False) as stored:
        assert stored["copies"].mean() == pytest.approx(0.13, abs=1e-6)
        assert stored["copies"].std(ddof=1) == pytest.approx(0.03, rel=1e-5)
