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

_MOST_TOGETHER, _TASKS_A_THREAD = 8, 16
"""Blocks of a task, and the tasks that each thread should have at least."""
_MOST_AT_ONCE = 2e10
"""Devices and steps of a task: it takes half a second."""

Progress = Callable[[int, int], None]
"""Called with the steps done and the steps asked for, over all replicates."""


def simulate(
    plan: Plan,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
    engine: Engine | None = None,
    earlier: Tally | None = None,
    tile: int | None = None,
) -> Tally:
    """Every step of every replicate.

    threads: default all that are available. engine: default the sampled one. earlier: the tally
    of the same plan with fewer steps or replicates, which are not sampled again. tile: at most so
    many steps are sampled at a time; default as is fastest. None of them changes a bit of the
    result (but the engine).
    Raises SimulationError where times overflow, ValueError for less than one thread.
    """
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads}")
    threads = threads or available_threads()
    engine = engine or SampledEngine(plan)
    whole = _what_is_known(plan, earlier)
    tasks = _what_is_left(plan, whole, threads)
    last: list[Sums | None] = [None] * plan.replicates
    steps = plan.replicates * plan.steps
    steps_done = steps - sum(task.count for task in tasks)
    with ThreadPoolExecutor(threads, "mcsim") as pool:
        for task, parts in _in_order(pool, threads, engine, plan, tasks, tile):
            for sums in parts:
                if sums.moments.count == BLOCK:
                    before = whole[task.replicate]
                    whole[task.replicate] = sums if before is None else before.joined(sums)
                else:
                    last[task.replicate] = sums
            steps_done += task.count
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
class Task:
    """Some steps of a replicate for a thread: whole blocks, but for the last of the replicate."""

    replicate: int
    first: int
    count: int


def _what_is_known(plan: Plan, earlier: Tally | None) -> list[Sums | None]:
    """Of each replicate the sums of the blocks that are not sampled again."""
    whole: list[Sums | None] = [None] * plan.replicates
    if earlier is not None:
        whole[: len(earlier.whole)] = earlier.whole
    return whole


def _what_is_left(plan: Plan, whole: Sequence[Sums | None], threads: int) -> list[Task]:
    """The steps to sample.

    Several blocks are one task where there are many: threads then meet less often, at the
    interpreter's lock.
    """
    starts = [0 if sums is None else sums.moments.count for sums in whole]
    blocks = sum(-(-(plan.steps - start) // BLOCK) for start in starts)
    together = min(_MOST_TOGETHER, blocks // (_TASKS_A_THREAD * threads))
    together = min(together, int(_MOST_AT_ONCE / (BLOCK * plan.devices)))
    size = BLOCK * (1 if plan.keep == "devices" else max(together, 1))
    return [
        Task(replicate, first, min(size, plan.steps - first))
        for replicate, start in enumerate(starts)
        for first in range(start, plan.steps, size)
    ]


def _in_order(
    pool: ThreadPoolExecutor,
    threads: int,
    engine: Engine,
    plan: Plan,
    tasks: Sequence[Task],
    tile: int | None,
) -> Iterator[tuple[Task, list[Sums]]]:
    """The sums of the tasks' blocks, in their order, a few tasks ahead on the pool's threads."""
    waiting = iter(tasks)
    running: deque[tuple[Task, Future[list[Sums]]]] = deque()
    drawn: dict[int, Future[Replicate]] = {}

    def submit(task: Task) -> None:
        # A cluster is drawn on the pool too, before the first of its tasks is begun there.
        if task.replicate not in drawn:
            drawn[task.replicate] = pool.submit(_draw, engine, task.replicate)
        running.append((task, pool.submit(_sums, plan, drawn[task.replicate], task, tile)))

    try:
        for task in islice(waiting, threads + 1):
            submit(task)
        while running:
            task, future = running.popleft()
            sums = future.result()
            for other in islice(waiting, 1):
                submit(other)
            if running and running[0][0].replicate != task.replicate:
                del drawn[task.replicate]
            yield task, sums
    finally:
        for _, future in running:
            future.cancel()


def _draw(engine: Engine, replicate: int) -> Replicate:
    with np.errstate(**OVERFLOW):
        return engine.draw(replicate)


def _sums(plan: Plan, drawn: Future[Replicate], task: Task, tile: int | None) -> list[Sums]:
    """Of each block."""
    replicate, end = drawn.result(), task.first + task.count
    size = tile or task.count
    parts = [
        replicate.sample(first, min(size, end - first)) for first in range(task.first, end, size)
    ]
    steps = parts[0].joined(*parts[1:])
    return [Sums.of(plan, steps.part(at, BLOCK)) for at in range(0, task.count, BLOCK)]
