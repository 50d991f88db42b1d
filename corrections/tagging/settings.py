"""How histograms of pass and fail become scale factors of taggers."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003  pydantic reads it at run time
from dataclasses import dataclass, field
from math import isfinite
from typing import Literal, get_args

from models.tagging.columns import CATEGORIES

Order = Literal["jme", "btv"]


def _default_groups() -> dict[str, tuple[str, ...]]:
    return {"top": ("top",), "w": ("w",), "other": ("other",), "unmatched": ("unmatched", "qcd")}


@dataclass(frozen=True, slots=True)
class TemplateSettings:
    """Mass templates of the fit (section `templates`), GeV.

    Attributes
    ----------
    mass
        The range of soft-drop mass that is fitted; the edges of bins next to it count.
    pt
        Edges of bins of pT, each of them one of the histogram; empty for all of these.
    groups
        The categories of the fit by name, each made of categories of truth.
    min_effective
        Effective events of simulation, (sum w)^2 / sum w^2, that a bin of mass has at least; bins are joined until
        they do.
    min_expected
        The same for its expectation at the luminosity of data.
    lumi
        Of the data that are fitted, in 1/fb; None for that of the datasets.
    """

    mass: tuple[float, float] = (50.0, 250.0)
    pt: tuple[float, ...] = ()
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=_default_groups)
    min_effective: float = 30.0
    min_expected: float = 5.0
    lumi: float | None = None

    def __post_init__(self) -> None:
        """Refuse ranges and groups that hold nothing."""
        _check(self.mass[0] < self.mass[1], f"templates.mass must rise, got {list(self.mass)}")
        _check(self.min_effective > 0 and self.min_expected >= 0, "templates.min_effective must be above 0")
        _check(self.lumi is None or self.lumi > 0, f"templates.lumi must be above 0, got {self.lumi}")
        unknown = {name for names in self.groups.values() for name in names} - set(CATEGORIES)
        told = f"templates.groups has {', '.join(sorted(unknown))}, categories are {', '.join(CATEGORIES)}"
        _check(not unknown, told)
        members = [name for names in self.groups.values() for name in names]
        _check(len(set(members)) == len(members), "templates.groups has a category twice")
        _check(bool(members), "templates.groups is empty")


@dataclass(frozen=True, slots=True)
class FitSettings:
    """The fit of pass and fail (section `fit`); uncertainties are relative.

    Attributes
    ----------
    free
        Groups whose scale factor is measured.
    background
        Uncertainty of the rate at which jets of the other groups pass.
    fraction
        Uncertainty of the yield of each group.
    cross_section
        Uncertainty of the cross section of each process, where simulation has those.
    lumi
        Uncertainty of the luminosity, where simulation is normalised to it.
    largest_error
        A scale factor with a larger uncertainty counts as not measured.
    min_p_value
        Where a fit describes its data worse than this, by the probability of its distance from a perfect one, nothing
        of it counts as measured; 0 for any.
    """

    free: tuple[str, ...] = ("top", "w", "other")
    background: float = 0.3
    fraction: float = 0.1
    cross_section: float = 0.05
    lumi: float = 0.025
    largest_error: float = 1.0
    min_p_value: float = 1e-4

    def __post_init__(self) -> None:
        """Refuse uncertainties that are none."""
        for name in ("background", "fraction", "cross_section", "lumi"):
            value = getattr(self, name)
            _check(0 <= value < 1, f"fit.{name} must be 0 or more and below 1, got {value:g}")
        _check(self.largest_error > 0 and isfinite(self.largest_error), "fit.largest_error must be above 0")
        _check(0 <= self.min_p_value < 1, f"fit.min_p_value must be 0 or more and below 1, got {self.min_p_value:g}")
        _check(bool(self.free), "fit.free is empty; name at least one group")


@dataclass(frozen=True, slots=True)
class MistagSettings:
    """Efficiency of multijets in dijet events (section `mistag`).

    Attributes
    ----------
    multijet
        Categories of truth that count as multijets.
    pt, eta
        Edges of bins, each of them one of the histogram; empty for all of these.
    subtraction
        Relative uncertainty of the yield of all others, which is subtracted from data.
    lumi
        Of the dijets, in 1/fb; None for that of the datasets.
    """

    multijet: tuple[str, ...] = ("qcd",)
    pt: tuple[float, ...] = ()
    eta: tuple[float, ...] = ()
    subtraction: float = 0.3
    lumi: float | None = None

    def __post_init__(self) -> None:
        """Refuse unknown categories, and what is no luminosity."""
        unknown = sorted(set(self.multijet) - set(CATEGORIES))
        _check(not unknown, f"mistag.multijet has {', '.join(unknown)}, categories are {', '.join(CATEGORIES)}")
        told = f"mistag.subtraction must be 0 or more and below 1, got {self.subtraction:g}"
        _check(0 <= self.subtraction < 1, told)
        _check(self.lumi is None or self.lumi > 0, f"mistag.lumi must be above 0, got {self.lumi}")


@dataclass(frozen=True, slots=True)
class TaggerJson:
    """How scale factors are written (section `json`).

    Attributes
    ----------
    order
        "jme": eta, pt, systematic, workingpoint with nom, up and down, a correction for each category. "btv":
        systematic, working_point, flavor, abseta, pt with central, up and down, all categories in one.
    """

    order: Order = "jme"

    def __post_init__(self) -> None:
        """Refuse an unknown order."""
        _check(self.order in get_args(Order), f"json.order must be one of jme, btv, got {self.order}")


@dataclass(frozen=True, slots=True)
class TaggerMeasurementSettings:
    """All settings of the measurement of taggers; in `windows` of mass, GeV, the fits are done besides."""

    templates: TemplateSettings = field(default_factory=TemplateSettings)
    fit: FitSettings = field(default_factory=FitSettings)
    mistag: MistagSettings = field(default_factory=MistagSettings)
    json: TaggerJson = field(default_factory=TaggerJson)
    windows: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        """Refuse windows that hold nothing, and scale factors of groups that there are not."""
        unknown = sorted(set(self.fit.free) - set(self.templates.groups))
        told = f"fit.free has {', '.join(unknown)}, templates.groups are {', '.join(self.templates.groups)}"
        _check(not unknown, told)
        _check(all(low < high for low, high in self.windows), f"windows must rise, got {list(self.windows)}")


def _check(holds: bool, message: str) -> None:  # noqa: FBT001  the only argument that matters
    if not holds:
        raise ValueError(message)
