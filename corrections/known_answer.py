"""What was put into a generated sample, and whether a measurement gives it back."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc

from corrections.coverage import best_known
from corrections.results import FAILED_BELOW, RATIO

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from corrections.results import Measurement, Quantity
    from corrections.sample import Sample

FloatArray = NDArray[np.float64]

FILE = "injected.json"
QUANTITIES: tuple[Quantity, ...] = ("scale_factor", "residual")

Truth = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Population:
    """How many jets were measured in |eta| bins: `edges` (n + 1,) and `jets` (n,)."""

    edges: FloatArray
    jets: FloatArray

    def share(self, low: float, high: float, parts: FloatArray) -> FloatArray:
        """Part of the jets of [low, high) between successive `parts` (n + 1,), (n,); their sum is 1.

        The logarithm of the density is taken as linear between the middles of the bins, and beyond.
        """
        used = self.jets > 0
        middles = 0.5 * (self.edges[1:] + self.edges[:-1])[used]
        density = np.log((self.jets / np.diff(self.edges))[used])
        fine = np.linspace(low, high, 401)
        centres = 0.5 * (fine[1:] + fine[:-1])
        weight = np.exp(_extended(centres, middles, density)) if len(middles) > 1 else np.ones(len(centres))
        counts, _ = np.histogram(centres, parts, weights=weight)
        return np.asarray(counts / weight.sum())


def _extended(x: FloatArray, nodes: FloatArray, values: FloatArray) -> FloatArray:
    """Linear interpolation that goes on beyond the outermost nodes, never rising outwards of the last one."""
    slope = min((values[-1] - values[-2]) / (nodes[-1] - nodes[-2]), 0.0)
    beyond = values[-1] + slope * (x - nodes[-1])
    return np.where(x > nodes[-1], beyond, np.interp(x, nodes, values))


@dataclass(frozen=True, slots=True)
class Pull:
    """One measured value against the one that was put in.

    `error` is the statistical one, with the doubt about `known` where several values were put into one bin.
    """

    algo: str
    quantity: Quantity
    eta: tuple[float, float]
    measured: float
    known: float
    error: float

    @property
    def value(self) -> float:
        """(measured - known) / error."""
        return (self.measured - self.known) / self.error


@dataclass(frozen=True, slots=True)
class Agreement:
    """Sum of squared pulls, their number, and the probability of a larger sum by chance; bins taken as independent."""

    pulls: tuple[Pull, ...]
    chi2: float
    ndf: int
    p_value: float

    @property
    def is_bad(self) -> bool:
        """Whether chance does not explain the difference."""
        return self.p_value < FAILED_BELOW


def read_known_answer(folder: Path, reference: tuple[float, float]) -> dict[str, tuple[Truth, ...]]:
    """(|eta| low, |eta| high, value) by quantity from `injected.json` beside a sample; empty where there is none.

    What a layered detector did is known from finite truth: its errors are under the quantity with "_error". Residuals
    are relative to the region `reference`. A sample whose data come from another tune than its simulation has no known
    answer: tunes differ by more than what was put in.
    """
    path = folder / FILE
    if not path.is_file():
        return {}
    content = json.loads(path.read_text(encoding="utf-8"))
    if content.get("data_settings") != content.get("simulation_settings"):
        return {}
    edges = [float(edge) for edge in content["abs_eta_edges"]]
    known = {
        quantity: tuple(zip(edges[:-1], edges[1:], map(float, content[name]), strict=True))
        for quantity, name in (
            ("scale_factor", "scale_factor"),
            ("residual", "residual_relative"),
            ("scale_factor_error", "scale_factor_error"),
            ("residual_error", "response_error"),
        )
        if name in content
    }
    scale, _ = known_in(*reference, known["residual"])
    known["residual"] = tuple((low, high, value / scale) for low, high, value in known["residual"])
    return known


def agreement(
    measurements: Sequence[Measurement],
    known: Mapping[str, tuple[Truth, ...]],
    populations: Mapping[str, Population] | None = None,
) -> Agreement | None:
    """How well the measurements give back what is known; None where nothing can be compared.

    `populations` by jet algorithm tell where in an |eta| bin its jets are; without one they are spread evenly.
    """
    where = populations or {}
    pulls = tuple(
        pull for each in measurements for name in QUANTITIES for pull in _pulls(each, name, known, where.get(each.algo))
    )
    if not pulls:
        return None
    total = sum(pull.value**2 for pull in pulls)
    return Agreement(pulls, total, len(pulls), float(chdtrc(len(pulls), total)))


def population_of(sample: Sample | None) -> Population | None:
    """Where the jets of a sample are; None without one."""
    return None if sample is None else Population(sample.binning.eta_edges, sample.jets_by_eta())


def _pulls(
    measurement: Measurement,
    quantity: Quantity,
    known: Mapping[str, tuple[Truth, ...]],
    population: Population | None,
) -> list[Pull]:
    """Pulls of the measured bins; a residual that is 1 by construction has no error and says nothing."""
    if not known.get(quantity):
        return []
    pulls = []
    for eta, point in best_known(measurement.published(quantity, RATIO)).items():
        value, spread = known_in(eta.low, eta.high, known[quantity], population)
        doubts = known.get(f"{quantity}_error")
        doubt = known_in(eta.low, eta.high, doubts, population)[0] if doubts else 0.0
        error = math.hypot(point.stat, spread, doubt)
        pulls.append(Pull(measurement.algo, quantity, (eta.low, eta.high), point.value, value, error))
    return pulls


def known_in(
    low: float, high: float, truths: Sequence[Truth], population: Population | None = None
) -> tuple[float, float]:
    """Mean over jets of what was put into [low, high), and how far what is measured may be from it.

    Where several values were put in, widths and numbers of jets weigh them in ways that depend on pT. The last value
    also holds beyond its bin.
    """
    last = truths[-1]
    reaching = [*truths[:-1], (last[0], math.inf, last[2])]
    even = np.array([max(min(high, stop) - max(low, start), 0.0) for start, stop, _ in reaching])
    shares = even
    if population is not None and np.count_nonzero(even) > 1:
        shares = population.share(low, high, np.array([*(start for start, _, _ in reaching), max(high, last[1])]))
    values = np.array([value for _, _, value in reaching])
    mean = float(np.average(values, weights=shares))
    variance = float(np.average((values - mean) ** 2, weights=shares))
    return mean, math.sqrt(variance / np.count_nonzero(even))
