"""Records read through coffea's Runner from real files and from small written ones."""

from __future__ import annotations

import functools
import pickle
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from coffea.processor import IterativeExecutor, Runner

from processors import reading
from processors.errors import UnreadableEventsError
from processors.formats import ReadRequest, branch_names, find_columns
from processors.kept_files import TREES_KEPT, kept_trees
from processors.reading import NoColumns, coffea_schema, read_events, runner_options
from processors.record import EventRecord, Jets

DATA = Path(__file__).parent / "data"
# Events and dijets of each file as counted independently, see data/README.md; whether it is simulation.
REAL = {
    "Run2012B_SingleMu_1000": ("Events", 1000, 188, False),
    "nano_dimuon": ("Events", 40, 10, False),
    "nano_dimuon_rntuple": ("Events", 40, 10, False),
    "nano_dy": ("Events", 40, 11, True),
    "nano_dy_rntuple": ("Events", 40, 11, True),
    "nano_dy_empty": ("Events", 0, 0, True),
    "missing_luminosityBlock": ("Events", 2, 0, True),
    "nanoAOD_2015_CMS_Open_Data_ttbar": ("Events", 200, 27, True),
    "PHYSLITE_example": ("CollectionTree", 100, 18, True),
    "delphes_old": ("Delphes", 10, 2, True),
}
MOMENTUM = ("pt", "eta", "phi", "mass")


def runner(schema: type = NoColumns, chunksize: int = 100_000) -> Runner:
    return Runner(executor=IterativeExecutor(status=False), schema=schema, chunksize=chunksize, metadata_cache={})


def read_chunks(
    path: Path,
    request: ReadRequest | None = None,
    tree: str = "Events",
    *,
    through_schema: bool = False,
    chunksize: int = 100_000,
) -> list[EventRecord]:
    request = request or ReadRequest(is_mc=True)
    schema, options = NoColumns, runner_options()
    if through_schema:
        with uproot.open(path, **options["uproot_options"]) as file:
            columns = find_columns(branch_names(file[tree]), request)
        schema, options = coffea_schema(columns.format), runner_options([columns])

    def process(events: Any) -> dict[str, list[EventRecord]]:
        return {"records": [read_events(events, request)]}

    output = runner(schema, chunksize).run({"d": {"files": {str(path): tree}}}, process, **options)
    records: list[EventRecord] = output["out"]["records"]
    return sorted(records, key=lambda record: record.entry_start)


def read(path: Path, request: ReadRequest | None = None, tree: str = "Events", **how: Any) -> EventRecord:
    (record,) = read_chunks(path, request, tree, **how)
    return record


@functools.cache
def read_real(name: str, *, through_schema: bool = False) -> EventRecord:
    tree, _, _, is_mc = REAL[name]
    request = ReadRequest(is_mc=is_mc, leptons=True)
    return read(DATA / f"{name}.root", request, tree, through_schema=through_schema)


@pytest.fixture(scope="module", params=REAL)
def real(request: pytest.FixtureRequest) -> str:
    """Name of a real file; the tests of one file follow each other, so that its tree is read once."""
    return str(request.param)


def write(path: Path, jets: dict[str, Any], tree: str = "Events", **columns: Any) -> Path:
    branches = {"Jet": ak.zip({name: ak.Array(values) for name, values in jets.items()}), **columns}
    branches = {name: ak.Array(values) for name, values in branches.items()}
    with uproot.recreate(path) as file:
        file.mktree(tree, {name: values.type for name, values in branches.items()})
        file[tree].extend(branches)
    return path


def jets_like(pt: Any, **more: Any) -> dict[str, Any]:
    zeros = ak.zeros_like(ak.Array(pt))
    return {"pt": pt, "eta": zeros, "phi": zeros, **more}


def count_dijets(jets: Jets) -> int:
    """Events of two jets back to back with a soft third one, event by event as one would do by hand."""
    n = 0
    for first, last in zip(jets.offsets[:-1], jets.offsets[1:], strict=True):
        pt, phi = jets.pt[first:last].astype(float), jets.phi[first:last].astype(float)
        if len(pt) > 1:
            delta_phi = abs(np.angle(np.exp(1j * (phi[0] - phi[1]))))
            is_soft = len(pt) == 2 or pt[2] < max(25, 0.25 * 0.5 * (pt[0] + pt[1]))
            n += delta_phi > 2.7 and is_soft
    return n


