"""Names and axes of the histograms of the tagging run, which is the contract downstream.

passing
    dataset, variation, tagger, working_point, result ("fail", "pass"), category (truth; "unlabelled" in data), pt
    (GeV), eta (|eta| of the jet), mass (soft drop, GeV; the last bin is overflow). A working point that a tagger does
    not have is empty. A jet without a score fails.
score
    dataset, tagger, category, pt, score; nominal only. A score of 1 is in the last bin, scores below 0 or above 1 are
    in the flow bins.
cutflow
    dataset, step: events weighted as they are used, see `STEPS`.

Weights are as filled; datasets are not normalised. Jets outside of the bins of pt or eta, or below those of mass, are
neither in passing nor in score.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import hist
import numpy as np

from models.tagging.columns import CATEGORIES
from processors.errors import InputError
from processors.histograms import SparseSums

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from processors.histograms import NamedSums
    from processors.record import AnyArray, BoolArray, Float64Array, Int64Array

OUTSIDE_BINNING = "jets outside of binning.pt or binning.eta, or below binning.mass"
UNLABELLED = "unlabelled"
CATEGORY_AXIS = (*CATEGORIES, UNLABELLED)
RESULTS = ("fail", "pass")
STEPS = ("all", "certified", "trigger", "selected")


@dataclass(frozen=True, slots=True)
class TaggingBinning:
    """Edges of the histograms (YAML section `binning`), GeV.

    Jets outside of pt or |eta|, or below the first edge of mass, do not count.
    """

    pt: tuple[float, ...] = (200, 250, 300, 350, 400, 500, 600, 800, 1200, 2000)
    eta: tuple[float, ...] = (0.0, 0.7, 1.3, 2.0)
    mass: tuple[float, ...] = tuple(float(edge) for edge in range(0, 301, 5))
    score_bins: int = 100

    def __post_init__(self) -> None:
        """Refuse edges that do not rise."""
        for name in ("pt", "eta", "mass"):
            edges = getattr(self, name)
            if len(edges) < 2 or not all(low < high for low, high in pairwise(edges)):
                raise InputError(f"binning.{name} needs two edges or more that rise, got {list(edges)}")
        if self.score_bins < 1:
            raise InputError(f"binning.score_bins must be at least 1, got {self.score_bins}")


def passing_axes(
    binning: TaggingBinning, variations: Sequence[str], working_points: Mapping[str, Sequence[str]]
) -> Any:
    """Axes after `dataset`; `working_points` are the names of those of each tagger."""
    names = list(dict.fromkeys(name for each in working_points.values() for name in each)) or ["none"]
    return (
        _categories(variations, "variation"),
        _categories(working_points, "tagger"),
        _categories(names, "working_point", "working point"),
        _categories(RESULTS, "result"),
        _categories(CATEGORY_AXIS, "category"),
        *_jet_axes(binning),
    )


def in_bins(binning: TaggingBinning, columns: Mapping[str, AnyArray]) -> BoolArray:
    """Whether the histograms have a bin for each jet, (n,)."""
    return flat_index(_jet_axes(binning), jet_values(columns)) >= 0


def jet_values(columns: Mapping[str, AnyArray]) -> tuple[AnyArray, AnyArray, AnyArray]:
    """pt, |eta| and soft-drop mass of jets, (n,) each, as they are filled."""
    return columns["pt"], np.abs(columns["eta"]), columns["mass"]


def score_axes(binning: TaggingBinning, taggers: Sequence[str]) -> Any:
    """Axes after `dataset`."""
    return (
        _categories(taggers, "tagger"),
        _categories(CATEGORY_AXIS, "category"),
        _pt_axis(binning),
        hist.axis.Regular(binning.score_bins, 0, 1, name="score", label="score"),
    )


def scores_in_bins(scores: AnyArray) -> Float64Array:
    """Scores as they are filled, (n,): one of exactly 1, the upper edge of the last bin, is moved into that bin."""
    return np.where(scores == 1, np.nextafter(1.0, 0.0), np.asarray(scores, np.float64))


def flat_index(axes: Any, values: Sequence[AnyArray | int]) -> Int64Array:
    """Number of the bin of each entry on the grid of `axes`, flow included, (n,); -1 where an axis has none for it.

    `values` are (n,) or scalars, places for axes of categories.
    """
    shape = [int(axis.extent) for axis in axes]
    places = []
    for axis, given in zip(axes, values, strict=True):
        place = np.asarray(given) if isinstance(axis, hist.axis.StrCategory) else axis.index(np.asarray(given))
        place = place + int(axis.traits.underflow)
        places.append(np.where((place >= 0) & (place < axis.extent), place, -1))
    broadcast = np.broadcast_arrays(*places)
    is_there = np.logical_and.reduce([place >= 0 for place in broadcast])
    index = np.full(broadcast[0].shape, -1, np.int64)
    index[is_there] = np.ravel_multi_index([place[is_there] for place in broadcast], shape)
    return index


def sums_of(index: Int64Array, weight: Float64Array) -> SparseSums:
    """Sums of weights in the bins that are touched, in the order of the entries; those with index -1 are left out."""
    bins, slot = np.unique(index[index >= 0], return_inverse=True)
    used = weight[index >= 0]
    columns = [np.bincount(slot, values, len(bins)) for values in (used, used * used)]
    sums = np.column_stack(columns).astype(np.float64)
    return SparseSums(bins.astype(np.int64), sums, np.zeros((len(bins), 0), np.float32))


def to_hist(named: Mapping[str, NamedSums], axes: Mapping[str, Any]) -> dict[str, hist.Hist[Any]]:
    """Histograms by name, of the sums of all datasets; `axes` as the entries were filled, by name of the histogram."""
    histograms = {}
    for name, own in axes.items():
        dataset = _categories(list(named), "dataset")
        histogram: hist.Hist[Any] = hist.Hist(dataset, *own, storage=hist.storage.Weight())
        view: Any = histogram.view(flow=True)
        for place, sums in enumerate(named.values()):
            if name in sums.sums:
                flat = sums.sums[name].dense(view.shape[1:])
                view.value[place], view.variance[place] = flat[..., 0], flat[..., 1]
        histograms[name] = histogram
    return histograms


def step_axes() -> Any:
    """Axes of the cutflow after `dataset`."""
    return (_categories(STEPS, "step"),)


def _categories(names: Any, name: str, label: str = "") -> Any:
    return hist.axis.StrCategory(list(names), name=name, label=label or name, flow=False)


def _jet_axes(binning: TaggingBinning) -> Any:
    return (
        _pt_axis(binning),
        hist.axis.Variable(binning.eta, name="eta", label=r"$|\eta|$", flow=False),
        hist.axis.Variable(binning.mass, name="mass", label=r"$m_{SD}$ [GeV]", underflow=False),
    )


def _pt_axis(binning: TaggingBinning) -> Any:
    return hist.axis.Variable(binning.pt, name="pt", label=r"$p_T$ [GeV]", flow=False)
