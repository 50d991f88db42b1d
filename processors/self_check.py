"""Whether this machine has what a run needs."""

from __future__ import annotations

import os
import shutil
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from processors.code_identity import versions
from processors.compiled import compiled
from processors.worker_pool import available_cores, open_pool, stop_pool

if TYPE_CHECKING:
    from collections.abc import Callable

GIGABYTE = 1e9
WORKER_MEMORY = 1.5 * GIGABYTE
FREE_DISK = 5 * GIGABYTE
SUPPORTED = ((3, 11), (3, 13))


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at, and whether it will do."""

    name: str
    is_good: bool
    words: str


def findings() -> list[Finding]:
    """Everything that was looked at; a check that fails with an error is a bad finding."""
    return [_safely(check) for check in (python, packages, memory, disk, compiler, cache, workers)]


def python() -> Finding:
    """The interpreter."""
    low, high = SUPPORTED
    words = f"{sys.version.split()[0]} at {sys.executable}; {low[0]}.{low[1]} to {high[0]}.{high[1]} are supported"
    return Finding("python", low <= sys.version_info[:2] <= high, words)


def packages() -> Finding:
    """Versions of what results depend on."""
    found = versions()
    return Finding("packages", "jetbalance" in found, ", ".join(f"{name} {version}" for name, version in found.items()))


def memory() -> Finding:
    """Memory for one worker per core."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    needed = WORKER_MEMORY * available_cores()
    words = f"{total / GIGABYTE:.1f} GB for {available_cores()} cores; a worker may take {WORKER_MEMORY / GIGABYTE} GB"
    return Finding("memory", total >= needed, words)


def disk() -> Finding:
    """Room in the working directory for results and finished chunks."""
    free = shutil.disk_usage(".").free
    return Finding("disk", free > FREE_DISK and os.access(".", os.W_OK), f"{free / GIGABYTE:.0f} GB free here")


def compiler() -> Finding:
    """A function compiled by numba, and its answer."""
    began = time.monotonic()
    answer = compiled(_sum_of_squares)(np.arange(4.0))
    return Finding("compiler", answer == 14.0, f"numba compiles and runs, {time.monotonic() - began:.1f} s")


def cache() -> Finding:
    """Whether compiled code is kept for the next run; without it every start takes longer."""
    from processors import kernels

    kept = [name for name, each in vars(kernels).items() if hasattr(each, "stats") and each.stats.cache_path]
    folder = next((getattr(kernels, name).stats.cache_path for name in kept), "nowhere; set NUMBA_CACHE_DIR")
    return Finding("compiled code", bool(kept), f"kept in {folder}")


def workers() -> Finding:
    """Worker processes, started as a run starts them."""
    began = time.monotonic()
    pool = open_pool(2)
    try:
        answers = set(pool.map(abs, (-1, -2)))
    finally:
        stop_pool(pool)
    return Finding("workers", answers == {1, 2}, f"ready after {time.monotonic() - began:.1f} s")


def _sum_of_squares(values: np.ndarray) -> float:
    total = 0.0
    for value in values:
        total += value * value
    return total


def _safely(check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except Exception as error:  # noqa: BLE001  whatever is wrong with this machine is what we want to know
        return Finding(check.__name__, is_good=False, words=f"{type(error).__name__}: {error}")
