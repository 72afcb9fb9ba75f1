"""The last arrival as a table to draw from: times at points of log H.

See Also: Devroye 1986, Non-Uniform Random Variate Generation, ch. II.2 (inversion by tables).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mcsim.laws import FloatArray
from mcsim.model.crowd import BLUR, DEEP, FIRST, LAST
from mcsim.model.curve import Curve
from mcsim.model.hazard import Indices
from mcsim.model.panels import EPS

_CELLS = 4096
_MOST_CELLS = 32768
_TOLERANCE = 3e-7
_FEW = 0.05
"""If a larger share of the cells is not good enough, all are made narrower."""
_PASSES = 16
_FLAT = 1e-6
_KINK = 1e-3
_LOOKS = 16

IndexArray = NDArray[np.int32]


class Lookup(NamedTuple):
    """Points of a table.

    spacing: of the cells of `guide`, in log H. guide: shape (cells,), the last point at or before
    the beginning of each. level: shape (points,), log H, ascending. time: shape (points,), s,
    falling. panel: shape (points,), of the curve: that on the side of the point's other cell,
    where two points are the same.
    """

    spacing: float
    guide: IndexArray
    level: FloatArray
    time: FloatArray
    panel: Indices


def lookup(curve: Curve, floor: float) -> tuple[Lookup, float]:
    """Points between which time is next to linear in log H, and how far it is not.

    Evenly spaced ones, and more where the curve bends sharply; two of them at its kinks, and at
    the floor, below which another law takes over. The deviation is that of the distribution
    function, or a tenth of the relative one of its tail.
    """
    cells = _CELLS
    while True:
        level = np.linspace(FIRST, LAST, cells + 1)
        time = np.minimum.accumulate(curve.time(level))
        off = _off(curve, level, time)
        # The error of a straight line falls with the square of its length.
        most = float(np.quantile(off, 1.0 - _FEW)) / _TOLERANCE
        if most <= 1.0 or cells == _MOST_CELLS:
            break
        cells = min(cells * 2 ** math.ceil(0.5 * math.log2(most)), _MOST_CELLS)
    even = level
    for _ in range(_PASSES):
        bad = np.flatnonzero(off > _TOLERANCE)
        if bad.size == 0 or level.size + bad.size > 2 * _MOST_CELLS:
            break
        more_level, more_time = _farthest(curve, level, time, bad)
        level, time = np.insert(level, bad + 1, more_level), np.insert(time, bad + 1, more_time)
        off = _off(curve, level, time)
    level, time = _with_pairs(curve, level, time, np.append(_kinks(curve), floor))
    guide = np.searchsorted(level, even[:-1], side="right") - 1
    spacing = (LAST - FIRST) / cells
    panel = _panels(curve, level, time)
    return Lookup(spacing, guide.astype(np.int32), level, time, panel), float(off.max())


def _off(curve: Curve, level: FloatArray, time: FloatArray) -> FloatArray:
    """The largest error found in each cell: at its middle time, and at its middle in log H."""
    y = 0.5 * (level[1:] + level[:-1])
    middle = 0.5 * (time[1:] + time[:-1])
    inside = np.clip(curve.time(y), time[1:], time[:-1])
    drop = time[:-1] - time[1:]
    share = np.where(drop > 0, (time[:-1] - inside) / np.where(drop > 0, drop, 1.0), 0.5)
    straight = level[:-1] + share * np.diff(level)
    off = np.maximum(_error(curve, middle, y), _error(curve, inside, straight))
    off[drop <= 1024.0 * EPS * np.abs(time[1:])] = 0.0
    return off


def _error(curve: Curve, time: FloatArray, level: FloatArray) -> FloatArray:
    """How far the distribution function is off where the table has log H = level at a time."""
    place = curve.axis.place(time)
    # What the nearest doubles of a time do to log H is not an error of the table.
    blur = BLUR * curve.axis.grain(place) * np.abs(curve.y.slope(place))
    error = np.maximum(np.abs(curve.y(place) - level) - blur, 0.0)
    hazard = np.exp(level)
    tail = 0.1 * np.minimum(1.0, hazard / DEEP)
    return np.asarray(
        error * np.maximum(np.where(level < 0.0, tail, 0.0), hazard * np.exp(-hazard))
    )


def _farthest(
    curve: Curve, level: FloatArray, time: FloatArray, cells: Indices
) -> tuple[FloatArray, FloatArray]:
    """Where in these cells the curve is farthest from straight: log H and time, s."""
    latest, soonest = time[cells][:, None], time[cells + 1][:, None]
    share = np.linspace(0.0, 1.0, _LOOKS + 1)[1:-1]
    look = latest - share * (latest - soonest)
    straight = level[cells][:, None] + share * np.diff(level)[cells][:, None]
    error = _error(curve, look.ravel(), straight.ravel()).reshape(look.shape)
    row = np.arange(cells.size)
    worst = np.argmax(error, axis=1)
    # A kink of the curve is at an edge of its panels.
    place = curve.axis.place(look[row, worst])
    near = curve.axis.time(curve.y.edges[_nearest_edge(curve, place)])
    close = np.abs(near - look[row, worst]) < (latest - soonest)[:, 0] / _LOOKS
    close &= (near < latest[:, 0]) & (near > soonest[:, 0])
    at = np.where(close, near, look[row, worst])
    y = curve.y(curve.axis.place(at))
    return np.clip(y, level[cells], level[cells + 1]), at


def _nearest_edge(curve: Curve, place: FloatArray) -> Indices:
    edges = curve.y.edges
    panel = curve.y.panel(place)
    return np.where(place - edges[panel] < edges[panel + 1] - place, panel, panel + 1)


def _kinks(curve: Curve) -> FloatArray:
    """Times at which the slope of the curve jumps, s."""
    edge = np.arange(1, curve.y.edges.size - 1)
    place = curve.y.edges[1:-1]
    before, after = curve.y.slope(place, edge - 1), curve.y.slope(place, edge)
    jumps = np.abs(after - before) > _KINK * np.maximum(np.abs(before), np.abs(after))
    return curve.axis.time(place[jumps])


def _with_pairs(
    curve: Curve, level: FloatArray, time: FloatArray, at: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """With two points more at each of these times that is in the table."""
    at = np.repeat(np.unique(at[(at > time[-1]) & (at < time[0])])[::-1], 2)
    after = np.searchsorted(-time, -at)
    y = np.clip(curve.y(curve.axis.place(at)), level[after - 1], level[after])
    return np.maximum.accumulate(np.insert(level, after, y)), np.insert(time, after, at)


def _panels(curve: Curve, level: FloatArray, time: FloatArray) -> Indices:
    """The panel of each point: at an edge the later, or the earlier for the second of a pair, and
    where a gap of the law begins, in which nothing happens."""
    place = curve.axis.place(time)
    edge = _nearest_edge(curve, place)
    near = np.abs(place - curve.y.edges[edge]) <= 4.0 * curve.axis.grain(place)
    last = curve.y.edges.size - 2
    later = np.where(near, np.minimum(edge, last), curve.y.panel(place))
    earlier = np.where(near, np.maximum(edge - 1, 0), later)
    second = np.append(False, (np.diff(time) == 0.0) & (np.diff(level) == 0.0))
    return np.where(second | is_flat(curve, place, later), earlier, later)


def is_flat(curve: Curve, place: FloatArray, panel: Indices) -> NDArray[np.bool_]:
    """Whether next to nothing of H is at a place."""
    length = curve.y.edges[-1] - curve.y.edges[0]
    return np.asarray(-curve.y.slope(place, panel) * length <= _FLAT)
