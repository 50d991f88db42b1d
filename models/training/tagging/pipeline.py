"""From tables to a tagger in a folder: train, judge, export; and the scan of many strengths."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from models.tagging.comparison import TRAINED, draw_pareto
from models.tagging.jet_definition import JETS, jets_of_tables
from models.tagging.maps import check_map, fit_map
from models.tagging.metrics import pareto_front, roc
from models.tagging.tagger_table import read_facts
from models.training.checkpoint import FILE as CHECKPOINT
from models.training.errors import RefusedError
from models.training.tagging import assessment as judge
from models.training.tagging.export import PREPROCESS, export, with_map
from models.training.tagging.loop import (
    CollapsedError,
    against_collapse,
    has_collapsed,
    predict_logits,
    train,
)
from models.training.tagging.penalties import make_penalty
from models.training.tagging.samples import TEST, TRAINING, UNLABELLED, VALIDATION, read_sample
from models.training.tagging.trees import Trees, train_trees

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from models.tagging.maps import ScoreMap
    from models.tagging.metrics import Float64Array
    from models.training.tagging.assessment import Assessment
    from models.training.tagging.export import Tagger
    from models.training.tagging.loop import Report
    from models.training.tagging.networks import TaggerNetwork
    from models.training.tagging.samples import TaggerSample
    from models.training.tagging.settings import TaggerSettings

    Tell = Callable[[str], None]
    Model = TaggerNetwork | Trees

ONNX, SETTINGS, METRICS, SCAN = TRAINED, "settings.json", "metrics.json", "scan"
STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0)
"""Of a scan, in units of the first strength of a method."""
# What a training may leave in its folder, which --overwrite therefore may remove.
OWN = (
    ONNX, "tagger.json", PREPROCESS, SETTINGS, METRICS, CHECKPOINT, f"{CHECKPOINT}.part", "history.csv",
    f"{SCAN}.json", f"{SCAN}.csv",
    *(f"{name}.{ending}" for name in ("learning", "tagger", SCAN) for ending in ("png", "pdf")),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Table:
    """Jets of tables, digests of the files by name, and how the jets were made, see `models.tagging.jet_definition`.

    The name is that of the file, or the path that was given where several files have the same one.
    """

    sample: TaggerSample
    digests: Mapping[str, str]
    jets: Mapping[str, Any]


def read_table(paths: Sequence[Path], settings: TaggerSettings) -> Table:
    """Jets of parquet files that are joined.

    Raises
    ------
    RefusedError
        Where they cannot be used, are the same, hold jets of another radius or grooming, or none that the map could be
        fitted on.
    """
    digests = _digests(paths)
    sample, used = read_sample(paths, settings), settings.decorrelation
    try:
        jets = jets_of_tables(map(read_facts, paths))
        if used.map != "none":
            those = _of_map(sample)
            check_map(used.map, those.protected, those.condition, those.weight, rho_range=used.map_rho)
    except ValueError as error:
        raise RefusedError(str(error)) from error
    return Table(sample, digests, jets)


def train_tagger(table: Table, settings: TaggerSettings, folder: Path, *, resume: bool, tell: Tell) -> Assessment:
    """A trained tagger with card, side-car, metrics and plots in `folder`.

    Raises
    ------
    CollapsedError
        Where the tagger does not separate, trees as well; learning curves are written all the same.
    """
    settings = of_jets(settings, table.jets)
    folder.mkdir(parents=True, exist_ok=True)
    _remember(table, settings, folder, resume=resume)
    began = time.monotonic()
    history: list[Report] = []

    def report(row: Report) -> None:
        history.append(row)
        tell(_line(row, settings))

    try:
        model, rows = _trained(table.sample, settings, folder, resume=resume, report=report)
    except CollapsedError:
        _write_history(history, folder)
        raise
    _write_history(rows, folder)
    seconds = time.monotonic() - began + _seconds_before(rows, len(history))
    labelled = table.sample.take(table.sample.label != UNLABELLED)
    test, validation = labelled.of_fold(TEST), labelled.of_fold(VALIDATION)
    _check_kept(_logits(model, validation), validation, settings)
    score_map = _fitted_map(model, labelled, settings)
    score, of_validation = (_scores(model, score_map, each) for each in (test, validation))
    found = judge.assess(test, score, settings.evaluation)
    points = judge.working_points(validation, of_validation)
    numbers = {
        **found.numbers,
        **_domain_numbers(model, score_map, table.sample.of_fold(TEST), points, settings),
        "strength": rows[-1]["strength"] if rows and settings.decorrelation.has_penalty else 0.0,
        "parameters": float(_n_parameters(model)),
        "seconds": seconds,
    }
    found = replace(found, numbers=numbers)
    judge.write_metrics(found, folder / METRICS)
    judge.draw_tagger(test, score, found, settings.columns.protect, folder / "tagger")
    named = settings.columns
    tagger = with_map(model, named.features, score_map, named.protect, named.condition)
    _export(tagger, table, settings, numbers, points, folder)
    return found


def _domain_numbers(
    model: Model,
    score_map: ScoreMap | None,
    sample: TaggerSample,
    points: Mapping[str, float],
    settings: TaggerSettings,
) -> dict[str, float]:
    """How far data and simulation are apart, nothing where there are no data."""
    if sample.is_simulation.all():
        return {}
    return judge.domain_numbers(sample, _scores(model, score_map, sample), points, settings.decorrelation.compared)


def of_jets(settings: TaggerSettings, jets: Mapping[str, Any]) -> TaggerSettings:
    """Settings in which images reach as far as the jets of the table, where nothing else is asked for."""
    network = settings.network
    if network.kind != "image" or network.half_width is not None or "radius" not in jets:
        return settings
    return replace(settings, network=replace(network, half_width=float(jets["radius"])))


def scan(
    table: Table, settings: TaggerSettings, folder: Path, *, resume: bool, tell: Tell
) -> Mapping[str, Mapping[str, float]]:
    """A tagger for each strength, in folders of their own; numbers by strength, a table and a plot of all."""
    folder.mkdir(parents=True, exist_ok=True)
    first = make_penalty(settings.decorrelation).first_strength
    found: dict[str, Mapping[str, float]] = {}
    for factor in STRENGTHS:
        strength = first * factor
        name = f"strength_{strength:g}"
        tell(f"scan: {name}")
        changed = replace(settings, decorrelation=replace(settings.decorrelation, strength=strength))
        try:
            found[name] = train_tagger(table, changed, folder / name, resume=resume, tell=tell).numbers
        except CollapsedError as error:
            tell(f"scan: {error}")
    if not found:
        raise CollapsedError("every strength of the scan has collapsed")
    _write_scan(found, folder)
    return found


def _write_scan(found: Mapping[str, Mapping[str, float]], folder: Path) -> None:
    columns = ("rejection_0.5", "rejection_0.5_error", "inverse_jsd", "inverse_jsd_error", "ceiling", "auc", "on_front")
    gains = [each["rejection_0.5"] for each in found.values()]
    front = pareto_front(gains, [each["inverse_jsd"] for each in found.values()])
    points = {name: {**each, "on_front": float(i in front)} for i, (name, each) in enumerate(found.items())}
    lines = [",".join(("tagger", *columns))]
    lines += [",".join((name, *(f"{each[column]:.6g}" for column in columns))) for name, each in points.items()]
    (folder / f"{SCAN}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    draw_pareto(points, folder / SCAN)


def _trained(
    sample: TaggerSample, settings: TaggerSettings, folder: Path, *, resume: bool, report: Callable[[Report], None]
) -> tuple[Model, Sequence[Report]]:
    """The trained network or trees, and the history, which trees do not have."""
    if settings.network.kind == "bdt":
        return train_trees(sample, settings), []
    state = train(sample, settings, folder, resume=resume, report=report)
    return state.network, state.history


def _seconds_before(rows: Sequence[Report], new: int) -> float:
    """Seconds of the steps that earlier runs have made; `new` of the rows of the history are of this one."""
    return float(sum(row["seconds"] for row in rows[: len(rows) - new]))


def _n_parameters(model: Model) -> int:
    if isinstance(model, Trees):
        return model.n_parameters
    return sum(int(np.prod(each.shape)) for each in model.trainable_variables)


def _logits(model: Model, sample: TaggerSample) -> Float64Array:
    return model.logits(sample) if isinstance(model, Trees) else predict_logits(model, sample)


def _check_kept(logit: Float64Array, sample: TaggerSample, settings: TaggerSettings) -> None:
    """Refuse a tagger whose logits (n,) of validation jets do not separate, however short its training was."""
    rejection = roc(logit, sample.is_signal, sample.weight).rejection() if np.isfinite(logit).all() else np.nan
    spread = float(np.std(1.0 / (1.0 + np.exp(-logit))))
    if not has_collapsed({"rejection": rejection, "spread": spread}):
        return
    advice = against_collapse(settings, "check the features, or allow more steps (fit.steps)")
    raise CollapsedError(
        f"the tagger that was trained does not separate: rejection {rejection:.2f} at half the signal of validation "
        f"jets, spread of the score {spread:.1e}; {advice}"
    )


def _fitted_map(model: Model, sample: TaggerSample, settings: TaggerSettings) -> ScoreMap | None:
    """The map that is asked for."""
    asked = settings.decorrelation
    if asked.map == "none":
        return None
    used = _of_map(sample)
    return fit_map(
        asked.map,
        _logits(model, used),
        used.protected,
        used.condition,
        used.weight,
        efficiency=asked.map_efficiency,
        rho_range=asked.map_rho,
    )


def _of_map(sample: TaggerSample) -> TaggerSample:
    """Background of training and validation within the range, on which a map is fitted; no weight is negative."""
    used = sample.of_fold(TRAINING, VALIDATION)
    used = used.take(used.is_within)
    return replace(used, weight=used.positive_weight)


def _scores(model: Model, score_map: ScoreMap | None, sample: TaggerSample) -> Float64Array:
    """Scores of jets in [0, 1], (n,)."""
    logit = _logits(model, sample)
    if score_map is None:
        return np.asarray(1.0 / (1.0 + np.exp(-logit)))
    return score_map.apply(logit, sample.protected, sample.condition)


def _export(
    tagger: Tagger,
    table: Table,
    settings: TaggerSettings,
    numbers: Mapping[str, float],
    points: Mapping[str, float],
    folder: Path,
) -> None:
    told = [asdict(settings), *table.digests.values()]
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    training = {
        "digest": digest,
        "tables": dict(table.digests),
        "seed": settings.fit.seed,
        "settings": asdict(settings),
        "notes": list(table.sample.notes),
        JETS: dict(table.jets),
        "versions": _versions(),
    }
    export(
        tagger,
        folder / ONNX,
        length=settings.network.sizes.length,
        working_points=points,
        training=training,
        metrics={name: float(f"{value:.6g}") for name, value in numbers.items() if np.isfinite(value)},
        trained_on=f"{', '.join(table.digests)}; digest {digest[:16]}",
    )


def _remember(table: Table, settings: TaggerSettings, folder: Path, *, resume: bool) -> None:
    """Keep what a training is made of; a folder that goes on with another one is refused."""
    content = json.loads(json.dumps({"settings": asdict(settings), "tables": sorted(table.digests.values())}))
    path = folder / SETTINGS
    if resume and path.is_file() and json.loads(path.read_text(encoding="utf-8")) != content:
        raise RefusedError(
            f"{folder} holds a training with other settings or tables; name another --output or --overwrite"
        )
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _write_history(history: Sequence[Report], folder: Path) -> None:
    if not history:
        return
    names = list(history[0])
    lines = [",".join(names), *(",".join(f"{row[name]:.6g}" for name in names) for row in history)]
    (folder / "history.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    judge.draw_learning_curves(history, folder / "learning")


def _line(row: Report, settings: TaggerSettings) -> str:
    strength = f", strength {row['strength']:.3g}" if settings.decorrelation.has_penalty else ""
    return (
        f"step {row['steps']:.0f} of {settings.fit.steps}: loss {row['loss']:.4f}, validation "
        f"{row['validation_loss']:.4f}, rejection {row['rejection']:.1f}, JSD above chance {row['jsd']:.1e}{strength}"
    )


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("tensorflow", "keras", "scikit-learn", "tf2onnx", "onnx", "numpy")}


def _digests(paths: Sequence[Path]) -> dict[str, str]:
    """Digests of all files by names that differ; a table that is given twice is refused."""
    names, digests = [path.name for path in paths], [_digest(path) for path in paths]
    for place, digest in enumerate(digests):
        if (first := digests.index(digest)) < place:
            raise RefusedError(f"{paths[place]} is the same table as {paths[first]}; give each table once")
    unique = [name if names.count(name) == 1 else str(path) for name, path in zip(names, paths, strict=True)]
    return dict(zip(unique, digests, strict=True))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
