"""Which branches hold what, in NanoAOD, PFNano, PHYSLITE, Delphes and flat ntuples.

One table per format says where each column of the record lies. `recognise` tells the format from the branch names,
`find_columns` picks the branches a job needs and names what is missing. Nothing here opens a file.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from processors.errors import InputError, raise_if_any, suggestion

FormatName = Literal["nanoaod", "pfnano", "physlite", "delphes", "flat"]
BranchMap = Mapping[str, str | Sequence[str]]

LAYER_FRACTIONS = (
    *(f"fraction_em{layer}" for layer in range(4)),
    *(f"fraction_tile{layer}" for layer in range(3)),
    *(f"fraction_hec{layer}" for layer in range(4)),
    *(f"fraction_fcal{layer}" for layer in range(3)),
)
"""Energy fractions of the calorimeter layers."""
JET_COLUMNS = (
    "jet_id",
    "pu_id",
    "area",
    "raw_factor",
    "truth_index",
    "charged_hadron_fraction",
    "neutral_hadron_fraction",
    "charged_em_fraction",
    "neutral_em_fraction",
    "muon_fraction",
    "n_constituents",
    "charged_multiplicity",
    "neutral_multiplicity",
    "parton_flavour",
    "hadron_flavour",
    *LAYER_FRACTIONS,
    "n90",
    "track_width",
    "n_tracks",
    "charged_fraction",
    "n_segments",
    "soft_drop_mass",
)
"""Names of the optional jet columns (`Jets.extra`)."""
EVENT_ID = ("run", "luminosity_block", "event")
EVENT_COLUMNS = ("rho", "npv", "true_interactions", "average_interactions", "met_pt", "met_phi")
"""Names of the optional columns of the event."""
MOMENTUM = ("pt", "eta", "phi", "mass")
UNITS = ("GeV", "MeV")


_NONE: Mapping[str, tuple[str, ...]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a format keeps its columns; of several names the first one in the file counts, `{}` is the collection.

    Attributes
    ----------
    trees
        Usual names of the tree.
    jets, truth_jets, electrons, muons
        Usual names of the collections.
    jet_algo
        Usual name of the jet algorithm in corrections.
    momentum, jet_columns, event
        Names of branches by our name of the column.
    constituents
        Names of the branches of constituents: momentum of the candidates, and the index of the jet and of the
        candidate for each link between the two.
    candidates
        Names of branches that candidates may have besides: mass, and `puppi_weight`.
    puppi_jets
        Collections whose constituents count with their PUPPI weight.
    particles
        Names of the branches of generated particles.
    trigger
        Name of the branch of a trigger path.
    energy_unit
        GeV of one unit of pt, mass and rho.
    prefix
        What may be left out of the name of a collection.
    """

    trees: tuple[str, ...]
    jets: str
    truth_jets: str
    electrons: str
    muons: str
    jet_algo: str
    momentum: Mapping[str, tuple[str, ...]]
    jet_columns: Mapping[str, tuple[str, ...]]
    event: Mapping[str, tuple[str, ...]]
    constituents: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: _NONE)
    candidates: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: _NONE)
    puppi_jets: tuple[str, ...] = ()
    particles: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: _NONE)
    trigger: tuple[str, ...] = ()
    energy_unit: float = 1.0
    prefix: str = ""


def _in_collection(names: Mapping[str, str], *patterns: str) -> dict[str, tuple[str, ...]]:
    """Branches of a collection: every pattern with `{}` left for the collection and the field put in."""
    return {column: tuple(pattern.replace("FIELD", name) for pattern in patterns) for column, name in names.items()}


