"""What a chunk of events leaves behind, how it adds up, and the histograms with named axes it becomes.

A chunk keeps only the bins it touched. Chunks add in a fixed pairwise tree over their index, so the sum is the same,
bit for bit, in whatever order and in whichever process they arrive. This page is the contract downstream:

asymmetry, truth_asymmetry
    dataset, eta (|eta| of the probe), region, pt_avg (GeV, reconstructed), alpha (last bin: above the last edge),
    third_jet ("pass": the default third-jet cut), asymmetry. The truth one is the asymmetry of the truth jets matched
    to the reconstructed leading jets, in the bin of the reconstructed event.
response
    dataset, eta, pt_truth (GeV), rho (last bin: above the last edge), response: reco/truth of the matched leading jets,
    default third-jet cut.
matrix
    dataset, eta_probe, eta_reference, pt_avg, alpha, third_jet, moment: sums over all pairs, see `MATRIX_MOMENTS`. The
    probe is the jet in the |eta| bin further out, either of them within one bin.
balance
    dataset, component, level (reco, or truth of the matched jets), eta, region, pt_avg, value: components of the
    transverse momentum of the two leading jets in units of pt_avg at the same level, default third-jet cut, in the bin
    of the reconstructed event. Across the bisector of their azimuths psi = A sin(dphi/2), along it
    eta = 2 cos(dphi/2) with a random sign; both of the same scale as A. mpf is minus the missing transverse momentum
    along the axis of the dijet that points to the probe, which is A where the jets alone are mismeasured, and mpfx is
    minus that across.
asymmetry_by_rho
    dataset, eta, region, pt_avg, rho, asymmetry: default third-jet cut, events of files with rho.
moments
    dataset, eta, region, pt_avg, third_jet, moment: sums over events, see `MOMENTS`.
spectrum
    dataset, pt_avg: events of the default selection in fine bins.
variations, variations_truth
    dataset, variation, eta, region, pt_avg, alpha (in groups that share a template; the last one is the overflow),
    asymmetry: the same two of events that pass the third-jet cut of a systematic variation. Every variation chooses the
    same probe. Only where there are variations.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

import hist
import numpy as np
from numpy.typing import NDArray

from processors.binning import (
    BALANCE,
    BALANCE_BINS,
    LEVELS,
    REGIONS,
    RESPONSE_BINS,
    RESPONSE_RANGE,
    SPECTRUM_EDGES,
    THIRD_JET,
    Binning,
)
from processors.kernels import add_rows, unite
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
    "cos_delta_phi",
)
"""Sums of the weight times these; "cos_delta_phi" is |cos| of the azimuth between the jets."""
MATRIX_MOMENTS = ("weight", "weight_squared", "asymmetry", "asymmetry_squared")
"""Columns of `DatasetSums.matrix.sums`."""


@dataclass(frozen=True, slots=True)
class SparseSums:
    """Sums in the bins that were touched.

    Attributes
    ----------
    bins
        Flat bin numbers, sorted and distinct, (n,).
    sums
        Sums of weights and of squared weights, (n, 2), or whatever columns the owner says.
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
            add_rows(len(bins), here, self.sums, there, other.sums),
            add_rows(len(bins), here, self.replicas, there, other.replicas),
        )

    def dense(self, shape: tuple[int, ...]) -> FloatArray:
        """The columns of `sums` on the full grid, (*shape, n_columns)."""
        grid = np.zeros((int(np.prod(shape)), self.sums.shape[1]))
        grid[self.bins] = self.sums
        return grid.reshape(*shape, -1)


@dataclass(frozen=True, slots=True)
class DatasetSums:
    """All sums of one dataset.

    `moments` is (n_cells, n_moments) over (eta, region, pt_avg, third_jet), `spectrum` (n, 2), `cutflow`
    (n_steps, 2) with raw and weighted counts, `excluded` counts what was left out by reason. `matrix` has the columns
    `MATRIX_MOMENTS`. `rho` (n_rho, 2) is the sum of weights, and of weights times rho, of the events with the default
    third-jet cut in bins of rho. Shapes of the bins are those of `Binning`.
    """

    asymmetry: SparseSums
    truth_asymmetry: SparseSums
    response: SparseSums
    moments: FloatArray
    spectrum: FloatArray
    cutflow: FloatArray
    excluded: Mapping[str, int] = field(default_factory=dict)
    matrix: SparseSums = field(default_factory=SparseSums.empty)
    balance: SparseSums = field(default_factory=SparseSums.empty)
    rho: FloatArray = field(default_factory=lambda: np.zeros((0, 2)))
    asymmetry_by_rho: SparseSums = field(default_factory=SparseSums.empty)

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
class VariedSums:
    """What is kept of one dataset in a systematic variation, as in `DatasetSums`; there are no replicas."""

    asymmetry: SparseSums
    truth_asymmetry: SparseSums
    moments: FloatArray

    def __add__(self, other: VariedSums) -> VariedSums:
        """Sum of everything."""
        return VariedSums(*(getattr(self, part.name) + getattr(other, part.name) for part in fields(self)))


