"""From a plan to a tally: blocks of steps on threads, summed in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np

from mcsim.engine.ends import OVERFLOW
from mcsim.engine.engines import sampled_engine
from mcsim.engine.steps import Engine, Replicate, Steps
from mcsim.engine.tally import BLOCK, Sums, Tally
from mcsim.model.choice import cpu_seconds
from mcsim.model.plan import Plan
from mcsim.threads import available_threads

_MOST_TOGETHER, _TASKS_A_THREAD = 8, 16
"""Blocks of a task, and the tasks that each thread should have at least."""
_MOST_AT_ONCE = 2e10
"""Devices and steps of a task: it takes half a second."""
_LONGEST_PIECE, _WORTH_DIVIDING = 0.5, 0.05
"""s, that a thread samples at a time; and that a task takes which is divided among threads."""

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
    engine = engine or sampled_engine(plan)
    whole = _what_is_known(plan, earlier)
    tasks = _what_is_left(plan, whole, threads)
    last: list[Sums | None] = [None] * plan.replicates
    steps = plan.replicates * plan.steps
    steps_done = steps - sum(task.count for task in tasks)

    def done(count: int) -> None:
        nonlocal steps_done
        steps_done += count
        if progress is not None:
            progress(steps_done, steps)

    with ThreadPoolExecutor(threads, "mcsim") as pool:
        for task, parts in _in_order(pool, threads, engine, plan, tasks, tile, done):
            for sums in parts:
                if sums.moments.count == BLOCK:
                    before = whole[task.replicate]
                    whole[task.replicate] = sums if before is None else before.joined(sums)
                else:
                    last[task.replicate] = sums
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
    done: Callable[[int], None],
) -> Iterator[tuple[Task, list[Sums]]]:
    """The sums of the tasks' blocks, in their order, a few tasks ahead on the pool's threads.

    done: is told of steps that have been sampled.
    """
    waiting = iter(tasks)
    running: deque[tuple[Task, list[Future[Steps]], Future[list[Sums]]]] = deque()
    drawn: dict[int, Future[Replicate]] = {}

    def submit(task: Task) -> None:
        # A cluster is drawn on the pool too, before the first of its tasks is begun there.
        if task.replicate not in drawn:
            drawn[task.replicate] = pool.submit(_draw, engine, task.replicate)
        cluster = drawn[task.replicate]
        pieces = _pieces(plan, task, len(tasks), threads, tile)
        if len(pieces) == 1:
            running.append((task, [], pool.submit(_sums, plan, lambda: [_sample(cluster, task)])))
            return
        # Pieces come before what waits for them, so that a thread is never kept from them.
        parts = [pool.submit(_sample, cluster, piece) for piece in pieces]
        sums = pool.submit(_sums, plan, lambda: [part.result() for part in parts])
        running.append((task, parts, sums))

    try:
        for task in islice(waiting, threads + 1):
            submit(task)
        while running:
            task, parts, future = running[0]
            for part in parts:
                done(len(part.result().time))
            sums = future.result()
            running.popleft()
            if not parts:
                done(task.count)
            for other in islice(waiting, 1):
                submit(other)
            if running and running[0][0].replicate != task.replicate:
                del drawn[task.replicate]
            yield task, sums
    finally:
        for _, parts, future in running:
            future.cancel()
            for part in parts:
                part.cancel()


def _pieces(plan: Plan, task: Task, tasks: int, threads: int, tile: int | None) -> list[Task]:
    """What is sampled at a time: all of a task, or less where a step takes long, or where there
    are too few tasks for all threads."""
    seconds = cpu_seconds(plan, "sampled") / (plan.steps * plan.replicates)
    size = max(int(_LONGEST_PIECE / seconds), 1)
    if tasks < 2 * threads and task.count * seconds > _WORTH_DIVIDING:
        size = min(size, -(-task.count // (2 * threads)))
    size = min(tile or size, task.count)
    end = task.first + task.count
    return [
        Task(task.replicate, first, min(size, end - first))
        for first in range(task.first, end, size)
    ]


def _draw(engine: Engine, replicate: int) -> Replicate:
    with np.errstate(**OVERFLOW):
        return engine.draw(replicate)


def _sample(drawn: Future[Replicate], task: Task) -> Steps:
    return drawn.result().sample(task.first, task.count)


def _sums(plan: Plan, parts: Callable[[], list[Steps]]) -> list[Sums]:
    """Of each block of a task."""
    first, *others = parts()
    steps = first.joined(*others)
    count = len(steps.time)
    return [Sums.of(plan, steps.part(at, BLOCK)) for at in range(0, count, BLOCK)]
