"""Remedies: shares are the best there are, who is left out is, and nobody else is drawn anew."""

import itertools

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mcsim
from mcsim.engine.cluster import base_times
from mcsim.engine.sampled import SampledEngine
from mcsim.errors import ScenarioError
from mcsim.model import lower
from mcsim.model.remedies import ABSENT
from mcsim.model.shares import real_shares, whole_room, whole_shares

STEP = {"law": "lognormal", "mean": 1, "cv": 0.1}
PERSISTENT = {"law": "lognormal", "mean": 1, "cv": 0.05}
STALL = {"law": "exponential", "mean": 0.05}
SLOW = {"every": "100 s", "duration": "20 s", "factor": {"law": "constant", "value": 1.5}}


@pytest.mark.parametrize("number", [1, 2, 3, 4])
@pytest.mark.parametrize("average", [1, 2, 3])
@pytest.mark.parametrize("most", [None, 1.5, 2])
def test_whole_shares_are_those_of_brute_force(number, average, most):
    random = np.random.default_rng(number)
    room = number * average if most is None else int(most * average)
    for round_ in range(10):
        # Every other round equal times too, which end together.
        time = random.integers(1, 5, number) / 4 if round_ % 2 else random.uniform(0.5, 2, number)
        best = min(
            max(n * t for n, t in zip(some, time, strict=True))
            for some in itertools.product(range(room + 1), repeat=number)
            if sum(some) == number * average
        )
        found = whole_shares(time, average, None if most is None else room)
        assert found.sum() == number * average
        assert found.max() <= room
        assert (found * time).max() == best


@given(
    st.lists(st.floats(0.1, 10), min_size=1, max_size=30),
    st.one_of(st.just(np.inf), st.floats(1.0, 4.0)),
)
@settings(max_examples=200, deadline=None)
def test_real_shares_end_together_but_for_those_that_are_full(time, most):
    time = np.array(time)
    share = real_shares(time, most)
    assert share.mean() == pytest.approx(1)
    assert share.max() <= most
    end = (share * time)[share < most * (1 - 1e-12)]
    if end.size:
        assert end == pytest.approx(end[0])
        assert (share * time).max() == pytest.approx(end[0])
        # Who is full would be done with more before the others are.
        assert np.all(time[share >= most * (1 - 1e-12)] * most <= end[0] * (1 + 1e-9))


def test_whole_shares_come_near_real_ones_with_many_microbatches():
    time = np.random.default_rng(1).lognormal(0, 0.3, 50_000)
    real = (real_shares(time) * time).max()
    for average in (1, 8, 64):
        whole = (whole_shares(time / average, average) * time / average).max()
        assert real * (1 - 1e-12) <= whole <= real + time.max() / average
    assert whole < 1.02 * real


def two_generations(**remedy):
    return mcsim.Scenario.from_dict(
        {
            "name": "mixed",
            "run": {"steps": 4},
            "workload": {"compute": "2 s", "reference": "h100-sxm"},
            "fleet": [
                {"name": "h100", "device": "h100-sxm", "count": 150_000},
                {"name": "h200", "device": "h200", "count": 50_000},
                {"name": "gb200", "device": "gb200", "count": 20_000},
            ],
            "remedy": remedy,
        }
    )


def test_equal_work_on_mixed_generations_wastes_an_eighth_and_shares_recover_it():
    equal = mcsim.run(two_generations())
    # 0.88 with the catalogue's 2,500 Tflop/s of a GB200, 0.90 with the 2,250 of a B200.
    assert float(equal.overall_efficiency) == pytest.approx(220 / (200 + 20 * 2500 / 989.4))
    assert 0.875 <= float(equal.overall_efficiency) < 0.905
    for shares in ("group", "device"):
        balanced = mcsim.run(two_generations(shares=shares))
        assert float(balanced.overall_efficiency) == pytest.approx(1, abs=1e-9)
    whole = mcsim.run(two_generations(shares="group", microbatches=16))
    assert float(equal.overall_efficiency) < float(whole.overall_efficiency) < 1
    # 14 on each Hopper and 36 on each GB200 are 16 on average; the GB200s are done last.
    last = 36 * 2 * 989.4 / 2500 / 16
    assert float(whole.overall_step_time_mean) == pytest.approx(last, rel=1e-9)


