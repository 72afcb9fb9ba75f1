"""What all devices of a site share: the daily swing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from oracle import scenario

import mcsim
from mcsim.engine import simulate
from mcsim.engine.exact import ExactEngine
from mcsim.engine.sampled import SampledEngine
from mcsim.model import lower

LOGNORMAL = {"law": "lognormal", "mean": 1, "cv": 0.05}
JITTER = {"step": LOGNORMAL, "stall": {"law": "exponential", "mean": 0.05}}
DAILY = {"amplitude": 0.125, "peak": "15 h"}


def swinging(daily, *fleet, jitter=JITTER, **parts):
    return scenario(*(fleet or [{"count": 50}]), jitter=jitter | {"daily": daily}, **parts)


def cosine(daily, steps, step_time=1.0, period=86_400.0):
    return 1 + daily["amplitude"] * np.cos(2 * np.pi * (steps * step_time - 15 * 3600) / period)


@pytest.mark.parametrize("engine", [SampledEngine, ExactEngine])
@pytest.mark.parametrize("first", [0, 4_000_000_000])
def test_every_time_of_a_step_swings_with_the_time_of_day(engine, first):
    two = [{"count": 300, "compute": 2.0}, {"count": 200}]
    plan = lower(swinging(DAILY, *two))
    found = engine(plan).draw(0).sample(first, 2_000)
    calm = engine(plan.undisturbed()).draw(0).sample(first, 2_000)
    # The clock is that of undisturbed steps, of the slowest group.
    factor = cosine(DAILY, first + np.arange(2_000.0), step_time=2.0)
    assert np.allclose(found.ready / calm.ready, factor[:, None], rtol=1e-8 if first else 1e-12)
    assert np.allclose(found.busy / calm.busy, factor[:, None], rtol=1e-8 if first else 1e-12)
    assert np.array_equal(found.culprit, calm.culprit)
    whole = engine(plan).draw(0).sample(first + 1_234, 5)
    assert np.array_equal(whole.time, found.time[1_234:1_239])


def test_the_mean_over_whole_days_is_that_without_a_swing():
    days = {"amplitude": 0.3, "period": "600 s"}
    fleet = {"count": 100}
    (swung,) = simulate(lower(swinging(days, fleet, steps=6_000))).replicates
    (calm,) = simulate(lower(scenario(fleet, jitter=JITTER, steps=6_000))).replicates
    spread = math.sqrt(calm.moments.variance()[0])
    # Each step is weighted by its factor: the difference has the cosine's variance.
    error = 0.3 * math.sqrt(0.5) * spread / math.sqrt(6_000)
    assert abs(swung.moments.mean[0] - calm.moments.mean[0]) < 5 * error
    assert swung.longest > 1.25 * calm.moments.mean[0]


def test_a_constant_fleet_takes_the_cosine_itself():
    found = mcsim.run(swinging(DAILY, jitter={}, steps=1_000, keep="steps"))
    expected = cosine(DAILY, np.arange(1_000.0))
    assert np.allclose(found.step_time[0], expected, rtol=1e-12)


def test_runs_say_what_of_the_swing_they_know():
    asked = swinging(DAILY, jitter={"step": LOGNORMAL}, steps=2_000)
    for engine in ("exact", "sampled"):
        found = mcsim.run(asked.replace({"run.engine": engine}))
        assert found.attrs["self_check"] == "passed"
    assert lower(asked).steps_remember
    with pytest.raises(mcsim.ScenarioError, match="swing daily"):
        mcsim.law(asked)
    with pytest.raises(mcsim.ScenarioError, match="daily swing"):
        mcsim.run(asked.replace({"run.keep": "devices"}))


def test_a_published_swing_is_what_its_figures_say():
    by_name = lower(swinging({"catalogue": "llama-3"}))
    said = {"amplitude": 0.0075, "peak": "15 h"}
    assert by_name == lower(swinging(said))
    later = swinging({"catalogue": "llama-3", "peak": "3 h"})
    assert lower(later) == lower(swinging(said | {"peak": "3 h"}))
    with pytest.raises(mcsim.ScenarioError, match='unknown disturbance "slow-host"'):
        swinging({"catalogue": "slow-host"})


@pytest.mark.parametrize(
    ("daily", "message"),
    [
        ({}, "amplitude"),
        ({"amplitude": 1}, r"jitter.daily.amplitude: 1 must be below 1"),
        ({"amplitude": -0.1}, "at least 0"),
        ({"amplitude": 0.1, "period": "0 h"}, r"jitter.daily.period"),
        ({"amplitude": 0.1, "peak": "-1 h"}, r"jitter.daily.peak"),
        ({"amplitude": 0.1, "peak": "3 km"}, r"jitter.daily.peak"),
    ],
)
def test_impossible_swings_are_refused(daily, message):
    with pytest.raises(mcsim.ScenarioError, match=message):
        swinging(daily)
