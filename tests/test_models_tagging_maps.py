"""Maps after training: flat where they promise it, monotone, and the same in the graph."""

from __future__ import annotations

import numpy as np
import pytest

from models.tagging.maps import KINDS, Kind, fit_map, hats, rho_ddt, weighted_quantiles

FloatArray = np.ndarray


def background(n: int, seed: int = 1) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Logits that rise with rho', and widen with pT."""
    rng = np.random.default_rng(seed)
    mass, pt = 40 + rng.gamma(2.0, 35.0, n), 300 * (1 - rng.random(n)) ** -0.3
    logit = 0.8 * rho_ddt(mass, pt) + rng.normal(size=n) * (0.5 + 0.3 * np.log(pt / 300))
    return logit, mass, pt, rng.exponential(size=n)


def efficiencies(score: FloatArray, cut: float, variable: FloatArray, weight: FloatArray) -> FloatArray:
    edges = np.quantile(variable, np.linspace(0.02, 0.98, 9))
    total, passing = (np.histogram(variable, edges, weights=each)[0] for each in (weight, weight * (score >= cut)))
    return np.asarray(passing / total)


def test_the_line_of_ddt_is_the_one_that_was_put_in() -> None:
    assert fit_map("ddt", *background(100_000)).slope == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize("cut", [0.3, 0.9, 0.97])
def test_a_quantile_map_is_flat_at_every_cut_for_other_jets(cut: float) -> None:
    score_map = fit_map("quantile", *background(100_000))
    logit, mass, pt, weight = background(100_000, seed=2)
    score = score_map.apply(logit, mass, pt)

    for variable in (mass, pt):
        np.testing.assert_allclose(efficiencies(score, cut, variable, weight), 1 - cut, rtol=0.2)


def test_a_percentile_map_has_its_efficiency_at_one_half_everywhere() -> None:
    score_map = fit_map("percentile", *background(100_000), efficiency=0.2)
    logit, mass, pt, weight = background(100_000, seed=2)

    found = efficiencies(score_map.apply(logit, mass, pt), 0.5, mass, weight)
    np.testing.assert_allclose(found, 0.2, rtol=0.12)


@pytest.mark.parametrize("kind", KINDS)
def test_at_fixed_mass_and_pt_the_order_of_jets_stays(kind: Kind) -> None:
    score_map = fit_map(kind, *background(20_000))

    mapped = score_map.apply(np.linspace(-2, 9, 200), np.full(200, 90.0), np.full(200, 500.0))

    assert np.all(np.diff(mapped) >= 0)
    assert 0 <= mapped[0] < mapped[-1] <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_score_of_signal_goes_on_rising_where_hardly_any_background_is(kind: Kind) -> None:
    score_map = fit_map(kind, *background(20_000))
    logit, mass, pt, _ = background(20_000, seed=2)
    signal = logit + 3.75 * (0.5 + 0.3 * np.log(pt / 300))  # an area under the curve of 0.996

    score = score_map.apply(signal, mass, pt).astype(np.float32)

    assert np.mean(score == 1) < 0.01
    assert len(set(np.quantile(score, [0.1, 0.3, 0.5, 0.7, 0.9]).tolist())) == 5
    # at this mass and pT a permille of background is above 4.1
    rising = score_map.apply(np.linspace(4.1, 5.5, 30), np.full(30, 90.0), np.full(30, 500.0))
    assert np.all(np.diff(rising.astype(np.float32)) > 0)


def test_the_tail_of_a_quantile_map_is_that_of_background() -> None:
    score_map = fit_map("quantile", *background(100_000))
    logit, mass, pt, weight = background(400_000, seed=2)
    score = score_map.apply(logit, mass, pt)

    for cut in (0.9992, 0.9997):  # 320 and 120 jets, of weights that count as half as many
        assert np.average(score >= cut, weights=weight) == pytest.approx(1 - cut, rel=0.35)


@pytest.mark.parametrize("kind", KINDS)
def test_jets_far_outside_have_a_score(kind: Kind) -> None:
    score_map = fit_map(kind, *background(20_000))

    found = score_map.apply(np.zeros(3), np.array([0.0, 1e4, 80.0]), np.array([1.0, 1e5, 1e4]))
    assert np.all((found >= 0) & (found <= 1))


def test_too_few_jets_and_unknown_maps_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1000 effective background jets"):
        fit_map("quantile", *background(500))
    with pytest.raises(ValueError, match="ddt, percentile, quantile"):
        fit_map("spline", *background(5000))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["percentile", "quantile"])
def test_nodes_without_jets_are_those_of_the_nearest(kind: Kind) -> None:
    n, rng = 200_000, np.random.default_rng(3)
    pt = 200 * (1 - rng.random(n)) ** -0.3
    mass = 0.2 * pt * np.exp(0.02 * rng.normal(size=n))  # none are light at high pT
    first = mass if kind == "quantile" else pt**2

    score_map = fit_map(kind, rng.normal(size=n), first, pt, np.ones(n))

    found = score_map.apply(np.zeros(2), np.array([60.0, 500.0]), np.array([2000.0, 300.0]))
    assert np.isfinite(found).all()


def test_a_line_without_jets_to_fit_it_is_refused() -> None:
    logit, mass, pt, weight = background(20_000)

    with pytest.raises(ValueError, match=r"from 1.5 to 4 and needs 1000 effective .* got 0; 98 % are in -"):
        fit_map("ddt", logit, 0.01 * mass, pt, weight)
    with pytest.raises(ValueError, match="in two bins there"):
        fit_map("ddt", logit, np.full(20_000, 90.0), np.full(20_000, 500.0), weight)


def test_hats_interpolate_as_numpy_does() -> None:
    nodes, values = np.array([0.0, 1.0, 4.0]), np.array([3.0, -1.0, 5.0])
    points = np.linspace(-2, 6, 50)

    np.testing.assert_allclose(hats(points, nodes) @ values, np.interp(points, nodes, values), atol=1e-12)


def test_a_quantile_counts_weights() -> None:
    values = np.array([1.0, 2.0, 3.0])

    assert weighted_quantiles(values, np.array([0.0, 1.0, 0.0]), np.array([0.5]))[0] == 2.0


@pytest.mark.parametrize("kind", KINDS)
def test_the_graph_gives_what_numpy_gives(kind: Kind) -> None:
    tf = pytest.importorskip("tensorflow", reason="needs the extra `train`", exc_type=ImportError)
    from models.training.tagging.posthoc import mapped

    score_map = fit_map(kind, *background(50_000))
    logit, mass, pt, _ = background(500, seed=3)
    logit[:200] += np.linspace(0, 5, 200)  # up to where there is no background

    found = np.asarray(mapped(score_map, *(tf.constant(each.astype(np.float32)) for each in (logit, mass, pt))))

    expected = score_map.apply(logit, mass, pt)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    np.testing.assert_allclose(found[expected > 0.999], expected[expected > 0.999], atol=5e-7)
    assert kind != "quantile" or np.count_nonzero(expected > 0.999) > 50
