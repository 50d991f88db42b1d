from __future__ import annotations

import json
from typing import TYPE_CHECKING

import awkward as ak
import numpy as np
import pytest
import uproot

from processors.fileset import load_fileset
from samples import generate as generation
from samples.durable import ChunkFolder, ChunkTask
from samples.errors import SampleError
from samples.generate import generate, plan_chunks
from samples.precision import round_mantissa
from samples.streams import PYTHIA_SEEDS, Stream, pythia_seed
from samples.toy import toy_chunks, write_toy
from samples.truth import first_events, join_events
from samples.writing import SampleOptions

if TYPE_CHECKING:
    from pathlib import Path

    from samples.writing import GeneratedSample

N_EVENTS = 20_000


@pytest.fixture(name="plain", scope="module")
def _plain(tmp_path_factory: pytest.TempPathFactory) -> GeneratedSample:
    return write_toy(tmp_path_factory.mktemp("plain"), N_EVENTS, seed=5)


@pytest.fixture(name="skimmed", scope="module")
def _skimmed(tmp_path_factory: pytest.TempPathFactory) -> GeneratedSample:
    return write_toy(tmp_path_factory.mktemp("skimmed"), N_EVENTS, seed=5, options=SampleOptions(skim=True))


def read(sample: GeneratedSample, name: str) -> ak.Array:
    return uproot.open(sample.folder / f"{name}.root")["Events"].arrays()


def same(one: ak.Array, other: ak.Array) -> bool:
    return one.fields == other.fields and all(ak.array_equal(one[name], other[name]) for name in one.fields)


def test_the_same_seed_gives_the_same_content(plain: GeneratedSample, tmp_path: Path) -> None:
    again = generate("toy", N_EVENTS, 5, tmp_path / "again")

    for name in ("simulation", "data"):
        assert same(read(plain, name), read(again, name))
    assert plain.fileset.read_bytes() == again.fileset.read_bytes()
    assert plain.injected.read_bytes() == again.injected.read_bytes()


def test_another_seed_gives_other_events(plain: GeneratedSample, tmp_path: Path) -> None:
    other = write_toy(tmp_path, 2000, seed=6)

    assert len(np.intersect1d(*(ak.flatten(read(one, "simulation").GenJet_pt) for one in (plain, other)))) < 20


def test_simulation_and_data_share_no_event() -> None:
    simulation, data = (join_events(list(toy_chunks(60_000, 5, stream))) for stream in (Stream.SIMULATION, Stream.DATA))

    assert len(np.intersect1d(simulation.pt_hat, data.pt_hat)) == 0


def test_no_two_chunks_of_a_generation_have_the_same_pythia_seed() -> None:
    seeds = [pythia_seed(1, stream, chunk) for stream in Stream for chunk in range(5000)]

    assert len(set(seeds)) == len(seeds)
    assert min(seeds) >= 1
    assert max(seeds) <= PYTHIA_SEEDS


@pytest.mark.parametrize("name", ["simulation", "data"])
def test_run_luminosity_block_and_event_name_an_event_once(plain: GeneratedSample, name: str) -> None:
    events = read(plain, name)

    names = set(zip(*(events[part].tolist() for part in ("run", "luminosityBlock", "event")), strict=True))
    assert len(names) == len(events) > 0


def test_data_know_nothing_of_the_generator(plain: GeneratedSample) -> None:
    branches = read(plain, "data").fields

    assert not [name for name in branches if "gen" in name.lower() or name == "Pileup_nTrueInt"]
    assert "Runs" not in uproot.open(plain.folder / "data.root")


def test_generator_sums_are_those_before_the_skim(skimmed: GeneratedSample, plain: GeneratedSample) -> None:
    sums = uproot.open(skimmed.folder / "simulation.root")["Runs"].arrays()

    assert sums.genEventCount[0] == N_EVENTS
    assert sums.genEventSumw[0] == pytest.approx(ak.sum(ak.values_astype(read(plain, "simulation").genWeight, "f8")))


