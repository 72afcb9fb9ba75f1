"""The sampled engine against the slow obvious version and against closed forms."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from oracle import arrivals, cluster_of, last_arrivals, scenario
from scipy.special import gammaln

import mcsim
from mcsim.engine import simulate
from mcsim.engine.sampled import sample_steps
from mcsim.model import lower


def lognormal(cv):
    return {"law": "lognormal", "mean": 1, "cv": cv}


STALL = {"law": "exponential", "mean": "10 ms"}
SLOW_NODES = {
    "law": "mixture",
    "parts": [
        {"weight": 0.99, "law": "constant", "value": 1},
        {"weight": 0.01, "law": "constant", "value": 1.1},
    ],
}
HEAVY = {
    "law": "mixture",
    "parts": [
        {"weight": 0.999, "law": "lognormal", "mean": 1, "cv": 0.01},
        {"weight": 0.001, "law": "pareto", "scale": 1.1, "alpha": 2.5},
    ],
}
EMPIRICAL = {"law": "empirical", "values": [1.0, 1.01, 1.01, 1.02, 1.5]}

FLEETS = {
    "one device": [{"count": 1, "jitter": {"step": lognormal(0.1)}}],
    "few devices": [{"count": 5, "jitter": {"step": lognormal(0.1)}}],
    "some devices": [{"count": 50, "jitter": {"step": lognormal(0.1)}}],
    "persistent and step": [
        {"count": 3000, "jitter": {"persistent": lognormal(0.02), "step": lognormal(0.01)}}
    ],
    "stalls": [
        {
            "count": 3000,
            "jitter": {"persistent": lognormal(0.02), "step": lognormal(0.01), "stall": STALL},
        }
    ],
    "stalls alone": [{"count": 3000, "jitter": {"persistent": lognormal(0.02), "stall": STALL}}],
    "all equal": [{"count": 3001}, {"count": 299}],
    "equal with constant stall": [
        {"count": 300, "jitter": {"stall": {"law": "constant", "value": 0.01}}},
        {"count": 100, "compute": 1.01},
    ],
    "step atoms": [{"count": 3000, "jitter": {"step": SLOW_NODES}}],
    "step atoms and stalls": [{"count": 1000, "jitter": {"step": SLOW_NODES, "stall": STALL}}],
    "stall atoms": [
        {
            "count": 400,
            "jitter": {
                "step": SLOW_NODES,
                "stall": {
                    "law": "mixture",
                    "parts": [
                        {"weight": 0.9, "law": "constant", "value": 0},
                        {"weight": 0.1, "law": "constant", "value": 0.5},
                    ],
                },
            },
        }
    ],
    "node atoms": [{"count": 3000, "devices_per_node": 8, "jitter": {"node": SLOW_NODES}}],
    "heavy mixture": [{"count": 3000, "jitter": {"persistent": lognormal(0.01), "step": HEAVY}}],
    "empirical": [{"count": 3000, "jitter": {"step": EMPIRICAL}}],
    "groups of unlike laws": [
        {"count": 2000, "jitter": {"step": lognormal(0.1)}},
        {"count": 300, "compute": 1.05, "jitter": {"step": lognormal(0.08), "stall": STALL}},
        {"count": 100, "compute": 1.2},
        {"count": 17, "compute": 0.5, "jitter": {"step": {"law": "gamma", "mean": 1, "cv": 1}}},
    ],
    "heavy tail": [
        {"count": 3000, "jitter": {"step": {"law": "pareto", "scale": 1, "alpha": 1.5}}}
    ],
    "negative times": [{"count": 3000, "jitter": {"step": {"law": "normal", "mean": 0, "sd": 1}}}],
    "negative factors": [
        {
            "count": 1000,
            "jitter": {
                "persistent": {"law": "normal", "mean": 0, "sd": 1},
                "step": {"law": "uniform", "low": 1, "high": 2},
            },
        }
    ],
    "zero times": [{"count": 1000, "jitter": {"step": {"law": "constant", "value": 0}}}],
}


@pytest.mark.parametrize("name", FLEETS)
def test_screening_finds_exactly_the_last_of_all_devices(name):
    cluster = cluster_of(lower(scenario(*FLEETS[name], seed=8)))
    fast, slow = sample_steps(cluster, 5, 120), last_arrivals(cluster, 5, 120)
    assert np.array_equal(fast.ready, slow.ready)
    assert np.array_equal(fast.draw, slow.draw)
    assert np.array_equal(fast.culprit, slow.culprit)


@pytest.mark.parametrize("name", FLEETS)
def test_the_mean_over_devices_is_right_without_looking_at_all_of_them(name):
    cluster = cluster_of(lower(scenario(*FLEETS[name], seed=9)))
    fast, slow = sample_steps(cluster, 0, 300), last_arrivals(cluster, 0, 300)
    difference = fast.busy - slow.busy
    error = difference.std(axis=0, ddof=1) / math.sqrt(300)
    assert np.all(np.abs(difference.mean(axis=0)) <= 5 * error + 1e-6 * np.abs(slow.busy.mean()))


def test_each_site_has_its_own_last_arrival():
    sites = [{"name": name} for name in ("a", "b", "c")]
    groups = [
        {"count": 700, "site": "a", "jitter": {"step": lognormal(0.1)}},
        {"count": 500, "site": "b", "jitter": {"step": lognormal(0.1), "stall": STALL}},
        {"count": 30, "site": "a", "compute": 1.1, "jitter": {"step": lognormal(0.1)}},
        {"count": 3, "site": "c", "compute": 9},
    ]
    cluster = cluster_of(lower(scenario(*groups, site=sites)))
    fast, slow = sample_steps(cluster, 0, 100), last_arrivals(cluster, 0, 100)
    assert np.array_equal(fast.ready, slow.ready)
    assert np.array_equal(fast.culprit, slow.culprit)
    assert np.all(fast.last_site == 2)


def test_a_step_in_which_nobody_outranks_the_level_is_looked_at_again(monkeypatch):
    monkeypatch.setattr("mcsim.engine.cluster.KEPT", (0.5, 2.0, np.inf))
    monkeypatch.setattr("mcsim.engine.sampled.KEPT", (0.5, 2.0, np.inf))
    for name in ("persistent and step", "stalls", "step atoms", "all equal"):
        cluster = cluster_of(lower(scenario(*FLEETS[name], seed=8)))
        fast, slow = sample_steps(cluster, 0, 120), last_arrivals(cluster, 0, 120)
        assert np.array_equal(fast.ready, slow.ready)
        assert np.array_equal(fast.culprit, slow.culprit)
        difference = (fast.busy - slow.busy).mean(axis=0)
        assert np.all(np.abs(difference) < 0.002)
        assert 2 in cluster._screens


def harmonic(n):
    return math.fsum(1 / i for i in range(1, n + 1))


def uniform_maximum(n):
    return n / (n + 1)


def weibull_maximum(n, shape=2):
    """By quadrature of the maximum's survival function."""
    from scipy.integrate import quad

    return quad(lambda x: -math.expm1(n * math.log1p(-math.exp(-(x**shape)))), 0, 40, limit=500)[0]


