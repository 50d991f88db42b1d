"""The main job: a chunk of events in, sums of asymmetry histograms out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from coffea.processor import ProcessorABC
from numpy.typing import NDArray

from processors import jet_quality, kernels
from processors.binning import BALANCE, LEVELS, RESPONSE_BINS, RESPONSE_RANGE, SPECTRUM_EDGES, Binning
from processors.event_filter import EventFilter, lumi_mask, mask_of, pileup_weight, trigger_decision
from processors.formats import BranchMap, ReadRequest
from processors.histograms import DatasetSums, Filled, OrderedSum, SparseSums, VariedSums
from processors.jet_calibration import (
    JetCalibration,
    calibrate,
    cone_radius,
    needed_columns,
    network_needs,
    scale_jets,
    smear,
)
from processors.jet_quality import JetQuality, good_jets, match_truth, wanted_columns
from processors.reading import read_events
from processors.selection import CUTFLOW_AS_READ, CUTFLOW_USED, DijetSelection
from processors.side_by_side import calibrations, jet_algo, measured_name
from processors.variations import NOMINAL, Systematics, Variation, shift_scale, variations

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from processors.event_filter import PileupSystematic
    from processors.fileset import Dataset
    from processors.record import EventRecord, Jets

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

# Events that have passed this many of CUTFLOW_USED are back to back, triggered and in a certified block.
TRIGGERED = CUTFLOW_USED.index("trigger") + 1


@dataclass(frozen=True, slots=True)
class DijetSettings:
    """Everything that decides which event goes into which bin with which weight."""

    binning: Binning = field(default_factory=Binning)
    selection: DijetSelection = field(default_factory=DijetSelection)
    events: EventFilter = field(default_factory=EventFilter)
    jets: JetQuality = field(default_factory=JetQuality)
    calibration: JetCalibration = field(default_factory=JetCalibration)
    systematics: Systematics = field(default_factory=Systematics)
    replicas: int = 100
    branches: BranchMap | None = None


class DijetProcessor(ProcessorABC):
    """Fills the dijet histograms of one chunk of events.

    Parameters
    ----------
    datasets
        The datasets of the run by name; a chunk names its own in `events.metadata`.
    settings
        Cuts, binning and corrections. Files are held by path and opened once per process.
    """

    def __init__(self, datasets: Mapping[str, Dataset], settings: DijetSettings) -> None:
        self.datasets = dict(datasets)
        self.settings = settings

    def process(self, events: Any) -> OrderedSum:
        """Sums of one chunk under its index `events.metadata["chunk"]`."""
        dataset = self.datasets[events.metadata["dataset"]]
        record = read_events(events, read_request(dataset, self.settings))
        return OrderedSum.single(int(events.metadata["chunk"]), fill_record(record, dataset, self.settings))

    def postprocess(self, accumulator: OrderedSum) -> OrderedSum:
        """Nothing is left to do after the sum."""
        return accumulator


def fill_record(record: EventRecord, dataset: Dataset, settings: DijetSettings) -> Filled:
    """All sums of one record of events, nominal and varied, for each kind of jet."""
    as_read = kernels.as_read_steps(
        leading(record.jets), settings.selection.min_delta_phi, third_jet_cut(settings.selection)
    )
    filled = Filled({})
    for calibration in calibrations(dataset, settings.calibration):
        own = replace(settings, calibration=calibration)
        filled = filled + _fill_kind(record, as_read, dataset, own)
    return filled


def _fill_kind(record: EventRecord, as_read: NDArray[np.int8], dataset: Dataset, settings: DijetSettings) -> Filled:
    """All sums of one record with one kind of jet."""
    ways, name = variations_of(dataset, settings), measured_name(dataset, settings.calibration)
    calibrated, recalibrated = calibrate(record, settings.calibration, jet_algo(dataset))
    calibrated = propagate(record, calibrated)
    unshifted = [way for way in ways if way.jes == 0]
    selected = select_events(calibrated, dataset, settings, unshifted)
    weights = {way.pile_up: weigh_events(selected, settings, way.pile_up) for way in unshifted}
    sums = fill_nominal(selected, as_read, weights["nominal"], settings)
    varied = {way.name: fill_varied(selected, way.selection, weights[way.pile_up], settings) for way in unshifted[1:]}
    for way in ways:
        if way.jes != 0:
            shifted = select_events(calibrated, dataset, settings, [way])
            own_weights = weigh_events(shifted, settings, way.pile_up)
            varied[way.name] = fill_varied(shifted, way.selection, own_weights, settings)
    excluded = {**record.excluded, **recalibrated, **selected.excluded}
    return Filled({name: replace(sums, excluded=excluded)}, {way: {name: each} for way, each in varied.items()})


class Selected(NamedTuple):
    """The events of a chunk after selection, with one set of jets; arrays (n_events,).

    Attributes
    ----------
    record
        The events, their jets calibrated and smeared.
    selections
        The selections that `candidates` were found for.
    prescale
        Of the trigger that owns an event; 1 where it did not pass.
    passed
        How many of `CUTFLOW_USED` an event has passed in the first selection.
    excluded
        Jets left out on the way, by reason.
    """

    record: EventRecord
    selections: tuple[DijetSelection, ...]
    pairs: kernels.Pairs
    places: kernels.Places
    partners: kernels.Partners
    prescale: FloatArray
    passed: NDArray[np.int8]
    candidates: kernels.Candidates
    excluded: dict[str, int]


def select_events(
    calibrated: EventRecord, dataset: Dataset, settings: DijetSettings, ways: Sequence[Variation]
) -> Selected:
    """Candidates of each of some variations that share their jets."""
    selections = tuple(dict.fromkeys(way.selection for way in ways))
    record, lost = prepare_jets(calibrated, dataset, settings, ways[0].jes)
    good, removed = good_jets(record, settings.jets)
    jets = leading(record.jets)
    pairs = kernels.find_pairs(jets, good)
    certified = lumi_mask(record, mask_of(dataset, settings.events))
    triggered, prescale = trigger_decision(record.triggers, dataset.triggers, pairs.pt_avg)
    passed = count_passed(certified, pairs.second >= 0, pairs.delta_phi > selections[0].min_delta_phi, triggered)
    usable = certified & triggered & (pairs.delta_phi > min(each.min_delta_phi for each in selections))
    edges = grid(settings.binning)
    places = kernels.locate(pairs, usable, record.identity, jets, edges)
    # the truth response, which is not varied, needs truth jets outside of the regions and of the range in pt_avg too
    is_looked_at = usable if ways[0].name == NOMINAL else (places.region >= 0) & (places.pt_avg >= 0)
    partners = match_truth_pairs(record, pairs, is_looked_at, settings.selection.truth_max_dr)
    candidates = kernels.find_candidates(pairs, places, partners, passed, edges, cuts(selections))
    return Selected(record, selections, pairs, places, partners, prescale, passed, candidates, {**lost, **removed})


def fill_nominal(
    selected: Selected, as_read: NDArray[np.int8], weights: EventWeights, settings: DijetSettings
) -> DatasetSums:
    """All sums of the nominal way to fill; `as_read` are the steps passed by the jets of the file."""
    dijets = kernels.choose(selected.candidates, 0)
    return DatasetSums(
        **fill_asymmetries(selected, dijets, weights, settings, settings.replicas),
        response=fill_responses(selected, weights, settings),
        spectrum=fill_spectrum(selected, dijets, weights),
        cutflow=cutflow(as_read, selected, weights),
        matrix=fill_matrix(selected, weights, settings),
        balance=fill_balance(selected, dijets, weights, settings),
        rho=fill_rho(selected, dijets, weights, settings),
        asymmetry_by_rho=fill_asymmetry_by_rho(selected, dijets, weights, settings),
    )


def fill_varied(
    selected: Selected, selection: DijetSelection, weights: EventWeights, settings: DijetSettings
) -> VariedSums:
    """The sums that are kept of a variation with one of the selections."""
    dijets = kernels.choose(selected.candidates, selected.selections.index(selection))
    return VariedSums(**fill_asymmetries(selected, dijets, weights, settings, 0))


class EventWeights(NamedTuple):
    """Weights of the events of a chunk, (n_events,).

    `base` is generator and pile-up weight, `used` has the prescale as well.
    """

    base: FloatArray
    used: FloatArray


def leading(jets: Jets) -> kernels.Leading:
    """The columns of `jets` that the kernels read."""
    return kernels.Leading(jets.offsets, jets.pt, jets.eta, jets.phi)


def third_jet_cut(selection: DijetSelection) -> kernels.ThirdJetCut:
    """The third-jet cut for the kernels."""
    return kernels.ThirdJetCut(selection.third_jet_min_pt, selection.third_jet_max_fraction)


def cuts(selections: Sequence[DijetSelection]) -> kernels.Cuts:
    """The cuts of several selections for the kernels."""
    columns = [(each.min_delta_phi, each.third_jet_min_pt, each.third_jet_max_fraction) for each in selections]
    return kernels.Cuts(*np.array(columns, np.float64).T.copy())


def grid(binning: Binning) -> kernels.Grid:
    """The edges for the kernels."""
    is_reference = np.zeros(binning.shape[0], np.bool_)
    is_reference[list(binning.reference_bins)] = True
    return kernels.Grid(binning.eta_edges, is_reference, binning.pt_avg_edges, binning.alpha_edges, binning.rho_edges)


def count_passed(*decisions: BoolArray) -> NDArray[np.int8]:
    """How many decisions in a row each event has passed, (n_events,)."""
    passed = np.zeros(len(decisions[0]), np.int8)
    so_far: BoolArray = np.ones(len(passed), np.bool_)
    for decision in decisions:
        so_far &= decision
        passed += so_far
    return passed


def weigh_events(selected: Selected, settings: DijetSettings, pile_up: PileupSystematic) -> EventWeights:
    """Weights of the events with one choice of pile-up weights."""
    base = selected.record.weight * pileup_weight(selected.record, settings.events, pile_up)
    return EventWeights(base, base * selected.prescale)


def match_truth_pairs(record: EventRecord, pairs: kernels.Pairs, usable: BoolArray, max_dr: float) -> kernels.Partners:
    """Truth jets of the leading jets of usable events."""
    truth = record.truth
    if truth is None:
        none = np.zeros(0, np.int32)
        return kernels.Partners(none, none, np.zeros(0, np.float32), np.zeros(0, np.float32))
    partners = kernels.match_leading(pairs, usable, leading(record.jets), leading(truth), max_dr)
    return kernels.Partners(*partners, truth.pt, truth.phi)


def fill_asymmetries(
    selected: Selected, dijets: kernels.Dijets, weights: EventWeights, settings: DijetSettings, n_replicas: int
) -> dict[str, Any]:
    """Asymmetry sums at both levels and moments of the chosen events."""
    shape, record = settings.binning.shape, selected.record
    weight = weights.used[dijets.event]
    index = [
        kernels.bin_index(dijets.cell, value, -2.0, 2.0, shape[-1])
        for value in (dijets.asymmetry, dijets.truth_asymmetry)
    ]
    identity = record.identity[dijets.event] if n_replicas else record.identity[:0]
    sums, truth_sums = _sparse_pair(index, weight, identity, n_replicas, int(np.prod(shape)))
    rho = np.zeros(len(weight)) if record.rho is None else record.rho[dijets.event].astype(np.float64)
    moments = kernels.fill_moments(
        kernels.without_alpha(dijets.cell, shape[3]),
        weight,
        selected.pairs.pt_avg[dijets.event],
        dijets.asymmetry,
        rho,
        dijets.truth_pt_avg,
        dijets.cos_delta_phi,
        shape[0] * shape[1] * shape[2] * shape[4],
    )
    return {"asymmetry": sums, "truth_asymmetry": truth_sums, "moments": moments}


def fill_spectrum(selected: Selected, dijets: kernels.Dijets, weights: EventWeights) -> FloatArray:
    """Weights of the chosen events with a soft third jet in fine bins of pt_avg, (n_bins, 2)."""
    pt_avg = selected.pairs.pt_avg[dijets.event]
    return kernels.fill_spectrum(np.asarray(SPECTRUM_EDGES), pt_avg, dijets.cell, weights.used[dijets.event])


def fill_responses(selected: Selected, weights: EventWeights, settings: DijetSettings) -> SparseSums:
    """Reco/truth of the matched leading jets with a soft third jet, in bins of |eta| and truth pT."""
    binning = settings.binning
    if len(selected.partners.first) == 0:
        return SparseSums.empty()
    rho = selected.record.rho
    found = kernels.find_responses(
        selected.pairs,
        selected.places,
        selected.partners,
        selected.passed >= TRIGGERED,
        leading(selected.record.jets),
        np.zeros(len(selected.record)) if rho is None else rho.astype(np.float64),
        grid(binning),
        third_jet_cut(settings.selection),
    )
    n_total = int(np.prod(binning.response_shape))
    index = kernels.bin_index(found.cell, found.response, *RESPONSE_RANGE, RESPONSE_BINS)
    bins = kernels.touched_bins(index, n_total)
    sums = kernels.fill_sums(index, bins, weights.used[found.event], n_total)
    return SparseSums(bins, sums, np.zeros((len(bins), 0), np.float32))


def fill_matrix(selected: Selected, weights: EventWeights, settings: DijetSettings) -> SparseSums:
    """Moments of the asymmetry of all pairs of |eta| bins."""
    sums = kernels.fill_matrix(
        selected.pairs,
        selected.places,
        selected.passed >= TRIGGERED,
        selected.record.identity,
        grid(settings.binning),
        third_jet_cut(settings.selection),
        weights.used,
    )
    bins = np.flatnonzero(sums[:, 1])
    return SparseSums(bins, sums[bins], np.zeros((len(bins), 0), np.float32))


def fill_balance(
    selected: Selected, dijets: kernels.Dijets, weights: EventWeights, settings: DijetSettings
) -> SparseSums:
    """Components of the momentum balance of the chosen events with a soft third jet."""
    shape = settings.binning.balance_shape
    is_soft = dijets.cell % 2 == 1
    event, probe = dijets.event[is_soft], dijets.probe[is_soft]
    components = balance_components(selected, event, probe)
    cell = dijets.cell[is_soft] // (2 * settings.binning.shape[3])
    n_cells, n_total = int(np.prod(shape[2:5])), int(np.prod(shape))
    outer = np.array([BALANCE.index(name) * shape[1] + LEVELS.index(level) for name, level in components])
    cells = (outer[:, np.newaxis] * n_cells + cell).astype(np.int32)
    index = kernels.bin_index(cells.ravel(), np.concatenate(list(components.values())), -2.0, 2.0, shape[-1])
    bins = kernels.touched_bins(index, n_total)
    sums = kernels.fill_sums(index, bins, np.tile(weights.used[event], len(components)), n_total)
    return SparseSums(bins, sums, np.zeros((len(bins), 0), np.float32))


def balance_components(
    selected: Selected, event: NDArray[np.int32], probe: NDArray[np.int8]
) -> dict[tuple[str, str], FloatArray]:
    """Values of each component of the momentum balance by name and level, (n,), for what the file has."""
    record, pairs, partners = selected.record, selected.pairs, selected.partners
    psi, eta = kernels.bisector_components(event, probe, pairs, record.identity)
    components = {("psi", "reco"): psi, ("eta", "reco"): eta}
    if record.truth is not None:
        psi, eta = kernels.truth_bisector_components(event, probe, partners, record.identity)
        components |= {("psi", "truth"): psi, ("eta", "truth"): eta}
    if record.met is not None:
        mpf, mpfx = kernels.missing_components(event, probe, pairs, leading(record.jets), *record.met)
        components |= {("mpf", "reco"): mpf, ("mpfx", "reco"): mpfx}
    return components


def fill_asymmetry_by_rho(
    selected: Selected, dijets: kernels.Dijets, weights: EventWeights, settings: DijetSettings
) -> SparseSums:
    """Asymmetries of the chosen events with a soft third jet in bins of rho; nothing where the file has no rho."""
    rho = selected.record.rho
    if rho is None:
        return SparseSums.empty()
    binning = settings.binning
    is_soft = dijets.cell % 2 == 1
    event, n_total = dijets.event[is_soft], int(np.prod(binning.rho_shape))
    cell = dijets.cell[is_soft] // (2 * binning.shape[3])
    cells = kernels.with_rho(cell, rho[event].astype(np.float64), binning.rho_edges)
    index = kernels.bin_index(cells, dijets.asymmetry[is_soft], -2.0, 2.0, binning.asymmetry_bins)
    bins = kernels.touched_bins(index, n_total)
    sums = kernels.fill_sums(index, bins, weights.used[event], n_total)
    return SparseSums(bins, sums, np.zeros((len(bins), 0), np.float32))


def fill_rho(selected: Selected, dijets: kernels.Dijets, weights: EventWeights, settings: DijetSettings) -> FloatArray:
    """Sums of weights and of weights times rho in bins of rho, (n_rho, 2); zero where the file has no rho."""
    if selected.record.rho is None:
        return np.zeros((len(settings.binning.rho), 2))
    rho = selected.record.rho[dijets.event].astype(np.float64)
    return kernels.fill_rho(settings.binning.rho_edges, rho, dijets.cell, weights.used[dijets.event])


def cutflow(as_read: NDArray[np.int8], selected: Selected, weights: EventWeights) -> FloatArray:
    """Raw and weighted number of events that pass each step of `CUTFLOW_STEPS`, (n_steps, 2).

    The prescale counts from the trigger step on.
    """
    steps = kernels.count_steps(as_read + np.int8(1), len(CUTFLOW_AS_READ), selected.record.weight)
    used = kernels.count_steps(selected.passed, len(CUTFLOW_USED), weights.used)
    if np.any(selected.prescale != 1.0):
        used[: TRIGGERED - 1, 1] = kernels.count_steps(selected.passed, len(CUTFLOW_USED), weights.base)[
            : TRIGGERED - 1, 1
        ]
    return np.concatenate([steps, used])


def _sparse_pair(
    index: list[NDArray[np.int64]],
    weight: FloatArray,
    identity: NDArray[np.uint64],
    n_replicas: int,
    n_total: int,
) -> tuple[SparseSums, SparseSums]:
    reco, truth = index
    bins, truth_bins = kernels.touched_bins(reco, n_total), kernels.touched_bins(truth, n_total)
    replicas, truth_replicas = kernels.fill_replicas(
        (reco, truth), (bins, truth_bins), weight, identity, n_replicas, n_total
    )
    return (
        SparseSums(bins, kernels.fill_sums(reco, bins, weight, n_total), replicas),
        SparseSums(truth_bins, kernels.fill_sums(truth, truth_bins, weight, n_total), truth_replicas),
    )


def prepare_jets(
    calibrated: EventRecord, dataset: Dataset, settings: DijetSettings, jes: int = 0
) -> tuple[EventRecord, dict[str, int]]:
    """Calibrated jets shifted by `jes` uncertainties of their scale and smeared as asked for, in falling pT.

    Counts of what smearing left out are given too.
    """
    algo = jet_algo(dataset)
    record = shift_scale(calibrated, settings.systematics, settings.calibration, algo, jes)
    if settings.calibration.smearing is None or not record.is_mc:
        return record, {}
    matched = np.full(len(record.jets), -1, np.int32)
    if record.truth is not None:
        matched = match_truth(record.jets, record.truth, 0.5 * cone_radius(algo))
    jets, _, lost = scale_jets(record.jets, smear(record, matched, settings.calibration, algo))
    return propagate(record, replace(record, jets=jets)), lost


def propagate(before: EventRecord, after: EventRecord) -> EventRecord:
    """`after` with the change of its jets since `before` taken off the missing momentum, where the file has one."""
    if after.met is None or after.jets is before.jets:
        return after
    (x, y), (new_x, new_y) = (kernels.transverse_momentum(leading(each.jets)) for each in (before, after))
    return replace(after, met=(after.met[0] + x - new_x, after.met[1] + y - new_y))


def variations_of(dataset: Dataset, settings: DijetSettings) -> tuple[Variation, ...]:
    """The ways to fill a dataset, nominal first."""
    return variations(
        settings.systematics,
        settings.selection,
        is_mc=dataset.is_mc,
        has_pileup_weights=settings.events.pileup_weights is not None,
    )


def read_request(dataset: Dataset, settings: DijetSettings) -> ReadRequest:
    """The columns that the settings need of a dataset, and no others."""
    needed = (
        *jet_quality.needed_columns(settings.jets),
        *needed_columns(settings.calibration, jet_algo(dataset), is_mc=dataset.is_mc),
    )
    pile_up = () if settings.events.pileup_weights is None or not dataset.is_mc else ("true_interactions",)
    network = network_needs(settings.calibration)
    return ReadRequest(
        is_mc=dataset.is_mc,
        schema=dataset.schema,
        jet_collection=dataset.jet_collection,
        truth_jet_collection=dataset.truth_jet_collection,
        weight=dataset.weight,
        triggers=tuple(trigger.path for trigger in dataset.triggers),
        jet_columns=tuple(dict.fromkeys((*wanted_columns(settings.jets), *needed, *network.jets))),
        event_columns=tuple(dict.fromkeys(("rho", "met_pt", "met_phi", *pile_up, *network.event))),
        needed=(*needed, *pile_up),
        truth=dataset.is_mc,
        leptons=settings.jets.lepton_cleaning,
        constituents=network.constituents,
        branch_map=settings.branches,
    )
