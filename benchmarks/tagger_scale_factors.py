"""How well scale factors of taggers come back: pulls of toys for several answers, chi2 of all bins, seconds of a fit.

    python benchmarks/tagger_scale_factors.py [TOYS]

Toys draw data and all auxiliary measurements; they are fitted without pyhf, which is checked against on a few.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from tagger_histogram_toys import EFFICIENCIES, Toy, make_facts, make_passing, top_pairs, w_and_jets

from corrections.results import Interval
from corrections.tagging import cross_check
from corrections.tagging.counts import counts_of
from corrections.tagging.covariance import covariance
from corrections.tagging.fit import fit, minimised, model_of
from corrections.tagging.known_answer import chi2, pulls, with_known_answer
from corrections.tagging.mistag import mistag_rates
from corrections.tagging.points import estimates_of
from corrections.tagging.settings import FitSettings, MistagSettings, TemplateSettings
from corrections.tagging.templates import Templates, all_templates
from corrections.tagging.workspace import workspace

TOYS = {"ttbar": top_pairs(), "wjets": w_and_jets()}
DIJETS = {"dijet": Toy({"qcd": (40_000, 20_000, 10_000)}), "ttbar": Toy({"top": (200, 100, 50)})}
ANSWERS = (0.92, 0.85, 1.10)
MISTAG = 1.3
SETTINGS = FitSettings()


def main(n_toys: int) -> None:
    """Print all of it."""
    counts = counts_of(make_passing(TOYS, np.random.default_rng(1)), make_facts(TOYS))
    templates = all_templates(counts, TemplateSettings(), SETTINGS)
    for answer in ANSWERS:
        for name in ("sf_top", "sf_w"):
            tell_pulls(templates[3], name, answer, n_toys)
    tell_mistag_pulls(n_toys)
    tell_chi2()
    tell_agreement(templates)


def tell_pulls(templates: Templates, name: str, answer: float, n_toys: int) -> None:
    """Pulls of one scale factor where that one is injected."""
    model = cross_check.likelihood(templates, SETTINGS)
    point = np.array([1.0 if each in model.factors else 0.0 for each in model.names])
    point[model.names.index(name)] = answer
    rng = np.random.default_rng(2)
    began, found = time.process_time(), []
    for _ in range(n_toys):
        minuit = cross_check.minimise(model, *cross_check.drawn(model, point, rng))
        if minuit.valid:
            found.append((minuit.values[name] - answer) / minuit.errors[name])
    seconds = (time.process_time() - began) / n_toys
    print(f"{name} = {answer:g}: {summary(found)}, {seconds:.3f} s of a core each")


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
    # jets between the cuts get the weight of those that fail: other answers change shapes of what fails the tight cut
    loose = {"top": 0.92, "w": 0.9}
    injected = {name: (factor, _tight(factor, *EFFICIENCIES[name])) for name, factor in loose.items()}
    answer = {"toy": {"loose": loose, "tight": {name: factors[1] for name, factors in injected.items()}}}
    for seed in range(3):
        counts = counts_of(make_passing(TOYS, np.random.default_rng(seed), factors=injected), make_facts(TOYS))
        estimates = [
            each
            for one in all_templates(counts, TemplateSettings(), SETTINGS)
            for each in estimates_of(fit(one, SETTINGS), Interval(0, 2))
            if each.point.category in injected
        ]
        found = pulls([each.point for each in estimates], answer, counts.pt)
        total, p_value = chi2(found, covariance([each for each in estimates if each.point.is_measured]))
        largest = max(abs(pull.value) for pull in found)
        print(f"all bins, seed {seed}: chi2 {total:.1f} of {len(found)}, p {p_value:.3f}, largest pull {largest:.2f}")


def _tight(factor: float, loose: float, tight: float) -> float:
    """Scale factor of the tight cut so that all jets that fail it have one weight."""
    return (1 - (1 - factor * loose) / (1 - loose) * (1 - tight)) / tight


def tell_agreement(templates: list[Templates]) -> None:
    """Largest difference of pyhf, from the start it suggests, and plain numpy; and the time of a fit."""
    worst, seconds = 0.0, 0.0
    for each in templates:
        minuit = cross_check.minimise(cross_check.likelihood(each, SETTINGS))
        model = model_of(workspace(each, SETTINGS))
        alone = minimised(model, np.concatenate([each.failing.data, each.passing.data, model.config.auxdata]))
        worst = max(worst, *(abs(alone.values[name] - minuit.values[name]) for name in ("sf_top", "sf_w", "sf_other")))
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
