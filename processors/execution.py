"""Chunks of events through a processor, on one core, a pool of processes, dask or parsl, all by coffea's Runner.

Each chunk carries its place in (dataset, file, entry) order: the sum does not depend on which one is done first. A
finished chunk is kept on disk. Input that cannot be read is given up chunk by chunk and told with its reason. An error
of our own code ends the run at once. A killed worker costs only the chunks it was working on, which are done again.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
import re
import sys
import tempfile
import time
import traceback
import uuid
import warnings
from collections import Counter
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import coffea.util
from coffea.processor import DaskExecutor, FuturesExecutor, IterativeExecutor, ParslExecutor, ProcessorABC, Runner
from coffea.processor.executor import FileMeta, WorkItem

from processors.code_identity import code_digest
from processors.errors import InputError, UnreadableEventsError
from processors.histograms import Filled, OrderedSum
from processors.progress import shown
from processors.reading import NoColumns, runner_options
from processors.worker_pool import available_cores, environment, open_pool, stop_pool, worker_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from processors.chunk_store import ChunkStore, FileIdentity

ExecutorName = Literal["iterative", "futures", "dask", "parsl"]

# A chunk that was being worked on in this many crashes is tried once more, alone; then it is given up.
CRASHES_BEFORE_ALONE = 2
CLOSE_SECONDS = 2
DASK_SECONDS = 60
ADDRESS = re.compile(r"(\w+://)?\S+:\d+/?")


@dataclass(frozen=True, slots=True)
class Execution:
    """How the work is spread (YAML section `execution`); none of it changes a result but `chunksize`, by rounding.

    Attributes
    ----------
    executor
        "iterative" is this process, "futures" a pool of processes, "dask" and "parsl" the packages of that name.
    workers
        Processes; None for one per available core.
    chunksize, maxchunks
        Events in a chunk, about; chunks of each dataset that are processed, None for all.
    scheduler
        Address of a dask scheduler; None for workers on this machine.
    retry_seconds
        Waits before a file that could not be opened or read is tried again.
    timeout
        Seconds after which a remote file counts as unreadable.
    """

    executor: ExecutorName = "futures"
    workers: int | None = None
    chunksize: int = 100_000
    maxchunks: int | None = None
    scheduler: str | None = None
    retry_seconds: tuple[float, ...] = (0.5, 2.0)
    timeout: float = 60.0

    def __post_init__(self) -> None:
        """Refuse numbers of workers, events or chunks below one, and what is no address."""
        for name in ("workers", "chunksize", "maxchunks"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"execution.{name} must be at least 1, got {value}")
        if self.scheduler is not None and self.executor != "dask":
            raise InputError(f"execution.scheduler needs executor dask, got {self.executor}")
        if self.scheduler is not None and not ADDRESS.fullmatch(self.scheduler):
            raise InputError(f"execution.scheduler is an address like tcp://host:8786, got {self.scheduler!r}")

    @property
    def n_workers(self) -> int:
        """Processes that will be started."""
        return 1 if self.executor == "iterative" else self.workers or available_cores()


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file that was looked at, and what is in it."""

    dataset: str
    identity: FileIdentity
    tree: str
    entries: int


@dataclass(frozen=True, slots=True)
class LostChunk:
    """Entries [start, stop) of a file that could not be processed, and why."""

    dataset: str
    file: str
    start: int
    stop: int
    reason: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """The sum over all chunks that were processed, and what is to be known about it.

    `planned` and `lost` cover the input between them; `resumed` chunks were there from an earlier run, `crashes` counts
    the times workers died. `start_seconds` went into workers getting ready, `seconds` into the work.
    """

    output: Filled
    planned: tuple[WorkItem, ...]
    lost: tuple[LostChunk, ...]
    resumed: int
    crashes: int
    start_seconds: float
    seconds: float
    warnings: tuple[str, ...]

    @property
    def planned_events(self) -> int:
        """Events of all chunks."""
        return sum(len(item) for item in self.planned)

    @property
    def lost_events(self) -> int:
        """Events that were given up."""
        return sum(chunk.stop - chunk.start for chunk in self.lost)

    @property
    def events(self) -> int:
        """Events in the sum."""
        return self.planned_events - self.lost_events

    def counts(self) -> dict[tuple[str, str], tuple[int, int]]:
        """Events planned and lost of each file, by dataset and path."""
        planned: Counter[tuple[str, str]] = Counter()
        lost: Counter[tuple[str, str]] = Counter()
        for item in self.planned:
            planned[item.dataset, item.filename] += len(item)
        for chunk in self.lost:
            lost[chunk.dataset, chunk.file] += chunk.stop - chunk.start
        return {place: (events, lost[place]) for place, events in planned.items()}


