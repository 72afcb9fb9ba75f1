"""Sums have the same bits however the blocks are divided into parts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mcsim.engine.pairwise import Pairwise


@dataclass(frozen=True)
class Text:
    """Remembers how it came about."""

    text: str

    def joined(self, other):
        return Text(f"({self.text}{other.text})")


def summed(blocks):
    return reduce(Pairwise.joined, [Pairwise.of(block, Text(f"{block:x}")) for block in blocks])


def test_pairs_of_pairs_are_joined():
    assert summed(range(8)).total().text == "(((01)(23))((45)(67)))"
    assert summed(range(7)).total().text == "((((01)(23))(45))6)"
    assert [node.value.text for node in summed(range(1, 7)).nodes] == ["1", "(23)", "(45)", "6"]


@given(st.integers(1, 200), st.randoms(use_true_random=False))
def test_parts_joined_in_any_order_are_the_whole(blocks, chance):
    cuts = sorted({0, blocks, *(chance.randrange(blocks) for _ in range(chance.randrange(9)))})
    parts = [summed(range(a, b)) for a, b in pairwise(cuts)]
    while len(parts) > 1:
        at = chance.randrange(len(parts) - 1)
        parts[at : at + 2] = [parts[at].joined(parts[at + 1])]
    assert parts[0] == summed(range(blocks))


def test_a_sum_has_few_nodes():
    for first in (0, 1, 1000):
        assert len(summed(range(first, first + 1000)).nodes) <= 2 * (1000).bit_length()
    assert len(summed(range(1024)).nodes) == 1
