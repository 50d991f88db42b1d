"""Pseudo-experiments: how often quoted uncertainties cover the truth, and the mean and width of the pulls.

`python benchmarks/interval_coverage.py [EXPERIMENTS] [--only NAME]` draws dijets whose truth asymmetry and resolution
are known exactly, measures them as a run does and prints a table. A pull is (measured - true)/quoted uncertainty; a
good uncertainty covers in 68 +- 5 %, with a mean pull within 0.1 of zero and a width of 0.9 to 1.1.

widths          one bin of 60 to 2000 effective events: data with a known template, simulation with its own events
full            8 bins of pT, a reference region and an |eta| bin with standard and forward pairs: single widths, the
                N, S, C curve, the scale factor; analytic errors, bootstrap copies, weighted events
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from corrections.bin_fits import Fitting, fit_bins
from corrections.measurement import measure
from corrections.points import resolution_curve, scale_factor_points
from corrections.resolution import fit_width, median_unbiased, replica_spread, replica_variances
from corrections.results import Measurement
from corrections.sample import Sample
from corrections.settings import MeasurementSettings
from corrections.stacks import data_stack, simulation_stack
from processors import kernels
from processors.binning import SPECTRUM_EDGES, Binning
from processors.histograms import DatasetSums, SparseSums
from processors.selection import CUTFLOW_STEPS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

REFERENCE_BIN, OUTER_BIN = 0, 1
PT = (50.0, 65.0, 85.0, 110.0, 145.0, 190.0, 250.0, 330.0, 430.0)
SQUARES = np.array([[9.0, 0.7, 0.0016], [20.0, 0.9, 0.0036]])
FACTORS = np.array([1.10, 1.20])
# Bins of alpha that are filled, each with its own width of the truth asymmetry.
ALPHAS = {0: 0.7, 2: 1.2}
# Of the logarithm of the weights, where events are weighted.
SPREAD = 0.8
LIMITS = {"coverage": (0.63, 0.73), "mean": (-0.1, 0.1), "width": (0.9, 1.1)}


@dataclass(frozen=True)
class World:
    """What is true: squares (N|N|, S^2, C^2) by |eta| bin, scale factors, and how events weigh."""

    binning: Binning
    squares: FloatArray
    factors: FloatArray
    weighted: bool = False

    def resolution_squared(self, eta: int, pt: FloatArray, factors: FloatArray) -> FloatArray:
        """(sigma/pT)^2."""
        n, s, c = self.squares[eta]
        return np.asarray(factors[eta] ** 2 * (n / pt**2 + s / pt + c))

    def sample(
        self, name: str, events: float, rng: np.random.Generator, factors: FloatArray | None = None, replicas: int = 0
    ) -> Sample:
        """Poisson many dijets, `events` effective ones in each bin of |eta|, region and pT; `factors` widen them."""
        scales = np.ones(len(self.squares)) if factors is None else factors
        cells, variance, imbalance, shift, pt = self._cells(scales)
        dilution = np.exp(SPREAD**2) if self.weighted else 1.0
        number = rng.poisson(dilution * events / len(ALPHAS), len(cells))
        truth = rng.laplace(size=number.sum()) * np.repeat(imbalance, number)
        noise = np.repeat(np.sqrt(variance), number) * rng.normal(size=number.sum())
        reco = truth + noise + np.repeat(shift, number)
        weight = rng.lognormal(0.0, SPREAD, number.sum()) if self.weighted else np.ones(number.sum())
        sums = _sums(
            self.binning, np.repeat(cells, number), (reco, truth), np.repeat(pt, number), weight, rng, replicas
        )
        return Sample(name, sums, self.binning)

    def _cells(self, factors: FloatArray) -> tuple[NDArray[np.int32], FloatArray, FloatArray, FloatArray, FloatArray]:
        shape, edges, rows = self.binning.shape, self.binning.pt_avg_edges, []
        for eta in range(shape[0]):
            for region in (0,) if eta in self.binning.reference_bins else (0, 1):
                for b in range(shape[2]):
                    pt = np.sqrt(edges[b] * edges[b + 1])
                    own = float(self.resolution_squared(eta, pt, factors))
                    other = own if region == 0 else float(self.resolution_squared(REFERENCE_BIN, pt, factors))
                    for alpha, widening in ALPHAS.items():
                        cell = np.ravel_multi_index((eta, region, b, alpha, 1), shape[:5])
                        rows.append((cell, own + other, widening * (0.03 + 2.0 / pt), 0.01 * region, pt))
        cells, *others = map(np.array, zip(*rows, strict=True))
        variance, imbalance, shift, pt = others
        return cells.astype(np.int32), variance, imbalance, shift, pt


def _sums(
    binning: Binning,
    cells: NDArray[np.int32],
    levels: tuple[FloatArray, FloatArray],
    pt: FloatArray,
    weight: FloatArray,
    rng: np.random.Generator,
    replicas: int,
) -> DatasetSums:
    shape, n_total = binning.shape, int(np.prod(binning.shape))
    index = [kernels.bin_index(cells, a, -2.0, 2.0, shape[-1]) for a in levels]
    bins = tuple(kernels.touched_bins(i, n_total) for i in index)
    identity = rng.integers(0, 2**63, len(cells)).astype(np.uint64)
    copies = kernels.fill_replicas((index[0], index[1]), (bins[0], bins[1]), weight, identity, replicas, n_total)
    sparse = [
        SparseSums(b, kernels.fill_sums(i, b, weight, n_total), c) for i, b, c in zip(index, bins, copies, strict=True)
    ]
    coarse = ((cells // (2 * shape[3])) * 2 + 1).astype(np.int32)
    n_cells = shape[0] * shape[1] * shape[2] * shape[4]
    moments = kernels.fill_moments(coarse, weight, pt, levels[0], np.zeros_like(pt), pt, np.ones_like(pt), n_cells)
    spectrum, cutflow = np.zeros((len(SPECTRUM_EDGES) - 1, 2)), np.zeros((len(CUTFLOW_STEPS), 2))
    return DatasetSums(sparse[0], sparse[1], SparseSums.empty(), moments, spectrum, cutflow)


Pulls = dict[str, list[float]]


def widths(experiments: int, rng: np.random.Generator, replicas: int, *, weighted: bool) -> Pulls:
    """Pulls of the width of a single bin, as quoted for points."""
    world = World(Binning(eta=(0.0, 1.3), reference=(0.0, 1.3), pt_avg=(100.0, 120.0)), SQUARES[:1], FACTORS, weighted)
    variance = 2 * float(world.resolution_squared(0, np.sqrt(np.array(12000.0)), np.ones(1)))
    exact = world.sample("simulation", 1_000_000, rng)
    known = simulation_stack(exact, None, MeasurementSettings().core_window)
    filled = known.template_effective > 0
    pulls: Pulls = {}
    for events in (60, 200, 2000):
        for _ in range(experiments):
            drawn = world.sample("data", events, rng, replicas=replicas)
            own = simulation_stack(drawn, None, MeasurementSettings().core_window)
            stacks = {"simulation, its own template": own}
            if not replicas:  # the known template has no copies
                stacks["data, known template"] = data_stack(drawn, exact, known, None)
            for name, stack in stacks.items():
                one = stack.only(filled)
                rough = fit_width(one)
                copies = replica_variances(one, rough) if replicas else np.zeros(0)
                error = float(replica_spread(copies)) if replicas else rough.variance_error
                fit = median_unbiased(one, rough)
                sigma = np.sqrt(fit.variance)
                pulls.setdefault(f"width, {events} events: {name}", []).append(
                    float((sigma - np.sqrt(variance)) / (error / (2 * sigma)))
                )
    return pulls


def full(experiments: int, rng: np.random.Generator, replicas: int, *, weighted: bool, simulated: float = 800) -> Pulls:
    """Pulls of what a run measures, from `simulated` events in each bin and half as many of data."""
    binning = Binning(eta=(0.0, 1.3, 2.5), reference=(0.0, 1.3), pt_avg=PT)
    world = World(binning, SQUARES, FACTORS, weighted)
    settings = MeasurementSettings()
    pulls: Pulls = {}
    for i in range(experiments):
        simulation = world.sample("simulation", simulated, rng, replicas=replicas)
        data = world.sample("data", simulated / 2, rng, FACTORS, replicas)
        if i < experiments / 8:  # single widths are many
            measurement = measure(simulation, data, "AK4PF", settings)
        else:
            measurement = _fitted(simulation, data, settings)
        for name, pull in _pulls(measurement, world):
            pulls.setdefault(name, []).append(pull)
    return pulls


def _fitted(simulation: Sample, data: Sample, settings: MeasurementSettings) -> Measurement:
    """What `measure` gives, without single widths."""
    _, bins = fit_bins(simulation, data, Fitting(settings))
    curves = tuple(resolution_curve(fit, [], "AK4PF") for fit in bins)
    edges = simulation.binning.pt_avg_edges
    factors = tuple(p for fit in bins for p in scale_factor_points(fit, [], "AK4PF", edges))
    return Measurement("AK4PF", factors, curves, (), simulation.n_replicas)


def _pulls(measurement: Measurement, world: World) -> Iterator[tuple[str, float]]:
    where = {edge: i for i, edge in enumerate(world.binning.eta_edges[:-1])}
    for p in measurement.select("jer"):
        truth = world.resolution_squared(
            where[p.eta.low], np.array(p.pt_mean), FACTORS if p.dataset == "data" else np.ones(2)
        )
        if p.is_measured:
            yield f"single resolution, {p.region}, {p.dataset}", float((p.value - np.sqrt(truth)) / p.stat)
    for eta, curve in enumerate(measurement.curves):
        name = ("reference", "outer")[eta]
        errors = np.sqrt(np.diag(curve.covariance))
        for i, letter in enumerate(("N|N|", "S^2", "C^2")):
            if curve.squares[i] != 0:
                yield f"curve {letter}, {name}", float((curve.squares[i] - world.squares[eta, i]) / errors[i])
        for pt in np.array([60.0, 120.0, 350.0]):
            truth = world.resolution_squared(eta, pt, np.ones(2))
            yield f"curve at {pt:g} GeV, {name}", float((curve(pt) - np.sqrt(truth)) / curve.band(pt[None])[0])
    for p in measurement.select("scale_factor"):
        name = ("reference (standard)", "outer (standard and forward)")[where[p.eta.low]]
        if p.is_measured:
            yield f"scale factor, {name}", float((p.value - FACTORS[where[p.eta.low]]) / p.stat)


def rows(pulls: Pulls) -> Iterator[tuple[str, int, float, float, float, bool]]:
    """Name, number of pulls, fraction within one, mean, standard deviation, and whether all are within the limits."""
    for name, values in pulls.items():
        found = np.array(values)
        coverage, mean, width = float(np.mean(np.abs(found) < 1)), float(np.mean(found)), float(np.std(found))
        numbers = zip(LIMITS.values(), (coverage, mean, width), strict=True)
        yield name, len(found), coverage, mean, width, all(low <= x <= high for (low, high), x in numbers)


KINDS = {
    "widths, analytic errors": (widths, 0, False),
    "widths, analytic errors, weighted events": (widths, 0, True),
    "widths, 100 bootstrap copies": (widths, 100, False),
    "full, analytic errors": (full, 0, False),
    "full, 100 bootstrap copies": (full, 100, False),
    "full, analytic errors, weighted events": (full, 0, True),
    "full, 100 bootstrap copies, weighted events": (full, 100, True),
}


def main(words: Iterable[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiments", nargs="?", type=int, default=1000)
    parser.add_argument("--only", default="", help="kinds whose name begins so")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args(list(words) if words is not None else None)
    for number, (kind, (run, replicas, weighted)) in enumerate(KINDS.items()):
        if not kind.startswith(arguments.only):
            continue
        started = time.perf_counter()
        pulls = run(arguments.experiments, np.random.default_rng([arguments.seed, number]), replicas, weighted=weighted)
        print(f"\n{kind} ({time.perf_counter() - started:.0f} s)")
        print(f"{'':58s}{'pulls':>8s}{'covers':>8s}{'mean':>8s}{'width':>8s}")
        for name, n, coverage, mean, width, is_good in rows(pulls):
            print(f"  {name:56s}{n:8d}{coverage:8.3f}{mean:8.3f}{width:8.3f}  {'' if is_good else 'BAD'}", flush=True)


if __name__ == "__main__":
    main()
