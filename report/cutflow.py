"""Events after each cut, one panel per dataset."""

# ruff: noqa: RUF001 - Greek letters and signs are what is meant

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from report.figures import Drawing, file_name
from report.sheet import Area, Grid, Scale, pages
from report.style import BLUE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from matplotlib.figure import Figure

    from report.settings import ReportSettings
    from report.sheet import Panel, Sheet

SECTION = "Cutflow"
CAPTION = (
    "Events of each dataset after each cut, with the fraction of all events. The first four steps look at the jets as "
    "they are read, before identification, cleaning and triggers."
)
COLUMNS, PANELS_PER_PAGE = 2, 6
BAR = Area(BLUE, 0.45)


class Step(NamedTuple):
    """Events that passed a cut, their share of the first step (nan where that is empty) and their sum of weights."""

    name: str
    events: float
    share: float
    weighted: float


def steps_of(rows: Iterable[tuple[str, str, float, float]]) -> dict[str, list[Step]]:
    """Steps by dataset from rows of (dataset, step, events, weighted events), in their order."""
    tables: dict[str, list[tuple[str, float, float]]] = {}
    for dataset, step, events, weighted in rows:
        tables.setdefault(dataset, []).append((step, float(events), float(weighted)))
    return {
        dataset: [Step(name, n, n / table[0][1] if table[0][1] else float("nan"), w) for name, n, w in table]
        for dataset, table in tables.items()
    }


def drawings(rows: Iterable[tuple[str, str, float, float]], skims: Mapping[str, str] | None = None) -> list[Drawing]:
    """One page for up to six datasets; `skims` tells by dataset what was left out before, "" for nothing."""
    found, skims = [], skims or {}
    for i, page in enumerate(pages(list(steps_of(rows).items()), PANELS_PER_PAGE)):
        name = file_name("cutflow", i + 1 if i else "")
        told = [f" Before, {dataset} was skimmed: {skims[dataset]}." for dataset, _ in page if skims.get(dataset)]
        caption = CAPTION + "".join(told)
        found.append(Drawing(name, SECTION, "Cutflow", caption, draw, (tuple((d, tuple(s)) for d, s in page),)))
    return found


def draw(datasets: Sequence[tuple[str, Sequence[Step]]], settings: ReportSettings) -> Figure:
    """Page of cutflows."""
    longest = max(len(steps) for _, steps in datasets)
    grid = Grid(columns=COLUMNS, height=0.55 + 0.22 * longest, left=1.6, gap_x=1.6, gap_y=0.45)
    sheet = grid.sheet(len(datasets), settings, "events after each cut")
    for i, (dataset, steps) in enumerate(datasets):
        most = max((step.events for step in steps), default=0)
        x = Scale(0, 1.6 * max(most, 1.0), ticks=())
        panel = grid.panel(sheet, i, x, Scale(-0.6, len(steps) + 0.9, ticks=()))
        sheet.frame(panel, "events" if grid.is_last_of_column(i, len(datasets)) else "")
        sheet.words(panel, 0, dataset, bold=True)
        _draw_steps(sheet, panel, steps)
    return sheet.figure()


def _draw_steps(sheet: Sheet, panel: Panel, steps: Sequence[Step]) -> None:
    for i, step in enumerate(reversed(steps)):
        if step.events > 0:
            sheet.bar(panel, (panel.x.low, step.events), i - 0.38, i + 0.38, BAR)
        sheet.note(panel, panel.x.low, i, f"{step.name.replace('_', ' ')} ", ha="right", va="center")
        sheet.note(panel, max(step.events, panel.x.low), i, f" {words(step)}", ha="left", va="center")


def words(step: Step) -> str:
    """Number of events with its share."""
    return f"{step.events:,.0f}   {percent(step.share)}"


def percent(share: float) -> str:
    """Share in per cent with three digits, a dash where it is unknown."""
    return "–" if share != share else f"{100 * share:.3g} %"  # noqa: PLR0124 nan is unequal to itself
