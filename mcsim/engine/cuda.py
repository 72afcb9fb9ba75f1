"""The kernels of the CUDA target: the lanes of the processor's loops, in threads of a GPU.

The same words from the same addresses, so the same devices are found that may be last. Their
times are looked up in float32; what could be the last is handed back, to be scored from the laws
in double precision on the processor, so that last arrivals are those of the processor bit for bit.
Sums are in whole numbers, so that the order of threads does not matter.

Hot are `find_rare`, `screen` and `count_devices`, which look at every device in every step; `score`
and `hand_back` look at the few that were found.
"""

from __future__ import annotations

from typing import Any

import numba.cuda
import numpy as np

from mcsim.engine.candidates import CODES, STALL, below
from mcsim.engine.candidates import USUAL as KEPT_AS_USUAL
from mcsim.engine.compile import lane
from mcsim.engine.devices import USUAL, bin_of_float
from mcsim.engine.draws import (
    DEVICES_PER_BLOCK,
    HIGH,
    LOW,
    MIDDLE,
    NO_GAP,
    RARE,
    gap_of,
    half_of,
    place_of,
    whole_draw,
    word_of,
)
from mcsim.engine.philox import SMALLEST, Word, philox
from mcsim.engine.quantile_table import Cells, nearer_tail, quantile_at

cuda: Any = numba.cuda
# Small fleets do not fill a GPU: no news to who runs one.
cuda.core.config.CUDA_LOW_OCCUPANCY_WARNINGS = 0

THREADS = 256
"""Of a block, where each has a draw of its own."""
ROUNDS = 8
"""Blocks of devices, in four steps, that a thread of `find_rare` looks at."""
_ROOM = 2048
_LAST_ROUND = ROUNDS - 1
WINDOW = 2048
"""Bins of a histogram that are counted within a block of threads: eight octaves."""

_BLOCK = np.uint32(DEVICES_PER_BLOCK)
_CODES = np.uint32(CODES)
_0, _1, _2, _3, _4 = (np.uint32(k) for k in range(5))
_8, _16 = np.uint32(8), np.uint32(16)
_ONE = np.int32(1)
_RARE_UNIT = np.float32(RARE * 2.0**-64)
_LEAST_TAIL = np.float32(SMALLEST)
_ZERO = np.float32(0.0)
_NEVER = np.float32(-np.inf)
_MAGNITUDE = np.int32(0x7FFFFFFF)
_UPPER = np.bool_(True)


def kernel(function: Any) -> Any:
    """A function of a thread, compiled when it is first launched."""
    return cuda.jit(function)


@lane
def rare_tail(high: Word, low: Word) -> np.float32:
    """A rare draw from its 64 bits, in single precision."""
    tail = np.float32(place_of(high, low)) * _RARE_UNIT
    return tail if tail > _LEAST_TAIL else _LEAST_TAIL


@lane
def in_order_of_size(value: np.float32) -> np.int32:
    """A whole number for each float, in the same order; its own inverse on numbers' bits."""
    bits = np.float32(value).view(np.int32)
    return bits if bits >= 0 else np.int32(bits ^ _MAGNITUDE)


@lane
def size_in_order(number: np.int32) -> np.float32:
    """The float of a whole number of `in_order_of_size`."""
    bits = number if number >= 0 else np.int32(number ^ _MAGNITUDE)
    return np.int32(bits).view(np.float32)


