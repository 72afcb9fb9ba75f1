"""Synchronisation policies: who waits for whom, against closed forms, brute force and each other."""

from __future__ import annotations

import numpy as np
import pytest
from oracle import arrivals, cluster_of, scenario
from scipy.integrate import quad
from scipy.special import betaincinv, ndtri

import mcsim
from mcsim.engine import cluster as clusters
from mcsim.engine import simulate
from mcsim.engine.sampled import sample_steps, start_of
from mcsim.engine.shared import shared_factors
from mcsim.model import lower
from mcsim.model.estimate import explain
from mcsim.results import summarise

EXPONENTIAL = {"law": "exponential", "mean": 1}
LOGNORMAL = {"law": "lognormal", "mean": 1, "cv": 0.1}
STALL = {"law": "exponential", "mean": 0.05}
SLOW = {"every": 40, "duration": 5, "factor": {"law": "constant", "value": 1.3}}
ATOMS = {
    "law": "mixture",
    "parts": [{"weight": 0.9, "law": "constant", "value": 1}, {"weight": 0.1, **LOGNORMAL}],
}
SITES = [{"name": "a"}, {"name": "b"}, {"name": "c"}]
LINKS = [
    {"between": ["a", "b"], "bandwidth": "10 GB/s", "latency": "10 ms"},
    {"between": ["b", "c"], "bandwidth": "10 GB/s", "latency": "10 ms"},
]
NETWORK = {
    "workload": {"gradient": "1 GB", "overlap": 0.2},
    "network": {"site": {"bandwidth": "20 GB/s", "latency": "1 ms"}},
}


def with_policy(asked, policy, **keys):
    changes = {f"sync.{key}": value for key, value in keys.items()}
    return asked.replace({"sync.policy": policy, **changes})


def fleet(count, site="a", compute=1.0, **jitter):
    return {
        "name": f"{site}-{count}",
        "count": count,
        "site": site,
        "compute": compute,
        "devices_per_node": 1,
        "jitter": jitter,
    }


def at_sites(*groups, **parts):
    """A scenario of several sites with their network."""
    names = {group["site"] for group in groups}
    return scenario(
        *groups,
        site=[one for one in SITES if one["name"] in names],
        link=LINKS[: len(names) - 1],
        **(NETWORK | parts),
    )


def alone(*groups, **parts):
    """A scenario of one site, without a network."""
    return scenario(*groups, site=SITES[:1], **parts)


def times(dataset):
    return dataset.step_time.to_numpy()


def mean(dataset, name="step_time_mean"):
    return float(dataset[f"overall_{name}"]), float(dataset[f"overall_{name}_stderr"])


# The first k of n.


def expected_order_statistic(n, k, quantile):
    """The mean of the k-th smallest of n draws, by quadrature over its beta law."""
    return quad(lambda p: quantile(betaincinv(k, n - k + 1, p)), 0, 1, limit=200)[0]


@pytest.mark.parametrize("k", [1, 50, 98])
def test_the_kth_of_exponential_replicas_is_a_difference_of_harmonic_numbers(k):
    asked = alone(fleet(100, step=EXPONENTIAL), steps=20_000)
    found, error = mean(mcsim.run(with_policy(asked, "backup", wait_for=k)))
    expected = (1 / np.arange(100 - k + 1, 101)).sum()
    if k == 98:
        assert expected == pytest.approx(3.687378, abs=1e-6)
    assert abs(found - expected) < 5 * error
    assert error < 0.01 * expected


@pytest.mark.parametrize("k", [5, 990])
def test_order_statistics_of_lognormals_are_those_of_quadrature(k):
    sigma = 0.3
    law = {"law": "lognormal", "median": 1, "sigma": sigma}
    asked = alone(fleet(1_000, step=law), steps=5_000)
    found, error = mean(mcsim.run(with_policy(asked, "backup", wait_for=k)))
    expected = expected_order_statistic(1_000, k, lambda p: np.exp(sigma * ndtri(p)))
    assert abs(found - expected) < 5 * error
    assert error < 1e-3 * expected


