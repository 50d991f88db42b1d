"""From training tables to a calibration in a folder: train, close, export, judge; and the study of many trainings."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from models.event_table import joined, read_table
from models.features import SEQUENTIAL_FEATURES
from models.training import assessment as judge
from models.training.assessment import PLAIN, SEQUENTIAL, Candidate
from models.training.closure import fit_closure, no_closure
from models.training.errors import RefusedError
from models.training.samples import TEST, TRAINING, VALIDATION, Sample, folds, network_features, sample_of
from models.training.sequential import fit_sequential

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from models.event_table import EventTable
    from models.training.assessment import Assessment
    from models.training.closure import Closure
    from models.training.loop import Report
    from models.training.settings import TrainingSettings

REFERENCE = "inversion"
"""Row of the study without the terms that need no truth: what they change is told relative to it."""
ONNX, SETTINGS, DONE = "calibration.onnx", "settings.json", "done.json"
# What a training may leave in its folder, which --overwrite therefore may remove.
OWN = (
    ONNX, "calibration.json", SETTINGS, DONE, "checkpoint.npz", "history.csv", "metrics.json", "metrics.csv",
    "study.json", "study.csv", "study.md",
    *(f"{name}.{ending}" for name in ("learning", "resolution", "closure") for ending in ("png", "pdf")),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tables:
    """Tables to train on and to judge with; `test` is the held-out part of the first if None.

    `digests` and `test_digests` have a name and a digest for each file, in the order in which they were joined.
    """

    training: EventTable
    test: EventTable | None
    digests: tuple[str, ...]
    test_digests: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Variant:
    """A row of the study: a name, what is changed in the settings, and whether its closure is left out."""

    name: str
    settings: TrainingSettings
    without_closure: bool = False


def read_tables(paths: Sequence[Path], test: Sequence[Path]) -> Tables:
    """Tables in files, those given together joined; a file that is given twice is refused."""
    given = [*paths, *test]
    found = [_digest(path) for path in given]
    for place, digest in enumerate(found):
        if digest in found[:place]:
            raise RefusedError(
                f"{given[place]} is the same table as {given[found.index(digest)]}; give each table once, and judge "
                "(--test) with events that were not trained on"
            )
    told = tuple(f"{path.name} {digest}" for path, digest in zip(given, found, strict=True))
    return Tables(
        joined([read_table(path) for path in paths]),
        joined([read_table(path) for path in test]) if test else None,
        told[: len(paths)],
        told[len(paths) :],
    )


def train_calibration(
    tables: Tables, settings: TrainingSettings, folder: Path, *, resume: bool = False, tell: Callable[[str], None]
) -> Assessment:
    """A trained calibration with card, metrics, tables and plots in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    _remember(tables, settings, folder, resume=resume)
    result = _fit(tables, settings, folder, resume=resume, tell=tell)
    test = _test_sample(tables, settings)
    candidates = [_plain(test), *_sequential(tables, settings, test), result.candidate(test, settings.network.kind)]
    found = judge.assess(test, candidates, settings.evaluation)
    _export(result, tables, settings, found.numbers[candidates[-1].name], folder)
    _write(found, settings, folder, "metrics")
    return found


