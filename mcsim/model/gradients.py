"""The gradients of a divided model: each stage's are summed among its replicas, by buckets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from mcsim.model.hazard import Indices
from mcsim.model.network import barrier_among
from mcsim.model.plan import Barrier
from mcsim.model.sharing import Members
from mcsim.model.work import Work


def barriers_of(work: Work) -> tuple[Barrier, ...]:
    """Of a bucket of each stage's gradients, which its replicas sum; none without a payload."""
    payloads = _gradients(work)
    there = work.scenario.network is not None or work.scenario.link
    if not payloads or not (there or _spans_sites(work)):
        return ()
    found = []
    for stage in range(work.placement.stages):
        buckets = work.parallel.buckets
        one = [_barrier(work, stage, size / buckets, apart) for size, apart in payloads]
        found.append(one[0] if len(one) == 1 else _one_after_the_other(*one))
    return tuple(_with_flaps_once(found))


def _spans_sites(work: Work) -> bool:
    """Whether replicas of a stage are at several sites."""
    site = work.placement.site[work.placement.unit]
    return bool((site != site[0]).any())


def _with_flaps_once(barriers: Sequence[Barrier]) -> Iterator[Barrier]:
    """A link that is down is down for all stages: they wait for it together, once."""
    waited = False
    for barrier in barriers:
        flaps = any(delay.is_flap for delay in barrier.delays)
        if flaps and waited:
            rest = tuple(delay for delay in barrier.delays if not delay.is_flap)
            yield replace(barrier, delays=rest)
        else:
            yield barrier
        waited |= flaps


def _gradients(work: Work) -> list[tuple[float, int]]:
    """Bytes of a device that are all-reduced, and among every how many-th replica."""
    parallel, given = work.parallel, work.scenario.workload.gradient
    if given is not None:
        return [(given / (parallel.tensor * parallel.pipeline), 1)]
    if work.training is None:
        return []
    width = work.training.gradient_width
    # ZeRO scatters gradients and gathers parameters (2 bytes), which an all-reduce of the mean
    # of both is like; stage 3 gathers elsewhere.
    size = {0: width, 3: width / 2}.get(parallel.zero, (width + 2.0) / 2)
    found = [(work.training.dense * size, 1)]
    if work.training.expert:
        found.append((work.training.expert * size, parallel.expert))
    return found


def _barrier(work: Work, stage: int, payload: float, apart: int) -> Barrier:
    members = []
    units = work.placement.unit[::apart, stage]
    for site in range(len(work.sites)):
        local = units[work.placement.site[units] == site]
        members.append(list(_members(work, local)))
    return barrier_among(
        work.network,
        work.scenario.link,
        payload,
        0.0,
        work.sites,
        members,
        max(group.compute for group in work.groups),
        work.parallel.tensor * apart,
    )


def _members(work: Work, units: Indices) -> list[Members]:
    """Units of a stage at a site, by group."""
    found = []
    for index, group in enumerate(work.groups):
        local = units[work.placement.group[units] == index]
        if local.size:
            nodes, each = np.unique(work.placement.node[local], return_counts=True)
            # Nodes of a group are numbered one after the other, as its racks are.
            first = work.placement.node[work.placement.group == index].min()
            _, in_rack = np.unique((nodes - first) // group.nodes_per_rack, return_counts=True)
            found.append(
                Members(
                    int(each.max()),
                    each.size,
                    local.size,
                    int(in_rack.max()),
                    group.scale_up,
                    group.has_full_node,
                )
            )
    return found


def gather_times(work: Work) -> tuple[float, ...]:
    """Of a piece's parameters, which replicas share (ZeRO stage 3): half an all-reduce."""
    stages = range(work.placement.stages)
    if work.training is None or not work.training.gathered:
        return (0.0,) * len(stages)
    each = [_barrier(work, stage, work.training.gathered, 1) for stage in stages]
    return tuple((max(one.up) + one.across + max(one.down)) / 2 for one in each)


def _one_after_the_other(one: Barrier, other: Barrier) -> Barrier:
    def total(a: tuple[float, ...], b: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(x + y for x, y in zip(a, b, strict=True))

    together = replace(
        one.exchange,
        latency=one.exchange.latency + other.exchange.latency,
        volume=one.exchange.volume + other.exchange.volume,
    )
    return replace(
        one,
        up=total(one.up, other.up),
        down=total(one.down, other.down),
        exchange=together,
        levels=tuple(
            (a[0] + b[0], a[1] + b[1]) for a, b in zip(one.levels, other.levels, strict=True)
        ),
        delays=one.delays + tuple(d for d in other.delays if not d.is_flap),
    )
