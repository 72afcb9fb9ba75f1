"""Training or inference: rooflines by hand, queues by the textbook, and sums that must add up."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

import mcsim
from mcsim import catalogue
from mcsim.cli import main
from mcsim.engine import base_times
from mcsim.laws import Constant, Exponential, LogNormal, Mixture, Uniform, WeightedLaw
from mcsim.model import lower
from mcsim.model.collectives import Level
from mcsim.model.economics import HOURS_A_MONTH, Activity, cost_of, draw_of
from mcsim.model.lockstep import Jitter, slowed, spells
from mcsim.model.plan import Shock
from mcsim.model.queueing import erlang_c, kingman, m_g_c
from mcsim.model.replicas import service_of
from mcsim.model.roofline import Replica, Served
from mcsim.results import summarise
from mcsim.results.story import story

PERSISTENT = {"law": "lognormal", "mean": 1, "cv": 0.02}
STEP = {"law": "lognormal", "mean": 1, "cv": 0.005}


def group(name="h100", device="h100-sxm", count=64, **more):
    return {"name": name, "device": device, "count": count, **more}


def asked(*fleet, steps=20, replicates=2, **tables):
    return mcsim.Scenario.from_dict(
        {
            "name": "asked",
            "run": {"steps": steps, "replicates": replicates},
            "workload": {"compute": "2 s", "reference": "h100-sxm", "gradient": "140 GB"},
            "fleet": list(fleet or [group()]),
            **tables,
        }
    )


def service(scenario):
    return service_of(scenario, lower(scenario))


def drawn(scenario, replicate=0):
    plan = lower(scenario)
    return service_of(scenario, plan).drawn(plan, base_times(plan, replicate))


def of(dataset, name, use):
    return float(dataset[name].sel(use=use))


# Queues.


@pytest.mark.parametrize(("servers", "load"), [(1, 0.3), (2, 0.5), (10, 0.8), (60, 0.95)])
def test_erlang_c_is_that_of_the_birth_and_death_of_customers(servers, load):
    offered = servers * load
    terms = [offered**k / math.factorial(k) for k in range(servers)]
    last = offered**servers / math.factorial(servers) / (1 - load)
    assert erlang_c(servers, load) == pytest.approx(last / (sum(terms) + last), rel=1e-12)


def test_erlang_c_of_the_textbook():
    assert erlang_c(1, 0.7) == pytest.approx(0.7, rel=1e-12)
    assert erlang_c(2, 0.5) == pytest.approx(1 / 3, rel=1e-12)
    # Ten servers and an offered load of eight: tables of Erlang's C.
    assert erlang_c(10, 0.8) == pytest.approx(0.4092, abs=5e-5)
    assert erlang_c(5, 0.0) == 0.0


def test_millions_of_servers_are_no_trouble():
    assert erlang_c(3e6, 0.7) == 0.0
    # Halfin & Whitt 1981: with 1 - load = b / sqrt(servers), one limit for all large numbers.
    b = 1.0
    limit = 1 / (1 + b * math.sqrt(2 * math.pi) * 0.5 * (1 + math.erf(b / 2**0.5)) * math.exp(0.5))
    assert erlang_c(1e6, 1 - b / 1e3) == pytest.approx(limit, rel=2e-3)
    with pytest.raises(ValueError, match="below 1"):
        erlang_c(3, 1.0)


def test_one_server_waits_as_pollaczek_and_khinchine_say():
    for cv2 in (0.0, 1.0, 3.0):
        assert m_g_c(1, 0.6, 2.0, cv2) == pytest.approx(kingman(0.6, 2.0, 1.0, cv2), rel=1e-12)
    assert m_g_c(2, 0.5, 3.0, 1.0) == pytest.approx(1 / 3 * 3.0 / (2 * 0.5), rel=1e-12)


# Rooflines.


DENSE = Served(
    parameters=70e9,
    active=70e9,
    layers=80,
    hidden=8192,
    width=2.0,
    cache=327_680.0,
    prompt=1000,
    output=200,
)
FOUR = Replica(served=DENSE, devices=4, peak=500e12, bandwidth=2.5e12, memory=70e9)


def test_prefill_is_bound_by_operations_as_worked_out():
    operations = 1000 * (2 * 70e9 + 4 * 80 * 8192 * 1000)
    found = FOUR.prefill()
    assert found.devices == pytest.approx(operations / (4 * 500e12), rel=1e-12)
    assert (found.exchange, found.by_memory) == (0.0, False)


def test_decode_is_bound_by_memory_as_worked_out():
    read = 70e9 * 2 + 16 * 1100 * 327_680
    found = FOUR.step(16)
    assert found.devices == pytest.approx(read / (4 * 2.5e12), rel=1e-12)
    assert found.by_memory
    # Of many at a time, the operations take longer.
    short = replace(FOUR, served=replace(DENSE, cache=0.0))
    assert not short.step(10_000).by_memory
    assert short.step(10_000).devices == pytest.approx(
        10_000 * (2 * 70e9 + 4 * 80 * 8192 * 1100) / (4 * 500e12), rel=1e-12
    )


def test_replicas_all_reduce_twice_a_layer():
    level = Level(4, 1e-6, 450e9)
    ring = 2 * 3 * 1e-6 + 2 * 3 / 4 * 16 * 8192 * 2 / 450e9
    tree = 2 * 2 * 1e-6 + 2 * 16 * 8192 * 2 / 450e9
    found = replace(FOUR, levels=(level,)).step(16)
    assert found.exchange == pytest.approx(2 * 80 * min(ring, tree), rel=1e-12)


def test_a_mixture_of_experts_reads_what_some_token_uses():
    mixture = replace(DENSE, active=17.5e9)
    assert mixture.weights_read(1) == pytest.approx(2 * 17.5e9, rel=1e-12)
    assert mixture.weights_read(2) == pytest.approx(140e9 * (1 - 0.75**2), rel=1e-12)
    assert DENSE.weights_read(1) == DENSE.weights_read(1000) == 140e9


def test_batches_are_the_largest_that_memory_and_latency_allow():
    room = int((4 * 70e9 - 140e9) / (327_680 * 1200))
    assert FOUR.room == room
    assert FOUR.largest_batch(1e9) == room
    batch = FOUR.largest_batch(0.05)
    assert 1 < batch < room
    assert FOUR.time_per_token(batch) <= 0.05 < FOUR.time_per_token(batch + 1)
    assert FOUR.largest_batch(1e-4) == 0
    assert replace(FOUR, devices=1).room == -1
    # As many requests are begun as are answered.
    step, prefill = FOUR.step(batch).seconds, FOUR.prefill().seconds
    assert FOUR.time_per_token(batch) == pytest.approx(step + batch * prefill / 200, rel=1e-12)


# Devices in lockstep.


@pytest.mark.parametrize("n", [2, 8, 72])
def test_the_mean_maximum_of_equal_devices_is_that_of_the_closed_form(n):
    one = np.ones((1, n))
    harmonic = sum(1 / k for k in range(1, n + 1))
    assert Jitter(Exponential(mean=1.0), None).maximum(one)[0] == pytest.approx(harmonic, rel=2e-3)
    found = Jitter(Uniform(low=1.0, high=2.0), None).maximum(one)[0]
    assert found == pytest.approx(1 + n / (n + 1), rel=5e-4)
    rare = Mixture(
        parts=(
            WeightedLaw(weight=0.995, law=Constant(value=1.0)),
            WeightedLaw(weight=0.005, law=Constant(value=1.1)),
        )
    )
    found = Jitter(rare, None).maximum(one)[0]
    assert found == pytest.approx(1 + 0.1 * (1 - 0.995**n), rel=1e-9)


def test_the_mean_maximum_of_unequal_devices_is_that_of_draws():
    random = np.random.default_rng(1)
    relative = random.normal(1.0, 0.02, (5, 8))
    law, other = LogNormal(mean=1.0, cv=0.01), LogNormal(mean=1.0, cv=0.02)
    n = 400_000
    one, two = (law.quantile(random.random((n, 8))) for law in (law, other))
    for row, single, both in zip(
        relative,
        Jitter(law, None).maximum(relative),
        Jitter(law, other).maximum(relative),
        strict=True,
    ):
        for found, factor in ((single, one), (both, one * two)):
            worst = (row * factor).max(axis=1)
            # Five standard errors, and what quadrature may be off.
            assert abs(found - worst.mean()) < 5 * worst.std() / n**0.5 + 1e-4


def test_constant_devices_take_as_long_as_the_slowest():
    relative = np.array([[1.0, 1.2, 0.9], [1.0, 1.0, 1.0]])
    assert list(Jitter(None, None).maximum(relative)) == [1.2, 1.0]
    assert list(Jitter(Constant(value=2.0), None).maximum(relative)) == [2.4, 2.0]
    # Alone, a device takes as long as it takes on average.
    alone = Jitter(LogNormal(mean=1.5, cv=0.3), None).maximum(np.array([[2.0]]))
    assert alone[0] == pytest.approx(3.0, rel=1e-12)


def test_any_of_several_units_may_be_slow_for_a_while():
    shock = Shock("node", 0.01, Constant(value=1.5))
    assert spells(shock, 1) == pytest.approx(1.005, rel=1e-9)
    assert spells(shock, 8) == pytest.approx(1 + 0.5 * (1 - 0.99**8), rel=1e-9)
    shock = Shock("node", 0.01, Constant(value=0.5))
    assert spells(shock, 8) == 1.0


def test_a_slower_specimen_slows_its_own_replica_and_no_other():
    (one,) = lower(asked(group(count=64), jitter={"step": STEP})).groups
    even = np.full(64, one.compute)
    odd = even.copy()
    odd[19] *= 1.3
    before, after = (slowed(one, base, 8, ()) for base in (even, odd))
    np.testing.assert_array_equal(np.delete(before, 2), np.delete(after, 2))
    # Nobody else is ever as slow as that one.
    assert after[2] == pytest.approx(1.3, rel=1e-4)
    assert before[2] == pytest.approx(1 + 1.4236 * 0.005, rel=1e-4)


@pytest.mark.parametrize("nodes", [1, 2, 4])
def test_slow_spells_of_nodes_befall_all_that_are_in_a_replica(nodes):
    slow = {
        "every": "9 d",
        "duration": "1 d",
        "factor": {"law": "constant", "value": 1.5},
    }
    (one,) = lower(asked(group(count=64), jitter={"slow_node": slow})).groups
    found = slowed(one, np.full(64, one.compute), 8 * nodes, ())
    np.testing.assert_allclose(found, 1 + 0.5 * (1 - 0.9**nodes), rtol=1e-9)


def test_stalls_of_any_device_keep_its_replica_waiting():
    stall = {"law": "exponential", "mean": "10 ms"}
    (one,) = lower(asked(group(count=64), jitter={"stall": stall})).groups
    found = slowed(one, np.full(64, one.compute), 8, ())
    np.testing.assert_allclose(found, 1 + 8 * 0.01 / 2.0, rtol=1e-12)


# The fleet as a service.


def test_capacity_adds_up_over_groups_and_sites():
    sites = {"site": [{"name": "a"}, {"name": "b"}], "jitter": {"persistent": PERSISTENT}}
    link = [{"between": ["a", "b"], "bandwidth": "100 GB/s"}]
    groups = [
        group("h", "h100-sxm", 64, site="a"),
        group("i", "h200", 40, site="a"),
        group("j", "gb200", 72, site="b"),
    ]
    together = drawn(asked(*groups, **sites, link=link)).capacity
    alone = [drawn(asked(one, **sites)).capacity[0] for one in groups]
    assert list(together) == alone
    assert (together > 0).all()


def test_a_service_of_constant_devices_keeps_all_of_its_capacity():
    found = mcsim.verdict(asked(group(count=64), replicates=1))
    assert of(found, "efficiency", "inference") == pytest.approx(1.0, rel=1e-12)
    assert of(found, "efficiency", "training") == pytest.approx(1.0, rel=1e-12)
    assert of(found, "efficiency_stderr", "inference") == 0.0
    mixed = mcsim.verdict(asked(group(), group("new", "gb200", 72)))
    assert of(mixed, "efficiency", "inference") == pytest.approx(1.0, rel=1e-12)
    assert of(mixed, "efficiency", "training") == pytest.approx(
        136 / (64 + 72 * 2500 / 989.4), rel=1e-9
    )


def test_devices_that_are_left_over_do_nothing():
    table = {"inference": {"devices_per_replica": 8}}
    found = mcsim.verdict(asked(group(count=67), **table))
    assert int(found.replicas[0]) == 8
    assert of(found, "efficiency", "inference") == pytest.approx(64 / 67, rel=1e-12)
    assert float(found.serving_left_over) == pytest.approx(3 / 67, rel=1e-12)


def test_what_is_lost_is_lost_to_something():
    network = {"node": {"latency": "1 us"}, "site": {"bandwidth": "50 GB/s", "latency": "5 us"}}
    tables = {"network": network, "jitter": {"persistent": PERSISTENT, "step": STEP}}
    found = mcsim.verdict(asked(group(count=67), **tables))
    lost = sum(float(found[f"serving_{name}"]) for name in ("left_over", "exchange", "lockstep"))
    assert 1 - of(found, "efficiency", "inference") == pytest.approx(lost, rel=1e-9)
    for use in ("training", "inference"):
        effective, wasted, waiting, headroom = (
            of(found, name, use)
            for name in ("effective_gpus", "wasted_gpus", "waiting_gpus", "headroom_gpus")
        )
        assert effective + wasted == pytest.approx(67, rel=1e-12)
        assert waiting + headroom == pytest.approx(wasted, rel=1e-12)
    tokens = float(found.prompt_tokens_per_second + found.output_tokens_per_second)
    assert of(found, "tokens_per_second", "inference") == pytest.approx(tokens, rel=1e-12)


def test_the_model_that_is_served_follows_from_the_workload():
    known = service(asked()).known
    assert known["parameters"].value == 70e9
    assert known["parameters"].source == "workload.gradient, two bytes a parameter"
    # As wide by 128 as it is deep: Llama 3 70B has 80 layers of 8,192.
    assert known["layers"].value == round((70e9 / (12 * 128**2)) ** (1 / 3)) == 71
    assert known["cache"].value == 2 * 71 * 1024 * 2
    given = service(asked(inference={"parameters": 7e9, "precision": "fp8", "cache": "1 kB"}))
    assert given.known["parameters"].source == "inference.parameters"
    assert (given.served.weights, given.served.cache) == (7e9, 1000.0)
    llama = service(mcsim.load("llama-405b"))
    assert (llama.served.layers, llama.served.hidden) == (126, 16_384)
    # 8 heads of 128 for keys and for values in each of 126 layers, as published.
    assert llama.served.cache == 2 * 126 * 8 * 128 * 2


def test_replicas_of_several_nodes_exchange_over_the_network_of_the_site():
    network = {"node": {"latency": "1 us"}, "site": {"bandwidth": "50 GB/s", "latency": "5 us"}}
    for size, levels in (
        (4, [(4, 1e-6, 450e9)]),
        (8, [(8, 1e-6, 450e9)]),
        (16, [(8, 1e-6, 450e9), (2, 5e-6, 50e9)]),
    ):
        (pool,) = service(asked(network=network, inference={"devices_per_replica": size})).pools
        assert [tuple(level) for level in pool.replica.levels] == levels
    # Where it is not said, as many devices as give most tokens a device.
    (pool,) = service(asked(network=network)).pools
    best = {
        size: pool.replica.requests_per_second(pool.batch) / size
        for size in (2, 4, 8, 16, 24, 32)
        for pool in service(asked(network=network, inference={"devices_per_replica": size})).pools
    }
    assert pool.replica.devices == max(best, key=best.get)


def test_a_service_knows_no_rounds():
    tables = {"jitter": {"persistent": PERSISTENT, "step": {**STEP, "cv": 0.1}}}
    every = mcsim.verdict(asked(**tables))
    rounds = mcsim.verdict(asked(**tables, sync={"policy": "local-sgd", "inner_steps": 50}))
    assert of(every, "efficiency", "inference") == of(rounds, "efficiency", "inference")
    assert of(every, "efficiency", "training") < of(rounds, "efficiency", "training")


def test_the_same_specimens_serve_as_train():
    one = asked(group(count=16), jitter={"persistent": PERSISTENT})
    (base,) = base_times(lower(one), 1)
    found, (pool,) = drawn(one, 1), service(one).pools
    size = pool.replica.devices
    slowest = base.reshape(-1, size).max(axis=1) / 2.0
    assert found.capacity[0] == pytest.approx(pool.rates(slowest).sum(), rel=1e-12)
    assert found.factor[0] == pytest.approx(slowest.mean(), rel=1e-12)


def test_lucky_specimens_are_no_more_devices():
    fast = {"persistent": {"law": "constant", "value": 0.9}}
    found = mcsim.verdict(asked(jitter=fast))
    assert of(found, "efficiency", "inference") == of(found, "efficiency", "training") == 1.0


def test_longer_requests_or_slower_memory_never_answer_more():
    eight = {"devices_per_replica": 8}
    least = service(asked(inference=eight)).ideal
    for worse in (
        {"prompt": 2000},
        {"output": 300},
        {"time_per_token": "30 ms"},
        {"bandwidth_efficiency": 0.5},
        {"compute_efficiency": 0.4},
        {"memory_share": 0.24},
        {"parameters": 100e9, "active_parameters": 100e9},
    ):
        assert service(asked(inference=eight | worse)).ideal < least


# Power and money.


def test_power_is_that_of_the_catalogue_as_far_as_devices_are_busy():
    one = asked(
        group(count=10), group("x", "h200", 5), power={"pue": 1.25, "servers": 2.0, "waiting": 0.4}
    )
    draw = draw_of(one)
    assert list(draw.watts) == [10 * 700 * 2.5, 5 * 700 * 2.5]
    half = np.array([0.5, 0.25])
    nothing = np.zeros(2)
    drawn, wasted = draw.of(Activity(half, nothing, 1 - half))
    assert wasted == pytest.approx(0.4 * (0.5 * 17_500 + 0.75 * 8_750))
    assert drawn - wasted == pytest.approx(0.5 * 17_500 + 0.25 * 8_750)
    drawn, wasted = draw.of(Activity(nothing, half, nothing))
    idle = 0.15 * (0.5 * 17_500 + 0.75 * 8_750)
    assert wasted == pytest.approx(idle)
    assert drawn == pytest.approx(idle + 0.43 * (0.5 * 17_500 + 0.25 * 8_750))


def test_a_trainer_that_never_waits_draws_all_of_it():
    found = mcsim.verdict(asked(group(count=64), power={"pue": 1.0, "servers": 1.0}))
    assert of(found, "power", "training") == pytest.approx(64 * 700 / 1e6, rel=1e-12)
    assert of(found, "wasted_power", "training") == pytest.approx(0.0, abs=1e-12)


def test_prices_add_up():
    watts = np.array(2e6)
    assert cost_of(asked()) is None
    assert cost_of(asked(prices={"currency": "EUR"})) is None
    hours = cost_of(asked(prices={"gpu_hour": 2.5}))
    assert hours.a_month(watts) == pytest.approx(64 * 2.5 * 730.5)
    lease = cost_of(asked(prices={"lease_per_month": 1e6, "kilowatt_hour": 0.1}))
    assert lease.a_month(watts) == pytest.approx(1e6 + 2000 * 0.1 * 730.5)
    fleet = (group(), group("x", "gb200", 72))
    listed = cost_of(asked(*fleet, prices={"catalogue": "specialty-clouds-2026"}))
    price = catalogue.prices()["specialty-clouds-2026"]
    assert listed.hour == 64 * price["h100-sxm"].value + 72 * price["gb200"].value


def test_money_is_lost_with_hours():
    tables = {"jitter": {"step": STEP}, "verdict": {"mfu": 0.4}}
    found = mcsim.verdict(asked(prices={"gpu_hour": 2.0}, **tables))
    for use in ("training", "inference"):
        month, wasted, hours, tokens = (
            of(found, name, use)
            for name in (
                "cost_a_month",
                "wasted_cost_a_month",
                "wasted_gpu_hours_a_month",
                "tokens_per_second",
            )
        )
        assert month == pytest.approx(64 * 2 * HOURS_A_MONTH, rel=1e-12)
        assert wasted == pytest.approx(2 * hours, rel=1e-12)
        each = of(found, "cost_of_million_tokens", use)
        assert each == pytest.approx(1e6 * 64 * 2 / 3600 / tokens, rel=1e-4)
    assert "cost_a_month" not in mcsim.verdict(asked(**tables))


# What it says.


def test_tokens_of_a_step_follow_from_the_share_of_the_peak():
    """As the reference cases say: 8,192 tokens a device in 9.75 s at 40 % of the peak."""
    workload = {"compute": "9.75 s", "reference": "h100-sxm", "gradient": "628 GB"}
    tables = {"inference": {"active_parameters": 78.5e9, "precision": "fp8"}}
    found = mcsim.verdict(asked(workload=workload, verdict={"mfu": 0.4}, **tables))
    tokens = of(found, "tokens_per_second", "training") * 9.75 / 64
    assert tokens == pytest.approx(8192, rel=1e-3)
    assert of(found, "mfu", "training") == pytest.approx(0.4, rel=1e-12)
    assert math.isnan(of(mcsim.verdict(asked()), "mfu", "training"))


def test_a_model_says_its_tokens_itself():
    small = mcsim.load("llama-405b").replace({"run.steps": 1, "run.replicates": 1})
    trained = mcsim.run(small)
    found = mcsim.verdict(small, trained=trained)
    step = float(trained.overall_step_time_mean)
    assert of(found, "tokens_per_second", "training") == pytest.approx(16_777_216 / step)
    assert of(found, "mfu", "training") == pytest.approx(float(trained.overall_mfu), rel=1e-9)
    assert of(found, "efficiency", "training") == float(trained.overall_efficiency)
    assert float(found.replicas[0]) * float(found.devices_per_replica[0]) == 16_384
    # One cluster says nothing of others.
    assert math.isnan(of(found, "efficiency_stderr", "inference"))
    assert of(found, "demand_stderr", "inference") == 0.0
    with pytest.raises(ValueError, match="another scenario"):
        mcsim.verdict(small.replace({"run.seed": 5}), trained=trained)


def told(utilisation, *fleet, mfu=0.4, step=STEP):
    table = {"public_utilisation": utilisation, "source": "nobody"}
    if mfu is not None:
        table["mfu"] = mfu
    *_, public, close = [
        "",
        *story(mcsim.verdict(asked(*fleet, verdict=table, jitter={"step": step}))),
    ]
    assert close.startswith("Standard errors")
    return public


MIXED = (group(), group("new", "gb200", 72))


def test_what_is_told_is_held_against_what_is_computed():
    mixing = 136 / (64 + 72 * 2500 / 989.4)
    leaves = 0.4 * mixing / 1.0119
    said = told(0.05, *MIXED)
    assert "they do not explain what is told either" in said
    factor = leaves / 0.05
    assert f"a further factor of {factor:.3g}" in said
    assert "less than is told: they more than explain it" in told(0.35, *MIXED)
    assert told(leaves, *MIXED).endswith("as is told.")
    assert "one of the two figures is wrong" in told(0.5, *MIXED)
    assert "is not known" in told(0.1, *MIXED, mfu=None)


def test_mixing_alone_is_said_to_explain_or_not():
    table = {"mfu": 0.4, "source": "nobody"}
    mixing = 136 / (64 + 72 * 2500 / 989.4)
    for utilisation, expected in (
        (0.05, "Mixing generations alone does not explain what is told."),
        (0.4 * mixing, "Mixing generations alone explains what is told."),
    ):
        found = mcsim.verdict(asked(*MIXED, verdict={**table, "public_utilisation": utilisation}))
        (line,) = (one for one in story(found) if one.startswith("Told: "))
        assert line.endswith(expected)
        assert f"keeps {100 * mixing:.1f} % of the fleet" in line
    alike = mcsim.verdict(asked(verdict={**table, "public_utilisation": 0.1}))
    assert any("None is unlike the others" in one for one in story(alike))


def test_mixing_the_generations_of_colossus_1_keeps_seven_eighths():
    """Equal work on 200,000 H100s and H200s and 20,000 GB200s: 0.88 of their own peak."""
    small = mcsim.load("colossus-1").replace({"run.steps": 2, "run.replicates": 1})
    found = mcsim.verdict(small)
    assert 0.875 < float(found.mixing_efficiency) < 0.90
    assert of(found, "mfu", "training") == pytest.approx(
        0.4 * of(found, "efficiency", "training"), rel=1e-9
    )
    (line,) = (one for one in story(found) if one.startswith("All modelled causes"))
    assert "they do not explain what is told either" in line
    for name in found.data_vars:
        if "use" in found[name].dims and not str(name).endswith("_stderr"):
            assert found[name].attrs["follows_from"].startswith("training: ")
            assert found[name].attrs["ancillary_variables"] in found


def test_which_use_suits_depends_on_the_load():
    quiet, busy = (
        next(iter(story(mcsim.verdict(asked(*MIXED, inference={"utilisation": load})))))
        for load in (0.3, 0.99)
    )
    assert "At this load training makes more of it; above a load of 55 % a service" in quiet
    assert "It suits inference: 1.8 times the work" in busy
    alike = mcsim.verdict(asked(group(count=64)))
    assert "It suits training: no load" in next(iter(story(alike)))


# The command.


def test_the_command_prints_writes_and_shows_it(tmp_path):
    file, output = tmp_path / "asked.toml", tmp_path / "verdict.nc"
    tables = {"jitter": {"persistent": PERSISTENT, "step": STEP}, "prices": {"gpu_hour": 2.0}}
    file.write_text(asked(*MIXED, **tables).to_toml())
    done = CliRunner().invoke(main, ["verdict", str(file), "-o", str(output)])
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0] == ("asked: 136 devices as a trainer and as a service; 2 cluster(s), seed 0")
    assert lines[2].split() == ["training", "std.", "error", "inference", "std.", "error"]
    assert lines[4].startswith("efficiency: capacity kept, %")
    assert any(line.startswith("cost a month, M USD") for line in lines)
    shown = CliRunner().invoke(main, ["show", str(output)])
    assert shown.stdout == done.stdout
    assert mcsim.load(output) == mcsim.load(file)
    with mcsim.open(output) as dataset:
        assert list(dataset.use.to_numpy()) == ["training", "inference"]
        assert dataset.attrs["Conventions"] == "CF-1.11"
        assert summarise(dataset) == done.stdout.rstrip("\n")
    drawn = CliRunner().invoke(main, ["plot", str(output), "-o", str(tmp_path / "x.png")])
    assert drawn.exit_code == 1
    assert "a verdict has no picture" in drawn.stderr
    again = CliRunner().invoke(main, ["verdict", str(file), "-o", str(output), "--sources"])
    assert again.exit_code == 0
    assert again.stdout.startswith(done.stdout.rstrip("\n"))
    assert "utilisation = 0.7: catalogue serving.toml, inference.utilisation" in again.stdout


def test_a_result_is_not_sampled_again(tmp_path, monkeypatch):
    one, file = asked(jitter={"persistent": PERSISTENT, "step": STEP}), tmp_path / "run.nc"
    mcsim.write(mcsim.run(one), file)
    fresh = CliRunner().invoke(main, ["verdict", str(file), "--set", "run.seed=0"]).stdout
    refused = CliRunner().invoke(main, ["verdict", str(file), "-o", str(file)])
    assert refused.exit_code == 2
    assert "is the result of a run; it is not replaced" in refused.stderr

    def sampled(*_, **__):
        raise AssertionError("sampled again")

    monkeypatch.setattr("mcsim.api.run", sampled)
    assert CliRunner().invoke(main, ["verdict", str(file)]).stdout == fresh


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["fleet.h100.device=custom", "fleet.h100.compute=1 s"], "fleet[0].device: of a custom"),
        (["inference.parameters=1e14"], "inference.parameters: weights of 200 TB and caches"),
        (["inference.batch=100000"], "inference.batch: weights of 140 GB and caches of 100,000"),
        (["inference.devices_per_replica=1"], "inference.devices_per_replica: weights of 140 GB"),
        (["inference.devices_per_replica=3"], "neither a part of a node of 8 (h100) nor whole"),
        (["inference.devices_per_replica=100"], "100 are more than the 64 of h100"),
        (["inference.time_per_token=1 us"], "inference.time_per_token: 1 us a token are not kept"),
        (["inference.precision=fp4"], 'inference.precision: "fp4" is not known of h100-sxm'),
        (["inference.precision=fp7"], "inference.precision: unknown precision"),
        (["inference.active_parameters=1e12"], "1e+12 are more than all 7e+10"),
        (["inference.utilisation=1"], "a queue behind a full server never ends"),
        (["prices.catalogue=specialty"], 'unknown list of prices "specialty"'),
        (
            ["fleet.h100.device=mi300x", "prices.catalogue=specialty-clouds-2026"],
            '"specialty-clouds-2026" has no price of mi300x; give prices.gpu_hour',
        ),
        (["prices.gpu_hour=1", "prices.lease_per_month=1"], "prices.lease_per_month: is given"),
        (["verdict.public_utilisation=0.1"], "verdict.source: is missing"),
        (["inference.promt=5"], 'did you mean "prompt"'),
    ],
)
def test_bad_input_gets_one_clear_error(tmp_path, settings, said):
    file = tmp_path / "asked.toml"
    file.write_text(asked().to_toml())
    options = [part for setting in settings for part in ("--set", setting)]
    done = CliRunner().invoke(main, ["verdict", str(file), *options])
    assert done.exit_code == 2, done.output
    assert said in done.stderr
    assert done.stdout == ""


def test_devices_that_take_no_time_are_refused():
    nothing = {"persistent": {"law": "constant", "value": 0}}
    with pytest.raises(mcsim.McsimError, match="h100 that take no time"):
        drawn(asked(jitter=nothing))


def test_a_model_that_nobody_describes_is_asked_for():
    workload = {"compute": "2 s", "reference": "h100-sxm"}
    with pytest.raises(mcsim.ScenarioError, match=r"inference\.parameters: is not known"):
        mcsim.verdict(asked(workload=workload))


@pytest.mark.parametrize("table", ["serving", "prices"])
def test_figures_are_listed(table):
    done = CliRunner().invoke(main, ["list", table])
    assert done.exit_code == 0
    for figures in getattr(catalogue, table)().values():
        assert all(figure.source in done.stdout for figure in figures.values())


@pytest.mark.parametrize("table", ["serving", "prices"])
def test_every_figure_says_who_says_so_and_how_sure_it_is(table):
    for name, figures in getattr(catalogue, table)().items():
        for key, figure in figures.items():
            assert figure.value > 0, (name, key)
            assert figure.source, (name, key)
            assert figure.confidence in {"seen", "remembered(high)", "assumption"}
            assert figure.source.startswith("ours") == (figure.confidence == "assumption")


def test_training_counts_swaps_and_serving_knows_no_remedy():
    slow = {"every": "1000 s", "duration": "100 s", "factor": {"law": "constant", "value": 2}}
    plain = asked(jitter={"persistent": PERSISTENT, "step": STEP, "slow": slow})
    remedy = {"remedy.evict_after": "10 s", "remedy.swap_cost": "5 s", "remedy.shares": "device"}
    swapped = plain.replace(remedy)
    whole, left = mcsim.verdict(plain), mcsim.verdict(swapped)
    run = mcsim.run(swapped)
    assert float(run.swap_time) > 0
    training = left.sel(use="training")
    assert float(training.efficiency) == pytest.approx(float(run.overall_efficiency))
    for name in ("efficiency", "tokens_per_second", "power"):
        one, other = (found[name].sel(use="inference") for found in (whole, left))
        np.testing.assert_array_equal(one, other)
    with pytest.raises(mcsim.ScenarioError, match=r"remedy: a verdict is of all devices"):
        mcsim.verdict(plain.replace({"remedy.drop_devices": 1}))


def test_remedies_change_the_trainer(tmp_path):
    jitter = {"persistent": PERSISTENT, "step": STEP}
    scenario, names = asked(jitter=jitter), ["shares-by-device", "drop-devices"]
    found = mcsim.verdict(scenario, remedies=names)
    plain = mcsim.verdict(scenario)
    compared = mcsim.compare(scenario, names)
    np.testing.assert_array_equal(
        found.remedy_effective_gpus, compared.overall_effective_gpus.to_numpy()
    )
    assert found.remedy.to_numpy().tolist() == ["none", *names]
    kept = float(plain.efficiency.sel(use="inference"))
    for one in (found.isel(remedy=number) for number in range(3)):
        gpus = float(one.remedy_effective_gpus)
        assert float(one.remedy_wasted_gpus) == pytest.approx(float(found.devices) - gpus)
        load = gpus / float(found.devices) / kept
        assert float(one.remedy_load) == pytest.approx(load) or load >= 1
    for name in plain.data_vars:
        np.testing.assert_array_equal(found[name], plain[name])
    file, kept_file = tmp_path / "asked.toml", tmp_path / "verdict.nc"
    file.write_text(scenario.to_toml())
    options = [part for name in names for part in ("--remedy", name)]
    said = CliRunner().invoke(main, ["verdict", str(file), *options, "-o", str(kept_file)])
    assert said.exit_code == 0, said.output
    assert "as a trainer with" in said.stdout
    assert said.stdout == CliRunner().invoke(main, ["show", str(kept_file)]).stdout
    wrong = CliRunner().invoke(main, ["verdict", str(file), "--remedy", "nothing"])
    assert wrong.exit_code == 2
    assert 'unknown remedy "nothing"' in wrong.stderr


def test_a_trainer_that_loses_every_sample_suits_inference():
    lost = asked().replace({"sync.policy": "timeout", "sync.timeout": "0.1 s"})
    said = " ".join(summarise(mcsim.verdict(lost)).split())
    assert "as a trainer it does nothing" in said
    assert 'What samples are worth with "timeout" is not in it' in said
