"""From files with constituents to a training table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import awkward as ak
import numpy as np
import pytest
import uproot
from coffea.processor import IterativeExecutor, Runner

from models.card import ModelCard
from models.event_table import EventTable, read_table
from processors.errors import InputError
from processors.execution import Execution
from processors.fileset import datasets_from
from processors.formats import ReadRequest, find_columns
from processors.jet_calibration import JetCalibration
from processors.jet_features import lacking, network_factor, network_inputs
from processors.reading import NoColumns, read_events, runner_options
from processors.record import BAD_CONSTITUENT, Columns, group_constituents
from processors.selection import DijetSelection
from processors.training_table import TableOptions, TableSettings, look, summary_lines, write_table

if TYPE_CHECKING:
    from pathlib import Path

    from models.features import RaggedConstituents

pytest.importorskip("pyarrow")

PLAIN = Execution(executor="iterative")


def write_events(path: Path, n: int, seed: int = 1, *, is_mc: bool = True, without: tuple[str, ...] = ()) -> Path:
    """PFNano events with two jets back to back and a soft third one, out of order; jet j has j + 2 constituents."""
    rng = np.random.default_rng(seed)
    hard = rng.uniform(60, 400, n)
    pt = np.column_stack([hard * 0.95, np.full(n, 14.0), hard])
    phi = np.tile([3.0, 1.0, 0.0], (n, 1))
    eta = rng.uniform(-2, 2, (n, 3))
    counts = np.tile([2, 3, 4], (n, 1))
    link = np.tile(np.repeat([0, 1, 2], [2, 3, 4]), (n, 1))
    share = np.tile([0.3, 0.7, 0.2, 0.5, 0.3, 0.1, 0.4, 0.2, 0.3], (n, 1))
    jets = {"pt": pt, "eta": eta, "phi": phi, "mass": 0.1 * pt, "fEM3": rng.random((n, 3)), "nTracks": counts}
    parts = {"pt": share * np.take_along_axis(pt, link, 1), "eta": np.take_along_axis(eta, link, 1)}
    parts["phi"] = np.take_along_axis(phi, link, 1)
    branches: dict[str, Any] = {
        "run": np.ones(n, np.int32),
        "luminosityBlock": np.ones(n, np.int32),
        "event": np.arange(n, dtype=np.int64),
        "Rho_fixedGridRhoFastjetAll": rng.uniform(10, 20, n).astype(np.float32),
        "PV_npvs": np.full(n, 20, np.int32),
        "averageInteractions": np.full(n, 30.0, np.float32),
        "Jet": lists(jets),
        "PFCands": lists(parts),
        "JetPFCands": lists({"jetIdx": link, "pFCandsIdx": np.tile(np.arange(9), (n, 1))}),
    }
    if is_mc:
        branches["genWeight"] = rng.uniform(0.5, 2, n)
        branches["GenJet"] = lists({"pt": pt / 0.9, "eta": eta, "phi": phi, "mass": 0.1 * pt})
    with uproot.recreate(path) as file:
        file.mktree("Events", {name: values for name, values in branches.items() if name not in without})
    return path


def lists(columns: dict[str, np.ndarray]) -> ak.Array:
    kinds = {name: np.int32 if values.dtype.kind == "i" else np.float32 for name, values in columns.items()}
    return ak.zip({name: ak.from_regular(values.astype(kinds[name])) for name, values in columns.items()})


def make(
    folder: Path, files: dict[str, tuple[Path, dict[str, Any]]], **settings: Any
) -> tuple[EventTable, dict[str, Any]]:
    document = {name: {"files": [str(path)], "metadata": told} for name, (path, told) in files.items()}
    chosen = TableSettings(**{"execution": PLAIN, **settings})
    facts, _ = write_table(look(datasets_from(document, folder), chosen), chosen, folder / "t.parquet")
    return read_table(folder / "t.parquet"), facts


def test_a_table_has_whole_events_in_falling_pt_with_truth_and_constituents(tmp_path: Path) -> None:
    path = write_events(tmp_path / "mc.root", 30)

    table, facts = make(tmp_path, {"mc": (path, {"is_mc": True})})

    pt = table.jets["pt"]
    assert len(table) == 30
    assert np.all(np.diff(pt, axis=1) < 0)
    np.testing.assert_allclose(table.jets["truth_pt"], pt / 0.9, rtol=1e-5)
    assert table.jets["truth_rank"].tolist() == [[0.0, 1.0, 2.0]] * 30
    assert table.jets["n_tracks"].tolist() == [[4.0, 2.0, 3.0]] * 30
    assert table.jets["mu"].tolist() == [[30.0] * 3] * 30
    assert np.all(table.event["is_dijet"])
    assert table.constituents is not None
    assert table.constituents.counts.tolist() == [4, 2, 3] * 30
    # shares of the hardest jet are 0.1, 0.4, 0.2, 0.3 in the file
    np.testing.assert_allclose(table.constituents.values[:4, 3], np.array([0.4, 0.3, 0.2, 0.1]) * pt[0, 0], rtol=1e-5)
    np.testing.assert_allclose(
        np.hypot(*table.constituents.values[:, :2].T), table.constituents.values[:, 3], rtol=1e-5
    )
    assert "fraction_tile0" in facts["missing"]["mc"]
    assert not list(tmp_path.glob("*.parts"))


def test_a_table_without_events_is_refused(tmp_path: Path) -> None:
    path = write_events(tmp_path / "mc.root", 30)

    with pytest.raises(InputError, match=r"no event is left .* table\.min_pt_avg \(10000 GeV\)"):
        make(tmp_path, {"mc": (path, {"is_mc": True})}, table=TableOptions(min_pt_avg=1e4))

    assert not (tmp_path / "t.parquet").exists()


def test_the_table_does_not_depend_on_chunks(tmp_path: Path) -> None:
    path = write_events(tmp_path / "mc.root", 30)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()

    whole, _ = make(tmp_path / "a", {"mc": (path, {"is_mc": True})})
    cut, _ = make(
        tmp_path / "b", {"mc": (path, {"is_mc": True})}, execution=Execution(executor="iterative", chunksize=7)
    )

    for name in whole.event:
        np.testing.assert_array_equal(whole.event[name], cut.event[name], name)
    assert whole.constituents is not None
    assert cut.constituents is not None
    np.testing.assert_array_equal(whole.constituents.values, cut.constituents.values)


def test_data_take_part_without_truth_and_columns_that_some_lack_are_told(tmp_path: Path) -> None:
    files = {
        "mc": (write_events(tmp_path / "mc.root", 30), {"is_mc": True}),
        "data": (write_events(tmp_path / "data.root", 20, 2, is_mc=False, without=("PV_npvs",)), {"is_mc": False}),
    }

    table, facts = make(tmp_path, files)

    is_mc = table.event["is_mc"]
    assert (table.datasets, is_mc.sum(), len(table)) == (("mc", "data"), 30, 50)
    assert np.isnan(table.jets["truth_pt"][~is_mc]).all()
    assert np.all(table.event["weight_truth"][~is_mc] == 0)
    assert np.all(table.event["weight_flat"] > 0)
    assert "npv" in facts["missing"]["data"]
    assert "npv" not in table.jets
    lines = summary_lines(facts)
    assert "mc: 30 events" in lines
    assert any(line.startswith("weights of data, pairs: ") for line in lines)


def test_data_that_are_no_dijets_are_left_out_and_simulation_stays(tmp_path: Path) -> None:
    files = {
        "mc": (write_events(tmp_path / "mc.root", 30), {"is_mc": True}),
        "data": (write_events(tmp_path / "data.root", 40, 2, is_mc=False), {"is_mc": False}),
    }

    table, _ = make(tmp_path, files, selection=DijetSelection(min_delta_phi=3.05))

    assert len(table) == 30
    assert not table.event["is_dijet"].any()


def test_simulation_is_chosen_by_its_truth_jets(tmp_path: Path) -> None:
    path = write_events(tmp_path / "mc.root", 200)

    table, _ = make(tmp_path, {"mc": (path, {"is_mc": True})}, table=TableOptions(min_pt_avg=200))

    assert table.event["truth_pt_avg"].min() >= 200
    assert table.event["pt_avg"].min() < 200


def test_slices_of_simulation_have_their_cross_sections(tmp_path: Path) -> None:
    files = {
        "low": (write_events(tmp_path / "low.root", 30), {"is_mc": True, "xsec": 10.0}),
        "high": (write_events(tmp_path / "high.root", 20, 2), {"is_mc": True, "xsec": 0.1}),
    }

    table, _ = make(tmp_path, files)

    sums = np.bincount(table.event["dataset"], table.event["weight"])
    assert sums == pytest.approx([10.0, 0.1])


def test_a_file_without_constituents_gives_a_table_without(tmp_path: Path) -> None:
    path = write_events(tmp_path / "mc.root", 30, without=("PFCands",))

    table, facts = make(tmp_path, {"mc": (path, {"is_mc": True, "schema": "nanoaod"})})

    assert table.constituents is None
    assert any("no constituents" in line for line in summary_lines(facts))


def test_a_calibration_network_is_refused(tmp_path: Path) -> None:
    path = write_events(tmp_path / "mc.root", 3)

    with pytest.raises(InputError, match=r"calibration\.onnx is what a table is made to train"):
        make(tmp_path, {"mc": (path, {"is_mc": True})}, calibration=JetCalibration(onnx="x.onnx"))


def test_links_to_nothing_are_counted_and_the_hardest_come_first() -> None:
    pt, none = np.array([1, 5, np.nan, 2, 3], np.float32), np.zeros(5, np.float32)
    candidates = Columns(np.array([0, 3, 5]), pt, none, none)
    jet, candidate = np.array([[0, 0, 0, 1, 2, 0, 0], [0, 1, 2, 1, 0, 1, 7]], np.int32)

    got, n_bad = group_constituents(np.array([0, 2, 3]), candidates, np.array([0, 5, 7]), jet, candidate)

    assert got.offsets.tolist() == [0, 2, 3, 4]
    assert got.pt.tolist() == [5.0, 1.0, 5.0, 3.0]
    assert n_bad == 3
    assert BAD_CONSTITUENT


def test_what_a_file_lacks_of_a_network_is_named() -> None:
    card = ModelCard("calibration", ("pt", "fraction_em3", "mu", "npv", "rho"), constituent_input="parts")
    names = {"Jet_pt", "Jet_eta", "Jet_phi", "nJet", "Pileup_nTrueInt", "PV_npvs", "Jet_fEM3"}
    columns = find_columns(names, ReadRequest(is_mc=True, constituents=True))

    assert lacking(columns, card) == ("rho", "constituents")
    assert lacking(columns, card, rho=20.0) == ("constituents",)
    assert network_inputs(card).jets == ("fraction_em3",)
    assert network_inputs(card).constituents


class OnePlusShare:
    """Stands for a network: 1 + pt of the hardest constituent / pt of the jet."""

    card = ModelCard("calibration", ("pt",), constituent_input="parts")

    def factor(self, columns: Any, constituents: RaggedConstituents) -> tuple[np.ndarray, dict[str, int]]:
        return 1 + constituents.values[constituents.offsets[:-1], 3] / columns["pt"](), {}


def test_jets_of_a_chunk_get_the_factor_of_their_own_constituents_after_they_were_put_in_order(tmp_path: Path) -> None:
    path = write_events(tmp_path / "mc.root", 20)
    request = ReadRequest(is_mc=True, constituents=True)

    def process(events: Any) -> dict[str, list[np.ndarray]]:
        record = read_events(events, request)
        model: Any = OnePlusShare()
        return {"factors": [network_factor(record, model)[0].reshape(-1, 3)]}

    runner = Runner(executor=IterativeExecutor(status=False), schema=NoColumns, metadata_cache={})
    output = runner.run({"d": {"files": {str(path): "Events"}}}, process, **runner_options())

    # the hardest shares of the three jets in falling pT, see `write_events`
    np.testing.assert_allclose(output["out"]["factors"][0], np.tile([1.4, 1.7, 1.5], (20, 1)), rtol=1e-5)
