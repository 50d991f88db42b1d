"""Rate at which multijets pass, data over simulation, from dijet events.

In data it is (N_pass - B_pass) / (N - B), N the jets of data and B those of all other processes in simulation; in
simulation the share of jets of multijets that pass.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np

from corrections.results import Interval, Shift
from corrections.tagging.counts import FAIL, PASS, merged_edges
from corrections.tagging.points import efficiency_error
from corrections.tagging.results import LARGEST_EXPECTED_ERROR, TEMPLATE, Estimate, TaggerPoint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from corrections.tagging.counts import Counts, FloatArray
    from corrections.tagging.results import FitStatus
    from corrections.tagging.settings import MistagSettings

CATEGORY = "mistag"
# The source of what the yield of other processes does.
SUBTRACTION = "subtraction"


@dataclass(frozen=True, slots=True)
class Yields:
    """Jets of one bin between neighbouring working points, (n_cells,), those that fail all of them first.

    `multijet` and `other` are simulated, with sums of squared weights in `multijet_variance` and `other_variance`, and
    by source of uncertainty (2, n_cells), up and down first.
    """

    data: FloatArray
    data_variance: FloatArray
    multijet: FloatArray
    multijet_variance: FloatArray
    other: FloatArray
    other_variance: FloatArray
    varied: Mapping[str, tuple[FloatArray, FloatArray]]

    def expected(self) -> Yields:
        """The same with as many jets of data, of which so many pass as simulation says: a scale factor of 1."""
        multijets = self.multijet * max(float((self.data - self.other).sum()), 0.0) / float(self.multijet.sum())
        expected = multijets + np.maximum(self.other, 0.0)
        total = float(self.data.sum())
        weight = float(self.data_variance.sum()) / total if total > 0 else 0.0
        return replace(self, data=expected, data_variance=weight * expected)

    def at(self, first: int) -> Yields:
        """The same in two cells, what fails and what passes, which are the cells from `first` on."""

        def split(values: FloatArray) -> FloatArray:
            return np.stack([values[..., :first].sum(axis=-1), values[..., first:].sum(axis=-1)], axis=-1)

        return Yields(
            data=split(self.data),
            data_variance=split(self.data_variance),
            multijet=split(self.multijet),
            multijet_variance=split(self.multijet_variance),
            other=split(self.other),
            other_variance=split(self.other_variance),
            varied={source: (split(multijet), split(other)) for source, (multijet, other) in self.varied.items()},
        )


def mistag_rates(counts: Counts, settings: MistagSettings) -> list[Estimate]:
    """Scale factors of all taggers and working points in bins of |eta| and pT."""
    etas = merged_edges(counts.eta, settings.eta, "mistag.eta")
    pts = merged_edges(counts.pt, settings.pt, "mistag.pt")
    found = []
    for tagger, cuts in counts.working_points.items():
        for (first, working_point), eta, pt in product(enumerate(cuts, start=1), etas, pts):
            yields = yields_in(counts, tagger, pt, eta, settings)
            empty = TaggerPoint(
                quantity="mistag",
                tagger=tagger,
                working_point=working_point,
                category=CATEGORY,
                pt=Interval(float(counts.pt[pt[0]]), float(counts.pt[pt[1]])),
                eta=Interval(float(counts.eta[eta[0]]), float(counts.eta[eta[1]])),
            )
            found.append(mistag(yields, empty, first, settings.subtraction))
    return found


def yields_in(
    counts: Counts, tagger: str, pt: tuple[int, int], eta: tuple[int, int], settings: MistagSettings
) -> Yields:
    """Sums over mass and over the bins [first, last) of pT and |eta|."""
    inside = (..., slice(*pt), slice(*eta), slice(None))
    is_multijet = np.array([name in settings.multijet for name in counts.categories])

    def of_data(values: FloatArray) -> FloatArray:
        return np.asarray(counts.cells(tagger, values, simulated=False)[inside].sum(axis=(1, 2, 3)))

    def split(values: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Multijets and the others, (..., n_cells) each, of (..., process, tagger, ...)."""
        sums = counts.cells(tagger, values, simulated=True)[inside].sum(axis=(-3, -2, -1)).sum(axis=-3)
        return sums[..., is_multijet].sum(axis=-1), sums[..., ~is_multijet].sum(axis=-1)

    data = of_data(counts.data)
    multijet, other = split(counts.nominal)
    multijet_variance, other_variance = split(counts.variance)
    return Yields(
        data=data,
        data_variance=likely_variance(data, of_data(counts.data_variance)),
        multijet=multijet,
        multijet_variance=likely_variance(multijet, multijet_variance),
        other=other,
        other_variance=other_variance,
        varied={source: split(values) for source, values in counts.varied.items()},
    )


def likely_variance(jets: FloatArray, variance: FloatArray) -> FloatArray:
    """Variance of sums of weights in cells, (n_cells,), at least that of jets with the mean weight of all cells.

    The few jets of a cell may lack large weights by chance: then there are too few, and they seem to be known too well.
    """
    total = float(jets.sum())
    mean = float(variance.sum()) / total if total > 0 else 0.0
    return np.asarray(np.maximum(variance, mean * np.maximum(jets, 0.0)))


