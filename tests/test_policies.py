"""Synchronisation policies: against closed forms, all devices looked at, and each other."""

from __future__ import annotations

import numpy as np
import pytest
from oracle import arrivals, cluster_of, scenario
from scipy.integrate import quad
from scipy.special import betaincinv, ndtri

import mcsim
from mcsim.batch import Shard, advance, merge
from mcsim.engine import cluster as clusters
from mcsim.engine import cutoff, engine_of, simulate
from mcsim.engine.clocks import ClockEngine
from mcsim.engine.cutoff import arrival_before
from mcsim.engine.sampled import sample_steps, start_of
from mcsim.engine.shared import shared_factors
from mcsim.errors import SimulationError
from mcsim.model import lower
from mcsim.model.estimate import explain
from mcsim.results import label, summarise, write

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
    "a site too late": ([fleet(2_000, step=LOGNORMAL), fleet(20, "b", 9.0, step=ATOMS)], {}),
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
    return ready, culprit, busy, lost / len(every), accepted[-1][2]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("policy", ["backup", "timeout"])
def test_the_cut_is_that_of_all_devices_looked_at(case, policy, monkeypatch):
    groups, parts = CASES[case]
    asked = (at_sites if groups[-1]["site"] == "b" else alone)(*groups, **parts)
    devices = sum(group["count"] for group in groups)
    if policy == "backup":
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
        ready, culprit, busy, lost, last_site = cut_by_hand(plan, cluster, 7 + row)
        np.testing.assert_allclose(found.ready[row], ready, rtol=1e-14)
        np.testing.assert_allclose(whole.busy[row], busy, rtol=1e-12)
        for site, (group, device) in culprit.items():
            assert (found.culprit[row, site], found.device[row, site]) == (group, device)
        assert found.lost[row] == pytest.approx(lost)
        if policy == "backup":
            assert found.last_site[row] == last_site
    # Means over devices take the expected time of those that are not looked at.
    error = 0.2 / np.sqrt(count * np.array([group.count for group in plan.groups]))
    assert np.all(np.abs((found.busy - whole.busy).mean(axis=0)) < 5 * error)
    np.testing.assert_array_equal(found.time, again.time)
    np.testing.assert_array_equal(found.culprit, again.culprit)
    np.testing.assert_array_equal(found.lost, again.lost)


PAIR = (
    fleet(40, step=LOGNORMAL, stall=STALL),
    fleet(30, "b", step=LOGNORMAL, persistent=LOGNORMAL),
)
THREE = (*PAIR, fleet(50, "c", 0.9, step=LOGNORMAL))


def same(one, other):
    """Whether two results are, bit for bit, but for what they say of the policy."""
    return one.equals(other)


@pytest.mark.parametrize(
    "keys",
    [
        {"policy": "backup", "wait_for": 120},
        {"policy": "hierarchical", "inner_steps": 1},
        {"policy": "quorum", "quorum": 3, "grace": 0.5},
        {"policy": "streaming-diloco", "inner_steps": 1, "fragments": 1},
    ],
    ids=lambda keys: keys["policy"],
)
def test_waiting_for_everybody_in_every_step_is_bsp_bit_for_bit(keys):
    asked = at_sites(*THREE, steps=300, replicates=2, keep="steps", jitter={"slow_site": SLOW})
    found = mcsim.run(with_policy(asked, **keys))
    assert same(found, mcsim.run(asked))
    assert found.attrs["sync_policy"] == keys["policy"]


def test_waiting_for_fewer_is_never_slower_step_by_step():
    asked = at_sites(*THREE, steps=200, keep="steps", jitter={"slow_site": SLOW})
    last = times(mcsim.run(asked))
    for k in (119, 100, 60, 1):
        here = times(mcsim.run(with_policy(asked, "backup", wait_for=k)))
        assert np.all(here <= last)
        assert np.any(here < last)
        last = here


def test_a_longer_timeout_is_never_faster_and_the_longest_is_bsp():
    asked = at_sites(*THREE, steps=200, keep="steps")
    last, lost = np.zeros((1, 200)), 1.0
    for timeout in (0.5, 1.1, 1.3, 50):
        found = mcsim.run(with_policy(asked, "timeout", timeout=timeout))
        assert np.all(times(found) >= last)
        last = times(found)
        assert found.samples_lost.item() <= lost
        lost = found.samples_lost.item()
    assert np.all(last == times(mcsim.run(asked)))
    assert lost == 0.0


