"""What a look at the files tells before work begins."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

from processors.errors import InputError
from processors.fileset import Dataset, datasets_from
from processors.formats import ReadRequest
from processors.preflight import FileFacts, choose_tree, preflight

DATA = Path(__file__).parent / "data"


def request(dataset: Dataset) -> ReadRequest:
    return ReadRequest(
        is_mc=dataset.is_mc,
        jet_collection=dataset.jet_collection,
        weight=dataset.weight,
        triggers=tuple(trigger.path for trigger in dataset.triggers),
    )


def look(folder: Path, files: Any, **metadata: Any) -> tuple[FileFacts, ...]:
    return preflight(datasets_from({"d": {"files": files, "metadata": {"is_mc": True, **metadata}}}, folder), request)


def fault_of(folder: Path, files: Any, **metadata: Any) -> str:
    with pytest.raises(InputError) as caught:
        look(folder, files, **metadata)
    return str(caught.value)


def write(path: Path, tree: str = "Events", **columns: Any) -> Path:
    jets = ak.zip({name: ak.Array([[30.0, 20.0], [40.0]]) for name in ("pt", "eta", "phi", "mass")})
    branches = {"Jet": jets, "number": ak.Array([1, 1]), **columns}
    with uproot.recreate(path) as file:
        file.mktree(tree, {name: values.type for name, values in branches.items()})
        file[tree].extend(branches)
    return path


def test_the_facts_of_a_nanoaod_file_are_told() -> None:
    (got,) = look(DATA, {"nano_dy.root": "Events"})

    path = DATA / "nano_dy.root"
    assert (got.dataset, got.path, got.tree) == ("d", str(path), "Events")
    assert (got.format, got.kind, got.entries) == ("nanoaod", "TTree", 40)
    assert (got.size, got.modified_ns) == (path.stat().st_size, path.stat().st_mtime_ns)
    assert got.uuid == str(uproot.open(path).file.uuid)
    # tree Runs of the file, as printed by uproot
    assert (got.generated_events, got.sum_of_weights) == (850_098, 15166686735.858717)


@pytest.mark.parametrize(
    ("name", "tree", "file_format", "kind", "entries"),
    [
        ("nano_dimuon_rntuple", "Events", "nanoaod", "RNTuple", 40),
        ("nano_dy_empty", "Events", "nanoaod", "TTree", 0),
        ("PHYSLITE_example", "CollectionTree", "physlite", "TTree", 100),
        ("delphes_old", "Delphes", "delphes", "TTree", 10),
    ],
)
def test_tree_and_format_are_found_out(name: str, tree: str, file_format: str, kind: str, entries: int) -> None:
    (got,) = look(DATA, [f"{name}.root"])

    assert (got.tree, got.format, got.kind, got.entries) == (tree, file_format, kind, entries)
    assert got.sum_of_weights is None


def test_a_tree_in_a_folder_is_found(tmp_path: Path) -> None:
    write(tmp_path / "a.root", "ntuples/Events")

    assert look(tmp_path, ["a.root"])[0].tree == "ntuples/Events"


def test_files_come_in_the_order_of_the_fileset() -> None:
    names = ["nano_dy.root", "delphes_old.root", "nano_dy_empty.root"]

    assert [Path(facts.path).name for facts in look(DATA, names)] == names


def test_every_bad_file_is_told_at_once_in_one_line_each(tmp_path: Path) -> None:
    (tmp_path / "zero.root").touch()
    (tmp_path / "page.root").write_text("<!DOCTYPE html><html>not found</html>")
    (tmp_path / "cut.root").write_bytes((DATA / "nano_dy.root").read_bytes()[:100_000])
    (tmp_path / "folder.root").mkdir()
    files = ["zero.root", "page.root", "cut.root", "folder.root", "missing.root"]
    files += [str(DATA / name) for name in ("bad_delphes.root", "PR554_SkipReadOnlyDirectory.root")]

    got = fault_of(tmp_path, files).splitlines()

    assert [line.split(": ", 2)[2] for line in got] == [
        "is empty (0 bytes)",
        "is not a ROOT file (it starts with b'<!DO', not b'root')",
        "is truncated: 100000 of 352599 bytes are there; copy it again",
        "is a folder; name the files in it, or give a pattern such as folder/*.root",
        "no such file",
        "holds no tree and nothing else",
        "holds no tree, only dir1, dir1/h1, dir2",
    ]
    assert all(line.startswith("d: /") for line in got)


def test_a_missing_file_is_told_with_its_neighbours(tmp_path: Path) -> None:
    write(tmp_path / "sample_1.root")

    (tmp_path / "sample_2.json").touch()

    assert fault_of(tmp_path, ["sample_2.root"]).endswith("no such file; did you mean 'sample_1.root'?")


def test_a_wrong_tree_is_told_with_those_there_are(tmp_path: Path) -> None:
    write(tmp_path / "a.root", "nominal")

    assert fault_of(tmp_path, {"a.root": "nominl"}).endswith("no tree 'nominl'; did you mean 'nominal'?")
    assert fault_of(tmp_path, {"a.root": "Events"}).endswith("no tree 'Events'; it has nominal")


def test_a_choice_of_trees_is_left_to_the_user() -> None:
    assert choose_tree(["Runs", "tree"], None) == "tree"
    with pytest.raises(InputError, match="which tree"):
        choose_tree(["up", "down"], None)
    with pytest.raises(InputError, match="which tree"):
        choose_tree(["a/Events", "b/Events"], None)


def test_a_missing_branch_is_told_with_the_nearest(tmp_path: Path) -> None:
    write(tmp_path / "a.root")

    assert "no branch 'Jets_pt'; nearest: 'Jet_pt'" in fault_of(tmp_path, ["a.root"], jet_collection="Jets")


def test_a_branch_of_the_wrong_type_is_told(tmp_path: Path) -> None:
    write(tmp_path / "a.root", genWeight=ak.from_numpy(np.zeros((2, 3, 4))))

    assert "branch 'genWeight' is of type double[3][4]" in fault_of(tmp_path, ["a.root"])


def test_a_file_listed_twice_is_refused_whatever_the_path_looks_like(tmp_path: Path) -> None:
    write(tmp_path / "a.root")
    (tmp_path / "link.root").symlink_to("a.root")

    assert fault_of(tmp_path, ["a.root", "a.root"]).endswith("a.root; keep one of the two")
    assert "is listed already as" in fault_of(tmp_path, ["a.root", "../" + tmp_path.name + "/a.root"])
    assert "is listed already as" in fault_of(tmp_path, ["a.root", "link.root"])


def test_a_copy_of_a_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.root")
    shutil.copy(tmp_path / "a.root", tmp_path / "b.root")

    assert "is a copy of d: " in fault_of(tmp_path, ["a.root", "b.root"])


def test_simulation_may_stand_in_for_data(tmp_path: Path) -> None:
    write(tmp_path / "a.root")
    document = {name: {"files": "a.root", "metadata": {"is_mc": name == "mc"}} for name in ("mc", "data")}

    assert len(preflight(datasets_from(document, tmp_path), request)) == 2


def test_a_trigger_that_no_file_has_is_refused_with_the_nearest() -> None:
    files = ["nano_dimuon.root", "Run2012B_SingleMu_1000.root"]

    got = fault_of(DATA, files, is_mc=False, triggers=["HLT_IsoMu24", "HLT_IsoMu25"])

    assert got.startswith("d: no file has a branch for the trigger 'HLT_IsoMu25'; nearest: ")


def test_a_trigger_that_one_file_lacks_is_noted() -> None:
    files = ["nano_dimuon.root", "Run2012B_SingleMu_1000.root"]

    got = look(DATA, files, is_mc=False, triggers=["HLT_PFJet40"])

    assert [list(facts.missing_triggers) for facts in got] == [[], ["HLT_PFJet40"]]


def test_a_file_without_one_of_two_triggers_that_are_prescaled_together_is_refused() -> None:
    files = ["nano_dimuon.root", "Run2012B_SingleMu_1000.root"]
    triggers = [{"path": "HLT_PFJet40", "prescale": 5}, {"path": "HLT_IsoMu24", "prescale": 2}]

    got = fault_of(DATA, files, is_mc=False, triggers=triggers).splitlines()

    assert len(got) == 1
    assert (
        "Run2012B_SingleMu_1000.root: no branch for the trigger 'HLT_PFJet40', whose prescale counts together" in got[0]
    )


@pytest.mark.parametrize("name", ["PHYSLITE_example.root", "delphes_old.root"])
def test_triggers_of_a_format_that_has_no_branches_for_them_are_refused_in_one_line(name: str) -> None:
    got = fault_of(DATA, [name], is_mc=False, triggers=["HLT_j400", "HLT_j60"])

    expected = {"PHYSLITE_example.root": "physlite", "delphes_old.root": "delphes"}[name]
    assert got == f"d: trigger decisions of {expected} are not read; remove 'triggers'"


def test_a_luminosity_mask_needs_run_and_block(tmp_path: Path) -> None:
    write(tmp_path / "a.root")

    got = fault_of(tmp_path, ["a.root"], is_mc=False, lumi_mask="mask.json")

    assert "needs run, luminosity block and event, but the file lacks run and luminosity block and event" in got


def test_a_luminosity_mask_asks_nothing_of_simulation(tmp_path: Path) -> None:
    write(tmp_path / "a.root")

    assert len(look(tmp_path, ["a.root"], is_mc=True, lumi_mask="mask.json")) == 1
