"""What a reader wants to know first: is it complete, did the fits work, was something lost, does the method close."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from corrections.results import LOOP_CHECKS, RATIO, SOURCES
from report.closure import by_method, closure, eta_bins, is_apart, is_exact, mean, methods_of, spread
from report.tables import RESULTS, number_words, percent_words
from report.uncertainty import evaluated, shown_points, words_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corrections.results import Measurement, Quantity
    from report.closure import Ratio

Grade = Literal["good", "note", "bad"]
ORDER: tuple[Grade, ...] = ("good", "note", "bad")
CLOSURE_PROBABILITY = 1e-3
CLOSURE_TOLERANCE, BIN_TOLERANCE = 0.03, 0.1


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the verdict."""

    grade: Grade
    name: str
    words: str


def checks(run: Mapping[str, Any], measurements: Sequence[Measurement]) -> list[Check]:
    """All lines, in the order in which they are shown."""
    found = [_complete(run), _excluded(run)]
    for measurement in measurements:
        found += [_fits(measurement), _scale_factors(measurement), _uncertainties(measurement)]
        found += [*(_methods(measurement, quantity) for quantity in RESULTS), _regions(measurement)]
    found += [_closure(measurements), _known_answer(run), _loop(measurements), _written(run)]
    return [check for check in found if check is not None]


def worst(found: Sequence[Check]) -> Grade:
    """Grade of the whole."""
    return max((check.grade for check in found), key=ORDER.index, default="note")


def _count(n: int, name: str) -> str:
    return f"{n:,} {name}{'' if n == 1 else 's'}"


def _complete(run: Mapping[str, Any]) -> Check:
    lost = run.get("lost") or ()
    events = run.get("events")
    read = f"{events:,} events read. " if isinstance(events, int) else ""
    if lost:
        were = "was" if len(lost) == 1 else "were"
        return Check("bad", "Input", f"{read}{_count(len(lost), 'chunk')} of input {were} lost; see below.")
    if run.get("complete") is False:
        return Check("bad", "Input", f"{read}The run is not complete.")
    if run.get("complete") is None:
        return Check("note", "Input", f"{read}The run does not say whether it is complete.")
    return Check("good", "Input", f"{read}Complete: nothing was lost.")


