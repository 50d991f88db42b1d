"""Efficiencies of simulation by category, |eta| and pT, which event weights need beside scale factors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from corrections.tagging.counts import FAIL, PASS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from corrections.tagging.counts import Counts, FloatArray


@dataclass(frozen=True, slots=True)
class EfficiencyMap:
    """Share of simulated jets that pass, `values` (n_eta, n_pt), in the bins with these edges (pT in GeV)."""

    tagger: str
    working_point: str
    category: str
    eta: FloatArray
    pt: FloatArray
    values: FloatArray


def efficiency_maps(counts: Counts, groups: Mapping[str, Sequence[str]]) -> list[EfficiencyMap]:
    """Maps of each tagger, working point and group of categories of truth; a bin without jets has nan.

    Where weights of either sign would let more jets pass a working point than the one before, as many pass both.
    """
    found = []
    for tagger, cuts in counts.working_points.items():
        highest = dict.fromkeys(groups, np.ones((len(counts.pt) - 1, len(counts.eta) - 1)))
        for working_point in cuts:
            jets = counts.nominal[(slice(None), *counts.place(tagger, working_point))].sum(axis=(0, 5))
            for group, members in groups.items():
                own = jets[:, [counts.categories.index(name) for name in members]].sum(axis=1)
                total = own[PASS] + own[FAIL]
                values = np.divide(own[PASS], total, out=np.full(total.shape, np.nan), where=total > 0)
                values = np.where(np.isfinite(values), np.clip(values, 0.0, highest[group]), np.nan)
                highest[group] = values
                found.append(EfficiencyMap(tagger, working_point, group, counts.eta, counts.pt, values.T))
    return found


def filled(efficiencies: EfficiencyMap) -> FloatArray | None:
    """Values (n_eta, n_pt) with those of the nearest bin, in pT first, where there were no jets; None without any."""
    is_known = np.isfinite(efficiencies.values)
    if not is_known.any():
        return None
    known = np.argwhere(is_known)
    found = efficiencies.values.copy()
    for place in np.argwhere(~is_known):
        distance = np.abs(known - place) @ np.array([len(efficiencies.pt), 1])
        found[tuple(place)] = efficiencies.values[tuple(known[np.argmin(distance)])]
    return found
