"""What the measurement of taggers hands on."""

from __future__ import annotations

from typing import Literal

FitStatus = Literal[
    "ok",
    "empty_pass",
    "empty_fail",
    "no_simulation",
    "absent",
    "always_passes",
    "at_limit",
    "imprecise",
    "not_converged",
]
