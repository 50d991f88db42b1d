"""Residual response from the mean asymmetry (eta intercalibration with a central reference).

The response of a probe relative to the reference region is R = (2 + <A>)/(2 - <A>); the correction for data is
R(simulation)/R(data). Where data are wider than simulation, <A> moves by about half the difference of the squared
widths times (spectrum power - 2), so the simulation is to be smeared by the scale factor before it is compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from corrections.resolution import replica_spread
from corrections.sample import effective_count
from corrections.stacks import FORWARD
from processors.observables import response_from_asymmetry

if TYPE_CHECKING:
    from corrections.sample import Sample, Spectra
    from corrections.settings import MeasurementSettings

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Responses:
    """Relative response per bin of pt_avg, (n_pt,) each.

    `value` and `error`, bootstrap copies `replicas` (n_replicas, n_pt), and what the error is made of: the `effective`
    number of events, and the variance of log(response) of one of them, `spread`.
    """

    value: FloatArray
    error: FloatArray
    replicas: FloatArray
    effective: FloatArray
    spread: FloatArray


@dataclass(frozen=True, slots=True)
class Residual:
    """Correction factor of one |eta| bin, constant in pT; nan where no bin could be compared.

    `copies` (n_replicas,) are its bootstrap copies.
    """

    value: float
    error: float
    copies: FloatArray


def relative_responses(sample: Sample, eta: int) -> Responses:
    """Response of the probe in |eta| bin `eta` to the reference region, from the forward events."""
    spectra = sample.spectra(eta, FORWARD)
    edges = sample.binning.asymmetry_edges
    mean, error = mean_asymmetry(spectra, edges)
    centres = 0.5 * (edges[1:] + edges[:-1])
    with np.errstate(invalid="ignore", divide="ignore"):
        copies = (spectra.replicas @ centres) / spectra.replicas.sum(axis=-1)
    value = response_from_asymmetry(mean)
    # dR/d<A> = 4 / (2 - <A>)^2
    error = error * 4 / (2 - mean) ** 2
    effective = spectra.effective
    return Responses(value, error, response_from_asymmetry(copies), effective, effective * (error / value) ** 2)


def residual_of(data: Sample, simulation: Sample, eta: int, settings: MeasurementSettings) -> float:
    """Response of `simulation` over that of `data` in one |eta| bin, constant in pT; nan where it is not known."""
    responses = relative_responses(data, eta), relative_responses(simulation, eta)
    return fit_residual(*responses, responses[1], comparable(data, simulation, eta, settings)).value


def comparable(data: Sample, simulation: Sample, eta: int, settings: MeasurementSettings) -> NDArray[np.bool_]:
    """Bins of pt_avg with forward events enough for a mean asymmetry on both sides, (n_pt,)."""
    few = data.spectra(eta, FORWARD).effective < settings.min_data
    return np.asarray(~few & (simulation.spectra(eta, FORWARD).effective >= settings.min_effective))


def mean_asymmetry(spectra: Spectra, edges: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean of A and its error per bin of pt_avg, (n_pt,) each; nan below two effective events."""
    centres = 0.5 * (edges[1:] + edges[:-1])
    total = spectra.counts.sum(axis=-1)
    effective = effective_count(total, spectra.variances.sum(axis=-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (spectra.counts @ centres) / total
        variance = (spectra.counts @ centres**2) / total - mean**2
        error = np.sqrt(np.maximum(variance, 0.0) / effective)
    enough = effective >= 2
    return np.where(enough, mean, np.nan), np.where(enough, error, np.nan)


def fit_residual(data: Responses, simulation: Responses, unsmeared: Responses, usable: NDArray[np.bool_]) -> Residual:
    """Constant response(simulation)/response(data) over the `usable` bins of pt_avg.

    Both sides weigh with the spread of A that the simulation has: that of a few events of data goes with their mean,
    and would pull the average.

    `simulation` is smeared by the scale factor; `unsmeared` is the same simulation as it was, whose bootstrap copies
    stand for the statistical fluctuations of both.
    """
    log_ratio = np.log(simulation.value) - np.log(data.value)
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = simulation.spread * (1 / data.effective + 1 / simulation.effective)
    used = usable & np.isfinite(log_ratio) & (variance > 0)
    if not used.any():
        return Residual(np.nan, np.nan, np.zeros(0))
    weight = np.where(used, 1 / np.where(used, variance, 1.0), 0.0)
    value = float(np.exp(np.sum(weight[used] * log_ratio[used]) / weight.sum()))
    copies = np.log(unsmeared.replicas) - np.log(data.replicas) if len(data.replicas) else np.zeros((0, len(used)))
    means = np.sum(weight[used] * copies[:, used], axis=1) / weight.sum()
    spread = float(replica_spread(means))
    error = spread if np.isfinite(spread) else float(1 / np.sqrt(weight.sum()))
    return Residual(value, value * error, np.exp(means))
