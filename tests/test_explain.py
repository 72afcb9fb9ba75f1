"""What each cause costs: the values add up, and are those that can be worked out by hand."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time

import numpy as np
import pytest
from click.testing import CliRunner
from oracle import scenario
from scipy.special import ndtri

import mcsim
from mcsim.cli import main
from mcsim.model.causes import CAUSES
from mcsim.results import summarise
from mcsim.study.explain import shapley

LOGNORMAL = {"law": "lognormal", "mean": 1, "cv": 0.05}


def constant(value):
    return {"law": "constant", "value": value}


def cost(dataset, form="shapley"):
    values = dataset[f"overall_{form}_time"].to_numpy()
    return dict(zip(dataset.cause.to_numpy(), values, strict=True))


def test_two_causes_of_one_device_are_shared_as_worked_out():
    one = scenario(
        {"count": 1, "jitter": {"persistent": constant(1.2), "step": constant(1.5)}}, steps=3
    )
    found = mcsim.explain(one)
    assert float(found.ideal_step_time) == 1.0
    assert float(found.overall_step_time_mean) == pytest.approx(1.8, rel=1e-12)
    assert cost(found)["specimens"] == pytest.approx(0.25, rel=1e-12)
    assert cost(found)["jitter"] == pytest.approx(0.55, rel=1e-12)
    assert cost(found, "alone")["specimens"] == pytest.approx(0.2, rel=1e-12)
    assert cost(found, "removed")["specimens"] == pytest.approx(0.3, rel=1e-12)


def three_sites():
    links = [
        {
            "between": list(pair),
            "bandwidth": "100 GB/s",
            "distance": "16 km",
            "latency": "5 us",
            "age": "10 years",
            "connections": 8,
        }
        for pair in itertools.combinations("abc", 2)
    ]
    jitter = {
        "persistent": LOGNORMAL,
        "step": LOGNORMAL,
        "stall": {"law": "exponential", "mean": 0.01},
    }
    fleet = [
        {
            "name": name,
            "device": "custom",
            "compute": compute,
            "count": 40,
            "site": name,
            "jitter": jitter,
        }
        for name, compute in (("a", 1.0), ("b", 0.8), ("c", 0.9))
    ]
    return mcsim.Scenario.from_dict(
        {
            "name": "three",
            "run": {"steps": 200, "replicates": 3},
            "workload": {"gradient": "10 GB", "overlap": 0.1},
            "site": [{"name": name} for name in "abc"],
            "link": links,
            "network": {
                "node": {"bandwidth": "450 GB/s", "latency": "1 us"},
                "site": {"bandwidth": "50 GB/s", "latency": "5 us"},
            },
            "fleet": fleet,
        }
    )


@pytest.fixture(scope="module")
def explained():
    return mcsim.explain(three_sites())


def test_the_parts_add_up_to_what_is_lost(explained):
    whole = explained.step_time_mean - explained.ideal_step_time
    np.testing.assert_allclose(explained.shapley_time.sum("cause"), whole, rtol=1e-9)
    lost = float(explained.overall_step_time_mean - explained.ideal_step_time)
    assert float(explained.overall_shapley_time.sum()) == pytest.approx(lost, rel=1e-9)
    run = mcsim.run(three_sites().replace({"run.engine": "sampled"}))
    np.testing.assert_allclose(explained.step_time_mean, run.step_time_mean, rtol=1e-12)


def test_what_is_not_there_costs_nothing(explained):
    found = cost(explained)
    absent = ["places", "slow-states", "pipeline"]
    assert [cause for cause in CAUSES if found[cause] == 0] == absent
    assert all(value > 0 for cause, value in found.items() if cause not in absent)
    assert [cost(explained, "alone")[cause] for cause in absent] == [0, 0, 0]


def test_places_are_not_specimens():
    jitter = {"node": constant(1.1), "rack": constant(1.2), "site": constant(1.25)}
    found = cost(mcsim.explain(scenario({"count": 4, "jitter": jitter}, steps=2)))
    assert found["places"] == pytest.approx(1.1 * 1.2 * 1.25 - 1, rel=1e-12)
    assert found["specimens"] == 0


def test_equal_causes_cost_the_same():
    value = {
        frozenset(some): np.float64(len(some & {"a", "b"}) ** 2 + 3 * ("c" in some))
        for size in range(4)
        for some in map(set, itertools.combinations("abc", size))
    }
    found = shapley("abc", value)
    assert found["a"] == found["b"] == pytest.approx(2.0)
    assert found["c"] == pytest.approx(3.0)


def test_links_are_taken_apart():
    """Two sites, constants: the ring's two rounds of half the volume, after what light takes."""
    one = three_sites().replace({"run.steps": 2, "run.replicates": 1})
    table = one.to_dict()
    table["site"], table["link"] = table["site"][:2], table["link"][:1]
    table["fleet"] = [
        {**group, "compute": 1.0, "jitter": {"step": constant(1.0)}} for group in table["fleet"][:2]
    ]
    del table["link"][0]["age"], table["link"][0]["connections"], table["network"]
    table["workload"]["overlap"] = 0.0
    found = mcsim.explain(mcsim.Scenario.from_dict(table))
    light = 16_000 * 1.4682 / 299_792_458
    assert cost(found)["bandwidth"] == pytest.approx(10e9 / 100e9, rel=1e-6)
    assert cost(found)["distance"] == pytest.approx(2 * (5e-6 + light), rel=1e-3)
    assert cost(found)["loss"] == cost(found)["wear"] == 0


