"""Event weights of taggers against their formula, from files in both orders of arguments."""

from __future__ import annotations

import gzip
import subprocess
import sys
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any

import correctionlib
import correctionlib.schemav2 as cs
import numpy as np
import pytest

from corrections.results import Interval, Shift
from corrections.schema import NotWritableError
from corrections.tagging.efficiency import EfficiencyMap
from corrections.tagging.results import TaggerPoint
from corrections.tagging.tagger_json import write_tagger_json
from models.tagging.columns import CATEGORIES
from processors.errors import InputError
from processors.tagger_weights import (
    FromFile,
    TaggedJets,
    TaggerWeights,
    jet_weights,
    limits,
    product_by_event,
    systematic_word,
)

if TYPE_CHECKING:
    from pathlib import Path

PTS = (Interval(200, 300), Interval(300, 500), Interval(500, 800))
ETA = Interval(0, 2)
CUTS = {"toy": {"loose": 0.5, "tight": 0.8}}
VALUES = {("w", "loose"): (0.9, 0.95, 1.0), ("w", "tight"): (0.8, 0.85, 0.9), ("top", "loose"): (1.1, 1.05, 1.0)}
W, TOP, QCD = (CATEGORIES.index(name) for name in ("w", "top", "qcd"))


def point(category: str, name: str, place: int, **changes: Any) -> TaggerPoint:
    value = VALUES.get((category, name), (1.0, 1.0, 1.0))[place]
    given = {"value": value, "stat": 0.03, "shifts": (Shift("jes", 0.04, -0.04), Shift("template", -0.02, 0.02))}
    return TaggerPoint("scale_factor", "toy", name, category, PTS[place], ETA, **{**given, **changes})


POINTS = [point(category, name, place) for (category, name), place in product(VALUES, range(3))]
MISTAGS = [
    TaggerPoint("mistag", "toy", "tight", "mistag", pt, eta, 1.3 - 0.1 * i, 0.1)
    for (i, eta), pt in product(enumerate((Interval(0, 1), Interval(1, 2))), PTS)
]
MAPS = [
    EfficiencyMap("toy", name, category, np.array([0.0, 1, 2]), np.array([200.0, 300, 500, 800]), values)
    for name, category, values in [
        ("loose", "w", np.array([[0.5, 0.55, 0.6], [0.45, 0.5, 0.55]])),
        ("tight", "w", np.array([[0.3, 0.35, 0.4], [0.25, np.nan, 0.35]])),
        ("tight", "mistag", np.full((2, 3), 0.01)),
    ]
]
TOTAL = np.sqrt(0.03**2 + 0.04**2 + 0.02**2)


@pytest.fixture
def jme(tmp_path: Path) -> str:
    path = tmp_path / "tagger_sf.json.gz"
    write_tagger_json([*POINTS, *MISTAGS], MAPS, CUTS, path)
    return str(path)


@pytest.fixture
def btv(tmp_path: Path) -> str:
    path = tmp_path / "tagger_btv.json.gz"
    write_tagger_json([*POINTS, *MISTAGS], MAPS, CUTS, path, "btv")
    return str(path)


def test_scale_factors_have_the_order_of_arguments_of_jme(jme: str) -> None:
    factors = correctionlib.CorrectionSet.from_file(jme)["toy_w"]

    assert [each.name for each in factors.inputs] == ["eta", "pt", "systematic", "workingpoint"]
    assert factors.evaluate(-1.5, 350.0, "nom", "tight") == pytest.approx(0.85)
    assert factors.evaluate(1.5, 350.0, "up", "tight") == pytest.approx(0.85 + TOTAL)
    assert factors.evaluate(1.5, 350.0, "jes_down", "tight") == pytest.approx(0.81)
    assert factors.evaluate(1.5, 350.0, "template_up", "tight") == pytest.approx(0.83)
    assert factors.evaluate(1.5, 350.0, "stat_up", "loose") == pytest.approx(0.98)


