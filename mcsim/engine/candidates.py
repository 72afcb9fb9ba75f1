"""The hot loops: which devices may be the last of a step.

Each device has a threshold; one whose draw is at or above it is known to be early enough. Rare
draws (`draws.RARE`) are found by gaps, a word for 128 devices, and kept if they are below their
device's threshold. Draws that are not rare matter only for devices whose threshold is above RARE:
`screen` looks at their first 16 bits.

What is kept of a step is a list of codes: four times the device, plus STALL if it is for the
draw of its stall, plus USUAL if it is kept as one that is not rare.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mcsim.engine.compile import kernel, lane
from mcsim.engine.draws import (
    DEVICES_PER_BLOCK,
    HIGH,
    LOW,
    NO_GAP,
    gap_of,
    half_of,
    rare_survival,
)
from mcsim.engine.philox import Word, Words, philox
from mcsim.laws import FloatArray

USUAL = 1
STALL = 2
CODES = 4
"""A code is CODES * device + STALL + USUAL."""

_CHUNK = 256
"""Lanes of a loop: its buffers stay in the first-level cache."""
_1 = np.uint32(1)
_2 = np.uint32(2)
_3 = np.uint32(3)


@kernel
def find_rare(
    blocks: Words,
    entry: NDArray[np.uint16],
    threshold: FloatArray,
    first: int,
    steps: int,
    identity: Word,
    last: Word,
    k0: Word,
    k1: Word,
    mark: int,
    kept: NDArray[np.int64],
    kept_count: NDArray[np.int64],
) -> None:
    """The devices whose draws are rare and below their threshold, for some steps.

    blocks: those to look at. entry: shape (devices,), the threshold of each device as a place in
    `threshold`. last: of the address of the draw's gaps. mark: what is added to the codes.
    kept: shape (steps, capacity), what follows the first `kept_count` codes of each step is
    filled; kept_count: shape (steps,), counts on, even beyond the capacity.
    """
    low_last = np.uint32(last + LOW)
    words = np.empty((4, _CHUNK), np.uint32)
    some = np.empty(_CHUNK, np.uint32)
    # Of the chunk, the devices with a rare draw so far, and the pieces of their draws.
    device = np.empty(4 * _CHUNK, np.int64)
    at = np.empty(4 * _CHUNK, np.uint32)
    piece = np.empty((3, 4 * _CHUNK), np.uint32)
    for start in range(0, blocks.size, _CHUNK):
        size = min(_CHUNK, blocks.size - start)
        # A slice: indices that may be negative make a gather of a load.
        here_blocks = blocks[start : start + size]
        for four in range(first >> 2, (first + steps + 3) >> 2):
            for l in range(size):
                a, b, c, d = philox(here_blocks[l], np.uint32(four), identity, last, k0, k1)
                words[0, l] = a
                words[1, l] = b
                words[2, l] = c
                words[3, l] = d
                some[l] = (
                    np.uint32(a < NO_GAP)
                    | np.uint32(b < NO_GAP)
                    | np.uint32(c < NO_GAP)
                    | np.uint32(d < NO_GAP)
                )
            n = 0
            for l in range(size):
                if some[l] != 0:
                    for j in range(4):
                        step = 4 * four + j
                        if words[j, l] < NO_GAP and first <= step < first + steps:
                            block = np.int64(here_blocks[l])
                            device[n] = block * DEVICES_PER_BLOCK + gap_of(words[j, l])
                            at[n] = step
                            n += 1
            # From each rare draw to the next of its block, until there is none.
            while n > 0:
                for l in range(n):
                    a, b, c, _ = philox(np.uint32(device[l]), at[l], identity, low_last, k0, k1)
                    piece[0, l] = a
                    piece[1, l] = b
                    piece[2, l] = c
                more = 0
                for l in range(n):
                    here = device[l]
                    # The last block may reach beyond the last device.
                    if here < entry.size and (
                        rare_survival(piece[0, l], piece[1, l]) < threshold[entry[here]]
                    ):
                        _keep(CODES * here + mark, np.int64(at[l]) - first, kept, kept_count)
                    following = here + 1 + gap_of(piece[2, l])
                    if following // DEVICES_PER_BLOCK == here // DEVICES_PER_BLOCK:
                        device[more] = following
                        at[more] = at[l]
                        more += 1
                n = more


@lane
def _keep(
    code: np.int64, row: np.int64, kept: NDArray[np.int64], kept_count: NDArray[np.int64]
) -> None:
    n = kept_count[row]
    if n < kept.shape[1]:
        kept[row, n] = code
    kept_count[row] = n + 1


@lane
def below(
    device: Word,
    eight: Word,
    identity: Word,
    last: Word,
    k0: Word,
    k1: Word,
    threshold: Word,
) -> Word:
    """Eight bits: in which of eight steps the first 16 bits of a device are below a threshold."""
    words = philox(device, eight, identity, last, k0, k1)
    mask = np.uint32(0)
    for place in range(8):
        mask |= np.uint32(half_of(words, np.uint32(place)) < threshold) << np.uint32(place)
    return mask


@kernel
def screen(
    devices: Words,
    threshold: Words,
    first: int,
    steps: int,
    identity: Word,
    last: Word,
    k0: Word,
    k1: Word,
    mark: int,
    kept: NDArray[np.int64],
    kept_count: NDArray[np.int64],
) -> None:
    """The devices whose draws, if they are not rare, may be below their threshold.

    devices, threshold: shape (n,); the first 16 bits of a device must be below its threshold.
    The rest as for `find_rare`; devices of which a draw is rare may be among them.
    """
    high_last = np.uint32(last + HIGH)
    masks = np.empty(_CHUNK, np.uint32)
    for start in range(0, devices.size, _CHUNK):
        size = min(_CHUNK, devices.size - start)
        some, bound = devices[start : start + size], threshold[start : start + size]
        for eight in range(first >> 3, (first + steps + 7) >> 3):
            found = np.uint32(0)
            for l in range(size):
                mask = below(
                    some[l],
                    np.uint32(eight),
                    identity,
                    high_last,
                    k0,
                    k1,
                    bound[l],
                )
                masks[l] = mask
                found |= mask
            if found != 0:
                for l in range(size):
                    if masks[l] != 0:
                        for place in range(8):
                            row = np.int64(8 * eight + place - first)
                            if masks[l] >> np.uint32(place) & _1 and 0 <= row < steps:
                                code = CODES * np.int64(some[l]) + mark
                                _keep(code, row, kept, kept_count)


@kernel
def in_order(
    kept: NDArray[np.int64], kept_count: NDArray[np.int64], first: int
) -> tuple[NDArray[np.int64], Words, NDArray[np.int64]]:
    """The candidates of all steps one after the other: their devices, steps, and codes.

    kept, kept_count: as `find_rare` and `screen` fill them. first: the first step.
    """
    count = kept_count.sum()
    device = np.empty(count, np.int64)
    step = np.empty(count, np.uint32)
    code = np.empty(count, np.int64)
    n = 0
    for row in range(kept_count.size):
        for i in range(kept_count[row]):
            code[n] = kept[row, i]
            device[n] = kept[row, i] // CODES
            step[n] = first + row
            n += 1
    return device, step, code


@kernel
def judge(
    code: NDArray[np.int64],
    survival: FloatArray,
    rare: NDArray[np.bool_],
    entry: NDArray[np.uint16],
    threshold: FloatArray,
    stalls: bool,
    stall_survival: FloatArray,
    stall_rare: NDArray[np.bool_],
    stall_entry: NDArray[np.uint16],
    stall_threshold: FloatArray,
    expected: FloatArray,
    time: FloatArray,
    excess: FloatArray,
) -> None:
    """Which candidates are what they were kept as, and the surplus of their times.

    code, survival, rare, time: shape (n,); draws and whether they are rare, times in s. entry,
    threshold: of the devices' thresholds. The same of stalls, if there are any. expected: shape
    (devices,), s. excess: shape (n,), is filled with the time less the expected one. What is not
    below its threshold, or kept for a draw that it does not have, gets the time -inf and no
    excess; so does what is kept for its stall as well as for its step.
    """
    for i in range(code.size):
        device = code[i] // CODES
        usual = code[i] & USUAL != 0
        below = survival[i] < threshold[entry[device]]
        if stalls and code[i] & STALL != 0:
            late = stall_survival[i] < stall_threshold[stall_entry[device]]
            void = usual == stall_rare[i] or below or not late
        else:
            void = usual == rare[i] or not below
        excess[i] = 0.0 if void else time[i] - expected[device]
        if void:
            time[i] = -np.inf


@kernel
def last_of_each(
    offsets: NDArray[np.int64],
    device: NDArray[np.int64],
    time: FloatArray,
    survival: FloatArray,
    excess: FloatArray,
    latest: FloatArray,
    draw: FloatArray,
    who: NDArray[np.int64],
    surplus: FloatArray,
) -> None:
    """The last arrival among the candidates of each step, and their surplus of time.

    offsets: shape (steps + 1,), where each step's candidates begin. device, time, survival,
    excess: one entry a candidate. latest, draw, who, surplus: shape (steps,), filled with the
    largest time (-inf where there is no candidate), the survival probability it was drawn at (the
    smallest among equal times), its device, and the sum of `excess`, in the order of the
    candidates.
    """
    for s in range(offsets.size - 1):
        best = -np.inf
        drawn = 1.0
        last = np.int64(0)
        total = 0.0
        for i in range(offsets[s], offsets[s + 1]):
            total += excess[i]
            if time[i] > best or (time[i] == best and survival[i] < drawn):
                best = time[i]
                drawn = survival[i]
                last = device[i]
        latest[s] = best
        draw[s] = drawn
        who[s] = last
        surplus[s] = total
