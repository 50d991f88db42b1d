"""Resolution scale factor data/simulation of one |eta| bin, fitted to all bins of pt_avg together.

The squared resolution of data is a sum of parts of the simulated one, each times a free number: the whole of it (a
factor constant in pT), its noise and stochastic terms and its constant term apart, or 1/pT^2, 1/pT and 1 freely. In
standard rows the detector variance of A is twice that, in forward rows it comes on top of the reference region's own.
The likelihood sees every bin at once, so that no ratio of two fluctuating widths is ever averaged; squares are not
bounded. What depends on the width itself, such as how far a falling spectrum inflates pt_avg, is removed by fitting
again with the simulation smeared (`measurement.refined`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from corrections.resolution import CurveFit, fitted_copies, replica_spread
from corrections.template_fit import NO_PRIOR, VarianceModel, fit_jointly

if TYPE_CHECKING:
    from corrections.resolution import Fitter, Known
    from corrections.settings import FactorForm
    from corrections.stacks import Stack

FloatArray = NDArray[np.float64]

# Which terms of (N|N|, S^2, C^2, change of the power beside S^2) belong to each part.
_GROUPS: dict[str, tuple[tuple[int, ...], ...]] = {"constant": ((0, 1, 2, 3),), "k_factors": ((0, 1, 3), (2,))}
START = 1.2


@dataclass(frozen=True, slots=True)
class ScaleFactorFit:
    """Squared resolution of data as parts of the simulated `curve`.

    `parameters` (n,) are the numbers that multiply the parts, `covariance` (n, n) theirs with the statistics of the
    simulation and of the reference region, `copies` (n_replicas, n).
    """

    form: FactorForm
    curve: CurveFit
    parameters: FloatArray
    covariance: FloatArray
    copies: FloatArray

    @property
    def value(self) -> float:
        """A factor constant in pT; nan if its square came out negative."""
        return float(np.sqrt(self.parameters[0])) if self.parameters[0] >= 0 else float("nan")

    @property
    def error(self) -> float:
        """Standard deviation of `value` from the copies of the square, negative ones too; analytic without copies."""
        spread = float(replica_spread(self.copies[:, 0]))
        return (spread if np.isfinite(spread) else float(np.sqrt(self.covariance[0, 0]))) / (2 * self.value)

    def data_squared(self, pt: FloatArray) -> FloatArray:
        """(sigma/pT)^2 of data at `pt` (GeV), (n,)."""
        return np.asarray(parts(self.form, self.curve, pt) @ self.parameters)

    def data_squared_copies(self, pt: FloatArray) -> FloatArray:
        """The same in every bootstrap copy to first order in the fluctuations, (n_replicas, n)."""
        simulated = parts_copies(self.form, self.curve, pt)[: len(self.copies)]
        own = (self.copies - self.parameters) @ parts(self.form, self.curve, pt).T
        return np.asarray(simulated @ self.parameters + own)

    def squared(self, pt: FloatArray) -> FloatArray:
        """Squared scale factor at `pt` (GeV), (n,)."""
        return self.data_squared(pt) / self.curve.squared(pt)

    def squared_copies(self, pt: FloatArray) -> FloatArray:
        """The same in every bootstrap copy to first order in the fluctuations, (n_replicas, n)."""
        simulated = self.curve.squared_copies(pt)[: len(self.copies)]
        return np.asarray(self.data_squared_copies(pt) - self.squared(pt) * simulated) / self.curve.squared(
            pt
        ) + self.squared(pt)

    def squared_variance(self, pt: FloatArray) -> FloatArray:
        """Variance of `squared` from the covariance of the parameters alone, (n,)."""
        gradient = parts(self.form, self.curve, pt) / self.curve.squared(pt)[:, None]
        return np.asarray(np.einsum("nk,kl,nl->n", gradient, self.covariance, gradient))

    def squared_error(self, pt: FloatArray) -> FloatArray:
        """Standard deviation of `squared`, (n,), from the copies; analytic without them."""
        spread = replica_spread(self.squared_copies(pt))
        analytic = self.squared_variance(pt)
        if self.form == "curves":
            basis = self.curve.basis(pt) * (self.squared(pt) / self.curve.squared(pt))[:, None]
            analytic = analytic + np.einsum("nk,kl,nl->n", basis, self.curve.covariance, basis)
        return np.where(np.isfinite(spread), spread, np.sqrt(analytic))


def parts(form: FactorForm, curve: CurveFit, pt: FloatArray) -> FloatArray:
    """The parts of the squared resolution that a form tells apart, at `pt` (GeV), (n, n_parts)."""
    if form == "curves":
        return np.ascontiguousarray(curve.basis(pt)[:, :3][:, curve.squares[:3] != 0])
    return _grouped(form, curve, curve.basis(pt) * curve.squares)


def parts_copies(form: FactorForm, curve: CurveFit, pt: FloatArray) -> FloatArray:
    """The parts with the curve of every bootstrap copy, (n_replicas, n, n_parts)."""
    if form == "curves":
        own = parts(form, curve, pt)
        return np.broadcast_to(own, (len(curve.replicas), *own.shape))
    return _grouped(form, curve, curve.basis(pt) * curve.replicas[:, None, :])


def _grouped(form: FactorForm, curve: CurveFit, terms: FloatArray) -> FloatArray:
    """Terms summed within each part; parts that the curve lacks are left out."""
    there = curve.squares != 0
    groups = [[i for i in group if i < len(there)] for group in _GROUPS[form]]
    return np.stack([terms[..., group].sum(axis=-1) for group in groups if np.any(there[group])], axis=-1)


def fit_scale_factor(
    data: Stack,
    simulated: Stack,
    curve: CurveFit,
    reference: ScaleFactorFit | None,
    form: FactorForm = "constant",
    fitter: Fitter = fit_jointly,
    *,
    has_errors: bool = True,
    noise: Known | None = None,
) -> ScaleFactorFit | None:
    """Scale factor of one |eta| bin; None if the fit does not converge.

    `data` holds the rows of data with the templates of simulation, `simulated` the same rows of simulation, `curve` the
    simulated resolution of the bin; `reference` belongs to the reference region and is needed for forward rows only.
    `noise` is what is known of N|N| of data (GeV^2) beforehand; the form "curves" alone, where N|N| is free, uses it.
    """
    reference_squared = reference.data_squared(data.pt) if reference is not None else np.zeros(len(data.pt))
    model = _model(data, curve, reference_squared, form)._replace(prior=_prior(curve, form, noise))
    fit = fitter(data.distributions, model, _start(curve, model, form))
    if not fit.converged:
        return None
    n = model.design.shape[1]
    if not has_errors:
        return ScaleFactorFit(form, curve, fit.parameters[:n], fit.covariance[:n, :n], np.zeros((0, n)))
    covariance = fit.covariance[:n, :n] + _simulated_covariance(simulated, curve, reference, form, fit.parameters[:n])
    if reference is not None and data.is_forward.any():
        shifted = reference_squared + reference.squared_error(data.pt) * reference.curve.squared(data.pt)
        moved = fitter(
            data.distributions, _model(data, curve, shifted, form)._replace(prior=model.prior), fit.parameters
        )
        covariance = covariance + np.outer(*[(moved.parameters - fit.parameters)[:n]] * 2)
    copies = _copies(data, model, fit.parameters, curve, reference, form)
    return ScaleFactorFit(form, curve, fit.parameters[:n], covariance, copies)


def _prior(curve: CurveFit, form: FactorForm, noise: Known | None) -> FloatArray:
    if noise is None or form != "curves" or curve.squares[0] == 0:
        return NO_PRIOR
    prior = np.zeros((int(np.count_nonzero(curve.squares[:3])), 2))
    prior[0] = noise.scaled(1.0)
    return prior


def _start(curve: CurveFit, model: VarianceModel, form: FactorForm) -> FloatArray:
    n = model.design.shape[1]
    factors = np.full(n, START) if form != "curves" else START * curve.squares[:3][curve.squares[:3] != 0]
    return np.concatenate([factors, np.zeros(model.shift_design.shape[1])])


def _model(stack: Stack, curve: CurveFit, reference_squared: FloatArray, form: FactorForm) -> VarianceModel:
    """Variances of A as parts times free numbers; displacements are those of simulation plus one free number."""
    forward = stack.is_forward
    narrowing = stack.inflation**-2
    design = (stack.probes * narrowing)[:, None] * parts(form, curve, stack.pt)
    offset = np.where(forward, reference_squared * narrowing, 0.0)
    shift = np.where(forward, curve.displacement(stack.pt), 0.0)
    shift_design = forward.astype(np.float64)[:, None] if forward.any() else np.zeros((len(forward), 0))
    return VarianceModel(offset, np.ascontiguousarray(design), shift, shift_design)


def _copies(
    data: Stack,
    model: VarianceModel,
    parameters: FloatArray,
    curve: CurveFit,
    reference: ScaleFactorFit | None,
    form: FactorForm,
) -> FloatArray:
    """Parameters of every bootstrap copy, with the copies of the curves that they rest on, (n_replicas, n)."""
    n_parts = model.design.shape[1]
    if min(data.n_replicas, len(curve.replicas)) == 0:
        return np.zeros((0, n_parts))
    narrowing = data.inflation**-2
    designs = (data.probes * narrowing)[:, None] * parts_copies(form, curve, data.pt)
    offsets, shifts = None, None
    if reference is not None and data.is_forward.any():
        offsets = np.where(data.is_forward, reference.data_squared_copies(data.pt) * narrowing, 0.0)
        shifts = np.where(data.is_forward, curve.displacement_copies(data.pt), 0.0)
    return fitted_copies(data, model, parameters, offsets, designs, shifts)[:, :n_parts]


def _simulated_covariance(
    simulated: Stack, curve: CurveFit, reference: ScaleFactorFit | None, form: FactorForm, parameters: FloatArray
) -> FloatArray:
    """What the statistics of the simulation add to the covariance of the parameters, (n, n).

    The simulation is fitted as if it were data; its covariance, times the parameters, is that of the parts. Where the
    parts do not depend on the simulation it adds nothing.
    """
    if form == "curves":
        return np.zeros((len(parameters), len(parameters)))
    others = reference.curve.squared(simulated.pt) if reference is not None else np.zeros(len(simulated.pt))
    model = _model(simulated, curve, others, form)
    start = np.concatenate([np.ones(len(parameters)), np.zeros(model.shift_design.shape[1])])
    fit = fit_jointly(simulated.distributions, model, start)
    n = len(parameters)
    return np.asarray(fit.covariance[:n, :n] * np.outer(parameters, parameters))
