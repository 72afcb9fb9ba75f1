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

from mcsim.engine.draws import DEVICES_PER_BLOCK, RARE
from mcsim.engine.philox import NEAREST_ONE, SMALLEST, Words
from mcsim.laws import FloatArray, Law
from mcsim.model.remedies import ABSENT

IntArray = NDArray[np.int64]

_ROOM = 4 * np.finfo(np.float64).eps

_SINGLE_BINS = 128
_SHARED_BINS = 128


def _grid() -> FloatArray:
    """Thresholds in use: 2 % apart from 2^-64 to the middle, and so from there to 1 - 2^-16."""
    low = 0.5 * 1.02 ** -np.arange(np.log(2.0**63) / np.log(1.02))[::-1]
    return np.concatenate([[0.0], low, 1.0 - low[-2::-1][low[-2::-1] > 2.0**-16], [1.0]])


_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(8)


@dataclass(frozen=True)
class LawTable:
    """A law at the thresholds `level[k]`: everything that screening needs of it.

    quantile: the largest value of a draw at or above the threshold; for threshold 0 the largest
        value there is. Never increasing.
    mean_above: the mean over the draws at or above the threshold; 0 for the last.
    """

    level: FloatArray
    quantile: FloatArray
    mean_above: FloatArray

    @classmethod
    def of(cls, law: Law | None, constant: float) -> LawTable:
        """The table of a law, or of the constant that stands for none."""
        level = _grid()
        if law is None:
            full = np.full(level.size, constant)
            return cls(level, full, np.where(level < 1, constant, 0.0))
        ends = np.clip(level, SMALLEST, NEAREST_ONE)
        quantile = np.minimum.accumulate(law.quantile(ends))
        # Integrals of the quantile function between neighbouring thresholds, each piece split
        # where the law jumps.
        edges = np.union1d(level[1:], law.jumps()[: 4 * level.size])
        edges = edges[edges >= level[1]]
        half = np.diff(edges) / 2
        at = edges[:-1, None] + half[:, None] * (1 + _NODES)
        pieces = half * (law.quantile(at) @ _WEIGHTS)
        above = np.append(np.cumsum(pieces[::-1])[::-1], 0.0)[np.searchsorted(edges, level[1:])]
        mean = np.append(above[:-1] / (1 - level[1:-1]), 0.0)
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

    def threshold(self, entry: IntArray) -> FloatArray:
        """The threshold of an entry; that of none of the entries keeps every draw."""
        return self.thresholds[entry]

    @cached_property
    def thresholds(self) -> FloatArray:
        return np.append(self.level, 1.0)

    @cached_property
    def means(self) -> FloatArray:
        """The mean of a draw at or above the threshold of each entry; 0 where there is none."""
        return np.append(self.mean_above, 0.0)


@dataclass(frozen=True)
class Level:
    """A device outranks the level if its time is above `time`, or equal to it and its draw is
    below `tie`: equal times happen where laws have atoms."""

    time: float
    tie: float

    def outranked_by(self, time: FloatArray, survival: FloatArray) -> NDArray[np.bool_]:
        """Whether the last arrivals, drawn at `survival`, are above the level; shape (n,)."""
        return outranks(time, survival, self.time, self.tie)


def outranks(
    time: FloatArray, survival: FloatArray, other: FloatArray | float, drawn: FloatArray | float
) -> NDArray[np.bool_]:
    """Whether arrivals are later than others, or as late and drawn lower; shape (n,)."""
    return np.asarray((time > other) | ((time == other) & (survival < drawn)))


EVERY_DEVICE = Level(-np.inf, 0.0)
"""The level that every device outranks."""


