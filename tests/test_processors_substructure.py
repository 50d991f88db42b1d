"""Substructure against other ways to compute it, its invariances and its limits."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from large_jet_toys import momenta, ragged, random_jet

from models.features import RaggedConstituents
from models.tagging.columns import SUBSTRUCTURE
from processors.substructure import substructure

RADIUS = 1.0
# Variables that know nothing of the beam: rotations in space leave them alone, boosts along the beam do not.
OF_ANGLES = ("angularity", "planar_flow")
SCALING = {"split12": 1.0}


def of_jet(jet: np.ndarray, radius: float = RADIUS) -> dict[str, float]:
    return {name: float(values[0]) for name, values in substructure(ragged(jet), radius).items()}


def coordinates(jet: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """pT, and all distances R_ij."""
    px, py, pz, energy = jet.T
    rapidity, phi = 0.5 * np.log((energy + pz) / (energy - pz)), np.arctan2(py, px)
    delta = np.angle(np.exp(1j * (phi[:, None] - phi)))
    return np.hypot(px, py), np.hypot(rapidity[:, None] - rapidity, delta)


def at_rest(jet: np.ndarray) -> np.ndarray:
    """Momenta (n, 3) in the rest frame of the sum, by the matrix of a boost."""
    total = jet.sum(axis=0)
    beta = total[:3] / total[3]
    gamma = 1 / np.sqrt(1 - beta @ beta)
    space = np.eye(3) + (gamma - 1) * np.outer(beta, beta) / (beta @ beta)
    return np.asarray(jet[:, :3] @ space.T - gamma * jet[:, 3:] * beta)


@pytest.fixture(params=[2, 3, 4, 12, 40])
def jet(request: pytest.FixtureRequest) -> np.ndarray:
    # as the table stores it
    return random_jet(np.random.default_rng(request.param), request.param).astype(np.float32).astype(np.float64)


def test_energy_correlations_are_the_sums_over_pairs_and_triplets(jet: np.ndarray) -> None:
    pt, distance = coordinates(jet)
    z = pt / pt.sum()
    e2 = sum(z[i] * z[j] * distance[i, j] for i, j in combinations(range(len(z)), 2))
    e3 = e3_smallest = 0.0
    for i, j, k in combinations(range(len(z)), 3):
        sides = np.sort([distance[i, j], distance[j, k], distance[k, i]])
        e3 += z[i] * z[j] * z[k] * sides.prod()
        e3_smallest += z[i] * z[j] * z[k] * sides[:2].prod()

    got = of_jet(jet)

    assert got["c2"] == pytest.approx(e3 / e2**2, rel=1e-5)
    assert got["d2"] == pytest.approx(e3 / e2**3, rel=1e-5)
    assert got["n2"] == pytest.approx(e3_smallest / e2**2, rel=1e-5)


def test_event_shapes_are_those_of_double_sums_in_the_rest_frame(jet: np.ndarray) -> None:
    p = at_rest(jet)
    size = np.linalg.norm(p, axis=1)
    cosine = p @ p.T / np.outer(size, size)
    second = np.sum(np.outer(size, size) * (1.5 * cosine**2 - 0.5)) / size.sum() ** 2
    tensor = np.einsum("ia,ib->ab", p, p) / np.sum(size**2)

    got = of_jet(jet)

    assert got["fox_wolfram"] == pytest.approx(second, rel=1e-4)
    assert got["aplanarity"] == pytest.approx(1.5 * np.linalg.eigvalsh(tensor)[0], rel=1e-4, abs=1e-6)


def test_angularity_and_planar_flow_are_their_formulas(jet: np.ndarray) -> None:
    total = jet.sum(axis=0)
    axis = total[:3] / np.linalg.norm(total[:3])
    mass = np.sqrt(total[3] ** 2 - total[:3] @ total[:3])
    cosine = jet[:, :3] @ axis / np.linalg.norm(jet[:, :3], axis=1)
    x = np.pi / 2 * np.minimum(np.arccos(np.minimum(cosine, 1)) / RADIUS, 1)
    across = jet[:, :3] - np.outer(jet[:, :3] @ axis, axis)
    # eigenvalues of the full tensor: one of the three is zero
    eigenvalues = np.linalg.eigvalsh(np.einsum("ia,ib->ab", across, across / jet[:, 3:]))

    got = of_jet(jet)

    assert got["angularity"] == pytest.approx(
        np.sum(jet[:, 3] * np.sin(x) ** -2 * (1 - np.cos(x)) ** 3) / mass, rel=1e-4
    )
    expected = 4 * eigenvalues[1] * eigenvalues[2] / (eigenvalues[1] + eigenvalues[2]) ** 2
    assert got["planar_flow"] == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_splitting_of_the_kt_algorithm_is_that_of_fastjet(jet: np.ndarray) -> None:
    fastjet = pytest.importorskip("fastjet")
    definition = fastjet.JetDefinition(fastjet.kt_algorithm, 20.0)
    sequence = fastjet.ClusterSequence([fastjet.PseudoJet(*map(float, row)) for row in jet], definition)
    first, second = sequence.exclusive_jets(2)
    total = jet.sum(axis=0)
    mass_squared = total[3] ** 2 - total[:3] @ total[:3]
    d12 = 20.0**2 * sequence.exclusive_dmerge(1)

    got = of_jet(jet)

    assert got["ktdr"] == pytest.approx(first.delta_R(second), rel=1e-4)
    assert got["split12"] == pytest.approx(np.sqrt(d12), rel=1e-4)
    assert got["zcut"] == pytest.approx(d12 / (d12 + mass_squared), rel=1e-4)


def test_subjettiness_has_the_winner_take_all_axes_of_fastjet(jet: np.ndarray) -> None:
    fastjet = pytest.importorskip("fastjet")
    definition = fastjet.JetDefinition(fastjet.kt_algorithm, 20.0, fastjet.WTA_pt_scheme)
    particles = [fastjet.PseudoJet(*map(float, row)) for row in jet]
    sequence = fastjet.ClusterSequence(particles, definition)
    tau = []
    for n in (1, 2, 3):
        axes = sequence.exclusive_jets(min(n, len(particles)))
        tau.append(sum(p.pt() * min(p.delta_R(axis) for axis in axes) for p in particles))

    got = of_jet(jet)

    assert got["tau21"] == pytest.approx(tau[1] / tau[0], rel=1e-4, abs=1e-6)
    assert got["tau32"] == pytest.approx(tau[2] / tau[1] if len(jet) > 2 else 0.0, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("place", range(3))
def test_jets_of_cms_have_the_numbers_that_cms_computed(place: int) -> None:
    told = json.loads((Path(__file__).parent / "data" / "nanoaod_v15_fat_jets.json").read_text())[place]
    jet = np.array(told["constituents"])

    got = of_jet(jet, radius=0.8)

    assert np.hypot(*jet.sum(axis=0)[:2]) == pytest.approx(told["pt"] * (1 - told["rawFactor"]), rel=2e-3)
    # theirs is after soft drop, which takes little of these jets, and with axes that were minimised
    assert got["n2"] == pytest.approx(told["n2b1"], abs=5e-3)
    assert got["tau21"] == pytest.approx(told["tau2"] / told["tau1"], abs=1e-2)
    assert got["tau32"] == pytest.approx(told["tau3"] / told["tau2"], abs=1e-2)


def test_two_hard_prongs_look_like_two_and_three_like_three() -> None:
    rng = np.random.default_rng(1)
    soft = momenta(np.full(20, 0.5), 0.4 * rng.normal(size=20), 0.4 * rng.normal(size=20))
    two = momenta(np.array([200.0, 200.0]), np.array([-0.3, 0.3]), np.zeros(2))
    three = momenta(np.full(3, 150.0), np.array([-0.4, 0.4, 0.0]), np.array([-0.2, -0.2, 0.5]))

    of_two, of_three = of_jet(np.concatenate([two, soft])), of_jet(np.concatenate([three, soft]))

    assert of_two["tau21"] < 0.1 < of_three["tau21"]
    assert of_three["tau32"] < 0.1
    assert of_two["d2"] < of_three["d2"]
    # equal halves at R = 0.6: sqrt(d12) = 200 GeV x 0.6, m^2 = 2 (200 GeV)^2 (cosh 0.6 - 1) = (121.8 GeV)^2
    assert of_two["ktdr"] == pytest.approx(0.6, rel=0.02)
    assert of_two["split12"] == pytest.approx(120, rel=0.02)
    assert of_jet(two)["zcut"] == pytest.approx(120**2 / (120**2 + 121.8**2), rel=1e-3)
    assert of_two["planar_flow"] < 0.3 < of_three["planar_flow"]


def test_a_sphere_at_rest_has_no_direction() -> None:
    rng = np.random.default_rng(2)
    directions = rng.normal(size=(100, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    particles = np.column_stack([directions, np.ones(100)])
    both = np.concatenate([particles, particles * [-1, -1, -1, 1]])
    gamma, speed = 10.0, np.sqrt(1 - 1e-2)
    boosted = both.copy()
    boosted[:, 0] = gamma * (both[:, 0] + speed * both[:, 3])
    boosted[:, 3] = gamma * (both[:, 3] + speed * both[:, 0])

    got = {name: float(values[0]) for name, values in substructure(ragged(boosted), 1.0, length=200).items()}

    # 1/2 and 0 for infinitely many; of 100 directions the eigenvalues of a third scatter by 0.03
    assert got["aplanarity"] == pytest.approx(0.5, abs=0.1)
    assert got["fox_wolfram"] == pytest.approx(0.0, abs=0.02)


def constituents_of_jets() -> st.SearchStrategy[np.ndarray]:
    one = st.tuples(st.floats(0.5, 200), st.floats(-0.5, 0.5), st.floats(-0.5, 0.5))
    return st.lists(one, min_size=0, max_size=12).map(lambda rows: np.array(rows, np.float64).reshape(-1, 3))


def built(rows: np.ndarray, eta: float = 0.0, phi: float = 0.0, factor: float = 1.0) -> np.ndarray:
    return momenta(factor * rows[:, 0], rows[:, 1] + eta, rows[:, 2] + phi)


def separated(rows: np.ndarray) -> bool:
    """Whether no rounding can decide what is merged first, or what a mass is."""
    if len(rows) < 2:
        return True
    distance = np.hypot(rows[:, 1, None] - rows[:, 1], rows[:, 2, None] - rows[:, 2])
    pairs = distance[np.triu_indices(len(rows), 1)]
    steps = np.sort((np.minimum(rows[:, 0, None], rows[:, 0]) * distance)[np.triu_indices(len(rows), 1)])
    hardness = np.sort(rows[:, 0])
    return bool(
        pairs.min() > 1e-2
        and np.all(np.diff(steps) > 1e-3 * steps[1:])
        and np.all(np.diff(hardness) > 1e-3 * hardness[1:])
    )


def assert_like(
    got: dict[str, float], expected: dict[str, float], names: tuple[str, ...] = tuple(SUBSTRUCTURE)
) -> None:
    # aplanarity of few particles is a small difference of numbers in single precision
    assert {name: got[name] for name in names} == pytest.approx(
        {name: expected[name] for name in names}, rel=5e-3, abs=1e-3
    )


@given(constituents_of_jets(), st.floats(-3, 3))
@settings(max_examples=60, deadline=None)
def test_rotations_about_the_beam_change_nothing(rows: np.ndarray, angle: float) -> None:
    if separated(rows):
        assert_like(of_jet(built(rows, phi=angle)), of_jet(built(rows)))


@given(constituents_of_jets(), st.floats(-1.5, 1.5))
@settings(max_examples=60, deadline=None)
def test_boosts_along_the_beam_change_what_is_made_of_angles_in_space_alone(rows: np.ndarray, shift: float) -> None:
    names = tuple(name for name in SUBSTRUCTURE if name not in OF_ANGLES)
    if separated(rows):
        assert_like(of_jet(built(rows, eta=shift)), of_jet(built(rows)), names)


@given(constituents_of_jets(), st.floats(0.1, 10))
@settings(max_examples=60, deadline=None)
def test_only_the_splitting_scale_has_a_unit(rows: np.ndarray, factor: float) -> None:
    expected = of_jet(built(rows))
    expected["split12"] *= factor
    if separated(rows):
        assert_like(of_jet(built(rows, factor=factor)), expected)


@given(constituents_of_jets(), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_order_of_constituents_does_not_matter(rows: np.ndarray, random: np.random.Generator) -> None:
    places = list(range(len(rows)))
    random.shuffle(places)
    if separated(rows):
        assert_like(of_jet(built(rows[places])), of_jet(built(rows)))


@given(constituents_of_jets())
@settings(max_examples=100, deadline=None)
def test_every_number_is_finite_and_in_its_range(rows: np.ndarray) -> None:
    got = of_jet(built(rows))

    assert all(np.isfinite(value) and value >= -1e-6 for name, value in got.items() if name != "fox_wolfram")
    assert max(got["tau21"], got["zcut"], got["planar_flow"]) <= 1 + 1e-6
    assert got["aplanarity"] <= 0.5 + 1e-6
    assert -0.5 - 1e-6 <= got["fox_wolfram"] <= 1 + 1e-6


def test_a_jet_without_or_with_one_constituent_gives_zeros() -> None:
    one = momenta(np.array([300.0]), np.array([1.0]), np.array([0.3]), 0.14)

    for jet in (np.zeros((0, 4)), one, np.concatenate([one, np.zeros((2, 4))])):
        assert of_jet(jet) == dict.fromkeys(SUBSTRUCTURE, 0.0)


def test_collinear_constituents_have_no_extent() -> None:
    jet = momenta(np.array([200.0, 100.0, 50.0]), np.full(3, 0.5), np.full(3, 1.0))

    assert of_jet(jet) == dict.fromkeys(SUBSTRUCTURE, 0.0)


def test_two_constituents_are_two_subjets() -> None:
    got = of_jet(momenta(np.array([200.0, 100.0]), np.array([0.0, 0.4]), np.zeros(2)))

    assert [got[name] for name in ("tau21", "tau32", "c2", "d2", "n2")] == [0.0] * 5
    assert got["ktdr"] == pytest.approx(0.4, rel=1e-5)
    assert got["split12"] == pytest.approx(40.0, rel=1e-5)
    assert got["fox_wolfram"] == pytest.approx(1.0, rel=1e-4)


def test_jets_do_not_depend_on_their_neighbours() -> None:
    rng = np.random.default_rng(3)
    jets = [random_jet(rng, n) for n in (5, 0, 30, 1, 17)]

    together = substructure(ragged(*jets), RADIUS)

    for place, jet in enumerate(jets):
        assert {name: float(values[place]) for name, values in together.items()} == of_jet(jet)


def test_only_the_hardest_constituents_count() -> None:
    jet = random_jet(np.random.default_rng(4), 130)

    assert of_jet(jet) == of_jet(jet[:100])


def test_no_jets_give_empty_columns() -> None:
    got = substructure(RaggedConstituents(np.zeros(1, np.int64), np.zeros((0, 4), np.float32)), RADIUS)

    assert {name: values.shape for name, values in got.items()} == dict.fromkeys(SUBSTRUCTURE, (0,))


def test_a_radius_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="a number above 0"):
        substructure(ragged(), 0.0)
