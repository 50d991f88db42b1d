from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import awkward as ak
import numpy as np
import pytest
import uproot

from samples.absolute_calibration import UNCALIBRATED, AbsoluteCalibration, OffsetShape, calibration_of, offset_shape
from samples.counts import SampleCounts
from samples.cross_section import cross_section
from samples.durable import ChunkFolder, ChunkTask
from samples.errors import SampleError
from samples.generate import generate
from samples.hard_process import _mothers
from samples.known_response import ResponseCounts, gaussian_core, half_width, is_isolated, known_answer
from samples.layered import stored_index
from samples.layered_chunks import LayeredJob
from samples.layered_generation import LayeredRequest, _facts
from samples.layered_sample import luminosity
from samples.particles import GeneratedParticles, PileupPool, as_particles, charge_of, kind_of, overlay, pileup_pool
from samples.processes import ProcessSettings
from samples.showers import BARYON, ELECTRON, MESON, MUON, PHOTON
from samples.streams import Stream
from samples.tables import Collection, EventTable, join_tables, table_from_arrays
from samples.triggers import TriggerMenu, owner, share_above_one, weight_over_prescale, with_fitting_prescales

if TYPE_CHECKING:
    from pathlib import Path

    from samples.writing import GeneratedSample

ETA_EDGES = (0.0, 0.2, 0.7, 1.3)


def made_of(*identities: int) -> GeneratedParticles:
    n = len(identities)
    return GeneratedParticles(
        np.array([0, n]), np.ones(n), np.zeros(n), np.ones(n), np.full(n, 2.0), np.array(identities, dtype=np.int32)
    )


def test_particles_have_the_kind_and_charge_of_their_code() -> None:
    codes = np.array([22, 11, -13, 211, -321, 130, 2212, -2112, 3122, -3112], dtype=np.int32)

    assert kind_of(codes).tolist() == [
        *(PHOTON, ELECTRON, MUON, MESON, MESON, MESON),
        *(BARYON, BARYON, BARYON, BARYON),
    ]
    assert charge_of(codes).tolist() == [0, -1, 1, 1, -1, 0, 1, 0, 0, 1]


def test_baryons_show_their_kinetic_energy_and_antibaryons_annihilate() -> None:
    energy = as_particles(made_of(211, 2212, -2212)).energy

    assert energy == pytest.approx([2.0, 2.0 - 0.9396, 2.0 + 0.9396])


def pool_of(n_events: int) -> PileupPool:
    rng, n = np.random.default_rng(2), 10 * n_events
    px, py, pz = rng.normal(size=(3, n))
    codes = np.full(n, 211, dtype=np.int32)
    return pileup_pool(
        GeneratedParticles(10 * np.arange(n_events + 1), px, py, pz, np.sqrt(px**2 + py**2 + pz**2 + 0.02), codes)
    )


def test_pileup_is_added_to_the_hard_event_with_vertices_of_its_own() -> None:
    hard = as_particles(made_of(211, 22))

    crossing = overlay(hard, pool_of(20), 5, np.random.default_rng(3), 40.0, 0.5)

    particles = crossing.particles
    assert len(particles.pt) > 2 + 5 * 5
    assert np.array_equal(particles.pt[:2], hard.pt)
    assert np.all(particles.offset[:2] == 0.0)
    assert len(np.unique(particles.offset[2:])) == 5
    assert 1 <= crossing.n_vertices <= 6


def test_pileup_keeps_transverse_momentum_and_turns() -> None:
    pool = pool_of(1)
    nothing = as_particles(made_of())

    one, other = (overlay(nothing, pool, 1, np.random.default_rng(seed), 40.0, 0.5).particles for seed in (1, 2))

    assert np.allclose(one.pt, pool.particles.pt)
    assert np.allclose(np.abs(other.eta), np.abs(pool.particles.eta))
    assert not np.allclose(one.phi, other.phi)


def test_no_pileup_leaves_the_hard_event() -> None:
    empty = PileupPool(np.zeros(1, dtype=np.int64), as_particles(made_of()))

    crossing = overlay(as_particles(made_of(22)), empty, 3, np.random.default_rng(1), 40.0, 0.5)

    assert len(crossing.particles.pt) == 1
    assert crossing.n_vertices == 1