_NANOAOD = Layout(
    trees=("Events",),
    jets="Jet",
    truth_jets="GenJet",
    electrons="Electron",
    muons="Muon",
    jet_algo="AK4PF",
    momentum=_in_collection({"pt": "pt", "eta": "eta", "phi": "phi", "mass": "mass"}, "{}_FIELD"),
    jet_columns={
        "truth_index": ("{}_genJetIdx", "{}_genJetAK8Idx"),
        **_in_collection(
            {
                "jet_id": "jetId",
                "pu_id": "puId",
                "area": "area",
                "raw_factor": "rawFactor",
                "charged_hadron_fraction": "chHEF",
                "neutral_hadron_fraction": "neHEF",
                "charged_em_fraction": "chEmEF",
                "neutral_em_fraction": "neEmEF",
                "muon_fraction": "muEF",
                "n_constituents": "nConstituents",
                "charged_multiplicity": "chMultiplicity",
                "neutral_multiplicity": "neMultiplicity",
                "parton_flavour": "partonFlavour",
                "hadron_flavour": "hadronFlavour",
                **{f"fraction_{name.lower()}": f"f{name}" for name in ("EM0", "EM1", "EM2", "EM3")},
                **{f"fraction_{name.lower()}": f"f{name}" for name in ("Tile0", "Tile1", "Tile2")},
                **{f"fraction_{name.lower()}": f"f{name}" for name in ("HEC0", "HEC1", "HEC2", "HEC3")},
                **{f"fraction_{name.lower()}": f"f{name}" for name in ("FCAL0", "FCAL1", "FCAL2")},
                "n90": "n90",
                "track_width": "trackWidth",
                "n_tracks": "nTracks",
                "charged_fraction": "chargedFraction",
                "n_segments": "nMuonSegments",
                "soft_drop_mass": "msoftdrop",
            },
            "{}_FIELD",
        ),
    },
    event={
        "run": ("run",),
        "luminosity_block": ("luminosityBlock",),
        "event": ("event",),
        "weight": ("genWeight",),
        "rho": ("fixedGridRhoFastjetAll", "Rho_fixedGridRhoFastjetAll"),
        "npv": ("PV_npvs",),
        "true_interactions": ("Pileup_nTrueInt",),
        "average_interactions": ("averageInteractions",),
        "parton_shower": ("PSWeight",),
        "met_pt": ("MET_pt", "PuppiMET_pt", "PFMET_pt"),
        "met_phi": ("MET_phi", "PuppiMET_phi", "PFMET_phi"),
    },
    # PFNano, then NanoAOD from version 15 on
    constituents={
        "jet_index": ("{}PFCands_jetIdx", "{}PFCand_jetIdx"),
        "candidate_index": ("{}PFCands_pFCandsIdx", "{}PFCand_pfCandIdx"),
        **_in_collection({"pt": "pt", "eta": "eta", "phi": "phi"}, "PFCands_FIELD", "PFCand_FIELD"),
    },
    candidates=_in_collection({"mass": "mass", "puppi_weight": "puppiWeight"}, "PFCands_FIELD", "PFCand_FIELD"),
    puppi_jets=("FatJet",),
    particles=_in_collection(
        {"pt": "pt", "eta": "eta", "phi": "phi", "pdg_id": "pdgId", "mother": "genPartIdxMother"}, "GenPart_FIELD"
    ),
    trigger=("{}", "HLT_{}"),
)

# A container is split (AuxDyn), in one piece (Aux.), or a field of an RNTuple, which takes no dots.
_ATHENA = ("{}AuxDyn.FIELD", "{}AuxDyn:FIELD", "{}Aux./{}Aux.FIELD", "{}Aux:FIELD")
_PHYSLITE = Layout(
    trees=("CollectionTree",),
    jets="AnalysisJets",
    truth_jets="AntiKt4TruthDressedWZJets",
    electrons="AnalysisElectrons",
    muons="AnalysisMuons",
    jet_algo="AntiKt4",
    momentum=_in_collection({"pt": "pt", "eta": "eta", "phi": "phi", "mass": "m"}, *_ATHENA),
    jet_columns=_in_collection(
        {
            "pu_id": "NNJvtPass",
            "area": "ActiveArea4vec_pt",
            "parton_flavour": "PartonTruthLabelID",
            "hadron_flavour": "HadronConeExclTruthLabelID",
        },
        *_ATHENA,
    ),
    event={
        column: tuple(pattern.format(*2 * [container]).replace("FIELD", name) for pattern in _ATHENA)
        for column, (container, name) in {
            "run": ("EventInfo", "runNumber"),
            "luminosity_block": ("EventInfo", "lumiBlock"),
            "event": ("EventInfo", "eventNumber"),
            "weight": ("EventInfo", "mcEventWeights"),
            "rho": ("Kt4EMPFlowEventShape", "Density"),
            "vertex_type": ("PrimaryVertices", "vertexType"),
            "true_interactions": ("EventInfo", "averageInteractionsPerCrossing"),
        }.items()
    },
    energy_unit=1e-3,
    prefix="Analysis",
)

