"""The exact engine, the sampled one, the law and an independent quadrature: all must agree."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from oracle import scenario
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import log_ndtr
from scipy.stats import binomtest, norm

import mcsim
from mcsim.engine import engine_of, simulate
from mcsim.engine.exact import site_laws
from mcsim.model import lower
from mcsim.model.choice import cpu_seconds
from mcsim.model.maximum import NotExact

STEPS = 100_000
Z = 4.9
"""Two-sided p < 1e-6."""

GROUPS = [(150_000, 1.0, 0.02), (50_000, 0.97, 0.03), (20_000, 0.5, 0.2)]
FLEET = [
    {
        "count": count,
        "compute": 1.0,
        "jitter": {"step": {"law": "lognormal", "median": median, "sigma": sigma}},
    }
    for count, median, sigma in GROUPS
]
HETEROGENEOUS = scenario(*FLEET, seed=12, steps=STEPS, keep="steps")


def log_distribution(t):
    """Of the maximum of the three groups, written down once more."""
    return sum(n * log_ndtr(math.log(t / median) / sigma) for n, median, sigma in GROUPS)


def quadrature_mean():
    below, above = 1.0, 3.0
    ends = np.linspace(below, above, 41)
    pieces = [
        quad(lambda t: -math.expm1(log_distribution(t)), a, b, epsabs=1e-13)[0]
        for a, b in itertools.pairwise(ends)
    ]
    return below + math.fsum(pieces)


def quadrature_quantile(p):
    return brentq(lambda t: log_distribution(t) - math.log(p), 1.0, 3.0, xtol=1e-14)


@pytest.fixture(scope="module")
def law():
    return mcsim.law(HETEROGENEOUS)


@pytest.fixture(scope="module", params=["sampled", "exact"])
def times(request):
    plan = lower(HETEROGENEOUS.replace({"run.engine": request.param}))
    (sums,) = simulate(plan, engine=engine_of(request.param, plan)).replicates
    return sums.step_time


def test_the_mean_agrees_with_quadrature(times, law):
    exact = quadrature_mean()
    assert abs(times.mean() - exact) < Z * times.std(ddof=1) / math.sqrt(STEPS)
    assert law.mean() == pytest.approx(exact, rel=1e-7)


@pytest.mark.parametrize("p", [0.001, 0.5, 0.99, 0.999])
def test_quantiles_agree_with_quadrature(times, law, p):
    exact = quadrature_quantile(p)
    assert law.quantile(p) == pytest.approx(exact, rel=1e-7)
    assert binomtest(int((times <= exact).sum()), STEPS, p).pvalue > 1e-6


def test_the_culprits_agree():
    shares, steps = [], 50_000
    for engine in ("sampled", "exact"):
        plan = lower(HETEROGENEOUS.replace({"run.steps": steps}))
        (sums,) = simulate(plan, engine=engine_of(engine, plan)).replicates
        shares.append(sums.culprits / steps)
    error = np.sqrt(2 * np.maximum(shares[1] * (1 - shares[1]), 1 / steps) / steps)
    assert np.all(np.abs(shares[0] - shares[1]) < Z * error)


def lognormal(cv):
    return {"law": "lognormal", "mean": 1, "cv": cv}


JITTER = {"persistent": lognormal(0.02), "node": lognormal(0.01), "step": lognormal(0.01)}
STALL = {"law": "exponential", "mean": "10 ms"}
DELAY = {"law": "lognormal", "median": "5 ms", "sigma": 1.0}
NETWORK = {
    "workload": {"gradient": "10 MB", "overlap": 0.3},
    "network": {
        "node": {"bandwidth": "1 GB/s", "latency": "1 us"},
        "site": {"bandwidth": "100 MB/s", "latency": "5 us", "delay": DELAY},
    },
}
TWO_SITES = {
    "site": [{"name": "a"}, {"name": "b"}],
    "link": [{"between": ["a", "b"], "bandwidth": "1 GB/s", "distance": "10 km", "delay": DELAY}],
}
CLUSTERS = {
    "one device": ([{"count": 1, "jitter": JITTER}], {}),
    "five devices": ([{"count": 5, "jitter": JITTER}], {}),
    "nodes of eight": ([{"count": 3000, "devices_per_node": 8, "jitter": JITTER}], {}),
    "stalls": ([{"count": 700, "jitter": {**JITTER, "stall": STALL}}], {}),
    "stalls alone": ([{"count": 700, "jitter": {"stall": STALL}}], {}),
    "a floor": (
        [{"count": 30, "jitter": {"step": lognormal(0.05)}}, {"count": 4, "compute": 1.09}],
        {},
    ),
    "nothing varies": ([{"count": 30}, {"count": 10}, {"count": 4, "compute": 0.9}], {}),
    "unlike laws": (
        [
            {"count": 2000, "jitter": {"step": lognormal(0.1)}},
            {"count": 300, "compute": 1.05, "jitter": {"step": lognormal(0.08), "stall": STALL}},
            {"count": 17, "compute": 0.5, "jitter": {"step": {"law": "gamma", "mean": 1, "cv": 1}}},
        ],
        {},
    ),
    "measured specimens": (
        [
            {
                "count": 3000,
                "jitter": {
                    "persistent": {"law": "empirical", "table": "v100-sgemm"},
                    "step": lognormal(0.005),
                },
            }
        ],
        {},
    ),
    "a network": ([{"count": 64, "devices_per_node": 8, "jitter": JITTER}], NETWORK),
    "two sites": (
        [
            {"count": 64, "site": "a", "jitter": JITTER},
            {"count": 200, "site": "b", "compute": 0.98, "jitter": JITTER},
        ],
        {**NETWORK, **TWO_SITES, "workload": {"gradient": "10 MB"}},
    ),
}


@pytest.mark.parametrize("name", CLUSTERS)
def test_both_engines_and_the_law_agree_on(name):
    fleet, parts = CLUSTERS[name]
    steps = 20_000
    asked = scenario(*fleet, seed=5, steps=steps, keep="steps", **parts)
    plan = lower(asked)
    sampled, exact = (
        simulate(plan, engine=engine_of(engine, plan)).replicates[0]
        for engine in ("sampled", "exact")
    )
    # All columns: step, compute, communication, the wait of each group, compute of each site.
    difference = sampled.moments.mean - exact.moments.mean
    variance = sampled.moments.variance() + exact.moments.variance()
    assert np.all(np.abs(difference) < Z * np.sqrt(variance / steps) + 2e-6)
    assert np.allclose(
        sampled.culprits / steps, exact.culprits / steps, atol=Z * math.sqrt(0.5 / steps)
    )
    law = mcsim.law(asked)
    for sums in (sampled, exact):
        error = math.sqrt(sums.moments.variance()[0] / steps)
        assert abs(law.mean() - sums.moments.mean[0]) < Z * error + 1e-6
        for p in (0.05, 0.5, 0.95):
            below = (sums.step_time <= law.quantile(p) * (1 + 1e-9)).sum()
            assert below > 0.999 * p * steps - Z * math.sqrt(p * (1 - p) * steps)
    bound = math.sqrt(math.log(2e6) / (2 * steps))
    for sums in (sampled, exact):
        t = np.sort(sums.step_time)
        middle = law.distribution(t)
        jumps = np.arange(1, steps + 1) / steps
        if np.unique(t).size == steps:
            assert np.abs(middle - jumps).max() < bound + 1 / steps


def test_threads_change_no_bit_of_the_exact_engine():
    asked = scenario({"count": 100, "jitter": JITTER}, steps=5_000, replicates=3)
    asked = asked.replace({"run.engine": "exact"})
    one, other = (mcsim.run(asked, threads=threads) for threads in (1, 3))
    assert np.array_equal(one.step_time_mean.values, other.step_time_mean.values)
    assert one.attrs["engine"] == "exact"


def test_a_longer_run_of_the_exact_engine_begins_with_the_shorter_one():
    asked = scenario({"count": 100, "jitter": JITTER}, steps=500, keep="steps")
    short = mcsim.run(asked.replace({"run.engine": "exact"}))
    long = mcsim.run(asked.replace({"run.engine": "exact", "run.steps": 3_000}))
    assert np.array_equal(short.step_time.values[0], long.step_time.values[0, :500])


def test_the_cost_of_the_network_is_expected_of_either_engine():
    """Eight rounds of delays of four messages, and four links that degrade, take longer."""
    names = "abcd"
    groups = [{"count": 10, "site": name, "name": name} for name in names]
    pairs = [list(pair) for pair in zip(names, names[1:] + "a", strict=True)]

    def seconds(engine, **more):
        link = [{"between": pair, "bandwidth": "1 GB/s", **more} for pair in pairs]
        parts = {"site": [{"name": name} for name in names], "link": link}
        given = scenario(*groups, workload={"gradient": 1}, steps=10**6, **parts)
        return cpu_seconds(lower(given), engine)

    for engine in ("sampled", "exact"):
        bare = seconds(engine)
        delayed = seconds(engine, delay={"law": "exponential", "mean": 1e-3})
        aged = seconds(engine, lane_failure={"every": "1 d", "duration": "1 h"})
        assert 0.5 < delayed - bare < 5
        assert 2 < aged - bare < 10


def test_auto_takes_the_cheaper_engine_and_says_why():
    few = mcsim.run(scenario({"count": 5_000, "jitter": JITTER}, steps=10))
    many = mcsim.run(scenario({"count": 5_000, "jitter": JITTER}, steps=300_000))
    assert (few.attrs["engine"], many.attrs["engine"]) == ("sampled", "exact")
    assert "times cheaper" in few.attrs["engine_reason"]
    assert "times cheaper" in many.attrs["engine_reason"]


ATOMS = {
    "law": "mixture",
    "parts": [
        {"weight": 0.99, "law": "constant", "value": 1},
        {"weight": 0.01, "law": "constant", "value": 1.1},
    ],
}


def test_auto_samples_what_the_exact_engine_refuses():
    asked = scenario({"count": 50, "jitter": {"step": ATOMS}}, steps=300_000)
    found = mcsim.run(asked)
    assert found.attrs["engine"] == "sampled"
    assert found.attrs["engine_reason"].startswith("the exact engine cannot do this: group-0: ")
    assert found.attrs["self_check"] == "not possible"
    assert found.attrs["self_check_reason"]


@pytest.mark.parametrize(
    "fleet",
    [
        {"count": 50, "jitter": {"step": ATOMS}},
        {
            "count": 50,
            "jitter": {"persistent": {"law": "normal", "mean": 0, "sd": 1}, "step": lognormal(0.1)},
        },
    ],
)
def test_exact_refuses_with_a_reason(fleet):
    asked = scenario(fleet).replace({"run.engine": "exact"})
    with pytest.raises(mcsim.ScenarioError, match=r'run\.engine: .*use "auto" or "sampled"'):
        mcsim.run(asked)
    with pytest.raises(mcsim.ScenarioError, match="cannot be tabulated"):
        mcsim.law(asked)


def test_a_cluster_that_turns_out_impossible_is_sampled(monkeypatch):
    def impossible(groups):
        raise NotExact("no law today")

    monkeypatch.setattr("mcsim.engine.exact.maximum_law", impossible)
    found = mcsim.run(scenario({"count": 50, "jitter": JITTER}, steps=300_000))
    assert found.attrs["engine"] == "sampled"
    assert found.attrs["engine_reason"] == "the exact engine cannot do this: no law today"


def test_the_law_of_one_replicate_is_that_of_its_cluster():
    asked = scenario({"count": 20, "jitter": JITTER}, steps=20_000, replicates=3)
    found = mcsim.run(asked)
    means = [mcsim.law(asked, replicate=one).mean() for one in range(3)]
    assert np.all(np.abs(found.step_time_mean - means) < Z * found.step_time_mean_stderr)
    assert mcsim.law(asked).mean() == pytest.approx(np.mean(means), rel=1e-9)
    for none_of_them in (3, -1, 1.5):
        with pytest.raises(ValueError, match=f"0 to 2, not {none_of_them}"):
            mcsim.law(asked, replicate=none_of_them)


def test_the_law_is_that_of_one_normal_maximum():
    law = mcsim.law(
        scenario({"count": 1000, "jitter": {"step": {"law": "normal", "mean": 10, "sd": 1}}})
    )
    t = np.linspace(12, 15, 7)
    assert np.allclose(law.distribution(t), norm.cdf(t - 10) ** 1000, atol=1e-7)
    density = 1000 * norm.cdf(t - 10) ** 999 * norm.pdf(t - 10)
    assert np.allclose(law.density(t), density, rtol=1e-3, atol=1e-6)


def test_the_tables_do_not_grow_with_the_devices():
    sizes = []
    for count in (1_000, 100_000):
        plan = lower(scenario({"count": count, "jitter": JITTER}))
        sizes.append(site_laws(plan, 0)[0].time.size)
    assert sizes[1] <= 4 * sizes[0]
