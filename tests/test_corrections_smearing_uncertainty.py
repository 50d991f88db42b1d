"""What the scale factor is uncertain by moves residuals as a direct simulation of a falling spectrum says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from dijet_toys import BINNING, Events

from corrections.measurement import measure, with_residual
from corrections.pair_points import with_matrix
from corrections.results import Interval, Point, Shift
from corrections.settings import MeasurementSettings
from corrections.smearing_uncertainty import _Side, _widened, spectrum_power, with_smearing_uncertainty
from processors.dijet import DijetSettings

POWER, SIGMA, CHANGE = 5.0, 0.10, 0.03
BIN = Interval(0, 1)
RESIDUAL = Point("residual", "data/simulation", "AK4PF", "mean_asymmetry", "", BIN, BIN, 0.5, 1.0, 1e-9, "ok")


def log_response(probe: float, reference: float) -> float:
    """Mean asymmetry, as log of a response, of pairs on dN/dpT = pT^-5 whose jets are smeared by these factors."""
    rng = np.random.default_rng(1)
    n = 3_000_000
    # flat in the logarithm, weighted
    pt = np.exp(rng.uniform(np.log(30), np.log(1000), n))
    weight = pt ** (1 - POWER)
    one, two = (pt * (1 + SIGMA * factor * rng.normal(size=n)) for factor in (probe, reference))
    mean = 0.5 * (one + two)
    inside = (mean > 100) & (mean < 200)
    asymmetry = np.average(((one - two) / mean)[inside], weights=weight[inside])
    return float(np.log((2 + asymmetry) / (2 - asymmetry)))


def side(factor: float, shift: float, stat: float = 0.0) -> _Side:
    return _Side(factor, stat / factor, np.array([shift / factor]), np.array([SIGMA**2]))


@pytest.mark.parametrize(("probe", "reference"), [(1.03, 1.10), (1.10, 1.10), (1.25, 1.10), (1.20, 1.00)])
def test_a_change_of_either_scale_factor_moves_the_residual_as_a_simulation_says(
    probe: float, reference: float
) -> None:
    weight = np.array([0.5 * (POWER - 2)])
    for both in ((CHANGE, 0.0), (0.0, CHANGE), (CHANGE, CHANGE)):
        moved = _widened(RESIDUAL, side(probe, both[0]), side(reference, both[1]), weight)
        up, down = (log_response(probe + s * both[0], reference + s * both[1]) for s in (0.5, -0.5))
        shift = moved.shift("jer")
        # 10 % for terms of higher order, and what cancels is small
        assert (0.0 if shift is None else shift.up) == pytest.approx(abs(up - down), rel=0.12, abs=1e-4)


def test_statistical_uncertainties_of_probe_and_reference_do_not_cancel() -> None:
    weight = np.array([1.5])
    one = _widened(RESIDUAL, side(1.1, 0, 0.03), side(1.1, 0, 0.0), weight).stat
    both = _widened(RESIDUAL, side(1.1, 0, 0.03), side(1.1, 0, 0.03), weight).stat
    assert both == pytest.approx(np.sqrt(2) * one)


def test_the_power_of_the_spectrum_is_that_of_the_events() -> None:
    simulation = Events().sample("simulation", 200_000, 1, DijetSettings(binning=BINNING, replicas=0))
    # the toy falls with 3, a little more steeply where momenta near the beam energy run out
    assert np.median(spectrum_power(simulation)) == pytest.approx(3.1, abs=0.25)


def test_residuals_of_every_method_hold_it_and_the_reference_stays_exact() -> None:
    settings = MeasurementSettings()
    filling = DijetSettings(binning=BINNING, replicas=0)
    simulation = Events().sample("simulation", 60_000, 1, filling)
    data = Events(factors=np.full(4, 1.15)).sample("data", 60_000, 2, filling)
    whole = with_residual(measure(simulation, data, "AK4PF", settings), data, simulation, simulation, settings)
    whole = with_matrix(whole, data, simulation, settings)
    shifted = tuple(
        replace(p, shifts=(Shift("jes", 0.05, -0.05),)) if p.quantity == "scale_factor" else p for p in whole.points
    )
    found = with_smearing_uncertainty(replace(whole, points=shifted), simulation, data)
    for before, after in zip(whole.select("residual"), found.select("residual"), strict=True):
        if before.is_measured and before.stat > 0:
            shift = after.shift("jer")
            assert shift is not None
            assert 0 < shift.up < 0.01
            assert after.stat > before.stat
        else:
            assert after.shifts == ()
