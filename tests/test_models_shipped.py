from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import analysis
import samples
from models.calibration import load_calibration
from models.card import card_path, read_card
from models.evaluation import gaussian_core
from models.event_table import read_table
from models.features import RaggedConstituents, offsets_of
from models.session import OnnxModel
from models.shipped import shipped_names, shipped_path
from models.tagging.tagger import load_tagger
from models.training.samples import sample_of
from models.training.settings import FitSettings, LossSettings
from processors.settings_file import merged_values
from processors.substructure import substructure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from models.calibration import CalibrationModel
    from models.event_table import EventTable

LARGEST = 1_000_000
CALIBRATION = "calibration_deepsets"
TAGGERS = tuple(f"{kind}{method}" for kind in ("w_dense", "top_deepsets") for method in ("", "_disco", "_adversarial"))


def path_of(name: str) -> str:
    path = shipped_path(name)
    assert path is not None
    return str(path)


def calibration() -> CalibrationModel:
    return load_calibration(path_of(CALIBRATION))


def outputs(columns: Mapping[str, NDArray[Any]], constituents: RaggedConstituents) -> NDArray[np.float32]:
    def given(name: str) -> NDArray[Any]:
        return columns[name]

    return calibration().outputs({name: partial(given, name) for name in columns}, constituents)


def jets_with(counts: list[int], seed: int = 1) -> tuple[dict[str, NDArray[Any]], RaggedConstituents]:
    """Columns of jets of 50 to 500 GeV, and constituents that share their momentum."""
    rng, n = np.random.default_rng(seed), len(counts)
    columns: dict[str, NDArray[Any]] = {name: rng.random(n) for name in calibration().card.features}
    columns |= {"pt": rng.uniform(50, 500, n), "eta": rng.uniform(-3, 3, n), "phi": rng.uniform(-3, 3, n)}
    columns["mass"] = 0.1 * columns["pt"]
    jet = np.repeat(np.arange(n), counts)
    pt = columns["pt"][jet] / np.maximum(np.array(counts), 1)[jet]
    eta, phi = (columns[name][jet] + 0.1 * rng.normal(size=len(jet)) for name in ("eta", "phi"))
    values = np.column_stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt]).astype(np.float32)
    return columns, RaggedConstituents(offsets_of(np.array(counts)), values)


def tagged_jets(counts: list[int]) -> tuple[dict[str, NDArray[Any]], RaggedConstituents]:
    """Columns of large-R jets, and constituents."""
    columns, constituents = jets_with(counts)
    return {**columns, **substructure(constituents, 1.0)}, constituents


@pytest.mark.parametrize("name", shipped_names())
def test_shipped_networks_are_small_and_tell_what_they_were_trained_on(name: str) -> None:
    path = shipped_path(name)

    assert path is not None
    assert path.stat().st_size < LARGEST
    assert "digest" in OnnxModel(str(path)).metadata["trained_on"]


@pytest.mark.parametrize("name", TAGGERS)
def test_shipped_taggers_give_scores_of_jets_and_none_of_no_jets(name: str) -> None:
    tagger = load_tagger(path_of(name))
    columns, constituents = tagged_jets([1, 3, 20, 40, 60, 120])
    nothing, empty = tagged_jets([])

    scores, without = tagger.scores(columns, constituents)

    assert not without
    assert np.all((scores >= 0) & (scores <= 1))
    assert len(np.unique(scores)) > 2
    assert tagger.scores(nothing, empty)[0].shape == (0,)
    assert set(tagger.working_points) == {"eff30", "eff50", "eff70"}


@pytest.mark.parametrize("method", ["disco", "adversarial"])
@pytest.mark.parametrize("plain", ["w_dense", "top_deepsets"])
def test_shipped_decorrelated_taggers_know_less_of_the_mass_than_plain_ones(plain: str, method: str) -> None:
    told = {name: read_card(card_path(path_of(name))).metrics for name in (plain, f"{plain}_{method}")}

    assert told[f"{plain}_{method}"]["jsd_sub"] < 0.2 * told[plain]["jsd_sub"]
    assert told[f"{plain}_{method}"]["rejection_0.5"] > 8.0


def test_the_shipped_calibration_gives_factors_for_jets_of_any_size() -> None:
    columns, constituents = jets_with([0, 1, 35, 80, 120])

    found = outputs(columns, constituents)

    assert found.shape == (5, 2)
    assert np.all((found[:, 0] > 0.4) & (found[:, 0] < 2.5))
    assert np.all(found[:, 1] > 0.0)


def test_the_shipped_calibration_takes_no_jets() -> None:
    columns, constituents = jets_with([])

    assert outputs(columns, constituents).shape == (0, 2)


def test_a_shipped_network_is_named_in_the_settings_and_a_path_stays_one(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"calibration: {{onnx: {CALIBRATION}}}\n")

    assert merged_values(config, [])["calibration"]["onnx"] == path_of(CALIBRATION)
    assert merged_values(None, ["calibration.onnx=mine.onnx"])["calibration"]["onnx"].endswith("/mine.onnx")


def test_a_name_that_does_not_ship_is_answered_with_those_that_do() -> None:
    assert shipped_path("calibration_deep") is None
    with pytest.raises(FileNotFoundError, match=CALIBRATION):
        OnnxModel("calibration_deep")._session()
    with pytest.raises(FileNotFoundError, match=CALIBRATION):
        load_calibration("calibration_deep")


@pytest.fixture(name="bundled", scope="module")
def _bundled(tmp_path_factory: pytest.TempPathFactory) -> EventTable:
    """Training table of the bundled jets with constituents."""
    path = tmp_path_factory.mktemp("bundled") / "table.parquet"
    fileset = Path(samples.__file__).parent / "bundled" / "constituents" / "fileset.json"
    with pytest.raises(SystemExit) as caught:
        analysis.main(["table", "calibration", "-e", "iterative", "--fileset", str(fileset), "-o", str(path)])
    assert caught.value.code == 0
    return read_table(path)


@pytest.mark.slow
def test_the_shipped_calibration_narrows_the_response_of_jets_it_never_saw(bundled: EventTable) -> None:
    names = calibration().card.features
    sample = sample_of(bundled, names, FitSettings(), LossSettings())
    found = outputs({name: sample.features[:, i] for i, name in enumerate(names)}, sample.constituents)
    used = (sample.truth_pt > 100.0) & (sample.abs_eta_truth < 2.5)
    response, factor, width = (sample.pt / sample.truth_pt)[used], found[used, 0], found[used, 1]
    before, after = gaussian_core(response), gaussian_core(response * factor)
    pulls = gaussian_core((response * factor - 1.0) / width)

    assert before.entries > 1000
    # a quarter is gained; each width is known to 4 %, and their ratio better
    assert after.width / after.mean < 0.85 * before.width / before.mean
    assert after.mean == pytest.approx(1.0, abs=4 * after.mean_error)
    # three errors, and the 10-bit momenta of the bundled files, which others are not rounded to
    assert pulls.width == pytest.approx(1.0, abs=3 * pulls.width_error + 0.03)
