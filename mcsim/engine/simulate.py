"""From a plan to a tally: blocks of steps on threads, summed in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np

from mcsim.engine.sampled import OVERFLOW, SampledEngine
from mcsim.engine.steps import Engine, Replicate
from mcsim.engine.tally import BLOCK, Sums, Tally
from mcsim.model.plan import Plan
from mcsim.threads import available_threads

Progress = Callable[[int, int], None]
"""Called with the steps done and the steps asked for, over all replicates."""


def simulate(
    plan: Plan,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
    engine: Engine | None = None,
    tile: int = BLOCK,
) -> Tally:
    """Every step of every replicate.

    threads: default all that are available. engine: default the sampled one. tile: at most so
    many steps are sampled at a time. Threads and tiles change no bit of the result.
    Raises SimulationError where times overflow, ValueError for less than one thread.
    """
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads}")
    threads = threads or available_threads()
    engine = engine or SampledEngine(plan)
    done: list[Sums | None] = [None] * plan.replicates
    steps_done = 0
    with ThreadPoolExecutor(threads, "mcsim") as pool:
        for block, sums in _in_order(pool, threads, engine, plan, tile):
            before = done[block.replicate]
            done[block.replicate] = sums if before is None else before.joined(sums)
            steps_done += block.count
            if progress is not None:
                progress(steps_done, plan.replicates * plan.steps)
    return Tally(plan, [sums for sums in done if sums is not None])


@dataclass(frozen=True)
class Block:
    """Some steps of a replicate that are summed together."""

    replicate: int
    first: int
    count: int


def _blocks(plan: Plan) -> Iterator[Block]:
    for replicate in range(plan.replicates):
        for first in range(0, plan.steps, BLOCK):
            yield Block(replicate, first, min(BLOCK, plan.steps - first))


def _in_order(
    pool: ThreadPoolExecutor, threads: int, engine: Engine, plan: Plan, tile: int
) -> Iterator[tuple[Block, Sums]]:
    """The sums of the blocks, in their order, a few blocks ahead on the pool's threads."""
    waiting = _blocks(plan)
    running: deque[tuple[Block, Future[Sums]]] = deque()
    drawn: dict[int, Future[Replicate]] = {}

    def submit(block: Block) -> None:
        # A cluster is drawn on the pool too, before the first of its blocks is begun there.
        if block.replicate not in drawn:
            drawn[block.replicate] = pool.submit(_draw, engine, block.replicate)
        task = pool.submit(_sums, plan, drawn[block.replicate], block, tile)
        running.append((block, task))

    try:
        for block in islice(waiting, threads + 1):
            submit(block)
        while running:
            block, task = running.popleft()
            sums = task.result()
            for other in islice(waiting, 1):
                submit(other)
            if running and running[0][0].replicate != block.replicate:
                del drawn[block.replicate]
            yield block, sums
    finally:
        for _, task in running:
            task.cancel()


def _draw(engine: Engine, replicate: int) -> Replicate:
    with np.errstate(**OVERFLOW):
        return engine.draw(replicate)


def _sums(plan: Plan, drawn: Future[Replicate], block: Block, tile: int) -> Sums:
    replicate = drawn.result()
    parts = [
        replicate.sample(first, min(tile, block.first + block.count - first))
        for first in range(block.first, block.first + block.count, tile)
    ]
    return Sums.of(plan, parts[0].joined(*parts[1:]))
