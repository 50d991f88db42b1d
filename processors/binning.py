"""Bin edges of the asymmetry histograms, each choice with its source.

ATLAS-like: reference region 0.2 <= |eta| < 0.7 and the bins of the dijet resolution measurement (arXiv:2007.02645).
CMS-like: the 14 bins of the Run-2 dijet resolution measurement, reference |eta| < 1.131, a union of three of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Scheme = Literal["atlas", "cms"]

ETA_EDGES: dict[Scheme, tuple[float, ...]] = {
    "atlas": (0.0, 0.2, 0.7, 1.0, 1.3, 1.8, 2.5, 2.8, 3.2, 3.6, 4.5),
    "cms": (0.0, 0.522, 0.783, 1.131, 1.305, 1.74, 1.93, 2.043, 2.322, 2.5, 2.65, 2.853, 2.964, 3.139, 5.191),
}
REFERENCE: dict[Scheme, tuple[float, float]] = {"atlas": (0.2, 0.7), "cms": (0.0, 1.131)}
# Steps of about 1.3, the ratio of neighbouring single-jet trigger thresholds.
PT_AVG_EDGES = (40, 52, 68, 88, 115, 150, 195, 250, 325, 425, 550, 715, 930, 1250, 1700, 2500)
# GeV per unit area; the last bin is open.
RHO_EDGES = (0.0, 10.0, 20.0, 30.0, 40.0)
ALPHA_EDGES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4)
# The truth asymmetry widens with alpha; three groups keep most of what a fine division would tell.
TEMPLATE_ALPHAS = (0.1, 0.2)
RESPONSE_RANGE = (0.0, 2.5)
RESPONSE_BINS = 250
BALANCE_BINS = 200
SPECTRUM_EDGES = tuple(float(edge) for edge in np.geomspace(20, 4000, 81))


@dataclass(frozen=True, slots=True)
class Binning:
    """Edges of every axis (YAML section `binning`).

    `eta`, `reference` and `pt_avg` replace what `scheme` stands for; energies in GeV, `eta` in |eta|. The reference
    region must be a union of |eta| bins. `rho` divides the truth response and
    the asymmetry by pile-up; its last bin is above the last edge. The
    asymmetry has `asymmetry_bins` equal bins on [-2, 2], its whole range; an even number puts an edge at zero, where
    the truth asymmetry peaks.
    """

    scheme: Scheme = "atlas"
    eta: tuple[float, ...] | None = None
    reference: tuple[float, float] | None = None
    pt_avg: tuple[float, ...] = PT_AVG_EDGES
    alpha: tuple[float, ...] = ALPHA_EDGES
    rho: tuple[float, ...] = RHO_EDGES
    asymmetry_bins: int = 200

    def __post_init__(self) -> None:
        """Refuse edges that are not rising and a reference region that cuts a bin."""
        for name in ("eta", "pt_avg", "alpha", "rho"):
            edges = getattr(self, f"{name}_edges")
            if len(edges) < 2 or not np.all(np.isfinite(edges)) or np.any(np.diff(edges) <= 0):
                message = f"binning.{name} needs at least two finite rising edges, got {list(map(float, edges))}"
                raise ValueError(message)
        if self.eta_edges[0] < 0 or self.pt_avg_edges[0] <= 0 or self.alpha_edges[0] < 0:
            message = "binning.eta and binning.alpha start at 0 or above (|eta| is meant), binning.pt_avg above 0"
            raise ValueError(message)
        missing = [edge for edge in self.reference_range if not np.any(np.isclose(self.eta_edges, edge))]
        if missing or self.reference_range[0] >= self.reference_range[1]:
            message = (
                f"binning.reference {list(self.reference_range)} must be two rising edges of "
                f"binning.eta {list(map(float, self.eta_edges))}"
            )
            raise ValueError(message)
        if self.asymmetry_bins < 20 or self.asymmetry_bins % 2:
            message = f"binning.asymmetry_bins must be an even number of at least 20, got {self.asymmetry_bins}"
            raise ValueError(message)

    @property
    def eta_edges(self) -> FloatArray:
        """Edges in |eta|, (n_eta + 1,)."""
        return np.asarray(self.eta if self.eta is not None else ETA_EDGES[self.scheme], dtype=np.float64)

    @property
    def pt_avg_edges(self) -> FloatArray:
        """Edges in pt_avg, GeV, (n_pt + 1,)."""
        return np.asarray(self.pt_avg, dtype=np.float64)

    @property
    def alpha_edges(self) -> FloatArray:
        """Edges in alpha; the histograms have one more bin above the last edge."""
        return np.asarray(self.alpha, dtype=np.float64)

    @property
    def rho_edges(self) -> FloatArray:
        """Edges in rho, GeV per unit area, (n_rho,); the last bin is above the last edge."""
        return np.asarray(self.rho, dtype=np.float64)

    @property
    def asymmetry_edges(self) -> FloatArray:
        """Edges in the asymmetry, (asymmetry_bins + 1,)."""
        return np.linspace(-2.0, 2.0, self.asymmetry_bins + 1)

    @property
    def reference_range(self) -> tuple[float, float]:
        """|eta| range of the reference region."""
        return self.reference if self.reference is not None else REFERENCE[self.scheme]

    @property
    def reference_bins(self) -> tuple[int, ...]:
        """Indices of the |eta| bins that make up the reference region."""
        low, high = self.reference_range
        centres = 0.5 * (self.eta_edges[1:] + self.eta_edges[:-1])
        return tuple(int(i) for i in np.flatnonzero((centres > low) & (centres < high)))

    @property
    def alpha_groups(self) -> tuple[tuple[int, int], ...]:
        """Bins of alpha [first, last) that share a template: below 0.1, up to 0.2, and above with the overflow."""
        cuts = sorted({int(np.argmin(np.abs(self.alpha_edges - limit))) for limit in TEMPLATE_ALPHAS})
        bounds = [0, *(cut for cut in cuts if cut > 0), len(self.alpha_edges)]
        return tuple(pairwise(bounds))

    @property
    def shape(self) -> tuple[int, int, int, int, int, int]:
        """Bins along (eta, region, pt_avg, alpha, third_jet, asymmetry)."""
        return (
            len(self.eta_edges) - 1,
            len(REGIONS),
            len(self.pt_avg_edges) - 1,
            len(self.alpha_edges),
            len(THIRD_JET),
            self.asymmetry_bins,
        )

    @property
    def response_shape(self) -> tuple[int, int, int, int]:
        """Bins of the truth response along (eta, pt_truth, rho, response)."""
        return self.shape[0], self.shape[2], len(self.rho), RESPONSE_BINS

    @property
    def rho_shape(self) -> tuple[int, int, int, int, int]:
        """Bins of the asymmetry by pile-up along (eta, region, pt_avg, rho, asymmetry)."""
        return *self.shape[:3], len(self.rho), self.asymmetry_bins

    @property
    def matrix_shape(self) -> tuple[int, int, int, int, int]:
        """Bins of the matrix of pairs along (eta_probe, eta_reference, pt_avg, alpha, third_jet)."""
        return self.shape[0], self.shape[0], *self.shape[2:5]

    @property
    def balance_shape(self) -> tuple[int, int, int, int, int, int]:
        """Bins of the components of the momentum balance along (component, level, eta, region, pt_avg, value)."""
        return len(BALANCE), len(LEVELS), *self.shape[:3], BALANCE_BINS


REGIONS = ("standard", "forward")
THIRD_JET = ("fail", "pass")
BALANCE = ("psi", "eta", "mpf", "mpfx")
LEVELS = ("reco", "truth")
