"""The numba options every kernel shares.

Compiled code is kept between runs where a folder can be written; a read-only installation compiles in memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

import numba

if TYPE_CHECKING:
    from collections.abc import Callable

Function = TypeVar("Function", bound="Callable[..., Any]")


def compiled(function: Function) -> Function:
    """Compile `function` on first use: IEEE division, the interpreter lock released, cached on disk if possible.

    The Python function stays reachable as `.py_func`.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        return cast("Function", numba.njit(cache=True, **options)(function))
    except RuntimeError:  # no folder to cache in
        return cast("Function", numba.njit(**options)(function))