def test_what_jitter_costs_is_the_mean_maximum():
    sigma = 0.02
    one = scenario(
        {"count": 500, "jitter": {"step": {"law": "lognormal", "median": 1, "sigma": sigma}}},
        steps=4_000,
    )
    found = mcsim.explain(one)
    u = (np.arange(200_000) + 0.5) / 200_000
    expected = np.exp(sigma * ndtri(u ** (1 / 500))).mean() - 1
    error = float(found.overall_shapley_time_stderr.sel(cause="jitter"))
    assert abs(cost(found)["jitter"] - expected) < 5 * error
    assert 0 < error < 0.01 * expected
    low, high = mcsim.confidence_interval(found, "shapley_time")
    assert (low <= found.overall_shapley_time).all()
    assert (high >= found.overall_shapley_time).all()


def test_the_command_prints_and_writes_it(tmp_path):
    file, output = tmp_path / "three.toml", tmp_path / "explained.nc"
    file.write_text(three_sites().replace({"run.steps": 20}).to_toml())
    done = CliRunner().invoke(main, ["explain", str(file), "-o", str(output)])
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0] == "three: 120 devices; 20 steps of each of 3 cluster(s), seed 0"
    assert lines[4].startswith("a step without any of it")
    assert any(line.startswith("bandwidth: ") for line in lines)
    with mcsim.open(output) as dataset:
        assert list(dataset.cause.to_numpy()) == list(CAUSES)
        assert dataset.attrs["Conventions"] == "CF-1.11"
    for picture in ("x.png", "x.svg"):
        drawn = CliRunner().invoke(main, ["plot", str(output), "-o", str(tmp_path / picture)])
        assert drawn.exit_code == 0, drawn.output
        assert (tmp_path / picture).stat().st_size > 5_000
    shown = CliRunner().invoke(main, ["show", str(output)])
    assert shown.stdout == done.stdout
    assert mcsim.load(output) == mcsim.load(file)
    less = ["--set", "run.steps=1"]
    again = CliRunner().invoke(main, ["explain", str(file), "-o", str(output), *less])
    assert again.exit_code == 0
    mcsim.write(mcsim.run(mcsim.load(file)), tmp_path / "run.nc")
    refused = CliRunner().invoke(main, ["explain", str(file), "-o", str(tmp_path / "run.nc")])
    assert refused.exit_code == 2
    assert "is the result of a run; it is not replaced" in refused.stderr
    assert mcsim.load(output).run.steps == 1


def test_the_clock_is_that_of_the_whole_scenario():
    """Shocks befall as many steps without the network, which makes steps 20 s long, as with it."""
    table = three_sites().to_dict()
    table["site"], table["fleet"] = table["site"][:1], table["fleet"][:1]
    del table["link"]
    table["fleet"][0] |= {"count": 8, "compute": 1.0}
    del table["fleet"][0]["jitter"]
    table["network"]["site"]["bandwidth"] = 1e9
    table["workload"]["overlap"] = 0.0
    table["run"] = {"steps": 20_000, "replicates": 2}
    table["jitter"] = {"shock": {"every": 1000.0, "factor": constant(3.0)}}
    found = mcsim.explain(mcsim.Scenario.from_dict(table))
    clock = 1.0 + cost(found)["inside"]
    assert clock > 15
    expected = 2 * (1 - np.exp(-8 * clock / 1000))
    for form in ("alone", "removed"):
        error = float(found[f"overall_{form}_time_stderr"].sel(cause="slow-states"))
        assert abs(cost(found, form)["slow-states"] - expected) < 6 * error


@pytest.mark.parametrize("steps", [1, 11, 25])
def test_all_steps_count_alike(steps):
    one = three_sites().replace({"run.steps": steps, "run.engine": "sampled"})
    mean = mcsim.explain(one).step_time_mean
    np.testing.assert_allclose(mean, mcsim.run(one).step_time_mean, rtol=1e-12)


