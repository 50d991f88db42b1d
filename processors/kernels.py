"""Compiled loops over the events of a chunk: pair finding, binning and the weighted fill with bootstrap replicas.

All of them take flat arrays, compute in double precision and never look at the order in which chunks arrive. Random
choices come from a counter-based hash (`processors.record.splitmix64`) of the event's identity, so they do not depend
on chunking, worker count or executor.
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
Float32Array = NDArray[np.float32]
IntArray = NDArray[np.int64]
Int32Array = NDArray[np.int32]
Int16Array = NDArray[np.int16]
Int8Array = NDArray[np.int8]
BoolArray = NDArray[np.bool_]
IdentityArray = NDArray[np.uint64]
Array = NDArray[Any]

PROBE_CHOICE = np.uint64(0x70726F6265000000)
BOOTSTRAP = np.uint64(0x626F6F7473000000)
BISECTOR_SIDE = np.uint64(0x6269736563000000)
STRIDE = np.uint64(0x9E3779B97F4A7C15)

# Poisson(1) count of each 16-bit random number: the inverse of its cumulative distribution, exact to 2^-17.
_POISSON_CDF = np.cumsum([math.exp(-1) / math.factorial(k) for k in range(8)])
POISSON_COUNT = np.searchsorted(np.round(65536 * _POISSON_CDF), np.arange(65536), side="right").astype(np.uint8)

STANDARD, FORWARD, NO_REGION = 0, 1, -1


class Leading(NamedTuple):
    """The jets of a chunk as the kernels see them: `offsets` (n_events + 1,), the rest (n_jets,), falling pT."""

    offsets: IntArray
    pt: Float32Array
    eta: Float32Array
    phi: Float32Array


class Pairs(NamedTuple):
    """The leading jets of each event of a chunk; arrays (n_events,), jet indices into the flat arrays or -1.

    `pt_avg`, the asymmetry with the first jet as the probe, and `delta_phi` between the two are nan without a pair.
    """

    first: Int32Array
    second: Int32Array
    third: Int32Array
    pt_avg: FloatArray
    asymmetry: FloatArray
    delta_phi: FloatArray


class Partners(NamedTuple):
    """Truth jets of the leading jets, (n_events,) indices into `pt` and `phi` or -1; all empty without truth."""

    first: Int32Array
    second: Int32Array
    pt: Float32Array
    phi: Float32Array


class Grid(NamedTuple):
    """Edges of |eta|, pt_avg, alpha and rho, and which |eta| bins belong to the reference region."""

    eta: FloatArray
    is_reference: BoolArray
    pt: FloatArray
    alpha: FloatArray
    rho: FloatArray


class Places(NamedTuple):
    """Bins of the leading jets of each event, (n_events,), -1 outside; alpha above its last edge is a bin of its own.

    `probe` is 1 where the first jet is the probe of the `region` and -1 where the second is; `pt_third` is 0 without a
    third jet. All bins are -1 where the event was not looked at.
    """

    eta_first: Int16Array
    eta_second: Int16Array
    pt_avg: Int16Array
    alpha: Int16Array
    region: Int8Array
    probe: Int8Array
    pt_third: FloatArray


class ThirdJetCut(NamedTuple):
    """pT3 < max(min_pt, max_fraction pt_avg), GeV."""

    min_pt: float
    max_fraction: float


class Cuts(NamedTuple):
    """The cuts of each of several selections, arrays (n_selections,): azimuth, and third jet as in `ThirdJetCut`."""

    min_delta_phi: FloatArray
    min_pt: FloatArray
    max_fraction: FloatArray


class Candidates(NamedTuple):
    """Dijets that fall into the histograms of any of several selections, arrays (n,).

    `event` is the place in the chunk; `cell` counts (eta, region, pt_avg, alpha) in C order; `third_jet` (n,
    n_selections) is 1 where the third jet is soft enough, 0 where it is not, -1 where the selection drops the event;
    `probe` is 1 where the first jet is the probe and -1 where the second is; `cos_delta_phi` is |cos| of the angle
    between the jets; `truth_asymmetry` is nan and `truth_pt_avg` 0 where a jet has no truth partner.
    """

    event: Int32Array
    cell: Int32Array
    third_jet: Int8Array
    probe: Int8Array
    asymmetry: FloatArray
    cos_delta_phi: FloatArray
    truth_asymmetry: FloatArray
    truth_pt_avg: FloatArray


class Dijets(NamedTuple):
    """The candidates of one selection, arrays (n,); `cell` counts (eta, region, pt_avg, alpha, third_jet)."""

    event: Int32Array
    cell: Int32Array
    probe: Int8Array
    asymmetry: FloatArray
    cos_delta_phi: FloatArray
    truth_asymmetry: FloatArray
    truth_pt_avg: FloatArray


class Responses(NamedTuple):
    """Matched leading jets, arrays (n,): event, cell over (|eta|, truth pT, rho) in C order, and reco/truth."""

    event: Int32Array
    cell: Int32Array
    response: FloatArray


@compiled
def _next_good(good: BoolArray, start: int, stop: int) -> int:
    """The first good jet in [start, stop), else `stop`."""
    while start < stop and not good[start]:
        start += 1
    return start


@compiled
def find_pairs(jets: Leading, good: BoolArray) -> Pairs:
    """Leading good jets of each event; `good` (n_jets,) marks the jets that take part."""
    n_events = len(jets.offsets) - 1
    first = np.empty(n_events, np.int32)
    second = np.empty(n_events, np.int32)
    third = np.empty(n_events, np.int32)
    mean_pt = np.empty(n_events, np.float64)
    balance = np.empty(n_events, np.float64)
    distance = np.empty(n_events, np.float64)
    for event in range(n_events):
        stop = jets.offsets[event + 1]
        a = _next_good(good, jets.offsets[event], stop)
        b = _next_good(good, a + 1, stop)
        c = _next_good(good, b + 1, stop)
        first[event] = a if a < stop else -1
        second[event] = b if b < stop else -1
        third[event] = c if c < stop else -1
        mean_pt[event] = balance[event] = distance[event] = np.nan
        if b < stop:
            pt_a, pt_b = np.float64(jets.pt[a]), np.float64(jets.pt[b])
            mean_pt[event], balance[event] = pt_avg(pt_a, pt_b), asymmetry(pt_a, pt_b)
            distance[event] = delta_phi(np.float64(jets.phi[a]), np.float64(jets.phi[b]))
    return Pairs(first, second, third, mean_pt, balance, distance)


@compiled
def as_read_steps(jets: Leading, min_delta_phi: float, cut: ThirdJetCut) -> Int8Array:
    """Last of the steps all, two_jets, delta_phi, third_jet (0 to 3) that each event passes, all jets counted."""
    steps = np.zeros(len(jets.offsets) - 1, np.int8)
    for event in range(len(steps)):
        a = jets.offsets[event]
        n_jets = jets.offsets[event + 1] - a
        if n_jets < 2:
            continue
        steps[event] = 1
        if not delta_phi(np.float64(jets.phi[a]), np.float64(jets.phi[a + 1])) > min_delta_phi:
            continue
        mean_pt = pt_avg(np.float64(jets.pt[a]), np.float64(jets.pt[a + 1]))
        soft = n_jets == 2 or jets.pt[a + 2] < third_jet_limit(mean_pt, cut.min_pt, cut.max_fraction)
        steps[event] = 3 if soft else 2
    return steps


@compiled
def _bin(edges: FloatArray, value: float) -> int:
    """Index of the half-open bin that holds `value`; -1 below or for nan, n_bins at or above the last edge.

    Comparing with all edges has no branches to mispredict: with some 15 edges twice as fast as a binary search.
    """
    below = 0
    for i in range(len(edges)):
        below += value >= edges[i]
    return below - 1


@compiled
def _inner_bin(edges: FloatArray, value: float) -> int:
    """Index of the half-open bin that holds `value`, -1 outside of all bins."""
    index = _bin(edges, value)
    return -1 if index >= len(edges) - 1 else index


@compiled
def _nearest_truth(eta: float, phi: float, truth: Leading, event: int, max_dr: float) -> int:
    best, best_dr2 = -1, max_dr * max_dr
    for jet in range(truth.offsets[event], truth.offsets[event + 1]):
        d_eta = np.float64(truth.eta[jet]) - eta
        d_phi = delta_phi(np.float64(truth.phi[jet]), phi)
        dr2 = d_eta * d_eta + d_phi * d_phi
        if dr2 < best_dr2:
            best, best_dr2 = jet, dr2
    return best


@compiled
def match_leading(
    pairs: Pairs, usable: BoolArray, jets: Leading, truth: Leading, max_dr: float
) -> tuple[Int32Array, Int32Array]:
    """Truth partners of the first and second jet of each event: nearest within `max_dr`, -1 for none, (n_events,) each.

    Only `usable` (n_events,) events, all of which have a pair, are looked at; two leading jets never share a partner.
    """
    n_events = len(pairs.first)
    first = np.full(n_events, -1, np.int32)
    second = np.full(n_events, -1, np.int32)
    for event in range(n_events):
        if not usable[event]:
            continue
        a, b = pairs.first[event], pairs.second[event]
        first[event] = _nearest_truth(np.float64(jets.eta[a]), np.float64(jets.phi[a]), truth, event, max_dr)
        second[event] = _nearest_truth(np.float64(jets.eta[b]), np.float64(jets.phi[b]), truth, event, max_dr)
        if first[event] == second[event]:
            second[event] = -1
    return first, second


@compiled
def _assign(bin_a: int, bin_b: int, is_reference: BoolArray, coin: bool) -> tuple[int, bool]:  # noqa: FBT001
    """Region of a pair and whether its first jet is the probe; bins are -1 outside of all |eta| bins."""
    if bin_a >= 0 and bin_a == bin_b:
        return STANDARD, coin
    in_reference_a = bin_a >= 0 and is_reference[bin_a]
    in_reference_b = bin_b >= 0 and is_reference[bin_b]
    if in_reference_a and in_reference_b:
        return FORWARD, coin
    if in_reference_a and bin_b >= 0:
        return FORWARD, False
    if in_reference_b and bin_a >= 0:
        return FORWARD, True
    return NO_REGION, False


@compiled
def probe_is_first(identity: int) -> bool:
    """The coin that picks the probe where both jets qualify, a function of the event alone."""
    return bool((splitmix64(identity + PROBE_CHOICE) >> np.uint64(63)) == np.uint64(1))


@compiled
def locate(pairs: Pairs, usable: BoolArray, identity: IdentityArray, jets: Leading, grid: Grid) -> Places:
    """Bins and probes of the `usable` (n_events,) events, all of which have a pair."""
    n_events = len(usable)
    places = Places(
        np.full(n_events, -1, np.int16),
        np.full(n_events, -1, np.int16),
        np.full(n_events, -1, np.int16),
        np.full(n_events, -1, np.int16),
        np.full(n_events, NO_REGION, np.int8),
        np.zeros(n_events, np.int8),
        np.zeros(n_events, np.float64),
    )
    for event in np.flatnonzero(usable):
        third = pairs.third[event]
        pt_third = np.float64(jets.pt[third]) if third >= 0 else 0.0
        bin_a = _inner_bin(grid.eta, abs(np.float64(jets.eta[pairs.first[event]])))
        bin_b = _inner_bin(grid.eta, abs(np.float64(jets.eta[pairs.second[event]])))
        region, first_is_probe = _assign(bin_a, bin_b, grid.is_reference, probe_is_first(identity[event]))
        places.eta_first[event], places.eta_second[event] = bin_a, bin_b
        places.region[event], places.probe[event] = region, 1 if first_is_probe else -1
        places.pt_avg[event] = _inner_bin(grid.pt, pairs.pt_avg[event])
        places.alpha[event] = _bin(grid.alpha, pt_third / pairs.pt_avg[event])
        places.pt_third[event] = pt_third
    return places


@compiled
def _off_zero(value: float) -> float:
    """A value that is exactly zero, which lies on an edge of A, is put beside it, so that its sign decides the bin."""
    return value if value != 0.0 else 1e-9


@compiled
def find_candidates(
    pairs: Pairs,
    places: Places,
    partners: Partners,
    passed: Int8Array,
    grid: Grid,
    cuts: Cuts,
) -> Candidates:
    """Dijets of any of the selections with their histogram cell and asymmetries.

    `passed` (n_events,) is the number of steps an event has passed in the first selection, and it is raised here for
    the events back to back in that one by the steps pt_avg_range, eta_region, alpha_range and good_third_jet.
    """
    located = np.flatnonzero(places.pt_avg >= 0)
    n_located, n_selections = len(located), len(cuts.min_delta_phi)
    n_pt, n_alpha = len(grid.pt) - 1, len(grid.alpha) - 1
    event_out = np.empty(n_located, np.int32)
    cell = np.empty(n_located, np.int32)
    third_jet = np.empty((n_located, n_selections), np.int8)
    probe = np.empty(n_located, np.int8)
    reco = np.empty(n_located, np.float64)
    cos_delta_phi = np.empty(n_located, np.float64)
    truth = np.empty(n_located, np.float64)
    truth_mean = np.empty(n_located, np.float64)
    n = 0
    for event in located:
        mean_pt, distance, pt_third = pairs.pt_avg[event], pairs.delta_phi[event], places.pt_third[event]
        in_first = distance > cuts.min_delta_phi[0]
        passed[event] += in_first
        region, alpha_bin, sign = places.region[event], places.alpha[event], places.probe[event]
        if region == NO_REGION:
            continue
        passed[event] += in_first
        is_kept = False
        for k in range(n_selections):
            is_soft = pt_third < third_jet_limit(mean_pt, cuts.min_pt[k], cuts.max_fraction[k])
            in_selection = alpha_bin >= 0 and (alpha_bin < n_alpha or is_soft) and distance > cuts.min_delta_phi[k]
            third_jet[n, k] = is_soft if in_selection else -1
            is_kept |= in_selection
        if not is_kept:
            continue
        passed[event] += 1 + third_jet[n, 0]
        eta_bin = places.eta_first[event] if sign > 0 else places.eta_second[event]
        event_out[n] = event
        cell[n] = ((eta_bin * 2 + region) * n_pt + places.pt_avg[event]) * (n_alpha + 1) + alpha_bin
        probe[n] = sign
        reco[n] = sign * _off_zero(pairs.asymmetry[event])
        cos_delta_phi[n] = abs(math.cos(distance))
        truth[n], truth_mean[n] = np.nan, 0.0
        if len(partners.first) > 0 and partners.first[event] >= 0 and partners.second[event] >= 0:
            truth_a, truth_b = (
                np.float64(partners.pt[partners.first[event]]),
                np.float64(partners.pt[partners.second[event]]),
            )
            truth[n] = sign * _off_zero(asymmetry(truth_a, truth_b))
            truth_mean[n] = pt_avg(truth_a, truth_b)
        n += 1
    return Candidates(
        event_out[:n], cell[:n], third_jet[:n], probe[:n], reco[:n], cos_delta_phi[:n], truth[:n], truth_mean[:n]
    )


@compiled
def choose(candidates: Candidates, selection: int) -> Dijets:
    """The dijets of one of the selections that `candidates` were found for, by its number."""
    size = np.count_nonzero(candidates.third_jet[:, selection] >= 0)
    dijets = Dijets(
        np.empty(size, np.int32),
        np.empty(size, np.int32),
        np.empty(size, np.int8),
        np.empty(size, np.float64),
        np.empty(size, np.float64),
        np.empty(size, np.float64),
        np.empty(size, np.float64),
    )
    n = 0
    for i in range(len(candidates.event)):
        third_jet = candidates.third_jet[i, selection]
        if third_jet < 0:
            continue
        dijets.event[n], dijets.cell[n] = candidates.event[i], 2 * candidates.cell[i] + third_jet
        dijets.probe[n], dijets.asymmetry[n] = candidates.probe[i], candidates.asymmetry[i]
        dijets.cos_delta_phi[n] = candidates.cos_delta_phi[i]
        dijets.truth_asymmetry[n], dijets.truth_pt_avg[n] = candidates.truth_asymmetry[i], candidates.truth_pt_avg[i]
        n += 1
    return dijets


@compiled
def fill_matrix(
    pairs: Pairs,
    places: Places,
    usable: BoolArray,
    identity: IdentityArray,
    grid: Grid,
    cut: ThirdJetCut,
    weight: FloatArray,
) -> FloatArray:
    """Sums of w, w^2, w A and w A^2 of all pairs over (eta_i, eta_j, pt_avg, alpha, third_jet), (n_cells, 4).

    Only i >= j is filled: the jet in bin i is the probe, and the usual coin decides where both are in one bin. Only
    `usable` (n_events,) events are looked at.
    """
    n_eta, n_pt, n_alpha = len(grid.eta) - 1, len(grid.pt) - 1, len(grid.alpha) - 1
    sums = np.zeros((n_eta * n_eta * n_pt * (n_alpha + 1) * 2, 4), np.float64)
    for event in np.flatnonzero(usable):
        a, b = places.eta_first[event], places.eta_second[event]
        pt_bin, alpha_bin = places.pt_avg[event], places.alpha[event]
        if min(a, b) < 0 or pt_bin < 0 or alpha_bin < 0:
            continue
        is_soft = places.pt_third[event] < third_jet_limit(pairs.pt_avg[event], cut.min_pt, cut.max_fraction)
        if alpha_bin == n_alpha and not is_soft:
            continue
        first_is_probe = probe_is_first(identity[event]) if a == b else a > b
        cell = (((max(a, b) * n_eta + min(a, b)) * n_pt + pt_bin) * (n_alpha + 1) + alpha_bin) * 2 + is_soft
        value, w = pairs.asymmetry[event] if first_is_probe else -pairs.asymmetry[event], weight[event]
        sums[cell, 0] += w
        sums[cell, 1] += w * w
        sums[cell, 2] += w * value
        sums[cell, 3] += w * value * value
    return sums


@compiled
def bisector_components(event: Int32Array, probe: Int8Array, pairs: Pairs, identity: IdentityArray) -> FloatArray:
    """Momentum of the two leading jets across and along their bisector in units of pt_avg, (2, n).

    `event` (n,) and `probe` (n,) as in `Candidates`; see `processors.histograms`.
    """
    values = np.empty((2, len(event)), np.float64)
    for n in range(len(event)):
        half = 0.5 * pairs.delta_phi[event[n]]
        values[0, n] = probe[n] * pairs.asymmetry[event[n]] * math.sin(half)
        values[1, n] = 2.0 * bisector_side(identity[event[n]]) * math.cos(half)
    return values


@compiled
def truth_bisector_components(
    event: Int32Array, probe: Int8Array, partners: Partners, identity: IdentityArray
) -> FloatArray:
    """The same of the truth jets in units of their own pt_avg, (2, n), nan where a jet has no partner."""
    values = np.full((2, len(event)), np.nan, np.float64)
    for n in range(len(event)):
        a, b = partners.first[event[n]], partners.second[event[n]]
        if a >= 0 and b >= 0:
            half = 0.5 * delta_phi(np.float64(partners.phi[a]), np.float64(partners.phi[b]))
            values[0, n] = probe[n] * asymmetry(np.float64(partners.pt[a]), np.float64(partners.pt[b])) * math.sin(half)
            values[1, n] = 2.0 * bisector_side(identity[event[n]]) * math.cos(half)
    return values


@compiled
def bisector_side(identity: int) -> float:
    """1 or -1, which way the bisector of the two leading jets points, a function of the event alone."""
    return 1.0 if (splitmix64(identity + BISECTOR_SIDE) >> np.uint64(63)) == np.uint64(1) else -1.0


@compiled
def missing_components(
    event: Int32Array, probe: Int8Array, pairs: Pairs, jets: Leading, met_x: FloatArray, met_y: FloatArray
) -> FloatArray:
    """Minus the missing momentum, `met_x` and `met_y` (n_events,), along and across the dijet over pt_avg, (2, n).

    `event` (n,) and `probe` (n,) as in `Candidates`; the axis of the dijet points to the probe.
    """
    values = np.empty((2, len(event)), np.float64)
    for n in range(len(event)):
        e = event[n]
        phi_a, phi_b = np.float64(jets.phi[pairs.first[e]]), np.float64(jets.phi[pairs.second[e]])
        x, y = math.cos(phi_a) - math.cos(phi_b), math.sin(phi_a) - math.sin(phi_b)
        scale = -probe[n] / (math.sqrt(x * x + y * y) * pairs.pt_avg[e])
        values[0, n] = scale * (met_x[e] * x + met_y[e] * y)
        values[1, n] = scale * (met_y[e] * x - met_x[e] * y)
    return values


@compiled
def transverse_momentum(jets: Leading) -> tuple[FloatArray, FloatArray]:
    """Sums of px and of py over the jets of each event, GeV, (n_events,) each."""
    n_events = len(jets.offsets) - 1
    x, y = np.zeros(n_events, np.float64), np.zeros(n_events, np.float64)
    for event in range(n_events):
        for jet in range(jets.offsets[event], jets.offsets[event + 1]):
            pt, phi = np.float64(jets.pt[jet]), np.float64(jets.phi[jet])
            x[event] += pt * math.cos(phi)
            y[event] += pt * math.sin(phi)
    return x, y


@compiled
def find_responses(
    pairs: Pairs,
    places: Places,
    partners: Partners,
    usable: BoolArray,
    jets: Leading,
    rho: FloatArray,
    grid: Grid,
    cut: ThirdJetCut,
) -> Responses:
    """Reco/truth of the matched leading jets of `usable` (n_events,) events with a soft third jet.

    Binned in the pT of the truth jet and not cut in pt_avg, so that the reconstructed momentum does not select. `rho`
    (n_events,) below its first edge, or nan, belongs to the first bin.
    """
    events, n_pt, n_rho = np.flatnonzero(usable), len(grid.pt) - 1, len(grid.rho)
    event_out = np.empty(2 * len(events), np.int32)
    cell = np.empty(2 * len(events), np.int32)
    response = np.empty(2 * len(events), np.float64)
    n = 0
    for event in events:
        if not places.pt_third[event] < third_jet_limit(pairs.pt_avg[event], cut.min_pt, cut.max_fraction):
            continue
        rho_bin = max(_bin(grid.rho, rho[event]), 0)
        for side in range(2):
            jet = pairs.first[event] if side == 0 else pairs.second[event]
            truth = partners.first[event] if side == 0 else partners.second[event]
            eta_bin = places.eta_first[event] if side == 0 else places.eta_second[event]
            if truth < 0 or eta_bin < 0:
                continue
            pt_bin = _inner_bin(grid.pt, np.float64(partners.pt[truth]))
            if pt_bin < 0:
                continue
            event_out[n] = event
            cell[n] = (eta_bin * n_pt + pt_bin) * n_rho + rho_bin
            response[n] = np.float64(jets.pt[jet]) / np.float64(partners.pt[truth])
            n += 1
    return Responses(event_out[:n], cell[:n], response[:n])


@compiled
def without_alpha(cell: Int32Array, n_alpha: int) -> Int32Array:
    """Cells over (eta, region, pt_avg, third_jet) for cells over (eta, region, pt_avg, alpha, third_jet)."""
    coarse = np.empty(len(cell), np.int32)
    for i in range(len(cell)):
        coarse[i] = cell[i] // (2 * n_alpha) * 2 + cell[i] % 2
    return coarse


@compiled
def with_rho(cell: Int32Array, rho: FloatArray, edges: FloatArray) -> Int32Array:
    """Cells divided further into bins of rho; what lies below the first edge, or is nan, is in the first one."""
    finer = np.empty(len(cell), np.int32)
    for i in range(len(cell)):
        finer[i] = cell[i] * len(edges) + max(_bin(edges, rho[i]), 0)
    return finer


@compiled
def bin_index(cell: Int32Array, value: FloatArray, low: float, high: float, n_bins: int) -> IntArray:
    """Flat bin number cell * n_bins + bin of `value` on `n_bins` equal bins of [low, high]; -1 where it is nan.

    Both ends belong to the range: values at or beyond an end go to the outermost bin (|A| cannot exceed 2).
    """
    index = np.empty(len(value), np.int64)
    scale = n_bins / (high - low)
    for i in range(len(value)):
        if np.isnan(value[i]):
            index[i] = -1
        else:
            position = math.floor((value[i] - low) * scale)
            index[i] = np.int64(cell[i]) * n_bins + min(max(int(position), 0), n_bins - 1)
    return index


@compiled
def touched_bins(index: IntArray, n_total: int) -> IntArray:
    """Sorted distinct bin numbers in `index` that are not negative, all below `n_total`."""
    touched = np.zeros((n_total + 7) // 8 * 8, np.uint8)
    n = 0
    for i in index:
        if i >= 0:
            n += 1 - touched[i]
            touched[i] = 1
    bins = np.empty(n, np.int64)
    n = 0
    # most of the bins are empty: eight are passed over at a time
    for eight, word in enumerate(touched.view(np.uint64)):
        if word:
            for i in range(8 * eight, 8 * eight + 8):
                if touched[i]:
                    bins[n] = i
                    n += 1
    return bins


@compiled
def fill_sums(index: IntArray, bins: IntArray, weight: FloatArray, n_total: int) -> FloatArray:
    """Sums of weights and of squared weights per entry of `bins`, (n_bins, 2); negative indices are passed over."""
    slot = _slots(bins, n_total)
    sums = np.zeros((len(bins), 2), np.float64)
    for i in range(len(index)):
        if index[i] >= 0:
            s = slot[index[i]]
            sums[s, 0] += weight[i]
            sums[s, 1] += weight[i] * weight[i]
    return sums


@compiled
def _slots(bins: IntArray, n_total: int) -> Int32Array:
    """Place of each flat bin number among `bins`; undefined for those that are not there, empty without bins."""
    slot = np.empty(n_total if len(bins) else 0, np.int32)
    for s in range(len(bins)):
        slot[bins[s]] = s
    return slot


@compiled
def _by_slot(index: IntArray, slot: Int32Array, n_slots: int) -> Int32Array:
    """Events in the order of their bins, otherwise as they came, so that a row of replicas is written while it is hot.

    Every index is that of a touched bin.
    """
    start = np.zeros(n_slots + 1, np.int32)
    for i in range(len(index)):
        start[slot[index[i]] + 1] += 1
    start = np.cumsum(start).astype(np.int32)
    order = np.empty(len(index), np.int32)
    for i in range(len(index)):
        s = slot[index[i]]
        order[start[s]] = i
        start[s] += 1
    return order


@compiled
def poisson_weights(identity: int, counts: Float32Array) -> None:
    """Fill `counts` (n_replicas,) with the Poisson(1) draws of one event, the same wherever it is met.

    Four draws come from each 64-bit hash; probabilities are exact to 2^-17.
    """
    state = splitmix64(identity + BOOTSTRAP)
    n = len(counts)
    for block in range((n + 3) // 4):
        state += STRIDE
        bits = splitmix64(state)
        for lane in range(4):
            replica = 4 * block + lane
            if replica >= n:
                break
            counts[replica] = POISSON_COUNT[(bits >> np.uint64(16 * lane)) & np.uint64(0xFFFF)]


@compiled
def fill_replicas(
    index: tuple[IntArray, IntArray],
    bins: tuple[IntArray, IntArray],
    weight: FloatArray,
    identity: IdentityArray,
    n_replicas: int,
    n_total: int,
) -> tuple[Float32Array, Float32Array]:
    """Sums of weight x Poisson(1) per touched bin and replica, (n_bins, n_replicas), with equal draws at both levels.

    `index` and `bins` are those of the measured and of the truth asymmetry of the same events; only the latter may be
    negative, where there is no truth.
    """
    reco = np.zeros((len(bins[0]), n_replicas), np.float32)
    truth = np.zeros((len(bins[1]), n_replicas), np.float32)
    counts = np.empty(n_replicas, np.float32)
    if n_replicas == 0:
        return reco, truth
    slot, truth_slot = _slots(bins[0], n_total), _slots(bins[1], n_total)
    for i in _by_slot(index[0], slot, len(bins[0])):
        poisson_weights(identity[i], counts)
        w = np.float32(weight[i])
        row = reco[slot[index[0][i]]]
        for r in range(n_replicas):
            row[r] += w * counts[r]
        if index[1][i] >= 0:
            row = truth[truth_slot[index[1][i]]]
            for r in range(n_replicas):
                row[r] += w * counts[r]
    return reco, truth


@compiled
def fill_spectrum(edges: FloatArray, value: FloatArray, cell: Int32Array, weight: FloatArray) -> FloatArray:
    """Sums of weights and of squared weights of `value` per bin, (n_bins, 2), of cells with the default third-jet cut.

    `edges` are equidistant in the logarithm.
    """
    n_bins = len(edges) - 1
    sums = np.zeros((n_bins, 2), np.float64)
    start, per_step = math.log(edges[0]), n_bins / math.log(edges[-1] / edges[0])
    for i in range(len(value)):
        if cell[i] % 2 == 0 or not (edges[0] <= value[i] < edges[-1]):
            continue
        b = min(int((math.log(value[i]) - start) * per_step), n_bins - 1)
        # rounding of the logarithm may miss an edge by one bin
        b += (value[i] >= edges[b + 1]) - (value[i] < edges[b])
        sums[b, 0] += weight[i]
        sums[b, 1] += weight[i] * weight[i]
    return sums


@compiled
def fill_rho(edges: FloatArray, rho: FloatArray, cell: Int32Array, weight: FloatArray) -> FloatArray:
    """Sums of w and w rho per bin of rho, (n_rho, 2), of cells with the default third-jet cut; nan is passed over."""
    sums = np.zeros((len(edges), 2), np.float64)
    for i in range(len(rho)):
        if cell[i] % 2 == 0 or np.isnan(rho[i]):
            continue
        b = max(_bin(edges, rho[i]), 0)
        sums[b, 0] += weight[i]
        sums[b, 1] += weight[i] * rho[i]
    return sums


@compiled
def count_steps(passed: Int8Array, n_steps: int, weight: FloatArray) -> FloatArray:
    """Number and sum of weights of the events that passed at least step 1 to `n_steps`, (n_steps, 2)."""
    stopped = np.zeros((n_steps + 1, 2), np.float64)
    for i in range(len(passed)):
        stopped[passed[i], 0] += 1.0
        stopped[passed[i], 1] += weight[i]
    for step in range(n_steps - 1, -1, -1):
        stopped[step] += stopped[step + 1]
    return stopped[1:]


@compiled
def unite(first: IntArray, second: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Union of two rising sequences, and where each of theirs is in it."""
    union = np.empty(len(first) + len(second), np.int64)
    here, there = np.empty(len(first), np.int64), np.empty(len(second), np.int64)
    i = j = n = 0
    while i < len(first) or j < len(second):
        take_first = j == len(second) or (i < len(first) and first[i] <= second[j])
        value = first[i] if take_first else second[j]
        if i < len(first) and first[i] == value:
            here[i] = n
            i += 1
        if j < len(second) and second[j] == value:
            there[j] = n
            j += 1
        union[n] = value
        n += 1
    return union[:n], here, there


