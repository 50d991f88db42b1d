"""How far a run is: a bar on a terminal, a line every few seconds in a batch log.

What is done is read from the folder of finished chunks, which is the same for every executor.
"""

from __future__ import annotations

import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from rich.console import Console

    from processors.chunk_store import ChunkStore

Result = TypeVar("Result")

LOOK_SECONDS = 0.2
LINE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Chunks and events done and in all, and the seconds it took; `before` events were done at the beginning.

    `is_begun` tells whether a worker has taken up any of it.
    """

    chunks: int
    all_chunks: int
    events: int
    all_events: int
    before: int
    seconds: float
    is_begun: bool = True

    @property
    def rate(self) -> float:
        """Events per second since the beginning."""
        return (self.events - self.before) / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Seconds to the end at this rate, None as long as there is none."""
        return (self.all_events - self.events) / self.rate if self.rate > 0 else None

    def __str__(self) -> str:
        """One line for a log."""
        if not self.is_begun:
            return "waiting for the first worker"
        left = "" if self.seconds_left is None else f", about {self.seconds_left:.0f} s left"
        return (
            f"{self.chunks} of {self.all_chunks} chunks, {self.events:,} of {self.all_events:,} events, "
            f"{self.rate:,.0f} events/s{left}"
        )


@contextmanager
def shown(store: ChunkStore, events: Mapping[str, int], title: str, *, stream: TextIO | None = None) -> Iterator[None]:
    """Show the progress on `stream` (standard error) while the block runs; `events` are those of each chunk by key."""
    from rich.console import Console

    console = Console(file=stream or sys.stderr)
    look = _look(store, events)
    stop = threading.Event()
    follow = _follow_with_bar if console.is_terminal else _follow_with_lines
    thread = threading.Thread(target=follow, args=(console, title, look, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _look(store: ChunkStore, events: Mapping[str, int]) -> Callable[[], Snapshot]:
    """What tells the state of the work at the time it is called."""
    began = time.monotonic()
    total = sum(events.values())
    before = sum(events[key] for key in store.ended() & events.keys())

    def look() -> Snapshot:
        ended = store.ended() & events.keys()
        done = sum(events[key] for key in ended)
        is_begun = bool(ended or store.begun())
        return Snapshot(len(ended), len(events), done, total, before, time.monotonic() - began, is_begun)

    return look


def _follow_with_lines(console: Console, title: str, look: Callable[[], Snapshot], stop: threading.Event) -> None:
    while not stop.wait(LINE_SECONDS):
        console.file.write(f"{title}: {look()}\n")
        console.file.flush()


def _follow_with_bar(console: Console, title: str, look: Callable[[], Snapshot], stop: threading.Event) -> None:
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[chunks]} chunks  {task.fields[events]} events  {task.fields[rate]} events/s"),
        TimeRemainingColumn(),
    )
    first = look()
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=first.all_events or 1, **_fields(first))
        while not stop.wait(LOOK_SECONDS):
            now = look()
            bar.update(task, completed=now.events, **_fields(now))


def _fields(now: Snapshot) -> dict[str, Any]:
    return {"chunks": f"{now.chunks}/{now.all_chunks}", "events": f"{now.events:,}", "rate": f"{now.rate:,.0f}"}


def counted(results: Iterable[Result], total: int, title: str, *, stream: TextIO | None = None) -> Iterator[Result]:
    """The results as they come, with a bar, or a line every few seconds, on `stream` (standard error)."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(file=stream or sys.stderr)
    if console.is_terminal:
        with Progress(console=console, transient=True) as bar:
            yield from bar.track(results, total=total, description=title)
        return
    began = time.monotonic()
    for done, result in enumerate(results, 1):
        yield result
        if time.monotonic() - began > LINE_SECONDS:
            began = time.monotonic()
            console.file.write(f"{title}: {done} of {total}\n")
            console.file.flush()
