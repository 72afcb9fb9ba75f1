"""What the barrier's network costs: formulas, levels, links and their delays."""

from __future__ import annotations

import math

import numpy as np
import pytest
from oracle import scenario

import mcsim
from mcsim.errors import ScenarioError
from mcsim.model import Barrier, lower
from mcsim.model.barrier import slowest_of, step_end
from mcsim.model.collectives import COLLECTIVES, Level, hierarchical
from mcsim.model.exchange import Exchange

CONSTANT = {"law": "constant", "value": "1 ms"}


def all_reduce(ranks, payload, latency, bandwidth):
    """What `auto` takes."""
    known = COLLECTIVES["all-reduce"]
    return min(
        known[name].seconds(ranks, payload, latency, bandwidth)
        for name in ("ring", "double-binary-tree")
    )


def ring(ranks, payload, latency, bandwidth):
    return COLLECTIVES["all-reduce"]["ring"].seconds(ranks, payload, latency, bandwidth)


def barrier(*fleet, gradient="1 GB", **parts):
    return lower(
        scenario(*fleet, workload={"gradient": gradient, **parts.pop("workload", {})}, **parts)
    ).barrier


def test_no_payload_or_no_network_costs_nothing():
    network = {"site": {"bandwidth": "50 GB/s"}}
    assert lower(scenario({"count": 8}, network=network)).barrier is None
    assert barrier({"count": 8}) is None
    assert np.all(mcsim.run(scenario({"count": 8}, network=network)).communication_time_mean == 0)


def test_one_node_is_one_ring():
    found = barrier(
        {"count": 8, "devices_per_node": 8},
        network={"node": {"bandwidth": "450 GB/s", "latency": "1 us"}},
    )
    assert found.up[0] + found.down[0] == pytest.approx(0.003902888888888889, rel=1e-12)


def test_among_nodes_each_device_carries_its_share():
    level = {"bandwidth": "50 GB/s", "latency": "5 us", "algorithm": "ring"}
    found = barrier({"count": 800, "devices_per_node": 8}, network={"site": level})
    assert found.up[0] + found.down[0] == pytest.approx(ring(100, 1e9 / 8, 5e-6, 50e9), rel=1e-12)


def test_rings_of_a_site_take_what_the_hierarchical_all_reduce_takes():
    node = {"bandwidth": "450 GB/s", "latency": "1 us", "algorithm": "ring"}
    site = {"bandwidth": "50 GB/s", "latency": "5 us", "algorithm": "ring"}
    levels = [Level(8, 1e-6, 450e9), Level(27_500, 5e-6, 50e9)]
    fleet = {"count": 220_000, "devices_per_node": 8}
    for payload in (0.0, 1e6, 628e9):
        found = barrier(fleet, gradient=payload, network={"node": node, "site": site})
        phases = hierarchical(levels, payload, ["ring", "ring"])
        expected = sum(one.seconds for one in phases)
        assert found.up[0] + found.down[0] == pytest.approx(expected, rel=1e-12)
        across = next(one for one in phases if one.collective == "all-reduce")
        assert found.up[0] == pytest.approx(phases[0].seconds + across.seconds / 2, rel=1e-12)


def test_the_smallest_node_carries_the_largest_share():
    level = {"bandwidth": "50 GB/s"}
    found = barrier(
        {"count": 80, "devices_per_node": 8},
        {"count": 144, "devices_per_node": 72},
        network={"site": level},
    )
    assert found.up[0] + found.down[0] == pytest.approx(all_reduce(12, 1e9 / 8, 0, 50e9), rel=1e-12)


def test_bandwidth_inside_a_node_comes_from_the_catalogue():
    work = {"compute": "1 s", "reference": "h100-sxm"}
    found = lower(
        mcsim.Scenario.from_dict(
            {
                "name": "x",
                "workload": {**work, "gradient": "1 GB"},
                "network": {"node": {"latency": "1 us"}},
                "fleet": [{"name": "a", "device": "h100-sxm", "count": 16}],
            }
        )
    ).barrier
    assert found.up[0] + found.down[0] == pytest.approx(0.003902888888888889, rel=1e-12)


def triangle(**link):
    names = ("a", "b", "c")
    link = {"bandwidth": "100 GB/s", "distance": "16.0934 km", **link}
    pairs = [("a", "b"), ("b", "c"), ("a", "c")]
    return {
        "site": [{"name": name} for name in names],
        "link": [{"between": list(pair), **link} for pair in pairs],
    }


FLEET = [{"count": 4, "site": site, "name": site} for site in ("a", "b", "c")]


