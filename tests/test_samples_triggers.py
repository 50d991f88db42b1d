from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import awkward as ak
import numpy as np
import pytest
import uproot

from samples.response import DetectorSettings, reconstruct
from samples.toy import toy_events, write_toy
from samples.triggers import MAX_SHARE_ABOVE_ONE, TriggerMenu, largest_k, owner, record, share_above_one, trigger_pt_avg
from samples.writing import SampleOptions

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from samples.writing import GeneratedSample

SAME_DETECTOR = DetectorSettings(scale_factor=(1.0,) * 10, response=(1.0,) * 10, noise_jets=0.0)


@pytest.fixture(name="sample", scope="module")
def _sample(tmp_path_factory: pytest.TempPathFactory) -> GeneratedSample:
    folder: Path = tmp_path_factory.mktemp("triggers")
    return write_toy(folder, 60_000, seed=11, options=SampleOptions(detector=SAME_DETECTOR))


def test_prescales_follow_a_power_of_the_threshold_and_the_top_one_is_one() -> None:
    menu = TriggerMenu(thresholds=(50.0, 100.0))

    # (100 / 50)^4.5 = 22.6274
    assert menu.prescales == pytest.approx([22.627417, 1.0])


def test_the_highest_threshold_below_pt_avg_owns_an_event() -> None:
    assert owner(np.array([39.9, 40.0, 51.9, 5000.0]), TriggerMenu()).tolist() == [-1, 0, 0, 11]


def test_pt_avg_of_the_trigger_ignores_jets_that_fail_identification() -> None:
    truth = toy_events(500, np.random.default_rng(1))
    reco = reconstruct(truth, DetectorSettings(), np.random.default_rng(2), is_data=True)
    first = reco.offsets[:-1][np.diff(reco.offsets) >= 1]
    flawed = reco.jet_id.copy()
    flawed[first] = 0

    got = trigger_pt_avg(replace(reco, jet_id=flawed))

    jets = ak.unflatten(reco.pt[flawed > 0], np.add.reduceat(flawed > 0, first)) if len(first) == 500 else None
    assert jets is not None
    expected = ak.fill_none(ak.sum(ak.mask(jets, ak.num(jets) >= 2)[:, :2], axis=1) / 2.0, 0.0)
    assert got == pytest.approx(ak.to_numpy(expected))


def test_largest_k_of_equal_weights_is_just_above_one() -> None:
    # share above one is (k - 1) / k = 0.001
    assert largest_k(np.full(100, 2.0), max_share=1e-3) == pytest.approx(0.5 / 0.999)


def test_share_above_one_is_what_cannot_be_recorded() -> None:
    assert share_above_one(np.array([0.5, 3.0, 1.5])) == pytest.approx(2.5 / 5.0)


def test_every_trigger_has_its_own_prescale_in_recorded_events() -> None:
    menu = TriggerMenu(thresholds=(50.0, 100.0))
    n_events = 400_000

    decision = record(np.full(n_events, 0.5), np.full(n_events, 150.0), 1.0, menu, np.random.default_rng(1))

    # k w / p = 0.5 / 22.627 and 0.5: four standard deviations of a binomial
    for rate, expected in zip(decision.bits.mean(axis=0), (0.0220971, 0.5), strict=True):
        assert rate == pytest.approx(expected, abs=4.0 * np.sqrt(expected / n_events))
    assert (decision.owned == decision.bits[:, 1]).all()


def test_events_below_the_lowest_threshold_are_not_recorded() -> None:
    decision = record(np.full(10, 1e9), np.full(10, 39.9), 1.0, TriggerMenu(), np.random.default_rng(1))

    assert not decision.recorded.any()


def test_lost_share_of_a_sample_stays_below_one_in_a_thousand(sample: GeneratedSample) -> None:
    assert sample.counts["data"].share_above_one < MAX_SHARE_ABOVE_ONE


def test_prescale_weighted_data_follow_the_spectrum_of_simulation(sample: GeneratedSample) -> None:
    menu = TriggerMenu()
    edges = np.array([40.0, 52.0, 68.0, 88.0, 115.0, 150.0, 195.0, 250.0, 325.0, 425.0, 550.0, 715.0, 1000.0, 1500.0])
    simulation = uproot.open(sample.folder / "simulation.root")["Events"].arrays()
    data = uproot.open(sample.folder / "data.root")["Events"].arrays()

    weight = ak.to_numpy(simulation.genWeight).astype(np.float64)
    pt_simulation, pt_data = stored_pt_avg(simulation), stored_pt_avg(data)
    index = np.maximum(owner(pt_data, menu), 0)
    bits = np.stack([ak.to_numpy(data[path]) for path in menu.paths], axis=1)
    prescale = menu.prescales[index] * bits[np.arange(len(index)), index] / sample.k

    expected, got = (
        np.histogram(*pair[:1], edges, weights=pair[1])[0] for pair in ((pt_simulation, weight), (pt_data, prescale))
    )
    variance = sum(np.histogram(pt, edges, weights=w**2)[0] for pt, w in ((pt_simulation, weight), (pt_data, prescale)))
    pulls = (got - expected) / np.sqrt(variance)
    # 13 bins: chi2 above 36 has a probability below 1e-3
    assert (pulls**2).sum() < 36.0


def stored_pt_avg(events: ak.Array) -> NDArray[np.float64]:
    pt = events.Jet_pt[events.Jet_jetId > 0]
    return np.asarray(ak.fill_none(ak.mean(ak.mask(pt, ak.num(pt) >= 2)[:, :2], axis=1), 0.0), dtype=np.float64)
