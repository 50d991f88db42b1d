"""The search for a spurious bump: none in a smooth spectrum, the injected one where there is one."""

from __future__ import annotations

import numpy as np
import pytest

from models.tagging.bump import spurious_bump


def smooth(n: int, seed: int) -> np.ndarray:
    return 40 + np.random.default_rng(seed).gamma(2.0, 35.0, n)


def test_pulls_without_a_bump_are_those_of_a_unit_normal() -> None:
    pulls = [spurious_bump(smooth(20_000, seed), orders=(5,)).significance for seed in range(60)]

    assert abs(np.mean(pulls)) < 4 / np.sqrt(60)
    assert np.std(pulls) == pytest.approx(1.0, abs=0.3)


def test_an_injected_bump_comes_back_with_its_weight() -> None:
    rng = np.random.default_rng(5)
    mass = np.concatenate([smooth(50_000, 4), rng.normal(80.4, 8.0, 2000)])

    found = spurious_bump(mass, np.full(len(mass), 0.5), orders=(5,))

    assert abs(found.signal - 1000) < 4 * found.error
    assert found.significance > 5
    assert found.share == pytest.approx(found.signal / found.background)


def test_weights_widen_the_error() -> None:
    mass = smooth(50_000, 6)
    weight = np.random.default_rng(7).exponential(size=len(mass))

    ratio = spurious_bump(mass, weight, orders=(5,)).error / spurious_bump(mass, orders=(5,)).error

    assert ratio == pytest.approx(np.sqrt(2), rel=0.1)  # <w^2> = 2


def test_the_order_is_as_high_as_the_spectrum_needs() -> None:
    found = spurious_bump(smooth(200_000, 8))

    assert found.order > 2
    assert found.chi2 / found.degrees < 2


def test_the_order_is_no_higher_than_the_spectrum_needs() -> None:
    # the logarithm of a log-normal density is quadratic in log mass
    found = [spurious_bump(np.random.default_rng(seed).lognormal(np.log(100), 0.5, 20_000)).order for seed in range(9)]

    assert np.median(found) == 2


def test_an_injected_bump_comes_back_with_the_order_that_is_found() -> None:
    rng = np.random.default_rng(9)
    mass = np.concatenate([smooth(50_000, 10), rng.normal(80.4, 8.0, 2000)])

    found = spurious_bump(mass)

    assert abs(found.signal - 2000) < 4 * found.error
    assert found.significance > 5
    assert abs(spurious_bump(smooth(50_000, 10)).significance) < 3


def test_too_few_bins_are_refused() -> None:
    with pytest.raises(ValueError, match="too few"):
        spurious_bump(np.full(100, 80.0))
