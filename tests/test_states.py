"""Slow states: a Markov chain's shares, durations and memory, entered at any step."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from oracle import cluster_of, last_arrivals, scenario

import mcsim
from mcsim import catalogue
from mcsim.engine import simulate
from mcsim.engine.exact import ExactEngine
from mcsim.engine.sampled import SampledEngine
from mcsim.engine.shared import shared_factors
from mcsim.engine.states import Address, Spells, purpose_of, spells_of, unit_spells
from mcsim.model import lower
from mcsim.model.estimate import explain

LOGNORMAL = {"law": "lognormal", "mean": 1, "cv": 0.05}
FACTOR = {"law": "lognormal", "median": 1.3, "sigma": 0.1}


def slow(every, duration, factor=FACTOR):
    return {"every": every, "duration": duration, "factor": factor}


def shock(every, factor=FACTOR):
    return {"every": every, "factor": factor}


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
    for state, size, number in zip(group.slow, (4, 12), (11, 4), strict=True):
        address = Address(plan.seed, 0, group.identity, purpose_of(state))
        spells = unit_spells(state, number, address, 0, 400)
        for u, s, e, x in zip(*(getattr(spells, key) for key in Spells._fields), strict=True):
            expected[s:e, u * size : (u + 1) * size] *= x
    assert np.allclose(found, expected, rtol=1e-15)
    assert (expected > 1).any(axis=0).all()


@pytest.mark.parametrize("every", [0.02, 0.5, 3.0, 100.0, 5_000.0])
def test_shocks_fall_on_each_step_with_the_same_chance_whatever_came_before(every):
    devices, steps = 20_000, 500
    plan = lower(scenario({"count": devices, "jitter": {"shock": shock(every)}}))
    found = states(plan, 10_000, steps, devices)
    chance = -math.expm1(-1 / every)
    error = math.sqrt(chance * (1 - chance) / found.size)
    assert abs(found.mean() - chance) <= 5 * error
    for lag in (1, 2, 7):
        pairs = (found[lag:] & found[:-lag]).mean()
        both = math.sqrt(chance**2 * (1 - chance**2) / found[lag:].size + 4 * chance**2 * error**2)
        assert abs(pairs - chance**2) <= 5 * both
    # Neither among devices: the numbers of a step are binomial.
    spread = found.sum(axis=1).var(ddof=1)
    expected = devices * chance * (1 - chance)
    assert abs(spread - expected) <= 5 * expected * math.sqrt(2.5 / steps)


def test_shocks_entered_late_are_those_walked_from_the_start():
    for every in (0.02, 3.0, 900.0):
        plan = lower(scenario({"count": 50, "jitter": {"shock": shock(every)}}))
        whole = states(plan, 0, 10_000, 50)
        for first, count in ((0, 1), (1, 1), (777, 3), (8_192, 700), (9_999, 1)):
            assert np.array_equal(states(plan, first, count, 50), whole[first : first + count])


def test_shocks_have_factors_of_their_law_and_befall_whole_racks():
    jitter = {"shock_rack": shock(2.0)}
    plan = lower(
        scenario({"count": 250, "devices_per_node": 5, "nodes_per_rack": 2, "jitter": jitter})
    )
    row, device, factor = spells_of(plan, 0, 0, 0, 2_000).steps(0, 2_000)
    found = np.ones((2_000, 250))
    found[row, device] = factor
    racks = found.reshape(2_000, 25, 10)
    assert np.array_equal(racks, np.broadcast_to(racks[:, :, :1], racks.shape))
    logs = np.log(racks[:, :, 0][racks[:, :, 0] != 1])
    assert len(np.unique(logs)) == logs.size
    assert abs(logs.mean() - math.log(1.3)) < 5 * 0.1 / math.sqrt(logs.size)
    assert abs(logs.std() - 0.1) < 5 * 0.1 / math.sqrt(2 * logs.size)


SITES = {
    "site": [{"name": "a"}, {"name": "b"}],
    "jitter": {
        "step": LOGNORMAL,
        "stall": {"law": "exponential", "mean": 0.05},
        "slow_site": slow(40.0, 10.0),
        "shock_site": shock(15.0),
    },
}
GROUPS = [{"count": 300, "site": "a"}, {"count": 200, "site": "b"}, {"count": 100, "site": "a"}]


@pytest.mark.parametrize("engine", [SampledEngine, ExactEngine])
def test_a_slow_site_is_slow_as_a_whole_at_times_of_its_own(engine):
    plan = lower(scenario(*GROUPS, **SITES))
    calm = plan.undisturbed()
    assert not calm.is_disturbed
    first, count = 1_000, 500
    found = engine(plan).draw(0).sample(first, count)
    expected = engine(calm).draw(0).sample(first, count)
    factors = shared_factors(plan, 0, first, count)
    assert np.array_equal(found.ready, expected.ready * factors)
    assert np.array_equal(found.busy, expected.busy * factors[:, [0, 1, 0]])
    late = shared_factors(plan, 0, first + 123, 1)
    assert np.array_equal(late[0], factors[123])


def test_sites_are_slow_independently():
    steps = 100_000
    slow_now = shared_factors(lower(scenario(*GROUPS, **SITES)), 0, 0, steps) > 1
    chance = 1 - 0.8 * math.exp(-1 / 15)
    # The slow states remember 8 steps: so many fewer are independent.
    error = math.sqrt(chance * (1 - chance) * 17 / steps)
    assert np.all(np.abs(slow_now.mean(axis=0) - chance) < 5 * error)
    together = (slow_now[:, 0] & slow_now[:, 1]).mean()
    assert abs(together - chance**2) < 5 * 2 * chance * error


def test_what_a_site_shares_is_refused_of_a_single_group():
    for key, value in (
        ("slow_site", slow(1.0, 1.0)),
        ("shock_site", shock(1.0)),
        ("daily", {"amplitude": 0.1}),
    ):
        with pytest.raises(mcsim.ScenarioError, match="groups of a site share it"):
            scenario({"count": 4, "jitter": {key: value}})


def test_the_mean_over_shocks_of_a_site_is_a_closed_form():
    factor = {"law": "constant", "value": 1.5}
    asked = scenario({"count": 30}, jitter={"shock_site": shock(9.0, factor)}, steps=100_000)
    found = mcsim.run(asked)
    chance = -math.expm1(-1 / 9)
    error = 0.5 * math.sqrt(chance * (1 - chance) / 100_000)
    assert abs(float(found.step_time_mean[0]) - (1 + 0.5 * chance)) < 5 * error
    assert found.attrs["self_check"] == "passed"
    with pytest.raises(mcsim.ScenarioError, match="sites have slow states or shocks"):
        mcsim.law(asked)


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
    "shocks": [
        {
            "count": 1_001,
            "devices_per_node": 8,
            "nodes_per_rack": 4,
            "jitter": {
                "persistent": LOGNORMAL,
                "step": LOGNORMAL,
                "slow_node": slow(500.0, 30.0),
                "shock": shock(400.0),
                "shock_node": shock(500.0),
                "shock_rack": shock(300.0),
            },
        },
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
        assert np.array_equal(found.device, expected.device)
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
    assert "slow state" in found.attrs["engine_reason"]
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
            {"every": 1, "duration": 1, "factor": {"law": "constant", "value": -2}},
            r"jitter.slow.factor: -2, which the constant law reaches, must be above 0",
        ),
        (
            {"every": 1, "duration": 1, "factor": {"law": "pareto", "scale": 1, "alpha": 0.5}},
            "alpha",
        ),
    ],
)
def test_impossible_states_are_refused(state, message):
    with pytest.raises(mcsim.ScenarioError, match=message):
        scenario({"count": 4, "jitter": {"slow": state}})


@pytest.mark.parametrize(
    ("shocks", "message"),
    [
        ({"factor": FACTOR}, "every"),
        ({"every": 0, "factor": FACTOR}, "above 0"),
        ({"every": 1}, "factor"),
        ({"every": 1, "duration": 1, "factor": FACTOR}, "unknown key"),
        ({"every": 1, "factor": {"law": "scipy", "name": "cauchy"}}, "no finite mean"),
        (
            {"every": 1, "factor": {"law": "normal", "mean": 2, "sd": 0.5}},
            r"jitter.shock.factor: -\S+, which the normal law reaches, must be above 0",
        ),
    ],
)
def test_impossible_shocks_are_refused(shocks, message):
    with pytest.raises(mcsim.ScenarioError, match=message):
        scenario({"count": 4, "jitter": {"shock": shocks}})


@pytest.mark.parametrize(
    "name", [n for n, d in catalogue.disturbances().items() if "every" in d.figures]
)
def test_a_published_disturbance_is_what_its_figures_say(name):
    figures = catalogue.disturbance(name).figures
    said = {key: figures[key].value for key in ("every", "duration", "factor")}
    fleet = {"count": 40, "devices_per_node": 8, "compute": 5.0}
    by_name, by_hand = (
        lower(scenario(fleet | {"jitter": {"slow_node": state}}))
        for state in ({"catalogue": name}, said)
    )
    assert by_name == by_hand
    # What is given in the scenario wins.
    mended = lower(scenario(fleet | {"jitter": {"slow_node": {"catalogue": name, "every": "1 h"}}}))
    by_hand = lower(scenario(fleet | {"jitter": {"slow_node": said | {"every": "1 h"}}}))
    assert mended == by_hand != by_name


def test_one_host_in_200_of_the_catalogue_is_slow():
    (state,) = (
        lower(scenario({"count": 4, "jitter": {"slow": {"catalogue": "slow-host"}}})).groups[0].slow
    )
    assert state.share == pytest.approx(0.005)
    assert state.factor.expectation() == 1.1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("slow-hots", r'jitter.slow.catalogue: unknown disturbance "slow-hots" \(did you mean'),
        ("llama-3", r'jitter.slow.catalogue: unknown disturbance "llama-3"; there are falcon'),
        (3, r"jitter.slow.catalogue: 3 must be text"),
    ],
)
def test_a_name_that_is_not_in_the_catalogue_is_refused(name, message):
    with pytest.raises(mcsim.ScenarioError, match=message):
        scenario({"count": 4, "jitter": {"slow": {"catalogue": name}}})


@pytest.mark.parametrize("key", ["persistent", "node", "rack", "site"])
def test_what_lasts_must_be_positive_in_the_mean(key):
    with pytest.raises(
        mcsim.ScenarioError, match=rf"jitter.{key}: -2, its mean, must be at least 0"
    ):
        scenario({"count": 4, "jitter": {key: {"law": "constant", "value": -2}}})
    partly = scenario({"count": 4, "jitter": {key: {"law": "normal", "mean": 1, "sd": 1}}})
    assert f"{key} of all is negative in 15.9 % of its draws" in explain(partly, threads=1)


def test_check_says_what_differs_between_steps():
    jitter = {
        "correlation": 0.9,
        "step": LOGNORMAL,
        "slow_node": slow(99.0, 1.0),
        "shock": shock(1e3),
    }
    common = {"shock_site": shock(1e4), "daily": {"amplitude": 0.01}}
    text = explain(scenario({"count": 40, "jitter": jitter}, jitter=common), threads=1)
    for line in (
        r"correlation +0.9 from step to step \(all\)",
        r"slow_node +lognormal: mean 1.31, 1 % of the time \(all\)",
        r"shock +lognormal: mean \S+, 0.1 % of the time \(all\)",
        r"shock_site +lognormal: mean \S+, 0.01 % of the time",
        r"daily +all times swing by 1 %",
    ):
        assert re.search(line, text), line


class TestClock:
    """What is given in time is counted in steps by the time that an undisturbed one takes."""

    @staticmethod
    def hit(**parts):
        """Part of the steps that a shock of the site hits."""
        jitter = {"shock_site": shock("100 s", {"law": "constant", "value": 2})}
        asked = scenario({"count": 8}, jitter=jitter, steps=50_000, keep="steps", **parts)
        time = mcsim.run(asked).step_time[0].to_numpy()
        return np.mean(time > 1.05 * time.min()), time.min()

    @pytest.mark.parametrize(
        ("workload", "step"),
        [
            # Eight stages and one microbatch: one after the other.
            ({"parallel": {"pipeline": 8}}, 8.0),
            ({"parallel": {"pipeline": 8, "microbatches": 8}}, 1 + 7 / 8),
            ({"parallel": {"pipeline": 2, "activation": "2 GB"}}, 2.0 + 2 * 2),
            # Two replicas a stage sum 1 GB, in one bucket or in ten behind the backward pass.
            ({"parallel": {"pipeline": 4}, "gradient": "4 GB"}, 4.0 + 1.0),
            ({"parallel": {"pipeline": 4, "buckets": 10}, "gradient": "4 GB"}, 4.4),
            # All of eight devices: 2 * 7/8 of 4 GB, half of the second hides of it.
            ({"gradient": "4 GB"}, 1.0 + 7.0),
            ({"gradient": "4 GB", "overlap": 0.5}, 0.5 + 7.0),
        ],
    )
    def test_shocks_hit_as_many_steps_as_begin_in_the_time_of_one(self, workload, step):
        network = {"site": {"bandwidth": "1 GB/s", "algorithm": "ring"}}
        found, least = self.hit(workload=workload, network=network)
        assert least == pytest.approx(step, rel=1e-12)
        chance = -math.expm1(-step / 100)
        assert abs(found - chance) < 5 * math.sqrt(chance * (1 - chance) / 50_000)

    def test_spells_last_as_long_in_seconds_where_the_network_takes_nine_tenths(self):
        state = slow("1000 s", "100 s", {"law": "constant", "value": 2})
        network = {"site": {"bandwidth": "50 GB/s", "algorithm": "ring"}}
        asked = scenario(
            {"count": 1_000},
            workload={"gradient": "225 GB"},
            network=network,
            jitter={"slow_site": state},
        )
        plan = lower(asked)
        # 2 * 0.999 * 225 GB / 50 GB/s, after a second of compute.
        step = 1 + 2 * 0.999 * 225 / 50
        assert plan.clock == pytest.approx(step, rel=1e-12)
        assert mcsim.run(asked.replace({"run.steps": 2})).clock.item() == plan.clock
        (spell,) = plan.slow_sites
        assert spell.share == pytest.approx(1 / 11)
        assert spell.refresh == pytest.approx(-math.expm1(-step * (1 / 1000 + 1 / 100)))

    @pytest.mark.parametrize(
        "parallel",
        [
            {"tensor": 2, "pipeline": 2, "microbatches": 4, "buckets": 3},
            {"pipeline": 4, "microbatches": 8, "schedule": "interleaved", "virtual_stages": 4},
            {"pipeline": 4, "microbatches": 3, "placement": "interleaved", "zero": 3},
            {"pipeline": 4, "microbatches": 4, "placement": "explicit", "stages": [*"abab"]},
            {"expert": 4, "pipeline": 2, "microbatches": 2, "buckets": 4, "zero": 2},
        ],
    )
    def test_it_is_what_the_engine_finds_where_nothing_disturbs(self, parallel):
        model = {"parameters": 1e9, "layers": 16, "hidden": 256, "sequence": 128, "batch": 2**16}
        moe = {"active_parameters": 4e8, "experts": 8}
        asked = scenario(
            {"count": 32, "site": "x", "devices_per_node": 4, "name": "a"},
            {"count": 32, "site": "y", "devices_per_node": 4, "name": "b", "compute": 1.5},
            workload={"model": model | moe | {"mfu": 0.5}, "parallel": parallel},
            site=[{"name": "x"}, {"name": "y"}],
            link=[{"between": ["x", "y"], "bandwidth": "20 GB/s", "latency": "3 ms"}],
            network={
                "node": {"bandwidth": "40 GB/s", "latency": "1 ms"},
                "site": {"bandwidth": "10 GB/s", "latency": "2 ms"},
            },
            steps=2,
        )
        assert mcsim.run(asked).step_time_mean.item() == pytest.approx(lower(asked).clock, 1e-12)
