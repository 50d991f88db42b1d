from __future__ import annotations

import os
import pickle
import select
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle
import numpy as np
import pytest
import uproot
from coffea.processor import ProcessorABC
from coffea.processor.executor import WorkItem

from processors.chunk_store import ChunkStore, FileIdentity
from processors.errors import InputError, UnreadableEventsError
from processors.execution import ChunkError, Execution, InputFile, _PatientWork, execute
from processors.histograms import DatasetSums, Filled, OrderedSum, SparseSums

if TYPE_CHECKING:
    from collections.abc import Callable

    from processors.execution import ExecutorName, Outcome

# Workers cannot import a test module.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

EVENTS, CHUNK = 1000, 100
ITERATIVE = Execution(executor="iterative", chunksize=CHUNK, retry_seconds=(0.0,))
FUTURES = replace(ITERATIVE, executor="futures", workers=2)


@dataclass(frozen=True)
class AddWeights(ProcessorABC):  # type: ignore[misc]
    """Sums the branch `weight`; `trouble(chunk)` is called first and may make trouble."""

    trouble: Callable[[int], None] | None = None

    def process(self, events: Any) -> OrderedSum:
        chunk = int(events.metadata["chunk"])
        if self.trouble is not None:
            self.trouble(chunk)
        weight = (
            events.attrs["@events_factory"]
            .file_handle["Events/weight"]
            .array(entry_start=events.metadata["entrystart"], entry_stop=events.metadata["entrystop"], library="np")
        )
        empty = SparseSums.empty()
        cutflow = np.array([[len(weight), weight.sum()]])
        sums = DatasetSums(empty, empty, empty, np.zeros((1, 1)), np.zeros((1, 2)), cutflow)
        return OrderedSum.single(chunk, Filled({events.metadata["dataset"]: sums}))

    def postprocess(self, accumulator: OrderedSum) -> OrderedSum:
        return accumulator


@pytest.fixture
def files(tmp_path: Path) -> list[InputFile]:
    rng = np.random.default_rng(1)
    written = []
    for dataset in ("one", "two"):
        path = tmp_path / f"{dataset}.root"
        with uproot.recreate(path) as file:
            file.mktree("Events", {"weight": np.float64}).extend({"weight": rng.normal(size=EVENTS)})
        with uproot.open(path) as file:
            identity = FileIdentity(str(path), str(file.file.uuid), path.stat().st_size, path.stat().st_mtime_ns)
        written.append(InputFile(dataset, identity, "Events", EVENTS))
    return written


@pytest.fixture
def store(tmp_path: Path) -> ChunkStore:
    folder = tmp_path / "chunks"
    folder.mkdir()
    return ChunkStore(folder, "one version of everything")


def total(outcome: Outcome) -> dict[str, list[float]]:
    return {name: sums.cutflow[0].tolist() for name, sums in outcome.output.datasets.items()}


def test_every_executor_gives_the_same_bits(files: list[InputFile], tmp_path: Path) -> None:
    got = []
    for i, execution in enumerate((ITERATIVE, replace(FUTURES, workers=1), FUTURES)):
        folder = tmp_path / str(i)
        folder.mkdir()
        got.append(total(execute(files, AddWeights(), execution, ChunkStore(folder, ""))))
    assert got[0]["one"][0] == EVENTS
    assert got[0] == got[1] == got[2]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dask", "parsl"])
def test_cluster_executors_give_the_bits_of_one_process(
    files: list[InputFile], store: ChunkStore, name: ExecutorName
) -> None:
    expected = total(execute(files, AddWeights(), ITERATIVE, store))
    store.remove()
    store.folder.mkdir()
    outcome = execute(files, AddWeights(), replace(FUTURES, executor=name), store)
    assert total(outcome) == expected


def test_a_killed_worker_costs_nothing_but_time(files: list[InputFile], store: ChunkStore, tmp_path: Path) -> None:
    expected = total(execute(files, AddWeights(), ITERATIVE, ChunkStore(store.folder, "other")))
    flag = tmp_path / "killed"

    def die_once(chunk: int) -> None:
        if chunk == 7 and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    outcome = execute(files, AddWeights(die_once), FUTURES, store)
    assert total(outcome) == expected
    assert (outcome.crashes, outcome.lost) == (1, ())


