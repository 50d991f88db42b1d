"""Datasets joined to the samples that are compared; their asymmetry distributions with the default third-jet cut."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from processors.binning import BALANCE, LEVELS, Binning
from processors.histograms import MATRIX_MOMENTS, MOMENTS, DatasetSums, SparseSums

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Spectra:
    """Distributions of A in bins of pt_avg, third-jet cut applied.

    `counts`, `variances` (n_pt, n_A): sums of weights and of squared weights; `replicas` (n_replicas, n_pt, n_A).
    """

    counts: FloatArray
    variances: FloatArray
    replicas: FloatArray

    def __add__(self, other: Spectra) -> Spectra:
        """Sum bin by bin."""
        return Spectra(self.counts + other.counts, self.variances + other.variances, self.replicas + other.replicas)

    @property
    def effective(self) -> FloatArray:
        """Effective number of events (sum w)^2 / sum w^2 per bin of pt_avg, (n_pt,); 0 where empty."""
        return np.asarray(effective_count(self.counts.sum(axis=-1), self.variances.sum(axis=-1)))


@dataclass(frozen=True, slots=True)
class Sample:
    """One side of the comparison: all data, or all nominal simulation, normalised.

    Attributes
    ----------
    name
        "data", "simulation" or the name of an alternative simulation.
    sums
        Sums of all its datasets, each weighted by its normalisation.
    """

    name: str
    sums: DatasetSums
    binning: Binning

    @property
    def has_truth(self) -> bool:
        """Whether any leading pair was matched to truth jets."""
        return len(self.sums.truth_asymmetry.bins) > 0

    @property
    def n_replicas(self) -> int:
        """Bootstrap replicas of the asymmetry sums."""
        return int(self.sums.asymmetry.replicas.shape[1])

    def without_replicas(self) -> Sample:
        """The same sums without bootstrap copies, for what needs no uncertainty."""
        asymmetry, truth = self.sums.asymmetry, self.sums.truth_asymmetry
        sums = replace(
            self.sums,
            asymmetry=replace(asymmetry, replicas=asymmetry.replicas[:, :0]),
            truth_asymmetry=replace(truth, replicas=truth.replicas[:, :0]),
        )
        return replace(self, sums=sums)

    def spectra(self, eta: int, region: int, alphas: tuple[int, int] | None = None) -> Spectra:
        """Measured asymmetries of one |eta| bin and region (0 standard, 1 forward), of alpha bins [first, last)."""
        return _slice(self.sums.asymmetry, self.binning, eta, region, alphas)

    def truth_spectra(self, eta: int, region: int, alphas: tuple[int, int] | None = None) -> Spectra:
        """Asymmetries of the matched truth jets of the same events."""
        return _slice(self.sums.truth_asymmetry, self.binning, eta, region, alphas)

    def alpha_spectra(self, eta: int | None, region: int, n_alphas: int, *, truth: bool = False) -> Spectra:
        """Asymmetries in the first `n_alphas` exclusive bins of alpha, (n_pt, n_alphas, n_A), whatever the third jet.

        Those of one |eta| bin and region, or of the events with both jets in the reference region (`eta` None).
        """
        sums = self.sums.truth_asymmetry if truth else self.sums.asymmetry
        pairs = [(eta, region)] if eta is not None else self._reference_pairs()
        return _sum([_slice_alphas(sums, self.binning, *pair, n_alphas) for pair in pairs])

    def _reference_pairs(self) -> list[tuple[int, int]]:
        return [(eta, region) for eta in self.binning.reference_bins for region in (0, 1)]

    def reference_spectra(self, alphas: tuple[int, int] | None = None) -> tuple[Spectra, Spectra]:
        """Measured and truth asymmetries of the events with both jets in the reference region."""
        pairs = self._reference_pairs()
        return _sum([self.spectra(*p, alphas) for p in pairs]), _sum([self.truth_spectra(*p, alphas) for p in pairs])

    def moments(self) -> dict[str, FloatArray]:
        """Sums over events with the third-jet cut by name, (n_eta, n_region, n_pt) each."""
        n_eta, n_region, n_pt, _, n_third, _ = self.binning.shape
        grid = self.sums.moments.reshape(n_eta, n_region, n_pt, n_third, len(MOMENTS))[:, :, :, 1]
        return {name: grid[..., i] for i, name in enumerate(MOMENTS)}

    def jets_by_eta(self) -> FloatArray:
        """Jets of events with the third-jet cut in each |eta| bin, in effective numbers, (n_eta,)."""
        moments = self.moments()
        weight, squared = (moments[name].sum(axis=-1) for name in ("weight", "weight_squared"))
        return np.asarray(effective_count(weight, squared) @ np.array([2.0, 1.0]))

    def responses(self) -> tuple[FloatArray, FloatArray]:
        """Sums of weights and of squared weights of reco/truth, (n_eta, n_pt_truth, n_response) each."""
        counts, variances = self.responses_by_rho()
        return counts.sum(axis=2), variances.sum(axis=2)

    def responses_by_rho(self) -> tuple[FloatArray, FloatArray]:
        """The same in bins of rho, (n_eta, n_pt_truth, n_rho, n_response) each."""
        dense = self.sums.response.dense(self.binning.response_shape)
        return dense[..., 0], dense[..., 1]

    def spectra_by_rho(self, eta: int, region: int) -> Spectra:
        """Asymmetries in bins of rho, (n_pt, n_rho, n_A), without replicas; empty where the files have no rho."""
        shape = self.binning.rho_shape
        dense = _block(self.sums.asymmetry_by_rho, eta * shape[1] + region, shape[2:])
        return Spectra(dense[..., 0], dense[..., 1], np.zeros((0, *shape[2:])))

    def mean_rho(self) -> FloatArray:
        """Mean rho of the events with the third-jet cut in each bin of rho, (n_rho,), nan where there is none."""
        weight, weighted = np.zeros((len(self.binning.rho), 2)).T if len(self.sums.rho) == 0 else self.sums.rho.T
        mean: FloatArray = np.divide(weighted, weight, out=np.full(len(weight), np.nan), where=weight > 0)
        return mean

    def matrix(self) -> dict[str, FloatArray]:
        """Sums over all pairs by the names `MATRIX_MOMENTS`, (n_eta, n_eta, n_pt, n_alpha, n_third_jet) each.

        The first |eta| bin is that of the probe and not below the second one; below the diagonal alone is filled.
        """
        if len(self.sums.matrix.bins) == 0:
            return {name: np.zeros(self.binning.matrix_shape) for name in MATRIX_MOMENTS}
        dense = self.sums.matrix.dense(self.binning.matrix_shape)
        return {name: dense[..., i] for i, name in enumerate(MATRIX_MOMENTS)}

    def balance(self, component: str, level: str, eta: int, region: int) -> Spectra:
        """Distributions of a component (`BALANCE`) at a level (`LEVELS`) in bins of pt_avg, without replicas."""
        _, n_level, n_eta, n_region, n_pt, n_value = self.binning.balance_shape
        outer = BALANCE.index(component) * n_level + LEVELS.index(level)
        dense = _block(self.sums.balance, (outer * n_eta + eta) * n_region + region, (n_pt, n_value))
        return Spectra(dense[..., 0], dense[..., 1], np.zeros((0, n_pt, n_value)))


def join(name: str, parts: Sequence[tuple[DatasetSums, float]], binning: Binning) -> Sample:
    """Sum of datasets, each multiplied by its normalisation."""
    scaled = [_scaled(sums, factor) for sums, factor in parts]
    total = scaled[0]
    for sums in scaled[1:]:
        total = total + sums
    return Sample(name, total, binning)


def normalisation(xsec: Mapping[str, float | None], sum_of_weights: Mapping[str, float]) -> dict[str, float]:
    """Factor of each simulation slice: xsec / sum of weights, relative to the first, so that one slice alone gets 1.

    `xsec` in pb; None for all of them leaves the weights as they are. Only ratios matter for what is measured here. A
    slice whose weights do not add up to a positive sum gets 0.
    """
    if any(value is None for value in xsec.values()):
        return dict.fromkeys(xsec, 1.0)
    factors = {
        name: float(value or 0.0) / sum_of_weights[name] if sum_of_weights[name] > 0 else 0.0
        for name, value in xsec.items()
    }
    first = next((factor for factor in factors.values() if factor > 0), 1.0)
    return {name: factor / first for name, factor in factors.items()}


def effective_count(total: Any, variance: Any) -> Any:
    """(sum w)^2 / sum w^2, 0 where there is nothing or negative weights win."""
    usable = (variance > 0) & (np.asarray(total) > 0)
    return np.divide(np.square(total), variance, out=np.zeros_like(total), where=usable)


def _scaled(sums: DatasetSums, factor: float) -> DatasetSums:
    if factor == 1.0:
        return sums
    powers = np.array([factor, factor**2])
    moments = sums.moments * factor
    moments[:, MOMENTS.index("weight_squared")] *= factor
    return replace(
        sums,
        asymmetry=_scaled_sparse(sums.asymmetry, factor),
        truth_asymmetry=_scaled_sparse(sums.truth_asymmetry, factor),
        response=_scaled_sparse(sums.response, factor),
        moments=moments,
        spectrum=sums.spectrum * powers,
        matrix=replace(sums.matrix, sums=sums.matrix.sums * np.array([factor, factor**2, factor, factor]))
        if len(sums.matrix.bins)
        else sums.matrix,
        balance=_scaled_sparse(sums.balance, factor),
        asymmetry_by_rho=_scaled_sparse(sums.asymmetry_by_rho, factor),
        rho=sums.rho * factor,
    )


def _scaled_sparse(sums: SparseSums, factor: float) -> SparseSums:
    return SparseSums(sums.bins, sums.sums * np.array([factor, factor**2]), sums.replicas * np.float32(factor))


def _block(sums: SparseSums, outer: int, shape: tuple[int, ...]) -> FloatArray:
    """Sums of weights and of squared weights of block number `outer` of a grid of blocks of `shape`, (*shape, 2)."""
    size = int(np.prod(shape))
    rows = slice(*np.searchsorted(sums.bins, [outer * size, (outer + 1) * size]))
    dense = np.zeros((size, 2))
    dense[sums.bins[rows] - outer * size] = sums.sums[rows]
    return dense.reshape(*shape, 2)


def _slice(sums: SparseSums, binning: Binning, eta: int, region: int, alphas: tuple[int, int] | None) -> Spectra:
    _, n_region, n_pt, n_alpha, n_third, n_a = binning.shape
    block = n_pt * n_alpha * n_third * n_a
    start = (eta * n_region + region) * block
    rows = slice(*np.searchsorted(sums.bins, [start, start + block]))
    inside = sums.bins[rows] - start
    first, last = alphas or (0, n_alpha)
    alpha = (inside // (n_third * n_a)) % n_alpha
    passes = ((inside // n_a) % n_third == 1) & (alpha >= first) & (alpha < last)
    pt, a = inside // (n_alpha * n_third * n_a), inside % n_a
    return _gathered(sums, rows, passes, pt * n_a + a, (n_pt, n_a))


def _slice_alphas(sums: SparseSums, binning: Binning, eta: int, region: int, n_alphas: int) -> Spectra:
    """Distributions in exclusive bins of alpha below number `n_alphas`, (n_pt, n_alphas, n_A), any third jet."""
    _, n_region, n_pt, n_alpha, n_third, n_a = binning.shape
    block = n_pt * n_alpha * n_third * n_a
    start = (eta * n_region + region) * block
    rows = slice(*np.searchsorted(sums.bins, [start, start + block]))
    inside = sums.bins[rows] - start
    alpha = (inside // (n_third * n_a)) % n_alpha
    pt, a = inside // (n_alpha * n_third * n_a), inside % n_a
    return _gathered(sums, rows, alpha < n_alphas, (pt * n_alphas + alpha) * n_a + a, (n_pt, n_alphas, n_a))


def _gathered(
    sums: SparseSums, rows: slice, chosen: NDArray[np.bool_], target: NDArray[np.int64], shape: tuple[int, ...]
) -> Spectra:
    """The `chosen` ones of `rows` added up in the flat bins `target` of an array of this shape."""
    places = target[chosen]
    order = np.argsort(places, kind="stable")
    bins, starts = np.unique(places[order], return_index=True)
    size = int(np.prod(shape))

    def gather(values: NDArray[Any]) -> FloatArray:
        result = np.zeros((size, values.shape[1]))
        if len(bins) and values.shape[1]:
            result[bins] = np.add.reduceat(values[rows][chosen][order].astype(np.float64), starts, axis=0)
        return result

    flat, replicas = gather(sums.sums), gather(sums.replicas)
    return Spectra(
        flat[:, 0].reshape(shape), flat[:, 1].reshape(shape), np.ascontiguousarray(replicas.T).reshape(-1, *shape)
    )


def _sum(parts: Sequence[Spectra]) -> Spectra:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total
