"""Which events count, and with what weight: luminosity mask, pile-up weights, triggers with prescales."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from processors.compiled import compiled
from processors.correction_files import check_inputs, evaluate, existing_file
from processors.errors import InputError, suggestion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from processors.correction_files import Value
    from processors.fileset import Dataset, Trigger
    from processors.record import AnyArray, BoolArray, EventRecord, Float64Array, Int64Array

PileupSystematic = Literal["nominal", "up", "down"]


@dataclass(frozen=True, slots=True)
class PileupWeights:
    """Pile-up weights of simulation by the LUM convention (YAML section `events.pileup_weights`).

    `file` is a correctionlib JSON, `correction` the name in it; its inputs are NumTrueInteractions and `weights`, which
    is nominal, up or down.
    """

    file: str
    correction: str


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events count (YAML section `events`).

    `lumi_mask` is a JSON of good luminosity blocks for data whose fileset names none; `pileup_weights` apply to
    simulation.
    """

    lumi_mask: str | None = None
    pileup_weights: PileupWeights | None = None


def mask_of(dataset: Dataset, settings: EventFilter) -> str | None:
    """Path of the luminosity mask that counts for a dataset: its own, else that of the settings; None in simulation."""
    return None if dataset.is_mc else dataset.lumi_mask or settings.lumi_mask


def lumi_mask(record: EventRecord, path: str | None) -> BoolArray:
    """Which events lie in good luminosity blocks, (n_events,); all of them in simulation and without a mask.

    `path` is a JSON in the form of CMS, `{run: [[first, last], ...]}`, evaluated by `coffea.lumi_tools`.
    """
    if path is None or record.is_mc:
        return np.ones(len(record), np.bool_)
    if not record.has_event_id:
        raise InputError(f"{record.file} lacks run or luminosity block, which the mask {path} needs; remove the mask")
    mask = _opened_mask(path, existing_file(path, "luminosity mask").stat().st_mtime_ns)
    # A chunk has far fewer changes of luminosity block than events.
    first = _block_starts(record.run, record.luminosity_block)
    good = mask(record.run[first].astype(np.uint32), record.luminosity_block[first].astype(np.uint32))
    lengths = np.diff(first, append=len(record))
    return np.repeat(np.asarray(good, np.bool_), lengths)


def pileup_weight(record: EventRecord, settings: EventFilter, systematic: PileupSystematic = "nominal") -> Float64Array:
    """Pile-up weight of each event, (n_events,); 1 in data and without weights, 0 where the pile-up is not finite."""
    weights = settings.pileup_weights
    if weights is None or not record.is_mc:
        return np.ones(len(record))
    if record.true_interactions is None:
        raise InputError(
            f"{record.file} has no true interactions, which events.pileup_weights needs; remove the weights"
        )
    finite = np.isfinite(record.true_interactions)
    interactions = np.where(finite, record.true_interactions, 0)
    value = evaluate(weights.file, weights.correction, _pileup_inputs(interactions, systematic))
    return np.where(finite, value, 0.0)


def trigger_decision(
    fired: Mapping[str, BoolArray], triggers: Sequence[Trigger], pt_avg: AnyArray
) -> tuple[BoolArray, Float64Array]:
    """Whether the trigger that owns each event fired, (n_events,), and its prescale, (n_events,).

    `pt_avg` is in GeV, nan where there is no pair. The trigger with the highest `pt_avg_min` not above pt_avg owns an
    event. An event below all thresholds, or with nan, does not pass. The prescale is 1 where an event does not pass.
    Without triggers all events pass.

    Of several triggers with one threshold any may fire. Each of them would fire without prescale there, and they are
    prescaled independently, so that an event is kept with probability 1 - prod(1 - 1/p), whose inverse is the prescale
    of them all: 5/3 for prescales of 2 and 5. One with prescale 1 tells by itself whether it fires: where it did, the
    prescale is 1, and where it did not, as triggers on other objects may, that of the others together.
    """
    n_events = len(pt_avg)
    if not triggers:
        return np.ones(n_events, np.bool_), np.ones(n_events)
    check_triggers(triggers, fired)
    ordered = sorted(triggers, key=lambda trigger: (trigger.pt_avg_min, trigger.prescale))
    bits = np.stack([np.asarray(fired[trigger.path], np.bool_) for trigger in ordered])  # (triggers, n_events)
    thresholds = np.array([trigger.pt_avg_min for trigger in ordered], np.float64)
    passed, prescale = np.zeros(n_events, np.bool_), np.ones(n_events)
    _decide(bits, thresholds, _joint_prescales(ordered), pt_avg, passed, prescale)
    return passed, prescale


