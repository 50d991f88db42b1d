"""Large-R jets -> score and working points, by a network of ours with its card or by one of somebody else.

A network is a list of inputs, each with its columns, their scaling and padding (`NetworkInput`), and a way from its
output to one score. Of our own networks the card tells both. For others a `ForeignTagger` does, in a configuration, or
for the larger part the `preprocess.json` that CMS keeps beside a network (weaver, CMSSW): a value is replaced where
it is not finite, standardised as (value - median) norm_factor, limited to lower_bound and upper_bound, and then jets
with fewer constituents are filled up with pad. What that file does not hold are the formulas of its variables, which
`variables` tells by names of ours, and whether the training repeated constituents instead of filling up.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.card import card_path, read_card
from models.session import BATCH_ROWS, OnnxModel, batches, filled_up
from models.tagging.columns import COLUMNS, CONSTITUENT_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from models.card import ModelCard
    from models.features import RaggedConstituents

Float32Array = NDArray[np.float32]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Columns = Mapping[str, NDArray[Any]]

NOT_FINITE_SCORE = "jets without a finite score"
ENERGIES = (*(name for name, column in COLUMNS.items() if column.unit == "GeV"), *CONSTITUENT_COLUMNS, "pt")
FLOATS: Mapping[str, type[np.generic]] = {"tensor(float)": np.float32, "tensor(double)": np.float64}
# Jets at a time, so that the columns of their constituents need little memory.
BLOCK_JETS = 8192
# Sizes of 0 have no logarithm; this one has.
TINY = 1e-8


@dataclass(frozen=True, slots=True)
class Scaling:
    """What is done to a column before the network, in the words of `preprocess.json`, see the module.

    None for `replace_inf_value` leaves a value alone that is not finite; its jet then has no score.
    """

    median: float = 0.0
    norm_factor: float = 1.0
    lower_bound: float = -math.inf
    upper_bound: float = math.inf
    replace_inf_value: float | None = None
    pad: float = 0.0


@dataclass(frozen=True, slots=True)
class NetworkInput:
    """What one input of a network holds.

    Attributes
    ----------
    columns
        Names of columns of the jet, an input (n, n_columns); or of its constituents, an input of rank 3.
    constituents
        Whether they are columns of constituents, see `CONSTITUENT_FORMULAS`.
    scaling
        By name of the column; those that are not there are given as they are.
    min_length, max_length
        A batch is filled up to its longest jet within these; equal for a fixed length, None for no limit above.
    columns_first
        Whether rank 3 is (n, n_columns, length), as weaver has it, or (n, length, n_columns).
    """

    columns: tuple[str, ...]
    constituents: bool = False
    scaling: Mapping[str, Scaling] = field(default_factory=dict)
    min_length: int = 1
    max_length: int | None = None
    columns_first: bool = False

    def __post_init__(self) -> None:
        """Refuse an input that holds nothing."""
        if not self.columns or self.min_length < 1 or (self.max_length or self.min_length) < self.min_length:
            raise ValueError(
                "an input needs at least one column and 1 <= min_length <= max_length, got "
                f"{len(self.columns)} columns, {self.min_length} and {self.max_length}"
            )


@dataclass(frozen=True, slots=True)
class ForeignTagger:
    """A network of somebody else, as a configuration describes it.

    Attributes
    ----------
    preprocess
        Path of its `preprocess.json`; None if `inputs` tells everything.
    inputs
        By name in the network; they come before those of `preprocess`.
    variables
        Our name of a column by the name in `preprocess`; what is not there has the same name.
    output
        Name of the output; None for the first.
    classes
        Names of its columns in order; None for those of `preprocess`.
    signal, background
        The score is the sum of the classes of signal over that of both; empty for an output with one column, which is
        the score, and background empty for the sum of signal alone.
    activation
        What is missing between the output and a probability.
    groomed
        Whether it takes the constituents that grooming left, or all, as most networks of CMS do.
    """

    preprocess: str | None = None
    inputs: Mapping[str, NetworkInput] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    output: str | None = None
    classes: tuple[str, ...] | None = None
    signal: tuple[str, ...] = ()
    background: tuple[str, ...] = ()
    activation: Literal["none", "sigmoid", "softmax"] = "none"
    groomed: bool = False


@dataclass(frozen=True, slots=True)
class Tagger:
    """A network with all that leads from jets to its score; picklable.

    Attributes
    ----------
    model, inputs, output
        The network, what its inputs hold by their names, and the output that counts, None for the first.
    signal, background
        Places of the columns of the output whose sums make the score, see `ForeignTagger`.
    activation
        What is applied to the output.
    working_points
        By name the score from which on a jet passes.
    groomed
        Whether it takes the constituents that grooming left.
    imputes
        Whether the network itself has a value for columns of the jet that are not finite, as one that was trained here.
    """

    model: OnnxModel
    inputs: Mapping[str, NetworkInput]
    output: str | None = None
    signal: tuple[int, ...] = (0,)
    background: tuple[int, ...] = ()
    activation: str = "none"
    working_points: Mapping[str, float] = field(default_factory=dict)
    groomed: bool = True
    imputes: bool = False

    def scores(self, columns: Columns, constituents: RaggedConstituents | None = None) -> tuple[Float32Array, int]:
        """Score of each jet, (n,) float32, nan where an input or the score is not finite, and how many are.

        Columns of the jet may be what they are where the network `imputes`.

        `columns` has arrays (n,) by name; `constituents` those of the same jets with px, py, pz and E, hardest first.
        """
        missing = self.lacking(columns, has_constituents=constituents is not None)
        if missing:
            raise ValueError(f"{self.model.path} takes {', '.join(missing)}, which the jets do not have")
        n = len(next(iter(columns.values()))) if constituents is None else len(constituents)
        scores = np.full(n, np.nan, np.float32)
        for start in range(0, n, BLOCK_JETS):
            jets = np.arange(start, min(start + BLOCK_JETS, n))
            part = None if constituents is None else constituents.take(jets)
            scores[jets] = self._block({name: values[jets] for name, values in columns.items()}, part, len(jets))
        return scores, int(np.count_nonzero(~np.isfinite(scores)))

    def passing(self, scores: Float32Array) -> dict[str, NDArray[np.bool_]]:
        """Whether each jet passes a working point, (n,) by its name; a jet without a score does not."""
        with np.errstate(invalid="ignore"):
            return {name: scores >= cut for name, cut in self.working_points.items()}

    def lacking(self, columns: Iterable[str], *, has_constituents: bool) -> tuple[str, ...]:
        """Columns that the network takes and that are not there."""
        there = set(columns)
        found = [n for given in self.inputs.values() if not given.constituents for n in given.columns if n not in there]
        if not has_constituents and any(given.constituents for given in self.inputs.values()):
            found.append("constituents")
        return tuple(dict.fromkeys(found))

    def notes(self) -> list[str]:
        """What a user should know."""
        if _fixed_batch(self.model) != 1:
            return []
        return [f"{self.model.path} takes one jet at a time, which is slow; export it with an open first dimension"]

    def _block(self, columns: Columns, constituents: RaggedConstituents | None, n: int) -> Float32Array:
        scores = np.full(n, np.nan, np.float32)
        prepared = {name: _prepared(given, columns, constituents) for name, given in self.inputs.items()}
        kinds = {name: FLOATS[kind] for name, _, kind in self.model.signature.inputs}
        usable = np.ones(n, np.bool_)
        for name, given in self.inputs.items():
            if given.constituents or not self.imputes:
                usable &= _finite(prepared[name], constituents if given.constituents else None)
        counts = np.zeros(n, np.int64) if constituents is None else constituents.counts
        for jets in self._batches(np.flatnonzero(usable), counts):
            feeds = {
                name: _filled(given, prepared[name], constituents, jets).astype(kinds[name], copy=False)
                for name, given in self.inputs.items()
            }
            scores[jets] = self._score(self.model.output_of(feeds, self.output))
        return scores

    def _batches(self, jets: IntArray, counts: IntArray) -> Iterator[IntArray]:
        """Jets that are given together: of like size, as many as stay in a second-level cache, or one."""
        parts = [given for given in self.inputs.values() if given.constituents]
        if parts:
            jets = jets[np.argsort(counts[jets], kind="stable")]

        def length_of(jet: int) -> int:
            return max((_length(given, int(counts[jet])) for given in parts), default=1)

        return batches(jets, length_of, 1 if _fixed_batch(self.model) == 1 else BATCH_ROWS)

    def _score(self, rows: Float32Array) -> Float32Array:
        values = rows.astype(np.float64)
        if self.activation == "sigmoid":
            values = 1 / (1 + np.exp(-values))
        elif self.activation == "softmax":
            values = np.exp(values - values.max(axis=1, keepdims=True))
            values /= values.sum(axis=1, keepdims=True)
        signal = values[:, list(self.signal)].sum(axis=1)
        if self.background:
            total = signal + values[:, list(self.background)].sum(axis=1)
            with np.errstate(divide="ignore", invalid="ignore"):
                signal = signal / total
        return np.asarray(signal, np.float32)


def load_tagger(
    onnx_path: str, foreign: ForeignTagger | None = None, working_points: Mapping[str, float] | None = None
) -> Tagger:
    """The tagger of a network: by the card beside it, or as `foreign` says; refuses what does not fit the network.

    Raises
    ------
    FileNotFoundError, ValueError
        Where a file is missing, onnxruntime cannot load the network (with its reason), or inputs, outputs, shapes or
        types differ from what was said; both are named.
    """
    model = OnnxModel(onnx_path)
    model.check_exists()
    tagger = _of_card(model, read_card(card_path(onnx_path))) if foreign is None else _of_foreign(model, foreign)
    if strange := [f"{name}={cut}" for name, cut in (working_points or {}).items() if not math.isfinite(cut)]:
        raise ValueError(f"working points are numbers that a score can reach, got {', '.join(strange)}")
    if working_points:
        tagger = replace(tagger, working_points=dict(working_points))
    return _checked(tagger)


def read_preprocess(
    path: str, variables: Mapping[str, str] | None = None
) -> tuple[dict[str, NetworkInput], tuple[str, ...]]:
    """Inputs of a network by name and names of its classes, from a `preprocess.json`.

    Columns of constituents are told by their length: a group without one has one value per jet.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"the preprocessing {path} does not exist; it lies beside the network of CMS")
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        groups = {str(name): content[name] for name in content["input_names"]}
        inputs = {name: _group(group, variables or {}) for name, group in groups.items()}
        return inputs, tuple(str(name) for name in content.get("output_names") or ())
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else error
        raise ValueError(
            f"{path} is not a preprocess.json, which has input_names, and for each of them var_names, var_infos and "
            f"var_length: {reason}"
        ) from error


