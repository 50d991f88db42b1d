"""Events that count, and their weights."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import correctionlib.schemav2 as cs
import numpy as np
import pytest
from coffea.lumi_tools import LumiMask
from hypothesis import given, settings
from hypothesis import strategies as st

from processors import event_filter
from processors.errors import InputError
from processors.event_filter import EventFilter, PileupWeights, lumi_mask, pileup_weight, trigger_decision
from processors.fileset import Trigger
from processors.record import EventRecord, Jets

if TYPE_CHECKING:
    from pathlib import Path


def make_record(n: int, **columns: Any) -> EventRecord:
    """Events without jets."""
    none = np.zeros(0, np.float32)
    identity = np.arange(n, dtype=np.uint64)
    values: dict[str, Any] = {
        "dataset": "toy",
        "is_mc": False,
        "file": "toy.root",
        "entry_start": 0,
        "run": np.zeros(n, np.int64),
        "luminosity_block": np.zeros(n, np.int64),
        "event": identity,
        "has_event_id": True,
        "identity": identity,
        "weight": np.ones(n),
        "rho": None,
        "npv": None,
        "true_interactions": None,
        "jets": Jets(np.zeros(n + 1, np.int64), none, none, none, none),
    }
    return EventRecord(**{**values, **columns})


@pytest.fixture
def mask_file(tmp_path: Path) -> str:
    path = tmp_path / "golden.json"
    path.write_text(json.dumps({"1": [[2, 4], [7, 7]], "3": [[1, 100]]}))
    return str(path)


def test_events_in_listed_luminosity_blocks_are_good(mask_file: str) -> None:
    run = np.array([1, 1, 1, 1, 1, 2, 3, 3])
    block = np.array([1, 2, 4, 5, 7, 7, 100, 101])

    good = lumi_mask(make_record(8, run=run, luminosity_block=block), mask_file)

    assert good.tolist() == [False, True, True, False, True, False, True, False]


def test_the_mask_is_that_of_coffea_for_any_order_of_events(mask_file: str) -> None:
    rng = np.random.default_rng(1)
    run, block = rng.integers(1, 4, 500), rng.integers(1, 9, 500)

    good = lumi_mask(make_record(500, run=run, luminosity_block=block), mask_file)

    expected = LumiMask(mask_file)(run.astype(np.uint32), block.astype(np.uint32))
    assert good.tolist() == expected.tolist()
    assert 0 < np.count_nonzero(good) < 500


def test_simulation_an_empty_chunk_and_data_without_mask_pass(mask_file: str) -> None:
    assert lumi_mask(make_record(2, is_mc=True), mask_file).all()
    assert lumi_mask(make_record(2), None).all()
    assert len(lumi_mask(make_record(0), mask_file)) == 0


def test_a_mask_for_a_file_without_luminosity_blocks_is_refused(mask_file: str) -> None:
    with pytest.raises(InputError, match=r"toy\.root lacks run or luminosity block"):
        lumi_mask(make_record(1, has_event_id=False), mask_file)


@pytest.mark.parametrize("content", ["[1, 2]", "no JSON", '{"run": [[1, 2]]}', '{"1": [[-3, -2]]}', '{"1": {"a": 1}}'])
def test_what_is_no_luminosity_mask_is_refused_at_the_start(tmp_path: Path, content: str) -> None:
    path = tmp_path / "mask.json"
    path.write_text(content)

    with pytest.raises(InputError, match="is not a luminosity mask"):
        event_filter.check(EventFilter(lumi_mask=str(path)))


def test_a_missing_mask_is_refused_at_the_start() -> None:
    with pytest.raises(InputError, match=r"luminosity mask 'nowhere\.json' does not exist"):
        event_filter.check(EventFilter(lumi_mask="nowhere.json"))


def make_pileup_file(path: Path, interactions: str = "NumTrueInteractions") -> str:
    """Weights 2, 1, 0.5 below 10, 20 and 30 interactions, ten times that for up and a tenth for down."""
    nominal = np.array([2.0, 1.0, 0.5])
    shapes = {"nominal": nominal, "up": nominal * 10, "down": nominal / 10}
    content = [
        cs.CategoryItem(
            key=key,
            value=cs.Binning(
                nodetype="binning",
                input=interactions,
                edges=[0.0, 10.0, 20.0, 30.0],
                content=values.tolist(),
                flow="clamp",
            ),
        )
        for key, values in shapes.items()
    ]
    correction = cs.Correction(
        name="goldenJSON",
        version=1,
        inputs=[cs.Variable(name=interactions, type="real"), cs.Variable(name="weights", type="string")],
        output=cs.Variable(name="weight", type="real"),
        data=cs.Category(nodetype="category", input="weights", content=content),
    )
    path.write_text(cs.CorrectionSet(schema_version=2, corrections=[correction]).model_dump_json(exclude_unset=True))
    return str(path)


def test_pileup_weights_follow_the_true_interactions(tmp_path: Path) -> None:
    path = make_pileup_file(tmp_path / "puWeights.json")
    filters = EventFilter(pileup_weights=PileupWeights(path, "goldenJSON"))
    interactions = np.array([5, 15, 25, 99, np.nan], np.float32)
    record = make_record(5, is_mc=True, true_interactions=interactions)

    event_filter.check(filters)

    assert pileup_weight(record, filters).tolist() == [2.0, 1.0, 0.5, 0.5, 0.0]
    assert pileup_weight(record, filters, "up").tolist() == [20.0, 10.0, 5.0, 5.0, 0.0]
    assert pileup_weight(record, filters, "down")[0] == pytest.approx(0.2)
    assert event_filter.files(filters) == (path,)


def test_data_and_runs_without_weights_have_pileup_weight_one(tmp_path: Path) -> None:
    filters = EventFilter(pileup_weights=PileupWeights(make_pileup_file(tmp_path / "pu.json"), "goldenJSON"))

    assert pileup_weight(make_record(2), filters).tolist() == [1.0, 1.0]
    assert pileup_weight(make_record(2, is_mc=True), EventFilter()).tolist() == [1.0, 1.0]


def test_pileup_weights_without_true_interactions_are_refused(tmp_path: Path) -> None:
    filters = EventFilter(pileup_weights=PileupWeights(make_pileup_file(tmp_path / "pu.json"), "goldenJSON"))

    with pytest.raises(InputError, match="no true interactions"):
        pileup_weight(make_record(2, is_mc=True), filters)


def test_an_unknown_input_of_pileup_weights_is_named_at_the_start(tmp_path: Path) -> None:
    path = make_pileup_file(tmp_path / "pu.json", interactions="Nvtx")

    with pytest.raises(InputError, match="goldenJSON needs the input Nvtx"):
        event_filter.check(EventFilter(pileup_weights=PileupWeights(path, "goldenJSON")))


@pytest.mark.parametrize("content", ["", "{}", '{"schema_version": 2, "corrections": [{}]}'])
def test_what_is_no_correction_file_is_refused_at_the_start(tmp_path: Path, content: str) -> None:
    path = tmp_path / "pu.json"
    path.write_text(content)

    with pytest.raises(InputError, match="is not a correctionlib JSON file"):
        event_filter.check(EventFilter(pileup_weights=PileupWeights(str(path), "goldenJSON")))


def test_a_changed_correction_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "pu.json"
    path.write_text("{}")
    filters = EventFilter(pileup_weights=PileupWeights(str(path), "goldenJSON"))
    with pytest.raises(InputError):
        event_filter.check(filters)

    make_pileup_file(path)

    event_filter.check(filters)


LADDER = (Trigger("HLT_PFJet140", 200.0, 10.0), Trigger("HLT_PFJet40", 60.0, 1000.0), Trigger("HLT_PFJet500", 600.0))


def test_the_highest_threshold_below_pt_avg_owns_an_event() -> None:
    pt_avg = np.array([59.9, 60.0, 199.0, 200.0, 700.0, np.nan])
    fired = {trigger.path: np.ones(6, np.bool_) for trigger in LADDER}

    passed, prescale = trigger_decision(fired, LADDER, pt_avg)

    assert passed.tolist() == [False, True, True, True, True, False]
    assert prescale.tolist() == [1.0, 1000.0, 1000.0, 10.0, 1.0, 1.0]


def test_another_trigger_does_not_stand_in_for_the_owner() -> None:
    fired = {
        "HLT_PFJet40": np.array([True, False]),
        "HLT_PFJet140": np.array([False, True]),
        "HLT_PFJet500": np.array([True, True]),
    }

    passed, _ = trigger_decision(fired, LADDER, np.array([250.0, 250.0]))

    assert passed.tolist() == [False, True]


def test_triggers_of_one_threshold_weigh_with_the_inverse_of_the_chance_that_any_is_kept() -> None:
    triggers = (Trigger("HLT_A", 50.0, 5.0), Trigger("HLT_B", 50.0, 2.0))
    fired = {"HLT_A": np.array([True, True, False]), "HLT_B": np.array([True, False, False])}

    passed, prescale = trigger_decision(fired, triggers, np.array([60.0, 70.0, 80.0]))

    assert passed.tolist() == [True, True, False]
    # 1 - (1 - 1/5)(1 - 1/2) = 3/5
    assert prescale.tolist() == pytest.approx([5 / 3, 5 / 3, 1.0], rel=1e-15)


def test_an_unprescaled_trigger_tells_by_itself_whether_an_event_counts_once() -> None:
    triggers = (Trigger("HLT_Ele", prescale=2.0), Trigger("HLT_Mu"))
    fired = {"HLT_Mu": np.array([True, True, False]), "HLT_Ele": np.array([True, False, True])}

    _, prescale = trigger_decision(fired, triggers, np.array([20.0, 30.0, 40.0]))

    assert prescale.tolist() == [1.0, 1.0, 2.0]


def test_a_trigger_alone_weighs_with_its_prescale_to_the_last_digit() -> None:
    prescale = 431625.6318640812

    _, got = trigger_decision({"A": np.ones(1, np.bool_)}, (Trigger("A", 0.0, prescale),), np.array([20.0]))

    assert got.tolist() == [prescale]


def test_weighted_events_of_triggers_with_one_threshold_give_back_the_spectrum() -> None:
    rng = np.random.default_rng(7)
    n_events = 200_000
    pt_avg = rng.uniform(50.0, 150.0, n_events)
    triggers = (
        Trigger("HLT_A", 50.0, 5.0),
        Trigger("HLT_B", 50.0, 2.0),
        Trigger("HLT_C", 50.0, 20.0),
        Trigger("HLT_D", 100.0, 3.0),
        Trigger("HLT_E", 100.0, 4.0),
    )
    # all fire without prescale, and each is prescaled by a draw of its own
    fired = {trigger.path: rng.random(n_events) < 1 / trigger.prescale for trigger in triggers}

    passed, prescale = trigger_decision(fired, triggers, pt_avg)

    edges = np.linspace(50.0, 150.0, 5)
    expected = np.histogram(pt_avg, edges)[0]
    got = np.histogram(pt_avg[passed], edges, weights=prescale[passed])[0]
    variance = np.histogram(pt_avg[passed], edges, weights=prescale[passed] * (prescale[passed] - 1))[0]
    assert np.all(np.abs(got - expected) < 4 * np.sqrt(variance))
    assert np.all(np.sqrt(variance) < 0.006 * expected)


def test_without_triggers_everything_passes() -> None:
    passed, prescale = trigger_decision({}, (), np.array([10.0, np.nan]))

    assert passed.tolist() == [True, True]
    assert prescale.tolist() == [1.0, 1.0]


def test_a_path_the_file_lacks_is_named_with_the_nearest() -> None:
    fired = {"HLT_PFJet450": np.ones(1, np.bool_), "HLT_IsoMu24": np.ones(1, np.bool_)}

    with pytest.raises(InputError, match="no trigger 'HLT_PFJet45O'; did you mean 'HLT_PFJet450'"):
        trigger_decision(fired, (Trigger("HLT_PFJet45O"),), np.array([10.0]))


@settings(deadline=None, max_examples=60)
@given(data=st.data(), n_triggers=st.integers(1, 5), n_events=st.integers(0, 20))
def test_the_decision_is_that_of_the_rule_written_out(data: st.DataObject, n_triggers: int, n_events: int) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    triggers = [
        Trigger(f"HLT_{k}", float(rng.integers(0, 3)) * 50, float(rng.integers(1, 4))) for k in range(n_triggers)
    ]
    fired = {trigger.path: rng.random(n_events) < 0.5 for trigger in triggers}
    pt_avg = rng.choice([0.0, 10.0, 50.0, 99.0, 100.0, 150.0], n_events)

    passed, prescale = trigger_decision(fired, triggers, pt_avg)

    for i in range(n_events):
        reached = [trigger.pt_avg_min for trigger in triggers if trigger.pt_avg_min <= pt_avg[i]]
        owners = [trigger for trigger in triggers if reached and trigger.pt_avg_min == max(reached)]
        prescales = [trigger.prescale for trigger in owners if fired[trigger.path][i]]
        lost = np.prod([1 - 1 / trigger.prescale for trigger in owners if trigger.prescale > 1])
        assert passed[i] == bool(prescales)
        assert prescale[i] == pytest.approx(1 / (1 - lost) if prescales and 1 not in prescales else 1.0)
