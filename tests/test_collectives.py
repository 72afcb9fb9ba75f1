"""Collectives against published formulas, and against the algorithms carried out rank by rank."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest

from mcsim.model.collectives import COLLECTIVES, Level, algorithm, hierarchical

RANKS = [1, 2, 3, 8, 1024, 220_000]
ALPHA, M, B = 5e-6, 1e9, 50e9


def seconds(collective, name, n, payload=M, latency=ALPHA, bandwidth=B):
    return COLLECTIVES[collective][name].seconds(n, payload, latency, bandwidth)


def fold(n, inside, extra):
    """The cost among the largest power of two, and what folding adds where that is not all."""
    kept = 2 ** math.floor(math.log2(n))
    return inside(kept) + (extra if kept != n else 0.0)


PUBLISHED = {
    ("all-reduce", "ring"): lambda n: 2 * (n - 1) * ALPHA + 2 * (n - 1) / n * M / B,
    ("all-reduce", "recursive-doubling"): lambda n: fold(
        n, lambda p: math.log2(p) * (ALPHA + M / B), 2 * (ALPHA + M / B)
    ),
    ("all-reduce", "rabenseifner"): lambda n: fold(
        n,
        lambda p: 2 * math.log2(p) * ALPHA + 2 * (p - 1) / p * M / B,
        2 * (ALPHA + M / B),
    ),
    ("all-reduce", "double-binary-tree"): lambda n: (
        2 * math.ceil(math.log2(n)) * ALPHA + 2 * M / B if n > 1 else 0.0
    ),
    ("reduce-scatter", "ring"): lambda n: (n - 1) * ALPHA + (n - 1) / n * M / B,
    ("reduce-scatter", "recursive-halving"): lambda n: fold(
        n,
        lambda p: math.log2(p) * ALPHA + (p - 1) / p * M / B,
        2 * ALPHA + (1 + 1 / n) * M / B,
    ),
    ("all-gather", "ring"): lambda n: (n - 1) * ALPHA + (n - 1) / n * M / B,
    ("all-gather", "recursive-doubling"): lambda n: (
        math.ceil(math.log2(n)) * ALPHA + (n - 1) / n * M / B
    ),
    ("all-to-all", "pairwise"): lambda n: (n - 1) * ALPHA + (n - 1) / n * M / B,
    # Block i travels once for each bit of i.
    ("all-to-all", "bruck"): lambda n: (
        math.ceil(math.log2(n)) * ALPHA + sum(i.bit_count() for i in range(n)) / n * M / B
    ),
    ("broadcast", "binomial-tree"): lambda n: math.ceil(math.log2(n)) * (ALPHA + M / B),
    ("broadcast", "scatter-all-gather"): lambda n: (
        (math.ceil(math.log2(n)) + n - 1) * ALPHA + 2 * (n - 1) / n * M / B
    ),
    ("broadcast", "double-binary-tree"): lambda n: (
        math.ceil(math.log2(n)) * ALPHA + M / B if n > 1 else 0.0
    ),
}


@pytest.mark.parametrize("n", RANKS)
@pytest.mark.parametrize(("collective", "name"), PUBLISHED)
def test_formulas_are_the_published_ones(collective, name, n):
    expected = PUBLISHED[collective, name](n)
    assert seconds(collective, name, n) == pytest.approx(expected, rel=1e-12, abs=1e-300)


def test_every_algorithm_has_a_published_formula():
    assert set(PUBLISHED) == {(c, name) for c, known in COLLECTIVES.items() for name in known}


def test_a_ring_of_220_000_ranks():
    # 439,998 rounds of 5 us, and twice all but 1/220,000 of 1 GB at 50 GB/s.
    assert seconds("all-reduce", "ring", 220_000) == pytest.approx(
        2.19999 + 0.04 * 219_999 / 220_000, rel=1e-12
    )


def test_brucks_all_to_all_of_a_power_of_two_sends_half_of_everything_each_round():
    for n in (2, 8, 1024):
        expected = math.log2(n) * (ALPHA + M / 2 / B)
        assert seconds("all-to-all", "bruck", n) == pytest.approx(expected, rel=1e-12)


def test_the_ring_of_the_data(shared_data):
    import json

    cases = json.loads((shared_data / "validation_cases.json").read_text())["cases"]
    values = next(case["values"] for case in cases if case["id"] == "G5")
    found = seconds("all-reduce", "ring", 8, 1e9, 1e-6, 450e9)
    assert found == pytest.approx(values["n8_1e9B_450e9Bps_1us"], rel=1e-12)
    found = seconds("all-reduce", "ring", 1024, 1e9, 5e-6, 50e9)
    assert found == pytest.approx(values["n1024_1e9B_50e9Bps_5us"], rel=1e-12)


def test_a_ring_of_all_ranks_costs_seconds_and_a_hierarchy_does_not():
    flat = seconds("all-reduce", "ring", 220_000, 0.0)
    assert flat == pytest.approx(2.19999, rel=1e-5)
    levels = [Level(8, 1e-6, 450e9), Level(27_500, ALPHA, B)]
    assert sum(phase.seconds for phase in hierarchical(levels, 0.0, ["auto", "auto"])) < 1e-3


# The algorithms carried out. A message is (from, to, what it carries); what a rank holds is, of
# each block of the vector, the set of ranks whose contribution is in it.


class World:
    """Ranks that hold blocks; counts rounds, and the largest volume that any rank sends."""

    def __init__(self, n, held):
        self.held, self.rounds = held, 0
        self.sent = [Fraction(0)] * n

    def round(self, messages, size):
        """messages: (sender, receiver, {block: content}), all at once. size: of a block."""
        self.rounds += 1
        carried = [(to, dict(blocks)) for _, to, blocks in messages]
        for sender, _, blocks in messages:
            self.sent[sender] += len(blocks) * size
        for to, blocks in carried:
            for block, content in blocks.items():
                mine = self.held[to].get(block, frozenset())
                # To reduce a contribution twice would be wrong; to replace a part by all is not.
                assert content >= mine or not content & mine
                self.held[to][block] = mine | content


def each_its_own(n):
    return [{block: frozenset([rank]) for block in range(n)} for rank in range(n)]


def pick(held, blocks):
    return {block: held[block] for block in blocks}


def ring_halves(world, n, *, reduce, gather):
    size = Fraction(1, n)
    if reduce:
        for step in range(n - 1):
            world.round(
                [(r, (r + 1) % n, pick(world.held[r], [(r - step) % n])) for r in range(n)],
                size,
            )
    if gather:
        for step in range(n - 1):
            world.round(
                [(r, (r + 1) % n, pick(world.held[r], [(r + 1 - step) % n])) for r in range(n)],
                size,
            )


@pytest.mark.parametrize("n", [2, 3, 5, 8, 13])
def test_a_ring_carried_out(n):
    world = World(n, each_its_own(n))
    ring_halves(world, n, reduce=True, gather=True)
    every = frozenset(range(n))
    assert all(content == every for held in world.held for content in held.values())
    known = COLLECTIVES["all-reduce"]["ring"]
    assert world.rounds == known.rounds(n)
    assert float(max(world.sent)) == pytest.approx(known.volume(n), rel=1e-12)
    world = World(n, each_its_own(n))
    ring_halves(world, n, reduce=True, gather=False)
    assert all(world.held[r][(r + 1) % n] == every for r in range(n))
    known = COLLECTIVES["reduce-scatter"]["ring"]
    assert (world.rounds, float(max(world.sent))) == (
        known.rounds(n),
        pytest.approx(known.volume(n)),
    )


def folded(world, n, inside):
    """MPICH: of the first 2 r ranks the even ones hand all to their neighbours, and get it back."""
    kept = 2 ** (n.bit_length() - 1)
    extra = n - kept
    if extra:
        world.round(
            [(2 * i, 2 * i + 1, world.held[2 * i]) for i in range(extra)], Fraction(1, kept)
        )
    inside([2 * i + 1 for i in range(extra)] + list(range(2 * extra, n)))
    if extra:
        for i in range(extra):
            world.held[2 * i] = {}
        world.round(
            [(2 * i + 1, 2 * i, world.held[2 * i + 1]) for i in range(extra)], Fraction(1, kept)
        )


@pytest.mark.parametrize("n", [2, 3, 6, 8, 13, 16])
def test_recursive_doubling_carried_out(n):
    kept = 2 ** (n.bit_length() - 1)
    world = World(n, [{b: frozenset([r]) for b in range(kept)} for r in range(n)])

    def doubling(ranks):
        distance = 1
        while distance < kept:
            world.round(
                [(ranks[i], ranks[i ^ distance], world.held[ranks[i]]) for i in range(kept)],
                Fraction(1, kept),
            )
            distance *= 2

    folded(world, n, doubling)
    assert all(c == frozenset(range(n)) for held in world.held for c in held.values())
    known = COLLECTIVES["all-reduce"]["recursive-doubling"]
    assert world.rounds == known.rounds(n)
    # No rank of the folding pairs sends in all rounds; the rounds follow each other all the same.
    assert float(max(world.sent)) <= known.volume(n)
    if kept == n:
        assert float(max(world.sent)) == known.volume(n)


@pytest.mark.parametrize("n", [2, 3, 6, 8, 13, 16])
def test_rabenseifner_carried_out(n):
    kept = 2 ** (n.bit_length() - 1)
    world = World(n, [{b: frozenset([r]) for b in range(kept)} for r in range(n)])

    def halving_and_doubling(ranks):
        mine = [range(kept)] * kept
        distance = kept // 2
        while distance:
            messages, halves = [], []
            for i in range(kept):
                blocks = mine[i]
                low, high = blocks[: len(blocks) // 2], blocks[len(blocks) // 2 :]
                own, other = (high, low) if i & distance else (low, high)
                messages.append((ranks[i], ranks[i ^ distance], pick(world.held[ranks[i]], other)))
                halves.append(own)
            world.round(messages, Fraction(1, kept))
            mine, distance = halves, distance // 2
        distance = 1
        for i in range(kept):
            world.held[ranks[i]] = pick(world.held[ranks[i]], mine[i])
        while distance < kept:
            world.round(
                [(ranks[i], ranks[i ^ distance], world.held[ranks[i]]) for i in range(kept)],
                Fraction(1, kept),
            )
            distance *= 2

    folded(world, n, halving_and_doubling)
    assert all(len(held) == kept for held in world.held)
    assert all(c == frozenset(range(n)) for held in world.held for c in held.values())
    known = COLLECTIVES["all-reduce"]["rabenseifner"]
    assert world.rounds == known.rounds(n)
    if kept == n:
        assert float(max(world.sent)) == pytest.approx(known.volume(n), rel=1e-12)


@pytest.mark.parametrize("n", [2, 3, 5, 8, 13, 100])
def test_bruck_carried_out(n):
    # A block is (from, to); in round k a rank passes on those whose distance left has bit k.
    at = [{(r, to) for to in range(n)} for r in range(n)]
    rounds, volume, bit = 0, 0, 1
    while bit < n:
        going = [{b for b in at[r] if (b[1] - b[0]) % n & bit} for r in range(n)]
        for r in range(n):
            at[r] = at[r] - going[r] | going[(r - bit) % n]
        rounds, volume, bit = rounds + 1, volume + len(going[0]), 2 * bit
    assert all({to for _, to in at[r]} == {r} and len(at[r]) == n for r in range(n))
    known = COLLECTIVES["all-to-all"]["bruck"]
    assert rounds == known.rounds(n)
    assert volume / n == pytest.approx(known.volume(n), rel=1e-12)
    gather = COLLECTIVES["all-gather"]["recursive-doubling"]
    assert gather.rounds(n) == rounds


@pytest.mark.parametrize("n", [2, 3, 5, 8, 13, 100])
def test_a_binomial_tree_carried_out(n):
    reached, rounds = {0}, 0
    while len(reached) < n:
        reached |= {r + 2**rounds for r in reached if r + 2**rounds < n}
        rounds += 1
    assert rounds == COLLECTIVES["broadcast"]["binomial-tree"].rounds(n)


def test_auto_takes_the_shortest():
    for collective, known in COLLECTIVES.items():
        # NCCL has rings and trees, and so has `auto`; the others must be asked for.
        choice = {"ring", "double-binary-tree"} if collective == "all-reduce" else set(known)
        for n in (2, 3, 8, 1000):
            for payload in (0.0, 1e3, 1e6, 1e10):
                chosen = algorithm(collective, "auto", n, payload, ALPHA, B)
                assert chosen.name in choice
                least = min(known[name].seconds(n, payload, ALPHA, B) for name in choice)
                assert chosen.seconds(n, payload, ALPHA, B) == least


def test_a_hierarchy_of_one_level_is_that_level():
    (only,) = hierarchical([Level(8, 1e-6, 450e9)], 1e9, ["ring"])
    assert only.seconds == pytest.approx(0.003902888888888889, rel=1e-12)


def test_a_hierarchy_shrinks_the_payload_on_its_way():
    levels = [Level(8, 1e-6, 450e9), Level(4, 5e-6, 50e9), Level(3, 1e-3, 10e9)]
    phases = hierarchical(levels, 1e9, ["ring"] * 3)
    assert [(p.collective, p.level) for p in phases] == [
        ("reduce-scatter", "0"),
        ("reduce-scatter", "1"),
        ("all-reduce", "2"),
        ("all-gather", "1"),
        ("all-gather", "0"),
    ]
    expected = [
        7 * 1e-6 + 7 / 8 * 1e9 / 450e9,
        3 * 5e-6 + 3 / 4 * 1e9 / 8 / 50e9,
        4 * 1e-3 + 4 / 3 * 1e9 / 32 / 10e9,
    ]
    assert [p.seconds for p in phases] == pytest.approx([*expected, *expected[1::-1]], rel=1e-12)
