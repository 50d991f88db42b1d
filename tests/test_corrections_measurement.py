"""Known resolutions, scale factors and responses must come back from asymmetry distributions made with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest

from corrections.measurement import measure, with_residual
from corrections.sample import Sample, normalisation
from corrections.settings import MeasurementSettings
from processors import kernels
from processors.binning import SPECTRUM_EDGES, Binning
from processors.histograms import MOMENTS, DatasetSums, SparseSums
from processors.selection import CUTFLOW_STEPS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corrections.results import Measurement

BINNING = Binning(
    eta=(0.0, 0.2, 0.7, 1.3, 2.5), reference=(0.2, 0.7), pt_avg=(50, 65, 85, 110, 145, 190, 250, 330, 430, 600)
)
SQUARES = np.array([[9.0, 0.6, 0.0016], [9.0, 0.6, 0.0016], [12.0, 0.7, 0.0025], [16.0, 0.8, 0.0036]])
SCALE_FACTORS = np.array([1.08, 1.12, 1.16, 1.22])
RESPONSES = np.array([1.0, 1.0, 0.985, 1.02])


@dataclass(frozen=True)
class Toy:
    """Dijets by direct simulation: |eta| bins, pT and the asymmetry at both levels."""

    squares: np.ndarray
    factors: np.ndarray
    responses: np.ndarray

    def sample(self, name: str, n: int, seed: int, replicas: int = 0) -> Sample:
        """About `n` events per (|eta|, pT) bin and region."""
        rng = np.random.default_rng(seed)
        cells, reco, truth, pt = (np.concatenate(x) for x in zip(*self._blocks(n, rng), strict=True))
        return Sample(name, sums(cells, reco, truth, pt, rng, replicas), BINNING)

    def resolution(self, eta: int, pt: np.ndarray) -> np.ndarray:
        n, s, c = self.squares[eta]
        return np.asarray(self.factors[eta] * np.sqrt(n / pt**2 + s / pt + c))

    def _blocks(self, n: int, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, ...]]:
        shape = BINNING.shape
        for eta in range(shape[0]):
            for region in (0, 1):
                if region == 1 and eta == 1:
                    continue
                other = eta if region == 0 else 1
                for pt_bin in range(shape[2]):
                    low, high = BINNING.pt_avg_edges[pt_bin : pt_bin + 2]
                    mean = rng.uniform(low, high, n)
                    imbalance = rng.laplace(0, 0.04 + 2.0 / mean, n)
                    probe, reference = mean * (1 + imbalance / 2), mean * (1 - imbalance / 2)
                    swap = rng.random(n) < 0.5 if region == 0 else np.zeros(n, bool)
                    r_probe = self.responses[eta] * (1 + self.resolution(eta, probe) * rng.normal(size=n))
                    r_other = self.responses[other] * (1 + self.resolution(other, reference) * rng.normal(size=n))
                    a = 2 * (probe * r_probe - reference * r_other) / (probe * r_probe + reference * r_other)
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


ONES = np.ones(4)
SIMULATION = Toy(SQUARES, ONES, ONES)
DATA = Toy(SQUARES, SCALE_FACTORS, RESPONSES)
SETTINGS = MeasurementSettings()


@pytest.fixture(scope="module")
def measured() -> Measurement:
    simulation = SIMULATION.sample("simulation", 20_000, 1)
    smeared = Toy(SQUARES, SCALE_FACTORS, ONES).sample("simulation", 20_000, 3)
    data = DATA.sample("data", 8_000, 2)
    measurement = measure(simulation, data, "AK4PF", SETTINGS)
    return with_residual(measurement, data, simulation, smeared, SETTINGS)


def test_scale_factors_put_in_come_back(measured: Measurement) -> None:
    points = measured.select("scale_factor")
    assert [p.status for p in points] == ["ok"] * 4
    for point, truth in zip(points, SCALE_FACTORS, strict=True):
        # 140000 events: errors of a few per mille; 0.4 % allows for what the linear error propagation leaves out
        assert point.stat < 0.01
        assert point.value == pytest.approx(truth, abs=3 * point.stat + 0.004)


def test_resolution_curves_come_back(measured: Measurement) -> None:
    pt = np.array([60.0, 100.0, 200.0, 400.0])
    for eta, curve in enumerate(measured.curves):
        # at 60 GeV the curve is quoted at the mean of a bin over which it is convex: 1 to 2 %
        np.testing.assert_allclose(curve(pt), SIMULATION.resolution(eta, pt), rtol=0.025)
        assert curve.chi2 < curve.ndf + 5 * np.sqrt(2 * curve.ndf)


def test_single_widths_agree_between_template_and_truncated_rms(measured: Measurement) -> None:
    """Everything is Gaussian or Laplacian here; the truncated RMS is a cross-check, good to 10 %."""
    template = measured.select("width", "simulation", "template")
    rms = measured.select("width", "simulation", "truncated_rms")
    ratios = [b.value / a.value for a, b in zip(template, rms, strict=True) if a.is_measured]
    assert len(ratios) == 63
    assert np.abs(np.array(ratios) - 1).max() < 0.12


def test_residual_response_put_in_comes_back(measured: Measurement) -> None:
    points = measured.select("residual")
    assert points[1].value == 1.0
    for point, response in zip(points, RESPONSES, strict=True):
        assert point.value == pytest.approx(1 / response, abs=4 * point.stat + 5e-4)


def test_the_scale_factor_is_not_clipped_at_one() -> None:
    better = Toy(SQUARES, np.full(4, 0.85), ONES)
    points = measure(
        SIMULATION.sample("simulation", 8_000, 4), better.sample("data", 4_000, 5), "AK4PF", SETTINGS
    ).select("scale_factor")
    for point in points:
        assert point.value == pytest.approx(0.85, abs=4 * point.stat)


def test_errors_from_replicas_agree_with_analytic_ones() -> None:
    arguments = [("simulation", 3_000, 6), ("data", 1_500, 7)]
    toys = (SIMULATION, DATA)
    errors = []
    for replicas in (0, 100):
        samples = [toy.sample(*a, replicas) for toy, a in zip(toys, arguments, strict=True)]
        points = measure(samples[0], samples[1], "AK4PF", SETTINGS).select("scale_factor")
        errors.append([p.stat for p in points])
    # a spread from 100 copies is known to 7 %
    np.testing.assert_allclose(errors[1], errors[0], rtol=0.3)


@pytest.mark.slow
def test_pulls_of_the_scale_factor_have_mean_zero_and_width_one() -> None:
    """24 pseudo-experiments of few events per bin, where averages of ratios are biased by several per cent."""
    pulls, ratios = [], []
    for i in range(24):
        samples = (SIMULATION.sample("simulation", 600, 100 + i), DATA.sample("data", 80, 500 + i))
        for point, truth in zip(
            measure(*samples, "AK4PF", SETTINGS).select("scale_factor"), SCALE_FACTORS, strict=True
        ):
            pulls.append((point.value - truth) / point.stat)
            ratios.append(point.value / truth)
    # 96 pulls: the mean is known to 0.1, the width to 0.07; the mean ratio to 0.5 %
    assert abs(np.mean(pulls)) < 0.35
    assert 0.78 < np.std(pulls) < 1.22
    assert abs(np.mean(ratios) - 1) < 0.017


def test_without_data_only_the_simulation_is_measured() -> None:
    measurement = measure(SIMULATION.sample("simulation", 1_000, 8), None, "AK4PF", SETTINGS)
    assert measurement.select("scale_factor") == ()
    assert {p.dataset for p in measurement.points} == {"simulation"}


def test_without_truth_every_width_says_so() -> None:
    sample = SIMULATION.sample("simulation", 1_000, 9)
    blind = Sample(
        "simulation",
        DatasetSums(
            sample.sums.asymmetry,
            SparseSums.empty(),
            SparseSums.empty(),
            sample.sums.moments,
            sample.sums.spectrum,
            sample.sums.cutflow,
        ),
        BINNING,
    )
    measurement = measure(blind, None, "AK4PF", SETTINGS)
    filled = [p for p in measurement.select("width") if p.region == "standard"]
    assert {p.status for p in filled} == {"no_truth"}
    assert {c.status for c in measurement.curves} == {"no_truth"}


def test_slices_are_added_in_proportion_to_cross_section_over_weights() -> None:
    factors = normalisation({"low": 100.0, "high": 1.0}, {"low": 50.0, "high": 10.0})
    # 2 per unit weight against 0.1 per unit weight
    assert factors == {"low": 1.0, "high": pytest.approx(0.05)}
