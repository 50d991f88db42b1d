"""Jets that may be used, and their truth jets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import correctionlib.schemav2 as cs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors import jet_quality
from processors.errors import InputError
from processors.jet_quality import (
    IdentificationCorrection,
    JetQuality,
    VetoMap,
    good_jets,
    match_truth,
)
from processors.record import EventRecord, Jets

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

PI = np.float32(np.pi)


def make_jets(events: list[list[tuple[float, float, float]]], **extra: list[Any]) -> Jets:
    """Jets from (pt, eta, phi) of each event."""
    flat = np.array([jet for event in events for jet in event], np.float32).reshape(-1, 3)
    offsets = np.cumsum([0, *(len(event) for event in events)]).astype(np.int64)
    columns = {name: np.array(values) for name, values in extra.items()}
    pt, eta, phi = (np.ascontiguousarray(flat[:, k]) for k in range(3))
    return Jets(offsets, pt, eta, phi, np.zeros_like(pt), columns)


def make_record(jets: Jets, **columns: Any) -> EventRecord:
    n = jets.n_events
    zeros = np.zeros(n, np.int64)
    identity = np.arange(n, dtype=np.uint64)
    values: dict[str, Any] = {"is_mc": True, "has_event_id": True, "rho": None, "npv": None, "true_interactions": None}
    return EventRecord(
        dataset="toy",
        file="toy.root",
        entry_start=0,
        run=zeros,
        luminosity_block=zeros,
        event=identity,
        identity=identity,
        weight=np.ones(n),
        jets=jets,
        **{**values, **columns},
    )


def test_pt_and_eta_limits_belong_to_the_good_jets() -> None:
    jets = make_jets([[(30, 5.2, 0), (10, 0, 0), (9.99, 0, 0)], [], [(20, -5.3, 0)]])

    good, counts = good_jets(make_record(jets), JetQuality())

    assert good.tolist() == [True, True, False, False]
    assert counts == {"jets below the minimum pt": 1, "jets beyond the maximum |eta|": 1}


def test_only_the_first_reason_against_a_jet_is_counted() -> None:
    jets = make_jets([[(5, 6, 0)]], jet_id=[0])

    _, counts = good_jets(make_record(jets), JetQuality())

    assert counts == {"jets below the minimum pt": 1}


@pytest.mark.parametrize(
    ("identification", "expected"),
    [
        ("none", [True, True, True, True]),
        ("auto", [False, True, False, True]),  # bits of 0, 2, 4, 6: tight is 2
        ("tight", [False, True, False, True]),
        ("tight_lepton_veto", [False, False, True, True]),  # tight with lepton veto is 4
    ],
)
@pytest.mark.parametrize("dtype", [np.int32, np.uint8])
def test_identification_looks_at_its_bit(identification: Any, expected: list[bool], dtype: type) -> None:
    jets = make_jets([[(30, 0, 0)] * 4], jet_id=[dtype(bits) for bits in (0, 2, 4, 6)])

    good, _ = good_jets(make_record(jets), JetQuality(identification=identification))

    assert good.tolist() == expected


def test_automatic_identification_asks_nothing_of_a_file_without_it() -> None:
    good, counts = good_jets(make_record(make_jets([[(30, 0, 0)]])), JetQuality())

    assert good.tolist() == [True]
    assert counts == {}


@pytest.mark.parametrize(("key", "column"), [("identification", "jet_id"), ("pileup_id", "pu_id")])
def test_identification_asked_for_by_name_refuses_a_file_without_it(key: str, column: str) -> None:
    quality = JetQuality(**{key: "tight"})  # type: ignore[arg-type]  # one of two literals

    with pytest.raises(InputError, match=column):
        good_jets(make_record(make_jets([[(30, 0, 0)]])), quality)

    assert jet_quality.needed_columns(quality) == (column,)


def test_pileup_identification_is_asked_of_soft_jets_only() -> None:
    jets = make_jets([[(60, 0, 0), (50, 0, 0), (40, 0, 0), (30, 0, 0)]], pu_id=[0, 0, 6, 4])

    good, counts = good_jets(make_record(jets), JetQuality(pileup_id="medium"))

    assert good.tolist() == [True, True, True, False]
    assert counts == {"jets failing pile-up identification": 1}


def test_a_pileup_identification_of_yes_and_no_is_understood() -> None:
    jets = make_jets([[(40, 0, 0), (30, 0, 0)]], pu_id=[True, False])

    good, _ = good_jets(make_record(jets), JetQuality(pileup_id="loose"))

    assert good.tolist() == [True, False]


def test_a_chunk_without_jets_has_an_empty_answer() -> None:
    empty = make_jets([[], []])

    assert len(good_jets(make_record(empty), JetQuality())[0]) == 0
    assert len(match_truth(empty, empty)) == 0


@pytest.mark.parametrize(
    ("arguments", "named"),
    [({"identification": "tigth"}, "identification"), ({"min_pt": -1}, "min_pt"), ({"pileup_id": "auto"}, "pileup_id")],
)
def test_unknown_choices_and_negative_cuts_are_refused(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=f"jets.{named}"):
        JetQuality(**arguments)


def test_a_char_of_atlas_says_yes_or_no() -> None:
    jets = make_jets([[(40, 0, 0), (30, 0, 0)]], pu_id=[np.int8(1), np.int8(0)])

    good, _ = good_jets(make_record(jets), JetQuality(pileup_id="tight"))

    assert good.tolist() == [True, False]


@pytest.fixture
def identification_file(tmp_path: Path) -> str:
    """Passes jets with neHEF < 0.9 and more than one constituent; refuses |eta| of 5 and above."""
    fraction = cs.Binning(nodetype="binning", input="neHEF", edges=[0.0, 0.9, 2.0], content=[1.0, 0.0], flow="error")
    number = cs.Binning(
        nodetype="binning", input="multiplicity", edges=[0.0, 1.5, 999.0], content=[0.0, fraction], flow="error"
    )
    region = cs.Binning(nodetype="binning", input="eta", edges=[-5.0, 5.0], content=[number], flow="error")
    kinds = {"eta": "real", "neHEF": "real", "chMultiplicity": "int", "neMultiplicity": "int", "multiplicity": "int"}
    correction = cs.Correction(
        name="AK4PUPPI_Tight",
        version=1,
        inputs=[cs.Variable.model_validate({"name": name, "type": kind}) for name, kind in kinds.items()],
        output=cs.Variable(name="jetid", type="real"),
        data=region,
    )
    path = tmp_path / "jetid.json"
    path.write_text(cs.CorrectionSet(schema_version=2, corrections=[correction]).model_dump_json(exclude_unset=True))
    return str(path)


FRACTIONS: dict[str, list[Any]] = {
    "neutral_hadron_fraction": [np.float32(0.5), np.float32(0.95), np.float32(0.1), np.float32(0.1)],
    "charged_multiplicity": [np.uint8(200), np.uint8(2), np.uint8(1), np.uint8(0)],
    "neutral_multiplicity": [np.uint8(200), np.uint8(1), np.uint8(1), np.uint8(1)],
}


def test_identification_may_come_from_a_correction(identification_file: str) -> None:
    # 400 constituents do not fit into a byte; the third jet is beyond the binning
    jets = make_jets([[(40, 0, 0), (30, 0, 0), (30, -5.1, 0), (20, 0, 0)]], jet_id=[0, 6, 0, 6], **FRACTIONS)
    quality = JetQuality(identification_correction=IdentificationCorrection(identification_file))

    jet_quality.check(quality)
    good, counts = good_jets(make_record(jets), quality)

    assert good.tolist() == [True, False, True, False]
    assert counts == {"jets failing identification": 2}
    assert set(jet_quality.wanted_columns(quality)) == set(FRACTIONS)
    assert jet_quality.files(quality) == (identification_file,)


def test_fractions_the_file_lacks_are_named(identification_file: str) -> None:
    quality = JetQuality(identification_correction=IdentificationCorrection(identification_file))

    with pytest.raises(InputError, match="'neutral_hadron_fraction', which jets"):
        good_jets(make_record(make_jets([[(40, 0, 0)]])), quality)


@pytest.fixture
def veto_file(tmp_path: Path) -> str:
    """A map that vetoes 0 <= eta < 1, 0 <= phi < pi and refuses what lies outside of it."""
    binning = cs.MultiBinning(
        nodetype="multibinning",
        inputs=["eta", "phi"],
        edges=[[-5.191, 0.0, 1.0, 5.191], [-3.1415926535, 0.0, 3.1415926535]],
        content=[0.0, 0.0, 0.0, 100.0, 0.0, 0.0],
        flow="error",
    )
    category = cs.Category(
        nodetype="category", input="type", content=[cs.CategoryItem(key="jetvetomap", value=binning)]
    )
    names = (("type", "string"), ("eta", "real"), ("phi", "real"))
    correction = cs.Correction(
        name="Summer26",
        version=1,
        inputs=[cs.Variable(name=name, type=kind) for name, kind in names],  # type: ignore[arg-type]  # literals
        output=cs.Variable(name="vetomaps", type="real"),
        data=category,
    )
    path = tmp_path / "jetvetomaps.json"
    path.write_text(cs.CorrectionSet(schema_version=2, corrections=[correction]).model_dump_json(exclude_unset=True))
    return str(path)


# pi in single precision is above pi; |eta| = 5.195 is beyond the map
VETO_EVENTS = [[(50.0, 0.5, 3.0), (40.0, -0.5, 3.0), (14.0, 0.5, 3.0)], [(30.0, 0.5, float(PI)), (20.0, 5.195, 1.0)]]


def test_a_veto_map_removes_the_jets_in_it(veto_file: str) -> None:
    quality = JetQuality(veto_map=VetoMap(veto_file, "Summer26"))

    jet_quality.check(quality)
    good, counts = good_jets(make_record(make_jets(VETO_EVENTS)), quality)

    assert good.tolist() == [False, True, True, False, True]
    assert counts == {"jets in the veto map": 2}
    assert jet_quality.files(quality) == (veto_file,)


def test_a_veto_map_may_remove_whole_events(veto_file: str) -> None:
    quality = JetQuality(veto_map=VetoMap(veto_file, "Summer26", scope="events", min_pt=40))

    good, counts = good_jets(make_record(make_jets(VETO_EVENTS)), quality)

    assert good.tolist() == [False, False, False, True, True]
    assert counts == {"jets in the veto map": 3}


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [("Sumer26", "jetvetomap", "did you mean 'Summer26'"), ("Summer26", "hot", "refuses an input")],
)
def test_a_veto_map_that_is_not_in_the_file_is_refused_at_the_start(
    veto_file: str, name: str, kind: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        jet_quality.check(JetQuality(veto_map=VetoMap(veto_file, name, kind)))


def test_a_missing_veto_map_is_refused_at_the_start() -> None:
    with pytest.raises(InputError, match="does not exist"):
        jet_quality.check(JetQuality(veto_map=VetoMap("nowhere.json", "Summer26")))


def test_jets_near_leptons_are_removed() -> None:
    # dR of the first jet to the electron: phi from 3.1 to -3.1 is 2 pi - 6.2 = 0.083; third jet to the muon 0.5 > 0.4
    jets = make_jets([[(50, 0, 3.1), (40, 1, 0), (30, 2.5, 1)], [(20, 0, -3.1)]])
    electrons = make_jets([[(30, 0, -3.1)], []])
    muons = make_jets([[(20, 2, 1), (5, 1, 0)], []])

    record = make_record(jets, electrons=electrons, muons=muons)
    good, counts = good_jets(record, JetQuality(lepton_cleaning=True))

    assert good.tolist() == [False, True, True, True]
    assert counts == {"jets near a lepton": 1}


def test_leptons_inside_jets_leave_their_jet_alone() -> None:
    jets = make_jets([[(50, eta, 0) for eta in (-2, 0, 2)]])
    muons = make_jets(
        [[(30, eta, 0) for eta in (-2, 0, 2)]], is_identified=[True, False, True], isolation=[0.1, 0.1, 0.3]
    )

    good, _ = good_jets(make_record(jets, muons=muons), JetQuality(lepton_cleaning=True))

    assert good.tolist() == [False, True, True]


def test_cleaning_without_leptons_in_the_file_is_refused() -> None:
    with pytest.raises(InputError, match="neither electrons nor muons"):
        good_jets(make_record(make_jets([[]])), JetQuality(lepton_cleaning=True))


def test_truth_jets_are_found_across_the_seam_in_phi() -> None:
    jets, truth = make_jets([[(50, 0, 3.1)]]), make_jets([[(50, 0, -3.1)]])

    assert match_truth(jets, truth).tolist() == [0]


def test_the_truth_index_counts_through_all_events() -> None:
    jets = make_jets([[(50, 0, 0)], [(50, 1, 0), (40, 0, 0)]])
    truth = make_jets([[(50, 2, 0), (40, 0, 0)], [(30, 0, 0), (20, 1, 0)]])

    matched = match_truth(jets, truth)

    assert matched.tolist() == [1, 3, 2]
    assert matched.dtype == np.int32


def test_a_truth_jet_goes_to_the_nearest_jet_and_the_loser_takes_the_next() -> None:
    # truth at 0 and 0.18: the second jet (0.02) is nearer to the first truth jet than the first jet (0.06), which then
    # takes the truth jet at distance 0.12
    jets = make_jets([[(50, 0.06, 0), (40, -0.02, 0)]])
    truth = make_jets([[(50, 0, 0), (40, 0.18, 0)]])

    assert match_truth(jets, truth).tolist() == [1, 0]


def test_a_truth_jet_at_the_limit_is_not_matched() -> None:
    jets, truth = make_jets([[(50, 0.25, 0)]]), make_jets([[(50, 0, 0)]])

    assert match_truth(jets, truth, max_dr=0.25).tolist() == [-1]
    assert match_truth(jets, truth, max_dr=0.251).tolist() == [0]


# the grid makes equal distances
eta = st.one_of(st.floats(-0.25, 0.25, width=32), st.sampled_from([-0.125, 0.0, 0.125]))
directions = st.lists(st.tuples(st.just(20.0), eta, st.sampled_from([-3.1, -3.0, 3.0, 3.1, 3.14])), max_size=6)


def closest_pairs_first(jets: Jets, truth: Jets, max_dr: float) -> NDArray[np.int32]:
    """Matching by sorting all pairs of an event."""
    matched = np.full(len(jets), -1, np.int32)
    for i in range(jets.n_events):
        pairs = []
        for j in range(jets.offsets[i], jets.offsets[i + 1]):
            for t in range(truth.offsets[i], truth.offsets[i + 1]):
                delta_phi = abs(jets.phi[j] - truth.phi[t])
                delta_phi = min(delta_phi, np.float32(2 * np.pi) - delta_phi)
                distance = (jets.eta[j] - truth.eta[t]) ** 2 + delta_phi**2
                if distance < np.float32(max_dr**2):
                    pairs.append((distance, j, t))
        taken: set[int] = set()
        for _, j, t in sorted(pairs):
            if matched[j] < 0 and t not in taken:
                matched[j] = t
                taken.add(t)
    return matched


@settings(deadline=None, max_examples=150)
@given(events=st.lists(st.tuples(directions, directions), max_size=3))
def test_matching_is_that_of_the_sorted_pairs(events: list[tuple[Any, Any]]) -> None:
    jets, truth = (make_jets([event[k] for event in events]) for k in range(2))

    got = match_truth(jets, truth, 0.2)

    assert got.tolist() == closest_pairs_first(jets, truth, 0.2).tolist()