def mistag(yields: Yields, empty: TaggerPoint, first: int, subtraction: float) -> Estimate:
    """The scale factor of one bin; jets pass from the cell `first` on.

    `empty` says which bin, `subtraction` is the relative uncertainty of the others.
    """
    found = _estimate(yields, empty, first, subtraction)
    if found.point.status != "ok":
        return found
    # of few jets the number also is their uncertainty: to look at what is found would keep what is too large
    expected = _estimate(yields.expected(), empty, first, subtraction).point
    if expected.status == "ok" and expected.total <= LARGEST_EXPECTED_ERROR:
        return found
    known = {"efficiency": found.point.efficiency, "efficiency_error": found.point.efficiency_error}
    return Estimate(_with(empty, status="imprecise", **known))


def _estimate(yields: Yields, empty: TaggerPoint, first: int, subtraction: float) -> Estimate:
    """The same, however little is known of it."""
    two = yields.at(first)
    multijet = two.multijet
    efficiency = float(multijet[PASS] / multijet.sum()) if multijet.sum() > 0 else np.nan
    error = efficiency_error(
        float(multijet[PASS]), float(multijet[FAIL]), *two.multijet_variance[[PASS, FAIL]].tolist()
    )
    known = {"efficiency": efficiency, "efficiency_error": error}
    status = _status(two)
    if status != "ok":
        return Estimate(_with(empty, status=status, **known))
    value = _ratio(two.data, two.other, multijet)
    passes = np.arange(len(yields.data)) >= first
    slopes = _slopes(two.data - two.other, passes) / efficiency
    of_multijet = -value / efficiency * _slopes(multijet, passes)
    template = {
        **_by_cell("multijet", of_multijet, yields.multijet_variance),
        **_by_cell("other", -slopes, yields.other_variance),
    }
    shifts = _shifts(two, value, subtraction)
    size = float(np.linalg.norm(list(template.values())))
    stat = sqrt(float(slopes**2 @ yields.data_variance))
    point = _with(empty, value=value, stat=stat, shifts=(*shifts, Shift(TEMPLATE, size, -size)), **known)
    return Estimate(
        point=point,
        by_parameter={name: size for each in shifts for name, size in _by_parameter(each).items()},
        template=template,
        slopes=slopes[:, np.newaxis],
        jets=yields.data_variance[:, np.newaxis],
    )


def ratio_of(counts: Counts, point: TaggerPoint, settings: MistagSettings) -> float:
    """Rate in data over that in simulation in the bin of a point; nan without jets."""
    (pt,) = merged_edges(counts.pt, (point.pt.low, point.pt.high), "pt")
    (eta,) = merged_edges(counts.eta, (point.eta.low, point.eta.high), "eta")
    first = 1 + list(counts.working_points[point.tagger]).index(point.working_point)
    two = yields_in(counts, point.tagger, pt, eta, settings).at(first)
    return _ratio(two.data, two.other, two.multijet)


def _slopes(jets: FloatArray, passes: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> FloatArray:
    """Derivatives of the share of jets that pass, of (fail, pass), by the number of each cell, (n_cells,)."""
    return np.asarray(np.where(passes, jets[FAIL], -jets[PASS]) / jets.sum() ** 2)


def _by_cell(name: str, slopes: FloatArray, variances: FloatArray) -> dict[str, float]:
    return {f"{name}_{cell}": float(shift) for cell, shift in enumerate(slopes * np.sqrt(np.maximum(variances, 0.0)))}


def _status(yields: Yields) -> FitStatus:
    subtracted = yields.data - yields.other
    if yields.multijet[PASS] <= 0 or yields.multijet[FAIL] <= 0:
        return "no_simulation"
    if subtracted[PASS] <= 0:
        return "empty_pass"
    return "empty_fail" if subtracted[FAIL] <= 0 else "ok"


def _ratio(data: FloatArray, other: FloatArray, multijet: FloatArray) -> float:
    """Nan where nothing is left or nothing is expected to pass."""
    subtracted = data - other
    if subtracted.sum() <= 0 or multijet.sum() <= 0 or multijet[PASS] <= 0:
        return float("nan")
    return float(subtracted[PASS] / subtracted.sum() / (multijet[PASS] / multijet.sum()))


def _shifts(yields: Yields, value: float, subtraction: float) -> list[Shift]:
    found = []
    for source, (multijet, other) in yields.varied.items():
        up, down = (_ratio(yields.data, other[side], multijet[side]) - value for side in (0, 1))
        if np.isfinite(up) and np.isfinite(down):
            found.append(Shift(source, up, down))
    if yields.other.any() and subtraction:
        sides = [_ratio(yields.data, (1 + sign * subtraction) * yields.other, yields.multijet) for sign in (1, -1)]
        if np.isfinite(sides).all():
            found.append(Shift(SUBTRACTION, sides[0] - value, sides[1] - value))
    return found


def _by_parameter(shift: Shift) -> dict[str, float]:
    """The parts of a shift that change sign with the side and that do not, of the size of the larger side together.

    Products of these are the mean over both sides of products of shifts.
    """
    mean_square = 0.5 * (shift.up**2 + shift.down**2)
    scale = shift.size / sqrt(mean_square) if mean_square > 0 else 0.0
    name = shift.source
    parts = {name: 0.5 * scale * (shift.up - shift.down), f"{name}_even": 0.5 * scale * (shift.up + shift.down)}
    return {part: size for part, size in parts.items() if size}


def _with(point: TaggerPoint, **changes: object) -> TaggerPoint:
    return replace(point, **changes)  # type: ignore[arg-type]
