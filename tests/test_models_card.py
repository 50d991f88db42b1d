"""Cards of networks."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from models.card import ModelCard, card_from, card_path, read_card, write_card

if TYPE_CHECKING:
    from pathlib import Path

CARD = ModelCard("calibration", ("pt", "eta"), lowest=0.5, highest=2.0, trained_on="toy")


def test_a_card_comes_back_from_its_file(tmp_path: Path) -> None:
    write_card(CARD, tmp_path / "network.json")

    assert read_card(tmp_path / "network.json") == CARD


def test_the_card_lies_beside_the_network() -> None:
    assert card_path("models/network.onnx").as_posix() == "models/network.json"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": ("pt", "colour")}, "unknown features colour; known are pt"),
        ({"features": ()}, "at least one feature"),
        ({"lowest": 0.0}, "0 < lowest < highest"),
        ({"highest": float("inf")}, "0 < lowest < highest"),
        ({"task": "cooking"}, "task 'cooking'"),
        ({"version": 99}, "version 99"),
        ({"working_points": {"loose": 0.2, "tight": float("inf")}}, "a finite score, not so tight"),
    ],
)
def test_a_card_no_program_could_follow_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CARD, **changes)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not a model card"),
        ("[]", "not a JSON object"),
        ('{"task": "calibration"}', r"missing keys \['features'\]"),
        ('{"task": "calibration", "features": ["pt"], "layers": 3}', r"unknown keys \['layers'\]"),
        ('{"task": "calibration", "features": "pt"}', "features is a list of names"),
        ('{"task": "calibration", "features": ["pt"], "lowest": "low"}', "is not a model card"),
    ],
)
def test_what_is_no_card_is_refused_with_its_path(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "network.json"
    path.write_text(content)

    with pytest.raises(ValueError, match=message) as caught:
        read_card(path)

    assert str(path) in str(caught.value)


def test_a_missing_card_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"network\.json does not exist"):
        read_card(tmp_path / "network.json")


def test_a_card_is_readable_json(tmp_path: Path) -> None:
    write_card(CARD, tmp_path / "network.json")

    assert json.loads((tmp_path / "network.json").read_text())["features"] == ["pt", "eta"]


@pytest.mark.parametrize("training", [{"settings": {"fit": {}}}, {"seed": 1}])
def test_an_older_card_of_a_tagger_that_was_trained_here_imputes(training: dict[str, Any]) -> None:
    values = {"task": "tagger", "features": ["tau21"], "version": 2, "training": training}

    assert card_from(values).imputes == ("settings" in training)
    assert not card_from({**values, "version": 3}).imputes
    assert card_from({**values, "version": 3, "imputes": True}).imputes
