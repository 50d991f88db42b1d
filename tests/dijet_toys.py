"""Dijets of known resolution, scale factor and response for tests of the measurement.

`Toy` draws asymmetries directly, the same number in every bin, so that a test knows its statistics. `Events` draws jets
on a falling spectrum with soft radiation and fills them as a run does: every histogram there is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from corrections.comparison import Comparison
from corrections.sample import Sample, join
from processors import kernels
from processors.binning import SPECTRUM_EDGES, Binning
from processors.dijet import DijetSettings, fill_record
from processors.fileset import Dataset
from processors.histograms import MOMENTS, DatasetSums, SparseSums
from processors.record import Columns, EventRecord, Jets, event_identity, order_jets
from processors.selection import CUTFLOW_STEPS
from samples.response import DetectorSettings, reconstruct
from samples.toy import ToySettings, toy_events

if TYPE_CHECKING:
    from collections.abc import Iterator

    from processors.histograms import Filled
    from samples.response import RecoEvents
    from samples.truth import TruthEvents

BINNING = Binning(
    eta=(0.0, 0.2, 0.7, 1.3, 2.5), reference=(0.2, 0.7), pt_avg=(50, 65, 85, 110, 145, 190, 250, 330, 430, 600)
)
SQUARES = np.array([[9.0, 0.6, 0.0016], [9.0, 0.6, 0.0016], [12.0, 0.7, 0.0025], [16.0, 0.8, 0.0036]])
ONES = np.ones(4)


@dataclass(frozen=True)
class Toy:
    """Dijets by direct simulation: |eta| bins, pT and the asymmetry at both levels.

    The resolution is the scale factor times (pT/150 GeV)^slope times sqrt(N|N|/pT^2 + S^2 pT^power + C^2); `imbalance`
    stretches the truth asymmetry. With `is_linear` all events of a bin have the same pT and A is linear in what the
    detector does, as the likelihood has it; responses are then those of simulation.
    """

    squares: np.ndarray = field(default_factory=SQUARES.copy)
    factors: np.ndarray = field(default_factory=ONES.copy)
    responses: np.ndarray = field(default_factory=ONES.copy)
    slope: float = 0.0
    power: float = -1.0
    imbalance: float = 1.0
    is_linear: bool = False

    def sample(self, name: str, n: int, seed: int, replicas: int = 0, scale: float = 1.0) -> Sample:
        """About `n` events per (|eta|, pT) bin and region; `scale` multiplies every measured asymmetry."""
        rng = np.random.default_rng(seed)
        cells, reco, truth, pt = (np.concatenate(x) for x in zip(*self._blocks(n, rng), strict=True))
        return Sample(name, sums(cells, scale * reco, truth, pt, rng, replicas), BINNING)

    def resolution(self, eta: int, pt: np.ndarray) -> np.ndarray:
        n, s, c = self.squares[eta]
        factor = self.factors[eta] * (pt / 150) ** self.slope
        return np.asarray(factor * np.sqrt(n / pt**2 + s * pt**self.power + c))

    def _blocks(self, n: int, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, ...]]:
        shape = BINNING.shape
        for eta in range(shape[0]):
            for region in (0, 1):
                if region == 1 and eta == 1:
                    continue
                other = eta if region == 0 else 1
                for pt_bin in range(shape[2]):
                    low, high = BINNING.pt_avg_edges[pt_bin : pt_bin + 2]
                    mean = np.full(n, np.sqrt(low * high)) if self.is_linear else rng.uniform(low, high, n)
                    imbalance = self.imbalance * rng.laplace(0, 0.04 + 2.0 / mean, n)
                    probe, reference = mean * (1 + imbalance / 2), mean * (1 - imbalance / 2)
                    swap = rng.random(n) < 0.5 if region == 0 else np.zeros(n, bool)
                    r_probe = self.responses[eta] * (1 + self.resolution(eta, probe) * rng.normal(size=n))
                    r_other = self.responses[other] * (1 + self.resolution(other, reference) * rng.normal(size=n))
                    a = 2 * (probe * r_probe - reference * r_other) / (probe * r_probe + reference * r_other)
                    if self.is_linear:
                        sigma = np.hypot(self.resolution(eta, mean), self.resolution(other, mean))
                        a = imbalance + sigma * rng.normal(size=n)
                    sign = np.where(swap, -1, 1)
                    # alpha 0, third-jet cut passed
                    cell = np.ravel_multi_index((eta, region, pt_bin, 0, 1), shape[:5])
                    yield np.full(n, cell, np.int32), sign * a, sign * imbalance, mean


def sums(
    cells: np.ndarray, reco: np.ndarray, truth: np.ndarray, pt: np.ndarray, rng: np.random.Generator, replicas: int
) -> DatasetSums:
    shape, n_total = BINNING.shape, int(np.prod(BINNING.shape))
    index = [kernels.bin_index(cells, a, -2.0, 2.0, shape[-1]) for a in (reco, truth)]
    bins = tuple(kernels.touched_bins(i, n_total) for i in index)
    weight = np.ones(len(cells))
    identity = rng.integers(0, 2**63, len(cells)).astype(np.uint64)
    copies = kernels.fill_replicas((index[0], index[1]), (bins[0], bins[1]), weight, identity, replicas, n_total)
    sparse = [
        SparseSums(b, kernels.fill_sums(i, b, weight, n_total), c) for i, b, c in zip(index, bins, copies, strict=True)
    ]
    coarse = ((cells // (2 * shape[3])) * 2 + 1).astype(np.int32)
    n_cells = shape[0] * shape[1] * shape[2] * shape[4]
    moments = kernels.fill_moments(coarse, weight, pt, reco, np.zeros_like(pt), pt, np.ones_like(pt), n_cells)
    assert moments.shape[1] == len(MOMENTS)
    return DatasetSums(
        sparse[0],
        sparse[1],
        SparseSums.empty(),
        moments,
        np.zeros((len(SPECTRUM_EDGES) - 1, 2)),
        np.zeros((len(CUTFLOW_STEPS), 2)),
    )


@dataclass(frozen=True)
class Events:
    """Particle-level dijets through a Gaussian detector of known resolution `squares`, filled by the main job."""

    squares: np.ndarray = field(default_factory=SQUARES.copy)
    factors: np.ndarray = field(default_factory=ONES.copy)
    responses: np.ndarray = field(default_factory=ONES.copy)
    has_met: bool = False
    has_truth: bool = True

    def resolution(self, eta: int, pt: np.ndarray) -> np.ndarray:
        n, s, c = self.squares[eta]
        return np.asarray(self.factors[eta] * np.sqrt(n / pt**2 + s / pt + c))

    def filled(self, dataset: Dataset, n: int, seed: int, settings: DijetSettings) -> Filled:
        return fill_record(self._record(dataset, n, seed), dataset, settings)

    def sample(self, name: str, n: int, seed: int, settings: DijetSettings) -> Sample:
        dataset = Dataset(name, (), is_mc=name != "data")
        return join(name, [(self.filled(dataset, n, seed, settings).datasets[name], 1.0)], settings.binning)

    def _record(self, dataset: Dataset, n: int, seed: int) -> EventRecord:
        rng = np.random.default_rng(seed)
        # a mild spectrum keeps the weights within a bin of pt_avg alike
        truth = toy_events(n, rng, ToySettings(pt_range=(25.0, 900.0), spectrum_power=3.0))
        pt = truth.pt.astype(np.float64)
        eta_bin = np.clip(np.digitize(np.abs(truth.eta), BINNING.eta_edges) - 1, 0, len(self.squares) - 1)
        squares = self.squares[eta_bin]
        sigma = self.factors[eta_bin] * np.sqrt(squares[:, 0] / pt**2 + squares[:, 1] / pt + squares[:, 2])
        reco = pt * self.responses[eta_bin] * np.maximum(1 + sigma * rng.normal(size=len(pt)), 0.05)
        met = None
        if self.has_met:
            events = np.repeat(np.arange(n), np.diff(truth.offsets))
            lost = pt - reco
            met = (
                np.bincount(events, lost * np.cos(truth.phi), n).astype(np.float64),
                np.bincount(events, lost * np.sin(truth.phi), n).astype(np.float64),
            )
        run, event = np.ones(n, np.int64), np.arange(n, dtype=np.uint64)

        def jets(values: np.ndarray) -> Jets:
            pt, eta, phi, mass = (np.asarray(c, np.float32) for c in (values, truth.eta, truth.phi, truth.mass))
            return order_jets(Columns(np.asarray(truth.offsets, np.int64), pt, eta, phi, mass)).jets

        return EventRecord(
            dataset=dataset.name,
            is_mc=dataset.is_mc,
            file="toy.root",
            entry_start=0,
            run=run,
            luminosity_block=run,
            event=event,
            has_event_id=True,
            identity=event_identity(f"{dataset.name} {seed}", run, run, event),
            weight=truth.weight.astype(np.float64),
            rho=None,
            npv=None,
            true_interactions=None,
            jets=jets(reco),
            truth=jets(pt) if dataset.is_mc and self.has_truth else None,
            met=met,
        )


def compared(simulation: Sample | None, data: Sample | None, *alternatives: Sample) -> Comparison:
    return Comparison("AK4PF", simulation, data, alternatives)


def toy_record(n: int, seed: int) -> EventRecord:
    """Toy events of simulation as a chunk is read, through the parametric detector."""
    rng = np.random.default_rng(seed)
    truth = toy_events(n, rng)
    reco = reconstruct(truth, DetectorSettings(), rng, is_data=False)
    run, event = np.ones(n, np.int64), np.arange(n, dtype=np.uint64)
    return EventRecord(
        dataset="simulation",
        is_mc=True,
        file="toy.root",
        entry_start=0,
        run=run,
        luminosity_block=run,
        event=event,
        has_event_id=True,
        identity=event_identity("simulation", run, run, event),
        weight=truth.weight.astype(np.float64),
        rho=reco.rho.astype(np.float32),
        npv=None,
        true_interactions=None,
        jets=toy_jets(reco, {"jet_id": reco.jet_id.astype(np.int32)}),
        truth=toy_jets(truth),
    )


def toy_jets(source: RecoEvents | TruthEvents, extra: dict[str, np.ndarray] | None = None) -> Jets:
    """Jets of the generator as the reader makes them."""
    pt, eta, phi, mass = (np.asarray(getattr(source, name), np.float32) for name in ("pt", "eta", "phi", "mass"))
    return order_jets(Columns(np.asarray(source.offsets, np.int64), pt, eta, phi, mass, extra or {})).jets
