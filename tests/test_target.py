"""Runs that go on until an error is reached, and intervals that hold what they say."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from oracle import scenario

import mcsim
from mcsim.engine import SelfCheck, engine_of, simulate
from mcsim.model import lower
from mcsim.model.choice import MOST_A_BLOCK as BLOCK
from mcsim.model.choice import Choice
from mcsim.results import Cost, Part, label
from mcsim.results.estimates import over_replicates
from mcsim.results.target import next_plan


def lognormal(cv):
    return {"law": "lognormal", "mean": 1, "cv": cv}


STEPS_VARY = {"count": 30, "jitter": {"step": lognormal(0.1)}}
CLUSTERS_VARY = {"count": 30, "jitter": {"persistent": lognormal(0.1), "step": lognormal(0.01)}}


def run_to(error, *fleet, **keys):
    asked = scenario(*fleet, **{k: v for k, v in keys.items() if k in ("steps", "replicates")})
    more = {f"run.{k}": v for k, v in keys.items() if k not in ("steps", "replicates")}
    return mcsim.run(asked.replace({"run.target_relative_error": error, **more}))


def test_steps_are_added_until_the_error_is_reached():
    found = run_to(0.0005, STEPS_VARY, steps=100)
    error = float(found.overall_step_time_mean_stderr / found.overall_step_time_mean)
    assert 0.5 * 0.0005 < error <= 0.0005
    assert found.attrs["steps_done"] > 1_000
    assert found.attrs["replicates_done"] == 1
    assert found.attrs["target_reached"] == "yes"
    assert found.attrs["target_relative_error_reached"] == pytest.approx(error)


def test_clusters_are_added_where_the_lottery_dominates():
    found = run_to(0.01, CLUSTERS_VARY, steps=100, replicates=4)
    assert found.attrs["replicates_done"] > 4
    assert found.attrs["steps_done"] == 100
    assert found.sizes["replicate"] == found.attrs["replicates_done"]
    assert found.attrs["target_reached"] == "yes"
    assert float(found.overall_step_time_mean_stderr / found.overall_step_time_mean) <= 0.01


def test_no_more_is_done_than_allowed_and_it_is_said():
    found = run_to(1e-5, STEPS_VARY, steps=100, max_steps=2_500)
    assert found.attrs["steps_done"] == 2_500
    assert found.attrs["target_reached"] == "no"
    assert found.attrs["target_relative_error_reached"] > 1e-5
    assert "NOT reached" in mcsim.results.summarise(found)


def test_steps_that_cannot_help_are_not_run():
    # The lottery of four clusters alone is more than the target.
    found = run_to(1e-3, CLUSTERS_VARY, steps=100, replicates=4, max_replicates=4)
    assert found.attrs["target_reached"] == "no"
    assert found.attrs["steps_done"] == 100


def test_two_clusters_are_too_few_to_stop_by():
    found = run_to(0.5, CLUSTERS_VARY, steps=10, replicates=2)
    assert found.attrs["replicates_done"] == 8
    assert found.attrs["steps_done"] == 10
    assert found.attrs["target_reached"] == "yes"


def test_three_steps_are_too_few_to_stop_by():
    assert run_to(0.9, STEPS_VARY, steps=3).attrs["steps_done"] == 100


def test_a_longer_run_is_done_by_the_engine_that_is_cheaper_for_it():
    fleet = {"count": 20_000, "jitter": {"step": lognormal(0.1)}}
    found = run_to(2e-5, fleet, steps=50)
    assert found.attrs["target_reached"] == "yes"
    assert found.attrs["engine"] == "exact"
    assert mcsim.run(scenario(fleet, steps=50)).attrs["engine"] == "sampled"
    plain = mcsim.run(scenario(fleet, steps=int(found.attrs["steps_done"])))
    assert float(plain.overall_step_time_mean) == float(found.overall_step_time_mean)


def test_single_steps_of_many_clusters_have_an_error():
    found = mcsim.run(scenario(CLUSTERS_VARY, steps=1, replicates=50))
    spread = float(found.step_time_mean.std("replicate", ddof=1))
    assert float(found.overall_step_time_mean_stderr) == pytest.approx(spread / math.sqrt(50))
    assert np.isnan(found.overall_step_time_std_stderr)
    assert np.isnan(found.overall_step_time_quantile_stderr).all()
    assert np.isnan(mcsim.run(scenario(STEPS_VARY, steps=1)).overall_step_time_mean_stderr)


def test_a_lottery_without_a_variance_has_no_error():
    pareto = {"law": "pareto", "scale": 1, "alpha": 1.5}
    fleet = {"count": 30, "jitter": {"persistent": pareto, "step": lognormal(0.1)}}
    found = mcsim.run(scenario(fleet, steps=50, replicates=5))
    assert np.isnan(found.overall_step_time_mean_stderr)
    assert np.isfinite(found.overall_wait_fraction_stderr).all()
    assert np.isfinite(found.step_time_mean_stderr).all()
    one = mcsim.run(scenario(fleet, steps=50))
    assert np.isfinite(one.overall_step_time_mean_stderr)
    for statistic in ("step_time_mean", "step_time_p50"):
        with pytest.raises(mcsim.ScenarioError, match="take one cluster"):
            run_to(0.01, fleet, replicates=2, target_statistic=statistic)


def test_a_target_that_is_reached_at_once_adds_nothing():
    found = run_to(0.5, STEPS_VARY, steps=100)
    assert found.attrs["steps_done"] == 100
    assert found.attrs["target_reached"] == "yes"


@pytest.mark.parametrize("statistic", ["step_time_p50", "step_time_p99", "step_time_p999"])
def test_quantiles_have_targets_too(statistic):
    found = run_to(0.001, STEPS_VARY, steps=100, target_statistic=statistic)
    p = {"step_time_p50": 0.5, "step_time_p99": 0.99, "step_time_p999": 0.999}[statistic]
    quantile = found.overall_step_time_quantile.sel(quantile=p)
    error = found.overall_step_time_quantile_stderr.sel(quantile=p)
    assert float(error / quantile) <= 0.001
    assert found.attrs["target_reached"] == "yes"


def test_the_time_of_communication_may_be_nothing():
    found = run_to(0.01, STEPS_VARY, target_statistic="communication_time_mean")
    assert found.attrs["target_reached"] == "yes"


def test_a_run_that_goes_on_is_the_run_that_was_longer_from_the_start():
    asked = scenario(CLUSTERS_VARY, steps=BLOCK + 100, replicates=2, keep="steps")
    plan = lower(asked)
    for larger in ({"steps": 3 * BLOCK + 7}, {"replicates": 3}, {"steps": 5_000, "replicates": 4}):
        for engine in ("sampled", "exact"):
            longer = dataclasses.replace(plan, **larger)
            earlier = simulate(plan, engine=engine_of(engine, plan))
            one = simulate(longer, engine=engine_of(engine, longer), earlier=earlier)
            other = simulate(longer, engine=engine_of(engine, longer))
            for a, b in zip(one.replicates, other.replicates, strict=True):
                assert np.array_equal(a.step_time, b.step_time)
                for values in ("mean", "second", "third", "fourth"):
                    assert np.array_equal(getattr(a.moments, values), getattr(b.moments, values))
                assert np.array_equal(a.histogram.counts, b.histogram.counts)
                assert np.array_equal(a.culprits, b.culprits)


def test_what_was_sampled_is_not_sampled_again():
    asked = scenario(STEPS_VARY, steps=4 * BLOCK)
    plan = lower(asked)
    longer = dataclasses.replace(plan, steps=5 * BLOCK)
    sampled = []
    simulate(
        longer, earlier=simulate(plan), progress=lambda done, steps: sampled.append((done, steps))
    )
    assert sampled == [(5 * BLOCK, 5 * BLOCK)]


def test_a_target_without_a_standard_error_is_refused():
    heavy = {"count": 30, "jitter": {"step": {"law": "pareto", "scale": 1, "alpha": 1.5}}}
    with pytest.raises(mcsim.ScenarioError, match=r"target_relative_error: .*infinite variance"):
        run_to(0.01, heavy)
    found = run_to(0.01, heavy, target_statistic="step_time_p50")
    assert found.attrs["target_reached"] == "yes"
    assert np.isnan(found.overall_step_time_mean_stderr)
    assert all(np.isnan(end) for end in mcsim.confidence_interval(found, "step_time_mean"))


def test_a_target_over_clusters_without_a_variance_is_refused_from_one_cluster_too():
    fleet = {"count": 30, "jitter": {"persistent": {"law": "pareto", "scale": 1, "alpha": 1.5}}}
    with pytest.raises(mcsim.ScenarioError, match="take one cluster"):
        run_to(0.3, fleet, max_replicates=100)


def test_a_quantile_that_the_cap_allows_no_error_of_is_refused():
    with pytest.raises(mcsim.ScenarioError, match="at least 10,000"):
        run_to(0.1, STEPS_VARY, target_statistic="step_time_p999", max_steps=9_999)


def test_a_quantile_is_no_better_known_than_its_bin():
    narrow = {"count": 1000, "jitter": {"step": lognormal(1e-4)}}
    found = mcsim.run(scenario(narrow, steps=5_000))
    law = mcsim.law(scenario(narrow))
    for p in (0.5, 0.99):
        quantile = float(found.overall_step_time_quantile.sel(quantile=p))
        error = float(found.overall_step_time_quantile_stderr.sel(quantile=p))
        assert abs(quantile - float(law.quantile(p))) < 3 * error


def test_intervals_of_rare_shares_are_no_points():
    fleet = [{"count": 10, "jitter": {"step": lognormal(0.1)}}, {"count": 1, "compute": 0.7}]
    fleet[1]["jitter"] = {"step": lognormal(0.1)}
    held = 0
    truth = float(mcsim.run(scenario(*fleet, steps=400_000)).overall_straggler_share[1])
    assert 0.0 < truth < 0.01
    for seed in range(100):
        found = mcsim.run(scenario(*fleet, steps=300, seed=seed))
        low, high = mcsim.confidence_interval(found, "straggler_share")
        held += float(low[1]) <= truth <= float(high[1])
    assert held >= 90


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0, float("nan")])
def test_an_interval_has_a_level(level):
    found = mcsim.run(scenario(STEPS_VARY, steps=10))
    with pytest.raises(ValueError, match="between 0 and 1"):
        mcsim.confidence_interval(found, "step_time_mean", level)


def test_next_plan_of_a_run_without_target_is_none():
    assert next_plan(simulate(lower(scenario(STEPS_VARY, steps=10)))) is None


def test_the_error_over_clusters_is_that_of_their_mean():
    values = np.array([[1.0, 5.0], [2.0, 5.0], [6.0, 5.0]])
    mean, error = over_replicates(values, np.full((3, 2), 0.1))
    assert mean.tolist() == [3.0, 5.0]
    assert error == pytest.approx([math.sqrt(7 / 3), 0.0])
    mean, error = over_replicates(values[:1], np.full((1, 2), 0.1))
    assert (mean.tolist(), error.tolist()) == ([1.0, 5.0], [0.1, 0.1])
    assert np.isnan(over_replicates(values, np.full((3, 2), np.nan))[1]).all()


@pytest.mark.parametrize(
    ("fleet", "replicates"), [(STEPS_VARY, 1), (CLUSTERS_VARY, 5), (CLUSTERS_VARY, 20)]
)
def test_intervals_hold_the_truth_as_often_as_they_say(fleet, replicates):
    runs = 200

    def unchecked(seed, steps, replicates):
        asked = scenario(fleet, seed=seed, steps=steps, replicates=replicates)
        none = SelfCheck(0, math.nan, math.nan, "none")
        return label(Part(asked, simulate(lower(asked)), Choice("sampled", ""), Cost(), none))

    def values(of):
        return np.append(of("step_time_quantile").sel(quantile=[0.5, 0.9]), of("step_time_mean"))

    many = unchecked(10**9, 300_000, 1) if replicates == 1 else unchecked(10**9, 300, 2_000)
    truth = values(lambda name: many[f"overall_{name}"])
    held = np.zeros(3, int)
    for seed in range(runs):
        found = unchecked(seed, 300, replicates)
        low, high = (
            values(lambda name, end=end: mcsim.confidence_interval(found, name)[end])  # noqa: B023
            for end in (0, 1)
        )
        held += (low <= truth) & (truth <= high)
    # 95 % of 200: at most 172 with a probability of 1e-6, and all of them with one of 4e-5.
    assert np.all(held > 172)
    assert np.all(held < 200)
