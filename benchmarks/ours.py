"""mcsim's engines, by its public face, and the limit that bare random words set."""

from __future__ import annotations

import numpy as np

import mcsim
from benchmarks.measure import Contender
from benchmarks.work import Fleet, Last, Worker, side_by_side
from mcsim.engine.compile import kernel
from mcsim.engine.philox import key_of, philox


def engine(fleet: Fleet, name: str, threads: int, **run: object) -> Contender:
    """All included: the cluster's lottery, every step, the labelled Dataset.

    run: further keys of the scenario's `run`; where this version knows them not, it cannot run.
    """
    try:
        tried = mcsim.run(fleet.scenario(1, **run), threads=threads)
    except mcsim.McsimError as error:
        return Contender(name, threads, fleet.devices, None, f"not available: {error}")
    # What is accepted but not done must not be timed as done.
    done = tried.attrs["engine"] == run.get("engine", "sampled")
    if "keep" in run:
        done = done and set(tried) != set(mcsim.run(fleet.scenario(1), threads=threads))
    if not done:
        return Contender(name, threads, fleet.devices, None, "not available: accepted, not done")

    def work(steps: int) -> Last:
        dataset = mcsim.run(fleet.scenario(steps, **run), threads=threads)
        share = dataset.straggler_share.isel(replicate=0, group=0)
        return Last(float(dataset.step_time_mean.isel(replicate=0)), float(share))

    return Contender(name, threads, fleet.devices, work)


@kernel
def words_only(blocks, first, steps, k0, k1):
    """One 32-bit word a device and step, as four words a call, and nothing done with them."""
    mixed = np.uint32(0)
    for step in range(first, first + steps):
        for block in range(blocks):
            a, b, c, d = philox(
                np.uint32(block), np.uint32(step), np.uint32(0), np.uint32(0), k0, k1
            )
            mixed ^= a ^ b ^ c ^ d
    return mixed


def bare_words(fleet: Fleet, threads: int) -> Contender:
    key = key_of(1)

    def worker(first: int) -> Worker:
        def work(steps: int) -> None:
            words_only(fleet.devices // 4, first, steps, *key)

        return work

    workers = [worker(index << 24) for index in range(threads)]
    return Contender(
        "bare Philox words, 32 bits a device",
        threads,
        fleet.devices,
        lambda steps: side_by_side(workers, steps),
        numbers_only=True,
    )
