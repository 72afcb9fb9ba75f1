"""A run on the workers of an executor: other processes, here or on other machines.

A task is some blocks of a run, to be sampled; its answer is their sums. The numbers of a step are
addressed and sums are joined by the numbers of their blocks, so no bit depends on who samples what,
nor on when.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    wait,
)
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from typing import Any, Generic, TypeVar

from mcsim.engine.engines import engine_of
from mcsim.engine.simulate import Progress, Watch, simulate
from mcsim.engine.steps import Engine, Replicate
from mcsim.engine.tally import Span, Sums, Tally
from mcsim.errors import WorkersError
from mcsim.model.choice import cpu_seconds, steps_a_block
from mcsim.model.plan import Plan
from mcsim.threads import available_threads

Item = TypeVar("Item")
Result = TypeVar("Result")

_SHORTEST, _LONGEST, _FIRST = 1.0, 30.0, 2.0
"""s, that a task takes; the last while nothing is known but expectations."""
_TASKS_A_WORKER = 4
"""Into so many tasks what is left is divided, so that all workers end together."""
_AHEAD = 2
"""Tasks of a worker that are under way, so that none waits for the next."""
_LIGHT = 1 << 16
"""Bytes of a plan that is sent with every task."""
_MOST_LOSSES = 4
_ASKED_AGAIN = 5.0
"""s, after which workers are counted again: some come later."""


@dataclass(frozen=True)
class Job:
    """What tasks are part of: a plan and the engine for it, with its target.

    key: names it. contents: both; None where the worker should have them from an earlier task.
    """

    key: str
    contents: bytes | None
    version: str

    @classmethod
    def of(cls, plan: Plan, engine: str, target: str = "cpu") -> Job:
        """The job with its contents."""
        contents = pickle.dumps((plan, engine, target))
        return cls(hashlib.sha256(contents).hexdigest(), contents, metadata.version("mcsim"))


Do = Callable[[Plan, Engine, int, Item], Result]
"""What a worker does for an item, on so many threads."""


@dataclass(frozen=True)
class Answer(Generic[Result]):
    """What came of a task, and what it took: s, on the clock and of processors."""

    result: Result
    wall: float
    cpu: float
    process: int


class _Kept:
    """The newest few values, each made once, whatever the threads that ask for it."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._futures: OrderedDict[Hashable, Future[Any]] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Any] | None) -> Any:
        """The value of a key, or a new one; None where there is neither."""
        with self._lock:
            future = self._futures.get(key)
            if future is None and make is None:
                return None
            new = Future[Any]()
            future = self._futures.setdefault(key, new)
            self._futures.move_to_end(key)
            if len(self._futures) > self._most:
                self._futures.popitem(last=False)
        if future is new and make is not None:
            try:
                new.set_result(make())
            except BaseException as error:
                new.set_exception(error)
                with self._lock:
                    self._futures.pop(key, None)
        return future.result()


class _Remembering:
    """An engine whose newest clusters are kept from task to task."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.name = engine, engine.name
        self._clusters = _Kept(2)

    def draw(self, replicate: int) -> Replicate:
        drawn: Replicate = self._clusters.get(replicate, lambda: self.engine.draw(replicate))
        return drawn


_jobs = _Kept(3)
_told_lock = threading.Lock()
_told = 0.0
"""Time of the processor, s, of which answers have told."""


def work(do: Do[Item, Result], job: Job, threads: int, item: Item) -> Answer[Result] | None:
    """Do a task here, in a worker; None where the job's contents would have to be sent."""
    here = metadata.version("mcsim")
    if here != job.version:
        raise WorkersError(f"a worker has mcsim {here}, and not {job.version}, which asks it")
    wall, cpu = time.perf_counter(), time.process_time()
    kept = _jobs.get(job.key, None if job.contents is None else partial(_opened, job.contents))
    if kept is None:
        return None
    plan, engine = kept
    result = do(plan, engine, threads, item)
    return Answer(result, time.perf_counter() - wall, _processor_since(cpu), os.getpid())


