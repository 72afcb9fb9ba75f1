"""A fork of the server is to its test what a start of mcsim is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from oracle import scenario
from warm import MCSIM, PYTHON, REAL

LONG = scenario({"count": 220_000, "jitter": {"step": {"law": "normal", "mean": 1, "sd": 0.1}}})
ENVIRONMENT = dict(os.environ)
"""Before any test: in another one, as a library may leave it, what is installed is started."""
pytestmark = pytest.mark.skipif(MCSIM == REAL, reason="forks are for Linux")


def output_of(program, *arguments, **keys):
    done = subprocess.run([program, *arguments], capture_output=True, text=True, **keys)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    "arguments", [["list", "laws"], ["unknown"], ["show", "none.nc"], ["--version"], []]
)
def test_it_prints_and_exits_as_the_installed_program(arguments, tmp_path):
    found, real = (output_of(program, *arguments, cwd=tmp_path) for program in (MCSIM, REAL))
    assert found == real
    assert output_of(PYTHON, "-P", "-m", "mcsim", *arguments, cwd=tmp_path) == real


def test_it_reads_what_it_is_given_where_it_stands(tmp_path):
    (tmp_path / "long.toml").write_text(LONG.to_toml())
    by_name, given = (
        output_of(MCSIM, "check", name, cwd=tmp_path, input=LONG.to_toml())
        for name in ("long.toml", "-")
    )
    assert by_name == given
    assert by_name[0] == 0


def test_another_environment_and_another_program_start_python():
    code = "import os, sys; print(os.environ.get('MCSIM_TEST'), 'numba' in sys.modules)"
    known = os.environ | {"MCSIM_TEST": "x"}
    assert output_of(PYTHON, "-c", code, env=known) == (0, "x False\n", "")
    assert output_of(MCSIM, "list", "laws", env=known) == output_of(REAL, "list", "laws")


def started(tmp_path):
    """A long run, when it is about to begin, and its log."""
    (tmp_path / "long.toml").write_text(LONG.replace({"run.steps": 10_000_000}).to_toml())
    options = ["--engine", "sampled", "--checkpoint-every", "0.1", "--force"]
    process = subprocess.Popen(
        [MCSIM, "run", "long.toml", "-o", "x.nc", *options],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 100
    while not (tmp_path / "x.nc.checkpoint").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


def test_signals_reach_it(tmp_path):
    process = started(tmp_path)
    process.send_signal(signal.SIGUSR1)
    assert "stopped at a checkpoint" in process.communicate(timeout=60)[1]
    assert process.returncode == 85


def forks_in(directory, asking):
    """The processes that work in a directory, but for the one that asks for them."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cwd"):
        with suppress(OSError):
            if file.resolve(strict=True) == directory and file.parent.name != str(asking):
                found.append(int(file.parent.name))
    return found


def test_who_is_killed_leaves_no_fork(tmp_path):
    process = started(tmp_path)
    # A process that has just begun, or ends while the list is read, may be missed.
    for _ in range(600):
        mine = forks_in(tmp_path, process.pid)
        if mine:
            break
        time.sleep(0.05)
    assert len(mine) == 1
    process.kill()
    # Its standard error ends with the fork.
    process.communicate(timeout=60)
    assert process.returncode == -9
    assert not Path(f"/proc/{mine[0]}/exe").exists()


def test_limits_are_those_of_who_asks(tmp_path):
    (tmp_path / "small.toml").write_text(scenario({"count": 3}).to_toml())
    run = f"ulimit -f 1; trap '' XFSZ; exec {MCSIM} run small.toml -o x.nc"
    code, _, errors = output_of("bash", "-c", run, cwd=tmp_path)
    assert code == 1, errors
    assert "cannot write the result" in errors


def test_its_server_ends_with_the_tests():
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import warm;"
    code += "print(warm.MCSIM.parent, flush=True)"
    place = Path(output_of(sys.executable, "-c", code)[1].strip())
    assert place.name.startswith("mcsim-warm-")
    assert not place.exists()
