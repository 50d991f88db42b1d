"""Simultaneous fit of all working points with pyhf, and what its uncertainty is made of.

Plain numpy finds the minimum first, in a fraction of the time; the likelihood of pyhf then goes on from there, with
steps of Newton's method, until its own gradient says that nothing is left to gain.

A fitted value is, to first order, linear in the counts n of data and in the auxiliary measurements a of its sources of
uncertainty. With C the covariance of all parameters and nu the expectation,

    d theta / d n_k = sum_b C_{theta b} (d nu_k / d b) / nu_k,      d theta / d a_s = C_{theta s} / sigma_s^2,

so that, to first order, the square of the uncertainty is sum_k n_k (d theta / d n_k)^2 + sum_s (sigma_s d theta /
d a_s)^2, without anything counted twice (components as in Pinto et al., arXiv:2307.04007). This is what is published;
C_{theta theta} equals it where data are as fitted, and differs by a tenth or so where a few jets that pass are not.
Since both derivatives are kept, scale factors that share data or sources have a covariance.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from corrections.tagging import cross_check
from corrections.tagging.results import LARGEST_EXPECTED_ERROR
from corrections.tagging.samples import FRACTION, TIGHTER, factor_limits, factor_of, states_of
from corrections.tagging.workspace import workspace

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from iminuit import Minuit

    from corrections.tagging.counts import FloatArray
    from corrections.tagging.cross_check import Likelihood, Minimum
    from corrections.tagging.results import FitStatus
    from corrections.tagging.settings import FitSettings
    from corrections.tagging.templates import Templates

TEMPLATE_STATISTICS = "staterror_"
# Of the yield of a category, in its uncertainties; where data have that much less of it, they have none.
LARGEST_PULL = 4.0
# Of a parameter in its uncertainties, for gradients.
STEP = 0.01
# Of -2 log L from its minimum, as the gradient tells.
TOLERANCE = 1e-6
MOST_STEPS = 5


@dataclass(frozen=True, slots=True)
class PointFit:
    """The scale factor of one group at one working point.

    Attributes
    ----------
    value, error
        nan unless `status` is "ok"; see `uncertainty`.
    shifts
        What each source does when its auxiliary measurement moves up by its uncertainty, template statistics included
        bin by bin.
    slopes
        d value / d n for the bins of mass of all regions, one after the other, (n_bins,).
    """

    group: str
    working_point: str
    status: FitStatus
    value: float
    error: float
    shifts: Mapping[str, float]
    slopes: FloatArray


@dataclass(frozen=True, slots=True)
class BinFit:
    """One fit: its scale factors, all parameters, and expectations before and after.

    Attributes
    ----------
    points
        For each group that was to be measured and each working point.
    names, values
        Of the parameters, (n,), template statistics last.
    covariance
        (n, n).
    before, after
        Expectation of each region by group, arrays of (n_groups, n); empty where there is no fit.
    error_before, error_after
        Uncertainty of the sum of groups in each region, arrays of (n,); before the fit scale factors have none.
    distance
        -2 log of the likelihood over that of a perfect model; constraints included.
    degrees
        Bins of data, less the free parameters.
    """

    templates: Templates
    status: FitStatus
    points: tuple[PointFit, ...]
    names: tuple[str, ...] = ()
    values: FloatArray | None = None
    covariance: FloatArray | None = None
    before: tuple[FloatArray, ...] = ()
    after: tuple[FloatArray, ...] = ()
    error_before: tuple[FloatArray, ...] = ()
    error_after: tuple[FloatArray, ...] = ()
    distance: float = np.nan
    degrees: int = 0

    @property
    def is_drawable(self) -> bool:
        """Whether there are expectations, which a fit that describes data badly has too."""
        return bool(self.after)

    @property
    def p_value(self) -> float:
        """Probability of a larger distance by chance; nan where there is none."""
        from scipy.special import chdtrc

        return float(chdtrc(self.degrees, self.distance)) if self.degrees > 0 else float("nan")


def fit(templates: Templates, settings: FitSettings) -> BinFit:
    """Fit one bin of pT; what cannot be fitted has nan and a status, nothing is raised.

    Where data are described badly and seem to have nothing of a group, it is tried without that group.
    """
    found = _fit(templates, settings)
    absent = {each.group for each in found.points if each.status == "absent"}
    if found.is_drawable and absent and found.p_value < settings.min_p_value:
        again = _fit(without_groups(templates, absent), settings)
        found = again if again.p_value >= settings.min_p_value else found
    return _refused(found) if found.p_value < settings.min_p_value else found


def without_groups(templates: Templates, groups: Collection[str]) -> Templates:
    """The same with no simulated jets of some groups in the fit; efficiencies stay."""
    kept = np.array([group not in groups for group in templates.groups])
    regions = [
        replace(
            region,
            yields=region.yields * kept[:, np.newaxis],
            errors=region.errors * kept[:, np.newaxis],
            varied={source: each * kept[:, np.newaxis] for source, each in region.varied.items()},
            totals=region.totals * kept,
            totals_varied={source: each * kept for source, each in region.totals_varied.items()},
        )
        for region in templates.regions
    ]
    return replace(templates, regions=tuple(regions))


def _fit(templates: Templates, settings: FitSettings) -> BinFit:
    if (status := status_before(templates, settings)) != "ok":
        return _without(templates, settings, status)
    likelihood = cross_check.likelihood(templates, settings)
    found = cross_check.minimum(likelihood)
    if not found.is_valid:
        return _without(templates, settings, "not_converged")
    model = model_of(workspace(templates, settings))
    names = (*likelihood.names, *statistics_names(templates))
    values = settled(model, observed(model, templates), names, found)
    if values is None:
        return _without(templates, settings, "not_converged")
    return _result(templates, settings, likelihood, model, _Fitted(names, values, found.covariance))


def model_of(content: Mapping[str, Any]) -> Any:
    """The pyhf model of a workspace of ours, whose form is not checked again."""
    import pyhf

    return pyhf.Workspace(content, validate=False).model(validate=False)


def observed(model: Any, templates: Templates) -> FloatArray:
    """Data in the order of a model of ours, auxiliary measurements last."""
    by_name = {region.name: region.data for region in templates.regions}
    return np.concatenate([*(by_name[name] for name in model.config.channels), model.config.auxdata])


def minimised(model: Any, data: FloatArray) -> Minuit:
    """-2 log L of a pyhf model at the minimum that Minuit finds from the start that pyhf suggests.

    It takes long, and serves to check `fit`, which starts from a minimum.
    """
    from iminuit import Minuit

    config = model.config
    minuit = Minuit(
        lambda parameters: -2 * float(model.logpdf(parameters, data)[0]),
        np.asarray(config.suggested_init(), np.float64),
        name=config.par_names,
    )
    minuit.errordef = Minuit.LEAST_SQUARES
    minuit.limits = config.suggested_bounds()
    minuit.fixed = config.suggested_fixed()
    minuit.errors = _first_steps(config)
    minuit.strategy = 0
    minuit.tol = 0.01
    minuit.migrad(ncall=400_000)
    minuit.hesse()
    return minuit


def settled(model: Any, data: FloatArray, names: Sequence[str], start: Minimum) -> FloatArray | None:
    """Values of the parameters `names` at the minimum of pyhf's likelihood; None where it is not found from `start`.

    The distance from the minimum is g C g / 4, g the gradient of -2 log L and C the covariance; the next point is
    C g / 2 away.
    """
    places = np.array([model.config.par_names.index(name) for name in names])
    is_open = np.diagonal(start.covariance) > 0
    sizes = STEP * np.sqrt(np.where(is_open, np.diagonal(start.covariance), 0.0))
    whole = np.asarray(model.config.suggested_init(), np.float64)

    def statistic(values: FloatArray) -> float:
        point = whole.copy()
        point[places] = values
        return -2 * float(model.logpdf(point, data)[0])

    values = start.values.copy()
    for _ in range(MOST_STEPS):
        gradient = np.zeros(len(values))
        for place in np.flatnonzero(is_open):
            step = np.zeros(len(values))
            step[place] = sizes[place]
            gradient[place] = (statistic(values + step) - statistic(values - step)) / (2 * sizes[place])
        move = -0.5 * start.covariance @ gradient
        if not np.isfinite(move).all():
            return None
        if -0.5 * float(gradient @ move) < TOLERANCE:
            return values
        values = values + move
    return None


def statistics_names(templates: Templates) -> list[str]:
    """Names of the factors of template statistics, region by region."""
    return [
        f"{TEMPLATE_STATISTICS}{region.name}[{place}]"
        for region in templates.regions
        for place in range(len(region.data))
    ]


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


def status_before(templates: Templates, settings: FitSettings) -> FitStatus:
    """Whether there is anything to fit: "ok", or why not."""
    if not templates.working_points:
        return next(iter(templates.left_out.values()))
    states = states_of(templates, settings)
    return "ok" if "ok" in states.values() else "absent"


def _without(templates: Templates, settings: FitSettings, status: FitStatus) -> BinFit:
    states = states_of(templates, settings)
    points = [_unmeasured(*which, state if state != "ok" else status, templates) for which, state in states.items()]
    return BinFit(templates, status, tuple(points))


def _unmeasured(group: str, working_point: str, status: FitStatus, templates: Templates) -> PointFit:
    n = sum(len(region.data) for region in templates.regions)
    return PointFit(group, working_point, status, np.nan, np.nan, {}, np.zeros(n))


@dataclass(frozen=True, slots=True)
class _Fitted:
    names: tuple[str, ...]
    values: FloatArray
    covariance: FloatArray


def _result(templates: Templates, settings: FitSettings, likelihood: Likelihood, model: Any, fitted: _Fitted) -> BinFit:
    data = likelihood.data
    points = [
        _point(which, state, templates, settings, likelihood, fitted)
        for which, state in states_of(templates, settings).items()
    ]
    before = np.concatenate([likelihood.start, np.ones(len(data))])
    start = dict(zip(model.config.par_names, model.config.suggested_init(), strict=True))
    end = start | dict(zip(fitted.names, fitted.values, strict=True))
    return BinFit(
        templates=templates,
        status="ok",
        points=tuple(points),
        names=fitted.names,
        values=fitted.values,
        covariance=fitted.covariance,
        before=_by_group(model, start, templates),
        after=_by_group(model, end, templates),
        error_before=_errors(_expectation(likelihood, before)[1], np.diag(_widths(likelihood) ** 2), templates),
        error_after=_errors(_expectation(likelihood, fitted.values)[1], fitted.covariance, templates),
        distance=_distance(model, list(end.values()), observed(model, templates)),
        degrees=len(data) - len(likelihood.factors),
    )


def _refused(found: BinFit) -> BinFit:
    """The same without scale factors, since the model does not describe the data."""
    points = [
        _unmeasured(each.group, each.working_point, "bad_fit", found.templates) if each.status == "ok" else each
        for each in found.points
    ]
    return replace(found, status="bad_fit", points=tuple(points))


def _point(
    which: tuple[str, str],
    state: FitStatus,
    templates: Templates,
    settings: FitSettings,
    likelihood: Likelihood,
    fitted: _Fitted,
) -> PointFit:
    group, working_point = which
    if state != "ok":
        return _unmeasured(group, working_point, state, templates)
    name = factor_of(templates, settings, group, working_point)
    if name is None or name not in fitted.names:
        return _unmeasured(group, working_point, "absent", templates)
    if (status := quality(group, name, templates, settings, likelihood, fitted)) != "ok":
        return _unmeasured(group, working_point, status, templates)
    by_data, by_source = _responses(name, likelihood, fitted)
    is_measured = _widths(likelihood) > 0
    shifts = {source: float(by_source[number]) for number, source in enumerate(fitted.names) if is_measured[number]}
    value, error = float(fitted.values[fitted.names.index(name)]), uncertainty(name, likelihood, fitted)
    return PointFit(group, working_point, "ok", value, error, shifts, by_data)


def quality(
    group: str,
    name: str,
    templates: Templates,
    settings: FitSettings,
    likelihood: Likelihood,
    fitted: _Fitted | Minimum,
) -> FitStatus:
    """Whether the scale factor of a group, the parameter `name` at a minimum, tells anything.

    How well it would be known if it were 1 decides, which does not fluctuate with it: to keep what is far from 0 in its
    uncertainties would keep what is too large.
    """
    place, high = fitted.names.index(name), factor_limits(templates, settings)[name]
    value = float(fitted.values[place])
    if (yield_name := FRACTION.format(group)) in fitted.names:
        pull = fitted.values[fitted.names.index(yield_name)]
        if pull < -LARGEST_PULL:
            return "absent"
    if min(value, high - value) < cross_check.NEAR_LIMIT * high:
        return "at_limit"
    expected = likelihood.expected_errors()[likelihood.names.index(name)]
    is_precise = expected <= LARGEST_EXPECTED_ERROR
    return "ok" if is_precise and 0 < uncertainty(name, likelihood, fitted) <= settings.largest_error else "imprecise"


def uncertainty(name: str, likelihood: Likelihood, fitted: _Fitted | Minimum) -> float:
    """Of a scale factor, as it is published: from numbers of data and all auxiliary measurements, to first order."""
    by_data, by_source = _responses(name, likelihood, fitted)
    return float(np.sqrt(likelihood.data @ by_data**2 + by_source @ by_source))


def _responses(name: str, likelihood: Likelihood, fitted: _Fitted | Minimum) -> tuple[FloatArray, FloatArray]:
    """Derivatives of a parameter by the data, (n_bins,), and its shifts by auxiliary measurements, (n_parameters,).

    Each of these moves up by its uncertainty; parameters without one do nothing.
    """
    row, widths = fitted.covariance[fitted.names.index(name)], _widths(likelihood)
    expected, slopes = _expectation(likelihood, fitted.values)
    return row @ slopes / expected, np.divide(row, widths, out=np.zeros_like(row), where=widths > 0)


def _widths(likelihood: Likelihood) -> FloatArray:
    """Uncertainties of the auxiliary measurements of all parameters, 0 for factors, which have none, (n,)."""
    return np.concatenate([np.zeros(len(likelihood.factors)), np.ones(len(likelihood.sources)), likelihood.errors])


def _expectation(likelihood: Likelihood, values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Of all bins, (n_bins,), and its derivatives by all parameters, template statistics last, (n, n_bins)."""
    n = len(likelihood.names)
    plain, statistical = likelihood.expected(values[:n]), values[n:]
    return statistical * plain, np.concatenate([statistical * likelihood.derivatives(values[:n]), np.diag(plain)])