def excluded_counts(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What was left out as records of dataset, reason and number, however deep run.json nests it."""
    return [
        {"dataset": dataset, "reason": reason, "number": count}
        for dataset, reason, count in _flatten(run.get("excluded") or {})
        if count
    ]


def _flatten(counts: Mapping[str, Any], above: str = "") -> list[tuple[str, str, int]]:
    found: list[tuple[str, str, int]] = []
    for key, value in counts.items():
        if isinstance(value, Mapping):
            found += _flatten(value, f"{above}, {key}" if above else str(key))
        elif isinstance(value, int | float):
            found.append((above or "all", str(key), int(value)))
    return found


def _excluded(run: Mapping[str, Any]) -> Check | None:
    counts = excluded_counts(run)
    if not counts:
        return None
    reasons = _count(len(counts), "reason")
    return Check("note", "Exclusions", f"Events or jets were left out for {reasons}; counted below.")


def _fits(measurement: Measurement) -> Check:
    statuses = Counter(fit.status for fit in measurement.fits if np.any(fit.counts))
    tried = sum(statuses.values())
    failed = {s.replace("_", " "): n for s, n in statuses.items() if s in ("not_converged", "at_limit")}
    name = f"Fits, {measurement.algo}"
    if not statuses["ok"]:
        return Check("bad", name, f"None of {tried} asymmetry distributions could be fitted.")
    words = f"{statuses['ok']} of {tried} asymmetry distributions fitted"
    if few := statuses["few_events"]:
        words += f", {few} had too few events"
    if failed:
        return Check("note", name, words + "; " + ", ".join(f"{n} {s}" for s, n in sorted(failed.items())) + ".")
    return Check("good", name, words + ".")


def _scale_factors(measurement: Measurement) -> Check:
    name = f"Scale factors, {measurement.algo}"
    points = measurement.published("scale_factor", RATIO)
    if not points:
        return Check("note", name, "None: data and simulation are both needed.")
    bins = {point.eta for point in points}
    measured = {point.eta for point in points if point.is_measured}
    words = f"Measured in {len(measured)} of {len(bins)} |η| bins."
    return Check("good" if measured == bins else "note" if measured else "bad", name, words)


def _uncertainties(measurement: Measurement) -> Check | None:
    """Which sources are in the uncertainty of the scale factor and which are not; None without a scale factor."""
    points = shown_points(measurement, "scale_factor")
    if not points:
        return None
    name = f"Uncertainties, {measurement.algo}"
    found = evaluated(points)
    if not found:
        return Check("note", name, "Statistical only: no systematic source was evaluated.")
    sizes = [point.total / abs(point.value) for point in points]
    told = (
        f"Scale factors are known to {percent_words(min(sizes))} to {percent_words(max(sizes))}, all sources together."
    )
    missing = [words_of(source) for source in SOURCES if source not in found]
    if missing:
        return Check("note", name, f"{told} Not evaluated: {', '.join(missing)}; the notes say why.")
    return Check("good", name, told)


def _methods(measurement: Measurement, quantity: Quantity) -> Check | None:
    """How far the values of the methods are spread; None where there is one method only."""
    found = [by_method(measurement, quantity, eta) for eta in eta_bins(measurement, quantity)]
    several = [list(points.values()) for points in found if len(points) > 1]
    several = [points for points in several if not is_exact(points[0])]
    if not several:
        return None
    names = ", ".join(name.replace("_", " ") for name in methods_of(measurement, quantity))
    sizes = [spread(points) for points in several]
    extent = f"{percent_words(min(sizes))} to {percent_words(max(sizes))}"
    title = f"{RESULTS[quantity].capitalize()} by method, {measurement.algo}"
    told = f"{names}: spread (RMS) of {extent} per |η| bin"
    apart = sum(is_apart(point, points[0]) for points in several for point in points[1:])
    if apart:
        values = f"{_count(apart, 'value')} {'is' if apart == 1 else 'are'}"
        words = f"{told}; {values} further from the published one than twice the uncertainty of both."
        return Check("note", title, words)
    words = f"{told}; none is further from the published one than twice the uncertainty of both."
    return Check("good", title, words)


def _regions(measurement: Measurement) -> Check | None:
    """Whether both regions agree, all |eta| bins of simulation and data together; None where they were not compared."""
    found = [check for check in measurement.checks if check.name not in LOOP_CHECKS and check.ndf > 0]
    if not found:
        return None
    worst_one = min(found, key=lambda check: check.p_value)
    is_bad = worst_one.p_value * len(found) < CLOSURE_PROBABILITY
    where = f"|η| {worst_one.eta.low:g} to {worst_one.eta.high:g}"
    words = "Resolutions of both regions do not agree" if is_bad else "Resolutions of both regions agree"
    told = (
        f"{words}: the smallest of {len(found)} probabilities is {worst_one.p_value:.2g} ({worst_one.name}, {where})."
    )
    return Check("note" if is_bad else "good", f"Regions, {measurement.algo}", told)


def _closure(measurements: Sequence[Measurement]) -> Check:
    found = [(measurement.algo, *mean_closure(measurement)) for measurement in measurements]
    known = [(algo, value, error) for algo, value, error in found if np.isfinite(value)]
    if not known:
        return Check("note", "Closure", f"Not tested: {_why_no_closure(measurements)}.")
    bins = [
        (measurement.algo, eta, *mean(ratios)[:2])
        for measurement in measurements
        for eta in eta_bins(measurement, "jer_truth")
        if np.isfinite(mean(ratios := closure(measurement, eta))[0])
    ]
    off = [b for b in bins if abs(b[2] - 1) > max(BIN_TOLERANCE, 2 * b[3])]
    is_off = bool(off) or any(abs(value - 1) > CLOSURE_TOLERANCE for _, value, _ in known)
    words = "; ".join(f"{algo} {number_words(value, error)}" for algo, value, error in known)
    algo, eta, value, error = max(off or bins, key=lambda b: abs(b[2] - 1) / b[3])
    where = f"{algo}, " if len(known) > 1 else ""
    worst_one = f"worst bin {where}|η| {eta.low:g} to {eta.high:g}, {number_words(value, error)}"
    told = f"Measured / truth resolution of simulation: {words}; {worst_one}."
    return Check("note" if is_off else "good", "Closure", told)


def _why_no_closure(measurements: Sequence[Measurement]) -> str:
    if not measurements:
        return "there is no simulation that was measured"
    if not any(eta_bins(measurement, "jer_truth") for measurement in measurements):
        return "it needs truth jets, which the simulation does not have"
    return "too few events to measure the resolution from dijets and from truth jets at the same pT"


def _known_answer(run: Mapping[str, Any]) -> Check | None:
    """Whether what was put into a generated sample came back; None for any other sample."""
    told = run.get("closure")
    if not isinstance(told, Mapping) or not isinstance(told.get("p_value"), float):
        return None
    probability = told["p_value"]
    is_good = told.get("ok", probability >= CLOSURE_PROBABILITY)
    goodness = f"χ²/n = {told['chi2']:.1f}/{told['ndf']}, " if {"chi2", "ndf"} <= told.keys() else ""
    words = "What was injected comes back" if is_good else "What was injected does not come back"
    return Check("good" if is_good else "bad", "Known answer", f"{words}: {goodness}probability {probability:.2g}.")


def _loop(measurements: Sequence[Measurement]) -> Check | None:
    """Whether the corrections, applied to their own sample, leave nothing to correct; None where that was not tried."""
    found = [check for m in measurements for check in m.checks if check.name in LOOP_CHECKS]
    if not found:
        return None
    is_bad = any(check.p_value < CLOSURE_PROBABILITY for check in found)
    told = "; ".join(f"{c.name}: χ²/n = {c.chi2:.1f}/{c.ndf}, probability {c.p_value:.2g}" for c in found)
    words = "Corrected samples do not agree" if is_bad else "Corrected samples agree"
    return Check("bad" if is_bad else "good", "Closing the loop", f"{words}: {told}.")


def mean_closure(measurement: Measurement) -> tuple[float, float]:
    """Mean over all bins of measured over true resolution of simulation, and its error; nan without truth."""
    ratios: list[Ratio] = [r for eta in eta_bins(measurement, "jer_truth") for r in closure(measurement, eta)]
    return mean(ratios)[:2]


def _written(run: Mapping[str, Any]) -> Check | None:
    missing = run.get("not_written") or ()
    if not missing:
        return None
    names = [f"{name} ({why})" for name, why in missing.items()] if isinstance(missing, Mapping) else map(str, missing)
    return Check("note", "Corrections", "Not written: " + ", ".join(names) + ".")
