"""A run as a picture: what a step takes and why, how it is distributed, who waits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mcsim.engine.histogram import quantile_of
from mcsim.laws import FloatArray
from mcsim.results.plot_shared import (
    LINE,
    PART,
    PLAIN,
    STEPS,
    WHOLE,
    name_rows,
    scale,
    step_of,
    time_text,
    time_unit,
    title,
)
from mcsim.results.summary import Cause, causes, estimate, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_QUANTILES = {0.99: "o", 0.999: "s", 0.9999: "D"}
"""Those that are marked, where at least ten steps are beyond them, and with what."""
_HEAVY = 5.0
"""A longest step so many times the shortest is drawn on a logarithmic axis."""
_MOST_ROWS = 24
"""Groups that a picture has room for; those that are waited for most."""


def draw_run(dataset: xr.Dataset) -> Figure:
    """The picture of a run."""
    from matplotlib.figure import Figure

    found = causes(dataset)
    rows = min(dataset.sizes["group"], _MOST_ROWS) + dataset.sizes["site"]
    figure = Figure(figsize=(13, max(4.4, 0.5 * len(found) + 1, 0.5 * rows + 1.2)))
    figure.set_layout_engine("constrained")
    waterfall, distribution, waits = figure.subplots(1, 3, width_ratios=[1.25, 1, 1])
    step = step_of(dataset)
    _draw_causes(waterfall, found, f"what {step} takes")
    _draw_distribution(distribution, dataset, step)
    _draw_waits(waits, dataset)
    _legend(figure, (distribution, waits))
    share, error = estimate(dataset, "efficiency")
    devices = int(dataset.group_devices.sum())
    kept = "no efficiency" if np.isnan(share) else f"efficiency {percent(share, error)}"
    title(figure, f"{dataset.attrs['scenario_name']}: {devices:,} devices, {kept}")
    return figure


def _draw_causes(axes: Axes, found: list[Cause], heading: str) -> None:
    """A waterfall from the ideal step to the real one."""
    ends = np.cumsum([0.0, *(cause.seconds for cause in found[:-1])])
    longest = float(np.nanmax([*ends, found[-1].seconds, 0.0]))
    _, unit = scale(axes, longest, 0.3, "time, {unit}")
    for row, (cause, start) in enumerate(zip(found, ends, strict=True)):
        whole = cause in (found[0], found[-1])
        left = 0.0 if whole else start
        fill = WHOLE if whole else PART
        axes.barh(row, cause.seconds / unit, left=left / unit, height=0.7, **fill)
        behind = max(left, left + cause.seconds) / unit
        axes.text(behind, row, f" {time_text(cause.seconds)}", va="center")
    name_rows(axes, [cause.label.replace("\n", " ") for cause in found])
    axes.set_title(heading)


def survival(
    counts: NDArray[np.int64], lower: FloatArray, upper: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """The shares of counted values above the edges of their bins; the last is 0.

    counts, lower, upper: shape (bins,), increasing. Result: edges and shares, shape (2 x bins,).
    """
    inside = counts > 0
    below = np.cumsum(counts[inside])
    shares = 1.0 - np.column_stack([below - counts[inside], below]) / below[-1]
    return np.column_stack([lower[inside], upper[inside]]).ravel(), shares.ravel()


def _draw_distribution(axes: Axes, dataset: xr.Dataset, step: str) -> None:
    """The survival function of the step time, of each cluster and of all, and its quantiles."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    counts = dataset.step_time_histogram.to_numpy()
    ends = dataset.step_time_quantile
    shortest, longest = float(ends.sel(quantile=0).min()), float(ends.sel(quantile=1).max())
    name, unit = time_unit(longest)
    # Bins are wider than what is in them.
    edges = (
        np.clip(side.to_numpy(), shortest, longest)
        for side in (dataset.bin_lower, dataset.bin_upper)
    )
    lower, upper = (side / unit for side in edges)
    least = min(0.5 / counts.sum(), 0.05)
    lines = [*counts, counts.sum(axis=0)] if len(counts) > 1 else [counts[0]]
    whole_label = "all clusters" if len(counts) > 1 else "the cluster"
    for number, one in enumerate(lines):
        times, shares = survival(one, lower, upper)
        every = number == len(lines) - 1
        axes.plot(
            times,
            np.maximum(shares, least),
            color="black" if every else LINE,
            lw=1.6 if every else 0.7,
            label=whole_label if every else "each cluster" if number == 0 else None,
        )
    whole = counts.sum(axis=0)
    known = [q for q in _QUANTILES if (1 - q) * whole.sum() >= 10]
    for q, time in zip(known, quantile_of(whole, lower, upper, np.array(known)), strict=True):
        text = f"{100 * q:g} %: {time:.5g} {name}"
        axes.plot(time, 1 - q, _QUANTILES[q], mfc="white", mec="black", ms=7, label=text)
    axes.set_yscale("log")
    axes.set_ylim(least, 1.5)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel("share of steps that take longer, %")
    axes.set_xlabel(f"time of {step}, {name}")
    _space(axes, shortest / unit, longest / unit)
    axes.set_title("how it is distributed")


