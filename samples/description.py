"""What a sample is (fileset.json) and what was put into it (injected.json), which a measurement must give back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from samples.counts import SampleCounts
    from samples.response import DetectorSettings
    from samples.skim import SkimSettings
    from samples.triggers import TriggerMenu

REFERENCE_REGION = (0.2, 0.7)
"""|eta|; dijets measure responses relative to this region."""


def describe_detector(settings: DetectorSettings) -> dict[str, Any]:
    """Parameters of the detector per |eta| bin and the formulas they enter, in words."""
    reference = settings.response[settings.eta_edges.index(REFERENCE_REGION[0])]
    rho = settings.rho_per_interaction * settings.interactions[0] + 1.5
    tail_fraction = np.asarray(settings.tail_fraction)
    return {
        "abs_eta_edges": list(settings.eta_edges),
        "reference_region": list(REFERENCE_REGION),
        "scale_factor": list(settings.scale_factor),
        "response": list(settings.response),
        "response_relative": [value / reference for value in settings.response],
        "residual_relative": [reference / value for value in settings.response],
        "noise": list(settings.noise),
        "noise_rho": list(settings.noise_rho),
        "stochastic": list(settings.stochastic),
        "constant": list(settings.constant),
        "tail_fraction": list(settings.tail_fraction),
        "tail_width": settings.tail_width,
        "rms_over_core": np.sqrt(1.0 + tail_fraction * (settings.tail_width**2 - 1.0)).tolist(),
        "mean_rho": rho,
        "noise_at_mean_rho": [
            float(np.hypot(noise, slope * np.sqrt(rho)))
            for noise, slope in zip(settings.noise, settings.noise_rho, strict=True)
        ],
        "formulas": {
            "resolution": "core sigma/pT = sqrt((noise^2 + noise_rho^2 rho)/pT^2 + stochastic^2/pT + constant^2), "
            "at truth pT and truth |eta|, simulation",
            "simulation": "reco pT / truth pT = 1 + delta; delta is Gaussian with the core sigma, for a part "
            "tail_fraction of the jets tail_width times wider",
            "data": "reco pT / truth pT = response x (1 + scale_factor x delta): width over mean is scale_factor "
            "times that of simulation, core and tails alike",
            "bins": "the last |eta| bin also holds for jets beyond its edge",
            "response_relative": "response / response in the reference region; residual_relative is its inverse, the "
            "factor that an analysis gives for data",
        },
    }


def describe_triggers(menu: TriggerMenu) -> list[dict[str, Any]]:
    """Triggers in the form of a fileset's metadata."""
    return [
        {"path": path, "pt_avg_min": threshold, "prescale": float(prescale)}
        for path, threshold, prescale in zip(menu.paths, menu.thresholds, menu.prescales, strict=True)
    ]


def describe_skim(counts: SampleCounts, settings: SkimSettings) -> str:
    """Events on their way through a skim, in words."""
    steps = counts.steps
    return (
        f"of {steps.events:,} events {steps.two_jets:,} had two jets, {steps.delta_phi:,} of them "
        f"{settings.delta_phi_cut}, {steps.third_jet:,} of them {settings.third_jet_cut}; {counts.written:,} were kept"
    )


def describe_fileset(
    datasets: Iterable[str], process: str, menu: TriggerMenu, skims: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Fileset in coffea's form, paths relative to it; `skims` tells by dataset what was left out."""
    return {
        name: {
            "files": {f"{name}.root": "Events"},
            "metadata": {
                "is_mc": name != "data",
                "schema": "nanoaod",
                "jet_collection": "Jet",
                "jet_algo": "AK4PF",
                "process": process,
                **_metadata_of_kind(name, menu),
                **({"skim": skims[name]} if skims else {}),
            },
        }
        for name in datasets
    }


def _metadata_of_kind(name: str, menu: TriggerMenu) -> dict[str, Any]:
    if name == "data":
        return {"label": "Data", "triggers": describe_triggers(menu)}
    return {
        "label": "Simulation" if name == "simulation" else "Alternative simulation",
        "role": "nominal" if name == "simulation" else "alternative",
        "weight": "genWeight",
        "truth_jet_collection": "GenJet",
    }
