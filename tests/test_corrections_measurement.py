"""Known resolutions, scale factors and responses must come back from asymmetry distributions made with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from dijet_toys import BINNING, ONES, SQUARES, Toy

from corrections.measurement import measure, with_residual
from corrections.sample import Sample, normalisation
from corrections.settings import MeasurementSettings
from processors.histograms import DatasetSums, SparseSums

if TYPE_CHECKING:
    from corrections.results import Measurement

SCALE_FACTORS = np.array([1.08, 1.12, 1.16, 1.22])
RESPONSES = np.array([1.0, 1.0, 0.985, 1.02])


SIMULATION = Toy(SQUARES, ONES, ONES)
DATA = Toy(SQUARES, SCALE_FACTORS, RESPONSES)
SETTINGS = MeasurementSettings()


@pytest.fixture(scope="module")
def measured() -> Measurement:
    simulation = SIMULATION.sample("simulation", 20_000, 1)
    smeared = Toy(SQUARES, SCALE_FACTORS, ONES).sample("simulation", 20_000, 3)
    data = DATA.sample("data", 8_000, 2)
    measurement = measure(simulation, data, "AK4PF", SETTINGS)
    return with_residual(measurement, data, simulation, smeared, SETTINGS)


def test_scale_factors_put_in_come_back(measured: Measurement) -> None:
    points = measured.select("scale_factor")
    assert [p.status for p in points] == ["ok"] * 4
    for point, truth in zip(points, SCALE_FACTORS, strict=True):
        # 140000 events: errors of a few per mille; 0.4 % allows for what the linear error propagation leaves out
        assert point.stat < 0.01
        assert point.value == pytest.approx(truth, abs=3 * point.stat + 0.004)


def test_resolution_curves_come_back(measured: Measurement) -> None:
    pt = np.array([60.0, 100.0, 200.0, 400.0])
    for eta, curve in enumerate(measured.curves):
        # at 60 GeV the curve is quoted at the mean of a bin over which it is convex: 1 to 2 %
        np.testing.assert_allclose(curve(pt), SIMULATION.resolution(eta, pt), rtol=0.025)
        assert curve.chi2 < curve.ndf + 5 * np.sqrt(2 * curve.ndf)


def test_single_widths_agree_between_template_and_truncated_rms(measured: Measurement) -> None:
    """Everything is Gaussian or Laplacian here; the truncated RMS is a cross-check, good to 10 %."""
    template = measured.select("width", "simulation", "template")
    rms = measured.select("width", "simulation", "truncated_rms")
    ratios = [b.value / a.value for a, b in zip(template, rms, strict=True) if a.is_measured]
    assert len(ratios) == 63
    assert np.abs(np.array(ratios) - 1).max() < 0.12


def test_residual_response_put_in_comes_back(measured: Measurement) -> None:
    points = measured.select("residual")
    assert points[1].value == 1.0
    for point, response in zip(points, RESPONSES, strict=True):
        assert point.value == pytest.approx(1 / response, abs=4 * point.stat + 5e-4)


def test_the_scale_factor_is_not_clipped_at_one() -> None:
    better = Toy(SQUARES, np.full(4, 0.85), ONES)
    points = measure(
        SIMULATION.sample("simulation", 8_000, 4), better.sample("data", 4_000, 5), "AK4PF", SETTINGS
    ).select("scale_factor")
    for point in points:
        assert point.value == pytest.approx(0.85, abs=4 * point.stat)


def test_a_smooth_curve_serves_as_template_where_the_simulation_is_small() -> None:
    smooth = MeasurementSettings(template="exponential")
    samples = SIMULATION.sample("simulation", 500, 14), DATA.sample("data", 4_000, 15)
    points = measure(*samples, "AK4PF", smooth).select("scale_factor")
    for point, truth in zip(points, SCALE_FACTORS, strict=True):
        assert point.status == "ok"
        assert point.value == pytest.approx(truth, abs=4 * point.stat)


def test_errors_from_replicas_agree_with_analytic_ones() -> None:
    arguments = [("simulation", 3_000, 6), ("data", 1_500, 7)]
    toys = (SIMULATION, DATA)
    errors = []
    for replicas in (0, 100):
        samples = [toy.sample(*a, replicas) for toy, a in zip(toys, arguments, strict=True)]
        points = measure(samples[0], samples[1], "AK4PF", SETTINGS).select("scale_factor")
        errors.append([p.stat for p in points])
    # a spread from 100 copies is known to 7 %
    np.testing.assert_allclose(errors[1], errors[0], rtol=0.3)


@pytest.mark.slow
def test_pulls_of_the_scale_factor_have_mean_zero_and_width_one() -> None:
    """24 pseudo-experiments of few events per bin, where averages of ratios are biased by several per cent."""
    pulls, ratios = [], []
    for i in range(24):
        samples = (SIMULATION.sample("simulation", 600, 100 + i), DATA.sample("data", 80, 500 + i))
        for point, truth in zip(
            measure(*samples, "AK4PF", SETTINGS).select("scale_factor"), SCALE_FACTORS, strict=True
        ):
            pulls.append((point.value - truth) / point.stat)
            ratios.append(point.value / truth)
    # 96 pulls: the mean is known to 0.1, the width to 0.07; the mean ratio to 0.5 %
    assert abs(np.mean(pulls)) < 0.35
    assert 0.78 < np.std(pulls) < 1.22
    assert abs(np.mean(ratios) - 1) < 0.017


def test_without_data_only_the_simulation_is_measured() -> None:
    measurement = measure(SIMULATION.sample("simulation", 1_000, 8), None, "AK4PF", SETTINGS)
    assert measurement.select("scale_factor") == ()
    assert {p.dataset for p in measurement.points} == {"simulation"}


def test_without_truth_every_width_says_so() -> None:
    sample = SIMULATION.sample("simulation", 1_000, 9)
    blind = Sample(
        "simulation",
        DatasetSums(
            sample.sums.asymmetry,
            SparseSums.empty(),
            SparseSums.empty(),
            sample.sums.moments,
            sample.sums.spectrum,
            sample.sums.cutflow,
        ),
        BINNING,
    )
    measurement = measure(blind, None, "AK4PF", SETTINGS)
    filled = [p for p in measurement.select("width") if p.region == "standard"]
    assert {p.status for p in filled} == {"no_truth"}
    assert {c.status for c in measurement.curves} == {"no_truth"}


def test_slices_are_added_in_proportion_to_cross_section_over_weights() -> None:
    factors = normalisation({"low": 100.0, "high": 1.0}, {"low": 50.0, "high": 10.0})
    # 2 per unit weight against 0.1 per unit weight
    assert factors == {"low": 1.0, "high": pytest.approx(0.05)}
