"""Names, units and dtype of the columns a network may use: of jets, of their constituents, and of the training table.

Training, inference and the writing of tables share them. A column of jets is float32, one value per jet, shape (n,).
Constituents are ragged: those of jet i are rows `offsets[i]:offsets[i + 1]` of a matrix with `CONSTITUENT_COLUMNS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

FloatArray = NDArray[np.float32]
Int64Array = NDArray[np.int64]
DTYPE = np.dtype(np.float32)

Scale = Literal["linear", "log", "log1p", "absolute"]

CONSTITUENT_COLUMNS = ("px", "py", "pz", "pt")
"""Components of the momentum of a constituent, GeV."""
MAX_CONSTITUENTS = 80
"""Of a jet with more than these, the hardest count."""
LEADING_JETS = 3
"""Jets of an event in the training table: the two that balance, and the third that tells how well they do."""


@dataclass(frozen=True, slots=True)
class Feature:
    """A column of jets: its unit ("" for none), meaning, and the scale on which it is standardised inside a network."""

    unit: str
    meaning: str
    scale: Scale = "linear"


def _layers(name: str, calorimeter: str, count: int) -> dict[str, Feature]:
    return {
        f"fraction_{name}{layer}": Feature("", f"energy fraction in layer {layer} of the {calorimeter}")
        for layer in range(count)
    }


FEATURES: Mapping[str, Feature] = MappingProxyType(
    {
        "pt": Feature("GeV", "transverse momentum as read, after the corrections asked for", "log"),
        "eta": Feature("", "pseudorapidity, signed", "absolute"),
        "phi": Feature("rad", "azimuth"),
        "mass": Feature("GeV", "mass, scaled along with pt", "log1p"),
        "log_pt": Feature("", "natural logarithm of pt in GeV"),
        "abs_eta": Feature("", "absolute pseudorapidity"),
        "area": Feature("", "catchment area"),
        "rho": Feature("GeV", "median pt per unit area of the event"),
        "npv": Feature("", "reconstructed vertices of the event"),
        "mu": Feature("", "interactions per crossing, the average where the file has it, else the true number"),
        "charged_hadron_fraction": Feature("", "energy fraction of charged hadrons"),
        "neutral_hadron_fraction": Feature("", "energy fraction of neutral hadrons"),
        "charged_em_fraction": Feature("", "energy fraction of electrons"),
        "neutral_em_fraction": Feature("", "energy fraction of photons"),
        "muon_fraction": Feature("", "energy fraction of muons"),
        "charged_multiplicity": Feature("", "charged constituents", "log1p"),
        "neutral_multiplicity": Feature("", "neutral constituents", "log1p"),
        "n_constituents": Feature("", "constituents", "log1p"),
        **_layers("em", "electromagnetic calorimeter, 0 is the presampler", 4),
        **_layers("tile", "central hadronic calorimeter", 3),
        **_layers("hec", "hadronic end-cap", 4),
        **_layers("fcal", "forward calorimeter", 3),
        "n90": Feature("", "clusters that hold 90 % of the energy", "log1p"),
        "track_width": Feature("", "mean distance of tracks above 1 GeV to the axis, weighted with pt"),
        "n_tracks": Feature("", "tracks above 1 GeV", "log1p"),
        "charged_fraction": Feature("", "pt of tracks over pt of the jet"),
        "n_segments": Feature("", "muon segments behind the jet, which punch-through leaves", "log1p"),
    }
)

MOMENTUM_FEATURES = ("pt", "eta", "phi", "mass")
"""Every calibration network of ours takes these."""
SEQUENTIAL_FEATURES = ("fraction_em3", "fraction_tile0", "track_width", "n_tracks", "charged_fraction", "n_segments")
"""Variables of the global-sequential calibration of ATLAS (arXiv:2007.02645), in the order of its steps."""
GSC_FEATURES = (
    *(name for name in FEATURES if name.startswith("fraction_")),
    "n90",
    "track_width",
    "n_tracks",
    "charged_fraction",
    "n_segments",
    "mu",
    "npv",
)
"""What its neural successor takes besides momentum (ATLAS arXiv:2303.17312)."""
TABLE_FEATURES = (*MOMENTUM_FEATURES, *GSC_FEATURES, "area", "rho")
"""Columns of jets in a training table, as far as a file has them."""


@dataclass(frozen=True, slots=True)
class RaggedConstituents:
    """Constituents of n jets, hardest first.

    Attributes
    ----------
    offsets
        (n + 1,), starts at 0.
    values
        (n_constituents, 4) float32, see `CONSTITUENT_COLUMNS`.
    """

    offsets: Int64Array
    values: FloatArray

    def __len__(self) -> int:
        """Jets."""
        return len(self.offsets) - 1

    @property
    def counts(self) -> Int64Array:
        """Constituents of each jet, (n,)."""
        return np.diff(self.offsets)

    def take(self, jets: NDArray[np.integer[Any]]) -> RaggedConstituents:
        """Those of some jets, (m,) indices, in their order."""
        starts, counts = self.offsets[jets], self.counts[jets]
        offsets = offsets_of(counts)
        places = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], counts)
        return RaggedConstituents(offsets, self.values[places])

    def by_pt(self) -> RaggedConstituents:
        """The same with those of each jet in the order of falling pT; of columns px and py first."""
        jet = np.repeat(np.arange(len(self)), self.counts)
        order = np.lexsort((-np.hypot(self.values[:, 0], self.values[:, 1]), jet))
        return RaggedConstituents(self.offsets, self.values[order])

    def padded(self, length: int = MAX_CONSTITUENTS) -> FloatArray:
        """The first `length` of each jet, the others zero, (n, length, 4)."""
        columns = np.arange(length)
        is_there = columns < self.counts[:, np.newaxis]
        matrix = np.zeros((len(self), length, self.values.shape[1]), DTYPE)
        places = self.offsets[:-1, np.newaxis] + columns
        matrix[is_there] = self.values[places[is_there]]
        return matrix

    def limited(self, length: int = MAX_CONSTITUENTS) -> RaggedConstituents:
        """The first `length` of each jet."""
        counts = np.minimum(self.counts, length)
        if np.array_equal(counts, self.counts):
            return self
        offsets = offsets_of(counts)
        places = np.arange(offsets[-1]) + np.repeat(self.offsets[:-1] - offsets[:-1], counts)
        return RaggedConstituents(offsets, self.values[places])


def offsets_of(counts: NDArray[np.integer[Any]]) -> Int64Array:
    """Where each of n groups begins, and the end, (n + 1,)."""
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


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
