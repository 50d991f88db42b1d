"""What a chunk of events leaves behind, how it adds up, and the histograms with named axes it becomes.

A chunk keeps only the bins it touched. Chunks add in a fixed pairwise tree over their index, so the sum is the same,
bit for bit, in whatever order and in whichever process they arrive. This page is the contract downstream:

asymmetry, truth_asymmetry
    dataset, eta (|eta| of the probe), region, pt_avg (GeV, reconstructed), alpha (last bin: above the last edge),
    third_jet ("pass": the default third-jet cut), asymmetry. The truth one is the asymmetry of the truth jets matched
    to the reconstructed leading jets, in the bin of the reconstructed event.
response
    dataset, eta, pt_truth (GeV), response: reco/truth of the matched leading jets, default third-jet cut.
moments
    dataset, eta, region, pt_avg, third_jet, moment: sums over events, see `MOMENTS`.
spectrum
    dataset, pt_avg: events of the default selection in fine bins.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import hist
import numpy as np
from numpy.typing import NDArray

from processors.binning import REGIONS, RESPONSE_BINS, RESPONSE_RANGE, SPECTRUM_EDGES, THIRD_JET, Binning
from processors.kernels import unite
from processors.selection import CUTFLOW_STEPS

if TYPE_CHECKING:
    from collections.abc import Mapping

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

MOMENTS = (
    "weight",
    "weight_squared",
    "pt_avg",
    "asymmetry",
    "asymmetry_squared",
    "rho",
    "matched",
    "truth_pt_avg",
)


@dataclass(frozen=True, slots=True)
class SparseSums:
    """Sums in the bins that were touched.

    Attributes
    ----------
    bins
        Flat bin numbers, sorted and distinct, (n,).
    sums
        Sums of weights and of squared weights, (n, 2).
    replicas
        Sums of weights times Poisson(1) for each bootstrap replica, (n, n_replicas); n_replicas may be 0.
    """

    bins: IntArray
    sums: FloatArray
    replicas: NDArray[np.float32]

    @classmethod
    def empty(cls, n_replicas: int = 0) -> SparseSums:
        """Nothing touched."""
        return cls(np.zeros(0, np.int64), np.zeros((0, 2)), np.zeros((0, n_replicas), np.float32))

    def __add__(self, other: SparseSums) -> SparseSums:
        """Sum over the union of bins."""
        if len(other.bins) == 0:
            return self
        if len(self.bins) == 0:
            return other
        bins, here, there = unite(self.bins, other.bins)
        return SparseSums(
            bins,
            _scatter(len(bins), (here, self.sums), (there, other.sums)),
            _scatter(len(bins), (here, self.replicas), (there, other.replicas)),
        )

    def dense(self, shape: tuple[int, ...]) -> FloatArray:
        """Sums of weights and of squared weights on the full grid, (*shape, 2)."""
        grid = np.zeros((int(np.prod(shape)), 2))
        grid[self.bins] = self.sums
        return grid.reshape(*shape, 2)


def _scatter(n: int, *parts: tuple[IntArray, NDArray[Any]]) -> NDArray[Any]:
    total = np.zeros((n, parts[0][1].shape[1]), dtype=parts[0][1].dtype)
    for rows, values in parts:
        total[rows] += values
    return total


@dataclass(frozen=True, slots=True)
class DatasetSums:
    """All sums of one dataset.

    `moments` is (n_cells, n_moments) over (eta, region, pt_avg, third_jet), `spectrum` (n, 2), `cutflow`
    (n_steps, 2) with raw and weighted counts, `excluded` counts what was left out by reason.
    """

    asymmetry: SparseSums
    truth_asymmetry: SparseSums
    response: SparseSums
    moments: FloatArray
    spectrum: FloatArray
    cutflow: FloatArray
    excluded: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: DatasetSums) -> DatasetSums:
        """Sum of everything, reasons of exclusion united."""
        reasons = sorted({*self.excluded, *other.excluded})
        excluded = {reason: self.excluded.get(reason, 0) + other.excluded.get(reason, 0) for reason in reasons}
        sums = {
            name.name: getattr(self, name.name) + getattr(other, name.name)
            for name in fields(self)
            if name.name != "excluded"
        }
        return DatasetSums(**sums, excluded=excluded)


@dataclass(frozen=True, slots=True)
class Filled:
    """Sums by dataset name: what one chunk returns, and what a whole run returns."""

    datasets: Mapping[str, DatasetSums]

    def __add__(self, other: Filled) -> Filled:
        """Sum by dataset."""
        names = [*self.datasets, *(name for name in other.datasets if name not in self.datasets)]
        return Filled({name: _sum_of(self.datasets.get(name), other.datasets.get(name)) for name in names})

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Plain arrays under names that `from_arrays` understands."""
        arrays: dict[str, NDArray[Any]] = {}
        for i, (name, sums) in enumerate(self.datasets.items()):
            arrays[f"{i}/name"] = np.array(name)
            arrays[f"{i}/reasons"] = np.array(list(sums.excluded), dtype=np.str_)
            arrays[f"{i}/excluded"] = np.array(list(sums.excluded.values()), dtype=np.int64)
            for part in ("moments", "spectrum", "cutflow"):
                arrays[f"{i}/{part}"] = getattr(sums, part)
            for part in ("asymmetry", "truth_asymmetry", "response"):
                for column in ("bins", "sums", "replicas"):
                    arrays[f"{i}/{part}/{column}"] = getattr(getattr(sums, part), column)
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Filled:
        """Inverse of `to_arrays`."""
        datasets = {}
        for key in [name for name in arrays if name.endswith("/name")]:
            i = key.split("/")[0]
            parts: dict[str, Any] = {part: arrays[f"{i}/{part}"] for part in ("moments", "spectrum", "cutflow")}
            for part in ("asymmetry", "truth_asymmetry", "response"):
                parts[part] = SparseSums(*(arrays[f"{i}/{part}/{column}"] for column in ("bins", "sums", "replicas")))
            counts = zip(arrays[f"{i}/reasons"].tolist(), arrays[f"{i}/excluded"].tolist(), strict=True)
            datasets[str(arrays[key])] = DatasetSums(**parts, excluded=dict(counts))
        return cls(datasets)