def test_a_chunk_that_always_kills_its_worker_is_given_up(files: list[InputFile], store: ChunkStore) -> None:
    def die(chunk: int) -> None:
        if chunk == 7:
            os.kill(os.getpid(), signal.SIGKILL)

    outcome = execute(files, AddWeights(die), FUTURES, store)
    assert [(lost.dataset, lost.start, lost.stop) for lost in outcome.lost] == [("one", 700, 800)]
    assert "killed" in outcome.lost[0].reason
    assert total(outcome)["one"][0] == EVENTS - CHUNK


@pytest.mark.parametrize("execution", [ITERATIVE, FUTURES], ids=["iterative", "futures"])
def test_unreadable_events_are_told_and_left_out(
    files: list[InputFile], store: ChunkStore, execution: Execution
) -> None:
    def damaged(chunk: int) -> None:
        if chunk == 12:
            raise UnreadableEventsError("checksum of a basket of Jet_pt is wrong")

    outcome = execute(files, AddWeights(damaged), execution, store)
    assert [(lost.dataset, lost.start, lost.stop) for lost in outcome.lost] == [("two", 200, 300)]
    assert outcome.lost[0].reason == "checksum of a basket of Jet_pt is wrong"
    assert (outcome.events, outcome.planned_events) == (1900, 2000)


def test_a_file_that_vanished_is_told_and_left_out(files: list[InputFile], store: ChunkStore) -> None:
    Path(files[1].identity.path).unlink()
    outcome = execute(files, AddWeights(), ITERATIVE, store)
    assert {lost.file for lost in outcome.lost} == {files[1].identity.path}
    assert "FileNotFoundError" in outcome.lost[0].reason
    assert outcome.events == EVENTS


def test_a_passing_fault_of_the_file_is_tried_again(files: list[InputFile], store: ChunkStore, tmp_path: Path) -> None:
    flag = tmp_path / "tried"

    def fail_once(chunk: int) -> None:
        if chunk == 3 and not flag.exists():
            flag.touch()
            raise UnreadableEventsError("connection lost") from TimeoutError("60 s")

    outcome = execute(files, AddWeights(fail_once), ITERATIVE, store)
    assert outcome.lost == ()
    assert flag.exists()


