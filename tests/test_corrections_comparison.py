from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from corrections.comparison import normalisations
from processors.fileset import Dataset, FileEntry
from processors.histograms import DatasetSums, Filled, SparseSums
from processors.selection import CUTFLOW_STEPS

if TYPE_CHECKING:
    from collections.abc import Sequence

LOW = Dataset("low", (FileEntry("low.root", None),), is_mc=True, xsec=100.0)
HIGH = replace(LOW, name="high", xsec=1.0)


def factors(datasets: Sequence[Dataset], generated: dict[str, float]) -> dict[str, float]:
    read = {"low": 50.0, "high": 10.0}
    filled = Filled({d.name: sums(read[d.name]) for d in datasets})
    return normalisations(filled, datasets, lambda _: "AK4PF", generated)


def sums(weight_read: float) -> DatasetSums:
    cutflow = np.zeros((len(CUTFLOW_STEPS), 2))
    cutflow[CUTFLOW_STEPS.index("all")] = weight_read
    empty = SparseSums.empty()
    return DatasetSums(empty, empty, empty, np.zeros((1, 1)), np.zeros((1, 2)), cutflow)


def test_slices_are_normalised_to_their_weights_before_a_skim() -> None:
    assert factors([LOW, HIGH], {"low": 500.0, "high": 20.0}) == pytest.approx({"low": 1.0, "high": 0.25})


def test_weights_before_a_skim_are_not_mixed_with_those_of_the_events_read() -> None:
    assert factors([LOW, HIGH], {"low": 500.0}) == pytest.approx({"low": 1.0, "high": 0.05})


def test_weights_before_a_skim_do_not_count_where_events_weigh_by_another_branch() -> None:
    other = [replace(LOW, weight="LHEWeight"), HIGH]
    assert factors(other, {"low": 500.0, "high": 20.0}) == pytest.approx({"low": 1.0, "high": 0.05})


def test_an_alternative_simulation_is_normalised_by_itself() -> None:
    other = replace(HIGH, role="alternative", process="herwig")
    assert factors([LOW, other], {"low": 500.0, "high": 20.0}) == pytest.approx({"low": 1.0, "high": 1.0})
