"""How time is taken: a pilot to choose the number of steps, interleaved rounds, medians."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.work import Last

Run = Callable[[int], Last | None]
"""Does so many steps, all included."""


@dataclass(frozen=True)
class Contender:
    """One way to do the work. run: None where it cannot run here, and `note` says why."""

    name: str
    threads: int
    devices: int
    run: Run | None
    note: str = ""
    numbers_only: bool = False
    """Makes the random numbers and no use of them: a smaller work."""


@dataclass
class Timing:
    """Seconds of the first step, with what a run does once, and of each further one, by round."""

    contender: Contender
    steps: int = 0
    firsts: list[float] = field(default_factory=list)
    furthers: list[float] = field(default_factory=list)
    last: Last | None = None

    @property
    def first(self) -> float:
        return statistics.median(self.firsts)

    @property
    def per_step(self) -> float:
        return statistics.median(self.furthers)

    @property
    def per_device_step(self) -> float:
        return self.per_step / self.contender.devices

    @property
    def spread(self) -> float:
        """Slowest over fastest round, less 1."""
        return max(self.furthers) / min(self.furthers) - 1


def seconds(run: Run, steps: int) -> tuple[float, Last | None]:
    gc.collect()
    start = time.perf_counter()
    last = run(steps)
    return time.perf_counter() - start, last


def enough_steps(run: Run, target: float) -> int:
    """Steps that take about `target` seconds beyond the first.

    Up to four times as long where a slow first step would hide what the others take; grown from
    few, so that no contender takes minutes.
    """
    run(1)  # compiles, allocates
    first, _ = seconds(run, 1)
    if first < target:
        first = max(first, seconds(run, 1)[0])
    target = max(target, min(2 * first, 4 * target))
    steps, taken = 8, 0.0
    while taken < target / 3:
        steps = int(steps * min(30.0, 0.8 * target / taken)) + 1 if taken > 0 else 4 * steps
        taken = seconds(run, steps)[0] - first
    return max(2, round(steps * target / taken))


def interleaved(contenders: Sequence[Contender], rounds: int, target: float) -> list[Timing]:
    """Every round times every contender once, so that a slow minute of the machine hits all."""
    timings = [Timing(contender) for contender in contenders]
    running = [(timing, timing.contender.run) for timing in timings]
    running = [(timing, run) for timing, run in running if run is not None]
    for timing, run in running:
        timing.steps = enough_steps(run, target)
    for _ in range(rounds):
        for timing, run in running:
            first, _ = seconds(run, 1)
            whole, timing.last = seconds(run, timing.steps)
            timing.firsts.append(first)
            timing.furthers.append((whole - first) / (timing.steps - 1))
    return timings
