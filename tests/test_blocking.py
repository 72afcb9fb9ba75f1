"""Standard errors of means whose steps remember each other."""

from __future__ import annotations

import math
from functools import reduce

import numpy as np
import pytest
from oracle import scenario

from mcsim.engine import simulate
from mcsim.engine.blocking import LEAST_BATCHES, Blocking
from mcsim.engine.pairwise import Pairwise
from mcsim.model import lower
from mcsim.results.estimates import Summary

BLOCK = 64


def summed(values):
    parts = [
        Pairwise.of(number, Blocking.of(values[at : at + BLOCK], BLOCK))
        for number, at in enumerate(range(0, len(values), BLOCK))
    ]
    return reduce(Pairwise.joined, parts).total()


@pytest.mark.parametrize("count", [1, 5, 64, 65, 128, 640, 1000, 64 * 37 + 11])
def test_blocks_one_after_the_other_give_the_batches_of_all_steps(count):
    values = np.random.default_rng(count).standard_normal((count, 3)).cumsum(axis=0)
    found = summed(values)
    for power, level in enumerate(found.levels):
        size = 2**power
        # A batch never reaches beyond the last whole block.
        whole = count if size < BLOCK else count // BLOCK * BLOCK
        batches = values[: whole // size * size].reshape(-1, size, 3).mean(axis=1)
        assert level.count == len(batches)
        if level.count:
            assert np.allclose(level.mean, batches.mean(axis=0), rtol=1e-9)
            assert np.allclose(level.second, ((batches - batches.mean(axis=0)) ** 2).sum(axis=0))


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.9, 0.99])
def test_the_inefficiency_of_an_autoregression_is_known(memory):
    random = np.random.default_rng(3)
    steps, columns = 2**17, 40
    values = np.empty((steps, columns))
    values[0] = random.standard_normal(columns)
    noise = random.standard_normal((steps, columns)) * math.sqrt(1 - memory**2)
    for step in range(1, steps):
        values[step] = memory * values[step - 1] + noise[step]
    found = summed(values).inefficiency()
    expected = (1 + memory) / (1 - memory)
    assert np.all(found >= 1)
    assert abs(np.mean(found) / expected - 1) < 0.15


def test_few_steps_are_taken_as_independent():
    values = np.arange(LEAST_BATCHES - 1.0)[:, None]
    assert summed(values).inefficiency().tolist() == [1.0]
    assert summed(np.ones((500, 2))).inefficiency().tolist() == [1.0, 1.0]


def test_errors_of_slow_fleets_are_as_large_as_their_means_scatter():
    slow = {"every": 400.0, "duration": 60.0, "factor": {"law": "constant", "value": 1.5}}
    fleet = {"count": 4, "jitter": {"slow": slow}}
    means, errors, naive = [], [], []
    for seed in range(120):
        summary = Summary(simulate(lower(scenario(fleet, steps=16_000, seed=seed))))
        means.append(summary.step_time[0])
        errors.append(summary.mean_stderr[0, 0])
        naive.append(math.sqrt(summary.variance[0, 0] / 16_000))
    scatter = np.std(means, ddof=1)
    assert 0.8 < np.sqrt(np.mean(np.square(errors))) / scatter < 1.25
    assert np.mean(naive) < 0.25 * scatter