def test_memory_bounds_what_shares_recover():
    full = mcsim.run(two_generations(shares="group", most_share=1.5))
    # 20,000 do half as much again as the average, and the others what is left.
    left = (220_000 - 1.5 * 20_000) / 200_000
    assert float(full.overall_step_time_mean) == pytest.approx(2 * left)


def fleet(**changes):
    jitter = {"persistent": PERSISTENT, "step": STEP, "stall": STALL, **changes.pop("jitter", {})}
    jitter = {key: value for key, value in jitter.items() if value is not None}
    common = {"devices_per_node": 4, "jitter": jitter}
    return oracle.scenario(
        {"count": 1_500, "site": "a", **common},
        {"count": 701, "site": "b", "compute": 0.98, **common},
        site=[{"name": "a"}, {"name": "b"}],
        link=[{"between": ["a", "b"], "bandwidth": "1 GB/s"}],
        **{"steps": 40, "replicates": 2, **changes},
    )


REMEDIES = [
    {"drop_devices": 30},
    {"drop_nodes": 20},
    {"spares": 0.02},
    {"shares": "device"},
    {"shares": "group", "microbatches": 8, "drop_devices": 3, "drop_nodes": 2, "spares": 0.01},
]
JITTERS = [{}, {"stall": None}, {"slow": SLOW}, {"correlation": 0.5}]


@pytest.mark.parametrize("jitter", JITTERS, ids=["stalls", "plain", "slow", "kept"])
@pytest.mark.parametrize("remedy", REMEDIES, ids=str)
def test_steps_are_those_of_the_devices_that_are_left(remedy, jitter):
    plan = lower(fleet(remedy=remedy, jitter=jitter))
    steps = SampledEngine(plan).draw(1).sample(3, 20)
    slow_and_obvious = oracle.last_arrivals(oracle.cluster_of(plan, 1), 3, 20)
    for name in ("ready", "culprit", "draw", "device"):
        np.testing.assert_array_equal(getattr(steps, name), getattr(slow_and_obvious, name))
    if not jitter:
        # Means over devices have the expectation of those that are not looked at.
        np.testing.assert_allclose(steps.busy, slow_and_obvious.busy, rtol=0.02)


@pytest.mark.parametrize("remedy", REMEDIES, ids=str)
def test_a_remedy_never_redraws_the_cluster(remedy):
    # Of a mean over equal shares, so that what is left can be compared.
    remedy = {key: value for key, value in remedy.items() if key not in ("shares", "microbatches")}
    plain, treated = (base_times(lower(fleet(remedy=one)), 1) for one in ({}, remedy))
    for before, after in zip(plain, treated, strict=True):
        there = after[: before.size] > ABSENT
        np.testing.assert_array_equal(after[: before.size][there], before[there])


def test_the_slowest_are_left_out():
    plain, treated = (
        np.concatenate(base_times(lower(fleet(remedy=one)), 0))
        for one in ({}, {"drop_devices": 30})
    )
    gone = treated == ABSENT
    assert gone.sum() == 30
    assert plain[gone].min() > plain[~gone].max()
    (a, b), (c, d) = (base_times(lower(fleet(remedy=one)), 0) for one in ({}, {"drop_nodes": 20}))
    nodes = [
        np.repeat(np.maximum.reduceat(x, np.arange(0, x.size, 4)), 4)[: x.size] for x in (a, b)
    ]
    slowest, gone = np.concatenate(nodes), np.concatenate([c, d]) == ABSENT
    assert 20 * 4 - 3 <= gone.sum() <= 20 * 4
    assert slowest[gone].min() > slowest[~gone].max()


def test_both_engines_agree_on_who_is_left():
    treated = fleet(remedy={"drop_devices": 30, "shares": "device"}, steps=4_000)
    results = [mcsim.run(treated.replace({"run.engine": one})) for one in ("sampled", "exact")]
    sampled, exact = (result.step_time_mean for result in results)
    error = np.hypot(*(result.step_time_mean_stderr for result in results))
    assert np.all(np.abs(sampled - exact) < 5 * error)


def test_efficiency_counts_those_who_stay_idle():
    plain = oracle.scenario({"count": 100}, steps=2)
    half = mcsim.run(plain.replace({"remedy.drop_devices": 50}))
    assert float(half.overall_efficiency) == pytest.approx(0.5)
    assert float(half.overall_effective_gpus) == pytest.approx(50)
    assert half.devices_at_work.item() == 50
    spared = mcsim.run(plain.replace({"remedy.spares": 0.25}))
    assert spared.devices_at_work.item() == 100
    assert spared.group_devices.item() == 125
    assert float(spared.overall_efficiency) == pytest.approx(0.8)


