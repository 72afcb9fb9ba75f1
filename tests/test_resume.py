"""Real processes that are killed, signalled, run twice, and go on to the same bits."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import time
from pathlib import Path

import pytest
import xarray as xr
from oracle import scenario
from warm import MCSIM

import mcsim
from mcsim.batch import Shard
from mcsim.cli.shards import shards
from mcsim.results import Checkpoints, read_part

LOGNORMAL = {"law": "lognormal", "mean": 1, "cv": 0.05}


@pytest.fixture
def asked(tmp_path):
    """A scenario of a second: steps of several blocks of each of four clusters."""
    file = tmp_path / "asked.toml"
    jitter = {"persistent": LOGNORMAL, "step": LOGNORMAL}
    fleets = [{"count": 200_000, "jitter": jitter}, {"count": 20_000, "jitter": jitter}]
    one = scenario(*fleets, steps=50_000, replicates=4)
    file.write_text(one.replace({"run.engine": "sampled"}).to_toml())
    return file


def start(*arguments, **keys):
    command = [MCSIM, *map(str, arguments)]
    return subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **keys
    )


def call(*arguments, code=0, **keys):
    with start(*arguments, **keys) as process:
        output, errors = process.communicate(timeout=300)
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    return output, errors


def stamp(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


def wait_for(path: Path, process) -> None:
    """Until a file is there."""
    deadline = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def assert_same(one: Path, other: Path) -> None:
    with mcsim.open(one) as a, mcsim.open(other) as b:
        xr.testing.assert_identical(a.load().drop_attrs(), b.load().drop_attrs())


def test_a_run_killed_twenty_times_is_the_run_that_was_not(asked, tmp_path):
    output = tmp_path / "out.nc"
    longer = ["run", asked, "--set", "run.steps=150000"]
    chance = random.Random(4)
    checkpoints = Checkpoints(output)
    done = 0
    for number in range(20):
        process = start(
            *longer, "-o", output, "--resume", "--checkpoint-every", 0.05,
            "--threads", 1 + number % 3,
        )  # fmt: skip
        if number % 2:
            before = stamp(checkpoints.newest)
            while stamp(checkpoints.newest) == before and process.poll() is None:
                time.sleep(0.01)
        time.sleep(chance.uniform(0.0, 0.2 if number % 2 else 1.4))
        process.kill()
        process.communicate()
        assert process.returncode in (-9, 0)
        assert not output.exists() or process.returncode == 0 or not checkpoints.newest.exists()
        found = checkpoints.load()
        if found is not None:
            assert found[1].tally.steps >= done
            done = found[1].tally.steps
    assert done > 0
    call(*longer, "-o", output, "--resume")
    whole = tmp_path / "whole.nc"
    call(*longer, "-o", whole)
    assert_same(output, whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["asked.toml", "out.nc", "whole.nc"]
    before = output.read_bytes()
    assert "is complete already" in call(*longer, "-o", output, "--resume")[1]
    assert output.read_bytes() == before


@pytest.mark.parametrize("number", ["INT", "TERM", "USR1", "USR2", "HUP"])
def test_a_signal_ends_a_run_at_a_checkpoint(asked, tmp_path, number):
    output = tmp_path / "out.nc"
    checkpoint = tmp_path / "out.nc.checkpoint"
    endless = ["--set", "run.steps=100000000", "--force", "--threads", 1]
    seconds = []
    # Once more where the disk was busy for others.
    while len(seconds) < 2 and not (seconds and seconds[-1] < 5):
        checkpoint.unlink(missing_ok=True)
        options = ["-o", output, "--checkpoint-every", 0.1, *endless]
        process = start("run", asked, *options)
        wait_for(checkpoint, process)
        begun = time.monotonic()
        # Batch systems send it to the process and to its group.
        process.send_signal(getattr(signal, f"SIG{number}"))
        process.send_signal(getattr(signal, f"SIG{number}"))
        try:
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
        seconds.append(time.monotonic() - begun)
        assert process.returncode == 85, errors
        assert "stopped at a checkpoint" in errors
    assert seconds[-1] < 5
    assert not output.exists()
    assert not list(tmp_path.glob(".*.tmp"))
    shown, _ = call("show", checkpoint)
    assert "partial" in shown


def test_a_signal_before_anything_is_done_says_to_run_again(asked, tmp_path):
    process = start("run", asked, "-o", tmp_path / "out.nc")
    time.sleep(0.3)
    process.terminate()
    _, errors = process.communicate(timeout=30)
    assert process.returncode in (85, -15), errors
    assert not (tmp_path / "out.nc").exists()


def test_a_second_writer_is_refused_and_harms_nothing(asked, tmp_path):
    output = tmp_path / "out.nc"
    first = start("run", asked, "-o", output, "--set=run.steps=1000000", "--checkpoint-every=0.1")
    wait_for(tmp_path / "out.nc.checkpoint", first)
    _, errors = call("run", asked, "-o", output, "--set", "run.seed=9", code=1)
    assert f"{output}: another run is about to write this file" in errors
    first.terminate()
    _, errors = first.communicate(timeout=30)
    assert first.returncode == 85, errors
    assert Checkpoints(output).load()[1].scenario.run.seed != 9


def test_what_a_killed_run_left_is_cleaned_up(asked, tmp_path):
    output = tmp_path / "out.nc"
    stale = [tmp_path / ".out.nc.123.abcd.tmp", tmp_path / ".out.nc.checkpoint.5.ef.tmp"]
    others = tmp_path / ".out.ncx.5.ef.tmp"
    for path in (*stale, others):
        path.write_text("half")
    call("run", asked, "-o", output, "--set", "run.steps=10")
    assert not any(path.exists() for path in stale)
    assert others.exists()


def test_resume_with_another_scenario_names_the_first_key(asked, tmp_path):
    output = tmp_path / "out.nc"
    call("run", asked, "-o", output, "--set", "run.steps=10")
    before = output.read_bytes()
    changed = ["--set", "run.steps=20", "--set", "fleet[1].count=7"]
    _, errors = call("run", asked, "-o", output, "--resume", *changed, code=2)
    assert "fleet[1].count" in errors
    assert "20000" in errors
    assert output.read_bytes() == before
    _, errors = call("run", asked, "-o", output, "--resume", "--set", "run.steps=2000")
    assert "going on: " in errors
    with mcsim.open(output) as found:
        assert found.attrs["steps_done"] == 2000


def test_a_damaged_checkpoint_is_not_started_over(asked, tmp_path):
    (tmp_path / "out.nc.checkpoint").write_bytes(b"mcsim checkpoint\n" + bytes(500))
    _, errors = call("run", asked, "-o", tmp_path / "out.nc", "--resume", code=2)
    assert "out.nc.checkpoint: has no sums of mcsim at its end" in errors
    assert "without --resume the run begins anew" in errors


def test_a_damaged_checkpoint_beside_a_good_one_is_told(asked, tmp_path):
    output, small = tmp_path / "out.nc", ["--set", "run.steps=2000", "--set", "fleet[0].count=50"]
    call("run", asked, *small, "-o", output)
    Checkpoints(output).save(read_part(output))
    Checkpoints(output).save(read_part(output))
    Checkpoints(output).newest.write_bytes(b"mcsim checkpoint\n" + bytes(500))
    output.unlink()
    _, errors = call("run", asked, *small, "-o", output, "--resume")
    assert "note: " in errors
    assert "has no sums of mcsim at its end" in errors
    assert "going on: 8,000 steps are done" in errors


def test_a_whole_checkpoint_becomes_the_result_that_could_not_be_written(asked, tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    shard = ["run", asked, "--set", "run.steps=9000", "--set", "fleet[0].count=50",
             "--shard", "2/2", "-o", tmp_path / "2.nc"]  # fmt: skip
    _, errors = call(*shard, code=1, preexec_fn=limit)
    assert "2.nc.checkpoint, from which --resume goes on" in errors
    assert not (tmp_path / "2.nc").exists()
    _, errors = call(*shard, "--resume")
    assert "wrote " in errors
    assert read_part(tmp_path / "2.nc").shards == ((2, 2),)
    assert sorted(os.listdir(tmp_path)) == ["2.nc", "asked.toml"]


@pytest.mark.parametrize("place", ["/dev/full", "nobody"])
def test_a_log_that_cannot_be_written_ends_no_run(asked, tmp_path, place):
    output = tmp_path / "out.nc"
    options = ["run", asked, "--set", "fleet[0].count=50", "-o", output, "--resume"]
    call(*options, "--set", "run.steps=10")
    if place == "nobody":
        reading, writing = os.pipe()
        os.close(reading)
    else:
        writing = os.open(place, os.O_WRONLY)
    longer = [MCSIM, *map(str, options), "--set", "run.steps=2000"]
    done = subprocess.run(longer, stdout=subprocess.PIPE, stderr=writing, check=False, timeout=100)
    os.close(writing)
    assert done.returncode == 0
    assert b"what a step takes" in done.stdout
    with mcsim.open(output) as found:
        assert found.attrs["steps_done"] == 2000


def test_another_shard_is_not_replaced(asked, tmp_path):
    small = ["--set", "run.steps=3000", "--set", "fleet[0].count=50", "-o", tmp_path / "x.nc"]
    call("run", asked, *small, "--shard", "1/2")
    _, errors = call("run", asked, *small, "--shard", "2/2", code=2)
    assert "x.nc: holds the shard 1/2 of this run" in errors
    assert read_part(tmp_path / "x.nc").shards == ((1, 2),)
    call("run", asked, *small, "--shard", "1/2")


def test_a_run_goes_on_where_no_checkpoint_can_be_written(asked, tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    _, errors = call(
        "run",
        asked,
        "-o",
        tmp_path / "out.nc",
        "--checkpoint-every",
        0.01,
        code=1,
        preexec_fn=limit,
    )
    assert "no checkpoint: " in errors
    assert "cannot write the result" in errors
    assert os.listdir(tmp_path) == ["asked.toml"]


def test_an_output_directory_that_vanishes_is_said(asked, tmp_path):
    place = tmp_path / "gone"
    place.mkdir()
    longer = ["--set", "run.steps=100000"]
    process = start("run", asked, "-o", place / "out.nc", "--checkpoint-every", 0.05, *longer)
    wait_for(place / "out.nc.checkpoint", process)
    for path in [*place.iterdir()]:
        path.unlink()
    place.rmdir()
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "no checkpoint: " in errors
    assert "No such file or directory" in errors
    assert "Traceback" not in errors


def test_shards_from_the_command_line_merge(asked, tmp_path):
    small = ["--set", "run.steps=3000", "--set", "fleet[0].count=50"]
    for number in (2, 1, 3):
        call("run", asked, *small, "--shard", f"{number}/3", "-o", tmp_path / "{shard}.nc")
    files = [tmp_path / f"{number}.nc" for number in (3, 1, 2)]
    _, errors = call("merge", *files[:2], "-o", tmp_path / "all.nc", code=2)
    assert "shard 2/3 (steps " in errors
    assert not (tmp_path / "all.nc").exists()
    call("merge", *files, "-o", tmp_path / "all.nc")
    call("run", asked, *small, "-o", tmp_path / "plain.nc")
    assert_same(tmp_path / "all.nc", tmp_path / "plain.nc")
    again = call("run", asked, *small, "--shard=2/3", "-o", files[2], "--resume")[1]
    assert "is complete already" in again
    assert read_part(files[2]).shards == ((2, 3),)


SLURM = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_MAX": "4",
         "SLURM_ARRAY_TASK_COUNT": "4"}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "environment", "expected"),
    [
        ("2/7", {}, ["2/7"]),
        ("auto", SLURM, ["3/4"]),
        ("auto/9", SLURM, ["3/9", "7/9"]),
        ("auto", {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "7"}, ["3/7"]),
        ("auto", {"LSB_JOBINDEX": "2", "LSB_JOBINDEX_END": "5"}, ["2/5"]),
        ("auto", {"SGE_TASK_ID": "4", "SGE_TASK_FIRST": "2", "SGE_TASK_LAST": "8",
                  "SGE_TASK_STEPSIZE": "2"}, ["2/4"]),
    ],
)  # fmt: skip
def test_shards_are_those_of_the_task(text, environment, expected):
    assert [str(shard) for shard in shards(text, environment)] == expected
    assert all(isinstance(shard, Shard) for shard in shards(text, environment))


@pytest.mark.parametrize(
    ("text", "environment", "said"),
    [
        ("0/7", {}, "numbered from 1"),
        ("8/7", {}, "numbered from 1"),
        ("1/0", {}, "numbered from 1"),
        ("1/1000001", {}, "at most 1,000,000"),
        ("1-3/7", {}, "neither number/count"),
        ("١/٣", {}, "neither number/count"),
        ("auto", {"SLURM_ARRAY_TASK_ID": "1"}, "SLURM_ARRAY_TASK_MAX"),
        ("auto", {"LSB_JOBINDEX": "1"}, "LSB_JOBINDEX_END"),
        ("auto", {"SGE_TASK_ID": "1"}, "SGE_TASK_LAST"),
        ("auto", SLURM | {"SLURM_ARRAY_TASK_ID": "-3"}, "array without gaps"),
        ("auto", SLURM | {"SLURM_ARRAY_TASK_ID": "1_0"}, "array without gaps"),
        ("auto", {}, "no task of an array"),
        ("auto", {"SGE_TASK_ID": "undefined"}, "no task of an array"),
        ("auto", {"PBS_ARRAY_INDEX": "3"}, "PBS does not say"),
        ("auto", SLURM | {"SLURM_ARRAY_TASK_COUNT": "2"}, "array without gaps"),
        ("auto", SLURM | {"SLURM_ARRAY_TASK_ID": "x"}, "array without gaps"),
        ("auto/3", SLURM, "there are 4 tasks"),
    ],
)
def test_shards_that_cannot_be_are_refused(text, environment, said):
    with pytest.raises(Exception, match=said):
        shards(text, environment)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["run.steps=4000000000", "run.keep=steps"], ["of memory", "of disk"]),
        (["run.steps=4000000000", "run.replicates=500"], ["which is more than a day"]),
    ],
)
def test_what_is_beyond_the_machine_is_refused_before_it_begins(asked, tmp_path, changes, said):
    options = [part for change in changes for part in ("--set", change)]
    begun = time.process_time()
    _, errors = call("run", asked, "-o", tmp_path / "out.nc", *options, code=2)
    assert all(one in errors for one in said)
    assert "--force runs it all the same" in errors
    assert time.process_time() - begun < 2
    assert "too large: " in call("check", asked, *options)[0]


def test_workers_need_memory_too(asked, tmp_path):
    many = ("--executor", "processes", "--workers", 4096)
    _, errors = call("run", asked, "-o", tmp_path / "out.nc", *many, code=2)
    assert "a run and its 4096 worker(s) need about" in errors
    assert "take fewer workers, devices or replicates" in errors
