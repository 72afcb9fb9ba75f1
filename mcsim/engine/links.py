"""What the links carry in each step: lanes that are down, and spells of less bandwidth."""

from __future__ import annotations

import numpy as np

from mcsim.engine.philox import Purpose
from mcsim.engine.states import Address, unit_spells
from mcsim.laws import FloatArray
from mcsim.model.plan import Barrier, LinkPlan


def exchange_times(
    barrier: Barrier | None, seed: int, replicate: int, first: int, count: int
) -> FloatArray | None:
    """What the sites' exchange takes in each of some steps, s: shape (steps,).

    None where no link degrades.
    """
    if barrier is None or not barrier.degrading:
        return None
    share = np.stack(
        [share_of(link, seed, replicate, first, count) for link in barrier.links], axis=1
    )
    # Solved once for all steps in which the links carry the same.
    changes = np.any(share[1:] != share[:-1], axis=1)
    starts = np.flatnonzero(np.append(True, changes))
    distinct, which = np.unique(share[starts], axis=0, return_inverse=True)
    seconds = np.array([barrier.exchange.seconds(each) for each in distinct.tolist()])
    return np.repeat(seconds[which.ravel()], np.diff(np.append(starts, count)))


def share_of(link: LinkPlan, seed: int, replicate: int, first: int, count: int) -> FloatArray:
    """The share of its bandwidth that a link has in each of some steps; shape (steps,)."""
    share = np.ones(count)
    if link.lane_down is not None:
        address = Address(seed, replicate, link.identity, Purpose.LANE_DOWN)
        _, start, end, _ = unit_spells(link.lane_down, link.lanes, address, first, count)
        # One more lane is down from each start on, and one less from each end.
        begun = np.bincount(start - first, minlength=count + 1)
        ended = np.bincount(end - first, minlength=count + 1)
        down = np.cumsum(begun - ended)[:count]
        share = np.maximum(link.lanes - down, 1) / link.lanes
    if link.slow is not None:
        address = Address(seed, replicate, link.identity, Purpose.SLOW_LINK)
        _, start, end, factor = unit_spells(link.slow, 1, address, first, count)
        for begin, stop, by in zip(start - first, end - first, factor, strict=True):
            share[begin:stop] /= by
    return share