def test_where_nobody_is_there_in_time_all_samples_are_lost():
    asked = alone(fleet(50, step=LOGNORMAL), steps=20)
    found = mcsim.run(with_policy(asked, "timeout", timeout=0.1))
    assert np.all(found.samples_lost == 1.0)
    assert np.all(found.step_time_mean == pytest.approx(0.1, rel=1e-14))
    assert np.all(found.efficiency == 0.0)
    assert "nobody" not in summarise(found)


def test_what_a_timeout_loses_is_the_survival_function_of_the_law():
    timeout = 1.2
    law = {"law": "weibull", "scale": 1, "shape": 8}
    asked = with_policy(alone(fleet(500, step=law), steps=400), "timeout", timeout=timeout)
    expected = np.exp(-(timeout**8))
    found = mcsim.run(asked)
    assert found.samples_lost.item() == pytest.approx(expected, rel=1e-12)
    assert found.samples_lost_stderr.item() < 1e-15
    # With a slow state that changes nothing it is counted.
    none = {**SLOW, "factor": {"law": "constant", "value": 1}}
    counted, error = mean(mcsim.run(asked.replace({"fleet[0].jitter.slow": none})), "samples_lost")
    assert abs(counted - expected) < 5 * error
    assert 0 < error < 0.1 * expected
    # A device's time until it is ready or interrupted.
    busy = quad(lambda t: np.exp(-(t**8)), 0, timeout)[0]
    found, error = mean(mcsim.run(asked).isel(group=0), "device_time_mean")
    assert abs(found - busy) < 5 * error


