"""The hot loop: which devices may be the last of a step, and exactly when they arrive.

A device's draw is a survival probability of 64 bits: 16, 16 and 32 bits from three addresses.
The smaller it is, the later the device. `screen` looks at the first 16 bits of every device and
keeps those below the device's threshold; all the others are known to be early enough. `complete`
draws the remaining 48 bits of the few that are kept.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mcsim.engine.compile import kernel, lane
from mcsim.engine.philox import Word, Words, philox, to_survival
from mcsim.laws import FloatArray

DEVICES_PER_BLOCK = 8
"""Four words, two halves each: the devices that share one call of Philox."""
BLOCKS_PER_CHUNK = 256
"""Thresholds of a chunk (8 kB) stay in the first-level cache over the steps of a tile."""
ALWAYS = 1 << 16
"""The threshold of a device that is always kept."""

_1 = np.uint32(1)
_2 = np.uint32(2)
_3 = np.uint32(3)
_4 = np.uint32(4)
_5 = np.uint32(5)
_6 = np.uint32(6)
_7 = np.uint32(7)
_16 = np.uint32(16)
_LOW_HALF = np.uint32(0xFFFF)


@lane
def _kept(
    block: Word,
    step: Word,
    identity: Word,
    last: Word,
    k0: Word,
    k1: Word,
    threshold: Words,
    column: int,
) -> Word:
    """Eight bits: which of the eight devices of a block are below their thresholds."""
    a, b, c, d = philox(block, step, identity, last, k0, k1)
    return (
        np.uint32((a >> _16) < threshold[0, column])
        | np.uint32((a & _LOW_HALF) < threshold[1, column]) << _1
        | np.uint32((b >> _16) < threshold[2, column]) << _2
        | np.uint32((b & _LOW_HALF) < threshold[3, column]) << _3
        | np.uint32((c >> _16) < threshold[4, column]) << _4
        | np.uint32((c & _LOW_HALF) < threshold[5, column]) << _5
        | np.uint32((d >> _16) < threshold[6, column]) << _6
        | np.uint32((d & _LOW_HALF) < threshold[7, column]) << _7
    )


@kernel
def screen(
    threshold: Words,
    stall_threshold: Words,
    count: int,
    steps: Words,
    identity: Word,
    step_last: Word,
    stall_last: Word,
    k0: Word,
    k1: Word,
    kept: NDArray[np.int32],
    kept_count: NDArray[np.int64],
) -> None:
    """The devices of a group that are below a threshold, for each of some steps.

    threshold, stall_threshold: shape (8, blocks), for device 8 * block + row; stall_threshold
        has no blocks where the group has no stalls. count: devices.
    kept: shape (steps, capacity), filled with device numbers in increasing order;
    kept_count: shape (steps,), how many there were, even beyond the capacity.
    """
    stalls = stall_threshold.shape[1] > 0
    capacity = kept.shape[1]
    blocks = (count + DEVICES_PER_BLOCK - 1) // DEVICES_PER_BLOCK
    masks = np.empty(BLOCKS_PER_CHUNK, np.uint32)
    kept_count[:] = 0
    for first in range(0, blocks, BLOCKS_PER_CHUNK):
        size = min(BLOCKS_PER_CHUNK, blocks - first)
        for s in range(steps.size):
            step = steps[s]
            found = np.uint32(0)
            for l in range(size):
                mask = _kept(
                    np.uint32(first + l), step, identity, step_last, k0, k1, threshold, first + l
                )
                masks[l] = mask
                found |= mask
            if stalls:
                for l in range(size):
                    mask = _kept(
                        np.uint32(first + l),
                        step,
                        identity,
                        stall_last,
                        k0,
                        k1,
                        stall_threshold,
                        first + l,
                    )
                    masks[l] |= mask
                    found |= mask
            if found != 0:
                n = kept_count[s]
                for l in range(size):
                    if masks[l] != 0:
                        for row in range(DEVICES_PER_BLOCK):
                            device = (first + l) * DEVICES_PER_BLOCK + row
                            # Rows beyond the last device have threshold 0 and are never kept.
                            if masks[l] >> np.uint32(row) & _1:
                                if n < capacity:
                                    kept[s, n] = device
                                n += 1
                kept_count[s] = n


@lane
def _half(
    block: Word, half: int, step: Word, identity: Word, last: Word, k0: Word, k1: Word
) -> Word:
    """One of the eight 16-bit pieces at an address."""
    a, b, c, d = philox(block, step, identity, last, k0, k1)
    word = a
    if half >= 6:
        word = d
    elif half >= 4:
        word = c
    elif half >= 2:
        word = b
    if half & 1:
        return word & _LOW_HALF
    return word >> _16


@kernel
def complete(
    device: NDArray[np.int32], step: Words, identity: Word, last: Word, k0: Word, k1: Word
) -> FloatArray:
    """The whole survival probabilities of some devices in some steps.

    device, step: shape (n,). last: the last word of the address of the first piece; those of
    the second and third follow it. Result: shape (n,), in (0, 1).
    """
    out = np.empty(device.size, np.float64)
    for i in range(device.size):
        block = np.uint32(device[i] >> 3)
        half = device[i] & 7
        high = _half(block, half, step[i], identity, last, k0, k1)
        middle = _half(block, half, step[i], identity, np.uint32(last + _1), k0, k1)
        low, _, _, _ = philox(np.uint32(device[i]), step[i], identity, np.uint32(last + _2), k0, k1)
        out[i] = to_survival(high << _16 | middle, low)
    return out


@kernel
def last_of_each(
    offsets: NDArray[np.int64],
    time: FloatArray,
    survival: FloatArray,
    excess: FloatArray,
    latest: FloatArray,
    draw: FloatArray,
    surplus: FloatArray,
) -> None:
    """The last arrival among the candidates of each step, and their surplus of time.

    offsets: shape (steps + 1,), where each step's candidates begin. time, survival, excess:
    one entry a candidate. latest, draw, surplus: shape (steps,), filled with the largest time
    (-inf where there is no candidate), the survival probability it was drawn at (the smallest
    among equal times), and the sum of `excess`, in the order of the candidates.
    """
    for s in range(offsets.size - 1):
        best = -np.inf
        drawn = 1.0
        total = 0.0
        for i in range(offsets[s], offsets[s + 1]):
            total += excess[i]
            if time[i] > best or (time[i] == best and survival[i] < drawn):
                best = time[i]
                drawn = survival[i]
        latest[s] = best
        draw[s] = drawn
        surplus[s] = total
