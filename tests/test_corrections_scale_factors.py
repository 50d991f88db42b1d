"""Scale factors constant in pT, in two parts and as a ratio of two curves, on toys where they are known."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from dijet_toys import SQUARES, Toy

from corrections.bin_fits import Fitting, fit_bins
from corrections.measurement import measure
from corrections.resolution import fitted_copies
from corrections.scale_factors import _model, fit_scale_factor
from corrections.settings import MeasurementSettings
from corrections.stacks import data_stack
from corrections.template_fit import refit

if TYPE_CHECKING:
    from corrections.results import Measurement
    from corrections.sample import Sample
    from corrections.settings import FactorForm

SETTINGS = MeasurementSettings()
# Noise and stochastic terms of data are wider by 1.25, the constant one by 1.05.
NOISE, CONSTANT = 1.25, 1.05
DATA = Toy(SQUARES * np.array([NOISE, NOISE, CONSTANT]) ** 2)


@pytest.fixture(scope="module")
def samples() -> tuple[Sample, Sample]:
    return Toy().sample("simulation", 20_000, 11), DATA.sample("data", 15_000, 12)


def true_factor(eta: int, pt: float) -> float:
    return float(DATA.resolution(eta, np.array(pt)) / Toy().resolution(eta, np.array(pt)))


def measured(samples: tuple[Sample, Sample], form: FactorForm) -> Measurement:
    return measure(*samples, "AK4PF", replace(SETTINGS, scale_factor=form))


@pytest.mark.parametrize("form", ["k_factors", "curves"])
def test_a_scale_factor_that_falls_with_pt_comes_back(samples: tuple[Sample, Sample], form: FactorForm) -> None:
    points = measured(samples, form).select("scale_factor")
    assert len(points) == 4 * 9
    etas = sorted({p.eta for p in points}, key=lambda eta: eta.low)
    for point in points:
        assert point.status == "ok"
        assert point.stat < 0.05
        # second-order terms of the wider data make up to half a per cent
        assert point.value == pytest.approx(
            true_factor(etas.index(point.eta), point.pt_mean), abs=4 * point.stat + 0.006
        )
    falls = [points[i].value - points[i + 8].value for i in range(0, 36, 9)]
    assert min(falls) > 0.03


def test_points_that_depend_on_pt_fill_the_bins_without_gaps(samples: tuple[Sample, Sample]) -> None:
    points = measured(samples, "k_factors").select("scale_factor")[:9]
    assert [p.pt.high for p in points[:-1]] == [p.pt.low for p in points[1:]]
    assert all(p.pt.low < p.pt_mean < p.pt.high for p in points)


def test_k_factors_of_data_like_simulation_agree_with_one_another() -> None:
    simulation, data = Toy().sample("simulation", 8000, 13), Toy(factors=np.full(4, 1.15)).sample("data", 8000, 14)
    _, bins = fit_bins(simulation, data, Fitting(replace(SETTINGS, scale_factor="k_factors")))
    for fit in bins:
        assert fit.scale_factor is not None
        both = fit.scale_factor.parameters
        covariance = fit.scale_factor.covariance
        difference = both[0] - both[1]
        assert abs(difference) < 4 * np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])


@pytest.mark.parametrize("form", ["constant", "k_factors", "curves"])
def test_copies_of_a_scale_factor_agree_with_its_analytic_error(form: FactorForm) -> None:
    simulation, data = Toy().sample("simulation", 3000, 15, replicas=100), DATA.sample("data", 1500, 16, replicas=100)
    bare = simulation.without_replicas(), data.without_replicas()
    copied = measured((simulation, data), form).select("scale_factor")
    analytic = measured(bare, form).select("scale_factor")
    ratios = np.array([a.stat / b.stat for a, b in zip(copied, analytic, strict=True)])
    # 100 copies tell a spread to 7 %; the analytic error does not know that truth and simulation are the same events
    assert np.all(np.abs(ratios - 1) < 0.4)
    assert np.mean(ratios) == pytest.approx(1, abs=0.15)


def test_copies_of_a_scale_factor_by_one_step_agree_with_refits() -> None:
    simulation, data = Toy().sample("simulation", 3000, 17, replicas=80), DATA.sample("data", 1500, 18, replicas=80)
    _, bins = fit_bins(simulation, data, Fitting(SETTINGS))
    fit = bins[1]
    assert fit.curve is not None
    assert fit.data is not None
    rows = fit.data.only(fit.compared)
    none = np.zeros(len(rows.rows))
    factor = fit_scale_factor(rows, fit.simulated.only(fit.compared), fit.curve, None)
    assert factor is not None
    stepped = fitted_copies(rows, _model(rows, fit.curve, none, "constant"), factor.parameters)[:, 0]
    model = _model(rows, fit.curve, none, "constant")
    refitted = [refit(rows.replica(r), model, factor.parameters).parameters[0] for r in range(rows.n_replicas)]
    assert np.std(stepped) / np.std(refitted) == pytest.approx(1, abs=0.05)


def test_rows_of_data_share_windows_and_templates_with_simulation(samples: tuple[Sample, Sample]) -> None:
    simulation, data = samples
    _, bins = fit_bins(simulation, None, Fitting(SETTINGS))
    stack = data_stack(data, simulation, bins[2].simulated, 2)
    np.testing.assert_array_equal(stack.distributions.first, bins[2].simulated.distributions.first)
    np.testing.assert_array_equal(stack.distributions.templates, bins[2].simulated.distributions.templates)
    assert stack.distributions.counts.sum() != bins[2].simulated.distributions.counts.sum()
