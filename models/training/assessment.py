"""Metrics, tables and plots of calibrations on events they were not trained on.

A candidate is a name with the log factor of every jet of the test sample, and the predicted width where it has one.
"""

from __future__ import annotations

import csv
import json
import math
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from models.evaluation import (
    MIN_ENTRIES,
    ResponseMap,
    asymmetries,
    gain,
    gaussian_core,
    in_situ_gain,
    pull_core,
    response_map,
    reweighted,
    summary,
    tolerances,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from models.evaluation import Float64Array, InSituGain
    from models.training.samples import Sample
    from models.training.settings import EvaluationSettings

PLAIN = "none"
SEQUENTIAL = "sequential"
POWERS = (-1.0, 1.0)
IN_SITU_MIN_PT = 100.0
_SHIFT_BINS, _MIN_PAIRS = 6, 50
GAIN_MIN_PT = 60.0
"""GeV, of the truth jet: above it the gain in resolution is averaged by bin of |eta|."""
REGIONS: Mapping[str, float] = {"central": 0.8, "tracker": 2.5}
"""Largest |eta| of both jets of a pair."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A calibration applied to the test sample: `log_factor` (n_jets,), and relative `width` (n_jets,) or None."""

    name: str
    log_factor: Float64Array
    width: Float64Array | None = None
    facts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Assessment:
    """What came out for each candidate, by name: numbers for the table, response maps, and in-situ gains by place."""

    numbers: Mapping[str, Mapping[str, float]]
    maps: Mapping[str, ResponseMap]
    in_situ: Mapping[str, Mapping[str, InSituGain]]


def assess(
    sample: Sample, candidates: Sequence[Candidate], settings: EvaluationSettings, reference: str | None = None
) -> Assessment:
    """Every number there is for candidates on the events of a test sample; the first one is the uncalibrated one.

    With the name of a `reference` among them the widths of the asymmetry in data are compared with its own as well, on
    the same events, which shows what a term of the loss changes far better than two ratios with errors of their own.
    """
    edges = (settings.abs_eta_edges, settings.pt_edges)
    used = sample.truth_weight > 0
    truth, eta, weight = sample.truth_pt[used], sample.abs_eta_truth[used], sample.truth_weight[used]
    calibrated = {each.name: sample.pt[used] * np.exp(each.log_factor[used]) for each in candidates}
    maps = {name: response_map(pt, truth, eta, edges, weight) for name, pt in calibrated.items()}
    numbers = summary(maps, settings.pt_edges, settings.abs_eta_edges)
    in_situ = {each.name: _in_situ(sample, each, settings.replicas) for each in candidates}
    limit = tolerances(settings.pt_edges, settings.abs_eta_edges)
    compared = next((each for each in candidates if each.name == reference), None)
    for each in candidates:
        told = numbers[each.name]
        if compared is not None:
            told.update(_against(sample, each, compared, settings.replicas))
        for power in POWERS:
            found = response_map(calibrated[each.name], truth, eta, edges, reweighted(truth, weight, power))
            told[f"worst_closure_pt{power:+.0f}"] = _worst(found, limit)
        if each.width is not None:
            core = pull_core(calibrated[each.name], truth, each.width[used], weight)
            told["pull_mean"], told["pull_width"], told["pull_width_error"] = core.mean, core.width, core.width_error
        if SEQUENTIAL in maps:
            told["gain_over_sequential"], told["gain_over_sequential_error"] = _over(
                maps[each.name], maps[SEQUENTIAL], settings
            )
        for place, found_gain in in_situ[each.name].items():
            told[f"ratio_{place}"], told[f"ratio_{place}_error"] = found_gain.ratio, found_gain.ratio_error
            told[f"share_{place}"], told[f"share_{place}_error"] = found_gain.share, found_gain.share_error
        told["mean_shift_data"] = _mean_shift(sample, each, is_mc=False)
        told["mean_shift_simulation"] = _mean_shift(sample, each, is_mc=True)
        told.update(each.facts)
    return Assessment(numbers, maps, in_situ)


def write_assessment(found: Assessment, settings: EvaluationSettings, folder: Path, stem: str = "metrics") -> None:
    """JSON with everything, and a table of the numbers as CSV."""
    document = {
        "pt_edges": list(settings.pt_edges),
        "abs_eta_edges": list(settings.abs_eta_edges),
        "numbers": {name: {k: _plain(v) for k, v in told.items()} for name, told in found.numbers.items()},
        "maps": {name: each.as_lists() for name, each in found.maps.items()},
        "in_situ": {
            name: {place: {k: _plain(v) for k, v in asdict(each).items()} for place, each in told.items()}
            for name, told in found.in_situ.items()
        },
    }
    (folder / f"{stem}.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    columns = list(dict.fromkeys(key for told in found.numbers.values() for key in told))
    with (folder / f"{stem}.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["calibration", *columns])
        for name, told in found.numbers.items():
            writer.writerow([name, *(_rounded(told.get(column)) for column in columns)])


def table_rows(found: Assessment) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the study table, for the console and for Markdown."""
    header = [
        "calibration", "JER gain |eta|<0.8", "JER gain |eta|<2.5", "over GSC", "worst closure", "pT^-1", "pT^+1",
        "pull", "sigma_A sim", "share sim", "sigma_A data", "over f2 = 0", "shift data",
    ]  # fmt: skip
    rows = []
    for name, told in found.numbers.items():
        rows.append(
            [
                name,
                _percent(told, "gain_central"),
                _percent(told, "gain_tracker"),
                _percent(told, "gain_over_sequential"),
                _percent(told, "worst_closure", error=False),
                _percent(told, "worst_closure_pt-1", error=False),
                _percent(told, "worst_closure_pt+1", error=False),
                _number(told, "pull_width"),
                _number(told, "ratio_simulation_central"),
                _number(told, "share_simulation_central"),
                _number(told, "ratio_data_tracker"),
                _number(told, "data_over_reference"),
                _percent(told, "mean_shift_data", error=False),
            ]
        )
    return header, rows


def eta_rows(found: Assessment, settings: EvaluationSettings) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a table of the gain in resolution in each bin of |eta|, and of the bins that do not close."""
    edges = settings.abs_eta_edges
    n_pt, n_eta = len(settings.pt_edges) - 1, len(edges) - 1
    hard = np.array(settings.pt_edges[:-1]) >= GAIN_MIN_PT
    header = ["calibration", *(f"{low:g} to {high:g}" for low, high in pairwise(edges)), "bins off"]
    rows = []
    for name, told in found.numbers.items():
        gains = []
        for i in range(n_eta):
            chosen = np.zeros((n_eta, n_pt), np.bool_)
            chosen[i] = hard
            value, error = gain(found.maps[name], found.maps[PLAIN], chosen)
            gains.append(_percent({"value": value, "value_error": error}, "value"))
        rows.append([name, *gains, f"{told['bins_off']:.0f} of {told['bins']:.0f}"])
    return header, rows


def markdown(found: Assessment, settings: EvaluationSettings) -> str:
    """The study tables in Markdown."""
    tables = (table_rows(found), eta_rows(found, settings))
    return "\n".join(_as_markdown(header, rows) for header, rows in tables)


def _as_markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped) + "\n"


def _in_situ(sample: Sample, candidate: Candidate, replicas: int) -> dict[str, InSituGain]:
    """Gains by kind of events and region; no entry where there are no pairs."""
    found = {}
    for word, is_mc in (("simulation", True), ("data", False)):
        first = sample.pairs(is_mc=is_mc)
        if not len(first):
            continue
        weight = sample.pair_weight[(sample.pair_weight > 0) & (sample.is_mc == is_mc)]
        truth = asymmetries(sample.matched_pt[first], sample.matched_pt[first + 1]) if is_mc else None
        hard = 0.5 * (sample.pt[first] + sample.pt[first + 1]) > IN_SITU_MIN_PT
        for region, limit in REGIONS.items():
            chosen = hard & (np.maximum(sample.abs_eta[first], sample.abs_eta[first + 1]) < limit)
            before, after = (
                _asymmetry(sample, log_factor, first[chosen], limit)
                for log_factor in (np.zeros(len(sample)), candidate.log_factor)
            )
            of_truth = None if truth is None else truth[chosen]
            found[f"{word}_{region}"] = in_situ_gain(before, after, of_truth, weight[chosen], replicas)
    return found


def _asymmetry(sample: Sample, log_factor: Float64Array, first: NDArray[np.int64], max_abs_eta: float) -> Float64Array:
    """Asymmetry of calibrated pairs over the slope of their response in simulation.

    A calibration that only pushes jets together makes asymmetries smaller by its slope, which is no resolution.
    """
    pt = sample.pt * np.exp(log_factor)
    return asymmetries(pt[first], pt[first + 1]) / _slope(sample, np.log(pt), max_abs_eta)


def _slope(sample: Sample, log_pt: Float64Array, max_abs_eta: float) -> float:
    """Slope d log pt / d log true pt of simulated jets in the region, by least squares; 1 where they are too few."""
    hard = (sample.truth_weight > 0) & (sample.truth_pt > IN_SITU_MIN_PT) & (sample.abs_eta_truth < max_abs_eta)
    if np.count_nonzero(hard) < MIN_ENTRIES:
        return 1.0
    weight, log_truth = sample.truth_weight[hard], np.log(sample.truth_pt[hard])
    distance = log_truth - np.average(log_truth, weights=weight)
    return float(np.sum(weight * distance * log_pt[hard]) / np.sum(weight * distance * distance))


def _against(sample: Sample, candidate: Candidate, reference: Candidate, replicas: int) -> dict[str, float]:
    """Width of the asymmetry in data over that of another calibration of the same events; empty without data."""
    first = sample.pairs(is_mc=False)
    hard = 0.5 * (sample.pt[first] + sample.pt[first + 1]) > IN_SITU_MIN_PT
    first = first[hard]
    if not len(first):
        return {}
    weight = sample.pair_weight[(sample.pair_weight > 0) & ~sample.is_mc][hard]
    before, after = (_asymmetry(sample, each.log_factor, first, REGIONS["tracker"]) for each in (reference, candidate))
    found = in_situ_gain(before, after, None, weight, replicas)
    return {"data_over_reference": found.ratio, "data_over_reference_error": found.ratio_error}


def _mean_shift(sample: Sample, candidate: Candidate, *, is_mc: bool) -> float:
    """Largest shift of the mean pT by the calibration in bins of uncalibrated pt_avg; nan without pairs."""
    first = sample.pairs(is_mc=is_mc)
    if len(first) < 100:
        return math.nan
    pt = sample.pt
    total = pt[first] + pt[first + 1]
    factor = np.exp(candidate.log_factor)
    shift = ((pt * factor)[first] + (pt * factor)[first + 1]) / total - 1
    weight = sample.pair_weight[(sample.pair_weight > 0) & (sample.is_mc == is_mc)]
    # the weights spread pt_avg evenly in its logarithm
    edges = np.geomspace(total.min(), total.max(), _SHIFT_BINS + 1)
    place = np.clip(np.searchsorted(edges, total, side="right") - 1, 0, _SHIFT_BINS - 1)
    sums = np.bincount(place, weight * shift, _SHIFT_BINS)
    full = np.bincount(place, minlength=_SHIFT_BINS) >= _MIN_PAIRS
    return float(np.max(np.abs(sums[full] / np.bincount(place, weight, _SHIFT_BINS)[full]), initial=0.0))


def _worst(found: ResponseMap, limit: Float64Array) -> float:
    strict = np.isfinite(found.mean) & (limit < 0.01)
    return float(np.max(np.abs(found.mean - 1)[strict])) if strict.any() else math.nan


def _over(better: ResponseMap, worse: ResponseMap, settings: EvaluationSettings) -> tuple[float, float]:
    low_pt, high_eta = np.array(settings.pt_edges[:-1]), np.array(settings.abs_eta_edges[1:])[:, None]
    return gain(better, worse, (high_eta <= 2.5) & (low_pt >= 60))


def _percent(told: Mapping[str, float], name: str, *, error: bool = True) -> str:
    value = told.get(name, math.nan)
    if not math.isfinite(value):
        return "-"
    spread = told.get(f"{name}_error", math.nan)
    return f"{100 * value:.1f} ± {100 * spread:.1f} %" if error and math.isfinite(spread) else f"{100 * value:.2f} %"


def _number(told: Mapping[str, float], name: str) -> str:
    value, spread = told.get(name, math.nan), told.get(f"{name}_error", math.nan)
    if not math.isfinite(value):
        return "-"
    return f"{value:.3f} ± {spread:.3f}" if math.isfinite(spread) else f"{value:.3f}"


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def _rounded(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.6g}"


def draw_learning_curve(history: Sequence[Mapping[str, float]], path: Path) -> None:
    """Terms of the loss against the epoch, for training and validation."""
    figure, axes = figure_of(2, 2)
    epochs = [row["epoch"] for row in history]
    for axis, name in zip(axes, ("total", "likelihood", "asymmetry", "constraint"), strict=True):
        axis.plot(epochs, [row[name] for row in history], label="training")
        axis.plot(epochs, [row[f"validation_{name}"] for row in history], label="validation")
        axis.set(xlabel="epoch", ylabel=name)
    axes[0].legend()
    save_figure(figure, path)


def draw_resolution(found: Assessment, settings: EvaluationSettings, path: Path) -> None:
    """Resolution against true pT in each |eta| bin, one line per calibration."""
    _draw_rows(found, settings, path, "resolution", "width of the response / slope")


def draw_closure(found: Assessment, settings: EvaluationSettings, path: Path) -> None:
    """Mean response against true pT in each |eta| bin, one line per calibration."""
    _draw_rows(found, settings, path, "mean", "mean response (core)")


def _draw_rows(found: Assessment, settings: EvaluationSettings, path: Path, quantity: str, label: str) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    eta, edges = settings.abs_eta_edges, np.array(settings.pt_edges)
    n = len(eta) - 1
    figure, axes = figure_of(math.ceil(n / 3), min(n, 3))
    for i, axis in enumerate(axes[:n]):
        for name, each in found.maps.items():
            values, errors = getattr(each, quantity)[i], getattr(each, f"{quantity}_error")[i]
            axis.errorbar(np.sqrt(edges[1:] * edges[:-1]), values, errors, label=name, marker="o", ms=3, lw=1)
        axis.set(xscale="log", xlabel="true pT [GeV]", ylabel=label, title=f"{eta[i]:g} < |eta| < {eta[i + 1]:g}")
        axis.set_xlim(edges[0], edges[-1])
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter(NullFormatter())
        if quantity == "mean":
            axis.axhspan(0.995, 1.005, color="0.9")
            axis.set_ylim(0.96, 1.04)
        else:
            axis.set_ylim(bottom=0.0)
    axes[0].legend(fontsize="x-small")
    save_figure(figure, path)


def figure_of(rows: int, columns: int) -> tuple[Any, list[Any]]:
    """A figure and its axes, row by row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * columns, 3.2 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, list(axes.ravel())


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure as PNG and PDF."""
    for ending in (".png", ".pdf"):
        figure.savefig(path.with_suffix(ending), metadata={"CreationDate": None} if ending == ".pdf" else None)


__all__ = [
    "Assessment",
    "Candidate",
    "assess",
    "draw_closure",
    "draw_learning_curve",
    "draw_resolution",
    "eta_rows",
    "figure_of",
    "gaussian_core",
    "markdown",
    "save_figure",
    "table_rows",
    "write_assessment",
]