def test_scale_factors_have_the_order_of_arguments_of_btv(btv: str) -> None:
    factors = correctionlib.CorrectionSet.from_file(btv)["toy"]

    assert [each.name for each in factors.inputs] == ["systematic", "working_point", "flavor", "abseta", "pt"]
    assert factors.evaluate("central", "tight", W, 1.5, 350.0) == pytest.approx(0.85)
    assert factors.evaluate("up_jes", "tight", W, 1.5, 350.0) == pytest.approx(0.89)
    assert factors.evaluate("down", "loose", TOP, 1.5, 250.0) == pytest.approx(1.1 - TOTAL)
    assert factors.evaluate("central", "tight", QCD, 1.5, 250.0) == pytest.approx(1.2)


def test_in_the_order_of_btv_a_group_is_found_by_the_number_of_each_of_its_categories(tmp_path: Path) -> None:
    path = tmp_path / "sf.json.gz"
    names = ("unmatched", "heavy")
    points = [point(name, "loose", place) for name, place in product(names, range(3))]
    maps = [replace(MAPS[0], category=name) for name in names]
    groups = {"unmatched": ("unmatched", "qcd"), "heavy": ("top", "w"), "mistag": ("qcd",)}
    unmatched, other = CATEGORIES.index("unmatched"), CATEGORIES.index("other")

    write_tagger_json(points, maps, CUTS, path, "btv", groups=groups)

    alone = correctionlib.CorrectionSet.from_file(str(path))
    for flavor in (unmatched, QCD, 10, TOP, W):
        assert alone["toy"].evaluate("central", "loose", flavor, 0.5, 250.0) == pytest.approx(1.0)
        assert alone["toy_efficiency"].evaluate("loose", flavor, 0.5, 250.0) == pytest.approx(0.5)
    with pytest.raises(IndexError):
        alone["toy"].evaluate("central", "loose", other, 0.5, 250.0)
    assert (
        f"Flavors: {unmatched} unmatched, {QCD} unmatched, 10 heavy, {TOP} heavy, {W} heavy."
        in alone["toy"].description
    )
    # mistags, which multijets are, and W, which are a category of their own, keep their numbers
    write_tagger_json([*points, *POINTS, *MISTAGS], maps, CUTS, path, "btv", groups=groups)
    beside = correctionlib.CorrectionSet.from_file(str(path))["toy"]
    assert beside.evaluate("central", "tight", QCD, 0.5, 250.0) == pytest.approx(1.3)
    assert beside.evaluate("central", "loose", W, 0.5, 250.0) == pytest.approx(0.9)


@pytest.mark.parametrize(("pt", "place"), [(50.0, 0), (1500.0, 2), (1e6, 2)])
def test_outside_the_measured_range_the_uncertainty_doubles(jme: str, pt: float, place: int) -> None:
    factors = correctionlib.CorrectionSet.from_file(jme)["toy_w"]

    nominal = factors.evaluate(0.5, pt, "nom", "tight")
    assert nominal == pytest.approx(VALUES["w", "tight"][place])
    assert factors.evaluate(0.5, pt, "up", "tight") - nominal == pytest.approx(2 * TOTAL)
    assert "twice its uncertainty" in factors.description


def test_in_a_range_of_eta_that_was_not_measured_its_neighbour_holds_with_twice_the_uncertainty(tmp_path: Path) -> None:
    nan = float("nan")
    etas = (Interval(0, 1), Interval(1, 2))
    points = [
        TaggerPoint("mistag", "toy", "tight", "mistag", pt, eta, 1.3 if eta == etas[0] else nan, 0.1)
        for eta, pt in product(etas, PTS)
    ]
    path = tmp_path / "tagger_sf.json.gz"
    write_tagger_json(points, MAPS, CUTS, path)

    factors = correctionlib.CorrectionSet.from_file(str(path))["toy_mistag"]

    assert factors.evaluate(1.5, 350.0, "nom", "tight") == pytest.approx(1.3)
    assert [factors.evaluate(eta, 350.0, "up", "tight") for eta in (0.5, -1.5)] == pytest.approx([1.4, 1.5])
    # and not four times where pT is outside too
    assert factors.evaluate(1.5, 2000.0, "stat_down", "tight") == pytest.approx(1.1)
    assert "tight mistag at pt 200-300, |eta| 1-2" in factors.description


