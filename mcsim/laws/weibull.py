"""The Weibull law. See Also: scipy.stats.weibull_min."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import gamma, gammaln

from mcsim import fields
from mcsim.laws.law import FloatArray, Law, as_array, law


@law("weibull", source="Johnson, Kotz & Balakrishnan 1994, ch. 21")
@dataclass(frozen=True)
class Weibull(Law):
    """P(X > x) = exp(-(x / scale)^shape): the weakest link; shape 1 is exponential."""

    scale: float = fields.quantity("exceeded with probability 1/e", "own", above=0.0)
    shape: float = fields.quantity(
        "below 1 a heavier tail than the exponential, above 1 a lighter one", None, above=0.0
    )

    def quantile(self, survival: FloatArray) -> FloatArray:
        return self.scale * (-np.log(as_array(survival))) ** (1.0 / self.shape)

    def survival(self, x: FloatArray) -> FloatArray:
        return np.exp(-self._hazard(x))

    def distribution(self, x: FloatArray) -> FloatArray:
        return -np.expm1(-self._hazard(x))

    def expectation(self) -> float:
        return float(self.scale * gamma(1.0 + 1.0 / self.shape))

    def variance(self) -> float:
        inverse = 1.0 / self.shape
        # Gamma(1 + 2/k) - Gamma(1 + 1/k)^2 would cancel where the shape is large.
        with np.errstate(over="ignore"):
            ratio = np.expm1(gammaln(1.0 + 2.0 * inverse) - 2.0 * gammaln(1.0 + inverse))
        mean = self.expectation()
        return float(mean * mean * ratio)

    def knots(self) -> FloatArray:
        return np.zeros(1)

    def _hazard(self, x: FloatArray) -> FloatArray:
        with np.errstate(over="ignore"):
            return np.asarray((np.maximum(as_array(x), 0.0) / self.scale) ** self.shape)
