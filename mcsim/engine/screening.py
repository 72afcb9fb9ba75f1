"""Which draws cannot make a device the last of its step: one integer threshold a device.

For each site a *level* of time is chosen that some device almost surely exceeds. A device whose
draw is at or above its threshold arrives no later than the level, so a step in which a kept
device exceeds the level has its true last arrival among the kept ones. The rare step in which
none does is looked at again with a lower level, down to keeping every device: results do not
depend on the level, only the work does.

What is not kept is known to be a draw above the threshold and nothing else; its expected time
given that is exact, and stands in for it in the mean over devices (Rao-Blackwell).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mcsim.engine.candidates import ALWAYS, DEVICES_PER_BLOCK
from mcsim.engine.philox import Words
from mcsim.laws import FloatArray, Law

IntArray = NDArray[np.int64]

_ROOM = 4 * np.finfo(np.float64).eps

_SINGLE_BINS = 128
_SHARED_BINS = 128


def _grid() -> IntArray:
    """Thresholds in use, of 65,536: every one at both ends, 1 % apart between."""
    fine = np.arange(257)
    coarse = np.round(256 * 1.01 ** np.arange(1, 490)).astype(np.int64)
    low = np.union1d(fine, coarse[coarse <= ALWAYS // 2])
    return np.union1d(low, ALWAYS - low)


_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(8)


@dataclass(frozen=True)
class LawTable:
    """A law at the thresholds `level[k]` / 65536: everything that screening needs of it.

    quantile: the largest value of a draw at or above the threshold; for threshold 0 the largest
        value there is. Never increasing.
    mean_above: the mean over the draws at or above the threshold; 0 for the last.
    """

    level: IntArray
    quantile: FloatArray
    mean_above: FloatArray

    @classmethod
    def of(cls, law: Law | None, constant: float) -> LawTable:
        """The table of a law, or of the constant that stands for none."""
        level = _grid()
        if law is None:
            full = np.full(level.size, constant)
            return cls(level, full, np.where(level < ALWAYS, constant, 0.0))
        share = level / ALWAYS
        ends = np.clip(share, 2.0**-65, 1 - 2.0**-53)
        quantile = np.minimum.accumulate(law.quantile(ends))
        # Integrals of the quantile function between neighbouring thresholds, each piece split
        # where the law jumps.
        edges = np.union1d(share[1:], law.jumps()[: 4 * level.size])
        edges = edges[edges >= share[1]]
        half = np.diff(edges) / 2
        at = edges[:-1, None] + half[:, None] * (1 + _NODES)
        pieces = half * (law.quantile(at) @ _WEIGHTS)
        above = np.append(np.cumsum(pieces[::-1])[::-1], 0.0)[np.searchsorted(edges, share[1:])]
        mean = np.append(above[:-1] / (1 - share[1:-1]), 0.0)
        return cls(level, quantile, np.concatenate([[law.expectation()], mean]))

    @cached_property
    def ascending(self) -> FloatArray:
        return -self.quantile

    def first_at_most(self, time: float, base: FloatArray) -> IntArray:
        """The first entry whose `base * quantile` is at most `time`; their number if none is.

        Exact, by all products: for the few base times of bins.
        """
        return np.asarray(np.count_nonzero(base[:, None] * self.quantile > time, axis=1))

    def first_below(self, time: float, base: FloatArray) -> IntArray:
        """The first entry whose `base * quantile` is below `time`; as `first_at_most`."""
        return np.asarray(np.count_nonzero(base[:, None] * self.quantile >= time, axis=1))

    def first_surely_below(self, time: float, base: FloatArray) -> IntArray:
        """An entry whose `base * quantile` is below `time`, if not always the first such.

        For many positive base times: found by division, with room for its rounding.
        """
        ratio = time / base
        ratio -= _ROOM * np.abs(ratio)
        return np.searchsorted(self.ascending, -ratio, side="right")

    def threshold(self, entry: IntArray) -> IntArray:
        """The threshold of an entry; that of none of the entries keeps every draw."""
        return np.append(self.level, ALWAYS)[entry]

    def expected(self, entry: IntArray) -> FloatArray:
        """The mean of a draw at or above the threshold of an entry; 0 where there is none."""
        return np.append(self.mean_above, 0.0)[entry]


@dataclass(frozen=True)
class Level:
    """A device outranks the level if its time is above `time`, or equal to it and the first 16
    bits of its draw are below `tie`: equal times happen where laws have atoms."""

    time: float
    tie: int

    def outranked_by(self, time: FloatArray, survival: FloatArray) -> NDArray[np.bool_]:
        """Whether the last arrivals, drawn at `survival`, are above the level; shape (n,)."""
        tied = (time == self.time) & (survival * ALWAYS < self.tie)
        return np.asarray((time > self.time) | tied)


EVERY_DEVICE = Level(-np.inf, 0)
"""The level that every device outranks."""


@dataclass(frozen=True)
class GroupScreen:
    """The thresholds of a group's devices, and what is known of those that are not kept.

    threshold, stall_threshold: shape (8, blocks), as `candidates.screen` takes them.
    expected: shape (devices,), s; the mean time of a device given that it is not kept (0 if it
        always is); expected_sum: its sum. kept: the mean number of devices kept a step.
    """

    threshold: Words
    stall_threshold: Words
    expected: FloatArray
    expected_sum: float
    kept: float


@dataclass(frozen=True)
class Bins:
    """Base times of a group in few bins: the largest alone, the others with their neighbours.

    base: shape (devices,), s. index: shape (devices,), the bin of each. latest, middle: shape
    (bins,), s, the largest and the median of a bin. weight: its devices. pure: whether all devices
    of each bin are equal.
    """

    base: FloatArray
    index: IntArray
    latest: FloatArray
    middle: FloatArray
    weight: IntArray
    pure: bool

    @classmethod
    def of(cls, base: FloatArray) -> Bins:
        """The bins of some base times, s."""
        order = np.argsort(base, kind="stable")
        ordered = base[order]
        distinct = np.flatnonzero(np.diff(ordered, prepend=-np.inf) > 0)
        pure = distinct.size <= _SINGLE_BINS + _SHARED_BINS
        if pure:
            starts = distinct
        else:
            shared = max(base.size - _SINGLE_BINS, 0)
            starts = np.union1d(
                np.linspace(0, shared, _SHARED_BINS, endpoint=False).astype(np.int64),
                np.arange(shared, base.size),
            )
        ends = np.append(starts[1:], base.size)
        index = np.empty(base.size, np.int64)
        index[order] = np.repeat(np.arange(starts.size), ends - starts)
        middle = ordered[(starts + ends - 1) // 2]
        return cls(base, index, ordered[ends - 1], middle, ends - starts, pure)


class GroupLaws:
    """The tables of a group's two laws, and how its devices compare with a level."""

    def __init__(self, step: Law | None, stall: Law | None) -> None:
        self.step = LawTable.of(step, 1.0)
        self.stall = None if stall is None else LawTable.of(stall, 0.0)

    def range(self, base: FloatArray) -> tuple[float, float]:
        """The earliest and the latest time that any of the devices can have, s."""
        ends = np.outer(base, self.step.quantile[[0, -1]])
        low, high = float(ends.min()), float(ends.max())
        if self.stall is not None:
            low, high = low + self.stall.quantile[-1], high + self.stall.quantile[0]
        return low, high

    def reach(self, base: FloatArray, time: float) -> IntArray:
        """Of 65536 draws of each device, about how many are kept at `time`."""
        if self.stall is None:
            return self.step.threshold(self.step.first_below(time, base))
        step, stall = self.split(base, time, stride=8)
        kept = self.step.threshold(step) + self.stall.threshold(stall)
        return np.asarray(np.minimum(kept, ALWAYS))

    def split(self, base: FloatArray, time: float, *, stride: int = 1) -> tuple[IntArray, IntArray]:
        """Thresholds for the step and for the stall: what is above both is earlier than `time`.

        Of all such pairs (or of every `stride`-th) the one that keeps the fewest devices.
        Result: entries of the two tables, each of the shape of `base`.
        """
        assert self.stall is not None
        own = base[:, None] * self.step.quantile[::stride]
        # The difference rounds, and so does the sum that is a device's time.
        room = _ROOM * (np.abs(own) + abs(time))
        rest = np.searchsorted(self.stall.ascending, own - time + room, side="right")
        kept = self.step.level[::stride] + self.stall.threshold(rest)
        best = np.argmin(kept, axis=1)
        stall = rest[np.arange(base.size), best]
        # Where nothing is harmless, every draw of the step is kept and the stall's do not matter.
        nothing = kept[np.arange(base.size), best] >= ALWAYS
        return (
            np.where(nothing, self.step.level.size, best * stride),
            np.where(nothing, 0, stall),
        )

    def screen(self, bins: Bins, level: Level) -> GroupScreen:
        """Thresholds that keep every device that outranks the level."""
        base = bins.base
        if level == EVERY_DEVICE:
            every = np.full(base.shape, ALWAYS)
            return _screen(every, every if self.stall else None, np.zeros(base.shape))
        # Of a negative base time the draws are late in the other order: those are always kept.
        always = base <= 0
        if self.stall is not None:
            step, stall = (entry[bins.index] for entry in self.split(bins.latest, level.time))
            expected = base * self.step.expected(step) + self.stall.expected(stall)
            step_threshold = np.where(always, ALWAYS, self.step.threshold(step))
            return _screen(step_threshold, self.stall.threshold(stall), expected)
        if bins.pure:
            above = self.step.threshold(self.step.first_at_most(level.time, bins.latest))
            at = self.step.threshold(self.step.first_below(level.time, bins.latest))
            # Means are tabulated on the grid: its next threshold keeps a little more.
            entry = np.searchsorted(self.step.level, np.clip(level.tie, above, at))[bins.index]
        else:
            entry = self.step.first_surely_below(level.time, np.where(always, 1.0, base))
        threshold = np.where(always, ALWAYS, self.step.threshold(entry))
        return _screen(threshold, None, base * self.step.expected(entry))


