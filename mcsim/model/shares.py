"""Shares of the work of a step by the speed of those who do it, so that all are done together.

Real shares are the bound; whole numbers of microbatches are what can be dealt out. Both give the
least time of the slowest that there is, with room in memory for at most a given share.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mcsim.laws import FloatArray

IntArray = NDArray[np.int64]


def real_shares(time: FloatArray, most: float = math.inf) -> FloatArray:
    """The shares, 1 on average, with which the slowest is done soonest; shape of `time`.

    time: s, of a whole share, shape (n,), above 0. most: of a share, at least 1. Those whose memory
    has room for no more get `most`, all others are done at the same time (water-filling: Boyd &
    Vandenberghe 2004, Convex Optimization, example 5.2).
    """
    speed = 1.0 / time
    order = np.argsort(-speed, kind="stable")
    # With the j fastest full, the others share what is left by their speed.
    most = min(most, float(time.size))
    left = np.cumsum(speed[order][::-1])[::-1]
    end = (time.size - np.arange(time.size) * most) / left
    fits = end * speed[order] <= most * (1 + 1e-12)
    return np.asarray(np.minimum(speed * end[np.argmax(fits)], most))


def whole_shares(time: FloatArray, average: int, most: int | None = None) -> IntArray:
    """How many microbatches each does, `average` on average, so that the slowest is done soonest.

    time: s, of one microbatch, shape (n,), above 0. most: of one's microbatches, at least the
    average. No other choice has an earlier slowest.
    """
    total = average * time.size
    room = total if most is None else most
    # By the real shares it cannot end sooner; each of the others does at most one more.
    low = float((real_shares(time * average, room / average) * time).max()) * average * (1 - 1e-12)
    high = low + float(time.max())
    while _done(time, high, room).sum() < total:
        high *= 2.0
    # Bisection over doubles ends at the very time at which enough are done.
    while (middle := 0.5 * (low + high)) not in (low, high):
        low, high = (low, middle) if _done(time, middle, room).sum() >= total else (middle, high)
    number = _done(time, high, room)
    # More than are needed only where several end at that time: who ends last does one less.
    order = np.argsort(-number * time, kind="stable")
    spare = int(number.sum()) - total
    number[order[:spare]] -= 1
    return number


def whole_room(most: float, average: int) -> int:
    """The microbatches of a share; a product that rounds beneath a whole number is that number."""
    return math.floor(most * average * (1 + 1e-12))


def _done(time: FloatArray, end: float, room: int) -> IntArray:
    """How many microbatches each has done at `end`."""
    number = np.minimum(np.floor(end / time), room).astype(np.int64)
    # The quotient rounds; what counts is the product.
    number -= number * time > end
    number += (number < room) & ((number + 1) * time <= end)
    return number