def sharing_threshold(trigger: Trigger, triggers: Iterable[Trigger]) -> list[Trigger]:
    """The prescaled triggers with the threshold of a prescaled one, itself included; an unprescaled one by itself."""
    if trigger.prescale <= 1:
        return [trigger]
    return [other for other in triggers if other.pt_avg_min == trigger.pt_avg_min and other.prescale > 1]


def check_triggers(triggers: Iterable[Trigger], available: Iterable[str], where: str = "the file") -> None:
    """Refuse triggers whose path is not among the `available` ones of a file, naming the nearest."""
    available = list(available)
    faults = [
        f"{where} has no trigger {trigger.path!r}" + (suggestion(trigger.path, available) or "; correct `triggers`")
        for trigger in triggers
        if trigger.path not in available
    ]
    if faults:
        raise InputError(*faults)


def files(settings: EventFilter) -> tuple[str, ...]:
    """Paths of the files the result depends on; masks of single datasets are not among them."""
    paths = (settings.lumi_mask, settings.pileup_weights.file if settings.pileup_weights else None)
    return tuple(path for path in paths if path is not None)


def check(settings: EventFilter) -> None:
    """Refuse settings whose files are missing or are not what they should be."""
    if settings.lumi_mask is not None:
        check_lumi_mask(settings.lumi_mask)
    weights = settings.pileup_weights
    if weights is None:
        return
    systematics: tuple[PileupSystematic, ...] = ("nominal", "up", "down")
    for systematic in systematics:
        inputs = _pileup_inputs(np.ones(1), systematic)
        check_inputs(weights.file, weights.correction, inputs)
        evaluate(weights.file, weights.correction, inputs)


def check_lumi_mask(path: str) -> None:
    """Refuse a luminosity mask that is missing or not in the form of CMS."""
    _opened_mask(path, existing_file(path, "luminosity mask").stat().st_mtime_ns)


@cache
def _opened_mask(path: str, modified: int) -> Any:  # noqa: ARG001  a changed file is opened again
    from coffea.lumi_tools import LumiMask  # compiles its kernels on import

    try:
        return LumiMask(path)
    except (ValueError, TypeError, AttributeError, OverflowError, IndexError) as error:
        raise InputError(
            f"{path} is not a luminosity mask, a JSON like {{run: [[first, last], ...]}}: {error}"
        ) from error


def _pileup_inputs(interactions: AnyArray, systematic: str) -> dict[str, Callable[[], Value]]:
    return {"NumTrueInteractions": lambda: interactions, "weights": lambda: systematic}


def _block_starts(run: Int64Array, luminosity_block: Int64Array) -> Int64Array:
    """Index of each event whose run or luminosity block is not that of the event before it; 0 if there are events."""
    is_start = np.ones(len(run), np.bool_)
    is_start[1:] = (run[1:] != run[:-1]) | (luminosity_block[1:] != luminosity_block[:-1])
    return np.flatnonzero(is_start)


def _joint_prescales(triggers: Sequence[Trigger]) -> Float64Array:
    """Prescale of each trigger together with the other prescaled ones of its threshold, (n_triggers,)."""
    return np.array([_joint_prescale(sharing_threshold(trigger, triggers)) for trigger in triggers], np.float64)


def _joint_prescale(triggers: Sequence[Trigger]) -> float:
    if len(triggers) == 1:
        return triggers[0].prescale
    # by logarithms, which keep the digits of large prescales
    return -1.0 / math.expm1(sum(math.log1p(-1.0 / trigger.prescale) for trigger in triggers))


@compiled
def _decide(
    bits: BoolArray,
    thresholds: Float64Array,
    joint_prescales: Float64Array,
    pt_avg: AnyArray,
    passed: BoolArray,
    prescale: Float64Array,
) -> None:
    """Fill `passed` and `prescale`; triggers by rising threshold, those without prescale first."""
    n_triggers = len(thresholds)
    for i in range(len(pt_avg)):
        owner = -1
        for k in range(n_triggers):  # no early end: counting has no branches to guess wrong
            owner += pt_avg[i] >= thresholds[k]
        k = owner
        while k >= 0 and thresholds[k] == thresholds[owner]:
            if bits[k, i]:
                passed[i], prescale[i] = True, joint_prescales[k]
            k -= 1
