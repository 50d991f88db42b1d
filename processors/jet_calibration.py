"""Corrections that exist already, applied to jets: a jet_jerc JSON, a calibration network, and smearing of simulation.

Factors multiply pt and mass. Jets that were scaled are put back in falling pT, with the truth jets they were matched
to.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from models.calibration import CalibrationModel, load_calibration
from models.card import card_path
from processors.compiled import compiled
from processors.correction_files import check_inputs, evaluate, has_correction, input_names
from processors.errors import InputError
from processors.jet_features import NetworkInputs, jet_columns, lacking, network_factor, network_inputs
from processors.record import (
    Columns,
    EventRecord,
    Float64Array,
    Int32Array,
    Int64Array,
    Jets,
    UInt64Array,
    order_jets,
    splitmix64,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from processors.correction_files import Value
    from processors.formats import FileColumns
    from processors.record import AnyArray

    Inputs = Mapping[str, Callable[[], Value]]

NETWORK_SUFFIX = "DeepSets"
UNMATCHED = -1.0
MIN_PT = 0.01

_SMEARING = np.uint64(0x736D656172000000)  # "smear": the purpose mixed into an event's identity
_MAX_PULL = 3.0  # beyond this many sigma a truth jet in the cone is not the partner of the jet
_MATCHED = "matched"
_SYSTEMATIC = "systematic"


@dataclass(frozen=True, slots=True)
class Smearing:
    """Smearing of simulated jets to the resolution of data (YAML section `calibration.smearing`).

    Attributes
    ----------
    file
        A jet_jerc JSON with the resolution and its scale factor.
    resolution, scale_factor
        Names in the file; `{algo}` stands for the jet algorithm of a dataset.
    smear
        Name of the smearing recipe, a correction with the inputs JetPt, JetEta, GenPt, Rho, EventID, JER, JERSF.
    smear_file
        Where the recipe is if not in `file`; CMS publishes it as jer_smear.json.gz.
    systematic
        What is asked of the scale factor: "nom", "up", "down" or `{source}_up`, `{source}_down`.
    """

    file: str
    resolution: str
    scale_factor: str
    smear: str = "JERSmear"
    smear_file: str | None = None
    systematic: str = "nom"


@dataclass(frozen=True, slots=True)
class Residual:
    """Residual response correction of data (YAML section `calibration.residual`), such as a run of ours writes.

    Attributes
    ----------
    file
        A jet_jerc JSON.
    correction
        Name of a level or of a compound correction; `{algo}` stands for the jet algorithm of a dataset.
    """

    file: str
    correction: str


@dataclass(frozen=True, slots=True)
class JetCalibration:
    """Corrections to apply before anything is measured (YAML section `calibration`); none by default.

    Attributes
    ----------
    file
        A jet_jerc JSON.
    simulation, data
        The correction for simulated jets and for data: a level or a compound one; `{algo}` stands for the jet algorithm
        of a dataset. None leaves those jets alone.
    undo_raw_factor
        Whether to take off the correction in the file first: pt (1 - raw_factor), as a full chain of levels expects.
    uncertainty
        Name of the relative uncertainty of the scale in simulation, for variations of it.
    rho
        GeV per unit area, used for files that have none.
    onnx
        A calibration network with its card beside it, or the name of one that ships, applied last; jets then count as
        an algorithm of their own.
    beside
        Whether jets without the network are measured as well, from the same events.
    residual
        Residual correction of data, after the rest; `{algo}` in its name is that of the jets as they are by then.
    smearing
        Smearing of simulation, after the rest, with the same meaning of `{algo}`.
    """

    file: str | None = None
    simulation: str | None = None
    data: str | None = None
    undo_raw_factor: bool = False
    uncertainty: str | None = None
    rho: float | None = None
    onnx: str | None = None
    beside: bool = True
    residual: Residual | None = None
    smearing: Smearing | None = None

    def __post_init__(self) -> None:
        """Refuse names of corrections without a file, and a file without names."""
        names = (self.simulation, self.data, self.uncertainty)
        if self.file is None and any(names):
            raise InputError(
                "calibration.simulation, data and uncertainty are names in calibration.file, which is missing"
            )
        if self.file is not None and not any(names):
            raise InputError(
                f"calibration.file {self.file} is not used: set calibration.simulation or calibration.data"
            )


def calibrated_algo(settings: JetCalibration, algo: str) -> str:
    """Name of the jet algorithm after calibration: that of a network's jets ends in `DeepSets`."""
    return algo + NETWORK_SUFFIX if settings.onnx else algo


