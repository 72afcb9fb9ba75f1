"""What one writes with PyTorch on the CPU."""

from __future__ import annotations

import numpy as np

from benchmarks.measure import Contender
from benchmarks.work import SIGMA, Fleet, Last, Worker, last_of, side_by_side

try:
    import torch
except ImportError:
    torch = None

MISSING = "PyTorch is not installed"


def tensor_code(fleet: Fleet, threads: int) -> Contender:
    """The best idiom found: in place, in logarithms, a generator and a Python thread for each core.

    Its own threads do not help: one generator fills a tensor on one thread only.
    `max(0)` takes a third of the time of `argmax`; `log_normal_` eleven times that of `normal_`.
    """
    name = "PyTorch, float32"
    if torch is None:
        return Contender(name, threads, fleet.devices, None, MISSING)

    def worker(seed: int) -> Worker:
        random = torch.Generator().manual_seed(seed)
        log_base = torch.from_numpy(fleet.log_base.astype(np.float32))
        time = torch.empty_like(log_base)

        def work(steps: int) -> Last:
            latest, culprit = np.empty(steps), np.empty(steps, np.int64)
            for step in range(steps):
                time.normal_(0, SIGMA, generator=random).add_(log_base)
                value, index = time.max(0)
                latest[step], culprit[step] = value.item(), index.item()
            return last_of(latest, culprit, fleet)

        return work

    workers = [worker(seed) for seed in range(threads)]

    def work(steps: int) -> Last | None:
        torch.set_num_threads(1)
        return side_by_side(workers, steps)

    return Contender(name, threads, fleet.devices, work)
