"""resolution.csv: every measured point as one line, written and read.

The columns of a systematic source are its signed shifts of the value, empty where it was not evaluated.
"""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, cast

from corrections.results import ALL_SOURCES, Interval, Point, Quantity, Shift, Status

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

COLUMNS = (
    "quantity",
    "dataset",
    "algo",
    "method",
    "region",
    "eta_low",
    "eta_high",
    "pt_low",
    "pt_high",
    "pt_mean",
    "value",
    "stat",
    *(f"{source}_{side}" for source in ALL_SOURCES for side in ("up", "down")),
    "status",
)


def write_points(points: Iterable[Point], path: Path) -> None:
    """Write the points, one line each, numbers in full precision; nan stands for what could not be measured."""
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(_row(point) for point in points)


def read_points(path: Path) -> tuple[Point, ...]:
    """The points of a file that `write_points` wrote."""
    with path.open(newline="") as stream:
        return tuple(_point(row) for row in csv.DictReader(stream))


def _row(p: Point) -> list[str]:
    numbers = (p.eta.low, p.eta.high, p.pt.low, p.pt.high, p.pt_mean, p.value, p.stat)
    shifts = [cell for source in ALL_SOURCES for cell in _cells(p.shift(source))]
    return [p.quantity, p.dataset, p.algo, p.method, p.region, *(repr(float(x)) for x in numbers), *shifts, p.status]


def _cells(shift: Shift | None) -> tuple[str, str]:
    return ("", "") if shift is None else (repr(float(shift.up)), repr(float(shift.down)))


def _point(row: dict[str, str]) -> Point:
    shifts = (
        Shift(source, float(row[f"{source}_up"]), float(row[f"{source}_down"]))
        for source in ALL_SOURCES
        if row.get(f"{source}_up")
    )
    return Point(
        cast("Quantity", row["quantity"]),
        row["dataset"],
        row["algo"],
        row["method"],
        row["region"],
        Interval(float(row["eta_low"]), float(row["eta_high"])),
        Interval(float(row["pt_low"]), float(row["pt_high"])),
        float(row["pt_mean"]),
        float(row["value"]),
        float(row["stat"]),
        cast("Status", row["status"]),
        tuple(shifts),
    )
