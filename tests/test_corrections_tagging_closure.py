"""Weights of the written file applied to simulation bring it to data: measured again, nothing is left."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, get_args

import numpy as np
import pytest
from tagger_histogram_toys import Toy, make_facts, make_passing, top_pairs, w_and_jets

from corrections.results import Interval
from corrections.tagging import cross_check
from corrections.tagging.closure import chi2, closure_of_fits, closure_of_mistags, weighted
from corrections.tagging.counts import PASS, Counts, counts_of
from corrections.tagging.efficiency import EfficiencyMap, efficiency_maps, filled
from corrections.tagging.fit import BinFit, fit
from corrections.tagging.mistag import mistag_rates
from corrections.tagging.points import estimates_of
from corrections.tagging.settings import FitSettings, Order, TaggerJson, TaggerMeasurementSettings, TemplateSettings
from corrections.tagging.tagger_json import write_tagger_json
from corrections.tagging.templates import all_templates, refilled
from corrections.tagging.windows import in_windows, p_value
from processors.tagger_weights import jet_weights

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from corrections.tagging.results import TaggerPoint

TOYS = {"ttbar": top_pairs(), "wjets": w_and_jets()}
DIJETS = {"dijet": Toy({"qcd": (40_000, 20_000, 10_000)}, times=5), "ttbar": Toy({"top": (200, 100, 50)})}
SETTINGS = FitSettings()
COARSE = TemplateSettings(min_effective=400, min_expected=40, pt=(200, 300))
INJECTED = {"top": (0.8, 0.8), "w": (1.2, 1.3)}
MUONS = TaggerMeasurementSettings(templates=COARSE)


@dataclass(frozen=True)
class Measured:
    """Counts with what was measured in them."""

    counts: Counts
    fits: tuple[BinFit, ...]
    points: tuple[TaggerPoint, ...]

    def write(self, path: Path, groups: Mapping[str, Sequence[str]], order: Order = "jme", scale: float = 1.0) -> Path:
        """A file of them, its scale factors changed by `scale`."""
        points = [replace(each, value=scale * each.value) for each in self.points]
        maps = efficiency_maps(self.counts, groups)
        write_tagger_json(points, maps, self.counts.working_points, path, order)
        return path


@pytest.fixture(scope="module")
def muons() -> Measured:
    counts = counts_of(make_passing(TOYS, np.random.default_rng(4), factors=INJECTED), make_facts(TOYS))
    fits = tuple(fit(each, SETTINGS) for each in all_templates(counts, COARSE, SETTINGS))
    points = [each.point for one in fits for each in estimates_of(one, Interval(0, 2))]
    return Measured(counts, fits, tuple(points))


@pytest.fixture(scope="module")
def dijets() -> Measured:
    passing = make_passing(DIJETS, np.random.default_rng(4), factors={"qcd": (1.3, 0.8)})
    counts = counts_of(passing, make_facts(DIJETS, probe="dijet"))
    points = [each.point for each in mistag_rates(counts, TaggerMeasurementSettings().mistag)]
    return Measured(counts, (), tuple(points))


@pytest.fixture(scope="module")
def fitted(muons: Measured) -> BinFit:
    return muons.fits[0]


@pytest.mark.parametrize("order", get_args(Order))
def test_fitted_scale_factors_are_one_once_the_file_is_applied(muons: Measured, tmp_path: Path, order: Order) -> None:
    settings = replace(MUONS, json=TaggerJson(order))
    file = muons.write(tmp_path / "sf.json.gz", COARSE.groups, order)

    found = closure_of_fits(muons.counts, muons.fits, muons.points, settings, file)

    assert {(each.point.category, each.point.working_point) for each in found.again} >= {
        (group, working_point) for group in INJECTED for working_point in ("loose", "tight")
    }
    # uncertainties of rates scale with them, so that the second minimum is not quite the first
    assert found.largest_left < 0.2
    assert np.abs([each.value - 1 for each in found.again if each.point.category in INJECTED]).max() < 5e-3
    (spectrum,) = found.spectra
    assert spectrum.before > 3 * spectrum.bins
    # there are six scale factors in it
    assert spectrum.after < 1.5 * spectrum.bins


@pytest.mark.parametrize("order", get_args(Order))
def test_mistags_are_one_once_the_file_is_applied(dijets: Measured, tmp_path: Path, order: Order) -> None:
    settings = TaggerMeasurementSettings(json=TaggerJson(order))
    file = dijets.write(tmp_path / "sf.json.gz", {"mistag": ("qcd",)}, order)

    found = closure_of_mistags(dijets.counts, dijets.points, settings, file)

    assert [each.value for each in found.again] == pytest.approx([1] * 12)
    assert sum(each.before for each in found.spectra) > 2 * sum(each.bins for each in found.spectra)
    assert sum(each.after for each in found.spectra) < 1.3 * sum(each.bins for each in found.spectra)


def test_a_file_with_other_scale_factors_does_not_close(muons: Measured, dijets: Measured, tmp_path: Path) -> None:
    of_muons = muons.write(tmp_path / "muons.json.gz", COARSE.groups, scale=0.8)
    of_dijets = dijets.write(tmp_path / "dijets.json.gz", {"mistag": ("qcd",)}, scale=0.8)

    fits = closure_of_fits(muons.counts, muons.fits, muons.points, MUONS, of_muons)
    mistags = closure_of_mistags(dijets.counts, dijets.points, TaggerMeasurementSettings(), of_dijets)

    assert fits.largest_left > 3.3
    assert mistags.largest_left > 3.3
    assert [each.value for each in mistags.again] == pytest.approx([1 / 0.8] * 12)


def test_the_weights_are_those_of_events_and_keep_the_number_of_jets(muons: Measured, tmp_path: Path) -> None:
    file = muons.write(tmp_path / "sf.json.gz", COARSE.groups)

    after = weighted(muons.counts, muons.points, COARSE.groups, file, "jme")

    w = muons.counts.categories.index("w")
    values = {each.working_point: each.value for each in muons.points if each.category == "w"}
    factors = np.array([[values["loose"]] * 3, [values["tight"]] * 3])
    then, now = (each.cells("toy", each.nominal, simulated=True)[0, :, w, 0] for each in (muons.counts, after))
    for eta in (0, 1):
        jets = then[:, eta].sum(axis=-1)
        efficiencies = np.transpose([[jets[1:].sum() / jets.sum(), jets[2] / jets.sum()]] * 3)
        weights = jet_weights(factors, efficiencies, np.arange(3))
        assert now[:, eta] == pytest.approx(weights[:, np.newaxis] * then[:, eta])
    assert now.sum() == pytest.approx(then.sum())
    unmatched = muons.counts.categories.index("unmatched")
    assert after.nominal[:, :, :, :, unmatched] == pytest.approx(muons.counts.nominal[:, :, :, :, unmatched])
    assert after.data is muons.counts.data


def test_what_a_neighbour_lends_to_one_working_point_does_not_change_another(dijets: Measured, tmp_path: Path) -> None:
    first = min(each.pt.low for each in dijets.points)
    # few pass the loose cut; of the tight one only its neighbour is known, where many do
    points = tuple(
        replace(each, value=float("nan"), status="imprecise")
        if (each.working_point, each.pt.low) == ("tight", first)
        else replace(each, value=0.1 if each.pt.low == first else 2.0)
        for each in dijets.points
    )
    file = replace(dijets, points=points).write(tmp_path / "sf.json.gz", {"mistag": ("qcd",)})

    after = weighted(dijets.counts, points, {"mistag": ("qcd",)}, file, "jme")

    qcd = dijets.counts.categories.index("qcd")
    then, now = (each.nominal[0, 0, 0, :, qcd, 0].sum(axis=(1, 2)) for each in (dijets.counts, after))
    assert now[PASS] == pytest.approx(0.1 * then[PASS])
    assert now.sum() == pytest.approx(then.sum())


def test_without_any_measured_point_nothing_is_applied(muons: Measured, tmp_path: Path) -> None:
    file = muons.write(tmp_path / "sf.json.gz", COARSE.groups)

    after = weighted(muons.counts, (), COARSE.groups, file, "jme")

    assert after.nominal == pytest.approx(muons.counts.nominal)
    assert closure_of_fits(muons.counts, (), (), MUONS, file).again == ()


def test_templates_filled_with_the_same_jets_are_the_same(muons: Measured, fitted: BinFit) -> None:
    again = refilled(fitted.templates, muons.counts, COARSE, SETTINGS)

    for one, other in zip(again.regions, fitted.templates.regions, strict=True):
        assert np.array_equal(one.edges, other.edges)
        assert np.array_equal(one.yields, other.yields)
    assert again.passed("tight")[0] == pytest.approx(fitted.templates.passed("tight")[0])


def test_chi2_is_that_of_all_uncertainties_with_their_correlations(fitted: BinFit) -> None:
    model = cross_check.likelihood(fitted.templates, SETTINGS)
    rng = np.random.default_rng(3)
    start = np.concatenate([np.ones(len(model.factors)), np.zeros(len(model.sources))])
    found = []

    for _ in range(400):
        pulls = rng.normal(size=len(model.sources))
        data, _, _ = cross_check.drawn(model, start + np.concatenate([np.zeros(len(model.factors)), pulls]), rng)
        found.append(chi2(replace(model, data=data, errors=0 * model.errors)))

    # 400 toys know the mean to 1 % or so; sources are not quite linear
    assert np.mean(found) == pytest.approx(len(model.data), rel=0.1)


def test_data_without_expectation_have_an_infinite_chi2_and_empty_bins_do_not_count(fitted: BinFit) -> None:
    model = cross_check.likelihood(fitted.templates, SETTINGS)
    nominal, straight, bent = (each.copy() for each in (model.nominal, model.straight, model.bent))
    for values in (nominal, straight, bent):
        values[..., 0] = 0
    emptied = replace(model, nominal=nominal, straight=straight, bent=bent)
    data = model.data.copy()
    data[0] = 0

    assert model.data[0] > 0
    assert chi2(emptied) == np.inf
    assert np.isfinite(chi2(replace(emptied, data=data)))


def test_a_tight_cut_is_not_passed_more_often_than_a_loose_one() -> None:
    counts = counts_of(make_passing(TOYS, np.random.default_rng(4)), make_facts(TOYS))
    nominal = counts.nominal.copy()
    # weights of either sign leave fewer jets above the loose cut than above the tight one
    nominal[:, 0, 0, 1] *= 0.5
    nominal[:, 0, 0, 0] += nominal[:, 0, 0, 1]

    maps = efficiency_maps(replace(counts, nominal=nominal), {"w": ("w",)})

    loose, tight = (each.values for each in maps)
    assert np.all(tight <= loose)


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
        done = fit(own, rough)
        points = {(each.group, each.working_point): each.value for each in done.points}
        values = {(each.category, each.working_point): each.value for each in found if each.window == window}
        assert np.isnan(list(points.values())).any()
        assert values == pytest.approx(points, abs=1e-3, nan_ok=True)
        # and the uncertainties, which are those that are published, not those of the curvature
        published = [each.point for each in estimates_of(done, Interval(0, 2))]
        totals = {(each.category, each.working_point): each.total for each in published if each.is_measured}
        errors = {(each.category, each.working_point): each.error for each in found if each.window == window}
        for place, total in totals.items():
            assert errors[place] == pytest.approx(total, rel=1e-3)
            assert total <= rough.largest_error


def test_the_probability_in_a_range_of_mass_is_that_of_the_fit(fitted: BinFit) -> None:
    model = cross_check.likelihood(fitted.templates, SETTINGS)

    assert p_value(model, cross_check.minimum(model)) == pytest.approx(fitted.p_value, rel=1e-3)


def test_chi2_without_a_known_yield_is_that_of_the_best_one(fitted: BinFit) -> None:
    model = cross_check.likelihood(replace(fitted.templates, is_absolute=False), SETTINGS)
    n = len(model.data)
    data = model.expected(model.start) * np.linspace(1.5, 1.1, n)

    found = chi2(replace(model, data=data))

    scale = data.sum() / model.expected(model.start).sum()
    expected = scale * model.expected(model.start)
    slopes = scale * model.derivatives(model.start)[len(model.factors) :]
    inverse = np.linalg.inv(np.diag(expected + (model.errors * expected) ** 2) + slopes.T @ slopes)
    difference = data - expected
    # the least over all factors f of the yield of (d - f e) V^-1 (d - f e)
    with_yield = difference @ inverse @ difference
    best = with_yield - (expected @ inverse @ difference) ** 2 / (expected @ inverse @ expected)
    assert found == pytest.approx(best, rel=1e-3)
    assert with_yield > 1.005 * best


def test_a_range_of_mass_is_fitted_without_a_group_that_data_lack() -> None:
    rng = np.random.default_rng(5)
    passing = make_passing(TOYS, rng)
    no_top = {name: jets for name, jets in top_pairs().expected.items() if name != "top"}
    lacking = make_passing({"ttbar": Toy(no_top), "wjets": w_and_jets()}, rng)
    passing.view(flow=True)[-1] = lacking.view(flow=True)[-1]
    settings = TaggerMeasurementSettings(templates=COARSE, windows=(COARSE.mass,))
    counts = counts_of(passing, make_facts(TOYS))

    found = {(each.category, each.working_point): each for each in in_windows(counts, settings, [])}

    assert np.isnan(found["top", "loose"].value)
    assert found["w", "tight"].value == pytest.approx(1, abs=4 * found["w", "tight"].error)


def test_efficiencies_of_a_bin_without_jets_are_those_of_another_pt_before_another_eta() -> None:
    values = np.array([[np.nan, np.nan, 0.3], [0.1, 0.15, 0.2]])
    one = EfficiencyMap("toy", "loose", "w", np.array([0.0, 1, 2]), np.array([200.0, 300, 500, 800]), values)

    found = filled(one)

    assert found is not None
    assert found.tolist() == [[0.3, 0.3, 0.3], [0.1, 0.15, 0.2]]
    assert filled(replace(one, values=np.full((2, 3), np.nan))) is None
