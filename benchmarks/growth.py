"""How mcsim's time grows with devices, steps and threads."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.measure import Timing, interleaved, seconds
from benchmarks.ours import engine
from benchmarks.work import Fleet


def with_devices(
    sizes: Sequence[int], threads: Sequence[int], rounds: int, target: float
) -> list[Timing]:
    """By size, then by threads; all are interleaved."""
    return interleaved(
        [
            engine(Fleet(size), "mcsim", count, engine="sampled")
            for size in sizes
            for count in threads
        ],
        rounds,
        target,
    )


def with_steps(fleet: Fleet, steps: Sequence[int], threads: int, rounds: int) -> dict[int, float]:
    """Median seconds of whole runs, by their number of steps."""
    run = engine(fleet, "mcsim", threads, engine="sampled").run
    assert run is not None
    run(1)
    each: dict[int, list[float]] = {count: [] for count in steps}
    for _ in range(rounds):
        for count, taken in each.items():
            taken.append(seconds(run, count)[0])
    return {count: statistics.median(taken) for count, taken in each.items()}
