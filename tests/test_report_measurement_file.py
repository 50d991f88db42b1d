"""A measurement on disk comes back as it was, without pickles and without anything that is not JSON."""

from __future__ import annotations

import gzip
import json
import math
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from corrections.results import AsymmetryFit, Interval, Measurement, Point, ResolutionCurve
from processors.errors import InputError
from report.measurement_file import read_measurements, to_plain, write_measurements

if TYPE_CHECKING:
    from pathlib import Path


def measurement() -> Measurement:
    """One of everything, with numbers that do not end in decimal and numbers that are none."""
    eta, pt = Interval(0.2, 0.7), Interval(40.0, math.inf)
    nothing = Interval(math.nan, math.nan)
    edges = np.linspace(-2, 2, 5)
    return Measurement(
        algo="AK4PF",
        points=(
            Point("jer", "data", "AK4PF", "template", "standard", eta, pt, 100 / 3, 0.1, 1 / 7, "ok"),
            Point("N", "data", "AK4PF", "template", "", eta, nothing, math.nan, math.nan, math.nan, "few_events"),
        ),
        curves=(ResolutionCurve("simulation", "AK4PF", eta, (9.0, 0.64, 1 / 3), np.eye(3) / 7, pt, 1.5, 3, "ok"),),
        fits=(
            AsymmetryFit(
                "data", "standard", eta, pt, edges, np.array([0.0, 1 / 3, np.nan, 2.0]), np.ones(4), np.zeros(4),
                np.full(4, np.inf), Interval(-1.0, 1.0), 0.1, 0.01, 0.0, math.nan, 0, "at_limit",
            ),
        ),
        replicas=100,
        notes=("a note with “signs” and <tags>",),
    )  # fmt: skip


def assert_same(got: Any, expected: Any) -> None:
    """Equal in every field and bit, nan equal to nan."""
    assert type(got) is type(expected)
    if isinstance(expected, np.ndarray):
        np.testing.assert_array_equal(got, expected)
        assert got.dtype == expected.dtype
    elif hasattr(expected, "__dataclass_fields__"):
        for field in fields(expected):
            assert_same(getattr(got, field.name), getattr(expected, field.name))
    elif isinstance(expected, tuple):
        assert len(got) == len(expected)
        for mine, theirs in zip(got, expected, strict=True):
            assert_same(mine, theirs)
    elif isinstance(expected, float) and math.isnan(expected):
        assert math.isnan(got)
    else:
        assert got == expected


def test_a_measurement_read_back_is_the_same_to_the_last_bit(tmp_path: Path) -> None:
    expected = (measurement(), replace(measurement(), algo="AK8", points=(), curves=(), fits=()))

    write_measurements(expected, tmp_path)

    assert_same(read_measurements(tmp_path), expected)


def test_the_file_is_strict_json(tmp_path: Path) -> None:
    def refuse(word: str) -> None:
        pytest.fail(f"{word} is not JSON")

    path = write_measurements([measurement()], tmp_path)

    json.loads(gzip.decompress(path.read_bytes()), parse_constant=refuse)


def test_the_same_measurement_gives_the_same_bytes(tmp_path: Path) -> None:
    first = write_measurements([measurement()], tmp_path).read_bytes()

    assert write_measurements([measurement()], tmp_path).read_bytes() == first


def test_fields_a_later_version_added_are_passed_over(tmp_path: Path) -> None:
    plain = to_plain(measurement())
    plain["points"][0]["systematic"] = "jes"
    document = {"format": 1, "measurements": [plain]}
    (tmp_path / "measurement.json.gz").write_bytes(gzip.compress(json.dumps(document).encode()))

    assert_same(read_measurements(tmp_path), (measurement(),))


def test_a_folder_without_measurement_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"measurement\.json\.gz"):
        read_measurements(tmp_path)


@pytest.mark.parametrize("content", [b"not gzip", gzip.compress(b"{not json", mtime=0), b""])
def test_a_damaged_file_is_a_mistake_of_the_input_and_not_of_the_program(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "measurement.json.gz").write_bytes(content)

    with pytest.raises(InputError, match="cannot be read"):
        read_measurements(tmp_path)


def test_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "measurement.json.gz").write_bytes(gzip.compress(b'{"format": 99, "measurements": []}'))

    with pytest.raises(InputError, match="format 99"):
        read_measurements(tmp_path)