def test_eviction_ends_slow_states_early_and_costs_its_swaps():
    jitter = {"persistent": None, "step": None, "stall": None, "slow": SLOW}
    long = fleet(jitter=jitter, steps=2_000)
    short = fleet(jitter=jitter, steps=2_000, remedy={"evict_after": "5 s", "swap_cost": "0.1 s"})
    slow = [lower(one).groups[0].slow[0] for one in (long, short)]
    duration = 20 * -np.expm1(-5 / 20)
    assert slow[0].share == pytest.approx(20 / 120)
    assert slow[1].share == pytest.approx(duration / (100 + duration))
    # A spell of a device begins once in 100 s and its duration, looked at once a step.
    found = mcsim.run(short)
    clock = float(found.clock)
    each = -np.expm1(-clock * (1 / 100 + 1 / duration)) / (clock * (1 / 100 + 1 / duration))
    begun = 2_201 / (100 + duration) * each * clock
    assert found.swap_time.item() == pytest.approx(begun * np.exp(-5 / 20) * 0.1)
    whole = found.overall_step_time_mean + found.swap_time
    assert float(found.overall_efficiency) == pytest.approx(
        float(found.ideal_step_time / whole), rel=1e-3
    )


def test_spares_leave_as_many_at_work_as_are_asked_for():
    """Also where the last node is not full."""
    ten = oracle.scenario(
        {"count": 10, "devices_per_node": 8, "jitter": {"persistent": PERSISTENT}},
        replicates=6,
        remedy={"spares": 0.5},
    )
    found = mcsim.run(ten)
    assert found.group_devices.item() == 18
    assert found.devices_at_work.values.tolist() == [10] * 6


def test_shares_of_devices_that_take_no_time_are_refused():
    parts = [
        {"weight": 0.1, "law": "constant", "value": 0},
        {"weight": 0.9, "law": "constant", "value": 1},
    ]
    persistent = {"law": "mixture", "parts": parts}
    for remedy in ({"shares": "device"}, {"shares": "device", "microbatches": 4}):
        with pytest.raises(mcsim.McsimError, match="devices that take some time"):
            mcsim.run(fleet(remedy=remedy, jitter={"persistent": persistent}))


def test_a_group_that_is_left_out_waits_for_nobody():
    one = oracle.scenario({"count": 8}, {"count": 8, "compute": 4.0}, steps=2)
    found = mcsim.run(one.replace({"remedy.drop_devices": 8}))
    assert found.overall_step_time_mean == 1
    assert np.isnan(found.wait_fraction.sel(group="group-1")).all()
    assert found.wait_fraction.sel(group="group-0") == 0


def test_a_room_that_is_a_whole_number_is_not_rounded_down():
    assert whole_room(1.15, 100) == 115
    assert whole_room(1.154, 100) == 115


@pytest.mark.parametrize(
    ("remedy", "message"),
    [
        ({"shares": "devices"}, r'remedy\.shares: .*did you mean "device"'),
        ({"drop_devices": 2_201}, r"remedy\.drop_devices: 2,201 leaves nobody: there are 2,201"),
        ({"drop_nodes": 551}, r"remedy\.drop_nodes: 551 leaves nobody"),
        ({"microbatches": 8}, r"remedy\.microbatches: changes nothing with equal shares"),
        ({"swap_cost": "1 s"}, r"remedy\.swap_cost: changes nothing"),
        ({"evict_after": "1 s"}, r"remedy\.evict_after: changes nothing: no device"),
        ({"spare": 0.1}, r'remedy\.spare: .*did you mean "spares"'),
        ({"shares": "group", "most_share": 0.5}, r"remedy\.most_share: 0\.5 must be at least 1"),
    ],
)
def test_what_cannot_be_done_is_refused(remedy, message):
    with pytest.raises(ScenarioError, match=message):
        lower(fleet(remedy=remedy))


def test_devices_that_are_left_out_are_not_counted():
    with pytest.raises(ScenarioError, match=r'run\.keep: "devices" does not know those'):
        mcsim.run(fleet(remedy={"drop_devices": 1}, keep="devices"))


def test_a_site_that_is_left_out_whole_is_said():
    with pytest.raises(mcsim.McsimError, match=r"\[remedy\] leaves out all devices at a"):
        mcsim.run(fleet(remedy={"drop_devices": 2_000}, jitter={"persistent": None}))
