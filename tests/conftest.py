"""Shared by all tests."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import settings

# Fixed examples: a failure seen once is seen again. Slow machines must not fail on time.
settings.register_profile("mcsim", derandomize=True, deadline=None)
settings.load_profile("mcsim")

FIRST = (
    "test_batch_docs", "test_executors", "test_readme", "test_cuda", "test_cache", "test_cli",
    "test_slurm", "test_resume",
)  # fmt: skip
"""The files that take longest: begun last, one of them would keep a worker busy alone."""

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real measurements that the project was validated with; they are not part of it."""
    if not SHARED.is_dir():
        pytest.skip("the validation data is not here (it is not part of the repository)")
    return SHARED


@pytest.fixture(autouse=True)
def _signals_as_they_were():
    """`mcsim run` in this process takes signals, and would end it at those of later tests."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first; the others as they come."""
    rank = {name: place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(FIRST)))


@pytest.fixture(autouse=True)
def _environment_as_it_was():
    """Dask leaves variables behind, with which later tests would start programs more slowly."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


def pytest_configure(config: pytest.Config) -> None:
    """Real processes of the tests find the kernels that were compiled once, and hear Ctrl-C."""
    hearing = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    for number, handler in hearing.items():
        # In the background they are ignored, and would be by all processes that tests start.
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)
    if not os.environ.get("MCSIM_CACHE_DIR"):
        directory = Path(tempfile.mkdtemp(prefix="mcsim-kernels-"))
        os.environ["MCSIM_CACHE_DIR"] = str(directory / "kernels")
        config.add_cleanup(lambda: shutil.rmtree(directory, ignore_errors=True))
        # Of many processes that start at once, each would compile the same.
        if getattr(config.option, "numprocesses", None):
            _warm_up(directory)


class WarmCache(NamedTuple):
    """A directory of kernels, what `mcsim warmup` printed that found it empty, and the files that
    it left there, with the times of their last change, ns."""

    directory: Path
    printed: str
    files: dict[str, int]


def _warm_up(directory: Path) -> WarmCache:
    kernels = directory / "kernels"
    done = subprocess.run(
        [sys.executable, "-m", "mcsim", "warmup"],
        env={**os.environ, "MCSIM_CACHE_DIR": str(kernels)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    files = {str(file): file.stat().st_mtime_ns for file in kernels.rglob("*.nb?")}
    (directory / "warm.json").write_text(json.dumps([done.stdout, files]))
    return WarmCache(kernels, done.stdout, files)


@pytest.fixture(scope="session")
def warm_cache(tmp_path_factory) -> WarmCache:
    """That of this session, if it began with one."""
    directory = Path(os.environ["MCSIM_CACHE_DIR"])
    if not (directory.parent / "warm.json").exists():
        return _warm_up(tmp_path_factory.mktemp("warm"))
    return WarmCache(directory, *json.loads((directory.parent / "warm.json").read_text()))
