"""`mcsim submit`: what its scripts say, and what they do under stand-ins for batch systems."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from oracle import scenario
from standins import PBS, SLURM, environment, put
from warm import PYTHON

import mcsim
from mcsim.cli.scripts import Job, pbs, slurm

LOGNORMAL = {"law": "lognormal", "mean": 1, "cv": 0.05}
HOSTILE = """\
a 'b' "$(touch pwned)"
`touch pwned` %j @end@
#SBATCH --hold
#PBS -h
END_OF_SCENARIO ; touch pwned"""


@pytest.fixture
def standins(tmp_path_factory):
    """A directory of stand-ins, with a log of their calls."""
    directory = tmp_path_factory.mktemp("standins")
    put(directory, SLURM, PBS)
    return directory


@pytest.fixture
def small(tmp_path):
    file = tmp_path / "small.toml"
    file.write_text(
        scenario({"count": 50, "jitter": {"step": LOGNORMAL}}, steps=100, replicates=3).to_toml()
    )
    return file


def submit(*arguments, standins=None, code=0, **keys):
    done = subprocess.run(
        [PYTHON, "-P", "-m", "mcsim", "submit", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=keys.pop("env", environment(standins)),
        **keys,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def job(directory, **changes):
    asked = {
        "name": "small", "command": ("mcsim",), "scenario": 'name = "x"\n',
        "output": directory / "out.nc", "directory": directory, "shards": 7, "tasks": 3,
        "cpus": 4, "restarts": 5,
    }  # fmt: skip
    return Job(**(asked | changes))


def directives(script):
    return [line for line in script.splitlines() if line.startswith(("#SBATCH", "#PBS"))]


def test_a_script_of_slurm_survives_limits_and_preemption(tmp_path):
    found = directives(slurm(job(tmp_path, seconds=5400, memory="4G", partition="p", account="a")))
    assert found == [
        "#SBATCH --job-name=small", "#SBATCH --array=1-3", "#SBATCH --nodes=1",
        "#SBATCH --ntasks=1", "#SBATCH --cpus-per-task=4", "#SBATCH --mem=4G",
        "#SBATCH --time=01:30:00", "#SBATCH --partition=p", "#SBATCH --account=a",
        "#SBATCH --requeue", "#SBATCH --signal=USR1@60", "#SBATCH --open-mode=append",
        "#SBATCH --output=task-%a.log",
    ]  # fmt: skip


def test_a_script_of_pbs_may_be_run_again(tmp_path):
    found = directives(pbs(job(tmp_path, seconds=5400, memory="4G", partition="q", account="a")))
    assert found == [
        "#PBS -N small", "#PBS -J 1-3", "#PBS -l select=1:ncpus=4:mem=4gb",
        "#PBS -l walltime=01:30:00", "#PBS -q q", "#PBS -A a", "#PBS -r y", "#PBS -j oe",
    ]  # fmt: skip


def test_one_shard_is_no_array(tmp_path):
    for write in (slurm, pbs):
        found = "\n".join(directives(write(job(tmp_path, shards=1, tasks=1))))
        assert "array" not in found
        assert "-J" not in found


@pytest.mark.parametrize("write", [slurm, pbs])
@pytest.mark.parametrize("shards", [1, 7])
@pytest.mark.parametrize("text", ["plain", HOSTILE])
def test_scripts_are_clean_to_shellcheck(write, shards, text):
    if shutil.which("shellcheck") is None:
        pytest.skip("apt-get install shellcheck")
    place = Path("/") / text
    for seconds in (None, 3600):
        # Not SC2016: that nothing expands in what is quoted is meant.
        script = write(
            job(
                place,
                command=(text, "-m", text),
                cache=place,
                scenario=f"{text}\n",
                shards=shards,
                tasks=shards,
                seconds=seconds,
            )
        )
        done = subprocess.run(
            ["shellcheck", "--exclude=SC2016", "-"],
            input=script,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("system", ["slurm", "pbs"])
def test_names_are_data_and_the_merge_is_the_plain_run(tmp_path, standins, small, system):
    place = tmp_path / HOSTILE
    place.mkdir()
    named = small.read_text().replace('name = "test"', "name = '$(touch pwned) `id` END \\'")
    assert named != small.read_text()
    small.write_text(named)
    found = submit(
        small, f"--{system}", "--shards", 3, "--max-array", 2, "--job-name", HOSTILE,
        "-o", place / "$(touch pwned) out.nc", "--directory", place / "$HOME 'job",
        "--cache", os.environ["MCSIM_CACHE_DIR"], "--restarts", 0, standins=standins, cwd=tmp_path,
    )  # fmt: skip
    assert "note: the job is named a-b-touch-pwned" in found.stderr
    log, output = ((standins / name).read_text() for name in ("log", "output"))
    assert not (standins / "failed").exists(), output
    assert len(log.splitlines()) == (2 if system == "pbs" else 5), log
    assert not list(tmp_path.rglob("pwned"))
    with (
        mcsim.open(place / "$(touch pwned) out.nc") as merged,
        mcsim.run(mcsim.load(small)) as plain,
    ):
        assert merged.equals(plain)


STAND_IN = """\
echo "$*" >>done
exit "${CODE:-0}"
"""


@pytest.fixture
def call(tmp_path, standins):
    """Runs the script of a job whose mcsim is a stand-in, as a task; what mcsim was asked."""
    program = tmp_path / "mcsim.sh"
    program.write_text(STAND_IN)

    def run(write, variables, code=0, **changes):
        asked = job(tmp_path, command=("bash", str(program)), **changes)
        (tmp_path / "job.sh").write_text(write(asked))
        (tmp_path / "done").unlink(missing_ok=True)
        done = subprocess.run(
            ["bash", tmp_path / "job.sh"],
            env=environment(standins) | variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        return (tmp_path / "done").read_text().splitlines(), done.stderr

    return run


@pytest.mark.parametrize(
    ("write", "index"), [(slurm, "SLURM_ARRAY_TASK_ID"), (pbs, "PBS_ARRAY_INDEX")]
)
def test_more_shards_than_tasks_are_each_done_once(call, write, index):
    lines = [line for task in "123" for line in call(write, {index: task})[0]]
    shards = [line.split("--shard ")[1].split()[0] for line in lines]
    assert sorted(shards) == [f"{number}/7" for number in range(1, 8)]
    assert all("-o parts/{shard}-of-7.nc" in line and "--resume" in line for line in lines)


def test_a_task_of_slurm_uses_the_threads_that_it_was_given(call):
    lines, _ = call(slurm, {"SLURM_ARRAY_TASK_ID": "1", "SLURM_CPUS_PER_TASK": "3"})
    assert all("--threads 3 " in line for line in lines)
    lines, _ = call(pbs, {"PBS_ARRAY_INDEX": "1", "NCPUS": "2"})
    assert all("--threads 2 " in line for line in lines)


ARRAY = {
    "SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_JOB_ID": "70", "SLURM_JOB_ID": "70",
    "SLURM_RESTART_COUNT": "4", "CODE": "85",
}  # fmt: skip


def test_only_the_task_that_stopped_is_requeued(call, standins):
    call(slurm, ARRAY, code=85)
    assert (standins / "log").read_text().splitlines()[-1].strip() == "scontrol requeue 70_2"
    alone = {"SLURM_JOB_ID": "71", "CODE": "85"}
    call(slurm, alone, code=85, shards=1, tasks=1)
    assert (standins / "log").read_text().splitlines()[-1].strip() == "scontrol requeue 71"


def test_a_signal_that_came_before_mcsim_listened_is_one_too(call, standins):
    call(slurm, ARRAY | {"CODE": "138"}, code=85)
    assert (standins / "log").read_text().splitlines()[-1].strip() == "scontrol requeue 70_2"


def test_no_shard_is_begun_when_the_limit_is_near(call, standins, tmp_path):
    end = int(time.time()) + 58
    with pytest.raises(FileNotFoundError, match="done"):
        call(slurm, ARRAY | {"SLURM_JOB_END_TIME": str(end), "CODE": "0"}, code=85)
    assert (standins / "log").read_text().splitlines()[-1].strip() == "scontrol requeue 70_2"
    lines, _ = call(slurm, ARRAY | {"SLURM_JOB_END_TIME": str(end + 600), "CODE": "0"})
    assert len(lines) == 2


@pytest.mark.parametrize("index", ["4", "0", "x", ""])
def test_a_task_that_is_none_is_refused(call, index):
    if index == "":
        assert call(slurm, {"SLURM_ARRAY_TASK_ID": index})
        return
    with pytest.raises(FileNotFoundError, match="done"):
        call(slurm, {"SLURM_ARRAY_TASK_ID": index}, code=2)


def test_restarts_have_an_end(call, standins):
    _, errors = call(slurm, ARRAY | {"SLURM_RESTART_COUNT": "5"}, code=85)
    assert "started again 5 times already" in errors
    assert "scontrol" not in (standins / "log").read_text()


@pytest.mark.parametrize("write", [slurm, pbs])
def test_a_failure_is_passed_on_and_not_tried_again(call, standins, write):
    lines, _ = call(write, {"CODE": "1", "SLURM_JOB_ID": "7"}, code=1)
    assert len(lines) == 1
    assert "scontrol" not in (standins / "log").read_text()


def test_kernels_are_kept_for_the_task_and_taken_away(tmp_path, standins):
    program = tmp_path / "mcsim.sh"
    program.write_text('echo "$MCSIM_CACHE_DIR" >>caches; ls -d "$MCSIM_CACHE_DIR"')
    (tmp_path / "job.sh").write_text(slurm(job(tmp_path, command=("bash", str(program)))))
    subprocess.run(
        ["bash", tmp_path / "job.sh"],
        env=environment(standins) | {"SLURM_ARRAY_TASK_ID": "1", "TMPDIR": str(tmp_path)},
        check=True,
    )
    (cache,) = {Path(line) for line in (tmp_path / "caches").read_text().splitlines()}
    assert cache.parent == tmp_path
    assert not cache.exists()


def test_a_task_of_pbs_is_told_in_time_and_once(tmp_path, standins):
    program = tmp_path / "mcsim.sh"
    told = "trap 'echo told >>told; sleep 0.3; kill $!; exit 85' USR1; sleep 20 & wait; wait"
    program.write_text(told)
    script = pbs(job(tmp_path, command=("bash", str(program)), seconds=71))
    # At least 10 s must be left for a start, which may take some itself.
    (tmp_path / "job.sh").write_text(script.replace("seconds=11", "seconds=13"))
    done = subprocess.run(
        ["bash", tmp_path / "job.sh"], env=environment(standins), capture_output=True, check=False
    )
    assert done.returncode == 85
    assert (tmp_path / "told").read_text() == "told\n"


def test_rounds_of_pbs_wait_for_each_other(tmp_path, standins):
    (tmp_path / "job.sh").write_text(pbs(job(tmp_path, command=("echo",), restarts=1)))
    done = subprocess.run(
        ["bash", tmp_path / "job.sh", "submit"],
        env=environment(standins),
        capture_output=True,
        text=True,
        check=True,
    )
    first, second, merge = (standins / "log").read_text().splitlines()
    assert "depend" not in first
    assert "-W depend=afterany:1[].server" in second
    assert "-W depend=afterok:2[].server" in merge
    assert done.stdout.splitlines()[-1] == "job 3[].server: the merge, after them"
    merged = (standins / "output").read_text().splitlines()[-1]
    assert merged == f"merge parts/*-of-7.nc -o {tmp_path}/out.nc"


@pytest.mark.parametrize(("system", "program"), [("slurm", "sbatch"), ("pbs", "qsub")])
def test_without_a_batch_system_the_way_out_is_named(tmp_path, small, system, program):
    empty = environment() | {"PATH": str(tmp_path)}
    done = submit(small, f"--{system}", code=2, env=empty, cwd=tmp_path)
    assert done.stderr == f"mcsim: there is no {program} here; --print writes the script\n"
    done = submit(small, f"--{system}", "--print", env=empty, cwd=tmp_path)
    assert done.stdout.startswith("#!/bin/bash\n")
    assert os.listdir(tmp_path) == ["small.toml"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--slurm or --pbs"),
        (["--slurm", "--partition", "a\n#SBATCH --hold"], "is no name"),
        (["--slurm", "--account", "$(id)"], "is no name"),
        (["--slurm", "--memory", "4 G"], "as 4G"),
        (["--slurm", "--time", "1h"], "HH:MM:SS"),
        (["--slurm", "--time", "00:01:00"], "is too short"),
        (["--slurm", "--shards", "0"], "0 is not in the range"),
        (["--slurm", "-o", "x-{shard}.nc"], "without {shard}"),
        (["--slurm", "-o", "/"], "is a directory"),
    ],
)  # fmt: skip
def test_what_a_script_cannot_say_is_refused(small, arguments, message):
    assert message in submit(small, *arguments, "--print", code=2).stderr


def test_a_run_with_a_target_is_not_divided(small):
    target = ["--set", "run.target_relative_error=0.01", "--print", "--slurm"]
    found = submit(small, *target, "--shards", 2, code=2).stderr
    assert "run.target_relative_error: a run that goes on until this is reached" in found
    submit(small, *target)


def test_the_scenario_is_that_of_the_submission(tmp_path, standins, small):
    given = ["--slurm", "-o", tmp_path / "x.nc", "--cache", os.environ["MCSIM_CACHE_DIR"]]
    submit(small, *given, standins=standins)
    frozen = tmp_path / "x.job" / "scenario.toml"
    assert mcsim.load(frozen) == mcsim.load(small)
    before = frozen.read_bytes()
    found = submit(small, *given, "--set", "run.steps=7", standins=standins, code=2).stderr
    assert "x.job: holds the shards of another scenario" in found
    script = tmp_path / "other.sh"
    script.write_text(submit(small, *given, "--set", "run.steps=7", "--print").stdout)
    done = subprocess.run(
        ["bash", script, "submit"],
        env=environment(standins),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "holds the shards of another scenario" in done.stderr
    assert frozen.read_bytes() == before


def test_the_command_line_stays_light():
    code = "import mcsim.cli, sys; print([m for m in ('numpy', 'xarray') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