@dataclass(frozen=True, eq=False)
class Thresholds:
    """Below what a draw (of the step, or of the stall) is kept, for each device of a group.

    entry: shape (devices,), places in `threshold`. blocks: those in which any rare draw may be
    kept. usual: the devices of which draws that are not rare may be kept, and the bound of their
    first 16 bits, `usual_threshold`.
    """

    entry: NDArray[np.uint16]
    threshold: FloatArray
    blocks: Words
    usual: Words
    usual_threshold: Words

    @classmethod
    def of(cls, table: LawTable, entry: IntArray) -> Thresholds:
        """The thresholds of a table at an entry for each device."""
        small = entry.astype(np.uint16)
        starts = np.arange(0, entry.size, DEVICES_PER_BLOCK)
        blocks = np.flatnonzero(np.maximum.reduceat(small, starts))
        first_usual = np.searchsorted(table.thresholds, RARE, side="right")
        usual = np.flatnonzero(small >= first_usual)
        share = (table.thresholds[small[usual]] - RARE) / (1.0 - RARE)
        # One more, for the rounding of draws and thresholds: what is not below is dropped later.
        bound = np.minimum(np.ceil(share * 65536) + 1, 65536)
        return cls(
            small,
            table.thresholds,
            blocks.astype(np.uint32),
            usual.astype(np.uint32),
            bound.astype(np.uint32),
        )


@dataclass(frozen=True, eq=False)
class GroupScreen:
    """The thresholds of a group's devices, and what is known of those that are not kept.

    step, stall: of the two draws of a device; stall is None where there is none.
    expected: shape (devices,), s, of each device its mean time given that it is not kept (0 if it
    always is). expected_sum: s, over the devices. kept: the mean number of devices kept a step.
    present: how many are not left out.
    """

    step: Thresholds
    stall: Thresholds | None
    expected: FloatArray
    expected_sum: float
    kept: float
    present: int


