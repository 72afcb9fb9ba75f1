"""The draws of devices: independent, uniform, and the same however they are asked for."""

from __future__ import annotations

import numpy as np
import pytest

from mcsim.engine import draws
from mcsim.engine.candidates import CODES, USUAL, find_rare, screen
from mcsim.engine.draws import DEVICES_PER_BLOCK, GAPS, RARE, complete
from mcsim.engine.philox import Purpose, key_of, word_3

IDENTITY = np.uint32(7)
LAST = word_3(3, Purpose.STEP)
KEY = key_of(11)


def grid(devices, steps):
    """All draws of some devices (rows) in some steps (columns), and which are rare."""
    device, step = np.meshgrid(np.asarray(devices), np.asarray(steps), indexing="ij")
    survival, rare = complete(
        device.ravel().astype(np.int64), step.ravel().astype(np.uint32), IDENTITY, LAST, *KEY
    )
    return survival.reshape(device.shape), rare.reshape(device.shape)


@pytest.fixture(scope="module")
def many():
    return grid(np.arange(1000), np.arange(4000))


def chi_square(values, cells):
    counts = np.histogram(values, cells, (0, 1))[0]
    expected = values.size / cells
    return ((counts - expected) ** 2 / expected).sum()


def test_draws_are_uniform(many):
    # 999 degrees of freedom: 1e-6 on each side is 787 and 1231.
    assert 787 < chi_square(many[0].ravel(), 1000) < 1231


def test_rare_draws_are_uniform_below_their_bound(many):
    survival, rare = many
    assert np.array_equal(rare, survival < RARE)
    # 19 degrees of freedom.
    assert 2 < chi_square(survival[rare] / RARE, 20) < 62


def test_each_device_and_each_step_has_as_many_rare_draws(many):
    for counts in (many[1].sum(axis=0), many[1].sum(axis=1)):
        expected = many[1].mean() * (many[1].size / counts.size)
        # A Poisson number each: their index of dispersion is a chi-square.
        dispersion = ((counts - expected) ** 2).sum() / expected
        assert abs(dispersion - counts.size) < 5 * np.sqrt(2 * counts.size)
    assert abs(many[1].mean() - RARE) < 5 * np.sqrt(RARE / many[1].size)


def test_rare_draws_of_neighbours_are_independent(many):
    rare = many[1]
    n = rare[1:].size
    for pairs in (rare[1:] & rare[:-1], rare[:, 1:] & rare[:, :-1], rare[4:, 4:] & rare[:-4, :-4]):
        expected = n * RARE**2
        assert abs(pairs.sum() - expected) < 6 * np.sqrt(expected) + 1


def test_draws_of_neighbours_are_uncorrelated(many):
    survival = many[0] - 0.5
    for a, b in (
        (survival[1:], survival[:-1]),
        (survival[:, 1:], survival[:, :-1]),
        (survival[:, 4:], survival[:, :-4]),
        (survival[:, 8:], survival[:, :-8]),
        (survival[128:], survival[:-128]),
    ):
        assert abs((a * b).mean() * 12) < 5 / np.sqrt(a.size)


def test_a_draw_does_not_depend_on_what_is_drawn_with_it(many):
    some = np.random.default_rng(5).integers(0, [1000, 4000], (3000, 2))
    for device, step in some[:50]:
        alone, _ = complete(np.array([device]), np.array([step], np.uint32), IDENTITY, LAST, *KEY)
        assert alone[0] == many[0][device, step]
    together, _ = complete(some[:, 0].copy(), some[:, 1].astype(np.uint32), IDENTITY, LAST, *KEY)
    assert np.array_equal(together, many[0][some[:, 0], some[:, 1]])


@pytest.mark.parametrize(("first", "count"), [(0, 4000), (3, 1), (5, 6), (1021, 1027)])
def test_gaps_find_all_rare_draws_below_the_thresholds_and_no_other(many, first, count):
    survival = many[0][:, first : first + count]
    threshold = np.array([0.0, RARE / 3, RARE, 0.5])
    entry = (np.arange(1000) % 4).astype(np.uint16)
    kept = np.empty((count, 1000), np.int64)
    number = np.zeros(count, np.int64)
    blocks = np.arange(-(-1000 // DEVICES_PER_BLOCK), dtype=np.uint32)
    find_rare(blocks, entry, threshold, first, count, IDENTITY, LAST, *KEY, 0, kept, number)
    below = (survival < threshold[entry][:, None]) & (survival < RARE)
    assert np.array_equal(number, below.sum(axis=0))
    for step in range(count):
        assert set(kept[step, : number[step]]) == set(CODES * np.flatnonzero(below[:, step]))


@pytest.mark.parametrize(("first", "count"), [(0, 400), (3, 1), (5, 6), (1021, 527)])
def test_screening_keeps_all_usual_draws_below_the_thresholds(many, first, count):
    survival = many[0][:, first : first + count]
    share = 0.02
    devices = np.arange(0, 1000, 3, dtype=np.uint32)
    bound = np.full(devices.size, int(65536 * share) + 1, np.uint32)
    kept = np.empty((count, 1000), np.int64)
    number = np.zeros(count, np.int64)
    screen(devices, bound, first, count, IDENTITY, LAST, *KEY, USUAL, kept, number)
    below = (survival[devices] < RARE + (1 - RARE) * share) & (survival[devices] >= RARE)
    for step in range(count):
        found = set(kept[step, : number[step]])
        assert found >= set(CODES * devices[below[:, step]].astype(np.int64) + USUAL)
    assert number.sum() < 1.3 * below.sum() + 20


def test_the_table_of_gaps_is_the_geometric_law():
    j = np.arange(1, DEVICES_PER_BLOCK + 1)
    exact = 1 - (1 - RARE) ** j
    assert np.all(np.abs(GAPS / 2.0**32 - exact) <= 2.0**-32)


@pytest.mark.parametrize("word", [0, 1, *GAPS[:3], *(GAPS - 1)[:3], GAPS[60], GAPS[-1] - 1])
def test_a_gap_is_where_the_table_says(word):
    found = draws.gap_of(np.uint32(word))
    assert found == np.searchsorted(GAPS, np.uint32(word), side="right")


def test_words_beyond_the_table_have_no_rare_draw():
    assert draws.gap_of(GAPS[-1]) == DEVICES_PER_BLOCK
    assert draws.gap_of(np.uint32(0xFFFFFFFF)) == DEVICES_PER_BLOCK


def test_the_extreme_bits_stay_in_range():
    zero, ones = np.uint32(0), np.uint32(0xFFFFFFFF)
    assert draws.rare_survival(zero, zero) == 2.0**-65
    assert draws.rare_survival(ones, ones) <= RARE
    assert draws.usual_survival(zero, zero) >= RARE
    assert draws.usual_survival(ones, ones) == 1 - 2.0**-53