def _group(group: Mapping[str, Any], variables: Mapping[str, str]) -> NetworkInput:
    names = [str(name) for name in group["var_names"]]
    columns = tuple(variables.get(name, name) for name in names)
    scaling = {column: _scaling(group["var_infos"][name]) for name, column in zip(names, columns, strict=True)}
    length = group.get("var_length")
    least, most = group.get("min_length", length), group.get("max_length", length)
    if least is None or most is None:
        return NetworkInput(columns, scaling=scaling)
    return NetworkInput(
        columns, constituents=True, scaling=scaling, min_length=int(least), max_length=int(most), columns_first=True
    )


def _scaling(info: Mapping[str, Any]) -> Scaling:
    low, high = float(info.get("lower_bound", -math.inf)), float(info.get("upper_bound", math.inf))
    return Scaling(
        median=float(info["median"]),
        norm_factor=float(info["norm_factor"]),
        lower_bound=low,
        upper_bound=high,
        replace_inf_value=float(info.get("replace_inf_value") or 0),
        pad=float(info.get("pad") or 0),
    )


def _of_card(model: OnnxModel, card: ModelCard) -> Tagger:
    if card.task != "tagger":
        raise ValueError(f"{model.path} is a {card.task} by its card, not a tagger")
    names = [name for name, _, _ in model.signature.inputs]
    unit = {name: Scaling(norm_factor=1 / card.energy_unit) for name in ENERGIES} if card.energy_unit != 1 else {}
    inputs = {}
    others = [name for name in names if name != card.constituent_input]
    jet_input = card.jet_input or (others[0] if others else None)
    if jet_input is not None:
        inputs[jet_input] = NetworkInput(card.features, scaling=unit)
    if card.constituent_input is not None:
        least = card.max_constituents if card.pads_all else 1
        inputs[card.constituent_input] = NetworkInput(
            card.constituent_columns,
            constituents=True,
            scaling=unit,
            min_length=least,
            max_length=card.max_constituents,
        )
    return Tagger(model, inputs, card.output, working_points=card.working_points, imputes=card.imputes)


