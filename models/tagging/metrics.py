"""How well a tagger separates signal from background, and how far its selection sculpts a mass spectrum.

Definitions are those of ATLAS (ATL-PHYS-PUB-2018-014): the working point is the point of the ROC curve closest to a
signal efficiency; R50 is one over the background efficiency there; JSD50 is the Jensen-Shannon divergence, with
logarithms of base 2, between the normalised mass spectra of background that passes and that fails, in 50 bins from 50
to 300 GeV. Everything is weighted.

A finite sample has a divergence even if passing is decided by chance. One over the mean of such random selections of
the same size is the statistical ceiling of 1/JSD; `jsd_sub` is the divergence above this mean. Weights may be negative
as long as sums are not; a bin whose sum is negative counts as empty.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.flat_weights import effective_entries

if TYPE_CHECKING:
    from collections.abc import Sequence

Float64Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

MASS_EDGES: Float64Array = np.linspace(50.0, 300.0, 51)
"""GeV."""
EFFICIENCY = 0.5
PT_EDGES = (200.0, 260.0, 330.0, 430.0, 560.0, 720.0, 930.0, 1200.0, 1550.0, 2000.0)
"""Bins of pT in which robustness is told, GeV."""
NPV_EDGES = (0.0, 5.5, 10.5, 15.5, 20.5, 25.5, 30.5)
REPLICAS = 20
_MIN_ENTRIES = 10


@dataclass(frozen=True, slots=True)
class Roc:
    """Efficiencies of all cuts score >= threshold, from the hardest cut on, the cut that nothing passes included.

    Attributes
    ----------
    thresholds
        (m,), falling, the first one infinite.
    signal, background
        (m,): weighted efficiencies, from 0 to 1.
    """

    thresholds: Float64Array
    signal: Float64Array
    background: Float64Array

    @property
    def auc(self) -> float:
        """Area under the curve of signal against background efficiency."""
        return float(np.trapezoid(self.signal, self.background))

    def place(self, efficiency: float) -> int:
        """Index of the point closest to a signal efficiency, of the harder cut where two are as close.

        The cut that nothing passes is no choice.
        """
        return _closest(self.signal, efficiency)

    def threshold(self, efficiency: float = EFFICIENCY) -> float:
        """The cut closest to a signal efficiency."""
        return float(self.thresholds[self.place(efficiency)])

    def rejection(self, efficiency: float = EFFICIENCY) -> float:
        """One over the background efficiency at the point closest to a signal efficiency; inf without background."""
        passing = float(self.background[self.place(efficiency)])
        return 1.0 / passing if passing > 0 else math.inf


def roc(score: Float64Array, is_signal: BoolArray, weight: Float64Array | None = None) -> Roc:
    """ROC curve of scores (n,) that are high for signal; equal scores are one point.

    Raises
    ------
    ValueError
        Where a class has no weight, or scores are not finite.
    """
    weight = np.ones(len(score)) if weight is None else np.asarray(weight, np.float64)
    signal, background = np.where(is_signal, weight, 0.0), np.where(is_signal, 0.0, weight)
    if not (signal.sum() > 0 and background.sum() > 0):
        raise ValueError("a ROC curve needs signal and background whose weights have a positive sum")
    if not np.isfinite(score).all():
        raise ValueError("a ROC curve needs finite scores")
    order = np.argsort(-np.asarray(score, np.float64), kind="stable")
    ordered = np.asarray(score, np.float64)[order]
    last = _last_of_equal(ordered)
    efficiencies = [np.append(0.0, np.cumsum(each[order])[last] / each.sum()) for each in (signal, background)]
    return Roc(np.append(np.inf, ordered[last]), *efficiencies)


def accuracy(
    score: Float64Array, is_signal: BoolArray, weight: Float64Array | None = None, threshold: float = 0.5
) -> float:
    """Weighted share of jets on the right side of a threshold."""
    weight = np.ones(len(score)) if weight is None else weight
    return float(weight @ ((score >= threshold) == is_signal) / weight.sum())


def balanced_accuracy(score: Float64Array, is_signal: BoolArray, weight: Float64Array, threshold: float = 0.5) -> float:
    """Weighted share of jets on the right side of a threshold, with classes of equal weight."""
    balanced = np.asarray(weight, np.float64).copy()
    for chosen in (is_signal, ~is_signal):
        balanced[chosen] /= balanced[chosen].sum()
    return accuracy(score, is_signal, balanced, threshold)


def divergence(first: Float64Array, second: Float64Array) -> float:
    """Jensen-Shannon divergence of two histograms (bins,), logarithms of base 2, in [0, 1]; nan for an empty one."""
    p, q = (np.maximum(np.asarray(each, np.float64), 0.0) for each in (first, second))
    if not (p.sum() > 0 and q.sum() > 0):
        return math.nan
    p, q = p / p.sum(), q / q.sum()
    mean = 0.5 * (p + q)
    return 0.5 * (_relative_entropy(p, mean) + _relative_entropy(q, mean))


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Background jets within the bins of mass, for divergences of many selections.

    Attributes
    ----------
    bins
        (n,): bin of each jet that lies within the edges.
    weight
        (n,).
    within
        (n_given,): which of the given jets these are.
    n_bins
        How many bins there are.
    """

    bins: NDArray[np.int64]
    weight: Float64Array
    within: BoolArray
    n_bins: int

    @classmethod
    def of(cls, mass: Float64Array, weight: Float64Array, edges: Float64Array = MASS_EDGES) -> Spectrum:
        """Spectrum of masses (n_given,); those outside of the edges, or nan, are left out."""
        within = (mass >= edges[0]) & (mass < edges[-1])
        bins = np.searchsorted(edges, mass[within], side="right") - 1
        return cls(bins.astype(np.int64), np.asarray(weight, np.float64)[within], within, len(edges) - 1)

    def divergence(self, passing: BoolArray, factors: Float64Array | None = None) -> float:
        """Divergence of jets (n,) that pass from those that fail; `factors` (n,) multiply the weights."""
        weight = self.weight if factors is None else self.weight * factors
        passed = self._histogram(weight * passing)
        return divergence(passed, self._histogram(weight) - passed)

    def _histogram(self, weight: Float64Array) -> Float64Array:
        return np.bincount(self.bins, weight, self.n_bins).astype(np.float64)

    def random(self, share: float, draws: int, rng: np.random.Generator) -> Float64Array:
        """Divergences of selections that take jets by chance until they have a share of the weight, (draws,)."""
        found = np.full(draws, np.nan)
        for i in range(draws):
            order = rng.permutation(len(self.bins))
            taken = np.cumsum(self.weight[order])
            passing = np.zeros(len(self.bins), np.bool_)
            passing[order] = taken <= share * taken[-1] if len(taken) else False
            found[i] = self.divergence(passing)
        return found