def assert_equal(got: EventRecord, expected: EventRecord) -> None:
    for name in ("run", "event", "identity", "weight", "rho", "npv", "true_interactions"):
        np.testing.assert_array_equal(getattr(got, name), getattr(expected, name))
    for name in ("jets", "truth", "electrons", "muons"):
        mine, other = getattr(got, name), getattr(expected, name)
        assert (mine is None) == (other is None)
        if mine is not None:
            for column in ("offsets", *MOMENTUM):
                np.testing.assert_array_equal(getattr(mine, column), getattr(other, column))
            assert mine.extra.keys() == other.extra.keys()
            for column in mine.extra:
                np.testing.assert_array_equal(mine.extra[column], other.extra[column])


def test_dijets_of_a_real_file_are_those_counted_independently(real: str) -> None:
    got = read_real(real)

    _, events, dijets, is_mc = REAL[real]
    assert len(got) == events
    assert count_dijets(got.jets) == dijets
    assert (got.truth is not None) == is_mc
    assert got.excluded == {}


def test_the_way_through_coffeas_schema_gives_the_same(real: str) -> None:
    assert_equal(read_real(real, through_schema=True), read_real(real))


def test_the_way_through_a_schema_does_not_read_branches_behind_its_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading._Chunk, "column", None)

    got = read(DATA / "nano_dy.root", through_schema=True)

    assert count_dijets(got.jets) == 11


def test_the_same_events_come_from_ttree_and_rntuple() -> None:
    got, expected = read_real("nano_dimuon_rntuple"), read_real("nano_dimuon")

    assert_equal(got, expected)


def test_jets_of_nanoaod_are_what_uproot_reads() -> None:
    got = read_real("nano_dy")

    tree = uproot.open(DATA / "nano_dy.root")["Events"]
    for name in MOMENTUM:
        np.testing.assert_array_equal(getattr(got.jets, name), ak.flatten(tree[f"Jet_{name}"].array()))
        np.testing.assert_array_equal(getattr(got.truth, name), ak.flatten(tree[f"GenJet_{name}"].array()))
    np.testing.assert_array_equal(got.jets.extra["jet_id"], ak.flatten(tree["Jet_jetId"].array()))
    np.testing.assert_array_equal(got.weight, tree["genWeight"].array())
    np.testing.assert_array_equal(got.rho, tree["fixedGridRhoFastjetAll"].array())
    np.testing.assert_array_equal(got.luminosity_block, tree["luminosityBlock"].array())
    assert got.muons is not None
    np.testing.assert_array_equal(got.muons.pt, ak.flatten(tree["Muon_pt"].array()))


def test_physlite_comes_in_gev_with_the_first_weight_and_counted_vertices() -> None:
    got = read_real("PHYSLITE_example")

    tree = uproot.open(DATA / "PHYSLITE_example.root")["CollectionTree"]
    mev = ak.flatten(tree["AnalysisJetsAuxDyn.pt"].array())
    np.testing.assert_allclose(np.sort(got.jets.pt), np.sort(mev) / 1000, rtol=1e-6)
    density = tree["Kt4EMPFlowEventShapeAuxDyn.Density"].array()
    assert got.rho is not None
    np.testing.assert_allclose(got.rho, density / 1000, rtol=1e-6)
    np.testing.assert_array_equal(got.weight, tree["EventInfoAuxDyn.mcEventWeights"].array()[:, 0])
    types = tree["PrimaryVerticesAuxDyn.vertexType"].array()
    np.testing.assert_array_equal(got.npv, ak.sum((types == 1) | (types == 3), axis=1))
    assert got.jets.extra["pu_id"].dtype == np.bool_
    assert got.has_event_id


@pytest.mark.parametrize("name", ["missing_luminosityBlock", "delphes_old"])
def test_events_without_numbers_are_named_by_file_and_entry(name: str) -> None:
    got = read_real(name)

    assert not got.has_event_id
    assert len(np.unique(got.identity)) == len(got)


