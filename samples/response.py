"""A parametric detector: truth jets in, reconstructed jets out, with everything known that analyses try to measure.

Simulation: R = 1 + delta. Data: R = r (1 + s delta), with the response r and the scale factor s known per |eta|, so
that width over mean scales by s exactly, core and tails alike. delta is Gaussian with the width

    sigma / pT = sqrt((N0^2 + N_rho^2 rho) / pT^2 + S^2 / pT + C^2)

at the truth pT, and a known fraction of the jets has it several times wider. The parameters are taken at the truth
|eta|.

Any other detector (one made of layers and particles, say) fits in its place: it takes truth events, gives `RecoEvents`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from samples.truth import event_of_jet, offsets_from_counts, order_by_pt

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from samples.truth import FloatArray, IntArray, TruthEvents

MIN_RECO_PT = 10.0
"""GeV; softer reconstructed jets are not stored."""
JET_RADIUS = 0.4
TIGHT_JET_ID = 6
"""Bits of tight (2) and tight with lepton veto (4), as in NanoAOD."""
ALL_PU_ID = 7


@dataclass(frozen=True, slots=True)
class DetectorSettings:
    """What the detector does, per bin of truth |eta|; the last bin also serves what lies beyond its edge."""

    eta_edges: tuple[float, ...] = (0.0, 0.2, 0.7, 1.0, 1.3, 1.8, 2.5, 2.8, 3.2, 3.6, 4.5)
    noise: tuple[float, ...] = (2.6, 2.6, 2.7, 2.8, 2.9, 3.0, 3.2, 3.3, 2.7, 2.5)
    """N0, GeV."""
    noise_rho: tuple[float, ...] = (0.55, 0.55, 0.56, 0.58, 0.62, 0.66, 0.70, 0.66, 0.55, 0.50)
    """N_rho, GeV per square root of GeV of rho."""
    stochastic: tuple[float, ...] = (0.80, 0.80, 0.83, 0.88, 0.94, 0.90, 0.98, 1.08, 0.94, 0.90)
    """S, square root of GeV."""
    constant: tuple[float, ...] = (0.048, 0.048, 0.050, 0.053, 0.056, 0.053, 0.063, 0.085, 0.080, 0.075)
    """C."""
    tail_fraction: tuple[float, ...] = (0.02, 0.02, 0.02, 0.02, 0.02, 0.02, 0.03, 0.03, 0.02, 0.02)
    tail_width: float = 2.2
    """Width of the tail in units of the width of the core."""
    scale_factor: tuple[float, ...] = (1.10, 1.12, 1.08, 1.14, 1.16, 1.20, 1.25, 1.18, 1.09, 1.05)
    """Resolution of data over simulation."""
    response: tuple[float, ...] = (0.995, 0.990, 0.985, 0.998, 1.005, 0.980, 0.970, 1.010, 1.020, 0.975)
    """Mean response of data; simulation has 1."""
    interactions: tuple[float, float] = (35.0, 9.0)
    """Mean and spread of the number of interactions per crossing."""
    rho_per_interaction: float = 0.55
    """GeV per unit area."""
    pileup_jets: float = 0.03
    """Soft pile-up jets above 10 GeV per interaction."""
    noise_jets: float = 2e-4
    """Jets made of detector noise per event, in data only."""

    @property
    def n_bins(self) -> int:
        """Number of |eta| bins."""
        return len(self.eta_edges) - 1


@dataclass(frozen=True, slots=True)
class RecoEvents:
    """Reconstructed jets of n events, flat, ordered by falling pT within an event; momenta in GeV.

    `truth_index` is the index within the event's truth jets, -1 for jets without one.
    """

    offsets: IntArray
    pt: FloatArray
    eta: FloatArray
    phi: FloatArray
    mass: FloatArray
    area: FloatArray
    raw_factor: FloatArray
    jet_id: IntArray
    pu_id: IntArray
    truth_index: IntArray
    rho: FloatArray
    npv: IntArray
    interactions: FloatArray

    def __len__(self) -> int:
        """Return the number of events."""
        return len(self.rho)


def eta_bin(eta: FloatArray, settings: DetectorSettings) -> NDArray[np.intp]:
    """Bin of |eta|, what lies beyond the last edge in the last bin."""
    inner = np.asarray(settings.eta_edges[1:-1])
    return np.searchsorted(inner, np.abs(eta), side="right")


def relative_resolution(pt: FloatArray, eta: FloatArray, rho: FloatArray, settings: DetectorSettings) -> FloatArray:
    """sigma(pT) / pT of the Gaussian core in simulation at the truth pT (GeV), (n,)."""
    index = eta_bin(eta, settings)
    noise, noise_rho, stochastic, constant = (
        np.asarray(table)[index]
        for table in (settings.noise, settings.noise_rho, settings.stochastic, settings.constant)
    )
    variance = (noise**2 + noise_rho**2 * rho) / pt**2 + stochastic**2 / pt + constant**2
    return np.asarray(np.sqrt(variance))


def reconstruct(
    truth: TruthEvents, settings: DetectorSettings, rng: np.random.Generator, *, is_data: bool
) -> RecoEvents:
    """Reconstructed events of the simulation or, with other resolution and response, of the data."""
    n_events = len(truth)
    interactions = np.clip(rng.normal(*settings.interactions, n_events), 5.0, 80.0)
    npv = 1 + rng.poisson(0.7 * interactions)
    rho = np.clip(settings.rho_per_interaction * interactions + rng.normal(1.5, 1.8, n_events), 0.5, None)
    jets = [
        _hard_jets(truth, rho, settings, rng, is_data=is_data),
        _pileup_jets(interactions, settings, rng),
    ]
    if is_data:
        jets.append(_noise_jets(n_events, settings, rng))
    columns = {name: np.concatenate([part[name] for part in jets]) for name in jets[0]}
    kept = (columns["pt"] > MIN_RECO_PT) & (np.abs(columns["eta"]) < 5.0)
    columns = {name: column[kept] for name, column in columns.items()}
    order = order_by_pt(columns["event"], columns["pt"])
    columns = {name: column[order] for name, column in columns.items()}
    event = columns.pop("event")
    area = np.pi * JET_RADIUS**2 * rng.normal(1.0, 0.03, len(event))
    return RecoEvents(
        offsets=offsets_from_counts(np.bincount(event, minlength=n_events)),
        **columns,
        area=area,
        # the stored pT is what is left after rho x area was taken off the uncalibrated jet
        raw_factor=-rho[event] * area / columns["pt"],
        rho=rho,
        npv=npv,
        interactions=interactions,
    )


def _hard_jets(
    truth: TruthEvents, rho: FloatArray, settings: DetectorSettings, rng: np.random.Generator, *, is_data: bool
) -> dict[str, NDArray[np.generic]]:
    event = event_of_jet(truth.offsets)
    index = eta_bin(truth.eta, settings)
    is_tail = rng.uniform(size=len(event)) < np.asarray(settings.tail_fraction)[index]
    delta = rng.normal(size=len(event)) * relative_resolution(truth.pt, truth.eta, rho[event], settings)
    delta[is_tail] *= settings.tail_width
    response = 1.0 + delta
    if is_data:
        response = np.asarray(settings.response)[index] * (1.0 + np.asarray(settings.scale_factor)[index] * delta)
    angle = np.hypot(0.004, 0.5 / truth.pt)
    pt = truth.pt * response
    return {
        "event": event,
        "pt": pt,
        "eta": truth.eta + angle * rng.normal(size=len(event)),
        "phi": _wrap(truth.phi + angle * rng.normal(size=len(event))),
        "mass": truth.mass * response,
        "jet_id": np.where(rng.uniform(size=len(event)) < 0.999, TIGHT_JET_ID, 0),
        "pu_id": _pileup_id(pt, rng, passing=0.985),
        "truth_index": np.arange(len(event)) - truth.offsets[event],
    }


def _pileup_jets(
    interactions: FloatArray, settings: DetectorSettings, rng: np.random.Generator
) -> dict[str, NDArray[np.generic]]:
    event = np.repeat(np.arange(len(interactions)), rng.poisson(settings.pileup_jets * interactions))
    pt = MIN_RECO_PT + rng.exponential(4.0, len(event))
    return {
        "event": event,
        "pt": pt,
        "eta": rng.uniform(-4.7, 4.7, len(event)),
        "phi": rng.uniform(-np.pi, np.pi, len(event)),
        "mass": 0.12 * pt,
        "jet_id": np.full(len(event), TIGHT_JET_ID),
        "pu_id": _pileup_id(pt, rng, passing=0.2),
        "truth_index": np.full(len(event), -1),
    }


def _noise_jets(n_events: int, settings: DetectorSettings, rng: np.random.Generator) -> dict[str, NDArray[np.generic]]:
    event = np.flatnonzero(rng.uniform(size=n_events) < settings.noise_jets)
    pt = np.exp(rng.uniform(np.log(20.0), np.log(500.0), len(event)))
    return {
        "event": event,
        "pt": pt,
        "eta": rng.choice([-1.0, 1.0], len(event)) * rng.uniform(2.5, 3.2, len(event)),
        "phi": rng.uniform(-np.pi, np.pi, len(event)),
        "mass": 0.02 * pt,
        "jet_id": np.zeros(len(event), dtype=np.int64),
        "pu_id": np.full(len(event), ALL_PU_ID),
        "truth_index": np.full(len(event), -1),
    }


def _pileup_id(pt: FloatArray, rng: np.random.Generator, *, passing: float) -> IntArray:
    """Pile-up identification bits; as in NanoAOD, jets above 50 GeV are not tested and pass."""
    fraction = rng.uniform(size=len(pt))
    bits = np.where(fraction < passing, ALL_PU_ID, np.where(fraction < passing + 0.4 * (1.0 - passing), 4, 0))
    return np.where(pt > 50.0, ALL_PU_ID, bits)


def _wrap(phi: FloatArray) -> FloatArray:
    return np.asarray((phi + np.pi) % (2.0 * np.pi) - np.pi)
