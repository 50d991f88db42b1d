"""Which variations there are, and what each does to cuts and jets."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import correctionlib.schemav2 as cs
import numpy as np
import pytest

from processors.jet_calibration import JetCalibration
from processors.record import EventRecord, Jets
from processors.selection import DijetSelection
from processors.variations import Systematics, shift_scale, variations

if TYPE_CHECKING:
    from pathlib import Path

SELECTION = DijetSelection()


def names(systematics: Systematics, *, is_mc: bool, has_pileup_weights: bool) -> list[str]:
    return [way.name for way in variations(systematics, SELECTION, is_mc=is_mc, has_pileup_weights=has_pileup_weights)]


def record() -> EventRecord:
    """One event with three jets."""
    number, nothing = np.ones(1, np.int64), np.zeros(3, np.float32)
    pt, mass = np.array([100, 90, 20], np.float32), np.array([10, 9, 2], np.float32)
    return EventRecord(
        dataset="simulation",
        is_mc=True,
        file="",
        entry_start=0,
        run=number,
        luminosity_block=number,
        event=number.astype(np.uint64),
        has_event_id=True,
        identity=number.astype(np.uint64),
        weight=np.ones(1),
        rho=None,
        npv=None,
        true_interactions=None,
        jets=Jets(np.array([0, 3], np.int64), pt, nothing, nothing, mass),
    )


def uncertainty(folder: Path, edge: float, below: float, above: float) -> JetCalibration:
    """Settings with a scale uncertainty that depends on pT."""
    correction = cs.Correction(
        name="Total_AK4PF",
        version=1,
        inputs=[cs.Variable(name="JetPt", type="real")],
        output=cs.Variable(name="uncertainty", type="real"),
        data=cs.Binning(
            nodetype="binning", input="JetPt", edges=[0.0, edge, 1000.0], content=[below, above], flow="error"
        ),
    )
    path = folder / "jerc.json"
    path.write_text(cs.CorrectionSet(schema_version=2, corrections=[correction]).model_dump_json(exclude_unset=True))
    return JetCalibration(file=str(path), uncertainty="Total_{algo}")


def test_simulation_has_all_variations_and_data_those_of_the_selection() -> None:
    selection = ["nominal", "dphi_up", "dphi_down", "pt3_up", "pt3_down"]
    scale, pile_up = ["jes_up", "jes_down"], ["pu_up", "pu_down"]
    assert names(Systematics(), is_mc=False, has_pileup_weights=True) == selection
    assert names(Systematics(), is_mc=True, has_pileup_weights=False) == [*selection, *scale]
    assert names(Systematics(), is_mc=True, has_pileup_weights=True) == [*selection, *pile_up, *scale]
    assert names(Systematics(enabled=False), is_mc=True, has_pileup_weights=True) == ["nominal"]


def test_up_is_the_looser_selection() -> None:
    ways = {
        way.name: way.selection for way in variations(Systematics(), SELECTION, is_mc=False, has_pileup_weights=False)
    }
    assert ways["dphi_up"].min_delta_phi == pytest.approx(2.6)
    assert ways["dphi_down"].min_delta_phi == pytest.approx(2.8)
    up, down = ways["pt3_up"], ways["pt3_down"]
    assert (up.third_jet_min_pt, up.third_jet_max_fraction) == pytest.approx((30.0, 0.3))
    assert (down.third_jet_min_pt, down.third_jet_max_fraction) == pytest.approx((20.0, 0.2))


def test_varied_cuts_stay_where_cuts_may_be() -> None:
    tight = DijetSelection(min_delta_phi=3.1, third_jet_min_pt=2.0, third_jet_max_fraction=0.02)
    ways = {way.name: way.selection for way in variations(Systematics(), tight, is_mc=False, has_pileup_weights=False)}
    assert 3.14 < ways["dphi_down"].min_delta_phi < math.pi
    assert (ways["pt3_down"].third_jet_min_pt, ways["pt3_down"].third_jet_max_fraction) == (0.0, 0.0)


def test_without_a_file_all_jets_shift_by_the_flat_uncertainty() -> None:
    shifted = shift_scale(record(), Systematics(jes=0.02), JetCalibration(), "AK4PF", -1).jets
    np.testing.assert_allclose(shifted.pt, [98, 88.2, 19.6], rtol=1e-6)
    np.testing.assert_allclose(shifted.mass, [9.8, 8.82, 1.96], rtol=1e-6)


def test_an_uncertainty_in_a_file_takes_the_place_of_the_flat_one(tmp_path: Path) -> None:
    calibration = uncertainty(tmp_path, edge=50.0, below=0.4, above=0.05)
    shifted = shift_scale(record(), Systematics(), calibration, "AK4PF", 1).jets
    np.testing.assert_allclose(shifted.pt, [105, 94.5, 28], rtol=1e-6)


def test_shifted_jets_are_in_falling_pt(tmp_path: Path) -> None:
    calibration = uncertainty(tmp_path, edge=95.0, below=0.3, above=0.0)
    shifted = shift_scale(record(), Systematics(), calibration, "AK4PF", 1).jets
    np.testing.assert_allclose(shifted.pt, [117, 100, 26], rtol=1e-6)


@pytest.mark.parametrize("name", ["jes", "delta_phi", "third_jet_fraction", "third_jet_pt"])
def test_a_negative_shift_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"systematics\.{name}"):
        Systematics(**{name: -0.1})  # type: ignore[arg-type]
