"""A sweep as a picture: curves, a map or scattered points, readable without colour."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from mcsim.errors import ResultError
from mcsim.laws import FloatArray
from mcsim.results.found import FIND
from mcsim.results.points import PART
from mcsim.results.scaled import DECADE, Scaled, number_text, prepare, scaled_of
from mcsim.results.summary import with_error
from mcsim.results.swept import Axis, axes_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BLUE, _RED, _GREY = "#3b6ea5", "#c8553d", "#8d99ae"
_INKS = ("#000000", "#3b6ea5", "#c8553d", "#6c757d", "#2a6f4e", "#9a6fb0")
_MARKERS = "osD^vX"
_LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
_MOST_CURVES = len(_MARKERS)
"""Beyond that many a picture is a map."""
_DRAWN = (
    ("overall_step_time_mean", "mean step time", 1.0, "s"),
    ("overall_efficiency", "efficiency", 100.0, "%"),
)


def figure_of(dataset: xr.Dataset) -> Figure:
    """The picture of a sweep, or of a value that was sought. Raises ResultError."""
    from matplotlib.figure import Figure

    study, name = dataset.attrs["study"], dataset.attrs["scenario_name"]
    if study == PART:
        raise ResultError("a part of a sweep is not drawn; `mcsim merge` joins it with the others")
    axes = axes_of(dataset)
    if study == FIND:
        figure = Figure(figsize=(7, 4.5), layout="constrained")
        _draw_found(figure.subplots(), dataset, axes[0])
        return figure
    scaled = [scaled_of(axis) for axis in axes]
    is_grid = "point" not in dataset.sizes
    is_mapped = is_grid and len(axes) == 2 and _is_map(scaled)
    if is_grid and len(axes) <= 2:
        figure = Figure(figsize=(11, 4.5), layout="constrained")
        panels = figure.subplots(1, 2)
        draw = _draw_map if is_mapped else _draw_curves
        for panel, what in zip(panels, _DRAWN, strict=True):
            draw(panel, dataset, scaled, *what)
    else:
        figure = Figure(figsize=(2.2 + 2.6 * len(axes), 6), layout="constrained")
        rows = figure.subplots(2, len(axes), squeeze=False, sharey="row", sharex="col")
        _draw_scatter(rows, dataset, scaled, is_grid=is_grid)
    keys = ", ".join(axis.key for axis in axes)
    figure.suptitle(
        f"{name}: {dataset.ideal_step_time.size:,} points over {keys}"
        + ("" if is_mapped else "; bars: two standard errors"),
        fontsize="medium",
    )
    return figure


def _is_map(scaled: list[Scaled]) -> bool:
    return min(len(one.places) for one in scaled) > _MOST_CURVES


def _draw_curves(
    panel: Axes,
    dataset: xr.Dataset,
    scaled: list[Scaled],
    name: str,
    title: str,
    factor: float,
    unit: str,
) -> None:
    """A curve with two standard errors; of two keys one for each value of the one with fewer."""
    along, others = scaled[0], scaled[1:]
    if others and (len(others[0].places) > len(along.places) or along.is_text):
        along, others = others[0], [along]
    families: list[Any] = [None] if not others else list(range(len(others[0].places)))
    order = np.argsort(along.places, kind="stable")
    drawn: list[FloatArray] = []
    for number, (family, marker, line, ink) in enumerate(
        zip(
            families,
            itertools.cycle(_MARKERS),
            itertools.cycle(_LINES),
            itertools.cycle(_INKS),
            strict=False,
        )
    ):
        one = dataset if family is None else dataset.isel({others[0].axis.name: family})
        values, errors = (factor * one[n].to_numpy()[order] for n in (name, f"{name}_stderr"))
        drawn.append(values)
        # Beside each other, where several errors would cover each other on a place for a word.
        shift = 0.06 * (number - (len(families) - 1) / 2) if along.is_text else 0.0
        panel.errorbar(
            along.places[order] + shift,
            values,
            yerr=2 * np.nan_to_num(errors),
            marker=marker,
            linestyle="none" if along.is_text else line,
            color=ink,
            markerfacecolor="white" if number % 2 else ink,
            capsize=3,
            lw=1.2,
            label=None if family is None else others[0].axis.text(others[0].axis.values[family]),
        )
    prepare(panel, along, "x")
    panel.set_ylabel(f"{title}, {unit}")
    if others:
        panel.legend(title=others[0].axis.key, frameon=False, fontsize="small")
    every = np.concatenate(drawn)
    known = every[np.isfinite(every)]
    if known.size and known.min() > 0 and known.max() / known.min() >= 2 * DECADE:
        panel.set_yscale("log")
    elif known.size and known.max() > 0:
        panel.set_ylim(0, 1.12 * known.max())


def _draw_map(
    panel: Axes,
    dataset: xr.Dataset,
    scaled: list[Scaled],
    name: str,
    title: str,
    factor: float,
    unit: str,
) -> None:
    """A map in greys: every point a cell, dark where the value is large."""
    y, x = scaled
    values = factor * dataset[name].transpose(y.axis.name, x.axis.name).to_numpy()
    # As wide and as high as each other, whatever the values: all points can be read off.
    cells = panel.imshow(values, cmap="Greys", origin="lower", aspect="auto")
    for which, one in (("x", x), ("y", y)):
        count = len(one.places)
        shown = range(0, count, -(-count // 10))
        texts = [
            one.axis.text(one.axis.values[at]) if one.is_text else number_text(one.places[at])
            for at in shown
        ]
        getattr(panel, f"set_{which}ticks")(list(shown), texts)
        getattr(panel, f"set_{which}label")(one.label)
    if np.isfinite(values).all() and values.min() < values.max():
        lines = panel.contour(values, colors="black", linewidths=0.8)
        from matplotlib.patheffects import withStroke

        for text in panel.clabel(lines, fmt="%.3g", fontsize="small"):
            text.set_path_effects([withStroke(linewidth=3, foreground="white")])
    panel.figure.colorbar(cells, ax=panel, label=f"{title}, {unit}")
    panel.set_title(title, fontsize="medium")


def _draw_scatter(rows: Any, dataset: xr.Dataset, scaled: list[Scaled], *, is_grid: bool) -> None:
    """Each estimate against each key, whatever the others are."""
    for row, last, (name, title, factor, unit) in zip(rows, (False, True), _DRAWN, strict=True):
        values = factor * dataset[name].to_numpy().reshape(-1)
        errors = np.nan_to_num(2 * factor * dataset[f"{name}_stderr"].to_numpy().reshape(-1))
        for number, (panel, one) in enumerate(zip(row, scaled, strict=True)):
            places = one.places
            if is_grid:
                shape = [1] * len(scaled)
                shape[number] = -1
                sizes = [len(other.places) for other in scaled]
                places = np.broadcast_to(places.reshape(shape), sizes).reshape(-1)
            panel.errorbar(
                places, values, yerr=errors, fmt="o", ms=3.5, lw=0.8, color="black",
                markerfacecolor="white", ecolor=_GREY,
            )  # fmt: skip
            prepare(panel, one, "x", narrow=True)
            if not last:
                panel.set_xlabel("")
        row[0].set_ylabel(f"{title}, {unit}")


def _draw_found(panel: Axes, dataset: xr.Dataset, axis: Axis) -> None:
    """What was tried, the target, and where it is reached with the interval of that."""
    attrs = dataset.attrs
    statistic = attrs["statistic"]
    overall = dataset[f"overall_{statistic}"]
    percent = statistic in ("efficiency", "mfu")
    factor, unit = (100.0, "%") if percent else (1.0, overall.units if overall.units != "1" else "")
    scaled = scaled_of(axis)
    value, error = float(dataset.value) / scaled.factor, float(dataset.value_stderr) / scaled.factor
    ends = [float(dataset[f"value_{end}"]) / scaled.factor for end in ("low", "high")]
    panel.errorbar(
        scaled.places,
        factor * overall.to_numpy(),
        yerr=2 * factor * np.nan_to_num(dataset[f"overall_{statistic}_stderr"].to_numpy()),
        fmt="o-",
        ms=4,
        lw=1,
        color="black",
        capsize=3,
        label="tried; bars: two std. errors",
    )
    panel.axhline(factor * float(attrs["target"]), color=_GREY, ls="--", lw=1, label="target")
    panel.axvline(value, color=_RED, lw=1.2, label=f"{attrs['value_sense']} {axis.key}")
    if np.isfinite(ends).all() and ends[0] < ends[1]:
        panel.axvspan(*ends, color=_RED, alpha=0.2, lw=0, label="its 95 % interval")
    prepare(panel, scaled, "x")
    name = statistic.replace("_", " ")
    panel.set_ylabel(f"{name}, {unit}" if unit else name)
    panel.legend(frameon=False, fontsize="small")
    shown, around = with_error(value, error)
    if isinstance(axis.values[0], int):
        shown = f"{value:,.0f}"
    found = f"{shown} ± {around}" if around else shown
    panel.set_title(
        f"{attrs['scenario_name']}: {attrs['value_sense']} {axis.key} is {found} {scaled.unit}",
        fontsize="medium",
    )
