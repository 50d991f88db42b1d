"""The main job: a chunk of events in, sums of asymmetry histograms out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from coffea.processor import ProcessorABC
from numpy.typing import NDArray

from processors import jet_quality, kernels
from processors.binning import RESPONSE_BINS, RESPONSE_RANGE, SPECTRUM_EDGES, Binning
from processors.event_filter import EventFilter, lumi_mask, mask_of, pileup_weight, trigger_decision
from processors.formats import BranchMap, ReadRequest, default_jet_algo
from processors.histograms import DatasetSums, Filled, OrderedSum, SparseSums, VariedSums
from processors.jet_calibration import JetCalibration, calibrate, cone_radius, needed_columns, scale_jets, smear
from processors.jet_quality import JetQuality, good_jets, match_truth, wanted_columns
from processors.reading import read_events
from processors.selection import CUTFLOW_AS_READ, CUTFLOW_USED, DijetSelection
from processors.variations import Systematics, Variation, shift_scale, variations

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
    """All sums of one record of events, nominal and varied."""
    ways = variations_of(dataset, settings)
    as_read = kernels.as_read_steps(
        leading(record.jets), settings.selection.min_delta_phi, third_jet_cut(settings.selection)
    )
    calibrated, recalibrated = calibrate(record, settings.calibration, jet_algo(dataset))
    unshifted = [way for way in ways if way.jes == 0]
    selected = select_events(calibrated, dataset, settings, unshifted)
    sums = fill_nominal(selected, as_read, settings)
    varied = {way.name: fill_varied(selected, way, settings) for way in unshifted[1:]}
    for way in ways:
        if way.jes != 0:
            shifted = select_events(calibrated, dataset, settings, [way])
            varied[way.name] = fill_varied(shifted, way, settings)
    excluded = {**record.excluded, **recalibrated, **selected.excluded}
    return Filled(
        {dataset.name: replace(sums, excluded=excluded)}, {name: {dataset.name: each} for name, each in varied.items()}
    )


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
    partners = match_truth_pairs(record, pairs, usable, settings.selection.truth_max_dr)
    candidates = kernels.find_candidates(
        pairs, partners, usable, passed, record.identity, jets, grid(settings.binning), cuts(selections)
    )
    return Selected(record, selections, pairs, partners, prescale, passed, candidates, {**lost, **removed})


def fill_nominal(selected: Selected, as_read: NDArray[np.int8], settings: DijetSettings) -> DatasetSums:
    """All sums of the nominal way to fill; `as_read` are the steps passed by the jets of the file."""
    weights = weigh_events(selected, settings, "nominal")
    dijets = kernels.choose(selected.candidates, 0)
    return DatasetSums(
        **fill_asymmetries(selected, dijets, weights, settings, settings.replicas),
        response=fill_responses(selected, weights, settings),
        spectrum=fill_spectrum(selected, dijets, weights),
        cutflow=cutflow(as_read, selected, weights),
    )


def fill_varied(selected: Selected, way: Variation, settings: DijetSettings) -> VariedSums:
    """The sums that are kept of a variation."""
    weights = weigh_events(selected, settings, way.pile_up)
    dijets = kernels.choose(selected.candidates, selected.selections.index(way.selection))
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
    return kernels.Grid(binning.eta_edges, is_reference, binning.pt_avg_edges, binning.alpha_edges)


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
        return kernels.Partners(none, none, np.zeros(0, np.float32))
    partners = kernels.match_leading(pairs, usable, leading(record.jets), leading(truth), max_dr)
    return kernels.Partners(*partners, truth.pt)


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
    sums, truth_sums = _sparse_pair(index, weight, record.identity[dijets.event], n_replicas, int(np.prod(shape)))
    rho = np.zeros(len(weight)) if record.rho is None else record.rho[dijets.event].astype(np.float64)
    moments = kernels.fill_moments(
        _without_alpha(dijets.cell, shape),
        weight,
        selected.pairs.pt_avg[dijets.event],
        dijets.asymmetry,
        rho,
        dijets.truth_pt_avg,
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
    found = kernels.find_responses(
        selected.pairs,
        selected.partners,
        selected.passed,
        TRIGGERED,
        leading(selected.record.jets),
        grid(binning),
        third_jet_cut(settings.selection),
    )
    n_total = binning.shape[0] * binning.shape[2] * RESPONSE_BINS
    index = kernels.bin_index(found.cell, found.response, *RESPONSE_RANGE, RESPONSE_BINS)
    bins = kernels.touched_bins(index, n_total)
    sums = kernels.fill_sums(index, bins, weights.used[found.event], n_total)
    return SparseSums(bins, sums, np.zeros((len(bins), 0), np.float32))


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


def _without_alpha(cell: NDArray[np.int32], shape: tuple[int, ...]) -> NDArray[np.int32]:
    return ((cell // (2 * shape[3])) * 2 + cell % 2).astype(np.int32)


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
    return replace(record, jets=jets), lost


def variations_of(dataset: Dataset, settings: DijetSettings) -> tuple[Variation, ...]:
    """The ways to fill a dataset, nominal first."""
    return variations(
        settings.systematics,
        settings.selection,
        is_mc=dataset.is_mc,
        has_pileup_weights=settings.events.pileup_weights is not None,
    )


def jet_algo(dataset: Dataset) -> str:
    """Name of the jet algorithm of a dataset: its own, else AntiKt4 for PHYSLITE and AK4PF for everything else."""
    return dataset.jet_algo or default_jet_algo(dataset.schema or "")


def read_request(dataset: Dataset, settings: DijetSettings) -> ReadRequest:
    """The columns that the settings need of a dataset, and no others."""
    needed = (
        *jet_quality.needed_columns(settings.jets),
        *needed_columns(settings.calibration, jet_algo(dataset), is_mc=dataset.is_mc),
    )
    pile_up = () if settings.events.pileup_weights is None or not dataset.is_mc else ("true_interactions",)
    return ReadRequest(
        is_mc=dataset.is_mc,
        schema=dataset.schema,
        jet_collection=dataset.jet_collection,
        truth_jet_collection=dataset.truth_jet_collection,
        weight=dataset.weight,
        triggers=tuple(trigger.path for trigger in dataset.triggers),
        jet_columns=tuple(dict.fromkeys((*wanted_columns(settings.jets), *needed))),
        event_columns=("rho", *pile_up),
        needed=(*needed, *pile_up),
        truth=dataset.is_mc,
        leptons=settings.jets.lepton_cleaning,
        branch_map=settings.branches,
    )
