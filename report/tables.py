"""The numbers of the page in rows of words."""

# ruff: noqa: RUF001 - Greek letters and signs are what is meant

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from corrections.results import AGAIN, LOOP_CHECKS, SIMULATION
from report.closure import (
    ROUNDING,
    Ratio,
    best_known,
    by_method,
    closure,
    eta_bins,
    in_bin,
    is_exact,
    main_method,
    main_points,
    mean,
    methods_of,
    one_per_bin,
    spread,
)
from report.cutflow import percent, steps_of
from report.uncertainty import evaluated, shown_points, words_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from corrections.results import Interval, Measurement, Point, Quantity, ResolutionCurve

NOTHING = "–"
PARAMETERS: tuple[Quantity, ...] = ("N", "S", "C")
RESULTS: dict[Quantity, str] = {"scale_factor": "scale factor", "residual": "residual"}


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of words under column names; columns in `words` are read as text, all others as numbers.

    `section` is the heading of the page under which the table stands, "" for the results at the top; `note` a sentence
    below it.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: tuple[int, ...] = (0,)
    section: str = ""
    note: str = ""


def scale_factor_table(measurement: Measurement) -> Table | None:
    """Published scale factor and residual response per |eta| bin; None if neither was looked at."""
    quantities = [q for q in RESULTS if measurement.select(q)]
    if not quantities:
        return None
    rows = []
    has_shifts = False
    for eta in eta_bins(measurement, "scale_factor", "residual"):
        points = [in_bin(main_points(measurement, q), eta) for q in quantities]
        has_shifts |= any(p.shifts for found in points for p in found)
        rows.append((eta_words(eta), *(best_words(found) for found in points)))
    names = (f"{RESULTS[q]} ({_method_words(main_method(measurement, q))})" for q in quantities)
    note = f"Value ± statistical{' ± systematic' if has_shifts else ''} uncertainty."
    if any(" at " in cell for row in rows for cell in row[1:]):
        note += " What depends on pT is given where it is known best, at that pT in GeV."
    title = f"Scale factors and residual response, {measurement.algo}"
    return Table(title, ("|η|", *names), tuple(rows), note=note)


def sources_table(measurement: Measurement, quantity: Quantity) -> Table | None:
    """Relative shifts up and down by every source in per cent per |eta| bin; None where no source was evaluated."""
    points = [point for point in shown_points(measurement, quantity) if not is_exact(point)]
    sources = evaluated(points)
    if not sources:
        return None
    digits = 1 if quantity == "scale_factor" else 2
    rows = []
    for point in points:
        size = abs(point.value) / 100
        shifts = (point.shift(source) for source in sources)
        cells = (NOTHING if s is None else f"{s.up / size:+.{digits}f} {s.down / size:+.{digits}f}" for s in shifts)
        stat, total = (f"{error / size:.{digits}f}" for error in (point.stat, point.total))
        rows.append((eta_words(point.eta), stat, *(cell.replace("-", "−") for cell in cells), total))
    columns = ("|η|", words_of("stat"), *(words_of(source) for source in sources), "total")
    title = f"Uncertainty of the {RESULTS[quantity]} in per cent, {measurement.algo}"
    note = "Of each source the shifts when it is varied up and down; the larger one counts in the total."
    return Table(title, columns, tuple(rows), section="Uncertainties", note=note)


def methods_table(measurement: Measurement, quantity: Quantity) -> Table | None:
    """The value by every method per |eta| bin and their RMS; None where there is one method only."""
    names = methods_of(measurement, quantity)
    if len(names) < 2:
        return None
    rows = []
    for eta in eta_bins(measurement, quantity):
        found = by_method(measurement, quantity, eta)
        points = [found.get(n) or best_known(in_bin(measurement.select(quantity, method=n), eta)) for n in names]
        total = points[0].total if points[0] is not None and points[0].shifts else math.nan
        cells = (percent_words(spread(found.values())), percent_words(total / points[0].value if points[0] else total))
        rows.append((eta_words(eta), *(point_words(point, with_systematic=False) for point in points), *cells))
    columns = ("|η|", *(_method_words(name) for name in names), "RMS", f"total of {_method_words(names[0])}")
    title = f"{RESULTS[quantity].capitalize()} by method, {measurement.algo}"
    note = "Errors are statistical. RMS: of all methods about their mean. The methods share their events."
    return Table(title, columns, tuple(rows), section="Methods side by side", note=note)


