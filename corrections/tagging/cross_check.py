"""The likelihood of a fit once more, without pyhf: plain numpy, template statistics solved for in each bin.

The factor g of a bin, known to 1 +- s, is at the minimum where

    g^2 + (s^2 nu - 1) g - s^2 n = 0,

nu the expectation without it and n the data, so that only scale factors and sources are left to Minuit. The minimum is
that of the full likelihood (Barlow and Beeston, Comput. Phys. Commun. 77, 219; Conway, arXiv:1103.0354). First and
second derivatives are known too, so that neither gradients nor the covariance of all parameters take many evaluations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from corrections.tagging.samples import LARGEST_FACTOR, factor_limits, samples_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from iminuit import Minuit
    from numpy.typing import NDArray

    from corrections.tagging.counts import FloatArray
    from corrections.tagging.samples import Sample
    from corrections.tagging.settings import FitSettings
    from corrections.tagging.templates import Templates

    BoolArray = NDArray[np.bool_]

SMALLEST = 1e-12
# Those of pyhf.
SOURCE_LIMITS = (-5.0, 5.0)
# Of the range, from its ends.
NEAR_LIMIT = 1e-3
STEP = 1e-4
# Matrix of the conditions on value, slope and curvature of a polynomial of sixth order at 1 and -1.
_SIDES = np.array([1.0, -1.0])
_ORDERS = np.arange(1, 7)
_CONDITIONS = np.concatenate(
    [
        _SIDES[:, None] ** _ORDERS,
        _ORDERS * _SIDES[:, None] ** (_ORDERS - 1),
        _ORDERS * (_ORDERS - 1) * _SIDES[:, None] ** (_ORDERS - 2),
    ]
)


@dataclass(frozen=True, slots=True)
class Likelihood:
    """The model as arrays: samples lie along the first axis of all, their channel is part of the bins.

    Attributes
    ----------
    data, errors
        (n_bins,); `errors` are relative, of the sum of all samples.
    nominal
        (n_samples, n_bins), zero outside the own channel.
    factors, sources
        Names of the free factors and of the constrained sources.
    has_factor
        (n_factors, n_samples).
    straight, bent
        Coefficients of the shapes (n_sources, n_samples, n_bins), see `_deltas`.
    polynomials, logs
        Of the rates: (6, n_sources, n_samples), and logarithms of the factors at 1 and -1 (2, n_sources, n_samples).
    """

    data: FloatArray
    errors: FloatArray
    nominal: FloatArray
    factors: tuple[str, ...]
    sources: tuple[str, ...]
    limits: tuple[tuple[float, float], ...]
    has_factor: FloatArray
    straight: FloatArray
    bent: FloatArray
    polynomials: FloatArray
    logs: FloatArray

    @property
    def names(self) -> tuple[str, ...]:
        """Parameters in order."""
        return (*self.factors, *self.sources)

    @property
    def start(self) -> FloatArray:
        """Scale factors of 1, and sources as they were measured, (n_parameters,)."""
        return np.concatenate([np.ones(len(self.factors)), np.zeros(len(self.sources))])

    def expected(self, parameters: FloatArray) -> FloatArray:
        """Expectation of each bin without the factors of template statistics, (n_bins,)."""
        n = len(self.factors)
        scale = self._scales(parameters[:n]) * np.prod(self._rates(parameters[n:])[0], axis=0)
        return np.asarray(scale @ (self.nominal + self._deltas(parameters[n:])))

    def derivatives(self, parameters: FloatArray) -> FloatArray:
        """D expectation / d parameter, (n_parameters, n_bins)."""
        n = len(self.factors)
        factors, pulls = parameters[:n], parameters[n:]
        scales = self._scales(factors)
        rates, slopes = self._rates(pulls)
        rate = np.prod(rates, axis=0)
        shapes = self.nominal + self._deltas(pulls)
        found = np.empty((len(parameters), shapes.shape[1]))
        for place in range(n):
            others = factors.copy()
            others[place] = 1.0
            found[place] = (self.has_factor[place] * self._scales(others) * rate) @ shapes
        size = np.abs(pulls)
        even = np.where(size < 1, (30 * pulls - 40 * pulls**3 + 18 * pulls**5) / 8, np.sign(pulls))
        bent = np.einsum("s,ksb->kb", scales * rate, self.bent)
        straight = np.einsum("s,ksb->kb", scales * rate, self.straight)
        found[n:] = (scales * rate * slopes / rates) @ shapes + straight + even[:, None] * bent
        return found

    def statistic(self, parameters: FloatArray, data: FloatArray, centres: FloatArray, known: FloatArray) -> float:
        """-2 log L up to a constant, at the best factors of template statistics.

        `data` (n_bins,), `centres` (n_bins,) and `known` (n_sources,) are the measured values of counts, of the factors
        of template statistics, and of the sources.
        """
        expected = np.maximum(self.expected(parameters), SMALLEST)
        factors = self.statistical_factors(expected, data, centres)
        pulls = parameters[len(self.factors) :] - known
        nu = factors * expected
        of_data = 2 * np.sum(nu - data * np.log(nu))
        width = np.where(self.errors > 0, self.errors, 1.0)
        return float(of_data + np.sum(((factors - centres) / width) ** 2) + np.sum(pulls**2))

    def gradient(self, parameters: FloatArray, data: FloatArray, centres: FloatArray, known: FloatArray) -> FloatArray:
        """That of `statistic`, (n_parameters,); the factors of template statistics are at their minimum."""
        expected = np.maximum(self.expected(parameters), SMALLEST)
        factors = self.statistical_factors(expected, data, centres)
        found = 2 * self.derivatives(parameters) @ (factors - data / expected)
        found[len(self.factors) :] += 2 * (parameters[len(self.factors) :] - known)
        return np.asarray(found)

    def covariance(self, parameters: FloatArray, data: FloatArray, centres: FloatArray) -> FloatArray:
        """Of all parameters and then of the factors of template statistics, (n_parameters + n_bins,) squared.

        Half of the second derivatives of -2 log L, inverted. What is at a limit, and a factor without uncertainty,
        counts as fixed and has none. Nan where the derivatives are not those of a minimum.
        """
        n = len(parameters)
        expected = np.maximum(self.expected(parameters), SMALLEST)
        factors = self.statistical_factors(expected, data, centres)
        slopes = self.derivatives(parameters)
        has_errors = self.errors > 0
        is_open = np.concatenate([~self.at_limit(parameters), has_errors])
        whole = np.zeros((n + len(data), n + len(data)))
        whole[:n, :n] = (slopes * data / expected**2) @ slopes.T
        whole[:n, :n] += self._curvature(parameters, factors - data / expected)
        whole[range(len(self.factors), n), range(len(self.factors), n)] += 1.0
        whole[:n, n:], whole[n:, :n] = slopes, slopes.T
        own = data / factors**2 + 1 / np.where(has_errors, self.errors, 1.0) ** 2
        whole[range(n, n + len(data)), range(n, n + len(data))] = own
        found = np.zeros_like(whole)
        found[np.ix_(is_open, is_open)] = _inverse(whole[np.ix_(is_open, is_open)])
        return found

    def expected_errors(self) -> FloatArray:
        """Uncertainty of each parameter if data were what is expected of scale factors of 1, (n_parameters,).

        To first order, and whatever the data are; nan where no data of that size could tell parameters apart.
        """
        expected, slopes = np.maximum(self.expected(self.start), SMALLEST), self.derivatives(self.start)
        information = (slopes / (expected + (self.errors * expected) ** 2)) @ slopes.T
        constrained = range(len(self.factors), len(slopes))
        information[constrained, constrained] += 1.0
        return np.asarray(np.sqrt(np.diagonal(_inverse(information))))

    def at_limit(self, parameters: FloatArray) -> BoolArray:
        """Which parameters are at an end of their range, (n_parameters,)."""
        low, high = np.transpose([*self.limits, *[SOURCE_LIMITS] * len(self.sources)])
        return np.asarray(np.minimum(parameters - low, high - parameters) < NEAR_LIMIT * (high - low))

    def _curvature(self, parameters: FloatArray, weights: FloatArray) -> FloatArray:
        """Sum over bins of `weights` times second derivatives of the expectation, (n_parameters, n_parameters)."""
        found = np.empty((len(parameters), len(parameters)))
        for place in range(len(parameters)):
            step = np.zeros(len(parameters))
            step[place] = STEP
            found[place] = (self.derivatives(parameters + step) - self.derivatives(parameters - step)) @ weights
        found /= 2 * STEP
        return np.asarray(0.5 * (found + found.T))

    def statistical_factors(self, expected: FloatArray, data: FloatArray, centres: FloatArray) -> FloatArray:
        """The factor of each bin that its data and its own uncertainty prefer, (n_bins,)."""
        square = self.errors**2
        half = 0.5 * (centres - square * expected)
        solved = half + np.sqrt(half**2 + square * data)
        return np.asarray(np.where(self.errors > 0, np.maximum(solved, 1e-10), 1.0))

    def _scales(self, factors: FloatArray) -> FloatArray:
        """Product of the free factors of each sample, (n_samples,)."""
        return np.asarray(np.prod(np.where(self.has_factor > 0, factors[:, None], 1.0), axis=0))

    def _rates(self, pulls: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Factors of the yields and their slopes, (n_sources, n_samples): polynomials within one, powers outside."""
        powers, lower = pulls[:, None] ** _ORDERS, _ORDERS * pulls[:, None] ** (_ORDERS - 1)
        is_inside = np.abs(pulls)[:, None] < 1
        log = np.where(pulls[:, None] > 0, self.logs[0], self.logs[1])
        outside = np.exp(np.abs(pulls)[:, None] * log)
        rates = np.where(is_inside, 1 + np.einsum("so,osk->sk", powers, self.polynomials), outside)
        of_outside = np.sign(pulls)[:, None] * log * outside
        slopes = np.where(is_inside, np.einsum("so,osk->sk", lower, self.polynomials), of_outside)
        return rates, slopes

    def _deltas(self, pulls: FloatArray) -> FloatArray:
        """What shapes add, (n_samples, n_bins): a polynomial within one, straight lines outside."""
        size = np.abs(pulls)
        even = np.where(size < 1, (15 * pulls**2 - 10 * pulls**4 + 3 * pulls**6) / 8, size)
        return np.asarray(np.tensordot(pulls, self.straight, 1) + np.tensordot(even, self.bent, 1))