def test_sites_exchange_the_whole_payload_over_their_links():
    found = barrier(*FLEET, gradient="300 GB", **triangle())
    latency = 16093.4 * 1.4682 / 299_792_458
    assert latency == pytest.approx(78.8e-6, rel=1e-3)
    assert found.across == pytest.approx(4 * latency + 4 / 3 * 3, rel=1e-12)
    assert found.up == found.down == (0, 0, 0)


def test_route_medium_and_equipment_make_the_latency():
    parts = triangle(distance="100 km", route_factor=1.5, medium="hollow-core", latency="10 us")
    found = barrier(*FLEET, gradient=0, **parts)
    assert found.across == pytest.approx(4 * (150e3 * 1.0003 / 299_792_458 + 10e-6), rel=1e-12)


def test_a_chain_is_routed_through_its_middle():
    parts = triangle()
    parts["link"] = parts["link"][:2]
    found = barrier(*FLEET, gradient="300 GB", **parts)
    latency = 16093.4 * 1.4682 / 299_792_458
    # The leg back from c to a runs over both links, each direction of which one leg uses.
    assert found.across == pytest.approx(4 * 2 * latency + 4, rel=1e-12)


def test_a_site_without_a_link_is_refused():
    parts = triangle()
    parts["link"] = parts["link"][:1]
    with pytest.raises(ScenarioError, match=r'no \[\[link\]\] joins "a" and "c"'):
        barrier(*FLEET, **parts)


@pytest.mark.parametrize("network", [{}, {"network": {"site": {"bandwidth": "50 GB/s"}}}])
@pytest.mark.parametrize("divided", [{}, {"parallel": {"pipeline": 2, "microbatches": 2}}])
def test_sites_that_train_together_without_a_link_are_refused(network, divided):
    sites = {"site": [{"name": name} for name in "abc"]}
    with pytest.raises(ScenarioError, match=r'link: no \[\[link\]\] joins "a" and "b"'):
        lower(scenario(*FLEET, workload={"gradient": "1 GB", **divided}, **sites, **network))
    # One of them, or without anything to sum, needs none.
    lower(scenario(FLEET[0], workload={"gradient": "1 GB", **divided}, **sites, **network))
    assert lower(scenario(*FLEET, workload=divided, **sites, **network)).barriers == ()


def test_the_error_names_the_file_and_the_key(tmp_path):
    file = tmp_path / "apart.toml"
    fleet = "".join(
        f'[[fleet]]\nname = "{x}"\ndevice = "custom"\ncompute = 1\ncount = 1\nsite = "{x}"\n'
        for x in "ab"
    )
    file.write_text(
        'name = "apart"\n[workload]\ngradient = "1 GB"\n'
        + '[[site]]\nname = "a"\n[[site]]\nname = "b"\n'
        + fleet
    )
    with pytest.raises(ScenarioError, match=r'apart\.toml.*: link: no \[\[link\]\] joins "a"'):
        lower(mcsim.load(file))


def test_a_site_without_devices_takes_no_part():
    plan = lower(scenario(*FLEET[:2], workload={"gradient": "1 GB"}, **triangle()))
    assert [site.name for site in plan.sites] == ["a", "b"]
    assert plan.barrier.across == pytest.approx(2 * 16093.4 * 1.4682 / 299_792_458 + 0.01)


def test_the_slowest_of_n_has_the_law_of_the_maximum():
    survival = np.array([1e-15, 1e-9, 0.3, 0.999])
    for n in (1, 3, 220_000):
        one = slowest_of(survival, n)
        assert np.allclose(-np.expm1(n * np.log1p(-one)), survival, rtol=1e-12)


def test_each_round_waits_for_its_slowest_message():
    delay = {"law": "exponential", "mean": "1 ms"}
    for algorithm, rounds in (("double-binary-tree", 16), ("ring", 498)):
        level = {"bandwidth": 1, "delay": delay, "algorithm": algorithm}
        asked = scenario(
            {"count": 1000, "devices_per_node": 4},
            workload={"gradient": 0},
            network={"site": level},
            steps=20_000,
            keep="steps",
        )
        found = mcsim.run(asked)
        each = 1e-3 * math.fsum(1 / i for i in range(1, 251))
        error = found.communication_time_mean_stderr.item()
        assert abs(found.communication_time_mean.item() - rounds * each) < 5 * error
        spread = 1e-3 * math.sqrt(rounds * math.fsum(1 / i**2 for i in range(1, 251)))
        assert abs(found.step_time_std.item() - spread) < 5 * found.step_time_std_stderr.item()
        assert np.unique(found.step_time).size == 20_000
        law = mcsim.law(asked)
        assert law.mean() - 1 == pytest.approx(rounds * each, rel=1e-6)
        assert law.std() == pytest.approx(spread, rel=1e-4)


