"""Weights applied to simulation bring it to data: measured again, nothing is left."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tagger_histogram_toys import make_facts, make_passing, top_pairs, w_and_jets

from corrections.tagging import cross_check
from corrections.tagging.closure import measured_again, weighted
from corrections.tagging.counts import counts_of
from corrections.tagging.fit import BinFit, fit
from corrections.tagging.settings import FitSettings, TaggerMeasurementSettings, TemplateSettings
from corrections.tagging.templates import Region, all_templates
from corrections.tagging.windows import in_windows, p_value
from processors.tagger_weights import jet_weights

TOYS = {"ttbar": top_pairs(), "wjets": w_and_jets()}
SETTINGS = FitSettings()
COARSE = TemplateSettings(min_effective=400, min_expected=40, pt=(200, 300))
INJECTED = {"top": (0.8, 0.8), "w": (1.2, 1.3)}


@pytest.fixture(scope="module")
def fitted() -> BinFit:
    passing = make_passing(TOYS, np.random.default_rng(4), factors=INJECTED)
    return fit(all_templates(counts_of(passing, make_facts(TOYS)), COARSE, SETTINGS)[0], SETTINGS)


def test_measured_again_scale_factors_are_one(fitted: BinFit) -> None:
    again = measured_again(fitted, SETTINGS)

    assert {(each.group, each.working_point) for each in again} >= {
        (group, working_point) for group in INJECTED for working_point in ("loose", "tight")
    }
    # uncertainties of rates scale with them, so that the second minimum is not quite the first
    assert np.abs([each.distance for each in again]).max() < 0.2
    assert np.abs([each.value - 1 for each in again if each.group in INJECTED]).max() < 5e-3


def test_weights_bring_simulation_nearer_to_data(fitted: BinFit) -> None:
    before = fitted.templates
    after = weighted(
        before, {(each.group, each.working_point): each.value for each in fitted.points if each.status == "ok"}
    )

    def distance(region: Region) -> float:
        yields = region.yields.sum(axis=0)
        return float(np.sum((yields - region.data) ** 2 / region.data) / len(region.data))

    assert distance(before.regions[-1]) > 3
    # what is left is what the sources of uncertainty take up
    assert max(distance(region) for region in after.regions) < 2
    assert sum(map(distance, after.regions)) < 0.5 * sum(map(distance, before.regions))


def test_the_weights_are_those_of_events_and_keep_the_number_of_jets(fitted: BinFit) -> None:
    before = fitted.templates
    w = before.groups.index("w")
    efficiencies = [before.efficiency(name)[w] for name in ("loose", "tight")]

    after = weighted(before, {("w", "loose"): 0.9, ("w", "tight"): 1.1})

    expected = jet_weights(np.array([[0.9] * 3, [1.1] * 3]), np.transpose([efficiencies] * 3), np.arange(3))
    for then, now, weight in zip(before.regions, after.regions, expected, strict=True):
        assert now.yields[w] == pytest.approx(weight * then.yields[w])
    assert after.totals[:, w].sum() == pytest.approx(before.totals[:, w].sum())
    assert after.efficiency("tight")[w] == pytest.approx(1.1 * efficiencies[1])


def test_without_any_measured_group_there_is_nothing_to_apply(fitted: BinFit) -> None:
    nothing = BinFit(fitted.templates, "empty_pass", ())

    assert measured_again(nothing, SETTINGS) == []


def test_in_other_ranges_of_mass_the_scale_factor_of_such_a_toy_stays() -> None:
    passing = make_passing(TOYS, np.random.default_rng(4))
    counts = counts_of(passing, make_facts(TOYS))
    settings = TaggerMeasurementSettings(templates=COARSE, windows=((60.0, 120.0), (60.0, 250.0)))

    found = [each for each in in_windows(counts, settings, []) if each.working_point == "loose"]

    of_w = [each for each in found if each.category == "w"]
    assert [each.window for each in of_w] == [(60, 120), (60, 250)]
    assert of_w[0].value == pytest.approx(of_w[1].value, abs=2 * of_w[0].error)
    of_top = [each for each in found if each.category == "top"]
    # without its peak a top is not told from others
    assert not of_top[0].error < 4 * of_top[1].error
    assert np.isnan(of_w[0].published)


def test_a_range_of_mass_that_is_described_badly_tells_nothing_unless_asked_for() -> None:
    counts = counts_of(make_passing(TOYS, np.random.default_rng(4)), make_facts(TOYS))
    data = counts.data.copy()
    # a peak in all cells that no template has
    data[..., 12] *= 3
    strange = replace(counts, data=data, data_variance=data)
    window = ((60.0, 250.0),)
    settings = TaggerMeasurementSettings(templates=COARSE, windows=window)
    asked_for = replace(settings, fit=replace(SETTINGS, min_p_value=0))

    found, kept = in_windows(strange, settings, []), in_windows(strange, asked_for, [])

    assert np.isnan([each.value for each in found]).all()
    assert np.isfinite([each.value for each in kept]).any()


def test_a_range_of_mass_has_the_values_and_the_rules_of_a_fit_in_it() -> None:
    factors = {"top": (0.8, 0.8), "w": (0.3, 0.1)}
    counts = counts_of(make_passing(TOYS, np.random.default_rng(4), factors=factors), make_facts(TOYS))
    # uncertainties so large that not all of them are half of the value or less
    rough = replace(SETTINGS, largest_error=10.0, background=0.9)
    settings = TaggerMeasurementSettings(templates=COARSE, fit=rough, windows=((60.0, 120.0), COARSE.mass))
    found = in_windows(counts, settings, [])

    for window in settings.windows:
        (own,) = all_templates(counts, replace(COARSE, mass=window), rough)
        points = {(each.group, each.working_point): each.value for each in fit(own, rough).points}
        values = {(each.category, each.working_point): each.value for each in found if each.window == window}
        assert np.isnan(list(points.values())).any()
        assert values == pytest.approx(points, abs=1e-3, nan_ok=True)


def test_the_probability_in_a_range_of_mass_is_that_of_the_fit(fitted: BinFit) -> None:
    model = cross_check.likelihood(fitted.templates, SETTINGS)

    assert p_value(model, cross_check.minimum(model)) == pytest.approx(fitted.p_value, rel=1e-3)