def test_what_is_not_finite_is_refused_by_name_and_the_rest_written(tmp_path: Path) -> None:
    path = tmp_path / "sf.json.gz"
    bad: dict[tuple[str, str, int], dict[str, Any]] = {
        ("w", "tight", 1): {"value": np.nan, "status": "not_converged"},
        ("w", "loose", 2): {"value": np.inf},
        **{("top", "loose", place): {"value": np.nan, "status": "empty_pass"} for place in range(3)},
    }
    points = [
        point(category, name, place, **bad.get((category, name, place), {}))
        for (category, name), place in product(VALUES, range(3))
    ]

    written = write_tagger_json(points, MAPS, CUTS, path)

    assert written.refused["toy tight w at pt 300-500, |eta| 0-2"] == "not_converged"
    assert written.refused["toy loose w at pt 500-800, |eta| 0-2"] == "not finite"
    assert written.refused["toy_top"] == "measured in no bin"
    assert written.names == ("toy_efficiency", "toy_w", "toy_wp_values")
    factors = correctionlib.CorrectionSet.from_file(str(path))["toy_w"]
    assert factors.evaluate(0.0, 400.0, "nom", "tight") in (0.8, 0.9)
    stretched = factors.evaluate(0.0, 400.0, "up", "tight") - factors.evaluate(0.0, 400.0, "nom", "tight")
    assert stretched == pytest.approx(2 * TOTAL)
    assert "tight w at pt 300-500" in factors.description


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_file_with_a_number_that_is_not_finite_is_not_put_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: float
) -> None:
    path = tmp_path / "sf.json.gz"
    monkeypatch.setattr("corrections.tagging.tagger_json.filled", lambda _: np.full((2, 3), bad))

    with pytest.raises(NotWritableError, match="cannot be read back"):
        write_tagger_json(POINTS, MAPS, CUTS, path)

    assert not path.exists()


def test_a_point_of_which_one_side_of_a_source_is_not_finite_is_refused_by_name(tmp_path: Path) -> None:
    # the total, that of the larger side, is finite
    strange = point("w", "loose", 0, shifts=(Shift("jes", 0.04, float("nan")),))

    written = write_tagger_json([strange, *POINTS[1:]], MAPS, CUTS, tmp_path / "sf.json.gz")

    assert written.refused == {strange.name: "not finite"}


def test_cuts_and_efficiencies_are_in_the_file(jme: str) -> None:
    corrections = correctionlib.CorrectionSet.from_file(jme)

    assert corrections["toy_wp_values"].evaluate("tight") == 0.8
    assert corrections["toy_efficiency"].evaluate(-1.5, 250.0, "loose", "w") == pytest.approx(0.45)
    # a bin without jets has the value beside it
    assert corrections["toy_efficiency"].evaluate(1.5, 400.0, "tight", "w") in (0.25, 0.35)


def test_the_same_points_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_tagger_json(POINTS, MAPS, CUTS, tmp_path / f"{name}.json.gz")

    assert (tmp_path / "a.json.gz").read_bytes() == (tmp_path / "b.json.gz").read_bytes()


def test_a_jet_that_passes_counts_with_its_factor_and_one_that_fails_makes_up_for_it() -> None:
    got = jet_weights(np.array([0.9, 0.9]), np.array([0.4, 0.4]), np.array([1, 0]))

    assert got == pytest.approx([0.9, (1 - 0.9 * 0.4) / (1 - 0.4)])


