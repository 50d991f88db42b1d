"""Simultaneous fit of pass and fail with pyhf and Minuit, and what its uncertainty is made of.

A fitted value is, to first order, linear in the counts n of data and in the auxiliary measurements a of its sources of
uncertainty. With C the covariance of all parameters and nu the expectation,

    d theta / d n_k = sum_b C_{theta b} (d nu_k / d b) / nu_k,      d theta / d a_s = C_{theta s} / sigma_s^2,

so that the square of the uncertainty is sum_k n_k (d theta / d n_k)^2 + sum_s (sigma_s d theta / d a_s)^2, without
anything counted twice (components as in Pinto et al., arXiv:2307.04007). Since both derivatives are kept, fits that
share data or sources have a covariance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from corrections.tagging import cross_check
from corrections.tagging.samples import FACTOR, FRACTION, free_groups
from corrections.tagging.workspace import workspace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from iminuit import Minuit

    from corrections.tagging.counts import FloatArray
    from corrections.tagging.results import FitStatus
    from corrections.tagging.settings import FitSettings
    from corrections.tagging.templates import Templates

TEMPLATE_STATISTICS = "staterror_"
# Of the range, from its ends.
NEAR_LIMIT = 1e-3
# From zero: less tells nothing of a category, as where data have none of it.
FEWEST_DEVIATIONS = 2.0
# Of the yield of a category, in its uncertainties; where data have that much less of it, they have none.
LARGEST_PULL = 4.0
STEP = 1e-4
TOLERANCE = 0.01


@dataclass(frozen=True, slots=True)
class GroupFit:
    """The scale factor of one group.

    Attributes
    ----------
    value, error
        nan unless `status` is "ok".
    shifts
        What each source does when its auxiliary measurement moves up by its uncertainty, template statistics included
        bin by bin.
    of_pass, of_fail
        d value / d n for the bins of mass, (n,).
    """

    group: str
    status: FitStatus
    value: float
    error: float
    shifts: Mapping[str, float]
    of_pass: FloatArray
    of_fail: FloatArray


@dataclass(frozen=True, slots=True)
class BinFit:
    """One fit: its scale factors, all parameters, and expectations before and after.

    Attributes
    ----------
    names, values
        Of the parameters, (n,).
    covariance
        (n, n).
    before, after
        Expectation of pass and of fail by group, (2 arrays of (n_groups, n)); empty where there is no fit.
    distance
        -2 log of the likelihood over that of a perfect model; constraints included.
    bins
        Bins of data, less the free parameters.
    """

    templates: Templates
    status: FitStatus
    groups: tuple[GroupFit, ...]
    names: tuple[str, ...] = ()
    values: FloatArray | None = None
    covariance: FloatArray | None = None
    before: tuple[FloatArray, ...] = ()
    after: tuple[FloatArray, ...] = ()
    distance: float = np.nan
    degrees: int = 0


def fit(templates: Templates, settings: FitSettings) -> BinFit:
    """Fit one bin of pT at one working point; what cannot be fitted has nan and a status, nothing is raised."""
    states = free_groups(templates, settings)
    if (status := status_before(templates, states)) != "ok":
        return _without(templates, status, states)
    model = model_of(workspace(templates, settings))
    observed = [templates.failing.data, templates.passing.data]
    if list(model.config.channels) != ["fail", "pass"]:
        message = f"channels are {model.config.channels}, expected fail before pass"
        raise RuntimeError(message)
    data = np.concatenate([*observed, model.config.auxdata])
    minuit = minimised(model, data, _start(model, templates, settings))
    if not minuit.valid or minuit.covariance is None:
        return _without(templates, "not_converged", states)
    return _result(templates, settings, model, minuit, data)


def model_of(content: Mapping[str, Any]) -> Any:
    """The pyhf model of a workspace of ours, whose form is not checked again."""
    import pyhf

    return pyhf.Workspace(content, validate=False).model(validate=False)


def minimised(model: Any, data: FloatArray, start: FloatArray | None = None) -> Minuit:
    """-2 log L of a pyhf model at its minimum, with the covariance of all parameters."""
    from iminuit import Minuit

    config = model.config
    minuit = Minuit(
        lambda parameters: -2 * float(model.logpdf(parameters, data)[0]),
        np.asarray(config.suggested_init() if start is None else start, np.float64),
        name=config.par_names,
    )
    minuit.errordef = Minuit.LEAST_SQUARES
    minuit.limits = config.suggested_bounds()
    minuit.fixed = config.suggested_fixed()
    minuit.errors = _first_steps(config)
    minuit.strategy = 0
    minuit.tol = TOLERANCE
    minuit.migrad(ncall=200_000)
    minuit.hesse()
    if not minuit.valid:
        minuit.strategy = 2
        minuit.migrad(ncall=400_000)
        minuit.hesse()
    return minuit


def _start(model: Any, templates: Templates, settings: FitSettings) -> FloatArray:
    """All parameters of a pyhf model at the minimum that plain numpy finds, which takes a tenth of the time."""
    likelihood = cross_check.likelihood(templates, settings)
    minuit = cross_check.minimise(likelihood)
    point = np.array(minuit.values)
    known = dict(zip(likelihood.names, point, strict=True))
    statistical = likelihood.statistical_factors(
        likelihood.expected(point), likelihood.data, np.ones(len(likelihood.data))
    )
    n = len(templates.passing.data)
    for channel, values in (("pass", statistical[:n]), ("fail", statistical[n:])):
        known |= {f"{TEMPLATE_STATISTICS}{channel}[{place}]": value for place, value in enumerate(values)}
    start = np.array([known.get(name, 1.0) for name in model.config.par_names])
    low, high = np.transpose(model.config.suggested_bounds())
    return np.asarray(np.clip(start, low + 1e-3 * (high - low), high - 1e-3 * (high - low)))


def widths(model: Any) -> dict[str, float]:
    """Uncertainty of the auxiliary measurement of each constrained parameter by name."""
    found: dict[str, float] = {}
    for name in model.config.par_order:
        parameters = model.config.param_set(name)
        if parameters.constrained:
            place = model.config.par_slice(name)
            names = model.config.par_names[place]
            sizes = getattr(parameters, "sigmas", None) or [1.0] * len(names)
            found |= dict(zip(names, sizes, strict=True))
    return found


def _first_steps(config: Any) -> FloatArray:
    steps = np.full(config.npars, 0.1)
    for name in config.par_order:
        sigmas = getattr(config.param_set(name), "sigmas", None)
        if sigmas:
            steps[config.par_slice(name)] = sigmas
    return steps


def status_before(templates: Templates, states: Mapping[str, FitStatus]) -> FitStatus:
    """Whether there is anything to fit: "ok", or why not; `states` are those of `free_groups`."""
    if templates.passing.data.sum() <= 0:
        return "empty_pass"
    if templates.failing.data.sum() <= 0:
        return "empty_fail"
    if not (templates.passing.yields.sum(axis=0).min() > 0 and templates.failing.yields.sum(axis=0).min() > 0):
        return "no_simulation"
    if len(templates.passing.data) < sum(state == "ok" for state in states.values()):
        return "too_few_bins"
    return "ok" if "ok" in states.values() else "absent"


def _without(templates: Templates, status: FitStatus, states: Mapping[str, FitStatus]) -> BinFit:
    groups = tuple(_unmeasured(group, state if state != "ok" else status, templates) for group, state in states.items())
    return BinFit(templates, status, groups)


def _unmeasured(group: str, status: FitStatus, templates: Templates) -> GroupFit:
    nothing = np.zeros(len(templates.passing.data)), np.zeros(len(templates.failing.data))
    return GroupFit(group, status, np.nan, np.nan, {}, *nothing)


def _result(templates: Templates, settings: FitSettings, model: Any, minuit: Minuit, data: FloatArray) -> BinFit:
    names = tuple(model.config.par_names)
    values, covariance = np.array(minuit.values), np.array(minuit.covariance)
    derivatives = _derivatives(model, values)
    expected = model.expected_actualdata(values)
    by_data = covariance @ derivatives / expected
    groups = tuple(
        _group(group, state, templates, settings, _Fitted(names, values, covariance, by_data, widths(model), minuit))
        for group, state in free_groups(templates, settings).items()
    )
    start = np.array(model.config.suggested_init())
    return BinFit(
        templates=templates,
        status="ok",
        groups=groups,
        names=names,
        values=values,
        covariance=covariance,
        before=_by_group(model, start, templates),
        after=_by_group(model, values, templates),
        distance=_distance(model, minuit, data),
        degrees=len(expected) - sum(not name.startswith(TEMPLATE_STATISTICS) for name in _unconstrained(model)),
    )


@dataclass(frozen=True, slots=True)
class _Fitted:
    names: tuple[str, ...]
    values: FloatArray
    covariance: FloatArray
    by_data: FloatArray
    widths: Mapping[str, float]
    minuit: Minuit


def _group(group: str, state: FitStatus, templates: Templates, settings: FitSettings, fitted: _Fitted) -> GroupFit:
    name = FACTOR.format(group)
    if state != "ok" or name not in fitted.names:
        return _unmeasured(group, state if state != "ok" else "absent", templates)
    place = fitted.names.index(name)
    value, error = float(fitted.values[place]), float(np.sqrt(fitted.covariance[place, place]))
    low, high = fitted.minuit.limits[name]
    if min(value - low, high - value) < NEAR_LIMIT * (high - low):
        return _unmeasured(group, "at_limit", templates)
    if (yield_name := FRACTION.format(group)) in fitted.names:
        pull = fitted.values[fitted.names.index(yield_name)]
        if pull < -LARGEST_PULL:
            return _unmeasured(group, "absent", templates)
    if not 0 < error <= settings.largest_error or value < FEWEST_DEVIATIONS * error:
        return _unmeasured(group, "imprecise", templates)
    shifts = {
        source: float(fitted.covariance[place, fitted.names.index(source)] / width)
        for source, width in fitted.widths.items()
        if not fitted.minuit.fixed[source]
    }
    n_fail = len(templates.failing.data)
    return GroupFit(group, "ok", value, error, shifts, fitted.by_data[place, n_fail:], fitted.by_data[place, :n_fail])


def _derivatives(model: Any, values: FloatArray) -> FloatArray:
    """D expectation / d parameter by central differences, (n_parameters, n_bins)."""
    found = []
    for place in range(len(values)):
        step = np.zeros(len(values))
        step[place] = STEP
        found.append(model.expected_actualdata(values + step) - model.expected_actualdata(values - step))
    return np.asarray(found) / (2 * STEP)


def _unconstrained(model: Any) -> list[str]:
    return [name for name in model.config.par_order if not model.config.param_set(name).constrained]


def _by_group(model: Any, values: FloatArray, templates: Templates) -> tuple[FloatArray, ...]:
    """Expectation of pass and of fail, (n_groups, n) each."""
    rates = np.asarray(model.main_model.expected_data(values, return_by_sample=True))
    parts = []
    for channel in ("pass", "fail"):
        inside = rates[:, model.config.channel_slices[channel]]
        rows = np.zeros((len(templates.groups), inside.shape[1]))
        for name, expected in zip(model.config.samples, inside, strict=True):
            rows[templates.groups.index(name.removesuffix("_passing"))] += expected
        parts.append(rows)
    return tuple(parts)


def _distance(model: Any, minuit: Minuit, data: FloatArray) -> float:
    """Of the minimum from the likelihood of a model that equals the data and all auxiliary measurements."""
    n = model.config.nmaindata
    observed = data[:n]
    log_main = observed * np.log(np.maximum(observed, 1e-300)) - observed - _log_factorial(observed)
    log_auxiliary = sum(-np.log(np.sqrt(2 * np.pi) * width) for width in widths(model).values())
    return float(minuit.fval + 2 * (log_main.sum() + log_auxiliary))


def _log_factorial(values: FloatArray) -> FloatArray:
    from scipy.special import gammaln

    return np.asarray(gammaln(values + 1))
