"""Histograms as files: UHI for programs that know named axes, TH1/TH2/TH3 for ROOT users, both from the same objects.

`histograms.zip` keeps everything: axis names, labels, categories, sums of weights and of squared weights, flow bins. In
`histograms.root` a histogram becomes slices of at most three axes. Categories are folders, and where more than three
number axes are left, the ones between the second and the last are sliced too:

    asymmetry/<dataset>/<region>/<third_jet>/alpha_<bin>     TH3 of |eta|, pt_avg, asymmetry
    spectrum/<dataset>                                       TH1 of pt_avg

Slices without content are left out; `<axis>_all` is the sum over an axis that was sliced, flow included.
"""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
from dataclasses import dataclass
from itertools import combinations, product
from typing import TYPE_CHECKING, Any

import hist
import numpy as np
import uhi.io.zip
import uproot
from numpy.typing import NDArray
from uproot.writing import identify

from processors.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

FloatArray = NDArray[np.float64]

UHI_FILE = "histograms.zip"
ROOT_FILE = "histograms.root"
MAX_ROOT_AXES = 3
# A deflate level above 1 and any ROOT compression above 1 cost seconds and gain a few per cent on mostly empty bins.
COMPRESSION_LEVEL = 1


def write_histograms(histograms: Mapping[str, hist.Hist[Any]], folder: Path) -> tuple[Path, Path]:
    """Paths of the UHI and of the ROOT file written into `folder`; existing files are replaced as a whole.

    Every histogram needs a name on each axis and a counting storage (Weight, Double or Int64).
    """
    for name, histogram in histograms.items():
        _check(name, histogram)
    folder.mkdir(parents=True, exist_ok=True)
    return (
        _replace(folder / UHI_FILE, lambda path: _write_uhi(histograms, path)),
        _replace(folder / ROOT_FILE, lambda path: _write_root(histograms, path)),
    )


def read_histograms(folder: Path) -> dict[str, hist.Hist[Any]]:
    """Histograms of an output folder by name, exactly as they were written."""
    path = folder / UHI_FILE
    if not path.is_file():
        message = f"expected {path} with the histograms of a run; name the output folder of a run"
        raise InputError(message)
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile:
        raise InputError(f"{path} is damaged, perhaps cut off; make it again") from None
    with archive:
        names = [entry.removesuffix(".json") for entry in archive.namelist() if entry.endswith(".json")]
        return {name: hist.Hist(uhi.io.zip.read(archive, name)) for name in names}


def digest(histograms: Mapping[str, hist.Hist[Any]]) -> str:
    """SHA-256 of the contents, flow included: equal for the same numbers in the same bins, whatever the file says."""
    total = hashlib.sha256()
    for name in sorted(histograms):
        total.update(name.encode())
        for axis in histograms[name].axes:
            total.update(f"{axis.name}{list(axis)}".encode())
        total.update(np.ascontiguousarray(histograms[name].view(flow=True)).tobytes())
    return total.hexdigest()


def _check(name: str, histogram: hist.Hist[Any]) -> None:
    if histogram.kind != "COUNT":
        message = f"histogram {name!r} has the storage {histogram.storage_type.__name__}, expected one that counts"
        raise TypeError(message)
    if not all(histogram.axes.name):
        message = f"histogram {name!r} has the axis names {histogram.axes.name}, expected a name for every axis"
        raise ValueError(message)


