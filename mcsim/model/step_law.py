"""The law of the step time: last arrivals of the sites, delays of the network, overlap.

The sites are independent, but for the delay of the slowest link, which all of them wait for. Given
that one, a step is over by t if every site's last device is there by t and its part, sent on, is
too: P(step > t) = E[1 - prod_k (1 - P(R_k > t or (1 - overlap) R_k + X_k > t - ...))]. Both means,
over a site's own delays X and over that of the slowest link, are quadratures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mcsim.laws import Constant, FloatArray
from mcsim.model.arrival import LEAST, MOST, Indices
from mcsim.model.convolution import Quantiles, Scale, integral
from mcsim.model.crowd import LAST
from mcsim.model.curve_law import CurveLaw, law_of
from mcsim.model.delays import SHALLOWEST, always, landmarks, latest, slowest, sum_of_laws, total
from mcsim.model.maximum import MaximumLaw
from mcsim.model.plan import Barrier

_NEGLIGIBLE = 1e-10
_POINTS = 6


@dataclass(frozen=True, eq=False)
class StepLaw:
    """The distribution of the step time of one cluster, or of several, each as likely.

    Accurate to 1e-6, relative, in quantiles from 1e-6 to 1 - 1e-9 and in the mean.
    law: the same as a quantile function. has_variance: whether the variance is finite.
    """

    law: CurveLaw | Constant
    has_variance: bool

    @classmethod
    def of(cls, sites: Sequence[MaximumLaw], barrier: Barrier | None) -> StepLaw:
        """Of the laws of the last arrivals, in the order of the barrier's sites."""
        has_variance = all(site.has_variance for site in sites)
        if barrier is None:
            return cls(_last_of(sites), has_variance)
        has_variance &= all(delay.law.variance() < np.inf for delay in barrier.delays)
        return cls(_Meeting(sites, barrier).law(), has_variance)

    def quantile(self, p: FloatArray | float) -> FloatArray:
        """The time that a step takes at most with probability p, from 0 to 1; any shape, s.

        Of 1, the end of the law, or infinity if it has none.
        """
        p = np.asarray(p, dtype=np.float64)
        if not np.all((p >= 0.0) & (p <= 1.0)):
            raise ValueError("probabilities must be from 0 to 1")
        found = np.asarray(self.law.quantile(1.0 - p))
        if isinstance(self.law, CurveLaw):
            # Of a small survival, 1 - p is exact; of a small p, this is.
            with np.errstate(divide="ignore"):
                y = np.log(-np.log(p))
            found = self.law.curve.time(y.ravel()).reshape(p.shape)
            if not self.law.curve.ended:
                found = np.where(p < 1.0, found, np.inf)
        return found

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
            hazard = np.where(late < 0.5, -np.log1p(-np.minimum(late, 0.5)), -np.log(ready))
            return np.asarray(np.log(hazard))

    ends = np.array([law.law.quantile(np.array([MOST, LEAST])) for law in laws])
    atoms = np.concatenate([law.law.knots() for law in laws])
    atoms = np.concatenate([atoms, ends[:, 0], ends[:, 1]])
    low = float(np.nextafter(ends[:, 0].min(), -np.inf))
    mixed = law_of(log_hazard, low, float(ends[:, 1].max()), LAST, atoms)
    return StepLaw(mixed, all(law.has_variance for law in laws))


def _last_of(sites: Sequence[MaximumLaw]) -> CurveLaw | Constant:
    def log_hazard(time: FloatArray) -> FloatArray:
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(np.sum([site.hazard(time) for site in sites], axis=0)))

    ends = np.array([site.quantile(np.array([MOST, LEAST])) for site in sites])
    atoms = np.concatenate([[site.floor] for site in sites])
    low = float(np.nextafter(ends[:, 0].max(), -np.inf))
    return law_of(log_hazard, low, float(ends[:, 1].max()), LAST, atoms)


