"""The whole measurement of taggers: folders of tagging runs in, corrections, tables and figures out."""

from __future__ import annotations

import csv
import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import correctionlib
import numpy as np
import pytest
from matplotlib.lines import Line2D
from tagger_histogram_toys import Toy, make_facts, make_passing, top_pairs, w_and_jets, write_run

from analysis import main
from corrections.results import Interval, Shift
from corrections.tagging import cross_check
from corrections.tagging.closure import Again, Closure, Spectrum
from corrections.tagging.counts import counts_of
from corrections.tagging.fit import BinFit, fit
from corrections.tagging.measurement import check, measure, read_inputs, templates_of, with_injected
from corrections.tagging.points import estimates_of
from corrections.tagging.results import TaggerPoint
from corrections.tagging.settings import FitSettings, TaggerMeasurementSettings, TemplateSettings
from corrections.tagging.templates import all_templates
from corrections.tagging.windows import InWindow
from processors.errors import InputError
from processors.progress import counted
from report.settings import ReportSettings
from report.sheet import Grid, Hatch, Panel, Scale
from report.style import experiment_style
from report.tagger_factors import draw_factors, draw_uncertainties, draw_windows
from report.tagger_fits import UNCERTAINTY, draw_fit, scale_of_ratio
from report.tagger_measurement import TaggerRunSettings
from report.tagger_measurement import run as measure_into

if TYPE_CHECKING:
    from pathlib import Path

TOYS = {"ttbar": top_pairs(), "wjets": w_and_jets()}
DIJETS = {"dijet": Toy({"qcd": (40_000, 20_000, 10_000)}, times=5), "ttbar": Toy({"top": (200, 100, 50)})}
ETA = Interval(0, 2)
COARSE = ["templates.pt=[200,800]", "templates.min_effective=400", "templates.min_expected=40"]


@pytest.fixture(scope="module")
def muons(tmp_path_factory: pytest.TempPathFactory) -> Path:
    passing = make_passing(TOYS, np.random.default_rng(2))
    return write_run(tmp_path_factory.mktemp("muons"), passing, make_facts(TOYS))


@pytest.fixture(scope="module")
def dijets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    passing = make_passing(DIJETS, np.random.default_rng(3))
    return write_run(tmp_path_factory.mktemp("dijets"), passing, make_facts(DIJETS, probe="dijet"))


@pytest.fixture(scope="module")
def fitted() -> BinFit:
    passing = make_passing(TOYS, np.random.default_rng(2), factors={"w": (0.8, 0.7)})
    settings = TemplateSettings(min_effective=400, min_expected=40)
    return fit(all_templates(counts_of(passing, make_facts(TOYS)), settings, FitSettings())[0], FitSettings())


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["measure", "taggers", *map(str, words), "report.formats=[png]"])
    return int(ended.value.code or 0)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.slow
