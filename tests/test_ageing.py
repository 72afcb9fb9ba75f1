"""Links by their age: what it fills in, what wins over it, what it costs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from oracle import scenario

import mcsim
from mcsim import catalogue
from mcsim.model import lower
from mcsim.model.network import goodput
from mcsim.model.wear import aged, states_of
from mcsim.scenario.network import Link, Spells

YEAR = 365.25 * 86400


def campuses(**link):
    """Two campuses ten miles apart, and 100 GB to exchange."""
    link = {"between": ["a", "b"], "bandwidth": "800 Gb/s", "distance": "10 mi", **link}
    return scenario(
        *({"count": 8, "site": name, "name": name} for name in "ab"),
        workload={"gradient": "100 GB"},
        site=[{"name": "a"}, {"name": "b"}],
        link=[link],
        steps=2_000,
    )


def link(**keys):
    return Link(between=("a", "b"), bandwidth=100e9, distance=16_093.44, **keys)


def test_without_an_age_nothing_wears():
    assert aged(link()) == link()
    (plan,) = lower(campuses()).barrier.links
    assert (plan.lane_down, plan.slow) == (None, None)
    assert lower(campuses()).barrier.delays == ()
    assert goodput(link()) == goodput(link(loss=0.0)) == 100e9


@pytest.mark.parametrize("step", catalogue.ageing().values(), ids=lambda step: step.name)
def test_an_age_gives_what_the_table_says(step):
    found = aged(link(age=step.below - 1.0))
    assert found.loss == step.loss
    assert found.flap == Spells(*step.flap)
    assert found.lane_failure == Spells(*step.lane_failure)
    assert states_of(found, 1.0).lanes == 8
    assert found.slow is None


def test_what_is_given_wins_over_the_age():
    mine = Spells(3600.0, 1.0)
    old = link(age=15 * YEAR)
    for key, value in (("loss", 0.0), ("loss", 1e-9), ("flap", mine), ("lane_failure", mine)):
        one = link(age=15 * YEAR, **{key: value})
        assert getattr(aged(one), key) == value
        others = {"loss", "flap", "lane_failure"} - {key}
        assert all(getattr(aged(one), other) == getattr(aged(old), other) for other in others)


def test_an_aged_scenario_differs_from_a_new_one_by_one_key():
    new = campuses(age="1 year")
    old = new.replace({"link[0].age": "15 years"})
    assert old == campuses(age="15 years")
    one, other = new.to_dict(), old.to_dict()
    assert one["link"][0].pop("age") == YEAR
    assert other["link"][0].pop("age") == 15 * YEAR
    assert one == other
    # What the age gives is no key of the scenario, so that another age gives something else.
    assert not {"loss", "flap", "lane_failure"} & set(one["link"][0])


def test_older_links_cost_more():
    ages = ("0 s", "3 years", "8 years", "15 years")
    plans = [lower(campuses(age=age)) for age in ages]
    across = [plan.barrier.across for plan in plans]
    waits = [plan.barrier.delays[0].messages[0].law.expectation() for plan in plans]
    down = [plan.barrier.links[0].lane_down.share for plan in plans]
    for costs in (across, waits, down):
        assert all(a < b for a, b in itertools.pairwise(costs))
    # Go-back-n sends again what is in flight over ten miles, 2 x 78.8 us x 100 GB/s: 3,848 packets.
    assert across[3] / lower(campuses()).barrier.across == pytest.approx(1 + 3e-4 * 3_848, rel=1e-3)
    found = [mcsim.run(campuses(age=age)).step_time_mean.item() for age in ages]
    assert np.all(np.diff(found) > 0)


def test_age_is_in_the_file_as_it_was_given():
    asked = campuses(age="10 years")
    assert "age = 315576000" in asked.to_toml()
    assert mcsim.Scenario.from_dict(asked.to_dict()) == asked


def test_a_single_lane_ages_without_failures_of_lanes():
    plan = lower(campuses(age="15 years", lanes=1))
    assert not plan.steps_remember
    assert mcsim.law(campuses(age="15 years", lanes=1)).mean() > 1
