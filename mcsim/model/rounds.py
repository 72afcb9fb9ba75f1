"""Rounds of several steps between two collectives: local SGD and DiLoCo.

A device does the inner steps of a round one after the other and waits for nobody in between. So a
round takes it the sum of its times: what is persistent counts in each, and what varies from step to
step is averaged. Its law is that of the sum of as many independent draws. Sources: Stich 2019,
"Local SGD converges fast and communicates little"; Douillard et al. 2023, "DiLoCo".
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

from mcsim.errors import Problem
from mcsim.laws import Constant, Exponential, FloatArray, Gamma, Law, Normal
from mcsim.model.arrival import NotExact
from mcsim.model.delays import sum_of_many
from mcsim.model.hazard import Quantiles, has_atoms
from mcsim.model.plan import Group
from mcsim.scenario import Scenario


@lru_cache(maxsize=64)
def mean_of(law: Law, number: int) -> Law:
    """The law of the mean of so many independent draws.

    Raises NotExact where it would have single values with a probability of their own.
    """
    if number == 1 or isinstance(law, Constant):
        return law
    root = math.sqrt(number)
    if isinstance(law, Normal):
        return Normal(law.mean, law.sd / root)
    if isinstance(law, Gamma):
        return Gamma(law.mean, law.cv / root)
    if isinstance(law, Exponential):
        return Gamma(law.mean, 1.0 / root)
    MeanOf(law, number).sum  # noqa: B018 - refused now, not in the middle of a run
    return MeanOf(law, number)


@dataclass(frozen=True)
class MeanOf(Law):
    """The mean of `number` independent draws of a law, by the tabulated law of their sum.

    Accurate to a millionth of the spread of the law.
    """

    law: Law
    number: int

    name = "mean of draws"
    source = "mcsim.model.convolution"

    @property
    def sum(self) -> Quantiles:
        """The law of the sum."""
        return _sum(self.law, self.number)

    def quantile(self, survival: FloatArray) -> FloatArray:
        return self.sum.quantile(survival) / self.number

    def survival(self, x: FloatArray) -> FloatArray:
        return self.sum.survival(x * self.number)

    def distribution(self, x: FloatArray) -> FloatArray:
        return self.sum.distribution(x * self.number)

    def expectation(self) -> float:
        return self.law.expectation()

    def variance(self) -> float:
        return self.law.variance() / self.number

    def jumps(self) -> FloatArray:
        return self.sum.jumps()

    def knots(self) -> FloatArray:
        # Of the sum only the ends: nothing between them has a probability of its own.
        ends = self.law.knots()
        return ends[[ends.argmin(), ends.argmax()]] if ends.size else ends


@lru_cache(maxsize=64)
def _sum(law: Law, number: int) -> Quantiles:
    if has_atoms(law):
        raise NotExact("there are single values with a probability of their own")
    return sum_of_many(law, number)


def of_rounds(scenario: Scenario, index: int, group: Group) -> Group:
    """The group whose step is a round. Raises ScenarioError where it cannot be."""
    number = scenario.sync.steps_averaged
    if number == 1:
        return group
    own = scenario.fleet[index].jitter

    def path(key: str) -> str:
        is_own = own is not None and getattr(own, key) is not None
        return f"fleet[{index}].jitter.{key}" if is_own else f"jitter.{key}"

    if group.correlation > 0.0:
        message = "is not available with inner steps yet, which all draw anew"
        raise scenario.error([Problem(path("correlation"), message)])
    step = _averaged(scenario, path("step"), group.step, number)
    stall = _averaged(scenario, path("stall"), group.stall, number)
    if stall is not None:
        stall = Multiple(stall, number)
    return replace(group, compute=group.compute * number, step=step, stall=stall)


def _averaged(scenario: Scenario, path: str, law: Law | None, number: int) -> Law | None:
    try:
        return None if law is None else mean_of(law, number)
    except NotExact as impossible:
        message = f"{number:,} inner steps have no law that can be tabulated: {impossible};"
        message += " take a law without them, as a lognormal one of the same mean and cv"
        raise scenario.error([Problem(path, message)]) from None


@dataclass(frozen=True)
class Multiple(Law):
    """A law times a whole number."""

    law: Law
    factor: int

    name = "multiple"
    source = "its law"

    def quantile(self, survival: FloatArray) -> FloatArray:
        return self.law.quantile(survival) * self.factor

    def survival(self, x: FloatArray) -> FloatArray:
        return self.law.survival(x / self.factor)

    def distribution(self, x: FloatArray) -> FloatArray:
        return self.law.distribution(x / self.factor)

    def expectation(self) -> float:
        return self.law.expectation() * self.factor

    def variance(self) -> float:
        return self.law.variance() * self.factor**2

    def jumps(self) -> FloatArray:
        return self.law.jumps()

    def knots(self) -> FloatArray:
        return self.law.knots() * self.factor
