"""Runs of steps with the same culprit: counted, joined, and in the Dataset."""

from __future__ import annotations

import itertools
import math
from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import scenario

import mcsim
from mcsim.engine import simulate
from mcsim.engine.runs import POWERS, Runs, culprits
from mcsim.engine.sampled import SampledEngine
from mcsim.model import lower

LOGNORMAL = {"law": "lognormal", "mean": 1, "cv": 0.05}
GROUPS = 3


def counted(whose):
    """The obvious version: group by group, one run after the other."""
    counts, longest = np.zeros((GROUPS, POWERS), np.int64), np.zeros(GROUPS, np.int64)
    for culprit, run in itertools.groupby(whose):
        length, group = len(list(run)), culprit >> 32
        counts[group, int(math.log2(length))] += 1
        longest[group] = max(longest[group], length)
    return counts, longest


def runs_of(whose):
    return Runs.of(np.array(whose, np.int64), GROUPS)


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def equal(one, other):
    fields = ("steps", "first", "last", "counts", "longest")
    return same([getattr(one, f) for f in fields], [getattr(other, f) for f in fields])


whose = st.lists(
    st.tuples(st.integers(0, GROUPS - 1), st.integers(0, 1), st.integers(1, 9)), min_size=1
).map(lambda runs: [g << 32 | d for g, d, length in runs for _ in range(length)])


@given(whose, st.lists(st.integers(1, 60), max_size=6))
def test_runs_are_counted_wherever_the_steps_are_cut(steps, cuts):
    ends = [0, *sorted({cut for cut in cuts if cut < len(steps)}), len(steps)]
    parts = [runs_of(steps[a:b]) for a, b in itertools.pairwise(ends)]
    whole = runs_of(steps)
    forwards = reduce(Runs.joined, parts)
    backwards = reduce(lambda later, part: part.joined(later), reversed(parts))
    assert equal(forwards, whole)
    assert equal(backwards, whole)
    assert same(whole.ended(), counted(steps))
    counts, longest = whole.ended()
    assert longest.max() <= len(steps) < 2 * (counts * 2 ** np.arange(POWERS)).sum()


def test_a_run_without_end_is_one():
    block = runs_of([1 << 32] * 1_024)
    joined = block
    for _ in range(20):
        joined = joined.joined(joined)
    counts, longest = joined.ended()
    assert counts.sum() == counts[1, 30] == 1
    assert longest.tolist() == [0, 2**30, 0]


def fleet(count, **jitter):
    return {"count": count, "jitter": {"step": LOGNORMAL, **jitter}}


@pytest.mark.parametrize("engine", ["sampled", "exact"])
def test_runs_of_independent_steps_are_geometric(engine):
    # Of two like groups the one is last with p = 3/4, whatever came before.
    steps, p = 60_000, 0.75
    asked = scenario(fleet(300), fleet(100), steps=steps).replace({"run.engine": engine})
    found = mcsim.run(asked)
    lengths = found.run_length.values
    assert lengths.tolist() == (2 ** np.arange(lengths.size)).tolist()
    for group, chance in ((0, p), (1, 1 - p)):
        counts = found.culprit_run_length.values[0, group]
        runs = steps * p * (1 - p)
        assert abs(counts.sum() - runs) < 5 * math.sqrt(runs)
        for length, count in zip(lengths, counts, strict=True):
            expected = runs * (chance ** (length - 1) - chance ** (2 * length - 1))
            assert abs(count - expected) < 5 * math.sqrt(expected) + 5
        longest = int(found.culprit_run_longest[0, group])
        assert abs(longest - math.log(runs) / -math.log(chance)) < 14 / -math.log(chance)
    assert ("device_run_length" in found) == (engine == "sampled")
    if engine == "sampled":
        # Of 400 like devices each is as likely to be last once more: 1 of 400.
        counts = found.device_run_length.values[0].sum(axis=0)
        again = steps * 399 / 400 / 400
        assert abs(counts[1] - again) < 5 * math.sqrt(again)


def test_a_device_that_is_slower_for_good_is_always_the_one():
    slowest = {"count": 1, "compute": 2.0, "jitter": {"step": LOGNORMAL}}
    found = mcsim.run(scenario(fleet(500), slowest, steps=3_000).replace({"run.engine": "sampled"}))
    assert found.device_run_longest.values.tolist() == [[0, 3_000]]
    assert found.culprit_run_length.values[0, 1].tolist() == [0] * 11 + [1]


def test_kept_jitter_makes_the_runs_of_devices_longer():
    # See test_held: the slowest of many stays with c / (2 - c), and then runs are geometric.
    for correlation in (0.0, 0.8):
        steps = 20_000
        plan = lower(scenario(fleet(5_000, correlation=correlation), steps=steps))
        (counts, _) = simulate(plan).replicates[0].device_runs.ended()
        stays = correlation / (2 - correlation)
        runs = counts.sum()
        assert (
            abs(runs / steps - (1 - stays)) < 5 * 2 * math.sqrt(stays * (1 - stays) / steps) + 1e-3
        )


def test_the_device_of_each_step_is_in_range_and_runs_do_not_depend_on_tiles():
    plan = lower(scenario(fleet(40), fleet(30, correlation=0.9), steps=3_000))
    steps = SampledEngine(plan).draw(0).sample(0, 500)
    assert np.all(steps.device < np.array([40, 30])[steps.culprit])
    (one,), (other,) = (simulate(plan, tile=tile).replicates for tile in (None, 77))
    assert equal(one.runs, other.runs)
    assert equal(one.device_runs, other.device_runs)
    expected = culprits(np.array([0, 1]), np.array([39, 29]))
    assert (expected >> 32).tolist() == [0, 1]
