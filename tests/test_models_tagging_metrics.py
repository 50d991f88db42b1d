"""Metrics of taggers against scikit-learn, scipy and answers known from the construction of the toy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import norm

from models.tagging.metrics import (
    MASS_EDGES,
    Sculpting,
    Spectrum,
    accuracy,
    against_efficiency,
    balanced_accuracy,
    divergence,
    pareto_front,
    rejection_with_error,
    robustness,
    roc,
    sculpting,
)

N = 40_000
FloatArray = np.ndarray


def toy(n: int = N, shift: float = 0.0, seed: int = 1) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Scores, labels, masses and weights; the score of background rises by `shift` per 50 GeV."""
    rng = np.random.default_rng(seed)
    is_signal = rng.random(n) < 0.5
    mass = np.where(is_signal, rng.normal(80, 8, n), 50 + rng.exponential(60, n))
    score = rng.normal(size=n) + 1.5 * is_signal + shift * ~is_signal * (mass - 100) / 50
    return score, is_signal, mass, rng.exponential(size=n)


def test_the_curve_and_its_area_are_those_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    score, is_signal, _, weight = toy(2000)
    score = np.round(score, 1)  # ties

    found = roc(score, is_signal, weight)

    background, signal, _ = metrics.roc_curve(is_signal, score, sample_weight=weight, drop_intermediate=False)
    np.testing.assert_allclose(found.signal, signal, atol=1e-12)
    np.testing.assert_allclose(found.background, background, atol=1e-12)
    assert found.auc == pytest.approx(metrics.roc_auc_score(is_signal, score, sample_weight=weight), abs=1e-12)
    assert accuracy(score, is_signal, weight) == pytest.approx(
        metrics.accuracy_score(is_signal, score >= 0.5, sample_weight=weight), abs=1e-12
    )


def test_the_balanced_accuracy_does_not_depend_on_the_share_of_signal() -> None:
    is_signal = np.array([True, True, False, False, False, False])
    score = np.array([0.9, 0.1, 0.1, 0.1, 0.1, 0.9])

    found = balanced_accuracy(score, is_signal, np.array([1.0, 1.0, 2.0, 2.0, 2.0, 2.0]))

    assert found == pytest.approx(0.5 * (1 / 2 + 3 / 4))


def test_the_rejection_of_two_gaussians_is_the_known_one() -> None:
    score, is_signal, _, weight = toy(200_000)

    found, error = rejection_with_error(score, is_signal, weight)

    known = 1 / norm.sf(1.5)
    assert abs(found - known) < 4 * error
    assert 0.005 < error / known < 0.03


def test_a_cut_passes_jets_at_the_threshold() -> None:
    found = roc(np.array([0.1, 0.4, 0.4, 0.9]), np.array([False, True, False, True]))

    assert found.threshold(1.0) == 0.4
    assert found.rejection(1.0) == 2.0
    assert math.isinf(found.rejection(0.5))


def test_the_divergence_is_that_of_scipy_in_base_two() -> None:
    rng = np.random.default_rng(2)
    first, second = rng.random(50), rng.random(50)
    first[:10] = 0

    assert divergence(first, second) == pytest.approx(jensenshannon(first, second, base=2) ** 2, rel=1e-12)
    assert divergence(np.array([1.0, 0.0]), np.array([0.0, 3.0])) == 1.0
    assert divergence(first, 7 * first) == pytest.approx(0.0, abs=1e-15)
    assert math.isnan(divergence(first, np.zeros(50)))


def test_random_selections_have_the_divergence_of_their_statistics() -> None:
    rng = np.random.default_rng(3)
    spectrum = Spectrum.of(rng.uniform(50, 300, 50_000), np.ones(50_000))

    mean = spectrum.random(0.1, 50, rng).mean()

    expected = 49 / (8 * math.log(2)) * (1 / 5000 + 1 / 45_000)  # chi-square of 49 degrees
    assert mean == pytest.approx(expected, rel=0.06)


