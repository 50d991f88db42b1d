"""Workspaces of the fits as JSON of HistFactory, which pyhf and others read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from corrections.tagging.samples import LARGEST_FACTOR, NORM, factor_limits, samples_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from corrections.tagging.samples import Sample
    from corrections.tagging.settings import FitSettings
    from corrections.tagging.templates import Templates

VERSION = "1.0.0"
MEASUREMENT = "scale_factors"


def workspace(templates: Templates, settings: FitSettings) -> dict[str, Any]:
    """The simultaneous fit of all working points.

    Parameters are `sf_<group>_<working point>`, or `sf_<group>` where there is one working point, `norm` for the common
    yield where simulation is not normalised to luminosity, and one for each source of uncertainty. The first scale
    factor is the parameter of interest, which the format wants; the fit treats all of them alike. Channels are sorted
    by name, as pyhf does.
    """
    samples = samples_of(templates, settings)
    regions = {region.name: region for region in templates.regions}
    limits = factor_limits(templates, settings)
    factors = sorted({name for each in samples for name in each.factors})
    return {
        "version": VERSION,
        "channels": [
            {"name": channel, "samples": [_sample(each) for each in samples if each.channel == channel]}
            for channel in sorted(regions)
        ],
        "observations": [{"name": channel, "data": _plain(regions[channel].data)} for channel in sorted(regions)],
        "measurements": [
            {
                "name": MEASUREMENT,
                "config": {
                    "poi": next((name for name in factors if name != NORM), ""),
                    "parameters": [_parameter(name, limits) for name in factors],
                },
            }
        ],
    }


def _sample(sample: Sample) -> dict[str, Any]:
    modifiers: list[dict[str, Any]] = [{"name": name, "type": "normfactor", "data": None} for name in sample.factors]
    for name, each in sample.sources.items():
        up, down = each.rate
        modifiers.append({"name": name, "type": "normsys", "data": {"hi": float(up), "lo": float(down)}})
        if not np.array_equal(each.shape[0], sample.nominal) or not np.array_equal(each.shape[1], sample.nominal):
            content = {"hi_data": _plain(each.shape[0]), "lo_data": _plain(each.shape[1])}
            modifiers.append({"name": name, "type": "histosys", "data": content})
    statistics = {"name": f"staterror_{sample.channel}", "type": "staterror", "data": _plain(sample.errors)}
    return {"name": sample.name, "data": _plain(sample.nominal), "modifiers": [*modifiers, statistics]}


def _parameter(name: str, limits: Mapping[str, float]) -> Mapping[str, Any]:
    return {"name": name, "bounds": [[0.0, limits.get(name, LARGEST_FACTOR)]], "inits": [1.0]}


def _plain(values: Sequence[float] | np.ndarray[Any, Any]) -> list[float]:
    return [float(value) for value in values]
