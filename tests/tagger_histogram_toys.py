"""Histograms of pass and fail as a tagging run writes them, from shapes and efficiencies that are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import hist
import numpy as np
from scipy.stats import norm

from models.tagging.columns import CATEGORIES
from processors.tagging_histograms import CATEGORY_AXIS, RESULTS, TaggingBinning, passing_axes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

CUTS = {"loose": 0.5, "tight": 0.8}
# Share of jets that pass by category and working point.
EFFICIENCIES = {
    "top": (0.6, 0.35),
    "w": (0.5, 0.3),
    "other": (0.15, 0.06),
    "unmatched": (0.06, 0.015),
    "qcd": (0.06, 0.015),
}
TOP_PAIR_SHARES = {"top": 0.25, "w": 0.35, "other": 0.3, "unmatched": 0.1}
BINNING = TaggingBinning(pt=(200, 300, 400, 800), eta=(0.0, 1.0, 2.0), mass=tuple(range(0, 301, 10)))
SHIFTS = {"jes": 1.01, "jms": 1.01}


@dataclass(frozen=True)
class Toy:
    """A simulated dataset: jets expected in each bin of pT by category, and how many times that are simulated."""

    expected: Mapping[str, Sequence[float]]
    times: float = 10.0


def top_pairs(jets: Sequence[float] = (8000, 4000, 2000)) -> Toy:
    return Toy({name: [share * n for n in jets] for name, share in TOP_PAIR_SHARES.items()})


def w_and_jets(jets: Sequence[float] = (3000, 1500, 800)) -> Toy:
    return Toy({"unmatched": jets})


def mass_shape(category: str, scale: float, *, passes: bool) -> np.ndarray:
    """Share of jets in each bin of mass, overflow included, (n + 1,)."""
    edges = np.array([*BINNING.mass, np.inf])
    peak, width, share = {"top": (173, 15, 0.9), "w": (82, 9, 0.9)}.get(category, (100, 45, 0.3))
    falling = 90.0 if category == "other" else 50.0
    peaked = np.diff(norm.cdf(edges, peak * scale, width))
    tail = np.diff(1 - np.exp(-edges / (falling * scale)))
    mixed = (share if passes else 0.6 * share) * peaked / peaked.sum()
    return np.asarray(mixed + (1 - mixed.sum()) * tail / tail.sum())


def expectation(toy: Toy, shift: str = "nominal") -> np.ndarray:
    """Jets in the exclusive cells fail, loose but not tight, tight: (cell, category, pt, eta, mass)."""
    source, _, side = shift.rpartition("_")
    size = SHIFTS.get(source, 1.0) - 1
    scale = 1 + (size if side == "up" else -size)
    found = np.zeros((3, len(CATEGORY_AXIS), len(BINNING.pt) - 1, len(BINNING.eta) - 1, len(BINNING.mass)))
    for name, jets in toy.expected.items():
        loose, tight = EFFICIENCIES[name]
        for cell, share in enumerate((1 - loose, loose - tight, tight)):
            by_pt = np.array(jets, np.float64)
            if source == "jes":
                by_pt = by_pt * (1 + 3 * (scale - 1))
            shape = mass_shape(name, scale, passes=cell > 0)
            found[cell, CATEGORY_AXIS.index(name)] = (
                share * by_pt[:, None, None] * np.array([0.6, 0.4])[:, None] * shape
            )
    return found


def simulated(toy: Toy, rng: np.random.Generator, shifts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Sums of weights and of squared weights, (variation, cell, ...); variations have the events of the nominal one."""
    nominal = expectation(toy)
    drawn = rng.poisson(nominal * toy.times) / toy.times
    values = [
        drawn * np.divide(expectation(toy, shift), nominal, out=np.ones_like(nominal), where=nominal > 0)
        for shift in shifts
    ]
    return np.stack(values), np.stack(values) / toy.times


def make_passing(
    toys: Mapping[str, Toy],
    rng: np.random.Generator,
    taggers: Sequence[str] = ("toy",),
    shifts: Sequence[str] = ("jes_up", "jes_down", "jms_up", "jms_down"),
    factors: Mapping[str, tuple[float, float]] | None = None,
) -> hist.Hist[Any]:
    """The histogram `passing` with the simulated toys, and "data" whose efficiencies are `factors` times as large."""
    variations = ["nominal", *shifts]
    axes = passing_axes(BINNING, variations, {name: list(CUTS) for name in taggers})
    datasets = hist.axis.StrCategory([*toys, "data"], name="dataset", flow=False)
    histogram: hist.Hist[Any] = hist.Hist(datasets, *axes, storage=hist.storage.Weight())
    view: Any = histogram.view(flow=True)
    for place, toy in enumerate(toys.values()):
        for tagger in range(len(taggers)):
            values, variances = simulated(toy, rng, variations)
            for kind, content in (("value", values), ("variance", variances)):
                view[kind][place, :, tagger] = np.moveaxis(nested(content), 2, 0)
    total = sum(with_factors(expectation(toy), factors or {}) for toy in toys.values())
    drawn = rng.poisson(np.asarray(total).sum(axis=1)).astype(float)
    data = nested(drawn[np.newaxis])[:, :, 0]
    for kind in ("value", "variance"):
        view[kind][-1, 0, :, :, :, CATEGORY_AXIS.index("unlabelled")] = data
    return histogram


def with_factors(cells: np.ndarray, factors: Mapping[str, tuple[float, float]]) -> np.ndarray:
    """Cells (3, category, ...) after passing rates were multiplied by the factors of the loose and tight cut."""
    found = cells.copy()
    for name, (of_loose, of_tight) in factors.items():
        place = CATEGORY_AXIS.index(name)
        loose, tight = EFFICIENCIES[name]
        found[0, place] *= (1 - of_loose * loose) / (1 - loose)
        found[1, place] *= (of_loose * loose - of_tight * tight) / (loose - tight)
        found[2, place] *= of_tight
    return found


def nested(cells: np.ndarray) -> np.ndarray:
    """(working point, result, variation, ...) of cells (variation, cell, ...)."""
    fail, middle, tight = (cells[:, cell] for cell in range(3))
    found = np.stack([np.stack([fail, middle + tight]), np.stack([fail + middle, tight])])
    assert RESULTS == ("fail", "pass")
    return found


def make_facts(
    toys: Mapping[str, Toy], taggers: Sequence[str] = ("toy",), lumi: float | None = 1.0, probe: str = "muon"
) -> dict[str, Any]:
    """What tagging.json says: histograms are at 1/fb, so that a normalisation of 1e-3 pb makes expectations."""
    simulation = [
        {
            "name": name,
            "is_mc": True,
            "process": name,
            "xsec": 1.0 if lumi else None,
            "normalisation": 1e-3 if lumi else 1.0,
            "lumi": None,
        }
        for name in toys
    ]
    data = {"name": "data", "is_mc": False, "process": None, "xsec": None, "normalisation": 1.0, "lumi": lumi}
    return {
        "taggers": dict.fromkeys(taggers, CUTS),
        "datasets": [*simulation, data],
        "settings": {"selection": {"probe": probe}},
        "complete": True,
    }


def write_run(folder: Path, passing: hist.Hist[Any], facts: Mapping[str, Any]) -> Path:
    """A folder as a tagging run leaves it."""
    import json

    from processors.histogram_files import write_histograms

    write_histograms({"passing": passing}, folder)
    (folder / "tagging.json").write_text(json.dumps(facts))
    return folder


assert set(TOP_PAIR_SHARES) <= set(CATEGORIES)
