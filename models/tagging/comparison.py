"""Taggers side by side on the jets of one table: numbers, the Pareto front, and the statistical ceiling."""

from __future__ import annotations

import csv
import json
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.card import card_path, read_card
from models.shipped import shipped_path
from models.tagging.metrics import REPLICAS, balanced_accuracy, pareto_front, rejection_with_error, roc, sculpting
from models.tagging.robustness import (
    CONDITION,
    LABELS,
    PILEUP,
    Binned,
    as_plain,
    draw_bins,
    in_bins,
    n_judged,
    plain,
    write_ticks,
)
from models.tagging.tagger import load_tagger

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from models.card import ModelCard
    from models.features import RaggedConstituents
    from models.tagging.metrics import BinOfVariable
    from models.tagging.tagger import Tagger

Float64Array = NDArray[np.float64]

COLUMNS = (
    "rejection_0.5", "rejection_0.5_error", "rejection_0.3", "rejection_0.3_error", "auc", "accuracy", "inverse_jsd",
    "inverse_jsd_error", "ceiling", "share_of_ceiling", "guaranteed_inverse_jsd", "parameters", "seconds",
    "jets_per_second", "jets", "without_score", "on_front",
)  # fmt: skip
"""Of the table that is written, after the name; empty where a card does not say it.

`seconds` are those of the training, `jets_per_second` what was reached while comparing, from columns to scores.
"""
TRAINED = "tagger.onnx"
"""What a training calls every tagger."""
OF_TRAINING = ("parameters", "seconds")
"""Numbers that the card of a tagger may have: how many are trained, and how long that took."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A tagger with its name and its card."""

    name: str
    tagger: Tagger
    card: ModelCard

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of jets that it takes."""
        return self.tagger.lacking((), has_constituents=True)

    @property
    def takes_constituents(self) -> bool:
        """Whether columns of jets are not enough."""
        return any(given.constituents for given in self.tagger.inputs.values())


@dataclass(frozen=True, slots=True)
class Jets:
    """Labelled jets to judge with.

    Attributes
    ----------
    is_signal, protected, weight
        (n,).
    columns
        Arrays (n,) of all columns that some tagger needs, by name.
    constituents
        px, py, pz and E in GeV, hardest first; None where no tagger needs them.
    variables
        Against which robustness is told, see `models.tagging.robustness`.
    """

    is_signal: NDArray[np.bool_]
    protected: Float64Array
    weight: Float64Array
    columns: Mapping[str, NDArray[Any]]
    constituents: RaggedConstituents | None = None
    variables: Mapping[str, Binned] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Numbers by tagger and name, and bins by tagger and variable."""

    numbers: Mapping[str, Mapping[str, float]]
    bins: Mapping[str, Mapping[str, Sequence[BinOfVariable]]]


def read_candidates(paths: Sequence[Path]) -> list[Candidate]:
    """Taggers in ONNX files with cards beside them, or that ship, by name; a folder stands for its tagger.onnx.

    Raises
    ------
    ValueError, FileNotFoundError
        For what is no tagger, or does not fit its card, and for one that is given twice.
    """
    files = [path / TRAINED if path.is_dir() else shipped_path(str(path)) or path for path in paths]
    places = [str(file.resolve()) for file in files]
    if twice := [str(path) for path, place in zip(paths, places, strict=True) if places.count(place) > 1]:
        raise ValueError(f"the same tagger is given more than once: {', '.join(twice)}")
    found = [(load_tagger(str(file)), read_card(card_path(file))) for file in files]
    return [Candidate(name, *each) for name, each in zip(_names(files), found, strict=True)]


def compare(candidates: Sequence[Candidate], jets: Jets, edges: Float64Array, replicas: int = REPLICAS) -> Comparison:
    """What each tagger does; `on_front` is 1 where no other one is better in R50 and 1/JSD.

    Jets to which a tagger gives no finite score do not count for it; `without_score` says how many.

    Raises
    ------
    ValueError
        Where signal or background has no weight among the jets with a score.
    """
    judged = {each.name: _judge(each, jets, edges, replicas) for each in candidates}
    points = [numbers for numbers, _ in judged.values()]
    front = pareto_front(*([each[what] for each in points] for what in ("rejection_0.5", "inverse_jsd")))
    for i, each in enumerate(points):
        each["on_front"] = float(i in front)
    return Comparison(dict(zip(judged, points, strict=True)), {name: bins for name, (_, bins) in judged.items()})


