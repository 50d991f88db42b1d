"""Resolution scale factor data/simulation: one parameter per |eta| bin, fitted to all bins of pt_avg together.

The detector variance of A in data is SF^2 times that of the simulation curve (standard rows), or SF^2 times the probe's
part plus the reference region's own (forward rows). The likelihood sees every bin at once, so that no ratio of two
fluctuating widths is ever averaged; SF^2 is not bounded. What depends on the width itself, such as how far a falling
spectrum inflates pt_avg, is removed by fitting again with the simulation smeared (`measurement.refined`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from corrections.resolution import CurveFit, fitted_copies, replica_spread
from corrections.template_fit import JointFit, VarianceModel, fit_jointly

if TYPE_CHECKING:
    from corrections.stacks import Stack

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ScaleFactorFit:
    """Squared scale factor of one |eta| bin.

    `squared` with its analytic variance `squared_variance` (data and simulation curve), bootstrap copies `replicas`
    (n_replicas,), and whether the fit converged.
    """

    squared: float
    squared_variance: float
    replicas: FloatArray
    converged: bool

    @property
    def value(self) -> float:
        """Scale factor; nan if its square came out negative."""
        return float(np.sqrt(self.squared)) if self.squared >= 0 else float("nan")

    @property
    def error(self) -> float:
        """Standard deviation from the copies of the square, negative ones included; the analytic one without copies."""
        spread = float(replica_spread(self.replicas)) if len(self.replicas) else float("nan")
        return (spread if np.isfinite(spread) else float(np.sqrt(self.squared_variance))) / (2 * self.value)


def fit_scale_factor(
    data: Stack,
    simulated: Stack,
    curve: CurveFit,
    reference_curve: CurveFit | None,
    reference: ScaleFactorFit | None,
) -> ScaleFactorFit:
    """Scale factor of one |eta| bin.

    `data` holds the rows of data with the templates of simulation, `simulated` the same rows of simulation, `curve` the
    simulated resolution of the bin; the last two belong to the reference region and are needed for forward rows only.
    """
    squared = reference.squared if reference is not None else 1.0
    model = _model(data, curve, reference_curve, squared)
    start = np.concatenate([[1.2], np.zeros(model.shift_design.shape[1])])
    fit = fit_jointly(data.distributions, model, start)
    if not fit.converged:
        return ScaleFactorFit(np.nan, np.nan, np.zeros(0), converged=False)
    variance = fit.covariance[0, 0] + _propagated_variance(data, simulated, curve, reference_curve, reference, fit)
    copies = _copies(data, model, fit.parameters, curve, reference_curve, reference)
    return ScaleFactorFit(float(fit.parameters[0]), float(variance), copies, converged=True)


def _model(data: Stack, curve: CurveFit, reference_curve: CurveFit | None, reference_squared: float) -> VarianceModel:
    forward = data.is_forward
    narrowing = data.inflation**-2
    design = data.probes * curve.squared(data.pt) * narrowing
    offset, shift = np.zeros(len(forward)), np.zeros(len(forward))
    if reference_curve is not None and forward.any():
        offset = np.where(forward, reference_squared * reference_curve.squared(data.pt) * narrowing, 0.0)
        shift = np.where(forward, curve.displacement(data.pt), 0.0)
    shift_design = forward.astype(np.float64)[:, None] if forward.any() else np.zeros((len(forward), 0))
    return VarianceModel(offset, design[:, None], shift, shift_design)


def _copies(
    data: Stack,
    model: VarianceModel,
    parameters: FloatArray,
    curve: CurveFit,
    reference_curve: CurveFit | None,
    reference: ScaleFactorFit | None,
) -> FloatArray:
    """Squared scale factor of every bootstrap copy, with the copies of the curves that it rests on, (n_replicas,)."""
    n = min(data.n_replicas, len(curve.replicas))
    if n == 0:
        return np.zeros(0)
    narrowing = data.inflation**-2
    designs = (data.probes * curve.squared_copies(data.pt) * narrowing)[..., None]
    offsets, shifts = None, None
    if reference_curve is not None and reference is not None and data.is_forward.any():
        others = reference.replicas[:, None] * reference_curve.squared_copies(data.pt) * narrowing
        offsets = np.where(data.is_forward, others, 0.0)
        shifts = np.where(data.is_forward, curve.displacement_copies(data.pt), 0.0)
    return fitted_copies(data, model, parameters, offsets, designs, shifts)[:, 0]


def _propagated_variance(
    data: Stack,
    simulated: Stack,
    curve: CurveFit,
    reference_curve: CurveFit | None,
    reference: ScaleFactorFit | None,
    fit: JointFit,
) -> float:
    """Variance of SF^2 from the simulation's own statistics and from the reference region's scale factor."""
    own = _model(simulated, curve, reference_curve, 1.0)
    simulated_fit = fit_jointly(
        simulated.distributions, own, np.concatenate([[1.0], np.zeros(own.shift_design.shape[1])])
    )
    variance = fit.parameters[0] ** 2 * simulated_fit.covariance[0, 0] if simulated_fit.converged else np.nan
    if reference is None or not data.is_forward.any():
        return float(variance)
    step = np.sqrt(reference.squared_variance)
    moved = fit_jointly(
        data.distributions,
        _model(data, curve, reference_curve, reference.squared + step),
        fit.parameters,
    )
    return float(variance + (moved.parameters[0] - fit.parameters[0]) ** 2)