@pytest.mark.parametrize("execution", [ITERATIVE, FUTURES], ids=["iterative", "futures"])
def test_an_error_of_our_own_ends_the_run_once_and_says_where(
    files: list[InputFile], store: ChunkStore, execution: Execution, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    calls = tmp_path / "calls"

    def divide(chunk: int) -> None:
        if chunk == 12:
            calls.open("a").write("x")
            _ = 1 / 0

    with pytest.raises(ChunkError, match=r"^two: .*two.root, entries 200 to 300: ZeroDivisionError") as caught:
        execute(files, AddWeights(divide), execution, store)
    assert "_ = 1 / 0" in caught.value.trace
    assert calls.read_text() == "x"
    assert capfd.readouterr().err == ""


def test_a_missing_correction_is_not_taken_for_a_bad_event_file(files: list[InputFile], store: ChunkStore) -> None:
    def missing(_: int) -> None:
        raise FileNotFoundError("jerc.json")

    with pytest.raises(ChunkError, match=r"jerc\.json"):
        execute(files, AddWeights(missing), ITERATIVE, store)


def test_a_second_run_takes_finished_chunks_and_gives_the_same_bits(files: list[InputFile], store: ChunkStore) -> None:
    def fail_late(chunk: int) -> None:
        if chunk == 15:
            raise ZeroDivisionError

    with pytest.raises(ChunkError):
        execute(files, AddWeights(fail_late), ITERATIVE, store)
    resumed = execute(files, AddWeights(), ITERATIVE, store)
    fresh_store = ChunkStore(store.folder, "no chunk has this")
    assert resumed.resumed == 15
    assert total(resumed) == total(execute(files, AddWeights(), ITERATIVE, fresh_store))


def test_a_damaged_or_foreign_chunk_is_computed_again(files: list[InputFile], store: ChunkStore) -> None:
    execute(files, AddWeights(), ITERATIVE, store)
    damaged = min(store.folder.glob("*.npz"))
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 0xFF
    damaged.write_bytes(content)
    changed = replace(files[1], identity=replace(files[1].identity, modified_ns=1))
    assert execute(files, AddWeights(), ITERATIVE, store).resumed in (19, 20)
    assert execute([files[0], changed], AddWeights(), ITERATIVE, store).resumed == 10


def test_maxchunks_counts_in_each_dataset(files: list[InputFile], store: ChunkStore) -> None:
    outcome = execute(files, AddWeights(), replace(ITERATIVE, maxchunks=2), store)
    assert {name: events for name, (events, _) in total(outcome).items()} == {"one": 200, "two": 200}


def test_a_file_without_events_runs_through(files: list[InputFile], store: ChunkStore, tmp_path: Path) -> None:
    path = tmp_path / "empty.root"
    with uproot.recreate(path) as file:
        file.mktree("Events", {"weight": np.float64})
    with uproot.open(path) as file:
        identity = FileIdentity(str(path), str(file.file.uuid))
    outcome = execute([*files, InputFile("three", identity, "Events", 0)], AddWeights(), ITERATIVE, store)
    assert total(outcome)["three"] == [0.0, 0.0]


def test_warnings_of_workers_come_back_once(files: list[InputFile], store: ChunkStore) -> None:
    def warn(_: int) -> None:
        import warnings

        warnings.warn("rho is negative", UserWarning)

    outcome = execute(files, AddWeights(warn), FUTURES, store)
    assert outcome.warnings == ("one: UserWarning: rho is negative", "two: UserWarning: rho is negative")


def test_no_worker_outlives_a_killed_run(tmp_path: Path, is_alive: Callable[[int], bool]) -> None:
    script = """
        import os, time
        from processors.worker_pool import open_pool
        if __name__ == "__main__":
            pool = open_pool(2)
            print(*pool.map(abs, [1, 2]), flush=True)
            pool.submit(time.sleep, 60)
            time.sleep(60)
    """
    (tmp_path / "script.py").write_text(textwrap.dedent(script))
    with subprocess.Popen([sys.executable, "script.py"], cwd=tmp_path, stdout=subprocess.PIPE, process_group=0) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"1 2\n"
        run.kill()
    deadline = time.monotonic() + 10
    while is_alive(run.pid):
        assert time.monotonic() < deadline


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(InputError, match=r"execution\.workers must be at least 1, got 0"):
        Execution(workers=0)
    with pytest.raises(InputError, match="needs executor dask"):
        Execution(scheduler="tcp://localhost:8786")
    with pytest.raises(InputError, match="an address like tcp://host:8786, got 'localhost'"):
        Execution(executor="dask", scheduler="localhost")


@pytest.mark.parametrize("address", ["tcp://localhost:8786", "localhost:8786", "tls://[::1]:8786"])
def test_an_address_of_a_scheduler_is_taken(address: str) -> None:
    assert Execution(executor="dask", scheduler=address).scheduler == address


def test_what_a_pool_sends_of_a_finished_chunk_fits_a_pipe_at_once(tmp_path: Path) -> None:
    # a sender that is killed in mid-message would leave the reader waiting for the rest for ever
    store = ChunkStore(tmp_path, "fingerprint")
    item = WorkItem("data", "file.root", "Events", 0, 1, "uuid", usermeta={"chunk": 0, "chunk_key": "0" * 32})
    large = SparseSums(np.arange(10_000), np.ones((10_000, 2)), np.ones((10_000, 100), np.float32))
    filled = Filled({"data": DatasetSums(large, large, large, np.zeros((1, 1)), np.zeros((1, 2)), np.zeros((1, 2)))})

    def work(_: WorkItem) -> dict[str, Any]:
        return {"out": OrderedSum.single(0, filled), "processed": {item}}

    sent = _PatientWork(store, (), by_disk=True)(0, None, work, item)
    assert len(pickle.dumps(sent)) < select.PIPE_BUF
    received = (OrderedSum({}) + sent["out"]).total()
    assert np.array_equal(received.datasets["data"].asymmetry.replicas, large.replicas)
