"""Bisector and MPFX on toys: jets smeared by a known resolution, recoiling against soft isotropic radiation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from corrections.bisector import Components, bisector, mpfx

EDGES = np.linspace(-2, 2, 201)
RESOLUTION, RADIATION = 0.08, 0.12


def pairs(rng: np.random.Generator, n: int, resolution: float, stretch: float = 1.0) -> dict[str, np.ndarray]:
    """psi, eta and |cos dphi| of truth jets and of smeared ones. `stretch` makes the radiation anisotropic."""
    kick = rng.normal(0, RADIATION / 2, (n, 2)) * [1.0, stretch]
    axis = rng.uniform(0, 2 * np.pi, n)
    # two unit vectors back to back, each kicked by half the recoil; the axis is then turned at random
    first = np.stack([kick[:, 1], 1 + kick[:, 0]], axis=1)
    second = np.stack([kick[:, 1], -1 + kick[:, 0]], axis=1)
    turn = np.stack([np.cos(axis), np.sin(axis), -np.sin(axis), np.cos(axis)], axis=1).reshape(n, 2, 2)
    first, second = np.einsum("nij,nj->ni", turn, first), np.einsum("nij,nj->ni", turn, second)
    result = {}
    for level, width in (("truth", 0.0), ("reco", resolution)):
        jets = [jet * (1 + rng.normal(0, 1, n) * width)[:, None] for jet in (first, second)]
        pt = [np.hypot(jet[:, 0], jet[:, 1]) for jet in jets]
        phi = [np.arctan2(jet[:, 1], jet[:, 0]) for jet in jets]
        delta = np.abs(np.mod(phi[0] - phi[1] + np.pi, 2 * np.pi) - np.pi)
        average = 0.5 * (pt[0] + pt[1])
        result[f"{level}_psi"] = (pt[0] - pt[1]) / average * np.sin(delta / 2)
        result[f"{level}_eta"] = 2 * np.cos(delta / 2) * rng.choice([-1, 1], n)
    result["cos"] = np.abs(np.cos(delta))
    return result


def components(found: dict[str, np.ndarray], level: str, weights: Any = None) -> Components:
    w = np.ones(len(found["cos"])) if weights is None else weights
    sums = [np.histogram(found[f"{level}_{c}"], EDGES, weights=k)[0] for c in ("psi", "eta") for k in (w, w**2)]
    return Components(*(s.astype(float) for s in sums))


@pytest.mark.parametrize("stretch", [1.0, 0.7])
def test_the_known_resolution_comes_back(stretch: float) -> None:
    """pt_avg is the smeared one, which makes A narrower by about (1 - s^2/2): 0.3 % of the resolution."""
    found = pairs(np.random.default_rng(1), 400_000, RESOLUTION, stretch)
    reco, truth = components(found, "reco"), components(found, "truth")
    result = bisector(reco, truth, EDGES, np.array(found["cos"].mean()), same_events=True)
    assert str(result.status) == "ok"
    assert np.sqrt(float(result.value) / 2) == pytest.approx(RESOLUTION, rel=6e-3)


def test_anisotropic_radiation_needs_the_truth_term() -> None:
    found = pairs(np.random.default_rng(2), 200_000, RESOLUTION, 0.7)
    reco = components(found, "reco")
    empty = replace(components(found, "truth"), psi=reco.eta, psi_variances=reco.eta_variances)
    without = bisector(
        reco, replace(empty, eta=reco.eta, eta_variances=reco.eta_variances), EDGES, np.array(1.0), same_events=False
    )
    assert np.sqrt(float(without.value) / 2) > 1.05 * RESOLUTION


@pytest.mark.parametrize("same_events", [True, False])
def test_the_quoted_error_is_the_spread_of_toys(*, same_events: bool) -> None:
    rng = np.random.default_rng(3)
    pulls = []
    for _ in range(250):
        found = pairs(rng, 4000, RESOLUTION)
        truth = components(found if same_events else pairs(rng, 4000, RESOLUTION), "truth")
        result = bisector(
            components(found, "reco"), truth, EDGES, np.array(found["cos"].mean()), same_events=same_events
        )
        pulls.append((float(result.value) - 2 * RESOLUTION**2) / np.sqrt(float(result.variance)))
    # 250 toys: the width of the pull is known to 4.5 %
    assert abs(np.mean(pulls)) < 0.35
    assert 0.87 < np.std(pulls) < 1.13


def test_all_bins_of_pt_are_measured_at_once() -> None:
    rng = np.random.default_rng(4)
    found = [pairs(rng, 20_000, resolution) for resolution in (0.06, 0.1)]
    joined = []
    for level in ("reco", "truth"):
        parts = [components(f, level) for f in found]
        fields = ("psi", "psi_variances", "eta", "eta_variances")
        stacked = [np.stack([getattr(p, name) for p in parts]) for name in fields]
        joined.append(Components(*stacked))
    cos = np.array([f["cos"].mean() for f in found])
    together = bisector(joined[0], joined[1], EDGES, cos, same_events=True)
    alone = bisector(components(found[1], "reco"), components(found[1], "truth"), EDGES, cos[1], same_events=True)
    assert together.value.shape == (2,)
    assert together.value[1] == pytest.approx(float(alone.value))
    np.testing.assert_allclose(np.sqrt(together.value / 2), [0.06, 0.1], rtol=0.03)


def test_copies_give_the_error_where_there_are_any() -> None:
    rng = np.random.default_rng(5)
    found = pairs(rng, 10_000, RESOLUTION)
    weights = [rng.poisson(1, 10_000).astype(float) for _ in range(200)]
    levels = []
    for level in ("reco", "truth"):
        copies = [components(found, level, w) for w in weights]
        psi, eta = np.stack([c.psi for c in copies]), np.stack([c.eta for c in copies])
        levels.append(replace(components(found, level), psi_replicas=psi, eta_replicas=eta))
    result = bisector(levels[0], levels[1], EDGES, np.array(1.0), same_events=True)
    plain = bisector(components(found, "reco"), components(found, "truth"), EDGES, np.array(1.0), same_events=True)
    assert result.replicas.shape == (200,)
    assert float(result.variance) == pytest.approx(float(plain.variance), rel=0.3)


def test_mpfx_subtracts_what_is_across_the_axis() -> None:
    rng = np.random.default_rng(6)
    n = 200_000
    along, across = rng.normal(0, 0.09, n) + rng.normal(0, 0.08 * np.sqrt(2), n), rng.normal(0, 0.09, n)
    counts = [np.histogram(x, EDGES)[0].astype(float) for x in (along, across)]
    result = mpfx(Components(counts[0], counts[0], counts[1], counts[1]), EDGES)
    assert np.sqrt(float(result.value) / 2) == pytest.approx(0.08, rel=5e-3)


def test_a_negative_difference_keeps_its_value() -> None:
    found = pairs(np.random.default_rng(7), 10_000, 0.0)
    reco, wide = components(found, "truth"), components(pairs(np.random.default_rng(8), 10_000, 0.1), "reco")
    result = bisector(reco, wide, EDGES, np.array(1.0), same_events=False)
    assert str(result.status) == "negative_square"
    assert float(result.value) < 0


def test_what_cannot_be_measured_says_why() -> None:
    found = pairs(np.random.default_rng(9), 10_000, RESOLUTION)
    reco = components(found, "reco")
    none = Components(*(np.zeros(200) for _ in range(4)))
    few = replace(reco, psi=reco.psi / 1000, eta=reco.eta / 1000, psi_variances=reco.psi_variances / 1000)
    one = np.array(1.0)
    assert str(bisector(reco, None, EDGES, one, same_events=False).status) == "no_truth"
    assert str(bisector(none, reco, EDGES, one, same_events=False).status) == "empty"
    assert str(bisector(few, reco, EDGES, one, same_events=False).status) == "few_events"
    assert np.isnan(float(bisector(few, reco, EDGES, one, same_events=False).value))
