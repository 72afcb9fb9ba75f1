"""Counting values in bins that need no range: the bits of a double are its bin.

The leading bits of a double (sign, exponent, twelve bits of the mantissa) number bins in the order
of the values, 4096 to an octave, so a bin is at most 0.025 % wide. Counts of parts add up to the
counts of the whole, whatever the parts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mcsim.laws import FloatArray

_SHIFT = 52 - 12
SMALLEST = 2.0**-40
"""Values nearer to zero (1e-12 s) count as zero, or the bins between -1 and 1 would be millions."""


def bin_of(value: FloatArray) -> NDArray[np.int64]:
    """The number of the bin of each value; any shape. Bin 0 holds zero."""
    # Bins of the numbers below SMALLEST are skipped, so that those around zero are neighbours.
    skipped = np.float64(SMALLEST).view(np.int64) >> _SHIFT
    size = (np.abs(value).view(np.int64) >> _SHIFT) - skipped + 1
    return np.asarray(np.where(value < 0, -1, 1) * np.maximum(size, 0))


def edges_of(bin_number: NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
    """The lower and upper edge of bins, as `bin_of` numbers them."""
    skipped = np.float64(SMALLEST).view(np.int64) >> _SHIFT
    size = np.abs(bin_number)
    near = np.where(size > 0, ((size - 1 + skipped) << _SHIFT).view(np.float64), 0.0)
    far = ((size + skipped) << _SHIFT).view(np.float64)
    lower = np.where(bin_number > 0, near, -far)
    upper = np.where(bin_number < 0, -near, far)
    return lower, upper


class Histogram:
    """Counts by bin, in one array that grows over the bins in use."""

    def __init__(self) -> None:
        self.first = 0
        self.counts = np.zeros(0, np.int64)

    def add(self, value: FloatArray) -> None:
        """Count some values, shape (n,)."""
        number = bin_of(value)
        low, high = int(number.min()), int(number.max()) + 1
        if self.counts.size:
            low, high = min(low, self.first), max(high, self.first + self.counts.size)
        grown = np.zeros(high - low, np.int64)
        grown[self.first - low :][: self.counts.size] = self.counts
        grown += np.bincount(number - low, minlength=high - low)
        self.first, self.counts = low, grown