@dataclass(frozen=True, slots=True)
class NamedSums:
    """Sums of one dataset by name, of a processor other than the dijet one; `excluded` as in `DatasetSums`."""

    sums: Mapping[str, SparseSums]
    excluded: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: NamedSums) -> NamedSums:
        """Sum by name, reasons of exclusion united."""
        reasons = sorted({*self.excluded, *other.excluded})
        excluded = {reason: self.excluded.get(reason, 0) + other.excluded.get(reason, 0) for reason in reasons}
        return NamedSums(_joined(self.sums, other.sums), excluded)


@dataclass(frozen=True, slots=True)
class Filled:
    """Sums by dataset name: what one chunk returns, and what a whole run returns.

    `varied` has the name of the variation first, then that of the dataset. `named` are sums of other processors.
    """

    datasets: Mapping[str, DatasetSums]
    varied: Mapping[str, Mapping[str, VariedSums]] = field(default_factory=dict)
    named: Mapping[str, NamedSums] = field(default_factory=dict)

    def __add__(self, other: Filled) -> Filled:
        """Sum by dataset."""
        names = [*self.varied, *(name for name in other.varied if name not in self.varied)]
        varied = {name: _joined(self.varied.get(name, {}), other.varied.get(name, {})) for name in names}
        return Filled(_joined(self.datasets, other.datasets), varied, _joined(self.named, other.named))

    def variation(self, name: str) -> Filled:
        """The sums in one variation: those that it does not keep, and datasets that it leaves alone, are nominal."""
        own = self.varied.get(name, {})
        datasets = {dataset: _varied(sums, own.get(dataset)) for dataset, sums in self.datasets.items()}
        return Filled(datasets)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Plain arrays under names that `from_arrays` understands."""
        arrays: dict[str, NDArray[Any]] = {}
        for i, (name, sums) in enumerate(self.datasets.items()):
            arrays[f"{i}/name"] = np.array(name)
            arrays[f"{i}/reasons"] = np.array(list(sums.excluded), dtype=np.str_)
            arrays[f"{i}/excluded"] = np.array(list(sums.excluded.values()), dtype=np.int64)
            arrays |= _parts_to_arrays(f"{i}", sums)
        for i, (variation, members) in enumerate(self.varied.items()):
            arrays[f"varied/{i}/variation"] = np.array(variation)
            arrays[f"varied/{i}/names"] = np.array(list(members), dtype=np.str_)
            for k, varied in enumerate(members.values()):
                arrays |= _parts_to_arrays(f"varied/{i}/{k}", varied)
        for i, (dataset, named) in enumerate(self.named.items()):
            arrays |= _named_to_arrays(f"named/{i}", dataset, named)
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Filled:
        """Inverse of `to_arrays`."""
        datasets = {}
        for key in [name for name in arrays if name.endswith("/name")]:
            i = key.split("/")[0]
            counts = zip(arrays[f"{i}/reasons"].tolist(), arrays[f"{i}/excluded"].tolist(), strict=True)
            parts = _parts_from_arrays(DatasetSums, i, arrays)
            datasets[str(arrays[key])] = DatasetSums(**parts, excluded=dict(counts))
        varied = {}
        for key in [name for name in arrays if name.endswith("/variation")]:
            place = key.removesuffix("/variation")
            varied[str(arrays[key])] = {
                name: VariedSums(**_parts_from_arrays(VariedSums, f"{place}/{k}", arrays))
                for k, name in enumerate(arrays[f"{place}/names"].tolist())
            }
        titles = [name for name in arrays if name.endswith("/title")]
        named = {str(arrays[title]): _named_from_arrays(title.removesuffix("/title"), arrays) for title in titles}
        return cls(datasets, varied, named)


_SPARSE = ("asymmetry", "truth_asymmetry", "response", "matrix", "balance", "asymmetry_by_rho")
_SPARSE_COLUMNS = ("bins", "sums", "replicas")
Sums = TypeVar("Sums", DatasetSums, VariedSums, NamedSums, SparseSums)


def _parts(kind: type[DatasetSums | VariedSums]) -> list[str]:
    """Names of the sums of a record."""
    return [part.name for part in fields(kind) if part.name != "excluded"]


def _parts_to_arrays(place: str, sums: DatasetSums | VariedSums) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    for part in _parts(type(sums)):
        value = getattr(sums, part)
        if part in _SPARSE:
            arrays |= {f"{place}/{part}/{column}": getattr(value, column) for column in _SPARSE_COLUMNS}
        else:
            arrays[f"{place}/{part}"] = value
    return arrays


def _parts_from_arrays(
    kind: type[DatasetSums | VariedSums], place: str, arrays: Mapping[str, NDArray[Any]]
) -> dict[str, Any]:
    return {
        part: SparseSums(*(arrays[f"{place}/{part}/{column}"] for column in _SPARSE_COLUMNS))
        if part in _SPARSE
        else arrays[f"{place}/{part}"]
        for part in _parts(kind)
    }


def _named_to_arrays(place: str, dataset: str, named: NamedSums) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {
        f"{place}/title": np.array(dataset),
        f"{place}/names": np.array(list(named.sums), dtype=np.str_),
        f"{place}/reasons": np.array(list(named.excluded), dtype=np.str_),
        f"{place}/excluded": np.array(list(named.excluded.values()), dtype=np.int64),
    }
    for k, sums in enumerate(named.sums.values()):
        arrays |= {f"{place}/{k}/{column}": getattr(sums, column) for column in _SPARSE_COLUMNS}
    return arrays


def _named_from_arrays(place: str, arrays: Mapping[str, NDArray[Any]]) -> NamedSums:
    sums = {
        name: SparseSums(*(arrays[f"{place}/{k}/{column}"] for column in _SPARSE_COLUMNS))
        for k, name in enumerate(arrays[f"{place}/names"].tolist())
    }
    counts = zip(arrays[f"{place}/reasons"].tolist(), arrays[f"{place}/excluded"].tolist(), strict=True)
    return NamedSums(sums, dict(counts))


def _joined(first: Mapping[str, Sums], second: Mapping[str, Sums]) -> dict[str, Sums]:
    """Sum by name, over the union of names."""
    joined = dict(first)
    for name, sums in second.items():
        joined[name] = joined[name] + sums if name in joined else sums
    return joined


def _varied(nominal: DatasetSums, own: VariedSums | None) -> DatasetSums:
    if own is None:
        return nominal
    return replace(nominal, asymmetry=own.asymmetry, truth_asymmetry=own.truth_asymmetry, moments=own.moments)


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
    histograms = {
        "asymmetry": _weighted(names, asymmetry_axes(binning), [s.asymmetry for s in filled.datasets.values()]),
        "truth_asymmetry": _weighted(
            names, asymmetry_axes(binning), [s.truth_asymmetry for s in filled.datasets.values()]
        ),
        "response": _weighted(names, response_axes(binning), [s.response for s in filled.datasets.values()]),
        "moments": _moments(names, binning, [s.moments for s in filled.datasets.values()]),
        "spectrum": _spectrum(names, [s.spectrum for s in filled.datasets.values()]),
        "matrix": _matrix(names, binning, [s.matrix for s in filled.datasets.values()]),
        "balance": _weighted(names, balance_axes(binning), [s.balance for s in filled.datasets.values()]),
        "asymmetry_by_rho": _weighted(names, rho_axes(binning), [s.asymmetry_by_rho for s in filled.datasets.values()]),
    }
    if filled.varied:
        histograms["variations"] = _variations(filled, binning, "asymmetry")
        histograms["variations_truth"] = _variations(filled, binning, "truth_asymmetry")
    return histograms


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
        _rho_axis(binning),
        hist.axis.Regular(RESPONSE_BINS, *RESPONSE_RANGE, name="response", label=r"$p_T/p_T^{truth}$", flow=False),
    )


def rho_axes(binning: Binning) -> tuple[Any, ...]:
    """Axes of the histogram of the asymmetry by pile-up after `dataset`."""
    eta, region, pt_avg, _, _, asymmetry = asymmetry_axes(binning)
    return eta, region, pt_avg, _rho_axis(binning), asymmetry


def balance_axes(binning: Binning) -> tuple[Any, ...]:
    """Axes of the histogram of the components of the momentum balance after `dataset`."""
    eta, region, pt_avg, *_ = asymmetry_axes(binning)
    return (
        hist.axis.StrCategory(BALANCE, name="component", label="component", flow=False),
        hist.axis.StrCategory(LEVELS, name="level", label="level", flow=False),
        eta,
        region,
        pt_avg,
        hist.axis.Regular(BALANCE_BINS, -2, 2, name="value", label=r"$p/p_T^{avg}$", flow=False),
    )


def _rho_axis(binning: Binning) -> Any:
    return hist.axis.Variable(binning.rho_edges, name="rho", label=r"$\rho$ [GeV]", underflow=False)


def _dataset_axis(names: list[str]) -> Any:
    return hist.axis.StrCategory(names, name="dataset", label="dataset", flow=False)


def _weighted(names: list[str], axes: tuple[Any, ...], parts: list[SparseSums]) -> hist.Hist[Any]:
    histogram: hist.Hist[Any] = hist.Hist(_dataset_axis(names), *axes, storage=hist.storage.Weight())
    view: Any = histogram.view(flow=True)
    for i, part in enumerate(parts):
        flat = part.dense(view.shape[1:])
        view.value[i], view.variance[i] = flat[..., 0], flat[..., 1]
    return histogram


def _variations(filled: Filled, binning: Binning, level: str) -> hist.Hist[Any]:
    """Asymmetries of all variations with the third-jet cut, in groups of alpha bins."""
    eta, region, pt_avg, _, _, asymmetry = asymmetry_axes(binning)
    lower_edges = [float(binning.alpha_edges[first]) for first, _ in binning.alpha_groups]
    alpha = hist.axis.Variable(lower_edges, name="alpha", label=r"$\alpha$", underflow=False)
    variation = hist.axis.StrCategory(list(filled.varied), name="variation", label="variation", flow=False)
    histogram: hist.Hist[Any] = hist.Hist(
        _dataset_axis(list(filled.datasets)),
        variation,
        eta,
        region,
        pt_avg,
        alpha,
        asymmetry,
        storage=hist.storage.Weight(),
    )
    view: Any = histogram.view(flow=True)
    for i, dataset in enumerate(filled.datasets):
        for k, members in enumerate(filled.varied.values()):
            if dataset in members:
                sums = _grouped(getattr(members[dataset], level), binning)
                view.value[i, k], view.variance[i, k] = sums[..., 0], sums[..., 1]
    return histogram


def _grouped(sums: SparseSums, binning: Binning) -> FloatArray:
    """Sums with the third-jet cut in groups of alpha bins, (n_eta, n_region, n_pt, n_groups, n_asymmetry, 2)."""
    n_eta, n_region, n_pt, n_alpha, n_third, n_a = binning.shape
    group = np.repeat(np.arange(len(binning.alpha_groups)), [last - first for first, last in binning.alpha_groups])
    rest, a = np.divmod(sums.bins, n_a)
    rest, third_jet = np.divmod(rest, n_third)
    cell, alpha = np.divmod(rest, n_alpha)
    place = ((cell * len(binning.alpha_groups) + group[alpha]) * n_a + a)[third_jet == 1]
    shape = (n_eta, n_region, n_pt, len(binning.alpha_groups), n_a)
    grouped = np.zeros((int(np.prod(shape)), 2))
    np.add.at(grouped, place, sums.sums[third_jet == 1])
    return grouped.reshape(*shape, 2)


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


def _matrix(names: list[str], binning: Binning, parts: list[SparseSums]) -> hist.Hist[Any]:
    _, _, pt_avg, alpha, third_jet, _ = asymmetry_axes(binning)
    probe, reference = (
        hist.axis.Variable(binning.eta_edges, name=name, label=label, flow=False)
        for name, label in (("eta_probe", r"$|\eta_{probe}|$"), ("eta_reference", r"$|\eta_{ref}|$"))
    )
    moment = hist.axis.StrCategory(MATRIX_MOMENTS, name="moment", label="sum over events of", flow=False)
    histogram: hist.Hist[Any] = hist.Hist(
        _dataset_axis(names), probe, reference, pt_avg, alpha, third_jet, moment, storage=hist.storage.Double()
    )
    view = histogram.view(flow=True)
    for i, part in enumerate(parts):
        if len(part.bins):
            view[i] = part.dense(binning.matrix_shape)
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
