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
from mcsim.engine.tally import Span, Sums, Tally, neighbours_joined
from mcsim.model.choice import sampled_seconds, steps_a_block
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

Watch = Callable[[Tally], None]
"""Called now and then with what is done; the tally is the same every time, and grows."""


def simulate(
    plan: Plan,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
    engine: Engine | None = None,
    earlier: Tally | None = None,
    blocks: range | None = None,
    watch: Watch | None = None,
    tile: int | None = None,
) -> Tally:
    """Every step of every replicate, or some of them.

    threads: default all that are available. engine: default the sampled one. earlier: the tally
    of the same plan, perhaps with fewer steps or replicates; what it holds is not sampled again.
    blocks: only these of `blocks_of` the plan. watch: is told what is done. tile: at most so many
    steps are sampled at a time; default as is fastest. None of them changes a bit of what is
    sampled (but the engine).
    Raises SimulationError where times overflow, ValueError for less than one thread.
    """
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads}")
    threads = threads or available_threads()
    engine = engine or sampled_engine(plan)
    tally = Tally(plan) if earlier is None else earlier.begun(plan)
    tasks = _what_is_left(plan, tally.missing(blocks), threads)
    steps_left = sum(task.count for task in tasks)
    steps = steps_left + tally.steps
    steps_done = tally.steps

    def done(count: int) -> None:
        nonlocal steps_done
        steps_done += count
        if progress is not None:
            progress(steps_done, steps)

    pool = ThreadPoolExecutor(threads, "mcsim")
    try:
        for task, parts in _in_order(pool, threads, engine, plan, tasks, tile, done):
            tally.add(task.replicate, parts)
            if watch is not None:
                watch(tally)
    finally:
        # Whoever is interrupted does not wait for what is being sampled.
        pool.shutdown(wait=False, cancel_futures=True)
    return tally


@dataclass(frozen=True)
class Task:
    """Some steps of a replicate for a thread: whole blocks, but for the last of the replicate."""

    replicate: int
    first: int
    count: int


def _what_is_left(plan: Plan, missing: Sequence[Span], threads: int) -> list[Task]:
    """The steps to sample.

    Several blocks are one task where there are many: threads then meet less often, at the
    interpreter's lock.
    """
    block = steps_a_block(plan)
    blocks = sum(end - first for _, first, end in missing)
    together = min(_MOST_TOGETHER, blocks // (_TASKS_A_THREAD * threads))
    together = min(together, int(_MOST_AT_ONCE / (block * plan.devices)))
    size = block * (1 if plan.keep == "devices" else max(together, 1))
    return [
        Task(replicate, first, min(size, min(end * block, plan.steps) - first))
        for replicate, start, end in missing
        for first in range(start * block, min(end * block, plan.steps), size)
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
    running: deque[tuple[Task, list[Future[Steps]], Future[list[Sums]] | None]] = deque()
    drawn: dict[int, Future[Replicate]] = {}

    def submit(task: Task) -> None:
        # A cluster is drawn on the pool too, before the first of its tasks is begun there.
        if task.replicate not in drawn:
            drawn[task.replicate] = pool.submit(_draw, engine, task.replicate)
        cluster = drawn[task.replicate]
        pieces = _pieces(plan, task, len(tasks), threads, tile)
        if len(pieces) == 1:
            whole = pool.submit(lambda: _sums(plan, task, [_sample(cluster, task)]))
            running.append((task, [], whole))
        else:
            parts = [pool.submit(_sample, cluster, piece) for piece in pieces]
            running.append((task, parts, None))

    try:
        for task in islice(waiting, threads + 1):
            submit(task)
        while running:
            task, parts, whole = running[0]
            if whole is not None:
                sums = whole.result()
                done(task.count)
            else:
                steps = []
                for part in parts:
                    steps.append(part.result())
                    done(len(steps[-1].time))
                # Not on the pool, where it would keep a thread waiting for another's piece.
                sums = _sums(plan, task, steps)
            running.popleft()
            for other in islice(waiting, 1):
                submit(other)
            if running and running[0][0].replicate != task.replicate:
                del drawn[task.replicate]
            yield task, sums
    finally:
        for _, parts, whole in running:
            if whole is not None:
                whole.cancel()
            for part in parts:
                part.cancel()


def _pieces(plan: Plan, task: Task, tasks: int, threads: int, tile: int | None) -> list[Task]:
    """What is sampled at a time: all of a task, or less where a step takes long, or where there
    are too few tasks for all threads."""
    seconds = sampled_seconds(plan)
    size = max(int(_LONGEST_PIECE / seconds), 1)
    if tasks < 2 * threads and task.count * seconds > _WORTH_DIVIDING:
        size = min(size, -(-task.count // (2 * threads)))
    # As many pieces, as long as each other.
    size = tile or -(-task.count // -(-task.count // size))
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


def _sums(plan: Plan, task: Task, parts: Sequence[Steps]) -> list[Sums]:
    """Of the blocks of a task: joined, but for a last one that is not full."""
    first, *others = parts
    steps = first.joined(*others)
    size = steps_a_block(plan)
    blocks = range(0, task.count, size)
    sums = [Sums.of(plan, steps.part(at, size), (task.first + at) // size) for at in blocks]
    return neighbours_joined(task.replicate, sums, size)
