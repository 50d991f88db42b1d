"""The fit of all working points: known factors come back, and its uncertainty is the sum of its parts."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyhf
import pytest
from tagger_histogram_toys import CUTS, EFFICIENCIES, make_facts, make_passing, top_pairs, w_and_jets

from corrections.results import Interval
from corrections.tagging import cross_check
from corrections.tagging.counts import Counts, counts_of
from corrections.tagging.fit import (
    BinFit,
    fit,
    minimised,
    model_of,
    observed,
    quality,
    settled,
    statistics_names,
    uncertainty,
    widths,
)
from corrections.tagging.points import shifts_by_source
from corrections.tagging.samples import factor_limits, samples_of, states_of
from corrections.tagging.settings import FitSettings, TemplateSettings
from corrections.tagging.templates import Templates, all_templates
from corrections.tagging.workspace import workspace

if TYPE_CHECKING:
    from collections.abc import Mapping

TOYS = {"ttbar": top_pairs(), "wjets": w_and_jets()}
# The tight cut is passed more often than in simulation, the loose one less often.
INJECTED = {"top": (0.92, 0.85), "w": (0.9, 1.1)}
SETTINGS = FitSettings()
COARSE = TemplateSettings(min_effective=400, min_expected=40)


@pytest.fixture(scope="module")
def counts() -> Counts:
    return counts_of(make_passing(TOYS, np.random.default_rng(7), factors=INJECTED), make_facts(TOYS))


@pytest.fixture(scope="module")
def templates(counts: Counts) -> list[Templates]:
    return all_templates(counts, COARSE, SETTINGS)


@pytest.fixture(scope="module")
def unchanged() -> Templates:
    """Data that have what is simulated."""
    passing = make_passing(TOYS, np.random.default_rng(8))
    return all_templates(counts_of(passing, make_facts(TOYS)), COARSE, SETTINGS)[0]


@pytest.fixture(scope="module")
def one_point() -> Templates:
    passing = make_passing(TOYS, np.random.default_rng(7), factors=INJECTED)
    facts = {**make_facts(TOYS), "taggers": {"toy": {"loose": CUTS["loose"]}}}
    return all_templates(counts_of(passing, facts), COARSE, SETTINGS)[0]


@pytest.fixture(scope="module")
def fitted(templates: list[Templates]) -> BinFit:
    return fit(templates[0], SETTINGS)


def test_known_scale_factors_come_back(templates: list[Templates]) -> None:
    pulls = []
    for each in templates:
        minimum = cross_check.minimum(cross_check.likelihood(each, SETTINGS))
        for name, factors in INJECTED.items():
            for working_point, known in zip(("loose", "tight"), factors, strict=True):
                value, error = minimum.value(f"sf_{name}_{working_point}")
                pulls.append((value - known) / error)
    # twelve pulls, with the data of both working points shared: chance exceeds 30 once in 300
    assert np.sum(np.square(pulls)) < 30
    assert np.abs(pulls).max() < 3.5


@pytest.mark.slow
def test_nested_working_points_with_different_scale_factors_are_not_biased() -> None:
    pulls = []
    for seed in range(60):
        passing = make_passing(TOYS, np.random.default_rng(seed), factors=INJECTED)
        for each in all_templates(counts_of(passing, make_facts(TOYS)), TemplateSettings(), SETTINGS)[:2]:
            minimum = cross_check.minimum(cross_check.likelihood(each, SETTINGS))
            value, error = minimum.value("sf_w_tight")
            pulls.append((value - 1.1) / error)
    # 120 toys know a mean to 0.09; each cut alone is 0.7 off
    assert abs(np.mean(pulls)) < 0.3
    assert np.std(pulls) == pytest.approx(1, abs=0.25)


def test_published_scale_factors_of_a_rare_group_are_not_biased() -> None:
    passing = make_passing(TOYS, np.random.default_rng(3))
    each = all_templates(counts_of(passing, make_facts(TOYS)), COARSE, SETTINGS)[1]
    model = cross_check.likelihood(each, SETTINGS)
    rng = np.random.default_rng(4)
    pulls = []

    for _ in range(100):
        data, centres, known = cross_check.drawn(model, model.start, rng)
        toy = replace(model, data=data)
        minimum = cross_check.minimum(toy, data, centres, known)
        if quality("other", "sf_other_tight", each, SETTINGS, toy, minimum) == "ok":
            value, error = minimum.value("sf_other_tight")[0], uncertainty("sf_other_tight", toy, minimum)
            pulls.append((value - 1) / error)

    # known to 0.49 each; those alone that are two of their uncertainties from 0, half of them, have a mean pull of +0.7
    # 100 toys know it to 0.1
    assert abs(np.mean(pulls)) < 0.3
    assert len(pulls) >= 90


def test_the_expected_uncertainty_is_that_of_data_that_are_as_expected(templates: list[Templates]) -> None:
    model = cross_check.likelihood(templates[1], SETTINGS)
    expected = model.expected(model.start)

    of_expected = model.covariance(model.start, expected, np.ones(len(expected)))

    n = len(model.names)
    assert model.expected_errors() == pytest.approx(np.sqrt(np.diagonal(of_expected))[:n], rel=1e-4)
    # and not of what was found
    assert np.array_equal(replace(model, data=0.5 * model.data).expected_errors(), model.expected_errors())


def test_pyhf_and_plain_numpy_agree(templates: list[Templates]) -> None:
    each = templates[0]
    found = fit(each, SETTINGS)
    minimum = cross_check.minimum(cross_check.likelihood(each, SETTINGS))
    model = model_of(workspace(each, SETTINGS))

    # from the start that pyhf suggests, which knows nothing of the other minimum
    alone = minimised(model, observed(model, each))

    assert sum(point.status == "ok" for point in found.points) >= 4
    for point in (each for each in found.points if each.status == "ok"):
        name = f"sf_{point.group}_{point.working_point}"
        assert alone.values[name] == pytest.approx(minimum.value(name)[0], abs=1e-3)
        assert point.value == pytest.approx(minimum.value(name)[0], abs=1e-3)
        assert point.error == pytest.approx(alone.errors[name], rel=0.02)


def test_both_have_the_same_likelihood_at_any_point(templates: list[Templates]) -> None:
    each = templates[1]
    model = model_of(workspace(each, SETTINGS))
    own = cross_check.likelihood(each, SETTINGS)
    data = observed(model, each)
    rng = np.random.default_rng(3)
    differences = []

    for _ in range(5):
        point = np.concatenate([rng.uniform(0.8, 1.1, len(own.factors)), rng.uniform(-2, 2, len(own.sources))])
        statistical = own.statistical_factors(own.expected(point), own.data, np.ones(len(own.data)))
        names = (*own.names, *statistics_names(each))
        chosen = dict(zip(names, (*point, *statistical), strict=True))
        theirs = -2 * model.logpdf([chosen[name] for name in model.config.par_names], data)[0]
        differences.append(theirs - own.statistic(point, own.data, np.ones(len(own.data)), np.zeros(len(own.sources))))

    assert differences == pytest.approx([differences[0]] * 5, abs=1e-6)


def test_derivatives_are_those_of_small_steps(templates: list[Templates]) -> None:
    own = cross_check.likelihood(templates[1], SETTINGS)
    rng = np.random.default_rng(5)
    point = np.concatenate([rng.uniform(0.8, 1.1, len(own.factors)), rng.uniform(-2, 2, len(own.sources))])
    known = np.zeros(len(own.sources))
    steps = 1e-5 * np.eye(len(point))

    by_steps = [(own.expected(point + step) - own.expected(point - step)) / 2e-5 for step in steps]
    assert own.derivatives(point) == pytest.approx(np.array(by_steps), abs=1e-6)
    centres = rng.normal(1, 0.01, len(own.data))
    of_all = [
        (own.statistic(point + step, own.data, centres, known) - own.statistic(point - step, own.data, centres, known))
        / 2e-5
        for step in steps
    ]
    assert own.gradient(point, own.data, centres, known) == pytest.approx(np.array(of_all), rel=1e-4, abs=1e-3)


def test_a_start_beside_the_minimum_is_moved_to_it(fitted: BinFit) -> None:
    each = fitted.templates
    model = model_of(workspace(each, SETTINGS))
    minimum = cross_check.minimum(cross_check.likelihood(each, SETTINGS))
    beside = minimum.values.copy()
    beside[0] += 0.5 * np.sqrt(minimum.covariance[0, 0])

    found = settled(model, observed(model, each), fitted.names, replace(minimum, values=beside))

    assert found is not None
    assert fitted.values is not None
    sizes = np.sqrt(np.diagonal(minimum.covariance))
    assert np.abs((found - fitted.values) / sizes).max() < 5e-3


def test_with_one_working_point_what_passes_more_fails_less(one_point: Templates) -> None:
    model = model_of(workspace(one_point, SETTINGS))
    parameters = np.array(model.config.suggested_init())
    place, w = model.config.par_names.index("sf_w"), one_point.groups.index("w")
    before = model.expected_actualdata(parameters)
    fail, passing = one_point.regions

    parameters[place] = 0.8
    moved = model.expected_actualdata(parameters) - before

    assert model.config.channels == ["fail", "pass"]
    assert moved[len(fail.data) :] == pytest.approx(-0.2 * passing.yields[w])
    assert moved[: len(fail.data)] == pytest.approx(0.2 * passing.totals[w] / fail.totals[w] * fail.yields[w])


def test_jets_between_two_working_points_follow_both_scale_factors(templates: list[Templates]) -> None:
    each = templates[0]
    model = model_of(workspace(each, SETTINGS))
    chosen = dict(zip(model.config.par_names, model.config.suggested_init(), strict=True))
    chosen |= {"sf_w_loose": 0.9, "sf_w_tight": 1.1}
    w = each.groups.index("w")

    expected = model.expected_actualdata(list(chosen.values()))

    assert model.config.channels == ["fail", "pass_loose", "pass_tight"]
    ends = np.cumsum([len(region.data) for region in each.regions])
    loose, tight = each.efficiency("loose")[w], each.efficiency("tight")[w]
    weights = ((1 - 0.9 * loose) / (1 - loose), (0.9 * loose - 1.1 * tight) / (loose - tight), 1.1)
    for region, got, weight in zip(each.regions, np.split(expected, ends[:-1]), weights, strict=True):
        assert got == pytest.approx(region.yields.sum(axis=0) + (weight - 1) * region.yields[w])


def test_at_a_varied_source_the_rates_follow_too(templates: list[Templates]) -> None:
    each = templates[0]
    model = model_of(workspace(each, SETTINGS))
    chosen = dict(zip(model.config.par_names, model.config.suggested_init(), strict=True))
    chosen |= {"jes": 1.0, "sf_top_loose": 0.9, "sf_top_tight": 0.8}
    top = each.groups.index("top")

    got = model.expected_actualdata(list(chosen.values()))

    fail, between, tight = (region.totals_varied["jes"][0, top] for region in each.regions)
    weights = ((fail + 0.1 * (between + tight)) / fail, (0.9 * (between + tight) - 0.8 * tight) / between, 0.8)
    expected = [
        region.varied["jes"][0].sum(axis=0) + (weight - 1) * region.varied["jes"][0, top]
        for region, weight in zip(each.regions, weights, strict=True)
    ]
    assert got == pytest.approx(np.concatenate(expected))


def test_the_uncertainty_is_the_sum_of_data_and_sources(fitted: BinFit) -> None:
    data = np.concatenate([region.data for region in fitted.templates.regions])
    model = model_of(workspace(fitted.templates, SETTINGS))
    minimum = cross_check.minimum(cross_check.likelihood(fitted.templates, SETTINGS))
    for point in fitted.points[:4]:
        assert point.status == "ok"
        assert set(point.shifts) <= set(widths(model))
        of_sources = sum(shift**2 for shift in point.shifts.values())
        assert np.sqrt(data @ point.slopes**2 + of_sources) == pytest.approx(point.error)
        # which is that of the likelihood for many jets that are described well
        assert point.error == pytest.approx(minimum.value(f"sf_{point.group}_{point.working_point}")[1], rel=0.02)


@pytest.mark.parametrize("source", ["jms_top", "fraction_w", "staterror_pass_tight[3]"])
def test_a_shift_is_what_a_fit_with_that_auxiliary_measurement_moved_finds(fitted: BinFit, source: str) -> None:
    model = model_of(workspace(fitted.templates, SETTINGS))
    data = observed(model, fitted.templates)
    place = model.config.nmaindata + auxiliary_place(model, source)
    likelihood = cross_check.likelihood(fitted.templates, SETTINGS)
    n_factors, n = len(likelihood.factors), len(likelihood.names)
    found = []

    for sign in (1, -1):
        moved, auxiliary = data.copy(), np.zeros(len(fitted.names))
        moved[place] += sign * widths(model)[source]
        auxiliary[fitted.names.index(source)] = sign * widths(model)[source]
        start = cross_check.minimum(likelihood, centres=1 + auxiliary[n:], known=auxiliary[n_factors:n])
        values = settled(model, moved, fitted.names, start)
        assert values is not None
        found.append(values[fitted.names.index("sf_top_tight")])

    shift = next(each for each in fitted.points if (each.group, each.working_point) == ("top", "tight")).shifts[source]
    # the response is linear to a few per cent, and a minimum is known to some 1e-5
    assert (found[0] - found[1]) / 2 == pytest.approx(shift, rel=0.1, abs=1e-4)


def test_a_source_of_several_parameters_has_the_sign_of_the_largest_at_its_upper_side() -> None:
    jms, jes = shifts_by_source({"jms_top": 0.03, "jms_w": -0.04, "jes": -0.1})

    assert (jms.source, jes.source) == ("jms", "jes")
    assert (jms.up, jms.down) == pytest.approx((-0.05, 0.05))
    assert (jes.up, jes.down) == pytest.approx((-0.1, 0.1))


def auxiliary_place(model: Any, source: str) -> int:
    names = [
        name for group in model.config.auxdata_order for name in model.config.par_names[model.config.par_slice(group)]
    ]
    return names.index(source)


def changed_counts(counts: Counts, factors: Mapping[tuple[int, int], float], *, data_only: bool = True) -> Counts:
    """Counts with what passes or fails a working point multiplied: {(working point, result): factor}."""
    data, variance, nominal = counts.data.copy(), counts.data_variance.copy(), counts.nominal.copy()
    for (point, result), factor in factors.items():
        data[0, point, result] *= factor
        variance[0, point, result] *= factor
        if not data_only:
            nominal[:, 0, point, result] *= factor
    return replace(counts, data=data, data_variance=variance, nominal=nominal)


def status_of(found: BinFit) -> dict[str, set[str]]:
    names = dict.fromkeys(point.working_point for point in found.points)
    return {name: {point.status for point in found.points if point.working_point == name} for name in names}


def test_nothing_that_passes_the_tight_cut_leaves_the_loose_one_measured(counts: Counts) -> None:
    data = counts.data.copy()
    data[0, 1, 0] = data[0, 1].sum(axis=0)
    data[0, 1, 1] = 0

    found = fit(all_templates(replace(counts, data=data), COARSE, SETTINGS)[0], SETTINGS)

    assert status_of(found) == {"loose": {"ok"}, "tight": {"empty_pass"}}
    assert all(np.isnan(point.value) for point in found.points if point.working_point == "tight")
    assert [region.name for region in found.templates.regions] == ["fail", "pass"]


def test_nothing_that_fails_the_loose_cut_leaves_the_tight_one_measured(counts: Counts) -> None:
    data = counts.data.copy()
    data[0, 0, 1] = data[0, 0].sum(axis=0)
    data[0, 0, 0] = 0

    found = fit(all_templates(replace(counts, data=data), COARSE, SETTINGS)[0], SETTINGS)

    # what is counted as failing the tight cut then lies between the cuts
    assert status_of(found)["loose"] == {"empty_fail"}
    assert found.templates.working_points == ("tight",)


def test_nothing_that_passes_at_all_is_no_fit(counts: Counts) -> None:
    found = fit(all_templates(changed_counts(counts, {(0, 1): 0, (1, 1): 0}), COARSE, SETTINGS)[0], SETTINGS)

    assert found.status == "empty_pass"
    assert status_of(found) == {"loose": {"empty_pass"}, "tight": {"empty_pass"}}


def test_working_points_between_which_no_simulated_jet_lies_are_not_told_apart(counts: Counts) -> None:
    nominal, variance = counts.nominal.copy(), counts.variance.copy()
    varied = {source: each.copy() for source, each in counts.varied.items()}
    nominal[:, :, 0], variance[:, :, 0] = nominal[:, :, 1], variance[:, :, 1]
    for each in varied.values():
        each[:, :, :, 0] = each[:, :, :, 1]
    simulation = replace(counts, nominal=nominal, variance=variance, varied=varied)

    found = fit(all_templates(simulation, COARSE, SETTINGS)[0], SETTINGS)

    assert status_of(found)["loose"] == {"no_simulation"}
    assert found.templates.working_points == ("tight",)


def test_fewer_bins_than_scale_factors_are_not_fitted(counts: Counts) -> None:
    hopeless = TemplateSettings(min_effective=1e5)

    found = fit(all_templates(counts, hopeless, SETTINGS)[0], SETTINGS)

    assert found.status == "too_few_bins"
    assert {point.status for point in found.points} == {"too_few_bins"}


def test_a_fit_that_describes_its_data_badly_measures_nothing_unless_asked_for(counts: Counts) -> None:
    data = counts.data.copy()
    # a peak in all cells that no template has
    data[..., 12] *= 3
    each = all_templates(replace(counts, data=data, data_variance=data), COARSE, SETTINGS)[0]

    found, asked_for = fit(each, SETTINGS), fit(each, replace(SETTINGS, min_p_value=0))

    assert found.p_value < 1e-6
    assert found.status == "bad_fit"
    assert {point.status for point in found.points} <= {"bad_fit", "imprecise"}
    assert found.points[0].status == "bad_fit"
    assert np.isnan([point.value for point in found.points]).all()
    assert found.is_drawable
    assert asked_for.status == "ok"
    assert asked_for.p_value == found.p_value


def test_good_fits_have_a_p_value(templates: list[Templates]) -> None:
    for each in templates:
        assert fit(each, SETTINGS).p_value > 1e-3


def test_a_category_without_simulation_is_absent_and_the_others_are_measured() -> None:
    toys = {"ttbar": replace(top_pairs(), expected=no_top()), "wjets": w_and_jets()}
    passing = make_passing(toys, np.random.default_rng(5))

    found = fit(all_templates(counts_of(passing, make_facts(toys)), COARSE, SETTINGS)[0], SETTINGS)

    by_name = {(point.group, point.working_point): point for point in found.points}
    assert by_name["top", "loose"].status == by_name["top", "tight"].status == "absent"
    assert np.isnan(by_name["top", "tight"].value)
    assert by_name["w", "loose"].status == by_name["w", "tight"].status == "ok"


def test_a_category_without_simulation_between_the_cuts_has_one_scale_factor(unchanged: Templates) -> None:
    each = without_group(unchanged, "w", regions=(1,))

    found = fit(each, SETTINGS)

    by_name = {(point.group, point.working_point): point for point in found.points}
    assert by_name["w", "loose"].value == by_name["w", "tight"].value
    assert by_name["top", "loose"].value != by_name["top", "tight"].value
    assert "sf_w_tight" in found.names
    assert "sf_w_loose" not in found.names


def without_group(templates: Templates, name: str, regions: tuple[int, ...] = (0, 1, 2)) -> Templates:
    """The same without the simulation of a group in some regions, and without its share of data."""
    place = templates.groups.index(name)
    changed, all_totals = [], templates.totals.copy()
    for number, region in enumerate(templates.regions):
        if number not in regions:
            changed.append(region)
            continue
        yields, varied = region.yields.copy(), {source: each.copy() for source, each in region.varied.items()}
        totals = region.totals.copy()
        data = np.maximum(region.data - yields[place], 0).round()
        yields[place] = totals[place] = all_totals[number, place] = 0
        for each in varied.values():
            each[:, place] = 0
        changed.append(replace(region, yields=yields, varied=varied, data=data, totals=totals))
    return replace(templates, regions=tuple(changed), totals=all_totals)


def test_a_category_absent_in_data_is_not_measured_but_the_others_are() -> None:
    rng = np.random.default_rng(5)
    passing = make_passing(TOYS, rng)
    lacking = make_passing({"ttbar": replace(top_pairs(), expected=no_top()), "wjets": w_and_jets()}, rng)
    passing.view(flow=True)[-1] = lacking.view(flow=True)[-1]
    each = all_templates(counts_of(passing, make_facts(TOYS)), COARSE, SETTINGS)[0]

    found = {(point.group, point.working_point): point for point in fit(each, SETTINGS).points}

    assert found["top", "loose"].status == found["top", "tight"].status == "absent"
    assert np.isnan(found["top", "tight"].value)
    assert found["w", "tight"].value == pytest.approx(1, abs=4 * found["w", "tight"].error)


def no_top() -> dict[str, list[float]]:
    return {name: list(jets) for name, jets in top_pairs().expected.items() if name != "top"}


def test_a_group_that_always_passes_the_loose_cut_has_a_scale_factor_at_the_tight_one(
    unchanged: Templates,
) -> None:
    each = without_group(unchanged, "w", regions=(0,))

    found = {(point.group, point.working_point): point for point in fit(each, SETTINGS).points}

    assert found["w", "loose"].status == "always_passes"
    assert found["w", "tight"].status == "ok"


def test_a_scale_factor_cannot_make_more_jets_pass_than_there_are(templates: list[Templates]) -> None:
    limits = factor_limits(templates[0], SETTINGS)

    for place, name in enumerate(("loose", "tight")):
        assert limits[f"sf_top_{name}"] == pytest.approx(1 / EFFICIENCIES["top"][place], rel=0.05)


def test_groups_that_are_not_measured_have_uncertain_rates_of_passing(templates: list[Templates]) -> None:
    each = templates[0]
    of_unmatched = [sample for sample in samples_of(each, SETTINGS) if sample.name == "unmatched"]

    rates = {
        (sample.channel, name): source.rate[0]
        for sample in of_unmatched
        for name, source in sample.sources.items()
        if name.startswith("background_")
    }

    fail, between, tight = (region.totals[each.groups.index("unmatched")] for region in each.regions)
    assert rates == {
        ("fail", "background_unmatched_loose"): pytest.approx(1 - 0.3 * (between + tight) / fail),
        ("pass_loose", "background_unmatched_loose"): pytest.approx(1.3),
        ("pass_loose", "background_unmatched_tight"): pytest.approx(1 - 0.3 * tight / between),
        ("pass_tight", "background_unmatched_loose"): pytest.approx(1.3),
        ("pass_tight", "background_unmatched_tight"): pytest.approx(1.3),
    }


def test_templates_are_named_by_tagger_and_pt(templates: list[Templates]) -> None:
    assert templates[0].name == "toy_pt200to300"
    assert templates[0].pt == Interval(200, 300)
    assert set(states_of(templates[0], SETTINGS).values()) == {"ok"}


def test_a_workspace_has_the_form_that_others_read(templates: list[Templates]) -> None:
    content = workspace(templates[0], SETTINGS)

    model = pyhf.Workspace(json.loads(json.dumps(content))).model()

    assert model.config.channels == ["fail", "pass_loose", "pass_tight"]
    assert {"sf_top_loose", "sf_w_tight", "sf_other_loose"} <= set(model.config.par_names)
