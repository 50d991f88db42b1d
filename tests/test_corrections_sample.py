"""Sums of a sample as the arrays that are measured."""

from __future__ import annotations

import numpy as np
import pytest

from corrections.sample import Sample, join
from processors.binning import SPECTRUM_EDGES, Binning
from processors.histograms import MATRIX_MOMENTS, MOMENTS, DatasetSums, SparseSums
from processors.selection import CUTFLOW_STEPS

BINNING = Binning(eta=(0.0, 0.5, 1.0), reference=(0.0, 0.5), pt_avg=(50, 100, 200), rho=(0.0, 10.0, 20.0))
N_CELLS = BINNING.shape[0] * BINNING.shape[1] * BINNING.shape[2] * BINNING.shape[4]


def some(rng: np.random.Generator, shape: tuple[int, ...], n_columns: int = 2) -> SparseSums:
    bins = np.unique(rng.integers(0, int(np.prod(shape)), 200))
    return SparseSums(bins, rng.uniform(0, 1, (len(bins), n_columns)), np.zeros((len(bins), 0), np.float32))


def sums(seed: int) -> DatasetSums:
    rng = np.random.default_rng(seed)
    return DatasetSums(
        some(rng, BINNING.shape),
        some(rng, BINNING.shape),
        some(rng, BINNING.response_shape),
        rng.uniform(0, 1, (N_CELLS, len(MOMENTS))),
        rng.uniform(0, 1, (len(SPECTRUM_EDGES) - 1, 2)),
        np.zeros((len(CUTFLOW_STEPS), 2)),
        {},
        some(rng, BINNING.matrix_shape, 4),
        some(rng, BINNING.balance_shape),
        np.array([[2.0, 10.0], [0.0, 0.0], [4.0, 100.0]]),
    )


def test_responses_are_the_sum_over_rho() -> None:
    sample = Sample("simulation", sums(1), BINNING)
    for whole, parts in zip(sample.responses(), sample.responses_by_rho(), strict=True):
        assert parts.shape == (2, 2, 3, 250)
        np.testing.assert_allclose(whole, parts.sum(axis=2))
    assert sample.responses()[0].sum() == pytest.approx(sample.sums.response.sums[:, 0].sum())


def test_the_mean_rho_of_an_empty_bin_is_unknown() -> None:
    np.testing.assert_array_equal(Sample("simulation", sums(1), BINNING).mean_rho(), [5.0, np.nan, 25.0])


def test_the_matrix_is_given_by_the_name_of_its_moments() -> None:
    matrix = Sample("simulation", sums(2), BINNING).matrix()
    dense = sums(2).matrix.dense(BINNING.matrix_shape)
    assert tuple(matrix) == MATRIX_MOMENTS
    for i, values in enumerate(matrix.values()):
        np.testing.assert_array_equal(values, dense[..., i])


def test_a_component_of_the_balance_is_its_slice_of_the_sums() -> None:
    sample = Sample("simulation", sums(3), BINNING)
    dense = sums(3).balance.dense(BINNING.balance_shape)
    for c, component in enumerate(("psi", "eta", "mpf", "mpfx")):
        for k, level in enumerate(("reco", "truth")):
            got = sample.balance(component, level, 1, 0)
            np.testing.assert_array_equal(got.counts, dense[c, k, 1, 0, ..., 0])
            np.testing.assert_array_equal(got.variances, dense[c, k, 1, 0, ..., 1])
            assert got.replicas.shape == (0, 2, 200)


def test_a_normalisation_multiplies_sums_and_its_square_their_squares() -> None:
    plain, scaled = (join("simulation", [(sums(4), factor)], BINNING) for factor in (1.0, 3.0))
    for name, values in scaled.matrix().items():
        power = 9.0 if name == "weight_squared" else 3.0
        np.testing.assert_allclose(values, power * plain.matrix()[name])
    got, expected = scaled.balance("psi", "reco", 0, 1), plain.balance("psi", "reco", 0, 1)
    np.testing.assert_allclose(got.counts, 3 * expected.counts)
    np.testing.assert_allclose(got.variances, 9 * expected.variances)
    np.testing.assert_array_equal(scaled.mean_rho(), plain.mean_rho())


def test_a_sample_without_pairs_has_empty_arrays() -> None:
    plain = sums(5)
    bare = DatasetSums(
        plain.asymmetry, plain.truth_asymmetry, plain.response, plain.moments, plain.spectrum, plain.cutflow
    )
    sample = join("data", [(bare, 2.0)], BINNING)
    assert not sample.matrix()["weight"].any()
    assert not sample.balance("mpf", "reco", 0, 0).counts.any()
    assert np.isnan(sample.mean_rho()).all()
