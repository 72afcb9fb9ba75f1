"""A function of one variable by polynomials between edges, as fine as the function asks for.

See Also: Trefethen 2013, Approximation Theory and Approximation Practice, ch. 2-4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

from mcsim.laws import FloatArray

DEGREE = 16
POINTS: FloatArray = chebyshev.chebpts2(DEGREE + 1)
"""Where a panel is looked at, from -1 to 1, both ends among them."""

_TO_COEFFICIENTS: FloatArray = np.asarray(
    np.linalg.inv(chebyshev.chebvander(POINTS, DEGREE)).T, dtype=np.float64
)
_LAST = 3
_NEWTON_STEPS = 8
_BLOCK = 4096
"""Places looked up at a time, so that they stay in the cache."""
EPS = float(np.finfo(np.float64).eps)

Function = Callable[[FloatArray], FloatArray]


def coefficients(values: FloatArray) -> FloatArray:
    """Chebyshev coefficients of the polynomial through values at `POINTS`; last axis."""
    return np.asarray(values @ _TO_COEFFICIENTS)


@dataclass(frozen=True, eq=False)
class Panels:
    """A continuous function.

    edges: shape (panels + 1,), ascending. values: shape (panels, DEGREE + 1), at `POINTS` of each.
    """

    edges: FloatArray
    values: FloatArray

    @property
    def places(self) -> FloatArray:
        """Where the values are taken, shape (panels, DEGREE + 1)."""
        return places(self.edges[:-1], self.edges[1:])

    def panel(self, x: FloatArray) -> NDArray[np.intp]:
        """Which panel each x is in; of an edge, the one that it begins."""
        last = self.edges.size - 2
        return np.clip(np.searchsorted(self.edges, x, side="right") - 1, 0, last)

    def __call__(self, x: FloatArray, panel: NDArray[np.intp] | None = None) -> FloatArray:
        """The function at x, shape (n,), between the ends."""
        return self._sum(self._coefficients, x, panel)

    def slope(self, x: FloatArray, panel: NDArray[np.intp] | None = None) -> FloatArray:
        """The derivative at x, shape (n,)."""
        return self._sum(self._slopes, x, panel)

    def inverse(self, y: FloatArray) -> FloatArray:
        """The x at which a function that never rises has come down to y; shape (n,).

        At one of the ends where it is never y.
        """
        # Rounding makes flat parts rise by a last bit.
        falling = np.minimum.accumulate(self.values.ravel())
        x = self.places.ravel()
        after = np.clip(np.searchsorted(-falling, -y, side="left"), 1, x.size - 1)
        panel = np.minimum(after // (DEGREE + 1), self.edges.size - 2)
        low, high = x[after - 1], x[after]
        drop = falling[after - 1] - falling[after]
        share = (falling[after - 1] - y) / np.where(drop > 0, drop, 1.0)
        found = low + np.clip(share, 0.0, 1.0) * (high - low)
        for _ in range(_NEWTON_STEPS):
            excess = self(found, panel) - y
            slope = self.slope(found, panel)
            low, high = np.where(excess > 0, found, low), np.where(excess > 0, high, found)
            falls = slope < 0
            step = np.where(falls, found - excess / np.where(falls, slope, -1.0), np.inf)
            outside = ~((step >= low) & (step <= high))
            step = np.where(outside, 0.5 * (low + high), step)
            done = np.abs(step - found) <= 2 * EPS * np.abs(found)
            found = step
            if done.all():
                break
        found = np.where(y < falling[-1], x[-1], found)
        return np.where(y > falling[0], x[0], found)

    @cached_property
    def _coefficients(self) -> FloatArray:
        """Shape (DEGREE + 1, panels)."""
        return np.ascontiguousarray(coefficients(self.values).T)

    @cached_property
    def _slopes(self) -> FloatArray:
        slopes = np.zeros_like(self._coefficients)
        slopes[:-1] = chebyshev.chebder(self._coefficients)
        return np.asarray(slopes * (2.0 / np.diff(self.edges)))

    def _sum(
        self, coefficient: FloatArray, x: FloatArray, panel: NDArray[np.intp] | None
    ) -> FloatArray:
        """Clenshaw's sum at each x."""
        found = np.empty(x.shape)
        for start in range(0, x.size, _BLOCK):
            here = slice(start, start + _BLOCK)
            cell = self.panel(x[here]) if panel is None else panel[here]
            low, high = self.edges[cell], self.edges[cell + 1]
            u = ((x[here] - low) - (high - x[here])) / (high - low)
            twice, one, two = 2.0 * u, np.zeros_like(u), np.zeros_like(u)
            for k in range(DEGREE, 0, -1):
                # two becomes c + twice * one - two, and both change places.
                np.subtract(coefficient[k].take(cell), two, out=two)
                two += twice * one
                one, two = two, one
            found[here] = coefficient[0].take(cell) + u * one - two
        return found


