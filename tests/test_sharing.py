"""Delays that the messages of a node, a rack or a site share, against ranks drawn one by one."""

from __future__ import annotations

import numpy as np
import pytest
from oracle import scenario
from scipy.stats import ks_2samp, kstest

import mcsim
from mcsim.errors import ScenarioError
from mcsim.laws import Constant, Exponential, LogNormal
from mcsim.model import lower
from mcsim.model.delays import Slowest, slowest
from mcsim.model.plan import Messages, identity_of

STEPS = 40_000
SURVIVAL = np.array([1 - 1e-6, 0.9, 0.5, 0.1, 1e-6, 1e-12])
# Nodes and racks that are partly filled, and two groups of unlike nodes.
FLEET = (
    {"count": 70, "devices_per_node": 8, "nodes_per_rack": 3},
    {"count": 40, "devices_per_node": 16, "nodes_per_rack": 2},
)
ROUNDS = 8


def lognormal(median, sigma):
    return {"law": "lognormal", "median": median, "sigma": sigma}


def exponential(mean):
    return {"law": "exponential", "mean": mean}


def now_and_then(probability, law):
    late = {"weight": probability, **law}
    return {
        "law": "mixture",
        "parts": [{"weight": 1 - probability, "law": "constant", "value": 0}, late],
    }


def asked(level, laws, fleet=FLEET, **parts):
    level_of = {"bandwidth": 1, "algorithm": "double-binary-tree", **laws}
    return scenario(*fleet, workload={"gradient": 0}, network={level: level_of}, **parts)


def messages(level, laws, fleet=FLEET):
    (delay,) = lower(asked(level, laws, fleet)).barrier.delays
    return delay.messages[0]


def law_from(table):
    if table is None:
        return Constant(0.0)
    return messages("node", {"delay": table}).law


def slowest_rank(random, level, laws, fleet=FLEET):
    """The slowest message of a round, drawn rank by rank; shape (STEPS,)."""

    def draw(key, number):
        return law_from(laws.get(key)).quantile(random.random((STEPS, number)))

    found = []
    for group in fleet:
        node = np.arange(group["count"]) // group["devices_per_node"]
        if level == "site":
            node = np.unique(node)
        rack = node // group["nodes_per_rack"]
        time = draw("delay", node.size) + draw("shared_rack", rack[-1] + 1)[:, rack]
        if "shared_node" in laws:
            time += draw("shared_node", node[-1] + 1)[:, node]
        found.append(time.max(axis=1))
    return np.max(found, axis=0) + draw("shared_site", 1)[:, 0]


