"""What a whole process costs: its start, with and without compiled kernels, and its memory."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

MEASURED = """
import sys
import mcsim, numba, numpy, xarray, netCDF4, scipy.stats
import mcsim.engine, mcsim.model, mcsim.results
from benchmarks.work import Fleet
if int(sys.argv[1]):
    mcsim.run(Fleet(int(sys.argv[1])).scenario(int(sys.argv[2])))
# Not ru_maxrss: after vfork and exec that is still the parent's.
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
SMALL = """
name = "small"
[run]
steps = 100
[[fleet]]
name = "devices"
device = "custom"
compute = "1 s"
count = 1_000
jitter = { step = { law = "lognormal", mean = 1, cv = 0.02 } }
"""
ROOT = Path(__file__).parents[1]


def peak_memory(devices: int, steps: int = 100) -> int:
    """Peak resident bytes of a process that runs a fleet; 0 devices: that only imports."""
    command = [sys.executable, "-c", MEASURED, str(devices), str(steps)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return int(done.stdout) * 1024


class Memory(NamedTuple):
    """Peak bytes of a process that only imports, and by number of devices how many are added."""

    bare: int
    above: dict[int, int]

    @property
    def bytes_a_device(self) -> float:
        (few, low), (many, high) = min(self.above.items()), max(self.above.items())
        return (high - low) / (many - few)


def memory(sizes: tuple[int, ...]) -> Memory:
    peak_memory(3)  # Compiled kernels are in the cache from here on.
    bare = peak_memory(0)
    return Memory(bare, {size: peak_memory(size) - bare for size in sizes})


def first_calls(rounds: int) -> dict[str, float]:
    """Median seconds of `mcsim run` of a small scenario, and of a process that only starts."""
    taken: dict[str, list[float]] = {"start": [], "cold": [], "warm": []}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as directory:
            (Path(directory) / "small.toml").write_text(SMALL)
            fresh = {**os.environ, "MCSIM_CACHE_DIR": str(Path(directory) / "cache")}
            run = ["run", "small.toml", "-o", "small.nc"]
            taken["start"].append(_seconds(["--version"], directory, fresh))
            taken["cold"].append(_seconds(run, directory, fresh))
            taken["warm"].append(_seconds(run, directory, fresh))
    return {name: statistics.median(each) for name, each in taken.items()}


def _seconds(arguments: list[str], directory: str, environment: Mapping[str, str]) -> float:
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "mcsim", *arguments],
        cwd=directory,
        env={**environment, "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
    )
    return time.perf_counter() - start