@dataclass(frozen=True, eq=False)
class _Site:
    """A site in the barrier.

    ready: the law of its last arrival, R. delay: of its own delays, X, s. share: 1 - overlap.
    after: s, what comes between its part being ready and the end of the step.
    """

    ready: MaximumLaw
    delay: Quantiles
    share: float
    after: float

    def late(self, time: FloatArray, wait: FloatArray) -> FloatArray:
        """P(R > time, or share * R + X + after + wait > time); shape (n,)."""
        room = time - self.after - wait
        delay, ready = always(self.delay), always(self.ready)
        if delay is not None and self.share > 0.0:
            return self.ready.survival(np.minimum(time, (room - delay) / self.share))
        if ready is not None:
            late = self.delay.survival(room - self.share * ready)
            return np.where(time < ready, 1.0, late)
        if self.share == 0.0:
            late, beyond = self.ready.survival(time), self.delay.survival(room)
            return late + (1.0 - late) * beyond
        return self._both(time, room)

    def _both(self, time: FloatArray, room: FloatArray) -> FloatArray:
        # What fits even behind the last moment hides every delay, and what does not, none.
        spare = room - self.share * time
        last = self.ready.survival(time)
        hidden = self.delay.survival(spare) <= _NEGLIGIBLE * last
        exposed = self.delay.distribution(spare) <= _NEGLIGIBLE
        late = np.where(hidden, last, self._sent.survival(room))
        between = np.flatnonzero(~(hidden | exposed))
        if between.size:
            late[between] = self._over_delays(time[between], room[between])
        return late

    def _over_delays(self, time: FloatArray, room: FloatArray) -> FloatArray:
        def late(delay: FloatArray, row: Indices) -> FloatArray:
            return self.ready.survival(np.minimum(time[row], (room[row] - delay) / self.share))

        ready, delay = self._scales
        most = np.full(time.shape, delay.value[-1])
        changes = room[:, None] - self.share * np.minimum(ready.landmarks(), time[:, None])
        beyond = LEAST * late(most, np.arange(time.size))
        return np.minimum(integral(delay, most, changes, late, _POINTS) + beyond, 1.0)

    @cached_property
    def _scales(self) -> tuple[Scale, Scale]:
        return Scale.of(self.ready), Scale.of(self.delay)

    @cached_property
    def _sent(self) -> Quantiles:
        """share * R + X."""
        return sum_of_laws(self.ready, self.share, self.delay)

    def sent_about(self, survival: FloatArray) -> FloatArray:
        """share * R + X + after, each at the same survival, s."""
        ready, delay = self.ready.quantile(survival), self.delay.quantile(survival)
        return self.share * ready + delay + self.after

    def landmarks(self) -> FloatArray:
        """Between which P(share * R + X + after > t) falls by a few e-folds, s."""
        return self.sent_about(_share_of(self._scales[0]))

    def spare(self, time: FloatArray) -> FloatArray:
        """The wait up to which a last arrival just at `time` is not too late, s."""
        return time - self.share * time - self.after - self.delay.quantile(np.array([0.5]))

    def landmarks_of_step(self, waits: FloatArray) -> FloatArray:
        """Where the law of the step may not be smooth because of this site, s.

        Where its last arrival is, or its part is there; and from where on delays can hide.
        """
        ready = landmarks(self.ready)
        after = self.after + _all(landmarks(self.delay), waits)
        hiding = after / (1.0 - self.share) if self.share < 1.0 else np.empty(0)
        return np.concatenate([ready, _all(self.share * ready, after), hiding])


class _Meeting:
    """The sites and what they wait for."""

    def __init__(self, sites: Sequence[MaximumLaw], barrier: Barrier) -> None:
        self.barrier = barrier
        down = max(barrier.down)
        delays = [(delay.site, slowest(delay)) for delay in barrier.delays]
        self.wait = latest([law for site, law in delays if site is None])
        self.sites = [
            _Site(
                ready,
                total([law for site, law in delays if site == index]),
                1.0 - barrier.overlap,
                up + barrier.across + down,
            )
            for index, (ready, up) in enumerate(zip(sites, barrier.up, strict=True))
        ]

    def law(self) -> CurveLaw | Constant:
        """The law of the step time."""
        both = np.array([MOST, LEAST])
        wait = self.wait.quantile(both)
        reach = [site.ready.quantile(both) for site in self.sites]
        reach += [site.sent_about(both) + wait for site in self.sites]
        low, high = (float(x) for x in np.max(reach, axis=0))
        waits = landmarks(self.wait)
        atoms = np.concatenate([site.landmarks_of_step(waits) for site in self.sites])
        before = float(np.nextafter(low, -np.inf))
        return law_of(self.log_hazard, before, high, SHALLOWEST, atoms)

    def log_hazard(self, time: FloatArray) -> FloatArray:
        """log(-log P(step <= time)); shape (n,)."""
        value = always(self.wait)
        if value is not None:
            late = self._late(time, np.full(time.shape, value))
        else:
            late = self._over_waits(time)
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(-np.log1p(-np.minimum(late, 1.0))))

    def _over_waits(self, time: FloatArray) -> FloatArray:
        scale = self._wait_scale

        def late(wait: FloatArray, row: Indices) -> FloatArray:
            when = np.broadcast_to(time[row], wait.shape)
            return self._late(when.ravel(), wait.ravel()).reshape(wait.shape)

        changes = [time[:, None] - site.landmarks() for site in self.sites]
        changes += [site.spare(time)[:, None] for site in self.sites]
        most = np.full(time.shape, scale.value[-1])
        beyond = LEAST * late(most, np.arange(time.size))
        return integral(scale, most, np.concatenate(changes, axis=1), late, _POINTS) + beyond

    def _late(self, time: FloatArray, wait: FloatArray) -> FloatArray:
        with np.errstate(divide="ignore"):
            ready = [np.log1p(-site.late(time, wait)) for site in self.sites]
            return np.asarray(-np.expm1(np.sum(ready, axis=0)))

    @cached_property
    def _wait_scale(self) -> Scale:
        return Scale.of(self.wait)


def _share_of(scale: Scale) -> FloatArray:
    return np.asarray(1.0 / (1.0 + np.exp(-scale.odds)))


def _all(one: FloatArray, other: FloatArray) -> FloatArray:
    return (one[:, None] + other).ravel()
