"""Sums over steps: what is kept of a run, whatever its length."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np
from numpy.typing import NDArray

from mcsim.engine.blocking import Blocking
from mcsim.engine.histogram import Histogram
from mcsim.engine.pairwise import Pairwise
from mcsim.engine.runs import Runs, culprits
from mcsim.engine.steps import DeviceCounts, Steps
from mcsim.laws import FloatArray
from mcsim.model.choice import steps_a_block
from mcsim.model.plan import Plan


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
class Ordered:
    """What is kept of some steps and depends on the order in which it is joined.

    moments: columns step time, compute time and exposed communication (s), then the wait
        fraction of each group, the compute time (s) of each site, the mean time (s) of a device
        of each group, what `Plan.tracked` names, and the components (s) that are not
        the second and third.
    blocking: of the same columns, if steps remember those before.
    times: s, of each step, if they are kept; else empty.
    """

    moments: Moments
    blocking: Blocking | None
    times: FloatArray

    @classmethod
    def of(cls, plan: Plan, steps: Steps) -> Ordered:
        """Of some steps, at most a block."""
        last = steps.ready.max(axis=1)
        # Nobody is later than the last, but the mean of many equal times rounds.
        waiting = np.maximum(last[:, None] - steps.busy, 0.0)
        whole = steps.time[:, None]
        wait = np.divide(waiting, whole, out=np.zeros_like(waiting), where=whole != 0)
        columns = [steps.time, last, steps.time - last, wait, steps.ready, steps.busy]
        if steps.lost is not None:
            columns.append(steps.lost)
        if steps.staleness is not None:
            columns.append(steps.staleness)
        if steps.components is not None:
            columns.append(steps.components)
        row = np.column_stack(columns)
        # A sum of a column depends on the layout of the memory; a copy gives it always the same.
        return cls(
            Moments.of(np.asfortranarray(row)),
            Blocking.of(row, steps_a_block(plan)) if plan.steps_remember else None,
            steps.time if plan.keep_steps else np.empty(0),
        )

    def joined(self, other: Ordered) -> Ordered:
        """Of both, `other` being of the steps that follow."""
        return Ordered(
            self.moments.joined(other.moments),
            self.blocking.joined(other.blocking) if self.blocking and other.blocking else None,
            np.concatenate([self.times, other.times]),
        )


@dataclass(frozen=True)
class Sums:
    """What is kept of consecutive steps of a replicate: whole blocks, but for the last one.

    ordered: by blocks. shortest, longest: s. culprits: shape (groups,), steps whose last arrival
        was in the group.
    site_culprits: shape (sites,). runs: of steps whose last arrival was in the same group.
    device_runs: of the same device, if the engine knows it. stage_culprits: shape (stages,), steps
        that waited for a pipeline whose slowest stage it was. devices: counts of all devices'
        times, if they are kept.
    """

    ordered: Pairwise[Ordered]
    shortest: float
    longest: float
    histogram: Histogram
    culprits: NDArray[np.int64]
    site_culprits: NDArray[np.int64]
    runs: Runs
    device_runs: Runs | None = None
    devices: DeviceCounts | None = None
    stage_culprits: NDArray[np.int64] | None = None

    @cached_property
    def _total(self) -> Ordered:
        return self.ordered.total()

    @property
    def moments(self) -> Moments:
        """Of all steps."""
        return self._total.moments

    @property
    def blocking(self) -> Blocking | None:
        """Of all steps, if they remember those before."""
        return self._total.blocking

    @property
    def step_time(self) -> FloatArray:
        """The times of all steps, s; shape (steps,) if they are kept, else empty."""
        return self._total.times

    @property
    def steps(self) -> int:
        """Their number."""
        return sum(node.value.moments.count for node in self.ordered.nodes)

    @classmethod
    def of(cls, plan: Plan, steps: Steps, block: int) -> Sums:
        """The sums over the steps of the block of a number, or over its beginning."""
        last_site = steps.last_site
        each = np.arange(last_site.size)
        culprit = steps.culprit[each, last_site]
        device = None if steps.device is None else steps.device[each, last_site]
        return cls(
            Pairwise.of(block, Ordered.of(plan, steps)),
            float(steps.time.min()),
            float(steps.time.max()),
            Histogram.of(steps.time),
            np.bincount(culprit, minlength=len(plan.groups)),
            np.bincount(last_site, minlength=len(plan.sites)),
            Runs.of(culprits(culprit), len(plan.groups)),
            None if device is None else Runs.of(culprits(culprit, device), len(plan.groups)),
            steps.devices,
            None if steps.stage is None else np.bincount(steps.stage, minlength=plan.stages),
        )

    def joined(self, other: Sums) -> Sums:
        """The sums over both, `other` being of the steps that follow.

        The bits do not depend on how steps are divided into parts, nor on which are joined first.
        """
        return Sums(
            self.ordered.joined(other.ordered),
            min(self.shortest, other.shortest),
            max(self.longest, other.longest),
            self.histogram.joined(other.histogram),
            self.culprits + other.culprits,
            self.site_culprits + other.site_culprits,
            self.runs.joined(other.runs),
            self.device_runs.joined(other.device_runs)
            if self.device_runs and other.device_runs
            else None,
            self.devices + other.devices if self.devices and other.devices else None,
            None
            if self.stage_culprits is None or other.stage_culprits is None
            else self.stage_culprits + other.stage_culprits,
        )


Span = tuple[int, int, int]
"""Blocks of a replicate: its number, the first block and the one after the last."""


class Tally:
    """What is kept of a run, as far as its steps are done.

    sums: of each replicate, in the order of the steps; neighbours are joined, but for a last block
    that is not full, from which a longer run cannot go on.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.sums: dict[int, tuple[Sums, ...]] = {}

    def add(self, replicate: int, parts: Iterable[Sums]) -> None:
        """Add some blocks; in which order does not matter. Raises OverlapError."""
        size = steps_a_block(self.plan)
        known = self.sums.get(replicate, ())
        self.sums[replicate] = tuple(neighbours_joined(replicate, [*known, *parts], size))

    def begun(self, plan: Plan) -> Tally:
        """The beginning of a run that is the same but for more steps or replicates."""
        size = steps_a_block(plan)
        beginning = Tally(plan)
        for replicate, parts in self.sums.items():
            kept = tuple(part for part in parts if _is_full(part, size) or plan == self.plan)
            if kept:
                beginning.sums[replicate] = kept
        return beginning

    @property
    def replicates(self) -> list[Sums]:
        """The sums of each replicate, all of which have to be there."""
        assert self.is_complete
        return [reduce(Sums.joined, self.sums[one]) for one in range(self.plan.replicates)]

    @property
    def is_complete(self) -> bool:
        """Whether all steps are done."""
        return not self.missing()

    @property
    def steps(self) -> int:
        """Steps that are done, of all replicates."""
        return sum(one.steps for parts in self.sums.values() for one in parts)

    def missing(self, among: range | None = None) -> list[Span]:
        """The blocks that are not done. among: only these of all `blocks_of` a plan."""
        each = -(-self.plan.steps // steps_a_block(self.plan))
        asked = range(each * self.plan.replicates) if among is None else among
        lacking: list[Span] = []
        for replicate in range(asked.start // each, -(-asked.stop // each)):
            at = max(asked.start - replicate * each, 0)
            end = min(asked.stop - replicate * each, each)
            for part in self.sums.get(replicate, ()):
                if at < min(part.ordered.first, end):
                    lacking.append((replicate, at, min(part.ordered.first, end)))
                at = max(at, part.ordered.end)
            if at < end:
                lacking.append((replicate, at, end))
        return lacking


class OverlapError(Exception):
    """Some blocks are summed twice; `span` says which."""

    def __init__(self, span: Span) -> None:
        super().__init__(
            f"blocks {span[1]} to {span[2] - 1} of replicate {span[0]} are there twice"
        )
        self.span = span

    def is_in(self, tally: Tally) -> bool:
        """Whether a tally holds some of the blocks."""
        replicate, first, end = self.span
        return any(
            part.ordered.first < end and first < part.ordered.end
            for part in tally.sums.get(replicate, ())
        )


def blocks_of(plan: Plan) -> int:
    """How many blocks a run has: those of the first replicate, of the second, and so on."""
    return plan.replicates * -(-plan.steps // steps_a_block(plan))


def _is_full(part: Sums, size: int) -> bool:
    return part.steps == (part.ordered.end - part.ordered.first) * size


def neighbours_joined(replicate: int, parts: list[Sums], size: int) -> list[Sums]:
    """Some parts in their order, whole blocks joined with their neighbours. Raises OverlapError."""
    parts.sort(key=lambda part: part.ordered.first)
    done = parts[:1]
    for part in parts[1:]:
        before = done[-1].ordered
        if part.ordered.first < before.end:
            end = min(before.end, part.ordered.end)
            raise OverlapError((replicate, part.ordered.first, end))
        if part.ordered.first == before.end and _is_full(part, size):
            done[-1] = done[-1].joined(part)
        else:
            done.append(part)
    return done