def test_tables_survive_being_taken_apart_joined_and_cut() -> None:
    jets = Collection(np.array([2, 0, 1]), {"pt": np.array([5.0, 4.0, 3.0])})
    table = EventTable({"weight": np.array([1.0, 2.0, 3.0])}, {"Jet": jets})

    twice = join_tables([table, table_from_arrays(table.arrays())])
    last = twice.select(np.array([False, False, True, False, False, True]))

    assert twice.collections["Jet"].counts.tolist() == [2, 0, 1, 2, 0, 1]
    assert last.collections["Jet"].columns["pt"].tolist() == [3.0, 3.0]
    assert last.values["weight"].tolist() == [3.0, 3.0]
    assert len(twice.first(2)) == 2


def test_mothers_are_the_nearest_kept_ancestors() -> None:
    # two events of five: 1 -> 2 -> 3 -> 4, of which 1 and 4 are kept, then 1 and 2
    start = np.repeat([0, 5], 5)
    mother = np.array([0, 0, 1, 2, 3, 0, 0, 1, 2, 3])
    kept = np.array([0, 1, 0, 0, 1, 0, 1, 1, 0, 0], dtype=bool)

    assert _mothers(start, mother, kept).tolist() == [-1, 0, -1, 0]


@pytest.mark.parametrize(("mean", "width"), [(0.98, 0.08), (1.1, 0.25)])
def test_the_core_of_a_gaussian_is_the_gaussian(mean: float, width: float) -> None:
    response = np.random.default_rng(1).normal(mean, width, 200_000)
    counts, _ = np.histogram(response, 600, (0.0, 3.0))

    got = gaussian_core(counts)

    assert got[0] == pytest.approx(mean, abs=0.003)
    assert got[1] == pytest.approx(width, rel=0.02)
    assert half_width(counts) == pytest.approx(width, rel=0.01)


def test_errors_of_mean_and_width_are_the_scatter_of_repeated_samples() -> None:
    repeated = ResponseCounts.empty(tuple(np.linspace(0.0, 4.0, 31)))
    rng = np.random.default_rng(3)
    for place in np.ndindex(*repeated.counts.shape[:2]):
        repeated.counts[place], _ = np.histogram(rng.normal(1.0, 0.1, 1000), 600, (0.0, 3.0))

    found = repeated.summary()

    # 360 samples: the scatter is known to 1/sqrt(720) = 4 %
    for name in ("mean", "width_over_mean"):
        assert found[name].std() == pytest.approx(found[f"{name}_error"].mean(), rel=0.12)


def test_a_tail_does_not_move_the_core() -> None:
    rng = np.random.default_rng(1)
    response = np.concatenate([rng.normal(1.0, 0.1, 100_000), rng.uniform(0.0, 0.7, 5000)])
    counts, _ = np.histogram(response, 600, (0.0, 3.0))

    assert gaussian_core(counts)[0] == pytest.approx(1.0, abs=0.005)


def test_isolation_counts_hard_neighbours_only() -> None:
    pt, eta, phi = np.array([100.0, 30.0, 10.0]), np.array([0.0, 0.6, 2.0]), np.array([3.1, -3.1, 0.0])

    assert is_isolated(np.array([0, 3]), pt, eta, phi, 1.0).tolist() == [False, False, True]
    assert is_isolated(np.array([0, 3]), pt, eta, phi, 0.5).tolist() == [True, True, True]


def gaussian_counts(mean: float, width: float, seed: int) -> ResponseCounts:
    counts = ResponseCounts.empty(ETA_EDGES)
    rng = np.random.default_rng(seed)
    for place in np.ndindex(3, 4):
        counts.counts[place], _ = np.histogram(rng.normal(mean, width, 20_000), 600, (0.0, 3.0))
    return counts