@compiled
def add_rows(size: int, here: IntArray, first: Array, there: IntArray, second: Array) -> Array:
    """Sum of two tables whose rows belong into the rows `here` and `there` of one with `size` rows."""
    total = np.zeros((size, first.shape[1]), first.dtype)
    for row in range(len(here)):
        for column in range(first.shape[1]):
            total[here[row], column] = first[row, column]
    for row in range(len(there)):
        for column in range(second.shape[1]):
            total[there[row], column] += second[row, column]
    return total


@compiled
def fill_moments(
    cell: Int32Array,
    weight: FloatArray,
    mean_pt: FloatArray,
    reco: FloatArray,
    rho: FloatArray,
    truth_pt_avg: FloatArray,
    cos_delta_phi: FloatArray,
    n_cells: int,
) -> FloatArray:
    """Sums over events in the order of `processors.histograms.MOMENTS`, (n_cells, 9); truth pt_avg 0 is unmatched."""
    moments = np.zeros((n_cells, 9), np.float64)
    for i in range(len(cell)):
        # no view of the row: it would cost four times as much as the sums
        c, w = cell[i], weight[i]
        matched = w if truth_pt_avg[i] > 0 else 0.0
        moments[c, 0] += w
        moments[c, 1] += w * w
        moments[c, 2] += w * mean_pt[i]
        moments[c, 3] += w * reco[i]
        moments[c, 4] += w * reco[i] * reco[i]
        moments[c, 5] += w * rho[i]
        moments[c, 6] += matched
        moments[c, 7] += matched * truth_pt_avg[i]
        moments[c, 8] += w * cos_delta_phi[i]
    return moments
