"""Compiled kernels: one signature each, one cache for all processes, none where none can be."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from oracle import scenario

import mcsim
from mcsim.engine.compile import KERNELS
from mcsim.engine.warmup import warm_up

COMMAND = [sys.executable, "-m", "mcsim"]
NOT_OF_RUNS = {"raw_words", "quantiles"}
"""Kernels for tests and measurements alone."""


def toml(tmp_path: Path) -> Path:
    law = {"law": "lognormal", "mean": 1, "cv": 0.02}
    file = tmp_path / "asked.toml"
    file.write_text(scenario({"count": 50, "jitter": {"step": law}}, steps=10).to_toml())
    return file


def environment(**changes: str | None) -> dict[str, str]:
    changed = {**os.environ, **changes}
    return {key: value for key, value in changed.items() if value is not None}


def test_warming_up_compiles_all_kernels_of_runs():
    warm_up()
    missing = {k.__name__ for k in KERNELS if not k.signatures}
    assert missing <= NOT_OF_RUNS


def test_every_kernel_has_one_signature():
    warm_up()
    law = {"law": "lognormal", "mean": 1, "cv": 0.02}
    jitter = {"persistent": law, "step": law}
    for keep in ("summary", "steps", "devices"):
        for fleet in (
            [{"count": 1}],
            [{"count": 3000, "jitter": jitter}, {"count": 5}],
            [{"count": 300, "jitter": {**jitter, "stall": {"law": "exponential", "mean": 1}}}],
        ):
            mcsim.run(scenario(*fleet, steps=20, replicates=2, keep=keep))
    slow = {"every": 9, "duration": 3, "factor": law}
    disturbed = jitter | {"correlation": 0.5, "slow": slow, "shock": {"every": 9, "factor": law}}
    shared = {"slow_site": slow, "daily": {"amplitude": 0.1}}
    for count in (9, 3000):
        mcsim.run(scenario({"count": count, "jitter": disturbed}, jitter=shared, steps=2_000))
    for jitters in (jitter, disturbed):
        asked = scenario({"count": 3000, "jitter": jitters}, steps=20)
        mcsim.run(asked.replace({"sync.policy": "backup", "sync.wait_for": 2990}))
        mcsim.run(asked.replace({"sync.policy": "timeout", "sync.timeout": 1.01}))
    mcsim.run(scenario({"count": 9, "jitter": jitter}).replace({"run.engine": "exact"}))
    link = {"bandwidth": 1.0, "latency": 1.0, "delay": {"law": "exponential", "mean": 1}}
    for parallel in ({}, {"tensor": 2, "pipeline": 2, "microbatches": 2, "activation": 1}):
        group = {"count": 8, "devices_per_node": 2, "jitter": jitter | {"operation": law}}
        mcsim.run(scenario(group, workload={"parallel": parallel}, network={"site": link}))
    assert {k.__name__: len(k.signatures) for k in KERNELS if len(k.signatures) > 1} == {}


def test_warmup_fills_the_cache_and_later_processes_use_it(warm_cache, tmp_path):
    assert f"kernels ready in {warm_cache.directory}" in warm_cache.printed
    assert len(warm_cache.files) >= 2 * (len(KERNELS) - len(NOT_OF_RUNS))
    subprocess.run(
        [*COMMAND, "run", toml(tmp_path), "-o", tmp_path / "out.nc"],
        env=environment(MCSIM_CACHE_DIR=str(warm_cache.directory)),
        capture_output=True,
        check=True,
    )
    files = {file: Path(file).stat().st_mtime_ns for file in warm_cache.files}
    assert files == warm_cache.files


def test_warmup_says_where_the_chosen_place_is_not_used(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    done = subprocess.run(
        [*COMMAND, "warmup"],
        env=environment(MCSIM_CACHE_DIR=str(blocked / "cache"), XDG_CACHE_HOME=_shared_cache()),
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"MCSIM_CACHE_DIR={blocked / 'cache'} cannot be written" in done.stderr
    assert "kernels ready in" in done.stdout


def _shared_cache() -> str:
    """Where the kernels of this session are, as a base directory of caches."""
    base = Path(os.environ["MCSIM_CACHE_DIR"])
    link = base.parent / "mcsim-base" / "mcsim"
    link.parent.mkdir(exist_ok=True)
    if not link.exists():
        link.symlink_to(base)
    return str(link.parent)


COMPILE_ONE = """
import numpy as np
from mcsim.engine.philox import key_of, survivals
index = np.arange(4, dtype=np.uint32)
print(survivals(index, index, np.uint32(1), np.uint32(2), *key_of(3)).tolist())
"""


def test_a_full_disk_keeps_no_kernel_but_runs_it(tmp_path):
    def full() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    done = subprocess.run(
        [sys.executable, "-c", COMPILE_ONE],
        env=environment(MCSIM_CACHE_DIR=str(tmp_path)),
        preexec_fn=full,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[0.")
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and file.stat().st_size]


# They import once for all and compile on their own, at the same moment.
COMPILE_SIXTEEN = """
import os
import mcsim.engine.philox
from numba.core.registry import cpu_target
cpu_target.typing_context.refresh()
cpu_target.target_context.refresh()
children = []
reading, writing = os.pipe()
for _ in range(16):
    children.append(os.fork())
    if children[-1] == 0:
        os.close(writing)
        os.read(reading, 1)
        break
else:
    os.close(writing)
    codes = [os.waitpid(child, 0)[1] for child in children]
    raise SystemExit(any(codes))
""" + COMPILE_ONE.replace("tolist())", "tolist(), flush=True)")


def test_sixteen_processes_start_together_on_an_empty_cache(tmp_path):
    # Of one kernel, for whole runs would compile for a minute and a half.
    cold = environment(MCSIM_CACHE_DIR=str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", COMPILE_SIXTEEN], env=cold, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 16
    drawn = set(done.stdout.splitlines(keepends=True))
    assert len(drawn) == 1
    assert len(list(tmp_path.rglob("*.nbc"))) == 1
    later = subprocess.run(
        [sys.executable, "-c", COMPILE_ONE], env=cold, capture_output=True, text=True, check=True
    )
    assert later.stdout in drawn


def test_a_home_that_cannot_be_written_is_no_obstacle(tmp_path):
    # A file in the way of each directory: even root cannot write there.
    home = tmp_path / "home"
    home.mkdir()
    (home / ".cache").write_text("in the way")
    asked = toml(tmp_path)
    done = subprocess.run(
        [*COMMAND, "run", asked, "-o", tmp_path / "out.nc"],
        env=environment(HOME=str(home), XDG_CACHE_HOME=None, MCSIM_CACHE_DIR=None),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (home / ".cache").read_text() == "in the way"


def test_where_no_directory_can_be_written_it_compiles_and_says_so(tmp_path):
    blocked = tmp_path / "blocked"
    blocked.write_text("in the way")
    nowhere = environment(
        HOME=str(blocked),
        XDG_CACHE_HOME=None,
        MCSIM_CACHE_DIR=str(blocked / "cache"),
        TMPDIR=str(blocked),
    )
    # Without any temporary directory the current one is taken, which is not written either.
    script = (
        "import tempfile, mcsim.engine.compile as c;"
        "tempfile.tempdir = '/proc/nowhere';"
        "print(c.cache_directory.__wrapped__())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=nowhere, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "None", done.stderr
    shutil.rmtree(tmp_path, ignore_errors=True)
