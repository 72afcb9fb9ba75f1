"""A result in words and numbers, for a terminal."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import xarray as xr

from mcsim.engine.histogram import quantile_of
from mcsim.results.kinds import kind_of
from mcsim.tables import Paragraphs, Table
from mcsim.units import show


def summarise(dataset: xr.Dataset) -> str:
    """The readable summary of a result: what a step takes, why, and who is waited for.

    Of a part of a run: which steps it has.
    """
    return "\n\n".join(str(part) for part in paragraphs(dataset))


def paragraphs(dataset: xr.Dataset) -> Paragraphs:
    """The summary of a result part by part: sentences, and tables as data."""
    kind = kind_of(dataset)
    if kind == "part":
        return _pieces(dataset)
    if kind == "explanation":
        from mcsim.results.explained import summarise_explanation

        return summarise_explanation(dataset)
    if kind == "verdict":
        from mcsim.results.story import summarise_verdict

        return summarise_verdict(dataset)
    if kind == "comparison":
        from mcsim.results.compared import summarise_comparison

        return summarise_comparison(dataset)
    if kind != "run":
        from mcsim.results.sweep_table import summarise_study

        return [summarise_study(dataset)]
    parts = [_head(dataset), *_causes(dataset), _spread(dataset), _groups(dataset)]
    if "stage" in dataset.sizes:
        parts.append(_stages(dataset))
    return [*parts, _trust(dataset)]


def estimate(dataset: xr.Dataset, name: str) -> tuple[float, float]:
    """The mean of a variable over the clusters, and its standard error."""
    return float(dataset[f"overall_{name}"]), float(dataset[f"overall_{name}_stderr"])


def confidence_interval(
    dataset: xr.Dataset, name: str, level: float = 0.95
) -> tuple[xr.DataArray, xr.DataArray]:
    """The ends of the interval that holds the mean of a variable over clusters with `level`.

    name: of an estimate with a standard error, as "step_time_mean". Student's t with the degrees
    of freedom of the error: of several clusters that of the clusters; not a number where no
    standard error is valid. Raises KeyError for what is no such estimate, ValueError for a level.
    """
    from scipy.special import stdtrit

    if not 0.0 < level < 1.0:
        raise ValueError(f"level must be between 0 and 1, not {level}")
    error = dataset[f"overall_{name}_stderr"]
    away = float(stdtrit(float(error.attrs["degrees_of_freedom"]), 0.5 + level / 2)) * error
    return dataset[f"overall_{name}"] - away, dataset[f"overall_{name}"] + away


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


def _exact(part: float, error: float, whole: float) -> tuple[float, float]:
    """A part of a whole and its error; 0 where both are what rounding leaves of a difference."""
    return (0.0, 0.0) if max(abs(part), error) < 1e-12 * whole else (part, error)


def percent(share: float, error: float) -> str:
    """`62.7999 ± 0.0004 %`, or without an error where there is none."""
    value, uncertainty = with_error(100 * share, 100 * error)
    return f"{value} ± {uncertainty} %" if uncertainty else f"{value} %"


def _pieces(dataset: xr.Dataset) -> Paragraphs:
    attrs = dataset.attrs
    rows = []
    for at in range(min(dataset.sizes["piece"], _MOST_PIECES)):
        piece = dataset.isel(piece=at)
        first, steps = int(piece.first_step), int(piece.steps)
        mean = show(float(piece.step_time_mean), "time")
        rows.append(
            [f"{int(piece.piece_replicate):,}", f"{first:,}", f"to {first + steps - 1:,}", mean]
        )
    header = ["replicate", "steps", "", "mean step"]
    head = f"{attrs['scenario_name']}, seed {attrs['seed']}: {attrs['completeness']}"
    more = dataset.sizes["piece"] - _MOST_PIECES
    return [head, Table(header, rows), *([f"and {more:,} more"] if more > 0 else [])]


_MOST_PIECES = 20
"""Of a part of a run, that a summary lists."""


def _head(dataset: xr.Dataset) -> str:
    attrs = dataset.attrs
    devices = int(dataset.group_devices.sum())
    inner = int(attrs.get("inner_steps", 1))
    what = "steps" if inner == 1 else f"rounds of {inner:,} steps"
    steps = int(attrs["steps_done"])
    return (
        f"{attrs['scenario_name']}: {devices:,} devices in {dataset.sizes['group']} group(s) at"
        f" {dataset.sizes['site']} site(s); {steps:,} {what} of each of"
        f" {dataset.sizes['replicate']} cluster(s), seed {attrs['seed']}"
    )


class Cause(NamedTuple):
    """What a step's time is spent on: in words, in few, and the seconds with their error."""

    name: str
    label: str
    seconds: float
    error: float


_CAUSES = {
    "compute": (
        "+ waiting for the slowest specimen, jitter and stalls",
        "slowest specimen,\njitter, stalls",
    ),
    "tensor": ("+ collectives of tensor parallelism", "tensor collectives"),
    "expert": ("+ all-to-alls of expert parallelism", "expert all-to-alls"),
    "bubble": ("+ waiting in the pipeline", "pipeline"),
    "data": ("+ communication that compute does not hide", "communication"),
    "sites": ("+ communication among the sites", "among the sites"),
}
"""What each component adds, but for compute: beyond what it takes undisturbed."""
_ELSEWHERE = ("tensor", "expert", "bubble", "sites")
"""What many runs do not have."""


