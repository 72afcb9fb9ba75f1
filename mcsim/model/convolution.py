"""P(base * C + D > t) by quadrature, with the digits of both tails.

The plane of C and D is cut at a point of the line base * c + d = t where both tails weigh about
as much. Beyond the cut in both, every pair is late; what remains are two integrals, each over the
side of one law that is not its far tail:

    P = P(C > c) P(D > d) + int_{C <= c} P(D > t - base C) + int_{D <= d} P(C > (t - D) / base),

each over the log-odds of the one law by Gauss-Legendre in panels, over which neither law's tail
changes by more than a few e-folds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from mcsim.laws import FloatArray
from mcsim.model.hazard import LEAST, MOST, Indices, Quantiles, jumps_of

_STEP = 2.5
"""Of the edges of panels, in log-odds."""
_MOST_KINKS = 128
"""Both sides of as many values as a curve keeps apart (`discrete.MOST_VALUES`)."""
_NEGLIGIBLE = 1e-12


@dataclass(frozen=True, eq=False)
class Scale:
    """A law in units of its log-odds log(P(X > x) / P(X <= x)).

    odds, value: shape (edges,), where panels end: falling, ascending. sign: 1, or -1 for the law
    of -X, whose upper tail is the lower one of X.
    """

    law: Quantiles
    sign: float
    odds: FloatArray
    value: FloatArray

    @classmethod
    def of(cls, law: Quantiles) -> Scale:
        """With edges a few e-folds apart, and at kinks."""
        low, high = (float(np.log(s) - np.log1p(-s)) for s in (LEAST, MOST))
        odds = np.arange(low, high, _STEP)
        jumps = jumps_of(law, _MOST_KINKS)
        odds = np.unique(np.concatenate([odds, [high], np.log(jumps) - np.log1p(-jumps)]))[::-1]
        value = np.maximum.accumulate(law.quantile(_share(odds)))
        return cls(law, 1.0, odds, value)

    def mirrored(self) -> Scale:
        """The same of -X."""
        return Scale(self.law, -self.sign, -self.odds[::-1], -self.value[::-1])

    def tail(self, x: FloatArray) -> FloatArray:
        """P(X > x)."""
        return self.law.survival(x) if self.sign > 0 else self.law.distribution(-x)

    def odds_at(self, x: FloatArray) -> FloatArray:
        """Log-odds of P(X > x), infinite beyond the ends; shape (n,)."""
        x = self.sign * x
        late = self.law.survival(x)
        early = late > 0.5
        with np.errstate(divide="ignore"):
            odds = np.log(late) - np.log1p(-np.minimum(late, 0.5))
            ready = self.law.distribution(x[early])
            odds[early] = np.log1p(-ready) - np.log(ready)
        return np.asarray(self.sign * odds)

    def at(self, odds: FloatArray) -> FloatArray:
        """The value that has these log-odds."""
        return self.sign * self.law.quantile(np.clip(_share(self.sign * odds), LEAST, MOST))

    def landmarks(self) -> FloatArray:
        """Values between which the tail falls by a few e-folds, without a kink."""
        return np.unique(np.concatenate([self.value, self.sign * self.law.knots()]))


def _share(odds: FloatArray) -> FloatArray:
    return np.asarray(1.0 / (1.0 + np.exp(-odds)))


def hazard_of_sum(step: Scale, stall: Scale, base: float, time: FloatArray) -> FloatArray:
    """-log P(base * C + D <= t) at times of shape (n,); relative error about 1e-10."""
    late = _tail_of_sum(step, stall, base, time)
    hazard = np.asarray(-np.log1p(-np.minimum(late, 0.6)))
    low = late > 0.5
    if low.any():
        ready = _tail_of_sum(step.mirrored(), stall.mirrored(), base, -time[low])
        with np.errstate(divide="ignore"):
            hazard[low] = -np.log(ready)
    return hazard


def _tail_of_sum(step: Scale, stall: Scale, base: float, time: FloatArray) -> FloatArray:
    """P(base * C + D > time); time: shape (n,)."""
    c = step.value[_balance(step, stall, base, time)]
    d = time - base * c

    def by_stall(x: FloatArray, row: Indices) -> FloatArray:
        return stall.tail(time[row] - base * x)

    def by_step(x: FloatArray, row: Indices) -> FloatArray:
        return step.tail((time[row] - x) / base)

    steps = (time[:, None] - stall.landmarks()) / base
    stalls = time[:, None] - base * step.landmarks()
    return (
        step.tail(c) * stall.tail(d)
        + integral(step, c, steps, by_stall)
        + integral(stall, d, stalls, by_step)
    )


def _balance(step: Scale, stall: Scale, base: float, time: FloatArray) -> Indices:
    """The first edge of the step beyond which its tail weighs no more than that of what is left
    for the stall; by halving."""
    tail = _share(step.odds)
    low, high = np.zeros(time.size, np.intp), np.full(time.size, tail.size - 1)
    while np.any(low < high):
        middle = (low + high) // 2
        before = stall.tail(time - base * step.value[middle]) < tail[middle]
        low = np.where(before, np.minimum(middle + 1, high), low)
        high = np.where(before, high, middle)
    return low


def integral(
    over: Scale,
    cut: FloatArray,
    landmarks: FloatArray,
    function: Callable[[FloatArray, Indices], FloatArray],
    points: int = 10,
) -> FloatArray:
    """The mean of a function of X where X <= cut, and 0 elsewhere; shape (n,).

    cut: shape (n,). landmarks: shape (n, any), where the function is not smooth, or has grown by
    a few e-folds. function: of values and of the row, 0 to n - 1, that each belongs to; positive,
    never falling in the value. points: of the quadrature in each panel; 10 is good to 1e-11, 6 to
    1e-8.
    """
    count = cut.size
    place = np.concatenate([np.broadcast_to(over.value, (count, over.value.size)), landmarks], 1)
    end = np.clip(over.odds_at(cut), over.odds[-1], over.odds[0])[:, None]
    within = (landmarks >= over.value[0]) & (landmarks < cut[:, None])
    odds = np.where(landmarks < cut[:, None], over.odds[0], end)
    odds[within] = over.odds_at(landmarks[within])
    odds = np.concatenate([np.broadcast_to(over.odds, (count, over.odds.size)), odds], 1)
    # Places that are the same keep their own log-odds: between them lies what has a probability
    # of its own.
    odds = np.clip(odds, end, over.odds[0])
    order = np.argsort(-odds, axis=1, kind="stable")
    odds = np.take_along_axis(odds, order, axis=1)
    place = np.take_along_axis(place, order, axis=1)
    place = np.clip(place, over.value[0], np.maximum(cut, over.value[0])[:, None])
    place = np.maximum.accumulate(place, axis=1)
    mass = _mass(odds)
    # Only where something is between: half of the places are beyond the cut.
    some = np.pad(mass > 0.0, ((0, 0), (1, 1)))
    row, edge = np.nonzero(some[:, 1:] | some[:, :-1])
    height = np.zeros(place.shape)
    height[row, edge] = function(place[row, edge], row)
    least = (mass * height[:, :-1]).sum(axis=1)
    kept = mass * height[:, 1:] > _NEGLIGIBLE * least[:, None]
    row, panel = np.nonzero(kept)
    high, low = odds[row, panel], odds[row, panel + 1]
    half = 0.5 * (high - low)
    node, weight = _gauss_legendre(points)
    at = low[:, None] + half[:, None] * (1.0 + node)
    density = _share(at) * _share(-at)
    # Rounding of the odds must not leave the panel, at whose ends the function may jump.
    inner = np.clip(over.at(at), place[row, panel][:, None], place[row, panel + 1][:, None])
    piece = half * ((function(inner, row[:, None]) * density) @ weight)
    inside = np.asarray(np.bincount(row, piece, count), np.float64)
    first = np.minimum(over.value[0], cut)
    before = _share(-over.odds[0]) * function(first, np.arange(count))
    return inside + np.where(cut >= over.value[0], before, 0.0)


@cache
def _gauss_legendre(points: int) -> tuple[FloatArray, FloatArray]:
    node, weight = np.polynomial.legendre.leggauss(points)
    return node, weight


def _mass(odds: FloatArray) -> FloatArray:
    """Probability between neighbouring log-odds, from the smaller tail."""
    upper = _share(odds)
    lower = _share(-odds)
    return np.where(odds[:, 1:] < 0, upper[:, :-1] - upper[:, 1:], lower[:, 1:] - lower[:, :-1])
