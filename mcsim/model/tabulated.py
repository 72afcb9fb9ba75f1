"""When one device arrives whose step and stall are both continuous: base * C + D.

The quantile function of the sum is tabulated by quadrature at some base times, and interpolated
between these: at the same probability it is next to linear in the base time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, NamedTuple

import numpy as np

from mcsim.laws import FloatArray, Law
from mcsim.model.arrival import NotExact
from mcsim.model.columns import LOG_HAZARD, Columns, derivative
from mcsim.model.convolution import Scale, hazard_of_sum
from mcsim.model.hazard import LEAST, MOST, Indices, end_of
from mcsim.model.panels import Panels, adapted
from mcsim.model.span import Axis, span

_WIDTH, _NARROWEST = 0.25, 0.0625
"""Of a range of log base times that is interpolated at once."""
_BASES = 8
_CHEBYSHEV: FloatArray = 0.5 - 0.5 * np.cos(
    np.pi / _BASES * (np.arange(_BASES, dtype=np.float64) + 0.5)
)
_ENOUGH = 2e-7
"""Of the distribution function, between the base times that are tabulated."""
_TOLERANCES = 1e-5, 1e-8
"""Of the log hazard, and of the log survival."""
_MOST_PANELS = 256
_MANY = 1024
"""More base times than these are interpolated between that many."""
_KEPT = 8
_MOST_WORK, _MOST_WORK_A_RANGE = 4_000_000, 2_000_000
"""Evaluations of the laws for a table, a second for a million: laws with many kinks need more,
and are sampled in less time."""
_TOO_LONG = "its step and its stall both vary, with too many kinks for a table of their sum"


class Range(NamedTuple):
    """Quantiles of the sum over a range of base times.

    base: shape (bases,), s. time: shape (bases, points), s. deviation: of the distribution
    function of one device (or a tenth of the relative one of its tail) between the base times.
    work: evaluations of the laws that it took.
    """

    base: FloatArray
    time: FloatArray
    deviation: float
    work: int

    def at(self, base: FloatArray) -> FloatArray:
        """Lagrange's polynomials; shape (n, points)."""
        weight = np.ones((base.size, _BASES))
        for j in range(_BASES):
            others = np.arange(_BASES) != j
            weight[:, others] *= (base[:, None] - self.base[j]) / (self.base[others] - self.base[j])
        return np.asarray(weight @ self.time)


