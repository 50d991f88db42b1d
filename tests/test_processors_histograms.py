"""Sparse sums, their order-free addition, and the histograms they become."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.binning import Binning
from processors.histograms import (
    MOMENTS,
    DatasetSums,
    Filled,
    OrderedSum,
    SparseSums,
    VariedSums,
    cutflow_rows,
    to_hist,
)
from processors.selection import CUTFLOW_STEPS

BINNING = Binning(eta=(0.0, 0.5, 1.0), reference=(0.0, 0.5), pt_avg=(50, 100, 200), asymmetry_bins=20)
N_TOTAL = int(np.prod(BINNING.shape))
N_CELLS = BINNING.shape[0] * BINNING.shape[1] * BINNING.shape[2] * BINNING.shape[4]


def sparse(rng: np.random.Generator, n_replicas: int = 3) -> SparseSums:
    bins = np.unique(rng.integers(0, N_TOTAL, rng.integers(0, 40)))
    return SparseSums(
        bins, rng.uniform(0, 1, (len(bins), 2)), rng.uniform(0, 1, (len(bins), n_replicas)).astype(np.float32)
    )


def filled(seed: int, name: str = "data") -> Filled:
    rng = np.random.default_rng(seed)
    sums = DatasetSums(
        sparse(rng),
        sparse(rng),
        SparseSums.empty(),
        rng.uniform(0, 1, (N_CELLS, len(MOMENTS))),
        rng.uniform(0, 1, (80, 2)),
        rng.integers(0, 9, (len(CUTFLOW_STEPS), 2)).astype(float),
        {"jets with non-finite pt": seed},
        pair_sums(rng),
        some(rng, int(np.prod(BINNING.balance_shape)), 2),
        rng.uniform(0, 1, (len(BINNING.rho), 2)),
    )
    return Filled({name: sums}, {"jes_up": {name: varied(rng)}, "dphi_up": {name: varied(rng)}})


def pair_sums(rng: np.random.Generator) -> SparseSums:
    return some(rng, int(np.prod(BINNING.matrix_shape)), 4)


def some(rng: np.random.Generator, n_total: int, n_columns: int) -> SparseSums:
    bins = np.unique(rng.integers(0, n_total, 30))
    return SparseSums(bins, rng.uniform(0, 1, (len(bins), n_columns)), np.zeros((len(bins), 0), np.float32))


def varied(rng: np.random.Generator) -> VariedSums:
    return VariedSums(sparse(rng, 0), sparse(rng, 0), rng.uniform(0, 1, (N_CELLS, len(MOMENTS))))


def digest(value: Filled) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in value.to_arrays().items()}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31))
def test_sparse_sums_add_like_dense_ones(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = sparse(rng), sparse(rng)
    got = a + b
    np.testing.assert_allclose(got.dense((N_TOTAL,)), a.dense((N_TOTAL,)) + b.dense((N_TOTAL,)))
    assert np.all(np.diff(got.bins) > 0)


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(11)), st.integers(1, 10))
def test_any_order_and_grouping_of_chunks_gives_the_same_bits(order: list[int], cut: int) -> None:
    chunks = [OrderedSum.single(i, filled(i)) for i in range(11)]
    straight = OrderedSum({})
    for chunk in chunks:
        straight = straight + chunk

    left, right = OrderedSum({}), OrderedSum({})
    for i in order[:cut]:
        left = left + chunks[i]
    for i in order[cut:]:
        right = right + chunks[i]

    assert digest((left + right).total()) == digest(straight.total())


def test_a_missing_chunk_leaves_the_sum_of_the_others() -> None:
    chunks = [filled(i) for i in (0, 1, 3)]
    total = sum((OrderedSum.single(i, f) for i, f in zip((0, 1, 3), chunks, strict=True)), OrderedSum({})).total()
    expected = sum(chunk.datasets["data"].moments for chunk in chunks)
    np.testing.assert_allclose(total.datasets["data"].moments, expected)


def test_a_chunk_cannot_be_added_twice() -> None:
    with pytest.raises(ValueError, match="added twice"):
        OrderedSum.single(4, filled(1)) + OrderedSum.single(4, filled(1))


def test_pending_nodes_stay_few_when_chunks_come_in_order() -> None:
    total = OrderedSum({})
    for i in range(100):
        total = total + OrderedSum.single(i, filled(1))
        assert len(total.nodes) <= 7


def test_datasets_stay_apart_and_exclusions_add() -> None:
    total = filled(1, "a") + filled(2, "b") + filled(5, "a")
    assert list(total.datasets) == ["a", "b"]
    assert total.datasets["a"].excluded == {"jets with non-finite pt": 6}


def test_variations_add_within_their_name_and_dataset() -> None:
    a, b, c = filled(1, "a"), filled(2, "b"), filled(5, "a")
    total = a + b + c
    assert {name: list(members) for name, members in total.varied.items()} == {
        "jes_up": ["a", "b"],
        "dphi_up": ["a", "b"],
    }
    expected = a.varied["jes_up"]["a"].moments + c.varied["jes_up"]["a"].moments
    np.testing.assert_array_equal(total.varied["jes_up"]["a"].moments, expected)


def test_a_variation_replaces_what_it_keeps_and_leaves_the_rest_nominal() -> None:
    value = filled(1, "simulation") + Filled(filled(2, "data").datasets)

    got = value.variation("jes_up").datasets

    own, nominal = value.varied["jes_up"]["simulation"], value.datasets["simulation"]
    assert got["simulation"].asymmetry is own.asymmetry
    assert got["simulation"].truth_asymmetry is own.truth_asymmetry
    assert got["simulation"].moments is own.moments
    assert got["simulation"].cutflow is nominal.cutflow
    assert got["data"] is value.datasets["data"]


def test_histograms_of_variations_sum_over_groups_of_alpha() -> None:
    value = filled(4, "data")
    shape = BINNING.shape
    got: Any = to_hist(value, BINNING)["variations"]
    assert list(got.axes.name) == ["dataset", "variation", "eta", "region", "pt_avg", "alpha", "asymmetry"]
    assert list(got.axes["alpha"].edges) == [0.0, 0.1, 0.2]
    for name, members in value.varied.items():
        dense = members["data"].asymmetry.dense(shape)[:, :, :, :, 1]
        expected = np.stack([dense[:, :, :, a:b].sum(axis=3) for a, b in BINNING.alpha_groups], axis=3)
        view = got[{"variation": name}].view(flow=True)
        np.testing.assert_allclose(view.value[0], expected[..., 0], rtol=1e-12)
        np.testing.assert_allclose(view.variance[0], expected[..., 1], rtol=1e-12)


def test_arrays_carry_everything_there_and_back() -> None:
    value = filled(1, "a") + filled(2, "b")
    assert digest(Filled.from_arrays(value.to_arrays())) == digest(value)


def test_histograms_hold_the_sums_in_the_right_cells() -> None:
    value = filled(4, "data")
    sums = value.datasets["data"]
    histograms = to_hist(value, BINNING)

    got: Any = histograms["asymmetry"]
    assert list(got.axes.name) == ["dataset", "eta", "region", "pt_avg", "alpha", "third_jet", "asymmetry"]
    for row in range(len(sums.asymmetry.bins)):
        place = np.unravel_index(sums.asymmetry.bins[row], BINNING.shape)
        cell = got.view(flow=True)[(0, *place)]
        assert cell.value == pytest.approx(sums.asymmetry.sums[row, 0])
        assert cell.variance == pytest.approx(sums.asymmetry.sums[row, 1])
    assert got.view(flow=True).value.sum() == pytest.approx(sums.asymmetry.sums[:, 0].sum())
    pt_avg: Any = histograms["moments"][{"moment": "pt_avg"}]
    assert pt_avg.sum(flow=True) == pytest.approx(sums.moments[:, MOMENTS.index("pt_avg")].sum())


def test_histograms_of_pairs_and_components_hold_the_sums() -> None:
    value = filled(4, "data")
    sums, histograms = value.datasets["data"], to_hist(value, BINNING)
    matrix: Any = histograms["matrix"]
    names = ["dataset", "eta_probe", "eta_reference", "pt_avg", "alpha", "third_jet", "moment"]
    assert list(matrix.axes.name) == names
    np.testing.assert_array_equal(matrix.view(flow=True)[0], sums.matrix.dense(BINNING.matrix_shape))
    balance: Any = histograms["balance"]
    assert list(balance.axes.name) == ["dataset", "component", "level", "eta", "region", "pt_avg", "value"]
    expected = sums.balance.dense(BINNING.balance_shape)
    np.testing.assert_array_equal(balance.view(flow=True).value[0], expected[..., 0])
    np.testing.assert_array_equal(balance.view(flow=True).variance[0], expected[..., 1])


def test_cutflow_rows_name_every_step_of_every_dataset() -> None:
    rows = cutflow_rows(filled(1, "a") + filled(2, "b"))
    assert [row[1] for row in rows] == [*CUTFLOW_STEPS, *CUTFLOW_STEPS]
    assert {row[0] for row in rows} == {"a", "b"}


def test_a_reference_region_that_cuts_a_bin_is_refused() -> None:
    with pytest.raises(ValueError, match=r"binning\.reference"):
        Binning(eta=(0.0, 0.5, 1.0), reference=(0.0, 0.7))


def test_reference_bins_are_those_inside_the_region() -> None:
    assert Binning().reference_bins == (1,)
    assert Binning(scheme="cms").reference_bins == (0, 1, 2)
