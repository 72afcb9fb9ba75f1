"""A comparison as a picture: what the fleet does with each remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from mcsim.results.compared import best_first
from mcsim.results.plot_shared import PART, PLAIN, STEPS, WHOLE, Fill, name_rows, title

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_comparison(dataset: xr.Dataset) -> Figure:
    """Effective GPUs with each remedy, the best first under what is done without any."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    first, *others = best_first(dataset)
    rows = [first, *others]
    base, devices = float(first.overall_effective_gpus), int(dataset.attrs["devices"])
    figure = Figure(figsize=(10, max(3.0, 0.42 * len(rows) + 1.6)), layout="constrained")
    axes = figure.subplots()
    longest = float(devices)
    for row, one in enumerate(rows):
        gpus, gain = float(one.overall_effective_gpus), float(one.gain)
        axes.barh(row, gpus, height=0.65, **_fill(row, gain))
        if row > 0:
            error = 2 * base * float(one.gain_stderr)
            axes.errorbar(gpus, row, xerr=np.nan_to_num(error), color="black", capsize=3, lw=1)
            beside = axes.get_yaxis_transform()
            axes.text(1.015, row, _percent(gain), va="center", transform=beside)
            longest = np.nanmax([longest, gpus])
    axes.text(1.015, 1.01, "gain", transform=axes.transAxes, va="bottom")
    axes.axvline(devices, color="black", ls="--", lw=1.2, label=f"the fleet: {devices:,} devices")
    name_rows(axes, [str(one.remedy.item()) for one in rows], banded=True)
    axes.set_xlim(0, 1.05 * longest)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=STEPS))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda number, _: f"{number:,.10g}"))
    axes.set_xlabel(
        "effective GPUs, number of devices that would do the same without loss;"
        " two standard errors of the pair"
    )
    figure.legend(loc="outside lower right", frameon=False)
    title(figure, f"{dataset.attrs['scenario_name']}: what each remedy returns")
    return figure


def _fill(row: int, gain: float) -> Fill:
    """Nothing done; more done than that; less."""
    if row == 0:
        return WHOLE
    return PART if gain >= 0 else PLAIN


def _percent(gain: float) -> str:
    digits = "+.1f" if abs(gain) >= 1e-3 else "+.2g"
    return f"{100 * gain:{digits}} %"
