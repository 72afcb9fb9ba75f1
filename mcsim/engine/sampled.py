"""The sampled engine: every device draws in every step, and few of the draws need a look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcsim.engine.candidates import complete, last_of_each, screen
from mcsim.engine.cluster import KEPT, Cluster
from mcsim.engine.philox import Purpose, Words, key_of, survivals, word_3
from mcsim.engine.screening import GroupScreen
from mcsim.errors import SimulationError
from mcsim.laws import FloatArray
from mcsim.model.barrier import slowest_of, step_end
from mcsim.model.plan import Delay, Plan

OVERFLOW: dict[str, Any] = {"over": "ignore", "invalid": "ignore", "divide": "ignore"}
"""For np.errstate, of each thread: what overflows is infinite, and found in the step times."""

_LONGEST = 1e60
"""s; the fourth powers of times are summed."""

_MAX_KEPT = 1 << 20
"""Kept devices of a group that are looked at together: bounds the memory of a thread."""


@dataclass(frozen=True)
class Steps:
    """What happened in some steps of a replicate.

    time: shape (steps,), s. ready: shape (steps, sites), s, the last arrival at each site.
    culprit: shape (steps, sites), the group of that arrival. draw: shape (steps, sites), the
    survival probability it was drawn at. busy: shape (steps, groups), s, the mean time of a
    device of the group.
    """

    time: FloatArray
    ready: FloatArray
    culprit: NDArray[np.int64]
    draw: FloatArray
    busy: FloatArray

    @property
    def last_site(self) -> NDArray[np.int64]:
        """The site of the very last arrival; among equal times, of the smallest draw."""
        last = self.ready.max(axis=1, keepdims=True)
        return np.asarray(np.argmin(np.where(self.ready == last, self.draw, np.inf), axis=1))


def sample_steps(cluster: Cluster, first: int, count: int) -> Steps:
    """Steps `first` to `first + count - 1` of a replicate, each from its own address.

    Raises SimulationError where a time is not finite, or too large for sums of its powers.
    """
    steps = np.arange(first, first + count, dtype=np.uint32)
    with np.errstate(**OVERFLOW):
        ready, culprit, draw, busy = _arrivals(cluster, steps, 0)
        delay = _delays(cluster.plan, cluster.replicate, steps)
        time = step_end(cluster.plan.barrier, ready, delay)
    if not np.all(np.abs(time) < _LONGEST):
        worst = time[~(np.abs(time) < _LONGEST)][0]
        raise SimulationError(f"a step takes {worst:g} s; beyond {_LONGEST:g} s no mean is formed")
    return Steps(time, ready, culprit, draw, busy)


def _arrivals(
    cluster: Cluster, steps: Words, depth: int
) -> tuple[FloatArray, NDArray[np.int64], FloatArray, FloatArray]:
    """`ready`, `culprit`, `draw` and `busy` of `Steps`."""
    plan = cluster.plan
    levels, screens = cluster.screens(depth)
    shape = (steps.size, len(plan.sites))
    ready, draw = np.full(shape, -np.inf), np.ones(shape)
    culprit = np.zeros(shape, np.int64)
    busy = np.empty((steps.size, len(plan.groups)))
    for index, group in enumerate(plan.groups):
        latest, drawn, surplus = _group_arrivals(cluster, index, screens[index], steps)
        busy[:, index] = (screens[index].expected_sum + surplus) / group.count
        column = group.site
        tied = (latest == ready[:, column]) & (drawn < draw[:, column])
        later = (latest > ready[:, column]) | tied
        ready[later, column] = latest[later]
        draw[later, column] = drawn[later]
        culprit[later, column] = index
    if depth + 1 < len(KEPT):
        sure = np.all(
            [level.outranked_by(ready[:, i], draw[:, i]) for i, level in enumerate(levels)], axis=0
        )
        again = np.flatnonzero(~sure)
        if again.size:
            redone = _arrivals(cluster, steps[again], depth + 1)
            for values, better in zip((ready, culprit, draw, busy), redone, strict=True):
                values[again] = better
    return ready, culprit, draw, busy


def _group_arrivals(
    cluster: Cluster, index: int, thresholds: GroupScreen, steps: Words
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The last arrival, its draw and the surplus over the expected times, per step."""
    batch = max(1, int(_MAX_KEPT / (thresholds.kept + 1)))
    parts = [
        _batch_arrivals(cluster, index, thresholds, steps[at : at + batch])
        for at in range(0, steps.size, batch)
    ]
    latest, drawn, surplus = (np.concatenate(values) for values in zip(*parts, strict=True))
    return latest, drawn, surplus


