"""Sums over steps: what is kept of a run, whatever its length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mcsim.engine.histogram import Histogram
from mcsim.engine.sampled import Steps
from mcsim.laws import FloatArray
from mcsim.model.plan import Plan

BLOCK = 4096
"""Steps that are summed together. Fixed, so that sums do not depend on tiles or threads."""


@dataclass(frozen=True)
class Moments:
    """Central moments of the columns of a table: sums of (x - mean)^k, each shape (columns,).

    Source of `joined`: Pébay, "Formulas for robust, one-pass parallel computation of covariances
    and arbitrary-order statistical moments", Sandia SAND2008-6212 (2008), eqs. 2.1 to 2.5.
    """

    count: int
    mean: FloatArray
    second: FloatArray
    third: FloatArray
    fourth: FloatArray

    @classmethod
    def of(cls, values: FloatArray) -> Moments:
        """values: shape (rows, columns), at least one row."""
        mean = values.mean(axis=0)
        centred = values - mean
        square = centred * centred
        return cls(
            len(values),
            mean,
            square.sum(axis=0),
            (square * centred).sum(axis=0),
            (square * square).sum(axis=0),
        )

    def joined(self, other: Moments) -> Moments:
        """The moments of both tables together."""
        a, b = self.count, other.count
        n = a + b
        d = other.mean - self.mean
        return Moments(
            n,
            self.mean + d * (b / n),
            self.second + other.second + d**2 * (a * b / n),
            self.third
            + other.third
            + d**3 * (a * b * (a - b) / n**2)
            + 3 * d * (a * other.second - b * self.second) / n,
            self.fourth
            + other.fourth
            + d**4 * (a * b * (a**2 - a * b + b**2) / n**3)
            + 6 * d**2 * (a**2 * other.second + b**2 * self.second) / n**2
            + 4 * d * (a * other.third - b * self.third) / n,
        )

    def variance(self) -> FloatArray:
        """The unbiased variance of each column; not a number for a single row."""
        return self.second / (self.count - 1) if self.count > 1 else np.full_like(self.mean, np.nan)


@dataclass(frozen=True)
class ReplicateTally:
    """What is kept of the steps of one replicate.

    moments: columns step time, compute time and exposed communication (s), then the wait
        fraction of each group and the compute time (s) of each site.
    shortest, longest: s. culprits: shape (groups,), steps whose last arrival was in the group.
    site_culprits: shape (sites,). step_time: shape (steps,), s, if kept.
    """

    moments: Moments
    shortest: float
    longest: float
    histogram: Histogram
    culprits: NDArray[np.int64]
    site_culprits: NDArray[np.int64]
    step_time: FloatArray | None


@dataclass(frozen=True)
class Tally:
    """All replicates of a run, in order."""

    plan: Plan
    replicates: Sequence[ReplicateTally]


class Accumulator:
    """Takes the steps of one replicate in order and keeps their sums."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._moments: Moments | None = None
        self._shortest, self._longest = np.inf, -np.inf
        self._histogram: Histogram | None = None
        self._culprits = np.zeros(len(plan.groups), np.int64)
        self._site_culprits = np.zeros(len(plan.sites), np.int64)
        self._times: list[FloatArray] = []
        self._rest = np.empty((0, 3 + len(plan.groups) + len(plan.sites)))

    def add(self, steps: Steps) -> None:
        """Take the steps that follow those taken before."""
        plan = self._plan
        last_site = steps.last_site
        culprit = steps.culprit[np.arange(last_site.size), last_site]
        self._culprits += np.bincount(culprit, minlength=len(plan.groups))
        self._site_culprits += np.bincount(last_site, minlength=len(plan.sites))
        self._shortest = min(self._shortest, float(steps.time.min()))
        self._longest = max(self._longest, float(steps.time.max()))
        if plan.keep_steps:
            self._times.append(steps.time)
        last = steps.ready.max(axis=1)
        # Nobody is later than the last, but the mean of many equal times rounds.
        waiting = np.maximum(last[:, None] - steps.busy, 0.0)
        whole = steps.time[:, None]
        wait = np.divide(waiting, whole, out=np.zeros_like(waiting), where=whole != 0)
        row = np.column_stack([steps.time, last, steps.time - last, wait, steps.ready])
        self._rest = np.concatenate([self._rest, row])
        while len(self._rest) >= BLOCK:
            self._join(self._rest[:BLOCK])
            self._rest = self._rest[BLOCK:]

    def _join(self, rows: FloatArray) -> None:
        # A sum of a column depends on the layout of the memory; a copy gives it always the same.
        moments = Moments.of(np.asfortranarray(rows))
        histogram = Histogram.of(rows[:, 0])
        self._moments = self._moments.joined(moments) if self._moments else moments
        self._histogram = self._histogram.joined(histogram) if self._histogram else histogram

    def tally(self) -> ReplicateTally:
        """What all the steps taken come to."""
        if len(self._rest):
            self._join(self._rest)
            self._rest = self._rest[:0]
        assert self._moments is not None
        assert self._histogram is not None
        return ReplicateTally(
            self._moments,
            self._shortest,
            self._longest,
            self._histogram,
            self._culprits,
            self._site_culprits,
            np.concatenate(self._times) if self._plan.keep_steps else None,
        )
