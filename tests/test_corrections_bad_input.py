"""Whatever is missing or broken, the measurement says so by a status, and the rest still comes out."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest
from dijet_toys import BINNING as WHOLE
from dijet_toys import Events, compared

from corrections import passes
from corrections.correction_set import Tags, write_correction_set
from corrections.measurement import measured_again
from corrections.results import Measurement
from corrections.settings import MeasurementSettings
from corrections.table import read_points, write_points
from corrections.text_files import write_text_files
from processors.dijet import DijetSettings
from processors.histograms import DatasetSums, SparseSums

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from corrections.sample import Sample
    from corrections.settings import FactorForm

BINNING = replace(WHOLE, pt_avg=(50.0, 85.0, 145.0, 250.0, 600.0))
FILLING = DijetSettings(binning=BINNING, replicas=12)
SETTINGS = MeasurementSettings()
FACTORS = np.full(4, 1.15)


@pytest.fixture(scope="module")
def simulation() -> Sample:
    return Events(has_met=True).sample("simulation", 40_000, 1, FILLING)


@pytest.fixture(scope="module")
def data() -> Sample:
    return Events(factors=FACTORS, has_met=True).sample("data", 30_000, 2, FILLING)


def run(
    simulation: Sample | None, data: Sample | None, folder: Path, settings: MeasurementSettings = SETTINGS
) -> Measurement:
    """Everything that a run does with the histograms; no exception and no warning may come."""
    each = compared(simulation, data)
    passes.lacking([each])
    measurements = passes.measure_all([each], settings, 1)
    measurements = passes.with_residuals(measurements, [each], [each], settings)
    varied = {name: [each] for name in ("jes_up", "jes_down", "dphi_up", "dphi_down")}
    measurements = passes.with_systematics(measurements, [each], varied, settings)
    measurements = passes.measured_again(measurements, [each], settings)
    written = write_correction_set(
        measurements, Tags(), folder / "j.json.gz", passes.mean_rho([each]), unmeasured=passes.unmeasured([each])
    )
    for name in ("PtResolution", "ScaleFactor", "L2L3Residual", "Total"):
        assert any(name in each for each in (*written.names, *written.not_written))
    measurement = measurements[0] if measurements else Measurement("AK4PF", (), (), (), 0)
    write_text_files(measurement, Tags(), folder)
    write_points(measurement.points, folder / "points.csv")
    assert len(read_points(folder / "points.csv")) == len(measurement.points)
    for point in measurement.points:
        assert point.status != "ok" or np.isfinite(point.value), point
        assert point.status == "ok" or not point.is_measured, point
        if point.status == "ok" and point.quantity not in ("N", "S", "C", "P"):
            assert np.isfinite(point.stat), point
    return measurement


def changed(sample: Sample, function: Callable[[SparseSums], SparseSums]) -> Sample:
    """A sample whose sparse histograms went through `function`."""
    sums = sample.sums
    return replace(
        sample,
        sums=replace(
            sums,
            asymmetry=function(sums.asymmetry),
            truth_asymmetry=function(sums.truth_asymmetry),
            response=function(sums.response),
            matrix=function(sums.matrix),
            balance=function(sums.balance),
        ),
    )


def emptied(sample: Sample) -> Sample:
    sums = sample.sums
    none = changed(sample, lambda sparse: SparseSums(sparse.bins[:0], sparse.sums[:0], sparse.replicas[:0]))
    return replace(none, sums=replace(none.sums, moments=np.zeros_like(sums.moments)))


def weighted(sample: Sample, factor: float) -> Sample:
    def scale(sparse: SparseSums) -> SparseSums:
        return SparseSums(sparse.bins, sparse.sums * factor, sparse.replicas * np.float32(factor))

    scaled = changed(sample, scale)
    return replace(scaled, sums=replace(scaled.sums, moments=sample.sums.moments * factor))


def with_negative_bins(sample: Sample) -> Sample:
    """Every third bin of A has negative content, as generators with negative weights make it."""

    def turn(sparse: SparseSums) -> SparseSums:
        sums, replicas = sparse.sums.copy(), sparse.replicas.copy()
        sums[::3, 0] *= -1
        replicas[::3] *= -1
        return SparseSums(sparse.bins, sums, replicas)

    return changed(sample, turn)


def kept_where(sample: Sample, keep: Callable[[np.ndarray], np.ndarray]) -> Sample:
    """A sample whose asymmetries keep only the flat bins for which `keep` is true."""

    def only(sparse: SparseSums) -> SparseSums:
        kept = keep(sparse.bins)
        return SparseSums(sparse.bins[kept], sparse.sums[kept], sparse.replicas[kept])

    sums = sample.sums
    return replace(
        sample, sums=replace(sums, asymmetry=only(sums.asymmetry), truth_asymmetry=only(sums.truth_asymmetry))
    )


def tails_only(sample: Sample) -> Sample:
    """One bin of |eta| and pT has its tails alone, the rest is whole."""
    shape = BINNING.shape

    def keep(bins: np.ndarray) -> np.ndarray:
        eta, region, pt, _, _, a = np.unravel_index(bins, shape)
        return np.asarray(~((eta == 2) & (region == 0) & (pt == 1)) | (np.abs(a - 99.5) > 40))

    return kept_where(sample, keep)


def without_forward(sample: Sample) -> Sample:
    return kept_where(sample, lambda bins: np.unravel_index(bins, BINNING.shape)[1] == 0)


def without_a_bin(sample: Sample) -> Sample:
    return kept_where(sample, lambda bins: np.unravel_index(bins, BINNING.shape)[0] != 2)


def without_truth(sample: Sample) -> Sample:
    sums = sample.sums
    moments = sums.moments.copy()
    moments[:, 6:8] = 0
    none = SparseSums.empty()
    kept: DatasetSums = replace(sums, truth_asymmetry=none, response=none, moments=moments)
    return replace(sample, sums=kept)


def unchanged(sample: Sample) -> Sample:
    return sample


CASES: dict[str, Callable[[Sample], Sample]] = {
    "empty": emptied,
    "all weights zero": partial(weighted, factor=0.0),
    "negative weights": partial(weighted, factor=-1.0),
    "negative bins": with_negative_bins,
    "tails only": tails_only,
    "no forward jets": without_forward,
    "an empty bin of |eta|": without_a_bin,
}


@pytest.mark.parametrize("case", CASES)
def test_nothing_raises_or_warns(case: str, simulation: Sample, data: Sample, tmp_path: Path) -> None:
    run(CASES[case](simulation), CASES[case](data), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("side", ["simulation", "data"])
def test_one_bad_side_neither_raises_nor_warns(
    case: str, side: str, simulation: Sample, data: Sample, tmp_path: Path
) -> None:
    change = CASES[case]
    run(change(simulation) if side == "simulation" else simulation, change(data) if side == "data" else data, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["k_factors", "curves"])
@pytest.mark.parametrize("case", CASES)
def test_the_flexible_forms_neither_raise_nor_warn(
    case: str, form: FactorForm, simulation: Sample, data: Sample, tmp_path: Path
) -> None:
    settings = replace(SETTINGS, scale_factor=form, curve="nspc", residual="matrix_extrapolated", method="mpfx")
    run(CASES[case](simulation), CASES[case](data), tmp_path, settings)


@pytest.mark.parametrize("n", [1, 2, 30])
def test_a_few_events_measure_nothing_and_say_so(n: int, tmp_path: Path) -> None:
    few = [Events(has_met=True).sample(name, n, 3, FILLING) for name in ("simulation", "data")]
    measurement = run(few[0], few[1], tmp_path)
    assert not any(p.is_measured for p in measurement.select("scale_factor"))
    assert {p.status for p in measurement.select("width")} <= {"empty", "few_events", "no_truth"}


def test_empty_data_leave_the_resolution_of_simulation(simulation: Sample, data: Sample, tmp_path: Path) -> None:
    measurement = run(simulation, emptied(data), tmp_path)
    assert all(curve.status == "ok" for curve in measurement.curves)
    assert {p.status for p in measurement.select("scale_factor", method="template")} == {"few_events"}
    assert {p.status for p in measurement.select("width", "data")} == {"empty"}


def test_one_broken_bin_leaves_the_others_as_they_were(simulation: Sample, data: Sample, tmp_path: Path) -> None:
    whole, broken = (
        run(s, d, tmp_path / n)
        for n, s, d in (("a", simulation, data), ("b", without_a_bin(simulation), without_a_bin(data)))
    )
    factors = [m.select("scale_factor", method="template") for m in (whole, broken)]
    assert [p.status for p in factors[1]] == ["ok", "ok", "empty", "ok"]
    for i in (0, 1, 3):
        assert factors[1][i].value == pytest.approx(factors[0][i].value, abs=1e-6)


def test_without_forward_jets_standard_pairs_still_give_scale_factors(
    simulation: Sample, data: Sample, tmp_path: Path
) -> None:
    measurement = run(without_forward(simulation), without_forward(data), tmp_path)
    for point in measurement.select("scale_factor", method="template"):
        assert point.value == pytest.approx(1.15, abs=4 * point.stat + 0.02)
    assert {p.status for p in measurement.select("width") if p.region == "forward"} == {"empty"}


def test_tails_alone_are_no_width(simulation: Sample, data: Sample, tmp_path: Path) -> None:
    measurement = run(tails_only(simulation), tails_only(data), tmp_path)
    bad = [p for p in measurement.select("width") if (p.eta.low, p.pt.low, p.region) == (0.7, 85, "standard")]
    assert bad
    assert not any(p.is_measured and p.value > 0.5 for p in bad)
    factor = measurement.select("scale_factor", method="template")[2]
    assert factor.value == pytest.approx(1.15, abs=4 * factor.stat + 0.03)


def test_without_truth_mpfx_alone_measures(simulation: Sample, data: Sample, tmp_path: Path) -> None:
    measurement = run(without_truth(simulation), data, tmp_path)
    assert {c.status for c in measurement.curves} == {"no_truth"}
    assert {p.method for p in measurement.select("scale_factor") if p.is_measured} == {"mpfx"}


def test_without_truth_the_published_method_may_be_mpfx(simulation: Sample, data: Sample, tmp_path: Path) -> None:
    measurement = run(without_truth(simulation), data, tmp_path, replace(SETTINGS, method="mpfx"))
    assert all(p.is_measured for p in measurement.published("scale_factor"))


def test_data_alone_name_every_correction_that_is_lacking(data: Sample, tmp_path: Path) -> None:
    each = compared(None, data)
    run(None, data, tmp_path)
    written = write_correction_set([], Tags(), tmp_path / "k.json.gz", 0.0, unmeasured=passes.unmeasured([each]))
    assert len(written.not_written) == 8
    assert all("no nominal simulation" in why for why in written.not_written.values())


def test_simulation_alone_gives_its_resolution(simulation: Sample, tmp_path: Path) -> None:
    measurement = run(simulation, None, tmp_path)
    assert all(curve.status == "ok" for curve in measurement.curves)
    assert measurement.select("scale_factor") == ()


def test_measuring_again_what_is_empty_gives_nan_and_no_check(simulation: Sample, data: Sample, tmp_path: Path) -> None:
    first = run(simulation, data, tmp_path)
    bare = replace(first, points=tuple(p for p in first.points if "again" not in p.quantity), checks=())
    again = measured_again(bare, emptied(data), emptied(simulation), SETTINGS)
    points = again.select("scale_factor_again")
    assert {p.status for p in points} == {"not_converged"}
    assert again.checks == ()
