"""Columns of jets side by side."""

from __future__ import annotations

import numpy as np
import pytest

from models.features import feature_matrix

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