def test_between_two_working_points_both_factors_count() -> None:
    factors, efficiencies = np.array([[0.9] * 3, [0.8] * 3]), np.array([[0.5] * 3, [0.2] * 3])

    got = jet_weights(factors, efficiencies, np.array([0, 1, 2]))

    assert got == pytest.approx([(1 - 0.45) / 0.5, (0.45 - 0.16) / 0.3, 0.8])
    # all jets together stay as many as they were
    assert got @ np.array([0.5, 0.3, 0.2]) == pytest.approx(1)


def test_weights_are_never_negative_and_an_impossible_jet_keeps_its_own() -> None:
    assert jet_weights(np.array([3.0]), np.array([0.6]), np.array([0])) == [0.0]
    assert jet_weights(np.array([0.5]), np.array([1.0]), np.array([0])) == [1.0]


def test_the_sum_of_weights_stays_up_to_a_pass_rate_of_one_and_grows_beyond() -> None:
    shares = np.array([0.4, 0.6])

    for factor, expected in ((1.5, 1.0), (1 / 0.6, 1.0), (2.0, 1.2)):
        got = jet_weights(np.full(2, factor), np.full(2, 0.6), np.array([0, 1]))
        assert got @ shares == pytest.approx(expected)


@pytest.mark.parametrize("share", [1.2, 80.0, -0.1, np.nan])
def test_an_efficiency_that_is_no_share_is_refused_with_its_value(share: float) -> None:
    with pytest.raises(ValueError, match=f"an efficiency must be from 0 to 1, got {share:g}"):
        jet_weights(np.full(2, 0.9), np.array([0.5, share]), np.array([0, 0]))

    assert jet_weights(np.array([0.9]), np.array([1 + 1e-12]), np.array([1])) == pytest.approx([0.9])


def test_levels_beyond_the_working_points_are_refused() -> None:
    with pytest.raises(ValueError, match="level must be from 0 to 1, got 0 to 2"):
        jet_weights(np.ones(2), np.full(2, 0.5), np.array([0, 2]))


def test_weights_of_jets_multiply_in_their_event() -> None:
    assert product_by_event(np.array([2.0, 3, 5]), np.array([2, 0, 1])) == pytest.approx([6, 1, 5])


@pytest.mark.parametrize("n", [1, 4, 6])
def test_counts_of_other_jets_are_refused(n: int) -> None:
    with pytest.raises(ValueError, match=f"counts are 5 jets in 5 events, there are {n}"):
        product_by_event(np.full(n, 0.9), np.ones(5, np.int64))


def jets() -> TaggedJets:
    return TaggedJets(
        counts=np.array([2, 0, 2]),
        eta=np.array([0.5, -1.5, 0.2, 0.3]),
        pt=np.array([250.0, 400, 600, 250]),
        level=np.array([2, 0, 1, 2]),
        category=np.array([W, W, W, CATEGORIES.index("other")]),
    )


def expected_weights() -> np.ndarray:
    """By hand: eff of the tight cut at (1.5, 400) is that of the bin beside it, where there are jets."""
    failing = (1 - 0.95 * 0.5) / (1 - 0.5)
    between = (1.0 * 0.6 - 0.9 * 0.4) / (0.6 - 0.4)
    return np.array([0.8 * failing, 1.0, between * 1.0])


