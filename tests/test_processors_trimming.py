"""Trimming of large-R jets."""

from __future__ import annotations

import numpy as np
import pytest
from large_jet_toys import momenta, ragged, random_jet

from processors.trimming import trimmed


@pytest.mark.parametrize("n", [1, 2, 5, 20, 80])
@pytest.mark.parametrize("radius", [0.1, 0.2, 0.4])
def test_what_is_kept_are_the_subjets_that_fastjet_finds_hard_enough(n: int, radius: float) -> None:
    fastjet = pytest.importorskip("fastjet")
    jet = random_jet(np.random.default_rng(n), n).astype(np.float32)
    particles = [fastjet.PseudoJet(*map(float, row)) for row in jet]
    for place, particle in enumerate(particles):
        particle.set_user_index(place)
    sequence = fastjet.ClusterSequence(particles, fastjet.JetDefinition(fastjet.kt_algorithm, radius))
    least = 0.05 * np.hypot(*jet.astype(np.float64).sum(axis=0)[:2])
    subjets = [subjet for subjet in sequence.inclusive_jets() if subjet.pt() >= least]
    expected = sorted(p.user_index() for subjet in subjets for p in subjet.constituents())

    got = trimmed(ragged(jet), radius, 0.05)

    np.testing.assert_array_equal(got.values, jet[expected])


def test_soft_particles_all_over_a_jet_go_and_its_prongs_stay() -> None:
    rng = np.random.default_rng(1)
    prongs = momenta(np.array([300.0, 10.0, 200.0]), np.array([-0.3, -0.25, 0.3]), np.zeros(3))
    soft = momenta(np.full(60, 1.0), rng.uniform(-0.9, 0.9, 60), rng.uniform(-0.9, 0.9, 60))

    got = trimmed(ragged(np.concatenate([prongs, soft])))

    near = np.count_nonzero(
        [min(np.hypot(eta + 0.3, phi), np.hypot(eta - 0.3, phi)) < 0.3 for eta, phi in directions(soft)]
    )
    assert 3 <= len(got.values) <= 3 + near
    np.testing.assert_array_equal(got.values[:3], prongs.astype(np.float32))


def directions(particles: np.ndarray) -> list[tuple[float, float]]:
    px, py, pz, _ = particles.T
    return list(zip(np.arcsinh(pz / np.hypot(px, py)), np.arctan2(py, px), strict=True))


def test_jets_keep_their_places_and_constituents_their_order() -> None:
    rng = np.random.default_rng(2)
    jets = [random_jet(rng, n) for n in (10, 0, 25)]

    got = trimmed(ragged(*jets))

    for place, jet in enumerate(jets):
        own = trimmed(ragged(jet))
        part = slice(got.offsets[place], got.offsets[place + 1])
        np.testing.assert_array_equal(got.values[part], own.values)
        assert np.all(np.diff(np.hypot(*own.values[:, :2].T)) <= 0)


def test_without_a_threshold_all_that_move_stay() -> None:
    jet = np.concatenate([random_jet(np.random.default_rng(3), 10), np.zeros((2, 4))])

    assert len(trimmed(ragged(jet), 0.2, 0.0).values) == 10
    assert len(trimmed(ragged(jet), 0.2, 1.5).values) == 0
    assert trimmed(ragged()).offsets.tolist() == [0]
    with pytest.raises(ValueError, match="a radius above 0"):
        trimmed(ragged(jet), 0.0)
