"""Devices as they are given, and those of them whose time is always the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mcsim.laws import FloatArray, Law
from mcsim.model.arrival import Arrival, NotExact, Scaled, Shifted, reason_against
from mcsim.model.hazard import constant_value, is_constant
from mcsim.model.sums import sum_of


class Members(NamedTuple):
    """Devices whose times are base * C + D, independent in every step.

    base: shape (devices,), s. step, stall: the laws of C and D; None is always 1, or 0.
    """

    base: FloatArray
    step: Law | None
    stall: Law | None


class Rest(NamedTuple):
    """Devices of constant time.

    floor: the latest of these times, s; -inf if there are none. share: shape (groups,), of those
    that are there then. mean: shape (groups,), s, the mean time of a fixed group.
    """

    floor: float
    share: FloatArray
    mean: FloatArray


def is_fixed(group: Members) -> bool:
    """Whether each device takes the same time in every step."""
    return is_constant(group.step) and is_constant(group.stall)


def has_variance(group: Members) -> bool:
    """Whether the times have a finite variance."""
    return all(law is None or law.variance() < np.inf for law in (group.step, group.stall))


def resting(groups: Sequence[Members]) -> Rest:
    """Of all groups, what those that are fixed contribute."""
    times = [
        g.base * constant_value(g.step, 1.0) + constant_value(g.stall, 0.0)
        if is_fixed(g)
        else np.empty(0)
        for g in groups
    ]
    floor = max((float(t.max()) for t in times if t.size), default=-np.inf)
    there = np.array([np.count_nonzero(t == floor) for t in times], dtype=np.float64)
    mean = np.array([t.mean() if t.size else np.nan for t in times])
    return Rest(floor, there / max(there.sum(), 1.0), mean)


def arrival_of(group: Members) -> Arrival:
    """The law of a device of a group that is not fixed. Raises NotExact."""
    reason = reason_against(group.step, group.stall)
    if reason is not None:
        raise NotExact(reason)
    if not np.isfinite(group.base).all():
        raise NotExact("its base times are not all finite")
    if not is_constant(group.step) and not group.base.min() > 0.0:
        raise NotExact(
            f"a base time of {group.base.min():.6g} s is not above 0, and a step law multiplies it"
        )
    if is_constant(group.stall):
        assert group.step is not None
        return Scaled(group.step, constant_value(group.stall, 0.0))
    if is_constant(group.step):
        assert group.stall is not None
        return Shifted(group.stall, constant_value(group.step, 1.0))
    assert group.step is not None
    assert group.stall is not None
    return sum_of(group.step, group.stall)
