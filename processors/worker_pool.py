"""Processes that share the work of one machine, started once and with the heavy packages already imported.

A fork server imports them once and every worker is a copy of it, so that workers are there in a fraction of a second.
Nothing here imports a heavy package itself: the server can be started before the main process has imported its own.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.forkserver
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from multiprocessing.context import BaseContext

# Whatever a worker needs before its first chunk.
PRELOADED = ("processors.warm_up",)
# One variable for each library that would otherwise start a thread per core in every worker.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
    "JETBALANCE_THREADS",
)
STOP_SECONDS = 2.0


def available_cores() -> int:
    """Cores this process may use, at least one."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def worker_environment(workers: int) -> dict[str, str]:
    """Environment of a worker: cores / workers threads in every library, no import from the working directory."""
    threads = str(max(1, available_cores() // workers))
    root = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part)
    return {**dict.fromkeys(THREAD_VARIABLES, threads), "PYTHONSAFEPATH": "1", "PYTHONPATH": path}


def start_fork_server(workers: int) -> None:
    """Start importing the heavy packages in the fork server and return at once; where there is none, do nothing."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return
    multiprocessing.get_context("forkserver").set_forkserver_preload(list(PRELOADED))
    with environment(worker_environment(workers)):
        multiprocessing.forkserver.ensure_running()


def open_pool(workers: int) -> ProcessPoolExecutor:
    """A pool of `workers` processes; its workers leave signals to the main process and end when that ends."""
    start_fork_server(workers)
    return ProcessPoolExecutor(
        max_workers=workers, mp_context=_context(), initializer=_prepare_worker, initargs=(worker_environment(workers),)
    )


def stop_pool(pool: ProcessPoolExecutor) -> None:
    """End the pool within a few seconds whatever its workers do; unfinished work is dropped."""
    workers = multiprocessing.active_children()
    pool.shutdown(wait=False, cancel_futures=True)
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.join(STOP_SECONDS / max(1, len(workers)))
        if worker.is_alive():
            worker.kill()


def _context() -> BaseContext:
    methods = multiprocessing.get_all_start_methods()
    return multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")


def _prepare_worker(environment: Mapping[str, str]) -> None:
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextlib.contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """The environment of this process, and of those it starts, changed as long as the block runs."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
