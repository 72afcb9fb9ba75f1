"""Counting values in bins that need no range: the bits of a double are its bin.

The leading bits of a double (sign, exponent, twelve bits of the mantissa) number bins in the order
of the values, 4096 to an octave, so a bin is at most 0.025 % wide. Counts of parts add up to the
counts of the whole, whatever the parts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mcsim.laws import FloatArray

FINEST = 12
"""Bits of the mantissa that number a bin."""

COARSEST = 8
"""Bits of the mantissa of the widest bins in use: 0.4 %."""

SMALLEST = 2.0**-40
"""Values nearer to zero (1e-12 s) count as zero, or the bins between -1 and 1 would be millions."""

Counts = NDArray[np.int64]


def bin_of(value: FloatArray) -> Counts:
    """The number of the bin of each value; any shape. Bin 0 holds zero."""
    # Bins of the numbers below SMALLEST are skipped, so that those around zero are neighbours.
    size = _lattice(np.abs(value), FINEST) - _skipped(FINEST) + 1
    return np.asarray(np.where(value < 0, -1, 1) * np.maximum(size, 0))


def coarser(number: Counts, bits: int) -> Counts:
    """The numbers of the wider bins, of fewer bits of the mantissa, that hold some bins."""
    return np.asarray(np.sign(number) * (((np.abs(number) - 1) >> (FINEST - bits)) + 1))


def edges_of(number: Counts, bits: int = FINEST) -> tuple[FloatArray, FloatArray]:
    """The lower and upper edge of bins, as `bin_of` and `coarser` number them."""
    size = np.abs(number) + _skipped(bits)
    near = np.where(number != 0, ((size - 1) << (52 - bits)).view(np.float64), 0.0)
    far = (size << (52 - bits)).view(np.float64)
    return np.where(number > 0, near, -far), np.where(number < 0, -near, far)


def _lattice(value: FloatArray, bits: int) -> Counts:
    return np.asarray(value.view(np.int64) >> (52 - bits))


def _skipped(bits: int) -> int:
    return int(_lattice(np.array([SMALLEST]), bits)[0])


@dataclass(frozen=True)
class Histogram:
    """How often values fell into the bins in use. number: increasing; counts: of each bin."""

    number: Counts
    counts: Counts

    @classmethod
    def of(cls, value: FloatArray) -> Histogram:
        """The counts of some values, shape (n,)."""
        number, counts = np.unique(bin_of(value), return_counts=True)
        return cls(number, counts)

    def joined(self, other: Histogram) -> Histogram:
        """The counts of the values of both."""
        number, place = np.unique(np.concatenate([self.number, other.number]), return_inverse=True)
        counts = np.zeros(number.size, np.int64)
        np.add.at(counts, place, np.concatenate([self.counts, other.counts]))
        return Histogram(number, counts)


def quantile_of(
    counts: Counts, lower: FloatArray, upper: FloatArray, probability: FloatArray
) -> FloatArray:
    """Quantiles of counted values, linear inside each bin and never between two bins.

    counts, lower, upper: of bins in increasing order. probability: in [0, 1], any shape.
    """
    inside = np.flatnonzero(counts)
    after = np.cumsum(counts[inside])
    level = np.column_stack([after - counts[inside], after]).ravel() / after[-1]
    edges = np.column_stack([lower[inside], upper[inside]]).ravel()
    return np.asarray(np.interp(probability, level, edges))
