"""The sampled engine: every device draws in every step, and few of the draws need a look."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mcsim.engine.accelerator import Accelerator, Contenders
from mcsim.engine.candidates import (
    STALL,
    USUAL,
    find_rare,
    in_order,
    judge,
    last_of_each,
    screen,
)
from mcsim.engine.cluster import KEPT, Cluster, draw_cluster
from mcsim.engine.cutoff import Scored, cut_short, late_share
from mcsim.engine.devices import DeviceTables, all_devices
from mcsim.engine.draws import complete
from mcsim.engine.ends import OVERFLOW
from mcsim.engine.held import Found, drawn_at, held, refreshes_of
from mcsim.engine.philox import Purpose, Words, key_of, word_3
from mcsim.engine.policies import ended
from mcsim.engine.screening import GroupLaws, GroupScreen, Thresholds, outranks
from mcsim.engine.states import Spells, spells_of
from mcsim.engine.steps import Arrivals, Steps
from mcsim.laws import FloatArray
from mcsim.model.plan import Group, Plan
from mcsim.model.policy import Cutoff
from mcsim.model.remedies import ABSENT

IntArray = NDArray[np.int64]

_MAX_KEPT = 1 << 20
"""Kept devices of a group that are looked at together: bounds the memory of a thread."""
_PILOT = 64
"""Steps from which a depth is chosen to begin with."""
_FEW = 8
"""Steps that take as long one by one as some hundred together."""


class SampledEngine:
    """Every device draws in every step."""

    name = "sampled"

    def __init__(self, plan: Plan, accelerator: Accelerator | None = None) -> None:
        self._plan, self._accelerator = plan, accelerator
        with np.errstate(**OVERFLOW):
            self._laws = tuple(GroupLaws(group.step, group.stall) for group in plan.groups)

            self._tables = None
            if plan.keep == "devices" or accelerator is not None:
                self._tables = tuple(DeviceTables.of(g.step, g.stall) for g in plan.groups)

    def draw(self, replicate: int) -> SampledReplicate:
        """The cluster of a replicate with its thresholds."""
        cluster = draw_cluster(self._plan, self._laws, replicate)
        with np.errstate(**OVERFLOW):
            start, lost = start_of(cluster), late_share(cluster)
        return SampledReplicate(cluster, start, self._tables, self._accelerator, lost)


@dataclass(frozen=True)
class SampledReplicate:
    """A cluster whose devices draw. start: the depth of `KEPT` to begin with. tables: of each
    group, where all devices are counted, or looked at by an accelerator. lost: the share of samples
    that is expected to be, given the cluster; None where it is counted."""

    cluster: Cluster
    start: int
    tables: Sequence[DeviceTables] | None = None
    accelerator: Accelerator | None = None
    lost: float | None = None

    def sample(self, first: int, count: int) -> Steps:
        finder = _Finder(self.accelerator, self.tables)
        steps = sample_steps(self.cluster, first, count, self.start, finder)
        if self.lost is not None:
            steps = dataclasses.replace(steps, lost=np.full(count, self.lost))
        if self.tables is None or self.cluster.plan.keep != "devices":
            return steps
        counter = None if self.accelerator is None else self.accelerator.count
        last = steps.ready.max(axis=1)
        counts = all_devices(self.cluster, self.tables, first, last, counter)
        return dataclasses.replace(steps, devices=counts)


@dataclass(frozen=True)
class _Finder:
    """Who finds those that may be last: an accelerator with the tables of its groups, or we."""

    accelerator: Accelerator | None = None
    tables: Sequence[DeviceTables] | None = None


_HERE = _Finder()


def arrivals_of(drawn: SampledReplicate, first: int, count: int) -> Arrivals:
    """The last arrivals of some steps of a replicate, or of all steps of some rounds."""
    inner = drawn.cluster.plan.inner
    with np.errstate(**OVERFLOW):
        return _arrivals(drawn.cluster, first * inner, count * inner, drawn.start)


def times_of(plan: Plan, replicate: int, first: int, arrivals: Arrivals) -> FloatArray:
    """The times of the steps from `first` on, s, where devices arrive so; shape (steps,)."""
    return ended(plan, replicate, first, arrivals).time


def start_of(cluster: Cluster) -> int:
    """The depth of `KEPT` at which few of the first steps must be looked at again."""
    depth = 0
    if any(group.stall is not None for group in cluster.plan.groups):
        while depth + 2 < len(KEPT):
            sure = _screened(cluster, 0, _PILOT, depth)[1]
            if np.count_nonzero(~sure) <= _PILOT // 32:
                break
            depth += 1
    cluster.screens(depth)
    return depth


def sample_steps(
    cluster: Cluster, first: int, count: int, start: int = 0, finder: _Finder = _HERE
) -> Steps:
    """Steps `first` to `first + count - 1` of a replicate. start: as of `SampledReplicate`."""
    inner = cluster.plan.inner
    with np.errstate(**OVERFLOW):
        arrivals = _arrivals(cluster, first * inner, count * inner, start, finder)
    return ended(cluster.plan, cluster.replicate, first, arrivals)


GroupArrivals = tuple[FloatArray, FloatArray, IntArray, FloatArray]
"""Of each step the last arrival of a group, its draw, its device, and the surplus of all over the
expected times."""


def _arrivals(
    cluster: Cluster, first: int, count: int, depth: int, finder: _Finder = _HERE
) -> Arrivals:
    found, sure = _screened(cluster, first, count, depth, finder)
    unsure = np.flatnonzero(~sure)
    # Few are looked at again one by one, many together with all others.
    together = unsure.size > _FEW
    for start, size in [(0, count)] if together else [(int(one), 1) for one in unsure]:
        rows = unsure if together else np.array([start])
        # By ourselves: which steps are looked at with which must not change their bits.
        redone = _arrivals(cluster, first + start, size, depth + 1)
        for values, better in zip(found, redone, strict=True):
            if values is not None and better is not None:
                values[rows] = better[rows - start]
    return found


def _screened(
    cluster: Cluster, first: int, count: int, depth: int, finder: _Finder = _HERE
) -> tuple[Arrivals, NDArray[np.bool_]]:
    """The arrivals among what is kept, and in which steps none else can be later."""
    if cluster.plan.cutoff is not None:
        return _screened_and_cut(cluster, cluster.plan.cutoff, first, count, depth)
    plan = cluster.plan
    levels, screens = cluster.screens(depth)
    found = Arrivals.of_nobody(count, plan)
    for index, group in enumerate(plan.groups):
        latest, drawn, who, surplus = _group_arrivals(
            cluster, index, screens[index], first, count, finder
        )
        screened = screens[index]
        present = screened.present or np.nan
        found.busy[:, index] = (screened.expected_sum + surplus) / present
        found.admit(index, group.site, latest, drawn, who)
    sure = np.ones(count, np.bool_)
    if depth + 1 < len(KEPT):
        for site, level in enumerate(levels):
            sure &= level.outranked_by(found.ready[:, site], found.draw[:, site])
    return found, sure


def _screened_and_cut(
    cluster: Cluster, cutoff: Cutoff, first: int, count: int, depth: int
) -> tuple[Arrivals, NDArray[np.bool_]]:
    """The same of steps that do not wait for everybody: times include what sites share."""
    plan = cluster.plan
    levels, screens = cluster.screens(depth)
    is_last = depth + 1 == len(KEPT)
    spells = [
        spells_of(plan, index, cluster.replicate, first, count) for index in range(len(screens))
    ]
    kept = sum(screened.kept for screened in screens) + sum(map(mean_slow, plan.groups))
    batch = max(1, int(_MAX_KEPT / (kept + 1)))
    parts = []
    for at in range(first, first + count, batch):
        size = min(batch, first + count - at)
        lists = [
            _scored(cluster, index, screened, spells[index], at, size, _HERE)
            for index, screened in enumerate(screens)
        ]
        parts.append(cut_short(cluster, cutoff, levels, screens, lists, at, size, is_last))
    found, sure = zip(*parts, strict=True)
    return Arrivals(*map(np.concatenate, zip(*found, strict=True))), np.concatenate(sure)


def _group_arrivals(
    cluster: Cluster,
    index: int,
    screened: GroupScreen,
    first: int,
    count: int,
    finder: _Finder,
) -> GroupArrivals:
    group = cluster.plan.groups[index]
    spells = spells_of(cluster.plan, index, cluster.replicate, first, count)
    batch = max(1, int(_MAX_KEPT / (screened.kept + mean_slow(group) + 1)))
    parts = [
        _batch_arrivals(
            cluster, index, screened, spells, at, min(batch, first + count - at), finder
        )
        for at in range(first, first + count, batch)
    ]
    latest, drawn, who, surplus = (np.concatenate(values) for values in zip(*parts, strict=True))
    return latest, drawn, who, surplus


def _batch_arrivals(
    cluster: Cluster,
    index: int,
    screened: GroupScreen,
    spells: Spells | None,
    first: int,
    count: int,
    finder: _Finder,
) -> GroupArrivals:
    if finder.accelerator is not None and finder.tables and _is_plain(cluster, index):
        tables = finder.tables[index]
        some = finder.accelerator.contenders(cluster, index, screened, tables, first, count)
        return _last_of_contenders(cluster, index, screened, some)
    one, *others = (
        _last_of_each(*scored)
        for scored in _scored(cluster, index, screened, spells, first, count, finder)
    )
    for other in others:
        later = outranks(other[0], other[1], one[0], one[1])
        one = (
            np.where(later, other[0], one[0]),
            np.where(later, other[1], one[1]),
            np.where(later, other[2], one[2]),
            one[3] + other[3],
        )
    return one


def _scored(
    cluster: Cluster,
    index: int,
    screened: GroupScreen,
    spells: Spells | None,
    first: int,
    count: int,
    finder: _Finder,
) -> tuple[Scored, ...]:
    """The candidates of a group with their times: those that are kept, and those that are slow."""
    group, base = cluster.plan.groups[index], cluster.base[index]
    device, step, code, number = _candidates(cluster, index, screened, first, count, finder)
    draws = Draws(cluster, index, device, step)
    time = draws.time(base[device])
    of_stall = screened.stall or screened.step
    excess = np.empty_like(time)
    judge(
        code,
        draws.survival,
        draws.rare,
        screened.step.entry,
        screened.step.threshold,
        screened.stall is not None,
        draws.stall_survival,
        draws.stall_rare,
        of_stall.entry,
        of_stall.threshold,
        screened.expected,
        time,
        excess,
    )
    offsets = np.concatenate([[0], np.cumsum(number)])
    if spells is None:
        return (Scored(offsets, device, time, draws.survival, excess),)
    row, slow, factor = spells.steps(first, count)
    if screened.present < group.count:
        there = base[slow] > ABSENT
        row, slow, factor = row[there], slow[there], factor[there]
    # What is slow now counts by its slow time alone.
    kept_twice = _among(step.astype(np.int64) - first, device, row, slow, group.count)
    time[kept_twice], excess[kept_twice] = -np.inf, 0.0
    one = Scored(offsets, device, time, draws.survival, excess)
    draws = Draws(cluster, index, slow, (row + first).astype(np.uint32))
    time = draws.time(base[slow] * factor)
    offsets = np.searchsorted(row, np.arange(count + 1))
    excess = time - screened.expected[slow]
    return one, Scored(offsets, slow, time, draws.survival, excess)


def _last_of_each(
    offsets: IntArray,
    device: IntArray,
    time: FloatArray,
    survival: FloatArray,
    excess: FloatArray,
) -> GroupArrivals:
    """As of `Scored`."""
    count = offsets.size - 1
    latest, drawn, surplus = (np.empty(count) for _ in range(3))
    who = np.empty(count, np.int64)
    last_of_each(offsets, device, time, survival, excess, latest, drawn, who, surplus)
    return latest, drawn, who, surplus


def _is_plain(cluster: Cluster, index: int) -> bool:
    """Whether all of a group are there, with times that are never negative and do not depend on
    the step before."""
    group, laws = cluster.plan.groups[index], cluster.laws[index]
    negative = laws.step.quantile[-1] < 0 or (laws.stall or laws.step).quantile[-1] < 0
    absent = bool(np.any(cluster.base[index] == ABSENT))
    return not (negative or absent or group.slow or group.correlation > 0.0)


def _last_of_contenders(
    cluster: Cluster, index: int, screened: GroupScreen, some: Contenders
) -> GroupArrivals:
    draws = Draws(cluster, index, some.device, some.step)
    time = draws.time(cluster.base[index][some.device])
    excess = np.where(some.missing, time - screened.expected[some.device], 0.0)
    offsets = np.concatenate([[0], np.cumsum(some.number)])
    latest, drawn, who, surplus = _last_of_each(offsets, some.device, time, draws.survival, excess)
    return latest, drawn, who, surplus + some.surplus


def _candidates(
    cluster: Cluster,
    index: int,
    screened: GroupScreen,
    first: int,
    count: int,
    finder: _Finder,
) -> Found:
    """Those who may be last, in the order of the steps."""
    plan, group, replicate = cluster.plan, cluster.plan.groups[index], cluster.replicate
    find = _kept if finder.accelerator is None else finder.accelerator.kept
    kept, number = find(cluster, index, screened, first, count)
    found = Found(*in_order(kept, number, first), number)
    refreshes = refreshes_of(plan, group, replicate)
    if refreshes is None:
        return found
    return held(plan, group, replicate, refreshes, screened.step, found, first)


def mean_slow(group: Group) -> float:
    """How many devices are slow in a step, on average."""
    return group.count * sum(slow.share for slow in group.slow)


def _among(
    row: IntArray,
    device: IntArray,
    slow_row: IntArray,
    slow_device: IntArray,
    devices: int,
) -> NDArray[np.bool_]:
    """Which pairs of row and device are among the slow ones, which are in order."""
    slow = slow_row * devices + slow_device
    if slow.size == 0:
        return np.zeros(row.size, np.bool_)
    pair = row * devices + device
    at = np.minimum(np.searchsorted(slow, pair), slow.size - 1)
    return np.asarray(slow[at] == pair)


class Draws:
    """The draws of some devices of a group in some steps, and whether they are rare."""

    def __init__(self, cluster: Cluster, index: int, device: IntArray, step: Words) -> None:
        self.group = cluster.plan.groups[index]
        key = key_of(cluster.plan.seed)
        identity = np.uint32(self.group.identity)

        def draws(purpose: Purpose, at: Words) -> tuple[FloatArray, NDArray[np.bool_]]:
            return complete(device, at, identity, word_3(cluster.replicate, purpose), *key)

        refreshes = refreshes_of(cluster.plan, self.group, cluster.replicate)
        drawn = step if refreshes is None else drawn_at(device, step.astype(np.int64), *refreshes)
        self.survival, self.rare = draws(Purpose.STEP, drawn)
        self.stall_survival, self.stall_rare = self.survival, self.rare
        if self.group.stall is not None:
            self.stall_survival, self.stall_rare = draws(Purpose.STALL, step)

    def time(self, base: FloatArray) -> FloatArray:
        """The times of devices that take `base` without this step's jitter, s."""
        time = base
        if self.group.step is not None:
            time = time * self.group.step.quantile(self.survival)
        if self.group.stall is not None:
            time = time + self.group.stall.quantile(self.stall_survival)
        return time