def _screen(step: IntArray, stall: IntArray | None, expected: FloatArray) -> GroupScreen:
    kept = step / ALWAYS if stall is None else 1 - (1 - step / ALWAYS) * (1 - stall / ALWAYS)
    expected = np.where(kept < 1, expected, 0.0)
    return GroupScreen(
        _by_row(step),
        _by_row(stall) if stall is not None else np.empty((DEVICES_PER_BLOCK, 0), np.uint32),
        expected,
        float(expected.sum()),
        float(kept.sum()),
    )


def _by_row(threshold: IntArray) -> Words:
    """Thresholds of devices as shape (8, blocks), the devices of a block in one column."""
    blocks = -(-threshold.size // DEVICES_PER_BLOCK)
    padded = np.zeros(blocks * DEVICES_PER_BLOCK, np.uint32)
    padded[: threshold.size] = threshold
    return np.ascontiguousarray(padded.reshape(blocks, DEVICES_PER_BLOCK).T)


def find_level(groups: Sequence[tuple[GroupLaws, Bins]], kept: float) -> Level:
    """A level that about `kept` devices of a site outrank in a step.

    groups: laws and base times of the groups of the site.
    """
    if sum(bins.base.size for _, bins in groups) <= 2 * kept:
        return EVERY_DEVICE

    def reach(time: float) -> float:
        """How many devices are expected at `time` or later."""
        return sum(float(laws.reach(b.middle, time) @ b.weight) for laws, b in groups) / ALWAYS

    ranges = [laws.range(bins.base) for laws, bins in groups]
    low = _ordered(min(r[0] for r in ranges))
    high = _ordered(max(r[1] for r in ranges)) + 1
    # Bisection over the doubles themselves ends at the very value of an atom.
    while high - low > 1:
        middle = (low + high) // 2
        found = reach(_double(middle))
        low, high = (middle, high) if found >= kept else (low, middle)
        if kept <= found <= 1.2 * kept:
            break
    if any(laws.stall is not None for laws, _ in groups):
        # Sums of two draws are not screened for ties: what is tied at the level outranks it.
        return Level(_double(low - 1), 0)
    return Level(_double(low), _tie(groups, _double(low), kept))


def _tie(groups: Sequence[tuple[GroupLaws, Bins]], time: float, kept: float) -> int:
    """How many of 65536 draws of the devices that are tied at `time` to keep."""
    spans = []
    for laws, b in groups:
        above = laws.step.threshold(laws.step.first_at_most(time, b.middle))
        at = laws.step.threshold(laws.step.first_below(time, b.middle))
        spans.append((above, at, b.weight))
    low, high = 0, ALWAYS
    while low < high:
        tie = (low + high) // 2
        if sum(float(np.clip(tie, a, b) @ w) for a, b, w in spans) / ALWAYS >= kept:
            high = tie
        else:
            low = tie + 1
    return low


def _ordered(time: float) -> int:
    """Doubles as integers of the same order."""
    bits = int(np.float64(time).view(np.int64))
    return bits if bits >= 0 else -(bits & 0x7FFFFFFFFFFFFFFF)


def _double(order: int) -> float:
    bits = order if order >= 0 else -order | -(1 << 63)
    return float(np.int64(bits).view(np.float64))


def screens_of_site(
    groups: Sequence[tuple[GroupLaws, Bins]], kept: float
) -> tuple[Level, list[GroupScreen]]:
    """A level for a site and the thresholds of its groups."""
    level = find_level(groups, kept)
    return level, [laws.screen(bins, level) for laws, bins in groups]
