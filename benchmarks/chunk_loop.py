"""Events per second of the chunk loop against reading alone and against a plain coffea processor, on one core.

`python benchmarks/chunk_loop.py [EVENTS]` writes a toy file (1,000,000 events by default, kept in the temporary
folder), runs every variant three times in turn and prints the best of each as a ratio. What is compared:

floor           uproot alone reads the branches that are needed, chunk by chunk
plain           a coffea processor on NanoAODSchema, awkward and hist.fill: same selection, one reconstructed histogram
ours            coffea's Runner with DijetProcessor: all histograms, both sides of the third-jet cut

The floor is taken for reconstructed jets only, and with truth jets; ours too, with 100 bootstrap replicas, and with
all systematic variations as well, which is what a run does by default.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import awkward as ak
import hist
import numpy as np
import uproot
from coffea.nanoevents import NanoAODSchema
from coffea.processor import IterativeExecutor, ProcessorABC, Runner

from processors.binning import Binning
from processors.dijet import DijetProcessor, DijetSettings
from processors.fileset import Dataset, load_fileset
from processors.reading import NoColumns, runner_options
from processors.variations import Systematics
from samples.toy import write_toy

if TYPE_CHECKING:
    from collections.abc import Callable

    from processors.histograms import OrderedSum

CHUNK = 250_000
ROUNDS = 3
RECO = ("run", "luminosityBlock", "event", "nJet", "Jet_pt", "Jet_eta", "Jet_phi", "Jet_mass", "Jet_jetId")
RHO = "Rho_fixedGridRhoFastjetAll"
TRUTH = ("genWeight", "nGenJet", "GenJet_pt", "GenJet_eta", "GenJet_phi", "GenJet_mass")


class PlainProcessor(ProcessorABC):
    """The dijet selection as one would first write it: awkward arrays and hist.fill, one nominal histogram."""

    def process(self, events: Any) -> hist.Hist:
        """Asymmetry by |eta| of the probe, pt_avg and alpha."""
        binning = Binning()
        jets = events.Jet[(events.Jet.pt >= 10) & ((events.Jet.jetId & 2) > 0)]
        jets = jets[ak.argsort(jets.pt, ascending=False)]
        two = ak.num(jets) >= 2
        jets, weight = jets[two], np.ones(int(ak.sum(two)))
        first, second = jets[:, 0], jets[:, 1]
        third = ak.fill_none(ak.pad_none(jets.pt, 3)[:, 2], 0.0)
        pt_avg = 0.5 * (first.pt + second.pt)
        distance = np.abs((first.phi - second.phi + np.pi) % (2 * np.pi) - np.pi)
        kept = (distance > 2.7) & (third < np.maximum(25.0, 0.25 * pt_avg))
        low, high = binning.reference_range
        in_reference = [(np.abs(jet.eta) >= low) & (np.abs(jet.eta) < high) for jet in (first, second)]
        coin = np.random.default_rng(1).random(len(pt_avg)) < 0.5
        first_is_probe = ak.where(in_reference[0] & in_reference[1], coin, in_reference[1])
        kept = kept & (in_reference[0] | in_reference[1])
        probe = ak.where(first_is_probe, first.pt, second.pt)
        reference = ak.where(first_is_probe, second.pt, first.pt)
        eta = np.abs(ak.where(first_is_probe, first.eta, second.eta))
        histogram = hist.Hist(
            hist.axis.Variable(binning.eta_edges, name="eta"),
            hist.axis.Variable(binning.pt_avg_edges, name="pt_avg"),
            hist.axis.Variable(binning.alpha_edges, name="alpha"),
            hist.axis.Regular(200, -2, 2, name="asymmetry"),
            storage=hist.storage.Weight(),
        )
        columns = {
            "eta": eta,
            "pt_avg": pt_avg,
            "alpha": third / pt_avg,
            "asymmetry": 2 * (probe - reference) / (probe + reference),
        }
        histogram.fill(**{name: column[kept] for name, column in columns.items()}, weight=weight[np.asarray(kept)])
        return histogram

    def postprocess(self, accumulator: hist.Hist) -> hist.Hist:
        """Nothing."""
        return accumulator


def read_alone(path: str, branches: tuple[str, ...]) -> None:
    """Read the branches of a file by uproot, chunk by chunk, into awkward arrays."""
    with uproot.open(path) as file:
        tree = file["Events"]
        present = [b for b in branches if b in tree]
        for start in range(0, tree.num_entries, CHUNK):
            for branch in present:
                tree[branch].array(entry_start=start, entry_stop=start + CHUNK)


def run_plain(path: str) -> None:
    """The plain processor through the Runner."""
    runner = Runner(IterativeExecutor(status=False), schema=NanoAODSchema, chunksize=CHUNK)
    runner({"sample": {"files": {path: "Events"}}}, PlainProcessor())


def run_ours(path: str, dataset: Dataset, replicas: int, *, is_varied: bool = False) -> OrderedSum:
    """Our processor through the Runner, chunk after chunk; nominal histograms, or all variations too."""
    settings = DijetSettings(replicas=replicas, systematics=Systematics(enabled=is_varied))
    processor = DijetProcessor({dataset.name: dataset}, settings)
    runner = Runner(IterativeExecutor(status=False), schema=NoColumns, chunksize=CHUNK)
    fileset = {dataset.name: {"files": {path: "Events"}}}
    items = [replace(item, usermeta={"chunk": i}) for i, item in enumerate(runner.preprocess(fileset))]
    return runner.run(items, processor, **runner_options())["out"]


def main() -> None:
    """Write the toy if need be, time all variants in turn, print ratios and the peak memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("events", nargs="?", type=int, default=1_000_000)
    events = parser.parse_args().events
    folder = Path(tempfile.gettempdir()) / f"jetbalance-benchmark-{events}"
    if not (folder / "fileset.json").is_file():
        write_toy(folder, events, seed=1, n_data=1000)
    warnings.simplefilter("ignore")
    simulation = load_fileset(folder / "fileset.json")[0]
    path = simulation.files[0].path
    # the same file read as data without triggers: no truth, no generator weight
    reco_only = Dataset("reco", simulation.files, is_mc=False, schema="nanoaod", jet_collection="Jet", jet_algo="AK4PF")
    variants: dict[str, Callable[[], Any]] = {
        "floor, reconstructed": lambda: read_alone(path, (*RECO, RHO)),
        "floor, with truth": lambda: read_alone(path, (*RECO, RHO, *TRUTH)),
        "plain coffea, reconstructed": lambda: run_plain(path),
        "ours, reconstructed": lambda: run_ours(path, reco_only, 0),
        "ours, with truth": lambda: run_ours(path, simulation, 0),
        "ours, truth and 100 replicas": lambda: run_ours(path, simulation, 100),
        "the same, and all variations": lambda: run_ours(path, simulation, 100, is_varied=True),
    }
    best = _time(variants, events)
    _print(best, events)


def _time(variants: dict[str, Callable[[], Any]], events: int) -> dict[str, float]:
    """Best CPU time of each variant over the rounds, after one warm-up of each that compiles kernels."""
    best = dict.fromkeys(variants, float("inf"))
    for turn in range(ROUNDS + 1):
        for name, variant in variants.items():
            began = time.process_time()
            variant()
            if turn:
                best[name] = min(best[name], time.process_time() - began)
        print(f"round {turn} of {ROUNDS}, {events:,} events", flush=True)
    return best


def _print(best: dict[str, float], events: int) -> None:
    print(f"{'':30} {'Mevents/s':>10} {'x floor':>8} {'x plain':>8}")
    for name, seconds in best.items():
        floor = best["floor, reconstructed" if "reconstructed" in name else "floor, with truth"]
        plain = best["plain coffea, reconstructed"]
        print(f"{name:30} {events / seconds / 1e6:10.2f} {seconds / floor:8.2f} {plain / seconds:8.2f}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(f"peak memory of this process {peak:.2f} GiB")


if __name__ == "__main__":
    main()