@kernel
def find_rare(
    blocks: Any,
    entry: Any,
    bound: Any,
    first: Word,
    steps: Word,
    identity: Word,
    last: Word,
    k0: Word,
    k1: Word,
    mark: Word,
    kept: Any,
    kept_count: Any,
) -> None:
    """As `candidates.find_rare`, in any order. bound: of each threshold, see `first_not_below`.

    Rare draws are queued, and looked at by all threads together once there are enough.
    """
    queued = cuda.shared.array(1, np.int32)
    who = cuda.shared.array(_ROOM, np.uint32)
    when = cuda.shared.array(_ROOM, np.uint32)
    thread = cuda.threadIdx.x
    if thread == 0:
        queued[0] = 0
    cuda.syncthreads()
    low_last = np.uint32(last + LOW)
    number = np.uint32(blocks.size)
    start = np.uint32(cuda.blockIdx.x) * np.uint32(THREADS * ROUNDS) + np.uint32(thread)
    block, four = start % number, start // number
    more_blocks, more_fours = np.uint32(THREADS) % number, np.uint32(THREADS) // number
    fours = np.uint32(((first + steps + _3) >> _2) - (first >> _2))
    end = np.uint32(first + steps)
    for turn in range(ROUNDS):
        if four < fours:
            here = blocks[block]
            at = np.uint32((first >> _2) + four)
            words = philox(here, at, identity, last, k0, k1)
            for j in range(4):
                word = word_of(words, np.uint32(j))
                step = np.uint32(at * _4 + np.uint32(j))
                if word < NO_GAP and first <= step < end:
                    place = cuda.atomic.add(queued, 0, _ONE)
                    who[place] = np.uint32(here * _BLOCK + np.uint32(gap_of(word)))
                    when[place] = step
        block = np.uint32(block + more_blocks)
        four = np.uint32(four + more_fours)
        if block >= number:
            block = np.uint32(block - number)
            four = np.uint32(four + _1)
        cuda.syncthreads()
        waiting = queued[0]
        while waiting >= THREADS or (turn == _LAST_ROUND and waiting > 0):
            left = max(waiting - THREADS, 0)
            mine = left + thread
            has = mine < waiting
            device, step = _0, _0
            if has:
                device, step = who[mine], when[mine]
            cuda.syncthreads()
            if thread == 0:
                queued[0] = left
            cuda.syncthreads()
            if has:
                a, b, c, _ = philox(device, step, identity, low_last, k0, k1)
                if device < entry.size and place_of(a, b) < bound[entry[device]]:
                    row = np.uint32(step - first)
                    slot = cuda.atomic.add(kept_count, row, _ONE)
                    if slot < kept.shape[1]:
                        kept[row, slot] = np.uint32(_CODES * device + mark)
                following = np.uint32(device + _1 + np.uint32(gap_of(c)))
                if following // _BLOCK == device // _BLOCK:
                    place = cuda.atomic.add(queued, 0, _ONE)
                    who[place] = following
                    when[place] = step
            cuda.syncthreads()
            waiting = queued[0]
        cuda.syncthreads()


