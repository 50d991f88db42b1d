"""Training table to flat jets, folds and batches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from calibration_toys import ToyJets

from models.event_table import EventTable, joined
from models.training.samples import TEST, TRAINING, VALIDATION, Prior, Sample, batch_of, batches, folds, sample_of
from models.training.settings import FitSettings, LossSettings

NAMES = ("pt", "eta", "phi", "mass", "fraction_em3")


def toy(n: int = 400, n_data: int = 150) -> EventTable:
    return joined([ToyJets().table(n, seed=1), ToyJets().table(n_data, seed=2, is_mc=False)])


def sample(table: EventTable, **loss: float) -> Sample:
    return sample_of(table, NAMES, FitSettings(), LossSettings(**loss))  # type: ignore[arg-type]


def test_folds_are_those_of_the_event_and_have_their_shares() -> None:
    identity = np.random.default_rng(1).integers(0, 2**63, 100_000).astype(np.uint64)

    got = folds(identity, FitSettings(validation=0.2, test=0.3))

    shares = [np.mean(got == fold) for fold in (TRAINING, VALIDATION, TEST)]
    assert shares == pytest.approx([0.5, 0.2, 0.3], abs=0.01)
    np.testing.assert_array_equal(folds(identity[::-1], FitSettings(validation=0.2, test=0.3)), got[::-1])


def test_pairs_are_the_leading_jets_with_the_forward_one_first() -> None:
    got = sample(toy())

    for is_mc in (True, False):
        first = got.pairs(is_mc=is_mc)
        assert len(first) == (400 if is_mc else 150)
        assert np.all(got.abs_eta[first] >= got.abs_eta[first + 1])


def test_data_are_not_compared_with_truth() -> None:
    got = sample(toy())

    of_data = np.repeat(~got.is_mc, np.diff(got.offsets))
    assert np.all(got.truth_weight[of_data] == 0)
    assert np.all(np.isnan(got.truth_pt[of_data]))


def test_jets_with_a_column_that_is_not_finite_are_left_out_with_their_pairs() -> None:
    table = toy(10, 0)
    column = table.jets["n90"].copy()
    column[3, 0], column[5, 2] = np.nan, np.inf

    got = sample(replace(table, jets={**table.jets, "n90": column}))

    # the third jets of the toy are too soft to be compared, and the columns of a network do not matter
    assert np.isfinite(got.features).all()
    assert len(got) == 19
    assert got.n_events == 10
    assert (got.pair_weight > 0).sum() == 9


def test_truth_of_a_pair_is_known_where_it_is_not_compared() -> None:
    table = toy(10, 2)
    crowded = {**table.jets, "truth_isolation": np.zeros_like(table.jets["truth_isolation"])}

    got = sample(replace(table, jets=crowded))

    assert np.isnan(got.truth_pt).all()
    np.testing.assert_array_equal(np.isfinite(got.matched_pt), np.repeat(got.is_mc, 2))


def test_data_can_be_left_out() -> None:
    assert sample(toy(), data=False).n_events == 400


def test_jets_are_compared_with_truth_whatever_they_look_like_themselves() -> None:
    table = toy(n_data=1)
    jets = dict(table.jets)
    jets["truth_rank"] = np.where(np.arange(len(table))[:, None] < 100, -1, jets["truth_rank"]).astype(np.float32)
    jets["truth_isolation"] = jets["truth_isolation"].copy()
    jets["truth_isolation"][100:150] = 0.5

    got = sample(replace(table, jets=jets))

    assert (got.truth_weight > 0).sum() == 2 * 250


def test_constituents_stay_with_their_jets() -> None:
    got = sample(toy())

    sums = np.add.reduceat(got.constituents.values[:, 3], got.constituents.offsets[:-1])
    np.testing.assert_allclose(sums, got.pt, rtol=1e-5)


def test_a_batch_has_whole_events_with_indices_of_its_own() -> None:
    got = sample(toy())

    batch = batch_of(got, np.array([5, 3, 420]))

    assert len(batch["jets"]) == 6
    assert batch["first"].tolist() == [0, 2, 4]
    assert batch["second"].tolist() == [1, 3, 5]
    assert batch["pair_is_mc"].tolist() == [1, 1, 0]
    assert batch["truth_weight"][-2:].tolist() == [0, 0]
    np.testing.assert_array_equal(batch["segments"], np.repeat(np.arange(6), 2))
    np.testing.assert_allclose(np.exp(batch["log_truth"][:2]), got.truth_pt[got.offsets[5] : got.offsets[6]], rtol=1e-6)


def test_the_jets_of_an_event_never_share_a_cell_of_the_constraint() -> None:
    got = sample(toy())

    first = np.concatenate([got.pairs(is_mc=True), got.pairs(is_mc=False)])
    assert set(got.shift_cell[first]).isdisjoint(got.shift_cell[first + 1])
    assert got.shift_cell.max() < got.n_shift_cells


def test_every_event_of_simulation_is_seen_once_and_data_begin_anew() -> None:
    got = sample(toy(400, 50))

    seen = list(batches(got, 100, np.random.default_rng(1)))

    pt = np.concatenate([batch["jets"][:, 0] for batch in seen])
    n_data = sum(int((1 - batch["pair_is_mc"]).sum()) for batch in seen)
    assert len(seen) == 4
    assert n_data == 400
    assert len(pt) == 2 * 800
    assert set(pt) == set(got.pt.astype(np.float32))


def test_drawn_momenta_have_the_density_of_the_sample() -> None:
    got = sample(toy(20_000, 1))
    prior = Prior.of(got)
    log_pt = np.random.default_rng(2).choice(np.log(got.pt), 40_000)

    drawn = prior.draw(log_pt, 4, np.random.default_rng(3))

    # every jet draws from the whole density, cut where its proposal does not reach: near the jet they agree
    near = np.abs(drawn["drawn"] - 5.0) < 0.1
    inside = np.abs(log_pt - 5.0) < 0.5
    share = (drawn["drawn_weight"] * near)[inside].sum() / (4 * inside.sum())
    truth = got.truth_weight > 0
    expected = np.average(np.abs(np.log(got.truth_pt[truth]) - 5.0) < 0.1, weights=got.truth_weight[truth])
    assert share == pytest.approx(expected, rel=0.1)
