"""run.json: what ran, on what, how complete it is, and what came of it."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import platform
import socket
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corrections.results import FAILED_BELOW, LOOP_CHECKS
from processors.code_identity import code_digest, versions
from processors.record import NOT_FINITE_DIRECTION, NOT_FINITE_PT, NOT_FINITE_WEIGHT, NOT_POSITIVE_PT
from processors.settings_file import as_plain
from report.folder import CUTFLOW_COLUMNS, CUTFLOW_FILE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from corrections.correction_set import Written
    from corrections.known_answer import Agreement, Truth
    from corrections.results import Measurement
    from processors.execution import Outcome
    from processors.fileset import Dataset
    from processors.filling import Job
    from report.plots import CutflowRow
    from report.run_settings import RunSettings

RUN_FILE, FAILED_FILE = "run.json", "failed.json"
STAGES = ("start", "fill", "fit", "plots", "report")
BAD_VALUES = tuple(
    reason.removeprefix("{}") for reason in (NOT_FINITE_PT, NOT_POSITIVE_PT, NOT_FINITE_DIRECTION, NOT_FINITE_WEIGHT)
)
HASHED = (".root", ".zip", ".gz", ".csv", ".txt", ".npz")


def now() -> str:
    """Time in UTC to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(slots=True)
class RunRecord:
    """Facts of a run as they become known; `write` may be called at any time and keeps what was there.

    Attributes
    ----------
    folder
        Where run.json goes.
    command
        The command line.
    """

    folder: Path
    command: Sequence[str]
    facts: dict[str, Any] = field(default_factory=lambda: {"complete": False})
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    notes: list[str] = field(default_factory=list)
    started: str = field(default_factory=now)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time the block takes to a stage."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[stage] += time.monotonic() - began

    def add_filling(self, outcome: Outcome, job: Job, settings: RunSettings) -> None:
        """What was read, and that every planned event is either in the histograms or told as lost."""
        self.seconds["start"] += outcome.start_seconds
        self.seconds["fill"] += outcome.seconds
        self.facts.update(
            settings=as_plain(settings),
            executor=settings.execution.executor,
            workers=settings.execution.n_workers,
            chunks=len(outcome.planned),
            resumed_chunks=outcome.resumed,
            worker_crashes=outcome.crashes,
            events=outcome.events,
            planned_events=outcome.planned_events,
            lost_events=outcome.lost_events,
            complete=not outcome.lost,
            inputs=_inputs(job, outcome),
            lost=as_plain(outcome.lost),
            warnings=outcome.warnings,
            excluded={name: dict(sums.excluded) for name, sums in outcome.output.datasets.items()},
        )
        self.notes += [*job.notes(), *bad_values(self.facts["excluded"])]

    def add_second_filling(self, outcome: Outcome) -> None:
        """The same for simulation that was read again; what is lost only now is added."""
        self.seconds["fill"] += outcome.start_seconds + outcome.seconds
        known = self.facts["lost"]
        self.facts["lost"] = [*known, *(chunk for chunk in as_plain(outcome.lost) if chunk not in known)]
        self.facts["complete"] = self.facts["complete"] and not outcome.lost

    def add_datasets(
        self,
        datasets: Sequence[Dataset],
        algos: Mapping[str, str],
        sources: Mapping[str, str],
        scales: Mapping[str, float],
    ) -> None:
        """The measured datasets as the report shows them.

        By their name `algos`, `sources` (names of the datasets they were read from) and `scales` (normalisations).
        """
        inputs = self.facts["inputs"]
        counts = {
            dataset.name: {
                key: sum(file[key] for file in inputs if file["dataset"] == sources[dataset.name])
                for key in ("planned", "processed", "lost")
            }
            for dataset in datasets
        }
        self.facts["datasets"] = [
            {
                "name": dataset.name,
                "is_mc": dataset.is_mc,
                "role": dataset.role if dataset.is_mc else None,
                "process": dataset.process,
                "label": dataset.label,
                "skim": dataset.skim,
                "jet_algo": algos[dataset.name],
                "files": len(dataset.files),
                **counts[dataset.name],
                "xsec": dataset.xsec,
                "lumi": dataset.lumi,
                "normalisation": scales.get(dataset.name, 1.0),
            }
            for dataset in datasets
        ]

    def add_corrections(self, written: Written) -> None:
        """What the correction file holds and what it lacks."""
        self.facts.update(
            corrections=written.names, not_written=dict(written.not_written), neighbours=written.neighbours
        )

    def add_known_answer(self, known: Mapping[str, Sequence[Truth]], found: Agreement | None) -> None:
        """What had been put into the sample, and whether it came back."""
        if found is None:
            return
        pulls = [{**as_plain(pull), "eta": list(pull.eta), "pull": pull.value} for pull in found.pulls]
        self.facts["injected"] = {name: [list(each) for each in values] for name, values in known.items()}
        self.facts["closure"] = {
            "chi2": found.chi2,
            "ndf": found.ndf,
            "p_value": found.p_value,
            "ok": not found.is_bad,
            "pulls": pulls,
        }

    def add_checks(self, measurements: Sequence[Measurement]) -> bool:
        """Agreement of numbers that should be equal; returns whether the corrections do not close the loop."""
        checks = [(m.algo, check) for m in measurements for check in m.checks]
        self.facts["checks"] = [
            {**as_plain(check), "algo": algo, "p_value": check.p_value, "is_loop": check.name in LOOP_CHECKS}
            for algo, check in checks
        ]
        return any(check.name in LOOP_CHECKS and check.p_value < FAILED_BELOW for _, check in checks)

    def write(self, **more: Any) -> dict[str, Any]:
        """Content of run.json after it was put in place as a whole; a number that is not finite becomes null."""
        self.facts.update(more)
        found = versions()
        content = _plain(
            {
                "command": list(self.command),
                "version": found.get("jetbalance"),
                "started": self.started,
                "finished": now(),
                **self.facts,
                "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
                "notes": list(dict.fromkeys(self.notes)),
                "versions": found,
                "code": code_digest(("processors", "corrections", "models", "report")),
                "python": platform.python_version(),
                "host": socket.gethostname(),
                "platform": platform.platform(),
            }
        )
        write_json(content, self.folder / RUN_FILE)
        return dict(content)

    def write_failed(self) -> None:
        """failed.json: what was lost, an empty list if nothing."""
        write_json(self.facts["lost"], self.folder / FAILED_FILE)


