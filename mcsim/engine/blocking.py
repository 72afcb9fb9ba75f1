"""How uncertain a mean is whose steps remember each other: batches of 1, 2, 4, ... steps.

The variance of batch means, over their number, is that of the mean once batches are longer than
the memory. Batches of all these lengths are summed on the way, each from two of the one before.
Source: Flyvbjerg & Petersen, "Error estimates on averages of correlated data", Journal of Chemical
Physics 91 (1989).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from mcsim.laws import FloatArray

LEAST_BATCHES = 32
"""With fewer, the variance of their means is too uncertain."""


@dataclass(frozen=True)
class Level:
    """Batch means of one length: their number, mean and squared deviations, shape (columns,)."""

    count: int
    mean: FloatArray
    second: FloatArray

    @classmethod
    def of(cls, batches: FloatArray) -> Level:
        """batches: shape (batches, columns)."""
        if len(batches) == 0:
            return cls(0, np.zeros(batches.shape[1]), np.zeros(batches.shape[1]))
        mean = batches.mean(axis=0)
        return cls(len(batches), mean, ((batches - mean) ** 2).sum(axis=0))

    def joined(self, other: Level) -> Level:
        """Of the batches of both."""
        if other.count == 0 or self.count == 0:
            return self if other.count == 0 else other
        n = self.count + other.count
        d = other.mean - self.mean
        return Level(
            n,
            self.mean + d * (other.count / n),
            self.second + other.second + d**2 * (self.count * other.count / n),
        )


@dataclass(frozen=True)
class Blocking:
    """Batches of every length, from one step on.

    levels: of batches of 1, 2, 4, ... steps. whole: the mean of all steps, where their number is a
    power of two and they are one batch, of the last level; else None.
    """

    levels: tuple[Level, ...]
    whole: FloatArray | None = None

    @classmethod
    def of(cls, values: FloatArray, block: int) -> Blocking:
        """Of the steps of a block, or of the beginning of one. values: shape (steps, columns)."""
        levels, batches = [], values
        for _ in range(block.bit_length()):
            levels.append(Level.of(batches))
            pairs = len(batches) // 2
            batches = 0.5 * (batches[0 : 2 * pairs : 2] + batches[1 : 2 * pairs : 2])
        return cls(tuple(levels), values.mean(axis=0) if len(values) == block else None)

    def joined(self, other: Blocking) -> Blocking:
        """Of these steps and those that follow; two batches that are the halves of one make it."""
        levels = [
            a.joined(b) if a and b else a or b for a, b in zip_longest(self.levels, other.levels)
        ]
        alike = len(self.levels) == len(other.levels)
        if self.whole is None or other.whole is None or not alike:
            return Blocking(tuple(levels))
        whole = 0.5 * (self.whole + other.whole)
        return Blocking((*levels, Level.of(whole[None, :])), whole)

    def inefficiency(self) -> FloatArray:
        """How many times larger the variance of the mean is than that of independent steps.

        Shape (columns,), at least 1. Of the lengths with batches enough, the shortest from which
        on no longer one says significantly more.
        """
        first = self.levels[0]
        if first.count < LEAST_BATCHES:
            return np.ones_like(first.mean)
        enough = [level for level in self.levels if level.count >= LEAST_BATCHES]
        count = np.array([level.count for level in enough], dtype=np.float64)[:, None]
        variance = np.stack([level.second for level in enough]) / (count - 1.0) / count
        margin = variance * (1.0 + 2.0 * np.sqrt(2.0 / (count - 1.0)))
        # The largest of all longer ones, with what chance may have taken from it.
        longer = np.maximum.accumulate(variance[::-1], axis=0)[::-1]
        settled = np.append(longer[1:] <= margin[:-1], np.ones((1, longer.shape[1]), bool), axis=0)
        found = np.take_along_axis(variance, np.argmax(settled, axis=0)[None, :], axis=0)[0]
        return np.where(
            variance[0] > 0,
            np.maximum(found / np.where(variance[0] > 0, variance[0], 1.0), 1.0),
            1.0,
        )
