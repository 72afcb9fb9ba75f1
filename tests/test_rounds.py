"""Local SGD: what varies from step to step is averaged over a round, what is persistent is not."""

from __future__ import annotations

import numpy as np
import pytest
from oracle import scenario
from scipy.special import ndtri

import mcsim
from mcsim.laws import (
    Constant,
    Exponential,
    Gamma,
    LogNormal,
    Mixture,
    Normal,
    Uniform,
    WeightedLaw,
)
from mcsim.model.arrival import NotExact
from mcsim.model.estimate import explain
from mcsim.model.hazard import has_atoms
from mcsim.model.rounds import mean_of
from mcsim.results import summarise

N, H, SIGMA = 1_000, 16, 0.05
Z = ndtri(((np.arange(1_000_000) + 0.5) / 1_000_000) ** (1 / N)).mean()
"""The mean of the largest of N standard normals."""


def local(*fleet, inner=H, policy="local-sgd", **run):
    return scenario(*fleet, **run).replace({"sync.policy": policy, "sync.inner_steps": inner})


def jittery(**jitter):
    return {"count": N, "jitter": jitter}


GAUSSIAN = {"law": "normal", "mean": 1, "sd": SIGMA}


@pytest.mark.parametrize("engine", ["sampled", "exact"])
def test_gaussian_jitter_shrinks_by_the_root_of_the_inner_steps(engine):
    one = local(jittery(step=GAUSSIAN), steps=20_000).replace({"run.engine": engine})
    found = mcsim.run(one)
    expected = H + np.sqrt(H) * SIGMA * Z
    error = float(found.overall_step_time_mean_stderr)
    assert abs(float(found.overall_step_time_mean) - expected) < 5 * error
    assert error < 1e-4 * expected
    each = mcsim.run(scenario(jittery(step=GAUSSIAN), steps=20_000))
    error = float(each.overall_step_time_mean_stderr)
    assert abs(float(each.overall_step_time_mean) - (1 + SIGMA * Z)) < 5 * error
    assert float(found.ideal_step_time) == H
    assert found.attrs["inner_steps"] == H


def test_persistent_slowness_is_not_reduced_at_all():
    fleet = jittery(persistent={"law": "lognormal", "mean": 1, "cv": 0.05})
    every, some = (
        mcsim.run(one)
        for one in (scenario(fleet, steps=5, replicates=4), local(fleet, steps=5, replicates=4))
    )
    np.testing.assert_allclose(some.step_time_mean, H * every.step_time_mean, rtol=1e-14)
    np.testing.assert_allclose(some.efficiency, every.efficiency, rtol=1e-14)


@pytest.mark.parametrize("policy", ["local-sgd", "diloco"])
def test_one_inner_step_is_bsp_bit_for_bit(policy):
    fleet = jittery(
        persistent={"law": "lognormal", "mean": 1, "cv": 0.05},
        step={"law": "lognormal", "mean": 1, "cv": 0.05},
        stall={"law": "exponential", "mean": 0.01},
    )
    one = scenario(fleet, steps=500).replace({"workload.overlap": 0.5})
    other = local(fleet, inner=1, policy=policy, steps=500).replace({"workload.overlap": 0.5})
    assert mcsim.run(one).equals(mcsim.run(other))


@pytest.mark.parametrize(
    "law",
    [
        LogNormal(mean=1.0, cv=0.3),
        Uniform(0.5, 2.0),
        Exponential(1.0),
        Gamma(1.0, 0.7),
        Normal(1.0, 0.2),
        Mixture((WeightedLaw(0.9, LogNormal(mean=1, cv=0.1)), WeightedLaw(0.1, Uniform(1.0, 3.0)))),
    ],
    ids=lambda law: type(law).name,
)
def test_the_mean_of_draws_has_the_law_of_draws(law):
    rng = np.random.default_rng(3)
    drawn = law.quantile(rng.random((200_000, 7))).mean(axis=1)
    found = mean_of(law, 7)
    assert found.expectation() == pytest.approx(law.expectation(), rel=1e-12)
    assert found.variance() == pytest.approx(law.variance() / 7, rel=1e-12)
    # The distance of Kolmogorov and Smirnov; 2.5 / sqrt(n) has a chance of 7e-6.
    place, n = np.sort(found.distribution(drawn)), drawn.size
    assert np.abs(place - (np.arange(n) + 0.5) / n).max() < 2.5 / np.sqrt(n)
    s = np.array([1e-12, 1e-3, 0.5, 0.999])
    np.testing.assert_allclose(found.survival(found.quantile(s)), s, rtol=1e-3)


