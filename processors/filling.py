"""From datasets and settings to filled histograms: checks before, the run itself, and what its result depends on."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from processors import event_filter, jet_calibration, jet_quality
from processors.chunk_store import ChunkStore, FileIdentity
from processors.code_identity import code_digest, versions
from processors.dijet import DijetProcessor, read_request
from processors.errors import InputError, raise_if_any
from processors.execution import InputFile, execute
from processors.fileset import is_remote
from processors.preflight import preflight
from processors.settings_file import as_plain
from processors.side_by_side import jet_algo

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from coffea.processor import ProcessorABC

    from processors.dijet import DijetSettings
    from processors.execution import Execution, Outcome
    from processors.fileset import Dataset
    from processors.jet_calibration import JetCalibration
    from processors.preflight import FileFacts

LOG = logging.getLogger("jetbalance")
# Packages whose version may change a digit of a histogram.
NUMERICAL = ("python", "coffea", "awkward", "uproot", "numpy", "numba", "correctionlib", "onnxruntime")


@dataclass(frozen=True, slots=True)
class Job:
    """What a run is about, looked at: datasets whose format is known, and the facts of every file in order.

    `without_network` tells of datasets whose jets cannot be given to the calibration network.
    """

    datasets: tuple[Dataset, ...]
    facts: tuple[FileFacts, ...]
    without_network: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[InputFile, ...]:
        """The files as the Runner takes them."""
        return tuple(
            InputFile(f.dataset, FileIdentity(f.path, f.uuid, f.size, f.modified_ns), f.tree, f.entries)
            for f in self.facts
        )

    def only(self, names: Collection[str]) -> Job:
        """The part of some datasets."""
        return Job(
            tuple(dataset for dataset in self.datasets if dataset.name in names),
            tuple(fact for fact in self.facts if fact.dataset in names),
        )

    def generated_weights(self, outcome: Outcome) -> dict[str, float]:
        """Sums of generator weights before any skim by dataset; absent where a file has none.

        A file that was processed in part counts with that share.
        """
        counts = outcome.counts()
        sums: dict[str, float] = {}
        for fact in self.facts:
            planned, lost = counts.get((fact.dataset, fact.path), (0, 0))
            share = (planned - lost) / fact.entries if fact.entries else 1.0
            weight = math.nan if fact.sum_of_weights is None else fact.sum_of_weights * share
            sums[fact.dataset] = sums.get(fact.dataset, 0.0) + weight
        return {name: weight for name, weight in sums.items() if math.isfinite(weight)}

    def normalisations(self, outcome: Outcome, kept: Mapping[str, float]) -> dict[str, float]:
        """Factor of each dataset: xsec over the sum of weights before any cut, 1 without a cross section and in data.

        `kept` are the sums of weights that were read, for files that do not tell those before a skim.
        """
        generated = self.generated_weights(outcome)
        factors = {}
        for dataset in self.datasets:
            total = generated.get(dataset.name, kept.get(dataset.name, 0.0))
            factors[dataset.name] = dataset.xsec / total if dataset.is_mc and dataset.xsec and total > 0 else 1.0
        return factors

    def notes(self) -> list[str]:
        """What cannot be done with these files."""
        notes = [
            f"{fact.dataset}: {fact.path} lacks the triggers {', '.join(fact.missing_triggers)}"
            for fact in self.facts
            if fact.missing_triggers
        ]
        without = {fact.dataset for fact in self.facts if fact.columns.truth is None}
        for dataset in self.datasets:
            if dataset.is_mc and dataset.name in without:
                notes.append(f"{dataset.name}: no truth jets, so no resolution can be measured from it")
            if not dataset.is_mc and not dataset.triggers and dataset.weight is None:
                notes.append(f"{dataset.name}: no triggers named, so every event counts once")
            if dataset.role == "alternative":
                notes.append(f"{dataset.name}: alternative simulation, for the uncertainty of the truth asymmetry")
        return [*notes, *self.without_network]


def look(datasets: Sequence[Dataset], settings: DijetSettings) -> Job:
    """The job, after a look at every file, correction, mask and model; all that is wrong is refused here."""
    if settings.replicas < 0:
        raise InputError(f"replicas must be at least 0, which gives analytic uncertainties, got {settings.replicas}")
    event_filter.check(settings.events)
    jet_quality.check(settings.jets)
    masked = [replace(dataset, lumi_mask=event_filter.mask_of(dataset, settings.events)) for dataset in datasets]
    for path in _masks(datasets, settings):
        event_filter.check_lumi_mask(path)
    requests = {dataset.name: read_request(dataset, settings) for dataset in datasets}
    facts = preflight(masked, lambda dataset: requests[dataset.name])
    known = tuple(with_format(dataset, facts) for dataset in datasets)
    jet_calibration.check(settings.calibration, [(jet_algo(dataset), dataset.is_mc) for dataset in known])
    missing = _network_lacks(known, facts, settings.calibration)
    return Job(tuple(replace(d, has_network=d.name not in missing) for d in known), facts, tuple(missing.values()))


def _network_lacks(datasets: Sequence[Dataset], facts: Sequence[FileFacts], settings: JetCalibration) -> dict[str, str]:
    """By dataset a line on what its files lack of the inputs of the network; refused if only its jets are wanted."""
    found: dict[str, str] = {}
    for fact in facts:
        if lacking := jet_calibration.lacking_inputs(settings, fact.columns):
            line = f"{fact.dataset}: {fact.path} lacks {', '.join(lacking)}, which the network {settings.onnx} needs"
            found.setdefault(fact.dataset, f"{line}; its jets are measured without it")
    if found and not settings.beside:
        lines = [line.replace("; its jets are measured without it", "") for line in found.values()]
        raise_if_any([*lines, "set calibration.beside=true to measure jets without the network"])
    return {name: line for name, line in found.items() if name in {dataset.name for dataset in datasets}}


def with_format(dataset: Dataset, facts: Sequence[FileFacts]) -> Dataset:
    """The dataset with the format of its files, if it names none and all have the same."""
    formats = {fact.format for fact in facts if fact.dataset == dataset.name}
    return replace(dataset, schema=formats.pop()) if dataset.schema is None and len(formats) == 1 else dataset


def fill(job: Job, settings: DijetSettings, execution: Execution, chunks: Path, *, title: str = "filling") -> Outcome:
    """Histograms of all datasets of a job; finished chunks are kept in the folder `chunks`."""
    processor = DijetProcessor({dataset.name: dataset for dataset in job.datasets}, settings)
    return fill_with(processor, job, ingredients(job.datasets, settings), execution, chunks, title=title)


def fill_with(
    processor: ProcessorABC, job: Job, content: Mapping[str, Any], execution: Execution, chunks: Path, *, title: str
) -> Outcome:
    """The sum of a processor over a job; chunks finished with the same `content` are not done again."""
    store = ChunkStore(chunks, fingerprint(content))
    for line in _changes(chunks / f"{title}.json", content):
        LOG.warning("%s: finished chunks of the earlier run cannot be used", line)
    return execute(job.files, processor, execution, store, title=title)


def fingerprint(content: Mapping[str, Any]) -> str:
    """SHA-256 of what a chunk depends on."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def ingredients(datasets: Sequence[Dataset], settings: DijetSettings) -> dict[str, Any]:
    """All that a chunk of the dijet run depends on besides its file."""
    return ingredients_of(datasets, settings, _files(datasets, settings))


