"""What the measurement hands on: plain frozen records, no histograms of events and no fit objects.

Energies are in GeV, widths and responses are relative. A quantity that could not be measured keeps its place with a
value of nan and a `status` that says why; nothing is dropped.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc

if TYPE_CHECKING:
    from collections.abc import Mapping

FloatArray = NDArray[np.float64]

Quantity = Literal[
    "width",
    "jer",
    "jer_truth",
    "response",
    "scale_factor",
    "residual",
    "N",
    "S",
    "C",
    "P",
    "rho_slope",
    "scale_factor_again",
    "residual_again",
]
Status = Literal[
    "ok",
    "empty",
    "few_events",
    "not_converged",
    "at_limit",
    "negative_square",
    "imprecise",
    "no_truth",
    "no_reference",
]

SIMULATION, DATA, RATIO = "simulation", "data", "data/simulation"
# What is measured once more after the corrections were applied, and the probability below which that failed.
AGAIN: Mapping[Quantity, str] = {
    "scale_factor_again": "scale factor measured again",
    "residual_again": "residual response measured again",
}
MOVED: Mapping[Quantity, str] = {
    "scale_factor": "scale factor moved by repetition",
    "residual": "residual response moved by repetition",
}
LOOP_CHECKS = (*AGAIN.values(), *MOVED.values())
FAILED_BELOW = 1e-3
# S^2 and the power beside it are told apart best around here, GeV.
PT_SCALE = 100.0
# Where the power of pT beside S^2 may lie; -1 is that of independent showers.
POWERS = (-2.5, -0.3)
# Sources of uncertainty of the scale factor in the order of the tables, the statistical one apart.
SOURCES = ("jes", "pu", "dphi", "pt3", "template", "imbalance", "width", "ptdep", "nonclosure")
# Those of the residual response; "jer" is the systematic uncertainty of the scale factor that simulation is smeared by.
RESIDUAL_SOURCES = ("jes", "pu", "dphi", "pt3", "jer")
ALL_SOURCES = (*SOURCES, "jer")


def sources_of(quantity: Quantity) -> tuple[str, ...]:
    """Sources of systematic uncertainty that a published quantity can have."""
    return RESIDUAL_SOURCES if quantity == "residual" else SOURCES


@dataclass(frozen=True, slots=True)
class Shift:
    """What a source of uncertainty does to a value: signed shifts when it is varied up and down."""

    source: str
    up: float
    down: float

    @property
    def size(self) -> float:
        """The larger of both, without sign."""
        return max(abs(self.up), abs(self.down))


@dataclass(frozen=True, slots=True)
class Interval:
    """A half-open bin [low, high) of |eta| or of pT in GeV."""

    low: float
    high: float

    @property
    def centre(self) -> float:
        """Arithmetic middle of the bin."""
        return 0.5 * (self.low + self.high)


@dataclass(frozen=True, slots=True)
class Point:
    """One measured number.

    Attributes
    ----------
    quantity
        "width" (of the asymmetry after removal of the truth imbalance), "jer" (sigma(pT)/pT), "jer_truth" (width over
        mean of reco/truth), "response", "scale_factor", "residual", a parameter "N" (GeV), "S" (sqrt(GeV)), "C", "P" or
        "rho_slope" (of N|N| in rho, GeV),
        or "scale_factor_again" and "residual_again", measured after the corrections have been applied.
    dataset
        "simulation", "data", "data/simulation" or the name of an alternative simulation.
    method
        "template", "truncated_rms", "truth_response", "mean_asymmetry", "combined", ...
    region
        "standard", "forward", "reference" or "" where none applies.
    pt
        Bin of pt_avg (of truth pT for "jer_truth"), or the whole range for a quantity constant in pT.
    pt_mean
        Mean pT at which the value holds (mean matched truth pt_avg where there is truth), GeV.
    stat
        Statistical uncertainty.
    shifts
        What each source of systematic uncertainty that was evaluated does to the value.
    copies
        The value in every bootstrap copy, (n_replicas,); empty where there are none.
    """

    quantity: Quantity
    dataset: str
    algo: str
    method: str
    region: str
    eta: Interval
    pt: Interval
    pt_mean: float
    value: float
    stat: float
    status: Status
    shifts: tuple[Shift, ...] = ()
    copies: FloatArray = field(default_factory=lambda: np.zeros(0), compare=False, repr=False)

    @property
    def is_measured(self) -> bool:
        """Whether the value may be used."""
        return self.status == "ok" and bool(np.isfinite(self.value))

    @property
    def total(self) -> float:
        """Statistical and systematic uncertainty in quadrature, each source with the larger of its two shifts."""
        return float(np.sqrt(self.stat**2 + sum(shift.size**2 for shift in self.shifts)))

    def shift(self, source: str) -> Shift | None:
        """What `source` does, None where it was not evaluated."""
        return next((shift for shift in self.shifts if shift.source == source), None)


@dataclass(frozen=True, slots=True)
class RhoSlope:
    """What N|N| gains per GeV of rho, `value` in GeV with its `error`; the curve holds at `mean`.

    `reach` are the mean rho of the lowest and of the highest bin measured, GeV per unit area.
    """

    value: float
    error: float
    mean: float
    reach: Interval


@dataclass(frozen=True, slots=True)
class ResolutionCurve:
    """sigma(pT)/pT = sqrt(N|N|/pT^2 + S^2 pT^P + C^2) fitted in one |eta| bin, P = -1 unless it was fitted too.

    `squares` are (N|N|, S^2, C^2), the parameters in which the square of the curve is linear, `covariance` (3, 3) is
    theirs, or (4, 4) with the power P last; `pt_range` is the range of the fitted points, GeV; `rho` how N|N| moves
    with rho, None where it is not known to move.
    """

    dataset: str
    algo: str
    eta: Interval
    squares: tuple[float, float, float]
    covariance: FloatArray
    pt_range: Interval
    chi2: float
    ndf: int
    status: Status
    power: float = -1.0
    rho: RhoSlope | None = None

    @property
    def noise(self) -> float:
        """N in GeV, with the sign of N|N|."""
        return float(np.sign(self.squares[0]) * np.sqrt(abs(self.squares[0])))

    @property
    def stochastic(self) -> float:
        """S in sqrt(GeV)."""
        return float(np.sqrt(max(self.squares[1], 0.0)))

    @property
    def constant(self) -> float:
        """C."""
        return float(np.sqrt(max(self.squares[2], 0.0)))

    @property
    def errors(self) -> dict[Quantity, float]:
        """Standard deviations of N, S and C, and of P where it was fitted; nan for a term that was left out."""
        roots = (self.noise, self.stochastic, self.constant)
        names: tuple[Quantity, ...] = ("N", "S", "C")
        squared = np.sqrt(np.maximum(np.diag(self.covariance), 0.0))
        errors = {
            name: float(error / (2 * abs(root))) if root else float("nan")
            for name, root, error in zip(names, roots, squared, strict=False)
        }
        return errors if len(squared) == 3 else {**errors, "P": float(squared[3])}

    def squared(self, pt: FloatArray) -> FloatArray:
        """(sigma/pT)^2 at `pt` in GeV; may be negative where a negative N wins."""
        n, s, c = self.squares
        return np.asarray(n / pt**2 + s * pt**self.power + c, dtype=np.float64)

    def __call__(self, pt: FloatArray) -> FloatArray:
        """sigma/pT at `pt` in GeV, nan where the square is negative."""
        squared = self.squared(pt)
        return np.sqrt(np.where(squared >= 0, squared, np.nan))

    def band(self, pt: FloatArray) -> FloatArray:
        """One standard deviation of the curve at `pt`, same shape, from the parameter covariance."""
        stochastic = pt**self.power
        terms = [1 / pt**2, stochastic, np.ones_like(pt), self.squares[1] * np.log(pt / PT_SCALE) * stochastic]
        gradient = np.stack(terms[: len(self.covariance)], axis=-1)
        variance = np.einsum("...i,ij,...j->...", gradient, self.covariance, gradient)
        return np.asarray(np.sqrt(variance) / (2 * self(pt)), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class AsymmetryFit:
    """One asymmetry distribution with the fitted curve, as it is drawn.

    `counts`, `variances`, `template` and `model` have one entry per bin of `edges` (n + 1,): sums of weights, of
    squared weights, truth asymmetry and fitted expectation, the last two normalised to `counts` (zeros if absent).
    `window` is the fitted range of A, `sigma` the detector width of A, `shift` its displacement.
    """

    dataset: str
    region: str
    eta: Interval
    pt: Interval
    edges: FloatArray
    counts: FloatArray
    variances: FloatArray
    template: FloatArray
    model: FloatArray
    window: Interval
    sigma: float
    sigma_error: float
    shift: float
    chi2: float
    ndf: int
    status: Status


@dataclass(frozen=True, slots=True)
class Check:
    """Agreement of numbers that should be equal: sum of squared pulls, their number, probability of a larger sum."""

    name: str
    eta: Interval
    chi2: float
    ndf: int

    @property
    def p_value(self) -> float:
        """Probability of a larger chi^2 by chance; nan without degrees of freedom."""
        return float(chdtrc(self.ndf, self.chi2)) if self.ndf > 0 else float("nan")


@dataclass(frozen=True, slots=True)
class Measurement:
    """All that was measured for one jet algorithm: points, curves, fitted distributions and checks among them.

    `method` is the one whose resolutions and scale factors are published, `residual_method` the one of the residuals.
    """

    algo: str
    points: tuple[Point, ...]
    curves: tuple[ResolutionCurve, ...]
    fits: tuple[AsymmetryFit, ...]
    replicas: int
    method: str = "template"
    residual_method: str = "mean_asymmetry"
    checks: tuple[Check, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def published(self, quantity: Quantity, dataset: str | None = None) -> tuple[Point, ...]:
        """The points of a quantity by the method whose results are published."""
        return tuple(p for p in self.select(quantity, dataset) if self.publishes(p))

    def publishes(self, point: Point) -> bool:
        """Whether a point comes from the method whose results are published for its quantity."""
        is_residual = point.quantity in ("residual", "residual_again")
        return point.method == (self.residual_method if is_residual else self.method)

    def select(self, quantity: Quantity, dataset: str | None = None, method: str | None = None) -> tuple[Point, ...]:
        """The points of one quantity, in |eta| and pT order as measured."""
        return tuple(
            p
            for p in self.points
            if p.quantity == quantity and dataset in (None, p.dataset) and method in (None, p.method)
        )
