"""Results to correctionlib JSON (schema version 2), laid out like CMS jet_jerc files."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import correctionlib
import correctionlib.schemav2 as cs
import numpy as np

from corrections.coverage import Covered, Points, cover, covered_points, form_in_pt, pt_edges
from corrections.results import SIMULATION, Measurement, ResolutionCurve
from corrections.scale_factor_json import KEYS, JsonLayout, scale_factor, uncertainty_name
from corrections.schema import NotWritableError, correction, formula, over_eta, over_pt, publish, refuse, variable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from corrections.results import Point

PT = "min(max(x,[0]),[1])"
SMALLEST_SQUARE = 1e-6
# N|N|/pT^2 + S^2 pT^P + C^2
RESOLUTION_FORMULA = f"sqrt([2]/({PT}*{PT})+[3]*pow({PT},[5])+[4])"
# the same with N|N| + k (rho - mean rho) in place of N|N|, kept from becoming the root of a negative number
RHO = "([2]+[6]*(min(max(y,[7]),[8])-[9]))"
RHO_FORMULA = f"sqrt(max({RHO}/({PT}*{PT})+[3]*pow({PT},[5])+[4],{SMALLEST_SQUARE:g}))"


@dataclass(frozen=True, slots=True)
class Tags:
    """Names of the corrections (YAML section `tags`), two parts joined by one underscore each.

    More parts would keep coffea's reader of text files from understanding the names.
    """

    jer: str = "Dijet2026_JRV1"
    jec: str = "Dijet2026_V1"

    def __post_init__(self) -> None:
        """Refuse tags that have not two parts."""
        for name, tag in (("jer", self.jer), ("jec", self.jec)):
            if not re.fullmatch(r"[A-Za-z0-9-]+_[A-Za-z0-9-]+", tag):
                message = f"tags.{name} needs two parts joined by one underscore, like Dijet2026_JRV1; got {tag!r}"
                raise ValueError(message)


@dataclass(frozen=True, slots=True)
class Written:
    """What a JSON holds: names of its corrections, what is missing and why, and bins that borrow from a neighbour."""

    names: tuple[str, ...]
    not_written: Mapping[str, str]
    neighbours: tuple[str, ...]


# What is promised of every jet algorithm.
PROMISED = (
    "{jer}_MC_PtResolution_{algo}",
    "{jer}_DATA_PtResolution_{algo}",
    "{jer}_MC_ScaleFactor_{algo}",
    "{jec}_DATA_L2L3Residual_{algo}",
    "{jec}_MC_L2L3Residual_{algo}",
    "{jec}_MC_Total_{algo}",
    "{jec}_MC_L1L2L3Res_{algo}",
    "{jec}_DATA_L1L2L3Res_{algo}",
)


def write_correction_set(
    measurements: Sequence[Measurement],
    tags: Tags,
    path: Path,
    mean_rho: float,
    layout: JsonLayout | None = None,
    *,
    unmeasured: Mapping[str, str] | None = None,
) -> Written:
    """Write the JSON of all algorithms to `path` (gzip), read back before it is put in place.

    Parameters
    ----------
    measurements
        One for each jet algorithm.
    tags
        Parts of the names.
    path
        Ends in .json.gz; what was there is replaced only by a complete file.
    mean_rho
        Mean rho of the measured sample, GeV; said in the descriptions.
    layout
        How scale factors are written; None for the default.
    unmeasured
        Jet algorithms without a measurement, and why; their corrections are listed as not written.

    Raises
    ------
    NotWritableError
        Where a value is not finite; the message names the correction and the |eta| bin.
    """
    parts = [_algorithm(measurement, tags, layout or JsonLayout(), mean_rho) for measurement in measurements]
    corrections = [c for part in parts for c in part.corrections]
    compound = [c for part in parts for c in part.compound]
    document = cs.CorrectionSet(
        schema_version=2,
        description="Jet energy resolution, scale factor and residual response from dijet balance.",
        corrections=[*corrections, smearing()],
        compound_corrections=compound or None,
    )
    text = document.model_dump_json(exclude_unset=True, indent=1)
    _read_back(text, corrections)
    publish(text, path)
    return Written(
        names=(*(c.name for c in corrections), *(c.name for c in compound), "JERSmear"),
        not_written={name: why for part in parts for name, why in part.not_written.items()}
        | {
            name.format(jer=tags.jer, jec=tags.jec, algo=algo): why
            for algo, why in (unmeasured or {}).items()
            for name in PROMISED
        },
        neighbours=tuple(note for part in parts for note in part.neighbours),
    )


@dataclass(frozen=True, slots=True)
class _Part:
    corrections: list[cs.Correction]
    compound: list[cs.CompoundCorrection]
    not_written: dict[str, str]
    neighbours: list[str]


def _algorithm(measurement: Measurement, tags: Tags, layout: JsonLayout, mean_rho: float) -> _Part:
    part = _Part([], [], {}, [])
    curves = covered_curves(measurement)
    factors = covered_points(measurement, "scale_factor")
    residuals = covered_points(measurement, "residual")
    algo = measurement.algo
    resolution = f"{tags.jer}_{{}}_PtResolution_{algo}"
    _add(part, resolution.format("MC"), curves, lambda n, c: [pt_resolution(n, c, None, mean_rho)], "no resolution")
    both, lacking = (None, "no scale factor") if factors is None else (curves, "no resolution")
    _add(part, resolution.format("DATA"), both, lambda n, c: [pt_resolution(n, c, factors, mean_rho)], lacking)
    name = f"{tags.jer}_MC_ScaleFactor_{algo}"
    _add(part, name, factors, lambda n, c: scale_factor(n, c, layout), "no scale factor")
    if factors is None and layout.layout == "split":
        part.not_written[uncertainty_name(name)] = part.not_written[name]
    _add(part, f"{tags.jec}_DATA_L2L3Residual_{algo}", residuals, lambda n, c: [residual(n, c)], "no residual response")
    part.corrections.append(unit_residual(f"{tags.jec}_MC_L2L3Residual_{algo}"))
    name = f"{tags.jec}_MC_Total_{algo}"
    _add(part, name, residuals, lambda n, c: [total_uncertainty(n, c)], "no residual response")
    written = {c.name for c in part.corrections}
    for kind in ("MC", "DATA"):
        name = f"{tags.jec}_{kind}_L2L3Residual_{algo}"
        compound = f"{tags.jec}_{kind}_L1L2L3Res_{algo}"
        if name in written:
            part.compound.append(stacked(compound, name))
        else:
            part.not_written[compound] = part.not_written[name]
    return part


def _add(part: _Part, name: str, covered: Any, make: Any, reason: str) -> None:
    if covered is None:
        part.not_written[name] = f"{reason} could be measured in any |eta| bin"
        return
    part.corrections.extend(make(name, covered))
    if covered.neighbours:
        part.neighbours.append(f"{name}: {covered.note()}")


def covered_curves(measurement: Measurement) -> Covered[ResolutionCurve] | None:
    """The simulated resolution in all |eta| bins; a curve that is not positive over its range counts as unmeasured."""
    curves = [curve for curve in measurement.curves if curve.dataset == SIMULATION]
    return cover([c.eta for c in curves], [c if c.status == "ok" and _is_positive(c) else None for c in curves])


def _is_positive(curve: ResolutionCurve) -> bool:
    pt = np.geomspace(curve.pt_range.low, curve.pt_range.high, 100)
    return bool(np.all(curve.squared(pt) > 0))


def pt_resolution(
    name: str, curves: Covered[ResolutionCurve], factors: Covered[Points] | None, mean_rho: float
) -> cs.Correction:
    """sigma(pT)/pT of simulation, or of data when multiplied by the scale `factors`."""
    content = []
    for i, (curve, eta) in enumerate(zip(curves.values, curves.bins, strict=True)):
        points = None if factors is None else factors.values[i]
        scales = [1.0] if points is None else [p.value for p in points]
        formulas = [_resolution_formula(curve, scale) for scale in scales]
        for each in formulas:
            refuse(name, eta, each.parameters or [])
        content.append(over_pt([] if points is None else pt_edges(points), formulas))
    times = "" if factors is None else " times the data/simulation scale factor"
    notes = [curves.note(), "" if factors is None else factors.note()]
    description = (
        f"Relative jet pT resolution sqrt(N|N|/pT^2 + S^2 pT^P + C^2) of simulation{times}, from dijet balance with "
        f"the physics imbalance removed; width over mean response of the Gaussian core. {_rho_note(curves, mean_rho)} "
        f"|eta|, JetPt and Rho are clamped to the measured range. {' '.join(note for note in notes if note)}"
    )
    return correction(name, description, ("JetEta", "JetPt", "Rho"), "resolution", over_eta(curves.edges, content))


def _rho_note(curves: Covered[ResolutionCurve], mean_rho: float) -> str:
    bins = [eta for curve, eta in zip(curves.values, curves.bins, strict=True) if curve.rho is not None]
    if not bins:
        where = f"mean rho {mean_rho:.1f} GeV" if mean_rho > 0 else "whose files have no rho"
        return f"Rho is not used: the value is the mean over the pile-up of the sample ({where})."
    names = ", ".join(f"{eta.low:g}-{eta.high:g}" for eta in bins)
    return (
        f"N|N| moves in proportion to Rho around the sample's mean of {mean_rho:.1f} GeV in |eta| {names}, as "
        f"reco/truth of simulation does."
    )


def _resolution_formula(curve: ResolutionCurve, scale: float) -> cs.Formula:
    squares = [scale**2 * square for square in curve.squares]
    parameters = [curve.pt_range.low, curve.pt_range.high, *squares, curve.power]
    if curve.rho is None:
        return formula(RESOLUTION_FORMULA, ["JetPt"], parameters)
    rho = [scale**2 * curve.rho.value, curve.rho.reach.low, curve.rho.reach.high, curve.rho.mean]
    return formula(RHO_FORMULA, ["JetPt", "Rho"], [*parameters, *rho])


def residual(name: str, residuals: Covered[Points]) -> cs.Correction:
    """Factor for jets in data."""
    description = (
        "Residual response correction for jets in data, response(simulation)/response(data) relative to the reference "
        f"region, {form_in_pt(residuals)}; 1 on average there. |eta| and JetPt are clamped to the measured "
        f"range. {residuals.note()}"
    )
    return _response_correction(name, description, "correction", residuals, lambda p: p.value)


def unit_residual(name: str) -> cs.Correction:
    """The residual of simulation, which is 1 by definition."""
    return correction(name, "1: simulation needs no residual correction.", ("JetEta", "JetPt"), "correction", 1.0)


def total_uncertainty(name: str, residuals: Covered[Points]) -> cs.Correction:
    """Relative uncertainty of the residual."""
    description = (
        "Relative uncertainty of the residual response correction, statistical and systematic, "
        f"{form_in_pt(residuals)}; 0 in the reference region, to which it is relative. |eta| and JetPt are clamped to "
        f"the measured range. {residuals.note()}"
    )
    return _response_correction(name, description, "uncertainty", residuals, lambda p: p.total / p.value)


def _response_correction(
    name: str, description: str, output: str, residuals: Covered[Points], number: Callable[[Point], float]
) -> cs.Correction:
    content = []
    for points, eta in zip(residuals.values, residuals.bins, strict=True):
        values = [number(p) for p in points]
        refuse(name, eta, values)
        content.append(over_pt(pt_edges(points), values))
    return correction(name, description, ("JetEta", "JetPt"), output, over_eta(residuals.edges, content))


def stacked(name: str, level: str) -> cs.CompoundCorrection:
    """The compound correction that coffea and others look for, with one level."""
    return cs.CompoundCorrection(
        name=name,
        description=f"All levels of the correction for calibrated jets: {level} alone.",
        inputs=[variable(i) for i in ("JetEta", "JetPt")],
        output=cs.Variable(name="correction", type="real", description="factor on the jet four-momentum"),
        inputs_update=["JetPt"],
        input_op="*",
        output_op="*",
        stack=[level],
    )


def smearing() -> cs.Correction:
    """Factor that smears simulated jets to the resolution of data (recipe of cms-nanoAOD/correctionlib issue 130).

    With a matched truth jet 1 + (SF - 1)(pT - truth pT)/pT, otherwise 1 + sqrt(max(SF^2 - 1, 0)) JER g with g normal
    and a function of jet and event only. Never negative.
    """
    random = cs.Transform(
        nodetype="transform",
        input="GenPt",
        rule=cs.HashPRNG(nodetype="hashprng", inputs=["JetPt", "JetEta", "Rho", "EventID"], distribution="normal"),
        content=formula("max(1+sqrt(max(x*x-1,0))*y*z,0)", ["JERSF", "JER", "GenPt"]),
    )
    matched = formula("max(1+(x-1)*(y-z)/y,0)", ["JERSF", "JetPt", "GenPt"])
    data = cs.Binning(nodetype="binning", input="GenPt", edges=[-1, 0, 1], flow="clamp", content=[random, matched])
    description = (
        "Factor on simulated jets that brings their resolution to that of data. GenPt is the pT of the truth jet "
        "within half the jet radius and three resolutions, or -1; without one the factor is random, and the same for "
        "the same jet and event."
    )
    inputs = ("JetPt", "JetEta", "GenPt", "Rho", "EventID", "JER", "JERSF")
    return correction("JERSmear", description, inputs, "smear", data)


def _read_back(text: str, corrections: Sequence[cs.Correction]) -> None:
    """Load the text with the evaluator and ask every correction for finite values over its range and beyond."""
    loaded = correctionlib.CorrectionSet.from_string(text)
    for each in corrections:
        names = [name.name for name in each.inputs]
        for eta in (-6.0, *np.linspace(-5.2, 5.2, 53), 6.0):
            for pt in (1.0, 10.0, 50.0, 300.0, 2000.0, 1e5):
                for systematic in KEYS if "systematic" in names else ("",):
                    values = {"JetEta": float(eta), "JetPt": pt, "Rho": 20.0, "systematic": systematic}
                    result = loaded[each.name].evaluate(*(values[name] for name in names))
                    if not math.isfinite(result):
                        message = f"{each.name} gives {result} at JetEta {eta:g}, JetPt {pt:g} {systematic}".rstrip()
                        raise NotWritableError(message)
