"""What is beyond this machine, or a day: asked before anything large is begun."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from mcsim.model.estimate import file_size, memory, seconds
from mcsim.model.plan import Plan
from mcsim.units import show

_DAY = 86_400.0
_FILES = 3
"""A result may stand beside two checkpoints, each with all that is kept."""


def beyond(
    plan: Plan, threads: int, directory: Path, shards: float = 1, workers: int = 0
) -> Iterator[str]:
    """What of a run, or of a part of it, is more than there is, with the figures.

    directory: where the result is to be written. shards: of so many parts. workers: processes
    beside this one on the same machine.
    """
    # A worker has one cluster, and the sums of few steps.
    of_a_worker = memory(replace(plan, steps=1, replicates=1), 1)
    needed, there = memory(plan, 1) + workers * of_a_worker, memory_there()
    if needed > there:
        whose = f" and its {workers} worker(s) need" if workers else " needs"
        fewer = "workers, devices" if workers else "devices"
        yield (
            f"a run{whose} about {show(needed, 'data')} of memory, and this machine has"
            f' {show(there, "data")}; take fewer {fewer} or replicates, or keep = "summary"'
        )
    disk = os.statvfs(directory)
    size, free = _FILES * file_size(plan) / shards, float(disk.f_bavail * disk.f_frsize)
    if size > free:
        yield (
            f"a result and its checkpoints need about {show(size, 'data')} of disk, and"
            f' {directory} has {show(free, "data")}; take fewer steps, or keep = "summary"'
        )
    duration = seconds(plan, threads) / shards
    if duration > _DAY:
        yield (
            f"it would take about {show(duration, 'time')} on {threads} thread(s), which is more"
            " than a day; take fewer steps or devices, or divide it into shards"
        )


def beyond_together(plans: Iterable[Plan], threads: int) -> Iterator[str]:
    """What of runs one after the other is more than there is: of the largest, and of all."""
    count, duration, needed = 0, 0.0, 0.0
    for plan in plans:
        count += 1
        duration += seconds(plan, threads, start=0.0)
        needed = max(needed, memory(plan, 1))
    there = memory_there()
    if needed > there:
        yield (
            f"the largest of {count:,} runs needs about {show(needed, 'data')} of memory, and this"
            f" machine has {show(there, 'data')}; take fewer devices or replicates"
        )
    if duration > _DAY:
        yield (
            f"{count:,} runs would take about {show(duration, 'time')} on {threads} thread(s),"
            " which is more than a day; take fewer points or steps, or divide them into shards"
        )


def fits(plan: Plan, threads: int) -> bool:
    """Whether a run on so many threads is likely to fit into the memory."""
    return memory(plan, threads) <= memory_there()


def memory_there() -> float:
    """Bytes that a process of this machine may use, by its memory and its control group."""
    limits = [float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))]
    # There may be no control groups of version 2, or one without a limit, which is "max".
    with suppress(OSError, ValueError):
        limits.append(float(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(limits)