def resolution_methods_table(measurement: Measurement) -> Table | None:
    """Mean over pT of the resolution of simulation by each other method over the published one; None without others."""
    first, *others = methods_of(measurement, "jer") or [""]
    if not others:
        return None
    rows = []
    for eta in eta_bins(measurement, "jer"):
        main = {p.pt: p for p in _resolutions(measurement, first, eta)}
        cells = []
        for method in others:
            found = [_over(p, main[p.pt]) for p in _resolutions(measurement, method, eta) if p.pt in main]
            cells.append(number_words(*mean(found)[:2]))
        rows.append((eta_words(eta), *cells))
    title = f"Resolution of simulation by method, {measurement.algo}"
    note = f"Ratio to the {_method_words(first)} method, mean over pT. Errors as if they did not share their events."
    columns = ("|η|", *map(_method_words, others))
    return Table(title, columns, tuple(rows), section="Methods side by side", note=note)


def _resolutions(measurement: Measurement, method: str, eta: Interval) -> list[Point]:
    points = one_per_bin(in_bin(measurement.select("jer", SIMULATION, method), eta))
    return [point for point in points if point.is_measured and point.value > 0]


def _over(point: Point, other: Point) -> Ratio:
    value = point.value / other.value
    error = value * math.hypot(point.stat / point.value, other.stat / other.value)
    return Ratio(point.region, point.eta, point.pt, point.pt_mean, value, error)


def loop_table(measurement: Measurement) -> Table | None:
    """What is left of scale factor and residual after both were applied; None where that was not tried."""
    names: tuple[Quantity, ...] = ("scale_factor_again", "residual_again")
    quantities = [name for name in names if main_points(measurement, name)]
    if not quantities:
        return None
    rows = []
    for eta in eta_bins(measurement, *quantities):
        found = ([p for p in in_bin(main_points(measurement, q), eta) if not p.stat < ROUNDING] for q in quantities)
        points = (best_known(each) for each in found)
        rows.append((eta_words(eta), *(point_words(point) for point in points)))
    columns = ("|η|", *(AGAIN[name] for name in quantities))
    title = f"After the corrections were applied, {measurement.algo}"
    return Table(
        title,
        columns,
        tuple(rows),
        section="Closing the loop",
        note="Errors are those of the values that were applied.",
    )


def consistency_table(measurement: Measurement) -> Table | None:
    """Chi2 between measurements that should agree, such as those of both regions; None without any."""
    rows = tuple(
        (check.name, eta_words(check.eta), f"{check.chi2:.1f}/{check.ndf}", f"{check.p_value:.2g}")
        for check in measurement.checks
        if check.name not in LOOP_CHECKS
    )
    columns = ("compared", "|η|", "χ²/n", "probability")
    title = f"Do both regions agree, {measurement.algo}"
    return Table(title, columns, rows, (0, 1), section="Resolution") if rows else None


def resolution_table(measurement: Measurement) -> Table | None:
    """Parameters of the resolution curves with their errors; None without curves."""
    curves = measurement.curves
    if not curves:
        return None
    parameters: tuple[Quantity, ...] = PARAMETERS
    if has_power := any(curve.power != -1 for curve in curves):
        parameters = (*parameters, "P")
    if has_rho := any(curve.rho is not None for curve in curves):
        parameters = (*parameters, "rho_slope")
    rows = tuple(_curve_row(curve, parameters) for curve in curves)
    names = (*("N [GeV]", "S [√GeV]", "C"), *(["P"] if has_power else []), *(["N|N| per ρ [GeV]"] if has_rho else []))
    note = "σ/pT = √(N|N|/pT² + S² pT^P + C²)." if has_power else "σ/pT = √(N|N|/pT² + S²/pT + C²)."
    if has_rho:
        note += " N holds at the mean ρ; the last parameter is what N|N| gains per GeV of ρ, where that is known."
    n = len(parameters)
    columns = ("|η|", "dataset", *names, "χ²/n", "pT range [GeV]", "status")
    title = f"Resolution curves, {measurement.algo}"
    return Table(title, columns, rows, (0, 1, n + 3, n + 4), section="Resolution", note=note)


def closure_table(measurement: Measurement) -> Table | None:
    """Mean ratio of the measured resolution of simulation to truth per |eta| bin; None without truth."""
    rows = []
    for eta in eta_bins(measurement, "jer_truth"):
        ratios = closure(measurement, eta)
        value, error, chi2 = mean(ratios)
        chi2_words = f"{chi2:.1f}/{len(ratios) - 1}" if len(ratios) > 1 else NOTHING
        rows.append((eta_words(eta), number_words(value, error), chi2_words, str(len(ratios))))
    columns = ("|η|", "measured / truth", "χ²/n of a constant", "pT bins")
    title = f"Closure in simulation, {measurement.algo}"
    return Table(title, columns, tuple(rows), section="Resolution") if rows else None


