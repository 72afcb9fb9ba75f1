"""The hazard -log P(X <= x) of a law, and where it is not smooth.

The hazard of the last of several draws is the sum of theirs, and it keeps its digits where a draw
is almost surely below.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mcsim.laws import FloatArray, Law

LEAST = 2.0**-65
"""Survival down to which laws know their quantiles."""
MOST = 1.0 - 2.0**-53

_MOST_BREAKS = 512

Indices = NDArray[np.intp]


class Quantiles(Protocol):
    """What is asked of a law here: five methods of `mcsim.laws.Law`."""

    def quantile(self, survival: FloatArray) -> FloatArray:
        """The value exceeded with probability `survival`."""
        ...

    def survival(self, x: FloatArray) -> FloatArray:
        """P(X > x)."""
        ...

    def distribution(self, x: FloatArray) -> FloatArray:
        """P(X <= x)."""
        ...

    def jumps(self) -> FloatArray:
        """Survival probabilities at which the quantile function jumps or has a kink."""
        ...

    def knots(self) -> FloatArray:
        """Values that have a probability of their own, and finite ends."""
        ...


def hazard_from(late: FloatArray, ready: FloatArray) -> FloatArray:
    """-log of the distribution function `ready`, from the smaller of it and the tail `late`."""
    with np.errstate(divide="ignore"):
        upper = -np.log1p(-np.minimum(late, 0.5))
        return np.asarray(np.where(late > 0.5, -np.log(ready), upper))


def jumps_of(law: Quantiles, most: int) -> FloatArray:
    """Survival probabilities at which the quantile function is not smooth, ascending, as far as
    laws know their quantiles; of many, the smallest."""
    jumps = np.sort(law.jumps())
    return jumps[(jumps > LEAST) & (jumps < MOST)][:most]


def hazard_of(law: Law, x: FloatArray) -> FloatArray:
    """-log P(X <= x); infinite below the smallest value."""
    survival = law.survival(x)
    with np.errstate(divide="ignore"):
        hazard = np.asarray(-np.log1p(-survival))
        low = survival > 0.5
        if low.any():
            hazard[low] = -np.log(law.distribution(x[low]))
    return hazard


def breaks_of(law: Law) -> FloatArray:
    """Values at which the distribution function has a kink, ascending; of many, those that
    fewest values exceed."""
    jumps = np.sort(law.jumps())[:_MOST_BREAKS]
    return np.unique(np.concatenate([law.knots()[-_MOST_BREAKS:], law.quantile(jumps)]))


def end_of(law: Law) -> float:
    """The largest value; infinite if there is none."""
    largest = law.knots().max(initial=-np.inf)
    ended = largest > -np.inf and law.survival(np.array([largest]))[0] == 0.0
    return float(largest) if ended else np.inf


def is_constant(law: Quantiles | None) -> bool:
    """Whether every value is the same, as near as doubles can tell."""
    if law is None:
        return True
    ends = law.quantile(np.array([LEAST, MOST]))
    return bool(ends[0] == ends[1])


def has_atoms(law: Quantiles | None) -> bool:
    """Whether single values have a probability of their own."""
    if is_constant(law):
        return True
    assert law is not None
    value = law.knots()
    if value.size == 0:
        return False
    before = np.nextafter(value, -np.inf)
    own = probability_between(law, before, value)
    # A density that is infinite at an end falls off by less than that over the next doubles.
    beside = probability_between(law, np.nextafter(before, -np.inf), before)
    beside += probability_between(law, value, np.nextafter(value, np.inf))
    return bool(np.any((own > 1e-15) & (own > 100.0 * beside)))


def probability_between(law: Quantiles, low: FloatArray, high: FloatArray) -> FloatArray:
    """P(low < X <= high), from the smaller tail."""
    upper = law.survival(low) - law.survival(high)
    lower = law.distribution(high) - law.distribution(low)
    return np.where(law.survival(high) < 0.5, upper, lower)


def constant_value(law: Law | None, otherwise: float) -> float:
    """The value of a law that is constant."""
    if law is None:
        return otherwise
    return float(law.quantile(np.array([0.5]))[0])