def _errors(slopes: FloatArray, covariance: FloatArray, templates: Templates) -> tuple[FloatArray, ...]:
    """Uncertainty of the expectation of each region."""
    whole = np.sqrt(np.einsum("ib,ij,jb->b", slopes, covariance, slopes, optimize=True))
    ends = np.cumsum([len(region.data) for region in templates.regions])
    return tuple(np.split(whole, ends[:-1]))


def _by_group(model: Any, values: Mapping[str, float], templates: Templates) -> tuple[FloatArray, ...]:
    """Expectation of each region, (n_groups, n)."""
    rates = np.asarray(model.main_model.expected_data(list(values.values()), return_by_sample=True))
    parts = []
    for region in templates.regions:
        inside = rates[:, model.config.channel_slices[region.name]]
        rows = np.zeros((len(templates.groups), inside.shape[1]))
        for name, expected in zip(model.config.samples, inside, strict=True):
            rows[templates.groups.index(name.removesuffix(TIGHTER))] += expected
        parts.append(rows)
    return tuple(parts)


def _distance(model: Any, values: Sequence[float], data: FloatArray) -> float:
    """Of the minimum from the likelihood of a model that equals the data and all auxiliary measurements."""
    n = model.config.nmaindata
    observed = data[:n]
    log_main = observed * np.log(np.maximum(observed, 1e-300)) - observed - _log_factorial(observed)
    log_auxiliary = sum(-np.log(np.sqrt(2 * np.pi) * width) for width in widths(model).values())
    return -2 * float(model.logpdf(values, data)[0]) + 2 * float(log_main.sum() + log_auxiliary)


def _log_factorial(values: FloatArray) -> FloatArray:
    from scipy.special import gammaln

    return np.asarray(gammaln(values + 1))
