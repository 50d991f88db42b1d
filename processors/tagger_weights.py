"""Event weights of taggers from correction files: scale factors of jets that pass, and of those that do not.

An event has the weight

    w = prod_passing SF  prod_failing (1 - SF eff) / (1 - eff),

eff the efficiency in simulation (method 1a of the CMS b-tagging group). With nested working points a jet counts in the
tightest one that it passes, k, with (SF_k eff_k - SF_k+1 eff_k+1) / (eff_k - eff_k+1), of which both factors above are
the cases of a single one. The sum of weights over many events stays what it was as long as
some simulated jets fail and SF eff is at most 1, and at most that of the working point before. Beyond that it grows, as
no weight is negative.

Files may have either order of arguments of CMS, found out by the names of their inputs: eta, pt, systematic and
workingpoint with nom and jes_up, or systematic, working_point, flavor, abseta and pt with central and up_jes.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from processors.correction_files import evaluate, existing_file, input_names
from processors.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from processors.correction_files import Value
    from processors.record import AnyArray, Float64Array, Int64Array

NOMINAL = "nominal"
# Of an uncertainty where a file has no values any more.
OUTSIDE = 2.0
# Formulas of an absolute value.
ABSOLUTE = ("abs(x)", "fabs(x)", "TMath::Abs(x)")
# Of efficiencies that are the same.
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class FromFile:
    """A scale factor or an efficiency in a correctionlib file.

    Attributes
    ----------
    file, name
        Path (.json or .json.gz) and the correction in it.
    inputs
        Further inputs that stay the same, such as flavor, category or method.
    working_points
        Names of working points in the file by ours, where they differ.
    """

    file: str
    name: str
    inputs: Mapping[str, str | int] = field(default_factory=dict)
    working_points: Mapping[str, str] = field(default_factory=dict)

    def values(self, eta: AnyArray, pt: AnyArray, working_point: str = "", systematic: str = NOMINAL) -> Float64Array:
        """Values of n jets, (n,); `pt` in GeV.

        `systematic` is "nominal", "up", "down" or a source with _up or _down. Where the file refuses what lies outside
        its bins, the nearest bin holds, and a variation is twice as far from the nominal value. Bins of eta without
        negative edges are those of |eta|.
        """
        names = input_names(self.file, self.name)
        word = systematic_word(systematic, names)
        inside, given = self._clamped(eta, pt, working_point)
        known = self._known(given, working_point)
        found = evaluate(self.file, self.name, {**known, "systematic": lambda: word})
        if systematic != NOMINAL and not inside.all():
            middle = systematic_word(NOMINAL, names)
            nominal = evaluate(self.file, self.name, {**known, "systematic": lambda: middle})
            found = np.where(inside, found, np.maximum(nominal + OUTSIDE * (found - nominal), 0.0))
        return np.asarray(np.broadcast_to(found, inside.shape), np.float64)

    def has(self, systematic: str, working_point: str = "") -> bool:
        """Whether the file has a variation of a working point."""
        keys = tuple(sorted(self._keys(working_point).items()))
        words = _words(self.file, self.name, _modified(self.file), keys)
        return words is None or systematic_word(systematic, input_names(self.file, self.name)) in words

    def _clamped(self, eta: AnyArray, pt: AnyArray, working_point: str) -> tuple[AnyArray, dict[str, Float64Array]]:
        """Whether jets are inside of all bins, (n,), and values by the name of the input that the file has bins for."""
        values = {"eta": np.asarray(eta, np.float64), "pt": np.asarray(pt, np.float64)}
        values["abseta"] = np.abs(values["eta"])
        inside = np.ones(values["pt"].shape, bool)
        for name, (low, high) in limits(self.file, self.name, self._keys(working_point)).items():
            if name in values:
                if name == "eta" and low >= 0:
                    values[name] = values["abseta"]
                highest = np.nextafter(high, low)
                inside &= (values[name] >= low) & (values[name] <= highest)
                values[name] = np.clip(values[name], low, highest)
        return inside, values

    def _known(self, values: Mapping[str, Float64Array], working_point: str) -> dict[str, Any]:
        """A function for each input that can be filled."""
        given: dict[str, Value] = {**values, **self._keys(working_point)}
        return {name: (lambda value=value: value) for name, value in given.items()}

    def _keys(self, working_point: str) -> dict[str, str | int]:
        """Inputs that are the same for all jets."""
        named = self.working_points.get(working_point, working_point)
        return {"workingpoint": named, "working_point": named, **self.inputs}


def systematic_word(systematic: str, inputs: Sequence[str]) -> str:
    """Our word for a variation in that of a file with these inputs."""
    is_btv = "abseta" in inputs or "flavor" in inputs
    if systematic == NOMINAL:
        return "central" if is_btv else "nom"
    source, _, side = systematic.rpartition("_")
    return f"{side}_{source}" if is_btv and source and side in ("up", "down") else systematic


def limits(path: str, name: str, keys: Mapping[str, str | int] | None = None) -> Mapping[str, tuple[float, float]]:
    """Range of each input whose bins refuse what lies outside, by its name.

    With `keys`, values of further inputs, it is that of their branch; branches of other inputs, such as systematic,
    share the range that all of them have. Bins of what a transform made of an input are no range of the input, unless
    it is the absolute value.
    """
    return _limits(path, name, _modified(path), tuple(sorted((keys or {}).items())))


def _modified(path: str) -> int:
    return existing_file(path, "correction file").stat().st_mtime_ns


@cache
def _limits(
    path: str,
    name: str,
    modified: int,  # noqa: ARG001  a changed file is another entry of the cache
    keys: tuple[tuple[str, str | int], ...],
) -> Mapping[str, tuple[float, float]]:
    found: dict[str, tuple[float, float]] = {}
    for node, replaced in _branch(_data(path, name), dict(keys)):
        for variable, edges in _refusing(node):
            if variable not in replaced:
                low, high = found.get(variable, (edges[0], edges[-1]))
                found[variable] = max(low, edges[0]), min(high, edges[-1])
    return found


@cache
def _words(
    path: str,
    name: str,
    modified: int,  # noqa: ARG001  a changed file is another entry of the cache
    keys: tuple[tuple[str, str | int], ...],
) -> frozenset[str] | None:
    """Words of systematic in the branch of the keys; None where any word is taken."""
    found: set[str] = set()
    for node, _ in _branch(_data(path, name), dict(keys)):
        if node["nodetype"] == "category" and node["input"] == "systematic":
            if node.get("default") is not None:
                return None
            found |= {str(item["key"]) for item in node["content"]}
    return frozenset(found)


def _data(path: str, name: str) -> Any:
    """Content of a correction as it is in the file."""
    content = Path(path).read_bytes()
    document = json.loads(gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content)
    correction = next((each for each in document["corrections"] if each["name"] == name), None)
    if correction is None:
        raise InputError(f"{path} has no correction {name!r}")
    return correction["data"]


def _branch(
    node: Any, keys: Mapping[str, str | int], replaced: frozenset[str] = frozenset()
) -> Iterator[tuple[dict[str, Any], frozenset[str]]]:
    """A node and all below it in the branch of the keys, with the inputs that transforms above have replaced."""
    if not isinstance(node, dict):
        return
    yield node, replaced
    content: Any = node.get("content")
    below = content if isinstance(content, list) else [content]
    if node["nodetype"] == "category":
        items = {item["key"]: item["value"] for item in content}
        wanted, other = keys.get(node["input"]), node.get("default")
        below = [*items.values(), other] if wanted is None else [items.get(wanted, other)]
    elif node["nodetype"] == "transform":
        yield from _branch(node["rule"], keys, replaced)
        if not _is_absolute(node["rule"]):
            replaced = replaced | {node["input"]}
    for item in [*below, node.get("flow")]:
        yield from _branch(item, keys, replaced)


def _is_absolute(rule: Any) -> bool:
    """Whether a rule is the formula of an absolute value."""
    is_formula = isinstance(rule, dict) and rule["nodetype"] == "formula"
    return is_formula and rule["expression"].replace(" ", "") in ABSOLUTE


def _refusing(node: Mapping[str, Any]) -> Iterator[tuple[str, tuple[float, float]]]:
    """First and last edge of each binning of a node that raises outside of them."""
    if node.get("flow") != "error":
        return
    if node["nodetype"] == "binning":
        yield node["input"], _ends(node["edges"])
    elif node["nodetype"] == "multibinning":
        for name, edges in zip(node["inputs"], node["edges"], strict=True):
            yield name, _ends(edges)


def _ends(edges: Any) -> tuple[float, float]:
    """Of a list of edges, or of uniform ones."""
    if isinstance(edges, dict):
        return float(edges["low"]), float(edges["high"])
    return float(edges[0]), float(edges[-1])


def jet_weights(factors: AnyArray, efficiencies: AnyArray, level: AnyArray) -> Float64Array:
    """Weight of each jet, (n,).

    Parameters
    ----------
    factors, efficiencies
        (n_points, n), loosest working point first.
    level
        How many working points a jet passes, (n,) from 0 to n_points.

    A jet where simulation expects none keeps its weight of 1, and no weight is negative.

    Raises
    ------
    ValueError
        Where shapes differ, a level does not exist, an efficiency is not from 0 to 1, or a working point has a larger
        one than the one before it.
    """
    factors, efficiencies = np.atleast_2d(factors), np.atleast_2d(efficiencies)
    n_points, n = factors.shape
    level = np.asarray(level, np.int64)
    if len(level) != n or efficiencies.shape != factors.shape:
        message = f"factors {factors.shape}, efficiencies {efficiencies.shape} and level ({len(level)},) do not match"
        raise ValueError(message)
    if n and not (level.min() >= 0 and level.max() <= n_points):
        message = f"level must be from 0 to {n_points}, got {level.min()} to {level.max()}"
        raise ValueError(message)
    strange = ~((efficiencies >= 0) & (efficiencies <= 1 + ROUNDING))
    if strange.any():
        message = f"an efficiency must be from 0 to 1, got {efficiencies[strange][0]:g}"
        raise ValueError(message)
    rising = (efficiencies[1:] > (1 + ROUNDING) * efficiencies[:-1]).any(axis=1)
    if rising.any():
        place = int(rising.argmax()) + 1
        message = f"working point {place + 1} is passed more often than {place}; they must be nested, loosest first"
        raise ValueError(message)
    of_all, of_none = np.ones((1, n)), np.zeros((1, n))
    before = np.concatenate([of_all, efficiencies, of_none])
    after = np.concatenate([of_all, factors * efficiencies, of_none])
    jets = np.arange(n)
    share = before[level, jets] - before[level + 1, jets]
    wanted = after[level, jets] - after[level + 1, jets]
    return np.asarray(np.maximum(np.divide(wanted, share, out=np.ones(n), where=share > 0), 0.0))


def product_by_event(weights: AnyArray, counts: AnyArray) -> Float64Array:
    """Product over the jets of each event, (n_events,); `counts` are their numbers of jets, 1 for one without."""
    counts, weights = np.asarray(counts, np.int64), np.asarray(weights, np.float64)
    if counts.sum() != len(weights):
        message = f"counts are {counts.sum()} jets in {len(counts)} events, there are {len(weights)}"
        raise ValueError(message)
    found = np.ones(len(counts))
    np.multiply.at(found, np.repeat(np.arange(len(counts)), counts), weights)
    return found


@dataclass(frozen=True, slots=True)
class TaggedJets:
    """Jets of all events, one event after the other.

    Attributes
    ----------
    counts
        Jets in each event, (n_events,).
    eta, pt
        (n,), GeV.
    level
        How many working points a jet passes, (n,).
    category
        Number of what it is in truth, (n,), see `models.tagging.columns.CATEGORIES`.
    """

    counts: Int64Array
    eta: Float64Array
    pt: Float64Array
    level: Int64Array
    category: Int64Array

    def __post_init__(self) -> None:
        """Refuse jets that have no place in any bin."""
        lost = int(np.count_nonzero(np.isnan(self.eta) | np.isnan(self.pt)))
        if lost:
            message = f"{lost} of {len(self.pt)} jets have an eta or pt that is nan"
            raise ValueError(message)


@dataclass(frozen=True, slots=True)
class TaggerWeights:
    """Weights of one tagger.

    Attributes
    ----------
    working_points
        Loosest first.
    factors, efficiencies
        Where they are, by the number of the category; jets of others keep their weight. Both have the same keys.
    """

    working_points: tuple[str, ...]
    factors: Mapping[int, FromFile]
    efficiencies: Mapping[int, FromFile]

    def __post_init__(self) -> None:
        """Refuse a scale factor without its efficiency."""
        if set(self.factors) != set(self.efficiencies):
            raise InputError(
                f"scale factors are for the categories {sorted(self.factors)}, "
                f"efficiencies for {sorted(self.efficiencies)}; both are needed"
            )

    def events(self, jets: TaggedJets, systematic: str = NOMINAL) -> Float64Array:
        """Weights of the events, (n_events,), in one variation of the scale factors.

        Where a category or a working point does not have it, and another one has, its nominal scale factors hold.
        """
        words = self._words(systematic)
        weights = np.ones(len(jets.pt))
        for category, of_factor in self.factors.items():
            chosen = np.flatnonzero(jets.category == category)
            if not len(chosen):
                continue
            eta, pt = jets.eta[chosen], jets.pt[chosen]
            factors = [of_factor.values(eta, pt, name, words[category, name]) for name in self.working_points]
            shares = [self.efficiencies[category].values(eta, pt, name) for name in self.working_points]
            try:
                weights[chosen] = jet_weights(np.stack(factors), np.stack(shares), jets.level[chosen])
            except ValueError as error:
                raise InputError(f"{', '.join(self.working_points)} of category {category}: {error}") from None
        return product_by_event(weights, jets.counts)

    def _words(self, systematic: str) -> dict[tuple[int, str], str]:
        """The variation, or the nominal value where there is none, of each category and working point."""
        places = list(product(self.factors, self.working_points))
        if systematic == NOMINAL:
            return dict.fromkeys(places, NOMINAL)
        found = {
            (category, name): systematic if self.factors[category].has(systematic, name) else NOMINAL
            for category, name in places
        }
        if places and systematic not in found.values():
            told = ", ".join(dict.fromkeys(f"{each.name} of {each.file}" for each in self.factors.values()))
            raise InputError(f"no scale factor has the variation {systematic!r}: neither {told}")
        return found

    def add_to(self, weights: Any, jets: TaggedJets, name: str, sources: Sequence[str] = ()) -> None:
        """Add them to `coffea.analysis_tools.Weights` under `name`, with the total variation or that of each source."""
        nominal = self.events(jets)
        words = [(source, f"{source}_up", f"{source}_down") for source in sources] or [("", "up", "down")]
        ups = [self.events(jets, up) for _, up, _ in words]
        downs = [self.events(jets, down) for _, _, down in words]
        if not sources:
            weights.add(name, nominal, ups[0], downs[0])
        else:
            weights.add_multivariation(name, nominal, [source for source, _, _ in words], ups, downs)
