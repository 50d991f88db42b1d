"""A small version of `benchmarks/interval_coverage.py`, with limits as wide as few pseudo-experiments need."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "interval_coverage.py"
EXPERIMENTS = 120


@pytest.fixture(scope="module")
def benchmark() -> Any:
    spec = importlib.util.spec_from_file_location("interval_coverage", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def hold(pulls: dict[str, list[float]]) -> None:
    """Limits three standard errors of this many pulls wider than asked of the uncertainties themselves."""
    for name, values in pulls.items():
        found = np.array(values)
        wider = 3 / np.sqrt(len(found))
        assert abs(np.mean(np.abs(found) < 1) - 0.683) < 0.05 + 0.47 * wider, name
        assert abs(found.mean()) < 0.1 + wider, name
        # from the central part: a term at its limit makes single pulls of the other terms large
        width = 0.5 * float(np.subtract(*np.quantile(found, [0.8413, 0.1587])))
        assert abs(width - 1) < 0.1 + wider, name


@pytest.mark.slow
@pytest.mark.parametrize("weighted", [False, True])
def test_single_widths_cover(benchmark: Any, weighted: bool) -> None:  # noqa: FBT001
    hold(benchmark.widths(EXPERIMENTS, np.random.default_rng(1), 0, weighted=weighted))


@pytest.mark.slow
@pytest.mark.parametrize("replicas", [0, 100])
def test_curves_and_scale_factors_cover(benchmark: Any, replicas: int) -> None:
    pulls = benchmark.full(
        EXPERIMENTS if replicas == 0 else EXPERIMENTS // 3, np.random.default_rng(2), replicas, weighted=False
    )
    hold({name: values for name, values in pulls.items() if not name.startswith("single")})