def test_links_wait_for_the_slowest_link():
    parts = triangle(distance=0, bandwidth=1, delay={"law": "exponential", "mean": 1})
    asked = scenario(*FLEET, workload={"gradient": 0}, steps=20_000, **parts)
    found = mcsim.run(asked)
    error = found.communication_time_mean_stderr.item()
    # A ring of three has four rounds, in each of which all three links carry messages.
    assert abs(found.communication_time_mean.item() - 4 * (1 + 1 / 2 + 1 / 3)) < 5 * error
    assert mcsim.law(asked).mean() - 1 == pytest.approx(4 * (1 + 1 / 2 + 1 / 3), rel=1e-6)


# Sites, links, and of each leg of the ring how many hops it has.
GRAPHS = {
    "pair": ("ab", ["ab"], [1, 1]),
    "triangle": ("abc", ["ab", "bc", "ac"], [1, 1, 1]),
    "chain": ("abc", ["ab", "bc"], [1, 1, 2]),
    "long chain": ("abcd", ["ab", "bc", "cd"], [1, 1, 1, 3]),
    "star": ("abcd", ["ah", "bh", "ch", "dh"], [2, 2, 2, 2]),
}


def ring_of(graph, delay, only="", **parts):
    """A device of a second at each site, and links that are late (or `only` some of them)."""
    names, pairs, _ = GRAPHS[graph]
    return scenario(
        *({"count": 1, "site": site, "name": site} for site in names),
        workload={"gradient": 0},
        site=[{"name": name} for name in sorted(set("".join(pairs)))],
        link=[
            {"between": list(pair), "bandwidth": 1}
            | ({"delay": delay} if not only or pair in only.split() else {})
            for pair in pairs
        ],
        **parts,
    )


def mean_of_the_slowest(hops):
    """Of sums of so many independent exponential times of mean 1: the integral of 1 - F."""
    time = np.linspace(0.0, 80.0, 800_001)
    ready = np.ones_like(time)
    for number in hops:
        terms = sum(time**k / math.factorial(k) for k in range(number))
        ready *= 1.0 - np.exp(-time) * terms
    return np.trapezoid(1.0 - ready, time)


@pytest.mark.parametrize("graph", GRAPHS)
def test_a_round_waits_for_the_slowest_leg_and_a_leg_for_all_its_hops(graph):
    _, _, hops = GRAPHS[graph]
    rounds = 2 * (len(hops) - 1)
    expected = 1e-3 * rounds * mean_of_the_slowest(hops)
    known = {"pair": 3.0e-3, "triangle": 4e-3 * (1 + 1 / 2 + 1 / 3)}
    assert expected == pytest.approx(known.get(graph, expected), rel=1e-6)
    asked = ring_of(graph, {"law": "exponential", "mean": "1 ms"}, steps=20_000)
    assert mcsim.law(asked).mean() - 1 == pytest.approx(expected, rel=1e-5)
    for engine in ("sampled", "exact"):
        found = mcsim.run(asked.replace({"run.engine": engine}))
        error = found.communication_time_mean_stderr.item()
        assert abs(found.communication_time_mean.item() - expected) < 5 * error
        assert found.attrs["self_check"] == "passed"


@pytest.mark.parametrize(
    "delay",
    [
        {"law": "lognormal", "median": "1 ms", "sigma": 1.0},
        {"law": "constant", "value": "3 ms"},
        {
            "law": "mixture",
            "parts": [
                {"weight": 0.9, "law": "constant", "value": 0},
                {"weight": 0.1, "law": "constant", "value": "5 ms"},
            ],
        },
        {"law": "empirical", "table": "aries-day-shared"},
    ],
    ids=lambda delay: delay["law"],
)
def test_rounds_of_a_chain_are_those_of_numpy(delay):
    asked = ring_of("chain", delay, steps=40_000, keep="steps")
    found = mcsim.run(asked).step_time.values.ravel() - 1
    law = lower(asked).barrier.delays[0].messages[0].law
    drawn = law.quantile(np.random.default_rng(5).random((40_000, 4, 4)))
    one, other, there, back = np.moveaxis(drawn, 2, 0)
    expected = np.maximum(np.maximum(one, other), there + back).sum(axis=1)
    error = math.sqrt((found.var() + expected.var()) / 40_000)
    assert abs(found.mean() - expected.mean()) <= 5 * error + 1e-12
    for q in (0.1, 0.5, 0.9, 0.99):
        share = (found <= np.quantile(expected, q) * (1 + 1e-9)).mean()
        least = (expected <= np.quantile(expected, q) * (1 + 1e-9)).mean()
        assert abs(share - least) < 5 * math.sqrt(2 * q * (1 - q) / 40_000) + 1e-12


