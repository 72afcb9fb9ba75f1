"""Sums over blocks whose bits do not depend on how the blocks came together.

Floating-point sums depend on their order. Here the numbers of the blocks give it: two blocks, of an
even number and the next, are joined, then two such pairs, and so on, as far as whole pairs go.
Whatever the parts that were summed apart, the same blocks give the same pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Generic, Protocol, Self, TypeVar


class Joinable(Protocol):
    """What can be summed with the same of later steps."""

    def joined(self, other: Self) -> Self:
        """Of both, `other` being the later."""
        ...


Value = TypeVar("Value", bound=Joinable)


@dataclass(frozen=True)
class Node(Generic[Value]):
    """The sum of some blocks: as many as a power of two that divides the first one's number."""

    first: int
    blocks: int
    value: Value

    def is_paired_with(self, other: Node[Value]) -> bool:
        """Whether both are the halves of a larger node, `other` being the later half."""
        return self.blocks == other.blocks and self.first % (2 * self.blocks) == 0


@dataclass(frozen=True)
class Pairwise(Generic[Value]):
    """Sums over consecutive blocks, in as few nodes as there can be."""

    nodes: tuple[Node[Value], ...]

    @classmethod
    def of(cls, block: int, value: Value) -> Pairwise[Value]:
        """Of a single block with its number."""
        return cls((Node(block, 1, value),))

    @property
    def first(self) -> int:
        """The number of the first block."""
        return self.nodes[0].first

    @property
    def end(self) -> int:
        """The number after that of the last block."""
        return self.nodes[-1].first + self.nodes[-1].blocks

    def joined(self, other: Pairwise[Value]) -> Pairwise[Value]:
        """Of these blocks and those that follow."""
        assert self.end == other.first
        nodes = list(self.nodes)
        for node in other.nodes:
            nodes.append(node)
            while len(nodes) > 1 and nodes[-2].is_paired_with(nodes[-1]):
                later, earlier = nodes.pop(), nodes.pop()
                both = earlier.value.joined(later.value)
                nodes.append(Node(earlier.first, 2 * earlier.blocks, both))
        return Pairwise(tuple(nodes))

    def total(self) -> Value:
        """The sum of all."""
        return reduce(lambda sums, later: sums.joined(later), [node.value for node in self.nodes])
