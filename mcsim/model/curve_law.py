"""A law by its curve: what is known only as a function of time, made a quantile function."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mcsim.laws import Constant, FloatArray
from mcsim.model.crowd import FIRST, LAST
from mcsim.model.curve import Curve
from mcsim.model.panels import EPS, Function, Panels, adapted
from mcsim.model.span import Axis, span

_TOLERANCES = 1e-5, 2e-7
"""Of the log hazard, and of the log survival."""
_MOST_PANELS = 512


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
        return np.interp(y, self._level, self._time)

    def hazard(self, x: FloatArray) -> FloatArray:
        """-log P(X <= x); any shape."""
        return np.exp(self.curve.log_hazard(x.ravel())).reshape(x.shape)

    def survival(self, x: FloatArray) -> FloatArray:
        return np.asarray(-np.expm1(-self.hazard(x)))

    def distribution(self, x: FloatArray) -> FloatArray:
        return np.exp(-self.hazard(x))

    @cached_property
    def _level(self) -> FloatArray:
        # Quadratures ask for many values: 40 ns each, 1.5 us by the polynomials. Between points
        # 0.003 apart a straight line is off by a millionth of the spread of the law.
        return np.linspace(FIRST, LAST, 2**14)

    @cached_property
    def _time(self) -> FloatArray:
        return self.curve.time(self._level)

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
