"""The keys of a sweep as axes of a picture: in readable units, words one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mcsim.laws import FloatArray
from mcsim.results.swept import DIMENSIONS, Axis
from mcsim.units import parse, show

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DECADE = 10.0
"""What spans more is drawn by its logarithms."""


class Scaled(NamedTuple):
    """A key on an axis of a picture: where its values are, and what they are called."""

    axis: Axis
    places: FloatArray
    factor: float
    unit: str

    @property
    def label(self) -> str:
        return f"{self.axis.key}, {self.unit}" if self.unit else self.axis.key

    @property
    def is_text(self) -> bool:
        return isinstance(self.axis.values[0], str)

    @property
    def is_logarithmic(self) -> bool:
        least, most = self.places.min(), self.places.max()
        return not self.is_text and least > 0 and most / least >= DECADE


def scaled_of(axis: Axis) -> Scaled:
    """In the unit in which the middle one of the values is readable; texts one after the other."""
    if isinstance(axis.values[0], str):
        words = list(dict.fromkeys(axis.values))
        return Scaled(axis, np.array([words.index(v) for v in axis.values], float), 1.0, "")
    values = np.array(axis.values, float)
    dimension = DIMENSIONS.get(axis.units)
    if dimension is None:
        return Scaled(axis, values, 1.0, "")
    middle = np.sort(np.abs(values[values != 0]))
    unit = show(middle[middle.size // 2] if middle.size else 0.0, dimension).partition(" ")[2]
    factor = parse(f"1 {unit}", dimension)
    return Scaled(axis, values / factor, factor, unit)


def prepare(panel: Axes, scaled: Scaled, which: str, *, narrow: bool = False) -> None:
    """Name, scale and ticks of an axis; which: "x" or "y"."""
    getattr(panel, f"set_{which}label")(scaled.label)
    if scaled.is_text:
        words = [Axis.text(scaled.axis, word) for word in dict.fromkeys(scaled.axis.values)]
        getattr(panel, f"set_{which}ticks")(range(len(words)), words)
        getattr(panel, f"set_{which}lim")(-0.5, len(words) - 0.5)
        return
    if scaled.is_logarithmic:
        from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

        getattr(panel, f"set_{which}scale")("log")
        axis = getattr(panel, f"{which}axis")
        most = 1.5 if narrow else 3.0
        decades = np.log10(scaled.places.max() / scaled.places.min())
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < most else (1.0,)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
        axis.set_minor_formatter(NullFormatter())


def number_text(value: float) -> str:
    """In three digits, as people write it: 1,000 rather than 1e+03."""
    return f"{float(f'{value:.3g}'):,.6g}"
