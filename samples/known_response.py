"""What the layered detector did to jets: mean and width of the response, computed from truth, per |eta| and pT.

Isolated truth jets with a reconstructed one count, each once: the response at a given truth pT does not depend on the
spectrum. Means are those of the Gaussian core (within 1.5 sigma, iterated); widths are half of the central 68 %, which
few jets tell better than the width of the core.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from samples.compiled import compiled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from samples.tables import EventTable
    from samples.truth import FloatArray, IntArray

PT_EDGES = (30.0, 40.0, 55.0, 75.0, 100.0, 140.0, 200.0, 300.0, 450.0, 700.0, 1000.0, 1500.0, 2500.0)
"""GeV, truth."""
ISOLATION = 1.0
"""No other truth jet above a fifth of the pT within this distance ..."""
ISOLATION_FRACTION = 0.2
CORE = 1.5
CORE_WIDTH = 0.7426
"""Width of a unit Gaussian cut at +-1.5."""
MEAN_COST = 1.0 / CORE_WIDTH
"""Error of the mean of the core in units of width / sqrt(entries of the core): a window that goes along with the mean
damps what its entries tell by the square of CORE_WIDTH, while they scatter by CORE_WIDTH alone."""
MIN_ENTRIES = 60
_STEPS, _LAST = 600, 3.0


@dataclass(slots=True)
class ResponseCounts:
    """Histogram of reconstructed over true pT, (|eta| bins, pT bins, 600 bins up to 3)."""

    eta_edges: tuple[float, ...]
    counts: IntArray

    @classmethod
    def empty(cls, eta_edges: tuple[float, ...]) -> ResponseCounts:
        """Return a histogram without entries."""
        return cls(eta_edges, np.zeros((len(eta_edges) - 1, len(PT_EDGES) - 1, _STEPS), dtype=np.int64))

    def fill(self, table: EventTable) -> None:
        """Add the matched, isolated truth jets of a table."""
        truth_pt, truth_eta, response = matched_responses(table)
        eta_bin = np.searchsorted(self.eta_edges, np.abs(truth_eta), side="right") - 1
        pt_bin = np.searchsorted(PT_EDGES, truth_pt, side="right") - 1
        step = (response / _LAST * _STEPS).astype(np.int64)
        inside = (eta_bin < len(self.eta_edges) - 1) & (pt_bin >= 0) & (pt_bin < len(PT_EDGES) - 1) & (step < _STEPS)
        np.add.at(self.counts, (eta_bin[inside], pt_bin[inside], step[inside]), 1)

    def summary(self) -> dict[str, FloatArray]:
        """`mean`, `width_over_mean`, their errors and `entries`, each (|eta| bins, pT bins); nan below 60 entries."""
        shape = self.counts.shape[:2]
        names = ("mean", "mean_error", "width_over_mean", "width_over_mean_error")
        result = {name: np.full(shape, np.nan) for name in names}
        result["entries"] = self.counts.sum(axis=2).astype(np.float64)
        for place in np.ndindex(*shape):
            if result["entries"][place] >= MIN_ENTRIES:
                mean, core_width, core = gaussian_core(self.counts[place])
                width = half_width(self.counts[place])
                result["mean"][place], result["mean_error"][place] = mean, mean_error(core_width, core)
                result["width_over_mean"][place] = width / mean
                # two quantiles of a Gaussian at +-1 sigma
                result["width_over_mean_error"][place] = 0.964 * width / mean / np.sqrt(result["entries"][place])
        return result


def half_width(counts: IntArray) -> float:
    """Half of the central 68 % of a response histogram."""
    edges = np.linspace(0.0, _LAST, _STEPS + 1)
    running = np.concatenate(([0.0], np.cumsum(counts))) / counts.sum()
    low, high = np.interp((0.158655, 0.841345), running, edges)
    return float(high - low) / 2.0


def mean_error(width: float, core: float) -> float:
    """Statistical error of the mean of a core with this width and this number of entries."""
    return MEAN_COST * width / float(np.sqrt(core))


def gaussian_core(counts: IntArray) -> tuple[float, float, float]:
    """Mean and width of the core of a response histogram, and the entries in it."""
    centre = (np.arange(_STEPS) + 0.5) * _LAST / _STEPS
    mean, width, core = _moments(counts, centre)
    for _ in range(30):
        share = np.clip((mean + CORE * width - centre) * _STEPS / _LAST + 0.5, 0.0, 1.0)
        share *= np.clip((centre - mean + CORE * width) * _STEPS / _LAST + 0.5, 0.0, 1.0)
        new_mean, cut_width, core = _moments(counts * share, centre)
        new_width = cut_width / CORE_WIDTH
        if abs(new_mean - mean) + abs(new_width - width) < 1e-5:
            break
        mean, width = new_mean, new_width
    return mean, width, core


def _moments(counts: NDArray[Any], centre: FloatArray) -> tuple[float, float, float]:
    total = float(counts.sum())
    mean = float((counts * centre).sum() / total)
    return mean, float(np.sqrt((counts * (centre - mean) ** 2).sum() / total)), total


def matched_responses(table: EventTable) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Truth pT, truth eta and reconstructed over true pT of isolated truth jets that a jet points to, each once."""
    jets, truth = table.collections["Jet"], table.collections["GenJet"]
    pt, eta, phi = (truth.columns[name].astype(np.float64) for name in ("pt", "eta", "phi"))
    isolated = is_isolated(truth.offsets, pt, eta, phi, ISOLATION)
    found = jets.columns["genJetIdx"] >= 0
    target = truth.offsets[:-1][jets.event[found]] + jets.columns["genJetIdx"][found]
    # jets are of falling pT: the first one that points to a truth jet is the hardest
    target, first = np.unique(target, return_index=True)
    ratio = jets.columns["pt"][found][first].astype(np.float64) / pt[target]
    kept = isolated[target]
    return pt[target][kept], eta[target][kept], ratio[kept]