def test_the_known_answer_is_the_ratio_of_widths_over_means() -> None:
    answer = known_answer(gaussian_counts(1.0, 0.10, 1), gaussian_counts(0.95, 0.114, 2), (0.2, 0.7))

    # 0.114 / 0.95 / 0.10 = 1.2
    for value, error in zip(answer["scale_factor"], answer["scale_factor_error"], strict=True):
        assert value == pytest.approx(1.2, abs=5.0 * error)
        assert error < 0.02
    assert answer["response"] == pytest.approx([0.95] * 3, abs=0.003)
    assert answer["residual_relative"][1] == 1.0


def test_a_region_without_jets_takes_the_answer_of_its_neighbour() -> None:
    simulation, data = gaussian_counts(1.0, 0.1, 1), gaussian_counts(1.0, 0.12, 2)
    data.counts[2] = 0

    answer = known_answer(simulation, data, (0.2, 0.7))

    assert answer["scale_factor"][2] == answer["scale_factor"][1]
    assert answer["points"]["AK4PF"]["data"]["mean"][2][0] is None


def test_the_correction_is_interpolated_and_constant_beyond_its_edges() -> None:
    calibration = AbsoluteCalibration(
        np.array([0.0, 1.0]), np.log(np.array([10.0, 100.0])), np.array([[1.0, 2.0], [3.0, 4.0]])
    )

    pt, eta = np.array([10.0, 100.0, 31.6228, 1.0, 1e4, 10.0]), np.array([0.0, -1.0, 0.0, 0.0, 5.0, 0.5])
    assert calibration.correction(pt, eta) == pytest.approx([1.0, 4.0, 1.5, 1.0, 4.0, 2.0], abs=1e-4)


def test_the_offset_is_density_times_area() -> None:
    shape = OffsetShape(np.array([0.0, 4.0]), np.array([1.0, 0.5]))

    assert shape.offset(np.array([20.0]), np.array([0.5]), np.array([-2.0]))[0] == pytest.approx(0.75 * 20.0 * 0.5)


@pytest.mark.parametrize("radius", [0.4, 0.8, 1.0])
def test_frozen_constants_raise_jets_smoothly(radius: float) -> None:
    pt = np.exp(np.linspace(np.log(20.0), np.log(1500.0), 200))
    for eta in (0.0, 0.5, 1.1, 2.0, 2.7):
        factor = calibration_of(radius).correction(pt, np.full(200, eta))

        assert np.all((factor > 0.8) & (factor < 2.5))
        assert np.all(np.diff(factor * pt) > 0.0)


def test_an_index_counts_only_the_truth_jets_that_are_stored() -> None:
    # two events with three and two truth jets, of which the second and the last are not stored
    kept, offsets = np.array([True, False, True, True, False]), np.array([0, 3, 5])

    found = stored_index(np.array([0, 1, 2, -1, 0, 1]), np.array([0, 0, 0, 0, 1, 1]), offsets, kept)

    assert found.tolist() == [0, -1, 1, -1, 0, -1]


def test_the_density_of_pileup_is_flat_at_the_centre() -> None:
    shape = offset_shape()

    assert np.all(np.abs(shape.density[shape.abs_eta < 1.5] - shape.density[0]) < 0.3)
    assert np.all(shape.density > 0.0)
    assert UNCALIBRATED.correction(np.array([50.0]), np.array([1.0])) == [1.0]