def test_a_measurement_writes_corrections_tables_workspaces_and_figures(
    muons: Path, dijets: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"

    words = ("-j", 1, "windows=[[50,200]]", *COARSE)
    code = run("--input", muons, "--input", dijets, "-o", output, *words)

    assert code == 0
    corrections = correctionlib.CorrectionSet.from_file(str(output / "corrections" / "tagger_sf.json.gz"))
    assert {"toy_w", "toy_top", "toy_mistag", "toy_efficiency", "toy_wp_values"} <= set(corrections)
    points = rows_of(output / "tagger_sf.csv")
    of_w = next(row for row in points if (row["category"], row["working_point"]) == ("w", "tight"))
    assert corrections["toy_w"].evaluate(0.5, 400.0, "nom", "tight") == pytest.approx(float(of_w["value"]))
    assert float(of_w["value"]) == pytest.approx(1, abs=4 * float(of_w["total"]))
    with np.load(output / "covariance.npz") as matrices:
        totals = [float(points[row]["total"]) for row in matrices["row"]]
        assert np.sqrt(np.diagonal(matrices["covariance"])) == pytest.approx(totals, rel=1e-6)
    assert [(row["status"], row["working_points"]) for row in rows_of(output / "fits.csv")] == [("ok", "loose tight")]
    assert (output / "workspaces" / "toy_pt200to800.json").is_file()
    assert {path.name for path in (output / "plots").iterdir()} >= {
        "fit_toy_pt200to800.png",
        "scale_factors_w.png",
        "scale_factors_mistag.png",
        "mass_windows_w.png",
        "uncertainties_w.png",
    }


def test_figures_have_a_panel_for_each_working_point_and_region(fitted: BinFit) -> None:
    settings = ReportSettings(formats=("png",))
    points = [estimate.point for estimate in estimates_of(fitted, Interval(0, 2)) if estimate.point.is_measured]
    windows = [
        InWindow((50, 200), p.tagger, p.working_point, p.category, p.pt, 1.1 * p.value, p.total, p.value)
        for p in points
        if p.category == "w"
    ]

    with experiment_style(settings):
        of_fit = draw_fit(fitted, settings)
        of_factors = draw_factors("w", [p for p in points if p.category == "w"], settings)
        of_windows = draw_windows("w", windows, settings)
        of_sources = draw_uncertainties("w", [p for p in points if p.category == "w"], settings)

    titles = [text.get_text() for text in of_fit.texts if text.get_text().endswith("the fit")]
    regions = ["fail loose", "pass loose, fail tight", "pass tight"]
    assert titles == [f"{region}, {when} the fit" for when in ("before", "after") for region in regions]
    drawn = [line for line in of_fit.findobj(Line2D) if np.isfinite(np.asarray(line.get_xdata(), float)).any()]
    # a point of data in a panel and in the ratio below it, before the fit and after, or an arrow at its end
    n_bins = sum(len(region.data) for region in fitted.templates.regions)
    assert sum(len(line.get_xdata()) for line in drawn if line.get_marker() == "o") >= 4 * n_bins - 4
    assert any(line.get_color() == UNCERTAINTY.colour and len(line.get_xdata()) > 12 for line in drawn)
    (legend,) = of_fit.legends
    named = {text.get_text() for text in legend.get_texts()}
    assert named == {"top", "w", "other", "unmatched", "uncertainty", "data"}
    assert [axes.get_title(loc="right") for axes in of_factors.axes] == ["loose", "tight"]
    assert [axes.get_title(loc="right") for axes in of_windows.axes] == [
        "loose, 200 to 300 GeV",
        "tight, 200 to 300 GeV",
    ]
    assert [axes.get_title(loc="right") for axes in of_sources.axes] == ["toy loose", "toy tight"]
    told = [text.get_text() for text in of_sources.axes[0].get_legend().get_texts()]
    assert told[:2] == ["total", "data"]
    assert set(told[2:]) <= {shift.source for p in points for shift in p.shifts}
    for figure in (of_factors, of_windows):
        (low, high) = figure.axes[0].get_ylim()
        assert low < 1 < high


def test_uncertainties_are_drawn_in_each_range_of_eta_which_is_named(dijets: Path) -> None:
    found = measure(read_inputs([dijets], None), TaggerMeasurementSettings())
    points = [each.point for each in found.estimates]

    with experiment_style(ReportSettings()):
        figure = draw_uncertainties("mistag", points, ReportSettings())

    titles = [axes.get_title(loc="right") for axes in figure.axes]
    assert titles == [f"toy {name}, |η| {eta}" for eta in ("0 to 1", "1 to 2") for name in ("loose", "tight")]
    for axes, eta in zip(figure.axes, (0, 0, 1, 1), strict=True):
        (name,) = (name for name in ("loose", "tight") if name in axes.get_title(loc="right"))
        own = [each for each in points if each.eta.low == eta and each.working_point == name]
        drawn = {height for line in axes.lines for height in np.unique(line.get_ydata())}
        assert drawn >= {each.total / each.value for each in own}


def test_a_source_that_does_nothing_is_not_drawn(dijets: Path) -> None:
    found = measure(read_inputs([dijets], None), TaggerMeasurementSettings())
    points = [each.point for each in found.estimates]
    more = [replace(each, shifts=(*each.shifts, Shift("nothing", 1e-9, -1e-9))) for each in points]

    legends = [draw_uncertainties("mistag", each, ReportSettings()).axes[0].get_legend() for each in (points, more)]

    named = [{text.get_text() for text in legend.get_texts()} for legend in legends]
    assert named[0] == named[1] == {"total", "data", "jes", "jms", "template", "subtraction"}


def test_every_point_of_a_ratio_is_in_its_panel_up_to_3(fitted: BinFit) -> None:
    for region, before, after in zip(fitted.templates.regions, fitted.before, fitted.after, strict=True):
        for total in (before.sum(axis=0), after.sum(axis=0)):
            scale = scale_of_ratio(region, total)
            assert scale.low <= (region.data / total).min()
            assert (region.data / total).max() <= scale.high
            bars = region.data + np.sqrt(region.data)
            assert min((bars / total).max(), 2.0) <= scale.high
        assert scale_of_ratio(region, 0.1 * total).high == pytest.approx(3)


def test_an_injected_answer_is_compared_with_what_is_measured(
    dijets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = tmp_path / "answer.json"
    answer.write_text(json.dumps({"toy": {"loose": {"qcd": 1.3}, "tight": {"qcd": 1.2}}}))

    code = run("--input", dijets, "-o", tmp_path / "out", "--inject", answer, "-j", 1, "--order", "btv")

    assert code == 0
    known = rows_of(tmp_path / "out" / "known_answer.csv")
    assert [float(row["injected"]) for row in known] == [1.3] * 6 + [1.2] * 6
    assert np.abs([float(row["pull"]) for row in known]).max() < 3.5
    assert "known answer of toy: chi2" in capsys.readouterr().out
    corrections = correctionlib.CorrectionSet.from_file(str(tmp_path / "out" / "corrections" / "tagger_sf.json.gz"))
    assert corrections["toy"].evaluate("central", "loose", 0, 0.5, 250.0) == pytest.approx(1.3, abs=0.15)


def test_answers_that_nothing_is_compared_with_are_told(dijets: Path) -> None:
    answer = {"toy": {"loose": {"qcd": 1.1, "w": 0.9}, "tight": {"w": 0.8}}}
    inputs = with_injected(read_inputs([dijets], None), answer, 1)

    found = measure(inputs, TaggerMeasurementSettings())

    told = "known answers that no measured scale factor is compared with: toy loose w, toy tight w"
    assert found.notes == (told,)
    assert {each.point.working_point for each in found.pulls} == {"loose"}


def test_an_answer_that_is_not_found_again_ends_with_4(tmp_path: Path) -> None:
    passing = make_passing(DIJETS, np.random.default_rng(3))
    folder = write_run(tmp_path / "in", passing, make_facts(DIJETS, probe="dijet"))
    (folder / "injected_taggers.json").write_text(json.dumps({"toy": {"loose": {"qcd": 2.0}}}))

    assert run("--input", folder, "-o", tmp_path / "out", "-j", 1) == 4


def test_without_any_data_the_empty_dataset_is_named_and_the_measurement_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    passing = make_passing(DIJETS, np.random.default_rng(3))
    view: Any = passing.view(flow=True)
    for kind in ("value", "variance"):
        view[kind][-1] = 0
    folder = write_run(tmp_path / "in", passing, make_facts(DIJETS, probe="dijet"))

    assert run("--input", folder, "-o", tmp_path / "out", "-j", 1) == 1
    told = capsys.readouterr().out.splitlines()
    assert f"note: {folder}: no jets in data" in told
    assert told[-2].startswith("0 of 12 scale factors measured")
    assert told[-1].startswith("No scale factors, efficiencies of simulation and cuts alone, written: ")


def test_a_scale_factor_that_is_not_measured_again_is_told_and_ends_with_4(
    dijets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (one, other) = (TaggerPoint("scale_factor", "toy", "loose", name, Interval(200, 300), ETA) for name in ("w", "top"))
    closure = Closure((Again(one), Again(other, 1.0, 0.1)), (Spectrum("toy", 10, 100.0, 9.0),))
    monkeypatch.setattr("report.tagger_measurement.close_loop", lambda *_: closure)

    done = measure_into([dijets], tmp_path, TaggerRunSettings(report=ReportSettings(formats=("png",))), workers=1)

    assert not done.is_closed
    assert "not measured again with weights of the file: toy loose w at pt 200-300, |eta| 0-2" in done.lines
    told = "measured again with weights of the file: 1 of 2 scale factors, at most 0.00 uncertainties from 1"
    assert told in done.lines
    assert "spectra of pass and fail beside data: chi2 100 of 10 bins, with weights of the file 9" in done.lines


def test_a_loop_that_stops_leaves_the_figures_of_what_was_published(
    dijets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise InputError("a file that changed")

    monkeypatch.setattr("report.tagger_measurement.close_loop", stop)

    with pytest.raises(InputError, match="a file that changed"):
        measure_into([dijets], tmp_path, TaggerRunSettings(report=ReportSettings(formats=("png",))), workers=1)

    assert (tmp_path / "corrections" / "tagger_sf.json.gz").is_file()
    assert (tmp_path / "plots" / "scale_factors_mistag.png").is_file()


@pytest.mark.parametrize(("left", "is_closed"), [(0.45, True), (-0.45, True), (0.55, False), (-0.55, False)])
def test_what_is_left_ends_with_4_beyond_half_of_its_uncertainty_and_is_told(
    dijets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: float, *, is_closed: bool
) -> None:
    one = TaggerPoint("scale_factor", "toy", "loose", "w", Interval(200, 300), ETA)
    monkeypatch.setattr("report.tagger_measurement.close_loop", lambda *_: Closure((Again(one, 1 + 0.1 * left, 0.1),)))

    done = measure_into([dijets], tmp_path, TaggerRunSettings(report=ReportSettings(formats=("png",))), workers=1)

    assert done.is_closed == is_closed
    lines = [line for line in done.lines if line.startswith("the loop does not close: ")]
    again = f"{1 + 0.1 * left:.3f} ± 0.100 again, more than 0.5 uncertainties from 1"
    told = f"the loop does not close: toy loose w at pt 200-300, |eta| 0-2 is {again}"
    assert lines == [told] * (not is_closed)
    facts = json.loads((tmp_path / "tagger_measurement.json").read_text())
    assert facts["closure"]["left"] == [one.name] * (not is_closed)


def test_an_output_folder_that_cannot_be_made_is_refused(dijets: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(InputError, match=r"--output .*file/out cannot be written \(Not a directory\)"):
        measure_into([dijets], tmp_path / "file" / "out", TaggerRunSettings(), workers=1)


def test_the_loop_is_closed_with_mistags_and_told(dijets: Path, tmp_path: Path) -> None:
    done = measure_into([dijets], tmp_path, TaggerRunSettings(report=ReportSettings(formats=("png",))), workers=1)

    assert done.is_closed
    rows = rows_of(tmp_path / "closure.csv")
    assert len(rows) == 12
    assert [float(row["again"]) for row in rows] == pytest.approx([1] * 12)
    assert {float(row["applied"]) for row in rows} == {
        float(row["value"]) for row in rows_of(tmp_path / "tagger_sf.csv")
    }
    assert [float(row["chi2_with_weights"]) > 0 for row in rows_of(tmp_path / "closure_spectra.csv")] == [True] * 6


def test_lost_input_ends_with_3(dijets: Path, tmp_path: Path) -> None:
    toys = {"dijet": DIJETS["dijet"]}
    facts = {**make_facts(toys, ("another",), probe="dijet"), "complete": False}
    folder = write_run(tmp_path / "in", make_passing(toys, np.random.default_rng(3), ("another",)), facts)

    assert run("--input", folder, "-o", tmp_path / "out", "-j", 1) == 3
    # and so does that of one of two
    assert run("--input", dijets, "--input", folder, "-o", tmp_path / "both", "-j", 1) == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fit.fre=[w]"], "unknown key 'fit.fre'"),
        (["templates.groups={w: [z]}"], "categories are qcd, w, top"),
        (["fit.free=[tops]"], "fit.free has tops, templates.groups are top, w, other, unmatched"),
        (["fit.free=[]"], "fit.free is empty"),
        (["mistag.pt=[200,350]"], "mistag.pt must rise and use edges of the histogram"),
        (["templates.pt=[200,350]"], "templates.pt must rise and use edges of the histogram"),
        (["templates.mass=[400,500]"], "templates.mass: no bin of the histogram in [400.0, 500.0]"),
        (["windows=[[65,105],[81,83]]"], "windows: no bin of the histogram in [81.0, 83.0]"),
        (["templates.groups={w: [w], qcd: [qcd]}", "fit.free=[w,qcd]", "json.order=btv"], "has qcd, which json.order"),
        (["templates.groups={w: [w], mistag: [qcd]}", "fit.free=[w,mistag]"], "fit.free has mistag, which json.order"),
    ],
)
def test_mistakes_are_refused_in_one_line_before_anything_is_replaced(
    words: list[str], message: str, muons: Path, dijets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tagger_measurement.json").write_text("an earlier one")

    assert run("--input", dijets, "--input", muons, "-o", tmp_path, "--overwrite", "-j", 1, *words) == 2
    assert message in capsys.readouterr().err
    assert (tmp_path / "tagger_measurement.json").read_text() == "an earlier one"


def test_two_folders_of_one_kind_are_refused_before_anything_is_replaced(
    dijets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tagger_measurement.json").write_text("an earlier one")

    assert run("--input", dijets, "--input", dijets, "-o", tmp_path, "--overwrite", "-j", 1) == 2
    assert f"{dijets}: toy already has dijets from {dijets}" in capsys.readouterr().err
    assert (tmp_path / "tagger_measurement.json").read_text() == "an earlier one"


@pytest.mark.parametrize("text", ["{", "[1]", "{}", '{"taggers": {}, "datasets": [], "settings": {}, "complete": 1}'])
def test_a_damaged_description_of_a_run_is_refused_with_its_name(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tagging.json"
    path.write_text(text)

    assert run("--input", tmp_path, "-o", tmp_path / "out", "-j", 1) == 2
    assert f"{path} is not what `analysis.py tag` writes" in capsys.readouterr().err


def test_a_measurement_that_did_not_end_may_be_overwritten(
    dijets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    settings = TaggerRunSettings(report=ReportSettings(formats=("png",)))

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as changed:
        changed.setattr("report.tagger_measurement.measure", stop)
        with pytest.raises(KeyboardInterrupt):
            measure_into([dijets], output, settings, workers=1)
    assert json.loads((output / "tagger_measurement.json").read_text()) == {"is_finished": False}

    measure_into([dijets], output, settings, workers=1, overwrite=True)

    assert json.loads((output / "tagger_measurement.json").read_text())["is_finished"]


def test_a_known_answer_of_another_tagger_is_refused(
    dijets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = tmp_path / "answer.json"
    answer.write_text(json.dumps({"toys": {"loose": {"qcd": 1.1}}}))

    assert run("--input", dijets, "-o", tmp_path / "out", "--inject", answer) == 2
    assert "no working point loose of toys" in capsys.readouterr().err
    answer.write_text(json.dumps({"toy": {"loose": {"qcd": [1.1, 1.2]}}}))
    assert run("--input", dijets, "-o", tmp_path / "out", "--inject", answer) == 2
    assert "one for each of the 3 bins of pT" in capsys.readouterr().err


def test_an_answer_beside_the_histograms_that_does_not_fit_them_is_refused_with_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    passing = make_passing(DIJETS, np.random.default_rng(3))
    folder = write_run(tmp_path / "in", passing, make_facts(DIJETS, probe="dijet"))
    path = folder / "injected_taggers.json"
    path.write_text(json.dumps({"toy": {"loose": {"qcd": [1.1, 1.2]}}}))

    assert run("--input", folder, "-o", tmp_path / "out", "-j", 1) == 2
    assert f"{path}: a scale factor must be a number, or one for each of the 3" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_else_is_not_overwritten(
    dijets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")

    assert run("--input", dijets, "-o", tmp_path, "--overwrite") == 2
    assert "is not empty" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").is_file()


def test_unknown_names_in_an_answer_are_refused(dijets: Path) -> None:
    inputs = read_inputs([dijets], None)

    with pytest.raises(InputError, match="no category charm; there are qcd, w, top"):
        with_injected(inputs, {"toy": {"loose": {"charm": 1.1}}}, 1)
    with pytest.raises(InputError, match="no working point medium of toy"):
        with_injected(inputs, {"toy": {"medium": {"qcd": 1.1}}}, 1)


def test_other_cuts_of_the_same_tagger_are_refused(dijets: Path, tmp_path: Path) -> None:
    facts: dict[str, Any] = {**make_facts(DIJETS, probe="dijet"), "taggers": {"toy": {"loose": 0.4, "tight": 0.8}}}
    other = write_run(tmp_path, make_passing(DIJETS, np.random.default_rng(3)), facts)

    with pytest.raises(InputError, match="toy has the working points"):
        read_inputs([dijets, other], None)


def test_without_luminosity_the_yield_is_fitted_and_told(muons: Path, dijets: Path, tmp_path: Path) -> None:
    facts = make_facts(TOYS, lumi=None)
    folder = write_run(tmp_path / "muons", make_passing(TOYS, np.random.default_rng(2)), facts)
    settings = TaggerMeasurementSettings(templates=TemplateSettings(pt=(200, 800), min_effective=400, min_expected=40))
    found = []

    for place in (folder, muons):
        (each,) = read_inputs([place], None)
        model = cross_check.likelihood(templates_of(each, settings)[0], settings.fit)
        found.append(cross_check.minimum(model))

    assert ["norm" in each.names for each in found] == [True, False]
    # the same jets: only what is known of the yield differs
    (without, _), (known, error) = (each.value("sf_w_loose") for each in found)
    assert without == pytest.approx(known, abs=0.5 * error)
    facts = make_facts(DIJETS, lumi=None, probe="dijet")
    other = write_run(tmp_path / "dijets", make_passing(DIJETS, np.random.default_rng(3)), facts)
    assert "simulation is scaled to data" in measure(read_inputs([other], None), settings).notes[0]
    assert measure(read_inputs([dijets], None), settings).notes == ()


def test_the_luminosity_of_fits_is_not_that_of_dijets_and_a_replaced_one_is_told(muons: Path, dijets: Path) -> None:
    own, other = read_inputs([muons, dijets], None), read_inputs([muons, dijets], 10.0)

    assert other[0].counts.nominal == pytest.approx(10 * own[0].counts.nominal)
    assert other[0].notes == ("templates.lumi=10 replaces the luminosity of data, 1/fb",)
    assert np.array_equal(other[1].counts.nominal, own[1].counts.nominal)
    assert other[1].notes == own[0].notes == ()
    (of_dijets,) = read_inputs([dijets], None, 2.0)
    assert of_dijets.counts.nominal == pytest.approx(2 * own[1].counts.nominal)
    assert measure([of_dijets], TaggerMeasurementSettings()).notes == (
        f"{dijets}: mistag.lumi=2 replaces the luminosity of data, 1/fb",
    )


def test_jets_in_no_group_are_told_and_a_process_without_any_other_is_refused(muons: Path) -> None:
    inputs = read_inputs([muons], None)
    every = TemplateSettings(pt=(200, 800), min_effective=400, min_expected=40)
    without_top = {name: members for name, members in every.groups.items() if name != "top"}
    without_unmatched = {name: members for name, members in every.groups.items() if name != "unmatched"}
    some, none = (
        TaggerMeasurementSettings(templates=replace(every, groups=groups), fit=FitSettings(free=("w", "other")))
        for groups in (without_top, without_unmatched)
    )

    notes = measure(inputs, some).notes

    assert (
        notes[0]
        == f"{muons}: 0.25 of the simulated jets of ttbar, top, are in no group of templates.groups and are left out"
    )
    with pytest.raises(
        InputError, match=r"templates\.groups leave nothing of the simulation wjets, whose jets are unmatched"
    ):
        check(inputs, none)


def test_a_tagger_without_working_points_and_notes_of_the_tagging_run_do_not_stop_the_measurement(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    passing = make_passing(DIJETS, np.random.default_rng(3), taggers=("toy", "bare"))
    view: Any = passing.view(flow=True)
    for kind in ("value", "variance"):
        view[kind][:, :, 1] = 0
    facts: dict[str, Any] = make_facts(DIJETS, taggers=("toy", "bare"), probe="dijet")
    facts["taggers"]["bare"], facts["notes"] = {}, ["nothing is varied"]
    folder = write_run(tmp_path / "in", passing, facts)

    assert run("--input", folder, "-o", tmp_path / "out", "-j", 1) == 0
    told = capsys.readouterr().out.splitlines()
    assert f"note: {folder}: nothing is varied" in told
    assert f"note: {folder}: no working points of bare, which is left out" in told


def test_progress_is_told_without_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    clock = iter(range(0, 1000, 3))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))

    assert list(counted(iter("abc"), 3, "fits")) == ["a", "b", "c"]

    assert capsys.readouterr().err == "fits: 2 of 3\n"


def test_a_hatched_band_stays_within_its_bins_and_the_panel() -> None:
    sheet = Grid(columns=1, height=3.0, rows=1).sheet(1, ReportSettings(), "")
    panel = Panel(1.0, 0.5, 5.0, 2.0, Scale(0.0, 100.0), Scale(0.0, 10.0))
    edges, low, high = np.array([0.0, 20, 100]), np.array([1.0, 4]), np.array([3.0, 12])

    sheet.hatched(panel, edges, low, high, Hatch("#555555"))
    sheet.hatched(panel, edges, low * np.nan, high, Hatch("#555555"))

    (line,) = (each for each in sheet.figure().get_children() if isinstance(each, Line2D))
    x, y = (np.asarray(values, np.float64) for values in line.get_data())
    x, y = x[np.isfinite(x)], y[np.isfinite(y)]
    across, up = (x - 1.0) / 5.0 * 100, (y - 0.5) / 2.0 * 10
    for place, inside in ((0, across < 20 - 1e-6), (1, across > 20 + 1e-6)):
        assert inside.sum() > 10
        assert up[inside].min() == pytest.approx(low[place], abs=0.1)
        assert up[inside].max() == pytest.approx(min(high[place], 10.0), abs=0.1)
        assert np.all((up[inside] >= low[place] - 1e-9) & (up[inside] <= min(high[place], 10.0) + 1e-9))
    assert across.min() >= -1e-9
    assert across.max() <= 100 + 1e-9