def calibrate(record: EventRecord, settings: JetCalibration, algo: str) -> tuple[EventRecord, dict[str, int]]:
    """Record with corrected jets in falling pT, and counts of what happened to them by reason.

    Without corrections for this kind of dataset the record itself. Smearing is not part of this: it needs truth jets
    matched to the corrected jets, see `smear`.
    """
    name, final = settings.simulation if record.is_mc else settings.data, calibrated_algo(settings, algo)
    residual = None if record.is_mc else settings.residual
    if not (name or settings.onnx or settings.undo_raw_factor or residual):
        return record, {}
    factor = _raw_factor(record) if settings.undo_raw_factor else np.ones(len(record.jets))
    if name and settings.file is not None:
        inputs = _correction_inputs(record, record.jets.pt * factor, settings.rho)
        factor *= evaluate(settings.file, _named(name, algo), inputs)
    record, counts = _scaled_record(record, factor)
    if settings.onnx:
        factor, network_counts = _network_factor(record, settings.onnx, settings.rho)
        record, lost = _scaled_record(record, factor)
        counts = _added(counts, network_counts, lost)
    if residual is not None:
        inputs = _correction_inputs(record, record.jets.pt, settings.rho)
        record, lost = _scaled_record(record, evaluate(residual.file, _named(residual.correction, final), inputs))
        counts = _added(counts, lost)
    return record, counts


def scale_uncertainty(record: EventRecord, settings: JetCalibration, algo: str) -> Float64Array:
    """Relative uncertainty of the energy scale of each jet as it is in the record, (n_jets,), 0 or above.

    0 in data, where none is configured, and for jets that the file has none for: files of CMS give -999 beyond |eta|
    5.4. Up and down are `scale_jets` by 1 + and 1 - this of calibrated jets; smearing is redone on top of each.
    """
    if settings.file is None or settings.uncertainty is None or not record.is_mc:
        return np.zeros(len(record.jets))
    inputs = _correction_inputs(record, record.jets.pt, settings.rho)
    uncertainty = evaluate(settings.file, _named(settings.uncertainty, algo), inputs)
    return np.where(np.isfinite(uncertainty) & (uncertainty > 0), uncertainty, 0.0)


def smear(
    record: EventRecord,
    matched: Int32Array,
    settings: JetCalibration,
    algo: str,
    systematic: str | None = None,
) -> Float64Array:
    """Smearing factor of each simulated jet, (n_jets,); 1 in data and where no smearing is configured.

    `matched` (n_jets,) is the flat index of the truth jet or -1. A truth jet counts as the partner if it is closer than
    half the cone of `algo` and its pT within three resolutions; otherwise the factor is random, by a hash of the event
    and the jet that does not depend on chunks. `systematic` replaces the one of the settings.
    """
    if settings.smearing is None or not record.is_mc:
        return np.ones(len(record.jets))
    jets = record.jets
    return smear_jets(
        jets.pt,
        jets.eta,
        _truth_pt(record, matched, 0.5 * cone_radius(algo)),
        np.repeat(_rho(record, settings.rho), jets.counts),
        np.repeat(event_ids(record.identity), jets.counts),
        settings.smearing,
        algo=calibrated_algo(settings, algo),
        systematic=systematic,
    )


def smear_jets(
    pt: AnyArray,
    eta: AnyArray,
    truth_pt: AnyArray,
    rho: AnyArray,
    event_id: AnyArray,
    smearing: Smearing,
    *,
    algo: str = "AK4PF",
    systematic: str | None = None,
) -> Float64Array:
    """Smearing factor for flat arrays of jets, (n,) each; multiply pt and mass with it.

    `truth_pt` is the pT in GeV of the truth jet within half the cone, -1 for none; one further than three resolutions
    away is not used. `event_id` are positive integers below 2^31 that tell events apart; two jets of one event differ
    because pT and eta enter the hash too. The factor leaves at least 10 MeV.

    For a scale factor without a `systematic` input, up and down are SF (1 + u) and SF (1 - u), with u from the
    correction whose name has SFUncertainty in place of ScaleFactor (CMS files since June 2026).
    """
    inputs: dict[str, Callable[[], Value]] = {
        "JetPt": lambda: pt,
        "JetEta": lambda: eta,
        "Rho": lambda: rho,
        "EventID": lambda: event_id,
    }
    jer = evaluate(smearing.file, _named(smearing.resolution, algo), inputs)
    scale = _scale_factor(smearing, algo, systematic or smearing.systematic, inputs)
    is_partner = (truth_pt > 0) & (np.abs(pt - truth_pt) < _MAX_PULL * jer * pt)
    inputs["GenPt"] = lambda: np.where(is_partner, truth_pt, UNMATCHED)
    inputs["JER"] = lambda: jer
    inputs["JERSF"] = inputs["JERsf"] = lambda: scale
    factor = evaluate(smearing.smear_file or smearing.file, smearing.smear, inputs)
    return np.maximum(factor, MIN_PT / np.asarray(pt, np.float64))