_DELPHES = Layout(
    trees=("Delphes",),
    jets="Jet",
    truth_jets="GenJet",
    electrons="Electron",
    muons="Muon",
    jet_algo="AK4PF",
    momentum=_in_collection({"pt": "PT", "eta": "Eta", "phi": "Phi", "mass": "Mass"}, "{}/{}.FIELD"),
    jet_columns=_in_collection(
        {"charged_multiplicity": "NCharged", "neutral_multiplicity": "NNeutrals", "parton_flavour": "Flavor"},
        "{}/{}.FIELD",
    ),
    event={
        "event": ("Event/Event.Number",),
        "weight": ("Event/Event.Weight",),
        "rho": ("Rho/Rho.Rho",),
        "npv": ("Vertex_size",),
    },
)

LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {"nanoaod": _NANOAOD, "pfnano": _NANOAOD, "physlite": _PHYSLITE, "delphes": _DELPHES}
)
FORMATS: tuple[FormatName, ...] = ("nanoaod", "pfnano", "physlite", "delphes", "flat")
COLLECTIONS = ("jet", "truth", "electron", "muon")
FLAT_COLUMNS = (
    *EVENT_ID,
    "weight",
    *EVENT_COLUMNS,
    "energy_unit",
    *(f"{collection}_{name}" for collection in COLLECTIONS for name in MOMENTUM),
    *(f"jet_{name}" for name in JET_COLUMNS),
)
"""What a branch map may name."""


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """What a job wants of the events of a dataset.

    Attributes
    ----------
    is_mc
        Simulation; data have no truth, whatever the file holds, and weight 1 unless a branch is named.
    schema
        Format; None to find it out from each file.
    jet_collection, truth_jet_collection, weight
        Names in the file; None for the usual ones of the format.
    usual_truth_jets
        Name of the truth jets where `truth_jet_collection` is None, in files that have them; None for that of the
        format.
    without_truth
        What to do to run without truth jets, told where those of `truth_jet_collection` are missing; None for leaving
        that out of the fileset.
    triggers
        Paths whose decision is wanted.
    jet_columns, event_columns
        Names out of `JET_COLUMNS` and `EVENT_COLUMNS` that are wanted where the file has them; of the event also
        `parton_shower`.
    truth_columns
        Names out of `JET_COLUMNS` that are wanted of truth jets where the file has them.
    needed
        Those of the jet and event columns without which the job cannot be done.
    truth, leptons, constituents, particles
        Whether truth jets (of simulation), electrons and muons, the constituents of jets, and generated particles (of
        simulation) are wanted.
    branch_map
        For flat ntuples, branches by our name of the column (`FLAT_COLUMNS`). A list of branches means one number per
        event in each, the first for the first jet and so on. `energy_unit` is GeV or MeV.
    """

    is_mc: bool
    schema: str | None = None
    jet_collection: str | None = None
    truth_jet_collection: str | None = None
    usual_truth_jets: str | None = None
    without_truth: str | None = None
    weight: str | None = None
    triggers: tuple[str, ...] = ()
    jet_columns: tuple[str, ...] = JET_COLUMNS
    event_columns: tuple[str, ...] = EVENT_COLUMNS
    truth_columns: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()
    truth: bool = True
    leptons: bool = False
    constituents: bool = False
    particles: bool = False
    branch_map: BranchMap | None = None


