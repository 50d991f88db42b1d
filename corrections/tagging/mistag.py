"""Rate at which multijets pass, data over simulation, from dijet events.

In data it is (N_pass - B_pass) / (N - B), N the jets of data and B those of all other processes in simulation; in
simulation the share of jets of multijets that pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np

from corrections.results import Interval, Shift
from corrections.tagging.counts import FAIL, PASS, merged_edges
from corrections.tagging.points import efficiency_error
from corrections.tagging.results import TEMPLATE, Estimate, TaggerPoint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from corrections.tagging.counts import Counts, FloatArray
    from corrections.tagging.results import FitStatus
    from corrections.tagging.settings import MistagSettings

CATEGORY = "mistag"
BACKGROUND = "background_dijet"


@dataclass(frozen=True, slots=True)
class Yields:
    """Jets of one bin; everything is (2,), what fails and what passes.

    `multijet` and `other` are simulated, with sums of squared weights in `multijet_variance` and `other_variance`, and
    by source of uncertainty (2, 2), up and down first.
    """

    data: FloatArray
    data_variance: FloatArray
    multijet: FloatArray
    multijet_variance: FloatArray
    other: FloatArray
    other_variance: FloatArray
    varied: Mapping[str, tuple[FloatArray, FloatArray]]


def mistag_rates(counts: Counts, settings: MistagSettings) -> list[Estimate]:
    """Scale factors of all taggers and working points in bins of |eta| and pT."""
    etas = merged_edges(counts.eta, settings.eta, "mistag.eta")
    pts = merged_edges(counts.pt, settings.pt, "mistag.pt")
    found = []
    for tagger, cuts in counts.working_points.items():
        for (working_point, cut), eta, pt in product(cuts.items(), etas, pts):
            yields = yields_in(counts, (tagger, working_point), pt, eta, settings)
            empty = TaggerPoint(
                quantity="mistag",
                tagger=tagger,
                working_point=working_point,
                category=CATEGORY,
                pt=Interval(float(counts.pt[pt[0]]), float(counts.pt[pt[1]])),
                eta=Interval(float(counts.eta[eta[0]]), float(counts.eta[eta[1]])),
            )
            found.append(mistag(yields, empty, cut, settings.background))
    return found


def yields_in(
    counts: Counts, which: tuple[str, str], pt: tuple[int, int], eta: tuple[int, int], settings: MistagSettings
) -> Yields:
    """Sums over mass and over the bins [first, last) of pT and |eta|."""
    place = counts.place(*which)
    inside = (slice(*pt), slice(*eta), slice(None))
    is_multijet = np.array([name in settings.multijet for name in counts.categories])

    def of_data(values: FloatArray) -> FloatArray:
        return np.asarray(values[(*place, slice(None), *inside)].sum(axis=(1, 2, 3)))

    def split(values: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Multijets and the others, (2,) each, of (process, tagger, ...)."""
        sums = values[(slice(None), *place)][(..., *inside)].sum(axis=(0, 3, 4, 5))
        return sums[:, is_multijet].sum(axis=1), sums[:, ~is_multijet].sum(axis=1)

    multijet, other = split(counts.nominal)
    multijet_variance, other_variance = split(counts.variance)
    varied = {}
    for source, values in counts.varied.items():
        sides = [split(side) for side in values]
        varied[source] = np.array([side[0] for side in sides]), np.array([side[1] for side in sides])
    return Yields(
        of_data(counts.data), of_data(counts.data_variance), multijet, multijet_variance, other, other_variance, varied
    )


def mistag(yields: Yields, empty: TaggerPoint, cut: float, background: float) -> Estimate:
    """The scale factor of one bin; `empty` says which, `background` is the relative uncertainty of the others."""
    multijet = yields.multijet
    efficiency = float(multijet[PASS] / multijet.sum()) if multijet.sum() > 0 else np.nan
    error = efficiency_error(
        float(multijet[PASS]), float(multijet[FAIL]), *yields.multijet_variance[[PASS, FAIL]].tolist()
    )
    known = {"efficiency": efficiency, "efficiency_error": error}
    status = _status(yields)
    if status != "ok":
        return Estimate(_with(empty, status=status, **known), cut)
    value = _ratio(yields.data, yields.other, multijet)
    subtracted = yields.data - yields.other
    slopes = np.zeros(2)
    slopes[PASS], slopes[FAIL] = subtracted[FAIL], -subtracted[PASS]
    slopes /= subtracted.sum() ** 2 * efficiency
    stat = sqrt(float(slopes**2 @ yields.data_variance))
    template = np.array([value * error / efficiency, sqrt(float(slopes**2 @ yields.other_variance))])
    shifts = _shifts(yields, value, background)
    shifts.append(Shift(TEMPLATE, float(np.hypot(*template)), -float(np.hypot(*template))))
    return Estimate(
        point=_with(empty, value=value, stat=stat, shifts=tuple(shifts), **known),
        cut=cut,
        by_parameter={
            BACKGROUND if each.source == "background" else each.source: 0.5 * (each.up - each.down)
            for each in shifts
            if each.source != TEMPLATE
        },
        template=template,
        of_pass=slopes[[PASS]],
        of_fail=slopes[[FAIL]],
        passing=yields.data_variance[[PASS]],
        failing=yields.data_variance[[FAIL]],
    )


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


def _shifts(yields: Yields, value: float, background: float) -> list[Shift]:
    found = []
    for source, (multijet, other) in yields.varied.items():
        up, down = (_ratio(yields.data, other[side], multijet[side]) - value for side in (0, 1))
        if np.isfinite(up) and np.isfinite(down):
            found.append(Shift(source, up, down))
    if yields.other.any() and background:
        sides = [_ratio(yields.data, (1 + sign * background) * yields.other, yields.multijet) for sign in (1, -1)]
        if np.isfinite(sides).all():
            found.append(Shift("background", sides[0] - value, sides[1] - value))
    return found


def _with(point: TaggerPoint, **changes: object) -> TaggerPoint:
    from dataclasses import replace

    return replace(point, **changes)  # type: ignore[arg-type]
