"""Every run compares the engines: steps of its own scenario against the law of their maximum.

The devices of some steps are sampled one by one, and the last arrivals at each site compared with
the law that is tabulated without any sampling. Source of the bound: Dvoretzky, Kiefer & Wolfowitz
with Massart's constant, Annals of Probability 18 (1990): the distribution function of n values
deviates by more than d from their law's with a probability of at most 2 exp(-2 n d^2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from mcsim.engine.exact import ExactEngine, site_laws
from mcsim.engine.sampled import SampledEngine, SampledReplicate, sample_steps
from mcsim.engine.steps import Engine
from mcsim.engine.workers import Crew
from mcsim.laws import FloatArray
from mcsim.model.choice import MOST_A_BLOCK, cpu_seconds, sampled_seconds, why_no_law
from mcsim.model.maximum import MaximumLaw, NotExact
from mcsim.model.plan import Plan

CHANCE = 1e-6
"""How often a check fails although both engines are right."""

_SHARE = 0.05
_AT_A_TIME = MOST_A_BLOCK
_LEAST_STEPS, _MOST_STEPS = 4 * _AT_A_TIME, 64 * _AT_A_TIME


@dataclass(frozen=True)
class SelfCheck:
    """How far apart the engines are.

    steps: compared, of the first replicate. deviation: the largest difference of the distribution
    functions of the last arrival, over all sites. bound: what it exceeds with the probability
    CHANCE if both are right. reason: why there was no check; empty where there was.
    """

    steps: int
    deviation: float
    bound: float
    reason: str = ""

    @property
    def outcome(self) -> str:
        """Passed, failed, or not possible."""
        if self.reason:
            return "not possible"
        return "passed" if self.deviation <= self.bound else "failed"

    @property
    def message(self) -> str:
        """What it found, in a sentence."""
        if self.reason:
            return f"no self-check: {self.reason}"
        return (
            f"self-check {self.outcome}: the distribution functions of the sampled and the exact"
            f" engine differ by {self.deviation:.2g} over {self.steps:,} steps, where"
            f" {self.bound:.2g} is allowed (chance of a false alarm {CHANCE:g})"
        )


def check_by_law(
    plan: Plan, engine: Engine | str, threads: int, crew: Crew | None = None
) -> SelfCheck:
    """Compare the engines on a plan that was run on `engine`, here or, by its name, elsewhere.

    On so many threads, or by those who ran it. It takes a twentieth of the run's time, but at
    least the tables of one cluster and some blocks of steps. What makes steps differ in law, as
    slow states do, is left out of it, and so is whatever stands in the place of a full barrier.
    """
    name = engine if isinstance(engine, str) else engine.name
    sampled = engine if isinstance(engine, SampledEngine) else None
    if plan.is_disturbed or not plan.is_plain:
        plan, sampled = plan.undisturbed(), None
    laws = engine.first_laws if isinstance(engine, ExactEngine) else None
    if laws is None:
        reason = why_no_law(plan)
        if reason is not None:
            return SelfCheck(0, math.nan, math.nan, reason)
        try:
            laws = site_laws(plan, 0)
        except NotExact as impossible:
            return SelfCheck(0, math.nan, math.nan, str(impossible))
    steps = range(0, _affordable(plan, name), _AT_A_TIME)
    if crew is not None:
        found = {at: one.result for at, one in crew.answers(_ready, plan, "sampled", iter(steps))}
        return compare(laws, np.concatenate([found[first] for first in steps]))
    replicate = (sampled or SampledEngine(plan)).draw(0)
    with ThreadPoolExecutor(threads, "mcsim") as pool:
        parts = pool.map(partial(_last_arrivals, replicate), steps)
        return compare(laws, np.concatenate(list(parts)))


def _ready(plan: Plan, engine: Engine, threads: int, first: int) -> FloatArray:
    replicate = engine.draw(0)
    assert isinstance(replicate, SampledReplicate)
    return _last_arrivals(replicate, first)


def _last_arrivals(replicate: SampledReplicate, first: int) -> FloatArray:
    # Nothing else, whatever a run keeps.
    return sample_steps(replicate.cluster, first, _AT_A_TIME, replicate.start).ready


def compare(laws: Sequence[MaximumLaw], ready: FloatArray) -> SelfCheck:
    """Sampled last arrivals against their laws. ready: shape (steps, sites), s."""
    deviations = [deviation_of(law, ready[:, site]) for site, law in enumerate(laws)]
    steps = len(ready)
    bound = math.sqrt(math.log(2 * len(laws) / CHANCE) / (2 * steps))
    # The tables are right up to a deviation of their own.
    return SelfCheck(steps, max(deviations), bound + max(law.deviation for law in laws))


def deviation_of(law: MaximumLaw, values: FloatArray) -> float:
    """The largest difference between the distribution function of some values and a law's."""
    value, count = np.unique(values, return_counts=True)
    at = np.cumsum(count) / values.size
    before = at - count / values.size
    expected = law.tabulated(value)
    # Of the law, only its floor has a probability of its own.
    expected_before = np.where(value <= law.floor, 0.0, expected)
    return float(max(np.abs(at - expected).max(), np.abs(before - expected_before).max()))


def _affordable(plan: Plan, engine: str) -> int:
    spent = cpu_seconds(plan, engine)
    times = int(_SHARE * spent / sampled_seconds(plan) / _AT_A_TIME)
    return min(max(times * _AT_A_TIME, _LEAST_STEPS), _MOST_STEPS)