def _sum_of(first: DatasetSums | None, second: DatasetSums | None) -> DatasetSums:
    if first is None or second is None:
        present = first if first is not None else second
        assert present is not None  # noqa: S101 - one of the two names it
        return present
    return first + second


@dataclass(frozen=True, slots=True)
class OrderedSum:
    """A sum over numbered chunks whose value does not depend on the order of addition.

    Chunk i is the leaf (0, i) of a binary tree; the nodes (level, 2k) and (level, 2k + 1) become (level + 1, k) as soon
    as both are there. What is kept is at most about log2(n) nodes when chunks arrive roughly in order.
    """

    nodes: Mapping[tuple[int, int], Filled]

    @classmethod
    def single(cls, index: int, payload: Filled) -> OrderedSum:
        """One chunk, `index` counts chunks in (dataset, file, entry) order."""
        return cls({(0, index): payload})

    def __add__(self, other: OrderedSum) -> OrderedSum:
        """Union of the chunks; a chunk in both is a mistake of the caller."""
        if not isinstance(other, OrderedSum):
            return NotImplemented
        nodes = dict(self.nodes)
        for key, payload in other.nodes.items():
            _insert(nodes, key, payload)
        return OrderedSum(nodes)

    def total(self) -> Filled:
        """Sum of all chunks that are there, folded from the first to the last."""
        ordered = sorted(self.nodes, key=lambda key: key[1] << key[0])
        total = Filled({})
        for key in ordered:
            total = total + self.nodes[key]
        return total