def scale_jets(
    jets: Jets, factor: Float64Array, matched: Int32Array | None = None, name: str = "scaled jets"
) -> tuple[Jets, Int32Array | None, dict[str, int]]:
    """Jets with pt and mass times `factor` (n,) in falling pT, their matched truth jets, and counts of jets left out.

    `matched` (n,) goes along with the jets. A factor that leaves no finite positive pT removes the jet; `name` is the
    word for them in the counts.
    """
    extra = dict(jets.extra) if matched is None else {**jets.extra, _MATCHED: matched}
    pt, mass = ((values * factor).astype(np.float32) for values in (jets.pt, jets.mass))
    ordered = order_jets(Columns(jets.offsets, pt, jets.eta, jets.phi, mass, extra), name)
    if matched is None:
        return ordered.jets, None, dict(ordered.excluded)
    kept = {key: values for key, values in ordered.jets.extra.items() if key != _MATCHED}
    return replace(ordered.jets, extra=kept), ordered.jets.extra[_MATCHED], dict(ordered.excluded)


def event_ids(identity: UInt64Array) -> Int64Array:
    """EventID of JERSmear for each event, (n_events,), positive and below 2^31, from its base hash."""
    return _event_ids(identity, _SMEARING)


DEFAULT_CONE = 0.4


def cone_radius(algo: str) -> float:
    """Cone of a jet algorithm from the number in its name: 0.4 for AK4PF and AntiKt4, 1.0 for AntiKt10."""
    digits = re.search(r"(?:AK|AntiKt|kt)(\d+)", algo, re.IGNORECASE)
    if digits is None:
        return DEFAULT_CONE
    return int(digits[1]) / 10


def needed_columns(settings: JetCalibration, algo: str, *, is_mc: bool) -> tuple[str, ...]:
    """Jet columns (names of `Jets.extra`) the corrections of a dataset need."""
    needed = {"raw_factor"} if settings.undo_raw_factor else set()
    if any("JetA" in input_names(*level) for level in _levels(settings, algo, is_mc=is_mc)):
        needed.add("area")
    return tuple(sorted(needed))


def network_needs(settings: JetCalibration) -> NetworkInputs:
    """What the calibration network wants to read; nothing without one."""
    return network_inputs(_network(settings.onnx).card) if settings.onnx else NetworkInputs((), (), constituents=False)


def lacking_inputs(settings: JetCalibration, columns: FileColumns) -> tuple[str, ...]:
    """What a file lacks of the inputs of the calibration network."""
    return lacking(columns, _network(settings.onnx).card, settings.rho) if settings.onnx else ()


def files(settings: JetCalibration) -> tuple[str, ...]:
    """Paths of the files the result depends on."""
    smearing, residual = settings.smearing, settings.residual
    paths = (settings.file, residual and residual.file, smearing and smearing.file, smearing and smearing.smear_file)
    network = (settings.onnx, str(card_path(settings.onnx))) if settings.onnx else ()
    return tuple(dict.fromkeys(path for path in (*paths, *network) if path is not None))


def check(settings: JetCalibration, datasets: Iterable[tuple[str, bool]]) -> None:
    """Refuse settings with missing files, corrections or inputs, for datasets as (jet algorithm, is simulation)."""
    if settings.onnx:
        _network(settings.onnx)
    for algo, is_mc in sorted(set(datasets)):
        for level in _levels(settings, algo, is_mc=is_mc):
            check_inputs(*level, _INPUTS)
        if settings.smearing is not None and is_mc:
            _check_smearing(settings.smearing, calibrated_algo(settings, algo))


_INPUTS = ("JetPt", "JetEta", "JetPhi", "JetMass", "JetA", "Rho", "NPV", "run")


def _check_smearing(smearing: Smearing, algo: str) -> None:
    """Smear one jet of an ordinary kind: finds whatever is missing or has another form."""
    cone_radius(algo)
    pt, eta, truth_pt, rho = (np.array([value]) for value in (100.0, 0.1, UNMATCHED, 20.0))
    smear_jets(pt, eta, truth_pt, rho, np.array([1]), smearing, algo=algo)


def _levels(settings: JetCalibration, algo: str, *, is_mc: bool) -> list[tuple[str, str]]:
    """File and name of the corrections that a kind of dataset uses, smearing apart."""
    names = (settings.simulation, settings.uncertainty) if is_mc else (settings.data,)
    levels = [(settings.file, name) for name in names if settings.file is not None and name is not None]
    named = [(file, _named(name, algo)) for file, name in levels]
    if settings.residual is not None and not is_mc:
        named.append((settings.residual.file, _named(settings.residual.correction, calibrated_algo(settings, algo))))
    return named


def _named(name: str, algo: str) -> str:
    return name.replace("{algo}", algo)


