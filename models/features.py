"""Names, units and dtype of the jet columns a network may use.

Training, inference and the writing of tables share them. A column is float32, one value per jet, shape (n,).
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

FloatArray = NDArray[np.float32]
DTYPE = np.dtype(np.float32)


@dataclass(frozen=True, slots=True)
class Feature:
    """A column of jets: its unit ("" for none) and meaning."""

    unit: str
    meaning: str


FEATURES: Mapping[str, Feature] = MappingProxyType(
    {
        "pt": Feature("GeV", "transverse momentum as read, after the corrections asked for"),
        "eta": Feature("", "pseudorapidity, signed"),
        "phi": Feature("rad", "azimuth"),
        "mass": Feature("GeV", "mass, scaled along with pt"),
        "log_pt": Feature("", "natural logarithm of pt in GeV"),
        "abs_eta": Feature("", "absolute pseudorapidity"),
        "area": Feature("", "catchment area"),
        "rho": Feature("GeV", "median pt per unit area of the event"),
        "npv": Feature("", "reconstructed vertices of the event"),
        "charged_hadron_fraction": Feature("", "energy fraction of charged hadrons"),
        "neutral_hadron_fraction": Feature("", "energy fraction of neutral hadrons"),
        "charged_em_fraction": Feature("", "energy fraction of electrons"),
        "neutral_em_fraction": Feature("", "energy fraction of photons"),
        "muon_fraction": Feature("", "energy fraction of muons"),
        "charged_multiplicity": Feature("", "charged constituents"),
        "neutral_multiplicity": Feature("", "neutral constituents"),
        "n_constituents": Feature("", "constituents"),
    }
)


def check_features(names: Iterable[str]) -> None:
    """Refuse names that are not features, listing those there are."""
    unknown = [name for name in names if name not in FEATURES]
    if unknown:
        raise ValueError(f"unknown features {', '.join(unknown)}; known are {', '.join(FEATURES)}")


def feature_matrix(columns: Mapping[str, Callable[[], NDArray[Any]]], names: Sequence[str]) -> FloatArray:
    """Columns side by side, (n, len(names)) float32.

    `columns` has a function for every column the jets have; only those asked for are called. A missing one is refused.
    """
    missing = [name for name in names if name not in columns]
    if missing:
        raise ValueError(f"the jets have no {', '.join(missing)}; they have {', '.join(columns)}")
    if not names:
        raise ValueError("a network needs at least one feature")
    first = np.asarray(columns[names[0]]())
    matrix = np.empty((len(first), len(names)), DTYPE)
    matrix[:, 0] = first
    for place, name in enumerate(names[1:], start=1):
        matrix[:, place] = columns[name]()
    return matrix