def _batch_arrivals(
    cluster: Cluster, index: int, thresholds: GroupScreen, steps: Words
) -> tuple[FloatArray, FloatArray, FloatArray]:
    group, base = cluster.plan.groups[index], cluster.base[index]
    device, offsets = _kept(cluster, index, thresholds, steps)
    step = np.repeat(steps, np.diff(offsets))
    key = key_of(cluster.plan.seed)
    identity = np.uint32(group.identity)

    def draws(purpose: Purpose) -> FloatArray:
        last = word_3(cluster.replicate, purpose)
        return complete(device, step, identity, last, *key)

    survival = draws(Purpose.STEP_HIGH)
    time = base[device]
    if group.step is not None:
        time = time * group.step.quantile(survival)
    if group.stall is not None:
        time = time + group.stall.quantile(draws(Purpose.STALL_HIGH))
    latest, drawn, surplus = (np.empty(steps.size) for _ in range(3))
    excess = time - thresholds.expected[device]
    last_of_each(offsets, time, survival, excess, latest, drawn, surplus)
    return latest, drawn, surplus


def _kept(
    cluster: Cluster, index: int, thresholds: GroupScreen, steps: Words
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The devices kept in each step, one after the other, and where each step's begin."""
    group = cluster.plan.groups[index]
    if thresholds.kept == 0:
        return np.empty(0, np.int32), np.zeros(steps.size + 1, np.int64)
    capacity = min(group.count, int(thresholds.kept + 8 * thresholds.kept**0.5) + 16)
    count = np.empty(steps.size, np.int64)
    while True:
        kept = np.empty((steps.size, capacity), np.int32)
        screen(
            thresholds.threshold,
            thresholds.stall_threshold,
            group.count,
            steps,
            np.uint32(group.identity),
            word_3(cluster.replicate, Purpose.STEP_HIGH),
            word_3(cluster.replicate, Purpose.STALL_HIGH),
            *key_of(cluster.plan.seed),
            kept,
            count,
        )
        most = int(count.max())
        if most <= capacity:
            break
        capacity = most
    offsets = np.concatenate([[0], np.cumsum(count)])
    return kept[np.arange(capacity) < count[:, None]], offsets


def _delays(plan: Plan, replicate: int, steps: Words) -> FloatArray:
    """The delays of the barrier, shape (steps, delays), s."""
    delays = plan.barrier.delays if plan.barrier is not None else ()
    out = np.empty((steps.size, len(delays)))
    for column, delay in enumerate(delays):
        out[:, column] = _slowest(plan, replicate, steps, delay)
    return out


_PURPOSE = {
    "node": Purpose.NODE_DELAY,
    "site": Purpose.SITE_DELAY,
    "link": Purpose.LINK_DELAY,
}


def _slowest(plan: Plan, replicate: int, steps: Words, delay: Delay) -> FloatArray:
    last = word_3(replicate, _PURPOSE[delay.level])
    identity = np.uint32(delay.identity)
    drawn = survivals(np.zeros_like(steps), steps, identity, last, *key_of(plan.seed))
    return delay.law.quantile(slowest_of(drawn, delay.participants))
