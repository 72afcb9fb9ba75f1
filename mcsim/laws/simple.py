"""The laws that need no special function: constant, uniform, exponential.

See Also: scipy.stats.uniform, scipy.stats.expon.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from mcsim import fields
from mcsim.laws.law import FloatArray, Law, as_array, law


def step_down(x: FloatArray, value: float) -> FloatArray:
    """P(X > x) of the law that always gives `value`."""
    return np.asarray(np.less(x, value), dtype=np.float64)


@law("constant", source="every value is the same")
@dataclass(frozen=True)
class Constant(Law):
    """The same value, always."""

    value: float = fields.quantity("the value", "own")

    def quantile(self, survival: FloatArray) -> FloatArray:
        return np.full(np.shape(survival), self.value, dtype=np.float64)

    def survival(self, x: FloatArray) -> FloatArray:
        return step_down(x, self.value)

    def distribution(self, x: FloatArray) -> FloatArray:
        return np.asarray(np.greater_equal(x, self.value), dtype=np.float64)

    def expectation(self) -> float:
        return self.value

    def variance(self) -> float:
        return 0.0

    def knots(self) -> FloatArray:
        return np.array([self.value])


@law("uniform", source="Johnson, Kotz & Balakrishnan 1995, ch. 26")
@dataclass(frozen=True)
class Uniform(Law):
    """Every value between `low` and `high` is as likely, and no other occurs."""

    low: float = fields.quantity("the smallest value", "own")
    high: float = fields.quantity("the largest value", "own")

    def quantile(self, survival: FloatArray) -> FloatArray:
        survival = as_array(survival)
        width = self.high - self.low
        # Counted from the nearer end, so that both ends keep their digits; 1 - s is exact from
        # 1/2 up. The middle bounds the upper half, or rounding could let it dip below the lower.
        from_low = self.low + width * (1.0 - survival)
        from_high = np.maximum(self.high - width * survival, self.low + width * 0.5)
        return np.where(survival < 0.5, from_high, from_low)

    def survival(self, x: FloatArray) -> FloatArray:
        if self.low == self.high:
            return step_down(x, self.low)
        return np.clip((self.high - as_array(x)) / (self.high - self.low), 0.0, 1.0)

    def distribution(self, x: FloatArray) -> FloatArray:
        if self.low == self.high:
            return 1.0 - step_down(x, self.low)
        return np.clip((as_array(x) - self.low) / (self.high - self.low), 0.0, 1.0)

    def expectation(self) -> float:
        return 0.5 * self.low + 0.5 * self.high

    def variance(self) -> float:
        width = self.high - self.low
        return width * width / 12.0

    def knots(self) -> FloatArray:
        return np.array([self.low, self.high])

    def faults(self) -> Iterable[tuple[str, str]]:
        if self.low > self.high:
            yield "low", f"{self.low} must not be above high, {self.high}"


@law("exponential", source="memoryless; Johnson, Kotz & Balakrishnan 1994, ch. 19")
@dataclass(frozen=True)
class Exponential(Law):
    """What remains to wait is the same law however long one has waited; mean 0 is always 0."""

    mean: float = fields.quantity("the mean", "own", at_least=0.0)

    def quantile(self, survival: FloatArray) -> FloatArray:
        return self.mean * -np.log(as_array(survival))

    def survival(self, x: FloatArray) -> FloatArray:
        if self.mean == 0.0:
            return step_down(x, 0.0)
        return np.exp(-np.maximum(as_array(x), 0.0) / self.mean)

    def distribution(self, x: FloatArray) -> FloatArray:
        if self.mean == 0.0:
            return 1.0 - step_down(x, 0.0)
        return -np.expm1(-np.maximum(as_array(x), 0.0) / self.mean)

    def expectation(self) -> float:
        return self.mean

    def variance(self) -> float:
        return self.mean * self.mean

    def knots(self) -> FloatArray:
        return np.zeros(1)
