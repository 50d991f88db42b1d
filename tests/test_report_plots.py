"""Figures are drawn of everything that can come out of a measurement, and never more than asked for."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import hist
import numpy as np
import pytest
from scipy.stats import norm

from corrections.results import (
    AGAIN,
    DATA,
    RATIO,
    SIMULATION,
    AsymmetryFit,
    Check,
    Interval,
    Measurement,
    Point,
    ResolutionCurve,
    Shift,
)
from report import asymmetry, before_after, scale_factor, uncertainty
from report.closure import by_method, spread
from report.figures import Drawing, file_name
from report.plots import default_set, draw_all, plan
from report.settings import ReportSettings
from report.sheet import Scale, number
from report.spectrum import Role, normalised, total
from report.style import experiment_style, png

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from corrections.results import Quantity, Status
    from report.figures import Figure

ETA = (Interval(0.2, 0.7), Interval(0.7, 1.3))
PT = (Interval(40.0, 65.0), Interval(65.0, 110.0), Interval(110.0, 190.0))
SQUARES = (9.0, 0.64, 0.0025)
EDGES = np.linspace(-2, 2, 201)
PNG = ReportSettings(formats=("png",), dpi=40)
ROLES = {"qcd": Role(SIMULATION), "jets": Role(DATA)}
CUTFLOW = [("qcd", "all", 1000, 10.0), ("qcd", "two_jets", 800, 8.0), ("jets", "all", 0, 0.0)]


def toy(events: float = 1e4, algo: str = "AK4PF") -> Measurement:
    """Gaussian asymmetries of known width, a scale factor of 1.1, both regions in the second |eta| bin."""
    points: list[Point] = []
    fits: list[AsymmetryFit] = []
    for i, eta in enumerate(ETA):
        for dataset, factor in ((SIMULATION, 1.0), (DATA, 1.1)):
            for pt in PT:
                mean = math.sqrt(pt.low * pt.high)
                jer = factor * math.sqrt(SQUARES[0] / mean**2 + SQUARES[1] / mean + SQUARES[2])
                for region in ("standard", "forward")[: i + 1]:
                    points.append(point("jer", dataset, jer, eta, pt, region, algo))
                    fits.append(gaussian(dataset, region, eta, pt, jer * math.sqrt(2), events))
                points.append(point("response", dataset, 2 - factor, eta, pt, "forward", algo))
                if dataset == SIMULATION:
                    points.append(point("jer_truth", dataset, jer, eta, pt, "", algo))
        whole = Interval(40.0, 190.0)
        points += [
            point("scale_factor", RATIO, 1.1, eta, whole, "", algo),
            point("residual", RATIO, 1.02, eta, whole, "", algo),
        ]
    covariance = np.diag([1.0, 1e-3, 1e-6])
    curves = tuple(
        ResolutionCurve(SIMULATION, algo, eta, SQUARES, covariance, Interval(50.0, 150.0), 1.0, 0, "ok") for eta in ETA
    )
    return Measurement(algo, tuple(points), curves, tuple(fits), 0)


def point(quantity: Quantity, dataset: str, value: float, eta: Interval, pt: Interval, region: str, algo: str) -> Point:
    mean = math.sqrt(pt.low * pt.high)
    return Point(quantity, dataset, algo, "template", region, eta, pt, mean, value, 0.01 * value, "ok")


def gaussian(dataset: str, region: str, eta: Interval, pt: Interval, sigma: float, events: float) -> AsymmetryFit:
    n = np.round(events * np.diff(norm.cdf(EDGES, 0, sigma)))
    template = events * np.diff(norm.cdf(EDGES, 0, 0.04))
    window = Interval(-2.5 * sigma, 2.5 * sigma)
    return AsymmetryFit(
        dataset, region, eta, pt, EDGES, n, n, template, n, window, sigma, 0.001, 0.0, 30.0, 30, "ok"
    )  # fmt: skip


def complete(measurement: Measurement) -> Measurement:
    """The same with other methods, systematic sources, both regions combined, and the loop closed."""
    points: list[Point] = []
    for p in measurement.points:
        if p.quantity in ("scale_factor", "residual"):
            shifts = (Shift("jes", 0.01, -0.02), Shift("width", 0.03, 0.0))
            again: Quantity = "scale_factor_again" if p.quantity == "scale_factor" else "residual_again"
            points += [
                replace(p, shifts=shifts),
                replace(p, method="bisector", value=1.1 * p.value),
                replace(p, method="mpfx", value=0.95 * p.value),
                replace(p, quantity=again, value=1.001, stat=0.01),
            ]
        elif p.quantity == "jer" and p.region == "forward":
            points += [p, replace(p, region="combined", stat=p.stat / 2)]
        else:
            points.append(p)
    check = Check(AGAIN["scale_factor_again"], Interval(0.2, 1.3), 0.02, 2)
    return replace(measurement, points=tuple(points), checks=(check,))


def in_pt(measurement: Measurement) -> Measurement:
    """The same with scale factors and residuals in bins of pT, known best in the middle."""
    points: list[Point] = []
    for p in measurement.points:
        if p.quantity in ("scale_factor", "residual"):
            for i, pt in enumerate(PT):
                mean, stat = math.sqrt(pt.low * pt.high), p.stat * (1 + abs(i - 1))
                points.append(replace(p, pt=pt, pt_mean=mean, value=p.value + 0.01 * i, stat=stat))
        else:
            points.append(p)
    return replace(measurement, points=tuple(points))


def unmeasured(measurement: Measurement, status: Status) -> Measurement:
    """The same places, and nothing in them."""
    nan, nothing = math.nan, Interval(math.nan, math.nan)
    empty = np.zeros(len(EDGES) - 1)
    return replace(
        measurement,
        points=tuple(replace(p, value=nan, stat=nan, status=status) for p in measurement.points),
        curves=tuple(
            replace(c, squares=(nan,) * 3, covariance=np.full((3, 3), nan), pt_range=nothing, chi2=nan, status=status)
            for c in measurement.curves
        ),
        fits=tuple(
            replace(f, sigma=nan, sigma_error=nan, chi2=nan, model=empty, template=empty, window=nothing, status=status)
            for f in measurement.fits
        ),
    )


def of_dataset(measurement: Measurement, dataset: str) -> Measurement:
    return replace(
        measurement,
        points=tuple(p for p in measurement.points if p.dataset == dataset),
        curves=tuple(c for c in measurement.curves if c.dataset == dataset),
        fits=tuple(f for f in measurement.fits if f.dataset == dataset),
    )


@pytest.fixture(scope="module")
def spectrum() -> Mapping[str, hist.Hist[Any]]:
    histogram: hist.Hist[Any] = hist.Hist(
        hist.axis.StrCategory(["qcd", "jets"], name="dataset", flow=False),
        hist.axis.Variable([20, 50, 100, 200, 400], name="pt_avg", flow=False),
        storage=hist.storage.Weight(),
    )
    histogram.fill("qcd", [30, 60, 60, 150], weight=[8.0, 1.0, 3.0, 1.0])
    histogram.fill("jets", [60, 60, 150], weight=2.0)
    return {"spectrum": histogram}


def drawn(tmp_path: Path, measurement: Measurement, settings: ReportSettings = PNG, **more: Any) -> tuple[Figure, ...]:
    figures = draw_all([measurement], more.pop("histograms", {}), more.pop("cutflow", []), settings, tmp_path, **more)
    for figure in figures:
        for path in figure.paths:
            assert (tmp_path / path).stat().st_size > 1000
    return figures


def test_the_default_set_has_every_kind_of_figure_in_every_format(
    tmp_path: Path, spectrum: Mapping[str, hist.Hist[Any]]
) -> None:
    figures = drawn(tmp_path, toy(), ReportSettings(), histograms=spectrum, cutflow=CUTFLOW, roles=ROLES)

    assert [figure.name for figure in figures] == [
        "scale_factor_AK4PF",
        "residual_AK4PF",
        "resolution_AK4PF_eta_0.2_1.3",
        "closure_AK4PF_eta_0.2_1.3",
        "cutflow",
        "spectrum",
        "asymmetry_AK4PF_eta_0.2_0.7_standard",
        "asymmetry_AK4PF_eta_0.7_1.3_standard",
    ]
    assert {path.suffix for path in (tmp_path / "plots").iterdir()} == {".png", ".pdf"}
    assert all(figure.title and figure.caption for figure in figures)


def test_everything_that_was_measured_has_its_figure(tmp_path: Path) -> None:
    names = [figure.name for figure in drawn(tmp_path, complete(toy()))]

    assert names[:7] == [
        "scale_factor_AK4PF",
        "residual_AK4PF",
        "uncertainty_scale_factor_AK4PF",
        "uncertainty_residual_AK4PF",
        "methods_scale_factor_AK4PF",
        "methods_residual_AK4PF",
        "loop_AK4PF",
    ]


def test_values_that_depend_on_pt_are_drawn(tmp_path: Path) -> None:
    figures = drawn(tmp_path, in_pt(complete(toy())), replace(PNG, plots="all"))

    assert "known best" in figures[0].caption


@pytest.mark.parametrize("status", ["few_events", "not_converged"])
def test_methods_and_loop_without_any_number_are_drawn(tmp_path: Path, status: Status) -> None:
    names = {figure.name for figure in drawn(tmp_path, unmeasured(complete(toy()), status))}

    assert {"methods_scale_factor_AK4PF", "loop_AK4PF"} <= names
    assert "uncertainty_scale_factor_AK4PF" not in names


def test_a_loop_closed_for_the_scale_factor_alone_is_drawn(tmp_path: Path) -> None:
    measurement = complete(toy())
    points = tuple(p for p in measurement.points if p.quantity != "residual_again")

    assert "loop_AK4PF" in {figure.name for figure in drawn(tmp_path, replace(measurement, points=points))}


def test_the_caption_of_the_sources_names_those_that_were_not_evaluated() -> None:
    (drawing, _) = uncertainty.drawings(complete(toy()))

    assert "Not evaluated: pile-up weights, Δφ cut" in drawing.caption


def test_where_a_value_depends_on_pt_the_best_known_one_is_shown() -> None:
    ((_, points),) = scale_factor.series(in_pt(toy()), "scale_factor")

    assert [p.pt for p in points] == [PT[1], PT[1]]
    assert [p.value for p in points] == pytest.approx([1.11, 1.11])


def test_methods_are_compared_at_the_pt_of_the_published_one() -> None:
    found = by_method(in_pt(complete(toy())), "scale_factor", ETA[0])

    assert {p.pt for p in found.values()} == {PT[1]}
    # 1, 1.1 and 0.95 times 1.1, and 0.01 more: RMS about the mean relative to the first
    values = np.array([1.11, 1.22, 1.055])
    assert spread(found.values()) == pytest.approx(np.sqrt(np.mean((values - values.mean()) ** 2)) / 1.11)


def test_a_pull_counts_what_varies_inside_a_bin_as_doubt() -> None:
    p = point("scale_factor", RATIO, 1.1, Interval(0.0, 1.0), Interval(40.0, 190.0), "", "AK4PF")

    # half the bin at 1.0 and half at 1.2: mean 1.1, doubt 0.1/sqrt(2)
    assert scale_factor.pull(replace(p, value=1.2), [(0.0, 0.5, 1.0), (0.5, 5.0, 1.2)]) == pytest.approx(
        0.1 / math.hypot(0.011, 0.1 / math.sqrt(2))
    )
    assert math.isnan(scale_factor.pull(replace(p, stat=0.0), [(0.0, 5.0, 1.0)]))


def test_points_of_other_methods_do_not_hide_the_published_one() -> None:
    assert scale_factor.places(1) == [0.5]
    assert scale_factor.places(3) == [0.5, pytest.approx(1 / 3), pytest.approx(2 / 3)]
    assert 0.5 not in scale_factor.places(4)[1:]


def test_the_cutflow_tells_what_was_skimmed_before() -> None:
    roles = {CUTFLOW[0][0]: Role("data", 1.0, "of 9 events 5 were kept")}

    (drawing,) = plan([], {}, CUTFLOW, PNG, roles=roles)

    assert drawing.caption.endswith(f" Before, {CUTFLOW[0][0]} was skimmed: of 9 events 5 were kept.")


def test_all_figures_include_the_other_region_and_the_response(tmp_path: Path) -> None:
    names = {figure.name for figure in drawn(tmp_path, toy(), replace(PNG, plots="all"))}

    assert {"asymmetry_AK4PF_eta_0.7_1.3_forward", "response_AK4PF_eta_0.2_1.3"} <= names


def test_the_default_set_is_never_longer_than_thirty_figures() -> None:
    measurement = toy()
    many = [
        replace(fit, eta=Interval(0.1 * i, 0.1 * (i + 1)))
        for i in range(45)
        for fit in measurement.fits
        if fit.eta == ETA[0]
    ]

    drawings = plan([replace(measurement, fits=tuple(many))], {}, CUTFLOW, PNG, roles={})

    assert len(drawings) == 30
    assert len({drawing.name for drawing in drawings}) == 30


def test_figures_left_out_are_spread_over_the_range() -> None:
    def drawing(i: int) -> Drawing:
        return Drawing(str(i), "", "", "", asymmetry.draw, (), need="default")

    chosen = default_set([drawing(i) for i in range(9)], limit=3)

    assert [each.name for each in chosen] == ["1", "4", "7"]


@pytest.mark.parametrize("style", ["ATLAS", "CMS"])
@pytest.mark.parametrize("scale", ["log", "linear"])
def test_both_styles_and_both_scales_are_drawn(tmp_path: Path, style: Any, scale: Any) -> None:
    settings = replace(PNG, style=style, asymmetry_scale=scale, com=13.6, lumi=34.7, label="Open data")

    assert drawn(tmp_path, toy(), settings)


@pytest.mark.parametrize("status", ["few_events", "not_converged", "no_truth"])
def test_a_measurement_without_any_number_is_drawn(tmp_path: Path, status: Status) -> None:
    assert drawn(tmp_path, unmeasured(toy(), status), replace(PNG, plots="all"))


@pytest.mark.parametrize("dataset", [SIMULATION, DATA])
def test_one_of_data_and_simulation_is_enough(
    tmp_path: Path, dataset: str, spectrum: Mapping[str, hist.Hist[Any]]
) -> None:
    roles = {name: role for name, role in ROLES.items() if role.kind == dataset}

    assert drawn(tmp_path, of_dataset(toy(), dataset), replace(PNG, plots="all"), histograms=spectrum, roles=roles)


def test_nothing_measured_gives_no_figure(tmp_path: Path) -> None:
    assert drawn(tmp_path, Measurement("AK4PF", (), (), (), 0)) == ()


def test_single_events_and_negative_weights_are_drawn(tmp_path: Path) -> None:
    measurement = toy()
    single, spike = measurement.fits[0], np.zeros(len(EDGES) - 1)
    spike[100] = 1.0
    fits = (
        replace(single, counts=spike, variances=spike, status="few_events", sigma=math.nan),
        replace(single, counts=-single.counts, pt=PT[1]),
        replace(single, counts=spike - spike[::-1], pt=PT[2]),
    )

    assert drawn(tmp_path, Measurement("AK4PF", (), (), fits, 0))


def test_injected_truth_of_other_bins_is_drawn(tmp_path: Path) -> None:
    injected = {"scale_factor": [(0.0, 0.5, 1.05), (0.5, 5.2, 1.1)], "residual": [(0.0, 5.2, 1.02)]}

    figures = drawn(tmp_path, toy(), injected=injected)

    assert "truth" in figures[0].caption


def test_names_with_signs_of_tex_and_of_paths_are_drawn_as_they_are(tmp_path: Path) -> None:
    figures = drawn(tmp_path, toy(algo="AK4/$x_{$"), cutflow=[("a$b_$^{", "all", 5, 5.0)])

    assert figures[0].name == "scale_factor_AK4--x_--"


def test_a_process_pool_may_draw(tmp_path: Path) -> None:
    """Drawings and figures are pickled on the way."""
    import pickle

    def through_pickle(function: Any, items: Any) -> list[Any]:
        function = pickle.loads(pickle.dumps(function))
        return [pickle.loads(pickle.dumps(function(pickle.loads(pickle.dumps(item))))) for item in items]

    assert drawn(tmp_path, toy(), cutflow=CUTFLOW, parallel_map=through_pickle)


def test_the_same_figure_gives_the_same_bytes(tmp_path: Path) -> None:
    settings = ReportSettings(formats=("png", "pdf"))
    for folder in ("first", "second"):
        drawn(tmp_path / folder, Measurement("AK4PF", toy().points[-2:], (), (), 0), settings)

    for path in (tmp_path / "first" / "plots").iterdir():
        assert (tmp_path / "second" / "plots" / path.name).read_bytes() == path.read_bytes()


def test_a_png_keeps_white_white() -> None:
    from io import BytesIO

    from PIL import Image

    (drawing,) = plan([Measurement("AK4PF", toy().points[-2:-1], (), (), 0)], {}, [], PNG, roles={})
    with experiment_style(PNG):
        image = Image.open(BytesIO(png(drawing.canvas(PNG), 50)))

    assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)


def test_matplotlib_is_left_as_it_was(tmp_path: Path) -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)

    drawn(tmp_path, toy(), replace(PNG, style="CMS"))

    assert dict(mpl.rcParams) == before


def test_distributions_have_unit_area_whatever_the_merging() -> None:
    fit = toy().fits[0]

    for merge in (1, 4, 5):
        density = asymmetry.Density.of(fit, merge)
        assert (density.counts * np.diff(density.edges)).sum() == pytest.approx(1)


def test_wide_distributions_are_merged_and_narrow_ones_are_not() -> None:
    # bins of 0.02; 0.4 sigma is 0.104 and 0.02
    assert asymmetry.rebinning([gaussian(DATA, "", ETA[0], PT[0], 0.26, 1e4)]) == 5
    assert asymmetry.rebinning([gaussian(DATA, "", ETA[0], PT[0], 0.05, 1e4)]) == 1


def test_the_region_with_the_better_resolution_is_the_main_one() -> None:
    measurement = toy()
    worse = tuple(replace(p, stat=p.stat * 3) if p.region == "standard" else p for p in measurement.points)

    assert asymmetry.main_region(replace(measurement, points=worse), ETA[1]) == "forward"


def test_simulation_is_scaled_to_the_area_where_data_have_events(spectrum: Mapping[str, hist.Hist[Any]]) -> None:
    histogram = spectrum["spectrum"]
    data, simulation = total(histogram, ROLES, DATA), total(histogram, ROLES, SIMULATION)
    assert data is not None
    assert simulation is not None

    got = normalised(simulation, data, np.array([20.0, 50, 100, 200, 400]))

    # Data have 6 above 50 GeV, simulation 5: the 8 below do not count. Values are per GeV.
    np.testing.assert_allclose(got.values, np.array([8 / 30, 4 / 50, 1 / 100, 0]) * 6 / 5)


def test_slices_of_simulation_are_added_with_their_normalisation(spectrum: Mapping[str, hist.Hist[Any]]) -> None:
    got = total(spectrum["spectrum"], {"qcd": Role(SIMULATION, 0.5), "jets": Role(SIMULATION, 2.0)}, SIMULATION)

    assert got is not None
    np.testing.assert_allclose(got.values * [30, 50, 100, 200], [4, 0.5 * 4 + 2 * 4, 0.5 + 4, 0])
    np.testing.assert_allclose(got.errors[2] * 100, math.sqrt(0.25 * 1 + 4 * 4))


def test_ticks_of_pt_are_numbers_in_gev() -> None:
    assert Scale.of_pt(36, 200).labelled == [50, 100, 200]


def test_logarithmic_ticks_are_powers_of_ten() -> None:
    assert Scale(0.05, 20, log=True).labelled == pytest.approx([0.1, 1, 10])
    assert Scale(0.5, 5, log=True).unlabelled == pytest.approx([0.5, 0.6, 0.7, 0.8, 0.9, 2, 3, 4, 5])


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.0, "0"), (-0.5, "−0.5"), (150000, "150000"), (1e-5, "10⁻⁵"), (2.5e7, "2.5×10⁷")],  # noqa: RUF001
)
def test_numbers_on_axes_are_short(value: float, expected: str) -> None:
    assert number(value) == expected


def test_file_names_are_safe() -> None:
    assert file_name("asymmetry", "AK4/CHS jets", "", "eta_0_0.2") == "asymmetry_AK4-CHS-jets_eta_0_0.2"


@pytest.mark.parametrize(
    ("setting", "match"),
    [
        ({"style": "LHCb"}, "ATLAS, CMS"),
        ({"plots": "some"}, "default, all"),
        ({"formats": ("gif",)}, "png, pdf, svg"),
        ({"asymmetry_scale": "sqrt"}, "log, linear"),
    ],
)
def test_unknown_settings_are_refused_with_the_choices(setting: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        ReportSettings(**setting)


def test_jets_with_a_network_are_divided_by_those_without_it(tmp_path: Path) -> None:
    plain, network = toy(), toy(algo="AK4PFDeepSets")
    narrower = tuple(
        replace(p, value=0.8 * p.value, stat=0.8 * p.stat) if p.quantity in ("jer", "jer_truth") else p
        for p in network.points
    )
    after = replace(network, points=narrower)
    for found in before_after.ratios(plain, after, ETA[0]).values():
        assert [ratio.value for ratio in found] == pytest.approx([0.8] * len(found))
    assert any(before_after.ratios(plain, after, ETA[0]).values())
    assert before_after.drawings([plain]) == []
    (drawing,) = before_after.drawings([plain, after])
    assert drawing.name.startswith("network_AK4PFDeepSets")
    figures = draw_all([plain, after], {}, [], PNG, tmp_path)
    assert (tmp_path / figures[0].paths[0]).is_file()
    assert figures[0].name == drawing.name
