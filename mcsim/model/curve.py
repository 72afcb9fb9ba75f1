"""The hazard of the last arrival as a function of time, followed by polynomials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mcsim.laws import FloatArray
from mcsim.model.crowd import FIRST, LAST, Group, ends, hazards, log_hazard
from mcsim.model.panels import Panels, adapted
from mcsim.model.span import Axis

_TOLERANCE = 1e-7
"""Of log H and of the groups' shares."""
_MOST_PANELS = 1024
_MOST_BREAKS = 400
_LOOKED_AT = 2000
_BENT = 1e-5
"""Kinks that change H by less of itself, on the scale of a thousandth of all, do not matter."""
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(12)


@dataclass(frozen=True, eq=False)
class Curve:
    """y = log H over time.

    ended: whether no time is later than the last. beyond: s, the mean excess over the last time.
    """

    y: Panels
    axis: Axis
    ended: bool
    beyond: float

    def time(self, y: FloatArray) -> FloatArray:
        """The time at which log H is y, s; one of the ends where it is never."""
        return self.axis.time(self.y.inverse(y))

    def log_hazard(self, time: FloatArray) -> FloatArray:
        """log H at times of shape (n,); beyond the ends it goes on as it came."""
        place = self.axis.place(np.clip(time, self.axis.low, self.axis.high))
        y = self.y(place)
        late = time > self.axis.high
        if late.any():
            further = self.axis.place(time[late]) - place[late]
            y[late] = -np.inf if self.ended else y[late] + self.y.slope(place[late]) * further
        return np.where(time < self.axis.low, np.inf, y)

    def density(self, time: FloatArray) -> FloatArray:
        """-d P(T > t) / dt at times of shape (n,), 1/s."""
        place = self.axis.place(np.clip(time, self.axis.low, self.axis.high))
        hazard = np.exp(self.y(place))
        rate = -self.y.slope(place) * hazard * np.exp(-hazard)
        if self.axis.logarithmic:
            rate /= self.axis.time(place)
        inside = (time >= self.axis.low) & (time <= self.axis.high)
        return np.where(inside, np.maximum(rate, 0.0), 0.0)

    def mean_above(self, floor: float) -> float:
        """E[max(T, floor)], s."""
        start = max(floor, self.axis.low)
        if start >= self.axis.high:
            return start
        _, survival, width = self._cells(start)
        return float(start + survival @ width + self.beyond)

    def spread(self, center: float) -> float:
        """E[(T - center)^2], s^2, where it is finite."""
        time, survival, width = self._cells(self.axis.low)
        late = np.where(time > center, survival, survival - 1.0)
        inside = 2.0 * float(((time - center) * late) @ width)
        if self.axis.logarithmic and not self.ended:
            end = self.y.edges[-1:]
            alpha = -float(self.y.slope(end)[0])
            if alpha > 2.0:
                high = self.axis.high
                rest = high * high * float(np.exp(self.y(end)[0])) / (alpha - 2.0)
                inside += 2.0 * (rest - center * self.beyond)
        return inside

    def _cells(self, start: float) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Times from `start` on, the survival, and the weights of a quadrature over time, s."""
        edges = self.y.inverse(np.arange(FIRST, LAST, 0.5))
        first = float(self.axis.place(np.array([start]))[0])
        edges = np.union1d(edges, np.append(self.y.edges, first))
        edges = edges[edges >= first]
        half = 0.5 * np.diff(edges)[:, None]
        place = (edges[:-1, None] + half * (1.0 + _NODES)).ravel()
        time = self.axis.time(place)
        weight = (half * _WEIGHTS).ravel()
        survival = -np.expm1(-np.exp(self.y(place)))
        return time, survival, weight * time if self.axis.logarithmic else weight


class Followed(NamedTuple):
    """The curve, and over its axis for each group its share of H and its excess by H, s."""

    curve: Curve
    share: list[Panels]
    excess: list[Panels]


def followed(groups: Sequence[Group]) -> Followed:
    """Polynomials through log H and what belongs to it."""
    low, high = ends(groups)
    axis = Axis(low, high)

    def rows(place: FloatArray) -> FloatArray:
        own = hazards(groups, axis.time(place))
        total = own.sum(axis=0)
        return np.concatenate([np.log(total)[None], own[:-1] / total])

    start = axis.place(np.concatenate([[low], _breaks(groups, low, high), [high]]))
    if start.size == 2:
        start = np.linspace(start[0], start[1], 5)
    tolerance = np.full(len(groups), _TOLERANCE)
    edges, values = adapted(rows, start, tolerance, _MOST_PANELS, axis.grain)
    y = Panels(edges, values[0])
    share = [*values[1:], 1.0 - values[1:].sum(axis=0)]
    time = axis.time(y.places.ravel())
    total = np.exp(values[0].ravel())
    lost = [group.excess(time) for group in groups]
    ended = bool(values[0][-1, -1] > FIRST)
    beyond = 0.0
    if not ended:
        last = hazards(groups, time[-1:])[:, 0]
        beyond = sum(
            float(k[-1] - (high - group.mean()) * h)
            for k, h, group in zip(lost, last, groups, strict=True)
        )
    return Followed(
        Curve(y, axis, ended, max(beyond, 0.0)),
        [Panels(edges, one) for one in share],
        [Panels(edges, (one / total).reshape(y.values.shape)) for one in lost],
    )


def _breaks(groups: Sequence[Group], low: float, high: float) -> FloatArray:
    """Times at which H has kinks that matter, ascending, s."""
    found, bend = [np.empty(0)], [np.empty(0)]
    for group in groups:
        each = max(group.arrival.breaks(group.bases.value[-1:]).size, 1)
        most = min(_MOST_BREAKS, max(_LOOKED_AT // each, 1))
        time = group.arrival.breaks(group.bases.value[-most:])
        base, weight = (x[-most:, None] + 0.0 * time for x in group.bases)
        inside = (time > low) & (time < high)
        if not inside.any():
            continue
        time, base, weight = time[inside], base[inside], weight[inside]
        step = time * np.log(high / low) / 4096 if low > 0 else (high - low) / 4096
        before, here, after = (
            np.minimum(group.arrival.hazard(t[None], base)[0], 1e3)
            for t in (time - step, time, time + step)
        )
        found.append(time)
        bend.append(weight * np.abs(before - 2.0 * here + after))
    time, strength = np.concatenate(found), np.concatenate(bend)
    if time.size:
        strength /= np.exp(np.maximum(log_hazard(groups, time), -700.0))
    order = np.argsort(-strength, kind="stable")[:_MOST_BREAKS]
    return np.unique(time[order[strength[order] > _BENT]])
