"""What a run tells on the console when it is done: what it did, the main numbers, and where the rest is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table as RichTable

from report.tables import scale_factor_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from corrections.results import Measurement

SHOWN = ("report.html", "corrections/jet_jerc.json.gz", "resolution.csv", "histograms.root", "histograms.zip")


def show_summary(run: Mapping[str, Any], measurements: Sequence[Measurement], folder: Path) -> None:
    """Print it; `run` is the content of run.json."""
    console = Console(highlight=False)
    seconds = run["seconds"]
    rate = run["events"] / seconds["fill"] if seconds["fill"] else 0.0
    console.print(
        f"{run['events']:,} events of {len(run['datasets'])} datasets in {seconds['fill']:.1f} s "
        f"({rate:,.0f} events/s, {run['executor']}, {run['workers']} workers), "
        f"{sum(seconds.values()):.1f} s in all"
    )
    for measurement in measurements:
        _show_table(console, measurement)
    for line in _notices(run):
        console.print(line, markup=False)
    console.print(f"Results in {folder}", markup=False, soft_wrap=True)
    console.print("  " + ", ".join(name for name in SHOWN if (folder / name).exists()), markup=False)


def _show_table(console: Console, measurement: Measurement) -> None:
    table = scale_factor_table(measurement)
    if table is None:
        return
    drawn = RichTable(title=table.title, title_justify="left")
    for i, name in enumerate(table.columns):
        drawn.add_column(name, justify="left" if i in table.words else "right")
    for row in table.rows:
        drawn.add_row(*row)
    console.print(drawn)


def _notices(run: Mapping[str, Any]) -> list[str]:
    """What the user should know before the numbers are used."""
    lines = [f"note: {note}" for note in run["notes"]]
    lines += [f"not written: {name}: {why}" for name, why in (run.get("not_written") or {}).items()]
    lines += [
        f"lost: {chunk['dataset']}: {chunk['file']}, entries {chunk['start']} to {chunk['stop']}: {chunk['reason']}"
        for chunk in run["lost"]
    ]
    closure = run.get("closure")
    if closure:
        words = "agree" if closure["ok"] else "DO NOT AGREE"
        lines.append(
            f"closure: measured and injected values {words}, "
            f"chi2 {closure['chi2']:.1f} for {closure['ndf']} values, p = {closure['p_value']:.2g}"
        )
    return lines
