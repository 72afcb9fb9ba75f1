"""When a step ends, given when each site's last device is ready."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mcsim.laws import FloatArray
from mcsim.model.plan import Barrier


def slowest_of(survival: FloatArray, participants: int) -> FloatArray:
    """The survival probability of one participant at which the slowest of n has `survival`.

    The maximum of n independent draws has the distribution function F^n, so one draw serves all
    of them. Any shape; the digits of small probabilities are kept.
    """
    return np.asarray(-np.expm1(np.log1p(-survival) / participants))


def step_end(
    barrier: Barrier | None,
    ready: FloatArray,
    delay: FloatArray,
    exchange: FloatArray | None = None,
) -> FloatArray:
    """The times of steps, s: shape (steps,).

    ready: shape (steps, sites), s, the last arrival at each site.
    delay: shape (steps, delays), s, in the order of `barrier.delays`.
    exchange: shape (steps,), s, among the sites; default: undisturbed.

    Each site reduces among its own devices, the sites exchange their parts once the last of
    them is there, and each hands the result to its devices. Communication of a site hides
    behind the part `overlap` of its compute time. A later arrival never ends a step sooner.
    """
    last: FloatArray = ready.max(axis=1)
    if barrier is None:
        return last
    arrived, across = _arrived(barrier, ready, delay, exchange)
    return np.asarray(np.maximum(last, arrived + across + max(barrier.down)))


def share_among_sites(
    barrier: Barrier | None,
    ready: FloatArray,
    delay: FloatArray,
    exchange: FloatArray | None = None,
) -> FloatArray:
    """The part of the collective's time that it goes on among sites, shape (steps,).

    ready, delay, exchange: as of `step_end`. The time is that from the last site's part of the
    compute that hides nothing.
    """
    if barrier is None:
        return np.zeros(len(ready))
    arrived, across = _arrived(barrier, ready, delay, exchange)
    whole = arrived + across + max(barrier.down) - (1 - barrier.overlap) * ready.max(axis=1)
    return np.asarray(np.divide(across, whole, out=np.zeros_like(across), where=whole > 0.0))


def _arrived(
    barrier: Barrier, ready: FloatArray, delay: FloatArray, exchange: FloatArray | None
) -> tuple[FloatArray, FloatArray]:
    """When the parts of all sites are there, and what they then take among them; (steps,), s."""
    share = 1 - barrier.overlap
    # Where nobody is waited for, at -inf, there is nothing to hide behind.
    own = share * ready if share > 0.0 else np.where(ready > -np.inf, 0.0, ready)
    arrival = own + np.array(barrier.up)
    across = np.full(len(ready), barrier.across) if exchange is None else exchange.copy()
    for column, one in enumerate(barrier.delays):
        if one.site is None:
            across += delay[:, column]
        else:
            arrival[:, one.site] += delay[:, column]
    return arrival.max(axis=1), across


class Ends(NamedTuple):
    """When steps end, s, and after which stage. time, stage: shape (steps,). among: the part of
    that stage's collective that goes on among sites; shape (steps,)."""

    time: FloatArray
    stage: NDArray[np.intp]
    among: FloatArray


def stages_end(
    barriers: Sequence[Barrier],
    buckets: int,
    deciding: Sequence[int],
    ready: FloatArray,
    last: FloatArray,
    each: FloatArray,
    others: FloatArray,
    exchange: FloatArray,
) -> Ends:
    """When the gradients of all stages are summed.

    deciding: the numbers of the buckets that may decide, as of `deciding_buckets`. ready: shape
    (deciding, steps, stages, sites), s, when the last replica has each. last: shape (steps, stages,
    sites), s, when it has all; -inf where a stage is not at a site. each, others: shape (steps,
    stages, delays), s, the delays of one bucket, and those of all others together. exchange: shape
    (steps, stages), s, of a bucket among the sites.

    A stage's buckets are sent one after the other, each when every replica has it: from one of
    them on, without a break. The delays of those that are then left are their part of `others`.
    The links serve one stage after the other, in the order in which they are ready.
    """
    whole: FloatArray = last.max(axis=(1, 2))
    stage = np.asarray(last.max(axis=2).argmax(axis=1))
    among = np.zeros(whole.shape)
    if not barriers:
        return Ends(whole, stage, among)
    for have, first in zip(ready, deciding, strict=True):
        number = buckets + 1 - first
        delay = each + others * ((number - 1) / max(buckets - 1, 1))
        arrived, across = _inside_sites(barriers, have, number, delay, exchange)
        met = _one_by_one(arrived, across)
        down = number * np.array([max(barrier.down) for barrier in barriers])
        end = met + down
        late = end.argmax(axis=1)
        rows = np.arange(len(end))
        later = end[rows, late] > whole
        whole = np.where(later, end[rows, late], whole)
        stage = np.where(later, late, stage)
        waited = (met - arrived)[rows, late]
        taken = end[rows, late] - have.max(axis=2)[rows, late]
        share = np.divide(waited, taken, out=np.zeros_like(waited), where=taken > 0.0)
        among = np.where(later, share, among)
    return Ends(whole, stage, among)


def _inside_sites(
    barriers: Sequence[Barrier],
    ready: FloatArray,
    number: int,
    delay: FloatArray,
    exchange: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """When each stage is summed inside all its sites, and what it then takes among them, s."""
    arrived = ready + number * np.array([barrier.up for barrier in barriers])
    across = number * exchange
    for stage, barrier in enumerate(barriers):
        for column, one in enumerate(barrier.delays):
            if one.site is None:
                across[:, stage] += delay[:, stage, column]
            else:
                arrived[:, stage, one.site] += delay[:, stage, column]
    return arrived.max(axis=2), across


def _one_by_one(arrived: FloatArray, across: FloatArray) -> FloatArray:
    """When each of some customers of one server has been served, first come, first served.

    arrived, across: shape (steps, customers), s, when each comes and how long it takes.
    """
    order = np.argsort(arrived, axis=1, kind="stable")
    arrived, across = (np.take_along_axis(values, order, axis=1) for values in (arrived, across))
    end = np.empty_like(arrived)
    free = np.full(len(arrived), -np.inf)
    for place in range(arrived.shape[1]):
        free = np.maximum(free, arrived[:, place]) + across[:, place]
        end[:, place] = free
    found = np.empty_like(end)
    np.put_along_axis(found, order, end, axis=1)
    return found
