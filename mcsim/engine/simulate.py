"""From a plan to a tally: blocks of steps on threads, summed in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np

from mcsim.engine.ends import OVERFLOW
from mcsim.engine.sampled import SampledEngine
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
    earlier: Tally | None = None,
    tile: int = BLOCK,
) -> Tally:
    """Every step of every replicate.

    threads: default all that are available. engine: default the sampled one. earlier: the tally
    of the same plan with fewer steps or replicates, which are not sampled again. tile: at most so
    many steps are sampled at a time. None of them changes a bit of the result (but the engine).
    Raises SimulationError where times overflow, ValueError for less than one thread.
    """
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads}")
    threads = threads or available_threads()
    engine = engine or SampledEngine(plan)
    blocks, whole = _what_is_left(plan, earlier)
    last: list[Sums | None] = [None] * plan.replicates
    steps = plan.replicates * plan.steps
    steps_done = steps - sum(block.count for block in blocks)
    with ThreadPoolExecutor(threads, "mcsim") as pool:
        for block, sums in _in_order(pool, threads, engine, plan, blocks, tile):
            if block.count == BLOCK:
                before = whole[block.replicate]
                whole[block.replicate] = sums if before is None else before.joined(sums)
            else:
                last[block.replicate] = sums
            steps_done += block.count
            if progress is not None:
                progress(steps_done, steps)
    return Tally(plan, [_joined(*pair) for pair in zip(whole, last, strict=True)], whole)


def _joined(whole: Sums | None, last: Sums | None) -> Sums:
    if whole is not None and last is not None:
        return whole.joined(last)
    either = whole or last
    assert either is not None
    return either


@dataclass(frozen=True)
class Block:
    """Some steps of a replicate that are summed together."""

    replicate: int
    first: int
    count: int


def _what_is_left(plan: Plan, earlier: Tally | None) -> tuple[list[Block], list[Sums | None]]:
    """The blocks to sample, and of each replicate the sums of those that are not."""
    whole: list[Sums | None] = [None] * plan.replicates
    if earlier is not None:
        whole[: len(earlier.whole)] = earlier.whole
    blocks = [
        Block(replicate, first, min(BLOCK, plan.steps - first))
        for replicate in range(plan.replicates)
        for first in range(0, plan.steps, BLOCK)
        if first >= _steps_of(whole[replicate])
    ]
    return blocks, whole


def _steps_of(sums: Sums | None) -> int:
    return 0 if sums is None else sums.moments.count


def _in_order(
    pool: ThreadPoolExecutor,
    threads: int,
    engine: Engine,
    plan: Plan,
    blocks: Sequence[Block],
    tile: int,
) -> Iterator[tuple[Block, Sums]]:
    """The sums of the blocks, in their order, a few blocks ahead on the pool's threads."""
    waiting = iter(blocks)
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
