"""Response, resolution, closure and in-situ gain of calibrated jets."""

from __future__ import annotations

import numpy as np
import pytest

from models.evaluation import (
    asymmetries,
    closure_failures,
    gain,
    gaussian_core,
    in_situ_gain,
    pull_core,
    response_map,
    reweighted,
    tolerances,
)

EDGES = ((0.0, 1.0, 2.0), (50.0, 100.0, 200.0, 400.0, 800.0))


def test_the_core_of_a_normal_distribution_is_its_mean_and_width() -> None:
    values = np.random.default_rng(1).normal(1.02, 0.1, 40_000)

    got = gaussian_core(values)

    assert got.mean == pytest.approx(1.02, abs=4 * got.mean_error)
    assert got.width == pytest.approx(0.1, abs=4 * got.width_error)


def test_the_error_of_a_core_is_the_scatter_of_repeated_samples() -> None:
    rng = np.random.default_rng(2)
    cores = [gaussian_core(rng.normal(1, 0.1, 1000)) for _ in range(300)]

    got = np.std([core.mean for core in cores])

    assert got == pytest.approx(cores[0].mean_error, rel=0.15)  # 1/sqrt(2 x 300) = 4 %, three times that


def test_the_core_does_not_see_far_tails() -> None:
    rng = np.random.default_rng(3)
    values = np.concatenate([rng.normal(1, 0.1, 40_000), rng.uniform(2, 3, 2000)])

    assert gaussian_core(values).mean == pytest.approx(1.0, abs=0.003)


def test_weights_count_as_repeated_entries() -> None:
    values = np.random.default_rng(4).normal(size=2000)
    weights = np.random.default_rng(5).integers(1, 4, 2000)

    got, expected = gaussian_core(values, weights.astype(float)), gaussian_core(np.repeat(values, weights))

    assert (got.mean, got.width) == pytest.approx((expected.mean, expected.width), abs=2e-3)
    assert got.entries == pytest.approx(weights.sum() ** 2 / (weights**2).sum())


def test_too_few_entries_have_no_core() -> None:
    assert np.isnan(gaussian_core(np.ones(10)).mean)


def toy_jets(slope: float = 1.0, n: int = 60_000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """pt = 200 (truth/200)^slope with a width of 8 % of that, truth and |eta|."""
    rng = np.random.default_rng(6)
    truth = np.exp(rng.uniform(np.log(50), np.log(800), n))
    calibrated = 200 * (truth / 200) ** slope * (1 + 0.08 * rng.normal(size=n))
    return calibrated, truth, rng.uniform(0, 2, n)


def test_bins_of_truth_show_response_and_width() -> None:
    found = response_map(*toy_jets(), EDGES)

    assert found.mean.shape == (2, 4)
    np.testing.assert_allclose(found.mean, 1.0, atol=0.005)
    np.testing.assert_allclose(found.resolution, 0.08, rtol=0.05)


def test_pushing_jets_together_does_not_pay_since_widths_are_divided_by_the_slope() -> None:
    # d pt/d truth = slope x pt/truth, so the width over it is 8 %/slope
    found = response_map(*toy_jets(slope=0.9), EDGES)

    np.testing.assert_allclose(found.resolution[:, 1:3], 0.08 / 0.9, rtol=0.06)


def test_the_error_of_a_resolution_is_the_scatter_of_repeated_samples() -> None:
    rng = np.random.default_rng(8)
    maps = []
    for _ in range(100):
        truth = np.exp(rng.uniform(np.log(50), np.log(800), 4000))
        maps.append(response_map(truth * rng.normal(1, 0.1, 4000), truth, rng.uniform(0, 2, 4000), EDGES))

    scatter = np.std([each.resolution for each in maps], axis=0)
    stated = np.mean([each.resolution_error for each in maps], axis=0)

    # eight bins, each known to 1/sqrt(200) = 7 %
    assert np.sqrt(np.mean((scatter / stated) ** 2)) == pytest.approx(1.0, abs=0.12)


def test_a_narrower_response_is_a_gain() -> None:
    calibrated, truth, eta = toy_jets()
    better = truth * (1 + 0.75 * (calibrated / truth - 1))

    got, error = gain(
        response_map(better, truth, eta, EDGES), response_map(calibrated, truth, eta, EDGES), np.ones((2, 4), np.bool_)
    )

    assert got == pytest.approx(0.25, abs=max(3 * error, 0.01))


def test_two_halves_of_the_same_jets_have_no_gain_over_each_other_however_few_there_are() -> None:
    rng = np.random.default_rng(8)
    gains = []
    for _ in range(300):
        truth, eta = rng.uniform(50, 800, 600), np.full(600, 0.5)
        maps = [response_map(truth * rng.normal(1.0, 0.1, 600), truth, eta, EDGES) for _ in range(2)]
        gains.append(gain(maps[0], maps[1], np.ones((2, 4), np.bool_))[0])

    # the mean of ratios would be off by the variance of a ratio, 2 %
    assert abs(np.mean(gains)) < 3 * np.std(gains) / np.sqrt(300)


def test_only_bins_off_by_more_than_tolerance_and_errors_fail() -> None:
    calibrated, truth, eta = toy_jets()
    calibrated = np.where((truth > 200) & (truth < 400) & (eta < 1), 1.02 * calibrated, calibrated)
    found = response_map(calibrated, truth, eta, EDGES)

    assert np.argwhere(closure_failures(found, tolerances(EDGES[1], EDGES[0]))).tolist() == [[0, 2]]


def test_tolerances_are_strict_where_the_tracker_is_above_60_gev() -> None:
    got = tolerances((30, 60, 100), (0.0, 2.5, 4.5))

    assert got.tolist() == [[0.01, 0.005], [0.01, 0.01]]


def test_another_spectrum_is_the_power_of_the_true_pt() -> None:
    got = reweighted(np.array([50.0, 100.0, 200.0]), np.ones(3), -1)

    assert got.tolist() == [2.0, 1.0, 0.5]


def test_the_share_of_the_detector_that_is_removed_comes_back() -> None:
    rng = np.random.default_rng(7)
    n = 40_000
    truth, detector = 0.06 * rng.normal(size=n), 0.08 * rng.normal(size=n)
    after = truth + np.sqrt(0.6) * detector  # 40 % of the variance of the detector is gone

    got = in_situ_gain(truth + detector, after, truth, np.ones(n))

    assert got.share == pytest.approx(0.4, abs=3 * got.share_error)
    assert got.ratio == pytest.approx(np.sqrt((0.0036 + 0.6 * 0.0064) / 0.01), abs=3 * got.ratio_error)
    assert got.share_error < 0.02


def test_data_without_truth_have_a_ratio_and_no_share() -> None:
    before = np.random.default_rng(8).normal(size=1000)

    got = in_situ_gain(before, 0.9 * before, None, np.ones(1000))

    assert got.ratio == pytest.approx(0.9)
    assert np.isnan(got.share)


def test_a_right_width_gives_pulls_of_width_one() -> None:
    calibrated, truth, _ = toy_jets()

    got = pull_core(calibrated, truth, np.full(len(truth), 0.08), None)

    assert got.width == pytest.approx(1.0, abs=3 * got.width_error)


def test_an_asymmetry_is_that_of_the_convention() -> None:
    assert asymmetries(np.array([120.0]), np.array([80.0])) == pytest.approx([0.4])