def test_prescales_let_every_trigger_record_what_its_weights_allow() -> None:
    rng = np.random.default_rng(1)
    pt_avg = np.exp(rng.uniform(np.log(40.0), np.log(1500.0), 50_000))
    weight = pt_avg**-5.0 * rng.lognormal(0.0, 0.7, len(pt_avg))

    menu = with_fitting_prescales(TriggerMenu(), weight, pt_avg)

    prescales = menu.prescales
    assert prescales[-1] == 1.0
    assert np.all(np.diff(prescales) <= 0.0)
    ratio, law = (weight_over_prescale(weight, pt_avg, each) for each in (menu, TriggerMenu()))
    largest = [ratio[owner(pt_avg, menu) == index].max() for index in range(len(prescales))]
    assert max(largest) < 8.0 * min(largest)
    for each in (ratio, law):
        assert share_above_one(each / each.max()) == 0.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"process": "toy", "detector": "layered"}, "needs particles"),
        ({"process": "top", "detector": "parametric"}, "top needs --detector layered"),
        ({"process": "dijet", "pileup": 10.0}, "--pileup is for the layered detector"),
        ({"process": "dijet", "weighted_data": True}, "--weighted-data is for the layered detector"),
        ({"process": "dijet", "detector": "layered", "large_r": 0.7}, "--large-r is 0.8 or 1.0, not 0.7"),
        ({"process": "dijet", "detector": "layered", "pt_range": (100.0, 50.0)}, "LO < HI"),
        ({"process": "dijet", "detector": "layered", "pt_range": (float("nan"), 0.0)}, "LO < HI"),
        ({"process": "dijet", "detector": "layered", "pt_range": (20.0, float("inf"))}, "LO < HI"),
        ({"process": "dijet", "detector": "layered", "pt_range": (7000.0, 0.0)}, "half of the collision energy"),
        ({"process": "dijet", "detector": "layered", "pileup": -1.0}, "from 0 to 200"),
        ({"process": "dijet", "detector": "cms"}, "unknown detector 'cms'"),
    ],
)
def test_what_the_detector_cannot_do_is_refused_in_one_line(
    tmp_path: Path, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(SampleError, match=message) as caught:
        generate(events=10, seed=1, output=tmp_path / "new", **arguments)  # type: ignore[arg-type]

    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_data_differ_from_simulation_by_detector_and_not_by_generator() -> None:
    request = LayeredRequest("dijet", 10, 10, 1)

    generators, detectors = request.generators(14), request.detectors()

    assert generators[Stream.SIMULATION] == generators[Stream.DATA]
    one, other = detectors[Stream.SIMULATION].detector, detectors[Stream.DATA].detector
    assert one.showers.eh_tile != other.showers.eh_tile
    assert one.noise.scale != other.noise.scale
    assert one.material.extra_upstream_x0 != other.material.extra_upstream_x0
    assert one.tracking == other.tracking


def test_pythia_gets_the_range_and_the_process_asked_for() -> None:
    lines = ProcessSettings("wjets", (200.0, 500.0), bias_power=0.0).lines(7)

    assert "PhaseSpace:pTHatMin = 200.0" in lines
    assert "PhaseSpace:pTHatMax = 500.0" in lines
    assert "24:onIfAny = 13" in lines
    assert not any("bias2" in line for line in lines)


def test_a_flattened_spectrum_has_the_cross_section_of_a_falling_one() -> None:
    flat = ProcessSettings("wjets", (200.0, 0.0))

    sections = [cross_section(settings, trials=2000) for settings in (flat, replace(flat, bias_power=0.0))]

    # each to about 1 %; Pythia 8 alone gives 14.4 pb
    assert sections[0] == pytest.approx(sections[1], rel=0.05)
    assert sections[0] == pytest.approx(14.4, rel=0.05)


def test_the_luminosity_of_data_is_what_their_weights_stand_for() -> None:
    counts = SampleCounts(generated=100, sum_of_weights=50.0)

    # 50 of weight at 2 pb are 25 / pb, of which triggers record a tenth
    assert luminosity(counts, 2.0, 0.1, weighted=False) == pytest.approx(2.5e-3)
    assert luminosity(counts, 2.0, 0.1, weighted=True) == pytest.approx(25e-3)


@pytest.fixture(name="sample", scope="module")
def _sample(tmp_path_factory: pytest.TempPathFactory) -> GeneratedSample:
    """A few dijets without pile-up, whose pool would take longest."""
    return generate(
        "dijet",
        120,
        4,
        tmp_path_factory.mktemp("layered"),
        workers=2,
        quiet=True,
        detector="layered",
        pileup=0.0,
        large_r=1.0,
        pt_range=(60.0, 0.0),
    )


def read(sample: GeneratedSample, name: str) -> ak.Array:
    return uproot.open(sample.folder / f"{name}.root")["Events"].arrays()


@pytest.mark.slow
def test_candidates_of_a_jet_add_up_to_it(sample: GeneratedSample) -> None:
    from coffea.nanoevents import NanoEventsFactory, PFNanoAODSchema

    class Schema(PFNanoAODSchema):  # type: ignore[misc]
        warn_missing_crossrefs = False

    path = {str(sample.folder / "simulation.root"): "Events"}
    events = NanoEventsFactory.from_root(path, schemaclass=Schema, mode="eager").events()

    for jets in (events.Jet, events.FatJet):
        candidates = jets.constituents.pf
        assert ak.all(ak.num(candidates, axis=2) == jets.nConstituents)
        px, py = (ak.sum(candidates.pt * angle(candidates.phi), axis=2) for angle in (np.cos, np.sin))
        assert np.allclose(ak.flatten(np.hypot(px, py)), ak.flatten(jets.pt * (1.0 - jets.rawFactor)), rtol=1e-3)
    assert ak.all(events.Jet.pt[:, 1:] <= events.Jet.pt[:, :-1])


@pytest.mark.slow
def test_layer_fractions_add_up_to_one(sample: GeneratedSample) -> None:
    events = read(sample, "simulation")

    total = sum(ak.flatten(events[name]) for name in events.fields if name.startswith("Jet_f"))

    assert np.allclose(total[ak.flatten(events.Jet_pt) > 30.0], 1.0, atol=1e-4)


@pytest.mark.slow
def test_jets_are_near_their_truth(sample: GeneratedSample) -> None:
    events = read(sample, "simulation")
    found = (events.Jet_genJetIdx >= 0) & (np.abs(events.Jet_eta) < 2.5) & (events.Jet_pt > 60.0)

    ratio = events.Jet_pt[found] / events.GenJet_pt[events.Jet_genJetIdx[found]]

    assert ak.count(ratio) > 100
    assert np.median(ak.flatten(ratio)) == pytest.approx(1.0, abs=0.08)


@pytest.mark.slow
def test_data_know_nothing_of_the_truth_and_the_side_file_does(sample: GeneratedSample) -> None:
    data, truth = read(sample, "data"), read(sample, "data_truth")

    assert not [name for name in data.fields if "gen" in name.lower() or "parton" in name or "nTrueInt" in name]
    for name in ("run", "luminosityBlock", "event", "nJet"):
        assert ak.array_equal(data[name], truth[name])
    assert {"GenJet_pt", "Jet_genJetIdx", "genWeight", "GenJetAK8_msoftdrop"} <= set(truth.fields)
    assert "data_truth" not in sample.fileset.read_text()


@pytest.mark.slow
def test_the_fileset_names_pfnano_and_its_triggers(sample: GeneratedSample) -> None:
    fileset = json.loads(sample.fileset.read_text())

    assert [each["metadata"]["schema"] for each in fileset.values()] == ["pfnano", "pfnano"]
    names = {trigger["path"] for trigger in fileset["data"]["metadata"]["triggers"]}
    assert names <= set(read(sample, "data").fields)


@pytest.mark.slow
def test_the_fileset_tells_cross_section_and_luminosity(sample: GeneratedSample) -> None:
    fileset = json.loads(sample.fileset.read_text())

    section, lumi = fileset["simulation"]["metadata"]["xsec"], fileset["data"]["metadata"]["lumi"]
    expected = sample.k * sample.counts["data"].sum_of_weights
    assert lumi * 1000 * section == pytest.approx(expected)
    assert section < cross_section(ProcessSettings("dijet", (60.0, 0.0)), trials=2000)
    assert json.loads(sample.injected.read_text())["xsec"] == {"simulation": section}


@pytest.mark.slow
def test_weighted_data_are_all_events_with_their_weights_and_without_truth(tmp_path: Path) -> None:
    made = generate(
        "dijet",
        20,
        4,
        tmp_path / "weighted",
        workers=1,
        quiet=True,
        detector="layered",
        pileup=0.0,
        pt_range=(60.0, 0.0),
        weighted_data=True,
    )
    data, truth = read(made, "data"), read(made, "data_truth")
    metadata = json.loads(made.fileset.read_text())["data"]["metadata"]

    assert len(data) == made.counts["data"].generated
    assert ak.array_equal(data.genWeight, truth.genWeight)
    assert [name for name in data.fields if "gen" in name.lower()] == ["genWeight"]
    assert metadata["weight"] == "genWeight"
    assert "triggers" not in metadata


@pytest.mark.slow
def test_the_known_answer_has_the_keys_of_the_parametric_detector(sample: GeneratedSample) -> None:
    content = json.loads(sample.injected.read_text())

    n_bins = len(content["abs_eta_edges"]) - 1
    assert content["simulation_settings"] == content["data_settings"]
    assert content["simulation_detector"] != content["data_detector"]
    for name in ("scale_factor", "scale_factor_error", "response", "residual_relative"):
        assert len(content[name]) == n_bins
        assert np.all(np.isfinite(content[name]))


@pytest.mark.slow
def test_content_does_not_depend_on_workers(sample: GeneratedSample, tmp_path: Path) -> None:
    again = generate(
        "dijet",
        120,
        4,
        tmp_path / "again",
        workers=1,
        quiet=True,
        detector="layered",
        pileup=0.0,
        large_r=1.0,
        pt_range=(60.0, 0.0),
    )

    for name in ("simulation", "data", "data_truth"):
        one, other = read(sample, name), read(again, name)
        assert one.fields == other.fields
        assert all(ak.array_equal(one[field], other[field]) for field in one.fields)
    assert sample.injected.read_bytes() == again.injected.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("process", ["w", "top", "ttbar_mu", "wjets"])
def test_every_process_makes_what_it_is_named_for(process: str, tmp_path: Path) -> None:
    sample = generate(process, 40, 2, tmp_path, workers=1, quiet=True, large_r=0.8, pileup=0.0, pt_range=(250.0, 0.0))
    events = read(sample, "simulation")

    codes = np.abs(events.GenPart_pdgId)
    tops, muons = ak.sum(codes == 6, axis=1), ak.sum(codes == 13, axis=1)
    assert ak.all(tops == (2 if "t" in process[:2] and process != "wjets" else 0))
    assert ak.all(muons == (1 if process in ("ttbar_mu", "wjets") else 0))
    assert ak.all(ak.sum(codes == 24, axis=1) == (2 if process in ("top", "ttbar_mu") else 1))
    assert ak.mean(events.nFatJet) > 0.5
    if process == "top":
        assert np.median(ak.flatten(events.FatJet_msoftdrop)) > 40.0


@pytest.mark.slow
def test_a_resumed_job_gives_the_same_content(sample: GeneratedSample, tmp_path: Path) -> None:
    request = LayeredRequest("dijet", 120, 120, 4, (60.0, 0.0), 0.0, 1.0)
    generators, detectors = request.generators(14), request.detectors()
    folder = ChunkFolder(tmp_path / "resumed" / ".chunks")
    folder.open({"seed": 4, **_facts(generators, detectors)})
    task = ChunkTask(Stream.DATA, 0, 120)
    LayeredJob(folder, generators[Stream.DATA], detectors[Stream.DATA], 4, task, ()).run()

    resumed = generate(
        "dijet",
        120,
        4,
        tmp_path / "resumed",
        workers=1,
        quiet=True,
        detector="layered",
        pileup=0.0,
        large_r=1.0,
        pt_range=(60.0, 0.0),
    )

    assert resumed.injected.read_bytes() == sample.injected.read_bytes()
    one, other = read(sample, "data"), read(resumed, "data")
    assert all(ak.array_equal(one[field], other[field]) for field in one.fields)


@pytest.mark.slow
def test_pileup_raises_the_density_and_the_number_of_vertices(
    sample: GeneratedSample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("samples.layered_generation.POOL_EVENTS", 60)

    crowded = generate("dijet", 30, 4, tmp_path, workers=2, quiet=True, detector="layered", pt_range=(60.0, 0.0))

    quiet, busy = (read(each, "simulation") for each in (sample, crowded))
    assert np.mean(busy.Rho_fixedGridRhoFastjetAll) > 5.0 > np.mean(quiet.Rho_fixedGridRhoFastjetAll)
    assert np.mean(busy.PV_npvs) > 10.0 > np.mean(quiet.PV_npvs) == 1.0
    assert np.mean(busy.averageInteractions) == pytest.approx(30.0, abs=5.0)