@dataclass(frozen=True, slots=True)
class CollectionBranches:
    """Branches of one collection by our name of the column; several branches are the first, second, ... object."""

    name: str
    columns: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class FileColumns:
    """The branches of one file that a job reads.

    Attributes
    ----------
    format, energy_unit
        Name of the format, and GeV of one unit of pt, mass and rho.
    jets, truth, electrons, muons
        None where not wanted or not in the file.
    event
        Branch by our name of the column.
    triggers
        Branch by trigger path, for those the file has.
    constituents
        Branches by `pt`, `eta`, `phi`, `jet_index` and `candidate_index`, and by `mass` and `puppi_weight` where there
        are such that count; None where not wanted or not in the file.
    particles
        Branches by `pt`, `eta`, `phi`, `pdg_id` and `mother`; None where not wanted or not in the file.
    """

    format: FormatName
    energy_unit: float
    jets: CollectionBranches
    truth: CollectionBranches | None
    electrons: CollectionBranches | None
    muons: CollectionBranches | None
    event: Mapping[str, str]
    triggers: Mapping[str, str]
    constituents: Mapping[str, str] | None = None
    particles: Mapping[str, str] | None = None

    def names(self) -> tuple[str, ...]:
        """Columns by our names: those of the event, and those of collections as `jets.pt`."""
        collections = {"jets": self.jets, "truth": self.truth, "electrons": self.electrons, "muons": self.muons}
        inner = [f"{key}.{name}" for key, value in collections.items() if value for name in value.columns]
        parts = [f"constituents.{name}" for name in self.constituents or ()]
        parts += [f"particles.{name}" for name in self.particles or ()]
        return (*self.event, *inner, *parts, *self.triggers)

    def branches(self) -> dict[str, int]:
        """Every branch, with how many dimensions it must have besides that of events: 0, 1, or -1 for either."""
        collections = [group for group in (self.jets, self.truth, self.electrons, self.muons) if group is not None]
        columns = [names for group in collections for names in group.columns.values()]
        jagged = {names[0]: 1 for names in columns if len(names) == 1}
        single = {name: 0 for names in columns if len(names) > 1 for name in names}
        return {
            **dict.fromkeys(self.event.values(), -1),
            **dict.fromkeys(self.triggers.values(), 0),
            **jagged,
            **single,
            **dict.fromkeys((self.constituents or {}).values(), 1),
            **dict.fromkeys((self.particles or {}).values(), 1),
        }


def branch_names(tree: Any) -> frozenset[str]:
    """Names of the branches of an uproot tree, those within others too, or of the fields of an RNTuple."""
    is_ntuple = hasattr(tree, "field_records")  # which has the parts of a column as fields within a field
    return frozenset(tree.keys(recursive=not is_ntuple))


def recognise(names: Collection[str]) -> FormatName | None:
    """Format of a tree with these branches, None for an unknown one."""
    if any(name.startswith(("AnalysisJetsAux", "EventInfoAux")) for name in names):
        return "physlite"
    if "Jet/Jet.PT" in names or "Event/Event.Number" in names:
        return "delphes"
    if any(name.startswith("JetPFCand") for name in names):
        return "pfnano"
    if any(name in names for name in ("nJet", "Jet_pt", "nFatJet", "luminosityBlock")):
        return "nanoaod"
    return None


def default_jet_algo(file_format: str) -> str:
    """Name of the jet algorithm in corrections where the fileset gives none."""
    return LAYOUTS[file_format].jet_algo if file_format in LAYOUTS else _NANOAOD.jet_algo


def stores_triggers(file_format: FormatName) -> bool:
    """Whether a format has a branch per trigger path; PHYSLITE packs its menu, Delphes has none."""
    return file_format not in LAYOUTS or bool(LAYOUTS[file_format].trigger)


def find_columns(names: Collection[str], request: ReadRequest) -> FileColumns:
    """The branches to read out of those with these names.

    Raises
    ------
    InputError
        Where the format is unknown, or a branch is missing without which the job makes no sense: jets, and what the
        request names. Each fault names the branch and those nearest to it.
    """
    file_format = _format_of(names, request)
    faults: list[str] = []
    if file_format == "flat":
        found = _flat_columns(names, request, faults)
    else:
        found = _columns(file_format, names, request, faults)
    there = {*found.event, *found.jets.columns, *(["npv"] if "vertex_type" in found.event else [])}
    faults += [f"no column {name!r}, which the settings need" for name in request.needed if name not in there]
    raise_if_any(faults)
    return found


def check_branch_map(branch_map: BranchMap) -> None:
    """Refuse a map that names columns we do not know, lacks the momentum of jets, or has an odd unit."""
    faults = [
        f"branch map: unknown column {name!r}{suggestion(name, FLAT_COLUMNS)}"
        for name in branch_map
        if name not in FLAT_COLUMNS
    ]
    faults += [
        f"branch map: {name!r} is missing" for name in ("jet_pt", "jet_eta", "jet_phi") if name not in branch_map
    ]
    if branch_map.get("energy_unit", "GeV") not in UNITS:
        faults.append(f"branch map: energy_unit is GeV or MeV, got {branch_map['energy_unit']!r}")
    raise_if_any(faults)


