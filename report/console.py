"""What a run tells on the console when it is done: what it did, the main numbers, and where the rest is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table as RichTable

from corrections.results import FAILED_BELOW
from report.tables import scale_factor_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from corrections.results import Measurement

SHOWN = ("report.html", "corrections/jet_jerc.json.gz", "resolution.csv", "histograms.root", "histograms.zip")


def show_summary(run: Mapping[str, Any], measurements: Sequence[Measurement], folder: Path) -> None:
    """Print it; `run` is the content of run.json."""
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(_headline(run))
    for measurement in measurements:
        _show_table(console, measurement)
    for line in _notices(run):
        console.print(line)
    console.print(f"Results in {folder}: {', '.join(name for name in SHOWN if (folder / name).exists())}")


def _headline(run: Mapping[str, Any]) -> str:
    """What was done, how fast, and by how many workers."""
    seconds = run["seconds"]
    rate = f"{run['events'] / seconds['fill']:,.0f} events/s" if seconds["fill"] else "at once"
    how = f"{rate}, {run['executor']}, {_counted(run['workers'], 'worker')}"
    what = f"{run['events']:,} events of {_counted(len(run['datasets']), 'dataset')}"
    return f"{what} filled in {seconds['fill']:.1f} s ({how}); {sum(seconds.values()):.1f} s in all"


def _counted(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


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
    console.print(table.note)


def _notices(run: Mapping[str, Any]) -> list[str]:
    """What the user should know before the numbers are used."""
    lines = [f"note: {note}" for note in run["notes"]]
    missing = run.get("not_written") or {}
    for reason in dict.fromkeys(missing.values()):
        lines.append(f"not written: {', '.join(name for name, why in missing.items() if why == reason)}: {reason}")
    lines += [
        f"lost: {chunk['dataset']}: {chunk['file']}, entries {chunk['start']} to {chunk['stop']}: {chunk['reason']}"
        for chunk in run["lost"]
    ]
    for check in run.get("checks", ()):
        if check["is_loop"]:
            words = "closes" if check["p_value"] >= FAILED_BELOW else "DOES NOT CLOSE"
            chi2 = f"chi2 {check['chi2']:.1f} for {check['ndf']} values that should be 1, p = {check['p_value']:.2g}"
            lines.append(f"loop {words}: {check['name']}, {chi2}")
    closure = run.get("closure")
    if closure:
        words = "agree" if closure["ok"] else "DO NOT AGREE"
        lines.append(
            f"closure: measured and injected values {words}, "
            f"chi2 {closure['chi2']:.1f} for {closure['ndf']} values, p = {closure['p_value']:.2g}"
        )
    return lines
