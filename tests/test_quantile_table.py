"""Tables of laws against the laws: every value is right, or says that it is not known."""

from __future__ import annotations

import math
import re
from functools import cache
from typing import Any

import numba
import numpy as np
import pytest
from test_laws import EVERY_LAW, LAW_IDS, mixture

from mcsim.engine.compile import SeparateArrays
from mcsim.engine.quantile_table import (
    ACCURACY,
    LOWER_DEPTH,
    UPPER_DEPTH,
    Cells,
    Interval,
    QuantileTable,
    nearer_tail,
    quantile_at,
    quantiles,
)
from mcsim.laws import (
    LAWS,
    Constant,
    Empirical,
    Exponential,
    FloatArray,
    FromSciPy,
    Gamma,
    Law,
    LogNormal,
    Normal,
    Pareto,
    Uniform,
    Weibull,
)

INTERVALS = [(2.0**-8, 1.0), (2.0**-12, 2.0**-8), (0.0, 2.0**-12), (0.0, 1.0)]
STALLS = mixture((0.9, Constant(0.0)), (0.1, Exponential(0.002)))
SLOW_STATE = mixture((0.5, Constant(1.0)), (0.25, Constant(1.5)), (0.25, Constant(3.0)))

USUAL: list[Law] = [
    LogNormal(mean=1.0, cv=0.015),
    LogNormal(mean=1.0, cv=0.3),
    LogNormal(median=2e-5, sigma=2.0),
    Gamma(1.0, 0.05),
    Gamma(1.0, 1.0),
    Weibull(1.0, 0.5),
    Weibull(2.0, 10.0),
    Exponential(0.002),
    Normal(1.0, 0.05),
    Uniform(0.0, 1.0),
    Uniform(1.0, 1.2),
    Pareto(1.0, 1.01),
    Pareto(1.0, 6.0),
]
"""Within ACCURACY of the value itself, everywhere."""
STEEP: list[Law] = [
    LogNormal(median=1.0, sigma=3.0),
    Gamma(1.0, 3.0),
    Gamma(1.0, 10.0),
    Weibull(1.0, 0.3),
    Normal(0.0, 1.0),
    Uniform(-0.3, 0.7),
    FromSciPy("t", (("df", 1.5),)),
    FromSciPy("gumbel_r", scale=1e-3),
]
"""Within ACCURACY of the value and the size of the values, everywhere."""
BROKEN: list[Law] = [
    STALLS,
    SLOW_STATE,
    mixture((0.5, Constant(1.0)), (0.5, LogNormal(mean=3.0, cv=0.1))),
    mixture((0.9999, Constant(0.0)), (0.0001, Exponential(0.002))),
    Empirical(values=(1.0, 1.1, 1.3, 2.0, 5.0), probabilities=(0.0, 0.5, 0.9, 0.99, 1.0)),
    Empirical(values=tuple(np.random.default_rng(1).lognormal(0.0, 0.3, 40).tolist())),
    LogNormal(median=1.0, sigma=100.0),
]
ALL = [*EVERY_LAW, *USUAL, *STEEP, *BROKEN]
every_law = pytest.mark.parametrize(
    "law",
    ALL,
    ids=[
        *LAW_IDS,
        *(f"{type(law).__name__}-more-{i}" for i, law in enumerate(ALL[len(LAW_IDS) :])),
    ],
)


@cache
def table_of(law: Law) -> QuantileTable:
    return QuantileTable.of(law)


def words(count: int = 4000) -> Any:
    """Random ones, and as many near either end."""
    random = np.random.default_rng(4)
    small = (2.0 ** random.uniform(0.0, 32.0, count)).astype(np.uint32)
    anywhere = random.integers(0, 2**32, count, dtype=np.uint32)
    ends = np.array([0, 1, 2, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1], np.uint32)
    return np.concatenate([anywhere, small, ~small, ends])


def drawn(cells: Cells, word: Any, low: float, high: float) -> FloatArray:
    out = np.empty(word.size, np.float32)
    quantiles(word, Interval.of(low, high), cells, out)
    return out.astype(np.float64)


def survivals(word: Any, low: float, high: float) -> FloatArray:
    return low + (high - low) * (word + 0.5) * 2.0**-32


@numba.njit
def read(tail: Any, is_upper: bool, cells: Cells, out: Any) -> None:
    for l in range(tail.size):
        out[l] = quantile_at(tail[l], is_upper, cells)


