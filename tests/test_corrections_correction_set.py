"""The JSON is what correctionlib and coffea take, even in eta, clamped, and never says what was not measured."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import awkward as ak
import correctionlib
import numpy as np
import pytest
from coffea.jetmet_tools import CorrectedJetsFactory, CorrectionLibJECStack
from coffea.jetmet_tools.JetResolution import JetResolution
from coffea.jetmet_tools.JetResolutionScaleFactor import JetResolutionScaleFactor
from coffea.lookup_tools import extractor

from corrections.correction_set import Tags, write_correction_set
from corrections.promises import check_corrections
from corrections.results import Interval, Measurement, Point, ResolutionCurve, RhoSlope
from corrections.scale_factor_json import JsonLayout
from corrections.table import read_points, write_points
from corrections.text_files import write_text_files

if TYPE_CHECKING:
    from pathlib import Path

BINS = (Interval(0.0, 0.7), Interval(0.7, 1.3), Interval(1.3, 2.8))
SQUARES = ((9.0, 0.6, 0.0016), (-4.0, 0.7, 0.0025), (16.0, 0.8, 0.0036))
FACTORS = (1.1, 0.95, 1.2)
RESIDUALS = (1.0, 1.01, 0.98)
PT = Interval(50.0, 1000.0)


def point(quantity: str, eta: Interval, value: float, stat: float = 0.02, status: str = "ok") -> Point:
    return Point(
        quantity,  # type: ignore[arg-type]
        "data/simulation",
        "AK4PF",
        "mean_asymmetry" if quantity == "residual" else "template",
        "",
        eta,
        PT,
        200.0,
        value,
        stat,
        status,  # type: ignore[arg-type]
    )


def measurement() -> Measurement:
    curves = tuple(
        ResolutionCurve("simulation", "AK4PF", eta, squares, np.eye(3) * 1e-8, PT, 5.0, 6, "ok")
        for eta, squares in zip(BINS, SQUARES, strict=True)
    )
    points = [point("scale_factor", eta, value) for eta, value in zip(BINS, FACTORS, strict=True)]
    points += [point("residual", eta, value, 0.003) for eta, value in zip(BINS, RESIDUALS, strict=True)]
    return Measurement("AK4PF", tuple(points), curves, (), 0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    target = tmp_path / "corrections" / "jet_jerc.json.gz"
    write_correction_set([measurement()], Tags(), target, 20.0)
    return target


def test_resolutions_follow_the_formula_and_data_are_the_scaled_simulation(path: Path) -> None:
    corrections = correctionlib.CorrectionSet.from_file(str(path))
    for eta, squares, factor in zip((0.3, 1.0, 2.0), SQUARES, FACTORS, strict=True):
        for pt in (50.0, 123.0, 999.0):
            expected = np.sqrt(squares[0] / pt**2 + squares[1] / pt + squares[2])
            simulation = corrections["Dijet2026_JRV1_MC_PtResolution_AK4PF"].evaluate(eta, pt, 15.0)
            data = corrections["Dijet2026_JRV1_DATA_PtResolution_AK4PF"].evaluate(eta, pt, 15.0)
            assert simulation == pytest.approx(expected, rel=1e-9)
            assert data == pytest.approx(factor * expected, rel=1e-9)


def test_every_correction_is_even_in_eta_on_edges_too(path: Path) -> None:
    corrections = correctionlib.CorrectionSet.from_file(str(path))
    values = {"JetPt": 120.0, "Rho": 20.0, "systematic": "nom"}
    for name in (n for n in corrections if n != "JERSmear"):
        inputs = [i.name for i in corrections[name].inputs]
        for eta in (0.0, 0.7, 1.0, 1.3, 2.8, 4.0):
            plus, minus = (
                corrections[name].evaluate(*({**values, "JetEta": sign * eta}[i] for i in inputs)) for sign in (1, -1)
            )
            assert plus == minus


def test_values_are_clamped_beyond_the_measured_range(path: Path) -> None:
    resolution = correctionlib.CorrectionSet.from_file(str(path))["Dijet2026_JRV1_MC_PtResolution_AK4PF"]
    assert resolution.evaluate(0.3, 5.0, 20.0) == resolution.evaluate(0.3, 50.0, 20.0)
    assert resolution.evaluate(0.3, 1e6, 20.0) == resolution.evaluate(0.3, 1000.0, 20.0)
    assert resolution.evaluate(9.0, 100.0, 20.0) == resolution.evaluate(2.7, 100.0, 20.0)


def test_up_and_down_are_values(path: Path) -> None:
    factor = correctionlib.CorrectionSet.from_file(str(path))["Dijet2026_JRV1_MC_ScaleFactor_AK4PF"]
    got = [factor.evaluate(1.0, 100.0, key) for key in ("nom", "up", "down", "stat_up", "stat_down")]
    assert got == pytest.approx([0.95, 0.97, 0.93, 0.97, 0.93])


def test_residual_and_its_relative_uncertainty(path: Path) -> None:
    corrections = correctionlib.CorrectionSet.from_file(str(path))
    assert corrections["Dijet2026_V1_DATA_L2L3Residual_AK4PF"].evaluate(-2.0, 100.0) == pytest.approx(0.98)
    assert corrections["Dijet2026_V1_MC_L2L3Residual_AK4PF"].evaluate(-2.0, 100.0) == 1.0
    assert corrections["Dijet2026_V1_MC_Total_AK4PF"].evaluate(2.0, 100.0) == pytest.approx(0.003 / 0.98)
    assert corrections.compound["Dijet2026_V1_DATA_L1L2L3Res_AK4PF"].evaluate(2.0, 100.0) == pytest.approx(0.98)


def test_smearing_follows_the_recipe(path: Path) -> None:
    smear = correctionlib.CorrectionSet.from_file(str(path))["JERSmear"]
    # 1 + (1.1 - 1)(50 - 45)/50
    assert smear.evaluate(50.0, 0.5, 45.0, 20.0, 12345, 0.15, 1.1) == pytest.approx(1.01)
    # the values of the official payload, which has the same random numbers
    assert smear.evaluate(50.0, 0.5, -1.0, 20.0, 12345, 0.15, 1.1) == pytest.approx(0.9819008790493454)
    assert smear.evaluate(50.0, 0.5, -1.0, 20.0, 12346, 0.15, 1.1) == pytest.approx(1.025868977542906)


def test_an_unmeasured_bin_takes_its_inner_neighbour_and_is_named(tmp_path: Path) -> None:
    whole = measurement()
    points = tuple(
        replace(p, value=np.nan, status="few_events") if p.quantity == "scale_factor" and p.eta == BINS[2] else p
        for p in whole.points
    )
    written = write_correction_set([replace(whole, points=points)], Tags(), tmp_path / "j.json.gz", 20.0)
    factor = correctionlib.CorrectionSet.from_file(str(tmp_path / "j.json.gz"))["Dijet2026_JRV1_MC_ScaleFactor_AK4PF"]
    assert factor.evaluate(2.0, 100.0, "nom") == pytest.approx(0.95)
    assert "1.3-2.8" in factor.description
    assert any("1.3-2.8" in note and "ScaleFactor" in note for note in written.neighbours)


def test_what_was_not_measured_at_all_is_left_out_and_listed(tmp_path: Path) -> None:
    simulation_only = replace(measurement(), points=())
    written = write_correction_set([simulation_only], Tags(), tmp_path / "j.json.gz", 20.0)
    assert "Dijet2026_JRV1_MC_PtResolution_AK4PF" in written.names
    assert set(written.not_written) == {
        "Dijet2026_JRV1_DATA_PtResolution_AK4PF",
        "Dijet2026_JRV1_MC_ScaleFactor_AK4PF",
        "Dijet2026_V1_DATA_L2L3Residual_AK4PF",
        "Dijet2026_V1_MC_Total_AK4PF",
        "Dijet2026_V1_DATA_L1L2L3Res_AK4PF",
    }


def test_a_jet_algorithm_without_a_measurement_has_all_that_is_promised_listed(tmp_path: Path) -> None:
    whole = write_correction_set([measurement()], Tags(), tmp_path / "whole.json.gz", 20.0)
    written = write_correction_set([], Tags(), tmp_path / "j.json.gz", 20.0, unmeasured={"AK4PF": "no simulation"})
    assert written.names == ("JERSmear",)
    assert set(written.not_written) == set(whole.names) - {"JERSmear"}
    assert set(written.not_written.values()) == {"no simulation"}


def test_data_resolution_without_simulated_one_says_what_is_lacking(tmp_path: Path) -> None:
    written = write_correction_set([replace(measurement(), curves=())], Tags(), tmp_path / "j.json.gz", 20.0)
    reason = written.not_written["Dijet2026_JRV1_DATA_PtResolution_AK4PF"]
    assert reason == "no resolution could be measured in any |eta| bin"


def test_a_value_that_is_not_finite_is_refused_by_name(tmp_path: Path) -> None:
    whole = measurement()
    points = tuple(replace(p, stat=np.nan) if p.eta == BINS[1] else p for p in whole.points)
    broken = replace(whole, points=points)
    with pytest.raises(match=r"ScaleFactor.*\|eta\| 0\.7-1\.3"):
        write_correction_set([broken], Tags(), tmp_path / "j.json.gz", 20.0)
    assert not (tmp_path / "j.json.gz").exists()


def test_a_tag_of_three_parts_is_refused() -> None:
    with pytest.raises(ValueError, match=r"tags\.jer"):
        Tags(jer="Dijet_2026_JRV1")


@pytest.mark.filterwarnings("ignore")
def test_coffea_smears_jets_with_the_file(path: Path) -> None:
    stack = CorrectionLibJECStack.from_file(
        str(path),
        jec_tag="Dijet2026_V1",
        data_type="MC",
        jet_type="AK4PF",
        jec_level="L1L2L3Res",
        unc_sources=["Total"],
        jer_tag="Dijet2026_JRV1",
    )
    rng = np.random.default_rng(1)
    n = 4000
    truth = rng.uniform(80, 400, n)
    squares = np.array(SQUARES[0])
    sigma = np.sqrt(squares[0] / truth**2 + squares[1] / truth + squares[2])
    pt = truth * (1 + sigma * rng.normal(size=n))
    # coffea takes its seed from the bits of a single-precision pT
    pt, truth = pt.astype(np.float32), truth.astype(np.float32)
    jets = ak.unflatten(
        ak.zip(
            {
                "pt": pt,
                "eta": rng.uniform(-0.6, 0.6, n),
                "phi": rng.uniform(-3, 3, n),
                "mass": np.float32(0.1) * pt,
                "area": np.full(n, 0.5),
                "pt_raw": pt,
                "mass_raw": np.float32(0.1) * pt,
                "pt_gen": truth,
                "rho": np.full(n, 20.0),
            }
        ),
        np.full(n // 2, 2),
    )
    names = {
        "JetPt": "pt",
        "JetMass": "mass",
        "JetEta": "eta",
        "JetA": "area",
        "Rho": "rho",
        "ptGenJet": "pt_gen",
        "ptRaw": "pt_raw",
        "massRaw": "mass_raw",
    }
    corrected = CorrectedJetsFactory(names, stack).build(jets)
    got = ak.to_numpy(ak.flatten(corrected.pt))
    # jets within three resolutions of their truth are scaled about it by 1.1
    near = np.abs(pt - truth) < 2.5 * sigma * pt
    assert near.sum() > 3900
    np.testing.assert_allclose((got / truth - 1)[near], 1.1 * (pt / truth - 1)[near], atol=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_text_twins_give_coffea_the_same_numbers(path: Path, tmp_path: Path) -> None:
    resolution_path, factor_path = write_text_files(measurement(), Tags(), tmp_path)
    source = extractor()
    source.add_weight_sets([f"* * {resolution_path}", f"* * {factor_path}"])
    source.finalize()
    evaluator = source.make_evaluator()
    names = ("Dijet2026_JRV1_MC_PtResolution_AK4PF", "Dijet2026_JRV1_MC_SF_AK4PF")
    resolution = JetResolution(**{names[0]: evaluator[names[0]]})
    factor = JetResolutionScaleFactor(**{names[1]: evaluator[names[1]]})
    corrections = correctionlib.CorrectionSet.from_file(str(path))
    eta = np.array([-2.0, -1.0, -0.3, 0.3, 1.0, 2.0])
    pt = np.array([60.0, 100.0, 300.0, 2000.0, 20.0, 500.0])
    expected = corrections[names[0]].evaluate(eta, pt, 20.0)
    got = resolution.getResolution(JetEta=eta, Rho=np.full(6, 20.0), JetPt=pt)
    np.testing.assert_allclose(ak.to_numpy(got), expected, rtol=1e-5)
    factors = ak.to_numpy(factor.getScaleFactor(JetEta=eta))
    for column, key in enumerate(("nom", "up", "down")):
        expected = corrections["Dijet2026_JRV1_MC_ScaleFactor_AK4PF"].evaluate(eta, pt, key)
        np.testing.assert_allclose(factors[:, column], expected, rtol=1e-5)


def test_the_table_keeps_every_digit(tmp_path: Path) -> None:
    points = measurement().points
    write_points(points, tmp_path / "resolution.csv")
    assert read_points(tmp_path / "resolution.csv") == points


def test_resolution_in_the_file_moves_with_rho(tmp_path: Path) -> None:
    slope = RhoSlope(0.3, 0.05, 20.0, Interval(8.0, 40.0))
    whole = measurement()
    moving = replace(whole, curves=tuple(replace(curve, rho=slope) for curve in whole.curves))
    write_correction_set([moving], Tags(), tmp_path / "jet_jerc.json.gz", 20.0)
    file = correctionlib.CorrectionSet.from_file(str(tmp_path / "jet_jerc.json.gz"))
    resolution, pt = file["Dijet2026_JRV1_MC_PtResolution_AK4PF"], 60.0
    nominal = whole.curves[0].squared(np.array([pt]))[0]
    for rho, clamped in ((20.0, 20.0), (30.0, 30.0), (8.0, 8.0), (0.0, 8.0), (90.0, 40.0)):
        expected = nominal + 0.3 * (clamped - 20.0) / pt**2
        assert resolution.evaluate(BINS[0].centre, pt, rho) ** 2 == pytest.approx(expected)


def test_the_text_twin_follows_rho_in_steps(tmp_path: Path) -> None:
    slope = RhoSlope(0.3, 0.05, 20.0, Interval(8.0, 40.0))
    whole = measurement()
    moving = replace(whole, curves=tuple(replace(curve, rho=slope) for curve in whole.curves))
    write_text_files(moving, Tags(), tmp_path)
    lines = (tmp_path / "Dijet2026_JRV1_MC_PtResolution_AK4PF.jr.txt").read_text().splitlines()[1:]
    rows = [[float(word) for word in line.split()] for line in lines]
    first = [row for row in rows if row[0] == BINS[0].low]
    noise = whole.curves[0].squares[0]
    for row in first:
        middle = np.clip(0.5 * (row[2] + row[3]), 8.0, 40.0) if row[3] < 1000 and row[2] > 0 else None
        if middle is not None:
            assert row[7] == pytest.approx(noise + 0.3 * (middle - 20.0))
    assert (first[0][2], first[-1][3]) == (0.0, 1000.0)


@pytest.mark.parametrize("layout", [JsonLayout(), JsonLayout(regions=True), JsonLayout(layout="split")])
def test_every_layout_keeps_what_the_form_promises(layout: JsonLayout, tmp_path: Path) -> None:
    path = tmp_path / "jet_jerc.json.gz"
    write_correction_set([measurement()], Tags(), path, 20.0, layout)
    assert any("ScaleFactor" in line for line in check_corrections(path))
