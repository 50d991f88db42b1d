from __future__ import annotations

import fastjet
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samples.flow import Clustered, expected_deposit, flow_numbers, subtract_track, track_weight
from samples.jet_variables import _calorimeter, _tracks
from samples.jets import Momenta, find_jets, ghost_areas, momenta_of, owner_of, soft_drop_mass
from samples.layered_settings import Flow, Tracking
from samples.tracks import calorimeter_phi, find_tracks, reaches_calorimeter, tracking_numbers


def event(*objects: tuple[float, float, float]) -> Momenta:
    """One event of massless objects given by pt, eta and phi."""
    pt, eta, phi = np.array(objects).T
    return momenta_of(np.array([0, len(pt)]), pt, eta, phi, np.zeros(len(pt)))


def test_jets_are_those_of_fastjet_with_their_constituents_hardest_first() -> None:
    rng = np.random.default_rng(4)
    momenta = momenta_of(
        np.array([0, 80, 200]), rng.exponential(4.0, 200), rng.normal(size=200), rng.uniform(-3, 3, 200), np.zeros(200)
    )

    jets = find_jets(momenta, 0.4, 5.0)

    columns = (momenta.px, momenta.py, momenta.pz, momenta.energy)
    for index in range(2):
        inputs = slice(*momenta.offsets[index : index + 2])
        objects = [fastjet.PseudoJet(*map(float, four)) for four in zip(*(c[inputs] for c in columns), strict=True)]
        sequence = fastjet.ClusterSequence(objects, fastjet.JetDefinition(fastjet.antikt_algorithm, 0.4))
        expected = sorted((jet.pt() for jet in sequence.inclusive_jets(5.0)), reverse=True)
        assert np.allclose(jets.pt[slice(*jets.offsets[index : index + 2])], expected)
    sums = np.add.reduceat(
        momenta.px[np.repeat(momenta.offsets[:-1][jets.event], np.diff(jets.constituent_offsets)) + jets.constituents],
        jets.constituent_offsets[:-1],
    )
    assert np.allclose(sums, jets.px)
    first = slice(*jets.constituent_offsets[:2])
    assert np.all(np.diff(np.hypot(momenta.px, momenta.py)[jets.constituents[first]]) <= 0.0)


def test_events_without_jets_are_kept() -> None:
    momenta = momenta_of(np.array([0, 0, 1, 1]), np.array([1.0]), np.zeros(1), np.zeros(1), np.zeros(1))

    jets = find_jets(momenta, 0.4, 5.0)

    assert jets.offsets.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("radius", [0.4, 1.0])
def test_a_lonely_jet_has_the_area_of_its_circle(radius: float) -> None:
    area = ghost_areas(np.array([50.0]), np.array([0.3]), np.array([3.1]), radius)

    assert area[0] == pytest.approx(np.pi * radius**2, rel=0.04)


def test_areas_of_overlapping_jets_are_those_of_active_ghosts() -> None:
    hard, soft = fastjet.PseudoJet(100.0, 0.0, 0.0, 100.0), fastjet.PseudoJet(0.0, 0.0, 0.0, 0.0)
    soft.reset_PtYPhiM(30.0, 0.0, 0.5, 0.0)
    definition = fastjet.JetDefinition(fastjet.antikt_algorithm, 0.4)
    ghosts = fastjet.AreaDefinition(fastjet.active_area, fastjet.GhostedAreaSpec(2.0, 1, 0.002))
    sequence = fastjet.ClusterSequenceArea([hard, soft], definition, ghosts)
    expected = [jet.area() for jet in sorted(sequence.inclusive_jets(10.0), key=lambda jet: -jet.pt())]

    got = ghost_areas(np.array([100.0, 30.0]), np.zeros(2), np.array([0.0, 0.5]), 0.4)

    assert got == pytest.approx(expected, rel=0.05)
    assert got[1] < 0.9 * got[0]