def _insert(nodes: dict[tuple[int, int], Filled], key: tuple[int, int], payload: Filled) -> None:
    if key in nodes:
        message = f"chunk group {key} was added twice"
        raise ValueError(message)
    level, k = key
    sibling = (level, k ^ 1)
    if sibling not in nodes:
        nodes[key] = payload
        return
    other = nodes.pop(sibling)
    pair = other + payload if sibling[1] < k else payload + other
    _insert(nodes, (level + 1, k // 2), pair)


def to_hist(filled: Filled, binning: Binning) -> dict[str, hist.Hist[Any]]:
    """Histograms with named axes by name, as the module says; weights as filled, datasets not yet normalised."""
    names = list(filled.datasets)
    return {
        "asymmetry": _weighted(names, asymmetry_axes(binning), [s.asymmetry for s in filled.datasets.values()]),
        "truth_asymmetry": _weighted(
            names, asymmetry_axes(binning), [s.truth_asymmetry for s in filled.datasets.values()]
        ),
        "response": _weighted(names, response_axes(binning), [s.response for s in filled.datasets.values()]),
        "moments": _moments(names, binning, [s.moments for s in filled.datasets.values()]),
        "spectrum": _spectrum(names, [s.spectrum for s in filled.datasets.values()]),
    }


def asymmetry_axes(binning: Binning) -> tuple[Any, ...]:
    """Axes of the asymmetry histograms after `dataset`; flow only above the last alpha edge."""
    return (
        hist.axis.Variable(binning.eta_edges, name="eta", label=r"$|\eta_{probe}|$", flow=False),
        hist.axis.StrCategory(REGIONS, name="region", label="region", flow=False),
        hist.axis.Variable(binning.pt_avg_edges, name="pt_avg", label=r"$p_T^{avg}$ [GeV]", flow=False),
        hist.axis.Variable(binning.alpha_edges, name="alpha", label=r"$\alpha$", underflow=False),
        hist.axis.StrCategory(THIRD_JET, name="third_jet", label="third-jet cut", flow=False),
        hist.axis.Regular(binning.asymmetry_bins, -2, 2, name="asymmetry", label="A", flow=False),
    )


def response_axes(binning: Binning) -> tuple[Any, ...]:
    """Axes of the response histogram after `dataset`."""
    return (
        hist.axis.Variable(binning.eta_edges, name="eta", label=r"$|\eta|$", flow=False),
        hist.axis.Variable(binning.pt_avg_edges, name="pt_truth", label=r"$p_T^{truth}$ [GeV]", flow=False),
        hist.axis.Regular(RESPONSE_BINS, *RESPONSE_RANGE, name="response", label=r"$p_T/p_T^{truth}$", flow=False),
    )


def _dataset_axis(names: list[str]) -> Any:
    return hist.axis.StrCategory(names, name="dataset", label="dataset", flow=False)


def _weighted(names: list[str], axes: tuple[Any, ...], parts: list[SparseSums]) -> hist.Hist[Any]:
    histogram: hist.Hist[Any] = hist.Hist(_dataset_axis(names), *axes, storage=hist.storage.Weight())
    view: Any = histogram.view(flow=True)
    for i, part in enumerate(parts):
        flat = part.dense(view.shape[1:])
        view.value[i], view.variance[i] = flat[..., 0], flat[..., 1]
    return histogram


def _moments(names: list[str], binning: Binning, parts: list[FloatArray]) -> hist.Hist[Any]:
    eta, region, pt_avg, _, third_jet, _ = asymmetry_axes(binning)
    moment = hist.axis.StrCategory(MOMENTS, name="moment", label="sum over events of", flow=False)
    histogram: hist.Hist[Any] = hist.Hist(
        _dataset_axis(names), eta, region, pt_avg, third_jet, moment, storage=hist.storage.Double()
    )
    view = histogram.view(flow=True)
    for i, part in enumerate(parts):
        view[i] = part.reshape(view.shape[1:])
    return histogram


def _spectrum(names: list[str], parts: list[FloatArray]) -> hist.Hist[Any]:
    axis = hist.axis.Variable(SPECTRUM_EDGES, name="pt_avg", label=r"$p_T^{avg}$ [GeV]", flow=False)
    histogram: hist.Hist[Any] = hist.Hist(_dataset_axis(names), axis, storage=hist.storage.Weight())
    view: Any = histogram.view(flow=True)
    for i, part in enumerate(parts):
        view.value[i], view.variance[i] = part[:, 0], part[:, 1]
    return histogram


def cutflow_rows(filled: Filled) -> list[tuple[str, str, int, float]]:
    """(dataset, step, events, weighted events) for each dataset in step order."""
    return [
        (name, step, round(raw), float(weighted))
        for name, sums in filled.datasets.items()
        for step, (raw, weighted) in zip(CUTFLOW_STEPS, sums.cutflow, strict=True)
    ]
