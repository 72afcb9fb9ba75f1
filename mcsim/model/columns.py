"""Quantile functions of one device for some base times, and their inverse: its hazard."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mcsim.laws import FloatArray

_CELLS = 1024
_DEEPEST, _SHALLOWEST = -64.0, 3.2
"""Log hazards of the table: survival 1.6e-28 to 1 - 2e-11. Nearer to 1 the quadrature is noisy,
since laws know their values there to 1e-16 of probability."""
_MOST_BEYOND = 3.4

LOG_HAZARD: FloatArray = np.linspace(_DEEPEST, _SHALLOWEST, _CELLS + 1)
_SPACING = (_SHALLOWEST - _DEEPEST) / _CELLS


class Columns:
    """The times at which the log hazard of one device is LOG_HAZARD, for some base times.

    time, slope: shape (bases, points): s, never rising; and its derivative. mean: shape (bases,),
    s, of a device's time.
    """

    def __init__(self, time: FloatArray, mean: FloatArray) -> None:
        self.time = np.minimum.accumulate(time, axis=1)
        self.slope = derivative(self.time)
        self.mean = mean

    @cached_property
    def ratio(self) -> FloatArray:
        """What the mean loses by knowing that the device is there, by the hazard, s."""
        return _ratio(self.time, self.mean)

    def log_hazard(self, time: FloatArray) -> tuple[FloatArray, NDArray[np.intp], FloatArray]:
        """log hazards, cells, and the part of the cell; time: shape (times, bases)."""
        cell = self._cell(time)
        column = np.arange(time.shape[1])
        late, soon = self.time[column, cell], self.time[column, cell + 1]
        drop = np.maximum(late - soon, 1e-300)
        x = np.clip((late - time) / drop, 0.0, 1.0)
        # Cubic in time, with the slopes of the inverse function at both ends; at most thrice the
        # mean slope, which keeps it from turning.
        first, last = (
            np.minimum(drop / np.maximum(-self.slope[column, at], 1e-300) / _SPACING, 3.0)
            for at in (cell, cell + 1)
        )
        part = x * x * (3.0 - 2.0 * x) + x * (1.0 - x) * ((1.0 - x) * first - x * last)
        fall = np.maximum(-self.slope[:, -1], 1e-300)
        beyond = np.clip((self.time[:, -1] - time) / fall, 0.0, _MOST_BEYOND)
        return LOG_HAZARD[cell] + part * _SPACING + beyond, cell, part

    def excess_ratio(self, cell: NDArray[np.intp], part: FloatArray) -> FloatArray:
        """E[T] - E[T | T <= t] by the hazard, s; from what `log_hazard` gave."""
        column = np.arange(cell.shape[1])
        first = np.clip(cell - 1, 0, _CELLS - 3)
        x = cell - first + part
        p = [self.ratio[column, first + k] for k in range(4)]
        return np.asarray(
            p[0] * (x - 1) * (x - 2) * (x - 3) / -6
            + p[1] * x * (x - 2) * (x - 3) / 2
            + p[2] * x * (x - 1) * (x - 3) / -2
            + p[3] * x * (x - 1) * (x - 2) / 6
        )

    def _cell(self, time: FloatArray) -> NDArray[np.intp]:
        """The cell of each time, by halving; all columns at once."""
        column = np.arange(time.shape[1])
        low = np.zeros(time.shape, np.intp)
        size = _CELLS
        while size > 1:
            size //= 2
            low += np.where(self.time[column, low + size] >= time, size, 0)
        return low


def derivative(time: FloatArray) -> FloatArray:
    """Of a row over LOG_HAZARD, to the fourth order; last axis."""
    slope = np.gradient(time, _SPACING, axis=1, edge_order=2)
    inner = 8.0 * (time[:, 3:-1] - time[:, 1:-3]) - (time[:, 4:] - time[:, :-4])
    slope[:, 2:-2] = inner / (12.0 * _SPACING)
    return np.minimum(slope, 0.0)


def _ratio(time: FloatArray, mean: FloatArray) -> FloatArray:
    hazard = np.exp(LOG_HAZARD)
    ready = np.exp(-hazard)
    late = -np.expm1(-hazard)
    above = _cumulated(time * (hazard * ready))
    below = above[:, -1:] - above + time[:, -1:] * ready[-1]
    above = above + time[:, :1] * late[0] + _beyond(time, late)
    excess = np.where(
        late < 0.5,
        (above - mean[:, None] * late) / ready,
        mean[:, None] - below / ready,
    )
    return np.asarray(excess / hazard)


def _cumulated(density: FloatArray) -> FloatArray:
    """The integral from the first point on; each cell by the cubic through its neighbours."""
    pieces = 0.5 * (density[:, 1:] + density[:, :-1])
    bend = density[:, 3:] - density[:, 2:-1] - density[:, 1:-2] + density[:, :-3]
    pieces[:, 1:-1] -= bend / 24.0
    total = np.zeros_like(density)
    np.cumsum(_SPACING * pieces, axis=1, out=total[:, 1:])
    return total


def _beyond(time: FloatArray, late: FloatArray) -> FloatArray:
    """What a tail that goes on as a power adds to time * late at the first point; (bases, 1)."""
    near = np.maximum(time[:, 64], 1e-300)
    power = np.log(np.maximum(time[:, 0] / near, 1.0)) / np.log(late[64] / late[0])
    power = np.where(time[:, 64] > 0.0, np.minimum(power, 0.99), 0.0)
    return np.asarray((time[:, 0] * late[0] * power / (1.0 - power))[:, None])
