"""Any parquet table with the named columns -> jets with folds and weights, and notes on what was left out."""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.features import RaggedConstituents, offsets_of
from models.flat_weights import effective_entries
from models.tagging.tagger_table import CONSTITUENT_LISTS, read_constituents
from models.training.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from models.training.tagging.settings import EvaluationSettings, FitSettings, TaggerSettings

BoolArray = NDArray[np.bool_]
Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]

TRAINING, VALIDATION, TEST = 0, 1, 2
UNLABELLED = -1
MIN_JETS = 100
"""Of each class, in every fold; and of background within the range of the protected variable."""
PILEUP = ("npv", "mu")
"""Columns that tell pile-up; the first of them that has values counts."""
MAX_PLANING = 20.0
"""Times the mean: the largest factor that makes one spectrum like another."""
_PLANING_BINS = 60
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


@dataclass(frozen=True, slots=True)
class TaggerSample:
    """n jets.

    Attributes
    ----------
    names
        Of the columns of `features`.
    features
        (n, n_features) float32, raw values; not finite where the table has none.
    label
        (n,) int8: 1 signal, 0 background, `UNLABELLED`.
    protected, condition
        (n,), the latter positive.
    weight
        (n,) as given; some may be negative, those of each class have a positive sum.
    is_simulation
        (n,).
    fold
        (n,): `TRAINING`, `VALIDATION` or `TEST`.
    low, high
        Range of the protected variable in which the score is to be free of it.
    notes
        What was left out or changed, with numbers.
    row
        (n,) place of each jet among the rows of all tables, for whoever reads more of them; None where it is not known.
    pileup
        (n,) vertices or interactions, see `PILEUP`, nan where they are not known; None for tables without.
    constituents
        px, py, pz and E of each jet, hardest first; None where the network sees none.
    """

    names: tuple[str, ...]
    features: Float32Array
    label: NDArray[np.int8]
    protected: Float64Array
    condition: Float64Array
    weight: Float64Array
    is_simulation: BoolArray
    fold: NDArray[np.int8]
    low: float
    high: float
    notes: tuple[str, ...] = ()
    row: NDArray[np.int64] | None = None
    pileup: Float64Array | None = None
    constituents: RaggedConstituents | None = None

    def __len__(self) -> int:
        """Jets."""
        return len(self.label)

    @property
    def is_signal(self) -> BoolArray:
        """(n,)."""
        return np.asarray(self.label == 1)

    @property
    def is_background(self) -> BoolArray:
        """(n,)."""
        return np.asarray(self.label == 0)

    @property
    def is_within(self) -> BoolArray:
        """Background within the range of the protected variable, (n,)."""
        return self.is_background & (self.protected >= self.low) & (self.protected < self.high)

    @property
    def positive_weight(self) -> Float64Array:
        """Weights (n,) to train with, 0 for those that are negative."""
        return np.maximum(self.weight, 0.0)

    def take(self, jets: Any) -> TaggerSample:
        """Some of the jets, by index, slice or mask."""
        index = np.arange(len(self))[jets]
        constituents = None if self.constituents is None else self.constituents.take(index)
        return TaggerSample(
            self.names,
            self.features[jets],
            self.label[jets],
            self.protected[jets],
            self.condition[jets],
            self.weight[jets],
            self.is_simulation[jets],
            self.fold[jets],
            self.low,
            self.high,
            self.notes,
            None if self.row is None else self.row[jets],
            None if self.pileup is None else self.pileup[jets],
            constituents,
        )

    def of_fold(self, *folds: int) -> TaggerSample:
        """Jets of some folds."""
        return self.take(np.isin(self.fold, folds))


