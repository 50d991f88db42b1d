"""What the measurement of taggers hands on: frozen records, nan with a status for what could not be measured."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import hypot, isfinite, nan
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Mapping

    from corrections.results import Interval, Shift

FloatArray = NDArray[np.float64]
FitStatus = Literal[
    "ok",
    "empty_pass",
    "empty_fail",
    "no_simulation",
    "too_few_bins",
    "absent",
    "always_passes",
    "at_limit",
    "imprecise",
    "not_converged",
    "bad_fit",
]
Quantity = Literal["scale_factor", "mistag"]
# Of a scale factor of 1, expected before data are looked at: one that would be known worse tells nothing. What is found
# has no part in it, as few jets that pass by chance make value and uncertainty small together.
LARGEST_EXPECTED_ERROR = 0.5
# Sources of uncertainty that are made of many parameters.
TEMPLATE = "template"
_BY_PREFIX = {
    "staterror_": TEMPLATE,
    "fraction_": "fraction",
    "background_": "background",
    "xsec_": "cross_section",
    "jms_": "jms",
    "jmr_": "jmr",
}


@dataclass(frozen=True, slots=True)
class TaggerPoint:
    """A scale factor of one category at one working point in one bin.

    Attributes
    ----------
    quantity
        "scale_factor" of a fit of pass and fail, or "mistag" from dijets.
    value, stat
        Of the ratio of efficiencies data/simulation, and its uncertainty from the number of data; nan if not "ok".
    shifts
        What each source of uncertainty does to the value, "template" being the number of simulated jets.
    efficiency, efficiency_error
        Of simulation, for jets of any mass.
    """

    quantity: Quantity
    tagger: str
    working_point: str
    category: str
    pt: Interval
    eta: Interval
    value: float = nan
    stat: float = nan
    shifts: tuple[Shift, ...] = ()
    efficiency: float = nan
    efficiency_error: float = nan
    status: FitStatus = "ok"

    @property
    def is_measured(self) -> bool:
        """Whether it has a value and an uncertainty."""
        sides = [side for shift in self.shifts for side in (shift.up, shift.down)]
        return self.status == "ok" and all(map(isfinite, (self.value, self.stat, *sides)))

    @property
    def total(self) -> float:
        """Statistical uncertainty and all sources in quadrature."""
        return hypot(self.stat, *(shift.size for shift in self.shifts))

    @property
    def where(self) -> str:
        """Its bin in words."""
        return f"pt {self.pt.low:g}-{self.pt.high:g}, |eta| {self.eta.low:g}-{self.eta.high:g}"

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.tagger} {self.working_point} {self.category} at {self.where}"

    def shift(self, source: str) -> Shift | None:
        """That of a source; None where it was not evaluated."""
        return next((each for each in self.shifts if each.source == source), None)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A point as a function of what it was made from, to first order; estimates of the same data have a covariance.

    Attributes
    ----------
    by_parameter
        Shift by a source of uncertainty at its upper side, by the name of its parameter; estimates that know the same
        name share it.
    template
        Shifts by the numbers of simulated jets, by names that estimates of the same jets share.
    slopes
        d value / d n for jets of data between neighbouring working points, those that fail all of them first, in fine
        bins of mass, (n_cells, n_fine).
    jets
        Variance of data there.
    """

    point: TaggerPoint
    by_parameter: Mapping[str, float] = field(default_factory=dict)
    template: Mapping[str, float] = field(default_factory=dict)
    slopes: FloatArray = field(default_factory=lambda: np.zeros((0, 0)))
    jets: FloatArray = field(default_factory=lambda: np.zeros((0, 0)))

    def shares_jets(self, other: Estimate) -> bool:
        """Whether both were made from the same jets: of one tagger, in one bin."""
        a, b = self.point, other.point
        same = (a.quantity, a.tagger, a.pt, a.eta) == (b.quantity, b.tagger, b.pt, b.eta)
        return same and self.jets.shape == other.jets.shape


def source_of(parameter: str) -> str:
    """The source of uncertainty that a parameter of a fit belongs to."""
    return next((source for prefix, source in _BY_PREFIX.items() if parameter.startswith(prefix)), parameter)
