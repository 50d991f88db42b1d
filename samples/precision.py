"""Fewer bits per number, so that files compress."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FLOAT32_BITS = 23


def round_mantissa(values: NDArray[np.floating], bits: int = 10) -> NDArray[np.float32]:
    """Nearest float32 with a mantissa of `bits` bits, ties to even; relative error at most 2^-(bits + 1).

    Rounded, not truncated: truncation would shift every momentum by 2^-(bits + 1) on average.
    Infinite values and nan stay as they are.
    """
    rounded = np.ascontiguousarray(values, dtype=np.float32)
    pattern = rounded.view(np.uint32)
    dropped = _FLOAT32_BITS - bits
    odd = (pattern >> np.uint32(dropped)) & np.uint32(1)
    raised = pattern + odd + np.uint32((1 << (dropped - 1)) - 1)
    kept = (raised >> np.uint32(dropped)) << np.uint32(dropped)
    return np.where(np.isfinite(rounded), kept.view(np.float32), rounded)
