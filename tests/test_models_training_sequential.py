"""The global-sequential correction."""

from __future__ import annotations

import numpy as np
import pytest

from models.evaluation import gaussian_core
from models.training.sequential import fit_sequential


def jets(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Log pT, truth, |eta| and columns of jets of 5 %, of which track width and a rare segment tell the response."""
    rng = np.random.default_rng(seed)
    truth = np.exp(rng.uniform(np.log(50), np.log(1000), n))
    width = rng.uniform(0, 0.2, n)
    segments = rng.binomial(1, 0.05, n).astype(float)
    log_response = 0.05 * rng.normal(size=n) + 1.5 * (width - 0.1) - 0.2 * (segments - 0.05)
    return np.log(truth) + log_response, truth, rng.uniform(0, 0.4, n), {"track_width": width, "n_segments": segments}


def test_a_variable_that_tells_the_response_is_corrected_for_and_the_mean_stays() -> None:
    steps = fit_sequential(*jets(40_000, 1), np.ones(40_000))
    log_pt, truth, eta, columns = jets(40_000, 2)

    got = log_pt + steps.log_factor(log_pt, eta, columns) - np.log(truth)

    # 0.3 / sqrt(12) and 5 % in quadrature before
    assert np.std(log_pt - np.log(truth)) > 0.1
    assert gaussian_core(got).width == pytest.approx(0.05, rel=0.1)
    assert gaussian_core(got).mean == pytest.approx(gaussian_core(log_pt - np.log(truth)).mean, abs=0.01)


def test_a_variable_that_is_nought_for_most_jets_corrects_the_few() -> None:
    steps = fit_sequential(*jets(40_000, 1), np.ones(40_000))
    log_pt, truth, eta, columns = jets(40_000, 2)

    got = log_pt + steps.log_factor(log_pt, eta, columns) - np.log(truth)

    has_segment = columns["n_segments"] > 0
    difference = got[has_segment].mean() - got[~has_segment].mean()
    assert difference == pytest.approx(0.0, abs=0.02)  # -0.2 without the step


def test_a_variable_that_is_the_same_for_all_jets_changes_nothing() -> None:
    log_pt, truth, eta, columns = jets(5000, 1)
    constant = {"n_segments": np.zeros_like(columns["n_segments"])}

    steps = fit_sequential(log_pt, truth, eta, constant, np.ones(5000))

    np.testing.assert_array_equal(steps.log_factor(log_pt, eta, constant), 0.0)
