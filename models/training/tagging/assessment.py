"""Metrics and plots of a trained tagger on jets it was not trained on."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from models.flat_weights import effective_entries
from models.tagging.bump import spurious_bump
from models.tagging.distance_correlation import distance_correlation
from models.tagging.metrics import (
    against_efficiency,
    balanced_accuracy,
    rejection_with_error,
    roc,
    sculpting,
)
from models.tagging.robustness import (
    CONDITION,
    LABELS,
    PILEUP,
    as_plain,
    binned_variables,
    draw_bins,
    in_bins,
    n_judged,
    plain,
)
from models.training.assessment import figure_of, save_figure
from models.training.tagging.samples import domains

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from models.tagging.metrics import BinOfVariable, CurvePoint, Float64Array
    from models.training.tagging.samples import TaggerSample
    from models.training.tagging.settings import EvaluationSettings

EFFICIENCIES = (0.3, 0.5, 0.7)
"""Signal efficiencies of working points."""
_W_MASS = 80.4
# Effective jets that a smooth spectrum is fitted to.
_FEWEST = 200


@dataclass(frozen=True, slots=True)
class Assessment:
    """Numbers by name, divergence against background efficiency, and bins of the condition and of pile-up, if known."""

    numbers: Mapping[str, float]
    curve: Sequence[CurvePoint]
    bins: Sequence[BinOfVariable]
    pileup: Sequence[BinOfVariable] = ()


def assess(sample: TaggerSample, score: Float64Array, settings: EvaluationSettings) -> Assessment:
    """Everything that is told of scores (n,) of labelled jets."""
    signal, mass, weight = sample.is_signal, sample.protected, sample.weight
    edges = np.linspace(settings.low, settings.high, settings.bins + 1)
    curve = roc(score, signal, weight)
    numbers = {"auc": curve.auc, "accuracy": balanced_accuracy(score, signal, weight)}
    for efficiency in EFFICIENCIES:
        name = f"rejection_{efficiency:g}"
        numbers[name], numbers[f"{name}_error"] = rejection_with_error(
            score, signal, weight, efficiency=efficiency, replicas=settings.replicas
        )
    found = sculpting(score, signal, mass, weight, edges=edges, replicas=settings.replicas)
    numbers |= found.told()
    within = sample.is_within
    numbers["distance_correlation"] = distance_correlation(score[within], mass[within], sample.positive_weight[within])
    numbers |= _bump(score, curve.threshold(), sample, edges)
    numbers["test_jets"] = float(len(sample))
    along = against_efficiency(score, signal, mass, weight, edges=edges)
    bins = in_bins(score, signal, mass, weight, binned_variables(sample.condition, sample.pileup), edges)
    return Assessment(numbers, along, bins[CONDITION], bins.get(PILEUP, ()))


def domain_numbers(
    sample: TaggerSample, score: Float64Array, cuts: Mapping[str, float], compared: str
) -> dict[str, float]:
    """How far scores (n,) tell data from simulation, empty without data.

    `domain_auc` is the share of pairs in which the jet of one of the two has the larger score, 0.5 for scores that are
    distributed alike and never below; `data_over_simulation_...` is the ratio of the efficiencies at a cut.
    """
    simulated, data = domains(sample, compared)
    weight = sample.weight
    if not (weight[simulated].sum() > 0 and weight[data].sum() > 0):
        return {}
    both = simulated | data
    area = roc(score[both], simulated[both], weight[both]).auc
    numbers = {"domain_auc": max(area, 1.0 - area)}
    for name, cut in cuts.items():
        of_data, expected = (np.average(score[each] >= cut, weights=weight[each]) for each in (data, simulated))
        numbers[f"data_over_simulation_{name}"] = float(of_data / expected) if expected > 0 else math.nan
    return numbers


def working_points(sample: TaggerSample, score: Float64Array) -> dict[str, float]:
    """Cuts on the score by name, one for each of `EFFICIENCIES`; such that float32 scores pass alike."""
    curve = roc(score, sample.is_signal, sample.weight)
    return {f"eff{100 * each:.0f}": float(np.float32(curve.threshold(each))) for each in EFFICIENCIES}


def write_metrics(found: Assessment, path: Path) -> None:
    """Numbers, curve and bins as JSON; what is not finite becomes null."""
    document = {
        "numbers": plain(found.numbers),
        "against_efficiency": [plain(asdict(each)) for each in found.curve],
        "bins": as_plain(found.bins),
        "pileup": as_plain(found.pileup),
    }
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def draw_learning_curves(history: Sequence[Mapping[str, float]], path: Path) -> None:
    """Losses, penalty, rejection, divergence and strength against steps."""
    figure, axes = figure_of(2, 3)
    steps = [row["steps"] for row in history]
    for axis, name, log in (
        (axes[0], "loss", False),
        (axes[1], "penalty", False),
        (axes[2], "rejection", True),
        (axes[3], "jsd", True),
        (axes[4], "strength", True),
        (axes[5], "auc", False),
    ):
        values = np.array([row[name] for row in history])
        axis.plot(steps, np.where(values > 0, values, np.nan) if log else values, label="training")
        axis.set(xlabel="steps", ylabel=name)
        if log and (values > 0).any():
            axis.set_yscale("log")
    axes[0].plot(steps, [row["validation_loss"] for row in history], label="validation, as it is")
    axes[0].legend(fontsize="small")
    save_figure(figure, path)


def draw_tagger(sample: TaggerSample, score: Float64Array, found: Assessment, name: str, path: Path) -> None:
    """Score, rejection, spectra of background that passes and fails, divergence against efficiency, and robustness."""
    variables = {word: bins for word, bins in ((CONDITION, found.bins), (PILEUP, found.pileup)) if n_judged(bins) > 1}
    figure, axes = figure_of(2 + len(variables), 2)
    curve = roc(score, sample.is_signal, sample.weight)
    unit, edges = np.linspace(0, 1, 51), np.linspace(sample.low, sample.high, 51)
    for word, chosen in (("background", sample.is_background), ("signal", sample.is_signal)):
        _outline(axes[0], score[chosen], sample.weight[chosen], unit, word)
    axes[0].set(xlabel="score", ylabel="density", yscale="log")
    axes[0].legend(fontsize="small")
    seen = curve.background > 0
    axes[1].plot(curve.signal[seen], 1 / curve.background[seen])
    axes[1].set(xlabel="signal efficiency", ylabel="1 / background efficiency", yscale="log")
    within, passing = sample.is_within, score >= curve.threshold()
    for word, chosen in (("passes", within & passing), ("fails", within & ~passing)):
        _outline(axes[2], sample.protected[chosen], sample.weight[chosen], edges, word)
    axes[2].set(xlabel=name, ylabel="background, density")
    axes[2].legend(fontsize="small")
    efficiency = [point.efficiency_background for point in found.curve]
    for word, style in (("jsd", "o-"), ("random", "k:")):
        values = [getattr(point, word) for point in found.curve]
        axes[3].plot(efficiency, [1 / value if value > 0 else np.nan for value in values], style, ms=3, label=word)
    axes[3].set(xlabel="background efficiency", ylabel="1/JSD", yscale="log")
    axes[3].legend(["tagger", "random selections"], fontsize="small")
    for place, (word, bins) in enumerate(variables.items()):
        draw_bins(axes[4 + 2 * place : 6 + 2 * place], {"tagger": bins}, LABELS[word])
    save_figure(figure, path)


def _outline(axis: Any, values: Float64Array, weight: Float64Array, edges: Float64Array, label: str) -> None:
    """Density of values (n,), nothing where there are none."""
    sums = np.histogram(values, edges, weights=weight)[0]
    axis.stairs(sums / (max(float(sums.sum()), 1e-300) * np.diff(edges)), edges, label=label)


def _bump(score: Float64Array, threshold: float, sample: TaggerSample, edges: Float64Array) -> dict[str, float]:
    """Spurious signal among background that passes, where the mass of the W is within the bins and jets are enough."""
    if not edges[0] < _W_MASS < edges[-1]:
        return {}
    chosen = sample.is_within & (score >= threshold)
    if effective_entries(sample.weight[chosen]) < _FEWEST:
        return {}
    try:
        found = spurious_bump(sample.protected[chosen], sample.weight[chosen], at=_W_MASS, edges=edges)
    except (ValueError, np.linalg.LinAlgError):
        return {}
    return {"bump": found.significance, "bump_share": found.share}
