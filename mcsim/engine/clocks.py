"""Replicas with clocks of their own: bounded staleness, and nobody waiting for anybody.

A replica may begin its step c once the slowest has ended step c - 1 - bound. So its end is

    E_i(c) = max(E_i(c - 1), S(c - 1 - bound)) + t_i(c),    S(c) = max over i of E_i(c).

A step of the result is as many updates as there are replicas, whoever makes them: those who are
ahead count. Jitter and slow states are those of a replica's own step number, though it may do that
step earlier than others.

Steps remember all before them. So a replicate goes on from where it stands, and keeps what it has
found; the bits do not depend on who asks for which steps.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mcsim.engine.cluster import Cluster, draw_cluster
from mcsim.engine.ends import OVERFLOW, require_finite
from mcsim.engine.sampled import Draws
from mcsim.engine.screening import GroupLaws
from mcsim.engine.shared import shared_factors
from mcsim.engine.states import spells_of
from mcsim.engine.steps import Steps
from mcsim.laws import FloatArray
from mcsim.model.plan import BARE, Plan

IntArray = NDArray[np.int64]

_TOGETHER = 64
"""Steps whose slow states are looked for together."""
_KEPT = 1024
"""Steps that are kept as one."""


class ClockEngine:
    """Every replica draws every step of its own."""

    name = "sampled"

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        with np.errstate(**OVERFLOW):
            self._laws = tuple(GroupLaws(group.step, group.stall) for group in plan.groups)

    def draw(self, replicate: int) -> ClockReplicate:
        """The cluster of a replicate."""
        return ClockReplicate(draw_cluster(self._plan, self._laws, replicate))


@dataclass(eq=False)
class ClockReplicate:
    """A cluster whose replicas go on from the beginning, as far as anybody has asked."""

    cluster: Cluster
    _kept: list[Steps] = field(default_factory=list)
    _newest: list[Steps] = field(default_factory=list)
    _walk: _Walk | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def sample(self, first: int, count: int) -> Steps:
        with self._lock, np.errstate(**OVERFLOW):
            walk = self._walk = self._walk or _Walk(self.cluster)
            while walk.steps < first + count:
                self._newest.append(walk.step())
                # Thousands of single steps would take ten times their memory.
                if len(self._newest) == _KEPT:
                    self._kept.append(_joined(self._newest))
                    self._newest = []
            last = -(-(first + count) // _KEPT)
            parts = self._kept[first // _KEPT : last]
            if last > len(self._kept):
                parts = [*parts, _joined(self._newest)]
        return _joined(parts).part(first % _KEPT, count)


def _joined(parts: list[Steps]) -> Steps:
    one, *others = parts
    return one.joined(*others)


class _Walk:
    """Where all replicas are.

    done: shape (replicas,), steps that each is known to do. end: s, when it has. coming: s, the
    ends of steps that are known and after the last step of the result. now: s, its end.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.plan = cluster, cluster.plan
        assert self.plan.stale is not None
        self.bound = self.plan.stale.bound
        counts = np.array([group.count for group in self.plan.groups])
        self.counts, self.first = counts, np.asarray(np.cumsum(counts) - counts, np.intp)
        self.done = np.zeros(self.plan.devices, np.int64)
        self.end = np.zeros(self.plan.devices)
        self.coming = np.empty(0)
        self.slowest = _Slowest(self.plan.devices)
        self.states = _States(cluster)
        self.now, self.steps, self.passed = 0.0, 0, 0

    def step(self) -> Steps:
        """The next step of the result."""
        replicas, idle = self.plan.devices, np.zeros(len(self.counts))
        while True:
            now = np.inf
            if self.coming.size >= replicas:
                now = float(np.partition(self.coming, replicas - 1)[replicas - 1])
            # Whoever may not go on waits for somebody who ends after that.
            free = self.done - self.bound <= self.slowest.known
            some = np.flatnonzero((self.end < now) & free)
            if some.size == 0:
                break
            idle += self._go_on(some)
        # Of those that end just then, no more than are needed.
        later = self.coming[self.coming > now]
        tied = self.coming.size - later.size - replicas
        self.coming = np.concatenate([np.full(tied, now), later])
        time, self.now = now - self.now, now
        self.steps += 1
        while self.passed < self.slowest.known and self.slowest.end[self.passed] <= now:
            self.passed += 1
        return self._result(time, np.maximum(time - idle / self.counts, 0.0))

    def _result(self, time: float, busy: FloatArray) -> Steps:
        plan = self.plan
        # Of the last step that all have done, or else of the first.
        who = int(self.slowest.who[max(self.passed - 1, 0)])
        group = int(np.searchsorted(self.first, who, side="right")) - 1
        of_all = np.zeros((1, len(plan.sites)), np.int64)
        here = np.arange(len(plan.sites)) == plan.groups[group].site
        components = [[time, *[0.0] * (len(plan.components) - 1)]]
        return Steps(
            np.array([time]),
            np.full((1, len(plan.sites)), time),
            of_all + group,
            np.where(here, 0.25, 0.5)[None, :],
            busy[None, :],
            np.array(components) if len(plan.components) > len(BARE) else None,
            of_all + (who - int(self.first[group])),
            staleness=np.array([float(max(self.steps - self.passed, 0))]),
        )

    def _go_on(self, some: IntArray) -> FloatArray:
        """Some replicas do one more step each; how long those of each group waited before, s."""
        step, end = self.done[some], self.end[some]
        begin = end
        if self.bound < np.inf:
            before = step - 1 - int(self.bound)
            waited_for = np.where(before < 0, 0.0, self.slowest.end[np.maximum(before, 0)])
            begin = np.maximum(end, waited_for)
        place = np.searchsorted(some, np.append(self.first, self.plan.devices))
        idle, time = np.zeros(len(self.counts)), np.empty(some.size)
        for index in range(len(self.counts)):
            here = slice(place[index], place[index + 1])
            device = some[here] - self.first[index]
            time[here] = self.states.times(index, device, step[here])
            idle[index] = (begin - end)[here].sum()
        ends = begin + time
        require_finite(ends)
        self.end[some], self.done[some] = ends, step + 1
        self.coming = np.concatenate([self.coming, ends])
        self.slowest.add(some, step, ends)
        self.states.forget(int(self.done.min()))
        return idle


