"""What is known of the devices, given when the last of them arrived."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mcsim.laws import FloatArray
from mcsim.model.crowd import Group
from mcsim.model.curve import Followed
from mcsim.model.lookup import Lookup, is_flat


def shares(found: Followed, table: Lookup) -> FloatArray:
    """In which group the last arrival is, given its cell; shape (groups, cells)."""
    place = found.curve.axis.place(table.time)
    own = np.stack([share(place, table.panel) for share in found.share])
    # H of the point at which the cell begins, by that of its end.
    before = np.exp(table.level[:-1] - table.level[1:])
    gained = np.maximum(own[:, 1:] - own[:, :-1] * before, 0.0)
    total = gained.sum(axis=0)
    share = np.where(total > 0, gained / np.where(total > 0, total, 1.0), own[:, 1:])
    return np.asarray(share / share.sum(axis=0))


def busy(found: Followed, table: Lookup, groups: Sequence[Group], floor: float) -> FloatArray:
    """The mean time of each group's devices, given the last arrival; shape (groups, points), s.

    With K(t) = sum of E[T_i] - E[T_i | T_i <= t], all are in time, which takes K(t) from the sum
    of their means, and the last, with probability dH_i / dH device i, is at t instead of at
    E[T_i | T_i <= t], which gives back dK / dH.
    """
    curve, panel = found.curve, table.panel
    place = curve.axis.place(table.time)
    hazard = np.exp(curve.y(place, panel))
    falling = ~is_flat(curve, place, panel)
    slope = np.where(falling, curve.y.slope(place, panel), -1.0)
    at = np.arange(place.size)
    rows = []
    for lost, group in zip(found.excess, groups, strict=True):
        # K = lost * H, so dK / dH = lost + d lost / d log H.
        own = lost(place, panel)
        given = own + lost.slope(place, panel) / slope
        given = np.interp(at, at[falling], given[falling])
        time = group.mean() + (given - own * hazard) / group.devices
        below = np.flatnonzero(table.time <= floor)
        if below.size:
            k = float(group.excess(np.array([max(floor, curve.axis.low)]))[0])
            # The first of the points at the floor is that of arrivals just after it.
            first = int(table.time[below[0]] == floor and below.size > 1)
            time[below[first] :] = group.mean() - k / group.devices
        rows.append(time)
    return np.stack(rows)