def _replace(path: Path, write: Callable[[Path], None]) -> Path:
    """Write beside `path` and rename, so that a run that is stopped leaves no half of a file."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def _write_uhi(histograms: Mapping[str, hist.Hist[Any]], path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=COMPRESSION_LEVEL) as archive:
        for name, histogram in histograms.items():
            uhi.io.zip.write(archive, name, histogram)


def _write_root(histograms: Mapping[str, hist.Hist[Any]], path: Path) -> None:
    with uproot.recreate(path, compression=uproot.ZLIB(COMPRESSION_LEVEL)) as file:
        for name, histogram in histograms.items():
            slices = list(root_slices(histogram))
            if not slices:
                file.mkdir(_path_part(name))
            for part in slices:
                file["/".join([_path_part(name), *part.path])] = part.to_root(name)


@dataclass(frozen=True, slots=True)
class RootSlice:
    """At most three axes of a histogram as ROOT sees them.

    `values` and `variances` have one underflow and one overflow bin along every axis; `path` are the folders and the
    name below the histogram's own folder, `title` says in words what was selected.
    """

    path: tuple[str, ...]
    title: str
    axes: tuple[Any, ...]
    values: FloatArray
    variances: FloatArray | None

    @property
    def effective_entries(self) -> float:
        """(sum w)^2 / sum w^2, flow included: the number of unweighted entries that would be as precise."""
        total = float(self.values.sum())
        squares = total if self.variances is None else float(self.variances.sum())
        return total**2 / squares if squares > 0 else 0.0

    def to_root(self, name: str) -> Any:
        """TH1D, TH2D or TH3D that uproot can write."""
        make = (identify.to_TH1x, identify.to_TH2x, identify.to_TH3x)[len(self.axes) - 1]
        axes = {f"f{letter}axis": _root_axis(letter, axis) for letter, axis in zip("XYZ", self.axes, strict=False)}
        sumw2 = None if self.variances is None else self.variances.T.ravel()
        return make(
            fName=None,
            fTitle=": ".join(part for part in (name, self.title) if part),
            data=self.values.T.ravel(),
            fEntries=self.effective_entries,
            fSumw2=sumw2,
            **_statistics(self),
            **axes,
        )


def root_slices(histogram: hist.Hist[Any]) -> Iterator[RootSlice]:
    """Non-empty slices of a histogram; one that needs no slicing is always given, even if it is empty."""
    axes = tuple(histogram.axes)
    kept = _kept_axes(axes)
    sliced = sorted(set(range(len(axes))) - set(kept), key=lambda i: (not _is_category(axes[i]), i))
    shown = tuple(axes[i] for i in kept)
    values = histogram.values(flow=True)
    variances = histogram.variances(flow=True) if histogram.storage_type is hist.storage.Weight else None
    for choice in product(*(_choices(axes[i]) for i in sliced)):
        bins = {position: part.bins for position, part in zip(sliced, choice, strict=True)}
        index = tuple(bins.get(i, slice(None)) for i in range(len(axes)))
        content = values[index].sum(axis=tuple(sliced))
        squared = None if variances is None else variances[index].sum(axis=tuple(sliced))
        if sliced and not np.any(content) and (squared is None or not np.any(squared)):
            continue
        content, squared = _padded(content, shown), None if squared is None else _padded(squared, shown)
        path = tuple(part.name for part in choice) or _own_name(shown)
        yield RootSlice(path, ", ".join(part.title for part in choice if part.title), shown, content, squared)


@dataclass(frozen=True, slots=True)
class _Choice:
    """One bin, or all bins, of a sliced axis; `bins` counts from the underflow where the axis has one."""

    name: str
    title: str
    bins: slice


def _choices(axis: Any) -> list[_Choice]:
    """Bins of an axis and the flow bins it has; for a number axis also the sum over all."""
    label, size, start = _axis_title(axis), len(axis), int(axis.traits.underflow)
    below, above = slice(0, 1), slice(start + size, start + size + 1)
    inner = [slice(start + i, start + i + 1) for i in range(size)]
    if _is_category(axis):
        choices = [_Choice(_path_part(str(name)), str(name), bins) for name, bins in zip(axis, inner, strict=True)]
        return [*choices, _Choice("other", f"other {label}", above)] if axis.traits.overflow else choices
    edges = axis.edges
    choices = [
        _Choice(f"{axis.name}_{i}", f"{edges[i]:g} <= {label} < {edges[i + 1]:g}", bins) for i, bins in enumerate(inner)
    ]
    if axis.traits.underflow:
        choices.insert(0, _Choice(f"{axis.name}_underflow", f"{label} < {edges[0]:g}", below))
    if axis.traits.overflow:
        choices.append(_Choice(f"{axis.name}_overflow", f"{label} >= {edges[-1]:g}", above))
    return [*choices, _Choice(f"{axis.name}_all", f"all {label}", slice(None))]


def _kept_axes(axes: Sequence[Any]) -> list[int]:
    """Axes that become the axes of a TH1/2/3; the only axes of a histogram are kept even if they are categories."""
    numbers = [i for i, axis in enumerate(axes) if not _is_category(axis)]
    if not numbers:
        return list(range(len(axes)))[-MAX_ROOT_AXES:]
    return numbers if len(numbers) <= MAX_ROOT_AXES else [*numbers[: MAX_ROOT_AXES - 1], numbers[-1]]


def _own_name(axes: Sequence[Any]) -> tuple[str]:
    return ("_".join(_path_part(axis.name) for axis in axes),)


def _padded(values: FloatArray, axes: Sequence[Any]) -> FloatArray:
    """Values with one flow bin on either side of every axis, zero where the axis has none."""
    padded = np.zeros(tuple(len(axis) + 2 for axis in axes))
    padded[tuple(slice(1 - axis.traits.underflow, 1 + len(axis) + axis.traits.overflow) for axis in axes)] = values
    return padded


def _statistics(part: RootSlice) -> dict[str, float]:
    """Moments of the bin centres that ROOT keeps beside the bins, for GetMean, GetStdDev and their errors."""
    inner = (slice(1, -1),) * len(part.axes)
    values = part.values[inner]
    squares = values if part.variances is None else part.variances[inner]
    letters = "xyz"[: len(part.axes)]
    centres = [_root_centres(axis) for axis in part.axes]
    sums = {"fTsumw": float(values.sum()), "fTsumw2": float(squares.sum())}
    for i, letter in enumerate(letters):
        along = np.einsum(f"{letters}->{letter}", values)
        sums[f"fTsumw{letter}"] = float(along @ centres[i])
        sums[f"fTsumw{letter}2"] = float(along @ centres[i] ** 2)
    for i, j in combinations(range(values.ndim), 2):
        pair = letters[i] + letters[j]
        plane = np.einsum(f"{letters}->{pair}", values)
        sums[f"fTsumw{pair}"] = float(centres[i] @ plane @ centres[j])
    return sums


def _root_axis(letter: str, axis: Any) -> Any:
    edges = _root_edges(axis)
    equal_bins = _is_category(axis) or (isinstance(axis, hist.axis.Regular) and axis.transform is None)
    return identify.to_TAxis(
        fName=f"{letter.lower()}axis",
        fTitle=_axis_title(axis),
        fNbins=len(axis),
        fXmin=float(edges[0]),
        fXmax=float(edges[-1]),
        fXbins=None if equal_bins else edges,
        fLabels=_root_labels(axis) if _is_category(axis) else None,
    )


def _root_labels(axis: Any) -> Any:
    labels = identify.to_THashList([identify.to_TObjString(str(category)) for category in axis])
    for i, label in enumerate(labels):  # TAxis finds the bin of a label by this number
        label._bases[0]._members["@fUniqueID"] = i + 1  # noqa: SLF001 uproot has no public way
    return labels


def _root_edges(axis: Any) -> FloatArray:
    """Edges along an axis; categories take a unit each."""
    return np.arange(len(axis) + 1.0) if _is_category(axis) else np.asarray(axis.edges, dtype=np.float64)


def _root_centres(axis: Any) -> FloatArray:
    edges = _root_edges(axis)
    return 0.5 * (edges[1:] + edges[:-1])


def _axis_title(axis: Any) -> str:
    """Label of the axis in the dialect of TeX that ROOT reads: no dollars, # for the backslash, braces everywhere."""
    title = str(axis.label or axis.name)
    if "$" not in title:
        return title
    return re.sub(r"([_^])(\w)", r"\1{\2}", title).replace("$", "").replace("\\", "#")


def _is_category(axis: Any) -> bool:
    return isinstance(axis, hist.axis.StrCategory | hist.axis.IntCategory | hist.axis.Boolean)


def _path_part(name: str) -> str:
    """Name with the characters that mean something in a ROOT path escaped as in a URL."""
    return name.replace("%", "%25").replace("/", "%2F").replace(";", "%3B") or "%00"