@dataclass(frozen=True)
class Bins:
    """Base times of a group in few bins: the largest alone, the others with their neighbours.

    base: shape (devices,), s. latest, middle: shape (bins,), s, the largest and the median of a
    bin, increasing. weight: its devices. pure: whether all devices of each bin are equal.
    """

    base: FloatArray
    latest: FloatArray
    middle: FloatArray
    weight: IntArray
    pure: bool

    @classmethod
    def of(cls, base: FloatArray) -> Bins:
        """The bins of some base times, s; those of absent devices are in none."""
        ordered = np.sort(base[base > ABSENT])
        if ordered.size == 0:
            return cls(base, np.zeros(1), np.zeros(1), np.zeros(1, np.int64), pure=True)
        distinct = np.flatnonzero(np.diff(ordered, prepend=-np.inf) > 0)
        pure = distinct.size <= _SINGLE_BINS + _SHARED_BINS
        if pure:
            starts = distinct
        else:
            shared = max(ordered.size - _SINGLE_BINS, 0)
            starts = np.union1d(
                np.linspace(0, shared, _SHARED_BINS, endpoint=False).astype(np.int64),
                np.arange(shared, ordered.size),
            )
        ends = np.append(starts[1:], ordered.size)
        middle = ordered[(starts + ends - 1) // 2]
        return cls(base, ordered[ends - 1], middle, ends - starts, pure)

    @cached_property
    def index(self) -> IntArray:
        """A bin for each device, none of whose members is earlier; shape (devices,)."""
        return np.searchsorted(self.latest, self.base)

    @property
    def ends(self) -> FloatArray:
        """The least and the largest base time, s; shape (2,)."""
        return np.array([self.base[self.base > ABSENT].min(initial=np.inf), self.latest[-1]])


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

    def reach(self, bins: Bins, time: float) -> float:
        """About how many of the devices are kept in a step, at `time`."""
        return float(self._share_kept(bins, time) @ bins.weight)

    def _share_kept(self, bins: Bins, time: float) -> FloatArray:
        base = bins.middle
        if self.stall is None:
            exact = bins.pure or base[0] <= 0
            find = self.step.first_below if exact else self.step.first_surely_below
            return self.step.threshold(find(time, base))
        step, stall = self.split(base, time, stride=8)
        kept = self.step.threshold(step) + self.stall.threshold(stall)
        return np.asarray(np.minimum(kept, 1.0))

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
        nothing = kept[np.arange(base.size), best] >= 1.0
        return (
            np.where(nothing, self.step.level.size, best * stride),
            np.where(nothing, 0, stall),
        )

    def screen(self, bins: Bins, level: Level) -> GroupScreen:
        """Thresholds that keep every device that outranks the level."""
        base = bins.base
        every = self.step.level.size
        if level == EVERY_DEVICE:
            entry = np.full(base.shape, every)
            return self._screen(base, entry, np.zeros_like(entry))
        # Of a negative base time the draws are late in the other order: those are always kept.
        always = base <= 0
        if self.stall is not None:
            step, stall = (entry[bins.index] for entry in self.split(bins.latest, level.time))
            step, stall = np.where(always, every, step), np.where(always, 0, stall)
            return self._screen(base, step, stall)
        if bins.pure:
            above = self.step.first_at_most(level.time, bins.latest)
            at = self.step.first_below(level.time, bins.latest)
            tied = np.searchsorted(self.step.level, level.tie)
            entry = np.clip(np.full_like(at, tied), above, at)[bins.index]
        else:
            entry = self.step.first_surely_below(level.time, np.where(always, 1.0, base))
        return self._screen(base, np.where(always, every, entry), None)

    def _screen(self, base: FloatArray, step: IntArray, stall: IntArray | None) -> GroupScreen:
        absent = base == ABSENT
        if absent.any():
            # Never kept, and of no weight in any mean.
            base, step = np.where(absent, 0.0, base), np.where(absent, 0, step)
            stall = None if stall is None else np.where(absent, 0, stall)
        share = self.step.threshold(step)
        mean = base * self.step.means[step]
        stall_thresholds = None
        if self.stall is not None:
            assert stall is not None
            stall_thresholds = Thresholds.of(self.stall, stall)
            mean = np.where((share < 1) & ~absent, mean + self.stall.means[stall], 0.0)
            share = 1 - (1 - share) * (1 - self.stall.threshold(stall))
        return GroupScreen(
            Thresholds.of(self.step, step),
            stall_thresholds,
            mean,
            float(mean.sum()),
            float(share.sum()),
            base.size - int(np.count_nonzero(absent)),
        )


def find_level(groups: Sequence[tuple[GroupLaws, Bins]], kept: float) -> Level:
    """A level that about `kept` devices of a site outrank in a step.

    groups: laws and base times of the groups of the site.
    """
    if sum(int(bins.weight.sum()) for _, bins in groups) <= 2 * kept:
        return EVERY_DEVICE

    def reach(time: float) -> float:
        """How many devices are expected at `time` or later."""
        return sum(laws.reach(bins, time) for laws, bins in groups)

    ranges = [laws.range(bins.ends) for laws, bins in groups if bins.weight.any()]
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
        return Level(_double(low - 1), 0.0)
    return Level(_double(low), _tie(groups, _double(low), kept))


def _tie(groups: Sequence[tuple[GroupLaws, Bins]], time: float, kept: float) -> float:
    """Which draws of the devices that are tied at `time` to keep: those below the result."""
    level = groups[0][0].step.thresholds
    spans = [
        (laws.step.first_at_most(time, b.middle), laws.step.first_below(time, b.middle), b.weight)
        for laws, b in groups
    ]
    low, high = 0, level.size - 1
    while low < high:
        tie = (low + high) // 2
        if sum(float(level[np.clip(tie, a, b)] @ w) for a, b, w in spans) >= kept:
            high = tie
        else:
            low = tie + 1
    return float(level[low])


def _ordered(time: float) -> int:
    """Doubles as integers of the same order."""
    bits = int(np.float64(time).view(np.int64))
    return bits if bits >= 0 else -(bits & 0x7FFFFFFFFFFFFFFF)


def _double(order: int) -> float:
    bits = order if order >= 0 else -order | -(1 << 63)
    return float(np.int64(bits).view(np.float64))


def screens_of_site(
    groups: Sequence[tuple[GroupLaws, Bins]], kept: float, most: float = np.inf
) -> tuple[Level, list[GroupScreen]]:
    """A level for a site, not above `most` s, and the thresholds of its groups."""
    level = find_level(groups, kept)
    if level.time >= most:
        level = Level(most, 0.0)
    return level, [laws.screen(bins, level) for laws, bins in groups]