@pytest.mark.parametrize("order", ["jme", "btv"])
def test_both_orders_give_the_weights_of_the_formula(order: str, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(order)
    of_factor = FromFile(path, "toy_w") if order == "jme" else FromFile(path, "toy", {"flavor": W})
    of_efficiency = FromFile(path, "toy_efficiency", {"category": "w"} if order == "jme" else {"flavor": W})
    weights = TaggerWeights(("loose", "tight"), {W: of_factor}, {W: of_efficiency})

    assert weights.events(jets()) == pytest.approx(expected_weights())
    assert np.all(weights.events(jets(), "jes_up")[[0, 2]] != expected_weights()[[0, 2]])


def test_coffea_takes_the_weights_with_their_variations(jme: str) -> None:
    from coffea.analysis_tools import Weights

    tagger = TaggerWeights(
        ("loose", "tight"),
        {W: FromFile(jme, "toy_w")},
        {W: FromFile(jme, "toy_efficiency", {"category": "w"})},
    )
    of_events = Weights(3, storeIndividual=True)

    tagger.add_to(of_events, jets(), "tagger")
    tagger.add_to(of_events, jets(), "again", ["jes", "template"])

    assert of_events.partial_weight(include=["tagger"]) == pytest.approx(expected_weights())
    assert {"taggerUp", "taggerDown", "again_jesUp", "again_templateDown"} <= set(of_events.variations)
    up = of_events.weight("taggerUp") / of_events.partial_weight(include=["again"])
    assert up == pytest.approx(tagger.events(jets(), "up"))


def both(jme: str, of_mistags: FromFile) -> tuple[TaggerWeights, TaggedJets]:
    """Weights of W and of mistags in one event with a jet of each, both of which pass the tight cut."""
    shares = {W: "w", QCD: "mistag"}
    efficiencies = {number: FromFile(jme, "toy_efficiency", {"category": name}) for number, name in shares.items()}
    tagger = TaggerWeights(("tight",), {W: FromFile(jme, "toy_w"), QCD: of_mistags}, efficiencies)
    each = np.array([1, 1])
    return tagger, TaggedJets(np.array([2]), np.array([0.5, 0.5]), np.array([250.0, 250]), each, np.array([W, QCD]))


def test_every_source_of_a_tagger_may_be_asked_of_all_its_categories(jme: str) -> None:
    from coffea.analysis_tools import Weights

    tagger, pair = both(jme, FromFile(jme, "toy_mistag"))
    of_events = Weights(1)

    tagger.add_to(of_events, pair, "tagger", ["jes", "stat"])

    # mistags have no jes: 1.3 stays; both have stat, of which the W has 0.03 and mistags 0.1
    assert of_events.weight() == pytest.approx([0.8 * 1.3])
    assert of_events.weight("tagger_jesUp") == pytest.approx([0.84 * 1.3])
    assert of_events.weight("tagger_jesDown") == pytest.approx([0.76 * 1.3])
    assert of_events.weight("tagger_statUp") == pytest.approx([0.83 * 1.4])
    assert of_events.weight("tagger_statDown") == pytest.approx([0.77 * 1.2])
    corrections = correctionlib.CorrectionSet.from_file(jme)
    assert corrections["toy_mistag"].evaluate(0.5, 250.0, "jes_up", "tight") == pytest.approx(1.3)


def test_a_variation_that_one_file_lacks_is_nominal_there_and_one_that_none_has_is_refused(
    jme: str, tmp_path: Path
) -> None:
    tagger, pair = both(jme, FromFile(pog_file(tmp_path), "W_MD", working_points={"tight": "0p5"}))

    assert tagger.events(pair, "jes_up") == pytest.approx([0.84 * 0.9])
    assert tagger.events(pair, "up") == pytest.approx([(0.8 + TOTAL) * 0.95])
    with pytest.raises(InputError, match="no scale factor has the variation 'jer_up': neither toy_w of"):
        tagger.events(pair, "jer_up")


def pog_file(folder: Path, **ranges: tuple[float, float]) -> str:
    """A map as JME publishes it: bins of eta and pt that refuse what lies outside; ranges of pt by working point."""
    values = {"nom": 0.9, "up": 0.95, "down": 0.84}
    by_systematic = cs.Category(
        nodetype="category",
        input="systematic",
        content=[cs.CategoryItem(key=key, value=value) for key, value in values.items()],
    )
    items = []
    for name, edges in (ranges or {"0p5": (200.0, 800.0)}).items():
        in_pt = cs.Binning(nodetype="binning", input="pt", edges=list(edges), content=[by_systematic], flow="error")
        in_eta = cs.Binning(nodetype="binning", input="eta", edges=[-2.5, 2.5], content=[in_pt], flow="error")
        items.append(cs.CategoryItem(key=name, value=in_eta))
    data = cs.Category(nodetype="category", input="workingpoint", content=items)
    correction = cs.Correction(
        name="W_MD",
        version=1,
        inputs=[
            cs.Variable(name=name, type="real" if name in ("eta", "pt") else "string")
            for name in ("eta", "pt", "systematic", "workingpoint")
        ],
        output=cs.Variable(name="weight", type="real"),
        data=data,
    )
    path = folder / "jmar.json.gz"
    document = cs.CorrectionSet(schema_version=2, corrections=[correction])
    path.write_bytes(gzip.compress(document.model_dump_json(exclude_unset=True).encode()))
    return str(path)


def absolute_file(folder: Path, rule: str, edges: tuple[float, ...]) -> str:
    """A map in bins of what a formula makes of eta, which refuse what lies outside."""
    by_systematic = [
        cs.Category(
            nodetype="category",
            input="systematic",
            content=[cs.CategoryItem(key="nom", value=value), cs.CategoryItem(key="up", value=value + 0.1)],
        )
        for value in (0.8, 0.9)
    ]
    data: Any = cs.Binning(
        nodetype="binning", input="eta", edges=list(edges), content=list(by_systematic), flow="error"
    )
    if rule:
        formula = cs.Formula(nodetype="formula", expression=rule, parser="TFormula", variables=["eta"])
        data = cs.Transform(nodetype="transform", input="eta", rule=formula, content=data)
    inputs = [cs.Variable(name="eta", type="real"), cs.Variable(name="systematic", type="string")]
    weight = cs.Variable(name="weight", type="real")
    correction = cs.Correction(name="map", version=1, inputs=inputs, output=weight, data=data)
    path = folder / "absolute.json"
    path.write_text(cs.CorrectionSet(schema_version=2, corrections=[correction]).model_dump_json(exclude_unset=True))
    return str(path)


@pytest.mark.parametrize("rule", ["abs(x)", ""])
def test_bins_of_absolute_eta_hold_on_both_sides(tmp_path: Path, rule: str) -> None:
    source = FromFile(absolute_file(tmp_path, rule, (0.0, 1.0, 2.5)), "map")
    eta = np.array([-1.5, 1.5, -0.5, -3.0])

    assert source.values(eta, np.full(4, 300.0)) == pytest.approx([0.9, 0.9, 0.8, 0.9])
    # and beyond the last edge a variation is twice as far
    assert source.values(eta, np.full(4, 300.0), "", "up") == pytest.approx([1.0, 1.0, 0.9, 1.1])


def test_bins_of_something_else_that_a_formula_makes_of_eta_are_no_range_of_it(tmp_path: Path) -> None:
    file = absolute_file(tmp_path, "x+10", (10.0, 11.0, 12.5))

    assert limits(file, "map") == {}
    assert FromFile(file, "map").values(np.array([1.5]), np.array([300.0]), "", "up") == pytest.approx([1.0])


def test_a_file_that_refuses_jets_outside_its_bins_is_clamped_with_twice_the_uncertainty(tmp_path: Path) -> None:
    source = FromFile(pog_file(tmp_path), "W_MD", working_points={"tight": "0p5"})
    eta, pt = np.array([0.0, 0.0, 3.0, 0.0]), np.array([300.0, 150, 300, 800])

    assert limits(source.file, "W_MD") == {"eta": (-2.5, 2.5), "pt": (200, 800)}
    assert source.values(eta, pt, "tight") == pytest.approx([0.9] * 4)
    assert source.values(eta, pt, "tight", "up") == pytest.approx([0.95, 1.0, 1.0, 1.0])
    assert source.values(eta, pt, "tight", "down") == pytest.approx([0.84, 0.78, 0.78, 0.78])


def test_the_range_of_another_working_point_does_not_clamp(tmp_path: Path) -> None:
    source = FromFile(pog_file(tmp_path, L=(200.0, 800.0), T=(300.0, 500.0)), "W_MD")
    eta, pt = np.zeros(2), np.array([250.0, 400.0])

    assert limits(source.file, "W_MD", {"workingpoint": "L"})["pt"] == (200, 800)
    assert source.values(eta, pt, "L", "up") == pytest.approx([0.95, 0.95])
    assert source.values(eta, pt, "T", "up") == pytest.approx([1.0, 0.95])


@pytest.mark.parametrize("order", ["jme", "btv"])
def test_correction_merge_takes_a_file_with_one_of_cms(
    order: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    own, theirs = request.getfixturevalue(order), pog_file(tmp_path)

    done = subprocess.run(
        [sys.executable, "-m", "correctionlib.cli", "merge", own, theirs], capture_output=True, text=True, check=True
    )

    found = correctionlib.CorrectionSet.from_string(done.stdout)
    assert {"toy_w" if order == "jme" else "toy", "toy_efficiency", "W_MD"} <= set(found)
    assert found["W_MD"].evaluate(0.0, 300.0, "nom", "0p5") == 0.9


def test_descriptions_say_what_the_jets_of_a_category_are(tmp_path: Path) -> None:
    path = tmp_path / "sf.json.gz"

    write_tagger_json(POINTS, MAPS, CUTS, path, meanings={"w": "both quarks of a W"})

    found = correctionlib.CorrectionSet.from_file(str(path))
    assert "w: both quarks of a W." in found["toy_w"].description
    assert "both quarks" not in found["toy_top"].description


def test_the_measured_range_is_that_of_each_category(tmp_path: Path) -> None:
    path = tmp_path / "sf.json.gz"
    of_w = [point("w", "tight", place) for place in (1, 2)]
    points = [*of_w, *(each for each in MISTAGS if each.pt == PTS[0])]

    write_tagger_json(points, MAPS, CUTS, path, "btv")
    both = correctionlib.CorrectionSet.from_file(str(path))["toy"].description
    write_tagger_json(points, MAPS, CUTS, path)
    own = correctionlib.CorrectionSet.from_file(str(path))["toy_w"].description

    assert "Measured for pt 300 to 800 GeV (w); 200 to 300 GeV (mistag); outside" in both
    assert "Measured for pt 300 to 800 GeV; outside" in own


def test_jets_without_a_place_are_refused() -> None:
    one = np.ones(2, np.int64)
    with pytest.raises(ValueError, match="1 of 2 jets have an eta or pt that is nan"):
        TaggedJets(one, np.array([0.5, np.nan]), np.array([250.0, 300.0]), one, one)


def test_words_of_variations_follow_the_order_of_the_file() -> None:
    assert systematic_word("nominal", ["eta", "pt"]) == "nom"
    assert systematic_word("jes_up", ["eta", "pt"]) == "jes_up"
    assert systematic_word("nominal", ["abseta"]) == "central"
    assert systematic_word("jes_up", ["abseta"]) == "up_jes"
    assert systematic_word("up", ["abseta"]) == "up"


def test_a_scale_factor_without_an_efficiency_is_refused(jme: str) -> None:
    with pytest.raises(InputError, match="both are needed"):
        TaggerWeights(("loose",), {W: FromFile(jme, "toy_w")}, {})


def test_working_points_from_tight_to_loose_are_refused(jme: str) -> None:
    efficiencies = {W: FromFile(jme, "toy_efficiency", {"category": "w"})}
    wrong = TaggerWeights(("tight", "loose"), {W: FromFile(jme, "toy_w")}, efficiencies)

    with pytest.raises(InputError, match="tight, loose of category 1: working point 2 is passed more often than 1"):
        wrong.events(jets())


def test_no_jets_at_all_leave_events_as_they_are(jme: str) -> None:
    tagger = TaggerWeights(
        ("loose",), {W: FromFile(jme, "toy_w")}, {W: FromFile(jme, "toy_efficiency", {"category": "w"})}
    )
    empty = np.zeros(0)
    none = TaggedJets(np.zeros(2, np.int64), empty, empty, empty.astype(np.int64), empty.astype(np.int64))

    assert tagger.events(none) == pytest.approx([1, 1])
