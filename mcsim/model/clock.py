"""The clock: how long a step takes that nothing disturbs, its pipeline and network included.

Slow states, shocks, the swing of the day and the states of links are given in time and looked at
once a step, so the time of a step turns their rates and durations into probabilities of steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from mcsim.laws import FloatArray
from mcsim.model.barrier import stages_end, step_end
from mcsim.model.buckets import buckets_ready
from mcsim.model.division import Division
from mcsim.model.plan import Barrier, Delay, Group, identity_of
from mcsim.model.wear import aged, link_name, states_of, wait_for
from mcsim.scenario.network import Link


def clock_of(
    groups: Sequence[Group],
    sites: int,
    barrier: Barrier | None,
    division: Division | None,
    every: int = 1,
) -> float:
    """Seconds of a step without any jitter, slow state or random delay, with all links whole.

    every: steps from one exchange among the sites to the next, each of which has its part of it.
    """
    if division is not None:
        return _of_pipelines(groups, sites, division)
    ready = np.zeros((1, sites))
    for group in groups:
        ready[0, group.site] = max(ready[0, group.site], group.compute)
    delays = np.zeros((1, len(barrier.delays) if barrier else 0))
    whole = float(step_end(barrier, ready, delays)[0])
    if every == 1:
        return whole
    inside = float(step_end(barrier, ready, delays, np.zeros(1))[0])
    return inside + (whole - inside) / every


def timed(
    barriers: Sequence[Barrier],
    buckets: int,
    links: Sequence[Link],
    clock: float,
    every: int = 1,
) -> tuple[Barrier, ...]:
    """The barriers of a step with their links looked at once in so many seconds.

    buckets: that each exchanges. every: steps from one exchange to the next. A flap begins while
    links are used, or while they are not.
    """
    by_identity = {identity_of(link_name(link)): aged(link) for link in links}
    used = sum(buckets * barrier.across for barrier in barriers)
    idle = max(every * clock - used, 0.0)
    return tuple(_timed(barrier, by_identity, clock, idle, used) for barrier in barriers)


def _timed(
    barrier: Barrier, by_identity: Mapping[int, Link], clock: float, idle: float, used: float
) -> Barrier:
    def waiting(delay: Delay) -> Delay:
        if not delay.is_flap:
            return delay
        found = []
        for one in delay.messages:
            flap = by_identity[one.identity].flap
            assert flap is not None
            found.append(replace(one, law=wait_for(flap, idle, used)))
        return replace(delay, messages=tuple(found))

    return replace(
        barrier,
        links=tuple(states_of(by_identity[one.identity], clock) for one in barrier.links),
        delays=tuple(waiting(delay) for delay in barrier.delays),
    )


def _of_pipelines(groups: Sequence[Group], sites: int, division: Division) -> float:
    """The recursion of the pipelines that differ, and the gradients of the last ones."""
    placement, parallel = division.placement, division.parallel
    together = placement.unit.reshape(-1, parallel.expert, placement.stages)
    group = placement.group[together]
    compute = np.array([one.compute for one in groups])[group].max(axis=1)
    met = np.array(division.tensor_time)[group].max(axis=1)
    met = met + np.array(division.expert_time)[group].max(axis=1)
    gather = np.array(division.gather)
    forward = np.maximum(compute * division.forward + met, gather)
    backward = np.maximum(compute * division.backward + division.collectives_back * met, gather)
    handing, site = division.handing[:: parallel.expert], placement.site[together[:, 0]]
    different = np.unique(np.hstack([forward, backward, handing, site]), axis=0)
    shape = (placement.stages, sites)
    ready, last = np.full((len(division.deciding), *shape), -np.inf), np.full(shape, -np.inf)
    for row in different:
        times, back, ways, at = np.split(row, 4)
        end, time = _last_of_pieces(division, times, back, ways.astype(np.intp))
        place = np.arange(placement.stages), at.astype(np.intp)
        buckets = buckets_ready(division.deciding, parallel.buckets, end, time)
        ready[:, *place] = np.maximum(ready[:, *place], buckets)
        last[place] = np.maximum(last[place], end[:, -1])
    barriers = division.barriers
    most = max((len(barrier.delays) for barrier in barriers), default=0)
    none = np.zeros((1, placement.stages, most))
    across = np.array([[barrier.across for barrier in barriers]])
    whole = stages_end(
        barriers,
        parallel.buckets,
        division.deciding,
        ready[:, None],
        last[None],
        none,
        none,
        across,
    )
    return float(whole.time[0])


def _last_of_pieces(
    division: Division, forward: FloatArray, backward: FloatArray, handing: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """When the last backward pass of each piece of each stage ends, and how long it takes, s;
    shape (stages, pieces), in the order in which they are done.

    forward, backward: s, shape (stages,), of a pass. handing: how results leave each stage.
    """
    one = division.schedule
    stages = one.stages
    times = [forward.tolist(), backward.tolist()]
    ways = [division.ways[way] for way in handing]
    free = [[0.0] * stages, [0.0] * stages]
    end = [0.0] * one.stage.size
    rows = zip(
        one.stage.tolist(),
        one.backward.tolist(),
        one.before.tolist(),
        one.needs.tolist(),
        one.transferred.tolist(),
        strict=True,
    )
    # Plain lists: 0.6 us an operation; arrays of one number each take ten times as long.
    for i, (s, back, before, needs, transferred) in enumerate(rows):
        ready = end[before] if before >= 0 else 0.0
        if needs >= 0:
            there = end[needs]
            if transferred:
                place = s if back else (s - 1) % stages
                way = ways[place]
                there = max(there, free[back][place]) + way.busy
                free[back][place] = there
                there += way.latency
            ready = max(ready, there)
        end[i] = ready + times[back][s]
    done = np.zeros((stages, one.chunks))
    last = one.backward & (one.microbatch == one.microbatches - 1)
    done[one.stage[last], one.chunks - 1 - one.chunk[last]] = np.array(end)[last]
    return done, np.repeat(backward[:, None], one.chunks, axis=1)
