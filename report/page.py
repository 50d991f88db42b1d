"""One self-contained report.html: pictures inside, nothing loaded from elsewhere, no scripts."""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from report import tables
from report.verdict import checks, excluded_counts, worst

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from corrections.results import Measurement
    from report.figures import Figure

PAGE_FILE, COVARIANCE_FILE = "report.html", "covariance.npz"
TEMPLATES = Path(__file__).with_name("templates")
FACTS = ("command", "started", "finished", "version", "executor", "workers", "chunks", "events", "host", "python")


def write_page(
    folder: Path,
    run: Mapping[str, Any],
    measurements: Sequence[Measurement],
    figures: Sequence[Figure],
    cutflow_rows: Iterable[tuple[str, str, float, float]],
) -> Path:
    """Path of the page, made from what is given and from the figures and corrections that lie in `folder`.

    `run` is the content of run.json; whatever is missing from it is missing from the page.
    """
    path = folder / PAGE_FILE
    found = checks(run, measurements)
    results = _present([*(table for m in measurements for table in result_tables(m)), _known_answer(run)])
    page = _environment().get_template("page.html.j2")
    text = page.render(
        checks=found,
        grade=worst(found),
        algorithms=[measurement.algo for measurement in measurements],
        facts=facts(run),
        versions=run.get("versions") or {},
        seconds=run.get("seconds") or {},
        run_tables=_present(run_tables(run)),
        result_tables=[table for table in results if not table.section],
        cutflow=tables.cutflow_table(cutflow_rows),
        sections=sections(folder, figures, results),
        corrections=correction_files(folder),
        has_covariance=(folder / COVARIANCE_FILE).is_file(),
        notes=list(dict.fromkeys([f"{m.algo}: {note}" for m in measurements for note in m.notes] + _notes(run))),
        command=command_words(run.get("command")),
        run_json=json.dumps(run, indent=2, ensure_ascii=False, default=str),
    )
    path.write_text(text, encoding="utf-8")
    return path


def result_tables(measurement: Measurement) -> list[tables.Table | None]:
    """Tables of one jet algorithm; None for what there is not."""
    return [
        tables.scale_factor_table(measurement),
        tables.sources_table(measurement, "scale_factor"),
        tables.sources_table(measurement, "residual"),
        tables.methods_table(measurement, "scale_factor"),
        tables.methods_table(measurement, "residual"),
        tables.resolution_methods_table(measurement),
        tables.loop_table(measurement),
        tables.resolution_table(measurement),
        tables.consistency_table(measurement),
        tables.closure_table(measurement),
    ]


def run_tables(run: Mapping[str, Any]) -> list[tables.Table | None]:
    """Input, what was lost and what was left out; None for what there is not."""
    return [
        tables.records_table("Datasets", _records(run.get("datasets"))),
        tables.records_table("Input files", _records(run.get("inputs"))),
        tables.records_table("Lost input", _records(run.get("lost"))),
        tables.records_table("Left out, counted", excluded_counts(run)),
    ]


def facts(run: Mapping[str, Any]) -> dict[str, str]:
    """Plain facts of the run by name."""
    words = {name: tables.plain_words(run[name]) for name in FACTS if run.get(name) is not None and name != "command"}
    command = command_words(run.get("command"))
    return {"command": command, **words} if command else words


def command_words(command: Any) -> str:
    """Command line as one string."""
    return " ".join(map(str, command)) if isinstance(command, list | tuple) else str(command or "")


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure as the page shows it.

    `source` is the picture itself as a data URI, "" without a PNG; `caption` is "" where it would repeat the last one.
    """

    figure: Figure
    source: str
    caption: str


@dataclass(frozen=True, slots=True)
class Section:
    """What stands under one heading of the page."""

    name: str
    pictures: list[Picture]
    tables: list[tables.Table]


def sections(folder: Path, figures: Sequence[Figure], found: Sequence[tables.Table] = ()) -> list[Section]:
    """Figures and tables under their headings, with the pictures read from `folder`."""
    pictures: dict[str, list[Picture]] = {}
    for figure in figures:
        above = pictures.setdefault(figure.section, [])
        is_repeated = any(picture.figure.caption == figure.caption for picture in above)
        above.append(Picture(figure, data_uri(folder, figure), "" if is_repeated else figure.caption))
    names = dict.fromkeys([*pictures, *(table.section for table in found if table.section)])
    return [Section(name, pictures.get(name, []), [t for t in found if t.section == name]) for name in names]


def data_uri(folder: Path, figure: Figure) -> str:
    """PNG of a figure for the src of an image."""
    if figure.image is None or not (folder / figure.image).is_file():
        return ""
    return "data:image/png;base64," + base64.b64encode((folder / figure.image).read_bytes()).decode()


def correction_files(folder: Path) -> list[tuple[str, list[tuple[str, str]]]]:
    """Correction JSON files of the folder: path and (name, description) of what each holds."""
    found = []
    for path in sorted((folder / "corrections").glob("*.json*")):
        raw = path.read_bytes()
        document = json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
        parts = [*(document.get("corrections") or ()), *(document.get("compound_corrections") or ())]
        names = [(str(part.get("name")), str(part.get("description") or "")) for part in parts]
        found.append((path.relative_to(folder).as_posix(), names))
    return found


def _known_answer(run: Mapping[str, Any]) -> tables.Table | None:
    return tables.known_answer_table(_records((run.get("closure") or {}).get("pulls")))


def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _present(found: Iterable[tables.Table | None]) -> list[tables.Table]:
    return [table for table in found if table is not None]


def _records(value: Any) -> list[dict[str, Any]]:
    """List of records from a list, or from a mapping of names to records."""
    if isinstance(value, dict):
        return [{"name": name, **record} for name, record in value.items() if isinstance(record, dict)]
    return [record for record in value or () if isinstance(record, dict)]


def _notes(run: Mapping[str, Any]) -> list[str]:
    return [str(note) for key in ("notes", "notices", "warnings", "neighbours") for note in run.get(key) or ()]
