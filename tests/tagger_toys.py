"""Tables of jets whose features know the mass and the class by construction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from models.features import RaggedConstituents, offsets_of
from models.tagging.tagger_table import CONSTITUENT_LISTS

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


def momenta(n: int, seed: int = 1, longest: int = 20, two_prongs: np.ndarray | None = None) -> RaggedConstituents:
    """Massless constituents of n jets around changing axes, hardest first; with two cores where that is asked for."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, longest + 1, n)
    jet = np.repeat(np.arange(n), counts)
    pt = 1.0 + rng.exponential(20.0, len(jet))
    eta, phi = rng.uniform(-2, 2, n)[jet], rng.uniform(-3.1, 3.1, n)[jet]
    apart = np.zeros(n) if two_prongs is None else np.where(two_prongs, 0.4, 0.0)
    eta = eta + rng.normal(0, 0.1, len(jet)) + apart[jet] * rng.choice([-0.5, 0.5], len(jet))
    phi = phi + rng.normal(0, 0.1, len(jet))
    values = np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta)], axis=1)
    return RaggedConstituents(offsets_of(counts), values.astype(np.float32)).by_pt()


def lists(constituents: RaggedConstituents) -> dict[str, Any]:
    """Columns of a table that hold constituents."""
    import pyarrow as pa

    offsets = pa.array(constituents.offsets)
    return {
        name: pa.LargeListArray.from_arrays(offsets, pa.array(np.ascontiguousarray(column)))
        for name, column in zip(CONSTITUENT_LISTS, constituents.values.T, strict=True)
    }


def write(path: Path, values: dict[str, Any]) -> Path:
    """A parquet file with these columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(values), path)
    return path
