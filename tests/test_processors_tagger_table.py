"""From files with large-R jets to the table of a tagger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from large_jet_toys import QCD_EVENT, TOP_EVENT, W_EVENT, write_large_jets

from models.tagging.columns import CATEGORIES, SUBSTRUCTURE
from models.tagging.tagger_table import JetTable, read_table
from processors.errors import InputError
from processors.execution import Execution
from processors.fileset import datasets_from
from processors.large_jets import LargeJets
from processors.substructure import substructure
from processors.tagger_table import TaggerTableOptions, TaggerTableSettings, has_both, look, summary_lines, write_table
from processors.trimming import trimmed

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("pyarrow")

PLAIN = Execution(executor="iterative")
EVENTS = [TOP_EVENT, W_EVENT, QCD_EVENT, W_EVENT, QCD_EVENT, TOP_EVENT]


def make(
    folder: Path, files: dict[str, tuple[Path, dict[str, Any]]], **settings: Any
) -> tuple[JetTable, dict[str, Any]]:
    document = {name: {"files": [str(path)], "metadata": told} for name, (path, told) in files.items()}
    chosen = TaggerTableSettings(**{"execution": PLAIN, **settings})
    facts, _ = write_table(look(datasets_from(document, folder), chosen), chosen, folder / "t.parquet")
    return read_table(folder / "t.parquet"), facts


def test_rows_are_labelled_jets_and_what_is_neither_is_counted(tmp_path: Path) -> None:
    path = write_large_jets(tmp_path / "mc.root", EVENTS)

    table, facts = make(tmp_path, {"mc": (path, {"is_mc": True})}, table=TaggerTableOptions(signal=("w",)))

    assert [CATEGORIES[number] for number in table.columns["category"]] == ["w", "qcd", "qcd", "w", "qcd", "qcd"]
    assert table.columns["label"].tolist() == [1, 0, 0, 1, 0, 0]
    assert table.columns["pt"].tolist() == [500, 500, 450, 500, 500, 450]
    np.testing.assert_allclose(table.columns["truth_pt"], table.columns["pt"] / 0.9, rtol=1e-6)
    assert table.columns["mass"].tolist() == [80, 80, 10, 80, 80, 10]
    assert facts["jets"] == {"mc": {"w": 2, "qcd": 4}}
    assert facts["excluded"]["mc"] == {
        "jets that are top, which is neither signal nor background": 2,
        "jets that are other, which is neither signal nor background": 2,
        "jets that are unmatched, which is neither signal nor background": 2,
    }
    assert "mc: 6 events, jets: 4 qcd, 2 w" in summary_lines(facts)
    assert has_both(facts)
    assert not list(tmp_path.glob("*.parts"))


def test_substructure_is_that_of_the_stored_constituents(tmp_path: Path) -> None:
    path = write_large_jets(tmp_path / "mc.root", EVENTS)

    table, _ = make(tmp_path, {"mc": (path, {"is_mc": True})}, large_jets=LargeJets(radius=1.0, grooming="none"))

    constituents = table.constituents
    assert constituents is not None
    assert constituents.counts.tolist() == [5, 5, 3, 5, 3, 5]
    momentum = np.hypot(*constituents.values[:, :2].T)
    assert all(np.all(np.diff(part) <= 0) for part in np.split(momentum, constituents.offsets[1:-1]))
    expected = substructure(constituents, 1.0)
    for name in SUBSTRUCTURE:
        np.testing.assert_array_equal(table.columns[name], expected[name], name)


def test_trimming_leaves_constituents_out(tmp_path: Path) -> None:
    files: dict[str, tuple[Path, dict[str, Any]]] = {
        "mc": (write_large_jets(tmp_path / "mc.root", 5 * EVENTS), {"is_mc": True})
    }
    plain, _ = make(tmp_path, files, large_jets=LargeJets(grooming="none"))

    table, _ = make(tmp_path, files, large_jets=LargeJets(subjet_radius=0.3, subjet_fraction=0.1))

    assert plain.constituents is not None
    assert table.constituents is not None
    expected = trimmed(plain.constituents, 0.3, 0.1)
    assert expected.offsets[-1] < plain.constituents.offsets[-1]
    np.testing.assert_array_equal(table.constituents.offsets, expected.offsets)
    np.testing.assert_array_equal(table.constituents.values, expected.values)
    np.testing.assert_array_equal(table.columns["d2"], substructure(expected, 0.8)["d2"])


def test_the_table_does_not_depend_on_chunks(tmp_path: Path) -> None:
    path = write_large_jets(tmp_path / "mc.root", 5 * EVENTS)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()

    whole, _ = make(tmp_path / "a", {"mc": (path, {"is_mc": True})})
    cut, _ = make(
        tmp_path / "b", {"mc": (path, {"is_mc": True})}, execution=Execution(executor="iterative", chunksize=7)
    )

    assert len(np.unique(whole.columns["identity"])) == len(whole)
    for name in whole.columns:
        np.testing.assert_array_equal(whole.columns[name], cut.columns[name], name)


def test_data_take_part_without_a_label_and_slices_have_their_cross_section(tmp_path: Path) -> None:
    files: dict[str, tuple[Path, dict[str, Any]]] = {
        "top": (write_large_jets(tmp_path / "top.root", [TOP_EVENT] * 4), {"is_mc": True, "xsec": 3.0}),
        "qcd": (write_large_jets(tmp_path / "qcd.root", [QCD_EVENT] * 4, seed=2), {"is_mc": True, "xsec": 50.0}),
        "data": (write_large_jets(tmp_path / "d.root", [QCD_EVENT] * 2, is_mc=False, seed=3), {"is_mc": False}),
    }

    table, facts = make(tmp_path, files)

    of_data = ~table.columns["is_mc"]
    assert table.columns["label"][of_data].tolist() == [-1] * 4
    assert table.columns["category"][of_data].tolist() == [-1] * 4
    assert np.isnan(table.columns["truth_pt"][of_data]).all()
    # two jets of each multijet event, one of each top event: the other top decays to a muon
    sums = np.bincount(table.columns["dataset"], table.columns["weight"])
    assert sums == pytest.approx([3.0, 100.0, 4.0])
    assert facts["datasets"] == ["top", "qcd", "data"]
    assert facts["jets"]["data"] == {"data": 4}


def test_jets_outside_the_window_are_counted(tmp_path: Path) -> None:
    path = write_large_jets(tmp_path / "mc.root", [QCD_EVENT, TOP_EVENT])

    _, facts = make(tmp_path, {"mc": (path, {"is_mc": True})}, large_jets=LargeJets(min_pt=480))

    assert facts["excluded"]["mc"] == {"jets outside the range of pt": 2}


def test_a_table_without_jets_is_refused(tmp_path: Path) -> None:
    path = write_large_jets(tmp_path / "mc.root", [QCD_EVENT])

    with pytest.raises(InputError, match="no jet is left for the table"):
        make(tmp_path, {"mc": (path, {"is_mc": True})}, large_jets=LargeJets(min_pt=600))


def test_a_table_of_one_class_alone_is_told(tmp_path: Path) -> None:
    path = write_large_jets(tmp_path / "mc.root", [QCD_EVENT])

    _, facts = make(tmp_path, {"mc": (path, {"is_mc": True})})

    assert not has_both(facts)
    assert summary_lines(facts)[-1].startswith("no jets of signal, or none of background")


@pytest.mark.parametrize(
    ("without", "message"),
    [
        ("GenPart", "no generated particles, which tell what a jet is in truth"),
        ("FatJetPFCands", "no constituents of FatJet"),
        ("FatJet", "no branch 'FatJet_pt'"),
    ],
)
def test_what_files_lack_is_refused_beforehand(tmp_path: Path, without: str, message: str) -> None:
    path = write_large_jets(tmp_path / "mc.root", [TOP_EVENT], without=(without,))

    with pytest.raises(InputError, match=message):
        make(tmp_path, {"mc": (path, {"is_mc": True, "schema": "pfnano"})})


def test_a_file_without_the_usual_truth_jets_gives_a_table_without_their_pt_and_a_note(tmp_path: Path) -> None:
    path = write_large_jets(tmp_path / "mc.root", EVENTS, without=("GenJetAK8",))
    data = write_large_jets(tmp_path / "d.root", EVENTS, is_mc=False, seed=2)

    table, facts = make(tmp_path, {"mc": (path, {"is_mc": True}), "data": (data, {"is_mc": False})})

    assert np.isnan(table.columns["truth_pt"]).all()
    assert facts["jets"]["mc"] == {"qcd": 4, "top": 2}
    (note,) = [line for line in summary_lines(facts) if line.startswith("note: ")]
    assert note == (
        f"note: mc: {path} has no truth jets GenJetAK8; its truth_pt is nan; if there are others, name them by "
        "large_jets.truth_collection"
    )


@pytest.mark.parametrize("named", ["GenJetAK8", "GenFatJet"])
def test_truth_jets_that_are_named_and_not_there_are_refused_with_what_to_do(tmp_path: Path, named: str) -> None:
    path = write_large_jets(tmp_path / "mc.root", [TOP_EVENT], without=("GenJetAK8",))

    with pytest.raises(InputError) as caught:
        make(tmp_path, {"mc": (path, {"is_mc": True})}, large_jets=LargeJets(truth_collection=named))

    assert any(f"no branch '{named}_pt'" in fault for fault in caught.value.faults)
    assert caught.value.faults[-1].endswith("set large_jets.truth_collection=null to run without truth jets")


@pytest.mark.parametrize(("named", "has_truth"), [("GenJetAK8", True), ("auto", True), (None, False)])
def test_truth_jets_can_be_named_or_left_out(tmp_path: Path, named: str | None, has_truth: bool) -> None:  # noqa: FBT001
    path = write_large_jets(tmp_path / "mc.root", EVENTS)

    table, facts = make(tmp_path, {"mc": (path, {"is_mc": True})}, large_jets=LargeJets(truth_collection=named))

    assert np.isfinite(table.columns["truth_pt"]).all() == has_truth
    assert facts["notes"] == []


def test_a_window_or_labels_that_make_no_sense_are_refused() -> None:
    with pytest.raises(InputError, match="0 <= min_pt < max_pt"):
        LargeJets(min_pt=500, max_pt=400)
    with pytest.raises(InputError, match="no truth category 'higgs'; there are qcd, w"):
        TaggerTableOptions(signal=("higgs",))
    with pytest.raises(InputError, match="none in common"):
        TaggerTableOptions(signal=("qcd",))
