"""tagger_sf.json.gz: scale factors of taggers as corrections, in either order of arguments that CMS uses.

    jme   {tagger}_{category}    (eta, pt, systematic, workingpoint)             nom, up, down, {source}_up, ...
    btv   {tagger}               (systematic, working_point, flavor, abseta, pt) central, up, down, up_{source}, ...

All words of systematic give values, not shifts; all categories and working points of a tagger have the same words, with
the nominal value where a source was not evaluated. pT beyond the measured range, and a bin that could not be measured,
have the value of the nearest measured bin with twice its uncertainty; |eta| is clamped. Nothing raises in a job.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import correctionlib
import correctionlib.schemav2 as cs
import numpy as np

from corrections.schema import NotWritableError, formula, publish
from corrections.tagging.efficiency import filled
from corrections.tagging.mistag import CATEGORY as MISTAG
from models.tagging.columns import CATEGORIES
from processors.tagger_weights import FromFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from corrections.results import Interval
    from corrections.tagging.efficiency import EfficiencyMap
    from corrections.tagging.results import TaggerPoint
    from corrections.tagging.settings import Order

FILE = "tagger_sf.json.gz"
VERSION = 1
OUTSIDE = 2.0
# Numbers of categories that are not of truth begin here.
FIRST_OTHER_FLAVOR = 10
_INPUTS = {
    "eta": ("real", "pseudorapidity of the jet, signed"),
    "abseta": ("real", "absolute pseudorapidity of the jet"),
    "pt": ("real", "transverse momentum of the jet in GeV"),
    "systematic": ("string", "the central value or a variation of it; a value, not a shift"),
    "workingpoint": ("string", "name of the cut on the score"),
    "working_point": ("string", "name of the cut on the score"),
    "category": ("string", "what the jet is in truth"),
    "flavor": ("int", "number of what the jet is in truth"),
}
_OUTPUTS = {
    "weight": "efficiency of data over that of simulation",
    "efficiency": "share of simulated jets that pass",
    "wp": "the least score that passes",
}
# Names of inputs in both orders.
_NAMES = {"jme": ("eta", "workingpoint"), "btv": ("abseta", "working_point")}


@dataclass(frozen=True, slots=True)
class WrittenTaggers:
    """Names of the corrections of a file; what is not in it, by name, and why."""

    names: tuple[str, ...]
    refused: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cell:
    """A point that holds in a bin of pT, and by how much its uncertainty is stretched there."""

    point: TaggerPoint
    stretch: float = 1.0


def write_tagger_json(
    points: Sequence[TaggerPoint],
    efficiencies: Sequence[EfficiencyMap],
    cuts: Mapping[str, Mapping[str, float]],
    path: Path,
    order: Order = "jme",
    meanings: Mapping[str, str] | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
) -> WrittenTaggers:
    """Write what could be measured to `path` (.json.gz), read back before it is put in place.

    `meanings` say by category what its jets are, for descriptions, and `groups` what categories of truth it is made of,
    for their flavors; one that is not named is made of itself. What is not finite is refused by name, the rest is
    written. Where nothing was measured at all, the cuts and the efficiencies are written alone.
    """
    refused = {
        each.name: each.status if each.status != "ok" else "not finite" for each in points if not each.is_measured
    }
    usable = [each for each in points if each.is_measured]
    by_order = (
        _by_category(usable, points, meanings or {})
        if order == "jme"
        else _by_flavor(usable, points, meanings or {}, groups or {})
    )
    corrections = [
        *by_order,
        *_efficiencies(efficiencies, order, groups or {}),
        *_cuts(cuts, order),
    ]
    made = {each.name for each in corrections}
    document = cs.CorrectionSet(
        schema_version=2,
        description="Scale factors data/simulation of jet taggers, efficiencies of simulation and cuts.",
        corrections=corrections,
    )
    text = document.model_dump_json(exclude_unset=True, indent=1)
    _read_back(text, corrections)
    publish(text, path)
    lacking = {factors_name(each.tagger, each.category, order) for each in points if order == "jme"} - made
    return WrittenTaggers(tuple(sorted(made)), refused | dict.fromkeys(sorted(lacking), "measured in no bin"))


def _by_category(
    usable: Sequence[TaggerPoint], points: Sequence[TaggerPoint], meanings: Mapping[str, str]
) -> list[cs.Correction]:
    found = []
    for tagger, category in _unique((each.tagger, each.category) for each in usable):
        own = [each for each in usable if (each.tagger, each.category) == (tagger, category)]
        of_all = [each for each in points if (each.tagger, each.category) == (tagger, category)]
        content = _working_points(own, of_all, _sources(usable, tagger), "jme")
        told = _description(own, of_all, meanings)
        inputs = ("eta", "pt", "systematic", "workingpoint")
        found.append(_correction(factors_name(tagger, category, "jme"), told, inputs, content))
    return found


def _by_flavor(
    usable: Sequence[TaggerPoint],
    points: Sequence[TaggerPoint],
    meanings: Mapping[str, str],
    groups: Mapping[str, Sequence[str]],
) -> list[cs.Correction]:
    found = []
    for tagger in _unique(each.tagger for each in usable):
        own = [each for each in usable if each.tagger == tagger]
        of_all = [each for each in points if each.tagger == tagger]
        numbers = all_flavors([each.category for each in of_all], groups)
        items = []
        for category in _unique(each.category for each in own):
            chosen = [each for each in own if each.category == category]
            points_there = [each for each in of_all if each.category == category]
            content = _working_points(chosen, points_there, _sources(usable, tagger), "btv")
            items += [cs.CategoryItem(key=number, value=content) for number in numbers[category]]
        told = ", ".join(f"{number} {name}" for name, own_ones in numbers.items() for number in own_ones)
        description = f"{_description(own, of_all, meanings)} Flavors: {told}."
        inputs = ("systematic", "working_point", "flavor", "abseta", "pt")
        content = cs.Category(nodetype="category", input="flavor", content=items)
        found.append(_correction(factors_name(tagger, "", "btv"), description, inputs, content))
    return found


def flavors(categories: Iterable[str]) -> dict[str, int]:
    """Number of each category: that of truth, 0 for mistags as for multijets, 10 and more for others."""
    names = _unique(categories)
    others = [name for name in names if name not in CATEGORIES and name != MISTAG]
    known = {name: CATEGORIES.index(name) for name in names if name in CATEGORIES}
    mistags = {MISTAG: CATEGORIES.index("qcd")} if MISTAG in names else {}
    return known | mistags | {name: FIRST_OTHER_FLAVOR + place for place, name in enumerate(others)}


def all_flavors(categories: Sequence[str], groups: Mapping[str, Sequence[str]]) -> dict[str, list[int]]:
    """Numbers under which each category is found: its own, and those of its members that no other one has."""
    own = flavors(categories)
    taken = set(own.values())
    found = {}
    for name, number in own.items():
        members = [CATEGORIES.index(member) for member in groups.get(name, ())]
        found[name] = [number, *(member for member in members if member not in taken)]
        taken |= set(members)
    return found


def factors_name(tagger: str, category: str, order: Order) -> str:
    """Name of the correction that has the scale factors of a category."""
    return f"{tagger}_{category}" if order == "jme" else tagger


def efficiencies_name(tagger: str) -> str:
    """Name of the correction that has the efficiencies of simulation."""
    return f"{tagger}_efficiency"


def places_in(
    path: Path, tagger: str, category: str, order: Order, categories: Iterable[str]
) -> tuple[FromFile, FromFile]:
    """Where a file has the scale factors of a category, and its efficiencies; `categories` are those of all points."""
    factors, efficiencies = factors_name(tagger, category, order), efficiencies_name(tagger)
    if order == "jme":
        return FromFile(str(path), factors), FromFile(str(path), efficiencies, {"category": category})
    flavor = {"flavor": flavors(categories)[category]}
    return FromFile(str(path), factors, flavor), FromFile(str(path), efficiencies, flavor)


def _sources(usable: Sequence[TaggerPoint], tagger: str) -> list[str]:
    """Those of all categories and working points of a tagger, so that weights of an event have each of them."""
    return _unique(shift.source for each in usable if each.tagger == tagger for shift in each.shifts)


def _working_points(
    usable: Sequence[TaggerPoint], points: Sequence[TaggerPoint], sources: Sequence[str], order: Order
) -> cs.Category:
    """A content for each working point that was measured in some bin."""
    items = []
    for name in _unique(each.working_point for each in usable):
        own = [each for each in usable if each.working_point == name]
        of_all = [each for each in points if each.working_point == name]
        items.append(cs.CategoryItem(key=name, value=_over_eta(own, of_all, sources, order)))
    return cs.Category(nodetype="category", input=_NAMES[order][1], content=items)


def _over_eta(
    usable: Sequence[TaggerPoint], points: Sequence[TaggerPoint], sources: Sequence[str], order: Order
) -> Any:
    etas = sorted({each.eta for each in points}, key=lambda eta: eta.low)
    content = []
    for eta in etas:
        edges, cells = covered(usable, points, eta)
        values = [_values(cell, sources, order) for cell in cells]
        content.append(_binning("pt", edges, [_category(each) for each in values]))
    return _eta_binning([etas[0].low, *(eta.high for eta in etas)], content, order)


def covered(
    usable: Sequence[TaggerPoint], points: Sequence[TaggerPoint], eta: Interval
) -> tuple[list[float], list[Cell]]:
    """Edges in pT, from 0 to twice the last one, and what holds between them in a bin of |eta|.

    A bin of |eta| in which nothing was measured takes the nearest one.
    """
    nearest = min({each.eta for each in usable}, key=lambda other: abs(other.centre - eta.centre))
    stretch = 1.0 if nearest == eta else OUTSIDE
    measured = [each for each in usable if each.eta == nearest]
    pts = sorted({each.pt for each in points}, key=lambda pt: pt.low)
    cells = []
    for pt in pts:
        best = min(measured, key=lambda each: abs(math.log(each.pt.centre / pt.centre)))
        cells.append(Cell(best, stretch if best.pt == pt else OUTSIDE))
    edges = [pts[0].low, *(pt.high for pt in pts)]
    outer = [Cell(cells[place].point, OUTSIDE) for place in (0, -1)]
    if edges[0] <= 0:
        return [*edges, 2 * edges[-1]], [*cells, outer[1]]
    return [0.0, *edges, 2 * edges[-1]], [outer[0], *cells, outer[1]]


def _values(cell: Cell, sources: Sequence[str], order: Order) -> dict[str, float]:
    """Value by the word of `systematic`, none below 0; a source that was not evaluated leaves the nominal value."""
    point, stretch = cell.point, cell.stretch
    values = {_word("nominal", order): point.value}
    values |= {"up": point.value + stretch * point.total, "down": point.value - stretch * point.total}
    sides = {"stat": (point.stat, -point.stat)}
    for source in sources:
        shift = point.shift(source)
        sides[source] = (shift.up, shift.down) if shift else (0.0, 0.0)
    for source, (up, down) in sides.items():
        values[_word(f"{source}_up", order)] = point.value + stretch * up
        values[_word(f"{source}_down", order)] = point.value + stretch * down
    return {word: max(value, 0.0) for word, value in values.items()}


def _word(name: str, order: Order) -> str:
    """A variation in the words of an order."""
    if name == "nominal":
        return "nom" if order == "jme" else "central"
    source, _, side = name.rpartition("_")
    return name if order == "jme" else f"{side}_{source}"


def _description(usable: Sequence[TaggerPoint], points: Sequence[TaggerPoint], meanings: Mapping[str, str]) -> str:
    lacking: dict[str, list[str]] = {}
    for each in points:
        if not each.is_measured:
            lacking.setdefault(f"{each.working_point} {each.category}", []).append(each.where)
    sources = ", ".join(["stat", *_unique(shift.source for each in usable for shift in each.shifts)])
    note = " Not measured, so with their neighbour's value and twice its uncertainty: "
    note += "; ".join(f"{name} at {' and '.join(places)}" for name, places in lacking.items()) + "."
    categories = _unique(each.category for each in usable)
    meaning = "".join(f" {name}: {meanings[name]}." for name in categories if name in meanings)
    ranges = {name: _pt_range([each for each in usable if each.category == name]) for name in categories}
    if len(ranges) > 1:
        told = "; ".join(f"{pt} GeV ({name})" for name, pt in ranges.items())
    else:
        told = "".join(f"{pt} GeV" for pt in ranges.values())
    return (
        f"Scale factor data/simulation of the efficiency of a tagger.{meaning} up and down hold all sources in "
        f"quadrature, each of them has variations of its own: {sources}. Those of other categories leave it nominal. "
        f"Not below 0. Measured for pt {told}; outside the nearest bin holds with twice its uncertainty. "
        f"|eta| is clamped.{note if lacking else ''}"
    )


def _pt_range(points: Sequence[TaggerPoint]) -> str:
    return f"{min(each.pt.low for each in points):g} to {max(each.pt.high for each in points):g}"


def _efficiencies(
    efficiencies: Sequence[EfficiencyMap], order: Order, groups: Mapping[str, Sequence[str]]
) -> list[cs.Correction]:
    """The maps of each tagger, over categories and working points."""
    found = []
    for tagger in _unique(each.tagger for each in efficiencies):
        own = [each for each in efficiencies if each.tagger == tagger and filled(each) is not None]
        numbers = all_flavors([each.category for each in efficiencies], groups)
        by_category = []
        for category in _unique(each.category for each in own):
            items = [
                cs.CategoryItem(key=each.working_point, value=_map(each, order))
                for each in own
                if each.category == category
            ]
            content = cs.Category(nodetype="category", input=_NAMES[order][1], content=items)
            keys = [category] if order == "jme" else numbers[category]
            by_category += [cs.CategoryItem(key=key, value=content) for key in keys]
        if by_category:
            name = "category" if order == "jme" else "flavor"
            content = cs.Category(nodetype="category", input=name, content=by_category)
            description = (
                "Share of jets that pass in the simulation the scale factors were measured with; |eta| and pt are "
                "clamped. It depends on the sample: an analysis does better with its own."
            )
            inputs = ("eta", "pt", "workingpoint", name) if order == "jme" else ("working_point", name, "abseta", "pt")
            found.append(_correction(efficiencies_name(tagger), description, inputs, content, "efficiency"))
    return found


def _map(efficiencies: EfficiencyMap, order: Order) -> Any:
    values = filled(efficiencies)
    if values is None:
        message = f"{efficiencies.tagger} has no efficiency for {efficiencies.category}"
        raise NotWritableError(message)
    content = [_binning("pt", efficiencies.pt.tolist(), row.tolist()) for row in values]
    return _eta_binning(efficiencies.eta.tolist(), content, order)


def _cuts(cuts: Mapping[str, Mapping[str, float]], order: Order) -> list[cs.Correction]:
    name = _NAMES[order][1]
    return [
        _correction(
            f"{tagger}_wp_values",
            "Score from which on a jet passes.",
            (name,),
            cs.Category(
                nodetype="category",
                input=name,
                content=[cs.CategoryItem(key=key, value=value) for key, value in own.items()],
            ),
            "wp",
        )
        for tagger, own in cuts.items()
        if own and all(math.isfinite(value) for value in own.values())
    ]


def _correction(name: str, description: str, inputs: Sequence[str], data: Any, output: str = "weight") -> cs.Correction:
    variables = [
        cs.Variable(name=each, type=_INPUTS[each][0], description=_INPUTS[each][1])  # type: ignore[arg-type]
        for each in inputs
    ]
    return cs.Correction(
        name=name,
        description=description,
        version=VERSION,
        inputs=variables,
        output=cs.Variable(name=output, type="real", description=_OUTPUTS[output]),
        data=data,
    )


def _binning(name: str, edges: Sequence[float], content: Sequence[Any]) -> cs.Binning:
    return cs.Binning(nodetype="binning", input=name, edges=list(edges), content=list(content), flow="clamp")


def _eta_binning(edges: Sequence[float], content: Sequence[Any], order: Order) -> Any:
    name = _NAMES[order][0]
    binning = _binning(name, edges, content)
    if order == "btv":
        return binning
    return cs.Transform(nodetype="transform", input=name, rule=formula("abs(x)", [name]), content=binning)


def _category(values: Mapping[str, float]) -> cs.Category:
    items = [cs.CategoryItem(key=key, value=value) for key, value in values.items()]
    return cs.Category(nodetype="category", input="systematic", content=items)


def _read_back(text: str, corrections: Sequence[cs.Correction]) -> None:
    """Load the text with the evaluator and ask for every number that a category leads to."""
    try:
        loaded = correctionlib.CorrectionSet.from_string(text)
    except RuntimeError as error:
        # numbers that are not finite become null
        message = f"the corrections cannot be read back: {error}; a number in them may not be finite"
        raise NotWritableError(message) from None
    for each in corrections:
        for words in _words(each.data):
            for eta, pt in ((-2.5, 1.0), (0.1, 250.0), (1.5, 700.0), (3.0, 1e5)):
                known = {"eta": eta, "abseta": abs(eta), "pt": pt, **words}
                result = loaded[each.name].evaluate(*(known[variable.name] for variable in each.inputs))
                if not np.isfinite(result):
                    message = f"{each.name} gives {result} for {known}"
                    raise NotWritableError(message)


def _words(node: Any) -> list[dict[str, Any]]:
    """All combinations of keys below a node, by the name of their input."""
    if isinstance(node, cs.Category):
        return [{node.input: item.key, **below} for item in node.content for below in _words(item.value)]
    if isinstance(node, cs.Transform):
        return _words(node.content)
    if isinstance(node, cs.Binning):
        return _words(node.content[0])
    return [{}]


def _unique(names: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(names))
