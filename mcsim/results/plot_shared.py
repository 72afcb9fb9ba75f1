"""What all pictures share: fills that differ in grey, units that fit, names that do not collide."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from mcsim.units import parse, show

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Fill = Mapping[str, Any]

_EDGE = {"edgecolor": "black", "linewidth": 0.6}
WHOLE: Fill = MappingProxyType({"color": "#2b5078", **_EDGE})
PART: Fill = MappingProxyType({"color": "#f2b880", "hatch": "////", **_EDGE})
PLAIN: Fill = MappingProxyType({"color": "#d9dde3", **_EDGE})
"""Fills of bars. Printed in grey their lightness is 33, 79 and 88 %, and one is hatched."""

BAND, LINE = "#f4f4f4", "#8d99ae"
"""The shade behind every other row, and lines of one among many."""

STEPS = (1, 2, 2.5, 5, 10)
"""Between the ticks of an axis."""

_TALLEST_ROW = 0.75
"""Inches: a bar or two do not fill a picture."""


def time_unit(longest: float) -> tuple[str, float]:
    """The unit in which times up to `longest`, s, are drawn, and the seconds in it."""
    units = ("h", "s", "ms", "us", "ns")
    seconds = {unit: parse(f"1 {unit}", "time") for unit in units}
    least = {**seconds, "h": 1e4}
    unit = next(
        (unit for unit in units if longest >= least[unit]), "s" if not longest > 0 else "ns"
    )
    return unit, seconds[unit]


def time_text(seconds: float) -> str:
    """A time beside its bar: in its own unit, three digits."""
    return show(seconds, "time") if np.isfinite(seconds) else "unknown"


def plain(text: str) -> str:
    """A text as it is: no formula between its dollars, nothing that XML cannot hold."""
    printable = "".join(one if one.isprintable() or one == "\n" else "\ufffd" for one in text)
    return printable.replace("$", r"\$")


_BREAKS = (re.compile(r"(?<=[+;,\s])"), re.compile(r"(?<=[-+;,:/_=.\s])"))
"""Between what is joined, and, where that does not do, behind any mark."""


def wrapped(name: str, width: int = 24, lines: int = 2) -> str:
    """A name on a few lines, broken where it has marks; the middle of a longer one left out."""
    name = " ".join(name.split())
    kept, found = len(name), _lines(name, width, lines)
    while len(found) > lines:
        kept -= 1
        short = f"{name[: kept * 2 // 3]}...{name[len(name) - (kept + 2) // 3 :]}"
        found = _lines(short, width, lines)
    return plain("\n".join(found))


def _lines(name: str, width: int, lines: int) -> list[str]:
    found: list[str] = []
    for breaks in _BREAKS:
        pieces = breaks.split(name)
        found = _filled(pieces, width)
        if len(found) <= lines and max(map(len, pieces)) <= width:
            break
    return found


def _filled(pieces: Sequence[str], width: int) -> list[str]:
    """Pieces on as few lines as hold them; those that no line holds are cut."""
    found = [""]
    for piece in pieces:
        for at in range(0, len(piece), width):
            part = piece[at : at + width]
            if found[-1] and len(found[-1]) + len(part.rstrip()) > width:
                found.append("")
            found[-1] += part
    return [line.strip() for line in found]


def step_of(dataset: xr.Dataset) -> str:
    """What a step of a result is called: a round, where it is one."""
    inner = int(dataset.attrs["inner_steps"])
    return "a step" if inner == 1 else f"a round of {inner:,} steps"


def title(figure: Figure, text: str) -> None:
    """The title of a picture, on as many lines as its width needs."""
    width = int(8.5 * figure.get_size_inches()[0])
    lines = textwrap.wrap(text, width, max_lines=3, placeholder=" ...")
    figure.suptitle(plain("\n".join(lines)))


def name_rows(axes: Axes, names: Sequence[str], *, banded: bool = False) -> None:
    """Rows from the top, each with its name. banded: every other one behind a shade."""
    axes.set_yticks(range(len(names)), [wrapped(name) for name in names])
    figure = axes.get_figure()
    assert figure is not None
    fitting = figure.get_figure(root=True).get_size_inches()[1] / _TALLEST_ROW - 1
    axes.set_ylim(max(len(names), fitting) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    for row in range(1, len(names) if banded else 0, 2):
        axes.axhspan(row - 0.5, row + 0.5, color=BAND, zorder=0)


def scale(axes: Axes, longest: float, room: float, label: str) -> tuple[str, float]:
    """A time axis from 0 to `longest`, s, with room for texts behind the bars.

    room: share of the axis beside. label: in it {unit} stands for the unit. Result: `time_unit`.
    """
    from matplotlib.ticker import MaxNLocator

    longest = longest if np.isfinite(longest) and longest > 0 else 1.0
    unit, seconds = time_unit(longest)
    axes.set_xlim(0.0, longest / seconds * (1 + room))
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=STEPS))
    axes.set_xlabel(label.format(unit=unit))
    return unit, seconds
