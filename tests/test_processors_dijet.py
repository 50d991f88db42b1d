"""A record of toy events through the main job: counts by hand, no trace of chunks, one choice for all variations."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from dijet_toys import toy_record

from processors import kernels
from processors.binning import BALANCE
from processors.dijet import DijetSettings, fill_record, leading, propagate, select_events, variations_of
from processors.event_filter import EventFilter, PileupWeights
from processors.fileset import Dataset, Trigger
from processors.histograms import MATRIX_MOMENTS, MOMENTS
from processors.jet_quality import good_jets
from processors.record import EventRecord, Jets
from processors.selection import CUTFLOW_STEPS
from processors.variations import Systematics

if TYPE_CHECKING:
    from processors.histograms import DatasetSums

SIMULATION = Dataset("simulation", (), is_mc=True)
SETTINGS = DijetSettings(replicas=5)
N = 6000


@pytest.fixture(scope="module")
def record() -> EventRecord:
    return toy_record(N, 12)


def nominal(record: EventRecord, dataset: Dataset, settings: DijetSettings) -> DatasetSums:
    return fill_record(record, dataset, settings).datasets[dataset.name]


def part(record: EventRecord, start: int, stop: int) -> EventRecord:
    """Events [start, stop) as a chunk of its own."""

    def jets(whole: Jets) -> Jets:
        inside = slice(whole.offsets[start], whole.offsets[stop])
        return Jets(
            whole.offsets[start : stop + 1] - whole.offsets[start],
            whole.pt[inside],
            whole.eta[inside],
            whole.phi[inside],
            whole.mass[inside],
            {name: column[inside] for name, column in whole.extra.items()},
        )

    names = ("run", "luminosity_block", "event", "identity", "weight", "rho")
    assert record.truth is not None
    return replace(
        record,
        entry_start=start,
        jets=jets(record.jets),
        truth=jets(record.truth),
        **{name: getattr(record, name)[start:stop] for name in names},
    )


def steps(sums: DatasetSums) -> dict[str, tuple[float, float]]:
    return {name: (raw, weighted) for name, (raw, weighted) in zip(CUTFLOW_STEPS, sums.cutflow, strict=True)}


def test_the_first_steps_count_events_as_read(record: EventRecord) -> None:
    expected = [0, 0, 0, 0]
    jets = record.jets
    for event in range(N):
        pt = jets.pt[jets.offsets[event] : jets.offsets[event + 1]].astype(float)
        phi = jets.phi[jets.offsets[event] : jets.offsets[event + 1]].astype(float)
        expected[0] += 1
        if len(pt) < 2:
            continue
        expected[1] += 1
        if abs((phi[0] - phi[1] + np.pi) % (2 * np.pi) - np.pi) <= 2.7:
            continue
        expected[2] += 1
        expected[3] += len(pt) < 3 or pt[2] < max(25.0, 0.25 * (pt[0] + pt[1]) / 2)

    got = steps(nominal(record, SIMULATION, SETTINGS))

    assert [got[name][0] for name in ("all", "two_jets", "delta_phi", "third_jet")] == expected
    assert got["all"][1] == pytest.approx(record.weight.sum())


def test_steps_never_gain_events_and_end_with_what_the_histograms_hold(record: EventRecord) -> None:
    sums = nominal(record, SIMULATION, SETTINGS)
    counts = steps(sums)
    for first in ("all", "lumi_mask"):
        names = CUTFLOW_STEPS[CUTFLOW_STEPS.index(first) : (4 if first == "all" else None)]
        raw = [counts[name][0] for name in names]
        assert raw == sorted(raw, reverse=True)
    shape = SETTINGS.binning.shape
    filled = sums.asymmetry.dense(shape)[..., 0]
    assert filled.sum() == pytest.approx(counts["alpha_range"][1])
    assert filled[:, :, :, :, 1].sum() == pytest.approx(counts["good_third_jet"][1])
    assert sums.spectrum[:, 0].sum() == pytest.approx(counts["good_third_jet"][1])


def test_chunks_leave_no_trace(record: EventRecord) -> None:
    whole = nominal(record, SIMULATION, SETTINGS)
    cuts = [0, 1, 700, 701, 4000, N]
    parts = [nominal(part(record, a, b), SIMULATION, SETTINGS) for a, b in itertools.pairwise(cuts)]
    total = parts[0]
    for piece in parts[1:]:
        total = total + piece
    for name in ("asymmetry", "truth_asymmetry", "response", "matrix", "balance"):
        got, expected = getattr(total, name), getattr(whole, name)
        np.testing.assert_array_equal(got.bins, expected.bins)
        np.testing.assert_allclose(got.sums, expected.sums, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(got.replicas, expected.replicas, rtol=1e-5)
    np.testing.assert_array_equal(total.cutflow[:, 0], whole.cutflow[:, 0])
    np.testing.assert_allclose(total.rho, whole.rho, rtol=1e-12)


def test_a_scaled_momentum_keeps_the_probe_of_every_event(record: EventRecord) -> None:
    """All jets 2 % up: asymmetries do not change, so only events that leave their pt_avg bin may move."""
    louder = replace(record, jets=replace(record.jets, pt=(record.jets.pt * 1.02).astype(np.float32)))
    wide = replace(SETTINGS, binning=replace(SETTINGS.binning, pt_avg=(1.0, 1e5)))
    plain, shifted = (nominal(r, SIMULATION, wide).asymmetry.dense(wide.binning.shape) for r in (record, louder))
    # alpha does not change either; a few events cross the fixed 25 GeV or the 10 GeV of the jets
    assert np.abs(plain[..., 0] - shifted[..., 0]).sum() < 0.05 * plain[..., 0].sum()


def test_triggers_own_their_range_and_weigh_with_their_prescale(record: EventRecord) -> None:
    data = replace(record, is_mc=False, truth=None, weight=np.ones(N))
    fired = np.random.default_rng(1).random((2, N)) < 0.5
    data = replace(data, triggers={"HLT_A": fired[0], "HLT_B": fired[1]})
    triggers = (Trigger("HLT_A", 60.0, 10.0), Trigger("HLT_B", 120.0, 1.0))
    dataset = Dataset("data", (), is_mc=False, triggers=triggers)

    got = nominal(data, dataset, SETTINGS)
    free = nominal(replace(data, triggers={}), replace(dataset, triggers=()), SETTINGS)

    assert 0 < steps(got)["trigger"][0] < steps(free)["trigger"][0]
    moments = got.moments.reshape(*SETTINGS.binning.shape[:3], 2, -1)
    edges = SETTINGS.binning.pt_avg_edges
    weight, squared = moments[..., 0].sum(axis=(0, 1, 3)), moments[..., 1].sum(axis=(0, 1, 3))
    for b in range(len(edges) - 1):
        if edges[b + 1] <= 60:
            assert weight[b] == 0
        elif weight[b] > 0 and (edges[b] >= 120 or (edges[b] >= 60 and edges[b + 1] <= 120)):
            assert squared[b] / weight[b] == pytest.approx(1.0 if edges[b] >= 120 else 10.0)


def test_replicas_scatter_around_the_nominal_sum(record: EventRecord) -> None:
    sums = nominal(record, SIMULATION, replace(SETTINGS, replicas=200)).asymmetry
    total, variance = sums.sums.sum(axis=0)
    copies = sums.replicas.sum(axis=0)
    # the variance of a bootstrap sum is the sum of squared weights; 200 copies know it to 10 %
    assert copies.mean() == pytest.approx(total, abs=4 * np.sqrt(variance / 200))
    assert copies.var() == pytest.approx(variance, rel=0.4)


def test_events_without_jets_pass_through(record: EventRecord) -> None:
    nothing = np.zeros(0, np.float32)
    none = Jets(np.zeros(4, np.int64), nothing, nothing, nothing, nothing)
    names = ("run", "luminosity_block", "event", "identity", "weight", "rho")
    empty = replace(record, jets=none, truth=none, **{name: getattr(record, name)[:3] for name in names})
    sums = nominal(empty, SIMULATION, SETTINGS)
    assert steps(sums)["all"][0] == 3
    assert steps(sums)["two_jets"][0] == 0
    assert len(sums.asymmetry.bins) == 0


def same(got: Any, expected: Any) -> None:
    """The parts of a variation equal those of a nominal fill."""
    for name in ("asymmetry", "truth_asymmetry"):
        np.testing.assert_array_equal(getattr(got, name).bins, getattr(expected, name).bins)
        np.testing.assert_array_equal(getattr(got, name).sums, getattr(expected, name).sums)
    np.testing.assert_array_equal(got.moments, expected.moments)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("dphi_up", {"min_delta_phi": 2.7 - 0.1}),
        ("dphi_down", {"min_delta_phi": 2.7 + 0.1}),
        ("pt3_up", {"third_jet_min_pt": 30.0, "third_jet_max_fraction": 0.25 + 0.05}),
        ("pt3_down", {"third_jet_min_pt": 20.0, "third_jet_max_fraction": 0.25 - 0.05}),
    ],
)
def test_a_varied_cut_gives_what_the_nominal_fill_gives_with_that_cut(
    record: EventRecord, name: str, changes: dict[str, float]
) -> None:
    changed = replace(SETTINGS, selection=replace(SETTINGS.selection, **changes))

    got = fill_record(record, SIMULATION, SETTINGS)

    same(got.varied[name][SIMULATION.name], nominal(record, SIMULATION, changed))
    assert len(got.varied[name][SIMULATION.name].asymmetry.bins) != len(got.datasets[SIMULATION.name].asymmetry.bins)


@pytest.mark.parametrize(("name", "factor"), [("jes_up", 1.01), ("jes_down", 0.99)])
def test_a_varied_scale_gives_what_jets_scaled_by_hand_give(record: EventRecord, name: str, factor: float) -> None:
    pt = (record.jets.pt * np.float64(factor)).astype(np.float32)

    got = fill_record(record, SIMULATION, SETTINGS).varied[name][SIMULATION.name]

    same(got, nominal(replace(record, jets=replace(record.jets, pt=pt)), SIMULATION, SETTINGS))


def test_varied_pile_up_changes_weights_and_nothing_else(record: EventRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    factors = {"nominal": 1.0, "up": 3.0, "down": 0.5}
    monkeypatch.setattr(
        "processors.dijet.pileup_weight", lambda record, _, which="nominal": np.full(len(record), factors[which])
    )
    settings = replace(SETTINGS, events=EventFilter(pileup_weights=PileupWeights("lum.json", "weights")))

    filled = fill_record(record, SIMULATION, settings)

    expected = filled.datasets[SIMULATION.name].asymmetry
    for name in ("up", "down"):
        got = filled.varied[f"pu_{name}"][SIMULATION.name].asymmetry
        np.testing.assert_array_equal(got.bins, expected.bins)
        powers = np.array([factors[name], factors[name] ** 2])
        np.testing.assert_allclose(got.sums, expected.sums * powers, rtol=1e-12)


def test_the_probe_of_an_event_is_the_same_in_every_variation(record: EventRecord) -> None:
    ways = variations_of(SIMULATION, SETTINGS)
    wide = replace(SETTINGS, binning=replace(SETTINGS.binning, pt_avg=(1.0, 1e5)))
    asymmetry = [
        dict(zip(found.event.tolist(), found.asymmetry.tolist(), strict=True))
        for way in ways
        for found in [kernels.choose(select_events(record, SIMULATION, wide, [way]).candidates, 0)]
    ]
    for other in asymmetry[1:]:
        common = asymmetry[0].keys() & other.keys()
        assert len(common) > 0.8 * len(other)
        # a swapped probe would turn the sign
        np.testing.assert_allclose([other[i] for i in common], [asymmetry[0][i] for i in common], atol=1e-6)


def test_data_are_not_varied_in_scale_or_pile_up(record: EventRecord) -> None:
    dataset = Dataset("data", (), is_mc=False)
    filled = fill_record(replace(record, is_mc=False, truth=None), dataset, SETTINGS)
    assert list(filled.varied) == ["dphi_up", "dphi_down", "pt3_up", "pt3_down"]


def test_without_systematics_nothing_is_varied(record: EventRecord) -> None:
    settings = replace(SETTINGS, systematics=Systematics(enabled=False))
    assert fill_record(record, SIMULATION, settings).varied == {}


def test_the_diagonal_of_the_matrix_is_the_standard_region(record: EventRecord) -> None:
    sums, shape = nominal(record, SIMULATION, SETTINGS), SETTINGS.binning.shape
    matrix = sums.matrix.dense(SETTINGS.binning.matrix_shape).sum(axis=3)
    moments = sums.moments.reshape(*shape[:3], 2, len(MOMENTS))[:, 0]
    for eta in range(shape[0]):
        for k, name in enumerate(MATRIX_MOMENTS):
            np.testing.assert_allclose(matrix[eta, eta, ..., k], moments[eta, ..., MOMENTS.index(name)], atol=1e-12)
    above = np.triu_indices(shape[0], 1)
    assert not matrix[above].any()


def test_missing_momentum_that_balances_the_two_jets_repeats_the_bisector(record: EventRecord) -> None:
    pairs = kernels.find_pairs(leading(record.jets), good_jets(record, SETTINGS.jets)[0])
    met = np.zeros((2, N))
    for event in np.flatnonzero(pairs.second >= 0):
        for jet in (pairs.first[event], pairs.second[event]):
            pt, phi = float(record.jets.pt[jet]), float(record.jets.phi[jet])
            met[:, event] -= pt * np.cos(phi), pt * np.sin(phi)

    sums = nominal(replace(record, met=(met[0], met[1])), SIMULATION, SETTINGS)

    values = sums.balance.dense(SETTINGS.binning.balance_shape)[..., 0].sum(axis=(2, 3, 4))
    psi, eta, mpf, mpfx = (values[BALANCE.index(name), 0] for name in BALANCE)
    np.testing.assert_allclose(mpf, psi, atol=0.02 * psi.max())  # rounding across the edges of bins
    # the sign of both is random, by different choices
    np.testing.assert_allclose(mpfx + mpfx[::-1], eta + eta[::-1], atol=0.02 * eta.max())
    np.testing.assert_allclose(values[:, 0].sum(axis=-1), psi.sum())
    assert not values[BALANCE.index("mpf") :, 1].any()


def test_the_spread_of_the_bisector_components_is_that_of_the_asymmetry(record: EventRecord) -> None:
    """psi is A sin(dphi/2), between 0.976 A and A for the angles that are used."""
    sums, shape = nominal(record, SIMULATION, SETTINGS), SETTINGS.binning.shape
    moments = sums.moments.reshape(*shape[:3], 2, len(MOMENTS))[..., 1, :].sum(axis=(0, 1, 2))
    total = dict(zip(MOMENTS, moments, strict=True))
    values = sums.balance.dense(SETTINGS.binning.balance_shape)[0, 0, ..., 0].sum(axis=(0, 1, 2))
    centres = np.linspace(-2, 2, 401)[1::2]
    assert values.sum() == pytest.approx(total["weight"])
    spread = values @ centres**2 / total["asymmetry_squared"]
    assert 0.95 < spread < 1.01
    assert np.cos(np.pi - 2.7) < total["cos_delta_phi"] / total["weight"] < 1


def test_jets_that_change_take_the_missing_momentum_along(record: EventRecord) -> None:
    before = replace(record, met=(np.zeros(N), np.full(N, 5.0)))
    pt = (1.1 * record.jets.pt).astype(np.float32)

    got = propagate(before, replace(before, jets=replace(record.jets, pt=pt)))

    event = np.repeat(np.arange(N), record.jets.counts)
    phi = record.jets.phi.astype(float)
    assert got.met is not None
    np.testing.assert_allclose(got.met[0], -0.1 * np.bincount(event, record.jets.pt * np.cos(phi), N), atol=2e-3)
    np.testing.assert_allclose(got.met[1], 5 - 0.1 * np.bincount(event, record.jets.pt * np.sin(phi), N), atol=2e-3)


def test_responses_are_divided_by_rho_and_all_in_the_first_bin_without(record: EventRecord) -> None:
    shape = SETTINGS.binning.response_shape
    assert record.rho is not None
    with_rho, without = (nominal(each, SIMULATION, SETTINGS) for each in (record, replace(record, rho=None)))
    dense, plain = with_rho.response.dense(shape), without.response.dense(shape)
    np.testing.assert_allclose(dense.sum(axis=2), plain[:, :, 0], rtol=1e-12)
    assert not plain[:, :, 1:].any()
    assert np.count_nonzero(dense.sum(axis=(0, 1, 3, 4))) == np.count_nonzero(with_rho.rho[:, 0])
    mean = with_rho.rho[:, 1].sum() / with_rho.rho[:, 0].sum()
    assert record.rho.min() < mean < record.rho.max()
    assert not without.rho.any()
