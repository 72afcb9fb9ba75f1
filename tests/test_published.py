"""Published figures and measurements, through scenarios as users write them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from oracle import arrivals, cluster_of, scenario

import mcsim
from mcsim.model import lower


def slow_servers(share):
    """A server answers within 5 to 15 ms, but one request in so many takes a second."""
    quick = {"weight": 1 - share, "law": "uniform", "low": 0.005, "high": 0.015}
    slow = {"weight": share, "law": "uniform", "low": 1.0, "high": 1.1}
    return {"step": {"law": "mixture", "parts": [quick, slow]}}


@pytest.mark.parametrize(
    ("share", "servers", "published"), [(0.01, 100, 0.634), (1e-4, 2000, 0.181)]
)
@pytest.mark.parametrize("engine", ["sampled", "exact"])
def test_the_tail_at_scale(share, servers, published, engine):
    """Dean & Barroso, "The tail at scale", CACM 56 (2013), figure 1: a request that fans out to
    all servers waits for the slowest, so few slow answers make many slow requests."""
    exactly = 1 - (1 - share) ** servers
    assert round(exactly, 3) == published
    steps = 50_000
    asked = scenario({"count": servers, "jitter": slow_servers(share)}, steps=steps, keep="steps")
    asked = asked.replace({"run.engine": engine})
    found = mcsim.run(asked)
    assert found.attrs["engine"] == engine
    error = math.sqrt(exactly * (1 - exactly) / steps)
    assert abs(float((found.step_time > 0.5).mean()) - exactly) < 5 * error
    assert float(mcsim.law(asked).survival(0.5)) == pytest.approx(exactly, abs=1e-6)


@pytest.fixture(scope="module")
def relative_times(shared_data):
    """Of 392 V100s of one cluster, ascending; 1 is their median. Sinha et al., SC 2022."""
    table = np.genfromtxt(shared_data / "v100_sgemm_per_gpu.csv", delimiter=",", names=True)
    return np.sort(table["relative_time"])


def resampled(times, ranks):
    """The mean of the largest of so many of these times, each drawn anew."""
    below = np.arange(times.size + 1) / times.size
    return float(times @ np.diff(below**ranks))


def any_of(times):
    """The law of a GPU out of these."""
    parts = [{"weight": 1 / times.size, "law": "constant", "value": time} for time in times]
    return {"law": "mixture", "parts": parts}


@pytest.mark.parametrize("ranks", [8, 64])
def test_the_slowest_of_measured_gpus_is_that_of_the_table(ranks, relative_times):
    expected = resampled(relative_times, ranks)
    each = {"count": ranks, "jitter": {"step": any_of(relative_times)}}
    found = mcsim.run(scenario(each, steps=400_000))
    error = found.step_time_mean_stderr.item()
    assert error < 2e-4
    assert abs(found.step_time_mean.item() - expected) < 5 * error


@pytest.mark.parametrize("ranks", [8, 64])
def test_the_slowest_of_clusters_of_measured_gpus_is_that_of_the_table(ranks, relative_times):
    """The same GPUs in all steps of a cluster, as they are."""
    each = {"count": ranks, "jitter": {"persistent": any_of(relative_times)}}
    found = mcsim.run(scenario(each, steps=1, replicates=1_000))
    means = found.step_time_mean.values
    error = means.std(ddof=1) / math.sqrt(means.size)
    assert abs(means.mean() - resampled(relative_times, ranks)) < 5 * error


@pytest.mark.parametrize("ranks", [8, 64])
def test_the_catalogues_table_is_as_near_as_392_gpus_can_tell(ranks, relative_times):
    random = np.random.default_rng(1)
    again = [
        resampled(np.sort(random.choice(relative_times, relative_times.size)), ranks)
        for _ in range(1_000)
    ]
    jitter = {"step": {"law": "empirical", "table": "v100-sgemm"}}
    found = mcsim.run(scenario({"count": ranks, "jitter": jitter}, steps=100_000))
    mean = found.step_time_mean.item()
    assert abs(mean - resampled(relative_times, ranks)) < np.std(again)


class Variances:
    """Between GPUs and within them, of runs on each: shape (runs,) arrays of relative times."""

    def __init__(self, runs):
        self.mean = np.array([times.mean() for times in runs])
        self.within = np.array([times.var(ddof=1) for times in runs])
        self.noise = self.within / [times.size for times in runs]

    def of(self, gpus=slice(None)):
        """The variances of the means and of the runs of a GPU, and the share of the former."""
        within = self.within[gpus].mean()
        between = self.mean[gpus].var(ddof=1) - self.noise[gpus].mean()
        return np.array([between, within, between / (between + within)])


def test_what_varies_between_gpus_and_from_run_to_run_is_as_measured(shared_data):
    table = np.genfromtxt(shared_data / "v100_sgemm_runs.csv", delimiter=",", names=True)
    times = table["sgemm_ms"] / np.median(table["sgemm_ms"])
    runs = [times[table["gpu"] == gpu] for gpu in np.unique(table["gpu"])]
    measured = Variances([own for own in runs if own.size > 1])
    random = np.random.default_rng(1)
    count = measured.mean.size
    error = np.std([measured.of(random.integers(0, count, count)) for _ in range(1_000)], axis=0)
    between, within, share = measured.of()
    # The published picture: GPUs differ, runs on one of them hardly do.
    assert 0.9 < share < 1.0
    jitter = {
        "persistent": any_of(measured.mean),
        "step": {"law": "lognormal", "mean": 1, "cv": math.sqrt(within)},
    }
    cluster = cluster_of(lower(scenario({"count": 4_000, "jitter": jitter})))
    steps = np.array([arrivals(cluster, step)[0][0] for step in range(30)])
    found = Variances(list(steps.T)).of()
    assert np.all(np.abs(found - [between, within, share]) < error)
