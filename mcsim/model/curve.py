"""The hazard of the last arrival as a function of time, followed by polynomials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mcsim.laws import FloatArray
from mcsim.model.arrival import NotExact
from mcsim.model.crowd import (
    BLUR,
    DEEP,
    FIRST,
    LAST,
    TOLERANCE,
    Group,
    deviation,
    ends,
    hazards,
    log_hazard,
)
from mcsim.model.panels import POINTS, Panels, adapted
from mcsim.model.span import Axis

_TOLERANCES = 1e-5, 1e-6, 1e-7
"""Of log H where it is deep, and elsewhere; of the distribution function."""
_LOG_DEEP = float(np.log(DEEP))
_SHARE_TOLERANCE = 1e-6
_ENOUGH = 3e-7
_MOST_PANELS = 1024
_MOST_BASES = 400
_MOST_EVALUATIONS = 60_000_000
_CHECKED = 257
_SMALL = 4096
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
            # A hazard that no longer falls where it is least has come to a sharp end.
            slope = self.y.slope(place[late])
            falls = (slope < 0.0) & (not self.ended)
            y[late] = np.where(falls, y[late] + np.where(falls, slope, 0.0) * further, -np.inf)
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
        time, survival, width = self._cells(self.axis.low, center)
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

    def _cells(
        self, start: float, center: float | None = None
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Times from `start` on, the survival, and the weights of a quadrature over time, s.

        center: a time at which what is integrated jumps, s.
        """
        ends = np.array([start, start if center is None else center])
        first, other = self.axis.place(np.clip(ends, self.axis.low, self.axis.high))
        edges = self.y.inverse(np.arange(FIRST, LAST, 0.5))
        edges = np.unique(np.concatenate([edges, self.y.edges, [first, other]]))
        edges = edges[edges >= first]
        half = 0.5 * np.diff(edges)[:, None]
        place = (edges[:-1, None] + half * (1.0 + _NODES)).ravel()
        time = self.axis.time(place)
        weight = (half * _WEIGHTS).ravel()
        survival = -np.expm1(-np.exp(self.y(place)))
        return time, survival, weight * time if self.axis.logarithmic else weight


class Followed(NamedTuple):
    """The curve; over its axis for each group its share of H and its excess by H, s; how far the
    distribution function is off, and by how much it changes from one double to the next."""

    curve: Curve
    share: list[Panels]
    excess: list[Panels]
    deviation: float
    blur: float


def followed(groups: Sequence[Group]) -> Followed:
    """Polynomials through log H and what belongs to it. Raises NotExact."""
    axis = Axis(*ends(groups))
    nodes = sum(group.nodes.value.size for group in groups)
    most = min(_MOST_EVALUATIONS // (2 * POINTS.size * nodes), _MOST_PANELS)
    found = _followed(groups, axis, most, 1.0)
    # The last coefficients say too little of what is left where a kink is within a panel.
    if found.deviation > _ENOUGH and 2 * found.curve.y.edges.size < most:
        finer = _followed(groups, axis, most, 0.1)
        found = min(found, finer, key=lambda one: one.deviation)
    if found.blur > TOLERANCE:
        raise NotExact(
            "its times are so close together that doubles cannot tell them apart: from one to the"
            f" next, the distribution function changes by {found.blur:.1e}"
        )
    return found


def _followed(groups: Sequence[Group], axis: Axis, most: int, tolerance: float) -> Followed:
    def rows(place: FloatArray) -> FloatArray:
        own = hazards(groups, axis.time(place))
        total = own.sum(axis=0)
        y = np.log(total)
        if not np.isfinite(y).all():
            raise NotExact("its law has gaps in its distribution function, or no number there")
        return np.concatenate([[y, np.logaddexp(y, _LOG_DEEP), np.exp(-total)], own[:-1] / total])

    start = axis.place(np.concatenate([[axis.low], _breaks(groups, axis, most // 3), [axis.high]]))
    if start.size == 2:
        start = np.linspace(start[0], start[1], 5)
    own = np.append(_TOLERANCES, np.full(len(groups) - 1, _SHARE_TOLERANCE))
    edges, values = adapted(rows, start, tolerance * own, most, axis.grain)
    y = Panels(edges, values[0])
    share = [*values[3:], 1.0 - values[3:].sum(axis=0)]
    time = axis.time(y.places.ravel())
    total = np.exp(values[0].ravel())
    lost = [group.excess(time) for group in groups]
    ended = bool(values[0][-1, -1] > FIRST)
    beyond = 0.0
    if not ended:
        last = hazards(groups, time[-1:])[:, 0]
        beyond = sum(
            float(k[-1] - (axis.high - group.mean()) * h)
            for k, h, group in zip(lost, last, groups, strict=True)
        )
    curve = Curve(y, axis, ended, max(beyond, 0.0))
    return Followed(
        curve,
        [Panels(edges, one) for one in share],
        [Panels(edges, (one / total).reshape(y.values.shape)) for one in lost],
        *_off(groups, curve),
    )


def _off(groups: Sequence[Group], curve: Curve) -> tuple[float, float]:
    """How far the polynomials are off, as `deviation`, at places that they were not made from; and
    how far the distribution function is at most from one double of time to the next."""
    time = curve.time(np.linspace(LAST, FIRST, _CHECKED))
    place = curve.axis.place(time)
    true = log_hazard(groups, time)
    error = curve.y(place) - true
    grain = curve.axis.grain(place) * np.abs(curve.y.slope(place))
    # What the nearest doubles of a time do to log H is not an error of the polynomials.
    error = np.sign(error) * np.maximum(np.abs(error) - BLUR * grain, 0.0)
    hazard = np.exp(true)
    blur = float((np.exp(-hazard) * hazard * np.minimum(grain, 1.0)).max())
    if curve.ended:
        # What is left at the last time falls to nothing by the next double.
        blur = max(blur, float(-np.expm1(-np.exp(curve.y.values[-1, -1]))))
    return deviation(np.exp(true + error), hazard), blur


def _breaks(groups: Sequence[Group], axis: Axis, most: int) -> FloatArray:
    """The times at which H has the sharpest kinks, if they matter, ascending, s."""
    some = axis.evenly(_CHECKED)
    total = np.minimum.accumulate(log_hazard(groups, some))
    found, bend = [np.empty(0)], [np.empty(0)]
    for group in groups:
        base, weight = (x[-_MOST_BASES:] for x in group.bases)
        time = group.arrival.breaks(base)
        inside = (time > axis.low) & (time < axis.high)
        own = (weight[:, None] * _bend(group, axis))[inside]
        found.append(time[inside])
        bend.append(own / (np.exp(np.interp(time[inside], some, total)) + DEEP))
    time, strength = np.concatenate(found), np.concatenate(bend)
    order = np.argsort(-strength, kind="stable")[:most]
    return np.unique(time[order[strength[order] > _BENT]])


def _bend(group: Group, axis: Axis) -> FloatArray:
    """By how much the hazard of the slowest device bends at its breaks, on a small scale."""
    base = group.bases.value[-1:]
    time = group.arrival.breaks(base)[0]
    length = axis.place(np.array([axis.low, axis.high]))
    step = (length[1] - length[0]) / _SMALL * (time if axis.logarithmic else 1.0)
    before, here, after = (
        np.minimum(group.arrival.hazard(t[:, None], base)[:, 0], 1e3)
        for t in (time - step, time, time + step)
    )
    return np.abs(before - 2.0 * here + after)