@pytest.mark.parametrize("number", [2, 7, 64])
def test_sums_of_uniforms_have_no_atoms(number):
    for low, high in ((0.5, 1.5), (0.9, 1.1), (0.0, 1.0)):
        law = mean_of(Uniform(low, high), number)
        assert not has_atoms(law)
    uniform = {"law": "uniform", "low": 0.5, "high": 1.5}
    one = local(jittery(step=uniform), inner=number, steps=2_000)
    exact, sampled = (mcsim.run(one.replace({"run.engine": e})) for e in ("exact", "sampled"))
    assert exact.attrs["self_check"] == sampled.attrs["self_check"] == "passed"


def test_stalls_of_a_round_add_up():
    fleet = {"count": 1, "jitter": {"stall": {"law": "exponential", "mean": 0.5}}}
    found = mcsim.run(local(fleet, steps=50_000))
    error = float(found.overall_step_time_mean_stderr)
    assert abs(float(found.overall_step_time_mean) - H * 1.5) < 5 * error
    assert found.step_time_std.item() == pytest.approx(0.5 * np.sqrt(H), rel=0.02)


def test_check_and_summary_say_what_a_step_is():
    one = local(jittery(step=GAUSSIAN), steps=10)
    assert "local-sgd       a step, here, is a round of 16 inner steps" in explain(one)
    assert "10 rounds of 16 steps of each" in summarise(mcsim.run(one))


def test_the_collective_is_paid_once_a_round():
    network = {"workload.gradient": "1 GB", "network.site.bandwidth": "50 GB/s"}
    fleet = {"count": 64, "devices_per_node": 1}
    every = mcsim.run(scenario(fleet, steps=2).replace(network))
    some = mcsim.run(local(fleet, steps=2).replace(network))
    taken = every.communication_time_mean.item()
    assert some.communication_time_mean.item() == pytest.approx(taken, rel=1e-12)
    assert taken > 0.01


@pytest.mark.parametrize(
    ("changes", "path", "said"),
    [
        ({"sync.policy": "bsp"}, "sync.inner_steps", "changes nothing"),
        ({"sync.inner_steps": None}, "sync.inner_steps", "is missing"),
        ({"fleet[0].jitter.correlation": 0.5}, "fleet[0].jitter.correlation", "draw anew"),
        ({"jitter.correlation": 0.5}, " jitter.correlation", "draw anew"),
        ({"fleet[0].jitter.step": {"law": "mixture", "parts": [
            {"weight": 0.5, "law": "constant", "value": 1},
            {"weight": 0.5, "law": "lognormal", "mean": 1, "cv": 0.1}]}},
         "fleet[0].jitter.step", "16 inner steps have no law"),
        ({"jitter.shock": {"every": "1 h", "factor": {"law": "constant", "value": 2}}},
         "sync.inner_steps", "slow states"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(changes, path, said):
    fleet = jittery(step={"law": "lognormal", "mean": 1, "cv": 0.1})
    with pytest.raises(mcsim.ScenarioError) as refused:
        mcsim.run(local(fleet, steps=2).replace(changes))
    assert path in str(refused.value)
    assert said in str(refused.value)


def test_atoms_have_no_mean_that_can_be_tabulated():
    law = Mixture((WeightedLaw(0.5, Constant(1.0)), WeightedLaw(0.5, LogNormal(mean=1, cv=0.1))))
    with pytest.raises(NotExact, match="single values"):
        mean_of(law, 3)
