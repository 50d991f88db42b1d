"""The folder of a measurement of taggers: fits, tables, corrections, figures, and what the console tells."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from corrections.results import FAILED_BELOW
from corrections.tagging import tables
from corrections.tagging.covariance import write_covariance
from corrections.tagging.measurement import check, close_loop, measure, read_inputs, with_injected
from corrections.tagging.mistag import CATEGORY as MISTAG
from corrections.tagging.settings import TaggerMeasurementSettings
from corrections.tagging.tagger_json import FILE, write_tagger_json
from processors.errors import InputError
from processors.progress import counted
from processors.settings_file import as_plain
from processors.worker_pool import available_cores, open_pool, stop_pool
from report.settings import ReportSettings
from report.tagger_factors import write_factors, write_uncertainties, write_windows
from report.tagger_fits import write_fit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from corrections.tagging.closure import Closure
    from corrections.tagging.known_answer import Answer
    from corrections.tagging.measurement import TaggerMeasurement
    from corrections.tagging.results import TaggerPoint
    from corrections.tagging.tagger_json import WrittenTaggers

FACTS_FILE = "tagger_measurement.json"
TABLES = (tables.POINTS, tables.FITS, tables.KNOWN, tables.CLOSURE, tables.SPECTRA, tables.WINDOWS)
CONTENT = (*TABLES, "covariance.npz", "workspaces", "corrections", "plots")
# Of what is measured again from 1, in uncertainties: of the same jets, so that chance has no part in it.
LARGEST_LEFT = 0.5


@dataclass(frozen=True, slots=True)
class TaggerRunSettings(TaggerMeasurementSettings):
    """The measurement, and how its figures look."""

    report: ReportSettings = field(default_factory=ReportSettings)


@dataclass(frozen=True, slots=True)
class TaggerRun:
    """What came of a run; `is_empty` where not one scale factor was measured."""

    lines: tuple[str, ...]
    is_empty: bool
    is_complete: bool
    is_closed: bool


def run(
    folders: Sequence[Path],
    output: Path,
    settings: TaggerRunSettings,
    *,
    workers: int | None = None,
    injected: Answer | None = None,
    seed: int = 1,
    overwrite: bool = False,
) -> TaggerRun:
    """Measure the tagging runs in `folders` and write everything into `output`.

    With `injected` data are made of simulation, see `corrections.tagging.known_answer`.
    """
    began = time.monotonic()
    inputs = read_inputs(folders, settings.templates.lumi, settings.mistag.lumi)
    check(inputs, settings)
    if injected is not None:
        inputs = with_injected(inputs, injected, seed)
    _open(output, overwrite=overwrite)
    pool = open_pool(workers or available_cores())
    try:
        measurement = measure(inputs, settings, _with_progress(pool.map, "fits"))
        measured = time.monotonic()
        written = _write(measurement, settings, output)
        drawings = list(_drawings(measurement, output / "plots", settings.report))
        list(_with_progress(pool.map, "figures")(_drawn, drawings))
        closure = close_loop(inputs, measurement, settings, output / "corrections" / FILE, pool.map)
        tables.write_closure(closure.again, output / tables.CLOSURE)
        tables.write_spectra(closure.spectra, output / tables.SPECTRA)
    finally:
        stop_pool(pool)
    seconds = {"measure": measured - began, "write": time.monotonic() - measured}
    _write_facts(measurement, closure, written, settings, folders, seconds, output)
    return TaggerRun(
        lines=tuple(_lines(measurement, closure, written, output, seconds)),
        is_empty=not measurement.n_measured,
        is_complete=all(each.is_complete for each in inputs),
        is_closed=_is_closed(measurement, closure),
    )


def _drawings(
    measurement: TaggerMeasurement, folder: Path, settings: ReportSettings
) -> Iterator[Callable[[], list[Path]]]:
    """What writes the figures, those that take longest first."""
    points = [each.point for each in measurement.estimates]
    yield partial(write_uncertainties, points, folder, settings)
    yield partial(write_factors, points, folder, settings)
    yield partial(write_windows, measurement.windows, folder, settings)
    yield from (partial(write_fit, each, folder, settings) for each in measurement.fits)


def _drawn(drawing: Callable[[], list[Path]]) -> list[Path]:
    return drawing()


def _is_closed(measurement: TaggerMeasurement, closure: Closure) -> bool:
    """Whether the known answer was found, and weights leave scale factors of 1, each of them."""
    left = not closure.left_beyond(LARGEST_LEFT) and not closure.lost
    return left and measurement.p_value >= FAILED_BELOW


def _with_progress(parallel_map: Callable[..., Any], title: str) -> Callable[..., Iterator[Any]]:
    def shown(task: Callable[..., Any], items: Sequence[Any]) -> Iterator[Any]:
        return counted(parallel_map(task, items), len(items), title)

    return shown


def _open(output: Path, *, overwrite: bool) -> None:
    """An empty folder, or one of ours whose content may be replaced; until all is written it says so."""
    if output.exists() and not output.is_dir():
        raise InputError(f"--output {output} is a file; name a folder")
    is_used = output.is_dir() and any(output.iterdir())
    if is_used and not (overwrite and (output / FACTS_FILE).is_file()):
        raise InputError(f"--output {output} is not empty; say --overwrite for an earlier measurement, or name another")
    try:
        output.mkdir(parents=True, exist_ok=True)
        _write_json({"is_finished": False}, output / FACTS_FILE)
    except OSError as error:
        raise InputError(f"--output {output} cannot be written ({error.strerror}); name another folder") from None
    for name in CONTENT:
        path = output / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _write(measurement: TaggerMeasurement, settings: TaggerRunSettings, output: Path) -> WrittenTaggers:
    points = [each.point for each in measurement.estimates]
    tables.write_points(points, output / tables.POINTS)
    tables.write_fits(measurement.fits, output / tables.FITS)
    tables.write_workspaces(measurement.fits, settings.fit, output / "workspaces")
    write_covariance(measurement.estimates, output / "covariance.npz")
    if measurement.windows:
        tables.write_windows(measurement.windows, output / tables.WINDOWS)
    if measurement.pulls:
        tables.write_known(measurement.pulls, output / tables.KNOWN)
    path = output / "corrections" / FILE
    groups = {**settings.templates.groups, MISTAG: settings.mistag.multijet}
    return write_tagger_json(
        points, measurement.efficiencies, measurement.cuts, path, settings.json.order, _meanings(settings), groups
    )


def _meanings(settings: TaggerRunSettings) -> dict[str, str]:
    """What the jets of each category are, in words."""
    low, high = settings.templates.mass
    fitted = f"efficiency for any mass, fitted at soft-drop masses of {low:g} to {high:g} GeV"
    groups = settings.templates.groups.items()
    found = {name: f"jets that are {' or '.join(members)} in truth, {fitted}" for name, members in groups}
    return {**found, MISTAG: f"jets that are {' or '.join(settings.mistag.multijet)} in truth, from dijets"}


def _write_facts(
    measurement: TaggerMeasurement,
    closure: Closure,
    written: WrittenTaggers,
    settings: TaggerRunSettings,
    folders: Sequence[Path],
    seconds: dict[str, float],
    output: Path,
) -> None:
    facts = {
        "is_finished": True,
        "inputs": [str(folder) for folder in folders],
        "settings": as_plain(settings),
        "corrections": list(written.names),
        "refused": dict(written.refused),
        "known_answer": as_plain(measurement.agreement),
        "closure": {
            "largest_left": closure.largest_left,
            "left": [each.point.name for each in closure.left_beyond(LARGEST_LEFT)],
            "lost": [each.point.name for each in closure.lost],
        },
        "notes": list(measurement.notes),
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
    }
    _write_json(facts, output / FACTS_FILE)


def _write_json(content: Mapping[str, Any], path: Path) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False)
    path.write_text(f"{text}\n", encoding="utf-8")


def _refused_lines(points: Sequence[TaggerPoint], written: WrittenTaggers) -> Iterator[str]:
    """What was not written and why; working points of one bin in one line."""
    lacking = dict(written.refused)
    grouped: dict[tuple[str, str, str, str], list[str]] = {}
    for point in points:
        why = lacking.pop(point.name, None)
        if why is not None:
            grouped.setdefault((point.tagger, point.category, point.where, why), []).append(point.working_point)
    for (tagger, category, where, why), names in grouped.items():
        yield f"not written: {tagger} {category} at {where}: {', '.join(names)}: {why}"
    yield from (f"not written: {name}: {why}" for name, why in lacking.items())


def _lines(
    measurement: TaggerMeasurement,
    closure: Closure,
    written: WrittenTaggers,
    output: Path,
    seconds: dict[str, float],
) -> Iterator[str]:
    yield from (f"note: {note}" for note in measurement.notes)
    yield from _refused_lines([each.point for each in measurement.estimates], written)
    yield from tables.known_lines(measurement.pulls)
    for tagger, each in measurement.agreement.items():
        yield (
            f"known answer of {tagger}: chi2 {each.chi2:.1f} of {each.n_points}, p = {each.p_value:.3f}, largest pull "
            f"{each.largest:.2f}"
        )
    yield from _closure_lines(closure)
    yield (
        f"{measurement.n_measured} of {len(measurement.estimates)} scale factors measured with "
        f"{len(measurement.fits)} fits in {seconds['measure']:.1f} s"
    )
    what = "Scale factors" if measurement.n_measured else "No scale factors, efficiencies of simulation and cuts alone,"
    yield f"{what} written: {output / 'corrections' / FILE}"


def _closure_lines(closure: Closure) -> Iterator[str]:
    """Whether simulation with the weights of the file is that of data."""
    if closure.again:
        n_again = len(closure.again) - len(closure.lost)
        yield (
            f"measured again with weights of the file: {n_again} of {len(closure.again)} scale factors, at most "
            f"{closure.largest_left:.2f} uncertainties from 1"
        )
    for each in closure.left_beyond(LARGEST_LEFT):
        yield (
            f"the loop does not close: {each.point.name} is {each.value:.3f} ± {each.error:.3f} again, more than "
            f"{LARGEST_LEFT:g} uncertainties from 1"
        )
    yield from (f"not measured again with weights of the file: {each.point.name}" for each in closure.lost)
    if closure.spectra:
        before, after = (sum(getattr(each, name) for each in closure.spectra) for name in ("before", "after"))
        n = sum(each.bins for each in closure.spectra)
        told = f"chi2 {before:.0f} of {n} bins, with weights of the file {after:.0f}"
        yield f"spectra of pass and fail beside data: {told}"
