"""The draw of a device in a step: a survival probability of 64 bits, made no further than asked.

The smaller the draw, the later the device, and only the latest matter. So the first question
is not what a device's draw is, but which of 128 devices have a *rare* one, below 2^-11: one
word answers it for all of them, as the number of devices before the first that has (a geometric
gap). Only what may matter is drawn further. Draws are independent and uniform, each with its own
address, whether asked for alone or with all others:

    gap       of a block of devices in a step: how many come before its first rare one
    high      16 bits of a draw that is not rare
    middle    16 bits
    low       32 bits; for a rare draw, instead: all 64, and the gap to the next rare one

Words of `gap` serve four steps, those of `high` and `middle` eight, so that looking at few devices
over many steps costs no more than at many devices.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mcsim.engine.compile import kernel, lane
from mcsim.engine.philox import NEAREST_ONE, SMALLEST, FourWords, Word, Words, philox, to_survival
from mcsim.laws import FloatArray

RARE = 2.0**-11
"""Below it a draw is rare."""
DEVICES_PER_BLOCK = 128

HIGH, MIDDLE, LOW = np.uint32(1), np.uint32(2), np.uint32(3)
"""The purposes of the pieces, counted from that of the gap."""

GAPS = np.floor(-np.expm1(np.arange(1, DEVICES_PER_BLOCK + 1) * np.log1p(-RARE)) * 2.0**32).astype(
    np.uint32
)
"""A word below GAPS[j] has at most j devices before the next rare one: 2^32 (1 - (1-RARE)^(j+1)).

Rounded to 32 bits: that a block has a rare draw is right to 4e-9, which of its devices to 5e-7.
"""
NO_GAP = GAPS[-1]
"""A word from here on has no rare draw among 128 devices."""

_USUAL = 1.0 - RARE
# In single precision, all that is needed, and on accelerators all that is fast.
_RATE = np.float32(1.0 / -np.log1p(-RARE))
_WORD = np.float32(2.0**-32)
_ONE, _HALF, _THIRD = np.float32(1.0), np.float32(0.5), np.float32(1.0 / 3.0)
_1 = np.uint32(1)
_2 = np.uint32(2)
_3 = np.uint32(3)
_7 = np.uint32(7)
_16 = np.uint32(16)
_32 = np.uint64(32)
_BLOCK = np.uint32(DEVICES_PER_BLOCK)
_LOW_HALF = np.uint32(0xFFFF)
_CHUNK = 256


@lane
def word_of(words: FourWords, place: Word) -> Word:
    """The word of the step that is at `place` of four."""
    a, b, c, d = words
    word = a
    if place == 1:
        word = b
    if place == 2:
        word = c
    if place == 3:
        word = d
    return word


@lane
def half_of(words: FourWords, place: Word) -> Word:
    """The 16 bits of the step that is at `place` of eight."""
    word = word_of(words, place >> _1)
    return word & _LOW_HALF if place & _1 else word >> _16


@lane
def gap_of(word: Word) -> int:
    """Devices before the next rare draw; DEVICES_PER_BLOCK where that is beyond any block."""
    if word >= NO_GAP:
        return DEVICES_PER_BLOCK
    # The logarithm's series finds the entry up to one; the table of integers decides.
    x = np.float32(word) * _WORD
    series = x * (_ONE + x * (_HALF + x * _THIRD)) * _RATE
    gap = min(int(series), DEVICES_PER_BLOCK - 1)
    if word >= GAPS[gap]:
        return gap + 1
    if gap > 0 and word < GAPS[gap - 1]:
        return gap - 1
    return gap


@lane
def rare_survival(high: Word, low: Word) -> float:
    """A rare draw from its 64 bits, in [2^-65, 2^-11]."""
    return max(RARE * to_survival(high, low), SMALLEST)


@lane
def usual_survival(high: Word, low: Word) -> float:
    """A draw that is not rare from its 64 bits, in [2^-11, 1 - 2^-53]."""
    return min(RARE + _USUAL * to_survival(high, low), NEAREST_ONE)


@lane
def _is_rare(
    device: Word, step: Word, word: Word, identity: Word, low_last: Word, k0: Word, k1: Word
) -> bool:
    """Whether a device's draw is rare: from gap to gap through its block, `word` the first."""
    place = int(device) % DEVICES_PER_BLOCK
    start = int(device) - place
    at = gap_of(word)
    while at < place:
        _, _, following, _ = philox(np.uint32(start + at), step, identity, low_last, k0, k1)
        at += 1 + gap_of(following)
    return at == place