@compiled
def is_isolated(
    offsets: IntArray, pt: FloatArray, eta: FloatArray, phi: FloatArray, distance: float
) -> NDArray[np.bool_]:
    """Which truth jets have no other one above a fifth of their pT within `distance`."""
    isolated = np.ones(len(pt), dtype=np.bool_)
    for event in range(len(offsets) - 1):
        for jet in range(offsets[event], offsets[event + 1]):
            for other in range(offsets[event], offsets[event + 1]):
                if other == jet or pt[other] < ISOLATION_FRACTION * pt[jet]:
                    continue
                d_phi = abs(phi[other] - phi[jet])
                d_phi = min(d_phi, 2.0 * np.pi - d_phi)
                if (eta[other] - eta[jet]) ** 2 + d_phi * d_phi < distance * distance:
                    isolated[jet] = False
    return isolated


def known_answer(simulation: ResponseCounts, data: ResponseCounts, reference: tuple[float, float]) -> dict[str, Any]:
    """What a measurement must give back, in the words of `injected.json`.

    `scale_factor` and `response` per |eta| are geometric means over pT of data over simulation, weighted by jets; a
    bin without a measured pT takes the value of its neighbour inward, with the error 1.
    """
    known, measured = simulation.summary(), data.summary()
    scale = _ratio(measured, known, "width_over_mean")
    response = _ratio(measured, known, "mean")
    index = simulation.eta_edges.index(reference[0])
    relative = response[0] / response[0][index]
    tables: Mapping[str, Mapping[str, FloatArray]] = {"simulation": known, "data": measured}
    return {
        "abs_eta_edges": list(simulation.eta_edges),
        "pt_edges": list(PT_EDGES),
        "reference_region": list(reference),
        "scale_factor": scale[0].tolist(),
        "scale_factor_error": scale[1].tolist(),
        "response": response[0].tolist(),
        "response_error": response[1].tolist(),
        "response_relative": relative.tolist(),
        "residual_relative": (1.0 / relative).tolist(),
        "points": {
            "AK4PF": {
                kind: {name: _without_nan(values) for name, values in table.items()} for kind, table in tables.items()
            }
        },
    }


def _ratio(
    data: Mapping[str, FloatArray], simulation: Mapping[str, FloatArray], name: str
) -> tuple[FloatArray, FloatArray]:
    ratio = data[name] / simulation[name]
    # weights by numbers of jets: those from measured widths would prefer what fluctuated low
    jets = 1.0 / (1.0 / np.maximum(data["entries"], 1.0) + 1.0 / np.maximum(simulation["entries"], 1.0))
    known = np.isfinite(ratio)
    weight = np.where(known, jets, 0.0)
    parts = (data[f"{name}_error"] / data[name]) ** 2 + (simulation[f"{name}_error"] / simulation[name]) ** 2
    total = weight.sum(axis=1)
    share = weight / np.maximum(total, 1e-9)[:, np.newaxis]
    mean = np.exp((share * np.log(np.where(known, ratio, 1.0))).sum(axis=1))
    error = mean * np.sqrt((share**2 * np.where(known, parts, 0.0)).sum(axis=1))
    mean, error = np.where(total > 0.0, mean, np.nan), np.where(total > 0.0, error, 1.0)
    measured = mean[np.isfinite(mean)]
    mean[0] = mean[0] if np.isfinite(mean[0]) else (measured[0] if len(measured) else 1.0)
    for index in range(1, len(mean)):
        mean[index] = mean[index] if np.isfinite(mean[index]) else mean[index - 1]
    return mean, error


def _without_nan(values: FloatArray) -> list[list[float | None]]:
    return [[float(value) if np.isfinite(value) else None for value in row] for row in values]
