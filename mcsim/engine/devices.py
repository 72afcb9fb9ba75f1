"""Full statistics: every device's time in every step, counted.

Where only the last arrivals are asked for, most draws are never made; here all of them are, and
turned into times by tables (`quantile_table`), in float32. What a table leaves to the law is
listed, and evaluated from the law itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mcsim.engine.cluster import Cluster
from mcsim.engine.compile import kernel, lane
from mcsim.engine.draws import (
    DEVICES_PER_BLOCK,
    HIGH,
    LOW,
    MIDDLE,
    NO_GAP,
    RARE,
    complete,
    gap_of,
    rare_survival,
    word_of,
)
from mcsim.engine.ends import OVERFLOW
from mcsim.engine.histogram import COARSEST, SMALLEST, bin_of, coarser
from mcsim.engine.philox import Purpose, Word, Words, key_of, philox, word_3
from mcsim.engine.quantile_table import Cells, Interval, QuantileTable, nearer_tail, quantile_at
from mcsim.engine.steps import DeviceCounts
from mcsim.laws import FloatArray, Law

USUAL = Interval.of(RARE, 1.0)

BINS = 1 << 15
"""Bins of times above zero, those of `histogram` at COARSEST bits, up to 2^87 s."""

CHUNK = 512
"""Devices that are looked at together."""

_SHIFT = np.int32(23 - COARSEST)
_FIRST = np.int32((np.float32(SMALLEST).view(np.int32) >> (23 - COARSEST)) - 1)
_MAGNITUDE = np.int32(0x7FFFFFFF)
_LAST_BIN = np.int32(BINS - 1)
_ZERO = np.float32(0.0)
_UPPER = np.bool_(True)
"""The tail of rare draws."""
_1 = np.uint32(1)
_16 = np.uint32(16)
_HIGH_HALF = np.uint32(0xFFFF0000)
_LOW_HALF = np.uint32(0xFFFF)

_STEPS = 64
"""Steps of a call: it lasts 0.2 s at a million devices."""

Floats = NDArray[np.float32]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class DeviceTables:
    """The tables of the two laws of a group."""

    step: QuantileTable
    stall: QuantileTable

    @classmethod
    def of(cls, step: Law | None, stall: Law | None) -> DeviceTables:
        """What is None is the factor 1, or no stall."""
        return cls(QuantileTable.of(step, 1.0), QuantileTable.of(stall, 0.0))


Counted = tuple[Counts, Counts, Counts]
"""Of a group: the counts of times and waits, shape (BINS,), and what the tables leave to the law,
shape (n, 2): devices and steps."""


class Counter(Protocol):
    """Counts the devices of a group in some steps: here, or on an accelerator."""

    def __call__(
        self, cluster: Cluster, index: int, tables: DeviceTables, first: int, latest: FloatArray
    ) -> Counted: ...


def all_devices(
    cluster: Cluster,
    tables: Sequence[DeviceTables],
    first: int,
    latest: FloatArray,
    counter: Counter | None = None,
) -> DeviceCounts:
    """The times and waits of all devices in the steps from `first` on, counted.

    latest: shape (steps,), s, when the very last device is ready. counter: default the processor.
    """
    groups = len(cluster.plan.groups)
    counts = DeviceCounts(np.zeros((groups, BINS), np.int64), np.zeros((groups, BINS), np.int64))
    steps, count = (_STEPS, _counted) if counter is None else (latest.size, counter)
    for index in range(groups):
        for at in range(0, latest.size, steps):
            some = latest[at : at + steps]
            times, waits, missed = count(cluster, index, tables[index], first + at, some)
            counts.times[index] += times
            counts.waits[index] += waits
            if missed.size:
                _add_missed(cluster, index, missed, first + at, some, counts)
    return counts


def _counted(
    cluster: Cluster, index: int, tables: DeviceTables, first: int, latest: FloatArray
) -> Counted:
    group, base = cluster.plan.groups[index], cluster.base[index]
    room = room_for_missed(cluster, index, tables, latest.size)
    while True:
        times, waits = np.zeros(BINS, np.int64), np.zeros(BINS, np.int64)
        missed = np.empty((room, 2), np.int64)
        lost = count_devices(
            base.astype(np.float32),
            tables.step.cells,
            tables.stall.cells,
            group.stall is not None,
            first,
            latest.size,
            latest,
            np.uint32(group.identity),
            word_3(cluster.replicate, Purpose.STEP),
            word_3(cluster.replicate, Purpose.STALL),
            *key_of(cluster.plan.seed),
            times,
            waits,
            missed,
        )
        if lost <= room:
            return times, waits, missed[:lost]
        room = int(lost)


def room_for_missed(cluster: Cluster, index: int, tables: DeviceTables, steps: int) -> int:
    """How many times of a group in some steps the tables will hardly exceed to leave to the law."""
    marked = tables.step.marked + tables.stall.marked
    return int(1.2 * marked * cluster.plan.groups[index].count * steps) + 1000


def _add_missed(
    cluster: Cluster,
    index: int,
    missed: Counts,
    first: int,
    latest: FloatArray,
    counts: DeviceCounts,
) -> None:
    device, step = missed[:, 0].copy(), missed[:, 1].astype(np.uint32)
    time = _exactly(cluster, index, device, step)
    wait = np.maximum(latest[step - np.uint32(first)] - time, 0.0)
    for values, into in ((time, counts.times), (wait, counts.waits)):
        into[index] += np.bincount(bin_of_times(values), minlength=BINS)


def bin_of_times(value: FloatArray) -> Counts:
    """The numbers of the bins of `count_devices`."""
    return np.clip(coarser(bin_of(value), COARSEST), 0, BINS - 1)


def _exactly(cluster: Cluster, index: int, device: NDArray[np.int64], step: Words) -> FloatArray:
    """The times of some devices in some steps, from the laws themselves, s."""
    group = cluster.plan.groups[index]

    def draws(purpose: Purpose) -> FloatArray:
        last = word_3(cluster.replicate, purpose)
        key = key_of(cluster.plan.seed)
        return complete(device, step, np.uint32(group.identity), last, *key)[0]

    time = cluster.base[index][device]
    with np.errstate(**OVERFLOW):
        if group.step is not None:
            time = time * group.step.quantile(draws(Purpose.STEP))
        if group.stall is not None:
            time = time + group.stall.quantile(draws(Purpose.STALL))
    return time


@lane
def bin_of_float(value: np.float32) -> np.int32:
    """The number of the bin of a value: as `histogram.bin_of`, of COARSEST bits; 0 if below."""
    bits = np.float32(value).view(np.int32)
    number = min(max((bits & _MAGNITUDE) >> _SHIFT, _FIRST) - _FIRST, _LAST_BIN)
    return number if bits >= 0 else np.int32(0)


@lane
def eight_values(
    start: int,
    size: int,
    eight: int,
    identity: Word,
    last: Word,
    k0: Word,
    k1: Word,
    cells: Cells,
    words: Words,
    value: Floats,
) -> None:
    """What a law gives the devices from `start` on in eight steps; `value`, (8, chunk), is filled.

    start: the first of a block of devices.
    """
    high_last, middle_last = np.uint32(last + HIGH), np.uint32(last + MIDDLE)
    for l in range(size):
        a, b, c, d = philox(np.uint32(start + l), np.uint32(eight), identity, high_last, k0, k1)
        words[0, l] = a & _HIGH_HALF
        words[1, l] = a << _16
        words[2, l] = b & _HIGH_HALF
        words[3, l] = b << _16
        words[4, l] = c & _HIGH_HALF
        words[5, l] = c << _16
        words[6, l] = d & _HIGH_HALF
        words[7, l] = d << _16
    for l in range(size):
        a, b, c, d = philox(np.uint32(start + l), np.uint32(eight), identity, middle_last, k0, k1)
        words[0, l] |= a >> _16
        words[1, l] |= a & _LOW_HALF
        words[2, l] |= b >> _16
        words[3, l] |= b & _LOW_HALF
        words[4, l] |= c >> _16
        words[5, l] |= c & _LOW_HALF
        words[6, l] |= d >> _16
        words[7, l] |= d & _LOW_HALF
    for j in range(8):
        drawn_words, into = words[j], value[j]
        for l in range(size):
            tail, is_upper = nearer_tail(drawn_words[l], USUAL)
            into[l] = quantile_at(tail, is_upper, cells)
    low_last = np.uint32(last + LOW)
    for block in range(start // DEVICES_PER_BLOCK, (start + size - 1) // DEVICES_PER_BLOCK + 1):
        end = min((block + 1) * DEVICES_PER_BLOCK, start + size)
        for four in range(2):
            drawn = philox(np.uint32(block), np.uint32(2 * eight + four), identity, last, k0, k1)
            for j in range(4):
                word = word_of(drawn, np.uint32(j))
                if word < NO_GAP:
                    step = np.uint32(8 * eight + 4 * four + j)
                    device = block * DEVICES_PER_BLOCK + gap_of(word)
                    while device < end:
                        a, b, c, _ = philox(np.uint32(device), step, identity, low_last, k0, k1)
                        tail = np.float32(rare_survival(a, b))
                        value[4 * four + j, device - start] = quantile_at(tail, _UPPER, cells)
                        device += 1 + gap_of(c)


@kernel
def count_devices(
    base: Floats,
    step_cells: Cells,
    stall_cells: Cells,
    stalls: bool,
    first: int,
    steps: int,
    latest: FloatArray,
    identity: Word,
    step_last: Word,
    stall_last: Word,
    k0: Word,
    k1: Word,
    times: Counts,
    waits: Counts,
    missed: NDArray[np.int64],
) -> np.int64:
    """Count the times of all devices of a group, and how long each waits, in some steps.

    base: shape (devices,), s. latest: shape (steps,), s, when the very last device is ready.
    times, waits: shape (BINS,), are added to. missed: shape (n, 2), is filled with the device and
    the step of times that the tables leave to the law. Result: how many there are, even if more
    than fit.
    """
    words = np.empty((8, CHUNK), np.uint32)
    value = np.empty((8, CHUNK), np.float32)
    stall = np.zeros((8, CHUNK), np.float32)
    time_bin = np.empty(CHUNK, np.int32)
    wait_bin = np.empty(CHUNK, np.int32)
    lost = np.int64(0)
    for start in range(0, base.size, CHUNK):
        size = min(CHUNK, base.size - start)
        # A slice: indices that may be negative make a gather of a load.
        here = base[start : start + size]
        for eight in range(first >> 3, (first + steps + 7) >> 3):
            eight_values(start, size, eight, identity, step_last, k0, k1, step_cells, words, value)
            if stalls:
                eight_values(
                    start, size, eight, identity, stall_last, k0, k1, stall_cells, words, stall
                )
            for j in range(8):
                row = 8 * eight + j - first
                if 0 <= row < steps:
                    end = np.float32(latest[row])
                    unknown = np.int64(0)
                    factor, added = value[j], stall[j]
                    for l in range(size):
                        time = here[l] * factor[l] + added[l]
                        # What is not a number is counted in the last bin, and taken out again.
                        time_bin[l] = bin_of_float(time)
                        wait = end - time
                        wait_bin[l] = bin_of_float(wait if wait > _ZERO else _ZERO)
                        unknown += np.int64(time != time)
                    for l in range(size):
                        times[time_bin[l]] += 1
                        waits[wait_bin[l]] += 1
                    if unknown > 0:
                        for l in range(size):
                            time = here[l] * factor[l] + added[l]
                            if time != time:
                                times[time_bin[l]] -= 1
                                waits[wait_bin[l]] -= 1
                                if lost < missed.shape[0]:
                                    missed[lost, 0] = start + l
                                    missed[lost, 1] = first + row
                                lost += 1
    return lost
