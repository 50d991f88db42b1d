"""Which jets may be used, and which truth jet belongs to each.

A jet is judged by momentum, direction, identification, pile-up identification, veto map and distance to leptons, in
this order; the first that fails is counted. Nothing is taken out of the record: the answer is a mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from processors.compiled import compiled
from processors.correction_files import check_inputs, evaluate, input_names
from processors.errors import InputError
from processors.record import BoolArray, Float32Array, Int32Array, Int64Array

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from processors.correction_files import Value
    from processors.record import AnyArray, EventRecord, Jets

Identification = Literal["auto", "none", "tight", "tight_lepton_veto"]
PileupIdentification = Literal["none", "loose", "medium", "tight"]

# NanoAOD Jet_jetId: bit 1 (value 2) tight, bit 2 (value 4) tight with lepton veto; bit 0 (loose) is unset since 2017.
IDENTIFICATION_BITS: Mapping[str, int] = {"none": 0, "auto": 2, "tight": 2, "tight_lepton_veto": 4}
# NanoAOD Jet_puId of 2017 and 2018; 2016 has loose and tight exchanged, only "tight" (all bits) suits every year.
PILEUP_BITS: Mapping[str, int] = {"none": 0, "loose": 4, "medium": 6, "tight": 7}

# Inputs of a jetid.json.gz by our names of the columns.
_FRACTIONS: Mapping[str, str] = {
    "chHEF": "charged_hadron_fraction",
    "neHEF": "neutral_hadron_fraction",
    "chEmEF": "charged_em_fraction",
    "neEmEF": "neutral_em_fraction",
    "muEF": "muon_fraction",
    "chMultiplicity": "charged_multiplicity",
    "neMultiplicity": "neutral_multiplicity",
}
_MULTIPLICITY, _MULTIPLICITIES = "multiplicity", ("chMultiplicity", "neMultiplicity")
_IDENTIFICATION_ETA = 4.99

REASONS = (
    "jets below the minimum pt",
    "jets beyond the maximum |eta|",
    "jets failing identification",
    "jets failing pile-up identification",
    "jets in the veto map",
    "jets near a lepton",
)
_VETO_MAP, _LEPTON = 4, 5

_NOT_NEGATIVE = ("min_pt", "max_abs_eta", "pileup_id_max_pt", "lepton_dr", "lepton_min_pt", "lepton_max_isolation")

# Veto maps end at |eta| = 5.191 and |phi| = pi, some of them with an error beyond; float32 rounds pi upwards.
_MAP_ETA, _MAP_PHI = 5.19, 3.1415
_NO_COLUMN: tuple[AnyArray, int] = (np.empty(0, np.uint8), 0)
_TWO_PI = np.float32(2 * np.pi)

# eta and phi of jets, then of truth jets or leptons
Directions = tuple[Float32Array, Float32Array, Float32Array, Float32Array]


@dataclass(frozen=True, slots=True)
class VetoMap:
    """Jet veto map of the JME convention (YAML section `jets.veto_map`): inputs type, eta, phi; above 0 is vetoed.

    `file` is a correctionlib JSON, `correction` the name in it and `type` the kind of map, "jetvetomap_all" for the
    widest. Jets of at least `min_pt` GeV that passed everything else are looked up. `scope` "jets" removes the jet,
    "events" all jets of its event.
    """

    file: str
    correction: str
    type: str = "jetvetomap"
    scope: Literal["jets", "events"] = "jets"
    min_pt: float = 15.0

    def __post_init__(self) -> None:
        """Refuse an unknown scope."""
        _check_choice("jets.veto_map.scope", self.scope, ("jets", "events"))


@dataclass(frozen=True, slots=True)
class IdentificationCorrection:
    """Identification as CMS publishes it for files without Jet_jetId (YAML section `jets.identification_correction`).

    `file` is a jetid.json.gz of JME, `correction` the name in it; a jet whose value is above 0 passes.
    """

    file: str
    correction: str = "AK4PUPPI_Tight"


@dataclass(frozen=True, slots=True)
class JetQuality:
    """What a usable jet is (YAML section `jets`), energies in GeV.

    Attributes
    ----------
    min_pt, max_abs_eta
        A jet has pt >= `min_pt` and |eta| <= `max_abs_eta`; CMS corrections end at 5.191.
    identification
        "auto" asks for the tight bit of CMS where the file has it and for nothing elsewhere; "tight" and
        "tight_lepton_veto" refuse a file without identification; "none" asks for nothing.
    identification_correction
        Takes the place of the column that `identification` looks at, for NanoAOD from version 15 on.
    pileup_id
        Asked of jets below `pileup_id_max_pt`. "none" by default: the meaning of the bits changes with the year and
        PUPPI jets have none, so no choice suits all files. Anything else refuses a file without it.
    veto_map
        Regions of the detector to leave out.
    lepton_cleaning
        Removes jets within `lepton_dr` of an electron or muon, for lepton-triggered data, whose leptons are jets too.
        The lepton has at least `lepton_min_pt` and, where the file has them, passes identification (`is_identified`)
        and a relative isolation below `lepton_max_isolation`, so that jets with a lepton inside stay.
    """

    min_pt: float = 10.0
    max_abs_eta: float = 5.2
    identification: Identification = "auto"
    identification_correction: IdentificationCorrection | None = None
    pileup_id: PileupIdentification = "none"
    pileup_id_max_pt: float = 50.0
    veto_map: VetoMap | None = None
    lepton_cleaning: bool = False
    lepton_dr: float = 0.4
    lepton_min_pt: float = 10.0
    lepton_max_isolation: float = 0.25

    def __post_init__(self) -> None:
        """Refuse unknown choices and cuts below zero."""
        _check_choice("jets.identification", self.identification, get_args(Identification))
        _check_choice("jets.pileup_id", self.pileup_id, get_args(PileupIdentification))
        for name in _NOT_NEGATIVE:
            if not getattr(self, name) >= 0:
                raise InputError(f"jets.{name} must not be negative, got {getattr(self, name)}")


def good_jets(record: EventRecord, settings: JetQuality) -> tuple[BoolArray, dict[str, int]]:
    """Which jets may be used, (n_jets,), and how many were left out by reason (see `REASONS`), without zeros."""
    jets = record.jets
    good = np.empty(len(jets), np.bool_)
    counts = np.zeros(len(REASONS), np.int64)
    cuts = (settings.min_pt, settings.max_abs_eta, settings.pileup_id_max_pt)
    identification, pileup = _identification(record, settings), _pileup_identification(record, settings)
    _judge(jets.pt, jets.eta, identification, pileup, cuts, good, counts)
    if settings.veto_map is not None:
        counts[_VETO_MAP] = _remove_vetoed(record, settings.veto_map, good)
    if settings.lepton_cleaning:
        counts[_LEPTON] = _remove_near_leptons(record, settings, good)
    return good, {reason: int(n) for reason, n in zip(REASONS, counts, strict=True) if n}


def match_truth(jets: Jets, truth: Jets, max_dr: float = 0.2) -> Int32Array:
    """Index of the truth jet of each jet in the flat truth arrays, (n_jets,) int32, -1 for none.

    The closest pair in dR of an event is matched first, then the closest of the others, each jet at most once and only
    below `max_dr`. Among equal distances the jet, then the truth jet, of higher pT goes first.
    """
    matched = np.full(len(jets), -1, np.int32)
    _match(jets.offsets, truth.offsets, (jets.eta, jets.phi, truth.eta, truth.phi), max_dr, matched)
    return matched


def needed_columns(settings: JetQuality) -> tuple[str, ...]:
    """Jet columns (names of `Jets.extra`) the settings cannot do without."""
    needed = ("pu_id",) if settings.pileup_id != "none" else ()
    if settings.identification_correction is not None:
        return (*_fraction_columns(settings.identification_correction), *needed)
    return needed if settings.identification in ("auto", "none") else ("jet_id", *needed)


def wanted_columns(settings: JetQuality) -> tuple[str, ...]:
    """Jet columns worth reading where the file has them: the needed ones and those "auto" looks for."""
    is_automatic = settings.identification == "auto" and settings.identification_correction is None
    return (*(("jet_id",) if is_automatic else ()), *needed_columns(settings))


def files(settings: JetQuality) -> tuple[str, ...]:
    """Paths of the files the result depends on."""
    sources = (settings.identification_correction, settings.veto_map)
    return tuple(source.file for source in sources if source is not None)


def check(settings: JetQuality) -> None:
    """Refuse settings whose files are missing or lack what is asked of them."""
    identification, veto_map = settings.identification_correction, settings.veto_map
    if identification is not None:
        check_inputs(identification.file, identification.correction, (*_FRACTIONS, "eta", _MULTIPLICITY))
    if veto_map is not None:
        point = np.zeros(1)
        evaluate(veto_map.file, veto_map.correction, _map_inputs(veto_map, point, point))


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"{name} is one of {', '.join(choices)}, got {value!r}")


def _identification(record: EventRecord, settings: JetQuality) -> tuple[AnyArray, int]:
    """Column and the bits a jet needs; no bits where nothing is asked for."""
    if settings.identification_correction is not None:
        return _evaluated_identification(record, settings.identification_correction).view(np.uint8), 1
    bits = IDENTIFICATION_BITS[settings.identification]
    is_absent = settings.identification == "auto" and "jet_id" not in record.jets.extra
    if is_absent or not bits:
        return _NO_COLUMN
    return _bits(_column(record, "jet_id", f"jets.identification={settings.identification}"), bits)


def _evaluated_identification(record: EventRecord, source: IdentificationCorrection) -> BoolArray:
    """Which jets pass an identification that is a function of their energy fractions, (n_jets,)."""
    setting = "jets.identification_correction"
    inputs: dict[str, Callable[[], Value]] = {
        name: partial(_column, record, column, setting) for name, column in _FRACTIONS.items()
    }
    # The values do not change beyond |eta| = 3, the binning may end at 5.
    inputs["eta"] = lambda: np.clip(record.jets.eta, -_IDENTIFICATION_ETA, _IDENTIFICATION_ETA)
    charged, neutral = (partial(_column, record, _FRACTIONS[name], setting) for name in _MULTIPLICITIES)
    inputs[_MULTIPLICITY] = lambda: charged().astype(np.int64) + neutral()
    return evaluate(source.file, source.correction, inputs) > 0


def _fraction_columns(source: IdentificationCorrection) -> tuple[str, ...]:
    names = input_names(source.file, source.correction)
    multiplicities = _MULTIPLICITIES if _MULTIPLICITY in names else ()
    return tuple(dict.fromkeys(_FRACTIONS[name] for name in (*names, *multiplicities) if name in _FRACTIONS))


def _pileup_identification(record: EventRecord, settings: JetQuality) -> tuple[AnyArray, int]:
    bits = PILEUP_BITS[settings.pileup_id]
    if not bits:
        return _NO_COLUMN
    return _bits(_column(record, "pu_id", f"jets.pileup_id={settings.pileup_id}"), bits)


def _column(record: EventRecord, name: str, setting: str) -> AnyArray:
    if name not in record.jets.extra:
        raise InputError(f"{record.file} has no jet column {name!r}, which {setting} needs; leave it out")
    return record.jets.extra[name]


def _bits(column: AnyArray, bits: int) -> tuple[AnyArray, int]:
    """Integers for the kernel and the bits to ask for; bool, and char in ATLAS files, say yes or no in a single bit."""
    return (column.view(np.uint8), 1) if column.dtype in (np.bool_, np.int8) else (column, bits)


@compiled
def _judge(
    pt: Float32Array,
    eta: Float32Array,
    identification: tuple[AnyArray, int],
    pileup: tuple[AnyArray, int],
    cuts: tuple[float, float, float],
    good: BoolArray,
    counts: Int64Array,
) -> None:
    """Fill `good` and count the first reason against each jet; a column is looked at only if its bits are not 0."""
    jet_id, id_bits = identification
    pileup_id, pileup_bits = pileup
    min_pt, max_abs_eta, pileup_max_pt = cuts
    for j in range(len(pt)):
        reason = -1
        if not pt[j] >= min_pt:
            reason = 0
        elif not abs(eta[j]) <= max_abs_eta:
            reason = 1
        elif id_bits and (int(jet_id[j]) & id_bits) != id_bits:
            reason = 2
        elif pileup_bits and pt[j] < pileup_max_pt and (int(pileup_id[j]) & pileup_bits) != pileup_bits:
            reason = 3
        good[j] = reason < 0
        if reason >= 0:
            counts[reason] += 1


def _map_inputs(veto_map: VetoMap, eta: AnyArray, phi: AnyArray) -> dict[str, Callable[[], Value]]:
    return {"type": lambda: veto_map.type, "eta": lambda: eta, "phi": lambda: phi}


def _remove_vetoed(record: EventRecord, veto_map: VetoMap, good: BoolArray) -> int:
    """Clear `good` for jets (or all jets of their events) in the veto map; how many were cleared."""
    jets = record.jets
    looked_up = np.flatnonzero(good & (jets.pt >= veto_map.min_pt) & (np.abs(jets.eta) <= _MAP_ETA))
    phi = np.clip(jets.phi[looked_up].astype(np.float64), -_MAP_PHI, _MAP_PHI)
    value = evaluate(veto_map.file, veto_map.correction, _map_inputs(veto_map, jets.eta[looked_up], phi))
    vetoed = looked_up[value > 0]
    n_good = int(np.count_nonzero(good))
    if veto_map.scope == "events":
        events = np.searchsorted(jets.offsets, vetoed, side="right") - 1
        is_vetoed = np.zeros(jets.n_events, np.bool_)
        is_vetoed[events] = True
        good &= ~np.repeat(is_vetoed, jets.counts)
    else:
        good[vetoed] = False
    return n_good - int(np.count_nonzero(good))


def _remove_near_leptons(record: EventRecord, settings: JetQuality, good: BoolArray) -> int:
    """Clear `good` for jets near leptons; how many were cleared."""
    collections = [leptons for leptons in (record.electrons, record.muons) if leptons is not None]
    if not collections:
        raise InputError(
            f"{record.file} has neither electrons nor muons, which jets.lepton_cleaning needs; switch it off"
        )
    jets, n_removed = record.jets, 0
    for leptons in collections:
        is_used = _good_leptons(leptons, settings)
        directions = (jets.eta, jets.phi, leptons.eta, leptons.phi)
        n_removed += _clean(jets.offsets, leptons.offsets, directions, is_used, settings.lepton_dr, good)
    return n_removed


def _good_leptons(leptons: Jets, settings: JetQuality) -> BoolArray:
    """Which leptons are no part of a jet, (n,), as far as the file tells."""
    good = leptons.pt >= settings.lepton_min_pt
    if "is_identified" in leptons.extra:
        good &= leptons.extra["is_identified"].astype(np.bool_)
    if "isolation" in leptons.extra:
        good &= leptons.extra["isolation"] < settings.lepton_max_isolation
    return good


@compiled
def _distance2(eta1: np.float32, phi1: np.float32, eta2: np.float32, phi2: np.float32) -> np.float32:
    """Squared dR in single precision; azimuths in any range of 2 pi."""
    delta_eta = eta1 - eta2
    delta_phi = abs(phi1 - phi2)
    delta_phi = min(delta_phi, _TWO_PI - delta_phi)
    return delta_eta * delta_eta + delta_phi * delta_phi


@compiled
def _clean(
    offsets: Int64Array,
    lepton_offsets: Int64Array,
    directions: Directions,
    is_used: BoolArray,
    max_dr: float,
    good: BoolArray,
) -> int:
    """Clear `good` for jets below `max_dr` from a lepton; how many were cleared."""
    eta, phi, lepton_eta, lepton_phi = directions
    limit, n_removed = np.float32(max_dr * max_dr), 0
    for i in range(len(offsets) - 1):
        for k in range(lepton_offsets[i], lepton_offsets[i + 1]):
            if not is_used[k]:
                continue
            for j in range(offsets[i], offsets[i + 1]):
                if good[j] and _distance2(eta[j], phi[j], lepton_eta[k], lepton_phi[k]) < limit:
                    good[j] = False
                    n_removed += 1
    return n_removed


@compiled
def _nearest(
    eta: np.float32, phi: np.float32, truth_eta: Float32Array, truth_phi: Float32Array, limit: np.float32
) -> int:
    """Nearest truth jet below the squared distance `limit`, or -1; no branches, so that it keeps its speed."""
    best = -1
    for t in range(len(truth_eta)):
        distance = _distance2(eta, phi, truth_eta[t], truth_phi[t])
        best = t if distance < limit else best
        limit = min(distance, limit)
    return best


@compiled
def _is_preferred(j: int, rival: int, t: int, directions: Directions) -> bool:
    """Whether truth jet `t` would rather have jet `j` than its partner `rival` (-1 for none)."""
    if rival < 0:
        return True
    eta, phi, truth_eta, truth_phi = directions
    distance = _distance2(eta[j], phi[j], truth_eta[t], truth_phi[t])
    held = _distance2(eta[rival], phi[rival], truth_eta[t], truth_phi[t])
    return bool(distance < held or (distance == held and j < rival))


@compiled
def _nearest_willing(
    j: int, first: int, last: int, partner: Int32Array, directions: Directions, limit: np.float32
) -> int:
    """Nearest truth jet in [first, last) that prefers jet `j` to its partner, or -1."""
    eta, phi, truth_eta, truth_phi = directions
    best = -1
    for t in range(first, last):
        distance = _distance2(eta[j], phi[j], truth_eta[t], truth_phi[t])
        if distance < limit and _is_preferred(j, partner[t], t, directions):
            best, limit = t, distance
    return best


@compiled
def _match(
    offsets: Int64Array, truth_offsets: Int64Array, directions: Directions, max_dr: float, matched: Int32Array
) -> None:
    """Closest pairs first, without sorting: each jet asks the nearest truth jet that prefers it to its present partner.

    A jet that loses its partner asks again (Gale and Shapley, 1962). Preferences are distances, the same from both
    sides, so the stable matching is unique and is the one of the sorted pairs.
    """
    eta, phi, truth_eta, truth_phi = directions
    partner = np.full(len(truth_eta), -1, np.int32)
    limit = np.float32(max_dr * max_dr)
    for i in range(len(offsets) - 1):
        first, last = truth_offsets[i], truth_offsets[i + 1]
        for start in range(offsets[i], offsets[i + 1]):
            j = start
            best = _nearest(eta[j], phi[j], truth_eta[first:last], truth_phi[first:last], limit)
            if best < 0:
                continue
            best += first
            if not _is_preferred(j, partner[best], best, directions):
                best = _nearest_willing(j, first, last, partner, directions, limit)
            while best >= 0:
                rival = partner[best]
                partner[best], matched[j] = j, best
                if rival < 0:
                    break
                matched[rival], j = -1, rival
                best = _nearest_willing(j, first, last, partner, directions, limit)
