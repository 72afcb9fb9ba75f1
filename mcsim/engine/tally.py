"""Sums over steps: what is kept of a run, whatever its length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mcsim.engine.blocking import Blocking
from mcsim.engine.histogram import Histogram
from mcsim.engine.runs import Runs, culprits
from mcsim.engine.steps import DeviceCounts, Steps
from mcsim.laws import FloatArray
from mcsim.model.plan import Plan

BLOCK = 1024
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
class Sums:
    """What is kept of some steps of a replicate.

    moments: columns step time, compute time and exposed communication (s), then the wait
        fraction of each group, the compute time (s) of each site, the mean time (s) of a device
        of each group, and the components (s) that are not the second and third.
    shortest, longest: s. culprits: shape (groups,), steps whose last arrival was in the group.
    site_culprits: shape (sites,). runs: of steps whose last arrival was in the same group.
    device_runs: of the same device, if the engine knows it. stage_culprits: shape (stages,), steps
        that waited for a pipeline whose slowest stage it was. times: s, of each step, in pieces, if
        they are kept.
    devices: counts of all devices' times, if they are kept. blocking: of the same columns as the
        moments, if steps remember those before.
    """

    moments: Moments
    shortest: float
    longest: float
    histogram: Histogram
    culprits: NDArray[np.int64]
    site_culprits: NDArray[np.int64]
    runs: Runs
    device_runs: Runs | None = None
    times: tuple[FloatArray, ...] = ()
    devices: DeviceCounts | None = None
    blocking: Blocking | None = None
    stage_culprits: NDArray[np.int64] | None = None

    @property
    def step_time(self) -> FloatArray:
        """The times of all steps, s; shape (steps,) if they are kept, else empty."""
        return np.concatenate(self.times) if self.times else np.empty(0)

    @classmethod
    def of(cls, plan: Plan, steps: Steps) -> Sums:
        """The sums over some steps, at most a block."""
        last_site = steps.last_site
        each = np.arange(last_site.size)
        culprit = steps.culprit[each, last_site]
        device = None if steps.device is None else steps.device[each, last_site]
        last = steps.ready.max(axis=1)
        # Nobody is later than the last, but the mean of many equal times rounds.
        waiting = np.maximum(last[:, None] - steps.busy, 0.0)
        whole = steps.time[:, None]
        wait = np.divide(waiting, whole, out=np.zeros_like(waiting), where=whole != 0)
        columns = [steps.time, last, steps.time - last, wait, steps.ready, steps.busy]
        if steps.components is not None:
            columns.append(steps.components)
        row = np.column_stack(columns)
        # A sum of a column depends on the layout of the memory; a copy gives it always the same.
        return cls(
            Moments.of(np.asfortranarray(row)),
            float(steps.time.min()),
            float(steps.time.max()),
            Histogram.of(steps.time),
            np.bincount(culprit, minlength=len(plan.groups)),
            np.bincount(last_site, minlength=len(plan.sites)),
            Runs.of(culprits(culprit), len(plan.groups)),
            None if device is None else Runs.of(culprits(culprit, device), len(plan.groups)),
            (steps.time,) if plan.keep_steps else (),
            steps.devices,
            Blocking.of(row, BLOCK) if plan.steps_remember else None,
            None if steps.stage is None else np.bincount(steps.stage, minlength=plan.stages),
        )

    def joined(self, other: Sums) -> Sums:
        """The sums over both, `other` being the later steps."""
        return Sums(
            self.moments.joined(other.moments),
            min(self.shortest, other.shortest),
            max(self.longest, other.longest),
            self.histogram.joined(other.histogram),
            self.culprits + other.culprits,
            self.site_culprits + other.site_culprits,
            self.runs.joined(other.runs),
            self.device_runs.joined(other.device_runs)
            if self.device_runs and other.device_runs
            else None,
            self.times + other.times,
            self.devices + other.devices if self.devices and other.devices else None,
            self.blocking.joined(other.blocking) if self.blocking and other.blocking else None,
            None
            if self.stage_culprits is None or other.stage_culprits is None
            else self.stage_culprits + other.stage_culprits,
        )


@dataclass(frozen=True)
class Tally:
    """What is kept of a run.

    replicates: the sums of each, in order. whole: the same without a last block that is not full,
    from which a longer run goes on; None where there is no full one.
    """

    plan: Plan
    replicates: Sequence[Sums]
    whole: Sequence[Sums | None]
