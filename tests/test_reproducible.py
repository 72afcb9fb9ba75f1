"""The same numbers, whatever the threads, tiles, length, and company of a group."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import scenario

import mcsim
from mcsim.engine import simulate
from mcsim.model import lower
from mcsim.model.choice import MOST_A_BLOCK as BLOCK

LOGNORMAL = {"law": "lognormal", "mean": 1, "cv": 0.05}
JITTER = {
    "persistent": LOGNORMAL,
    "node": LOGNORMAL,
    "rack": LOGNORMAL,
    "site": LOGNORMAL,
    "step": LOGNORMAL,
    "stall": {"law": "exponential", "mean": 0.01},
}
FLEET = [
    {"name": "a", "count": 3000, "devices_per_node": 8, "nodes_per_rack": 4, "jitter": JITTER},
    {"name": "b", "count": 700, "compute": 1.1, "jitter": {"step": LOGNORMAL}},
]


def dataset(*fleet, **keys):
    return mcsim.run(scenario(*fleet, **{"keep": "steps", "steps": 300, "replicates": 2, **keys}))


def step_times(*fleet, **keys):
    """Without the tables of the self-check: shape (replicates, steps), s."""
    keys = {"keep": "steps", "steps": 300, "replicates": 2, **keys}
    found = simulate(lower(scenario(*fleet, **keys))).replicates
    return np.stack([replicate.step_time for replicate in found])


def assert_same(one, other):
    for name in one.variables:
        assert np.array_equal(
            one[name].values, other[name].values, equal_nan=one[name].dtype.kind == "f"
        )


@pytest.fixture(scope="module")
def plain():
    return dataset(*FLEET)


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_threads_change_no_bit(plain, threads):
    asked = scenario(*FLEET, keep="steps", steps=300, replicates=2)
    assert_same(mcsim.run(asked, threads=threads), plain)


@pytest.mark.parametrize("tile", [1, 7, 64, 300, 100_000])
def test_tiles_change_no_bit(tile):
    plan = lower(scenario(*FLEET, keep="steps", steps=300))
    (one,), (other,) = simulate(plan).replicates, simulate(plan, tile=tile).replicates
    assert np.array_equal(one.step_time, other.step_time)
    for values in ("mean", "second", "third", "fourth"):
        assert np.array_equal(getattr(one.moments, values), getattr(other.moments, values))
    assert np.array_equal(one.histogram.counts, other.histogram.counts)
    assert np.array_equal(one.culprits, other.culprits)


def test_sums_over_many_blocks_do_not_depend_on_how_they_are_sampled():
    # Few threads sample many blocks at once, many threads one by one.
    asked = {"count": 3, "jitter": {"step": LOGNORMAL}}
    plan = lower(scenario(asked, steps=40 * BLOCK + 7, replicates=2))
    plain = simulate(plan, threads=1)
    for other in (simulate(plan, threads=30), simulate(plan, threads=2, tile=999)):
        for one, two in zip(plain.replicates, other.replicates, strict=True):
            assert one.moments.count == plan.steps
            for values in ("mean", "second", "third", "fourth"):
                assert np.array_equal(getattr(one.moments, values), getattr(two.moments, values))
            assert np.array_equal(one.histogram.counts, two.histogram.counts)
            assert np.array_equal(one.culprits, two.culprits)


def test_the_first_steps_of_a_longer_run_are_the_shorter_run(plain):
    longer = step_times(*FLEET, steps=500, replicates=3)
    assert np.array_equal(longer[:2, :300], plain.step_time.values)


def test_one_processor_gives_the_same_file(plain, tmp_path):
    if not shutil.which("taskset"):
        pytest.skip("taskset is not here")
    file = tmp_path / "asked.toml"
    file.write_text(scenario(*FLEET, keep="steps", steps=300, replicates=2).to_toml())
    command = [shutil.which("mcsim", path=os.path.dirname(sys.executable)) or "mcsim"]
    subprocess.run(
        ["taskset", "-c", "0", *command, "run", file, "-o", tmp_path / "out.nc"],
        check=True,
        capture_output=True,
    )
    with mcsim.open(tmp_path / "out.nc") as found:
        assert_same(plain, found)


def test_appending_a_group_leaves_the_draws_of_the_others():
    alone = dataset(FLEET[0], seed=3)
    beside = dataset(FLEET[0], {"name": "slow", "count": 1, "compute": 1e-6}, seed=3)
    assert np.array_equal(alone.step_time.values, beside.step_time.values)


def test_permuting_groups_changes_no_step_time(plain):
    turned = dataset(*FLEET[::-1])
    assert np.array_equal(turned.step_time.values, plain.step_time.values)
    share = turned.straggler_share.sel(group=plain.group.values)
    assert np.array_equal(share.values, plain.straggler_share.values)


def test_renaming_a_group_draws_anew(plain):
    renamed = step_times({**FLEET[0], "name": "other"}, FLEET[1])
    assert not np.array_equal(renamed, plain.step_time.values)


def test_devices_keep_their_draws_when_their_group_grows():
    few = step_times({"name": "a", "count": 10, "jitter": {"step": LOGNORMAL}})
    more = step_times({"name": "a", "count": 11, "jitter": {"step": LOGNORMAL}})
    assert np.all(more >= few)
    assert np.mean(more == few) > 0.8


def test_seeds_up_to_64_bits_give_different_results():
    seeds = [0, 1, 2**32, 2**32 + 1, 2**63, 2**64 - 1]
    results = {step_times(*FLEET, seed=seed, steps=20).tobytes() for seed in seeds}
    assert len(results) == len(seeds)


def test_steps_and_replicates_all_differ(plain):
    assert np.unique(plain.step_time.values).size == plain.step_time.size


def test_persistent_factors_are_drawn_once_a_replicate():
    lottery = {"persistent": LOGNORMAL, "node": LOGNORMAL, "rack": LOGNORMAL, "site": LOGNORMAL}
    times = step_times({"count": 100, "jitter": lottery})
    assert np.all(times == times[:, :1])
    assert times[0, 0] != times[1, 0]


@pytest.mark.parametrize(("key", "size"), [("node", 8), ("rack", 32), ("site", 64)])
def test_shared_factors_are_shared(key, size):
    from oracle import cluster_of

    group = {"count": 64, "devices_per_node": 8, "nodes_per_rack": 4, "jitter": {key: LOGNORMAL}}
    base = cluster_of(lower(scenario(group))).base[0].reshape(-1, size)
    assert np.all(base == base[:, :1])
    assert np.unique(base).size == 64 // size


def test_groups_of_one_site_share_its_factor():
    from oracle import cluster_of

    cluster = cluster_of(lower(scenario(*[{"count": 2, "jitter": {"site": LOGNORMAL}}] * 2)))
    assert cluster.base[0][0] == cluster.base[1][1] != 1


factors = st.floats(1.0, 1.5)
seeds = st.integers(0, 2**64 - 1)


@settings(max_examples=25)
@given(seed=seeds, factor=factors, group=st.integers(0, 1))
def test_a_slower_device_never_shortens_a_step(seed, factor, group):
    slower = [dict(one) for one in FLEET]
    slower[group]["compute"] = slower[group].get("compute", 1.0) * factor
    before, after = (
        step_times(*fleet, seed=seed, steps=20, replicates=1) for fleet in (FLEET, slower)
    )
    assert np.all(after >= before)


@settings(max_examples=15)
@given(seed=seeds)
def test_twice_the_times_double_every_step_exactly(seed):
    stall = {"law": "exponential", "mean": 0.01}
    law = {"law": "lognormal", "median": 1.1, "sigma": 0.1}
    one = [{"count": 500, "compute": 0.7, "jitter": {"step": law, "stall": stall}}]
    two = [
        {"count": 500, "compute": 1.4, "jitter": {"step": law, "stall": {**stall, "mean": 0.02}}}
    ]
    doubled = [
        {
            "count": 500,
            "compute": 0.7,
            "jitter": {"step": {**law, "median": 2.2}, "stall": {**stall, "mean": 0.02}},
        }
    ]
    base, twice, by_median = (
        step_times(*fleet, seed=seed, steps=20) for fleet in (one, two, doubled)
    )
    assert np.array_equal(twice, 2 * base)
    assert np.array_equal(by_median, 2 * base)


@settings(max_examples=25)
@given(seed=seeds, count=st.integers(1, 400), cv=st.floats(0, 0.5), compute=st.floats(0.01, 100))
def test_what_must_hold_of_every_result(seed, count, cv, compute):
    law = {"law": "lognormal", "mean": 1, "cv": cv}
    found = dataset(
        {"count": count, "compute": compute, "jitter": {"persistent": law, "step": law}},
        {"count": 3, "compute": 1.0, "jitter": {"step": law}},
        seed=seed,
        steps=30,
    )
    assert np.all((found.efficiency > 0) & (found.efficiency <= 1))
    assert np.all(np.diff(found.step_time_quantile.values) >= 0)
    assert np.all((found.wait_fraction >= 0) & (found.wait_fraction < 1))
    assert np.allclose(found.straggler_share.sum("group"), 1)
    assert np.all(found.step_time_histogram.sum("bin") == 30)
    times = found.step_time.values
    assert np.array_equal(found.step_time_quantile.values[:, 0], times.min(axis=1))
    assert np.array_equal(found.step_time_quantile.values[:, -1], times.max(axis=1))
    assert np.allclose(found.step_time_mean, times.mean(axis=1), rtol=1e-13)
    assert np.allclose(found.step_time_std, times.std(axis=1, ddof=1), rtol=1e-9, atol=1e-12)