@kernel
def screen(
    devices: Any,
    threshold: Any,
    first: Word,
    steps: Word,
    identity: Word,
    last: Word,
    k0: Word,
    k1: Word,
    mark: Word,
    kept: Any,
    kept_count: Any,
) -> None:
    """As `candidates.screen`, in any order."""
    thread = np.uint32(cuda.blockIdx.x) * np.uint32(THREADS) + np.uint32(cuda.threadIdx.x)
    number = np.uint32(devices.size)
    one, eight = thread % number, np.uint32((first >> _3) + thread // number)
    end = np.uint32(first + steps)
    if np.uint32(eight * _8) < end:
        device = devices[one]
        high_last = np.uint32(last + HIGH)
        mask = below(device, eight, identity, high_last, k0, k1, threshold[one])
        if mask != 0:
            for j in range(8):
                step = np.uint32(eight * _8 + np.uint32(j))
                if mask >> np.uint32(j) & _1 and first <= step < end:
                    row = np.uint32(step - first)
                    slot = cuda.atomic.add(kept_count, row, _ONE)
                    if slot < kept.shape[1]:
                        kept[row, slot] = np.uint32(_CODES * device + mark)


@lane
def looked_up(is_rare: bool, high: Word, low: Word, cells: Cells) -> np.float32:
    """What a law gives at a draw; not a number where the law itself must say."""
    if is_rare:
        return quantile_at(rare_tail(high, low), _UPPER, cells)
    tail, is_upper = nearer_tail(high, USUAL)
    return quantile_at(tail, is_upper, cells)


@kernel
def score(
    kept: Any,
    kept_count: Any,
    first: Word,
    identity: Word,
    step_last: Word,
    stall_last: Word,
    k0: Word,
    k1: Word,
    base: Any,
    expected: Any,
    step_entry: Any,
    step_rare: Any,
    step_usual: Any,
    step_value: Any,
    step_bend: Any,
    step_upper: np.float32,
    step_lower: np.float32,
    stalls: bool,
    stall_entry: Any,
    stall_rare: Any,
    stall_usual: Any,
    stall_value: Any,
    stall_bend: Any,
    stall_upper: np.float32,
    stall_lower: np.float32,
    most: np.float32,
    units: np.float32,
    time: Any,
    latest: Any,
    surplus: Any,
) -> None:
    """The times of what was found, as `candidates.judge`, and what they add up to.

    most, units: what differs from what is expected by more than `most`, s, is left to the
    processor; the rest is added to `surplus` in `units` of a second. time: is filled, float32, with
    -inf for what is void and what is not a number for what the tables leave to the law. latest: of
    each step the largest, see `in_order_of_size`.
    """
    thread = cuda.grid(1)
    row, slot = thread // kept.shape[1], thread % kept.shape[1]
    if row >= kept.shape[0] or slot >= kept_count[row]:
        return
    code = kept[row, slot]
    device = np.uint32(code // _CODES)
    step = np.uint32(first + np.uint32(row))
    is_rare, high, low = whole_draw(device, step, identity, step_last, k0, k1)
    bound = step_rare[step_entry[device]] if is_rare else step_usual[step_entry[device]]
    is_below = place_of(high, low) < bound
    as_usual = code & np.uint32(KEPT_AS_USUAL) != 0
    void = as_usual == is_rare or not is_below
    factor = looked_up(is_rare, high, low, Cells(step_value, step_bend, step_upper, step_lower))
    added = _ZERO
    if stalls:
        is_rare, high, low = whole_draw(device, step, identity, stall_last, k0, k1)
        if code & np.uint32(STALL) != 0:
            bound = stall_rare[stall_entry[device]] if is_rare else stall_usual[stall_entry[device]]
            late = place_of(high, low) < bound
            void = as_usual == is_rare or is_below or not late
        added = looked_up(
            is_rare, high, low, Cells(stall_value, stall_bend, stall_upper, stall_lower)
        )
    found = base[device] * factor + added
    if void:
        time[row, slot] = _NEVER
        return
    time[row, slot] = found
    if found == found:
        cuda.atomic.max(latest, row, in_order_of_size(found))
        excess = found - expected[device]
        if abs(excess) <= most:
            cuda.atomic.add(surplus, row, np.int64(excess * units))


@kernel
def hand_back(
    kept: Any,
    kept_count: Any,
    time: Any,
    latest: Any,
    expected: Any,
    relative: np.float32,
    absolute: np.float32,
    most: np.float32,
    chosen: Any,
    chosen_count: Any,
) -> None:
    """What may be the last arrival of each step, or is left to the processor.

    relative, absolute: the room for errors of `time`, of its size and in s. chosen: shape
    (steps, capacity), uint32, is filled in any order with twice the number of a device, and one
    more if `surplus` is without it.
    """
    thread = cuda.grid(1)
    row, slot = thread // kept.shape[1], thread % kept.shape[1]
    if row >= kept.shape[0] or slot >= kept_count[row]:
        return
    found = time[row, slot]
    if found == _NEVER:
        return
    best = size_in_order(latest[row])
    device = kept[row, slot] // _CODES
    near = found >= best - (abs(best) * relative + absolute)
    # What is not a number is not summed.
    summed = abs(found - expected[device]) <= most
    if near or not summed:
        place = cuda.atomic.add(chosen_count, row, _ONE)
        if place < chosen.shape[1]:
            chosen[row, place] = np.uint32(device * _2 + (_0 if summed else _1))


@lane
def _find_tails(
    block: Word, step: Word, identity: Word, last: Word, k0: Word, k1: Word, tails: Any
) -> None:
    """Fill `tails` with the rare draws of a block of devices in a step."""
    words = philox(block, step >> _2, identity, last, k0, k1)
    word = word_of(words, step & _3)
    low_last = np.uint32(last + LOW)
    place = np.uint32(gap_of(word))
    while place < _BLOCK:
        device = np.uint32(block * _BLOCK + place)
        a, b, c, _ = philox(device, step, identity, low_last, k0, k1)
        tails[place] = rare_tail(a, b)
        place = np.uint32(place + _1 + np.uint32(gap_of(c)))


@lane
def _count(value: np.float32, start: np.int32, window: Any, counts: Any) -> None:
    number = bin_of_float(value)
    inside = np.int32(number - start)
    if 0 <= inside < WINDOW:
        cuda.atomic.add(window, inside, _ONE)
    else:
        cuda.atomic.add(counts, number, np.int64(1))


@kernel
def count_devices(
    base: Any,
    step_value: Any,
    step_bend: Any,
    step_upper: np.float32,
    step_lower: np.float32,
    stalls: bool,
    stall_value: Any,
    stall_bend: Any,
    stall_upper: np.float32,
    stall_lower: np.float32,
    first: Word,
    steps: Word,
    eights: Word,
    latest: Any,
    identity: Word,
    step_last: Word,
    stall_last: Word,
    k0: Word,
    k1: Word,
    time_start: np.int32,
    wait_start: np.int32,
    times: Any,
    waits: Any,
    missed: Any,
    lost: Any,
) -> None:
    """As `devices.count_devices`: a block of threads is a block of devices, in `eights` x 8 steps.

    latest: float32. time_start, wait_start: the first bins of those that are counted within the
    block of threads. missed: what the tables leave to the law, in any order; lost: shape (1,), how
    many there are.
    """
    step_tails = cuda.shared.array((8, DEVICES_PER_BLOCK), np.float32)
    stall_tails = cuda.shared.array((8, DEVICES_PER_BLOCK), np.float32)
    time_window = cuda.shared.array(WINDOW, np.int32)
    wait_window = cuda.shared.array(WINDOW, np.int32)
    thread = cuda.threadIdx.x
    for k in range(thread, WINDOW, DEVICES_PER_BLOCK):
        time_window[k] = 0
        wait_window[k] = 0
    for j in range(8):
        step_tails[j, thread] = _ZERO
        stall_tails[j, thread] = _ZERO
    cuda.syncthreads()
    block = np.uint32(cuda.blockIdx.x)
    device = np.uint32(block * _BLOCK + np.uint32(thread))
    exists = device < base.size
    undisturbed = base[device] if exists else _ZERO
    step_cells = Cells(step_value, step_bend, step_upper, step_lower)
    stall_cells = Cells(stall_value, stall_bend, stall_upper, stall_lower)
    end = np.uint32(first + steps)
    begin = np.uint32((first >> _3) + np.uint32(cuda.blockIdx.y) * eights)
    stop = min(np.uint32(begin + eights), np.uint32((end + np.uint32(7)) >> _3))
    for eight in range(begin, stop):
        if thread < 8:
            step = np.uint32(np.uint32(eight) * _8 + np.uint32(thread))
            _find_tails(block, step, identity, step_last, k0, k1, step_tails[thread])
        elif stalls and thread < 16:
            step = np.uint32(np.uint32(eight) * _8 + np.uint32(thread - 8))
            _find_tails(block, step, identity, stall_last, k0, k1, stall_tails[thread - 8])
        cuda.syncthreads()
        high = philox(device, np.uint32(eight), identity, np.uint32(step_last + HIGH), k0, k1)
        middle = philox(device, np.uint32(eight), identity, np.uint32(step_last + MIDDLE), k0, k1)
        stall_high, stall_middle = high, middle
        if stalls:
            stall_high = philox(
                device, np.uint32(eight), identity, np.uint32(stall_last + HIGH), k0, k1
            )
            stall_middle = philox(
                device, np.uint32(eight), identity, np.uint32(stall_last + MIDDLE), k0, k1
            )
        for j in range(8):
            step = np.uint32(np.uint32(eight) * _8 + np.uint32(j))
            time = undisturbed * _value_of(
                step_tails[j, thread], high, middle, np.uint32(j), step_cells
            )
            step_tails[j, thread] = _ZERO
            if stalls:
                time += _value_of(
                    stall_tails[j, thread], stall_high, stall_middle, np.uint32(j), stall_cells
                )
                stall_tails[j, thread] = _ZERO
            if exists and first <= step < end:
                if time == time:
                    wait = np.float32(latest[np.uint32(step - first)] - time)
                    _count(time, time_start, time_window, times)
                    _count(wait if wait > _ZERO else _ZERO, wait_start, wait_window, waits)
                else:
                    place = cuda.atomic.add(lost, 0, np.int64(1))
                    if place < missed.shape[0]:
                        missed[place, 0] = device
                        missed[place, 1] = step
        cuda.syncthreads()
    for k in range(thread, WINDOW, DEVICES_PER_BLOCK):
        if time_window[k] != 0:
            cuda.atomic.add(times, time_start + k, np.int64(time_window[k]))
        if wait_window[k] != 0:
            cuda.atomic.add(waits, wait_start + k, np.int64(wait_window[k]))


@lane
def _value_of(rare: np.float32, high: Any, middle: Any, place: Word, cells: Cells) -> np.float32:
    """What a law gives a device at a place of eight. rare: its draw if that is rare, or 0."""
    if rare > _ZERO:
        return quantile_at(rare, _UPPER, cells)
    word = np.uint32(half_of(high, place) << _16 | half_of(middle, place))
    tail, is_upper = nearer_tail(word, USUAL)
    return quantile_at(tail, is_upper, cells)