def read_sample(
    paths: Sequence[Path],
    settings: TaggerSettings,
    *,
    is_for_training: bool = True,
    features: Sequence[str] | None = None,
    among: BoolArray | None = None,
) -> TaggerSample:
    """Jets of parquet files with the columns that are named in the settings; only those `among` (n_rows,) if given.

    `features` are those of the settings if not given, and none for a network that sees constituents.

    Jets whose protected variable, condition or weight is not finite are left out, and those whose condition is not
    positive. Weights that are negative count with their sign in metrics, and as 0 in a training. Features that are not
    finite stay: the network replaces them by the median of its training sample. All of it is counted in the notes.

    Raises
    ------
    RefusedError
        For missing columns, labels other than 0 and 1, one class only, weights without a positive sum, and for training
        fewer than `MIN_JETS` jets of a class, or of background within the range, in a fold.
    """
    if features is None:
        features = _wanted_features(settings)
    columns = [_columns(path, settings, features) for path in paths]
    constituents = _constituents(paths, settings)
    joined = {name: np.concatenate([each[name] for each in columns]) for name in columns[0]}
    where = ", ".join(str(path) for path in paths)
    label = _labels(joined, settings, where)
    kept, notes = _usable(joined, label, settings, among)
    if constituents is not None:
        kept &= _has_constituents(constituents, kept, notes)
    values = {name: each[kept] for name, each in joined.items()}
    negative = int(np.count_nonzero(values["weight"] < 0))
    if negative:
        notes.append(f"{negative:,} jets with negative weights, which count as 0 in a training")
    sample = TaggerSample(
        tuple(features),
        _matrix(values, features),
        label[kept],
        values["protected"],
        values["condition"],
        values["weight"],
        values["simulation"] != 0,
        _folds(values["identity"], settings.fit),
        settings.evaluation.low,
        settings.evaluation.high,
        tuple(notes),
        np.flatnonzero(kept),
        next((each for name in PILEUP if np.isfinite(each := values[f"pileup/{name}"]).any()), None),
        None if constituents is None else constituents.take(np.flatnonzero(kept)),
    )
    if settings.fit.max_jets is not None:
        sample = sample.take(_chosen(values["identity"], settings.fit.max_jets))
    _check(sample, settings, where)
    if is_for_training:
        _check_folds(sample, settings, where)
    return replace(sample, notes=(*sample.notes, *_not_finite(sample)))


def in_test_fold(paths: Sequence[Path], identity: str, test: float) -> BoolArray:
    """Rows of all files that a training holds out for its tests, (n_rows,); see `fit.test` and `columns.identity`."""
    return np.concatenate([_shares(_identity(path, identity)) < test for path in paths])


def classification_weights(sample: TaggerSample, planed: float) -> Float64Array:
    """Weights (n,) with the same sum for both classes and mean 1 over labelled jets.

    Background is a mixture: a share `planed` of it has the spectrum of signal in the protected variable, the rest its
    own. No factor is above `MAX_PLANING` times their mean.
    """
    weight = np.where(sample.label == UNLABELLED, 0.0, sample.positive_weight)
    signal, background = sample.is_signal, sample.is_background
    total = 0.5 * np.count_nonzero(sample.label != UNLABELLED)
    weight[signal] *= total / weight[signal].sum()
    weight[background] *= total / weight[background].sum()
    if planed > 0:
        factors = _planing(sample.protected, np.where(signal, weight, 0.0), np.where(background, weight, 0.0))
        like_signal = weight * factors
        like_signal *= total / like_signal[background].sum()
        weight[background] = (planed * like_signal + (1 - planed) * weight)[background]
    return weight


def scale_weights(sample: TaggerSample) -> Float64Array:
    """Weights (n,) for the scales of columns: of signal as much as of background, and of data as of both.

    So no cross section moves a class towards the limits of a network.
    """
    weight = classification_weights(sample, 0.0)
    data = sample.label == UNLABELLED
    of_data = sample.positive_weight[data]
    if of_data.sum() > 0:
        weight[data] = of_data * (weight.sum() / of_data.sum())
    return weight


def penalty_weights(sample: TaggerSample) -> Float64Array:
    """Weights (n,) of background within the range of mean 1 there, 0 for all other jets."""
    weight = np.where(sample.is_within, sample.positive_weight, 0.0)
    return np.asarray(weight * (np.count_nonzero(sample.is_within) / weight.sum()))


def domains(sample: TaggerSample, compared: str) -> tuple[BoolArray, BoolArray]:
    """Simulated jets that are compared with data, all or background alone, and jets of data, (n,)."""
    is_left_out = sample.is_signal & (compared == "background")
    return np.asarray(sample.is_simulation & ~is_left_out), np.asarray(~sample.is_simulation)


def ranks(sample: TaggerSample) -> Float64Array:
    """Share of the background within the range that has a smaller protected variable, (n,) in [0, 1].

    Of those with the same one half count.
    """
    chosen = sample.is_within
    values, place = np.unique(sample.protected[chosen], return_inverse=True)
    weight = np.bincount(place, sample.positive_weight[chosen])
    share = (np.cumsum(weight) - 0.5 * weight) / weight.sum()
    return np.asarray(np.interp(sample.protected, values, share))


def check_columns(paths: Sequence[Path], settings: TaggerSettings) -> None:
    """Refuse tables that lack a column which a training needs; takes no time, as no jet is read.

    Raises
    ------
    RefusedError
        For such a table, and for a file that is none.
    """
    for path in paths:
        _names(path, settings, _wanted_features(settings))


