"""The numba options every kernel of the detector shares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

import numba

if TYPE_CHECKING:
    from collections.abc import Callable

Function = TypeVar("Function", bound="Callable[..., Any]")


def compiled(function: Function) -> Function:
    """Compile `function` on first use: IEEE division, cached on disk where a folder can be written."""
    return _compile(function, {"nogil": True, "error_model": "numpy"})


def inlined(function: Function) -> Function:
    """Compile like `compiled`, and into its callers: what is called for every cell costs no reference counting then."""
    return _compile(function, {"nogil": True, "error_model": "numpy", "forceinline": True})


def _compile(function: Function, options: dict[str, Any]) -> Function:
    try:
        return cast("Function", numba.njit(cache=True, **options)(function))
    except RuntimeError:  # no folder to cache in
        return cast("Function", numba.njit(**options)(function))