class ChunkError(Exception):
    """Our own code failed on a chunk; `trace` is the traceback there, `is_input` tells a mistake of the user."""

    def __init__(self, message: str, trace: str, *, is_input: bool = False) -> None:
        super().__init__(message, trace)
        self.message, self.trace, self.is_input = message, trace, is_input

    def __reduce__(self) -> tuple[Any, ...]:
        """Survive the way from a worker."""
        return _chunk_error, (self.message, self.trace, self.is_input)

    def __str__(self) -> str:
        """The message without the traceback."""
        return self.message


def _chunk_error(message: str, trace: str, is_input: bool) -> ChunkError:  # noqa: FBT001  as pickled
    return ChunkError(message, trace, is_input=is_input)


class WorkersDiedError(Exception):
    """One or more workers ended without a word: killed, out of memory, or a crash in native code."""


def execute(
    files: Sequence[InputFile], processor: ProcessorABC, execution: Execution, store: ChunkStore, *, title: str = ""
) -> Outcome:
    """Sum of `processor` over all chunks of `files`, with what was lost; progress is shown under a `title`.

    Chunks that are in `store`, whose folder must exist, are not processed again. The processor returns an `OrderedSum`
    under the chunk number `events.metadata["chunk"]`.

    Raises
    ------
    ChunkError
        Where the code of the processor failed, with dataset, file and entry range.
    WorkersDiedError
        Where no worker lives long enough to finish a chunk.
    """
    began = time.monotonic()
    store.forget_marks()
    planned = plan_chunks(files, execution, store)
    ledger = _Ledger(planned)
    missing = ledger.take_kept(planned, store)
    resumed = len(ledger.done)
    start_seconds = 0.0
    if missing:
        events = {_key(item): len(item) for item in planned}
        workers = f"{execution.n_workers} worker{'s' if execution.n_workers > 1 else ''}"
        with shown(store, events, f"{title}, {workers}") if title else contextlib.nullcontext():
            start_seconds = _work_off(missing, _Guarded(processor), execution, store, ledger)
    seconds = time.monotonic() - began - start_seconds
    return ledger.outcome(resumed=resumed, start_seconds=start_seconds, seconds=seconds)


def plan_chunks(files: Sequence[InputFile], execution: Execution, store: ChunkStore) -> list[WorkItem]:
    """Work items in the order of datasets, files and entries, each with its number and its key in the store."""
    by_place = {(file.dataset, file.identity.path): file for file in files}

    def key(item: WorkItem) -> str:
        identity = by_place[item.dataset, item.filename].identity
        return store.key(item.dataset, identity, item.treename, (item.entrystart, item.entrystop))

    return [
        replace(item, usermeta={"chunk": i, "chunk_key": key(item)}) for i, item in enumerate(_cut(files, execution))
    ]


def _cut(files: Sequence[InputFile], execution: Execution) -> list[WorkItem]:
    """Chunks of all files in order; the Runner is told what was seen of the files, so it opens none again."""
    fileset: dict[str, Any] = {}
    seen = {}
    for file in files:
        fileset.setdefault(file.dataset, {"files": {}})["files"][file.identity.path] = file.tree
        facts = {"numentries": file.entries, "uuid": uuid.UUID(file.identity.uuid).bytes}
        seen[FileMeta(file.dataset, file.identity.path, file.tree)] = facts
    runner = Runner(
        executor=IterativeExecutor(status=False),
        schema=NoColumns,
        chunksize=execution.chunksize,
        maxchunks=execution.maxchunks,
        metadata_cache=seen,
    )
    return list(runner.preprocess(fileset))


