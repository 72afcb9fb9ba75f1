"""When a step ends, given when each site's last device is ready."""

from __future__ import annotations

import numpy as np

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
    arrival = (1 - barrier.overlap) * ready + np.array(barrier.up)
    across = np.full(last.shape, barrier.across) if exchange is None else exchange.copy()
    for column, one in enumerate(barrier.delays):
        if one.site is None:
            across += delay[:, column]
        else:
            arrival[:, one.site] += delay[:, column]
    met = arrival.max(axis=1) + across
    return np.asarray(np.maximum(last, met + max(barrier.down)))