def _of_foreign(model: OnnxModel, foreign: ForeignTagger) -> Tagger:
    inputs, classes = dict(foreign.inputs), foreign.classes
    if foreign.preprocess is not None:
        told, names = read_preprocess(foreign.preprocess, foreign.variables)
        inputs, classes = {**_by_rank(told, model), **inputs}, classes or names
    if not inputs:
        raise ValueError(f"{model.path}: say by preprocess or inputs what its inputs hold; it has {model.signature}")
    if not foreign.signal and _width(model, foreign.output) not in (None, 1):
        raise ValueError(
            f"{model.path} gives more than one number; say by signal and background which classes make the score: "
            f"{', '.join(classes or ()) or 'name them in classes'}"
        )
    signal, background = (_places(model, names, classes or ()) for names in (foreign.signal, foreign.background))
    return Tagger(
        model, inputs, foreign.output, signal or (0,), background, foreign.activation, groomed=foreign.groomed
    )


def _by_rank(inputs: Mapping[str, NetworkInput], model: OnnxModel) -> dict[str, NetworkInput]:
    """The same, those of rank 2 in the network with one value per jet whatever length they are told to have."""
    flat = {name for name, shape, _ in model.signature.inputs if len(shape) == 2}
    return {
        name: NetworkInput(given.columns, scaling=given.scaling) if name in flat else given
        for name, given in inputs.items()
    }


