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
POINTS: FloatArray = np.array(chebyshev.chebpts2(DEGREE + 1), dtype=np.float64)
"""Where a panel is looked at, from -1 to 1, both ends among them."""

_TO_COEFFICIENTS: FloatArray = np.linalg.inv(chebyshev.chebvander(POINTS, DEGREE)).T
_LAST = 3
_NEWTON_STEPS = 8
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
        panel = self.panel(x) if panel is None else panel
        return _sum(self._coefficients[panel], self._within(x, panel))

    def slope(self, x: FloatArray, panel: NDArray[np.intp] | None = None) -> FloatArray:
        """The derivative at x, shape (n,)."""
        panel = self.panel(x) if panel is None else panel
        return _sum(self._slopes[panel], self._within(x, panel))

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
            step = found - excess / np.where(slope < 0, slope, -np.inf)
            outside = ~((step >= low) & (step <= high))
            step = np.where(outside, 0.5 * (low + high), step)
            done = np.abs(step - found) <= 2 * EPS * np.abs(found)
            found = step
            if done.all():
                break
        return np.clip(found, x[0], x[-1])

    @cached_property
    def _coefficients(self) -> FloatArray:
        return coefficients(self.values)

    @cached_property
    def _slopes(self) -> FloatArray:
        slopes = np.zeros_like(self._coefficients)
        slopes[:, :-1] = chebyshev.chebder(self._coefficients, axis=1)
        return slopes * (2.0 / np.diff(self.edges))[:, None]

    def _within(self, x: FloatArray, panel: NDArray[np.intp]) -> FloatArray:
        low, high = self.edges[panel], self.edges[panel + 1]
        return np.asarray(((x - low) - (high - x)) / (high - low))


def places(low: FloatArray, high: FloatArray) -> FloatArray:
    """`POINTS` between each low and high, with both ends exact; shape (panels, DEGREE + 1)."""
    x = low[:, None] + (high - low)[:, None] * (0.5 * (1.0 + POINTS))
    x[:, -1] = high
    return x


def _sum(coefficient: FloatArray, u: FloatArray) -> FloatArray:
    """Clenshaw's sum of a row of coefficients for each u."""
    twice, one, two = 2.0 * u, np.zeros_like(u), np.zeros_like(u)
    for k in range(DEGREE, 0, -1):
        one, two = coefficient[:, k] + twice * one - two, one
    return np.asarray(coefficient[:, 0] + u * one - two)


def adapted(
    function: Function, edges: FloatArray, tolerance: FloatArray, limit: int, grain: Function
) -> tuple[FloatArray, FloatArray]:
    """Edges between which polynomials follow a function, and its values there.

    function: of x, shape (n,), gives shape (rows, n); row 0 never rises. edges: to begin with;
    they stay. tolerance: shape (rows,), absolute; row 0 is also given up where only the rounding
    of x shows, which is `grain` of x. limit: of the number of panels.
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
        steepest = (np.abs(np.diff(values[0])) / np.diff(x)).max(axis=-1)
        blur = np.maximum(grain(low), grain(high))
        rough = (size > tolerance[:, None] + 4 * blur * steepest).any(axis=0)
        rough &= high - low > 64 * blur
        if count + low.size + rough.sum() > limit:
            rough[:] = False
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