def test_records_do_not_depend_on_chunks() -> None:
    whole = read_real("nano_dy")

    parts = read_chunks(DATA / "nano_dy.root", ReadRequest(is_mc=True), chunksize=7)

    assert len(parts) > 4
    assert [part.entry_start for part in parts] == list(np.cumsum([0, *map(len, parts[:-1])]))
    np.testing.assert_array_equal(np.concatenate([part.identity for part in parts]), whole.identity)
    np.testing.assert_array_equal(np.concatenate([part.jets.pt for part in parts]), whole.jets.pt)
    assert np.concatenate([part.jets.counts for part in parts]).tolist() == whole.jets.counts.tolist()


def test_the_order_of_jets_in_the_file_is_not_trusted(tmp_path: Path) -> None:
    jets = jets_like([[20.0, 50.0, 30.0], [10.0]], jetId=[[1, 2, 3], [4]], genJetIdx=[[1, 0, -1], [0]])
    truth = ak.zip({name: ak.Array([[48.0, 21.0], [11.0]]) for name in MOMENTUM})

    got = read(write(tmp_path / "a.root", jets, GenJet=truth))

    assert got.jets.pt.tolist() == [50.0, 30.0, 20.0, 10.0]
    assert got.jets.extra["jet_id"].tolist() == [2, 3, 1, 4]
    assert got.jets.extra["truth_index"].tolist() == [0, -1, 1, 0]


def test_links_follow_truth_jets_that_are_put_in_order(tmp_path: Path) -> None:
    jets = jets_like([[50.0, 30.0, 20.0]], genJetIdx=[[1, 0, 2]])
    truth = ak.zip({name: ak.Array([[30.0, 50.0, np.nan]]) for name in MOMENTUM})

    got = read(write(tmp_path / "a.root", jets, GenJet=truth))

    assert got.jets.extra["truth_index"].tolist() == [0, 1, -1]
    assert got.excluded == {"truth jets with non-finite pt": 1}


def test_events_without_jets_and_with_one_jet_keep_their_place(tmp_path: Path) -> None:
    got = read(write(tmp_path / "a.root", jets_like([[], [30.0], [40.0, 20.0], []])))

    assert got.jets.offsets.tolist() == [0, 0, 1, 3, 3]
    assert len(got) == 4


def test_unusable_jets_and_weights_are_counted_and_their_events_kept(tmp_path: Path) -> None:
    jets = jets_like([[np.nan, 20.0], [np.inf], [-5.0, 0.0, 30.0], [40.0]])

    got = read(write(tmp_path / "a.root", jets, genWeight=[1.0, np.nan, -2.0, np.inf]))

    assert got.jets.counts.tolist() == [1, 0, 1, 1]
    assert got.weight.tolist() == [1.0, 0.0, -2.0, 0.0]
    assert got.excluded == {
        "jets with non-finite pt": 2,
        "jets with pt <= 0": 2,
        "events with a non-finite weight": 2,
    }


def test_data_have_weight_one(tmp_path: Path) -> None:
    path = write(tmp_path / "a.root", jets_like([[30.0]]), genWeight=[5.0])

    assert read(path, ReadRequest(is_mc=False)).weight.tolist() == [1.0]
    assert read(path, ReadRequest(is_mc=True)).weight.tolist() == [5.0]


def test_another_weight_and_other_collections_are_read_by_name(tmp_path: Path) -> None:
    other = ak.zip({name: ak.Array([[60.0], []]) for name in MOMENTUM})
    path = write(tmp_path / "a.root", jets_like([[30.0], [20.0]]), PuppiJet=other, TrueJet=other, w=[2.0, 3.0])

    got = read(path, ReadRequest(is_mc=True, jet_collection="PuppiJet", truth_jet_collection="TrueJet", weight="w"))

    assert got.jets.pt.tolist() == [60.0]
    assert got.truth is not None
    assert got.truth.pt.tolist() == [60.0]
    assert got.weight.tolist() == [2.0, 3.0]