class _Slowest:
    """Of each step, when the last replica has done it and which that is.

    end, who: shape (steps,), s; final for the first `known` steps.
    """

    def __init__(self, replicas: int) -> None:
        self.replicas, self.known = replicas, 0
        self.end, self.who = np.zeros(1), np.zeros(1, np.int64)
        self._count = np.zeros(1, np.int64)

    def add(self, replica: IntArray, step: IntArray, end: FloatArray) -> None:
        """Some replicas do a step each."""
        most = int(step.max()) + 1
        if most > self.end.size:
            more = max(most, 2 * self.end.size) - self.end.size
            self.end = np.concatenate([self.end, np.zeros(more)])
            self.who, self._count = (
                np.concatenate([values, np.zeros(more, np.int64)])
                for values in (self.who, self._count)
            )
        np.maximum.at(self.end, step, end)
        np.add.at(self._count, step, 1)
        last = end == self.end[step]
        self.who[step[last]] = replica[last]
        while self.known < self.end.size and self._count[self.known] == self.replicas:
            self.known += 1


class _States:
    """What replicas take in any of their steps, with what makes them slow in it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._known: dict[int, list[_Slow]] = {}

    def times(self, index: int, device: IntArray, step: IntArray) -> FloatArray:
        """Of some devices of a group in a step each, s; shape (n,)."""
        base = self.cluster.base[index][device]
        plan, group = self.cluster.plan, self.cluster.plan.groups[index]
        shared = np.ones(device.size)
        if group.slow or plan.slow_sites or plan.daily is not None:
            for part in np.unique(step // _TOGETHER).tolist():
                here = np.flatnonzero(step // _TOGETHER == part)
                slow = self._slow(part)[index]
                row = step[here] - part * _TOGETHER
                base[here] *= slow.factor_of(row, device[here])
                shared[here] = slow.shared[row]
        time = Draws(self.cluster, index, device, step.astype(np.uint32)).time(base)
        return time * shared

    def forget(self, step: int) -> None:
        """No step before this will be asked for again."""
        for part in [one for one in self._known if (one + 1) * _TOGETHER <= step]:
            del self._known[part]

    def _slow(self, part: int) -> list[_Slow]:
        if part not in self._known:
            self._known[part] = [
                _Slow.of(self.cluster, index, part * _TOGETHER)
                for index in range(len(self.cluster.plan.groups))
            ]
        return self._known[part]


@dataclass(frozen=True)
class _Slow:
    """Who of a group is slow in some steps. place: row x devices + device, ascending; factor: of
    each. shared: shape (steps,), the factor of all."""

    devices: int
    place: IntArray
    factor: FloatArray
    shared: FloatArray

    @classmethod
    def of(cls, cluster: Cluster, index: int, first: int) -> _Slow:
        """In `_TOGETHER` steps from `first` on."""
        plan, replicate = cluster.plan, cluster.replicate
        group = plan.groups[index]
        shared = shared_factors(plan, replicate, first, _TOGETHER)
        of_site = np.ones(_TOGETHER) if shared is None else shared[:, group.site]
        spells = spells_of(plan, index, replicate, first, _TOGETHER)
        if spells is None:
            return cls(group.count, np.empty(0, np.int64), np.empty(0), of_site)
        row, device, factor = spells.steps(first, _TOGETHER)
        return cls(group.count, row * group.count + device, factor, of_site)

    def factor_of(self, row: IntArray, device: IntArray) -> FloatArray:
        """1 of those who are not slow; shape (n,)."""
        if self.place.size == 0:
            return np.ones(row.size)
        asked = row * self.devices + device
        at = np.minimum(np.searchsorted(self.place, asked), self.place.size - 1)
        return np.where(self.place[at] == asked, self.factor[at], 1.0)