def _opened(contents: bytes) -> tuple[Plan, Engine]:
    plan, engine, target = pickle.loads(contents)
    return plan, _Remembering(engine_of(engine, plan, target))


def _processor_since(start: float) -> float:
    """Time of the processor since then that no other task of the process has told."""
    global _told
    with _told_lock:
        now = time.process_time()
        spent, _told = now - max(start, _told), now
    return spent


def _sampled(
    plan: Plan, engine: Engine, threads: int, blocks: range
) -> dict[int, tuple[Sums, ...]]:
    return simulate(plan, threads=threads, engine=engine, blocks=blocks).sums


class Crew:
    """The workers of an executor. threads: of each worker. cpu: s, that others have spent."""

    def __init__(self, executor: Executor, threads: int = 1) -> None:
        self._executor, self.each = executor, threads
        self._counted, self._workers = -_ASKED_AGAIN, 1
        self.cpu = 0.0

    @property
    def workers(self) -> int:
        """Their number, as far as the executor says it."""
        if time.monotonic() - self._counted >= _ASKED_AGAIN:
            with self._reported():
                self._workers = max(_workers_of(self._executor), 1)
            self._counted = time.monotonic()
        return self._workers

    @contextmanager
    def _reported(self) -> Iterator[None]:
        """Where the executor is gone, not a task wrong, an error that says so."""
        try:
            yield
        except BrokenExecutor as broken:
            raise WorkersError(f"the executor has lost its workers: {broken}") from broken
        except (OSError, RuntimeError) as error:
            # A scheduler of Dask that is gone, which its client says in many ways.
            if getattr(getattr(self._executor, "_client", None), "status", "running") == "running":
                raise
            raise WorkersError(f"the scheduler has been lost: {error}") from error

    @property
    def threads(self) -> int:
        """Of all workers together."""
        return self.workers * self.each

    def answers(
        self,
        do: Do[Item, Result],
        plan: Plan,
        engine: str,
        items: Iterator[Item],
        target: str = "cpu",
    ) -> Iterator[tuple[Item, Answer[Result]]]:
        """What the workers make of each item, in any order; few items are taken ahead.

        What a lost worker had is done again. Raises what a task raises; WorkersError where tasks
        are lost again and again.
        """
        job = Job.of(plan, engine, target)
        bare = replace(job, contents=None)
        always = len(job.contents or b"") <= _LIGHT
        submitted = 0
        again: deque[Item] = deque()
        losses: dict[Item, int] = {}
        running: dict[Future[Answer[Result] | None], Item] = {}

        def submit(item: Item) -> None:
            nonlocal submitted
            whole = always or item in losses or submitted < _AHEAD * self.workers
            submitted += 1
            sent = job if whole else bare
            running[self._executor.submit(work, do, sent, self.each, item)] = item

        try:
            with self._reported():
                while True:
                    while again:
                        submit(again.popleft())
                    while len(running) < _AHEAD * self.workers:
                        try:
                            submit(next(items))
                        except StopIteration:
                            break
                    if not running:
                        return
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        item = running.pop(future)
                        answer = _answer(future, item, losses)
                        if answer is None:
                            again.append(item)
                            continue
                        if answer.process != os.getpid():
                            self.cpu += answer.cpu
                        yield item, answer
        finally:
            for future in running:
                future.cancel()


def _answer(
    future: Future[Answer[Result] | None], item: Item, losses: dict[Item, int]
) -> Answer[Result] | None:
    """What a task gave; None where it has to be done again, with the contents of its job.

    losses: how often workers were lost with each item; 0 where they only lacked the contents.
    """
    try:
        answer = future.result()
    except Exception as error:
        if not _is_of_workers(error):
            raise
        losses[item] = losses.get(item, 0) + 1
        if losses[item] == _MOST_LOSSES:
            what = f"workers were lost {_MOST_LOSSES} times with the same task"
            raise WorkersError(f"{what}: {type(error).__name__}: {error}") from error
        return None
    if answer is None:
        losses.setdefault(item, 0)
    else:
        losses.pop(item, None)
    return answer


