"""The table of a tagger as a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from models.features import RaggedConstituents
from models.tagging.tagger_table import JetTable, joined, read_facts, read_table, write_table

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

if TYPE_CHECKING:
    from pathlib import Path


def toy(n: int = 4, seed: int = 1) -> JetTable:
    rng = np.random.default_rng(seed)
    counts = np.arange(n) % 3
    offsets = np.concatenate([[0], np.cumsum(counts)])
    columns: dict[str, np.ndarray] = {
        "pt": rng.random(n).astype(np.float32),
        "label": (np.arange(n) % 2).astype(np.int8),
        "is_mc": np.ones(n, np.bool_),
        "identity": rng.integers(0, 2**63, n).astype(np.uint64),
    }
    return JetTable(columns, RaggedConstituents(offsets, rng.random((offsets[-1], 4)).astype(np.float32)))


def assert_same(got: JetTable, expected: JetTable) -> None:
    assert list(got.columns) == list(expected.columns)
    for name, values in expected.columns.items():
        assert got.columns[name].dtype == values.dtype
        np.testing.assert_array_equal(got.columns[name], values)
    assert got.constituents is not None
    assert expected.constituents is not None
    np.testing.assert_array_equal(got.constituents.offsets, expected.constituents.offsets)
    np.testing.assert_array_equal(got.constituents.values, expected.constituents.values)


def test_a_table_comes_back_from_its_file(tmp_path: Path) -> None:
    parts = [toy(4), toy(0), toy(3, seed=2)]

    n = write_table(parts, tmp_path / "t.parquet", {"datasets": ["a"]})

    assert n == 7
    got = read_table(tmp_path / "t.parquet")
    assert_same(got, joined(parts))
    assert got.facts["datasets"] == ["a"]
    assert read_table(tmp_path / "t.parquet", constituents=False).constituents is None


def test_chosen_jets_keep_their_constituents() -> None:
    table = toy(6)

    got = table.take(np.array([5, 1]))

    assert table.constituents is not None
    assert got.constituents is not None
    assert got.columns["pt"].tolist() == table.columns["pt"][[5, 1]].tolist()
    assert got.constituents.counts.tolist() == [2, 1]
    np.testing.assert_array_equal(got.constituents.values[:2], table.constituents.values[-2:])


def test_the_table_of_somebody_else_is_read_as_it_is(tmp_path: Path) -> None:
    columns = {"jet_pt": [1.0, 2.0], "signal": [1, 0], "m": [80.0, None], "name": ["a", "b"], "parts": [[1.0], []]}
    pq.write_table(pa.table(columns), tmp_path / "other.parquet")

    got = read_table(tmp_path / "other.parquet")

    assert list(got.columns) == ["jet_pt", "signal", "m"]
    np.testing.assert_array_equal(got.columns["m"], [80.0, np.nan])
    assert (got.constituents, got.facts) == (None, {})


def test_what_is_no_table_of_jets_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("no")
    pq.write_table(pa.table({"name": ["a"]}), tmp_path / "names.parquet")

    with pytest.raises(FileNotFoundError, match="table tagger"):
        read_table(tmp_path / "none.parquet")
    with pytest.raises(ValueError, match="not a parquet file"):
        read_table(tmp_path / "text.parquet")
    with pytest.raises(ValueError, match="no column with one number per jet"):
        read_table(tmp_path / "names.parquet")
    with pytest.raises(ValueError, match="no rows to write"):
        write_table([], tmp_path / "empty.parquet", {})


def test_the_facts_of_a_table_are_read_without_its_jets(tmp_path: Path) -> None:
    write_table([toy()], tmp_path / "ours.parquet", {"settings": {"large_jets": {"radius": 1.0}}})
    pq.write_table(pa.table({"pt": [1.0]}), tmp_path / "theirs.parquet")

    assert read_facts(tmp_path / "ours.parquet") == {"kind": "tagger", "settings": {"large_jets": {"radius": 1.0}}}
    assert read_facts(tmp_path / "theirs.parquet") == {}