def _correction_inputs(record: EventRecord, pt: AnyArray, rho: float | None) -> Inputs:
    """Everything a level of a jet_jerc file may ask for, by the names CMS has fixed; `pt` is before the correction."""
    jets = record.jets
    values: dict[str, Callable[[], Value]] = {
        "JetPt": lambda: pt,
        "JetEta": lambda: jets.eta,
        "JetPhi": lambda: jets.phi,
        "JetMass": lambda: jets.mass,
        "JetA": lambda: _column(record, "area"),
        "Rho": lambda: np.repeat(_rho(record, rho), jets.counts),
        "NPV": lambda: np.repeat(_npv(record), jets.counts),
        "run": lambda: np.repeat(record.run, jets.counts),
    }
    return {name: values[name] for name in _INPUTS}


def _column(record: EventRecord, name: str) -> AnyArray:
    if name not in record.jets.extra:
        raise InputError(
            f"{record.file} has no jet column {name!r}, which the calibration needs; use another correction"
        )
    return record.jets.extra[name]


def _rho(record: EventRecord, replacement: float | None) -> AnyArray:
    if record.rho is not None:
        return record.rho
    if replacement is None:
        raise InputError(
            f"{record.file} has no rho, which the calibration needs; set calibration.rho to a value in GeV"
        )
    return np.full(len(record), replacement, np.float32)


def _npv(record: EventRecord) -> AnyArray:
    if record.npv is None:
        raise InputError(
            f"{record.file} has no number of vertices, which the calibration needs; use another correction"
        )
    return record.npv


def _raw_factor(record: EventRecord) -> Float64Array:
    return 1.0 - _column(record, "raw_factor").astype(np.float64)


def _scaled_record(record: EventRecord, factor: Float64Array) -> tuple[EventRecord, dict[str, int]]:
    jets, _, lost = scale_jets(record.jets, factor, name="calibrated jets")
    return replace(record, jets=jets), lost


def _added(*counts: Mapping[str, int]) -> dict[str, int]:
    reasons = dict.fromkeys(reason for count in counts for reason in count)
    return {reason: sum(count.get(reason, 0) for count in counts) for reason in reasons}


def _network(path: str) -> CalibrationModel:
    try:
        return load_calibration(path)
    except (ValueError, FileNotFoundError) as error:
        raise InputError(f"calibration.onnx: {error}") from error


def _network_factor(record: EventRecord, path: str, rho: float | None) -> tuple[Float64Array, dict[str, int]]:
    model = _network(path)
    missing = [name for name in model.card.features if name not in jet_columns(record, rho)]
    if model.card.constituent_input is not None and record.constituents is None:
        missing.append("constituents")
    if missing:
        raise InputError(
            f"{record.file} has no jet column {', '.join(missing)}, which {path} needs; use another network"
        )
    return network_factor(record, model, rho)


def _scale_factor(smearing: Smearing, algo: str, systematic: str, inputs: Inputs) -> Float64Array:
    name = _named(smearing.scale_factor, algo)
    if _SYSTEMATIC in input_names(smearing.file, name):
        return evaluate(smearing.file, name, {**inputs, _SYSTEMATIC: lambda: systematic})
    nominal = evaluate(smearing.file, name, inputs)
    if systematic == "nom":
        return nominal
    uncertainty = name.replace("ScaleFactor", "SFUncertainty")
    if systematic not in ("up", "down") or not has_correction(smearing.file, uncertainty):
        raise InputError(f"{smearing.file}: {name} knows no systematic {systematic!r}, only nom")
    shift = evaluate(smearing.file, uncertainty, inputs)
    return nominal * (1 + shift if systematic == "up" else 1 - shift)


def _truth_pt(record: EventRecord, matched: Int32Array, max_dr: float) -> Float64Array:
    """Momenta of the matched truth jets closer than `max_dr`, (n_jets,), -1 for none."""
    if record.truth is None:
        return np.full(len(matched), UNMATCHED)
    truth_pt = np.full(len(matched), UNMATCHED)
    jet = np.flatnonzero(matched >= 0)
    partner = matched[jet]
    delta_eta = record.jets.eta[jet].astype(np.float64) - record.truth.eta[partner]
    delta_phi = np.abs(record.jets.phi[jet].astype(np.float64) - record.truth.phi[partner])
    delta_phi = np.minimum(delta_phi, 2 * np.pi - delta_phi)
    is_close = np.hypot(delta_eta, delta_phi) < max_dr
    truth_pt[jet[is_close]] = record.truth.pt[partner[is_close]]
    return truth_pt


@compiled
def _event_ids(identity: UInt64Array, purpose: np.uint64) -> Int64Array:
    ids = np.empty(len(identity), np.int64)
    for i in range(len(identity)):
        ids[i] = max(splitmix64(identity[i] ^ purpose) >> np.uint64(33), np.uint64(1))
    return ids
