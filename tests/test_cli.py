"""The command line as people use it: real processes, streams, exit codes, killed runs."""

from __future__ import annotations

import os
import pty
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from oracle import scenario
from warm import MCSIM, REAL

import mcsim

LOGNORMAL = {"law": "lognormal", "mean": 1, "cv": 0.05}


def call(*arguments, **keys):
    return subprocess.run(
        [MCSIM, *map(str, arguments)], capture_output=True, text=True, timeout=120, **keys
    )


@pytest.fixture
def small(tmp_path):
    file = tmp_path / "small.toml"
    file.write_text(scenario({"count": 50, "jitter": {"step": LOGNORMAL}}, steps=100).to_toml())
    return file


def long(tmp_path):
    """A scenario that takes minutes."""
    file = tmp_path / "long.toml"
    jitter = {"step": LOGNORMAL}
    asked = scenario({"count": 220_000, "jitter": jitter}, steps=10_000_000)
    file.write_text(asked.to_toml())
    return file


def test_run_writes_the_file_and_prints_the_summary_on_stdout(small, tmp_path):
    done = call("run", small, "-o", tmp_path / "out.nc")
    assert done.returncode == 0, done.stderr
    assert "effective GPUs of 50" in done.stdout
    assert done.stderr == f"wrote {tmp_path}/out.nc\n"
    with mcsim.open(tmp_path / "out.nc") as found:
        assert found.sizes["replicate"] == 1


