"""The work that all contenders do: a fleet in three groups, lognormal jitter, who is last."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

import mcsim

CV = 0.02
SIGMA = float(np.sqrt(np.log1p(CV**2)))
GROUPS = {"h100": 1.0, "h200": 0.99, "gb200": 0.97}
"""Seconds of one step, undisturbed. So close that devices of every group are sometimes last."""


@dataclass(frozen=True)
class Fleet:
    """Equal thirds of three kinds of devices."""

    devices: int

    @cached_property
    def counts(self) -> list[int]:
        third = self.devices // 3
        return [self.devices - 2 * third, third, third]

    @cached_property
    def first(self) -> np.ndarray:
        """The first device of each group but the first, shape (2,)."""
        return np.cumsum(self.counts)[:-1]

    @cached_property
    def log_base(self) -> np.ndarray:
        """Logarithm of each device's median time, shape (devices,); in logarithms since that saves
        one exponential a device and step: the last one is last there too."""
        normal = np.random.Generator(np.random.SFC64(5)).standard_normal(self.devices)
        group = np.repeat(np.log(list(GROUPS.values())), self.counts)
        # Two factors of mean 1: the device's own and the step's.
        return group + SIGMA * normal - SIGMA**2

    def scenario(self, steps: int, **run: Any) -> mcsim.Scenario:
        """The same for mcsim. run: further keys of `run`; ScenarioError where it knows them not."""
        jitter = {"law": "lognormal", "mean": 1, "cv": CV}
        fleet = [
            {
                "name": name,
                "device": "custom",
                "compute": compute,
                "count": count,
                "jitter": {"persistent": jitter, "step": jitter},
            }
            for (name, compute), count in zip(GROUPS.items(), self.counts, strict=True)
        ]
        run = {"engine": "sampled", "seed": 1, "steps": steps, **run}
        return mcsim.Scenario.from_dict({"name": "benchmark", "run": run, "fleet": fleet})


@dataclass(frozen=True)
class Last:
    """What a contender found out about some steps: all must agree."""

    mean_time: float
    share_of_first_group: float


class Worker(Protocol):
    """One thread's part of a contender: its own generator and its own memory."""

    def __call__(self, steps: int, /) -> Last | None: ...


def side_by_side(workers: list[Worker], steps: int) -> Last | None:
    """Steps divided among workers, each on a thread."""
    shares = [len(part) for part in np.array_split(np.arange(steps), len(workers)) if len(part)]
    with ThreadPoolExecutor(len(shares)) as pool:
        each = list(pool.map(lambda worker, share: worker(share), workers, shares))
    found = [last for last in each if last is not None]
    if not found:
        return None
    return Last(
        float(np.average([last.mean_time for last in found], weights=shares)),
        float(np.average([last.share_of_first_group for last in found], weights=shares)),
    )


def last_of(log_times: np.ndarray, culprits: np.ndarray, fleet: Fleet) -> Last:
    """From the latest log time of each step and the device that had it."""
    return Last(float(np.exp(log_times).mean()), float((culprits < fleet.first[0]).mean()))
