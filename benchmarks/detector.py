"""What the layered detector does to jets: `python benchmarks/detector.py SAMPLE [--figures DIR]`.

SAMPLE is a folder of `analysis.py generate --detector layered`. Prints resolution, closure of the absolute calibration,
layer fractions, data over simulation, and the gate: what a linear fit in the variables of the global sequential
calibration gains in resolution at 100 GeV.
"""

from __future__ import annotations

import argparse
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot

from samples.known_response import MEAN_COST, gaussian_core, is_isolated

GSC = ("fEM3", "fTile0", "trackWidth", "nTracks", "chargedFraction", "nMuonSegments")
LAYERS = ("fEM0", "fEM1", "fEM2", "fEM3", "fTile0", "fTile1", "fTile2")
PT_EDGES = np.array([20.0, 30.0, 40.0, 55.0, 75.0, 100.0, 140.0, 200.0, 300.0, 450.0, 700.0, 1000.0, 1500.0])
REGIONS = ((0.0, 0.8), (0.8, 1.3), (1.3, 1.8), (1.8, 2.5), (2.5, 3.2), (3.2, 4.5))
GATE, GATE_PT = (0.10, 0.20), 100.0
# abstract of arXiv:2007.02645, after all corrections
ATLAS_ABSTRACT = {20.0: 0.24, 300.0: 0.06}
# abstract of EPJC 80 (2020) 1104, calorimeter jets at 8 TeV
ATLAS_8TEV = {20.0: 0.23, 100.0: 0.084}
# abstract of arXiv:1607.03663: 15-20 % at 30 GeV, about 10 % at 100 GeV, 5 % at 1 TeV
CMS_ABSTRACT = {30.0: 0.175, 100.0: 0.10, 1000.0: 0.05}


def matched_jets(folder: Path, name: str) -> dict[str, np.ndarray]:
    """Columns of jets that an isolated truth jet points to, and its pT and eta."""
    tree = uproot.open(folder / f"{name}.root")["Events"]
    names = [key for key in list(tree.keys()) if key.startswith(("Jet_", "GenJet_"))]
    values = ["averageInteractions", "PV_npvs", "Rho_fixedGridRhoFastjetAll"]
    parts = [_matched(chunk) for chunk in tree.iterate([*names, *values], step_size=10_000)]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def _matched(events: ak.Array) -> dict[str, np.ndarray]:
    counts = ak.to_numpy(ak.num(events.GenJet_pt))
    offsets = np.concatenate(([0], np.cumsum(counts)))
    pt, eta, phi = (ak.to_numpy(ak.flatten(events[f"GenJet_{name}"])).astype(float) for name in ("pt", "eta", "phi"))
    isolated = is_isolated(offsets, pt, eta, phi, 1.0)
    index = ak.to_numpy(ak.flatten(events.Jet_genJetIdx))
    event = np.repeat(np.arange(len(events)), ak.to_numpy(ak.num(events.Jet_pt)))
    found = np.flatnonzero(index >= 0)
    target, first = np.unique(offsets[event[found]] + index[found], return_index=True)
    kept = isolated[target]
    jets, target = found[first][kept], target[kept]
    columns = {
        key[4:]: ak.to_numpy(ak.flatten(events[key]))[jets].astype(float)
        for key in events.fields
        if key.startswith("Jet_")
    }
    for key in ("averageInteractions", "PV_npvs", "Rho_fixedGridRhoFastjetAll"):
        columns[key] = ak.to_numpy(events[key])[event[jets]].astype(float)
    return {**columns, "true_pt": pt[target], "true_eta": np.abs(eta[target])}


def core(response: np.ndarray) -> tuple[float, float, float]:
    """Mean and width of the Gaussian core and its entries."""
    counts, _ = np.histogram(response, 600, (0.0, 3.0))
    return gaussian_core(counts)


def chosen(jets: dict[str, np.ndarray], pt: tuple[float, float], eta: tuple[float, float]) -> np.ndarray:
    """Which jets lie in a bin of truth."""
    inside = (jets["true_pt"] >= pt[0]) & (jets["true_pt"] < pt[1])
    return inside & (jets["true_eta"] >= eta[0]) & (jets["true_eta"] < eta[1])


