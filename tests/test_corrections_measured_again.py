"""The loop is closed where the corrections were right, and open beyond chance where they were not."""

from __future__ import annotations

import signal
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from dijet_toys import ONES, Toy

import analysis
from corrections import passes
from corrections.coverage import covered_points
from corrections.measurement import is_stable, measure, measured_again, readjusted, refined, with_residual
from corrections.results import AGAIN, FAILED_BELOW, MOVED
from corrections.settings import MeasurementSettings
from samples.toy import write_toy

if TYPE_CHECKING:
    from pathlib import Path

    from corrections.results import Measurement
    from corrections.sample import Sample

SETTINGS = MeasurementSettings()
FACTORS = np.array([1.08, 1.12, 1.16, 1.22])
RESPONSES = np.array([1.0, 1.0, 0.985, 1.02])


@pytest.fixture(scope="module")
def data() -> Sample:
    return Toy(factors=FACTORS, responses=RESPONSES).sample("data", 6000, 2)


@pytest.fixture(scope="module")
def measurement(data: Sample) -> Measurement:
    simulation = Toy().sample("simulation", 12_000, 1)
    smeared = Toy(factors=FACTORS).sample("simulation", 12_000, 3)
    return with_residual(measure(simulation, data, "AK4PF", SETTINGS), data, simulation, smeared, SETTINGS)


def again(measurement: Measurement, factors: np.ndarray, responses: np.ndarray) -> dict[str, float]:
    """Probabilities after smearing by `factors` and a residual that leaves data with `responses`."""
    simulation = Toy(factors=factors).sample("simulation", 12_000, 4)
    corrected = Toy(factors=FACTORS, responses=responses).sample("data", 6000, 5)
    checks = measured_again(measurement, corrected, simulation, SETTINGS).checks
    return {check.name: check.p_value for check in checks if "again" in check.name}


def test_a_closed_sample_is_one_within_its_uncertainties(measurement: Measurement) -> None:
    found = again(measurement, FACTORS, ONES)
    assert set(found) == {"scale factor measured again", "residual response measured again"}
    assert all(p > FAILED_BELOW for p in found.values())


def test_a_wrong_scale_factor_opens_the_loop(measurement: Measurement) -> None:
    found = again(measurement, FACTORS * 1.06, ONES)
    assert found["scale factor measured again"] < FAILED_BELOW


def test_a_wrong_residual_opens_the_loop_alone(measurement: Measurement) -> None:
    found = again(measurement, FACTORS, RESPONSES)
    assert found["residual response measured again"] < FAILED_BELOW
    assert found["scale factor measured again"] > FAILED_BELOW


def test_what_is_left_is_told_for_each_bin_with_the_first_relative_uncertainty(
    measurement: Measurement, data: Sample
) -> None:
    result = measured_again(measurement, data, Toy().sample("simulation", 12_000, 1), SETTINGS)
    first, second = result.select("scale_factor"), result.select("scale_factor_again")
    assert [p.eta for p in second] == [p.eta for p in first]
    for before, after in zip(first, second, strict=True):
        # nothing was corrected, so all of it is left
        assert after.value == pytest.approx(before.value, rel=1e-3)
        assert after.stat == pytest.approx(before.stat / before.value)
        assert after.shifts == ()
    assert [p.eta.low for p in result.select("residual_again")] == [0.0, 0.7, 1.3]


@pytest.mark.slow
def test_a_run_whose_corrections_are_wrong_ends_with_4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = write_toy(tmp_path / "sample", 20_000, seed=3).folder
    right = passes.corrected_settings

    def wrong(measurements, *others):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN002, ANN202
        widened = [
            replace(
                m,
                points=tuple(replace(p, value=1.6 * p.value) if p.quantity == "scale_factor" else p for p in m.points),
            )
            for m in measurements
        ]
        return right(widened, *others)

    monkeypatch.setattr(passes, "corrected_settings", wrong)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with pytest.raises(SystemExit) as caught:
        analysis.main(
            [
                *("--fileset", str(sample / "fileset.json"), "--output", str(tmp_path / "run")),
                *("--executor", "iterative", "--replicas", "0", "report.formats=[png]", "report.dpi=30"),
                *("binning.eta=[0, 1.3, 2.5, 4.5]", "binning.reference=[0, 1.3]"),
            ]
        )
    for number, handler in handlers.items():
        signal.signal(number, handler)
    assert caught.value.code == 4
    assert (tmp_path / "run" / "corrections" / "jet_jerc.json.gz").is_file()