def _wanted_features(settings: TaggerSettings) -> Sequence[str]:
    return () if settings.network.uses_constituents else settings.columns.features


def _names(path: Path, settings: TaggerSettings, features: Sequence[str]) -> dict[str, str]:
    """Names of the columns of a file by what they are for."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    named = settings.columns
    try:
        there = pq.read_schema(path).names
    except (pa.ArrowException, OSError) as error:
        raise RefusedError(_no_table(path, error)) from error
    names = {f"feature/{name}": name for name in features}
    names |= {"label": named.label, "protected": named.protect, "condition": named.condition}
    if named.weight:
        names["weight"] = named.weight
    for purpose, name in names.items():
        if name not in there:
            raise RefusedError(_missing(path, purpose, name, there))
    if named.simulation in there:
        names["simulation"] = named.simulation
    return names | {f"pileup/{name}": name for name in PILEUP if name in there}


def _columns(path: Path, settings: TaggerSettings, features: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Columns of a file by what they are for."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = _names(path, settings, features)
    try:
        table = pq.read_table(path, columns=sorted({*names.values()}))
    except (pa.ArrowException, OSError) as error:
        raise RefusedError(_no_table(path, error)) from error
    columns = {purpose: _numbers(table[name], path, name, purpose) for purpose, name in names.items()}
    n = table.num_rows
    for purpose in ("weight", "simulation"):
        columns.setdefault(purpose, np.ones(n))
    for name in PILEUP:
        columns.setdefault(f"pileup/{name}", np.full(n, np.nan))
    return columns | {"identity": _identity(path, settings.columns.identity)}


def _no_table(path: Path, error: Exception) -> str:
    return f"{path} is no parquet table: {(str(error).splitlines() or [''])[0]}"


def _matrix(columns: dict[str, NDArray[Any]], features: Sequence[str]) -> Float32Array:
    """Features as they are, (n, n_features)."""
    matrix = np.zeros((len(columns["label"]), len(features)), np.float32)
    for place, name in enumerate(features):
        matrix[:, place] = columns[f"feature/{name}"]
    return matrix


def _constituents(paths: Sequence[Path], settings: TaggerSettings) -> RaggedConstituents | None:
    """Constituents of all jets, hardest first, as many as the network sees; None where it sees none."""
    if not settings.network.uses_constituents:
        return None
    parts = []
    for path in paths:
        try:
            found = read_constituents(path)
        except ValueError as error:
            raise RefusedError(str(error)) from error
        if found is None:
            raise RefusedError(
                f"{path} has no constituents, which the network {settings.network.kind} sees; expected the columns "
                f"{', '.join(CONSTITUENT_LISTS)} with a list per jet"
            )
        parts.append(found.by_pt().limited(settings.network.sizes.length))
    counts = np.concatenate([part.counts for part in parts])
    return RaggedConstituents(offsets_of(counts), np.concatenate([part.values for part in parts]))


def _has_constituents(constituents: RaggedConstituents, kept: BoolArray, notes: list[str]) -> BoolArray:
    """Jets that have constituents, all of them finite; others are counted in the notes."""
    is_lost = constituents.counts == 0
    broken = np.flatnonzero(~np.isfinite(constituents.values).all(axis=1))
    is_lost[np.searchsorted(constituents.offsets, broken, side="right") - 1] = True
    lost = int(np.count_nonzero(kept & is_lost))
    if lost:
        notes.append(f"{lost:,} jets left out: no constituents, or some that are not finite")
    return np.asarray(~is_lost)


def _missing(path: Path, purpose: str, name: str, there: Sequence[str]) -> str:
    option = {"label": "--label", "protected": "--protect", "condition": "--condition", "weight": "--weight"}
    near = difflib.get_close_matches(name, there, 1)
    hint = f"; did you mean {near[0]!r}" if near else f"; it has {', '.join(there)}"
    way_out = "; --weight none takes equal weights" if purpose == "weight" else ""
    return f"{path} has no column {name!r} for {option.get(purpose, '--features')}{hint}{way_out}"


def _numbers(column: Any, path: Path, name: str, purpose: str) -> NDArray[Any]:
    """Values of a column; nulls are nan."""
    import pyarrow as pa

    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise RefusedError(f"{path}: column {name!r} for {purpose.partition('/')[0]} holds {kind}, not numbers")
    wanted = pa.float32() if purpose.startswith("feature/") else pa.float64()
    return np.asarray(column.cast(wanted, safe=False).to_numpy(zero_copy_only=False))


def _identity(path: Path, name: str) -> NDArray[np.uint64]:
    """What tells the jets of a file apart, (n,), of text a hash; without such a column one of all columns of numbers.

    So it is the same wherever a row stands, and whatever is asked for.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pq.read_schema(path)
    if name in schema.names:
        column = pq.read_table(path, columns=[name])[name]
        if pa.types.is_integer(column.type) and not column.null_count:
            return np.asarray(column.to_numpy()).astype(np.uint64)
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            return _of_text(column)
        return _numbers(column, path, name, "identity").view(np.uint64)
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)
    names = sorted(field.name for field in schema if any(is_kind(field.type) for is_kind in tests))
    table = pq.read_table(path, columns=names)
    result = np.zeros(table.num_rows, np.uint64)
    for each in names:
        bits: NDArray[np.uint64] = _numbers(table[each], path, each, "identity").view(np.uint64)
        result = _mixed(np.bitwise_xor(result, bits))
    return result


