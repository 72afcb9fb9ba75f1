"""Slow states: a Markov chain's shares, durations and memory, entered at any step."""

from __future__ import annotations

import math

import numpy as np
import pytest
from oracle import cluster_of, last_arrivals, scenario

import mcsim
from mcsim.engine import simulate
from mcsim.engine.sampled import SampledEngine
from mcsim.engine.states import spells_of, unit_spells
from mcsim.model import lower

LOGNORMAL = {"law": "lognormal", "mean": 1, "cv": 0.05}
FACTOR = {"law": "lognormal", "median": 1.3, "sigma": 0.1}


def slow(every, duration, factor=FACTOR):
    return {"every": every, "duration": duration, "factor": factor}


def states(plan, first, count, devices):
    """Whether each device of group 0 is slow, shape (steps, devices)."""
    row, device, _ = spells_of(plan, 0, 0, first, count).steps(first, count)
    found = np.zeros((count, devices), bool)
    found[row, device] = True
    return found


@pytest.mark.parametrize(("every", "duration"), [(40.0, 10.0), (3.0, 5.0), (900.0, 100.0)])
def test_shares_durations_and_memory_are_those_of_the_chain(every, duration):
    devices, steps = 20_000, 2_000
    plan = lower(scenario({"count": devices, "jitter": {"slow": slow(every, duration)}}))
    found = states(plan, 1_000, steps, devices)
    share = duration / (every + duration)
    stay = math.exp(-(1 / every + 1 / duration))
    # Of a chain with autocorrelation stay^k, the variance of the mean over n steps.
    n = steps
    memory = (1 + stay) / (1 - stay) - 2 * stay * (1 - stay**n) / n / (1 - stay) ** 2
    error = math.sqrt(share * (1 - share) * memory / n / devices)
    assert abs(found.mean() - share) < 5 * error
    # How often a spell ends is one over its mean length.
    leave = (1 - stay) * (1 - share)
    begun = found[1:] & ~found[:-1]
    ended = ~found[1:] & found[:-1]
    rate = ended.sum() / found[:-1].sum()
    assert abs(rate - leave) < 5 * math.sqrt(leave / found[:-1].sum())
    rate = begun.sum() / (~found[:-1]).sum()
    fall = (1 - stay) * share
    assert abs(rate - fall) < 5 * math.sqrt(fall / (~found[:-1]).sum())
    for lag in (1, 3, 17):
        together = (found[lag:] & found[:-lag]).mean()
        expected = share**2 + share * (1 - share) * stay**lag
        assert abs(together - expected) < 5 * error * 2


def test_a_trajectory_entered_late_is_the_one_walked_from_the_start():
    devices = 300
    for every, duration in ((40.0, 10.0), (50_000.0, 2_000.0), (1.0, 0.5), (1e12, 1e9)):
        plan = lower(scenario({"count": devices, "jitter": {"slow": slow(every, duration)}}))
        whole = states(plan, 0, 30_000, devices)
        for first, count in ((0, 1), (1, 1), (777, 3), (16_384, 700), (29_999, 1)):
            assert np.array_equal(states(plan, first, count, devices), whole[first : first + count])


def test_entering_at_step_a_billion_costs_no_walk():
    plan = lower(scenario({"count": 1_000, "jitter": {"slow": slow(1e4, 1e3)}}))
    late = states(plan, 10**9, 1_000, 1_000)
    assert np.array_equal(states(plan, 10**9 + 500, 20, 1_000), late[500:520])
    assert abs(late.mean() - 1 / 11) < 0.05


def test_factors_are_those_of_the_law_and_last_as_long_as_the_spell():
    plan = lower(scenario({"count": 50_000, "jitter": {"slow": slow(100.0, 20.0)}}))
    spells = spells_of(plan, 0, 0, 5_000, 1)
    logs = np.log(spells.factor)
    assert abs(logs.mean() - math.log(1.3)) < 5 * 0.1 / math.sqrt(logs.size)
    assert abs(logs.std() - 0.1) < 5 * 0.1 / math.sqrt(2 * logs.size)
    later = spells_of(plan, 0, 0, 5_001, 1)
    _, here, there = np.intersect1d(spells.device, later.device, return_indices=True)
    same = spells.factor[here] == later.factor[there]
    # A refresh that brings slowness once more brings another factor.
    stay, share = math.exp(-(1 / 100 + 1 / 20)), 1 / 6
    expected = stay / (stay + (1 - stay) * share)
    assert abs(same.mean() - expected) < 5 * math.sqrt(expected * (1 - expected) / same.size)


def test_nodes_and_racks_are_slow_as_a_whole():
    jitter = {"slow_node": slow(20.0, 5.0), "slow_rack": slow(50.0, 5.0)}
    plan = lower(
        scenario({"count": 42, "devices_per_node": 4, "nodes_per_rack": 3, "jitter": jitter})
    )
    row, device, factor = spells_of(plan, 0, 0, 0, 400).steps(0, 400)
    found = np.ones((400, 42))
    found[row, device] = factor
    group = plan.groups[0]
    expected = np.ones((400, 42))
    assert [state.level for state in group.slow] == ["node", "rack"]
    for state, size in zip(group.slow, (4, 12), strict=True):
        unit, start, end, draw = unit_spells(plan, group, state, 0, 0, 400)
        for u, s, e, x in zip(unit, start, end, state.factor.quantile(draw), strict=True):
            expected[s:e, u * size : (u + 1) * size] *= x
    assert np.allclose(found, expected, rtol=1e-15)
    assert (expected > 1).any(axis=0).all()