def _kept(
    cluster: Cluster, index: int, screened: GroupScreen, first: int, count: int
) -> tuple[IntArray, IntArray]:
    """The codes of what is kept in each step, shape (steps, capacity), and their number."""
    group = cluster.plan.groups[index]
    if screened.kept == 0:
        return np.empty((count, 0), np.int64), np.zeros(count, np.int64)
    identity = np.uint32(group.identity)
    key = key_of(cluster.plan.seed)
    pieces: list[tuple[Thresholds, Purpose, int]] = [(screened.step, Purpose.STEP, 0)]
    if screened.stall is not None:
        pieces.append((screened.stall, Purpose.STALL, STALL))
    capacity = int(screened.kept + 8 * screened.kept**0.5) + 16
    while True:
        kept = np.empty((count, capacity), np.int64)
        number = np.zeros(count, np.int64)
        for of, purpose, mark in pieces:
            last = word_3(cluster.replicate, purpose)
            if of.blocks.size:
                find_rare(
                    of.blocks,
                    of.entry,
                    of.threshold,
                    first,
                    count,
                    identity,
                    last,
                    *key,
                    mark,
                    kept,
                    number,
                )
            if of.usual.size:
                screen(
                    of.usual,
                    of.usual_threshold,
                    first,
                    count,
                    identity,
                    last,
                    *key,
                    mark + USUAL,
                    kept,
                    number,
                )
        most = int(number.max())
        if most <= capacity:
            break
        capacity = most
    return kept, number
