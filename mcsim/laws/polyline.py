"""A quantile function of straight lines between nodes.

See Also: numpy.quantile, with its default method "linear".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mcsim.laws.law import FloatArray


@dataclass(frozen=True, eq=False)
class Polyline:
    """The nodes, ascending in value.

    below, above: P(X <= value) and P(X > value), each with its own digits. equidistant: whether
    they are the multiples of 1 / (n - 1).
    """

    value: FloatArray
    below: FloatArray
    above: FloatArray
    equidistant: bool

    @classmethod
    def of(cls, values: Sequence[float], probabilities: Sequence[float]) -> Polyline:
        """Through the values at their probabilities; without those, through the sorted values."""
        value = np.array(values)
        if len(probabilities) > 0:
            below = np.array(probabilities)
            return cls(value, below, 1.0 - below, equidistant=False)
        if value.size == 1:
            return cls(value, np.ones(1), np.zeros(1), equidistant=True)
        rank, last = np.arange(value.size, dtype=np.float64), value.size - 1
        return cls(np.sort(value), rank / last, rank[::-1] / last, equidistant=True)

    def lowest(self, count: int) -> Polyline:
        """The part up to the node of that number."""
        return Polyline(self.value[:count], self.below[:count], self.above[:count], False)

    def quantile(self, survival: FloatArray) -> FloatArray:
        if self.value.size == 1:
            return np.full(survival.shape, self.value[0])
        upper = survival < 0.5
        x = np.empty_like(survival)
        x[~upper] = self._from_bottom(1.0 - survival[~upper])
        # Rounding must not let the upper half dip below the lower.
        middle = self._from_bottom(np.array([0.5]))[0]
        x[upper] = np.maximum(self._from_top(survival[upper]), middle)
        return x

    def survival(self, x: FloatArray) -> FloatArray:
        cell, into = self._place(x)
        above = np.concatenate([[1.0], self.above, [0.0]])
        return np.asarray(above[cell + 1] + (1.0 - into) * (above[cell] - above[cell + 1]))

    def distribution(self, x: FloatArray) -> FloatArray:
        cell, into = self._place(x)
        below = np.concatenate([[0.0], self.below, [1.0]])
        return np.asarray(below[cell] + into * (below[cell + 1] - below[cell]))

    def first_moment(self) -> float:
        """The integral of the quantile over the probability."""
        if self.value.size == 1:
            return float(self.value[0] * self.below[0])
        return float(np.diff(self.below) @ (0.5 * self.value[:-1] + 0.5 * self.value[1:]))

    def second_moment(self, center: float) -> float:
        """The integral of the square of the quantile's distance from `center`."""
        a, b = self.value[:-1] - center, self.value[1:] - center
        with np.errstate(over="ignore"):
            return float(np.diff(self.below) @ (a * a + a * b + b * b)) / 3.0

    def _from_bottom(self, p: FloatArray) -> FloatArray:
        """The quantile at P(X <= x) = p."""
        cell, into = self._cell(p, self.below)
        low, high = self.value[cell], self.value[cell + 1]
        return np.minimum(low + into * (high - low), high)

    def _from_top(self, s: FloatArray) -> FloatArray:
        """The quantile at P(X > x) = s, counted from the largest value, which keeps the digits."""
        cell, into = self._cell(s, self.above[::-1])
        high, low = self.value[-1 - cell], self.value[-2 - cell]
        return np.maximum(high - into * (high - low), low)

    def _cell(self, share: FloatArray, ladder: FloatArray) -> tuple[NDArray[np.intp], FloatArray]:
        """Between which two steps of the ascending ladder each share is, and how far into it."""
        last = ladder.size - 2
        if self.equidistant:
            place = share * (ladder.size - 1)
            cell = np.minimum(place.astype(np.intp), last)
            return cell, place - cell
        cell = np.clip(np.searchsorted(ladder, share, side="right") - 1, 0, last)
        return cell, (share - ladder[cell]) / (ladder[cell + 1] - ladder[cell])

    def _place(self, x: FloatArray) -> tuple[NDArray[np.intp], FloatArray]:
        """How many values are at or below x, and how far x is towards the next, from 0 to 1."""
        value = self.value
        cell = np.searchsorted(value, x, side="right")
        low, high = value[np.maximum(cell - 1, 0)], value[np.minimum(cell, value.size - 1)]
        inside = (cell > 0) & (cell < value.size)
        return cell, np.where(inside, (x - low) / np.where(inside, high - low, 1.0), 0.0)
