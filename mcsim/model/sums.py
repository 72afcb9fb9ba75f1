"""When one device arrives whose stall varies as well as its step: base * C + D.

Mixtures are taken apart, since probabilities of their parts add up. Where both parts are
continuous, the quantile function of the sum is tabulated by quadrature at some base times, and
interpolated between these: at the same probability it is next to linear in the base time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import ClassVar, NamedTuple

import numpy as np
from scipy.interpolate import CubicSpline

from mcsim.laws import FloatArray, Law, Mixture
from mcsim.model.arrival import (
    LEAST,
    MOST,
    Arrival,
    Indices,
    Scaled,
    Shifted,
    constant_value,
    end_of,
    is_constant,
)
from mcsim.model.columns import LOG_HAZARD, Columns, derivative
from mcsim.model.convolution import Scale, hazard_of_sum
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


@lru_cache(maxsize=32)
def sum_of(step: Law, stall: Law) -> Arrival:
    """base * C + D, where neither is constant and at most one has atoms."""
    parts: list[tuple[float, Arrival]] = []
    for weight, c in _parts(step):
        for share, d in _parts(stall):
            if is_constant(d):
                own: Arrival = Scaled(c, constant_value(d, 0.0))
            elif is_constant(c):
                own = Shifted(d, constant_value(c, 1.0))
            else:
                own = Tabulated(c, d)
            parts.append((weight * share, own))
    return parts[0][1] if len(parts) == 1 else Either(tuple(parts))


def _parts(law: Law) -> list[tuple[float, Law]]:
    if not isinstance(law, Mixture):
        return [(1.0, law)]
    total = sum(part.weight for part in law.parts)
    return [
        (part.weight / total * weight, one)
        for part in law.parts
        for weight, one in _parts(part.law)
    ]


@dataclass(frozen=True)
class Either:
    """Now one law, now another, by weight."""

    parts: tuple[tuple[float, Arrival], ...]
    scaled: ClassVar[bool] = True

    def hazard(self, time: FloatArray, base: FloatArray) -> FloatArray:
        survival, distribution = np.zeros((2, *np.broadcast(time, base).shape))
        for weight, part in self.parts:
            hazard = part.hazard(time, base)
            survival -= weight * np.expm1(-hazard)
            distribution += weight * np.exp(-hazard)
        with np.errstate(divide="ignore"):
            upper = -np.log1p(-np.minimum(survival, 0.6))
            return np.asarray(np.where(survival > 0.5, -np.log(distribution), upper))

    def excess(self, time: FloatArray, base: FloatArray) -> FloatArray:
        mean = self.mean(base)
        above, below, late, ready = np.zeros((4, *np.broadcast(time, base).shape))
        for weight, part in self.parts:
            hazard, lost, own = part.hazard(time, base), part.excess(time, base), part.mean(base)
            is_late, is_ready = -weight * np.expm1(-hazard), weight * np.exp(-hazard)
            above += lost * is_ready + (own - mean) * is_late
            below += (own - lost) * is_ready
            late += is_late
            ready += is_ready
        safe = np.where(ready > 0.0, ready, 1.0)
        early = np.where(ready > 0.0, mean - below / safe, mean - time)
        return np.where(late < 0.5, above / safe, early)

    def quantile(self, survival: FloatArray, base: FloatArray) -> FloatArray:
        every = np.stack([part.quantile(survival, base) for _, part in self.parts])
        return np.where(survival < 0.5, every.max(axis=0), every.min(axis=0))

    def mean(self, base: FloatArray) -> FloatArray:
        return np.asarray(np.sum([w * part.mean(base) for w, part in self.parts], axis=0))

    def breaks(self, base: FloatArray) -> FloatArray:
        return np.concatenate([part.breaks(base) for _, part in self.parts], axis=1)

    def last(self, base: FloatArray) -> FloatArray:
        every = np.stack([part.last(base) for _, part in self.parts])
        return np.asarray(every.max(axis=0), np.float64)

    @property
    def is_smooth(self) -> bool:
        return self.breaks(np.ones(1)).size <= 1

    def deviation(self) -> float:
        return max(part.deviation() for _, part in self.parts)


class Range(NamedTuple):
    """Quantiles of the sum over a range of base times.

    base: shape (bases,), s. time: shape (bases, points), s. deviation: of the distribution
    function of one device (or a tenth of the relative one of its tail) between the base times.
    """

    base: FloatArray
    time: FloatArray
    deviation: float

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
                self._ranges[key] = self._range(one * width, width)
            found = self._ranges[key]
            if found.deviation > _ENOUGH and width > _NARROWEST:
                self._ranges[key] = found._replace(deviation=0.0)
                self._fill(time, place, here, 0.5 * width)
            time[here] = found.at(np.exp(place[here]))

    def _range(self, start: float, width: float) -> Range:
        base = np.exp(start + width * _CHEBYSHEV)
        found = Range(base, np.stack([self._column(float(one)) for one in base]), 0.0)
        # Half way between two of the base times, in the middle.
        middle = np.exp(np.array([start + 0.5 * width]))
        true = self._column(float(middle[0]))
        error = np.abs(found.at(middle)[0] - true) / np.maximum(-derivative(true[None])[0], 1e-300)
        hazard = np.exp(LOG_HAZARD)
        weight = np.maximum(hazard * np.exp(-hazard), np.where(hazard < 1.0, 0.1, 0.0))
        steady = true[1:] < true[:-1]
        return found._replace(deviation=float((error * weight)[1:][steady].max(initial=0.0)))

    def _column(self, base: float) -> FloatArray:
        """Times at LOG_HAZARD for a base time."""
        step, stall = self._scales

        def log_hazard(time: FloatArray) -> FloatArray:
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
