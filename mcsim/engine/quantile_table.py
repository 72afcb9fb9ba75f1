"""Any law as a table that all lanes read alike, without a branch.

The quantile function is cut into cells by the bits of a float32: the exponent of the nearer
tail's probability, min(s, 1 - s), and 7 bits of its mantissa. So cells are the narrower the
smaller the probability, and both tails keep their digits. In a cell the quantile q is a parabola,

    q + offset = value (1 + a t + b t^2),    -1/2 <= t < 1/2,

where a (19 bits) and b (13) share one word: a lane's time goes into what it gathers, and
arithmetic is nearly free. Measured on one core with AVX-512, from a word in the first-level cache
to a time in it: 0.46 ns a lane. Unpacked the parabola took 0.58, a cubic 0.70; straight lines
0.39, in four times as many cells and with several times the error. An octave is 1 kB: 94 % of all
draws read 8 kB, the whole table is 97.

Every cell is compared with the law when the table is made. One that fails, as the law jumps in
it, has a kink, or is too steep for the rounding of a float32, is *marked*: its value is not a
number, and what falls there must be asked of the law itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mcsim.engine.compile import kernel, lane
from mcsim.engine.philox import Word, Words
from mcsim.laws import FloatArray
from mcsim.model.hazard import Quantiles

ACCURACY = 1e-6
"""Error of a cell that is not marked, relative to |q| + `QuantileTable.scale`."""

UPPER_DEPTH = 65
"""Survival probabilities from 2^-65 are in the table."""
LOWER_DEPTH = 34
"""Complements from 2^-34: a word has none below (1 - 2^-8) 2^-33."""
_MANTISSA_BITS = 7
_CELLS = 1 << _MANTISSA_BITS
# Each octave up to a half, and the half itself in a cell of its own.
_UPPER_CELLS = (UPPER_DEPTH - 1) * _CELLS + 1
_LOWER_CELLS = (LOWER_DEPTH - 1) * _CELLS + 1

_CELL_SHIFT = np.uint32(23 - _MANTISSA_BITS)
_UPPER_FIRST = np.uint32((127 - UPPER_DEPTH) << 23)
_LOWER_FIRST = np.uint32(((127 - LOWER_DEPTH) << 23) - (_UPPER_CELLS << int(_CELL_SHIFT)))
_IN_CELL = np.uint32((1 << int(_CELL_SHIFT)) - 1)

# The place in the cell is t 2^-36, so that times the integer that holds a it is t a: |a| < 2^-5.
# Its bits under the exponent of 2^-29 are 2^-29 (1 + (t + 1/2) / 128).
_EXPONENT = np.uint32((127 - 29) << 23)
_MIDDLE = np.float32(2.0**-29 * (1.0 + 2.0**-8))
_A_UNIT = 2.0**-36
_B_UNIT = 2.0**-22
_B_BITS = 13
_B_SHIFT = np.int32(32 - _B_BITS)
_B_RATIO = np.float32(_B_UNIT / (2.0 ** int(_B_SHIFT) * _A_UNIT**2))

_SMALLEST, _LARGEST = 2.0**-90, 2.0**100
"""Sizes of values; between them no product overflows, or is subnormal, which is slow."""
_ROUNDING = 2.0**-24
_TAIL_ROUNDING = 4.0 * _ROUNDING
"""Of the probability that a lane is given, relatively: see `nearer_tail`."""
_SCALES = (0.0, *(4.0**-k for k in range(7, -1, -1)))
"""What errors may be relative to besides |q|, in sizes of the values: no more than is needed."""
_AT_A_JUMP = 2.0**-21
"""So near to a jump, relatively, a rounded probability may be on its wrong side."""


class Interval(NamedTuple):
    """The survival probabilities between `low` and `high`, of which a word picks one.

    A word v picks low + (high - low) (v + 1/2) / 2^32. In steps of `unit` that is v + `before`
    from 0, and 2^32 - 1 - v + `after` from 1.
    """

    before: np.float32
    after: np.float32
    unit: np.float32

    @classmethod
    def of(cls, low: float, high: float) -> Interval:
        unit = (high - low) * 2.0**-32
        after = 0.5 + (1.0 - high) / unit
        return cls(np.float32(0.5 + low / unit), np.float32(after), np.float32(unit))


class Cells(NamedTuple):
    """What a lane reads: the cells of the upper tail, then those of the lower.

    value: shape (cells,); not a number where the cell is marked. bend: shape (cells,), a and b.
    upper, lower: what is added in the end in each tail, -offset.
    """

    value: NDArray[np.float32]
    bend: NDArray[np.int32]
    upper: np.float32
    lower: np.float32


@lane
def nearer_tail(word: Word, interval: Interval) -> tuple[np.float32, np.bool_]:
    """The probability of the nearer tail for a word, and whether that is the upper one.

    Rounded four times at most, each by 2^-24.
    """
    survival = np.float32(word) + interval.before
    complement = np.float32(np.uint32(~word)) + interval.after
    is_upper = survival < complement
    nearer = survival if is_upper else complement
    return nearer * interval.unit, is_upper


@lane
def quantile_at(tail: np.float32, is_upper: np.bool_, cells: Cells) -> np.float32:
    """The value beyond which `tail` of the probability lies; not a number in a marked cell.

    tail: float32, from 2^-65 (upper) or 2^-34 (lower) to 1/2; others are not in the table.
    """
    first = _UPPER_FIRST if is_upper else _LOWER_FIRST
    offset = cells.upper if is_upper else cells.lower
    bits = np.float32(tail).view(np.uint32)
    cell = np.uint32(bits - first) >> _CELL_SHIFT
    place = np.uint32(np.uint32(bits & _IN_CELL) | _EXPONENT).view(np.float32) - _MIDDLE
    value: np.float32 = cells.value[cell]
    bend = cells.bend[cell]
    # The bits of b count as lower bits of a: the table allows for them.
    a = np.float32(bend)
    b = np.float32(np.int32(bend << _B_SHIFT)) * _B_RATIO
    return value + value * (place * (a + place * b)) + offset


@kernel
def quantiles(words: Words, interval: Interval, cells: Cells, out: NDArray[np.float32]) -> None:
    """Fill `out` with the quantile for each word, not a number where the law itself must say."""
    for l in range(words.size):
        tail, is_upper = nearer_tail(words[l], interval)
        out[l] = quantile_at(tail, is_upper, cells)


@dataclass(frozen=True, eq=False)
class QuantileTable:
    """A law's quantile function, ready for lanes.

    scale: errors are below ACCURACY (|q| + scale). marked: the probability of the marked cells,
    where there is no value.
    """

    cells: Cells
    scale: float
    marked: float

    @classmethod
    def of(cls, law: Quantiles | None, constant: float = 1.0) -> QuantileTable:
        """The table of a law; where there is none, of `constant`.

        Errors are relative to |q| alone unless that marks cells without a jump, since the values
        change sign or the law is steep; then to |q| and as small a share of the usual size of the
        values as possible.
        """
        if law is None:
            value = np.full(_UPPER_CELLS + _LOWER_CELLS, constant, np.float32)
            zero = np.float32(0.0)
            return cls(Cells(value, np.zeros(value.size, np.int32), zero, zero), 0.0, 0.0)
        with np.errstate(all="ignore"):
            samples = _Samples.of(law)
            tables = []
            for share in _SCALES:
                tables.append(samples.table(share * samples.size))
                if tables[-1].marked == samples.marked:
                    break
        return min(tables, key=lambda table: table.marked)


# The edges of a cell, its middle and its quarters: there the error of a parabola is largest where
# the third derivative is constant. Few enough bits for 1 - s to be exact in the lower tail.
_PLACES = np.arange(-2, 3) / 4
_SLOPE = _PLACES / np.sum(_PLACES**2)
_CURVE = (_PLACES**2 - 1 / 8) / np.sum((_PLACES**2 - 1 / 8) ** 2)


class _Grid(NamedTuple):
    """Where laws are sampled: the five places of each cell, its width, and which tail it is of.

    tail: shape (cells, 5), the probability of the nearer tail. The others: shape (cells,).
    """

    tail: FloatArray
    width: FloatArray
    is_upper: NDArray[np.bool_]


@cache
def _grid() -> _Grid:
    tail = np.concatenate([_five_each(_points(UPPER_DEPTH)), _five_each(_points(LOWER_DEPTH))])
    return _Grid(tail, tail[:, 4] - tail[:, 0], np.arange(len(tail)) < _UPPER_CELLS)


def _points(depth: int) -> FloatArray:
    """The places of all cells of a tail, from 2^-depth up; neighbours share one."""
    mantissa = 1.0 + np.arange(4 * _CELLS) / (4 * _CELLS)
    below_half = 2.0 ** np.arange(-depth, -1)[:, None] * mantissa
    return np.concatenate([below_half.ravel(), 0.5 * mantissa[:5]])


def _five_each(points: FloatArray) -> FloatArray:
    return np.lib.stride_tricks.sliding_window_view(points, 5)[::4]


class _Kinks(NamedTuple):
    """Single points: the cell, the probability of its tail, and the quantile; shape (kinks,)."""

    cell: NDArray[np.intp]
    tail: FloatArray
    quantile: FloatArray


@dataclass(frozen=True, eq=False)
class _Samples:
    """What a table must agree with.

    quantile: shape (cells, 5). jumps: shape (cells,), whether the law jumps there or next to it.
    """

    quantile: FloatArray
    jumps: NDArray[np.bool_]
    kinks: _Kinks

    @classmethod
    def of(cls, law: Quantiles) -> _Samples:
        upper, lower = _points(UPPER_DEPTH), _points(LOWER_DEPTH)
        found = law.quantile(np.concatenate([upper, 1.0 - lower]))
        quantile = [_five_each(found[: upper.size]), _five_each(found[upper.size :])]
        jumps = np.zeros(_UPPER_CELLS + _LOWER_CELLS, np.bool_)
        kinks = [_look_at_levels(law, is_upper, jumps) for is_upper in (True, False)]
        together = _Kinks(*map(np.concatenate, zip(*kinks, strict=True)))
        return cls(np.concatenate(quantile), jumps, together)

    @property
    def size(self) -> float:
        """The mean size of the values, weighted by size, without the outermost 2^-12."""
        grid = _grid()
        usual = (grid.tail[:, 0] >= 2.0**-12) & (grid.tail[:, 0] < 0.5)
        size = np.abs(self.quantile[usual, 2])
        mean = float(grid.width[usual] @ size)
        return float(grid.width[usual] @ size**2) / mean if mean > 0.0 else 0.0

    @property
    def marked(self) -> float:
        """The probability of the cells that no table can hold."""
        return _probability(self.jumps)

    def table(self, scale: float) -> QuantileTable:
        """The table whose errors are relative to |q| + scale."""
        # Moved away from the median on both sides, so far that no value is below the scale.
        median = float(self.quantile[_UPPER_CELLS - 1, 0]) if scale > 0.0 else 0.0
        upper, lower = np.float32(median - scale), np.float32(median + scale)
        added = np.where(_grid().is_upper, np.float64(upper), np.float64(lower))
        value, bend = _fit(self.quantile - added[:, None])

        def holds(cell: NDArray[np.intp], tail: FloatArray, q: FloatArray) -> NDArray[np.bool_]:
            width, size = _grid().width[cell], np.abs(value[cell].astype(np.float64))
            t = (tail - _grid().tail[cell, 0]) / width - 0.5
            a, b = _unpacked(bend[cell])
            found = value[cell] * (1.0 + t * (a + t * b)) + added[cell]
            from_tail = size * (np.abs(a) + np.abs(b)) * tail / width * _TAIL_ROUNDING
            from_result = (1.25 * size + np.abs(q)) * _ROUNDING
            error = np.abs(found - q) + from_tail + from_result
            fits = ((size >= _SMALLEST) & (size <= _LARGEST)) | (size == 0.0)
            return np.asarray(fits & (error <= ACCURACY * (np.abs(q) + scale)))

        every = np.arange(value.size)[:, None]
        marked = self.jumps | ~holds(every, _grid().tail, self.quantile).all(axis=1)
        marked[self.kinks.cell[~holds(*self.kinks)]] = True
        value[marked], bend[marked] = np.nan, 0
        return QuantileTable(Cells(value, bend, upper, lower), scale, _probability(marked))


def _look_at_levels(law: Quantiles, is_upper: bool, jumps: NDArray[np.bool_]) -> _Kinks:
    """The law at its jumps and kinks in a tail: fills `jumps`, and returns the kinks."""
    least, end = 2.0 ** -(UPPER_DEPTH if is_upper else LOWER_DEPTH), 0.5 * (1.0 + 1.0 / _CELLS)

    def quantile(tail: FloatArray) -> FloatArray:
        return law.quantile(tail if is_upper else 1.0 - tail)

    tail = law.jumps() if is_upper else 1.0 - law.jumps()
    tail = tail[(tail >= least) & (tail < end)]
    # In the lower tail a distance that 1 - tail can show.
    step = np.maximum(tail * 2.0**-30, 0.0 if is_upper else 2.0**-51)
    at = quantile(tail)
    jump = np.abs(quantile(tail - step) - quantile(tail + step)) > 0.25 * ACCURACY * np.abs(at)
    for factor in (1.0 - _AT_A_JUMP, 1.0, 1.0 + _AT_A_JUMP):
        around = tail[jump] * factor
        jumps[_cell_of(around[(around >= least) & (around < end)], is_upper)] = True
    smooth = tail[~jump]
    return _Kinks(_cell_of(smooth, is_upper), smooth, at[~jump])


def _cell_of(tail: FloatArray, is_upper: bool) -> NDArray[np.intp]:
    bits = tail.astype(np.float32).view(np.uint32)
    cell = (bits - (_UPPER_FIRST if is_upper else _LOWER_FIRST)) >> _CELL_SHIFT
    return cell.astype(np.intp)


def _probability(marked: NDArray[np.bool_]) -> float:
    """Of some cells; what those of 1/2 have beyond it belongs to the other tail."""
    grid = _grid()
    return float(grid.width[marked & (grid.tail[:, 0] < 0.5)].sum())


def _fit(height: FloatArray) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """value and bend of the cells whose parabolas have these heights, shape (cells, 5).

    By least squares; b is rounded first, then a, and the value is the best for these two.
    """
    slope, curve = height @ _SLOPE, height @ _CURVE
    middle = height.mean(axis=1) - curve / 8
    b = np.rint(np.nan_to_num(curve / middle) / _B_UNIT)
    b = np.clip(b, -(2 ** (_B_BITS - 1)), 2 ** (_B_BITS - 1) - 1).astype(np.int64)
    low = b & (2**_B_BITS - 1)
    a = np.rint((np.nan_to_num(slope / middle) / _A_UNIT - low) / 2**_B_BITS)
    most = 2 ** (31 - _B_BITS)
    bend = np.clip(a, -most, most - 1).astype(np.int64) * 2**_B_BITS + low
    packed = bend.astype(np.int32)
    a, b = (x[:, None] for x in _unpacked(packed))
    value = height / (1.0 + _PLACES * (a + _PLACES * b))
    return (0.5 * (value.min(axis=1) + value.max(axis=1))).astype(np.float32), packed


def _unpacked(bend: NDArray[np.int32]) -> tuple[FloatArray, FloatArray]:
    """a and b, as a lane finds them."""
    low = bend << _B_SHIFT >> _B_SHIFT
    return bend.astype(np.float64) * _A_UNIT, low.astype(np.float64) * _B_UNIT
