"""A law by its curve: what is known only as a function of time, made a quantile function."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mcsim.laws import Constant, FloatArray
from mcsim.model.curve import Curve
from mcsim.model.panels import EPS, Function, Panels, adapted
from mcsim.model.span import Axis, span

_TOLERANCES = 1e-5, 2e-7
"""Of the log hazard, and of the log survival."""
_MOST_PANELS = 512
_CUBICS = 2**14
_LEAST_PARTS = 32


@dataclass(frozen=True, eq=False)
class CurveLaw:
    """A law whose log hazard is a curve; single values with a probability are steep parts of it.

    atoms: such values, and other places where the curve is not smooth, s.
    """

    curve: Curve
    atoms: FloatArray

    def quantile(self, survival: FloatArray) -> FloatArray:
        with np.errstate(divide="ignore"):
            y = np.log(-np.log1p(-survival))
        level, per_level, start, slope, square, cube = self._cubics
        cell = np.maximum(np.searchsorted(level, -y, side="right") - 1, 0)
        u = np.clip((-y - level.take(cell)) * per_level.take(cell), 0.0, 1.0)
        found = cube.take(cell)
        for coefficient in (square, slope, start):
            found *= u
            found += coefficient.take(cell)
        return np.asarray(found)

    def hazard(self, x: FloatArray) -> FloatArray:
        """-log P(X <= x); any shape."""
        return np.exp(self.curve.log_hazard(x.ravel())).reshape(x.shape)

    def survival(self, x: FloatArray) -> FloatArray:
        return np.asarray(-np.expm1(-self.hazard(x)))

    def distribution(self, x: FloatArray) -> FloatArray:
        return np.exp(-self.hazard(x))

    @cached_property
    def _cubics(self) -> FloatArray:
        """The time as a function of -log H by cubics: where each begins, the inverse of its width,
        and the coefficients of the powers of the way through it, s; shape (6, cubics).

        Quadratures ask for many values: 0.1 us each, 1.5 us by the polynomials.
        """
        y, axis = self.curve.y, self.curve.axis
        panels = y.edges.size - 1
        parts = max(_LEAST_PARTS, _CUBICS // panels)
        place = y.edges[:-1, None] + np.diff(y.edges)[:, None] * np.linspace(0.0, 1.0, parts + 1)
        place[:, -1] = y.edges[1:]
        panel = np.repeat(np.arange(panels), parts + 1)
        level = np.minimum.accumulate(y(place.ravel(), panel)).reshape(place.shape)
        time = axis.time(place)
        fall, rise = -np.diff(level).ravel(), np.diff(time).ravel()
        steep = np.abs(np.minimum(y.slope(place.ravel(), panel), 0.0)).reshape(place.shape)
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = (time if axis.logarithmic else 1.0) / steep
            # Never falling, even where rounding is all that is left (Fritsch and Carlson 1980).
            first, last = (
                np.nan_to_num(np.minimum(end.ravel() * fall, 3.0 * rise))
                for end in (slope[:, :-1], slope[:, 1:])
            )
            per_level = np.where(fall > 0.0, 1.0 / fall, 0.0)
        start = time[:, :-1].ravel()
        square, cube = 3.0 * rise - 2.0 * first - last, first + last - 2.0 * rise
        return np.stack([-level[:, :-1].ravel(), per_level, start, first, square, cube])

    def jumps(self) -> FloatArray:
        around = np.concatenate([self.atoms, np.nextafter(self.atoms, -np.inf)])
        return self.survival(around)

    def knots(self) -> FloatArray:
        return self.atoms


def law_of(
    log_hazard: Function,
    low: float,
    high: float,
    levels: tuple[float, float],
    atoms: FloatArray,
) -> CurveLaw | Constant:
    """The law of a log hazard, -inf where nothing is left.

    log_hazard: of times of shape (n,). levels: of it, the first and the last that matter. low: s,
    where it is surely above the first; high: where it may be below the last. atoms: s, where it
    jumps or has a kink.
    """
    low, high = span(log_hazard, low, high, levels)
    axis = Axis(low, high)
    atoms = np.unique(atoms[(atoms >= low) & (atoms <= high)])
    if high <= np.nextafter(low, np.inf) or log_hazard(np.array([low]))[0] == -np.inf:
        return Constant(high)

    def rows(place: FloatArray) -> FloatArray:
        y = log_hazard(axis.time(place))
        return np.stack([y, np.log(-np.expm1(-np.exp(y)))])

    edges = np.concatenate([np.nextafter(atoms, -np.inf), atoms])
    edges = axis.place(np.concatenate([edges[(edges > low) & (edges < high)], axis.evenly(9)]))
    edges = np.unique(edges)
    apart = np.diff(edges) > 4.0 * axis.grain(edges[1:])
    apart[-1] = True
    edges = np.append(edges[:-1][apart], edges[-1])
    found, values = adapted(rows, edges, np.array(_TOLERANCES), _MOST_PANELS, axis.grain)
    y = Panels(found, values[0])
    ended = bool(values[0][-1, -1] > levels[1])
    beyond = 0.0 if ended else _beyond(y, axis)
    return CurveLaw(Curve(y, axis, ended, beyond), atoms)


def _beyond(y: Panels, axis: Axis) -> float:
    """The mean excess over the last time, as if the tail went on as a power, or exponentially."""
    end = y.edges[-1:]
    slope = float(y.slope(end)[0])
    survival = float(np.exp(y(end)[0]))
    if not axis.logarithmic:
        return survival / max(-slope, EPS)
    return axis.high * survival / max(-slope - 1.0, EPS)
