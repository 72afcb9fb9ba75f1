"""Laws of the barrier's delays: the slowest of some participants, their sums and their maxima."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mcsim.laws import Constant, FloatArray, Law
from mcsim.laws.gamma import Gamma
from mcsim.model.arrival import NotExact
from mcsim.model.barrier import slowest_of
from mcsim.model.convolution import Scale, hazard_of_sum
from mcsim.model.curve_law import law_of
from mcsim.model.discrete import MOST_VALUES, is_discrete, last_of_discrete, sum_of_discrete
from mcsim.model.hazard import LEAST, MOST, Quantiles, has_atoms, jumps_of, probability_between
from mcsim.model.plan import Delay, Messages, Unit

QUADRATURE = 2.8, -41.0
"""Log hazards found by quadrature: survivals of 1 - 7e-8 to 1.6e-18. Its tails end where those of
its laws end, at 2^-65."""


@dataclass(frozen=True)
class Slowest:
    """The slowest of independent draws of one law: F^n."""

    law: Quantiles
    participants: int

    def quantile(self, survival: FloatArray) -> FloatArray:
        return self.law.quantile(slowest_of(survival, self.participants))

    def survival(self, x: FloatArray) -> FloatArray:
        return self._of_all(self.law.survival(x))

    def distribution(self, x: FloatArray) -> FloatArray:
        return np.asarray(self.law.distribution(x) ** self.participants)

    def jumps(self) -> FloatArray:
        return self._of_all(self.law.jumps())

    def knots(self) -> FloatArray:
        return self.law.knots()

    def _of_all(self, survival: FloatArray) -> FloatArray:
        with np.errstate(divide="ignore"):
            # The weights of a mixture may sum up to a last bit more than 1.
            certain = np.minimum(survival, 1.0)
            return np.asarray(-np.expm1(self.participants * np.log1p(-certain)))


@dataclass(frozen=True)
class Moved:
    """X + shift."""

    law: Quantiles
    shift: float

    def quantile(self, survival: FloatArray) -> FloatArray:
        return self.law.quantile(survival) + self.shift

    def survival(self, x: FloatArray) -> FloatArray:
        return self.law.survival(x - self.shift)

    def distribution(self, x: FloatArray) -> FloatArray:
        return self.law.distribution(x - self.shift)

    def jumps(self) -> FloatArray:
        return self.law.jumps()

    def knots(self) -> FloatArray:
        return self.law.knots() + self.shift


@lru_cache(maxsize=64)
def slowest(messages: Messages) -> Quantiles:
    """The law of the slowest of some like messages, s.

    Raises NotExact where delays that are shared would add up to too many single values.
    """
    law = _slowest_in(messages, messages.law)
    value = always(law)
    return law if value is None else Constant(value)


def _slowest_in(unit: Messages | Unit, own: Law) -> Quantiles:
    """Of the messages of a unit, without the delay that all of them share.

    From inside: what a unit's messages share is added to the slowest of them, and the slowest unit
    has the law of the maximum again.
    """
    found: dict[Quantiles, int] = {own: unit.participants} if unit.participants else {}
    for inner, number in unit.units:
        inside = _slowest_in(inner, own)
        _require_few(inside, inner.law)
        law = _sum(inside, inner.law)
        found[law] = found.get(law, 0) + number
    laws = [Slowest(law, number) for law, number in found.items()]
    return laws[0] if len(laws) == 1 else _last_of(laws)


def _require_few(one: Quantiles, other: Quantiles) -> None:
    """Raise NotExact where two laws add up to more single values than a curve can tell apart."""
    number, others = _single_values(one), _single_values(other)
    if min(number, others) > 1 and number * others > MOST_VALUES:
        raise NotExact(
            f"two delays that add up take {number:,} and {others:,} single values with a"
            f" probability of their own; their sum may take {MOST_VALUES} of them"
        )


def _single_values(law: Quantiles) -> int:
    """How many values have a probability that is more than what rounding may make of a curve."""
    values = landmarks(law)
    own = probability_between(law, np.nextafter(values, -np.inf), values)
    return int(np.count_nonzero(own > 1e-9))


@lru_cache(maxsize=64)
def law_of_delay(delay: Delay) -> Quantiles:
    """The law of a delay over all of its rounds, s; by doubling their number.

    Raises NotExact where the sum would have atoms.
    """
    one, rounds = latest([slowest(messages) for messages in delay.messages]), delay.rounds
    if rounds > 1 and always(one) is None and has_atoms(one):
        raise NotExact(
            "the delay of a message takes single values with a probability of their own, and"
            f" {rounds:,} rounds of them add up"
        )
    return sum_of_many(one, rounds)


def sum_of_many(law: Quantiles, number: int) -> Quantiles:
    """The law of the sum of so many independent draws of a law, by doubling their number."""
    found: Quantiles = Constant(0.0)
    while number:
        if number & 1:
            found = _sum(found, law)
        number >>= 1
        if number:
            law = _twice(law)
    return found


def law_of_rounds(delay: Delay) -> Quantiles:
    """The law of a delay over all of its rounds, s; where it has none that can be tabulated, a
    gamma law of the same mean and variance, which sums of many rounds approach."""
    try:
        return law_of_delay(delay)
    except NotExact:
        one = latest([slowest(messages) for messages in delay.messages])
    odds = np.linspace(-44.0, 44.0, 20_001)
    survival = 1.0 / (1.0 + np.exp(odds))
    weight = survival * (1.0 - survival)
    weight /= weight.sum()
    value = one.quantile(survival)
    mean = float(weight @ value)
    deviation = float(np.sqrt(weight @ (value - mean) ** 2))
    return Gamma(delay.rounds * mean, deviation / (mean * np.sqrt(delay.rounds)))


def _twice(law: Quantiles) -> Quantiles:
    value = always(law)
    return sum_of_laws(law, 1.0, law) if value is None else Constant(2.0 * value)


def always(law: Quantiles) -> float | None:
    """The value of a law that has only one."""
    low, high = (float(x) for x in law.quantile(np.array([MOST, LEAST])))
    return low if low == high else None


def total(laws: Sequence[Quantiles]) -> Quantiles:
    """The law of the sum of independent delays; of none, 0."""
    found: Quantiles = Constant(0.0)
    for law in laws:
        found = _sum(found, law)
    return found


def latest(laws: Sequence[Quantiles]) -> Quantiles:
    """The law of the maximum of independent delays and 0."""
    if not laws:
        return Constant(0.0)
    if len(laws) == 1 and laws[0].survival(np.array([-5e-324]))[0] == 1.0:
        return laws[0]
    return _last_of([Constant(0.0), *laws])


def _last_of(laws: Sequence[Quantiles]) -> Quantiles:
    """The law of the maximum of independent delays."""
    values = [landmarks(law) for law in laws]
    if all(is_discrete(*both) for both in zip(laws, values, strict=True)):
        return last_of_discrete(laws, values)

    def log_hazard(x: FloatArray) -> FloatArray:
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(sum(-np.log1p(-law.survival(x)) for law in laws)))

    ends = np.array([law.quantile(np.array([MOST, LEAST])) for law in laws])
    low, high = (float(x) for x in ends.max(axis=0))
    return law_of(log_hazard, low, high, QUADRATURE, np.concatenate(values))


def landmarks(law: Quantiles) -> FloatArray:
    """Where a law's distribution function may jump or have a kink."""
    value = always(law)
    if value is not None:
        return np.array([value])
    jumps = law.quantile(jumps_of(law, MOST_VALUES))
    return _apart(np.concatenate([np.sort(law.knots())[-MOST_VALUES:], jumps]))


