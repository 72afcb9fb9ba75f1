"""The law of the step time behind a barrier: last arrivals, delays of the network, overlap.

The sites are independent, but for the delay of the slowest link, which all of them wait for. Given
that one, Y, a step is over by t if at every site the last device is there by t, R <= t, and what
it sends on is too: (1 - overlap) R + X + Y <= t - up - across - down, X being the site's own
delays. So P(step > t) = E[1 - prod_k (1 - P(R_k > t, or (1 - overlap) R_k + X_k > ...))], in which
both means, over Y and over each X, are quadratures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mcsim.laws import Constant, FloatArray
from mcsim.model.convolution import Scale, integral
from mcsim.model.curve_law import CurveLaw, law_of
from mcsim.model.delays import (
    QUADRATURE,
    always,
    landmarks,
    law_of_delay,
    sum_of_laws,
    total,
)
from mcsim.model.hazard import LEAST, MOST, Indices, Quantiles
from mcsim.model.maximum import MaximumLaw
from mcsim.model.plan import Barrier

_NEGLIGIBLE = 1e-10
_POINTS = 6


def law_of_meeting(sites: Sequence[MaximumLaw], barrier: Barrier) -> CurveLaw | Constant:
    """The law of the step time, s; sites: in the order of the barrier's."""
    return Meeting(sites, barrier).law()


@dataclass(frozen=True, eq=False)
class Site:
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
        ready, delay = self._fixed
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
        changes = room[:, None] - self.share * np.minimum(ready.landmarks()[::2], time[:, None])
        beyond = LEAST * late(most, np.arange(time.size))
        return np.minimum(integral(delay, most, changes, late, _POINTS) + beyond, 1.0)

    @cached_property
    def _fixed(self) -> tuple[float | None, float | None]:
        """The values of R and X, if each has only one, s."""
        return always(self.ready), always(self.delay)

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
        return self.sent_about(_share_of(self._scales[0]))[::2]

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


class Meeting:
    """The sites and what they wait for."""

    def __init__(self, sites: Sequence[MaximumLaw], barrier: Barrier) -> None:
        down = max(barrier.down)
        delays = [(delay.site, law_of_delay(delay)) for delay in barrier.delays]
        self.wait = total([law for site, law in delays if site is None])
        self.sites = [
            Site(
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
        return law_of(self.log_hazard, before, high, QUADRATURE, atoms)

    def log_hazard(self, time: FloatArray) -> FloatArray:
        """log(-log P(step <= time)); shape (n,)."""
        if self._fixed is None:
            late = self._over_waits(time)
        else:
            late = self._late(time, np.full(time.shape, self._fixed))
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
    def _fixed(self) -> float | None:
        """The wait, if it is always the same, s."""
        return always(self.wait)

    @cached_property
    def _wait_scale(self) -> Scale:
        return Scale.of(self.wait)


def _share_of(scale: Scale) -> FloatArray:
    return np.asarray(1.0 / (1.0 + np.exp(-scale.odds)))


def _all(one: FloatArray, other: FloatArray) -> FloatArray:
    return (one[:, None] + other).ravel()
