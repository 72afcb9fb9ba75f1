"""The value at which a target is reached: against algebra, and as sure as it says."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner
from oracle import scenario

import mcsim
from mcsim.cli import main
from mcsim.results import summarise

LOGNORMAL = {"law": "lognormal", "mean": 1, "cv": 0.1}


def two_sites(**link):
    """Constant devices: a step takes 1 s, and then what half of 10 GB twice over the link takes."""
    return mcsim.Scenario.from_dict(
        {
            "name": "two",
            "run": {"steps": 2},
            "workload": {"gradient": "10 GB"},
            "site": [{"name": "a"}, {"name": "b"}],
            "link": [{"between": ["a", "b"], "bandwidth": "40 GB/s", **link}],
            "fleet": [
                {"name": name, "device": "custom", "compute": "1 s", "count": 2, "site": name}
                for name in "ab"
            ],
        }
    )


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "two.toml"
    path.write_text(two_sites().to_toml())
    return path


def call(*arguments, code=0):
    done = CliRunner().invoke(main, list(map(str, arguments)))
    assert done.exit_code == code, done.output
    assert "Traceback" not in done.output
    return done


@pytest.mark.parametrize("efficiency", [0.25, 0.5, 0.8])
def test_the_least_bandwidth_is_that_of_algebra(efficiency):
    """1 / (1 + M / b) = e, so b = M e / (1 - e)."""
    found = mcsim.find(two_sites(), "link[*].bandwidth", "1 GB/s..1 TB/s", "efficiency", efficiency)
    expected = 10e9 * efficiency / (1 - efficiency)
    assert float(found.value) == pytest.approx(expected, rel=1e-7)
    assert float(found.value_stderr) == 0
    assert float(found.value_low) == float(found.value_high) == float(found.value)
    assert found.attrs["value_sense"] == "least"
    assert found.value.attrs["units"] == "byte s-1"


def test_the_largest_distance_is_that_of_algebra():
    """Two messages a step, at the speed of light in silica."""
    found = mcsim.find(
        two_sites(), "link[0].distance", "1 km..100_000 km", "step_time_mean", "1.5 s"
    )
    light = 299_792_458 / 1.4682
    assert float(found.value) == pytest.approx((1.5 - 1.25) / 2 * light, rel=1e-3)
    assert found.attrs["value_sense"] == "largest"
    assert "1.5 s" in summarise(found)


def test_the_least_rounds_are_whole():
    """A round of H steps takes H + 10 GB / b: at least 0.9 of it is used from H = 9 x 0.25 on."""
    local = two_sites().replace({"sync.policy": "local-sgd", "sync.inner_steps": 1})
    found = mcsim.find(local, "sync.inner_steps", "1..1000", "efficiency", 0.9)
    assert float(found.value) == 3
    tried = found.sync_inner_steps.to_numpy()
    assert tried.dtype.kind == "i"
    np.testing.assert_allclose(found.overall_efficiency, tried / (tried + 0.25), rtol=1e-9)
    at_the_end = mcsim.find(local, "sync.inner_steps", "1..10", "efficiency", 0.8)
    assert float(at_the_end.value) == 1


def test_the_number_of_devices_that_may_be_waited_for():
    """The mean maximum of n exponential times is the n-th harmonic number."""
    exponential = {"step": {"law": "exponential", "mean": 1}}
    waiting = scenario({"count": 1, "jitter": exponential}, steps=4_000, replicates=4)
    target = (np.sum(1 / np.arange(1, 21)) + np.sum(1 / np.arange(1, 22))) / 2
    found = mcsim.find(waiting, "fleet[0].count", "1..500", "step_time_mean", target)
    # Between 20 and 21: the largest that stays below is 20.
    assert abs(float(found.value) - 20) <= 5 * float(found.value_stderr) + 1
    slope = 1 / 21
    error = float(np.interp(20, found.fleet_0_count, found.overall_step_time_mean_stderr))
    assert float(found.value_stderr) == pytest.approx(error / slope, rel=0.25)
    assert float(found.value_low) <= 20 <= float(found.value_high)


def lottery(seed, clusters=6):
    """One device of a persistent factor with mean 1: a step takes its compute time on average."""
    return scenario(
        {"count": 1, "jitter": {"persistent": LOGNORMAL}}, steps=1, replicates=clusters, seed=seed
    )


def test_the_error_is_that_of_the_clusters():
    """Where the statistic is in proportion to the key, so is the error, by a factor."""
    found = mcsim.find(lottery(1), "fleet[0].compute", "0.5..2", "step_time_mean", 1.0)
    factor = mcsim.run(lottery(1)).step_time_mean.to_numpy()
    assert float(found.value) == pytest.approx(1 / factor.mean(), rel=1e-3)
    error = factor.std(ddof=1) / np.sqrt(6) / factor.mean() ** 2
    assert float(found.value_stderr) == pytest.approx(error, rel=1e-2)
    half = (float(found.value_high) - float(found.value_low)) / 2
    assert half == pytest.approx(2.5706 * error, rel=1e-2)


def test_the_interval_holds_the_value_as_often_as_it_says():
    held = 0
    for seed in range(40):
        found = mcsim.find(lottery(seed), "fleet[0].compute", "0.5..2", "step_time_mean", 1.0)
        held += float(found.value_low) <= 1.0 <= float(found.value_high)
    # Binomial(40, 0.95): below 29 with p < 1e-6.
    assert held >= 29


def test_what_rises_and_falls_is_told():
    """The slowdown of two devices, one of which takes c: max(c, 1) (1 / c + 1) / 2."""
    unequal = scenario({"count": 1}, {"count": 1}, steps=1)
    found = mcsim.find(unequal, "fleet[0].compute", "0.4..1.5", "slowdown", 1.4)
    assert float(found.value) == pytest.approx(1 / 1.8, rel=1e-6)
    assert found.attrs["monotone"] == "no"
    assert "note: slowdown rises here and falls there" in summarise(found)


def test_a_statistic_that_the_scenario_lacks_is_refused():
    with pytest.raises(mcsim.ScenarioError, match="this scenario has no mfu"):
        mcsim.find(two_sites(), "link[*].bandwidth", "1 GB/s..1 TB/s", "mfu", 0.3)


def test_the_command_prints_and_writes_it(file, tmp_path):
    output = tmp_path / "found.nc"
    asked = ["sweep", file, "--find", "link[*].bandwidth=8 Gb/s..8 Tb/s"]
    done = call(*asked, "--reach", "efficiency=50 %", "-o", output)
    head = "two: least link[*].bandwidth with efficiency at least 0.5, seed 0: 10 GB/s"
    assert done.stdout.splitlines()[0] == head
    assert call("show", output).stdout == done.stdout
    with mcsim.open(output) as found:
        assert float(found.value) == pytest.approx(1e10, rel=1e-7)
        assert found.attrs["target"] == 0.5
    assert mcsim.load(output).link[0].bandwidth == 1e9


def test_what_is_not_reached_says_what_is(file):
    asked = ["sweep", file, "--find", "link[*].bandwidth=1 GB/s..5 GB/s"]
    done = call(*asked, "--reach", "efficiency=0.5", code=1)
    assert done.stderr.strip().splitlines()[-1] == (
        "mcsim: two: efficiency = 0.5 is not reached between the ends of link[*].bandwidth: it is"
        " 0.090909 at 1 GB/s and 0.33333 at 5 GB/s"
    )
    assert done.stdout == ""


BANDWIDTH = "link[*].bandwidth=1 GB/s..5 GB/s"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--find", BANDWIDTH], "--find and --reach need each other"),
        (["--find", BANDWIDTH, "--reach", "efficiency"], "is not as efficiency=0.5"),
        (["--find", "link[0].bandwidth", "--reach", "efficiency=1"], "is not as link[*]"),
        (["--find", BANDWIDTH, "--reach", "eficiency=1"], '(did you mean "efficiency"?)'),
        (["--find", BANDWIDTH, "--reach", "step_time_mean=1 m"], "is a length"),
        (["--find", "link[*].bandwidth=1,2", "--reach", "efficiency=0.5"], "is no range"),
        (["--find", "link[*].bandwidth=1..9/3", "--reach", "efficiency=0.5"], "is no range"),
        (["--find", "link[*].bandwith=1..9", "--reach", "efficiency=0.5"], "unknown key"),
        (["--find", "link[*].bandwidth=0..9", "--reach", "efficiency=0.5"], "at least 1"),
        (["--find", "link[*].medium=1..9", "--reach", "efficiency=0.5"], "is no range"),
        (["--find", BANDWIDTH, "--reach", "efficiency=1", "--resume"], "goes without --over"),
    ],
)
def test_what_cannot_be_sought_is_said(file, arguments, said):
    done = call("sweep", file, *arguments, code=2)
    assert said in done.stderr
