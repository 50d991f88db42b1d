"""Boosted decision trees, which see the same standardised columns as the dense network.

They have no gradient in the score, so that no penalty can be part of their training: planing changes their weights, and
maps take the protected variable out after training.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from models.training.graph import OPSET
from models.training.tagging.networks import FEATURES, Columns
from models.training.tagging.samples import TRAINING, VALIDATION, classification_weights, scale_weights

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from models.training.tagging.samples import TaggerSample
    from models.training.tagging.settings import TaggerSettings

    Float64Array = NDArray[np.float64]

TREES = 400
"""At most; fewer where validation jets are not separated better by the last ones."""
_PATIENCE = 20
_ML_DOMAIN = 3


class Trees:
    """Boosted trees of scikit-learn on columns of jets."""

    takes = (FEATURES,)

    def __init__(self, n_features: int, settings: TaggerSettings) -> None:
        from sklearn.ensemble import HistGradientBoostingClassifier

        self.n_features = n_features
        self.columns = Columns(n_features)
        self.classifier = HistGradientBoostingClassifier(
            max_iter=TREES,
            max_leaf_nodes=settings.network.sizes.units[0],
            early_stopping=True,
            n_iter_no_change=_PATIENCE,
            random_state=settings.fit.seed,
        )

    @property
    def n_parameters(self) -> int:
        """Cuts and leaves of all trees."""
        trees = [tree for trees in self.classifier._predictors for tree in trees]  # noqa: SLF001  nothing public tells
        return sum(len(tree.nodes) for tree in trees)

    def standardised(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the trees see, (n, n_features)."""
        return np.asarray(self.columns(features))

    def fit(self, sample: TaggerSample, settings: TaggerSettings) -> None:
        """Train on the training fold; validation jets decide how many trees there are."""
        training, validation = sample.of_fold(TRAINING), sample.of_fold(VALIDATION)
        self.columns.adapt(training.features, scale_weights(training))
        planed = float(settings.decorrelation.method == "planing")
        self.classifier.fit(
            self.standardised(training.features),
            training.is_signal,
            sample_weight=classification_weights(training, planed),
            X_val=self.standardised(validation.features),
            y_val=validation.is_signal,
            sample_weight_val=classification_weights(validation, planed),
        )

    def logits(self, sample: TaggerSample) -> Float64Array:
        """Logit of each jet, (n,)."""
        if len(sample) == 0:
            return np.zeros(0)
        return np.asarray(self.classifier.decision_function(self.standardised(sample.features)))

    def to_onnx(self) -> Any:
        """The trees from `columns` (n, n_features) to `both` (n, 2), of which the second is the logit."""
        from skl2onnx import convert_sklearn
        from skl2onnx.common.data_types import FloatTensorType

        with _whole_numbers():
            model = convert_sklearn(
                self.classifier,
                initial_types=[("columns", FloatTensorType([None, self.n_features]))],
                options={id(self.classifier): {"zipmap": False, "raw_scores": True}},
                target_opset={"": OPSET, "ai.onnx.ml": _ML_DOMAIN},
                final_types=None,
            )
        label, scores = model.graph.output
        model.graph.output.remove(label)
        for node in model.graph.node:
            node.output[:] = ["both" if name == scores.name else name for name in node.output]
        scores.name = "both"
        return model


def train_trees(sample: TaggerSample, settings: TaggerSettings) -> Trees:
    """Trees for a sample; the same seed gives the same ones."""
    trees = Trees(sample.features.shape[1], settings)
    trees.fit(sample, settings)
    return trees


@contextmanager
def _whole_numbers() -> Iterator[None]:
    """Let skl2onnx write truth values among the whole numbers of a node, which protobuf from version 6 on refuses."""
    from onnx import helper

    make = helper.make_attribute

    def with_integers(key: str, value: Any, *rest: Any, **named: Any) -> Any:
        if isinstance(value, list):
            value = [int(each) if isinstance(each, bool) else each for each in value]
        return make(key, value, *rest, **named)

    helper.make_attribute = with_integers
    try:
        yield
    finally:
        helper.make_attribute = make
