"""Weights that make a spectrum flat."""

from __future__ import annotations

import numpy as np
import pytest

from models.flat_weights import effective_entries, flat_weights


def falling(n: int = 20_000) -> np.ndarray:
    return 50.0 * (1 - np.random.default_rng(1).random(n)) ** (-1 / 4)


def test_every_part_of_log_pt_gets_the_same_weight() -> None:
    pt = falling()

    weights = flat_weights(pt, np.ones(len(pt)), bound=1e9, bins_per_e=8).weights

    sums = np.histogram(np.log(pt), np.arange(32, 40) / 8, weights=weights)[0]  # whole bins of the method
    np.testing.assert_allclose(sums, sums[0], rtol=1e-9)


def test_no_weight_is_above_the_bound_and_their_mean_is_one() -> None:
    pt = falling()

    found = flat_weights(pt, np.ones(len(pt)), bound=10.0)

    assert found.weights.max() <= 10.0
    assert found.weights.mean() == pytest.approx(1.0, rel=0.02)
    assert found.effective > 2 * found.effective_unbounded
    assert found.limited > 0


def test_weights_within_a_bin_keep_their_proportions() -> None:
    pt, given = np.full(4, 100.0), np.array([1.0, 2.0, 3.0, 2.0])

    assert flat_weights(pt, given).weights == pytest.approx(given / 2)


def test_entries_without_a_momentum_or_a_weight_get_nothing() -> None:
    pt = np.array([100.0, np.nan, -1.0, 100.0, 100.0])

    found = flat_weights(pt, np.array([1.0, 1.0, 1.0, 0.0, np.nan]))

    assert found.weights.tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]


def test_the_effective_number_of_equal_weights_is_their_number() -> None:
    assert effective_entries(np.full(7, 3.0)) == pytest.approx(7)
    assert effective_entries(np.array([1.0, 3.0])) == pytest.approx(16 / 10)
    assert effective_entries(np.zeros(0)) == 0.0