def test_the_skim_counts_what_it_leaves_out(plain: GeneratedSample, skimmed: GeneratedSample) -> None:
    events = read(plain, "simulation")
    pt = ak.fill_none(ak.pad_none(events.Jet_pt, 3), 0.0)
    phi = ak.fill_none(ak.pad_none(events.Jet_phi, 2), 0.0)
    two_jets = ak.num(events.Jet_pt) >= 2
    back_to_back = two_jets & (np.abs((phi[:, 0] - phi[:, 1] + np.pi) % (2 * np.pi) - np.pi) > 2.5)
    limit = np.maximum(25.0, 0.4 * (pt[:, 0] + pt[:, 1]) / 2.0)
    third_jet = back_to_back & (pt[:, 2] < limit)

    counts = skimmed.counts["simulation"]

    assert [counts.steps.two_jets, counts.steps.delta_phi] == [ak.sum(two_jets), ak.sum(back_to_back)]
    # |dphi| and pT3 are compared in double precision there: events at an edge may differ
    assert abs(counts.steps.third_jet - ak.sum(third_jet)) <= 1
    assert counts.written == len(read(skimmed, "simulation")) <= counts.steps.third_jet
    assert json.loads(skimmed.injected.read_text())["counts"]["simulation"]["steps"]["events"] == N_EVENTS


def test_the_fileset_of_a_skim_tells_what_was_left_out(skimmed: GeneratedSample) -> None:
    simulation, _ = load_fileset(skimmed.fileset)

    assert simulation.skim is not None
    assert simulation.skim.startswith(f"of {N_EVENTS:,} events ")
    assert simulation.skim.endswith(f"; {skimmed.counts['simulation'].written:,} were kept")


def test_thinned_simulation_keeps_its_spectrum(skimmed: GeneratedSample) -> None:
    weight = ak.to_numpy(read(skimmed, "simulation").genWeight).astype(np.float64)
    counts = skimmed.counts["simulation"]

    # the variance of a sum of w / p over events kept with probability p is below the sum of (w / p)^2
    assert weight.sum() == pytest.approx(counts.weighted.third_jet, abs=4.0 * np.sqrt((weight**2).sum()))
    assert counts.written < 0.9 * counts.steps.third_jet


def test_a_skimmed_jet_still_points_to_its_truth_jet(plain: GeneratedSample, skimmed: GeneratedSample) -> None:
    events, fewer = read(plain, "simulation"), read(skimmed, "simulation")
    assert ak.max(ak.num(fewer.Jet_pt)) == 4

    kept = events[np.isin(events.event, fewer.event)]
    matched = kept.Jet_genJetIdx[:, :4] >= 0
    expected = kept.GenJet_pt[kept.Jet_genJetIdx[:, :4][matched]]
    got = fewer.GenJet_pt[fewer.Jet_genJetIdx[fewer.Jet_genJetIdx >= 0]]

    assert ak.array_equal(got, expected)


def test_rntuple_holds_the_same_events(plain: GeneratedSample, tmp_path: Path) -> None:
    sample = write_toy(tmp_path, N_EVENTS, seed=5, options=SampleOptions(rntuple=True))
    file = uproot.open(sample.folder / "simulation.root")

    assert file.classnames()["Events;1"] == "ROOT::RNTuple"
    tree, tuples = read(plain, "simulation"), file["Events"].arrays()
    assert all(ak.array_equal(tree[name], tuples[name]) for name in tree.fields)


@pytest.mark.filterwarnings("ignore:Missing cross-reference:RuntimeWarning")
@pytest.mark.parametrize("rntuple", [False, True])
def test_coffea_links_jets_to_their_truth_jets(tmp_path: Path, rntuple: bool) -> None:  # noqa: FBT001
    from coffea.nanoevents import NanoAODSchema, NanoEventsFactory

    sample = write_toy(tmp_path, 500, seed=5, options=SampleOptions(rntuple=rntuple))
    path = str(sample.folder / "simulation.root")
    events = NanoEventsFactory.from_root({path: "Events"}, schemaclass=NanoAODSchema, mode="eager").events()

    linked = events.Jet.genJetIdx >= 0
    assert ak.all(ak.is_none(events.Jet.matched_gen, axis=1) == ~linked)
    expected = events.GenJet[events.Jet.genJetIdx[linked]].pt
    assert ak.array_equal(ak.drop_none(events.Jet.matched_gen.pt), expected)


def test_the_fileset_is_one_the_main_job_reads(plain: GeneratedSample) -> None:
    simulation, data = load_fileset(plain.fileset)

    assert (simulation.name, simulation.is_mc, simulation.weight) == ("simulation", True, "genWeight")
    assert (data.name, data.is_mc, len(data.triggers)) == ("data", False, 12)
    assert data.triggers[-1].prescale == 1.0


def test_the_summary_says_how_many_data_events_were_recorded(plain: GeneratedSample) -> None:
    simulation, data, share = plain.summary()

    assert simulation == f"simulation: {N_EVENTS} events generated, {N_EVENTS} written"
    assert f"{len(read(plain, 'data'))} recorded by the triggers" in data
    assert "above 1" in share


