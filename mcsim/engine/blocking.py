"""How uncertain a mean is whose steps remember each other: batches of 1, 2, 4, ... steps.

The variance of batch means, over their number, is that of the mean once batches are longer than
the memory. Batches of all these lengths are summed on the way, each from two of the one before.
Source: Flyvbjerg & Petersen, "Error estimates on averages of correlated data", Journal of Chemical
Physics 91 (1989).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mcsim.laws import FloatArray

LEAST_BATCHES = 32
"""With fewer, the variance of their means is too uncertain."""


@dataclass(frozen=True)
class Level:
    """Batch means of one length: their number, mean and squared deviations, shape (columns,).

    waiting: a batch that has no partner yet; None if there is none, or batches are never paired.
    """

    count: int
    mean: FloatArray
    second: FloatArray
    waiting: FloatArray | None = None

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
            more = self if other.count == 0 else other
            return Level(more.count, more.mean, more.second, self.waiting)
        n = self.count + other.count
        d = other.mean - self.mean
        return Level(
            n,
            self.mean + d * (other.count / n),
            self.second + other.second + d**2 * (self.count * other.count / n),
            self.waiting,
        )


@dataclass(frozen=True)
class Blocking:
    """Batches of every length, from one step on; the last of some blocks may be a part of one.

    levels: of batches of 1, 2, 4, ... steps. whole: the mean of a single whole block, which is
    paired with others; None where there are several already, or a part of one.
    """

    levels: tuple[Level, ...]
    whole: FloatArray | None = None

    @classmethod
    def of(cls, values: FloatArray, block: int) -> Blocking:
        """Of the steps of at most a block. values: shape (steps, columns)."""
        levels, batches = [], values
        for _ in range(block.bit_length()):
            levels.append(Level.of(batches))
            pairs = len(batches) // 2
            batches = 0.5 * (batches[0 : 2 * pairs : 2] + batches[1 : 2 * pairs : 2])
        whole = values.mean(axis=0) if len(values) == block else None
        return cls(tuple(levels), whole)

    def joined(self, other: Blocking) -> Blocking:
        """Of these steps and those of the one block that follows, or of a part of it."""
        short = len(other.levels)
        mine = self._opened()
        levels = [a.joined(b) for a, b in zip(mine.levels, other.levels, strict=False)]
        levels += mine.levels[short:]
        batch = other.whole
        place = short - 1
        while batch is not None:
            here = levels[place]
            if here.waiting is None:
                levels[place] = Level(here.count, here.mean, here.second, batch)
                break
            levels[place] = Level(here.count, here.mean, here.second)
            batch = 0.5 * (here.waiting + batch)
            place += 1
            if place == len(levels):
                levels.append(Level.of(batch[None, :]))
            else:
                levels[place] = levels[place].joined(Level.of(batch[None, :]))
        return Blocking(tuple(levels))

    def _opened(self) -> Blocking:
        """With a single whole block waiting for its partner."""
        if self.whole is None:
            return self
        *below, last = self.levels
        return Blocking((*below, Level(last.count, last.mean, last.second, self.whole)))

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
