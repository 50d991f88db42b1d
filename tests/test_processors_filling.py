"""What is refused before a run begins."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from processors.dijet import DijetSettings
from processors.errors import InputError
from processors.event_filter import EventFilter
from processors.fileset import datasets_from
from processors.filling import ingredients, look
from processors.jet_calibration import JetCalibration

FILE = Path(__file__).parent / "data" / "missing_luminosityBlock.root"


def settings_with_mask(folder: Path) -> DijetSettings:
    path = folder / "mask.json"
    path.write_text(json.dumps({"1": [[1, 10]]}))
    return DijetSettings(events=EventFilter(lumi_mask=str(path)))


def test_a_mask_of_the_settings_is_refused_for_data_without_luminosity_blocks(tmp_path: Path) -> None:
    datasets = datasets_from({"data": {"files": [str(FILE)], "metadata": {"is_mc": False}}}, tmp_path)

    with pytest.raises(
        InputError, match=r"missing_luminosityBlock\.root: the luminosity mask .* lacks luminosity block"
    ):
        look(datasets, settings_with_mask(tmp_path))


def test_a_mask_asks_nothing_of_simulation_and_is_no_part_of_what_it_depends_on(tmp_path: Path) -> None:
    document = {"mc": {"files": [str(FILE)], "metadata": {"is_mc": True, "lumi_mask": "nowhere.json"}}}
    datasets = datasets_from(document, tmp_path)

    job = look(datasets, DijetSettings())

    assert ingredients(job.datasets, DijetSettings())["files"] == {}


def test_a_negative_number_of_replicas_is_refused() -> None:
    with pytest.raises(InputError, match="replicas must be at least 0"):
        look([], DijetSettings(replicas=-1))


def test_a_missing_correction_is_told_once_and_not_with_every_file(tmp_path: Path) -> None:
    files = [str(FILE), str(FILE.with_name("nano_dy.root"))]
    datasets = datasets_from({"data": {"files": files, "metadata": {"is_mc": False}}}, tmp_path)

    with pytest.raises(InputError, match=r"^correction file 'nowhere\.json' does not exist") as error:
        look(datasets, DijetSettings(calibration=JetCalibration("nowhere.json", data="Residual_{algo}")))

    assert len(error.value.faults) == 1