def test_a_score_without_mass_in_it_reaches_the_ceiling() -> None:
    found = sculpting(*toy(), replicas=30)

    assert abs(found.jsd_sub) < 4 * found.jsd_error
    assert found.inverse == pytest.approx(found.ceiling, rel=0.5)
    assert found.efficiency_signal == pytest.approx(0.5, abs=1e-4)


def test_a_known_sculpting_comes_back() -> None:
    score, is_signal, mass, weight = toy(400_000, shift=0.2)

    found = sculpting(score, is_signal, mass, weight)

    edges, cut = MASS_EDGES, roc(score, is_signal, weight).threshold()
    fine = np.linspace(50, 300, 25_001)
    middle = 0.5 * (fine[1:] + fine[:-1])
    density = np.exp(-middle / 60)
    efficiency = norm.sf(cut - 0.2 * (middle - 100) / 50)
    passing, failing = (np.histogram(middle, edges, weights=density * each)[0] for each in (efficiency, 1 - efficiency))
    known = divergence(passing.astype(float), failing.astype(float))
    assert abs(found.jsd_sub - known) < 4 * found.jsd_error
    assert known > 10 * found.jsd_error  # the test could see a difference


def test_jets_outside_of_the_bins_do_not_count_and_are_counted() -> None:
    score, is_signal, mass, weight = toy()
    outside = ~is_signal & ((mass < 50) | (mass >= 300))
    other = np.where(outside, 1e4, mass)
    other[np.flatnonzero(outside)[0]] = np.nan

    assert sculpting(score, is_signal, other, weight).jsd == sculpting(score, is_signal, mass, weight).jsd
    assert sculpting(score, is_signal, other, weight).outside == np.count_nonzero(outside)


def test_the_bootstrap_error_is_the_spread_of_independent_samples() -> None:
    copies = [sculpting(*toy(10_000, 0.3, seed), replicas=10) for seed in range(30)]

    spread = np.std([each.jsd for each in copies], ddof=1)
    assert np.mean([each.jsd_error for each in copies]) == pytest.approx(spread, rel=0.5)


def test_the_bootstrap_error_counts_that_few_signal_jets_decide_the_cut() -> None:
    copies = []
    for seed in range(30):
        score, is_signal, mass, weight = toy(20_000, 1.0, seed)
        kept = ~is_signal | (np.cumsum(is_signal) <= 30)
        copies.append(sculpting(score[kept], is_signal[kept], mass[kept], weight[kept], replicas=10))

    spread = np.std([each.jsd for each in copies], ddof=1)
    assert np.mean([each.jsd_error for each in copies]) == pytest.approx(spread, rel=0.5)


@pytest.mark.parametrize("edges", [(1.7,), (0.5, 1.7), (-1.0, 0.0, 1.0, 2.0, 3.0)])
def test_the_bootstrap_of_a_discrete_score_cuts_between_its_values(edges: tuple[float, ...]) -> None:
    score, is_signal, mass, weight = toy(6000, 0.5)
    score = np.digitize(score, edges).astype(float)  # 42 % of signal are above 1.7, which is the cut
    spectrum = Spectrum.of(mass[~is_signal], weight[~is_signal])
    rng = np.random.default_rng(5)
    jsds = []
    for _ in range(200):
        copies = rng.poisson(1.0, len(score))
        passing = score >= roc(score, is_signal, weight * copies).threshold()
        of_background = copies[~is_signal][spectrum.within].astype(float)
        jsds.append(spectrum.divergence(passing[~is_signal][spectrum.within], of_background))

    found = sculpting(score, is_signal, mass, weight, replicas=200)

    # each of both errors is known to 5 %
    assert found.jsd_error == pytest.approx(np.std(jsds, ddof=1), rel=0.2)
    assert math.isfinite(found.guaranteed)