def test_only_the_published_method_is_refined(data: Sample) -> None:
    simulation = Toy().sample("simulation", 6000, 1)
    first = measure(simulation, data, "AK4PF", SETTINGS)
    other = tuple(replace(p, method="bisector", value=1.3) for p in first.published("scale_factor"))
    whole = replace(first, points=(*first.points, *other))
    # smeared a little too much: the second factor is below one
    smeared = Toy(factors=1.05 * FACTORS).sample("simulation", 6000, 3)
    found = refined(whole, data, smeared, SETTINGS)
    assert [p.value for p in found.select("scale_factor", method="bisector")] == [1.3] * len(other)
    pairs = zip(first.published("scale_factor"), found.published("scale_factor"), strict=True)
    assert all(after.value < before.value for before, after in pairs)


def test_what_is_one_by_definition_is_not_lent_to_bins_without_a_residual(measurement: Measurement) -> None:
    points = tuple(
        p if p.quantity != "residual" or p.region == "reference" else replace(p, value=np.nan, status="few_events")
        for p in measurement.points
    )
    assert covered_points(measurement, "residual") is not None
    assert covered_points(replace(measurement, points=points), "residual") is None


def test_what_is_left_is_put_into_the_published_corrections_and_the_resolution_of_data(
    measurement: Measurement,
) -> None:
    """Simulation smeared 4 % too little: repeated, the loop finds the rest."""
    smeared = Toy(factors=FACTORS / 1.04).sample("simulation", 12_000, 4)
    corrected = Toy(factors=FACTORS).sample("data", 6000, 2)
    first = measured_again(measurement, corrected, smeared, SETTINGS)
    assert not is_stable(first)
    second = readjusted(first)
    assert not second.select("scale_factor_again")
    assert all(check.name not in AGAIN.values() for check in second.checks)
    for quantity, dataset in (("scale_factor", None), ("jer", "data")):
        pairs = zip(measurement.published(quantity, dataset), second.published(quantity, dataset), strict=True)  # type: ignore[arg-type]
        for before, after in pairs:
            if before.is_measured:
                # 0.6 of the step of 4 %, within what 6000 events per bin tell
                assert after.value / before.value == pytest.approx(1.04**0.6, abs=0.015)
                assert after.stat / before.stat == pytest.approx(after.value / before.value)
    simulated = zip(measurement.select("jer", "simulation"), second.select("jer", "simulation"), strict=True)
    assert all(before == after for before, after in simulated if before.is_measured)


def test_corrections_within_a_fifth_of_their_uncertainty_are_stable(measurement: Measurement) -> None:
    def left(distance: float) -> Measurement:
        point = replace(
            measurement.published("scale_factor")[0],
            quantity="scale_factor_again",
            value=1 + distance * 0.02,
            stat=0.02,
        )
        return replace(measurement, points=(*measurement.points, point))

    assert is_stable(left(0.19))
    assert is_stable(left(-0.19))
    assert not is_stable(left(-0.25))


def with_left(measurement: Measurement, distance: float) -> Measurement:
    first = measurement.published("scale_factor")[0]
    point = replace(first, quantity="scale_factor_again", value=1 + distance * 0.02, stat=0.02)
    return replace(measurement, points=(*measurement.points, point))


def test_of_two_passes_the_one_that_leaves_less_is_kept(measurement: Measurement) -> None:
    near, far = (with_left(measurement, 0.3),), (with_left(measurement, -0.9),)
    assert passes.closer(far, near) is near
    assert passes.closer(near, far) is near


def test_corrections_that_repetition_moves_beyond_chance_fail_even_where_nothing_is_left(
    measurement: Measurement,
) -> None:
    """Applied at half their strength they end up elsewhere, with nothing left."""
    points = tuple(
        replace(p, value=p.value + 4 * p.stat) if p.quantity == "scale_factor" else p for p in measurement.points
    )
    (found,) = passes.with_moves([measurement], [replace(measurement, points=points)], 2)
    checks = {check.name: check for check in found.checks}
    assert checks[MOVED["scale_factor"]].chi2 == pytest.approx(16 * len(measurement.published("scale_factor")))
    assert checks[MOVED["scale_factor"]].p_value < FAILED_BELOW
    assert checks[MOVED["residual"]].chi2 == 0
    (same,) = passes.with_moves([measurement], [measurement], 0)
    assert not any(check.name in MOVED.values() for check in same.checks)


def test_what_is_left_after_all_repetitions_is_noted(measurement: Measurement) -> None:
    (found,) = passes.with_moves([measurement], [with_left(measurement, 0.5)], 3)
    assert "after 3 repetitions the corrections still ask for up to 0.5 of their uncertainty" in found.notes
    (closed,) = passes.with_moves([measurement], [with_left(measurement, 0.1)], 3)
    assert closed.notes == measurement.notes