@dataclass(frozen=True, slots=True)
class Sculpting:
    """What a selection does to the mass spectrum of background.

    Attributes
    ----------
    jsd, jsd_error
        Divergence of what passes from what fails, and its bootstrap error.
    random
        Mean divergence of random selections of the same size.
    efficiency_signal, efficiency_background
        Of the selection.
    effective_jets
        Effective number of background jets within the bins.
    outside
        Background jets outside of the bins, which do not count.
    """

    jsd: float
    jsd_error: float
    random: float
    efficiency_signal: float
    efficiency_background: float
    effective_jets: float
    outside: int

    @property
    def jsd_sub(self) -> float:
        """Divergence above that of random selections; may be negative within its error."""
        return self.jsd - self.random

    @property
    def inverse(self) -> float:
        """1/JSD."""
        return inverse(self.jsd)

    @property
    def inverse_error(self) -> float:
        """Bootstrap error of 1/JSD, to first order."""
        return self.jsd_error / self.jsd**2 if self.jsd > 0 else math.nan

    @property
    def ceiling(self) -> float:
        """1/JSD of a random selection of the same size."""
        return inverse(self.random)

    @property
    def share_of_ceiling(self) -> float:
        """1/JSD in units of that of a random selection; above 1 by chance alone."""
        return self.random / self.jsd if self.jsd > 0 else math.nan

    @property
    def guaranteed(self) -> float:
        """1/(JSD_sub + its error): what 1/JSD would at least be in an endless sample.

        inf where no divergence is seen, nan where it is not defined, as for a cut that all jets pass.
        """
        return inverse(self.jsd_sub + self.jsd_error)

    def told(self) -> dict[str, float]:
        """Numbers by name, for tables and JSON."""
        return {
            "inverse_jsd": self.inverse,
            "inverse_jsd_error": self.inverse_error,
            "ceiling": self.ceiling,
            "share_of_ceiling": self.share_of_ceiling,
            "jsd": self.jsd,
            "jsd_error": self.jsd_error,
            "jsd_sub": self.jsd_sub,
            "guaranteed_inverse_jsd": self.guaranteed,
            "effective_background": self.effective_jets,
            "outside_bins": float(self.outside),
        }