def test_a_trigger_the_file_lacks_did_not_fire(tmp_path: Path) -> None:
    path = write(tmp_path / "a.root", jets_like([[30.0], [20.0]]), HLT_A=np.array([True, False]))

    got = read(path, ReadRequest(is_mc=False, triggers=("HLT_A", "HLT_B")))

    assert {name: bits.tolist() for name, bits in got.triggers.items()} == {
        "HLT_A": [True, False],
        "HLT_B": [False, False],
    }


def test_a_tree_in_a_folder_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.root", jets_like([[30.0, 20.0]]), tree="ntuples/nominal/Events")

    for through_schema in (False, True):
        got = read(path, tree="ntuples/nominal/Events", through_schema=through_schema)
        assert got.jets.pt.tolist() == [30.0, 20.0]


def test_physlite_as_rntuple_is_read_although_coffea_cannot(tmp_path: Path) -> None:
    names = {
        "pt": [[50e3, 30e3], [20e3]],
        "eta": [[1.0, 2.0], [3.0]],
        "phi": [[0.1, 0.2], [0.3]],
        "m": [[5e3, 3e3], [2e3]],
    }
    columns = {f"AnalysisJetsAuxDyn:{name}": ak.Array(values) for name, values in names.items()}
    columns["EventInfoAuxDyn:mcEventWeights"] = ak.Array([[2.0, 9.0], [3.0, 9.0]])
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mkrntuple("EventData", columns)

    got = read(tmp_path / "a.root", tree="EventData")

    np.testing.assert_allclose(got.jets.pt, [50, 30, 20])
    np.testing.assert_allclose(got.jets.mass, [5, 3, 2])
    assert got.weight.tolist() == [2.0, 3.0]


def test_a_flat_ntuple_is_read_by_a_branch_map(tmp_path: Path) -> None:
    path = write(tmp_path / "a.root", jets_like([[20e3, 50e3]]), tree="mini", w=[3.0])
    branches = {"jet_pt": "Jet_pt", "jet_eta": "Jet_eta", "jet_phi": "Jet_phi", "weight": "w", "energy_unit": "MeV"}

    got = read(path, ReadRequest(is_mc=True, branch_map=branches), "mini")

    assert got.jets.pt.tolist() == [50.0, 20.0]
    assert got.weight.tolist() == [3.0]
    assert got.truth is None


def test_jets_in_branches_of_their_own_are_read_by_a_branch_map(tmp_path: Path) -> None:
    columns = {f"j{i}_{name}": [10.0 * i, 20.0 * i] for i in (1, 2) for name in ("pt", "eta", "phi")}
    path = write(tmp_path / "a.root", jets_like([[], []]), tree="mini", **columns)
    branches = {f"jet_{name}": [f"j1_{name}", f"j2_{name}"] for name in ("pt", "eta", "phi")}

    got = read(path, ReadRequest(is_mc=False, branch_map=branches), "mini")

    assert got.jets.pt.tolist() == [20.0, 10.0, 40.0, 20.0]
    assert got.jets.counts.tolist() == [2, 2]


@pytest.mark.filterwarnings("ignore:Performed attempt")
def test_damage_to_a_file_is_told_with_file_entries_and_branch(tmp_path: Path) -> None:
    path = write(tmp_path / "a.root", jets_like([[float(i)] * 50 for i in range(1, 200)]))
    with uproot.open(path) as file:
        branch = file["Events/Jet_pt"]
        start, size = branch.basket_key(0).fSeekKey, branch.basket_compressed_bytes(0)
    damaged = bytearray(path.read_bytes())
    damaged[start + 80 : start + size] = bytes(size - 80)
    path.write_bytes(damaged)

    with pytest.raises(Exception, match="Failed processing file") as caught:
        read(path)

    assert isinstance(caught.value.__cause__, UnreadableEventsError)
    assert f"{path}, entries 0 to 199: cannot read branch 'Jet_pt'" in str(caught.value.__cause__)


