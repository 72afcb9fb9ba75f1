"""An explanation as a picture: the waterfall of what each cause costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from mcsim.results.explained import present
from mcsim.results.plot_shared import PART, WHOLE, name_rows, scale, step_of, time_text, title

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_explanation(dataset: xr.Dataset) -> Figure:
    """A waterfall of what causes cost, with a step with each alone, and without it."""
    from matplotlib.figure import Figure

    lost, step = present(dataset), step_of(dataset)
    ideal, whole = float(dataset.ideal_step_time), float(dataset.overall_step_time_mean)
    costs = [float(one.overall_shapley_time) for one in lost]
    ends = ideal + np.cumsum([0.0, *costs])
    others = [
        (ideal + float(one.overall_alone_time), whole - float(one.overall_removed_time))
        for one in lost
    ]
    figure = Figure(figsize=(10, max(4.0, 0.45 * (len(lost) + 2) + 1.2)), layout="constrained")
    axes = figure.subplots()
    longest = max([whole, *ends, *(time for pair in others for time in pair)])
    label = "time, {unit}; a bar: mean over all orders of the causes (Shapley), two standard errors"
    _, unit = scale(axes, longest, 0.18, label)
    names = ["no disturbance", *(str(one.cause.item()) for one in lost), step]
    for row, time in ((0, ideal), (len(names) - 1, whole)):
        axes.barh(row, time / unit, height=0.5, **WHOLE)
        axes.text(time / unit, row, f"  {time_text(time)}", va="center")
    for row, (one, start, cost) in enumerate(zip(lost, ends, costs, strict=False), 1):
        error = np.nan_to_num(float(one.overall_shapley_time_stderr))
        end = (start + cost) / unit
        axes.barh(row - 0.1, cost / unit, left=start / unit, height=0.5, **PART)
        axes.errorbar(end, row - 0.1, xerr=2 * error / unit, color="black", capsize=3, lw=1)
        behind = max(start / unit, end + 2 * error / unit)
        axes.text(behind, row - 0.1, f"  {time_text(cost)}", va="center")
    for number, (marker, text) in enumerate(
        (("^", f"{step} with this cause only"), ("D", f"{step} without it"))
    ):
        times = [pair[number] / unit for pair in others]
        rows = np.arange(1, len(lost) + 1) + 0.3
        axes.plot(times, rows, marker, mfc="white", mec="black", ms=5, ls="", label=text)
    name_rows(axes, names, banded=True)
    if lost:
        figure.legend(loc="outside lower right", ncols=2, frameon=False)
    title(figure, f"{dataset.attrs['scenario_name']}: what each cause costs")
    return figure