def study(
    tables: Tables,
    settings: TrainingSettings,
    folder: Path,
    *,
    only: Sequence[str] = (),
    resume: bool = False,
    tell: Callable[[str], None],
) -> Assessment:
    """All variants trained and judged on the same events; one table and one set of plots in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    test = _test_sample(tables, settings)
    candidates = [_plain(test), *_sequential(tables, settings, test)]
    fitted: dict[str, Any] = {}
    for variant in variants(settings):
        if only and variant.name not in only:
            continue
        tell(f"study: {variant.name}")
        key = json.dumps(asdict(variant.settings), sort_keys=True)
        if key not in fitted:
            inner = folder / variant.name.replace(" ", "_")
            inner.mkdir(exist_ok=True)
            _remember(tables, variant.settings, inner, resume=resume)
            fitted[key] = _fit(tables, variant.settings, inner, resume=resume, tell=tell)
            _export(fitted[key], tables, variant.settings, {}, inner)
        result = fitted[key]
        if variant.without_closure:
            result = replace(result, closure=no_closure())
        own = _test_sample(tables, variant.settings)
        candidates.append(result.candidate(own, variant.name))
    found = judge.assess(test, candidates, settings.evaluation, reference=REFERENCE)
    _write(found, settings, folder, "study")
    (folder / "study.md").write_text(judge.markdown(found, settings.evaluation), encoding="utf-8")
    return found


def variants(base: TrainingSettings) -> list[Variant]:
    """The rows of the study: what each part of the system is worth, and how it fails without."""

    def changed(*, network: Mapping[str, Any] | None = None, **loss: Any) -> TrainingSettings:
        return replace(
            base, network=replace(base.network, **(network or {})), loss=replace(base.loss, **{"f1": 1.0, **loss})
        )

    no_pairs = {"f2": 0.0, "f3": 0.0}
    small = {"kind": "per_eta", "jet_units": (24, 16), "head_units": (16,), "head": "inversion"}
    return [
        Variant("GNNC-like", changed(network=small, **no_pairs)),
        Variant("regression", changed(network={"head": "regression"}, **no_pairs)),
        Variant("regression + f2", changed(network={"head": "regression"})),
        Variant("mixture", changed(network={"head": "mixture"}, **no_pairs)),
        Variant("ansatz", changed(network={"head": "ansatz"}, **no_pairs)),
        Variant(REFERENCE, changed(network={"head": "inversion"}, **no_pairs)),
        Variant("inversion + f2", changed(network={"head": "inversion"})),
        Variant("inversion + 10 f2, no f3", changed(network={"head": "inversion"}, f2=10.0, f3=0.0)),
        Variant("inversion + f2, no data", changed(network={"head": "inversion"}, data=False)),
        Variant("inversion + f2, no closure", changed(network={"head": "inversion"}), without_closure=True),
        Variant("inversion + f2, no GSC", changed(network={"head": "inversion", "gsc": False})),
        Variant("f1 = 0, f3 = 3", changed(network={"head": "regression"}, f1=0.0, f2=1.0, f3=3.0)),
        Variant("f1 = 0, f3 = 0", changed(network={"head": "regression"}, f1=0.0, f2=1.0, f3=0.0)),
    ]


@dataclass(frozen=True, slots=True)
class _Result:
    """A trained network with its closure, and what is to be known of the training."""

    network: Any
    closure: Closure
    facts: Mapping[str, float]

    def candidate(self, sample: Sample, name: str) -> Candidate:
        """Applied to a sample."""
        from models.training.loop import predict

        log_factor, width = predict(self.network, sample)
        shift, scale = self.closure.apply(np.log(sample.pt) + log_factor, sample.abs_eta)
        return Candidate(name, log_factor + shift, width * scale, self.facts)


def _fit(
    tables: Tables, settings: TrainingSettings, folder: Path, *, resume: bool, tell: Callable[[str], None]
) -> _Result:
    """Train and close."""
    from models.training.loop import predict, prepare, train
    from models.training.network import count_parameters

    began = time.monotonic()
    prepared = prepare(tables.training, settings)
    state = train(prepared, settings, folder, resume=resume, report=lambda row: tell(_line(row, settings.fit.epochs)))
    closure = no_closure()
    if settings.closure.enabled:
        parts = [(sample, *predict(state.network, sample)) for sample in (prepared.training, prepared.validation)]
        closure = _closure(parts, settings)
    judge.draw_learning_curve(state.history, folder / "learning")
    _write_history(state.history, folder)
    rates = [row["jets_per_second"] for row in state.history[1:]] or [state.history[0]["jets_per_second"]]
    facts = {
        "parameters": float(count_parameters(state.network)),
        "epochs": float(len(state.history)),
        "jets_per_second": float(np.median(rates)),
        "seconds": time.monotonic() - began,
    }
    return _Result(state.network, closure, facts)


def _closure(parts: Sequence[tuple[Sample, Any, Any]], settings: TrainingSettings) -> Closure:
    columns = []
    for sample, log_factor, width in parts:
        used = sample.truth_weight > 0
        log_pt = np.log(sample.pt[used]) + log_factor[used]
        columns.append((log_pt, sample.truth_pt[used], sample.abs_eta[used], width[used], sample.truth_weight[used]))
    log_pt, truth, abs_eta, width, weight = (np.concatenate(each) for each in zip(*columns, strict=True))
    return fit_closure(log_pt, truth, abs_eta, width, settings.closure, weight)


def _sequential(tables: Tables, settings: TrainingSettings, test: Sample) -> list[Candidate]:
    """The sequential correction, fitted on the training events, if the table has its variables."""
    if not all(name in tables.training.jets for name in SEQUENTIAL_FEATURES):
        return []
    names = ("pt", "eta", *SEQUENTIAL_FEATURES)
    fold = folds(tables.training.event["identity"], settings.fit)
    chosen = tables.training.take(np.isin(fold, (TRAINING, VALIDATION)) & tables.training.event["is_mc"])
    bare = replace(chosen, constituents=None)
    sample = sample_of(bare, names, settings.fit, settings.loss)
    used = sample.truth_weight > 0
    log_pt = np.log(sample.pt)
    steps = fit_sequential(
        log_pt[used], sample.truth_pt[used], sample.abs_eta[used], _columns(sample, used), sample.truth_weight[used]
    )
    shift = steps.log_factor(log_pt, sample.abs_eta, _columns(sample, slice(None)))
    closure = no_closure()
    if settings.closure.enabled:
        closure = _closure([(sample, shift, np.full(len(sample), 0.1))], settings)
    loss = replace(settings.loss, data=True)  # as in `_test_sample`
    own = sample_of(replace(_test_table(tables, settings), constituents=None), names, settings.fit, loss)
    shift = steps.log_factor(np.log(own.pt), own.abs_eta, _columns(own, slice(None)))
    more, _ = closure.apply(np.log(own.pt) + shift, own.abs_eta)
    if len(own) != len(test):
        raise RefusedError("the test samples of two calibrations differ")
    return [Candidate(SEQUENTIAL, shift + more)]


def _columns(sample: Sample, rows: Any) -> dict[str, Any]:
    return {
        name: sample.features[rows, i].astype(np.float64)
        for i, name in enumerate(sample.names)
        if name in SEQUENTIAL_FEATURES
    }


def _plain(sample: Sample) -> Candidate:
    return Candidate(PLAIN, np.zeros(len(sample)))


def _test_table(tables: Tables, settings: TrainingSettings) -> EventTable:
    if tables.test is not None:
        return tables.test
    return tables.training.take(folds(tables.training.event["identity"], settings.fit) == TEST)


def _test_sample(tables: Tables, settings: TrainingSettings) -> Sample:
    """Jets of the events that are held out; the same ones for all settings of the network."""
    names = network_features(settings.network, tables.training.features)
    sample = sample_of(_test_table(tables, settings), names, settings.fit, replace(settings.loss, data=True))
    if not (sample.truth_weight > 0).any():
        raise RefusedError("no events are held out to judge with; raise fit.test or give a table with --test")
    return sample


def _export(
    result: _Result, tables: Tables, settings: TrainingSettings, numbers: Mapping[str, float], folder: Path
) -> None:
    from models.training.export import Calibration, export

    digest = hashlib.sha256(
        json.dumps([asdict(settings), *tables.digests, *tables.test_digests], sort_keys=True).encode()
    ).hexdigest()
    training = {
        "digest": digest,
        "tables": list(tables.digests),
        "test_tables": list(tables.test_digests),
        "seed": settings.fit.seed,
        "settings": asdict(settings),
        "versions": _versions(),
    }
    datasets = ", ".join(tables.training.datasets)
    metrics = {name: float(f"{value:.6g}") for name, value in numbers.items() if np.isfinite(value)}
    export(
        Calibration(result.network, result.closure),
        folder / ONNX,
        training=training,
        metrics=metrics,
        trained_on=f"{datasets}; digest {digest[:16]}",
    )


def _write(found: Assessment, settings: TrainingSettings, folder: Path, stem: str) -> None:
    judge.write_assessment(found, settings.evaluation, folder, stem)
    judge.draw_resolution(found, settings.evaluation, folder / "resolution")
    judge.draw_closure(found, settings.evaluation, folder / "closure")


def _remember(tables: Tables, settings: TrainingSettings, folder: Path, *, resume: bool) -> None:
    """Keep what a training is made of; a folder that goes on with another one is refused."""
    told = {"settings": asdict(settings), "tables": tables.digests, "test_tables": tables.test_digests}
    content = json.loads(json.dumps(told))
    path = folder / SETTINGS
    if resume and path.is_file() and json.loads(path.read_text(encoding="utf-8")) != content:
        raise RefusedError(
            f"{folder} holds a training with other settings or tables; name another --output or --overwrite"
        )
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _write_history(history: Sequence[Mapping[str, float]], folder: Path) -> None:
    names = list(history[0])
    lines = [",".join(names), *(",".join(f"{row[name]:.6g}" for name in names) for row in history)]
    (folder / "history.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _line(row: Report, epochs: int) -> str:
    return (
        f"epoch {row['epoch']:.0f} of {epochs}: loss {row['total']:.4f}, validation {row['validation_total']:.4f} "
        f"(likelihood {row['validation_likelihood']:.4f}, asymmetry {row['validation_asymmetry']:.4f}, "
        f"constraint {row['validation_constraint']:.4f}), {row['jets_per_second']:,.0f} jets/s"
    )


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("tensorflow", "keras", "tf2onnx", "onnx", "numpy")}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
