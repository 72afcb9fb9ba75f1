"""How long collectives take: rounds of messages, by the latency-bandwidth model.

A collective of n ranks is a number of rounds, in each of which every rank waits for a message, and
a volume that a rank sends in all of them, in units of the payload:

    seconds = rounds(n) * latency + volume(n) * payload / bandwidth

with seconds a message and bytes a second and rank; the time of the reduction is left out. The
payload is the whole vector: what an all-reduce reduces, an all-gather gathers, a broadcast sends,
and what a rank of an all-to-all has to send (a part of it to itself). One rank costs nothing.

Where the ranks are not a power of two, recursive doubling and halving fold those that are too many
into their neighbours first and unfold them last, as MPICH does.

Sources: Thakur, Rabenseifner & Gropp, "Optimization of collective communication operations in
MPICH", IJHPCA 19 (2005), sections 4.1 to 4.5; Sanders, Speck & Träff, "Two-tree algorithms for
full bandwidth broadcast, reduction and scan", Parallel Computing 35 (2009), for large payloads
(what NCCL calls `tree`); Bruck et al., "Efficient algorithms for all-to-all communications", IEEE
TPDS 8 (1997).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple


@dataclass(frozen=True)
class Algorithm:
    """rounds, volume: of the number of ranks, for two and more."""

    name: str
    rounds: Callable[[int], int]
    volume: Callable[[int], float]

    def seconds(self, ranks: int, payload: float, latency: float, bandwidth: float) -> float:
        """payload: bytes. latency: s. bandwidth: byte/s."""
        if ranks == 1:
            return 0.0
        return self.rounds(ranks) * latency + self.volume(ranks) * payload / bandwidth


def depth(ranks: int) -> int:
    """The levels of a binary tree: log2, rounded up."""
    return (ranks - 1).bit_length()


def _kept(ranks: int) -> int:
    """The largest power of two that is not above."""
    return 1 << (ranks.bit_length() - 1)


def _folds(ranks: int) -> int:
    """1 where some ranks must be folded into others."""
    return int(_kept(ranks) != ranks)


def _others(ranks: int) -> float:
    """The share of the payload that is for other ranks."""
    return (ranks - 1) / ranks


def _halved(ranks: int) -> float:
    """What is sent while halves, quarters, ... of the payload change sides."""
    return _others(_kept(ranks))


def _blocks(ranks: int) -> int:
    """The blocks that a rank sends in Bruck's all-to-all: once for each bit of each distance."""
    total, bit = 0, 1
    while bit < ranks:
        # Of the numbers below `ranks`, those that have this bit.
        total += ranks // (2 * bit) * bit + max(ranks % (2 * bit) - bit, 0)
        bit *= 2
    return total


RING = Algorithm("ring", lambda n: 2 * (n - 1), lambda n: 2 * _others(n))
RECURSIVE_DOUBLING = Algorithm(
    "recursive-doubling",
    lambda n: depth(_kept(n)) + 2 * _folds(n),
    lambda n: depth(_kept(n)) + 2 * _folds(n),
)
RABENSEIFNER = Algorithm(
    "rabenseifner",
    lambda n: 2 * depth(_kept(n)) + 2 * _folds(n),
    lambda n: 2 * _halved(n) + 2 * _folds(n),
)
DOUBLE_BINARY_TREE = Algorithm("double-binary-tree", lambda n: 2 * depth(n), lambda n: 2.0)

