"""A trained tagger -> ONNX, its card, and of one on columns of jets the side-car that CMS programs read.

Everything is part of the graph: what is not finite, cuts on tails, standardisation, a map after training, and the cuts
of the working points.
Inputs are `features` (n, n_features), raw values, and of networks on constituents `constituents` (n, any length, 4):
px, py, pz and E in GeV, hardest first and zero where a jet has no more. Outputs are `score` (n, 1) in [0, 1], high for
signal, and `passing` (n, n_working_points), 1 for jets at or above a cut and 0 for the others.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from keras import ops

from models.card import ModelCard, card_path, write_card
from models.features import MAX_CONSTITUENTS
from models.tagging.columns import CONSTITUENT_COLUMNS
from models.training.graph import OPSET, add_metadata, converted, joined
from models.training.tagging.networks import CONSTITUENTS, FEATURES, finite_or
from models.training.tagging.posthoc import mapped
from models.training.tagging.trees import Trees

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from models.tagging.maps import ScoreMap
    from models.training.tagging.networks import TaggerNetwork

SCORE, PASSING = "score", "passing"
PREPROCESS = "preprocess.json"
_NO_BOUND = 1e32


@dataclass(frozen=True, slots=True)
class Tagger:
    """A trained network, or trees, with what makes it a score.

    Attributes
    ----------
    model
        Sees the first `n_seen` of the features, or constituents.
    names
        Of all features, those that the model sees first.
    n_seen
        How many it sees.
    score_map
        Takes the protected variable out of the score after training; None for nothing.
    protected, condition
        Where mass and pT are among the features; only a map needs them.
    """

    model: TaggerNetwork | Trees
    names: tuple[str, ...]
    n_seen: int
    score_map: ScoreMap | None = None
    protected: int = 0
    condition: int = 0

    @property
    def shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Shapes of the inputs by name, None for any length."""
        shapes: dict[str, tuple[int | None, ...]] = {}
        if self.names:
            shapes[FEATURES] = (None, len(self.names))
        if CONSTITUENTS in self.model.takes:
            shapes[CONSTITUENTS] = (None, None, len(CONSTITUENT_COLUMNS))
        return shapes

    def logit(self, inputs: Mapping[str, Any]) -> Any:
        """What the network gives, (n,); trees are not a function of tensors."""
        if isinstance(self.model, Trees):
            raise TypeError("trees have no graph of TensorFlow")
        seen = {name: each[:, : self.n_seen] if name == FEATURES else each for name, each in inputs.items()}
        return self.model({name: seen[name] for name in self.model.takes})

    def score(self, logit: Any, features: Any) -> Any:
        """Score of each jet in [0, 1], (n,), from logits (n,) and features (n, n_features)."""
        if self.score_map is None:
            return ops.sigmoid(logit)
        mass, pt = (finite_or(self.median(place), features[:, place]) for place in (self.protected, self.condition))
        return mapped(self.score_map, logit, mass, pt)

    def median(self, place: int) -> Any:
        """What is taken where a feature is not finite: the median of the network, or of the map that alone sees it."""
        if place < self.n_seen or self.score_map is None:
            columns: Any = getattr(self.model, "columns", None)
            return columns.median[place]
        return self.score_map.medians[0 if place == self.protected else 1]


def with_map(
    model: TaggerNetwork | Trees, names: tuple[str, ...], score_map: ScoreMap | None, protected: str, condition: str
) -> Tagger:
    """A tagger whose features are followed by what its map needs, as far as they are not among them."""
    seen = names if FEATURES in model.takes else ()
    if score_map is None:
        return Tagger(model, seen, len(seen))
    every = (*seen, *(name for name in dict.fromkeys((protected, condition)) if name not in seen))
    return Tagger(model, every, len(seen), score_map, every.index(protected), every.index(condition))