def _places(model: OnnxModel, names: Sequence[str], classes: Sequence[str]) -> tuple[int, ...]:
    unknown = [name for name in names if name not in classes]
    if unknown:
        known = ", ".join(classes) or "none; name them in classes"
        raise ValueError(f"{model.path}: no class {', '.join(unknown)}; its classes are {known}")
    return tuple(classes.index(name) for name in names)


def _checked(tagger: Tagger) -> Tagger:
    """The same, if the network has the inputs and the output."""
    signature = tagger.model.signature
    faults = list(_faults(tagger))
    if faults:
        raise ValueError(f"{tagger.model.path}: {'; '.join(faults)}; the network has {signature}")
    return tagger


def _faults(tagger: Tagger) -> Iterator[str]:
    signature = tagger.model.signature
    shapes = {name: (shape, kind) for name, shape, kind in signature.inputs}
    for name in tagger.inputs:
        if name not in shapes:
            yield f"no input {name!r}"
    for name, (shape, kind) in shapes.items():
        if name not in tagger.inputs:
            yield f"nothing is said of the input {name!r}"
            continue
        if kind not in FLOATS:
            yield f"{name} is {kind}, not float"
        yield from _wrong_shape(name, shape, tagger.inputs[name])
    batch = _fixed_batch(tagger.model)
    if batch not in (None, 1):
        yield f"it takes {batch} jets at a time, no more and no fewer; export it with an open first dimension"
    names = [name for given in tagger.inputs.values() if given.constituents for name in given.columns]
    if unknown := [name for name in dict.fromkeys(names) if name not in CONSTITUENT_FORMULAS]:
        yield f"no column {', '.join(unknown)} of constituents, there are {', '.join(CONSTITUENT_FORMULAS)}"
    yield from _wrong_output(tagger)


def _wrong_shape(name: str, shape: tuple[int | None, ...], given: NetworkInput) -> Iterator[str]:
    length = given.max_length if given.max_length == given.min_length else None
    inner = (len(given.columns), length) if given.columns_first else (length, len(given.columns))
    expected = (None, *inner) if given.constituents else (None, len(given.columns))
    if len(shape) != len(expected) or any(
        a is not None and b is not None and a != b for a, b in zip(shape[1:], expected[1:], strict=True)
    ):
        words = ", ".join("any" if size is None else str(size) for size in expected)
        yield f"{name} would be given as ({words})"
        return
    place = 2 if given.columns_first else 1
    if given.constituents and length is None and shape[place] is not None:
        yield f"{name} has a fixed length; set min_length and max_length to {shape[place]}"


def _wrong_output(tagger: Tagger) -> Iterator[str]:
    if tagger.output is not None and tagger.output not in {name for name, _, _ in tagger.model.signature.outputs}:
        yield f"no output {tagger.output!r}"
        return
    width = _width(tagger.model, tagger.output)
    wanted = max((*tagger.signal, *tagger.background)) + 1
    if width is not None and width < wanted:
        yield f"its output has {width} columns, not {wanted}"


def _width(model: OnnxModel, output: str | None) -> int | None:
    """Columns of an output, None for the first; None where the network leaves them open."""
    outputs = {name: shape for name, shape, _ in model.signature.outputs}
    shape = outputs.get(output or "", next(iter(outputs.values())))
    return shape[1] if len(shape) > 1 else 1


def _fixed_batch(model: OnnxModel) -> int | None:
    """The number of jets that the network takes at a time; None for any."""
    first = [shape[0] for _, shape, _ in model.signature.inputs if shape]
    return next((size for size in first if size is not None), None)


def _filled(
    given: NetworkInput, rows: Float32Array, constituents: RaggedConstituents | None, jets: IntArray
) -> Float32Array:
    """The input of some jets, (m, n_columns) or of rank 3; the last of `rows` fills up jets."""
    if constituents is None or not given.constituents:
        return rows[jets]
    length = _length(given, int(constituents.counts[jets].max()))
    filled = filled_up(constituents, rows, jets, length)
    return np.ascontiguousarray(filled.transpose(0, 2, 1)) if given.columns_first else filled


