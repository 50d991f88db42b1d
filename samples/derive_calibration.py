"""Derive `absolute_calibration.json`: `python -m samples.derive_calibration --work FOLDER [--events N] [--workers N]`.

Dijets of the nominal detector from a seed that no sample uses; the offset from crossings without a hard process. The
command can be killed and given again; it prints the closure on its own events.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.interpolate import UnivariateSpline

from samples.absolute_calibration import CONSTANTS, AbsoluteCalibration, OffsetShape
from samples.durable import ChunkFolder, ChunkTask
from samples.known_response import gaussian_core, is_isolated, mean_error
from samples.layered import JET_RADIUS, LayeredSettings, layered_chain, pileup_density
from samples.layered_chunks import CHUNK_EVENTS, LayeredJob, PoolJob, load_pool, pool_tasks
from samples.layered_settings import LayeredDetector
from samples.processes import ProcessSettings
from samples.streams import Stream
from samples.tables import table_from_arrays
from samples.workers import run_jobs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from samples.tables import Collection, EventTable
    from samples.truth import FloatArray

SEED = 40_961
POOL_EVENTS = 4000
PILEUP = 30.0
OFFSET_CROSSINGS = 600
OFFSET_EDGES = (0.0, 0.4, 0.8, 1.2, 1.6, 2.0, 2.4, 2.8, 3.2, 3.6, 4.0, 4.4, 4.9)
ETA_EDGES = (0.0, 0.3, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.1, 2.5, 2.8, 3.1, 3.4, 3.8, 4.3, 4.9)
LARGE_ETA_EDGES = (0.0, 0.4, 0.8, 1.3, 1.8, 2.5, 3.2)
PT_EDGES = np.exp(np.linspace(np.log(12.0), np.log(3000.0), 27))
MIN_ENTRIES = 25
MIN_KNOTS = 8
_GRID = np.linspace(np.log(6.0), np.log(4000.0), 80)
_STEPS, _LAST = 600, 3.0


@dataclass(frozen=True, slots=True)
class _Responses:
    """Matched isolated truth jets: true pT, |eta| and pT after the offset over the true one."""

    pt: FloatArray
    abs_eta: FloatArray
    response: FloatArray


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--events", type=int, default=40_000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--large-events", type=int, default=20_000)
    options = parser.parse_args(arguments)
    shape = _offset(options.work, options.workers)
    content: dict[str, Any] = {
        "made_by": f"python -m samples.derive_calibration --events {options.events} "
        f"--large-events {options.large_events}, seed {SEED}",
        "offset": {"abs_eta": shape.abs_eta.tolist(), "density": shape.density.tolist()},
        "jets": {},
    }
    for radius, n_events in ((JET_RADIUS, options.events), (0.8, options.large_events), (1.0, options.large_events)):
        if n_events > 0:
            responses = _responses(_tables(options.work, radius, n_events, options.workers), radius, shape)
            edges = ETA_EDGES if radius == JET_RADIUS else LARGE_ETA_EDGES
            content["jets"][f"{radius:g}"] = derive(responses, edges)
    CONSTANTS.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0


def _settings(radius: float) -> tuple[ProcessSettings, LayeredSettings]:
    large = None if radius == JET_RADIUS else radius
    layered = LayeredSettings(LayeredDetector(), PILEUP, large, is_calibrated=False)
    # soft jets are plentiful in any event: the small ones come from a harder spectrum
    pt_range, power = ((15.0, 0.0), 5.0) if large is None else ((150.0, 0.0), 4.5)
    return ProcessSettings(pt_range=pt_range, bias_power=power), layered


def _pool(work: Path, workers: int) -> tuple[ChunkFolder, tuple[ChunkTask, ...]]:
    folder, tasks = ChunkFolder(work), pool_tasks(Stream.SIMULATION, POOL_EVENTS)
    folder.open({"seed": SEED, "detector": asdict(LayeredDetector())})
    run_jobs([PoolJob(folder, ProcessSettings(), SEED, task) for task in tasks], workers)
    return folder, tasks


def _offset(work: Path, workers: int) -> OffsetShape:
    folder, tasks = _pool(work, workers)
    chain = layered_chain(_settings(JET_RADIUS)[1], load_pool(folder, tasks))
    density = pileup_density(chain, OFFSET_CROSSINGS, np.asarray(OFFSET_EDGES), np.random.default_rng(SEED))
    centres = 0.5 * (np.array(OFFSET_EDGES[1:]) + np.array(OFFSET_EDGES[:-1]))
    return OffsetShape(centres, np.round(density, 4))


def _tables(work: Path, radius: float, n_events: int, workers: int) -> Iterator[EventTable]:
    folder, pool = _pool(work, workers)
    generator, layered = _settings(radius)
    stream = {JET_RADIUS: Stream.SIMULATION, 0.8: Stream.DATA, 1.0: Stream.ALTERNATIVE}[radius]
    starts = range(0, n_events, CHUNK_EVENTS)
    tasks = [ChunkTask(stream, chunk, min(CHUNK_EVENTS, n_events - start)) for chunk, start in enumerate(starts)]
    run_jobs([LayeredJob(folder, generator, layered, SEED, task, pool) for task in tasks], workers)
    return (table_from_arrays(folder.load_arrays(task)) for task in tasks)


def _responses(tables: Iterator[EventTable], radius: float, shape: OffsetShape) -> _Responses:
    names = ("Jet", "GenJet", "genJetIdx") if radius == JET_RADIUS else ("FatJet", "GenJetAK8", "genJetAK8Idx")
    parts = []
    for table in tables:
        jets, truth = table.collections[names[0]], table.collections[names[1]]
        pt, eta, phi = (truth.columns[name].astype(np.float64) for name in ("pt", "eta", "phi"))
        isolated = is_isolated(truth.offsets, pt, eta, phi, (2.5 if radius == JET_RADIUS else 1.5) * radius)
        found = jets.columns[names[2]] >= 0
        target = truth.offsets[:-1][jets.event[found]] + jets.columns[names[2]][found]
        target, first = np.unique(target, return_index=True)
        ratio = _after_offset(table, jets, shape)[found][first] / pt[target]
        kept = isolated[target] & (ratio > 0.0)
        parts.append((pt[target][kept], np.abs(eta[target][kept]), ratio[kept]))
    return _Responses(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _after_offset(table: EventTable, jets: Collection, shape: OffsetShape) -> FloatArray:
    clustered = jets.columns["pt"] * (1.0 - jets.columns["rawFactor"])
    rho = table.values["Rho_fixedGridRhoFastjetAll"][jets.event]
    return np.asarray(clustered - shape.offset(rho, jets.columns["area"], jets.columns["eta"]), dtype=np.float64)


def derive(responses: _Responses, eta_edges: Sequence[float]) -> dict[str, Any]:
    """Return the constants in bins of |eta|, and print how well they close on the events they were made from."""
    centres: list[float] = []
    factors: list[FloatArray] = []
    for low, high in pairwise(eta_edges):
        inside = (responses.abs_eta >= low) & (responses.abs_eta < high)
        fitted = _fit(responses.pt[inside], responses.response[inside])
        centres.append(0.5 * (low + high))
        # where jets are missing the region further inside holds
        factors.append(factors[-1] if fitted is None else _invert(fitted))
    content = {
        "abs_eta": centres,
        "log_pt": np.round(_GRID, 6).tolist(),
        "factor": [np.round(row, 5).tolist() for row in factors],
    }
    _print_closure(responses, AbsoluteCalibration(*(np.array(value) for value in content.values())))
    return content


def _fit(pt: FloatArray, response: FloatArray) -> FloatArray | None:
    """Response at the grid of true pT: a smoothing spline in its logarithm, constant beyond the measured range.

    None with less than two bins of enough jets.
    """
    points = []
    for low, high in pairwise(PT_EDGES):
        inside = (pt >= low) & (pt < high)
        if np.count_nonzero(inside) >= MIN_ENTRIES:
            mean, width, core = _core(response[inside])
            points.append((float(np.log(pt[inside]).mean()), mean, width / np.sqrt(core)))
    if len(points) < 2:
        return None
    x, y, error = np.array(points).T
    # a floor keeps bins of many jets from dictating where few are
    weight = 1.0 / np.hypot(error, 0.002)
    if len(points) < MIN_KNOTS:
        line = np.polynomial.Polynomial.fit(x, y, min(2, len(points) - 1), w=weight)
        return np.asarray(line(np.clip(_GRID, x[0], x[-1])))
    spline = UnivariateSpline(x, y, weight, k=3, s=len(points))
    return np.asarray(spline(np.clip(_GRID, x[0], x[-1])))


def _core(response: FloatArray) -> tuple[float, float, float]:
    counts, _ = np.histogram(response, _STEPS, (0.0, _LAST))
    return gaussian_core(counts)


def _invert(response: FloatArray) -> FloatArray:
    """Factor at the grid of pT after the offset: true pT over it where response times true pT is that."""
    seen = np.maximum.accumulate(_GRID + np.log(response))
    true = np.interp(_GRID, seen, _GRID)
    factor = np.exp(true - _GRID)
    factor[seen[0] > _GRID] = 1.0 / response[0]
    factor[seen[-1] < _GRID] = 1.0 / response[-1]
    return factor


def _print_closure(responses: _Responses, calibration: AbsoluteCalibration) -> None:
    factor = calibration.correction(responses.response * responses.pt, responses.abs_eta)
    calibrated = responses.response * factor
    edges = np.array([15.0, 20.0, 30.0, 45.0, 70.0, 110.0, 180.0, 300.0, 600.0, 1200.0, 2500.0])
    for low, high in ((0.0, 0.8), (0.8, 1.3), (1.3, 1.8), (1.8, 2.5), (2.5, 3.2), (3.2, 4.5)):
        line = f"|eta| {low:.1f}-{high:.1f}:"
        for start, stop in pairwise(edges):
            inside = (responses.abs_eta >= low) & (responses.abs_eta < high)
            inside &= (responses.pt >= start) & (responses.pt < stop)
            if np.count_nonzero(inside) > MIN_ENTRIES:
                mean, width, core = _core(calibrated[inside])
                line += f"  {start:.0f}: {mean:.3f}+-{mean_error(width, core):.3f} ({width / mean:.3f})"
        sys.stdout.write(line + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