def export(
    tagger: Tagger,
    path: Path,
    *,
    length: int = MAX_CONSTITUENTS,
    working_points: Mapping[str, float],
    training: Mapping[str, Any],
    metrics: Mapping[str, Any],
    trained_on: str,
) -> ModelCard:
    """Write the tagger to `path` and its card beside it; `length` constituents are seen at most.

    One that sees columns of jets alone has `preprocess.json` too. That of constituents in the form of Weaver is
    (n, columns, length), which is not what the network takes.
    """
    import onnx

    names, has_constituents = tagger.names, CONSTITUENTS in tagger.model.takes
    model = to_onnx(tagger, tuple(working_points.values()))
    card = ModelCard(
        task="tagger",
        features=names,
        outputs=(SCORE,),
        lowest=0.0,
        highest=1.0,
        trained_on=trained_on,
        jet_input=FEATURES if names else None,
        constituent_input=CONSTITUENTS if has_constituents else None,
        output=SCORE,
        gives="score",
        constituent_columns=CONSTITUENT_COLUMNS if has_constituents else (),
        max_constituents=length if has_constituents else MAX_CONSTITUENTS,
        opset=OPSET,
        training=training,
        metrics=metrics,
        working_points=working_points,
        imputes=True,
    )
    told = {
        "task": "tagger",
        "features": ", ".join(names),
        "constituents": ", ".join(card.constituent_columns),
        "outputs": f"{SCORE}, {PASSING}",
        "working_points": json.dumps(dict(working_points)),
        "trained_on": trained_on,
        **{f"training.{name}": _text(value) for name, value in training.items()},
        **{f"metrics.{name}": _text(value) for name, value in metrics.items()},
    }
    add_metadata(model, told)
    onnx.save(model, str(path))
    write_card(card, card_path(path))
    if not has_constituents:
        medians = tuple(float(tagger.median(place)) for place in range(len(names)))
        write_preprocess(names, medians, path.with_name(PREPROCESS))
    return card


def to_onnx(tagger: Tagger, cuts: tuple[float, ...] = ()) -> Any:
    """The ONNX model of a tagger with cuts on its score."""
    outputs = (SCORE, PASSING) if cuts else (SCORE,)
    if isinstance(tagger.model, Trees):
        return _trees_to_onnx(tagger, tagger.model, cuts, outputs)
    shapes = tagger.shapes

    def graph(*tensors: Any) -> Any:
        inputs = dict(zip(shapes, tensors, strict=True))
        return _with_cuts(tagger.score(tagger.logit(inputs), inputs.get(FEATURES)), cuts)

    return converted(graph, shapes, outputs)


def _with_cuts(score: Any, cuts: tuple[float, ...]) -> Any:
    score = ops.expand_dims(score, -1)
    if not cuts:
        return score
    return score, ops.cast(score >= np.array(cuts, np.float32), "float32")


def _trees_to_onnx(tagger: Tagger, trees: Trees, cuts: tuple[float, ...], outputs: tuple[str, ...]) -> Any:
    """Standardised columns, then the trees, then the score, in one model."""
    given = () if tagger.score_map is None else ("given",)

    def before(features: Any) -> Any:
        standardised = trees.columns(features[:, : tagger.n_seen])
        return (standardised, features) if given else standardised

    def after(both: Any, features: Any = None) -> Any:
        return _with_cuts(tagger.score(both[:, 1], features), cuts)

    shapes = {"both": (None, 2), **dict.fromkeys(given, (None, len(tagger.names)))}
    first = converted(before, tagger.shapes, ("columns", *given))
    return joined(joined(first, trees.to_onnx()), converted(after, shapes, outputs))


def write_preprocess(names: tuple[str, ...], replacements: tuple[float, ...], path: Path) -> None:
    """The side-car in the form of Weaver: names in order, and that their values stay unless they are not finite."""
    as_they_are = {"median": 0.0, "norm_factor": 1.0, "lower_bound": -_NO_BOUND, "upper_bound": _NO_BOUND, "pad": 0.0}
    infos = {name: {**as_they_are, "replace_inf_value": each} for name, each in zip(names, replacements, strict=True)}
    document = {
        "input_names": [FEATURES],
        "input_shapes": {FEATURES: [-1, len(names)]},
        FEATURES: {"var_names": list(names), "var_infos": infos, "var_length": 1},
        "output_names": [SCORE],
    }
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
