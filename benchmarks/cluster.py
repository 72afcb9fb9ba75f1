"""The cluster model: pipelines of a divided model, and fleets that are slow for a while."""

from __future__ import annotations

from typing import Any

import numpy as np

import mcsim
from benchmarks.measure import Contender
from benchmarks.work import CV, SIGMA, Fleet, Last, Worker, side_by_side
from mcsim.model.pipeline import Schedule

REPLICAS, STAGES, TENSOR, MICROBATCHES = 1_700, 16, 8, 64
DEVICES = REPLICAS * STAGES * TENSOR

SLOW = {"every": "10000 s", "duration": "100 s", "factor": {"law": "constant", "value": 1.2}}
"""A device in a hundred is slow; a step takes a second."""


def pipelines(threads: int) -> Contender:
    """mcsim: operations of every device, the recursion, the labelled Dataset."""
    jitter = {"law": "lognormal", "mean": 1, "cv": CV}

    def work(steps: int) -> Last:
        parallel = {"tensor": TENSOR, "pipeline": STAGES, "microbatches": MICROBATCHES}
        fleet = {"device": "custom", "compute": "1 s", "count": DEVICES, "devices_per_node": 8}
        scenario = {
            "name": "pipelines",
            "run": {"steps": steps},
            "workload": {"parallel": parallel},
            "jitter": {"operation": jitter},
            "fleet": [{"name": "a", **fleet}],
        }
        found = mcsim.run(mcsim.Scenario.from_dict(scenario), threads=threads)
        return Last(float(found.step_time_mean.isel(replicate=0)), 1.0)

    return Contender("mcsim", threads, DEVICES, work)


def numpy_pipelines(threads: int) -> Contender:
    """The same with arrays: a hundred replicas at a time, which fit into the caches."""
    schedule = Schedule.of(STAGES, MICROBATCHES)
    number = np.where(schedule.backward, MICROBATCHES, 0) + schedule.microbatch
    share = np.repeat([1 / 3, 2 / 3], MICROBATCHES).astype(np.float32) / MICROBATCHES
    together = 20

    def worker(seed: int) -> Worker:
        random = np.random.Generator(np.random.SFC64(seed))
        shape = (2 * MICROBATCHES, STAGES, together, TENSOR)

        def work(steps: int) -> Last:
            latest = np.zeros(steps)
            for step in range(steps):
                for _ in range(REPLICAS // together):
                    drawn = random.standard_normal(shape, np.float32)
                    time = np.exp(np.float32(SIGMA) * drawn.max(axis=3) - np.float32(SIGMA**2 / 2))
                    time *= share[:, None, None]
                    ends = schedule.ends(time[number, schedule.stage])
                    latest[step] = max(latest[step], ends.max())
            return Last(float(latest.mean()), 1.0)

        return work

    workers = [worker(seed) for seed in range(threads)]
    return Contender("NumPy, float32", threads, DEVICES, lambda n: side_by_side(workers, n))


def slow_for_a_while(fleet: Fleet, threads: int) -> Contender:
    """mcsim with slow states of devices, nodes and racks, and factors that nodes share."""

    def work(steps: int) -> Last:
        changes: dict[str, Any] = {"jitter.slow": SLOW, "jitter.slow_node": SLOW}
        changes["jitter.slow_rack"] = SLOW
        changes["jitter.node"] = {"law": "lognormal", "mean": 1, "cv": CV}
        found = mcsim.run(fleet.scenario(steps).replace(changes), threads=threads)
        share = float(found.straggler_share.isel(replicate=0, group=0))
        return Last(float(found.step_time_mean.isel(replicate=0)), share)

    return Contender("mcsim", threads, fleet.devices, work)


def numpy_slow_for_a_while(fleet: Fleet, threads: int) -> Contender:
    """Slow states of devices alone: one more uniform a device and step moves the chain on."""
    ill, well = np.float32(1 / 10_000), np.float32(1 / 100)

    def worker(seed: int) -> Worker:
        random = np.random.Generator(np.random.SFC64(seed))
        log_base = fleet.log_base.astype(np.float32)
        slow = random.random(fleet.devices) < ill / (ill + well)

        def work(steps: int) -> Last:
            latest = np.empty(steps)
            time, moved = np.empty_like(log_base), np.empty_like(log_base)
            for step in range(steps):
                random.random(out=moved, dtype=np.float32)
                np.not_equal(slow, moved < np.where(slow, well, ill), out=slow)
                random.standard_normal(out=time, dtype=np.float32)
                np.multiply(time, np.float32(SIGMA), out=time)
                np.add(time, log_base, out=time)
                time[slow] += np.float32(np.log(1.2))
                latest[step] = time.max()
            return Last(float(np.exp(latest).mean()), 1.0)

        return work

    workers = [worker(seed) for seed in range(threads)]
    name = "NumPy, float32, devices alone"
    return Contender(name, threads, fleet.devices, lambda n: side_by_side(workers, n))
