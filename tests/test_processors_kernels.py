"""The compiled loops against plain Python and numpy on the same numbers."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from boost_histogram import Histogram, axis, storage
from hypothesis import given, settings
from hypothesis import strategies as st

from processors import kernels
from processors.binning import Binning
from processors.dijet import grid

CUT = kernels.ThirdJetCut(25.0, 0.25)


def make_jets(counts: list[int], rng: np.random.Generator) -> kernels.Leading:
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    n = int(offsets[-1])
    pt = rng.uniform(15, 300, n).astype(np.float32)
    for start, stop in pairwise(offsets):
        pt[start:stop] = np.sort(pt[start:stop])[::-1]
    eta = rng.uniform(-5, 5, n).astype(np.float32)
    phi = rng.uniform(-np.pi, np.pi, n).astype(np.float32)
    return kernels.Leading(offsets, pt, eta, phi)


def delta_phi(a: float, b: float) -> float:
    return abs((a - b + np.pi) % (2 * np.pi) - np.pi)


def back_to_back(counts: list[int], rng: np.random.Generator) -> kernels.Leading:
    jets = make_jets(counts, rng)
    for start, n in zip(jets.offsets[:-1], counts, strict=True):
        if n > 1:
            jets.phi[start + 1] = (jets.phi[start] + 2 * np.pi) % (2 * np.pi) - np.pi
    return jets


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.integers(0, 2**31))
def test_pairs_are_the_two_leading_good_jets(counts: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    jets = make_jets(counts, rng)
    good = rng.random(len(jets.pt)) < 0.7

    got = kernels.find_pairs(jets, good)

    for event in range(len(counts)):
        used = [j for j in range(jets.offsets[event], jets.offsets[event + 1]) if good[j]]
        expected = [*used[:3], -1, -1, -1][:3]
        assert [got.first[event], got.second[event], got.third[event]] == expected
        if len(used) < 2:
            assert np.isnan(got.pt_avg[event])
            assert np.isnan(got.delta_phi[event])
        else:
            a, b = used[:2]
            assert got.pt_avg[event] == pytest.approx((float(jets.pt[a]) + float(jets.pt[b])) / 2)
            assert got.delta_phi[event] == pytest.approx(delta_phi(float(jets.phi[a]), float(jets.phi[b])))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=30), st.integers(0, 2**31))
def test_steps_as_read_follow_the_written_cuts(counts: list[int], seed: int) -> None:
    jets = make_jets(counts, np.random.default_rng(seed))

    got = kernels.as_read_steps(jets, 2.0, CUT)

    for event, n in enumerate(counts):
        pt = jets.pt[jets.offsets[event] :][:n].astype(float)
        phi = jets.phi[jets.offsets[event] :][:n].astype(float)
        expected = 0
        if n >= 2:
            expected = 1
            if delta_phi(phi[0], phi[1]) > 2.0:
                soft = n == 2 or pt[2] < max(25.0, 0.25 * (pt[0] + pt[1]) / 2)
                expected = 3 if soft else 2
        assert got[event] == expected


def dijets_of(jets: kernels.Leading, identity: np.ndarray, binning: Binning) -> kernels.Dijets:
    pairs = kernels.find_pairs(jets, np.ones(len(jets.pt), np.bool_))
    none = np.zeros(0, np.int32)
    partners = kernels.Partners(none, none, np.zeros(0, np.float32), np.zeros(0, np.float32))
    usable = pairs.second >= 0
    passed = np.where(usable, 4, 0).astype(np.int8)
    places = kernels.locate(pairs, usable, identity, jets, grid(binning))
    cuts = kernels.Cuts(np.array([-1.0]), np.array([CUT.min_pt]), np.array([CUT.max_fraction]))
    return kernels.choose(kernels.find_candidates(pairs, places, partners, passed, grid(binning), cuts), 0)


@pytest.mark.parametrize("scheme", ["atlas", "cms"])
def test_candidates_agree_with_a_plain_loop(scheme: str) -> None:
    """Region, probe, bins and asymmetry of every event recomputed in Python from the definitions."""
    binning = Binning(scheme=scheme)  # type: ignore[arg-type]
    rng = np.random.default_rng(5)
    jets = make_jets(list(rng.integers(2, 5, 4000)), rng)
    identity = rng.integers(0, 2**63, 4000).astype(np.uint64)

    got = dijets_of(jets, identity, binning)

    shape = binning.shape
    expected = []
    low, high = binning.reference_range
    for event in range(4000):
        place = slice(jets.offsets[event], jets.offsets[event + 1])
        pt, eta = jets.pt[place].astype(float), np.abs(jets.eta[place].astype(float))
        mean = (pt[0] + pt[1]) / 2
        bins = [int(np.searchsorted(binning.eta_edges, x, side="right")) - 1 for x in eta[:2]]
        bins = [b if b < shape[0] else -1 for b in bins]
        pt_bin = int(np.searchsorted(binning.pt_avg_edges, mean, side="right")) - 1
        if not 0 <= pt_bin < shape[2]:
            continue
        in_reference = [low <= x < high for x in eta[:2]]
        coin = kernels.probe_is_first(identity[event])
        if bins[0] >= 0 and bins[0] == bins[1]:
            region, first = 0, coin
        elif all(in_reference):
            region, first = 1, coin
        elif in_reference[0] and bins[1] >= 0:
            region, first = 1, False
        elif in_reference[1] and bins[0] >= 0:
            region, first = 1, True
        else:
            continue
        third = pt[2] if len(pt) > 2 else 0.0
        soft = third < max(25.0, 0.25 * mean)
        alpha_bin = int(np.searchsorted(binning.alpha_edges, third / mean, side="right")) - 1
        if alpha_bin == shape[3] - 1 and not soft:
            continue
        probe, reference = (0, 1) if first else (1, 0)
        cell = np.ravel_multi_index((bins[probe], region, pt_bin, alpha_bin, int(soft)), shape[:5])
        expected.append((event, int(cell), 2 * (pt[probe] - pt[reference]) / (pt[probe] + pt[reference])))
    assert len(expected) > 500
    assert [tuple(x) for x in zip(got.event.tolist(), got.cell.tolist(), strict=True)] == [x[:2] for x in expected]
    np.testing.assert_allclose(got.asymmetry, [x[2] for x in expected], rtol=1e-12)


def test_probe_choice_is_fair_and_does_not_follow_the_bootstrap() -> None:
    identity = np.random.default_rng(3).integers(0, 2**63, 40_000).astype(np.uint64)
    coin = np.array([kernels.probe_is_first(i) for i in identity])
    counts = np.empty(4, np.float32)
    draws = []
    for i in identity:
        kernels.poisson_weights(i, counts)
        draws.append(counts.copy())
    # binomial error of a fair coin over 40000: 0.0025
    assert abs(coin.mean() - 0.5) < 0.01
    assert abs(np.corrcoef(coin, np.array(draws)[:, 0])[0, 1]) < 0.02


def test_matching_takes_the_nearest_truth_jet_inside_the_cone() -> None:
    jets = kernels.Leading(
        np.array([0, 2], np.int64),
        np.array([100, 90], np.float32),
        np.array([0.0, 1.0], np.float32),
        np.array([3.1, 0.0], np.float32),
    )
    truth = kernels.Leading(
        np.array([0, 3], np.int64),
        np.array([95, 80, 20], np.float32),
        np.array([0.02, 1.15, 1.4], np.float32),
        np.array([-3.1, 0.0, 0.0], np.float32),
    )
    pairs = kernels.find_pairs(jets, np.ones(2, np.bool_))

    first, second = kernels.match_leading(pairs, np.ones(1, np.bool_), jets, truth, 0.2)

    # across phi = pi the distance is 2 pi - 6.2 = 0.083
    assert (first[0], second[0]) == (0, 1)
    first, second = kernels.match_leading(pairs, np.ones(1, np.bool_), jets, truth, 0.1)
    assert (first[0], second[0]) == (0, -1)


def test_poisson_weights_have_mean_and_variance_one_and_the_right_probabilities() -> None:
    identity = np.random.default_rng(1).integers(0, 2**63, 20_000).astype(np.uint64)
    counts = np.empty((len(identity), 50), np.float32)
    for row, i in zip(counts, identity, strict=True):
        kernels.poisson_weights(i, row)
    # a million draws: standard errors 0.001 of the mean, 0.0017 of the variance, at most 0.0005 of a probability
    assert abs(counts.mean() - 1) < 0.005
    assert abs(counts.var() - 1) < 0.008
    for k, probability in enumerate(np.exp(-1) / np.array([1, 1, 2, 6, 24])):
        assert abs((counts == k).mean() - probability) < 0.0025
    correlation = np.corrcoef(counts[:, :8].T) - np.eye(8)
    assert np.abs(correlation).max() < 0.035  # 5 sigma of 1/sqrt(20000)


def test_bin_index_follows_boost_histogram_on_its_edges_and_beyond() -> None:
    value = np.array([-2.0, -1.99, -0.02, 0.0, 0.02 - 1e-9, 1.999, 2.0, np.nan, 3.0, -3.0])
    got = kernels.bin_index(np.zeros(len(value), np.int32), value, -2.0, 2.0, 200)
    regular = axis.Regular(200, -2, 2)
    expected = [regular.index(v) for v in value[:6]]
    assert got[:6].tolist() == expected
    assert got[6:].tolist() == [199, -1, 199, 0]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 400), st.integers(0, 2**31))
def test_sums_agree_with_boost_histogram(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    index = rng.integers(-1, 50, n)
    weight = rng.normal(1, 2, n)
    reference = Histogram(axis.Integer(0, 50), storage=storage.Weight())
    reference.fill(index[index >= 0], weight=weight[index >= 0])

    bins = kernels.touched_bins(index, 50)
    sums = kernels.fill_sums(index, bins, weight, 50)

    assert bins.tolist() == sorted({int(i) for i in index if i >= 0})
    np.testing.assert_allclose(sums[:, 0], reference.view().value[bins], atol=1e-12)
    np.testing.assert_allclose(sums[:, 1], reference.view().variance[bins], atol=1e-12)


def test_replicas_are_the_sums_of_the_draws_of_each_event() -> None:
    rng = np.random.default_rng(8)
    n = 300
    index, truth = rng.integers(0, 20, n), rng.integers(-1, 20, n)
    weight = rng.uniform(0.5, 2, n)
    identity = rng.integers(0, 2**63, n).astype(np.uint64)
    bins = kernels.touched_bins(index, 20), kernels.touched_bins(truth, 20)

    got, got_truth = kernels.fill_replicas((index, truth), bins, weight, identity, 7, 20)

    counts = np.empty((n, 7), np.float32)
    for row, i in zip(counts, identity, strict=True):
        kernels.poisson_weights(i, row)
    for level, values, where in ((got, index, bins[0]), (got_truth, truth, bins[1])):
        expected = np.array([(counts * weight[:, None])[values == b].sum(axis=0) for b in where])
        np.testing.assert_allclose(level, expected, rtol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 300), st.integers(0, 2**31))
def test_the_spectrum_agrees_with_numpy_on_its_edges_too(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    edges = np.geomspace(20, 4000, 81)
    value = np.concatenate([edges, rng.uniform(10, 5000, n)])
    cell = rng.integers(0, 10, len(value)).astype(np.int32)
    weight = rng.uniform(0.5, 2, len(value))
    kept = (cell % 2 == 1) & (value < edges[-1])  # numpy would count the last edge in

    got = kernels.fill_spectrum(edges, value, cell, weight)

    for column, power in ((0, 1), (1, 2)):
        expected = np.histogram(value[kept], edges, weights=weight[kept] ** power)[0]
        np.testing.assert_allclose(got[:, column], expected, atol=1e-12)


def pair(phi: tuple[float, float], pt: tuple[float, float]) -> kernels.Leading:
    """One event with two jets."""
    offsets = np.array([0, 2], np.int64)
    return kernels.Leading(offsets, np.array(pt, np.float32), np.zeros(2, np.float32), np.array(phi, np.float32))


@pytest.mark.parametrize("phi", [(0.3, -2.5), (3.0, -0.4), (-1.0, 1.9)])
@pytest.mark.parametrize("probe", [1, -1])
def test_bisector_components_are_projections_of_the_vector_sum(phi: tuple[float, float], probe: int) -> None:
    jets, identity = pair(phi, (120.0, 100.0)), np.array([7], np.uint64)
    direction = np.array([[np.cos(x), np.sin(x)] for x in jets.phi.astype(float)])
    total = 120 * direction[0] + 100 * direction[1]
    along, across = direction[0] + direction[1], probe * (direction[0] - direction[1])

    psi, eta = kernels.bisector_components(
        np.zeros(1, np.int32), np.array([probe], np.int8), kernels.find_pairs(jets, np.ones(2, np.bool_)), identity
    )

    assert psi[0] == pytest.approx(total @ across / np.linalg.norm(across) / 110)
    assert abs(eta[0]) == pytest.approx(total @ along / np.linalg.norm(along) / 110)
    assert np.sign(eta[0]) == kernels.bisector_side(identity[0])


def test_truth_components_are_those_of_the_partners_in_units_of_their_own_mean() -> None:
    truth = pair((0.1, 3.0), (80.0, 90.0))
    identity = np.arange(2, dtype=np.uint64)
    partners = kernels.Partners(np.array([0, 0], np.int32), np.array([1, -1], np.int32), truth.pt, truth.phi)

    got = kernels.truth_bisector_components(np.arange(2, dtype=np.int32), np.ones(2, np.int8), partners, identity)

    plain = kernels.bisector_components(
        np.zeros(1, np.int32), np.ones(1, np.int8), kernels.find_pairs(truth, np.ones(2, np.bool_)), identity
    )
    np.testing.assert_allclose(got[:, 0], plain[:, 0])
    assert np.isnan(got[:, 1]).all()


def test_which_way_the_bisector_points_is_fair_and_does_not_follow_the_probe() -> None:
    identity = np.random.default_rng(4).integers(0, 2**63, 40_000).astype(np.uint64)
    side = np.array([kernels.bisector_side(i) for i in identity])
    coin = np.array([kernels.probe_is_first(i) for i in identity])
    # errors of 0.005 each
    assert abs(side.mean()) < 0.02
    assert abs(np.corrcoef(side, coin)[0, 1]) < 0.02


@pytest.mark.parametrize("probe", [1, -1])
def test_missing_momentum_of_mismeasured_jets_is_their_asymmetry(probe: int) -> None:
    """Both jets have 100 GeV, back to back; the first is measured with 112, the second with 97, and nothing else."""
    jets = pair((0.5, 0.5 - np.pi), (112.0, 97.0))
    lost = (-12 + 3) * np.array([np.cos(0.5), np.sin(0.5)]) - 6 * np.array([np.cos(0.5), np.sin(0.5)])
    pairs = kernels.find_pairs(jets, np.ones(2, np.bool_))
    event, sign = np.zeros(1, np.int32), np.array([probe], np.int8)

    mpf, mpfx = kernels.missing_components(event, sign, pairs, jets, lost[:1], lost[1:])

    assert mpf[0] == pytest.approx(probe * pairs.asymmetry[0], rel=1e-6)
    assert mpfx[0] == pytest.approx(0, abs=1e-6)


def test_missing_momentum_across_the_dijet_does_not_count_along_it() -> None:
    jets = pair((0.5, 0.5 - np.pi), (100.0, 100.0))
    lost = 20 * np.array([-np.sin(0.5), np.cos(0.5)])
    pairs = kernels.find_pairs(jets, np.ones(2, np.bool_))

    mpf, mpfx = kernels.missing_components(np.zeros(1, np.int32), np.ones(1, np.int8), pairs, jets, lost[:1], lost[1:])

    assert mpf[0] == pytest.approx(0, abs=1e-6)
    assert mpfx[0] == pytest.approx(-0.2)


@pytest.mark.parametrize("scheme", ["atlas", "cms"])
def test_the_matrix_has_the_moments_of_the_asymmetry_of_every_pair_of_bins(scheme: str) -> None:
    binning = Binning(scheme=scheme)  # type: ignore[arg-type]
    rng = np.random.default_rng(6)
    jets = make_jets(list(rng.integers(2, 5, 20_000)), rng)
    identity = rng.integers(0, 2**63, 20_000).astype(np.uint64)
    weight = rng.uniform(0.5, 2, 20_000)
    pairs = kernels.find_pairs(jets, np.ones(len(jets.pt), np.bool_))
    usable = rng.random(20_000) < 0.9
    places = kernels.locate(pairs, usable, identity, jets, grid(binning))

    got = kernels.fill_matrix(pairs, places, usable, identity, grid(binning), CUT, weight)

    first, second = jets.offsets[:-1], jets.offsets[:-1] + 1
    pt_a, pt_b = jets.pt[first].astype(float), jets.pt[second].astype(float)
    a, b = (
        np.searchsorted(binning.eta_edges, np.abs(jets.eta[j]).astype(float), side="right") - 1 for j in (first, second)
    )
    mean = (pt_a + pt_b) / 2
    third = np.where(np.diff(jets.offsets) > 2, jets.pt[np.minimum(first + 2, len(jets.pt) - 1)].astype(float), 0)
    alpha = np.searchsorted(binning.alpha_edges, third / mean, side="right") - 1
    pt = np.searchsorted(binning.pt_avg_edges, mean, side="right") - 1
    soft = third < np.maximum(25, 0.25 * mean)
    n_eta, _, n_pt, n_alpha = binning.shape[:4]
    kept = usable & (np.maximum(a, b) < n_eta) & (pt >= 0) & (pt < n_pt) & ((alpha < n_alpha - 1) | soft)
    coin = np.array([kernels.probe_is_first(i) for i in identity])
    sign = np.where(np.where(a == b, coin, a > b), 1, -1)
    asymmetry = sign * 2 * (pt_a - pt_b) / (pt_a + pt_b)
    cell = np.ravel_multi_index(
        tuple(x[kept] for x in (np.maximum(a, b), np.minimum(a, b), pt, alpha, soft.astype(int))), binning.matrix_shape
    )
    expected = np.zeros((int(np.prod(binning.matrix_shape)), 4))
    columns = np.stack([weight, weight**2, weight * asymmetry, weight * asymmetry**2], axis=1)
    np.add.at(expected, cell, columns[kept])
    assert kept.sum() > 3000
    np.testing.assert_allclose(got, expected, atol=1e-10)


def test_moments_are_the_sums_they_are_named_after() -> None:
    rng = np.random.default_rng(9)
    n = 500
    cell = rng.integers(0, 7, n).astype(np.int32)
    weight, mean_pt, reco, rho, cosine = (rng.uniform(0, 2, n) for _ in range(5))
    truth = np.where(rng.random(n) < 0.3, 0.0, rng.uniform(50, 100, n))

    got = kernels.fill_moments(cell, weight, mean_pt, reco, rho, truth, cosine, 7)

    columns = (np.ones(n), weight, mean_pt, reco, reco**2, rho, truth > 0, truth, cosine)
    for k, column in enumerate(columns):
        np.testing.assert_allclose(got[:, k], np.bincount(cell, weight * column, 7), rtol=1e-12)


def test_rho_is_summed_in_its_bins_the_first_taking_what_is_below() -> None:
    edges = np.array([0.0, 10.0, 20.0])
    rho = np.array([5.0, 10.0, 35.0, -1.0, np.nan, 7.0])
    cell = np.array([1, 3, 5, 1, 1, 2], np.int32)
    got = kernels.fill_rho(edges, rho, cell, np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))
    assert got.tolist() == [[5.0, 5.0 - 4.0], [2.0, 20.0], [3.0, 105.0]]


def test_pairs_of_equal_momentum_fall_on_either_side_of_zero() -> None:
    n = 2000
    same = np.tile(np.array([100.0, 100.0], np.float32), n)
    eta, phi = np.tile(np.array([0.3, 0.4], np.float32), n), np.tile(np.array([0.0, 3.1], np.float32), n)
    jets = kernels.Leading(2 * np.arange(n + 1), same, eta, phi)
    identity = np.random.default_rng(1).integers(0, 2**63, n).astype(np.uint64)
    found = dijets_of(jets, identity, Binning())
    assert np.all(np.abs(found.asymmetry) < 1e-6)
    # the coin of the probe decides: half of them within four standard deviations
    assert abs(np.count_nonzero(found.asymmetry > 0) - n / 2) < 4 * np.sqrt(n) / 2
