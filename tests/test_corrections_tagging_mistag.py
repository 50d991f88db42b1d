"""Rates of mistags from dijets, and covariances of what is measured from the same jets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tagger_histogram_toys import Toy, make_facts, make_passing

from corrections.results import Interval
from corrections.tagging.counts import FAIL, PASS, Counts, counts_of
from corrections.tagging.covariance import covariance, statistical
from corrections.tagging.known_answer import chi2, pulls, with_known_answer
from corrections.tagging.mistag import Yields, likely_variance, mistag, mistag_rates
from corrections.tagging.results import Estimate, TaggerPoint
from corrections.tagging.settings import MistagSettings

DIJETS = {"dijet": Toy({"qcd": (40_000, 20_000, 10_000)}, times=5), "ttbar": Toy({"top": (200, 100, 50)})}
ANSWER: dict[str, Any] = {"toy": {"loose": {"qcd": 1.3}, "tight": {"qcd": (1.3, 1.1, 0.9)}}}
EMPTY = TaggerPoint("mistag", "toy", "tight", "mistag", Interval(200, 300), Interval(0, 1))


@pytest.fixture(scope="module")
def counts() -> Counts:
    return counts_of(make_passing(DIJETS, np.random.default_rng(2)), make_facts(DIJETS))


def yields(**changes: object) -> Yields:
    given = {
        "data": np.array([880.0, 120]),
        "data_variance": np.array([880.0, 120]),
        "multijet": np.array([950.0, 50]),
        "multijet_variance": np.zeros(2),
        "other": np.array([80.0, 20]),
        "other_variance": np.zeros(2),
        "varied": {},
    }
    return Yields(**{**given, **changes})  # type: ignore[arg-type]


def test_other_processes_are_subtracted_from_data() -> None:
    point = mistag(yields(), EMPTY, 1, subtraction=0.3).point

    # (120 - 20) / (1000 - 100) over 50 / 1000
    assert point.value == pytest.approx(100 / 900 / 0.05)
    assert point.efficiency == pytest.approx(0.05)
    shift = point.shift("subtraction")
    assert shift is not None
    assert shift.up == pytest.approx(94 / 870 / 0.05 - point.value)
    assert shift.down == pytest.approx(106 / 930 / 0.05 - point.value)


def test_the_uncertainty_of_data_is_that_of_toys_with_weights() -> None:
    rng = np.random.default_rng(4)
    weighted = yields(data_variance=np.array([880.0, 120]) * 3)
    stat = mistag(weighted, EMPTY, 1, 0).point.stat

    drawn = 3 * rng.poisson(weighted.data / 3, (20_000, 2))
    values = (drawn[:, 1] - 20) / (drawn.sum(axis=1) - 100) / 0.05

    # 20 000 toys know a width to 0.5 %, and the ratio is linear to about 1 %
    assert stat == pytest.approx(values.std(), rel=0.03)


def test_few_jets_without_large_weights_are_not_taken_to_be_known_well() -> None:
    rng = np.random.default_rng(7)
    pulls, plain = [], []

    for _ in range(4000):
        # one jet of ten has a weight of 10, and 5 % pass whatever their weight
        numbers = rng.poisson(np.outer((0.95, 0.05), (400, 40)))
        data, variance = numbers @ [1.0, 10], numbers @ [1.0, 100]
        likely = likely_variance(data, variance)
        if data[1] > 2 * np.sqrt(likely[1]):
            pulls.append((data[1] - 40) / np.sqrt(likely[1]))
        if data[1] > 2 * np.sqrt(variance[1]):
            plain.append((data[1] - 40) / np.sqrt(variance[1]))

    # without the mean weight of all jets some toys are 4 of their uncertainties too low and more
    assert np.min(plain) < -4
    assert np.min(pulls) > -3
    assert likely_variance(np.array([30.0, 4]), np.array([30.0, 4])) == pytest.approx([30, 4])
    assert likely_variance(np.zeros(2), np.zeros(2)) == pytest.approx([0, 0])


def test_rates_of_weighted_jets_are_known_at_most_as_well_as_with_their_mean_weight(counts: Counts) -> None:
    weighted = replace(counts, data_variance=9 * counts.data_variance, variance=9 * counts.variance)
    # those that pass the tight cut have lost their large weights by chance
    for values, axis in ((weighted.data_variance, 0), (weighted.variance, weighted.variance.ndim - 7)):
        np.moveaxis(values, (axis, axis + 1, axis + 2), (0, 1, 2))[0, 1, PASS] /= 9

    found, plain = ([each.point for each in mistag_rates(one, MistagSettings())] for one in (weighted, counts))

    for one, other in zip(found, plain, strict=True):
        if one.working_point == "tight":
            assert one.stat == pytest.approx(3 * other.stat, rel=0.05)
            assert one.efficiency_error == pytest.approx(3 * other.efficiency_error, rel=0.05)


def test_what_passes_is_the_sum_of_the_cells_above_a_working_point() -> None:
    cells = yields(
        data=np.array([880.0, 70, 50]),
        data_variance=np.array([880.0, 70, 50]),
        multijet=np.array([950.0, 30, 20]),
        multijet_variance=np.array([95.0, 3, 2]),
        other=np.array([80.0, 5, 15]),
        other_variance=np.zeros(3),
    )

    found = mistag(cells, EMPTY, 1, 0)

    two = mistag(yields(multijet_variance=np.array([95.0, 5])), EMPTY, 1, 0)
    assert (found.point.value, found.point.stat) == pytest.approx((two.point.value, two.point.stat))
    assert found.point.total == pytest.approx(two.point.total)
    assert mistag(cells, EMPTY, 2, 0).point.efficiency == pytest.approx(0.02)


def test_few_simulated_jets_are_a_source_of_uncertainty() -> None:
    point = mistag(yields(multijet_variance=np.array([950.0, 50])), EMPTY, 1, 0).point

    shift = point.shift("template")
    assert shift is not None
    # binomial: sqrt(0.05 * 0.95 / 1000) of 0.05
    assert shift.up == pytest.approx(point.value * np.sqrt(0.05 * 0.95 / 1000) / 0.05)


def test_a_varied_source_changes_simulation_and_what_is_subtracted() -> None:
    up, down = np.array([940.0, 60]), np.array([960.0, 40])
    varied = {"jes": (np.array([up, down]), np.array([[80.0, 20], [80.0, 30]]))}

    shift = mistag(yields(varied=varied), EMPTY, 1, 0).point.shift("jes")

    assert shift is not None
    assert shift.up == pytest.approx(100 / 900 / 0.06 - 100 / 900 / 0.05)
    assert shift.down == pytest.approx(90 / 890 / 0.04 - 100 / 900 / 0.05)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"data": np.array([500.0, 20])}, "empty_pass"),
        ({"data": np.array([80.0, 500])}, "empty_fail"),
        ({"multijet": np.array([10.0, 0])}, "no_simulation"),
        ({"data_variance": 30 * np.array([880.0, 120])}, "imprecise"),
    ],
)
def test_what_cannot_be_measured_has_a_status(changes: dict[str, np.ndarray], status: str) -> None:
    point = mistag(yields(**changes), EMPTY, 1, 0.3).point

    assert point.status == status
    assert np.isnan(point.value)
    assert not point.is_measured


def test_few_jets_that_pass_are_published_whatever_their_number_is() -> None:
    rng = np.random.default_rng(12)
    values = []

    for _ in range(200):
        drawn = rng.poisson((994.0, 6)).astype(float)
        few = yields(data=drawn, data_variance=drawn, multijet=np.array([994.0, 6]), other=np.zeros(2))
        values.append(mistag(few, EMPTY, 1, 0.3).point.value)

    # 6 +- 2.4 jets are known to 41 %; none at all, once in 400, is no number. 200 toys know the mean to 0.03
    assert np.isfinite(values).sum() >= 197
    assert np.nanmean(values) == pytest.approx(1, abs=0.1)


def test_fewer_expected_jets_than_tell_anything_are_not_published_even_where_more_pass() -> None:
    few = {"multijet": np.array([997.0, 3]), "other": np.zeros(2)}

    point = mistag(yields(data=np.array([988.0, 12]), data_variance=np.array([988.0, 12]), **few), EMPTY, 1, 0.3).point

    # 3 +- 1.7 are expected; 12 are known to 29 %
    assert point.status == "imprecise"


def test_known_rates_come_back_in_all_bins(counts: Counts) -> None:
    data = with_known_answer(counts, ANSWER, np.random.default_rng(8))

    estimates = mistag_rates(data, MistagSettings())

    found = pulls([each.point for each in estimates], ANSWER, counts, {"mistag": ("qcd",)})
    # data are drawn from the simulation, so that its own fluctuations do not count
    total, p_value = chi2(found, statistical(estimates)[0])
    assert len(found) == 12
    assert p_value > 0.01
    assert total > 1


def test_known_rates_come_back_where_efficiencies_depend_on_eta(counts: Counts) -> None:
    nominal = 1e4 * counts.nominal
    qcd = counts.categories.index("qcd")
    # 2.5 times as many pass at large |eta|, at both working points
    for place in (0, 1):
        jets = nominal[:, 0, place, :, qcd, :, 1]
        jets[:, FAIL] -= 1.5 * jets[:, PASS].sum() / jets[:, FAIL].sum() * jets[:, FAIL]
        jets[:, PASS] *= 2.5
    many = replace(counts, nominal=nominal, varied={})
    given = {"toy": {"loose": {"qcd": 1.3}, "tight": {"qcd": 1.3}}}

    data = with_known_answer(many, given, np.random.default_rng(8), by_eta=True)

    for each in mistag_rates(data, MistagSettings()):
        assert each.point.value == pytest.approx(1.3, abs=4 * each.point.stat)
    for each in mistag_rates(data, MistagSettings(pt=(200, 800), eta=(0.0, 2.0))):
        assert each.point.value == pytest.approx(1.3, abs=4 * each.point.stat)


def test_bins_may_be_joined(counts: Counts) -> None:
    settings = MistagSettings(pt=(200, 800), eta=(0.0, 2.0))

    estimates = mistag_rates(with_known_answer(counts, ANSWER, np.random.default_rng(8)), settings)

    assert [each.point.pt for each in estimates] == [Interval(200, 800)] * 2
    assert estimates[0].point.value == pytest.approx(1.3, abs=4 * estimates[0].point.stat)


def test_nested_working_points_are_correlated_as_toys_are(counts: Counts) -> None:
    rng = np.random.default_rng(6)
    settings = MistagSettings(pt=(200, 300), eta=(0.0, 2.0))
    found = [
        [each.point.value for each in mistag_rates(with_known_answer(counts, {}, rng), settings)] for _ in range(400)
    ]

    of_data, _ = statistical(mistag_rates(counts_from_expectation(counts), settings))

    expected = of_data[0, 1] / np.sqrt(of_data[0, 0] * of_data[1, 1])
    assert 0.3 < expected < 0.7
    # 400 toys know a correlation to 0.05 at most
    assert np.corrcoef(np.transpose(found))[0, 1] == pytest.approx(expected, abs=0.15)


def counts_from_expectation(counts: Counts) -> Counts:
    expected = counts.nominal.sum(axis=(0, 4))
    return replace(counts, data=expected, data_variance=expected)


def test_shared_sources_make_bins_correlated(counts: Counts) -> None:
    estimates = mistag_rates(counts_from_expectation(counts), MistagSettings())

    matrix = covariance(estimates)

    totals = np.array([each.point.total for each in estimates])
    assert np.sqrt(np.diagonal(matrix)) == pytest.approx(totals)
    assert np.linalg.eigvalsh(matrix).min() > -1e-9 * matrix.max()
    different_bins = matrix[0, -1]
    shifts = [each.by_parameter for each in (estimates[0], estimates[-1])]
    assert different_bins == pytest.approx(sum(shifts[0][name] * shifts[1][name] for name in shifts[0]), rel=0.05)


def test_factors_that_nested_cuts_cannot_have_are_refused(counts: Counts) -> None:
    with pytest.raises(ValueError, match="negative number of jets between its working points"):
        with_known_answer(counts, {"toy": {"loose": {"qcd": 0.1}}}, np.random.default_rng(1))


def test_few_simulated_jets_may_be_the_only_source() -> None:
    alone = mistag(yields(other=np.zeros(2), multijet_variance=np.array([95.0, 5])), EMPTY, 1, 0.3)

    assert [shift.source for shift in alone.point.shifts] == ["template"]
    assert covariance([alone]) == pytest.approx(np.array([[alone.point.total**2]]))


def jes_only(up: float, down: float) -> Estimate:
    """A measurement of 1 that the energy scale moves by these."""
    rates = 0.05 * np.array([1.0, 1 / (1 + up), 1 / (1 + down)])
    multijet = 1e9 * np.stack([1 - rates, rates], axis=-1)
    given = {"data": multijet[0], "data_variance": np.zeros(2), "multijet": multijet[0], "other": np.zeros(2)}
    return mistag(yields(**given, varied={"jes": (multijet[1:], np.zeros((2, 2)))}), EMPTY, 1, 0)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((0.1, -0.1), (-0.1, 0.1)),
        ((0.1, 0.1), (-0.1, -0.1)),
        ((0.1, 0.1), (0.1, -0.1)),
        ((0.1, 0.05), (0.05, 0.1)),
        ((0.1, 0.0), (0.1, -0.02)),
    ],
)
def test_shifts_to_either_side_are_correlated_as_a_source_that_is_up_or_down(
    first: tuple[float, float], second: tuple[float, float]
) -> None:
    matrix = covariance([jes_only(*first), jes_only(*second)])

    assert np.sqrt(np.diagonal(matrix)) == pytest.approx([max(map(abs, first)), max(map(abs, second))])
    a, b = np.array(first), np.array(second)
    assert matrix[0, 1] / np.sqrt(matrix[0, 0] * matrix[1, 1]) == pytest.approx(a @ b / np.sqrt(a @ a * (b @ b)))
