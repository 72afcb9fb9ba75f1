"""The normal law and the lognormal, its exponential.

See Also: scipy.stats.norm, scipy.stats.lognorm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import ndtr, ndtri

from mcsim import fields
from mcsim.laws.law import FloatArray, Law, LawFault, as_array, law
from mcsim.laws.simple import step_down

SOURCE = "Johnson, Kotz & Balakrishnan 1994, ch. "


@law("normal", source=f"{SOURCE}13; quantile: Cephes ndtri")
@dataclass(frozen=True)
class Normal(Law):
    """The sum of many small causes; sd = 0 is the constant `mean`.

    Where the law crosses zero the accuracy is relative to |mean| + sd.
    """

    mean: float = fields.quantity("the mean", "own")
    sd: float = fields.quantity("the standard deviation", "own", at_least=0.0)

    def quantile(self, survival: FloatArray) -> FloatArray:
        return np.asarray(self.mean - self.sd * ndtri(as_array(survival)))

    def survival(self, x: FloatArray) -> FloatArray:
        if self.sd == 0.0:
            return step_down(x, self.mean)
        return np.asarray(ndtr((self.mean - as_array(x)) / self.sd))

    def distribution(self, x: FloatArray) -> FloatArray:
        if self.sd == 0.0:
            return 1.0 - step_down(x, self.mean)
        return np.asarray(ndtr((as_array(x) - self.mean) / self.sd))

    def expectation(self) -> float:
        return self.mean

    def variance(self) -> float:
        return self.sd * self.sd

    def knots(self) -> FloatArray:
        return np.array([self.mean] if self.sd == 0.0 else [])


@law("lognormal", source=f"{SOURCE}14; quantile: Cephes ndtri")
@dataclass(frozen=True)
class LogNormal(Law):
    """The product of many small causes; cv = 0 or sigma = 0 is a constant.

    Given by its mean and coefficient of variation (sd / mean), or by its median and the standard
    deviation of its logarithm.
    """

    forms: ClassVar[tuple[tuple[str, ...], ...]] = (("mean", "cv"), ("median", "sigma"))

    mean: float | None = fields.quantity("the mean", "own", default=None, above=0.0)
    cv: float | None = fields.quantity(
        "coefficient of variation, sd / mean", None, default=None, at_least=0.0, at_most=1e100
    )
    median: float | None = fields.quantity("the median", "own", default=None, above=0.0)
    sigma: float | None = fields.quantity(
        "standard deviation of the logarithm", None, default=None, at_least=0.0
    )

    def quantile(self, survival: FloatArray) -> FloatArray:
        median, sigma = self._median_and_sigma()
        return np.asarray(median * np.exp(-sigma * ndtri(as_array(survival))))

    def survival(self, x: FloatArray) -> FloatArray:
        median, sigma = self._median_and_sigma()
        return step_down(x, median) if sigma == 0.0 else np.asarray(ndtr(-self._score(x)))

    def distribution(self, x: FloatArray) -> FloatArray:
        median, sigma = self._median_and_sigma()
        return 1.0 - step_down(x, median) if sigma == 0.0 else np.asarray(ndtr(self._score(x)))

    def expectation(self) -> float:
        if self.mean is not None:
            return self.mean
        median, sigma = self._median_and_sigma()
        with np.errstate(over="ignore"):
            return float(median * np.exp(0.5 * sigma * sigma))

    def variance(self) -> float:
        mean = self.expectation()
        if self.cv is not None:
            sd = mean * self.cv
            return sd * sd
        _, sigma = self._median_and_sigma()
        with np.errstate(over="ignore"):
            return float(np.square(mean) * np.expm1(sigma * sigma))

    def knots(self) -> FloatArray:
        median, sigma = self._median_and_sigma()
        return np.array([median if sigma == 0.0 else 0.0])

    def _median_and_sigma(self) -> tuple[float, float]:
        for key, message in self.faults():
            raise LawFault(key, message)
        if self.median is not None and self.sigma is not None:
            return self.median, self.sigma
        assert self.mean is not None
        assert self.cv is not None
        square = self.cv * self.cv
        return self.mean / math.sqrt(1.0 + square), math.sqrt(math.log1p(square))

    def _score(self, x: FloatArray) -> FloatArray:
        median, sigma = self._median_and_sigma()
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(np.maximum(as_array(x), 0.0) / median) / sigma)
