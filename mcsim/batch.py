"""Runs that stop and go on, that are divided and put together again."""

from __future__ import annotations

import datetime
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mcsim.engine import (
    Crew,
    Engine,
    FoundTarget,
    OverlapError,
    SelfCheck,
    Span,
    Tally,
    accelerator_of,
    blocks_of,
    check_by_law,
    engine_of,
    found_targets,
    likely_target,
    simulate,
    simulate_on,
)
from mcsim.errors import Problem, ResultError, SelfCheckWarning
from mcsim.model import Plan, lower
from mcsim.model.choice import Choice, choose, steps_a_block
from mcsim.model.limits import fits
from mcsim.model.maximum import NotExact
from mcsim.results import Cost, Part, next_plan, read_part
from mcsim.scenario import Scenario, first_difference
from mcsim.threads import available_threads

Progress = Callable[[int, int], None]
Watch = Callable[[Callable[[], Part]], None]
"""Called now and then with a function that gives what is done."""

_MAY_GROW = ("run.steps", "run.replicates")
_MOST_NAMED = 3
"""Gaps that an error names."""


@dataclass(frozen=True)
class Shard:
    """One of so many parts of a run, counted from 1."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def blocks(self, plan: Plan) -> range:
        """Its blocks: consecutive, as many as any other shard has or one less; perhaps none."""
        every = blocks_of(plan)
        return range((self.number - 1) * every // self.of, self.number * every // self.of)


def advance(
    scenario: Scenario,
    *,
    executor: Executor | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
    earlier: Part | None = None,
    shard: Shard | None = None,
    watch: Watch | None = None,
    target: str = "auto",
    check: SelfCheck | None = None,
) -> Part:
    """Sample a scenario, or a shard of it.

    executor: whose workers sample; default: threads of this process. threads: of each worker,
    default 1; without an executor, default all that are available. progress: called with the steps
    done and the steps asked for. earlier: what is done already, of this scenario (see `going_on`).
    watch: is told what is done. The bits of the result do not depend on any of these.
    target: "cpu", "cuda" or "auto"; if that, what the scenario says. On a GPU last arrivals are the
    same bit for bit, means over devices to 1e-6. check: the comparison of the engines, where it was
    made of the same devices already.
    Raises ScenarioError, SimulationError where times overflow, TargetError where the GPU is not
    there or fails, and WorkersError where workers are lost again and again. Warns with
    SelfCheckWarning where the two engines disagree.
    """
    target = scenario.run.target if target == "auto" else target
    scenario = anywhere(scenario)
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads}")
    crew = None if executor is None else Crew(executor, threads or 1)
    threads = threads_of(executor, threads)
    run = _Run(scenario, threads, earlier, shard, crew, target)
    blocks = None if shard is None else shard.blocks(run.plan)
    if blocks is not None and run.plan.target is not None:
        message = "a run that goes on until this is reached cannot be divided into shards"
        raise scenario.error([Problem("run.target_relative_error", message)])
    engine = run.until_enough(progress=progress, blocks=blocks, watch=watch)
    if check is None and (blocks is None or 0 in blocks):
        check = check_by_law(run.plan, engine, threads, crew)
        if check.outcome == "failed":
            warnings.warn(check.message, SelfCheckWarning, stacklevel=3)
    return replace(run.part(), check=check)


def anywhere(scenario: Scenario) -> Scenario:
    """The scenario without where it is to be computed, which is not of the result."""
    if scenario.run.target == "auto":
        return scenario
    return scenario.replace({"run.target": "auto"})


def targets_here() -> list[FoundTarget]:
    """Where devices can be sampled on this machine, and what there is, or why it cannot be used."""
    return found_targets()


def require_target(target: str) -> None:
    """Raise TargetError where a target, as `--target` calls it, is not there."""
    if target != "auto":
        accelerator_of(target)


def threads_of(executor: Executor | None, threads: int | None) -> int:
    """How many threads sample where `advance` is given these."""
    if executor is None:
        return threads or available_threads()
    return Crew(executor, threads or 1).threads


class _Run:
    """A run under way: its plan, which grows until a target is reached, and what is done."""

    def __init__(
        self,
        scenario: Scenario,
        threads: int,
        earlier: Part | None,
        shard: Shard | None,
        crew: Crew | None,
        target: str,
    ) -> None:
        self._scenario, self._threads, self._shards = scenario, threads, _shards(shard)
        self._crew = crew
        self._in_a_process = threads if crew is None else crew.each
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        self._spent = Cost()
        self.plan = lower(scenario)
        if target == "cuda" and self.plan.engine == "auto":
            self.plan = replace(self.plan, engine="sampled")
        self._choice = choose(self.plan)
        self.tally = Tally(self.plan)
        if earlier is not None:
            self._spent, self._choice, self.tally = earlier.cost, earlier.choice, earlier.tally
            if self.plan.target is not None:
                done = earlier.plan
                self.plan = replace(self.plan, steps=done.steps, replicates=done.replicates)
        self._target = self._target_of(target)

    def _target_of(self, asked: str) -> str:
        """Where devices are sampled. asked: "cpu", "cuda" or "auto"."""
        if asked == "auto":
            return likely_target(self.plan, self._choice.engine) if self._crew is None else "cpu"
        if asked == "cuda":
            without = None
            if self.plan.division is not None:
                without = "divided models are sampled by the processor"
            elif self.plan.cutoff is not None:
                without = "steps that do not wait for everybody are sampled by the processor"
            elif self.plan.stale is not None:
                without = "replicas with clocks of their own are sampled by the processor"
            elif self._choice.engine == "exact":
                without = f"the exact engine ({self._choice.reason}) samples no devices"
            if without is not None:
                raise self._scenario.error([Problem("run.target", f'"cuda": {without}')])
        return asked

    def part(self) -> Part:
        """What is done."""
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        cpu += 0.0 if self._crew is None else self._crew.cpu
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        took = round(1000 * wall), round(1000 * cpu)
        cost = self._spent + Cost(self._threads, *took, now, self._target)
        return Part(self._scenario, self.tally, self._choice, cost, None, self._shards)

    def until_enough(
        self, *, blocks: range | None, watch: Watch | None, **how: Any
    ) -> Engine | str:
        """Sample until the target, if any, is reached; by the engine that is the result."""

        def watched(tally: Tally) -> None:
            self.tally = tally
            if watch is not None:
                watch(self.part)

        while True:
            try:
                engine = self._sample(earlier=self.tally, blocks=blocks, watch=watched, **how)
            except NotExact as impossible:
                self._sample_instead(impossible)
                continue
            larger = next_plan(self.tally) if blocks is None else None
            if larger is None or not fits(larger, self._in_a_process):
                return engine
            self.plan, cheapest = larger, choose(larger)
            if cheapest.engine != self._choice.engine:
                # What is sampled already would be a small part, from other random numbers.
                self._choice, self.tally = cheapest, Tally(larger)

    def _sample(self, **how: Any) -> Engine | str:
        """Sample the plan; the result is the engine, or its name where others had it."""
        name = self._choice.engine
        if self._crew is not None:
            target = self._target
            self.tally = simulate_on(self._crew, self.plan, engine=name, target=target, **how)
            return name
        engine = engine_of(name, self.plan, self._target)
        self.tally = simulate(self.plan, engine=engine, threads=self._threads, **how)
        return engine

    def _sample_instead(self, impossible: NotExact) -> None:
        reason = f"the exact engine cannot do this: {impossible}"
        if self.plan.engine == "exact":
            message = f'{reason}; use "auto" or "sampled"'
            raise self._scenario.error([Problem("run.engine", message)]) from None
        self.plan = replace(lower(self._scenario), engine="sampled")
        self._choice, self.tally = Choice("sampled", reason), Tally(self.plan)


def _shards(shard: Shard | None) -> tuple[tuple[int, int], ...]:
    return () if shard is None else ((shard.number, shard.of),)


def is_whole(part: Part, scenario: Scenario, shard: Shard | None) -> bool:
    """Whether a part holds all that is asked for."""
    if part.scenario != scenario:
        return False
    if shard is None:
        return part.is_complete
    blocks = shard.blocks(part.plan)
    return not part.tally.missing(blocks) and (part.check is not None or 0 not in blocks)


def going_on(scenario: Scenario, done: Part, source: Path, shard: Shard | None) -> Part:
    """What is done of a scenario, or a shard, according to a file.

    Of fewer steps or replicates, but for shards; a whole run may go on from any part. Raises
    ScenarioError, naming the first key in which the file's scenario differs.
    """
    if shard is not None and done.shards != _shards(shard):
        message = f"{source}, to go on from, is not of the shard {shard}"
        raise scenario.error([Problem("", message)])
    differs = first_difference(scenario, done.scenario, () if shard else _MAY_GROW)
    if differs is not None:
        key, here, there = differs
        raise scenario.error([Problem(key, f"is {here}, and in {source}, to go on from, {there}")])
    problems = [
        Problem(f"run.{key}", f"is {asked}, and {source}, to go on from, has {had} already")
        for key in ("steps", "replicates")
        if (asked := getattr(scenario.run, key)) < (had := getattr(done.scenario.run, key))
    ]
    if problems:
        raise scenario.error(problems)
    return done


def merge(paths: Sequence[Path], *, partial: bool = False) -> Part:
    """The run whose parts are in some files, in any order; its bits do not depend on the parts.

    partial: whether some may be missing. Raises ResultError, with the names of the files, for one
    that is damaged, is of another run or holds steps that another holds; and for missing steps.
    """
    if not paths:
        raise ResultError("there are no files to merge")
    parts = [(path, read_part(path)) for path in paths]
    (first, whole), *others = parts
    for number, (path, part) in enumerate(others, 1):
        differs = first_difference(part.scenario, whole.scenario)
        if differs is not None:
            key, here, there = differs
            message = f"is of another run than {first}: {key} is {here}, not {there}"
            raise ResultError(f"{path}: {message}")
        try:
            whole = whole.joined(part)
        except OverlapError as overlap:
            twice = next(name for name, one in parts[:number] if overlap.is_in(one.tally))
            held = f"holds {_steps(overlap.span, part.plan)}, which {twice} holds too"
            message = "is given twice" if twice == path else held
            raise ResultError(f"{path}: {message}") from None
        except ResultError as different:
            raise ResultError(f"{path}: {different}") from None
    if partial:
        return whole
    if missing := whole.tally.missing():
        raise ResultError(f"{_named(missing, whole)} in none of the files")
    if whole.check is None:
        # All was sampled, and the run ended before the engines were compared.
        whole = replace(advance(whole.scenario, earlier=whole), shards=whole.shards)
    return whole


def _named(missing: Sequence[Span], whole: Part) -> str:
    """What is missing of a run, and "is" or "are": shards, if all its parts are of one division,
    and steps."""
    some = [_steps(span, whole.plan) for span in missing[:_MOST_NAMED]]
    if len(missing) > _MOST_NAMED:
        more = len(missing) - _MOST_NAMED
        some.append(f"{more} more span{'s' if more > 1 else ''}")
    divisions = {of for _, of in whole.shards}
    if len(divisions) != 1:
        return f"{', '.join(some)} are"
    (of,) = divisions
    have = {number for number, _ in whole.shards}
    lacking = [str(Shard(number, of)) for number in range(1, of + 1) if number not in have]
    named = ", ".join(lacking[:_MOST_NAMED])
    if len(lacking) > _MOST_NAMED:
        named += f" and {len(lacking) - _MOST_NAMED} more"
    one = len(lacking) == 1
    return f"shard{'' if one else 's'} {named} ({', '.join(some)}) {'is' if one else 'are'}"


def _steps(span: Span, plan: Plan) -> str:
    replicate, first, end = span
    size = steps_a_block(plan)
    last = min(end * size, plan.steps) - 1
    return f"steps {first * size} to {last} of replicate {replicate}"