def likelihood(templates: Templates, settings: FitSettings) -> Likelihood:
    """The model of `corrections.tagging.samples` as arrays."""
    samples = samples_of(templates, settings)
    factors = tuple(sorted({name for each in samples for name in each.factors}))
    sources = tuple(sorted({name for each in samples for name in each.sources}))
    ends = np.cumsum([0, *(len(region.data) for region in templates.regions)])
    places = {region.name: slice(*ends[k : k + 2]) for k, region in enumerate(templates.regions)}
    limits = factor_limits(templates, settings)

    def placed(sample: Sample, values: FloatArray) -> FloatArray:
        whole = np.zeros(ends[-1])
        whole[places[sample.channel]] = values
        return whole

    nominal = np.array([placed(each, each.nominal) for each in samples])
    variance = np.sum([placed(each, each.errors) ** 2 for each in samples], axis=0)
    shifts = _shape_shifts(samples, sources, placed, nominal.shape[1])
    rates = np.ones((2, len(sources), len(samples)))
    for place, sample in enumerate(samples):
        for name, variation in sample.sources.items():
            rates[:, sources.index(name), place] = variation.rate
    logs = np.log(rates)
    return Likelihood(
        data=np.concatenate([region.data for region in templates.regions]),
        errors=np.sqrt(variance) / nominal.sum(axis=0),
        nominal=nominal,
        factors=factors,
        sources=sources,
        limits=tuple((0.0, limits.get(name, LARGEST_FACTOR)) for name in factors),
        has_factor=np.array([[float(name in each.factors) for each in samples] for name in factors]),
        straight=0.5 * (shifts[0] - shifts[1]),
        bent=0.5 * (shifts[0] + shifts[1]),
        polynomials=_polynomials(rates, logs),
        logs=logs,
    )


