"""The fits of every |eta| bin: resolution curve of simulation and scale factor of data, reference region first."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from corrections.resolution import fit_curve, usable_rows
from corrections.results import Interval
from corrections.scale_factors import fit_scale_factor
from corrections.stacks import data_stack, simulation_stack, smoothed
from corrections.template_fit import fit_jointly

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from corrections.resolution import CurveFit, Fitter, Known
    from corrections.sample import Sample
    from corrections.scale_factors import ScaleFactorFit
    from corrections.settings import MeasurementSettings
    from corrections.stacks import Stack

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class BinFit:
    """All that is fitted in one |eta| bin: rows of simulation and data, and which of them took part."""

    eta: Interval
    simulated: Stack
    usable: BoolArray
    data: Stack | None
    curve: CurveFit | None
    scale_factor: ScaleFactorFit | None
    compared: BoolArray

    @property
    def compared_pt(self) -> FloatArray:
        """Mean pT of the rows behind the scale factor, GeV."""
        return self.simulated.pt[self.compared]

    @property
    def fitted_pt(self) -> FloatArray:
        """Mean pT of the rows behind the curve, GeV."""
        return self.simulated.pt[self.usable]


@dataclass(frozen=True, slots=True)
class Fitting:
    """How the fits are done.

    Attributes
    ----------
    settings
        Limits and forms.
    threads
        |eta| bins at a time.
    fitter
        Finds the maximum of a likelihood.
    has_errors
        Whether scale factors get copies, and a covariance with the statistics of simulation and reference region.
    reshape
        What is done to the rows of simulation before anything is fitted; their templates are those of data too.
    reshape_data
        What is done to the rows of data of an |eta| bin (None: the reference region) before they are fitted.
    noise, data_noise
        What is known beforehand of N|N| of simulation and of data in an |eta| bin.
    """

    settings: MeasurementSettings
    threads: int = 1
    fitter: Fitter = fit_jointly
    has_errors: bool = True
    reshape: Callable[[Stack], Stack] | None = None
    reshape_data: Callable[[Stack, int | None], Stack] | None = None
    noise: Mapping[int | None, Known] = field(default_factory=dict)
    data_noise: Mapping[int | None, Known] = field(default_factory=dict)


def fit_bins(simulation: Sample, data: Sample | None, fitting: Fitting) -> tuple[BinFit, list[BinFit]]:
    """The reference region, then every |eta| bin."""
    reference = _fit_bin(simulation, data, fitting, None, None)

    def one(eta: int) -> BinFit:
        return _fit_bin(simulation, data, fitting, eta, reference)

    with ThreadPoolExecutor(max(fitting.threads, 1)) as pool:
        return reference, list(pool.map(one, range(simulation.binning.shape[0])))


def _fit_bin(
    simulation: Sample, data: Sample | None, fitting: Fitting, eta: int | None, reference: BinFit | None
) -> BinFit:
    settings = fitting.settings
    stack = simulation_stack(simulation, eta, settings.core_window)
    stack = smoothed(stack) if settings.template == "exponential" else stack
    stack = fitting.reshape(stack) if fitting.reshape is not None else stack
    usable = usable_rows(stack, settings.min_effective, settings.min_row, settings.min_row)
    reference_curve = reference.curve if reference else None
    if reference_curve is None:
        usable &= ~stack.is_forward
    curve = None
    if usable.any():
        fitted = fit_curve(stack.only(usable), reference_curve, settings.curve, fitting.fitter, fitting.noise.get(eta))
        curve = fitted if fitted.converged else None
    measured = data_stack(data, simulation, stack, eta) if data is not None else None
    if measured is not None and fitting.reshape_data is not None:
        measured = fitting.reshape_data(measured, eta)
    factor, enough = None, np.zeros_like(usable)
    if measured is not None and curve is not None:
        reference_factor = reference.scale_factor if reference else None
        enough = usable & usable_rows(measured, settings.min_data, 1.0, 0.0)
        if reference_factor is None:
            enough &= ~stack.is_forward
        if enough.any():
            rows = measured.only(enough), stack.only(enough)
            factor = fit_scale_factor(
                *rows,
                curve,
                reference_factor,
                settings.scale_factor,
                fitting.fitter,
                has_errors=fitting.has_errors,
                noise=fitting.data_noise.get(eta),
            )
    return BinFit(interval_of(simulation, eta), stack, usable, measured, curve, factor, enough)


def interval_of(sample: Sample, eta: int | None) -> Interval:
    """An |eta| bin of the binning, or the reference region (None)."""
    if eta is None:
        return Interval(*sample.binning.reference_range)
    edges = sample.binning.eta_edges
    return Interval(float(edges[eta]), float(edges[eta + 1]))
