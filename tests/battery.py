"""Statistical tests of random words: each takes words, shape (n,), uint32, and returns a p-value.

A p-value is two-sided, so that a generator that is too even fails like one that is uneven. Where a
statistic has a known law of its own, that is taken; otherwise counts go to chi-square and sums to
the normal law, both with enough of them that p = 1e-6 is right to a factor of two or so.

Sources: Knuth, TAOCP 2, 3.3.2 (frequency, serial, gap, runs, collision, birthday spacings);
L'Ecuyer & Simard, TestU01, ACM TOMS 33 (2007) (Hamming weights, matrix rank, linear complexity);
Webster & Tavares, CRYPTO 1985 (strict avalanche).
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from mcsim.engine.philox import Words

_PIECE = 512


def two_sided(lower: float, upper: float) -> float:
    """From P(X <= x) and P(X >= x)."""
    return float(min(1.0, 2 * min(lower, upper)))


def of_normal(z: float) -> float:
    return two_sided(stats.norm.cdf(z), stats.norm.sf(z))


def of_poisson(count: int, mean: float) -> float:
    return two_sided(stats.poisson.cdf(count, mean), stats.poisson.sf(count - 1, mean))


def of_chi_square(statistic: float, freedom: int) -> float:
    return two_sided(stats.chi2.cdf(statistic, freedom), stats.chi2.sf(statistic, freedom))


def of_counts(counts: np.ndarray, shares: np.ndarray | float) -> float:
    """Whether counts, any shape, have the expected shares; rare cells are taken together."""
    total = counts.sum()
    if total == 0:
        return 0.0
    expected = np.broadcast_to(np.asarray(shares) * total, counts.shape).ravel()
    observed = counts.ravel()
    rare = expected < 4
    if rare.any():
        observed = np.append(observed[~rare], observed[rare].sum())
        expected = np.append(expected[~rare], expected[rare].sum())
    return of_chi_square(((observed - expected) ** 2 / expected).sum(), expected.size - 1)


def of_signs(sums: np.ndarray, terms: int) -> float:
    """Whether sums of `terms` signs each, uncorrelated among themselves, scatter about 0."""
    return of_chi_square((sums.astype(float) ** 2).sum() / terms, sums.size)


def signs(words: Words) -> np.ndarray:
    """Bits as -1 and +1, shape (n, 32), lowest first; float32, in which sums are exact to 2^24."""
    bits = np.unpackbits(words.view(np.uint8).reshape(-1, 4), axis=1, bitorder="little")
    return bits.astype(np.float32) * 2 - 1


def distinct(words: Words) -> int:
    """How many different values there are."""
    ordered = np.sort(words)
    return 1 + int(np.count_nonzero(ordered[1:] != ordered[:-1]))


def monobit(words: Words) -> float:
    ones = int(np.bitwise_count(words).sum(dtype=np.int64))
    return of_normal((ones - 16 * words.size) / np.sqrt(8 * words.size))


def each_bit(words: Words) -> float:
    return of_signs(np.ones(words.size, np.float32) @ signs(words), words.size)


def byte_frequencies(words: Words) -> float:
    """Of each of the four bytes."""
    columns = words.view(np.uint8).reshape(-1, 4)
    counts = np.stack([np.bincount(column, minlength=256) for column in columns.T])
    statistic = ((counts - words.size / 256) ** 2).sum() / (words.size / 256)
    return of_chi_square(statistic, 4 * 255)


def half_frequencies(words: Words) -> float:
    """Of the 16-bit pieces that screen devices."""
    return of_counts(np.bincount(words.view(np.uint16), minlength=1 << 16), 2.0**-16)


def serial_pairs(words: Words) -> float:
    """Of the six leading bits of neighbours."""
    pair = words[0 : words.size & ~1].reshape(-1, 2) >> np.uint32(26)
    return of_counts(np.bincount(pair[:, 0] << 6 | pair[:, 1], minlength=4096), 2.0**-12)


def serial_low_pairs(words: Words) -> float:
    """Of the six last bits of neighbours."""
    pair = words[0 : words.size & ~1].reshape(-1, 2) & np.uint32(63)
    return of_counts(np.bincount(pair[:, 0] << 6 | pair[:, 1], minlength=4096), 2.0**-12)


def runs(words: Words) -> float:
    """Changes between neighbours, of each bit."""
    return each_bit(words[1:] ^ words[:-1])


def gaps(words: Words) -> float:
    """Between words of the lowest sixteenth."""
    gap = np.diff(np.flatnonzero(words < 1 << 28)) - 1
    length = np.arange(128)
    shares = np.append(15.0**length / 16.0 ** (length + 1), (15 / 16) ** 128)
    return of_counts(np.bincount(np.minimum(gap, 128), minlength=129), shares)


def weight_pairs(words: Words) -> float:
    """Hamming weights of neighbours, in five classes each."""
    shares = stats.binom.pmf(np.arange(33), 32, 0.5)
    class_of = np.repeat(np.arange(5), [15, 1, 1, 1, 15])
    share = np.bincount(class_of, shares)
    pair = class_of[np.bitwise_count(words[0 : words.size & ~1])].reshape(-1, 2)
    counts = np.bincount(pair[:, 0] * 5 + pair[:, 1], minlength=25)
    return of_counts(counts, np.outer(share, share).ravel())


def weight_of_changes(words: Words) -> float:
    """Hamming weight of the bits in which neighbours differ."""
    changed = np.bitwise_count(words[1:] ^ words[:-1])
    return of_counts(np.bincount(changed, minlength=33), stats.binom.pmf(np.arange(33), 32, 0.5))


def neighbours_correlation(words: Words) -> float:
    """Of every bit of a word with every bit of the next."""
    bits = signs(words)
    # In pieces: a product of two long and narrow matrices takes thirty times as long.
    long = (words.size - 1) // _PIECE * _PIECE
    first, second = (x.reshape(-1, _PIECE, 32) for x in (bits[:long], bits[1 : long + 1]))
    sums = (first.transpose(0, 2, 1) @ second).sum(axis=0)
    return of_signs(sums + bits[long:-1].T @ bits[long + 1 :], words.size - 1)


def repeats(words: Words) -> float:
    """Words that occurred before."""
    return of_poisson(words.size - distinct(words), words.size**2 / 2.0**33)


def collisions(values: Words) -> float:
    """Balls that fall into an urn that has one, among 2^20 urns; values below 2^20."""
    urns = 1 << 20
    load = values.size / urns
    empty = urns - distinct(values)
    # Mean and variance of the empty urns: Kolchin, Sevast'yanov, Chistyakov, Random Allocations.
    variance = urns * np.exp(-load) * (1 - (1 + load) * np.exp(-load))
    return of_normal((empty - urns * np.exp(-load)) / np.sqrt(variance))


def leading_collisions(words: Words) -> float:
    return collisions(words >> np.uint32(12))


def low_collisions(words: Words) -> float:
    return collisions(words & np.uint32(0xFFFFF))


def repeated_differences(words: Words) -> float:
    return repeats(np.diff(words))


def repeated_changes(words: Words) -> float:
    return repeats(words[1:] ^ words[:-1])


def birthday_spacings(words: Words) -> float:
    """Equal spacings of 4,096 birthdays in a year of 2^32 days: Poisson with mean 4."""
    days = np.sort(words[: words.size & ~4095].reshape(-1, 4096), axis=1)
    spacings = np.sort(np.diff(days, axis=1), axis=1)
    return of_poisson(int((np.diff(spacings, axis=1) == 0).sum()), 4 * days.shape[0])


def matrix_rank(words: Words) -> float:
    """Of 32 x 32 bits, over GF(2), for at most 4,096 matrices."""
    rows = words[: min(words.size & ~31, 1 << 17)].reshape(-1, 32).T.copy()
    rank = np.zeros(rows.shape[1], np.int64)
    for bit in range(32):
        here = (rows >> np.uint32(bit) & np.uint32(1)).astype(bool)
        pivot_row = here.argmax(axis=0)
        each = np.arange(rows.shape[1])
        pivot = np.where(here[pivot_row, each], rows[pivot_row, each], np.uint32(0))
        rank += pivot != 0
        # The pivot's own row becomes 0 and is used up.
        rows ^= np.where(here, pivot, np.uint32(0))
    full = np.prod(1 - 0.5 ** np.arange(1, 33))
    shares = np.array([1 - 3 * full + full * 2.0**-32, 2 * full, full])
    shares[0] = 1 - shares[1:].sum()
    return of_counts(np.bincount(np.clip(rank - 30, 0, 2), minlength=3), shares)


def linear_complexity(words: Words) -> float:
    """Of the lowest bit: the shortest feedback register that makes 512 of them.

    The sequences of n bits with complexity L number min(2^(2L - 1), 2^(2n - 2L)).
    """
    n = 512
    bits = (words[: min(words.size, 100 * n)] & np.uint32(1)).reshape(-1, n)
    complexity = np.array([_berlekamp_massey(row.tolist()) for row in bits])
    deviation = np.clip(complexity - n // 2, -4, 4) + 4
    length = np.arange(1, n + 1)
    shares = np.exp2(np.minimum(2.0 * length - 1, 2.0 * n - 2 * length) - n)
    classes = np.bincount(np.clip(length - n // 2, -4, 4) + 4, shares)
    return of_counts(np.bincount(deviation, minlength=9), classes)


def _berlekamp_massey(bits: list[int]) -> int:
    """Polynomials over GF(2) are integers; `seen` holds the bits so far, latest lowest."""
    connection, earlier, length, since, seen = 1, 1, 0, 1, 0
    for count, bit in enumerate(bits):
        seen = seen << 1 | bit
        if (connection & seen).bit_count() & 1:
            before = connection
            connection ^= earlier << since
            if 2 * length <= count:
                length, earlier, since = count + 1 - length, before, 0
        since += 1
    return length


def strict_avalanche(changes: Words) -> float:
    """Each flipped bit of an address flips each bit of the words half the time.

    changes: shape (flipped bits, n), the exclusive or of the words before and after.
    """
    ones = np.ones(changes.shape[1], np.float32)
    sums = np.stack([ones @ signs(np.ascontiguousarray(row)) for row in changes])
    return of_signs(sums, changes.shape[1])


TESTS = (
    monobit,
    each_bit,
    byte_frequencies,
    half_frequencies,
    serial_pairs,
    serial_low_pairs,
    runs,
    gaps,
    weight_pairs,
    weight_of_changes,
    neighbours_correlation,
    repeats,
    leading_collisions,
    low_collisions,
    repeated_differences,
    repeated_changes,
    birthday_spacings,
    matrix_rank,
    linear_complexity,
)
