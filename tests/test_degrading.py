"""Links that carry less for a while: lanes that fail, slow spells, what the exchange then takes."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from oracle import scenario

import mcsim
from mcsim.engine.links import exchange_times, share_of
from mcsim.errors import ScenarioError, SimulationError
from mcsim.model import lower
from mcsim.model.estimate import explain
from mcsim.model.exchange import Exchange
from mcsim.model.fairness import max_min

CONSTANT = {"law": "constant", "value": 4}
LANES = {"lanes": 8, "lane_failure": {"every": "200 s", "duration": "40 s"}}
SLOW = {"slow": {"every": "50 s", "duration": "10 s", "factor": CONSTANT}}
LINE = [("a", "b"), ("b", "c")]
RING = [*LINE, ("c", "a")]


STEP = 2.0
"""s, of two sites: a second of compute, and one of exchange."""


def sites(pairs, link, names=None, gradient="10 GB", **parts):
    """Sites of one device of a second, and 10 GB to exchange over links of 10 GB/s."""
    names = names or sorted(set(itertools.chain(*pairs)))
    return scenario(
        *({"count": 1, "site": name, "name": name} for name in names),
        workload={"gradient": gradient},
        site=[{"name": name} for name in sorted(set(itertools.chain(*pairs)))],
        link=[{"between": list(pair), "bandwidth": "10 GB/s", **link} for pair in pairs],
        **parts,
    )


def plan_of(link, pairs=(("a", "b"),), **parts):
    return lower(sites(pairs, link, **parts))


def shares(plan, first, count, replicate=0, link=0):
    return share_of(plan.barrier.links[link], plan.seed, replicate, first, count)


@pytest.mark.parametrize(("every", "duration"), [(40.0, 10.0), (3.0, 5.0), (900.0, 100.0)])
def test_shares_durations_and_memory_of_lanes_are_those_of_the_chain(every, duration):
    lanes, steps = 1_000, 20_000
    keys = {"lanes": lanes, "lane_failure": {"every": every, "duration": duration}}
    down = np.round(lanes * (1 - shares(plan_of(keys), 1_000, steps)))
    share = duration / (every + duration)
    stay = math.exp(-STEP * (1 / every + 1 / duration))
    one = lanes * share * (1 - share)

    def error(stay):
        """Of the mean over the steps, the autocorrelation being stay^k."""
        return math.sqrt((1 + stay) / (1 - stay) / steps)

    assert abs(down.mean() - lanes * share) < 5 * math.sqrt(one) * error(stay)
    # Nearly normal, so that products are remembered as the squares of what is.
    assert abs(down.var() / one - 1) < 5 * math.sqrt(2) * error(stay**2)
    around = down - lanes * share
    for lag in (1, 3, 17):
        together = (around[lag:] * around[:-lag]).mean() / one
        assert abs(together - stay**lag) < 5 * math.sqrt(2) * error(stay**2)


def test_a_single_lane_is_down_as_long_and_as_often_as_the_chain_says():
    keys = {"lanes": 2, "lane_failure": {"every": 30.0, "duration": 6.0}}
    plan, steps = plan_of(keys), 1_000_000
    share = shares(plan, 0, steps)
    stay, down = math.exp(-STEP * (1 / 30 + 1 / 6)), 1 / 6
    # Both lanes down count as one: the share is never below a half.
    assert set(np.unique(share)) == {0.5, 1.0}
    some = 1 - (1 - down) ** 2
    # The state of both together is not remembered longer than that of one.
    error = math.sqrt(some * (1 - some) * (1 + stay) / (1 - stay) / steps)
    assert abs((share < 1).mean() - some) < 5 * error
    # From both up, one falls with 1 - (1 - fall)^2.
    fall = (1 - stay) * down
    up = share[:-1] == 1.0
    expected = 1 - (1 - fall) ** 2
    found = (share[1:][up] < 1.0).mean()
    assert abs(found - expected) < 5 * math.sqrt(expected / up.sum())


def test_a_slow_spell_divides_the_bandwidth_by_its_factor():
    plan, steps = plan_of(SLOW), 400_000
    share = shares(plan, 0, steps)
    assert set(np.unique(share)) == {0.25, 1.0}
    slow, stay = 1 / 6, math.exp(-STEP * (1 / 50 + 1 / 10))
    error = math.sqrt(slow * (1 - slow) * (1 + stay) / (1 - stay) / steps)
    assert abs((share < 1).mean() - slow) < 5 * error
    begun = np.count_nonzero((share[1:] < 1) & (share[:-1] == 1))
    length = (share < 1).sum() / begun
    mean = 1 / ((1 - stay) * (1 - slow))
    assert abs(length / mean - 1) < 5 / math.sqrt(begun)


def test_a_factor_lasts_as_long_as_its_spell_and_follows_its_law():
    law = {"law": "lognormal", "median": 3, "sigma": 0.2}
    plan = plan_of({"slow": {"every": "50 s", "duration": "10 s", "factor": law}})
    share = shares(plan, 0, 200_000)
    factors = 1 / np.unique(share[share < 1])
    logs = np.log(factors)
    assert factors.size < np.count_nonzero(share < 1) / 3
    assert abs(logs.mean() - math.log(3)) < 5 * 0.2 / math.sqrt(logs.size)
    assert abs(logs.std() - 0.2) < 5 * 0.2 / math.sqrt(2 * logs.size)


@pytest.mark.parametrize("keys", [LANES, SLOW, LANES | SLOW])
def test_a_trajectory_entered_late_is_the_one_walked_from_the_start(keys):
    plan = plan_of(keys)
    late = 1_000_000
    whole = shares(plan, 0, late + 2_000)
    for first, count in ((0, 1), (1, 1), (777, 3), (16_384, 700), (late, 2_000)):
        assert np.array_equal(shares(plan, first, count), whole[first : first + count])
    times = exchange_times(plan.barrier, plan.seed, 0, late, 2_000)
    assert times == pytest.approx(1 / whole[late:], rel=1e-12)


@pytest.mark.parametrize("keys", [LANES, SLOW])
def test_links_clusters_and_seeds_have_states_of_their_own(keys):
    plan = plan_of(keys, RING)
    kept = [shares(plan, 0, 100_000, link=link) for link in range(3)]
    kept.append(shares(plan, 0, 100_000, replicate=1))
    kept.append(shares(plan_of(keys, RING, seed=1), 0, 100_000))
    # Forgotten within 1 / (1 / 200 + 1 / 40) = 33 steps: some 1,500 of them are independent.
    for one, other in itertools.combinations(kept, 2):
        assert abs(np.corrcoef(one, other)[0, 1]) < 5 / math.sqrt(1_500)
    # A link keeps its states whatever else there is, in either direction of its name, where a step
    # takes as long: a third site makes the ring's volume 4/3 instead of 1.
    alone = shares(plan_of(keys, [("b", "a")], gradient=40e9 / 3), 0, 100_000)
    assert np.array_equal(alone, kept[0])


def test_lanes_and_the_spells_of_a_link_have_draws_of_their_own():
    state = {"every": "20 s", "duration": "5 s"}
    lanes = {"lanes": 2, "lane_failure": state}
    whole = {"slow": {**state, "factor": CONSTANT}}
    one, other = (shares(plan_of(keys), 0, 100_000) for keys in (lanes, whole))
    assert abs(np.corrcoef(one, other)[0, 1]) < 5 / math.sqrt(100_000 / 8)
    # Together they multiply.
    assert shares(plan_of(lanes | whole), 0, 100_000) == pytest.approx(one * other, rel=1e-12)


@pytest.mark.parametrize(
    ("pairs", "names", "paths"),
    [
        # The chain's third leg leads back over both links.
        (LINE, "abc", [[0], [1], [1, 0]]),
        (RING, "abc", [[0], [1], [2]]),
        # The star's hub has no devices: each leg leaves by one arm and arrives by another.
        ([("a", "h"), ("b", "h"), ("c", "h")], "abc", [[0, 1], [1, 2], [2, 0]]),
        ([("a", "b")], "ab", [[0], [0]]),
    ],
    ids=["chain", "triangle", "star", "pair"],
)
def test_legs_share_what_is_left_of_their_links(pairs, names, paths):
    plan = plan_of(LANES, pairs, names=list(names), steps=3_000)
    each = 2 * (len(names) - 1) / len(names) * 10e9
    share = np.stack([shares(plan, 0, 3_000, link=k) for k in range(len(plan.barrier.links))], 1)
    assert len(np.unique(share, axis=0)) > 5
    # Directions are apart and no direction is used twice here: a leg has its narrowest link.
    order = [link.name for link in plan.barrier.links]
    place = [order.index("-".join(pair)) for pair in pairs]
    narrowest = np.min([share[:, [place[k] for k in path]].min(axis=1) for path in paths], axis=0)
    expected = each / (10e9 * narrowest)
    assert exchange_times(plan.barrier, plan.seed, 0, 0, 3_000) == pytest.approx(
        expected, rel=1e-12
    )


def test_shared_hops_are_shared_fairly_at_every_state():
    # A star: two flows leave by the same trunk (hop 2), whose link has lost lanes.
    capacity, legs = (10.0, 10.0, 4.0), ((0, 2), (1, 2), (0,))
    exchange = Exchange(0.5, 8.0, capacity, legs, (0, 1, 2))
    assert exchange.undisturbed == pytest.approx(0.5 + 8 / 2, rel=1e-12)
    assert exchange.seconds([1, 1, 0.5]) == pytest.approx(0.5 + 8 / 1, rel=1e-12)
    assert exchange.seconds([0.2, 1, 1]) == pytest.approx(0.5 + 8 / 1, rel=1e-12)
    random = np.random.default_rng(1)
    for share in random.uniform(0.1, 1, (50, 3)):
        rates = max_min(np.array(capacity) * share, legs)
        assert exchange.seconds(share) == pytest.approx(0.5 + 8 / rates.min(), rel=1e-12)


def test_both_engines_draw_the_same_states():
    asked = sites(RING, LANES | SLOW, steps=20_000, keep="steps")
    plan = lower(asked)
    times = 1 + exchange_times(plan.barrier, plan.seed, 0, 0, 20_000)
    for engine in ("sampled", "exact"):
        found = mcsim.run(asked.replace({"run.engine": engine}))
        assert found.step_time.values[0] == pytest.approx(times, rel=1e-12)
        assert found.attrs["self_check"] == "passed"


def test_tiles_threads_and_length_change_no_bit():
    from mcsim.engine import simulate

    asked = sites(LINE, LANES | SLOW, steps=40_000, keep="steps")
    plan = lower(asked)
    (plain,) = simulate(plan).replicates
    for other in (simulate(plan, threads=1), simulate(plan, threads=2, tile=777)):
        assert np.array_equal(other.replicates[0].step_time, plain.step_time)
    shorter = lower(asked.replace({"run.steps": 1_500}))
    assert np.array_equal(simulate(shorter).replicates[0].step_time, plain.step_time[:1_500])


def test_the_mean_step_is_that_of_the_stationary_law_and_its_error_knows_the_memory():
    keys = {"lanes": 4, "lane_failure": {"every": "120 s", "duration": "40 s"}}
    down = np.arange(5)
    chance = np.array([math.comb(4, k) * 0.25**k * 0.75 ** (4 - k) for k in down])
    expected = 1 + float(chance @ (4 / np.maximum(4 - down, 1)))
    found = mcsim.run(sites([("a", "b")], keys, steps=100_000))
    error = found.step_time_mean_stderr.item()
    assert abs(found.step_time_mean.item() - expected) < 5 * error
    # Steps remember each other for the relaxation time of 30 s, 15 of them, and more.
    assert error > 4 * found.step_time_std.item() / math.sqrt(100_000)


def test_what_cannot_know_spells_of_time_says_so():
    asked = sites([("a", "b")], LANES)
    assert lower(asked).steps_remember
    with pytest.raises(ScenarioError, match=r"the link a-b degrades for spells of time"):
        mcsim.law(asked)
    healthy = sites([("a", "b")], {})
    assert not lower(healthy).steps_remember
    assert mcsim.law(healthy).mean() == pytest.approx(2.0, rel=1e-12)


def test_a_check_says_what_links_suffer():
    flap = {"flap": {"every": "1 h", "duration": "6 s"}}
    text = explain(sites([("a", "b")], LANES | SLOW | flap), 1)
    assert "a-b: each of 8 lane(s) is down 16.7 % of the time" in text
    assert "a-b: has less bandwidth 16.7 % of the time, by a factor of mean 4 (constant)" in text
    assert "flap: 1 round(s)" in text


@pytest.mark.parametrize(("factor", "bandwidth"), [(1e200, "10 GB/s"), (1e308, 1)])
def test_a_link_that_all_but_stops_is_refused_by_the_time_of_a_step(factor, bandwidth):
    law = {"law": "constant", "value": factor}
    slow = {"every": "1 s", "duration": "1 s", "factor": law}
    keys = {"slow": slow, "bandwidth": bandwidth}
    for engine in ("sampled", "exact"):
        with pytest.raises(SimulationError, match="beyond 1e\\+60 s no mean is formed"):
            mcsim.run(sites([("a", "b")], keys).replace({"run.engine": engine}))


def test_an_infinite_variance_of_a_factor_is_one_of_the_step():
    law = {"law": "pareto", "scale": 1, "alpha": 1.5}
    slow = {"slow": {"every": "50 s", "duration": "10 s", "factor": law}}
    assert not plan_of(slow).has_finite_variance
    assert plan_of(SLOW).has_finite_variance
    # A link that is not in use has no part in it.
    asked = sites(LINE, {}, names=["a", "b"])
    assert lower(asked.replace({"link[1].slow": slow["slow"]})).has_finite_variance


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"lanes": 0}, r"link\[0\]\.lanes: 0 must be at least 1"),
        ({"lanes": 2.5}, r"lanes: 2\.5 must be a whole number"),
        ({"lane_failure": {"every": 0, "duration": 1}}, r"lane_failure\.every: 0 must be above 0"),
        ({"lanes": 4}, r"lanes: changes nothing: no lane fails; give `lane_failure` or `age`"),
        (LANES | {"lanes": 1}, "lane_failure: changes nothing: the last lane never fails"),
        ({"slow": {"every": 1, "duration": 1}}, "`factor` is missing"),
        (
            {"slow": {"every": 1, "duration": 1, "factor": {"law": "constant", "value": 0}}},
            r"slow\.factor: 0 must be above 0: it divides the bandwidth",
        ),
        (
            {"slow": {"every": 1, "duration": 1, "factor": {"law": "normal", "mean": 2, "sd": 1}}},
            r"slow\.factor: -6\.2\d* must be above 0",
        ),
    ],
)
def test_impossible_states_are_refused(keys, message):
    with pytest.raises(ScenarioError, match=message):
        sites([("a", "b")], keys)
