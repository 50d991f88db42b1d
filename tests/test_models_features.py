"""Columns of jets side by side."""

from __future__ import annotations

import numpy as np
import pytest

from models.features import RaggedConstituents, feature_matrix

COLUMNS = {"pt": lambda: np.array([30.0, 20.0]), "npv": lambda: np.array([7, 8], np.int32)}


def test_columns_stand_in_the_order_asked_for() -> None:
    matrix = feature_matrix(COLUMNS, ("npv", "pt"))

    assert matrix.tolist() == [[7.0, 30.0], [8.0, 20.0]]
    assert matrix.dtype == np.float32
    assert matrix.flags.c_contiguous


def test_only_the_columns_asked_for_are_made() -> None:
    def refuse() -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        raise AssertionError

    assert feature_matrix({**COLUMNS, "area": refuse}, ("pt",)).shape == (2, 1)


def test_missing_columns_are_named() -> None:
    with pytest.raises(ValueError, match="the jets have no area, mass; they have pt, npv"):
        feature_matrix(COLUMNS, ("pt", "area", "mass"))


def test_a_network_without_features_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one feature"):
        feature_matrix(COLUMNS, ())


RAGGED = RaggedConstituents(np.array([0, 2, 2, 5]), np.arange(20, dtype=np.float32).reshape(5, 4))


def test_jets_take_their_constituents_along() -> None:
    got = RAGGED.take(np.array([2, 0, 1]))

    assert got.counts.tolist() == [3, 2, 0]
    assert got.values[:, 0].tolist() == [8.0, 12.0, 16.0, 0.0, 4.0]


def test_constituents_are_filled_up_with_zeros() -> None:
    got = RAGGED.padded(4)

    assert got.shape == (3, 4, 4)
    assert got[:, :, 0].tolist() == [[0, 4, 0, 0], [0, 0, 0, 0], [8, 12, 16, 0]]


def test_the_first_constituents_are_kept() -> None:
    got = RAGGED.limited(2)

    assert got.offsets.tolist() == [0, 2, 2, 4]
    assert got.values[:, 0].tolist() == [0, 4, 8, 12]
    assert RAGGED.padded(2)[2, :, 0].tolist() == [8, 12]
    assert RAGGED.limited(3) is RAGGED
