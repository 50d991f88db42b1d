from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from samples.response import DetectorSettings, eta_bin, reconstruct, relative_resolution
from samples.toy import toy_events
from samples.truth import TruthEvents, event_of_jet

if TYPE_CHECKING:
    from numpy.typing import NDArray

QUIET = DetectorSettings(pileup_jets=0.0, noise_jets=0.0)


def single_jets(n_events: int, pt: float, abs_eta: float) -> TruthEvents:
    ones = np.ones(n_events)
    return TruthEvents(np.arange(n_events + 1), pt * ones, abs_eta * ones, 0.3 * ones, 9.0 * ones, ones, pt * ones)


def response_of(truth: TruthEvents, *, is_data: bool) -> NDArray[np.float64]:
    reco = reconstruct(truth, QUIET, np.random.default_rng(3), is_data=is_data)
    start = truth.offsets[event_of_jet(reco.offsets)]
    return np.asarray(reco.pt / truth.pt[start + reco.truth_index])


def test_resolution_is_the_sum_of_noise_stochastic_and_constant_terms() -> None:
    got = relative_resolution(np.array([100.0]), np.array([-0.1]), np.array([20.0]), DetectorSettings())

    # (2.6^2 + 0.55^2 * 20) / 100^2 + 0.80^2 / 100 + 0.048^2 = 0.001281 + 0.0064 + 0.002304
    assert got == pytest.approx([0.009985**0.5])


def test_noise_grows_with_rho() -> None:
    quiet, busy = relative_resolution(np.full(2, 25.0), np.zeros(2), np.array([5.0, 40.0]), DetectorSettings())

    assert busy > quiet


def test_jets_beyond_the_last_edge_belong_to_the_last_bin() -> None:
    assert eta_bin(np.array([-4.9, 4.4, 3.5, 0.2, 0.0]), DetectorSettings()).tolist() == [9, 9, 8, 1, 0]


@pytest.mark.parametrize("index", range(10))
def test_injected_response_and_width_come_back_in_every_eta_bin(index: int) -> None:
    settings = DetectorSettings()
    center = 0.5 * (settings.eta_edges[index] + settings.eta_edges[index + 1])
    truth = single_jets(100_000, 300.0, center)

    simulation, data = response_of(truth, is_data=False), response_of(truth, is_data=True)

    # rms of 1e5 jets with 2 % of tails: relative error about 0.3 %, the same random numbers on both sides
    assert simulation.mean() == pytest.approx(1.0, abs=0.002)
    assert data.mean() == pytest.approx(settings.response[index], abs=0.002)
    ratio = (data.std() / data.mean()) / (simulation.std() / simulation.mean())
    assert ratio == pytest.approx(settings.scale_factor[index], rel=2e-3)
    tails = np.sqrt(1.0 + settings.tail_fraction[index] * (settings.tail_width**2 - 1.0))
    core = relative_resolution(np.array([300.0]), np.array([center]), np.array([20.75]), settings)[0]
    assert simulation.std() == pytest.approx(core * tails, rel=0.015)


def test_scale_factors_and_responses_stay_in_the_promised_ranges() -> None:
    settings = DetectorSettings()

    assert all(1.05 <= value <= 1.25 for value in settings.scale_factor)
    assert all(0.97 <= value <= 1.02 for value in settings.response)
    tables = (settings.noise, settings.noise_rho, settings.stochastic, settings.constant, settings.tail_fraction)
    assert {len(table) for table in (*tables, settings.scale_factor, settings.response)} == {settings.n_bins}


def test_reconstructed_jets_fall_in_pt_and_point_to_their_truth_jet() -> None:
    truth = toy_events(5000, np.random.default_rng(1))
    reco = reconstruct(truth, DetectorSettings(), np.random.default_rng(2), is_data=False)

    event = event_of_jet(reco.offsets)
    same_event = event[1:] == event[:-1]
    assert (np.diff(reco.pt)[same_event] <= 0).all()
    assert reco.pt.min() > 10.0
    matched = reco.truth_index >= 0
    partner = truth.offsets[event] + reco.truth_index
    assert np.abs(reco.eta[matched] - truth.eta[partner[matched]]).max() < 0.5
    assert (reco.truth_index < np.diff(truth.offsets)[event]).all()


def test_offset_of_an_uncalibrated_jet_is_rho_times_area() -> None:
    truth = toy_events(2000, np.random.default_rng(1))
    reco = reconstruct(truth, DetectorSettings(), np.random.default_rng(2), is_data=False)

    offset = reco.pt * (1.0 - reco.raw_factor) - reco.pt

    assert offset == pytest.approx(reco.rho[event_of_jet(reco.offsets)] * reco.area)


def test_only_data_have_noise_jets_and_they_fail_identification() -> None:
    settings = DetectorSettings(pileup_jets=0.0, noise_jets=1.0)
    truth = single_jets(1000, 300.0, 0.1)

    simulation = reconstruct(truth, settings, np.random.default_rng(1), is_data=False)
    data = reconstruct(truth, settings, np.random.default_rng(1), is_data=True)

    assert (simulation.truth_index >= 0).all()
    noise = data.truth_index < 0
    assert noise.sum() == 1000
    assert (data.jet_id[noise] == 0).all()
