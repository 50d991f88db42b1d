"""The page stands alone, tells the truth in safe words, and can be made again from the output folder."""

from __future__ import annotations

import csv
import gzip
import json
import re
from typing import TYPE_CHECKING, Any

import hist
import pytest

from corrections.results import DATA, RATIO, SIMULATION, Interval, Measurement, Point
from processors.errors import InputError
from processors.histogram_files import write_histograms
from report.folder import read_cutflow, remake, roles_of, write_report
from report.settings import ReportSettings
from report.spectrum import Role

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = ReportSettings(formats=("png",), dpi=40)
EVIL = "<script>alert('x')</script>&\"quoted\""
CUTFLOW = [(EVIL, "all", 1000, 10.5), (EVIL, "two_jets", 800, 8.25)]


def measurement() -> Measurement:
    eta, pt = Interval(0.2, 0.7), Interval(40.0, 2500.0)
    points = (
        Point("scale_factor", RATIO, "AK4PF", "template", "", eta, pt, 100.0, 1.0834, 0.0123, "ok"),
        Point("residual", RATIO, "AK4PF", "mean_asymmetry", "forward", eta, pt, 100.0, 1.0, 0.0, "ok"),
    )
    return Measurement("AK4PF", points, (), (), 100, notes=(f"a note {EVIL}",))


def run() -> dict[str, Any]:
    return {
        "command": ["python", "analysis.py", f"--fileset={EVIL}"],
        "complete": True,
        "events": 1000,
        "versions": {"coffea": "2026.9.0"},
        "seconds": {"fill": 1.25},
        "datasets": [{"name": EVIL, "is_mc": True, "role": "nominal", "label": EVIL}],
        "lost": [],
        "excluded": {EVIL: {"jets with non-finite pt": 3}},
        "notes": ["thin statistics"],
    }


@pytest.fixture
def histograms() -> dict[str, hist.Hist[Any]]:
    spectrum: hist.Hist[Any] = hist.Hist(
        hist.axis.StrCategory([EVIL], name="dataset", flow=False),
        hist.axis.Variable([20.0, 50.0, 100.0], name="pt_avg", flow=False),
        storage=hist.storage.Weight(),
    )
    spectrum.fill(EVIL, [30.0, 60.0])
    return {"spectrum": spectrum}


@pytest.fixture
def folder(tmp_path: Path, histograms: dict[str, hist.Hist[Any]]) -> Path:
    """An output folder as a run leaves it."""
    write_histograms(histograms, tmp_path)
    (tmp_path / "run.json").write_text(json.dumps(run()))
    with (tmp_path / "cutflow.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("dataset", "step", "events", "weighted"), *CUTFLOW])
    (tmp_path / "corrections").mkdir()
    corrections = {
        "corrections": [{"name": "Dijet_MC_ScaleFactor_AK4PF", "description": f"factor {EVIL}"}],
        "compound_corrections": [{"name": "Dijet_DATA_L1L2L3Res_AK4PF"}],
    }
    (tmp_path / "corrections" / "jet_jerc.json.gz").write_bytes(gzip.compress(json.dumps(corrections).encode()))
    write_report(tmp_path, run(), [measurement()], histograms, CUTFLOW, SETTINGS)
    return tmp_path


def page_of(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


def test_the_page_loads_nothing(folder: Path) -> None:
    page = page_of(folder)

    sources = re.findall(r"""(?:src|srcset)\s*=\s*["']?([^"'\s>]{0,30})""", page)
    assert sources
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert not re.search(r"<(script|link|iframe|object|embed)\b|@import|url\(|https?://", page)


def test_links_stay_in_the_folder(folder: Path) -> None:
    targets = [target for target in re.findall(r'href="([^"]*)"', page_of(folder)) if not target.startswith("#")]

    assert targets
    assert all((folder / target).is_file() for target in targets)


def test_anchors_exist(folder: Path) -> None:
    page = page_of(folder)

    for target in re.findall(r'href="#([^"]*)"', page):
        assert f'id="{target}"' in page


def test_what_users_wrote_is_escaped_everywhere(folder: Path) -> None:
    page = page_of(folder)

    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;") > 5


def test_the_page_shows_numbers_cutflow_corrections_and_notes(folder: Path) -> None:
    page = page_of(folder)

    for expected in (
        "1.083 ± 0.012",
        "two jets",
        "80 %",
        "Dijet_MC_ScaleFactor_AK4PF",
        "Dijet_DATA_L1L2L3Res_AK4PF",
        "corrections/jet_jerc.json.gz",
        "thin statistics",
        "coffea 2026.9.0",
        "fill 1.2",
        "jets with non-finite pt",
    ):
        assert expected in page


def test_the_page_is_well_formed(folder: Path) -> None:
    from html.parser import HTMLParser

    empty = {"meta", "img", "br"}

    class Checker(HTMLParser):
        open_tags: list[str] = []  # noqa: RUF012

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
            if tag not in empty:
                self.open_tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open_tags.pop() == tag

    checker = Checker()
    checker.feed(page_of(folder))

    assert checker.open_tags == []


def test_a_remade_page_is_the_same(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for path in [*folder.glob("plots/*"), folder / "report.html"]:
        path.unlink()

    remake(folder, SETTINGS)

    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_page_without_pictures_names_the_files(folder: Path, histograms: dict[str, hist.Hist[Any]]) -> None:
    write_report(folder, run(), [measurement()], histograms, CUTFLOW, ReportSettings(formats=("pdf",)))

    assert "<img" not in page_of(folder)
    assert 'href="plots/scale_factor_AK4PF.pdf"' in page_of(folder)


def test_an_empty_run_has_a_page(tmp_path: Path) -> None:
    write_report(tmp_path, {}, [], {}, [], SETTINGS)

    assert "nothing measured" in page_of(tmp_path)


def test_lost_input_is_the_first_thing_a_reader_sees(tmp_path: Path) -> None:
    lost = {"dataset": "data", "file": "x.root", "start": 0, "stop": 10, "reason": "truncated"}

    write_report(tmp_path, {"complete": False, "lost": [lost]}, [measurement()], {}, [], SETTINGS)

    page = page_of(tmp_path)
    assert 'class="verdict bad"' in page
    assert "truncated" in page


def test_roles_come_from_the_datasets_of_the_run() -> None:
    datasets = [
        {"name": "slice1", "is_mc": True, "normalisation": 0.5},
        {"name": "other", "is_mc": True, "role": "alternative", "process": "Herwig"},
        {"name": "jets", "is_mc": False, "role": None, "skim": "half was left out"},
    ]

    assert roles_of({"datasets": datasets}) == {
        "slice1": Role(SIMULATION, 0.5),
        "other": Role("Herwig"),
        "jets": Role(DATA, skim="half was left out"),
    }


@pytest.mark.parametrize("missing", ["run.json", "cutflow.csv", "histograms.zip", "measurement.json.gz"])
def test_a_missing_file_is_named(folder: Path, missing: str) -> None:
    (folder / missing).unlink()

    with pytest.raises(InputError, match=re.escape(missing)):
        remake(folder, SETTINGS)


def test_a_damaged_run_record_is_named(folder: Path) -> None:
    (folder / "run.json").write_text("{")

    with pytest.raises(InputError, match=r"run\.json is not JSON"):
        remake(folder, SETTINGS)


def test_a_cutflow_without_its_columns_is_named(tmp_path: Path) -> None:
    (tmp_path / "cutflow.csv").write_text("dataset,step,events\n")

    with pytest.raises(InputError, match="lacks the columns weighted"):
        read_cutflow(tmp_path)
