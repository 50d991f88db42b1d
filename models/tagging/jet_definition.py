"""Which jets a tagger was made for, and how those of a run differ.

The table of a tagger keeps the settings by which its jets were made. `jets_of_tables` takes from them what decides the
inputs of a network; that belongs into the card, under `JETS` of `training`, and `differences` compares it with a run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

JETS = "jets"
"""Key of the mapping in `ModelCard.training`."""
COLLECTION = "collection"
DEFINITION = ("radius", "grooming", "subjet_radius", "subjet_fraction")
"""What has to be the same where a tagger is applied, by the names of the settings `large_jets`."""
_OF_TRIMMING = ("subjet_radius", "subjet_fraction")
_NO_TRIMMING = "none"


def jets_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Collection, radius and grooming out of settings `large_jets`; what is not said is left out.

    Without trimming its subjets are left out too.
    """
    found = {name: settings[name] for name in (COLLECTION, *DEFINITION) if settings.get(name) is not None}
    if found.get("grooming") == _NO_TRIMMING:
        return {name: value for name, value in found.items() if name not in _OF_TRIMMING}
    return found


def jets_of_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The jets of a table by its facts, see `models.tagging.tagger_table`; empty for a table that says nothing."""
    settings = facts.get("settings")
    jets = settings.get("large_jets") if isinstance(settings, dict) else None
    return jets_of(jets) if isinstance(jets, dict) else {}


def jets_of_tables(tables: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The jets of all tables that a tagger is trained on, by their facts; tables that say nothing do not count.

    A collection that differs is left out, as it is a name alone.

    Raises
    ------
    ValueError
        Where tables hold jets of another radius or grooming.
    """
    known = [jets for facts in tables if (jets := jets_of_facts(facts))]
    if not known:
        return {}
    for other in known[1:]:
        if told := differences(known[0], other):
            raise ValueError(f"the tables hold different jets: {'; '.join(told)}; train on tables with the same ones")
    collections = {jets.get(COLLECTION) for jets in known}
    return {name: value for name, value in known[0].items() if name != COLLECTION or len(collections) == 1}


def differences(expected: Mapping[str, Any], came: Mapping[str, Any]) -> list[str]:
    """In words, each radius and grooming that differs; what one of the two does not say is no difference."""
    return [
        f"{name} {_word(expected[name])} is expected, {_word(came[name])} came"
        for name in DEFINITION
        if name in expected and name in came and not _equal(expected[name], came[name])
    ]


def _equal(first: Any, second: Any) -> bool:
    if isinstance(first, str) or isinstance(second, str):
        return bool(first == second)
    return abs(float(first) - float(second)) < 1e-6


def _word(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:g}"