def _judge(
    candidate: Candidate, jets: Jets, edges: Float64Array, replicas: int
) -> tuple[dict[str, float], dict[str, list[BinOfVariable]]]:
    """Numbers of one tagger by name, and its bins by variable."""
    began = time.perf_counter()
    scores, without = candidate.tagger.scores(jets.columns, jets.constituents)
    seconds = time.perf_counter() - began
    there = np.isfinite(scores)
    score, signal, mass, weight = (
        scores[there].astype(np.float64), jets.is_signal[there], jets.protected[there], jets.weight[there],
    )  # fmt: skip
    _check(candidate, signal, weight)
    numbers = {"auc": roc(score, signal, weight).auc, "accuracy": balanced_accuracy(score, signal, weight)}
    for efficiency in (0.3, 0.5):
        name = f"rejection_{efficiency:g}"
        numbers[name], numbers[f"{name}_error"] = rejection_with_error(
            score, signal, weight, efficiency=efficiency, replicas=replicas
        )
    numbers |= sculpting(score, signal, mass, weight, edges=edges, replicas=replicas).told()
    numbers |= {name: float(candidate.card.metrics.get(name, math.nan)) for name in OF_TRAINING}
    numbers["jets_per_second"] = len(scores) / max(seconds, 1e-9)
    variables = {name: Binned(each.values[there], each.edges) for name, each in jets.variables.items()}
    bins = in_bins(score, signal, mass, weight, variables, edges)
    return numbers | {"jets": float(len(score)), "without_score": float(without)}, bins


def _check(candidate: Candidate, signal: NDArray[np.bool_], weight: Float64Array) -> None:
    for word, chosen in (("signal", signal), ("background", ~signal)):
        if not weight[chosen].sum() > 0:
            raise ValueError(
                f"{candidate.name} gives no {word} a finite score; look for nan among the columns that it takes: "
                f"{', '.join(candidate.columns) or 'constituents'}"
            )


def write_comparison(found: Comparison, folder: Path, notes: Sequence[str] = ()) -> None:
    """Table as CSV and Markdown, all numbers and bins as JSON, the Pareto plot and that of robustness.

    `notes` say what was left out of the jets or changed; they stand beside the numbers in JSON.
    """
    folder.mkdir(parents=True, exist_ok=True)
    numbers = {name: plain(each) for name, each in found.numbers.items()}
    bins = {name: {word: as_plain(each) for word, each in told.items()} for name, told in found.bins.items()}
    comparison = {"notes": list(notes), "taggers": numbers}
    documents: dict[str, Mapping[str, Any]] = {"comparison": comparison, "robustness": bins}
    for name, document in documents.items():
        (folder / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    header = ("tagger", *COLUMNS)
    rows = [[name, *(_written(each[column]) for column in COLUMNS)] for name, each in found.numbers.items()]
    with (folder / "comparison.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    lines = [list(header), ["---"] * len(header), *rows]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
    (folder / "comparison.md").write_text(text, encoding="utf-8")
    draw_pareto(found.numbers, folder / "pareto")
    draw_robustness(found.bins, folder)


def draw_pareto(found: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """1/JSD against R50 with errors, the ceiling of each tagger, and the front; `path` has no ending."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.0, 4.5), layout="constrained")
    axis = figure.subplots()
    for name, each in found.items():
        x, y = each["rejection_0.5"], each["inverse_jsd"]
        drawn = axis.errorbar(x, y, each["inverse_jsd_error"], each["rejection_0.5_error"], fmt="o", label=name)
        axis.plot(x, each["ceiling"], "_", ms=14, color=drawn.lines[0].get_color())
    front = sorted((each["rejection_0.5"], each["inverse_jsd"]) for each in found.values() if each["on_front"])
    axis.plot(*zip(*front, strict=True), "k:", lw=1, label="front")
    axis.plot([], [], "k_", ms=14, label="random selections")
    axis.set(xscale="log", yscale="log", xlabel="1 / background efficiency at half the signal", ylabel="1/JSD")
    axis.set_ylim(bottom=1.0)
    for ticked in (axis.xaxis, axis.yaxis):
        write_ticks(ticked)
    axis.legend(fontsize="small")
    _save(figure, path)


def draw_robustness(found: Mapping[str, Mapping[str, Sequence[BinOfVariable]]], folder: Path) -> None:
    """R50 and 1/JSD against pT and pile-up, a line for each tagger; nothing against what has a bin alone."""
    from matplotlib.figure import Figure

    variables = [
        word for word in (CONDITION, PILEUP) if any(n_judged(told.get(word, ())) > 1 for told in found.values())
    ]
    if not variables:
        return
    figure = Figure(figsize=(9.0, 3.4 * len(variables)), layout="constrained")
    for axes, word in zip(figure.subplots(len(variables), 2, squeeze=False), variables, strict=True):
        draw_bins(axes, {name: told[word] for name, told in found.items() if word in told}, LABELS[word])
    figure.axes[0].legend(fontsize="small")
    _save(figure, folder / "robustness")


def _save(figure: Any, path: Path) -> None:
    for ending in ("png", "pdf"):
        metadata = {"CreationDate": None} if ending == "pdf" else None
        figure.savefig(path.with_suffix(f".{ending}"), metadata=metadata)


def _written(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"


def _names(files: Sequence[Path]) -> list[str]:
    """Short names that differ: of the file, or of its folder where it is called like every tagger; else whole paths."""
    folders = [file.resolve().parent.name for file in files]
    own = [folder if file.name == TRAINED else file.stem for file, folder in zip(files, folders, strict=True)]
    return next((names for names in (own, folders) if len(set(names)) == len(names)), [str(file) for file in files])