def resolutions(jets: dict[str, np.ndarray], eta: tuple[float, float]) -> list[tuple[float, float, float, float]]:
    """(pT, mean of the core, half of the central 68 %, entries) of the bins with at least 60 jets."""
    rows = []
    for low, high in pairwise(PT_EDGES):
        inside = chosen(jets, (low, high), eta)
        if np.count_nonzero(inside) >= 60:
            response = (jets["pt"] / jets["true_pt"])[inside]
            mean, _, entries = core(response)
            rows.append((float(np.sqrt(low * high)), mean, half_width(response), entries))
    return rows


def gsc_gain(jets: dict[str, np.ndarray], pt: tuple[float, float], eta: tuple[float, float]) -> Any:
    """Response of the jets of a bin before and after a linear fit that never saw them (five-fold)."""
    inside = chosen(jets, pt, eta)
    response = (jets["pt"] / jets["true_pt"])[inside]
    good = np.abs(response - 1.0) < 0.6
    response = response[good]
    terms = np.column_stack([np.ones(len(response)), *(jets[name][inside][good] for name in GSC)])
    part = np.arange(len(response)) % 5
    corrected = np.empty(len(response))
    for fold in range(5):
        weights = np.linalg.lstsq(terms[part != fold], response[part != fold], rcond=None)[0]
        corrected[part == fold] = response[part == fold] / (terms[part == fold] @ weights)
    return response, corrected


def spread(response: np.ndarray) -> float:
    """Standard deviation over mean: what a linear fit makes small."""
    return float(response.std() / response.mean())


def half_width(response: np.ndarray) -> float:
    """Half of the central 68 % over the median."""
    low, middle, high = np.quantile(response, (0.16, 0.5, 0.84))
    return float((high - low) / 2.0 / middle)


def show(jets: dict[str, np.ndarray], title: str) -> None:
    """Print resolution and closure."""
    print(f"\n{title}: pT: mean response, half of the central 68 %")
    for region in REGIONS:
        rows = resolutions(jets, region)
        line = "  ".join(f"{pt:.0f}: {mean:.3f}, {width:.3f}" for pt, mean, width, _ in rows)
        print(f"  |eta| {region[0]:.1f}-{region[1]:.1f}  {line}")


def show_layers(jets: dict[str, np.ndarray]) -> None:
    """Print mean layer fractions of central jets."""
    print("\nmean layer fractions, |eta| < 0.8")
    for low, high in ((40, 60), (85, 115), (180, 220), (400, 600), (900, 1300)):
        inside = chosen(jets, (low, high), (0.0, 0.8))
        if np.count_nonzero(inside) > 30:
            line = " ".join(f"{name} {jets[name][inside].mean():.3f}" for name in LAYERS)
            extra = ("n90", "nTracks", "trackWidth", "chargedFraction", "nMuonSegments", "nConstituents", "chHEF")
            print(f"  {low}-{high} GeV: {line}")
            print("     " + " ".join(f"{name} {jets[name][inside].mean():.3f}" for name in extra))


def show_gate(jets: dict[str, np.ndarray]) -> bool:
    """Print what the linear fit gains; True where the gate is passed: in the rms, which the fit makes small."""
    print("\nlinear fit in " + ", ".join(GSC) + ": rms, then half of the central 68 %")
    passed = False
    for low, high in ((40, 60), (85, 115), (180, 240), (400, 600), (800, 1300)):
        before, after = gsc_gain(jets, (low, high), (0.0, 0.8))
        gains = [1.0 - measure(after) / measure(before) for measure in (spread, half_width)]
        # both widths come from the same jets: half of their independent errors remains
        error = 0.5 / np.sqrt(len(before))
        mark = ""
        if low < GATE_PT < high:
            passed = bool(GATE[0] <= gains[0] <= GATE[1])
            mark = f"   <- gate {GATE[0]:.0%} to {GATE[1]:.0%}: {'passed' if passed else 'NOT passed'}"
        print(
            f"  {low}-{high} GeV: {spread(before):.3f} -> {spread(after):.3f}, gain {gains[0]:.1%} +- {error:.1%}; "
            f"{half_width(before):.3f} -> {half_width(after):.3f}, gain {gains[1]:.1%}{mark}"
        )
    return passed


