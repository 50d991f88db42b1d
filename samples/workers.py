"""Chunks of truth events made by all cores at once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from samples.progress import show_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from samples.durable import ChunkFolder, ChunkTask
    from samples.pythia import PythiaSettings


class Job(Protocol):
    """What a worker does; it must survive a journey to another process."""

    @property
    def task(self) -> ChunkTask:
        """The chunk that it makes."""

    def is_done(self) -> bool:
        """Whether the chunk is there."""

    def run(self) -> None:
        """Make and store the chunk."""


@dataclass(frozen=True, slots=True)
class ChunkJob:
    """Make one chunk of truth events."""

    folder: ChunkFolder
    settings: PythiaSettings
    seed: int
    task: ChunkTask

    def is_done(self) -> bool:
        """Whether the chunk is there."""
        return self.folder.has(self.task)

    def run(self) -> None:
        """Generate and store the chunk."""
        from samples.pythia import generate_chunk

        task = self.task
        self.folder.save(task, generate_chunk(self.settings, self.seed, task.stream, task.chunk, task.n_events))


def run_jobs(jobs: Sequence[Job], workers: int, *, quiet: bool = False) -> None:
    """Generate the chunks that are not there yet; an interrupt leaves whole chunks only."""
    missing = [job for job in jobs if not job.is_done()]
    n_events, n_missing = (sum(job.task.n_events for job in part) for part in (jobs, missing))
    if not missing:
        return
    with show_progress(n_events, n_events - n_missing, quiet=quiet) as advance:
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(min(workers, len(missing)), context, initializer=_start_worker)
        try:
            _drain(pool, missing, advance)
        except BaseException:
            # without this an interrupt would wait for the running chunks
            for process in multiprocessing.active_children():
                process.terminate()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        pool.shutdown()


def _drain(pool: ProcessPoolExecutor, jobs: Sequence[Job], advance: Callable[[int], None]) -> None:
    pending = {pool.submit(run_job, job) for job in jobs}
    while pending:
        done, pending = wait(pending, return_when=FIRST_COMPLETED)
        for future in done:
            advance(future.result())


def run_job(job: Job) -> int:
    """Generate and store one chunk; returns its number of events."""
    job.run()
    return job.task.n_events


def _start_worker() -> None:
    """Leave interrupts to the parent, end with it, and throw away the banners that Pythia and fastjet print."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.close(silent)


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
