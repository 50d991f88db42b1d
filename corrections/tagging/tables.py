"""Files of a measurement of taggers: every point, every fit, the known answer, workspaces."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

from corrections.tagging.workspace import workspace

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from corrections.tagging.closure import Again, Spectrum
    from corrections.tagging.fit import BinFit
    from corrections.tagging.known_answer import KnownPull
    from corrections.tagging.results import TaggerPoint
    from corrections.tagging.settings import FitSettings
    from corrections.tagging.windows import InWindow

POINTS, FITS, KNOWN, CLOSURE = "tagger_sf.csv", "fits.csv", "known_answer.csv", "closure.csv"
WINDOWS, SPECTRA = "mass_windows.csv", "closure_spectra.csv"
_POINT = ("quantity", "tagger", "working_point", "category", "pt_low", "pt_high", "eta_low", "eta_high")
_KNOWN = ("tagger", "working_point", "category", "pt_low", "pt_high", "eta_low", "eta_high")
_FIT = ("tagger", "working_points", "left_out", "pt_low", "pt_high", "status")
_FIT_QUALITY = ("distance", "degrees", "p_value", "negative_bins")


def write_points(points: Sequence[TaggerPoint], path: Path) -> None:
    """One line each, numbers in full precision, nan for what could not be measured; empty where a source was not."""
    sources = list(dict.fromkeys(shift.source for each in points for shift in each.shifts))
    sides = [f"{source}_{side}" for source in sources for side in ("up", "down")]
    header = (*_POINT, "value", "stat", "total", *sides, "efficiency", "efficiency_error", "status")
    rows = []
    for each in points:
        shifts = [each.shift(source) for source in sources]
        cells = [cell for shift in shifts for cell in ((shift.up, shift.down) if shift else ("", ""))]
        numbers = (each.value, each.stat, each.total if each.is_measured else each.value)
        rows.append([*_place(each), *numbers, *cells, each.efficiency, each.efficiency_error, each.status])
    _write(path, header, rows)


def write_fits(fits: Sequence[BinFit], path: Path) -> None:
    """How well each fit describes its data."""
    rows = []
    for each in fits:
        of = each.templates
        place = (of.tagger, " ".join(of.working_points), " ".join(of.left_out), of.pt.low, of.pt.high)
        rows.append([*place, each.status, each.distance, each.degrees, each.p_value, of.negative_bins])
    _write(path, (*_FIT, *_FIT_QUALITY), rows)


def write_known(pulls: Sequence[KnownPull], path: Path) -> None:
    """Injected and measured, with pulls."""
    rows = [[*_place(each.point)[1:], each.known, each.point.value, each.point.total, each.value] for each in pulls]
    _write(path, (*_KNOWN, "injected", "measured", "uncertainty", "pull"), rows)


def write_closure(again: Sequence[Again], path: Path) -> None:
    """Scale factors after they were applied, beside those that were."""
    rows = [[*_place(each.point), each.point.value, each.value, each.error, each.distance] for each in again]
    _write(path, (*_POINT, "applied", "again", "uncertainty", "distance"), rows)


def write_spectra(spectra: Sequence[Spectrum], path: Path) -> None:
    """Data and simulation without weights and with them."""
    rows = [[each.name, each.bins, each.before, each.after] for each in spectra]
    _write(path, ("spectra", "bins", "chi2", "chi2_with_weights"), rows)


def write_windows(windows: Sequence[InWindow], path: Path) -> None:
    """Scale factors in other ranges of mass beside the published ones."""
    rows = [
        [e.tagger, e.working_point, e.category, e.pt.low, e.pt.high, *e.window, e.value, e.error, e.published]
        for e in windows
    ]
    place = ("tagger", "working_point", "category", "pt_low", "pt_high", "mass_low", "mass_high")
    _write(path, (*place, "value", "uncertainty", "published"), rows)


def known_lines(pulls: Sequence[KnownPull]) -> list[str]:
    """The same for the console."""
    return [
        f"{each.point.name}: injected {each.known:.3f}, measured {each.point.value:.3f} +- {each.point.total:.3f}, "
        f"pull {each.value:+.2f}"
        for each in pulls
    ]


def write_workspaces(fits: Sequence[BinFit], settings: FitSettings, folder: Path) -> None:
    """A pyhf workspace for each fit that could be tried, so that anybody can run it again."""
    folder.mkdir(parents=True, exist_ok=True)
    for each in (fitted for fitted in fits if fitted.templates.working_points):
        content = json.dumps(workspace(each.templates, settings), indent=1)
        (folder / f"{each.templates.name}.json").write_text(f"{content}\n", encoding="utf-8")


def _place(point: TaggerPoint) -> list[object]:
    names = [point.quantity, point.tagger, point.working_point, point.category]
    return [*names, point.pt.low, point.pt.high, point.eta.low, point.eta.high]


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