@pytest.mark.filterwarnings("ignore:Performed attempt")
def test_a_file_replaced_since_it_was_looked_at_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.root", jets_like([[30.0]]))
    items = list(runner().preprocess({"d": {"files": {str(path): "Events"}}}))
    write(path, jets_like([[40.0]]))

    with pytest.raises(Exception, match="changed since it was looked at"):
        runner().run(items, lambda events: {"n": len(read_events(events, ReadRequest(is_mc=True)))}, **runner_options())


def test_the_description_of_a_tree_is_read_once_for_all_chunks(tmp_path: Path) -> None:
    path = write(tmp_path / "a.root", jets_like([[30.0]] * 10))

    def process(events: Any) -> dict[str, set[int]]:
        return {"trees": {id(events.attrs["@events_factory"].file_handle["Events"])}}

    output = runner(chunksize=2).run({"d": {"files": {str(path): "Events"}}}, process, **runner_options())

    assert len(output["out"]["trees"]) == 1


def test_few_trees_are_kept_however_many_files_are_read(tmp_path: Path) -> None:
    first = write(tmp_path / "0.root", jets_like([[30.0]]))
    for i in range(1, TREES_KEPT + 3):
        write(tmp_path / f"{i}.root", jets_like([[30.0]]))
        read(tmp_path / f"{i}.root")
    read(first)

    assert len(kept_trees()) <= TREES_KEPT


def test_options_of_the_runner_travel_to_other_processes_without_trees() -> None:
    options = runner_options()

    travelled = pickle.loads(pickle.dumps(options))

    assert travelled["uproot_options"]["object_cache"] is kept_trees()
    assert len(pickle.dumps(options)) < 1000


def test_fields_of_an_rntuple_are_told_as_uproot_would(tmp_path: Path) -> None:
    columns = {
        "a": ak.Array([[1.0], []]),
        "b": ak.Array([1, 2]),
        "c": ak.Array([{"x": 1, "y": [2.0]}, {"x": 3, "y": []}]),
    }
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mkrntuple("tuple", columns)

    with (
        uproot.open(tmp_path / "a.root") as plain,
        uproot.open(tmp_path / "a.root", object_cache=kept_trees()) as kept,
    ):
        assert kept["tuple"].keys() == plain["tuple"].keys()
        assert kept["tuple"].typenames() == plain["tuple"].typenames()


def test_a_record_has_no_other_fields_than_it_promises() -> None:
    # others rely on these names
    names = "dataset is_mc file entry_start run luminosity_block event has_event_id identity weight rho npv "
    names += "true_interactions jets truth electrons muons met average_interactions parton_shower constituents "
    names += "particles triggers excluded"

    assert [field.name for field in fields(EventRecord)] == names.split()


def test_a_copy_of_a_file_gives_the_same_record(tmp_path: Path) -> None:
    shutil.copy(DATA / "delphes_old.root", tmp_path / "copy.root")

    assert_equal(
        read(tmp_path / "copy.root", ReadRequest(is_mc=True, leptons=True), "Delphes"), read_real("delphes_old")
    )


def test_missing_momentum_comes_as_its_components() -> None:
    request = ReadRequest(is_mc=True, event_columns=("met_pt", "met_phi"))
    with uproot.open(DATA / "nano_dy.root") as file:
        pt, phi = (file["Events"][f"MET_{name}"].array(library="np").astype(float) for name in ("pt", "phi"))

    met = read(DATA / "nano_dy.root", request).met

    assert met is not None
    np.testing.assert_allclose(met, [pt * np.cos(phi), pt * np.sin(phi)], rtol=1e-6)


def test_missing_momentum_that_is_not_finite_is_nan(tmp_path: Path) -> None:
    jets = ak.Array([[50.0, 40.0]] * 3)
    met: dict[str, Any] = {"PuppiMET_pt": np.array([3.0, np.inf, np.nan]), "PuppiMET_phi": np.zeros(3)}
    path = write(tmp_path / "events.root", {"pt": jets, "eta": jets * 0, "phi": jets * 0}, **met)

    request = ReadRequest(is_mc=False, schema="nanoaod", event_columns=("met_pt", "met_phi"))
    met_read = read(path, request).met

    assert met_read is not None
    np.testing.assert_array_equal(met_read[0], [3.0, np.nan, np.nan])
