"""Steps that do not wait for everybody: the arrival that ends one, and who is late for it.

The (n - k + 1)-th latest of n arrivals is the k-th. So it is among the latest candidates, if enough
of them are looked at; see `Cluster.screens`. Whoever is late is interrupted at that moment, so that
means over devices count his time up to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mcsim.engine.cluster import Cluster
from mcsim.engine.compile import kernel
from mcsim.engine.screening import EVERY_DEVICE, GroupScreen, Level
from mcsim.engine.shared import shared_factors
from mcsim.engine.steps import Arrivals
from mcsim.laws import FloatArray
from mcsim.model.policy import Cutoff

IntArray = NDArray[np.int64]


class Scored(NamedTuple):
    """Candidates of a group, one after the other by step.

    offsets: shape (steps + 1,), where each step's begin. device; time, s (-inf of what is none);
    survival, that it was drawn at; excess, s, over the expected time: of each candidate.
    """

    offsets: IntArray
    device: IntArray
    time: FloatArray
    survival: FloatArray
    excess: FloatArray


class Together(NamedTuple):
    """Several lists of candidates as one. bounds: shape (lists, steps + 1); the rest one after the
    other, as of `Scored`."""

    bounds: IntArray
    device: IntArray
    time: FloatArray
    survival: FloatArray
    excess: FloatArray

    @classmethod
    def of(cls, lists: list[Scored]) -> Together:
        """At least one list."""
        size = np.array([one.device.size for one in lists])
        start = np.cumsum(size) - size
        bounds = np.stack([one.offsets for one in lists]) + start[:, None]
        return cls(
            np.ascontiguousarray(bounds),
            np.concatenate([one.device for one in lists]),
            np.concatenate([one.time for one in lists]),
            np.concatenate([one.survival for one in lists]),
            np.concatenate([one.excess for one in lists]),
        )


@kernel
def arrival_before(
    bounds: IntArray, time: FloatArray, survival: FloatArray, spare: int
) -> tuple[FloatArray, FloatArray]:
    """The arrival after which `spare` more come, in each step: its time, s, and its draw.

    bounds, time, survival: as of `Together`. Among equal times the smaller draw is the later one.
    Result: each shape (steps,); -inf where there are no more than `spare` candidates.
    """
    steps = bounds.shape[1] - 1
    found = np.full(steps, -np.inf)
    draw = np.ones(steps)
    for s in range(steps):
        room = 0
        for j in range(bounds.shape[0]):
            room += bounds[j, s + 1] - bounds[j, s]
        late = np.empty(room)
        n = 0
        for j in range(bounds.shape[0]):
            for i in range(bounds[j, s], bounds[j, s + 1]):
                if time[i] > -np.inf:
                    late[n] = time[i]
                    n += 1
        if n <= spare:
            continue
        at = np.partition(late[:n], n - 1 - spare)[n - 1 - spare]
        later = 0
        tied = np.empty(n)
        equal = 0
        for j in range(bounds.shape[0]):
            for i in range(bounds[j, s], bounds[j, s + 1]):
                if time[i] > at:
                    later += 1
                elif time[i] == at:
                    tied[equal] = survival[i]
                    equal += 1
        found[s] = at
        draw[s] = tied[0] if equal == 1 else np.sort(tied[:equal])[spare - later]
    return found, draw


@kernel
def until_cut(
    bounds: IntArray,
    device: IntArray,
    time: FloatArray,
    survival: FloatArray,
    excess: FloatArray,
    factor: FloatArray,
    cut: FloatArray,
    cut_draw: FloatArray,
    end: FloatArray,
    end_draw: FloatArray,
) -> tuple[FloatArray, FloatArray, IntArray, FloatArray, IntArray]:
    """The last arrival of a group up to `end`, and its times up to `cut`.

    bounds to excess: as of `Together`, of the group alone. factor: shape (steps,), by which all
    its times are multiplied already, but no excess. cut, cut_draw, end, end_draw: shape (steps,),
    s, and the draws of those who arrive just then: who has a smaller one is too late.
    Result: each shape (steps,), the last arrival (-inf where there is none), its draw and its
    device; the surplus over the expected times, s; and how many are late for the cut.
    """
    steps = bounds.shape[1] - 1
    latest = np.empty(steps)
    draw = np.empty(steps)
    who = np.empty(steps, np.int64)
    surplus = np.empty(steps)
    late = np.empty(steps, np.int64)
    for s in range(steps):
        best = -np.inf
        drawn = 1.0
        last = np.int64(0)
        total = 0.0
        count = 0
        for j in range(bounds.shape[0]):
            for i in range(bounds[j, s], bounds[j, s + 1]):
                # Void, or not a number.
                if not time[i] > -np.inf:
                    continue
                total += excess[i] * factor[s]
                if time[i] > cut[s] or (time[i] == cut[s] and survival[i] < cut_draw[s]):
                    total -= time[i] - cut[s]
                    count += 1
                if time[i] > end[s] or (time[i] == end[s] and survival[i] < end_draw[s]):
                    continue
                if time[i] > best or (time[i] == best and survival[i] < drawn):
                    best = time[i]
                    drawn = survival[i]
                    last = device[i]
        latest[s] = best
        draw[s] = drawn
        who[s] = last
        surplus[s] = total
        late[s] = count
    return latest, draw, who, surplus, late


def cut_short(
    cluster: Cluster,
    cutoff: Cutoff,
    levels: Sequence[Level],
    screens: Sequence[GroupScreen],
    lists: Sequence[Sequence[Scored]],
    first: int,
    count: int,
    is_last: bool,
) -> tuple[Arrivals, NDArray[np.bool_]]:
    """The arrivals of the steps from `first` on, and in which nothing else could change them.

    levels, screens: as `Cluster.screens` gives them; is_last: at the last depth, which keeps all
    devices. lists: of each group, the candidates, whose times are multiplied by what sites share.
    """
    plan = cluster.plan
    shared = shared_factors(plan, cluster.replicate, first, count)
    factors = np.ones((count, len(plan.sites))) if shared is None else shared
    if shared is not None:
        for group, some in zip(plan.groups, lists, strict=True):
            for one in some:
                one.time[:] *= np.repeat(factors[:, group.site], np.diff(one.offsets))
    never, nobody = np.full(count, np.inf), np.zeros(count)
    if cutoff.has_timeout:
        # Whoever is missing is waited for until then, at every site.
        cut, cut_draw = np.full(count, cutoff.timeout), nobody
        end, end_draw = never, nobody
    else:
        every = Together.of([one for some in lists for one in some])
        cut, cut_draw = arrival_before(every.bounds, every.time, every.survival, cutoff.spare)
        end, end_draw = cut, cut_draw
    found, late = Arrivals.of_nobody(count, plan), np.zeros(count, np.int64)
    for index, (group, some) in enumerate(zip(plan.groups, lists, strict=True)):
        column, expected = group.site, screens[index].expected_sum
        factor = np.ascontiguousarray(factors[:, column])
        latest, drawn, who, surplus, missing = until_cut(
            *Together.of(list(some)), factor, cut, cut_draw, end, end_draw
        )
        found.busy[:, index] = (expected * factor + surplus) / group.count
        late += missing
        found.admit(index, column, latest, drawn, who)
    sure = np.ones(count, np.bool_)
    if not is_last:
        for site, level in enumerate(levels):
            sure &= _is_above(level, factors[:, site], found.ready[:, site], found.draw[:, site])
            if cutoff.has_timeout:
                sure &= level.time * factors[:, site] <= cutoff.timeout
            else:
                sure &= _is_above(level, factors[:, site], cut, cut_draw)
    if cutoff.has_timeout:
        found = found._replace(ready=np.minimum(found.ready, cutoff.timeout))
    return found._replace(lost=late / plan.devices), sure


def _is_above(
    level: Level, factor: FloatArray, time: FloatArray, draw: FloatArray
) -> NDArray[np.bool_]:
    """Whether arrivals outrank all devices of a site that are not kept, times its factor."""
    if level == EVERY_DEVICE:
        return factor > 0.0
    tied = (factor == 1.0) & (time == level.time) & (draw < level.tie)
    return np.asarray((factor > 0.0) & ((time > level.time * factor) | tied))


def late_share(cluster: Cluster) -> float | None:
    """The share of samples that a timeout is expected to lose, given the cluster.

    None where there is no timeout, or no law of the times of devices that is the same in all steps.
    """
    plan = cluster.plan
    if plan.cutoff is None or not plan.cutoff.has_timeout:
        return None
    if plan.slow_sites or plan.daily is not None:
        return None
    late = 0.0
    for group, base in zip(plan.groups, cluster.base, strict=True):
        if group.slow or (group.step is not None and group.stall is not None) or base.min() <= 0:
            return None
        if group.step is not None:
            late += float(group.step.survival(plan.cutoff.timeout / base).sum())
        elif group.stall is not None:
            late += float(group.stall.survival(plan.cutoff.timeout - base).sum())
        else:
            late += float(np.count_nonzero(base > plan.cutoff.timeout))
    return late / plan.devices
