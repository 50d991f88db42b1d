from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import awkward as ak
import correctionlib
import numpy as np
import onnx
import pytest
import uproot
from large_jet_toys import QCD_EVENT, TOP_EVENT, write_large_jets
from onnx import TensorProto, helper

import analysis
from samples.toy import write_toy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parent.parent
CONSTITUENTS = ROOT / "samples" / "bundled" / "constituents"
LIGHT = (
    *("--replicas", "0", "--chunksize", "2000", "report.formats=[png]", "report.dpi=30"),
    *("binning.eta=[0, 1.3, 2.5, 4.5]", "binning.reference=[0, 1.3]"),
)
QUICK = ("--executor", "iterative", *LIGHT)


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("sample"), 20_000, seed=3).folder


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for number, handler in handlers.items():
        signal.signal(number, handler)


def call(*words: object) -> int:
    """Exit code of the command line."""
    with pytest.raises(SystemExit) as caught:
        analysis.main([str(word) for word in words])
    return int(caught.value.code or 0)


def refusal(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The one line with which the command line is refused."""
    assert call(*words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


@pytest.mark.usefixtures("work")
class TestWords:
    @pytest.mark.parametrize("words", [("--help",), ("-h",), ("run", "--help"), ("check", "--help"), ("--version",)])
    def test_help_and_version_end_well(self, words: tuple[str, ...]) -> None:
        assert call(*words) == 0

    def test_help_shows_the_options_of_the_default_command(self, capsys: pytest.CaptureFixture[str]) -> None:
        call("--help")
        assert "--executor" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("words", "expected"),
        [
            ([], ["run"]),
            (["--executor", "futures"], ["run", "--executor", "futures"]),
            (["selection.min_delta_phi=2.9"], ["run", "selection.min_delta_phi=2.9"]),
            (["-j", "2", "run", "a.b=c"], ["run", "-j", "2", "a.b=c"]),
            (["--config", "run.yaml", "check", "f.json"], ["check", "--config", "run.yaml", "f.json"]),
            (["doctor"], ["doctor"]),
        ],
    )
    def test_first_word_without_equals_is_the_command(self, words: list[str], expected: list[str]) -> None:
        assert analysis.cli._with_command(words) == expected

    def test_unknown_command_gets_a_suggestion(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert refusal(capsys, "generat", "--events", 3) == (
            "analysis.py: no command 'generat'; did you mean 'generate'?"
        )

    def test_unknown_option_gets_a_suggestion(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert "--workers" in refusal(capsys, "--worker", 2)

    def test_unknown_key_gets_a_suggestion(self, sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
        told = refusal(capsys, "--fileset", sample / "fileset.json", "selection.min_delta_fi=2")
        assert "unknown key 'selection.min_delta_fi'; did you mean 'selection.min_delta_phi'" in told

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ("selection.min_delta_phi=7", "selection.min_delta_phi is an angle"),
            ("execution.workers=0", "execution.workers must be at least 1"),
            ("replicas=many", "replicas: input should be a valid integer"),
            ("replicas=-1", "replicas must be at least 0"),
            ("binning=3", "binning: expected a section with keys of its own, got 3"),
            ("binning.eta=wide", "binning.eta: expected a list, got 'wide'"),
            ("=3", "is not of the form section.key=value"),
            ("calibration.file=none.json", "calibration.file"),
        ],
    )
    def test_a_value_that_cannot_be_is_refused_with_its_place(
        self, sample: Path, capsys: pytest.CaptureFixture[str], change: str, told: str
    ) -> None:
        assert told in refusal(capsys, "--fileset", sample / "fileset.json", change)


class TestFiles:
    def test_missing_fileset_is_refused(self, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert "none.json" in refusal(capsys, "--fileset", work / "none.json")

    def test_every_missing_file_is_told_at_once(self, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
        files = {"files": {"a.root": "Events", "b.root": "Events"}, "metadata": {"is_mc": True}}
        (work / "fileset.json").write_text(json.dumps({"simulation": files}))
        assert call("--fileset", work / "fileset.json") == 2
        lines = capsys.readouterr().err.splitlines()
        assert [line.partition("no such file")[0][-9:-2] for line in lines] == ["/a.root", "/b.root"]
        assert not (work / "output").exists()

    def test_a_key_given_twice_is_refused(self, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (work / "c.yaml").write_text("replicas: 1\nreplicas: 2\n")
        assert "given twice" in refusal(capsys, "--config", work / "c.yaml")

    def test_a_folder_in_use_is_refused(self, work: Path, sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (work / "used").mkdir()
        (work / "used" / "thesis.tex").touch()
        words = ("--fileset", sample / "fileset.json", "-o", work / "used")
        assert "is not empty" in refusal(capsys, *words)
        assert "something else in it than a run" in refusal(capsys, *words, "--overwrite")
        assert (work / "used" / "thesis.tex").exists()

    def test_a_variant_is_chosen_of_a_study_only(self, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (work / "table.parquet").touch()

        line = refusal(capsys, "train", "calibration", "--table", "table.parquet", "-o", "out", "--only", "mixture")

        assert "--only chooses variants of the study; add --study" in line
        assert not (work / "out").exists()

    def test_check_tells_what_a_run_would_read(self, sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert call("check", sample / "fileset.json") == 0
        assert "simulation.root, Events (nanoaod), 20,000 events" in capsys.readouterr().out

    def test_check_refuses_a_broken_correction_set(self, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (work / "c.json").write_text('{"schema_version": 2, "corrections": [{"name": "a"}]}')
        assert "not a correction set" in refusal(capsys, "check", work / "c.json")

    @pytest.mark.usefixtures("work")
    def test_doctor_finds_what_a_run_needs(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert call("doctor") == 0
        assert "BAD" not in capsys.readouterr().out


@pytest.fixture(scope="session")
def run_folder(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "output"
    assert call("--fileset", sample / "fileset.json", "-o", folder, *QUICK) == 0
    return folder


def facts_of(folder: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return facts


class TestRun:
    def test_everything_promised_is_there(self, run_folder: Path) -> None:
        names = (
            "histograms.root histograms.zip corrections/jet_jerc.json.gz resolution.csv cutflow.csv run.json "
            "failed.json run.log report.html"
        )
        assert [name for name in names.split() if not (run_folder / name).is_file()] == []
        assert list((run_folder / "plots").glob("*.png"))
        assert not (run_folder / ".chunks").exists()

    def test_every_planned_event_is_accounted_for(self, run_folder: Path) -> None:
        facts = facts_of(run_folder)
        assert facts["complete"]
        assert facts["events"] == sum(file["entries"] for file in facts["inputs"])
        assert json.loads((run_folder / "failed.json").read_text()) == []

    def test_the_corrections_keep_their_promises(self, run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert call("check", run_folder / "corrections" / "jet_jerc.json.gz") == 0
        assert "MC_ScaleFactor_AK4PF(JetEta, JetPt, systematic)" in capsys.readouterr().out

    def test_the_report_is_made_again_from_the_folder_alone(self, run_folder: Path, work: Path) -> None:
        copy = shutil.copytree(run_folder, work / "copy")
        shutil.rmtree(copy / "plots")
        (copy / "report.html").unlink()
        assert call("report", copy, "report.formats=[png]", "report.dpi=30", "execution.workers=1") == 0
        assert (copy / "report.html").is_file()
        assert list((copy / "plots").glob("*.png"))

    def test_without_output_the_latest_run_has_a_link(self, work: Path, sample: Path) -> None:
        words = ("--fileset", sample / "fileset.json", "--maxchunks", 1, *QUICK)
        assert call(*words) == 0
        assert (work / "output" / "latest" / "run.json").is_file()
        assert (work / "output" / "latest").resolve().parent == work / "output"

    def test_lost_input_is_told_and_the_rest_is_written(
        self, work: Path, sample: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        damaged = write_toy(work / "damaged", 5000, seed=4).folder / "simulation.root"
        content = bytearray(damaged.read_bytes())
        content[len(content) // 3 : len(content) // 2] = bytes(len(content) // 2 - len(content) // 3)
        damaged.write_bytes(content)
        fileset = json.loads((sample / "fileset.json").read_text())
        for name, dataset in fileset.items():
            dataset["files"] = {str(sample / f"{name}.root"): "Events"}
        fileset["simulation"]["files"][str(damaged)] = "Events"
        (work / "fileset.json").write_text(json.dumps(fileset))
        assert call("--fileset", work / "fileset.json", "-o", work / "out", *QUICK) == 3
        assert f"lost: simulation: {damaged}, entries 0 to 2500" in capsys.readouterr().out.replace("\n", "")
        facts = facts_of(work / "out")
        assert (facts["complete"], facts["lost_events"], facts["exit_code"]) == (False, 5000, 3)
        assert json.loads((work / "out" / "failed.json").read_text())[0]["file"] == str(damaged)

    def test_an_error_of_our_own_is_one_line_with_its_place_and_the_trace_is_in_the_log(
        self, work: Path, sample: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr("processors.dijet.fill_record", lambda *_: 1 / 0)
        assert call("--fileset", sample / "fileset.json", "-o", work / "out", *QUICK) == 1
        (line,) = [each for each in capsys.readouterr().err.splitlines() if each.startswith("analysis.py: ")]
        assert line.endswith("simulation.root, entries 0 to 2000: ZeroDivisionError: division by zero")
        assert "in process" in (work / "out" / "run.log").read_text()
        assert facts_of(work / "out")["exit_code"] == 1


class TestNumbers:
    def test_the_cutflow_is_that_of_an_independent_count(self, run_folder: Path, sample: Path) -> None:
        with (run_folder / "cutflow.csv").open() as file:
            got = [int(row["events"]) for row in csv.DictReader(file) if row["dataset"] == "simulation"][:4]
        jets = uproot.open(sample / "simulation.root")["Events"].arrays(["Jet_pt", "Jet_phi"])
        order = ak.argsort(jets.Jet_pt, ascending=False)
        pt = ak.fill_none(ak.pad_none(jets.Jet_pt[order], 3), 0)
        phi = ak.fill_none(ak.pad_none(jets.Jet_phi[order], 2), 0)
        two_jets = pt[:, 1] > 0
        back_to_back = two_jets & (np.abs((phi[:, 0] - phi[:, 1] + np.pi) % (2 * np.pi) - np.pi) > 2.7)
        soft_third = back_to_back & (pt[:, 2] < np.maximum(25, 0.125 * (pt[:, 0] + pt[:, 1])))
        assert got == [len(pt), *(int(ak.sum(step)) for step in (two_jets, back_to_back, soft_third))]

    def test_what_was_put_in_comes_back(self, run_folder: Path) -> None:
        closure = facts_of(run_folder)["closure"]
        assert closure["p_value"] > 1e-3
        assert closure["ndf"] == 5  # three scale factors, two residuals

    def test_the_loop_was_repeated_no_more_often_than_asked_for(self, run_folder: Path) -> None:
        facts = facts_of(run_folder)
        assert 1 <= facts["loop_passes"] <= 1 + facts["settings"]["measurement"]["iterations"]
        assert {check["name"] for check in facts["checks"] if check["is_loop"]} >= {
            "scale factor measured again",
            "residual response measured again",
        }

    def test_table_and_corrections_hold_the_same_scale_factors(self, run_folder: Path) -> None:
        corrections = correctionlib.CorrectionSet.from_file(str(run_folder / "corrections" / "jet_jerc.json.gz"))
        written = corrections["Dijet2026_JRV1_MC_ScaleFactor_AK4PF"]
        with (run_folder / "resolution.csv").open() as file:
            published = [row for row in csv.DictReader(file) if row["method"] == "template"]
        rows = [row for row in published if row["quantity"] == "scale_factor" and row["status"] == "ok"]
        assert rows
        for row in rows:
            eta = 0.5 * (float(row["eta_low"]) + float(row["eta_high"]))
            assert written.evaluate(-eta, 150.0, "nom") == pytest.approx(float(row["value"]))

    def test_the_reference_run_gives_its_reference_numbers(self, run_folder: Path) -> None:
        # 20,000 toy events of seed 3 by version 0.1.0; another number here is another result for users
        expected = {("scale_factor", 0.0): 1.1186, ("scale_factor", 1.3): 1.0863, ("residual", 1.3): 0.9821}
        with (run_folder / "resolution.csv").open() as file:
            rows = {
                (row["quantity"], float(row["eta_low"])): float(row["value"])
                for row in csv.DictReader(file)
                if (row["quantity"], row["method"]) in {("scale_factor", "template"), ("residual", "mean_asymmetry")}
            }
        assert {key: rows[key] for key in expected} == pytest.approx(expected, abs=2e-3)


def stopped(folder: Path, sample: Path, number: signal.Signals, is_alive: Callable[[int], bool]) -> list[str]:
    """The command of a run that was stopped by a signal after its first chunk, with nothing left of it but files."""
    options = ["--fileset", str(sample / "fileset.json"), "-o", str(folder), "-j", "2", *LIGHT]
    command = [sys.executable, str(ROOT / "analysis.py"), *options]
    with subprocess.Popen(command, process_group=0, stderr=subprocess.DEVNULL) as run:
        while not list((folder / ".chunks").glob("*.npz")):
            assert run.poll() is None
            time.sleep(0.02)
        run.send_signal(number)
        began = time.monotonic()
        try:
            assert run.wait(timeout=60) == 128 + number
        finally:
            run.kill()
        assert time.monotonic() - began < 5
        while is_alive(run.pid):
            assert time.monotonic() - began < 10
    assert facts_of(folder)["complete"] is False
    return command


@pytest.mark.slow
def test_ctrl_c_stops_within_seconds(sample: Path, work: Path, is_alive: Callable[[int], bool]) -> None:
    stopped(work / "out", sample, signal.SIGINT, is_alive)


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_numbers(
    sample: Path, run_folder: Path, work: Path, is_alive: Callable[[int], bool]
) -> None:
    command = stopped(work / "out", sample, signal.SIGTERM, is_alive)
    subprocess.run([*command, "--resume"], check=True, capture_output=True)
    facts = facts_of(work / "out")
    assert facts["resumed_chunks"] > 0
    assert facts["histograms_digest"] == facts_of(run_folder)["histograms_digest"]


@pytest.mark.slow
def test_a_calibration_is_trained_and_its_jets_are_measured_beside_plain_ones(work: Path) -> None:
    pytest.importorskip("tensorflow", reason="needs the extra `train`", exc_type=ImportError)
    fileset, table, network = CONSTITUENTS / "fileset.json", work / "table.parquet", work / "network"
    assert call("table", "calibration", "-e", "iterative", "--fileset", fileset, "-o", table) == 0
    # Keras would live on in this process
    training = ("train", "calibration", "--table", table, "-o", network, "--epochs", "1")
    subprocess.run([sys.executable, ROOT / "analysis.py", *training], check=True, capture_output=True)

    words = ("--fileset", fileset, "-o", work / "out", f"calibration.onnx={network / 'calibration.onnx'}")
    assert call(*QUICK, *words) == 0

    with (work / "out" / "resolution.csv").open(encoding="utf-8") as file:
        algos = {row["algo"] for row in csv.DictReader(file)}
    assert algos == {"AK4PF", "AK4PFDeepSets"}
    assert json.loads((network / "calibration.json").read_text())["training"]["tables"][0].startswith("table.parquet ")


@pytest.mark.slow
def test_the_bundled_sample_gives_its_known_scale_factor_to_three_per_cent(work: Path) -> None:
    assert call("--executor", "futures", "-o", work / "out", "report.formats=[png]") == 0
    facts = facts_of(work / "out")
    assert facts["closure"]["p_value"] > 1e-3
    central = next(pull for pull in facts["closure"]["pulls"] if pull["quantity"] == "scale_factor")
    assert central["eta"] == [0.0, 1.3]
    assert central["error"] < 0.03 * central["measured"]


def write_large_jet_fileset(folder: Path) -> Path:
    write_large_jets(folder / "top.root", [TOP_EVENT] * 3)
    write_large_jets(folder / "qcd.root", [QCD_EVENT] * 3, seed=2)
    content = {name: {"files": [f"{name}.root"], "metadata": {"is_mc": True}} for name in ("top", "qcd")}
    path = folder / "large.json"
    path.write_text(json.dumps(content))
    return path


def test_the_table_of_a_tagger_is_written_and_told(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pyarrow")
    fileset = write_large_jet_fileset(work)
    words = ("table", "tagger", "--fileset", fileset, "--signal", "top", "-o", "t.parquet", "--executor", "iterative")

    assert call(*words) == 0

    assert "top: 3 events, jets: 3 top" in capsys.readouterr().out
    assert (work / "t.parquet").is_file()
    assert "exists; say --overwrite" in refusal(capsys, *words)
    assert "truth category 'z'" in refusal(capsys, *words, "--overwrite", "table.background=[z]")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--strength", 5, "--target-inverse-jsd", 500), "give one of --strength, --target-inverse-jsd and --scan"),
        (("--scan", "--target-inverse-jsd", 500), "give one of --strength, --target-inverse-jsd and --scan"),
        (("--decorrelation", "none", "--strength", 5), "--strength is of no use to --decorrelation none"),
        (
            ("--decorrelation", "planing", "decorrelation.target_inverse_jsd=500"),
            "of no use to --decorrelation planing",
        ),
        (("--decorrelation", "domain", "--target-inverse-jsd", 500), "of no use to --decorrelation domain"),
    ],
)
def test_a_strength_that_a_training_would_ignore_is_refused(
    work: Path, capsys: pytest.CaptureFixture[str], words: tuple[object, ...], message: str
) -> None:
    (work / "t.parquet").touch()

    assert message in refusal(capsys, "train", "tagger", "--table", "t.parquet", "-o", "out", *words)


def test_taggers_are_applied_from_the_command_line(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fileset = write_large_jet_fileset(work)
    words = ("tag", "--fileset", fileset, "-o", "out", "--executor", "iterative")
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "identity",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), "t.onnx")
    (work / "c.yaml").write_text(
        "taggers: {mass: {onnx: t.onnx, working_points: {half: 50}, foreign: {inputs: {x: {columns: [mass]}}}}}"
    )

    assert "no taggers to apply" in refusal(capsys, *words)
    assert call(*words, "--config", work / "c.yaml") == 0

    assert sorted(path.name for path in (work / "out").iterdir()) == [
        "histograms.root",
        "histograms.zip",
        "tagging.json",
    ]
    told = json.loads((work / "out" / "tagging.json").read_text())
    assert (told["taggers"], told["events"]) == ({"mass": {"half": 50}}, 6)
    assert call(*words, "--config", work / "c.yaml", "--overwrite") == 0