def _of_text(column: Any) -> NDArray[np.uint64]:
    """A number for each text, (n,), the same for the same one; 0 for null."""
    texts, place = np.unique(["" if text is None else text for text in column.to_pylist()], return_inverse=True)
    digests = [hashlib.blake2b(str(text).encode(), digest_size=8).digest() if text else bytes(8) for text in texts]
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)[place]


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64."""
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * _MIX[0]
        values = (values ^ (values >> np.uint64(27))) * _MIX[1]
    return np.asarray(values ^ (values >> np.uint64(31)))


def _shares(identity: NDArray[np.uint64]) -> Float64Array:
    """Uniform numbers (n,) in [0, 1) that a hash makes of the identities."""
    return np.asarray((_mixed(identity + np.uint64(1)) >> np.uint64(40)) / float(1 << 24))


def _chosen(identity: NDArray[np.uint64], count: int) -> NDArray[np.int64]:
    """Places of at most `count` jets, rising, chosen by another hash than that of the folds."""
    order = np.argsort(_mixed(_mixed(identity + np.uint64(1))), kind="stable")
    return np.sort(order[:count])


def _folds(identity: NDArray[np.uint64], fit: FitSettings) -> NDArray[np.int8]:
    """Fold of each jet by a hash of its identity alone."""
    share = _shares(identity)
    fold = np.full(len(identity), TRAINING, np.int8)
    fold[share < fit.validation + fit.test] = VALIDATION
    fold[share < fit.test] = TEST
    return fold


def _labels(columns: dict[str, NDArray[Any]], settings: TaggerSettings, where: str) -> NDArray[np.int8]:
    """Labels; what is not simulation needs none."""
    given = columns["label"]
    is_data = columns["simulation"] == 0
    known = np.isin(given, (0, 1))
    wrong = ~known & ~is_data
    if wrong.any():
        raise RefusedError(
            f"{where}: label {settings.columns.label!r} is 1 for signal and 0 for background, got "
            f"{given[wrong][0]:g} in {np.count_nonzero(wrong):,} jets; data need none, where "
            f"columns.simulation={settings.columns.simulation} is 0"
        )
    return np.where(known & ~is_data, given, UNLABELLED).astype(np.int8)


def _usable(
    columns: dict[str, NDArray[Any]], label: NDArray[np.int8], settings: TaggerSettings, among: BoolArray | None
) -> tuple[BoolArray, list[str]]:
    """Which jets take part, and the notes on the others."""
    kept = np.ones(len(label), np.bool_) if among is None else among.copy()
    notes = []
    named = settings.columns
    for purpose, name in (("protected", named.protect), ("condition", named.condition), ("weight", named.weight)):
        is_fine = np.isfinite(columns[purpose])
        if purpose == "condition":
            is_fine &= columns[purpose] > 0
        lost = int(np.count_nonzero(kept & ~is_fine))
        if lost:
            also = " or not positive" if purpose == "condition" else ""
            notes.append(f"{lost:,} jets left out: {name} not finite{also}")
        kept &= is_fine
    if settings.decorrelation.method != "domain":
        data = int(np.count_nonzero(kept & (label == UNLABELLED)))
        if data:
            notes.append(f"{data:,} jets of data left out: only domain adaptation uses them")
        kept &= label != UNLABELLED
    return kept, notes


def _not_finite(sample: TaggerSample) -> list[str]:
    """How many jets lack each of the features."""
    lacking = np.count_nonzero(~np.isfinite(sample.features), axis=0)
    told = zip(sample.names, lacking, strict=True)
    return [f"{n:,} jets with {name} not finite, for which networks of ours take a median" for name, n in told if n]


def _check(sample: TaggerSample, settings: TaggerSettings, where: str) -> None:
    named = settings.columns
    if not len(sample):
        raise RefusedError(f"{where} has no jets to use{''.join(f'; {note}' for note in sample.notes)}")
    for word, chosen in (("signal", sample.is_signal), ("background", sample.is_background)):
        if not chosen.any():
            raise RefusedError(f"{where} has no {word}: {named.label!r} is 1 for signal and 0 for background")
        if not (total := sample.weight[chosen].sum()) > 0:
            raise RefusedError(
                f"{where}: the weights {named.weight!r} of {word} add up to {total:g}; it must be above 0"
            )


def _check_folds(sample: TaggerSample, settings: TaggerSettings, where: str) -> None:
    named, fit = settings.columns, settings.fit
    for word, chosen in (("signal", sample.is_signal), ("background", sample.is_background)):
        for name, fold in (("train", TRAINING), ("validate", VALIDATION), ("test", TEST)):
            there = chosen & (sample.fold == fold)
            count = np.count_nonzero(there & (sample.weight > 0))
            if count < MIN_JETS:
                raise RefusedError(
                    f"{where} has {count} {word} jets to {name} with, at least {MIN_JETS} are needed; give more jets "
                    f"or other shares than fit.validation={fit.validation:g} and fit.test={fit.test:g}"
                )
            if not (total := sample.weight[there].sum()) > 0:
                raise RefusedError(
                    f"{where}: the weights {named.weight!r} of {word} jets to {name} with add up to {total:g}; it must "
                    f"be above 0"
                )
    _check_range(sample, settings.evaluation, named.protect, where)
    known = np.isfinite(sample.features[sample.fold == TRAINING]).any(axis=0)
    if unknown := [name for name, is_known in zip(sample.names, known, strict=True) if not is_known]:
        raise RefusedError(f"{where}: {', '.join(unknown)} has no finite value in the jets to train with; leave it out")
    if settings.decorrelation.method == "domain" and (sample.is_simulation.all() or not sample.is_simulation.any()):
        raise RefusedError(f"{where}: domain adaptation needs simulation and data, 1 and 0 in {named.simulation!r}")


def _check_range(sample: TaggerSample, evaluation: EvaluationSettings, name: str, where: str) -> None:
    within = sample.is_within & (sample.weight > 0)
    counts = [np.count_nonzero(within & (sample.fold == fold)) for fold in (TRAINING, VALIDATION, TEST)]
    if min(counts) < MIN_JETS:
        low, high = np.percentile(sample.protected[sample.is_background], [1, 99])
        raise RefusedError(
            f"{where}: only {sum(counts)} background jets have {name} in {evaluation.low:g} to {evaluation.high:g} "
            f"(98 % are in {low:.4g} to {high:.4g}); set evaluation.low and evaluation.high"
        )


def described(sample: TaggerSample) -> list[str]:
    """What was read, in words."""
    lines = []
    for word, chosen in (("signal", sample.is_signal), ("background", sample.is_background)):
        effective = effective_entries(sample.weight[chosen])
        lines.append(f"{word}: {np.count_nonzero(chosen):,} jets, {effective:,.0f} effective")
    outside = int(np.count_nonzero(sample.is_background & ~sample.is_within))
    if outside:
        lines.append(
            f"{outside:,} background jets outside of {sample.low:g} to {sample.high:g} count for classification alone"
        )
    return [*lines, *sample.notes]


def _planing(protected: Float64Array, signal: Float64Array, background: Float64Array) -> Float64Array:
    """Ratio of the spectra of signal and background for each jet, bounded; bins hold as much of their mean each."""
    both = signal + background
    order = np.argsort(protected)
    share = np.cumsum(both[order]) / both.sum()
    edges = np.unique(np.interp(np.linspace(0, 1, _PLANING_BINS + 1)[1:-1], share, protected[order]))
    place = np.searchsorted(edges, protected, side="right")
    sums = [np.bincount(place, each, len(edges) + 1) for each in (signal, background)]
    ratio = np.divide(sums[0], sums[1], out=np.zeros(len(edges) + 1), where=sums[1] > 0)
    factors = ratio[place]
    used = background > 0
    mean = float(np.average(factors[used], weights=background[used]))
    return np.asarray(np.minimum(factors, MAX_PLANING * mean))