def _is_of_workers(error: BaseException) -> bool:
    """Whether an error says that a worker is gone, not that its task went wrong."""
    if isinstance(error, BrokenExecutor | CancelledError):
        return True
    return type(error).__module__.partition(".")[0] == "distributed"


def _workers_of(executor: Executor) -> int:
    client = getattr(executor, "_client", None)
    if client is not None:  # Dask's, whose workers come and go.
        return sum(client.nthreads().values())
    for name in ("num_workers", "_max_workers"):
        number = getattr(executor, name, None)
        if isinstance(number, int):
            return number
    return available_threads()


class _Cut:
    """The blocks to sample, cut into tasks that take neither long nor too short."""

    def __init__(self, plan: Plan, engine: str, missing: list[Span], crew: Crew) -> None:
        self._each = -(-plan.steps // steps_a_block(plan))
        self._left = deque(_in_one_row(missing, self._each))
        self._blocks = sum(len(blocks) for blocks in self._left)
        self._expected = cpu_seconds(plan, engine) / (self._each * plan.replicates)
        self._crew = crew
        self._spent, self._done = 0.0, 0

    def took(self, blocks: range, seconds: float) -> None:
        """Learn from what a task took."""
        self._spent += seconds
        self._done += len(blocks)

    def __iter__(self) -> Iterator[range]:
        return self

    def __next__(self) -> range:
        if not self._left:
            raise StopIteration
        workers, each = self._crew.workers, self._expected * self._crew.workers / self._crew.threads
        longest = _FIRST
        if self._done:
            each, longest = self._spent / self._done, _LONGEST
        fair = self._blocks * each / (_TASKS_A_WORKER * workers)
        count = max(int(min(max(fair, _SHORTEST), longest) / each), 1)
        blocks = self._left.popleft()
        task, rest = blocks[:count], blocks[count:]
        whole = task.stop // self._each * self._each
        if rest and whole > task.start:
            # A cluster is drawn by as few workers as can be.
            task, rest = range(task.start, whole), range(whole, blocks.stop)
        if rest:
            self._left.appendleft(rest)
        self._blocks -= len(task)
        return task


def _in_one_row(missing: list[Span], each: int) -> Iterator[range]:
    """Spans as ranges of the blocks of all replicates, neighbours together."""
    row = [range(one * each + first, one * each + end) for one, first, end in missing]
    while row:
        blocks = row.pop(0)
        while row and row[0].start == blocks.stop:
            blocks = range(blocks.start, row.pop(0).stop)
        yield blocks


def simulate_on(
    crew: Crew,
    plan: Plan,
    *,
    engine: str,
    target: str = "cpu",
    progress: Progress | None = None,
    earlier: Tally | None = None,
    blocks: range | None = None,
    watch: Watch | None = None,
) -> Tally:
    """As `simulate`, bit for bit, on the workers of an executor. engine, target: their names.

    Raises what `simulate` does, NotExact where a cluster is not for the exact engine, and
    WorkersError where workers are lost again and again.
    """
    tally = Tally(plan) if earlier is None else earlier.begun(plan)
    missing = tally.missing(blocks)
    size = steps_a_block(plan)
    steps = tally.steps
    steps += sum(min(end * size, plan.steps) - first * size for _, first, end in missing)
    cut = _Cut(plan, engine, missing, crew)
    for task, answer in crew.answers(_sampled, plan, engine, cut, target):
        cut.took(task, answer.wall)
        for replicate, parts in answer.result.items():
            tally.add(replicate, parts)
        if progress is not None:
            progress(tally.steps, steps)
        if watch is not None:
            watch(tally)
    return tally
