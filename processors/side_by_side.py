"""Jets that are measured side by side from the same events: as corrections leave them, and with a network on top.

Every kind of jet has datasets of its own in the histograms and an algorithm of its own in the corrections.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from processors.formats import default_jet_algo
from processors.jet_calibration import NETWORK_SUFFIX, calibrated_algo

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from processors.fileset import Dataset
    from processors.jet_calibration import JetCalibration


def jet_algo(dataset: Dataset) -> str:
    """Name of the jet algorithm of a dataset: its own, else AntiKt4 for PHYSLITE and AK4PF for everything else."""
    return dataset.jet_algo or default_jet_algo(dataset.schema or "")


def calibrations(dataset: Dataset, settings: JetCalibration) -> tuple[JetCalibration, ...]:
    """The calibration of each kind of jet of a dataset, the one without a network first."""
    without = replace(settings, onnx=None)
    if settings.onnx is None or not dataset.has_network:
        return (without,)
    return (without, settings) if settings.beside else (settings,)


def measured_name(dataset: Dataset, calibration: JetCalibration) -> str:
    """Name in the histograms of a dataset with jets of one kind."""
    return f"{dataset.name}_{NETWORK_SUFFIX}" if calibration.onnx else dataset.name


def measured_datasets(datasets: Sequence[Dataset], settings: JetCalibration) -> tuple[Dataset, ...]:
    """One dataset for each kind of jet of each dataset, with the name and the algorithm of what is measured.

    Those without a network come first.
    """
    found = [(dataset, calibration) for dataset in datasets for calibration in calibrations(dataset, settings)]
    return tuple(
        replace(
            dataset,
            name=measured_name(dataset, calibration),
            jet_algo=calibrated_algo(calibration, jet_algo(dataset)),
        )
        for dataset, calibration in sorted(found, key=lambda pair: pair[1].onnx is not None)
    )


def only_kinds(algos: Collection[str], settings: JetCalibration) -> JetCalibration:
    """`settings` without the kinds of jets of which none of `algos` is."""
    is_network = [algo.endswith(NETWORK_SUFFIX) for algo in algos]
    if settings.onnx is None or not is_network:
        return settings
    return replace(settings, onnx=settings.onnx if any(is_network) else None, beside=not all(is_network))


def read_for(names: Collection[str], datasets: Sequence[Dataset], settings: JetCalibration) -> set[str]:
    """Names of the datasets to be read for the measured ones of `names`."""
    return {d.name for d in datasets if any(measured_name(d, c) in names for c in calibrations(d, settings))}


def for_measured(
    values: Mapping[str, float], datasets: Sequence[Dataset], settings: JetCalibration
) -> dict[str, float]:
    """What is known by the name of a dataset, by the names of the measured ones."""
    return {
        measured_name(dataset, calibration): values[dataset.name]
        for dataset in datasets
        for calibration in calibrations(dataset, settings)
        if dataset.name in values
    }