def by_hand(asked, inner, *, quorum, grace=0.0, fragments=1, overlap=0):
    """Rounds, one step after the other, from the last arrivals of a full barrier."""
    plan = lower(asked.replace({"run.steps": asked.run.steps * inner}))
    ready = sample_steps(cluster_of(plan), 0, plan.steps).ready
    barrier = plan.barrier
    share, sites = 1 - barrier.overlap, range(len(plan.sites))
    exchange = barrier.exchange.latency + (
        (barrier.exchange.undisturbed - barrier.exchange.latency) / fragments
    )
    down = max(barrier.down)
    due = [(number + 1) * inner // fragments for number in range(fragments)]
    found, lost = [], []
    for first in range(0, plan.steps, inner):
        clock, links, starts, late = [0.0 for _ in sites], -np.inf, {}, set()
        for step in range(inner):
            here = ready[first + step]
            sent = [clock[s] + share * here[s] + barrier.up[s] for s in sites]
            done = [clock[s] + here[s] for s in sites]
            ends = step + 1 in due
            if overlap == 0 and ends:
                kth = sorted(sent)[quorum - 1]
                start = min(max(sent), kth + grace)
                late = {s for s in sites if sent[s] > start}
                links = max(start, links) + exchange
                met = max(links + down, *(done[s] for s in sites if s not in late))
                clock = [met for _ in sites]
                continue
            clock = [max(done[s], sent[s] + barrier.down[s]) for s in sites]
            if overlap and ends:
                number = due.index(step + 1)
                if number not in starts:
                    starts[number] = links = max(0.0, links) + exchange
                clock = [max(one, starts[number] + down / fragments) for one in clock]
            for coming in range(fragments):
                if overlap and due[coming] - overlap == step + 1:
                    starts[coming] = links = max(*clock, links) + exchange
        found.append(max(clock))
        counts = [sum(g.count for g in plan.groups if g.site == s) for s in sites]
        lost.append(sum(counts[s] for s in late) / plan.devices)
    return np.array(found), np.array(lost)


@pytest.mark.parametrize("engine", ["sampled", "exact"])
@pytest.mark.parametrize(
    ("policy", "keys"),
    [
        ("hierarchical", {"inner_steps": 6}),
        ("quorum", {"inner_steps": 4, "quorum": 2, "grace": 0.02}),
        ("quorum", {"inner_steps": 1, "quorum": 1}),
        ("streaming-diloco", {"inner_steps": 6, "fragments": 3, "overlap_steps": 1}),
        ("streaming-diloco", {"inner_steps": 7, "fragments": 3}),
        ("streaming-diloco", {"inner_steps": 6, "fragments": 2, "overlap_steps": 2}),
    ],
)
def test_rounds_are_those_of_one_step_after_the_other(policy, keys, engine):
    asked = at_sites(*THREE, steps=60, keep="steps")
    one = with_policy(asked.replace({"run.engine": engine}), policy, **keys)
    found = mcsim.run(one)
    inner = keys["inner_steps"]
    by = {
        "quorum": keys.get("quorum", 3),
        "grace": keys.get("grace", 0.0),
        "fragments": keys.get("fragments", 1),
        "overlap": keys.get("overlap_steps", 0),
    }
    expected, lost = by_hand(asked, inner, **by)
    if engine == "sampled":
        np.testing.assert_allclose(times(found)[0], expected, rtol=1e-12)
        if policy == "quorum":
            assert found.samples_lost.item() == pytest.approx(lost.mean())
            assert 0 < lost.mean() < 1
    else:
        error = np.hypot(found.step_time_mean_stderr.item(), expected.std() / np.sqrt(60))
        assert abs(found.step_time_mean.item() - expected.mean()) < 5 * error
    assert found.attrs["inner_steps"] == inner
    assert found.ideal_step_time.item() == pytest.approx(inner * 120 / (70 + 50 / 0.9))
    total = found.component_time_mean.sum("component")
    np.testing.assert_allclose(total, found.step_time_mean, rtol=1e-12)
    assert np.all(found.component_time_mean >= 0)
    assert found.attrs["self_check"] == "passed"


def test_a_quorum_of_all_sites_is_hierarchical_and_so_is_one_fragment():
    asked = at_sites(*THREE, steps=50, keep="steps")
    one = mcsim.run(with_policy(asked, "hierarchical", inner_steps=5))
    other = mcsim.run(with_policy(asked, "quorum", inner_steps=5, quorum=3, grace=1))
    streaming = with_policy(asked, "streaming-diloco", inner_steps=5, fragments=1)
    assert same(one, other)
    assert same(one, mcsim.run(streaming))
    # Who never waits in vain is never late.
    patient = mcsim.run(with_policy(asked, "quorum", inner_steps=5, quorum=2, grace=1e6))
    np.testing.assert_array_equal(times(patient), times(one))
    assert np.all(patient.samples_lost == 0.0)


def test_a_smaller_quorum_and_less_grace_are_never_slower():
    asked = at_sites(*THREE, steps=100, keep="steps")

    def run(k, grace):
        return times(mcsim.run(with_policy(asked, "quorum", quorum=k, grace=grace, inner_steps=3)))

    two, one = run(2, 0.05), run(1, 0.05)
    assert np.all(one <= two)
    assert np.any(one < two)
    assert np.all(run(2, 0.0) <= two)


def test_an_exchange_that_hides_behind_more_steps_is_never_slower():
    asked = at_sites(*THREE, steps=50, keep="steps").replace({"link[0].bandwidth": "0.2 GB/s"})
    found = [
        times(
            mcsim.run(
                with_policy(
                    asked, "streaming-diloco", inner_steps=8, fragments=2, overlap_steps=tau
                )
            )
        )
        for tau in (1, 2, 4)
    ]
    assert np.all(found[1] <= found[0])
    assert np.all(found[2] <= found[1])
    assert found[2].mean() < found[0].mean() - 0.5


@pytest.mark.parametrize(
    ("policy", "keys"),
    [
        ("backup", {"wait_for": 110}),
        ("timeout", {"timeout": 1.2}),
        ("quorum", {"inner_steps": 3, "quorum": 2, "grace": 0.01}),
        ("streaming-diloco", {"inner_steps": 4, "fragments": 2, "overlap_steps": 1}),
    ],
    ids=["backup", "timeout", "quorum", "streaming-diloco"],
)
def test_the_bits_depend_on_no_division_of_the_steps(policy, keys):
    disturbed = {"slow_site": SLOW, "slow": SLOW, "correlation": 0.5, "daily": {"amplitude": 0.1}}
    asked = at_sites(*THREE, steps=2_500, keep="steps", jitter=disturbed)
    plan = lower(with_policy(asked, policy, **keys))
    whole = simulate(plan, threads=1).replicates[0]
    for threads, tile in ((2, None), (1, 7)):
        other = simulate(plan, threads=threads, tile=tile).replicates[0]
        np.testing.assert_array_equal(other.step_time, whole.step_time)
        np.testing.assert_array_equal(other.moments.mean, whole.moments.mean)
        np.testing.assert_array_equal(other.moments.second, whole.moments.second)
        np.testing.assert_array_equal(other.culprits, whole.culprits)


def test_what_is_lost_is_counted_by_no_efficiency_and_said_beside_it():
    asked = alone(fleet(100, step=LOGNORMAL), steps=500).replace({"run.engine": "sampled"})
    worth = asked.replace({"sync.statistical_efficiency": 0.9})
    found = mcsim.run(with_policy(worth, "backup", wait_for=90))
    assert found.samples_lost.item() == pytest.approx(0.1, rel=1e-12)
    expected = 0.9 / found.step_time_mean.item()
    assert found.efficiency.item() == pytest.approx(expected, rel=1e-12)
    assert found.effective_gpus.item() == pytest.approx(100 * expected, rel=1e-12)
    assert found.statistical_efficiency.item() == 0.9
    said = summarise(found)
    assert "samples lost 10 %: they enter no update" in said
    assert "statistical efficiency 0.9, as given" in said
    plain = mcsim.run(asked)
    assert "samples_lost" not in plain
    assert "statistical_efficiency" not in plain
    assert "samples lost" not in summarise(plain)
    # What the user says of samples changes nothing else.
    assert mcsim.run(worth).drop_vars("statistical_efficiency").equals(plain)


def test_check_says_whom_a_step_waits_for():
    asked = at_sites(*THREE, steps=5)
    said = explain(with_policy(asked, "backup", wait_for=100))
    assert "backup          a step ends with the first 100 of 120 replicas" in said
    assert "timeout         a step waits for 2 s at most" in explain(
        with_policy(asked, "timeout", timeout=2)
    )
    said = explain(with_policy(asked, "quorum", quorum=2, grace=0.5, inner_steps=4))
    assert "quorum          a step, here, is a round of 4 inner steps" in said
    assert "the first 2 of them are waited for, the others for 500 ms" in said


def test_the_exact_engine_refuses_what_is_not_the_last_arrival():
    asked = with_policy(alone(fleet(9, step=LOGNORMAL), steps=5), "backup", wait_for=8)
    found = mcsim.run(asked)
    assert found.attrs["engine"] == "sampled"
    assert "steps do not wait for everybody" in found.attrs["engine_reason"]
    with pytest.raises(mcsim.ScenarioError, match=r"run\.engine.*do not wait for everybody"):
        mcsim.run(asked.replace({"run.engine": "exact"}))
    with pytest.raises(mcsim.ScenarioError, match=r'run\.keep.*policy = "backup"'):
        mcsim.run(asked.replace({"run.keep": "devices"}))
    with pytest.raises(mcsim.ScenarioError, match=r"run\.target.*do not wait for everybody"):
        mcsim.run(asked, target="cuda")


def test_a_file_of_a_policy_is_whole(tmp_path):
    asked = at_sites(*THREE, steps=1_200, jitter={"slow_site": SLOW})
    asked = with_policy(asked, "quorum", quorum=2, inner_steps=2)
    found = mcsim.run(asked)
    mcsim.write(found, tmp_path / "x.nc")
    with mcsim.open(tmp_path / "x.nc") as read:
        assert same(read.load(), found)
    assert mcsim.load(tmp_path / "x.nc") == asked


# Clocks of their own.


def stale(asked, bound):
    if bound is None:
        return with_policy(asked, "async")
    return with_policy(asked, "ssp", staleness=bound)


def walked(plan, bound, count):
    """The times of steps of as many updates as there are replicas, event by event."""
    cluster = cluster_of(plan)
    drawn = {}

    def time(replica, step):
        if step not in drawn:
            factors = shared_factors(plan, 0, step, 1)
            drawn[step] = np.concatenate(
                [
                    one * (1.0 if factors is None else factors[0, group.site])
                    for (one, _), group in zip(arrivals(cluster, step), plan.groups, strict=True)
                ]
            )
        return drawn[step][replica]

    n = plan.devices
    steps, ends = [0] * n, [time(i, 0) for i in range(n)]
    blocked: set[int] = set()
    found, behind, updates = [], [], 0
    while len(found) < count:
        now, i = min((ends[i], i) for i in range(n) if i not in blocked)
        steps[i] += 1
        updates += 1
        blocked.add(i)
        for j in sorted(blocked):
            if steps[j] - bound <= min(steps):
                blocked.discard(j)
                ends[j] = max(ends[j], now) + time(j, steps[j])
        if updates % n == 0:
            found.append(now)
            behind.append(updates // n - min(steps))
    return np.diff(found, prepend=0.0), np.array(behind)


STALE = (
    fleet(7, step=LOGNORMAL, stall=STALL, slow=SLOW),
    fleet(5, "b", 1.1, step=LOGNORMAL, correlation=0.5, persistent=LOGNORMAL),
)


def unlinked(*groups, **parts):
    return scenario(*groups, site=SITES[:2], link=LINKS[:1], **parts)


@pytest.mark.parametrize("bound", [1, 3, None])
def test_replicas_with_clocks_do_what_they_do_event_by_event(bound):
    asked = unlinked(*STALE, steps=80, keep="steps", jitter={"slow_site": SLOW})
    found = mcsim.run(stale(asked, bound))
    plan = lower(stale(asked, bound))
    expected, behind = walked(plan, np.inf if bound is None else bound, 80)
    np.testing.assert_allclose(times(found)[0], expected, rtol=1e-9)
    assert found.staleness.item() == pytest.approx(behind.mean())
    assert found.update_rate.item() == pytest.approx(12 * 80 / expected.sum())
    assert 0 < behind.max() <= (np.inf if bound is None else bound)
    assert (found.wait_fraction.max() > 0) == (bound is not None)


def test_a_bound_of_no_step_is_bsp_and_one_of_all_is_async():
    asked = unlinked(*STALE, steps=200, keep="steps")
    assert same(mcsim.run(stale(asked, 0)), mcsim.run(asked))
    assert same(mcsim.run(stale(asked, 200)), mcsim.run(stale(asked, None)))


def test_a_larger_bound_never_makes_an_update_later():
    asked = unlinked(*STALE, steps=150, keep="steps")
    last = None
    for bound in (0, 1, 2, 5, 20, None):
        here = np.cumsum(times(mcsim.run(stale(asked, bound))))
        if last is not None:
            assert np.all(here <= last + 1e-9)
            assert here[-1] < last[-1]
        last = here


def test_nobody_who_waits_for_nobody_loses_anything():
    # Renewals of an exponential law are a Poisson process: exactly one update a second and replica.
    asked = alone(fleet(40, step=EXPONENTIAL), steps=500).replace({"run.replicates": 8})
    found, error = mean(mcsim.run(stale(asked, None)), "update_rate")
    assert abs(found - 40) < 5 * 40 / np.sqrt(40 * 500 * 8)
    assert error > 0
    # Unequal ones: the sum of their rates, where under a bound all have that of the slowest.
    unequal = alone(fleet(3), fleet(2, compute=2.0), steps=400)
    assert mean(mcsim.run(stale(unequal, None)), "update_rate")[0] == pytest.approx(4, rel=0.01)
    assert mean(mcsim.run(stale(unequal, 3)), "update_rate")[0] == pytest.approx(2.5, rel=0.02)
    assert mcsim.run(stale(unequal, 3)).wait_fraction.values[0] == pytest.approx([0.5, 0], abs=0.02)


def test_clocks_go_on_from_where_they_stand():
    asked = unlinked(*STALE, steps=500, keep="steps", jitter={"daily": {"amplitude": 0.1}})
    plan = lower(stale(asked, 2))
    whole = simulate(plan, threads=1).replicates[0]
    for threads, tile in ((2, None), (2, 7)):
        other = simulate(plan, threads=threads, tile=tile).replicates[0]
        np.testing.assert_array_equal(other.step_time, whole.step_time)
        np.testing.assert_array_equal(other.moments.mean, whole.moments.mean)
    late = ClockEngine(plan).draw(0)
    np.testing.assert_array_equal(late.sample(300, 20).time, whole.step_time[300:320])
    np.testing.assert_array_equal(late.sample(0, 20).time, whole.step_time[:20])


def test_what_updates_take_on_a_network_is_refused():
    asked = at_sites(*STALE, steps=5)
    with pytest.raises(mcsim.ScenarioError, match=r"sync\.policy.*take workload\.gradient"):
        mcsim.run(stale(asked, 3))
    assert same(mcsim.run(stale(asked, 0)), mcsim.run(asked))


# Replicas of several devices.


MODEL = {
    "parameters": 1e9,
    "layers": 24,
    "hidden": 2048,
    "sequence": 2048,
    "batch": 2**21,
    "mfu": 0.5,
    "active_parameters": 5e8,
    "experts": 8,
    "experts_per_token": 2,
}


def divided(*groups, steps=40, **parallel):
    asked = scenario(
        *groups,
        steps=steps,
        keep="steps",
        site=SITES[:2],
        link=LINKS[:1],
        network=NETWORK["network"],
        workload={"gradient": "1 GB", "parallel": parallel},
    )
    return asked.replace({"jitter.slow_site": SLOW})


def test_one_device_a_replica_is_cut_as_without_division():
    groups = fleet(60, step=LOGNORMAL, slow=SLOW), fleet(50, "b", step=LOGNORMAL, correlation=0.5)
    asked = divided(*groups)
    plain = asked.replace({"workload.parallel": None, "workload.overlap": 0})
    for k in (110, 100, 3):
        one, other = (mcsim.run(with_policy(each, "backup", wait_for=k)) for each in (asked, plain))
        np.testing.assert_allclose(times(one), times(other), rtol=1e-9)
        np.testing.assert_allclose(one.device_time_mean, other.device_time_mean, rtol=2e-2)
        np.testing.assert_array_equal(one.straggler_share, other.straggler_share)
        if k < 110:
            assert one.samples_lost.item() == other.samples_lost.item()
            assert one.samples_lost.item() == pytest.approx(1 - k / 110)


@pytest.mark.parametrize("expert", [1, 2])
def test_the_first_replicas_are_the_first_to_end(expert):
    group = {"devices_per_node": 4, "jitter": {"step": LOGNORMAL, "operation": LOGNORMAL}}
    asked = divided(fleet(32) | group, fleet(32, "b") | group, tensor=2, pipeline=2, microbatches=3)
    if expert > 1:
        asked = asked.replace(
            {"workload.parallel.expert": expert, "workload.model": MODEL, "workload.gradient": None}
        )
    last = None
    for k in range(16, 0, -4):
        one = with_policy(asked, "backup", wait_for=k)
        found = mcsim.run(one)
        here = times(found)[0]
        if last is None:
            assert same(found, mcsim.run(asked))
        else:
            assert np.all(here <= last)
            assert np.any(here < last)
            assert found.samples_lost.item() == 1 - k / 16
            assert np.all(np.isfinite(found.site_compute_time_mean))
            assert np.all(np.isfinite(found.component_time_mean))
        last = here
        # Without a gradient it is the order statistic of their ends.
        free = one.replace({"workload.gradient": None, "jitter": None})
        if expert > 1:
            continue
        plan = lower(free)
        replicate = engine_of("sampled", plan).draw(0)
        ends = [
            np.sort(replicate._pass(replicate._times(step, 0, [None, None])[0]).end.max(axis=1))
            for step in range(40)
        ]
        expected = [one[k - 1] for one in ends]
        np.testing.assert_allclose(times(mcsim.run(free))[0], expected, rtol=1e-12)


def test_replicas_that_share_experts_are_waited_for_together():
    asked = divided(fleet(8), fleet(8, "b"), expert=4)
    with pytest.raises(mcsim.ScenarioError, match=r"6 is no multiple of 4, .* take 8"):
        with_policy(asked, "backup", wait_for=6)


# What is done with results of any policy.

POLICIES = {
    "backup": {"wait_for": 110},
    "timeout": {"timeout": 1.2},
    "quorum": {"inner_steps": 2, "quorum": 2, "grace": 0.01},
    "async": {},
}


@pytest.mark.parametrize("policy", POLICIES)
def test_shards_and_longer_runs_are_the_whole(policy, tmp_path):
    asked = with_policy(at_sites(*THREE, steps=2_100, replicates=2), policy, **POLICIES[policy])
    if policy == "async":
        asked = asked.replace({"workload.gradient": None, "run.replicates": 1})
    whole = advance(asked)
    parts = [advance(asked, shard=Shard(number, 2)) for number in (2, 1)]
    files = []
    for number, part in enumerate(parts):
        write(label(part), tmp_path / f"{number}.nc", part)
        files.append(tmp_path / f"{number}.nc")
    assert label(merge(files)).equals(label(whole))
    half = advance(asked.replace({"run.steps": 1_030}))
    assert label(advance(asked, earlier=half)).equals(label(whole))


def test_what_a_step_loses_to_each_cause_adds_up_under_a_policy():
    asked = at_sites(*THREE, steps=20)
    one = with_policy(asked, "backup", wait_for=100)
    with pytest.raises(mcsim.ScenarioError, match=r"sync\.policy: .backup. loses samples"):
        mcsim.explain(one)
    rounds = with_policy(asked.replace({"run.engine": "auto"}), "hierarchical", inner_steps=3)
    causes = mcsim.explain(rounds)
    total = causes.overall_shapley_time.sum() + causes.ideal_step_time
    whole = float(mcsim.run(rounds.replace({"run.engine": "sampled"})).overall_step_time_mean)
    assert float(total) == pytest.approx(whole, rel=1e-12)
    with pytest.raises(mcsim.ScenarioError, match=r"sync\.policy: .async.*cannot be explained"):
        mcsim.explain(with_policy(alone(fleet(9), steps=5), "async"))
    with pytest.raises(mcsim.ScenarioError, match="only the law of a full barrier is tabulated"):
        mcsim.law(one)


# Faults put in on purpose, which the closed forms above must see.


def test_one_replica_more_or_less_is_seen(monkeypatch):
    asked = with_policy(alone(fleet(100, step=EXPONENTIAL), steps=20_000), "backup", wait_for=98)
    expected = (1 / np.arange(3, 101)).sum()

    def is_off():
        found, error = mean(mcsim.run(asked))
        return abs(found - expected) > 5 * error

    assert not is_off()
    for more in (-1, 1):
        monkeypatch.setattr(
            cutoff,
            "arrival_before",
            lambda bounds, time, draw, spare, more=more: arrival_before(
                bounds, time, draw, spare + more
            ),
        )
        assert is_off()


def test_too_few_candidates_are_seen(monkeypatch):
    asked = with_policy(alone(fleet(3_000, step=LOGNORMAL), steps=50), "backup", wait_for=2_900)
    plan = lower(asked)
    right = sample_steps(cluster_of(plan), 0, 50)
    # In half of the steps too few: they are looked at again, or do not end.
    monkeypatch.setattr(clusters, "kept_at", lambda depth, cutoff: 101.0 + depth * 1e9)
    again = sample_steps(cluster_of(plan), 0, 50)
    np.testing.assert_array_equal(again.time, right.time)
    monkeypatch.setattr(cutoff, "_is_above", lambda level, factor, time, draw: factor > 0)
    with pytest.raises(SimulationError, match="-inf"):
        sample_steps(cluster_of(plan), 0, 50)


def test_an_interrupted_site_waits_between_the_steps_that_it_reached():
    """Four steps of 1 s are over after two of 2 s, in each of which most wait for half of it."""
    table = {
        "name": "quorum",
        "run": {"steps": 2},
        "site": [{"name": "m"}, {"name": "n"}],
        "link": [{"between": ["m", "n"], "bandwidth": "1 GB/s"}],
        "sync": {"policy": "quorum", "quorum": 1, "inner_steps": 4},
        "fleet": [
            {"name": name, "device": "custom", "compute": compute, "count": count, "site": site}
            for name, compute, count, site in (
                ("fast", 1, 16, "m"),
                ("most", 1, 15, "n"),
                ("slow", 2, 1, "n"),
            )
        ],
    }
    found = mcsim.run(mcsim.Scenario.from_dict(table))
    assert found.overall_step_time_mean == 4
    np.testing.assert_allclose(found.wait_fraction[0], [0, 0.5, 0])
