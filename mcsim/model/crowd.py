"""Many devices at once: the sum of their hazards, by few nodes, and between which times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from mcsim.laws import FloatArray
from mcsim.model.arrival import Arrival, NotExact
from mcsim.model.hazard import LEAST, MOST
from mcsim.model.nodes import Bases, bins_for, nodes_of, sketch
from mcsim.model.span import Axis, ladder, span

FIRST = float(np.log(-np.log1p(-LEAST)))
LAST = float(np.log(-np.log1p(-MOST)))
"""Of log H: the survival probabilities 2^-65 and 1 - 2^-53."""

TOLERANCE = 1e-6
"""Of the distribution function, absolute; of its tail, ten times that, relative."""

_ENOUGH = 0.2 * TOLERANCE
_CHECKED: FloatArray = np.array([-12.0, -3.0, -1.0, 0.0, 1.0])
_BY_RANK = 32.0
_REFINEMENTS = 5
_BLOCK = 2**15
_ROOM = 8 * float(np.finfo(np.float64).eps)
DEEP = 1e-8
"""A hazard below which less and less of its relative error matters."""
BLUR = 256.0
"""Doubles of a time within which log H is not followed: just before the end of a law."""


class Group(NamedTuple):
    """A group that varies: the law of its devices, their base times, and nodes for these."""

    arrival: Arrival
    bases: Bases
    nodes: Bases

    @property
    def devices(self) -> float:
        return float(self.bases.weight.sum())

    def mean(self) -> float:
        """The mean time of the devices, s."""
        base, weight = self.bases
        return float(self.arrival.mean(base) @ weight / weight.sum())

    def hazard(self, time: FloatArray) -> FloatArray:
        """The sum over the devices, at times of shape (n,)."""
        return self._summed(self.arrival.hazard, time)

    def excess(self, time: FloatArray) -> FloatArray:
        """The sum of E[T] - E[T | T <= time] over the devices, s."""
        return self._summed(self.arrival.excess, time)

    def _summed(
        self, function: Callable[[FloatArray, FloatArray], FloatArray], time: FloatArray
    ) -> FloatArray:
        base, weight = self.nodes
        last = self.arrival.last(base)
        last = last + _ROOM * np.abs(last)
        order = np.argsort(time)
        found = np.zeros(time.size)
        start = 0
        while start < time.size:
            # Who is always ready by now adds nothing from here on.
            waiting = last > time[order[start]]
            rows = max(1, _BLOCK // max(int(np.count_nonzero(waiting)), 1))
            here = order[start : start + rows]
            found[here] = function(time[here, None], base[waiting]) @ weight[waiting]
            start += rows
        return found


def hazards(groups: Sequence[Group], time: FloatArray) -> FloatArray:
    """Of each group at times of shape (n,); shape (groups, n)."""
    return np.stack([group.hazard(time) for group in groups])


def log_hazard(groups: Sequence[Group], time: FloatArray) -> FloatArray:
    """log H of all, at times of shape (n,)."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(hazards(groups, time).sum(axis=0)))


def ends(groups: Sequence[Group]) -> tuple[float, float]:
    """Times between which log H falls from LAST to FIRST, or as far as doubles tell, s."""
    both = np.array([MOST, LEAST])
    reach = np.stack([g.arrival.quantile(both, g.bases.value[-1:]) for g in groups])
    low, high = (float(time) for time in reach.max(axis=0))
    return span(lambda time: log_hazard(groups, time), low, high, (LAST, FIRST))


def crowd(moving: Sequence[tuple[Arrival, Bases]]) -> tuple[list[Group], float]:
    """Groups with nodes, and by how much these change the distribution function.

    The sum over the nodes is held against that over all devices at a few times, and the nodes
    are made more until both agree. Raises NotExact where they never do.
    """
    rough = [Group(arrival, bases, sketch(bases)) for arrival, bases in moving]
    time, y = ladder(lambda time: log_hazard(rough, time), Axis(*ends(rough)))
    coarse = np.interp(-np.linspace(LAST, FIRST, 50), -y, time)
    hazard = hazards(rough, coarse).sum(axis=0)
    checked = np.interp(-_CHECKED, -y, time)
    direct = hazards([Group(g.arrival, g.bases, g.bases) for g in rough], checked).sum(axis=0)
    fine, off = 1.0, np.inf
    for _ in range(_REFINEMENTS):
        groups = []
        for arrival, bases in moving:
            by_rank = 0.0 if arrival.is_smooth and fine == 1.0 else _BY_RANK * fine
            bins = bins_for(bases, arrival, coarse, hazard, fine, by_rank)
            groups.append(Group(arrival, bases, nodes_of(bases, bins, arrival.scaled)))
        off = deviation(hazards(groups, checked).sum(axis=0), direct)
        off += max(group.arrival.deviation() for group in groups)
        if off < _ENOUGH:
            break
        fine *= 2.0
    if not off < TOLERANCE:
        raise NotExact(
            "the law of its last arrival is too rough: tabulated, its distribution function is"
            f" off by {off:.1e}"
        )
    return groups, off


def deviation(found: FloatArray, true: FloatArray) -> float:
    """Of the distribution function, or a tenth of the relative one of its tail, by hazards."""
    error = np.abs(found - true)
    tail = np.where(true < 1.0, 0.1 * error / np.maximum(true, DEEP), 0.0)
    return float(np.maximum(np.exp(-true) * error, tail).max())
