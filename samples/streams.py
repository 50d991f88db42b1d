"""Random numbers that depend on the seed, the sample and the chunk only, never on workers or their order."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

PYTHIA_SEEDS = 900_000_000
"""Pythia takes seeds from 1 to this number."""
_CHUNKS_PER_STREAM = 1 << 27


class Stream(IntEnum):
    """The samples of one generation; no two of them share a random number."""

    SIMULATION = 0
    DATA = 1
    ALTERNATIVE = 2
    PILOT = 3
    PILEUP = 4


class Purpose(IntEnum):
    """What the random numbers of a chunk are for."""

    TRUTH = 0
    DETECTOR = 1
    TRIGGER = 2


def chunk_generator(seed: int, stream: Stream, chunk: int, purpose: Purpose) -> np.random.Generator:
    """Random generator of one chunk and purpose."""
    return np.random.default_rng(np.random.SeedSequence([seed, int(stream), chunk, int(purpose)]))


def pythia_seed(seed: int, stream: Stream, chunk: int) -> int:
    """Seed of Pythia for one chunk, in [1, 900000000].

    Two chunks of one generation never get the same seed: the seed sets where in the range the streams start, and the
    streams lie side by side. A hash of (seed, stream, chunk) would collide now and then and repeat events.
    """
    if not 0 <= chunk < _CHUNKS_PER_STREAM:
        message = f"chunk {chunk} is out of range, a stream holds {_CHUNKS_PER_STREAM} chunks"
        raise ValueError(message)
    start = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] % PYTHIA_SEEDS)
    return (start + int(stream) * _CHUNKS_PER_STREAM + chunk) % PYTHIA_SEEDS + 1
