"""Tables of jets whose features know the mass and the class by construction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("x0", "x1", "x2")


def columns(n: int, seed: int = 1) -> dict[str, np.ndarray]:
    """Signal near 80 GeV, background falling; each feature separates, and depends on the mass of background."""
    rng = np.random.default_rng(seed)
    label = (rng.random(n) < 0.5).astype(np.int8)
    mass = np.where(label == 1, rng.normal(82, 8, n), 40 + rng.gamma(2.0, 35.0, n))
    log_mass = np.log(mass / 80)
    features = {
        name: 1.1 * label + slope * log_mass + rng.normal(size=n)
        for name, slope in zip(NAMES, (1.0, -0.6, 0.0), strict=True)
    }
    features["x1"] = np.exp(features["x1"])
    return {
        **features,
        "mass": mass,
        "pt": 200 * (1 - rng.random(n)) ** -0.3,
        "label": label,
        "weight": rng.exponential(size=n),
        "identity": rng.integers(0, 2**63, n).astype(np.uint64),
    }


def write(path: Path, values: dict[str, Any]) -> Path:
    """A parquet file with these columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(values), path)
    return path