def sculpting(
    score: Float64Array,
    is_signal: BoolArray,
    mass: Float64Array,
    weight: Float64Array,
    *,
    efficiency: float = EFFICIENCY,
    edges: Float64Array = MASS_EDGES,
    replicas: int = REPLICAS,
    seed: int = 1,
) -> Sculpting:
    """What the cut closest to a signal efficiency does to the mass spectrum of background, all arrays (n,).

    The bootstrap gives every jet, signal as well, Poisson(1) copies and finds the cut anew; a replica in which no
    background passes, or none fails, has no divergence and does not count.
    """
    curve = roc(score, is_signal, weight)
    place = curve.place(efficiency)
    spectrum = Spectrum.of(mass[~is_signal], weight[~is_signal], edges)
    of_background = score[~is_signal][spectrum.within]
    passing = of_background >= curve.thresholds[place]
    rng = np.random.default_rng(seed)
    share = float(spectrum.weight @ passing / spectrum.weight.sum()) if len(passing) else math.nan
    random = spectrum.random(share, replicas, rng)
    copies = [
        spectrum.divergence(of_background >= threshold, factors)
        for threshold, factors in _replicas(score, is_signal, weight, efficiency, spectrum, replicas, rng)
    ]
    return Sculpting(
        spectrum.divergence(passing),
        _spread(copies),
        float(np.mean(random)) if len(random) else math.nan,
        float(curve.signal[place]),
        float(curve.background[place]),
        effective_entries(spectrum.weight),
        int(np.count_nonzero(~spectrum.within)),
    )


def rejection_with_error(
    score: Float64Array,
    is_signal: BoolArray,
    weight: Float64Array,
    *,
    efficiency: float = EFFICIENCY,
    replicas: int = REPLICAS,
    seed: int = 1,
) -> tuple[float, float]:
    """One over the background efficiency at a signal efficiency, and its bootstrap error."""
    rng = np.random.default_rng(seed)
    copies = [
        roc(score, is_signal, weight * rng.poisson(1.0, len(score))).rejection(efficiency) for _ in range(replicas)
    ]
    return roc(score, is_signal, weight).rejection(efficiency), _spread(copies)


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """Divergence at one efficiency: of signal, of background, jsd, and the mean of random selections of the size."""

    efficiency_signal: float
    efficiency_background: float
    jsd: float
    random: float


def against_efficiency(
    score: Float64Array,
    is_signal: BoolArray,
    mass: Float64Array,
    weight: Float64Array,
    *,
    efficiencies: Sequence[float] = tuple(np.arange(0.05, 1.0, 0.05)),
    of_signal: bool = False,
    edges: Float64Array = MASS_EDGES,
    draws: int = 5,
    seed: int = 1,
) -> list[CurvePoint]:
    """Divergence for cuts with given efficiencies, of background or of signal."""
    curve = roc(score, is_signal, weight)
    spectrum = Spectrum.of(mass[~is_signal], weight[~is_signal], edges)
    of_background = score[~is_signal][spectrum.within]
    rng = np.random.default_rng(seed)
    along = curve.signal if of_signal else curve.background
    points = []
    for efficiency in efficiencies:
        place = _closest(along, efficiency)
        passing = of_background >= curve.thresholds[place]
        share = float(spectrum.weight @ passing / spectrum.weight.sum()) if len(passing) else math.nan
        random = float(np.mean(spectrum.random(share, draws, rng)))
        points.append(
            CurvePoint(float(curve.signal[place]), float(curve.background[place]), spectrum.divergence(passing), random)
        )
    return points


@dataclass(frozen=True, slots=True)
class BinOfVariable:
    """A bin of pT or of pile-up: what the cut of all jets does to the jets within, nan where there are too few."""

    low: float
    high: float
    efficiency_signal: float
    rejection: float
    jsd: float
    random: float


