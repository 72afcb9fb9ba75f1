"""Devices in lockstep: how long a few that wait for each other in every pass take on average.

A device's pass takes r x C: r is what is persistent of it, over the undisturbed time, and C the
jitter, anew in every pass. n of them take the expected maximum,

    E[max] = top c_0 + integral from top c_0 of (1 - product of P(C <= t / r_i)) dt

with top the largest r and c_0 the least value of C. Source: David & Nagaraja 2003, Order
Statistics, section 5.2 (independent, not identical).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property

import numpy as np

from mcsim.laws import FloatArray, Law
from mcsim.model.hazard import constant_value, is_constant
from mcsim.model.plan import Group, Shock, Slow

_LEAST, _MOST = 1e-11, 1e-5
"""Probabilities beyond which the ends of a law are cut off, above and below."""
_BY_RANK, _BY_VALUE = 56, 33
"""Times at which the distribution function of the maximum is taken, by quantiles and evenly."""
_BLOCK = 2**21
"""Values at a time."""
_PARTS = 257
"""Of one of two laws that multiply."""
_TABLE = 4097

Distribution = Callable[[FloatArray], FloatArray]


class Jitter:
    """What varies from pass to pass: the law of a step, of an operation, or both multiplied.

    None is always 1.
    """

    def __init__(self, step: Law | None, operation: Law | None) -> None:
        given = [law for law in (step, operation) if law is not None]
        fixed = [constant_value(law, 1.0) for law in given if is_constant(law)]
        self.factor = math.prod(fixed)
        self.laws = [law for law in given if not is_constant(law)]

    @property
    def mean(self) -> float:
        """Of a device."""
        return self.factor * math.prod(law.expectation() for law in self.laws)

    def maximum(self, relative: FloatArray) -> FloatArray:
        """The mean time of devices in lockstep. relative: shape (sets, devices), above 0."""
        top = relative.max(axis=1)
        if not self.laws:
            return np.asarray(top * self.factor)
        if relative.shape[1] == 1:
            return np.asarray(top * self.mean)
        times, distribution = self._times, self._distribution
        found = np.empty(len(relative))
        rows = max(1, _BLOCK // times.size)
        for start in range(0, len(relative), rows):
            here = slice(start, start + rows)
            time = top[here, None] * times
            every = np.ones_like(time)
            for device in relative[here].T:
                every *= distribution(time / device[:, None])
            found[here] = time[:, 0] + np.trapezoid(1.0 - every, time, axis=1)
        return found * self.factor

    @cached_property
    def _times(self) -> FloatArray:
        """Where the distribution function is taken; ascending."""
        if len(self.laws) == 1:
            return _probes(self.laws[0])
        one, other = (_probes(law) for law in self.laws)
        low, high = one[0] * other[0], one[-1] * other[-1]
        own = np.unique(np.concatenate([one * np.median(other), other * np.median(one)]))
        return np.concatenate([[low], own[(own > low) & (own < high)], [high]])

    @cached_property
    def _distribution(self) -> Distribution:
        if len(self.laws) == 1:
            return self.laws[0].distribution
        # Of the product, by equally likely values of that which varies less.
        other, one = sorted(self.laws, key=lambda law: law.variance() / law.expectation() ** 2)
        parts = other.quantile((np.arange(_PARTS) + 0.5) / _PARTS)
        place = np.interp(
            np.linspace(0, 1, _TABLE), np.linspace(0, 1, self._times.size), self._times
        )
        value = np.mean([one.distribution(place / part) for part in parts], axis=0)
        return lambda time: np.interp(time, place, value)


def _probes(law: Law) -> FloatArray:
    """Values of a law, its ends and both sides of those with a probability of their own."""
    rank = np.linspace(np.log(_LEAST), -np.log(_MOST), _BY_RANK)
    by_rank = law.quantile(1.0 / (1.0 + np.exp(-rank)))
    low, high = law.quantile(np.array([0.999, 0.001]))
    knots = law.knots()
    sides = np.concatenate([knots, knots - 1e-12 * np.abs(knots)])
    inside = sides[(sides >= by_rank.min()) & (sides <= by_rank.max())]
    return np.unique(np.concatenate([by_rank, np.linspace(low, high, _BY_VALUE), inside]))


def spells(slow: Slow | Shock, units: int) -> float:
    """The mean factor of so many units that wait for each other, some of them slow for a while.

    Those that are not have the factor 1; it never counts as less.
    """
    law, time = slow.factor, _probes(slow.factor)
    # None has less than the least: just below it all that are slow are.
    time = np.concatenate([[time[0] * (1.0 - 1e-12)], time])
    time = np.unique(np.concatenate([[1.0], time[time > 1.0]]))
    none = (1.0 - slow.share * law.survival(time)) ** units
    return 1.0 + float(np.trapezoid(1.0 - none, time))


def slowed(
    group: Group, base: FloatArray, devices: int, sites: tuple[Slow | Shock, ...]
) -> FloatArray:
    """By how much replicas of so many devices are slower than undisturbed; shape (replicas,).

    base: of the drawn devices, s; those after the last whole replica take no part. sites: what
    makes whole sites slow. A device's stalls come as often in time as in training, and each keeps
    its replica waiting; they are taken not to coincide, nor to meet spells. The factors of spells
    of different levels multiply.
    """
    replicas = base.size // devices
    relative = base[: replicas * devices].reshape(replicas, devices) / group.compute
    relative = np.maximum(relative, np.finfo(np.float64).tiny)
    found = Jitter(group.step, group.operation).maximum(relative)
    for one in (*group.slow, *sites):
        found = found * spells(one, _units(group, one, devices))
    if group.stall is not None:
        found = found + devices * group.stall.expectation() / group.compute
    return found


def _units(group: Group, slow: Slow | Shock, devices: int) -> int:
    """Of a replica, that are slow each for itself."""
    nodes = -(-devices // group.devices_per_node)
    by_level = {
        "device": devices,
        "node": nodes,
        "rack": -(-nodes // group.nodes_per_rack),
        "site": 1,
    }
    return by_level[slow.level]
