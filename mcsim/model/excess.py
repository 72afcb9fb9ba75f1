"""What the mean of a law loses by knowing that a draw is no larger than x.

E[X] - E[X | X <= x], tabulated by the hazard h = -log P(X <= x), and as its ratio to h: that is
next to linear in x far out, and proportional to x where the tail is a Pareto's.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.polynomial import chebyshev

from mcsim.laws import FloatArray, Law
from mcsim.model.hazard import LEAST, MOST, hazard_of, jumps_of
from mcsim.model.panels import DEGREE, POINTS, Panels, coefficients

_FIRST = float(np.log(LEAST))
_LAST = float(np.log(-np.log1p(-MOST)))
_PANELS = 64
_MOST_JUMPS = 512
_INSIDE = 1.0 - 1e-12
"""So near to the ends of a panel it is looked at: a law may jump there."""
_INTEGRAL: FloatArray = np.asarray(
    chebyshev.chebval(POINTS, chebyshev.chebint(coefficients(np.eye(DEGREE + 1)).T, lbnd=-1)),
    dtype=np.float64,
)
"""From values at `POINTS` to the integrals from -1 up to there."""


class _Table(NamedTuple):
    """The ratio over the log hazard, and the power of 1 / h with which it goes on below."""

    ratio: Panels
    power: float


def excess_of(law: Law, x: FloatArray) -> FloatArray:
    """E[X] - E[X | X <= x] for a law without atoms; any shape. What E[X | X <= x] tends to below
    the smallest value is x."""
    ratio, power = _table(law)
    hazard = hazard_of(law, x)
    with np.errstate(divide="ignore"):
        place = np.log(hazard)
    found = ratio(np.clip(place, _FIRST, _LAST).ravel()).reshape(x.shape)
    far = np.clip(_FIRST - place, 0.0, 700.0)
    found *= np.minimum(hazard, 1e3) * np.exp(power * far)
    return np.where(place > _LAST, law.expectation() - x, found)


@lru_cache(maxsize=64)
def _table(law: Law) -> _Table:
    jumps = jumps_of(law, _MOST_JUMPS)
    edges = np.union1d(np.linspace(_FIRST, _LAST, _PANELS + 1), np.log(-np.log1p(-jumps)))
    half = 0.5 * np.diff(edges)[:, None]
    middle = 0.5 * (edges[1:] + edges[:-1])[:, None]
    hazard = np.exp(middle + half * POINTS * _INSIDE)
    x = law.quantile(np.clip(-np.expm1(-hazard), LEAST, MOST))
    late, ready = -np.expm1(-hazard), np.exp(-hazard)
    pieces = half * ((x * hazard * ready) @ _INTEGRAL)
    whole = np.cumsum(pieces[:, -1])
    above = pieces + (whole - pieces[:, -1])[:, None]
    mean = law.expectation()
    below = whole[-1] - above + x[-1, -1] * ready[-1, -1]
    above = above + _beyond(mean - float(below[0, 0]), late[0], x[0])
    # Each from the side on which it is small, or does not cancel.
    excess = np.where(late < 0.5, (above - mean * late) / ready, mean - below / ready)
    ratio = excess / hazard
    power = 0.0
    if ratio[0, 0] > ratio[0, -1] > 0.0:
        power = float(np.log(ratio[0, 0] / ratio[0, -1])) / float(edges[1] - edges[0])
    return _Table(Panels(edges, ratio), power)


def _beyond(remainder: float, late: FloatArray, x: FloatArray) -> float:
    """E[X; X > x] at the first of the levels, as if the tail went on as a power.

    remainder: the same as what the mean leaves, good where the tail is heavy.
    """
    if x[0] <= 0.0 or x[-1] >= x[0] or x[-1] <= 0.0:
        return float(x[0] * late[0])
    alpha = float(np.log(late[-1] / late[0]) / np.log(x[0] / x[-1]))
    if alpha < 1.5:
        return max(remainder, 0.0)
    return float(x[0] * late[0] * alpha / (alpha - 1.0))
