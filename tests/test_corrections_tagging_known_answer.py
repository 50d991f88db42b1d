"""Data with a known answer, and whether the fit finds it as often as it says."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tagger_histogram_toys import EFFICIENCIES, make_facts, make_passing, top_pairs, w_and_jets

from corrections.results import Interval
from corrections.tagging import cross_check
from corrections.tagging.counts import FAIL, PASS, Counts, counts_of
from corrections.tagging.covariance import statistical
from corrections.tagging.fit import fit
from corrections.tagging.known_answer import FILE, parse_answer, pulls, read_answer, with_known_answer
from corrections.tagging.points import estimates_of
from corrections.tagging.results import TaggerPoint
from corrections.tagging.settings import FitSettings, TemplateSettings
from corrections.tagging.templates import all_templates
from processors.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

TOYS = {"ttbar": top_pairs(), "wjets": w_and_jets()}
ANSWER: dict[str, Any] = {"toy": {"loose": {"top": 0.92, "w": (0.9, 1.1, 1.0)}, "tight": {"top": 0.85}}}
COARSE = TemplateSettings(min_effective=400, min_expected=40, pt=(200, 300))


@pytest.fixture(scope="module")
def counts() -> Counts:
    return counts_of(make_passing(TOYS, np.random.default_rng(1)), make_facts(TOYS))


def test_what_passes_is_scaled_and_what_fails_makes_up_for_it(counts: Counts) -> None:
    many = replace(counts, nominal=1e6 * counts.nominal)

    data = with_known_answer(many, ANSWER, np.random.default_rng(4)).data[0]

    simulation = many.nominal[:, 0].sum(axis=0)
    top, w = (counts.categories.index(name) for name in ("top", "w"))
    factors = np.ones((2, len(counts.categories), 3))
    factors[:, top], factors[0, w] = np.array([[0.92], [0.85]]), (0.9, 1.1, 1.0)
    for place in (0, 1):
        passing, failing = simulation[place, PASS], simulation[place, FAIL]
        efficiency = (passing.sum(axis=(2, 3))) / (passing + failing).sum(axis=(2, 3)).clip(1e-9)
        expected_pass = (passing * factors[place][..., None, None]).sum(axis=(0, 2))
        of_failing = (1 - factors[place] * efficiency) / (1 - efficiency)
        expected_fail = (failing * of_failing[..., None, None]).sum(axis=(0, 2))
        for got, expected in ((data[place, PASS], expected_pass), (data[place, FAIL], expected_fail)):
            # between the cuts both scale factors act, so that shapes in mass are those of the cells
            assert got.sum(axis=(1, 2)) == pytest.approx(expected.sum(axis=1), rel=2e-4)


def test_data_stay_nested(counts: Counts) -> None:
    data = with_known_answer(counts, ANSWER, np.random.default_rng(3)).data[0]

    assert np.all(data[0, PASS] >= data[1, PASS])
    assert data[0].sum(axis=0) == pytest.approx(data[1].sum(axis=0))


def test_known_values_of_joined_bins_are_those_of_all_jets_that_pass(counts: Counts) -> None:
    point = TaggerPoint("scale_factor", "toy", "loose", "w", Interval(300, 800), Interval(0, 2), 1.0, 0.1)

    found = pulls([point], ANSWER, counts)

    # twice as many of them are below 400 GeV as above, 14 000 and 7 000 in simulation
    assert found[0].known == pytest.approx((2 * 1.1 + 1.0) / 3, abs=2e-3)
    assert found[0].value == pytest.approx((1 - found[0].known) / 0.1)


def test_the_known_value_of_several_categories_is_that_of_all_their_jets_that_pass(counts: Counts) -> None:
    merged = TaggerPoint("scale_factor", "toy", "loose", "merged", Interval(200, 300), Interval(0, 2), 1.0, 0.1)
    answer = {"toy": {"loose": {"top": 0.8}}}

    (found,) = pulls([merged], answer, counts, {"merged": ("w", "top")})

    # 25 % of the jets are tops of which 60 % pass, 35 % are W of which 50 % do, as in simulation
    assert found.known == pytest.approx((0.8 * 0.25 * 0.6 + 0.35 * 0.5) / (0.25 * 0.6 + 0.35 * 0.5), abs=2e-3)
    assert pulls([merged], answer, counts, {"merged": ("w", "other")}) == []


def test_where_nothing_is_simulated_known_values_are_averaged(counts: Counts) -> None:
    point = TaggerPoint("scale_factor", "toy", "loose", "w", Interval(300, 800), Interval(0, 2), 1.0, 0.1)

    found = pulls([point], ANSWER, replace(counts, nominal=0 * counts.nominal))

    assert found[0].known == pytest.approx(1.05)


def test_an_answer_is_read_from_beside_the_histograms(tmp_path: Path) -> None:
    assert read_answer(tmp_path) == {}
    (tmp_path / FILE).write_text(json.dumps({"toy": {"loose": {"w": 0.9}}}))
    assert read_answer(tmp_path) == {"toy": {"loose": {"w": 0.9}}}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "injected_taggers.json"),
        ("[1]", "expected a mapping at the top"),
        ('{"toy": 3}', "expected working points of toy, got 3"),
        ('{"toy": {"loose": 3}}', "expected scale factors by category at toy loose, got 3"),
        ('{"toy": {"loose": {"w": "much"}}}', "at toy loose w, got 'much'"),
        ('{"toy": {"loose": {"w": [0.9, -1]}}}', r"at toy loose w, got \[0.9, -1\]"),
        ('{"toy": {"loose": {"w": []}}}', r"at toy loose w, got \[\]"),
    ],
)
def test_an_answer_of_another_form_is_refused_with_its_file(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / FILE).write_text(text)

    with pytest.raises(InputError, match=told) as refused:
        read_answer(tmp_path)

    assert str(refused.value).startswith(str(tmp_path / FILE))


@pytest.mark.parametrize("content", [[1], 3, {"toy": {"loose": 3}}])
def test_an_answer_from_elsewhere_is_checked_alike(content: object) -> None:
    with pytest.raises(InputError, match=r"^given\.yaml: expected scale factors by"):
        parse_answer(content, "given.yaml")


@pytest.mark.slow
def test_toys_have_pulls_of_mean_0_and_width_1(counts: Counts) -> None:
    settings = FitSettings()
    templates = all_templates(counts, COARSE, settings)[0]
    model = cross_check.likelihood(templates, settings)
    truth = {"sf_top_loose": 0.92, "sf_top_tight": 0.85, "sf_w_loose": 0.9, "sf_w_tight": 1.1}
    rng = np.random.default_rng(12)
    point = np.array([truth.get(name, 1.0 if name in model.factors else 0.0) for name in model.names])
    found = []

    for _ in range(200):
        minimum = cross_check.minimum(model, *cross_check.drawn(model, point, rng))
        found.append([(minimum.value(name)[0] - truth[name]) / minimum.value(name)[1] for name in truth])

    # 200 toys know a mean to 0.071 and a width to 0.05
    assert np.abs(np.mean(found, axis=0)).max() < 0.25
    assert np.std(found, axis=0) == pytest.approx(1, abs=0.18)


@pytest.mark.slow
def test_nested_working_points_are_correlated_as_toys_are(counts: Counts) -> None:
    settings = FitSettings()
    rng = np.random.default_rng(5)
    found = []

    for _ in range(150):
        toy = with_known_answer(counts, {}, rng)
        (templates,) = all_templates(toy, COARSE, settings)
        minimum = cross_check.minimum(cross_check.likelihood(templates, settings))
        found.append([minimum.value(name)[0] for name in ("sf_w_loose", "sf_w_tight")])
    estimates = estimates_of(fit(templates, settings), Interval(0, 2))

    of_data, _ = statistical([each for each in estimates if each.point.category == "w"])
    # toys of data alone, from the same simulation
    assert np.std(found, axis=0) == pytest.approx(np.sqrt(np.diagonal(of_data)), rel=0.2)
    expected = of_data[0, 1] / np.sqrt(of_data[0, 0] * of_data[1, 1])
    assert expected == pytest.approx(np.corrcoef(np.transpose(found))[0, 1], abs=0.15)
    loose, tight = EFFICIENCIES["w"]
    assert expected == pytest.approx(np.sqrt(tight * (1 - loose) / (loose * (1 - tight))), abs=0.2)
