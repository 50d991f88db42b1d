"""What shall be drawn, and what has been: plain records that travel to a process pool and back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure as Canvas

    from report.settings import ReportSettings

Need = Literal["always", "default", "all"]


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure to be drawn.

    Attributes
    ----------
    name
        File name without extension.
    section
        Heading of the page under which it is shown.
    draw
        Module-level function that makes the figure from `arguments` and the settings; both can be pickled.
    need
        "always", "default" as far as the default number of figures allows, or "all" on request only.
    """

    name: str
    section: str
    title: str
    caption: str
    draw: Callable[..., Canvas]
    arguments: tuple[Any, ...] = field(repr=False)
    need: Need = "always"

    def canvas(self, settings: ReportSettings) -> Canvas:
        """Figure, drawn."""
        return self.draw(*self.arguments, settings)


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure that was written; `paths` are relative to the output folder, one per format."""

    name: str
    section: str
    title: str
    caption: str
    paths: tuple[str, ...]

    @property
    def image(self) -> str | None:
        """Path of the PNG, if there is one."""
        return next((path for path in self.paths if path.endswith(".png")), None)


def file_name(*parts: object) -> str:
    """Parts joined by underscores, with nothing that a file system or a URL would mind."""
    text = "_".join(str(part) for part in parts if part not in ("", None))
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in text)