OWN = lognormal(1.0, 0.8)
CASES = {
    "by node": ("node", {"delay": OWN, "shared_node": lognormal(1.0, 0.8)}),
    "by rack": ("node", {"delay": OWN, "shared_rack": exponential(3.0)}),
    "by site": ("node", {"delay": OWN, "shared_site": exponential(3.0)}),
    "by all": (
        "node",
        {
            "delay": OWN,
            "shared_node": exponential(1.0),
            "shared_rack": lognormal(1.0, 0.5),
            "shared_site": exponential(2.0),
        },
    ),
    "of nodes, by all": (
        "site",
        {"delay": OWN, "shared_rack": exponential(2.0), "shared_site": exponential(1.0)},
    ),
    "now and then": (
        "node",
        {
            "delay": now_and_then(0.02, exponential(1.0)),
            "shared_rack": now_and_then(0.1, exponential(2.0)),
        },
    ),
    "measured, now and then": (
        "node",
        {
            "delay": {"law": "empirical", "table": "hdr200-same-rack"},
            "shared_rack": now_and_then(0.1, {"law": "constant", "value": 3e-6}),
            "shared_site": now_and_then(0.2, {"law": "constant", "value": 2e-6}),
        },
    ),
    "nothing of its own": ("node", {"shared_node": OWN, "shared_rack": exponential(1.0)}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_round_waits_for_the_slowest_of_ranks_drawn_one_by_one(case):
    level, laws = CASES[case]
    drawn = slowest_rank(np.random.default_rng(1), level, laws)
    law = slowest(messages(level, laws))
    # The largest value of all is compared too: KS alone does not see the tail.
    assert law.survival(np.array([drawn.max()]))[0] > 1e-6 / STEPS
    above = drawn[drawn > drawn.min()]
    alone = np.mean(drawn == drawn.min())
    if alone < 2 / STEPS:
        assert kstest(drawn, law.distribution).pvalue > 1e-6
        return
    least = law.distribution(np.array([drawn.min()]))[0]
    assert abs(alone - least) < 5 * np.sqrt(least * (1 - least) / STEPS)
    given = kstest(above, lambda x: (law.distribution(x) - least) / (1 - least))
    assert given.pvalue > 1e-6


@pytest.mark.parametrize("case", ["by all", "of nodes, by all"])
@pytest.mark.parametrize("engine", ["sampled", "exact"])
def test_steps_wait_for_rounds_of_ranks_that_share_delays(case, engine):
    level, laws = CASES[case]
    random = np.random.default_rng(2)
    rounds = ROUNDS if level == "node" else 8
    drawn = 1 + sum(slowest_rank(random, level, laws) for _ in range(rounds))
    jitter = {"step": {"law": "uniform", "low": 0.9999, "high": 1}}
    fleet = [{**group, "jitter": jitter} for group in FLEET]
    given = asked(level, laws, fleet, steps=STEPS, keep="steps").replace({"run.engine": engine})
    (delay,) = lower(given).barrier.delays
    assert delay.rounds == rounds
    found = mcsim.run(given)
    assert found.attrs["engine"] == engine
    assert ks_2samp(found.step_time.values.ravel(), drawn).pvalue > 1e-6
    law = mcsim.law(given)
    assert kstest(drawn, law.distribution).pvalue > 1e-6
    assert abs(drawn.mean() - law.mean()) < 5 * law.std() / np.sqrt(STEPS)
    assert abs(found.step_time_mean.item() - law.mean()) < 5 * law.std() / np.sqrt(STEPS)


def test_what_ranks_share_is_less_than_it_would_be_if_they_did_not():
    """The same law of each rank; 32 ranks; a variance of 1."""
    fleet = [{"count": 32, "devices_per_node": 8, "nodes_per_rack": 2}]
    means = []
    for part in (0.0, 0.3, 0.6):
        laws = {"delay": {"law": "normal", "mean": 10, "sd": (1 - part) ** 0.5}}
        if part:
            laws["shared_node"] = {"law": "normal", "mean": 10, "sd": (part / 2) ** 0.5}
            laws["shared_rack"] = {"law": "normal", "mean": 10, "sd": (part / 2) ** 0.5}
        law = slowest(messages("node", laws, fleet))
        survival = (np.arange(100_000) + 0.5) / 100_000
        means.append(law.quantile(survival).mean() - (30 if part else 10))
    # Of 32 independent normal draws.
    assert means[0] == pytest.approx(2.0697, abs=1e-3)
    assert means[0] > means[1] + 0.05 > means[2] + 0.1


def test_what_all_share_adds_to_the_slowest():
    fleet = [{"count": 8, "devices_per_node": 8}]
    normal = {"law": "normal", "mean": 10, "sd": 1}
    survival = (np.arange(400_000) + 0.5) / 400_000
    for key in ("shared_node", "shared_rack", "shared_site"):
        law = slowest(messages("node", {"delay": normal, key: exponential(0.5)}, fleet))
        # E[max of 8 N(0, 1)] = 1.42360031.
        assert law.quantile(survival).mean() == pytest.approx(10 + 1.42360031 + 0.5, abs=1e-4)


def test_only_a_delay_of_their_own_is_as_before_bit_for_bit():
    own = LogNormal(median=1.0, sigma=0.8)
    for level, count in (("node", 110), ("site", 12)):
        found = messages(level, {"delay": OWN})
        assert found == Messages(level, identity_of("main"), own, count)
        assert np.array_equal(
            slowest(found).quantile(SURVIVAL), Slowest(own, count).quantile(SURVIVAL)
        )


def test_only_a_shared_delay_is_that_of_the_slowest_unit():
    shared = Exponential(2.0)
    for key, units in (("shared_node", 12), ("shared_rack", 5), ("shared_site", 1)):
        law = slowest(messages("node", {key: exponential(2.0)}))
        assert np.array_equal(law.quantile(SURVIVAL), Slowest(shared, units).quantile(SURVIVAL))
    law = slowest(messages("site", {"shared_site": exponential(2.0)}))
    assert np.allclose(law.quantile(SURVIVAL), shared.quantile(SURVIVAL), rtol=1e-15)


def test_a_device_that_is_alone_sends_nothing_in_its_node():
    fleet = [{"count": 1, "devices_per_node": 8}, FLEET[1]]
    assert messages("node", {"delay": OWN}, fleet).count == 40


def test_every_message_counts_once_however_units_are_filled():
    shared = {"shared_node": exponential(1.0), "shared_rack": exponential(2.0)}
    for count in (7, 8, 9, 23, 24, 25, 70, 72, 220_003):
        fleet = [{"count": count, "devices_per_node": 8, "nodes_per_rack": 3}, FLEET[1]]
        found = messages("node", {"delay": OWN, **shared}, fleet)
        assert found.count == count + 40
        nodes, racks = -(-count // 8) + 3, -(-count // 24) + 2
        assert list(found.shared.values()) == [racks, nodes]
        among = messages("site", {"delay": OWN, "shared_rack": exponential(2.0)}, fleet)
        assert among.count == nodes
        assert list(among.shared.values()) == [racks]


def test_devices_alone_in_their_nodes_send_no_messages_there():
    fleet = [FLEET[0], {"count": 9, "devices_per_node": 1}]
    assert messages("node", {"delay": OWN, "shared_rack": OWN}, fleet).count == 70


def test_a_few_values_add_up_to_a_few_values():
    """Three sums: as curves, they put these off by several per cent."""
    fleet = [{"count": 24, "devices_per_node": 2, "nodes_per_rack": 3}]
    chances = {"delay": (0.01, 1.0), "shared_node": (0.05, 1.5), "shared_rack": (0.1, 2.0)}
    chances["shared_site"] = (0.1, 0.7)
    members = {"shared_node": 2, "shared_rack": 3, "shared_site": 4}

    def at_most(x, keys):
        """P(the slowest of a unit <= x)."""
        if not keys:
            return float(x > -1e-9)
        *inner, key = keys
        probability, value = chances[key]
        number = members.get(key, 1)
        late = at_most(x - value, inner) ** number
        return (1 - probability) * at_most(x, inner) ** number + probability * late

    laws = {
        key: now_and_then(probability, {"law": "constant", "value": value})
        for key, (probability, value) in chances.items()
    }
    law = slowest(messages("node", laws, fleet))
    sums = np.add.outer(np.add.outer([0, 1], [0, 1.5]), np.add.outer([0, 2], [0, 0.7])).ravel()
    values = np.unique(np.round(sums, 9))
    for x in values:
        found = law.distribution(np.array([x + 1e-12, x + 0.05]))
        assert found == pytest.approx([at_most(x, list(chances))] * 2, rel=1e-12)
    drawn = law.quantile(np.random.default_rng(1).random(9999))
    assert np.abs(drawn[:, None] - values).min(axis=1).max() < 1e-12


def test_many_single_values_that_would_add_up_are_refused():
    random = np.random.default_rng(1)
    many = {
        "law": "mixture",
        "parts": [
            {"weight": 0.05, "law": "constant", "value": float(v)} for v in random.random(20)
        ],
    }
    message = r"network.node: .* single values .* may take 64"
    with pytest.raises(ScenarioError, match=message):
        mcsim.run(asked("node", {"delay": many, "shared_node": many}))


def test_an_infinite_variance_of_what_is_shared_is_known():
    pareto = {"law": "pareto", "scale": 1e-3, "alpha": 1.5}
    plan = lower(asked("site", {"delay": OWN, "shared_rack": pareto}))
    assert not plan.has_finite_variance


def test_check_says_what_is_shared():
    from mcsim.model.estimate import explain

    text = explain(asked("node", {"delay": OWN, "shared_rack": exponential(2.0)}))
    assert "each the slowest of 110, lognormal" in text
    assert "and by rack, 5 of them: exponential, mean 2 s" in text
