"""The passes of a run: widths from the histograms, residuals from smeared simulation, then all corrections applied."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from corrections import comparison, systematics
from corrections.correction_set import write_correction_set
from corrections.coverage import covered_points
from corrections.measurement import is_stable, largest_left, measure, moved, readjusted, refined, with_residual
from corrections.measurement import measured_again as again
from corrections.methods import with_methods
from corrections.pair_points import with_matrix
from corrections.results import RATIO
from corrections.rho_dependence import with_rho
from corrections.systematics import Variations
from processors.jet_calibration import Residual, Smearing
from processors.side_by_side import jet_algo, only_kinds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from corrections.comparison import Comparison
    from corrections.correction_set import Tags
    from corrections.results import Measurement
    from corrections.settings import MeasurementSettings
    from processors.binning import Binning
    from processors.dijet import DijetSettings
    from processors.fileset import Dataset
    from processors.histograms import Filled


def compare(
    filled: Filled, datasets: Sequence[Dataset], binning: Binning, factors: Mapping[str, float]
) -> tuple[Comparison, ...]:
    """Samples of each jet algorithm of the measured `datasets`; `factors` are the `normalisations`."""
    return comparison.comparisons(filled, datasets, jet_algo, binning, factors)


def lacking(compared: Sequence[Comparison]) -> list[str]:
    """What cannot be measured of each jet algorithm for want of a sample or of events."""
    notes = []
    for each in compared:
        if each.simulation is None:
            notes.append(f"{each.algo}: no nominal simulation, so nothing but histograms and cutflow is made")
        elif each.data is None:
            notes.append(f"{each.algo}: no data, so no scale factor and no residual response can be measured")
        for sample in (each.simulation, each.data):
            if sample is not None and len(sample.sums.asymmetry.bins) == 0:
                notes.append(f"{each.algo}: no event of {sample.name} passed the selection")
            elif sample is not None and not np.any(sample.moments()["weight_squared"]):
                notes.append(f"{each.algo}: all events of {sample.name} that passed the selection weigh nothing")
    return notes


def unmeasured(compared: Sequence[Comparison]) -> dict[str, str]:
    """Jet algorithms of which nothing can be measured, and why."""
    return {each.algo: "no nominal simulation to measure it with" for each in compared if each.simulation is None}


def normalisations(filled: Filled, datasets: Sequence[Dataset], generated: Mapping[str, float]) -> dict[str, float]:
    """Factor of each simulated dataset in the sum of its slices; `generated` are weights before any skim."""
    return comparison.normalisations(filled, datasets, jet_algo, generated)


def measure_all(compared: Sequence[Comparison], settings: MeasurementSettings, threads: int) -> tuple[Measurement, ...]:
    """Resolutions, and scale factors where there are data, of each jet algorithm that has a nominal simulation."""
    results = []
    for each in compared:
        if each.simulation is not None:
            measurement = measure(each.simulation, each.data, each.algo, settings, threads)
            measurement = with_methods(measurement, each.simulation, each.data, settings)
            results.append(with_rho(measurement, each.simulation, each.data, settings))
    return tuple(results)


def to_smear(datasets: Sequence[Dataset], measurements: Sequence[Measurement], settings: DijetSettings) -> set[str]:
    """Names of the nominal simulation whose scale factor was measured, which is what the residual needs smeared."""
    if settings.calibration.smearing is not None:
        return set()
    measured = _with_factor(measurements)
    return {d.name for d in datasets if d.is_mc and d.role == "nominal" and jet_algo(d) in measured}


def _with_factor(measurements: Sequence[Measurement]) -> set[str]:
    """Jet algorithms of which a scale factor was measured."""
    return {m.algo for m in measurements if any(p.is_measured for p in m.published("scale_factor", RATIO))}


def smeared_settings(
    measurements: Sequence[Measurement], settings: DijetSettings, tags: Tags, path: Path, rho: float
) -> DijetSettings:
    """Settings that smear simulation by the measured resolution and scale factor, which are written to `path`."""
    write_correction_set(measurements, tags, path, rho)
    smearing = Smearing(str(path), f"{tags.jer}_MC_PtResolution_{{algo}}", f"{tags.jer}_MC_ScaleFactor_{{algo}}")
    # the resolution of files without rho is the one at its mean
    own = settings.calibration.rho if settings.calibration.rho is not None else rho
    kinds = only_kinds(_with_factor(measurements), settings.calibration)
    calibration = replace(kinds, smearing=smearing, rho=own)
    plain = replace(settings.systematics, enabled=False)
    return replace(settings, calibration=calibration, systematics=plain, replicas=0)


def with_residuals(
    measurements: Sequence[Measurement],
    compared: Sequence[Comparison],
    smeared: Sequence[Comparison],
    settings: MeasurementSettings,
    threads: int = 1,
) -> tuple[Measurement, ...]:
    """The measurements with refined scale factors and residual responses, where data and smeared simulation are there.

    Simulation that the user has smeared already counts as smeared; its scale factor is left as it is.
    """
    by_algo = {each.algo: each for each in compared}
    smeared_by_algo = {each.algo: each.simulation for each in smeared}
    results = []
    for measurement in measurements:
        each = by_algo[measurement.algo]
        simulation = smeared_by_algo.get(measurement.algo)
        if each.data is None or each.simulation is None or simulation is None:
            results.append(measurement)
        else:
            if simulation is not each.simulation:
                measurement = refined(measurement, each.data, simulation, settings, threads)  # noqa: PLW2901
            measurement = with_residual(measurement, each.data, each.simulation, simulation, settings)  # noqa: PLW2901
            results.append(with_matrix(measurement, each.data, simulation, settings))
    return tuple(results)


def corrected_settings(
    measurements: Sequence[Measurement], settings: DijetSettings, tags: Tags, path: Path, rho: float
) -> DijetSettings:
    """Settings that apply the measured corrections, written to `path`, to both sides: smearing and the residual."""
    smeared = smeared_settings(measurements, settings, tags, path, rho)
    if any(covered_points(m, "residual") is None for m in measurements):
        return smeared
    residual = Residual(str(path), f"{tags.jec}_DATA_L1L2L3Res_{{algo}}")
    return replace(smeared, calibration=replace(smeared.calibration, residual=residual))


def to_correct(datasets: Sequence[Dataset], measurements: Sequence[Measurement], settings: DijetSettings) -> set[str]:
    """Names of the nominal simulation and of the data between which a scale factor was measured."""
    if settings.calibration.residual is not None:
        return set()  # a correction on top of that of the user cannot be applied
    simulated = to_smear(datasets, measurements, settings)
    algos = {jet_algo(d) for d in datasets if d.name in simulated}
    return simulated | {d.name for d in datasets if not d.is_mc and jet_algo(d) in algos}


def measured_again(
    measurements: Sequence[Measurement], corrected: Sequence[Comparison], how: MeasurementSettings, threads: int = 1
) -> tuple[Measurement, ...]:
    """The measurements with what is left of their corrections in the `corrected` samples."""
    by_algo = {each.algo: each for each in corrected}
    results = []
    for measurement in measurements:
        each = by_algo.get(measurement.algo)
        if each is not None and each.data is not None and each.simulation is not None:
            measurement = again(measurement, each.data, each.simulation, how, threads)  # noqa: PLW2901
        results.append(measurement)
    return tuple(results)


def are_stable(measurements: Sequence[Measurement]) -> bool:
    """Whether the corrections need not be applied once more."""
    return all(is_stable(each) for each in measurements)


def closer(first: Sequence[Measurement], second: Sequence[Measurement]) -> Sequence[Measurement]:
    """The one of two passes after which less was left, in units of its uncertainty."""
    return second if max(map(largest_left, second)) < max(map(largest_left, first)) else first


def with_moves(before: Sequence[Measurement], after: Sequence[Measurement], n_repeated: int) -> tuple[Measurement, ...]:
    """The measurements after repetition with what it changed, as checks, and a note where something is left."""
    if n_repeated == 0:
        return tuple(after)
    return tuple(moved(*pair, n_repeated) for pair in zip(before, after, strict=True))


def adjusted(measurements: Sequence[Measurement]) -> tuple[Measurement, ...]:
    """The measurements with what was left after their corrections put into these."""
    return tuple(readjusted(each) for each in measurements)


def with_systematics(
    measurements: Sequence[Measurement],
    compared: Sequence[Comparison],
    varied: Mapping[str, Sequence[Comparison]],
    how: MeasurementSettings,
    threads: int = 1,
    *,
    is_smeared: bool = True,
) -> tuple[Measurement, ...]:
    """The measurements with the shifts that every source of uncertainty makes; `varied` by name of the variation.

    `is_smeared` tells whether residuals come from simulation that was smeared by the measured scale factor.
    """
    results = []
    for measurement in measurements:
        nominal = _of(measurement.algo, compared)
        others = {name: _of(measurement.algo, each) for name, each in varied.items()}
        variations = Variations(nominal, others, how, threads, is_smeared)
        results.append(systematics.with_systematics(measurement, variations))
    return tuple(results)


def _of(algo: str, compared: Sequence[Comparison]) -> Comparison:
    return next(each for each in compared if each.algo == algo)


def mean_rho(compared: Sequence[Comparison]) -> float:
    """Mean rho of the simulated events used, GeV per unit area; of the data where there is no simulation, else 0.

    Samples whose files have no rho are left out of the mean.
    """
    for samples in ([each.simulation for each in compared], [each.data for each in compared]):
        moments = [sample.moments() for sample in samples if sample is not None]
        known = [each for each in moments if np.any(each["rho"])]
        weight = sum(float(np.sum(each["weight"])) for each in known)
        if weight > 0:
            return sum(float(np.sum(each["rho"])) for each in known) / weight
    return 0.0
