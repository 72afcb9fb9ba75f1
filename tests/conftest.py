"""Shared by all tests."""

from __future__ import annotations

import os
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


@pytest.fixture(scope="session", autouse=True)
def kernel_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Real processes of the tests find the kernels that were compiled once."""
    os.environ.setdefault("MCSIM_CACHE_DIR", str(tmp_path_factory.mktemp("kernels")))