def at_tails(cells: Cells, tail: Any, is_upper: bool) -> FloatArray:
    out = np.empty(tail.size, np.float32)
    read(tail, is_upper, cells, out)
    return out.astype(np.float64)


def true(law: Law, survival: FloatArray) -> FloatArray:
    with np.errstate(all="ignore"):
        return law.quantile(survival)


def worst(found: FloatArray, exact: FloatArray, scale: float) -> float:
    """The largest error of what is not left to the law, relative to |q| + scale."""
    known = ~np.isnan(found)
    error, size = np.abs(found - exact)[known], (np.abs(exact) + scale)[known]
    assert (error[size == 0.0] == 0.0).all()
    return float(np.max(error[size > 0.0] / size[size > 0.0], initial=0.0))


def worst_of_words(law: Law, cells: Cells, scale: float) -> float:
    return max(
        worst(drawn(cells, words(), *ends), true(law, survivals(words(), *ends)), scale)
        for ends in INTERVALS
    )


def mantissas() -> FloatArray:
    """Both sides of the edges of all cells of an octave, and places between."""
    edge = 1.0 + np.arange(128) / 128
    inside = edge + np.random.default_rng(3).integers(1, 2**12, 128) * 2.0**-19
    return np.concatenate([edge, inside, edge + 2.0**-7 - 2.0**-19])


@every_law
def test_a_word_gives_the_quantile_of_its_survival_or_nothing(law: Law) -> None:
    table = table_of(law)
    assert worst_of_words(law, table.cells, table.scale) < ACCURACY


@every_law
def test_cells_hold_from_edge_to_edge_in_all_octaves(law: Law) -> None:
    table, mixed = table_of(law), "parts" in vars(law) or isinstance(law, FromSciPy)
    step = 8 if mixed else 1  # which are slow
    for is_upper, depth in ((True, UPPER_DEPTH), (False, LOWER_DEPTH)):
        tail = 2.0 ** np.arange(-depth, -1)[:, None] * mantissas()[::step]
        tail = np.append(tail.ravel(), 0.5)
        found = at_tails(table.cells, tail.astype(np.float32), is_upper)
        exact = true(law, tail if is_upper else 1.0 - tail)
        assert worst(found, exact, table.scale) < ACCURACY


@pytest.mark.parametrize("law", USUAL, ids=lambda law: repr(law))
def test_usual_laws_need_neither_a_scale_nor_the_law_itself(law: Law) -> None:
    assert (table_of(law).scale, table_of(law).marked) == (0.0, 0.0)


@pytest.mark.parametrize("law", STEEP, ids=lambda law: repr(law))
def test_steep_laws_need_a_scale_but_not_the_law_itself(law: Law) -> None:
    size = np.abs(true(law, np.arange(0.5, 4096) / 4096))
    assert 0.0 < table_of(law).scale <= 1.1 * np.mean(size**2) / np.mean(size)
    assert table_of(law).marked == 0.0


@pytest.mark.parametrize(("law", "most"), [(STALLS, 0.001), (SLOW_STATE, 0.008)])
def test_a_jump_costs_a_cell_on_either_side_at_most(law: Law, most: float) -> None:
    assert 0.0 < table_of(law).marked <= most


@pytest.mark.parametrize("law", BROKEN, ids=lambda law: type(law).__name__)
def test_the_marked_probability_is_how_often_the_law_is_asked(law: Law) -> None:
    word = np.random.default_rng(7).integers(0, 2**32, 1_000_000, dtype=np.uint32)
    p = table_of(law).marked
    asked = np.isnan(drawn(table_of(law).cells, word, 0.0, 1.0)).mean()
    assert abs(asked - p) <= 5.0 * math.sqrt(p * (1.0 - min(p, 1.0)) / word.size)


@pytest.mark.parametrize(
    "levels", [(0.5, 0.5), (0.75, 0.25), (0.9, 0.1), (0.3, 0.7), (0.999, 0.001)]
)
def test_nothing_lands_on_the_wrong_side_of_a_jump(levels: tuple[float, float]) -> None:
    law = mixture((levels[0], Constant(1.0)), (levels[1], Constant(1.1)))
    for low, high in INTERVALS:
        place = (levels[1] - low) / (high - low) * 2.0**32
        if 0.0 < place < 2.0**32:
            near = np.clip(place + np.arange(-3000, 3000), 0, 2**32 - 1).astype(np.uint32)
            found = drawn(table_of(law).cells, near, low, high)
            assert np.isnan(found).any()
            exact = true(law, survivals(near, low, high)).astype(np.float32)
            assert (found == exact)[~np.isnan(found)].all()


