"""Faults put in on purpose: the checks that everything else relies on must see each of them.

The check is the self-check of a run: the sampled engine against the law of the last arrival, with
a false alarm in a million. Each mutant is a small mistake that a rewrite could make.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from oracle import scenario
from scipy.special import ndtr

import mcsim
from mcsim.engine import engine_of, simulate
from mcsim.engine.draws import complete
from mcsim.engine.exact import site_laws
from mcsim.engine.philox import Purpose, key_of, survivals, word_3
from mcsim.engine.sampled import SampledEngine
from mcsim.engine.selfcheck import check_by_law, compare
from mcsim.engine.tally import Tally
from mcsim.model import lower
from mcsim.model.choice import MOST_A_BLOCK as BLOCK

STEPS = 100 * BLOCK


def lognormal(sigma):
    return {"law": "lognormal", "median": 1, "sigma": sigma}


def fleet(count=2_000, sigma=0.02, **jitter):
    return {
        "name": "a",
        "count": count,
        "devices_per_node": 8,
        "jitter": {"step": lognormal(sigma), **jitter},
    }


def outcome(sampled, expected=None, steps=STEPS):
    """What the self-check says of one plan's steps and another's law."""
    laws = site_laws(lower(expected or sampled), 0)
    replicate = SampledEngine(lower(sampled)).draw(0)
    ready = [replicate.sample(first, BLOCK).ready for first in range(0, steps, BLOCK)]
    return compare(laws, np.concatenate(ready)).outcome


@pytest.mark.parametrize("count", [20, 2_000])
def test_without_a_fault_the_check_passes(count):
    assert outcome(scenario(fleet(count))) == "passed"


def test_a_sigma_off_by_one_per_cent():
    assert outcome(scenario(fleet(sigma=0.0202)), scenario(fleet())) == "failed"


def test_one_device_missing():
    assert outcome(scenario(fleet(19)), scenario(fleet(20))) == "failed"
    assert outcome(scenario(fleet(21)), scenario(fleet(20))) == "failed"


def test_uniforms_of_24_bits(monkeypatch):
    def coarse(*arguments):
        survival, rare = complete(*arguments)
        return (np.floor(survival * 2.0**24) + 0.5) * 2.0**-24, rare

    asked = scenario(fleet(220_000), steps=20_000, keep="steps")

    def distinct():
        (sums,) = simulate(lower(asked)).replicates
        return np.unique(sums.step_time).size

    assert distinct() > 19_990
    monkeypatch.setattr("mcsim.engine.sampled.complete", coarse)
    assert distinct() < 2_000


def shared_by_seeds(draw):
    """Draws of a hundred devices under one seed that come again under the next three."""
    mine = set(draw(5))
    return sum(len(mine & set(draw(seed))) for seed in (6, 7, 8))


def test_a_key_that_is_seed_plus_device():
    index, zero = np.arange(100, dtype=np.uint32), np.zeros(100, np.uint32)
    last = word_3(0, Purpose.STEP)

    def right(seed):
        return survivals(index, zero, np.uint32(1), last, *key_of(seed))

    def wrong(seed):
        return np.concatenate(
            [
                survivals(zero[:1], zero[:1], np.uint32(1), last, *key_of(seed + device))
                for device in range(100)
            ]
        )

    assert shared_by_seeds(right) == 0
    assert shared_by_seeds(wrong) > 100


def test_the_minimum_for_the_maximum(monkeypatch):
    from mcsim.engine.candidates import last_of_each

    def first_of_each(offsets, device, time, survival, excess, latest, *others):
        void = np.isneginf(time)
        early = np.where(void, time, -time)
        last_of_each(offsets, device, early, survival, excess, latest, *others)
        latest *= -1

    monkeypatch.setattr("mcsim.engine.sampled.last_of_each", first_of_each)
    assert outcome(scenario(fleet(20)), steps=4 * BLOCK) == "failed"


def test_the_maximum_of_means_for_the_mean_of_maxima(monkeypatch):
    from mcsim.engine.sampled import sample_steps

    asked = scenario(fleet(20), fleet(30) | {"name": "b"}, steps=4 * BLOCK)
    law = mcsim.law(asked)

    def misses():
        (sums,) = simulate(lower(asked)).replicates
        error = np.sqrt(sums.moments.variance()[0] / asked.run.steps)
        return abs(sums.moments.mean[0] - law.mean()) > 5 * error

    def of_means(*arguments):
        steps = sample_steps(*arguments)
        return dataclasses.replace(steps, time=steps.busy.max(axis=1))

    assert not misses()
    monkeypatch.setattr("mcsim.engine.sampled.sample_steps", of_means)
    assert misses()


def test_the_last_partial_block_dropped(monkeypatch):
    asked = scenario(fleet(20), steps=2 * BLOCK + 100)

    def counted():
        (sums,) = simulate(lower(asked)).replicates
        return int(sums.histogram.counts.sum()), sums.moments.count, int(sums.culprits.sum())

    assert counted() == (asked.run.steps,) * 3
    add = Tally.add

    def add_all_but_the_last(tally, replicate, parts):
        add(tally, replicate, [part for part in parts if part.steps % BLOCK == 0])

    monkeypatch.setattr(Tally, "add", add_all_but_the_last)
    monkeypatch.setattr(Tally, "is_complete", True)
    assert counted() != (asked.run.steps,) * 3


@pytest.mark.parametrize("level", ["node", "persistent"])
def test_a_shared_factor_drawn_anew_in_every_step(monkeypatch, level):
    asked = scenario(fleet(160, **{level: lognormal(0.05)}))
    assert outcome(asked, steps=4 * BLOCK) == "passed"

    def step_by_step(engine, replicate):
        def sample(first, count):
            # Of each step another cluster, as if its number were part of the address.
            one = [
                SampledEngine.draw(engine, step).sample(step, 1)
                for step in range(first, first + count)
            ]
            return one[0].joined(*one[1:])

        return type("Redrawn", (), {"sample": staticmethod(sample)})()

    laws = site_laws(lower(asked), 0)
    engine = SampledEngine(lower(asked))
    redrawn = step_by_step(engine, 0).sample(0, 500).ready
    assert compare(laws, redrawn).outcome == "failed"


def test_a_failed_check_is_said_loudly_and_written_down(monkeypatch, tmp_path):
    asked = scenario(fleet(), steps=50)
    monkeypatch.setattr("mcsim.engine.selfcheck.site_laws", lambda plan, replicate: wrong)
    wrong = site_laws(lower(scenario(fleet(sigma=0.025))), 0)
    with pytest.warns(mcsim.SelfCheckWarning, match="self-check failed: the distribution"):
        found = mcsim.run(asked)
    assert found.attrs["self_check"] == "failed"
    assert found.attrs["self_check_deviation"] > found.attrs["self_check_bound"]
    mcsim.write(found, tmp_path / "failed.nc")
    with mcsim.open(tmp_path / "failed.nc") as read:
        assert read.attrs["self_check"] == "failed"
        assert "self-check failed" in mcsim.results.summarise(read)


def test_a_passed_check_states_its_deviation_and_bound():
    plan = lower(scenario(fleet(), steps=50))
    check = check_by_law(plan, engine_of("sampled", plan), 2)
    assert check.outcome == "passed"
    assert 0 < check.deviation < check.bound < 0.06
    assert check.steps >= 4 * BLOCK


def test_the_check_has_the_power_it_states():
    # A shift of the distribution function by twice the bound is always found.
    laws = site_laws(lower(scenario(fleet(1))), 0)
    random = np.random.default_rng(3)
    values = np.exp(0.02 * random.standard_normal((4_096, 1)))
    assert compare(laws, values).outcome == "passed"
    bound = compare(laws, values).bound
    shift = 2 * bound * np.sqrt(2 * np.pi) * 0.02
    moved = values * np.exp(shift)
    assert abs(ndtr(shift / 2 / 0.02) - ndtr(-shift / 2 / 0.02) - 2 * bound) < 0.01
    assert compare(laws, moved).outcome == "failed"
