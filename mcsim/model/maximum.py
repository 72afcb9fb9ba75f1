"""The law of the last arrival: when the slowest of many unlike devices is ready.

P(last <= t) is the product over the devices, exp(-H(t)) with H = -sum log P(T_i <= t), so one
draw stands for all of them. H is summed over few nodes in place of the devices, followed by
polynomials, and turned into a table of t over log H.

See Also: David & Nagaraja 2003, Order Statistics, ch. 5 (independent, not identical).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mcsim.laws import FloatArray
from mcsim.model.arrival import NotExact, reason_against
from mcsim.model.crowd import FIRST, LAST, TOLERANCE, crowd
from mcsim.model.curve import Curve, followed
from mcsim.model.given import busy, shares
from mcsim.model.lookup import IndexArray, lookup
from mcsim.model.members import Members, Rest, arrival_of, has_variance, is_fixed, resting
from mcsim.model.nodes import bases_of

__all__ = ["MaximumLaw", "Members", "NotExact", "maximum_law", "reason_against"]


@dataclass(frozen=True, eq=False)
class MaximumLaw:
    """The last arrival of groups of devices.

    A table over y = log(-log P(last <= t)), in whose cells time is a straight line:

    level: shape (points,), y, ascending: `first + spacing * k`, and more where that is not fine
    enough; two points are the same where time jumps. guide: shape (cells,), the last point at or
    before `first + spacing * k`: the cell of a y is found from there by few steps upwards.
    time: shape (points,), s, never rising. share: shape (groups, points - 1), the probability
    that the last is of a group, given the cell. busy: shape (groups, points), s, the mean time of
    a group's devices given that the last arrival of all is then.

    floor: s, devices of constant time are all there then (-inf: there are none); the table is of
    the others, and the last arrival is the later of both. floor_share: shape (groups,), of the
    devices that are ready exactly then. deviation: of the distribution function, or a tenth of
    the relative one of its tail, as measured. has_variance: whether that of the last arrival is
    finite.
    """

    first: float
    spacing: float
    guide: IndexArray
    level: FloatArray
    time: FloatArray
    share: FloatArray
    busy: FloatArray
    floor: float
    floor_share: FloatArray
    deviation: float
    has_variance: bool
    curve: Curve | None

    def quantile(self, survival: FloatArray) -> FloatArray:
        """The time exceeded with probability `survival`, s; any shape."""
        survival = np.asarray(survival, dtype=np.float64)
        if self.curve is None:
            return np.full(survival.shape, self.floor)
        with np.errstate(divide="ignore"):
            y = np.log(-np.log1p(-survival))
        found = self.curve.time(y.ravel()).reshape(survival.shape)
        return np.maximum(found, self.floor)

    def hazard(self, time: FloatArray) -> FloatArray:
        """-log P(last <= time); any shape."""
        time = np.asarray(time, dtype=np.float64)
        if self.curve is None:
            return np.where(time < self.floor, np.inf, 0.0)
        found = np.exp(self.curve.log_hazard(time.ravel())).reshape(time.shape)
        return np.where(time < self.floor, np.inf, found)

    def survival(self, time: FloatArray) -> FloatArray:
        """P(last > time); any shape."""
        return np.asarray(-np.expm1(-self.hazard(time)))

    def distribution(self, time: FloatArray) -> FloatArray:
        """P(last <= time); any shape."""
        return np.exp(-self.hazard(time))

    def tabulated(self, time: FloatArray) -> FloatArray:
        """The same of what is drawn from the table: forty times faster."""
        y = np.interp(time, self.time[::-1], self.level[::-1])
        return np.where(time < self.floor, 0.0, np.exp(-np.exp(y)))

    def jumps(self) -> FloatArray:
        """The survival probability at the floor."""
        return self.survival(self.knots())

    def knots(self) -> FloatArray:
        """The floor, s, which has a probability of its own."""
        return np.array([self.floor] if np.isfinite(self.floor) else [])

    def mean(self) -> float:
        """The mean of the last arrival, s."""
        return self.floor if self.curve is None else self.curve.mean_above(self.floor)


def maximum_law(groups: Sequence[Members]) -> MaximumLaw:
    """The law of the last arrival of all devices of some groups.

    Raises NotExact where it has none that can be tabulated (see `reason_against`).
    """
    try:
        with np.errstate(all="ignore"):
            return _tabulated(groups)
    except NotExact:
        raise
    except (ArithmeticError, ValueError, IndexError) as fault:
        raise NotExact(f"its numbers are beyond the tables ({fault})") from fault


def _tabulated(groups: Sequence[Members]) -> MaximumLaw:
    rest = resting(groups)
    moving = [index for index, group in enumerate(groups) if not is_fixed(group)]
    if not moving:
        return _only_floor(rest)
    found, compression = crowd([(arrival_of(groups[i]), bases_of(groups[i].base)) for i in moving])
    law = followed(found)
    _require_small(compression + law.deviation)
    table, roughness = lookup(law.curve, rest.floor)
    deviation = compression + law.deviation + roughness
    _require_small(deviation)
    share = np.zeros((len(groups), table.time.size - 1))
    share[moving] = shares(law, table)
    mean = np.repeat(rest.mean[:, None], table.time.size, axis=1)
    mean[moving] = busy(law, table, found, rest.floor)
    return MaximumLaw(
        first=FIRST,
        spacing=table.spacing,
        guide=table.guide,
        level=table.level,
        time=table.time,
        share=share,
        busy=mean,
        floor=rest.floor,
        floor_share=rest.share,
        deviation=deviation,
        has_variance=all(has_variance(groups[i]) for i in moving),
        curve=law.curve,
    )


def _require_small(deviation: float) -> None:
    if not deviation <= TOLERANCE:
        raise NotExact(
            "the law of the last arrival has too many kinks: tabulated, its distribution function"
            f" is off by {deviation:.1e}"
        )


def _only_floor(rest: Rest) -> MaximumLaw:
    return MaximumLaw(
        first=FIRST,
        spacing=LAST - FIRST,
        guide=np.zeros(1, np.int32),
        level=np.array([FIRST, LAST]),
        time=np.full(2, rest.floor),
        share=rest.share[:, None],
        busy=np.repeat(rest.mean[:, None], 2, axis=1),
        floor=rest.floor,
        floor_share=rest.share,
        deviation=0.0,
        has_variance=True,
        curve=None,
    )
