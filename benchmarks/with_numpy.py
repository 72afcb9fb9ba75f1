"""What one writes with NumPy, and with Numba and `np.random`."""

from __future__ import annotations

import numba
import numpy as np

from benchmarks.measure import Contender
from benchmarks.work import SIGMA, Fleet, Last, Worker, last_of, side_by_side


def array_code(fleet: Fleet, kind: type, threads: int) -> Contender:
    """The best idiom found: the fastest generator, in place, in logarithms, a generator a thread.

    Blocks that fit into the first cache gain 2 % and are left out.
    """

    def worker(seed: int) -> Worker:
        random = np.random.Generator(np.random.SFC64(seed))
        log_base = fleet.log_base.astype(kind)
        time = np.empty_like(log_base)

        def work(steps: int) -> Last:
            latest, culprit = np.empty(steps), np.empty(steps, np.int64)
            for step in range(steps):
                random.standard_normal(out=time, dtype=kind)
                np.multiply(time, kind(SIGMA), out=time)
                np.add(time, log_base, out=time)
                culprit[step] = time.argmax()
                latest[step] = time[culprit[step]]
            return last_of(latest, culprit, fleet)

        return work

    workers = [worker(seed) for seed in range(threads)]
    return Contender(
        f"NumPy, {kind.__name__}",
        threads,
        fleet.devices,
        lambda steps: side_by_side(workers, steps),
    )


@numba.njit(parallel=True)
def _naive(base, sigma, steps, latest, culprit):
    for step in numba.prange(steps):
        slowest, at = 0.0, 0
        for device in range(base.size):
            time = base[device] * np.random.lognormal(0.0, sigma)  # noqa: NPY002 - what people write
            if time > slowest:
                slowest, at = time, device
        latest[step] = slowest
        culprit[step] = at


def naive_numba(fleet: Fleet, threads: int) -> Contender:
    base = np.exp(fleet.log_base)

    def work(steps: int) -> Last:
        latest, culprit = np.empty(steps), np.empty(steps, np.int64)
        numba.set_num_threads(threads)
        _naive(base, SIGMA, steps, latest, culprit)
        return last_of(np.log(latest), culprit, fleet)

    return Contender("Numba, np.random in prange", threads, fleet.devices, work)
