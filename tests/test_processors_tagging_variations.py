"""What variations do to large-R jets, against widths that are known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from large_jet_toys import ragged, random_jet
from scipy.stats import kstest

from models.features import RaggedConstituents
from processors.errors import InputError
from processors.large_jets import ChosenJets
from processors.settings_file import settings_from
from processors.tagging_variations import (
    Factors,
    Shift,
    TaggingSystematics,
    factors_of,
    normals,
    reach,
    resolution_factors,
    shifts_of,
    varied_columns,
    varied_constituents,
)

N = 50_000
RNG = np.random.default_rng(1)
IDENTITY = RNG.integers(0, 2**63, N).astype(np.uint64)
SYSTEMATICS = TaggingSystematics(jer=0.3, jmr=0.3, pt_resolution=0.08, mass_resolution=0.15)


def jets(*, has_truth: bool) -> ChosenJets:
    """Jets of 500 GeV and 80 GeV in truth, with the resolutions of the settings."""
    rng = np.random.default_rng(2)
    pt, mass = 500 * (1 + 0.08 * rng.normal(size=N)), 80 * (1 + 0.15 * rng.normal(size=N))
    nothing = RaggedConstituents(np.zeros(N + 1, np.int64), np.zeros((0, 4), np.float32))
    of_truth: list[Any] = [np.full(N, value if has_truth else np.nan, np.float32) for value in (500.0, 80.0)]
    places = np.arange(N)
    columns = {"pt": pt.astype(np.float32), "mass": mass.astype(np.float32)}
    return ChosenJets(places, places, columns, nothing, nothing, places, *of_truth)


@pytest.mark.parametrize(("name", "truth"), [("pt", 500.0), ("mass", 80.0)])
@pytest.mark.parametrize("has_truth", [True, False])
@pytest.mark.parametrize("change", [0.3, -0.3])
def test_a_resolution_changes_by_as_much_as_is_asked_for(
    name: str, truth: float, change: float, *, has_truth: bool
) -> None:
    chosen = jets(has_truth=has_truth)
    shift = Shift(energy_resolution=change) if name == "pt" else Shift(mass_resolution=change)

    varied = varied_columns(chosen.columns, factors_of(chosen, IDENTITY, shift, SYSTEMATICS))[name]

    # what has no truth jet cannot get better
    expected = 1 + change if has_truth or change > 0 else 1.0
    assert np.std(varied) / np.std(chosen.columns[name]) == pytest.approx(expected, rel=0.02)
    assert np.mean(varied) == pytest.approx(truth, rel=2e-3)


def test_a_varied_energy_moves_masses_and_constituents_but_no_ratios() -> None:
    columns = {name: np.full(2, 10.0, np.float32) for name in ("pt", "mass", "mass_plain", "split12", "tau21", "eta")}
    parts = ragged(random_jet(RNG, 2), random_jet(RNG, 3))
    factors = Factors(energy=np.array([1.0, 2.0]))

    found = varied_columns(columns, factors)

    for name, expected in (("pt", 20), ("mass", 20), ("mass_plain", 20), ("split12", 20), ("tau21", 10), ("eta", 10)):
        np.testing.assert_allclose(found[name], [10, expected])
    each = np.array([1, 1, 2, 2, 2])[:, np.newaxis]
    np.testing.assert_allclose(varied_constituents(parts, factors).values, parts.values * each)


def test_a_varied_mass_moves_masses_alone() -> None:
    columns = {name: np.full(1, 10.0, np.float32) for name in ("pt", "mass", "mass_plain", "split12")}
    parts = ragged(random_jet(RNG, 2))
    factors = Factors(mass=np.array([1.5]))

    found = varied_columns(columns, factors)

    assert {name: float(values[0]) for name, values in found.items()} == {
        "pt": 10, "mass": 15, "mass_plain": 15, "split12": 10,
    }  # fmt: skip
    assert varied_constituents(parts, factors) is parts


def test_random_numbers_are_normal_and_belong_to_the_jet() -> None:
    first = normals(IDENTITY, "jer")

    assert kstest(first, "norm").pvalue > 0.01
    np.testing.assert_array_equal(normals(IDENTITY[::-1], "jer"), first[::-1])
    assert abs(np.corrcoef(first, normals(IDENTITY, "jmr"))[0, 1]) < 4 / np.sqrt(N)


def test_a_jet_far_from_its_truth_jet_moves_by_no_more_than_the_change() -> None:
    found = resolution_factors(np.array([10.0, 100.0, 0.0]), np.array([500.0, 0.0, 50.0]), 0.2, np.zeros(3))

    np.testing.assert_allclose(found, [0.8, 1.2, 1.0])


@pytest.mark.parametrize("has_truth", [True, False])
def test_no_jet_moves_beyond_the_reach(*, has_truth: bool) -> None:
    shifts = shifts_of(SYSTEMATICS, is_mc=True, has_pileup_weights=False)

    lowest, highest = reach(shifts.values(), SYSTEMATICS)

    for shift in shifts.values():
        energy = factors_of(jets(has_truth=has_truth), IDENTITY, shift, SYSTEMATICS).energy
        if energy is not None:
            assert lowest <= energy.min() <= energy.max() <= highest


def test_a_variation_of_size_zero_is_none() -> None:
    systematics = replace(TaggingSystematics(), jes=0.0, jmr=0.0, parton_shower=False)

    names = list(shifts_of(systematics, is_mc=True, has_pileup_weights=True))

    assert names == ["nominal", "jms_up", "jer_up", "jms_down", "jer_down", "pu_up", "pu_down"]
    assert list(shifts_of(systematics, is_mc=False, has_pileup_weights=True)) == ["nominal"]


@pytest.mark.parametrize(("name", "value"), [("jer", 1.0), ("jmr", -0.1), ("pt_resolution", 0.0)])
def test_sizes_that_mean_nothing_are_refused(name: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"systematics\..*{name}"):
        settings_from(TaggingSystematics, {name: value}, "toy")
