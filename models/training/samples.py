"""Training table -> flat jets of events, folds and batches.

Only jets that some term of the loss uses are kept: the pair of a dijet event, and jets that may be compared with truth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.features import GSC_FEATURES, MOMENTUM_FEATURES, RaggedConstituents, offsets_of
from models.training.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.event_table import EventTable
    from models.training.settings import FitSettings, LossSettings, NetworkSettings

AnyArray = NDArray[Any]
BoolArray = NDArray[np.bool_]
Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]
Int32Array = NDArray[np.int32]
Int64Array = NDArray[np.int64]
Batch = dict[str, AnyArray]

TRAINING, VALIDATION, TEST = 0, 1, 2
_FOLD = np.uint64(0x9E3779B97F4A7C15)
_EMPTY = RaggedConstituents(np.zeros(1, np.int64), np.zeros((0, 4), np.float32))


@dataclass(frozen=True, slots=True)
class Sample:
    """n jets of some events, event by event; the first two of an event with a pair are the pair, the forward one first.

    Attributes
    ----------
    names
        Of the columns of `features`.
    features
        (n, n_features) float32.
    constituents
        Of the jets; none for a network without.
    truth_pt, truth_weight
        (n,): GeV, and the weight in comparisons with truth; nan and 0 for a jet that is not compared.
    matched_pt
        (n,): true pT in GeV, also of jets that are not compared; nan without a matched truth jet.
    abs_eta_truth
        (n,), nan without truth.
    offsets
        (n_events + 1,): jets of each event.
    is_mc, pair_weight, cell, pair_width
        (n_events,): simulation; weight of the pair, 0 without one; its cell of the asymmetry, and the width of the
        asymmetry in this cell before calibration.
    shift_cell, shift_place
        (n,): cell of the constraint of each jet, -1 for none, and its place within in log pt_avg, of mean 0 and
        variance 1 if jets are spread evenly.
    n_cells, n_shift_cells
        How many cells there are, simulation and data together.
    """

    names: tuple[str, ...]
    features: Float32Array
    constituents: RaggedConstituents
    truth_pt: Float64Array
    truth_weight: Float64Array
    matched_pt: Float64Array
    abs_eta_truth: Float64Array
    offsets: Int64Array
    is_mc: BoolArray
    pair_weight: Float64Array
    cell: Int32Array
    pair_width: Float32Array
    shift_cell: Int32Array
    shift_place: Float32Array
    n_cells: int
    n_shift_cells: int

    def __len__(self) -> int:
        """Jets."""
        return len(self.features)

    @property
    def n_events(self) -> int:
        """Events."""
        return len(self.is_mc)

    @property
    def pt(self) -> Float64Array:
        """Momenta before the network, (n,) GeV."""
        return self.features[:, self.names.index("pt")].astype(np.float64)

    @property
    def abs_eta(self) -> Float64Array:
        """|eta|, (n,)."""
        return np.abs(self.features[:, self.names.index("eta")].astype(np.float64))

    def pairs(self, *, is_mc: bool) -> Int64Array:
        """Flat index of the first jet of each pair; the second follows it."""
        chosen = (self.pair_weight > 0) & (self.is_mc == is_mc)
        return np.asarray(self.offsets[:-1][chosen])


def network_features(settings: NetworkSettings, available: tuple[str, ...]) -> tuple[str, ...]:
    """Columns of a network: momentum, and those of the global-sequential calibration that the table has."""
    missing = [name for name in MOMENTUM_FEATURES if name not in available]
    if missing:
        raise RefusedError(f"the training table has no {', '.join(missing)}")
    return (*MOMENTUM_FEATURES, *(name for name in GSC_FEATURES if settings.gsc and name in available))


def folds(identity: NDArray[np.uint64], fit: FitSettings) -> NDArray[np.int8]:
    """TRAINING, VALIDATION or TEST for each event, by a hash of the event alone."""
    with np.errstate(over="ignore"):
        share = ((identity ^ (identity >> np.uint64(31))) * _FOLD >> np.uint64(40)) / float(1 << 24)
    fold = np.full(len(identity), TRAINING, np.int8)
    fold[share < fit.validation + fit.test] = VALIDATION
    fold[share < fit.test] = TEST
    return fold


def sample_of(table: EventTable, names: tuple[str, ...], fit: FitSettings, loss: LossSettings) -> Sample:
    """The jets of a table that some term of the loss uses, without events that have none.

    Jets with a column that is not finite are left out, and their pairs: whatever the network takes, so that samples of
    several networks have the same jets.
    """
    if table.constituents is None:
        table = _with_empty_constituents(table)
    finite = finite_jets(table)
    usable = _compared_with_truth(table, fit) & finite
    pair = _pairs(table, loss) & finite[:, :2].all(axis=1)
    kept = usable.copy()
    kept[:, :2] |= pair[:, np.newaxis]
    events = np.flatnonzero(kept.any(axis=1))
    table, usable, pair, kept = table.take(events), usable[events], pair[events], kept[events]
    order = _forward_first(table, pair)
    rows = (np.arange(len(table))[:, np.newaxis] * order.shape[1] + order)[np.take_along_axis(kept, order, axis=1)]
    offsets = offsets_of(kept.sum(axis=1))
    flat = {name: values.ravel()[rows] for name, values in table.jets.items()}
    is_used = usable.ravel()[rows]
    weight = np.repeat(table.event["weight_truth"].astype(np.float64), np.diff(offsets))
    assert table.constituents is not None  # noqa: S101  put there above
    cells = _cells(table, pair, loss)
    shift, shift_place, n_shift = _shift_cells(table, pair, loss, flat["eta"], offsets)
    return Sample(
        names=names,
        features=np.column_stack([flat[name] for name in names]).astype(np.float32),
        constituents=table.constituents.take(rows),
        truth_pt=np.where(is_used, flat["truth_pt"], np.nan).astype(np.float64),
        truth_weight=np.where(is_used, weight, 0.0),
        matched_pt=flat["truth_pt"].astype(np.float64),
        abs_eta_truth=np.where(is_used, np.abs(flat["truth_eta"]), np.nan).astype(np.float64),
        offsets=offsets,
        is_mc=table.event["is_mc"],
        pair_weight=np.where(pair, table.event["weight_flat"], 0.0).astype(np.float64),
        cell=cells.cell,
        pair_width=cells.width,
        shift_cell=shift,
        shift_place=shift_place,
        n_cells=cells.count,
        n_shift_cells=n_shift,
    )


def batches(
    sample: Sample, n_events: int, rng: np.random.Generator | None, *, draws: int = 0, prior: Prior | None = None
) -> Iterator[Batch]:
    """Batches with `n_events` of simulation and as many of data each, shuffled if there is a generator.

    There are as many as simulation fills; data begin anew when they end. The last batch takes what is left if that is
    more than half of one. `draws` true momenta per jet are drawn from a `prior` for the Gaussian Ansatz.
    """
    simulation, data = (np.flatnonzero(sample.is_mc == kind) for kind in (True, False))
    if rng is not None:
        simulation, data = rng.permutation(simulation), rng.permutation(data)
    n_batches = max(round(len(simulation) / n_events), 1)
    for i in range(n_batches):
        chosen = simulation[i * n_events : (i + 1) * n_events]
        if len(data):
            chosen = np.concatenate([chosen, data[np.arange(i * n_events, i * n_events + len(chosen)) % len(data)]])
        if len(chosen):
            yield batch_of(sample, chosen, rng, draws=draws, prior=prior)


def batch_of(
    sample: Sample,
    events: NDArray[np.integer[Any]],
    rng: np.random.Generator | None = None,
    *,
    draws: int = 0,
    prior: Prior | None = None,
) -> Batch:
    """Arrays of some events for one step.

    jets (n, n_features); momenta (n_constituents, 4) with the jet of each in `segments`; log_truth and truth_weight
    (n,); first, second, pair_weight, cell, pair_width, pair_is_mc (n_pairs,); shift_jet, shift_cell, shift_place and
    shift_weight of the jets of pairs.
    """
    counts = np.diff(sample.offsets)[events]
    offsets = offsets_of(counts)
    rows = np.arange(offsets[-1]) + np.repeat(sample.offsets[events] - offsets[:-1], counts)
    parts = sample.constituents.take(rows)
    is_pair = sample.pair_weight[events] > 0
    first = offsets[:-1][is_pair].astype(np.int32)
    shifted = np.flatnonzero(sample.shift_cell[rows] >= 0).astype(np.int32)
    truth_pt = sample.truth_pt[rows]
    batch: Batch = {
        "jets": sample.features[rows],
        "momenta": parts.values,
        "segments": np.repeat(np.arange(len(rows), dtype=np.int32), parts.counts),
        "log_truth": np.log(np.where(truth_pt > 0, truth_pt, 1.0)).astype(np.float32),
        "truth_weight": sample.truth_weight[rows].astype(np.float32),
        "first": first,
        "second": first + 1,
        "pair_weight": sample.pair_weight[events][is_pair].astype(np.float32),
        "cell": sample.cell[events][is_pair],
        "pair_width": sample.pair_width[events][is_pair],
        "pair_is_mc": sample.is_mc[events][is_pair].astype(np.float32),
        "shift_jet": shifted,
        "shift_cell": sample.shift_cell[rows][shifted],
        "shift_place": sample.shift_place[rows][shifted],
        "shift_weight": np.repeat(sample.pair_weight[events], counts)[shifted].astype(np.float32),
    }
    if draws and prior is not None:
        generator = np.random.default_rng(0) if rng is None else rng
        batch |= prior.draw(np.log(batch["jets"][:, sample.names.index("pt")]), draws, generator)
    return batch


@dataclass(frozen=True, slots=True)
class Prior:
    """Density of log true pT in the training sample, on a grid, for the Gaussian Ansatz.

    Its loss compares true pairs with pairs whose true pT is drawn from the same density. Most of those would be far
    from the reconstructed pT, so they are drawn near it and weighted.
    """

    nodes: Float64Array
    density: Float64Array

    @classmethod
    def of(cls, sample: Sample, width: float = 0.1) -> Prior:
        """Weighted density of the jets that are compared with truth."""
        used = sample.truth_weight > 0
        values = np.log(sample.truth_pt[used])
        edges = np.arange(values.min() - width, values.max() + 2 * width, width)
        density = np.histogram(values, edges, weights=sample.truth_weight[used], density=True)[0]
        return cls(0.5 * (edges[1:] + edges[:-1]), density)

    def draw(self, log_pt: AnyArray, draws: int, rng: np.random.Generator) -> Batch:
        """`drawn` (n, draws) log true pT near `log_pt` (n,), and `drawn_weight`, density over that of drawing."""
        scales = np.array([0.1, 0.5])
        chosen = scales[rng.integers(0, len(scales), (len(log_pt), draws))]
        step = rng.normal(size=chosen.shape) * chosen
        proposal = np.mean([np.exp(-0.5 * (step / s) ** 2) / (s * np.sqrt(2 * np.pi)) for s in scales], axis=0)
        drawn = log_pt[:, np.newaxis] + step
        density = np.interp(drawn, self.nodes, self.density, left=0.0, right=0.0)
        return {"drawn": drawn.astype(np.float32), "drawn_weight": (density / proposal).astype(np.float32)}


def finite_jets(table: EventTable) -> BoolArray:
    """Whether every column that a network may take is finite, (n_events, m); False where there is no jet."""
    finite = np.isfinite(table.jets["pt"])
    for name in (*MOMENTUM_FEATURES, *GSC_FEATURES):
        if name in table.jets:
            finite &= np.isfinite(table.jets[name])
    return finite


def standardisation(sample: Sample, scaled: Float32Array) -> tuple[Float32Array, Float32Array]:
    """Mean and standard deviation of `scaled` columns over the jets compared with truth; 1 for a constant column."""
    used = sample.truth_weight > 0
    rows = scaled[used if used.any() else slice(None)].astype(np.float64)
    deviation = rows.std(axis=0)
    return rows.mean(axis=0).astype(np.float32), np.where(deviation > 1e-6, deviation, 1.0).astype(np.float32)


def _compared_with_truth(table: EventTable, fit: FitSettings) -> BoolArray:
    """Jets (n_events, m) whose response is of use: chosen by truth alone, but for outliers."""
    jets = table.jets
    with np.errstate(invalid="ignore", divide="ignore"):
        log_response = np.log(jets["pt"] / jets["truth_pt"])
        leads = (jets["truth_rank"] >= 0) & (jets["truth_rank"] <= 1)
        is_clean = (jets["truth_isolation"] > fit.isolation) & (jets["truth_pt"] >= fit.truth_min_pt)
        usable: BoolArray = leads & is_clean & (np.abs(log_response) < fit.max_log_response)
    return usable & (table.event["weight_truth"] > 0)[:, np.newaxis]


def _pairs(table: EventTable, loss: LossSettings) -> BoolArray:
    """Dijet events with both jets where the asymmetry is used."""
    within = np.abs(table.jets["eta"][:, :2]) < loss.max_abs_eta
    pair: BoolArray = table.event["is_dijet"] & within.all(axis=1) & (table.event["weight_flat"] > 0)
    return pair & (table.event["is_mc"] | loss.data)


def _forward_first(table: EventTable, pair: BoolArray) -> Int64Array:
    """Order of the jets of each event: in a pair the one with the larger |eta| comes first."""
    eta = np.abs(table.jets["eta"])
    order = np.tile(np.arange(eta.shape[1]), (len(eta), 1))
    swapped = pair & (eta[:, 1] > eta[:, 0])
    order[swapped, :2] = (1, 0)
    return order


@dataclass(frozen=True, slots=True)
class _Cells:
    cell: Int32Array
    width: Float32Array
    count: int


def _cells(table: EventTable, pair: BoolArray, loss: LossSettings) -> _Cells:
    """Cell of each pair and the robust width of its asymmetry; data have cells of their own."""
    place, _, n_pt = _pt_place(table, pair, loss.pt_bins)
    eta = np.abs(np.nan_to_num(table.jets["eta"][:, :2])).max(axis=1)
    n_eta = len(loss.abs_eta_edges) - 1
    eta_place = np.clip(np.searchsorted(loss.abs_eta_edges, eta, side="right") - 1, 0, n_eta - 1)
    n_kind = n_pt * n_eta
    cell = (place * n_eta + eta_place + n_kind * ~table.event["is_mc"]).astype(np.int32)
    pt = table.jets["pt"][:, :2].astype(np.float64)
    asymmetry = 2 * (pt[:, 0] - pt[:, 1]) / pt.sum(axis=1)
    widths = np.ones(2 * n_kind)
    for each in np.unique(cell[pair]):
        widths[each] = max(1.4826 * float(np.median(np.abs(asymmetry[pair & (cell == each)]))), 0.01)
    return _Cells(cell, widths[cell].astype(np.float32), 2 * n_kind)


def _shift_cells(
    table: EventTable, pair: BoolArray, loss: LossSettings, eta: AnyArray, offsets: Int64Array
) -> tuple[Int32Array, Float32Array, int]:
    """Cell of the constraint of each jet of a pair, -1 for others, its place there, and how many cells there are.

    The two jets of an event never share a cell: at a given pt_avg one is up where the other is down.
    """
    place, within_cell, n_pt = _pt_place(table, pair, loss.shift_bins)
    counts = np.diff(offsets)
    event = np.repeat(np.arange(len(table)), counts)
    within = np.arange(len(eta)) - offsets[event]
    n_eta = len(loss.abs_eta_edges) - 1
    eta_place = np.clip(np.searchsorted(loss.abs_eta_edges, np.abs(eta), side="right") - 1, 0, n_eta - 1)
    kind = 2 * np.where(table.event["is_mc"][event], 0, 1) + within
    cell = np.where(pair[event] & (within < 2), (kind * n_pt + place[event]) * n_eta + eta_place, -1)
    return cell.astype(np.int32), within_cell[event].astype(np.float32), 4 * n_pt * n_eta


def _pt_place(table: EventTable, pair: BoolArray, n_bins: int) -> tuple[Int64Array, Float64Array, int]:
    """Bin of log pt_avg of each event, its place there of variance 1, and how many bins there are."""
    log_pt = np.log(np.where(pair, table.event["pt_avg"], 1.0).astype(np.float64))
    if not pair.any():
        return np.zeros(len(pair), np.int64), np.zeros(len(pair)), 1
    low, high = log_pt[pair].min(), log_pt[pair].max() + 1e-6
    exact = (log_pt - low) / (high - low) * n_bins
    place = np.clip(exact.astype(np.int64), 0, n_bins - 1)
    return place, np.where(pair, (exact - place - 0.5) * np.sqrt(12), 0.0), n_bins


def _with_empty_constituents(table: EventTable) -> EventTable:
    from dataclasses import replace

    n_jets = table.jets["pt"].size
    return replace(table, constituents=RaggedConstituents(np.zeros(n_jets + 1, np.int64), _EMPTY.values))