def test_replicas_without_background_that_passes_do_not_count_in_the_spread() -> None:
    score, is_signal, mass, weight = toy(4000)
    within = np.flatnonzero(~is_signal & (mass > 60) & (mass < 300))
    score = np.where(is_signal, 5.0, 0.0)
    score[within[0]] = 5.0  # a replica has no copy of it in one case out of three

    assert sculpting(score, is_signal, mass, weight, replicas=20).jsd_error > 0
    score[within[0]] = 0.0
    assert math.isnan(sculpting(score, is_signal, mass, weight, replicas=20).jsd_error)


def test_a_scale_of_all_weights_does_not_matter() -> None:
    score, is_signal, mass, weight = toy()

    first, second = (sculpting(score, is_signal, mass, factor * weight) for factor in (1.0, 1e-6))

    assert first.jsd == pytest.approx(second.jsd, rel=1e-9)
    assert first.random == pytest.approx(second.random, rel=1e-9)


@pytest.mark.parametrize(
    ("jsd", "error", "expected"),
    [(0.003, 0.001, 1 / 0.002), (0.001, 0.0005, math.inf), (math.nan, 0.001, math.nan), (0.003, math.nan, math.nan)],
)
def test_what_is_guaranteed_is_one_over_the_divergence_above_chance_plus_its_error(
    jsd: float, error: float, expected: float
) -> None:
    found = Sculpting(jsd, error, 0.002, 0.5, 0.1, 1000.0, 0)

    assert found.told()["guaranteed_inverse_jsd"] == pytest.approx(expected, nan_ok=True)


def test_a_constant_score_passes_everything_and_guarantees_nothing() -> None:
    score, is_signal, mass, weight = toy(2000)

    found = sculpting(np.zeros_like(score), is_signal, mass, weight, replicas=3)

    assert math.isnan(found.guaranteed)
    assert roc(np.zeros_like(score), is_signal, weight).rejection(0.3) == pytest.approx(1.0)
    (point,) = against_efficiency(np.zeros_like(score), is_signal, mass, weight, efficiencies=(0.1,))
    assert point.efficiency_background == pytest.approx(1.0)


def test_divergence_is_told_for_each_efficiency() -> None:
    score, is_signal, mass, weight = toy(shift=0.3)

    points = against_efficiency(score, is_signal, mass, weight, efficiencies=(0.1, 0.5))

    assert [round(point.efficiency_background, 2) for point in points] == [0.1, 0.5]
    assert all(point.jsd > point.random for point in points)


def test_bins_of_another_variable_share_one_cut() -> None:
    score, is_signal, mass, weight = toy()
    pt = np.where(np.arange(N) % 2, 250.0, 500.0)
    score = score + (pt > 300)

    low, high = (robustness(score, is_signal, mass, weight, pt)[i] for i in (0, 3))

    assert low.efficiency_signal < 0.5 < high.efficiency_signal
    assert low.rejection > high.rejection
    assert math.isnan(robustness(score, is_signal, mass, weight, pt)[8].jsd)


def test_the_last_bin_of_another_variable_holds_its_upper_edge() -> None:
    score, is_signal, mass, weight = toy()
    pt = np.where(np.arange(N) % 2, 250.0, 300.0)

    low, high = robustness(score, is_signal, mass, weight, pt, (200.0, 250.0, 300.0))

    assert math.isnan(low.jsd)
    whole = roc(score, is_signal, weight)
    assert high.rejection == pytest.approx(whole.rejection())


@pytest.mark.parametrize("weight", [np.zeros(4), np.array([1.0, 1.0, -2.0, 1.0])])
def test_a_class_without_weight_is_refused(weight: FloatArray) -> None:
    with pytest.raises(ValueError, match="positive sum"):
        roc(np.arange(4.0), np.array([False, False, True, True]), weight)


def test_the_front_keeps_what_nothing_beats() -> None:
    assert pareto_front([1.0, 3.0, 2.0, 2.0], [9.0, 1.0, 5.0, 4.0]) == [0, 2, 1]