def minimise(
    model: Likelihood,
    data: FloatArray | None = None,
    centres: FloatArray | None = None,
    known: FloatArray | None = None,
) -> Minuit:
    """Factors and sources at the minimum; what is not given is that of the measurement."""
    from iminuit import Minuit

    observed = model.data if data is None else data
    middle = np.ones(len(observed)) if centres is None else centres
    sources = np.zeros(len(model.sources)) if known is None else known
    minuit = Minuit(
        lambda x: model.statistic(np.asarray(x), observed, middle, sources),
        model.start,
        grad=lambda x: model.gradient(np.asarray(x), observed, middle, sources),
        name=model.names,
    )
    minuit.errordef = Minuit.LEAST_SQUARES
    minuit.limits = [*model.limits, *[SOURCE_LIMITS] * len(model.sources)]
    minuit.errors = 0.1
    minuit.strategy = 0
    minuit.tol = 0.01
    minuit.migrad(ncall=100_000)
    if not minuit.valid:
        minuit.strategy = 2
        minuit.migrad(ncall=200_000)
    return minuit


@dataclass(frozen=True, slots=True)
class Minimum:
    """Where the likelihood is largest: factors and sources by name, with their uncertainties.

    `values` and `covariance` have factors, sources and then the factors of template statistics. They are of no use
    unless `is_valid`.
    """

    is_valid: bool
    names: tuple[str, ...]
    values: FloatArray
    covariance: FloatArray

    def value(self, name: str) -> tuple[float, float]:
        """That of a parameter, and its uncertainty."""
        place = self.names.index(name)
        return float(self.values[place]), float(np.sqrt(self.covariance[place, place]))