def _apart(values: FloatArray) -> FloatArray:
    """Values, ascending; of those that rounding alone tells apart, the last."""
    found = np.unique(values)
    grain = 16.0 * np.spacing(np.abs(found).max(initial=0.0))
    return np.asarray(found[np.diff(found, append=np.inf) > grain])


def _sum(one: Quantiles, other: Quantiles) -> Quantiles:
    for fixed, law in ((one, other), (other, one)):
        value = always(fixed)
        if value is not None:
            return law if value == 0.0 else _moved(law, value)
    values, others = landmarks(one), landmarks(other)
    few = values.size * others.size <= MOST_VALUES
    if few and is_discrete(one, values) and is_discrete(other, others):
        return sum_of_discrete(one, values, other, others)
    return sum_of_laws(one, 1.0, other)


def _moved(law: Quantiles, shift: float) -> Quantiles:
    value = always(law)
    return Moved(law, shift) if value is None else Constant(value + shift)


def sum_of_laws(one: Quantiles, factor: float, other: Quantiles) -> Quantiles:
    """The law of factor * X + Y, independent; factor above 0."""
    scales = Scale.of(one), Scale.of(other)

    def log_hazard(x: FloatArray) -> FloatArray:
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(hazard_of_sum(*scales, factor, x)))

    both = np.array([MOST, LEAST])
    low, high = (float(x) for x in factor * one.quantile(both) + other.quantile(both))
    # Where both jump, so does the sum.
    atoms = _apart((factor * landmarks(one)[:, None] + landmarks(other)).ravel())
    return law_of(log_hazard, low, high, QUADRATURE, atoms[-MOST_VALUES:])