def test_a_ghost_joins_the_harder_of_two_jets_at_the_same_distance() -> None:
    jets = np.array([20.0, 60.0]), np.array([-0.2, 0.2]), np.zeros(2)

    assert owner_of(0.0, 0.0, *jets, 0.4) == 1
    assert owner_of(-0.5, 0.0, *jets, 0.4) == 0
    assert owner_of(2.0, 0.0, *jets, 0.4) == -1


def test_soft_drop_keeps_two_prongs_and_drops_what_is_soft_and_wide() -> None:
    momenta = event((200.0, 0.0, 0.0), (150.0, 0.3, 0.0), (5.0, -0.5, 0.4))
    jets = find_jets(momenta, 1.0, 100.0)

    # m^2 = 2 pT1 pT2 (cosh(d eta) - cos(d phi)) of the two prongs
    expected = np.sqrt(2.0 * 200.0 * 150.0 * (np.cosh(0.3) - 1.0))
    assert soft_drop_mass(momenta, jets, 1.0)[0] == pytest.approx(expected, rel=1e-4)
    assert jets.mass[0] > 1.1 * expected


def test_soft_drop_of_a_jet_with_a_hard_core_leaves_the_core() -> None:
    momenta = event((300.0, 0.0, 0.0), (6.0, 0.6, 0.0))

    assert soft_drop_mass(momenta, find_jets(momenta, 1.0, 100.0), 1.0)[0] == pytest.approx(0.0, abs=1e-3)


def test_layer_fractions_and_n90_are_those_of_the_clusters() -> None:
    clusters = np.zeros((4, 16))
    clusters[0, 2 + 1], clusters[1, 2 + 2], clusters[2, 2 + 4], clusters[3, 2 + 2] = 60.0, 25.0, 10.0, 5.0

    fractions, n90 = _calorimeter(clusters, np.zeros(4, dtype=np.int64), 1)

    assert fractions[0, [1, 2, 4]].tolist() == [0.6, 0.3, 0.1]
    # 60 + 25 is below 90 % of 100, 60 + 25 + 10 above
    assert n90.tolist() == [3]


def test_tracks_above_one_gev_make_the_width() -> None:
    tracks = np.array([[30.0, 0.1, 0.0], [10.0, 0.0, 0.2], [0.7, 0.3, 0.0], [50.0, 2.0, 0.0]])
    owners = np.array([0, 0, 0, -1])

    width, number, total = _tracks(tracks, owners, np.zeros(1), np.zeros(1))

    # (30 x 0.1 + 10 x 0.2) / 40
    assert width[0] == pytest.approx(0.125)
    assert number.tolist() == [2]
    assert total[0] == pytest.approx(40.7)


def test_a_charged_particle_turns_against_its_charge_and_curls_up_when_soft() -> None:
    numbers = tracking_numbers(Tracking())

    assert calorimeter_phi(1.0, 0.0, 0.0, 1.0, numbers) == pytest.approx(-np.arcsin(0.36))
    assert calorimeter_phi(1.0, 0.0, 0.0, -1.0, numbers) == pytest.approx(np.arcsin(0.36))
    assert calorimeter_phi(1.0, 0.0, 1.0, 0.0, numbers) == 1.0
    assert not reaches_calorimeter(0.3, 0.0, 1.0, numbers)
    assert reaches_calorimeter(0.3, 3.5, 1.0, numbers)
    assert reaches_calorimeter(0.3, 0.0, 0.0, numbers)


