"""Bins in which robustness is told."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from models.tagging.metrics import NPV_EDGES, PT_EDGES, BinOfVariable
from models.tagging.robustness import as_plain, binned_variables, draw_bins, variable_edges


def test_jets_in_the_bins_of_pt_have_these_and_others_bins_of_equal_population() -> None:
    rng = np.random.default_rng(1)

    assert variable_edges(rng.uniform(250, 1000, 1000), PT_EDGES) == PT_EDGES
    edges = variable_edges(values := rng.exponential(1, 1000), PT_EDGES)
    np.testing.assert_allclose(np.histogram(values, edges)[0], 200)


def test_without_pile_up_the_condition_alone_is_told() -> None:
    pt = np.linspace(200, 400, 10)

    assert list(binned_variables(pt, None)) == ["condition"]
    assert binned_variables(pt, pt / 20)["pileup"].edges == NPV_EDGES


def test_pile_up_beyond_the_usual_bins_has_bins_of_equal_population_without_what_is_not_known() -> None:
    pileup = np.append(np.random.default_rng(2).uniform(40, 70, 1000), np.nan)

    edges = binned_variables(np.full(1001, 300.0), pileup)["pileup"].edges

    np.testing.assert_allclose(np.histogram(pileup[:-1], edges)[0], 200)


def test_what_is_not_finite_becomes_null() -> None:
    (plain,) = as_plain([BinOfVariable(200, 260, 0.5, np.inf, np.nan, 0.1)])

    assert plain == {
        "low": 200, "high": 260, "efficiency_signal": 0.5, "rejection": None, "jsd": None, "random": 0.1,
    }  # fmt: skip


def test_bins_without_jets_are_not_drawn() -> None:
    axes = Figure().subplots(1, 2)
    empty = BinOfVariable(0, 1, np.nan, np.nan, np.nan, np.nan)

    draw_bins(axes, {"one": [empty, BinOfVariable(1, 3, 0.5, 10.0, 0.01, 0.002)], "two": [empty]}, "pT")

    lines = axes[1].lines
    assert [list(line.get_xdata()) for line in lines] == [[2.0], [2.0], [], []]
    assert [list(line.get_ydata()) for line in lines[:2]] == [[100.0], [500.0]]
    assert axes[1].get_yscale() == "log"
