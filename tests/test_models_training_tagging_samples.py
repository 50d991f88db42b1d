"""Reading of tables for taggers: what is refused in one line, what is counted, folds and weights."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="needs the extra `train`")

from tagger_toys import NAMES, columns, lists, momenta, write

import analysis
from models.training.errors import RefusedError
from models.training.tagging.samples import (
    MAX_PLANING,
    TEST,
    TRAINING,
    UNLABELLED,
    VALIDATION,
    TaggerSample,
    _folds,
    classification_weights,
    described,
    in_test_fold,
    penalty_weights,
    ranks,
    read_sample,
)
from models.training.tagging.settings import (
    ColumnSettings,
    DecorrelationSettings,
    EvaluationSettings,
    FitSettings,
    Kind,
    Map,
    Method,
    NetworkSettings,
    TaggerSettings,
)

ROOT = Path(__file__).parents[1]
N = 4000
SETTINGS = TaggerSettings(columns=ColumnSettings(features=NAMES))
TEST_IS_NEGATIVE = np.where((_folds(columns(N)["identity"], SETTINGS.fit) == TEST) & (np.arange(N) % 2 == 0), -9.0, 1.0)


def read(folder: Path, settings: TaggerSettings = SETTINGS, /, **changed: Any) -> TaggerSample:
    values = columns(N) | changed
    return read_sample([write(folder / "table.parquet", {k: v for k, v in values.items() if v is not None})], settings)


def test_columns_come_with_their_values_in_the_order_asked_for(tmp_path: Path) -> None:
    settings = TaggerSettings(columns=ColumnSettings(features=("x2", "x0")))

    sample = read(tmp_path, settings)

    given = columns(N)
    np.testing.assert_array_equal(sample.features, np.column_stack([given["x2"], given["x0"]]).astype(np.float32))
    np.testing.assert_array_equal(sample.is_signal, given["label"] == 1)
    np.testing.assert_array_equal(sample.weight, given["weight"])


@pytest.mark.parametrize(
    ("column", "option"),
    [("label", "--label"), ("mass", "--protect"), ("weight", "--weight"), ("pt", "--condition"), ("x1", "--features")],
)
def test_a_missing_column_is_named_with_its_option_and_the_nearest_name(
    tmp_path: Path, column: str, option: str
) -> None:
    with pytest.raises(RefusedError, match=f"no column '{column}' for {option}; did you mean '{column}_'") as error:
        read(tmp_path, **{column: None, f"{column}_": columns(N)[column]})
    assert "\n" not in str(error.value)


def test_a_table_without_weights_is_told_how_to_take_equal_ones(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"no column 'weight' for --weight; it has .*; --weight none takes equal"):
        read(tmp_path, weight=None)
    with pytest.raises(RefusedError) as error:
        read(tmp_path, pt=None)
    assert "none takes equal" not in str(error.value)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"label": np.ones(N)}, "has no background"),
        ({"label": np.zeros(N)}, "has no signal"),
        ({"x1": np.full(N, np.nan)}, "x1 has no finite value in the jets to train with"),
        ({"mass": np.full(N, np.nan)}, "has no jets to use; 4,000 jets left out: mass not finite"),
        ({"label": np.full(N, 2)}, "1 for signal and 0 for background, got 2 in 4,000 jets"),
        ({"label": np.full(N, np.nan)}, "got nan"),
        ({"label": np.full(N, -1)}, "columns.simulation=is_mc is 0"),
        ({"label": np.array(["w"] * N)}, "holds string, not numbers"),
        ({"weight": np.zeros(N)}, "add up to 0; it must be above 0"),
        ({"weight": -np.ones(N)}, "add up to -"),
        ({"weight": TEST_IS_NEGATIVE}, "signal jets to test with add up to -"),
        ({"mass": np.random.default_rng(1).random(N)}, "set evaluation.low and evaluation.high"),
        ({"label": (np.arange(N) < 50).astype(np.int8)}, "signal jets to .* with, at least 100 are needed"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_in_one_line(
    tmp_path: Path, changed: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(RefusedError, match=message) as error:
        read(tmp_path, **changed)
    assert "\n" not in str(error.value)


def test_what_is_no_parquet_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "table.parquet").write_text("pt,mass\n")

    with pytest.raises(RefusedError, match="is no parquet table"):
        read_sample([tmp_path / "table.parquet"], SETTINGS)


def test_jets_without_a_mass_are_left_out_and_counted(tmp_path: Path) -> None:
    mass, pt = columns(N)["mass"], columns(N)["pt"]
    mass[:7], pt[7:10] = np.nan, 0.0

    sample = read(tmp_path, mass=mass, pt=pt)

    assert len(sample) == N - 10
    assert sample.notes == ("7 jets left out: mass not finite", "3 jets left out: pt not finite or not positive")


def test_features_that_are_not_finite_stay_and_are_counted(tmp_path: Path) -> None:
    x0 = columns(N)["x0"]
    x0[:5], x0[5] = np.nan, np.inf

    sample = read(tmp_path, x0=x0)

    assert len(sample) == N
    assert sample.notes == ("6 jets with x0 not finite, for which networks of ours take a median",)


def test_negative_weights_stay_count_as_zero_in_a_training_and_are_counted(tmp_path: Path) -> None:
    weight = columns(N)["weight"]
    weight[:11] *= -1

    sample = read(tmp_path, weight=weight)

    np.testing.assert_array_equal(sample.weight, weight)
    for given in (classification_weights(sample, 0.5), penalty_weights(sample), sample.positive_weight):
        assert np.all(given[:11] == 0)
        assert np.all(given >= 0)
    np.testing.assert_array_equal(ranks(sample), ranks(replace(sample, weight=np.maximum(weight, 0.0))))
    assert sample.notes == ("11 jets with negative weights, which count as 0 in a training",)


def test_background_outside_of_the_range_has_no_penalty(tmp_path: Path) -> None:
    sample = read(tmp_path)

    outside = sample.is_background & ((sample.protected < 50) | (sample.protected >= 300))
    assert outside.any()
    assert np.all(penalty_weights(sample)[outside] == 0)
    assert np.all(classification_weights(sample, 0.0)[outside] > 0)
    assert any(f"{outside.sum():,} background jets outside" in line for line in described(sample))


def test_the_fold_of_a_jet_does_not_depend_on_its_place(tmp_path: Path) -> None:
    shuffled = np.random.default_rng(2).permutation(N)
    for lacking in ({}, {"identity": None}):
        first = read(tmp_path, **lacking)
        second = read(tmp_path, **{k: v[shuffled] for k, v in columns(N).items() if k not in lacking}, **lacking)
        np.testing.assert_array_equal(first.fold[shuffled], second.fold)


def test_jets_whose_identity_is_one_text_share_a_fold(tmp_path: Path) -> None:
    texts = np.array([f"event {i // 2}" for i in range(N)])

    fold = read(tmp_path, identity=texts).fold

    np.testing.assert_array_equal(fold[::2], fold[1::2])
    for which, share in ((TEST, 0.15), (VALIDATION, 0.15), (TRAINING, 0.7)):
        assert np.mean(fold == which) == pytest.approx(share, abs=0.03)  # four deviations of 2000 events
    values = columns(N) | {"identity": texts}
    backwards = write(tmp_path / "backwards.parquet", {name: each[::-1] for name, each in values.items()})
    np.testing.assert_array_equal(read_sample([backwards], SETTINGS).fold[::-1], fold)


def test_folds_have_their_shares(tmp_path: Path) -> None:
    fold = read(tmp_path).fold

    shares = [np.mean(fold == each) for each in (TRAINING, VALIDATION, TEST)]
    np.testing.assert_allclose(shares, [0.7, 0.15, 0.15], atol=4 * 0.5 / np.sqrt(N))


def test_classes_have_the_same_sum_of_weights(tmp_path: Path) -> None:
    sample = read(tmp_path)

    for planed in (0.0, 0.5, 1.0):
        weight = classification_weights(sample, planed)
        assert weight[sample.is_signal].sum() == pytest.approx(N / 2)
        assert weight[sample.is_background].sum() == pytest.approx(N / 2)


def test_planed_background_has_the_spectrum_of_signal(tmp_path: Path) -> None:
    sample = read(tmp_path)
    weight = classification_weights(sample, 1.0)

    edges = np.linspace(66, 98, 5)
    spectra = [
        np.histogram(sample.protected[chosen], edges, weights=weight[chosen])[0] / (N / 2)
        for chosen in (sample.is_signal, sample.is_background)
    ]
    np.testing.assert_allclose(spectra[1], spectra[0], atol=0.03)
    ratio = weight[sample.is_background] / sample.weight[sample.is_background]
    assert ratio.max() <= 1.001 * MAX_PLANING * np.average(ratio, weights=sample.weight[sample.is_background])


def test_ranks_of_background_are_uniform_in_weight(tmp_path: Path) -> None:
    sample = read(tmp_path)
    chosen = sample.is_within

    found = np.histogram(ranks(sample)[chosen], np.linspace(0, 1, 11), weights=sample.weight[chosen])[0]
    np.testing.assert_allclose(found / found.sum(), 0.1, atol=0.005)


def test_equal_masses_share_the_middle_of_their_ranks(tmp_path: Path) -> None:
    mass = np.where(columns(N)["mass"] > 90, 100.0, 60.0)

    sample = read(tmp_path, mass=mass)

    share = np.average(mass[sample.is_background] == 60, weights=sample.weight[sample.is_background])
    found = ranks(sample)
    np.testing.assert_allclose(found[mass == 60], 0.5 * share)
    np.testing.assert_allclose(found[mass == 100], 0.5 * (1 + share))


def test_data_need_no_label_and_count_for_domain_adaptation_alone(tmp_path: Path) -> None:
    label, is_mc = columns(N)["label"].astype(float), np.ones(N)
    label[:500], is_mc[:500] = np.nan, 0
    domain = replace(SETTINGS, decorrelation=DecorrelationSettings(method="domain"))

    kept = read(tmp_path, domain, label=label, is_mc=is_mc)
    left_out = read(tmp_path, label=label, is_mc=is_mc)

    assert np.all(kept.label[:500] == UNLABELLED)
    assert len(left_out) == N - 500
    assert "500 jets of data left out: only domain adaptation uses them" in left_out.notes
    with pytest.raises(RefusedError, match="needs simulation and data"):
        read(tmp_path, domain)


def test_settings_that_mean_nothing_are_refused() -> None:
    for make in (
        lambda: DecorrelationSettings(strength=-1.0),
        lambda: DecorrelationSettings(target_inverse_jsd=1.0),
        lambda: FitSettings(validation=0.6, test=0.5),
        lambda: FitSettings(max_jets=-1),
        lambda: EvaluationSettings(low=3.0, high=2.0),
        lambda: ColumnSettings(features=("a", "a")),
    ):
        with pytest.raises(ValueError, match=r"must|are|is"):
            make()


def test_the_command_line_offers_the_choices_of_the_settings() -> None:
    assert get_args(Kind) == analysis.NETWORKS
    assert get_args(Method) == analysis.METHODS
    assert get_args(Map) == analysis.MAPS


def test_pile_up_comes_from_vertices_else_from_interactions_else_not_at_all(tmp_path: Path) -> None:
    values = columns(N)
    vertices, interactions = np.arange(N, dtype=np.float32), np.arange(N) + 0.5
    found = []
    for more in ({"npv": vertices, "mu": interactions}, {"npv": np.full(N, np.nan), "mu": interactions}, {}):
        path = write(tmp_path / "table.parquet", {**values, **more})
        found.append(read_sample([path], SETTINGS).take(slice(5, 7)).pileup)

    assert found[2] is None
    np.testing.assert_array_equal(found[:2], [[5.0, 6.0], [5.5, 6.5]])


@pytest.mark.parametrize("named", [{"weight": ""}, {"protect": "x1"}, {"condition": "x1"}, {"simulation": "is_first"}])
def test_the_fold_of_a_jet_does_not_depend_on_the_columns_that_are_named(tmp_path: Path, named: dict[str, Any]) -> None:
    values = columns(N) | {"is_first": np.arange(N) % 2 == 0}
    del values["identity"]
    path = write(tmp_path / "table.parquet", values)
    given = ColumnSettings(features=NAMES)

    first, second = (
        read_sample([path], replace(SETTINGS, columns=each), is_for_training=False)
        for each in (given, replace(given, **named))
    )

    assert first.row is not None
    assert second.row is not None
    np.testing.assert_array_equal(first.fold[second.row], second.fold)
    np.testing.assert_array_equal(in_test_fold([path], "identity", 0.15), first.fold == TEST)


def test_only_rows_that_are_among_the_wanted_ones_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "table.parquet", columns(N))

    sample = read_sample([path], SETTINGS, is_for_training=False, among=np.arange(N) % 3 == 0)

    np.testing.assert_array_equal(sample.row, np.arange(0, N, 3))


def test_the_row_of_a_jet_is_its_place_among_the_rows_of_all_tables(tmp_path: Path) -> None:
    values = columns(N)
    values["mass"][::2] = np.nan
    path = write(tmp_path / "table.parquet", values)

    row = read_sample([path, path], SETTINGS).row

    np.testing.assert_array_equal(row, np.arange(1, 2 * N, 2))


def test_the_fold_of_a_jet_does_not_depend_on_the_features_asked_for(tmp_path: Path) -> None:
    values = columns(N)
    del values["identity"]
    path = write(tmp_path / "table.parquet", values)
    settings = TaggerSettings(columns=ColumnSettings(features=NAMES))

    folds = [
        read_sample([path], replace(settings, columns=ColumnSettings(features=features))).fold
        for features in (NAMES, NAMES[:1])
    ]

    np.testing.assert_array_equal(folds[0], folds[1])


def test_a_limited_number_of_jets_is_one_of_all_classes_and_folds_whatever_their_order(tmp_path: Path) -> None:
    values = columns(N)
    order = np.argsort(values["label"], kind="stable")
    settings = replace(SETTINGS, fit=FitSettings(max_jets=2000))

    sample = read(tmp_path, settings, **{name: each[order] for name, each in values.items()})

    assert len(sample) == 2000
    assert np.mean(sample.is_signal) == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(2000))
    assert np.mean(sample.fold == TEST) == pytest.approx(0.15, abs=4 * 0.36 / np.sqrt(2000))


def test_a_network_on_constituents_needs_no_columns_of_features(tmp_path: Path) -> None:
    values = {name: each for name, each in columns(N).items() if name not in NAMES}
    path = write(tmp_path / "table.parquet", values | lists(momenta(N)))

    sample = read_sample([path], replace(SETTINGS, network=NetworkSettings("deepsets")))

    assert sample.names == ()
    assert sample.features.shape == (N, 0)


def test_a_small_table_will_do_to_judge_with(tmp_path: Path) -> None:
    path = write(tmp_path / "table.parquet", columns(60))
    settings = TaggerSettings(columns=ColumnSettings(features=NAMES))

    with pytest.raises(RefusedError, match="at least 100 are needed"):
        read_sample([path], settings)
    assert len(read_sample([path], settings, is_for_training=False)) == 60


def test_a_missing_column_is_told_before_tensorflow_is_imported(tmp_path: Path) -> None:
    table = write(tmp_path / "table.parquet", columns(100))
    words = ["train", "tagger", "--table", str(table), "--features", "x9", "--output", str(tmp_path / "out")]
    program = (
        f"import sys, analysis\n"
        f"try:\n    analysis.main({words})\n"
        f"except SystemExit as end:\n    sys.exit(9 if 'tensorflow' in sys.modules else end.code)\n"
    )

    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)

    assert ended.returncode == 2
    assert "has no column 'x9' for --features" in ended.stderr


@pytest.mark.parametrize("name", ["label", "weight", "is_mc"])
def test_a_column_that_tells_what_a_jet_is_is_no_feature(name: str) -> None:
    with pytest.raises(ValueError, match=f"features must not tell what a jet is, got {name}"):
        ColumnSettings(features=("x1", name))
