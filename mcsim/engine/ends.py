"""When steps end: the delays of the network, drawn, and the barrier, whatever the engine."""

from __future__ import annotations

from typing import Any

import numpy as np

from mcsim.engine.philox import Purpose, Words, key_of, survivals, word_3
from mcsim.errors import SimulationError
from mcsim.laws import FloatArray
from mcsim.model.barrier import slowest_of, step_end
from mcsim.model.plan import Delay, Plan

OVERFLOW: dict[str, Any] = {"over": "ignore", "invalid": "ignore", "divide": "ignore"}
"""For np.errstate, of each thread: what overflows is infinite, and found in the step times."""

_LONGEST = 1e60
"""s; the fourth powers of times are summed."""

_PURPOSE = {
    "node": Purpose.NODE_DELAY,
    "site": Purpose.SITE_DELAY,
    "link": Purpose.LINK_DELAY,
}


def step_times(plan: Plan, replicate: int, first: int, ready: FloatArray) -> FloatArray:
    """The times of the steps from `first` on, s, each with the delays of its own address.

    ready: shape (steps, sites), s, the last arrival at each site. Result: shape (steps,).
    Raises SimulationError where a time is not finite, or too large for sums of its powers.
    """
    with np.errstate(**OVERFLOW):
        time = step_end(plan.barrier, ready, _delays(plan, replicate, first, len(ready)))
    if not np.all(np.abs(time) < _LONGEST):
        worst = time[~(np.abs(time) < _LONGEST)][0]
        raise SimulationError(f"a step takes {worst:g} s; beyond {_LONGEST:g} s no mean is formed")
    return time


def _delays(plan: Plan, replicate: int, first: int, count: int) -> FloatArray:
    """The delays of the barrier, shape (steps, delays), s."""
    delays = plan.barrier.delays if plan.barrier is not None else ()
    steps = np.arange(first, first + count, dtype=np.uint32)
    out = np.empty((count, len(delays)))
    for column, delay in enumerate(delays):
        out[:, column] = _slowest(plan, replicate, steps, delay)
    return out


def _slowest(plan: Plan, replicate: int, steps: Words, delay: Delay) -> FloatArray:
    last = word_3(replicate, _PURPOSE[delay.level])
    identity = np.uint32(delay.identity)
    drawn = survivals(np.zeros_like(steps), steps, identity, last, *key_of(plan.seed))
    return delay.law.quantile(slowest_of(drawn, delay.participants))