@dataclass(slots=True)
class _Ledger:
    """What has come of each planned chunk so far."""

    planned: Sequence[WorkItem]
    output: OrderedSum = field(default_factory=lambda: OrderedSum({}))
    done: set[WorkItem] = field(default_factory=set)
    lost: dict[WorkItem, str] = field(default_factory=dict)
    warnings: set[str] = field(default_factory=set)
    crashes: int = 0

    def take_kept(self, items: Sequence[WorkItem], store: ChunkStore) -> list[WorkItem]:
        """Add the chunks that are on disk to the output; the others are returned."""
        finished = store.finished()
        missing = []
        for item in items:
            filled = store.load(_key(item)) if _key(item) in finished else None
            if filled is None:
                missing.append(item)
            else:
                self.output += OrderedSum.single(_index(item), filled)
                self.done.add(item)
        return missing

    def take_result(self, result: Mapping[str, Any]) -> None:
        """Add what a Runner returned."""
        self.output += result["out"]
        self.done |= result["processed"]
        self.lost.update(result["lost"])
        self.warnings |= result["warnings"]

    def outcome(self, *, resumed: int, start_seconds: float, seconds: float) -> Outcome:
        """The result, once every chunk is in the sum or among the lost ones."""
        missing = set(self.planned) - self.done - self.lost.keys()
        if missing or self.done & self.lost.keys():
            message = (
                f"of {len(self.planned)} chunks {len(self.done)} are done and {len(self.lost)} lost; this is a defect"
            )
            raise RuntimeError(message)
        lost = [
            LostChunk(item.dataset, item.filename, item.entrystart, item.entrystop, self.lost[item])
            for item in self.planned
            if item in self.lost
        ]
        return Outcome(
            output=self.output.total(),
            planned=tuple(self.planned),
            lost=tuple(lost),
            resumed=resumed,
            crashes=self.crashes,
            start_seconds=start_seconds,
            seconds=seconds,
            warnings=tuple(sorted(self.warnings)),
        )


def _key(item: WorkItem) -> str:
    return str(item.usermeta["chunk_key"])


def _index(item: WorkItem) -> int:
    return int(item.usermeta["chunk"])


def _work_off(
    pending: list[WorkItem], processor: _Guarded, execution: Execution, store: ChunkStore, ledger: _Ledger
) -> float:
    """Process everything that is pending, again after each crash; returns the seconds until workers were ready."""
    crashes_of: Counter[str] = Counter()
    start_seconds = 0.0
    while pending:
        try:
            start_seconds += _attempt(pending, processor, execution, store, ledger)
        except WorkersDiedError as error:
            before = len(pending)
            crashes_of.update(store.begun())
            pending = _recover(pending, store, ledger)
            if not crashes_of and len(pending) == before:
                raise
            dangerous = [item for item in pending if crashes_of[_key(item)] >= CRASHES_BEFORE_ALONE]
            for item in dangerous:
                _try_alone(item, processor, execution, store, ledger, str(error))
            pending = [item for item in pending if item not in dangerous]
        else:
            pending = []
    return start_seconds


def _recover(pending: list[WorkItem], store: ChunkStore, ledger: _Ledger) -> list[WorkItem]:
    """What is left to do after a crash; the results that were on their way are taken from disk."""
    ledger.crashes += 1
    store.forget_marks()
    return ledger.take_kept([item for item in pending if item not in ledger.done and item not in ledger.lost], store)


def _try_alone(
    item: WorkItem, processor: _Guarded, execution: Execution, store: ChunkStore, ledger: _Ledger, reason: str
) -> None:
    """A last attempt for a chunk that was there in several crashes, with the whole machine to itself."""
    try:
        _attempt([item], processor, replace(execution, workers=1), store, ledger)
    except WorkersDiedError:
        ledger.crashes += 1
        store.forget_marks()
        ledger.lost[item] = f"{reason}, {CRASHES_BEFORE_ALONE + 1} times on this chunk (out of memory?)"


def _attempt(
    items: Sequence[WorkItem], processor: _Guarded, execution: Execution, store: ChunkStore, ledger: _Ledger
) -> float:
    """Process all items in new workers; returns the seconds until those were ready."""
    began = time.monotonic()
    with _opened(execution) as executor:
        ready = time.monotonic()
        runner = _ChunkRunner(
            executor=executor,
            schema=NoColumns,
            xrootdtimeout=execution.timeout,
            store=store,
            waits=execution.retry_seconds,
            by_disk=execution.executor == "futures",
        )
        with _coffea_silenced(), _deaths_named():
            ledger.take_result(runner.run(items, processor, **runner_options()))
    return ready - began


@dataclass
class _ChunkRunner(Runner):
    """coffea's Runner with our answer to a chunk that fails: wait and try again, or give the chunk up and say so."""

    store: ChunkStore | None = None
    waits: tuple[float, ...] = ()
    by_disk: bool = False

    @property
    def automatic_retries(self) -> _PatientWork:
        """What the Runner calls around every chunk."""
        assert self.store is not None  # noqa: S101  a dataclass cannot add a field without default
        return _PatientWork(self.store, self.waits, self.by_disk)