CASES = {
    "plain": ([fleet(3_000, step=LOGNORMAL, persistent=LOGNORMAL)], {}),
    "stalls": ([fleet(3_000, step=LOGNORMAL, stall=STALL), fleet(500, "b", stall=STALL)], {}),
    "atoms": ([fleet(2_000, step=ATOMS), fleet(1_000, "b", step=ATOMS)], {}),
    "constant": ([fleet(600), fleet(300, "b")], {}),
    "slow": ([fleet(2_000, step=LOGNORMAL, slow=SLOW), fleet(700, step=LOGNORMAL)], {}),
    "kept": ([fleet(2_000, step=LOGNORMAL, correlation=0.7)], {}),
    "sites": (
        [fleet(1_500, step=LOGNORMAL), fleet(1_500, "b", step=LOGNORMAL)],
        {"jitter": {"slow_site": SLOW, "daily": {"amplitude": 0.3, "period": "20 s"}}},
    ),
    "a slow site": ([fleet(2_000, step=LOGNORMAL), fleet(20, "b", 3.0, step=LOGNORMAL)], {}),
}


def cut_by_hand(plan, cluster, step):
    """All that a step that does not wait for everybody is, from all times of all devices."""
    factors = shared_factors(plan, 0, step, 1)
    every = []
    for index, (time, draw) in enumerate(arrivals(cluster, step)):
        site = plan.groups[index].site
        time = time * (1.0 if factors is None else factors[0, site])
        every += [(t, -d, site, index, i) for i, (t, d) in enumerate(zip(time, draw, strict=True))]
    every.sort()
    timeout = plan.cutoff.timeout
    if plan.cutoff.has_timeout:
        cut, accepted = timeout, every
        lost = sum(one[0] > timeout for one in every)
    else:
        accepted = every[: len(every) - plan.cutoff.spare]
        cut, lost = accepted[-1][0], plan.cutoff.spare
    ready, culprit = np.full(len(plan.sites), cut), {}
    for time, _, site, group, device in accepted:
        ready[site], culprit[site] = min(time, timeout), (group, device)
    groups = range(len(plan.groups))
    busy = [np.mean([min(one[0], cut) for one in every if one[3] == index]) for index in groups]
    return ready, culprit, busy, lost / len(every)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("policy", [{"wait_for": None}, {"timeout": 1.25}], ids=lambda one: [*one][0])
def test_the_cut_is_that_of_all_devices_looked_at(case, policy, monkeypatch):
    groups, parts = CASES[case]
    asked = (at_sites if groups[-1]["site"] == "b" else alone)(*groups, **parts)
    devices = sum(group["count"] for group in groups)
    if "wait_for" in policy:
        asked = with_policy(asked, "backup", wait_for=devices - 30)
    else:
        asked = with_policy(asked, "timeout", timeout=1.25)
    plan = lower(asked)
    cluster = cluster_of(plan)
    count = 12
    found = sample_steps(cluster, 7, count, start_of(cluster))
    # So few are kept that many steps have to be looked at again.
    monkeypatch.setattr(clusters, "KEPT", (1.0, 4.0, 16.0, 64.0, np.inf))
    again = sample_steps(cluster_of(plan), 7, count)
    monkeypatch.setattr(clusters, "KEPT", (np.inf,))
    whole = sample_steps(cluster_of(plan), 7, count)
    for row in range(count):
        ready, culprit, busy, lost = cut_by_hand(plan, cluster, 7 + row)
        np.testing.assert_allclose(found.ready[row], ready, rtol=1e-14)
        np.testing.assert_allclose(whole.busy[row], busy, rtol=1e-12)
        for site, (group, device) in culprit.items():
            assert (found.culprit[row, site], found.device[row, site]) == (group, device)
        assert found.lost[row] == pytest.approx(lost)
    # Means over devices take the expected time of those that are not looked at.
    error = 0.2 / np.sqrt(count * np.array([group.count for group in plan.groups]))
    assert np.all(np.abs((found.busy - whole.busy).mean(axis=0)) < 5 * error)
    np.testing.assert_array_equal(found.time, again.time)
    np.testing.assert_array_equal(found.culprit, again.culprit)
    np.testing.assert_array_equal(found.lost, again.lost)