def minimum(
    model: Likelihood,
    data: FloatArray | None = None,
    centres: FloatArray | None = None,
    known: FloatArray | None = None,
) -> Minimum:
    """The minimum that Minuit finds and its covariance; what is not given is that of the measurement."""
    observed = model.data if data is None else data
    middle = np.ones(len(observed)) if centres is None else centres
    minuit = minimise(model, data, centres, known)
    point = np.array(minuit.values)
    statistical = model.statistical_factors(np.maximum(model.expected(point), SMALLEST), observed, middle)
    covariance = model.covariance(point, observed, middle)
    is_valid = bool(minuit.valid) and bool(np.isfinite(covariance).all())
    return Minimum(is_valid, model.names, np.concatenate([point, statistical]), covariance)


def _inverse(matrix: FloatArray) -> FloatArray:
    """The inverse of a positive definite matrix, nan where it is not."""
    from scipy.linalg import LinAlgError, cho_factor, cho_solve

    # parameters of very different sizes: unit diagonal first
    if not np.diagonal(matrix).min() > 0:
        return np.full_like(matrix, np.nan)
    size = np.sqrt(np.diagonal(matrix))
    try:
        solved = cho_solve(cho_factor(matrix / np.outer(size, size)), np.eye(len(matrix)))
    except (LinAlgError, ValueError):
        return np.full_like(matrix, np.nan)
    return np.asarray(solved / np.outer(size, size))


def _shape_shifts(
    samples: Sequence[Sample], sources: Sequence[str], placed: Callable[[Sample, FloatArray], FloatArray], n_bins: int
) -> FloatArray:
    """Yields at 1 and -1 less the nominal ones, (2, n_sources, n_samples, n_bins)."""
    shifts = np.zeros((2, len(sources), len(samples), n_bins))
    for place, sample in enumerate(samples):
        for name, variation in sample.sources.items():
            for side in range(2):
                moved = placed(sample, variation.shape[side] - sample.nominal)
                shifts[side, sources.index(name), place] = moved
    return shifts


def _polynomials(rates: FloatArray, logs: FloatArray) -> FloatArray:
    """Coefficients (6, n_sources, n_samples) that go on from the exponentials with two continuous derivatives."""
    slopes = _SIDES[:, None, None] * logs * rates
    conditions = np.concatenate([rates - 1, slopes, logs**2 * rates])
    return np.asarray(np.linalg.solve(_CONDITIONS, conditions.reshape(6, -1)).reshape(6, *rates.shape[1:]))


def drawn(
    model: Likelihood, parameters: FloatArray, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """A toy at known parameters: counts of data, and what was measured of template statistics and of the sources."""
    data = rng.poisson(np.maximum(model.expected(parameters), 0.0)).astype(np.float64)
    centres = rng.normal(1.0, model.errors)
    known = rng.normal(parameters[len(model.factors) :], 1.0)
    return data, centres, known
