"""When one device arrives: base * C + D, where only one of the two varies from step to step.

Written by the hazard -log P(T <= t): that of the last of several devices is the sum of theirs,
and it keeps its digits where a device is almost surely in time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from mcsim.laws import FloatArray, Law

LEAST = 2.0**-65
"""Survival down to which laws know their quantiles."""
MOST = 1.0 - 2.0**-53

_CELLS = 2048
_MOST_BREAKS = 512
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(4)


class NotExact(ValueError):  # noqa: N818 - it reads as what it is
    """The law of the last arrival cannot be tabulated; the message says why."""


class Arrival(Protocol):
    """The law of a device's time, given its base time. Arguments are broadcast."""

    @property
    def scaled(self) -> bool:
        """Whether base times matter by their logarithm; otherwise by themselves."""
        ...

    def hazard(self, time: FloatArray, base: FloatArray) -> FloatArray:
        """-log P(T <= time)."""
        ...

    def excess(self, time: FloatArray, base: FloatArray) -> FloatArray:
        """E[T] - E[T | T <= time], s."""
        ...

    def quantile(self, survival: FloatArray, base: FloatArray) -> FloatArray:
        """About the time exceeded with this probability, s: to start a search at."""
        ...

    def mean(self, base: FloatArray) -> FloatArray:
        """E[T], s."""
        ...

    def breaks(self, base: FloatArray) -> FloatArray:
        """Times at which the hazard is not smooth, s; shape (bases, breaks)."""
        ...

    def last(self, base: FloatArray) -> FloatArray:
        """Times from which on the hazard is 0, s; infinite where there is none."""
        ...

    @property
    def is_smooth(self) -> bool:
        """Whether the hazard has no kink but at the smallest time of all."""
        ...

    def deviation(self) -> float:
        """How far the distribution function of a device is off, as far as it has been asked."""
        ...


@dataclass(frozen=True)
class Scaled:
    """base * C + shift."""

    law: Law
    shift: float
    scaled: ClassVar[bool] = True

    def hazard(self, time: FloatArray, base: FloatArray) -> FloatArray:
        return hazard_of(self.law, (time - self.shift) / base)

    def excess(self, time: FloatArray, base: FloatArray) -> FloatArray:
        return base * excess_of(self.law, (time - self.shift) / base)

    def quantile(self, survival: FloatArray, base: FloatArray) -> FloatArray:
        return base * self.law.quantile(survival) + self.shift

    def mean(self, base: FloatArray) -> FloatArray:
        return base * self.law.expectation() + self.shift

    def breaks(self, base: FloatArray) -> FloatArray:
        return base[:, None] * breaks_of(self.law) + self.shift

    def last(self, base: FloatArray) -> FloatArray:
        return base * end_of(self.law) + self.shift

    @property
    def is_smooth(self) -> bool:
        return breaks_of(self.law).size <= 1

    def deviation(self) -> float:
        return 0.0


@dataclass(frozen=True)
class Shifted:
    """base * factor + D."""

    law: Law
    factor: float
    scaled: ClassVar[bool] = False

    def hazard(self, time: FloatArray, base: FloatArray) -> FloatArray:
        return hazard_of(self.law, time - self.factor * base)

    def excess(self, time: FloatArray, base: FloatArray) -> FloatArray:
        return excess_of(self.law, time - self.factor * base)

    def quantile(self, survival: FloatArray, base: FloatArray) -> FloatArray:
        return self.factor * base + self.law.quantile(survival)

    def mean(self, base: FloatArray) -> FloatArray:
        return self.factor * base + self.law.expectation()

    def breaks(self, base: FloatArray) -> FloatArray:
        return self.factor * base[:, None] + breaks_of(self.law)

    def last(self, base: FloatArray) -> FloatArray:
        return self.factor * base + end_of(self.law)

    @property
    def is_smooth(self) -> bool:
        return breaks_of(self.law).size <= 1

    def deviation(self) -> float:
        return 0.0


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


def excess_of(law: Law, x: FloatArray) -> FloatArray:
    """E[X] - E[X | X <= x]: what is lost by knowing that X was no larger."""
    place, ratio, last_slope = _excess_table(law)
    found = np.interp(x, place, ratio)
    found += last_slope * np.maximum(x - place[-1], 0.0)
    hazard = hazard_of(law, x)
    # Below the smallest value nothing is left: E[X | X <= x] tends to x.
    limit = law.expectation() - np.minimum(x, place[0])
    return np.where(hazard < np.inf, found * np.minimum(hazard, 1e300), limit)


