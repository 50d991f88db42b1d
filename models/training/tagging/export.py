"""A trained tagger -> ONNX, its card, and the side-car that CMS programs read.

Everything is part of the graph: what is not finite, cuts on tails, standardisation, a map after training, and the cuts
of the working points.
The input is `features` (n, n_features), raw values; outputs are `score` (n, 1) in [0, 1], high for signal, and
`passing` (n, n_working_points), 1 for jets at or above a cut and 0 for the others.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from keras import ops

from models.card import ModelCard, card_path, write_card
from models.training.graph import OPSET, add_metadata, converted
from models.training.tagging.posthoc import mapped

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from models.tagging.maps import ScoreMap
    from models.training.tagging.networks import TaggerNetwork

INPUT, SCORE, PASSING = "features", "score", "passing"
PREPROCESS = "preprocess.json"
_NO_BOUND = 1e32


@dataclass(frozen=True, slots=True)
class Tagger:
    """A trained network with what makes it a score.

    Attributes
    ----------
    network
        Sees the first `n_seen` of the features.
    names
        Of all features, those of the network first.
    n_seen
        How many the network sees.
    score_map
        Takes the protected variable out of the score after training; None for nothing.
    protected, condition
        Where mass and pT are among the features; only a map needs them.
    """

    network: TaggerNetwork
    names: tuple[str, ...]
    n_seen: int
    score_map: ScoreMap | None = None
    protected: int = 0
    condition: int = 0

    def __call__(self, features: Any) -> Any:
        """Score of each jet in [0, 1], (n,), from features (n, n_features)."""
        logit = self.network(features[:, : self.n_seen])
        if self.score_map is None:
            return ops.sigmoid(logit)
        return mapped(self.score_map, logit, features[:, self.protected], features[:, self.condition])


def with_map(
    network: TaggerNetwork, names: tuple[str, ...], score_map: ScoreMap | None, protected: str, condition: str
) -> Tagger:
    """A tagger whose features are followed by what its map needs, as far as they are not among them."""
    if score_map is None:
        return Tagger(network, names, len(names))
    every = (*names, *(name for name in dict.fromkeys((protected, condition)) if name not in names))
    return Tagger(network, every, len(names), score_map, every.index(protected), every.index(condition))


def export(
    tagger: Tagger,
    path: Path,
    *,
    working_points: Mapping[str, float],
    training: Mapping[str, Any],
    metrics: Mapping[str, Any],
    trained_on: str,
) -> ModelCard:
    """Write the tagger to `path`, its card and `preprocess.json` beside it."""
    import onnx

    names = tagger.names
    model = to_onnx(tagger, tuple(working_points.values()))
    card = ModelCard(
        task="tagger",
        features=names,
        outputs=(SCORE,),
        lowest=0.0,
        highest=1.0,
        trained_on=trained_on,
        jet_input=INPUT,
        output=SCORE,
        gives="score",
        constituent_columns=(),
        opset=OPSET,
        training=training,
        metrics=metrics,
        working_points=working_points,
    )
    told = {
        "task": "tagger",
        "features": ", ".join(names),
        "outputs": f"{SCORE}, {PASSING}",
        "working_points": json.dumps(dict(working_points)),
        "trained_on": trained_on,
        **{f"training.{name}": _text(value) for name, value in training.items()},
        **{f"metrics.{name}": _text(value) for name, value in metrics.items()},
    }
    add_metadata(model, told)
    onnx.save(model, str(path))
    write_card(card, card_path(path))
    write_preprocess(names, path.with_name(PREPROCESS))
    return card


def to_onnx(tagger: Tagger, cuts: tuple[float, ...] = ()) -> Any:
    """The ONNX model of a tagger with cuts on its score."""

    def graph(features: Any) -> Any:
        score = ops.expand_dims(tagger(features), -1)
        if not cuts:
            return score
        return score, ops.cast(score >= np.array(cuts, np.float32), "float32")

    return converted(graph, {INPUT: (None, len(tagger.names))}, (SCORE, PASSING) if cuts else (SCORE,))


def write_preprocess(names: tuple[str, ...], path: Path) -> None:
    """The side-car in the form of Weaver: names in order, and that nothing is left to do to their values."""
    nothing = {
        "median": 0.0,
        "norm_factor": 1.0,
        "replace_inf_value": 0.0,
        "lower_bound": -_NO_BOUND,
        "upper_bound": _NO_BOUND,
        "pad": 0.0,
    }
    document = {
        "input_names": [INPUT],
        "input_shapes": {INPUT: [-1, len(names)]},
        INPUT: {"var_names": list(names), "var_infos": dict.fromkeys(names, nothing), "var_length": 1},
        "output_names": [SCORE],
    }
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
