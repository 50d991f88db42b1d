"""What was put into a generated sample, and whether a measurement gives it back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import chdtrc

from corrections.results import RATIO

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from corrections.results import Measurement, Quantity

FILE = "injected.json"
QUANTITIES: tuple[Quantity, ...] = ("scale_factor", "residual")
FAILED_BELOW = 1e-3

Truth = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Pull:
    """One measured value against the one that was put in: (measured - known) / statistical error."""

    algo: str
    quantity: Quantity
    eta: tuple[float, float]
    measured: float
    known: float
    error: float

    @property
    def value(self) -> float:
        """The pull itself."""
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


def read_known_answer(folder: Path) -> dict[str, tuple[Truth, ...]]:
    """(|eta| low, |eta| high, value) by quantity from `injected.json` beside a sample; empty where there is none.

    A sample whose data come from another tune than its simulation has no known answer: tunes differ by more than what
    was put in.
    """
    path = folder / FILE
    if not path.is_file():
        return {}
    content = json.loads(path.read_text(encoding="utf-8"))
    if content.get("data_settings") != content.get("simulation_settings"):
        return {}
    edges = content["abs_eta_edges"]
    columns = {"scale_factor": content["scale_factor"], "residual": content["residual_relative"]}
    return {
        name: tuple(zip(map(float, edges[:-1]), map(float, edges[1:]), map(float, values), strict=True))
        for name, values in columns.items()
    }


def agreement(measurements: Sequence[Measurement], known: Mapping[str, tuple[Truth, ...]]) -> Agreement | None:
    """How well the measurements give back what is known; None where nothing can be compared."""
    pulls = tuple(pull for each in measurements for name in QUANTITIES for pull in _pulls(each, name, known))
    if not pulls:
        return None
    total = float(np.sum([pull.value**2 for pull in pulls]))
    return Agreement(pulls, total, len(pulls), float(chdtrc(len(pulls), total)))


def _pulls(measurement: Measurement, quantity: Quantity, known: Mapping[str, tuple[Truth, ...]]) -> list[Pull]:
    """Pulls of the bins in which one value was put in; a residual that is 1 by construction says nothing."""
    pulls = []
    for point in measurement.select(quantity, RATIO):
        value = _known_in(point.eta.low, point.eta.high, known.get(quantity, ()))
        if value is not None and point.is_measured and point.stat > 0:
            eta = (point.eta.low, point.eta.high)
            pulls.append(Pull(measurement.algo, quantity, eta, point.value, value, point.stat))
    return pulls


def _known_in(low: float, high: float, truths: tuple[Truth, ...]) -> float | None:
    """The value put in all over [low, high), None if there are several; the last bin reaches on."""
    if not truths:
        return None
    last = truths[-1][0]
    values = {value for start, stop, value in truths if start < high and (low < stop or start == last)}
    return next(iter(values)) if len(values) == 1 else None
