"""Full statistics: beside who is last, the histograms of each group's device times and waits.

Times go into logarithmic bins, waits into even ones, 1,024 each; every contender has logarithms of
times at hand, and nobody's time leaves the bins' range.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.measure import Contender
from benchmarks.with_torch import MISSING, torch
from benchmarks.work import SIGMA, Fleet, Last, Worker, last_of, side_by_side

BINS = 1024
LOG_RANGE = (-0.5, 0.5)
LONGEST_WAIT = 1.0


Fill = Callable[[], None]
Normals = Callable[[int, np.ndarray], Fill]
"""Given a seed and an array, float32: what fills it with normal numbers of deviation SIGMA."""


def numpy_normals(seed: int, draws: np.ndarray) -> Fill:
    random = np.random.Generator(np.random.SFC64(seed))

    def fill() -> None:
        random.standard_normal(out=draws, dtype=np.float32)
        np.multiply(draws, np.float32(SIGMA), out=draws)

    return fill


def array_code(fleet: Fleet, threads: int, name: str, normals: Normals) -> Contender:
    """The best idiom found: bins by arithmetic, counted by `bincount` of its own integer type.

    `np.histogram` takes six times as long as this arithmetic and `bincount`; 32-bit bins 40 % more.
    """

    def worker(seed: int) -> Worker:
        log_base = fleet.log_base.astype(np.float32)
        time, scaled = np.empty_like(log_base), np.empty_like(log_base)
        fill = normals(seed, time)
        bins = np.empty(fleet.devices, np.intp)
        groups = np.split(bins, fleet.first)
        times = np.zeros((len(groups), BINS), np.int64)
        waits = np.zeros_like(times)
        low, high = LOG_RANGE
        per_log, per_second = np.float32(BINS / (high - low)), np.float32(BINS / LONGEST_WAIT)

        def count(into: np.ndarray) -> None:
            np.copyto(bins, scaled, casting="unsafe")
            for counts, group in zip(into, groups, strict=True):
                counts += np.bincount(group, minlength=BINS)

        def work(steps: int) -> Last:
            latest, culprit = np.empty(steps), np.empty(steps, np.int64)
            for step in range(steps):
                fill()
                np.add(time, log_base, out=time)
                culprit[step] = time.argmax()
                latest[step] = time[culprit[step]]
                np.subtract(time, np.float32(low), out=scaled)
                np.multiply(scaled, per_log, out=scaled)
                count(times)
                np.exp(time, out=time)
                np.subtract(time.max(), time, out=scaled)
                np.multiply(scaled, per_second, out=scaled)
                count(waits)
            return last_of(latest, culprit, fleet)

        return work

    workers = [worker(seed) for seed in range(threads)]
    return Contender(name, threads, fleet.devices, lambda steps: side_by_side(workers, steps))


def tensor_code(fleet: Fleet, threads: int) -> Contender:
    """The best idiom found: 32-bit bins and `bincount`, a sixth of the time of `histc`."""
    name = "PyTorch, float32"
    if torch is None:
        return Contender(name, threads, fleet.devices, None, MISSING)

    def worker(seed: int) -> Worker:
        random = torch.Generator().manual_seed(seed)
        log_base = torch.from_numpy(fleet.log_base.astype(np.float32))
        time, scaled = torch.empty_like(log_base), torch.empty_like(log_base)
        bins = torch.empty(fleet.devices, dtype=torch.int32)
        groups = bins.split(fleet.counts)
        times = torch.zeros((len(groups), BINS), dtype=torch.int64)
        waits = torch.zeros_like(times)
        low, high = LOG_RANGE
        per_log, per_second = BINS / (high - low), BINS / LONGEST_WAIT

        def count(into: torch.Tensor) -> None:
            bins.copy_(scaled)
            for counts, group in zip(into, groups, strict=True):
                counts += torch.bincount(group, minlength=BINS)

        def work(steps: int) -> Last:
            latest, culprit = np.empty(steps), np.empty(steps, np.int64)
            for step in range(steps):
                time.normal_(0, SIGMA, generator=random).add_(log_base)
                value, index = time.max(0)
                latest[step], culprit[step] = value.item(), index.item()
                torch.sub(time, low, out=scaled).mul_(per_log)
                count(times)
                torch.sub(torch.exp(value), time.exp_(), out=scaled).mul_(per_second)
                count(waits)
            return last_of(latest, culprit, fleet)

        return work

    workers = [worker(seed) for seed in range(threads)]

    def work(steps: int) -> Last | None:
        torch.set_num_threads(1)
        return side_by_side(workers, steps)

    return Contender(name, threads, fleet.devices, work)