def test_the_default_output_is_named_after_the_scenario(small, tmp_path):
    done = call("run", small, "--set", "name=../a b/c", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a-b-c.nc").exists()
    assert (
        call("run", small, "--set", "name=../a b/c", cwd=tmp_path).stderr == "replaced a-b-c.nc\n"
    )


def test_options_change_the_scenario(small, tmp_path):
    done = call(
        "run", small, "-o", tmp_path / "x.nc", "--seed", 2**64 - 1, "--threads", 3,
        "--engine", "sampled", "--set", "run.steps=7", "--set", "fleet.group-0.compute=2 s",
        "--set", 'fleet[0].jitter.step={ law = "constant", value = 1 }',
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with mcsim.open(tmp_path / "x.nc") as found:
        assert int(found.attrs["seed"]) == 2**64 - 1
        assert found.attrs["steps_done"] == 7
        assert found.step_time_mean.item() == 2.0


def test_a_scenario_on_standard_input(small, tmp_path):
    done = call("run", "-", "-o", tmp_path / "x.nc", input=small.read_text())
    assert done.returncode == 0, done.stderr


def test_a_result_runs_again_bit_for_bit(small, tmp_path):
    call("run", small, "-o", tmp_path / "a.nc")
    done = call("run", tmp_path / "a.nc", "-o", tmp_path / "b.nc", "--threads", 1)
    assert done.returncode == 0, done.stderr
    with mcsim.open(tmp_path / "a.nc") as a, mcsim.open(tmp_path / "b.nc") as b:
        assert a.equals(b)
        assert a.attrs["scenario_hash"] == b.attrs["scenario_hash"]


def test_a_result_without_a_self_check_is_written(small, tmp_path):
    """What is not a number reads back as what is not a number."""
    atoms = '{law = "mixture", parts = [{weight = 0.5, law = "constant", value = 1},'
    atoms += ' {weight = 0.5, law = "constant", value = 2}]}'
    done = call("run", small, "-o", tmp_path / "a.nc", "--set", f"fleet[0].jitter.step={atoms}")
    assert done.returncode == 0, done.stderr
    assert "several devices can be the last together" in done.stdout
    with mcsim.open(tmp_path / "a.nc") as dataset:
        assert dataset.attrs["self_check"] == "not possible"
        assert np.isnan(dataset.attrs["self_check_deviation"])


def test_show_prints_what_run_printed(small, tmp_path):
    ran = call("run", small, "-o", tmp_path / "a.nc")
    shown = call("show", tmp_path / "a.nc")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout == ran.stdout


def test_plot_draws_a_picture(small, tmp_path):
    call("run", small, "-o", tmp_path / "a.nc", "--set", "run.replicates=2")
    done = call("plot", tmp_path / "a.nc")
    assert (done.returncode, done.stdout) == (0, "")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    for wrong in (tmp_path / "a.xyz", tmp_path, tmp_path / "nowhere" / "a.png"):
        assert call("plot", tmp_path / "a.nc", "-o", wrong).returncode == 2
    assert call("plot", tmp_path / "missing.nc").returncode == 2


def test_check_and_dry_run_say_what_is_asked_and_write_nothing(tmp_path):
    checked = call("check", "colossus-1", cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr
    for word in ("220,000 devices", "3 group(s)", "draws", "expected", "memory", "hash"):
        assert word in checked.stdout
    assert call("run", "colossus-1", "--dry-run", cwd=tmp_path).stdout == checked.stdout
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "name", ["colossus-1", "colossus-1-refreshed", "one-generation", "three-campus"]
)
def test_bundled_scenarios_run_by_name(name, tmp_path):
    done = call("run", name, "--set", "run.steps=20", "--set", "run.replicates=2",
                "-o", tmp_path / "x.nc")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert name in done.stdout


def test_the_module_is_the_command():
    command = [sys.executable, "-m", "mcsim", "list", "laws"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == call("list", "laws").stdout


def test_list_shows_all_there_is():
    whole = call("list").stdout
    for word in ("colossus-1", "three-campus", "h100-sxm", "v100-sgemm", "fleet[].count"):
        assert word in whole
    devices = call("list", "devices").stdout
    assert devices in whole
    assert "NVIDIA" in devices
    assert "989" in devices
    assert call("list", "planets").returncode == 2


def test_help_is_quick_and_imports_nothing_heavy():
    code = (
        "import sys\nfrom mcsim.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print([m for m in ('numba', 'xarray', 'numpy', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")
    assert "Usage:" in done.stdout


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (".", "is a directory"),
        ("nowhere/x.nc", "there is no directory"),
        ("/dev/null", "is not a regular file"),
        ("-", "results are files"),
        ("x" * 300, "cannot be written: File name too long"),
    ],
)
def test_outputs_that_cannot_be_are_refused_before_the_run(small, tmp_path, output, message):
    done = call("run", small, "-o", output, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_failing_run_leaves_the_old_result(small, tmp_path):
    output = tmp_path / "x.nc"
    call("run", small, "-o", output)
    before = output.read_bytes()
    done = call("run", small, "-o", output, "--set", "fleet[0].count=-1")
    assert done.returncode == 2
    assert output.read_bytes() == before


def limited(size):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    return limit


@pytest.mark.parametrize("size", [0, 1000, 20_000])
def test_a_limit_on_file_sizes_loses_nothing(small, tmp_path, size):
    output = tmp_path / "out.nc"
    call("run", small, "-o", output)
    before = output.read_bytes()
    done = call(
        "run", small, "-o", output, "--set", "run.keep=steps", "--set", "run.steps=50000",
        preexec_fn=limited(size),
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert f"{output}: cannot write the result (" in done.stderr
    assert "bytes" in done.stderr
    assert "Traceback" not in done.stderr
    assert output.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["out.nc", "small.toml"]


def test_a_full_disk_loses_nothing(small, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("no right to mount a small file system")
    try:
        output = disk / "out.nc"
        assert call("run", small, "-o", output).returncode == 0
        before = output.read_bytes()
        asked = ["run", small, "-o", output, "--set=run.keep=steps", "--set=run.steps=200000"]
        refused = call(*asked)
        assert refused.returncode == 2
        assert f"of disk, and {disk} has" in refused.stderr
        done = call(*asked, "--force")
        assert done.returncode == 1, done.stderr
        assert f"{output}: cannot write the result (" in done.stderr
        assert "no space left" in done.stderr
        assert output.read_bytes() == before
        assert os.listdir(disk) == ["out.nc"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_directory_without_the_right_to_write_is_refused_before_the_run(small, tmp_path):
    if os.getuid() == 0:
        pytest.skip("root may write everywhere")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    done = call("run", small, "-o", closed / "x.nc")
    assert done.returncode == 2
    assert "cannot write in" in done.stderr


@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_killed_run_leaves_the_old_result_and_no_half_one(small, tmp_path, kill):
    output = tmp_path / "out.nc"
    call("run", small, "-o", output)
    before = output.read_bytes()
    options = ["-o", output, "--checkpoint-every", "0.1"]
    process = subprocess.Popen(
        [MCSIM, "run", long(tmp_path), *options], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "out.nc.checkpoint").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    start = time.monotonic()
    process.send_signal(kill)
    _, errors = process.communicate(timeout=30)
    assert time.monotonic() - start < 5
    assert process.returncode == (85 if kill != signal.SIGKILL else -9)
    assert "Traceback" not in errors
    assert output.read_bytes() == before
    left = {name for name in os.listdir(tmp_path) if not name.startswith(".")}
    left.discard("out.nc.checkpoint.previous")
    assert left == {"long.toml", "out.nc", "out.nc.checkpoint", "small.toml"}
    if kill != signal.SIGKILL:
        assert "stopped at a checkpoint" in errors
        assert not list(tmp_path.glob(".*.tmp"))


def size_of(file):
    """Its bytes; none where it is gone."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_while_it_writes_ends_at_once(small, tmp_path, kill):
    output = tmp_path / "out.nc"
    output_before = call("run", small, "-o", output).returncode, output.read_bytes()
    process = subprocess.Popen(
        [MCSIM, "run", small, "-o", output, "--set", "fleet[0].count=1",
         "--set", "run.steps=4000000", "--set", "run.keep=steps"],
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not any(size_of(file) for file in tmp_path.glob(".out.nc.*.tmp")):
        assert process.poll() is None, "it was through before it could be stopped"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(kill)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 85
    assert "stopped at a checkpoint" in errors
    assert (0, output.read_bytes()) == output_before
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ('fleet[0].jitter.step={ law = "constant", value = 1e308 }', "a step takes 1e+308 s"),
        ('fleet[0].jitter.step={ law = "weibull", scale = 1, shape = 0.01 }', "no mean is formed"),
        ('fleet[0].jitter.persistent={ law = "constant", value = 1e308 }', "no mean is formed"),
    ],
)
def test_times_that_overflow_fail_in_one_line(small, tmp_path, change, message):
    done = call("run", small, "-o", tmp_path / "x.nc", "--set", change)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Warning" not in done.stderr
    assert not (tmp_path / "x.nc").exists()


def test_what_was_perhaps_not_meant_is_noted(small, tmp_path):
    law = 'fleet[0].jitter.step={ law = "normal", mean = 0, sd = 1 }'
    done = call("run", small, "-o", tmp_path / "x.nc", "--set", law, "--set", "workload.gradient=1")
    assert done.returncode == 0
    assert "note: step of all is negative in 50 % of its draws" in done.stderr
    assert "note: the gradient costs nothing" in done.stderr
    assert "note: " in call("check", small, "--set", law).stdout


def test_a_scenario_is_not_replaced_by_its_result(small):
    before = small.read_bytes()
    done = call("run", small, "-o", small)
    assert done.returncode == 2
    assert "is no result" in done.stderr
    assert small.read_bytes() == before


def test_a_full_standard_output_is_one_line():
    with open("/dev/full", "w") as full:
        done = subprocess.run([REAL, "list"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reduced_result_is_no_whole_one(small, tmp_path):
    call("run", small, "-o", tmp_path / "a.nc")
    with mcsim.open(tmp_path / "a.nc") as found:
        mcsim.write(found.mean("replicate", keep_attrs=True), tmp_path / "b.nc")
    done = call("show", tmp_path / "b.nc")
    assert done.returncode == 1
    assert "is not a whole result" in done.stderr


COLLECTIVE = ["collective", "all-reduce", "--payload", "1GB", "--level", "8,1us,1GB/s"]


@pytest.mark.parametrize("arguments", [["list"], ["check", "colossus-1"], COLLECTIVE])
def test_a_closed_pipe_is_no_traceback(arguments):
    command = f"{REAL} {' '.join(arguments)} | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_a_closed_stdout_still_writes_the_result(small, tmp_path):
    command = f"{REAL} run {small} -o {tmp_path}/x.nc >&-"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert (tmp_path / "x.nc").exists()


def test_progress_redraws_on_a_terminal_and_cleans_up(small, tmp_path):
    try:
        ours, theirs = pty.openpty()
    except OSError:
        pytest.skip("there are no pseudo-terminals here")
    process = subprocess.Popen(
        [MCSIM, "run", small, "--set", "fleet[0].count=220000", "--set", "run.steps=100000",
         "--engine", "sampled", "-o", tmp_path / "x.nc"],
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    while True:
        try:
            more = os.read(ours, 4096)
        except OSError:
            break
        seen += more
        if not more:
            break
    os.close(ours)
    assert process.wait(60) == 0
    assert b"\r" in seen
    assert b"of 100,000 steps" in seen
    assert seen.endswith(b"x.nc\r\n")


def test_progress_is_sparse_in_a_log(small, tmp_path):
    done = call("run", small, "--set", "run.steps=300000", "-o", tmp_path / "x.nc")
    assert "\r" not in done.stderr
    assert done.stderr.count("\n") <= 2


def test_wrong_use_exits_with_2(small):
    for arguments in (
        ["run"],
        ["run", small, "--set", "run.steps"],
        ["run", small, "--threads", "0"],
        ["run", small, "--unknown"],
        ["check", "colossus-2"],
        ["show", "missing.nc"],
        ["unknown"],
    ):
        done = call(*arguments)
        assert done.returncode == 2, arguments
        assert done.stderr
        assert "Traceback" not in done.stderr


def test_show_of_what_is_no_result_fails(small):
    done = call("show", small)
    assert done.returncode == 1
    assert "small.toml: is not NetCDF" in done.stderr
    assert "Traceback" not in done.stderr


def test_more_than_the_memory_is_refused_at_once(small, tmp_path):
    start = time.monotonic()
    done = call("run", small, "-o", tmp_path / "x.nc", "--set", "fleet[0].count=2000000000")
    assert done.returncode == 2
    assert "of memory" in done.stderr
    assert time.monotonic() - start < 3
    assert not (tmp_path / "x.nc").exists()


def test_an_import_costs_nothing():
    code = "import mcsim, sys; print(sum(m in sys.modules for m in ('numpy', 'xarray', 'numba')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"


def test_a_name_that_the_library_cannot_read_is_refused_before_the_run(small, tmp_path):
    done = call("run", small, "-o", tmp_path / "a\\b.nc")
    assert done.returncode == 2
    assert "backslash" in done.stderr