def test_tracks_are_found_with_their_efficiency_and_resolution() -> None:
    n = 3000
    pt, phi, charge = np.full(n, 10.0), np.linspace(-3.1, 3.1, n), np.ones(n)
    eta = np.tile(np.linspace(-0.5, 0.5, 60), n // 60)
    offset = np.where(np.arange(n) < n // 2, 0.0, 30.0)
    nothing = np.zeros(n, dtype=bool)

    found, measured = find_tracks(
        np.random.default_rng(1), pt, eta, phi, charge, offset, nothing, tracking_numbers(Tracking())
    )

    # those of the other vertex are 30 mm away
    assert found.max() < n // 2
    assert len(found) / (n // 2) == pytest.approx(0.91, abs=0.03)
    # 1 % + 0.05 % per GeV x 10 GeV in quadrature
    assert measured.std() / 10.0 == pytest.approx(np.hypot(0.0101, 0.0051), rel=0.08)
    assert np.all(np.diff(measured) <= 0.0)


@pytest.fixture(name="clustered")
def _clustered() -> Clustered:
    em, hadronic = np.zeros((256, 256, 4)), np.zeros((64, 64, 4))
    return Clustered(em, hadronic, np.zeros((256, 256), dtype=np.int64), np.zeros((64, 64), dtype=np.int64))


def test_a_lonely_track_takes_all_of_its_energy_off(clustered: Clustered) -> None:
    clustered.em[128, 128, 2], clustered.hadronic[32, 32, 0] = 2.0, 4.0

    weight = subtract_track(clustered, 0.01, 0.01, 10.0, False, flow_numbers(Flow()))  # noqa: FBT003

    assert weight == 1.0
    assert clustered.em.sum() + clustered.hadronic.sum() == 0.0


def test_a_neutral_neighbour_survives_a_track(clustered: Clustered) -> None:
    clustered.em[128, 128, 2], clustered.em[132, 128, 2] = 6.0, 20.0
    mean, _ = expected_deposit(10.0, 0.01, False, flow_numbers(Flow()))  # noqa: FBT003

    weight = subtract_track(clustered, 0.01, 0.01, 10.0, False, flow_numbers(Flow()))  # noqa: FBT003

    assert weight == 1.0
    assert clustered.em.sum() == pytest.approx(26.0 - mean)
    assert clustered.em[132, 128, 2] > 19.0


def test_where_it_is_crowded_the_calorimeter_stands_and_the_track_adds_what_it_does_not_see(
    clustered: Clustered,
) -> None:
    clustered.em[128, 128, 2] = 300.0
    numbers = flow_numbers(Flow())
    mean, _ = expected_deposit(20.0, 0.01, False, numbers)  # noqa: FBT003

    weight = subtract_track(clustered, 0.01, 0.01, 20.0, False, numbers)  # noqa: FBT003

    assert weight == pytest.approx(1.0 - mean / (20.0 * np.cosh(0.01)))
    assert clustered.em.sum() == 300.0


def test_an_electron_in_a_crowd_adds_nothing(clustered: Clustered) -> None:
    clustered.em[128, 128, 2] = 300.0

    assert subtract_track(clustered, 0.01, 0.01, 20.0, True, flow_numbers(Flow())) == 0.0  # noqa: FBT003


def test_hard_tracks_leave_everything_to_the_calorimeter(clustered: Clustered) -> None:
    clustered.em[128, 128, 2] = 300.0

    assert subtract_track(clustered, 0.01, 0.01, 61.0, False, flow_numbers(Flow())) == 0.0  # noqa: FBT003
    assert subtract_track(clustered, 0.01, 0.01, 150.0, False, flow_numbers(Flow())) == 0.0  # noqa: FBT003
    assert clustered.em.sum() == 300.0


@given(pt=st.floats(0.5, 200.0), visible=st.floats(0.0, 1.0))
def test_what_a_track_and_the_calorimeter_give_fades_from_its_momentum_to_what_is_visible(
    pt: float, visible: float
) -> None:
    numbers = flow_numbers(Flow())

    subtracted = track_weight(pt, visible, True, numbers)  # noqa: FBT003
    beside = track_weight(pt, visible, False, numbers)  # noqa: FBT003

    fade = np.clip((pt - 30.0) / 30.0, 0.0, 1.0)
    assert subtracted == pytest.approx(beside + visible)
    assert subtracted == pytest.approx(1.0 - fade * (1.0 - visible))
