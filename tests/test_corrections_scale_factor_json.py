"""Scale factors in JSON: all sources as values, six regions, the split layout, and factors that depend on pT."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import awkward as ak
import correctionlib
import numpy as np
import pytest
from coffea.jetmet_tools.JetResolution import JetResolution
from coffea.jetmet_tools.JetResolutionScaleFactor import JetResolutionScaleFactor
from coffea.lookup_tools import extractor

from corrections.correction_set import Tags, write_correction_set
from corrections.results import SOURCES, Interval, Measurement, Point, ResolutionCurve, Shift
from corrections.scale_factor_json import REGIONS, JsonLayout
from corrections.text_files import write_text_files

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MC, DATA = "Dijet2026_JRV1_MC_PtResolution_AK4PF", "Dijet2026_JRV1_DATA_PtResolution_AK4PF"
FACTOR, UNCERTAINTY = "Dijet2026_JRV1_MC_ScaleFactor_AK4PF", "Dijet2026_JRV1_MC_SFUncertainty_AK4PF"
ETA = (Interval(0.0, 1.3), Interval(1.3, 2.8), Interval(2.8, 5.2))
PT = Interval(30.0, 1000.0)
VALUES = (1.1, 0.95, 1.2)
# Every source with a shift of its own, up and down not alike.
SHIFTS = tuple(Shift(source, 0.01 * (i + 1), -0.008 * (i + 1)) for i, source in enumerate(SOURCES))
STAT = 0.02


def point(eta: Interval, value: float, pt: Interval = PT, shifts: tuple[Shift, ...] = SHIFTS) -> Point:
    centre = float(np.sqrt(pt.low * pt.high))
    return Point(
        "scale_factor", "data/simulation", "AK4PF", "template", "", eta, pt, centre, value, STAT, "ok", shifts=shifts
    )


def measurement(points: Sequence[Point]) -> Measurement:
    curves = tuple(
        ResolutionCurve("simulation", "AK4PF", eta, (9.0, 0.6, 0.002), np.eye(3) * 1e-8, PT, 5.0, 6, "ok", power)
        for eta, power in zip(ETA, (-1.0, -0.8, -1.0), strict=True)
    )
    return Measurement("AK4PF", tuple(points), curves, (), 0)


CONSTANT = [point(eta, value) for eta, value in zip(ETA, VALUES, strict=True)]
PT_EDGES = (40.0, 100.0, 250.0, 900.0)
SLOPED = [
    point(eta, value + 0.03 * i, Interval(*PT_EDGES[i : i + 2]))
    for eta, value in zip(ETA, VALUES, strict=True)
    for i in range(3)
]
TOTAL = float(np.sqrt(STAT**2 + sum((0.01 * (i + 1)) ** 2 for i in range(len(SOURCES)))))


def written(points: Sequence[Point], folder: Path, layout: JsonLayout | None = None) -> correctionlib.CorrectionSet:
    path = folder / "jet_jerc.json.gz"
    write_correction_set([measurement(points)], Tags(), path, 20.0, layout)
    return correctionlib.CorrectionSet.from_file(str(path))


def keys(corrections: correctionlib.CorrectionSet, pt: float = 200.0) -> dict[str, float]:
    """Value by every word of `systematic` that is promised."""
    words = ["nom", "up", "down", *(f"{s}_{side}" for s in ("stat", *SOURCES) for side in ("up", "down"))]
    return {word: float(corrections[FACTOR].evaluate(2.0, pt, word)) for word in words}


def test_every_promised_key_of_systematic_is_a_value(tmp_path: Path) -> None:
    got = keys(written(CONSTANT, tmp_path))
    assert got["nom"] == pytest.approx(0.95)
    assert (got["stat_up"], got["stat_down"]) == pytest.approx((0.97, 0.93))
    for shift in SHIFTS:
        assert got[f"{shift.source}_up"] == pytest.approx(0.95 + shift.up)
        assert got[f"{shift.source}_down"] == pytest.approx(0.95 + shift.down)


def test_up_and_down_hold_all_sources_in_quadrature(tmp_path: Path) -> None:
    got = keys(written(CONSTANT, tmp_path))
    assert (got["up"], got["down"]) == pytest.approx((0.95 + TOTAL, 0.95 - TOTAL))


def test_a_source_that_was_not_evaluated_leaves_the_nominal_value_and_is_named(tmp_path: Path) -> None:
    kept = tuple(shift for shift in SHIFTS if shift.source != "pu")
    corrections = written([replace(p, shifts=kept) for p in CONSTANT], tmp_path)
    got = keys(corrections)
    assert got["pu_up"] == got["pu_down"] == got["nom"]
    assert "Not evaluated, and nominal: pu." in corrections[FACTOR].description


def test_an_unknown_systematic_is_an_error_and_not_the_nominal_value(tmp_path: Path) -> None:
    corrections = written(CONSTANT, tmp_path)
    with pytest.raises(IndexError):
        corrections[FACTOR].evaluate(2.0, 100.0, "jes_upp")


@pytest.mark.parametrize("points", [CONSTANT, SLOPED, SLOPED[:3] + CONSTANT[1:]], ids=["constant", "in pT", "mixed"])
def test_each_regional_key_moves_its_own_region_only(points: list[Point], tmp_path: Path) -> None:
    factor = written(points, tmp_path, JsonLayout(regions=True))[FACTOR]
    for eta in (0.5, 1.92, 1.94, -2.0, 2.49, -2.51, 2.79, 2.81, 2.99, 3.01, 4.7, 6.0):
        for pt in (12.0, 30.0, 49.9, 50.1, 150.0, 4000.0):
            nominal = factor.evaluate(eta, pt, "nom")
            for region in REGIONS:
                moved = TOTAL if region.holds(abs(eta), pt) else 0.0
                got = [factor.evaluate(eta, pt, f"{region.name}_{side}") - nominal for side in ("up", "down")]
                assert got == pytest.approx([moved, -moved], abs=1e-9)


def test_regions_above_their_lowest_bin_of_pt_still_know_50_gev(tmp_path: Path) -> None:
    """Measured above 100 GeV only: a jet of 30 GeV takes the value of the lowest bin and the nuisance of its own pT."""
    factor = written([p for p in SLOPED if p.pt.low >= 100], tmp_path, JsonLayout(regions=True))[FACTOR]
    nominal = factor.evaluate(2.7, 30.0, "nom")
    assert nominal == pytest.approx(0.98)
    assert factor.evaluate(2.7, 30.0, "eta2p5to3_pt0to50_up") > nominal
    assert factor.evaluate(2.7, 30.0, "eta2p5to3_ptabove50_up") == nominal
    assert factor.evaluate(2.7, 60.0, "eta2p5to3_ptabove50_up") > nominal
    below = [replace(p, pt=Interval(p.pt.low / 25, p.pt.high / 25)) for p in SLOPED]
    factor = written(below, tmp_path, JsonLayout(regions=True))[FACTOR]
    assert factor.evaluate(2.7, 300.0, "eta2p5to3_ptabove50_up") > factor.evaluate(2.7, 300.0, "nom")
    assert factor.evaluate(2.7, 300.0, "eta2p5to3_pt0to50_up") == factor.evaluate(2.7, 300.0, "nom")


def test_the_regional_layout_has_the_same_nominal_values(tmp_path: Path) -> None:
    plain, regional = written(SLOPED, tmp_path), written(SLOPED, tmp_path, JsonLayout(regions=True))
    for eta in (0.5, 1.95, 2.6, 4.0):
        for pt in (20.0, 45.0, 60.0, 101.0, 800.0, 2000.0):
            assert plain[FACTOR].evaluate(eta, pt, "up") == regional[FACTOR].evaluate(eta, pt, "up")


@pytest.mark.parametrize("points", [CONSTANT, SLOPED], ids=["constant", "in pT"])
def test_the_split_layout_has_factor_and_relative_uncertainty_of_eta_and_pt(
    points: list[Point], tmp_path: Path
) -> None:
    legacy, split = written(points, tmp_path / "a"), written(points, tmp_path / "b", JsonLayout(layout="split"))
    for eta in (-4.0, 0.5, 2.0, 5.0):
        for pt in (10.0, 60.0, 150.0, 500.0, 3000.0):
            value, relative = (split[name].evaluate(eta, pt) for name in (FACTOR, UNCERTAINTY))
            assert value == pytest.approx(legacy[FACTOR].evaluate(eta, pt, "nom"))
            assert value * (1 + relative) == pytest.approx(legacy[FACTOR].evaluate(eta, pt, "up"))
            assert value * (1 - relative) == pytest.approx(legacy[FACTOR].evaluate(eta, pt, "down"))


def test_regions_have_no_place_in_the_split_layout() -> None:
    with pytest.raises(ValueError, match=r"json\.regions needs json\.layout legacy"):
        JsonLayout(layout="split", regions=True)


@pytest.mark.parametrize("points", [CONSTANT, SLOPED, SLOPED[:3] + CONSTANT[1:]], ids=["constant", "in pT", "mixed"])
def test_data_resolution_is_the_factor_times_that_of_simulation_at_any_pt(points: list[Point], tmp_path: Path) -> None:
    corrections = written(points, tmp_path)
    for eta in (-5.0, -1.0, 0.2, 1.3, 2.0, 2.8, 6.0):
        for pt in (5.0, 29.0, 40.0, 99.9, 100.0, 101.0, 250.0, 899.0, 900.0, 1500.0):
            factor = corrections[FACTOR].evaluate(eta, pt, "nom")
            simulation, data = (corrections[name].evaluate(eta, pt, 20.0) for name in (MC, DATA))
            assert data == pytest.approx(factor * simulation, rel=1e-9)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("points", [CONSTANT, SLOPED], ids=["constant", "in pT"])
def test_text_twins_give_coffea_the_numbers_of_the_json(points: list[Point], tmp_path: Path) -> None:
    corrections = written(points, tmp_path)
    names = (MC, "Dijet2026_JRV1_MC_SF_AK4PF")
    source = extractor()
    source.add_weight_sets([f"* * {path}" for path in write_text_files(measurement(points), Tags(), tmp_path)])
    source.finalize()
    evaluator = source.make_evaluator()
    eta = np.array([-4.0, -2.0, -1.0, 0.3, 0.3, 1.0, 2.0, 3.0])
    pt = np.array([60.0, 99.0, 101.0, 45.0, 300.0, 899.0, 2000.0, 20.0])
    resolution = JetResolution(**{MC: evaluator[MC]}).getResolution(JetEta=eta, Rho=np.full(8, 20.0), JetPt=pt)
    np.testing.assert_allclose(ak.to_numpy(resolution), corrections[MC].evaluate(eta, pt, 20.0), rtol=1e-5)
    reader = JetResolutionScaleFactor(**{names[1]: evaluator[names[1]]})
    depends = points is SLOPED
    factors = ak.to_numpy(reader.getScaleFactor(JetEta=eta, **({"JetPt": pt} if depends else {})))
    for column, key in enumerate(("nom", "up", "down")):
        np.testing.assert_allclose(factors[:, column], corrections[FACTOR].evaluate(eta, pt, key), rtol=1e-5)


def test_a_factor_without_an_uncertainty_is_refused_by_name(tmp_path: Path) -> None:
    broken = [replace(p, stat=np.nan) if p.eta == ETA[1] else p for p in SLOPED]
    for layout in (JsonLayout(), JsonLayout(layout="split"), JsonLayout(regions=True)):
        with pytest.raises(ValueError, match=r"\|eta\| 1\.3-2\.8"):
            written(broken, tmp_path, layout)


def test_without_a_scale_factor_the_split_layout_lacks_two_corrections(tmp_path: Path) -> None:
    failed = [replace(p, value=float("nan"), status="few_events") for p in CONSTANT]
    told = write_correction_set(
        [measurement(failed)], Tags(), tmp_path / "jet_jerc.json.gz", 20.0, JsonLayout(layout="split")
    )
    assert FACTOR in told.not_written
    assert FACTOR.replace("ScaleFactor", "SFUncertainty") in told.not_written
