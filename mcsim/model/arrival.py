"""When one device arrives: base * C + D, where only one of the two varies from step to step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from mcsim.laws import FloatArray, Law
from mcsim.model.excess import excess_of
from mcsim.model.hazard import breaks_of, end_of, has_atoms, hazard_of, is_constant


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
