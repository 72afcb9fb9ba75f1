"""Who is last again and again: runs of consecutive steps with the same culprit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mcsim.engine.compile import kernel, lane

IntArray = NDArray[np.int64]

POWERS = 32
"""Runs are counted by the power of two that their length reaches; no run has 2^32 steps."""
_GROUP = 32


def culprits(group: IntArray, device: IntArray | None = None) -> IntArray:
    """One number for each culprit: a group, or a device of it; the group is read off it."""
    whole = group << _GROUP
    return whole if device is None else whole | device


@dataclass(frozen=True)
class Runs:
    """The runs of some consecutive steps.

    The first and the last may go on in the steps before and after: they are kept apart, as
    culprit and length, so that joining is associative. steps: all of them; where the first run
    has so many, it is the last one too.
    counts: shape (groups, POWERS), of those between, by the culprit's group and the power of two.
    longest: shape (groups,), of those between; 0 where there is none.
    """

    steps: int
    first: tuple[int, int]
    last: tuple[int, int]
    counts: IntArray
    longest: IntArray

    @classmethod
    def of(cls, culprit: IntArray, groups: int) -> Runs:
        """The runs of some steps, at least one, with the numbers of their culprits."""
        counts, longest = np.zeros((groups, POWERS), np.int64), np.zeros(groups, np.int64)
        first, last = runs_between(culprit, counts, longest)
        ends = (int(culprit[0]), int(first)), (int(culprit[-1]), int(last))
        return cls(culprit.size, *ends, counts, longest)

    @property
    def _is_one(self) -> bool:
        return self.first[1] == self.steps

    def joined(self, other: Runs) -> Runs:
        """The runs of both, `other` being of the steps that follow."""
        first, last, closed = self.first, other.last, []
        if self.last[0] == other.first[0]:
            across = (self.last[0], self.last[1] + other.first[1])
            if self._is_one:
                first = across
            if other._is_one:
                last = across
            if not self._is_one and not other._is_one:
                closed = [across]
        else:
            closed += [] if self._is_one else [self.last]
            closed += [] if other._is_one else [other.first]
        counts = self.counts + other.counts
        longest = np.maximum(self.longest, other.longest)
        _add(closed, counts, longest)
        return Runs(self.steps + other.steps, first, last, counts, longest)

    def ended(self) -> tuple[IntArray, IntArray]:
        """Of all runs, the first and the last included, `counts` and `longest`."""
        counts, longest = self.counts.copy(), self.longest.copy()
        _add([self.first] if self._is_one else [self.first, self.last], counts, longest)
        return counts, longest


def _add(runs: list[tuple[int, int]], counts: IntArray, longest: IntArray) -> None:
    for culprit, length in runs:
        group = culprit >> _GROUP
        counts[group, length.bit_length() - 1] += 1
        longest[group] = max(longest[group], length)


@lane
def _power(length: int) -> int:
    power = 0
    while length > 1:
        length >>= 1
        power += 1
    return power


@kernel
def runs_between(culprit: IntArray, counts: IntArray, longest: IntArray) -> tuple[int, int]:
    """Add all runs but the first and the last to `counts` and `longest`; the lengths of those."""
    begun = 0
    first = culprit.size
    for step in range(1, culprit.size):
        if culprit[step] != culprit[step - 1]:
            length = step - begun
            if begun == 0:
                first = length
            else:
                group = culprit[begun] >> _GROUP
                counts[group, _power(length)] += 1
                longest[group] = max(longest[group], length)
            begun = step
    return first, culprit.size - begun