@lru_cache(maxsize=64)
def _excess_table(law: Law) -> tuple[FloatArray, FloatArray, float]:
    """Values, ascending, the excess there by the hazard, and its slope beyond the last.

    By the hazard, since the ratio is next to linear in x: a straight line where the tail is a
    Pareto's, and 1 / the hazard's slope more than x - E[X] where it is light.
    """
    hazard, survival, x = levels(law)
    mean = law.expectation()
    above, below = partial_means(law, hazard, survival, x)
    distribution = np.exp(-hazard)
    with np.errstate(divide="ignore", invalid="ignore"):
        excess = np.where(
            survival < 0.5,
            (above - mean * survival) / distribution,
            mean - below / distribution,
        )
    ratio = excess / hazard
    # From the largest value down the levels ascend.
    place, ratio = x[::-1], ratio[::-1]
    first = np.append(True, np.diff(place) > 0)
    place, ratio = place[first], ratio[first]
    if place.size < 2:
        return place, ratio, 0.0
    slope = (ratio[-1] - ratio[-2]) / (place[-1] - place[-2])
    return place, ratio, float(slope)


def levels(law: Law) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Hazards, ascending, the survival probabilities there, and the values of the law."""
    log_hazard = np.linspace(np.log(LEAST), np.log(-np.log1p(-MOST)), _CELLS + 1)
    jumps = np.sort(law.jumps())[:_MOST_BREAKS]
    jumps = jumps[(jumps > LEAST) & (jumps < MOST)]
    hazard = np.unique(np.concatenate([np.exp(log_hazard), -np.log1p(-jumps)]))
    survival = np.clip(-np.expm1(-hazard), LEAST, MOST)
    return hazard, survival, np.minimum.accumulate(law.quantile(survival))


def partial_means(
    law: Law, hazard: FloatArray, survival: FloatArray, x: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """E[X; X > x] and E[X; X <= x] at the levels."""
    log_hazard = np.log(hazard)
    half = 0.5 * np.diff(log_hazard)
    at = np.exp(log_hazard[:-1, None] + half[:, None] * (1.0 + _NODES))
    inside = np.clip(-np.expm1(-at), LEAST, MOST)
    density = at * np.exp(-at)
    pieces = half * ((law.quantile(inside) * density) @ _WEIGHTS)
    mean = law.expectation()
    below = np.append(np.cumsum(pieces[::-1])[::-1], 0.0) + x[-1] * (1.0 - MOST)
    above = np.append(0.0, np.cumsum(pieces)) + _beyond(mean - below[0], survival, x)
    return above, below


def _beyond(remainder: float, survival: FloatArray, x: FloatArray) -> float:
    """E[X; X > x] at the largest level, as if the tail went on as a power.

    remainder: the same as what the mean leaves, good where the tail is heavy.
    """
    if x[0] <= 0.0 or x[8] >= x[0] or x[8] <= 0.0:
        return float(x[0] * survival[0])
    alpha = np.log(survival[8] / survival[0]) / np.log(x[0] / x[8])
    if alpha < 1.5:
        return max(remainder, 0.0)
    return float(x[0] * survival[0] * alpha / (alpha - 1.0))


def is_constant(law: Law | None) -> bool:
    """Whether every value is the same, as near as doubles can tell."""
    if law is None:
        return True
    ends = law.quantile(np.array([LEAST, MOST]))
    return bool(ends[0] == ends[1])


def has_atoms(law: Law | None) -> bool:
    """Whether single values have a probability of their own."""
    if is_constant(law):
        return True
    assert law is not None
    value = law.knots()
    if value.size == 0:
        return False
    before = np.nextafter(value, -np.inf)
    own = _between(law, before, value)
    # A density that is infinite at an end falls off by less than that over the next doubles.
    beside = _between(law, np.nextafter(before, -np.inf), before)
    beside += _between(law, value, np.nextafter(value, np.inf))
    return bool(np.any((own > 1e-15) & (own > 100.0 * beside)))


def _between(law: Law, low: FloatArray, high: FloatArray) -> FloatArray:
    """P(low < X <= high), from the smaller tail."""
    upper = law.survival(low) - law.survival(high)
    lower = law.distribution(high) - law.distribution(low)
    return np.where(law.survival(high) < 0.5, upper, lower)


def constant_value(law: Law | None, otherwise: float) -> float:
    """The value of a law that is constant."""
    if law is None:
        return otherwise
    return float(law.quantile(np.array([0.5]))[0])


def reason_against(step: Law | None, stall: Law | None) -> str | None:
    """Why the law of base * C + D cannot be tabulated; None if it can.

    A time that is always the same is fine, and so is one without any value that has a
    probability of its own.
    """
    constant = is_constant(step), is_constant(stall)
    for name, law in (("step", step), ("stall", stall)):
        if law is not None and not np.isfinite(law.expectation()):
            return f"its {name} law has no finite mean"
    if all(constant) or not (has_atoms(step) and has_atoms(stall)):
        return None
    name = "stall" if constant[0] else "step"
    other = "" if any(constant) else ", and its stalls do too"
    return (
        f"its {name} law gives single values with a probability of their own{other}, so that "
        "several devices can be the last together"
    )


Indices = NDArray[np.intp]