def ingredients_of(datasets: Sequence[Dataset], settings: Any, files: Iterable[str]) -> dict[str, Any]:
    """Code, packages, settings, datasets, and digests of the `files` that corrections and models are in."""
    found = versions()
    return {
        "code": code_digest(),
        "packages": {name: found.get(name) for name in NUMERICAL},
        "settings": as_plain(settings),
        "datasets": {dataset.name: as_plain(replace(dataset, files=())) for dataset in datasets},
        "files": {path: _digest(path) for path in files},
    }


def _changes(path: Path, content: Mapping[str, Any]) -> list[str]:
    """What differs from the ingredients of an earlier run, which those of this one replace."""
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    path.write_text(json.dumps(content), encoding="utf-8")
    return [] if before is None else list(_differences(before, json.loads(json.dumps(content)), ""))


def _differences(before: Any, after: Any, place: str) -> Iterator[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}):
            yield from _differences(before.get(key), after.get(key), f"{place}.{key}" if place else key)
    elif before != after:
        yield f"{place} was {before!r} and is {after!r}"


def _files(datasets: Sequence[Dataset], settings: DijetSettings) -> list[str]:
    """Paths of all corrections, masks and models."""
    parts: Any = (
        event_filter.files(settings.events),
        jet_quality.files(settings.jets),
        jet_calibration.files(settings.calibration),
    )
    return sorted({*_masks(datasets, settings), *(path for part in parts for path in part)})


def _masks(datasets: Sequence[Dataset], settings: DijetSettings) -> list[str]:
    """Paths of the luminosity masks that count for any dataset."""
    masks = {event_filter.mask_of(dataset, settings.events) for dataset in datasets}
    return sorted(mask for mask in masks if mask is not None)


def _digest(path: str) -> str:
    return path if is_remote(path) else hashlib.sha256(Path(path).read_bytes()).hexdigest()