def test_an_error_that_is_not_known_is_no_small_one():
    one = scenario({"count": 9, "jitter": {"step": LOGNORMAL}}, steps=1)
    said = summarise(mcsim.explain(one))
    assert said.count("unknown") == 2
    assert "take several (run.replicates)" in said


def test_an_interrupted_explanation_ends_soon():
    long = scenario({"count": 50, "jitter": {"step": LOGNORMAL}}, steps=30_000_000)
    start = time.monotonic()
    threading.Timer(1.0, os.kill, [os.getpid(), signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        mcsim.explain(long, threads=2)
    assert time.monotonic() - start < 20


def test_what_takes_more_than_a_day_is_refused(tmp_path):
    file = tmp_path / "three.toml"
    file.write_text(three_sites().replace({"run.steps": 4_000_000_000}).to_toml())
    done = CliRunner().invoke(main, ["explain", str(file)])
    assert done.exit_code == 2
    assert "more than a day" in done.stderr
    assert "--force" in done.stderr


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"run.target_relative_error": 0.01}, "target_relative_error"),
        ({"run.engine": "exact"}, "explain samples"),
        ({"run.target": "cuda"}, "on the processor"),
        ({"sync.policy": "backup", "sync.wait_for": 8}, "loses samples"),
        ({"remedy.drop_devices": 8}, "idle devices and swaps"),
    ],
)
def test_what_cannot_be_taken_apart_is_refused(tmp_path, changes, said):
    one = scenario({"count": 16, "jitter": {"step": LOGNORMAL}}, steps=10)
    with pytest.raises(mcsim.ScenarioError, match=said):
        mcsim.explain(one.replace(changes))


def divided(**changes):
    """Four replicas of three stages on two sites, of one device each."""
    site = {"device": "custom", "compute": 1.0, "count": 6}
    table = {
        "name": "divided",
        "run": {"steps": 4, "replicates": 2},
        "workload": {
            "gradient": "1 GB",
            "parallel": {"pipeline": 3, "microbatches": 6, "activation": "10 MB"},
        },
        "site": [{"name": "a"}, {"name": "b"}],
        "link": [{"between": ["a", "b"], "bandwidth": "10 GB/s", "distance": "16 km"}],
        "network": {"site": {"bandwidth": "10 GB/s", "latency": "5 us"}},
        "fleet": [{"name": name, "site": name, **site} for name in "ab"],
        **changes,
    }
    return mcsim.Scenario.from_dict(table)


def test_the_pipeline_costs_its_bubble_alone():
    found = mcsim.explain(divided())
    assert float(found.ideal_step_time) == 1.0
    # (p - 1) / m of the work: 1F1B without anything else.
    assert cost(found, "alone")["pipeline"] == pytest.approx(2 / 6, rel=1e-9)
    # With the others a little less: gradients are sent while stages wait.
    assert 0.25 < cost(found)["pipeline"] < 2 / 6
    assert cost(found)["inside"] > 0
    assert cost(found)["bandwidth"] > 0
    for absent in ("generations", "specimens", "places", "jitter", "slow-states", "stalls", "wear"):
        assert cost(found)[absent] == 0


def test_costs_of_a_divided_model_add_up_and_removing_all_of_them_leaves_the_ideal():
    jitter = {"persistent": LOGNORMAL, "operation": LOGNORMAL}
    jitter["stall"] = {"law": "exponential", "mean": 0.01}
    one = divided(jitter=jitter)
    found = mcsim.explain(one)
    run = mcsim.run(one)
    np.testing.assert_allclose(found.step_time_mean, run.step_time_mean, rtol=1e-12)
    whole = found.shapley_time.sum("cause") + found.ideal_step_time
    np.testing.assert_allclose(whole, found.step_time_mean, rtol=1e-9)
    assert min(cost(found)[name] for name in ("specimens", "jitter", "stalls", "pipeline")) > 0


def test_a_cause_that_is_removed_from_a_divided_model_is_the_run_without_it():
    jitter = {"persistent": LOGNORMAL, "operation": LOGNORMAL}
    found = mcsim.explain(divided(jitter=jitter))
    for cause, changes in (
        ("jitter", {"jitter.operation": None}),
        ("specimens", {"jitter.persistent": None}),
        ("bandwidth", {"link[0].bandwidth": 1e18}),
    ):
        without = mcsim.run(divided(jitter=jitter).replace(changes))
        removed = float(run_mean(found) - run_mean(without))
        assert cost(found, "removed")[cause] == pytest.approx(removed, rel=1e-6), cause


def run_mean(dataset):
    return dataset.overall_step_time_mean
