"""Step jitter that is kept from step to step: its memory, its law, and entry at any step."""

from __future__ import annotations

import math

import numpy as np
import pytest
from oracle import arrivals, cluster_of, last_arrivals, scenario

import mcsim
from mcsim.engine import simulate
from mcsim.engine.exact import site_laws
from mcsim.engine.held import drawn_at, refreshes_of
from mcsim.engine.sampled import SampledEngine
from mcsim.engine.selfcheck import deviation_of
from mcsim.model import lower

LOGNORMAL = {"law": "lognormal", "mean": 1, "cv": 0.05}
ATOMS = {
    "law": "mixture",
    "parts": [
        {"weight": 0.75, "law": "constant", "value": 1.0},
        {"weight": 0.25, "law": "constant", "value": 1.25},
    ],
}
STALL = {"law": "exponential", "mean": 0.1}


def kept(correlation, count=1_000, **jitter):
    return {"count": count, "jitter": {"step": LOGNORMAL, "correlation": correlation, **jitter}}


def drawn(plan, first, count):
    """The step whose draw each device of group 0 has, shape (steps, devices)."""
    group = plan.groups[0]
    step, device = np.divmod(np.arange(count * group.count), group.count)
    refreshes = refreshes_of(plan, group, 0)
    at = drawn_at(device, step + first, *refreshes)
    return at.astype(np.int64).reshape(count, group.count)


@pytest.mark.parametrize("correlation", [0.02, 0.5, 0.9, 0.999])
def test_each_device_keeps_its_draw_with_the_probability_that_is_asked(correlation):
    at = drawn(lower(scenario(kept(correlation, 2_000))), 10**6, 500)
    step = 10**6 + np.arange(500)[:, None]
    new = at == step
    # What is not drawn anew is that of the step before.
    assert np.array_equal(at[1:][~new[1:]], at[:-1][~new[1:]])

    def is_close(events, expected):
        # Devices are independent: the scatter among them is the error of their mean; of what
        # hardly ever happens, a few more or less.
        own = events.mean(axis=0)
        error = 5 * own.std(ddof=1) / math.sqrt(own.size) + 10 / events.size
        return abs(own.mean() - expected) < error

    assert is_close(new, 1 - correlation)
    for lag in (1, 4, 30):
        assert is_close(new[lag:] & new[:-lag], (1 - correlation) ** 2)
        assert is_close(at[lag:] == at[:-lag], correlation**lag)


@pytest.mark.parametrize("correlation", [0.3, 0.9, 0.9999, 1 - 1e-12])
def test_draws_entered_late_are_those_walked_from_the_start(correlation):
    plan = lower(scenario(kept(correlation, 40)))
    whole = drawn(plan, 0, 20_000)
    assert not whole[0].any()
    expected = np.zeros(40, np.int64)
    for step in range(20_000):
        expected = np.where(whole[step] == step, step, expected)
        assert np.array_equal(whole[step], expected)
    for first, count in ((0, 1), (1, 1), (777, 3), (16_384, 700), (19_999, 1)):
        assert np.array_equal(drawn(plan, first, count), whole[first : first + count])


def test_the_times_of_devices_are_autocorrelated_as_an_ar1_process():
    correlation, steps, devices = 0.9, 400, 2_000
    cluster = cluster_of(lower(scenario(kept(correlation, devices))))
    logs = np.log([arrivals(cluster, 5_000 + step)[0][0] for step in range(steps)])
    sigma = math.sqrt(math.log(1 + 0.05**2))
    centred = (logs + sigma**2 / 2) / sigma
    # Devices are independent: the scatter of their own estimates is the error of the mean.
    for lag in (0, 1, 2, 5, 20):
        own = (centred[lag:] * centred[: steps - lag]).mean(axis=0)
        error = own.std(ddof=1) / math.sqrt(devices)
        assert abs(own.mean() - correlation**lag) < 5 * error
    assert abs(centred.mean()) < 5 * centred.mean(axis=0).std(ddof=1) / math.sqrt(devices)


FLEETS = {
    "plain": [kept(0.9, 3_000, persistent=LOGNORMAL)],
    "with stalls": [kept(0.8, 1_000, persistent=LOGNORMAL, stall=STALL)],
    "with atoms": [
        {"count": 500, "jitter": {"step": ATOMS, "correlation": 0.7, "persistent": ATOMS}}
    ],
    "few": [kept(0.95, 5)],
    "long": [kept(0.9999, 2_000)],
    "two groups and slow states": [
        kept(
            0.5,
            1_001,
            slow={"every": 200.0, "duration": 20.0, "factor": LOGNORMAL},
            shock={"every": 300.0, "factor": LOGNORMAL},
        ),
        {"count": 800, "jitter": {"persistent": LOGNORMAL, "step": LOGNORMAL}},
    ],
}


