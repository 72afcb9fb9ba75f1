"""A result in words and numbers, for a terminal."""

from __future__ import annotations

import math

import numpy as np
import xarray as xr

from mcsim.engine.histogram import quantile_of
from mcsim.laws import FloatArray
from mcsim.tables import table
from mcsim.units import show


def summarise(dataset: xr.Dataset) -> str:
    """The readable summary of a result: what a step takes, why, and who is waited for."""
    return "\n\n".join([_head(dataset), _causes(dataset), _spread(dataset), _groups(dataset)])


def estimate(dataset: xr.Dataset, name: str) -> tuple[float, float]:
    """The mean of a variable over the clusters, and its standard error.

    Over several clusters the error is that of their mean, which holds both the lottery of the
    cluster and the sampling of steps; with one cluster only the steps' own.
    """
    values: FloatArray = dataset[name].values
    within: FloatArray = dataset[f"{name}_stderr"].values
    if values.size == 1 or np.isnan(within).all():
        return float(values.mean()), float(within[0])
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(values.size))


def with_error(value: float, error: float) -> tuple[str, str]:
    """A number and its standard error, with as many digits as the error justifies.

    Without an error where there is none, or none but rounding.
    """
    if not error > 1e-12 * abs(value):
        return f"{value:.6g}", ""
    if not 1e-3 < abs(value) < 1e9 or error < 1e-9:
        return f"{value:.6g}", f"{error:.2g}"
    digits = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:,.{digits}f}", f"{error:,.{digits}f}"


def percent(share: float, error: float) -> str:
    """`62.7999 ± 0.0004 %`, or without an error where there is none."""
    value, uncertainty = with_error(100 * share, 100 * error)
    return f"{value} ± {uncertainty} %" if uncertainty else f"{value} %"


def _head(dataset: xr.Dataset) -> str:
    attrs = dataset.attrs
    devices = int(dataset.group_devices.sum())
    steps = int(attrs["steps_done"])
    return (
        f"{attrs['scenario_name']}: {devices:,} devices in {dataset.sizes['group']} group(s) at"
        f" {dataset.sizes['site']} site(s); {steps:,} steps of each of"
        f" {dataset.sizes['replicate']} cluster(s), seed {attrs['seed']}"
    )


def causes(dataset: xr.Dataset) -> list[tuple[str, float, float]]:
    """From the ideal to what is achieved: each cause with the seconds it adds and their error."""
    ideal = float(dataset.ideal_step_time)
    equal = float(dataset.undisturbed_step_time)
    compute, compute_error = estimate(dataset, "compute_time_mean")
    return [
        ("ideal: nothing disturbs, work by speed, free network", ideal, 0.0),
        ("+ equal work on unequal devices", equal - ideal, 0.0),
        ("+ waiting for the slowest specimen, jitter and stalls", compute - equal, compute_error),
        (
            "+ communication that compute does not hide",
            *estimate(dataset, "communication_time_mean"),
        ),
        ("= mean step time", *estimate(dataset, "step_time_mean")),
    ]


def _causes(dataset: xr.Dataset) -> str:
    ideal = float(dataset.ideal_step_time)
    rows = []
    for name, seconds, error in causes(dataset):
        value, uncertainty = with_error(seconds, error)
        of_ideal = f"{100 * seconds / ideal:.1f} %"
        rows.append([name, value, uncertainty and f"± {uncertainty}", of_ideal])
    whole = table(["what a step takes", "s", "std. error", "of the ideal"], rows)
    share, share_error = estimate(dataset, "efficiency")
    if math.isnan(share):
        return f"{whole}\n\nno efficiency: the mean step time is not above 0"
    gpus, gpus_error = estimate(dataset, "effective_gpus")
    devices = int(dataset.group_devices.sum())
    effective, around = with_error(gpus, gpus_error)
    return (
        f"{whole}\n\nefficiency {percent(share, share_error)}:"
        f" {effective}{around and f' ± {around}'} effective GPUs of {devices:,}"
    )


def _spread(dataset: xr.Dataset) -> str:
    """Quantiles over the steps of all clusters; those that are more than guesses."""
    counts = dataset.step_time_histogram.values.sum(axis=0)
    wanted = [q for q in (0.01, 0.5, 0.99, 0.999) if min(q, 1 - q) * counts.sum() >= 10]
    inside = quantile_of(
        counts, dataset.bin_lower.values, dataset.bin_upper.values, np.array(wanted)
    )
    ends = dataset.step_time_quantile
    shortest, longest = float(ends.sel(quantile=0).min()), float(ends.sel(quantile=1).max())
    times = [("least", shortest)]
    times += [
        (f"{100 * q:g} %", min(max(float(time), shortest), longest))
        for q, time in zip(wanted, inside, strict=True)
    ]
    times.append(("most", longest))
    return "step time, s   " + "   ".join(f"{name}: {time:.6g}" for name, time in times)


def _groups(dataset: xr.Dataset) -> str:
    rows = []
    for group in dataset.group.values:
        here = dataset.sel(group=group)
        one, one_error = estimate(here, "straggler_share")
        wait, wait_error = estimate(here, "wait_fraction")
        rows.append(
            [
                str(group),
                str(here.group_site.values),
                f"{int(here.group_devices):,}",
                show(float(here.group_compute_time), "time"),
                percent(one, one_error),
                percent(wait, wait_error),
            ]
        )
    return table(
        ["group", "site", "devices", "undisturbed", "last arrivals", "of the step waiting"],
        rows,
        left=(0, 1),
    )
