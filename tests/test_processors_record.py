"""Jets in order, unusable ones left out, and the hash that names an event."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.record import (
    Columns,
    Ordered,
    entry_identity,
    event_identity,
    order_jets,
    relink,
    splitmix64,
    text_key,
    usable_weights,
)

ODD = (float("nan"), float("inf"), -float("inf"), 0.0, -1.0)
MOMENTA = st.one_of(st.sampled_from((10.0, 20.0, 30.0, *ODD)), st.floats(0.5, 1e4, width=32))
DIRECTIONS = st.one_of(st.floats(-5, 5, width=32), st.sampled_from((float("nan"), float("inf"))))
EVENTS = st.lists(st.lists(st.tuples(MOMENTA, DIRECTIONS, DIRECTIONS), max_size=6), max_size=8)


def columns(events: list[list[tuple[float, float, float]]]) -> Columns:
    flat = np.array([jet for event in events for jet in event], np.float32).reshape(-1, 3)
    offsets = np.cumsum([0, *map(len, events)]).astype(np.int64)
    pt, eta, phi = (np.ascontiguousarray(column) for column in flat.T)
    return Columns(offsets, pt, eta, phi, extra={"place": np.arange(len(pt))})


def events_of(ordered: Ordered, column: str) -> list[list[Any]]:
    values = ordered.jets.extra[column] if column in ordered.jets.extra else getattr(ordered.jets, column)
    return [part.tolist() for part in np.split(values, ordered.jets.offsets[1:-1])]


def is_usable(jet: tuple[float, float, float]) -> bool:
    return bool(np.isfinite(jet).all() and jet[0] > 0)


@given(EVENTS)
def test_jets_come_in_falling_pt_without_unusable_ones(events: list[list[tuple[float, float, float]]]) -> None:
    got = order_jets(columns(events))

    place = 0
    expected = []
    for event in events:
        numbered = [(jet, place + i) for i, jet in enumerate(event) if is_usable(jet)]
        expected.append([number for _, number in sorted(numbered, key=lambda item: -item[0][0])])  # sorted is stable
        place += len(event)
    assert got.jets.n_events == len(events)
    assert events_of(got, "place") == (expected or [[]])


@given(EVENTS)
def test_every_jet_left_out_is_counted_once(events: list[list[tuple[float, float, float]]]) -> None:
    got = order_jets(columns(events), "things")

    jets = [jet for event in events for jet in event]
    expected = {
        "things with non-finite pt": sum(not np.isfinite(jet[0]) for jet in jets),
        "things with pt <= 0": sum(np.isfinite(jet[0]) and jet[0] <= 0 for jet in jets),
        "things with non-finite eta or phi": sum(
            np.isfinite(jet[0]) and jet[0] > 0 and not np.isfinite(jet[1:]).all() for jet in jets
        ),
    }
    assert got.excluded == {reason: n for reason, n in expected.items() if n}
    assert len(got.jets) + sum(got.excluded.values()) == len(jets)


@given(EVENTS)
def test_places_tell_where_each_jet_went(events: list[list[tuple[float, float, float]]]) -> None:
    given_columns = columns(events)
    got = order_jets(given_columns)

    places = np.arange(len(given_columns.pt)) if got.places is None else got.places
    for i, (first, last) in enumerate(zip(given_columns.offsets[:-1], given_columns.offsets[1:], strict=True)):
        for j in range(first, last):
            if got.places is None:
                assert got.jets.extra["place"][j] == j
            elif places[j] >= 0:
                assert got.jets.extra["place"][got.jets.offsets[i] + places[j]] == j
            else:
                assert j not in got.jets.extra["place"]


@given(EVENTS, st.randoms(use_true_random=False))
def test_links_follow_the_truth_jets_they_pointed_at(
    events: list[list[tuple[float, float, float]]], random: Any
) -> None:
    truth_columns = columns(events)
    truth = order_jets(truth_columns)
    links = [[random.randint(-1, len(event)) for _ in range(3)] for event in events]
    index = np.array(links, np.int32).ravel()
    offsets = np.arange(len(events) + 1, dtype=np.int64) * 3

    got = relink(index, offsets, truth_columns.offsets, truth.places)

    for j, link in enumerate(index):
        event = j // 3
        target = truth_columns.offsets[event] + link
        is_kept = 0 <= link < len(events[event]) and target in truth.jets.extra["place"]
        assert (got[j] >= 0) == is_kept
        if is_kept:
            assert truth.jets.extra["place"][truth.jets.offsets[event] + got[j]] == target


def test_jets_in_order_are_not_copied() -> None:
    given_columns = columns([[(30.0, 0, 0), (20.0, 0, 0)], [], [(50.0, 0, 0)]])

    got = order_jets(given_columns)

    assert got.jets.pt is given_columns.pt
    assert got.places is None


def test_jets_without_mass_have_mass_zero() -> None:
    got = order_jets(columns([[(10.0, 0, 0), (20.0, 0, 0)]]))

    assert got.jets.mass.tolist() == [0.0, 0.0]


def test_a_chunk_without_events_has_no_jets() -> None:
    got = order_jets(columns([]))

    assert (got.jets.n_events, len(got.jets)) == (0, 0)


def test_weights_that_are_not_finite_count_nothing_and_negative_ones_stay() -> None:
    got, excluded = usable_weights(np.array([1.0, np.nan, -2.0, np.inf]))

    assert got.tolist() == [1.0, 0.0, -2.0, 0.0]
    assert excluded == {"events with a non-finite weight": 2}


def test_splitmix64_gives_the_published_first_number() -> None:
    # splitmix64.c of S. Vigna, seed 0
    assert int(splitmix64(np.uint64(0))) == 0xE220A8397B1DCDAF


def test_a_text_has_the_same_key_everywhere() -> None:
    # printf jetbalance | b2sum -l 64
    assert text_key("jetbalance") == int.from_bytes(bytes.fromhex("96acef1259b8139c"), "little")


def test_an_event_keeps_its_identity_in_other_chunks() -> None:
    run = np.full(10, 362_000, np.int64)
    block, event = np.arange(10) // 3, np.arange(10).astype(np.uint64) + 2**40

    whole = event_identity("data", run, block, event)

    np.testing.assert_array_equal(event_identity("data", run[4:], block[4:], event[4:]), whole[4:])


def test_an_entry_keeps_its_identity_in_other_chunks() -> None:
    np.testing.assert_array_equal(entry_identity("data", "file", 4, 10), entry_identity("data", "file", 0, 10)[4:])


@pytest.mark.parametrize(
    "other",
    [
        event_identity("b", np.array([1]), np.array([2]), np.array([3], np.uint64)),
        event_identity("a", np.array([2]), np.array([2]), np.array([3], np.uint64)),
        event_identity("a", np.array([1]), np.array([3]), np.array([3], np.uint64)),
        event_identity("a", np.array([1]), np.array([2]), np.array([4], np.uint64)),
        event_identity("a", np.array([2]), np.array([1]), np.array([3], np.uint64)),
        entry_identity("a", "1", 3, 4),
    ],
    ids=["dataset", "run", "block", "event", "swapped", "entry"],
)
def test_another_event_has_another_identity(other: Any) -> None:
    assert event_identity("a", np.array([1]), np.array([2]), np.array([3], np.uint64))[0] != other[0]


def test_no_two_of_a_million_events_share_an_identity() -> None:
    event = np.arange(1_000_000).astype(np.uint64)
    same = np.ones(len(event), np.int64)

    assert len(np.unique(event_identity("data", same, same, event))) == len(event)
