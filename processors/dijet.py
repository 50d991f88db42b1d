"""The main job: a chunk of events in, sums of asymmetry histograms out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from coffea.processor import ProcessorABC
from numpy.typing import NDArray

from processors import jet_quality, kernels
from processors.binning import RESPONSE_BINS, RESPONSE_RANGE, SPECTRUM_EDGES, Binning
from processors.event_filter import EventFilter, lumi_mask, pileup_weight, trigger_decision
from processors.formats import BranchMap, ReadRequest, default_jet_algo
from processors.histograms import DatasetSums, Filled, OrderedSum, SparseSums
from processors.jet_calibration import JetCalibration, calibrate, cone_radius, needed_columns, scale_jets, smear
from processors.jet_quality import JetQuality, good_jets, match_truth, wanted_columns
from processors.reading import read_events
from processors.selection import CUTFLOW_AS_READ, CUTFLOW_USED, DijetSelection

if TYPE_CHECKING:
    from collections.abc import Mapping

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
        sums = fill_record(record, dataset, self.settings)
        return OrderedSum.single(int(events.metadata["chunk"]), Filled({dataset.name: sums}))

    def postprocess(self, accumulator: OrderedSum) -> OrderedSum:
        """Nothing is left to do after the sum."""
        return accumulator


def fill_record(record: EventRecord, dataset: Dataset, settings: DijetSettings) -> DatasetSums:
    """All sums of one record of events."""
    cut = third_jet_cut(settings.selection)
    as_read = kernels.as_read_steps(leading(record.jets), settings.selection.min_delta_phi, cut)
    record, recalibrated = prepare_jets(record, dataset, settings)
    good, removed = good_jets(record, settings.jets)
    jets = leading(record.jets)
    pairs = kernels.find_pairs(jets, good, settings.selection.min_delta_phi)
    weights = weigh_events(record, dataset, pairs, settings)
    partners = match_truth_pairs(record, pairs, settings.selection)
    candidates = kernels.find_candidates(
        pairs, partners, weights.passed, TRIGGERED, record.identity, jets, grid(settings.binning), cut
    )
    return DatasetSums(
        **fill_candidates(record, candidates, pairs, weights, settings),
        response=fill_responses(jets, pairs, partners, weights, settings),
        cutflow=cutflow(as_read, record.weight, weights),
        excluded={**record.excluded, **recalibrated, **removed},
    )


class EventWeights(NamedTuple):
    """Weights of the events of a chunk and how many of `CUTFLOW_USED` each has passed; arrays (n_events,).

    `base` is generator and pile-up weight, `used` has the prescale as well.
    """

    base: FloatArray
    used: FloatArray
    passed: NDArray[np.int8]


def leading(jets: Jets) -> kernels.Leading:
    """The columns of `jets` that the kernels read."""
    return kernels.Leading(jets.offsets, jets.pt, jets.eta, jets.phi)


def third_jet_cut(selection: DijetSelection) -> kernels.ThirdJetCut:
    """The third-jet cut for the kernels."""
    return kernels.ThirdJetCut(selection.third_jet_min_pt, selection.third_jet_max_fraction)


def grid(binning: Binning) -> kernels.Grid:
    """The edges for the kernels."""
    is_reference = np.zeros(binning.shape[0], np.bool_)
    is_reference[list(binning.reference_bins)] = True
    return kernels.Grid(binning.eta_edges, is_reference, binning.pt_avg_edges, binning.alpha_edges)


def weigh_events(record: EventRecord, dataset: Dataset, pairs: kernels.Pairs, settings: DijetSettings) -> EventWeights:
    """Certification, pair, azimuth and trigger decisions in the order of the cutflow, with the weights."""
    base = record.weight * pileup_weight(record, settings.events)
    certified = lumi_mask(record, dataset.lumi_mask or settings.events.lumi_mask)
    triggered, prescale = trigger_decision(record.triggers, dataset.triggers, pairs.pt_avg)
    passed = np.zeros(len(record), np.int8)
    so_far: BoolArray = np.ones(len(record), np.bool_)
    for decision in (certified, pairs.second >= 0, pairs.back_to_back, triggered):
        so_far &= decision
        passed += so_far
    return EventWeights(base, base * prescale if dataset.triggers else base, passed)


def match_truth_pairs(record: EventRecord, pairs: kernels.Pairs, selection: DijetSelection) -> kernels.Partners:
    """Truth jets of the leading jets of back-to-back events."""
    truth = record.truth
    if truth is None:
        none = np.zeros(0, np.int32)
        return kernels.Partners(none, none, np.zeros(0, np.float32))
    partners = kernels.match_leading(pairs, leading(record.jets), leading(truth), selection.truth_max_dr)
    return kernels.Partners(*partners, truth.pt)


def fill_candidates(
    record: EventRecord,
    candidates: kernels.Candidates,
    pairs: kernels.Pairs,
    weights: EventWeights,
    settings: DijetSettings,
) -> dict[str, Any]:
    """Asymmetry sums at both levels, moments and spectrum of the chosen events."""
    shape = settings.binning.shape
    weight = weights.used[candidates.event]
    index = [
        kernels.bin_index(candidates.cell, value, -2.0, 2.0, shape[-1])
        for value in (candidates.asymmetry, candidates.truth_asymmetry)
    ]
    sums, truth_sums = _sparse_pair(
        index, weight, record.identity[candidates.event], settings.replicas, int(np.prod(shape))
    )
    pt_avg = pairs.pt_avg[candidates.event]
    rho = np.zeros(len(weight)) if record.rho is None else record.rho[candidates.event].astype(np.float64)
    moments = kernels.fill_moments(
        _without_alpha(candidates.cell, shape),
        weight,
        pt_avg,
        candidates.asymmetry,
        rho,
        candidates.truth_pt_avg,
        shape[0] * shape[1] * shape[2] * shape[4],
    )
    return {
        "asymmetry": sums,
        "truth_asymmetry": truth_sums,
        "moments": moments,
        "spectrum": kernels.fill_spectrum(np.asarray(SPECTRUM_EDGES), pt_avg, candidates.cell, weight),
    }


def fill_responses(
    jets: kernels.Leading,
    pairs: kernels.Pairs,
    partners: kernels.Partners,
    weights: EventWeights,
    settings: DijetSettings,
) -> SparseSums:
    """Reco/truth of the matched leading jets with a soft third jet, in bins of |eta| and truth pT."""
    binning = settings.binning
    if len(partners.first) == 0:
        return SparseSums.empty()
    found = kernels.find_responses(
        pairs, partners, weights.passed, TRIGGERED, jets, grid(binning), third_jet_cut(settings.selection)
    )
    n_total = binning.shape[0] * binning.shape[2] * RESPONSE_BINS
    index = kernels.bin_index(found.cell, found.response, *RESPONSE_RANGE, RESPONSE_BINS)
    bins = kernels.touched_bins(index, n_total)
    sums = kernels.fill_sums(index, bins, weights.used[found.event], n_total)
    return SparseSums(bins, sums, np.zeros((len(bins), 0), np.float32))


def cutflow(as_read: NDArray[np.int8], read_weight: FloatArray, weights: EventWeights) -> FloatArray:
    """Raw and weighted number of events that pass each step of `CUTFLOW_STEPS`, (n_steps, 2).

    The prescale counts from the trigger step on.
    """
    steps = kernels.count_steps(as_read + np.int8(1), len(CUTFLOW_AS_READ), read_weight)
    used = kernels.count_steps(weights.passed, len(CUTFLOW_USED), weights.used)
    if weights.used is not weights.base:
        used[: TRIGGERED - 1, 1] = kernels.count_steps(weights.passed, len(CUTFLOW_USED), weights.base)[
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


def prepare_jets(record: EventRecord, dataset: Dataset, settings: DijetSettings) -> tuple[EventRecord, dict[str, int]]:
    """Jets after the calibration and smearing asked for, ordered anew, with counts of what was left out."""
    algo = jet_algo(dataset)
    record, excluded = calibrate(record, settings.calibration, algo)
    if settings.calibration.smearing is None or not record.is_mc:
        return record, excluded
    matched = np.full(len(record.jets), -1, np.int32)
    if record.truth is not None:
        matched = match_truth(record.jets, record.truth, 0.5 * cone_radius(algo))
    jets, _, lost = scale_jets(record.jets, smear(record, matched, settings.calibration, algo))
    return replace(record, jets=jets), {**excluded, **lost}


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