def test_messages_that_only_one_link_delays_have_draws_of_their_own():
    """Of the chain's legs two go over the one link that is late: the slower of two."""
    asked = ring_of("chain", {"law": "exponential", "mean": "1 ms"}, only="ab", steps=20_000)
    (delay,) = lower(asked).barrier.delays
    assert [one.count for one in delay.messages] == [2]
    found = mcsim.run(asked)
    error = found.communication_time_mean_stderr.item()
    assert abs(found.communication_time_mean.item() - 4 * 1.5e-3) < 5 * error


def test_a_link_that_always_adds_the_same_adds_it_to_its_legs_only():
    asked = ring_of("star", {"law": "constant", "value": "1 ms"}, steps=10)
    assert mcsim.run(asked).communication_time_mean.item() == pytest.approx(6 * 2e-3, rel=1e-9)


def some_barrier(overlap):
    return Barrier((0.1, 0.5), (0.1, 0.2), Exchange(1.0), overlap, ())


def test_a_step_ends_when_the_slowest_site_has_the_result():
    ready = np.array([[1.0, 0.9], [1.0, 0.2]])
    end = step_end(some_barrier(0.0), ready, np.empty((2, 0)))
    assert end == pytest.approx([0.9 + 0.5 + 1.0 + 0.2, 1.0 + 0.1 + 1.0 + 0.2])


def test_overlap_hides_communication_behind_compute():
    one_site = Barrier((1.0,), (1.0,), Exchange(0.0), 0.5, ())
    ready = np.array([[1.0], [3.0], [4.0], [10.0]])
    end = step_end(one_site, ready, np.empty((4, 0)))
    assert end == pytest.approx([2.5, 3.5, 4.0, 10.0])


@pytest.mark.parametrize("overlap", [0.0, 0.3, 1.0])
def test_a_later_arrival_never_ends_a_step_sooner(overlap):
    random = np.random.default_rng(1)
    ready = random.uniform(0, 3, (10_000, 2))
    later = ready + random.exponential(0.2, ready.shape) * (random.random(ready.shape) < 0.5)
    none = np.empty((len(ready), 0))
    assert np.all(
        step_end(some_barrier(overlap), later, none) >= step_end(some_barrier(overlap), ready, none)
    )


def h100s(*counts, **parts):
    """Seconds of the collective of 140 GB at a site of groups of so many devices."""
    fleet = [{"name": f"g{i}", "device": "h100-sxm", "count": n} for i, n in enumerate(counts)]
    found = lower(
        mcsim.Scenario.from_dict(
            {
                "name": "x",
                "workload": {"compute": "1 s", "reference": "h100-sxm", "gradient": "140 GB"},
                "network": {"site": {"bandwidth": "50 GB/s", "latency": "5 us"}},
                "fleet": fleet,
                **parts,
            }
        )
    ).barrier
    return found.up[0] + found.down[0]


def test_what_is_left_of_a_node_costs_the_same_in_a_group_of_its_own():
    """8,000 devices, and one more: 1,001 nodes, each of whose adapters carries an eighth."""
    expected = all_reduce(1001, 140e9 / 8, 5e-6, 50e9)
    for counts in ((8001,), (8000, 1), (1, 8000), (8000, 4)):
        assert h100s(*counts) == pytest.approx(expected, rel=1e-12)
    assert h100s(8000) == pytest.approx(expected, rel=1e-2)


def test_where_no_node_is_full_the_fullest_counts():
    assert h100s(1, 1) == pytest.approx(all_reduce(2, 140e9, 5e-6, 50e9), rel=1e-12)
    assert h100s(4, 1) == pytest.approx(all_reduce(2, 140e9 / 4, 5e-6, 50e9), rel=1e-12)
    assert h100s(4, 4) == pytest.approx(all_reduce(2, 140e9 / 4, 5e-6, 50e9), rel=1e-12)


def test_full_nodes_of_fewer_devices_slow_all_others():
    fleet = ({"count": 80, "devices_per_node": 8}, {"count": 4, "devices_per_node": 4})
    found = barrier(*fleet, network={"site": {"bandwidth": "50 GB/s"}})
    assert found.up[0] + found.down[0] == pytest.approx(all_reduce(11, 1e9 / 4, 0, 50e9), rel=1e-12)


@pytest.mark.parametrize(
    ("level", "key"),
    [("node", "delay"), ("node", "shared_node"), ("site", "delay"), ("site", "shared_site")],
)
def test_messages_are_never_early(level, key):
    early = {"law": "uniform", "low": "-1 us", "high": "1 ms"}
    with pytest.raises(ScenarioError, match=rf"network\.{level}\.{key}: .* no message is early"):
        scenario({"count": 8}, network={level: {"bandwidth": "1 GB/s", key: early}})
