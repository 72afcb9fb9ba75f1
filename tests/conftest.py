"""Shared by all tests."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

# Fixed examples: a failure seen once is seen again. Slow machines must not fail on time.
settings.register_profile("mcsim", derandomize=True, deadline=None)
settings.load_profile("mcsim")

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


def pytest_configure(config: pytest.Config) -> None:
    """Real processes of the tests find the kernels that were compiled once, and hear Ctrl-C."""
    hearing = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    for number, handler in hearing.items():
        # In the background they are ignored, and would be by all processes that tests start.
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)
    if not os.environ.get("MCSIM_CACHE_DIR"):
        directory = tempfile.mkdtemp(prefix="mcsim-kernels-")
        os.environ["MCSIM_CACHE_DIR"] = str(Path(directory) / "kernels")
        config.add_cleanup(lambda: shutil.rmtree(directory, ignore_errors=True))