def _length(given: NetworkInput, longest: int) -> int:
    length = max(longest, given.min_length)
    return length if given.max_length is None else min(length, given.max_length)


def _prepared(given: NetworkInput, columns: Columns, constituents: RaggedConstituents | None) -> Float32Array:
    """Scaled columns side by side, (n, n_columns); those of constituents with a last row that fills up jets."""
    if not given.constituents:
        return np.column_stack([_scaled(columns[name], given.scaling.get(name)) for name in given.columns])
    assert constituents is not None  # noqa: S101  refused before
    parts = _Constituents(constituents, columns)
    values = [_scaled(CONSTITUENT_FORMULAS[name](parts), given.scaling.get(name)) for name in given.columns]
    pads = [given.scaling.get(name, Scaling()).pad for name in given.columns]
    return np.vstack([np.column_stack(values), np.array([pads])]).astype(np.float32)


def _scaled(values: NDArray[Any], scaling: Scaling | None) -> Float32Array:
    if scaling is None:
        return values.astype(np.float32)
    found = values.astype(np.float64)
    if scaling.replace_inf_value is not None:
        found = np.where(np.isfinite(found), found, scaling.replace_inf_value)
    found = (found - scaling.median) * scaling.norm_factor
    return np.clip(found, scaling.lower_bound, scaling.upper_bound).astype(np.float32)


def _finite(rows: Float32Array, constituents: RaggedConstituents | None) -> NDArray[np.bool_]:
    """Whether all that a jet gives to an input is finite, (n,)."""
    finite = np.asarray(np.isfinite(rows).all(axis=1))
    if constituents is None:
        return finite
    bad = np.concatenate([[0], np.cumsum(~finite[:-1])])
    return np.asarray(bad[constituents.offsets[1:]] == bad[constituents.offsets[:-1]])


class _Constituents:
    """Columns of constituents, flat, computed when they are asked for."""

    def __init__(self, constituents: RaggedConstituents, columns: Columns) -> None:
        self.px, self.py, self.pz, self.e = constituents.values.astype(np.float64).T
        self._counts, self._columns = constituents.counts, columns

    def of_jet(self, name: str) -> FloatArray:
        """A column of the jets, repeated for each constituent."""
        return np.repeat(np.asarray(self._columns[name], np.float64), self._counts)

    @property
    def pt(self) -> FloatArray:
        return np.asarray(np.hypot(self.px, self.py))

    @property
    def eta(self) -> FloatArray:
        return np.asarray(np.arcsinh(self.pz / np.maximum(self.pt, TINY)))

    @property
    def phi(self) -> FloatArray:
        return np.asarray(np.arctan2(self.py, self.px))

    @property
    def deta(self) -> FloatArray:
        return self.eta - self.of_jet("eta")

    @property
    def dphi(self) -> FloatArray:
        return np.asarray((self.phi - self.of_jet("phi") + np.pi) % (2 * np.pi) - np.pi)

    @property
    def jet_e(self) -> FloatArray:
        return np.asarray(np.hypot(self.of_jet("pt") * np.cosh(self.of_jet("eta")), self.of_jet("mass_plain")))


def _log(values: FloatArray) -> FloatArray:
    return np.asarray(np.log(np.maximum(values, TINY)))


CONSTITUENT_FORMULAS: Mapping[str, Callable[[_Constituents], FloatArray]] = {
    "px": lambda c: c.px,
    "py": lambda c: c.py,
    "pz": lambda c: c.pz,
    "e": lambda c: c.e,
    "pt": lambda c: c.pt,
    "eta": lambda c: c.eta,
    "phi": lambda c: c.phi,
    "deta": lambda c: c.deta,
    "dphi": lambda c: c.dphi,
    "dr": lambda c: np.hypot(c.deta, c.dphi),
    "eta_rel": lambda c: c.deta * np.where(c.of_jet("eta") > 0, 1.0, -1.0),
    "abs_eta": lambda c: np.abs(c.eta),
    "log_pt": lambda c: _log(c.pt),
    "log_e": lambda c: _log(c.e),
    "pt_rel": lambda c: c.pt / c.of_jet("pt"),
    "e_rel": lambda c: c.e / c.jet_e,
    "log_pt_rel": lambda c: _log(c.pt / c.of_jet("pt")),
    "log_e_rel": lambda c: _log(c.e / c.jet_e),
    "mask": lambda c: np.ones_like(c.px),
}
"""Columns of constituents that a network may take: momentum in GeV; directions relative to the axis of the jet, eta_rel
with the sign that makes the jet look forward; logarithms; shares of the jet; and 1, filled up with 0, to tell which are
there."""