def write_json(content: Any, path: Path) -> None:
    """Put a JSON file in place as a whole."""
    unfinished = path.with_name(f".{path.name}.part")
    unfinished.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    unfinished.replace(path)


def write_cutflow(rows: Iterable[CutflowRow], folder: Path) -> None:
    """cutflow.csv: dataset, step, events, weighted events."""
    with (folder / CUTFLOW_FILE).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(CUTFLOW_COLUMNS)
        writer.writerows(rows)


def output_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of the files that others may build on, by path in the folder."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix in HASHED and ".chunks" not in path.parts)
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def bad_values(excluded: Mapping[str, Mapping[str, int]]) -> list[str]:
    """A line for all that was left out because its numbers make no sense, from counts by dataset and reason.

    What a selection leaves out is no matter for a line.
    """
    return [
        f"{name}: left out {count:,} {reason}"
        for name, counts in excluded.items()
        for reason, count in counts.items()
        if reason.endswith(BAD_VALUES)
    ]


def _inputs(job: Job, outcome: Outcome) -> list[dict[str, Any]]:
    """One record for each file."""
    counts = outcome.counts()
    records = []
    for fact in job.facts:
        planned, lost = counts.get((fact.dataset, fact.path), (0, 0))
        records.append(
            {
                "dataset": fact.dataset,
                "path": fact.path,
                "tree": fact.tree,
                "format": fact.format,
                "uuid": fact.uuid,
                "size": fact.size,
                "entries": fact.entries,
                "planned": planned,
                "processed": planned - lost,
                "lost": lost,
            }
        )
    return records


def _plain(value: Any) -> Any:
    """What JSON knows: paths as text, numbers that are not finite as null."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, Path):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
