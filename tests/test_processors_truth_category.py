"""Truth of large-R jets by the particles in them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from large_jet_toys import QCD_EVENT, TOP_EVENT, W_EVENT

from models.tagging.columns import CATEGORIES
from processors.record import Columns, Jets, Particles, order_jets
from processors.truth_category import truth_categories

Event = Sequence[tuple[int, int, float, float]]


def of_event(event: Event, directions: list[tuple[float, float]], distance: float = 0.8) -> list[str]:
    """Categories of jets of falling pT in these directions."""
    flat = np.array(event, np.float64).reshape(-1, 4)
    particles = Particles(
        np.array([0, len(flat)]),
        np.full(len(flat), 100, np.float32),
        flat[:, 2].astype(np.float32),
        flat[:, 3].astype(np.float32),
        flat[:, 0].astype(np.int32),
        flat[:, 1].astype(np.int32),
    )
    return [CATEGORIES[number] for number in truth_categories(jets_at(directions), particles, distance)]


def jets_at(directions: list[tuple[float, float]]) -> Jets:
    eta, phi = np.array(directions, np.float32).reshape(-1, 2).T.copy()
    return order_jets(Columns(np.array([0, len(eta)]), 500 - np.arange(len(eta), dtype=np.float32), eta, phi)).jets


def test_a_jet_with_both_quarks_of_a_w_is_a_w_and_the_other_one_holds_nothing() -> None:
    assert of_event(W_EVENT, [(0.0, 0.0), (0.0, 3.0)]) == ["w", "unmatched"]


def test_a_jet_with_the_three_quarks_of_a_top_is_a_top() -> None:
    assert of_event(TOP_EVENT, [(0.0, 0.0)]) == ["top"]


def test_a_jet_with_the_w_of_a_top_alone_is_a_w() -> None:
    # the b quark is 0.64 away, the others at most 0.45
    assert of_event(TOP_EVENT, [(0.2, 0.2)], distance=0.5) == ["w"]


def test_a_jet_with_a_quark_of_either_top_is_another_one() -> None:
    # the quark beside the leptonic W, and one of two quarks
    assert of_event(TOP_EVENT, [(0.3, 2.8), (0.9, 0.1)], distance=0.7) == ["other", "other"]


def test_all_jets_of_multijet_events_are_qcd() -> None:
    assert of_event(QCD_EVENT, [(0.0, 0.0), (0.0, 3.0), (2.0, 1.0)]) == ["qcd"] * 3


@pytest.mark.parametrize(("distance", "expected"), [(0.2, "unmatched"), (0.23, "w")])
def test_quarks_count_within_the_distance(distance: float, expected: str) -> None:
    # both are sqrt(0.2^2 + 0.1^2) = 0.224 away
    assert of_event(W_EVENT, [(0.0, 0.0)], distance) == [expected]


def test_azimuth_has_no_end() -> None:
    turned = [(code, mother, eta, phi - 3.1) for code, mother, eta, phi in W_EVENT]

    assert of_event(turned, [(0.0, np.pi)]) == ["w"]


def test_a_z_is_no_w() -> None:
    z = [(23 if abs(code) == 24 else code, mother, eta, phi) for code, mother, eta, phi in W_EVENT]

    assert of_event(z, [(0.0, 0.0)]) == ["other"]


def test_a_leptonic_w_leaves_its_events_without_a_match() -> None:
    leptonic = [(21, -1, 5.0, 0.0), (24, 0, 0.0, 0.0), (-13, 1, 0.1, 0.0), (14, 1, -0.1, 0.0), (1, 0, 0.0, 3.0)]

    assert of_event(leptonic, [(0.0, 0.0), (0.0, 3.0)]) == ["unmatched", "unmatched"]


def test_events_without_particles_or_jets_are_fine() -> None:
    assert of_event([], [(0.0, 0.0)]) == ["qcd"]
    assert of_event(W_EVENT, []) == []