def causes(dataset: xr.Dataset) -> list[Cause]:
    """From the ideal to what is achieved: each cause with the seconds it adds and their error."""
    ideal = float(dataset.ideal_step_time)
    equal = float(dataset.undisturbed_step_time)
    found = [
        Cause("ideal: nothing disturbs, work by speed, free network", "ideal", ideal, 0.0),
        Cause(
            "+ equal work on unequal devices",
            "unequal devices",
            *_exact(equal - ideal, 0.0, equal),
        ),
    ]
    for name in dataset.component.values:
        seconds, error = estimate(dataset.sel(component=name), "component_time_mean")
        beyond = seconds - equal if name == "compute" else seconds
        beyond, error = _exact(beyond, error, equal)
        if beyond == 0.0 and name in _ELSEWHERE:
            continue
        found.append(Cause(*_CAUSES[name], beyond, error))
    return [*found, Cause("= mean step time", "step", *estimate(dataset, "step_time_mean"))]


def _causes(dataset: xr.Dataset) -> Paragraphs:
    ideal = float(dataset.ideal_step_time)
    rows = []
    for name, _, seconds, error in causes(dataset):
        value, uncertainty = with_error(seconds, error)
        of_ideal = f"{100 * seconds / ideal:.1f} %"
        rows.append([name, value, uncertainty and f"± {uncertainty}", of_ideal])
    whole = Table(["what a step takes", "s", "std. error", "of the ideal"], rows)
    share, share_error = estimate(dataset, "efficiency")
    if math.isnan(share):
        return [whole, "no efficiency: the mean step time is not above 0"]
    gpus, gpus_error = estimate(dataset, "effective_gpus")
    devices = int(dataset.group_devices.sum())
    effective, around = with_error(gpus, gpus_error)
    of_peak = ""
    if "swap_time" in dataset:
        of_peak = f", with {float(dataset.swap_time):.4g} s more a step while devices are replaced"
    if "devices_at_work" in dataset:
        of_peak += f", {float(dataset.devices_at_work.mean()):,.0f} at work"
    if "mfu" in dataset:
        of_peak += f"; {percent(*estimate(dataset, 'mfu'))} of the fleet's peak (MFU)"
    of_all = (
        f"efficiency {percent(share, share_error)}:"
        f" {effective}{around and f' ± {around}'} effective GPUs of {devices:,}{of_peak}"
        f"{_statistical(dataset)}"
    )
    return [whole, of_all]


def _statistical(dataset: xr.Dataset) -> str:
    """What the policy costs beside time."""
    said = ""
    if "samples_lost" in dataset:
        lost = percent(*estimate(dataset, "samples_lost"))
        said += f"\nsamples lost {lost}: they enter no update, and no efficiency"
    if "staleness" in dataset:
        behind, around = with_error(*estimate(dataset, "staleness"))
        rate, _ = with_error(*estimate(dataset, "update_rate"))
        said += (
            f"\n{rate} updates a second; the slowest replica is"
            f" {behind}{around and f' ± {around}'} step(s) behind the mean of all"
        )
    if "statistical_efficiency" in dataset:
        worth = float(dataset.statistical_efficiency)
        said += f"\nstatistical efficiency {worth:g}, as given: it enters none of these figures"
    return said


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


def _groups(dataset: xr.Dataset) -> Table:
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
                percent(*_exact(wait, wait_error, 1.0)),
            ]
        )
    return Table(
        ["group", "site", "devices", "undisturbed", "last arrivals", "of the step waiting"],
        rows,
        left=(0, 1),
    )


def _stages(dataset: xr.Dataset) -> str:
    """The stages that pipelines waited for most."""
    share = dataset.overall_stage_straggler_share
    worst = [int(stage) for stage in share.argsort()[::-1][:4] if share[int(stage)] > 0]
    named = (
        f"{stage}: {percent(*estimate(dataset.sel(stage=stage), 'stage_straggler_share'))}"
        for stage in worst
    )
    return "slowest stage   " + "   ".join(named)


def _trust(dataset: xr.Dataset) -> str:
    """Which engine it is from, how far the engines agree, and whether a target was reached."""
    attrs = dataset.attrs
    lines = [f"engine {attrs['engine']}: {attrs['engine_reason']}"]
    if attrs["self_check"] == "not possible":
        lines.append(f"self-check not possible: {attrs['self_check_reason']}")
    else:
        lines.append(
            f"self-check {attrs['self_check']}: the engines differ by"
            f" {float(attrs['self_check_deviation']):.2g} in the distribution function of"
            f" {int(attrs['self_check_steps']):,} steps ({float(attrs['self_check_bound']):.2g}"
            " is allowed)"
        )
    if "target_statistic" in attrs:
        reached = "reached" if attrs["target_reached"] == "yes" else "NOT reached"
        lines.append(
            f"target {reached}: relative standard error of {attrs['target_statistic']}"
            f" {float(attrs['target_relative_error_reached']):.2g}, asked for"
            f" {float(attrs['target_relative_error']):.2g}"
        )
    return "\n".join(lines)
