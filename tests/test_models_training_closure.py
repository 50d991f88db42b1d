"""The last step of a calibration."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from models.evaluation import pull_core, response_map
from models.training.closure import Closure, fit_closure, hats, no_closure
from models.training.settings import ClosureSettings

EDGES = ((0.0, 0.8, 1.3, 2.5), (30.0, 60.0, 120.0, 300.0, 700.0, 1500.0))


def jets(seed: int, power: float, n: int = 100_000) -> tuple[np.ndarray, ...]:
    """Log pT, truth, |eta| and half the right width of jets with a response that depends on pT and |eta|.

    The true spectrum in log pT is pT^power.
    """
    rng = np.random.default_rng(seed)
    low, high = (np.array([20.0, 2000.0]) ** power) if power else np.log([20.0, 2000.0])
    drawn = rng.uniform(min(low, high), max(low, high), n)
    truth = drawn ** (1 / power) if power else np.exp(drawn)
    eta = rng.uniform(0, 3, n)
    width = 0.04 + 0.6 / np.sqrt(truth)
    response = 1 + 0.03 * np.log(truth / 200) * (1 - 0.2 * eta) - 0.02 * eta
    return np.log(truth * response * np.maximum(1 + width * rng.normal(size=n), 0.1)), truth, eta, 0.5 * width


@functools.cache
def fitted() -> Closure:
    log_pt, truth, eta, width = jets(1, 0.0)
    return fit_closure(log_pt, truth, eta, width, ClosureSettings())


@pytest.mark.parametrize("power", [-1.0, 0.0, 1.0])
def test_the_mean_response_is_one_in_every_bin_whatever_the_spectrum(power: float) -> None:
    closure = fitted()
    log_pt, truth, eta, _ = jets(2, power)

    shift, _ = closure.apply(log_pt, eta)
    found = response_map(np.exp(log_pt + shift), truth, eta, EDGES)

    inside = np.isfinite(found.mean)
    off = np.abs(found.mean - 1)[inside]
    assert inside.sum() >= 12
    # both samples have about the same statistics
    assert np.all((off < 0.005) | (off < 3 * np.sqrt(2) * found.mean_error[inside]))


def test_the_width_is_calibrated_too() -> None:
    log_pt, truth, eta, width = jets(1, 0.0)

    shift, factor = fitted().apply(log_pt, eta)
    got = pull_core(np.exp(log_pt + shift), truth, width * factor, None)

    assert got.width == pytest.approx(1.0, abs=0.02)
    assert np.median(factor) == pytest.approx(2.0, rel=0.05)


def test_jets_beyond_the_grid_get_what_its_end_says() -> None:
    closure = Closure(np.array([3.0, 4.0]), np.array([0.0, 1.0]), np.array([[0.1, 0.2], [0.3, 0.4]]), np.ones((2, 2)))

    shift, _ = closure.apply(np.array([2.0, 9.0, 3.5]), np.array([0.0, 5.0, 0.5]))

    assert shift == pytest.approx([0.1, 0.4, 0.25])


def test_weights_of_interpolation_add_up_to_one() -> None:
    nodes = np.array([0.0, 1.0, 1.5, 4.0])

    got = hats(np.array([-1.0, 0.25, 1.0, 2.75, 9.0]), nodes)

    assert got.sum(axis=1) == pytest.approx(1.0)
    assert got @ nodes == pytest.approx([0.0, 0.25, 1.0, 2.75, 4.0])


def test_no_closure_changes_nothing() -> None:
    shift, width = no_closure().apply(np.array([4.0]), np.array([1.0]))

    assert (shift.tolist(), width.tolist()) == ([0.0], [1.0])