def normal_maximum(n):
    from scipy.integrate import quad
    from scipy.special import log_ndtr, ndtr

    upper = quad(lambda x: -math.expm1(n * log_ndtr(x)), 0, 40, limit=500)[0]
    return upper - quad(lambda x: ndtr(x) ** n, -40, 0, limit=500)[0]


SIZES = [1, 2, 8, 100, 1_000, 16_384, 220_000]
CLOSED_FORMS = {
    "exponential": ({"law": "exponential", "mean": 1}, harmonic),
    "uniform": ({"law": "uniform", "low": 0, "high": 1}, uniform_maximum),
    "normal": ({"law": "normal", "mean": 0, "sd": 1}, normal_maximum),
    "weibull": ({"law": "weibull", "scale": 1, "shape": 2}, weibull_maximum),
}


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_the_mean_of_the_maximum_agrees_with_its_closed_form(name, count):
    law, expected = CLOSED_FORMS[name]
    exact = expected(count)
    asked = scenario({"count": count, "jitter": {"step": law}}, seed=count, steps=2_000)

    def mean_and_error(steps):
        plan = lower(asked.replace({"run.steps": steps}))
        (tally,) = simulate(plan).replicates
        return tally.moments.mean[0], math.sqrt(tally.moments.variance()[0] / steps)

    _, pilot = mean_and_error(2_000)
    wanted = 0.001 * (exact if exact > 0.01 else 1.0)
    mean, error = mean_and_error(max(2_000, int(1.2 * 2_000 * (pilot / wanted) ** 2)))
    assert error <= wanted
    assert abs(mean - exact) < 5 * error


