"""An output folder and its report: written at the end of a run, made again from the files alone."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

from corrections.results import DATA, SIMULATION
from processors.errors import InputError
from processors.histogram_files import read_histograms
from report.measurement_file import read_measurements, write_measurements
from report.page import write_page
from report.plots import draw_all
from report.spectrum import Role

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    import hist

    from corrections.results import Measurement
    from report.figures import Figure
    from report.plots import CutflowRow, Map
    from report.settings import ReportSettings

CUTFLOW_FILE, RUN_FILE = "cutflow.csv", "run.json"
CUTFLOW_COLUMNS = ("dataset", "step", "events", "weighted")


def write_report(
    folder: Path,
    run: Mapping[str, Any],
    measurements: Sequence[Measurement],
    histograms: Mapping[str, hist.Hist[Any]],
    cutflow_rows: Iterable[CutflowRow],
    settings: ReportSettings,
    *,
    parallel_map: Map = map,
) -> tuple[Figure, ...]:
    """Figures drawn and page written; the measurement is kept beside them for the next time.

    `run` is what run.json holds: `datasets` says by "name", "is_mc", "role" and "normalisation" what the spectrum is
    made of, and `injected` holds (|eta| low, |eta| high, value) under "scale_factor" and "residual".
    """
    rows = list(cutflow_rows)
    write_measurements(measurements, folder)
    figures = draw_all(
        measurements,
        histograms,
        rows,
        settings,
        folder,
        roles=roles_of(run),
        injected=run.get("injected"),
        parallel_map=parallel_map,
    )
    write_page(folder, run, measurements, figures, rows)
    return figures


def remake(folder: Path, settings: ReportSettings, *, parallel_map: Map = map) -> tuple[Figure, ...]:
    """Figures and page of an output folder, from the files in it."""
    run = read_run(folder)
    return write_report(
        folder,
        run,
        read_measurements(folder),
        read_histograms(folder),
        read_cutflow(folder),
        settings,
        parallel_map=parallel_map,
    )


def roles_of(run: Mapping[str, Any]) -> dict[str, Role]:
    """What each dataset is, from the `datasets` of run.json; an alternative simulation is called by its process."""
    datasets = run.get("datasets") or ()
    records = [{"name": n, **r} for n, r in datasets.items()] if isinstance(datasets, dict) else list(datasets)
    return {str(record["name"]): _role(record) for record in records}


def _role(record: Mapping[str, Any]) -> Role:
    kind = SIMULATION if record.get("is_mc") else DATA
    if record.get("role") == "alternative":
        kind = str(record.get("process") or record["name"])
    return Role(kind, float(record.get("normalisation") or 1.0), str(record.get("skim") or ""))


def read_run(folder: Path) -> dict[str, Any]:
    """Content of run.json."""
    path = folder / RUN_FILE
    if not path.is_file():
        raise InputError(f"expected {path}; name the output folder of a run")
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}); run the analysis again") from error
    if not isinstance(run, dict):
        raise InputError(f"{path} holds a {type(run).__name__}, expected an object; run the analysis again")
    return run


def read_cutflow(folder: Path) -> list[CutflowRow]:
    """Rows of cutflow.csv: dataset, step, events, weighted events."""
    path = folder / CUTFLOW_FILE
    if not path.is_file():
        raise InputError(f"expected {path}; name the output folder of a run")
    with path.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        missing = set(CUTFLOW_COLUMNS) - set(reader.fieldnames or ())
        if missing:
            raise InputError(f"{path} lacks the columns {', '.join(sorted(missing))}; run the analysis again")
        return [(row["dataset"], row["step"], float(row["events"]), float(row["weighted"])) for row in reader]
