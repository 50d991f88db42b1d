"""Residual response from all pairs of |eta| bins as points, constant in pT or in bins of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from corrections.bin_fits import interval_of
from corrections.matrix_residual import Pairs, relative_response, smooth_residual
from corrections.methods import LAST_ALPHA
from corrections.residual import residual_of
from corrections.results import RATIO, Interval, Point

if TYPE_CHECKING:
    from corrections.matrix_residual import SmoothResidual
    from corrections.results import Measurement, Status
    from corrections.sample import Sample
    from corrections.settings import MeasurementSettings

FloatArray = NDArray[np.float64]

MATRIX, EXTRAPOLATED = "matrix", "matrix_extrapolated"
ROUNDING = 1e-6


def with_matrix(measurement: Measurement, data: Sample, smeared: Sample, settings: MeasurementSettings) -> Measurement:
    """`measurement` with the residuals of the matrix method, with the third-jet cut and extrapolated in alpha.

    `smeared` is simulation smeared by the scale factor. The method asked for in the settings is the published one.
    """
    points: list[Point] = []
    for method in (MATRIX, EXTRAPOLATED):
        fit = _fit(method, data, smeared, settings)
        copies = fit.copies(_mean_pt(data), data.n_replicas, f"{measurement.algo} {method}")
        for point, eta, b in _points(method, measurement.algo, fit, data, smeared):
            points.append(replace(point, copies=copies[:, eta, b]) if point.is_measured else point)
    has_any = any(p.is_measured and p.stat > 0 and p.method == settings.residual for p in points)
    whole = replace(measurement, points=(*measurement.points, *points))
    if settings.residual == measurement.residual_method:
        return whole
    if not has_any:
        note = f"measurement.residual {settings.residual} could not be measured; {whole.residual_method} is published"
        return replace(whole, notes=(*whole.notes, note))
    return replace(whole, residual_method=settings.residual)


def residuals_by(method: str, data: Sample, simulation: Sample, settings: MeasurementSettings) -> dict[Interval, float]:
    """Response of `simulation` over that of `data` by a method per |eta| bin outside the reference region.

    By the matrix methods it is the one in the middle of the bin's range of pT.
    """
    if method in (MATRIX, EXTRAPOLATED):
        fit = _fit(method, data, simulation, settings)
        values = np.exp(fit.parameters[:, 0])
        return {interval_of(simulation, eta): float(values[eta]) for eta in _outer(simulation)}
    return {interval_of(simulation, eta): residual_of(data, simulation, eta, settings) for eta in _outer(simulation)}


def _outer(simulation: Sample) -> list[int]:
    return [eta for eta in range(simulation.binning.shape[0]) if eta not in simulation.binning.reference_bins]


def _fit(method: str, data: Sample, simulation: Sample, settings: MeasurementSettings) -> SmoothResidual:
    reference = simulation.binning.reference_bins
    weights = _reference_weights(data)
    alpha = None
    if method == EXTRAPOLATED:
        edges = data.binning.alpha_edges
        alpha = (0.5 * (edges[1:] + edges[:-1]))[edges[1:] <= LAST_ALPHA + 1e-9]
    measured, simulated = (
        relative_response(
            _pairs(sample, alpha, settings.jet_threshold), reference, weights, alpha, settings.min_effective
        )
        for sample in (data, simulation)
    )
    return smooth_residual(measured, simulated, _mean_pt(data))


def _pairs(sample: Sample, alpha: FloatArray | None, jet_threshold: float) -> Pairs:
    """All pairs with the third-jet cut, or in exclusive bins of alpha whatever the third jet.

    Bins of alpha in which third jets lie below `jet_threshold` (GeV), so that they are not seen, are left empty.
    """
    grid = sample.matrix()
    names = ("weight", "weight_squared", "asymmetry", "asymmetry_squared")
    if alpha is None:
        return Pairs(*(grid[name][..., 1].sum(axis=-1) for name in names))
    binning = sample.binning
    is_seen = binning.alpha_edges[: len(alpha)] >= jet_threshold / binning.pt_avg_edges[:-1, None] - 1e-9
    return Pairs(*(grid[name].sum(axis=-1)[..., : len(alpha)] * is_seen for name in names))


def _reference_weights(data: Sample) -> FloatArray:
    """How many pairs of data each reference bin has, equal ones where there are none."""
    reference = list(data.binning.reference_bins)
    weight = data.matrix()["weight"].sum(axis=(2, 3, 4))
    total = (weight.sum(axis=0) + weight.sum(axis=1))[reference]
    return total if np.all(total > 0) else np.ones(len(reference))


def _mean_pt(data: Sample) -> FloatArray:
    """Mean pt_avg of each bin, (n_pt,), GeV; its middle in the logarithm where there are no events."""
    moments = data.moments()
    weight, weighted = moments["weight"].sum(axis=(0, 1)), moments["pt_avg"].sum(axis=(0, 1))
    edges = data.binning.pt_avg_edges
    mean: FloatArray = np.divide(weighted, weight, out=np.sqrt(edges[1:] * edges[:-1]), where=weight > 0)
    return mean


def _known(value: float, error: float) -> tuple[float, float]:
    """Value and error, 1 and 0 where rounding is all that keeps them from it."""
    return (1.0, 0.0) if error < ROUNDING and abs(value - 1) < ROUNDING else (value, error)


def _points(
    method: str, algo: str, fit: SmoothResidual, data: Sample, simulation: Sample
) -> list[tuple[Point, int, int]]:
    """The points with the |eta| bin and the bin of pT whose value they have."""
    edges, means = data.binning.pt_avg_edges, _mean_pt(data)
    everything = Interval(float(edges[0]), float(edges[-1]))
    values, errors = fit(means)
    found = []
    for eta in range(len(fit.pivot)):
        interval = interval_of(simulation, eta)
        status: Status = str(fit.status[eta])  # type: ignore[assignment]

        def make(
            pt: Interval,
            centre: float,
            value: float,
            error: float,
            interval: Interval = interval,
            status: Status = status,
        ) -> Point:
            return Point("residual", RATIO, algo, method, "", interval, pt, centre, *_known(value, error), status)

        if fit.is_constant[eta] or status != "ok":
            value, error = float(values[eta, 0]), float(errors[eta, 0])
            found.append((make(everything, float(fit.pivot[eta]), value, error), eta, 0))
            continue
        for b in np.flatnonzero(fit.used[eta]):
            pt = Interval(float(edges[b]), float(edges[b + 1]))
            found.append((make(pt, float(means[b]), float(values[eta, b]), float(errors[eta, b])), eta, int(b)))
    return found
