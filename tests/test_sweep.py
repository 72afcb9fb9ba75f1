"""Sweeps: each point is the run with those keys, whatever is killed, divided or merged."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner
from oracle import scenario

import mcsim
from mcsim.batch import Shard
from mcsim.cli import main
from mcsim.results import SweepCheckpoints
from mcsim.study.design import design
from mcsim.study.sweep import labelled, run_points

LOGNORMAL = {"law": "lognormal", "mean": 1, "cv": 0.05}


def small(**run):
    jitter = {"persistent": LOGNORMAL, "step": LOGNORMAL}
    run = {"steps": 50, "replicates": 3, "seed": 5} | run
    return scenario({"count": 40, "jitter": jitter}, {"count": 30, "jitter": jitter}, **run)


def two_sites(**run):
    table = small(**run).to_dict()
    table["site"] = [{"name": "a"}, {"name": "b"}]
    for group, site in zip(table["fleet"], "ab", strict=True):
        group["site"] = site
    table["link"] = [{"between": ["a", "b"], "bandwidth": "1 GB/s"}]
    table["workload"]["gradient"] = "10 GB"
    return mcsim.Scenario.from_dict(table)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(small().to_toml())
    return path


def call(*arguments, code=0):
    done = CliRunner().invoke(main, list(map(str, arguments)))
    assert done.exit_code == code, done.output
    assert "Traceback" not in done.output
    return done


def assert_same(one, other):
    with mcsim.open(one) as a, mcsim.open(other) as b:
        xr.testing.assert_identical(a.load().drop_attrs(), b.load().drop_attrs())
        assert a.attrs["sweep"] == b.attrs["sweep"]


def test_a_point_has_the_bits_of_its_run(file, tmp_path):
    output = tmp_path / "swept.nc"
    over = ["--over", "fleet[*].count=10,60", "--over", "jitter.step.cv=1%..9%/3"]
    plain = small().to_dict()
    for group in plain["fleet"]:
        del group["jitter"]
    plain["jitter"] = {"step": LOGNORMAL, "persistent": LOGNORMAL}
    file.write_text(mcsim.Scenario.from_dict(plain).to_toml())
    call("sweep", file, *over, "-o", output)
    with mcsim.open(output) as swept:
        assert swept.fleet_count.dims == ("fleet_count",)
        np.testing.assert_array_equal(swept.fleet_count, [10, 60])
        np.testing.assert_allclose(swept.jitter_step_cv, [0.01, 0.05, 0.09], rtol=1e-12)
        assert swept.jitter_step_cv.attrs["scenario_key"] == "jitter.step.cv"
        for count, cv in itertools.product([10, 60], swept.jitter_step_cv.to_numpy()):
            alone = tmp_path / "alone.nc"
            call("run", file, "--set", f"fleet[*].count={count}", "--set",
                 f"jitter.step.cv={float(cv)!r}", "-o", alone)  # fmt: skip
            here = swept.sel(fleet_count=count, jitter_step_cv=cv)
            with mcsim.open(alone) as run:
                names = [name for name in run.data_vars if name.startswith("overall_")]
                assert len(names) > 20
                for name in [*names, "ideal_step_time"]:
                    np.testing.assert_array_equal(here[name], run[name])
                    assert here[name].attrs.items() >= run[name].attrs.items()
                np.testing.assert_array_equal(here.step_time_mean, run.step_time_mean)
                assert int(here.devices) == int(run.group_devices.sum())


def test_keys_of_all_tables_are_swept_together():
    found = mcsim.sweep(two_sites(), {"link[*].bandwidth": ["80 Gb/s", 4e9]})
    assert found.link_bandwidth.attrs["units"] == "byte s-1"
    np.testing.assert_array_equal(found.link_bandwidth, [1e10, 4e9])
    assert found.overall_communication_time_mean[1] > found.overall_communication_time_mean[0]
    texts = mcsim.sweep(small(), {"run.engine": ["exact", "sampled"]})
    assert list(texts.run_engine.to_numpy()) == ["exact", "sampled"]
    assert list(texts.engine.to_numpy()) == ["exact", "sampled"]


def test_the_random_numbers_are_common():
    """Times of constant work scale exactly, cluster by cluster: nothing is drawn anew."""
    found = mcsim.sweep(small(), {"fleet[*].compute": [1.0, 2.0]})
    one, two = found.step_time_mean.to_numpy()
    assert one.std() > 0
    np.testing.assert_allclose(two, 2 * one, rtol=1e-12)


@pytest.mark.parametrize("method", ["lhs", "sobol"])
def test_spread_points_fill_their_ranges(method):
    over = {
        "fleet[0].count": "1..64",
        "fleet[0].jitter.step.cv": "0.001..0.1,log",
        "run.engine": ["sampled", "exact"],
    }
    one, again = (design(small(), over, method, 64) for _ in range(2))
    assert one.points == again.points
    assert design(small(seed=6), over, method, 64).points != one.points
    count, cv, engine = (np.array(axis.values) for axis in one.axes)
    assert len(count) == 64
    assert set(count.tolist()) <= set(range(1, 65))
    assert len(set(count.tolist())) > (60 if method == "lhs" else 30)
    share = np.log(cv / 0.001) / np.log(100)
    # Each 64th of the range has one of 64 points: what both designs are made for.
    np.testing.assert_array_equal(np.sort((share * 64).astype(int)), np.arange(64))
    assert (engine == "exact").sum() == 32
    found = mcsim.sweep(
        small(steps=5), {"fleet[0].compute": "1..2", "fleet[1].compute": "1..2"},
        method=method, points=4,
    )  # fmt: skip
    assert found.overall_efficiency.dims == ("point",)
    assert found.fleet_0_compute.dims == ("point",)


def test_what_only_some_points_have_is_not_a_number_elsewhere():
    table = scenario({"count": 16, "jitter": {"operation": LOGNORMAL}}, steps=5).to_dict()
    table["workload"]["parallel"] = {"pipeline": 1, "microbatches": 4}
    found = mcsim.sweep(mcsim.Scenario.from_dict(table), {"workload.parallel.pipeline": [2, 4]})
    share = found.overall_stage_straggler_share
    assert share.sizes["stage"] == 4
    assert np.isnan(share.isel(workload_parallel_pipeline=0)).sum() == 2
    np.testing.assert_allclose(share.sum("stage"), 1.0)


def test_shards_in_any_order_are_the_whole(file, tmp_path):
    over = ["--over", "fleet[0].count=1..9/3", "--over", "run.steps=5,20"]
    call("sweep", file, *over, "-o", tmp_path / "whole.nc")
    for number in (3, 1, 2):
        call("sweep", file, *over, "-o", tmp_path / "{shard}.nc", "--shard", f"{number}/3")
    parts = [tmp_path / f"{number}.nc" for number in (2, 3, 1)]
    missing = call("merge", *parts[:2], "-o", tmp_path / "no.nc", code=2)
    assert "of points 0 to 5, 0, 3: in none of the files" in missing.stderr
    call("merge", *parts[:2], "-o", tmp_path / "some.nc", "--partial")
    assert "4 of 6 points" in call("show", tmp_path / "some.nc").stdout
    call("merge", tmp_path / "some.nc", parts[2], "-o", tmp_path / "merged.nc")
    assert_same(tmp_path / "merged.nc", tmp_path / "whole.nc")
    xr.testing.assert_identical(
        mcsim.merge(parts).drop_attrs(), mcsim.open(tmp_path / "whole.nc").load().drop_attrs()
    )
    lost = call("sweep", file, *over, "-o", parts[0], "--shard", "1/3", code=2)
    assert "2.nc: holds another shard of this sweep" in lost.stderr
    twice = call("merge", *parts, parts[0], "-o", tmp_path / "no.nc", code=2)
    assert "2.nc: is given twice" in twice.stderr
    other = ["--over", "fleet[0].count=1..9/3", "--over", "run.steps=5,21"]
    call("sweep", file, *other, "-o", tmp_path / "other.nc", "--shard", "1/3")
    foreign = call("merge", parts[0], tmp_path / "other.nc", "-o", tmp_path / "no.nc", code=2)
    assert "is of another sweep" in foreign.stderr
    assert "its run.steps is" in foreign.stderr
    assert not (tmp_path / "no.nc").exists()


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "mcsim", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_killed_sweep_goes_on_to_the_same_bits(file, tmp_path):
    output = tmp_path / "out.nc"
    checkpoint = SweepCheckpoints(output).newest
    asked = ["sweep", file, "--over", "fleet[0].count=1_000..20_000/12", "--set",
             "run.steps=1_000", "--set", "run.engine=sampled"]  # fmt: skip
    done = 0
    for end in (signal.SIGKILL, signal.SIGTERM):
        process = start(*asked, "-o", output, "--resume")
        deadline = time.monotonic() + 60
        while True:
            kept = checkpoint.exists() and SweepCheckpoints(output).load()
            if kept and len(kept[1].points) > done:
                break
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(end)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == (-9 if end == signal.SIGKILL else 85), errors
        done = len(SweepCheckpoints(output).load()[1].points)
        assert not output.exists()
    assert 2 <= done < 12
    went_on = call(*asked, "-o", output, "--resume")
    assert f"going on: {done} of 12 points are done" in went_on.stderr
    assert not checkpoint.exists()
    assert not list(tmp_path.glob(".*"))
    changed = small().replace({"run.steps": 1_000, "run.engine": "sampled"})
    whole = mcsim.sweep(changed, {"fleet[0].count": "1_000..20_000/12"})
    with mcsim.open(output) as found:
        xr.testing.assert_identical(found.load().drop_attrs(), whole.drop_attrs())


def test_a_checkpoint_of_another_sweep_is_refused(file, tmp_path):
    output = tmp_path / "out.nc"
    asked = design(small(), {"fleet[0].count": [1, 2]})
    SweepCheckpoints(output).save(run_points(asked, shard=Shard(1, 2)))
    other = call("sweep", file, "--over", "fleet[0].count=1,3", "-o", output, "--resume", code=2)
    assert "out.nc.checkpoint: is of another sweep than what is asked for" in other.stderr
    newest = SweepCheckpoints(output).newest
    whole = call("sweep", file, "--over", "fleet[0].count=1,2", "-o", output, "--resume")
    assert "going on: 1 of 2" in whole.stderr
    xr.testing.assert_identical(
        mcsim.open(output).load().drop_attrs(), labelled(run_points(asked)).drop_attrs()
    )
    output.unlink()
    SweepCheckpoints(output).save(run_points(asked, shard=Shard(1, 2)))
    data = bytearray(newest.read_bytes())
    at = data.find(b'"self_check": "passed"')
    data[at + 15 : at + 21] = b"failed"
    newest.write_bytes(data)
    damaged = call("sweep", file, "--over", "fleet[0].count=1,2", "-o", output, "--resume", code=2)
    assert "damaged" in damaged.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "there is no key to sweep over"),
        (["--over", "fleet[0].count="], "fleet[0].count: '' has no value"),
        (["--over", "fleet[0].count=1,,2"], "has no value between commas"),
        (["--over", "flet[0].count=1,2"], "flet is not an array"),
        (["--over", "fleet[0].cont=1,2"], 'unknown key (did you mean "count"?)'),
        (["--over", "fleet[7].count=1,2"], "there are only 2, counted from 0"),
        (["--over", "link[*].age=1 s,2 s"], "link is not an array"),
        (["--over", "fleet[0].count=4,0"], "over fleet[0].count=0: fleet[0].count: 0 must be at"),
        (["--over", "fleet[0].compute=1 s,1 m"], '"1 m" is a length, where a time is wanted'),
        (["--over", "fleet[0].compute=1 s,1000 ms"], 'has the value "1000 ms" twice: "1 s" is it'),
        (
            ["--over", "fleet[0].count=1,2", "--over", "fleet[*].count=3,4"],
            "fleet[*].count: is swept twice: fleet[0].count changes fleet[0].count too",
        ),
        (
            [
                "--over",
                'fleet.group-0.jitter.step={ law = "constant", value = 1 }',
                "--over",
                "fleet[0].jitter.step.value=3,4",
            ],
            "is swept twice",
        ),
        (["--over", "run.seed=1,2"], "run.seed: is not swept: all points have the same"),
        (["--over", "fleet[0].count=1..2"], "say how many values: 1..2/5"),
        (["--over", "fleet[0].count=9..2/3"], "the range 9..2 must ascend"),
        (["--over", "fleet[0].count=0..2/3,log"], "must be"),
        (["--over", "fleet[0].count=1..5/1"], "1 values of a range: at least 2"),
        (["--over", "fleet[0].jitter.step=1..2/3"], "must be a law"),
        (["--over", "fleet[0].count=1..5", "--method", "lhs"], "needs a number of points"),
        (["--over", "fleet[0].count=1,5", "--points", "4"], "no --points"),
        (["--over", "fleet[0].count=1..5/2", "--method", "lhs", "--points", "4"], "chooses"),
        (["--over", "fleet[0].count=1..5", "--method", "sobol", "--points", "6"], "as 4 or 8"),
        (["--over", "fleet[0].count=1,2", "--set", "fleet[0].count=3"], "both set and swept"),
        (["--over", "fleet[0].count=1,2", "--resume"], "need -o"),
        (
            ["--over", "run.steps=40_000_000,41_000_000", "--set", "run.replicates=10_000"],
            "2 runs would take about",
        ),
    ],
)
def test_what_cannot_be_swept_is_said_before_anything_is_run(file, arguments, said):
    done = call("sweep", file, *arguments, code=2)
    assert said in done.stderr
    assert done.stdout == ""


def test_all_bad_points_are_told_at_once(file):
    done = call("sweep", file, "--over", "fleet[*].count=0,5,-1", code=2)
    assert "count=0: fleet[0].count" in done.stderr
    assert "count=-1: fleet[1].count" in done.stderr


def test_a_run_is_not_replaced_by_a_sweep(file, tmp_path):
    output = tmp_path / "run.nc"
    call("run", file, "-o", output)
    before = output.read_bytes()
    refused = call("sweep", file, "--over", "run.steps=1,2", "-o", output, code=2)
    assert "it is not replaced" in refused.stderr
    assert output.read_bytes() == before


def test_a_key_that_the_scenario_needs_may_be_swept(tmp_path):
    table = small().to_dict()
    del table["fleet"][0]["count"]
    file = tmp_path / "x.toml"
    from mcsim.scenario.toml import dumps

    file.write_text(dumps(table))
    assert "4" in call("sweep", file, "--over", "fleet[0].count=4,8").stdout
    assert os.listdir(tmp_path) == ["x.toml"]


def test_what_is_finished_before_a_point_that_cannot_be_run_is_kept(tmp_path):
    table = two_sites().to_dict()
    factor = {"law": "constant", "value": 1.0}
    table["link"][0]["slow"] = {"every": 1.0, "duration": 1.0, "factor": factor}
    file, output = tmp_path / "x.toml", tmp_path / "out.nc"
    file.write_text(mcsim.Scenario.from_dict(table).to_toml())
    asked = ["sweep", file, "--over", "link[0].slow.factor.value=2,1e200", "-o", output]
    done = call(*asked, code=1)
    assert "at link[0].slow.factor.value = 1e+200" in done.stderr
    assert list(SweepCheckpoints(output).load()[1].points) == [0]
    assert not output.exists()


@pytest.mark.parametrize("method", ["grid", "lhs", "find"])
def test_the_files_are_clean_under_the_cf_checker(tmp_path, method):
    from compliance_checker.runner import CheckSuite, ComplianceChecker

    key = "link[*].bandwidth"
    if method == "find":
        found = mcsim.find(two_sites(), key, "0.1 GB/s..20 GB/s", "efficiency", 0.3)
    elif method == "grid":
        found = mcsim.sweep(two_sites(), {key: [1e9, 2e9], "run.engine": ["exact", "sampled"]})
    else:
        found = mcsim.sweep(two_sites(), {key: "1 GB/s..2 GB/s"}, method=method, points=3)
    mcsim.write(found, tmp_path / "x.nc")
    CheckSuite.load_all_available_checkers()
    report = tmp_path / "report.txt"
    ComplianceChecker.run_checker(
        [str(tmp_path / "x.nc")],
        ["cf:1.11"],
        0,
        "strict",
        output_filename=str(report),
        output_format="text",
    )
    assert "All tests passed!" in report.read_text(), report.read_text()


def test_a_whole_sweep_is_not_run_again(file, tmp_path):
    asked = ["sweep", file, "--over", "run.steps=1,2", "-o", tmp_path / "out.nc"]
    first = call(*asked)
    before = (tmp_path / "out.nc").read_bytes()
    again = call(*asked, "--resume")
    assert "is complete already" in again.stderr
    assert again.stdout == first.stdout
    assert (tmp_path / "out.nc").read_bytes() == before
    other = call("sweep", file, "--over", "run.steps=1,3", "-o", tmp_path / "out.nc", "--resume")
    assert "replaced" in other.stderr


def test_intervals_come_with_every_point():
    found = mcsim.sweep(small(), {"fleet[0].count": [10, 40]})
    low, high = mcsim.confidence_interval(found, "efficiency")
    assert (low < found.overall_efficiency).all()
    assert (high > found.overall_efficiency).all()
    fewer = mcsim.sweep(small(), {"run.replicates": [2, 3]})
    assert fewer.overall_efficiency_stderr.attrs["degrees_of_freedom"] == 1
    assert np.isnan(fewer.step_time_mean).sum() == 1


@pytest.mark.parametrize(
    ("over", "how"),
    [
        ({"link[*].bandwidth": "1 GB/s..1 TB/s/4,log"}, {}),
        ({"link[*].bandwidth": [1e9, 2e9], "run.engine": ["exact", "sampled"]}, {}),
        ({"link[0].latency": "0..1/7", "link[*].distance": "0..9000/7"}, {}),
        ({"link[0].latency": "0..1", "link[0].medium": "silica,hollow-core"}, {"method": "lhs"}),
        ({"run.steps": [1, 2], "fleet[0].count": [1, 2], "link[0].latency": [0.0, 1.0]}, {}),
    ],
)
def test_sweeps_are_drawn(tmp_path, over, how):
    from mcsim.results.plot_sweep import figure_of

    points = {"points": 5} if how else {}
    found = mcsim.sweep(two_sites(steps=3), over, **how, **points)
    figure = figure_of(found)
    labels = [axes.get_xlabel() for axes in figure.axes] + [a.get_ylabel() for a in figure.axes]
    for key in over:
        texts = labels + [
            a.get_legend().get_title().get_text() for a in figure.axes if a.get_legend()
        ]
        assert any(text.startswith(key) for text in texts)
    assert "mean step time, s" in labels
    if "link[*].bandwidth" in over:
        assert "link[*].bandwidth, GB/s" in labels
    assert "efficiency, %" in labels
    mcsim.write(found, tmp_path / "x.nc")
    for picture in (tmp_path / "x.png", tmp_path / "x.svg"):
        call("plot", tmp_path / "x.nc", "-o", picture)
        assert picture.stat().st_size > 5_000


def test_a_part_is_not_drawn(file, tmp_path):
    part = tmp_path / "part.nc"
    call("sweep", file, "--over", "run.steps=1,2", "-o", part, "--shard", "1/2")
    refused = call("plot", part, code=1)
    assert "`mcsim merge` joins it with the others" in refused.stderr


def test_an_array_is_changed_as_a_whole_by_set(tmp_path):
    file = tmp_path / "two.toml"
    file.write_text(two_sites().to_toml())
    changed = mcsim.load(file, {"fleet[*].count": "7", "link.*.distance": "16 km"})
    assert [group.count for group in changed.fleet] == [7, 7]
    assert changed.link[0].distance == 16_000
    assert [g.compute for g in changed.replace({"fleet[*].compute": 2.0}).fleet] == [2.0, 2.0]
    with pytest.raises(mcsim.ScenarioError, match=r"fleet\[1\].count: 0 must be at least 1"):
        mcsim.load(file, {"fleet[*].count": "0"})
    with pytest.raises(mcsim.ScenarioError, match="not an array"):
        mcsim.load(file, {"run[*].steps": "1"})
