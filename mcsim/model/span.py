"""Between which times a falling function of time is to be followed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mcsim.laws import FloatArray
from mcsim.model.panels import EPS, Function

_SLACK = 0.05
_PLACES = 33
_RUNGS, _RUNG = 257, 0.5


@dataclass(frozen=True)
class Axis:
    """Times by their logarithm if it exists. low, high: s, its ends."""

    low: float
    high: float

    @property
    def logarithmic(self) -> bool:
        return self.low > 0.0

    def place(self, time: FloatArray) -> FloatArray:
        """Where a time stands."""
        return np.log(time) if self.logarithmic else time

    def time(self, place: FloatArray) -> FloatArray:
        """The time that stands there, s, between both ends."""
        return np.clip(np.exp(place) if self.logarithmic else place, self.low, self.high)

    def grain(self, place: FloatArray) -> FloatArray:
        """How far the doubles for a time are apart there."""
        # The logarithm of a time is as coarse as the time, however near to 0 it is.
        return EPS * np.maximum(np.abs(place), 1.0 if self.logarithmic else 0.0)

    def evenly(self, count: int) -> FloatArray:
        """Times from one end to the other, s."""
        ends = self.place(np.array([self.low, self.high]))
        time = self.time(np.linspace(ends[0], ends[1], count))
        time[0], time[-1] = self.low, self.high
        return time


def span(
    function: Function, low: float, high: float, levels: tuple[float, float]
) -> tuple[float, float]:
    """Times between which a function falls from one level to the other, s.

    function: of times, shape (n,), never rising, infinite where it has no end. low: where it is
    surely above the first level. high: where it may be below the second. Where it jumps over a
    level, the next double from which on it is finite.
    """
    step = max(high - low, abs(high) * 1e-12, 1e-300)
    while function(np.array([high]))[0] > levels[1]:
        high += step
        step *= 2.0
    start = _search(function, low, high, (levels[0], levels[0] + _SLACK), last=False)
    return start, _search(function, start, high, (levels[1] - _SLACK, levels[1]), last=True)


def ladder(function: Function, axis: Axis) -> tuple[FloatArray, FloatArray]:
    """Times from one end to the other, s, between which a falling function falls by small steps,
    or which are next to each other; and its values there."""
    time = axis.evenly(_RUNGS)
    y = function(time)
    while True:
        place = axis.place(time)
        wide = np.diff(place) > 4.0 * axis.grain(place[1:])
        large = np.flatnonzero((y[:-1] - y[1:] > _RUNG) & wide)
        if large.size == 0:
            return time, np.minimum.accumulate(y)
        between = axis.time(0.5 * (place[large] + place[large + 1]))
        time = np.insert(time, large + 1, between)
        y = np.insert(y, large + 1, function(between))


def _search(
    function: Function, low: float, high: float, wanted: tuple[float, float], *, last: bool
) -> float:
    """A time at which a function is within `wanted`; where it jumps over that, the last time at
    which it is above, or the first at which it is below."""
    while True:
        time = np.unique(Axis(low, high).evenly(_PLACES))
        y = function(time)
        good = np.flatnonzero((y >= wanted[0]) & (y <= wanted[1]))
        if good.size:
            return float(time[good[-1 if last else 0]])
        after = int(np.count_nonzero(y > wanted[1]))
        if after in (0, time.size):
            return low if after == 0 else high
        if time.size == 2 or time[after] <= np.nextafter(time[after - 1], np.inf):
            return float(time[after - 1 if last else after])
        low, high = float(time[after - 1]), float(time[after])