def missing_branch(branch: str, names: Collection[str]) -> str:
    """A line that says that a branch is missing, with the nearest ones there are."""
    return f"no branch {branch!r}{suggestion(branch, names, label='nearest:')}".removesuffix("?")


def dimensions(typename: str) -> int | None:
    """Dimensions of a branch of numbers besides that of events (`float[]` has 1); None if it holds no numbers."""
    inner, depth = typename.replace("std::", "").replace(" ", ""), 0
    while match := _WRAPPED.fullmatch(inner):
        inner, depth = match["vector"] or match["array"], depth + 1
    return depth if _NUMBER.fullmatch(inner) else None


_WRAPPED = re.compile(r"(?:ROOT::VecOps::)?(?:vector|RVec)<(?P<vector>.*)>|(?P<array>.*)\[\d*\]")
_NUMBER = re.compile(
    r"bool|char|byte|u?int\d+_t|float|double|Float16_t|Double32_t|unsigned\w+|short|int|long|ROOT::RNTupleCardinality<.*>"
)


def _format_of(names: Collection[str], request: ReadRequest) -> FormatName:
    if request.branch_map and request.schema in (None, "flat"):
        check_branch_map(request.branch_map)
        return "flat"
    if request.schema == "flat":
        raise InputError(
            "a flat ntuple needs a branch map in the configuration, with at least jet_pt, jet_eta, jet_phi"
        )
    for known in FORMATS:
        if known == (request.schema or recognise(names)):
            return known
    if request.schema:
        raise InputError(f"unknown schema {request.schema!r}; known are {', '.join(FORMATS)}")
    raise InputError(f"the branches look like none of {', '.join(LAYOUTS)}; say 'schema', or give a branch map")


def _columns(file_format: FormatName, names: Collection[str], request: ReadRequest, faults: list[str]) -> FileColumns:
    layout = LAYOUTS[file_format]

    def collection(wanted: str | None, usual: str) -> CollectionBranches | None:
        found = _collection(layout, names, wanted or usual)
        if found is None and (wanted or usual == layout.jets):
            faults.extend(_collection_faults(layout, names, wanted or usual))
        return found

    jets = collection(request.jet_collection, layout.jets)
    has_truth, named = request.is_mc and request.truth, request.truth_jet_collection
    truth = collection(named, request.usual_truth_jets or layout.truth_jets) if has_truth else None
    if has_truth and named and truth is None:
        advice = request.without_truth or f"leave out truth_jet_collection {named!r}"
        faults.append(f"{advice} to run without truth jets")
    return FileColumns(
        format=file_format,
        energy_unit=layout.energy_unit,
        jets=_with_extra(layout, names, jets, (*request.jet_columns, *request.needed))
        if jets
        else CollectionBranches("", {}),
        truth=_with_extra(layout, names, truth, request.truth_columns) if truth else None,
        electrons=collection(None, layout.electrons) if request.leptons else None,
        muons=collection(None, layout.muons) if request.leptons else None,
        event=_event_columns(
            {column: _first(given, "", names) for column, given in layout.event.items()}, names, request, faults
        ),
        triggers=_triggers(layout.trigger, names, request),
        constituents=_constituents(layout, names, jets) if jets and request.constituents else None,
        particles=_all_of(layout.particles, "", names) if request.is_mc and request.particles else None,
    )


def _constituents(layout: Layout, names: Collection[str], jets: CollectionBranches) -> dict[str, str] | None:
    """Branches of the constituents of a collection, None unless all are there that must be."""
    found = _all_of(layout.constituents, jets.name, names)
    if found is None:
        return None
    wanted = [column for column in layout.candidates if column != "puppi_weight" or jets.name in layout.puppi_jets]
    more = {column: _first(layout.candidates[column], jets.name, names) for column in wanted}
    return {**found, **{column: branch for column, branch in more.items() if branch is not None}}


