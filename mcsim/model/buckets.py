"""Buckets of gradients: when a stage has each, while its last backward passes go on.

The gradients of a piece of the model are complete once the last microbatch has gone back through
it, and pieces are done one after the other, the last of the model first. So all but the piece that
is last are sent while others still compute; within a piece, gradients become complete evenly over
that last backward pass.

Sources: Narayanan et al., SC 2021, section 2.2, for the order; Li et al., "PyTorch distributed",
VLDB 13 (2020), section 3.2.3, for buckets.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mcsim.laws import FloatArray


def deciding_buckets(buckets: int, pieces: int) -> tuple[int, ...]:
    """The numbers, from 1, of the buckets that may decide when all are sent.

    They are the first and the last to be complete in each piece: those between come evenly, so
    either they come faster than they are sent, and wait since the first, or slower.
    """
    found: list[int] = []
    for piece in range(pieces):
        first, last = piece * buckets // pieces + 1, (piece + 1) * buckets // pieces
        if first <= last:
            found += [first, last]
    return tuple(dict.fromkeys(found))


def buckets_ready(
    numbers: Sequence[int], buckets: int, end: FloatArray, time: FloatArray
) -> FloatArray:
    """When a stage has each of some of its equal buckets, s; shape (numbers, ...).

    end, time: shape (..., pieces), s, of the last backward pass of each piece, in the order in
    which they are done.
    """
    pieces = end.shape[-1]
    found = []
    for number in numbers:
        piece = -(-number * pieces // buckets) - 1
        missing = piece + 1 - number * pieces / buckets
        found.append(end[..., piece] - missing * time[..., piece])
    return np.stack(found)
