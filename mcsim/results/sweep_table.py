"""A sweep in words and numbers, for a terminal."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr

from mcsim.results.points import PART
from mcsim.results.summary import estimate, percent, with_error
from mcsim.tables import table
from mcsim.units import SI_UNIT, Dimension, show

_MOST_ROWS = 40
_DIMENSIONS: dict[str, Dimension] = {unit: dimension for dimension, unit in SI_UNIT.items()}


def keys_of(dataset: xr.Dataset) -> list[str]:
    """The names of the coordinates that are keys of the scenario, in the order of the sweep."""
    return [str(name) for name, one in dataset.coords.items() if "scenario_key" in one.attrs]


def dimension_of(coordinate: xr.DataArray) -> Dimension | None:
    """What a key measures, by its unit; None for a number or a text."""
    return _DIMENSIONS.get(coordinate.attrs["units"])


def value_text(coordinate: xr.DataArray, value: Any) -> str:
    """A value of a key as people write it: "12.5 GB/s", "1,000", "local-sgd"."""
    if isinstance(value, str):
        return value if len(value) <= 40 else f"{value[:37]}..."
    dimension = dimension_of(coordinate)
    if dimension is not None:
        return show(float(value), dimension)
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"


def one_by_one(dataset: xr.Dataset) -> list[xr.Dataset]:
    """The points of a sweep, each as a Dataset without its dimensions; in their order."""
    dims = [str(dim) for dim in dataset.ideal_step_time.dims]
    sizes = [dataset.sizes[dim] for dim in dims]
    return [dataset.isel(dict(zip(dims, map(int, at), strict=True))) for at in np.ndindex(*sizes)]


def summarise_study(dataset: xr.Dataset) -> str:
    """The table of a sweep, or of a part of one."""
    if dataset.attrs["study"] == PART:
        return summarise_part(dataset)
    return summarise_sweep(dataset)


def summarise_sweep(dataset: xr.Dataset) -> str:
    """The table of a sweep: of each point what a step takes and what is used of the fleet."""
    keys, points = keys_of(dataset), dataset.ideal_step_time.size
    rows = []
    for one in one_by_one(dataset)[:_MOST_ROWS]:
        mean, error = estimate(one, "step_time_mean")
        share = estimate(one, "efficiency")
        gpus, _ = estimate(one, "effective_gpus")
        value, uncertainty = with_error(mean, error)
        rows.append(
            [
                *(value_text(one[name], one[name].values.item()) for name in keys),
                value,
                uncertainty and f"± {uncertainty}",
                "none" if math.isnan(share[0]) else percent(*share),
                "none" if math.isnan(gpus) else f"{gpus:,.0f}",
            ]
        )
    paths = [str(dataset[name].attrs["scenario_key"]) for name in keys]
    attrs = dataset.attrs
    inner = _span(dataset.inner_steps) if "inner_steps" in dataset else "1"
    head = (
        f"{attrs['scenario_name']}: {points:,} points over {', '.join(paths)};"
        f" {_span(dataset.steps)} {'steps' if inner == '1' else 'rounds'} of each of"
        f" {_span(dataset.replicates)} cluster(s), seed {attrs['seed']}"
    )
    header = [*paths, "mean step, s", "std. error", "efficiency", "effective GPUs"]
    parts = [head, table(header, rows, left=())]
    if points > _MOST_ROWS:
        parts.append(f"and {points - _MOST_ROWS:,} more; `mcsim plot` draws them")
    failed = int((dataset.self_check == "failed").sum())
    if failed:
        parts.append(f"self-check failed at {failed:,} of the points: do not trust them")
    return "\n\n".join(parts)


def summarise_part(dataset: xr.Dataset) -> str:
    """Which points of a sweep are finished, and what a step takes there."""
    attrs = dataset.attrs
    rows = [
        [str(int(one)), show(float(mean), "time")]
        for one, mean in list(
            zip(dataset.point.values, dataset.step_time_mean.values, strict=True)
        )[:_MOST_ROWS]
    ]
    head = f"{attrs['scenario_name']}, seed {attrs['seed']}: {attrs['completeness']}"
    more = dataset.sizes["point"] - _MOST_ROWS
    end = [f"and {more:,} more"] if more > 0 else []
    return "\n\n".join([head, table(["point", "mean step"], rows), *end])


def _span(values: xr.DataArray) -> str:
    least, most = int(values.min()), int(values.max())
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"