@dataclass(frozen=True, eq=False)
class Tabulated:
    """base * C + D, both continuous."""

    step: Law
    stall: Law
    scaled: ClassVar[bool] = True
    is_smooth: ClassVar[bool] = True
    _ranges: dict[tuple[int, float], Range] = field(default_factory=dict)
    _recent: dict[bytes, Columns] = field(default_factory=dict)

    def hazard(self, time: FloatArray, base: FloatArray) -> FloatArray:
        base = base.ravel()
        time = np.broadcast_to(time, np.broadcast(time, base).shape)
        if base.size > _MANY:
            return self._of_many(time, base)
        hazard = np.exp(self._columns(base).log_hazard(time)[0])
        return np.where(time > self._end(base), 0.0, hazard)

    def excess(self, time: FloatArray, base: FloatArray) -> FloatArray:
        base = base.ravel()
        time = np.broadcast_to(time, np.broadcast(time, base).shape)
        columns = self._columns(base)
        log_hazard, cell, part = columns.log_hazard(time)
        excess = np.exp(log_hazard) * columns.excess_ratio(cell, part)
        return np.where(time > self._end(base), 0.0, excess)

    def quantile(self, survival: FloatArray, base: FloatArray) -> FloatArray:
        return base * self.step.quantile(survival) + self.stall.quantile(survival)

    def mean(self, base: FloatArray) -> FloatArray:
        return base * self.step.expectation() + self.stall.expectation()

    def breaks(self, base: FloatArray) -> FloatArray:
        return np.empty((base.size, 0))

    def last(self, base: FloatArray) -> FloatArray:
        return np.full(base.shape, np.inf)

    def deviation(self) -> float:
        return max((one.deviation for one in self._ranges.values()), default=0.0)

    def _end(self, base: FloatArray) -> FloatArray:
        return base * end_of(self.step) + end_of(self.stall)

    def _of_many(self, time: FloatArray, base: FloatArray) -> FloatArray:
        """The same for more base times than columns can be held of."""
        # Not at the top: it takes 80 ms to import, and few runs come here.
        from scipy.interpolate import CubicSpline

        place = np.log(base)
        few = np.linspace(place.min(), place.max(), _MANY)
        some = np.broadcast_to(time[:, :1], (time.shape[0], _MANY))
        log_hazard = np.log(np.maximum(self.hazard(some, np.exp(few)), 1e-35))
        return np.asarray(np.exp(CubicSpline(few, log_hazard, axis=1)(place)))

    def _columns(self, base: FloatArray) -> Columns:
        key = base.tobytes()
        found = self._recent.get(key)
        if found is None:
            time = np.empty((base.size, LOG_HAZARD.size))
            self._fill(time, np.log(base), np.arange(base.size), _WIDTH)
            found = Columns(time, self.mean(base))
            if len(self._recent) >= _KEPT:
                self._recent.clear()
            self._recent[key] = found
        return found

    def _fill(self, time: FloatArray, place: FloatArray, rows: Indices, width: float) -> None:
        """Put the quantiles of these rows' base times into `time`; place: of all, log(base)."""
        index = np.floor(place[rows] / width).astype(np.intp)
        for one in np.unique(index):
            here = rows[index == one]
            key = (int(one), width)
            if key not in self._ranges:
                self._require_cheap(index, width)
                self._ranges[key] = self._range(one * width, width)
            found = self._ranges[key]
            if found.deviation > _ENOUGH and width > _NARROWEST:
                self._ranges[key] = found._replace(deviation=0.0)
                self._fill(time, place, here, 0.5 * width)
            time[here] = found.at(np.exp(place[here]))

    def _require_cheap(self, index: Indices, width: float) -> None:
        """Raise NotExact where the ranges of these numbers would take too long."""
        known = [found.work for found in self._ranges.values()]
        new = sum((int(one), width) not in self._ranges for one in np.unique(index))
        if known and new * max(known) > _MOST_WORK:
            raise NotExact(_TOO_LONG)

    def _range(self, start: float, width: float) -> Range:
        work: list[int] = []
        base = np.exp(start + width * _CHEBYSHEV)
        time = np.stack([self._column(float(one), work) for one in base])
        # Half way between two of the base times, in the middle.
        middle = np.exp(np.array([start + 0.5 * width]))
        true = self._column(float(middle[0]), work)
        found = Range(base, time, 0.0, sum(work))
        error = np.abs(found.at(middle)[0] - true) / np.maximum(-derivative(true[None])[0], 1e-300)
        hazard = np.exp(LOG_HAZARD)
        weight = np.maximum(hazard * np.exp(-hazard), np.where(hazard < 1.0, 0.1, 0.0))
        steady = true[1:] < true[:-1]
        return found._replace(deviation=float((error * weight)[1:][steady].max(initial=0.0)))

    def _column(self, base: float, work: list[int]) -> FloatArray:
        """Times at LOG_HAZARD for a base time. work: is added to."""
        step, stall = self._scales
        places = step.value.size + stall.value.size

        def log_hazard(time: FloatArray) -> FloatArray:
            work.append(time.size * places)
            if sum(work) > _MOST_WORK_A_RANGE:
                raise NotExact(_TOO_LONG)
            with np.errstate(divide="ignore"):
                return np.asarray(np.log(hazard_of_sum(step, stall, base, time)))

        low, high = self.quantile(np.array([MOST, LEAST]), np.array(base))
        low, high = span(log_hazard, float(low), float(high), (LOG_HAZARD[-1], LOG_HAZARD[0]))
        axis = Axis(low, high)

        def rows(place: FloatArray) -> FloatArray:
            y = log_hazard(axis.time(place))
            return np.stack([y, np.log(-np.expm1(-np.exp(y)))])

        start = axis.place(axis.evenly(5))
        found, values = adapted(rows, start, np.array(_TOLERANCES), _MOST_PANELS, axis.grain)
        return axis.time(Panels(found, values[0]).inverse(LOG_HAZARD))

    @cached_property
    def _scales(self) -> tuple[Scale, Scale]:
        return Scale.of(self.step), Scale.of(self.stall)
