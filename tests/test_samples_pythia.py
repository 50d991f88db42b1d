from __future__ import annotations

from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

import analysis
import samples
from samples import generate as generation
from samples.durable import ChunkFolder, ChunkTask
from samples.generate import CHUNK_FOLDER, generate
from samples.pythia import PythiaSettings, generate_chunk, truth_jets, tune_number, without_outliers
from samples.streams import Stream
from samples.truth import TruthEvents
from samples.workers import ChunkJob, run_job

pytest.importorskip("pythia8mc")
pytest.importorskip("fastjet")


def batch_of(particles: list[tuple[int, int, float, float, float, float]]) -> ak.Array:
    """One event of (id, status, px, py, pz, e) as Pythia gives it."""
    names = ("px", "py", "pz", "e")
    event = [{"id": one[0], "status": one[1], "p": dict(zip(names, one[2:], strict=True))} for one in particles]
    return ak.Array([{"prt": event, "info": {"weights": [0.25], "pT2Hat": 2500.0}}])


def test_truth_jets_are_made_of_stable_visible_particles() -> None:
    batch = batch_of(
        [
            (211, 84, 50.0, 0.0, 10.0, 51.1),
            (22, 91, 10.0, 0.5, 2.0, 10.3),  # joins the pion
            (14, 91, 20.0, 0.0, 4.0, 20.4),  # a neutrino
            (13, 91, 20.0, 0.0, 4.0, 20.4),  # a muon
            (23, -22, -90.0, 0.0, 0.0, 128.0),  # not stable
            (2112, 84, -40.0, 0.0, 0.0, 40.1),
            (111, 84, 0.0, 5.0, 0.0, 5.0),  # too soft for a jet
        ]
    )

    events = truth_jets(batch, max_abs_eta=5.0)

    assert events.offsets.tolist() == [0, 2]
    assert events.pt == pytest.approx([np.hypot(60.0, 0.5), 40.0])
    assert events.weight.tolist() == [0.25]
    assert events.pt_hat.tolist() == [50.0]


def test_events_whose_shower_is_harder_than_the_scattering_are_left_out() -> None:
    pt = np.array([70.0, 50.0, 90.0, 70.0, 95.0])
    columns = (pt, 0.0 * pt, 0.0 * pt, 0.1 * pt)
    events = TruthEvents(np.array([0, 2, 4, 5]), *columns, np.array([1.0, 2.0, 3.0]), np.full(3, 50.0))

    kept = without_outliers(events, PythiaSettings())

    # mean pT of 60 and 80 GeV, none with one jet; the limit is 65 GeV
    assert kept.weight.tolist() == [1.0, 3.0]
    assert kept.pt.tolist() == [70.0, 50.0, 95.0]


def test_tunes_have_names_and_numbers() -> None:
    assert [tune_number(name) for name in ("Monash", "a14", "21")] == [14, 21, 21]


@pytest.mark.slow
def test_a_longer_chunk_begins_with_the_events_of_a_shorter_one() -> None:
    short = generate_chunk(PythiaSettings(), 3, Stream.DATA, 0, 10)
    longer = generate_chunk(PythiaSettings(), 3, Stream.DATA, 0, 30)

    assert longer.pt[: len(short.pt)].tolist() == short.pt.tolist()
    assert longer.weight[:10].tolist() == short.weight.tolist()


@pytest.mark.slow
def test_a_resumed_job_gives_the_same_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "CHUNK_EVENTS", 20)
    whole = generate("dijet", 40, 9, tmp_path / "whole", workers=2, quiet=True)

    interrupted = ChunkFolder(tmp_path / "resumed" / CHUNK_FOLDER)
    settings = PythiaSettings()
    facts = generation._facts(settings, settings)
    interrupted.open({"seed": 9, **facts})
    run_job(ChunkJob(interrupted, settings, 9, ChunkTask(Stream.DATA, 1, 20)))
    resumed = generate("dijet", 40, 9, tmp_path / "resumed", workers=1, quiet=True)

    for name in ("simulation", "data"):
        first, second = (uproot.open(sample.folder / f"{name}.root")["Events"].arrays() for sample in (whole, resumed))
        assert all(ak.array_equal(first[branch], second[branch]) for branch in first.fields)
    assert whole.injected.read_text() == resumed.injected.read_text()
    assert not (resumed.folder / CHUNK_FOLDER).exists()
    assert 30 <= resumed.counts["simulation"].generated <= 40


@pytest.mark.slow
def test_another_tune_of_the_data_comes_with_an_alternative_simulation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "CHUNK_EVENTS", 60)

    sample = generate("dijet", 60, 9, tmp_path, data_tune="a14", workers=1, quiet=True)

    assert list(sample.counts) == ["simulation", "data", "simulation_alternative"]
    assert (tmp_path / "simulation_alternative.root").exists()
    assert '"role": "alternative"' in sample.fileset.read_text()


def test_the_bundled_simulation_is_made_again_from_its_settings(tmp_path: Path) -> None:
    options = ["--process", "dijet", "--seed", "2026", "--no-underlying-event", "--skim", "--reduced-precision"]
    sizes = ["--events", "2000", "--data-events", "1", "--workers", "1"]  # one chunk

    arguments = ["generate", *options, *sizes, "--output", str(tmp_path / "new")]
    assert analysis.cli.main(arguments, standalone_mode=False) == 0

    got = uproot.open(tmp_path / "new" / "simulation.root")["Events"].arrays()
    bundled = Path(samples.__file__).parent / "bundled" / "simulation.root"
    expected = uproot.open(bundled)["Events"].arrays(entry_stop=len(got))
    assert got.fields == expected.fields
    assert all(ak.array_equal(got[name], expected[name]) for name in got.fields)
