"""Resolutions, scale factors and residuals by the other methods, on jets through a detector that is known."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from dijet_toys import BINNING, Events
from scipy.stats import chi2

from corrections.measurement import measure
from corrections.methods import methods_of, with_methods
from corrections.pair_points import with_matrix
from corrections.resolution import replica_spread
from corrections.sample import Sample
from corrections.settings import MeasurementSettings
from processors.dijet import DijetSettings

if TYPE_CHECKING:
    from corrections.results import Measurement

SETTINGS = MeasurementSettings()
FILLING = DijetSettings(binning=BINNING, replicas=0)
FACTORS = np.array([1.1, 1.1, 1.15, 1.2])
RESPONSES = np.array([1.0, 1.0, 0.98, 1.03])
ETA = {0.0: 0, 0.2: 1, 0.7: 2, 1.3: 3}
METHODS = ("extrapolation", "bisector", "mpfx")
Samples = tuple[Sample, Sample, Sample]


@pytest.fixture(scope="module")
def samples() -> Samples:
    """Simulation, data, and simulation smeared like data."""
    return (
        Events(has_met=True).sample("simulation", 300_000, 1, FILLING),
        Events(factors=FACTORS, responses=RESPONSES, has_met=True).sample("data", 200_000, 2, FILLING),
        Events(factors=FACTORS).sample("simulation", 300_000, 3, FILLING),
    )


@pytest.fixture(scope="module")
def measured(samples: Samples) -> Measurement:
    simulation, data, smeared = samples
    whole = with_methods(measure(simulation, data, "AK4PF", SETTINGS), simulation, data, SETTINGS)
    return with_matrix(whole, data, smeared, SETTINGS)


@pytest.mark.parametrize("method", METHODS)
def test_the_resolution_of_simulation_put_in_comes_back(measured: Measurement, method: str) -> None:
    detector = Events()
    points = [p for p in measured.select("jer", "simulation", method) if p.is_measured and p.eta.low >= 0.2]
    assert len(points) > 35
    truth = np.array([float(detector.resolution(ETA[p.eta.low], np.array(p.pt_mean))) for p in points])
    value, stat = np.array([(p.value, p.stat) for p in points]).T
    # 1.5 % for what is of second order in the widths
    pulls = (value - truth) / np.hypot(stat, 0.015 * truth)
    assert chi2.sf(np.sum(pulls**2), len(pulls)) > 1e-3
    assert np.average(value / truth, weights=(truth / stat) ** 2) == pytest.approx(1, abs=0.015)


@pytest.mark.parametrize("method", METHODS)
def test_scale_factors_put_in_come_back(measured: Measurement, method: str) -> None:
    points = measured.select("scale_factor", method=method)
    assert len(points) == 4
    for point, truth in zip(points, FACTORS, strict=True):
        assert point.stat < 0.04
        assert point.value == pytest.approx(truth, abs=3.5 * point.stat + 0.005)


@pytest.mark.parametrize("method", METHODS)
def test_the_method_asked_for_is_published(samples: Samples, measured: Measurement, method: str) -> None:
    simulation, data, _ = samples
    template = replace(measured, points=tuple(p for p in measured.points if p.method not in METHODS))
    found = with_methods(template, simulation, data, replace(SETTINGS, method=method))  # type: ignore[arg-type]
    assert found.method == method
    assert {p.method for p in found.published("scale_factor")} == {method}
    pt = np.array([100.0, 200.0, 400.0])
    for eta, curve in enumerate(found.curves):
        np.testing.assert_allclose(curve(pt), Events().resolution(eta, pt), rtol=0.08)


def test_without_missing_momentum_a_method_that_needs_it_leaves_the_template_and_a_note() -> None:
    simulation = Events().sample("simulation", 20_000, 5, FILLING)
    assert methods_of(simulation, None) == ("extrapolation", "bisector")
    own = measure(simulation, None, "AK4PF", SETTINGS)
    found = with_methods(own, simulation, None, replace(SETTINGS, method="mpfx"))
    assert found.method == "template"
    assert any("mpfx cannot be had" in note for note in found.notes)


@pytest.mark.parametrize("method", ["matrix", "matrix_extrapolated"])
def test_residuals_of_all_pairs_put_in_come_back(measured: Measurement, method: str) -> None:
    for point in measured.select("residual", method=method):
        truth = 1 / RESPONSES[ETA[point.eta.low]]
        assert point.status == "ok"
        assert point.value == pytest.approx(truth, abs=4 * point.stat + 0.001)
        # bins of alpha below the jet threshold take no part in the extrapolation
        assert point.stat < (0.004 if method == "matrix" else 0.01)


def test_the_reference_region_of_the_matrix_is_one_by_definition(measured: Measurement) -> None:
    reference = [p for p in measured.select("residual", method="matrix") if p.eta.low == 0.2]
    assert [(p.value, p.stat) for p in reference] == [(1.0, 0.0)]


def test_the_residual_asked_for_is_published(samples: Samples, measured: Measurement) -> None:
    bare = replace(measured, points=tuple(p for p in measured.points if p.quantity != "residual"))
    found = with_matrix(bare, samples[1], samples[2], replace(SETTINGS, residual="matrix_extrapolated"))
    assert found.residual_method == "matrix_extrapolated"
    assert {p.method for p in found.published("residual")} == {"matrix_extrapolated"}


def test_points_without_filled_copies_get_some_that_spread_by_the_uncertainty() -> None:
    settings = DijetSettings(binning=BINNING, replicas=100)
    simulation = Events(has_met=True).sample("simulation", 40_000, 1, settings)
    data = Events(factors=FACTORS, has_met=True).sample("data", 40_000, 2, settings)
    found = with_methods(measure(simulation, data, "AK4PF", SETTINGS), simulation, data, SETTINGS)
    found = with_matrix(found, data, simulation, SETTINGS)
    drawn = (("jer", "bisector"), ("jer", "mpfx"), ("scale_factor", "bisector"), ("residual", "matrix"))
    for quantity, method in drawn:
        points = [p for p in found.select(quantity, method=method) if p.is_measured and p.stat > 0]  # type: ignore[arg-type]
        ratios = [replica_spread(p.copies) / p.stat for p in points]
        assert len(ratios) >= 3
        # of 100 copies a spread is known to some 8 %; smearing adds to the residual's uncertainty
        assert np.median(ratios) == pytest.approx(1, abs=0.2)


def test_a_straight_line_in_alpha_ends_below_a_sum_in_quadrature(samples: Samples) -> None:
    simulation = samples[0]
    own = measure(simulation, None, "AK4PF", SETTINGS)
    lines, quadratures = (
        [
            p.value
            for p in with_methods(own, simulation, None, replace(SETTINGS, alpha_shape=shape)).select(
                "jer", "simulation", "extrapolation"
            )
            if p.is_measured
        ]
        for shape in ("linear", "quadrature")
    )
    assert np.mean(lines) < 0.99 * np.mean(quadratures)


@pytest.mark.parametrize("width", ["gaussian_core", "interval_68"])
def test_other_widths_extrapolate_to_the_same_scale_factor(samples: Samples, width: str) -> None:
    simulation, data, _ = samples
    settings = replace(SETTINGS, width=width)  # type: ignore[arg-type]
    found = with_methods(measure(simulation, data, "AK4PF", SETTINGS), simulation, data, settings)
    for point, truth in zip(found.select("scale_factor", method="extrapolation"), FACTORS, strict=True):
        assert point.value == pytest.approx(truth, abs=3.5 * point.stat + 0.01)