@pytest.mark.parametrize("name", FLEETS)
def test_the_last_arrivals_are_those_of_all_devices(name):
    plan = lower(scenario(*FLEETS[name], seed=3))
    cluster = cluster_of(plan)
    engine = SampledEngine(plan).draw(0)
    for first, count in ((0, 40), (1, 3), (100_000, 25)):
        expected = last_arrivals(cluster, first, count)
        found = engine.sample(first, count)
        assert np.array_equal(found.ready, expected.ready)
        assert np.array_equal(found.culprit, expected.culprit)
        assert np.array_equal(found.draw, expected.draw)
        assert np.array_equal(found.device, expected.device)
        again = engine.sample(first + 2, 1)
        assert np.array_equal(again.busy, found.busy[2:3])


def test_devices_that_are_dismissed_count_right_on_average():
    plan = lower(scenario(kept(0.9, 500, stall=STALL), steps=4_096, seed=5))
    busy = simulate(plan).replicates[0].moments.mean[-1]
    assert abs(busy - 1.1) < 0.002


def test_the_law_of_a_single_step_is_that_without_memory():
    plan = lower(scenario(kept(0.9, 200)))
    (law,) = site_laws(plan, 0)
    engine = SampledEngine(plan).draw(0)
    # Steps so far apart are independent.
    ready = np.concatenate([engine.sample(300 * at, 1).ready for at in range(1, 3_000)])
    bound = math.sqrt(math.log(2 / 1e-6) / (2 * len(ready)))
    assert deviation_of(law, ready[:, 0]) < bound
    assert mcsim.law(scenario(kept(0.9, 200))).mean() == mcsim.law(scenario(kept(0, 200))).mean()


def test_the_slowest_of_many_stays_as_often_as_its_closed_form():
    # Its device keeps its draw, and of the n - 1 others none that draws anew rises above it: with
    # the survival u of the maximum, the integral of n (1 - u)^(n-1) (1 - (1 - c) u)^(n-1) is
    # 1 / (2 - c) for large n.
    steps, correlation = 20_000, 0.9
    plan = lower(scenario(kept(correlation, 20_000), steps=steps, keep="steps"))
    time = simulate(plan).replicates[0].step_time
    stays = (time[1:] == time[:-1])[: steps - 100].reshape(-1, 100)
    own = stays.mean(axis=1)
    error = own.std(ddof=1) / math.sqrt(own.size)
    assert abs(own.mean() - correlation / (2 - correlation)) < 5 * error


def test_no_correlation_is_bit_for_bit_as_before():
    plain = {"count": 1_000, "jitter": {"step": LOGNORMAL, "stall": STALL}}
    first = simulate(lower(scenario(plain, keep="steps"))).replicates[0]
    second = simulate(lower(scenario(kept(0, stall=STALL), keep="steps"))).replicates[0]
    assert np.array_equal(first.step_time, second.step_time)
    assert np.array_equal(first.moments.mean, second.moments.mean)


def test_tiles_and_threads_change_no_bit():
    plan = lower(scenario(*FLEETS["with stalls"], steps=3_000, keep="steps"))
    (plain,) = simulate(plan).replicates
    for other in (simulate(plan, threads=1), simulate(plan, threads=3, tile=77)):
        assert np.array_equal(other.replicates[0].step_time, plain.step_time)
        assert np.array_equal(other.replicates[0].moments.mean, plain.moments.mean)


def test_what_does_not_know_a_memory_says_so():
    asked = scenario(kept(0.9))
    for settings, message in (
        ({"run.engine": "exact"}, "kept from step to step"),
        ({"run.keep": "devices"}, "correlation"),
    ):
        with pytest.raises(mcsim.ScenarioError, match=message):
            mcsim.run(asked.replace(settings))
    found = mcsim.run(asked)
    assert found.attrs["engine"] == "sampled"
    assert found.attrs["self_check"] == "passed"


@pytest.mark.parametrize("correlation", [1, -0.1, "1 s", True])
def test_impossible_correlations_are_refused(correlation):
    with pytest.raises(mcsim.ScenarioError, match=r"jitter.correlation"):
        scenario(kept(correlation))


def test_a_correlation_of_nothing_is_refused():
    for parts, place in (
        ({"jitter": {"correlation": 0.5}}, r"fleet\[0\].jitter"),
        ({}, "test: jitter"),
    ):
        common = {} if parts else {"jitter": {"correlation": 0.5}}
        asked = scenario({"count": 4, **parts}, **common)
        with pytest.raises(mcsim.ScenarioError, match=rf"{place}.correlation: changes nothing"):
            lower(asked)
    lower(scenario({"count": 4, "jitter": {"step": LOGNORMAL}}, jitter={"correlation": 0.5}))
