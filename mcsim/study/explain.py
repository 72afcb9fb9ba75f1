"""How much each cause costs: the same clusters and steps with every choice of the causes.

The random numbers are the same in all of them, since they have addresses. So differences are those
of the causes, not of chance.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mcsim.engine import SampledEngine, arrivals_of, sampled_engine, times_of
from mcsim.errors import Problem
from mcsim.laws import FloatArray
from mcsim.model import Plan
from mcsim.model.causes import CAUSES, Disturbances
from mcsim.results import label_explanation
from mcsim.scenario import Scenario
from mcsim.study.sampling import sampled
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
    causes = Disturbances(sampled(scenario, "explain"))
    _require_all_in_time(scenario, causes.plan)
    plan = causes.plan
    networks = {some: causes.network(some) for some in _subsets(causes.of_network)}
    batches = [
        range(number * plan.steps // BATCHES, (number + 1) * plan.steps // BATCHES)
        for number in range(BATCHES)
    ]
    batches = [batch for batch in batches if batch]
    devices = _subsets(causes.of_devices)
    mean: dict[Coalition, FloatArray] = {
        a | b: np.empty((plan.replicates, len(batches))) for a in devices for b in networks
    }
    done, tasks = 0, [(some, one) for some in devices for one in range(plan.replicates)]

    stopped = threading.Event()

    def sample(some: Coalition, replicate: int) -> None:
        disturbed = causes.devices(some)
        plans = {
            others: replace(disturbed, barrier=one.barrier, division=one.division)
            for others, one in networks.items()
        }
        times = (
            _Divided(plans, replicate) if plan.division else _Together(disturbed, plans, replicate)
        )
        for number, batch in enumerate(batches):
            total = dict.fromkeys(plans, 0.0)
            for first in batch[::_TILE]:
                for others, seconds in times.of(first, min(_TILE, batch.stop - first)):
                    if stopped.is_set():
                        return
                    total[others] += float(seconds.sum())
            for others, all_seconds in total.items():
                mean[some | others][replicate, number] = all_seconds / len(batch)

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
        scenario,
        plan.ideal_step_time,
        mean[frozenset(every)],
        costs,
        CAUSES,
        sizes,
        errors=plan.means_have_errors,
    )


def _require_all_in_time(scenario: Scenario, plan: Plan) -> None:
    """Raise ScenarioError where not all that is lost is time of steps."""
    remedies = plan.remedies
    problems = []
    if plan.tracked:
        message = f'"{scenario.sync.policy}" loses samples, which is no time of steps;'
        problems.append(Problem("sync.policy", f"{message} `mcsim compare` weighs both"))
    if remedies is not None and (remedies.leaves_out or remedies.swapping):
        message = "idle devices and swaps are no time of steps; `mcsim compare` weighs both"
        problems.append(Problem("remedy", message))
    if problems:
        raise scenario.error(problems)


class _Together:
    """Step times where each device is a replica: who arrives last does not depend on the network,
    so all networks share the arrivals."""

    def __init__(self, disturbed: Plan, plans: Mapping[Coalition, Plan], replicate: int) -> None:
        self._drawn = SampledEngine(disturbed).draw(replicate)
        self._plans, self._replicate = plans, replicate

    def of(self, first: int, count: int) -> Iterator[tuple[Coalition, FloatArray]]:
        """The times of the steps from `first` on, s, with each network."""
        arrivals = arrivals_of(self._drawn, first, count)
        for others, one in self._plans.items():
            yield others, times_of(one, self._replicate, first, arrivals)


class _Divided:
    """Step times of a model that is divided, whose pipelines the network is part of."""

    def __init__(self, plans: Mapping[Coalition, Plan], replicate: int) -> None:
        self._drawn = {others: sampled_engine(one).draw(replicate) for others, one in plans.items()}

    def of(self, first: int, count: int) -> Iterator[tuple[Coalition, FloatArray]]:
        """As of `_Together`."""
        for others, drawn in self._drawn.items():
            yield others, drawn.sample(first, count).time


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
