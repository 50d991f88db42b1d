"""What `analysis.py compare taggers` calls; it reads tables as the training does, but needs no TensorFlow."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from models.tagging.comparison import Jets, compare, read_candidates, write_comparison
from models.tagging.jet_definition import JETS, differences, jets_of_facts
from models.tagging.robustness import binned_variables
from models.tagging.tagger_table import joined, read_facts, read_table
from models.training.errors import RefusedError
from models.training.tagging.samples import in_test_fold, read_sample

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from models.features import RaggedConstituents
    from models.tagging.comparison import Candidate
    from models.training.tagging.samples import BoolArray, TaggerSample
    from models.training.tagging.settings import EvaluationSettings, TaggerSettings


def run(tables: Sequence[Path], taggers: Sequence[Path], settings: TaggerSettings, output: Path) -> list[str]:
    """Compare taggers on tables and write the comparison; returns what the console tells.

    Jets that one of the taggers was trained on do not count: where it knows a table, only jets of its test fold are
    used, which follow from the settings on its card. Jets of another radius or grooming than those that a tagger was
    made for are a note.

    Raises
    ------
    RefusedError
        For what is no tagger, columns that the tables lack, and bins without background.
    """
    try:
        candidates = read_candidates(taggers)
    except (ValueError, FileNotFoundError) as error:
        raise RefusedError(str(error)) from error
    knowing = _knowing(tables, candidates)
    held_out = _held_out(tables, knowing, settings)
    names = tuple(dict.fromkeys(name for each in candidates for name in each.columns))
    sample = read_sample(tables, settings, is_for_training=False, features=names, among=held_out)
    evaluation = settings.evaluation
    _check_range(sample, evaluation, settings.columns.protect)
    edges = np.linspace(evaluation.low, evaluation.high, evaluation.bins + 1)
    jets = _jets(sample, _constituents(tables, sample, candidates))
    try:
        notes = (*sample.notes, *_other_jets(tables, candidates))
        found = compare(candidates, jets, edges, evaluation.replicas)
    except ValueError as error:
        raise RefusedError(str(error)) from error
    write_comparison(found, output, notes)
    told = "jets of the test fold, as a tagger was trained on this table" if knowing else "jets"
    lines = [f"{len(sample):,} {told}", *(f"note: {note}" for note in notes)]
    lines += [_line(name, each) for name, each in found.numbers.items()]
    return [*lines, f"Written: {output}, with tables and plots"]


def _line(name: str, numbers: Mapping[str, float]) -> str:
    lost = numbers["without_score"]
    return (
        f"{name}: R50 {numbers['rejection_0.5']:.2f} ± {numbers['rejection_0.5_error']:.2f}, AUC {numbers['auc']:.4f}, "
        f"1/JSD50 {numbers['inverse_jsd']:.0f} ± {numbers['inverse_jsd_error']:.0f} (random {numbers['ceiling']:.0f})"
        f"{', on the front' if numbers['on_front'] else ''}"
        f"{f', {lost:,.0f} jets without a finite score left out' if lost else ''}"
    )


def _held_out(tables: Sequence[Path], knowing: Sequence[Candidate], settings: TaggerSettings) -> BoolArray | None:
    """Rows of all tables that are in the test folds of all taggers which know one; None where none does.

    A card that does not tell the settings of its training counts as one with those of the comparison.
    """
    held_out = None
    for each in knowing:
        told = dict(each.card.training.get("settings", {}))
        identity = dict(told.get("columns", {})).get("identity", settings.columns.identity)
        test = dict(told.get("fit", {})).get("test", settings.fit.test)
        of_this = in_test_fold(tables, identity, test)
        held_out = of_this if held_out is None else held_out & of_this
    return held_out


def _knowing(tables: Sequence[Path], candidates: Sequence[Candidate]) -> list[Candidate]:
    """The taggers that were trained on one of the tables."""
    there = set()
    for path in tables:
        with path.open("rb") as file:
            there.add(hashlib.file_digest(file, "sha256").hexdigest())
    return [each for each in candidates if there & set(dict(each.card.training.get("tables", {})).values())]


def _other_jets(tables: Sequence[Path], candidates: Sequence[Candidate]) -> list[str]:
    """What differs between the jets of a table and those that a tagger was made for, as far as both tell it."""
    came = {path: jets_of_facts(read_facts(path)) for path in tables}
    expected = {each.name: dict(each.card.training.get(JETS) or {}) for each in candidates}
    return [
        f"{name} was made for other jets than those of {path}: {'; '.join(told)}"
        for name, jets in expected.items()
        for path, there in came.items()
        if (told := differences(jets, there))
    ]


def _check_range(sample: TaggerSample, evaluation: EvaluationSettings, name: str) -> None:
    if not sample.weight[sample.is_within].sum() > 0:
        low, high = np.percentile(sample.protected[sample.is_background], [1, 99])
        raise RefusedError(
            f"no background has {name} in {evaluation.low:g} to {evaluation.high:g} (98 % is in {low:.4g} to "
            f"{high:.4g}); set evaluation.low and evaluation.high"
        )


def _jets(sample: TaggerSample, constituents: RaggedConstituents | None) -> Jets:
    columns = {name: sample.features[:, i] for i, name in enumerate(sample.names)}
    variables = binned_variables(sample.condition, sample.pileup)
    return Jets(sample.is_signal, sample.protected, sample.weight, columns, constituents, variables)


def _constituents(
    tables: Sequence[Path], sample: TaggerSample, candidates: Sequence[Candidate]
) -> RaggedConstituents | None:
    """Constituents of the jets of a sample, hardest first, where a tagger takes them."""
    taking = [each.name for each in candidates if each.takes_constituents]
    if not taking or sample.row is None:
        return None
    try:
        found = [read_table(path) for path in tables]
    except ValueError as error:
        raise RefusedError(str(error)) from error
    for path, table in zip(tables, found, strict=True):
        if table.constituents is None:
            raise RefusedError(
                f"{path} has no constituents, which {', '.join(taking)} takes; a table of `analysis.py table tagger` "
                "has lists constituents_px, _py, _pz and _e"
            )
    constituents = joined(found).constituents
    return None if constituents is None else constituents.take(sample.row).by_pt()
