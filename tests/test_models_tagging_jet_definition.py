"""Which jets a tagger was made for."""

from __future__ import annotations

from typing import Any

import pytest

from models.tagging.jet_definition import differences, jets_of, jets_of_facts, jets_of_tables

TRIMMED = {"radius": 1.0, "grooming": "trimming", "subjet_radius": 0.2, "subjet_fraction": 0.05}


def facts(**jets: Any) -> dict[str, Any]:
    given = {"collection": "FatJet", **TRIMMED, "min_pt": 200.0, "matching_distance": None, **jets}
    return {"kind": "tagger", "settings": {"large_jets": given, "table": {}}}


def test_of_the_facts_of_a_table_the_definition_of_its_jets_is_kept() -> None:
    assert jets_of_facts(facts()) == {"collection": "FatJet", **TRIMMED}


def test_subjets_do_not_count_without_trimming() -> None:
    told = jets_of_facts(facts(grooming="none"))

    assert told == {"collection": "FatJet", "radius": 1.0, "grooming": "none"}
    assert differences(told, jets_of_facts(facts(grooming="none", subjet_radius=0.3))) == []


@pytest.mark.parametrize("told", [{}, {"settings": {}}, {"settings": None}, {"settings": {"large_jets": 3}}])
def test_a_table_that_says_nothing_gives_nothing(told: dict[str, Any]) -> None:
    assert jets_of_facts(told) == {}


def test_each_difference_is_told_with_both_values() -> None:
    told = differences(TRIMMED, {**TRIMMED, "radius": 0.8, "grooming": "none"})

    assert told == ["radius 1 is expected, 0.8 came", "grooming trimming is expected, none came"]


def test_a_collection_is_a_name_and_no_difference() -> None:
    assert differences({"collection": "FatJet", "radius": 1}, {"collection": "LargeJet", "radius": 1.0}) == []


def test_what_is_not_said_is_no_difference() -> None:
    assert differences({}, jets_of(TRIMMED)) == []
    assert differences({"radius": 1.0}, {"grooming": "none"}) == []


def test_tables_with_the_same_jets_agree_whatever_the_collection_is_called() -> None:
    assert jets_of_tables([facts(), {}, facts(collection="LargeJet")]) == TRIMMED
    assert jets_of_tables([{}]) == {}


def test_tables_with_other_jets_are_refused() -> None:
    with pytest.raises(ValueError, match=r"different jets: radius 1 is expected, 0\.8 came; train on tables"):
        jets_of_tables([facts(), facts(radius=0.8)])
