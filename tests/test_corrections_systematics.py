"""Every source of uncertainty on toys where its effect is known."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from dijet_toys import BINNING, SQUARES, Events, Toy, compared

from corrections.comparison import comparisons
from corrections.measurement import measure, with_residual
from corrections.methods import with_methods
from corrections.results import SOURCES, Interval, Point, Shift
from corrections.settings import MeasurementSettings
from corrections.systematics import Variations, factor_shifts, non_closure, residual_shifts, with_systematics
from processors.dijet import DijetSettings
from processors.fileset import Dataset

if TYPE_CHECKING:
    from corrections.comparison import Comparison
    from corrections.results import Measurement
    from corrections.sample import Sample
    from processors.histograms import Filled

SETTINGS = MeasurementSettings()
FACTORS = np.full(4, 1.15)


@pytest.fixture(scope="module")
def simulation() -> Sample:
    return Toy().sample("simulation", 20_000, 1)


@pytest.fixture(scope="module")
def data() -> Sample:
    return Toy(factors=FACTORS).sample("data", 20_000, 2)


@pytest.fixture(scope="module")
def measurement(simulation: Sample, data: Sample) -> Measurement:
    return measure(simulation, data, "AK4PF", SETTINGS)


def shifts(measurement: Measurement, nominal: Comparison, **varied: Comparison) -> dict[str, list[Shift]]:
    """Relative shifts by source, in the order of |eta|."""
    found = factor_shifts(measurement, Variations(nominal, varied, SETTINGS))
    by_eta = [found[eta] for eta in sorted(found, key=lambda eta: eta.low)]
    assert len(by_eta) == 4
    return {source: [s for own in by_eta for s in own if s.source == source] for source in SOURCES}


def test_a_wider_simulation_of_a_variation_shifts_the_factor_by_what_it_widens(
    measurement: Measurement, simulation: Sample, data: Sample
) -> None:
    """The varied simulation is 5 % wider or narrower: the factor falls or rises by 5 %."""
    up, down = (compared(Toy(factors=np.full(4, f)).sample("simulation", 20_000, 1), data) for f in (1.05, 0.95))
    nominal = compared(simulation, data)
    found = shifts(measurement, nominal, pu_up=up, pu_down=down)["pu"]
    for shift in found:
        assert shift.up == pytest.approx(1 / 1.05 - 1, abs=0.006)
        assert shift.down == pytest.approx(1 / 0.95 - 1, abs=0.006)


def test_a_variation_with_one_side_only_is_not_evaluated(
    measurement: Measurement, simulation: Sample, data: Sample
) -> None:
    nominal = compared(simulation, data)
    found = shifts(measurement, nominal, jes_up=nominal)
    assert found["jes"] == []


def test_a_variation_that_changes_nothing_shifts_nothing(
    measurement: Measurement, simulation: Sample, data: Sample
) -> None:
    nominal = compared(simulation, data)
    for source in ("jes", "dphi", "pt3"):
        found = shifts(measurement, nominal, **{f"{source}_up": nominal, f"{source}_down": nominal})[source]
        assert [(s.up, s.down) for s in found] == [(0.0, 0.0)] * 4


def test_the_imbalance_moves_the_factor_as_an_imbalance_that_is_wrong_would(
    measurement: Measurement, simulation: Sample, data: Sample
) -> None:
    """Data and simulation share the template, so a wider one makes both narrower, the narrower one more: up."""
    found = shifts(measurement, compared(simulation, data))["imbalance"]
    for shift in found:
        assert 0.002 < shift.up < 0.1
        assert -0.1 < shift.down < -0.002


def test_the_imbalance_of_equal_samples_cancels(simulation: Sample) -> None:
    same = replace(simulation, name="data")
    own = measure(simulation, same, "AK4PF", SETTINGS)
    found = shifts(own, compared(simulation, same))["imbalance"]
    for shift in found:
        assert (shift.up, shift.down) == pytest.approx((0.0, 0.0), abs=2e-3)


def test_an_alternative_simulation_alike_shifts_little_and_a_stretched_one_much(
    measurement: Measurement, simulation: Sample, data: Sample
) -> None:
    alike = Toy().sample("alike", 20_000, 5)
    # the truth asymmetry of data is as wide as that of simulation; the alternative one is wider by 20 %
    stretched = Toy(imbalance=1.2).sample("stretched", 20_000, 6)
    small = shifts(measurement, compared(simulation, data, alike))["template"]
    large = shifts(measurement, compared(simulation, data, alike, stretched))["template"]
    for little, much in zip(small, large, strict=True):
        assert abs(little.up) < 0.006
        assert much.down == -much.up
        # data are narrower by the difference of the truth variances, simulation is fitted with its own template
        assert -0.3 < much.up < -0.01


def test_the_template_shift_is_the_error_that_the_wrong_template_makes(simulation: Sample) -> None:
    """Data made with a truth asymmetry wider by 10 %: the shift of the alternative that is right mends the factor."""
    data = Toy(factors=FACTORS, imbalance=1.1).sample("data", 20_000, 7)
    right = Toy(imbalance=1.1).sample("right", 20_000, 8)
    own = measure(simulation, data, "AK4PF", SETTINGS)
    found = shifts(own, compared(simulation, data, right))["template"]
    for point, shift in zip(own.select("scale_factor"), found, strict=True):
        assert point.value > 1.16
        assert point.value * (1 + shift.up) == pytest.approx(1.15, abs=4 * point.stat + 0.006)


def test_a_constant_factor_has_a_small_shift_for_its_dependence_on_pt(
    measurement: Measurement, simulation: Sample, data: Sample
) -> None:
    found = shifts(measurement, compared(simulation, data))["ptdep"]
    assert all(0 <= shift.up < 0.012 and shift.down == -shift.up for shift in found)


def test_a_factor_that_falls_with_pt_has_a_shift_of_its_mean_distance(simulation: Sample) -> None:
    wide = Toy(SQUARES * np.array([1.3, 1.3, 1.0]) ** 2)
    data = wide.sample("data", 20_000, 9)
    own = measure(simulation, data, "AK4PF", SETTINGS)
    found = shifts(own, compared(simulation, data))["ptdep"]
    edges = BINNING.pt_avg_edges
    centres = np.sqrt(edges[1:] * edges[:-1])
    for eta, (point, shift) in enumerate(zip(own.select("scale_factor"), found, strict=True)):
        ratio = wide.resolution(eta, centres) / Toy().resolution(eta, centres)
        # every bin has the same number of events
        assert shift.up == pytest.approx(np.mean(np.abs(ratio / point.value - 1)), abs=0.012)


def test_another_window_moves_a_gaussian_core_by_less_than_its_uncertainty(
    measurement: Measurement, simulation: Sample, data: Sample
) -> None:
    found = shifts(measurement, compared(simulation, data))["width"]
    for point, shift in zip(measurement.select("scale_factor"), found, strict=True):
        assert shift.size * point.value < 2.5 * point.stat


def truth(eta: Interval, curve_ratio: float, measurement: Measurement) -> list[Point]:
    """Truth-response widths that are the dijet resolution divided by `curve_ratio`."""
    curve = next(c for c in measurement.curves if c.eta == eta)
    points = []
    for pt in (80.0, 150.0, 300.0):
        value = float(curve(np.array(pt))) / curve_ratio
        pt_bin = Interval(0.9 * pt, 1.1 * pt)
        points.append(
            Point("jer_truth", "simulation", "AK4PF", "truth_response", "", eta, pt_bin, pt, value, 0.001, "ok")
        )
    return points


def test_the_non_closure_is_the_known_bias(measurement: Measurement) -> None:
    biases = (1.0, 1.03, 0.96, 1.1)
    points = [p for c, b in zip(measurement.curves, biases, strict=True) for p in truth(c.eta, b, measurement)]
    found = non_closure(replace(measurement, points=(*measurement.points, *points)))
    got = [found[c.eta] for c in measurement.curves]
    # less the error of the curve, some per mille, in quadrature
    assert got == pytest.approx([abs(1 - b) for b in biases], abs=2e-3)
    assert all(size <= abs(1 - b) for size, b in zip(got, biases, strict=True))


def test_truth_points_outside_of_the_range_of_the_curve_do_not_count(measurement: Measurement) -> None:
    curve = measurement.curves[0]
    far = Point(
        "jer_truth", "simulation", "AK4PF", "truth_response", "", curve.eta, Interval(9, 11), 10, 9.0, 0.1, "ok"
    )
    assert non_closure(replace(measurement, points=(far,))) == {}


def test_all_shifts_reach_the_points_and_their_total_is_the_quadrature(
    measurement: Measurement, simulation: Sample, data: Sample
) -> None:
    points = [p for c in measurement.curves for p in truth(c.eta, 1.02, measurement)]
    whole = with_residual(measurement, data, simulation, simulation, SETTINGS)
    whole = replace(whole, points=(*whole.points, *points))
    nominal = compared(simulation, data, Toy(imbalance=1.05).sample("other", 10_000, 10))
    wider = compared(Toy(factors=np.full(4, 1.02)).sample("simulation", 20_000, 1), data)
    varied = {f"{s}_{side}": wider for s in ("jes", "pu", "dphi", "pt3") for side in ("up", "down")}
    found = with_systematics(whole, Variations(nominal, varied, SETTINGS))
    for point in found.select("scale_factor"):
        assert tuple(s.source for s in point.shifts) == SOURCES
        sizes = [max(abs(s.up), abs(s.down)) for s in point.shifts]
        assert point.total == pytest.approx(np.sqrt(point.stat**2 + np.sum(np.square(sizes))))
        assert point.total > point.stat
        nonclosure = point.shift("nonclosure")
        assert nonclosure is not None
        # less what chance makes of it, in quadrature
        assert 0.8 * 0.02 * point.value < nonclosure.up < 0.02 * point.value
    assert not any("was not evaluated" in note for note in found.notes)
    assert all(p.shifts == () for p in found.select("residual") if p.region == "reference")


def test_sources_without_what_they_need_are_named(measurement: Measurement, simulation: Sample, data: Sample) -> None:
    found = with_systematics(measurement, Variations(compared(simulation, data), {}, SETTINGS))
    told = " ".join(found.notes)
    for source in ("jes", "pu", "dphi", "pt3", "template", "nonclosure"):
        assert f"systematic {source} was not evaluated" in told
    for source in ("imbalance", "width", "ptdep"):
        assert f"systematic {source} " not in told


def test_the_residual_shifts_by_what_a_variation_does_to_the_balance() -> None:
    simulation = Toy().sample("simulation", 10_000, 1)
    data = Toy(responses=np.array([1, 1, 0.98, 1.03])).sample("data", 10_000, 2)
    up = Toy(responses=np.array([1, 1, 1.01, 0.99])).sample("simulation", 10_000, 1)
    variations = Variations(
        compared(simulation, data),
        {"jes_up": compared(up, data), "jes_down": compared(simulation, data)},
        SETTINGS,
    )
    found = residual_shifts(variations)
    by_eta = {eta.low: shift for eta, own in found.items() for shift in own if shift.source == "jes"}
    assert by_eta[0.7].up == pytest.approx(0.01, abs=0.001)
    assert by_eta[1.3].up == pytest.approx(-0.01, abs=0.001)
    assert by_eta[1.3].down == 0


def test_the_variations_that_a_run_fills_reach_the_scale_factors() -> None:
    """Real variations of real jets: all small, none nothing."""
    settings = DijetSettings(binning=BINNING, replicas=0)
    datasets = (Dataset("simulation", (), is_mc=True), Dataset("data", (), is_mc=False))
    toys = (Events(), Events(factors=FACTORS))
    parts = [toy.filled(d, 60_000, i, settings) for i, (toy, d) in enumerate(zip(toys, datasets, strict=True))]
    filled = parts[0] + parts[1]

    def compare(each: Filled) -> Comparison:
        return comparisons(each, datasets, lambda _: "AK4PF", BINNING, {})[0]

    varied = {name: compare(filled.variation(name)) for name in filled.varied}
    nominal = compare(filled)
    assert nominal.simulation is not None
    own = measure(nominal.simulation, nominal.data, "AK4PF", SETTINGS)
    found = shifts(own, nominal, **varied)
    for source in ("jes", "dphi", "pt3"):
        assert all(s.size < 0.1 for s in found[source])
        assert any(s.size > 0 for s in found[source])


def test_other_widths_are_a_source_of_the_extrapolation() -> None:
    settings = DijetSettings(binning=BINNING, replicas=0)
    simulation = Events().sample("simulation", 60_000, 1, settings)
    data = Events(factors=FACTORS).sample("data", 60_000, 2, settings)
    how = replace(SETTINGS, method="extrapolation")
    own = with_methods(measure(simulation, data, "AK4PF", how), simulation, data, how)
    found = with_systematics(own, Variations(compared(simulation, data), {}, how))
    points = [p for p in found.published("scale_factor") if p.is_measured]
    shifts = [(s.size, p.stat) for p in points if (s := p.shift("width")) is not None]
    assert len(shifts) == 4
    # estimators of the same events differ by no more than the events allow
    assert all(0 < size < 2 * stat for size, stat in shifts)


def test_a_source_that_some_bins_lack_is_named_with_these_bins(
    measurement: Measurement, simulation: Sample, data: Sample
) -> None:
    first = measurement.curves[0].eta
    points = truth(first, 1.02, measurement)
    found = with_systematics(
        replace(measurement, points=(*measurement.points, *points)),
        Variations(compared(simulation, data), {}, SETTINGS),
    )
    assert "systematic nonclosure was not evaluated in |eta| 0.2-0.7, 0.7-1.3, 1.3-2.5" in found.notes
