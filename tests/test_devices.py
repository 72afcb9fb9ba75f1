"""Full statistics: every device counted, against the slow version that keeps every time."""

from __future__ import annotations

import numpy as np
import pytest
from oracle import arrivals, cluster_of, last_arrivals, scenario
from test_sampled import FLEETS

import mcsim
from mcsim.engine import simulate
from mcsim.engine.devices import BINS, bin_of_float
from mcsim.engine.histogram import COARSEST, bin_of, coarser, edges_of
from mcsim.model import estimate, lower

STEPS = 21


def bins_of(values):
    return np.clip(coarser(bin_of(np.asarray(values, np.float64)), COARSEST), 0, BINS - 1)


@pytest.mark.parametrize("name", FLEETS)
def test_every_device_is_counted_where_it_belongs(name):
    plan = lower(scenario(*FLEETS[name], seed=8, steps=STEPS, keep="devices"))
    (sums,) = simulate(plan).replicates
    cluster = cluster_of(plan)
    latest = last_arrivals(cluster, 0, STEPS).ready.max(axis=1)
    times = np.zeros((len(plan.groups), BINS), np.int64)
    waits = np.zeros_like(times)
    for step in range(STEPS):
        for index, (time, _) in enumerate(arrivals(cluster, step)):
            times[index] += np.bincount(bins_of(time), minlength=BINS)
            waits[index] += np.bincount(bins_of(latest[step] - time), minlength=BINS)
    assert np.array_equal(sums.devices.times.sum(axis=1), times.sum(axis=1))
    assert np.array_equal(sums.devices.waits.sum(axis=1), times.sum(axis=1))
    # A float32 may stand on the other side of a bin's edge: the sums up to each bin are near.
    for found, exact in ((sums.devices.times, times), (sums.devices.waits, waits)):
        number = exact.sum(axis=1)
        late = np.abs(np.cumsum(found, axis=1) - np.cumsum(exact, axis=1))
        if found is sums.devices.waits:
            # Waits near zero are differences of two float32.
            late = late[:, bins_of(1e-4 * max(latest.max(), 0.1)) :]
        assert np.all(late.max(axis=1) <= 2 + 2e-3 * number)


def test_atoms_are_counted_exactly():
    asked = scenario(*FLEETS["step atoms"], seed=8, steps=64, keep="devices")
    found = mcsim.run(asked).isel(replicate=0, group=0)
    histogram = found.device_time_histogram
    plan = lower(asked)
    slow = sum(
        np.count_nonzero(arrivals(cluster_of(plan), step)[0][0] > 1.05) for step in range(64)
    )
    bins = histogram.values[histogram.values > 0]
    assert bins.tolist() == [3000 * 64 - slow, slow]
    assert float(found.device_time_bin_lower[0]) <= 1.0 < float(found.device_time_bin_upper[0])


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("tile", [1, 7, 8, 64, 1024])
def test_tiles_and_threads_change_no_count(threads, tile):
    fleet = FLEETS["groups of unlike laws"]
    plan = lower(scenario(*fleet, steps=1_100, keep="devices"))
    (one,), (other,) = (
        simulate(plan, threads=2).replicates,
        simulate(plan, threads=threads, tile=tile).replicates,
    )
    assert np.array_equal(one.devices.times, other.devices.times)
    assert np.array_equal(one.devices.waits, other.devices.waits)


def test_the_rest_of_the_result_is_that_of_the_summary():
    fleet = FLEETS["groups of unlike laws"]
    one = mcsim.run(scenario(*fleet, steps=300, keep="devices"))
    other = mcsim.run(scenario(*fleet, steps=300).replace({"run.engine": "sampled"}))
    for name in other.data_vars:
        assert np.array_equal(one[name].values, other[name].values, equal_nan=True), name
    assert one.attrs["engine"] == "sampled"
    assert 'keep = "devices"' in one.attrs["engine_reason"]
    assert one.attrs["self_check"] == "passed"


def test_the_histograms_say_what_the_means_say():
    law = {"law": "lognormal", "mean": 1, "cv": 0.1}
    asked = scenario(
        {"count": 2_000, "jitter": {"persistent": law, "step": law}}, steps=200, keep="devices"
    )
    found = mcsim.run(asked).isel(replicate=0, group=0)
    for which, mean in (
        ("time", found.device_time_mean),
        ("wait", found.compute_time_mean - found.device_time_mean),
    ):
        counts, bins = found[f"device_{which}_histogram"], found[f"device_{which}_bin"]
        assert int(counts.sum()) == 2_000 * 200
        assert float((counts * bins).sum() / counts.sum()) == pytest.approx(float(mean), rel=2e-3)
        lower_ends, upper_ends = (
            found[f"device_{which}_bin_lower"],
            found[f"device_{which}_bin_upper"],
        )
        assert np.array_equal(lower_ends[1:], upper_ends[:-1])
    # Of every step one device waits for nobody, within the rounding of a float32.
    assert int(found.device_wait_histogram.where(found.device_wait_bin < 1e-6, 0).sum()) >= 200


def test_exact_does_not_do_devices():
    asked = scenario({"count": 5}, keep="devices")
    with pytest.raises(mcsim.ScenarioError, match="draws no device"):
        asked.replace({"run.engine": "exact"})


@pytest.mark.parametrize(
    "value", [0.0, -0.0, -1.0, 2.0**-41, 2.0**-40, 1.0, 1.0039, 3.7, 1e20, 3e38]
)
def test_bins_of_floats_are_those_of_doubles(value):
    single = np.float32(value)
    expected = max(int(bins_of(np.array([np.float64(single)]))[0]), 0)
    assert bin_of_float(single) == expected
    if 0 < expected < BINS - 1:
        low, high = edges_of(np.array([expected]), COARSEST)
        assert low[0] <= single < high[0]


def test_counting_all_devices_is_in_the_estimates():
    few, many = (
        lower(scenario({"count": 10}, steps=10, replicates=n, keep="devices")) for n in (1, 1_000)
    )
    assert estimate.memory(many, 1) - estimate.memory(few, 1) > 999 * 2 * 8 * BINS
    assert estimate.file_size(many) > 5 * estimate.file_size(few)
