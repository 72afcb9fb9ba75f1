"""Random words from addresses: Philox4x32-10.

Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011;
oracle: the known answers of Random123 1.14.

Every random number of mcsim has an address and nothing else: no stream, no state, no order.

    key      the run's seed, 64 bits
    word 0   index: a device, a block of devices, a node, a rack; 0 for what has none
    word 1   step, or four or eight steps together; 0 for what is drawn once a replicate
    word 2   identity: a hash of the name of the group, site or link
    word 3   replicate (24 bits) and purpose (8 bits)

The packing is injective, so no two numbers share bits, whatever the threads, tiles or shards.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from mcsim.engine.compile import kernel, lane
from mcsim.laws import FloatArray

GENERATOR = "philox4x32-10, address layout 2"
"""Changes whenever the same seed would give other numbers."""

Word = np.uint32
Words = NDArray[np.uint32]
FourWords = tuple[Word, Word, Word, Word]

# Explicit types throughout: in Numba `uint64 op int literal` is a signed number.
_M0 = np.uint64(0xD2511F53)
_M1 = np.uint64(0xCD9E8D57)
_W0 = np.uint32(0x9E3779B9)
_W1 = np.uint32(0xBB67AE85)
_32 = np.uint64(32)
_ULP = 2.0**-64
NEAREST_ONE = 1.0 - 2.0**-53
SMALLEST = 2.0**-65


class Purpose(IntEnum):
    """What a number is drawn for: one byte of its address.

    The draws of every device in every step come in four pieces with a purpose each (see
    `mcsim.engine.draws`), of which most devices never need any of their own.
    """

    STEP = 0
    STALL = 4
    # Of a device in an operation of a pipeline: also in four pieces.
    OPERATION = 8
    TENSOR_DELAY = 12
    PERSISTENT = 16
    NODE = 17
    RACK = 18
    SITE = 19
    STALL_PLACE = 20
    EXPERT_DELAY = 24
    HANDING_DELAY = 28
    NODE_DELAY = 32
    SITE_DELAY = 33
    LINK_DELAY = 34
    LINK_FLAP = 35
    EXACT = 48
    # Of each level two: refreshes, and the state before the first.
    SLOW_DEVICE = 64
    SLOW_NODE = 66
    SLOW_RACK = 68
    LANE_DOWN = 70
    SLOW_LINK = 72
    SLOW_SITE = 96
    SHOCK_DEVICE = 98
    SHOCK_NODE = 99
    SHOCK_RACK = 100
    SHOCK_SITE = 101
    REFRESH = 104


def key_of(seed: int) -> tuple[np.uint32, np.uint32]:
    """The two words of Philox's key."""
    return np.uint32(seed & 0xFFFFFFFF), np.uint32(seed >> 32)


def word_3(replicate: int, purpose: Purpose) -> np.uint32:
    """The last word of an address. replicate: below 2^24."""
    return np.uint32(replicate << 8 | purpose)


@lane
def _round(a: Word, b: Word, c: Word, d: Word, k0: Word, k1: Word) -> FourWords:
    p = _M0 * np.uint64(a)
    q = _M1 * np.uint64(c)
    return (
        np.uint32(q >> _32) ^ b ^ k0,
        np.uint32(q),
        np.uint32(p >> _32) ^ d ^ k1,
        np.uint32(p),
    )


@lane
def philox(a: Word, b: Word, c: Word, d: Word, k0: Word, k1: Word) -> FourWords:
    """Four random words at the address (a, b, c, d) under the key (k0, k1); all uint32."""
    # Rounds written out: 0.28 ns a word on two cores; as a loop LLVM does not vectorise, 4.7.
    a, b, c, d = _round(a, b, c, d, k0, k1)
    k0 = np.uint32(k0 + _W0)
    k1 = np.uint32(k1 + _W1)
    a, b, c, d = _round(a, b, c, d, k0, k1)
    k0 = np.uint32(k0 + _W0)
    k1 = np.uint32(k1 + _W1)
    a, b, c, d = _round(a, b, c, d, k0, k1)
    k0 = np.uint32(k0 + _W0)
    k1 = np.uint32(k1 + _W1)
    a, b, c, d = _round(a, b, c, d, k0, k1)
    k0 = np.uint32(k0 + _W0)
    k1 = np.uint32(k1 + _W1)
    a, b, c, d = _round(a, b, c, d, k0, k1)
    k0 = np.uint32(k0 + _W0)
    k1 = np.uint32(k1 + _W1)
    a, b, c, d = _round(a, b, c, d, k0, k1)
    k0 = np.uint32(k0 + _W0)
    k1 = np.uint32(k1 + _W1)
    a, b, c, d = _round(a, b, c, d, k0, k1)
    k0 = np.uint32(k0 + _W0)
    k1 = np.uint32(k1 + _W1)
    a, b, c, d = _round(a, b, c, d, k0, k1)
    k0 = np.uint32(k0 + _W0)
    k1 = np.uint32(k1 + _W1)
    a, b, c, d = _round(a, b, c, d, k0, k1)
    k0 = np.uint32(k0 + _W0)
    k1 = np.uint32(k1 + _W1)
    return _round(a, b, c, d, k0, k1)


@lane
def to_survival(high: Word, low: Word) -> float:
    """A survival probability from 64 random bits, in [2^-65, 1 - 2^-53].

    Midpoints of 2^64 equal cells, so that neither 0 nor 1 occurs.
    """
    index = np.uint64(high) << _32 | np.uint64(low)
    return min((np.float64(index) + 0.5) * _ULP, NEAREST_ONE)


@kernel
def survivals(
    index: Words, step: Words, identity: Word, last: Word, k0: Word, k1: Word
) -> FloatArray:
    """One survival probability at each address (index[i], step[i], identity, last).

    index, step: shape (n,), uint32; the others uint32. Result: shape (n,), in (0, 1).
    """
    out = np.empty(index.size, np.float64)
    for i in range(index.size):
        high, low, _, _ = philox(index[i], step[i], identity, last, k0, k1)
        out[i] = to_survival(high, low)
    return out


@kernel
def raw_words(counters: Words, k0: Word, k1: Word) -> Words:
    """The words at each of `counters`, shape (n, 4), uint32; the generator itself, for tests."""
    out = np.empty_like(counters)
    for i in range(counters.shape[0]):
        a, b, c, d = counters[i]
        out[i, 0], out[i, 1], out[i, 2], out[i, 3] = philox(a, b, c, d, k0, k1)
    return out
