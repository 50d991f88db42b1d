"""Taggers side by side on the jets of one table: numbers, the Pareto front, and the statistical ceiling."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.card import card_path, read_card
from models.session import OnnxModel
from models.tagging.metrics import REPLICAS, pareto_front, rejection_with_error, roc, sculpting

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from models.card import ModelCard

Float64Array = NDArray[np.float64]

COLUMNS = (
    "rejection_0.5", "rejection_0.5_error", "rejection_0.3", "inverse_jsd", "inverse_jsd_error", "ceiling",
    "guaranteed_inverse_jsd", "auc", "jets",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Candidate:
    """A tagger with its name and its card."""

    name: str
    model: OnnxModel
    card: ModelCard

    def scores(self, columns: Mapping[str, NDArray[Any]]) -> Float64Array:
        """First output for jets with these columns, (n,)."""
        matrix = np.column_stack([np.asarray(columns[name], np.float32) for name in self.card.features])
        return self.model(matrix)[:, 0].astype(np.float64)


@dataclass(frozen=True, slots=True)
class Jets:
    """Labelled jets (n,) to judge with, and all the columns that some tagger needs."""

    is_signal: NDArray[np.bool_]
    protected: Float64Array
    weight: Float64Array
    columns: Mapping[str, NDArray[Any]]


def read_candidates(paths: Sequence[Path]) -> list[Candidate]:
    """Taggers in ONNX files with cards beside them; a folder stands for its tagger.onnx.

    Raises
    ------
    ValueError, FileNotFoundError
        For what is no tagger of columns.
    """
    found = []
    for path in paths:
        file = path / "tagger.onnx" if path.is_dir() else path
        card = read_card(card_path(file))
        if card.task != "tagger" or card.constituent_input is not None:
            raise ValueError(f"{file} is no tagger that takes columns of jets alone: {card.task}, {card.signature}")
        found.append((file, card))
    names = _names([file for file, _ in found])
    return [Candidate(name, OnnxModel(str(file)), card) for name, (file, card) in zip(names, found, strict=True)]


def compare(
    candidates: Sequence[Candidate], jets: Jets, edges: Float64Array, replicas: int = REPLICAS
) -> dict[str, dict[str, float]]:
    """Numbers of each tagger by name; `on_front` is 1 where no other one is better in R50 and 1/JSD."""
    found = {}
    for each in candidates:
        score = each.scores(jets.columns)
        curve = roc(score, jets.is_signal, jets.weight)
        numbers = {"auc": curve.auc, "jets": float(len(score))}
        for efficiency in (0.3, 0.5):
            name = f"rejection_{efficiency:g}"
            numbers[name], numbers[f"{name}_error"] = rejection_with_error(
                score, jets.is_signal, jets.weight, efficiency=efficiency, replicas=replicas
            )
        told = sculpting(score, jets.is_signal, jets.protected, jets.weight, edges=edges, replicas=replicas)
        found[each.name] = numbers | told.told()
    order = list(found)
    front = pareto_front(*([found[name][what] for name in order] for what in ("rejection_0.5", "inverse_jsd")))
    for i, name in enumerate(order):
        found[name]["on_front"] = float(i in front)
    return found


def write_comparison(found: Mapping[str, Mapping[str, float]], folder: Path) -> None:
    """Table as CSV and Markdown, all numbers as JSON, and the Pareto plot."""
    folder.mkdir(parents=True, exist_ok=True)
    plain = {name: {k: v if math.isfinite(v) else None for k, v in each.items()} for name, each in found.items()}
    (folder / "comparison.json").write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
    header = ("tagger", *COLUMNS, "on_front")
    rows = [[name, *(f"{each[column]:.6g}" for column in header[1:])] for name, each in found.items()]
    with (folder / "comparison.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    lines = [list(header), ["---"] * len(header), *rows]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
    (folder / "comparison.md").write_text(text, encoding="utf-8")
    draw_pareto(found, folder)


def draw_pareto(found: Mapping[str, Mapping[str, float]], folder: Path) -> None:
    """1/JSD against R50 with errors, the ceiling of each tagger, and the front."""
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
    axis.legend(fontsize="small")
    for ending in ("png", "pdf"):
        figure.savefig(folder / f"pareto.{ending}", metadata={"CreationDate": None} if ending == "pdf" else None)


def _names(files: Sequence[Path]) -> list[str]:
    """Short names that differ: of the file, else of its folder, else the whole path."""
    for names in ([file.stem for file in files], [file.resolve().parent.name for file in files]):
        if len(set(names)) == len(names) and len(names) > 1:
            return names
    return [file.stem for file in files] if len(files) == 1 else [str(file) for file in files]
