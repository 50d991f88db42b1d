"""The numba options every kernel shares, see `models.compiled`."""

from __future__ import annotations

from models.compiled import compiled

__all__ = ["compiled"]
