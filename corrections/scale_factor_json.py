"""The data/simulation scale factor as a correction: legacy layout with all sources, regional split, split layout."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from corrections.coverage import form_in_pt, pt_edges
from corrections.results import SOURCES
from corrections.schema import category, correction, over_eta, over_pt, refuse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import correctionlib.schemav2 as cs

    from corrections.coverage import Covered, Points
    from corrections.results import Interval, Point

Layout = Literal["legacy", "split"]


@dataclass(frozen=True, slots=True)
class Region:
    """A part of the plane of |eta| and pT whose jets share one nuisance parameter; pT in GeV."""

    name: str
    eta: tuple[float, float]
    pt: tuple[float, float] = (0.0, np.inf)

    def holds(self, eta: float, pt: float) -> bool:
        """Whether a jet belongs to it."""
        return self.eta[0] <= eta < self.eta[1] and self.pt[0] <= pt < self.pt[1]


# The six regional nuisance parameters of CMS analyses; what lies beyond |eta| = 5 belongs to the last ones.
REGIONS = (
    Region("eta0to1p93", (0.0, 1.93)),
    Region("eta1p93to2p5", (1.93, 2.5)),
    Region("eta2p5to3_pt0to50", (2.5, 3.0), (0.0, 50.0)),
    Region("eta2p5to3_ptabove50", (2.5, 3.0), (50.0, np.inf)),
    Region("eta3to5_pt0to50", (3.0, np.inf), (0.0, 50.0)),
    Region("eta3to5_ptabove50", (3.0, np.inf), (50.0, np.inf)),
)
KEYS = ("nom", "up", "down", *(f"{source}_{side}" for source in ("stat", *SOURCES) for side in ("up", "down")))
REGION_ETA, REGION_PT, LOWEST_PT = (1.93, 2.5, 3.0), 50.0, 10.0


@dataclass(frozen=True, slots=True)
class JsonLayout:
    """How scale factors are written (YAML section `json`).

    Attributes
    ----------
    layout
        "legacy": one correction with the input systematic. "split": ScaleFactor and SFUncertainty, both of JetEta and
        JetPt, as CMS writes since June 2026; the uncertainty is relative, SF x (1 +- u).
    regions
        Whether the legacy layout has the total uncertainty of six regions of |eta| and pT apart as well.
    """

    layout: Layout = "legacy"
    regions: bool = False

    def __post_init__(self) -> None:
        """Refuse unknown layouts, and regions where there is no place for them."""
        if self.layout not in get_args(Layout):
            message = f"json.layout must be one of {', '.join(get_args(Layout))}, got {self.layout}"
            raise ValueError(message)
        if self.regions and self.layout == "split":
            message = "json.regions needs json.layout legacy: the split layout has no input to choose a region with"
            raise ValueError(message)


def scale_factor(name: str, factors: Covered[Points], layout: JsonLayout) -> list[cs.Correction]:
    """The scale factor in the layout asked for; a second correction holds the uncertainty of the split layout."""
    if layout.layout == "split":
        return _split(name, factors)
    edges = [*factors.edges, *(REGION_ETA if layout.regions else ())]
    eta_edges = sorted({edge for edge in edges if factors.edges[0] <= edge <= factors.edges[-1]})
    content = []
    for low, high in pairwise(eta_edges):
        i = next(i for i, each in enumerate(factors.bins) if each.low <= low < each.high)
        content.append(_legacy(name, factors.values[i], factors.bins[i], 0.5 * (low + high), layout))
    description = (
        f"Resolution scale factor data/simulation from dijet balance, {form_in_pt(factors)}; not clipped at 1. All "
        f"keys of systematic give values, not shifts: up and down hold the statistical uncertainty and all sources in "
        f"quadrature, SOURCE_up and SOURCE_down one source. {_sources(factors)} |eta| and JetPt are clamped to the "
        f"measured range. {factors.note()}"
    )
    inputs = ("JetEta", "JetPt", "systematic")
    return [correction(name, description, inputs, "scale_factor", over_eta(eta_edges, content))]


def uncertainty_name(name: str) -> str:
    """Name of the second correction of the split layout."""
    return name.replace("_ScaleFactor_", "_SFUncertainty_")


def _legacy(name: str, points: Points, bin_eta: Interval, eta: float, layout: JsonLayout) -> Any:
    edges, chosen = _pt_bins(points, layout)
    content = []
    for (low, high), point in zip(pairwise(edges), chosen, strict=True):
        values = factor_values(point)
        if layout.regions:
            values |= _regional(point, eta, 0.5 * (low + high))
        refuse(name, bin_eta, values.values())
        content.append(category(values))
    return over_pt(edges, content)


def _pt_bins(points: Points, layout: JsonLayout) -> tuple[list[float], list[Point]]:
    """Edges in pT and the point that holds in each bin."""
    edges = pt_edges(points) if len(points) > 1 else [LOWEST_PT, max(points[0].pt.high, 2 * REGION_PT)]
    # what is clamped to an outermost bin belongs to its own side of the edge between regions
    if layout.regions and edges[0] >= REGION_PT:
        edges = [LOWEST_PT, REGION_PT, *edges[1:]]
    elif layout.regions and edges[-1] <= REGION_PT:
        edges = [*edges[:-1], REGION_PT, 2 * REGION_PT]
    elif layout.regions:
        edges = sorted({*edges, REGION_PT})
    starts = [-np.inf, *(p.pt.low for p in points[1:])]
    return edges, [points[max(i for i, start in enumerate(starts) if start <= low)] for low in edges[:-1]]


def factor_values(point: Point) -> dict[str, float]:
    """Value by the word of `systematic`; a source that was not evaluated leaves the nominal value."""
    values = {"nom": point.value, "up": point.value + point.total, "down": point.value - point.total}
    values |= {"stat_up": point.value + point.stat, "stat_down": point.value - point.stat}
    for source in SOURCES:
        shift = point.shift(source)
        values[f"{source}_up"] = point.value + (shift.up if shift else 0.0)
        values[f"{source}_down"] = point.value + (shift.down if shift else 0.0)
    return values


def _regional(point: Point, eta: float, pt: float) -> Mapping[str, float]:
    inside = {region.name: region.holds(eta, pt) * point.total for region in REGIONS}
    ups = {f"{name}_up": point.value + size for name, size in inside.items()}
    return ups | {f"{name}_down": point.value - size for name, size in inside.items()}


def _split(name: str, factors: Covered[Points]) -> list[cs.Correction]:
    content: dict[str, list[Any]] = {"nominal": [], "uncertainty": []}
    for points, eta in zip(factors.values, factors.bins, strict=True):
        edges = pt_edges(points)
        values, uncertainties = [p.value for p in points], [p.total / p.value for p in points]
        refuse(name, eta, values + uncertainties)
        content["nominal"].append(over_pt(edges, values))
        content["uncertainty"].append(over_pt(edges, uncertainties))
    inputs = ("JetEta", "JetPt")
    clamped = f"|eta| and JetPt are clamped to the measured range. {factors.note()}"
    form = form_in_pt(factors)
    nominal = f"Resolution scale factor data/simulation from dijet balance, {form}; not clipped at 1. {clamped}"
    relative = (
        f"Relative uncertainty u of the resolution scale factor: up is SF x (1 + u) and down SF x (1 - u). "
        f"{_sources(factors)} {clamped}"
    )
    return [
        correction(name, nominal, inputs, "scale_factor", over_eta(factors.edges, content["nominal"])),
        correction(
            uncertainty_name(name),
            relative,
            inputs,
            "uncertainty",
            over_eta(factors.edges, content["uncertainty"]),
        ),
    ]


def _sources(factors: Covered[Points]) -> str:
    points: Sequence[Point] = [p for points in factors.values for p in points]
    found = [source for source in SOURCES if any(p.shift(source) for p in points)]
    lacking = [source for source in SOURCES if source not in found]
    told = f"Sources evaluated: {', '.join(['stat', *found])}."
    return f"{told} Not evaluated, and nominal: {', '.join(lacking)}." if lacking else told
