"""Compiled loops over the events of a chunk: pair finding, binning and the weighted fill with bootstrap replicas.

All of them take flat arrays, compute in double precision and never look at the order in which chunks arrive. Random
choices come from a counter-based hash (splitmix64, Steele et al., OOPSLA 2014) of the event's identity, so they do not
depend on chunking, worker count or executor.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from processors.compiled import compiled
from processors.observables import asymmetry, delta_phi, pt_avg, third_jet_limit
from processors.record import splitmix64

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Array = NDArray[Any]

PROBE_CHOICE = np.uint64(0x70726F6265000000)
BOOTSTRAP = np.uint64(0x626F6F7473000000)
GOLDEN = np.uint64(0x9E3779B97F4A7C15)

# Poisson(1) count of each 16-bit random number: the inverse of its cumulative distribution, exact to 2^-17.
_POISSON_CDF = np.cumsum([math.exp(-1) / math.factorial(k) for k in range(8)])
POISSON_COUNT = np.searchsorted(np.round(65536 * _POISSON_CDF), np.arange(65536), side="right").astype(np.uint8)


class Pairs(NamedTuple):
    """The leading jets of each event of a chunk; arrays (n_events,), jet indices into the flat arrays or -1."""

    first: NDArray[np.int32]
    second: NDArray[np.int32]
    third: NDArray[np.int32]
    pt_avg: FloatArray
    back_to_back: NDArray[np.bool_]


class Candidates(NamedTuple):
    """Dijets that fall into the histograms, arrays (n,).

    `event` is the place in the chunk; `cell` counts (eta, region, pt_avg, alpha, third_jet) in C order;
    `truth_asymmetry` is nan and `truth_pt_avg` 0 where a jet has no truth partner.
    """

    event: NDArray[np.int32]
    cell: NDArray[np.int32]
    asymmetry: FloatArray
    truth_asymmetry: FloatArray
    truth_pt_avg: FloatArray


@compiled
def _leading(offsets, pt, good, event):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    first, second, third = -1, -1, -1
    for jet in range(offsets[event], offsets[event + 1]):
        if not good[jet]:
            continue
        if first < 0:
            first = jet
        elif second < 0:
            second = jet
        else:
            third = jet
            break
    return first, second, third


@compiled
def _as_read_step(offsets, pt, phi, event, min_delta_phi, third_min_pt, third_fraction):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202, PLR0913
    start, stop = offsets[event], offsets[event + 1]
    if stop - start < 2:
        return 0
    if not delta_phi(float(phi[start]), float(phi[start + 1])) > min_delta_phi:
        return 1
    mean_pt = pt_avg(float(pt[start]), float(pt[start + 1]))
    if stop - start > 2 and not pt[start + 2] < third_jet_limit(mean_pt, third_min_pt, third_fraction):
        return 2
    return 3


@compiled
def find_pairs(
    offsets: IntArray,
    pt: Array,
    phi: Array,
    good: NDArray[np.bool_],
    min_delta_phi: float,
) -> Pairs:
    """Leading good jets of each event, whether they are back to back, and their pt_avg (nan without a pair).

    Jets are ordered in pT within an event; `good` (n_jets,) marks those that take part; `offsets` (n_events + 1,).
    """
    n_events = len(offsets) - 1
    first = np.empty(n_events, np.int32)
    second = np.empty(n_events, np.int32)
    third = np.empty(n_events, np.int32)
    mean_pt = np.empty(n_events, np.float64)
    back_to_back = np.empty(n_events, np.bool_)
    for event in range(n_events):
        a, b, c = _leading(offsets, pt, good, event)
        first[event], second[event], third[event] = a, b, c
        if b < 0:
            mean_pt[event] = np.nan
            back_to_back[event] = False
        else:
            mean_pt[event] = pt_avg(float(pt[a]), float(pt[b]))
            back_to_back[event] = delta_phi(float(phi[a]), float(phi[b])) > min_delta_phi
    return Pairs(first, second, third, mean_pt, back_to_back)


@compiled
def as_read_steps(
    offsets: IntArray, pt: Array, phi: Array, min_delta_phi: float, third_min_pt: float, third_fraction: float
) -> NDArray[np.int8]:
    """Last of the steps all, two_jets, delta_phi, third_jet (0 to 3) that each event passes, jets as read."""
    steps = np.empty(len(offsets) - 1, np.int8)
    for event in range(len(steps)):
        steps[event] = _as_read_step(offsets, pt, phi, event, min_delta_phi, third_min_pt, third_fraction)
    return steps


@compiled
def _bin(edges, value):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Index of the half-open bin that holds `value`; -1 below, n_bins at or above the last edge."""
    low, high = 0, len(edges)
    while low < high:
        middle = (low + high) // 2
        if value < edges[middle]:
            high = middle
        else:
            low = middle + 1
    return low - 1


