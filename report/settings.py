"""Which figures are drawn, and how they look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from processors.errors import InputError

Style = Literal["ATLAS", "CMS"]
Plots = Literal["default", "all"]
Format = Literal["png", "pdf", "svg"]
Scale = Literal["log", "linear"]


@dataclass(frozen=True, slots=True)
class ReportSettings:
    """Look of the figures and of the page (YAML section `report`).

    Attributes
    ----------
    style
        Fonts, ticks and header of the experiment.
    experiment
        Name in the header; null for that of the style, "" for no name. The figures show whatever files were given, so
        the name of an experiment is for its members to set.
    label
        Words after the name.
    lumi, com
        Integrated luminosity in 1/fb and centre-of-mass energy in TeV, left out of the header if None.
    plots
        "default" is at most 30 figures, "all" is every distribution.
    formats
        What each figure is written as; the page shows the PNG ones.
    asymmetry_scale
        Vertical axis of the asymmetry distributions.
    dpi
        Pixels per inch of PNG figures.
    """

    style: Style = "ATLAS"
    experiment: str | None = "Jetbalance"
    label: str = ""
    lumi: float | None = None
    com: float | None = None
    plots: Plots = "default"
    formats: tuple[Format, ...] = ("png", "pdf")
    asymmetry_scale: Scale = "log"
    dpi: int = 100

    def __post_init__(self) -> None:
        """Refuse words that are not among the choices."""
        choices = (
            ("style", self.style, Style),
            ("plots", self.plots, Plots),
            ("asymmetry_scale", self.asymmetry_scale, Scale),
        )
        for name, value, choice in choices:
            if value not in get_args(choice):
                raise InputError(f"report.{name} must be one of {', '.join(get_args(choice))}, got {value!r}")
        for kind in self.formats:
            if kind not in get_args(Format):
                raise InputError(f"report.formats may hold {', '.join(get_args(Format))}, got {kind!r}")

    @property
    def name(self) -> str:
        """Name of the experiment in the header."""
        return self.style if self.experiment is None else self.experiment
