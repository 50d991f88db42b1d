from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from corrections.known_answer import Population, agreement, known_in, read_known_answer
from corrections.results import RATIO, Interval, Measurement, Point

if TYPE_CHECKING:
    from pathlib import Path

CONTENT = {
    "abs_eta_edges": [0.0, 1.0, 2.0, 3.0],
    "scale_factor": [1.1, 1.2, 1.3],
    "residual_relative": [0.98, 1.0, 1.02],
}
PT = Interval(40, 100)


def measurement(*values: tuple[float, float, float, float]) -> Measurement:
    """Scale factors as (|eta| low, high, value, error)."""
    points = [
        Point(
            "scale_factor",
            RATIO,
            "AK4PF",
            "template",
            "",
            Interval(low, high),
            Interval(40, 100),
            60.0,
            value,
            error,
            "ok",
        )
        for low, high, value, error in values
    ]
    return Measurement("AK4PF", tuple(points), (), (), 0)


def test_residuals_are_relative_to_the_reference_region(tmp_path: Path) -> None:
    (tmp_path / "injected.json").write_text(json.dumps(CONTENT))
    known = read_known_answer(tmp_path, (0.0, 2.0))  # mean of 0.98 and 1.00
    assert known["residual"][2] == pytest.approx((2.0, 3.0, 1.02 / 0.99))


def test_another_tune_in_data_has_no_known_answer(tmp_path: Path) -> None:
    content = {**CONTENT, "data_settings": {"tune": 5}, "simulation_settings": {"tune": 14}}
    (tmp_path / "injected.json").write_text(json.dumps(content))
    assert read_known_answer(tmp_path, (0.0, 1.0)) == {}
    assert read_known_answer(tmp_path / "none", (0.0, 1.0)) == {}


def test_a_wide_bin_has_the_mean_of_what_it_holds_and_a_doubt() -> None:
    truths = ((0.0, 1.0, 1.1), (1.0, 2.0, 1.2))
    assert known_in(0.5, 1.5, truths) == pytest.approx((1.15, 0.05 / 2**0.5))
    assert known_in(1.5, 5.0, truths) == pytest.approx((1.2, 0.0))


def test_pulls_add_up_to_a_probability() -> None:
    known = {"scale_factor": ((0.0, 1.0, 1.1), (1.0, 2.0, 1.2))}
    found = agreement([measurement((0.0, 1.0, 1.12, 0.01), (1.0, 2.0, 1.2, 0.01))], known)
    assert found is not None
    assert [round(pull.value, 6) for pull in found.pulls] == [2.0, 0.0]
    assert (found.chi2, found.ndf) == pytest.approx((4.0, 2))
    assert found.p_value == pytest.approx(0.135335, rel=1e-4)  # exp(-chi2 / 2) for two degrees of freedom
    assert not found.is_bad


def test_an_answer_five_errors_off_is_bad() -> None:
    found = agreement([measurement((0.0, 1.0, 1.15, 0.01))], {"scale_factor": ((0.0, 1.0, 1.1),)})
    assert found is not None
    assert found.is_bad


def test_jets_that_crowd_at_one_end_of_a_bin_weigh_what_was_put_in_there() -> None:
    truths = ((0.0, 1.0, 1.0), (1.0, 2.0, 2.0))
    # density exp(-2 |eta|), whose integrals are known
    edges = np.array([0.0, 0.5, 1.0, 1.5, 2.0])
    jets = np.exp(-2 * edges[:-1]) - np.exp(-2 * edges[1:])
    share = (np.exp(-2) - np.exp(-3)) / (np.exp(-1) - np.exp(-3))
    found, doubt = known_in(0.5, 1.5, truths, Population(edges, jets))
    assert found == pytest.approx(1 + share, abs=2e-3)
    assert doubt == pytest.approx(np.sqrt(share * (1 - share) / 2), rel=1e-2)


def test_where_jets_are_does_not_matter_inside_a_bin_with_one_value() -> None:
    population = Population(np.array([0.0, 1.0, 2.0]), np.array([9.0, 1.0]))
    assert known_in(0.2, 0.8, ((0.0, 1.0, 1.1), (1.0, 2.0, 1.2)), population) == pytest.approx((1.1, 0.0))


def test_what_is_known_from_finite_truth_adds_its_error(tmp_path: Path) -> None:
    content = {**CONTENT, "scale_factor_error": [0.03, 0.03, 0.03], "response_error": [0.0, 0.01, 0.01]}
    (tmp_path / "injected.json").write_text(json.dumps(content))
    found = agreement([measurement((0.0, 1.0, 1.15, 0.04))], read_known_answer(tmp_path, (0.0, 1.0)))
    assert found is not None
    assert found.pulls[0].error == pytest.approx(0.05)
    assert found.pulls[0].value == pytest.approx(1.0)