FLEETS = {
    "devices": [
        {
            "count": 3_000,
            "jitter": {"persistent": LOGNORMAL, "step": LOGNORMAL, "slow": slow(200.0, 20.0)},
        }
    ],
    "with stalls": [
        {
            "count": 1_000,
            "jitter": {
                "persistent": LOGNORMAL,
                "step": LOGNORMAL,
                "stall": {"law": "exponential", "mean": 0.1},
                "slow": slow(50.0, 5.0, {"law": "constant", "value": 1.2}),
            },
        }
    ],
    "faster for a while": [
        {
            "count": 500,
            "jitter": {
                "step": LOGNORMAL,
                "slow": slow(5.0, 5.0, {"law": "uniform", "low": 0.5, "high": 1.0}),
            },
        }
    ],
    "nodes, racks and a healthy group": [
        {
            "count": 1_001,
            "devices_per_node": 8,
            "nodes_per_rack": 4,
            "jitter": {
                "persistent": LOGNORMAL,
                "step": LOGNORMAL,
                "slow": slow(300.0, 10.0),
                "slow_node": slow(500.0, 30.0),
                "slow_rack": slow(900.0, 30.0),
            },
        },
        {"count": 800, "jitter": {"persistent": LOGNORMAL, "step": LOGNORMAL}},
    ],
    "nothing else": [{"count": 40, "jitter": {"slow": slow(20.0, 20.0)}}],
    "nobody for long": [{"count": 40, "jitter": {"step": LOGNORMAL, "slow": slow(1e9, 1.0)}}],
}


@pytest.mark.parametrize("name", FLEETS)
def test_the_last_arrivals_are_those_of_all_devices(name):
    plan = lower(scenario(*FLEETS[name], seed=3))
    cluster = cluster_of(plan)
    for first, count in ((0, 40), (100_000, 25)):
        expected = last_arrivals(cluster, first, count)
        found = SampledEngine(plan).draw(0).sample(first, count)
        assert np.array_equal(found.ready, expected.ready)
        assert np.array_equal(found.culprit, expected.culprit)
        assert np.array_equal(found.draw, expected.draw)
    # Those who cannot be last count by their expectation: right on average.
    busy = simulate(plan).replicates[0].moments.mean[-len(plan.groups) :]
    several = np.array([last_arrivals(cluster, at, 1).busy[0] for at in range(0, 1_000, 20)])
    assert np.allclose(busy, several.mean(axis=0), rtol=0.02)


def test_tiles_threads_and_length_change_no_bit():
    asked = scenario(*FLEETS["nodes, racks and a healthy group"], steps=3_000, keep="steps")
    plan = lower(asked)
    (plain,) = simulate(plan).replicates
    for other in (simulate(plan, threads=1), simulate(plan, threads=3, tile=77)):
        assert np.array_equal(other.replicates[0].step_time, plain.step_time)
    shorter = lower(asked.replace({"run.steps": 1_500}))
    assert np.array_equal(simulate(shorter).replicates[0].step_time, plain.step_time[:1_500])


def test_a_slow_state_without_jitter_has_the_mean_of_a_maximum_over_slow_devices():
    # One of 30 devices is slow by half with probability 1 - (1 - share)^30.
    factor = {"law": "constant", "value": 1.5}
    asked = scenario({"count": 30, "jitter": {"slow": slow(30.0, 1.0, factor)}}, steps=200_000)
    found = mcsim.run(asked)
    share = 1 / 31
    expected = 1 + 0.5 * (1 - (1 - share) ** 30)
    # Steps remember each other a little: three times the independent error.
    assert abs(float(found.step_time_mean[0]) - expected) < 3 * 5 * 0.5 / math.sqrt(200_000)
    assert found.attrs["engine"] == "sampled"
    assert "remember" in found.attrs["engine_reason"]
    assert found.attrs["self_check"] == "passed"


def test_what_does_not_know_slow_states_says_so():
    asked = scenario(*FLEETS["nothing else"])
    for settings, message in (
        ({"run.engine": "exact"}, "has a slow state"),
        ({"run.keep": "devices"}, "slow states"),
    ):
        with pytest.raises(mcsim.ScenarioError, match=message):
            mcsim.run(asked.replace(settings))
    with pytest.raises(mcsim.ScenarioError, match="has a slow state"):
        mcsim.law(asked)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"duration": 1, "factor": FACTOR}, "every"),
        ({"every": 0, "duration": 1, "factor": FACTOR}, "above 0"),
        ({"every": 1, "duration": -1, "factor": FACTOR}, "above 0"),
        ({"every": 1, "duration": 1}, "factor"),
        (
            {"every": 1, "duration": 1, "factor": {"law": "pareto", "scale": 1, "alpha": 0.5}},
            "alpha",
        ),
    ],
)
def test_impossible_states_are_refused(state, message):
    with pytest.raises(mcsim.ScenarioError, match=message):
        scenario({"count": 4, "jitter": {"slow": state}})
