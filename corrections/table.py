"""resolution.csv: every measured point as one line, written and read."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, cast

from corrections.results import Interval, Point, Quantity, Status

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
    return [p.quantity, p.dataset, p.algo, p.method, p.region, *(repr(float(x)) for x in numbers), p.status]


def _point(row: dict[str, str]) -> Point:
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
    )