def places(low: FloatArray, high: FloatArray) -> FloatArray:
    """`POINTS` between each low and high, with both ends exact; shape (panels, DEGREE + 1)."""
    x = low[:, None] + (high - low)[:, None] * (0.5 * (1.0 + POINTS))
    x[:, -1] = high
    return x


def adapted(
    function: Function, edges: FloatArray, tolerance: FloatArray, limit: int, grain: Function
) -> tuple[FloatArray, FloatArray]:
    """Edges between which polynomials follow a function, and its values there.

    function: of x, shape (n,), gives shape (rows, n); row 0 never rises. edges: to begin with;
    they stay. tolerance: shape (rows,), absolute; row 0 is also given up where only the rounding
    of x shows, which is `grain` of x. limit: of the number of panels; the worst are divided first.
    Result: edges, shape (panels + 1,), and values, shape (rows, panels, DEGREE + 1).
    """
    low, high = edges[:-1], edges[1:]
    done_low, done_values = [], []
    count = 0
    while low.size:
        x = places(low, high)
        values = function(x.ravel())
        values = values.reshape(values.shape[0], *x.shape)
        size = np.abs(coefficients(values)[..., -_LAST:]).sum(axis=-1)
        blur = np.maximum(grain(low), grain(high))
        # Not the steepest: the rest of a panel is not excused by its end, which is divided off.
        slope = np.abs(np.diff(values[0])) / np.maximum(np.diff(x), blur[:, None])
        error = (size / (tolerance[:, None] + 4.0 * blur * np.median(slope, axis=-1))).max(axis=0)
        error[high - low <= 64.0 * blur] = 0.0
        rough = error > 1.0
        room = max(limit - count - low.size, 0)
        if rough.sum() > room:
            rough[np.argsort(-error)[room:]] = False
        done_low.append(low[~rough])
        done_values.append(values[:, ~rough])
        count += int((~rough).sum())
        middle = _middle(x[rough], values[0][rough])
        low, high = np.concatenate([low[rough], middle]), np.concatenate([middle, high[rough]])
    start = np.concatenate(done_low)
    order = np.argsort(start)
    everything = np.concatenate(done_values, axis=1)[:, order]
    return np.append(start[order], edges[-1]), everything


def _middle(x: FloatArray, y: FloatArray) -> FloatArray:
    """Where to divide panels: half way in y where it falls far, or half way in x."""
    half = 0.5 * (y[:, :1] + y[:, -1:])
    after = np.clip((y > half).sum(axis=1), 1, DEGREE)
    row = np.arange(x.shape[0])
    drop = y[row, after - 1] - y[row, after]
    share = (y[row, after - 1] - half[:, 0]) / np.where(drop > 0, drop, 1.0)
    by_y = x[row, after - 1] + np.clip(share, 0.1, 0.9) * (x[row, after] - x[row, after - 1])
    return np.where(y[:, 0] - y[:, -1] > 0.5, by_y, 0.5 * (x[:, 0] + x[:, -1]))