@pytest.mark.parametrize("constant", [0.0, 1.0, 1.1])
def test_no_law_is_a_constant(constant: float) -> None:
    for table in (QuantileTable.of(None, constant), QuantileTable.of(Constant(constant))):
        assert (table.scale, table.marked) == (0.0, 0.0)
        for ends in INTERVALS:
            assert (drawn(table.cells, words(), *ends) == np.float32(constant)).all()


def shifted(cells: Cells) -> Cells:
    return cells._replace(value=np.roll(cells.value, 1), bend=np.roll(cells.bend, 1))


def straight(cells: Cells) -> Cells:
    return cells._replace(bend=cells.bend & np.int32(-(2**13)))


def swapped(cells: Cells) -> Cells:
    return cells._replace(upper=cells.lower, lower=cells.upper)


@pytest.mark.parametrize(
    ("mutant", "law"),
    [
        (shifted, LogNormal(mean=1.0, cv=0.02)),
        (shifted, Exponential(1.0)),
        (straight, Exponential(1.0)),
        (straight, Pareto(1.0, 1.5)),
        (swapped, Normal(0.0, 1.0)),
    ],
)
def test_a_damaged_table_would_be_noticed(mutant: Any, law: Law) -> None:
    table = table_of(law)
    assert worst_of_words(law, mutant(table.cells), table.scale) > 2.0 * ACCURACY


def test_a_law_that_is_slightly_another_would_be_noticed() -> None:
    other = QuantileTable.of(LogNormal(median=1.0, sigma=0.0201))
    assert worst_of_words(LogNormal(median=1.0, sigma=0.02), other.cells, 0.0) > 2.0 * ACCURACY


def test_the_lane_gives_the_same_bits_in_vectors_alone_and_in_python() -> None:
    for law in (LogNormal(mean=1.0, cv=0.3), Normal(0.0, 1.0)):
        cells, word = table_of(law).cells, words(300)
        for ends in INTERVALS:
            interval = Interval.of(*ends)
            together = drawn(cells, word, *ends)
            alone = [drawn(cells, word[i : i + 1], *ends)[0] for i in range(word.size)]
            plain = [quantile_at(*nearer_tail(w, interval), cells) for w in word]
            assert together.tolist() == alone == [float(x) for x in plain]


def test_a_table_is_small_and_made_from_few_values() -> None:
    asked = []

    class Watched(Exponential):
        def quantile(self, survival: FloatArray) -> FloatArray:
            asked.append(survival.size)
            return super().quantile(survival)

    table = QuantileTable.of(Watched(1.0))
    assert sum(asked) < 60_000
    assert len(asked) < 10
    assert table.cells.value.nbytes + table.cells.bend.nbytes < 128 * 1024
    assert (table.cells.value.dtype, table.cells.bend.dtype) == (np.float32, np.int32)


def test_every_law_has_been_tried() -> None:
    assert {type(law) for law in ALL} == set(LAWS.values())


def test_all_tables_share_one_compiled_kernel() -> None:
    for law in (None, Exponential(1.0), STALLS):
        drawn(QuantileTable.of(law).cells, words(), 0.0, 1.0)
    assert len(quantiles.signatures) == 1  # type: ignore[attr-defined]


def test_the_loop_gathers_in_vectors_and_calls_nothing() -> None:
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    if not features.get("avx512vl"):
        pytest.skip("no AVX-512: whether gathers pay there is for LLVM to judge")
    # Compiled anew: of what comes from the cache there is no listing.
    again = numba.njit(nogil=True, error_model="numpy", pipeline_class=SeparateArrays)(
        quantiles.py_func  # type: ignore[attr-defined]
    )
    again(words(), Interval.of(0.0, 1.0), table_of(USUAL[0]).cells, np.empty(12_007, np.float32))
    listing = again.inspect_asm(again.signatures[0])
    loops = listing[: listing.index("retq")]
    assert re.search(r"vp?gatherd\w+\s.*[yz]mm", loops)
    assert re.search(r"vcvtudq2ps\s.*[yz]mm", loops)
    assert "call" not in loops
    assert not re.search(r"\bv(add|sub|mul|fma|cvt)\w*[sp]d\b", loops), "double precision"
    assert "vfma" not in loops, "contracted: bits would depend on the machine"