def _all_of(patterns: Mapping[str, tuple[str, ...]], name: str, names: Collection[str]) -> dict[str, str] | None:
    """Branch of each column, None unless all are there."""
    found = {column: _first(given, name, names) for column, given in patterns.items()}
    there = {column: branch for column, branch in found.items() if branch is not None}
    return there if there and len(there) == len(found) else None


def _collection(layout: Layout, names: Collection[str], name: str) -> CollectionBranches | None:
    """A collection that has at least pt, eta and phi."""
    for full_name in dict.fromkeys((name, layout.prefix + name)):
        found = {column: _first(given, full_name, names) for column, given in layout.momentum.items()}
        columns = {column: (branch,) for column, branch in found.items() if branch is not None}
        if columns.keys() >= {"pt", "eta", "phi"}:
            return CollectionBranches(full_name, columns)
    return None


def _collection_faults(layout: Layout, names: Collection[str], name: str) -> list[str]:
    lacking = [
        layout.momentum[column] for column in ("pt", "eta", "phi") if not _first(layout.momentum[column], name, names)
    ]
    return [missing_branch(given[0].replace("{}", name), names) for given in lacking]


def _with_extra(
    layout: Layout, names: Collection[str], jets: CollectionBranches, wanted: Sequence[str]
) -> CollectionBranches:
    found = {column: _first(layout.jet_columns.get(column, ()), jets.name, names) for column in wanted}
    extra = {column: (branch,) for column, branch in found.items() if branch is not None}
    return CollectionBranches(jets.name, {**jets.columns, **extra})


def _event_columns(
    found: Mapping[str, str | None], names: Collection[str], request: ReadRequest, faults: list[str]
) -> dict[str, str]:
    wanted = {*EVENT_ID, "weight", *request.event_columns, *request.needed}
    wanted |= {"vertex_type"} if "npv" in wanted else set()
    columns = {column: branch for column, branch in found.items() if branch is not None and column in wanted}
    if request.weight is not None:
        columns["weight"] = request.weight
        if request.weight not in names:
            faults.append(missing_branch(request.weight, names))
    elif not request.is_mc:
        columns.pop("weight", None)
    return columns


def _triggers(patterns: Sequence[str], names: Collection[str], request: ReadRequest) -> dict[str, str]:
    found = {path: _first(patterns, path, names) for path in request.triggers}
    return {path: branch for path, branch in found.items() if branch is not None}


def _first(patterns: Sequence[str], name: str, names: Collection[str]) -> str | None:
    """The first pattern, with `name` put in, that is a branch."""
    candidates = (pattern.replace("{}", name) for pattern in patterns)
    return next((candidate for candidate in candidates if candidate in names), None)


def _is_of_simulation(column: str) -> bool:
    """Whether data have no such column."""
    return column == "weight" or column.startswith("truth_")


def _flat_columns(names: Collection[str], request: ReadRequest, faults: list[str]) -> FileColumns:
    branch_map = {
        column: (given,) if isinstance(given, str) else tuple(given)
        for column, given in (request.branch_map or {}).items()
    }
    unit = branch_map.pop("energy_unit", ("GeV",))
    if not request.is_mc:
        branch_map = {column: given for column, given in branch_map.items() if not _is_of_simulation(column)}
    faults.extend(
        missing_branch(branch, names) for given in branch_map.values() for branch in given if branch not in names
    )

    def collection(key: str, columns: Sequence[str]) -> CollectionBranches | None:
        found = {column: branch_map[f"{key}_{column}"] for column in columns if f"{key}_{column}" in branch_map}
        return CollectionBranches(key, found) if found.keys() >= {"pt", "eta", "phi"} else None

    event = {column: branch_map[column][0] for column in (*EVENT_ID, "weight", *EVENT_COLUMNS) if column in branch_map}
    return FileColumns(
        format="flat",
        energy_unit=1e-3 if unit == ("MeV",) else 1.0,
        jets=collection("jet", (*MOMENTUM, *request.jet_columns, *request.needed)) or CollectionBranches("jet", {}),
        truth=collection("truth", MOMENTUM) if request.is_mc and request.truth else None,
        electrons=collection("electron", MOMENTUM) if request.leptons else None,
        muons=collection("muon", MOMENTUM) if request.leptons else None,
        event=_event_columns(event, names, request, faults),
        triggers=_triggers(("{}",), names, request),
    )
