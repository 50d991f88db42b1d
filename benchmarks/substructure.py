"""Jets per second of the substructure kernels on one core.

`python benchmarks/substructure.py [--jets N]` measures jets with a fixed number of constituents, three times in turn
and each at its best, in processor time. For comparison fastjet clusters the same jets, which is but one of the steps.
"""

from __future__ import annotations

import argparse

import numpy as np
from inference import timed  # the one beside this script

from models.features import RaggedConstituents, offsets_of
from processors.substructure import substructure

ROUNDS = 3
RADIUS = 1.0
LENGTHS = (20, 40, 60, 100)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jets", type=int, default=2000)
    n_jets = parser.parse_args().jets
    substructure(jets(2, 5), RADIUS)
    print(f"{n_jets:,} jets, one core, processor time\nconstituents   ours [jets/s]   kt of fastjet [jets/s]")
    for length in LENGTHS:
        chosen = jets(n_jets, length)
        ours = min(timed(lambda chosen=chosen: substructure(chosen, RADIUS))[0] for _ in range(ROUNDS))
        theirs = min(timed(lambda chosen=chosen: clustered(chosen))[0] for _ in range(ROUNDS))
        print(f"{length:12} {n_jets / ours:15,.0f} {n_jets / theirs:24,.0f}")


def jets(n: int, length: int, seed: int = 1) -> RaggedConstituents:
    """Random jets, hardest constituents first."""
    rng = np.random.default_rng(seed)
    pt = -np.sort(-rng.exponential(10, (n, length)), axis=1).ravel()
    eta, phi = 0.3 * rng.normal(size=(2, n * length))
    values = np.column_stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta)])
    return RaggedConstituents(offsets_of(np.full(n, length)), values.astype(np.float32))


def clustered(constituents: RaggedConstituents) -> None:
    """The last kt splitting of every jet by fastjet."""
    import fastjet

    definition = fastjet.JetDefinition(fastjet.kt_algorithm, 20.0)
    for start, stop in zip(constituents.offsets[:-1], constituents.offsets[1:], strict=True):
        rows = constituents.values[start:stop].tolist()
        sequence = fastjet.ClusterSequence([fastjet.PseudoJet(*row) for row in rows], definition)
        sequence.exclusive_dmerge(1)


if __name__ == "__main__":
    main()
