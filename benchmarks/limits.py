"""What a GPU can do at most: kernels that do nothing else."""

from __future__ import annotations

import numpy as np

from mcsim.engine.cuda import cuda, kernel
from mcsim.engine.philox import philox

_1, _2, _7 = np.uint32(1), np.uint32(2), np.uint32(7)
_A, _B = np.uint32(0x9E3779B9), np.uint32(0xBB67AE85)


@kernel
def words(out, calls):
    """Four words a call and thread."""
    at = np.uint32(cuda.grid(1))
    mixed = np.uint32(0)
    for k in range(calls):
        a, b, c, d = philox(at, np.uint32(k), at, at, _1, _2)
        mixed = np.uint32(mixed ^ a ^ b ^ c ^ d)
    if at < out.size:
        out[at] = mixed


@kernel
def integers(out, rounds):
    """Four multiplications and four additions a round and thread, in four chains."""
    at = np.uint32(cuda.grid(1))
    a, b, c, d = at, np.uint32(at + _1), np.uint32(at ^ _7), np.uint32(at + _2)
    for _ in range(rounds):
        a = np.uint32(a * _A + _B)
        b = np.uint32(b * _B + _A)
        c = np.uint32(c * _A + _7)
        d = np.uint32(d * _B + _7)
    if at < out.size:
        out[at] = np.uint32(a ^ b ^ c ^ d)


@kernel
def copied(a, b):
    """Four bytes a thread."""
    at = cuda.grid(1)
    if at < a.size:
        b[at] = a[at]
