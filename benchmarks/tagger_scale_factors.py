"""How well scale factors of taggers come back: pulls of toys for several answers, chi2 of all bins, seconds of a fit.

    python benchmarks/tagger_scale_factors.py [TOYS]

Toys draw data and all auxiliary measurements; they are fitted without pyhf, which is checked against on a few. Scale
factors that differ between nested working points are looked at with toys that draw data and simulation independently.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from tagger_histogram_toys import Toy, make_facts, make_passing, top_pairs, w_and_jets

from corrections.results import Interval
from corrections.tagging import cross_check
from corrections.tagging.counts import counts_of
from corrections.tagging.covariance import covariance
from corrections.tagging.fit import fit, minimised, model_of, observed, quality, uncertainty
from corrections.tagging.known_answer import chi2, pulls, with_known_answer
from corrections.tagging.mistag import mistag_rates
from corrections.tagging.points import estimates_of
from corrections.tagging.settings import FitSettings, MistagSettings, TemplateSettings
from corrections.tagging.templates import Templates, all_templates
from corrections.tagging.workspace import workspace

TOYS = {"ttbar": top_pairs(), "wjets": w_and_jets()}
DIJETS = {"dijet": Toy({"qcd": (40_000, 20_000, 10_000)}), "ttbar": Toy({"top": (200, 100, 50)})}
ANSWERS = (0.92, 0.85, 1.10)
# Of the loose and the tight cut.
NESTED = {"top": (0.92, 0.85), "w": (0.9, 1.1)}
MISTAG = 1.3
RARE = "other"
SETTINGS = FitSettings()


def main(n_toys: int) -> None:
    """Print all of it."""
    counts = counts_of(make_passing(TOYS, np.random.default_rng(1)), make_facts(TOYS))
    templates = all_templates(counts, TemplateSettings(), SETTINGS)
    for answer in ANSWERS:
        known = {f"sf_{group}_{name}": answer for group in ("top", "w") for name in ("loose", "tight")}
        tell_pulls(templates[1], known, n_toys)
    tell_nested(max(n_toys // 3, 1))
    tell_published(max(n_toys // 3, 1))
    tell_mistag_pulls(n_toys)
    tell_chi2()
    tell_agreement(templates)


def tell_pulls(templates: Templates, known: dict[str, float], n_toys: int) -> None:
    """Pulls of scale factors where these are injected."""
    model = cross_check.likelihood(templates, SETTINGS)
    point = np.array([known.get(each, 1.0 if each in model.factors else 0.0) for each in model.names])
    rng = np.random.default_rng(2)
    found: dict[str, list[float]] = {name: [] for name in known}
    began, n_failed = time.process_time(), 0
    for _ in range(n_toys):
        minimum = cross_check.minimum(model, *cross_check.drawn(model, point, rng))
        n_failed += not minimum.is_valid
        for name, factor in known.items() if minimum.is_valid else ():
            value, error = minimum.value(name)
            found[name].append((value - factor) / error)
    seconds = (time.process_time() - began) / n_toys
    for name, factor in known.items():
        print(f"{name} = {factor:g}: {summary(found[name])}")
    print(f"{n_failed} of {n_toys} fits failed; {seconds:.3f} s of a core each")


def tell_nested(n_toys: int) -> None:
    """Pulls in all bins of pT where a loose and a tight cut have different scale factors."""
    found: dict[tuple[str, str], list[float]] = {}
    for seed in range(n_toys):
        counts = counts_of(make_passing(TOYS, np.random.default_rng(seed), factors=NESTED), make_facts(TOYS))
        for templates in all_templates(counts, TemplateSettings(), SETTINGS):
            minimum = cross_check.minimum(cross_check.likelihood(templates, SETTINGS))
            for group, factors in NESTED.items() if minimum.is_valid else ():
                for name, factor in zip(("loose", "tight"), factors, strict=True):
                    value, error = minimum.value(f"sf_{group}_{name}")
                    found.setdefault((group, name), []).append((value - factor) / error)
    for (group, name), own in found.items():
        factor = NESTED[group][name == "tight"]
        print(f"independent simulation, {group} {name} = {factor:g}: {summary(own)}")


def tell_published(n_toys: int) -> None:
    """Pulls of a group that few jets are of, of the scale factors that are published alone; all of them are 1."""
    found: dict[tuple[float, str], list[float]] = {}
    for seed in range(n_toys):
        counts = counts_of(make_passing(TOYS, np.random.default_rng(seed)), make_facts(TOYS))
        for templates in all_templates(counts, TemplateSettings(), SETTINGS):
            model = cross_check.likelihood(templates, SETTINGS)
            minimum = cross_check.minimum(model)
            for name in templates.working_points if minimum.is_valid else ():
                factor = f"sf_{RARE}_{name}"
                own = found.setdefault((templates.pt.low, name), [])
                if quality(RARE, factor, templates, SETTINGS, model, minimum) == "ok":
                    own.append((minimum.value(factor)[0] - 1) / uncertainty(factor, model, minimum))
    for (low, name), own in found.items():
        told = summary(own) if own else "none"
        print(f"published {RARE} {name} = 1 from {low:g} GeV, of {n_toys}: {told}")


def tell_mistag_pulls(n_toys: int) -> None:
    """Pulls of the rate of mistags, with the uncertainty of data: these are drawn from the simulation itself."""
    counts = counts_of(make_passing(DIJETS, np.random.default_rng(1)), make_facts(DIJETS))
    answer = {"toy": {"loose": {"qcd": MISTAG}, "tight": {"qcd": MISTAG}}}
    rng = np.random.default_rng(3)
    found = []
    for _ in range(n_toys):
        estimates = mistag_rates(with_known_answer(counts, answer, rng), MistagSettings(pt=(200, 300), eta=(0, 2)))
        found.append((estimates[1].point.value - MISTAG) / estimates[1].point.stat)
    print(f"mistag = {MISTAG:g}: {summary(found)}")


def tell_chi2() -> None:
    """All bins and working points of independent data and simulation against what was injected."""
    answer = {
        "toy": {
            name: {group: factors[place] for group, factors in NESTED.items()}
            for place, name in enumerate(("loose", "tight"))
        }
    }
    for seed in range(3):
        counts = counts_of(make_passing(TOYS, np.random.default_rng(seed), factors=NESTED), make_facts(TOYS))
        estimates = [
            each
            for one in all_templates(counts, TemplateSettings(), SETTINGS)
            for each in estimates_of(fit(one, SETTINGS), Interval(0, 2))
            if each.point.category in NESTED
        ]
        found = pulls([each.point for each in estimates], answer, counts)
        total, p_value = chi2(found, covariance([each for each in estimates if each.point.is_measured]))
        largest = max(abs(pull.value) for pull in found)
        print(f"all bins, seed {seed}: chi2 {total:.1f} of {len(found)}, p {p_value:.3f}, largest pull {largest:.2f}")


def tell_agreement(templates: list[Templates]) -> None:
    """Largest difference of pyhf, from the start it suggests, and plain numpy; and the time of a fit."""
    worst, seconds = 0.0, 0.0
    for each in templates:
        minimum = cross_check.minimum(cross_check.likelihood(each, SETTINGS))
        model = model_of(workspace(each, SETTINGS))
        alone = minimised(model, observed(model, each))
        factors = [name for name in minimum.names if name.startswith("sf_")]
        worst = max(worst, *(abs(alone.values[name] - minimum.value(name)[0]) for name in factors))
        began = time.process_time()
        fit(each, SETTINGS)
        seconds += time.process_time() - began
    print(f"pyhf and numpy differ by at most {worst:.1e}; {seconds / len(templates):.2f} s of a core for a fit")


def summary(found: list[float]) -> str:
    """Number, mean and width of pulls with the uncertainty of both."""
    n = len(found)
    return (
        f"{n} toys, pull mean {np.mean(found):+.3f} +- {1 / np.sqrt(n):.3f}, "
        f"width {np.std(found):.3f} +- {1 / np.sqrt(2 * n):.3f}"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
