"""Silence for libraries that write to the console whatever they are told."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

STANDARD_ERROR = 2


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Nothing that native code writes to standard error is shown while the block runs; exceptions pass."""
    kept = os.dup(STANDARD_ERROR)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, STANDARD_ERROR)
        yield
    finally:
        os.dup2(kept, STANDARD_ERROR)
        os.close(kept)
        os.close(nowhere)
