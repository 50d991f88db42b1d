"""Filesets in JSON and YAML, and the mistakes people make in them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from processors.errors import InputError
from processors.fileset import Dataset, FileEntry, Trigger, datasets_from, load_fileset, read_document

if TYPE_CHECKING:
    from pathlib import Path


def written(folder: Path, text: str, name: str = "fileset.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def one(folder: Path, files: Any = "a.root", **metadata: Any) -> Dataset:
    (dataset,) = datasets_from({"d": {"files": files, "metadata": {"is_mc": False, **metadata}}}, folder)
    return dataset


def faults_of(folder: Path, entry: Any) -> tuple[str, ...]:
    with pytest.raises(InputError) as caught:
        datasets_from({"d": entry}, folder)
    return caught.value.faults


def test_a_coffea_fileset_gives_datasets_with_paths_from_its_folder(tmp_path: Path) -> None:
    document = {
        "jets": {
            "files": {"sub/a.root": "Events", "/data/b.root": None, "root://host//c.root": "folder/Events"},
            "metadata": {"is_mc": True, "xsec": 3, "label": "Dijets", "lumi_mask": "mask.json"},
        }
    }

    got = load_fileset(written(tmp_path, json.dumps(document), "fileset.json"))

    expected = Dataset(
        name="jets",
        files=(
            FileEntry(str(tmp_path / "sub/a.root"), "Events"),
            FileEntry("/data/b.root", None),
            FileEntry("root://host//c.root", "folder/Events"),
        ),
        is_mc=True,
        xsec=3.0,
        label="Dijets",
        lumi_mask=str(tmp_path / "mask.json"),
    )
    assert got == (expected,)


@pytest.mark.parametrize(
    "entry",
    [
        {"files": {"a.root": "tree"}},
        {"files": ["a.root"], "treename": "tree"},
        {"files": {"a.root": None}, "treename": "tree"},
        {"files": "a.root", "treename": "tree"},
        {"files": {"a.root": {"object_path": "tree", "num_entries": 4, "steps": [[0, 2], [2, 4]], "uuid": "x"}}},
    ],
    ids=["mapping", "list", "default tree", "text", "preprocessed"],
)
def test_every_form_coffea_takes_for_files_is_taken(tmp_path: Path, entry: dict[str, Any]) -> None:
    (got,) = datasets_from({"d": {**entry, "metadata": {"is_mc": True}}}, tmp_path)

    assert got.files == (FileEntry(str(tmp_path / "a.root"), "tree"),)


def test_entries_left_out_by_steps_are_refused(tmp_path: Path) -> None:
    files = {"a.root": {"object_path": "tree", "num_entries": 4, "steps": [[0, 2]]}}

    assert "steps" in faults_of(tmp_path, {"files": files, "metadata": {"is_mc": True}})[0]


def test_a_pattern_stands_for_the_files_it_matches_in_order(tmp_path: Path) -> None:
    for name in ("b.root", "a.root", "c.txt"):
        (tmp_path / name).touch()

    assert [entry.path for entry in one(tmp_path, "*.root").files] == [
        str(tmp_path / "a.root"),
        str(tmp_path / "b.root"),
    ]


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "f[1].root").touch()

    assert one(tmp_path, "f[1].root").files[0].path == str(tmp_path / "f[1].root")


def test_a_pattern_without_files_is_refused(tmp_path: Path) -> None:
    assert "no file matches" in faults_of(tmp_path, {"files": "*.root", "metadata": {"is_mc": True}})[0]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["HLT_A", "HLT_B"], (Trigger("HLT_A"), Trigger("HLT_B"))),
        ({"HLT_A": 40, "HLT_B": 60.5}, (Trigger("HLT_A", 40), Trigger("HLT_B", 60.5))),
        ({"HLT_A": {"threshold": 40, "prescale": 3}}, (Trigger("HLT_A", 40, 3),)),
        ({"HLT_A": {"pt_avg": 40}, "HLT_B": {"pt_avg_min": 50}}, (Trigger("HLT_A", 40), Trigger("HLT_B", 50))),
        ([{"path": "HLT_A", "pt_avg_min": 40, "prescale": 2}], (Trigger("HLT_A", 40, 2),)),
    ],
    ids=["names", "thresholds", "mappings", "words for threshold", "list of mappings"],
)
def test_every_form_of_triggers_is_taken(tmp_path: Path, given: Any, expected: tuple[Trigger, ...]) -> None:
    assert one(tmp_path, triggers=given).triggers == expected


@pytest.mark.parametrize(
    ("metadata", "told"),
    [
        ({"is_mc": 1}, "'is_mc': expected true or false, got 1"),
        ({"is_mc": None}, "'is_mc' is empty"),
        ({}, "lacks 'is_mc'"),
        ({"is_MC": True}, "is it 'is_MC'?"),
        ({"is_mc": True, "xesc": 1}, "unknown metadata key 'xesc'; did you mean 'xsec'"),
        ({"is_mc": True, "xsec": "12 pb"}, "'xsec': expected a positive number, got '12 pb'"),
        ({"is_mc": True, "xsec": -1}, "'xsec': expected a positive number, got -1"),
        ({"is_mc": False, "xsec": 1}, "'xsec' belongs to simulation"),
        ({"is_mc": True, "schema": "nanoAOD"}, "got 'nanoAOD'; did you mean 'nanoaod'?"),
        ({"is_mc": True, "role": "nominl"}, "did you mean 'nominal'?"),
        ({"is_mc": True, "label": 3}, "'label': expected text, got 3"),
        ({"is_mc": False, "triggers": ["HLT_A", "HLT_A"]}, "'HLT_A' is given twice"),
        ({"is_mc": False, "triggers": {"HLT_A": -5}}, "expected a threshold in GeV, 0 or above, got -5"),
        ({"is_mc": False, "triggers": {"HLT_A": {"prescale": 0}}}, "expected a prescale of 1 or above, got 0"),
        ({"is_mc": False, "triggers": {"HLT_A": {"prescale": 0.2}}}, "expected a prescale of 1 or above, got 0.2"),
        ({"is_mc": False, "triggers": {"HLT_A": {"prescal": 2}}}, "did you mean 'prescale'?"),
    ],
)
def test_a_mistake_in_the_metadata_is_named(tmp_path: Path, metadata: dict[str, Any], told: str) -> None:
    assert told in "\n".join(faults_of(tmp_path, {"files": "a.root", "metadata": metadata}))


def test_all_mistakes_are_told_at_once_each_with_its_dataset(tmp_path: Path) -> None:
    text = "a: {files: x.root, metadata: {}}\nb: {files: [], metadata: {is_mc: true}}\nc: 3\n"

    with pytest.raises(InputError) as caught:
        load_fileset(written(tmp_path, text))

    path = tmp_path / "fileset.yaml"
    assert [fault.split(": ")[1] for fault in caught.value.faults] == ["a", "b", "c"]
    assert str(caught.value).startswith(f"{path}: a: metadata lacks 'is_mc'")


def test_a_cross_section_for_some_slices_only_is_refused(tmp_path: Path) -> None:
    slices = {
        "low": {"files": "a.root", "metadata": {"is_mc": True, "xsec": 2}},
        "high": {"files": "b.root", "metadata": {"is_mc": True}},
        "other": {"files": "c.root", "metadata": {"is_mc": True, "role": "alternative"}},
        "data": {"files": "d.root", "metadata": {"is_mc": False}},
    }

    with pytest.raises(InputError, match="not for high"):
        datasets_from(slices, tmp_path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("f.json", '{"a": {"files": "x.root", "files": "y.root"}}'),
        ("f.yaml", "a: {files: x.root}\na: {files: y.root}\n"),
    ],
)
def test_a_key_given_twice_is_refused(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(InputError, match="given twice"):
        read_document(written(tmp_path, text, name))


def test_numbers_of_yaml_are_those_of_json(tmp_path: Path) -> None:
    assert read_document(written(tmp_path, "a: 1e3\nb: 2.5E-1\nc: 7\n")) == {"a": 1000.0, "b": 0.25, "c": 7}


def test_merged_keys_of_yaml_are_not_taken_for_doubles(tmp_path: Path) -> None:
    text = "base: &base {x: 1, y: 2}\nown: {<<: *base, y: 3}\n"

    assert read_document(written(tmp_path, text))["own"] == {"x": 1, "y": 3}


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("f.json", '{"a": 1,}', "f.json, line 1: not valid JSON"),
        ("f.yaml", "a: 1\nb: [1\n", "f.yaml, line 3: not valid YAML"),
        ("f.yaml", "- a\n", "expected a mapping at the top, got a list"),
        ("f.yaml", "", "names no dataset"),
    ],
)
def test_a_file_that_is_no_fileset_is_told_with_its_line(tmp_path: Path, name: str, text: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        load_fileset(written(tmp_path, text, name))


def test_a_root_file_in_place_of_a_fileset_is_told(tmp_path: Path) -> None:
    path = tmp_path / "data.root"
    path.write_bytes(b"root\x00\x00\xf2\xf3")
    with pytest.raises(InputError, match="expected text that names ROOT files, in JSON or YAML, got one of them"):
        load_fileset(path)


def test_a_missing_fileset_is_told_with_its_neighbours(tmp_path: Path) -> None:
    written(tmp_path, "{}")

    with pytest.raises(InputError, match=r"no such file; did you mean 'fileset\.yaml'"):
        load_fileset(tmp_path / "filset.yaml")
