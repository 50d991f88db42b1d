"""Data with a known answer, made of simulation: efficiencies change by weights, then counts are drawn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import chdtrc

from corrections.tagging.counts import PASS
from processors.errors import InputError
from processors.fileset import read_document

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from corrections.results import Interval
    from corrections.tagging.counts import Counts, FloatArray
    from corrections.tagging.results import TaggerPoint

    BoolArray = NDArray[np.bool_]
    Answer = Mapping[str, Mapping[str, Mapping[str, float | Sequence[float]]]]

FILE = "injected_taggers.json"
# Of edges.
ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class KnownPull:
    """A scale factor that was measured, and the one that was put in."""

    point: TaggerPoint
    known: float

    @property
    def value(self) -> float:
        """(measured - known) / uncertainty."""
        return (self.point.value - self.known) / self.point.total


def with_known_answer(counts: Counts, answer: Answer, rng: np.random.Generator, *, by_eta: bool = False) -> Counts:
    """The counts with data drawn from their simulation after its efficiencies were changed.

    `answer` has scale factors by tagger, working point and category of truth, a number or one for each bin of pT of
    the histogram; what it does not name keeps its efficiency. Jets that pass are multiplied by the scale factor, those
    that fail by (1 - SF eff) / (1 - eff), with the simulated efficiency of the bin of pT; between two working points
    it is (SF_l eff_l - SF_t eff_t) / (eff_l - eff_t), so that a tight cut stays inside a loose one. Each tagger has
    data of its own. With `by_eta` efficiencies are those of bins of |eta| too, as rates that are measured there need;
    without, few jets in such a bin are no harm.

    Raises
    ------
    ValueError
        Where these would leave a negative number of jets.
    """
    data = np.zeros_like(counts.data)
    expected = np.maximum(counts.nominal.sum(axis=0), 0.0)
    for tagger in counts.working_points:
        cells = np.maximum(counts.cells(tagger, expected, simulated=True), 0.0)
        jets = cells.sum(axis=4) if by_eta else cells.sum(axis=(3, 4))[..., None]
        weights = _weights(jets, counts, tagger, answer.get(tagger, {}))
        drawn = rng.poisson((cells * weights[..., None]).sum(axis=1))
        counts.put(tagger, data, drawn, simulated=False)
    return replace(counts, data=data, data_variance=data.copy())


def pulls(
    points: Sequence[TaggerPoint],
    answer: Answer,
    counts: Counts,
    groups: Mapping[str, Sequence[str]] | None = None,
) -> list[KnownPull]:
    """Of the points whose answer is known, that is where one of their categories of truth has one.

    Several bins and several categories are compared with the mean of their values, 1 for a category without one,
    weighted with the simulated jets that pass there, which is what all of these jets together have. `groups` are the
    categories of truth of a category of points; one that is not named is made of itself.
    """
    found = []
    for point in points:
        by_category = answer.get(point.tagger, {}).get(point.working_point, {})
        members = members_of(point, groups)
        if point.is_measured and not by_category.keys().isdisjoint(members):
            inside = within(counts.pt, point.pt)
            values = np.stack([by_pt(by_category.get(name, 1.0), len(inside)) for name in members])[:, inside]
            passing = _passing(counts, point, members)[:, inside]
            weights = passing if passing.sum() > 0 else None
            found.append(KnownPull(point, float(np.average(values, weights=weights))))
    return found


def members_of(point: TaggerPoint, groups: Mapping[str, Sequence[str]] | None) -> Sequence[str]:
    """Categories of truth that a point is of."""
    return (groups or {}).get(point.category, (point.category,))


def chi2(found: Sequence[KnownPull], covariance: FloatArray) -> tuple[float, float]:
    """chi2 of the differences with their covariance (n, n), and the probability of a larger one."""
    differences = np.array([each.point.value - each.known for each in found])
    total = float(differences @ np.linalg.pinv(covariance, hermitian=True) @ differences)
    return total, float(chdtrc(np.linalg.matrix_rank(covariance, hermitian=True), total))


def read_answer(folder: Path) -> Answer:
    """Scale factors by tagger, working point and category from a file beside the histograms; empty without one."""
    path = folder / FILE
    return parse_answer(read_document(path), path) if path.is_file() else {}


def parse_answer(content: object, source: str | Path) -> Answer:
    """What a file says, if it has scale factors by tagger, working point and category of truth.

    Raises
    ------
    InputError
        Where it has not, with `source`, the name of the file.
    """
    by_tagger = _mapping(content, f"{source}: expected scale factors by tagger")
    for tagger, cuts in by_tagger.items():
        for name, by_category in _mapping(cuts, f"{source}: expected working points of {tagger}").items():
            where = f"{source}: expected scale factors by category at {tagger} {name}"
            for category, values in _mapping(by_category, where).items():
                if not _are_factors(values):
                    told = f"expected a number of at least 0, or one for each bin of pT, at {tagger} {name} {category}"
                    raise InputError(f"{source}: {told}, got {values!r}")
    return by_tagger


def _mapping(content: object, expected: str) -> Mapping[str, Any]:
    if not isinstance(content, dict):
        raise InputError(f"{expected}, got {content!r}")
    return content


def _are_factors(values: object) -> bool:
    given: list[Any] = values if isinstance(values, list) else [values]
    are_numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in given)
    return bool(given) and are_numbers and all(isfinite(value) and value >= 0 for value in given)


def within(edges: FloatArray, interval: Interval) -> BoolArray:
    """Which bins lie in an interval, (n_bins,)."""
    return (edges[:-1] >= interval.low - ROUNDING) & (edges[1:] <= interval.high + ROUNDING)


def _passing(counts: Counts, point: TaggerPoint, members: Sequence[str]) -> FloatArray:
    """Simulated jets of each category that pass in the range of |eta| of a point, (n_members, n_pt)."""
    jets = counts.nominal[(slice(None), *counts.place(point.tagger, point.working_point), PASS)].sum(axis=(0, -1))
    own = jets[[counts.categories.index(name) for name in members]]
    return np.asarray(np.maximum(own[..., within(counts.eta, point.eta)].sum(axis=-1), 0.0))


def _weights(jets: FloatArray, counts: Counts, tagger: str, answer: Mapping[str, Mapping[str, object]]) -> FloatArray:
    """Factor on each cell of jets, both (1 + n_points, category, pt, eta)."""
    total = jets.sum(axis=0)
    shares = np.divide(jets, total, out=np.zeros_like(jets), where=total > 0)
    efficiencies = np.cumsum(shares[::-1], axis=0)[::-1]
    factors = np.ones_like(efficiencies)
    for number, name in enumerate(counts.working_points[tagger]):
        for category, values in answer.get(name, {}).items():
            factors[number + 1, counts.categories.index(category)] = by_pt(values, jets.shape[2])[:, None]
    changed = factors * efficiencies
    wanted = changed - np.concatenate([changed[1:], np.zeros_like(changed[:1])])
    weights = np.divide(wanted, shares, out=np.ones_like(shares), where=shares > 0)
    if weights.min() < 0:
        message = f"the scale factors of {tagger} leave a negative number of jets between its working points"
        raise ValueError(message)
    return np.asarray(weights)


def by_pt(values: object, n: int) -> FloatArray:
    """Scale factors of an answer for each of n bins of pT, (n,).

    Raises
    ------
    InputError
        Where they are neither one nor n.
    """
    given = np.atleast_1d(np.asarray(values, np.float64))
    if given.shape not in ((1,), (n,)):
        raise InputError(f"a scale factor must be a number, or one for each of the {n} bins of pT; got {values}")
    return np.asarray(np.broadcast_to(given, (n,)))
