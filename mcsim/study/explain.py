"""How much each cause costs: the same clusters and steps with every choice of the causes.

The random numbers are the same in all of them, since they have addresses. So differences are those
of the causes, not of chance.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mcsim.engine import SampledEngine, arrivals_of, times_of
from mcsim.laws import FloatArray
from mcsim.model.causes import CAUSES, Disturbances
from mcsim.results import label_explanation
from mcsim.scenario import Scenario
from mcsim.threads import available_threads

_TILE = 1024
"""Steps that are sampled at a time."""
BATCHES = 10
"""Of the steps of a cluster, each explained by itself: for the errors given the cluster."""

Coalition = frozenset[str]


def explain(
    scenario: Scenario,
    *,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> xr.Dataset:
    """What each cause costs, for all steps and clusters of a scenario: a Dataset over `cause`.

    progress: called with the tasks done and all tasks. Raises ScenarioError, and SimulationError
    where times overflow.
    """
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads}")
    causes = Disturbances(scenario)
    plan = causes.plan
    barriers = {some: causes.barrier(some) for some in _subsets(causes.of_network)}
    batches = [
        range(number * plan.steps // BATCHES, (number + 1) * plan.steps // BATCHES)
        for number in range(BATCHES)
    ]
    batches = [batch for batch in batches if batch]
    devices = _subsets(causes.of_devices)
    mean: dict[Coalition, FloatArray] = {
        a | b: np.empty((plan.replicates, len(batches))) for a in devices for b in barriers
    }
    done, tasks = 0, [(some, one) for some in devices for one in range(plan.replicates)]

    stopped = threading.Event()

    def sample(some: Coalition, replicate: int) -> None:
        sampled = causes.devices(some)
        plans = {others: replace(sampled, barrier=barrier) for others, barrier in barriers.items()}
        drawn = SampledEngine(sampled).draw(replicate)
        for number, batch in enumerate(batches):
            total = dict.fromkeys(plans, 0.0)
            for first in batch[::_TILE]:
                if stopped.is_set():
                    return
                arrivals = arrivals_of(drawn, first, min(_TILE, batch.stop - first))
                for others, one in plans.items():
                    total[others] += float(times_of(one, replicate, first, arrivals).sum())
            for others, seconds in total.items():
                mean[some | others][replicate, number] = seconds / len(batch)

    with ThreadPoolExecutor(threads or available_threads(), "mcsim") as pool:
        try:
            for _ in pool.map(sample, *zip(*tasks, strict=True)):
                done += 1
                if progress is not None:
                    progress(done, len(tasks))
        except BaseException:
            # Whoever interrupts does not wait for all that is under way.
            stopped.set()
            raise
    every = (*causes.of_devices, *causes.of_network)
    costs = _costs(every, mean)
    sizes = np.array([len(batch) for batch in batches])
    return label_explanation(
        scenario, plan.ideal_step_time, mean[frozenset(every)], costs, CAUSES, sizes
    )


def _subsets(causes: Sequence[str]) -> list[Coalition]:
    sizes = range(len(causes) + 1)
    return [frozenset(some) for size in sizes for some in itertools.combinations(causes, size)]


def _costs(causes: Sequence[str], mean: Mapping[Coalition, FloatArray]) -> dict[str, FloatArray]:
    """What each of CAUSES costs in all forms, shape (causes, replicates, batches), s."""
    every, none = frozenset(causes), frozenset[str]()
    added = shapley(causes, mean)
    of: dict[str, Callable[[str], FloatArray]] = {
        "shapley": lambda cause: added[cause],
        "alone": lambda cause: mean[frozenset({cause})] - mean[none],
        "removed": lambda cause: mean[every] - mean[every - {cause}],
    }
    absent = np.zeros_like(mean[every])
    return {
        form: np.stack([cost(cause) if cause in every else absent for cause in CAUSES])
        for form, cost in of.items()
    }


def shapley(
    causes: Sequence[str], value: Mapping[Coalition, FloatArray]
) -> dict[str, NDArray[np.float64]]:
    """What each cause adds on average over all orders in which causes may come one by one.

    value: of every set of causes. The results add up to what all of them add to none (Shapley 1953,
    "A value for n-person games").
    """
    n = len(causes)
    found = {}
    for cause in causes:
        others = [other for other in causes if other != cause]
        terms = [
            math.factorial(len(some))
            * math.factorial(n - 1 - len(some))
            / math.factorial(n)
            * (value[some | {cause}] - value[some])
            for some in _subsets(others)
        ]
        found[cause] = np.sum(terms, axis=0)
    return found