_ALL: tuple[tuple[str, tuple[Algorithm, ...]], ...] = (
    ("all-reduce", (RING, RECURSIVE_DOUBLING, RABENSEIFNER, DOUBLE_BINARY_TREE)),
    (
        "reduce-scatter",
        (
            Algorithm("ring", lambda n: n - 1, _others),
            Algorithm(
                "recursive-halving",
                lambda n: depth(_kept(n)) + 2 * _folds(n),
                # The last round hands its own part back to each rank that was folded.
                lambda n: _halved(n) + _folds(n) * (1 + 1 / n),
            ),
        ),
    ),
    (
        "all-gather",
        (
            Algorithm("ring", lambda n: n - 1, _others),
            # Bruck's form, for any number of ranks.
            Algorithm("recursive-doubling", depth, _others),
        ),
    ),
    (
        "all-to-all",
        (
            Algorithm("pairwise", lambda n: n - 1, _others),
            Algorithm("bruck", depth, lambda n: _blocks(n) / n),
        ),
    ),
    (
        "broadcast",
        (
            Algorithm("binomial-tree", depth, depth),
            Algorithm("scatter-all-gather", lambda n: depth(n) + n - 1, lambda n: 2 * _others(n)),
            Algorithm("double-binary-tree", depth, lambda n: 1.0),
        ),
    ),
)

COLLECTIVES: Mapping[str, Mapping[str, Algorithm]] = MappingProxyType(
    {name: MappingProxyType({one.name: one for one in known}) for name, known in _ALL}
)
"""Every collective, and its algorithms by their names."""

AUTO = "auto"
_CHOICE: Mapping[str, tuple[Algorithm, ...]] = MappingProxyType(
    {"all-reduce": (RING, DOUBLE_BINARY_TREE)}
)
"""What `auto` chooses from, where that is not all: what NCCL has between nodes."""


def choice_of(collective: str) -> tuple[Algorithm, ...]:
    """The algorithms that `auto` chooses from."""
    return _CHOICE.get(collective, tuple(COLLECTIVES[collective].values()))


def algorithm(
    collective: str, name: str, ranks: int, payload: float, latency: float, bandwidth: float
) -> Algorithm:
    """The algorithm of a name; of `auto` the one that takes the shortest, as NCCL chooses."""
    if name != AUTO:
        return COLLECTIVES[collective][name]
    choice = choice_of(collective)
    return min(choice, key=lambda one: one.seconds(ranks, payload, latency, bandwidth))


class Level(NamedTuple):
    """One level of a hierarchy: groups of so many ranks, joined by like links."""

    ranks: int
    latency: float
    bandwidth: float


class Phase(NamedTuple):
    """A collective at one level, without random delays.

    level: its name. rounds: of messages. of_latency, of_bandwidth: s, what the rounds and what the
    volume takes.
    """

    level: str
    collective: str
    algorithm: str
    rounds: int
    of_latency: float
    of_bandwidth: float

    @property
    def seconds(self) -> float:
        """Of both."""
        return self.of_latency + self.of_bandwidth


def phase(collective: str, name: str, at: Level, payload: float, *, level: str) -> Phase:
    """A collective among the ranks of a level. name: of the algorithm. payload: bytes."""
    if at.ranks == 1:
        return Phase(level, collective, name, 0, 0.0, 0.0)
    chosen = algorithm(collective, name, at.ranks, payload, at.latency, at.bandwidth)
    rounds, volume = chosen.rounds(at.ranks), chosen.volume(at.ranks)
    return Phase(
        level,
        collective,
        chosen.name,
        rounds,
        rounds * at.latency,
        volume * payload / at.bandwidth,
    )


def hierarchical(levels: Sequence[Level], payload: float, names: Sequence[str]) -> list[Phase]:
    """A hierarchical all-reduce: down to ever smaller shares, across, and up again.

    levels: from the innermost. Each scatters what the one below left to a rank; the outermost
    all-reduces it. names: of the all-reduce at each level; where that has no halves, the best.
    Source: Jia et al., "Highly scalable deep learning training system with mixed precision",
    arXiv:1807.11205 (2018), section 3.3.
    """
    down, up = [], []
    for index, (at, name) in enumerate(zip(levels, names, strict=True)):
        level = str(index)
        if index + 1 == len(levels):
            down.append(phase("all-reduce", name, at, payload, level=level))
        else:
            half = "ring" if name == "ring" else AUTO
            down.append(phase("reduce-scatter", half, at, payload, level=level))
            up.append(phase("all-gather", half, at, payload, level=level))
        payload /= at.ranks
    return down + up[::-1]