def robustness(
    score: Float64Array,
    is_signal: BoolArray,
    mass: Float64Array,
    weight: Float64Array,
    variable: Float64Array,
    variable_edges: Sequence[float] = PT_EDGES,
    *,
    efficiency: float = EFFICIENCY,
    edges: Float64Array = MASS_EDGES,
    draws: int = 5,
) -> list[BinOfVariable]:
    """Efficiency, rejection and divergence in bins of a variable (n,) for the one cut an analysis would make.

    The last bin holds its upper edge, too.
    """
    threshold = roc(score, is_signal, weight).threshold(efficiency)
    rng = np.random.default_rng(1)
    found = []
    for low, high in pairwise(variable_edges):
        chosen = (variable >= low) & ((variable < high) | ((variable == high) & (high == variable_edges[-1])))
        parts = (score[chosen] >= threshold, is_signal[chosen], mass[chosen], weight[chosen])
        found.append(BinOfVariable(low, high, *_in_bin(*parts, edges, draws, rng)))
    return found


def pareto_front(gain: Sequence[float], other: Sequence[float]) -> list[int]:
    """Indices of the points that no other one beats in one quantity without loss in the other, by rising `gain`."""
    order = sorted(range(len(gain)), key=lambda i: (-gain[i], -other[i]))
    front, best = [], -math.inf
    for i in order:
        if other[i] > best:
            front.append(i)
            best = other[i]
    return front[::-1]


def _closest(along: Float64Array, efficiency: float) -> int:
    """Index of the point of a curve with the closest efficiency, apart from the first, which nothing passes."""
    return int(np.argmin(np.abs(along[1:] - efficiency))) + 1


def _last_of_equal(ordered: Float64Array) -> NDArray[np.intp]:
    """Index of the last one of each run of equal scores, which no cut takes apart."""
    return np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))


def _spread(copies: Sequence[float]) -> float:
    """Standard deviation of those that are finite, nan for fewer than two."""
    finite = [each for each in copies if math.isfinite(each)]
    return float(np.std(finite, ddof=1)) if len(finite) > 1 else math.nan


def _relative_entropy(first: Float64Array, second: Float64Array) -> float:
    """Kullback-Leibler divergence in bits."""
    there = first > 0
    return float(np.sum(first[there] * np.log2(first[there] / second[there])))


def inverse(value: float) -> float:
    """1 over a value that is not negative: inf for 0 and below, nan for nan."""
    if math.isnan(value):
        return math.nan
    return 1.0 / value if value > 0 else math.inf


def _replicas(
    score: Float64Array,
    is_signal: BoolArray,
    weight: Float64Array,
    efficiency: float,
    spectrum: Spectrum,
    replicas: int,
    rng: np.random.Generator,
) -> Any:
    """Threshold and factors of background jets within the bins, of each bootstrap replica."""
    order = np.argsort(-score[is_signal], kind="stable")
    ordered, of_signal = score[is_signal][order], weight[is_signal][order]
    last = _last_of_equal(ordered)
    for _ in range(replicas):
        passed = np.cumsum(of_signal * rng.poisson(1.0, len(of_signal)))[last]
        place = last[np.argmin(np.abs(passed - efficiency * passed[-1]))]
        yield ordered[place], rng.poisson(1.0, len(spectrum.bins))


def _in_bin(
    passing: BoolArray,
    is_signal: BoolArray,
    mass: Float64Array,
    weight: Float64Array,
    edges: Float64Array,
    draws: int,
    rng: np.random.Generator,
) -> tuple[float, float, float, float]:
    signal, background = np.where(is_signal, weight, 0.0), np.where(is_signal, 0.0, weight)
    spectrum = Spectrum.of(mass[~is_signal], weight[~is_signal], edges)
    if len(spectrum.bins) < _MIN_ENTRIES or signal.sum() <= 0 or background.sum() <= 0:
        return math.nan, math.nan, math.nan, math.nan
    efficiency, passed = float(signal @ passing / signal.sum()), float(background @ passing / background.sum())
    within = passing[~is_signal][spectrum.within]
    share = float(spectrum.weight @ within / spectrum.weight.sum())
    random = float(np.mean(spectrum.random(share, draws, rng)))
    return efficiency, inverse(passed), spectrum.divergence(within), random
