"""The likelihood of a pass/fail fit once more, without pyhf: plain numpy, template statistics solved for in each bin.

The factor g of a bin, known to 1 +- s, is at the minimum where

    g^2 + (s^2 nu - 1) g - s^2 n = 0,

nu the expectation without it and n the data, so that only scale factors and sources are left to Minuit. The minimum is
that of the full likelihood (Barlow and Beeston, Comput. Phys. Commun. 77, 219; Conway, arXiv:1103.0354).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from corrections.tagging.samples import FACTOR, parameter_limit, samples_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from iminuit import Minuit

    from corrections.tagging.counts import FloatArray
    from corrections.tagging.samples import Sample
    from corrections.tagging.settings import FitSettings
    from corrections.tagging.templates import Templates

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

    def expected(self, parameters: FloatArray) -> FloatArray:
        """Expectation of each bin without the factors of template statistics, (n_bins,)."""
        n = len(self.factors)
        factors, pulls = parameters[:n], parameters[n:]
        scale = np.prod(np.where(self.has_factor > 0, factors[:, None], 1.0), axis=0)
        rates = np.prod(self._rates(pulls), axis=0)
        shapes = self.nominal + self._deltas(pulls)
        return np.asarray(((scale * rates)[:, None] * shapes).sum(axis=0))

    def statistic(self, parameters: FloatArray, data: FloatArray, centres: FloatArray, known: FloatArray) -> float:
        """-2 log L up to a constant, at the best factors of template statistics.

        `data` (n_bins,), `centres` (n_bins,) and `known` (n_sources,) are the measured values of counts, of the factors
        of template statistics, and of the sources.
        """
        expected = np.maximum(self.expected(parameters), 1e-12)
        factors = self.statistical_factors(expected, data, centres)
        pulls = parameters[len(self.factors) :] - known
        nu = factors * expected
        of_data = 2 * np.sum(nu - data * np.log(nu))
        width = np.where(self.errors > 0, self.errors, 1.0)
        return float(of_data + np.sum(((factors - centres) / width) ** 2) + np.sum(pulls**2))

    def statistical_factors(self, expected: FloatArray, data: FloatArray, centres: FloatArray) -> FloatArray:
        """The factor of each bin that its data and its own uncertainty prefer, (n_bins,)."""
        square = self.errors**2
        half = 0.5 * (centres - square * expected)
        solved = half + np.sqrt(half**2 + square * data)
        return np.asarray(np.where(self.errors > 0, np.maximum(solved, 1e-10), 1.0))

    def _rates(self, pulls: FloatArray) -> FloatArray:
        """Factors of the yields, (n_sources, n_samples): a polynomial within one, exponential outside."""
        powers = pulls[:, None] ** _ORDERS
        inside = 1 + np.einsum("so,osk->sk", powers, self.polynomials)
        outside = np.exp(np.abs(pulls)[:, None] * np.where(pulls[:, None] > 0, self.logs[0], self.logs[1]))
        return np.asarray(np.where(np.abs(pulls)[:, None] < 1, inside, outside))

    def _deltas(self, pulls: FloatArray) -> FloatArray:
        """What shapes add, (n_samples, n_bins): a polynomial within one, straight lines outside."""
        size = np.abs(pulls)
        even = np.where(size < 1, (15 * pulls**2 - 10 * pulls**4 + 3 * pulls**6) / 8, size)
        moved = np.tensordot(pulls, self.straight, 1) + np.tensordot(even, self.bent, 1)
        return np.asarray(moved)


def likelihood(templates: Templates, settings: FitSettings) -> Likelihood:
    """The model of `corrections.tagging.samples` as arrays."""
    samples = samples_of(templates, settings)
    factors = tuple(sorted({name for each in samples for name in each.factors}))
    sources = tuple(sorted({name for each in samples for name in each.sources}))
    n_pass, n_fail = len(templates.passing.data), len(templates.failing.data)
    places = {"pass": slice(0, n_pass), "fail": slice(n_pass, n_pass + n_fail)}

    def placed(sample: Sample, values: FloatArray) -> FloatArray:
        whole = np.zeros(n_pass + n_fail)
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
        data=np.concatenate([templates.passing.data, templates.failing.data]),
        errors=np.sqrt(variance) / nominal.sum(axis=0),
        nominal=nominal,
        factors=factors,
        sources=sources,
        limits=_limits(factors, templates),
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
    """The minimum, with the covariance of factors and sources; what is not given is that of the measurement."""
    from iminuit import Minuit

    observed = model.data if data is None else data
    middle = np.ones(len(observed)) if centres is None else centres
    sources = np.zeros(len(model.sources)) if known is None else known
    start = np.concatenate([np.ones(len(model.factors)), np.zeros(len(model.sources))])
    minuit = Minuit(lambda x: model.statistic(np.asarray(x), observed, middle, sources), start, name=model.names)
    minuit.errordef = Minuit.LEAST_SQUARES
    minuit.limits = [*model.limits, *[(-5.0, 5.0)] * len(model.sources)]
    minuit.errors = 0.1
    minuit.strategy = 0
    minuit.tol = 0.01
    minuit.migrad(ncall=100_000)
    minuit.hesse()
    if not minuit.valid:
        minuit.strategy = 2
        minuit.migrad(ncall=200_000)
        minuit.hesse()
    return minuit


def _limits(factors: Sequence[str], templates: Templates) -> tuple[tuple[float, float], ...]:
    groups = {FACTOR.format(group): group for group in templates.groups}
    return tuple((0.0, parameter_limit(templates, groups[name]) if name in groups else 10.0) for name in factors)


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


def factors_of(minuit: Minuit, groups: Sequence[str]) -> Mapping[str, tuple[float, float]]:
    """Value and uncertainty of the scale factor of each group that was measured."""
    names = {group: FACTOR.format(group) for group in groups}
    return {
        group: (float(minuit.values[name]), float(minuit.errors[name]))
        for group, name in names.items()
        if name in minuit.parameters
    }


def drawn(
    model: Likelihood, parameters: FloatArray, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """A toy at known parameters: counts of data, and what was measured of template statistics and of the sources."""
    data = rng.poisson(np.maximum(model.expected(parameters), 0.0)).astype(np.float64)
    centres = rng.normal(1.0, model.errors)
    known = rng.normal(parameters[len(model.factors) :], 1.0)
    return data, centres, known
