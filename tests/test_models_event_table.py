"""Training tables in memory and as parquet files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from calibration_toys import ToyJets

from models.event_table import EventTable, joined, read_table, write_rows

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("pyarrow")


def assert_equal(got: EventTable, expected: EventTable) -> None:
    for name in expected.event:
        np.testing.assert_array_equal(got.event[name], expected.event[name], name)
    for name in expected.jets:
        np.testing.assert_array_equal(got.jets[name], expected.jets[name], name)
    assert got.constituents is not None
    assert expected.constituents is not None
    np.testing.assert_array_equal(got.constituents.offsets, expected.constituents.offsets)
    np.testing.assert_allclose(got.constituents.values, expected.constituents.values, rtol=1e-6)


def test_a_table_comes_back_from_its_file(tmp_path: Path) -> None:
    table = ToyJets().table(20, seed=1)

    n = write_rows([table.take(np.arange(12)), table.take(np.arange(12, 20))], tmp_path / "t.parquet", {"who": "toy"})

    got = read_table(tmp_path / "t.parquet")
    assert n == 20
    assert_equal(got, table)
    assert (got.datasets, got.facts) == (("simulation",), {"who": "toy"})
    assert [path.name for path in tmp_path.iterdir()] == ["t.parquet"]


def test_a_table_can_be_read_without_its_constituents(tmp_path: Path) -> None:
    write_rows([ToyJets().table(3, seed=1)], tmp_path / "t.parquet", {})

    assert read_table(tmp_path / "t.parquet", constituents=False).constituents is None


def test_joined_tables_keep_the_names_of_their_datasets() -> None:
    simulation, data = ToyJets().table(5, seed=1), ToyJets().table(4, seed=2, is_mc=False)

    both = joined([simulation, data])

    assert both.datasets == ("simulation", "data")
    assert both.event["dataset"].tolist() == [0] * 5 + [1] * 4
    assert_equal(both.take(both.event["is_mc"]), simulation)


def test_some_events_have_their_own_constituents() -> None:
    table = ToyJets().table(10, seed=1)

    chosen = table.take(np.array([7, 2]))

    assert chosen.constituents is not None
    np.testing.assert_allclose(
        np.add.reduceat(chosen.constituents.values[:, 3], chosen.constituents.offsets[:-1]),
        chosen.jets["pt"].ravel(),
        rtol=1e-5,
    )


def test_files_that_are_no_table_are_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.parquet"
    with pytest.raises(FileNotFoundError, match=r"broken\.parquet does not exist; make one with"):
        read_table(path)
    path.write_text("not a table")

    with pytest.raises(ValueError, match=r"broken\.parquet is not a parquet file"):
        read_table(path)


def test_no_events_are_no_table(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no events"):
        write_rows([], tmp_path / "t.parquet", {})
