"""The generator against Random123's known answers and an independent implementation."""

from __future__ import annotations

import numpy as np
import pytest

from mcsim.engine.philox import Purpose, key_of, raw_words, survivals, word_3

# Random123 1.14, examples/kat_vectors: philox4x32 10 rounds, counter, key, answer.
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    (
        (0xFFFFFFFF,) * 4,
        (0xFFFFFFFF,) * 2,
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def philox_by_definition(counter: list[int], key: list[int]) -> list[int]:
    """Ten rounds in Python integers, straight from the paper."""
    c, k = list(counter), list(key)
    for _ in range(10):
        p, q = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [
            (q >> 32) ^ c[1] ^ k[0],
            q & 0xFFFFFFFF,
            (p >> 32) ^ c[3] ^ k[1],
            p & 0xFFFFFFFF,
        ]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_known_answers_of_random123(counter, key, answer):
    words = raw_words(np.array([counter], np.uint32), np.uint32(key[0]), np.uint32(key[1]))
    assert tuple(words[0]) == answer


def test_ten_thousand_words_equal_those_of_the_definition():
    random = np.random.default_rng(20)
    counters = random.integers(0, 2**32, (2_500, 4), dtype=np.uint32)
    key = [0x9E3779B9, 0xDEADBEEF]
    words = raw_words(counters, np.uint32(key[0]), np.uint32(key[1]))
    expected = [philox_by_definition([int(c) for c in row], key) for row in counters]
    assert words.tolist() == expected


def test_survivals_are_never_0_or_1():
    index = np.arange(1_000_000, dtype=np.uint32)
    drawn = survivals(
        index, np.zeros_like(index), np.uint32(7), word_3(0, Purpose.NODE), *key_of(5)
    )
    assert drawn.min() > 0
    assert drawn.max() < 1


def test_the_extreme_bits_give_the_extreme_midpoints():
    from mcsim.engine.philox import to_survival

    zero, ones = np.uint32(0), np.uint32(0xFFFFFFFF)
    assert to_survival(zero, zero) == 2.0**-65
    assert to_survival(zero, np.uint32(1)) == 1.5 * 2.0**-64
    assert to_survival(ones, ones) == 1 - 2.0**-53


def test_survivals_are_uniform():
    index = np.arange(1_000_000, dtype=np.uint32)
    drawn = survivals(
        index, np.zeros_like(index), np.uint32(1), word_3(3, Purpose.RACK), *key_of(9)
    )
    counts = np.histogram(drawn, 1000, (0, 1))[0]
    chi_square = ((counts - 1000.0) ** 2 / 1000).sum()
    # 999 degrees of freedom: 1e-6 on each side is 787 and 1231.
    assert 787 < chi_square < 1231


def test_every_part_of_an_address_changes_the_words():
    counter = np.array([[1, 2, 3, 4]] * 4, np.uint32) + np.eye(4, dtype=np.uint32)
    words = raw_words(np.vstack([[[1, 2, 3, 4]], counter]).astype(np.uint32), *key_of(1))
    other_key = raw_words(np.array([[1, 2, 3, 4]], np.uint32), *key_of(1 + 2**32))
    assert len({tuple(row) for row in np.vstack([words, other_key])}) == 6
