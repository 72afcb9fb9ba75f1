"""The Pareto law. See Also: scipy.stats.pareto."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mcsim import fields
from mcsim.laws.law import FloatArray, Law, as_array, law


@law("pareto", source="of the first kind; Johnson, Kotz & Balakrishnan 1994, ch. 20")
@dataclass(frozen=True)
class Pareto(Law):
    """P(X > x) = (scale / x)^alpha: what has lasted long will last long."""

    scale: float = fields.quantity("the smallest value", "own", above=0.0)
    alpha: float = fields.quantity(
        "exponent of the tail", None, above=1.0, reason="or the mean is infinite"
    )

    def quantile(self, survival: FloatArray) -> FloatArray:
        return self.scale * as_array(survival) ** (-1.0 / self.alpha)

    def survival(self, x: FloatArray) -> FloatArray:
        return np.asarray((self.scale / np.maximum(as_array(x), self.scale)) ** self.alpha)

    def distribution(self, x: FloatArray) -> FloatArray:
        beyond = np.maximum(as_array(x) - self.scale, 0.0)
        return -np.expm1(-self.alpha * np.log1p(beyond / self.scale))

    def expectation(self) -> float:
        return self.scale * (self.alpha / (self.alpha - 1.0))

    def variance(self) -> float:
        if self.alpha <= 2.0:
            return float("inf")
        a = self.alpha
        return self.scale * self.scale * (a / ((a - 1.0) ** 2 * (a - 2.0)))

    def knots(self) -> FloatArray:
        return np.array([self.scale])
