from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

# On a busy machine the first example, which compiles, takes longer than any limit; benchmarks tell times.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


@pytest.fixture
def is_alive() -> Callable[[int], bool]:
    """Whether a process group has a member that is more than an entry in the table of processes."""

    def alive(group: int) -> bool:
        listed = subprocess.run(["ps", "-eo", "pgid=,stat="], capture_output=True, text=True, check=True).stdout
        rows = (line.split() for line in listed.splitlines())
        return any(int(pgid) == group and not state.startswith("Z") for pgid, state in rows)

    return alive
