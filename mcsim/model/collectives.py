"""How long collectives take: the latency-bandwidth formulas.

n ranks, a payload of M bytes, alpha seconds a message, B bytes a second and rank.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType


def ring(ranks: int, payload: float, latency: float, bandwidth: float) -> float:
    """A ring all-reduce: 2 (n-1) alpha + 2 (n-1)/n M/B seconds. One rank costs nothing.

    Source: Thakur, Rabenseifner, Gropp, "Optimization of collective communication operations in
    MPICH", IJHPCA 19 (2005), section 4.5, without the time of the reduction.
    """
    return 2 * (ranks - 1) * latency + 2 * (ranks - 1) / ranks * payload / bandwidth


def double_binary_tree(ranks: int, payload: float, latency: float, bandwidth: float) -> float:
    """A pipelined all-reduce over two trees: 2 log2(n) alpha + 2 M/B s. One rank costs nothing.

    Source: Sanders, Speck, Träff, "Two-tree algorithms for full bandwidth broadcast, reduction
    and scan", Parallel Computing 35 (2009), for large payloads; what NCCL calls `tree`. Trees of
    n ranks have ceil(log2 n) levels.
    """
    if ranks == 1:
        return 0.0
    return 2 * math.ceil(math.log2(ranks)) * latency + 2 * payload / bandwidth


def cheapest(ranks: int, payload: float, latency: float, bandwidth: float) -> float:
    """The shorter of the above, as NCCL chooses."""
    return min(algorithm(ranks, payload, latency, bandwidth) for algorithm in _BASIC)


AllReduce = Callable[[int, float, float, float], float]

_BASIC: tuple[AllReduce, ...] = (ring, double_binary_tree)

ALL_REDUCE: Mapping[str, AllReduce] = MappingProxyType(
    {"auto": cheapest, "ring": ring, "double-binary-tree": double_binary_tree}
)
"""Every all-reduce by its name in a scenario: seconds for (ranks, payload, latency, bandwidth)."""
