"""Where and with what a benchmark ran."""

from __future__ import annotations

import datetime
import os
import platform
from importlib import metadata
from pathlib import Path

from mcsim.threads import available_threads

PACKAGES = ("mcsim", "numpy", "numba", "llvmlite", "scipy", "xarray", "torch", "mkl", "simpy")


def processor() -> str:
    """The model's name as the kernel tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def versions() -> str:
    found = [f"Python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            found.append(f"no {name}")
    return ", ".join(found)


def description() -> list[str]:
    """Lines of Markdown. The load says whether others were using the machine."""
    load = (
        f", load average {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    )
    return [
        f"- {datetime.date.today().isoformat()}, {platform.system()} {platform.machine()}{load}",
        f"- {processor()}, {available_threads()} thread(s) available",
        f"- {versions()}",
    ]
