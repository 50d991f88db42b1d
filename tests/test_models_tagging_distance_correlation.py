"""Fast distance correlation against the sums over all pairs, against finite differences and against dcor."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.tagging.distance_correlation import (
    correlation_above_chance,
    correlation_gradient,
    distance_correlation,
)

FloatArray = np.ndarray
ROOT = Path(__file__).parents[1]


def of_all_pairs(x: FloatArray, y: FloatArray, weights: FloatArray, *, above_chance: FloatArray | None = None) -> float:
    """The definition, O(N^2); less the mean over assignments of the y to the x, if they are all as likely."""
    p = weights / weights.sum()

    def centred(values: FloatArray) -> FloatArray:
        distance = np.abs(values[:, None] - values)
        rows = distance @ p
        return np.asarray(distance - rows[:, None] - rows + p @ rows)

    first, second = centred(x), centred(y)
    covariance, one, two = (p @ (a * b) @ p for a, b in ((first, second), (first, first), (second, second)))
    if above_chance is not None:
        q = above_chance / above_chance.sum()
        distance = np.abs(y[:, None] - y)
        rows = distance @ q
        two = q @ (distance - rows[:, None] - rows + q @ rows) ** 2 @ q
        others = ~np.eye(len(x), dtype=bool)
        pairs = np.outer(p, p)[others]
        distance = pairs @ np.abs(y[:, None] - y)[others] / pairs.sum()
        covariance += distance * np.sum(p**2 * np.diag(first))
    return float(covariance / np.sqrt(one * two)) if one > 0 and two > 0 else 0.0


def toy(n: int, seed: int = 1) -> tuple[FloatArray, FloatArray, FloatArray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    return x, np.exp(0.3 * x**2 + rng.normal(size=n)), rng.exponential(size=n)


@pytest.mark.parametrize("digits", [0, 1, 12])
def test_it_equals_the_sum_over_all_pairs_with_and_without_ties(digits: int) -> None:
    x, y, weights = toy(700)
    x, y = np.round(x, digits), np.round(y, digits)

    assert distance_correlation(x, y, weights) == pytest.approx(of_all_pairs(x, y, weights), rel=1e-9)


@pytest.mark.slow
def test_it_equals_dcor_without_weights() -> None:
    dcor = pytest.importorskip("dcor")
    x, y, _ = toy(1000)

    assert distance_correlation(x, y) == pytest.approx(float(dcor.distance_correlation_sqr(x, y)), rel=1e-9)


@pytest.mark.parametrize("above_chance", [None, np.linspace(1.0, 2.0, 60)])
def test_its_gradient_is_that_of_the_sum_over_all_pairs(above_chance: FloatArray | None) -> None:
    x, y, weights = toy(60)
    step = 1e-6

    def pairs(x: FloatArray) -> float:
        return of_all_pairs(x, y, weights, above_chance=above_chance)

    numeric = [(pairs(x + step * unit) - pairs(x - step * unit)) / (2 * step) for unit in np.eye(60)]
    if above_chance is None:
        found = correlation_gradient(x, y, weights)
    else:
        found = correlation_above_chance(x, y, weights, above_chance)
    assert found.value == pytest.approx(pairs(x), rel=1e-9)
    np.testing.assert_allclose(found.gradient, numeric, atol=1e-8)


@pytest.mark.parametrize("weight", [8.0, 200.0])
def test_above_chance_independent_variables_have_none_on_average_though_weights_go_with_one(weight: float) -> None:
    rng = np.random.default_rng(1)
    above, with_chance = [], []
    for _ in range(1000):
        x, y = rng.normal(size=200), rng.exponential(size=200)
        weights = np.where(x > 2.0, weight, 1.0)
        above.append(correlation_above_chance(x, y, weights, np.ones(200)).value)
        with_chance.append(correlation_gradient(x, y, weights).value)

    error = np.std(above) / np.sqrt(len(above))
    assert abs(np.mean(above)) < 4 * error
    assert np.mean(with_chance) > 20 * error


@pytest.mark.parametrize(
    ("spread", "message"),
    [([0.0] * 3, "add up to 0"), ([1.0, -1.0, 1.0], "not negative"), ([1.0, np.nan, 1.0], "finite"), ([1.0], "shapes")],
)
def test_weights_of_the_spread_that_mean_nothing_are_refused(spread: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        correlation_above_chance([0.0, 1.0, 2.0], [1.0, 3.0, 2.0], [1.0, 1.0, 1.0], spread)


def test_above_chance_one_entry_with_all_of_the_weight_gives_a_number() -> None:
    found = correlation_above_chance([0.0, 1.0, 2.0], [1.0, 3.0, 2.0], [1.0, 1e-30, 1e-30], [1.0, 1.0, 1.0])

    assert np.isfinite(found.value)
    assert np.isfinite(found.gradient).all()


def test_the_gradient_of_tied_entries_lies_between_its_one_sided_limits() -> None:
    x, y, weights = toy(40)
    x = np.round(x)
    step, i = 1e-5, 7
    unit = np.eye(40)[i]

    here = of_all_pairs(x, y, weights)
    sides = [(of_all_pairs(x + s * unit, y, weights) - here) / s for s in (step, -step)]
    assert min(sides) - 1e-4 <= correlation_gradient(x, y, weights).gradient[i] <= max(sides) + 1e-4


def test_entries_without_weight_do_not_count() -> None:
    x, y, weights = toy(300)
    weights[::3] = 0.0
    kept = weights > 0

    found = correlation_gradient(x, y, weights)

    assert found.value == pytest.approx(distance_correlation(x[kept], y[kept], weights[kept]), rel=1e-12)
    assert np.all(found.gradient[~kept] == 0)


def test_a_weight_of_two_is_the_same_entry_twice() -> None:
    x, y, _ = toy(200)
    twice = np.concatenate([x, x[:50]]), np.concatenate([y, y[:50]])

    assert distance_correlation(x, y, 1.0 + (np.arange(200) < 50)) == pytest.approx(
        distance_correlation(*twice), rel=1e-10
    )


@pytest.mark.parametrize("value", [0.0, 1e9, 0.1 + 0.2])
def test_a_constant_variable_gives_zero_without_nan(value: float) -> None:
    _, y, weights = toy(50)

    for found in (correlation_gradient(np.full(50, value), y, weights), correlation_gradient(y, np.full(50, value))):
        assert found.value == 0.0
        assert np.all(found.gradient == 0)


def test_fewer_than_two_entries_give_zero() -> None:
    assert distance_correlation([], []) == 0.0
    assert distance_correlation([1.0, 2.0], [3.0, 4.0], [0.0, 1.0]) == 0.0


def test_units_do_not_matter() -> None:
    x, y, weights = toy(500)

    assert distance_correlation(1e-6 * x + 3, 250 * y, weights) == pytest.approx(
        distance_correlation(x, y, weights), rel=1e-6
    )


@pytest.mark.parametrize(
    ("x", "weights", "message"),
    [([1.0, np.nan], None, "finite"), ([1.0, 2.0], [1.0, -1.0], "negative"), ([1.0], None, "shapes")],
)
def test_what_has_no_distance_correlation_is_refused(x: list[float], weights: list[float] | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        distance_correlation(x, [1.0, 2.0], weights)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(-4, 4), st.floats(-1e3, 1e3), st.floats(0, 10)),
        min_size=2,
        max_size=40,
    )
)
def test_any_entries_agree_with_the_definition(entries: list[tuple[int, float, float]]) -> None:
    x, y, weights = (np.array(column, np.float64) for column in zip(*entries, strict=True))
    y, weights = np.round(y, 3), np.round(weights, 3)
    if weights.sum() == 0:
        return

    found = correlation_gradient(x, y, weights)

    assert found.value == pytest.approx(of_all_pairs(x, y, weights), abs=1e-7)
    assert np.isfinite(found.gradient).all()


@pytest.mark.slow
def test_the_benchmark_finds_the_value_of_all_pairs_and_its_gradient() -> None:
    pytest.importorskip("tensorflow")
    script = ROOT / "benchmarks" / "distance_correlation.py"

    printed = subprocess.run([sys.executable, script, "--largest", "1024"], capture_output=True, text=True, check=True)

    differences = [float(word) for word in printed.stdout.splitlines()[-1].split()[-2:]]
    assert max(differences) < 1e-5
