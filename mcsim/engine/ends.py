"""When steps end: the network's delays and states, drawn, and the barrier, whatever the engine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from mcsim.engine.links import exchange_times
from mcsim.engine.philox import Purpose, Words, key_of, survivals, word_3
from mcsim.errors import SimulationError
from mcsim.laws import FloatArray
from mcsim.model.arrival import NotExact
from mcsim.model.barrier import Ends, share_among_sites, stages_end, step_end
from mcsim.model.delays import law_of_delay, slowest
from mcsim.model.hazard import Quantiles
from mcsim.model.plan import BARE, Delay, Messages, Plan

OVERFLOW: dict[str, Any] = {"over": "ignore", "invalid": "ignore", "divide": "ignore"}
"""For np.errstate, of each thread: what overflows is infinite, and found in the step times."""

_LONGEST = 1e60
"""s; the fourth powers of times are summed."""

_MOST_DRAWN = 64
"""Rounds of messages that are drawn one by one."""

_PURPOSE = {
    "node": Purpose.NODE_DELAY,
    "site": Purpose.SITE_DELAY,
    "link": Purpose.LINK_DELAY,
    "flap": Purpose.LINK_FLAP,
}


def step_times(
    plan: Plan, replicate: int, first: int, ready: FloatArray
) -> tuple[FloatArray, FloatArray | None]:
    """The times of the steps from `first` on, s, each with the delays of its own address.

    ready: shape (steps, sites), s, the last arrival at each site; -inf where there is none. Result:
    shape (steps,), and what they were spent on, as of `Steps.components`.
    Raises SimulationError where a time is not finite, or too large for sums of its powers.
    """
    with np.errstate(**OVERFLOW):
        delays = delays_of(plan, replicate, first, len(ready))
        exchange = exchange_times(plan.barrier, plan.seed, replicate, first, len(ready))
        time = step_end(plan.barrier, ready, delays, exchange)
        require_finite(time)
        if len(plan.components) == len(BARE):
            return time, None
        last: FloatArray = ready.max(axis=1)
        among = (time - last) * share_among_sites(plan.barrier, ready, delays, exchange)
        return time, np.column_stack([last, time - last - among, among])


def require_finite(time: FloatArray) -> None:
    """Raise SimulationError where a time is not finite, or too large for sums of its powers."""
    if not np.all(np.abs(time) < _LONGEST):
        worst = time[~(np.abs(time) < _LONGEST)][0]
        raise SimulationError(f"a step takes {worst:g} s; beyond {_LONGEST:g} s no mean is formed")


def stage_ends(plan: Plan, replicate: int, first: int, ready: FloatArray, done: FloatArray) -> Ends:
    """The times of the steps from `first` on of a plan whose model is divided.

    ready, done: shape (deciding buckets, steps, stages, sites) and (steps, stages, sites), s, when
    the last replica has these buckets of gradients, and all. Raises SimulationError where a time is
    not finite, or too large.
    """
    division = plan.division
    assert division is not None
    buckets, barriers = division.parallel.buckets, division.barriers
    most = max((len(barrier.delays) for barrier in barriers), default=0)
    each, others = (np.zeros((*done.shape[:2], most)) for _ in range(2))
    steps = np.arange(first, first + len(done), dtype=np.uint32)
    place = 0
    exchange = np.zeros(done.shape[:2])
    with np.errstate(**OVERFLOW):
        for stage, barrier in enumerate(barriers):
            among = exchange_times(barrier, plan.seed, replicate, first, len(done))
            exchange[:, stage] = barrier.across if among is None else among
            for column, delay in enumerate(barrier.delays):
                for into, rounds in ((each, 1), (others, 0 if delay.is_flap else buckets - 1)):
                    if rounds:
                        many = replace(delay, rounds=delay.rounds * rounds)
                        into[:, stage, column] = _in_rounds(plan, replicate, steps, many, place)
                        place += many.rounds
        ends = stages_end(barriers, buckets, division.deciding, ready, done, each, others, exchange)
    require_finite(ends.time)
    return ends


def delays_of(plan: Plan, replicate: int, first: int, count: int) -> FloatArray:
    """The delays of the barrier, shape (steps, delays), s."""
    delays = plan.barrier.delays if plan.barrier is not None else ()
    steps = np.arange(first, first + count, dtype=np.uint32)
    out = np.empty((count, len(delays)))
    for column, delay in enumerate(delays):
        out[:, column] = _in_rounds(plan, replicate, steps, delay)
    return out


def _in_rounds(
    plan: Plan, replicate: int, steps: Words, delay: Delay, place: int = 0
) -> FloatArray:
    """The sum over the rounds of the slowest message of each, s; shape (steps,).

    place: where the addresses of its draws begin.

    Few rounds are drawn one by one; of many the sum, by its law, in a single draw, where it has
    one that can be tabulated.
    """
    law = _law_of_many(delay)
    rounds = 1 if law is not None else delay.rounds
    number = np.repeat(np.arange(place, place + rounds, dtype=np.uint32), steps.size)
    step = np.tile(steps, rounds)

    def draws(messages: Messages) -> FloatArray:
        last = word_3(replicate, _PURPOSE[messages.level])
        return survivals(number, step, np.uint32(messages.identity), last, *key_of(plan.seed))

    if law is not None:
        return law.quantile(draws(delay.messages[0]))
    waits = np.zeros(number.size)
    for messages in delay.messages:
        np.maximum(waits, slowest(messages).quantile(draws(messages)), out=waits)
    return np.asarray(waits.reshape(rounds, steps.size).sum(axis=0))


def _law_of_many(delay: Delay) -> Quantiles | None:
    if delay.rounds <= _MOST_DRAWN:
        return None
    try:
        return law_of_delay(delay)
    except NotExact:
        return None
