"""Runs on a real Slurm: an array and its merge, tasks that are stopped and go on, exit codes."""

from __future__ import annotations

import os
import re

import pytest
import slurm
from oracle import scenario
from warm import PYTHON

import mcsim

LOGNORMAL = {"law": "lognormal", "mean": 1, "cv": 0.05}
OVERFLOW = 'fleet[0].jitter.step={ law = "constant", value = 1e308 }'


@pytest.fixture(scope="module")
def cluster():
    if lacking := slurm.missing():
        pytest.skip(f"there is no Slurm here: {lacking}")
    with slurm.running() as running:
        yield running


def submitted(cluster, file, *arguments):
    return cluster.call(
        PYTHON, "-P", "-m", "mcsim", "submit", file, "--slurm",
        "--cache", os.environ["MCSIM_CACHE_DIR"], *arguments, cwd=file.parent,
    )  # fmt: skip


def submit(cluster, file, *arguments):
    """The numbers of the jobs: of the tasks, and of the merge if there is one."""
    return re.findall(r"^job (\d+)", submitted(cluster, file, *arguments), re.MULTILINE)


def written(directory, *, steps, count=50):
    file = directory / "small.toml"
    asked = scenario({"count": count, "jitter": {"step": LOGNORMAL}}, steps=steps, replicates=4)
    file.write_text(asked.replace({"run.engine": "sampled"}).to_toml())
    return file


def logs(directory):
    return {file.name: file.read_text() for file in directory.glob("*.log")}


def same_as_plain(file, output):
    with mcsim.open(output) as found:
        return found.equals(mcsim.run(mcsim.load(file)))


def test_an_array_and_its_merge_are_the_plain_run(cluster, tmp_path):
    file = written(tmp_path, steps=100)
    tasks, merge = submit(cluster, file, "--shards", 5, "--max-array", 3, "--cpus", 2,
                          "--memory", "100M", "--time", "00:10:00")  # fmt: skip
    cluster.wait(merge)
    states = cluster.states()
    assert [states[f"{tasks}_{task}"] for task in (1, 2, 3)] == 3 * ["COMPLETED"]
    assert states[merge] == "COMPLETED", logs(tmp_path / "test.job")
    assert len(list((tmp_path / "test.job" / "parts").glob("?-of-5.nc"))) == 5
    assert same_as_plain(file, tmp_path / "test.nc")


def test_what_is_signalled_goes_on_where_it_stopped(cluster, tmp_path):
    file = written(tmp_path, count=220_000, steps=500_000)
    tasks, merge = submit(cluster, file, "--shards", 2, "-o", "x.nc", "--checkpoint-every", 0.5)
    place = tmp_path / "x.job"
    for task, options in ((1, []), (2, ["--full"])):
        slurm.wait_for((place / "parts" / f"{task}-of-2.nc.checkpoint").exists, 200)
        cluster.call("scancel", *options, "--signal=USR1", f"{tasks}_{task}")
    cluster.wait(merge)
    assert cluster.states()[merge] == "COMPLETED", logs(place)
    for text in (logs(place)[f"task-{task}.log"] for task in (1, 2)):
        assert text.count("stopped at a checkpoint") == 1
        assert text.count("wrote parts/") == 1
    assert same_as_plain(file, tmp_path / "x.nc")


def test_the_exit_code_is_that_of_the_worst_task(cluster, tmp_path):
    file = written(tmp_path, steps=100)
    script = tmp_path / "job.sh"
    for change, code in (([], 0), (["--set", OVERFLOW], 1)):
        script.write_text(
            submitted(cluster, file, "--print", "--shards", 2, "-o", f"{code}.nc", *change)
        )
        cluster.call("sbatch", "--wait", script, cwd=tmp_path, code=code)


def test_a_task_that_fails_takes_the_merge_away(cluster, tmp_path):
    file = written(tmp_path, steps=100)
    tasks, merge = submit(cluster, file, "--shards", 2, "--set", OVERFLOW)
    cluster.wait(merge)
    assert cluster.states()[f"{tasks}_1"] == "FAILED"
    assert cluster.states()[merge] == "CANCELLED"