@compiled
def _nearest_truth(eta, phi, truth_offsets, truth_eta, truth_phi, event, max_dr):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202, PLR0913
    best, best_dr2 = -1, max_dr * max_dr
    for jet in range(truth_offsets[event], truth_offsets[event + 1]):
        d_eta = float(truth_eta[jet]) - eta
        d_phi = delta_phi(float(truth_phi[jet]), phi)
        dr2 = d_eta * d_eta + d_phi * d_phi
        if dr2 < best_dr2:
            best, best_dr2 = jet, dr2
    return best


@compiled
def match_leading(  # noqa: PLR0913
    pairs: Pairs,
    eta: Array,
    phi: Array,
    truth_offsets: IntArray,
    truth_eta: Array,
    truth_phi: Array,
    max_dr: float,
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Truth partners of the first and second jet of each event: nearest within `max_dr`, -1 for none, (n_events,) each.

    Events without a back-to-back pair are not looked at; two leading jets never share a partner.
    """
    n_events = len(pairs.first)
    first = np.full(n_events, -1, np.int32)
    second = np.full(n_events, -1, np.int32)
    for event in range(n_events):
        if not pairs.back_to_back[event]:
            continue
        a, b = pairs.first[event], pairs.second[event]
        first[event] = _nearest_truth(
            float(eta[a]), float(phi[a]), truth_offsets, truth_eta, truth_phi, event, max_dr
        )
        second[event] = _nearest_truth(
            float(eta[b]), float(phi[b]), truth_offsets, truth_eta, truth_phi, event, max_dr
        )
        if first[event] == second[event]:
            second[event] = -1
    return first, second


@compiled
def _assign(bin_a, bin_b, in_reference_a, in_reference_b, coin):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """(region, whether the first jet is the probe); region -1 where no assignment is possible."""
    if bin_a >= 0 and bin_a == bin_b:
        return 0, coin
    if in_reference_a and in_reference_b:
        return 1, coin
    if in_reference_a and bin_b >= 0:
        return 1, False
    if in_reference_b and bin_a >= 0:
        return 1, True
    return -1, False


@compiled
def _eta_bin(eta_edges, eta):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Bin of |eta|, -1 outside of all bins."""
    index = _bin(eta_edges, abs(float(eta)))
    return -1 if index >= len(eta_edges) - 1 else index


@compiled
def find_candidates(  # type: ignore[no-untyped-def] # noqa: PLR0913, PLR0915, ANN201
    pairs: Pairs,
    passed: NDArray[np.int8],
    first_step: int,
    identity: NDArray[np.uint64],
    pt: Array,
    eta: Array,
    truth_first: NDArray[np.int32],
    truth_second: NDArray[np.int32],
    truth_pt: Array,
    eta_edges: FloatArray,
    is_reference: NDArray[np.bool_],
    pt_edges: FloatArray,
    alpha_edges: FloatArray,
    third_min_pt: float,
    third_fraction: float,
):
    """Dijets with their histogram cell and asymmetries, as `Candidates`.

    `passed` (n_events,) is the number of steps an event has passed; those with fewer than `first_step` are passed
    over, and it is raised here by the steps pt_avg_range, eta_region, alpha_range and good_third_jet. `is_reference`
    marks the |eta| bins of the reference region; `truth_first` has length 0 where there is no truth.
    """
    n_events = len(pairs.first)
    n_pt, n_alpha = len(pt_edges) - 1, len(alpha_edges) - 1
    event_out = np.empty(n_events, np.int32)
    cell = np.empty(n_events, np.int32)
    reco = np.empty(n_events, np.float64)
    truth = np.empty(n_events, np.float64)
    truth_mean = np.empty(n_events, np.float64)
    n = 0
    for event in range(n_events):
        if passed[event] < first_step:
            continue
        pt_bin = _bin(pt_edges, pairs.pt_avg[event])
        if pt_bin < 0 or pt_bin >= n_pt:
            continue
        passed[event] += 1
        a, b, c = pairs.first[event], pairs.second[event], pairs.third[event]
        bin_a, bin_b = _eta_bin(eta_edges, eta[a]), _eta_bin(eta_edges, eta[b])
        coin = (splitmix64(identity[event] + PROBE_CHOICE) >> np.uint64(63)) == np.uint64(1)
        region, first_is_probe = _assign(
            bin_a, bin_b, bin_a >= 0 and is_reference[bin_a], bin_b >= 0 and is_reference[bin_b], coin
        )
        if region < 0:
            continue
        passed[event] += 1
        pt_third = float(pt[c]) if c >= 0 else 0.0
        passes_third = pt_third < third_jet_limit(pairs.pt_avg[event], third_min_pt, third_fraction)
        alpha_bin = min(_bin(alpha_edges, pt_third / pairs.pt_avg[event]), n_alpha)
        if alpha_bin < 0 or (alpha_bin == n_alpha and not passes_third):
            continue
        passed[event] += 1 + passes_third
        sign = 1.0 if first_is_probe else -1.0
        event_out[n] = event
        eta_bin = bin_a if first_is_probe else bin_b
        cell[n] = (((eta_bin * 2 + region) * n_pt + pt_bin) * (n_alpha + 1) + alpha_bin) * 2 + passes_third
        reco[n] = sign * asymmetry(float(pt[a]), float(pt[b]))
        truth[n], truth_mean[n] = np.nan, 0.0
        if len(truth_first) > 0 and truth_first[event] >= 0 and truth_second[event] >= 0:
            pt_a, pt_b = float(truth_pt[truth_first[event]]), float(truth_pt[truth_second[event]])
            truth[n] = sign * asymmetry(pt_a, pt_b)
            truth_mean[n] = pt_avg(pt_a, pt_b)
        n += 1
    return Candidates(event_out[:n], cell[:n], reco[:n], truth[:n], truth_mean[:n])


@compiled
def find_responses(  # noqa: PLR0913
    pairs: Pairs,
    passed: NDArray[np.int8],
    first_step: int,
    pt: Array,
    eta: Array,
    truth_first: NDArray[np.int32],
    truth_second: NDArray[np.int32],
    truth_pt: Array,
    eta_edges: FloatArray,
    pt_edges: FloatArray,
    third_min_pt: float,
    third_fraction: float,
) -> tuple[NDArray[np.int32], NDArray[np.int32], FloatArray]:
    """Event, cell (|eta|, truth pT) and reco/truth of the matched leading jets of events with a soft third jet.

    Binned in the pT of the truth jet and not cut in pt_avg, so that the reconstructed momentum does not select.
    """
    n_events, n_pt = len(pairs.first), len(pt_edges) - 1
    event_out = np.empty(2 * n_events, np.int32)
    cell = np.empty(2 * n_events, np.int32)
    response = np.empty(2 * n_events, np.float64)
    n = 0
    for event in range(n_events):
        if passed[event] < first_step:
            continue
        third = pairs.third[event]
        limit = third_jet_limit(pairs.pt_avg[event], third_min_pt, third_fraction)
        if third >= 0 and not float(pt[third]) < limit:
            continue
        for side in range(2):
            jet = pairs.first[event] if side == 0 else pairs.second[event]
            truth = truth_first[event] if side == 0 else truth_second[event]
            if truth < 0:
                continue
            pt_bin, eta_bin = _bin(pt_edges, float(truth_pt[truth])), _eta_bin(eta_edges, eta[jet])
            if eta_bin < 0 or pt_bin < 0 or pt_bin >= n_pt:
                continue
            event_out[n] = event
            cell[n] = eta_bin * n_pt + pt_bin
            response[n] = float(pt[jet]) / float(truth_pt[truth])
            n += 1
    return event_out[:n], cell[:n], response[:n]


@compiled
def bin_index(
    cell: NDArray[np.int32], value: FloatArray, low: float, high: float, n_bins: int
) -> NDArray[np.int64]:
    """Flat bin number cell * n_bins + bin of `value` on `n_bins` equal bins of [low, high]; -1 where it is nan.

    Both ends belong to the range: values at or beyond an end go to the outermost bin (|A| cannot exceed 2).
    """
    index = np.empty(len(value), np.int64)
    scale = n_bins / (high - low)
    for i in range(len(value)):
        if np.isnan(value[i]):
            index[i] = -1
        else:
            position = int(math.floor((value[i] - low) * scale))
            index[i] = np.int64(cell[i]) * n_bins + min(max(position, 0), n_bins - 1)
    return index


@compiled
def touched_bins(index: IntArray, n_total: int) -> IntArray:
    """Sorted distinct bin numbers in `index` that are not negative, all below `n_total`."""
    touched = np.zeros(n_total, np.bool_)
    for i in index:
        if i >= 0:
            touched[i] = True
    return np.flatnonzero(touched)


@compiled
def fill_sums(index: IntArray, bins: IntArray, weight: FloatArray, n_total: int) -> FloatArray:
    """Sums of weights and of squared weights per entry of `bins`, (n_bins, 2); negative indices are passed over."""
    slot = np.empty(n_total, np.int32)
    for s in range(len(bins)):
        slot[bins[s]] = s
    sums = np.zeros((len(bins), 2), np.float64)
    for i in range(len(index)):
        if index[i] >= 0:
            s = slot[index[i]]
            sums[s, 0] += weight[i]
            sums[s, 1] += weight[i] * weight[i]
    return sums


@compiled
def poisson_weights(identity: int, counts: NDArray[np.float32]) -> None:
    """Fill `counts` (n_replicas,) with the Poisson(1) draws of one event, the same wherever it is met.

    Four draws come from each 64-bit hash; probabilities are exact to 2^-17.
    """
    state = splitmix64(identity + BOOTSTRAP)
    n = len(counts)
    for block in range((n + 3) // 4):
        state += GOLDEN
        bits = splitmix64(state)
        for lane in range(4):
            replica = 4 * block + lane
            if replica >= n:
                break
            counts[replica] = POISSON_COUNT[(bits >> np.uint64(16 * lane)) & np.uint64(0xFFFF)]


@compiled
def fill_replicas(  # noqa: PLR0913
    index: IntArray,
    truth_index: IntArray,
    bins: IntArray,
    truth_bins: IntArray,
    weight: FloatArray,
    identity: NDArray[np.uint64],
    n_replicas: int,
    n_total: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Sums of weight x Poisson(1) per touched bin and replica, (n_bins, n_replicas), reco and truth with equal draws."""
    slot = np.empty(n_total, np.int32)
    truth_slot = np.empty(n_total if len(truth_bins) else 0, np.int32)
    for s in range(len(bins)):
        slot[bins[s]] = s
    for s in range(len(truth_bins)):
        truth_slot[truth_bins[s]] = s
    reco = np.zeros((len(bins), n_replicas), np.float32)
    truth = np.zeros((len(truth_bins), n_replicas), np.float32)
    counts = np.empty(n_replicas, np.float32)
    for i in range(len(index)):
        poisson_weights(identity[i], counts)
        w = np.float32(weight[i])
        if index[i] >= 0:
            row = reco[slot[index[i]]]
            for r in range(n_replicas):
                row[r] += w * counts[r]
        if len(truth_bins) > 0 and truth_index[i] >= 0:
            row = truth[truth_slot[truth_index[i]]]
            for r in range(n_replicas):
                row[r] += w * counts[r]
    return reco, truth


@compiled
def fill_moments(  # noqa: PLR0913
    cell: NDArray[np.int32],
    weight: FloatArray,
    mean_pt: FloatArray,
    reco: FloatArray,
    rho: FloatArray,
    truth_pt_avg: FloatArray,
    n_cells: int,
) -> FloatArray:
    """Sums over events in the order of `processors.histograms.MOMENTS`, (n_cells, 8); truth_pt_avg 0 means unmatched."""
    moments = np.zeros((n_cells, 8), np.float64)
    for i in range(len(cell)):
        row, w = moments[cell[i]], weight[i]
        row[0] += w
        row[1] += w * w
        row[2] += w * mean_pt[i]
        row[3] += w * reco[i]
        row[4] += w * reco[i] * reco[i]
        row[5] += w * rho[i]
        if truth_pt_avg[i] > 0:
            row[6] += w
            row[7] += w * truth_pt_avg[i]
    return moments
