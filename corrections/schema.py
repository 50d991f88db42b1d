"""Pieces of correctionlib's schema version 2 that the corrections are made of.

JetEta is signed and goes through its absolute value, so that a correction is even to the last digit. Nothing raises and
nothing falls back to a default in somebody's job: |eta| and pT are clamped to the measured range.
"""

from __future__ import annotations

import gzip
import math
import os
from typing import TYPE_CHECKING, Any

import correctionlib.schemav2 as cs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from corrections.results import Interval

VERSION = 1
INPUT_DESCRIPTIONS = {
    "JetEta": ("real", "pseudorapidity of the jet, signed"),
    "JetPt": ("real", "transverse momentum of the jet in GeV"),
    "Rho": ("real", "median energy density of the event in GeV per unit area"),
    "systematic": (
        "string",
        "nom, up, down, or a source with _up or _down such as stat_up; a value, not a shift",
    ),
    "GenPt": ("real", "transverse momentum of the matched truth jet in GeV, -1 if there is none"),
    "EventID": ("int", "number of the event"),
    "JER": ("real", "relative resolution"),
    "JERSF": ("real", "resolution scale factor"),
}


class NotWritableError(ValueError):
    """A number that may not be published: not finite, or not positive where it must be."""


def correction(name: str, description: str, inputs: Sequence[str], output: str, data: Any) -> cs.Correction:
    """A correction with one real output."""
    return cs.Correction(
        name=name,
        description=" ".join(description.split()),
        version=VERSION,
        inputs=[variable(i) for i in inputs],
        output=cs.Variable(name=output, type="real"),
        data=data,
    )


def variable(name: str) -> cs.Variable:
    """An input with its description."""
    kind, description = INPUT_DESCRIPTIONS[name]
    return cs.Variable(name=name, type=kind, description=description)  # type: ignore[arg-type]


def formula(expression: str, variables: list[str], parameters: list[float] | None = None) -> cs.Formula:
    """A formula of up to four variables x, y, z, t."""
    return cs.Formula(
        nodetype="formula", expression=expression, parser="TFormula", variables=variables, parameters=parameters
    )


def over_eta(edges: Iterable[float], content: list[Any]) -> cs.Transform:
    """One content for each bin of |eta|."""
    return cs.Transform(
        nodetype="transform",
        input="JetEta",
        rule=formula("abs(x)", ["JetEta"]),
        content=_bins("JetEta", edges, content),
    )


def over_pt(edges: Iterable[float], content: list[Any]) -> Any:
    """One content for each bin of JetPt; the only one as it is."""
    return content[0] if len(content) == 1 else _bins("JetPt", edges, content)


def category(values: Mapping[str, Any]) -> cs.Category:
    """One content for each word of the input `systematic`."""
    items = [cs.CategoryItem(key=key, value=value) for key, value in values.items()]
    return cs.Category(nodetype="category", input="systematic", content=items)


def refuse(name: str, eta: Interval, values: Iterable[float]) -> None:
    """Refuse numbers that are not finite.

    Raises
    ------
    NotWritableError
        Names the correction and the |eta| bin.
    """
    numbers = list(values)
    if not all(math.isfinite(value) for value in numbers):
        message = f"{name} has a value that is not finite at |eta| {eta.low:g}-{eta.high:g}: {numbers}"
        raise NotWritableError(message)


def publish(text: str, path: Path) -> None:
    """Write `text` compressed to `path`; what was there is replaced by a complete file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    # mtime 0: the same results give the same bytes
    temporary.write_bytes(gzip.compress(text.encode(), mtime=0))
    temporary.replace(path)


def _bins(name: str, edges: Iterable[float], content: list[Any]) -> cs.Binning:
    return cs.Binning(nodetype="binning", input=name, edges=list(edges), content=content, flow="clamp")
