"""The fit of pass and fail: known factors come back, and its uncertainty is the sum of its parts."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pyhf
import pytest
from tagger_histogram_toys import EFFICIENCIES, make_facts, make_passing, top_pairs, w_and_jets

from corrections.results import Interval
from corrections.tagging import cross_check
from corrections.tagging.counts import counts_of
from corrections.tagging.fit import BinFit, fit, minimised, model_of, widths
from corrections.tagging.samples import parameter_limit, samples_of
from corrections.tagging.settings import FitSettings, TemplateSettings
from corrections.tagging.templates import Templates, all_templates
from corrections.tagging.workspace import workspace

TOYS = {"ttbar": top_pairs(), "wjets": w_and_jets()}
INJECTED = {"top": (0.92, 0.85), "w": (0.9, 1.1)}
SETTINGS = FitSettings()
COARSE = TemplateSettings(min_effective=400, min_expected=40)


@pytest.fixture(scope="module")
def templates() -> list[Templates]:
    passing = make_passing(TOYS, np.random.default_rng(7), factors=INJECTED)
    return all_templates(counts_of(passing, make_facts(TOYS)), COARSE, SETTINGS)


@pytest.fixture(scope="module")
def fitted(templates: list[Templates]) -> BinFit:
    return fit(templates[0], SETTINGS)


def test_known_scale_factors_come_back(templates: list[Templates]) -> None:
    pulls = []
    for each in templates:
        model = cross_check.likelihood(each, SETTINGS)
        found = cross_check.factors_of(cross_check.minimise(model), each.groups)
        place = 0 if each.working_point == "loose" else 1
        pulls += [(found[name][0] - INJECTED[name][place]) / found[name][1] for name in INJECTED]
    # twelve pulls, with the data of both working points shared: chance exceeds 30 once in 300
    assert np.sum(np.square(pulls)) < 30
    assert np.abs(pulls).max() < 3.5


def test_pyhf_and_plain_numpy_agree(templates: list[Templates], fitted: BinFit) -> None:
    found = cross_check.minimise(cross_check.likelihood(templates[0], SETTINGS))
    model = model_of(workspace(templates[0], SETTINGS))
    data = np.concatenate([templates[0].failing.data, templates[0].passing.data, model.config.auxdata])

    # from the start that pyhf suggests, which knows nothing of the other minimum
    alone = minimised(model, data)

    for group in fitted.groups:
        name = f"sf_{group.group}"
        assert alone.values[name] == pytest.approx(found.values[name], abs=1e-3)
        assert group.value == pytest.approx(found.values[name], abs=1e-3)
        assert group.error == pytest.approx(found.errors[name], rel=0.02)


def test_both_have_the_same_likelihood_at_any_point(templates: list[Templates]) -> None:
    model = model_of(workspace(templates[1], SETTINGS))
    own = cross_check.likelihood(templates[1], SETTINGS)
    data = np.concatenate([templates[1].failing.data, templates[1].passing.data, model.config.auxdata])
    rng = np.random.default_rng(3)
    differences = []

    for _ in range(5):
        chosen = dict(zip(own.factors, rng.uniform(0.7, 1.2, len(own.factors)), strict=True))
        chosen |= dict(zip(own.sources, rng.uniform(-2, 2, len(own.sources)), strict=True))
        point = np.array([chosen[name] for name in own.names])
        n = len(own.data)
        statistical = own.statistical_factors(own.expected(point), own.data, np.ones(n))
        n_pass = len(templates[1].passing.data)
        chosen |= {f"staterror_pass[{i}]": value for i, value in enumerate(statistical[:n_pass])}
        chosen |= {f"staterror_fail[{i}]": value for i, value in enumerate(statistical[n_pass:])}
        theirs = -2 * model.logpdf([chosen[name] for name in model.config.par_names], data)[0]
        differences.append(theirs - own.statistic(point, own.data, np.ones(n), np.zeros(len(own.sources))))

    assert differences == pytest.approx([differences[0]] * 5, abs=1e-6)


def test_what_passes_more_fails_less(templates: list[Templates]) -> None:
    each = templates[0]
    model = model_of(workspace(each, SETTINGS))
    parameters = np.array(model.config.suggested_init())
    place, w = model.config.par_names.index("sf_w"), each.groups.index("w")
    before = model.expected_actualdata(parameters)

    parameters[place] = 0.8
    moved = model.expected_actualdata(parameters) - before

    n_fail = len(each.failing.data)
    assert moved[n_fail:] == pytest.approx(-0.2 * each.passing.yields[w])
    ratio = each.passed[w] / each.failed[w]
    assert moved[:n_fail] == pytest.approx(0.2 * ratio * each.failing.yields[w])


def test_at_a_varied_source_the_rate_of_failing_follows_too(templates: list[Templates]) -> None:
    each = templates[0]
    model = model_of(workspace(each, SETTINGS))
    parameters = np.array(model.config.suggested_init())
    names = model.config.par_names
    parameters[names.index("jes")], parameters[names.index("sf_top")] = 1.0, 0.9

    got = model.expected_actualdata(parameters)[: len(each.failing.data)]

    up = each.failing.varied["jes"][0]
    top = each.groups.index("top")
    ratio = each.passed_varied["jes"][0, top] / each.failed_varied["jes"][0, top]
    assert got == pytest.approx(up.sum(axis=0) + 0.1 * ratio * up[top])


def test_the_uncertainty_is_the_sum_of_data_and_sources(fitted: BinFit) -> None:
    each = fitted.templates
    for group in fitted.groups[:2]:
        assert group.status == "ok"
        of_data = np.sum(each.passing.data * group.of_pass**2) + np.sum(each.failing.data * group.of_fail**2)
        model = model_of(workspace(each, SETTINGS))
        assert set(group.shifts) <= set(widths(model))
        of_sources = sum(shift**2 for shift in group.shifts.values())
        assert np.sqrt(of_data + of_sources) == pytest.approx(group.error, rel=0.02)


@pytest.mark.parametrize("source", ["jms_top", "fraction_w", "staterror_pass[3]"])
def test_a_shift_is_what_a_fit_with_that_auxiliary_measurement_moved_finds(fitted: BinFit, source: str) -> None:
    model = model_of(workspace(fitted.templates, SETTINGS))
    data = np.concatenate([fitted.templates.failing.data, fitted.templates.passing.data, model.config.auxdata])
    place = model.config.nmaindata + auxiliary_place(model, source)
    found = []

    for sign in (1, -1):
        moved = data.copy()
        moved[place] += sign * widths(model)[source]
        found.append(minimised(model, moved, fitted.values).values["sf_top"])

    shift = fitted.groups[0].shifts[source]
    # the response is linear to a few per cent, and a minimum is known to some 1e-5
    assert (found[0] - found[1]) / 2 == pytest.approx(shift, rel=0.1, abs=1e-4)


def auxiliary_place(model: Any, source: str) -> int:
    names = [
        name for group in model.config.auxdata_order for name in model.config.par_names[model.config.par_slice(group)]
    ]
    return names.index(source)


def test_empty_pass_and_empty_fail_have_a_status(templates: list[Templates]) -> None:
    each = templates[0]
    nothing = replace(each.passing, data=0 * each.passing.data, fine_data=0 * each.passing.fine_data)
    no_fail = replace(each.failing, data=0 * each.failing.data, fine_data=0 * each.failing.fine_data)

    assert fit(replace(each, passing=nothing), SETTINGS).status == "empty_pass"
    found = fit(replace(each, failing=no_fail), SETTINGS)
    assert found.status == "empty_fail"
    assert [group.status for group in found.groups] == ["empty_fail"] * 3
    assert all(np.isnan(group.value) for group in found.groups)


def test_fewer_bins_than_scale_factors_are_not_fitted() -> None:
    passing = make_passing(TOYS, np.random.default_rng(7))
    hopeless = TemplateSettings(min_effective=1e5)

    found = fit(all_templates(counts_of(passing, make_facts(TOYS)), hopeless, SETTINGS)[0], SETTINGS)

    assert len(found.templates.passing.data) < 3
    assert found.status == "too_few_bins"


def test_a_category_without_simulation_is_absent_and_the_others_are_measured(templates: list[Templates]) -> None:
    each = without_group(templates[0], "top")

    found = fit(each, SETTINGS)

    by_name = {group.group: group for group in found.groups}
    assert by_name["top"].status == "absent"
    assert np.isnan(by_name["top"].value)
    assert by_name["w"].status == "ok"


def without_group(templates: Templates, name: str) -> Templates:
    """The same without the simulation of a group, and without its share of data."""
    place = templates.groups.index(name)
    regions = []
    for region in (templates.passing, templates.failing):
        yields, varied = region.yields.copy(), {source: each.copy() for source, each in region.varied.items()}
        data = np.maximum(region.data - yields[place], 0).round()
        yields[place] = 0
        for each in varied.values():
            each[:, place] = 0
        regions.append(replace(region, yields=yields, varied=varied, data=data))
    passed, failed = templates.passed.copy(), templates.failed.copy()
    passed[place] = failed[place] = 0
    return replace(templates, passing=regions[0], failing=regions[1], passed=passed, failed=failed)


def test_a_category_absent_in_data_is_not_measured_but_the_others_are() -> None:
    rng = np.random.default_rng(5)
    passing = make_passing(TOYS, rng)
    lacking = make_passing({"ttbar": replace(top_pairs(), expected=no_top()), "wjets": w_and_jets()}, rng)
    passing.view(flow=True)[-1] = lacking.view(flow=True)[-1]
    each = all_templates(counts_of(passing, make_facts(TOYS)), COARSE, SETTINGS)[0]

    found = {group.group: group for group in fit(each, SETTINGS).groups}

    assert found["top"].status == "absent"
    assert np.isnan(found["top"].value)
    assert found["w"].value == pytest.approx(1, abs=4 * found["w"].error)


def no_top() -> dict[str, list[float]]:
    return {name: list(jets) for name, jets in top_pairs().expected.items() if name != "top"}


def test_a_group_that_always_passes_has_no_scale_factor(templates: list[Templates]) -> None:
    failed = templates[0].failed.copy()
    failed[templates[0].groups.index("w")] = 0

    found = fit(replace(templates[0], failed=failed), SETTINGS)

    assert {group.group: group.status for group in found.groups}["w"] == "always_passes"


def test_a_scale_factor_cannot_make_more_jets_pass_than_there_are(templates: list[Templates]) -> None:
    assert parameter_limit(templates[0], "top") == pytest.approx(1 / EFFICIENCIES["top"][0], rel=0.05)


def test_groups_that_are_not_measured_have_an_uncertain_rate_of_passing(templates: list[Templates]) -> None:
    of_unmatched = [each for each in samples_of(templates[0], SETTINGS) if each.name == "unmatched"]

    rates = {each.channel: each.sources["background_unmatched"].rate for each in of_unmatched}

    place = templates[0].groups.index("unmatched")
    ratio = templates[0].passed[place] / templates[0].failed[place]
    assert rates["pass"] == pytest.approx([1.3, 0.7])
    assert rates["fail"] == pytest.approx([1 - 0.3 * ratio, 1 + 0.3 * ratio])


def test_templates_are_named_by_tagger_working_point_and_pt(templates: list[Templates]) -> None:
    assert templates[0].name == "toy_loose_pt200to300"
    assert templates[0].pt == Interval(200, 300)


def test_a_workspace_has_the_form_that_others_read(templates: list[Templates]) -> None:
    content = workspace(templates[0], SETTINGS)

    model = pyhf.Workspace(json.loads(json.dumps(content))).model()

    assert model.config.channels == ["fail", "pass"]
    assert {"sf_top", "sf_w", "sf_other"} <= set(model.config.par_names)
