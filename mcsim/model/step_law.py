"""The law of the step time, of one cluster or of any of several.

See Also: mcsim.model.barrier.step_end, which ends a step that is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mcsim.laws import Constant, FloatArray
from mcsim.model.crowd import FIRST, LAST
from mcsim.model.curve_law import CurveLaw, law_of
from mcsim.model.hazard import LEAST, MOST, hazard_from
from mcsim.model.maximum import MaximumLaw
from mcsim.model.meeting import law_of_meeting
from mcsim.model.plan import Barrier


@dataclass(frozen=True, eq=False)
class StepLaw:
    """The distribution of the step time of one cluster, or of several, each as likely.

    Accurate to 1e-6, relative, in quantiles from 1e-6 to 1 - 1e-9 and in the mean.
    law: the same as a quantile function. has_variance: whether the variance is finite.
    """

    law: CurveLaw | Constant
    has_variance: bool

    def __repr__(self) -> str:
        p99, p999 = self.quantile(np.array([0.99, 0.999]))
        return f"StepLaw(mean {self.mean():.6g} s, p99 {p99:.6g} s, p99.9 {p999:.6g} s)"

    @classmethod
    def of(cls, sites: Sequence[MaximumLaw], barrier: Barrier | None) -> StepLaw:
        """Of the laws of the last arrivals, in the order of the barrier's sites."""
        has_variance = all(site.has_variance for site in sites)
        if barrier is None:
            return cls(_last_of(sites), has_variance)
        has_variance &= all(law.variance() < np.inf for law in barrier.delay_laws)
        return cls(law_of_meeting(sites, barrier), has_variance)

    def quantile(self, p: FloatArray | float) -> FloatArray:
        """The time that a step takes at most with probability p, from 0 to 1; any shape, s.

        Of 1, the end of the law, or infinity if it has none.
        """
        p = np.asarray(p, dtype=np.float64)
        if not np.all((p >= 0.0) & (p <= 1.0)):
            raise ValueError("probabilities must be from 0 to 1")
        if isinstance(self.law, Constant):
            return self.law.quantile(p)
        curve = self.law.curve
        with np.errstate(divide="ignore"):
            y = np.log(-np.log(p))
        found = curve.time(y.ravel()).reshape(p.shape)
        return found if curve.ended else np.where(p < 1.0, found, np.inf)

    def survival(self, time: FloatArray | float) -> FloatArray:
        """P(step > time); any shape."""
        return self.law.survival(np.asarray(time, dtype=np.float64))

    def distribution(self, time: FloatArray | float) -> FloatArray:
        """P(step <= time); any shape."""
        return self.law.distribution(np.asarray(time, dtype=np.float64))

    def density(self, time: FloatArray | float) -> FloatArray:
        """The probability per second; any shape, 1/s. Where single values have a probability of
        their own, it is not in the density."""
        time = np.asarray(time, dtype=np.float64)
        if isinstance(self.law, Constant):
            return np.zeros(time.shape)
        return self.law.curve.density(time.ravel()).reshape(time.shape)

    def mean(self) -> float:
        """The mean step time, s."""
        if isinstance(self.law, Constant):
            return self.law.value
        return self.law.curve.mean_above(-np.inf)

    def std(self) -> float:
        """The standard deviation, s; infinite where the law has none."""
        if isinstance(self.law, Constant):
            return 0.0
        if not self.has_variance:
            return float("inf")
        return float(np.sqrt(self.law.curve.spread(self.mean())))


def mixture_of(laws: Sequence[StepLaw]) -> StepLaw:
    """The law of a step of any of several clusters, each as likely."""
    if len(laws) == 1:
        return laws[0]

    def log_hazard(time: FloatArray) -> FloatArray:
        late = np.mean([law.survival(time) for law in laws], axis=0)
        ready = np.mean([law.distribution(time) for law in laws], axis=0)
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(hazard_from(late, ready)))

    ends = np.array([law.law.quantile(np.array([MOST, LEAST])) for law in laws])
    atoms = np.concatenate([law.law.knots() for law in laws])
    atoms = np.concatenate([atoms, ends[:, 0], ends[:, 1]])
    low = float(np.nextafter(ends[:, 0].min(), -np.inf))
    mixed = law_of(log_hazard, low, float(ends[:, 1].max()), (LAST, FIRST), atoms)
    return StepLaw(mixed, all(law.has_variance for law in laws))


def _last_of(sites: Sequence[MaximumLaw]) -> CurveLaw | Constant:
    def log_hazard(time: FloatArray) -> FloatArray:
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(np.sum([site.hazard(time) for site in sites], axis=0)))

    ends = np.array([site.quantile(np.array([MOST, LEAST])) for site in sites])
    atoms = np.concatenate([[site.floor] for site in sites])
    low = float(np.nextafter(ends[:, 0].max(), -np.inf))
    return law_of(log_hazard, low, float(ends[:, 1].max()), (LAST, FIRST), atoms)