def known_answer_table(pulls: Sequence[Mapping[str, Any]]) -> Table | None:
    """What came back of what was put into a generated sample; None without records."""
    rows = tuple(
        (
            str(pull["algo"]),
            RESULTS.get(pull["quantity"], str(pull["quantity"])),
            plain_words(pull["eta"]),
            number_words(pull["measured"], pull["error"]),
            f"{pull['known']:.4g}",
            f"{pull['pull']:+.1f}".replace("-", "−"),
        )
        for pull in pulls
    )
    columns = ("algorithm", "quantity", "|η|", "measured", "injected", "pull")
    note = "Errors are statistical, with the doubt about what was injected where it varies inside a bin."
    return Table("Measured against injected", columns, rows, (0, 1, 2), note=note) if rows else None


def cutflow_table(rows: Iterable[tuple[str, str, float, float]]) -> Table | None:
    """Events, their share and their sum of weights, datasets below each other; None without rows."""
    table = tuple(
        (dataset, step.name.replace("_", " "), f"{step.events:,.0f}", percent(step.share), f"{step.weighted:.6g}")
        for dataset, steps in steps_of(rows).items()
        for step in steps
    )
    return Table("Cutflow", ("dataset", "step", "events", "share", "sum of weights"), table, (0, 1)) if table else None


def records_table(title: str, records: Sequence[Mapping[str, Any]]) -> Table | None:
    """Any list of records with plain values, a column for each key that one of them has; None without records."""
    keys = list(dict.fromkeys(key for record in records for key, value in record.items() if _is_plain(value)))
    rows = tuple(tuple(plain_words(record.get(key)) for key in keys) for record in records)
    numeric = {key for key in keys if all(_is_number(record.get(key)) for record in records)}
    words = tuple(i for i, key in enumerate(keys) if key not in numeric)
    return Table(title, tuple(key.replace("_", " ") for key in keys), rows, words) if rows and keys else None


def eta_words(eta: Interval) -> str:
    """Range of |eta|."""
    return f"{eta.low:g} to {eta.high:g}"


def best_words(points: Sequence[Point]) -> str:
    """The value in an |eta| bin; where it depends on pT, the one that is known best, with its pT in GeV."""
    best = best_known(points)
    words = point_words(best)
    several = best is not None and len([p for p in points if p.is_measured]) > 1
    return f"{words} at {best.pt_mean:.0f}" if several and best is not None else words


def point_words(point: Point | None, *, with_systematic: bool = True) -> str:
    """Value with its statistical error and that of all sources, or why there is none."""
    if point is None:
        return NOTHING
    if not point.is_measured:
        return f"({point.status.replace('_', ' ')})"
    if point.shifts and with_systematic:
        return number_words(point.value, point.stat, math.sqrt(point.total**2 - point.stat**2))
    return number_words(point.value, point.stat)


def number_words(value: float, *errors: float) -> str:
    """Value ± errors with two digits of the smallest; what is lost in rounding is no error."""
    if not math.isfinite(value):
        return NOTHING
    known = [error for error in errors if math.isfinite(error) and error > ROUNDING * abs(value)]
    if not known:
        return f"{value:.4g}".replace("-", "−")
    digits = max(1 - math.floor(math.log10(min(known))), 0)
    return " ± ".join(f"{number:.{digits}f}" for number in (value, *known)).replace("-", "−")


def percent_words(fraction: float) -> str:
    """Fraction in per cent with two digits at least."""
    return f"{100 * fraction:.{0 if abs(fraction) >= 0.0995 else 1}f} %" if math.isfinite(fraction) else NOTHING


def plain_words(value: Any) -> str:
    """Value of a record."""
    if value is None or not _is_plain(value):
        return NOTHING
    if isinstance(value, list | tuple):
        return f"{value[0]:g} to {value[1]:g}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _is_plain(value: Any) -> bool:
    """Whether a value fits into a cell: text, a number, or the two ends of a range."""
    is_range = isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_number, value))
    return value is None or isinstance(value, str | int | float) or is_range


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _method_words(name: str | None) -> str:
    return (name or NOTHING).replace("_", " ")


def _curve_row(curve: ResolutionCurve, parameters: tuple[Quantity, ...]) -> tuple[str, ...]:
    name = "simulation" if curve.dataset == SIMULATION else curve.dataset
    if curve.status != "ok":
        return (eta_words(curve.eta), name, *[NOTHING] * (len(parameters) + 2), curve.status.replace("_", " "))
    values: dict[Quantity, float] = {
        "N": curve.noise,
        "S": curve.stochastic,
        "C": curve.constant,
        "P": curve.power,
        "rho_slope": curve.rho.value if curve.rho is not None else math.nan,
    }
    errors = curve.errors
    if curve.rho is not None:
        errors["rho_slope"] = curve.rho.error
    return (
        eta_words(curve.eta),
        name,
        *(number_words(values[q], *([errors[q]] if q in errors else [])) for q in parameters),
        f"{curve.chi2:.1f}/{curve.ndf}",
        f"{curve.pt_range.low:.0f} to {curve.pt_range.high:.0f}",
        "ok",
    )