def draw(folder: Path, jets: dict[str, np.ndarray], injected: dict[str, Any]) -> None:
    """Write the figures of the documentation."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(1, 2, figsize=(9.0, 3.6), layout="constrained")
    for region in REGIONS[:4]:
        rows = np.array(resolutions(jets, region))
        axes[0].plot(rows[:, 0], rows[:, 2], "o-", ms=3, lw=1, label=rf"{region[0]} < |$\eta$| < {region[1]}")
        axes[1].errorbar(rows[:, 0], rows[:, 1], MEAN_COST * rows[:, 2] / np.sqrt(rows[:, 3]), fmt="o-", ms=3, lw=1)
    for numbers, label, marker in (
        (ATLAS_ABSTRACT, "ATLAS 2007.02645", "s"),
        (ATLAS_8TEV, "ATLAS EPJC 80 (2020) 1104", "D"),
        (CMS_ABSTRACT, "CMS 1607.03663", "^"),
    ):
        axes[0].plot(list(numbers), list(numbers.values()), marker, mfc="none", color="black", label=label)
    axes[0].set(
        xscale="log", xlabel="true $p_T$ [GeV]", ylabel="resolution, half of the central 68 %", ylim=(0.0, 0.35)
    )
    axes[0].legend(fontsize=7, frameon=False)
    axes[1].axhline(1.0, color="grey", lw=0.8)
    axes[1].set(xscale="log", xlabel="true $p_T$ [GeV]", ylabel="mean response after MCJES", ylim=(0.94, 1.06))
    figure.savefig(folder / "detector_resolution.png", dpi=80)
    figure, axes = plt.subplots(1, 2, figsize=(9.0, 3.6), layout="constrained")
    pt = np.sqrt(PT_EDGES[1:] * PT_EDGES[:-1])
    for name in LAYERS:
        means = [_mean(jets[name][chosen(jets, (low, high), (0.0, 0.8))]) for low, high in pairwise(PT_EDGES)]
        axes[0].plot(pt, means, "o-", ms=3, lw=1, label=name[1:])
    axes[0].set(xscale="log", xlabel="true $p_T$ [GeV]", ylabel=r"mean layer fraction, |$\eta$| < 0.8")
    axes[0].legend(fontsize=7, frameon=False)
    edges = np.array(injected["abs_eta_edges"])
    centre, half = 0.5 * (edges[1:] + edges[:-1]), 0.5 * np.diff(edges)
    for name in ("scale_factor", "response"):
        value, error = np.array(injected[name]), np.array(injected[f"{name}_error"])
        known = error < 0.5
        label = name.replace("_", " ")
        axes[1].errorbar(centre[known], value[known], error[known], half[known], fmt="o", ms=3, label=label)
    axes[1].axhline(1.0, color="grey", lw=0.8)
    axes[1].set(xlabel=r"|$\eta$|", ylabel="data over simulation", ylim=(0.8, 1.2))
    axes[1].legend(fontsize=7, frameon=False)
    figure.savefig(folder / "detector_layers.png", dpi=80)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) > 30 else float("nan")


def main() -> int:
    """Run the comparison; the exit code is 1 where the gate is not passed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sample", type=Path)
    parser.add_argument("--figures", type=Path)
    options = parser.parse_args()
    jets = matched_jets(options.sample, "simulation")
    injected = json.loads((options.sample / "injected.json").read_text())
    show(jets, "simulation")
    show_layers(jets)
    passed = show_gate(jets)
    print("\ndata over simulation per |eta|:")
    for name in ("scale_factor", "response"):
        values = zip(injected["abs_eta_edges"], injected[name], injected[f"{name}_error"], strict=False)
        print(f"  {name}: " + "  ".join(f"{low}: {value:.3f}+-{error:.3f}" for low, value, error in values))
    if options.figures:
        draw(options.figures, jets, injected)
    return 0 if passed else 1


if __name__ == "__main__":
    raise SystemExit(main())
