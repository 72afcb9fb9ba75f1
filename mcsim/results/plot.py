"""A result as a picture: what a step takes and why, how it is distributed, who waits."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from mcsim.errors import ResultError
from mcsim.results.explained import present
from mcsim.results.files import replacing
from mcsim.results.summary import causes, estimate, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BLUE, _RED, _GREY = "#3b6ea5", "#c8553d", "#8d99ae"


FORMATS = (".png", ".pdf", ".svg")


def check_format(path: Path) -> None:
    """Raise ResultError where a picture cannot be drawn, or not in the format of the name."""
    if path.suffix not in FORMATS:
        raise ResultError(f"{path}: a picture's name ends in {', '.join(FORMATS)}")
    if find_spec("matplotlib") is None:
        raise ResultError("drawing needs matplotlib: pip install 'mcsim[plot]'")


def draw(dataset: xr.Dataset, path: Path) -> None:
    """Draw a result, or an explanation, into a file; its suffix chooses the format.

    Raises ResultError.
    """
    check_format(path)
    from matplotlib.figure import Figure

    if "study" in dataset.attrs:
        from mcsim.results.plot_sweep import figure_of

        _save(figure_of(dataset), path)
        return
    if "cause" in dataset.sizes:
        figure = Figure(figsize=(9, 4.5), layout="constrained")
        _draw_explanation(figure.subplots(), dataset)
        figure.suptitle(f"{dataset.attrs['scenario_name']}: what each cause costs")
        _save(figure, path)
        return
    figure = Figure(figsize=(12, 4), layout="constrained")
    waterfall, distribution, waits = figure.subplots(1, 3, width_ratios=[1.3, 1, 1])
    _draw_causes(waterfall, dataset)
    _draw_distribution(distribution, dataset)
    _draw_waits(waits, dataset)
    share, error = estimate(dataset, "efficiency")
    devices = int(dataset.group_devices.sum())
    figure.suptitle(
        f"{dataset.attrs['scenario_name']}: {devices:,} devices, efficiency {percent(share, error)}"
    )
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    try:
        with warnings.catch_warnings(), replacing(path) as temporary:
            # Names may have characters that the font lacks.
            warnings.filterwarnings("ignore", "Glyph", UserWarning)
            figure.savefig(temporary, dpi=120, format=path.suffix[1:])
    except OSError as failed:
        raise ResultError(f"{path}: cannot write the picture: {failed.strerror}") from None


def _draw_explanation(axes: Axes, dataset: xr.Dataset) -> None:
    """A waterfall of what causes cost, with what each costs alone and saves when it is removed."""
    lost = present(dataset)
    ideal, whole = float(dataset.ideal_step_time), float(dataset.overall_step_time_mean)
    rows = [("no disturbance", 0.0, ideal, _BLUE)]
    start = ideal
    for one in lost:
        cost = float(one.overall_shapley_time)
        rows.append((str(one.cause.item()), start, cost, _RED))
        start += cost
    rows.append(("a step", 0.0, whole, _BLUE))
    errors = [0.0, *(_error(one) for one in lost), 0.0]
    for row, ((_, left, seconds, colour), error) in enumerate(zip(rows, errors, strict=True)):
        axes.barh(row, seconds, left=left, color=colour, height=0.6)
        axes.text(left + seconds + 2 * error, row, f"  {seconds:.3g} s", va="center")
    for row, (one, (_, left, seconds, _)) in enumerate(zip(lost, rows[1:], strict=False), 1):
        axes.errorbar(left + seconds, row, xerr=2 * _error(one), color="black", capsize=3, lw=1)
        alone, without = (float(one[f"overall_{form}_time"]) for form in ("alone", "removed"))
        for value, marker, label in (
            (ideal + alone, "|", "a step with this cause only"),
            (whole - without, "x", "a step without it"),
        ):
            axes.plot(value, row + 0.38, marker, color="black", label=label if row == 1 else None)
    axes.set_yticks(range(len(rows)), [name for name, *_ in rows])
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set_xlim(left=0.0)
    axes.set_xlabel("time, s; bars: mean over all orders of the causes (Shapley), two std. errors")
    if lost:
        axes.legend(loc="upper right", frameon=False)


def _error(one: xr.Dataset) -> float:
    """Of what a cause costs, s; 0 where it has none."""
    error = float(one.overall_shapley_time_stderr)
    return error if np.isfinite(error) else 0.0


def _draw_causes(axes: Axes, dataset: xr.Dataset) -> None:
    """A waterfall from the ideal step to the real one."""
    start = 0.0
    found = causes(dataset)
    for row, (name, _, seconds, _) in enumerate(found):
        total = name.startswith(("ideal", "="))
        left = 0.0 if total else start
        axes.barh(row, seconds, left=left, color=_BLUE if total else _RED)
        axes.text(left + seconds, row, f" {seconds:.3g} s", va="center")
        start = left + seconds
    axes.set_yticks(range(len(found)), [cause.label for cause in found])
    axes.invert_yaxis()
    axes.margins(x=0.25)
    axes.set_xlabel("time, s")
    axes.set_title("what a step takes")


def _draw_distribution(axes: Axes, dataset: xr.Dataset) -> None:
    """The survival function of the step time, one line a cluster."""
    edges = dataset.bin_upper.values
    for counts in dataset.step_time_histogram.values:
        survival = 1 - np.cumsum(counts) / counts.sum()
        inside = survival > 0
        axes.semilogy(edges[inside], survival[inside], color=_GREY, lw=1)
    axes.set_xlabel("step time, s")
    axes.set_ylabel("share of steps that take longer")
    axes.set_title("distribution, a line a cluster")


def _draw_waits(axes: Axes, dataset: xr.Dataset) -> None:
    """Who waits how long, and who is waited for."""
    places = np.arange(dataset.sizes["group"])
    for offset, (name, text, colour) in enumerate(
        [
            ("wait_fraction", "of the step waiting", _GREY),
            ("straggler_share", "last arrivals", _RED),
        ]
    ):
        values = dataset[name].mean("replicate").values
        axes.barh(places + 0.4 * offset, 100 * values, height=0.38, color=colour, label=text)
    axes.set_yticks(places + 0.2, [str(group) for group in dataset.group.values])
    axes.invert_yaxis()
    axes.set_xlabel("share, %")
    axes.set_title("who waits, who is waited for")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, frameon=False)
