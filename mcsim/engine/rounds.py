"""Rounds of steps in which each site works by itself, and what the sites then exchange.

Inside a site every step has its barrier, as if there were no other site; its draws are those of
the step's own number, round x inner + step. All sites begin a round together, so that no round
needs to know those before.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mcsim.engine.ends import OVERFLOW, delays_of, require_finite
from mcsim.engine.links import exchange_times
from mcsim.engine.steps import Arrivals, Steps
from mcsim.laws import FloatArray
from mcsim.model.plan import BARE, Plan
from mcsim.model.policy import Rounds


class Work(NamedTuple):
    """What each site does in each step of some rounds by itself: shape (rounds, steps, sites), s.

    ready: until its last device is. sent: until its part is there for the other sites. whole:
    until all of its devices have the result of the site. across: shape (rounds, steps), s, of an
    exchange that begins in the step. down: s, until all devices of a site have its result.
    """

    ready: FloatArray
    sent: FloatArray
    whole: FloatArray
    across: FloatArray
    down: float


class Met(NamedTuple):
    """time: shape (rounds,), s, of the whole round. start: s, when the last exchange begins. late:
    shape (rounds, sites), who is not waited for."""

    time: FloatArray
    start: FloatArray
    late: NDArray[np.bool_]


def rounds_ended(plan: Plan, replicate: int, first: int, arrivals: Arrivals) -> Steps:
    """The rounds from `first` on, of the arrivals in each of their steps, as one step each.

    Times of devices and sites are summed over the steps. Who arrived last is told of the last one.
    Raises SimulationError where a time is not finite, or too large.
    """
    rounds = plan.rounds
    assert rounds is not None
    with np.errstate(**OVERFLOW):
        work = _work(plan, rounds, replicate, first, arrivals.ready)
        met = _met(rounds, work)
        require_finite(met.time)
        ready = _sum(work.ready)
        each = arrivals.busy.reshape(len(ready), rounds.inner, -1)
        busy = _sum(each)
        if met.late.any():
            # Interrupted, as soon as the others exchange.
            ready = np.where(met.late, np.minimum(ready, met.start[:, None]), ready)
            sites = [group.site for group in plan.groups]
            begun = np.cumsum(work.whole, axis=1)[:, :, sites] - work.whole[:, :, sites]
            left = np.maximum(met.start[:, None, None] - begun, 0.0)
            busy = np.where(met.late[:, sites], _sum(np.minimum(each, left)), busy)
        last: FloatArray = ready.max(axis=1)
        among = met.time - _met(rounds, work._replace(across=np.zeros_like(work.across))).time
    components = None
    if len(plan.components) > len(BARE):
        components = np.column_stack([last, met.time - last - among, among])
    at = slice(rounds.inner - 1, None, rounds.inner)
    return Steps(
        met.time,
        ready,
        arrivals.culprit[at],
        arrivals.draw[at],
        busy,
        components,
        None if arrivals.device is None else arrivals.device[at],
        lost=_lost(plan, met.late) if plan.tracked else None,
    )


def _work(plan: Plan, rounds: Rounds, replicate: int, first: int, ready: FloatArray) -> Work:
    """ready: shape (rounds x steps, sites), s, the last arrivals."""
    shape = (-1, rounds.inner, len(plan.sites))
    barrier = plan.barrier
    if barrier is None:
        alone = ready.reshape(shape)
        return Work(alone, alone, alone, np.zeros(alone.shape[:2]), 0.0)
    step, steps = first * rounds.inner, len(ready)
    delays = delays_of(plan, replicate, step, steps)
    exchange = exchange_times(barrier, plan.seed, replicate, step, steps)
    across = np.full(steps, barrier.across) if exchange is None else exchange
    sent = (1 - barrier.overlap) * ready + np.array(barrier.up)
    for column, one in enumerate(barrier.delays):
        if one.site is None:
            across = across + delays[:, column]
        else:
            sent[:, one.site] += delays[:, column]
    whole = np.maximum(ready, sent + np.array(barrier.down))
    return Work(
        ready.reshape(shape),
        sent.reshape(shape),
        whole.reshape(shape),
        across.reshape(shape[:2]),
        max(barrier.down),
    )


def _met(rounds: Rounds, work: Work) -> Met:
    """When the sites have met, fragment by fragment.

    An exchange begins `overlap` steps before its result is due, when every site has done the steps
    until then, and once the links have carried the one before.
    """
    count, _, sites = work.ready.shape
    clock = np.zeros((count, sites))
    begun: list[FloatArray] = []
    late = np.zeros((count, sites), np.bool_)
    start, free = np.zeros(count), np.full(count, -np.inf)
    at = 0
    for step, fragment in _events(rounds):
        begins = fragment == len(begun)
        # With its last step each exchange that hides behind none is one collective.
        together = rounds.overlap == 0
        until = step - 1 if together else step
        clock = _later(clock, work.whole[:, at:until])
        at = max(at, until)
        if begins and together:
            last = work.sent[:, step - 1]
            start, late = _quorum(rounds, clock + last)
            end = np.maximum(start, free) + work.across[:, step - 1]
            ready = np.where(late, -np.inf, clock + work.ready[:, step - 1]).max(axis=1)
            clock = np.repeat(np.maximum(ready, end + work.down)[:, None], sites, axis=1)
            begun.append(end)
            free, at = end, step
        elif begins:
            start = clock.max(axis=1)
            # With the delays of the step in which it is due, of which there is one for each.
            free = np.maximum(start, free) + work.across[:, rounds.due[fragment] - 1]
            begun.append(free)
        else:
            there = begun[fragment] + work.down / rounds.fragments
            clock = np.maximum(clock, there[:, None])
    return Met(clock.max(axis=1), start, late)


def _events(rounds: Rounds) -> list[tuple[int, int]]:
    """After how many steps an exchange begins, or its result is needed, and of which fragment."""
    begin = [(due - rounds.overlap, 1, number) for number, due in enumerate(rounds.due)]
    need = [(due, 0, number) for number, due in enumerate(rounds.due)]
    # What is needed just when the next begins comes first.
    events = sorted(begin + (need if rounds.overlap else []))
    return [(step, number) for step, _, number in events]


def _quorum(rounds: Rounds, there: FloatArray) -> tuple[FloatArray, NDArray[np.bool_]]:
    """When the sites exchange their parts, shape (rounds,), s, and who is late for it.

    there: shape (rounds, sites), s, when each part is.
    """
    last: FloatArray = there.max(axis=1)
    if rounds.quorum == there.shape[1]:
        return last, np.zeros(there.shape, np.bool_)
    enough = np.sort(there, axis=1)[:, rounds.quorum - 1] + rounds.grace
    start = np.minimum(last, enough)
    return start, there > start[:, None]


def _sum(values: FloatArray) -> FloatArray:
    """Over the steps of each round, one after the other: shape (rounds, any)."""
    return _later(np.zeros((values.shape[0], values.shape[2])), values)


def _later(clock: FloatArray, steps: FloatArray) -> FloatArray:
    """A clock after some more steps. clock: shape (rounds, any); steps: (rounds, steps, any)."""
    # Accumulated, for the order in which a sum is formed may depend on the layout of its memory.
    every = np.concatenate([clock[:, None], steps], axis=1)
    return np.asarray(np.add.accumulate(every, axis=1)[:, -1])


def _lost(plan: Plan, late: NDArray[np.bool_]) -> FloatArray:
    """The share of samples of the sites that are late; shape (rounds,)."""
    devices = np.zeros(len(plan.sites))
    for group in plan.groups:
        devices[group.site] += group.count
    return np.asarray(np.add.accumulate(late * (devices / plan.devices), axis=1)[:, -1])