def test_rounding_keeps_ten_bits_and_is_not_biased() -> None:
    values = np.random.default_rng(1).uniform(-500.0, 500.0, 100_000).astype(np.float32)

    error = round_mantissa(values) / values - 1.0

    assert np.abs(error).max() <= 2.0**-11
    # uniform within +-2^-11: rms 2.8e-4, mean of 1e5 numbers within 1e-6 (one standard deviation)
    assert abs(error.mean()) < 5e-6
    assert (round_mantissa(values).view(np.uint32) & 0x1FFF == 0).all()


def test_rounding_leaves_what_is_not_finite() -> None:
    got = round_mantissa(np.array([np.inf, -np.inf, np.nan, 0.0, 1.0, 3.4028235e38], dtype=np.float32))

    assert got[:2].tolist() == [np.inf, -np.inf]
    assert np.isnan(got[2])
    assert got[3:5].tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"process": "ttbar"}, "unknown process 'ttbar'; known are dijet, toy"),
        ({"process": "dijet", "data_tune": "perugia"}, "unknown tune 'perugia'; known are 4c, monash"),
        ({"process": "toy", "data_tune": "monash"}, "--data-tune is for the process dijet"),
        ({"process": "toy", "underlying_event": False}, "--no-underlying-event is for the process dijet"),
        ({"process": "toy", "events": 0}, "the number of events must be at least 1, not 0"),
        ({"process": "toy", "seed": -1}, "the seed must be 0 or larger"),
        ({"process": "toy", "workers": 0}, "the number of workers must be at least 1"),
    ],
)
def test_mistakes_are_said_in_one_line(tmp_path: Path, arguments: dict[str, object], message: str) -> None:
    complete = {"events": 10, "seed": 1, "output": tmp_path / "new", **arguments}

    with pytest.raises(SampleError, match=message) as error:
        generate(**complete)  # type: ignore[arg-type]

    assert "\n" not in str(error.value)
    assert not (tmp_path / "new").exists()


def test_a_missing_generator_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)

    with pytest.raises(SampleError, match=r"needs pythia8mc and fastjet; install with: .*\[generate\]"):
        generate("dijet", 10, 1, tmp_path / "new")


def test_a_used_output_folder_is_refused_unless_overwritten(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").touch()

    with pytest.raises(SampleError, match="not empty"):
        generate("toy", 100, 1, tmp_path)

    assert generate("toy", 100, 1, tmp_path, overwrite=True).fileset.exists()


def test_a_failed_file_leaves_no_file_behind(tmp_path: Path) -> None:
    def broken() -> object:
        yield from toy_chunks(100, 1, Stream.SIMULATION)
        raise KeyboardInterrupt

    from samples.writing import write_sample

    with pytest.raises(KeyboardInterrupt):
        write_sample(
            tmp_path,
            seed=1,
            process="toy",
            simulation=broken(),  # type: ignore[arg-type]
            data=toy_chunks(100, 1, Stream.DATA),
            pilot=toy_chunks(5000, 1, Stream.PILOT),
            options=SampleOptions(),
        )

    assert list(tmp_path.iterdir()) == []


def test_chunks_survive_and_a_shorter_request_takes_the_first_events(tmp_path: Path) -> None:
    events = next(toy_chunks(100, 1, Stream.DATA))
    folder = ChunkFolder(tmp_path)
    folder.open({"seed": 1})
    folder.save(ChunkTask(Stream.DATA, 0, 100), events)

    assert folder.has(ChunkTask(Stream.DATA, 0, 40))
    assert not folder.has(ChunkTask(Stream.DATA, 0, 101))
    got, expected = folder.load(ChunkTask(Stream.DATA, 0, 40)), first_events(events, 40)
    assert len(got) == 40
    assert got.pt == pytest.approx(expected.pt)
    assert got.offsets.tolist() == expected.offsets.tolist()


def test_a_job_with_other_arguments_is_not_resumed(tmp_path: Path) -> None:
    ChunkFolder(tmp_path).open({"seed": 1})

    with pytest.raises(SampleError, match="unfinished job with seed = 1 instead of 2"):
        ChunkFolder(tmp_path).open({"seed": 2})


def test_streams_grow_in_proportion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "CHUNK_EVENTS", 10)

    tasks = plan_chunks({Stream.SIMULATION: 20, Stream.DATA: 45})

    assert [task.n_events for task in tasks if task.stream is Stream.DATA] == [10, 10, 10, 10, 5]
    half = tasks[: len(tasks) // 2]
    assert {task.stream for task in half} == {Stream.SIMULATION, Stream.DATA}
