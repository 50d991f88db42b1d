"""What `analysis.py compare taggers` calls; it reads tables as the training does, but needs no TensorFlow."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from models.tagging.comparison import Jets, compare, read_candidates, write_comparison
from models.training.errors import RefusedError
from models.training.tagging.samples import TEST, read_sample

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from models.tagging.comparison import Candidate
    from models.training.tagging.samples import TaggerSample
    from models.training.tagging.settings import TaggerSettings


def run(tables: Sequence[Path], taggers: Sequence[Path], settings: TaggerSettings, output: Path) -> list[str]:
    """Compare taggers on tables and write the comparison; returns what the console tells.

    Jets that one of the taggers was trained on do not count: of a table it knows, only the test fold is used.

    Raises
    ------
    RefusedError
        For what is no tagger, and columns that the tables lack.
    """
    try:
        candidates = read_candidates(taggers)
    except (ValueError, FileNotFoundError) as error:
        raise RefusedError(str(error)) from error
    features = tuple(dict.fromkeys(name for each in candidates for name in each.card.features))
    settings = replace(settings, columns=replace(settings.columns, features=features))
    sample = read_sample(tables, settings)
    is_known = _is_known(tables, candidates)
    if is_known:
        sample = sample.of_fold(TEST)
    evaluation = settings.evaluation
    edges = np.linspace(evaluation.low, evaluation.high, evaluation.bins + 1)
    found = compare(candidates, _jets(sample), edges, evaluation.replicas)
    write_comparison(found, output)
    told = "jets of the test fold, as a tagger was trained on this table" if is_known else "jets"
    lines = [f"{len(sample):,} {told}"]
    for name, each in found.items():
        lines.append(
            f"{name}: R50 {each['rejection_0.5']:.2f} ± {each['rejection_0.5_error']:.2f}, AUC {each['auc']:.4f}, "
            f"1/JSD50 {each['inverse_jsd']:.0f} ± {each['inverse_jsd_error']:.0f} (random {each['ceiling']:.0f})"
            f"{', on the front' if each['on_front'] else ''}"
        )
    return [*lines, f"Written: {output}, with table and Pareto plot"]


def _is_known(tables: Sequence[Path], candidates: Sequence[Candidate]) -> bool:
    """Whether a tagger was trained on one of the tables."""
    trained = {digest for each in candidates for digest in dict(each.card.training.get("tables", {})).values()}
    for path in tables:
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() in trained:
                return True
    return False


def _jets(sample: TaggerSample) -> Jets:
    columns = {name: sample.features[:, i] for i, name in enumerate(sample.names)}
    return Jets(sample.is_signal, sample.protected, sample.weight, columns)
