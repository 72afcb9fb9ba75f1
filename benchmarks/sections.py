"""The chapters of the document: what each measures, and the words around its table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks import cluster, growth, histograms, ours, processes, report, with_numpy
from benchmarks.measure import Contender, Timing, interleaved
from benchmarks.with_mkl import METHODS, MISSING, library, lognormal, normal_maximum, normals
from benchmarks.with_simpy import processes as simpy_processes
from benchmarks.with_torch import tensor_code
from benchmarks.work import Fleet, Last


@dataclass(frozen=True)
class Effort:
    """How long to measure, and what."""

    rounds: int
    target: float
    """Seconds of one timing."""
    sizes: tuple[int, ...]
    steps: tuple[int, ...]
    memory: tuple[int, ...]


FULL = Effort(
    5,
    0.6,
    (1_000, 10_000, 100_000, 1_000_000, 4_000_000),
    (1, 1_000, 10_000, 100_000),
    (1_000, 1_000_000),
)
QUICK = Effort(2, 0.1, (1_000, 100_000), (1, 1_000), (1_000, 1_000_000))


def down_to_one(threads: int) -> list[int]:
    return sorted({threads, 1}, reverse=True)


def last_arrival(fleet: Fleet, threads: int, effort: Effort) -> list[str]:
    both = down_to_one(threads)
    contenders: list[Contender] = [
        *(ours.engine(fleet, "mcsim, sampled engine", count, engine="sampled") for count in both),
        ours.engine(fleet, "mcsim, exact engine", threads, engine="exact"),
        *(ours.bare_words(fleet, count) for count in both),
        *(lognormal(fleet, method, count) for method in METHODS for count in both),
        *(tensor_code(fleet, count) for count in both),
        *(normal_maximum(fleet, count) for count in both),
        *(with_numpy.array_code(fleet, np.float32, count) for count in both),
        *(with_numpy.array_code(fleet, np.float64, count) for count in both),
        with_numpy.naive_numba(fleet, threads),
        simpy_processes(1_000),
    ]
    timings = interleaved(contenders, effort.rounds, effort.target)
    check_agreement(timings)
    return [
        f"## Who is last among {fleet.devices:,} devices",
        "",
        "Three groups of devices, a persistent factor of each device, lognormal jitter in each",
        "step; wanted are the last arrival of each step and the group it came from. The first",
        "step of mcsim includes all that a run does once: the cluster's lottery, its tables, the",
        "labelled Dataset; the others start with the cluster drawn. Rows in italics only make the",
        "random numbers, a smaller work, and look at none.",
        "",
        f"Medians of {effort.rounds} rounds in which all take turns; the spread is the slowest",
        "round over the fastest, less 1: a large one says that the machine had other work.",
        "",
        *report.contest(timings),
    ]


def full_statistics(fleet: Fleet, threads: int, effort: Effort) -> list[str]:
    contenders = [
        ours.engine(fleet, 'mcsim, `keep = "devices"`', threads, keep="devices"),
        histograms.tensor_code(fleet, threads),
        histograms.array_code(fleet, threads, "NumPy, float32", histograms.numpy_normals),
        counted_with_mkl(fleet, threads),
    ]
    # Longer, for threads share a run by blocks of 1,024 steps.
    timings = interleaved(contenders, effort.rounds, 5 * effort.target)
    check_agreement(timings)
    return [
        "## Every device's time and wait",
        "",
        "The same, and in addition each group's histograms of device times and of waits. NumPy and",
        "PyTorch compute and count every device's time and wait in every step.",
        "",
        *report.contest(timings),
    ]


def pipelines(threads: int, effort: Effort) -> list[str]:
    both = down_to_one(threads)
    contenders = [
        *(cluster.pipelines(count) for count in both),
        cluster.numpy_pipelines(threads),
    ]
    timings = interleaved(contenders, min(3, effort.rounds), 5 * effort.target)
    check_agreement(timings)
    operations = cluster.DEVICES * 2 * cluster.MICROBATCHES
    return [
        f"## Pipelines: {cluster.REPLICAS:,} replicas of {cluster.STAGES} stages,"
        f" {cluster.MICROBATCHES} microbatches",
        "",
        f"1F1B on {cluster.DEVICES:,} devices, {cluster.TENSOR} a stage; every device draws each",
        f"of its {2 * cluster.MICROBATCHES} operations, {operations / 1e6:,.1f} million a step.",
        "",
        *report.contest(timings),
    ]


def slow_for_a_while(fleet: Fleet, threads: int, effort: Effort) -> list[str]:
    contenders = [
        cluster.slow_for_a_while(fleet, threads),
        cluster.numpy_slow_for_a_while(fleet, threads),
    ]
    timings = interleaved(contenders, min(3, effort.rounds), 5 * effort.target)
    return [
        f"## Slow for a while, {fleet.devices:,} devices",
        "",
        "Devices, nodes and racks that fall into slow states and out of them, with a factor that",
        "each node shares; NumPy has those of devices alone.",
        "",
        *report.contest(timings),
    ]


def counted_with_mkl(fleet: Fleet, threads: int) -> Contender:
    name = "oneMKL normals, NumPy counting, float32"
    if library() is None:
        return Contender(name, threads, fleet.devices, None, MISSING)
    return histograms.array_code(fleet, threads, name, normals)


def growing(fleet: Fleet, threads: int, effort: Effort) -> list[str]:
    by_size = growth.with_devices(
        effort.sizes, sorted(down_to_one(threads)), min(3, effort.rounds), effort.target
    )
    by_steps = growth.with_steps(fleet, effort.steps, threads, effort.rounds)
    return [
        "## Growth with devices and threads",
        "",
        "mcsim's sampled engine, the same work; the speed-up is that of further steps.",
        "",
        *report.growth(by_size),
        "",
        f"## Growth with steps, {fleet.devices:,} devices, {threads} thread(s)",
        "",
        *report.table(
            ["steps", "whole run, s", "µs a step"],
            [
                (f"{steps:,}", report.number(taken), report.number(taken / steps * 1e6))
                for steps, taken in by_steps.items()
            ],
        ),
    ]


def process(effort: Effort) -> list[str]:
    peaks = processes.memory(effort.memory)
    calls = processes.first_calls(1 if effort is QUICK else 3)
    mega = 2**20
    return [
        "## Memory",
        "",
        f"Peak of a process above one that only imports everything ({peaks.bare / mega:,.0f} MiB);",
        'compiled kernels in the cache, `keep = "summary"`, 100 steps.',
        "",
        *report.table(
            ["devices", "MiB"],
            [(f"{size:,}", report.number(peak / mega)) for size, peak in peaks.above.items()],
        ),
        "",
        f"That is {peaks.bytes_a_device:.0f} bytes for each further device.",
        "",
        "## The first call",
        "",
        "`mcsim run` of 1,000 devices and 100 steps, as a process.",
        "",
        *report.table(
            ["", "s"],
            [
                ("`mcsim --version`", report.number(calls["start"])),
                ("first run ever: kernels are compiled", report.number(calls["cold"])),
                ("later runs", report.number(calls["warm"])),
            ],
        ),
    ]


def check_agreement(timings: list[Timing]) -> None:
    """The same last arrivals, up to chance and to the lottery of the persistent factors."""
    found: dict[int, list[Last]] = {}
    for timing in timings:
        if timing.last is not None:
            found.setdefault(timing.contender.devices, []).append(timing.last)
    for each in found.values():
        times = [last.mean_time for last in each]
        shares = [last.share_of_first_group for last in each]
        if max(times) > 1.02 * min(times) or max(shares) > min(shares) + 0.25:
            raise SystemExit(f"contenders disagree about who is last: {each}")