@dataclass(frozen=True, slots=True)
class _PatientWork:
    """Work on one chunk: begun, tried again after a passing fault of the file, kept when finished.

    With `by_disk` a kept sum is not sent: a process that is killed while it sends leaves half a message in the pipe of
    its pool, for whose other half the reader waits for ever. What is sent instead fits a pipe at once.
    """

    store: ChunkStore
    waits: tuple[float, ...]
    by_disk: bool

    def __call__(
        self, _retries: int, _skip: object, work: Callable[..., Any], given: Any, **_: object
    ) -> dict[str, Any]:
        """What the Runner adds up: sum, processed item, lost items with reason, and warnings."""
        item: WorkItem = given[0] if isinstance(given, tuple) else given  # dask sends the processor along
        self.store.begin(_key(item))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            result = self._try(work, given, item)
        told = {f"{item.dataset}: {warning.category.__name__}: {warning.message}" for warning in caught}
        return {"lost": [], **result, "warnings": told}

    def _try(self, work: Callable[..., Any], given: Any, item: WorkItem) -> dict[str, Any]:
        for wait in (*self.waits, None):
            try:
                result: dict[str, Any] = work(given)
            except Exception as error:  # noqa: BLE001  sorted below
                causes = list(_causes(error))
                ours = next((cause for cause in causes if isinstance(cause, ChunkError)), None)
                if ours is not None:
                    raise ours from None
                if wait is None or not _may_pass(causes):
                    self.store.lose(_key(item))
                    return {"out": OrderedSum({}), "processed": set(), "lost": [(item, _reason(causes, item))]}
                time.sleep(wait)
            else:
                is_kept = self.store.save(_key(item), result["out"].total())
                return {**result, "out": _Kept(self.store, item)} if is_kept and self.by_disk else result
        raise AssertionError  # the last wait is None


@dataclass(frozen=True, slots=True)
class _Kept:
    """The sum of one chunk, on disk until it is added to that of others."""

    store: ChunkStore
    item: WorkItem

    def load(self) -> OrderedSum:
        """What was kept."""
        filled = self.store.load(_key(self.item))
        if filled is None:
            message = f"a finished chunk cannot be read back from {self.store.folder}; is its disk full or faulty?"
            raise OSError(message)
        return OrderedSum.single(_index(self.item), filled)

    def __add__(self, other: OrderedSum | _Kept) -> OrderedSum:
        """Sum of both."""
        return self.load() + (other.load() if isinstance(other, _Kept) else other)

    def __radd__(self, other: OrderedSum) -> OrderedSum:
        """Sum of both."""
        return other + self.load()


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _may_pass(causes: Sequence[BaseException]) -> bool:
    """Whether trying again may help: connections and file systems recover, damaged data and permissions do not."""
    system = [cause for cause in causes if isinstance(cause, OSError) and not isinstance(cause, UnreadableEventsError)]
    return bool(system) and not isinstance(system[-1], PermissionError)


def _reason(causes: Sequence[BaseException], item: WorkItem) -> str:
    """The first line of the error nearest to the file, in words; file and entries are told beside it."""
    told = next((cause for cause in causes if isinstance(cause, UnreadableEventsError)), causes[-1])
    lines = str(told).strip().splitlines() or [""]
    what = lines[0].removeprefix(f"{item.filename}, entries {item.entrystart} to {item.entrystop}: ")
    return what if isinstance(told, UnreadableEventsError) else f"{type(told).__name__}: {what}"


class _Guarded(ProcessorABC):
    """A processor whose own errors can be told from those of the file it reads."""

    def __init__(self, processor: ProcessorABC) -> None:
        self.processor = processor

    def process(self, events: Any) -> Any:
        """What the processor makes of a chunk."""
        try:
            return self.processor.process(events)
        except UnreadableEventsError:
            raise
        except Exception as error:  # noqa: BLE001  told with its place
            chunk = events.metadata
            place = f"{chunk['dataset']}: {chunk['filename']}, entries {chunk['entrystart']} to {chunk['entrystop']}"
            what = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
            message = " ".join(f"{place}: {what}".split())
            raise ChunkError(message, traceback.format_exc(), is_input=isinstance(error, InputError)) from None

    def postprocess(self, accumulator: Any) -> Any:
        """What the processor makes of the sum."""
        return self.processor.postprocess(accumulator)


@contextlib.contextmanager
def _coffea_silenced() -> Iterator[None]:
    """No bars and no tracebacks of coffea's own: progress and errors are told by us."""
    console = coffea.util.coffea_console
    before = console.quiet
    console.quiet = True
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        console.quiet = before


