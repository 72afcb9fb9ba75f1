"""What one writes with SimPy: a process for each device, and a barrier."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmarks.measure import Contender
from benchmarks.work import SIGMA, Fleet, Last, last_of

try:
    import simpy
except ImportError:
    simpy = None


def processes(devices: int) -> Contender:
    """A smaller fleet, since an event costs the same on any: compared by device and step."""
    name = f"SimPy, {devices:,} devices"
    if simpy is None:
        return Contender(name, 1, devices, None, "SimPy is not installed")
    fleet = Fleet(devices)
    base = np.exp(fleet.log_base).tolist()

    def work(steps: int) -> Last:
        random = np.random.Generator(np.random.SFC64(1))
        environment = simpy.Environment()
        # Drawn for all devices at once, which is cheap, and not by each process.
        jitter = random.lognormal(0, SIGMA, (steps, devices)).tolist()
        ends, culprits = [], []
        barrier = [environment.event() for _ in range(steps)]
        missing = [devices] * steps

        def device(index: int) -> Iterator[simpy.Event]:
            for step in range(steps):
                yield environment.timeout(base[index] * jitter[step][index])
                missing[step] -= 1
                if missing[step]:
                    yield barrier[step]
                else:
                    ends.append(environment.now)
                    culprits.append(index)
                    barrier[step].succeed()

        for index in range(devices):
            environment.process(device(index))
        environment.run()
        return last_of(np.log(np.diff(ends, prepend=0.0)), np.array(culprits), fleet)

    return Contender(name, 1, devices, work, "extrapolated by device and step")