def _space(axes: Axes, shortest: float, longest: float) -> None:
    """A logarithmic axis of times for heavy tails; ticks that do not collide."""
    from matplotlib.ticker import (
        FixedLocator,
        FuncFormatter,
        LogLocator,
        MaxNLocator,
        NullFormatter,
        ScalarFormatter,
    )

    if not 0 < _HEAVY * shortest < longest:
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=STEPS))
        whole = ScalarFormatter(useOffset=False)
        whole.set_scientific(False)
        axes.xaxis.set_major_formatter(whole)
        return
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(numticks=6))
    if longest < 100 * shortest:
        decades = 10.0 ** np.arange(np.floor(np.log10(shortest)), np.ceil(np.log10(longest)))
        axes.xaxis.set_major_locator(FixedLocator(np.outer(decades, (1, 2, 5)).ravel().tolist()))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda time, _: f"{time:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _draw_waits(axes: Axes, dataset: xr.Dataset) -> None:
    """Who waits how long, and who is waited for: groups, and sites where there are several."""
    last = dataset.overall_straggler_share.to_numpy()
    shown = np.sort(np.argsort(-last, kind="stable")[:_MOST_ROWS])
    names = [str(group) for group in dataset.group.values[shown]]
    waiting, arriving = (
        [estimate(dataset.isel(group=at), name) for at in shown]
        for name in ("wait_fraction", "straggler_share")
    )
    if dataset.sizes["site"] > 1:
        names += [f"site {site}" for site in dataset.site.values]
        arriving += [
            estimate(dataset.isel(site=at), "site_straggler_share")
            for at in range(dataset.sizes["site"])
        ]
    for values, offset, fill, label in (
        (waiting, -0.19, PLAIN, "share of the step spent waiting"),
        (arriving, 0.19, PART, "share of the last arrivals"),
    ):
        shares, errors = 100 * np.array(values).T
        places = np.arange(len(values)) + offset
        axes.barh(places, shares, 0.36, label=label, **fill)
        away = 2 * np.nan_to_num(errors)
        ends = np.array([np.minimum(away, shares), np.minimum(away, 100 - shares)])
        ends = np.maximum(ends, 0)
        axes.errorbar(shares, places, xerr=ends, fmt="none", ecolor="black", capsize=2, lw=1)
        for place, share, end in zip(places, shares, ends[1], strict=True):
            axes.text(share + end, place, f" {share:.3g}", va="center", fontsize="small")
    name_rows(axes, names)
    axes.set_xlim(0, 118)
    axes.set_xticks(range(0, 101, 25))
    axes.set_xlabel("share, %; two standard errors")
    part = f"\n({len(shown)} of {dataset.sizes['group']} groups)"
    beyond = len(shown) < dataset.sizes["group"]
    axes.set_title(f"who waits, who is waited for{part if beyond else ''}")


def _legend(figure: Figure, axes: Iterable[Axes]) -> None:
    """One below the picture, where it hides nothing."""
    entries = [pair for one in axes for pair in zip(*one.get_legend_handles_labels(), strict=True)]
    handles, labels = zip(*entries, strict=True)
    columns = len(entries) if len(entries) <= 5 else 4
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
