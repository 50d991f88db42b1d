"""Names, units and meaning of the columns of a large-R jet, and the categories of its truth.

A column is float32 with one value per jet, (n,). Constituents are ragged (`models.features.RaggedConstituents`) with
the columns `CONSTITUENT_COLUMNS`, hardest first.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

CONSTITUENT_COLUMNS = ("px", "py", "pz", "e")
"""Components of the momentum of a constituent, GeV."""
MAX_CONSTITUENTS = 100
"""Of a jet with more than these, the hardest count: for the table, for networks of ours and for substructure."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of jets: its unit ("" for none) and its meaning."""

    unit: str
    meaning: str


MOMENTUM: Mapping[str, Column] = MappingProxyType(
    {
        "pt": Column("GeV", "transverse momentum of the jet"),
        "eta": Column("", "pseudorapidity, signed"),
        "phi": Column("rad", "azimuth"),
        "mass": Column("GeV", "soft-drop mass, 0 for a jet that grooming leaves nothing of"),
        "mass_plain": Column("GeV", "mass without grooming"),
    }
)
SUBSTRUCTURE: Mapping[str, Column] = MappingProxyType(
    {
        "tau21": Column("", "N-subjettiness ratio tau2/tau1"),
        "tau32": Column("", "N-subjettiness ratio tau3/tau2"),
        "c2": Column("", "energy correlation ratio C2, beta = 1"),
        "d2": Column("", "energy correlation ratio D2, beta = 1"),
        "n2": Column("", "generalised energy correlation ratio N2, beta = 1"),
        "angularity": Column("", "angularity with a = -2"),
        "aplanarity": Column("", "aplanarity in the rest frame of the jet"),
        "fox_wolfram": Column("", "Fox-Wolfram ratio H2/H0 in the rest frame of the jet"),
        "ktdr": Column("", "distance of the two subjets of the kt algorithm"),
        "planar_flow": Column("", "planar flow"),
        "split12": Column("GeV", "kt splitting scale sqrt(d12)"),
        "zcut": Column("", "d12 / (d12 + mass squared)"),
    }
)
"""What `processors.substructure` computes, each defined there."""
EVENT: Mapping[str, Column] = MappingProxyType(
    {
        "npv": Column("", "reconstructed vertices of the event"),
        "rho": Column("GeV", "median pt per unit area of the event"),
        "mu": Column("", "interactions per crossing, the average where the file has it, else the true number"),
    }
)
COLUMNS: Mapping[str, Column] = MappingProxyType({**MOMENTUM, **SUBSTRUCTURE, **EVENT})
"""Everything that a tagger of ours may take."""

W_FEATURES = (
    "tau21",
    "c2",
    "d2",
    "angularity",
    "aplanarity",
    "fox_wolfram",
    "ktdr",
    "planar_flow",
    "split12",
    "zcut",
)
"""The ten variables of the ATLAS study of mass decorrelation (ATL-PHYS-PUB-2018-014)."""

CATEGORIES = ("qcd", "w", "top", "other", "unmatched")
"""Truth of a jet in the order of its number: a jet of an event without W, Z, H or top; contained W, contained top; one
that holds a part of such a decay; one that holds none of the decays in its event."""
NO_CATEGORY = -1
"""Number of the category of a jet in data."""


def check_columns(names: tuple[str, ...]) -> None:
    """Refuse names that are not columns of a jet, listing those there are."""
    unknown = [name for name in names if name not in COLUMNS]
    if unknown:
        raise ValueError(f"unknown columns {', '.join(unknown)}; known are {', '.join(COLUMNS)}")
