"""Histograms of pass and fail to templates of a fit."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tagger_histogram_toys import EFFICIENCIES, make_facts, make_passing, top_pairs, w_and_jets, write_run

from corrections.results import Interval
from corrections.tagging import cross_check
from corrections.tagging.counts import FAIL, PASS, PB_PER_FB, counts_of, merged_edges, read_counts
from corrections.tagging.fit import fit
from corrections.tagging.points import estimates_of
from corrections.tagging.settings import FitSettings, TemplateSettings
from corrections.tagging.templates import Templates, all_templates, joined, without_negative
from processors.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

TOYS = {"ttbar": top_pairs(), "wjets": w_and_jets()}


@pytest.fixture(scope="module")
def templates() -> list[Templates]:
    passing = make_passing(TOYS, np.random.default_rng(1))
    return all_templates(counts_of(passing, make_facts(TOYS)), TemplateSettings(), FitSettings())


def test_simulation_is_what_is_expected_at_the_luminosity_of_data() -> None:
    passing = make_passing(TOYS, np.random.default_rng(1))

    counts = counts_of(passing, {**make_facts(TOYS)}, lumi=2.0)

    ttbar, top = counts.processes.index("ttbar"), counts.categories.index("top")
    got = counts.nominal[ttbar, 0, 0, :, top].sum(axis=(0, 2, 3))
    expected = 2 * np.array([0.25 * 8000, 0.25 * 4000, 0.25 * 2000])
    assert got == pytest.approx(expected, rel=5 / np.sqrt(10 * 500))
    assert counts.is_absolute
    # weights of 1e-3 pb in 1/fb
    assert PB_PER_FB * 1e-3 == 1


def test_without_luminosity_all_simulation_is_scaled_to_data() -> None:
    counts = counts_of(make_passing(TOYS, np.random.default_rng(1)), make_facts(TOYS, lumi=None))

    assert not counts.is_absolute
    assert counts.nominal.sum() == pytest.approx(counts.data.sum())


def test_a_cross_section_over_as_many_weights_still_is_one() -> None:
    facts = make_facts(TOYS)
    for each in facts["datasets"]:
        each["normalisation"] = 1.0

    counts = counts_of(make_passing(TOYS, np.random.default_rng(1)), facts, lumi=1e-3)

    assert counts.is_absolute


def test_simulation_of_which_some_has_a_cross_section_is_refused() -> None:
    facts = make_facts(TOYS)
    facts["datasets"][1]["xsec"] = None

    with pytest.raises(InputError, match=r"no cross section .* for wjets, which other simulation has"):
        counts_of(make_passing(TOYS, np.random.default_rng(1)), facts)


def test_data_of_one_process_add_up_and_those_of_several_are_of_one_luminosity() -> None:
    passing = make_passing({**TOYS, "more": w_and_jets()}, np.random.default_rng(1))
    facts = make_facts({**TOYS, "more": w_and_jets()})
    facts["datasets"][2] |= {"is_mc": False, "xsec": None, "lumi": 2.0, "process": None}
    simulated = counts_of(passing, facts).nominal.sum()

    facts["datasets"][2]["lumi"] = 5.0
    assert counts_of(passing, facts).nominal.sum() == pytest.approx(2 * simulated)
    facts["datasets"][2]["process"] = "wjets"
    with pytest.raises(InputError, match="of one luminosity, got 5/fb of wjets, 1/fb of None"):
        counts_of(passing, facts)


def test_weights_of_radiation_are_a_source_as_any_other_variation() -> None:
    shifts = ("isr_up", "isr_down", "fsr_up", "fsr_down")
    passing = make_passing(TOYS, np.random.default_rng(1), shifts=shifts)
    view: Any = passing.view(flow=True)
    pass_up = (slice(None), list(passing.axes["variation"]).index("isr_up"), 0, slice(None), 1)
    view.value[pass_up] *= 1.1

    counts = counts_of(passing, make_facts(TOYS))
    each = all_templates(counts, TemplateSettings(), FitSettings())[0]
    model = cross_check.likelihood(each, FitSettings())

    assert counts.sources == ("isr", "fsr")
    # what changes nothing needs no parameter
    assert "isr" in model.sources
    assert "fsr" not in model.sources
    points = [estimate.point for estimate in estimates_of(fit(each, FitSettings()), Interval(0, 2))]
    shift = points[0].shift("isr")
    assert shift is not None
    # 10 % more that pass on one side only; data constrain it
    assert 0.01 < shift.size / points[0].value < 0.1
    assert points[0].shift("fsr") is None


def test_alternative_simulation_is_a_variation_and_adds_nothing() -> None:
    toys = {**TOYS, "other": top_pairs()}
    passing = make_passing(toys, np.random.default_rng(1))
    facts = make_facts(toys)
    facts["datasets"][2] |= {"role": "alternative", "process": "ttbar", "normalisation": 1.1e-3}

    counts = counts_of(passing, facts)

    assert counts.processes == ("ttbar", "wjets")
    assert counts.sources[-1] == "generator"
    up, down = counts.varied["generator"]
    assert up.sum(axis=tuple(range(1, 8))) / counts.nominal.sum(axis=tuple(range(1, 8))) == pytest.approx(
        [1.1, 1], rel=0.01
    )
    assert up + down == pytest.approx(2 * counts.nominal)
    facts["datasets"][2]["xsec"] = None
    with pytest.raises(InputError, match=r"no cross section .* for other"):
        counts_of(passing, facts)


@pytest.mark.parametrize("process", [None, "ttbar_mu"])
def test_alternative_simulation_of_no_nominal_process_is_refused_by_name(process: str | None) -> None:
    toys = {**TOYS, "herwig": top_pairs()}
    facts = make_facts(toys)
    facts["datasets"][2] |= {"role": "alternative", "process": process}

    told = f"simulation herwig is of the process {process or 'herwig'}, nominal simulation is of ttbar, wjets; give"
    with pytest.raises(InputError, match=told):
        counts_of(make_passing(toys, np.random.default_rng(1)), facts)


def test_without_cross_sections_alternative_simulation_keeps_the_yield_of_its_process() -> None:
    toys = {**TOYS, "other": top_pairs((16_000, 4000, 1000))}
    facts = make_facts(toys, lumi=None)
    facts["datasets"][2] |= {"role": "alternative", "process": "ttbar"}

    counts = counts_of(make_passing(toys, np.random.default_rng(1)), facts)

    up, down = counts.varied["generator"]
    assert up.sum() == pytest.approx(counts.nominal.sum())
    assert down.sum() == pytest.approx(counts.nominal.sum())
    # but not in each bin
    assert up[0, ..., 0, :, :].sum() > 1.2 * counts.nominal[0, ..., 0, :, :].sum()


def test_a_tagger_without_working_points_is_left_out_and_told() -> None:
    passing = make_passing(TOYS, np.random.default_rng(1), taggers=("bare", "toy"))
    view: Any = passing.view(flow=True)
    facts = make_facts(TOYS, taggers=("bare", "toy"))
    facts["taggers"]["bare"] = {}
    for kind in ("value", "variance"):
        view[kind][:, :, 0] = 0

    counts = counts_of(passing, facts)

    assert list(counts.working_points) == ["toy"]
    assert counts.notes == ("no working points of bare, which is left out",)
    assert counts.data == pytest.approx(view["value"][-1, 0, 1:].sum(axis=3))
    facts["taggers"]["toy"] = {}
    with pytest.raises(InputError, match="expected working points, but bare, toy has none"):
        counts_of(passing, facts)


def test_simulated_jets_without_truth_are_told_and_nothing_but_these_is_refused() -> None:
    passing = make_passing(TOYS, np.random.default_rng(1))
    view: Any = passing.view(flow=True)
    categories = list(passing.axes["category"])
    unlabelled, unmatched = categories.index("unlabelled"), categories.index("unmatched")
    for kind in ("value", "variance"):
        # of jets beside W bosons, which all are unmatched
        view[kind][1, :, :, :, :, unlabelled] = 0.25 * view[kind][1, :, :, :, :, unmatched]
        view[kind][1, :, :, :, :, unmatched] *= 0.75

    assert counts_of(passing, make_facts(TOYS)).notes == (
        "0.25 of the simulated jets of wjets have no truth and are left out",
    )
    for kind in ("value", "variance"):
        view[kind][1, :, :, :, :, unmatched] = 0
    with pytest.raises(InputError, match="no jet of the simulation wjets has a truth"):
        counts_of(passing, make_facts(TOYS))


def test_efficiencies_are_those_of_all_masses(templates: list[Templates]) -> None:
    for each, (place, working_point) in product(templates, enumerate(("loose", "tight"))):
        for group, efficiency in zip(each.groups, each.efficiency(working_point), strict=True):
            n = each.totals[:, each.groups.index(group)].sum()
            expected = EFFICIENCIES[group][place]
            assert efficiency == pytest.approx(expected, abs=5 * np.sqrt(expected * (1 - expected) / (10 * n)))


def test_cells_hold_each_jet_once(templates: list[Templates]) -> None:
    counts = counts_of(make_passing(TOYS, np.random.default_rng(1)), make_facts(TOYS))

    cells = counts.cells("toy", counts.data, simulated=False)

    assert cells.sum(axis=0) == pytest.approx(counts.data[0, 0].sum(axis=0))
    assert cells[2] == pytest.approx(counts.data[0, 1, PASS])
    assert cells[1:].sum(axis=0) == pytest.approx(counts.data[0, 0, PASS])
    of_tops = counts.cells("toy", counts.varied["jes"], simulated=True)[1, 0, :, counts.categories.index("top")]
    assert of_tops[0] == pytest.approx(counts.varied["jes"][1, 0, 0, 0, FAIL, counts.categories.index("top")])
    assert [region.name for region in templates[0].regions] == ["fail", "pass_loose", "pass_tight"]


def test_every_bin_of_a_template_has_enough_simulation(templates: list[Templates]) -> None:
    for each in templates:
        for region in each.regions:
            effective = region.yields.sum(axis=0) ** 2 / (region.errors**2).sum(axis=0)
            assert effective.min() >= 30
            assert region.yields.sum(axis=0).min() >= 5
            assert (region.edges[0], region.edges[-1]) == (50, 250)
        assert sum(region.data.sum() for region in each.regions) == each.jets.sum()


def test_the_cross_section_of_a_process_moves_its_part_alone(templates: list[Templates]) -> None:
    region = templates[0].regions[0]
    moved = region.varied["xsec_ttbar"][0] - region.yields
    assert moved[templates[0].groups.index("top")] == pytest.approx(
        0.05 * region.yields[templates[0].groups.index("top")]
    )
    # jets beside W bosons come from both processes
    unmatched = moved[templates[0].groups.index("unmatched")].sum()
    assert 0 < unmatched < 0.03 * region.yields[templates[0].groups.index("unmatched")].sum()


def test_bins_join_until_they_have_enough() -> None:
    values = np.array([1.0, 1, 8, 20, 2, 1])

    starts = joined(values, values, min_effective=10, min_expected=0)

    # 1 + 1 + 8, 20, and the rest is too little for itself
    assert list(starts) == [0, 3]


def test_negative_bins_count_as_zero_and_the_sum_stays() -> None:
    factors = without_negative(np.array([[4.0, -1.0, 3.0], [-1.0, -1.0, 1.0]]))

    assert factors[0] == pytest.approx([6 / 7, 0, 6 / 7])
    assert factors[1] == pytest.approx([0, 0, 0])


def test_a_variation_that_changes_nothing_stays_the_nominal_template_where_bins_are_negative() -> None:
    passing = make_passing(TOYS, np.random.default_rng(1), shifts=("pu_up", "pu_down"))
    view: Any = passing.view(flow=True)
    other = list(passing.axes["category"]).index("other")
    # as events with large weights of both signs leave them
    view.value[0, :, 0, :, 1, other, 0, :, 7:19:4] -= 150.0
    counts = counts_of(passing, make_facts(TOYS))

    each = all_templates(counts, TemplateSettings(min_effective=1, min_expected=1), FitSettings())[0]

    assert each.negative_bins >= 2
    for region in each.regions:
        assert region.yields.min() >= 0
        assert region.varied["pu"] == pytest.approx(np.stack([region.yields] * 2), abs=1e-9)


def test_negative_bins_of_weighted_data_count_as_zero() -> None:
    passing = make_passing(TOYS, np.random.default_rng(1))
    view: Any = passing.view(flow=True)
    # fewer than none fail the loose cut at one mass, at any pT and |eta|
    view.value[-1, 0, 0, 0, FAIL, :, :, :, 10] = -20.0

    fine = TemplateSettings(min_effective=1, min_expected=0)
    each = all_templates(counts_of(passing, make_facts(TOYS)), fine, FitSettings())[0]

    assert each.jets.min() == 0
    assert all(region.data.min() >= 0 for region in each.regions)


def test_weighted_data_are_counted_as_effective_ones() -> None:
    passing = make_passing(TOYS, np.random.default_rng(1))
    plain = all_templates(counts_of(passing, make_facts(TOYS)), TemplateSettings(), FitSettings())[0]
    view: Any = passing.view(flow=True)
    view.value[-1] *= 4
    view.variance[-1] *= 16

    weighted = all_templates(counts_of(passing, make_facts(TOYS), lumi=4.0), TemplateSettings(), FitSettings())[0]

    assert weighted.weight == pytest.approx(4)
    for got, expected in zip(weighted.regions, plain.regions, strict=True):
        assert got.data == pytest.approx(expected.data)
        assert got.yields == pytest.approx(expected.yields)
        assert got.totals == pytest.approx(expected.totals)


def test_edges_that_the_histogram_lacks_are_refused() -> None:
    with pytest.raises(InputError, match=r"use edges of the histogram \(200, 300, 400\), got \[200.0, 350.0\]"):
        merged_edges(np.array([200.0, 300, 400]), (200, 350), "templates.pt")


def test_a_folder_without_data_is_refused(tmp_path: Path) -> None:
    facts = make_facts(TOYS)
    facts["datasets"] = facts["datasets"][:-1]
    folder = write_run(tmp_path, make_passing(TOYS, np.random.default_rng(1)), facts)

    with pytest.raises(InputError, match="expected data and simulation, got the datasets ttbar, wjets"):
        read_counts(folder)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"analysis.py tag"):
        read_counts(tmp_path)
