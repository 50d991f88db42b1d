"""How far a generation is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECONDS_BETWEEN_LINES = 15.0


@contextmanager
def show_progress(n_events: int, n_done: int, *, quiet: bool = False) -> Iterator[Callable[[int], None]]:
    """Give a function that is told of every few events that were generated; `n_done` are there already."""
    if quiet:
        yield lambda _: None
    elif sys.stderr.isatty():
        with _bar(n_events, n_done) as advance:
            yield advance
    else:
        yield _lines(n_events, n_done)


@contextmanager
def _bar(n_events: int, n_done: int) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("generating"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]} events/s"),
        TimeRemainingColumn(),
    )
    started, count = time.monotonic(), 0
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("generating", total=n_events, completed=n_done, rate="-")

        def advance(n_new: int) -> None:
            nonlocal count
            count += n_new
            rate = count / max(time.monotonic() - started, 1e-3)
            progress.update(task, advance=n_new, rate=f"{rate:.0f}")

        yield advance


def _lines(n_events: int, n_done: int) -> Callable[[int], None]:
    started = printed = time.monotonic()
    count = 0

    def advance(n_new: int) -> None:
        nonlocal count, printed
        count += n_new
        now = time.monotonic()
        is_last = n_done + count >= n_events
        if now - printed < SECONDS_BETWEEN_LINES and not is_last:
            return
        printed = now
        rate = count / max(now - started, 1e-3)
        left = (n_events - n_done - count) / max(rate, 1e-3)
        message = f"generated {n_done + count} of {n_events} events, {rate:.0f} events/s, {left:.0f} s left\n"
        sys.stderr.write(message)
        sys.stderr.flush()

    return advance