@lane
def place_of(high: Word, low: Word) -> np.uint64:
    """The 64 bits of a draw as one number; the smaller, the later the device."""
    return np.uint64(high) << _32 | np.uint64(low)


@lane
def whole_draw(
    device: Word, step: Word, identity: Word, last: Word, k0: Word, k1: Word
) -> tuple[bool, Word, Word]:
    """Whether a device's draw in a step is rare, and its 64 bits: what `complete` is made of."""
    words = philox(device // _BLOCK, step >> _2, identity, last, k0, k1)
    low_last = np.uint32(last + LOW)
    gap = word_of(words, step & _3)
    a, b, _, _ = philox(device, step, identity, low_last, k0, k1)
    if gap < NO_GAP and _is_rare(device, step, gap, identity, low_last, k0, k1):
        return True, a, b
    eight, place = step >> _3, step & _7
    high = philox(device, eight, identity, np.uint32(last + HIGH), k0, k1)
    middle = philox(device, eight, identity, np.uint32(last + MIDDLE), k0, k1)
    return False, half_of(high, place) << _16 | half_of(middle, place), a


def first_not_below(threshold: FloatArray, *, rare: bool) -> NDArray[np.uint64]:
    """Of each threshold, how many of the draws of 64 bits (see `place_of`) are below it.

    What is below in floating point is below in whole numbers. 2^64 - 1 stands for all of them.
    """

    def survival(place: NDArray[np.uint64]) -> FloatArray:
        unit = np.minimum((place.astype(np.float64) + 0.5) * 2.0**-64, NEAREST_ONE)
        if rare:
            return np.maximum(RARE * unit, SMALLEST)
        return np.minimum(RARE + _USUAL * unit, NEAREST_ONE)

    low = np.zeros(threshold.shape, np.uint64)
    high = np.full(threshold.shape, 0xFFFFFFFFFFFFFFFF, np.uint64)
    for _ in range(64):
        middle = low + (high - low) // np.uint64(2)
        below = (survival(middle) < threshold) & (low < high)
        low, high = np.where(below, middle + np.uint64(1), low), np.where(below, high, middle)
    return low


@kernel
def complete(
    device: NDArray[np.int64], step: Words, identity: Word, last: Word, k0: Word, k1: Word
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """The whole draws of some devices in some steps, and which of them are rare.

    device, step: shape (n,). last: the last word of the address of the draw's gaps.
    Result: shape (n,), the draws in (0, 1).
    """
    survival = np.empty(device.size, np.float64)
    rare = np.empty(device.size, np.bool_)
    gap = np.empty(_CHUNK, np.uint32)
    upper = np.empty(_CHUNK, np.uint32)
    lower = np.empty(_CHUNK, np.uint32)
    other = np.empty(_CHUNK, np.uint32)
    for first in range(0, device.size, _CHUNK):
        size = min(_CHUNK, device.size - first)
        # Slices: indices that may be negative make gathers of loads.
        who, when = device[first : first + size], step[first : first + size]
        # A loop a piece: so each vectorises.
        for l in range(size):
            block = np.uint32(who[l] // DEVICES_PER_BLOCK)
            at = when[l]
            words = philox(block, at >> _2, identity, last, k0, k1)
            gap[l] = word_of(words, at & _3)
        for l in range(size):
            at = when[l]
            words = philox(np.uint32(who[l]), at >> _3, identity, np.uint32(last + HIGH), k0, k1)
            upper[l] = half_of(words, at & np.uint32(7)) << _16
        for l in range(size):
            at = when[l]
            words = philox(np.uint32(who[l]), at >> _3, identity, np.uint32(last + MIDDLE), k0, k1)
            upper[l] |= half_of(words, at & np.uint32(7))
        for l in range(size):
            a, b, _, _ = philox(
                np.uint32(who[l]),
                when[l],
                identity,
                np.uint32(last + LOW),
                k0,
                k1,
            )
            lower[l] = a
            other[l] = b
        for l in range(size):
            found = False
            if gap[l] < NO_GAP:
                found = _is_rare(
                    np.uint32(who[l]),
                    when[l],
                    gap[l],
                    identity,
                    np.uint32(last + LOW),
                    k0,
                    k1,
                )
            rare[first + l] = found
            if found:
                survival[first + l] = rare_survival(lower[l], other[l])
            else:
                survival[first + l] = usual_survival(upper[l], lower[l])
    return survival, rare
