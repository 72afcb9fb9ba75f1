"""From a plan to a tally: tiles of steps on threads, summed in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from mcsim.engine.cluster import Cluster, draw_cluster
from mcsim.engine.sampled import OVERFLOW, Steps, sample_steps
from mcsim.engine.screening import GroupLaws
from mcsim.engine.tally import Accumulator, ReplicateTally, Tally
from mcsim.model.plan import Plan
from mcsim.threads import available_threads

_TILE_DRAWS = 1 << 24
"""Draws of a tile: some 5 ms of work, long against a call's cost, short against a signal's wait."""
_MAX_TILE = 1 << 13

Progress = Callable[[int, int], None]
"""Called with the steps done and the steps asked for, over all replicates."""


def simulate(
    plan: Plan,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
    tile: int | None = None,
) -> Tally:
    """Sample every step of every replicate.

    threads: default all that are available. tile: steps that a thread takes at a time (default:
    by the number of devices). Neither changes any bit of the result.
    Raises SimulationError where times overflow, ValueError for less than one thread.
    """
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads}")
    threads = threads or available_threads()
    tile = tile or max(1, min(_MAX_TILE, _TILE_DRAWS // plan.devices, plan.steps))
    with np.errstate(**OVERFLOW):
        laws = tuple(GroupLaws(group.step, group.stall) for group in plan.groups)
    tallies: list[ReplicateTally] = []
    with ThreadPoolExecutor(threads, "mcsim") as pool:
        for replicate in range(plan.replicates):
            with np.errstate(**OVERFLOW):
                cluster = draw_cluster(plan, laws, replicate)
                cluster.screens(0)
            accumulator = Accumulator(plan)
            done = 0
            for steps in _in_order(pool, threads, cluster, tile):
                accumulator.add(steps)
                done += steps.time.size
                if progress is not None:
                    progress(replicate * plan.steps + done, plan.replicates * plan.steps)
            tallies.append(accumulator.tally())
    return Tally(plan, tallies)


def _in_order(
    pool: ThreadPoolExecutor, threads: int, cluster: Cluster, tile: int
) -> Iterator[Steps]:
    """The steps of a replicate tile by tile, a few tiles ahead on the pool's threads."""
    running: deque[Future[Steps]] = deque()
    try:
        for first in range(0, cluster.plan.steps, tile):
            count = min(tile, cluster.plan.steps - first)
            running.append(pool.submit(sample_steps, cluster, first, count))
            if len(running) > 2 * threads:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        for waiting in running:
            waiting.cancel()
