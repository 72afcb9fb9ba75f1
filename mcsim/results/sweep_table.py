"""A sweep in words and numbers, for a terminal."""

from __future__ import annotations

import math

import numpy as np
import xarray as xr

from mcsim.results.found import FIND, summarise_found
from mcsim.results.points import PART
from mcsim.results.summary import estimate, percent, with_error
from mcsim.results.swept import SWEEP, axes_of
from mcsim.tables import table
from mcsim.units import show

OF_SWEEPS = (SWEEP, PART, FIND)
"""The attribute `study` of what a sweep writes."""
_MOST_ROWS = 40


def one_by_one(dataset: xr.Dataset) -> list[xr.Dataset]:
    """The points of a sweep, each as a Dataset without its dimensions; in their order."""
    dims = [str(dim) for dim in dataset.ideal_step_time.dims]
    sizes = [dataset.sizes[dim] for dim in dims]
    return [dataset.isel(dict(zip(dims, map(int, at), strict=True))) for at in np.ndindex(*sizes)]


def summarise_study(dataset: xr.Dataset) -> str:
    """The table of a sweep, of a part of one, or of a value that was sought."""
    if dataset.attrs["study"] == FIND:
        return summarise_found(dataset)
    if dataset.attrs["study"] == PART:
        return summarise_part(dataset)
    return summarise_sweep(dataset)


def summarise_sweep(dataset: xr.Dataset) -> str:
    """The table of a sweep: of each point what a step takes and what is used of the fleet."""
    axes, points = axes_of(dataset), dataset.ideal_step_time.size
    rows = []
    for one in one_by_one(dataset)[:_MOST_ROWS]:
        mean, error = estimate(one, "step_time_mean")
        share = estimate(one, "efficiency")
        gpus, _ = estimate(one, "effective_gpus")
        value, uncertainty = with_error(mean, error)
        rows.append(
            [
                *(axis.text(one[axis.name].values.item()) for axis in axes),
                value,
                uncertainty and f"± {uncertainty}",
                "none" if math.isnan(share[0]) else percent(*share),
                "none" if math.isnan(gpus) else f"{gpus:,.0f}",
            ]
        )
    paths = [axis.key for axis in axes]
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
    if "sobol_first" in dataset:
        parts.append(_indices(dataset))
    failed = int((dataset.self_check == "failed").sum())
    if failed:
        parts.append(f"self-check failed at {failed:,} of the points: do not trust them")
    return "\n\n".join(parts)


def _indices(dataset: xr.Dataset) -> str:
    """What part of the variance of the mean step time is each key's."""
    here = dataset.sel(statistic="step_time_mean")
    rows = []
    for number in range(here.sizes["key"]):
        one = here.isel(key=number)
        row = [str(one.key.item())]
        for order in ("first", "total"):
            part, width = (float(one[f"sobol_{order}{end}"]) for end in ("", "_half_width"))
            row.append(f"{part:.3f} ± {width:.3f}")
        rows.append(row)
    header = ["of the variance of the mean step", "by itself (95 %)", "with all others"]
    return table(header, rows)


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