@contextlib.contextmanager
def _deaths_named() -> Iterator[None]:
    """Tell the death of a worker by one name, whoever noticed it."""
    try:
        yield
    except BrokenProcessPool:
        raise WorkersDiedError("a worker process was killed") from None
    except Exception as error:
        names = {type(cause).__name__ for cause in _causes(error)}
        if "KilledWorker" in str(error) or names & {"KilledWorker", "WorkerLost", "ManagerLost"}:
            raise WorkersDiedError("a worker process was killed") from None
        raise


@contextlib.contextmanager
def _opened(execution: Execution) -> Iterator[Any]:
    """The executor, with its workers ready; they are gone afterwards, whatever happens."""
    opened = {"iterative": _opened_iterative, "futures": _opened_pool, "dask": _opened_dask, "parsl": _opened_parsl}
    with opened[execution.executor](execution) as executor:
        yield executor


# Results are compressed by nobody: on one machine that costs more than it saves.
_COMMON: Mapping[str, Any] = {"status": False, "compression": None}


@contextlib.contextmanager
def _opened_iterative(_: Execution) -> Iterator[IterativeExecutor]:
    yield IterativeExecutor(**_COMMON, retries=0)


@contextlib.contextmanager
def _opened_pool(execution: Execution) -> Iterator[FuturesExecutor]:
    pool = open_pool(execution.n_workers)
    try:
        with _deaths_named():
            pool.submit(os.getpid).result()
        yield FuturesExecutor(**_COMMON, pool=pool, workers=execution.n_workers, retries=0)
    finally:
        stop_pool(pool)


@contextlib.contextmanager
def _opened_dask(execution: Execution) -> Iterator[DaskExecutor]:
    distributed = _optional("distributed", "dask")
    limits = {"distributed.nanny.pre-spawn-environ": worker_environment(execution.n_workers)}
    with contextlib.ExitStack() as stack:
        stack.enter_context(_optional("dask.config", "dask").set(limits))
        address: Any = execution.scheduler
        if address is None:
            address = distributed.LocalCluster(
                n_workers=execution.n_workers,
                threads_per_worker=1,
                dashboard_address=None,
                silence_logs=logging.CRITICAL,
                local_directory=stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)),
            )
            stack.callback(_close, address)
        client = _dask_client(distributed, address)
        stack.callback(_close, client)
        if execution.scheduler is not None:
            _check_dask_workers(client, execution.scheduler)
        yield DaskExecutor(**_COMMON, client=client, retries=0)


def _close(connection: Any) -> None:
    """What does not close in time is ended with this process."""
    with contextlib.suppress(TimeoutError):
        connection.close(timeout=CLOSE_SECONDS)


def _dask_client(distributed: Any, address: Any) -> Any:
    """A client that has a worker."""
    try:
        client = distributed.Client(address, set_as_default=False)
        client.wait_for_workers(1, timeout=DASK_SECONDS)
    except OSError as error:  # a TimeoutError too
        raise InputError(f"no dask scheduler with workers answers at {address} ({error})") from None
    return client


def _check_dask_workers(client: Any, address: str) -> None:
    """Refuse workers that would compute with other code than this process."""
    try:
        digests = client.run(code_digest)
    except ModuleNotFoundError as error:
        raise InputError(f"the dask workers at {address} lack {error.name}; install jetbalance there") from None
    others = [worker for worker, digest in digests.items() if digest != code_digest()]
    if others:
        raise InputError(f"another version of jetbalance is installed on {', '.join(sorted(others))}; install this one")


@contextlib.contextmanager
def _opened_parsl(execution: Execution) -> Iterator[ParslExecutor]:
    parsl = _optional("parsl", "parsl")
    beside = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    with contextlib.ExitStack() as stack:
        # Parsl looks for its own programs on the path.
        stack.enter_context(environment({**worker_environment(execution.n_workers), "PATH": beside}))
        folder = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        parsl.load(_parsl_config(parsl, execution, folder))
        stack.callback(parsl.clear)
        stack.callback(lambda: parsl.dfk().cleanup())
        yield ParslExecutor(**_COMMON, retries=0)


def _parsl_config(parsl: Any, execution: Execution, folder: str) -> Any:
    """One block of workers on this machine."""
    executor = parsl.HighThroughputExecutor(
        label="jetbalance",
        address="127.0.0.1",
        max_workers_per_node=execution.n_workers,
        cores_per_worker=1e-3,
        worker_logdir_root=folder,
        provider=parsl.providers.LocalProvider(init_blocks=1, max_blocks=1),
    )
    return parsl.Config(executors=[executor], run_dir=folder, retries=0, initialize_logging=False)


def _optional(module: str, extra: str) -> Any:
    """A package of one of the extras."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        raise InputError(f"executor {extra} needs an extra package: pip install 'jetbalance[{extra}]'") from None
