"""Histograms on disk hold what they held in memory, for readers of UHI and for readers of ROOT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import hist
import numpy as np
import pytest
import uproot

from processors.errors import InputError
from processors.histogram_files import digest, read_histograms, root_slices, write_histograms

if TYPE_CHECKING:
    import zipfile
    from pathlib import Path

Histograms = dict[str, hist.Hist[Any]]


def axes() -> dict[str, Any]:
    return {
        "dataset": hist.axis.StrCategory(["QCD/Pt-15", "data"], name="dataset"),
        "eta": hist.axis.Variable([0.0, 0.2, 0.7, 2.5], name="eta", label="|eta| of the probe"),
        "region": hist.axis.StrCategory(["standard", "forward"], name="region", overflow=False),
        "pt_avg": hist.axis.Variable([40.0, 65.0, 110.0], name="pt_avg", label=r"$p_T^{avg}$ [GeV]", underflow=False),
        "alpha": hist.axis.Variable([0.0, 0.1, 0.3], name="alpha", label=r"$\alpha$", underflow=False),
        "asymmetry": hist.axis.Regular(10, -2, 2, name="asymmetry", underflow=False, overflow=False),
    }


def filled(*names: str, storage: Any = None, events: int = 400) -> hist.Hist[Any]:
    """A histogram of random entries, some of them beyond every axis and some of negative weight."""
    random = np.random.default_rng(7)
    histogram = hist.Hist(*(axes()[name] for name in names), storage=storage or hist.storage.Weight())
    columns: dict[str, Any] = {
        "dataset": random.choice(["QCD/Pt-15", "data"], events),
        "eta": random.uniform(-0.2, 3.0, events),
        "region": random.choice(["standard", "forward"], events),
        "pt_avg": random.exponential(60, events),
        "alpha": random.exponential(0.2, events),
        "asymmetry": random.normal(0, 0.5, events),
    }
    weight = random.normal(1, 0.8, events)
    if isinstance(histogram.storage_type(), hist.storage.Int64):
        histogram.fill(**{name: columns[name] for name in names})
    else:
        histogram.fill(**{name: columns[name] for name in names}, weight=weight)
    return histogram


ALL = ("dataset", "eta", "region", "pt_avg", "alpha", "asymmetry")


@pytest.fixture
def histograms() -> Histograms:
    return {
        "asymmetry": filled(*ALL),
        "moments": filled("dataset", "eta", "region", "pt_avg", storage=hist.storage.Double()),
        "spectrum": filled("dataset", "pt_avg"),
        "events": filled("pt_avg", storage=hist.storage.Int64()),
    }


def test_a_histogram_read_back_equals_the_written_one(histograms: Histograms, tmp_path: Path) -> None:
    write_histograms(histograms, tmp_path)

    got = read_histograms(tmp_path)

    assert list(got) == list(histograms)
    for name, expected in histograms.items():
        assert got[name] == expected
        assert got[name].axes.name == expected.axes.name
        assert got[name].axes.label == expected.axes.label
        assert got[name].storage_type is expected.storage_type
        assert list(got[name].axes[0]) == list(expected.axes[0])
        np.testing.assert_array_equal(got[name].view(flow=True), expected.view(flow=True))


def test_a_histogram_without_entries_survives(tmp_path: Path) -> None:
    histograms = {"asymmetry": filled(*ALL, events=0), "events": filled("pt_avg", events=0)}

    write_histograms(histograms, tmp_path)

    assert read_histograms(tmp_path) == histograms
    with uproot.open(tmp_path / "histograms.root") as file:
        assert file.keys(recursive=True, cycle=False) == ["asymmetry", "events", "events/pt_avg"]


def test_a_dataset_axis_without_datasets_survives(tmp_path: Path) -> None:
    empty: hist.Hist[Any] = hist.Hist(hist.axis.StrCategory([], growth=True, name="dataset"), axes()["eta"])

    write_histograms({"empty": empty}, tmp_path)

    assert read_histograms(tmp_path)["empty"] == empty


def test_root_slices_hold_the_selected_bins_with_flow(histograms: Histograms, tmp_path: Path) -> None:
    write_histograms(histograms, tmp_path)
    expected: Any = histograms["asymmetry"][{"dataset": hist.loc("data"), "region": hist.loc("forward"), "alpha": 1}]

    with uproot.open(tmp_path / "histograms.root") as file:
        got = file["asymmetry/data/forward/alpha_1"]

    assert got.classname == "TH3D"
    assert got.title == "asymmetry: data, forward, 0.1 <= #alpha < 0.3"
    assert [got.member(f"f{letter}axis").member("fTitle") for letter in "XYZ"] == [
        "|eta| of the probe",
        "p_{T}^{avg} [GeV]",
        "asymmetry",
    ]
    # The file has flow bins on either side of every axis, the histogram only where it was given them.
    np.testing.assert_array_equal(got.values(flow=True)[:, 1:, 1:-1], expected.values(flow=True))
    np.testing.assert_array_equal(got.variances(flow=True)[:, 1:, 1:-1], expected.variances(flow=True))
    np.testing.assert_array_equal(got.axis("x").edges(), expected.axes["eta"].edges)


def test_the_sum_over_a_sliced_axis_includes_its_overflow(histograms: Histograms, tmp_path: Path) -> None:
    write_histograms(histograms, tmp_path)
    selected: dict[int | str, Any] = {"dataset": hist.loc("data"), "region": hist.loc("forward"), "alpha": sum}
    expected: Any = histograms["asymmetry"][selected]

    with uproot.open(tmp_path / "histograms.root") as file:
        got = file["asymmetry/data/forward/alpha_all"].values()

    np.testing.assert_allclose(got, expected.values(), rtol=1e-14, atol=1e-14)


def test_few_axes_become_readable_th1_and_th2(histograms: Histograms, tmp_path: Path) -> None:
    write_histograms(histograms, tmp_path)

    with uproot.open(tmp_path / "histograms.root") as file:
        classes = file.classnames(recursive=True, cycle=False)

    assert classes["moments/data/standard"] == "TH2D"
    assert classes["spectrum/data"] == "TH1D"
    assert classes["events/pt_avg"] == "TH1D"


def test_a_slash_in_a_dataset_name_does_not_make_a_folder(histograms: Histograms, tmp_path: Path) -> None:
    write_histograms(histograms, tmp_path)

    with uproot.open(tmp_path / "histograms.root") as file:
        assert "spectrum/QCD%2FPt-15" in file.keys(recursive=True, cycle=False)


def test_slices_without_content_are_left_out() -> None:
    histogram = hist.Hist(*(axes()[name] for name in ALL), storage=hist.storage.Weight())
    histogram.fill("data", 0.3, "forward", 50.0, 0.05, 0.1)

    got = [part.path for part in root_slices(histogram)]

    assert got == [("data", "forward", "alpha_0"), ("data", "forward", "alpha_all")]


def test_root_finds_mean_and_effective_entries_of_weighted_histograms(tmp_path: Path) -> None:
    histogram = hist.Hist(hist.axis.Regular(4, 0, 4, name="x"), storage=hist.storage.Weight())
    histogram.fill([0.5, 2.5, 2.5], weight=[2.0, 1.0, 3.0])

    write_histograms({"h": histogram}, tmp_path)
    with uproot.open(tmp_path / "histograms.root") as file:
        got = file["h/x"].all_members

    assert got["fTsumwx"] / got["fTsumw"] == pytest.approx((2 * 0.5 + 4 * 2.5) / 6)
    assert got["fTsumw2"] == 4 + 1 + 9
    assert got["fEntries"] == pytest.approx(36 / 14)


def test_category_labels_are_kept_where_they_are_the_only_axes(tmp_path: Path) -> None:
    histogram: hist.Hist[Any] = hist.Hist(axes()["dataset"], axes()["region"])
    histogram.fill(["data", "data"], ["forward", "standard"])

    write_histograms({"counts": histogram}, tmp_path)
    with uproot.open(tmp_path / "histograms.root") as file:
        got = file["counts/dataset_region"]

    assert got.axis("x").labels() == ["QCD/Pt-15", "data"]
    np.testing.assert_array_equal(got.values(), [[0, 0], [1, 1]])


def test_the_digest_depends_on_contents_only(histograms: Histograms) -> None:
    reordered = dict(reversed(list(histograms.items())))
    changed = histograms | {"spectrum": histograms["spectrum"] * 1.0000001}

    assert digest(reordered) == digest(histograms)
    assert digest(changed) != digest(histograms)


def test_axes_without_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'unnamed' has the axis names"):
        write_histograms({"unnamed": hist.Hist(hist.axis.Regular(2, 0, 1))}, tmp_path)


def test_means_are_refused_because_root_has_no_three_dimensional_place_for_them(tmp_path: Path) -> None:
    profile = hist.Hist(axes()["eta"], storage=hist.storage.Mean())

    with pytest.raises(TypeError, match="storage Mean"):
        write_histograms({"profile": profile}, tmp_path)


def test_a_damaged_file_of_histograms_is_refused_with_its_name(tmp_path: Path) -> None:
    write_histograms({"one": hist.Hist(axes()["eta"])}, tmp_path)
    path = tmp_path / "histograms.zip"
    path.write_bytes(path.read_bytes()[:-30])

    with pytest.raises(InputError, match=r"histograms\.zip is damaged"):
        read_histograms(tmp_path)


def test_reading_a_folder_without_histograms_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"histograms\.zip"):
        read_histograms(tmp_path)


def test_a_failed_write_leaves_the_old_file_and_no_other(
    histograms: Histograms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_histograms(histograms, tmp_path)
    before = (tmp_path / "histograms.zip").read_bytes()

    def full_disk(archive: zipfile.ZipFile, name: str, histogram: object) -> None:
        archive.writestr(name, repr(histogram))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("uhi.io.zip.write", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_histograms({"spectrum": histograms["spectrum"]}, tmp_path)

    assert (tmp_path / "histograms.zip").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["histograms.root", "histograms.zip"]
