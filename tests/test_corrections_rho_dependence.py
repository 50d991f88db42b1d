from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from corrections import passes
from corrections.rho_dependence import noise_knowledge
from corrections.settings import MeasurementSettings
from processors.binning import Binning
from processors.dijet import DijetSettings
from processors.execution import Execution
from processors.fileset import load_fileset
from processors.filling import fill, look
from processors.variations import Systematics
from samples.response import DetectorSettings
from samples.toy import write_toy

if TYPE_CHECKING:
    from corrections.comparison import Comparison
    from corrections.results import Measurement

ETA = (0.0, 1.3, 2.5)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> tuple[Comparison, ...]:
    folder = tmp_path_factory.mktemp("toy")
    sample = write_toy(folder / "sample", 60_000, seed=9)
    settings = DijetSettings(Binning(eta=ETA, reference=(0.0, 1.3)), replicas=0, systematics=Systematics(enabled=False))
    job = look(load_fileset(sample.folder / "fileset.json"), settings)
    chunks = folder / "chunks"
    chunks.mkdir()
    filled = fill(job, settings, Execution(executor="iterative"), chunks).output
    factors = passes.normalisations(filled, job.datasets, {})
    return passes.compare(filled, job.datasets, settings.binning, factors)


@pytest.fixture(scope="module")
def measured(samples: tuple[Comparison, ...]) -> Measurement:
    return passes.measure_all(samples, MeasurementSettings(), 1)[0]


def test_the_noise_grows_with_rho_as_was_put_in(measured: Measurement) -> None:
    slopes = {p.eta.low: p for p in measured.select("rho_slope", method="truth_response")}
    detector = DetectorSettings()
    # N_rho^2 is the slope of N^2; it differs between the bins of the detector, whose range is wide here
    put_in = {0.0: detector.noise_rho[:4], 1.3: detector.noise_rho[4:6]}
    for low, values in put_in.items():
        point, squares = slopes[low], np.square(values)
        assert point.status == "ok"
        assert point.stat < 0.5
        assert squares.min() - 3 * point.stat < point.value < squares.max() + 3 * point.stat


def test_the_slope_of_the_asymmetry_agrees_with_that_of_reco_over_truth(measured: Measurement) -> None:
    truth = {p.eta: p for p in measured.select("rho_slope", method="truth_response")}
    own = measured.select("rho_slope", method="asymmetry")
    assert {p.dataset for p in own} == {"simulation", "data"}
    for p in own:
        assert p.status == "ok"
        # the events are partly the same; data are wider by the square of the scale factor
        assert abs(p.value - truth[p.eta].value) < 3.5 * np.hypot(p.stat, truth[p.eta].stat)


def test_curves_take_only_slopes_that_stand_out(measured: Measurement) -> None:
    slopes = {p.eta: p for p in measured.select("rho_slope", method="truth_response")}
    for curve in measured.curves:
        is_clear = slopes[curve.eta].value > 2 * slopes[curve.eta].stat
        assert (curve.rho is not None) == is_clear


def test_the_noise_put_in_is_known_better_with_reco_over_truth(
    samples: tuple[Comparison, ...], measured: Measurement
) -> None:
    free, known = measured, passes.measure_all(samples, MeasurementSettings(noise="rho"), 1)[0]
    detector = DetectorSettings()
    rho = detector.rho_per_interaction * detector.interactions[0] + 1.5
    squares = np.square(detector.noise) + np.square(detector.noise_rho) * rho
    put_in = {0.0: squares[:4], 1.3: squares[4:6]}
    for before, after in zip(free.curves, known.curves, strict=True):
        errors = [float(np.sqrt(curve.covariance[0, 0])) for curve in (before, after)]
        assert errors[1] < 0.8 * errors[0]
        values = put_in[after.eta.low]
        assert values.min() - 3 * errors[1] < after.squares[0] < values.max() + 3 * errors[1]


def test_data_take_the_noise_of_simulation_with_a_doubt(samples: tuple[Comparison, ...]) -> None:
    simulation, data = samples[0].simulation, samples[0].data
    assert simulation is not None
    known = noise_knowledge(simulation, data, MeasurementSettings(noise_uncertainty=0.3))
    assert set(known.data) == set(known.simulation) == {None, 0, 1}
    for eta, own in known.data.items():
        assert own.value == pytest.approx(known.simulation[eta].value, rel=0.1)
        # either part, without pile-up and with, is uncertain by 30 %
        assert 0.3 * own.value / np.sqrt(2) < own.error < 0.5 * (own.value + known.simulation[eta].error)
    assert noise_knowledge(simulation, None, MeasurementSettings()).data == {}