def test_the_closed_forms_are_the_published_ones(shared_data):
    cases = json.loads((shared_data / "validation_cases.json").read_text())["cases"]
    values = {case["id"]: case.get("values", {}) for case in cases}
    for n, value in values["G1"].items():
        assert harmonic(int(n)) == pytest.approx(value, rel=1e-12)
    for n, value in values["G3"].items():
        assert normal_maximum(int(n)) == pytest.approx(value, rel=1e-7)
    for n, value in values["G11"].items():
        assert weibull_maximum(int(n)) == pytest.approx(value, rel=1e-6)
    assert uniform_maximum(8) == values["G2"]["8"]
    assert uniform_maximum(100) == values["G2"]["100"]


def test_a_pareto_tail_is_neither_capped_nor_repeated():
    steps, count, alpha = 100_000, 220_000, 3.0
    law = {"law": "pareto", "scale": 1, "alpha": alpha}
    plan = lower(
        scenario({"count": count, "jitter": {"step": law}}, seed=4, steps=steps, keep="steps")
    )
    (tally,) = simulate(plan).replicates
    assert np.unique(tally.step_time).size == steps
    # The largest order statistic of n: Gamma(n+1) Gamma(1-1/a) / Gamma(n+1-1/a).
    exact = math.exp(gammaln(count + 1) + gammaln(1 - 1 / alpha) - gammaln(count + 1 - 1 / alpha))
    assert exact == pytest.approx(81.74557842968908, rel=1e-9)
    error = tally.step_time.std(ddof=1) / math.sqrt(steps)
    assert abs(tally.step_time.mean() - exact) < 5 * error


def test_the_maximum_of_a_far_tail_follows_its_law_beyond_32_bits():
    # At 220,000 devices x 20,000 steps the run's maximum is at a survival of 2e-10, where a 32-bit
    # uniform has one value; the probability integral transform of the maxima must be uniform.
    steps, count = 20_000, 220_000
    law = {"law": "exponential", "mean": 1}
    plan = lower(
        scenario({"count": count, "jitter": {"step": law}}, seed=6, steps=steps, keep="steps")
    )
    (tally,) = simulate(plan).replicates
    beyond = count * np.exp(-np.sort(tally.step_time)[::-1][:20])
    # Sums of k unit exponentials over `steps`: the largest 20 points are a Poisson process.
    gaps = np.diff(np.concatenate([[0], beyond])) * steps
    assert 20 * 0.2 < gaps.sum() < 20 * 2.5
    assert np.unique(tally.step_time).size == steps


@pytest.mark.parametrize("count", [1, 7, 64, 1000, 20_001])
def test_zero_jitter_gives_the_maximum_of_the_bases_exactly(count):
    spec = {"count": count, "jitter": {"persistent": lognormal(0.05)}}
    plan = lower(scenario(spec, {"count": 3, "compute": 0.9}, steps=50, keep="steps"))
    cluster = cluster_of(plan)
    (tally,) = simulate(plan).replicates
    assert np.all(tally.step_time == max(base.max() for base in cluster.base))


def test_one_device_is_its_own_barrier():
    jitter = {"persistent": lognormal(0.1), "step": lognormal(0.2), "stall": STALL}
    asked = scenario({"count": 1, "jitter": jitter}, steps=200, keep="steps")
    plan = lower(asked)
    times = np.array([arrivals(cluster_of(plan), step)[0][0][0] for step in range(200)])
    dataset = mcsim.run(asked)
    assert np.array_equal(dataset.step_time.values[0], times)
    assert dataset.wait_fraction.values.item() == 0
    assert dataset.straggler_share.values.item() == 1


def test_among_equal_devices_each_is_the_culprit_as_often():
    plan = lower(scenario({"count": 3000}, {"count": 1000}, steps=20_000))
    (tally,) = simulate(plan).replicates
    share = tally.culprits[0] / 20_000
    assert abs(share - 0.75) < 5 * math.sqrt(0.75 * 0.25 / 20_000)
