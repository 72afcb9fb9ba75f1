"""The last arrival as a table to draw from: times at points of log H, next to evenly spaced.

See Also: Devroye 1986, Non-Uniform Random Variate Generation, ch. II.2 (inversion by tables).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mcsim.laws import FloatArray
from mcsim.model.arrival import Indices
from mcsim.model.crowd import FIRST, LAST, Group
from mcsim.model.curve import Curve, Followed
from mcsim.model.panels import EPS

_CELLS = 4096
_MOST_CELLS = 32768
_TOLERANCE = 4e-7
_FEW = 0.05
"""If a larger share of the cells is not good enough, all are made narrower."""
_PASSES = 16
_LOOKS = 16

IndexArray = NDArray[np.int32]


class Lookup(NamedTuple):
    """Points of a table.

    spacing: of the cells of `guide`, in log H. guide: shape (cells,), the last point at or before
    the beginning of each. level: shape (points,), log H, ascending. time: shape (points,), s,
    falling.
    """

    spacing: float
    guide: IndexArray
    level: FloatArray
    time: FloatArray


def lookup(curve: Curve, floor: float) -> tuple[Lookup, float]:
    """Points between which time is next to linear in log H, and how far it is not.

    Evenly spaced ones, and more where the curve bends sharply; two of them at the floor, below
    which another law takes over. The deviation is that of the distribution function, or a tenth
    of the relative one of its tail.
    """
    cells = _CELLS
    while True:
        level = np.linspace(FIRST, LAST, cells + 1)
        time = curve.time(level)
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
    level, time = _with_floor(curve, level, time, floor)
    guide = np.searchsorted(level, even[:-1], side="right") - 1
    table = Lookup((LAST - FIRST) / cells, guide.astype(np.int32), level, time)
    return table, float(off.max())


def _off(curve: Curve, level: FloatArray, time: FloatArray) -> FloatArray:
    """The largest error found in each cell: at its middle time, and at its middle in log H."""
    y = 0.5 * (level[1:] + level[:-1])
    middle = 0.5 * (time[1:] + time[:-1])
    inside = np.clip(curve.time(y), time[1:], time[:-1])
    drop = time[:-1] - time[1:]
    share = np.where(drop > 0, (time[:-1] - inside) / np.where(drop > 0, drop, 1.0), 0.5)
    straight = level[:-1] + share * np.diff(level)
    off = np.maximum(_error(curve, middle, y), _error(curve, inside, straight))
    off[drop <= 64.0 * EPS * np.abs(time[1:])] = 0.0
    return off


def _error(curve: Curve, time: FloatArray, level: FloatArray) -> FloatArray:
    """How far the distribution function is off where the table has log H = level at a time."""
    place = curve.axis.place(time)
    # What the nearest doubles of a time do to log H is not an error of the table.
    blur = 32.0 * curve.axis.grain(place) * np.abs(curve.y.slope(place))
    error = np.maximum(np.abs(curve.y(place) - level) - blur, 0.0)
    hazard = np.exp(level)
    return np.asarray(error * np.maximum(np.where(level < 0.0, 0.1, 0.0), hazard * np.exp(-hazard)))


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
    panel = curve.y.panel(place)
    edges = curve.y.edges
    edge = np.where(place - edges[panel] < edges[panel + 1] - place, panel, panel + 1)
    near = curve.axis.time(edges[edge])
    close = np.abs(near - look[row, worst]) < (latest - soonest)[:, 0] / _LOOKS
    close &= (near < latest[:, 0]) & (near > soonest[:, 0])
    at = np.where(close, near, look[row, worst])
    y = curve.y(curve.axis.place(at))
    return np.clip(y, level[cells], level[cells + 1]), at


def _with_floor(
    curve: Curve, level: FloatArray, time: FloatArray, floor: float
) -> tuple[FloatArray, FloatArray]:
    """With two points at the floor, if the table goes below it."""
    if not time[-1] < floor < time[0]:
        return level, time
    y = curve.log_hazard(np.array([floor, floor]))
    after = np.searchsorted(-time, -floor)
    y = np.clip(y, level[after - 1], level[after])
    return np.insert(level, after, y), np.insert(time, after, [floor, floor])


def shares(found: Followed, table: Lookup) -> FloatArray:
    """In which group the last arrival is, given its cell; shape (groups, cells)."""
    place = found.curve.axis.place(table.time)
    panel = found.curve.y.panel(place)
    own = np.stack([share(place, panel) for share in found.share])
    # H of the point after which the cell begins, by that of its end.
    before = np.exp(table.level[:-1] - table.level[1:])
    gained = np.maximum(own[:, 1:] - own[:, :-1] * before, 0.0)
    total = gained.sum(axis=0)
    share = np.where(total > 0, gained / np.where(total > 0, total, 1.0), own[:, 1:])
    return np.asarray(share / share.sum(axis=0))


def busy(found: Followed, table: Lookup, groups: list[Group], floor: float) -> FloatArray:
    """The mean time of each group's devices, given the last arrival; shape (groups, points), s.

    With K(t) = sum of E[T_i] - E[T_i | T_i <= t], all are in time, which takes K(t) from the sum
    of their means, and the last, with probability -dH_i / -dH device i, is at t instead of at
    E[T_i | T_i <= t], which gives back dK / dH.
    """
    curve = found.curve
    place = curve.axis.place(table.time)
    panel = curve.y.panel(place)
    slope = curve.y.slope(place, panel)
    level = np.exp(curve.y(place, panel))
    falling = slope < -1e-9 * np.abs(slope).max()
    at = np.arange(place.size)
    rows = []
    for lost, group in zip(found.excess, groups, strict=True):
        own = lost(place, panel)
        given = own + np.where(falling, lost.slope(place, panel) / np.where(falling, slope, 1.0), 0)
        given = np.interp(at, at[falling], given[falling])
        time = group.mean() + (given - own * level) / group.devices
        below = np.flatnonzero(table.time <= floor)
        if below.size:
            k = float(group.excess(np.array([max(floor, curve.axis.low)]))[0])
            # The first of the two points at the floor is that of arrivals just after it.
            both = table.time[below[0]] == floor and below.size > 1
            time[below[1 if both else 0] :] = group.mean() - k / group.devices
        rows.append(time)
    return np.stack(rows)
