"""The gamma law of a moderate or small shape a = 1 / cv^2, with mean 1.

SciPy alone would be accurate enough here (4e-15), but took 1.7 s for a million values at cv = 5,
and from one survival to the next above its quantile rose by up to 2.5e-14. So it only fills a
table, and small values, which span hundreds of decades, come from the power series: 0.1 to 0.5 s,
and rises of at most 8e-16.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.special import gamma, gammaincc, gammainccinv, gammaincinv, gammaln

from mcsim.laws.law import FloatArray

SERIES_BELOW = 1.5
"""Up to this value of a gamma variable of scale 1 its power series serves."""

STEP = 0.02
"""Between the nodes of a table, in ln survival (or ln distribution). The quintic is then good to
1e-14 (measured against mpmath, cv 0.11 to 5)."""

SMALLEST = 2.0**-66
"""The survival at which the table ends."""


def quantile(survival: FloatArray, cv: float) -> FloatArray:
    """The value exceeded with probability `survival`, relative to the mean."""
    shape = 1.0 / (cv * cv)
    table = _table(shape)
    series = survival >= table.start
    lower = ~series & (survival >= 0.5)
    upper = ~series & (survival < 0.5)
    beyond = survival < SMALLEST
    x = np.empty_like(survival)
    x[series] = _series(survival[series], shape)
    # Each branch is bounded by the end of the one below it, or rounding could let it dip under.
    x[lower] = np.maximum(_interpolated(table.lower, np.log(1.0 - survival[lower])), table.floor)
    x[upper] = np.maximum(_interpolated(table.upper, np.log(survival[upper])), table.middle)
    x[beyond] = np.maximum(gammainccinv(shape, survival[beyond]), table.ceiling)
    return np.asarray(x / shape)


def _series(survival: FloatArray, shape: float) -> FloatArray:
    """The quantile where it is below SERIES_BELOW.

    P(X <= x) = x^a / Gamma(a + 1) M(a, a + 1, -x) (DLMF 8.5.1). With P(X <= x) = u^a /
    Gamma(a + 1) and x = u y, this is ln y + ln M / a = 0, of derivative exp(-x) / (y M). Only the
    small second term is summed: the power u carries the magnitude.
    """
    with np.errstate(under="ignore", divide="ignore"):
        of_low = ((1.0 - survival) * gamma(shape + 1.0)) ** (1.0 / shape)
        of_high = np.exp((np.log1p(-survival) + gammaln(shape + 1.0)) / shape)
    u = np.where(survival < 0.5, of_high, of_low)
    # The term of x^n is (-1)^n a / (n! (a + n)); each is this factor times the one before.
    factors = [-shape / (shape + 1.0)]
    factors += [-(shape + n - 1.0) / (n * (shape + n)) for n in range(2, 25)]
    ratio = np.exp(u / (shape + 1.0))
    # Newton's method leaves 1e-2, 1e-4, 1e-8 and 2e-15 after rounds 3 to 6, at the largest u.
    for step in range(6):
        x = u * ratio
        total = np.zeros_like(u)
        for factor in reversed(factors):
            total = factor * x * (1.0 + total)
        logarithm = np.log1p(total) / shape
        if step < 5:
            ratio *= np.exp(-(np.log(ratio) + logarithm) * (1.0 + total) * np.exp(x))
    return np.asarray(u * np.exp(-logarithm))


class Pieces(NamedTuple):
    """A function by a polynomial of degree five on each cell of an equidistant grid.

    first: where the first cell begins. coefficient: (cells, 6), of the powers of the place in the
    cell, from 0 to 1.
    """

    first: float
    coefficient: FloatArray


class Table(NamedTuple):
    """The quantile function of a gamma variable of scale 1.

    start: the survival of SERIES_BELOW, from which on the series serves, and floor: its value
    there. lower: by ln distribution, and middle: the value at survival 1/2. upper: by ln survival,
    and ceiling: the value at SMALLEST.
    """

    start: float
    floor: float
    lower: Pieces
    middle: float
    upper: Pieces
    ceiling: float


@lru_cache(maxsize=32)
def _table(shape: float) -> Table:
    start = float(gammaincc(shape, SERIES_BELOW))
    floor = float(_series(np.array([start]), shape)[0]) if start < 1.0 else 0.0
    half = float(np.log(0.5))
    t = _grid(min(half, np.log(start)), np.log(SMALLEST))
    s = np.exp(t)
    upper = _pieces(t, gammainccinv(shape, s), s, shape, -1.0)
    ceiling = float(_interpolated(upper, np.log([SMALLEST]))[0])
    if start <= 0.5:
        return Table(start, floor, Pieces(half, np.zeros((1, 6))), floor, upper, ceiling)
    t = _grid(half, np.log(max(1.0 - start, 2.0**-54)))
    p = np.exp(t)
    lower = _pieces(t, gammaincinv(shape, p), p, shape, 1.0)
    middle = max(floor, float(_interpolated(lower, np.array([half]))[0]))
    return Table(start, floor, lower, middle, upper, ceiling)


def _grid(last: float, first: float) -> FloatArray:
    """Equidistant, ending at `last`, beginning at or before `first`."""
    cells = int(np.ceil((last - first) / STEP)) + 1
    return np.asarray(last - STEP * np.arange(cells, -1, -1.0))


def _pieces(t: FloatArray, x: FloatArray, share: FloatArray, shape: float, sign: float) -> Pieces:
    """The quintics with the value x of the quantile and two derivatives at each t = ln share.

    With R = share / (x density), dx/dt is sign x R and dR/dt is R - sign R^2 (a - x).
    """
    ratio = share / np.exp(shape * np.log(x) - x - gammaln(shape))
    slope = STEP * sign * x * ratio
    bend = 0.5 * STEP**2 * (x * ratio**2 * (1.0 - shape + x) + sign * x * ratio)
    a = np.diff(x) - slope[:-1] - bend[:-1]
    b = np.diff(slope) - 2.0 * bend[:-1]
    c = np.diff(bend)
    high = [10.0 * a - 4.0 * b + c, -15.0 * a + 7.0 * b - 2.0 * c, 6.0 * a - 3.0 * b + c]
    return Pieces(float(t[0]), np.stack([x[:-1], slope[:-1], bend[:-1], *high], axis=1))


def _interpolated(pieces: Pieces, t: FloatArray) -> FloatArray:
    place = (t - pieces.first) / STEP
    cell = np.clip(place.astype(np.int64), 0, len(pieces.coefficient) - 1)
    c = pieces.coefficient[cell].T
    r = place - cell
    # All beyond the first term is a few percent of it at most, and so is its rounding.
    return np.asarray(c[0] + r * (c[1] + r * (c[2] + r * (c[3] + r * (c[4] + r * c[5])))))
