"""The generator as it is addressed: its words in every order that a run walks through them.

Published batteries read one long stream. Here neighbours are devices, steps, replicates, names or
seeds, whose addresses differ in a few low bits; that is the harder case for a counter generator.
Each order is tested as one stream of words and for each of the four words of an address alone.
A weakened generator must fail, or the battery would prove nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import battery
import numpy as np
import pytest

from mcsim.engine.philox import Purpose, Words, key_of, raw_words, word_3

N = 1 << 17
SIDE = 1 << 9
LIMIT = 2e-6
"""Two-sided: 1e-6 on each side. Some 900 p-values are computed, all from fixed addresses."""
ROUNDS = 10


class Addresses(NamedTuple):
    """counters: shape (n, 4), uint32; seeds: shape (n,), uint64, or one for all."""

    counters: Words
    seeds: np.ndarray | int


class Order(NamedTuple):
    """How much a word of the address, or the seed, grows between neighbours, and between rows."""

    inner: dict[int | str, int]
    outer: dict[int | str, int] = {}  # noqa: RUF012 - an immutable value in use


ORDERS = {
    "devices": Order({0: 1}),
    "steps": Order({1: 1}),
    "identities": Order({2: 1}),
    "purposes": Order({3: 1}),
    "replicates": Order({3: 1 << 8}),
    "seeds": Order({"seed": 1}),
    "high words of seeds": Order({"seed": 1 << 32}),
    "devices within steps": Order({0: 1}, {1: 1}),
    "steps within devices": Order({1: 1}, {0: 1}),
    "devices within seeds": Order({0: 1}, {"seed": 1}),
}


def addresses(order: Order) -> Addresses:
    """2^17 addresses: a row, or rows of 512 where something grows between rows."""
    place = np.arange(N)
    moves = [(order.inner, place % SIDE if order.outer else place), (order.outer, place // SIDE)]
    counters = np.tile(
        np.array([40_000, 1_000, 0x9BC41E21, word_3(5, min(Purpose))], np.int64), (N, 1)
    )
    seeds: np.ndarray | int = 7
    for growths, count in moves:
        for part, growth in growths.items():
            if part == "seed":
                seeds = seeds + (count * growth).astype(np.uint64)
            else:
                counters[:, part] += count * growth
    return Addresses(counters.astype(np.uint32), seeds)


def philox_of(rounds: int) -> Callable[[Addresses], Words]:
    """Philox4x32 in NumPy, from the paper, with any number of rounds."""

    def words(at: Addresses) -> Words:
        half, low = np.uint64(32), np.uint64(0xFFFFFFFF)
        a, b, c, d = at.counters.T.astype(np.uint64)
        seeds = np.asarray(at.seeds, np.uint64)
        k0, k1 = seeds & low, seeds >> half
        for _ in range(rounds):
            p, q = np.uint64(0xD2511F53) * a, np.uint64(0xCD9E8D57) * c
            a, b, c, d = q >> half ^ b ^ k0, q & low, p >> half ^ d ^ k1, p & low
            k0, k1 = k0 + np.uint64(0x9E3779B9) & low, k1 + np.uint64(0xBB67AE85) & low
        return np.stack([a, b, c, d], axis=1).astype(np.uint32)

    return words


def shipped(at: Addresses) -> Words:
    """The words that runs use."""
    if isinstance(at.seeds, int):
        return raw_words(at.counters, *key_of(at.seeds))
    starts = np.flatnonzero(np.diff(at.seeds, prepend=at.seeds[0] + np.uint64(1)))
    parts = zip(np.split(at.counters, starts[1:]), at.seeds[starts].tolist(), strict=True)
    return np.concatenate([raw_words(part, *key_of(seed)) for part, seed in parts])


def p_values(words: Words) -> dict[str, float]:
    """Of every test on all words, shape (n, 4), as they come, and on each column."""
    streams = {"all words": words.ravel()}
    streams |= {f"word {i}": np.ascontiguousarray(words[:, i]) for i in range(4)}
    return {
        f"{test.__name__} of {name}": test(stream)
        for name, stream in streams.items()
        for test in battery.TESTS
    }


def failures(words: Words) -> dict[str, float]:
    return {name: p for name, p in p_values(words).items() if p < LIMIT}


def avalanche(generator: Callable[[Addresses], Words], n: int = 2048) -> float:
    """Flips each bit of an address that a run of 220,000 devices can use."""
    random = np.random.default_rng(3)
    used = [18, 20, 32, 32]
    counters = np.stack([random.integers(0, 1 << bits, n) for bits in used], axis=1)
    seeds = random.integers(0, 2**64, n, dtype=np.uint64)
    words = generator(Addresses(counters.astype(np.uint32), seeds))
    changes = []
    for word, bits in enumerate(used):
        for bit in range(bits):
            flipped = counters.astype(np.uint32)
            flipped[:, word] ^= np.uint32(1 << bit)
            changes.append((generator(Addresses(flipped, seeds)) ^ words).T)
    for bit in range(64):
        flipped_seeds = seeds ^ np.uint64(1 << bit)
        changes.append((generator(Addresses(counters.astype(np.uint32), flipped_seeds)) ^ words).T)
    return battery.strict_avalanche(np.concatenate(changes))


def test_the_reduced_generator_with_all_rounds_is_the_shipped_one():
    random = np.random.default_rng(1)
    at = Addresses(
        random.integers(0, 2**32, (500, 4), dtype=np.uint32),
        random.integers(0, 2**64, 500, dtype=np.uint64),
    )
    assert np.array_equal(philox_of(ROUNDS)(at), shipped(at))


@pytest.mark.parametrize("order", ORDERS)
def test_words_pass_in_every_order_of_their_addresses(order):
    assert failures(shipped(addresses(ORDERS[order]))) == {}


def test_another_good_generator_passes_too():
    words = np.random.Generator(np.random.SFC64(2)).integers(0, 2**32, (N, 4), dtype=np.uint32)
    assert failures(words) == {}


@pytest.mark.parametrize("order", ["devices", "replicates", "devices within steps"])
def test_four_rounds_fail(order):
    found = p_values(philox_of(4)(addresses(ORDERS[order])))
    assert min(found.values()) < 1e-100
    assert sum(p < 1e-12 for p in found.values()) > 20


def test_four_rounds_over_steps_fail_every_test():
    found = failures(philox_of(4)(addresses(ORDERS["steps"])))
    assert {name.split()[0] for name in found} == {test.__name__ for test in battery.TESTS}


@pytest.mark.parametrize("rounds", [5, 6])
def test_five_and_six_rounds_fail_over_steps(rounds):
    # Seven pass, as they pass BigCrush (Salmon et al. 2011); ten leave a margin.
    assert min(p_values(philox_of(rounds)(addresses(ORDERS["steps"]))).values()) < 1e-100


def test_words_that_are_too_even_fail():
    words = np.arange(N, dtype=np.uint32) * np.uint32(0x9E3779B9)
    assert battery.half_frequencies(words) < 1e-12


def test_each_bit_of_an_address_changes_half_of_the_bits():
    assert avalanche(philox_of(ROUNDS)) > LIMIT
    assert avalanche(philox_of(4)) < 1e-12


def test_words_of_24_bits_fail():
    words = shipped(addresses(ORDERS["devices"])) & np.uint32(0xFFFFFF00)
    assert p_values(words)["byte_frequencies of all words"] < 1e-12


def test_a_key_of_seed_plus_device_fails_over_seeds():
    at = addresses(ORDERS["devices within seeds"])
    counters = at.counters.copy()
    counters[:, 0] = 0
    words = shipped(Addresses(counters, at.seeds + at.counters[:, 0]))
    assert p_values(words)["repeats of all words"] < 1e-12
